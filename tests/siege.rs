//! Attacks on the real binary while five ordinary viewers watch: each of them keeps its frames and
//! sees none torn; afterwards the program has no descriptor, thread or memory more than before, and
//! when all have left it rests.
//!
//! What a viewer sees a second is compared with what it saw when nobody attacked. The time does not
//! count in which other programs had the processor that the program wanted; an attempt with much of
//! it says nothing, and is made again. All attacks are longer with `PISTREAM_LONG=1`.

mod util;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use socket2::SockRef;

use util::client::ask;
use util::crowd::{Crowd, connect_slow, stuck};
use util::{Folder, PATIENCE, Part, Server, Stream, command, command_by, decode, until};

const VIEWERS: usize = 5;
const FPS: f64 = 30.0;
/// What must be left to each of them of the frames that it had before.
const KEPT: f64 = 0.95;
/// Of the time, how much other programs may have the processor in an attempt that counts.
const DELAY_MAX: f64 = 0.3;
/// Attempts for a machine that has no time for a viewer.
const ATTEMPTS: usize = 6;
/// Memory that may be kept of what was in use at once, in all attacks together, which are tens of
/// thousands of connections: what is less than `TRIM_BYTES_MIN` is not given back, and the allocator
/// keeps pieces.
const MEMORY_KIB: u64 = 1024;

/// How long an attack goes on.
fn siege_time() -> Duration {
    Duration::from_millis(if util::long() { 20_000 } else { 1200 })
}

/// Opens connections and does with them what it does; they are dropped a moment later.
type Attack = fn(SocketAddr) -> Vec<TcpStream>;

/// A server, five viewers of it, and what it had before the attacks.
struct Siege {
    server: Server,
    crowd: Crowd,
    /// By viewer: frames that it saw, and the last one's time stamp.
    seen: [u64; VIEWERS],
    last: [f64; VIEWERS],
    /// Frames of late by their time stamps: all viewers see the same.
    frames: HashMap<String, Vec<u8>>,
    /// Frames a second when nobody attacked.
    quiet: f64,
    before: Belongings,
    /// Descriptors when nobody watches.
    alone: usize,
    _site: Folder,
}

#[derive(Clone, Copy, Debug)]
struct Belongings {
    fds: usize,
    threads: usize,
    memory_kib: u64,
}

impl Belongings {
    fn of(server: &Server) -> Belongings {
        let (fds, threads) = (server.fds(), server.threads());
        Belongings { fds, threads, memory_kib: server.own_kib() }
    }
}

impl Siege {
    /// `start` has the program's arguments. What it makes at first use is there when its
    /// belongings are counted: it has seen the attacks once.
    fn new(
        start: impl FnOnce(&[&str]) -> Command,
        warm_up: impl FnOnce(SocketAddr) + Send,
    ) -> Siege {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let all = Rlimit { current: maximum, maximum };
        setrlimit(Resource::Nofile, all).expect("descriptors for attackers");
        let site = Folder::new();
        site.write("film.bin", vec![7; 4 << 20]);
        let args = ["--listen", "127.0.0.1:0", "--camera", "test", "--fps", "30"];
        let own = ["--idle-off", "1s", "--www", site.arg()];
        let server = Server::start_command(start(&[&args[..], &own].concat()));
        server.get("/status").expect(200);
        assert!(server.comes_to_rest(PATIENCE), "it is busy for nobody");
        let alone = server.fds();
        let mut siege = Siege {
            crowd: Crowd::new(server.addr(), VIEWERS),
            seen: [0; VIEWERS],
            last: [0.0; VIEWERS],
            frames: HashMap::new(),
            quiet: 0.0,
            before: Belongings::of(&server),
            alone,
            server,
            _site: site,
        };
        siege.crowd.watch(|crowd| crowd.0.iter().all(|viewer| viewer.count >= 5), |_, _| {});
        let (addr, before) = (siege.addr(), Belongings::of(&siege));
        siege.rate(|| warm_up(addr));
        siege.before = Belongings { memory_kib: u64::MAX, ..before };
        siege.expect_back("the first of all");
        (siege.quiet, _) = siege.rate(|| thread::sleep(siege_time()));
        assert!(siege.quiet >= KEPT * FPS, "{:.1} fps when nobody attacks", siege.quiet);
        siege.before.memory_kib = siege.own_kib();
        siege
    }

    /// How long the loop's thread, or the camera's, has waited for a processor.
    fn delay(&self) -> Duration {
        let of = |task: PathBuf| {
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let delay = text.split(' ').nth(1).and_then(|delay| delay.parse().ok());
            Duration::from_nanos(delay.unwrap_or(0)) // not every kernel counts it
        };
        let threads = ["pistream", "camera-1"].map(|name| self.thread(name).expect(name));
        threads.map(of).into_iter().max().expect("two threads")
    }

    /// Frames a second of the viewer who sees fewest while `attack` goes on, and what share of that
    /// time was others'. It does not count.
    fn rate(&mut self, attack: impl FnOnce() + Send) -> (f64, f64) {
        let seen = self.seen;
        let (begin, delayed) = (Instant::now(), self.delay());
        thread::scope(|scope| {
            let attack = scope.spawn(|| {
                let _ = nice(19); // attackers have machines of their own
                attack();
            });
            while !attack.is_finished() {
                self.watch(Duration::from_millis(100));
            }
            attack.join().expect("the attack");
        });
        // What the attack leaves to be done is a part of it.
        self.watch(Duration::from_millis(300));
        let delayed = (self.delay() - delayed).div_duration_f64(begin.elapsed()).min(0.99);
        let fewest = (0..VIEWERS).map(|n| self.seen[n] - seen[n]).min().expect("viewers");
        let rate = fewest as f64 / begin.elapsed().as_secs_f64() / (1.0 - delayed);
        println!("{fewest} frames in {:.1?}, {:.1} % delayed", begin.elapsed(), delayed * 100.0);
        (rate, delayed)
    }

    fn watch(&mut self, time: Duration) {
        let Siege { crowd, seen, last, frames, .. } = self;
        if frames.len() > 1000 {
            frames.clear();
        }
        let begin = Instant::now();
        let enough = |_: &Crowd| begin.elapsed() >= time;
        crowd.watch(enough, |viewer, part| {
            assert!(part.timestamp >= last[viewer], "an old frame");
            if part.timestamp > last[viewer] {
                (last[viewer], seen[viewer]) = (part.timestamp, seen[viewer] + 1);
                inspect(frames, part);
            }
        });
    }

    /// The viewers keep their frames through an attack, and nothing is left of it.
    fn withstand(&mut self, name: &str, attack: impl Fn() + Send + Sync) {
        let begin = Instant::now();
        let mut shares = Vec::new();
        loop {
            let (rate, delayed) = self.rate(&attack);
            let share = rate / self.quiet;
            shares.push(share);
            self.expect_back(name);
            if share >= KEPT && delayed <= DELAY_MAX {
                break;
            }
            assert!(shares.len() < ATTEMPTS, "{name}: {shares:.3?} of {:.1} fps", self.quiet);
        }
        let memory = self.own_kib();
        println!("{name}: {shares:.3?} of the frames, {memory} KiB, in {:.1?}", begin.elapsed());
    }

    /// It has what it had, soon; the viewers watch meanwhile.
    fn expect_back(&mut self, name: &str) {
        let end = Instant::now() + PATIENCE;
        let before = self.before;
        loop {
            let now = Belongings::of(self);
            let more = now.memory_kib.saturating_sub(before.memory_kib);
            let same = (now.fds, now.threads) == (before.fds, before.threads);
            if same && more <= MEMORY_KIB {
                return;
            }
            assert!(Instant::now() < end, "{name}: {now:?} is left, before it {before:?}");
            self.watch(Duration::from_millis(20));
        }
    }

    /// When all leave it rests.
    fn end(self) {
        let Siege { server, crowd, alone, .. } = self;
        drop(crowd);
        assert!(server.comes_to_rest(PATIENCE), "it does not come to rest");
        assert_eq!(server.fds(), alone, "descriptors");
        let used = (server.cpu(), server.switches());
        thread::sleep(Duration::from_secs(2));
        assert_eq!((server.cpu(), server.switches()), used, "it works for nobody");
        server.stop();
    }
}

impl Deref for Siege {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// All viewers of a frame see the same bytes, and these are a picture.
fn inspect(frames: &mut HashMap<String, Vec<u8>>, part: Part) {
    let stamp = part.headers[2].1.clone();
    match frames.get(&stamp) {
        Some(jpeg) => assert!(*jpeg == part.jpeg, "one time stamp, two pictures"),
        None => {
            if frames.len().is_multiple_of(5) {
                decode(&part.jpeg); // takes a slow machine too long for all of them
            }
            frames.insert(stamp, part.jpeg);
        }
    }
}

// ---- attacks --------------------------------------------------------------------------------

const ATTACKS: [(&str, Attack); 12] = [
    ("fifteen hundred that say nothing", silent),
    ("connections that are closed at once", connect_and_close),
    ("connections that are reset at once", connect_and_reset),
    ("resets in every phase", reset_in_each_phase),
    ("half-closed in every phase", half_close_in_each_phase),
    ("vanished in the middle of an answer", vanish_in_the_middle),
    ("viewers that never read", never_read),
    ("viewers that read a byte at a time", read_byte_by_byte),
    ("downloads that are never read", never_read_downloads),
    ("ten thousand requests on a connection", pipeline),
    ("heads without end", endless_heads),
    ("bodies without end", endless_bodies),
];

fn connect(addr: SocketAddr) -> Option<TcpStream> {
    let socket = TcpStream::connect_timeout(&addr, PATIENCE).ok()?;
    let moment = Some(Duration::from_millis(100));
    socket.set_write_timeout(moment).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(socket)
}

/// Connections that have sent this, as far as the server takes it.
fn crowd_that_says(addr: SocketAddr, count: usize, text: &[u8]) -> Vec<TcpStream> {
    let sent = |mut socket: TcpStream| socket.write_all(text).map(|()| socket).ok();
    (0..count).filter_map(|_| connect(addr).and_then(sent)).collect()
}

fn reset(socket: TcpStream) {
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

fn silent(addr: SocketAddr) -> Vec<TcpStream> {
    crowd_that_says(addr, 1500, b"")
}

fn connect_and_close(addr: SocketAddr) -> Vec<TcpStream> {
    (0..1000).for_each(|_| drop(connect(addr)));
    Vec::new()
}

fn connect_and_reset(addr: SocketAddr) -> Vec<TcpStream> {
    (0..1000).filter_map(|_| connect(addr)).for_each(reset);
    Vec::new()
}

/// One connection in each phase that a request goes through.
fn in_each_phase(addr: SocketAddr) -> Vec<TcpStream> {
    let post = "POST / HTTP/1.1\r\nHost: pi\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nhel");
    let sized = format!("{post}Content-Length: 9000\r\n\r\nhello");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n");
    let phases = [
        (String::new(), 0),
        ("G".to_owned(), 0),
        ("GET / HTTP/1.1\r\nHost: pi\r\nX: ".to_owned(), 0),
        (sized, 0),
        (chunked, 0),
        (get("/film.bin"), 0),
        (get("/film.bin"), 100_000),
        (get("/snapshot"), 0),
        (get("/nothing"), 12),
        (get("/video_feed"), 0),
        (get("/video_feed"), 700),
        (get("/nothing").repeat(20), 300),
    ];
    let mut sockets = Vec::new();
    for (text, reads) in phases {
        let Some(mut socket) = connect(addr) else { continue };
        if socket.write_all(text.as_bytes()).is_ok() {
            let _ = socket.read_exact(&mut vec![0; reads]);
        }
        sockets.push(socket);
    }
    // Behind a whole frame, when the next has not come.
    let mut stream = Stream::open(addr, "/video_feed");
    stream.part();
    sockets.extend(stream.socket().try_clone());
    sockets
}

fn reset_in_each_phase(addr: SocketAddr) -> Vec<TcpStream> {
    (0..10).for_each(|_| in_each_phase(addr).into_iter().for_each(reset));
    Vec::new()
}

fn half_close_in_each_phase(addr: SocketAddr) -> Vec<TcpStream> {
    let sockets: Vec<TcpStream> = (0..10).flat_map(|_| in_each_phase(addr)).collect();
    for socket in &sockets {
        let _ = socket.shutdown(Shutdown::Write);
    }
    sockets
}

/// In the middle of an answer, as when a cable is pulled. Their kernel remembers nothing, and says so
/// when it is sent more.
fn vanish_in_the_middle(addr: SocketAddr) -> Vec<TcpStream> {
    let watch = b"GET /video_feed HTTP/1.1\r\nHost: pi\r\n\r\n";
    let download = b"GET /film.bin HTTP/1.1\r\nHost: pi\r\n\r\n";
    for mut socket in
        [&watch[..], download].into_iter().flat_map(|it| crowd_that_says(addr, 30, it))
    {
        let _ = socket.read_exact(&mut [0; 700]);
        vanish(socket);
    }
    Vec::new()
}

/// The other end is not told that this one is gone.
fn vanish(socket: TcpStream) {
    let (on, size) = (1, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open, and the option's value is the one integer pointed to.
    let set = unsafe {
        let value: *const libc::c_int = &on;
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            value.cast(),
            size,
        )
    };
    if set != 0 {
        println!("only root can make sockets vanish: this one is closed instead");
    }
}

fn never_read(addr: SocketAddr) -> Vec<TcpStream> {
    // Each with a frame of its own.
    let viewer = |n: u64| {
        thread::sleep(Duration::from_millis(n % 2 * 10));
        stuck(addr)
    };
    (0..60).map(viewer).collect()
}

fn read_byte_by_byte(addr: SocketAddr) -> Vec<TcpStream> {
    let mut sockets: Vec<TcpStream> = (0..60).map(|_| stuck(addr)).collect();
    for _ in 0..100 {
        for socket in &mut sockets {
            let _ = socket.set_nonblocking(true);
            let _ = socket.read(&mut [0]);
        }
        thread::sleep(Duration::from_millis(5));
    }
    sockets
}

fn never_read_downloads(addr: SocketAddr) -> Vec<TcpStream> {
    let ask = |n: usize| {
        let mut socket = connect_slow(addr);
        let target = ["/film.bin", "/snapshot?max_age=60000"][n % 2];
        let request = format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n");
        socket.write_all(request.repeat(10).as_bytes()).map(|()| socket).ok()
    };
    (0..100).filter_map(ask).collect()
}

fn pipeline(addr: SocketAddr) -> Vec<TcpStream> {
    let flood = |target: &str| {
        let mut socket = connect(addr)?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n");
        let _ = socket.write_all(request.repeat(10_000).as_bytes());
        Some(socket)
    };
    ["/", "/nothing", "/app.css", "/snapshot?max_age=60000"].into_iter().filter_map(flood).collect()
}

fn endless_heads(addr: SocketAddr) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nHost: pi\r\nX: {}", "x".repeat(7000));
    crowd_that_says(addr, 1300, head.as_bytes())
}

fn endless_bodies(addr: SocketAddr) -> Vec<TcpStream> {
    let head = "POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 1000000\r\n\r\n";
    crowd_that_says(addr, 40, (head.to_owned() + &"x".repeat(500_000)).as_bytes())
}

const PRESS: &[u8] =
    b"POST /photo HTTP/1.1\r\nHost: pi\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const ARCHIVE: &[u8] =
    b"POST /gallery/archive HTTP/1.1\r\nHost: pi\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Takes a photo; its name. Told to come again later, it does.
fn press(addr: SocketAddr) -> String {
    let saved = || Some(ask(addr, PRESS)).filter(|reply| reply.status != 503);
    let photo = until(PATIENCE, saved).expect("a photo").expect(201);
    let photo: serde_json::Value = serde_json::from_slice(&photo.body).expect("JSON");
    photo["name"].as_str().expect("a name").to_owned()
}

/// A photo, its pages, its thumbnail and the archive, by somebody who reads all of it.
fn use_photos(addr: SocketAddr) -> Vec<TcpStream> {
    let name = press(addr);
    let pages = ["/gallery", "/status"].map(str::to_owned);
    let of_it = ["pic", "thumb", "view"].map(|kind| format!("/{kind}/{name}"));
    let replies = pages.into_iter().chain(of_it).map(|target| util::get(addr, &target));
    for reply in replies.chain([ask(addr, ARCHIVE)]) {
        assert!(matches!(reply.status, 200 | 503), "{} {}", reply.status, reply.reason);
    }
    Vec::new()
}

/// Attack again and again until the siege is over.
fn go_on(addr: SocketAddr, attack: Attack) {
    let begin = Instant::now();
    while begin.elapsed() < siege_time() {
        let sockets = attack(addr);
        thread::sleep(Duration::from_millis(200));
        drop(sockets);
    }
}

// ---- the sieges -----------------------------------------------------------------------------

#[test]
fn five_viewers_keep_their_frames_through_every_attack_and_nothing_is_left_of_it() {
    let each_once = |addr| ATTACKS.iter().for_each(|(_, attack)| drop(attack(addr)));
    let mut siege = Siege::new(command, each_once);
    let addr = siege.addr();
    for (name, attack) in ATTACKS {
        siege.withstand(name, || go_on(addr, attack));
    }
    assert_eq!(siege.complaints(), Vec::<String>::new());
    siege.end();
}

/// In its modes: heads that come slowly, bodies, ranges, and answers that are read slowly.
#[test]
fn slowhttptest_finds_the_service_available_in_all_its_modes() {
    let mut siege = Siege::new(command, |addr| drop(silent(addr)));
    let url = |path: &str| format!("http://{}{path}", siege.addr());
    let seconds = if util::long() { "60" } else { "3" };
    let modes: [(&str, &[&str], String); 4] = [
        ("slow heads", &["-H", "-i", "1", "-x", "24"], url("/")),
        ("slow bodies", &["-B", "-i", "1", "-x", "10", "-s", "8192"], url("/")),
        ("ranges", &["-R", "-a", "10", "-b", "3000"], url("/film.bin")),
        ("slow reading", &["-X", "-w", "1", "-y", "100", "-n", "1", "-z", "5"], url("/film.bin")),
    ];
    for (name, options, url) in &modes {
        let attack = || {
            let mut command = Command::new("slowhttptest");
            command.args(*options).args(["-c", "600", "-r", "600", "-l", seconds, "-p", "3"]);
            let output = command.args(["-u", url.as_str()]).stdin(Stdio::null()).output();
            let output = output.expect("slowhttptest, which scripts/test installs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("service available:"), "{name}: {said}");
            assert!(!said.contains("NO"), "{name}: {said}");
        };
        siege.withstand(&format!("slowhttptest, {name}"), attack);
    }
    siege.end();
}

/// A kernel that was not told that a client is gone never tells us: its patience is at an end.
#[test]
fn connections_whose_other_end_has_vanished_are_closed_in_time() {
    if !util::long() {
        return;
    }
    let mut siege = Siege::new(command, |addr| drop(silent(addr)));
    let addr = siege.addr();
    (0..3).for_each(|_| in_each_phase(addr).into_iter().for_each(vanish));
    assert!(siege.fds() > siege.before.fds, "they were heard to go");
    // Half a minute for a request that is not finished.
    (0..35).for_each(|_| siege.watch(Duration::from_secs(1)));
    siege.expect_back("vanished");
    siege.end();
}

/// Of 64 descriptors.
#[test]
fn few_descriptors_are_enough_for_viewers_photos_and_newcomers() {
    let start = |args: &[&str]| command_by("ulimit -n 64; exec \"$@\"", args);
    let exhaust: Attack = |addr| {
        let mut sockets = crowd_that_says(addr, 40, b"GET / HTTP/1.1\r\nHo");
        sockets.extend(crowd_that_says(addr, 40, b""));
        let download = b"GET /film.bin HTTP/1.1\r\nHost: pi\r\n\r\n";
        sockets.extend(crowd_that_says(addr, 10, download));
        sockets
    };
    let mut siege = Siege::new(start, |addr| drop((exhaust(addr), use_photos(addr))));
    let addr = siege.addr();
    siege.withstand("80 connections for 64 descriptors", || {
        let begin = Instant::now();
        while begin.elapsed() < siege_time() {
            let sockets = exhaust(addr);
            thread::sleep(Duration::from_millis(100));
            // Whoever comes now is answered, and a photo is saved.
            let status = util::get(addr, "/").status;
            assert!(matches!(status, 200 | 503), "{status}");
            drop(sockets);
            press(addr);
        }
    });
    assert_eq!(siege.complaints(), Vec::<String>::new());
    siege.end();
}

/// A control group of our own; removed when dropped.
struct Group {
    path: PathBuf,
    limit: &'static str,
    /// A file, and a word in it in front of the number of kills for lack of memory.
    kills: (&'static str, &'static str),
}

impl Group {
    /// None: this user, or this machine, does not let us have one.
    fn new() -> Option<Group> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("pistream-test-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let first = own.lines().find_map(|line| line.split_once(":memory:"));
        let (path, limit, kills) = match first {
            // Of the first version.
            Some((_, own)) => {
                let path = root.join("memory").join(own.trim_start_matches('/')).join(name);
                (path, "memory.limit_in_bytes", ("memory.oom_control", "oom_kill "))
            }
            None => (root.join(name), "memory.max", ("memory.events", "oom_kill ")),
        };
        fs::create_dir(&path).ok()?;
        // Not to be had everywhere; what is in it is no memory saved.
        let _ = fs::write(path.join("memory.swap.max"), "0");
        let group = Group { path, limit, kills };
        group.limit("16M").then_some(group)
    }

    fn limit(&self, bytes: &str) -> bool {
        fs::write(self.path.join(self.limit), bytes).is_ok()
    }

    /// How often the kernel has killed for lack of memory.
    fn kills(&self) -> u64 {
        let (file, word) = self.kills;
        let text = fs::read_to_string(self.path.join(file)).expect("the group's file");
        let count = text.lines().find_map(|line| line.strip_prefix(word)).expect(word);
        count.trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = until(PATIENCE, || fs::remove_dir(&self.path).ok());
        assert!(removed.is_some() || thread::panicking(), "{} stays", self.path.display());
    }
}

#[test]
fn sixteen_megabytes_of_memory_are_enough_for_viewers_photos_and_attackers() {
    let Some(group) = Group::new() else {
        println!("left out: this user can make no control group with a limit on memory");
        return;
    };
    let line = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.path.display());
    let together: [Attack; 6] =
        [use_photos, never_read, never_read_downloads, endless_bodies, endless_heads, pipeline];
    let all_at_once = |addr| {
        thread::scope(|scope| {
            for attack in together {
                scope.spawn(move || go_on(addr, attack));
            }
        });
    };
    let mut siege = Siege::new(|args| command_by(&line, args), all_at_once);
    let addr = siege.addr();
    siege.withstand("16 MB: photos, and all that holds memory", || all_at_once(addr));
    assert_eq!(group.kills(), 0);
    siege.end();
    drop(group);
}
