//! How the house stands: counters, who watches and how he fares, the last minutes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Server;
use crate::disk::{CameraFacts, Drops, Facts, Memory, Sample, Task, Viewer};
use crate::frame::Frame;
use crate::http::Now;
use crate::http::response::{Response, Status};
use crate::limits::{HISTORY_MAX, HISTORY_STEP};
use crate::net::peer::Peer;
use crate::net::world::{Transport, World};

/// What has happened since the start, of those who have gone too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Answers by the first digit of their status, from 1 on.
    pub answers: [u64; 5],
    /// Bytes given to sockets, by those who have gone.
    pub bytes: u64,
    /// Frames that viewers who have gone took, missed, and did not ask for.
    pub frames: u64,
    pub late: u64,
    pub unasked: u64,
}

impl Counts {
    pub fn answer(&mut self, status: Status) {
        let class = status.code().bytes().next().map_or(0, |digit| usize::from(digit - b'1'));
        if let Some(count) = self.answers.get_mut(class) {
            *count += 1;
        }
    }

    /// A peer goes, or is counted as if.
    pub fn add(&mut self, peer: &Peer<impl Transport>) {
        self.bytes += peer.gate.given();
        let totals = peer.conn.totals();
        self.frames += totals.frames;
        self.late += totals.late;
        self.unasked += totals.unasked;
    }
}

/// The last minutes in which anybody watched. An idle house is not woken for it.
#[derive(Debug)]
pub struct History {
    /// INVARIANT: at most `HISTORY_MAX`, the newest last.
    samples: VecDeque<(Instant, Sample)>,
    memory: Memory,
}

impl History {
    pub fn new() -> History {
        History { samples: VecDeque::new(), memory: Memory::open() }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|(last, _)| now >= *last + HISTORY_STEP)
    }

    fn note(&mut self, fps: f64, viewers: usize, now: Instant) {
        if self.samples.len() == HISTORY_MAX {
            self.samples.pop_front();
        }
        let memory = self.memory.resident().unwrap_or(0);
        self.samples.push_back((now, Sample { seconds_ago: 0.0, fps, viewers, memory }));
    }

    /// The oldest first.
    fn told(&self, now: Instant) -> Vec<Sample> {
        let told = |(at, sample): &(Instant, Sample)| Sample {
            seconds_ago: now.saturating_duration_since(*at).as_secs_f64(),
            ..*sample
        };
        self.samples.iter().map(told).collect()
    }
}

impl<W: World> Server<W> {
    /// Note how it stands, from time to time, while frames come.
    pub(super) fn note_sample(&mut self, now: Now) {
        if self.history.is_due(now.instant) {
            let rates = self.feeds.iter().filter_map(|feed| feed.meter.fps(now.instant));
            let fps = rates.sum();
            self.history.note(fps, self.viewers(), now.instant);
        }
    }

    fn viewers(&self) -> usize {
        self.peers.iter().filter(|(_, peer)| peer.conn.viewing().is_some()).count()
    }

    /// What is known here; the disk adds what it knows. Addresses are for operators.
    fn facts(&self, seat: usize, now: Now) -> Facts {
        let mut counts = self.counts;
        self.peers.iter().for_each(|(_, peer)| counts.add(peer));
        let operator = self.peers[seat].conn.request().is_some_and(|request| request.may_change);
        let watching = self.peers.iter().filter_map(|(_, peer)| {
            let newest = self.feeds[peer.camera].newest.as_ref();
            let newest = newest.map_or(0, |newest| newest.part.frame.number);
            viewer(peer, operator, newest, now)
        });
        Facts {
            cameras: self.cameras().map(|camera| self.camera_facts(camera, now)).collect(),
            viewers: self.viewers(),
            watching: watching.collect(),
            connections: self.peers.len(),
            answers: counts.answers,
            bytes_sent: counts.bytes,
            frames_sent: counts.frames,
            frames_late: counts.late,
            frames_unasked: counts.unasked,
            wrong_passwords: self.access.failures(),
            memory: self.history.memory.resident(),
            uptime: now.instant.duration_since(self.started).as_secs(),
            interval: self.interval(now),
            history: self.history.told(now.instant),
        }
    }

    fn camera_facts(&self, camera: usize, now: Now) -> CameraFacts {
        let feed = &self.feeds[camera];
        let count = |drops: &AtomicU64| drops.load(Ordering::Relaxed);
        let drops = &feed.slot.drops;
        let age = |frame: &Frame| now.instant.saturating_duration_since(frame.taken);
        let watches =
            |peer: &Peer<W::Socket>| peer.watches(camera) && peer.conn.viewing().is_some();
        CameraFacts {
            state: feed.slot.state(),
            fps_asked: self.fps_asked,
            fps_real: feed.meter.fps(now.instant),
            age: feed.live().map(|frame| age(frame).as_secs_f64()),
            frames: feed.frames,
            drops: Drops {
                damaged: count(&drops.flagged),
                empty: count(&drops.empty),
                broken: count(&drops.broken),
                skipped: count(&drops.skipped),
            },
            viewers: self.peers.iter().filter(|(_, peer)| watches(peer)).count(),
        }
    }

    pub(super) fn show_status(&mut self, seat: usize, now: Now) {
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (page, lang) = (request.wants_page, request.lang);
        let facts = Box::new(self.facts(seat, now));
        self.ask_disk(seat, Task::Status { facts, page, lang }, now);
    }

    pub(super) fn show_metrics(&mut self, seat: usize, now: Now) {
        let facts = Box::new(self.facts(seat, now));
        self.ask_disk(seat, Task::Metrics(facts), now);
    }

    /// 200 while frames flow of all cameras of which somebody asks for some. Why one gives none is
    /// not for strangers.
    pub(super) fn show_health(&mut self, seat: usize, now: Now) {
        let ill = self.cameras().filter_map(|camera| {
            let mut reason = self.feeds[camera].trouble(now.instant)?;
            if self.access.asks() {
                reason = "the log says why".into();
            }
            Some(match self.feeds.len() {
                1 => format!("The camera gives no picture: {reason}."),
                _ => format!("Camera {} gives no picture: {reason}.", camera + 1),
            })
        });
        let ill: Vec<String> = ill.collect();
        let response = match ill.is_empty() {
            true => Response::sentence(Status::Ok, "ok"),
            false => Response::unavailable(&ill.join(" ")),
        };
        self.peers[seat].conn.answer(response, now);
    }
}

/// `newest`: the number of the last frame.
fn viewer(peer: &Peer<impl Transport>, operator: bool, newest: u64, now: Now) -> Option<Viewer> {
    let viewing = peer.conn.viewing()?;
    let queued = peer.queued();
    let arrived = queued == 0 && peer.conn.outbox().is_empty();
    let shown = |age: std::time::Duration| age.as_secs_f64();
    Some(Viewer {
        address: operator.then(|| peer.client().to_string()),
        camera: peer.camera + 1,
        seconds: viewing.time(now.instant).as_secs(),
        width: peer.wish.width,
        fps: viewing.fps(now.instant),
        frames: viewing.frames(),
        late: viewing.late(newest),
        unasked: viewing.unasked(),
        gate_open: peer.gate.again.is_none() && peer.conn.outbox().is_empty(),
        queued,
        age: viewing.age(arrived, now.instant).map(shown),
    })
}
