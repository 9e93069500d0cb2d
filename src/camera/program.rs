//! A program that prints JPEGs: started, listened to, and ended with all that it has started.
//!
//! DESIGN. The command goes to the shell, so that quotes, pipes and variables mean what people
//! are used to; the shell leads a process group of its own, and all signals go to the group. The
//! leader is reaped last, for until then the group's number cannot become another's. If we are
//! killed ourselves, a guard does it: a second shell in the group that waits for the end of a
//! pipe of which we have the other end. (The kernel's signal at a parent's death can only be asked
//! for between fork and exec, which is no place for safe code, and reaches one process alone.)

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr2;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::v4l2::wait;
use crate::limits::{
    PIPE_BYTES, PROGRAM_CLOSE_TIME_MAX, PROGRAM_END_TIME_MAX, PROGRAM_KILL_TIME_MAX,
    PROGRAM_LOOK_TIME, PROGRAM_NAME_CHARS_MAX, READ_BYTES, READS_MAX, REMARK_BYTES_MAX,
    REMARK_PERIOD, REMARKS_MAX,
};

/// A running program, or one that has ended and was not reaped yet.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Ends the group if we are not there to do so; its standard input is our end of its pipe.
    guard: Option<Child>,
    /// The leader's number, and the group's.
    group: Pid,
    /// Its standard output; none once it is closed.
    out: Option<OwnedFd>,
    /// Its standard error; none once it is closed.
    err: Option<OwnedFd>,
    reaped: bool,
}

impl Program {
    /// Have the shell run `command`. The program has none of our descriptors, signals as they
    /// are by default, and nothing on its standard input.
    pub fn start(command: &str) -> io::Result<Program> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        let group = Pid::from_child(&child);
        if let Some(out) = &out {
            widen(out.as_fd());
        }
        let guard = guard(&child).inspect_err(|e| log::warn!("guard the camera's program: {e}"));
        Ok(Program { child, guard: guard.ok(), group, out, err, reaped: false })
    }

    pub fn out(&self) -> Option<BorrowedFd<'_>> {
        self.out.as_ref().map(OwnedFd::as_fd)
    }

    pub fn err(&self) -> Option<BorrowedFd<'_>> {
        self.err.as_ref().map(OwnedFd::as_fd)
    }

    /// Hear what it says on standard error, as far as that is there. To be called when there is
    /// something: it waits otherwise.
    pub fn listen(&mut self, remarks: &mut Remarks) {
        let mut bytes = [0u8; READ_BYTES];
        for _ in 0..READS_MAX {
            let Some(err) = &self.err else { return };
            match rustix::io::read(err, &mut bytes) {
                Ok(0) => self.err = None,
                Ok(count) => {
                    remarks.hear(&bytes[..count], Instant::now(), |remark| log::info!("{remark}"));
                    if count < bytes.len() {
                        return; // more is not there
                    }
                    let more = wait([self.err()], Some(Instant::now()));
                    if !more.is_ok_and(|[err]| err.readable) {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.err = None,
            }
        }
    }

    /// End it, and whatever of its group is left: with SIGTERM first, and after
    /// `PROGRAM_END_TIME_MAX` with SIGKILL. If its output has `closed`, it may be ending by
    /// itself. Gives how it ended, if it did so by itself, and the program, if it cannot be ended
    /// (the kernel keeps it).
    pub fn end(mut self, closed: bool, remarks: &mut Remarks) -> (String, Option<Program>) {
        if closed {
            self.out = None;
        }
        let by_itself = closed && self.leaves_within(PROGRAM_CLOSE_TIME_MAX, remarks);
        if !by_itself {
            self.signal(Signal::TERM);
            self.leaves_within(PROGRAM_END_TIME_MAX, remarks);
        }
        self.signal(Signal::KILL); // the guard, and those of the group who stay behind
        let until = Instant::now() + PROGRAM_KILL_TIME_MAX;
        self.leaves_within(PROGRAM_KILL_TIME_MAX, remarks);
        remarks.end_line(|remark| log::info!("{remark}"));
        let mut status = self.reap();
        while !self.reaped && Instant::now() < until {
            thread::sleep(PROGRAM_LOOK_TIME);
            status = status.or(self.reap());
        }
        let manner = match status.filter(|_| by_itself) {
            Some(status) => manner(status),
            None => "it closed its output".to_owned(),
        };
        let told = match remarks.last() {
            "" => manner,
            last => format!("{manner}: {last}"),
        };
        let stuck = !self.reaped;
        (told, stuck.then_some(self))
    }

    /// Whether it has gone for good; then its number is free.
    pub fn is_gone(&mut self) -> bool {
        self.reap();
        self.reaped
    }

    /// How the leader ended, the first time that it is asked after both have.
    fn reap(&mut self) -> Option<ExitStatus> {
        // The leader's number holds the group's. An error: it has been reaped by whoever makes the
        // kernel do so (SIGCHLD ignored).
        if self.guard.as_mut().is_some_and(|guard| matches!(guard.try_wait(), Ok(None))) {
            return None;
        }
        let status = self.child.try_wait();
        self.reaped |= !matches!(status, Ok(None));
        status.ok().flatten()
    }

    /// Whether the leader ends within `limit`. Waits for as long as others hold the pipes, too;
    /// what they still print is thrown away, so that no write keeps them.
    fn leaves_within(&mut self, limit: Duration, remarks: &mut Remarks) -> bool {
        let until = Instant::now() + limit;
        loop {
            let gone = self.has_ended();
            let now = Instant::now();
            if now >= until || (gone && self.out.is_none() && self.err.is_none()) {
                return gone;
            }
            let look = until.min(now + PROGRAM_LOOK_TIME);
            let Ok([out, err]) = wait([self.out(), self.err()], Some(look)) else { return gone };
            if err.readable || err.failed {
                self.listen(remarks);
            }
            if let Some(fd) = self.out.as_ref().filter(|_| out.readable || out.failed) {
                let count = rustix::io::read(fd, &mut [0u8; READ_BYTES]);
                if !count.is_ok_and(|count| count > 0) {
                    self.out = None;
                }
            }
        }
    }

    /// Looks, and leaves it to be reaped.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        if self.reaped {
            return; // the number may be another's
        }
        if let Err(errno) = kill_process_group(self.group, signal) {
            log::debug!("camera: the program's group cannot be signalled: {errno}");
        }
    }
}

/// Start the guard of a program. It outlives SIGTERM, for it may have to follow it up.
fn guard(program: &Child) -> io::Result<Child> {
    const SCRIPT: &str = "trap '' TERM; read _; kill -TERM 0; sleep 1; kill -KILL 0";
    Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .process_group(Pid::from_child(program).as_raw_nonzero().get())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Only where an unwinding panic takes the way of `end`.
impl Drop for Program {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            self.reap();
        }
    }
}

/// Have the kernel hold a whole frame or more, so that fewer wake-ups fetch it. A limit of the
/// system's may be in the way; the pipe is as good then as before.
pub fn widen(pipe: BorrowedFd) {
    let _ = fcntl_setpipe_size(pipe, PIPE_BYTES);
}

fn manner(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit status {code}"),
        (_, Some(signal)) => format!("it was ended by signal {signal}"),
        _ => format!("it ended: {status}"),
    }
}

/// What a command is called in the log: its first word, without the folder.
pub fn name(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or_default();
    name.chars().take(PROGRAM_NAME_CHARS_MAX).collect()
}

/// `text` without what may be a password in the addresses in it (RFC 3986, sections 3.2.1 and 3.4):
/// it is shown to all who see the picture.
pub fn discreet(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c == '"' || c == '\'' || c.is_whitespace();
        let address = &behind[..behind.find(ends).unwrap_or(behind.len())];
        let authority = &address[..address.find('/').unwrap_or(address.len())];
        let begin = authority.rfind('@').inspect(|_| out.push_str("***")).unwrap_or(0);
        let query = address[begin..].find('?').map_or(address.len(), |at| begin + at);
        out.push_str(&discreet(&address[begin..query])); // "concat:http://…|http://…"
        if query < address.len() {
            out.push_str("?***");
        }
        rest = &behind[address.len()..];
    }
    out.push_str(rest);
    out
}

// ---- what it says ---------------------------------------------------------------------------

/// What a program says on standard error, line by line, for the log: no more than
/// `REMARKS_MAX` lines at once, and then one a `REMARK_PERIOD`. Bound: `REMARK_BYTES_MAX`; of what
/// is no text, three times as much.
#[derive(Debug)]
pub struct Remarks {
    name: String,
    /// Of the line that has begun; at most `REMARK_BYTES_MAX`.
    line: Vec<u8>,
    last: String,
    /// Lines that may be logged now.
    credit: u32,
    credited: Instant,
    left_out: u64,
}

impl Remarks {
    /// `name` stands before each line.
    pub fn new(name: String, now: Instant) -> Remarks {
        let (line, last) = (Vec::new(), String::new());
        Remarks { name, line, last, credit: REMARKS_MAX, credited: now, left_out: 0 }
    }

    /// Before the program is started again.
    pub fn begin(&mut self) {
        self.line.clear();
        self.last.clear();
    }

    /// The last line that had something in it.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Take in what it says. A carriage return ends a line, too: progress is shown with it.
    pub fn hear(&mut self, bytes: &[u8], now: Instant, mut say: impl FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.add(&rest[..end]);
            self.tell(now, &mut say);
            rest = &rest[end + 1..];
        }
        self.add(rest);
    }

    /// Nothing more comes: the line that has begun is one.
    pub fn end_line(&mut self, mut say: impl FnMut(&str)) {
        self.tell(self.credited, &mut say);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = REMARK_BYTES_MAX - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn tell(&mut self, now: Instant, say: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line);
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        self.line.clear();
        if text.trim().is_empty() {
            return;
        }
        self.last = discreet(text.trim());
        while self.credit < REMARKS_MAX && now >= self.credited + REMARK_PERIOD {
            self.credit += 1;
            self.credited += REMARK_PERIOD;
        }
        if self.credit == 0 {
            self.left_out += 1;
            return;
        }
        if self.credit == REMARKS_MAX {
            self.credited = now;
        }
        self.credit -= 1;
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            say(&format!("{}: ({left_out} lines left out)", self.name));
        }
        say(&format!("{}: {}", self.name, self.last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let check = |text: &str, expect: &str| assert_eq!(discreet(text), expect);
        check(
            "ffmpeg -i rtsp://me:se@cret@cam/1 -f mjpeg -",
            "ffmpeg -i rtsp://***@cam/1 -f mjpeg -",
        );
        check("'http://u@h' \"https://u:p@h\"", "'http://***@h' \"https://***@h\"");
        check("rtsp://cam/a@b: refused", "rtsp://cam/a@b: refused");
        check("rpicam-vid -o - # me@home", "rpicam-vid -o - # me@home");
        check("a://b:c@", "a://***@");
        check("'http://cam/v.cgi?user=me&pwd=x' -f", "'http://cam/v.cgi?***' -f");
        check("rtsp://me:a?b@cam/1?c", "rtsp://***@cam/1?***");
        check("http://a/1?x|http://u:p@b/", "http://a/1?***");
        check("concat:http://a/1|http://u:p@b/?x y?", "concat:http://a/1|http://***@b/?*** y?");
        check("", "");
    }

    #[test]
    fn a_command_is_called_by_its_first_word() {
        assert_eq!(name("/usr/bin/rpicam-vid -n -t 0"), "rpicam-vid");
        assert_eq!(name("  "), "");
    }

    #[test]
    fn lines_end_as_programs_end_them() {
        let start = Instant::now();
        let mut remarks = Remarks::new("p".into(), start);
        let mut said = Vec::new();
        let mut say = |line: &str| said.push(line.to_owned());
        for bytes in [&b"one\ntw"[..], b"o\r\n\r\n  \nthree\rfo\x1b[31mu\xffr", b"\n", b"five"] {
            remarks.hear(bytes, start, &mut say);
        }
        assert_eq!(remarks.last(), "fo[31mu\u{fffd}r");
        remarks.end_line(&mut say);
        assert_eq!(remarks.last(), "five");
        assert_eq!(said, ["p: one", "p: two", "p: three", "p: fo[31mu\u{fffd}r", "p: five"]);
        remarks.begin();
        assert_eq!(remarks.last(), "");
    }

    #[test]
    fn who_talks_much_is_quoted_little() {
        let start = Instant::now();
        let mut remarks = Remarks::new("p".into(), start);
        let said = std::cell::RefCell::new(Vec::<String>::new());
        let mut talk = |at: Duration, lines: usize| {
            let text = "a line that is the same each time\n".repeat(lines);
            for piece in text.as_bytes().chunks(1000) {
                remarks.hear(piece, start + at, |line| said.borrow_mut().push(line.into()));
            }
            said.borrow_mut().drain(..).count()
        };
        assert_eq!(talk(Duration::ZERO, 100_000), REMARKS_MAX as usize);
        assert_eq!(talk(REMARK_PERIOD / 2, 1000), 0);
        assert_eq!(talk(REMARK_PERIOD, 1000), 2, "how many were left out, and one of them");
        assert_eq!(talk(REMARK_PERIOD * 3, 1), 2);
        let rested = REMARK_PERIOD * (REMARKS_MAX + 9);
        assert_eq!(talk(rested, 1000), REMARKS_MAX as usize);
        assert_eq!(talk(rested + REMARK_PERIOD * 2, 1000), 3);
        let mut long = Remarks::new("p".into(), start);
        for _ in 0..1000 {
            long.hear(&[b'x'; 4096], start, |_| panic!("it has not ended"));
        }
        long.end_line(|_| {});
        assert_eq!(long.last().len(), REMARK_BYTES_MAX);
    }
}
