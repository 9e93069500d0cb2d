//! The real binary with its own test picture, spoken to over real sockets: the stream byte for
//! byte, snapshots, static pages, the connection's life, the command line, and the two programs
//! that people use first, `telnet` and `nc`.
//!
//! Bad input has a file of its own (`hostile.rs`), and so have crowds of viewers (`crowd.rs`).

mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use util::client::find;
use util::{
    Client, Folder, PATIENCE, Reply, Server, Stream, command, decode, median, one_line, run, until,
};

fn start() -> Server {
    Server::start(&["--camera", "test"])
}

fn start_with(args: &[&str]) -> Server {
    Server::start(&[&["--camera", "test"], args].concat())
}

// ---- the tests' own reader -------------------------------------------------------------------

#[test]
fn the_reader_of_these_tests_forgives_nothing() {
    let good = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\
                X-Timestamp: 1795334017.312000\r\n\r\n\u{1}\u{2}\u{3}\u{4}\u{5}\r\n--frame\r\n";
    let read = |text: &str| {
        // One character a byte, and the five bytes of the smallest thing that looks like a JPEG.
        let jpeg =
            |byte: u8| if byte < 6 { b"\xff\xd8\xff\xff\xd9"[byte as usize - 1] } else { byte };
        let mut parts = util::Parts::default();
        let bytes: Vec<u8> = text.bytes().map(jpeg).collect();
        // Cut at every place: what is wrong is wrong however it comes.
        for byte in &bytes {
            parts.push(&[*byte]);
            match parts.next() {
                Ok(None) => {}
                Ok(Some(part)) => return Some(part.jpeg.len()),
                Err(_) => return None,
            }
        }
        Some(0)
    };
    assert_eq!(read(good), Some(5));
    for (what, instead) in [
        ("--frame\r\nC", "\r\n--frame\r\nC"),
        ("--frame\r\nC", "--frame\nC"),
        ("--frame\r\nC", "frame\r\nC"),
        ("Content-Length", "Content-length"),
        (": image/jpeg", ":image/jpeg"),
        ("image/jpeg", "image/jpeg; x=y"),
        ("Length: 5", "Length: 05x"),
        ("Length: 5", "Length: 4"),
        ("Length: 5", "Length: 6"),
        ("Length: 5", "Length: "),
        ("X-Timestamp", "X-TimeStamp"),
        (".312000", ".312"),
        (".312000", ""),
        ("000\r\n\r\n", "000\r\nX: y\r\n\r\n"),
        ("\u{5}\r\n--frame", "\u{5}\n--frame"),
        ("\u{5}\r\n--frame", "\u{5}--frame"),
        ("\u{5}\r\n--frame\r\n", "\u{5}\r\n--frame--\r\n"),
        ("\u{4}\u{5}", "\u{4}\u{4}"),
        ("\u{1}\u{2}", "\u{2}\u{2}"),
    ] {
        assert!(good.contains(what), "{what:?}");
        assert_eq!(read(&good.replacen(what, instead, 1)), None, "{instead:?} for {what:?}");
    }
    let head = "HTTP/1.1 404 Not Found\r\nServer: pistream/1\r\nContent-Length: 5\r\n\r\n";
    let parse = |text: &str| util::Head::parse(text.as_bytes());
    assert!(parse(head).is_ok_and(|head| head.is_some()));
    assert!(parse(&head[..head.len() - 1]).is_ok_and(|head| head.is_none()));
    for (what, instead) in [
        ("HTTP/1.1", "HTTP/1.2"),
        ("HTTP/1.1", "HTTP/1.1 "),
        (" Not Found", ""),
        ("404", "4040"),
        ("\r\nServer", "\nServer"),
        ("Server: ", "Server:"),
        ("Server: ", "Server:  "),
        ("Server: ", "Server : "),
        ("Server: pistream/1", "Content-Length: 5"),
        ("Server: pistream/1", "Transfer-Encoding: chunked"),
        ("pistream/1", "pistream/1 "),
        ("pistream/1", ""),
        ("pistream/1", "\u{fc}"),
    ] {
        assert!(parse(&head.replacen(what, instead, 1)).is_err(), "{instead:?} for {what:?}");
    }
}

// ---- the stream ------------------------------------------------------------------------------

#[test]
fn the_stream_is_byte_for_byte_as_promised() {
    let server = start();
    let addr = server.addr();
    let host = "Host: camera.local\r\n";
    let kept = "Connection: keep-alive\r\n";
    for (version, fields) in [("HTTP/1.0", ""), ("HTTP/1.0", kept), ("HTTP/1.1", host)] {
        let request = format!("GET /video_feed {version}\r\n{fields}\r\n");
        let mut stream = Stream::ask(addr, &request);
        assert_eq!((stream.head.version.as_str(), stream.head.reason.as_str()), (version, "OK"));
        let names = ["Content-Type", "Connection", "Server", "Date", "Cache-Control"];
        assert_eq!(stream.head.names(), names);
        let value = |name| stream.head.header(name).unwrap().to_owned();
        assert_eq!(value("Content-Type"), "multipart/x-mixed-replace; boundary=frame");
        assert_eq!(value("Connection"), "close");
        assert_eq!(value("Server"), concat!("pistream/", env!("CARGO_PKG_VERSION")));
        assert_eq!(value("Cache-Control"), "no-store");
        expect_now(&value("Date"));
        // `Stream` itself holds the body to the contract, byte for byte.
        let (first, second) = (stream.frame(), stream.frame());
        let captured = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(second.timestamp);
        expect_now(&httpdate::fmt_http_date(captured));
        let ((width, height, before), (_, _, after)) = (decode(&first.jpeg), decode(&second.jpeg));
        assert_eq!((width, height), (640, 480));
        assert_ne!(before, after, "the test picture moves");
    }
}

#[track_caller]
fn expect_now(date: &str) {
    let date = httpdate::parse_http_date(date).unwrap_or_else(|_| panic!("{date:?} is no date"));
    let now = SystemTime::now();
    let off = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap();
    assert!(off < Duration::from_secs(60), "{off:?} off");
}

#[test]
fn the_boundary_leaves_with_the_frame_and_not_with_the_next_one() {
    let server = start_with(&["--fps", "2"]);
    let mut client = Client::connect(server.addr());
    client.send("GET /video_feed?fps=2 HTTP/1.0\r\n\r\n");
    let mut socket = client.socket();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut times) = (Vec::new(), Vec::new());
    let mut chunk = [0; 4096];
    let parts = |bytes: &[u8]| bytes.windows(9).filter(|w| w == b"--frame\r\n").count();
    while parts(&bytes) < 7 {
        let count = socket.read(&mut chunk).expect("more of the stream");
        assert!(count > 0, "the stream ended");
        bytes.extend_from_slice(&chunk[..count]);
        times.push((bytes.len(), Instant::now()));
    }
    let came = |offset: usize| times.iter().find(|(len, _)| *len > offset).unwrap().1;
    let (mut tails, mut pauses) = (Vec::new(), Vec::new());
    let mut from = find(&bytes, b"\r\n\r\n").unwrap() + 4;
    while let Some(head) = find(&bytes[from..], b"\r\n\r\n") {
        let jpeg = from + head + 4;
        let length = |line: &str| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok();
        let text = String::from_utf8_lossy(&bytes[from..jpeg]);
        let end = jpeg + text.lines().find_map(length).expect("Content-Length");
        if bytes.len() < end + 12 {
            break;
        }
        assert_eq!(&bytes[end..end + 11], b"\r\n--frame\r\n");
        tails.push((came(end + 10) - came(end - 1)).as_secs_f64());
        pauses.push((came(end + 11) - came(end - 1)).as_secs_f64());
        from = end + 11;
    }
    assert!(tails.len() >= 5, "{tails:?}");
    let (tail, pause) = (median(&tails), median(&pauses));
    assert!(tail < pause / 4.0, "{tail} s behind the picture; the next part {pause} s");
}

#[test]
fn no_other_site_may_read_the_stream() {
    let server = start();
    let origin = "Host: 127.0.0.1\r\nOrigin: http://elsewhere.example\r\n";
    let stream = format!("GET /video_feed HTTP/1.1\r\n{origin}\r\n");
    let head = Stream::ask(server.addr(), &stream).head;
    assert_eq!(head.header("Access-Control-Allow-Origin"), None);
    let preflight = "Access-Control-Request-Method: GET\r\nConnection: close\r\n";
    let request = format!("OPTIONS /video_feed HTTP/1.1\r\n{origin}{preflight}\r\n");
    let reply = server.ask(request.as_bytes());
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    assert_eq!(reply.header("Access-Control-Allow-Origin"), None);
    expect_allow(&reply, &["GET", "HEAD", "OPTIONS"]);
}

#[test]
fn each_name_that_other_programs_use_leads_to_the_stream_or_the_snapshot() {
    let server = start();
    for target in ["/video_feed", "/?action=stream", "/stream", "/stream.mjpg"] {
        let mut stream = Stream::open(server.addr(), target);
        decode(&stream.part().jpeg);
    }
    for target in ["/snapshot", "/snapshot.jpg", "/?action=snapshot"] {
        decode(&server.get(target).expect(200).body);
    }
}

#[test]
fn query_parameters_that_nobody_knows_are_ignored() {
    let server = start();
    let noise = "timestamp=1795334017&bypassCache=17&cacheBust&1795334017&=&&%ff=%00";
    for target in ["/video_feed", "/stream"] {
        Stream::open(server.addr(), &format!("{target}?{noise}")).part();
    }
    decode(&server.get(&format!("/snapshot?{noise}")).expect(200).body);
    let page = server.get(&format!("/?{noise}")).expect(200);
    assert_eq!(page.body, server.get("/").body);
}

#[test]
fn a_viewer_gets_the_frame_rate_it_asks_for_and_the_others_their_own() {
    let server = start_with(&["--fps", "30"]);
    let addr = server.addr();
    let watch = move |target: &'static str| {
        move || {
            let mut stream = Stream::open(addr, target);
            let (first, end) = (stream.part().timestamp, Instant::now() + Duration::from_secs(3));
            let (mut count, mut last) = (0.0, first);
            while Instant::now() < end {
                (count, last) = (count + 1.0, stream.part().timestamp);
            }
            count / (last - first)
        }
    };
    let (full, slow) = (watch("/video_feed"), watch("/video_feed?fps=5"));
    let (full, slow) = (thread::spawn(full), thread::spawn(slow));
    let (full, slow) = (full.join().unwrap(), slow.join().unwrap());
    assert!(slow <= 5.0 * 1.1, "{slow} frames a second, asked for at most 5");
    assert!(slow >= 5.0 * 0.7 * full / 30.0, "{slow} frames a second, asked for 5");
    assert!(full > 2.0 * slow, "{full} frames a second beside a viewer with {slow}");
}

#[test]
fn a_frame_rate_that_is_no_positive_number_is_refused() {
    let server = start();
    for fps in ["0", "x", "-1", "5x", "nan", "0.0"] {
        let reply = server.get(&format!("/video_feed?fps={fps}")).expect(400);
        assert!(reply.text().contains("fps"), "{}", reply.text());
    }
}

/// Chrome draws a part only when the next one begins.
#[test]
fn a_frame_is_sent_once_more_when_none_follows_but_not_to_slow_viewers() {
    let server = start_with(&["--fps", "1"]);
    let addr = server.addr();
    let stamps = |target: &str, count: usize| {
        let mut stream = Stream::open(addr, target);
        let parts: Vec<_> = (0..count).map(|_| stream.part()).collect();
        for pair in parts.windows(2).filter(|pair| pair[0].timestamp == pair[1].timestamp) {
            assert_eq!(pair[0].jpeg, pair[1].jpeg, "one time stamp, two pictures");
        }
        assert!(parts.is_sorted_by_key(|part| part.timestamp), "out of order");
        let mut times: Vec<(f64, usize)> = Vec::new();
        for part in &parts {
            match times.last_mut() {
                Some(last) if last.0 == part.timestamp => last.1 += 1,
                _ => times.push((part.timestamp, 1)),
            }
        }
        times
    };
    let plain = stamps("/video_feed", 9);
    assert!(plain.iter().all(|(_, count)| *count <= 2), "{plain:?}");
    let repeated = plain.iter().filter(|(_, count)| *count == 2).count();
    assert!(repeated >= 3, "{plain:?}");
    let slow = stamps("/video_feed?fps=2", 4);
    assert!(slow.iter().all(|(_, count)| *count == 1), "{slow:?}");
}

#[test]
fn a_camera_that_is_not_there_gives_no_signal_in_the_stream_and_503_for_a_snapshot() {
    let server = Server::start(&["--camera", "/dev/video-that-is-not-there"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let (first, second) = (stream.part(), stream.part());
    decode(&first.jpeg);
    decode(&second.jpeg);
    assert!(second.timestamp - first.timestamp > 0.8, "more than one a second");
    let reply = server.get("/snapshot").expect(503);
    assert!(reply.text().contains("/dev/video-that-is-not-there"), "{}", reply.text());
    assert!(!reply.body.starts_with(b"\xff\xd8"));
    stream.part();
}

// ---- snapshots -------------------------------------------------------------------------------

#[test]
fn a_snapshot_is_one_whole_jpeg_that_nobody_may_store() {
    let server = start();
    let reply = server.get("/snapshot").expect(200);
    assert_eq!(reply.header("Content-Type"), Some("image/jpeg"));
    assert_eq!(reply.header("Content-Length"), Some(reply.body.len().to_string().as_str()));
    assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    let (width, height, _) = decode(&reply.body);
    assert_eq!((width, height), (640, 480));
}

#[test]
fn snapshots_asked_for_at_once_share_the_next_frame() {
    let server = start_with(&["--fps", "1"]);
    let mut stream = Stream::open(server.addr(), "/video_feed?fps=2");
    stream.part();
    stream.part();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(server.addr())).collect();
    let before = stream.part();
    for client in &mut clients {
        client.send("GET /snapshot HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    let replies: Vec<Reply> = clients.iter_mut().map(Client::reply).collect();
    let after = stream.part();
    for reply in &replies {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("X-Timestamp"), replies[0].header("X-Timestamp"));
        assert_ne!(reply.body, before.jpeg, "not the next frame");
        assert_eq!(reply.body, after.jpeg, "not the frame that the stream had");
    }
    let stamp = |part: &util::Part| part.headers[2].1.clone();
    assert_eq!(replies[0].header("X-Timestamp"), Some(stamp(&after).as_str()));
}

#[test]
fn a_snapshot_may_be_as_old_as_its_max_age_says() {
    let server = start_with(&["--fps", "1"]);
    let mut stream = Stream::open(server.addr(), "/video_feed?fps=2");
    stream.part();
    let mut at_once = 0;
    for _ in 0..4 {
        let newest = stream.part();
        let old = server.get("/snapshot?max_age=60000").expect(200);
        at_once += usize::from(old.body == newest.jpeg);
        let next = server.get("/snapshot").expect(200);
        assert_ne!(next.body, newest.jpeg, "without max_age: the next frame");
    }
    assert!(at_once > 0, "with max_age: the frame that is there");
}

#[test]
fn head_tells_about_the_stream_and_the_snapshot_and_starts_no_camera() {
    let server = start();
    assert!(server.comes_to_rest(PATIENCE));
    let mut client = Client::connect(server.addr());
    for target in ["/video_feed", "/snapshot", "/?action=stream", "/?action=snapshot"] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: pi\r\n\r\n"));
        let reply = client.reply_to_head().expect(200);
        let types = ["multipart/x-mixed-replace; boundary=frame", "image/jpeg"];
        let wanted = types[usize::from(target.contains("snapshot"))];
        assert_eq!(reply.header("Content-Type"), Some(wanted));
        assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    }
    // The connection is still there, so nothing that it began has ended with it.
    client.expect_silence(Duration::from_millis(10));
    assert!(server.comes_to_rest(Duration::from_secs(5)), "a camera runs");
    client.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
}

#[test]
fn the_camera_stops_when_nobody_watches_and_starts_for_the_next_viewer() {
    let server = start_with(&["--idle-off", "1s", "--fps", "30"]);
    for _ in 0..2 {
        let mut stream = Stream::open(server.addr(), "/video_feed");
        stream.frame();
        stream.frame();
        assert!(!server.comes_to_rest(Duration::from_secs(2)), "frames without a thread");
        stream.part();
        drop(stream);
        assert!(server.comes_to_rest(PATIENCE), "the camera runs for nobody");
    }
}

#[test]
fn nobody_is_shown_a_picture_of_the_past() {
    let server = start_with(&["--fps", "30", "--idle-off", "30s"]);
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Three ways to leave a frame behind: a viewer that went, a snapshot on a connection that
    // stays, and both while the camera still runs.
    let mut kept = Client::connect(server.addr());
    for round in 0..3 {
        if round != 1 {
            kept.send("GET /snapshot?now=1 HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
        }
        if round != 0 {
            Stream::open(server.addr(), "/video_feed").part();
        }
        thread::sleep(Duration::from_millis(1500));
        let asked = since_1970().as_secs_f64();
        let first = Stream::open(server.addr(), "/video_feed").part().timestamp;
        assert!(first > asked - 0.7, "{} s old, round {round}", asked - first);
        thread::sleep(Duration::from_millis(1500));
        let asked = since_1970().as_secs_f64();
        let reply = server.get("/snapshot").expect(200);
        let taken: f64 = reply.header("X-Timestamp").unwrap().parse().unwrap();
        assert!(taken > asked - 0.1, "{} s before it was asked for", asked - taken);
    }
}

#[test]
fn the_test_picture_has_the_size_that_was_asked_for() {
    let server = start_with(&["--size", "320x240"]);
    let (width, height, _) = decode(&server.get("/snapshot?now=1").expect(200).body);
    assert_eq!((width, height), (320, 240));
}

// ---- the connection --------------------------------------------------------------------------

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let server = start();
    let mut client = Client::connect(server.addr());
    for _ in 0..3 {
        client.send("GET /app.css HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
        client.send("GET /nothing HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(404);
        let snapshot = client.send("GET /snapshot?now=1 HTTP/1.1\r\nHost: pi\r\n\r\n").reply();
        decode(&snapshot.expect(200).body);
        client.send("HEAD / HTTP/1.1\r\nHost: pi\r\n\r\n").reply_to_head().expect(200);
    }
    client.expect_silence(Duration::from_millis(300));
    let last = client.send("GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n").reply();
    assert_eq!(last.expect(200).header("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn requests_in_one_write_are_answered_each_and_in_order() {
    let site = Folder::new();
    site.write("one.txt", "first file");
    site.write("two.txt", "second file");
    let server = start_with(&["--www", site.arg()]);
    let mut client = Client::connect(server.addr());
    let targets = ["/one.txt", "/nothing", "/two.txt", "/snapshot?now=1", "/one.txt", "/two.txt"];
    let ask = |target: &&str| format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n");
    client.send(targets.iter().map(ask).collect::<String>());
    assert_eq!(client.reply().expect(200).text(), "first file");
    client.reply().expect(404);
    assert_eq!(client.reply().expect(200).text(), "second file");
    decode(&client.reply().expect(200).body);
    assert_eq!(client.reply().expect(200).text(), "first file");
    assert_eq!(client.reply().expect(200).text(), "second file");
    // HEAD between them shifts nothing, and what follows a `close` is not answered.
    client.send("HEAD /one.txt HTTP/1.1\r\nHost: pi\r\n\r\n");
    client.send("GET /two.txt HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
    client.send("GET /one.txt HTTP/1.1\r\nHost: pi\r\n\r\n");
    assert_eq!(client.reply_to_head().expect(200).header("Content-Length"), Some("10"));
    assert_eq!(client.reply().expect(200).text(), "second file");
    client.expect_end();
}

#[test]
fn many_pipelined_requests_are_all_answered() {
    let server = start();
    let mut client = Client::connect(server.addr());
    let count = 500;
    client.send("GET /nothing HTTP/1.1\r\nHost: pi\r\n\r\n".repeat(count));
    for _ in 0..count {
        client.reply().expect(404);
    }
    client.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
}

#[test]
fn http_1_0_keeps_alive_only_when_asked_and_says_so() {
    let server = start();
    let reply = server.ask(b"GET / HTTP/1.0\r\n\r\n").expect(200);
    assert_ne!(reply.header("Connection"), Some("keep-alive"));
    let mut client = Client::connect(server.addr());
    for _ in 0..3 {
        let request = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
        let reply = client.send(request).reply().expect(200);
        assert_eq!(reply.header("Connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n").reply().expect(200);
    client.expect_end();
}

#[test]
fn connection_options_count_in_any_case_and_among_others() {
    let server = start();
    for option in ["close", "Close", "CLOSE", "foo, close", "close , foo"] {
        let request = format!("GET / HTTP/1.1\r\nHost: pi\r\nConnection: {option}\r\n\r\n");
        server.ask(request.as_bytes()).expect(200);
    }
}

#[test]
fn lines_may_end_with_lf_alone_and_begin_with_an_empty_one() {
    let server = start();
    for request in [
        "GET / HTTP/1.0\n\n",
        "GET / HTTP/1.1\nHost: pi\nConnection: close\n\n",
        "GET / HTTP/1.1\r\nHost: pi\nConnection: close\r\n\n",
        "\r\nGET / HTTP/1.0\r\n\r\n",
    ] {
        server.ask(request.as_bytes()).expect(200);
    }
    Stream::ask(server.addr(), "GET /video_feed HTTP/1.0\n\n").part();
}

#[test]
fn a_half_close_ends_neither_a_reply_nor_a_stream() {
    let site = Folder::new();
    let content = noise(3_000_000);
    site.write("big.bin", &content);
    let server = start_with(&["--www", site.arg()]);
    for (target, jpeg) in [("/snapshot", true), ("/big.bin", false)] {
        let mut client = Client::connect(server.addr());
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        client.socket().shutdown(Shutdown::Write).unwrap();
        let body = client.reply().expect(200).body;
        match jpeg {
            true => assert_eq!(decode(&body).0, 640),
            false => assert!(body == content, "the file is not what came"),
        }
        client.expect_end();
    }
    let mut stream = Stream::ask(server.addr(), "GET /video_feed HTTP/1.0\r\n\r\n");
    stream.socket().shutdown(Shutdown::Write).unwrap();
    (0..10).for_each(|_| drop(stream.frame()));
    // Two requests and then the end: both are answered.
    let mut client = Client::connect(server.addr());
    client.send("GET /nothing HTTP/1.1\r\nHost: pi\r\n\r\nGET / HTTP/1.1\r\nHost: pi\r\n\r\n");
    client.socket().shutdown(Shutdown::Write).unwrap();
    client.reply().expect(404);
    client.reply().expect(200);
    client.expect_end();
}

#[test]
fn what_a_viewer_sends_during_the_stream_is_thrown_away() {
    let server = start_with(&["--fps", "30"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    let memory = server.rss_kib();
    thread::scope(|scope| {
        let chatter = scope.spawn(|| {
            let mut socket = stream.socket().try_clone().unwrap();
            socket.set_write_timeout(Some(PATIENCE)).unwrap();
            let request = "GET / HTTP/1.1\r\nHost: pi\r\n\r\n".repeat(1000);
            for _ in 0..300 {
                socket.write_all(request.as_bytes()).expect("it is taken");
            }
        });
        // 8 MB of requests, and not one reply in the stream: `part` would not understand it.
        let mut other = Stream::open(server.addr(), "/video_feed");
        while !chatter.is_finished() {
            other.part();
        }
    });
    (0..20).for_each(|_| drop(stream.part()));
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more");
}

#[test]
fn a_real_telnet_typed_with_pauses_shows_the_protocol() {
    let server = start();
    let port = server.addr().port().to_string();
    let mut telnet = Tool::start(Command::new("telnet").args(["127.0.0.1", &port]));
    telnet.wait_for("Escape character is '^]'.");
    for typed in ["GET /vid", "eo_feed HT", "TP/1.0\n", "User-Agent: fin", "gers\n", "\n"] {
        thread::sleep(Duration::from_millis(200));
        telnet.type_in(typed);
    }
    // JPEGs hold bytes that telnet takes for commands and answers; the stream goes on anyway.
    telnet.wait_for_count("--frame", 6);
    let shown = telnet.shown().replace("\r\n", "\n");
    let transcript = shown.split_once("'^]'.\n").expect("a banner").1;
    let lines: Vec<&str> = transcript.lines().collect();
    assert_eq!(lines[0], "HTTP/1.0 200 OK");
    assert_eq!(lines[1], "Content-Type: multipart/x-mixed-replace; boundary=frame");
    assert_eq!(lines[2], "Connection: close");
    assert_eq!(lines[3], concat!("Server: pistream/", env!("CARGO_PKG_VERSION")));
    expect_now(lines[4].strip_prefix("Date: ").expect("Date"));
    assert_eq!(lines[5..9], ["Cache-Control: no-store", "", "--frame", "Content-Type: image/jpeg"]);
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    assert!(decimal(lines[9].strip_prefix("Content-Length: ").expect("Content-Length")));
    let stamp = lines[10].strip_prefix("X-Timestamp: ").expect("X-Timestamp");
    assert!(stamp.split_once('.').is_some_and(|(s, u)| decimal(s) && decimal(u)), "{stamp}");
    assert_eq!(lines[11], "");
    let heads = transcript.matches("--frame\nContent-Type: image/jpeg\nContent-Length: ").count();
    assert!(heads >= 5, "{heads} parts");
}

#[test]
fn a_real_nc_that_half_closes_keeps_its_stream() {
    let server = start();
    let port = server.addr().port().to_string();
    let mut nc = Tool::start(Command::new("nc").args(["-N", "127.0.0.1", &port]));
    nc.type_in("GET /video_feed HTTP/1.0\r\n\r\n");
    nc.close_input();
    nc.wait_for_count("\r\n--frame\r\n", 8);
    assert!(nc.child.try_wait().unwrap().is_none(), "nc ended");
    let shown = nc.shown_bytes();
    assert!(shown.starts_with(b"HTTP/1.0 200 OK\r\n"));
    let mut parts = util::Parts::default();
    parts.push(&shown[find(&shown, b"\r\n\r\n").unwrap() + 4..]);
    let mut last = 0.0;
    for _ in 0..7 {
        let part = parts.next().expect("the stream").expect("a whole part");
        decode(&part.jpeg);
        assert!(part.timestamp >= last);
        last = part.timestamp;
    }
}

/// A program that talks to the server over its own socket, typed at through a pipe.
struct Tool {
    child: Child,
    shown: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Tool {
    fn start(command: &mut Command) -> Tool {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().expect("telnet and netcat-openbsd are installed");
        let mut stdout = child.stdout.take().unwrap();
        let shown = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = std::sync::Arc::clone(&shown);
        thread::spawn(move || {
            let mut chunk = [0; 65536];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                kept.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Tool { child, shown }
    }

    fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).expect("it reads");
        stdin.flush().unwrap();
    }

    fn close_input(&mut self) {
        self.child.stdin = None;
    }

    fn shown_bytes(&self) -> Vec<u8> {
        self.shown.lock().unwrap().clone()
    }

    /// What it showed, one character a byte.
    fn shown(&self) -> String {
        self.shown.lock().unwrap().iter().map(|byte| char::from(*byte)).collect()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.wait_for_count(text, 1);
    }

    #[track_caller]
    fn wait_for_count(&self, text: &str, count: usize) {
        let came = || (self.shown().matches(text).count() >= count).then_some(());
        if until(PATIENCE, came).is_none() {
            let shown: String = self.shown().chars().take(2000).collect();
            panic!("not {count} times {text:?} in {shown:?}");
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- static pages ----------------------------------------------------------------------------

/// `count` bytes without a pattern, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A request for a page with more header fields.
fn page(server: &Server, target: &str, fields: &str) -> Reply {
    let close = "Host: pi\r\nConnection: close\r\n";
    server.ask(format!("GET {target} HTTP/1.1\r\n{close}{fields}\r\n").as_bytes())
}

#[test]
fn the_built_in_pages_are_there_without_any_folder() {
    let server = start();
    let index = server.get("/").expect(200);
    assert!(index.header("Content-Type").unwrap().starts_with("text/html"), "{index:?}");
    assert!(index.text().contains("video_feed"), "no live picture on the page");
    assert_eq!(server.get("/index.html").expect(200).body, index.body);
    for (name, kind) in [("app.css", "text/css"), ("app.js", "text/javascript")] {
        let reply = server.get(&format!("/{name}")).expect(200);
        assert!(reply.header("Content-Type").unwrap().starts_with(kind), "{reply:?}");
        assert!(!reply.body.is_empty());
    }
    let etag = index.header("ETag").expect("ETag").to_owned();
    let reply = page(&server, "/", &format!("If-None-Match: {etag}\r\n")).expect(304);
    assert_eq!(reply.header("ETag"), Some(etag.as_str()));
}

#[test]
fn a_file_in_www_replaces_the_built_in_one_and_the_others_stay() {
    let built_in = start().get("/app.js").expect(200).body;
    let site = Folder::new();
    site.write("index.html", "<!doctype html><title>mine</title>");
    site.write("app.css", "body { color: green }");
    let server = start_with(&["--www", site.arg()]);
    assert_eq!(server.get("/").expect(200).text(), "<!doctype html><title>mine</title>");
    assert_eq!(server.get("/app.css").expect(200).text(), "body { color: green }");
    assert_eq!(server.get("/app.js").expect(200).body, built_in);
    // While it runs, too, and the other way round.
    site.write("app.js", "let mine;");
    assert_eq!(server.get("/app.js").expect(200).text(), "let mine;");
    std::fs::remove_file(site.path().join("app.js")).unwrap();
    assert_eq!(server.get("/app.js").expect(200).body, built_in);
}

#[test]
fn files_have_the_type_that_their_name_says() {
    let site = Folder::new();
    let types = [
        ("page.html", "text/html"),
        ("page.htm", "text/html"),
        ("style.css", "text/css"),
        ("code.js", "text/javascript"),
        ("data.json", "application/json"),
        ("plain.txt", "text/plain"),
        ("photo.jpg", "image/jpeg"),
        ("photo.JPEG", "image/jpeg"),
        ("drawing.png", "image/png"),
        ("drawing.svg", "image/svg+xml"),
        ("film.mp4", "video/mp4"),
        ("paper.pdf", "application/pdf"),
        ("font.woff2", "font/woff2"),
        ("what.is-this", "application/octet-stream"),
        ("nothing", "application/octet-stream"),
        ("sp ace ü%.txt", "text/plain"),
    ];
    types.iter().for_each(|(name, _)| drop(site.write(name, name)));
    let server = start_with(&["--www", site.arg()]);
    for (name, kind) in types {
        let target = name.replace('%', "%25").replace(' ', "%20").replace('ü', "%C3%BC");
        let reply = server.get(&format!("/{target}")).expect(200);
        let given = reply.header("Content-Type").unwrap();
        assert_eq!(given.split(';').next(), Some(kind), "{name}");
        if kind.starts_with("text/") {
            assert!(given.ends_with("charset=utf-8"), "{name}: {given}");
        }
        assert_eq!(reply.text(), name);
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"), "{name}");
    }
}

#[test]
fn a_folder_gives_its_index_page_and_its_name_without_slash_leads_there() {
    let site = Folder::new();
    site.write("sub/index.html", "below");
    site.write("sub/deeper/page.html", "deeper");
    site.write("b ar/index.html", "with a space");
    let server = start_with(&["--www", site.arg()]);
    assert_eq!(server.get("/sub/").expect(200).text(), "below");
    assert_eq!(server.get("/sub/deeper/page.html").expect(200).text(), "deeper");
    let reply = server.get("/sub");
    assert!(matches!(reply.status, 301 | 302 | 307 | 308), "{reply:?}");
    assert_eq!(reply.header("Location"), Some("./sub/"));
    let location = server.get("/b%20ar").header("Location").expect("Location").to_owned();
    assert_eq!(location, "./b%20ar/");
    assert_eq!(server.get("/b%20ar/").expect(200).text(), "with a space");
    server.get("/sub/deeper/").expect(404);
    server.get("/sub/deeper/page.html/").expect(404);
    server.get("/sub/index.html/x").expect(404);
    // `//sub` in a Location would be a host's name: an open redirect.
    let mut client = Client::connect(server.addr());
    client.send("GET //sub HTTP/1.1\r\nHost: pi\r\n\r\n");
    let reply = client.reply();
    assert!(reply.header("Location").is_none_or(|to| !to.starts_with("//")), "{reply:?}");
}

#[test]
fn a_page_that_the_client_has_is_not_sent_again() {
    let site = Folder::new();
    let path = site.write("page.txt", "some text");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
    let server = start_with(&["--www", site.arg()]);
    let whole = server.get("/page.txt").expect(200);
    let (etag, modified) = (whole.header("ETag").unwrap(), whole.header("Last-Modified").unwrap());
    assert_eq!(modified, httpdate::fmt_http_date(hour_ago));
    let earlier = httpdate::fmt_http_date(hour_ago - Duration::from_secs(60));
    let later = httpdate::fmt_http_date(hour_ago + Duration::from_secs(60));
    #[track_caller]
    fn check(server: &Server, fields: &str, status: u16) {
        let reply = page(server, "/page.txt", fields);
        assert_eq!(reply.status, status, "{fields}");
        assert_eq!(reply.body.is_empty(), status == 304);
        assert!(reply.header("ETag").is_some(), "{fields}");
    }
    check(&server, &format!("If-None-Match: {etag}\r\n"), 304);
    check(&server, &format!("If-None-Match: W/{}\r\n", etag.trim_start_matches("W/")), 304);
    check(&server, &format!("If-None-Match: \"other\", {etag}\r\n"), 304);
    check(&server, "If-None-Match: *\r\n", 304);
    check(&server, "If-None-Match: \"other\"\r\n", 200);
    check(&server, &format!("If-Modified-Since: {modified}\r\n"), 304);
    check(&server, &format!("If-Modified-Since: {later}\r\n"), 304);
    check(&server, &format!("If-Modified-Since: {earlier}\r\n"), 200);
    check(&server, "If-Modified-Since: yesterday\r\n", 200);
    // One of the future is from before the clock was set back.
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
    let future = httpdate::fmt_http_date(tomorrow);
    check(&server, &format!("If-Modified-Since: {future}\r\n"), 200);
    // If-None-Match counts alone where both are there (RFC 9110 §13.2.2).
    check(&server, &format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {later}\r\n"), 200);
    check(&server, &format!("If-None-Match: {etag}\r\nIf-Modified-Since: {earlier}\r\n"), 304);
    // Another content is another page.
    site.write("page.txt", "some other text");
    check(&server, &format!("If-None-Match: {etag}\r\n"), 200);
    check(&server, &format!("If-Modified-Since: {modified}\r\n"), 200);
    // And so is a file: it was not changed after it is sent (RFC 9110, section 8.8.2.1).
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(tomorrow).unwrap();
    let reply = server.get("/page.txt").expect(200);
    assert_eq!(reply.header("Last-Modified"), reply.header("Date"));
    // The connection goes on behind a 304, which has no body.
    let mut client = Client::connect(server.addr());
    let request = "GET /page.txt HTTP/1.1\r\nHost: pi\r\nIf-None-Match: *\r\n\r\n";
    client.send(request.repeat(2)).reply().expect(304);
    client.reply().expect(304);
    let head = request.replacen("GET", "HEAD", 1);
    client.send(head).reply_to_head().expect(304);
}

#[test]
fn a_part_of_a_file_can_be_asked_for() {
    let site = Folder::new();
    let content = "abcdefghijklmnopqrstuvwxyz";
    let path = site.write("letters.txt", content);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
    let server = start_with(&["--www", site.arg()]);
    let whole = server.get("/letters.txt").expect(200);
    assert_eq!(whole.header("Accept-Ranges"), Some("bytes"));
    #[track_caller]
    fn check(server: &Server, fields: &str, part: Option<(&str, &str)>) {
        let reply = page(server, "/letters.txt", fields);
        let (status, range, body) = match part {
            Some((range, body)) => (206, Some(range), body),
            None => (200, None, "abcdefghijklmnopqrstuvwxyz"),
        };
        assert_eq!((reply.status, reply.text().as_str()), (status, body), "{fields}");
        assert_eq!(reply.header("Content-Range"), range, "{fields}");
    }
    check(&server, "Range: bytes=0-4\r\n", Some(("bytes 0-4/26", "abcde")));
    check(&server, "Range: bytes=0-0\r\n", Some(("bytes 0-0/26", "a")));
    check(&server, "Range: bytes=20-\r\n", Some(("bytes 20-25/26", "uvwxyz")));
    check(&server, "Range: bytes=-3\r\n", Some(("bytes 23-25/26", "xyz")));
    check(&server, "Range: bytes=-999\r\n", Some(("bytes 0-25/26", content)));
    check(&server, "Range: bytes=24-999\r\n", Some(("bytes 24-25/26", "yz")));
    check(&server, "Range: bytes=25-18446744073709551615\r\n", Some(("bytes 25-25/26", "z")));
    // What is no range, or not ours, is as if it were not there (RFC 9110 §14.2).
    check(&server, "Range: bytes=5-3\r\n", None);
    check(&server, "Range: bytes=\r\n", None);
    check(&server, "Range: bytes=a-b\r\n", None);
    check(&server, "Range: letters=0-4\r\n", None);
    check(&server, "Range: bytes=0-1,4-5\r\n", None);
    for range in ["bytes=26-", "bytes=26-30", "bytes=-0", "bytes=99999999999999999999999-"] {
        let reply = page(&server, "/letters.txt", &format!("Range: {range}\r\n")).expect(416);
        assert_eq!(reply.header("Content-Range"), Some("bytes */26"), "{range}");
    }
    let etag = whole.header("ETag").unwrap();
    let modified = whole.header("Last-Modified").unwrap();
    let range = "Range: bytes=0-4\r\nIf-Range: ";
    let part = Some(("bytes 0-4/26", "abcde"));
    check(&server, &format!("{range}\"other\"\r\n"), None);
    check(&server, &format!("{range}{}\r\n", httpdate::fmt_http_date(SystemTime::now())), None);
    check(&server, &format!("{range}{modified}\r\n"), part);
    // Only a strong tag may join parts (RFC 9110 §13.1.5).
    check(&server, &format!("{range}{etag}\r\n"), part.filter(|_| !etag.starts_with("W/")));
    check(&server, &format!("{range}W/{}\r\n", etag.trim_start_matches("W/")), None);
    // A range of a page that the client has: not sent again.
    let fields = format!("Range: bytes=0-4\r\nIf-None-Match: {etag}\r\n");
    page(&server, "/letters.txt", &fields).expect(304);
    // HEAD knows no ranges (RFC 9110 §14.2).
    let mut client = Client::connect(server.addr());
    client.send("HEAD /letters.txt HTTP/1.1\r\nHost: pi\r\nRange: bytes=0-4\r\n\r\n");
    let head = client.reply_to_head().expect(200);
    assert_eq!(head.header("Content-Length"), Some("26"));
}

/// A large file is pulled from the disk piece by piece; its parts must fit together.
#[test]
fn a_part_of_a_large_file_is_exactly_that_part() {
    let site = Folder::new();
    let content = noise(300_000);
    site.write("big.bin", &content);
    let server = start_with(&["--www", site.arg()]);
    let mut client = Client::connect(server.addr());
    for (range, from, to) in [
        ("0-", 0, 300_000),
        ("0-0", 0, 1),
        ("65535-65536", 65_535, 65_537),
        ("65536-131071", 65_536, 131_072),
        ("65530-262150", 65_530, 262_151),
        ("100000-100009", 100_000, 100_010),
        ("299999-", 299_999, 300_000),
        ("-70000", 230_000, 300_000),
        ("-300001", 0, 300_000),
    ] {
        let request = "GET /big.bin HTTP/1.1\r\nHost: pi\r\n";
        client.send(format!("{request}Range: bytes={range}\r\n\r\n"));
        let reply = client.reply().expect(206);
        assert!(reply.body == content[from..to], "{range}: {} bytes", reply.body.len());
        let wanted = format!("bytes {from}-{}/300000", to - 1);
        assert_eq!(reply.header("Content-Range"), Some(wanted.as_str()));
    }
    let request = "GET /big.bin HTTP/1.1\r\nHost: pi\r\n";
    client.send(format!("{request}Range: bytes=300000-\r\n\r\n")).reply().expect(416);
    client.send(format!("{request}If-None-Match: *\r\n\r\n")).reply().expect(304);
    client.send("HEAD /big.bin HTTP/1.1\r\nHost: pi\r\n\r\n");
    let head = client.reply_to_head().expect(200);
    assert_eq!(head.header("Content-Length"), Some("300000"));
    assert!(client.send(format!("{request}\r\n")).reply().expect(200).body == content);
}

#[test]
fn an_empty_file_is_a_page_too() {
    let site = Folder::new();
    site.write("empty.txt", "");
    let server = start_with(&["--www", site.arg()]);
    let reply = server.get("/empty.txt").expect(200);
    assert_eq!(reply.header("Content-Length"), Some("0"));
    page(&server, "/empty.txt", "Range: bytes=0-\r\n").expect(416);
}

#[test]
fn head_answers_as_get_does_but_without_the_body() {
    let site = Folder::new();
    site.write("page.html", "text");
    site.write("sub/index.html", "text");
    let server = start_with(&["--www", site.arg()]);
    for target in ["/", "/page.html", "/app.css", "/nothing", "/sub", "/video_feed?fps=0"] {
        let get = server.get(target);
        let mut client = Client::connect(server.addr());
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n"));
        let head = client.reply_to_head();
        assert_eq!((head.status, head.fields()), (get.status, get.fields()), "{target}");
        client.expect_end();
    }
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let base = Folder::new();
    base.write("secret.txt", "SECRET");
    base.write("www/index.html", "index");
    base.write("www/sub/page.html", "page");
    base.write("www/.hidden", "SECRET");
    base.write("www/sub/.hidden/page.html", "SECRET");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, base.path().join("www").join(name)).unwrap();
    };
    let absolute = base.path().join("secret.txt").to_str().unwrap().to_owned();
    link("../secret.txt", "out.txt");
    link("..", "out");
    link(&absolute, "absolute.txt");
    link("loop", "loop");
    link("nothing", "dangling");
    link("/dev/zero", "zero");
    link("sub/page.html", "inside.html");
    link("sub", "inside");
    let www = base.path().join("www");
    let server = start_with(&["--www", www.to_str().unwrap()]);
    let name = base.path().file_name().unwrap().to_str().unwrap();
    let cases = [
        "/../secret.txt",
        "/./../secret.txt",
        "/sub/../../secret.txt",
        "/sub/../sub/page.html",
        "/..",
        "/../",
        "/%2e%2e/secret.txt",
        "/%2E%2E/secret.txt",
        "/.%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%2Fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub%2fpage.html",
        "/sub/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%00",
        "/index.html%00",
        "/index.html%00.jpg",
        "/out.txt",
        "/out/secret.txt",
        "/absolute.txt",
        "/loop",
        "/dangling",
        "/zero",
        "/.hidden",
        "/%2ehidden",
        "/sub/.hidden/page.html",
        "/.../secret.txt",
        "/secret.txt",
        &format!("/{absolute}"),
        &format!("/%2f{}", &absolute[1..]),
        &format!("/..;/{name}/secret.txt"),
        &format!("/{}", "a/".repeat(1500)),
        &format!("/{}", "a".repeat(3000)),
    ];
    for target in cases {
        let reply = server.get(target);
        assert!(!reply.text().contains("SECRET"), "{target}: {reply:?}");
        assert_eq!(reply.status, 404, "{target}: {reply:?}");
    }
    // The way back down is closed as well: nothing of the name outside reaches inside.
    let reply = server.get(&format!("/../{name}/www/index.html"));
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(server.get("/inside.html").expect(200).text(), "page");
    assert_eq!(server.get("/inside/page.html").expect(200).text(), "page");
    assert_eq!(server.get("/").expect(200).text(), "index");
}

#[test]
fn what_is_no_file_is_no_page_and_stops_nobody() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let site = Folder::new();
    site.write("page.txt", "text");
    let pipe = site.path().join("pipe.txt");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(site.path().join("socket.txt")).unwrap();
    let device = site.path().join("device.txt");
    // Only root may make a device; 1:3 is /dev/null.
    let mode = Mode::from_raw_mode(0o600);
    let devices = mknodat(CWD, &device, FileType::CharacterDevice, mode, 0x103).is_ok();
    let server = start_with(&["--www", site.arg()]);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server.addr())).collect();
    for client in &mut clients {
        client.send("GET /pipe.txt HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    server.get("/socket.txt").expect(404);
    if devices {
        server.get("/device.txt").expect(404);
    }
    for client in &mut clients {
        client.reply().expect(404);
    }
    assert_eq!(server.get("/page.txt").expect(200).text(), "text");
}

#[test]
fn a_big_file_is_whole_and_leaves_the_stream_and_the_memory_alone() {
    let site = Folder::new();
    let content = noise(20_000_000);
    site.write("big.bin", &content);
    let server = start_with(&["--www", site.arg(), "--fps", "30"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    // One that asks and never reads: 64 KiB of its file may lie in memory, not 20 MB.
    let mut stuck = Client::connect(server.addr());
    stuck.send("GET /big.bin HTTP/1.1\r\nHost: pi\r\n\r\n");
    let memory = server.rss_kib();
    let parts = thread::scope(|scope| {
        let download = scope.spawn(|| {
            let mut client = Client::connect(server.addr());
            for _ in 0..3 {
                client.send("GET /big.bin HTTP/1.1\r\nHost: pi\r\n\r\n");
                let whole = client.reply().expect(200).body == content;
                assert!(whole, "the file is not what came");
            }
        });
        let mut parts = 0;
        while !download.is_finished() {
            parts += usize::from(stream.next_part(Duration::from_millis(500)).is_ok());
        }
        parts
    });
    assert!(parts > 0, "the stream stood still");
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more");
    decode(&stream.part().jpeg);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    let site = Folder::new();
    let path = site.write("big.bin", noise(20_000_000));
    let server = start_with(&["--www", site.arg()]);
    let mut client = Client::connect(server.addr());
    client.send("GET /big.bin HTTP/1.1\r\nHost: pi\r\n\r\n");
    let mut socket = client.socket();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 4096];
    socket.read_exact(&mut first).expect("the first bytes");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let rest = match client.rest() {
        Ok(rest) => rest.len(),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{error}: neither the file nor an end"),
    };
    assert!(rest < 20_000_000, "the missing bytes were made up");
    assert_eq!(server.get("/big.bin").expect(200).body.len(), 1000);
}

#[test]
fn a_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was() {
    let site = Folder::new();
    let path = site.write("log.txt", noise(8_000_000));
    let server = start_with(&["--www", site.arg()]);
    let mut client = Client::connect(server.addr());
    client.send("GET /log.txt HTTP/1.1\r\nHost: pi\r\n\r\n");
    let mut first = [0; 4];
    client.socket().peek(&mut first).expect("the first bytes");
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(client.reply().expect(200).body.len(), 8_000_000);
    client.send("GET /log.txt HTTP/1.1\r\nHost: pi\r\n\r\n");
    assert_eq!(client.reply().expect(200).body.len(), 8_100_000);
}

#[test]
fn a_missing_page_is_a_404_that_says_what_to_do() {
    let server = start();
    for target in ["/nothing", "/photo.jpg", "/sub/", "/app.css/x", "/pic", "/video_feed/x/y"] {
        let reply = server.get(target).expect(404);
        assert!(reply.body.len() > 10, "{target}: {:?}", reply.text());
        assert!(reply.header("Content-Type").is_some_and(|kind| kind.starts_with("text/")));
    }
}

// ---- who may ask, and for what ---------------------------------------------------------------

#[track_caller]
fn expect_host(server: &Server, host: &str, status: u16) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let reply = server.ask(request.as_bytes());
    assert_eq!(reply.status, status, "Host: {host}");
    if status == 421 {
        assert!(reply.text().contains("--host-name"), "{}", reply.text());
    }
}

#[test]
fn only_names_of_this_machine_are_served() {
    let server = start();
    let own = server.addr().to_string();
    for host in [
        own.as_str(),
        "127.0.0.1",
        "192.168.1.17:5000",
        "[::1]",
        "[fe80::1]:5000",
        "localhost",
        "raspberrypi:5000",
        "RaspberryPi",
        "pi.local",
        "PI.LOCAL:80",
        "camera.lan",
        "camera.home.arpa",
        "a.b.internal",
        "camera.localhost",
    ] {
        expect_host(&server, host, 200);
    }
    for host in [
        "evil.example.com",
        "evil.example.com:5000",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "pi.local.example.com",
        "xlocal.example",
        "evil.notlocal",
        "evil.xn--lan",
        "1.2.3.4.5",
    ] {
        expect_host(&server, host, 421);
    }
    // The name in the target counts, not the one beside it.
    let request = "GET http://evil.example.com/ HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n";
    server.ask(request.as_bytes()).expect(421);
    let request = "GET http://pi/ HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n";
    server.ask(request.as_bytes()).expect(200);
    // The stream and the snapshot as well.
    for target in ["/video_feed", "/snapshot", "/nothing"] {
        let request = format!("GET {target} HTTP/1.0\r\nHost: evil.example.com\r\n\r\n");
        server.ask(request.as_bytes()).expect(421);
    }
}

#[test]
fn host_name_adds_names() {
    let server = start_with(&["--host-name", "cam.example.org", "--host-name", "*.example.net"]);
    for host in ["cam.example.org", "CAM.example.ORG:8080", "a.example.net", "a.b.example.net"] {
        expect_host(&server, host, 200);
    }
    for host in ["example.org", "x.cam.example.org", "evilexample.net", "a.example.net.evil.com"] {
        expect_host(&server, host, 421);
    }
    expect_host(&start_with(&["--host-name", "*"]), "anything.example.com", 200);
}

#[track_caller]
fn expect_allow(reply: &Reply, methods: &[&str]) {
    let allow = reply.header("Allow").unwrap_or_else(|| panic!("no Allow: {reply:?}"));
    let allowed: Vec<&str> = allow.split(", ").collect();
    methods.iter().for_each(|method| assert!(allowed.contains(method), "{method}: {allow}"));
}

#[test]
fn a_method_that_a_page_does_not_know_is_told_which_it_does() {
    let server = start();
    for target in ["/", "/video_feed", "/snapshot", "/app.css", "/?action=stream"] {
        for method in ["POST", "DELETE"] {
            let fields = "Host: pi\r\nContent-Length: 0\r\nConnection: close\r\n";
            let request = format!("{method} {target} HTTP/1.1\r\n{fields}\r\n");
            let reply = server.ask(request.as_bytes()).expect(405);
            expect_allow(&reply, &["GET", "HEAD", "OPTIONS"]);
            assert!(!reply.header("Allow").unwrap().contains(method), "{reply:?}");
        }
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
        let reply = server.ask(request.as_bytes());
        assert!(matches!(reply.status, 200 | 204), "{reply:?}");
        expect_allow(&reply, &["GET", "HEAD", "OPTIONS"]);
    }
    let request = b"OPTIONS * HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n";
    let reply = server.ask(request);
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
}

#[test]
fn each_request_is_one_line_in_the_log() {
    let server = start();
    server.get("/nothing-of-this-name").expect(404);
    server.get("/app.css?who=me").expect(200);
    Stream::open(server.addr(), "/video_feed?who=viewer").part();
    let log = server.stop();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    for (what, status) in [("/nothing-of-this-name", "404"), ("/app.css", "200")] {
        let lines: Vec<_> = lines(what).into_iter().filter(|line| line.contains("INFO")).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(status) && lines[0].contains("GET"), "{lines:?}");
    }
    let viewer: Vec<_> = lines("/video_feed").into_iter().filter(|l| l.contains("INFO")).collect();
    assert_eq!(viewer.len(), 1, "{viewer:?}");
}

/// What a client writes into a request cannot forge a line of the log or colour a terminal.
#[test]
fn a_request_cannot_write_lines_of_its_own_into_the_log() {
    let server = start();
    server.get("/x%0aINFO%20forged%1b[31m").expect(404);
    server.ask(b"GET /\x1b[31mred HTTP/1.0\r\n\r\n");
    let log = server.stop();
    assert!(!log.lines().any(|line| line.starts_with("INFO forged")), "{log}");
    assert!(!log.contains('\x1b'), "{log:?}");
}

// ---- the process -----------------------------------------------------------------------------

#[test]
fn a_signal_ends_it_in_order_with_viewers_connected() {
    use rustix::process::Signal;
    for signal in [Signal::TERM, Signal::INT] {
        let server = start();
        let mut streams: Vec<_> =
            (0..5).map(|_| Stream::open(server.addr(), "/video_feed")).collect();
        streams.iter_mut().for_each(|stream| drop(stream.part()));
        let mut idle = Client::connect(server.addr());
        idle.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
        let mut waiting = Client::connect(server.addr());
        waiting.send("GET / HTTP/1.1\r\nHost");
        let mut never_reads = Client::connect(server.addr());
        never_reads.send("GET /video_feed HTTP/1.0\r\n\r\n");
        streams[0].part();
        let log = server.stop_by(signal);
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn it_listens_wherever_it_is_told() {
    let server = start_with(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    let port = |line: String| line.rsplit_once(':').unwrap().1.trim_end_matches('/').to_owned();
    for host in ["127.0.0.1", "127.0.0.2"] {
        let line = server.wait_for_log(&format!("listening on http://{host}:"), PATIENCE);
        let addr = format!("{host}:{}", port(line)).parse().unwrap();
        util::get(addr, "/").expect(200);
    }
    let server = start_with(&["--listen", "[::]:0"]);
    let line = server.wait_for_log("listening on http://", PATIENCE);
    for host in ["127.0.0.1", "[::1]"] {
        let addr = format!("{host}:{}", port(line.clone())).parse().unwrap();
        util::get(addr, "/").expect(200);
    }
}

#[test]
fn options_come_from_the_environment_too() {
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.env("PISTREAM_CAMERA", "test").env("PISTREAM_SIZE", "320x240");
    let server = Server::start_command(command);
    let (width, height, _) = decode(&server.get("/snapshot?now=1").expect(200).body);
    assert_eq!((width, height), (320, 240));
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let line = one_line(&run(&["--camera", "test", "--listen", &addr]), 1);
    assert!(line.contains(&addr), "{line}");
    assert!(line.to_lowercase().contains("in use"), "{line}");
}

#[test]
fn a_wrong_value_is_one_line_that_says_what_is_allowed_and_exit_code_2() {
    for (option, value) in [
        ("--fps", "0"),
        ("--fps", "many"),
        ("--size", "640"),
        ("--size", "640x"),
        ("--size", "0x0"),
        ("--size", "99999999999x1"),
        ("--quality", "0"),
        ("--quality", "101"),
        ("--quality", "good"),
        ("--idle-off", "soon"),
        ("--idle-off", "-1s"),
        ("--listen", "here"),
        ("--listen", "127.0.0.1:99999"),
        ("--format", "gif"),
        ("--max-viewers", "-1"),
        ("--max-viewers", "all"),
        ("--host-name", "http://x/"),
    ] {
        // With `=`: some of the values begin with a dash.
        let line = one_line(&run(&[&format!("{option}={value}")]), 2);
        assert!(line.contains(option) && line.contains(value), "{line}");
        let said = line.len() - option.len() - value.len();
        assert!(said > 20, "what is allowed? {line}");
    }
    let line = one_line(&run(&["--no-such-option"]), 2);
    assert!(line.contains("--no-such-option"), "{line}");
    let line = one_line(&run(&["stray"]), 2);
    assert!(line.contains("stray"), "{line}");
}

#[test]
fn version_and_help_print_and_end() {
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(version.stdout, concat!("pistream ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for option in [
        "--listen",
        "--camera",
        "--size",
        "--fps",
        "--format",
        "--quality",
        "--idle-off",
        "--www",
        "--host-name",
        "--max-viewers",
        "--list-cameras",
        "--version",
    ] {
        assert!(help.stdout.contains(option), "{option} is not in the help");
    }
    assert_eq!((version.stderr.as_str(), help.stderr.as_str()), ("", ""));
}

#[test]
fn list_cameras_prints_and_ends() {
    let list = run(&["--list-cameras"]);
    assert_eq!(list.status.code(), Some(0), "{}", list.stderr);
    let devices = std::fs::read_dir("/sys/class/video4linux").is_ok_and(|dir| dir.count() > 0);
    let said = list.stdout + &list.stderr;
    assert!(said.contains("/dev/video") || !devices, "{said}");
    assert!(!said.trim().is_empty(), "not a word");
}

#[test]
fn a_www_folder_that_is_not_there_is_no_obstacle() {
    let folder = Folder::new();
    let missing = folder.path().join("nothing");
    let server = start_with(&["--www", missing.to_str().unwrap()]);
    server.get("/").expect(200);
    assert!(!Path::new(&missing).exists());
}
