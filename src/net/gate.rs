//! The gate before a viewer's next frame: it opens when the kernel has little left of the last
//! ones. So a viewer on a slow link sees what is, not what was.
//!
//! DESIGN. Left alone, the kernel takes megabytes for a slow link, and every frame that it takes is
//! older when it arrives. What it holds of ours, unsent or sent and not acknowledged, is asked
//! before each frame: one cheap call. Below a small amount the gate is open, and that is all for a
//! viewer on a fast link. Above it the link decides: to stay busy it needs 1.5 times what is on its
//! way in one round trip at its best, or what it delivers while it stutters; what is more than that
//! only waits. Nothing tells when the rest has drained, since the kernel had taken all; so the gate
//! itself says when to ask again.
//! A viewer that acknowledges nothing any more is stalled, whatever the kernel still takes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::world::Transport;
use crate::limits::{
    GATE_BYTES_MIN, GATE_STUTTER, GATE_STUTTER_BYTES_MAX, GATE_WAIT_MAX, GATE_WAIT_MIN,
    LINK_RATE_TIME, LINK_SAMPLE_TIME, STALL_TIME_MAX,
};

#[derive(Debug)]
pub struct Gate {
    rate: Rate,
    /// Bytes that the kernel was given in all.
    given: u64,
    /// Of these, acknowledged when it was looked last.
    acknowledged: u64,
    /// Since when nothing more was acknowledged, while something was owed.
    since: Instant,
    /// When to look again; none while the gate is open.
    pub again: Option<Instant>,
}

impl Gate {
    pub fn new(now: Instant) -> Gate {
        let rate = Rate { best: [0, 0], since: now, sample: None };
        Gate { rate, given: 0, acknowledged: 0, since: now, again: None }
    }

    /// The kernel has taken so many bytes.
    pub fn gave(&mut self, bytes: usize) {
        self.given += bytes as u64;
    }

    /// Bytes that the kernel was given in all.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Whether the next frame may be begun.
    pub fn is_open(&mut self, socket: &impl Transport, now: Instant) -> io::Result<bool> {
        self.decide(socket.queued()?, || socket.link(), now)
    }

    fn decide(
        &mut self,
        queued: u64,
        link: impl FnOnce() -> io::Result<Link>,
        now: Instant,
    ) -> io::Result<bool> {
        self.note(queued, now);
        self.again = None;
        if queued <= GATE_BYTES_MIN {
            self.rate.end(self.acknowledged, now);
            return Ok(true);
        }
        let link = link()?;
        let rate = self.rate.measure(self.acknowledged, now).unwrap_or(link.rate);
        let gate = link.needs(rate);
        if queued <= gate {
            return Ok(true);
        }
        let seconds = (queued - gate) as f64 / rate.max(1) as f64;
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(GATE_WAIT_MAX);
        self.again = Some(now + wait.clamp(GATE_WAIT_MIN, GATE_WAIT_MAX));
        Ok(false)
    }

    /// Whether the viewer has acknowledged nothing for too long.
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.again.is_some() && now.duration_since(self.since) >= STALL_TIME_MAX
    }

    fn note(&mut self, queued: u64, now: Instant) {
        let acknowledged = self.given.saturating_sub(queued);
        if acknowledged > self.acknowledged || queued == 0 {
            (self.acknowledged, self.since) = (acknowledged, now);
        }
    }
}

/// What a link delivers, by the bytes acknowledged while it was busy. The kernel's own number is of
/// the last time that it found the link full, or faster than before, and may be long out of date.
#[derive(Debug)]
struct Rate {
    /// The best samples, in bytes a second, of this span of `LINK_RATE_TIME` and the one before;
    /// 0: none.
    best: [u64; 2],
    /// When this span began.
    since: Instant,
    /// When the sample at hand began, and what had been acknowledged then; none while the link
    /// is not busy.
    sample: Option<(Instant, u64)>,
}

impl Rate {
    /// While the link is busy: bytes a second; none before the first sample.
    fn measure(&mut self, acknowledged: u64, now: Instant) -> Option<u64> {
        let (since, before) = *self.sample.get_or_insert((now, acknowledged));
        let time = now.duration_since(since);
        if time >= LINK_SAMPLE_TIME {
            let rate = (acknowledged - before) as f64 / time.as_secs_f64();
            self.best[0] = self.best[0].max(rate as u64);
            self.sample = Some((now, acknowledged));
        }
        let best = self.best.into_iter().max().filter(|best| *best > 0);
        // A span in which nothing came through tells nothing.
        if now.duration_since(self.since) >= LINK_RATE_TIME && self.best[0] > 0 {
            (self.best, self.since) = ([0, self.best[0]], now);
        }
        best
    }

    /// The link has come to rest some time ago. What it has delivered until now is less than it
    /// can: that may raise what is known, and cannot be the reason to forget more.
    fn end(&mut self, acknowledged: u64, now: Instant) {
        let Some((since, before)) = self.sample.take() else { return };
        let time = now.duration_since(since);
        let rate = ((acknowledged - before) as f64 / time.as_secs_f64()) as u64;
        if time >= LINK_SAMPLE_TIME && self.best.iter().all(|best| rate > *best) {
            self.best[0] = rate;
        }
    }
}

/// What the kernel knows of a connection's way (`struct tcp_info` of linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Microseconds of a round trip now, and at its best in the last minutes.
    pub rtt: u32,
    pub rtt_min: u32,
    /// Bytes a second.
    pub rate: u64,
}

impl Link {
    /// Bytes that must be on their way, or wait, for the link to stay busy. The round trip is that
    /// of the empty link: a queue on the way is no reason to fill it further.
    fn needs(&self, rate: u64) -> u64 {
        // In 128 bits: a rate of the loopback times a second of delay.
        let within = |micros: u128| (u128::from(rate) * micros / 1_000_000) as u64;
        let trip = u128::from(self.rtt.min(self.rtt_min));
        let stutter = match rate {
            0 => GATE_STUTTER_BYTES_MAX, // nothing is known yet
            _ => within(GATE_STUTTER.as_micros()).min(GATE_STUTTER_BYTES_MAX),
        };
        within(trip * 3 / 2).max(stutter).max(GATE_BYTES_MIN)
    }

    pub fn of(socket: BorrowedFd) -> io::Result<Link> {
        const BYTES: usize = 168;
        let mut info = [0u8; BYTES];
        let mut length = BYTES as libc::socklen_t;
        // SAFETY: `info` has `length` bytes, and the kernel writes no more than that.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &mut length,
            )
        };
        match (result, io::Error::last_os_error()) {
            (0, _) => Ok(Link::read(&info)),
            // A socket of this machine has no way, only a reader.
            (_, error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Ok(Link { rtt: 0, rtt_min: 0, rate: 0 })
            }
            (_, error) => Err(error),
        }
    }

    /// Fields by their places, which are the kernel's promise to old programs.
    fn read(info: &[u8; 168]) -> Link {
        let u32_at =
            |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let u64_at = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&info[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        Link { rtt: u32_at(68), rtt_min: u32_at(148), rate: u64_at(160) }
    }
}

/// Bytes that the kernel holds for the other end: not sent, or sent and not acknowledged.
pub fn queued(socket: BorrowedFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    match result {
        0 => Ok(bytes.max(0) as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Megabits a second, milliseconds of a round trip now and at its best.
    fn link(mbit: u64, rtt: u32, rtt_min: u32) -> Link {
        Link { rtt: rtt * 1000, rtt_min: rtt_min * 1000, rate: mbit * 125_000 }
    }

    #[test]
    fn a_fast_link_is_asked_for_nothing_more_than_what_is_queued() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let unasked = || -> io::Result<Link> { panic!("the link was looked at") };
        assert!(gate.decide(0, unasked, now).unwrap());
        assert!(gate.decide(GATE_BYTES_MIN, unasked, now).unwrap());
        assert_eq!(gate.again, None);
    }

    #[test]
    fn a_slow_link_waits_until_the_excess_has_drained() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        assert!(!gate.decide(150_000, || Ok(link(12, 10, 10)), now).unwrap());
        // 150,000 bytes less what 30 ms deliver, at 1.5 MB a second.
        assert_eq!(gate.again.unwrap() - now, 70 * MS);
        // Whatever the link says, it is asked again soon, and not too often.
        for (mbit, bound) in [(0, GATE_WAIT_MAX), (100_000, GATE_WAIT_MIN)] {
            let mut gate = Gate::new(now);
            let more = GATE_STUTTER_BYTES_MAX + 1000;
            assert!(!gate.decide(more, || Ok(link(mbit, 0, 0)), now).unwrap());
            assert_eq!(gate.again.unwrap() - now, bound);
        }
    }

    #[test]
    fn a_slow_link_may_hold_little_and_a_link_of_which_nothing_is_known_more() {
        let check = |mbit, least, most| {
            let now = Instant::now();
            let mut gate = Gate::new(now);
            assert!(gate.decide(least, || Ok(link(mbit, 10, 10)), now).unwrap(), "{mbit} {least}");
            assert!(!gate.decide(most, || Ok(link(mbit, 10, 10)), now).unwrap(), "{mbit} {most}");
        };
        check(1, GATE_BYTES_MIN, GATE_BYTES_MIN + 1);
        check(12, 45_000, 45_001); // 30 ms of it
        check(30, GATE_STUTTER_BYTES_MAX, GATE_STUTTER_BYTES_MAX + 1);
        check(80, 150_000, 150_001); // one and a half round trips
        check(0, GATE_STUTTER_BYTES_MAX, GATE_STUTTER_BYTES_MAX + 1);
    }

    #[test]
    fn a_long_link_gets_what_keeps_it_busy_and_a_full_queue_on_the_way_does_not_count() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        // 3.75 MB a second for 0.1 s, and half of it more: 562,500 bytes.
        assert!(gate.decide(560_000, || Ok(link(30, 100, 100)), now).unwrap());
        assert!(!gate.decide(570_000, || Ok(link(30, 100, 100)), now).unwrap());
        // A router that queues for 800 ms on a way of 10 ms.
        assert!(!gate.decide(120_000, || Ok(link(30, 800, 10)), now).unwrap());
    }

    #[test]
    fn what_a_busy_link_delivers_counts_more_than_what_the_kernel_remembers() {
        let start = Instant::now();
        let at = |ms: u32| start + ms * MS;
        let fast = || Ok(link(30, 10, 10));
        let mut gate = Gate::new(start);
        gate.gave(100_000);
        // It has become slow, 250 bytes a millisecond: what the kernel says would let 65,536 wait.
        assert!(!gate.decide(100_000, fast, at(0)).unwrap());
        assert!(!gate.decide(95_000, fast, at(20)).unwrap());
        assert!(!gate.decide(62_500, fast, at(150)).unwrap());
        assert!(gate.decide(GATE_BYTES_MIN, fast, at(335)).unwrap());
        // It is fast again, 3,750 bytes a millisecond: the first sample shows it.
        gate.gave(150_000);
        assert!(!gate.decide(150_000, fast, at(340)).unwrap());
        assert!(!gate.decide(75_000, fast, at(360)).unwrap());
        assert!(gate.decide(60_000, fast, at(364)).unwrap());
    }

    #[test]
    fn a_link_that_is_fast_again_shows_it_even_if_it_is_seen_busy_only_now_and_then() {
        let start = Instant::now();
        let at = |ms: u32| start + ms * MS;
        let slow = Rate { best: [0, 250_000], since: start, sample: None };
        let mut gate = Gate { rate: slow, ..Gate::new(start) };
        let asked = || Ok(link(30, 10, 10));
        for (begin, wait) in [(0, GATE_WAIT_MAX), (66, GATE_WAIT_MIN)] {
            gate.gave(150_000);
            assert!(!gate.decide(60_000, asked, at(begin + 33)).unwrap());
            assert_eq!(gate.again, Some(at(begin + 33) + wait));
            assert!(gate.decide(0, asked, at(begin + 66)).unwrap());
        }
    }

    #[test]
    fn a_rate_outlives_a_pause_and_is_forgotten_when_a_slower_one_lasts() {
        let start = Instant::now();
        let mut rate = Rate { best: [0, 0], since: start, sample: None };
        let mut acknowledged = 0;
        let mut at = start;
        let mut run = |bytes: u64, ms: u32| {
            let mut measured = None;
            for _ in 0..ms / 25 {
                measured = rate.measure(acknowledged, at);
                (acknowledged, at) = (acknowledged + bytes * 25, at + 25 * MS);
            }
            measured
        };
        assert_eq!(run(0, 25), None, "no sample yet");
        assert_eq!(run(1000, 100), Some(1_000_000), "bytes a second");
        assert_eq!(run(0, 300), Some(1_000_000), "a pause");
        assert_eq!(run(100, 200), Some(1_000_000), "a slower one");
        assert_eq!(run(100, 1000), Some(100_000), "that lasts");
        assert_eq!(run(0, 5000), Some(100_000), "a long pause: nothing else is known");
        assert_eq!(run(2000, 100), Some(2_000_000), "a faster one counts at once");
    }

    #[test]
    fn who_acknowledges_nothing_is_stalled_and_who_acknowledges_a_little_is_not() {
        let start = Instant::now();
        let slow = || Ok(link(1, 10, 10));
        let mut gate = Gate::new(start);
        gate.gave(200_000);
        let later = |tenths: u32| start + STALL_TIME_MAX * tenths / 10;
        assert!(!gate.decide(200_000, slow, later(9)).unwrap());
        assert!(!gate.is_stalled(later(9)));
        assert!(!gate.decide(199_000, slow, later(9)).unwrap());
        assert!(!gate.decide(199_000, slow, later(18)).unwrap());
        assert!(!gate.is_stalled(later(18)));
        gate.gave(5); // what is given is not what is taken
        assert!(!gate.decide(199_005, slow, later(19)).unwrap());
        assert!(gate.is_stalled(later(19)));
        assert!(gate.decide(0, slow, later(30)).unwrap());
        assert!(!gate.is_stalled(later(30)));
    }

    #[test]
    fn the_kernel_tells_what_it_holds_and_how_the_way_is() {
        use std::io::Write;
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::AsFd;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_there, _) = listener.accept().unwrap();
        assert_eq!(queued(here.as_fd()).unwrap(), 0);
        here.set_nonblocking(true).unwrap();
        let mut given = 0;
        while let Ok(bytes) = here.write(&[7; 65_536]) {
            given += bytes as u64;
        }
        let held = queued(here.as_fd()).unwrap();
        assert!(held > 0 && held <= given, "{held} of {given}");
        let link = Link::of(here.as_fd()).unwrap();
        assert!(link.rtt > 0 && link.rtt < 10_000_000 && link.rtt_min <= link.rtt, "{link:?}");
        assert!(link.rate > 0, "{link:?}");
    }
}
