//! A sequence of JPEGs cut into its pictures, by their structure and not by luck: a thumbnail's
//! end of image ends no picture, and bytes may come in any pieces. Pure: no descriptor, no clock.
//!
//! ```text
//!              SOI                          EOI: a whole picture
//!   ┌───────┐ ────▶ ┌────────┐ ───────────────────────────────▶ search
//!   │ search│       │ inside │ ── SOI in a marker's place: broken ──▶ inside the next one
//!   └───────┘ ◀──── └────────┘
//!              broken in another way: in doubt
//! ```
//!
//! Where a picture is broken in another way than by the start of the next, a segment that was cut
//! off may have swallowed that start, so the search goes on within it; and what is found then may
//! be a thumbnail. So a first find after damage must have the size of the picture before it, and
//! so must a picture of which a segment holds a start without an end.

use std::ops::Range;

use memchr::memmem;

use super::{Broken, Step, Walk, marker};
use crate::limits::FRAME_BYTES_MAX;

/// What begins a picture: SOI and the first byte of the marker that must follow.
const START: [u8; 3] = [0xff, marker::SOI, 0xff];

/// A picture and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub place: Range<usize>,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

/// Finds the pictures in bytes that grow.
#[derive(Debug, Default)]
pub struct Splitter {
    /// What lies before is of no use any more. Inside a picture: its SOI.
    start: usize,
    /// The way through the picture that begins at `start`.
    inside: Option<Walk>,
    /// Of the last picture.
    size: Option<(u32, u32)>,
    /// What is found next may be a picture inside another one.
    doubtful: bool,
}

impl Splitter {
    /// The next picture in `bytes`, or why there was none: those given before, and perhaps more
    /// behind them. None: more are needed, from `start` on.
    pub fn next(&mut self, bytes: &[u8]) -> Option<Result<Cut, Broken>> {
        if self.inside.is_none() && !self.search(bytes) {
            return None;
        }
        let walk = self.inside.as_mut()?;
        let step = loop {
            match walk.next(bytes) {
                Ok(Step::Segment(_)) => {}
                other => break other,
            }
        };
        let reached = match step {
            Ok(Step::End(end)) => end,
            Err(_) => walk.at,
            _ => bytes.len(),
        };
        if reached - self.start > FRAME_BYTES_MAX {
            self.start += FRAME_BYTES_MAX;
            (self.inside, self.doubtful) = (None, true);
            return Some(Err(Broken::TooLarge));
        }
        match step {
            Ok(Step::End(end)) => {
                let size = walk.frame.map(|(_, size)| size);
                self.doubtful |= walk.doubtful;
                let place = self.start..end;
                (self.start, self.inside) = (end, None);
                Some(self.judge(place, size))
            }
            Err(broken) => {
                let walk = self.inside.take()?;
                self.resume(bytes, &walk);
                Some(Err(broken))
            }
            _ => None,
        }
    }

    /// Where the bytes begin that are still needed.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether a picture has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// So many bytes are taken away at the front; at most up to `start`.
    pub fn forget(&mut self, count: usize) {
        debug_assert!(count <= self.start);
        self.start -= count;
        if let Some(walk) = &mut self.inside {
            walk.shift(count, 0);
        }
    }

    /// Whether a picture begins in what is left; looks at no byte twice.
    fn search(&mut self, bytes: &[u8]) -> bool {
        let rest = &bytes[self.start..];
        match memmem::find(rest, &START) {
            Some(at) => {
                self.start += at;
                self.inside = Some(Walk::new(self.start + 2));
                true
            }
            None => {
                // The start may have come in part.
                let part = (1..START.len()).rev().find(|n| rest.ends_with(&START[..*n]));
                self.start = bytes.len() - part.unwrap_or(0);
                false
            }
        }
    }

    /// A picture is whole; whether it is one of the sequence.
    fn judge(&mut self, place: Range<usize>, size: Option<(u32, u32)>) -> Result<Cut, Broken> {
        let size = size.ok_or(Broken::Head)?;
        let doubtful = std::mem::replace(&mut self.doubtful, false);
        if doubtful && self.size.is_some_and(|last| last != size) {
            return Err(Broken::Inner);
        }
        self.size = Some(size);
        Ok(Cut { place, size })
    }

    /// Go on behind what was found broken.
    fn resume(&mut self, bytes: &[u8], walk: &Walk) {
        // Not back to segments that were found in order.
        let (start, in_doubt) = match &walk.last {
            Some(last) if walk.at == last.start => (last.body, true),
            _ if bytes[walk.at..].starts_with(&START[..2]) && !walk.doubtful => (walk.at, false),
            Some(last) if !walk.scanning || walk.at == last.end => (last.body, true),
            _ => (walk.at, true),
        };
        self.start = start;
        self.doubtful |= in_doubt;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jpeg::orient::Turn;
    use crate::jpeg::{Encoder, Layout, Raw, mend, mend_whole};
    use proptest::prelude::*;

    /// A JPEG of grey noise, so that its coded data has stuffed bytes and needs many of them.
    fn picture(width: usize, height: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let bytes: Vec<u8> = (0..width * height).map(|_| noise()).collect();
        let (layout, stride) = (Layout::Grey, width);
        let raw = Raw { layout, width, height, stride, limited: false, bytes: &bytes };
        let mut jpeg = Vec::new();
        Encoder::new(90).unwrap().encode(&raw, &mut jpeg).unwrap();
        jpeg
    }

    /// `jpeg` with a segment behind SOI.
    fn with(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, marker], &length[..], body, &jpeg[2..]].concat()
    }

    /// As a camera makes it: a thumbnail in the EXIF segment, which is a whole JPEG.
    fn with_thumbnail(jpeg: &[u8]) -> Vec<u8> {
        with(jpeg, 0xe1, &[b"Exif\0\0", &picture(16, 8, 7)[..]].concat())
    }

    /// A progressive picture by its structure: three scans, tables between them.
    fn with_scans(jpeg: &[u8]) -> Vec<u8> {
        let more = b"\xff\xc4\0\x05\0\x11\x22\xff\xda\0\x08\x01\x01\0\0\x3f\0data\xff\0more";
        [&jpeg[..jpeg.len() - 2], more, b"\xff\xd3", more, b"\xff\xff\xff\xd9"].concat()
    }

    /// All that a splitter finds when the bytes come in pieces of these lengths, over and over;
    /// what it is done with is taken away, now and then.
    fn split(bytes: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Vec<Broken>) {
        let (mut splitter, mut held) = (Splitter::default(), Vec::new());
        let (mut found, mut broken, mut rest) = (Vec::new(), Vec::new(), bytes);
        for (n, piece) in pieces.iter().cycle().enumerate() {
            let (now, later) = rest.split_at((*piece).clamp(1, rest.len().max(1)).min(rest.len()));
            held.extend_from_slice(now);
            rest = later;
            while let Some(next) = splitter.next(&held) {
                match next {
                    Ok(cut) => found.push(held[cut.place].to_vec()),
                    Err(reason) => broken.push(reason),
                }
            }
            if n % 3 == 0 {
                let count = splitter.start();
                splitter.forget(count);
                held.drain(..count);
            }
            if rest.is_empty() {
                break;
            }
        }
        (found, broken)
    }

    #[track_caller]
    fn check(parts: &[&[u8]], expect: &[&[u8]], broken: usize) {
        let bytes = parts.concat();
        for pieces in [&[usize::MAX][..], &[1], &[2, 3, 5, 7], &[64 * 1024]] {
            let (found, reasons) = split(&bytes, pieces);
            assert_eq!(found.len(), expect.len(), "{pieces:?}: {reasons:?}");
            assert!(found.iter().zip(expect).all(|(a, b)| a == b), "{pieces:?}");
            assert_eq!(reasons.len(), broken, "{pieces:?}: {reasons:?}");
        }
    }

    #[test]
    fn pictures_are_found_by_their_structure() {
        let (a, b) = (picture(64, 48, 1), picture(64, 48, 2));
        check(&[&a, &b, &a], &[&a, &b, &a], 0);
        let thumbnail = with_thumbnail(&a);
        check(&[&thumbnail, &b, &thumbnail], &[&thumbnail, &b, &thumbnail], 0);
        let scans = with_scans(&a);
        check(&[&scans, &scans], &[&scans, &scans], 0);
        let filled = [&a[..2], &[0xff; 300], &a[2..]].concat();
        check(&[&filled, &a], &[&filled, &a], 0);
    }

    #[test]
    fn what_stands_between_pictures_is_passed_over() {
        let (a, b) = (picture(64, 48, 1), picture(64, 48, 2));
        check(&[&[0; 4096], &a, &[0; 511], &b, &[0; 99]], &[&a, &b], 0);
        check(&[&[0xff; 64], &a, &[0xff; 33], &b], &[&a, &b], 0);
        let head = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n";
        check(&[head, &a, head, &b, head], &[&a, &b], 0);
        // The end of a picture whose start was missed, and ends that belong to none.
        check(&[&a[500..], &b, b"\xff\xd9\xff\xd9\xff", &a], &[&b, &a], 0);
        check(&[b"\xff\xd8 no picture \xff\xd8 ", &a], &[&a], 0);
        check(&[b""], &[], 0);
    }

    #[test]
    fn a_picture_cut_off_costs_no_other() {
        let (a, b) = (picture(64, 48, 1), picture(64, 48, 2));
        for cut in [200, a.len() / 2, a.len() - 3, a.len() - 2, a.len() - 1] {
            check(&[&b, &a[..cut], &b, &a], &[&b, &b, &a], 1);
            check(&[&b, &a[..cut], &[0; 100], &b, &a], &[&b, &b, &a], 1);
        }
        // An end in the middle of the head is none.
        check(&[&a[..2], b"\xff\xd9", &b], &[&b], 1);
        // A length that leads far into the next picture.
        let long = [&a[..2], b"\xff\xe5\x01\x10", &a[2..40]].concat();
        check(&[&b, &long, &b, &a], &[&b, &b, &a], 1);
        // A length that cannot be.
        check(&[&b, &a[..2], b"\xff\xe5\0\x01", &b], &[&b, &b], 1);
    }

    #[test]
    fn a_thumbnail_in_what_was_cut_off_is_not_shown() {
        let (a, b) = (picture(64, 48, 1), picture(64, 48, 2));
        let whole = with_thumbnail(&a);
        let behind_thumbnail = 2 + 4 + 6 + picture(16, 8, 7).len();
        // Cut behind the thumbnail, but within the segment as its length has it.
        let mut long = whole[..behind_thumbnail].to_vec();
        long[4..6].copy_from_slice(&(behind_thumbnail as u16 + 200).to_be_bytes());
        let (found, broken) = split(&[&b[..], &long, &b, &a].concat(), &[1000]);
        assert!(found == [b.clone(), b.clone(), a.clone()], "{broken:?}");
        assert_eq!(broken.last(), Some(&Broken::Inner));
    }

    #[test]
    fn a_change_of_size_is_no_damage() {
        let (a, b) = (picture(64, 48, 1), picture(80, 48, 2));
        check(&[&a, &b, &a], &[&a, &b, &a], 0);
        // After damage it costs one picture.
        check(&[&a, &a[..2], b"\xff\xe5\0\x01", &b, &b], &[&a, &b], 2);
    }

    #[test]
    fn sizes_are_bounded_and_the_largest_pass() {
        let small = picture(64, 48, 1);
        let scan = vec![0x55; FRAME_BYTES_MAX - small.len()];
        let (head, end) = small.split_at(small.len() - 2);
        let large = [head, &scan, end].concat();
        assert_eq!(large.len(), FRAME_BYTES_MAX);
        let (found, broken) = split(&[&large[..], &small].concat(), &[64 * 1024]);
        assert!(found == [large, small.clone()] && broken.is_empty());
        let endless = [head, &scan, &scan, end, &small, &small].concat();
        let (found, broken) = split(&endless, &[1024 * 1024]);
        assert!(found == [small.clone(), small.clone()]);
        assert_eq!(broken, [Broken::TooLarge]);
        let segments = [&small[..2], &[0xff, 0xfe, 0, 2].repeat(2000), &small].concat();
        check(&[&segments, &small], &[&small, &small], 1);
    }

    #[test]
    fn what_is_found_is_what_mend_takes() {
        let sources = [picture(64, 48, 1), with_thumbnail(&picture(64, 48, 2))];
        for jpeg in sources {
            let (found, _) = split(&[&jpeg[..], &jpeg].concat(), &[77]);
            let mut mended = Vec::new();
            for mut picture in found {
                mend(&picture, Turn::default(), &mut mended).unwrap();
                mend_whole(&mut picture, Turn::default()).unwrap();
                assert!(picture == mended, "in place and copied, it is the same");
            }
        }
    }

    /// What a sequence is made of.
    fn part() -> impl Strategy<Value = (u8, u64, usize)> {
        (0u8..7, 1u64..4, 0usize..3000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 400 }))]

        /// However the bytes are cut, the same pictures are found; each is a whole one of those
        /// that were sent, never a thumbnail, and damage has an end.
        #[test]
        fn any_cutting_gives_the_same_pictures(
            parts in prop::collection::vec(part(), 1..12),
            pieces in prop::collection::vec(1usize..5000, 1..20),
        ) {
            let first = picture(64, 48, 9);
            let (mut bytes, mut sent) = (first.clone(), vec![first.clone()]);
            for (kind, seed, cut) in &parts {
                let whole = match kind % 2 {
                    0 => picture(64, 48, *seed),
                    _ => with_thumbnail(&picture(64, 48, *seed)),
                };
                match kind {
                    0 | 1 => bytes.extend_from_slice(&whole),
                    2 | 3 => bytes.extend_from_slice(&whole[..(*cut).min(whole.len())]),
                    4 => bytes.extend(vec![0; *cut]),
                    5 => bytes.extend(vec![0xff; cut % 50]),
                    _ => bytes.extend_from_slice(&b"--frame\r\nX: y\r\n\r\n"[..cut % 18]),
                }
                sent.push(whole);
            }
            // What is cut off can say that it goes on for 64 KiB.
            bytes.extend([&first[..], &[0; 1 << 16], &first].concat());
            let (found, broken) = split(&bytes, &pieces);
            let (at_once, broken_at_once) = split(&bytes, &[usize::MAX]);
            prop_assert!(found == at_once && broken == broken_at_once);
            // A cut may fall where the next picture's start is taken for a segment's end: then
            // it carries a few bytes of the one before.
            let is_sent = |jpeg: &Vec<u8>| sent.iter().any(|sent| jpeg.ends_with(&sent[2..]));
            prop_assert!(found.iter().all(is_sent), "{:?}", broken);
            prop_assert_eq!(found.last(), Some(&first));
        }

        /// Bytes without any sense end neither in a panic nor in more than they hold.
        #[test]
        fn noise_does_no_harm(
            noise in prop::collection::vec(
                prop_oneof![
                    3 => Just(0xffu8),
                    2 => prop::sample::select(vec![0xd8u8, 0xd9, 0xda, 0xc0, 0xe1, 0xd0, 0x00]),
                    1 => any::<u8>(),
                ],
                0..3000,
            ),
            pieces in prop::collection::vec(1usize..400, 1..9),
        ) {
            let (found, broken) = split(&noise, &pieces);
            let (at_once, broken_at_once) = split(&noise, &[usize::MAX]);
            prop_assert!(found == at_once && broken == broken_at_once);
            prop_assert!(found.iter().map(Vec::len).sum::<usize>() <= noise.len());
        }
    }
}
