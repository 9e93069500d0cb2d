//! `Conn` and the request parser with an invented clock: scripts of bytes and answers, the
//! property that cuts do not matter, and seeded random walks with invariants after each step.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pistream::frame::{Frame, Picture, Shape};
use pistream::http::Now;
use pistream::http::conn::{Close, Conn, Need};
use pistream::http::request::{Method, parse};
use pistream::http::response::{Body, Part, Response, Status, Validators};
use pistream::http::viewing::Viewing;
use pistream::limits::{
    BODY_TIME_MAX, CHUNK_BYTES, DRAIN_TIME_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, IDLE_TIME_MAX,
    INBOX_BYTES_MAX, STALL_TIME_MAX, WRITE_PIECES_MAX,
};
use proptest::prelude::*;

/// Bytes of `/big`: more than one chunk, and no multiple of one.
const BIG: u64 = 3 * CHUNK_BYTES as u64 + 17;

/// A `Conn`, its clock, and a house that answers by path.
struct Talk {
    conn: Conn,
    now: Now,
    /// All that went to the client.
    sent: Vec<u8>,
    /// The house answers by itself.
    answers: bool,
    /// The client's window: bytes that it takes in one go.
    window: usize,
    half_closed: bool,
    closed: Option<Close>,
    frames: u64,
}

impl Talk {
    fn new() -> Talk {
        let wall = UNIX_EPOCH + Duration::from_secs(1_795_334_017);
        let now = Now { instant: Instant::now(), wall };
        let conn = Conn::new(Arc::default(), now);
        Talk {
            conn,
            now,
            sent: Vec::new(),
            answers: true,
            window: usize::MAX,
            half_closed: false,
            closed: None,
            frames: 0,
        }
    }

    /// Bytes come in as the loop brings them: never more than there is room for.
    fn hears(&mut self, mut bytes: &[u8]) -> &mut Talk {
        while !bytes.is_empty() {
            self.rest();
            let room = self.conn.room().min(bytes.len());
            if room == 0 {
                break; // it does not listen: the bytes stay in the kernel
            }
            self.conn.receive(&bytes[..room], self.now);
            bytes = &bytes[room..];
        }
        self.rest()
    }

    fn ends(&mut self) -> &mut Talk {
        self.rest();
        self.conn.receive_end(self.now);
        self.rest()
    }

    /// Send and meet needs until nothing moves.
    fn rest(&mut self) -> &mut Talk {
        loop {
            let sent = self.send(self.window);
            let met = self.meet();
            if sent == 0 && !met {
                return self;
            }
        }
    }

    fn send(&mut self, limit: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
        let (count, owed) = self.conn.outbox().fill(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(all.len(), owed);
        let sent = owed.min(limit);
        self.sent.extend(&all[..sent]);
        if sent > 0 {
            self.conn.sent(sent, self.now);
        }
        sent
    }

    fn meet(&mut self) -> bool {
        match self.conn.need() {
            Some(Need::Answer) if self.answers => {
                let response = answer_to(&self.conn);
                self.conn.answer(response, self.now);
            }
            Some(Need::Chunk { offset, length }) => {
                assert!(length <= CHUNK_BYTES && offset + length as u64 <= BIG);
                let bytes = (offset..offset + length as u64).map(big_byte).collect();
                self.conn.chunk(bytes, self.now);
            }
            Some(Need::HalfClose) => {
                assert!(!std::mem::replace(&mut self.half_closed, true), "told once");
            }
            Some(Need::Close(reason)) => {
                assert_eq!(self.closed.replace(reason).unwrap_or(reason), reason);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn offer(&mut self, number: u64) -> &mut Talk {
        self.conn.offer(&part(number), self.now);
        self
    }

    fn passes(&mut self, time: Duration) -> &mut Talk {
        self.now.instant += time;
        self.now.wall += time;
        if self.conn.deadline().is_some_and(|deadline| deadline <= self.now.instant) {
            self.conn.expire(self.now);
        }
        self.rest()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent).into_owned()
    }

    /// Status codes in the order in which they were sent.
    fn codes(&self) -> Vec<String> {
        let text = self.text();
        text.split("HTTP/1.").skip(1).map(|rest| rest[2..5].to_owned()).collect()
    }
}

fn answer_to(conn: &Conn) -> Response {
    let request = conn.request().expect("a request that waits");
    match request.path.as_deref() {
        Some("/hello") => sentence("hello"),
        Some("/body") => sentence(&format!(
            "{} {:?}",
            request.body.len(),
            &request.body[..request.body.len().min(8)]
        )),
        Some("/big") => {
            let mut response = Response::new(Status::Ok, "image/png", Body::Pulled(BIG));
            response.validators = Validators { etag: Some("\"b\"".into()), modified: None };
            response
        }
        Some("/stream") => Response::stream(None),
        Some("/slow") => Response::stream(Some(2.0)),
        _ => Response::sentence(Status::NotFound, "There is no such page."),
    }
}

fn sentence(text: &str) -> Response {
    Response::sentence(Status::Ok, text)
}

fn big_byte(at: u64) -> u8 {
    (at * 31 % 251) as u8
}

fn part(number: u64) -> Arc<Part> {
    let captured = SystemTime::UNIX_EPOCH + Duration::from_millis(1000 * number);
    let jpeg = vec![number as u8; 3000];
    let live = Picture::Live { settled: true };
    Arc::new(Part::new(Arc::new(Frame::new(
        number,
        Instant::now(),
        captured,
        live,
        Shape::default(),
        jpeg,
        None,
    ))))
}

const GET: &[u8] = b"GET /hello HTTP/1.1\r\nHost: pi\r\n\r\n";

// ---- scripts --------------------------------------------------------------------------------

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    let mut talk = Talk::new();
    talk.hears(GET).hears(GET);
    assert_eq!(talk.codes(), ["200", "200"]);
    assert!(talk.text().contains("Content-Length: 6\r\n"));
    assert!(talk.text().contains("Date: Sun, 22 Nov 2026 07:53:37 GMT\r\n"), "{}", talk.text());
    assert_eq!(talk.closed, None);
    talk.ends();
    assert_eq!(talk.closed, Some(Close::Done));
}

#[test]
fn the_stream_is_the_transcript_of_the_contract() {
    let mut talk = Talk::new();
    talk.hears(b"GET /stream HTTP/1.0\r\n\r\n").offer(1).rest().offer(1).rest();
    let head = "HTTP/1.0 200 OK\r\n\
        Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\
        Connection: close\r\n\
        Server: pistream/0.1.0\r\n\
        Date: Sun, 22 Nov 2026 07:53:37 GMT\r\n\
        Cache-Control: no-store\r\n\r\n--frame\r\n";
    let frame = |n: u8| {
        let head = format!(
            "Content-Type: image/jpeg\r\nContent-Length: 3000\r\nX-Timestamp: {n}.000000\r\n\r\n"
        );
        [head.as_bytes(), &[n; 3000], b"\r\n--frame\r\n"].concat()
    };
    assert_eq!(talk.sent, [head.as_bytes(), &frame(1)].concat(), "a frame is sent once");
    talk.offer(2).rest();
    assert_eq!(talk.sent, [head.as_bytes(), &frame(1), &frame(2)].concat());
    assert_eq!(talk.conn.viewing().map(Viewing::frames), Some(2));
}

#[test]
fn a_slow_viewer_skips_frames_and_gets_the_newest() {
    let mut talk = Talk::new();
    talk.hears(b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n").offer(17);
    talk.send(100); // still in the middle of 17 when the next ones come
    talk.offer(18).offer(19);
    talk.rest().offer(20).rest();
    let text = talk.text();
    let shown: Vec<&str> =
        text.split("X-Timestamp: ").skip(1).map(|rest| rest.split('.').next().unwrap()).collect();
    assert_eq!(shown, ["17", "20"]);
}

#[test]
fn a_pause_repeats_the_last_frame_but_not_for_slow_paces() {
    let mut talk = Talk::new();
    talk.hears(b"GET /stream HTTP/1.0\r\n\r\n");
    talk.conn.repeat(&part(1), talk.now); // nothing was shown yet
    talk.rest().offer(1).rest();
    talk.conn.repeat(&part(1), talk.now);
    talk.rest();
    assert_eq!(talk.text().matches("X-Timestamp: 1.0").count(), 2);
    talk.conn.repeat(&part(2), talk.now); // not the frame that it has
    talk.rest();
    assert_eq!(talk.text().matches("X-Timestamp").count(), 2);

    let mut slow = Talk::new();
    slow.hears(b"GET /slow HTTP/1.0\r\n\r\n").offer(1).rest();
    slow.conn.repeat(&part(1), slow.now);
    slow.rest();
    assert_eq!(slow.text().matches("X-Timestamp").count(), 1);
    slow.offer(2).rest(); // too soon for two a second
    assert_eq!(slow.text().matches("X-Timestamp").count(), 1);
    slow.passes(Duration::from_millis(500)).offer(3).rest();
    assert_eq!(slow.text().matches("X-Timestamp: 3.0").count(), 1);
}

#[test]
fn what_a_viewer_says_is_thrown_away_and_a_half_close_ends_no_stream() {
    let mut talk = Talk::new();
    talk.hears(b"GET /stream HTTP/1.0\r\n\r\n").offer(1).rest();
    talk.hears(&[0xff; 100_000]).hears(GET);
    talk.ends().offer(2).rest();
    assert_eq!(talk.text().matches("X-Timestamp").count(), 2);
    assert_eq!(talk.codes().len(), 1);
    assert_eq!(talk.closed, None);
    assert_eq!(talk.conn.room(), 0, "nothing more is read");
}

#[test]
fn a_half_close_ends_no_reply() {
    let mut talk = Talk::new();
    talk.answers = false;
    talk.hears(GET).ends();
    assert_eq!(talk.closed, None);
    talk.conn.answer(sentence("late"), talk.now);
    talk.rest();
    assert!(talk.text().ends_with("late\n"));
    assert_eq!(talk.closed, Some(Close::Done));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut talk = Talk::new();
    let requests = [
        GET,
        b"GET /big HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"HEAD /big HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n",
        GET, // never answered: the one before asked to close
    ];
    talk.hears(&requests.concat()).ends();
    assert_eq!(talk.codes(), ["200", "200", "200", "404"]);
    assert!(talk.half_closed);
    assert_eq!(talk.closed, Some(Close::Done));
    let big: Vec<u8> = (0..BIG).map(big_byte).collect();
    assert!(talk.sent.windows(big.len()).any(|window| window == big), "whole and in order");
}

#[test]
fn http_1_0_is_kept_only_when_asked_for() {
    let mut talk = Talk::new();
    talk.hears(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(talk.text().starts_with("HTTP/1.0 200 OK\r\n"));
    assert!(talk.text().contains("Connection: keep-alive\r\n"));
    assert_eq!((talk.half_closed, talk.closed), (false, None));
    talk.hears(b"GET /hello HTTP/1.0\n\n");
    assert!(talk.half_closed);
    assert_eq!(talk.codes(), ["200", "200"]);
}

#[test]
fn a_range_is_pulled_from_where_it_begins() {
    let mut talk = Talk::new();
    talk.hears(b"GET /big HTTP/1.1\r\nHost: pi\r\nRange: bytes=70000-70009\r\n\r\n");
    let expect: Vec<u8> = (70_000..70_010).map(big_byte).collect();
    assert!(talk.sent.ends_with(&[b"\r\n\r\n", &expect[..]].concat()));
    let range = format!("Content-Range: bytes 70000-70009/{BIG}\r\n");
    assert!(talk.text().contains(&range) && talk.text().contains("Content-Length: 10\r\n"));
    let mut current = Talk::new();
    current.hears(b"GET /big HTTP/1.1\r\nHost: pi\r\nIf-None-Match: W/\"a\", \"b\"\r\n\r\n");
    assert_eq!(current.codes(), ["304"]);
    assert!(!current.text().contains("Content-Length"));
}

#[test]
fn a_body_that_breaks_off_closes_the_connection() {
    let mut talk = Talk::new();
    talk.hears(b"GET /big HTTP/1.1\r\nHost: pi\r\n\r\n"); // whole
    let mut broken = Talk::new();
    broken.answers = false;
    broken.hears(b"GET /big HTTP/1.1\r\nHost: pi\r\n\r\n");
    broken.conn.answer(answer_to(&broken.conn), broken.now);
    broken.send(usize::MAX);
    assert!(matches!(broken.conn.need(), Some(Need::Chunk { offset: 0, .. })));
    assert_eq!(broken.conn.need(), None, "told once");
    broken.conn.chunk(Vec::new(), broken.now);
    broken.rest();
    assert_eq!(broken.closed, Some(Close::Truncated));
}

#[test]
fn bodies_are_read_by_length_and_by_chunks() {
    let mut talk = Talk::new();
    talk.hears(b"POST /body HTTP/1.1\r\nHost: pi\r\nContent-Length: 3\r\n\r\nabc");
    talk.hears(b"POST /body HTTP/1.1\r\nHost: pi\r\nTransfer-Encoding: chunked\r\n\r\n");
    talk.hears(b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n").hears(GET);
    assert_eq!(talk.codes(), ["200", "200", "200"]);
    assert_eq!(talk.text().matches("3 [97, 98, 99]").count(), 2);
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let mut talk = Talk::new();
    let head =
        b"POST /body HTTP/1.1\r\nHost: pi\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    talk.hears(head);
    assert_eq!(talk.text(), "HTTP/1.1 100 Continue\r\n\r\n");
    talk.hears(b"abc");
    assert_eq!(talk.codes(), ["100", "200"]);
    let mut large = Talk::new();
    large.hears(&[&head[..head.len() - 5], b"9999999\r\n\r\n"].concat());
    assert_eq!(large.codes(), ["413"], "the final status at once");
}

#[track_caller]
fn refuses(bytes: &[u8], code: &str) {
    let mut talk = Talk::new();
    talk.hears(bytes);
    assert_eq!(talk.codes(), [code], "{}", String::from_utf8_lossy(bytes).escape_debug());
    assert!(talk.text().contains("Connection: close\r\n"));
    assert!(talk.half_closed, "then it drains");
    assert!(talk.conn.room() > 0, "and swallows");
    talk.hears(&[b'x'; 50_000]).passes(DRAIN_TIME_MAX);
    assert_eq!(talk.closed, Some(Close::Done));
}

#[test]
fn malformed_requests_are_refused_with_their_status() {
    let with = |fields: &str| format!("POST /body HTTP/1.1\r\nHost: pi\r\n{fields}\r\n\r\n");
    let check = |fields: &str, code| refuses(with(fields).as_bytes(), code);
    refuses(b"\x16\x03\x01\x02\x00\x01", "400");
    refuses(b"GET /\r\n", "400");
    refuses(b"GET / HTTP/2.0\r\n\r\n", "400");
    refuses(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400");
    refuses(b"GET / HTTP/1.1\r\n\r\n", "400"); // no Host
    refuses(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400");
    refuses(b"GET hello HTTP/1.1\r\nHost: a\r\n\r\n", "400");
    refuses(b"GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n", "400");
    refuses(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400");
    refuses(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n", "400");
    refuses(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501");
    refuses(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "501");
    refuses(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "501");
    check("Content-Length: 3\r\nTransfer-Encoding: chunked", "400");
    check("Content-Length: 3\r\nContent-Length: 4", "400");
    check("Content-Length: 3, 3", "400");
    check("Content-Length: +3", "400");
    check("Content-Length: -1", "400");
    check("Content-Length:", "400");
    check("Content-Length: 1048577", "413");
    check("Content-Length: 99999999999999999999999", "413");
    check("Transfer-Encoding: gzip, chunked", "501");
    check("Transfer-Encoding: \u{a0}chunked", "501"); // not HTTP's white space
    check("Transfer-Encoding: chunked\u{85}", "501");
    refuses("GET / HTTP/1.1\r\nHost: pi\u{2003}\r\n\r\n".as_bytes(), "400");
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "501");
    check("Expect: 200-ok", "417");
    refuses(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400");
    for chunks in ["x\r\n", "-1\r\n", "1\r\nabc\r\n", "\r\n", "fffffffffffffffff\r\n"] {
        check(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"), "400");
    }
    check("Transfer-Encoding: chunked\r\n\r\n100001\r\n", "413");
    check(&format!("Transfer-Encoding: chunked\r\n\r\n{}", "1".repeat(300)), "400");
    check(&"X: y\r\n".repeat(64), "431");
    check(&format!("X: {}", "y".repeat(HEAD_BYTES_MAX)), "431");
    refuses(&[b'A'; HEAD_BYTES_MAX], "431");
}

/// Of HEAD nobody reads a body, so it would be taken for what follows. What begins with a byte that
/// is no line end and no part of a method, as a form feed, is no HEAD request, however much of it
/// has come when that is seen.
#[test]
fn a_refused_head_request_is_answered_without_a_body() {
    let check = |bytes: &[u8], code: &str, has_body: bool| {
        let (text, closed) = transcript(bytes, &[], usize::MAX);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
        assert!(head.contains("Content-Length: ") && !head.contains("Content-Length: 0"), "{head}");
        assert_eq!(!body.is_empty(), has_body, "{}", bytes.escape_ascii());
        for cut in 0..bytes.len().min(100) {
            assert_eq!(transcript(bytes, &[cut], usize::MAX), (text.clone(), closed), "at {cut}");
        }
    };
    let begins =
        ["HEAD", "\r\n\n\r\nHEAD", "GET", "HEADS", "head", "\x0cHEAD", "\x0bHEAD", " HEAD"];
    for (n, begin) in begins.into_iter().enumerate() {
        let code = if begin == "HEADS" || begin == "head" { "501" } else { "400" };
        let asked = format!("{begin} / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
        check(asked.as_bytes(), if n < 5 { code } else { "400" }, n >= 2);
        check(format!("{begin} /\0 HTTP/1.1\r\n\r\n").as_bytes(), "400", n >= 2);
    }
    check(format!("HEAD /{}", "x".repeat(HEAD_BYTES_MAX)).as_bytes(), "431", false);
    let blank = "\r\n".repeat(HEAD_BYTES_MAX / 2 - 1);
    check(format!("{blank}HEAD / HTTP/1.1\r\n\r\n").as_bytes(), "431", true);
    let chunks = "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    check(chunks.as_bytes(), "400", false);
    let mut late = Talk::new();
    late.hears(b"HEAD / HT").passes(HEAD_TIME_MAX);
    assert!(late.text().contains(" 408 ") && late.text().ends_with("\r\n\r\n"));
}

#[test]
fn equal_lengths_and_absolute_targets_are_accepted() {
    let mut talk = Talk::new();
    talk.hears(
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    );
    talk.hears(b"\r\n\r\nGET http://other:81/hello HTTP/1.1\r\nHost: pi\r\n\r\n");
    assert_eq!(talk.codes(), ["200", "200"]);
    let head = b"GET http://other:81 HTTP/1.1\r\nHost: pi\r\n\r\n";
    let request = parse(head).unwrap().unwrap().0.request;
    assert_eq!(request.host.as_deref(), Some("other:81"));
    assert_eq!(request.path.as_deref(), Some("/"));
    let head = b"GET http://other?action=stream HTTP/1.1\r\nHost: pi\r\n\r\n";
    let request = parse(head).unwrap().unwrap().0.request;
    assert_eq!(request.path.as_deref(), Some("/"));
    assert_eq!(request.query, "action=stream");
}

#[test]
fn paths_are_cleaned_or_name_nothing() {
    let path = |target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n");
        let request = parse(head.as_bytes()).unwrap().unwrap().0.request;
        assert_eq!(request.method, Method::Get);
        request.path
    };
    for (target, clean) in [
        ("/", "/"),
        ("//", "/"),
        ("/a//b/./c", "/a/b/c"),
        ("/a/", "/a/"),
        ("/a/.", "/a/"),
        ("/%E4%B8%AD%20x.md", "/中 x.md"),
        ("/a%3Fb?c=d", "/a?b"),
        ("/a%25b", "/a%b"),
    ] {
        assert_eq!(path(target).as_deref(), Some(clean), "{target}");
    }
    for target in [
        "/..",
        "/../x",
        "/a/../../x",
        "/%2e%2e/x",
        "/.%2e/x",
        "/a%2f..%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%00",
        "/.git/config",
        "/a/.hidden",
        "/%ff",
        "/..%252f/../x",
        "/...",
        "/a\\b",
    ] {
        assert_eq!(path(target), None, "{target}");
    }
}

// ---- time -----------------------------------------------------------------------------------

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_head_that_does_not_come_is_a_408() {
    let mut talk = Talk::new();
    talk.hears(b"GET / HT").passes(HEAD_TIME_MAX - MOMENT);
    assert_eq!(talk.codes().len(), 0);
    talk.passes(MOMENT);
    assert_eq!(talk.codes(), ["408"]);
    let mut silent = Talk::new(); // as browsers open connections in advance
    silent.passes(HEAD_TIME_MAX - MOMENT);
    assert_eq!(silent.closed, None);
    silent.passes(MOMENT);
    assert_eq!((silent.closed, silent.codes().len()), (Some(Close::Idle), 0));
    let mut drip = Talk::new();
    for _ in 0..31 {
        drip.hears(b"A").passes(Duration::from_secs(1));
    }
    assert_eq!(drip.codes(), ["408"], "each byte does not start the time anew");
}

#[test]
fn a_body_that_does_not_come_is_a_408() {
    let mut talk = Talk::new();
    talk.hears(b"POST /body HTTP/1.1\r\nHost: pi\r\nContent-Length: 100\r\n\r\n");
    for _ in 0..30 {
        talk.hears(b"x").passes(BODY_TIME_MAX / 30);
    }
    assert_eq!(talk.codes(), ["408"]);
}

#[test]
fn a_kept_connection_that_is_not_used_closes_silently() {
    let mut talk = Talk::new();
    talk.hears(GET).passes(IDLE_TIME_MAX - MOMENT);
    assert_eq!(talk.closed, None);
    talk.passes(MOMENT);
    assert_eq!((talk.closed, talk.codes().len()), (Some(Close::Idle), 1));
}

#[test]
fn a_client_that_takes_nothing_is_closed_and_one_that_takes_a_little_is_not() {
    for target in ["/big", "/stream"] {
        let mut talk = Talk::new();
        talk.window = 0;
        talk.hears(format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n").as_bytes()).offer(1);
        for _ in 0..20 {
            talk.passes(STALL_TIME_MAX - MOMENT);
            assert_eq!(talk.closed, None);
            assert_eq!(talk.send(1), 1);
        }
        talk.passes(STALL_TIME_MAX);
        assert_eq!(talk.closed, Some(Close::Stalled), "{target}");
    }
}

#[test]
fn a_viewer_without_frames_has_all_the_time() {
    let mut talk = Talk::new();
    talk.hears(b"GET /stream HTTP/1.0\r\n\r\n");
    assert_eq!(talk.conn.deadline(), None);
    talk.passes(Duration::from_secs(86_400)).offer(1).rest();
    assert_eq!(talk.closed, None);
}

// ---- any cut --------------------------------------------------------------------------------

/// Requests and rubbish, so that most streams hold several answers.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(GET.to_vec()),
        Just(b"GET /none HTTP/1.1\nHost: pi\n\n".to_vec()),
        Just(b"HEAD /big HTTP/1.1\r\nHost: pi\r\n\r\n".to_vec()),
        Just(b"GET /big HTTP/1.1\r\nHost: pi\r\nRange: bytes=5-\r\n\r\n".to_vec()),
        Just(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
        Just(b"GET /hello HTTP/1.0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        (0usize..40_000).prop_map(|n| {
            let head = format!("POST /body HTTP/1.1\r\nHost: pi\r\nContent-Length: {n}\r\n\r\n");
            [head.into_bytes(), vec![b'b'; n]].concat()
        }),
        prop::collection::vec(1usize..5000, 0..4).prop_map(|chunks| {
            let mut body =
                b"POST /body HTTP/1.1\r\nHost: pi\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for n in chunks {
                body.extend(format!("{n:x}\r\n").bytes());
                body.extend(vec![b'c'; n]);
                body.extend(b"\r\n");
            }
            [&body[..], b"0\r\n\r\n"].concat()
        }),
        Just(b"POST /body HTTP/1.1\r\nHost: pi\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
        (0usize..9000).prop_map(|n| vec![b'G'; n]),
    ]
}

/// All that a client gets for these bytes, cut at these places and read in these steps. Whether
/// a `100 Continue` is sent depends on what has come already, as it should: it is left out.
fn transcript(bytes: &[u8], cuts: &[usize], window: usize) -> (String, Option<Close>) {
    let mut talk = Talk::new();
    talk.window = window;
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        talk.hears(&bytes[at..cut.max(at)]);
        at = cut.max(at);
    }
    talk.ends();
    let text = talk.sent.iter().map(|b| char::from(*b)).collect::<String>();
    (text.replace("HTTP/1.1 100 Continue\r\n\r\n", ""), talk.closed)
}

/// Under Miri, a case takes seconds.
const CASES: u32 = if cfg!(miri) { 4 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_cut_of_the_byte_stream_gives_the_same_answers(
        pieces in prop::collection::vec(piece(), 1..6),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        window in 1usize..100_000,
    ) {
        let bytes = pieces.concat();
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = transcript(&bytes, &[], usize::MAX);
        prop_assert_eq!(&transcript(&bytes, &cuts, window.max(2000)), &whole);
    }
}

/// What is no request is known by its first byte that is no line end, whenever that comes.
#[test]
fn the_first_two_bytes_say_the_same_together_and_one_after_the_other() {
    for first in 0..=255 {
        for second in [0, b'\n', b'\r', b' ', b'G', 0x7f, 0xff] {
            for begin in [&b""[..], b"\r\n", GET] {
                let bytes = [begin, &[first, second]].concat();
                let cut = transcript(&bytes, &[begin.len(), bytes.len() - 1], usize::MAX);
                assert_eq!(cut, transcript(&bytes, &[], usize::MAX), "{first} {second}");
            }
        }
    }
}

/// What is wrong first is what is said, whatever has come behind it.
#[test]
fn what_stands_before_a_request_is_refused_the_same_in_any_cut() {
    let blank = vec![b'\n'; HEAD_BYTES_MAX];
    let late = [&blank[..], &[0x8d]].concat();
    for bytes in [&b"\n\r\r\n\x8d\n"[..], b"\r\r\x8d\n", b"\r\r\nHEAD / \n", b"\rHEAD / \n", &late]
    {
        let every: Vec<usize> = (0..bytes.len()).collect();
        let whole = transcript(bytes, &[], usize::MAX);
        assert!(whole.0.contains("HTTP/1.1 4"), "{}", bytes.escape_ascii());
        assert_eq!(transcript(bytes, &every, usize::MAX), whole, "{}", bytes.escape_ascii());
    }
}

#[test]
fn one_byte_at_a_time_gives_the_same_answers() {
    let bytes = [
        GET,
        b"POST /body HTTP/1.1\r\nHost: pi\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HEAD /hello HTTP/1.1\nHost: pi\n\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
    ]
    .concat();
    let every: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(transcript(&bytes, &every, usize::MAX), transcript(&bytes, &[], usize::MAX));
}

// ---- random walks ---------------------------------------------------------------------------

/// A small generator, so that a seed is a walk for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

fn check_invariants(talk: &Talk, ended: bool, asked: bool, seed: u64) {
    let conn = &talk.conn;
    let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
    let (count, owed) = conn.outbox().fill(&mut slices);
    assert!(conn.room() <= INBOX_BYTES_MAX, "seed {seed}");
    assert!(count <= 5 && owed <= CHUNK_BYTES + 1024, "one frame or chunk at most; seed {seed}");
    assert_eq!(conn.outbox().is_empty(), owed == 0, "seed {seed}");
    assert!(!ended || conn.room() == 0, "nothing is read after the end; seed {seed}");
    if talk.closed.is_none() && owed > 0 {
        assert!(conn.deadline().is_some(), "what is owed has a deadline; seed {seed}");
    }
    if talk.closed.is_none() && conn.deadline().is_none() {
        // Then it waits for the house: an answer, a chunk or a frame.
        assert!(asked || conn.viewing().is_some() || conn.room() == 0, "forgotten; seed {seed}");
    }
    assert_eq!(asked, conn.request().is_some(), "seed {seed}");
}

fn walk(seed: u64, steps: usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut talk = Talk::new();
    talk.answers = false;
    let (mut asked, mut chunk, mut ended) = (false, None, false);
    let script: [&[u8]; 9] = [
        GET,
        b"GET /big HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"GET /slow HTTP/1.0\r\n\r\n",
        b"HEAD /stream HTTP/1.1\r\nHost: pi\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: pi\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /body HTTP/1.1\r\nHost: pi\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"GET /hello HTTP/1.0\r\n\r\n",
        b"\0\x01\xff",
    ];
    let mut pending: Vec<u8> = Vec::new();
    for _ in 0..steps {
        match dice.roll(9) {
            0 => {
                let rare = dice.roll(20) == 0; // what ends the connection
                pending.extend(script[dice.roll(if rare { 9 } else { 7 })]);
            }
            1 | 2 => {
                let bytes = (1 + dice.roll(200)).min(pending.len()).min(talk.conn.room());
                if bytes > 0 && !ended {
                    let heard: Vec<u8> = pending.drain(..bytes).collect();
                    talk.conn.receive(&heard, talk.now);
                }
            }
            3 => drop(talk.send(1 + [10, 1000, 100_000][dice.roll(3)])),
            4 if asked => {
                let response = answer_to(&talk.conn);
                talk.conn.answer(response, talk.now);
                asked = false;
            }
            5 => {
                if let Some(length) = chunk.take() {
                    let length = if dice.roll(50) == 0 { 0 } else { length };
                    talk.conn.chunk(vec![7; length], talk.now);
                }
            }
            6 => {
                talk.frames += dice.roll(2) as u64;
                talk.conn.offer(&part(talk.frames), talk.now);
                if dice.roll(4) == 0 {
                    talk.conn.repeat(&part(talk.frames), talk.now);
                }
            }
            7 => {
                talk.now.instant += Duration::from_millis(dice.roll(3000) as u64);
                if talk.conn.deadline().is_some_and(|deadline| deadline <= talk.now.instant) {
                    talk.conn.expire(talk.now);
                    asked = talk.conn.request().is_some();
                }
            }
            8 if dice.roll(40) == 0 && !ended => {
                talk.conn.receive_end(talk.now);
                ended = true;
            }
            _ => {}
        }
        match talk.conn.need() {
            Some(Need::Answer) => asked = true,
            Some(Need::Chunk { length, .. }) => {
                assert!(chunk.replace(length).is_none(), "one chunk at a time; seed {seed}");
            }
            Some(Need::HalfClose) => {
                assert!(!talk.half_closed, "seed {seed}");
                talk.half_closed = true;
            }
            Some(Need::Close(reason)) => {
                talk.closed = Some(reason);
                assert_eq!(talk.conn.need(), Some(Need::Close(reason)), "for good; seed {seed}");
                return;
            }
            Some(Need::Frame) => assert!(talk.conn.outbox().is_empty(), "seed {seed}"),
            None => {}
        }
        check_invariants(&talk, ended, asked, seed);
    }
    // Whatever has happened: a house that answers and a client that goes bring it to its end.
    talk.answers = true;
    talk.conn.receive_end(talk.now);
    for _ in 0..100 {
        if asked {
            talk.conn.answer(answer_to(&talk.conn), talk.now);
            asked = false;
        }
        if let Some(length) = chunk.take() {
            talk.conn.chunk(vec![7; length], talk.now);
        }
        talk.passes(STALL_TIME_MAX);
    }
    let streams = talk.conn.viewing().is_some();
    assert!(talk.closed.is_some() || streams, "it never ends; seed {seed}: {:?}", talk.conn);
}

#[test]
fn random_walks_keep_the_invariants() {
    let walks = match std::env::var_os("PISTREAM_LONG") {
        _ if cfg!(miri) => 10,
        Some(_) => 200_000,
        None => 3_000,
    };
    for seed in 1..=walks {
        walk(seed, 400);
    }
}
