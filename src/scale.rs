//! The scaling thread: smaller pictures for viewers who asked for them with `width`. One encoding
//! a size for all, only while somebody asks. Knows no socket and no camera.
//!
//! DESIGN. The loop hands over a frame and the sizes that lack it; the thread makes them one after
//! the other. While it works it is given nothing: frames that come meanwhile are skipped, and
//! what it gets next is the newest. So neither the camera nor the loop ever waits for it, and a
//! machine that is too slow for the rate shows fewer of the small frames. When nobody asks any
//! more, the thread ends and its memory goes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use mio::Waker;

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::http::response::Part;
use crate::jpeg::Scaler;
use crate::limits::SCALING_NICE;
use crate::thread::{stand_back, wake};

/// Which sizes: bit n stands for n eighths of each side, 1 to 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes(u8);

impl Sizes {
    pub fn add(&mut self, eighths: usize) {
        if (1..8).contains(&eighths) {
            self.0 |= 1 << eighths;
        }
    }

    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (1..8).filter(move |n| self.0 & 1 << n != 0)
    }
}

/// The smaller pictures of a camera.
pub struct Scaling {
    quality: u8,
    waker: Arc<Waker>,
    /// None while nobody asks.
    thread: Option<Thread>,
    /// By eighths.
    made: [Made; 8],
    /// What is wrong was said.
    complained: bool,
}

struct Thread {
    jobs: SyncSender<(Arc<Frame>, Sizes)>,
    done: Receiver<Done>,
    /// Answers that it still owes; given nothing until there are none.
    owed: usize,
}

/// A size, and the frame in it if that could be made.
type Done = (usize, Option<Arc<Frame>>);

#[derive(Clone, Default)]
struct Made {
    part: Option<Arc<Part>>,
    /// The number of the last frame that was to be made smaller, whatever came of it.
    tried: u64,
}

impl Scaling {
    /// `quality` of what is made: 1 to 100. The waker tells that something is there to `take`.
    pub fn new(quality: u8, waker: Arc<Waker>) -> Scaling {
        let made = Default::default();
        Scaling { quality, waker, thread: None, made, complained: false }
    }

    /// Have those of the `wanted` sizes made of `frame` that have not been; later, if the thread is
    /// at work: call it again when `take` has given something.
    pub fn make(&mut self, frame: &Arc<Frame>, wanted: Sizes) {
        let mut lacking = Sizes::default();
        wanted.iter().filter(|n| self.made[*n].tried != frame.number).for_each(|n| lacking.add(n));
        let works = self.thread.as_ref().is_some_and(|thread| thread.owed > 0);
        if works || lacking == Sizes::default() {
            return;
        }
        lacking.iter().for_each(|n| self.made[n].tried = frame.number);
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
            let (n, frame) = match thread.done.try_recv() {
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
            if let Some(frame) = frame.filter(|frame| frame.number == self.made[n].tried) {
                self.made[n].part = Some(Arc::new(Part::new(frame)));
            }
        }
        news
    }

    /// What there is in so many eighths: of the newest frame, or just `take`n.
    pub fn part(&self, eighths: usize) -> Option<&Arc<Part>> {
        self.made.get(eighths)?.part.as_ref()
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
            log::error!("smaller pictures: {what}");
        }
    }
}

impl Thread {
    fn start(quality: u8, waker: Arc<Waker>) -> Result<Thread> {
        let failed = |source| Error::new("start", "the scaling thread", source);
        let scaler = Scaler::new(quality).map_err(|error| failed(std::io::Error::other(error)))?;
        let (jobs, todo) = sync_channel(1);
        let (answers, done) = sync_channel(7); // a job's
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
    todo: &Receiver<(Arc<Frame>, Sizes)>,
    answers: &SyncSender<Done>,
    waker: &Waker,
) {
    stand_back(SCALING_NICE, "the scaling thread");
    let mut complained = false;
    while let Ok((frame, sizes)) = todo.recv() {
        for n in sizes.iter() {
            let small = scaler.scale(frame.jpeg(), n);
            if let Err(reason) = &small
                && !std::mem::replace(&mut complained, true)
            {
                log::warn!("a frame could not be made smaller: {reason}");
            }
            let small = small.ok().map(|jpeg| Arc::new(frame.with(jpeg)));
            if answers.send((n, small)).is_err() {
                return;
            }
            wake(waker);
        }
    }
}
