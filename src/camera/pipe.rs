//! Pictures from a sequence of JPEGs: what somebody writes to our standard input, or what a
//! program prints.
//!
//! What waits in the pipe is read until it is empty, and the newest whole picture of it is shown:
//! viewers want now. A picture is read into the buffer that its viewers are sent from.
//!
//! A program runs while somebody watches. Standard input is read all the time, so that whoever
//! writes never waits; without viewers its pictures are thrown away, but for the last.

use std::io::{self, IsTerminal, Stdin};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::program::{Program, Remarks, discreet, name, widen};
use super::v4l2::{Ready, wait};
use super::{End, Operator, Pool, count, count_by};
use crate::config::Camera;
use crate::error::{Error, Reason, Result};
use crate::frame::{CameraState, Pace, Picture, Shape, Still};
use crate::jpeg::mend_whole;
use crate::jpeg::orient::Turn;
use crate::jpeg::split::{Cut, Splitter};
use crate::limits::{
    COMMAND_CHARS_MAX, FPS, FRAME_TIME_MAX, PIPE_READ_BYTES_MIN, PIPE_READS_MAX,
    PROGRAM_RESTART_MAX, PROGRAM_TIME_MAX, REOPEN_MIN, SETTLE_TIME, STUCK_MAX,
};

/// What standard input is called.
pub const STANDARD_INPUT: &str = "standard input";

/// Refuse a standard input that nobody writes pictures into.
pub fn check_standard_input() -> Result<()> {
    let stdin = io::stdin();
    let status =
        fstat(&stdin).map_err(|source| Error::new("use", STANDARD_INPUT, source.into()))?;
    let what = match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo | FileType::Socket => {
            widen(stdin.as_fd());
            return Ok(());
        }
        _ if stdin.is_terminal() => "a terminal",
        FileType::RegularFile => "a file, which would be over at once",
        _ => "closed, or no pipe",
    };
    let reason = format!(
        "it is {what}; --camera - wants a program at the other end of a pipe: \
         `rpicam-vid -n -t 0 --codec mjpeg --flush -o - | pistream --camera -`"
    );
    Err(Error::found("use", STANDARD_INPUT, reason))
}

/// What the camera is called in the status: a program by its command.
pub fn device(camera: &Camera) -> String {
    match camera {
        Camera::Exec(command) => {
            let text: String = discreet(command).chars().take(COMMAND_CHARS_MAX).collect();
            format!("exec:{text}")
        }
        _ => STANDARD_INPUT.to_owned(),
    }
}

/// What it is called in the log and on NO SIGNAL.
pub fn short_name(camera: &Camera) -> String {
    match camera {
        Camera::Exec(command) => name(command),
        _ => STANDARD_INPUT.to_owned(),
    }
}

// ---- reading --------------------------------------------------------------------------------

/// The way from a pipe to pictures.
#[derive(Debug, Default)]
pub struct Feed {
    /// What was read and belongs to no picture yet, and to those that are being looked for. Bound:
    /// `FRAME_BYTES_MAX` and one read, twice that as it grows.
    buffer: Vec<u8>,
    splitter: Splitter,
    /// When the first bytes of the picture came that is not whole yet.
    began: Option<Instant>,
}

/// A picture as it was read.
#[derive(Debug)]
pub struct Fresh {
    /// Bound: `FRAME_BYTES_MAX`, in a buffer that had more.
    pub jpeg: Vec<u8>,
    /// As it is stored, until it is mended.
    shown: Shape,
    /// When its first bytes came: it was captured before.
    began: Instant,
}

/// What one look at the pipe has brought.
#[derive(Debug, Default)]
pub struct Catch {
    pub newest: Option<Fresh>,
    /// Whole pictures that were older.
    pub skipped: u64,
    pub broken: u64,
    /// Nobody writes into the pipe any more.
    pub closed: bool,
}

impl Feed {
    /// Read what is there. To be called when there is something: it waits otherwise.
    pub fn read(&mut self, pipe: BorrowedFd, pool: &Pool, now: Instant) -> io::Result<Catch> {
        let mut catch = Catch::default();
        for turn in 0..PIPE_READS_MAX {
            if turn > 0 {
                let [more] = wait([Some(pipe)], Some(now))?;
                if !more.readable {
                    break;
                }
            }
            self.buffer.reserve(PIPE_READ_BYTES_MIN);
            let room = self.buffer.capacity() - self.buffer.len();
            let read = match rustix::io::read(pipe, spare_capacity(&mut self.buffer)) {
                Err(Errno::INTR | Errno::AGAIN) => break,
                result => result?,
            };
            if read == 0 {
                catch.closed = true;
                break;
            }
            self.split(pool, now, &mut catch);
            if read < room {
                break; // the pipe is empty
            }
        }
        Ok(catch)
    }

    /// Look for pictures in what was read; the newest one leaves with the buffer that it is in.
    fn split(&mut self, pool: &Pool, now: Instant, catch: &mut Catch) {
        let mut newest: Option<(Cut, Instant)> = None;
        while let Some(found) = self.splitter.next(&self.buffer) {
            let began = self.began.take().unwrap_or(now);
            match found {
                Ok(cut) => catch.skipped += u64::from(newest.replace((cut, began)).is_some()),
                Err(reason) => {
                    catch.broken += 1;
                    log::debug!("camera: a frame dropped: {reason}");
                }
            }
        }
        if self.splitter.is_inside() {
            self.began.get_or_insert(now);
        }
        let done = self.splitter.start();
        self.splitter.forget(done);
        let Some((Cut { place, size }, began)) = newest else {
            self.buffer.drain(..done); // mostly nothing
            return;
        };
        let mut next = pool.take();
        next.clear();
        next.extend_from_slice(&self.buffer[done..]); // mostly nothing: programs write and wait
        let mut jpeg = std::mem::replace(&mut self.buffer, next);
        jpeg.truncate(place.end);
        jpeg.drain(..place.start);
        if let Some(older) =
            catch.newest.replace(Fresh { jpeg, shown: Turn::default().shown(size), began })
        {
            catch.skipped += 1;
            pool.give(older.jpeg);
        }
    }
}

// ---- capturing ------------------------------------------------------------------------------

/// Where a sequence comes from.
enum Source {
    StandardInput(Stdin),
    Program(Program),
}

/// A sequence that is being read.
struct Flow {
    source: Source,
    feed: Feed,
    pace: Pace,
    /// Came too early for the pace, or while nobody watched; shown if nothing newer comes.
    held: Option<Fresh>,
    started: Instant,
    /// When the last whole frame came; at first, the start.
    last_frame: Instant,
    /// When the first one came.
    first_frame: Option<Instant>,
    /// Between the last two. Some sources have a frame every few seconds.
    gap: Duration,
    /// NO SIGNAL is shown, though it may go on.
    late: bool,
    size: Option<(u32, u32)>,
    shown: u64,
}

impl Flow {
    fn new(source: Source, fps: u32) -> Flow {
        let now = Instant::now();
        Flow {
            source,
            feed: Feed::default(),
            pace: Pace::new(fps.into()),
            held: None,
            started: now,
            last_frame: now,
            first_frame: None,
            gap: Duration::ZERO,
            late: false,
            size: None,
            shown: 0,
        }
    }

    /// What to poll: pictures, and what a program says.
    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match &self.source {
            Source::StandardInput(stdin) => [Some(stdin.as_fd()), None],
            Source::Program(program) => [program.out(), program.err()],
        }
    }

    /// When NO SIGNAL is due; none while a program has not begun, or if it is shown already.
    fn late_at(&self) -> Option<Instant> {
        let begun = self.first_frame.is_some() || matches!(self.source, Source::StandardInput(_));
        let patience = FRAME_TIME_MAX.max(self.gap * 2).min(PROGRAM_TIME_MAX);
        (begun && !self.late).then(|| self.last_frame + patience)
    }

    /// When a program counts as hung. There is no other standard input to be had.
    fn dead_at(&self) -> Option<Instant> {
        let program = matches!(self.source, Source::Program(_));
        program.then(|| self.last_frame + PROGRAM_TIME_MAX)
    }
}

impl Operator {
    /// Whether the camera must be read though nobody watches.
    pub fn drains(&self) -> bool {
        self.camera == Camera::StandardInput && !self.drained
    }

    /// Read the sequence until nobody watches or it is lost.
    pub fn read_sequence(&mut self) -> End {
        let flow = match self.open_sequence() {
            Ok(Some(flow)) => flow,
            Ok(None) => return End::Idle,
            Err(error) => return End::Lost(error),
        };
        self.capture_sequence(flow)
    }

    /// None when the house ends.
    fn open_sequence(&mut self) -> Result<Option<Flow>> {
        let fps = self.config.fps.unwrap_or(FPS);
        let Camera::Exec(command) = &self.camera else {
            return Ok(Some(Flow::new(Source::StandardInput(io::stdin()), fps)));
        };
        let name = name(command);
        if self.pauses(Instant::now()) {
            let fault = self.fault.clone().unwrap_or_default();
            return Err(Error::found("run", name, fault)); // a new viewer, not a new start
        }
        self.stuck.retain_mut(|program| !program.is_gone());
        if self.stuck.len() >= STUCK_MAX {
            let reason = format!(
                "{} of them cannot be ended, the kernel holds them; restart the machine",
                self.stuck.len()
            );
            self.fault = Some(reason.clone());
            return Err(Error::found("run", name, reason));
        }
        // Said before it is true and asked after it was said: the house does not end meanwhile.
        self.slot.set_program(true);
        if self.slot.stopping() {
            self.has_no_program();
            return Ok(None);
        }
        log::log!(self.level(), "{}: {name}: started", self.label);
        match Program::start(command) {
            Ok(program) => {
                let whose = self.own(&name);
                self.remarks.get_or_insert_with(|| Remarks::new(whose, Instant::now())).begin();
                Ok(Some(Flow::new(Source::Program(program), fps)))
            }
            Err(source) => {
                self.has_no_program();
                self.fault = Some(Reason(&source).to_string());
                Err(Error::new("run", name, source))
            }
        }
    }

    /// There is none any more; the loop may be waiting for that.
    pub fn has_no_program(&self) {
        self.slot.set_program(false);
        if self.slot.stopping() {
            self.wake();
        }
    }

    fn capture_sequence(&mut self, mut flow: Flow) -> End {
        let drains = matches!(flow.source, Source::StandardInput(_));
        let mut idle_since = None;
        let (end, closed) = loop {
            self.obey_without_device();
            let idle_end = idle_since.map(|since: Instant| since + self.config.idle_off);
            let idle_end = idle_end.filter(|_| !self.config.idle_off.is_zero() && !drains);
            let picture = self.absence.as_ref().filter(|_| idle_since.is_none());
            let picture = picture.map(|absence| absence.next_picture);
            let held = flow.held.as_ref().and(flow.pace.overdue());
            let held = held.filter(|_| idle_since.is_none());
            let until = [flow.late_at(), flow.dead_at(), idle_end, picture, held];
            let [out, err] = flow.fds();
            let woken =
                wait([Some(self.slot.nudge()), out, err], until.into_iter().flatten().min());
            let [nudge, out, err] = match woken {
                Ok(ready) => ready,
                Err(source) => {
                    break (End::Lost(Error::new("wait for", "the camera", source)), false);
                }
            };
            let now = Instant::now();
            if nudge.readable {
                self.slot.clear_nudge();
            }
            let Some(wanted) = self.attend(&mut idle_since, idle_end, now) else {
                break (End::Idle, false);
            };
            self.hear(&mut flow, err);
            let taken = self.take_sequence(&mut flow, out, wanted, now);
            if wanted {
                self.release(&mut flow, now);
            }
            match taken {
                Ok(false) => {}
                Ok(true) => break (End::Lost(Operator::ended()), true),
                Err(error) => break (End::Lost(error), false),
            }
            if self.slot.take_still_wish() {
                self.hand_over(Still::LikeStream);
            }
            if flow.dead_at().is_some_and(|at| now >= at) {
                break (End::Lost(self.silence(PROGRAM_TIME_MAX)), false);
            }
            if flow.late_at().is_some_and(|at| now >= at) {
                flow.late = true;
                let reason = self.silence(now - flow.last_frame).to_string();
                self.set_absence(&reason, now);
            }
            if wanted {
                self.show_absence(now);
            }
        };
        self.close_sequence(flow, end, closed)
    }

    fn hear(&mut self, flow: &mut Flow, err: Ready) {
        if err == Ready::default() {
            return;
        }
        if let (Source::Program(program), Some(remarks)) = (&mut flow.source, &mut self.remarks) {
            program.listen(remarks);
        }
    }

    /// Take what the pipe has, and keep the newest picture of it. Gives whether the pipe is closed.
    fn take_sequence(
        &mut self,
        flow: &mut Flow,
        out: Ready,
        wanted: bool,
        now: Instant,
    ) -> Result<bool> {
        let Flow { source, feed, .. } = flow;
        let pipe = match &*source {
            Source::StandardInput(stdin) => Some(stdin.as_fd()),
            Source::Program(program) => program.out(),
        };
        let Some(pipe) = pipe.filter(|_| out != Ready::default()) else { return Ok(false) };
        let catch = feed
            .read(pipe, &self.pool, now)
            .map_err(|source| Error::new("read from", short_name(&self.camera), source))?;
        let drops = &self.slot.drops;
        if wanted {
            count_by(&drops.skipped, catch.skipped);
        }
        count_by(&drops.broken, catch.broken);
        let Some(mut fresh) = catch.newest else { return Ok(catch.closed) };
        fresh.shown = match mend_whole(&mut fresh.jpeg, self.turn) {
            Ok(shown) => shown,
            Err(reason) => {
                count(&drops.broken);
                log::debug!("{}: a frame dropped: {reason}", self.label);
                self.pool.give(fresh.jpeg);
                return Ok(catch.closed);
            }
        };
        if flow.first_frame.is_some() {
            flow.gap = now - flow.last_frame;
        }
        flow.first_frame.get_or_insert(fresh.began);
        (flow.last_frame, flow.late, self.drained) = (now, false, false);
        if flow.size != Some(fresh.shown.size) {
            flow.size = Some(fresh.shown.size);
            self.introduce(fresh.shown.size);
        }
        self.recovered(now);
        if let Some(older) = flow.held.replace(fresh) {
            count_by(&self.slot.drops.skipped, wanted.into());
            self.pool.give(older.jpeg);
        }
        Ok(catch.closed)
    }

    /// Publish what is held when its time has come. What came while nobody watched is for the
    /// first who does.
    fn release(&mut self, flow: &mut Flow, now: Instant) {
        let overdue = flow.pace.overdue().is_some_and(|at| now >= at);
        let due = overdue || flow.pace.would_allow(now);
        let Some(fresh) = flow.held.take_if(|_| due) else { return };
        if flow.late {
            return; // NO SIGNAL has taken its place
        }
        flow.pace.allows(now);
        // Who writes to us had begun before we looked; a program's camera begins with it.
        let first = flow.first_frame.unwrap_or(now);
        let settled = matches!(flow.source, Source::StandardInput(_))
            || fresh.began.duration_since(first) >= SETTLE_TIME;
        flow.shown += 1;
        self.publish(fresh.jpeg, fresh.shown, fresh.began, Picture::Live { settled });
    }

    /// Say what comes, at the first frame and where the size changes.
    fn introduce(&mut self, (width, height): (u32, u32)) {
        let camera = &self.camera;
        log::log!(self.level(), "{}: {}: MJPG {width}x{height}", self.label, short_name(camera));
        self.size = Some((width, height));
        let device = Some(device(camera));
        let format = Some("MJPG".to_owned());
        self.slot.report(|state| {
            let online = true;
            *state =
                CameraState { device, format, width, height, online, ..CameraState::default() };
        });
    }

    /// Nobody writes any more. What became of a program is known when it is reaped.
    fn ended() -> Error {
        let reason = "it has ended: who wrote into it is gone; start both again";
        Error::found("read", STANDARD_INPUT, reason.to_owned())
    }

    fn silence(&self, time: Duration) -> Error {
        let reason = format!("no whole picture for {} s", time.as_secs());
        Error::found("read from", short_name(&self.camera), reason)
    }

    /// End the program, and say how it ended if it did so by itself.
    fn close_sequence(&mut self, flow: Flow, end: End, closed: bool) -> End {
        log::log!(
            self.level(),
            "{}: {}: stopped after {} frames",
            self.label,
            short_name(&self.camera),
            flow.shown
        );
        self.drained = true; // until it gives a picture again
        let Source::Program(program) = flow.source else { return end };
        let name = short_name(&self.camera);
        let mut remarks =
            self.remarks.take().unwrap_or_else(|| Remarks::new(self.own(&name), Instant::now()));
        let (told, stuck) = program.end(closed, &mut remarks);
        self.remarks = Some(remarks);
        self.stuck.extend(stuck);
        self.has_no_program();
        // One that ends again and again, though with a picture each time, is not started so often.
        if matches!(end, End::Idle) || flow.started.elapsed() >= PROGRAM_RESTART_MAX {
            (self.reopen_after, self.not_before) = (REOPEN_MIN, None);
        }
        self.fault = None;
        match end {
            End::Lost(_) if closed => {
                self.fault = Some(told.clone());
                End::Lost(Error::found("run", name, told))
            }
            End::Lost(error) => {
                self.fault = Some(Reason(error.source()).to_string());
                End::Lost(error)
            }
            end => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_BYTES_MAX;

    #[test]
    fn a_picture_without_an_end_is_not_held_for_ever() {
        let (mut feed, pool, now) = (Feed::default(), Pool::default(), Instant::now());
        let mut catch = Catch::default();
        let head = b"\xff\xd8\xff\xc0\0\x08\x08\0\x10\0\x10\0\xff\xda\0\x06\0\0\0\0";
        feed.buffer.extend_from_slice(head);
        for _ in 0..2 * FRAME_BYTES_MAX / PIPE_READ_BYTES_MIN {
            feed.buffer.extend_from_slice(&[0x55; PIPE_READ_BYTES_MIN]);
            feed.split(&pool, now, &mut catch);
            assert!(feed.buffer.len() <= FRAME_BYTES_MAX + PIPE_READ_BYTES_MIN);
        }
        assert_eq!(catch.broken, 1);
        assert!(catch.newest.is_none() && feed.buffer.len() < 3);
    }
}
