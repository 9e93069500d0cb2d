//! The disk thread: the only room that opens, lists, reads or writes files.
//!
//! DESIGN. A file is always "ready", as far as `poll` knows; reading one on a slow card can
//! still take seconds. So the loop never touches a file: it hands a `Job` to this thread and goes
//! on; the answer comes back as a `Done`, and the waker ends the loop's sleep. A job carries a
//! `Ticket`, whose it is; if that guest has left meanwhile, nobody claims the answer and it is
//! dropped. The queue has a limit; past it a new page is answered 503 at once, a download that has
//! begun waits its turn, and the streams, which need no disk, run on.

mod folder;
pub mod gallery;
mod notes;
mod page;
mod site;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use mio::Waker;

use self::folder::Folder;
use self::notes::Notes;
use self::site::{Page, Site};
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
    /// The note at a clean path below `/md/`, without that; or its source.
    OpenNote { path: String, raw: bool },
    /// Bytes of a file that an answer brought.
    ReadChunk { file: OpenFile, offset: u64, length: usize },
}

/// What it says.
#[derive(Debug)]
pub enum Answer {
    /// A whole response; the file if its body is to be pulled.
    Page(Response, Option<OpenFile>),
    /// The bytes read, none if the file broke off; and the file back.
    Chunk(Vec<u8>, OpenFile),
}

/// A file that a client is being sent: the loop keeps it between two chunks and cannot touch it.
#[derive(Debug)]
pub struct OpenFile(File);

type Job = (Ticket, Task);
pub type Done = (Ticket, Answer);

/// The loop's side of the disk thread.
#[derive(Debug)]
pub struct Disk {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
    /// Chunks for which the queue had no room. INVARIANT: one a guest at most, since a guest
    /// asks for its next chunk when it has sent the last.
    waiting: VecDeque<Job>,
}

/// The queue is full.
#[derive(Debug)]
pub struct Busy;

impl Disk {
    /// Start the thread for pages below `www` and notes below `md`.
    pub fn start(www: PathBuf, md: PathBuf, waker: Arc<Waker>) -> Result<Disk> {
        let (jobs, todo) = sync_channel::<Job>(JOBS_MAX);
        // The thread waits here if the loop is behind with fetching answers.
        let (answers, done) = sync_channel::<Done>(JOBS_MAX + 1);
        let site = Site::new(Folder::new(www));
        let notes = Notes::new(Folder::new(md));
        thread::Builder::new()
            .name("disk-read".into())
            .spawn(move || work(&site, notes, &todo, &answers, &waker))
            .map_err(|source| Error::new("start", "the disk thread", source))?;
        Ok(Disk { jobs, done, waiting: VecDeque::new() })
    }

    /// Give a job to the thread. A page is refused when too many jobs are waiting.
    pub fn ask(&mut self, ticket: Ticket, task: Task) -> std::result::Result<(), Busy> {
        let begins = !matches!(task, Task::ReadChunk { .. });
        if begins && !self.waiting.is_empty() {
            return Err(Busy);
        }
        match self.jobs.try_send((ticket, task)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) if begins => Err(Busy),
            Err(TrySendError::Full(job)) => {
                self.waiting.push_back(job);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => unreachable!("the process ends with its disk"),
        }
    }

    /// The next answer that is there.
    pub fn done(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        if let Some(job) = self.waiting.pop_front()
            && let Err(TrySendError::Full(job)) = self.jobs.try_send(job)
        {
            self.waiting.push_front(job);
        }
        Some(done)
    }
}

fn work(
    site: &Site,
    mut notes: Notes,
    todo: &Receiver<Job>,
    answers: &SyncSender<Done>,
    waker: &Waker,
) {
    let _abort = AbortOnPanic;
    while let Ok((ticket, task)) = todo.recv() {
        let answer = match task {
            Task::OpenPage(path) => page(site.open(&path)),
            Task::OpenNote { path, raw } => page(notes.open(&path, raw)),
            Task::ReadChunk { file, offset, length } => {
                let mut bytes = vec![0; length];
                let read = file.0.read_at(&mut bytes, offset).unwrap_or_else(|source| {
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

fn page(found: Result<Option<Page>>) -> Answer {
    match found {
        Ok(Some((response, file))) => Answer::Page(response, file),
        Ok(None) => Answer::Page(Response::not_found(), None),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_panic_of_the_disk_thread_ends_the_process() {
        const INSIDE: &str = "PISTREAM_TEST_PANIC";
        if std::env::var_os(INSIDE).is_some() {
            let thread = thread::spawn(|| {
                let _abort = AbortOnPanic;
                panic!("the fault of this test");
            });
            let _ = thread.join();
            return; // not reached
        }
        let name = "disk::tests::a_panic_of_the_disk_thread_ends_the_process";
        let myself = std::env::current_exe().unwrap();
        let output = Command::new(myself).args(["--exact", name]).env(INSIDE, "1").output();
        assert_eq!(output.unwrap().status.signal(), Some(libc::SIGABRT));
    }
}
