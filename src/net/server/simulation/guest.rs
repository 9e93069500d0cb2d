//! An invented guest: asks for this and that, at its own pace, and checks what it is sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::wire::Wire;
use super::{Chance, picture};
use crate::disk::invented::FILE_BYTES;
use crate::http::response::{PART_END, STREAM_START};

/// Requests that it sends before it has had an answer.
const PIPELINED_MAX: usize = 4;

/// What a file holds.
pub fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 / 7) as u8).collect()
}

pub struct Guest {
    pub wire: Rc<RefCell<Wire>>,
    number: usize,
    frame_bytes: usize,
    /// Bytes that it sends and takes at once.
    sends: usize,
    takes: usize,
    /// What it has yet to send.
    to_send: Vec<u8>,
    /// Requests that were not answered yet, or not sent.
    asked: VecDeque<Asked>,
    requests: usize,
    /// What it got and has not looked at.
    got: Vec<u8>,
    watches: Watches,
    /// It asks for nothing more.
    silent: bool,
    /// It went without a word.
    gone: bool,
}

/// What guests have seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Answers that were what was asked, …
    answers: usize,
    /// …refusals and failures, and frames of streams.
    refusals: usize,
    frames: usize,
    /// Connections that have ended, each way.
    ends: usize,
}

impl Seen {
    pub fn add(&mut self, more: Seen) {
        self.answers += more.answers;
        self.refusals += more.refusals;
        self.frames += more.frames;
        self.ends += more.ends;
    }

    pub fn each(&self) -> impl Iterator<Item = usize> {
        [self.answers, self.refusals, self.frames, self.ends].into_iter()
    }
}

#[derive(Debug)]
enum Asked {
    /// What says its path; nobody else asks for that.
    Page(String),
    Head,
    File,
    Snapshot,
    Photo,
    Controls,
    Status,
    Form,
    Stream,
    Garbage,
    /// A request that does not end.
    Torso,
}

#[derive(Clone, Copy, PartialEq)]
enum Watches {
    No,
    /// It has not had the first boundary.
    Begins,
    /// The number of the last frame that it got.
    Frames(u64),
}

// ---- what it does ---------------------------------------------------------------------------

impl Guest {
    pub fn new(number: usize, frame_bytes: usize, chance: &mut Chance) -> Guest {
        let some = |chance: &mut Chance| [9, 100, 3000, 500_000][chance.below(4)];
        let room = [700, 5000, 60_000, 400_000][chance.below(4)];
        let own = Chance(chance.below(1 << 30) as u64);
        Guest {
            wire: Rc::new(RefCell::new(Wire::new(room, own))),
            number,
            frame_bytes,
            sends: some(chance),
            takes: some(chance),
            to_send: Vec::new(),
            asked: VecDeque::new(),
            requests: 0,
            got: Vec::new(),
            watches: Watches::No,
            silent: false,
            gone: false,
        }
    }

    pub fn act(&mut self, chance: &mut Chance) {
        match chance.below(200) {
            _ if self.gone => {}
            0 => {
                self.gone = true;
                self.wire.borrow_mut().reset();
            }
            1 => self.end(),
            2..30 if self.asked.len() < PIPELINED_MAX => self.ask(chance),
            30..90 => self.send(self.sends),
            _ => self.take(self.takes),
        }
    }

    pub fn act_calmly(&mut self) {
        if self.gone {
            return;
        }
        self.send(usize::MAX);
        self.take(usize::MAX);
        if self.wire.borrow().is_over() {
            self.end();
        }
    }

    fn send(&mut self, most: usize) {
        let bytes: Vec<u8> = self.to_send.drain(..most.min(self.to_send.len())).collect();
        if !bytes.is_empty() {
            self.wire.borrow_mut().send(&bytes);
        }
    }

    fn take(&mut self, most: usize) {
        self.wire.borrow_mut().take(most, &mut self.got);
    }

    /// Send no more, not even what was begun.
    fn end(&mut self) {
        self.silent = true;
        self.to_send.clear();
        self.wire.borrow_mut().end();
    }

    fn ask(&mut self, chance: &mut Chance) {
        if self.silent {
            return;
        }
        self.requests += 1;
        let path = format!("/{}/{}", self.number, self.requests);
        let close = if chance.once_in(6) { "Connection: close\r\n" } else { "" };
        let plain = |method: &str, target: &str| {
            format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}\r\n")
        };
        let (text, asked) = match chance.below(25) {
            0..6 => (plain("GET", &path), Asked::Page(path)),
            6 => (plain("HEAD", &path), Asked::Head),
            7..10 => (plain("GET", &format!("/file{path}")), Asked::File),
            10..13 => (plain("GET", "/snapshot"), Asked::Snapshot),
            13..15 => (plain("POST", "/photo"), Asked::Photo),
            15 => (plain("GET", "/controls"), Asked::Controls),
            16..18 => {
                let body = "x=1&".repeat(chance.below(8000));
                let head = "POST /gallery/delete HTTP/1.1\r\nHost: 127.0.0.1\r\n";
                let length = body.len();
                (format!("{head}{close}Content-Length: {length}\r\n\r\n{body}"), Asked::Form)
            }
            18..22 => {
                let target = ["/video_feed", "/video_feed?fps=3"][chance.below(2)];
                (plain("GET", target), Asked::Stream)
            }
            22 => (plain("GET", "/status"), Asked::Status),
            23 => ("GET /\0 HTTP/1.1\r\n\r\n".to_owned(), Asked::Garbage),
            _ => ("GET /torso HTTP/1.1\r\nHost".to_owned(), Asked::Torso),
        };
        self.silent |= !close.is_empty();
        self.silent |= matches!(asked, Asked::Stream | Asked::Garbage | Asked::Torso);
        self.to_send.extend(text.bytes());
        self.asked.push_back(asked);
    }
}

// ---- what it expects ------------------------------------------------------------------------

impl Guest {
    /// Look at what has come; whether it stays.
    pub fn stays(&mut self, seen: &mut Seen) -> bool {
        while self.read_one(seen) {}
        let wire = self.wire.borrow();
        let stays = !(wire.dropped && wire.is_over());
        seen.ends += usize::from(!stays);
        stays
    }

    pub fn take_moves(&self) -> u64 {
        self.wire.borrow().moves.take()
    }

    /// It has had all that it asked for, unless it was told that there is nothing more for it.
    #[track_caller]
    pub fn expect_served(&self, newest: u64) {
        if self.gone || self.wire.borrow().is_over() {
            return;
        }
        match self.watches {
            Watches::No => {
                assert!(self.asked.is_empty(), "forgotten with {:?} asked", self.asked);
                assert!(self.got.is_empty(), "forgotten with half an answer");
            }
            Watches::Begins => panic!("forgotten without a frame"),
            // One for three a second may be as old as that.
            Watches::Frames(last) => assert!(last + 20 >= newest, "forgotten without its frame"),
        }
    }

    /// Look at the next answer or frame, if it is whole.
    fn read_one(&mut self, seen: &mut Seen) -> bool {
        match self.watches {
            Watches::No => self.read_answer(seen),
            Watches::Begins => {
                let begins = self.got.len() >= STREAM_START.len();
                if begins {
                    assert!(self.got.starts_with(STREAM_START));
                    self.got.drain(..STREAM_START.len());
                    self.watches = Watches::Frames(0);
                }
                begins
            }
            Watches::Frames(last) => {
                let read = self.read_frame(last);
                seen.frames += usize::from(read);
                read
            }
        }
    }

    fn read_frame(&mut self, last: u64) -> bool {
        let Some(head) = Head::in_front_of(&self.got) else { return false };
        let end = head.bytes + head.length.expect("a frame's length");
        if self.got.len() < end + PART_END.len() {
            return false;
        }
        let number = number_of(&self.got[head.bytes..end], self.frame_bytes);
        assert!(number >= last, "frame {number} after {last}");
        assert!(self.got[end..].starts_with(PART_END));
        self.got.drain(..end + PART_END.len());
        self.watches = Watches::Frames(number);
        true
    }

    fn read_answer(&mut self, seen: &mut Seen) -> bool {
        let Some(head) = Head::in_front_of(&self.got) else { return false };
        let to_head = matches!(self.asked.front(), Some(Asked::Head));
        let length = head.length.filter(|_| !to_head).unwrap_or(0);
        if self.got.len() < head.bytes + length {
            return false;
        }
        let body: Vec<u8> = self.got.drain(..head.bytes + length).skip(head.bytes).collect();
        let asked = self.asked.pop_front();
        match (head.status, &asked) {
            (503, _) => {}
            (408, _) => assert!(head.close, "the rest of a request is no request"),
            (500, Some(Asked::Page(_) | Asked::Head | Asked::File)) => {}
            (500, Some(Asked::Controls | Asked::Status)) => {}
            (200, Some(Asked::Page(path))) => {
                assert_eq!(String::from_utf8_lossy(&body), format!("{path}\n"), "another's answer");
            }
            (200, Some(Asked::Head)) => {}
            (200, Some(Asked::File)) => assert!(body == content(FILE_BYTES as usize)),
            (200, Some(Asked::Snapshot)) => {
                number_of(&body, self.frame_bytes);
            }
            (201 | 507, Some(Asked::Photo)) => assert_eq!(body, b"photo\n"),
            (200 | 404, Some(Asked::Controls)) | (200, Some(Asked::Status)) => {}
            (200 | 400 | 413, Some(Asked::Form)) => {}
            (200, Some(Asked::Stream)) => self.watches = Watches::Begins,
            (400, Some(Asked::Garbage)) => assert!(head.close, "garbage and no end"),
            answer => panic!("not what was asked: {answer:?}"),
        }
        match head.status {
            200 | 201 => seen.answers += 1,
            _ => seen.refusals += 1,
        }
        if head.close {
            self.silent = true;
            self.asked.clear();
        }
        true
    }
}

/// The number of the frame that this is, if it is one, and whole.
#[track_caller]
fn number_of(bytes: &[u8], about: usize) -> u64 {
    let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
    assert!(bytes == picture(number, about), "no frame, or several");
    number
}

/// What a head says.
struct Head {
    /// Of it, and the empty line behind it.
    bytes: usize,
    /// 0 for that of a frame.
    status: u16,
    length: Option<usize>,
    close: bool,
}

impl Head {
    fn in_front_of(got: &[u8]) -> Option<Head> {
        let bytes = got.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = str::from_utf8(&got[..bytes]).expect("a head is text");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let status = field("HTTP/1.1 ").map_or("0", |rest| &rest[..3]);
        Some(Head {
            bytes,
            status: status.parse().expect("a status"),
            length: field("Content-Length: ").map(|length| length.parse().expect("a length")),
            close: field("Connection: close").is_some(),
        })
    }
}
