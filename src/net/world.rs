//! What the loop has around it: sockets, doors, time. That is the kernel ([`Kernel`]); or, when the
//! loop itself is tried, an invented one.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::gate::Link;
use super::listen::doors;
use super::socket::{Address, Door, Socket};
use crate::config::Listen;
use crate::error::{Error, Result};
use crate::http::Now;
use crate::limits::{EVENTS_MAX, LISTENERS_MAX};

/// Nothing here blocks but `wait`.
pub trait World {
    type Socket: Transport;

    fn now(&self) -> Now;

    /// Wait until something happens, or for `timeout`; none: as long as it takes. What has
    /// happened is put into `events`, which is empty, each change once.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Let in the next guest at a door.
    fn accept(&mut self, door: usize) -> io::Result<(Self::Socket, Address)>;

    /// Tell from now on what happens to the guest in `seat`.
    fn register(&mut self, socket: &mut Self::Socket, seat: usize) -> io::Result<()>;

    /// The guest goes.
    fn deregister(&mut self, socket: &mut Self::Socket);

    fn close_doors(&mut self);
}

/// A guest's connection as the kernel carries it.
pub trait Transport: Read {
    fn write_vectored(&self, slices: &[IoSlice]) -> io::Result<usize>;

    /// The error that the kernel has for us, once.
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Bytes that the kernel holds for the other end: not sent, or sent and not acknowledged.
    fn queued(&self) -> io::Result<u64>;

    /// What the kernel knows of the way.
    fn link(&self) -> io::Result<Link>;
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another thread has left something.
    Woken,
    /// SIGINT or SIGTERM.
    Signal,
    /// There are guests at this door.
    Door(usize),
    /// The guest in this seat can be read from, or written to, or has failed.
    Guest { seat: usize, readable: bool, writable: bool, failed: bool },
}

// ---- the kernel -----------------------------------------------------------------------------

const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);
/// Doors have the tokens from here on, …
const FIRST_DOOR: usize = 2;
/// … and guests from here on.
const FIRST_GUEST: usize = FIRST_DOOR + LISTENERS_MAX;

pub struct Kernel {
    poll: Poll,
    events: Events,
    signals: UnixStream,
    /// At most `LISTENERS_MAX`.
    doors: Vec<Door>,
}

impl Kernel {
    /// Listen; the waker is for the other threads.
    pub fn open(listen: &[Listen]) -> Result<(Kernel, Arc<Waker>)> {
        let failed = |source| Error::new("start", "the event loop", source);
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(failed)?);
        let mut signals = signals().map_err(failed)?;
        poll.registry().register(&mut signals, SIGNAL, Interest::READABLE).map_err(failed)?;
        let mut doors = doors(listen)?;
        for (n, door) in doors.iter_mut().enumerate() {
            let token = Token(FIRST_DOOR + n);
            poll.registry().register(door.source(), token, Interest::READABLE).map_err(failed)?;
        }
        let events = Events::with_capacity(EVENTS_MAX);
        Ok((Kernel { poll, events, signals, doors }, waker))
    }

    pub fn doors(&self) -> &[Door] {
        &self.doors
    }
}

/// SIGINT and SIGTERM as bytes to read.
fn signals() -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    ours.set_nonblocking(true)?;
    Ok(UnixStream::from_std(ours))
}

impl World for Kernel {
    type Socket = Socket;

    fn now(&self) -> Now {
        Now { instant: Instant::now(), wall: SystemTime::now() }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            events.push(match event.token() {
                WAKE => Event::Woken,
                SIGNAL if self.signals.read(&mut [0; 16]).is_ok_and(|n| n > 0) => Event::Signal,
                SIGNAL => continue,
                Token(token) if token < FIRST_GUEST => Event::Door(token - FIRST_DOOR),
                Token(token) => Event::Guest {
                    seat: token - FIRST_GUEST,
                    readable: event.is_readable() || event.is_read_closed(),
                    writable: event.is_writable(),
                    failed: event.is_error(),
                },
            });
        }
        Ok(())
    }

    fn accept(&mut self, door: usize) -> io::Result<(Socket, Address)> {
        self.doors[door].accept()
    }

    fn register(&mut self, socket: &mut Socket, seat: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket, Token(FIRST_GUEST + seat), both)
    }

    fn deregister(&mut self, socket: &mut Socket) {
        let _ = self.poll.registry().deregister(socket); // closing does it as well
    }

    fn close_doors(&mut self) {
        self.doors.clear();
    }
}
