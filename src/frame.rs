//! A picture on its way from the camera thread to everyone who wants it, and the slot where it
//! is handed over. Knows not how a frame is made or sent.
//!
//! The slot holds the newest frame only: a viewer that is late misses frames, it never queues
//! them. Demand runs the other way: how many want a frame, and so whether the camera must run.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::control::{Kept, Order, Settings, Told};
use crate::limits::{METER_TIME, METERED_FRAMES, ORDERS_MAX, PACE_INTERVAL_MAX};

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
    /// When the picture was captured, by the clock that never jumps.
    pub taken: Instant,
    /// The same by the wall clock.
    pub captured: SystemTime,
    pub picture: Picture,
    pub shown: Shape,
    /// A whole JPEG, SOI to EOI. Bound: `FRAME_BYTES_MAX`, or `PIXELS_MAX`, encoded.
    jpeg: Vec<u8>,
    /// Where the buffer goes when the last holder is done. Bound: `POOL_MAX`.
    pool: Option<SyncSender<Vec<u8>>>,
}

/// What a picture is shown as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// What is stored is turned for that.
    pub turned: bool,
}

impl Frame {
    pub fn new(
        number: u64,
        taken: Instant,
        captured: SystemTime,
        picture: Picture,
        shown: Shape,
        jpeg: Vec<u8>,
        pool: Option<SyncSender<Vec<u8>>>,
    ) -> Frame {
        Frame { number, taken, captured, picture, shown, jpeg, pool }
    }

    pub fn jpeg(&self) -> &[u8] {
        &self.jpeg
    }

    /// The same frame in another JPEG.
    pub fn with(&self, shown: Shape, jpeg: Vec<u8>) -> Frame {
        Frame::new(self.number, self.taken, self.captured, self.picture.clone(), shown, jpeg, None)
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

/// What a camera is, and how it is doing. Bound: the kernel's names and sentences of the code's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CameraState {
    /// Node, name and driver of the device; none before one was used.
    pub device: Option<String>,
    /// The kernel's driver of it.
    pub driver: Option<String>,
    /// Pixel format, by its V4L2 name.
    pub format: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second that the device says it gives.
    pub fps: Option<f64>,
    /// It gives frames now, or would if somebody watched.
    pub online: bool,
    /// The test picture stands in for it.
    pub test: bool,
    /// Why it is not online.
    pub reason: Option<String>,
}

/// What became of a photo in a size of its own.
#[derive(Clone, Debug)]
pub enum Still {
    Taken(Arc<Frame>),
    /// The stream's frames are what there is: the size is the same, or the camera failed to
    /// give the other, with the reason in the log.
    LikeStream,
}

/// The meeting point of one camera thread and the loop.
#[derive(Debug)]
pub struct FrameSlot {
    newest: Mutex<Option<Arc<Frame>>>,
    state: Mutex<CameraState>,
    still: Mutex<Option<Still>>,
    still_wanted: AtomicBool,
    /// What is wanted of the controls, the oldest first, …
    /// INVARIANT: at most `ORDERS_MAX`.
    orders: Mutex<VecDeque<Order>>,
    /// …and what became of it.
    /// INVARIANT: at most `ORDERS_MAX`: an order is given when another was answered.
    told: Mutex<VecDeque<(u64, Told)>>,
    /// What was set lately, of each camera the newest.
    kept: Mutex<Kept>,
    demand: AtomicU32,
    stopping: AtomicBool,
    program: AtomicBool,
    /// Readable when demand rose from nothing, something is wanted, or the end has come.
    nudge: OwnedFd,
    pub drops: Drops,
}

impl FrameSlot {
    pub fn new() -> io::Result<FrameSlot> {
        Ok(FrameSlot {
            newest: Mutex::new(None),
            state: Mutex::default(),
            still: Mutex::new(None),
            still_wanted: AtomicBool::new(false),
            orders: Mutex::default(),
            told: Mutex::default(),
            kept: Mutex::default(),
            demand: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            program: AtomicBool::new(false),
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            drops: Drops::default(),
        })
    }

    // ---- the camera's side ----

    /// Put `frame` in place of the newest one. The caller wakes the loop.
    pub fn publish(&self, frame: Frame) {
        let old = lock(&self.newest).replace(Arc::new(frame));
        drop(old); // outside the lock: it may be the last holder of a large buffer
    }

    /// Forget the newest frame: a stopped camera's last picture is not live.
    pub fn clear(&self) {
        let old = lock(&self.newest).take();
        drop(old);
    }

    /// Whether a photo in a size of its own is wanted; told once a wish.
    pub fn take_still_wish(&self) -> bool {
        self.still_wanted.swap(false, Ordering::AcqRel)
    }

    /// Hand over a photo in a size of its own, or say that there is none. The caller wakes the
    /// loop.
    pub fn put_still(&self, still: Still) {
        let old = lock(&self.still).replace(still);
        drop(old);
    }

    /// The next thing that is wanted of the controls and that somebody still waits for. One at a
    /// time: frames come between.
    pub fn take_order(&self, now: Instant) -> Option<Order> {
        let mut orders = lock(&self.orders);
        let order = loop {
            let next = orders.pop_front()?;
            if next.until > now {
                break next;
            }
        };
        if !orders.is_empty() {
            self.prod(); // come back for the others
        }
        Some(order)
    }

    /// Say what became of an order. The caller wakes the loop.
    pub fn tell(&self, number: u64, told: Told) {
        lock(&self.told).push_back((number, told));
    }

    /// Say what is set of a camera now.
    pub fn keep(&self, camera: &str, settings: Settings) {
        lock(&self.kept).put(camera, settings);
    }

    /// Say how the camera is doing.
    pub fn report(&self, change: impl FnOnce(&mut CameraState)) {
        change(&mut lock(&self.state));
    }

    /// How many want frames now.
    pub fn demand(&self) -> u32 {
        self.demand.load(Ordering::Acquire)
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Say whether a program runs that gives the frames. Who has said so and is not `stopping`
    /// may start it: the loop sees it before it ends the house.
    pub fn set_program(&self, runs: bool) {
        self.program.store(runs, Ordering::SeqCst);
    }

    /// Becomes readable when the camera thread should look at `demand`, the wishes and `stopping`
    /// again.
    pub fn nudge(&self) -> BorrowedFd<'_> {
        self.nudge.as_fd()
    }

    pub fn clear_nudge(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.nudge, &mut count); // EAGAIN: was clear
    }

    // ---- the loop's side ----

    pub fn newest(&self) -> Option<Arc<Frame>> {
        lock(&self.newest).clone()
    }

    /// Want a photo in a size of its own.
    pub fn want_still(&self) {
        self.still_wanted.store(true, Ordering::Release);
        self.prod();
    }

    pub fn take_still(&self) -> Option<Still> {
        lock(&self.still).take()
    }

    /// Want something of the controls; false if too much is wanted already.
    pub fn order(&self, order: Order) -> bool {
        let mut orders = lock(&self.orders);
        let room = orders.len() < ORDERS_MAX;
        if room {
            orders.push_back(order);
            self.prod();
        }
        room
    }

    /// What became of an order, and its number.
    pub fn take_told(&self) -> Option<(u64, Told)> {
        lock(&self.told).pop_front()
    }

    /// What was set since this was asked last.
    pub fn take_kept(&self) -> Kept {
        std::mem::take(&mut lock(&self.kept))
    }

    pub fn state(&self) -> CameraState {
        lock(&self.state).clone()
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
        self.stopping.store(true, Ordering::SeqCst);
        self.prod();
    }

    /// Whether a program is still to be ended; the loop is woken when it is not.
    pub fn runs_program(&self) -> bool {
        self.program.load(Ordering::SeqCst)
    }

    fn prod(&self) {
        // Fails only when the counter is full: then it is readable anyway.
        let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
    }
}

/// Held for a pointer swap or a few words; nothing meanwhile can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// When a frame that was held back has waited in vain for a newer one in its place.
    pub fn overdue(&self) -> Option<Instant> {
        self.due.map(|due| due + self.interval)
    }

    /// Whether a frame that is there at `at` would pass.
    pub fn would_allow(&self, at: Instant) -> bool {
        self.due.is_none_or(|due| at + self.interval / 4 >= due)
    }

    /// Whether the frame that is there at `at` may pass. A frame that is a little early passes,
    /// and the times that are due keep their distance: at the camera's own rate, none is lost
    /// to jitter.
    pub fn allows(&mut self, at: Instant) -> bool {
        if !self.would_allow(at) {
            return false;
        }
        let next = self.due.unwrap_or(at) + self.interval;
        self.due = Some(next.max(at + self.interval / 2)); // after a pause, no catching up
        true
    }
}

/// Measures how many frames a second there are.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the last ones came, the newest last; at most `METERED_FRAMES`.
    times: VecDeque<Instant>,
}

impl Meter {
    pub fn count(&mut self, now: Instant) {
        if self.times.back().is_some_and(|last| now - *last > METER_TIME) {
            self.times.clear(); // a pause is not a rate
        }
        if self.times.len() == METERED_FRAMES {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }

    /// Frames a second; none if there are none now.
    pub fn fps(&self, now: Instant) -> Option<f64> {
        let (first, last) = (self.times.front()?, self.times.back()?);
        let span = (*last - *first).as_secs_f64();
        let runs = now.duration_since(*last) <= METER_TIME && span > 0.0;
        runs.then(|| (self.times.len() - 1) as f64 / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Deed, Refusal};
    use std::sync::mpsc::sync_channel;

    fn frame(number: u64, pool: Option<SyncSender<Vec<u8>>>) -> Frame {
        let live = Picture::Live { settled: true };
        let (now, epoch) = (Instant::now(), SystemTime::UNIX_EPOCH);
        Frame::new(number, now, epoch, live, Shape::default(), vec![7; 10], pool)
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
    fn the_meter_measures_what_runs_now() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::default();
        assert_eq!(meter.fps(at(0)), None);
        (0..100).for_each(|n| meter.count(at(n * 40)));
        assert!((meter.fps(at(4000)).unwrap() - 25.0).abs() < 0.01);
        assert_eq!(meter.fps(at(9000)), None, "it stands still");
        (0..3).for_each(|n| meter.count(at(10_000 + n * 500)));
        assert!((meter.fps(at(11_000)).unwrap() - 2.0).abs() < 0.01, "the pause does not count");
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
    fn orders_wait_for_the_camera_and_not_for_ever() {
        let slot = FrameSlot::new().unwrap();
        let now = Instant::now();
        let order = |number, until| Order { number, deed: Deed::List, until };
        let later = now + Duration::from_secs(1);
        assert!(slot.order(order(1, now)), "nobody waits for it any more");
        for number in 2..=ORDERS_MAX as u64 {
            assert!(slot.order(order(number, later)));
        }
        assert!(!slot.order(order(99, later)), "no more than that");
        slot.clear_nudge();
        let readable = || rustix::io::read(slot.nudge(), &mut [0; 8]).is_ok();
        assert_eq!(slot.take_order(now).map(|order| order.number), Some(2));
        assert!(readable(), "there are more");
        for number in 3..=ORDERS_MAX as u64 {
            assert_eq!(slot.take_order(now).map(|order| order.number), Some(number));
        }
        slot.clear_nudge();
        assert!(slot.take_order(now).is_none() && !readable());
        slot.tell(2, Err(Refusal::Absent(String::new())));
        assert!(matches!(slot.take_told(), Some((2, Err(Refusal::Absent(_))))));
        assert!(slot.take_told().is_none());
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
