//! An emulated Raspberry Pi Zero ([`Pi`]) that runs the real ARMv6 program: QEMU's `raspi0` with
//! Debian's kernel for it. What it boots, `tests/pi-zero/build-image` has built.
//!
//! Commands go to a shell in it over the serial port, one line each ([`Pi::run`]); requests over
//! the emulated USB network ([`Pi::addr`]), which moves some 100 kB/s. Load and measurements
//! belong inside, to `tests/pi-zero/probe.rs`.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Folder;
use super::console::{Console, free_port};

/// From QEMU's start until the shell is there; 6 s on a machine that has nothing else to do.
const BOOT_TIME_MAX: Duration = Duration::from_secs(120);

/// Where `scripts/test-pi-zero` has put the program and the rig; none without that script.
pub fn built() -> Option<PathBuf> {
    let built = env::var_os("PISTREAM_PI_ZERO").map(PathBuf::from);
    if built.is_none() {
        println!("skipped: scripts/test-pi-zero builds what this test needs, and runs it");
    }
    built
}

/// How the machine is emulated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// As fast as it goes, on this machine's time.
    Host,
    /// One nanosecond an instruction, and none for waiting: the same on a busy machine. Nothing
    /// from outside can keep in step with it. Instructions are counted by whose they are.
    Counted,
}

/// A running Pi; gone when dropped.
pub struct Pi {
    console: Console,
    addr: SocketAddr,
    built: PathBuf,
    folder: Folder,
    /// QEMU is heavy, and its clock should be even: one at a time.
    _alone: MutexGuard<'static, ()>,
}

/// A process in it that listens on port 5000.
pub struct Listening {
    pub pid: u64,
    pub milliseconds: f64,
}

/// What a process holds, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Without the next.
    pub resident: u64,
    /// The video driver's buffers, which are mapped. The driver chooses their size.
    pub buffers: u64,
    /// Private and without a file behind it.
    pub anonymous: u64,
}

/// Instructions between two calls of `mark`.
pub struct Counted {
    /// pistream's in user space.
    pub pistream: u64,
    /// The kernel's, whoever asked for them.
    pub kernel: u64,
    /// pistream's by function, the most first.
    pub functions: Vec<(String, u64)>,
}

impl Pi {
    /// Boots one whose `/root` holds the program and `files`, and waits for its shell.
    #[track_caller]
    pub fn boot(built: &Path, clock: Clock, files: &[(&str, &[u8])]) -> Pi {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Folder::new();
        let program = fs::read(built.join("pistream")).expect("the program for ARMv6");
        folder.write("more/root/pistream", program);
        for (name, bytes) in files {
            folder.write(&format!("more/root/{name}"), bytes);
        }
        pack(built, &folder);
        let addr = free_port();
        let mut console = Console::boot(qemu(built, &folder, addr, clock), "pi", BOOT_TIME_MAX);
        console.autopsy = "dmesg | tail -n 15; tail -n 40 /tmp/log";
        console.run("chmod +x /root/pistream");
        Pi { console, addr, built: built.to_owned(), folder, _alone: alone }
    }

    /// Where the host finds its port 5000.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs one line of shell, which must succeed, and gives what it printed.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        self.console.run(line)
    }

    /// Waits until a line of shell succeeds.
    #[track_caller]
    pub fn wait_for(&mut self, line: &str) {
        self.console.wait_for(line);
    }

    /// Starts a server whose log is `/tmp/log`.
    #[track_caller]
    pub fn start(&mut self, program: &str, arguments: &str) -> Listening {
        let said = self.run(&format!("probe start /tmp/log {program} {arguments}"));
        Listening { pid: value(&said, "pid") as u64, milliseconds: value(&said, "listening_ms") }
    }

    /// Ends it by SIGTERM; it must go within a few seconds.
    #[track_caller]
    pub fn stop(&mut self, server: &Listening) {
        self.run(&format!("kill {}", server.pid));
        self.wait_for(&format!(
            "[ ! -d /proc/{} ] || grep -q 'State:.Z' /proc/{0}/status",
            server.pid
        ));
    }

    /// Exact, where /proc/PID/status may be some pages behind.
    #[track_caller]
    pub fn memory(&mut self, server: &Listening) -> Memory {
        let text = self.run(&format!("cat /proc/{}/smaps", server.pid));
        let mut memory = Memory { resident: 0, buffers: 0, anonymous: 0 };
        let mut is_buffer = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(next)) = (words.next(), words.next()) else { continue };
            let kib = next.parse().unwrap_or(0);
            match name {
                "Rss:" if is_buffer => memory.buffers += kib,
                "Rss:" => memory.resident += kib,
                "Anonymous:" => memory.anonymous += kib,
                // A mapping's first line: its addresses, and at the end the file.
                _ if !name.ends_with(':') => is_buffer = line.contains("/dev/video"),
                _ => {}
            }
        }
        memory
    }

    /// Runs a `probe` that marks beginning and end; what was executed between them.
    #[track_caller]
    pub fn count(&mut self, probe: &str) -> Counted {
        let path = self.folder.path().join("counted");
        let before = blocks(&path).len();
        self.run(probe);
        let mut sums = blocks(&path);
        assert_eq!(sums.len(), before + 2, "{probe} marks its beginning and its end");
        let lines = sums.pop().expect("two");
        let sum = lines.first().expect("a sum");
        let mut counted = Counted {
            pistream: value(sum, "pistream") as u64,
            kernel: value(sum, "kernel") as u64,
            functions: Vec::new(),
        };
        let symbols = symbols(&self.built);
        let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &lines[1..] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, address, instructions, executions] = words[..] else { panic!("{line}") };
            let address = u64::from_str_radix(address, 16).expect("an address");
            let name = symbols.range(..=address).next_back().map_or("?", |(_, name)| name);
            let number = |word: &str| word.parse::<u64>().expect("a number");
            *functions.entry(name).or_default() += number(instructions) * number(executions);
        }
        let functions = functions.into_iter().map(|(name, count)| (name.to_owned(), count));
        counted.functions = functions.collect();
        counted.functions.sort_by_key(|(_, count)| u64::MAX - count);
        counted
    }
}

/// The number behind `name=` in what probe printed.
#[track_caller]
pub fn value(said: &str, name: &str) -> f64 {
    let mut words = said.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

/// The rig's initramfs and, behind it, what is new: the kernel unpacks one after the other.
fn pack(built: &Path, folder: &Folder) {
    let rig = fs::read(built.join("rig/initramfs")).expect("the rig");
    let image = folder.write("initramfs", rig);
    let append = File::options().append(true).open(image).expect("the copy");
    let pack = "find . | cpio -o -H newc -R 0:0 --quiet";
    let status = Command::new("sh")
        .args(["-c", pack])
        .current_dir(folder.path().join("more"))
        .stdout(append)
        .status();
    assert!(status.expect("start cpio").success());
}

fn qemu(built: &Path, folder: &Folder, addr: SocketAddr, clock: Clock) -> Command {
    let rig = |name: &str| built.join("rig").join(name).display().to_string();
    let network = format!("user,id=net,restrict=on,hostfwd=tcp:{addr}-:5000");
    let image = folder.path().join("initramfs").display().to_string();
    // Without the last one, the kernel panics: QEMU has no registers for that part.
    let kernel = "console=ttyAMA0,115200 rdinit=/init panic=-1 quiet loglevel=1 \
                  initcall_blacklist=bcm2835_power_driver_init";
    // Ends with this thread, so that no machine outlives an interrupted test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-arm", "-M", "raspi0"]);
    command.args(["-kernel", &rig("vmlinuz"), "-dtb", &rig("pi.dtb")]);
    command.args(["-initrd", &image, "-append", kernel]);
    command.args(["-netdev", &network, "-device", "usb-net,netdev=net"]);
    command.args(["-display", "none", "-monitor", "none", "-no-reboot"]);
    command.args(["-serial", "stdio"]);
    if clock == Clock::Counted {
        let mark = fs::read_to_string(rig("mark")).expect("mark's address");
        let out = folder.path().join("counted");
        let plugin = format!("{},mark={},out={}", rig("count.so"), mark.trim(), out.display());
        command.args(["-icount", "shift=0,sleep=off", "-plugin", &plugin]);
    }
    command
}

/// What count.c has written, a list of lines for each mark.
fn blocks(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split("end\n").filter(|sum| sum.starts_with("sum "));
    whole.map(|sum| sum.lines().map(str::to_owned).collect()).collect()
}

/// The program's functions by address.
fn symbols(built: &Path) -> BTreeMap<u64, String> {
    let program = built.join("arm-unknown-linux-gnueabi/release/pistream");
    let listed = Command::new("arm-linux-gnueabi-nm").arg("--demangle").arg(program).output();
    let text = String::from_utf8_lossy(&listed.expect("start nm").stdout).into_owned();
    let function = |line: &str| {
        let (address, rest) = line.split_once(' ')?;
        let (kind, name) = rest.split_once(' ')?;
        // $a, $d: where code and data begin, which are no functions.
        let is_function = "tTwWiV".contains(kind) && !name.starts_with('$');
        is_function.then_some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
    };
    text.lines().filter_map(function).collect()
}
