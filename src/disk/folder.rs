//! A folder whose files are served, and the only way into it.
//!
//! No way leads out: the kernel resolves a path beneath the folder (openat2), and only regular
//! files are opened, so neither a symbolic link nor a device can be used against us.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, accessat, fstat, openat,
    openat2,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::http::response::Validators;
use crate::limits::{HTTP_DATE_MAX, LISTED_MAX};

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What the folder has at a path.
#[derive(Debug)]
pub enum Entry {
    File(Found),
    Folder,
    Nothing,
}

/// An open regular file.
#[derive(Debug)]
pub struct Found {
    pub file: File,
    /// Bytes.
    pub length: u64,
    pub validators: Validators,
}

impl Folder {
    pub fn new(path: PathBuf) -> Folder {
        Folder { path }
    }

    /// Whether it is there and may be read.
    pub fn check(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat(CWD, &self.path, flags, Mode::empty())
            .and_then(|_| accessat(CWD, &self.path, Access::EXEC_OK, AtFlags::empty()));
        readable.map_err(|errno| Error::new("read the folder", self.path.display(), errno.into()))
    }

    /// What is at `name`, a clean path without a slash at its start. `Err`: the disk failed;
    /// what is not there is `Entry::Nothing`.
    pub fn open(&self, name: &str) -> Result<Entry> {
        self.entry(name).map_err(|errno| Error::new("open", self.named(name), errno.into()))
    }

    /// How many bytes the file at `name` has, and a word that changes whenever the file does; none
    /// if there is no such file.
    pub fn version(&self, name: &str) -> Result<Option<(u64, String)>> {
        let look = || {
            let Some(root) = self.root()? else { return Err(Errno::NOENT) };
            fstat(beneath(&root, name, OFlags::PATH | OFlags::CLOEXEC)?)
        };
        match look() {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some((stat.st_size as u64, version(&stat))))
            }
            Ok(_) => Ok(None),
            Err(errno) if is_absence(errno) => Ok(None),
            Err(errno) => Err(Error::new("look at", self.named(name), errno.into())),
        }
    }

    /// All of a file's bytes, at most `bytes_max` of them.
    pub fn read(&self, name: &str, found: &mut Found, bytes_max: u64) -> Result<Vec<u8>> {
        let length = found.length.min(bytes_max);
        let mut bytes = Vec::with_capacity(length as usize);
        let read = found.file.by_ref().take(length).read_to_end(&mut bytes);
        read.map_err(|source| Error::new("read", self.named(name), source))?;
        Ok(bytes)
    }

    /// Names in the folder at `name`, with a slash behind those of folders; hidden ones and
    /// those that are no text are left out. None if there is no such folder.
    pub fn list(&self, name: &str) -> Result<Option<Vec<String>>> {
        let failed = |errno: Errno| Error::new("list", self.named(name), errno.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = self.root().and_then(|root| {
            let Some(root) = root else { return Err(Errno::NOENT) };
            beneath(&root, if name.is_empty() { "." } else { name }, flags)
        });
        let folder = match opened {
            Err(errno) if is_absence(errno) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(folder).map_err(failed)?.take(LISTED_MAX) {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            match entry.file_type() {
                _ if name.starts_with('.') || name.contains(|c: char| c.is_control()) => {}
                FileType::Directory => names.push(format!("{name}/")),
                FileType::RegularFile | FileType::Symlink | FileType::Unknown => {
                    names.push(name.to_owned());
                }
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    fn root(&self) -> std::result::Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &self.path, flags, Mode::empty()) {
            Ok(root) => Ok(Some(root)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// For the log, where a name from a request must not look like lines of ours.
    fn named(&self, name: &str) -> String {
        self.path.join(name).display().to_string().escape_debug().to_string()
    }

    /// Looks first (O_PATH opens nothing) and opens regular files only: opening a device or a
    /// FIFO can have effects or block.
    fn entry(&self, name: &str) -> std::result::Result<Entry, Errno> {
        let look = OFlags::PATH | OFlags::CLOEXEC;
        let open = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Some(root) = self.root()? else { return Ok(Entry::Nothing) };
        let found = match beneath(&root, name, look) {
            Ok(found) => found,
            Err(errno) if is_absence(errno) => return Ok(Entry::Nothing),
            Err(errno) => return Err(errno),
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory => Ok(Entry::Folder),
            FileType::RegularFile => {
                let file = match beneath(&root, name, open) {
                    Err(errno) if is_absence(errno) => return Ok(Entry::Nothing),
                    other => other?,
                };
                let stat = fstat(&file)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => Ok(Entry::File(Found {
                        file: File::from(file),
                        length: stat.st_size as u64,
                        validators: validators(&stat),
                    })),
                    _ => Ok(Entry::Nothing), // replaced in between
                }
            }
            _ => Ok(Entry::Nothing),
        }
    }
}

/// Open `name` below `root`; what leads out of it, by `..` or a link, is EXDEV.
fn beneath(root: &OwnedFd, name: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(root.as_fd(), name, flags, Mode::empty(), stay) {
        // Linux before 5.6, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => beneath_without_openat2(root, name, flags),
        // The tree was being changed while the kernel walked it.
        Err(Errno::AGAIN) => openat2(root.as_fd(), name, flags, Mode::empty(), stay),
        result => result,
    }
}

/// The same step by step, following no link at all: stricter where the kernel cannot help.
fn beneath_without_openat2(
    root: &OwnedFd,
    name: &str,
    flags: OFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = root.try_clone().map_err(|_| Errno::MFILE)?;
    let (folders, last) = name.rsplit_once('/').unwrap_or(("", name));
    if name.split('/').any(|segment| segment == "..") {
        return Err(Errno::XDEV);
    }
    for segment in folders.split('/').filter(|segment| !segment.is_empty()) {
        folder = openat(&folder, segment, step, Mode::empty())?;
    }
    openat(&folder, last, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// Errors that mean "no such page", not "the disk failed".
fn is_absence(errno: Errno) -> bool {
    let absence =
        [Errno::NOENT, Errno::NOTDIR, Errno::XDEV, Errno::LOOP, Errno::NAMETOOLONG, Errno::INVAL];
    absence.contains(&errno)
}

/// Length and time of change to the nanosecond: an edit changes at least one of them.
fn version(stat: &Stat) -> String {
    format!("{:x}-{:x}.{:x}", stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
}

fn validators(stat: &Stat) -> Validators {
    let since = u64::try_from(stat.st_mtime).ok().map(Duration::from_secs);
    let modified = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    Validators {
        etag: Some(format!("\"{}\"", version(stat))),
        modified: modified.filter(|time| has_http_date(*time)),
    }
}

/// HTTP's dates have years of four digits, and a file may carry any time.
fn has_http_date(time: SystemTime) -> bool {
    time.duration_since(UNIX_EPOCH).is_ok_and(|since| since < HTTP_DATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a kernel without openat2, too.
    #[test]
    fn no_step_leads_out_of_a_folder() {
        let folder = Folder::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src").into());
        let root = folder.root().unwrap().unwrap();
        for open in [beneath, beneath_without_openat2] {
            let open = |name| open(&root, name, OFlags::PATH | OFlags::CLOEXEC);
            assert!(open("lib.rs").is_ok() && open("http/mod.rs").is_ok());
            for name in ["../Cargo.toml", "http/../../Cargo.toml", "..", "/etc/passwd"] {
                let refused = open(name).err();
                assert!(refused.is_some_and(is_absence), "{name}: {refused:?}");
            }
        }
    }
}
