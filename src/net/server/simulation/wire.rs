//! A connection between an invented guest and the loop, as strict as a kernel may be: what is new
//! is told once, and only after the loop was told that there is nothing.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::rc::Rc;

use super::Chance;
use crate::net::gate::Link;
use crate::net::world::{Event, Transport};

pub struct Wire {
    /// Where the loop has seated the guest; none before it did, and after it let go.
    pub seat: Option<usize>,
    /// On their way to the loop; then the guest's end, if it has sent that.
    inbound: Vec<u8>,
    fin: bool,
    reset: bool,
    /// In the kernel, for the guest; and how much of it there may be.
    outbound: Vec<u8>,
    room: usize,
    /// The loop sends no more.
    shut: bool,
    /// The loop has closed it.
    pub dropped: bool,
    /// The loop has heard that there is nothing to read, that there is no room to write, …
    dry: bool,
    full: bool,
    /// …that the guest sends no more.
    fin_told: bool,
    /// What it is to be told.
    pub news: News,
    /// Bytes moved since this was asked last.
    pub moves: Cell<u64>,
    chance: Chance,
}

#[derive(Clone, Copy, Default)]
pub struct News {
    readable: bool,
    writable: bool,
    failed: bool,
}

impl Wire {
    pub fn new(room: usize, chance: Chance) -> Wire {
        Wire {
            seat: None,
            inbound: Vec::new(),
            fin: false,
            reset: false,
            outbound: Vec::new(),
            room,
            shut: false,
            dropped: false,
            dry: false,
            full: false,
            fin_told: false,
            news: News::default(),
            moves: Cell::new(0),
            chance,
        }
    }

    // ---- the guest's end ----

    pub fn send(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        self.news.readable |= std::mem::take(&mut self.dry) || self.chance.once_in(8);
    }

    /// Read at most so many bytes into `got`.
    pub fn take(&mut self, most: usize, got: &mut Vec<u8>) {
        let count = most.min(self.outbound.len());
        got.extend(self.outbound.drain(..count));
        if count > 0 {
            self.news.writable |= std::mem::take(&mut self.full) || self.chance.once_in(8);
        }
    }

    /// Send no more.
    pub fn end(&mut self) {
        self.fin = true;
        self.dry = false;
        self.news.readable = true;
    }

    /// Go without a word.
    pub fn reset(&mut self) {
        self.reset = true;
        self.outbound.clear();
        self.news = News { readable: true, writable: true, failed: true };
    }

    /// Whether nothing will come from the loop any more.
    pub fn is_over(&self) -> bool {
        self.reset || (self.outbound.is_empty() && (self.dropped || self.shut))
    }

    // ---- the kernel ----

    /// What the loop is to be told, if it listens.
    pub fn event(&self) -> Option<Event> {
        let News { readable, writable, failed } = self.news;
        let seat = self.seat.filter(|_| readable || writable || failed)?;
        Some(Event::Guest { seat, readable, writable, failed })
    }

    /// What the loop believes is so, or it will hear otherwise.
    #[track_caller]
    pub fn check_latches(&self, readable: bool, writable: bool) {
        let unread = !self.inbound.is_empty() || (self.fin && !self.fin_told);
        assert!(readable || self.news.readable || !unread, "forgotten with bytes to read");
        assert!(writable || self.news.writable || self.full, "forgotten with room to write");
        assert!(!self.reset || self.news.failed, "forgotten though it has failed");
    }
}

/// The loop's end of a wire.
pub struct Line(Rc<RefCell<Wire>>);

impl Line {
    pub fn new(wire: Rc<RefCell<Wire>>) -> Line {
        Line(wire)
    }

    pub fn wire(&self) -> RefMut<'_, Wire> {
        self.0.borrow_mut()
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in seat {:?}", self.wire().seat)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wire().dropped = true;
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire();
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.chance.once_in(20) {
            return Err(ErrorKind::Interrupted.into());
        }
        if wire.inbound.is_empty() {
            wire.fin_told = wire.fin;
            wire.dry = !wire.fin;
            return if wire.fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let there = wire.inbound.len().min(buffer.len());
        let count = if wire.chance.once_in(3) { 1 + wire.chance.below(there) } else { there };
        buffer[..count].copy_from_slice(&wire.inbound[..count]);
        wire.inbound.drain(..count);
        wire.moves.update(|moves| moves + count as u64);
        Ok(count)
    }
}

impl Transport for Line {
    fn write_vectored(&self, slices: &[IoSlice]) -> io::Result<usize> {
        let mut wire = self.wire();
        if wire.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if wire.chance.once_in(20) {
            return Err(ErrorKind::Interrupted.into());
        }
        assert!(!wire.shut, "written to after it was shut");
        let before = wire.outbound.len();
        for slice in slices {
            let room = wire.room - wire.outbound.len();
            wire.full = room < slice.len();
            wire.outbound.extend_from_slice(&slice[..room.min(slice.len())]);
            if wire.full {
                break;
            }
        }
        let count = wire.outbound.len() - before;
        wire.moves.update(|moves| moves + count as u64);
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.wire().reset.then(|| ErrorKind::ConnectionReset.into()))
    }

    fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        let mut wire = self.wire();
        wire.shut = true;
        match wire.reset {
            true => Err(ErrorKind::NotConnected.into()),
            false => Ok(()),
        }
    }

    fn queued(&self) -> io::Result<u64> {
        Ok(self.wire().outbound.len() as u64)
    }

    fn link(&self) -> io::Result<Link> {
        Ok(Link { rtt: 10_000, rtt_min: 10_000, rate: 100_000 })
    }
}
