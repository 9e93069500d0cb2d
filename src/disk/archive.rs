//! Photos as one ZIP archive, made piece by piece while it is sent: no temporary file, one photo in
//! memory at a time. The photos are stored, not compressed: a JPEG gets no smaller.
//!
//! Its length is known before the first byte, because the same archive is first written with
//! nothing in it but the right number of bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, DataDescriptorOutput, ZipArchiveWriter};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use super::photo::{PhotoName, open_folder};
use crate::error::{Error, Result};
use crate::limits::{CHUNK_BYTES, PHOTO_BYTES_MAX};

#[derive(Debug)]
pub struct Archive {
    pic: PathBuf,
    entries: Vec<Entry>,
    /// How many entries are made, the list at the end counted as one more.
    made: usize,
    /// Bytes of the archive that are made.
    length: u64,
    /// What is made and not taken yet, and how much of it is taken.
    piece: Vec<u8>,
    taken: usize,
}

#[derive(Debug)]
struct Entry {
    name: PhotoName,
    bytes: u64,
    /// Seconds since 1970.
    modified: i64,
    crc: u32,
}

impl Archive {
    /// An archive of those of `names` that are there.
    pub fn new(pic: &Path, names: &[PhotoName]) -> Result<Archive> {
        let mut entries = Vec::with_capacity(names.len());
        let folder = open_folder(pic).ok(); // without a folder there are no photos
        for name in names {
            let look = |folder| statat(folder, name.to_string(), AtFlags::SYMLINK_NOFOLLOW).ok();
            let Some(stat) = folder.as_ref().and_then(look) else { continue };
            let bytes = stat.st_size as u64;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            match bytes <= PHOTO_BYTES_MAX {
                true => {
                    let modified = stat.st_mtime as _;
                    entries.push(Entry { name: *name, bytes, modified, crc: 0 });
                }
                false => log::warn!("{name}: too large for an archive, left out"),
            }
        }
        let pic = pic.to_owned();
        Ok(Archive { pic, entries, made: 0, length: 0, piece: Vec::new(), taken: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the whole archive.
    pub fn length(&self) -> Result<u64> {
        let mut count = Behind { skip: 0, written: 0, bytes: None };
        self.write_all(&mut count).map_err(|error| self.failed(error))?;
        Ok(count.written)
    }

    /// The next bytes, at most so many; none at the end, or when a photo has gone meanwhile.
    pub fn next(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.taken == self.piece.len() {
            self.taken = 0;
            self.piece = match self.made.cmp(&self.entries.len()) {
                std::cmp::Ordering::Less => self.photo(self.made)?,
                std::cmp::Ordering::Equal => self.list()?,
                std::cmp::Ordering::Greater => return Ok(Vec::new()),
            };
            self.made += 1;
            self.length += self.piece.len() as u64;
        }
        let end = self.piece.len().min(self.taken + length);
        let bytes = self.piece[self.taken..end].to_vec();
        self.taken = end;
        Ok(bytes)
    }

    /// The bytes of one photo in the archive.
    fn photo(&mut self, at: usize) -> Result<Vec<u8>> {
        let entry = &mut self.entries[at];
        let failed = |source| Error::new("read", entry.name, source);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let folder = open_folder(&self.pic).map_err(failed)?;
        let file = openat(&folder, entry.name.to_string(), flags, Mode::empty());
        let file = File::from(file.map_err(|errno| failed(errno.into()))?);
        let mut bytes = Vec::with_capacity(entry.bytes as usize);
        file.take(entry.bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != entry.bytes {
            return Err(failed(io::Error::other("it has another size than before")));
        }
        let piece = Vec::with_capacity(bytes.len() + CHUNK_BYTES);
        let mut archive = ZipArchiveWriter::builder().with_offset(self.length).build(piece);
        let made = entry.write(&mut archive, |writer| writer.write_all(&bytes), None);
        let (crc, end) = made.map_err(|error| Error::new("pack", entry.name, error))?;
        entry.crc = crc;
        let finished = archive.finish().map_err(io::Error::other);
        let mut piece = finished.map_err(|error| Error::new("pack", entry.name, error))?;
        piece.truncate((end - self.length) as usize); // what follows is the list of this one
        Ok(piece)
    }

    /// The list of all photos at the archive's end.
    fn list(&self) -> Result<Vec<u8>> {
        let mut list = Behind { skip: self.length, written: 0, bytes: Some(Vec::new()) };
        self.write_all(&mut list).map_err(|error| self.failed(error))?;
        Ok(list.bytes.unwrap_or_default())
    }

    /// Write the whole archive, with nothing in its photos.
    fn write_all(&self, out: &mut Behind) -> io::Result<()> {
        let nothing = vec![0; CHUNK_BYTES];
        let mut archive = ZipArchiveWriter::new(out);
        for entry in &self.entries {
            let fill = |writer: &mut dyn Write| {
                let mut left = entry.bytes;
                while left > 0 {
                    let some = left.min(CHUNK_BYTES as u64);
                    writer.write_all(&nothing[..some as usize])?;
                    left -= some;
                }
                Ok(())
            };
            entry.write(&mut archive, fill, Some(entry.crc))?;
        }
        archive.finish().map(drop).map_err(io::Error::other)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::new("pack", self.pic.display(), source)
    }
}

impl Entry {
    /// Write this photo into `archive`: its checksum, worked out unless `crc` has it, and
    /// where it ends.
    fn write<W: Write>(
        &self,
        archive: &mut ZipArchiveWriter<W>,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        crc: Option<u32>,
    ) -> io::Result<(u32, u64)> {
        let builder = archive
            .new_file(self.name.to_string())
            .compression_method(CompressionMethod::STORE)
            .last_modified(UtcDateTime::from_unix(self.modified))
            .unix_permissions(0o644);
        let (mut entry, config) = builder.start().map_err(io::Error::other)?;
        let output = match crc {
            Some(crc) => {
                fill(&mut entry)?;
                DataDescriptorOutput::new(crc, self.bytes)
            }
            None => {
                let mut data = config.wrap(&mut entry);
                fill(&mut data)?;
                data.finish().map_err(io::Error::other)?.1
            }
        };
        let crc = output.crc();
        entry.finish(output).map_err(io::Error::other)?;
        Ok((crc, archive.stream_offset()))
    }
}

/// Counts what is written and keeps what lies behind the first `skip` bytes.
struct Behind {
    skip: u64,
    written: u64,
    /// None: nothing is kept.
    bytes: Option<Vec<u8>>,
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.saturating_sub(self.written).min(bytes.len() as u64);
        if let Some(kept) = &mut self.bytes {
            kept.extend_from_slice(&bytes[skipped as usize..]);
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
