//! The camera thread: open, dequeue, encode if somebody watches, publish; stop when nobody does;
//! reopen with back-off. Knows nothing of HTTP.
//!
//! ```text
//!                 demand                   frames for `idle_off` without demand
//!   ┌────────┐ ───────────▶ ┌───────────┐ ─────────────────────────────────────▶ idle
//!   │  idle  │              │ capturing │ ◀──────┐
//!   └────────┘ ◀──────────  └───────────┘        │ time to try, or a device appeared
//!               no demand         │ lost    ┌─────────┐
//!                                 └───────▶ │  lost   │  NO SIGNAL once a second
//!                                           └─────────┘
//! ```
//!
//! With `--camera auto` and no camera ever seen, the test picture plays in place of `lost`.
//! The thread waits in `v4l2::wait` only; without demand it waits for demand, and for somebody who
//! wants something of the controls, and nothing else, except that standard input is read all the
//! time.

mod advice;
mod controls;
mod hotplug;
mod pattern;
pub mod pipe;
mod program;
mod v4l2;

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use mio::Waker;

use self::advice::Advice;
use self::hotplug::Hotplug;
use self::pattern::{Pattern, no_signal};
use self::program::{Program, Remarks};
use self::v4l2::{Capture, Device, Filled, Ready, Verdict, Wish, choose, largest, nearest, wait};
use crate::config::{Camera, Config, PhotoSize};
use crate::control::Kept;
use crate::error::{Error, Reason, Result};
use crate::frame::{CameraState, Frame, FrameSlot, Pace, Picture, Shape, Still};
use crate::jpeg::orient::Turn;
use crate::jpeg::{Encoder, Raw, mend, mend_whole};
use crate::limits::{
    CLOCK_STEP_MIN, DEQUEUES_MAX, FPS, FRAME_TIME_MAX, JPEG_SIZE, NO_SIGNAL_PERIOD, NODE_TIME_MAX,
    PATTERN_FPS, PATTERN_QUALITY, POOL_MAX, PROGRAM_RESTART_MAX, RAW_SIZE, REOPEN_MAX, REOPEN_MIN,
    SETTLE_TIME, STAMP_STEP_MIN, STILL_FRAMES_MIN, STILL_SETTLE_TIME, STILL_TIME_MAX, SWAP_TIME,
    TEARDOWN_TIME,
};
use crate::memory;
use crate::thread::wake;

/// Why a camera module's raw node is of no use, and what is.
const RAW_BAYER: &str = "a CSI camera module gives only raw Bayer here: use --camera \
     'exec:rpicam-vid -n -t 0 --codec mjpeg --flush -o -' (libcamera-vid on Raspberry Pi OS 11)";

/// Start a thread for each camera; it ends with `FrameSlot::stop`. `kept`: what the controls were
/// set to before.
pub fn start(config: &Config, kept: Kept, waker: &Arc<Waker>) -> Result<Vec<Arc<FrameSlot>>> {
    check_distinct(&config.cameras)?;
    for camera in &config.cameras {
        if let Camera::Device(path) = camera {
            advice::check_path(path)?;
        }
    }
    if config.cameras.contains(&Camera::StandardInput) {
        pipe::check_standard_input()?;
    }
    let several = config.cameras.len() > 1;
    let started = config.cameras.iter().zip(1..).map(|(camera, number)| {
        let slot = FrameSlot::new().map_err(|source| Error::new("start", "the camera", source))?;
        let slot = Arc::new(slot);
        let name = format!("camera-{number}");
        let number = several.then_some(number);
        let operator =
            Operator::new(config.clone(), camera.clone(), number, slot.clone(), waker.clone());
        let mut operator = Operator { kept: kept.clone(), ..operator };
        thread::Builder::new()
            .name(name)
            .spawn(move || operator.work())
            .map_err(|source| Error::new("start", "the camera thread", source))?;
        Ok(slot)
    });
    started.collect()
}

/// Refuse a device that is named twice, also by two names.
fn check_distinct(cameras: &[Camera]) -> Result<()> {
    let mut seen: Vec<(PathBuf, &Path)> = Vec::new();
    for camera in cameras {
        let Camera::Device(path) = camera else { continue };
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone()); // it may come yet
        if let Some((_, other)) = seen.iter().find(|(known, _)| *known == real) {
            let reason = match *other == path {
                true => "--camera names it twice".to_owned(),
                false => format!("it is the same camera as {}", other.display()),
            };
            return Err(Error::found("use", path.display(), reason));
        }
        seen.push((real, path));
    }
    Ok(())
}

/// What `--list-cameras` prints: each camera with driver, formats, sizes and rates.
pub fn list() -> String {
    let mut text = String::new();
    for path in v4l2::nodes() {
        // Writing to a String cannot fail.
        let _ = match Device::open(&path) {
            Err(error) => writeln!(text, "{}", Advice::on(&error)),
            Ok(device) => describe(&mut text, &device),
        };
    }
    if text.is_empty() {
        text.push_str("no camera found: there is no /dev/video*\n");
    }
    text
}

fn describe(text: &mut String, device: &Device) -> std::fmt::Result {
    match device.verdict {
        Verdict::NotACamera => return writeln!(text, "{device}: not a camera"),
        Verdict::RawBayer => return writeln!(text, "{device}: {RAW_BAYER}"),
        Verdict::Camera => writeln!(text, "{device} at {}", device.bus)?,
    }
    for format in &device.formats {
        let usable = format.is_jpeg() || format.layout().is_some();
        writeln!(text, "  {format}{}", if usable { "" } else { " (not usable here)" })?;
        for sizes in device.sizes(*format).iter().filter(|_| usable) {
            let size = match *sizes {
                v4l2::Sizes::One(width, height) => {
                    write!(text, "    {width}x{height}")?;
                    (width, height)
                }
                v4l2::Sizes::Range { min, max, step } => {
                    write!(text, "    {}x{} to {}x{}", min.0, min.1, max.0, max.1)?;
                    write!(text, " in steps of {}x{}", step.0, step.1)?;
                    max
                }
            };
            let rates = device.rates(*format, size).into_iter().map(|rate| format!("{rate:.4}"));
            let rates: Vec<String> =
                rates.map(|r| r.trim_end_matches('0').trim_end_matches('.').to_owned()).collect();
            let fps = if rates.is_empty() { String::new() } else { " fps".to_owned() };
            writeln!(text, ": {}{fps}", rates.join(", "))?;
        }
    }
    Ok(())
}

/// Where a camera was plugged in: it may come back under another number. Bound: the kernel's names,
/// 32 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    bus: String,
    card: String,
}

impl Identity {
    fn of(device: &Device) -> Identity {
        Identity { bus: device.bus.clone(), card: device.card.clone() }
    }
}

/// Why a session, or a part of it, ended.
enum End {
    /// Nobody watches any more, or the house ends.
    Idle,
    /// It is time to look for the camera again.
    Again,
    Lost(Error),
}

/// A camera that is gone, as its viewers see it.
struct Absence {
    reason: Arc<str>,
    /// NO SIGNAL, and its width and height in pixels. Bound: `PIXELS_MAX`, encoded.
    jpeg: Vec<u8>,
    size: (u32, u32),
    next_picture: Instant,
}

/// Buffers of JPEGs that come back from those who sent them. Bound: `POOL_MAX`.
pub struct Pool {
    give: SyncSender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
}

impl Default for Pool {
    fn default() -> Pool {
        let (give, take) = sync_channel(POOL_MAX);
        Pool { give, take }
    }
}

impl Pool {
    /// One to be filled, with whatever is in it.
    fn take(&self) -> Vec<u8> {
        self.take.try_recv().unwrap_or_default()
    }

    /// A full pool frees it.
    fn give(&self, buffer: Vec<u8>) {
        let _ = self.give.try_send(buffer);
    }

    fn clear(&self) {
        while self.take.try_recv().is_ok() {}
    }
}

/// The one who works the camera. Bound: sentences and names of the code's, but where it says
/// otherwise.
struct Operator {
    /// What holds for all cameras.
    config: Config,
    camera: Camera,
    /// Which of several it is, counted from 1.
    number: Option<usize>,
    /// What it is called in the log: with that number, if there is one.
    label: String,
    /// How all pictures are to be shown, but NO SIGNAL.
    turn: Turn,
    slot: Arc<FrameSlot>,
    waker: Arc<Waker>,
    pool: Pool,
    /// What somebody has set of the controls, …
    kept: Kept,
    /// …and what of it could not be set again: at most `CONTROLS_MAX`.
    unset: Vec<String>,
    /// The last frame's number.
    frames: u64,
    /// When it was captured, as its viewers are told.
    captured: SystemTime,
    /// The camera that was used last.
    known: Option<Identity>,
    /// The size of the last frames, as they are shown: NO SIGNAL has it too.
    size: Option<(u32, u32)>,
    absence: Option<Absence>,
    /// Since when it is gone, whether somebody watches or not, so that it is said once.
    lost: Option<Instant>,
    reopen_after: Duration,
    /// What was said of the nodes that could not be used, so that it is said once. Bound: a
    /// sentence each, `NODES_MAX`.
    complaint: String,
    /// What can be done about the last error.
    advice: Option<Advice>,
    /// Standard input has come to its end.
    drained: bool,
    /// When the program may be started again, and why it must be, whoever asks for it.
    not_before: Option<Instant>,
    fault: Option<String>,
    /// What the program says, over all its runs.
    remarks: Option<Remarks>,
    /// Programs that could not be ended yet: at most `STUCK_MAX`.
    stuck: Vec<Program>,
}

impl Operator {
    fn new(
        config: Config,
        camera: Camera,
        number: Option<usize>,
        slot: Arc<FrameSlot>,
        waker: Arc<Waker>,
    ) -> Operator {
        Operator {
            turn: Turn::new((config.rotate / 90) as u8, config.mirror),
            config,
            camera,
            number,
            label: number.map_or("camera".to_owned(), |number| format!("camera {number}")),
            slot,
            waker,
            pool: Pool::default(),
            kept: Kept::default(),
            unset: Vec::new(),
            frames: 0,
            captured: SystemTime::UNIX_EPOCH,
            known: None,
            size: None,
            absence: None,
            lost: None,
            reopen_after: REOPEN_MIN,
            complaint: String::new(),
            advice: None,
            drained: false,
            not_before: None,
            fault: None,
            remarks: None,
            stuck: Vec::new(),
        }
    }

    /// What belongs to this camera, told apart from the same of another one.
    fn own(&self, name: &str) -> String {
        match self.number {
            None => name.to_owned(),
            Some(_) => format!("{}: {name}", self.label),
        }
    }

    /// Until the house ends.
    fn work(&mut self) {
        let slot = self.slot.clone();
        let mut announced = false;
        let label = self.label.clone();
        restart_on_panic(
            &label,
            || slot.stopping(),
            |after_panic| {
                if !std::mem::replace(&mut announced, true) {
                    self.announce();
                }
                if after_panic {
                    self.has_no_program(); // it went down with the stack
                    let reason = "a fault of ours; the log says more".to_owned();
                    self.mourn(&Error::found("work", "the camera", reason), None);
                }
                while self.wait_for_demand() {
                    self.session();
                }
            },
        );
    }

    /// Say what is there, before anybody watches.
    fn announce(&mut self) {
        if !self.turn.is_none() {
            log::info!(
                "{}: turned by EXIF data; programs that ignore it can use ?bake=1",
                self.label
            );
        }
        if self.camera == Camera::Test {
            self.slot.report(|state| (state.online, state.test) = (true, true));
            return log::info!("{}: the test picture", self.label);
        }
        if self.camera.is_sequence() {
            let name = pipe::device(&self.camera);
            log::info!("{}: {name}", self.label);
            return self.slot.report(|s| (s.online, s.device) = (true, Some(name)));
        }
        match self.find() {
            Ok(device) => {
                let name = device.to_string();
                log::info!("{}: {name}, taken up when somebody watches", self.label);
                self.slot.report(|state| (state.online, state.device) = (true, Some(name)));
            }
            Err(error) if self.camera == Camera::Auto => {
                let level = if is_denial(error.source()) { Level::Warn } else { Level::Info };
                let (label, reason) = (self.label.clone(), self.explain(&error));
                log::log!(level, "{label}: {reason}; the test picture is shown until there is one");
                self.slot.report(|state| (state.online, state.test) = (true, true));
            }
            Err(error) => {
                let reason = self.explain(&error);
                log::warn!("{}: {reason}", self.label);
                self.slot.report(|state| state.reason = Some(reason));
            }
        }
    }

    /// False when the house ends.
    fn wait_for_demand(&mut self) -> bool {
        // Most of what ran was for the start, or for a session that is over.
        memory::unmap_code();
        memory::trim();
        loop {
            self.slot.clear_nudge();
            if self.slot.stopping() {
                return false;
            }
            if self.slot.demand() > 0 || self.drains() {
                return true;
            }
            self.obey_idle();
            if let Err(source) = wait([Some(self.slot.nudge())], None) {
                log::error!("{}", Error::new("wait for", "demand", source));
                thread::sleep(REOPEN_MAX);
            }
        }
    }

    /// From the first viewer until nobody has watched for `idle_off`.
    fn session(&mut self) {
        // From before the first search on, so that no camera slips in between.
        let watch = || Hotplug::new().inspect_err(|e| log::warn!("watch /dev: {}", Reason(e)));
        let hotplug = (!self.camera.is_sequence()).then(watch).and_then(|made| made.ok());
        loop {
            match self.show(hotplug.as_ref()) {
                End::Again => {}
                End::Lost(error) if self.mourn(&error, hotplug.as_ref()) => {}
                End::Lost(_) | End::Idle => break,
            }
        }
        self.slot.clear();
        (self.absence, self.advice) = (None, None);
        self.reset_pause();
        self.pool.clear(); // an idle house keeps no buffers
    }

    /// Show what there is to be seen until that changes.
    fn show(&mut self, hotplug: Option<&Hotplug>) -> End {
        if self.camera == Camera::Test {
            return self.play(hotplug, &self.own("--camera test"));
        }
        if self.camera.is_sequence() {
            return self.read_sequence();
        }
        match self.find() {
            Ok(device) => {
                let held = device.hold();
                let end = self.capture(device);
                self.let_go(held, &end);
                end
            }
            Err(error) if self.camera == Camera::Auto && self.known.is_none() => {
                self.play(hotplug, &error.to_string())
            }
            Err(error) => End::Lost(error),
        }
    }
}

/// Do `work` until it is `done`; it is told whether the try before it panicked. A panic ends one
/// try, not the camera: a fault in what handles one camera's data must not take the site away.
fn restart_on_panic(label: &str, done: impl Fn() -> bool, mut work: impl FnMut(bool)) {
    let mut after_panic = false;
    while !done() {
        after_panic = catch_unwind(AssertUnwindSafe(|| work(after_panic))).is_err();
        if after_panic {
            log::error!("{label}: a fault of ours; it is started again");
        }
    }
}

// ---- finding --------------------------------------------------------------------------------

impl Operator {
    /// The camera to use: the one known, wherever it is plugged in now, else as configured.
    fn find(&mut self) -> Result<Device> {
        if let Camera::Device(path) = &self.camera {
            let named = Device::open(path).and_then(|device| self.usable(device));
            let is_known = |device: &Device| self.known.as_ref() == Some(&Identity::of(device));
            if self.known.is_none() || named.as_ref().is_ok_and(is_known) {
                return named;
            }
            // It may have come back under another number, and its old one may be another's.
            let open = |path: &PathBuf| {
                let opened = Device::open(path);
                opened.inspect_err(|error| log::debug!("{}: {error}", self.label)).ok()
            };
            let moved = v4l2::nodes()
                .iter()
                .filter_map(open)
                .find(|device| device.verdict == Verdict::Camera && is_known(device));
            return moved.map_or(named, Ok);
        }
        let mut found: Vec<Device> = Vec::new();
        let mut complaints: Vec<Error> = Vec::new();
        for path in v4l2::nodes() {
            match Device::open(&path).map(|device| (device.verdict, self.usable(device))) {
                Ok((_, Ok(device))) => found.push(device),
                Ok((Verdict::NotACamera, _)) => {}
                Ok((_, Err(error))) => complaints.push(error),
                Err(error) if is_absence(error.source()) => {}
                Err(error) => complaints.push(error),
            }
        }
        self.complain(&complaints);
        if let Some(at) = found.iter().position(|d| self.known.as_ref() == Some(&Identity::of(d))) {
            return Ok(found.swap_remove(at));
        }
        // A camera that is gone for a moment comes back; another one is not its view.
        let waits = self.lost.is_some_and(|since| since.elapsed() < SWAP_TIME);
        if !found.is_empty() && waits && self.known.is_some() {
            return Err(Error::found("find", "the camera", "it is unplugged".to_owned()));
        }
        if !found.is_empty() {
            return Ok(found.swap_remove(0));
        }
        let none = || Error::found("find", "a camera", "none is plugged in".to_owned());
        Err(complaints.into_iter().next().unwrap_or_else(none))
    }

    /// Say once what is wrong with nodes that could be cameras.
    fn complain(&mut self, complaints: &[Error]) {
        let text: Vec<String> = complaints.iter().map(Error::to_string).collect();
        let text = text.join("; ");
        if !text.is_empty() && text != self.complaint {
            log::debug!("{}: {text}", self.label);
        }
        self.complaint = text;
    }

    /// Refuse a node that can show us nothing, with the reason.
    fn usable(&self, device: Device) -> Result<Device> {
        let reason = match device.verdict {
            Verdict::Camera if choose(&device.formats, self.config.format.0).is_some() => {
                return Ok(device);
            }
            Verdict::Camera => {
                let has: Vec<String> = device.formats.iter().map(|f| f.to_string()).collect();
                let asked = self.config.format.0.map(|code| v4l2::Fourcc(code).to_string());
                let lack = asked.map_or("no format that can be used here".to_owned(), |asked| {
                    format!("no {asked}, which was asked for")
                });
                format!("it has {lack}, only {}", has.join(", "))
            }
            Verdict::RawBayer => RAW_BAYER.to_owned(),
            Verdict::NotACamera => {
                let reason = "it is no camera (metadata, an encoder or an output)";
                let source = io::Error::new(io::ErrorKind::Unsupported, reason);
                return Err(Error::new("use", device.path.display(), source));
            }
        };
        Err(Error::found("use", device.path.display(), reason))
    }

    /// What to ask of it for a photo, if photos are to have another size than the stream.
    fn photo_wish(&self, device: &Device, stream: Wish) -> Option<Wish> {
        let sizes = device.sizes(stream.format);
        let size = match self.config.photo_size? {
            PhotoSize::Max => largest(&sizes)?,
            PhotoSize::Of(width, height) => nearest(&sizes, (width, height))?,
        };
        (size != stream.size).then_some(Wish { size, ..stream })
    }

    /// What to ask of a device that is usable.
    fn wish(&self, device: &Device) -> Option<Wish> {
        let format = choose(&device.formats, self.config.format.0)?;
        let wanted =
            self.config.size.unwrap_or(if format.is_jpeg() { JPEG_SIZE } else { RAW_SIZE });
        let size = nearest(&device.sizes(format), wanted).unwrap_or(wanted);
        Some(Wish { format, size, fps: self.config.fps.unwrap_or(FPS) })
    }
}

/// The node went away while we looked.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO))
}

fn is_denial(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

// ---- capturing ------------------------------------------------------------------------------

/// One run of a device, from STREAMON on.
struct Run {
    capture: Capture,
    /// None where the device gives JPEG.
    encoder: Option<Encoder>,
    pace: Option<Pace>,
    /// What was asked of it, and what is asked of it for a photo if that is something else.
    wish: Wish,
    photo: Option<Wish>,
    started: Instant,
    /// When the last whole frame came; at first, the start.
    last_frame: Instant,
    shown: u64,
}

impl Run {
    /// What the device has filled, if it has.
    fn next(&mut self, ready: Ready) -> Result<Option<Filled>> {
        match self.capture.dequeue()? {
            // An error state that no read reports would make us spin.
            None if ready.failed => {
                Err(Error::found("read from", "the camera", "the driver failed".into()))
            }
            filled => Ok(filled),
        }
    }
}

impl Operator {
    fn capture(&mut self, device: Device) -> End {
        let mut run = match self.begin(device) {
            Ok(run) => run,
            Err(error) => return End::Lost(error),
        };
        let mut idle_since = None;
        let end = loop {
            let idle_end = idle_since.map(|since: Instant| since + self.config.idle_off);
            let idle_end = idle_end.filter(|_| !self.config.idle_off.is_zero());
            let picture = self.absence.as_ref().filter(|_| idle_since.is_none());
            let picture = picture.map(|absence| absence.next_picture);
            let until = [Some(run.last_frame + FRAME_TIME_MAX), idle_end, picture];
            let woken = wait(
                [Some(self.slot.nudge()), Some(run.capture.fd())],
                until.into_iter().flatten().min(),
            );
            let [nudge, device] = match woken {
                Ok(ready) => ready,
                Err(source) => break End::Lost(Error::new("wait for", "the camera", source)),
            };
            let now = Instant::now();
            if nudge.readable {
                self.slot.clear_nudge();
            }
            let Some(wanted) = self.attend(&mut idle_since, idle_end, now) else {
                break End::Idle;
            };
            if let Err(error) = self.take(&mut run, device, wanted, now) {
                break End::Lost(error);
            }
            if self.slot.take_still_wish()
                && let Err(error) = self.photograph(&mut run)
            {
                break End::Lost(error);
            }
            self.obey_streaming(&mut run);
            if now >= run.last_frame + FRAME_TIME_MAX {
                let reason = format!("no whole frame for {} s", FRAME_TIME_MAX.as_secs());
                break End::Lost(Error::found("read from", "the camera", reason));
            }
            if wanted {
                self.show_absence(now);
            }
        };
        let drops = &self.slot.drops;
        let count = |drops: &AtomicU64| drops.load(Ordering::Relaxed);
        log::log!(
            self.level(),
            "{}: stopped after {} frames; dropped since the start: {} damaged, {} empty, \
             {} broken, {} skipped",
            self.label,
            run.shown,
            count(&drops.flagged),
            count(&drops.empty),
            count(&drops.broken),
            count(&drops.skipped),
        );
        end
    }

    /// Close a device after its run; one that was unplugged, only when its driver has taken it
    /// apart, unless the house ends.
    fn let_go(&self, held: io::Result<OwnedFd>, end: &End) {
        let unplugged = matches!(end, End::Lost(error) if is_absence(error.source()));
        let until = Instant::now() + TEARDOWN_TIME;
        while unplugged && !self.slot.stopping() && Instant::now() < until {
            if wait([Some(self.slot.nudge())], Some(until)).is_err() {
                break;
            }
            self.slot.clear_nudge(); // all that it can mean is looked at next
        }
        drop(held);
    }

    /// Whether somebody watches; none if nobody has for long enough, or the house ends.
    fn attend(
        &self,
        idle_since: &mut Option<Instant>,
        idle_end: Option<Instant>,
        now: Instant,
    ) -> Option<bool> {
        let wanted = self.slot.demand() > 0;
        if self.slot.stopping() || (!wanted && idle_end.is_some_and(|end| now >= end)) {
            return None;
        }
        if wanted {
            *idle_since = None;
        } else if idle_since.is_none() {
            *idle_since = Some(now);
            self.slot.clear(); // its frames are not published from here on
        }
        Some(wanted)
    }

    /// Start to stream from `device` and say how.
    fn begin(&mut self, device: Device) -> Result<Run> {
        let (name, driver) = (device.to_string(), device.driver.clone());
        let Some(wish) = self.wish(&device) else {
            return Err(Error::found("use", name, "it has no usable format".to_owned()));
        };
        self.known = Some(Identity::of(&device));
        let photo = self.photo_wish(&device, wish);
        // Some controls can be set before the start only; some cameras forget them at the start.
        self.restore(&device);
        let capture = Capture::start(device, wish)?;
        self.restore_streaming(capture.device());
        let given = capture.given;
        let encoder = match given.format.layout() {
            Some(_) => Some(new_encoder(self.config.quality)?),
            None => None,
        };
        // A camera that cannot run as slowly as it should is thinned out here.
        let too_fast = given.fps.is_none_or(|fps| fps > f64::from(wish.fps) + 0.5);
        let pace = too_fast.then(|| Pace::new(wish.fps.into()));
        let fps = given.fps.map_or("unknown".to_owned(), |fps| format!("{fps:.0}"));
        let size = (given.width, given.height);
        let format = given.format;
        log::log!(
            self.level(),
            "{}: {name}: {format} {}x{} at {fps} fps",
            self.label,
            size.0,
            size.1
        );
        if let Some(asked) = self.config.size.filter(|asked| *asked != size) {
            let (width, height) = asked;
            log::log!(
                self.level(),
                "{}: it has no {width}x{height} in {format}; {}x{} is the nearest it gives",
                self.label,
                size.0,
                size.1
            );
        }
        let (width, height) = self.turn.shown(size).size;
        self.size = Some((width, height));
        self.slot.report(|state| {
            *state = CameraState {
                device: Some(name),
                driver: Some(driver),
                format: Some(format.to_string()),
                width,
                height,
                fps: given.fps,
                online: true,
                ..CameraState::default()
            };
        });
        let now = Instant::now();
        Ok(Run { capture, encoder, pace, wish, photo, started: now, last_frame: now, shown: 0 })
    }

    /// For lines that every attempt repeats: a loss is one line, and so is its end.
    fn level(&self) -> Level {
        if self.lost.is_some() { Level::Debug } else { Level::Info }
    }

    /// Take what the device has and publish the newest of it.
    fn take(&mut self, run: &mut Run, ready: Ready, wanted: bool, now: Instant) -> Result<()> {
        if ready == Ready::default() {
            return Ok(());
        }
        let Some(mut filled) = run.next(ready)? else { return Ok(()) };
        // Encoding may be slower than the camera: then only the newest frame is worth it.
        let reads_more = if run.encoder.is_some() { DEQUEUES_MAX } else { 0 };
        for _ in 0..reads_more {
            let Some(mut other) = run.capture.dequeue()? else { break };
            if !other.late {
                std::mem::swap(&mut filled, &mut other);
            }
            run.capture.requeue(other)?;
            count(&self.slot.drops.skipped);
        }
        let taken = filled.captured;
        let jpeg = self.render(run, &filled, wanted, now);
        run.capture.requeue(filled)?;
        if run.last_frame == now {
            self.recovered(now); // a whole frame, whether it is shown or not
        }
        if let Some((jpeg, shown)) = jpeg {
            let settled = taken.duration_since(run.started) >= SETTLE_TIME;
            run.shown += 1;
            self.publish(jpeg, shown, taken, Picture::Live { settled });
        }
        Ok(())
    }

    /// The frame as a whole JPEG, and how it is shown; none if it is damaged or not wanted.
    fn render(
        &self,
        run: &mut Run,
        filled: &Filled,
        wanted: bool,
        now: Instant,
    ) -> Option<(Vec<u8>, Shape)> {
        let drops = &self.slot.drops;
        let bytes = run.capture.bytes(filled);
        let faults = [
            (filled.flagged, &drops.flagged, "flagged as damaged"),
            (bytes.is_empty(), &drops.empty, "empty"),
            (filled.late, &drops.skipped, "late, a newer one was before it"),
        ];
        if let Some((_, counter, what)) = faults.into_iter().find(|(found, ..)| *found) {
            count(counter);
            log::debug!("{}: a frame dropped: {what}", self.label);
            return None;
        }
        if !wanted {
            run.last_frame = now;
            return None;
        }
        if run.pace.as_mut().is_some_and(|pace| !pace.allows(now)) {
            run.last_frame = now;
            count(&drops.skipped);
            return None;
        }
        let mut jpeg = self.pool.take();
        let made = match &mut run.encoder {
            None => mend(bytes, self.turn, &mut jpeg).map_err(|b| b.to_string()),
            Some(encoder) => {
                let given = run.capture.given;
                let layout = given.format.layout()?;
                let raw = Raw {
                    layout,
                    width: given.width as usize,
                    height: given.height as usize,
                    stride: given.stride,
                    limited: given.limited,
                    bytes,
                };
                let encoded = encoder.encode(&raw, &mut jpeg);
                let turned = encoded.map_err(|f| f.to_string()).and_then(|()| self.turn(&mut jpeg));
                turned.map(|()| self.turn.shown(raw.size()))
            }
        };
        match made {
            Ok(shown) => {
                run.last_frame = now;
                Some((jpeg, shown))
            }
            Err(reason) => {
                count(&drops.broken);
                log::debug!("{}: a frame dropped: {reason}", self.label);
                None
            }
        }
    }

    /// Have a picture of ours say how it is to be shown.
    fn turn(&self, jpeg: &mut Vec<u8>) -> std::result::Result<(), String> {
        if self.turn.is_none() {
            return Ok(());
        }
        mend_whole(jpeg, self.turn).map(drop).map_err(|broken| broken.to_string())
    }

    fn publish(&mut self, jpeg: Vec<u8>, shown: Shape, taken: Instant, picture: Picture) {
        // What a camera gives may differ from what it promised.
        let live = matches!(picture, Picture::Live { .. });
        if live && self.size.replace(shown.size) != Some(shown.size) {
            self.slot.report(|state| (state.width, state.height) = shown.size);
        }
        self.frames += 1;
        let pool = Some(self.pool.give.clone());
        self.captured = in_order(self.captured, SystemTime::now() - taken.elapsed());
        let captured = self.captured;
        let frame = Frame::new(self.frames, taken, captured, picture, shown, jpeg, pool);
        self.slot.publish(frame);
        self.wake();
    }
}

// ---- photos in a size of their own ----------------------------------------------------------

impl Operator {
    /// Interrupt the stream for a photo. If the camera does not give it, the stream's next frame
    /// will do; `Err`: nor does it stream again.
    fn photograph(&mut self, run: &mut Run) -> Result<()> {
        let Some(wish) = run.photo else {
            self.hand_over(Still::LikeStream);
            return Ok(());
        };
        let taken = run.capture.restart(wish).and_then(|()| {
            self.restore_streaming(run.capture.device());
            self.expose(run)
        });
        let still = match taken {
            Ok(frame) => Still::Taken(Arc::new(frame)),
            Err(error) => {
                let (width, height) = wish.size;
                log::warn!(
                    "{}: no photo in {width}x{height}, one like the stream: {error}",
                    self.label
                );
                Still::LikeStream
            }
        };
        self.hand_over(still);
        run.capture.restart(run.wish)?;
        self.restore_streaming(run.capture.device());
        run.last_frame = Instant::now();
        run.started = run.last_frame; // the exposure adapts anew
        Ok(())
    }

    /// The first frame after the exposure has had time to adapt.
    fn expose(&mut self, run: &mut Run) -> Result<Frame> {
        let start = Instant::now();
        let cold = start.duration_since(run.started) < SETTLE_TIME;
        let settled_at = start + if cold { SETTLE_TIME } else { STILL_SETTLE_TIME };
        let pace = run.pace.take(); // it thins out the stream, not this
        let mut frames = 0;
        let exposed = loop {
            let end = start + STILL_TIME_MAX;
            let woken = wait([Some(self.slot.nudge()), Some(run.capture.fd())], Some(end));
            let now = Instant::now();
            self.slot.clear_nudge(); // demand is looked at when the stream goes on
            let failed = |reason: &str| Error::found("take", "a photo", reason.to_owned());
            let device = match woken {
                Err(source) => break Err(Error::new("wait for", "the camera", source)),
                Ok(_) if self.slot.stopping() => break Err(failed("the program ends")),
                Ok(_) if now >= end => break Err(failed("no whole frame in time")),
                Ok([_, device]) => device,
            };
            let filled = match run.next(device) {
                Ok(Some(filled)) => filled,
                Ok(None) => continue,
                Err(error) => break Err(error),
            };
            frames += 1;
            let captured = filled.captured;
            let settled = frames >= STILL_FRAMES_MIN && captured >= settled_at;
            let jpeg = self.render(run, &filled, settled, now);
            if let Err(error) = run.capture.requeue(filled) {
                break Err(error);
            }
            if let Some((jpeg, shown)) = jpeg {
                let picture = Picture::Live { settled };
                let wall = SystemTime::now() - captured.elapsed();
                break Ok(Frame::new(self.frames, captured, wall, picture, shown, jpeg, None));
            }
        };
        run.pace = pace;
        exposed
    }

    /// For all who wished for it so far; the loop asks again for one who pressed too late.
    fn hand_over(&self, still: Still) {
        self.slot.take_still_wish();
        self.slot.put_still(still);
        self.wake();
    }

    fn wake(&self) {
        wake(&self.waker);
    }
}

/// When a frame was `captured`, later than the one `before` it. Both may have begun to come at the
/// same time, and a thread may be held up between the two clocks that it reads.
fn in_order(before: SystemTime, captured: SystemTime) -> SystemTime {
    let earliest = before + STAMP_STEP_MIN;
    match earliest.duration_since(captured) {
        Ok(behind) if behind < CLOCK_STEP_MIN => earliest,
        _ => captured, // as nearly always; or the clock was set back
    }
}

fn count(counter: &AtomicU64) {
    count_by(counter, 1);
}

fn count_by(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn new_encoder(quality: u8) -> Result<Encoder> {
    Encoder::new(quality).map_err(|e| Error::found("start", "the JPEG encoder", e.to_string()))
}

// ---- without a camera -----------------------------------------------------------------------

impl Operator {
    /// The camera gives frames: if it was gone, it is back.
    fn recovered(&mut self, now: Instant) {
        self.reset_pause();
        self.absence = None;
        if let Some(since) = self.lost.take() {
            self.slot.report(|state| (state.online, state.reason) = (true, None));
            let gone = now.duration_since(since).as_secs_f64();
            log::info!("{} back after {gone:.1} s", self.label);
        }
    }

    /// The next loss is tried to be mended soon. Not a program's: it costs a small machine much
    /// to start one, and it must first have run for a while.
    fn reset_pause(&mut self) {
        if !matches!(self.camera, Camera::Exec(_)) {
            self.reopen_after = REOPEN_MIN;
        }
    }

    /// Whether it is too early to start the program again.
    fn pauses(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|at| at > now)
    }

    /// When to try again. For a program this holds for all who come to watch.
    fn next_attempt(&mut self, now: Instant) -> Instant {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return at;
        }
        let is_program = matches!(self.camera, Camera::Exec(_));
        let at = now + self.reopen_after;
        let longest = if is_program { PROGRAM_RESTART_MAX } else { REOPEN_MAX };
        self.reopen_after = (self.reopen_after * 2).min(longest);
        self.not_before = is_program.then_some(at);
        at
    }

    /// An error in the words of somebody who wants to mend it. What can be done is found out again
    /// when the error is another one, when a camera appears, and when nobody has watched meanwhile.
    fn explain(&mut self, error: &Error) -> String {
        let advice = self.advice.take().filter(|advice| advice.fits(error));
        self.advice.insert(advice.unwrap_or_else(|| Advice::on(error))).to_string()
    }

    /// Show NO SIGNAL until it is time to try again; false when nobody watches any more.
    fn mourn(&mut self, error: &Error, hotplug: Option<&Hotplug>) -> bool {
        let start = Instant::now();
        let reason = self.explain(error);
        self.set_absence(&reason, start);
        let attempt = self.next_attempt(start);
        loop {
            let now = Instant::now();
            self.slot.clear_nudge();
            if self.slot.stopping() || self.slot.demand() == 0 {
                return false;
            }
            self.deny(&reason);
            if now >= attempt {
                return true;
            }
            self.show_absence(now);
            let picture = self.absence.as_ref().map_or(attempt, |absence| absence.next_picture);
            let fds = [Some(self.slot.nudge()), hotplug.map(Hotplug::fd)];
            match wait(fds, Some(attempt.min(picture))) {
                Ok([_, news]) if news.readable => {
                    if hotplug.is_some_and(Hotplug::take_news) {
                        self.reopen_after = REOPEN_MIN;
                        self.advice = None;
                        return true;
                    }
                }
                Ok(_) => {}
                Err(source) => {
                    log::error!("{}", Error::new("wait for", "the camera", source));
                    thread::sleep(REOPEN_MAX);
                }
            }
        }
    }

    /// Note the loss, or its new reason, and draw it.
    fn set_absence(&mut self, reason: &str, now: Instant) {
        let told = reason.to_owned();
        self.slot.report(|state| (state.online, state.reason) = (false, Some(told)));
        match (&self.absence, self.lost) {
            (Some(absence), _) if *absence.reason == *reason => return,
            (_, Some(_)) => log::debug!("{} still lost: {reason}", self.label),
            // A camera that was never there was missed at the start, in a line of its own.
            _ if self.known.is_none() && !self.camera.is_sequence() => {
                log::debug!("{} absent: {reason}", self.label);
            }
            _ => log::warn!("{} lost: {reason}", self.label),
        }
        self.lost.get_or_insert(now);
        // As large as the pictures around it are when they are shown.
        let expected = || self.turn.shown(self.config.size.unwrap_or(RAW_SIZE)).size;
        let size = self.size.unwrap_or_else(expected);
        let mut jpeg = Vec::new();
        let drawn = new_encoder(PATTERN_QUALITY).map(|mut encoder| {
            no_signal(size, reason, |raw| encoder.encode(raw, &mut jpeg).map(|()| raw.size()))
        });
        let Ok(Ok(size)) = drawn else {
            return log::error!("{}: NO SIGNAL cannot be drawn", self.label);
        };
        let next_picture = self.absence.as_ref().map_or(now, |absence| absence.next_picture);
        self.absence = Some(Absence { reason: reason.into(), jpeg, size, next_picture });
    }

    /// Publish NO SIGNAL if the camera is gone and a second is over.
    fn show_absence(&mut self, now: Instant) {
        let Some(absence) = self.absence.as_mut().filter(|a| a.next_picture <= now) else { return };
        absence.next_picture = now + NO_SIGNAL_PERIOD;
        let picture = Picture::NoSignal { reason: absence.reason.clone() };
        let mut jpeg = self.pool.take();
        jpeg.clone_from(&absence.jpeg);
        let shown = Shape { size: absence.size, turned: false };
        self.publish(jpeg, shown, now, picture);
        if self.slot.take_still_wish() {
            self.hand_over(Still::LikeStream); // when the camera is back, nobody waits for it
        }
    }

    /// Play the test picture until nobody watches or a camera appears.
    fn play(&mut self, hotplug: Option<&Hotplug>, caption: &str) -> End {
        let mut encoder = match new_encoder(PATTERN_QUALITY) {
            Ok(encoder) => encoder,
            Err(error) => return End::Lost(error),
        };
        let auto = self.camera == Camera::Auto;
        let fps = self.config.fps.unwrap_or(PATTERN_FPS);
        let period = Duration::from_secs(1) / fps;
        let size = self.config.size.unwrap_or(RAW_SIZE);
        let mut pattern = Pattern::new(size, caption);
        self.slot.report(|state| {
            let (width, height) = self.turn.shown((size.0 & !1, size.1 & !1)).size;
            *state =
                CameraState { width, height, online: true, test: true, ..CameraState::default() };
        });
        let start = Instant::now();
        let mut due = start;
        // A node that refused us when it appeared is tried again for a while.
        let mut retry: Option<Retry> = None;
        loop {
            let until = retry.as_ref().map_or(due, |retry| retry.at.min(due));
            let news = match wait([Some(self.slot.nudge()), hotplug.map(Hotplug::fd)], Some(until))
            {
                Ok([_, news]) => news.readable && hotplug.is_some_and(Hotplug::take_news),
                Err(source) => return End::Lost(Error::new("wait for", "a camera", source)),
            };
            let now = Instant::now();
            self.slot.clear_nudge();
            if self.slot.stopping() || self.slot.demand() == 0 {
                return End::Idle;
            }
            if self.slot.take_still_wish() {
                self.hand_over(Still::LikeStream);
            }
            self.obey_without_device();
            if auto && (news || retry.as_ref().is_some_and(|retry| retry.at <= now)) {
                match self.find() {
                    Ok(_) => return End::Again,
                    Err(error) => {
                        retry = Retry::next(retry.filter(|_| !news), &error, now);
                        if retry.is_none() && is_denial(error.source()) {
                            let reason = self.explain(&error);
                            log::warn!("{}: {reason}", self.label);
                        }
                    }
                }
            }
            if now >= due {
                due = (due + period).max(now);
                let mut jpeg = self.pool.take();
                let seconds = now.duration_since(start).as_secs_f64();
                let raw = pattern.draw(self.frames + 1, seconds);
                let encoded = encoder.encode(&raw, &mut jpeg).map_err(|f| f.to_string());
                let shown = self.turn.shown(raw.size());
                if let Err(reason) = encoded.and_then(|()| self.turn(&mut jpeg)) {
                    return End::Lost(Error::found("draw", "the test picture", reason));
                }
                self.publish(jpeg, shown, now, Picture::Live { settled: true });
            }
        }
    }
}

/// The next look at a node that would not let us in.
struct Retry {
    at: Instant,
    pause: Duration,
    until: Instant,
}

impl Retry {
    fn next(last: Option<Retry>, error: &Error, now: Instant) -> Option<Retry> {
        if !is_denial(error.source()) {
            return None;
        }
        let (pause, until) =
            last.map_or((REOPEN_MIN, now + NODE_TIME_MAX), |last| (last.pause * 2, last.until));
        (now + pause <= until).then(|| Retry { at: now + pause, pause, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_later_than_the_one_before_it_unless_the_clock_is_set_back() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_334_017);
        let (micro, milli) = (Duration::from_micros(1), Duration::from_millis(1));
        let check = |captured, expect| assert_eq!(in_order(start, captured), expect);
        check(start + milli, start + milli);
        check(start + micro, start + micro);
        check(start, start + micro);
        check(start - milli * 50, start + micro);
        let year = Duration::from_secs(1) * 3600 * 24 * 365;
        check(start - year, start - year);
        check(start + year, start + year);
    }

    #[test]
    fn a_panic_restarts_the_camera() {
        let tries = std::cell::Cell::new(0);
        restart_on_panic(
            "camera",
            || tries.get() == 3,
            |after_panic| {
                assert_eq!(after_panic, tries.get() > 0);
                tries.set(tries.get() + 1);
                assert!(tries.get() == 3, "the fault of this test");
            },
        );
        assert_eq!(tries.get(), 3);
    }

    #[test]
    fn a_node_that_refuses_is_tried_again_for_a_while_and_no_longer() {
        let start = Instant::now();
        let refused = || {
            let source = io::Error::from_raw_os_error(libc::EACCES);
            Error::new("open", "/dev/video0", source)
        };
        let mut retry = Retry::next(None, &refused(), start);
        let mut tries = 0;
        let mut last = start;
        while let Some(next) = retry {
            assert!(next.at > last && next.at <= start + NODE_TIME_MAX);
            last = next.at;
            tries += 1;
            retry = Retry::next(Some(next), &refused(), last);
        }
        assert!((3..20).contains(&tries), "{tries} tries");
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert!(Retry::next(None, &Error::new("open", "x", busy), start).is_none());
    }
}
