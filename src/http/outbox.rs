//! What we still owe a client: pieces in order, with one cursor. Pure.
//!
//! Large pieces are shared, never copied; a short write moves the cursor and nothing else.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use super::response::{PART_END, Part};
use crate::frame::Frame;
use crate::limits::WRITE_PIECES_MAX;

#[derive(Debug)]
pub enum Piece {
    /// Bound: as `Body::Bytes`, or at most `CHUNK_BYTES`.
    Bytes(Cow<'static, [u8]>),
    /// From so many bytes of a picture on, up to so many.
    Frame(Arc<Frame>, usize, usize),
    /// A frame in a stream: its head, itself, the boundary behind it.
    Part(Arc<Part>),
}

impl Piece {
    fn slices(&self) -> [&[u8]; 3] {
        match self {
            Piece::Bytes(bytes) => [bytes, &[], &[]],
            Piece::Frame(frame, start, end) => [&frame.jpeg()[*start..*end], &[], &[]],
            Piece::Part(part) => [&part.head, part.frame.jpeg(), PART_END],
        }
    }

    fn length(&self) -> usize {
        self.slices().iter().map(|slice| slice.len()).sum()
    }
}

/// A queue of pieces. Its limit is its users': a reply queues its head and one body or chunk,
/// a stream one frame, each only when the queue is empty.
#[derive(Debug, Default)]
pub struct Outbox {
    /// INVARIANT: no piece is empty. Bound: the code's, see above.
    pieces: VecDeque<Piece>,
    /// Bytes of the front piece that are sent. INVARIANT: inside the front piece, 0 without one.
    sent: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn push(&mut self, piece: Piece) {
        if piece.length() > 0 {
            self.pieces.push_back(piece);
        }
    }

    /// Bytes that are held for this client alone.
    pub fn held(&self) -> usize {
        let own = |piece: &Piece| match piece {
            Piece::Bytes(Cow::Owned(bytes)) => bytes.capacity(),
            _ => 0,
        };
        self.pieces.iter().map(own).sum()
    }

    /// The frame that is being sent, if one is; it may be shared with others.
    pub fn frame(&self) -> Option<&Arc<Frame>> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Bytes(_) => None,
            Piece::Frame(frame, ..) => Some(frame),
            Piece::Part(part) => Some(&part.frame),
        })
    }

    /// The next bytes to send, in at most `WRITE_PIECES_MAX` slices; how many slices, how many
    /// bytes they hold.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; WRITE_PIECES_MAX]) -> (usize, usize) {
        let (mut count, mut bytes, mut sent) = (0, 0, self.sent);
        for slice in self.pieces.iter().flat_map(Piece::slices) {
            let rest = slice.get(sent..).unwrap_or_default();
            sent = sent.saturating_sub(slice.len());
            if rest.is_empty() {
                continue;
            }
            let Some(place) = slices.get_mut(count) else { break };
            *place = IoSlice::new(rest);
            count += 1;
            bytes += rest.len();
        }
        (count, bytes)
    }

    /// So many bytes have left. Pieces that are through are let go.
    pub fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(front) = self.pieces.front() {
            let length = front.length();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.pieces.pop_front();
        }
        debug_assert_eq!(self.sent, 0, "more was sent than was owed");
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Send everything, `step` bytes at a time.
    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
            let (count, bytes) = outbox.fill(&mut slices);
            let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
            assert_eq!(all.len(), bytes);
            let taken = step.min(bytes);
            sent.extend(&all[..taken]);
            outbox.advance(taken);
        }
        sent
    }

    #[test]
    fn any_step_sends_the_same_bytes() {
        let pieces = [&b"abc"[..], b"", b"d", b"efghij", b"k"];
        for step in 1..12 {
            let mut outbox = Outbox::default();
            for piece in pieces.iter().cycle().take(20) {
                outbox.push(Piece::Bytes(Cow::Borrowed(piece)));
            }
            assert_eq!(drain(&mut outbox, step), b"abcdefghijk".repeat(4), "step {step}");
        }
    }
}
