//! A client at our end: its socket, what we know of it, and its machine. The one place where a
//! socket's error becomes a close.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Instant;

use super::gate::Gate;
use super::socket::Address;
use super::world::Transport;
use crate::disk::{OpenFile, Ticket};
use crate::frame::{Frame, Picture, Watch};
use crate::http::Now;
use crate::http::conn::{Close, Conn};
use crate::http::outbox::Outbox;
use crate::http::response::{Part, Response};
use crate::limits::{READ_BYTES, READS_MAX, WRITE_PIECES_MAX};
use crate::scale::Wish;

/// One guest. mio tells of changes only (edges), so what they said is kept in latches until the
/// kernel says "would block".
#[derive(Debug)]
pub struct Peer<S> {
    pub socket: S,
    pub address: Address,
    /// For whom a proxy that is trusted made its last request.
    pub behind: Option<IpAddr>,
    /// Counts all guests; tells this one from an earlier one in the same seat.
    pub guest: u64,
    pub readable: bool,
    pub writable: bool,
    /// The kernel has an error for us.
    pub failed: bool,
    /// On the list of those to be driven this turn.
    pub touched: bool,
    pub conn: Conn,
    /// What it made us hold when it was weighed last, in bytes.
    pub held: usize,
    /// Of these, what the disk thread was given for it.
    pub lent: usize,
    /// Its wish for frames, as a viewer or while it waits for a snapshot.
    pub watch: Option<Watch>,
    /// Whose frames, counted from 0.
    pub camera: usize,
    /// How it wants its frames.
    pub wish: Wish,
    pub snapshot: Option<SnapshotWait>,
    /// What it asked for is being written to the disk.
    pub awaits_change: bool,
    /// Whether its next frame may be begun; for viewers.
    pub gate: Gate,
    /// The file whose bytes it is being sent, when the disk thread does not have it.
    pub file: Option<OpenFile>,
}

/// A snapshot that was asked for and has no frame yet.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotWait {
    /// The camera has settled, or the client does not care.
    pub settled: bool,
    /// The number of the last frame that was there when it was asked for.
    pub after: u64,
    pub until: Instant,
}

impl SnapshotWait {
    /// Whether this frame will do.
    pub fn takes(&self, frame: &Frame) -> bool {
        let settled = matches!(frame.picture, Picture::Live { settled: true });
        frame.number > self.after && (settled || !self.settled)
    }
}

impl<S: Transport> Peer<S> {
    pub fn new(socket: S, address: Address, guest: u64, conn: Conn, now: Now) -> Peer<S> {
        Peer {
            socket,
            address,
            behind: None,
            guest,
            readable: true,
            writable: true,
            failed: false,
            touched: false,
            conn,
            held: 0,
            lent: 0,
            watch: None,
            camera: 0,
            wish: Wish::default(),
            snapshot: None,
            awaits_change: false,
            gate: Gate::new(now.instant),
            file: None,
        }
    }

    /// Where its requests come from.
    pub fn client(&self) -> IpAddr {
        self.behind.unwrap_or(self.address.ip())
    }

    /// Bytes of ours that the kernel still holds for it.
    pub fn queued(&self) -> u64 {
        self.socket.queued().unwrap_or(0)
    }

    /// Whether it wants this camera's frames.
    pub fn watches(&self, camera: usize) -> bool {
        self.watch.is_some() && self.camera == camera
    }

    /// Whether it would take this frame now.
    pub fn wants(&self, frame: &Frame, now: Now) -> bool {
        match self.snapshot {
            Some(wait) => wait.takes(frame),
            None => self.gate.again.is_none() && self.conn.wants(frame, now),
        }
    }

    /// Names the guest in `seat`, whatever comes meanwhile.
    pub fn ticket(&self, seat: usize) -> Ticket {
        Ticket { seat, guest: self.guest }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.snapshot.map(|wait| wait.until);
        [self.conn.deadline(), waits, self.gate.again].into_iter().flatten().min()
    }

    /// The wait for a snapshot is over, and so is the wish for frames.
    pub fn end_snapshot(&mut self, response: Response, now: Now) {
        self.snapshot = None;
        self.watch = None;
        self.wish = Wish::default();
        self.conn.answer(response, now);
    }

    /// Whether `pump` would get on: what was read may have made something to write, and there may
    /// be more to read than it takes at once.
    pub fn can_move(&self) -> bool {
        let can_write = self.writable && !self.conn.outbox().is_empty();
        can_write || self.failed || (self.readable && self.conn.room() > 0)
    }

    /// Move bytes both ways as far as they go. Everything that can go wrong with a socket ends in
    /// `Close::Left`: the other end is gone, which is an everyday event.
    pub fn pump(&mut self, buffer: &mut [u8; READ_BYTES], now: Now) {
        let moved = self.write(now).and_then(|()| self.read(buffer, now));
        let failed = match std::mem::take(&mut self.failed) {
            true => self.socket.take_error(),
            false => Ok(None),
        };
        if let (Err(error), _) | (_, Err(error)) | (_, Ok(Some(error))) = (moved, failed) {
            log::debug!("{}: {error}", self.address);
            self.conn.close(Close::Left);
        }
    }

    fn write(&mut self, now: Now) -> io::Result<()> {
        while self.writable && !self.conn.outbox().is_empty() {
            match write_pieces(&self.socket, self.conn.outbox()) {
                Ok((0, _)) => return Err(ErrorKind::WriteZero.into()),
                Ok((sent, owed)) => {
                    // A short write is "would block": the edge that follows is certain.
                    self.writable = sent == owed;
                    self.conn.sent(sent, now);
                    self.gate.gave(sent);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8; READ_BYTES], now: Now) -> io::Result<()> {
        for _ in 0..READS_MAX {
            let room = self.conn.room().min(READ_BYTES);
            if !self.readable || room == 0 {
                break;
            }
            match self.socket.read(&mut buffer[..room]) {
                Ok(0) => {
                    self.readable = false;
                    self.conn.receive_end(now);
                }
                Ok(received) => self.conn.receive(&buffer[..received], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Give a viewer the frame if it lacks it and its gate is open; whether it took it, or left.
    pub fn offer(&mut self, part: &Arc<Part>, now: Now) -> bool {
        if !self.conn.lacks(&part.frame) {
            return false;
        }
        match self.gate.is_open(&self.socket, now.instant) {
            Ok(true) => self.conn.offer(part, now),
            Ok(false) if self.gate.is_stalled(now.instant) => {
                self.conn.close(Close::Stalled);
                return true;
            }
            Ok(false) => {}
            Err(error) => {
                log::debug!("{}: {error}", self.address);
                self.conn.close(Close::Left);
                return true;
            }
        }
        !self.conn.outbox().is_empty()
    }

    /// Say that nothing more will come from us.
    pub fn half_close(&mut self) {
        if self.socket.shutdown(Shutdown::Write).is_err() {
            self.conn.close(Close::Left);
        }
    }
}

/// One vectored write; how many bytes went, how many were offered.
fn write_pieces(socket: &impl Transport, outbox: &Outbox) -> io::Result<(usize, usize)> {
    let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
    let (count, owed) = outbox.fill(&mut slices);
    Ok((socket.write_vectored(&slices[..count])?, owed))
}
