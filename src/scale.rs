//! The scaling thread: renditions of a camera's pictures for viewers who asked for smaller ones
//! (`width`), or for ones with their pixels turned (`bake`). Each is made once for all, only while
//! somebody asks. Knows no socket and no camera.
//!
//! DESIGN. The loop hands over a frame and the renditions that lack it; the thread makes them one
//! after the other. While it works it is given nothing: frames that come meanwhile are skipped, and
//! what it gets next is the newest. So neither the camera nor the loop ever waits for it, and a
//! machine that is too slow for the rate shows fewer of these frames. When nobody asks any
//! more, the thread ends and its memory goes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use mio::Waker;

use crate::error::{Error, Result};
use crate::frame::{Frame, Shape};
use crate::http::response::Part;
use crate::jpeg::orient::Turn;
use crate::jpeg::{Failed, Scaler, eighths, mend_whole};
use crate::limits::SCALING_NICE;
use crate::thread::{stand_back, wake};

/// How somebody wants to see the camera's pictures; if nothing is said, as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// At most so many pixels wide.
    pub width: Option<u32>,
    /// With their pixels turned as they are to be shown, instead of saying so by EXIF.
    pub bake: bool,
}

impl Wish {
    /// Whether nothing is to be made, whatever the pictures are.
    pub fn is_none(self) -> bool {
        self == Wish::default()
    }

    /// What it comes to for pictures that are shown so.
    pub fn rendition(self, Shape { size: (wide, _), turned }: Shape) -> Rendition {
        let eighths = self.width.map_or(8, |width| eighths(wide as usize, width as usize));
        Rendition { eighths, baked: self.bake && turned }
    }
}

/// One way in which a camera's pictures are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendition {
    /// Of each side; 1 to 8.
    eighths: usize,
    baked: bool,
}

impl Rendition {
    /// The camera's own.
    pub const AS_IS: Rendition = Rendition { eighths: 8, baked: false };
    const COUNT: usize = 16;

    fn index(self) -> usize {
        self.eighths - 1 + 8 * usize::from(self.baked)
    }

    fn from_index(index: usize) -> Rendition {
        Rendition { eighths: index % 8 + 1, baked: index >= 8 }
    }
}

/// Renditions that are to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renditions(u16);

impl Renditions {
    /// One more, if there is anything to be made.
    pub fn add(&mut self, rendition: Rendition) {
        if rendition != Rendition::AS_IS {
            self.0 |= 1 << rendition.index();
        }
    }

    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn iter(self) -> impl Iterator<Item = Rendition> {
        let all = (0..Rendition::COUNT).filter(move |n| self.0 & 1 << n != 0);
        all.map(Rendition::from_index)
    }
}

/// The renditions of a camera's pictures.
pub struct Scaling {
    quality: u8,
    waker: Arc<Waker>,
    /// None while nobody asks.
    thread: Option<Thread>,
    /// By `Rendition::index`.
    made: [Made; Rendition::COUNT],
    /// What is wrong was said.
    complained: bool,
}

struct Thread {
    jobs: SyncSender<(Arc<Frame>, Renditions)>,
    done: Receiver<Done>,
    /// Answers that it still owes; given nothing until there are none.
    owed: usize,
}

/// A rendition, and the frame in it if that could be made.
type Done = (Rendition, Option<Arc<Frame>>);

#[derive(Clone, Default)]
struct Made {
    part: Option<Arc<Part>>,
    /// The number of the last frame that it was to be made of, whatever came of it.
    tried: u64,
}

impl Scaling {
    /// `quality` of what is made: 1 to 100. The waker tells that something is there to `take`.
    pub fn new(quality: u8, waker: Arc<Waker>) -> Scaling {
        let made = Default::default();
        Scaling { quality, waker, thread: None, made, complained: false }
    }

    /// Have those of the `wanted` renditions made of `frame` that have not been; later, if the
    /// thread is at work: call it again when `take` has given something.
    pub fn make(&mut self, frame: &Arc<Frame>, wanted: Renditions) {
        let mut lacking = Renditions::default();
        let lacks = |wanted: &Rendition| self.made[wanted.index()].tried != frame.number;
        wanted.iter().filter(lacks).for_each(|wanted| lacking.add(wanted));
        let works = self.thread.as_ref().is_some_and(|thread| thread.owed > 0);
        if works || lacking == Renditions::default() {
            return;
        }
        lacking.iter().for_each(|lacked| self.made[lacked.index()].tried = frame.number);
        let thread = match self.thread.take() {
            Some(thread) => Ok(thread),
            None => Thread::start(self.quality, self.waker.clone()),
        };
        match thread {
            Ok(mut thread) if thread.jobs.try_send((frame.clone(), lacking)).is_ok() => {
                thread.owed = lacking.count();
                self.thread = Some(thread);
            }
            Ok(_) => self.complain("it has ended by a fault of ours"),
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Take in what the thread has made; whether it has come to anything new.
    pub fn take(&mut self) -> bool {
        let mut news = false;
        while let Some(thread) = &mut self.thread {
            let (rendition, frame) = match thread.done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.thread = None; // the next frame starts another
                    self.complain("it has ended by a fault of ours");
                    return true;
                }
            };
            thread.owed -= 1;
            news = true;
            // What was asked for before a `clear` is of a time that is over.
            let made = &mut self.made[rendition.index()];
            if let Some(frame) = frame.filter(|frame| frame.number == made.tried) {
                made.part = Some(Arc::new(Part::new(frame)));
            }
        }
        news
    }

    /// What there is in this rendition: of the newest frame, or just `take`n.
    pub fn part(&self, rendition: Rendition) -> Option<&Arc<Part>> {
        self.made[rendition.index()].part.as_ref()
    }

    /// Keep what is made of the frame of this number: who could not take the others in time is
    /// better served by a new one.
    pub fn keep_only(&mut self, number: u64) {
        for made in &mut self.made {
            made.part.take_if(|part| part.frame.number != number);
        }
    }

    /// Nobody asks any more, or the frames have another size now: forget all. A thread at work
    /// comes to an end first, so that there is never more than one.
    pub fn clear(&mut self) {
        self.made = Default::default();
        self.thread.take_if(|thread| thread.owed == 0);
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            log::error!("smaller and turned pictures: {what}");
        }
    }
}

impl Thread {
    fn start(quality: u8, waker: Arc<Waker>) -> Result<Thread> {
        let failed = |source| Error::new("start", "the scaling thread", source);
        let scaler = Scaler::new(quality).map_err(|error| failed(std::io::Error::other(error)))?;
        let (jobs, todo) = sync_channel(1);
        let (answers, done) = sync_channel(Rendition::COUNT); // a job's
        thread::Builder::new()
            .name("scale".into())
            .spawn(move || work(scaler, &todo, &answers, &waker))
            .map_err(failed)?;
        Ok(Thread { jobs, done, owed: 0 })
    }
}

/// Until the loop lets go of its end.
fn work(
    mut scaler: Scaler,
    todo: &Receiver<(Arc<Frame>, Renditions)>,
    answers: &SyncSender<Done>,
    waker: &Waker,
) {
    stand_back(SCALING_NICE, "the scaling thread");
    let mut complained = false;
    while let Ok((frame, wanted)) = todo.recv() {
        for rendition in wanted.iter() {
            let made = make(&mut scaler, &frame, rendition);
            if let Err(reason) = &made
                && !std::mem::replace(&mut complained, true)
            {
                log::warn!("a frame could not be made smaller or turned: {reason}");
            }
            if answers.send((rendition, made.ok().map(Arc::new))).is_err() {
                return;
            }
            wake(waker);
        }
    }
}
fn make(
    scaler: &mut Scaler,
    frame: &Frame,
    Rendition { eighths, baked }: Rendition,
) -> std::result::Result<Frame, Failed> {
    let mut jpeg = match baked {
        true => scaler.bake(frame.jpeg(), eighths),
        false => scaler.scale(frame.jpeg(), eighths),
    }?;
    let shown = mend_whole(&mut jpeg, Turn::default()).map_err(Failed::Broken)?;
    Ok(frame.with(shown, jpeg))
}
