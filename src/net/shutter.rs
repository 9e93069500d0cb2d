//! Photos that wait for their frame, and the clock that asks for more of them.
//!
//! A wait belongs to the house, not to the guest who pressed: if he leaves, the photo is saved all
//! the same. Interval photos are taken on a grid of times, so that neither a slow disk nor a
//! camera that is gone for a while makes them drift; what cannot be taken is skipped.

use std::time::{Duration, Instant, SystemTime};

use crate::disk::Ticket;
use crate::frame::{Frame, Picture, Watch};
use crate::http::Now;
use crate::limits::{PHOTO_TIME_MAX, PHOTO_WAITS_MAX, STILL_PHOTO_TIME_MAX};

/// Who asked for a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A guest, who wants to see it (`page`) or to read about it.
    Guest { ticket: Ticket, page: bool },
    /// The interval.
    Clock,
}

/// A photo that has no frame yet.
#[derive(Debug)]
struct Wait {
    asker: Asker,
    /// Its frame is captured after this.
    pressed: Instant,
    until: Instant,
    /// It wants a frame in the size of photos; none of the stream's will do.
    still: bool,
    /// The wish for frames, which starts the camera.
    _watch: Watch,
}

/// Interval photos that are being taken.
#[derive(Clone, Debug)]
pub struct Interval {
    pub every: Duration,
    /// When the next one is due, and when it is over.
    next: Instant,
    end: Option<Instant>,
    pub saved: u64,
    pub skipped: u64,
    /// Why the last one was skipped; none if it was saved.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
pub struct Shutter {
    /// INVARIANT: at most `PHOTO_WAITS_MAX`, and one of them the clock's.
    waits: Vec<Wait>,
    interval: Option<Interval>,
}

impl Shutter {
    /// With interval photos from the start on, if `every` is given.
    pub fn new(every: Option<Duration>, now: Now) -> Shutter {
        let mut shutter = Shutter::default();
        if let Some(every) = every {
            shutter.start(every, None, now);
        }
        shutter
    }

    /// Wait for a frame, `still` for one in the size of photos; false if too many wait.
    pub fn press(&mut self, asker: Asker, watch: Watch, still: bool, now: Now) -> bool {
        let room = self.waits.len() < PHOTO_WAITS_MAX;
        if room {
            let patience = if still { STILL_PHOTO_TIME_MAX } else { PHOTO_TIME_MAX };
            let (pressed, until) = (now.instant, now.instant + patience);
            self.waits.push(Wait { asker, pressed, until, still, _watch: watch });
        }
        room
    }

    /// Those for whom `frame`, in the size of photos, is the photo.
    pub fn take_still(&mut self, frame: &Frame) -> Vec<Asker> {
        self.take_if(|wait| wait.still && frame.taken >= wait.pressed)
    }

    /// Whether somebody waits for a frame in the size of shutter.
    pub fn want_still(&self) -> bool {
        self.waits.iter().any(|wait| wait.still)
    }

    /// There are no frames in the size of photos: the stream's will do.
    pub fn give_up_stills(&mut self) {
        self.waits.iter_mut().for_each(|wait| wait.still = false);
    }

    /// Those for whom `frame` is the photo: taken after they pressed, with the exposure settled.
    /// Or, if it says that there is no picture, all.
    pub fn take(&mut self, frame: &Frame) -> Vec<Asker> {
        self.take_if(|wait| match frame.picture {
            Picture::Live { settled } => settled && !wait.still && frame.taken >= wait.pressed,
            Picture::NoSignal { .. } => true,
        })
    }

    /// Those whose time is over.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Asker> {
        self.take_if(|wait| wait.until <= now)
    }

    /// All who wait.
    pub fn take_all(&mut self) -> Vec<Asker> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, chosen: impl Fn(&Wait) -> bool) -> Vec<Asker> {
        self.waits.extract_if(.., |wait| chosen(wait)).map(|wait| wait.asker).collect()
    }

    /// When something is due that has not to do with a frame.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.waits.iter().map(|wait| wait.until);
        let interval = self.interval.iter();
        waits.chain(interval.flat_map(|i| i.end.into_iter().chain([i.next]))).min()
    }

    pub fn interval(&self) -> Option<&Interval> {
        self.interval.as_ref()
    }

    /// Take interval photos from now on, for so long or until they are stopped.
    pub fn start(&mut self, every: Duration, length: Option<Duration>, now: Now) {
        log::info!("interval photos: one every {} s", every.as_secs_f64());
        self.interval = Some(Interval {
            every,
            next: now.instant,
            end: length.map(|length| now.instant + length),
            saved: 0,
            skipped: 0,
            trouble: None,
        });
    }

    pub fn stop(&mut self) {
        self.waits.retain(|wait| wait.asker != Asker::Clock);
        if let Some(Interval { saved, skipped, .. }) = self.interval.take() {
            log::info!("interval photos: over; {saved} saved, {skipped} skipped");
        }
    }

    /// Whether an interval photo is to be taken now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = &mut self.interval else { return false };
        if interval.end.is_some_and(|end| end <= now) {
            self.stop();
            return false;
        }
        if !interval.strike(now) {
            return false;
        }
        let waits = self.waits.iter().any(|wait| wait.asker == Asker::Clock);
        if waits {
            interval.skipped += 1; // if there is trouble, the one before it will tell
        }
        !waits
    }

    /// What became of an interval photo.
    pub fn note(&mut self, outcome: Result<(), &str>) {
        let Some(interval) = &mut self.interval else { return };
        match outcome {
            Ok(()) => {
                interval.saved += 1;
                if interval.trouble.take().is_some() {
                    log::info!("interval photos: they go on; {} skipped so far", interval.skipped);
                }
            }
            Err(reason) => {
                interval.skipped += 1;
                if interval.trouble.as_deref() != Some(reason) {
                    log::warn!("interval photo skipped: {reason}");
                    interval.trouble = Some(reason.to_owned());
                }
            }
        }
    }
}

impl Interval {
    /// When it is over, by the clock on the wall as it is now.
    pub fn until(&self, now: Now) -> Option<SystemTime> {
        now.wall.checked_add(self.end?.saturating_duration_since(now.instant))
    }

    /// Whether a time of the grid has come; times that were missed are skipped.
    fn strike(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        let missed = (now - self.next).as_nanos() / self.every.as_nanos().max(1);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.skipped += u64::from(missed);
        self.next += self.every.saturating_mul(missed) + self.every;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameSlot;
    use std::sync::Arc;

    fn at(instant: Instant) -> Now {
        Now { instant, wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn interval_photos_keep_to_their_grid() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut shutter = Shutter::default();
        shutter.start(10 * second, Some(100 * second), at(start));
        // Always late, by up to nine seconds, and once by more than a whole interval.
        let looks = [0, 1, 19, 20, 21, 52, 60, 69, 70, 71, 99, 100, 101];
        let taken: Vec<u32> =
            looks.into_iter().filter(|s| shutter.is_due(start + second * *s)).collect();
        assert_eq!(taken, [0, 19, 20, 52, 60, 70, 99]);
        assert!(shutter.interval().is_none(), "it ended by itself");
    }

    #[test]
    fn what_is_missed_is_counted_and_said_once() {
        let start = Instant::now();
        let mut shutter = Shutter::default();
        shutter.start(Duration::from_secs(1), None, at(start));
        assert!(shutter.is_due(start + Duration::from_secs(5)));
        assert_eq!(shutter.interval().unwrap().skipped, 5);
        shutter.note(Err("no camera"));
        shutter.note(Err("no camera"));
        assert_eq!(shutter.interval().unwrap().trouble.as_deref(), Some("no camera"));
        shutter.note(Ok(()));
        let interval = shutter.interval().unwrap();
        assert_eq!((interval.saved, interval.skipped, &interval.trouble), (1, 7, &None));
    }

    #[test]
    fn a_photo_is_never_from_before_the_press_nor_dark() {
        let slot = Arc::new(FrameSlot::new().unwrap());
        let start = Instant::now();
        let frame =
            |taken, picture| Frame::new(1, taken, SystemTime::now(), picture, (1, 1), vec![], None);
        let live = |settled| Picture::Live { settled };
        let mut shutter = Shutter::default();
        let ticket = Ticket { seat: 0, guest: 1 };
        let asker = Asker::Guest { ticket, page: true };
        let later = start + Duration::from_secs(1);
        assert!(shutter.press(asker, slot.watch(), false, at(later)));
        assert!(shutter.take(&frame(start, live(true))).is_empty(), "before the press");
        assert!(shutter.take(&frame(later, live(false))).is_empty(), "dark");
        assert_eq!(slot.demand(), 1);
        assert_eq!(shutter.take(&frame(later, live(true))), [asker]);
        assert_eq!(slot.demand(), 0);
        assert!(shutter.press(asker, slot.watch(), true, at(later)));
        assert!(shutter.take(&frame(later, live(true))).is_empty(), "of the stream's size");
        assert!(shutter.take_still(&frame(start, live(true))).is_empty(), "before the press");
        assert!(shutter.want_still());
        assert_eq!(shutter.take_still(&frame(later, live(true))), [asker]);
        assert!(!shutter.want_still());
        assert!(shutter.press(asker, slot.watch(), true, at(later)));
        shutter.give_up_stills();
        assert_eq!(shutter.take(&frame(later, live(true))), [asker]);
        for n in 0..=PHOTO_WAITS_MAX {
            let taken = shutter.press(asker, slot.watch(), false, at(later));
            assert_eq!(taken, n < PHOTO_WAITS_MAX);
        }
        assert_eq!(shutter.take_expired(later).len(), 0);
        let reason = "gone".into();
        assert_eq!(
            shutter.take(&frame(start, Picture::NoSignal { reason })).len(),
            PHOTO_WAITS_MAX
        );
    }
}
