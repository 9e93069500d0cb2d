//! Smaller streams and snapshots (`width=N`), from the real binary with its own test picture: which
//! size, one encoding for all who ask, only while they ask, and nobody else notices.

mod util;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use util::{Client, PATIENCE, Server, Stream, decode, until};

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--camera", "test", "--size", "640x480"], args].concat())
}

fn size(jpeg: &[u8]) -> (usize, usize) {
    let (width, height, _) = decode(jpeg);
    (width, height)
}

/// The scaling thread, while there is one.
fn scaler(server: &Server) -> Option<PathBuf> {
    server.thread("scale")
}

/// The scaling thread's path and the time that it has worked.
fn work(server: &Server) -> (PathBuf, Duration) {
    let path = scaler(server).expect("a scaling thread");
    let text = fs::read_to_string(path.join("schedstat")).expect("its account");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    (path, Duration::from_nanos(nanos.expect("nanoseconds")))
}

/// Seconds that one and the same thread has worked since.
fn work_since(server: &Server, (thread, before): &(PathBuf, Duration)) -> f64 {
    let (same, now) = work(server);
    assert_eq!(same, *thread, "another thread");
    (now - *before).as_secs_f64()
}

#[test]
fn a_stream_or_snapshot_is_made_smaller_by_the_next_eighth() {
    let server = start(&[]);
    for (width, expect) in [
        ("640", (640, 480)),
        ("5000", (640, 480)),
        ("639", (560, 420)),
        ("320", (320, 240)),
        ("319.9", (240, 180)),
        ("80", (80, 60)),
        ("79", (80, 60)),
        ("0.1", (80, 60)),
    ] {
        let stream = format!("/video_feed?width={width}");
        assert_eq!(size(&Stream::open(server.addr(), &stream).part().jpeg), expect, "{width}");
        for snapshot in ["/snapshot?width=", "/?action=snapshot&width="] {
            let reply = server.get(&format!("{snapshot}{width}")).expect(200);
            assert_eq!(size(&reply.body), expect, "{snapshot}{width}");
        }
    }
    for width in ["0", "-5", "x", "", "1e3"] {
        for path in ["/video_feed", "/snapshot"] {
            let reply = server.get(&format!("{path}?width={width}")).expect(400);
            assert!(reply.text().contains("width"), "{}", reply.text());
        }
    }
}

/// Seconds of work for each frame, while so many are read by all of `streams`.
fn cost(server: &Server, streams: &mut [Stream], frames: usize) -> f64 {
    let mut seen: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut shared = 0;
    streams.iter_mut().for_each(|stream| drop(stream.frame()));
    let (before, first) = (work(server), streams[0].frame().timestamp);
    let mut last = first;
    for _ in 0..frames {
        for stream in &mut *streams {
            let part = stream.frame();
            let micros = (part.timestamp * 1e6).round() as u64;
            match seen.get(&micros) {
                Some(jpeg) => assert_eq!(*jpeg, part.jpeg, "the frame of {micros}"),
                None => drop(seen.insert(micros, part.jpeg.clone())),
            }
            shared += 1;
            last = part.timestamp;
        }
    }
    assert!(seen.len() < shared || streams.len() == 1, "they never saw the same frame");
    // A frame every fifteenth of a second, whether it was read here or skipped.
    work_since(server, &before) / ((last - first) * 15.0)
}

#[test]
fn all_who_ask_for_a_size_see_the_same_pictures_from_one_encoding() {
    let server = start(&["--fps", "15"]);
    let open = |n| Stream::open(server.addr(), &format!("/video_feed?width={}", 320 + n));
    let mut alone = vec![open(0)];
    let for_one = cost(&server, &mut alone, 20);
    // Other numbers come to the same size.
    let mut crowd: Vec<Stream> = (0..12).map(open).collect();
    let for_twelve = cost(&server, &mut crowd, 20);
    assert!(for_twelve < for_one * 3.0, "{for_twelve} s a frame, {for_one} s for one viewer");
}

#[test]
fn the_thread_is_there_only_while_somebody_asks() {
    let server = start(&[]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    plain.part();
    server.get("/snapshot").expect(200);
    assert_eq!(scaler(&server), None, "nobody asked for less");
    let mut small = Stream::open(server.addr(), "/video_feed?width=320");
    small.part();
    assert!(scaler(&server).is_some());
    drop(small);
    assert!(until(PATIENCE, || scaler(&server).is_none().then_some(())).is_some(), "it ends");
    server.get("/snapshot?width=320").expect(200);
    assert!(until(PATIENCE, || scaler(&server).is_none().then_some(())).is_some(), "again");
    plain.frame(); // and the others see the camera all the while
}

/// A viewer who wants two frames a second costs two frames a second.
#[test]
fn only_frames_that_somebody_takes_are_made() {
    let server = start(&["--fps", "20"]);
    // Keeps the thread alive, and takes no more than its first frame.
    let mut keeper = Stream::open(server.addr(), "/video_feed?width=320&fps=0.001");
    keeper.part();
    // Seconds of work for each frame that was given, and for each second.
    let work_for = |target: &str| {
        let mut stream = Stream::open(server.addr(), target);
        stream.part();
        let (before, begin, mut frames) = (work(&server), Instant::now(), 0.0);
        while begin.elapsed() < Duration::from_secs(3) {
            stream.frame();
            frames += 1.0;
        }
        work_since(&server, &before) / frames
    };
    let all = work_for("/video_feed?width=320");
    let few = work_for("/video_feed?width=320&fps=2");
    assert!(few < all * 3.0, "{few} s a frame at 2 frames a second, {all} s at all of them");
}

/// What another viewer saw long ago is no picture for one who comes now.
#[test]
fn a_newcomer_is_never_shown_what_was_made_for_others_before() {
    let server = start(&["--fps", "5"]);
    let mut stays = Stream::open(server.addr(), "/video_feed?width=80");
    stays.part();
    let seen = Stream::open(server.addr(), "/video_feed?width=160").part().timestamp;
    while stays.frame().timestamp < seen + 2.0 {}
    let newest = stays.part().timestamp;
    let first = Stream::open(server.addr(), "/video_feed?width=160").part().timestamp;
    assert!(first >= newest - 0.5, "{:.1} s old", newest - first);
}

#[test]
fn four_sizes_are_made_at_once_and_no_more() {
    let server = start(&[]);
    let open = |width: u32| {
        let mut stream = Stream::open(server.addr(), &format!("/video_feed?width={width}"));
        stream.part();
        stream
    };
    let mut small: Vec<Stream> = [80, 160, 240, 320].map(open).into();
    let refuse = |target: &str| {
        let reply = server.get(target).expect(503);
        assert_eq!(reply.header("Retry-After"), Some("10"));
        assert!(reply.text().contains("sizes"), "{}", reply.text());
    };
    refuse("/video_feed?width=400");
    refuse("/snapshot?width=400");
    open(321); // one of theirs
    open(640); // nothing to be made
    server.get("/snapshot?width=100").expect(200);
    server.get("/snapshot").expect(200);
    for (stream, width) in small.iter_mut().zip([80, 160, 240, 320]) {
        assert_eq!(size(&stream.frame().jpeg).0, width);
    }
    small.pop(); // 320
    let free = || {
        let reply = server.get("/snapshot?width=400");
        (reply.status == 200).then(|| size(&reply.body).0)
    };
    assert_eq!(until(PATIENCE, free), Some(400), "a size is free when its last viewer has gone");
}

#[test]
fn a_small_snapshot_is_newer_than_the_request_unless_it_may_be_older() {
    let server = start(&["--fps", "5"]);
    let mut client = Client::connect(server.addr());
    let mut snapshot = |query: &str| {
        let request = format!("GET /snapshot?{query} HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr());
        let reply = client.send(request).reply().expect(200);
        let taken: f64 = reply.header("X-Timestamp").expect("a time").parse().unwrap();
        (taken, size(&reply.body).0)
    };
    let mut last = 0.0;
    for _ in 0..5 {
        let (taken, width) = snapshot("width=160&now=1");
        assert_eq!(width, 160);
        assert!(taken > last, "{taken} after {last}");
        last = taken;
    }
    let mut viewer = Stream::open(server.addr(), "/video_feed?width=160");
    viewer.part();
    let (taken, width) = snapshot("width=160&max_age=5000");
    assert!(taken > last && width == 160, "{taken}, {width}");
    assert_eq!(snapshot("now=1").1, 640, "the next request is one of its own");
}

#[test]
fn no_signal_is_made_smaller_too_but_is_no_snapshot() {
    let server = Server::start(&["--camera", "/dev/video-that-is-not-there"]);
    let mut stream = Stream::open(server.addr(), "/video_feed?width=160");
    let first = stream.part();
    let (width, _) = size(&first.jpeg);
    assert!(width <= 160, "{width}");
    assert_eq!(size(&stream.frame().jpeg).0, width);
    server.get("/snapshot?width=160").expect(503);
}

/// On a machine of one core, the small pictures would otherwise take turns with the large ones.
#[test]
fn the_thread_stands_back() {
    let server = start(&[]);
    let mut small = Stream::open(server.addr(), "/video_feed?width=320");
    small.part();
    let nice = |thread: PathBuf| -> i32 {
        let stat = fs::read_to_string(thread.join("stat")).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1; // field 3 and the others
        after_name.split(' ').nth(16).and_then(|nice| nice.parse().ok()).expect("field 19")
    };
    let others = nice(PathBuf::from(format!("/proc/{}", server.pid())));
    assert_eq!(nice(scaler(&server).unwrap()), (others + 10).min(19));
}

/// A machine under load may be late: then it is looked at again.
fn soon(mut look: impl FnMut() -> bool) {
    assert!((0..5).any(|_| look()), "not once in five times");
}

#[test]
fn a_small_stream_repeats_its_last_frame_when_none_follows() {
    let server = start(&["--fps", "1"]);
    let mut stream = Stream::open(server.addr(), "/video_feed?width=320");
    soon(|| {
        let (frame, again) = (stream.frame(), stream.part());
        (frame.timestamp, frame.jpeg) == (again.timestamp, again.jpeg)
    });
}

#[test]
fn who_comes_between_two_frames_is_shown_the_last_one_at_once() {
    let server = start(&["--fps", "1"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    soon(|| {
        let newest = plain.frame();
        let mut small = Stream::open(server.addr(), "/video_feed?width=320");
        small.part().timestamp == newest.timestamp
    });
}

/// A snapshot that may be older is not made to wait for the next frame, whatever its size.
#[test]
fn a_fresh_frame_is_made_smaller_for_a_snapshot_that_may_be_older() {
    let server = start(&["--fps", "1"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    soon(|| {
        let newest = plain.frame().timestamp;
        let reply = server.get("/snapshot?width=320&max_age=900").expect(200);
        let taken: f64 = reply.header("X-Timestamp").expect("a time").parse().unwrap();
        taken == newest
    });
}

/// Each of these would leave a thread in the middle of a picture.
#[test]
fn wishes_that_come_and_go_do_not_make_threads_pile_up() {
    let server = start(&["--fps", "30"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    plain.part();
    let usual = server.threads();
    for _ in 0..60 {
        let mut client = Client::connect(server.addr());
        client
            .send(format!("GET /video_feed?width=560 HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr()));
        plain.frame();
        drop(client);
        assert!(server.threads() <= usual + 1, "{} threads", server.threads());
    }
    assert!(until(PATIENCE, || (server.threads() == usual).then_some(())).is_some(), "it ends");
}
