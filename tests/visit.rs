//! A visit to every room of the house, and an orderly end. `scripts/sanitize` has it done with
//! programs that AddressSanitizer or valgrind watches: after an error or a leak, these end with
//! another exit code.

mod util;

use std::io::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::process::Signal;
use util::client::press;
use util::photos::post;
use util::{Folder, PATIENCE, Server, Stream, fed};

/// It ends by itself, with exit code 0.
#[track_caller]
fn leave(server: Server) {
    server.signal(Signal::TERM);
    server.ended(PATIENCE);
}

#[test]
fn every_page_and_every_stream_is_visited() {
    let server = Server::start(&["--camera", "test", "--size", "320x240", "--rotate", "90"]);
    server.folder().write("md/note.md", "# Note\n\n| a | b |\n|---|---|\n| *c* | [d](e) |\n");
    server.folder().write("www/large.bin", vec![7; 300_000]);
    let targets = ["/video_feed", "/video_feed?width=160", "/video_feed?bake=1", "/stream?fps=5"];
    let mut streams = targets.map(|target| Stream::open(server.addr(), target));
    for stream in &mut streams {
        stream.part();
        stream.part();
    }
    for target in ["/snapshot", "/snapshot?width=80", "/snapshot?bake=1", "/?action=snapshot"] {
        server.get(target).expect(200);
    }
    let names = [press(server.addr()), press(server.addr())].map(|photo| photo["name"].to_string());
    let names = names.map(|name| name.trim_matches('"').to_owned());
    for name in &names {
        for folder in ["pic", "thumb", "view"] {
            server.get(&format!("/{folder}/{name}")).expect(200);
        }
    }
    let part = format!("GET /pic/{} HTTP/1.0\r\nRange: bytes=9-99\r\n\r\n", names[0]);
    server.ask(part.as_bytes()).expect(206);
    for target in ["/", "/gallery", "/current_picture", "/interval", "/status", "/metrics"] {
        server.get(target).expect(200);
        let page = format!("GET {target} HTTP/1.0\r\nAccept: text/html\r\n\r\n");
        server.ask(page.as_bytes()).expect(200);
    }
    for target in ["/healthz", "/controls", "/md/", "/md/note", "/md/note?raw", "/large.bin"] {
        server.get(target).expect(200);
    }
    post(&server, "/interval", "every=1s").expect(200);
    post(&server, "/interval", "stop=1").expect(200);
    post(&server, "/controls", "id=1&value=1").expect(404);
    post(&server, "/gallery/keep", &format!("name={}", names[0])).expect(303);
    assert!(post(&server, "/gallery/archive", "").expect(200).body.starts_with(b"PK"));
    post(&server, "/gallery/delete", &format!("name={}&name={}", names[0], names[1])).expect(303);
    for (request, status) in [
        ("GET /nothing HTTP/1.0\r\n\r\n", 404),
        ("GET /%2e%2e/x HTTP/1.0\r\n\r\n", 404),
        ("PUT / HTTP/1.0\r\n\r\n", 501),
        ("\0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", 421),
    ] {
        server.ask(request.as_bytes()).expect(status);
    }
    drop(streams);
    leave(server);
}

#[test]
fn names_and_passwords_are_worked_out() {
    let folder = Folder::new();
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    let file = folder.write("passwords", format!("anna:{hash}\n")).display().to_string();
    let server = Server::start(&["--camera", "test", "--password-file", &file]);
    for (sent, status) in [("anna:secret", 200), ("anna:wrong", 401), ("otto:x", 401), ("", 401)] {
        let sent = BASE64_STANDARD.encode(sent);
        let request = format!("GET /status HTTP/1.0\r\nAuthorization: Basic {sent}\r\n\r\n");
        server.ask(request.as_bytes()).expect(status);
    }
    leave(server);
}

#[test]
fn pictures_come_by_a_pipe_whole_and_damaged() {
    let model = Server::start(&["--camera", "test", "--size", "320x240"]);
    let jpeg = model.get("/snapshot").expect(200).body;
    leave(model);
    let (server, mut pipe) = fed(&["--mirror"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let cut = &jpeg[..jpeg.len() / 2];
    for bytes in [&jpeg[..], cut, b"no picture at all", &jpeg, &[0xff; 1000], &jpeg] {
        pipe.write_all(bytes).expect("it is read");
    }
    stream.part();
    drop((pipe, stream));
    leave(server);
}
