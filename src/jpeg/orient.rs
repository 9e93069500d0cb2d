//! How a picture is to be turned when it is shown: EXIF's orientation, where it stands in EXIF
//! data, and what it does to samples. Pure.
//!
//! EXIF 2.32, section 4.6.4 (tag 0x0112); its structure: TIFF 6.0, section 2.

use crate::frame::Shape;

/// What is done to a picture when it is shown: mirrored left to right, or not, and then turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    mirrored: bool,
    /// Clockwise; 0 to 3.
    quarters: u8,
}

/// EXIF's numbers, not mirrored and mirrored, by quarters.
const NUMBERS: [[u16; 4]; 2] = [[1, 6, 3, 8], [2, 7, 4, 5]];

impl Turn {
    /// Turned clockwise by so many quarters, and then, if it is to be, mirrored left to right.
    pub fn new(quarters: u8, mirror: bool) -> Turn {
        let none = Turn::default();
        none.then(Turn { mirrored: false, quarters: quarters % 4 })
            .then(Turn { mirrored: mirror, quarters: 0 })
    }

    pub fn from_number(number: u16) -> Option<Turn> {
        let turns = (0..8).map(|n| Turn { mirrored: n >= 4, quarters: n % 4 });
        turns.into_iter().find(|turn| turn.number() == number)
    }

    /// From 1 to 8.
    pub fn number(self) -> u16 {
        NUMBERS[usize::from(self.mirrored)][usize::from(self.quarters)]
    }

    /// This turn and `next` one after the other, as one.
    pub fn then(self, next: Turn) -> Turn {
        // Seen in a mirror, it turns the other way.
        let quarters = if next.mirrored { 4 - self.quarters } else { self.quarters };
        Turn { mirrored: self.mirrored != next.mirrored, quarters: (quarters + next.quarters) % 4 }
    }

    /// The turn that takes this one back.
    pub fn inverse(self) -> Turn {
        match self.mirrored {
            true => self, // a reflection: twice is none
            false => Turn { mirrored: false, quarters: (4 - self.quarters) % 4 },
        }
    }

    pub fn is_none(self) -> bool {
        self == Turn::default()
    }

    /// How a picture is shown that is stored in this width and height.
    pub fn shown(self, (width, height): (u32, u32)) -> Shape {
        let size = if self.swaps_sides() { (height, width) } else { (width, height) };
        Shape { size, turned: !self.is_none() }
    }

    /// Whether width becomes height.
    pub fn swaps_sides(self) -> bool {
        self.quarters % 2 == 1
    }

    /// Add to `out` the first `width` x `height` samples of a plane as they are shown, row by row.
    /// `stride`: samples from one row of the plane to the next.
    pub fn apply(
        self,
        plane: &[u8],
        stride: usize,
        (width, height): (usize, usize),
        out: &mut Vec<u8>,
    ) {
        let from_right = self.mirrored != (self.quarters >= 2);
        let from_below = matches!(self.quarters, 1 | 2);
        let (first_x, step_x) = if from_right { (width - 1, -1) } else { (0, 1) };
        let row = stride as isize;
        let (first_y, step_y) = if from_below { (height - 1, -row) } else { (0, row) };
        let (columns, next_column, rows, next_row) = match self.swaps_sides() {
            true => (height, step_y, width, step_x),
            false => (width, step_x, height, step_y),
        };
        let mut start = first_y * stride + first_x;
        for _ in 0..rows {
            let mut at = start;
            for _ in 0..columns {
                out.push(plane[at]);
                at = at.wrapping_add_signed(next_column);
            }
            start = start.wrapping_add_signed(next_row);
        }
    }
}

/// A TIFF structure in one of its two byte orders.
pub struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

const ORIENTATION: usize = 0x0112;
const SHORT: u16 = 3;

impl<'a> Tiff<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Tiff<'a>> {
        let little = match bytes.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Tiff { bytes, little })
    }

    pub fn u16_at(&self, at: usize) -> Option<usize> {
        let b: [u8; 2] = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(if self.little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) }))
    }

    pub fn u32_at(&self, at: usize) -> Option<usize> {
        let b: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let value = if self.little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) };
        usize::try_from(value).ok()
    }

    fn u16_bytes(&self, value: u16) -> [u8; 2] {
        if self.little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn u32_bytes(&self, value: u32) -> [u8; 4] {
        if self.little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// Where each entry of the first directory stands.
    fn entries(&self) -> Option<Vec<usize>> {
        let first = self.u32_at(4)?;
        let count = self.u16_at(first)?;
        let end = first.checked_add(2 + 12 * count + 4)?;
        let whole = end <= self.bytes.len();
        whole.then(|| (0..count).map(|n| first + 2 + 12 * n).collect())
    }

    /// What it says of the orientation; none if nothing, or nonsense.
    pub fn orientation(&self) -> Option<Turn> {
        let is_it = |at: &usize| self.u16_at(*at) == Some(ORIENTATION);
        let at = self.entries()?.into_iter().find(is_it)?;
        Turn::from_number(u16::try_from(self.u16_at(at + 8)?).ok()?)
    }

    fn orientation_entry(&self, turn: Turn) -> Vec<u8> {
        let number = self.u16_bytes(turn.number());
        let tag = self.u16_bytes(ORIENTATION as u16);
        [&tag[..], &self.u16_bytes(SHORT), &self.u32_bytes(1), &number, &[0; 2]].concat()
    }

    /// The same with this orientation; all else stays where it is. None if it is damaged.
    pub fn with_orientation(&self, turn: Turn) -> Option<Vec<u8>> {
        let entries = self.entries()?;
        let entry = self.orientation_entry(turn);
        let mut out = self.bytes.to_vec();
        let is_it = |at: &&usize| self.u16_at(**at) == Some(ORIENTATION);
        if let Some(at) = entries.iter().find(is_it) {
            out[*at..at + 12].copy_from_slice(&entry);
            return Some(out);
        }
        // The directory stands once more at the end, with one entry more; they are in order.
        let first = self.u32_at(4)?;
        let end = first + 2 + 12 * entries.len();
        let is_before = |at: &&usize| self.u16_at(**at).is_some_and(|tag| tag < ORIENTATION);
        let place = first + 2 + 12 * entries.iter().take_while(is_before).count();
        out.resize(out.len().next_multiple_of(2), 0);
        let at = self.u32_bytes(u32::try_from(out.len()).ok()?);
        out[4..8].copy_from_slice(&at);
        out.extend(self.u16_bytes(u16::try_from(entries.len() + 1).ok()?));
        out.extend_from_slice(&self.bytes[first + 2..place]);
        out.extend(entry);
        out.extend_from_slice(&self.bytes[place..end + 4]); // with the link to the next directory
        Some(out)
    }

    /// The least that says this orientation.
    pub fn of_orientation(turn: Turn) -> Vec<u8> {
        let empty = Tiff { bytes: b"MM\0*\0\0\0\x08", little: false };
        let entry = empty.orientation_entry(turn);
        [empty.bytes, &[0, 1], &entry, &[0; 4]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 2 x 2 pixels as it is shown.
    fn shown(turn: Turn, [a, b, c, d]: [u8; 4]) -> [u8; 4] {
        let mut picture = if turn.mirrored { [b, a, d, c] } else { [a, b, c, d] };
        for _ in 0..turn.quarters {
            let [a, b, c, d] = picture;
            picture = [c, a, d, b];
        }
        picture
    }

    #[test]
    fn numbers_mean_what_exif_says() {
        // Where the stored picture's first row and first column are to be seen (table 6).
        let stored = [1, 2, 3, 4];
        for (number, expect) in [
            (1, [1, 2, 3, 4]), // top, left
            (2, [2, 1, 4, 3]), // top, right
            (3, [4, 3, 2, 1]), // bottom, right
            (4, [3, 4, 1, 2]), // bottom, left
            (5, [1, 3, 2, 4]), // left, top
            (6, [3, 1, 4, 2]), // right, top
            (7, [4, 2, 3, 1]), // right, bottom
            (8, [2, 4, 1, 3]), // left, bottom
        ] {
            let turn = Turn::from_number(number).unwrap();
            assert_eq!(turn.number(), number);
            assert_eq!(shown(turn, stored), expect, "{number}");
            assert_eq!(turn.shown((2, 1)).size == (1, 2), number >= 5, "{number}");
            assert!(turn.then(turn.inverse()).is_none(), "{number}");
            let mut applied = vec![9];
            turn.apply(&[1, 2, 0, 3, 4], 3, (2, 2), &mut applied); // a stride, and what lies behind
            assert_eq!(applied, [&[9], &expect[..]].concat(), "{number}");
        }
        assert_eq!([0, 9, 600].map(Turn::from_number), [None; 3]);
    }

    #[test]
    fn a_plane_that_is_no_square_is_turned() {
        for (number, expect) in [
            (1, [1, 2, 3, 4, 5, 6]),
            (2, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (4, [4, 5, 6, 1, 2, 3]),
            (5, [1, 4, 2, 5, 3, 6]),
            (6, [4, 1, 5, 2, 6, 3]),
            (7, [6, 3, 5, 2, 4, 1]),
            (8, [3, 6, 2, 5, 1, 4]),
        ] {
            let mut turned = Vec::new();
            let plane = [1, 2, 3, 4, 5, 6];
            Turn::from_number(number).unwrap().apply(&plane, 3, (3, 2), &mut turned);
            assert_eq!(turned, expect, "{number}");
        }
    }

    #[test]
    fn two_turns_are_one() {
        for (a, b) in (1..=8).flat_map(|a| (1..=8).map(move |b| (a, b))) {
            let (a, b) = (Turn::from_number(a).unwrap(), Turn::from_number(b).unwrap());
            let picture = [1, 2, 3, 4];
            assert_eq!(shown(a.then(b), picture), shown(b, shown(a, picture)), "{a:?} {b:?}");
        }
        let right = Turn::new(1, false);
        assert_eq!(right.number(), 6);
        assert_eq!(Turn::new(0, true).number(), 2);
        // Turned, and what is seen then is mirrored.
        assert_eq!(shown(Turn::new(1, true), [1, 2, 3, 4]), [1, 3, 2, 4]);
        assert!(right.then(Turn::new(3, false)).is_none() && Turn::new(4, false).is_none());
    }

    /// A directory with these tags, each with its number as its value, and what they point to.
    fn tiff(little: bool, tags: &[u16]) -> Vec<u8> {
        let t = Tiff { bytes: &[], little };
        let mut bytes = if little { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
        bytes.extend(t.u32_bytes(11)); // an odd place, which is allowed to nobody and met
        bytes.extend(b"abc");
        bytes.extend(t.u16_bytes(tags.len() as u16));
        for tag in tags {
            bytes.extend([t.u16_bytes(*tag), t.u16_bytes(SHORT)].concat());
            bytes.extend(t.u32_bytes(1));
            bytes.extend([t.u16_bytes(*tag), [0; 2]].concat());
        }
        bytes.extend(t.u32_bytes(77));
        bytes
    }

    #[test]
    fn an_orientation_is_put_in_and_all_else_stays() {
        let turn = Turn::new(1, false);
        for little in [true, false] {
            for tags in [&[][..], &[0x010f], &[0x8769], &[0x010f, 0x0110, 0x0131, 0x8769]] {
                let old = tiff(little, tags);
                let t = Tiff::read(&old).unwrap();
                assert_eq!(t.orientation(), None);
                let new = t.with_orientation(turn).unwrap();
                assert_eq!(new[8..old.len()], old[8..], "nothing moves");
                let t = Tiff::read(&new).unwrap();
                assert_eq!(t.orientation(), Some(turn));
                let found: Vec<u16> =
                    t.entries().unwrap().iter().map(|at| t.u16_at(*at).unwrap() as u16).collect();
                let mut expect = tags.to_vec();
                expect.push(0x0112);
                expect.sort_unstable();
                assert_eq!(found, expect);
                let link = t.entries().unwrap().last().unwrap() + 12;
                assert_eq!(t.u32_at(link), Some(77));
                // Again: only the number changes.
                let again = t.with_orientation(Turn::new(2, true)).unwrap();
                assert_eq!(again.len(), new.len());
                assert_eq!(Tiff::read(&again).unwrap().orientation(), Some(Turn::new(2, true)));
            }
        }
        let least = Tiff::of_orientation(turn);
        assert_eq!(Tiff::read(&least).unwrap().orientation(), Some(turn));
    }

    #[test]
    fn damage_is_no_orientation() {
        let whole = tiff(true, &[0x0112]);
        for end in 0..whole.len() {
            let t = Tiff::read(&whole[..end]);
            let orientation = t.as_ref().and_then(Tiff::orientation);
            assert_eq!(orientation, None, "cut at {end}");
            let turned = t.and_then(|t| t.with_orientation(Turn::new(1, false)));
            assert_eq!(turned, None, "cut at {end}");
        }
        // 0x0112 is no orientation.
        assert_eq!(Tiff::read(&whole).unwrap().orientation(), None);
        let far = [&b"II*\0"[..], &[0xff; 4]].concat();
        assert!(Tiff::read(&far).unwrap().with_orientation(Turn::default()).is_none());
    }
}
