//! All photos of the folder in their order, kept in memory: a page of the gallery costs as much
//! with ten thousand photos as with a hundred.
//!
//! DESIGN. The folder is the truth; this is what was last seen of it, and it is read again when its
//! time of change says so, whoever changed it. Both disk threads look into the album, so it
//! has a lock, which is the disk's alone: the loop never takes it. It is never held while something
//! is written, so pages load while an fsync hangs.
//!
//! ORDER. By name, which is by time. But the clock of a machine without a battery may jump back: a
//! photo saved since the start is newer than all that were found at the start, whatever
//! it is called.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat, statvfs, unlinkat};
use rustix::io::Errno;

use super::photo::{PhotoName, look, open_folder, sync_folder};
use super::{durable, thumbnail};
use crate::error::{Error, Reason, Result};
use crate::limits::{FOLDER_STAMP_TIME, KEEP_BYTES_MAX, PHOTOS_MAX};

/// The names of photos that making room spares, one a line.
const KEEP: &str = ".keep";

#[derive(Debug)]
pub struct Album {
    path: PathBuf,
    /// Locked by the disk's threads only, and by nobody who is writing.
    seen: Mutex<Seen>,
}

/// What was last seen of the folder.
#[derive(Debug, Default)]
struct Seen {
    /// The oldest first: what was found, by name, then `saved` of them in the order of saving.
    /// INVARIANT: at most `PHOTOS_MAX`.
    photos: Vec<Photo>,
    saved: usize,
    /// Bound: `KEEP_BYTES_MAX`, a name a line.
    kept: BTreeSet<PhotoName>,
    /// Of which photo the disk did not tell, and why: there may be more than these. Bound: a
    /// sentence of the kernel's.
    doubt: Option<String>,
    /// Why it is not known which are kept: then none may be deleted to make room. Bound: a sentence
    /// of the kernel's.
    unread: Option<String>,
    /// The folder's and the keep list's time of change then.
    folder: Stamp,
    keep: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Photo {
    pub name: PhotoName,
    pub bytes: u64,
}

/// When something was changed, in content or otherwise; none if that must not be relied on.
type Stamp = Option<[(i64, i64); 2]>;

/// A part of the album.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The newest first, and whether it is kept: at most `PAGE_PHOTOS`.
    pub photos: Vec<(PhotoName, bool)>,
    /// Photos in all.
    pub total: usize,
    /// Bytes of all photos.
    pub bytes: u64,
}

/// A photo among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: PhotoName,
    pub newer: Option<PhotoName>,
    pub older: Option<PhotoName>,
    pub kept: bool,
}

/// What became of photos that were to go. Bound: `PHOTOS_MAX`, in all three.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub removed: Vec<PhotoName>,
    /// Somebody else removed them before.
    pub absent: Vec<PhotoName>,
    pub failed: Vec<(PhotoName, String)>,
}

impl Album {
    pub fn new(path: PathBuf) -> Album {
        Album { path, seen: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// So many photos, the newest first, after the first `skip`.
    pub fn excerpt(&self, skip: usize, count: usize) -> Result<Excerpt> {
        let seen = self.look()?;
        let photos = seen.photos.iter().rev().skip(skip).take(count);
        Ok(Excerpt {
            photos: photos.map(|p| (p.name, seen.kept.contains(&p.name))).collect(),
            total: seen.photos.len(),
            bytes: seen.photos.iter().map(|photo| photo.bytes).sum(),
        })
    }

    /// Where a photo stands among the others, or the newest one.
    pub fn place(&self, name: Option<PhotoName>) -> Result<Option<Place>> {
        let seen = self.look()?;
        let last = seen.photos.len().checked_sub(1);
        let at = name.map_or(last, |name| seen.photos.iter().position(|p| p.name == name));
        Ok(at.map(|at| Place {
            name: seen.photos[at].name,
            newer: seen.photos.get(at + 1).map(|photo| photo.name),
            older: at.checked_sub(1).map(|at| seen.photos[at].name),
            kept: seen.kept.contains(&seen.photos[at].name),
        }))
    }

    /// All photos, the oldest first. `Err`: it is not known whether these are all.
    pub fn all(&self) -> Result<Vec<Photo>> {
        let seen = self.look()?;
        match &seen.doubt {
            Some(doubt) => Err(Error::found("look at", "all photos", doubt.clone())),
            None => Ok(seen.photos.clone()),
        }
    }

    /// Those that may be deleted to make room, the oldest first; and how many there are in all.
    pub fn may_go(&self) -> Result<(Vec<Photo>, usize)> {
        let seen = self.look()?;
        seen.check_kept()?;
        let photos = seen.photos.iter().filter(|photo| !seen.kept.contains(&photo.name));
        Ok((photos.copied().collect(), seen.photos.len()))
    }

    /// A photo has just been saved: it is the newest, whatever its name.
    pub fn add(&self, photo: Photo) {
        let mut seen = self.lock();
        seen.forget(&BTreeSet::from([photo.name])); // another thread may have found it already
        seen.photos.push(photo);
        seen.saved += 1;
        seen.shorten(PHOTOS_MAX); // nobody may look for days, who would see that others are gone
        seen.folder = None; // somebody may have taken it away by now
    }

    /// Remove photos for good, with their thumbnails. `Err`: none could be looked for.
    pub fn remove(&self, names: &[PhotoName]) -> Result<Removal> {
        let failed = |source| Error::new("open", self.path.display(), source);
        let folder = match open_folder(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Removal { absent: names.to_vec(), ..Removal::default() });
            }
            other => other.map_err(failed)?,
        };
        let mut removal = Removal::default();
        for name in names {
            match unlinkat(&folder, name.to_string(), AtFlags::empty()) {
                Ok(()) => removal.removed.push(*name),
                // A folder of that name is no photo.
                Err(Errno::NOENT | Errno::ISDIR) => removal.absent.push(*name),
                Err(errno) => {
                    removal.failed.push((*name, Reason(&errno.into()).to_string()));
                    continue;
                }
            }
            thumbnail::remove(&folder, *name);
        }
        let through = match removal.removed.is_empty() {
            true => Ok(()),
            false => sync_folder(&folder),
        };
        let gone: BTreeSet<_> = removal.removed.iter().chain(&removal.absent).copied().collect();
        self.lock().forget(&gone);
        // A mark must not pass on to a photo that gets the same name.
        let marked = self.look().is_ok_and(|seen| !seen.kept.is_disjoint(&gone));
        if marked && let Err(error) = self.keep(&[], false) {
            log::warn!("{error}");
        }
        through.map_err(|source| Error::new("write through", self.path.display(), source))?;
        Ok(removal)
    }

    /// Bring the list of those kept to its last state, if a power cut came between.
    pub fn restore_kept(&self) -> Result<()> {
        let restored = open_folder(&self.path).and_then(|folder| durable::restore(&folder, KEEP));
        restored.map_err(|source| Error::new("restore", self.path.join(KEEP).display(), source))
    }

    /// Mark photos as kept, or no longer; how many were there to be marked.
    pub fn keep(&self, names: &[PhotoName], keep: bool) -> Result<usize> {
        let failed = |source| Error::new("write", self.path.join(KEEP).display(), source);
        let (kept, count) = {
            let seen = self.look()?;
            seen.check_kept()?;
            let there: BTreeSet<PhotoName> = seen.photos.iter().map(|p| p.name).collect();
            let named: BTreeSet<PhotoName> = names.iter().copied().collect();
            let named: BTreeSet<PhotoName> = named.intersection(&there).copied().collect();
            let kept: BTreeSet<PhotoName> = match keep {
                true => seen.kept.union(&named).copied().collect(),
                false => seen.kept.difference(&named).copied().collect(),
            };
            // Photos that are gone need no mark.
            let gone = |name: &PhotoName| seen.doubt.is_none() && !there.contains(name);
            let kept: BTreeSet<PhotoName> = kept.into_iter().filter(|name| !gone(name)).collect();
            (kept, named.len())
        };
        let text: String = kept.iter().map(|name| format!("{name}\n")).collect();
        let folder = open_folder(&self.path).map_err(failed)?;
        durable::replace(&folder, KEEP, text.as_bytes()).map_err(failed)?;
        let mut seen = self.lock();
        (seen.kept, seen.keep) = (kept, None);
        Ok(count)
    }

    /// Bytes that others may still write to this disk.
    pub fn free(&self) -> io::Result<u64> {
        let disk = statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// What there is now: looked for if it may have changed.
    fn look(&self) -> Result<MutexGuard<'_, Seen>> {
        let mut seen = self.lock();
        match seen.refresh(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => *seen = Seen::default(),
            other => other.map_err(|source| Error::new("list", self.path.display(), source))?,
        }
        Ok(seen)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Refuse to go on without knowing which photos are kept.
    fn check_kept(&self) -> Result<()> {
        match &self.unread {
            Some(reason) => Err(Error::found("read", KEEP, reason.clone())),
            None => Ok(()),
        }
    }

    fn refresh(&mut self, path: &Path) -> io::Result<()> {
        let folder = open_folder(path)?;
        let stamp = stamp(&fstat(&folder)?);
        if stamp.is_none() || stamp != self.folder {
            self.list(&folder)?;
            self.folder = stamp.filter(|_| self.doubt.is_none());
        }
        let keep = match statat(&folder, KEEP, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self::stamp(&stat),
            Err(_) => None,
        };
        if keep.is_none() || keep != self.keep {
            (self.kept, self.unread) = match read_keep(&folder) {
                Ok(kept) => (kept, None),
                Err(error) => (BTreeSet::new(), Some(Reason(&error).to_string())),
            };
            // What could not be read is asked for again.
            self.keep = keep.filter(|_| self.unread.is_none());
        }
        Ok(())
    }

    /// Read the names; sizes only of those that are new: a photo of ours does not change.
    fn list(&mut self, folder: &OwnedFd) -> io::Result<()> {
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let may_be = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            let name = entry.file_name().to_str().ok().filter(|_| may_be);
            names.extend(name.and_then(PhotoName::parse));
            if names.len() > PHOTOS_MAX {
                names.pop_first();
            }
        }
        let split = self.photos.len() - self.saved;
        let mut saved = self.photos.split_off(split);
        saved.retain(|photo| names.remove(&photo.name));
        let known: HashMap<PhotoName, u64> =
            self.photos.iter().map(|photo| (photo.name, photo.bytes)).collect();
        self.photos = Vec::with_capacity(names.len() + saved.len());
        self.doubt = None;
        for name in names {
            let bytes = match known.get(&name) {
                Some(bytes) => Some(*bytes),
                None => {
                    let found = look(folder, name).unwrap_or_else(|errno| {
                        self.doubt = Some(format!("{name}: {}", Reason(&errno.into())));
                        None
                    });
                    found.map(|stat| stat.st_size as u64)
                }
            };
            self.photos.extend(bytes.map(|bytes| Photo { name, bytes }));
        }
        self.saved = saved.len();
        self.photos.append(&mut saved);
        Ok(())
    }

    /// Only the newest so many.
    fn shorten(&mut self, max: usize) {
        let beyond = self.photos.len().saturating_sub(max);
        self.photos.drain(..beyond);
        self.saved = self.saved.min(self.photos.len());
    }

    fn forget(&mut self, gone: &BTreeSet<PhotoName>) {
        let split = self.photos.len() - self.saved;
        let forgotten = self.photos[split..].iter().filter(|p| gone.contains(&p.name)).count();
        self.saved -= forgotten;
        self.photos.retain(|photo| !gone.contains(&photo.name));
    }
}

/// When a file or folder was last changed; none if that was so recently that it may change again
/// unseen, within the same tick of the file system's clock.
fn stamp(stat: &Stat) -> Stamp {
    // FAT tells changes of a folder by the first only.
    let modified: (i64, i64) = (stat.st_mtime as _, stat.st_mtime_nsec as _);
    let changed: (i64, i64) = (stat.st_ctime as _, stat.st_ctime_nsec as _);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A stamp of the future is as good as one of the past: a change now would give another.
    let distance = now.as_secs().abs_diff(modified.0.max(changed.0).max(0) as u64);
    (distance >= FOLDER_STAMP_TIME.as_secs()).then_some([modified, changed])
}

/// Lines that are no photo's name, in whatever coding, are somebody's notes.
fn read_keep(folder: &OwnedFd) -> io::Result<BTreeSet<PhotoName>> {
    let bytes = durable::read(folder, KEEP, KEEP_BYTES_MAX)?.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n').flat_map(std::str::from_utf8);
    Ok(lines.filter_map(|line| PhotoName::parse(line.trim())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::scratch::Scratch;
    use std::fs;

    fn put(folder: &Scratch, name: &str) {
        fs::write(folder.path().join(name), name).unwrap();
    }

    fn photo(name: &str) -> PhotoName {
        PhotoName::parse(name).unwrap()
    }

    #[track_caller]
    fn expect(album: &Album, newest_first: &[&str]) {
        let excerpt = album.excerpt(0, 100).unwrap();
        let names: Vec<String> = excerpt.photos.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, newest_first);
        assert_eq!(excerpt.total, newest_first.len());
        let bytes: usize = newest_first.iter().map(|name| name.len()).sum();
        assert_eq!(excerpt.bytes, bytes as u64);
    }

    const OLD: &str = "2026-01-01_00-00-00.jpg";
    const OLDER: &str = "2025-12-31_23-59-59-10.jpg";
    const TWIN: &str = "2025-12-31_23-59-59-9.jpg";
    const PAST: &str = "1970-01-01_00-00-07.jpg";

    #[test]
    fn an_album_that_nobody_looks_at_does_not_grow_for_ever() {
        let album = Album::new(PathBuf::from("/nowhere"));
        album.lock().photos = vec![Photo { name: photo(OLD), bytes: 1 }; PHOTOS_MAX];
        album.lock().saved = PHOTOS_MAX;
        for name in [TWIN, OLDER] {
            album.add(Photo { name: photo(name), bytes: 1 });
            let seen = album.lock();
            assert_eq!((seen.photos.len(), seen.saved), (PHOTOS_MAX, PHOTOS_MAX));
            assert_eq!(seen.photos.last().unwrap().name, photo(name), "the oldest went");
        }
    }

    #[test]
    fn photos_are_ordered_by_name_and_those_just_saved_are_the_newest() {
        let folder = Scratch::new("album-order");
        let album = Album::new(folder.path().to_owned());
        expect(&album, &[]);
        for name in [OLD, OLDER, TWIN, "note.txt", ".new-1-0", "2026-01-01_00-00-00.jpeg"] {
            put(&folder, name);
        }
        fs::create_dir(folder.path().join("2026-01-02_00-00-00.jpg")).unwrap();
        std::os::unix::fs::symlink(OLD, folder.path().join("2026-01-03_00-00-00.jpg")).unwrap();
        expect(&album, &[OLD, OLDER, TWIN]);
        put(&folder, PAST);
        album.add(Photo { name: photo(PAST), bytes: PAST.len() as u64 });
        expect(&album, &[PAST, OLD, OLDER, TWIN]);
        let newest = album.place(None).unwrap().unwrap();
        assert_eq!(
            (newest.name, newest.newer, newest.older),
            (photo(PAST), None, Some(photo(OLD)))
        );
        // Somebody else puts one there, and takes one away.
        fs::remove_file(folder.path().join(OLD)).unwrap();
        put(&folder, "2027-01-01_00-00-00.jpg");
        expect(&album, &[PAST, "2027-01-01_00-00-00.jpg", OLDER, TWIN]);
        let twin = album.place(Some(photo(TWIN))).unwrap().unwrap();
        assert_eq!((twin.newer, twin.older), (Some(photo(OLDER)), None));
        assert_eq!(album.place(Some(photo(OLD))).unwrap(), None);
    }

    #[test]
    fn marks_last_and_go_with_their_photo() {
        let folder = Scratch::new("album-keep");
        let album = Album::new(folder.path().to_owned());
        put(&folder, OLD);
        put(&folder, TWIN);
        assert_eq!(album.keep(&[photo(OLD), photo(TWIN), photo(PAST)], true).unwrap(), 2);
        let kept = || -> BTreeSet<PhotoName> {
            let excerpt = Album::new(folder.path().to_owned()).excerpt(0, 9).unwrap();
            excerpt.photos.into_iter().filter(|(_, kept)| *kept).map(|(name, _)| name).collect()
        };
        assert_eq!(kept(), BTreeSet::from([photo(TWIN), photo(OLD)]));
        assert_eq!(album.keep(&[photo(TWIN)], false).unwrap(), 1);
        assert_eq!(kept(), BTreeSet::from([photo(OLD)]));
        let removal = album.remove(&[photo(OLD), photo(PAST)]).unwrap();
        assert_eq!((removal.removed, removal.absent), (vec![photo(OLD)], vec![photo(PAST)]));
        put(&folder, OLD);
        assert!(kept().is_empty(), "another photo of that name is not marked");
        let notes = [TWIN.as_bytes(), b"\n# caf\xe9\r\n  ", OLD.as_bytes(), b"\nx"].concat();
        fs::write(folder.path().join(".keep"), notes).unwrap();
        assert_eq!(kept(), BTreeSet::from([photo(TWIN), photo(OLD)]));
        fs::remove_file(folder.path().join(".keep")).unwrap();
        fs::create_dir(folder.path().join(".keep")).unwrap();
        let album = Album::new(folder.path().to_owned());
        assert!(album.may_go().is_err() && album.keep(&[photo(OLD)], true).is_err());
        assert_eq!(album.excerpt(0, 9).unwrap().total, 2, "to look is harmless");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_photos() {
        let folder = Scratch::new("album-gone");
        let album = Album::new(folder.path().join("pic"));
        expect(&album, &[]);
        assert_eq!(album.place(None).unwrap(), None);
        let removal = album.remove(&[photo(OLD)]).unwrap();
        assert_eq!(removal.absent, [photo(OLD)]);
        fs::write(folder.path().join("pic"), "a file").unwrap();
        assert!(album.excerpt(0, 1).is_err());
    }
}
