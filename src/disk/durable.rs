//! Small files that are replaced whole: after a power cut there is the old one or the new one, and
//! once `replace` has returned, the new one.
//!
//! DESIGN. A rename puts one file in another's place at once where the file system has a journal.
//! On FAT it is several writes in any order, and a cut between them may leave neither: what was
//! there is freed, and what comes has no name yet. So the new bytes first get a copy beside the
//! file, and only when that is on the medium the file is replaced; then the copy goes. A copy that
//! is whole is what counts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::archive::checksum;
use super::photo::{self, TEMPORARY, open_file, sync_folder};
use crate::limits::COPY_BYTES_MAX;

/// In front of a copy's bytes, by which a whole one is known: their checksum and a line end.
const SEAL_BYTES: usize = 9;

/// The file's bytes, or the first `most` of them; none if there is no file.
pub fn read(folder: &OwnedFd, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    match read_copy(folder, name)? {
        None => read_file(folder, name, most),
        Some(mut bytes) => {
            bytes.truncate(most as usize);
            Ok(Some(bytes))
        }
    }
}

/// Give the file these bytes. `Err`: it has them or what it had.
pub fn replace(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    restore(folder, name)?; // the copy that counts now may not be touched
    let copy = copy_of(name);
    let copied = put(folder, &copy, &[&seal(bytes), bytes]);
    let replaced = copied.and_then(|()| settle(folder, name, bytes));
    if replaced.is_err() {
        let _ = unlinkat(folder, &copy, AtFlags::empty());
    }
    replaced
}

/// Put a copy that counts in the file's place.
pub fn restore(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match read_copy(folder, name)? {
        None => Ok(()),
        Some(bytes) => settle(folder, name, &bytes),
    }
}

/// Give the file its copy's bytes; then the copy goes.
fn settle(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    put(folder, name, &[bytes])?;
    unlinkat(folder, copy_of(name), AtFlags::empty())?;
    // What was its place on the medium may be another's before its name is gone from there.
    sync_folder(folder)
}

/// Give a file these bytes by a rename, and write all of it through to the medium.
fn put(folder: &OwnedFd, name: &str, bytes: &[&[u8]]) -> io::Result<()> {
    let scratch = format!("{TEMPORARY}{}", name.trim_start_matches('.'));
    let fill = |file: &mut File| {
        bytes.iter().try_for_each(|bytes| file.write_all(bytes))?;
        file.sync_all()
    };
    photo::replace(folder, &scratch, name, fill)?.sync_all()?; // once more at its name, for FAT
    sync_folder(folder)
}

fn copy_of(name: &str) -> String {
    format!(".{}.copy", name.trim_start_matches('.'))
}

fn seal(bytes: &[u8]) -> Vec<u8> {
    format!("{:08x}\n", checksum(bytes)).into_bytes()
}

/// What the copy has, if there is one and it is whole.
fn read_copy(folder: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let Some(sealed) = read_file(folder, &copy_of(name), COPY_BYTES_MAX)? else { return Ok(None) };
    let Some((head, bytes)) = sealed.split_at_checked(SEAL_BYTES) else { return Ok(None) };
    Ok((head == seal(bytes)).then(|| bytes.to_vec()))
}

fn read_file(folder: &OwnedFd, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_file(folder, name) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::photo::open_folder;
    use crate::disk::scratch::Scratch;
    use std::fs;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let scratch = Scratch::new("durable-replaced");
        let folder = open_folder(scratch.path()).unwrap();
        assert_eq!(read(&folder, ".keep", 99).unwrap(), None);
        for bytes in ["one", "", "three"] {
            replace(&folder, ".keep", bytes.as_bytes()).unwrap();
            assert_eq!(read(&folder, ".keep", 99).unwrap().unwrap(), bytes.as_bytes());
            assert_eq!(scratch.names(), [".keep"]);
        }
        assert_eq!(read(&folder, ".keep", 2).unwrap().unwrap(), b"th");
    }

    #[test]
    fn a_whole_copy_counts_and_takes_the_files_place() {
        let scratch = Scratch::new("durable-copy");
        let folder = open_folder(scratch.path()).unwrap();
        fs::write(scratch.path().join(".keep"), "hal").unwrap();
        fs::write(scratch.path().join(".keep.copy"), [&seal(b"whole")[..], b"whole"].concat())
            .unwrap();
        assert_eq!(read(&folder, ".keep", 99).unwrap().unwrap(), b"whole");
        restore(&folder, ".keep").unwrap();
        assert_eq!(fs::read(scratch.path().join(".keep")).unwrap(), b"whole");
        assert_eq!(scratch.names(), [".keep"]);
    }

    /// Cut off by the repair of a FAT, or with another file's bytes.
    #[test]
    fn a_copy_that_is_not_whole_does_not_count() {
        let scratch = Scratch::new("durable-torn");
        let folder = open_folder(scratch.path()).unwrap();
        fs::write(scratch.path().join(".keep"), "old").unwrap();
        let whole = [&seal(b"whole")[..], b"whole"].concat();
        for torn in [&b""[..], &whole[..4], &whole[..whole.len() - 1], &[0xff; 99]] {
            fs::write(scratch.path().join(".keep.copy"), torn).unwrap();
            assert_eq!(read(&folder, ".keep", 99).unwrap().unwrap(), b"old");
            restore(&folder, ".keep").unwrap();
            replace(&folder, ".keep", b"old").unwrap();
            assert_eq!(scratch.names(), [".keep"]);
        }
    }
}
