//! What a client can do wrong or on purpose, against the real binary: each malformed request
//! gets exactly its status and an orderly end, and afterwards the server streams as before with
//! no descriptor, no thread and no memory lost.
//!
//! Timeouts of half a minute are tested with an invented clock in `conn.rs`; here they run only
//! with `PISTREAM_LONG=1`.

mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use util::{Chance, Client, PATIENCE, Reply, Server, Stream, decode, until};

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--camera", "test"], args].concat())
}

/// Longer than the time between two frames of the test picture.
const MOMENT: Duration = Duration::from_millis(300);

/// A server, and what it had open before anybody came.
struct Victim {
    server: Server,
    fds: usize,
    threads: usize,
}

impl Victim {
    fn new() -> Victim {
        let server = start(&["--idle-off", "1s"]);
        // What is made at first use (a thread, a descriptor) is there before counting.
        server.get("/nothing").expect(404);
        assert!(server.rests(MOMENT, PATIENCE), "it is busy for nobody");
        let (fds, threads) = (server.fds(), server.threads());
        Victim { server, fds, threads }
    }

    /// It serves pages and streams, and has back what it had.
    #[track_caller]
    fn expect_unharmed(self) {
        let server = &self.server;
        server.get("/").expect(200);
        let mut stream = Stream::open(server.addr(), "/video_feed");
        decode(&stream.frame().jpeg);
        stream.frame();
        drop(stream);
        server.expect_fds(self.fds);
        assert!(server.rests(MOMENT, PATIENCE), "it does not come to rest");
        assert_eq!(server.threads(), self.threads);
        assert_eq!(server.complaints(), Vec::<String>::new());
        self.server.stop();
    }
}

/// Sends `request` on a connection of its own; the reply has one of `statuses`, a sentence for
/// its body, and an end behind it.
#[track_caller]
fn check(server: &Server, request: impl AsRef<[u8]>, status: u16) {
    let request = request.as_ref();
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    let mut client = Client::connect(server.addr());
    client.send(request);
    let head_only = request.starts_with(b"HEAD ");
    let reply = client.try_reply(head_only).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    assert_eq!(reply.status, status, "{shown:?}");
    client.expect_end();
    if reply.status >= 400 {
        explained(&reply);
        assert_eq!(reply.header("Connection"), Some("close"), "{shown:?}");
    }
}

/// An error is a short sentence in plain text or HTML.
#[track_caller]
fn explained(reply: &Reply) {
    let kind = reply.header("Content-Type").unwrap_or("none");
    assert!(kind.starts_with("text/plain") || kind.starts_with("text/html"), "{reply:?}");
    assert!((10..4096).contains(&reply.body.len()), "{reply:?}");
}

/// GET / with one more field.
fn with(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n{field}\r\n\r\n")
}

/// POST / with framing fields and a body; what is well framed is answered 405.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n{fields}\r\n\r\n{body}")
}

/// One character a byte, so that bytes can be sent that are not UTF-8.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

#[test]
fn a_malformed_request_line_is_400() {
    let victim = Victim::new();
    let rest = "Host: pi\r\n\r\n";
    for line in [
        "GET",
        "GET /",
        "GET / ",
        "GET HTTP/1.1",
        "GET / HTTP/1.1 more",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET / HTTP/2.0",
        "GET / HTTP/11",
        "GET / HTTP/1",
        "GET / HTTP/1.x",
        "GET / http/1.1",
        "GET / HTTQ/1.1",
        "GET / FTP/1.1",
        "G\0T / HTTP/1.1",
        "GE(T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET index.html HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http:///index.html HTTP/1.1",
        "GET ftp://pi/ HTTP/1.1",
        "GET ?x=1 HTTP/1.1",
        "EHLO pi",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2",
        "OPTIONS rtsp://pi/ RTSP/1.0",
        "{\"jsonrpc\": \"2.0\"}",
    ] {
        check(&victim.server, format!("{line}\r\n{rest}"), 400);
    }
    victim.expect_unharmed();
}

#[test]
fn another_protocol_is_400() {
    let victim = Victim::new();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on \r\n\r\n";
    check(&victim.server, hello, 400);
    // As soon as it is clear: no line end comes, and none is needed.
    check(&victim.server, &hello[..11], 400);
    check(&victim.server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400);
    check(&victim.server, b"\0\0\0\0\0\0\0\0", 400);
    check(&victim.server, b"\xff\xd8\xff\xe0\0\x10JFIF\0", 400);
    // HTTP/0.9: a line and nothing else.
    check(&victim.server, "GET /\r\n", 400);
    victim.expect_unharmed();
}

#[test]
fn a_malformed_header_is_400() {
    let victim = Victim::new();
    for field in [
        "no colon",
        ": no name",
        "X : a space before the colon",
        " X: a space before the name",
        "X Y: a space in the name",
        "X\0: a NUL in the name",
        "X\x01: a control in the name",
        "X: a NUL\0 in the value",
        "X: a control\x01 in the value",
        "X: a bare CR\r in the value",
        "X: a line\r\n folded",
        "X: a line\r\n\tfolded",
        "X: a line\n folded",
        "(X): y",
        "X\u{fc}: y",
    ] {
        check(&victim.server, latin1(&with(field)), 400);
    }
    // The same on the first line behind the request line.
    check(&victim.server, "GET / HTTP/1.1\r\n Host: pi\r\n\r\n", 400);
    check(&victim.server, "GET / HTTP/1.1\r\n\tHost: pi\r\nX: y\r\n\r\n", 400);
    // Bytes above 127 in a value are allowed (RFC 9110 §5.5), and so are a tab and no value.
    check(&victim.server, with("User-Agent: \u{fc}ber"), 200);
    check(&victim.server, latin1(&with("User-Agent: \u{fc}ber")), 200);
    check(&victim.server, with("User-Agent: a\tb"), 200);
    check(&victim.server, with("User-Agent:"), 200);
    check(&victim.server, with("User-Agent: \t x \t "), 200);
    victim.expect_unharmed();
}

#[test]
fn a_host_that_is_missing_doubled_or_none_is_400() {
    let victim = Victim::new();
    let server = &victim.server;
    check(server, "GET / HTTP/1.1\r\n\r\n", 400);
    check(server, "GET http://pi/ HTTP/1.1\r\n\r\n", 400);
    check(server, "GET / HTTP/1.1\r\nHost: pi\r\nHost: pi\r\n\r\n", 400);
    check(server, "GET / HTTP/1.0\r\nHost: pi\r\nHost: evil.example.com\r\n\r\n", 400);
    for host in ["a b", "pi/x", "user@pi", "pi:port", "pi, evil.example.com", "[::1", "pi?x"] {
        check(server, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    check(server, "GET / HTTP/1.0\r\n\r\n", 200);
    check(server, "GET http://pi/ HTTP/1.0\r\n\r\n", 200);
    check(server, "GET / HTTP/1.0\r\nHost: evil.example.com\r\n\r\n", 421);
    check(server, "GET http://pi HTTP/1.0\r\n\r\n", 200);
    check(server, "GET HTTP://PI:80/app.css?x HTTP/1.0\r\n\r\n", 200);
    victim.expect_unharmed();
}

/// A request of exactly `length` bytes up to its empty line, with `count` header fields.
fn head_of(length: usize, count: usize) -> String {
    let mut head = "GET / HTTP/1.0\r\n".to_owned();
    (1..count).for_each(|n| head += &format!("X-{n}: y\r\n"));
    let left = length - head.len() - "Long: \r\n\r\n".len();
    head + &format!("Long: {}\r\n\r\n", "x".repeat(left))
}

#[test]
fn a_head_too_long_is_431_and_one_byte_less_is_not() {
    let victim = Victim::new();
    let server = &victim.server;
    check(server, head_of(8192, 1), 200);
    check(server, head_of(8193, 1), 431);
    check(server, head_of(20000, 1), 431);
    check(server, head_of(4000, 64), 200);
    check(server, head_of(4000, 65), 431);
    check(server, head_of(8000, 500), 431);
    // Without an end in sight.
    check(server, format!("GET /{}", "x".repeat(9000)), 431);
    check(server, "x".repeat(9000), 431);
    check(server, format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(9000)), 431);
    check(server, "\r\n".repeat(9000), 431);
    victim.expect_unharmed();
}

#[test]
fn methods_that_are_unknown_are_501_and_known_ones_405() {
    let victim = Victim::new();
    let server = &victim.server;
    let ask = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n")
    };
    for method in ["BREW", "get", "Get", "GETS", "PROPFIND", "X!#$%&'*+-.^_`|~", &"M".repeat(99)] {
        check(server, ask(method, "/"), 501);
        check(server, ask(method, "/nothing"), 501);
    }
    for method in ["POST", "DELETE"] {
        check(server, ask(method, "/"), 405);
    }
    // Methods that HTTP knows and this house has no use for.
    for method in ["PUT", "PATCH", "TRACE"] {
        check(server, ask(method, "/"), 501);
    }
    check(server, ask("CONNECT", "pi:80"), 501);
    victim.expect_unharmed();
}

/// What comes by mistake, from programs of another kind, and from those who hope that a server in
/// front reads it differently: the one answer to each. Bytes, one character each.
#[test]
fn each_request_that_others_might_read_differently_has_its_one_answer() {
    let victim = Victim::new();
    let get = |line: &str, fields: &str| format!("{line}\r\nHost: pi\r\n{fields}\r\n");
    let close = "Connection: close\r\n";
    let te = "Transfer-Encoding: chunked";
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (request, status) in [
        // Two ways to say how long the body is.
        (post(&format!("Content-Length: 5\r\n{te}"), chunks), 400),
        (post(&format!("{te}\r\nContent-Length: 5"), chunks), 400),
        (post(&format!("{te}\r\nContent-Length:"), chunks), 400),
        (post(&format!("{te}\r\n{te}"), chunks), 501),
        (post(&format!("{te}\r\nTransfer-Encoding: identity"), chunks), 501),
        (post(&format!("Transfer-Encoding: identity\r\n{te}"), chunks), 501),
        (post(&format!("Transfer-Encoding:\r\n{te}"), chunks), 501),
        (post("Transfer-Encoding: chunked,", chunks), 501),
        (post("Transfer-Encoding: ,chunked", chunks), 501),
        (post("Transfer-Encoding: chunked\x0b", chunks), 400),
        (post("Transfer-Encoding:\x0bchunked", chunks), 400),
        (post("Transfer-Encoding: chunk\u{e9}d", chunks), 400),
        (post("Transfer-Encoding\x0b: chunked", chunks), 400),
        (post("Transfer-Encoding:\tchunked", chunks), 405),
        (post("TRANSFER-ENCODING: CHUNKED", chunks), 405),
        (post("Content-Length: 5\r\nContent-Length: 5", "hello"), 405),
        (post("Content-Length: 5\r\nContent-Length: 05", "hello"), 400),
        (post("Content-Length: 5\r\nContent-Length: 0", "hello"), 400),
        (post("Content-Length: 5, 5", "hello"), 400),
        (post("Content-Length: 5\x00", "hello"), 400),
        (post("Content-Length : 5", "hello"), 400),
        (post("X: y\rContent-Length: 5", "hello"), 400),
        (post("X: y\r\n Content-Length: 5", "hello"), 400),
        (post("\0Content-Length: 5", "hello"), 400),
        // Numbers beyond any machine's.
        (post("Content-Length: 18446744073709551621", "hello"), 413), // 2^64 + 5
        (post("Content-Length: 4294967301", "hello"), 413),           // 2^32 + 5
        (post(&format!("Content-Length: {}", "9".repeat(4000)), ""), 413),
        (post(te, "10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        (post(te, "100000005\r\nhello\r\n0\r\n\r\n"), 413),
        (get("GET /video_feed?fps=1e999 HTTP/1.1", close), 400),
        (get("GET /snapshot?max_age=99999999999999999999 HTTP/1.1", close), 400),
        (get("GET /video_feed/99999999999999999999 HTTP/1.1", close), 404),
        (get("GET /gallery?page=99999999999999999999 HTTP/1.1", close), 200),
        (
            get("GET /app.css HTTP/1.1", &format!("Range: bytes={}-\r\n{close}", "9".repeat(99))),
            416,
        ),
        (get("GET / HTTP/99999999999999999999.1", close), 400),
        // The other forms of a target.
        (get("GET http://pi/ HTTP/1.1", close), 200),
        (get("GET https://pi/ HTTP/1.1", close), 200),
        (get("GET http://evil.example.com/ HTTP/1.1", close), 421),
        (get("GET http://evil.example.com@pi/ HTTP/1.1", close), 400),
        (get("GET http://pi@evil.example.com/ HTTP/1.1", close), 400),
        (get("GET http:/pi/ HTTP/1.1", close), 400),
        (get("GET //evil.example.com/ HTTP/1.1", close), 404),
        (get("GET pi:80 HTTP/1.1", close), 400),
        (get("CONNECT pi:80 HTTP/1.1", close), 501),
        (get("CONNECT / HTTP/1.1", close), 501),
        (get("OPTIONS * HTTP/1.1", close), 204),
        (get("GET * HTTP/1.1", close), 400),
        (get("TRACE / HTTP/1.1", close), 501),
        (get("TRACK / HTTP/1.1", close), 501),
        // Lines that are bent.
        (get("GET / HTTP/1.1", &format!("X: a\r\n b\r\n{close}")), 400),
        (get("GET / HTTP/1.1", &format!("X: a\rY: b\r\n{close}")), 400),
        (get("GET /\rX HTTP/1.1", close), 400),
        (get("GET /\0 HTTP/1.1", close), 400),
        (get("GET / HTTP/1.1\0", close), 400),
        (get("GET / HTTP/1.1", &format!("X: a\0b\r\n{close}")), 400),
        (get("GET / HTTP/1.1", &format!("X: \u{fc}\u{ff}\u{80}\r\n{close}")), 200),
        (get("GET / HTTP/1.1", &format!("Accept: \u{fc}\r\n{close}")), 400),
        (get("GET / HTTP/1.1", &format!("\u{fc}: x\r\n{close}")), 400),
        (get("G\u{fc}T / HTTP/1.1", close), 400),
        // Hosts.
        (get("GET / HTTP/1.1", &format!("Host: pi\r\n{close}")), 400),
        (get("GET / HTTP/1.1", &format!("Host: evil.example.com\r\n{close}")), 400),
        (format!("GET / HTTP/1.1\r\nHost:\r\n{close}\r\n"), 200),
        (format!("GET / HTTP/1.1\r\nHost: pi, pi\r\n{close}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: p\u{ef}\r\n{close}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: pi:99999999999\r\n{close}\r\n"), 200),
        (format!("GET / HTTP/1.1\r\nHost : pi\r\n{close}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{close}\r\n"), 400),
        // What is expected of us.
        (get("GET / HTTP/1.1", &format!("Expect: 100-continue\r\n{close}")), 200),
        (get("GET / HTTP/1.1", &format!("Expect: 200-ok\r\n{close}")), 417),
        (get("GET / HTTP/1.1", &format!("Expect: 100-continue, x\r\n{close}")), 417),
    ] {
        check(&victim.server, latin1(&request), status);
    }
    victim.expect_unharmed();
}

/// An offer that need not be taken (RFC 9110, section 7.8); what is then said in the other protocol
/// is no request.
#[test]
fn an_upgrade_to_another_protocol_is_not_taken() {
    let victim = Victim::new();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let tls = "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n";
    for (fields, next) in [
        (websocket, &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..]),
        (h2c, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        (tls, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ] {
        let mut client = Client::connect(victim.server.addr());
        client.send(format!("GET /app.css HTTP/1.1\r\nHost: pi\r\n{fields}\r\n"));
        let reply = client.reply().expect(200);
        assert_eq!((reply.version.as_str(), reply.header("Upgrade")), ("HTTP/1.1", None));
        explained(&client.send(next).reply().expect(400));
        client.expect_end();
    }
    victim.expect_unharmed();
}

#[test]
fn a_length_that_is_none_is_400() {
    let victim = Victim::new();
    let server = &victim.server;
    for length in ["x", "-1", "+5", "5 5", "0x5", "5,6", "5, 6", "5;", "1e3", "\u{665}", "5.0"] {
        check(server, post(&format!("Content-Length: {length}"), "hello"), 400);
    }
    check(server, post("Content-Length:", "hello"), 400);
    check(server, post("Content-Length: 5\r\nContent-Length: 6", "hello!"), 400);
    check(server, post("Content-Length: 6\r\ncontent-length: 5", "hello!"), 400);
    check(server, post("Content-Length: 99999999999999999999999", ""), 413);
    check(server, post("Content-Length: 18446744073709551616", ""), 413);
    check(server, post("Content-Length: 5", "hello"), 405);
    check(server, post("Content-Length: 0", ""), 405);
    victim.expect_unharmed();
}

#[test]
fn a_transfer_coding_beside_a_length_or_in_http_1_0_is_400() {
    let victim = Victim::new();
    let server = &victim.server;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked";
    check(server, post(&format!("{chunked}\r\nContent-Length: 15"), body), 400);
    check(server, post(&format!("Content-Length: 15\r\n{chunked}"), body), 400);
    check(server, post(&format!("Content-Length: 15\n{chunked}"), body), 400);
    check(server, post("Transfer-Encoding: gzip\r\nContent-Length: 15", body), 400);
    check(server, post("Transfer-Encoding : chunked", body), 400);
    check(server, post("Transfer-Encoding\r\n : chunked", body), 400);
    check(server, format!("POST / HTTP/1.0\r\n{chunked}\r\n\r\n{body}"), 400);
    check(server, format!("GET / HTTP/1.0\r\n{chunked}\r\n\r\n{body}"), 400);
    check(server, "GET / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", 400);
    victim.expect_unharmed();
}

#[test]
fn a_coding_other_than_chunked_is_501() {
    let victim = Victim::new();
    let server = &victim.server;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for coding in ["gzip", "gzip, chunked", "identity", "xchunked", "deflate"] {
        check(server, post(&format!("Transfer-Encoding: {coding}"), body), 501);
    }
    for coding in ["", "chunked, chunked", "chunked, gzip", "chunked;x=1", "\"chunked\""] {
        check(server, post(&format!("Transfer-Encoding: {coding}"), body), 501);
    }
    // A coding that is no text is a coding all the same: a proxy may see `chunked` in it.
    check(server, latin1(&post("Transfer-Encoding: \u{fc}chunked", body)), 400);
    check(server, latin1(&post("Transfer-Encoding: \u{fc}", body)), 400);
    let both = post("Transfer-Encoding: \u{fc}\r\nContent-Length: 15", body);
    check(server, latin1(&both), 400);
    let two = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity";
    check(server, post(two, body), 501);
    for coding in ["chunked", "Chunked", "\tchunked "] {
        check(server, post(&format!("Transfer-Encoding:{coding}"), body), 405);
    }
    victim.expect_unharmed();
}

#[test]
fn chunks_are_decoded_strictly_and_within_the_limit() {
    let victim = Victim::new();
    let server = &victim.server;
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n000\r\n\r\n",
        "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "5;name=value\r\nhello\r\n0;last\r\n\r\n",
        "5\r\nhello\r\n0\r\nTrailer: field\r\nAnother: one\r\n\r\n",
        "5\r\nGET /\r\n0\r\n\r\n",
    ] {
        check(server, chunked(body), 405);
    }
    for body in [
        "x\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello5\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhell\r\n\r\n0\r\n\r\n",
        // A bare LF ends no line here: others read on behind it.
        "5\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "0\r\nTrailer: field\n\r\n",
        "0\r\nno field\r\n\r\n",
        "0\r\nTrailer: a\rb\r\n\r\n",
        "0\r\nTrailer: \0\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        check(server, chunked(body), 400);
    }
    check(server, chunked("FFFFFFFFFFFFFFFFF\r\n"), 400);
    check(server, chunked("FFFFFFFFFFFFFFFF\r\n"), 413);
    check(server, chunked("7FFFFFFFFFFFFFFF\r\n"), 413);
    check(server, chunked("100001\r\n"), 413);
    let many = format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(257);
    check(server, chunked(&many), 413);
    // Neither an extension nor the trailer may go on for ever.
    check(server, chunked(&format!("5;{}", "x".repeat(20_000))), 400);
    let trailer = format!("0\r\n{}", "X: y\r\n".repeat(20_000));
    check(server, chunked(&trailer), 400);
    victim.expect_unharmed();
}

#[test]
fn a_body_too_long_is_413_and_one_byte_less_is_not() {
    let victim = Victim::new();
    let mib = 1 << 20;
    check(&victim.server, post(&format!("Content-Length: {mib}"), &"x".repeat(mib)), 405);
    check(&victim.server, post(&format!("Content-Length: {}", mib + 1), ""), 413);
    victim.expect_unharmed();
}

/// A body belongs to its request: what looks like a request in it is none.
#[test]
fn a_body_is_never_taken_for_the_next_request() {
    let victim = Victim::new();
    let inner = "GET /smuggled HTTP/1.1\r\nHost: pi\r\n\r\n";
    let mut client = Client::connect(victim.server.addr());
    let length = inner.len();
    let fields = format!("Host: pi\r\nContent-Length: {length}\r\n");
    client.send(format!("GET /app.css HTTP/1.1\r\n{fields}\r\n{inner}"));
    let fields = "Host: pi\r\nTransfer-Encoding: chunked\r\n";
    let body = format!("{length:x}\r\n{inner}\r\n0\r\n\r\n");
    client.send(format!("GET /nothing HTTP/1.1\r\n{fields}\r\n{body}"));
    client.send("GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
    client.reply().expect(200);
    client.reply().expect(404);
    assert!(client.reply().expect(200).text().contains("<html"), "not the page");
    client.expect_end();
    assert!(!victim.server.log().contains("/smuggled"), "the body was taken for a request");
    victim.expect_unharmed();
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let victim = Victim::new();
    let server = &victim.server;
    let fields = "Host: pi\r\nExpect: 100-continue\r\n";
    let mut client = Client::connect(server.addr());
    client.send(format!("POST / HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n"));
    client.reply().expect(100);
    client.send("hello").reply().expect(405);
    // The body is too long: refused before it is sent.
    let request = format!("POST / HTTP/1.1\r\n{fields}Content-Length: 1048577\r\n\r\n");
    check(server, request, 413);
    // HTTP/1.0 knows no 100; the body comes without.
    let mut client = Client::connect(server.addr());
    client.send(format!("POST / HTTP/1.0\r\n{fields}Content-Length: 5\r\n\r\n"));
    client.send("hello").reply().expect(405);
    client.expect_end();
    victim.expect_unharmed();
}

/// A reset would take the reason away from a client that is still sending.
#[test]
fn the_reason_reaches_a_client_that_is_still_sending() {
    let victim = Victim::new();
    let piece = [b'x'; 100_000];
    for (head, status) in [
        ("POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 3000000\r\n\r\n".to_owned(), 413),
        (format!("GET / HTTP/1.1\r\nHost: pi\r\nX: {}", "x".repeat(9000)), 431),
        ("no request\r\n\r\n".to_owned(), 400),
    ] {
        // What is sent within a second is swallowed; a machine that took longer proves nothing.
        let attempt = || {
            let mut client = Client::connect(victim.server.addr());
            let begin = Instant::now();
            let mut send = |bytes: &[u8]| {
                let sent = client.try_send(bytes);
                // Time for the answer, and for a reset if there is one.
                thread::sleep(Duration::from_millis(10));
                sent
            };
            let sent = send(head.as_bytes()).and_then(|()| (0..30).try_for_each(|_| send(&piece)));
            let late = begin.elapsed() > Duration::from_millis(800);
            match sent.and_then(|()| client.try_reply(false)) {
                Ok(reply) => Some(reply),
                Err(_) if late => None,
                Err(error) => panic!("{status} did not arrive: {error}"),
            }
        };
        let reply = until(PATIENCE, attempt).expect("a machine with a second to spare");
        explained(&reply.expect(status));
    }
    victim.expect_unharmed();
}

#[test]
fn a_client_that_never_stops_sending_is_cut_off() {
    let victim = Victim::new();
    let mut client = Client::connect(victim.server.addr());
    client.send("no request\r\n\r\n");
    let junk = vec![b'x'; 65536];
    let cut = until(PATIENCE, || client.try_send(&junk).err());
    let kind = cut.expect("it is heard for ever").kind();
    let expected = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(expected.contains(&kind), "{kind:?}");
    drop(client);
    victim.expect_unharmed();
}

#[test]
fn a_request_may_come_one_byte_at_a_time() {
    let victim = Victim::new();
    let addr = victim.server.addr();
    let mut client = Client::connect(addr);
    let length = "Content-Length: 5\r\n\r\nhello";
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: pi\r\n\r\n".to_owned(), 200),
        ("GET /nothing HTTP/1.1\nHost: pi\n\n".to_owned(), 404),
        (format!("POST / HTTP/1.1\r\nHost: pi\r\n{length}"), 405),
    ] {
        for byte in request.as_bytes() {
            client.send([*byte]);
            thread::sleep(Duration::from_millis(1));
        }
        let reply = client.reply().expect(status);
        if reply.header("Connection") == Some("close") {
            client = Client::connect(addr);
        }
    }
    drop(client);
    victim.expect_unharmed();
}

#[test]
fn two_hundred_that_say_nothing_are_in_nobodys_way() {
    let victim = Victim::new();
    let server = &victim.server;
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    let memory = server.rss_kib();
    let idle: Vec<Client> = (0..200)
        .map(|n| {
            let mut client = Client::connect(server.addr());
            // Some have said half of something.
            client.send(&"GET / HTTP/1.1\r\nHost: p"[..n % 24]);
            client
        })
        .collect();
    server.get("/").expect(200);
    decode(&server.get("/snapshot").expect(200).body);
    stream.frame();
    stream.frame();
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 200 * 16, "{grown} KiB for 200 that said nothing");
    drop((idle, stream));
    victim.expect_unharmed();
}

/// Past `--max-viewers` + 200 connections the oldest idle one goes.
#[test]
fn more_connections_than_there_are_seats_displace_the_idle_and_no_stream() {
    let server = start(&["--max-viewers", "2", "--idle-off", "1s"]);
    let mut streams: Vec<Stream> =
        (0..2).map(|_| Stream::open(server.addr(), "/video_feed")).collect();
    let before = server.fds();
    let mut idle: Vec<Client> = Vec::new();
    for _ in 0..300 {
        idle.push(Client::connect(server.addr()));
    }
    server.get("/").expect(200);
    assert!(server.fds() <= before + 204, "{} descriptors", server.fds());
    idle[0].expect_end();
    for stream in &mut streams {
        stream.frame();
        stream.frame();
    }
    // The newest ones are still there.
    let last = idle.last_mut().unwrap();
    last.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
}

#[test]
fn a_house_that_is_exactly_full_shows_nobody_the_door() {
    let server = start(&["--max-viewers", "2"]);
    let mut guests: Vec<Client> = (0..202).map(|_| Client::connect(server.addr())).collect();
    for guest in &mut guests {
        guest.send("GET /nothing HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(404);
    }
}

/// Seats taken by people who are still typing are not free, but whoever comes gets an answer.
#[test]
fn a_burst_of_guests_into_a_full_house_is_answered() {
    let server = start(&["--max-viewers", "2"]);
    let typing = |count| -> Vec<Client> {
        let connect = |_| {
            let mut client = Client::connect(server.addr());
            client.send("G");
            client
        };
        (0..count).map(connect).collect()
    };
    let before = server.fds();
    for seats_free in [1, 0] {
        let typists = typing(202 - seats_free);
        let full = || (server.fds() >= before + typists.len()).then_some(());
        assert!(until(PATIENCE, full).is_some(), "{} descriptors", server.fds());
        // They stand at the door with their requests when the loop looks there again.
        server.signal(Signal::STOP);
        let mut burst: Vec<Client> = (0..10).map(|_| Client::connect(server.addr())).collect();
        for client in &mut burst {
            client.send("GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
        }
        server.signal(Signal::CONT);
        for client in &mut burst {
            let reply = client.reply();
            assert!(matches!(reply.status, 200 | 503), "{reply:?}");
            assert_eq!(reply.status == 503, reply.header("Retry-After").is_some());
        }
        drop((typists, burst));
        server.expect_fds(before);
    }
}

#[test]
fn connections_that_come_and_go_without_a_word_leave_nothing() {
    let victim = Victim::new();
    let addr = victim.server.addr();
    for n in 0..1000 {
        let mut socket = TcpStream::connect(addr).expect("connect");
        match n % 4 {
            0 => {}
            1 => socket.shutdown(Shutdown::Write).expect("shutdown"),
            2 => socket.write_all(b"GET / HTTP/1.1\r\nHo").expect("send"),
            _ => {
                socket.write_all(b"GET / HTTP/1.1\r\nHo").expect("send");
                socket.shutdown(Shutdown::Write).expect("shutdown");
                let _ = socket.set_read_timeout(Some(PATIENCE));
                let mut reply = Vec::new();
                socket.read_to_end(&mut reply).expect("an end");
            }
        }
    }
    victim.expect_unharmed();
}

/// Replies that are not read are not piled up: the server stops to read requests.
#[test]
fn a_client_that_asks_without_reading_is_made_to_wait() {
    let victim = Victim::new();
    let server = &victim.server;
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    let memory = server.rss_kib();
    let requests = "GET / HTTP/1.1\r\nHost: pi\r\n\r\n".repeat(2000);
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    let error = loop {
        match socket.write(requests.as_bytes()) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 100 << 20, "it takes all");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    let grown = server.rss_kib().saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more");
    server.get("/").expect(200);
    drop(socket);
    victim.expect_unharmed();
}

/// Without descriptors an accept loop spins, because the listener stays ready.
#[test]
fn without_descriptors_it_neither_spins_nor_forgets_who_waits() {
    let server = start(&["--fps", "5"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.part();
    server.get("/nothing").expect(404);
    // Other programs' descriptors cannot be taken away; this one's own limit can.
    let limit = server.fds() as u64 + 10;
    let pid = Pid::from_raw(server.pid() as i32);
    let few = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
    prlimit(pid, Resource::Nofile, few).expect("lower the limit of a child");
    let mut crowd: Vec<Client> = (0..60).map(|_| Client::connect(server.addr())).collect();
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n");
    }
    let idle: Vec<Client> = (0..20).map(|_| Client::connect(server.addr())).collect();
    for client in &mut crowd {
        assert!(matches!(client.reply().status, 200 | 500 | 503));
    }
    // Now those that say nothing hold all there are.
    let (begin, used, noted) = (Instant::now(), server.cpu(), server.log().len());
    while begin.elapsed() < Duration::from_secs(3) {
        stream.part();
    }
    let (used, time) = (server.cpu() - used, begin.elapsed());
    assert!(used < time / 2, "{used:?} of the processor in {time:?}");
    assert!(server.fds() as u64 >= limit - 1, "{} descriptors of {limit}", server.fds());
    let news = &server.log()[noted..];
    let said = news.lines().filter(|line| line.contains("accept")).count();
    assert!(said <= 1, "a fault that lasts is said once: {news}");
    drop(idle);
    server.get("/").expect(200);
    stream.part();
}

/// Requests with one thing wrong, chosen by a generator that is the same each time.
#[test]
fn damaged_requests_are_answered_or_closed_and_never_more() {
    let victim = Victim::new();
    let seeds: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n",
        b"GET /app.css HTTP/1.0\r\nRange: bytes=0-4\r\nIf-None-Match: \"x\", *\r\n\r\n",
        b"PUT /x HTTP/1.1\r\nHost: pi\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: pi\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"GET http://pi/%2e%2e/?fps=1&max_age=1 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ];
    let mut seeded = Chance(0x9e37_79b9_7f4a_7c15);
    let mut chance = |limit| seeded.below(limit);
    for round in 0..1500 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=chance(3) {
            let at = chance(bytes.len());
            match chance(5) {
                0 => bytes[at] = chance(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => bytes.insert(at, b"\r\n\0 :,;%/\xff\t"[chance(11)]),
                3 => drop(bytes.remove(at)),
                _ => bytes.splice(at..at, bytes.clone()).for_each(drop),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let mut client = Client::connect(victim.server.addr());
        client.send(&bytes);
        client.socket().shutdown(Shutdown::Write).expect("shutdown");
        // Whatever comes is made of whole, strict replies, and then it ends.
        loop {
            match client.try_reply(false) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => panic!("{error} for {shown:?}"),
            }
        }
        assert_eq!(client.rest().unwrap(), b"", "half a reply for {shown:?}");
    }
    victim.expect_unharmed();
}

// ---- half a minute and more ------------------------------------------------------------------

#[test]
fn a_head_or_body_that_never_ends_is_408_and_silence_is_a_silent_close() {
    if !util::long() {
        return;
    }
    let victim = Victim::new();
    let addr = victim.server.addr();
    let begin = Instant::now();
    let (mut head, mut body) = (Client::connect(addr), Client::connect(addr));
    let mut idle = Client::connect(addr);
    head.send("GET / HTTP/1.1\r\nHo");
    body.send("POST / HTTP/1.1\r\nHost: pi\r\nContent-Length: 5\r\n\r\nhel");
    idle.send("GET / HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
    idle.expect_end();
    let waited = begin.elapsed();
    assert!((13..25).contains(&waited.as_secs()), "idle for {waited:?}");
    for client in [&mut head, &mut body] {
        client.reply().expect(408);
        client.expect_end();
    }
    let waited = begin.elapsed();
    assert!((28..45).contains(&waited.as_secs()), "{waited:?}");
    victim.expect_unharmed();
}
