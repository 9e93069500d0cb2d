//! What requests ask of the house, and how it answers: frames and photos from here, files and
//! changes by way of the disk.

use std::sync::Arc;
use std::time::Instant;

use super::{Server, TOO_MUCH};
use crate::control::{Deed, Refusal, Told};
use crate::disk::{self, Change, Task};
use crate::frame::{Frame, Picture};
use crate::http::Now;
use crate::http::request::Method;
use crate::http::response::{Response, Status};
use crate::limits::{HELD_BYTES_MAX, JPEG_SIZE, RENDITIONS_MAX, SNAPSHOT_TIME_MAX};
use crate::net::controls::Caller;
use crate::net::peer::SnapshotWait;
use crate::net::shutter::Asker;
use crate::route::{Action, Freshness, Plan, route};
use crate::scale::{Rendition, Renditions, Wish};

impl Server {
    /// Answer the request that a peer has ready.
    pub(super) fn answer(&mut self, seat: usize, now: Now) {
        if !self.admit(seat, now) {
            return;
        }
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (head_only, page) = (request.method == Method::Head, request.wants_page);
        let action = route(request, &self.hosts);
        let refusal = if head_only { None } else { self.refusal(&action) };
        let peer = &mut self.peers[seat];
        if let Some(sentence) = refusal {
            return peer.conn.answer(Response::unavailable(sentence), now);
        }
        match action {
            Action::Reply(response) => peer.conn.answer(response, now),
            Action::Stream { .. } if head_only => peer.conn.answer(Response::stream(None), now),
            Action::Snapshot { .. } if head_only => {
                peer.conn.answer(Response::snapshot_head(), now)
            }
            Action::Stream { fps, wish } => {
                peer.watch = Some(self.camera.watch());
                peer.wish = wish;
                peer.conn.answer(Response::stream(fps), now);
            }
            Action::Snapshot { freshness, wish } => {
                peer.wish = wish;
                self.begin_snapshot(seat, freshness, now);
            }
            Action::Photo => {
                let asker = Asker::Guest { ticket: peer.ticket(seat), page };
                self.press(asker, now);
            }
            Action::Interval(plan) => self.set_interval(seat, plan, now),
            Action::ShowInterval => self.show_interval(seat, now),
            Action::Status => self.show_status(seat, now),
            Action::Metrics => self.show_metrics(seat, now),
            Action::Health => self.show_health(seat, now),
            Action::Controls(deed) => self.order(seat, deed, now),
            Action::Disk(task) => self.ask_disk(seat, task, now),
            Action::Change(change) => self.change(seat, change, now),
        }
    }

    /// Have a page looked for, if there is room for it.
    pub(super) fn ask_disk(&mut self, seat: usize, task: Task, now: Now) {
        let peer = &mut self.peers[seat];
        let ticket = peer.ticket(seat);
        if self.held > HELD_BYTES_MAX || self.disk.ask(ticket, task).is_err() {
            peer.conn.answer(Response::unavailable(TOO_MUCH), now);
        }
    }

    /// Answer with the frame that is there if it is fresh enough, else wait for the next one.
    fn begin_snapshot(&mut self, seat: usize, freshness: Freshness, now: Now) {
        let peer = &mut self.peers[seat];
        let fresh = self.newest.as_ref().filter(|newest| {
            let frame = &newest.part.frame;
            let age = now.instant.saturating_duration_since(frame.taken);
            let live = matches!(frame.picture, Picture::Live { .. });
            live && freshness.max_age.is_some_and(|max_age| age <= max_age)
        });
        let seen = fresh.and_then(|newest| newest.seen_by(peer, &self.scaling));
        if let Some(part) = seen {
            return peer.end_snapshot(Response::snapshot(part.frame.clone()), now);
        }
        peer.watch = Some(self.camera.watch());
        let until = now.instant + SNAPSHOT_TIME_MAX;
        // A fresh frame that is yet to be made smaller or turned will do, too.
        let newest = self.newest.as_ref().map_or(0, |newest| newest.part.frame.number);
        let after = newest - u64::from(fresh.is_some());
        peer.snapshot = Some(SnapshotWait { settled: freshness.settled, after, until });
        self.scale_due = true;
    }

    /// Why there are no frames for one more who asks for them.
    fn refusal(&self, action: &Action) -> Option<&'static str> {
        let (Action::Stream { wish, .. } | Action::Snapshot { wish, .. }) = action else {
            return None;
        };
        if self.camera.demand() as usize >= self.viewers_max {
            return Some("There are too many viewers; try again later.");
        }
        let sentence = "Others see the picture in too many sizes; ask for one of theirs.";
        (!self.can_make(*wish)).then_some(sentence)
    }

    /// Whether frames can be made so beside those that others see.
    fn can_make(&self, wish: Wish) -> bool {
        // Before the first frame it is not known whether there is anything to turn.
        let (wide, turned) = match &self.newest {
            Some(newest) => (newest.width(), newest.turned),
            None => {
                let width = self.camera.state().width;
                (if width > 0 { width } else { JPEG_SIZE.0 }, true)
            }
        };
        let own = wish.rendition(wide, turned);
        if own == Rendition::AS_IS {
            return true;
        }
        let mut all = Renditions::default();
        all.add(own);
        for (_, peer) in self.peers.iter().filter(|(_, peer)| peer.watch.is_some()) {
            all.add(peer.wish.rendition(wide, turned));
        }
        all.count() <= RENDITIONS_MAX
    }

    /// Give the newest frame to a peer that waits for a snapshot, if it will do.
    pub(super) fn snap(&mut self, seat: usize, now: Now) {
        let (Some(peer), Some(newest)) = (self.peers.get_mut(seat), &self.newest) else { return };
        let Some(wait) = peer.snapshot else { return };
        if let Picture::NoSignal { reason } = &newest.part.frame.picture {
            return peer.end_snapshot(no_signal(reason), now);
        }
        let seen = newest.seen_by(peer, &self.scaling).map(|part| part.frame.clone());
        if let Some(frame) = seen.filter(|frame| wait.takes(frame)) {
            peer.end_snapshot(Response::snapshot(frame), now);
        }
    }
}

// ---- photos, and how the house stands -------------------------------------------------------

impl Server {
    /// Somebody wants a photo: wait for its frame.
    pub(super) fn press(&mut self, asker: Asker, now: Now) {
        // The turn may have begun before the press came, and frames with it.
        let now = Now { instant: Instant::now(), ..now };
        if !self.shutter.press(asker, self.camera.watch(), self.stills, now) {
            self.refuse(asker, Response::unavailable("Too many photos at once."), now);
        } else if self.stills {
            self.camera.want_still();
        }
    }

    /// The frame of a photo is there: have it saved.
    pub(super) fn develop(&mut self, asker: Asker, frame: &Arc<Frame>, now: Now) {
        if let Picture::NoSignal { reason } = &frame.picture {
            return self.refuse(asker, no_signal(reason), now);
        }
        let (ticket, page) = match asker {
            Asker::Guest { ticket, page } => (Some(ticket), page),
            Asker::Clock => (None, false),
        };
        let frame = frame.clone();
        if self.disk.change(ticket, Change::Save { frame, page }).is_err() {
            return self.refuse(asker, Response::unavailable(TOO_MUCH), now);
        }
        if let Some(seat) = ticket.and_then(|ticket| self.seat_of(ticket)) {
            self.peers[seat].awaits_change = true;
        }
    }

    /// A photo is not taken.
    pub(super) fn refuse(&mut self, asker: Asker, response: Response, now: Now) {
        match asker {
            Asker::Guest { ticket, .. } => {
                let Some(seat) = self.seat_of(ticket) else { return };
                self.peers[seat].conn.answer(response, now);
                self.touch(seat);
            }
            Asker::Clock => self.shutter.note(Err(response.text().trim_end())),
        }
    }

    /// Have something changed for good.
    fn change(&mut self, seat: usize, change: Change, now: Now) {
        let peer = &mut self.peers[seat];
        match self.disk.change(Some(peer.ticket(seat)), change) {
            Ok(()) => peer.awaits_change = true,
            Err(_) => peer.conn.answer(Response::unavailable(TOO_MUCH), now),
        }
    }

    /// Start or stop interval photos, and show how they stand.
    fn set_interval(&mut self, seat: usize, plan: Option<Plan>, now: Now) {
        self.shutter.stop();
        if let Some(Plan { every, length }) = plan {
            self.shutter.start(every, length, now);
        }
        let peer = &mut self.peers[seat];
        match peer.conn.request().is_some_and(|request| request.wants_page) {
            true => peer.conn.answer(Response::see_other("interval"), now),
            false => self.show_interval(seat, now),
        }
    }

    fn show_interval(&mut self, seat: usize, now: Now) {
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (page, lang) = (request.wants_page, request.lang);
        let interval = self.interval(now);
        self.ask_disk(seat, Task::Interval { interval, page, lang }, now);
    }

    pub(super) fn interval(&self, now: Now) -> Option<disk::Interval> {
        self.shutter.interval().map(|interval| disk::Interval {
            every: interval.every.as_secs_f64(),
            until: interval.until(now),
            saved: interval.saved,
            skipped: interval.skipped,
            trouble: interval.trouble.clone(),
        })
    }
}

// ---- the camera's controls ------------------------------------------------------------------

impl Server {
    /// Ask the camera's thread for its controls, or to set one.
    fn order(&mut self, seat: usize, deed: Deed, now: Now) {
        let peer = &mut self.peers[seat];
        let wants_page = peer.conn.request().is_some_and(|request| request.wants_page);
        let back = match &deed {
            _ if !wants_page => None,
            Deed::List => None,
            Deed::Set { id, .. } | Deed::Reset(Some(id)) => Some(format!("controls#c{id}")),
            Deed::Reset(None) => Some("controls".to_owned()),
        };
        let caller = Caller { ticket: peer.ticket(seat), back };
        if !self.controls.order(caller, deed, &self.camera, now) {
            peer.conn.answer(Response::unavailable(TOO_MUCH), now);
        }
    }

    /// The camera's thread has answered: a page goes back to where it shows what is new.
    pub(super) fn answer_order(&mut self, number: u64, told: Told, now: Now) {
        let Some(caller) = self.controls.take(number) else { return };
        let listing = match told {
            Ok(listing) => listing,
            Err(refusal) => {
                let response = match &refusal {
                    Refusal::Wrong(said) => Response::sentence(Status::BadRequest, said),
                    Refusal::Absent(said) => Response::sentence(Status::NotFound, said),
                    Refusal::Denied(said) => Response::sentence(Status::Conflict, said),
                    Refusal::Failed(said) => Response::unavailable(said),
                };
                return self.answer_caller(&caller, response, now);
            }
        };
        if let Some(back) = &caller.back {
            return self.answer_caller(&caller, Response::see_other(back), now);
        }
        let Some(seat) = self.seat_of(caller.ticket) else { return };
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (page, lang) = (request.wants_page, request.lang);
        let trouble = self.controls.trouble().map(str::to_owned);
        let task = Task::Controls { listing: Box::new(listing), trouble, page, lang };
        self.ask_disk(seat, task, now);
        self.touch(seat);
    }

    pub(super) fn answer_caller(&mut self, caller: &Caller, response: Response, now: Now) {
        let Some(seat) = self.seat_of(caller.ticket) else { return };
        self.peers[seat].conn.answer(response, now);
        self.touch(seat);
    }

    /// Have what was set written to its file, if it is time for that.
    pub(super) fn save_settings(&mut self, now: Now) {
        let Some(kept) = self.controls.take_due(now.instant, self.ending.is_some()) else { return };
        if self.disk.change(None, Change::Settings(kept.clone())).is_err() {
            self.controls.postpone(kept);
        }
    }
}

fn no_signal(reason: &str) -> Response {
    Response::unavailable(&format!("The camera gives no picture: {reason}."))
}
