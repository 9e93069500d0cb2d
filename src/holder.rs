//! Who holds what we cannot have, a device or an address, as far as `/proc` tells: of other users'
//! programs it tells root only.
//!
//! All processes are looked through, which takes a small machine a moment. It is done before the
//! loop begins, and by a camera's thread when it finds its camera busy; never by the loop.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::limits::{DESCRIPTORS_MAX, HOLDERS_MAX, PROC_BYTES_MAX, PROCESSES_MAX};

/// A process that has it open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    /// Bound: the kernel's, of a thread's name.
    name: String,
}

/// Those who have it open, as far as we may know. Prints as a sentence that says how to be rid of
/// them.
#[derive(Clone, Debug)]
pub struct Holders {
    /// What a descriptor of it leads to. Bound: the sockets in `PROC_BYTES_MAX` of their list.
    links: Vec<PathBuf>,
    /// What fuser(1) is asked for. Bound: the operator's path, or a port.
    fuser: String,
    /// At most `HOLDERS_MAX`.
    found: Vec<Holder>,
}

impl Holders {
    /// Of the device at `path`, ourselves left out.
    pub fn of_device(path: &Path) -> Holders {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let fuser = real.display().to_string();
        Holders::find(vec![real], fuser, |pid| pid != std::process::id())
    }

    /// Of the sockets that keep others from listening on `address`.
    pub fn of_address(address: SocketAddr) -> Holders {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(head);
        let links = tables.iter().flat_map(|table| listeners(table, address)).collect();
        Holders::find(links, format!("{}/tcp", address.port()), |_| true)
    }

    /// Of the socket at `path`.
    pub fn of_socket(path: &Path) -> Holders {
        let links = local_listeners(&head("/proc/net/unix"), path);
        Holders::find(links, path.display().to_string(), |_| true)
    }

    fn find(links: Vec<PathBuf>, fuser: String, counts: impl Fn(u32) -> bool) -> Holders {
        let number = |name: &str| name.parse().ok();
        let pids = entries("/proc").filter_map(|entry| number(entry.file_name()?.to_str()?));
        let holds = |pid: &u32| counts(*pid) && holds(*pid, &links);
        let pids = pids.take(PROCESSES_MAX).filter(holds).take(HOLDERS_MAX);
        let found = pids.map(|pid| Holder { pid, name: name(pid) }).collect();
        Holders { links, fuser, found }
    }

    /// Whether we hold it ourselves.
    pub fn are_us(&self) -> bool {
        self.found.iter().any(|holder| holder.pid == std::process::id())
    }

    /// Whether those that were found have it still. Cheap: nobody else is looked at.
    pub fn stay(&self) -> bool {
        self.found.iter().all(|holder| holds(holder.pid, &self.links))
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

impl Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found[..] {
            [] => write!(f, "another program has it; sudo fuser -v {} names it", self.fuser),
            [one] => match service(one.pid) {
                Some(unit) => write!(f, "{one} has it; to end that: sudo systemctl stop {unit}"),
                None => write!(f, "{one} has it; to end that: kill {}", one.pid),
            },
            [first, others @ ..] => {
                write!(f, "{first}")?;
                others.iter().try_for_each(|holder| write!(f, " and {holder}"))?;
                write!(f, " have it")
            }
        }
    }
}

/// The system service that we are, by its name.
pub fn own_service() -> Option<String> {
    service("self")
}

/// The system service that a process belongs to.
fn service(process: impl Display) -> Option<String> {
    unit(&head(&format!("/proc/{process}/cgroup")))
}

fn unit(groups: &str) -> Option<String> {
    let (_, group) = groups.lines().find_map(|line| line.split_once(":/system.slice/"))?;
    group.split('/').find_map(|part| part.strip_suffix(".service")).map(str::to_owned)
}

fn name(pid: u32) -> String {
    let name: String = head(&format!("/proc/{pid}/comm")).trim_end().escape_debug().collect();
    if name.is_empty() { "a program".to_owned() } else { name }
}

fn holds(pid: u32, links: &[PathBuf]) -> bool {
    let descriptors = entries(&format!("/proc/{pid}/fd")).take(DESCRIPTORS_MAX);
    let mut open = descriptors.filter_map(|entry| fs::read_link(entry).ok());
    open.any(|target| links.contains(&target))
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The beginning of a file of `/proc`; nothing of one that cannot be read.
fn head(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(PROC_BYTES_MAX).read_to_end(&mut bytes); // what there is will do
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// ---- sockets --------------------------------------------------------------------------------

/// In /proc/net/tcp, the state TCP_LISTEN.
const LISTENS: &str = "0A";
/// In /proc/net/unix, the flag of those that take connections.
const ACCEPTS: &str = "00010000";

/// The sockets of a table in the form of /proc/net/tcp that keep others from listening on
/// `address`.
fn listeners(table: &str, address: SocketAddr) -> Vec<PathBuf> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let taken = SocketAddr::new(ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
        (*fields.get(3)? == LISTENS && excludes(taken, address)).then(|| link(fields.get(9)))?
    };
    table.lines().filter_map(socket).collect()
}

/// The same of /proc/net/unix and a path.
fn local_listeners(table: &str, path: &Path) -> Vec<PathBuf> {
    let end = format!(" {}", path.display());
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (*fields.get(3)? == ACCEPTS && line.ends_with(&end)).then(|| link(fields.get(6)))?
    };
    table.lines().filter_map(socket).collect()
}

/// What a descriptor of the socket with this number leads to.
fn link(inode: Option<&&str>) -> Option<PathBuf> {
    inode.map(|inode| format!("socket:[{inode}]").into())
}

/// An address as those tables have it: words of 32 bits in the machine's order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| {
        let digits = hex.get(8 * n..8 * n + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for (n, place) in bytes.chunks_exact_mut(4).enumerate() {
        place.copy_from_slice(&word(n)?);
    }
    Some(Ipv6Addr::from(bytes).into())
}

/// Whether nobody can listen on `other` while somebody listens on `taken`.
fn excludes(taken: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (taken.ip().to_canonical(), other.ip().to_canonical());
    taken.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_the_address_that_they_take() {
        // As a machine writes them whose words begin with the lowest byte; here, as this one does.
        let v4 = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let line = |ip: String, port: u16, state: &str, inode: u32| {
            format!(
                "   0: {ip}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 \
                 00000000  1000        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
            )
        };
        let loopback6 = v4([0; 4]).repeat(3) + &v4([0, 0, 0, 1]);
        let table = "  sl  local_address rem_address   st tx_queue\n".to_owned()
            + &line(v4([127, 0, 0, 1]), 5000, LISTENS, 11)
            + &line(v4([192, 0, 2, 1]), 5000, LISTENS, 12)
            + &line(v4([127, 0, 0, 1]), 5000, "01", 13)
            + &line(v4([0, 0, 0, 0]), 5001, LISTENS, 14)
            + &line(loopback6, 5002, LISTENS, 15);
        #[track_caller]
        fn check(table: &str, address: &str, inodes: &[u32]) {
            let found = listeners(table, address.parse().unwrap());
            let expect: Vec<PathBuf> =
                inodes.iter().map(|n| format!("socket:[{n}]").into()).collect();
            assert_eq!(found, expect, "{address}");
        }
        check(&table, "127.0.0.1:5000", &[11]);
        check(&table, "[::]:5000", &[11, 12]);
        check(&table, "192.0.2.9:5000", &[]);
        check(&table, "192.0.2.9:5001", &[14]);
        check(&table, "[::1]:5002", &[15]);
        check(&table, "[::2]:5002", &[]);
        check("", "[::]:5000", &[]);
        check("nonsense\n\n   0: 0:0:0 x 0A\n", "[::]:0", &[]);
    }

    #[test]
    fn local_sockets_are_found_by_their_path() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000002 00000000 00010000 0001 01   777 /run/a b\n\
             0000000000000000: 00000003 00000000 00000000 0001 03   778 /run/a b\n\
             0000000000000000: 00000002 00000000 00010000 0001 01   779 /run/a\n";
        let found = |path: &str| local_listeners(table, Path::new(path));
        assert_eq!(found("/run/a b"), [PathBuf::from("socket:[777]")]);
        assert_eq!(found("/run/a"), [PathBuf::from("socket:[779]")]);
        assert!(found("/run").is_empty());
    }

    #[test]
    fn a_service_is_known_by_its_group() {
        let check = |groups: &str, expect: Option<&str>| {
            assert_eq!(unit(groups).as_deref(), expect, "{groups:?}");
        };
        check("0::/system.slice/motion.service\n", Some("motion"));
        check("0::/system.slice/system-getty.slice/getty@tty1.service\n", Some("getty@tty1"));
        check("2:cpu:/\n1:name=systemd:/system.slice/cron.service\n", Some("cron"));
        check("0::/user.slice/user-1000.slice/user@1000.service/app.slice\n", None);
        check("0::/\n", None);
        check("", None);
    }

    #[test]
    fn we_are_found_as_well_as_others() {
        let file = std::env::temp_dir().join(format!("pistream-holder-{}", std::process::id()));
        let open = File::create(&file).unwrap();
        let real = fs::canonicalize(&file).unwrap();
        let held = || Holders::find(vec![real.clone()], "x".into(), |_| true);
        assert!(held().are_us() && held().stay(), "{:?}", held());
        let said = held().to_string();
        assert!(said.contains(&format!("(process {}) has it", std::process::id())), "{said}");
        let others = Holders::of_device(&file);
        assert!(!others.are_us() && others.to_string().contains("sudo fuser -v /"), "{others}");
        let before = held();
        drop(open);
        assert!(!before.stay() && !held().are_us());
        fs::remove_file(file).unwrap();
    }
}
