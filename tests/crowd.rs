//! Many viewers of the real binary at once: one that never reads, one that reads slowly, two
//! thousand that vanish in the middle of a frame, and more than there is room for.
//!
//! Tests that measure run alone, and rates are only compared within one run: this file measures
//! the server, not the machine.

mod util;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use util::crowd::{Crowd, Viewer, connect, connect_slow, stuck};
use util::photos::photos_in;
use util::{
    Chance, Client, Folder, PATIENCE, Part, Parts, Server, Stream, command_by, decode, median,
    until,
};

static TURN: RwLock<()> = RwLock::new(());

/// Held by a test that measures, so that no other takes its share of the machine.
fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held by the others.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--camera", "test", "--fps", "30"], args].concat())
}

#[test]
fn one_of_fifty_that_never_reads_slows_none_of_the_others() {
    let _turn = alone();
    let server = start(&[]);
    let mut crowd = Crowd::new(server.addr(), 49);
    crowd.watch(|crowd| crowd.0.iter().all(|viewer| viewer.count >= 5), |_, _| {});
    let window = Duration::from_millis(1500);
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The two take turns, so that what else the machine does meets both alike; a machine that
    // gives no verdict after four rounds gets more of them.
    for round in 0..12 {
        let quiet = crowd.rates(window);
        let never_reads = stuck(server.addr());
        // Until the kernel takes no more for it and a frame is left over in the server.
        crowd.rates(window / 3);
        let beside = crowd.rates(window);
        drop(never_reads);
        without.push(median(&quiet));
        with.push(median(&beside));
        ratios.push(beside.iter().sum::<f64>() / quiet.iter().sum::<f64>());
        let good = median(&with) >= 0.95 * median(&without) && median(&ratios) >= 0.95;
        if round >= 3 && good {
            return;
        }
    }
    panic!("frames a second without {without:?}, with {with:?}, ratios {ratios:?}");
}

#[test]
fn viewers_that_never_read_cost_no_memory_and_are_closed_in_the_end() {
    let _turn = beside_others();
    let server = start(&[]);
    let mut crowd = Crowd::new(server.addr(), 5);
    crowd.watch(|crowd| crowd.0.iter().all(|viewer| viewer.count >= 30), |_, _| {});
    let (fds, memory) = (server.fds(), server.rss_kib());
    let stuck: Vec<TcpStream> = (0..20).map(|_| stuck(server.addr())).collect();
    let begin = Instant::now();
    crowd.watch(|_| server.fds() >= fds + stuck.len(), |_, _| {});
    let mut most = 0;
    // In 10 s without progress each is closed; until then 20 viewers leave 300 frames unread.
    crowd.watch(
        |_| {
            most = most.max(server.rss_kib());
            server.fds() <= fds
        },
        |_, _| {},
    );
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(8), "closed after {waited:?}");
    let grown = most.saturating_sub(memory);
    assert!(grown < 3072, "{grown} KiB more");
    // The others never missed a beat.
    crowd.watch(|crowd| crowd.0.iter().all(|viewer| viewer.count >= 60), |_, _| {});
    assert_eq!(server.complaints(), Vec::<String>::new());
}

/// Bytes that the kernel holds of what the server sent to this socket: unsent, or not acknowledged.
fn queued_for(viewer: &TcpStream, server: SocketAddr) -> u64 {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    // By both ends: a connection of before, to another server, may have had the viewer's port.
    let (server, viewer) = (port(server), port(viewer.local_addr().expect("an address")));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's connections");
    let mut ours = table.lines().map(str::split_whitespace).filter_map(|mut fields| {
        let (local, remote) = (fields.nth(1)?, fields.next()?);
        let queues = fields.nth(1)?;
        (local.ends_with(&server) && remote.ends_with(&viewer)).then(|| queues.split(':').next())?
    });
    ours.next().map_or(0, |bytes| u64::from_str_radix(bytes, 16).expect("a number"))
}

/// Its link was fast, so the kernel has learnt to hold megabytes for it; it gets none of them.
#[test]
fn a_viewer_that_stops_reading_holds_little_of_the_kernels_memory() {
    let _turn = beside_others();
    let server = start(&["--size", "1280x720"]);
    let mut viewer = Stream::open(server.addr(), "/video_feed");
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(2) {
        viewer.part();
    }
    // From here on it reads nothing; its own kernel's room is soon full.
    SockRef::from(viewer.socket()).set_recv_buffer_size(16 * 1024).expect("a smaller buffer");
    let mut most = 0;
    let closed = until(PATIENCE, || {
        most = most.max(queued_for(viewer.socket(), server.addr()));
        server.log().contains("closed: Stalled").then_some(())
    });
    assert!(closed.is_some(), "it is not closed: {}", server.log());
    assert!((1..=256 * 1024).contains(&most), "{most} bytes were queued");
}

#[test]
fn two_thousand_that_vanish_in_the_middle_of_a_frame_leave_nothing() {
    let _turn = alone();
    let server = start(&["--idle-off", "1s"]);
    let mut watcher = Stream::open(server.addr(), "/video_feed");
    let length = watcher.part().jpeg.len();
    let (fds, threads) = (server.fds(), server.threads());
    let noted = server.log().len();
    let mut chance = Chance(17);
    let mut gone = 0;
    let mut warm = 0;
    while gone < 2000 {
        vanish(server.addr(), 50, length, &mut chance);
        gone += 50;
        watcher.part();
        if gone == 500 {
            warm = server.rss_kib();
        }
    }
    server.expect_fds(fds);
    assert_eq!(server.threads(), threads);
    let grown = server.rss_kib().saturating_sub(warm);
    assert!(grown < 2048, "{grown} KiB more");
    // The one that stayed sees frames as before; then nobody watches, and the camera rests.
    watcher.frame();
    watcher.frame();
    drop(watcher);
    assert!(server.comes_to_rest(PATIENCE), "a viewer is still counted");
    server.expect_fds(fds - 1);
    assert_eq!(server.complaints(), Vec::<String>::new());
    let log = server.stop();
    let news: Vec<&str> = log[noted..].lines().filter(|line| line.contains("INFO")).collect();
    let everyday = |line: &&&str| line.contains("/video_feed");
    let requests = news.iter().filter(everyday).count();
    assert!((1..=2000).contains(&requests), "{requests} requests in the log");
    for line in news {
        let line = line.to_lowercase();
        let loud = ["reset", "broken pipe", "os error"].iter().any(|word| line.contains(word));
        assert!(!loud, "louder than debug: {line}");
    }
}

/// `count` viewers at once, each of which goes after some bytes in the way that its turn says.
fn vanish(addr: SocketAddr, count: usize, length: usize, chance: &mut Chance) {
    let request = b"GET /video_feed HTTP/1.1\r\nHost: pi\r\n\r\n";
    let mut viewers = Vec::new();
    for way in 0..count {
        let mut socket = connect(addr);
        // One in ten is gone before its request is whole.
        let sent = if way % 10 == 9 { chance.below(request.len()) } else { request.len() };
        socket.write_all(&request[..sent]).expect("send");
        let bytes = if way % 10 >= 8 { 0 } else { 1 + chance.below(2 * length) };
        viewers.push((socket, bytes, way));
    }
    let mut buffer = vec![0; 2 * length + 1];
    for (mut socket, bytes, way) in viewers {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.read_exact(&mut buffer[..bytes]).expect("some of the stream");
        match way % 3 {
            // A reset at once.
            0 => SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER"),
            // A reset, because there are bytes that nobody read.
            1 => {}
            // An orderly end: all read, then FIN; the reset follows the server's next write.
            _ => {
                socket.set_nonblocking(true).unwrap();
                while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
            }
        }
    }
}

#[test]
fn a_slow_reader_sees_fewer_frames_and_none_of_them_torn_or_out_of_order() {
    let _turn = alone();
    let server = start(&[]);
    let mut fast = Stream::open(server.addr(), "/video_feed");
    let length = fast.part().jpeg.len();
    let mut frames = HashMap::new();
    let slow = thread::scope(|scope| {
        let slow = scope.spawn(|| read_slowly(server.addr(), length * 3, 20));
        while !slow.is_finished() {
            let part = fast.part();
            frames.insert(part.headers[2].1.clone(), part.jpeg);
        }
        slow.join().expect("the slow reader")
    });
    assert!(slow.is_sorted_by(|a, b| a.timestamp <= b.timestamp), "old frames");
    let mut same = 0;
    for part in &slow {
        decode(&part.jpeg);
        if let Some(jpeg) = frames.get(&part.headers[2].1) {
            assert!(*jpeg == part.jpeg, "one time stamp, two pictures");
            same += 1;
        }
    }
    assert!(same * 2 > slow.len(), "{same} of {} frames are known", slow.len());
    // While the slow one's frames were captured the fast one saw several times as many, however
    // few the machine made.
    let (first, last) = (slow[0].timestamp, slow[slow.len() - 1].timestamp);
    let times = frames.keys().map(|stamp| stamp.parse::<f64>().unwrap());
    let seen = times.filter(|time| (first..=last).contains(time)).count();
    assert!(2 * seen >= 3 * slow.len(), "{seen} frames against {}", slow.len());
}

/// `count` parts of a viewer that takes `rate` bytes a second.
fn read_slowly(addr: SocketAddr, rate: usize, count: usize) -> Vec<Part> {
    let mut socket = connect_slow(addr);
    socket.write_all(b"GET /video_feed HTTP/1.0\r\n\r\n").expect("send");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut viewer = Viewer { socket, head: Some(Vec::new()), parts: Parts::default(), count: 0 };
    let (begin, mut bytes, mut parts) = (Instant::now(), 0, Vec::new());
    let mut chunk = [0; 2048];
    while parts.len() < count {
        let read = viewer.socket.read(&mut chunk).expect("more of the stream");
        assert!(read > 0, "the stream ended");
        bytes += read;
        viewer.take(&chunk[..read]);
        while viewer.head.is_none() {
            let Some(part) = viewer.parts.next().expect("a stream as promised") else {
                break;
            };
            parts.push(part);
        }
        // Where it stands at this rate, however long the machine let it wait.
        let due = Duration::from_secs_f64(bytes as f64 / rate as f64);
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    parts
}

#[test]
fn all_viewers_of_a_frame_see_the_same_bytes() {
    let _turn = beside_others();
    let server = start(&[]);
    let mut crowd = Crowd::new(server.addr(), 20);
    let mut frames: HashMap<String, (Vec<u8>, usize)> = HashMap::new();
    crowd.watch(
        |crowd| crowd.0.iter().all(|viewer| viewer.count >= 20),
        |_, part| {
            let stamp = part.headers[2].1.clone();
            let frame = frames.entry(stamp).or_insert_with(|| (part.jpeg.clone(), 0));
            assert!(frame.0 == part.jpeg, "one time stamp, two pictures");
            frame.1 += 1;
        },
    );
    let shared = frames.values().filter(|(_, viewers)| *viewers > 10).count();
    assert!(shared >= 5, "{shared} frames shared by more than half");
}

#[test]
fn five_hundred_at_once_are_all_let_in_and_answered() {
    let _turn = beside_others();
    let server = start(&[]);
    let mut warm = Stream::open(server.addr(), "/video_feed");
    warm.part();
    server.get("/nothing").expect(404);
    let fds = server.fds();
    let mut clients: Vec<Client> = (0..500).map(|_| Client::connect(server.addr())).collect();
    for client in &mut clients {
        client.send("GET /snapshot?max_age=60000 HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    for client in &mut clients {
        let jpeg = client.reply().expect(200).body;
        // Decoding 500 of them would take a debug build too long.
        assert!(jpeg.starts_with(b"\xff\xd8\xff") && jpeg.ends_with(b"\xff\xd9"));
    }
    // The disk's queue is shorter than that: who does not fit is told so.
    for client in &mut clients {
        client.send("GET /app.css HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    let mut served = 0;
    for client in &mut clients {
        let reply = client.reply();
        match reply.status {
            200 => served += 1,
            _ => assert!(reply.expect(503).header("Retry-After").is_some()),
        }
    }
    assert!(served >= 50, "{served} of 500");
    drop(clients);
    server.expect_fds(fds);
    assert_eq!(server.complaints(), Vec::<String>::new());
}

/// The disk's queue is short: a download may be refused at its start, never in the middle.
#[test]
fn two_hundred_downloads_at_once_are_each_whole_or_refused() {
    let _turn = beside_others();
    let site = Folder::new();
    let content: Vec<u8> = (0..400_000_u32).flat_map(|n| (n % 65_521).to_le_bytes()).collect();
    site.write("film.bin", &content);
    let server = start(&["--www", site.arg()]);
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(server.addr())).collect();
    for client in &mut clients {
        client.send("GET /film.bin HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
    }
    let mut whole = 0;
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client.try_reply(false);
        let reply = reply.unwrap_or_else(|error| panic!("download {n} broke off: {error}"));
        match reply.status {
            200 => assert!(reply.body == content, "download {n} is not the file"),
            _ => assert!(reply.clone().expect(503).header("Retry-After").is_some()),
        }
        whole += usize::from(reply.status == 200);
    }
    assert!(whole >= 50, "{whole} of 200");
}

#[test]
fn one_viewer_too_many_is_told_when_to_come_again() {
    let _turn = beside_others();
    let server = start(&["--max-viewers", "3"]);
    let open = || Stream::open(server.addr(), "/video_feed");
    let mut streams = vec![open(), open(), open()];
    for stream in &mut streams {
        stream.part();
    }
    for target in ["/video_feed", "/stream", "/?action=stream"] {
        let reply = server.get(target).expect(503);
        let retry = reply.header("Retry-After").and_then(|value| value.parse::<u32>().ok());
        assert!(retry.is_some_and(|seconds| seconds > 0), "{reply:?}");
        assert!(reply.text().contains("viewers"), "{}", reply.text());
    }
    // Pages are for everybody, and the streams go on.
    server.get("/").expect(200);
    for stream in &mut streams {
        stream.frame();
        stream.frame();
    }
    // The one that leaves makes room.
    streams.pop();
    let request = "GET /video_feed HTTP/1.1\r\nHost: pi\r\n\r\n";
    let next = || Client::connect(server.addr()).send(request).head().status;
    let freed = until(PATIENCE, || (next() == 200).then_some(()));
    assert!(freed.is_some(), "no room for the next one");
}

/// Every seat is taken by clients that have begun a request and do not go on: the one that has
/// been at it longest gives his to a newcomer.
#[test]
fn who_fills_all_seats_with_halves_of_requests_keeps_nobody_out() {
    let _turn = beside_others();
    let site = Folder::new();
    let content = vec![7; 3 << 20];
    site.write("film.bin", &content);
    // And 200 seats beside the viewer's.
    let server = start(&["--max-viewers", "1", "--www", site.arg()]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    let mut download = Client::connect(server.addr());
    download.send("GET /film.bin HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
    assert_eq!(download.head().status, 200);
    let body = "POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 5\r\n\r\nhel";
    let begin = |text: &str| {
        let mut client = Client::connect(server.addr());
        client.send(text);
        client
    };
    let mut slow: Vec<Client> = ["G", body].map(begin).into();
    slow.extend((0..250).map(|n| begin(["G", body][n % 2])));
    let mut crowd: Vec<Client> = (0..10).map(|_| Client::connect(server.addr())).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    for client in &mut crowd {
        client.reply().expect(200);
    }
    // Those who have been there longest had to go, and nobody who is being answered.
    slow[0].expect_end();
    slow[1].expect_end();
    stream.frame();
    assert!(download.rest().expect("an end") == content, "it is not the file");
    stream.frame();
}

/// Every seat is taken by clients that are being answered: a newcomer hears why it has none.
#[test]
fn in_a_full_house_a_newcomer_is_told_so_and_the_stream_goes_on() {
    let _turn = beside_others();
    let site = Folder::new();
    site.write("film.bin", vec![7; 3 << 20]);
    let server = start(&["--max-viewers", "1", "--www", site.arg()]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    let download = |_| {
        let mut socket = connect_slow(server.addr());
        socket.write_all(b"GET /film.bin HTTP/1.1\r\nHost: pi\r\n\r\n").expect("send");
        socket.read_exact(&mut [0; 15]).expect("the beginning of an answer");
        socket
    };
    let busy: Vec<TcpStream> = (0..200).map(download).collect();
    let mut crowd: Vec<Client> = (0..10).map(|_| Client::connect(server.addr())).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n");
    }
    for client in &mut crowd {
        let reply = client.reply().expect(503);
        assert!(reply.header("Retry-After").is_some());
    }
    stream.part();
    drop(busy);
    let served = until(PATIENCE, || (server.get("/").status == 200).then_some(()));
    assert!(served.is_some(), "the seats are free again");
}

/// Bodies that are never finished are memory that strangers hold.
#[test]
fn unfinished_bodies_are_bounded_in_all() {
    let _turn = alone();
    let server = start(&[]);
    server.get("/").expect(200);
    let before = server.rss_kib();
    let body = vec![b'x'; (1 << 20) - 1];
    let mut refused = 0;
    let mut crowd = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect(server.addr());
        client.send("POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 1048576\r\n\r\n");
        // The server may stop listening in the middle of it.
        refused += usize::from(client.try_send(&body).is_err());
        crowd.push(client);
    }
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more, {refused} refused while they sent");
    let mut replies = Vec::new();
    for client in &mut crowd {
        // Those within the bounds finish and hear that this cannot be posted to.
        let _ = client.try_send("x");
        replies.extend(client.try_reply(false).map(|reply| reply.status));
    }
    assert!(replies.contains(&503) && replies.contains(&405), "{replies:?}");
    drop(crowd);
    server.get("/").expect(200);
}

/// A thousand guests once held 27 MB together, each of them no more than anybody may.
#[test]
fn small_unfinished_bodies_are_bounded_in_all_and_the_oldest_go() {
    let _turn = alone();
    let server = start(&[]);
    server.get("/").expect(200);
    let before = server.rss_kib();
    let head = "POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 12001\r\n\r\n";
    let body = "x".repeat(12_000); // one is lacking
    let mut crowd: Vec<Client> = Vec::new();
    for _ in 0..1100 {
        let mut client = Client::connect(server.addr());
        client.send(head);
        client.send(&body);
        crowd.push(client);
    }
    server.get("/").expect(200);
    let grown = server.rss_kib().saturating_sub(before);
    assert!((8 << 10..20 << 10).contains(&grown), "{grown} KiB more");
    // Who came last may finish, and hears that this cannot be posted to.
    let mut last = crowd.pop().expect("a crowd");
    assert_eq!(last.send("x").reply().status, 405);
    assert!(crowd[0].try_send("x").is_err() || crowd[0].try_reply(false).is_err(), "it is gone");
    drop((crowd, last));
    let back = || (server.rss_kib() < before + (4 << 10)).then_some(());
    until(PATIENCE, back).expect("memory comes back");
}

/// Each download keeps a file open beside its socket; they once took the last descriptors.
#[test]
fn downloads_leave_descriptors_to_the_photos() {
    let _turn = beside_others();
    let site = Folder::new();
    site.write("film.bin", vec![7; 8 << 20]);
    let www = site.path().display().to_string();
    let options = ["--camera", "test", "--listen", "127.0.0.1:0", "--www", &www, "--every", "1s"];
    let server = Server::start_command(command_by("ulimit -n 64; exec \"$@\"", &options));
    let photos = || photos_in(&server.folder().path().join("pic")).len();
    until(PATIENCE, || (photos() > 0).then_some(())).expect("a first photo");
    let slow = |_| {
        let mut client = connect_slow(server.addr());
        let _ = client.write_all(b"GET /film.bin HTTP/1.1\r\nHost: pi\r\n\r\n");
        client
    };
    let crowd: Vec<TcpStream> = (0..60).map(slow).collect();
    thread::sleep(Duration::from_secs(5));
    let film = site.path().join("film.bin");
    let served = server.open_files().iter().filter(|file| **file == film).count();
    drop(crowd);
    let log = server.log();
    assert!(served >= 8 && log.contains(" 503"), "{served} served: they were not short\n{log}");
    assert!(!log.contains("Too many open files"), "{log}");
    assert!(photos() >= 5, "{} photos", photos());
}

/// A log that nobody reads, as in a paused terminal, must not stop the picture.
#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let _turn = beside_others();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("its address");
    drop(free);
    let mut child = util::command(&["--camera", "test", "--listen", &addr.to_string()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("start the server");
    let up = until(PATIENCE, || TcpStream::connect(addr).ok());
    assert!(up.is_some(), "it does not listen");
    let mut stream = Stream::open(addr, "/video_feed");
    for _ in 0..2000 {
        util::client::get(addr, "/nothing").expect(404);
    }
    stream.part();
    stream.part();
    child.kill().expect("end it");
    let mut log = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut log).expect("the log");
    child.wait().expect("its end");
    assert!(log.len() >= 60 << 10, "the pipe was full: {} bytes", log.len());
}

/// Who asks for a frame an hour and goes is found all the same; and no rate is too low.
#[test]
fn very_low_rates_are_served_and_end_nothing() {
    let _turn = beside_others();
    let server = start(&[]);
    for fps in ["0.00000000000000000005421010862427523", "0.0000000000000000001", "0.001"] {
        let mut stream = Stream::open(server.addr(), &format!("/video_feed?fps={fps}"));
        stream.part();
        assert!(stream.next_part(Duration::from_millis(700)).is_err(), "{fps}: a second frame");
    }
    server.get("/").expect(200);
}
