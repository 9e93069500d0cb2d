//! A sequence of JPEGs from a pipe: however its bytes come, the same pictures are found in it, each
//! of them whole, and no more is held than one that is not whole yet.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Instant;

use pistream::camera::Pool;
use pistream::camera::pipe::Feed;
use pistream::jpeg::orient::Turn;
use pistream::jpeg::split::Splitter;
use pistream::jpeg::{Broken, mend_whole, orientation};

use super::Dice;

/// What an empty pipe takes, for sure.
const PIPE_BYTES: usize = 32 * 1024;

pub fn run(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let at_once = split(&[bytes]);
    let pieces = dice.pieces(bytes);
    assert!(split(&pieces) == at_once, "however it is cut");
    let (found, broken) = at_once;
    assert!(found.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    for (n, jpeg) in found.iter().enumerate() {
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]), "{n}");
        let mut mended = jpeg.clone();
        let shown = mend_whole(&mut mended, Turn::default()).expect("what is found can be shown");
        assert!(shown.turned != orientation(&mended).is_none());
    }
    if cfg!(miri) {
        return; // it knows no pipe that does not block
    }
    read(bytes.chunks(PIPE_BYTES), &found, broken.len());
    if pieces.len() < 50 {
        read(pieces.into_iter(), &found, broken.len()); // each costs some calls of the system
    }
}

/// All that a splitter finds; what it is done with is taken away.
fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<Broken>) {
    let (mut splitter, mut held) = (Splitter::default(), Vec::new());
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        while let Some(next) = splitter.next(&held) {
            match next {
                Ok(cut) => found.push(held[cut.place].to_vec()),
                Err(reason) => broken.push(reason),
            }
        }
        let done = splitter.start();
        assert!(done <= held.len() && (splitter.is_inside() || held.len() - done < 3), "held");
        splitter.forget(done);
        held.drain(..done);
    }
    (found, broken)
}

/// The same through a real pipe, of which each look gives the newest picture.
fn read<'b>(pieces: impl Iterator<Item = &'b [u8]>, found: &[Vec<u8>], broken: usize) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let (mut feed, pool) = (Feed::default(), Pool::default());
    let (mut seen, mut damaged) = (0, 0);
    for piece in pieces {
        writer.write_all(piece).expect("room in the pipe");
        let catch = feed.read(reader.as_fd(), &pool, Instant::now()).expect("a pipe to read");
        assert!(!catch.closed);
        damaged += catch.broken;
        seen += catch.skipped as usize;
        if let Some(newest) = catch.newest {
            assert!(newest.jpeg == found[seen], "the newest, whole");
            seen += 1;
        }
    }
    assert_eq!((seen, damaged), (found.len(), broken as u64));
}
