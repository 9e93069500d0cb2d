//! Reads the stamps of the software USB camera (`tests/guest/uvc-cam.rs`): whether a JPEG is,
//! byte for byte, the one that the camera made.

use std::time::Duration;

/// What the camera says of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    pub number: u32,
    /// When the frame was made, by CLOCK_MONOTONIC.
    pub made: Duration,
}

/// The stamp of the camera's frame in `jpeg`, once all its bytes are found to be as they were
/// made; `None` for a picture that the camera did not make.
pub fn check(jpeg: &[u8]) -> Result<Option<Stamp>, String> {
    const COMMENT: u8 = 0xfe;
    let Some(segment) = segments(jpeg).find(|segment| segment.marker == COMMENT) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(segment.body(jpeg));
    let Some(fields) = text.strip_prefix("uvc-cam ") else { return Ok(None) };
    let field = |name: &str| {
        let value = fields.split(' ').find_map(|field| field.strip_prefix(name));
        value.ok_or_else(|| format!("no {name} in the stamp {text:?}"))
    };
    let fault = |what: String| Err(format!("{what}; its stamp: {text:?}"));
    if segment.start != 2 {
        return fault(format!("{} bytes stand before the stamp", segment.start));
    }
    if field("len=")?.parse() != Ok(jpeg.len()) {
        return fault(format!("the frame has {} bytes", jpeg.len()));
    }
    let crc = format!("{:08x}", crc32(&jpeg[segment.end..]));
    if field("crc=")? != crc {
        return fault(format!("the bytes behind the stamp give {crc}"));
    }
    match (field("seq=")?.parse(), field("ns=")?.parse()) {
        (Ok(number), Ok(nanos)) => Ok(Some(Stamp { number, made: Duration::from_nanos(nanos) })),
        _ => fault("no numbers".to_owned()),
    }
}

/// The same JPEG without its Huffman tables.
pub fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    const HUFFMAN_TABLES: u8 = 0xc4;
    without(jpeg, |segment| segment.marker == HUFFMAN_TABLES)
}

/// The same JPEG without its EXIF data.
pub fn without_exif(jpeg: &[u8]) -> Vec<u8> {
    const APPLICATION_1: u8 = 0xe1;
    let is_exif = |s: &Segment| s.marker == APPLICATION_1 && s.body(jpeg).starts_with(b"Exif\0\0");
    without(jpeg, is_exif)
}

fn without(jpeg: &[u8], unwanted: impl Fn(&Segment) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(jpeg.len());
    let mut kept = 0;
    for segment in segments(jpeg).filter(unwanted) {
        out.extend(&jpeg[kept..segment.start]);
        kept = segment.end;
    }
    out.extend(&jpeg[kept..]);
    out
}

/// Width and height in pixels, as the head of a baseline JPEG tells them.
pub fn size(jpeg: &[u8]) -> Option<(u32, u32)> {
    const BASELINE: u8 = 0xc0;
    let frame = segments(jpeg).find(|segment| segment.marker == BASELINE)?;
    let &[_, h1, h0, w1, w0, ..] = frame.body(jpeg) else { return None };
    Some((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into()))
}

/// A marker segment: where it begins (at its 0xff), and where the next one does.
struct Segment {
    marker: u8,
    start: usize,
    end: usize,
}

impl Segment {
    fn body<'a>(&self, jpeg: &'a [u8]) -> &'a [u8] {
        &jpeg[self.start + 4..self.end]
    }
}

/// The segments before the first scan; ends early where they are damaged.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = Segment> {
    const START_OF_SCAN: u8 = 0xda;
    let mut start = 2;
    std::iter::from_fn(move || {
        let &[0xff, marker, high, low] = jpeg.get(start..start + 4)? else { return None };
        let end = start + 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == START_OF_SCAN || end < start + 4 || end > jpeg.len() {
            return None;
        }
        let segment = Segment { marker, start, end };
        start = end;
        Some(segment)
    })
}

/// The CRC-32 of Ethernet and zip.
pub fn crc32(data: &[u8]) -> u32 {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}
