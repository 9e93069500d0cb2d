//! What a viewer has been shown, and how it fared. Pure.

use std::time::{Duration, Instant};

use crate::frame::{Frame, Pace};
use crate::limits::REPEAT_FPS_MIN;

/// One viewer's stream.
#[derive(Clone, Debug)]
pub struct Viewing {
    pace: Option<Pace>,
    since: Instant,
    /// The number of the last frame it was offered.
    shown: Option<u64>,
    /// Frames that it took, …
    frames: u64,
    /// …that passed while it was busy with another or its gate was shut, …
    late: u64,
    /// …and that were more than it asked for.
    unasked: u64,
    /// When the last one that it took was captured, and the one before.
    captured: [Option<Instant>; 2],
    /// When it took that; and the time between two, smoothed, in seconds.
    took: Instant,
    interval: f32,
}

/// Frames that a viewer took, missed while it was busy, and did not ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub frames: u64,
    pub late: u64,
    pub unasked: u64,
}

/// The weight of a new interval in the smoothed one: about the last second's frames count.
const WEIGHT: f32 = 0.06;

impl Viewing {
    /// Of at most `fps` frames a second.
    pub fn new(fps: Option<f64>, now: Instant) -> Viewing {
        Viewing {
            pace: fps.map(Pace::new),
            since: now,
            shown: None,
            frames: 0,
            late: 0,
            unasked: 0,
            captured: [None, None],
            took: now,
            interval: 0.0,
        }
    }

    /// Whether the frame is newer than its last.
    pub fn lacks(&self, frame: &Frame) -> bool {
        self.shown.is_none_or(|shown| frame.number > shown)
    }

    /// Whether its pace would let a frame through now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.would_allow(now))
    }

    /// It can take this frame, which it lacks: whether it wants it.
    pub fn take(&mut self, frame: &Frame, now: Instant) -> bool {
        let passed = self.shown.map_or(0, |shown| frame.number - shown - 1);
        self.late += passed;
        self.shown = Some(frame.number);
        if self.pace.as_mut().is_some_and(|pace| !pace.allows(now)) {
            self.unasked += 1;
            return false;
        }
        self.frames += 1;
        self.captured = [Some(frame.taken), self.captured[0]];
        let interval = now.saturating_duration_since(self.took).as_secs_f32();
        self.took = now;
        match self.frames {
            1 => {}
            2 => self.interval = interval,
            _ => self.interval += WEIGHT * (interval - self.interval),
        }
        true
    }

    /// Whether it is shown this frame, which it has, once more when nothing else comes.
    pub fn repeats(&self, frame: &Frame) -> bool {
        let slow = self.pace.as_ref().is_some_and(|pace| pace.fps() <= REPEAT_FPS_MIN);
        self.shown == Some(frame.number) && self.frames > 0 && !slow
    }

    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames that passed by while it was busy; `newest`: the number of the last there is.
    pub fn late(&self, newest: u64) -> u64 {
        self.late + self.shown.map_or(0, |shown| newest.saturating_sub(shown))
    }

    /// What counts of it when it has gone.
    pub fn totals(&self) -> Totals {
        Totals { frames: self.frames, late: self.late, unasked: self.unasked }
    }

    /// Frames that were more than it asked for.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    /// For how long it has been watching.
    pub fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Frames a second that it takes; 0 when it has not taken any for a while.
    pub fn fps(&self, now: Instant) -> f64 {
        let pause = now.saturating_duration_since(self.took).as_secs_f32();
        match self.frames {
            0 | 1 => 0.0,
            _ if pause > 3.0 * self.interval.max(1.0) => 0.0,
            _ => f64::from(1.0 / self.interval.max(1e-3)),
        }
    }

    /// How old the picture is that it sees; `arrived`: all of the last one has.
    pub fn age(&self, arrived: bool, now: Instant) -> Option<Duration> {
        let [last, before] = self.captured;
        let seen = if arrived { last } else { before };
        Some(now.saturating_duration_since(seen?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Picture, Shape};
    use std::time::SystemTime;

    fn frame(number: u64, taken: Instant) -> Frame {
        let live = Picture::Live { settled: true };
        Frame::new(number, taken, SystemTime::UNIX_EPOCH, live, Shape::default(), Vec::new(), None)
    }

    #[test]
    fn what_a_viewer_misses_is_counted_by_its_reason() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut viewing = Viewing::new(Some(10.0), start);
        // 20 frames a second, of which it is offered all but numbers 10 to 14.
        for n in (0..10).chain(15..40) {
            let frame = frame(n, at(n * 50));
            assert!(viewing.lacks(&frame));
            viewing.take(&frame, at(n * 50 + 4));
            assert!(!viewing.lacks(&frame));
        }
        assert_eq!((viewing.late(39), viewing.late(42)), (5, 8));
        assert_eq!(viewing.frames() + viewing.unasked(), 35);
        assert!((17..=19).contains(&viewing.frames()), "{}", viewing.frames());
        assert!((viewing.fps(at(2000)) - 10.0).abs() < 1.5, "{}", viewing.fps(at(2000)));
        assert_eq!(viewing.fps(at(9000)), 0.0);
    }

    #[test]
    fn the_age_is_that_of_the_last_picture_that_has_arrived() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut viewing = Viewing::new(None, start);
        assert_eq!(viewing.age(true, at(0)), None);
        viewing.take(&frame(1, at(100)), at(110));
        assert_eq!(viewing.age(false, at(120)), None);
        viewing.take(&frame(2, at(200)), at(210));
        assert_eq!(viewing.age(true, at(250)), Some(Duration::from_millis(50)));
        assert_eq!(viewing.age(false, at(250)), Some(Duration::from_millis(150)));
    }
}
