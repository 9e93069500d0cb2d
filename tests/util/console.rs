//! An emulated machine ([`Console`]): QEMU as a child, and a shell in it at the other end of its
//! serial line, `tests/guest/console`, which takes commands of one line each.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::until;

/// A command in an emulated processor; only a fault ever takes this long.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(300);

/// Makes a webcam of the kernel's test device: raw formats, 640x480 at 15 frames a second.
pub const WEBCAM: &str = "modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0";

/// A running machine; gone when dropped.
pub struct Console {
    qemu: Child,
    input: ChildStdin,
    output: Receiver<String>,
    /// What the shell calls itself.
    name: &'static str,
    /// What to run in it when a test has failed, for its output.
    pub autopsy: &'static str,
}

impl Console {
    /// Starts QEMU, whose standard input and output are the serial line, and waits for the shell.
    #[track_caller]
    pub fn boot(mut command: Command, name: &'static str, limit: Duration) -> Console {
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("start QEMU");
        let input = qemu.stdin.take().expect("piped");
        let stdout = qemu.stdout.take().expect("piped");
        let (lines, output) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut console = Console { qemu, input, output, name, autopsy: "dmesg | tail -n 15" };
        console.read_until(&format!("{name}: ready"), limit);
        console
    }

    /// Runs one line of shell, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        let (said, status) = self.try_run(line);
        assert_eq!(status, 0, "in the machine: {line}\n{said}");
        said
    }

    /// The same, whatever its exit status.
    #[track_caller]
    pub fn try_run(&mut self, line: &str) -> (String, i32) {
        assert!(!line.contains('\n'), "one line: {line}");
        writeln!(self.input, "{line}").expect("the machine listens");
        let status = format!("{}: status ", self.name);
        let (said, end) = self.read_until(&status, COMMAND_TIME_MAX);
        let status = end.parse().unwrap_or_else(|_| panic!("no status: {end}"));
        (said.trim_end().to_owned(), status)
    }

    /// Waits until a line of shell succeeds.
    #[track_caller]
    pub fn wait_for(&mut self, line: &str) {
        self.wait_within(line, Duration::from_secs(30));
    }

    #[track_caller]
    pub fn wait_within(&mut self, line: &str, limit: Duration) {
        if until(limit, || (self.try_run(line).1 == 0).then_some(())).is_none() {
            panic!("in the machine, not within {limit:?}: {line}\n{}", self.try_run(line).0);
        }
    }

    /// What was said before a line that begins with `start`, and the rest of that line.
    #[track_caller]
    fn read_until(&mut self, start: &str, limit: Duration) -> (String, String) {
        let end = Instant::now() + limit;
        let mut said = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.output.recv_timeout(left) else {
                panic!("the machine says nothing more, waiting for {start:?}, after:\n{said}");
            };
            if let Some(rest) = line.strip_prefix(start) {
                return (said, rest.to_owned());
            }
            said += &line;
            said.push('\n');
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if std::thread::panicking() && self.qemu.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = writeln!(self.input, "{}", self.autopsy);
            let status = format!("{}: status ", self.name);
            while let Ok(line) = self.output.recv_timeout(Duration::from_secs(5)) {
                if line.starts_with(&status) {
                    break;
                }
                eprintln!("in the machine: {line}");
            }
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A port of this machine's that was free just now.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}
