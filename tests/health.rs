//! What the house tells of itself: `/status`, `/metrics`, `/healthz`.

mod util;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use util::client::ask;
use util::{Folder, PATIENCE, Server, Stream, get, until};

fn status(server: &Server) -> Value {
    let reply = get(server.addr(), "/status").expect(200);
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// Prometheus' text format, read strictly: each sample behind HELP and TYPE of its metric, no
/// metric in two places, every label in quotes, every value a number.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let reply = get(server.addr(), "/metrics").expect(200);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(reply.header("Content-Type"), Some(kind));
    let text = reply.text();
    assert!(text.ends_with('\n'), "the last line has an end");
    let (mut samples, mut names) = (BTreeMap::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").expect(line).split_once(' ').expect(line);
        assert!(!help.is_empty() && !names.contains(&name), "{line}");
        names.push(name);
        let kind = lines.next().expect("a type");
        let kind = kind.strip_prefix(&format!("# TYPE {name} ")).expect(kind);
        assert!(["counter", "gauge"].contains(&kind), "{kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let mut count = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            let labels = sample.strip_prefix(name).expect(line);
            let pair = labels.strip_prefix('{').and_then(|l| l.strip_suffix("\"}"));
            assert!(labels.is_empty() || pair.is_some_and(|l| l.contains("=\"")), "{line}");
            let value = value.parse().expect(line);
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{line} twice");
            count += 1;
        }
        assert!(count > 0, "no sample of {name}");
    }
    samples
}

#[test]
fn metrics_count_what_happens() {
    let server = Server::start(&["--camera", "test"]);
    server.wait_for_log("camera: the test picture", PATIENCE);
    let before = metrics(&server);
    for name in ["pistream_viewers", "pistream_camera_fps{camera=\"1\"}", "pistream_photos"] {
        assert_eq!(before[name], 0.0, "{name}");
    }
    assert_eq!(before["pistream_camera_online{camera=\"1\"}"], 1.0);
    let mut fast = Stream::open(server.addr(), "/video_feed");
    let mut slow = Stream::open(server.addr(), "/video_feed?fps=2");
    (0..20).for_each(|_| drop(fast.frame()));
    (0..2).for_each(|_| drop(slow.frame()));
    get(server.addr(), "/nowhere").expect(404);
    let photo = "POST /photo HTTP/1.0\r\nContent-Length: 0\r\n\r\n";
    ask(server.addr(), photo.as_bytes()).expect(201);
    let during = metrics(&server);
    assert_eq!(during["pistream_viewers"], 2.0);
    assert!(during["pistream_connections"] >= 3.0);
    assert!(during["pistream_frames_sent_total"] >= 22.0);
    assert!(during["pistream_frames_missed_total{reason=\"unasked\"}"] >= 8.0);
    assert_eq!(during["pistream_answers_total{class=\"4xx\"}"], 1.0);
    assert!(during["pistream_answers_total{class=\"2xx\"}"] >= 4.0);
    assert!(during["pistream_sent_bytes_total"] > 20.0 * 5_000.0);
    assert!((5.0..20.0).contains(&during["pistream_camera_fps{camera=\"1\"}"]));
    assert!(during["pistream_camera_frame_age_seconds{camera=\"1\"}"] < 5.0);
    assert_eq!(during["pistream_photos"], 1.0);
    assert!(during["pistream_photos_bytes"] > 1000.0);
    assert!(during["pistream_disk_free_bytes"] > 0.0);
    assert!((1e6..1e9).contains(&during["process_resident_memory_bytes"]));
    // What those who have gone took still counts.
    drop((fast, slow));
    let gone = until(PATIENCE, || Some(metrics(&server)).filter(|m| m["pistream_viewers"] == 0.0));
    let gone = gone.expect("they are gone");
    for (name, value) in during.iter().filter(|(name, _)| name.contains("_total")) {
        assert!(gone[name] >= *value, "{name} fell from {value} to {}", gone[name]);
    }
}

#[test]
fn the_status_tells_how_each_viewer_fares() {
    let server = Server::start(&["--camera", "test", "--fps", "20", "--size", "1280x720"]);
    let mut fast = Stream::open(server.addr(), "/video_feed?width=320");
    let mut slow = Stream::open(server.addr(), "/video_feed?fps=5");
    let stuck = Stream::open(server.addr(), "/video_feed");
    // Time for the one who does not read to fill what the kernel takes.
    let over = Arc::new(AtomicBool::new(false));
    let done = over.clone();
    let watching = thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            slow.frame();
        }
    });
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        fast.frame();
    }
    let status = status(&server);
    over.store(true, Ordering::Relaxed);
    watching.join().expect("the slow viewer");
    assert_eq!(status["viewers"], 3);
    let watching = status["watching"].as_array().expect("a list");
    let find = |test: &dyn Fn(&Value) -> bool| {
        watching.iter().find(|viewer| test(viewer)).unwrap_or_else(|| panic!("{status}"))
    };
    let small = find(&|viewer| viewer["width"] == 320);
    assert!(small["frames"].as_u64().expect("a number") >= 20, "{small}");
    assert!(small["age"].as_f64().expect("seconds") < 2.0, "{small}");
    assert_eq!(small["address"], "127.0.0.1");
    let paced = find(&|viewer| viewer["unasked"].as_u64().is_some_and(|n| n > 10));
    assert!((2.0..9.0).contains(&paced["fps"].as_f64().expect("a rate")), "{paced}");
    let shut = find(&|viewer| viewer["gate_open"] == false);
    assert!(shut["queued"].as_u64().expect("bytes") > 10_000, "{shut}");
    assert!(shut["seconds"].as_u64().expect("seconds") >= 3, "{shut}");
    drop(stuck);
    assert!(status["camera"]["age"].as_f64().expect("seconds") < 2.0, "{status}");
    assert_eq!(status["camera"]["fps_asked"], 20);
    assert!(status["memory"].as_u64().expect("bytes") > 1_000_000);
    let page = ask(server.addr(), b"GET /status HTTP/1.0\r\nAccept: text/html\r\n\r\n").text();
    for part in ["<h2>Viewers</h2>", "127.0.0.1", "Age of the picture"] {
        assert!(page.contains(part), "no {part}: {page}");
    }
}

#[test]
fn the_last_minutes_are_drawn_and_an_idle_house_notes_nothing() {
    let server = Server::start(&["--camera", "test"]);
    let page = || ask(server.addr(), b"GET /status HTTP/1.0\r\nAccept: text/html\r\n\r\n").text();
    assert!(!page().contains("<svg viewBox"));
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let drawn = until(PATIENCE, || {
        stream.frame();
        Some(page()).filter(|page| page.contains("<svg viewBox"))
    });
    let drawn = drawn.expect("plots after some seconds");
    assert_eq!(drawn.matches("<figure>").count(), 3, "{drawn}");
    assert!(drawn.contains("d=\"M0.0 "), "{drawn}");
}

#[test]
fn health_is_that_of_frames_that_are_asked_for() {
    let health = |server: &Server| get(server.addr(), "/healthz");
    let server = Server::start(&["--camera", "test"]);
    assert_eq!(health(&server).expect(200).text(), "ok\n");
    let mut stream = Stream::open(server.addr(), "/video_feed");
    (0..3).for_each(|_| drop(stream.frame()));
    health(&server).expect(200);

    let server = Server::start(&["--camera", "/dev/pistream-none"]);
    health(&server).expect(200); // nobody asks
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    let reply = health(&server).expect(503);
    assert!(reply.text().contains("/dev/pistream-none"), "{}", reply.text());
    assert!(reply.header("Retry-After").is_some());
    drop(stream);
    let well = until(PATIENCE, || (health(&server).status == 200).then_some(()));
    well.expect("well again, for nobody asks");

    // Open to whoever watches over it, and tells nothing else.
    let folder = Folder::new();
    let hash = bcrypt::hash("x", 4).expect("a hash");
    let file = folder.write("passwords", format!("a:{hash}")).display().to_string();
    let server = Server::start(&["--camera", "test", "--password-file", &file]);
    health(&server).expect(200);
    get(server.addr(), "/metrics").expect(401);
}
