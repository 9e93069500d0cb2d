//! One camera as the loop knows it: its newest frame and who waits for the next, and how.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Server;
use crate::frame::{CameraState, Frame, FrameSlot, Meter, Picture, Shape, Still};
use crate::http::Now;
use crate::http::conn::Close;
use crate::http::response::{Part, Response};
use crate::limits::{
    FRAME_TIME_MAX, FRAMES_NOT_PAST, JPEG_SIZE, RENDITIONS_MAX, REPEAT_AFTER, SNAPSHOT_TIME_MAX,
};
use crate::net::peer::{Peer, SnapshotWait};
use crate::net::shutter::Shutter;
use crate::net::world::{Transport, World};
use crate::route::Freshness;
use crate::scale::{Rendition, Renditions, Scaling, Wish};

/// What comes from one camera. Cameras are counted from 0 here, and from 1 outside.
pub struct Feed {
    pub slot: Arc<FrameSlot>,
    pub shutter: Shutter,
    /// The newest frame, while somebody wants frames.
    pub newest: Option<Newest>,
    /// The same smaller, or turned, …
    pub scaling: Scaling,
    /// …of which perhaps one is to be made.
    pub scale_due: bool,
    /// The last frame's number.
    pub frames: u64,
    pub meter: Meter,
    /// Since when somebody has wanted frames without a break.
    wanted_since: Option<Instant>,
}

/// A camera's newest frame.
pub struct Newest {
    pub part: Arc<Part>,
    /// When it is shown once more because no other has come; none when it was.
    repeat_at: Option<Instant>,
}

impl Newest {
    /// What it comes to for a peer.
    fn rendition(&self, peer: &Peer<impl Transport>) -> Rendition {
        peer.wish.rendition(self.part.frame.shown)
    }

    /// The newest there is as a peer asked for it.
    pub fn seen_by<'a>(
        &'a self,
        peer: &Peer<impl Transport>,
        scaling: &'a Scaling,
    ) -> Option<&'a Arc<Part>> {
        match self.rendition(peer) {
            Rendition::AS_IS => Some(&self.part),
            rendition => scaling.part(rendition),
        }
    }
}

impl Feed {
    pub fn new(slot: Arc<FrameSlot>, scaling: Scaling) -> Feed {
        Feed {
            slot,
            shutter: Shutter::default(),
            newest: None,
            scaling,
            scale_due: false,
            frames: 0,
            meter: Meter::default(),
            wanted_since: None,
        }
    }

    /// The newest frame, if it is there and shows what the camera sees.
    pub fn live(&self) -> Option<&Frame> {
        let frame = self.newest.as_ref().map(|newest| &*newest.part.frame);
        frame.filter(|frame| matches!(frame.picture, Picture::Live { .. }))
    }

    /// At the end of a turn: without demand, what is left would be a picture of the past.
    pub fn rest(&mut self, now: Instant) {
        if self.slot.demand() > 0 {
            self.wanted_since.get_or_insert(now);
            return;
        }
        self.newest = None;
        self.scaling.clear();
        self.meter = Meter::default();
        self.wanted_since = None;
    }

    /// When something is due that has not to do with a new frame.
    pub fn deadline(&self) -> Option<Instant> {
        let repeat = self.newest.as_ref().and_then(|newest| newest.repeat_at);
        [repeat, self.shutter.deadline()].into_iter().flatten().min()
    }

    /// Whether the newest frame is to be shown once more now.
    fn take_repeat(&mut self, now: Instant) -> bool {
        let due = |at: &mut Instant| *at <= now;
        self.newest.as_mut().is_some_and(|newest| newest.repeat_at.take_if(due).is_some())
    }

    /// Whether frames can be made so beside those that others see.
    fn can_make(&self, wish: Wish, others: impl Iterator<Item = Wish>) -> bool {
        // Before the first frame it is not known whether there is anything to turn.
        let shown = match &self.newest {
            Some(newest) => newest.part.frame.shown,
            None => {
                let CameraState { width, height, .. } = self.slot.state();
                Shape { size: if width > 0 { (width, height) } else { JPEG_SIZE }, turned: true }
            }
        };
        let own = wish.rendition(shown);
        if own == Rendition::AS_IS {
            return true;
        }
        let mut all = Renditions::default();
        all.add(own);
        others.for_each(|wish| all.add(wish.rendition(shown)));
        all.count() <= RENDITIONS_MAX
    }

    /// Why no frames flow, although somebody asks for them.
    pub fn trouble(&self, now: Instant) -> Option<String> {
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

impl<W: World> Server<W> {
    /// Hand out what a camera's thread left.
    pub(super) fn deliver_from(&mut self, camera: usize, now: Now) {
        let slot = self.feeds[camera].slot.clone();
        self.controls.note(slot.take_kept());
        while let Some((number, told)) = slot.take_told() {
            self.answer_order(number, told, now);
        }
        match slot.take_still() {
            Some(Still::Taken(frame)) => {
                for asker in self.feeds[camera].shutter.take_still(&frame) {
                    self.develop(camera, asker, &frame, now);
                }
                if self.feeds[camera].shutter.want_still() {
                    slot.want_still();
                }
            }
            Some(Still::LikeStream) => self.feeds[camera].shutter.give_up_stills(),
            None => {}
        }
        let feed = &mut self.feeds[camera];
        if feed.scaling.take() {
            feed.scale_due = true;
            for seat in self.seats_that(|peer| peer.watches(camera) && !peer.wish.is_none()) {
                self.snap(seat, now);
                self.touch(seat);
            }
        }
        let newest = &self.feeds[camera].newest;
        let shown = newest.as_ref().map(|newest| newest.part.frame.number);
        let news = slot.newest().filter(|frame| Some(frame.number) != shown);
        if let Some(frame) = news.filter(|_| slot.demand() > 0) {
            self.show(camera, frame, now);
        }
    }

    /// A new frame is there: give it to all who wait for one.
    fn show(&mut self, camera: usize, frame: Arc<Frame>, now: Now) {
        let feed = &mut self.feeds[camera];
        let repeats = matches!(frame.picture, Picture::Live { .. });
        let repeat_at = repeats.then(|| now.instant + REPEAT_AFTER);
        if repeats {
            feed.meter.count(now.instant);
        }
        feed.frames = frame.number;
        self.note_sample(now);
        for asker in self.feeds[camera].shutter.take(&frame) {
            self.develop(camera, asker, &frame, now);
        }
        let feed = &mut self.feeds[camera];
        if feed
            .newest
            .as_ref()
            .is_some_and(|newest| newest.part.frame.shown.size != frame.shown.size)
        {
            feed.scaling.clear();
        }
        feed.newest = Some(Newest { part: Arc::new(Part::new(frame)), repeat_at });
        feed.scale_due = true;
        self.forget_past();
        for seat in self.seats_that(|peer| peer.watches(camera)) {
            self.snap(seat, now);
            self.touch(seat);
        }
    }

    /// Frames that slow guests are still being sent are memory that strangers hold. If that is too
    /// much, those of the oldest ones go.
    fn forget_past(&mut self) {
        let sent = |peer: &Peer<W::Socket>| {
            let frame = peer.conn.outbox().frame()?;
            Some((frame.taken, Arc::as_ptr(frame), frame.jpeg().len()))
        };
        let mut frames: Vec<_> = self.peers.iter().filter_map(|(_, peer)| sent(peer)).collect();
        frames.sort_unstable();
        frames.dedup();
        let mut bytes = 0;
        let too_old = frames.iter().rev().skip(FRAMES_NOT_PAST).find(|(_, _, length)| {
            bytes += length;
            bytes > self.past_max
        });
        let Some((oldest, ..)) = too_old else { return };
        for seat in self.seats_that(|peer| sent(peer).is_some_and(|(taken, ..)| taken <= *oldest)) {
            self.close(seat, Close::Stalled);
        }
    }

    /// Send idle viewers the last frame once more, if it is time for that.
    pub(super) fn repeat(&mut self, camera: usize, now: Now) {
        if !self.feeds[camera].take_repeat(now.instant) {
            return;
        }
        for seat in self.seats_that(|peer| peer.watches(camera) && peer.gate.again.is_none()) {
            let (feed, peer) = (&self.feeds[camera], &mut self.peers[seat]);
            let part = feed.newest.as_ref().and_then(|newest| newest.seen_by(peer, &feed.scaling));
            if let Some(part) = part {
                peer.conn.repeat(part, now);
                self.touch(seat);
            }
        }
    }

    /// Give a viewer who can take one the newest frame; whether he may get on now.
    pub(super) fn offer(&mut self, seat: usize, now: Now) -> bool {
        let peer = &mut self.peers[seat];
        let feed = &mut self.feeds[peer.camera];
        let Some(newest) = &feed.newest else { return false };
        let part = newest.seen_by(peer, &feed.scaling);
        // A viewer who was busy when the last frame came has its own one made now.
        let number = part.map(|part| part.frame.number);
        feed.scale_due |= number != Some(newest.part.frame.number);
        part.is_some_and(|part| peer.offer(part, now))
    }

    /// Have the newest frame made as others want it who could take it now. Last in what the turn
    /// does for viewers: what is older than it was theirs until here.
    pub(super) fn scale(&mut self, camera: usize, now: Now) {
        let feed = &mut self.feeds[camera];
        let Some(newest) = &feed.newest else { return };
        let frame = &newest.part.frame;
        feed.scaling.keep_only(frame.number);
        if !std::mem::take(&mut feed.scale_due) {
            return;
        }
        let (mut asked, mut wanted) = (Renditions::default(), Renditions::default());
        let wishes = |peer: &Peer<W::Socket>| !peer.wish.is_none() && peer.camera == camera;
        for (_, peer) in self.peers.iter().filter(|(_, peer)| wishes(peer)) {
            let rendition = newest.rendition(peer);
            asked.add(rendition);
            if peer.wants(frame, now) {
                wanted.add(rendition);
            }
        }
        match asked.count() {
            0 => feed.scaling.clear(),
            _ => feed.scaling.make(frame, wanted),
        }
    }

    /// Whether a camera's frames can be made so beside those that others see.
    pub(super) fn can_make(&self, camera: usize, wish: Wish) -> bool {
        let others = self.peers.iter().filter(|(_, peer)| peer.watches(camera));
        self.feeds[camera].can_make(wish, others.map(|(_, peer)| peer.wish))
    }

    /// Answer with the frame that is there if it is fresh enough, else wait for the next one.
    pub(super) fn begin_snapshot(&mut self, seat: usize, freshness: Freshness, now: Now) {
        let peer = &mut self.peers[seat];
        let feed = &mut self.feeds[peer.camera];
        let age = |frame: &Frame| now.instant.saturating_duration_since(frame.taken);
        let young = |max: Duration| feed.live().is_some_and(|frame| age(frame) <= max);
        let is_fresh = freshness.max_age.is_some_and(young);
        let newest = feed.newest.as_ref();
        let seen = newest.filter(|_| is_fresh).and_then(|n| n.seen_by(peer, &feed.scaling));
        if let Some(part) = seen {
            return peer.end_snapshot(Response::snapshot(part.frame.clone()), now);
        }
        peer.watch = Some(feed.slot.watch());
        let until = now.instant + SNAPSHOT_TIME_MAX;
        // A fresh frame that is yet to be made smaller or turned will do, too.
        let newest = newest.map_or(0, |newest| newest.part.frame.number);
        let after = newest - u64::from(is_fresh);
        peer.snapshot = Some(SnapshotWait { settled: freshness.settled, after, until });
        feed.scale_due = true;
    }

    /// Give the newest frame to a peer that waits for a snapshot, if it will do.
    fn snap(&mut self, seat: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(seat) else { return };
        let feed = &self.feeds[peer.camera];
        let (Some(wait), Some(newest)) = (peer.snapshot, &feed.newest) else { return };
        if let Picture::NoSignal { reason } = &newest.part.frame.picture {
            return peer.end_snapshot(no_signal(reason), now);
        }
        let seen = newest.seen_by(peer, &feed.scaling).map(|part| part.frame.clone());
        if let Some(frame) = seen.filter(|frame| wait.takes(frame)) {
            peer.end_snapshot(Response::snapshot(frame), now);
        }
    }
}

/// The answer to who wanted a picture of a camera that gives none.
pub fn no_signal(reason: &str) -> Response {
    Response::unavailable(&format!("The camera gives no picture: {reason}."))
}
