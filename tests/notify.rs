//! What the real program tells a service manager (sd_notify(3)), with a socket in the manager's
//! place. `tests/package.rs` has the real one.

mod util;

use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use util::{Folder, PATIENCE, Server, Stream, binary, command, get};

/// How often the program says that it turns, at this watchdog time.
const WATCHDOG: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_millis(500);
const ARGUMENTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--camera", "test"];

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: Folder,
}

impl Manager {
    fn start() -> Manager {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the manager's socket");
        Manager { socket, name: path.display().to_string(), _folder: folder }
    }

    /// The program with this manager, which watches it if `watchdog` says so.
    fn command(&self, watchdog: Option<Duration>) -> Command {
        let mut command = command(&ARGUMENTS);
        command.env("NOTIFY_SOCKET", &self.name).env_remove("WATCHDOG_PID");
        match watchdog {
            Some(time) => command.env("WATCHDOG_USEC", time.as_micros().to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
        command
    }

    fn run(&self, watchdog: Option<Duration>) -> Server {
        Server::start_command(self.command(watchdog))
    }

    /// The next message, if one comes within `limit`.
    fn hear(&self, limit: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(limit)).expect("set a limit");
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).expect("text"))
    }

    /// The message that the program serves; its first one.
    #[track_caller]
    fn hear_ready(&self) -> String {
        let message = self.hear(PATIENCE).expect("a first message");
        assert!(message.starts_with("READY=1\n"), "{message:?}");
        message
    }

    /// How many messages come in `span`, all of which must say that the loop turns and no more,
    /// and the longest time without one.
    #[track_caller]
    fn count(&self, span: Duration) -> (usize, Duration) {
        let begin = Instant::now();
        let (mut count, mut last, mut longest) = (0, begin, Duration::ZERO);
        loop {
            let left = span.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return (count, longest.max(last.elapsed()));
            }
            let Some(message) = self.hear(left) else { continue };
            assert_eq!(message, "WATCHDOG=1\n");
            longest = longest.max(last.elapsed());
            (count, last) = (count + 1, Instant::now());
        }
    }

    /// In `span` the watchdog is fed as often as it has to be, and not with every turn.
    #[track_caller]
    fn expect_fed(&self, span: Duration) {
        let (count, longest) = self.count(span);
        let due = span.as_millis() / PERIOD.as_millis();
        assert!(count as u128 + 1 >= due / 2 && count as u128 <= due + 1, "{count} in {span:?}");
        assert!(longest < WATCHDOG, "none for {longest:?}");
    }

    /// Forgets what has come until now.
    fn forget(&self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
    }
}

#[test]
fn the_manager_hears_that_we_serve_when_we_do_and_that_we_end() {
    let manager = Manager::start();
    let mut command = manager.command(None);
    let mut child = command.stderr(Stdio::null()).spawn().expect("start the program");
    let ready = manager.hear_ready();
    let (_, place) = ready.split_once("STATUS=Serving on http://").expect("where it serves");
    let address: SocketAddr = place.trim_end().trim_end_matches('/').parse().expect("an address");
    TcpStream::connect(address).expect("the program listens when it says so");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    let message = manager.hear(PATIENCE).expect("a last message");
    assert!(message.starts_with("STOPPING=1\n"), "{message:?}");
    assert!(child.wait().expect("wait").success());
    assert_eq!(manager.hear(Duration::from_millis(100)), None);
}

#[test]
fn the_watchdog_is_fed_by_an_idle_loop_and_by_a_busy_one() {
    let manager = Manager::start();
    let server = manager.run(Some(WATCHDOG));
    assert!(manager.hear_ready().ends_with("WATCHDOG=1\n"), "from the first turn on");
    manager.expect_fed(Duration::from_secs(3));

    let mut stream = Stream::open(server.addr(), "/video_feed");
    let viewer = std::thread::spawn(move || while stream.next_part(PATIENCE).is_ok() {});
    let asker = {
        let addr = server.addr();
        std::thread::spawn(move || (0..300).for_each(|_| drop(get(addr, "/").expect(200))))
    };
    manager.expect_fed(Duration::from_secs(3));
    asker.join().expect("pages were answered");
    server.stop();
    viewer.join().expect("the viewer saw the end");
}

/// The loop's thread stands still, as in a call that does not return; the others run on.
#[test]
fn a_loop_that_stands_still_feeds_no_watchdog() {
    let manager = Manager::start();
    let server = manager.run(Some(WATCHDOG));
    manager.hear_ready();
    let halted = Halted::new(server.pid());
    manager.forget();
    assert_eq!(manager.hear(WATCHDOG * 2), None);
    drop(halted);
    manager.expect_fed(WATCHDOG * 2);

    server.signal(Signal::STOP);
    manager.forget();
    assert_eq!(manager.hear(WATCHDOG * 2), None);
    server.signal(Signal::CONT);
    manager.expect_fed(WATCHDOG * 2);
}

/// A process's first thread, stopped by itself until this is dropped (ptrace(2)).
struct Halted(i32);

impl Halted {
    fn new(pid: u32) -> Halted {
        let pid = pid as i32;
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request looks at the addresses.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) == 0
        };
        assert!(stopped, "stop a thread: {}", std::io::Error::last_os_error());
        // SAFETY: nothing is written to a null pointer.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(waited, pid);
        Halted(pid)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request looks at no address.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}

#[test]
fn only_the_one_who_is_watched_feeds_the_watchdog() {
    let manager = Manager::start();
    // As a service manager does it: the number is the program's own.
    let mut shell = Command::new("sh");
    shell.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]).arg(binary()).args(ARGUMENTS);
    let plain = manager.command(Some(WATCHDOG));
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::start_command(shell);
    manager.hear_ready();
    manager.expect_fed(WATCHDOG * 2);
    server.stop();
    manager.forget();

    let mut others = manager.command(Some(WATCHDOG));
    others.env("WATCHDOG_PID", std::process::id().to_string());
    let server = Server::start_command(others);
    let ready = manager.hear_ready();
    assert!(!ready.contains("WATCHDOG"), "{ready:?}");
    assert_eq!(manager.hear(WATCHDOG * 2), None);
    assert!(server.rests(WATCHDOG * 2, PATIENCE), "it wakes for a watchdog that is not its own");
}

#[test]
fn without_a_watchdog_an_idle_loop_sleeps() {
    let manager = Manager::start();
    let server = manager.run(None);
    manager.hear_ready();
    assert_eq!(manager.hear(WATCHDOG * 2), None);
    assert!(server.rests(WATCHDOG * 3, PATIENCE));
}

/// The manager does not read: its queue is full after a dozen messages.
#[test]
fn a_manager_that_does_not_read_stops_nobody() {
    let manager = Manager::start();
    let server = manager.run(Some(Duration::from_millis(40)));
    std::thread::sleep(Duration::from_secs(2));
    for _ in 0..20 {
        get(server.addr(), "/").expect(200);
    }
    let waiting = std::iter::from_fn(|| manager.hear(Duration::from_millis(1))).count();
    assert!(waiting >= 2, "its queue was not full: {waiting} messages");
    assert!(manager.hear(PATIENCE).is_some(), "it is told again when it reads again");
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn a_manager_with_an_abstract_name_is_found_and_a_wrong_one_harms_nobody() {
    let name = format!("pistream-test-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("bind it");
    let mut manager = Manager { socket, name: format!("@{name}"), _folder: Folder::new() };
    let server = manager.run(None);
    manager.hear_ready();
    server.stop();

    for wrong in ["/nowhere/notify", "vsock:2:9", ""] {
        manager.name = wrong.to_owned();
        let server = manager.run(Some(WATCHDOG));
        server.wait_for_log("the service manager", PATIENCE);
        std::thread::sleep(WATCHDOG);
        get(server.addr(), "/").expect(200);
        let complaints = server.complaints();
        assert_eq!(complaints.len(), 1, "it is said once: {complaints:?}");
        server.stop();
    }
}
