//! The only file that knows turbojpeg and JPEG's markers: encode raw frames, mend a camera's own,
//! make them smaller, turn their pixels.
//!
//! Marker names and structure: ITU-T T.81, Annex B; the standard Huffman tables: its Annex K.3.
//! Motion JPEG without tables: the USB Video Class payload format for MJPEG.

pub mod orient;
pub mod split;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::{memchr, memmem};
use turbojpeg::{
    Compressor, DecompressHeader, Decompressor, Image, OutputBuf, ScalingFactor, Subsamp,
    Transform, TransformOp, Transformer, YuvImage, YuvPlanesImage, compressed_buf_len,
    yuv_pixels_len,
};

use self::orient::{Tiff, Turn};
use crate::frame::Shape;
use crate::limits::{DECODED_PIXELS_MAX, FRAME_BYTES_MAX, PIXELS_MAX, SCANS_MAX, SEGMENTS_MAX};

// ---- mending --------------------------------------------------------------------------------

/// Why a camera's frame cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// No bytes at all.
    Empty,
    /// Does not begin with SOI.
    NoStart,
    /// The head breaks off, or holds something that is no segment.
    Head,
    /// No EOI behind the last scan: the frame was cut off.
    NoEnd,
    /// Larger than `FRAME_BYTES_MAX`.
    TooLarge,
    /// A raw frame with fewer bytes than its size needs.
    TooShort,
    /// Found in what is damaged, and of another size than the pictures before: a thumbnail.
    Inner,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::Empty => "no bytes",
            Broken::NoStart => "no start of image",
            Broken::Head => "a damaged head",
            Broken::NoEnd => "no end of image",
            Broken::TooLarge => "too many bytes",
            Broken::TooShort => "too few bytes",
            Broken::Inner => "a picture inside a damaged one",
        })
    }
}

mod marker {
    use std::ops::RangeInclusive;

    pub const SOI: u8 = 0xd8;
    pub const EOI: u8 = 0xd9;
    pub const SOS: u8 = 0xda;
    pub const DQT: u8 = 0xdb;
    pub const DRI: u8 = 0xdd;
    pub const DHT: u8 = 0xc4;
    pub const SOF0: u8 = 0xc0;
    pub const SOF1: u8 = 0xc1;
    pub const JPG: u8 = 0xc8;
    pub const DAC: u8 = 0xcc;
    pub const APP0: u8 = 0xe0;
    pub const APP1: u8 = 0xe1;
    pub const COM: u8 = 0xfe;

    pub fn is_frame(marker: u8) -> bool {
        matches!(marker, SOF0..=0xcf) && !matches!(marker, DHT | JPG | DAC)
    }

    /// How many bytes a segment may say that it has. What is cut off says something else, and
    /// nobody should wait for 64 KiB that belong to the next pictures.
    pub fn lengths(marker: u8) -> RangeInclusive<u16> {
        match marker {
            DHT => 2..=2 + 8 * (17 + 256),
            DQT => 2..=2 + 4 * 129,
            SOS => 6..=6 + 2 * 4,
            DRI => 4..=4,
            _ if is_frame(marker) => 8..=8 + 3 * 255,
            _ => 2..=u16::MAX,
        }
    }

    /// Markers without a segment; one of these has no place in a JPEG's head.
    pub fn is_bare(marker: u8) -> bool {
        matches!(marker, 0x00..=0xbf | 0xd0..=SOI | EOI)
    }
}

/// Copy the camera's frame `bytes` into `out`, mended so that every program can read it.
///
/// Standard Huffman tables are put in where there are none; a picture inside the picture (an EXIF
/// thumbnail) is taken out; what follows the end of the image is cut off; EXIF data says that it is
/// to be shown with one `turn` more. All other bytes are the camera's own. Gives what it is shown
/// as. On `Err`, `out` holds nothing of use.
pub fn mend(bytes: &[u8], turn: Turn, out: &mut Vec<u8>) -> Result<Shape, Broken> {
    out.clear();
    let Head { shown, edits, scan, mut walk } = Head::read(bytes, turn)?;
    let mut copied = 0;
    for (place, with) in edits {
        out.extend_from_slice(&bytes[copied..place.start]);
        out.extend_from_slice(&with);
        copied = place.end;
    }
    // What the driver's memory is read for once is looked at in ours.
    walk.shift(scan, out.len() + scan - copied);
    out.extend_from_slice(&bytes[copied..]);
    loop {
        match walk.next(out)? {
            Step::Segment(_) => {}
            Step::End(end) => {
                out.truncate(end);
                return Ok(shown);
            }
            Step::More => return Err(Broken::NoEnd),
        }
    }
}

/// The same for a picture that is known to be whole, in its own buffer: mostly, nothing is to be
/// done.
pub fn mend_whole(jpeg: &mut Vec<u8>, turn: Turn) -> Result<Shape, Broken> {
    let Head { shown, edits, .. } = Head::read(jpeg, turn)?;
    for (place, with) in edits.into_iter().rev() {
        jpeg.splice(place, with.iter().copied());
    }
    Ok(shown)
}

/// What stands before a picture's first scan, and what is to be put in place of some of it.
struct Head {
    shown: Shape,
    /// In the order of their places: at most `SEGMENTS_MAX`, and two more.
    edits: Vec<(Range<usize>, Cow<'static, [u8]>)>,
    /// Where the first scan's segment begins.
    scan: usize,
    /// Stands behind that segment.
    walk: Walk,
}

impl Head {
    fn read(bytes: &[u8], turn: Turn) -> Result<Head, Broken> {
        match bytes {
            [] => return Err(Broken::Empty),
            [0xff, marker::SOI, ..] => {}
            _ => return Err(Broken::NoStart),
        }
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Broken::TooLarge);
        }
        let mut walk = Walk::new(2);
        let mut edits = Vec::new();
        let (mut insert, mut turned, mut shown) = (None, turn.is_none(), None);
        loop {
            let Step::Segment(segment) = walk.next(bytes)? else { return Err(Broken::Head) };
            let body = segment.body(bytes);
            if segment.marker != marker::APP0 {
                insert.get_or_insert(segment.start);
            }
            match segment.marker {
                marker::SOS => {
                    let (start_of_frame, size) = walk.frame.ok_or(Broken::Head)?;
                    let scan = segment.start;
                    if !turned {
                        let place = insert.unwrap_or(scan);
                        let exif = exif_segment(&Tiff::of_orientation(turn)).unwrap_or_default();
                        edits.push((place..place, Cow::Owned(exif)));
                        edits.sort_by_key(|(place, _)| (place.start, place.end));
                        shown = Some(turn);
                    }
                    if !walk.tables && matches!(start_of_frame, marker::SOF0 | marker::SOF1) {
                        edits.push((scan..scan, Cow::Borrowed(&STANDARD_TABLES[..])));
                    }
                    let shown = shown.unwrap_or_default().shown(size);
                    return Ok(Head { shown, edits, scan, walk });
                }
                0xe0..=0xef => {
                    let theirs = if turned { Turn::default() } else { turn };
                    let kept = mended_segment(segment.marker, body, theirs);
                    if segment.marker == marker::APP1 {
                        shown = shown.or_else(|| turn_in(kept.as_deref().unwrap_or(body)));
                    }
                    if let Some(kept) = kept {
                        turned |= !theirs.is_none() && kept.starts_with(EXIF);
                        let with = segment_of(segment.marker, &kept).unwrap_or_default();
                        edits.push((segment.start..segment.end, Cow::Owned(with)));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What is to stand in an application segment instead of `body`; empty: it goes. None: it stays.
fn mended_segment(marker: u8, body: &[u8], turn: Turn) -> Option<Vec<u8>> {
    let inner = memmem::find(body, &[0xff, marker::SOI, 0xff]).is_some();
    let kept = inner.then(|| without_thumbnail(marker, body).unwrap_or_default());
    let tiff = kept.as_deref().unwrap_or(body).strip_prefix(EXIF);
    let Some(tiff) = tiff.filter(|_| marker == marker::APP1 && !turn.is_none()) else {
        return kept;
    };
    let turned = Tiff::read(tiff).and_then(|tiff| {
        let turn = tiff.orientation().unwrap_or_default().then(turn);
        let turned = tiff.with_orientation(turn)?;
        // With one entry more, it may be too much for a segment: then it is that entry alone.
        let fits = exif_segment(&turned).is_some();
        Some(if fits { turned } else { Tiff::of_orientation(turn) })
    });
    // Damaged data says nothing of use, and would stand in the way of ours.
    Some(turned.map(|tiff| [EXIF, &tiff].concat()).unwrap_or_default())
}

/// A marker segment and where it lies.
#[derive(Clone, Debug)]
struct Segment {
    marker: u8,
    start: usize,
    body: usize,
    end: usize,
}

impl Segment {
    /// The segment whose 0xFF stands at `start`, fill bytes allowed. `Ok(None)`: `bytes` end
    /// before it does. `Err`: something else stands there.
    fn read(bytes: &[u8], start: usize) -> Result<Option<Segment>, Broken> {
        let rest = bytes.get(start..).unwrap_or_default();
        let fill = rest.iter().take_while(|b| **b == 0xff).count();
        let Some(&marker) = rest.get(fill) else { return Ok(None) };
        if fill == 0 || marker::is_bare(marker) {
            return Err(Broken::Head);
        }
        let body = start + fill + 3;
        let Some(&[high, low]) = rest.get(fill + 1..fill + 3).and_then(|b| b.first_chunk()) else {
            return Ok(None);
        };
        let length = u16::from_be_bytes([high, low]);
        // The start of another picture where a length must be: this one was cut off.
        if !marker::lengths(marker).contains(&length) || [high, low] == [0xff, marker::SOI] {
            return Err(Broken::Head);
        }
        let end = body - 2 + usize::from(length);
        Ok((end <= bytes.len()).then_some(Segment { marker, start, body, end }))
    }

    fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.body..self.end]
    }
}

/// The way from marker to marker through one picture. It stands still where the bytes end and goes
/// on from there when there are more, so no byte is looked at twice.
#[derive(Clone, Debug)]
struct Walk {
    /// In the head at a marker's 0xFF, then anywhere in a scan.
    at: usize,
    /// Behind the first SOS: coded data, in which 0xFF is stuffed, and segments in between.
    scanning: bool,
    /// The last segment; where the walk stands before it, it is not what must be there.
    last: Option<Segment>,
    segments: usize,
    /// Whether there were Huffman tables.
    tables: bool,
    /// The start-of-frame marker, width and height in pixels.
    frame: Option<(u8, (u32, u32))>,
    /// A segment may hold the start of another picture, because its own was cut off.
    doubtful: bool,
}

/// What a walk has come to.
enum Step {
    Segment(Segment),
    /// Behind EOI.
    End(usize),
    /// The end of the bytes.
    More,
}

impl Walk {
    /// `start`: behind SOI.
    fn new(start: usize) -> Walk {
        let (at, scanning, last, segments, tables) = (start, false, None, 0, false);
        Walk { at, scanning, last, segments, tables, frame: None, doubtful: false }
    }

    /// What stood at `from` stands at `to` now.
    fn shift(&mut self, from: usize, to: usize) {
        self.at = self.at + to - from;
        for place in self.last.iter_mut().flat_map(|l| [&mut l.start, &mut l.body, &mut l.end]) {
            *place = *place + to - from;
        }
    }

    fn next(&mut self, bytes: &[u8]) -> Result<Step, Broken> {
        let broken = if self.scanning { Broken::NoEnd } else { Broken::Head };
        if self.scanning {
            match self.skim(bytes) {
                None => return Ok(Step::More),
                Some(marker::EOI) => {
                    self.at += 2;
                    return Ok(Step::End(self.at));
                }
                Some(_) => {}
            }
        } else {
            // Fill bytes, however many.
            while bytes.get(self.at..self.at + 2) == Some(&[0xff, 0xff][..]) {
                self.at += 1;
            }
        }
        let Some(segment) = Segment::read(bytes, self.at).map_err(|_| broken)? else {
            return Ok(Step::More);
        };
        self.segments += 1;
        self.last = Some(segment.clone());
        let body = segment.body(bytes);
        let starts = memmem::find_iter(body, &[0xff, marker::SOI, 0xff]).count();
        match segment.marker {
            _ if self.segments > SEGMENTS_MAX => return Err(broken),
            // A picture inside the picture has an end, too.
            marker::COM | 0xe0..=0xef if starts > 0 => {
                let ends = memmem::find_iter(body, &[0xff, marker::EOI]).count();
                self.doubtful |= starts > ends;
            }
            _ if starts > 0 => return Err(broken), // no table looks like that
            marker::SOS if self.frame.is_none() => return Err(broken),
            marker::SOS => self.scanning = true,
            marker::DHT => self.tables = true,
            // A second one is another picture's, whose start went down in a segment cut off.
            m if marker::is_frame(m) && self.frame.is_some() => return Err(broken),
            m if marker::is_frame(m) => {
                self.frame = Some((m, size_in(body).ok_or(broken)?));
            }
            _ => {}
        }
        self.at = segment.end;
        Ok(Step::Segment(segment))
    }

    /// Go on through coded data to the next marker that is no restart, and say which it is.
    fn skim(&mut self, bytes: &[u8]) -> Option<u8> {
        loop {
            let Some(next) = memchr(0xff, bytes.get(self.at..)?) else {
                self.at = bytes.len();
                return None;
            };
            self.at += next;
            match *bytes.get(self.at + 1)? {
                0x00 | 0xd0..=0xd7 => self.at += 2, // a stuffed byte, a restart
                0xff => self.at += 1,               // fill
                marker => return Some(marker),
            }
        }
    }
}

/// Where a whole JPEG keeps its EXIF data, and where new data goes. Positions are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExifPlace {
    /// Behind the segments that must come first (JFIF's, Motion JPEG's).
    pub insert: usize,
    /// The whole segment of the data that is there.
    pub old: Option<Range<usize>>,
    /// Width and height in pixels, as stored.
    pub size: (u32, u32),
}

/// Find where EXIF data is or goes; none if the head is damaged.
pub fn exif_place(jpeg: &[u8]) -> Option<ExifPlace> {
    let (mut insert, mut old, mut walk) = (None, None, Walk::new(2));
    loop {
        let Step::Segment(segment) = walk.next(jpeg).ok()? else { return None };
        if segment.marker != marker::APP0 {
            insert.get_or_insert(segment.start);
        }
        match segment.marker {
            marker::APP1 if old.is_none() && segment.body(jpeg).starts_with(EXIF) => {
                old = Some(segment.start..segment.end);
            }
            marker::SOS => {
                let (_, size) = walk.frame?;
                return Some(ExifPlace { insert: insert.unwrap_or(segment.start), old, size });
            }
            _ => {}
        }
    }
}

/// What stands before the TIFF structure in an EXIF segment.
pub const EXIF: &[u8] = b"Exif\0\0";

/// The segment that holds `tiff` as EXIF data; none if it is too large for one.
pub fn exif_segment(tiff: &[u8]) -> Option<Vec<u8>> {
    segment_of(marker::APP1, &[EXIF, tiff].concat())
}

/// A segment with this body; none if there is no body, or too much for one.
fn segment_of(marker: u8, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(2 + body.len()).ok().filter(|_| !body.is_empty())?;
    Some([&[0xff, marker], &length.to_be_bytes()[..], body].concat())
}

/// How a whole JPEG says that it is to be shown.
pub fn orientation(jpeg: &[u8]) -> Turn {
    let exif = exif_place(jpeg).and_then(|place| place.old);
    exif.and_then(|exif| turn_in(jpeg.get(exif)?.get(4..)?)).unwrap_or_default()
}

/// The turn that the body of an EXIF segment asks for; none if it is another segment's.
fn turn_in(body: &[u8]) -> Option<Turn> {
    let tiff = Tiff::read(body.strip_prefix(EXIF)?);
    Some(tiff.and_then(|tiff| tiff.orientation()).unwrap_or_default())
}

/// Width and height from the body of a start-of-frame segment.
fn size_in(body: &[u8]) -> Option<(u32, u32)> {
    let [_, h1, h0, w1, w0, ..] = *body else { return None };
    let size = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// The body of an EXIF segment without its thumbnail; none if it is something else that
/// holds a JPEG, or too odd to be cut: then the whole segment goes.
///
/// EXIF 2.32, section 4.5: the thumbnail is what the second directory (IFD1) points to.
fn without_thumbnail(marker: u8, body: &[u8]) -> Option<Vec<u8>> {
    let tiff = body.strip_prefix(EXIF).filter(|_| marker == marker::APP1)?;
    let read = Tiff::read(tiff)?;
    let (u16_at, u32_at) = (|at| read.u16_at(at), |at| read.u32_at(at));
    let first = u32_at(4)?;
    let link = first.checked_add(2 + 12 * u16_at(first)?)?;
    let second = u32_at(link).filter(|at| *at != 0)?;
    let (mut offset, mut length) = (None, None);
    for entry in 0..u16_at(second)? {
        let at = second.checked_add(2 + 12 * entry)?;
        match u16_at(at)? {
            0x0201 => offset = u32_at(at + 8), // JPEGInterchangeFormat
            0x0202 => length = u32_at(at + 8), // JPEGInterchangeFormatLength
            _ => {}
        }
    }
    let (offset, end) = (offset?, offset?.checked_add(length?)?);
    let mut kept = body.to_vec();
    let cut = kept.get_mut(6..)?;
    cut.get_mut(link..link + 4)?.fill(0);
    cut.get_mut(offset..end)?.fill(0);
    if cut[end..].iter().all(|b| *b == 0) {
        kept.truncate(6 + offset);
    }
    memmem::find(&kept, &[0xff, marker::SOI, 0xff]).is_none().then_some(kept)
}

/// DHT segment with the four tables of ITU-T T.81, K.3.3: luminance DC and AC, chrominance DC
/// and AC. Cameras leave them out of Motion JPEG, where they are agreed on.
#[rustfmt::skip]
static STANDARD_TABLES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2,
    0x00,
    0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    0x10,
    0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
    0x01,
    0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    0x11,
    0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

// ---- encoding -------------------------------------------------------------------------------

/// How the bytes of a raw frame lie, by their V4L2 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Packed 4:2:2, Y U Y V.
    Yuyv,
    /// Packed 4:2:2, U Y V Y.
    Uyvy,
    /// 4:2:0, a plane of Y and one of U V pairs.
    Nv12,
    /// 4:2:0, planes of Y, U and V.
    Yu12,
    /// 24 bits, R G B.
    Rgb3,
    /// 24 bits, B G R.
    Bgr3,
    /// 8 bits of luminance.
    Grey,
}

impl Layout {
    /// Bytes of a row of `width` pixels, without padding, in the first plane.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Layout::Yuyv | Layout::Uyvy => width.div_ceil(2) * 4,
            Layout::Nv12 | Layout::Yu12 | Layout::Grey => width,
            Layout::Rgb3 | Layout::Bgr3 => width * 3,
        }
    }
}

/// A raw frame as the driver gave it.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub layout: Layout,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Bytes from one row to the next in the first plane.
    pub stride: usize,
    /// Whether YUV runs from 16 to 235 (240), as in television, instead of JPEG's 0 to 255.
    pub limited: bool,
    pub bytes: &'a [u8],
}

impl Raw<'_> {
    /// Bytes that a frame of this shape must have for every row to be there.
    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    fn bytes_min(&self) -> usize {
        let Raw { layout, width, height, stride, .. } = *self;
        let rows = stride * height.saturating_sub(1) + layout.row_bytes(width);
        match layout {
            Layout::Nv12 => stride * height + chroma_bytes(stride, width, height),
            Layout::Yu12 => {
                stride * height
                    + stride / 2 * height.div_ceil(2)
                    + chroma_bytes(stride / 2, width / 2, height)
            }
            _ => rows,
        }
    }
}

/// Bytes of a half-height plane up to the end of its last row.
fn chroma_bytes(stride: usize, row: usize, height: usize) -> usize {
    stride * height.div_ceil(2).saturating_sub(1) + row
}

/// Why a raw frame was not encoded.
#[derive(Debug)]
pub enum Failed {
    Broken(Broken),
    Encoder(turbojpeg::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Broken(broken) => broken.fmt(f),
            Failed::Encoder(error) => error.fmt(f),
        }
    }
}

impl From<turbojpeg::Error> for Failed {
    fn from(error: turbojpeg::Error) -> Failed {
        Failed::Encoder(error)
    }
}

/// Makes JPEGs of raw frames; keeps its buffers from frame to frame.
///
/// YUV stays YUV: planes are sorted and stretched to full range, never turned into RGB. Bound:
/// `DECODED_PIXELS_MAX` in three planes.
pub struct Encoder {
    compressor: Compressor,
    /// Y, U and V planes of the frame at hand, one behind the other.
    planes: Vec<u8>,
    /// Where the compressor writes. Only `*_to_slice` with a buffer of `compressed_buf_len`
    /// is used: the crate's growing buffers can be freed twice.
    jpeg: Vec<u8>,
}

impl Encoder {
    /// `quality` from 1 to 100.
    pub fn new(quality: u8) -> turbojpeg::Result<Encoder> {
        let mut compressor = Compressor::new()?;
        compressor.set_quality(quality.into())?;
        Ok(Encoder { compressor, planes: Vec::new(), jpeg: Vec::new() })
    }

    /// Encode `raw` into `out`, whose old content goes. An odd last column or row of a format
    /// that shares colours between pixels is left out.
    pub fn encode(&mut self, raw: &Raw, out: &mut Vec<u8>) -> Result<(), Failed> {
        let rows_fit = raw.stride >= raw.layout.row_bytes(raw.width);
        let sides_fit = raw.width.min(raw.height) >= 2;
        if !rows_fit || !sides_fit || raw.bytes.len() < raw.bytes_min() {
            return Err(Failed::Broken(Broken::TooShort));
        }
        let subsamp = match raw.layout {
            Layout::Grey => Subsamp::Gray,
            // Packed 4:2:2 too: a quarter less to encode, which is what a small processor lacks.
            _ => Subsamp::Sub2x2,
        };
        self.make_room(raw.width, raw.height, subsamp, 0)?;
        let length = match raw.layout {
            Layout::Rgb3 => self.pixels(raw, turbojpeg::PixelFormat::RGB, subsamp)?,
            Layout::Bgr3 => self.pixels(raw, turbojpeg::PixelFormat::BGR, subsamp)?,
            Layout::Grey if raw.limited => self.stretched_grey(raw)?,
            Layout::Grey => self.pixels(raw, turbojpeg::PixelFormat::GRAY, subsamp)?,
            Layout::Yuyv | Layout::Uyvy | Layout::Nv12 | Layout::Yu12 => self.yuv(raw)?,
        };
        out.clear();
        out.extend_from_slice(&self.jpeg[..length]);
        Ok(())
    }

    /// For the largest JPEG that a picture of this size can become, and for other bytes in it.
    fn make_room(
        &mut self,
        width: usize,
        height: usize,
        subsamp: Subsamp,
        other: usize,
    ) -> Result<(), Failed> {
        let room = compressed_buf_len(width, height, subsamp)? + other;
        if self.jpeg.len() < room {
            self.jpeg = vec![0; room]; // zero pages cost nothing until they are written
        }
        Ok(())
    }

    fn pixels(
        &mut self,
        raw: &Raw,
        format: turbojpeg::PixelFormat,
        subsamp: Subsamp,
    ) -> turbojpeg::Result<usize> {
        let Raw { width, height, stride, bytes, .. } = *raw;
        self.compressor.set_subsamp(subsamp)?;
        let image = Image { pixels: bytes, width, pitch: stride, height, format };
        self.compressor.compress_to_slice(image, &mut self.jpeg)
    }

    fn stretched_grey(&mut self, raw: &Raw) -> turbojpeg::Result<usize> {
        let Raw { width, height, stride, bytes, .. } = *raw;
        let mut plane = std::mem::take(&mut self.planes);
        plane.resize(width * height, 0);
        copy(bytes, stride, width, &mut plane, luma::<true>);
        let full = Raw { stride: width, bytes: &plane, ..*raw };
        let length = self.pixels(&full, turbojpeg::PixelFormat::GRAY, Subsamp::Gray);
        self.planes = plane;
        length
    }

    fn yuv(&mut self, raw: &Raw) -> turbojpeg::Result<usize> {
        // The chroma planes have whole samples only.
        let (width, height) = (raw.width & !1, raw.height & !1);
        let chroma = width / 2 * (height / 2);
        self.planes.resize(width * height + 2 * chroma, 0);
        let (y, uv) = self.planes.split_at_mut(width * height);
        let (u, v) = uv.split_at_mut(chroma);
        if raw.limited {
            fill::<true>(raw, width, [y, u, v]);
        } else {
            fill::<false>(raw, width, [y, u, v]);
        }
        let (y, uv) = self.planes.split_at(width * height);
        let (u, v) = uv.split_at(chroma);
        let image = YuvPlanesImage {
            y_plane: y,
            u_plane: u,
            v_plane: v,
            width,
            height,
            y_stride: width,
            u_stride: width / 2,
            v_stride: width / 2,
            subsamp: Subsamp::Sub2x2,
        };
        self.compressor.compress_yuv_planes_to_slice(&image, &mut self.jpeg)
    }
}

/// How many eighths of a picture's sides fit into `width_max` pixels: 1 to 8, and 1 if not even
/// that fits.
pub fn eighths(width: usize, width_max: usize) -> usize {
    let fits = |n: &usize| ScalingFactor::new(*n, 8).scale(width) <= width_max;
    (1..=8).rev().find(fits).unwrap_or(1)
}

/// A decoder that is told our limits, and what the JPEG's head says. A new one each time, for it is
/// cheap, and after a damaged head an old one refuses all that follow.
fn open(jpeg: &[u8]) -> Result<(Decompressor, DecompressHeader), Failed> {
    let mut decompressor = Decompressor::new()?;
    decompressor.set_scan_limit(SCANS_MAX)?;
    let header = decompressor.read_header(jpeg)?;
    let pixels_max = if header.is_progressive { PIXELS_MAX } else { DECODED_PIXELS_MAX };
    if header.width * header.height > pixels_max as usize {
        return Err(Failed::Broken(Broken::TooLarge));
    }
    Ok((decompressor, header))
}

/// The picture is whole, though libjpeg calls it corrupt: some cameras put bytes before a marker
/// that nobody needs.
fn forgive(decoded: turbojpeg::Result<()>) -> turbojpeg::Result<()> {
    match decoded {
        Err(turbojpeg::Error::TurboJpegError(text)) if text.contains("extraneous bytes") => Ok(()),
        other => other,
    }
}

/// Makes JPEGs of JPEGs, smaller or with their pixels turned; keeps its buffers from frame to
/// frame.
///
/// Colours are not converted: what is decoded as YUV, by an inverse DCT of fewer points, is encoded
/// as YUV.
pub struct Scaler {
    encoder: Encoder,
    /// The planes in `encoder`, turned. Bound: `DECODED_PIXELS_MAX` in three planes.
    turned: Vec<u8>,
}

impl Scaler {
    /// `quality` from 1 to 100.
    pub fn new(quality: u8) -> turbojpeg::Result<Scaler> {
        Ok(Scaler { encoder: Encoder::new(quality)?, turned: Vec::new() })
    }

    /// `jpeg` with sides of so many `eighths`, 1 to 8. It says as before how it is to be turned.
    pub fn scale(&mut self, jpeg: &[u8], eighths: usize) -> Result<Vec<u8>, Failed> {
        let mut small = self.shrink(jpeg, eighths, Turn::default())?;
        turn_as(jpeg, &mut small)?;
        Ok(small)
    }

    /// The same with its pixels turned as it is to be shown, and nothing left to be turned.
    ///
    /// In its full size it is not encoded anew: its coefficients change their places. What is left
    /// out then is a last column or row of blocks that are not filled, if it would come first.
    pub fn bake(&mut self, jpeg: &[u8], eighths: usize) -> Result<Vec<u8>, Failed> {
        let turn = orientation(jpeg);
        match eighths {
            8 => self.transform(jpeg, turn),
            _ => self.shrink(jpeg, eighths, turn),
        }
    }

    fn transform(&mut self, jpeg: &[u8], turn: Turn) -> Result<Vec<u8>, Failed> {
        let (_, header) = open(jpeg)?;
        // All coefficients are held at once, and this part of the library counts no scans.
        let too_large = header.width * header.height > PIXELS_MAX as usize;
        let scans = memmem::find_iter(jpeg, &[0xff, marker::SOS]).take(SCANS_MAX as usize + 1);
        if too_large || scans.count() > SCANS_MAX as usize {
            return Err(Failed::Broken(Broken::TooLarge));
        }
        self.encoder.make_room(header.width, header.height, header.subsamp, jpeg.len())?;
        let mut transform = Transform::op(operation(turn));
        transform.trim = true;
        let mut out = OutputBuf::borrowed(&mut self.encoder.jpeg);
        forgive(Transformer::new()?.transform(&transform, jpeg, &mut out))?;
        let mut baked = out.to_vec();
        // EXIF data between two scans say nothing to anybody, and now they stand in front; what is
        // mended of the first of them hides what others say.
        mend_whole(&mut baked, Turn::default()).map_err(Failed::Broken)?;
        let said = orientation(&baked);
        if !said.is_none() {
            mend_whole(&mut baked, said.inverse()).map_err(Failed::Broken)?;
        }
        Ok(baked)
    }

    fn shrink(&mut self, jpeg: &[u8], eighths: usize, turn: Turn) -> Result<Vec<u8>, Failed> {
        let (mut decompressor, header) = open(jpeg)?;
        // Of a 4:1:1 picture of one block's width, made smaller, libjpeg-turbo 3.1 reads a byte
        // more than it has (AddressSanitizer, `grey_and_tiny_pictures_are_baked`).
        let eighths = if header.width < TINY { 8 } else { eighths };
        let factor = ScalingFactor::new(eighths, 8);
        decompressor.set_scaling_factor(factor)?;
        let (width, height) = (factor.scale(header.width), factor.scale(header.height));
        let (align, subsamp) = (1, header.subsamp);
        self.encoder.make_room(width, height, subsamp, 0)?;
        let Encoder { compressor, planes, jpeg: small } = &mut self.encoder;
        planes.resize(yuv_pixels_len(width, align, height, subsamp)?, 0);
        let image = YuvImage { pixels: &mut planes[..], width, align, height, subsamp };
        forgive(decompressor.decompress_to_yuv(jpeg, image))?;
        let mut image = YuvImage { pixels: &planes[..], width, align, height, subsamp };
        if !turn.is_none() {
            image = turned(image, turn, &mut self.turned);
        }
        let length = compressor.compress_yuv_to_slice(image, small)?;
        Ok(small[..length].to_vec())
    }
}

/// Pixels of a width that is not made smaller: two blocks.
const TINY: usize = 16;

/// A turn by its name in turbojpeg.
fn operation(turn: Turn) -> TransformOp {
    match turn.number() {
        2 => TransformOp::Hflip,
        3 => TransformOp::Rot180,
        4 => TransformOp::Vflip,
        5 => TransformOp::Transpose,
        6 => TransformOp::Rot90,
        7 => TransformOp::Transverse,
        8 => TransformOp::Rot270,
        _ => TransformOp::None,
    }
}

/// The planes of `image` as they are shown, in `out`. A last column or row that shares its colours
/// with none is left out, as it would have to share them with others when it came first.
fn turned<'o>(image: YuvImage<&[u8]>, turn: Turn, out: &'o mut Vec<u8>) -> YuvImage<&'o [u8]> {
    let YuvImage { pixels, width, align, height, subsamp } = image;
    // Pixels that share a colour.
    let (across, down) = subsamp.size();
    let (stride, rows) = (width.div_ceil(across), height.div_ceil(down));
    let (columns, kept) = ((width / across).max(1), (height / down).max(1));
    let (luminance, colours) = pixels.split_at(stride * across * rows * down);
    let (width, height) = (columns * across, kept * down);
    out.clear();
    turn.apply(luminance, stride * across, (width, height), out);
    for plane in colours.chunks_exact(stride * rows) {
        turn.apply(plane, stride, (columns, kept), out);
    }
    let pixels = &out[..];
    if !turn.swaps_sides() {
        return YuvImage { pixels, width, align, height, subsamp };
    }
    let subsamp = match subsamp {
        Subsamp::Sub2x1 => Subsamp::Sub1x2,
        Subsamp::Sub1x2 => Subsamp::Sub2x1,
        Subsamp::Sub4x1 => Subsamp::Sub1x4,
        Subsamp::Sub1x4 => Subsamp::Sub4x1,
        square => square,
    };
    YuvImage { pixels, width: height, align, height: width, subsamp }
}

/// A small picture of a JPEG: at most `width_max` pixels wide, in the same shape, never larger.
///
/// libjpeg-turbo decodes only as much as an eighth, two eighths… of each side need. What is still
/// too wide is averaged down.
pub fn thumbnail(jpeg: &[u8], width_max: usize, quality: u8) -> Result<Vec<u8>, Failed> {
    let (mut decompressor, header) = open(jpeg)?;
    let factor = ScalingFactor::new(eighths(header.width, width_max), 8);
    decompressor.set_scaling_factor(factor)?;
    let (width, height) = (factor.scale(header.width), factor.scale(header.height));
    let mut pixels = vec![0; width * height * 3];
    let format = turbojpeg::PixelFormat::RGB;
    let image = Image { pixels: &mut pixels[..], width, pitch: width * 3, height, format };
    forgive(decompressor.decompress(jpeg, image))?;
    let (width, height) = shrink(&mut pixels, width, height, width_max);
    let raw = Raw {
        layout: Layout::Rgb3,
        width,
        height,
        stride: width * 3,
        limited: false,
        bytes: &pixels,
    };
    let mut small = Vec::new();
    Encoder::new(quality)?.encode(&raw, &mut small)?;
    turn_as(jpeg, &mut small)?;
    Ok(small)
}

/// Have `small` be shown as `jpeg` is, of which it was made.
fn turn_as(jpeg: &[u8], small: &mut Vec<u8>) -> Result<(), Failed> {
    match orientation(jpeg) {
        turn if turn.is_none() => Ok(()),
        turn => mend_whole(small, turn).map(drop).map_err(Failed::Broken),
    }
}

/// Average RGB pixels down to a width of at most `width_max`, in place; gives the new size.
fn shrink(pixels: &mut [u8], width: usize, height: usize, width_max: usize) -> (usize, usize) {
    if width <= width_max {
        return (width, height);
    }
    let small_height = (height * width_max / width).max(1);
    // The pixels that one of the small picture stands for, in one direction.
    let span = |n: usize, from: usize, to: usize| n * from / to..(n + 1) * from / to;
    for y in 0..small_height {
        let rows = span(y, height, small_height);
        for x in 0..width_max {
            let columns = span(x, width, width_max);
            for channel in 0..3 {
                let row = |row| columns.clone().map(move |column| row * width + column);
                let samples =
                    rows.clone().flat_map(row).map(|at| usize::from(pixels[at * 3 + channel]));
                let mean = samples.sum::<usize>() / (rows.len() * columns.len());
                // What is still to be read lies behind this place.
                pixels[(y * width_max + x) * 3 + channel] = mean as u8;
            }
        }
    }
    (width_max, small_height)
}

/// Sort the samples of `raw` into planes of rows without padding, `width` luminance samples
/// each, stretching them to full range if `LIMITED`.
fn fill<const LIMITED: bool>(raw: &Raw, width: usize, [y, u, v]: [&mut [u8]; 3]) {
    let Raw { layout, height, stride, bytes, .. } = *raw;
    let half = width / 2;
    match layout {
        Layout::Yuyv => packed::<LIMITED, 0>(bytes, stride, width, [y, u, v]),
        Layout::Uyvy => packed::<LIMITED, 1>(bytes, stride, width, [y, u, v]),
        Layout::Nv12 => {
            copy(bytes, stride, width, y, luma::<LIMITED>);
            let pairs = bytes[stride * height..].chunks(stride);
            for ((row, u), v) in pairs.zip(u.chunks_exact_mut(half)).zip(v.chunks_exact_mut(half)) {
                for ((pair, u), v) in row.as_chunks::<2>().0.iter().zip(u).zip(v) {
                    (*u, *v) = (chroma::<LIMITED>(pair[0]), chroma::<LIMITED>(pair[1]));
                }
            }
        }
        Layout::Yu12 => {
            let (plane, next) = (stride * height, stride / 2 * height.div_ceil(2));
            copy(bytes, stride, width, y, luma::<LIMITED>);
            copy(&bytes[plane..], stride / 2, half, u, chroma::<LIMITED>);
            copy(&bytes[plane + next..], stride / 2, half, v, chroma::<LIMITED>);
        }
        Layout::Grey | Layout::Rgb3 | Layout::Bgr3 => unreachable!("has no planes"),
    }
}

/// Packed 4:2:2 with luminance at bytes `Y` and `Y + 2` of each four. Two rows share the mean of
/// their colours.
fn packed<const LIMITED: bool, const Y: usize>(
    bytes: &[u8],
    stride: usize,
    width: usize,
    [y, u, v]: [&mut [u8]; 3],
) {
    let mean = |a: u8, b: u8| ((u16::from(a) + u16::from(b)) / 2) as u8;
    let planes = y
        .chunks_exact_mut(2 * width)
        .zip(u.chunks_exact_mut(width / 2))
        .zip(v.chunks_exact_mut(width / 2));
    for (rows, ((y, u), v)) in bytes.chunks(2 * stride).zip(planes) {
        let (upper, lower) = rows.split_at(stride);
        for (row, y) in [upper, lower].into_iter().zip(y.chunks_exact_mut(width)) {
            luminances::<LIMITED, Y>(row, y);
        }
        let fours = upper.as_chunks::<4>().0.iter().zip(lower.as_chunks::<4>().0);
        for (((a, b), u), v) in fours.zip(u).zip(v) {
            *u = chroma::<LIMITED>(mean(a[1 - Y], b[1 - Y]));
            *v = chroma::<LIMITED>(mean(a[3 - Y], b[3 - Y]));
        }
    }
}

/// A row's luminances. Four in a turn, since this is done to every pixel and the compiler does not
/// unroll our loops.
fn luminances<const LIMITED: bool, const Y: usize>(row: &[u8], out: &mut [u8]) {
    let luma = luma::<LIMITED>;
    let (eights, rest) = row[..2 * out.len()].as_chunks::<8>();
    let (fours, last) = out.as_chunks_mut::<4>();
    for (eight, four) in eights.iter().zip(fours) {
        *four = [luma(eight[Y]), luma(eight[Y + 2]), luma(eight[Y + 4]), luma(eight[Y + 6])];
    }
    for (four, two) in rest.as_chunks::<4>().0.iter().zip(last.as_chunks_mut::<2>().0) {
        *two = [luma(four[Y]), luma(four[Y + 2])];
    }
}

/// A plane row by row through `sample`.
fn copy(bytes: &[u8], stride: usize, width: usize, plane: &mut [u8], sample: impl Fn(u8) -> u8) {
    for (row, out) in bytes.chunks(stride).zip(plane.chunks_exact_mut(width)) {
        for (from, to) in row.iter().zip(out) {
            *to = sample(*from);
        }
    }
}

#[inline(always)]
fn luma<const LIMITED: bool>(sample: u8) -> u8 {
    if LIMITED { FULL_LUMA[usize::from(sample)] } else { sample }
}

#[inline(always)]
fn chroma<const LIMITED: bool>(sample: u8) -> u8 {
    if LIMITED { FULL_CHROMA[usize::from(sample)] } else { sample }
}

/// 16..=235 to 0..=255 (ITU-T T.871, section 7). A table, since our code is not vectorized
/// (opt-level "s") and this is done to every sample.
static FULL_LUMA: [u8; 256] = stretched(16, 0, 42);
/// 16..=240 around 128 to 0..=255 around 128.
static FULL_CHROMA: [u8; 256] = stretched(128, 128, 35);

/// What stands at `from` comes to stand at `to`, and the distance from there grows by so many
/// 256ths.
const fn stretched(from: i32, to: i32, by: i32) -> [u8; 256] {
    let mut table = [0; 256];
    let mut sample = 0;
    while sample < 256 {
        let off = sample as i32 - from;
        let full = to + off + ((off * by + 128) >> 8);
        table[sample] = if full < 0 {
            0
        } else if full > 255 {
            255
        } else {
            full as u8
        };
        sample += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real JPEG of 16 x 16 pixels, JFIF, baseline 4:2:0.
    fn picture() -> Vec<u8> {
        let pixels: Vec<u8> = (0..16 * 16 * 3).map(|n| (n * 7 % 251) as u8).collect();
        let raw = Raw {
            layout: Layout::Rgb3,
            width: 16,
            height: 16,
            stride: 48,
            limited: false,
            bytes: &pixels,
        };
        let mut jpeg = Vec::new();
        Encoder::new(80).unwrap().encode(&raw, &mut jpeg).unwrap();
        jpeg
    }

    /// `jpeg` without segments of this kind.
    fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
        let (mut kept, mut at) = (vec![0xff, marker::SOI], 2);
        loop {
            let segment = Segment::read(jpeg, at).unwrap().unwrap();
            if segment.marker == marker::SOS {
                kept.extend(&jpeg[at..]);
                return kept;
            }
            if segment.marker != marker {
                kept.extend(&jpeg[at..segment.end]);
            }
            at = segment.end;
        }
    }

    /// `jpeg` with this segment behind SOI.
    fn with(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, marker], &length[..], body, &jpeg[2..]].concat()
    }

    fn mended(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = vec![1, 2, 3]; // a recycled buffer
        mend(bytes, Turn::default(), &mut out).map(|shown| {
            assert_eq!(shown.size, (16, 16));
            out
        })
    }

    /// EXIF with an orientation, a link to IFD1, and there a thumbnail at the end.
    fn exif(little: bool, thumbnail: &[u8]) -> Vec<u8> {
        let u16s = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let u32s = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut body = b"Exif\0\0".to_vec();
        body.extend(if little { b"II*\0" } else { b"MM\0*" });
        body.extend(u32s(8));
        body.extend(u16s(1)); // IFD0: one entry
        body.extend([u16s(0x0112), u16s(3)].concat());
        body.extend(u32s(1));
        body.extend([u16s(6), u16s(0)].concat());
        body.extend(u32s(26)); // link to IFD1
        body.extend(u16s(2));
        for (tag, value) in [(0x0201, 56), (0x0202, thumbnail.len() as u32)] {
            body.extend([u16s(tag), u16s(4)].concat());
            body.extend([u32s(1), u32s(value)].concat());
        }
        body.extend(u32s(0));
        body.extend(thumbnail);
        body
    }

    #[test]
    fn a_whole_picture_passes_untouched() {
        assert_eq!(mended(&picture()), Ok(picture()));
    }

    #[test]
    fn missing_huffman_tables_are_put_in() {
        let bare = without(&picture(), marker::DHT);
        let whole = mended(&bare).unwrap();
        assert_eq!(whole.len(), bare.len() + STANDARD_TABLES.len());
        let decode =
            |jpeg: &[u8]| turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap().pixels;
        assert_eq!(
            decode(&whole),
            decode(&picture()),
            "the encoder's tables are the standard ones"
        );
    }

    #[test]
    fn what_follows_the_end_is_cut_off() {
        let stale = [&picture()[..], &[0; 64], &picture(), &[0xff, 0xd9]].concat();
        assert_eq!(mended(&stale), Ok(picture()));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let jpeg = picture();
        assert_eq!(mended(&[]), Err(Broken::Empty));
        assert_eq!(mended(&[0xff]), Err(Broken::NoStart));
        assert_eq!(mended(&[0; 5000]), Err(Broken::NoStart));
        assert_eq!(mended(&[0xff, 0xd8, 0xff, 0xd9]), Err(Broken::Head));
        assert_eq!(mended(&jpeg[..jpeg.len() - 2]), Err(Broken::NoEnd));
        assert_eq!(mended(&without(&jpeg, marker::SOF0)), Err(Broken::Head));
        assert_eq!(mended(&vec![0xff; FRAME_BYTES_MAX]), Err(Broken::NoStart));
        let endless = [&jpeg[..2], &[0xff, 0xfe, 0, 2].repeat(SEGMENTS_MAX + 1)].concat();
        assert_eq!(mended(&endless), Err(Broken::Head));
        for cut in 0..jpeg.len() {
            assert!(mended(&jpeg[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_next_picture_in_the_middle_of_a_scan_is_a_break() {
        let jpeg = picture();
        let torn = [&jpeg[..jpeg.len() - 10], &jpeg[..]].concat();
        assert_eq!(mended(&torn), Err(Broken::NoEnd));
    }

    #[test]
    fn an_exif_thumbnail_is_taken_out_and_the_orientation_stays() {
        for little in [true, false] {
            let body = exif(little, &picture());
            let whole = mended(&with(&picture(), marker::APP1, &body)).unwrap();
            assert_eq!(memmem::find_iter(&whole, &[0xff, 0xd8]).count(), 1);
            let segment = Segment::read(&whole, 2).unwrap().unwrap();
            let kept = segment.body(&whole);
            assert_eq!(kept[..28], body[..28], "IFD0 and its orientation");
            assert_eq!(kept[28..32], [0; 4], "no link to IFD1");
            assert_eq!(kept.len(), body.len() - picture().len());
        }
    }

    /// The EXIF data is replaced or put in; the picture is the same.
    #[test]
    fn a_frame_says_how_it_is_to_be_turned() {
        let right = Turn::new(1, false);
        let plain = picture();
        let bare = without(&plain, marker::APP0);
        let commented = with(&plain, marker::APP1, b"http://ns.adobe.com/xap/1.0/\0<x/>");
        let damaged = with(&plain, marker::APP1, b"Exif\0\0MM\0*\0\0\0\x08\0");
        let says_right = with(&plain, marker::APP1, &exif(true, b"no thumbnail"));
        let filled = [&says_right[..2], &[0xff; 3], &says_right[2..]].concat();
        let scan = memmem::find(&plain, &[0xff, marker::SOS]).unwrap();
        let segment = exif_segment(&exif(true, b"")[EXIF.len()..]).unwrap();
        let late = [&plain[..scan], &segment, &plain[scan..]].concat();
        let full = [&b"Exif\0\0MM\0*\0\0\0\x08"[..], &[0; 65_519]].concat();
        for (jpeg, expect) in [
            (&filled, Turn::new(2, false)),
            (&late, Turn::new(2, false)),
            (&with(&plain, marker::APP1, &full), Turn::new(1, false)),
            (&plain, Turn::new(1, false)),
            (&bare, Turn::new(1, false)),
            (&commented, Turn::new(1, false)),
            (&damaged, Turn::new(1, false)),
            (&without(&plain, marker::DHT), Turn::new(1, false)),
            // It says 6 already, so it lies on its head then.
            (&with(&plain, marker::APP1, &exif(true, &picture())), Turn::new(2, false)),
            (&with(&plain, marker::APP1, &exif(false, b"no thumbnail")), Turn::new(2, false)),
        ] {
            let mut turned = Vec::new();
            mend(jpeg, right, &mut turned).unwrap();
            assert_eq!(orientation(&turned), expect);
            assert_eq!(memmem::find_iter(&turned, EXIF).count(), 1);
            let decode = |jpeg: &[u8]| {
                turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap().pixels
            };
            assert_eq!(decode(&turned), decode(&plain));
            let mut in_place = jpeg.clone();
            mend_whole(&mut in_place, right).unwrap();
            assert!(in_place == turned, "in place as in a copy");
            // And what is made of it is turned as it is.
            assert_eq!(orientation(&thumbnail(&turned, 8, 80).unwrap()), expect);
            let small = Scaler::new(80).unwrap().scale(&turned, 4).unwrap();
            assert_eq!(orientation(&small), expect);
        }
        let mut untouched = Vec::new();
        mend(&plain, Turn::default(), &mut untouched).unwrap();
        assert!(untouched == plain);
    }

    #[test]
    fn a_frame_has_the_size_in_which_it_is_shown() {
        let (width, height) = (32, 16);
        let bytes = vec![7; width * height];
        let raw = Raw {
            layout: Layout::Grey,
            width,
            height,
            stride: width,
            limited: false,
            bytes: &bytes,
        };
        let mut plain = Vec::new();
        Encoder::new(80).unwrap().encode(&raw, &mut plain).unwrap();
        let says_right = with(&plain, marker::APP1, &exif(true, b"no thumbnail"));
        let damaged = with(&plain, marker::APP1, b"Exif\0\0MM\0*\0\0\0\x08\0");
        let check = |jpeg: &Vec<u8>, turn: Turn, size: (u32, u32), turned: bool| {
            let expect = Ok(Shape { size, turned });
            assert_eq!(mend(jpeg, turn, &mut Vec::new()), expect);
            assert_eq!(mend_whole(&mut jpeg.clone(), turn), expect);
        };
        for jpeg in [&plain, &damaged] {
            check(jpeg, Turn::default(), (32, 16), false);
            check(jpeg, Turn::new(2, true), (32, 16), true);
            check(jpeg, Turn::new(1, false), (16, 32), true);
        }
        check(&says_right, Turn::default(), (16, 32), true);
        check(&says_right, Turn::new(1, false), (32, 16), true);
        check(&says_right, Turn::new(3, false), (32, 16), false);
    }

    #[test]
    fn a_picture_in_another_segment_takes_the_segment_with_it() {
        let preview = [b"JFXX\0\x10", &picture()[..]].concat();
        assert_eq!(mended(&with(&picture(), 0xe0, &preview)), Ok(picture()));
        // EXIF whose thumbnail lies where it cannot be cut: a pointer to elsewhere.
        let mut odd = exif(true, &picture());
        odd[46..50].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(mended(&with(&picture(), marker::APP1, &odd)), Ok(picture()));
    }

    #[test]
    fn other_segments_stay() {
        let commented = with(&picture(), 0xfe, b"made by \xff\xd8\xff a poet");
        assert_eq!(mended(&commented), Ok(commented.clone()));
        let tagged = with(&picture(), 0xe4, b"vendor data");
        assert_eq!(mended(&tagged), Ok(tagged.clone()));
    }

    #[test]
    fn any_damage_ends_in_an_answer() {
        let source = with(&picture(), marker::APP1, &exif(true, &picture()));
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..20_000 {
            let mut bytes = source.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 32) as u8;
            }
            let mut out = Vec::new();
            let turn = Turn::new((state >> 60) as u8, state & 1 == 1);
            if mend(&bytes, turn, &mut out).is_ok() {
                assert!(out.starts_with(&[0xff, 0xd8]) && out.ends_with(&[0xff, 0xd9]));
            }
        }
    }

    /// A frame of one colour in every layout must come out as that colour.
    #[test]
    fn every_layout_keeps_its_colours() {
        let (w, h) = (32, 16);
        let padded =
            |row: &[u8], rows: usize, pad: usize| [row, &vec![9; pad]].concat().repeat(rows);
        let check = |layout: Layout, limited: bool, pad: usize, bytes: Vec<u8>, expect: [u8; 3]| {
            let stride = layout.row_bytes(w) + pad;
            let raw = Raw { layout, width: w, height: h, stride, limited, bytes: &bytes };
            let mut jpeg = Vec::new();
            Encoder::new(95).unwrap().encode(&raw, &mut jpeg).unwrap();
            let image = turbojpeg::decompress(&jpeg, turbojpeg::PixelFormat::RGB).unwrap();
            assert_eq!((image.width, image.height), (w, h));
            for pixel in image.pixels.chunks(image.pitch).flat_map(|r| r[..3 * w].chunks(3)) {
                let near = pixel.iter().zip(expect).all(|(a, b)| a.abs_diff(b) <= 4);
                assert!(near, "{layout:?} limited {limited}: {pixel:?} is not {expect:?}");
            }
        };
        let orange = [229, 126, 6]; // Y 139, Cb 60, Cr 182 in limited range, ITU-R BT.601
        for pad in [0, 4] {
            let yuyv = padded(&[139, 60, 139, 182].repeat(w / 2), h, pad);
            check(Layout::Yuyv, true, pad, yuyv, orange);
            let uyvy = padded(&[60, 139, 182, 139].repeat(w / 2), h, pad);
            check(Layout::Uyvy, true, pad, uyvy, orange);
            let luma = padded(&[139].repeat(w), h, pad);
            let pairs = padded(&[60, 182].repeat(w / 2), h / 2, pad);
            check(Layout::Nv12, true, pad, [luma.clone(), pairs].concat(), orange);
            let u = padded(&[60].repeat(w / 2), h / 2, pad / 2);
            let v = padded(&[182].repeat(w / 2), h / 2, pad / 2);
            check(Layout::Yu12, true, pad, [luma, u, v].concat(), orange);
            check(Layout::Rgb3, false, pad, padded(&orange.repeat(w), h, pad), orange);
            check(Layout::Bgr3, false, pad, padded(&[6, 126, 229].repeat(w), h, pad), orange);
            check(Layout::Grey, false, pad, padded(&[77].repeat(w), h, pad), [77; 3]);
            check(Layout::Grey, true, pad, padded(&[16].repeat(w), h, pad), [0; 3]);
            check(Layout::Grey, true, pad, padded(&[235].repeat(w), h, pad), [255; 3]);
            let full = padded(&[77, 128, 77, 128].repeat(w / 2), h, pad);
            check(Layout::Yuyv, false, pad, full, [77; 3]);
        }
    }

    /// Packed rows come in pairs: their luminance stays theirs, their colours are mixed.
    #[test]
    fn two_packed_rows_share_their_colours() {
        let (w, h) = (30, 16);
        let bytes: Vec<u8> = (0..h)
            .flat_map(|y| match y % 2 {
                0 => [60, 100, 90, 140].repeat(w / 2),
                _ => [190, 140, 220, 150].repeat(w / 2),
            })
            .collect();
        let (layout, stride) = (Layout::Yuyv, 2 * w);
        let raw = Raw { layout, width: w, height: h, stride, limited: false, bytes: &bytes };
        let mut jpeg = Vec::new();
        Encoder::new(98).unwrap().encode(&raw, &mut jpeg).unwrap();
        let image = turbojpeg::decompress_to_yuv(&jpeg).unwrap();
        assert_eq!((image.width, image.height, image.subsamp), (w, h, Subsamp::Sub2x2));
        let near = |sample: u8, expect: u8| sample.abs_diff(expect) <= 6;
        let stride = |width: usize| width.next_multiple_of(image.align);
        let (luminance, colours) = image.pixels.split_at(stride(w) * h);
        for (y, row) in luminance.chunks(stride(w)).enumerate() {
            let expect = [[60, 90], [190, 220]][y % 2];
            let fits = row[..w].iter().enumerate().all(|(x, y)| near(*y, expect[x % 2]));
            assert!(fits, "row {y}: {row:?}");
        }
        for (n, row) in colours.chunks(stride(w / 2)).enumerate() {
            let expect = if n < h / 2 { 120 } else { 145 };
            assert!(row[..w / 2].iter().all(|c| near(*c, expect)), "row {n} of colours: {row:?}");
        }
    }

    #[test]
    fn a_thumbnail_is_narrow_and_keeps_shape_and_colour() {
        for (size, expect) in [
            ((1280, 720), (320, 180)),
            ((640, 480), (320, 240)),
            ((300, 20), (300, 20)),
            ((320, 200), (320, 200)),
            ((2592, 1944), (320, 240)), // an eighth is 324
            ((6000, 64), (320, 3)),
            ((16, 1000), (16, 1000)),
        ] {
            let (width, height) = size;
            let pixels = [229, 126, 6].repeat(width * height);
            let raw = Raw {
                layout: Layout::Rgb3,
                width,
                height,
                stride: width * 3,
                limited: false,
                bytes: &pixels,
            };
            let mut large = Vec::new();
            Encoder::new(80).unwrap().encode(&raw, &mut large).unwrap();
            let small = thumbnail(&large, 320, 75).unwrap();
            let image = turbojpeg::decompress(&small, turbojpeg::PixelFormat::RGB).unwrap();
            let (width, height, rgb) = (image.width, image.height, image.pixels);
            assert_eq!((width, height), expect, "{size:?}");
            for pixel in rgb.chunks(3) {
                let off = pixel.iter().zip([229u8, 126, 6]).map(|(a, b)| a.abs_diff(b)).max();
                assert!(off.unwrap() < 12, "{pixel:?}");
            }
            assert!(thumbnail(&large[..large.len() / 3], 320, 75).is_err(), "cut off");
        }
        assert!(thumbnail(b"", 320, 75).is_err());
    }

    /// RGB of a pixel of a picture with four fields, so that a plane that slips shows.
    fn field((width, height): (usize, usize), (x, y): (usize, usize)) -> [u8; 3] {
        match (x < width / 2, y < height / 2) {
            (true, true) => [200, 30, 40],
            (false, true) => [30, 180, 60],
            (true, false) => [40, 50, 210],
            (false, false) => [128, 128, 128],
        }
    }

    /// That picture.
    fn fields(size: (usize, usize), subsamp: Subsamp) -> Vec<u8> {
        let (width, height) = size;
        let places = (0..width * height).map(|n| (n % width, n / width));
        let pixels: Vec<u8> = places.flat_map(|place| field(size, place)).collect();
        let format = turbojpeg::PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format };
        turbojpeg::compress(image, 90, subsamp).unwrap().to_vec()
    }

    fn decode(jpeg: &[u8]) -> Image<Vec<u8>> {
        turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap()
    }

    fn pixel(image: &Image<Vec<u8>>, (x, y): (usize, usize)) -> &[u8] {
        &image.pixels[y * image.pitch + x * 3..][..3]
    }

    fn near(a: &[u8], b: &[u8], by: u8) -> bool {
        a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= by)
    }

    const KINDS: [Subsamp; 6] = [
        Subsamp::Sub2x1,
        Subsamp::Sub2x2,
        Subsamp::None,
        Subsamp::Sub1x2,
        Subsamp::Sub4x1,
        Subsamp::Sub1x4,
    ];

    #[test]
    fn a_picture_is_made_smaller_by_eighths_and_keeps_shape_and_colour() {
        let (width, height) = (310, 202);
        for subsamp in KINDS {
            let large = fields((width, height), subsamp);
            let mut scaler = Scaler::new(90).unwrap();
            for eighths in 1..=8 {
                let small = decode(&scaler.scale(&large, eighths).unwrap());
                assert_eq!(small.width, (width * eighths).div_ceil(8), "{subsamp:?} {eighths}");
                assert_eq!(small.height, (height * eighths).div_ceil(8));
                for (x, y) in [(1, 1), (3, 1), (1, 3), (3, 3)] {
                    let found = pixel(&small, (x * small.width / 4, y * small.height / 4));
                    let expect = field((width, height), (x * width / 4, y * height / 4));
                    let place = format!("{subsamp:?} {eighths} {x},{y}");
                    assert!(near(found, &expect, 23), "{place}: {found:?}, not {expect:?}");
                }
            }
        }
        let mut scaler = Scaler::new(90).unwrap();
        assert!(scaler.scale(b"no picture", 4).is_err());
    }

    /// Where in the stored picture what is shown at a place lies (EXIF's table 6).
    fn stored_place(
        number: u16,
        (width, height): (usize, usize),
        (x, y): (usize, usize),
    ) -> (usize, usize) {
        let (right, bottom) = (width - 1, height - 1);
        match number {
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (y, bottom - x),
            7 => (right - y, bottom - x),
            8 => (right - y, x),
            _ => (x, y),
        }
    }

    /// `jpeg`, to be shown so.
    fn marked(jpeg: &[u8], number: u16) -> Vec<u8> {
        let mut marked = Vec::new();
        mend(jpeg, Turn::from_number(number).unwrap(), &mut marked).unwrap();
        marked
    }

    #[test]
    fn baked_pixels_stand_where_they_are_shown() {
        let mut scaler = Scaler::new(90).unwrap();
        // The sides of the second are multiples of no block: what comes first is left out.
        let sizes = [(320, 192), (310, 202)];
        for (size, subsamp) in sizes.iter().flat_map(|size| KINDS.map(|kind| (*size, kind))) {
            let plain = fields(size, subsamp);
            let upright = decode(&plain);
            for number in 1..=8 {
                let what = format!("{subsamp:?} {size:?} {number}");
                let baked = scaler.bake(&marked(&plain, number), 8).unwrap();
                assert!(orientation(&baked).is_none(), "{what}");
                let image = decode(&baked);
                let whole = |side: usize, block, from_end| match from_end {
                    true => side - side % block,
                    false => side,
                };
                let kept = (
                    whole(size.0, subsamp.mcu_width(), [2, 3, 7, 8].contains(&number)),
                    whole(size.1, subsamp.mcu_height(), [3, 4, 6, 7].contains(&number)),
                );
                let sides = if number >= 5 { (kept.1, kept.0) } else { kept };
                assert_eq!((image.width, image.height), sides, "{what}");
                for n in 0..image.width * image.height {
                    let at = (n % image.width, n / image.width);
                    let from = stored_place(number, kept, at);
                    let (found, expect) = (pixel(&image, at), pixel(&upright, from));
                    // Next to what was left out, colours were blended with it.
                    let is_near = |at, kept, side| kept < side && at + 4 > kept;
                    let blended =
                        is_near(from.0, kept.0, size.0) || is_near(from.1, kept.1, size.1);
                    let by = if blended { 24 } else { 3 };
                    assert!(near(found, expect, by), "{what} {at:?}: {found:?}, not {expect:?}");
                }
            }
        }
    }

    #[test]
    fn a_smaller_picture_is_baked_whole() {
        let size = (310, 202);
        for (subsamp, number) in KINDS.iter().flat_map(|kind| (1..=8).map(move |n| (*kind, n))) {
            let plain = marked(&fields(size, subsamp), number);
            let mut scaler = Scaler::new(90).unwrap();
            for eighths in 1..8 {
                let what = format!("{subsamp:?} {number} {eighths}");
                let baked = scaler.bake(&plain, eighths).unwrap();
                assert!(orientation(&baked).is_none(), "{what}");
                let image = decode(&baked);
                let (across, down) = if number == 1 { (1, 1) } else { subsamp.size() };
                let small = |side: usize, shared| {
                    let side = (side * eighths).div_ceil(8);
                    side - side % shared
                };
                let kept = (small(size.0, across), small(size.1, down));
                let sides = if number >= 5 { (kept.1, kept.0) } else { kept };
                assert_eq!((image.width, image.height), sides, "{what}");
                for (x, y) in [(1, 1), (3, 1), (1, 3), (3, 3)] {
                    let at = (x * image.width / 4, y * image.height / 4);
                    let from = stored_place(number, kept, at);
                    let (found, expect) = (pixel(&image, at), field(kept, from));
                    assert!(near(found, &expect, 23), "{what} {at:?}: {found:?}, not {expect:?}");
                }
            }
        }
    }

    #[test]
    fn grey_and_tiny_pictures_are_baked() {
        let grey = fields((64, 48), Subsamp::Gray);
        let mut scaler = Scaler::new(90).unwrap();
        for eighths in [8, 4, 1] {
            let image = decode(&scaler.bake(&marked(&grey, 6), eighths).unwrap());
            assert_eq!((image.width, image.height), (48 * eighths / 8, 64 * eighths / 8));
            // What was at the bottom left comes to stand at the top left.
            let (first, last) = (pixel(&image, (0, 0)), pixel(&image, (image.width - 1, 0)));
            assert!(near(first, &[65; 3], 12) && near(last, &[82; 3], 12), "{first:?} {last:?}");
        }
        for (size, eighths) in [((1, 1), 8), ((1, 1), 1), ((3, 2), 4), ((17, 5), 8)] {
            for subsamp in KINDS {
                let baked = scaler.bake(&marked(&fields(size, subsamp), 6), eighths).unwrap();
                assert!(orientation(&baked).is_none() && decode(&baked).width > 0);
            }
        }
    }

    #[test]
    fn baking_loses_nothing() {
        let plain = fields((64, 48), Subsamp::Sub2x1);
        let commented = with(&plain, marker::COM, b"of a camera");
        let mut scaler = Scaler::new(1).unwrap(); // a quality that would be seen
        let mut round = commented.clone();
        for _ in 0..4 {
            round = scaler.bake(&marked(&round, 6), 8).unwrap();
            assert!(memmem::find(&round, b"of a camera").is_some(), "other segments stay");
        }
        assert!(decode(&round).pixels == decode(&plain).pixels);
        // A camera's own orientation counts, and is taken out.
        let own = with(&plain, marker::APP1, &exif(true, b"no thumbnail"));
        let image = decode(&scaler.bake(&own, 8).unwrap());
        assert_eq!((image.width, image.height), (48, 64));
    }

    #[test]
    fn what_cannot_be_baked_is_refused_and_the_next_one_is_baked() {
        let mut scaler = Scaler::new(90).unwrap();
        let good = marked(&fields((64, 48), Subsamp::Sub2x2), 8);
        let expect = scaler.bake(&good, 8).unwrap();
        let mut huge = good.clone();
        let sof = memmem::find(&huge, &[0xff, marker::SOF0]).unwrap();
        huge[sof + 5..sof + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
        let odd = with_damaged_head(&good);
        let scan = memmem::find(&good, &[0xff, marker::SOS]).unwrap();
        let many =
            [&good[..scan], &good[scan..scan + 14].repeat(SCANS_MAX as usize), &good[scan..]];
        for (what, broken) in [
            ("nothing", &b""[..]),
            ("no picture", b"no picture"),
            ("cut off", &good[..good.len() * 2 / 3]),
            ("a damaged head", &odd),
            ("more than memory is for", &huge),
            ("too many scans", &many.concat()),
        ] {
            for eighths in [8, 4] {
                // A picture of only scans may be decoded smaller: nothing is held for that.
                let refused = scaler.bake(broken, eighths).is_err();
                assert!(refused || eighths == 4 && what == "too many scans", "{what}");
                assert!(scaler.bake(&good, 8).ok().as_ref() == Some(&expect), "after {what}");
                assert!(scaler.bake(&good, 4).is_ok(), "after {what}");
            }
        }
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 32) as u8;
            }
            for eighths in [8, 3] {
                if let Ok(baked) = scaler.bake(&bytes, eighths) {
                    assert!(baked.starts_with(&[0xff, 0xd8]) && baked.ends_with(&[0xff, 0xd9]));
                }
            }
        }
        assert!(scaler.bake(&good, 8).ok() == Some(expect));
    }

    #[test]
    fn bytes_that_some_cameras_put_before_a_marker_do_no_harm() {
        let whole = picture();
        let (start, end) = whole.split_at(whole.len() - 2);
        let padded = [start, &[0; 64], end].concat();
        let small = |jpeg: &[u8]| Scaler::new(90).unwrap().scale(jpeg, 4).ok();
        assert_eq!(small(&padded), small(&whole));
        assert!(small(&padded).is_some());
        assert_eq!(thumbnail(&padded, 8, 90).ok(), thumbnail(&whole, 8, 90).ok());
        let baked = |jpeg: &[u8]| Scaler::new(90).unwrap().bake(&marked(jpeg, 3), 8).ok();
        assert!(baked(&padded).is_some() && baked(&padded) == baked(&whole));
        let cut = [&start[..start.len() * 3 / 4], end].concat();
        assert!(small(&cut).is_none(), "this one is damaged");
    }

    /// `jpeg` with a quantization table whose number is none.
    fn with_damaged_head(jpeg: &[u8]) -> Vec<u8> {
        let mut damaged = jpeg.to_vec();
        let table = memmem::find(jpeg, &[0xff, marker::DQT]).unwrap();
        damaged[table + 4] = 0x77;
        damaged
    }

    #[test]
    fn a_damaged_head_does_no_harm_to_the_next_picture() {
        let mut scaler = Scaler::new(90).unwrap();
        let whole = picture();
        let expect = scaler.scale(&whole, 4).unwrap();
        assert!(scaler.scale(&with_damaged_head(&whole), 4).is_err());
        assert_eq!(scaler.scale(&whole, 4).ok(), Some(expect));
    }

    #[test]
    fn the_largest_size_that_fits_is_chosen() {
        let check = |width, width_max, expect| assert_eq!(eighths(width, width_max), expect);
        check(1280, 1280, 8);
        check(1280, 5000, 8);
        check(1280, 1279, 7);
        check(1280, 640, 4);
        check(1280, 639, 3);
        check(1280, 160, 1);
        check(1280, 1, 1);
        check(1281, 160, 1); // 161 pixels: there is nothing smaller
        check(0, 7, 8);
    }

    #[test]
    fn exif_data_goes_behind_what_must_come_first() {
        let jpeg = picture();
        let place = exif_place(&jpeg).unwrap();
        assert_eq!(place.old, None);
        assert_eq!(jpeg[2..4], [0xff, marker::APP0], "it begins with JFIF's segment");
        assert_eq!(place.insert, Segment::read(&jpeg, 2).unwrap().unwrap().end);
        let segment = exif_segment(b"MM\0*\0\0\0\x08\0\0\0\0\0\0").unwrap();
        let with = [&jpeg[..place.insert], &segment, &jpeg[place.insert..]].concat();
        let found = exif_place(&with).unwrap();
        assert_eq!(found.insert, place.insert);
        assert_eq!(found.old, Some(place.insert..place.insert + segment.len()));
        assert_eq!(found.size, place.size);
        assert!(turbojpeg::read_header(&with).is_ok());
        assert_eq!(exif_place(&jpeg[..40]), None);
        assert_eq!(exif_segment(&[0; 65_536]), None);
    }

    #[test]
    fn a_frame_that_is_too_short_for_its_size_is_refused() {
        for layout in [
            Layout::Yuyv,
            Layout::Uyvy,
            Layout::Nv12,
            Layout::Yu12,
            Layout::Rgb3,
            Layout::Bgr3,
            Layout::Grey,
        ] {
            for (width, height) in [(16, 8), (17, 9), (2, 2), (3, 3)] {
                let stride = layout.row_bytes(width) + 2;
                let whole = vec![128; stride * height * 3];
                let raw = Raw { layout, width, height, stride, limited: true, bytes: &whole };
                let enough = raw.bytes_min();
                let mut encoder = Encoder::new(50).unwrap();
                let mut out = Vec::new();
                for bytes in [&whole[..enough], &whole[..enough - 1], &[]] {
                    let result = encoder.encode(&Raw { bytes, ..raw }, &mut out);
                    assert_eq!(
                        result.is_ok(),
                        bytes.len() >= enough,
                        "{layout:?} {width}x{height}"
                    );
                }
            }
            let tiny =
                Raw { layout, width: 1, height: 1, stride: 8, limited: true, bytes: &[0; 64] };
            assert!(Encoder::new(50).unwrap().encode(&tiny, &mut Vec::new()).is_err());
        }
    }
}
