//! What stands in for the disk threads when the loop is tried: no file is touched, and each answer
//! comes when it is asked for.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use super::{Answer, Change, Disk, Done, Job, OpenFile, Source, Task, Worker, queues};
use crate::http::response::{Body, Response, Status};
use crate::limits::{CHANGES_MAX, JOBS_MAX};

/// Bytes of each file.
pub const FILE_BYTES: u64 = 200_000;

/// The other ends of a disk's queues.
pub struct InventedDisk {
    reader: Thread<Task>,
    writer: Thread<Change>,
    /// What all files below `/file/` hold: `FILE_BYTES` of it.
    content: File,
}

struct Thread<T> {
    jobs: Receiver<Job<T>>,
    answers: SyncSender<Done>,
    /// For this one, the loop had no room yet.
    answer: Option<Done>,
}

impl<T> Thread<T> {
    fn new((jobs, answers): Worker<T>) -> Thread<T> {
        Thread { jobs, answers, answer: None }
    }

    /// Do the next job; whether there is news for the loop.
    fn step(&mut self, work: impl FnOnce(T) -> Answer) -> bool {
        if self.answer.is_none() {
            let Ok((ticket, task)) = self.jobs.try_recv() else { return false };
            self.answer = Some((ticket, work(task)));
        }
        let Some(answer) = self.answer.take() else { return false };
        match self.answers.try_send(answer) {
            Ok(()) => true,
            Err(TrySendError::Full(answer) | TrySendError::Disconnected(answer)) => {
                self.answer = Some(answer);
                false
            }
        }
    }
}

impl InventedDisk {
    pub fn new(content: File) -> (Disk, InventedDisk) {
        let ((reading, reader), (changing, writer)) = (queues(JOBS_MAX), queues(CHANGES_MAX));
        let (reader, writer) = (Thread::new(reader), Thread::new(writer));
        (Disk::new(reading, changing), InventedDisk { reader, writer, content })
    }

    /// The reading thread does a job, or fails at it; whether there is news for the loop. A page
    /// says its own path.
    pub fn read(&mut self, fails: bool) -> bool {
        let content = &self.content;
        self.reader.step(|task| match task {
            Task::ReadChunk { file, .. } if fails => Answer::Chunk(Vec::new(), file),
            Task::ReadChunk { mut file, offset, length } => {
                Answer::Chunk(file.read(offset, length).expect("its content"), file)
            }
            _ if fails => page(Status::InternalError, "the disk fails"),
            Task::OpenPage { path, .. } if path.starts_with("/file/") => {
                let kind = "application/octet-stream";
                let response = Response::new(Status::Ok, kind, Body::Pulled(FILE_BYTES));
                let file = content.try_clone().expect("a descriptor");
                Answer::Page(response, Some(OpenFile(Source::File(file))))
            }
            Task::OpenPage { path, .. } => page(Status::Ok, &path),
            _ => page(Status::Ok, "another page"),
        })
    }

    /// The same for the thread that makes changes.
    pub fn write(&mut self, fails: bool) -> bool {
        self.writer.step(|change| match change {
            Change::Save { camera, .. } => {
                let (status, outcome) = match fails {
                    true => (Status::InsufficientStorage, Err("the disk fails".to_owned())),
                    false => (Status::Created, Ok(())),
                };
                Answer::Photo { response: Response::sentence(status, "photo"), camera, outcome }
            }
            Change::Settings(_) => Answer::Settings(Ok(())),
            _ => page(Status::Ok, "changed"),
        })
    }
}

fn page(status: Status, sentence: &str) -> Answer {
    Answer::Page(Response::sentence(status, sentence), None)
}
