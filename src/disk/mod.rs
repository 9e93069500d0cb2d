//! The disk thread: the only room that opens, lists, reads or writes files.
//!
//! DESIGN. A file is always "ready", as far as `poll` knows; reading one on a slow card can
//! still take seconds. So the loop never touches a file: it hands a `Job` to this thread and goes
//! on; the answer comes back as a `Done`, and the waker ends the loop's sleep. A job carries a
//! `Ticket`, whose it is; if that guest has left meanwhile, nobody claims the answer and it is
//! dropped. The queue has a limit; past it a page is answered 503 at once, and the streams, which
//! need no disk, run on.

pub mod site;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use mio::Waker;

use self::site::{Found, Site};
use crate::error::{Error, Result};
use crate::http::response::{Response, Status};
use crate::limits::JOBS_MAX;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The seat's index.
    pub seat: usize,
    /// Who sat there when the job was given: seats are used again.
    pub guest: u64,
}

/// What the disk thread is asked.
#[derive(Debug)]
pub enum Task {
    /// The page at a clean path: `http::request::Request::path`.
    OpenPage(String),
    /// Bytes of a file that an answer brought.
    ReadChunk { file: File, offset: u64, length: usize },
}

/// What it says.
#[derive(Debug)]
pub enum Answer {
    /// A whole response; the file if its body is to be pulled.
    Page(Response, Option<File>),
    /// The bytes read, none if the file broke off; and the file back.
    Chunk(Vec<u8>, File),
}

type Job = (Ticket, Task);
pub type Done = (Ticket, Answer);

/// The loop's side of the disk thread.
#[derive(Debug)]
pub struct Disk {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
}

/// The queue is full.
#[derive(Debug)]
pub struct Busy;

impl Disk {
    /// Start the thread for pages below `www`.
    pub fn start(www: PathBuf, waker: Arc<Waker>) -> Result<Disk> {
        let (jobs, todo) = sync_channel::<Job>(JOBS_MAX);
        // As many answers as there can be jobs, and the one at hand: `send` never waits.
        let (answers, done) = sync_channel::<Done>(JOBS_MAX + 1);
        let site = Site::new(www);
        thread::Builder::new()
            .name("disk-read".into())
            .spawn(move || work(&site, &todo, &answers, &waker))
            .map_err(|source| Error::new("start", "the disk thread", source))?;
        Ok(Disk { jobs, done })
    }

    /// Give a job to the thread, if its queue has room.
    pub fn ask(&self, ticket: Ticket, task: Task) -> std::result::Result<(), Busy> {
        match self.jobs.try_send((ticket, task)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Busy),
            Err(TrySendError::Disconnected(_)) => unreachable!("the process ends with its disk"),
        }
    }

    /// The next answer that is there.
    pub fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

fn work(site: &Site, todo: &Receiver<Job>, answers: &SyncSender<Done>, waker: &Waker) {
    let _abort = AbortOnPanic;
    while let Ok((ticket, task)) = todo.recv() {
        let answer = match task {
            Task::OpenPage(path) => page(site, &path),
            Task::ReadChunk { file, offset, length } => {
                let mut bytes = vec![0; length];
                let read = file.read_at(&mut bytes, offset).unwrap_or_else(|source| {
                    log::warn!("{}", Error::new("read", "a page's file", source));
                    0
                });
                bytes.truncate(read);
                Answer::Chunk(bytes, file)
            }
        };
        if answers.send((ticket, answer)).is_err() {
            return; // the loop has ended
        }
        if let Err(source) = waker.wake() {
            log::error!("{}", Error::new("wake", "the loop", source));
        }
    }
}

fn page(site: &Site, path: &str) -> Answer {
    match site.open(path) {
        Ok(Found::Page(response)) => Answer::Page(response, None),
        Ok(Found::File(response, file)) => Answer::Page(response, Some(file)),
        Ok(Found::Nothing) => {
            Answer::Page(Response::sentence(Status::NotFound, "There is no such page."), None)
        }
        Err(error) => {
            log::warn!("{error}");
            let sentence = "This page cannot be read from the disk; the log says why.";
            Answer::Page(Response::sentence(Status::InternalError, sentence), None)
        }
    }
}

/// A panic here is our fault and leaves answers owed for ever: better to start again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
