//! The loop: one turn is learn, deliver, expire, drive, accept.
//!
//! DESIGN. `poll` tells what has changed and nothing is done about it before all of it is
//! known: events set latches. Then what other threads left is handed out, deadlines are met, each
//! peer that anything happened to is driven until it rests, and last new guests come in, into
//! seats that the closes before have freed. `drive` is the only way a peer gets on, whatever
//! the cause, so nothing that is queued can be forgotten. The loop never blocks and never spins:
//! with nothing to do it sleeps until the next deadline, or for ever.

mod admit;
mod answer;
mod feed;
mod health;
#[cfg(test)]
mod simulation;

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::uname;
use slab::Slab;

use self::feed::Feed;
use self::health::{Counts, History};
use super::controls::Controls;
use super::intervalometer::Intervalometer;
use super::peer::Peer;
use super::shutter::Asker;
use super::socket::{Address, Door};
use super::supervisor::Supervisor;
use super::world::{Event, Kernel, Transport, World};
use crate::access::Access;
use crate::camera;
use crate::config::Config;
use crate::disk::{self, Answer, Disk, Task, Ticket};
use crate::error::{Error, Result};
use crate::http::Now;
use crate::http::conn::{Close, Conn, Need};
use crate::http::origins::Origins;
use crate::http::response::{Response, Status};
use crate::limits::{
    ACCEPT_RETRY, ACCEPTS_MAX, CAMERA_DESCRIPTORS_MAX, CHUNK_BYTES_MIN, END_TIME_MAX, EVENTS_MAX,
    HELD_BYTES_MAX, INBOX_BYTES_MAX, MEMORY_SHARE, PAST_BYTES_MAX, READ_BYTES, REFUSALS_MAX,
    SHARE_BYTES_MIN, SPARE_DESCRIPTORS, SPARE_SEATS, TRIM_BYTES_MIN, TURNS_MAX,
};
use crate::memory;
use crate::route::Hosts;
use crate::scale::Scaling;

const TOO_MUCH: &str = "There is too much to do; try again later.";
const NO_PICTURE: &str = "The camera gave no picture in time.";
const NO_ANSWER: &str = "The camera does not answer; it may be busy or hang. Try again later.";

/// The house in service.
pub struct Server<W: World = Kernel> {
    world: W,
    /// By door: there may be guests at it. At most `LISTENERS_MAX`.
    doors: Vec<bool>,
    disk: Disk,
    /// By camera, the first one first. INVARIANT: not empty, at most `CAMERAS_MAX`.
    feeds: Vec<Feed>,
    intervalometer: Intervalometer,
    controls: Controls,
    /// Photos have a size of their own.
    stills: bool,
    /// Frames a second asked of the cameras.
    fps_asked: Option<u32>,
    counts: Counts,
    history: History,
    started: Instant,
    access: Access,
    hosts: Hosts,
    origins: Arc<Origins>,
    /// Origins whose pages were refused, each said once: at most `ORIGINS_NAMED_MAX`.
    refused_origins: Vec<String>,
    /// Bound: the operator's list.
    proxies: Vec<IpNet>,
    /// Bound: the operator's word.
    base_path: String,
    supervisor: Supervisor,
    viewers_max: usize,
    seats_max: usize,
    /// Descriptors that guests may take, and the files that they are sent.
    descriptors_max: usize,
    /// INVARIANT: at most `seats_max` (`VIEWERS_MAX` and `SPARE_SEATS`) and `REFUSALS_MAX`.
    peers: Slab<Peer<W::Socket>>,
    /// Guests so far.
    guests: u64,
    /// Seats to be driven this turn. INVARIANT: once each; `Peer::touched` says so. Bound: all
    /// peers (`VIEWERS_MAX` and `SPARE_SEATS`), and those whose seat was taken anew in the same
    /// turn.
    touched: Vec<usize>,
    /// When to try `accept` again.
    accept_again: Option<Instant>,
    /// `accept` failed for lack of means, and that was said; until all who wait have come in.
    accept_fails: bool,
    /// Not later than the first deadline of any peer.
    earliest: Option<Instant>,
    /// Bytes of memory that the guests make us hold: the sum of `Peer::held`; and how many there
    /// may be, …
    held: usize,
    held_max: usize,
    /// The most that they were since memory was given back.
    held_peak: usize,
    /// …and of the frames of the past that are still being sent to slow ones.
    past_max: usize,
    buffer: Box<[u8; READ_BYTES]>,
    /// Another thread has left something.
    woken: bool,
    /// The signal to end has come.
    signalled: bool,
    /// It is being followed: until then, photos on their way to the disk are waited for.
    ending: Option<Instant>,
    over: bool,
}

// ---- start and end --------------------------------------------------------------------------

impl Server {
    /// Listen, start the other threads, be ready to `run`.
    pub fn open(config: &Config) -> Result<Server> {
        let (kernel, waker) = Kernel::open(&config.listen)?;
        let password_file = config.password_file.as_deref();
        let access = Access::open(password_file, config.read_only, waker.clone())?;
        let (disk, kept) = Disk::start(config, waker.clone())?;
        let slots = camera::start(config, kept, &waker)?;
        let feed = |slot| Feed::new(slot, Scaling::new(config.quality, waker.clone()));
        let feeds = slots.into_iter().map(feed).collect();
        let addresses: Vec<String> = kernel.doors().iter().map(Door::to_string).collect();
        for name in &config.strangers {
            log::warn!("{name}: no option has this variable; pistream --help names them all");
        }
        let mut server = Server::new(config, kernel, addresses.len(), access, disk, feeds);
        server.supervisor = Supervisor::from_environment();
        for address in &addresses {
            log::info!("listening on {address}"); // the last word: all is there
        }
        server.supervisor.ready(&addresses, server.started);
        Ok(server)
    }
}

impl<W: World> Server<W> {
    /// `feeds`: not empty.
    fn new(
        config: &Config,
        world: W,
        doors: usize,
        access: Access,
        disk: Disk,
        feeds: Vec<Feed>,
    ) -> Server<W> {
        let now = world.now();
        let own_name = uname().nodename().to_string_lossy().into_owned();
        let memory = disk::memory();
        let descriptors_max = descriptors(feeds.len());
        Server {
            world,
            doors: vec![true; doors],
            disk,
            intervalometer: Intervalometer::new(feeds.len(), config.every, now),
            controls: Controls::new(config.save_controls.is_some(), now),
            stills: config.photo_size.is_some(),
            fps_asked: config.fps,
            counts: Counts::default(),
            history: History::new(),
            started: now.instant,
            hosts: Hosts::new(&config.host_names, &own_name),
            origins: Arc::new(Origins::new(&config.allow_origins, access.asks())),
            refused_origins: Vec::new(),
            proxies: config.trusted_proxies.clone(),
            base_path: config.base_path.clone(),
            access,
            supervisor: Supervisor::default(),
            viewers_max: config.max_viewers,
            seats_max: (config.max_viewers + SPARE_SEATS).min(descriptors_max),
            descriptors_max,
            feeds,
            peers: Slab::new(),
            guests: 0,
            touched: Vec::new(),
            accept_again: None,
            accept_fails: false,
            earliest: None,
            held: 0,
            held_max: share_of(memory, HELD_BYTES_MAX),
            held_peak: 0,
            past_max: share_of(memory, PAST_BYTES_MAX),
            buffer: Box::new([0; READ_BYTES]),
            woken: false,
            signalled: false,
            ending: None,
            over: false,
        }
    }

    /// Serve until SIGINT or SIGTERM.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.over {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    /// Let all go but those whose photos are on their way to the disk: they hear of it, and if
    /// the disk is slow it has `END_TIME_MAX`. What was set of the controls goes there now, and a
    /// camera's program ends meanwhile. A second signal ends at once.
    fn begin_end(&mut self, now: Now) {
        self.over = self.ending.is_some();
        self.ending = self.ending.or(Some(now.instant + END_TIME_MAX));
        log::info!("ending");
        self.supervisor.stopping(now.instant);
        self.doors.clear();
        self.world.close_doors();
        self.stop_interval();
        for camera in self.cameras() {
            self.feeds[camera].slot.stop();
            for asker in self.feeds[camera].shutter.take_all() {
                self.refuse(camera, asker, Response::unavailable("This site is ending."), now);
                if let Asker::Guest { ticket, .. } = asker
                    && let Some(seat) = self.seat_of(ticket)
                {
                    self.drive(seat, now); // before it is closed
                }
            }
        }
        self.save_settings(now);
        for seat in self.seats_that(|peer| !peer.awaits_change) {
            self.close(seat, Close::Shutdown);
        }
    }
}

/// How many descriptors there are for guests, with the soft limit raised to the hard one.
fn descriptors(cameras: usize) -> usize {
    let Rlimit { maximum, current } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    let descriptors = limit.map_or(usize::MAX, |limit| limit as usize);
    let spare = SPARE_DESCRIPTORS + (cameras - 1) * CAMERA_DESCRIPTORS_MAX;
    let spare = spare.min(descriptors / 8 * 5); // of few, guests get some as well
    descriptors.saturating_sub(spare).max(1)
}

/// How much of the memory that there is guests may make us hold in one way, `most` of much.
fn share_of(memory: u64, most: usize) -> usize {
    ((memory / MEMORY_SHARE).min(most as u64) as usize).max(SHARE_BYTES_MIN)
}

// ---- the turn -------------------------------------------------------------------------------

impl<W: World> Server<W> {
    fn turn(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let waited = self.world.wait(self.time_to_wait(), events);
        waited.map_err(|source| Error::new("wait for", "events", source))?;
        let now = self.world.now();
        events.drain(..).for_each(|event| self.learn(event));
        if std::mem::take(&mut self.signalled) {
            self.begin_end(now);
        }
        if std::mem::take(&mut self.woken) {
            self.deliver(now);
        }
        self.expire(now);
        self.save_settings(now);
        for seat in std::mem::take(&mut self.touched) {
            self.drive(seat, now);
        }
        for camera in self.cameras() {
            self.feeds[camera].rest(now.instant);
            self.scale(camera, now);
        }
        self.accept(now);
        self.trim();
        let programs = self.feeds.iter().any(|feed| feed.slot.runs_program());
        let done = self.disk.unfinished() == 0 && !programs;
        self.over |= self.ending.is_some_and(|end| done || end <= now.instant);
        self.supervisor.turned(now.instant);
        Ok(())
    }

    /// How long there is nothing to do; none: until something happens.
    fn time_to_wait(&self) -> Option<Duration> {
        if !self.touched.is_empty() {
            return Some(Duration::ZERO);
        }
        let clocks = [self.intervalometer.deadline(), self.controls.deadline()];
        let times = [self.earliest, self.accept_again, self.ending, self.supervisor.deadline()];
        let feeds = self.feeds.iter().filter_map(Feed::deadline);
        let first = times.into_iter().chain(clocks).flatten().chain(feeds).min()?;
        Some(first.saturating_duration_since(self.world.now().instant))
    }

    /// Set a latch. Nothing is closed or accepted before all are set, so no event can meet a later
    /// guest.
    fn learn(&mut self, event: Event) {
        match event {
            Event::Woken => self.woken = true,
            Event::Signal => self.signalled = true,
            Event::Door(door) => self.doors.get_mut(door).into_iter().for_each(|it| *it = true),
            Event::Guest { seat, readable, writable, failed } => {
                let Some(peer) = self.peers.get_mut(seat) else { return };
                peer.readable |= readable;
                peer.writable |= writable;
                peer.failed |= failed;
                self.touch(seat);
            }
        }
    }

    /// Hand out what the other threads left.
    fn deliver(&mut self, now: Now) {
        while let Some((ticket, answer)) = self.disk.done() {
            match (&ticket, &answer) {
                (None, Answer::Photo { camera, outcome, .. }) => {
                    let outcome = outcome.as_ref().copied().map_err(String::as_str);
                    self.intervalometer.note(*camera, outcome);
                }
                (_, Answer::Settings(outcome)) => self.controls.saved(outcome.clone(), now.instant),
                _ => {}
            }
            let Some(seat) = ticket.and_then(|ticket| self.seat_of(ticket)) else { continue };
            let peer = &mut self.peers[seat];
            (peer.awaits_change, peer.lent) = (false, 0);
            match answer {
                Answer::Photo { response, .. } => peer.conn.answer(response, now),
                Answer::Page(response, file) => {
                    peer.conn.answer(response, now);
                    peer.file = file.filter(|_| peer.conn.pulls());
                }
                Answer::Chunk(bytes, file) => {
                    peer.conn.chunk(bytes, now);
                    peer.file = Some(file).filter(|_| peer.conn.pulls());
                }
                Answer::Settings(_) => {}
            }
            self.touch(seat);
        }
        for ticket in self.access.take(now.instant) {
            if let Some(seat) = self.seat_of(ticket) {
                self.answer(seat, now);
                self.touch(seat);
            }
        }
        for camera in self.cameras() {
            self.deliver_from(camera, now);
        }
    }

    /// Meet the deadlines that have come.
    fn expire(&mut self, now: Now) {
        for camera in self.cameras() {
            for asker in self.feeds[camera].shutter.take_expired(now.instant) {
                self.refuse(camera, asker, Response::unavailable(NO_PICTURE), now);
            }
            self.repeat(camera, now);
        }
        for caller in self.controls.take_expired(now.instant) {
            self.answer_caller(&caller, Response::unavailable(NO_ANSWER), now);
        }
        self.press_by_clock(now);
        if self.earliest.is_none_or(|earliest| earliest > now.instant) {
            return;
        }
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.instant);
        for seat in self.seats_that(|peer| due(peer.deadline())) {
            let peer = &mut self.peers[seat];
            if due(peer.gate.again) {
                peer.gate.again = None; // it is asked again when the peer is driven
            } else if due(peer.snapshot.map(|wait| wait.until)) {
                peer.end_snapshot(Response::unavailable(NO_PICTURE), now);
            } else {
                peer.conn.expire(now);
            }
            self.touch(seat);
        }
        self.earliest = self.peers.iter().filter_map(|(_, peer)| peer.deadline()).min();
    }

    /// Let a peer get on until it rests, or until it is the others' turn.
    fn drive(&mut self, seat: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(seat) else { return };
        peer.touched = false;
        for _ in 0..TURNS_MAX {
            let need = self.peers[seat].conn.need();
            let met = need.is_some_and(|need| self.meet(seat, need, now));
            let Some(peer) = self.peers.get_mut(seat) else { return };
            if !met && !peer.can_move() {
                self.note_deadline(seat);
                return;
            }
            peer.pump(&mut self.buffer, now);
            if let Some(status) = report(peer) {
                self.counts.answer(status);
            }
            self.weigh(seat, now);
        }
        self.touch(seat);
    }

    /// Do what a peer needs; whether it may get on now.
    fn meet(&mut self, seat: usize, need: Need, now: Now) -> bool {
        let peer = &mut self.peers[seat];
        match need {
            Need::Answer => self.answer(seat, now),
            Need::Chunk { offset, length } => {
                let ticket = peer.ticket(seat);
                // A download that has begun is not refused, but then it gets on slowly.
                let full = self.held > self.held_max;
                let length = if full { length.min(CHUNK_BYTES_MIN) } else { length };
                let asked = peer.file.take().is_some_and(|file| {
                    self.disk.ask(ticket, Task::ReadChunk { file, offset, length }).is_ok()
                });
                if !asked {
                    peer.conn.close(Close::Truncated);
                }
            }
            Need::Frame => return self.offer(seat, now),
            Need::HalfClose => peer.half_close(),
            Need::Close(reason) => self.close(seat, reason),
        }
        true
    }

    /// Let new guests in. Last in the turn, because the closes before have made room.
    fn accept(&mut self, now: Now) {
        if self.accept_again.is_some_and(|at| at > now.instant) {
            return;
        }
        self.accept_again = None;
        let doors = self.doors.len();
        let first = self.guests as usize; // so that a crowd at one door does not close the others
        for n in 0..doors {
            self.accept_at((first + n) % doors, now);
        }
    }

    /// Let in who stands at one door. A latch that stays set is looked at after every turn, and
    /// every close is in a turn.
    fn accept_at(&mut self, door: usize, now: Now) {
        for _ in 0..ACCEPTS_MAX {
            if !self.doors[door] || self.is_full(REFUSALS_MAX) {
                return;
            }
            let error = match self.world.accept(door) {
                Ok((socket, address)) => {
                    self.welcome(socket, address, now);
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                _ if error.kind() == ErrorKind::WouldBlock => {
                    self.doors[door] = false;
                    self.accept_fails = false; // all who waited are in
                }
                // The guest left before the door was opened, or its network failed: accept(2).
                Some(errno) if GUESTS_FAULTS.contains(&errno) => {}
                _ => {
                    // Descriptors or memory have run out. No edge tells when there are some
                    // again, so it is tried from time to time.
                    if !std::mem::replace(&mut self.accept_fails, true) {
                        log::warn!("{}", Error::new("accept", "a connection", error));
                    }
                    self.accept_again = Some(now.instant + ACCEPT_RETRY);
                    return;
                }
            }
        }
        self.accept_again = Some(now.instant); // there may be more; first the others' turn
    }
}

/// Errors of `accept` that say nothing of us: the next guest may be fine.
const GUESTS_FAULTS: [i32; 10] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENONET,
];

// ---- its parts ------------------------------------------------------------------------------

impl<W: World> Server<W> {
    /// Give a guest a seat; if there is none, and nobody can go, it is told so.
    fn welcome(&mut self, mut socket: W::Socket, address: Address, now: Now) {
        let conn = if !self.is_full(0) || self.make_room(|_, _| true) {
            Conn::new(self.origins.clone(), now)
        } else {
            let sentence = "There is no room; try again later.";
            Conn::refused(Response::unavailable(sentence), self.origins.clone(), now)
        };
        let entry = self.peers.vacant_entry();
        let seat = entry.key();
        if let Err(source) = self.world.register(&mut socket, seat) {
            log::warn!("{}", Error::new("register", address, source));
            return;
        }
        self.guests += 1;
        entry.insert(Peer::new(socket, address, self.guests, conn, now));
        self.touch(seat);
    }

    /// Whether so many beyond those who are served have no seat or no descriptor.
    fn is_full(&self, beyond: usize) -> bool {
        self.peers.len() >= self.seats_max + beyond || self.lacks_descriptors(beyond)
    }

    fn lacks_descriptors(&self, beyond: usize) -> bool {
        let files = self.peers.iter().filter(|(_, peer)| peer.conn.waits()).count();
        self.peers.len() + files >= self.descriptors_max + beyond
    }

    /// Keep account of the memory that guests make us hold. When it is too much, the one who asks
    /// for more than anybody needs is refused; else those go who leave their requests unfinished.
    fn weigh(&mut self, seat: usize, now: Now) {
        self.count_held(seat);
        if self.held <= self.held_max {
            return;
        }
        if self.peers[seat].held > INBOX_BYTES_MAX {
            self.refuse_rest(seat, now);
        }
        while self.held > self.held_max {
            if !self.make_room(|other, peer| other != seat && peer.held > 0) {
                return self.refuse_rest(seat, now);
            }
        }
    }

    fn count_held(&mut self, seat: usize) {
        let peer = &mut self.peers[seat];
        let held = peer.conn.held() + peer.lent;
        self.held = self.held - peer.held + held;
        peer.held = held;
    }

    /// A request half received is refused.
    fn refuse_rest(&mut self, seat: usize, now: Now) {
        self.peers[seat].conn.give_up(Response::unavailable(TOO_MUCH), now);
        self.count_held(seat);
    }

    /// Give memory back after a crowd that made us hold much has gone.
    fn trim(&mut self) {
        self.held_peak = self.held_peak.max(self.held);
        if self.held_peak > TRIM_BYTES_MIN && self.held < self.held_peak / 4 {
            self.held_peak = self.held;
            memory::trim();
        }
    }

    /// The end of a peer; the only one.
    fn close(&mut self, seat: usize, reason: Close) {
        let Some(mut peer) = self.peers.try_remove(seat) else { return };
        if let Some(status) = report(&mut peer) {
            self.counts.answer(status);
        }
        self.counts.add(&peer);
        log::debug!("{}: closed: {reason:?}", peer.address);
        self.held -= peer.held;
        self.world.deregister(&mut peer.socket);
    }

    /// Give up a connection that is not being answered: the one that has been between two requests
    /// longest, else the one whose request has been unfinished longest. Of those that are `chosen`.
    fn make_room(&mut self, chosen: impl Fn(usize, &Peer<W::Socket>) -> bool) -> bool {
        // One that came in this turn has not been heard yet.
        let heard = self.peers.iter().filter(|(seat, peer)| !peer.touched && chosen(*seat, peer));
        let waiting = heard.filter_map(|(seat, peer)| Some((peer.conn.dispensable()?, seat)));
        let Some((_, seat)) = waiting.min() else { return false };
        self.close(seat, Close::Idle);
        true
    }

    /// The seat of the guest whom a ticket is for, if he is still there.
    fn seat_of(&self, ticket: Ticket) -> Option<usize> {
        let peer = self.peers.get(ticket.seat)?;
        (peer.guest == ticket.guest).then_some(ticket.seat)
    }

    fn touch(&mut self, seat: usize) {
        let Some(peer) = self.peers.get_mut(seat) else { return };
        if !std::mem::replace(&mut peer.touched, true) {
            self.touched.push(seat);
        }
    }

    fn note_deadline(&mut self, seat: usize) {
        let deadline = self.peers.get(seat).and_then(Peer::deadline);
        self.earliest = [self.earliest, deadline].into_iter().flatten().min();
    }

    /// Each of them.
    fn cameras(&self) -> Range<usize> {
        0..self.feeds.len()
    }

    fn seats_that(&self, chosen: impl Fn(&Peer<W::Socket>) -> bool) -> Vec<usize> {
        self.peers.iter().filter(|(_, peer)| chosen(peer)).map(|(seat, _)| seat).collect()
    }
}

/// Write what became of a request into the log; gives the status.
fn report(peer: &mut Peer<impl Transport>) -> Option<Status> {
    let report = peer.conn.report()?;
    let method = report.method.map_or("-".to_owned(), |m| format!("{m:?}").to_uppercase());
    let (address, code) = (peer.address, report.status.code());
    match peer.behind {
        Some(client) => log::info!("{client} by {address} {method} {} {code}", report.target),
        None => log::info!("{address} {method} {} {code}", report.target),
    }
    Some(report.status)
}
