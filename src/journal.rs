//! The log's way out: a thread of its own writes the lines to standard error.
//!
//! Standard error can be a pipe that nobody reads, a terminal that was paused, a file on a slow
//! card. Whoever logs hands the line over and goes on; past `LOG_BYTES_MAX` of waiting lines a
//! line is counted and left out, and the count is written when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, LOG_TIME_MAX};

/// What the logger writes into. Never waits and never fails.
#[derive(Debug)]
pub struct Journal {
    /// Bound: `LOG_BYTES_MAX`, by `Counts::waiting`: a queue with places would hold memory for all
    /// of them.
    lines: Sender<Vec<u8>>,
    counts: Arc<Counts>,
}

/// Waits at the end for the last lines.
#[derive(Debug)]
pub struct Ending {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes handed over and not yet written.
    waiting: AtomicUsize,
    /// Lines left out.
    lost: AtomicU64,
}

/// Start the thread.
pub fn start() -> Result<(Journal, Ending)> {
    let (lines, todo) = channel();
    let counts = Arc::new(Counts::default());
    let writers = counts.clone();
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write(&todo, &writers, io::stderr()))
        .map_err(|source| Error::new("start", "the log's thread", source))?;
    Ok((Journal { lines, counts: counts.clone() }, Ending { counts }))
}

fn write(todo: &Receiver<Vec<u8>>, counts: &Counts, mut out: impl Write) {
    while let Ok(line) = todo.recv() {
        // A log that cannot be written has nobody to complain to.
        let lost = counts.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            let _ = writeln!(out, "WARN  log: {lost} lines left out, they came too fast");
        }
        let _ = out.write_all(&line);
        counts.waiting.fetch_sub(line.len(), Ordering::AcqRel);
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The logger lets one line through at a time, so the bound holds.
        let fits = self.counts.waiting.load(Ordering::Acquire) + line.len() <= LOG_BYTES_MAX;
        if !fits {
            self.counts.lost.fetch_add(1, Ordering::AcqRel);
            return Ok(line.len());
        }
        self.counts.waiting.fetch_add(line.len(), Ordering::AcqRel); // before the writer subtracts
        if self.lines.send(line.to_vec()).is_err() {
            self.counts.waiting.fetch_sub(line.len(), Ordering::AcqRel);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ending {
    /// Wait until all lines are written, but not for ever.
    pub fn finish(&self) {
        let end = Instant::now() + LOG_TIME_MAX;
        while self.counts.waiting.load(Ordering::Acquire) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes what is written; waits while somebody holds the lock.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_log_blocks_nobody_and_says_what_it_left_out() {
        let (lines, todo) = channel();
        let counts = Arc::new(Counts::default());
        let mut journal = Journal { lines, counts: counts.clone() };
        let out = Out::default();
        let held = out.0.lock().unwrap();
        let writer = {
            let (out, counts) = (out.clone(), counts.clone());
            thread::spawn(move || write(&todo, &counts, out))
        };
        for n in 0..100_000 {
            journal.write_all(format!("line {n}\n").as_bytes()).unwrap(); // as the logger does
        }
        drop(held);
        let ending = Ending { counts };
        ending.finish();
        journal.write_all(b"last\n").unwrap();
        ending.finish();
        drop(journal);
        writer.join().unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with("last\n"), "{text}");
        let kept = text.lines().filter(|line| line.starts_with("line ")).count();
        let lost = text.lines().filter_map(|line| {
            line.strip_prefix("WARN  log: ")?.split(' ').next()?.parse::<usize>().ok()
        });
        let lost: usize = lost.sum();
        assert!(lost > 0);
        assert_eq!(kept + lost, 100_000);
    }
}
