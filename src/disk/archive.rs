//! Photos as one ZIP archive, made piece by piece while it is sent: no temporary file, and no more
//! than a chunk of a photo in memory. The photos are stored, not compressed: a JPEG gets no
//! smaller.
//!
//! Its length is known before the first byte, because the same archive is first written with
//! nothing in it but the right number of bytes. So are the pieces around each photo.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, Crc32, DataDescriptorOutput, ZipArchiveWriter};

use super::photo::{PhotoName, look, open_file, open_folder};
use crate::error::{Error, Result};
use crate::limits::CHUNK_BYTES;

#[derive(Debug)]
pub struct Archive {
    pic: PathBuf,
    /// At most `PHOTOS_MAX`.
    entries: Vec<Entry>,
    /// How many entries are made, the list at the end counted as one more.
    made: usize,
    /// Bytes of the archive that are made.
    length: u64,
    /// What stands around the photos, made and not taken yet; and how much of it is taken. Bound:
    /// the list at the end has `PHOTOS_MAX` entries.
    piece: Vec<u8>,
    taken: usize,
    /// The photo that is being read.
    photo: Option<Photo>,
    _count: Arc<()>,
}

#[derive(Debug)]
struct Entry {
    name: PhotoName,
    bytes: u64,
    /// Seconds since 1970.
    modified: i64,
    crc: u32,
}

#[derive(Debug)]
struct Photo {
    file: File,
    /// Bytes still to be read.
    left: u64,
    crc: Crc32,
}

/// A part of an entry: what stands before the photo's bytes, and what behind them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Tail,
}

impl Archive {
    /// An archive of those of `names` that are there; `count` lives as long as it does.
    pub fn new(pic: &Path, names: &[PhotoName], count: Arc<()>) -> Result<Archive> {
        Ok(Archive {
            pic: pic.to_owned(),
            entries: entries(pic, names)?,
            made: 0,
            length: 0,
            piece: Vec::new(),
            taken: 0,
            photo: None,
            _count: count,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the whole archive.
    pub fn length(&self) -> Result<u64> {
        self.write_all(Window::of(0..0)).map(|nothing| nothing.written)
    }

    /// The next bytes, at most so many; none at the end. `Err`: a photo has gone meanwhile.
    pub fn next(&mut self, length: usize) -> Result<Vec<u8>> {
        loop {
            if self.taken < self.piece.len() {
                let end = self.piece.len().min(self.taken + length);
                let bytes = self.piece[self.taken..end].to_vec();
                self.taken = end;
                return Ok(bytes);
            }
            self.piece = match &mut self.photo {
                Some(photo) if photo.left > 0 => {
                    let name = self.entries[self.made].name;
                    let bytes = photo.read(length);
                    let bytes = bytes.map_err(|source| Error::new("read", name, source))?;
                    self.length += bytes.len() as u64;
                    return Ok(bytes);
                }
                Some(photo) => {
                    self.entries[self.made].crc = photo.crc.checksum();
                    self.photo = None;
                    self.made += 1;
                    self.around(self.made - 1, Part::Tail)?
                }
                None if self.made < self.entries.len() => {
                    self.photo = Some(self.open(self.made)?);
                    self.around(self.made, Part::Head)?
                }
                None if self.made == self.entries.len() => {
                    self.made += 1;
                    self.list()?
                }
                None => return Ok(Vec::new()),
            };
            self.taken = 0;
            self.length += self.piece.len() as u64;
        }
    }

    fn open(&self, at: usize) -> Result<Photo> {
        let Entry { name, bytes, .. } = self.entries[at];
        let file = open_folder(&self.pic)
            .and_then(|folder| Ok(open_file(&folder, &name.to_string())?))
            .map_err(|source| Error::new("open", name, source))?;
        Ok(Photo { file, left: bytes, crc: Crc32::new() })
    }

    /// What the archive has before or behind the bytes of a photo.
    fn around(&self, at: usize, part: Part) -> Result<Vec<u8>> {
        let entry = &self.entries[at];
        let nothing = vec![0; CHUNK_BYTES];
        let write = |range| -> io::Result<(Span, Vec<u8>)> {
            let mut window = Window::of(range);
            let mut archive = ZipArchiveWriter::new(&mut window);
            let span = entry.write(&mut archive, &nothing)?;
            archive.finish().map_err(io::Error::other)?;
            Ok((span, window.bytes))
        };
        let piece = write(0..0).and_then(|(span, _)| match part {
            Part::Head => write(0..span.data.start),
            Part::Tail => write(span.data.end..span.end),
        });
        piece.map(|(_, bytes)| bytes).map_err(|error| Error::new("pack", entry.name, error))
    }

    /// The list of all photos at the archive's end.
    fn list(&self) -> Result<Vec<u8>> {
        self.write_all(Window::of(self.length..u64::MAX)).map(|list| list.bytes)
    }

    /// Write the whole archive, with nothing in its photos.
    fn write_all(&self, mut out: Window) -> Result<Window> {
        let nothing = vec![0; CHUNK_BYTES];
        let mut archive = ZipArchiveWriter::new(&mut out);
        let entries = self.entries.iter();
        entries
            .map(|entry| entry.write(&mut archive, &nothing))
            .collect::<io::Result<Vec<Span>>>()
            .and_then(|_| archive.finish().map_err(io::Error::other))
            .map_err(|error| Error::new("pack", self.pic.display(), error))?;
        Ok(out)
    }
}

/// The CRC-32 of these bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    crc.checksum()
}

/// Those of `names` that are there. One that the disk does not tell of is an error: left out, it
/// would be missed only when the others are deleted.
fn entries(pic: &Path, names: &[PhotoName]) -> Result<Vec<Entry>> {
    let folder = match open_folder(pic) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| Error::new("open", pic.display(), source))?,
    };
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let found = look(&folder, *name);
        if let Some(stat) = found.map_err(|errno| Error::new("look at", name, errno.into()))? {
            let (bytes, modified) = (stat.st_size as u64, stat.st_mtime as _);
            entries.push(Entry { name: *name, bytes, modified, crc: 0 });
        }
    }
    Ok(entries)
}

impl Photo {
    /// The next bytes, at most so many.
    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.left.min(length as u64) as usize];
        let read = self.file.read(&mut bytes)?;
        if read == 0 {
            return Err(io::Error::other("it has become shorter"));
        }
        bytes.truncate(read);
        self.crc.update(&bytes);
        self.left -= read as u64;
        Ok(bytes)
    }
}

/// Where an entry lies in the archive that it was written into.
struct Span {
    /// The photo's bytes.
    data: Range<u64>,
    /// The first byte behind the entry.
    end: u64,
}

impl Entry {
    /// Write this photo into `archive`, with bytes of `nothing` in place of its own.
    fn write<W: Write>(
        &self,
        archive: &mut ZipArchiveWriter<W>,
        nothing: &[u8],
    ) -> io::Result<Span> {
        let builder = archive
            .new_file(self.name.to_string())
            .compression_method(CompressionMethod::STORE)
            .last_modified(UtcDateTime::from_unix(self.modified))
            .unix_permissions(0o644);
        let (mut entry, _) = builder.start().map_err(io::Error::other)?;
        let start = entry.stream_offset();
        let mut left = self.bytes;
        while left > 0 {
            let some = left.min(nothing.len() as u64);
            entry.write_all(&nothing[..some as usize])?;
            left -= some;
        }
        let output = DataDescriptorOutput::new(self.crc, self.bytes);
        entry.finish(output).map_err(io::Error::other)?;
        Ok(Span { data: start..start + self.bytes, end: archive.stream_offset() })
    }
}

/// Counts what is written, and keeps what lies in a range of it. Bound: as `Archive::piece`,
/// `PHOTOS_MAX` entries.
struct Window {
    range: Range<u64>,
    written: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn of(range: Range<u64>) -> Window {
        Window { range, written: 0, bytes: Vec::new() }
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        let place = |at: u64| at.saturating_sub(self.written).min(length) as usize;
        let (start, end) = (place(self.range.start), place(self.range.end));
        self.bytes.extend_from_slice(&bytes[start..end.max(start)]);
        self.written += length;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Photos so many and so large that 32 bits are not enough, without their bytes.
    #[test]
    fn lengths_and_lists_are_right_beyond_four_gigabytes() {
        let entry = |n: u64| Entry {
            name: PhotoName::parse("2026-11-22_14-03-55.jpg").unwrap(),
            bytes: 1_500_000_000 + n,
            modified: 1_795_000_000,
            crc: 7,
        };
        let mut archive = Archive::new(Path::new("/nowhere"), &[], Arc::new(())).unwrap();
        assert!(archive.is_empty());
        archive.entries = (0..4).map(entry).collect();
        let length = archive.length().unwrap();
        let mut sum = 0;
        for (n, entry) in archive.entries.iter().enumerate() {
            let around =
                [Part::Head, Part::Tail].map(|part| archive.around(n, part).unwrap().len());
            sum += around.iter().sum::<usize>() as u64 + entry.bytes;
        }
        archive.length = sum;
        let list = archive.list().unwrap();
        assert_eq!(sum + list.len() as u64, length);
        assert!(list.starts_with(b"PK\x01\x02"), "the list begins with its first entry");
        assert!(list.windows(4).any(|w| w == b"PK\x06\x06"), "ZIP64's end of the list");
        assert!(archive.around(0, Part::Head).unwrap().starts_with(b"PK\x03\x04"));
        assert!(archive.around(0, Part::Tail).unwrap().starts_with(b"PK\x07\x08"));
    }
}
