//! The real binary with a sequence of JPEGs for a camera: written to its standard input, or
//! printed by a program that it starts. Pictures are numbered; each one that a viewer sees must be
//! whole, and newer than the one before.

mod util;

use std::fs::{self, File};
use std::io::{PipeWriter, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pistream::jpeg::{Encoder, Layout, Raw, orientation};
use util::client::find;
use util::stamp::without_exif;
use util::{
    Chance, Client, Folder, PATIENCE, Server, Stream, command, decode, fed, one_line, run, until,
};

const SECOND: Duration = Duration::from_secs(1);

// ---- pictures -------------------------------------------------------------------------------

/// A picture of grey noise with its number in a comment.
fn picture(number: u32, (width, height): (usize, usize), quality: u8) -> Vec<u8> {
    let mut chance = Chance(number.into());
    let bytes: Vec<u8> = (0..width * height).map(|_| chance.below(256) as u8).collect();
    let (layout, stride) = (Layout::Grey, width);
    let raw = Raw { layout, width, height, stride, limited: false, bytes: &bytes };
    let mut jpeg = Vec::new();
    Encoder::new(quality).expect("an encoder").encode(&raw, &mut jpeg).expect("a picture");
    with(&jpeg, 0xfe, format!("picture {number:06}").as_bytes())
}

fn small(number: u32) -> Vec<u8> {
    picture(number, (64, 48), 80)
}

/// `jpeg` with a segment behind its start.
fn with(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length[..], body, &jpeg[2..]].concat()
}

/// `jpeg` with a whole JPEG in its EXIF segment.
fn with_thumbnail(jpeg: &[u8]) -> Vec<u8> {
    with(jpeg, 0xe1, &[b"Exif\0\0", &picture(999_999, (16, 16), 50)[..]].concat())
}

/// The number of a picture of ours, decoded strictly to see that it is whole; none of NO SIGNAL.
fn number(jpeg: &[u8]) -> Option<u32> {
    decode(jpeg);
    let at = find(jpeg, b"picture ")? + 8;
    std::str::from_utf8(&jpeg[at..at + 6]).ok()?.parse().ok()
}

/// The next picture of ours that a viewer sees; NO SIGNAL and repeats are passed over.
#[track_caller]
fn next(stream: &mut Stream) -> u32 {
    let end = Instant::now() + 2 * PATIENCE;
    while Instant::now() < end {
        if let Some(number) = number(&stream.frame().jpeg) {
            return number;
        }
    }
    panic!("no picture");
}

/// The viewer sees NO SIGNAL.
#[track_caller]
fn expect_no_signal(stream: &mut Stream) {
    let end = Instant::now() + PATIENCE;
    while number(&stream.frame().jpeg).is_some() {
        assert!(Instant::now() < end, "no NO SIGNAL");
    }
}

// ---- standard input -------------------------------------------------------------------------

/// Write in pieces of many lengths, with a pause now and then.
fn write_in_pieces(writer: &mut PipeWriter, mut bytes: &[u8], chance: &mut Chance) {
    while !bytes.is_empty() {
        let limit = [3, 100, 5000, 100_000][chance.below(4)];
        let (piece, rest) = bytes.split_at((1 + chance.below(limit)).min(bytes.len()));
        writer.write_all(piece).expect("somebody reads");
        bytes = rest;
        if chance.below(8) == 0 {
            thread::sleep(Duration::from_millis(chance.below(4) as u64));
        }
    }
}

#[test]
fn pictures_are_told_apart_by_their_structure() {
    let (server, mut writer) = fed(&["--fps", "240"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let mut chance = Chance(6);
    let large = picture(0, (3500, 2400), 100);
    assert!(large.len() > 8_000_000, "{}", large.len());
    for n in 1..60 {
        let (whole, before) = (small(n), small(900_000 + n));
        let sent = match n % 10 {
            1 => with_thumbnail(&whole),
            2 => [&[0; 5000][..], &whole, &[0; 3000]].concat(),
            3 => [&whole[..], &[0xff; 77], b"\xff\xd9"].concat(),
            // Cut off in the coded data, in the last bytes, in the head.
            4 => [&before[..before.len() / 2], &whole].concat(),
            5 => [&before[..before.len() - 1], &whole].concat(),
            6 => [&with_thumbnail(&before)[..40], &whole].concat(),
            7 => [b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", &whole[..]].concat(),
            8 => [b"\xff\xd8\xff\xe0\0\x05abc no picture", &whole[..]].concat(),
            9 if n < 20 => {
                let mut large = large.clone();
                let at = find(&large, b"picture ").expect("its number") + 8;
                large[at..at + 6].copy_from_slice(format!("{n:06}").as_bytes());
                large
            }
            _ => whole.clone(),
        };
        write_in_pieces(&mut writer, &sent, &mut chance);
        // It stands alone in the pipe, so it must be seen.
        assert_eq!(next(&mut stream), n);
        if n % 10 == 1 {
            let frame = server.get("/snapshot?max_age=60000").expect(200).body;
            assert_eq!(frame, whole, "the thumbnail is gone, all else is as it was");
        }
    }
    let status = server.get("/status").expect(200).text();
    assert!(status.contains("\"device\":\"standard input\""), "{status}");
    assert!(status.contains("\"format\":\"MJPG\""), "{status}");
    assert!(status.contains("\"width\":64,\"height\":48"), "{status}");
    let broken = status.split("\"broken\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    assert!(broken.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 18), "{status}");
    drop(writer);
    server.stop();
}

/// Each of two has begun when the pipe was read once; the second is no repetition of the first.
#[test]
fn a_picture_that_began_with_the_one_before_it_is_newer() {
    let (server, mut writer) = fed(&["--fps", "240"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    for n in (0..50).step_by(2) {
        let second = small(n + 1);
        let (begin, end) = second.split_at(second.len() / 2);
        writer.write_all(&[&small(n)[..], begin].concat()).expect("it is read");
        assert_eq!(next(&mut stream), n);
        writer.write_all(end).expect("it is read");
        assert_eq!(next(&mut stream), n + 1);
    }
    server.stop();
}

#[test]
fn who_writes_never_waits_and_viewers_see_the_newest() {
    let (server, mut writer) = fed(&["--fps", "240"]);
    let padding = vec![0; 200_000];
    // Far more than a pipe holds, while nobody watches.
    for n in 0..200 {
        writer.write_all(&[&small(n)[..], &padding].concat()).expect("it is read");
    }
    let mut stream = Stream::open(server.addr(), "/video_feed");
    writer.write_all(&small(1000)).expect("it is read");
    // The pipe may still have held the last ones.
    let mut first = next(&mut stream);
    while first != 1000 {
        assert!(first > 190, "picture {first} has waited for a viewer");
        first = next(&mut stream);
    }
    // Many at once: the newest counts.
    let many: Vec<u8> = (1001..1201).flat_map(small).collect();
    writer.write_all(&many).expect("it is read");
    let (mut seen, mut last) = (0, 0);
    while last < 1200 {
        let number = next(&mut stream);
        assert!(number > last, "{number} after {last}");
        (seen, last) = (seen + 1, number);
    }
    assert!(seen < 150, "{seen} of 200 that came at once were shown");
    drop(stream);
    for n in 0..200 {
        writer.write_all(&[&small(n)[..], &padding].concat()).expect("it is read");
    }
    assert_eq!(server.complaints(), [""; 0]);
    server.stop();
}

#[test]
fn a_turned_picture_says_so_and_keeps_its_bytes() {
    let (server, mut writer) = fed(&["--rotate", "90", "--mirror"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    writer.write_all(&small(1)).expect("it is read");
    assert_eq!(next(&mut stream), 1);
    let jpeg = server.get("/snapshot?max_age=60000").expect(200).body;
    assert_eq!(orientation(&jpeg).number(), 5);
    assert_eq!(without_exif(&jpeg), small(1));
    let narrow = server.get("/snapshot?max_age=60000&width=20").expect(200).body;
    assert_eq!(orientation(&narrow).number(), 5);
    // As it is shown, it is 48 pixels wide.
    let (width, height, _) = decode(&narrow);
    assert_eq!((width, height), (24, 18), "three eighths");
    let status = server.get("/status").expect(200).text();
    assert!(status.contains("\"width\":48,\"height\":64"), "{status}");
    let pressed = Client::connect(server.addr());
    let photo = thread::spawn(move || {
        let mut pressed = pressed;
        pressed.send("POST /photo HTTP/1.0\r\nContent-Length: 0\r\n\r\n").reply().expect(201).text()
    });
    let mut n = 2;
    while !photo.is_finished() {
        writer.write_all(&small(n)).expect("it is read");
        thread::sleep(Duration::from_millis(20));
        n += 1;
    }
    let photo = photo.join().expect("a photo");
    assert!(photo.contains("\"width\":48,\"height\":64"), "{photo}");
    server.stop();
}

#[test]
fn a_pause_shows_no_signal_and_an_end_says_why() {
    let (server, mut writer) = fed(&[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    writer.write_all(&small(1)).expect("it is read");
    assert_eq!(next(&mut stream), 1);
    expect_no_signal(&mut stream);
    server.wait_for_log("no whole picture for 3 s", PATIENCE);
    writer.write_all(&small(2)).expect("it is read");
    assert_eq!(next(&mut stream), 2);
    server.wait_for_log("camera back", PATIENCE);
    drop(writer);
    expect_no_signal(&mut stream);
    let line = server.wait_for_log("read standard input: it has ended", PATIENCE);
    assert!(line.starts_with("WARN"), "{line}");
    let reply = server.get("/snapshot").expect(503);
    assert!(reply.text().contains("read standard input: it has ended"), "{}", reply.text());
    drop(stream);
    assert!(server.comes_to_rest(PATIENCE), "nothing is left to be done");
    server.get("/").expect(200);
    server.stop();
}

#[test]
fn a_standard_input_that_is_no_pipe_is_refused() {
    let line = one_line(&run(&["--camera", "-", "--listen", "127.0.0.1:0"]), 1);
    assert!(line.contains("standard input") && line.contains("| pistream --camera -"), "{line}");
    let folder = Folder::new();
    let film = folder.write("film.mjpg", small(1));
    let output = command(&["--camera", "-", "--listen", "127.0.0.1:0"])
        .stdin(File::open(film).expect("a file"))
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("a file"), "{said}");
    let line = one_line(&run(&["--camera", "exec:true", "--size", "640x480"]), 2);
    assert!(line.contains("--size"), "{line}");
}

// ---- programs -------------------------------------------------------------------------------

/// A folder with pictures and what programs leave there.
struct Set(Folder);

impl Set {
    fn new() -> Set {
        let folder = Folder::new();
        for n in 0..100 {
            folder.write(&format!("{n}.jpg"), small(n));
        }
        Set(folder)
    }

    /// `--camera exec:` with this script, in which `pid` notes the number of the process, `show N`
    /// prints a picture, and `play` prints them all, twenty a second, over and over.
    fn camera(&self, script: &str) -> String {
        let folder = self.0.arg();
        format!(
            "exec:cd {folder}; pid() {{ echo $1 >> pids; }}; show() {{ cat $1.jpg; }}; \
             play() {{ n=0; while :; do show $((n % 100)); n=$((n + 1)); sleep 0.05; done; }}; \
             pid $$; {script}"
        )
    }

    fn serve(&self, script: &str, args: &[&str]) -> Server {
        let camera = self.camera(script);
        Server::start(&[&["--camera", &camera, "--fps", "240"], args].concat())
    }

    /// The processes that were noted, in their order.
    fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.0.path().join("pids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn starts(&self) -> usize {
        self.pids().len()
    }

    /// Waits until none of the processes noted is there, not even dead and not reaped.
    #[track_caller]
    fn expect_gone(&self) {
        let there = || self.pids().into_iter().filter(|pid| exists(*pid)).collect::<Vec<_>>();
        let gone = until(PATIENCE, || there().is_empty().then_some(()));
        assert!(gone.is_some() && self.starts() > 0, "still there: {:?}", there());
    }
}

fn exists(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let parent = fields.split(' ').nth(1).expect("a parent");
    let parent = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    // An orphan that ended waits for whoever reaps orphans on this machine.
    !fields.starts_with('Z') || parent.starts_with("pistream")
}

/// The processes of a group that have not ended.
fn members(group: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.path());
    let is_member = |path: &PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        fields.is_some_and(|fields| fields[0] != "Z" && fields[2] == group.to_string())
    };
    entries.filter(is_member).collect()
}

/// Processes that the server has started and that are there, dead ones that were not reaped too.
fn children(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.path());
    let is_child = |path: &PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        parent == Some(&server.pid().to_string())
    };
    entries.filter(is_child).collect()
}

/// Asks for a page over and over; the longest time that one took.
struct Asker {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Asker {
    fn start(server: &Server) -> Asker {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, addr) = (ends.clone(), server.addr());
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                let reply = util::get(addr, "/status");
                assert_eq!(reply.status, 200);
                longest = longest.max(start.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            longest
        });
        Asker { ends, thread }
    }

    /// Nobody waited for a program that would not end.
    #[track_caller]
    fn expect_no_wait(self) {
        self.ends.store(true, Ordering::Relaxed);
        let longest = self.thread.join().expect("replies");
        assert!(longest < 5 * SECOND, "a page took {longest:?}");
    }
}

#[test]
fn ffmpeg_s_pictures_are_shown_while_somebody_watches() {
    let camera = "exec:ffmpeg -loglevel error -re -f lavfi -i testsrc=size=320x240:rate=10 \
                  -q:v 5 -f mjpeg -";
    let server = Server::start(&["--camera", camera, "--idle-off", "1s"]);
    assert!(server.comes_to_rest(PATIENCE) && children(&server).is_empty(), "nobody watches");
    for _ in 0..2 {
        let log = server.log().len();
        let mut stream = Stream::open(server.addr(), "/video_feed");
        let first = stream.frame();
        for _ in 0..20 {
            let (width, height, _) = decode(&stream.frame().jpeg);
            assert_eq!((width, height), (320, 240));
        }
        let span = stream.frame().timestamp - first.timestamp;
        assert!((1.5..6.0).contains(&span), "21 pictures at 10 a second in {span} s");
        let status = server.get("/status").expect(200).text();
        assert!(status.contains("\"device\":\"exec:ffmpeg -loglevel error"), "{status}");
        assert!(status.contains("\"format\":\"MJPG\",\"width\":320,\"height\":240"), "{status}");
        assert!(!status.contains("\"fps_real\":null"), "{status}");
        let photo = Client::connect(server.addr())
            .send(format!("POST /photo HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr()))
            .reply()
            .expect(201);
        assert!(photo.text().contains("\"width\":320"), "{}", photo.text());
        drop(stream);
        server.wait_for_log_from(log, "ffmpeg: stopped after", PATIENCE);
        let ended = until(PATIENCE, || children(&server).is_empty().then_some(()));
        assert!(ended.is_some(), "{:?}", children(&server));
        assert!(server.comes_to_rest(PATIENCE), "nobody watches");
    }
    assert_eq!(server.complaints(), [""; 0]);
    server.stop();
}

#[test]
fn a_program_that_ends_is_started_again() {
    let set = Set::new();
    let server = set.serve("show 1; show 2; sleep 0.3; show 3; echo out of film >&2; exit 3", &[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let mut seen = Vec::new();
    while seen.len() < 9 {
        seen.push(next(&mut stream));
    }
    assert!(seen.iter().filter(|n| **n == 3).count() >= 2, "{seen:?}");
    let line = server.wait_for_log("it ended with exit status 3: out of film", PATIENCE);
    assert!(line.starts_with("WARN  camera lost: run cd: "), "{line}");
    server.wait_for_log("camera back", PATIENCE);
    drop(stream);
    server.stop();
    set.expect_gone();
}

#[test]
fn a_program_that_hangs_is_ended_and_started_again() {
    let set = Set::new();
    let server = set.serve("show 1; show 2; sleep 1000", &[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    next(&mut stream);
    expect_no_signal(&mut stream);
    assert_eq!(set.starts(), 1, "it may still go on");
    let asker = Asker::start(&server);
    server.wait_for_log("no whole picture for 15 s", 3 * PATIENCE);
    while set.starts() < 2 {
        stream.part();
    }
    next(&mut stream);
    asker.expect_no_wait();
    assert!(!exists(set.pids()[0]), "the first one is gone");
    drop(stream);
    server.stop();
    set.expect_gone();
}

#[test]
fn a_program_ends_with_all_that_it_has_started() {
    let set = Set::new();
    let stubborn = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> pids; sleep 1000' & \
                    sh -c 'echo $$ >> pids; exec sleep 1000' & play";
    let server = set.serve(stubborn, &["--idle-off", "100ms"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    next(&mut stream);
    let asker = Asker::start(&server);
    assert!(until(PATIENCE, || (set.starts() == 3).then_some(())).is_some(), "three processes");
    drop(stream);
    set.expect_gone();
    asker.expect_no_wait();
    // And when the house ends.
    let mut stream = Stream::open(server.addr(), "/video_feed");
    next(&mut stream);
    assert!(until(PATIENCE, || (set.starts() == 6).then_some(())).is_some(), "six processes");
    server.stop();
    assert!(set.pids().into_iter().all(|pid| !exists(pid)), "they end before the house does");
}

#[test]
fn a_program_does_not_outlive_us_even_if_we_are_killed() {
    for script in ["play", "show 1; sleep 1000", "trap '' TERM; sleep 1000 & play"] {
        let set = Set::new();
        let server = set.serve(script, &[]);
        let mut stream = Stream::open(server.addr(), "/video_feed");
        next(&mut stream);
        let group = set.pids()[0];
        let members = || members(group);
        assert!(members().len() >= 2, "{:?}", members());
        server.signal(rustix::process::Signal::KILL);
        let gone = until(PATIENCE, || members().is_empty().then_some(()));
        assert!(gone.is_some(), "{script}: {:?} are still there", members());
    }
}

#[test]
fn what_a_program_says_is_logged_in_bounds() {
    let set = Set::new();
    let chatter = "(while :; do head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; \
                   seq 1 20000 >&2; printf 'frame=%s\\r' 1 2 3 >&2; sleep 0.1; done) & play";
    let server = set.serve(chatter, &[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let end = Instant::now() + 4 * SECOND;
    let mut seen = 0;
    while Instant::now() < end {
        next(&mut stream);
        seen += 1;
    }
    assert!(seen > 20, "{seen} pictures in four seconds");
    drop(stream);
    let log = server.stop();
    let said: Vec<&str> = log.lines().filter(|line| line.starts_with("INFO  cd: ")).collect();
    assert!((10..40).contains(&said.len()), "{} lines", said.len());
    assert!(said.iter().all(|line| line.len() < 400), "{said:?}");
    assert!(said.contains(&"INFO  cd: 7"), "{said:?}");
}

#[test]
fn a_program_that_cannot_run_is_no_storm_and_says_why() {
    let set = Set::new();
    let server = set.serve("no-such-program --at-all", &["--idle-off", "100ms"]);
    let asker = Asker::start(&server);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    expect_no_signal(&mut stream);
    let line = server.wait_for_log("no-such-program: not found", PATIENCE);
    assert!(server.log().contains("it ended with exit status 127"), "{line}");
    let reply = server.get("/snapshot").expect(503);
    assert!(reply.text().contains("no-such-program: not found"), "{}", reply.text());
    drop(stream);
    // Viewers who come and go start it no more often.
    let end = Instant::now() + 6 * SECOND;
    while Instant::now() < end {
        drop(Stream::open(server.addr(), "/video_feed"));
        thread::sleep(SECOND / 20);
    }
    let starts = set.starts();
    assert!((3..=9).contains(&starts), "{starts} starts");
    let warnings = server.complaints();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    asker.expect_no_wait();
    server.stop();
    set.expect_gone();
}

#[test]
fn hundreds_of_runs_leave_nothing_behind() {
    let runs = if util::long() { 200 } else { 50 };
    let set = Set::new();
    let server = set.serve("sleep 1000 & play", &["--idle-off", "10ms"]);
    let cycle = || {
        let before = set.starts();
        let mut stream = Stream::open(server.addr(), "/video_feed");
        next(&mut stream);
        assert_eq!(set.starts(), before + 1);
        drop(stream);
        let gone = until(PATIENCE, || children(&server).is_empty().then_some(()));
        assert!(gone.is_some(), "{:?}", children(&server));
    };
    (0..3).for_each(|_| cycle());
    assert!(server.comes_to_rest(PATIENCE));
    let (fds, threads, memory) = (server.fds(), server.threads(), server.rss_kib());
    (0..runs).for_each(|_| cycle());
    assert!(server.comes_to_rest(PATIENCE));
    server.expect_fds(fds);
    assert_eq!(server.threads(), threads);
    assert!(server.rss_kib() < memory + 2048, "{} KiB, before {memory}", server.rss_kib());
    set.expect_gone();
    server.stop();
}

#[test]
fn a_program_has_nothing_of_ours() {
    let set = Set::new();
    let look = "grep Sig /proc/self/status > signals; readlink /proc/$$/fd/0 \
                > input; cut -d ' ' -f 5 /proc/$$/stat > group; play";
    let server = set.serve(look, &[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    next(&mut stream);
    let read = |name| fs::read_to_string(set.0.path().join(name)).expect(name);
    let fds = |process: &str| {
        let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("a process").flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()).collect::<Vec<_>>()
    };
    // What these tests were started with is not our doing.
    let inherited = |fd: u32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & 0o2000000 == 0) // O_CLOEXEC
    };
    let group = set.pids()[0];
    let more: Vec<u32> = fds(&group.to_string()).into_iter().filter(|fd| *fd > 2).collect();
    assert!(more.iter().all(|fd| inherited(*fd)), "{more:?}");
    assert!(fds(&server.pid().to_string()).len() > 8, "there is something to be inherited");
    assert_eq!(read("input"), "/dev/null\n");
    assert_eq!(read("group").trim(), group.to_string());
    let signals = read("signals");
    let set = |name: &str| {
        let line = signals.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        u64::from_str_radix(line.trim(), 16).expect("a set of signals")
    };
    let bits = |numbers: &[u32]| numbers.iter().map(|n| 1u64 << (n - 1)).sum::<u64>();
    assert_eq!(set("SigBlk:"), 0);
    // What the shell of these tests ignores is not our doing.
    assert_eq!(set("SigIgn:") & bits(&[13, 15, 17]), 0, "SIGPIPE, SIGTERM, SIGCHLD");
    drop(stream);
    server.stop();
}

#[test]
fn a_password_in_a_command_is_not_shown() {
    let command = "exec:echo rtsp://me:secret@cam: refused >&2; exit 1 # rtsp://me:secret@cam/1";
    let server = Server::start(&["--camera", command]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    expect_no_signal(&mut stream);
    let status = server.get("/status").expect(200).text();
    assert!(status.contains("rtsp://***@cam") && status.contains("refused"), "{status}");
    assert!(!status.contains("secret"), "{status}");
    assert!(!server.stop().contains("secret"));
}
