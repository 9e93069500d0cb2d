//! Photos of one camera that wait for their frame.
//!
//! A wait belongs to the house, not to the guest who pressed: if he leaves, the photo is saved all
//! the same.

use std::time::Instant;

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

#[derive(Debug, Default)]
pub struct Shutter {
    /// INVARIANT: at most `PHOTO_WAITS_MAX`, and one of them the clock's.
    waits: Vec<Wait>,
}

impl Shutter {
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

    /// When the first of them has waited in vain.
    pub fn deadline(&self) -> Option<Instant> {
        self.waits.iter().map(|wait| wait.until).min()
    }

    /// Whether the clock's photo waits.
    pub fn awaits_clock(&self) -> bool {
        self.waits.iter().any(|wait| wait.asker == Asker::Clock)
    }

    /// The clock wants no photo any more.
    pub fn forget_clock(&mut self) {
        self.waits.retain(|wait| wait.asker != Asker::Clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameSlot, Shape};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn at(instant: Instant) -> Now {
        Now { instant, wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_photo_is_never_from_before_the_press_nor_dark() {
        let slot = Arc::new(FrameSlot::new().unwrap());
        let start = Instant::now();
        let frame = |taken, picture| {
            Frame::new(1, taken, SystemTime::now(), picture, Shape::default(), vec![], None)
        };
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
