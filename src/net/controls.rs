//! Requests for a camera's controls that wait for its thread, and what was set and is to be saved.
//!
//! The thread may be in the middle of a frame or of a photo, or hang in a driver: a request waits
//! for a while and is then told so, and the loop never waits.

use std::time::Instant;

use crate::control::{Deed, Kept, Order};
use crate::disk::Ticket;
use crate::frame::FrameSlot;
use crate::http::Now;
use crate::limits::{ORDER_TIME_MAX, ORDERS_MAX, SETTINGS_PERIOD, SETTINGS_RETRY};

/// Who wants something of the controls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub ticket: Ticket,
    /// Whose controls, counted from 0.
    pub camera: usize,
    /// Where the page that was asked from shows what has changed; none if it was only looked at, or
    /// by a program. Bound: the code's form of it.
    pub back: Option<String>,
}

#[derive(Debug)]
struct Wait {
    number: u64,
    caller: Caller,
    until: Instant,
}

#[derive(Debug)]
pub struct Controls {
    /// INVARIANT: at most `ORDERS_MAX`.
    waits: Vec<Wait>,
    /// Orders so far.
    orders: u64,
    /// There is a file for what is set.
    saves: bool,
    /// What was set and is not saved.
    unsaved: Option<Kept>,
    /// Some of it is on its way to the disk.
    saving: bool,
    /// It is not written again before this.
    not_before: Instant,
    /// Why it could not be saved. Bound: a sentence of the code's.
    trouble: Option<String>,
}

impl Controls {
    pub fn new(saves: bool, now: Now) -> Controls {
        Controls {
            waits: Vec::new(),
            orders: 0,
            saves,
            unsaved: None,
            saving: false,
            not_before: now.instant,
            trouble: None,
        }
    }

    /// Give an order to a camera; false if too many wait.
    pub fn order(&mut self, caller: Caller, deed: Deed, camera: &FrameSlot, now: Now) -> bool {
        if self.waits.len() >= ORDERS_MAX {
            return false;
        }
        self.orders += 1;
        let (number, until) = (self.orders, now.instant + ORDER_TIME_MAX);
        let given = camera.order(Order { number, deed, until });
        if given {
            self.waits.push(Wait { number, caller, until });
        }
        given
    }

    /// Who gave an order that is answered now; none if he was told already that it takes too long.
    pub fn take(&mut self, number: u64) -> Option<Caller> {
        let at = self.waits.iter().position(|wait| wait.number == number)?;
        Some(self.waits.remove(at).caller)
    }

    /// Those for whom it takes too long.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Caller> {
        self.waits.extract_if(.., |wait| wait.until <= now).map(|wait| wait.caller).collect()
    }

    pub fn deadline(&self) -> Option<Instant> {
        let save = self.unsaved.is_some() && !self.saving;
        let waits = self.waits.iter().map(|wait| wait.until);
        waits.chain(save.then_some(self.not_before)).min()
    }

    // ---- what is set ----

    /// Something was set.
    pub fn note(&mut self, newer: Kept) {
        if self.saves && !newer.is_empty() {
            self.unsaved.get_or_insert_default().merge(newer);
        }
    }

    /// What is to be saved now: what came while the disk was busy with the last, together. At the
    /// `end` nothing waits for its time.
    pub fn take_due(&mut self, now: Instant, end: bool) -> Option<Kept> {
        let due = !self.saving && self.not_before <= now;
        let kept = self.unsaved.take_if(|kept| due || (end && !kept.is_empty()))?;
        self.saving = true;
        self.not_before = now + SETTINGS_PERIOD;
        Some(kept)
    }

    /// What became of it. What the disk refused, it has taken note of and writes the next time.
    pub fn saved(&mut self, outcome: Result<(), String>, now: Instant) {
        self.saving = false;
        self.trouble = outcome.err();
        if self.trouble.is_some() {
            self.unsaved.get_or_insert_default();
            self.not_before = now + SETTINGS_RETRY;
        }
    }

    /// The disk has no time for it: a little later.
    pub fn postpone(&mut self, kept: Kept) {
        let mut all = kept;
        all.merge(self.unsaved.take().unwrap_or_default());
        (self.unsaved, self.saving) = (Some(all), false);
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Setting, Settings, Value};
    use std::time::{Duration, SystemTime};

    fn at(instant: Instant) -> Now {
        Now { instant, wall: SystemTime::UNIX_EPOCH }
    }

    fn caller(seat: usize) -> Caller {
        Caller { ticket: Ticket { seat, guest: 1 }, camera: 0, back: None }
    }

    fn set(value: i64) -> Kept {
        let setting = Setting { name: String::new(), value: Value::Number(value) };
        let mut kept = Kept::default();
        kept.put("Rig", Settings::from([(1, setting)]));
        kept
    }

    #[test]
    fn a_request_waits_for_a_while_and_not_more_than_some_do() {
        let (start, camera) = (Instant::now(), FrameSlot::new().unwrap());
        let mut controls = Controls::new(false, at(start));
        for seat in 0..ORDERS_MAX {
            assert!(controls.order(caller(seat), Deed::List, &camera, at(start)));
        }
        assert!(!controls.order(caller(99), Deed::List, &camera, at(start)));
        let first = camera.take_order(start).unwrap();
        assert!(!controls.order(caller(99), Deed::List, &camera, at(start)), "it is not answered");
        assert_eq!(controls.take(first.number), Some(caller(0)));
        assert_eq!(controls.take(first.number), None);
        assert!(controls.order(caller(99), Deed::List, &camera, at(start)));
        let end = start + ORDER_TIME_MAX;
        assert_eq!(controls.deadline(), Some(end));
        assert!(controls.take_expired(end - Duration::from_millis(1)).is_empty());
        assert_eq!(controls.take_expired(end).len(), ORDERS_MAX);
        assert_eq!(controls.deadline(), None);
        assert!(camera.take_order(end).is_none(), "what nobody waits for is not done");
    }

    #[test]
    fn settings_are_written_together_and_again_after_trouble() {
        let start = Instant::now();
        let mut controls = Controls::new(true, at(start));
        assert_eq!(controls.take_due(start, false), None);
        controls.note(set(1));
        assert_eq!(controls.take_due(start, false), Some(set(1)));
        for value in 2..50 {
            controls.note(set(value));
            assert_eq!(controls.take_due(start + SETTINGS_PERIOD, false), None, "the disk is busy");
        }
        controls.saved(Ok(()), start);
        assert_eq!(controls.take_due(start, false), None, "too soon");
        assert_eq!(controls.deadline(), Some(start + SETTINGS_PERIOD));
        let later = start + SETTINGS_PERIOD;
        assert_eq!(controls.take_due(later, false), Some(set(49)));
        controls.saved(Err("full".to_owned()), later);
        assert_eq!(controls.trouble(), Some("full"));
        assert_eq!(controls.take_due(later + SETTINGS_PERIOD, false), None);
        let retry = later + SETTINGS_RETRY;
        assert_eq!(controls.take_due(retry, false), Some(Kept::default()));
        controls.postpone(Kept::default());
        assert_eq!(controls.take_due(retry + SETTINGS_PERIOD, false), Some(Kept::default()));
        controls.saved(Ok(()), retry);
        assert_eq!((controls.trouble(), controls.deadline()), (None, None));
        controls.note(set(5));
        assert_eq!(controls.take_due(start, true), Some(set(5)), "at the end, at once");

        let mut careless = Controls::new(false, at(start));
        careless.note(set(1));
        assert_eq!(careless.take_due(start, true), None);
    }
}
