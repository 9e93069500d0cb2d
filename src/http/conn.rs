//! One client as a machine: fed bytes and answers, it tells what it needs and what it owes.
//! Pure: no socket, no file, no clock.
//!
//! ```text
//!             head parsed        body whole        taken by `need`
//!    ┌──────┐ ─────────▶ ┌──────┐ ────────▶ ┌───────┐ ───────▶ ┌───────┐
//!    │ Head │            │ Body │           │ Ready │          │ Asked │
//!    └──────┘            └──────┘           └───────┘          └───────┘
//!     ▲   │ rejected                                     answer │    │ answer: frames
//!     │   └─────────────────────┐                              ▼    ▼
//!     │                         │                     ┌────────┐ ┌────────┐
//!     └────── all sent, ────────┼──────────────────── │ Reply  │ │ Stream │
//!             keep alive        │                     └────────┘ └────────┘
//!                               ▼                       │ all sent, close
//!                           ┌───────┐                   │
//!                           │ Drain │ ◀─────────────────┘   half-close, swallow input a second
//!                           └───────┘
//! ```
//!
//! From every phase a way leads to `Closed`, with the reason. Inputs (`receive`, `receive_end`,
//! `sent`, `answer`, `chunk`, `offer`, `expire`) move the machine; after each, ask `need`,
//! `outbox` and `deadline` again. Phases follow each other in `settle`, or by an answer.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::Now;
use super::origins::Origins;
use super::outbox::{Outbox, Piece};
use super::page::{dress, for_viewer, translate};
use super::request::{self, BodyReader, Framing, Method, Reject, Request, Version};
use super::response::{Body, Delivery, Part, Response, STREAM_START, Status};
use super::viewing::{Totals, Viewing};
use crate::frame::Frame;
use crate::limits::{
    BODY_TIME_MAX, CHUNK_BYTES, DRAIN_TIME_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, IDLE_TIME_MAX,
    INBOX_BYTES_MAX, LOGGED_TARGET_CHARS_MAX, STALL_TIME_MAX,
};

/// Where a client stands.
#[derive(Debug)]
enum Phase {
    /// A request's head is being collected. So many bytes of the inbox were looked at; `kept`:
    /// there was a request before it, and silence means that there will be no other.
    Head {
        looked: usize,
        kept: bool,
    },
    /// Its body is.
    Body {
        request: Request,
        reader: BodyReader,
    },
    /// A request is whole and nobody has taken it yet.
    Ready(Request),
    /// It was taken; the answer is being worked out.
    Asked(Request),
    /// The answer is being sent. `pulled` is what is still to be asked for, `waits` whether a
    /// chunk of it has been.
    Reply {
        pulled: Range<u64>,
        waits: bool,
        close: bool,
    },
    /// Frames are being sent.
    Stream(Viewing),
    /// All is said and sent. What the client still sends is swallowed, so that the kernel's reset
    /// for unread bytes does not overtake the answer. `cut`: our half is closed.
    Drain {
        cut: bool,
    },
    Closed(Close),
}

/// What a client needs from the house.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// An answer to `request()`; asked once.
    Answer,
    /// Bytes of the body, from `offset` on, at most `length`; asked once a chunk.
    Chunk { offset: u64, length: usize },
    /// A frame newer than the one it has.
    Frame,
    /// The sending half of the socket closed; asked once.
    HalfClose,
    /// The socket closed.
    Close(Close),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// All that was asked is answered.
    Done,
    /// The client closed or reset: an everyday event. EPIPE and ECONNRESET end here.
    Left,
    /// Open and not used; or not yet, when others wanted its seat.
    Idle,
    /// Took nothing of what it was owed for `STALL_TIME_MAX`; or too slowly, when there was too
    /// much to be held for all who do.
    Stalled,
    /// The body broke off on our side: the promised length cannot be kept, and closing early is
    /// the only way to say so.
    Truncated,
    /// The house ends.
    Shutdown,
}

/// A line for the log: a request and what became of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub method: Option<Method>,
    /// At most `LOGGED_TARGET_CHARS_MAX`.
    pub target: String,
    pub status: Status,
}

#[derive(Debug)]
pub struct Conn {
    phase: Phase,
    /// Bytes received and not yet understood. INVARIANT: at most `INBOX_BYTES_MAX`.
    inbox: Vec<u8>,
    /// The client will send no more. That ends neither a reply nor a stream.
    ended: bool,
    outbox: Outbox,
    /// When the phase, or in `Head` the request, began.
    since: Instant,
    /// When the client last took bytes, or was last owed some after it had been owed none.
    progress: Instant,
    report: Option<Report>,
    /// What a viewer had seen when it was closed.
    seen: Totals,
    /// Whose pages may read what is answered.
    origins: Arc<Origins>,
}

// ---- inputs ---------------------------------------------------------------------------------

impl Conn {
    pub fn new(origins: Arc<Origins>, now: Now) -> Conn {
        Conn {
            phase: Phase::Head { looked: 0, kept: false },
            inbox: Vec::new(),
            ended: false,
            outbox: Outbox::default(),
            since: now.instant,
            progress: now.instant,
            report: None,
            seen: Totals::default(),
            origins,
        }
    }

    /// A client for whom there is no seat: it is told so and drained.
    pub fn refused(response: Response, origins: Arc<Origins>, now: Now) -> Conn {
        let mut conn = Conn::new(origins, now);
        conn.reply_and_close(response, now);
        conn
    }

    /// Bytes from the client: at most `room()`.
    pub fn receive(&mut self, bytes: &[u8], now: Now) {
        match self.phase {
            Phase::Head { .. } | Phase::Body { .. } => {
                if self.inbox.is_empty() && matches!(self.phase, Phase::Head { .. }) {
                    self.since = now.instant; // patience with a head runs from its first byte
                }
                self.inbox.extend_from_slice(bytes);
                debug_assert!(self.inbox.len() <= INBOX_BYTES_MAX);
                self.settle(now);
            }
            _ => {} // thrown away: a viewer may say what it likes
        }
    }

    /// The client will send no more.
    pub fn receive_end(&mut self, now: Now) {
        self.ended = true;
        self.settle(now);
    }

    /// So many bytes of the outbox have left.
    pub fn sent(&mut self, bytes: usize, now: Now) {
        if bytes > 0 {
            self.progress = now.instant;
            self.outbox.advance(bytes);
        }
        self.settle(now);
    }

    /// The answer to what `Need::Answer` asked.
    pub fn answer(&mut self, mut response: Response, now: Now) {
        let Phase::Asked(request) = &self.phase else { return };
        response = match request.wants_page {
            true => dress(response, request),
            false => translate(response, request.lang),
        };
        if !request.may_change {
            response = for_viewer(response);
        }
        self.origins.stamp(&mut response, request);
        let part = response.fit(request, now.wall);
        let head_only = request.method == Method::Head;
        let fps = match response.body {
            Body::Frames { fps } => Some(fps),
            _ => None,
        };
        let close = !request.keep_alive || (fps.is_some() && !head_only);
        self.report = Some(Report {
            method: Some(request.method),
            target: shorten(&request.target),
            status: response.status,
        });
        let delivery = Delivery {
            version: request.version,
            close,
            length: fps.is_none().then_some(part.end - part.start),
            date: now.wall,
        };
        self.owe(Piece::Bytes(response.head(&delivery).into()), now);
        let next = match (fps, head_only) {
            (Some(fps), false) => {
                self.owe(Piece::Bytes(Cow::Borrowed(STREAM_START)), now);
                self.inbox = Vec::new();
                Phase::Stream(Viewing::new(fps, now.instant))
            }
            (_, true) => Phase::Reply { pulled: 0..0, waits: false, close },
            _ => Phase::Reply {
                pulled: self.owe_body(response.body, part, now),
                waits: false,
                close,
            },
        };
        self.enter(next, now);
        self.settle(now);
    }

    /// Bytes of the body that `Need::Chunk` asked for; none: it broke off.
    pub fn chunk(&mut self, bytes: Vec<u8>, now: Now) {
        let Phase::Reply { pulled, waits, .. } = &mut self.phase else { return };
        let length = bytes.len() as u64;
        if length == 0 || length > pulled.end - pulled.start {
            return self.close(Close::Truncated);
        }
        pulled.start += length;
        *waits = false;
        self.owe(Piece::Bytes(bytes.into()), now);
    }

    /// Whether a viewer could take this frame: its outbox is empty, the frame newer than its last.
    pub fn lacks(&self, frame: &Frame) -> bool {
        let Phase::Stream(viewing) = &self.phase else { return false };
        self.outbox.is_empty() && viewing.lacks(frame)
    }

    /// Whether a viewer would take this frame if it were offered now.
    pub fn wants(&self, frame: &Frame, now: Now) -> bool {
        let Phase::Stream(viewing) = &self.phase else { return false };
        self.lacks(frame) && viewing.is_due(now.instant)
    }

    /// Give a viewer this frame, if it can take one now: its outbox is empty, the frame is newer
    /// than what it has, its pace allows it. A slow viewer skips frames by not taking them.
    pub fn offer(&mut self, part: &Arc<Part>, now: Now) {
        if !self.lacks(&part.frame) {
            return;
        }
        let Phase::Stream(viewing) = &mut self.phase else { return };
        if viewing.take(&part.frame, now.instant) {
            self.owe_part(part, now);
        }
    }

    /// Give an idle viewer the frame it has once more, unless it asked for a low rate.
    pub fn repeat(&mut self, part: &Arc<Part>, now: Now) {
        let Phase::Stream(viewing) = &self.phase else { return };
        if viewing.repeats(&part.frame) && self.outbox.is_empty() {
            self.owe_part(part, now);
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, now: Now) {
        match self.phase {
            Phase::Head { .. } if self.inbox.is_empty() => self.close(Close::Idle),
            Phase::Head { .. } | Phase::Body { .. } => {
                let sentence = "The request did not come in time.";
                self.refuse(Reject { status: Status::RequestTimeout, sentence }, now);
            }
            Phase::Drain { .. } => self.close(Close::Done),
            _ => self.close(Close::Stalled),
        }
    }

    /// What it makes us hold is too much: a request half received is refused.
    pub fn give_up(&mut self, response: Response, now: Now) {
        if matches!(self.phase, Phase::Head { .. } | Phase::Body { .. }) {
            self.reply_and_close(response, now);
        }
    }

    /// End at once, whatever is owed.
    pub fn close(&mut self, reason: Close) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.seen = self.totals();
            self.phase = Phase::Closed(reason);
        }
    }
}

// ---- outputs --------------------------------------------------------------------------------

impl Conn {
    /// What the client needs. `Answer`, `Chunk` and `HalfClose` are told once each.
    pub fn need(&mut self) -> Option<Need> {
        match &mut self.phase {
            Phase::Ready(_) => {
                if let Phase::Ready(request) = self.take_phase() {
                    self.phase = Phase::Asked(request);
                }
                Some(Need::Answer)
            }
            Phase::Reply { pulled, waits, .. }
                if !*waits && !pulled.is_empty() && self.outbox.is_empty() =>
            {
                *waits = true;
                let length = (pulled.end - pulled.start).min(CHUNK_BYTES as u64) as usize;
                Some(Need::Chunk { offset: pulled.start, length })
            }
            Phase::Stream(_) if self.outbox.is_empty() => Some(Need::Frame),
            Phase::Drain { cut } if !*cut => {
                *cut = true;
                Some(Need::HalfClose)
            }
            Phase::Closed(reason) => Some(Need::Close(*reason)),
            _ => None,
        }
    }

    /// The request that waits for its answer.
    pub fn request(&self) -> Option<&Request> {
        match &self.phase {
            Phase::Asked(request) => Some(request),
            _ => None,
        }
    }

    /// The same, for the house to note what it knows of who asks.
    pub fn request_mut(&mut self) -> Option<&mut Request> {
        match &mut self.phase {
            Phase::Asked(request) => Some(request),
            _ => None,
        }
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Bytes of memory that it makes us hold: received and not used, owed and not shared, asked
    /// of the disk.
    pub fn held(&self) -> usize {
        let body = match &self.phase {
            Phase::Body { request, .. } | Phase::Ready(request) | Phase::Asked(request) => {
                request.body.capacity()
            }
            Phase::Reply { waits: true, .. } => CHUNK_BYTES,
            _ => 0,
        };
        self.inbox.capacity() + body + self.outbox.held()
    }

    /// How many bytes may be received now.
    pub fn room(&self) -> usize {
        match self.phase {
            _ if self.ended => 0,
            Phase::Head { .. } | Phase::Body { .. } => INBOX_BYTES_MAX - self.inbox.len(),
            Phase::Stream(_) | Phase::Drain { .. } => INBOX_BYTES_MAX,
            _ => 0,
        }
    }

    /// When `expire` is due if nothing comes before.
    pub fn deadline(&self) -> Option<Instant> {
        let stall = (!self.outbox.is_empty()).then(|| self.progress + STALL_TIME_MAX);
        match self.phase {
            Phase::Head { kept: true, .. } if self.inbox.is_empty() => {
                Some(self.since + IDLE_TIME_MAX)
            }
            Phase::Head { .. } => Some(self.since + HEAD_TIME_MAX),
            Phase::Body { .. } => Some(self.since + BODY_TIME_MAX),
            Phase::Drain { cut: true } => Some(self.since + DRAIN_TIME_MAX),
            Phase::Closed(_) => None,
            _ => stall,
        }
    }

    /// Whether bytes of the body are still to be pulled.
    pub fn pulls(&self) -> bool {
        matches!(&self.phase, Phase::Reply { pulled, .. } if !pulled.is_empty())
    }

    /// Whether it waits for what it asked for, or for the rest of it: a file may be open for that.
    pub fn waits(&self) -> bool {
        matches!(self.phase, Phase::Asked(_)) || self.pulls()
    }

    /// What to write into the log, once.
    pub fn report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// How a viewer fares; none if it is no viewer.
    pub fn viewing(&self) -> Option<&Viewing> {
        match &self.phase {
            Phase::Stream(viewing) => Some(viewing),
            _ => None,
        }
    }

    /// What a viewer has seen, also when it is closed.
    pub fn totals(&self) -> Totals {
        self.viewing().map_or(self.seen, Viewing::totals)
    }

    /// The least one is given up when seats are short: who is between two requests before who has
    /// not finished one, and of these who has been so longest. None: it is being answered.
    pub fn dispensable(&self) -> Option<(bool, Instant)> {
        let unfinished = match self.phase {
            Phase::Head { kept, .. } => !kept || !self.inbox.is_empty(),
            Phase::Body { .. } => true,
            _ => return None,
        };
        Some((unfinished, self.since))
    }
}

// ---- the machine ----------------------------------------------------------------------------

impl Conn {
    /// Let the phases follow each other until one has to wait.
    fn settle(&mut self, now: Now) {
        loop {
            let next = match &mut self.phase {
                Phase::Head { looked, .. } => {
                    let (old, news) = self.inbox.split_at(*looked);
                    // The first byte that is no line end says whether this is a request at all.
                    let begins = old.iter().all(|b| matches!(b, b'\r' | b'\n'));
                    let whole = self.inbox.len() >= HEAD_BYTES_MAX || begins;
                    if self.inbox.is_empty() || !(whole || news.contains(&b'\n')) {
                        self.wait_or_leave();
                        return;
                    }
                    *looked = self.inbox.len();
                    match request::parse(&self.inbox) {
                        Ok(Some((head, used))) => {
                            self.inbox.drain(..used);
                            self.begin_body(head, now)
                        }
                        Ok(None) => return self.wait_or_leave(),
                        Err(reject) => return self.refuse(reject, now),
                    }
                }
                Phase::Body { request, reader } => {
                    match reader.read(&self.inbox, &mut request.body) {
                        Ok(used) => drop(self.inbox.drain(..used)),
                        Err(reject) => return self.refuse(reject, now),
                    }
                    if !reader.is_done() {
                        return self.wait_or_leave();
                    }
                    let Phase::Body { request, .. } = self.take_phase() else { return };
                    Phase::Ready(request)
                }
                Phase::Reply { pulled, close, .. }
                    if self.outbox.is_empty() && pulled.is_empty() =>
                {
                    match close {
                        true => Phase::Drain { cut: false },
                        false => Phase::Head { looked: 0, kept: true },
                    }
                }
                Phase::Drain { .. } if self.ended => Phase::Closed(Close::Done),
                _ => return,
            };
            self.enter(next, now);
        }
    }

    /// More bytes are needed: if none will come, that is the end.
    fn wait_or_leave(&mut self) {
        if self.ended {
            let done = self.inbox.is_empty() && matches!(self.phase, Phase::Head { .. });
            self.close(if done { Close::Done } else { Close::Left });
        }
    }

    fn begin_body(&mut self, head: request::Head, now: Now) -> Phase {
        let empty = head.framing == Framing::Length(0);
        if head.expects_continue && !empty && self.inbox.is_empty() {
            self.owe(Piece::Bytes(Cow::Borrowed(b"HTTP/1.1 100 Continue\r\n\r\n")), now);
        }
        Phase::Body { request: head.request, reader: BodyReader::new(head.framing) }
    }

    /// Answer a request that cannot be understood, and end.
    fn refuse(&mut self, reject: Reject, now: Now) {
        self.reply_and_close(Response::from(reject), now);
    }

    /// Answer at once, whatever was being asked, and end. The body must be bytes.
    fn reply_and_close(&mut self, response: Response, now: Now) {
        let Body::Bytes(body) = &response.body else { return };
        let delivery = Delivery {
            version: Version::Http11,
            close: true,
            length: Some(body.len() as u64),
            date: now.wall,
        };
        let (method, target) = match &self.phase {
            Phase::Body { request, .. } => (Some(request.method), shorten(&request.target)),
            _ => (request::is_head(&self.inbox).then_some(Method::Head), "-".to_owned()),
        };
        let head_only = method == Some(Method::Head);
        self.report = Some(Report { method, target, status: response.status });
        self.owe(Piece::Bytes(response.head(&delivery).into()), now);
        if !head_only {
            self.owe(Piece::Bytes(body.clone()), now);
        }
        self.inbox = Vec::new();
        self.enter(Phase::Reply { pulled: 0..0, waits: false, close: true }, now);
    }

    fn enter(&mut self, next: Phase, now: Now) {
        self.phase = next;
        self.since = now.instant;
        if self.inbox.is_empty() {
            self.inbox = Vec::new(); // a thousand waiting viewers need no inboxes
        }
    }

    /// The phase by value; the caller puts the next one in.
    fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed(Close::Done))
    }

    /// Queue `piece`; the client's time to take it runs from now if it was owed nothing.
    fn owe(&mut self, piece: Piece, now: Now) {
        if self.outbox.is_empty() {
            self.progress = now.instant;
        }
        self.outbox.push(piece);
    }

    fn owe_part(&mut self, part: &Arc<Part>, now: Now) {
        self.progress = now.instant;
        self.outbox.push(Piece::Part(part.clone()));
    }

    /// Queue the wanted `part` of a body; gives what of it must be pulled.
    fn owe_body(&mut self, body: Body, part: Range<u64>, now: Now) -> Range<u64> {
        // Bodies that are in memory fit into it.
        let (start, end) = (part.start as usize, part.end as usize);
        match body {
            Body::Bytes(Cow::Borrowed(bytes)) => {
                self.owe(Piece::Bytes(Cow::Borrowed(&bytes[start..end])), now);
            }
            Body::Bytes(Cow::Owned(mut bytes)) => {
                bytes.truncate(end);
                bytes.drain(..start);
                self.owe(Piece::Bytes(bytes.into()), now);
            }
            Body::Frame(frame) => self.owe(Piece::Frame(frame, start, end), now),
            Body::Pulled(_) => return part,
            Body::Frames { .. } => {}
        }
        0..0
    }
}

/// A target for the log.
fn shorten(target: &str) -> String {
    target.chars().take(LOGGED_TARGET_CHARS_MAX).flat_map(char::escape_default).collect()
}
