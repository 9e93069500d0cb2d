//! What requests ask of the house, and how it answers: frames and photos from here, files and
//! changes by way of the disk.

use std::sync::Arc;

use super::feed::no_signal;
use super::{Server, TOO_MUCH};
use crate::control::{Deed, Refusal, Told};
use crate::disk::{self, Change, Panel, Task};
use crate::frame::{Frame, Picture};
use crate::http::Now;
use crate::http::request::Method;
use crate::http::response::{Response, Status};
use crate::net::controls::Caller;
use crate::net::shutter::Asker;
use crate::net::world::World;
use crate::route::{Action, Plan, route};

impl<W: World> Server<W> {
    /// Answer the request that a peer has ready.
    pub(super) fn answer(&mut self, seat: usize, now: Now) {
        if !self.admit(seat, now) {
            return;
        }
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (head_only, page) = (request.method == Method::Head, request.wants_page);
        let action = route(request, &self.hosts, self.feeds.len());
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
            Action::Stream { camera, fps, wish } => {
                peer.watch = Some(self.feeds[camera].slot.watch());
                (peer.camera, peer.wish) = (camera, wish);
                peer.conn.answer(Response::stream(fps), now);
            }
            Action::Snapshot { camera, freshness, wish } => {
                (peer.camera, peer.wish) = (camera, wish);
                self.begin_snapshot(seat, freshness, now);
            }
            Action::Photo { camera } => {
                let asker = Asker::Guest { ticket: peer.ticket(seat), page };
                self.press(camera, asker, now);
            }
            Action::Interval(plan) => self.set_interval(seat, plan, now),
            Action::ShowInterval => self.show_interval(seat, now),
            Action::Status => self.show_status(seat, now),
            Action::Metrics => self.show_metrics(seat, now),
            Action::Health => self.show_health(seat, now),
            Action::Controls { camera, deed } => self.order(seat, camera, deed, now),
            Action::Disk(task) => self.ask_disk(seat, task, now),
            Action::Change(change) => self.change(seat, change, now),
        }
    }

    /// Have a page looked for, if there is room for it.
    pub(super) fn ask_disk(&mut self, seat: usize, task: Task, now: Now) {
        // A file may be opened for it.
        let short = self.lacks_descriptors(1) && !self.make_room(|other, _| other != seat);
        let peer = &mut self.peers[seat];
        let (ticket, bytes) = (peer.ticket(seat), task.bytes());
        if short || self.held > self.held_max || self.disk.ask(ticket, task).is_err() {
            peer.conn.answer(Response::unavailable(TOO_MUCH), now);
        } else {
            peer.lent = bytes;
        }
    }

    /// Why there are no frames for one more who asks for them.
    fn refusal(&self, action: &Action) -> Option<&'static str> {
        let (Action::Stream { camera, wish, .. } | Action::Snapshot { camera, wish, .. }) = action
        else {
            return None;
        };
        let demand: u32 = self.feeds.iter().map(|feed| feed.slot.demand()).sum();
        if demand as usize >= self.viewers_max {
            return Some("There are too many viewers; try again later.");
        }
        let sentence = "Others see the picture in too many sizes; ask for one of theirs.";
        (!self.can_make(*camera, *wish)).then_some(sentence)
    }
}

// ---- photos, and how the house stands -------------------------------------------------------

impl<W: World> Server<W> {
    /// Somebody wants a photo: wait for its frame.
    fn press(&mut self, camera: usize, asker: Asker, now: Now) {
        // The turn may have begun before the press came, and frames with it.
        let now = Now { instant: self.world.now().instant, ..now };
        let feed = &mut self.feeds[camera];
        if !feed.shutter.press(asker, feed.slot.watch(), self.stills, now) {
            self.refuse(camera, asker, Response::unavailable("Too many photos at once."), now);
        } else if self.stills {
            feed.slot.want_still();
        }
    }

    /// Take the interval's photos if it is time for that.
    pub(super) fn press_by_clock(&mut self, now: Now) {
        if self.intervalometer.is_over(now.instant) {
            self.stop_interval();
        }
        if !self.intervalometer.is_due(now.instant) {
            return;
        }
        for camera in self.cameras() {
            match self.feeds[camera].shutter.awaits_clock() {
                true => self.intervalometer.skip(),
                false => self.press(camera, Asker::Clock, now),
            }
        }
    }

    /// The frame of a photo is there: have it saved.
    pub(super) fn develop(&mut self, camera: usize, asker: Asker, frame: &Arc<Frame>, now: Now) {
        if let Picture::NoSignal { reason } = &frame.picture {
            return self.refuse(camera, asker, no_signal(reason), now);
        }
        let (ticket, page) = match asker {
            Asker::Guest { ticket, page } => (Some(ticket), page),
            Asker::Clock => (None, false),
        };
        let frame = frame.clone();
        if self.disk.change(ticket, Change::Save { frame, camera, page }).is_err() {
            return self.refuse(camera, asker, Response::unavailable(TOO_MUCH), now);
        }
        if let Some(seat) = ticket.and_then(|ticket| self.seat_of(ticket)) {
            self.peers[seat].awaits_change = true;
        }
    }

    /// A photo is not taken.
    pub(super) fn refuse(&mut self, camera: usize, asker: Asker, response: Response, now: Now) {
        match asker {
            Asker::Guest { ticket, .. } => {
                let Some(seat) = self.seat_of(ticket) else { return };
                self.peers[seat].conn.answer(response, now);
                self.touch(seat);
            }
            Asker::Clock => self.intervalometer.note(camera, Err(response.text().trim_end())),
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
        self.stop_interval();
        if let Some(Plan { every, length }) = plan {
            self.intervalometer.start(every, length, now);
        }
        let peer = &mut self.peers[seat];
        match peer.conn.request().is_some_and(|request| request.wants_page) {
            true => peer.conn.answer(Response::see_other("interval"), now),
            false => self.show_interval(seat, now),
        }
    }

    pub(super) fn stop_interval(&mut self) {
        self.intervalometer.stop();
        self.feeds.iter_mut().for_each(|feed| feed.shutter.forget_clock());
    }

    fn show_interval(&mut self, seat: usize, now: Now) {
        let Some(request) = self.peers[seat].conn.request() else { return };
        let (page, lang) = (request.wants_page, request.lang);
        let interval = self.interval(now);
        self.ask_disk(seat, Task::Interval { interval, page, lang }, now);
    }

    pub(super) fn interval(&self, now: Now) -> Option<disk::Interval> {
        self.intervalometer.interval().map(|interval| disk::Interval {
            every: interval.every.as_secs_f64(),
            until: interval.until(now),
            saved: interval.saved,
            skipped: interval.skipped,
            trouble: interval.trouble().map(str::to_owned),
        })
    }
}

// ---- the camera's controls ------------------------------------------------------------------

impl<W: World> Server<W> {
    /// Ask the camera's thread for its controls, or to set one.
    fn order(&mut self, seat: usize, camera: usize, deed: Deed, now: Now) {
        let peer = &mut self.peers[seat];
        let Some(request) = peer.conn.request() else { return };
        let page = request.path.as_deref().and_then(|path| path.rsplit('/').next());
        let page = page.unwrap_or_default();
        let back = match &deed {
            _ if !request.wants_page => None,
            Deed::List => None,
            Deed::Set { id, .. } | Deed::Reset(Some(id)) => Some(format!("{page}#c{id}")),
            Deed::Reset(None) => Some(page.to_owned()),
        };
        let caller = Caller { ticket: peer.ticket(seat), camera, back };
        if !self.controls.order(caller, deed, &self.feeds[camera].slot, now) {
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
        let panel = Panel {
            listing,
            trouble: self.controls.trouble().map(str::to_owned),
            camera: caller.camera,
            cameras: self.feeds.len(),
            depth: request.depth,
        };
        let task = Task::Controls { panel: Box::new(panel), page, lang };
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
