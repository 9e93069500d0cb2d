//! Hostile bytes: for each part of the program that reads what others wrote, a function that takes
//! any bytes and panics where a promise is broken. `tests/fuzz.rs` gives it the seeds and random
//! changes of them, in every test run; `scripts/fuzz` has libFuzzer look for what leads further.
//!
//! A seed is a file in `seeds/TARGET`. An input that has broken something becomes one, under a name
//! that says what it is. `dictionaries/TARGET` has the words of its language.

pub mod conn;
pub mod jpeg;
pub mod markdown;
pub mod names;
pub mod pipe;
pub mod request;

/// Numbers that look random, and are the same for the same bytes.
pub struct Dice(u64);

impl Dice {
    pub fn of(bytes: &[u8]) -> Dice {
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Dice(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv) | 1)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    /// `bytes` in pieces of random lengths, as a socket or a pipe brings them; some hundreds of them
    /// at most, for that costs time.
    pub fn pieces<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let longest = [1, 7, 100, 5000][self.roll(4)].max(bytes.len() / 200);
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.roll(longest)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// Where `part` begins in `bytes`.
pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
