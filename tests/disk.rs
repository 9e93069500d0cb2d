//! A disk that fails at one system call: each call on a photo's way is tried with the errors that
//! disks have. And disks that fail as a whole: changed into ones that cannot be written, taken away
//! and brought back, slow, changed by others meanwhile.
//!
//! The faults are strace's, which stops one thread of the program and lets one call fail in the
//! kernel's place. `tests/photo.rs` has the full disk, the folder that vanishes, and SIGKILL.

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use util::mount::Mount;
use util::photos::{
    self, Receipt, delete, expect_photo, names_in, names_of, photos_in, post, press, request, send,
    unfinished, unzip,
};
use util::preload::Preload;
use util::{Client, Folder, PATIENCE, Reply, Server, Started, Stream, decode, long, until};

/// What a disk says when it fails; and a signal, which is no failure.
const FAULTS: [&str; 5] = ["EIO", "ENOSPC", "EROFS", "EDQUOT", "EINTR"];

/// File systems that lack what is asked of them first: a rename that never overwrites, and links.
const NO_NEW_RENAME: &str = "inject=renameat2:error=ENOSYS";
const NO_LINKS: &str = "inject=linkat:error=EPERM";

/// The threads of the disk.
const READING: &str = "disk-read";
const WRITING: &str = "disk-write";

fn start(args: &[&str]) -> Server {
    let small = ["--camera", "test", "--size", "160x120", "--fps", "60"];
    Server::start(&[&small, args].concat())
}

/// The photos that a page of the gallery shows.
fn shown(page: &Reply) -> BTreeSet<String> {
    photos::shown(page).into_iter().collect()
}

/// How many of them it says are kept.
fn kept(page: &Reply) -> usize {
    page.text().matches(">Kept</b>").count()
}

fn set(names: &[String]) -> BTreeSet<String> {
    names.iter().cloned().collect()
}

// ---- strace ---------------------------------------------------------------------------------

/// Stops one thread of a server at its system calls. Lets go of it when dropped.
struct Tracer {
    _strace: Started,
    folder: Folder,
    task: PathBuf,
}

impl Tracer {
    /// With strace's expressions of what to trace and what to change.
    #[track_caller]
    fn attach(server: &Server, thread: &str, expressions: &[&str]) -> Tracer {
        let find = || server.thread(thread);
        let task = until(PATIENCE, find).unwrap_or_else(|| panic!("no thread {thread}"));
        expect_waiting(&task);
        let folder = Folder::new();
        let mut strace = Command::new("strace");
        strace.args(["-y", "-e", "signal=none", "-o"]).arg(folder.path().join("trace"));
        strace.arg("-p").arg(task.file_name().expect("its number"));
        for expression in expressions {
            strace.args(["-e", expression]);
        }
        let says = folder.path().join("says");
        let strace = Started::new(strace, &says).expect("strace");
        let said = || fs::read_to_string(&says).unwrap_or_default();
        if until(PATIENCE, || said().contains("attached").then_some(())).is_none() {
            panic!("strace: {}", said());
        }
        Tracer { _strace: strace, folder, task }
    }

    /// What the thread has called so far.
    fn trace(&self) -> String {
        fs::read_to_string(self.folder.path().join("trace")).unwrap_or_default()
    }

    /// Waits until the thread has called something.
    #[track_caller]
    fn wait_for(&self, call: &str) {
        let called = until(PATIENCE, || self.trace().contains(call).then_some(()));
        assert!(called.is_some(), "no {call:?} in {}", self.trace());
    }

    /// What the thread called until it had nothing more to do.
    #[track_caller]
    fn finished(self) -> String {
        expect_waiting(&self.task);
        self.trace()
    }
}

/// Waits until a thread waits for its next job. Stopped by the tracer it is `t`, at the disk `D`.
#[track_caller]
fn expect_waiting(task: &Path) {
    let waits = || {
        let stat = fs::read_to_string(task.join("stat")).expect("it runs");
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    };
    assert!(until(PATIENCE, || waits().then_some(())).is_some(), "it is busy");
}

/// One system call of a thread's: the name, and the how manieth of this name it is.
#[derive(Debug, PartialEq)]
struct Step {
    call: String,
    turn: usize,
}

/// The calls on files in a trace. Left out is what wakes the loop, and `close`: a fault in place of
/// it would leave the descriptor open, which the kernel never does.
fn steps(trace: &str) -> Vec<Step> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for (call, rest) in trace.lines().filter_map(|line| line.split_once('(')) {
        let turn = turns.entry(call).or_default();
        *turn += 1;
        let known = call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if known && !["close", "mmap"].contains(&call) && !rest.contains("[eventfd]") {
            steps.push(Step { call: call.to_owned(), turn: *turn });
        }
    }
    steps
}

/// Attempts to meet a call.
const ATTEMPTS: usize = 4;

/// What is to be done on the way to a fault and after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Prepare,
    /// Ask while one call fails: a refusal with a reason is fine.
    Faulty,
    /// See that nothing is half done, now that the thread rests.
    Check,
    /// Ask again: it must be done.
    Sound,
}

/// Has each call that `thread` makes for what `play` asks fail once, but for few that only a rare
/// coincidence brings: in the short run with one of the errors, the likeliest or each call with
/// another; with all of them in the long run. `always` are faults that are there all the time, and
/// then it is the calls in `only` that matter.
#[track_caller]
fn each_call_fails_once(
    server: &Server,
    thread: &str,
    (always, only): (&[&str], &[&str]),
    mut play: impl FnMut(Part),
) {
    let attach = |inject: &[&str]| {
        let expressions = [&["trace=%file,%desc"], always, inject].concat();
        Tracer::attach(server, thread, &expressions)
    };
    // What it asks for the first time only is left to others.
    play(Part::Prepare);
    play(Part::Sound);
    let mut record = || {
        play(Part::Prepare);
        let tracer = attach(&[]);
        play(Part::Sound);
        let steps = steps(&tracer.finished());
        play(Part::Check);
        play(Part::Sound);
        steps
    };
    // What a coincidence brings is only in some of them.
    let mut steps = record();
    for others in [record(), record()] {
        steps.retain(|step| others.contains(step));
    }
    steps.retain(|step| only.is_empty() || only.contains(&&*step.call));
    assert!(steps.len() > 2, "only {steps:?}");
    let (mut failed, mut missed) = (0, Vec::new());
    for (n, Step { call, turn }) in steps.iter().enumerate() {
        let some = match call.as_str() {
            "fsync" => &["EIO"],
            "write" | "writev" | "pwrite64" => &["ENOSPC"],
            _ => &FAULTS[n % FAULTS.len()..][..1],
        };
        for fault in if long() { &FAULTS[..] } else { some } {
            // A name that was taken in the first run and is free in another makes some calls less.
            let fails = (0..ATTEMPTS).any(|_| {
                play(Part::Prepare);
                let tracer = attach(&[&format!("inject={call}:error={fault}:when={turn}")]);
                play(Part::Faulty);
                let trace = tracer.finished();
                let hit = |line: &&str| line.contains("INJECTED") && line.contains(fault);
                println!("{call} {turn} {fault}: {}", trace.lines().find(hit).unwrap_or("-"));
                play(Part::Check);
                play(Part::Sound);
                trace.lines().any(|line| hit(&line))
            });
            match fails {
                true => failed += 1,
                false => missed.push((call, turn, fault)),
            }
        }
    }
    assert!(missed.len() * 20 <= failed, "{missed:?} never failed");
    println!("{thread}: {failed} faults at {} calls", steps.len());
}

/// For a way on which nothing fails all the time.
const PLAIN: (&[&str], &[&str]) = (&[], &[]);

/// It streams, it has no descriptor too many, and none of its threads has panicked.
#[track_caller]
fn expect_unharmed(server: &Server, fds: usize) {
    let mut stream = Stream::open(server.addr(), "/video_feed");
    decode(&stream.frame().jpeg);
    drop(stream);
    server.expect_fds(fds);
    assert!(!server.log().contains("panicked"), "{:?}", server.complaints());
}

/// Nothing half-written is left once the disk rests.
#[track_caller]
fn expect_finished(folder: &Path) {
    let finished = until(PATIENCE, || unfinished(folder).is_empty().then_some(()));
    assert!(finished.is_some(), "{:?} is left", unfinished(folder));
}

/// The photo has its thumbnail, so the disk has nothing more to do for it.
#[track_caller]
fn expect_thumbnail(folder: &Path, name: &str) {
    let thumbnail = folder.join(".thumbnails").join(name);
    assert!(until(PATIENCE, || thumbnail.exists().then_some(())).is_some(), "{name} has none");
    expect_finished(folder);
}

/// The folder has changed: it must be listed.
fn touch(folder: &Path) {
    fs::write(folder.join("note"), "").expect("write a file");
    fs::remove_file(folder.join("note")).expect("remove it");
}

/// A picture of the server's own under names of its folder.
fn put(folder: &Path, names: &[String]) {
    fs::create_dir_all(folder).expect("make a folder");
    let picture = start(&[]).get("/snapshot?now=1").expect(200).body;
    names.iter().for_each(|name| fs::write(folder.join(name), &picture).expect("write a photo"));
}

// ---- each call fails once -------------------------------------------------------------------

/// Somebody who takes photos and remembers what he was promised.
struct Photographer<'s> {
    server: &'s Server,
    pic: PathBuf,
    viewer: Stream,
    /// Photos whose answer was 201, with their bytes, the newest last.
    saved: Vec<(String, Vec<u8>)>,
}

impl Photographer<'_> {
    #[track_caller]
    fn press(&mut self, may_fail: bool) {
        let before = photos_in(&self.pic);
        let reply = post(self.server, "/photo", "");
        if reply.status == 201 || !may_fail {
            let receipt = Receipt::of(&reply);
            let bytes = expect_photo(&self.pic.join(&receipt.name));
            assert_eq!(bytes.len(), receipt.bytes);
            self.saved.push((receipt.name, bytes));
        } else {
            assert_eq!(reply.status, 507, "{}", reply.text());
            assert!(reply.text().starts_with("The photo is not saved: "), "{}", reply.text());
            let added: Vec<String> = photos_in(&self.pic).difference(&before).cloned().collect();
            assert_eq!(added, [""; 0], "{}", reply.text());
        }
        self.viewer.frame();
    }

    /// The last `count` are as they were when they were promised, and all others are whole.
    #[track_caller]
    fn check(&self, count: usize) {
        for (name, bytes) in self.saved.iter().rev().take(count) {
            let found = fs::read(self.pic.join(name));
            assert!(found.is_ok_and(|found| found == *bytes), "{name} is lost");
        }
        for name in photos_in(&self.pic) {
            expect_photo(&self.pic.join(name));
        }
        assert_eq!(unfinished(&self.pic), [""; 0]);
    }
}

/// Takes photos where room is made for each, in both ways, and one is kept.
#[track_caller]
fn photos_are_whole_or_refused(faults: (&[&str], &[&str])) {
    let server = start(&["--max-photos", "4", "--keep-free", "1"]);
    let pic = server.folder().path().join("pic");
    let viewer = Stream::open(server.addr(), "/video_feed");
    let mut anna = Photographer { server: &server, pic, viewer, saved: Vec::new() };
    anna.press(false);
    let (kept, _) = anna.saved.remove(0);
    post(&server, "/gallery/keep", &format!("name={kept}&keep=1")).expect(303);
    (0..4).for_each(|_| anna.press(false));
    server.get("/gallery").expect(200);
    let fds = server.fds();
    each_call_fails_once(&server, WRITING, faults, |part| match part {
        // What has just changed is read again.
        Part::Prepare => {
            let list = server.folder().write("list", format!("{kept}\n"));
            fs::rename(list, anna.pic.join(".keep")).unwrap();
        }
        Part::Faulty => anna.press(true),
        Part::Check => {
            anna.check(2); // beside the kept one, and one for which room was made before it failed
            assert!(anna.pic.join(&kept).exists(), "a photo that is kept was deleted");
        }
        Part::Sound => anna.press(false),
    });
    drop(anna);
    expect_unharmed(&server, fds);
}

#[test]
fn whichever_call_fails_a_photo_is_whole_or_refused_with_a_reason() {
    photos_are_whole_or_refused(PLAIN);
}

#[test]
fn the_same_holds_where_the_disk_cannot_rename_without_overwriting() {
    let only = ["linkat", "unlinkat", "unlink", "fsync"];
    photos_are_whole_or_refused((&[NO_NEW_RENAME], if long() { &[] } else { &only }));
}

#[test]
fn and_where_it_has_no_links_either() {
    let only = ["newfstatat", "renameat", "rename", "fsync"];
    photos_are_whole_or_refused((&[NO_NEW_RENAME, NO_LINKS], if long() { &[] } else { &only }));
}

#[test]
fn whichever_call_fails_a_photo_is_deleted_or_whole() {
    let server = start(&[]);
    let pic = server.folder().path().join("pic");
    let names = names_of(2020, 3);
    put(&pic, &names);
    let (victim, others) = (&names[1], [&names[0], &names[2]]);
    let bytes = fs::read(pic.join(others[0])).unwrap();
    let fds = server.fds();
    each_call_fails_once(&server, WRITING, PLAIN, |part| match part {
        Part::Prepare => {
            fs::write(pic.join(victim), &bytes).unwrap();
            post(&server, "/gallery/keep", &format!("name={victim}&keep=1")).expect(303);
        }
        Part::Faulty => {
            let reply = delete(&server, victim);
            let text = reply.text();
            match reply.status {
                204 => assert!(!pic.join(victim).exists(), "it is still there"),
                500 if text.starts_with("The photo is not deleted: ") => {}
                500 if text.starts_with("Nothing is deleted for good: ") => {}
                _ => panic!("{reply:?}"),
            }
        }
        Part::Check => {
            photos_in(&pic)
                .iter()
                .for_each(|name| assert!(fs::read(pic.join(name)).unwrap() == bytes));
            assert!(others.iter().all(|name| pic.join(name).exists()), "another one is gone");
            assert_eq!(unfinished(&pic), [""; 0]);
        }
        Part::Sound => {
            let reply = delete(&server, victim);
            assert!([204, 404].contains(&reply.status), "{reply:?}");
            assert!(!pic.join(victim).exists(), "it is still there");
            let marks = fs::read_to_string(pic.join(".keep")).unwrap();
            assert_eq!(marks, "", "its mark is for the next of that name");
        }
    });
    expect_unharmed(&server, fds);
}

#[test]
fn whichever_call_fails_the_list_of_kept_photos_is_the_old_or_the_new_one() {
    let server = start(&[]);
    let pic = server.folder().path().join("pic");
    let name = names_of(2020, 1).remove(0);
    put(&pic, std::slice::from_ref(&name));
    let keep = |keep| post(&server, "/gallery/keep", &format!("name={name}&keep={keep}"));
    let marks = || fs::read_to_string(pic.join(".keep")).unwrap();
    let new = format!("{name}\n");
    let fds = server.fds();
    each_call_fails_once(&server, WRITING, PLAIN, |part| match part {
        Part::Prepare => {
            keep(0).expect(303);
            assert_eq!(marks(), "");
        }
        Part::Faulty => {
            let reply = keep(1);
            match reply.status {
                303 => assert_eq!(marks(), new),
                507 => assert!(reply.text().starts_with("The mark is not saved: "), "{reply:?}"),
                _ => panic!("{reply:?}"),
            }
        }
        Part::Check => {
            assert!(["", &*new].contains(&&*marks()), "{:?}", marks());
            assert_eq!(unfinished(&pic), [""; 0]);
        }
        Part::Sound => {
            keep(1).expect(303);
            assert_eq!(marks(), new);
        }
    });
    expect_unharmed(&server, fds);
}

#[test]
fn whichever_call_fails_what_is_looked_at_is_right_the_next_time() {
    let server = start(&[]);
    let pic = server.folder().path().join("pic");
    let names = names_of(2020, 3);
    put(&pic, &names);
    let small = fs::read(pic.join(&names[0])).unwrap();
    // Larger than what is read at once.
    let large = [&small[..], &[7; 200 << 10]].concat();
    fs::write(pic.join(&names[2]), &large).unwrap();
    let fds = server.fds();
    for (name, bytes) in [(&names[0], &small), (&names[2], &large)] {
        each_call_fails_once(&server, READING, PLAIN, |part| match part {
            Part::Prepare | Part::Check => {}
            Part::Faulty | Part::Sound => {
                let target = format!("/pic/{name}");
                let mut client = Client::connect(server.addr());
                client.send(request(server.addr(), "GET", &target, "", ""));
                match client.try_reply(false) {
                    Ok(reply) if reply.status == 200 => assert!(reply.body == *bytes, "{name}"),
                    Ok(reply) if part == Part::Faulty => drop(reply.expect(500)),
                    // What was promised as so many bytes breaks off.
                    Err(_) if part == Part::Faulty => {}
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    let first = server.get(&format!("/thumb/{}", names[0])).expect(200);
    each_call_fails_once(&server, READING, PLAIN, |part| match part {
        Part::Prepare => fs::remove_dir_all(pic.join(".thumbnails")).unwrap(),
        Part::Faulty => {
            let reply = server.get(&format!("/thumb/{}", names[0]));
            match reply.status {
                200 => assert_eq!(reply.body, first.body),
                status => assert!([404, 500].contains(&status), "{reply:?}"),
            }
        }
        Part::Check => assert_eq!(unfinished(&pic), [""; 0]),
        Part::Sound => {
            let reply = server.get(&format!("/thumb/{}", names[0])).expect(200);
            assert_eq!(reply.body, first.body);
        }
    });
    for target in ["/gallery".to_owned(), format!("/view/{}", names[1]), "/status".to_owned()] {
        each_call_fails_once(&server, READING, PLAIN, |part| match part {
            Part::Prepare => touch(&pic),
            Part::Check => {}
            Part::Faulty => {
                let reply = server.get(&target);
                assert!([200, 500].contains(&reply.status), "{reply:?}");
            }
            Part::Sound => {
                let reply = server.get(&target).expect(200);
                if target == "/gallery" {
                    assert_eq!(shown(&reply), set(&names));
                }
            }
        });
    }
    expect_unharmed(&server, fds);
}

/// One that is left out without a word is missed only when the others are deleted.
#[test]
fn whichever_call_fails_an_archive_has_all_photos_or_breaks_off() {
    let server = start(&[]);
    let pic = server.folder().path().join("pic");
    let names = names_of(2020, 3);
    put(&pic, &names);
    let fds = server.fds();
    each_call_fails_once(&server, READING, PLAIN, |part| match part {
        Part::Prepare => touch(&pic),
        Part::Check => {}
        Part::Faulty | Part::Sound => {
            let mut client = Client::connect(server.addr());
            client.send(request(server.addr(), "POST", "/gallery/archive", "", ""));
            match client.try_reply(false) {
                Ok(reply) if reply.status == 200 => {
                    assert_eq!(
                        unzip(&reply.body).into_keys().collect::<BTreeSet<_>>(),
                        set(&names)
                    );
                }
                Ok(reply) if part == Part::Faulty => drop(reply.expect(500)),
                Err(_) if part == Part::Faulty => {}
                other => panic!("{other:?}"),
            }
        }
    });
    expect_unharmed(&server, fds);
}

/// A program that has just started knows nothing, and time stamps of folder and list tell it later
/// that nothing has changed: what the disk did not tell must be asked for again all the same.
#[test]
fn what_the_disk_did_not_tell_once_is_not_taken_for_absent() {
    let folder = Folder::new();
    let names = names_of(2020, 3);
    put(folder.path(), &names);
    let list = format!("{}\n", names[1]);
    folder.write(".keep", &list);
    thread::sleep(Duration::from_millis(4100)); // time stamps of whole seconds, three of them
    // The status; none if the answer broke off.
    let ask = |server: &Server, what: &str| {
        let (method, target, form) = match what {
            "look" => ("GET", "/gallery", String::new()),
            "archive" => ("POST", "/gallery/archive", String::new()),
            _ => ("POST", "/gallery/keep", format!("name={}&keep=1", names[0])),
        };
        let mut client = Client::connect(server.addr());
        client.send(request(server.addr(), method, target, "", &form));
        let reply = client.try_reply(false).ok()?;
        assert!([200, 303, 500, 507].contains(&reply.status), "{what}: {reply:?}");
        if what == "archive" && reply.status == 200 {
            assert_eq!(unzip(&reply.body).into_keys().collect::<BTreeSet<_>>(), set(&names));
        }
        if what == "keep" {
            let marks = fs::read_to_string(folder.path().join(".keep")).unwrap();
            assert!(marks.contains(&names[1]), "its mark is lost: {marks:?}");
        }
        Some(reply.status)
    };
    let done = |status: Option<u16>| matches!(status, Some(200 | 303));
    for (what, thread) in [("look", READING), ("archive", READING), ("keep", WRITING)] {
        let begin = |inject: &[&str]| {
            let server = start(&["--pic", folder.arg()]);
            let expressions = [&["trace=%file,%desc"], inject].concat();
            let tracer = Tracer::attach(&server, thread, &expressions);
            (server, tracer)
        };
        let (server, tracer) = begin(&[]);
        assert!(done(ask(&server, what)), "{what} without a fault");
        let mut steps = steps(&tracer.finished());
        // Sizes are what only the first look asks for.
        steps.retain(|step| what == "look" || long() || step.call.contains("stat"));
        assert!(steps.len() > 4, "{steps:?}");
        let mut failed = 0;
        for (n, Step { call, turn }) in steps.iter().enumerate() {
            let fault = FAULTS[n % FAULTS.len()];
            let inject = format!("inject={call}:error={fault}:when={turn}");
            let (server, tracer) = begin(&[&inject]);
            ask(&server, what);
            failed += usize::from(tracer.finished().contains("INJECTED"));
            assert!(done(ask(&server, what)), "{what} after {fault} from {call} {turn}");
            let page = server.get("/gallery").expect(200);
            let expected = (set(&names), if what == "keep" { 2 } else { 1 });
            let seen = (shown(&page), kept(&page));
            assert_eq!(seen, expected, "{what} after {fault} from {call} {turn}");
            if what == "keep" {
                folder.write(".keep", &list);
            }
        }
        assert!(failed * 4 >= steps.len() * 3, "only {failed} of {steps:?}");
        println!("{what}: {failed} faults at {} calls", steps.len());
    }
}

/// The file of what is set of the controls.
#[test]
fn whichever_call_fails_settings_are_the_old_or_the_new_ones() {
    const BRIGHTNESS: u32 = 0x0098_0900;
    let folder = Folder::new();
    let preload = Preload::build(&folder);
    let old = "{}\n";
    let file = folder.write("sub/kept.json", old);
    let start = || {
        fs::write(&file, old).unwrap();
        Server::start_command(preload.command(&["--save-controls", &file.display().to_string()]))
    };
    let set = |server: &Server, value: i32| {
        post(server, "/controls", &format!("id={BRIGHTNESS}&value={value}")).expect(200);
    };
    let read = || {
        let text = fs::read_to_string(&file).unwrap();
        let all: Json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let camera = all.as_object().expect("cameras").values().next()?;
        camera[BRIGHTNESS.to_string()]["value"].as_i64()
    };
    let recorded = {
        let server = start();
        let tracer = Tracer::attach(&server, WRITING, &["trace=%file,%desc"]);
        set(&server, 3);
        assert!(until(PATIENCE, || (read() == Some(3)).then_some(())).is_some(), "{:?}", read());
        steps(&tracer.finished())
    };
    assert!(recorded.len() > 4, "{recorded:?}");
    for (n, Step { call, turn }) in recorded.iter().enumerate() {
        let some = &FAULTS[n % FAULTS.len()..][..1];
        for fault in if long() { &FAULTS[..] } else { some } {
            let server = start();
            let inject = format!("inject={call}:error={fault}:when={turn}");
            let tracer = Tracer::attach(&server, WRITING, &["trace=%file,%desc", &inject]);
            set(&server, 3);
            tracer.wait_for("INJECTED");
            tracer.finished();
            assert!([None, Some(3)].contains(&read()), "{:?}", read());
            // What is set later is saved with it, at the end at the latest.
            set(&server, 4);
            server.stop();
            assert_eq!(read(), Some(4), "after {fault} from {call} {turn}");
            assert_eq!(names_in(file.parent().unwrap()), BTreeSet::from(["kept.json".to_owned()]));
        }
    }
}

// ---- the whole disk fails -------------------------------------------------------------------

#[test]
fn a_disk_that_is_changed_to_read_only_and_back_loses_nothing() {
    let disk = Folder::new();
    let mount = Mount::disk(disk.path(), 4096);
    let server = start(&["--pic", disk.arg()]);
    let mut viewer = Stream::open(server.addr(), "/video_feed");
    let first = press(&server).name;
    expect_thumbnail(disk.path(), &first);
    for _ in 0..3 {
        mount.remount("ro");
        let before = names_in(disk.path());
        let says = |reply: Reply, status: u16| {
            let text = reply.expect(status).text();
            assert!(text.to_lowercase().contains("read-only"), "{text}");
        };
        says(post(&server, "/photo", ""), 507);
        says(post(&server, "/gallery/keep", &format!("name={first}")), 507);
        says(delete(&server, &first), 500);
        assert_eq!(shown(&server.get("/gallery").expect(200)), photos_in(disk.path()));
        server.get(&format!("/pic/{first}")).expect(200);
        server.get(&format!("/thumb/{first}")).expect(200);
        server.get("/status").expect(200);
        viewer.frame();
        assert_eq!(names_in(disk.path()), before);
        mount.remount("rw");
        let name = press(&server).name;
        expect_photo(&disk.path().join(&name));
        expect_thumbnail(disk.path(), &name);
    }
    assert_eq!(photos_in(disk.path()).len(), 4);
}

#[test]
fn a_folder_that_is_taken_away_replaced_and_brought_back_is_followed() {
    let server = start(&[]);
    let mut viewer = Stream::open(server.addr(), "/video_feed");
    let pic = server.folder().path().join("pic");
    let away = server.folder().path().join("away");
    let shown = || shown(&server.get("/gallery").expect(200));
    let first: BTreeSet<String> = (0..3).map(|_| press(&server).name).collect();
    assert_eq!(shown(), first);
    first.iter().for_each(|name| expect_thumbnail(&pic, name));
    fs::rename(&pic, &away).unwrap();
    assert!(shown().is_empty());
    // The next photo makes it anew.
    let second = press(&server).name;
    assert_eq!(shown(), BTreeSet::from([second.clone()]));
    expect_thumbnail(&pic, &second);
    fs::remove_dir_all(&pic).unwrap();
    // A link that leads nowhere; one that leads to them.
    symlink("nowhere", &pic).unwrap();
    let refused = post(&server, "/photo", "").expect(507).text();
    assert!(refused.starts_with("The photo is not saved: "), "{refused}");
    assert!(!server.folder().path().join("nowhere").exists());
    fs::remove_file(&pic).unwrap();
    symlink("away", &pic).unwrap();
    assert_eq!(shown(), first);
    let third = press(&server).name;
    expect_thumbnail(&away, &third);
    fs::remove_file(&pic).unwrap();
    fs::write(&pic, "a file").unwrap();
    post(&server, "/photo", "").expect(507);
    server.get("/gallery").expect(500);
    server.get("/status").expect(200);
    fs::remove_file(&pic).unwrap();
    fs::rename(&away, &pic).unwrap();
    let mut all = first;
    all.insert(third);
    assert_eq!(shown(), all);
    all.insert(press(&server).name);
    assert_eq!(shown(), all);
    all.iter().for_each(|name| drop(expect_photo(&pic.join(name))));
    viewer.frame();
}

/// Presses on a disk that needs 0.2 s for each photo.
#[test]
fn a_slow_disk_bounds_the_photos_that_wait_and_answers_the_rest_at_once() {
    const PRESSES: usize = 60;
    const WAITING_MAX: usize = 8 + 16 + 1; // for a frame, for the disk, at the disk
    let server = start(&["--every", "1s"]);
    let pic = server.folder().path().join("pic");
    let mut viewer = Stream::open(server.addr(), "/video_feed");
    viewer.frame();
    let tracer =
        Tracer::attach(&server, WRITING, &["trace=fsync", "inject=fsync:delay_enter=100000"]);
    let addr = server.addr();
    let (replies, longest) = thread::scope(|scope| {
        let presses: Vec<_> = (0..PRESSES)
            .map(|n| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(10 * n as u64)); // a few in each frame
                    let asked = Instant::now();
                    (send(addr, "POST", "/photo", "", ""), asked, asked.elapsed())
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        while !presses.iter().all(|press| press.is_finished()) {
            for target in ["/snapshot", "/status", "/gallery"] {
                let asked = Instant::now();
                server.get(target).expect(200);
                longest = longest.max(asked.elapsed());
            }
            viewer.frame();
        }
        let replies: Vec<_> = presses.into_iter().map(|press| press.join().unwrap()).collect();
        (replies, longest)
    });
    let (saved, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.0.status == 201);
    for (reply, _, time) in &refused {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.header("Retry-After").is_some(), "{reply:?}");
        assert!(*time < PATIENCE / 4, "told after {time:?}");
    }
    // Others were finished while presses still came.
    let times = || replies.iter().map(|(_, asked, _)| *asked);
    let span = times().max().unwrap() - times().min().unwrap();
    let finished = (span.as_secs_f64() / 0.2) as usize + 1;
    assert!((9..=WAITING_MAX + finished).contains(&saved.len()), "{} saved", saved.len());
    assert!(!refused.is_empty(), "{} presses are not enough", PRESSES);
    let names: BTreeSet<String> = saved.iter().map(|r| Receipt::of(&r.0).name).collect();
    assert_eq!(names.len(), saved.len());
    names.iter().for_each(|name| drop(expect_photo(&pic.join(name))));
    assert!(longest < PATIENCE / 4, "{longest:?} for a page");
    assert!(tracer.trace().contains("DELAYED"), "the disk was not slow: {}", tracer.trace());
    drop(tracer);
    press(&server);
    expect_finished(&pic);
}

// ---- others change the folder meanwhile -----------------------------------------------------

/// Each of the old photos takes a while to go, and somebody else deletes some of them first.
#[test]
fn photos_that_vanish_while_room_is_made_are_no_fault() {
    let folder = Folder::new();
    let names = names_of(2020, 24);
    put(folder.path(), &names);
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    let slow = ["trace=unlinkat", "inject=unlinkat:delay_enter=20000"];
    let tracer = Tracer::attach(&server, WRITING, &slow);
    let first = press(&server).name;
    tracer.wait_for("unlinkat(");
    // From the other end, too, those that would have stayed.
    for name in names.iter().skip(1).step_by(2) {
        let _ = fs::remove_file(folder.path().join(name));
    }
    let second = press(&server).name;
    tracer.finished();
    let left = photos_in(folder.path());
    assert!(left.len() <= 3 && left.contains(&first) && left.contains(&second), "{left:?}");
    assert_eq!(server.complaints(), [""; 0]);
    let third = press(&server).name;
    assert!(photos_in(folder.path()).contains(&third));
    assert!(names_in(folder.path()).is_superset(&set(&[first, second, third])));
}

/// Between the look at the disk and the look at the photos somebody makes room: the photos alone
/// would not have made it.
#[test]
fn room_that_others_make_meanwhile_is_room() {
    let disk = Folder::new();
    let _disk = Mount::disk(disk.path(), 1024);
    put(disk.path(), &names_of(2020, 2));
    let film = disk.write("film.mp4", vec![7; 800 << 10]);
    let server = start(&["--pic", disk.arg(), "--keep-free", "400K"]);
    let slow = ["trace=getdents64,statfs", "inject=getdents64:delay_enter=500000:when=1"];
    let tracer = Tracer::attach(&server, WRITING, &slow);
    let saved = thread::scope(|scope| {
        let pressing = scope.spawn(|| post(&server, "/photo", ""));
        tracer.wait_for("statfs(");
        fs::remove_file(film).unwrap();
        Receipt::of(&pressing.join().unwrap()).name
    });
    expect_photo(&disk.path().join(&saved));
    assert_eq!(photos_in(disk.path()).len(), 3, "a photo was deleted for nothing");
}

/// Saved, but for its name's way to the medium; deleted by somebody else; and then it is answered.
#[test]
fn a_photo_that_is_deleted_before_it_is_answered_is_not_shown() {
    let server = start(&[]);
    let pic = server.folder().path().join("pic");
    let slow = ["trace=fsync", "inject=fsync:delay_enter=6000000:when=2"];
    let tracer = Tracer::attach(&server, WRITING, &slow);
    thread::scope(|scope| {
        let pressing = scope.spawn(|| press(&server));
        let there = || photos_in(&pic).pop_first();
        let name = until(PATIENCE, there).expect("a photo");
        fs::remove_file(pic.join(&name)).unwrap();
        thread::sleep(Duration::from_millis(4100)); // its folder's time stamp is relied on
        assert!(shown(&server.get("/gallery").expect(200)).is_empty());
        assert!(!pressing.is_finished(), "the disk is not slow");
        assert_eq!(pressing.join().unwrap().name, name);
    });
    drop(tracer);
    let status = server.get("/status").expect(200);
    let status: Json = serde_json::from_slice(&status.body).expect("JSON");
    assert_eq!(status["photos"]["count"], 0, "{status}");
}
