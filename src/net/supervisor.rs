//! What the service manager that started us is told: that we serve, that the loop turns, that we
//! end (sd_notify(3)). Without a manager there is nothing to tell and nothing to wake for.
//!
//! A message is one datagram, sent without waiting. If the manager does not read, it is sent again
//! in a moment: the loop never waits for the one who is to notice that it does not turn.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use crate::error::{Error, Reason};
use crate::limits::{NOTIFY_RETRY, WATCHDOG_PERIOD_MIN};

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    link: Option<Link>,
    /// How often it must hear that the loop turns; none if it does not ask.
    period: Option<Duration>,
    /// What it has not been told yet; empty: nothing but that the loop turns. Bound:
    /// `LISTENERS_MAX` addresses.
    news: String,
    /// When it is to be told something.
    due: Option<Instant>,
    /// It could not be told, and that was said.
    deaf: bool,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Supervisor {
    /// Whoever the environment names.
    pub fn from_environment() -> Supervisor {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Supervisor::default() };
        let link = Link::to(&name).inspect_err(|source| {
            let manager = format!("the service manager at {}", name.display());
            log::warn!("reach {manager}: {}", Reason(source));
        });
        let pid = process::id();
        let period = period(env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"), pid);
        let link = link.ok();
        let period = period.filter(|_| link.is_some());
        Supervisor { link, period, ..Supervisor::default() }
    }

    /// We serve at these addresses.
    pub fn ready(&mut self, addresses: &[String], now: Instant) {
        self.tell(format!("READY=1\nSTATUS=Serving on {}\n", addresses.join(", ")), now);
    }

    /// We end, as soon as the photos on their way are on the disk.
    pub fn stopping(&mut self, now: Instant) {
        self.tell("STOPPING=1\nSTATUS=Ending\n".to_owned(), now);
    }

    fn tell(&mut self, news: String, now: Instant) {
        if self.link.is_some() {
            self.news = news;
            self.due = Some(now);
        }
    }

    /// When the loop must turn, though nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The loop has turned: say what is due.
    pub fn turned(&mut self, now: Instant) {
        let Some(link) = self.link.as_ref().filter(|_| self.due.is_some_and(|due| due <= now))
        else {
            return;
        };
        let watchdog = self.period.map_or("", |_| "WATCHDOG=1\n");
        match link.send(&format!("{}{watchdog}", self.news)) {
            Ok(()) => {
                self.news.clear();
                self.deaf = false;
                self.due = self.period.map(|period| now + period);
            }
            Err(source) => {
                // A full queue is the manager's own trouble, which will pass.
                let full = source.kind() == ErrorKind::WouldBlock;
                if !full && !std::mem::replace(&mut self.deaf, true) {
                    log::warn!("{}", Error::new("tell", "the service manager", source));
                }
                let wait = self.period.map_or(NOTIFY_RETRY, |period| period.min(NOTIFY_RETRY));
                self.due = Some(now + wait);
            }
        }
    }
}

impl Link {
    /// `name` is a path, or begins with `@` and is a name in the abstract name space.
    fn to(name: &OsStr) -> io::Result<Link> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("NOTIFY_SOCKET must begin with / or @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Link { socket, address })
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // A datagram goes whole or not at all.
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

/// Half of the time within which the manager wants to hear of us, if it is us whom it watches
/// (sd_watchdog_enabled(3)).
fn period(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    let ours = pid.is_none_or(|pid| number(pid) == Some(own.into()));
    let usec = usec.and_then(number).filter(|usec| ours && *usec > 0)?;
    Some((Duration::from_micros(usec) / 2).max(WATCHDOG_PERIOD_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(usec: Option<&str>, pid: Option<&str>, expect: Option<Duration>) {
        assert_eq!(period(usec.map(Into::into), pid.map(Into::into), 7), expect);
    }

    #[test]
    fn the_loop_is_watched_if_the_manager_asks_it_of_us() {
        let second = Some(Duration::from_secs(1));
        check(Some("2000000"), Some("7"), second);
        check(Some("2000000"), None, second);
        check(Some("2000000"), Some("8"), None);
        check(Some("2000000"), Some(""), None);
        check(None, Some("7"), None);
        check(Some("0"), Some("7"), None);
        check(Some("soon"), Some("7"), None);
        check(Some("1"), Some("7"), Some(WATCHDOG_PERIOD_MIN));
    }

    #[test]
    fn a_manager_is_named_by_a_path_or_an_abstract_name() {
        assert!(Link::to(OsStr::new("/run/systemd/notify")).is_ok());
        assert!(Link::to(OsStr::new("@manager")).is_ok());
        assert!(Link::to(OsStr::new("vsock:2:1234")).is_err());
        assert!(Link::to(OsStr::new("")).is_err());
    }

    #[test]
    fn without_a_manager_nothing_is_due() {
        let mut supervisor = Supervisor::default();
        let now = Instant::now();
        supervisor.ready(&["http://[::]:5000/".to_owned()], now);
        supervisor.turned(now);
        supervisor.stopping(now);
        assert_eq!(supervisor.deadline(), None);
    }
}
