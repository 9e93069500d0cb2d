//! A picture on its way from the camera thread to everyone who wants it, and the slot where it
//! is handed over. Knows not how a frame is made or sent.
//!
//! The slot holds the newest frame only: a viewer that is late misses frames, it never queues
//! them. Demand runs the other way: how many want a frame, and so whether the camera must run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{EventfdFlags, eventfd};

use crate::limits::PACE_INTERVAL_MAX;

/// What a frame shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// A camera's view. `settled` once the exposure has had time to adapt after the start.
    Live { settled: bool },
    /// Our own picture that says why there is no view; never a snapshot or a photo.
    NoSignal { reason: Arc<str> },
}

/// One JPEG picture; immutable, shared by `Arc` among all who send or save it.
#[derive(Debug)]
pub struct Frame {
    /// Counts up by one for each frame of a camera, across reconnects.
    pub number: u64,
    /// When the picture was captured, by the wall clock.
    pub captured: SystemTime,
    pub picture: Picture,
    /// A whole JPEG, SOI to EOI.
    jpeg: Vec<u8>,
    /// Where the buffer goes when the last holder is done.
    pool: Option<SyncSender<Vec<u8>>>,
}

impl Frame {
    pub fn new(
        number: u64,
        captured: SystemTime,
        picture: Picture,
        jpeg: Vec<u8>,
        pool: Option<SyncSender<Vec<u8>>>,
    ) -> Frame {
        Frame { number, captured, picture, jpeg, pool }
    }

    pub fn jpeg(&self) -> &[u8] {
        &self.jpeg
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            // A full pool or one whose camera has stopped: the buffer is freed instead.
            let _ = pool.try_send(std::mem::take(&mut self.jpeg));
        }
    }
}

/// Frames that came from the device and were not shown, by reason.
#[derive(Debug, Default)]
pub struct Drops {
    /// The driver flagged the buffer as damaged.
    pub flagged: AtomicU64,
    /// The buffer held no bytes.
    pub empty: AtomicU64,
    /// Not a whole JPEG, or a raw frame too short for its size.
    pub broken: AtomicU64,
    /// Older than another frame already waiting, or above the rate asked for.
    pub skipped: AtomicU64,
}

/// The meeting point of one camera thread and the loop.
#[derive(Debug)]
pub struct FrameSlot {
    newest: Mutex<Option<Arc<Frame>>>,
    demand: AtomicU32,
    stopping: AtomicBool,
    /// Readable when demand rose from nothing or the end has come.
    nudge: OwnedFd,
    pub drops: Drops,
}

impl FrameSlot {
    pub fn new() -> io::Result<FrameSlot> {
        Ok(FrameSlot {
            newest: Mutex::new(None),
            demand: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            drops: Drops::default(),
        })
    }

    // ---- the camera's side ----

    /// Put `frame` in place of the newest one. The caller wakes the loop.
    pub fn publish(&self, frame: Frame) {
        let old = self.lock().replace(Arc::new(frame));
        drop(old); // outside the lock: it may be the last holder of a large buffer
    }

    /// Forget the newest frame: a stopped camera's last picture is not live.
    pub fn clear(&self) {
        let old = self.lock().take();
        drop(old);
    }

    /// How many want frames now.
    pub fn demand(&self) -> u32 {
        self.demand.load(Ordering::Acquire)
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Becomes readable when the camera thread should look at `demand` and `stopping` again.
    pub fn nudge(&self) -> BorrowedFd<'_> {
        self.nudge.as_fd()
    }

    pub fn clear_nudge(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.nudge, &mut count); // EAGAIN: was clear
    }

    // ---- the loop's side ----

    pub fn newest(&self) -> Option<Arc<Frame>> {
        self.lock().clone()
    }

    /// Want frames for as long as the returned guard lives.
    pub fn watch(self: &Arc<FrameSlot>) -> Watch {
        if self.demand.fetch_add(1, Ordering::AcqRel) == 0 {
            self.prod();
        }
        Watch { slot: self.clone() }
    }

    /// Ask the camera thread to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.prod();
    }

    fn prod(&self) {
        // Fails only when the counter is full: then it is readable anyway.
        let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
    }

    /// Held for a pointer swap; nothing in it can panic.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Frame>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that wants frames: a viewer or a waiting snapshot. Dropping it ends the wish.
#[derive(Debug)]
pub struct Watch {
    slot: Arc<FrameSlot>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // To nothing: the camera must start to count its idle time.
        if self.slot.demand.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.slot.prod();
        }
    }
}

/// Lets at most so many frames a second through; what it holds back is skipped, not delayed.
#[derive(Clone, Debug)]
pub struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// `fps` above zero.
    pub fn new(fps: f64) -> Pace {
        let interval = Duration::try_from_secs_f64(1.0 / fps).unwrap_or(PACE_INTERVAL_MAX);
        Pace { interval: interval.min(PACE_INTERVAL_MAX), due: None }
    }

    pub fn fps(&self) -> f64 {
        1.0 / self.interval.as_secs_f64()
    }

    /// Whether the frame that is there at `at` may pass. A frame that is a little early passes,
    /// and the times that are due keep their distance: at the camera's own rate, none is lost
    /// to jitter.
    pub fn allows(&mut self, at: Instant) -> bool {
        if self.due.is_some_and(|due| at + self.interval / 4 < due) {
            return false;
        }
        let next = self.due.unwrap_or(at) + self.interval;
        self.due = Some(next.max(at + self.interval / 2)); // after a pause, no catching up
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn frame(number: u64, pool: Option<SyncSender<Vec<u8>>>) -> Frame {
        let live = Picture::Live { settled: true };
        Frame::new(number, SystemTime::UNIX_EPOCH, live, vec![7; 10], pool)
    }

    #[test]
    fn the_slot_holds_the_newest_frame_only() {
        let slot = FrameSlot::new().unwrap();
        slot.publish(frame(1, None));
        slot.publish(frame(2, None));
        assert_eq!(slot.newest().unwrap().number, 2);
        slot.clear();
        assert!(slot.newest().is_none());
    }

    #[test]
    fn a_buffer_returns_to_its_pool_when_the_last_holder_lets_go() {
        let (pool, buffers) = sync_channel(1);
        let slot = FrameSlot::new().unwrap();
        slot.publish(frame(1, Some(pool.clone())));
        let held = slot.newest();
        slot.publish(frame(2, None));
        assert!(buffers.try_recv().is_err(), "still held");
        drop(held);
        assert_eq!(buffers.try_recv().unwrap(), vec![7; 10]);
        drop(frame(3, Some(pool.clone())));
        drop(frame(4, Some(pool))); // full: freed, nothing blocks
        assert_eq!(buffers.try_iter().count(), 1);
    }

    #[test]
    fn a_pace_holds_its_rate_over_time() {
        let start = Instant::now();
        let passed = |fps: f64, camera: u32| {
            let mut pace = Pace::new(fps);
            let jitter = |n: u32| Duration::from_micros(u64::from(n * 7919 % 4000));
            let frames =
                (0..camera * 20).map(|n| start + Duration::from_secs(1) * n / camera + jitter(n));
            frames.filter(|at| pace.allows(*at)).count() as f64 / 20.0
        };
        for (fps, camera) in [(30.0, 30), (25.0, 30), (20.0, 30), (10.0, 30), (1.0, 30), (0.5, 7)] {
            let passed = passed(fps, camera);
            assert!((fps * 0.97 - 0.05..=fps + 0.06).contains(&passed), "{fps}: {passed}");
        }
        assert_eq!(passed(60.0, 30), 30.0);
        for tiny in [1e-300, 1e-19, 5.421010862427523e-20, 1e-9] {
            let mut pace = Pace::new(tiny);
            let frames = (0..100).filter(|n| pace.allows(start + Duration::from_secs(*n)));
            assert_eq!(frames.count(), 1, "{tiny} a second");
        }
    }

    #[test]
    fn demand_counts_the_watches_and_nudges_at_both_ends() {
        let readable = |slot: &FrameSlot| {
            let mut count = [0; 8];
            rustix::io::read(slot.nudge(), &mut count).is_ok()
        };
        let slot = Arc::new(FrameSlot::new().unwrap());
        assert!(!readable(&slot));
        let first = slot.watch();
        assert!(readable(&slot));
        let second = slot.watch();
        assert!(!readable(&slot), "it runs already");
        assert_eq!(slot.demand(), 2);
        drop(first);
        assert!(!readable(&slot), "one still wants frames");
        drop(second);
        assert_eq!(slot.demand(), 0);
        assert!(readable(&slot));
    }
}
