//! Runs a test's body inside the guest of `tests/guest`: a small virtual machine whose kernel has
//! video devices to use and to break.
//!
//! On the host, [`run`] boots it and starts this same test executable there, for this one test;
//! there, it runs the body. What the body prints and a panic's message come out as the test's own.
//! The guest sees the host's `/` and changes nothing in it. Two guests run at a time.
//!
//! For use there: [`UsbCamera`], the software camera; [`vivid`], the other one's controls; and
//! [`nodes`], what the kernel has at the moment.

use std::any;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{PATIENCE, binary, long, until};

/// Set in the guest: the name of the test that is to run there.
const INSIDE: &str = "PISTREAM_GUEST";
/// What the body's end says, so that a test that never ran cannot pass.
const PASSED: &str = "passed in the guest: ";
/// Ends a guest that hangs, in seconds. Includes its start, and all of the test on a busy machine.
const GUEST_TIME_MAX: u32 = 400;
/// The same in the long run, where a test may take half an hour.
const LONG_GUEST_TIME_MAX: u32 = 3600;

/// Runs `body` in a guest that has loaded `modules`, each `NAME[:option=value]...`.
#[track_caller]
pub fn run<F: FnOnce()>(modules: &[&str], body: F) {
    let name = test_name::<F>();
    if env::var_os(INSIDE).is_some() {
        body();
        println!("\n{PASSED}{name}");
        return;
    }
    let target = target();
    let executable = env::current_exe().expect("the path of the test executable");
    // Ends with this thread, so that no guest outlives an interrupted test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run")]);
    command.env("CARGO_TARGET_DIR", &target).stdin(Stdio::null());
    for module in modules {
        command.args(["-m", module]);
    }
    let seconds = if long() { LONG_GUEST_TIME_MAX } else { GUEST_TIME_MAX };
    command.args(["-t", &seconds.to_string(), "env"]);
    command.arg(format!("{INSIDE}={name}"));
    command.arg(format!("PISTREAM_BIN={}", absolute(binary()).display()));
    for variable in ["RUST_BACKTRACE", "PISTREAM_LONG", "PISTREAM_SEED"] {
        if let Ok(value) = env::var(variable) {
            command.arg(format!("{variable}={value}"));
        }
    }
    command.arg(executable).args(["--exact", &name, "--include-ignored", "--nocapture"]);

    let (reader, writer) = io::pipe().expect("a pipe");
    command.stdout(writer.try_clone().expect("a second descriptor")).stderr(writer);
    let mut child = command.spawn().expect("start tests/guest/run");
    drop(command); // and with it this side's copies of the pipe's other end
    let mut lines = BufReader::new(reader);
    let mut bytes = Vec::new();
    let mut passed = false;
    while lines.read_until(b'\n', &mut bytes).expect("read from the guest") > 0 {
        let line = String::from_utf8_lossy(&bytes);
        print!("{line}"); // print: the harness keeps it with the test
        passed |= line.trim_end().strip_prefix(PASSED) == Some(&name);
        bytes.clear();
    }
    let status = child.wait().expect("wait for tests/guest/run");
    assert!(status.success(), "failed in the guest ({status}), see above");
    assert!(passed, "the guest ended well, but the test did not run there");
}

/// The test that `F` is a closure of, as the harness calls it.
fn test_name<F>() -> String {
    // `v4l2::a_test::{{closure}}`
    let path = any::type_name::<F>();
    let (path, closure) = path.rsplit_once("::").unwrap_or_default();
    assert_eq!(closure, "{{closure}}", "a test's body is a closure, written in the test");
    let (_crate, name) = path.split_once("::").unwrap_or_default();
    name.to_owned()
}

/// Cargo's target folder: the one that holds the folder that it offers to tests.
fn target() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("a folder in the target folder").to_owned()
}

fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The software USB camera, `tests/guest/uvc-cam.rs`; its head tells the options and commands.
/// Gone when dropped.
pub struct UsbCamera {
    child: Child,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl UsbCamera {
    /// Plugged in, and its nodes are there. `name` becomes the name of the device.
    #[track_caller]
    pub fn plugged(name: &str, options: &[&str]) -> UsbCamera {
        let camera = UsbCamera::start(name, options);
        camera.node();
        camera
    }

    #[track_caller]
    pub fn unplugged(name: &str) -> UsbCamera {
        UsbCamera::start(name, &["--unplugged"])
    }

    #[track_caller]
    fn start(name: &str, options: &[&str]) -> UsbCamera {
        let mut child = Command::new("uvc-cam")
            .args(["--name", name])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start uvc-cam");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        UsbCamera { child, answers, name: name.to_owned() }
    }

    /// Gives a command; tells the number of the first frame that is made after it, or what the
    /// command asks for.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> u32 {
        let commands = self.child.stdin.as_mut().expect("piped");
        writeln!(commands, "{command}").expect("tell uvc-cam");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("hear uvc-cam");
        let number = answer.trim_end().strip_prefix("ok ").and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{command}: uvc-cam answers {answer:?}"))
    }

    /// The node that gives pictures; waits for it.
    #[track_caller]
    pub fn node(&self) -> PathBuf {
        self.wait_for_node(0)
    }

    /// The other node, which gives none.
    #[track_caller]
    pub fn metadata_node(&self) -> PathBuf {
        self.wait_for_node(1)
    }

    #[track_caller]
    pub fn expect_no_nodes(&self) {
        let gone = until(PATIENCE, || nodes(&self.name).is_empty().then_some(()));
        assert!(gone.is_some(), "{:?} are still there", nodes(&self.name));
    }

    #[track_caller]
    fn wait_for_node(&self, index: usize) -> PathBuf {
        // Both, since the kernel makes one after the other.
        let both = until(PATIENCE, || Some(nodes(&self.name)).filter(|nodes| nodes.len() == 2));
        both.unwrap_or_else(|| panic!("{} has not got two nodes", self.name)).swap_remove(index)
    }
}

impl Drop for UsbCamera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets one of vivid's controls, or presses it if it is a button: `NAME=VALUE`. It may be on its way
/// back from another fault.
#[track_caller]
pub fn vivid(control: &str) {
    let mut said = "vivid has no node".to_owned();
    let set = || {
        let node = nodes("vivid").pop()?;
        let node = node.to_str().expect("a plain path");
        v4l2_ctl(&["-d", node, "-c", control]).map_err(|error| said = error).ok()
    };
    assert!(until(PATIENCE, set).is_some(), "set vivid's control: {said}");
}

/// Runs `v4l2-ctl`; what it says is the error of one that fails.
pub fn v4l2_ctl(arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("v4l2-ctl").args(arguments).stdin(Stdio::null()).output();
    let run = run.map_err(|error| format!("start v4l2-ctl: {error}"))?;
    let said = [run.stdout, run.stderr].concat();
    match run.status.success() {
        true => Ok(()),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&said))),
    }
}

/// The device's nodes in /dev, in the order in which its driver counts them.
pub fn nodes(name: &str) -> Vec<PathBuf> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir("/sys/class/video4linux").into_iter().flatten().flatten() {
        let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let node = Path::new("/dev").join(entry.file_name());
        if read("name").starts_with(name) && node.exists() {
            nodes.push((read("index"), node));
        }
    }
    nodes.sort();
    nodes.into_iter().map(|(_, node)| node).collect()
}
