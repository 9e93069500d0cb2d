//! The disk threads: the only room that opens, lists, reads, writes or removes files.
//!
//! DESIGN. A file is always "ready", as far as `poll` knows; reading one on a slow card can
//! still take seconds. So the loop never touches a file: it hands a `Job` to a thread and goes on;
//! the answer comes back as a `Done`, and the waker ends the loop's sleep. One thread reads: pages,
//! notes, lists, thumbnails. The other makes changes that last: photos saved, kept, deleted. It
//! waits for the medium after each, which may take seconds, and the pages do not wait with it.
//!
//! A job carries a `Ticket`, whose it is; if that guest has left meanwhile, nobody claims the
//! answer and it is dropped. What was asked is done all the same. The queues have limits; past
//! them the answer is 503 at once, a download that has begun waits its turn, and the streams,
//! which need no disk, run on.

mod album;
mod archive;
mod changes;
mod controls;
mod durable;
pub mod folder;
mod gallery;
#[cfg(test)]
pub mod invented;
mod machine;
mod metrics;
mod notes;
pub mod page;
pub mod photo;
mod photos;
mod plot;
#[cfg(test)]
mod scratch;
mod settings;
mod site;
mod status;
mod thumbnail;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use mio::Waker;

use self::album::Album;
use self::archive::Archive;
use self::changes::Changes;
use self::changes::Room;
pub use self::changes::{Back, NOTHING_DONE};
pub use self::controls::Panel;
use self::folder::Folder;
pub use self::machine::memory;
use self::notes::Notes;
pub use self::photo::PhotoName;
pub use self::photos::Outcome;
use self::photos::Photos;
use self::settings::SettingsFile;
use self::site::{Page, Site};
pub use self::status::{CameraFacts, Drops, Facts, Interval, Memory, Sample, Viewer};
use crate::config::{Config, MD, WWW};
use crate::control::Kept;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::http::phrases::Lang;
use crate::http::response::{Response, Status};
use crate::limits::{CHANGES_MAX, JOBS_MAX};
use crate::thread::wake;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The seat's index.
    pub seat: usize,
    /// Who sat there when the job was given: seats are used again.
    pub guest: u64,
}

/// What the thread that reads is asked. Bound: what one request can say, `HEAD_BYTES_MAX`.
#[derive(Debug)]
pub enum Task {
    /// The page at a clean path: `http::request::Request::path`.
    OpenPage { path: String, lang: Lang },
    /// The note at a clean path below `/md/`, without that; or its source.
    OpenNote { path: String, raw: bool, lang: Lang },
    /// A photo's file.
    OpenPhoto(PhotoName),
    /// Its thumbnail, and the version that the address names.
    OpenThumbnail { name: PhotoName, version: Option<String> },
    /// A page of the gallery, counted from 1, with a word on what was done before.
    Gallery { page: usize, outcome: Outcome, lang: Lang },
    /// The page of one photo, or of the newest.
    View { name: Option<PhotoName>, lang: Lang },
    /// These photos in one file, at most `NAMES_MAX`; all of them if none is named.
    Archive(Vec<PhotoName>),
    /// How the house stands, as a page or for a program.
    Status { facts: Box<Facts>, page: bool, lang: Lang },
    /// The same for Prometheus.
    Metrics(Box<Facts>),
    /// How the interval photos stand.
    Interval { interval: Option<Interval>, page: bool, lang: Lang },
    /// A camera's controls.
    Controls { panel: Box<Panel>, page: bool, lang: Lang },
    /// Bytes of a file that an answer brought.
    ReadChunk { file: OpenFile, offset: u64, length: usize },
}

impl Task {
    /// Bytes of memory that one who asks for it again and again makes us hold, until it is done.
    pub fn bytes(&self) -> usize {
        match self {
            Task::Status { facts, .. } | Task::Metrics(facts) => facts.bytes(),
            _ => 0,
        }
    }
}

/// What the thread that makes lasting changes is asked. Bound: `NAMES_MAX` photos.
#[derive(Debug)]
pub enum Change {
    /// Save a photo of this camera, counted from 0. `page`: whoever asked wants to see it, not to
    /// read about it.
    Save { frame: Arc<Frame>, camera: usize, page: bool },
    /// Delete photos. Without `back`, as an answer to DELETE of one.
    Delete { names: Vec<PhotoName>, back: Option<Back> },
    /// Mark photos as kept or not.
    Keep { names: Vec<PhotoName>, keep: bool, back: Back },
    /// Save what somebody has set of the cameras' controls: what is new of it.
    Settings(Kept),
}

/// What they say. Bound: sentences of the code's.
#[derive(Debug)]
pub enum Answer {
    /// A whole response; the file if its body is to be pulled.
    Page(Response, Option<OpenFile>),
    /// The bytes read, at most `CHUNK_BYTES`, none if the file broke off; and the file back.
    Chunk(Vec<u8>, OpenFile),
    /// A camera's photo was saved, or why not; and the response that says so.
    Photo { response: Response, camera: usize, outcome: std::result::Result<(), String> },
    /// The settings were saved, or why not.
    Settings(std::result::Result<(), String>),
}

/// A file that a client is being sent: the loop keeps it between two chunks and cannot touch it.
#[derive(Debug)]
pub struct OpenFile(Source);

#[derive(Debug)]
enum Source {
    File(File),
    Archive(Archive),
}

type Job<T> = (Option<Ticket>, T);
/// An answer, and whom it is for; none if nobody waits for it.
pub type Done = (Option<Ticket>, Answer);

/// The loop's side of the disk threads.
#[derive(Debug)]
pub struct Disk {
    jobs: SyncSender<Job<Task>>,
    changes: SyncSender<Job<Change>>,
    done: Receiver<Done>,
    changed: Receiver<Done>,
    /// Changes that were asked for and not answered yet.
    unfinished: usize,
    /// Chunks for which the queue had no room. INVARIANT: one an open file. Bound: no more than
    /// were opened while nothing waited here: `VIEWERS_MAX` and `SPARE_SEATS` of guests who are
    /// there, and `JOBS_MAX` in each of the two queues, whose guests may have left.
    waiting: VecDeque<Job<Task>>,
}

/// A small file of the operator's, read at the start.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String> {
    let failed = |source| Error::new("read", path.display(), source);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(bytes_max + 1).read_to_string(&mut text).map_err(failed)?;
    match read as u64 <= bytes_max {
        true => Ok(text),
        false => Err(Error::found("read", path.display(), "it is too large".to_owned())),
    }
}

/// The queue is full.
#[derive(Debug)]
pub struct Busy;

impl Disk {
    /// Start the threads for the folders that `config` names; and what its file of settings has.
    pub fn start(config: &Config, waker: Arc<Waker>) -> Result<(Disk, Kept)> {
        let settings = config.save_controls.as_deref().map(SettingsFile::open).transpose()?;
        let kept = settings.as_ref().map(|file| file.kept().clone()).unwrap_or_default();
        photo::make_folder(&config.pic).map_err(photo::advise)?;
        let album = Arc::new(Album::new(config.pic.clone()));
        let reader = Reader {
            site: Site::new(Folder::new(config.www.clone()), config.cameras.len()),
            notes: Notes::new(Folder::new(config.md.clone())),
            photos: Photos::new(album.clone()),
            named: [("--www", &config.www, WWW), ("--md", &config.md, MD)]
                .map(|(option, path, usual)| (option, path.clone(), path == Path::new(usual))),
        };
        let changes = Changes::new(album, Room::of(config), settings);
        let (reading, todo) = queues(JOBS_MAX);
        spawn("disk-read", todo, waker.clone(), reader)?;
        let (changing, todo) = queues(CHANGES_MAX);
        spawn("disk-write", todo, waker, changes)?;
        Ok((Disk::new(reading, changing), kept))
    }

    fn new((jobs, done): Client<Task>, (changes, changed): Client<Change>) -> Disk {
        Disk { jobs, changes, done, changed, unfinished: 0, waiting: VecDeque::new() }
    }

    /// Give a job to the reading thread. A page is refused when too many jobs are waiting.
    pub fn ask(&mut self, ticket: Ticket, task: Task) -> std::result::Result<(), Busy> {
        let begins = !matches!(task, Task::ReadChunk { .. });
        if begins && !self.waiting.is_empty() {
            return Err(Busy);
        }
        match self.jobs.try_send((Some(ticket), task)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) if begins => Err(Busy),
            Err(TrySendError::Full(job)) => {
                self.waiting.push_back(job);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => unreachable!("the process ends with its disk"),
        }
    }

    /// Have something changed for good; the answer is for `ticket`, if for anybody.
    pub fn change(
        &mut self,
        ticket: Option<Ticket>,
        change: Change,
    ) -> std::result::Result<(), Busy> {
        self.changes.try_send((ticket, change)).map_err(|_| Busy)?;
        self.unfinished += 1;
        Ok(())
    }

    /// Changes that are not on the medium yet.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The next answer that is there.
    pub fn done(&mut self) -> Option<Done> {
        if let Ok(changed) = self.changed.try_recv() {
            self.unfinished -= 1;
            return Some(changed);
        }
        let done = self.done.try_recv().ok()?;
        if let Some(job) = self.waiting.pop_front()
            && let Err(TrySendError::Full(job)) = self.jobs.try_send(job)
        {
            self.waiting.push_front(job);
        }
        Some(done)
    }
}

/// The loop's ends of a thread's queues, and the thread's.
type Client<T> = (SyncSender<Job<T>>, Receiver<Done>);
type Worker<T> = (Receiver<Job<T>>, SyncSender<Done>);

fn queues<T>(jobs_max: usize) -> (Client<T>, Worker<T>) {
    let (jobs, todo) = sync_channel(jobs_max);
    // The thread waits with its answer if the loop is behind with fetching them.
    let (answers, done) = sync_channel(jobs_max + 1);
    ((jobs, done), (todo, answers))
}

/// What a disk thread does all day.
trait Work<T>: Send + 'static {
    fn answer(&mut self, task: T) -> Answer;

    /// Before the first job.
    fn begin(&mut self) {}

    /// What can wait until after an answer.
    fn tidy(&mut self) {}
}

/// Start a thread that does one job after the other.
fn spawn<T: Send + 'static>(
    name: &str,
    (todo, answers): Worker<T>,
    waker: Arc<Waker>,
    mut work: impl Work<T>,
) -> Result<()> {
    let run = move || {
        let _abort = AbortOnPanic;
        work.begin();
        while let Ok((ticket, task)) = todo.recv() {
            let answer = work.answer(task);
            if answers.send((ticket, answer)).is_err() {
                return; // the loop has ended
            }
            wake(&waker);
            work.tidy();
        }
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|source| Error::new("start", "a disk thread", source))?;
    Ok(())
}

/// The thread that reads.
struct Reader {
    site: Site,
    notes: Notes,
    photos: Photos,
    /// The folders that were named, by which option, and whether that is where they usually are.
    named: [(&'static str, PathBuf, bool); 2],
}

impl Work<Task> for Reader {
    /// Say which folder is not as its option wants it. The site goes on without it.
    fn begin(&mut self) {
        for (option, path, usual) in &self.named {
            match Folder::new(path.clone()).check() {
                Ok(()) => {}
                Err(error) if *usual && error.source().kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let remedy = match error.source().kind() {
                        io::ErrorKind::PermissionDenied => "let the user that runs pistream read",
                        _ => "the site does without it until it is there: make",
                    };
                    log::warn!("{}", error.advising(&format!("{remedy} the folder of {option}")));
                }
            }
        }
    }

    fn answer(&mut self, task: Task) -> Answer {
        match task {
            Task::OpenPage { path, lang } => page(self.site.open(&path, lang)),
            Task::OpenNote { path, raw, lang } => page(self.notes.open(&path, raw, lang)),
            Task::OpenPhoto(name) => page(self.photos.file(name)),
            Task::OpenThumbnail { name, version } => {
                page(self.photos.thumbnail(name, version.as_deref()))
            }
            Task::Gallery { page: n, outcome, lang } => {
                page(self.photos.gallery(n, outcome, lang).map(Some))
            }
            Task::View { name, lang } => page(self.photos.view(name, lang)),
            Task::Archive(names) => page(self.photos.archive(names)),
            Task::Status { facts, page: person, lang } => {
                page(self.photos.status(&facts, person, lang).map(Some))
            }
            Task::Metrics(facts) => page(self.photos.metrics(&facts).map(Some)),
            Task::Interval { interval, page: person, lang } => {
                page(self.photos.interval(interval.as_ref(), person, lang).map(Some))
            }
            Task::Controls { panel, page: person, lang } => {
                page(controls::answer(&panel, person, lang).map(Some))
            }
            Task::ReadChunk { mut file, offset, length } => {
                let read = file.read(offset, length).unwrap_or_else(|error| {
                    log::warn!("{error}");
                    Vec::new()
                });
                Answer::Chunk(read, file)
            }
        }
    }
}

impl OpenFile {
    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        match &mut self.0 {
            Source::Archive(archive) => archive.next(length),
            Source::File(file) => {
                let mut bytes = vec![0; length];
                let read = file.read_at(&mut bytes, offset);
                bytes.truncate(read.map_err(|e| Error::new("read", "a page's file", e))?);
                Ok(bytes)
            }
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
