//! Public linters of HTTP: REDbot asks each route what browsers and caches ask, HTTPolice reads what
//! a client and the server said to each other. Only in the long run, which installs them.
//!
//! Each of their complaints is answered here in words, or is a failure; so is an answer to a
//! complaint that is no longer made.

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use util::client::press;
use util::{Client, Folder, PATIENCE, Server, installed, long};

/// A complaint: its name or number with the linter, and what it says.
type Complaint = (String, String);

/// What a linter may say, what the place has of which it may, and why it is so.
type Answers = [(&'static str, &'static str, &'static str)];

/// A server with something at each route, and the targets of all that end.
#[track_caller]
fn house() -> (Server, Vec<String>) {
    let server = Server::start(&["--camera", "test"]);
    let photo = press(server.addr());
    let photo = photo["name"].as_str().expect("a name");
    let folder = server.folder();
    folder.write("md/note.md", "# Note\n\nText\n");
    folder.write("www/page.html", "<!doctype html><title>A page</title>");
    folder.write("www/large.bin", vec![7; 300_000]);
    folder.write("www/folder/index.html", "<!doctype html><title>A folder</title>");
    let gallery = server.get("/gallery").expect(200).text();
    let small = gallery.split('"').find(|link| link.starts_with("thumb/")).expect("a thumbnail");
    let targets = [
        "/",
        "/index.html",
        "/app.css",
        "/app.js",
        "/icon.svg",
        "/page.html",
        "/large.bin",
        "/folder",
        "/folder/",
        "/snapshot",
        "/snapshot?width=320",
        "/?action=snapshot",
        "/current_picture",
        "/gallery",
        &format!("/pic/{photo}"),
        &format!("/thumb/{photo}"),
        &format!("/{small}"),
        &format!("/view/{photo}"),
        "/interval",
        "/status",
        "/metrics",
        "/healthz",
        "/controls",
        "/md",
        "/md/",
        "/md/note",
        "/md/note?raw",
        "/nothing",
        "/photo",
        "/video_feed?fps=0",
    ];
    let targets = targets.map(str::to_owned).into();
    (server, targets)
}

/// Each complaint has its answer, and each answer its complaint.
#[track_caller]
fn expect_answered(found: &BTreeMap<Complaint, BTreeSet<String>>, answers: &Answers) {
    let places = |id: &str, part: &str| {
        let of = found.iter().filter(move |((known, _), _)| known == id);
        of.flat_map(|(_, places)| places).filter(|place| place.contains(part)).count()
    };
    for (complaint, told) in found {
        for place in told {
            let fits =
                |(id, part, _): &(&str, &str, &str)| *id == complaint.0 && place.contains(*part);
            assert!(answers.iter().any(fits), "{complaint:?} of {told:#?}");
        }
    }
    for (id, part, _) in answers {
        assert!(places(id, part) > 0, "no longer said: {id} of {part:?}");
    }
}

// ---- REDbot ---------------------------------------------------------------------------------

const REDBOT: [(&str, &str, &str); 2] = [
    ("RANGE_CL_FULL", "", "It asks small files for all of their bytes: a part that is the whole."),
    ("STATUS_BAD_REQUEST", "fps=0", "It was asked for something wrong, to see that answer too."),
];

/// The stream has no end, for which REDbot would wait; HTTPolice reads its start.
#[test]
fn redbot_has_nothing_to_say_that_is_not_answered() {
    if !long() {
        return;
    }
    let redbot = installed("PISTREAM_REDBOT");
    let (server, targets) = house();
    let mut found: BTreeMap<Complaint, BTreeSet<String>> = BTreeMap::new();
    for target in targets {
        let url = format!("http://{}{target}", server.addr());
        let out = Command::new(&redbot).args(["-o", "har", &url]).output().expect("run redbot");
        let said = String::from_utf8_lossy(&out.stderr);
        let har: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{target}: {error}: {said}"));
        let entries = har["log"]["entries"].as_array().expect("entries");
        assert_eq!(entries.len(), 1, "{target}: {said}");
        let notes = entries[0]["_red_messages"].as_array().expect("notes");
        assert!(notes.len() > 2, "{target}: it has looked");
        for note in notes {
            collect_notes(note, &target, &mut found);
        }
    }
    expect_answered(&found, &REDBOT);
    assert_eq!(server.complaints(), [""; 0]);
}

/// A note of REDbot's and those below it, if they are more than information.
fn collect_notes(note: &Value, target: &str, found: &mut BTreeMap<Complaint, BTreeSet<String>>) {
    let field = |name: &str| note[name].as_str().unwrap_or_default().to_owned();
    if ["WARN", "BAD"].contains(&field("level").as_str()) {
        let complaint = (field("note_id"), field("summary"));
        found.entry(complaint).or_default().insert(target.to_owned());
    }
    for below in note["subnotes"].as_array().into_iter().flatten() {
        collect_notes(below, target, found);
    }
}

// ---- HTTPolice ------------------------------------------------------------------------------

const HTTPOLICE: [(&str, &str, &str); 4] = [
    (
        "1025",
        "/video_feed",
        "A stream has no end but that of its connection; players take no chunks.",
    ),
    ("1035", "/app.js", "RFC 9239 has made it the one type for scripts; the linter is older."),
    (
        "1277",
        "snapshot",
        "X-Timestamp is what programs for cameras look for, as mjpg-streamer has it.",
    ),
    (
        "1302",
        "/thumb/",
        "True; a proxy may add TLS, and without it the copy is only asked for again.",
    ),
];

/// Reads conversations and prints of each answer, and of the exchange as a whole: what was asked,
/// the status, the notices. What HTTPolice says of our requests is no matter.
const READ: &str = r#"
import json, sys
from httpolice.exchange import check_exchange
from httpolice.inputs.streams import combined_input
from httpolice.reports.text import _piece_to_text as text
for exchange in combined_input(sys.argv[1:]):
    check_exchange(exchange)
    asked = exchange.request
    asked = asked and str(asked.method) + " " + str(asked.target)[:60] or "?"
    for part in exchange.responses + [exchange]:
        status = getattr(part, "status", None)
        notices = [[c.notice.severity_short, c.notice.id, text(c.notice.title, c.context).strip()]
                   for c in part.complaints]
        print(json.dumps([asked, status and int(status), notices]))
"#;

/// Conversations, each on a connection of its own: what the client says.
fn conversations(targets: &[String]) -> Vec<String> {
    let said = |line: &str, fields: &str, body: &str| {
        let from = "Host: pi\r\nUser-Agent: linter\r\n";
        format!("{line} HTTP/1.1\r\n{from}{fields}Connection: close\r\n\r\n{body}")
    };
    let html = "Accept: text/html\r\n";
    let mut all = Vec::new();
    for target in targets {
        for (method, fields) in [("GET", ""), ("GET", html), ("HEAD", ""), ("OPTIONS", "")] {
            all.push(said(&format!("{method} {target}"), fields, ""));
        }
        all.push(format!("GET {target} HTTP/1.0\r\nUser-Agent: linter\r\n\r\n"));
    }
    let form = |body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        format!("{kind}Content-Length: {}\r\n", body.len())
    };
    for (path, body) in [
        ("photo", ""),
        ("gallery/keep", "name=2026-01-02_03-04-05.jpg"),
        ("gallery/delete", "name=2026-01-02_03-04-05.jpg"),
        ("gallery/delete", "name=x"),
        ("gallery/archive", ""),
        ("interval", "every=1h"),
        ("interval", "stop=1"),
        ("interval", "every=x"),
        ("controls", "id=1&value=1"),
        ("nothing", ""),
    ] {
        for accept in ["", html] {
            all.push(said(&format!("POST /{path}"), &format!("{accept}{}", form(body)), body));
        }
        let foreign = format!("Origin: http://evil.example\r\n{}", form(body));
        all.push(said(&format!("POST /{path}"), &foreign, body));
    }
    all.push(said("DELETE /pic/2026-01-02_03-04-05.jpg", "", ""));
    all.push(said("DELETE /nothing", "", ""));
    let file = "GET /large.bin";
    for fields in [
        "Range: bytes=0-9\r\n",
        "Range: bytes=-5\r\n",
        "Range: bytes=999999999-\r\n",
        "If-None-Match: *\r\n",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
        "Accept-Language: zh\r\n",
        "Origin: http://evil.example\r\n",
        "Authorization: Basic YW5uYTpzZWNyZXQ=\r\n",
    ] {
        all.push(said(file, fields, ""));
        all.push(said("GET /md/note", fields, ""));
    }
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
    all.push(said("OPTIONS /status", preflight, ""));
    all.push(said("OPTIONS *", "", ""));
    // Refused as a whole.
    all.push(said("PUT /", "Content-Length: 0\r\n", ""));
    all.push(said("GET /", "Expect: x\r\n", ""));
    all.push(said("GET /", "X: a b\x01\r\n", ""));
    all.push(said("GET /", &format!("X: {}\r\n", "x".repeat(9000)), ""));
    all.push(said("POST /photo", "Content-Length: 99999999\r\n", ""));
    all.push(said("POST /photo", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"));
    all.push("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned());
    all.push("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned());
    // One after the other on one connection, with bodies between them.
    let next = "Host: pi\r\nUser-Agent: linter\r\n";
    all.push(format!(
        "GET /app.css HTTP/1.1\r\n{next}\r\nPOST /interval HTTP/1.1\r\n{next}{}\r\nstop=1\
         POST /interval HTTP/1.1\r\n{next}Content-Type: application/x-www-form-urlencoded\r\n\
         Transfer-Encoding: chunked\r\n\r\n6\r\nstop=1\r\n0\r\n\r\nHEAD /nothing HTTP/1.1\r\n{next}\r\n{}",
        form("stop=1"),
        said("GET /healthz", "", ""),
    ));
    all.push(
        "GET /app.css HTTP/1.0\r\nUser-Agent: linter\r\nConnection: keep-alive\r\n\r\n\
         GET /nothing HTTP/1.0\r\nUser-Agent: linter\r\n\r\n"
            .to_owned(),
    );
    all
}

#[test]
fn httpolice_has_nothing_to_say_that_is_not_answered() {
    if !long() {
        return;
    }
    let python = installed("PISTREAM_HTTPOLICE");
    let (server, targets) = house();
    let folder = Folder::new();
    let mut files = Vec::new();
    let mut keep = |said: &str, answered: &[u8]| {
        let parts = [
            &b"======== BEGIN INBOUND STREAM ========\r\n"[..],
            said.as_bytes(),
            b"======== BEGIN OUTBOUND STREAM ========\r\n",
            answered,
        ];
        files.push(folder.write(&format!("{:03}", files.len()), parts.concat()));
    };
    for said in conversations(&targets) {
        let mut client = Client::connect(server.addr());
        client.send(&said);
        keep(&said, &client.rest().expect("an orderly end"));
    }
    // The start of a stream, and of one to an old program.
    for version in ["1.0", "1.1"] {
        let said =
            format!("GET /video_feed HTTP/{version}\r\nHost: pi\r\nUser-Agent: linter\r\n\r\n");
        let mut socket = std::net::TcpStream::connect(server.addr()).expect("connect");
        keep(&said, &start_of_stream(&mut socket, &said));
    }
    let out = Command::new(&python).args(["-c", READ]).args(&files).output().expect("run python");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut found: BTreeMap<Complaint, BTreeSet<String>> = BTreeMap::new();
    let mut answers = 0;
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let (asked, status, notices): (String, Option<u16>, Vec<(String, u32, String)>) =
            serde_json::from_str(line).expect("what the program prints");
        answers += usize::from(status.is_some());
        for (severity, id, title) in notices {
            if severity != "D" {
                let where_found = format!("{asked}: {status:?}");
                found.entry((id.to_string(), title)).or_default().insert(where_found);
            }
        }
    }
    println!("{answers} answers in {} conversations", files.len());
    assert!(answers >= files.len(), "{answers} answers");
    expect_answered(&found, &HTTPOLICE);
}

/// The head and some frames.
fn start_of_stream(socket: &mut std::net::TcpStream, said: &str) -> Vec<u8> {
    use std::io::{Read, Write};
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    socket.write_all(said.as_bytes()).expect("asked");
    let mut bytes = vec![0; 100_000];
    socket.read_exact(&mut bytes).expect("a stream");
    bytes
}
