//! The loop in an invented world: guests, camera, disk and clock are a seeded chance's, so that
//! what takes the real ones years happens in seconds, and happens again with the same seed.
//!
//! The server here is the one that runs; only what is around it is not ([`World`], `InventedDisk`,
//! frames put into the camera's slot). After each turn [`Trial::check`] looks at all that must
//! hold; guests check what they are sent ([`guest`]); and from time to time all misfortune ends and
//! nobody may be left waiting. `tests/planted.rs` plants bugs into the loop, which this must find.

mod guest;
mod wire;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::{Poll, Token, Waker};
use rustix::fs::{MemfdFlags, memfd_create};

use self::guest::{Guest, Seen};
use self::wire::{Line, Wire};
use super::feed::Feed;
use super::{Peer, Server};
use crate::access::Access;
use crate::config::Config;
use crate::control::Refusal;
use crate::disk::invented::{FILE_BYTES, InventedDisk};
use crate::frame::{Frame, FrameSlot, Picture, Shape};
use crate::http::Now;
use crate::limits::{END_TIME_MAX, FRAMES_NOT_PAST, WRITE_PIECES_MAX};
use crate::net::socket::Address;
use crate::net::world::{Event, World};
use crate::scale::Scaling;

/// Turns of one trial. Another seed brings another world, so many short ones see more.
const TURNS: u64 = 20_000;
/// How long all misfortune must have ended before nobody may wait any more: longer than any time
/// in the loop.
const CALM: Duration = Duration::from_secs(60);
/// From one frame to the next in calm times.
const PERIOD: Duration = Duration::from_millis(200);
/// Guests that there may be at once, those who wait at the door too; and seats for them.
const GUESTS_MAX: usize = 24;
const SEATS: usize = 16;
const VIEWERS: usize = 6;
const DOORS: usize = 2;
/// A turn that was not waited for, and in which nothing came about, may be followed by so many.
const IDLE_TURNS_MAX: u32 = 2;

/// A reproducible sequence of numbers.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    /// The next one, below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

// ---- the world ------------------------------------------------------------------------------

/// All that is around the loop.
struct Town {
    chance: Chance,
    start: Instant,
    /// Since then.
    elapsed: Duration,
    /// By so much is the wall clock ahead of 1970 and `elapsed`.
    ahead: Duration,
    guests: Vec<Guest>,
    /// Guests so far.
    guests_ever: usize,
    doors: [Door; DOORS],
    disk: InventedDisk,
    camera: Arc<FrameSlot>,
    /// The last frame's.
    number: u64,
    next_frame: Duration,
    /// Bytes of a frame, about.
    frame_bytes: usize,
    woken: bool,
    signal: bool,
    /// They do nothing for now.
    camera_hangs: bool,
    disk_hangs: bool,
    /// No misfortune until then.
    calm: Option<Duration>,
    /// Bytes moved, guests let in and turned away: so that a turn without any is seen.
    moves: u64,
    /// Of all guests, those who have gone too.
    seen: Seen,
    /// `moves` when the last turn began, if that had not waited for anything; and how many such
    /// turns there were in a row in which nothing moved.
    idle: Option<u64>,
    idle_turns: u32,
}

#[derive(Default)]
struct Door {
    waiting: VecDeque<Rc<RefCell<Wire>>>,
    /// The loop has not been told of a guest at it.
    news: bool,
}

/// The bytes of a frame: its number, and a filling by which a mixture of two is seen.
fn picture(number: u64, about: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(about + number as usize % (about / 4), number as u8);
    bytes
}

impl Town {
    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.ahead + self.elapsed
    }

    /// Something happens, or not.
    fn act(&mut self) {
        match self.chance.below(16) {
            0 => self.misfortune(),
            1 if self.guests.len() < GUESTS_MAX => self.arrive(),
            2 => self.camera_acts(),
            3 | 4 if !self.disk_hangs => {
                let fails = self.chance.once_in(50);
                self.woken |= self.disk.read(fails);
            }
            5 if !self.disk_hangs => {
                let fails = self.chance.once_in(20);
                self.woken |= self.disk.write(fails);
            }
            _ if !self.guests.is_empty() => {
                let which = self.chance.below(self.guests.len());
                self.guests[which].act(&mut self.chance);
            }
            _ => {}
        }
        self.pass_time();
    }

    fn pass_time(&mut self) {
        self.elapsed += match self.chance.below(400) {
            0 => Duration::from_millis(self.chance.below(12_000) as u64),
            1..20 => Duration::from_millis(self.chance.below(300) as u64),
            20..200 => Duration::from_micros(self.chance.below(3000) as u64),
            _ => Duration::ZERO,
        };
    }

    fn misfortune(&mut self) {
        match self.chance.below(12) {
            0 => self.camera_hangs = !self.camera_hangs,
            1 => self.disk_hangs = !self.disk_hangs,
            2 => self.woken = true,
            3 => self.show(Picture::NoSignal { reason: "it is gone".into() }),
            // Somebody sets it, also back; by decades.
            4 => self.ahead = Duration::from_secs(self.chance.below(1 << 31) as u64),
            _ => {}
        }
    }

    /// In calm times, everybody does what he has to at once.
    fn act_calmly(&mut self) {
        while self.disk.read(false) || self.disk.write(false) {
            self.woken = true;
        }
        if self.elapsed >= self.next_frame {
            self.next_frame = self.elapsed + PERIOD;
            self.camera_acts();
        }
        for guest in &mut self.guests {
            guest.act_calmly();
        }
    }

    fn arrive(&mut self) {
        self.guests_ever += 1;
        let guest = Guest::new(self.guests_ever, self.frame_bytes, &mut self.chance);
        let door = &mut self.doors[self.guests_ever % DOORS];
        door.waiting.push_back(guest.wire.clone());
        door.news = true;
        self.guests.push(guest);
    }

    fn camera_acts(&mut self) {
        let now = self.now();
        if self.camera_hangs {
            return;
        }
        if let Some(order) = self.camera.take_order(now) {
            self.camera.tell(order.number, Err(Refusal::Absent("it has none".to_owned())));
            self.woken = true;
        }
        let settled = !self.chance.once_in(10);
        match self.camera.demand() {
            0 => self.camera.clear(),
            _ => self.show(Picture::Live { settled }),
        }
    }

    fn show(&mut self, shown: Picture) {
        self.number += 1;
        let (now, wall) = (self.now(), self.wall());
        let bytes = picture(self.number, self.frame_bytes);
        self.camera.publish(Frame::new(
            self.number,
            now,
            wall,
            shown,
            Shape::default(),
            bytes,
            None,
        ));
        self.woken = true;
    }

    /// Tell what has happened; in bad times, not all at once.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let told = |chance: &mut Chance| self.calm.is_some() || !chance.once_in(4);
        if self.woken && told(&mut self.chance) {
            self.woken = false;
            events.push(Event::Woken);
        }
        for (n, door) in self.doors.iter_mut().enumerate() {
            if door.news && told(&mut self.chance) {
                door.news = false;
                events.push(Event::Door(n));
            }
        }
        for guest in &self.guests {
            let mut wire = guest.wire.borrow_mut();
            if let Some(event) = wire.event().filter(|_| told(&mut self.chance)) {
                wire.news = Default::default();
                events.push(event);
            }
        }
        if std::mem::take(&mut self.signal) {
            events.push(Event::Signal);
        }
    }

    /// A turn that begins at once, though nothing has happened, must get something done.
    fn expect_progress(&mut self, timeout: Option<Duration>) {
        let in_vain = timeout == Some(Duration::ZERO) && self.idle == Some(self.moves);
        self.idle_turns = if in_vain { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns <= IDLE_TURNS_MAX, "it spins");
        self.idle = None;
    }
}

/// The loop's way to the town.
#[derive(Clone)]
struct Gateway(Rc<RefCell<Town>>);

impl World for Gateway {
    type Socket = Line;

    fn now(&self) -> Now {
        let town = self.0.borrow();
        Now { instant: town.now(), wall: town.wall() }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let town = &mut *self.0.borrow_mut();
        town.expect_progress(timeout);
        // When everybody is served, nothing may come any more.
        let end = timeout.map(|timeout| town.elapsed + timeout).into_iter().chain(town.calm).min();
        loop {
            if town.calm.is_some() {
                town.act_calmly();
            } else if timeout != Some(Duration::ZERO) || town.chance.once_in(2) {
                town.act();
            }
            town.tell(events);
            if !events.is_empty() || end.is_some_and(|end| end <= town.elapsed) {
                if events.is_empty() && timeout == Some(Duration::ZERO) {
                    town.idle = Some(town.moves);
                }
                return Ok(());
            }
            if town.calm.is_some() {
                town.elapsed = end.map_or(town.next_frame, |end| end.min(town.next_frame));
            } else if town.chance.once_in(20) {
                return Ok(()); // interrupted
            }
        }
    }

    fn accept(&mut self, door: usize) -> io::Result<(Line, Address)> {
        let town = &mut *self.0.borrow_mut();
        if town.calm.is_none() && town.chance.once_in(10) {
            let errors = [libc::EMFILE, libc::ECONNABORTED, libc::EINTR];
            return Err(io::Error::from_raw_os_error(errors[town.chance.below(errors.len())]));
        }
        let guest = town.doors[door].waiting.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        town.moves += 1;
        Ok((Line::new(guest), Address::Unix))
    }

    fn register(&mut self, socket: &mut Line, seat: usize) -> io::Result<()> {
        let town = &mut *self.0.borrow_mut();
        if town.calm.is_none() && town.chance.once_in(50) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        socket.wire().seat = Some(seat);
        Ok(())
    }

    fn deregister(&mut self, socket: &mut Line) {
        socket.wire().seat = None;
        self.0.borrow_mut().moves += 1;
    }

    fn close_doors(&mut self) {
        for door in &mut self.0.borrow_mut().doors {
            for wire in door.waiting.drain(..) {
                drop(Line::new(wire));
            }
        }
    }
}

// ---- a trial --------------------------------------------------------------------------------

struct Trial {
    server: Server<Gateway>,
    town: Rc<RefCell<Town>>,
    events: Vec<Event>,
    turns: u64,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let mut chance = Chance(seed);
        let content = memfd_create("content", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut content = File::from(content);
        content.write_all(&guest::content(FILE_BYTES as usize)).expect("room in it");
        let (disk, threads) = InventedDisk::new(content);
        let camera = Arc::new(FrameSlot::new().expect("a slot"));
        let frame_bytes = [400, 3000, 30_000][chance.below(3)];
        let start = Instant::now();
        let town = Town {
            chance,
            start,
            elapsed: Duration::ZERO,
            ahead: Duration::ZERO,
            guests: Vec::new(),
            guests_ever: 0,
            doors: Default::default(),
            disk: threads,
            camera: camera.clone(),
            number: 0,
            next_frame: Duration::ZERO,
            frame_bytes,
            woken: false,
            signal: false,
            camera_hangs: false,
            disk_hangs: false,
            calm: None,
            moves: 0,
            seen: Seen::default(),
            idle: None,
            idle_turns: 0,
        };
        let town = Rc::new(RefCell::new(town));
        // Nobody waits in it: what would wake the loop is told by the town.
        let poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let options = ["pistream", "--max-viewers", &VIEWERS.to_string()].map(str::to_owned);
        let config = Config::from_words(options).unwrap_or_else(|exit| panic!("{}", exit.text));
        let access = Access::open(None, false, waker.clone()).expect("no passwords");
        let feeds = vec![Feed::new(camera, Scaling::new(config.quality, waker))];
        let gateway = Gateway(town.clone());
        let mut server = Server::new(&config, gateway, DOORS, access, disk, feeds);
        server.seats_max = SEATS;
        server.past_max = frame_bytes;
        Trial { server, town, events: Vec::new(), turns: 0 }
    }

    fn turn(&mut self) {
        self.server.turn(&mut self.events).expect("a turn");
        self.turns += 1;
        self.check();
        self.read_mail();
    }

    /// What must hold between two turns.
    fn check(&self) {
        let server = &self.server;
        let newest = server.feeds[0].newest.as_ref().map(|newest| &newest.part.frame);
        let viewers = server.peers.iter().filter(|(_, peer)| peer.conn.viewing().is_some());
        assert!(viewers.count() <= VIEWERS, "more viewers than there may be");
        let mut held = 0;
        for (seat, peer) in &server.peers {
            held += peer.held;
            let listed = server.touched.iter().filter(|touched| **touched == seat).count();
            assert_eq!(listed, usize::from(peer.touched), "on the list of those to be driven");
            self.check_queue(peer);
            if peer.touched {
                continue;
            }
            peer.socket.wire().check_latches(peer.readable, peer.writable);
            assert!(!peer.can_move(), "forgotten with work left: {peer:?}");
            assert_eq!(peer.held, peer.conn.held() + peer.lent, "memory that it makes us hold");
            assert!(peer.lent == 0 || peer.conn.waits(), "nothing is lent after the answer");
            let lacks = newest.is_some_and(|newest| peer.conn.lacks(newest));
            assert!(!lacks || peer.gate.again.is_some(), "forgotten without its frame: {peer:?}");
            let early = |deadline| server.earliest.is_some_and(|earliest| earliest <= deadline);
            assert!(peer.deadline().is_none_or(early), "its deadline forgotten: {peer:?}");
        }
        assert_eq!(held, server.held, "memory that guests make us hold");
        self.check_past();
    }

    /// Of frames that are not the newest any more, little is held for those who are slow.
    fn check_past(&self) {
        let sent = self.server.peers.iter().filter_map(|(_, peer)| peer.conn.outbox().frame());
        let mut frames: Vec<_> = sent.map(|frame| (frame.number, frame.jpeg().len())).collect();
        frames.sort_unstable();
        frames.dedup();
        // One may have come since it was looked at.
        let past = frames.iter().rev().skip(FRAMES_NOT_PAST + 1);
        let bytes: usize = past.map(|(_, length)| length).sum();
        assert!(bytes <= self.server.past_max, "{bytes} bytes of the past are held");
    }

    /// At most one frame is queued for a viewer.
    fn check_queue(&self, peer: &Peer<Line>) {
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
        let (_, bytes) = peer.conn.outbox().fill(&mut slices);
        let one = self.town.borrow().frame_bytes * 5 / 4 + 700;
        let is_viewer = peer.conn.viewing().is_some();
        assert!(!is_viewer || bytes <= one, "more than a frame is queued: {bytes} bytes");
    }

    /// Guests look at what has come for them, and leave when their connection is over.
    fn read_mail(&mut self) {
        let town = &mut *self.town.borrow_mut();
        let seen = &mut town.seen;
        town.guests.retain_mut(|guest| guest.stays(seen));
        town.moves += town.guests.iter().map(Guest::take_moves).sum::<u64>();
    }

    /// All misfortune ends; then nobody may be left waiting.
    fn calm_down(&mut self) {
        let until = {
            let town = &mut *self.town.borrow_mut();
            (town.camera_hangs, town.disk_hangs) = (false, false);
            *town.calm.insert(town.elapsed + CALM)
        };
        while self.town.borrow().elapsed < until {
            self.turn();
        }
        let town = &mut *self.town.borrow_mut();
        town.guests.iter().for_each(|guest| guest.expect_served(town.number));
        assert_eq!(self.server.disk.unfinished(), 0, "changes that are never answered");
        town.calm = None;
    }

    /// The signal to end comes in the middle of all.
    fn end(mut self) -> (u64, Seen) {
        let until = {
            let town = &mut *self.town.borrow_mut();
            town.signal = true;
            town.elapsed + END_TIME_MAX * 3 / 2
        };
        while !self.server.over {
            self.turn();
            // Whether time passes is the chance's; a single step may be longer than the limit.
            let late = self.town.borrow().elapsed > until + Duration::from_secs(12);
            assert!(!late, "it does not end");
        }
        drop(self.server);
        let town = self.town.borrow();
        assert!(town.guests.iter().all(|guest| guest.wire.borrow().dropped), "left open");
        (self.turns, town.seen)
    }
}

fn run(seed: u64) -> (u64, Seen) {
    let mut trial = Trial::new(seed);
    for _ in 0..4 {
        let until = trial.turns + TURNS / 4;
        while trial.turns < until {
            trial.turn();
        }
        trial.calm_down();
    }
    trial.end()
}

/// A million turns in the long run, or `PISTREAM_TURNS`; `PISTREAM_SEED` tries one world again.
#[test]
fn nobody_is_forgotten_and_nothing_spins_in_any_world() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let long = env::var("PISTREAM_LONG").is_ok_and(|value| value == "1");
    let usual = if long { 1_000_000 } else { 100_000 };
    let wanted = number("PISTREAM_TURNS").unwrap_or(usual);
    let only = number("PISTREAM_SEED");
    let (mut turns, mut seen) = (0, Seen::default());
    for seed in only.map_or(1..=u64::MAX, |seed| seed..=seed) {
        println!("PISTREAM_SEED={seed}");
        let (more, news) = run(seed);
        turns += more;
        seen.add(news);
        if turns >= wanted {
            break;
        }
    }
    println!("{turns} turns: {seen:?}");
    let enough = turns as usize / 1000;
    assert!(only.is_some() || seen.each().all(|count| count > enough), "too little: {seen:?}");
}
