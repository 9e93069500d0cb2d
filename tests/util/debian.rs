//! An emulated PC with Debian and a real systemd ([`Debian`]), into which packages are installed as
//! a user installs them. `tests/guest/build-debian` builds its disk, `tests/guest/build-image` its
//! kernel with vivid, a camera that needs no hardware.
//!
//! The disk is as new at each start. Files of this machine are in `/files`; requests go to port
//! 5000 over an emulated network ([`Debian::addr`]).

use std::env;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Folder;
use super::console::{Console, free_port};

/// From QEMU's start until systemd has started the shell; 40 s on a machine that has nothing else
/// to do.
const BOOT_TIME_MAX: Duration = Duration::from_secs(300);

/// Where `scripts/test-package` has put the packages and the guest; none without that script.
pub fn built() -> Option<(PathBuf, PathBuf)> {
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let built = folder("PISTREAM_PACKAGES").zip(folder("PISTREAM_GUEST"));
    if built.is_none() {
        println!("skipped: scripts/test-package builds what this test needs, and runs it");
    }
    built
}

/// A running machine; gone when dropped.
pub struct Debian {
    console: Console,
    addr: SocketAddr,
    /// What the kernel and systemd say.
    _folder: Folder,
    /// QEMU is heavy: one at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Debian {
    /// Boots one that sees `files`, and waits until systemd has nothing more to start.
    #[track_caller]
    pub fn boot(guest: &Path, files: &Path) -> Debian {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Folder::new();
        let addr = free_port();
        let log = folder.path().join("console");
        let console = Console::boot(qemu(guest, files, &log, addr), "guest", BOOT_TIME_MAX);
        let mut debian = Debian { console, addr, _folder: folder, _alone: alone };
        debian.autopsy = "systemctl --no-pager --failed; systemctl --no-pager status pistream; \
             journalctl --no-pager -n 60";
        debian.run("ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up");
        debian.wait_within("systemctl is-system-running", BOOT_TIME_MAX);
        debian
    }

    /// Where the host finds its port 5000.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Deref for Debian {
    type Target = Console;

    fn deref(&self) -> &Console {
        &self.console
    }
}

impl DerefMut for Debian {
    fn deref_mut(&mut self) -> &mut Console {
        &mut self.console
    }
}

fn qemu(guest: &Path, files: &Path, log: &Path, addr: SocketAddr) -> Command {
    let accel = env::var("QEMU_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    // "max" would offer AVX2, which TCG emulates several times slower than SSE.
    let cpu = if accel == "tcg" { "Nehalem,+rdrand" } else { "host" };
    let path = |name: &str| guest.join(name).display().to_string();
    // Ends with this thread, so that no machine outlives an interrupted test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-M", "pc", "-accel", &accel]);
    command.args(["-cpu", cpu, "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config"]);
    command.args(["-display", "none", "-no-reboot"]);
    command.args(["-kernel", &path("vmlinux"), "-initrd", &path("initramfs"), "-append"]);
    command.arg(
        "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on no_timer_check \
         net.ifnames=0 guest.disk=1 systemd.mask=serial-getty@ttyS0.service",
    );
    let disk = path("debian.ext4");
    command.args(["-drive", &format!("file={disk},format=raw,if=virtio,snapshot=on")]);
    command.arg("-virtfs").arg(format!(
        "local,path={},mount_tag=files,security_model=none,readonly=on",
        files.display()
    ));
    command.args(["-netdev", &format!("user,id=net,restrict=on,hostfwd=tcp:{addr}-:5000")]);
    command.args(["-device", "virtio-net-pci,netdev=net"]);
    command.args(["-serial", &format!("file:{}", log.display()), "-serial", "stdio"]);
    command
}
