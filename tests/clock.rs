//! A clock that is wrong: without a battery it is 1970 at the start, it is set by years in both
//! directions while everything goes on, and zones have hours that come twice or not at all.
//!
//! In the guest of `tests/guest`, whose clock is set as any machine's is. The tests' own patience is
//! by monotonic time.

// The guest is a PC that runs this machine's programs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod util;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use exif::Tag;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value as Json;

use util::guest;
use util::photos::{Receipt, exif_text, expect_photo, parts_of, send, shown, unix};
use util::{Client, Folder, PATIENCE, Reply, Server, Stream, decode, until};

/// Seconds from one interval photo to the next.
const EVERY: f64 = 2.0;
const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
/// 2026-11-22, 14:03:55.
const TODAY: i64 = 1_795_356_235;
/// Where time stamps of 32 bits end.
const END_OF_32_BITS: i64 = i32::MAX as i64;

/// The earliest that a kernel's clock is set to: it began at its start.
const EARLIEST: i64 = 0;
/// What the clock is set to, one after the other.
const JUMPS: [i64; 9] = [
    TODAY,              // somebody has told it the time
    TODAY + 73 * YEAR,  // and now a wrong one
    TODAY + 1,          // back, to a second that it had already
    EARLIEST,           // to where it was at the start
    TODAY + DAY / 24,   // an hour ahead
    TODAY,              // and back
    END_OF_32_BITS - 1, // over the end of 32 bits
    TODAY + 200 * YEAR, // as far as a kernel goes
    TODAY + DAY,
];

fn set_clock(seconds: i64) {
    let seconds = seconds.max(clock_gettime(ClockId::Monotonic).tv_sec + 1);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).expect("set the clock");
}

/// Seconds since 1970, by the clock as it is now.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("not before 1970").as_secs_f64()
}

/// Within the time that an emulated processor may take for something.
#[track_caller]
fn expect_now(seconds: f64, what: &str) {
    let off = now() - seconds;
    assert!((-1.5..15.0).contains(&off), "{what} is {off} s ago");
}

fn http_date(reply: &Reply, name: &str) -> Option<f64> {
    let time = httpdate::parse_http_date(reply.header(name)?).expect("a date");
    Some(time.duration_since(UNIX_EPOCH).expect("not before 1970").as_secs_f64())
}

#[track_caller]
fn json(reply: &Reply) -> Json {
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// The photos that the gallery shows, in its order.
fn gallery(server: &Server) -> Vec<String> {
    shown(&server.get("/gallery").expect(200))
}

fn get(server: &Server, target: &str, field: &str) -> Reply {
    send(server.addr(), "GET", target, &format!("{field}\r\n"), "")
}

/// Somebody who takes photos and looks at them again.
struct Photographer {
    server: Server,
    pic: PathBuf,
    /// Those that were taken, in that order, with their bytes.
    taken: Vec<(Receipt, Vec<u8>)>,
}

impl Photographer {
    fn new(server: Server) -> Photographer {
        let pic = server.folder().path().join("pic");
        Photographer { server, pic, taken: Vec::new() }
    }

    /// The photo's name and its own data have the time that the receipt tells.
    #[track_caller]
    fn press(&mut self) -> Receipt {
        let receipt = Receipt::of(&send(self.server.addr(), "POST", "/photo", "", ""));
        let bytes = expect_photo(&self.pic.join(&receipt.name));
        let (second, _) = parts_of(&receipt.name).expect("a photo's name");
        assert_eq!(second, receipt.taken[..19].replace('T', "_").replace(':', "-"));
        assert_eq!(exif_text(&bytes, Tag::OffsetTimeOriginal), receipt.taken[23..]);
        self.taken.push((receipt.clone(), bytes));
        receipt
    }

    /// No photo has another's name, none was overwritten, and the last taken is shown first.
    #[track_caller]
    fn check(&self) {
        let names: BTreeSet<&String> = self.taken.iter().map(|(r, _)| &r.name).collect();
        assert_eq!(names.len(), self.taken.len(), "one name for two photos");
        for (receipt, bytes) in &self.taken {
            let found = fs::read(self.pic.join(&receipt.name)).expect("it is there");
            assert!(found == *bytes, "{} was overwritten", receipt.name);
        }
        let newest_first: Vec<&String> = self.taken.iter().rev().map(|(r, _)| &r.name).collect();
        let shown = gallery(&self.server);
        let shown: Vec<&String> = shown.iter().filter(|name| names.contains(name)).collect();
        assert_eq!(shown, newest_first);
    }
}

/// The stream goes on: soon there is a frame that tells the time as it is now. Others may have been
/// on their way.
#[track_caller]
fn expect_stream(viewer: &mut Stream) {
    let set = Instant::now();
    loop {
        let part = viewer.part();
        if (now() - part.timestamp).abs() < 3.0 {
            decode(&part.jpeg);
            break;
        }
        assert!(set.elapsed() < Duration::from_secs(4), "no frame tells the new time");
    }
}

/// What HTTP says of times: nothing is from the future, and a copy that is known is not sent again.
#[track_caller]
fn expect_dates(server: &Server, photos: &[(Receipt, Vec<u8>)]) {
    for (receipt, bytes) in photos {
        let reply = server.get(&receipt.url).expect(200);
        let date = http_date(&reply, "Date").expect("Date");
        expect_now(date, "Date");
        let modified = http_date(&reply, "Last-Modified").expect("Last-Modified");
        assert!(modified <= date, "changed {} s after its answer", modified - date);
        let etag = reply.header("ETag").expect("ETag");
        get(server, &receipt.url, &format!("If-None-Match: {etag}")).expect(304);
        let text = reply.header("Last-Modified").unwrap();
        let known = get(server, &receipt.url, &format!("If-Modified-Since: {text}"));
        // A file of the future has no date that could be relied on.
        let reliable = unix(&receipt.taken) < date;
        assert!(known.status == 304 || !reliable, "{}: {known:?}", receipt.name);
        assert!(known.status == 304 || known.body == *bytes);
    }
}

/// Interval photos were taken or skipped as often as their time has come.
#[track_caller]
fn expect_interval(server: &Server, begun: Instant) {
    let state = json(&server.get("/interval").expect(200));
    let count = state["saved"].as_f64().unwrap() + state["skipped"].as_f64().unwrap();
    let due = begun.elapsed().as_secs_f64() / EVERY;
    assert!((due - 2.0..=due + 2.0).contains(&count), "{count} instead of {due}: {state}");
    assert!(state["saved"].as_f64() >= Some(due / 2.0 - 2.0), "of {due}: {state}");
    assert_eq!(state["trouble"], Json::Null);
}

fn start(args: &[&str]) -> Server {
    let small = ["--camera", "test", "--size", "160x120", "--fps", "5"];
    Server::start(&[&small, args].concat())
}

#[test]
fn a_clock_that_jumps_by_years_harms_no_photo_no_interval_no_viewer_and_no_deadline() {
    guest::run(&[], || {
        let deadlines = Deadlines::begin();
        set_clock(EARLIEST);
        let server = start(&["--every", "2s"]);
        let begun = Instant::now();
        let mut viewer = Stream::open(server.addr(), "/video_feed");
        let mut anna = Photographer::new(server);
        assert!(anna.press().name.starts_with("1970-01-01_00-"));
        let mut kept_alive = Client::connect(anna.server.addr());
        let ask = "GET /healthz HTTP/1.1\r\nHost: pi\r\n\r\n";
        for jump in JUMPS {
            kept_alive.send(ask).reply().expect(200);
            set_clock(jump);
            expect_stream(&mut viewer);
            let receipt = anna.press();
            expect_now(unix(&receipt.taken), "the photo");
            anna.check();
            kept_alive.send(ask).reply().expect(200);
            get(&deadlines.server, "/", ANNA).expect(200);
            let status = json(&anna.server.get("/status").expect(200));
            let uptime = status["uptime"].as_f64().expect("a number");
            assert!((begun.elapsed().as_secs_f64() - uptime).abs() < 10.0, "{status}");
            assert_eq!(status["camera"]["online"], true);
        }
        expect_dates(&anna.server, &anna.taken);
        expect_interval(&anna.server, begun);
        expect_ends_in_time(&anna.server);
        // After a start the names are the order, as they are all that there is.
        let mut names: Vec<String> = anna.taken.iter().map(|(r, _)| r.name.clone()).collect();
        let pic = anna.pic.to_str().expect("a plain path");
        set_clock(EARLIEST);
        let again = start(&["--pic", pic]);
        let shown = gallery(&again);
        names.sort_by_key(|name| parts_of(name).map(|(second, turn)| (second.to_owned(), turn)));
        let mine: Vec<&String> = shown.iter().rev().filter(|n| names.contains(n)).collect();
        assert!(mine.iter().copied().eq(&names), "{mine:?}");
        let receipt = Receipt::of(&send(again.addr(), "POST", "/photo", "", ""));
        assert_eq!(gallery(&again)[0], receipt.name);
        assert!(!names.contains(&receipt.name));
        assert!(!anna.server.log().contains("panicked"), "{}", anna.server.log());
        anna.server.stop();
        deadlines.expect_kept();
    });
}

/// Interval photos for six seconds, by the clock and by the wall.
#[track_caller]
fn expect_ends_in_time(server: &Server) {
    let state = || json(&server.get("/interval").expect(200));
    let until_of = |state: &Json| unix(state["until"].as_str().expect("a time"));
    let begun = Instant::now();
    send(server.addr(), "POST", "/interval", "", "every=1s&until=6s").expect(200);
    for jump in [YEAR, -3 * YEAR] {
        set_clock(now() as i64 + jump);
        let left = 6.0 - begun.elapsed().as_secs_f64();
        let said = until_of(&state()) - now();
        assert!((said - left).abs() < 2.5, "it ends in {said} s, not {left}");
    }
    let over = until(PATIENCE, || state().is_null().then_some(begun.elapsed()));
    let over = over.expect("it ends").as_secs_f64();
    assert!((5.5..10.0).contains(&over), "over after {over} s");
}

/// Connections of which each waits for its own deadline, on a server that asks for a password.
struct Deadlines {
    server: Server,
    /// When the one that asks nothing more was closed, in seconds.
    idle: JoinHandle<f64>,
    /// When the one that takes nothing was.
    stalled: JoinHandle<f64>,
    /// What is answered to a head that becomes whole only after twelve seconds.
    slow: JoinHandle<String>,
    _folder: Folder,
}

/// anna:secret.
const ANNA: &str = "Authorization: Basic YW5uYTpzZWNyZXQ=";

impl Deadlines {
    #[track_caller]
    fn begin() -> Deadlines {
        let folder = Folder::new();
        let hash = bcrypt::hash("secret", 4).expect("a hash");
        let file = folder.write("passwords", format!("anna:{hash}\n")).display().to_string();
        let large = fs::File::create(folder.path().join("large")).expect("a file");
        large.set_len(64 << 20).expect("a large one");
        let server = start(&["--password-file", &file, "--www", folder.arg()]);
        get(&server, "/status", ANNA).expect(200);
        expect_barred(&server);
        let begun = Instant::now();
        let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: pi\r\n{ANNA}\r\n\r\n");
        let addr = server.addr();
        let mut idle = Client::connect(addr);
        idle.send(ask("/healthz")).reply().expect(200);
        let mut slow = TcpStream::connect(addr).expect("connect");
        slow.write_all(b"GET / HTTP/1.1\r\nHos").expect("send half a head");
        let mut stalled = Client::connect(addr);
        stalled.send(ask("/large"));
        let connections = move || {
            let status =
                json(&send(addr, "GET", "/status", &format!("{ANNA}\r\n"), "").expect(200));
            status["connections"].as_u64().expect("a number")
        };
        let all = connections();
        let stalled = thread::spawn(move || {
            let _stalled = stalled;
            let left = until(PATIENCE, || {
                thread::sleep(Duration::from_millis(100)); // the processor is emulated
                (connections() < all).then_some(begun.elapsed().as_secs_f64())
            });
            left.expect("who takes nothing stays")
        });
        let idle = thread::spawn(move || {
            idle.expect_end();
            begun.elapsed().as_secs_f64()
        });
        let slow = thread::spawn(move || {
            slow.set_read_timeout(Some(Duration::from_secs(12))).expect("a time");
            let early = slow.read(&mut [0; 64]).expect_err("it waits for the rest");
            assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
            slow.write_all(b"t: pi\r\nConnection: close\r\n\r\n").expect("the rest");
            let mut answer = String::new();
            slow.read_to_string(&mut answer).expect("an answer");
            answer
        });
        Deadlines { server, idle, stalled, slow, _folder: folder }
    }

    #[track_caller]
    fn expect_kept(self) {
        let stalled = self.stalled.join().unwrap();
        assert!((9.5..14.0).contains(&stalled), "who took nothing was closed after {stalled} s");
        let idle = self.idle.join().unwrap();
        assert!((14.5..19.0).contains(&idle), "who asked nothing was closed after {idle} s");
        let answer = self.slow.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        guess(&self.server, 0).expect(401); // one may guess again
        self.server.stop();
    }
}

/// A wrong password for anna, each number another.
fn guess(server: &Server, n: usize) -> Reply {
    let proof = BASE64_STANDARD.encode(format!("anna:guess{n}"));
    get(server, "/status", &format!("Authorization: Basic {proof}"))
}

/// Who guesses has to wait, whatever the clock says, and who is known has not.
#[track_caller]
fn expect_barred(server: &Server) {
    let mut n = 0;
    let barred = until(PATIENCE, || {
        n += 1;
        let wait = guess(server, n).header("Retry-After")?.parse::<u32>().ok();
        (wait >= Some(2)).then_some(())
    });
    assert!(barred.is_some(), "one may guess for ever");
    set_clock(TODAY + 10 * YEAR);
    guess(server, n + 1).expect(429);
    get(server, "/status", ANNA).expect(200);
}

/// The rules of a zone for the whole machine, as an operator sets them.
fn set_zone(name: &str) {
    let rules = format!("/usr/share/zoneinfo/{name}");
    assert!(fs::exists(&rules).is_ok_and(|there| there), "no {rules}: tzdata is missing");
    let _ = fs::remove_file("/etc/localtime");
    symlink(rules, "/etc/localtime").expect("set the zone");
}

#[test]
fn hours_that_come_twice_or_not_at_all_cost_no_photo_and_the_offset_tells_them_apart() {
    guest::run(&[], || {
        let last_summer = 1_792_888_200; // 2026-10-25, 00:30 UTC: 02:30 in Berlin, for the first time
        let spring = 1_774_745_999; // 2026-03-29, 00:59:59 UTC: a second before three o'clock
        set_zone("Europe/Berlin");
        set_clock(last_summer);
        let mut anna = Photographer::new(start(&[]));
        // The same second by the clock on the wall, in summer and in winter.
        let (mut summer, mut winter) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            set_clock(last_summer);
            summer.push(anna.press());
            set_clock(last_summer + 3600);
            winter.push(anna.press());
        }
        for (receipts, offset) in [(&summer, "+02:00"), (&winter, "+01:00")] {
            for receipt in receipts {
                assert!(receipt.name.starts_with("2026-10-25_02-30-0"), "{receipt:?}");
                assert_eq!(&receipt.taken[23..], offset);
            }
        }
        let twins = anna.taken.iter().filter(|(r, _)| parts_of(&r.name).unwrap().1 > 0).count();
        assert!(twins > 0, "none has another's second: {summer:?} {winter:?}");
        anna.check();

        // From a second before two o'clock to three o'clock.
        set_clock(spring);
        let mut hours = BTreeSet::new();
        let mut last = 0.0;
        let over = Instant::now() + PATIENCE;
        while hours.len() < 2 && Instant::now() < over {
            let receipt = anna.press();
            hours.insert(receipt.taken[11..13].to_owned() + &receipt.taken[23..]);
            let taken = unix(&receipt.taken);
            assert!(taken >= last, "{taken} after {last}");
            last = taken;
        }
        let expected = BTreeSet::from(["01+01:00".to_owned(), "03+02:00".to_owned()]);
        assert_eq!(hours, expected);
        anna.check();

        // Another zone, while it runs.
        for (zone, offset) in
            [("Asia/Kathmandu", "+05:45"), ("America/St_Johns", "-02:30"), ("UTC", "+00:00")]
        {
            set_zone(zone);
            let receipt = anna.press();
            assert_eq!(&receipt.taken[23..], offset, "{zone}");
            expect_now(unix(&receipt.taken), zone);
            anna.check();
        }
        // And none.
        fs::remove_file("/etc/localtime").expect("take the zone away");
        assert_eq!(&anna.press().taken[23..], "+00:00");
        anna.check();
        anna.server.stop();
    });
}
