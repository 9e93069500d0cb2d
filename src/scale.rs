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
use rustix::process::nice;

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::http::response::Part;
use crate::jpeg::Scaler;
use crate::limits::SCALING_NICE;

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
    /// The newest of each size.
    made: [Made; 8],
}

struct Thread {
    jobs: SyncSender<(Arc<Frame>, Sizes)>,
    done: Receiver<Done>,
    works: bool,
}

enum Done {
    Made(usize, Arc<Frame>),
    /// All that the job asked for is made, or could not be.
    All,
}

#[derive(Clone, Default)]
struct Made {
    part: Option<Arc<Part>>,
    /// The number of the last frame that was to be made smaller, whatever came of it.
    tried: u64,
}

impl Scaling {
    /// `quality` of what is made: 1 to 100. The waker tells that something is there to `take`.
    pub fn new(quality: u8, waker: Arc<Waker>) -> Scaling {
        Scaling { quality, waker, thread: None, made: Default::default() }
    }

    /// Have those of the `wanted` sizes made of `frame` that have not been; later, if the thread is
    /// at work: call it again when `take` has given something.
    pub fn make(&mut self, frame: &Arc<Frame>, wanted: Sizes) {
        if self.thread.as_ref().is_some_and(|thread| thread.works) {
            return;
        }
        let mut lacking = Sizes::default();
        wanted.iter().filter(|n| self.made[*n].tried != frame.number).for_each(|n| lacking.add(n));
        if lacking == Sizes::default() {
            return;
        }
        for n in lacking.iter() {
            self.made[n].tried = frame.number;
        }
        let thread = match self.thread.take() {
            Some(thread) => Ok(thread),
            None => Thread::start(self.quality, self.waker.clone()),
        };
        match thread {
            Ok(mut thread) => {
                // After a panic nobody receives; the next frame starts another thread.
                thread.works = thread.jobs.try_send((frame.clone(), lacking)).is_ok();
                self.thread = Some(thread).filter(|thread| thread.works);
            }
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Take in what the thread has made; whether it has come to anything new, be it that it rests.
    pub fn take(&mut self) -> bool {
        let Some(thread) = &mut self.thread else { return false };
        let mut news = false;
        loop {
            match thread.done.try_recv() {
                Ok(Done::Made(n, frame)) => self.made[n].part = Some(Arc::new(Part::new(frame))),
                Ok(Done::All) => thread.works = false,
                Err(TryRecvError::Empty) => return news,
                Err(TryRecvError::Disconnected) => {
                    log::error!("the scaling thread: a fault of ours; it is started again");
                    self.thread = None;
                    return true;
                }
            }
            news = true;
        }
    }

    /// The newest frame in so many eighths.
    pub fn part(&self, eighths: usize) -> Option<&Arc<Part>> {
        self.made.get(eighths)?.part.as_ref()
    }

    /// Nobody asks any more, or the frames have another size now: forget all.
    pub fn clear(&mut self) {
        self.made = Default::default();
        self.thread = None;
    }
}

impl Thread {
    fn start(quality: u8, waker: Arc<Waker>) -> Result<Thread> {
        let failed = |source| Error::new("start", "the scaling thread", source);
        let scaler = Scaler::new(quality).map_err(|error| failed(std::io::Error::other(error)))?;
        let (jobs, todo) = sync_channel(1);
        // A job's answers: one a size, and the end.
        let (answers, done) = sync_channel(8);
        thread::Builder::new()
            .name("scale".into())
            .spawn(move || work(scaler, &todo, &answers, &waker))
            .map_err(failed)?;
        Ok(Thread { jobs, done, works: false })
    }
}

/// Until the loop lets go of its end.
fn work(
    mut scaler: Scaler,
    todo: &Receiver<(Arc<Frame>, Sizes)>,
    answers: &SyncSender<Done>,
    waker: &Waker,
) {
    if let Err(source) = nice(SCALING_NICE) {
        log::debug!("{}", Error::new("stand back in", "the scaling thread", source.into()));
    }
    while let Ok((frame, sizes)) = todo.recv() {
        let small = sizes.iter().filter_map(|n| match scaler.scale(frame.jpeg(), n) {
            Ok(jpeg) => Some(Done::Made(n, Arc::new(frame.with(jpeg)))),
            Err(reason) => {
                log::debug!("a frame that cannot be made smaller: {reason}");
                None
            }
        });
        for done in small.chain([Done::All]) {
            if answers.send(done).is_err() {
                return;
            }
            if let Err(source) = waker.wake() {
                log::error!("{}", Error::new("wake", "the loop", source));
            }
        }
    }
}
