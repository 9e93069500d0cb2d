//! How the house stands: counters, who watches and how he fares, the last minutes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Server;
use crate::disk::{Drops, Facts, Memory, Sample, Task, Viewer};
use crate::frame::{Frame, Picture};
use crate::http::Now;
use crate::http::response::{Response, Status};
use crate::limits::{FRAME_TIME_MAX, HISTORY_MAX, HISTORY_STEP, SNAPSHOT_TIME_MAX};
use crate::net::peer::Peer;

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
    pub fn add(&mut self, peer: &Peer) {
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

impl Server {
    /// Note how it stands, from time to time, while frames come.
    pub(super) fn note_sample(&mut self, now: Now) {
        if self.history.is_due(now.instant) {
            let fps = self.meter.fps(now.instant).unwrap_or(0.0);
            self.history.note(fps, self.viewers(), now.instant);
        }
    }

    fn viewers(&self) -> usize {
        self.peers.iter().filter(|(_, peer)| peer.conn.viewing().is_some()).count()
    }

    /// What is known here; the disk adds what it knows. Addresses are for operators.
    pub(super) fn facts(&self, seat: usize, now: Now) -> Facts {
        let count = |drops: &AtomicU64| drops.load(Ordering::Relaxed);
        let drops = &self.camera.drops;
        let drops = Drops {
            damaged: count(&drops.flagged),
            empty: count(&drops.empty),
            broken: count(&drops.broken),
            skipped: count(&drops.skipped),
        };
        let mut counts = self.counts;
        self.peers.iter().for_each(|(_, peer)| counts.add(peer));
        let operator = self.peers[seat].conn.request().is_some_and(|request| request.may_change);
        let newest = self.newest.as_ref().map(|newest| &*newest.part.frame);
        let watching = self.peers.iter().filter_map(|(_, peer)| {
            let newest = newest.map_or(0, |frame| frame.number);
            viewer(peer, operator, newest, now)
        });
        let age = |frame: &Frame| now.instant.saturating_duration_since(frame.taken);
        Facts {
            camera: self.camera.state(),
            fps_asked: self.fps_asked,
            fps_real: self.meter.fps(now.instant),
            age: newest.filter(|frame| is_live(frame)).map(|frame| age(frame).as_secs_f64()),
            frames: self.frames,
            drops,
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

    /// 200 while frames flow, or nobody asks for any.
    pub(super) fn show_health(&mut self, seat: usize, now: Now) {
        let response = match self.trouble(now.instant) {
            None => Response::sentence(Status::Ok, "ok"),
            Some(reason) => {
                Response::unavailable(&format!("The camera gives no picture: {reason}."))
            }
        };
        self.peers[seat].conn.answer(response, now);
    }

    /// Why no frames flow, although somebody asks for them.
    fn trouble(&self, now: Instant) -> Option<String> {
        let since = self.wanted_since?;
        match &self.newest {
            Some(newest) => match &newest.part.frame.picture {
                Picture::NoSignal { reason } => Some(reason.to_string()),
                // A camera of a low rate, and one that has just come back, are not ill.
                Picture::Live { .. } => {
                    let age = now.saturating_duration_since(newest.part.frame.taken);
                    let old = age > FRAME_TIME_MAX + FRAME_TIME_MAX;
                    old.then(|| format!("the last one is {:.0} s old", age.as_secs_f64()))
                }
            },
            None if now < since + SNAPSHOT_TIME_MAX => None, // it is starting
            None => Some("there has been none yet".to_owned()),
        }
    }
}

fn is_live(frame: &Frame) -> bool {
    matches!(frame.picture, Picture::Live { .. })
}

/// `newest`: the number of the last frame.
fn viewer(peer: &Peer, operator: bool, newest: u64, now: Now) -> Option<Viewer> {
    let viewing = peer.conn.viewing()?;
    let queued = peer.queued();
    let arrived = queued == 0 && peer.conn.outbox().is_empty();
    let shown = |age: std::time::Duration| age.as_secs_f64();
    Some(Viewer {
        address: operator.then(|| peer.client().to_string()),
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
