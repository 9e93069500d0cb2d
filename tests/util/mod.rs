//! What the tests of the real binary share: the program as a child ([`Server`]), a scratch folder
//! ([`Folder`]), deadlines ([`until`]) and a strict client ([`client`]).
//!
//! Nothing here repairs what the server sends: a reply that is not exactly what RFC 9112 and
//! the project's contract say is an error, so that a test cannot pass by luck.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod console;
pub mod crowd;
pub mod debian;
pub mod go2rtc;
pub mod guest;
pub mod mount;
pub mod numbered;
pub mod photos;
pub mod pi;
pub mod preload;
pub mod stamp;

use std::io::{BufRead, BufReader, PipeWriter, Read, pipe};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::{Client, Head, Jpegs, Part, Parts, Reply, Stream, decode, get, parts};

/// How long a test waits for something that must happen; only a fault ever takes this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test: `PISTREAM_BIN`, else the one that cargo built with these tests.
pub fn binary() -> PathBuf {
    match std::env::var_os("PISTREAM_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_pistream")),
    }
}

/// Slow tests (half a minute and more) run only with `PISTREAM_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("PISTREAM_LONG").is_some_and(|value| value == "1")
}

/// Where `scripts/test --long` has put what is no package of Debian.
#[track_caller]
pub fn installed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable}: scripts/test --long sets it"))
}

/// Asks every few milliseconds until `question` has an answer; `None` when `limit` is over.
pub fn until<T>(limit: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers that look random and are the same each time.
pub struct Chance(pub u64);

impl Chance {
    /// The next one, below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "the median of nothing");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The program with a clean environment: no `PISTREAM_…` of the tests' own reaches it.
pub fn command(args: &[&str]) -> Command {
    let mut command = clean(Command::new(binary()));
    command.args(args);
    command
}

/// The same by way of a shell: a `line` of it, in which `"$@"` stands for the program.
pub fn command_by(line: &str, args: &[&str]) -> Command {
    let mut command = clean(Command::new("sh"));
    command.args(["-c", line, "sh"]).arg(binary()).args(args);
    command
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PISTREAM_") {
            command.env_remove(name);
        }
    }
    command.env("RUST_LOG", "debug").stdin(Stdio::null());
    command
}

/// What a run that ends by itself printed, and how it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A refusal to start: this exit code, one line on standard error, and that line.
#[track_caller]
pub fn one_line(ended: &Ended, code: i32) -> String {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    ended.stderr.trim_end().to_owned()
}

/// Runs the program to its end, at most [`PATIENCE`]; one that stays is killed and a failure.
#[track_caller]
pub fn run(args: &[&str]) -> Ended {
    run_command(command(args))
}

/// The same for a command that the caller made with [`command`], to change its environment.
#[track_caller]
pub fn run_command(mut command: Command) -> Ended {
    let folder = Folder::new();
    let mut child = command
        .env_remove("RUST_LOG")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("text on stdout");
        text
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text on stderr");
        text
    });
    let status = until(PATIENCE, || child.try_wait().expect("wait for the program"));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("{command:?} did not end:\n{stderr}"));
    Ended { status, stdout, stderr }
}

/// A new empty folder, removed with all that is in it when dropped.
pub struct Folder(PathBuf);

impl Folder {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("pistream-test-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Folder(path),
                // Left by a killed run whose process number came round again.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("create {}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folder as an argument of the command line.
    pub fn arg(&self) -> &str {
        self.0.to_str().expect("a temporary folder with a plain name")
    }

    /// Writes a file, and the folders that it stands in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).expect("make a folder");
        std::fs::write(&path, content).expect("write a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Standard error so far, and whether it has come to its end.
#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Log {
    fn copy(&self) -> String {
        self.text.lock().unwrap().0.clone()
    }

    /// The log of a program that has ended.
    fn whole(&self) -> String {
        let log = self.text.lock().unwrap();
        let closed = self.grown.wait_timeout_while(log, PATIENCE, |(_, closed)| !*closed);
        closed.unwrap().0.0.clone()
    }

    /// The first line from byte `from` on that contains `pattern`.
    fn wait_for(&self, from: usize, pattern: &str, limit: Duration) -> Option<String> {
        let end = Instant::now() + limit;
        let mut log = self.text.lock().unwrap();
        loop {
            let (text, closed) = &*log;
            if let Some(line) = text[from..].lines().find(|line| line.contains(pattern)) {
                return Some(line.to_owned());
            }
            let left = end.saturating_duration_since(Instant::now());
            if *closed || left.is_zero() {
                return None;
            }
            log = self.grown.wait_timeout(log, left).unwrap().0;
        }
    }
}

/// The real program as a child on a free port of the loopback interface, working in an empty
/// folder of its own (no `www/`, no `pic/`). Killed when dropped; a failing test prints its log.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    log: Arc<Log>,
    folder: Folder,
}

impl Server {
    /// Starts it with `args`, on a free port unless they name a `--listen`, and waits until it
    /// says that it listens.
    #[track_caller]
    pub fn start(args: &[&str]) -> Server {
        Server::start_command(command(&somewhere(args)))
    }

    /// The same for a command that the caller made with [`command`], to change its environment.
    #[track_caller]
    pub fn start_command(mut command: Command) -> Server {
        let folder = Folder::new();
        let mut child = command
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", binary().display()));
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || keep(stderr, &writer));
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { child, addr: unset, log, folder };
        let line = server.wait_for_log("listening on http://", PATIENCE);
        server.addr = address(&line).unwrap_or_else(|| panic!("no address in {line:?}"));
        server
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The empty folder that the program was started in.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// All that the program wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.copy()
    }

    /// The first line of the log that contains `pattern`; waits for it.
    #[track_caller]
    pub fn wait_for_log(&self, pattern: &str, limit: Duration) -> String {
        self.wait_for_log_from(0, pattern, limit)
    }

    /// The same in what the log grew by after it was `from` bytes long.
    #[track_caller]
    pub fn wait_for_log_from(&self, from: usize, pattern: &str, limit: Duration) -> String {
        match self.log.wait_for(from, pattern, limit) {
            Some(line) => line,
            None => panic!("no line with {pattern:?} in {limit:?}"),
        }
    }

    /// The lines of warnings and errors, and the message of a panic.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let complaint = |line: &&str| {
            let level: String = line.chars().take(48).collect();
            level.contains("WARN") || level.contains("ERROR") || line.contains("panicked")
        };
        log.lines().filter(complaint).map(str::to_owned).collect()
    }

    /// GET over a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        get(self.addr, target)
    }

    /// Sends `bytes`, reads to the end, and takes it as exactly one reply.
    #[track_caller]
    pub fn ask(&self, bytes: &[u8]) -> Reply {
        client::ask(self.addr, bytes)
    }

    /// The thread of that name, in /proc. It gets its name when it first runs.
    pub fn thread(&self, name: &str) -> Option<PathBuf> {
        let called = |task: &PathBuf| std::fs::read_to_string(task.join("comm"));
        let named = |task: &PathBuf| called(task).is_ok_and(|found| found.trim_end() == name);
        self.proc_entries("task").into_iter().find(named)
    }

    /// Open descriptors.
    pub fn fds(&self) -> usize {
        self.proc_entries("fd").len()
    }

    /// What its descriptors lead to.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let entries = self.proc_entries("fd");
        entries.iter().filter_map(|entry| std::fs::read_link(entry).ok()).collect()
    }

    /// Whether it has this file open.
    pub fn holds(&self, path: &Path) -> bool {
        self.open_files().iter().any(|found| found == path)
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.proc_entries("task").len()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        field(&std::fs::read_to_string(path).expect("the program runs"), "VmRSS:")
    }

    /// Memory in KiB, of the kind that this line of smaps_rollup tells: `Rss:`, `Anonymous:`, …
    pub fn memory_kib(&self, kind: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        field(&std::fs::read_to_string(path).expect("the program runs"), kind)
    }

    /// Resident memory in KiB without what is in files, its code above all: of that, the kernel
    /// takes away and gives back what it likes.
    pub fn own_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        field(&std::fs::read_to_string(path).expect("the program runs"), "RssAnon:")
    }

    /// Processor time that it used, in the kernel and outside; in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(path).expect("the program runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = |n: usize| fields.split_whitespace().nth(n)?.parse::<u64>().ok();
        let (user, system) = (ticks(11).expect("utime"), ticks(12).expect("stime"));
        Duration::from_millis((user + system) * 10)
    }

    /// How often its threads went to sleep and were woken again, since each began.
    pub fn switches(&self) -> u64 {
        self.of_threads("voluntary_ctxt_switches:").iter().sum()
    }

    /// Whether it comes to rest within `limit`: a second in which none of its threads wakes.
    pub fn comes_to_rest(&self, limit: Duration) -> bool {
        self.rests(Duration::from_secs(1), limit)
    }

    /// Whether none of its threads wakes for as long as `span`, at some time within `limit`; nor is
    /// one awake all that time.
    pub fn rests(&self, span: Duration, limit: Duration) -> bool {
        let seen = || (self.switches(), self.cpu());
        let mut since = (Instant::now(), seen());
        let rest = || {
            let now = seen();
            if now != since.1 {
                since = (Instant::now(), now);
            }
            (since.0.elapsed() >= span).then_some(())
        };
        until(limit, rest).is_some()
    }

    /// Waits until it has at most `count` descriptors open.
    #[track_caller]
    pub fn expect_fds(&self, count: usize) {
        if until(PATIENCE, || (self.fds() <= count).then_some(())).is_none() {
            panic!("{} descriptors are open, not {count}", self.fds());
        }
    }

    fn is_traced(&self) -> bool {
        self.of_threads("TracerPid:").iter().any(|tracer| *tracer != 0)
    }

    /// A number of each thread's status: proc_pid_status(5).
    fn of_threads(&self, name: &str) -> Vec<u64> {
        let read = |task: &PathBuf| std::fs::read_to_string(task.join("status")).ok();
        let tasks = self.proc_entries("task");
        tasks.iter().filter_map(read).map(|status| field(&status, name)).collect()
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("wait for the program").is_none()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the program runs");
    }

    /// SIGTERM: it must end with exit code 0 within 2 s. Gives its whole log.
    #[track_caller]
    pub fn stop(self) -> String {
        self.stop_by(rustix::process::Signal::TERM)
    }

    #[track_caller]
    pub fn stop_by(self, signal: rustix::process::Signal) -> String {
        self.signal(signal);
        self.ended(Duration::from_secs(2))
    }

    /// It ends by itself within `limit`, with exit code 0. Gives its whole log.
    #[track_caller]
    pub fn ended(mut self, limit: Duration) -> String {
        match until(limit, || self.child.try_wait().expect("wait")) {
            Some(status) => assert_eq!(status.code(), Some(0), "ended with {status}"),
            None => panic!("still there after {limit:?}"),
        }
        self.log.whole()
    }

    fn proc_entries(&self, kind: &str) -> Vec<PathBuf> {
        let path = format!("/proc/{}/{kind}", self.pid());
        let entries = std::fs::read_dir(path).expect("the program runs");
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // LeakSanitizer looks at what is left at the end, if there is one, and nobody traces it.
        if std::env::var_os("ASAN_OPTIONS").is_some() && self.running() && !self.is_traced() {
            self.signal(rustix::process::Signal::TERM);
            until(PATIENCE, || (!self.running()).then_some(()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(200)..];
            eprintln!("--- the log's end ---\n{}\n---", tail.join("\n"));
        }
    }
}

/// `args`, and a free port unless they name a `--listen`.
fn somewhere<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let listens = args.iter().any(|arg| *arg == "--listen" || arg.starts_with("--listen="));
    let port: &[&str] = if listens { &[] } else { &["--listen", "127.0.0.1:0"] };
    [port, args].concat()
}

/// The program with `--camera -`, and what writes to it.
#[track_caller]
pub fn fed(args: &[&str]) -> (Server, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = command(&somewhere(&[&["--camera", "-"], args].concat()));
    command.stdin(reader);
    (Server::start_command(command), writer)
}

/// Another program that works beside the tested one. Asked to end when dropped, so that it ends its
/// own processes, and killed if it does not.
pub struct Started(Child);

impl Started {
    /// Starts it; what it says on standard error goes into a file.
    pub fn new(mut command: Command, says: &Path) -> Result<Started, String> {
        let says = std::fs::File::create(says).map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stderr(says).spawn();
        child.map(Started).map_err(|error| format!("start {:?}: {error}", command.get_program()))
    }

    /// What it prints, if the command had it piped.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("piped, and not taken yet")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let ended = until(PATIENCE / 4, || self.0.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Copies the child's standard error into the log until it ends.
fn keep(stderr: impl Read, log: &Log) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        log.text.lock().unwrap().0.push_str(&String::from_utf8_lossy(&line));
        log.grown.notify_all();
        line.clear();
    }
    log.text.lock().unwrap().1 = true;
    log.grown.notify_all();
}

/// `127.0.0.1:5000` out of `… listening on http://127.0.0.1:5000/ …`.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let (addr, _) = rest.split_once('/')?;
    addr.parse().ok()
}

/// The number behind `name` in a file of /proc.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).expect(name);
    line.split_whitespace().nth(1).expect(name).parse().expect(name)
}
