//! One client as a machine, with a house around it that answers as the real one would: bytes come
//! cut anywhere and pipelined, leave through a window of any size, and time is pretended.

use std::io::IoSlice;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pistream::frame::{Frame, Picture, Shape};
use pistream::http::Now;
use pistream::http::conn::{Close, Conn, Need, Report};
use pistream::http::request::{Method, Request};
use pistream::http::response::{Body, Part, Response, Status, Validators};
use pistream::limits::{
    BODY_BYTES_MAX, CHUNK_BYTES, INBOX_BYTES_MAX, READ_BYTES, STALL_TIME_MAX, WRITE_PIECES_MAX,
};
use pistream::route::{Action, Hosts, route};

use super::{Dice, find};

pub fn run(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let whole = transcript(&[bytes], usize::MAX);
    let window = 300 + dice.roll(100_000);
    let cut = transcript(&dice.pieces(bytes), window);
    let first = whole.0.iter().zip(&cut.0).position(|(a, b)| a != b);
    assert!(cut == whole, "cut in pieces it is answered differently, from byte {first:?} on");
    walk(bytes, &mut dice);
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bytes of an answer that is no file and no frame.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const FRAME_BYTES: usize = 3000;
/// More than one chunk, and no multiple of one.
static BIG: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..CHUNK_BYTES + 17).map(|n| (n * 31 % 251) as u8).collect());

struct Talk {
    conn: Conn,
    now: Now,
    /// Bytes from the client, and bytes to it.
    received: usize,
    sent: Vec<u8>,
    /// What became of its requests.
    reports: Vec<Report>,
    /// An answer is wanted, a chunk from so many bytes on.
    asked: bool,
    chunk: Option<(u64, usize)>,
    /// The client has ended its half, we ours.
    ended: bool,
    cut: bool,
    closed: Option<Close>,
    frames: u64,
}

impl Talk {
    fn new() -> Talk {
        let wall = UNIX_EPOCH + Duration::from_secs(1_795_334_017);
        let now = Now { instant: Instant::now(), wall };
        Talk {
            conn: Conn::new(Arc::default(), now),
            now,
            received: 0,
            sent: Vec::new(),
            reports: Vec::new(),
            asked: false,
            chunk: None,
            ended: false,
            cut: false,
            closed: None,
            frames: 0,
        }
    }

    fn hears(&mut self, bytes: &[u8]) {
        self.received += bytes.len();
        self.conn.receive(bytes, self.now);
        self.look();
    }

    fn ends(&mut self) {
        self.ended = true;
        self.conn.receive_end(self.now);
        self.look();
    }

    /// Take note of what it needs; then all that is promised of it must hold.
    fn look(&mut self) {
        match self.conn.need() {
            Some(Need::Answer) => assert!(!std::mem::replace(&mut self.asked, true), "asked twice"),
            Some(Need::Chunk { offset, length }) => {
                let old = self.chunk.replace((offset, length));
                assert!(old.is_none() && (1..=CHUNK_BYTES).contains(&length));
            }
            Some(Need::HalfClose) => {
                assert!(!std::mem::replace(&mut self.cut, true), "told twice");
            }
            Some(Need::Close(reason)) => {
                assert_eq!(self.closed.replace(reason).unwrap_or(reason), reason, "for good");
                (self.asked, self.chunk) = (false, None);
            }
            Some(Need::Frame) => assert!(self.conn.outbox().is_empty(), "one frame at most"),
            None => {}
        }
        self.reports.extend(self.conn.report());
        self.check();
    }

    fn check(&self) {
        let conn = &self.conn;
        let (slices, owed) = conn.outbox().fill(&mut [IoSlice::new(&[]); WRITE_PIECES_MAX]);
        assert!(slices <= 5 && owed <= CHUNK_BYTES + ANSWER_BYTES_MAX, "one chunk or frame");
        assert!(conn.room() <= INBOX_BYTES_MAX);
        assert!(!self.ended || conn.room() == 0, "nothing is read after the end");
        // A growing buffer may have twice the room that it needs.
        let promised = INBOX_BYTES_MAX + BODY_BYTES_MAX.min(self.received);
        assert!(conn.held() <= 2 * promised + CHUNK_BYTES + ANSWER_BYTES_MAX, "{}", conn.held());
        assert_eq!(self.asked, conn.request().is_some());
        let waits = conn.deadline().is_some();
        if self.closed.is_some() {
            let served = self.asked || waits || conn.room() > 0 || conn.viewing().is_some();
            assert!(!served, "work left after the close");
        } else {
            let ours = self.asked || self.chunk.is_some() || conn.viewing().is_some();
            assert!(waits || owed == 0, "what is owed has a deadline");
            assert!(waits || ours || self.cut || conn.room() == 0, "forgotten");
        }
    }

    /// At most `limit` bytes leave; how many have.
    fn send(&mut self, limit: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
        let (count, _) = self.conn.outbox().fill(&mut slices);
        let mut left = limit;
        for slice in &slices[..count] {
            let taken = slice.len().min(left);
            self.sent.extend_from_slice(&slice[..taken]);
            left -= taken;
        }
        if left < limit {
            self.conn.sent(limit - left, self.now);
            self.look();
        }
        limit - left
    }

    /// Give it what it waits for; whether there was anything.
    fn meet(&mut self) -> bool {
        if std::mem::take(&mut self.asked) {
            let request = self.conn.request_mut().expect("a request that waits");
            request.may_change = true;
            let response = answer_to(request);
            self.conn.answer(response, self.now);
        } else if let Some((offset, length)) = self.chunk.take() {
            let bytes = BIG[offset as usize..][..length].to_vec();
            self.conn.chunk(bytes, self.now);
        } else {
            return false;
        }
        self.look();
        true
    }

    /// Until nothing moves any more.
    fn rest(&mut self, window: usize) {
        self.look();
        for _ in 0..1_000_000 {
            let sent = self.send(window);
            if !self.meet() && sent == 0 {
                return;
            }
        }
        panic!("it turns and turns");
    }

    fn offer(&mut self) {
        self.frames += 1;
        self.conn.offer(&part(self.frames), self.now);
        self.look();
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        if self.conn.deadline().is_some_and(|deadline| deadline <= self.now.instant) {
            self.conn.expire(self.now);
            self.look();
        }
    }
}

/// As the real house answers, but that there is a file at `/big`.
fn answer_to(request: &Request) -> Response {
    if request.path.as_deref() == Some("/big") {
        let body = Body::Pulled(BIG.len() as u64);
        let mut response = Response::new(Status::Ok, "image/png", body);
        response.validators = Validators { etag: Some("\"b\"".to_owned()), modified: None };
        return response;
    }
    match route(request, &Hosts::default(), 2) {
        Action::Reply(response) => response,
        Action::Stream { fps, .. } => Response::stream(fps),
        Action::Snapshot { .. } if request.method == Method::Head => Response::snapshot_head(),
        Action::Snapshot { .. } => Response::snapshot(part(1).frame.clone()),
        Action::Photo { .. } => Response::see_other("../view/x"),
        Action::Status => Response::unavailable("The disk is busy."),
        _ => Response::sentence(Status::Ok, "It is there."),
    }
}

fn part(number: u64) -> Arc<Part> {
    let captured = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
    let (live, jpeg) = (Picture::Live { settled: true }, vec![number as u8; FRAME_BYTES]);
    let frame = Frame::new(number, Instant::now(), captured, live, Shape::default(), jpeg, None);
    Arc::new(Part::new(Arc::new(frame)))
}

// ---- any cut --------------------------------------------------------------------------------

/// All that a client gets that sends these pieces and takes so many bytes at a time. Whether it is
/// told to go on with a body depends on how much of it has come already: that is left out.
fn transcript(pieces: &[&[u8]], window: usize) -> (Vec<u8>, Option<Close>) {
    let mut talk = Talk::new();
    for mut piece in pieces.iter().copied() {
        loop {
            talk.rest(window);
            let (now, later) = piece.split_at(talk.conn.room().min(piece.len()));
            if now.is_empty() {
                break; // it is through, or not listened to: then it stays in the kernel
            }
            talk.hears(now);
            piece = later;
        }
    }
    talk.rest(window);
    talk.ends();
    talk.rest(window);
    for _ in 0..2 {
        talk.offer();
        talk.rest(window);
    }
    (answers(&talk.sent, &talk.reports), talk.closed)
}

/// Read what was sent as a strict client does, who knows what it has asked for (RFC 9112, section
/// 6); gives the answers as they came.
fn answers(mut sent: &[u8], reports: &[Report]) -> Vec<u8> {
    let mut answers = Vec::new();
    for report in reports {
        while let Some(rest) = sent.strip_prefix(CONTINUE) {
            sent = rest;
        }
        let end = find(sent, b"\r\n\r\n").expect("the end of a head");
        let head = std::str::from_utf8(&sent[..end]).expect("a head of text");
        answers.extend_from_slice(&sent[..end + 4]);
        sent = &sent[end + 4..];
        let (line, fields) = head.split_once("\r\n").expect("fields");
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..));
        assert_eq!(status, Some(report.status.line()));
        let fields: Vec<(&str, &str)> = fields.split("\r\n").map(field).collect();
        let all = |name: &str| -> Vec<&str> {
            fields.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect()
        };
        assert!(all("Transfer-Encoding").is_empty() && all("Content-Length").len() <= 1);
        if report.method == Some(Method::Head) || ["204", "304"].contains(&report.status.code()) {
            continue;
        }
        if all("Content-Type")[0].starts_with("multipart/x-mixed-replace") {
            assert!(std::ptr::eq(report, &reports[reports.len() - 1]), "a stream has no end");
            check_stream(sent);
            answers.extend_from_slice(sent);
            return answers;
        }
        let length: usize = all("Content-Length")[0].parse().expect("a number");
        assert!(sent.len() >= length, "the body breaks off");
        answers.extend_from_slice(&sent[..length]);
        sent = &sent[length..];
    }
    while let Some(rest) = sent.strip_prefix(CONTINUE) {
        sent = rest; // and then the client left
    }
    assert!(sent.is_empty(), "more than was asked for: {:?}", String::from_utf8_lossy(sent));
    answers
}

fn field(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(": ").expect("a field");
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{line:?}");
    assert!(!value.is_empty() && !value.contains(|c: char| c.is_control()), "{line:?}");
    (name, value)
}

fn check_stream(body: &[u8]) {
    let mut rest = body.strip_prefix(b"--frame\r\n").expect("a boundary");
    while !rest.is_empty() {
        let end = find(rest, b"\r\n\r\n").expect("the end of a part's head");
        let (frame, next) = rest[end + 4..].split_at(FRAME_BYTES);
        assert!(frame.iter().all(|b| *b == frame[0]), "one frame");
        rest = next.strip_prefix(b"\r\n--frame\r\n").expect("a boundary behind the frame");
    }
}

// ---- random walks ---------------------------------------------------------------------------

/// The bytes over and over, to a house that is slow, from a client that is slower, in time that
/// passes. `Talk::look` checks after each step; and whatever has happened, it has an end.
fn walk(bytes: &[u8], dice: &mut Dice) {
    let mut talk = Talk::new();
    let mut flood = bytes.iter().copied().cycle().take(20 * bytes.len());
    for _ in 0..100 {
        match dice.roll(9) {
            0..=2 if !talk.ended => {
                let longest = [50, READ_BYTES][dice.roll(2)];
                let room = talk.conn.room().min(1 + dice.roll(longest));
                let piece: Vec<u8> = flood.by_ref().take(room).collect();
                if !piece.is_empty() {
                    talk.hears(&piece);
                }
            }
            3 => drop(talk.send(1 + [10, 1000, 100_000][dice.roll(3)])),
            4 | 5 => drop(talk.meet()),
            6 => talk.offer(),
            7 => {
                talk.now.wall = UNIX_EPOCH + Duration::from_secs(dice.roll(1 << 30) as u64 * 4);
                talk.pass(Duration::from_millis(dice.roll(3000) as u64));
            }
            8 if dice.roll(20) == 0 => talk.ends(),
            _ => {}
        }
    }
    talk.ends();
    for _ in 0..4 {
        talk.rest(usize::MAX);
        talk.pass(STALL_TIME_MAX);
    }
    if talk.conn.viewing().is_some() {
        talk.conn.close(Close::Shutdown);
        talk.look();
    }
    assert!(talk.closed.is_some(), "it never ends: {:?}", talk.conn);
    talk.hears(bytes);
    talk.offer();
    talk.conn.answer(Response::not_found(), talk.now);
    talk.conn.chunk(vec![1], talk.now);
    talk.conn.expire(talk.now);
    talk.ends();
}
