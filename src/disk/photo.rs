//! One photo: its name, and how it gets onto the disk whole.
//!
//! A `PhotoName` can only be the name of a photo of ours, and every way into the folder of photos
//! goes through one: no path of a request can reach anything else there.

use std::env;
use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use exif::experimental::Writer;
use exif::{Field, In, Tag, Value};
use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, FlockOperation, FsWord, Mode, OFlags, RenameFlags, Stat,
    accessat, flock, fstat, fstatfs, fsync, linkat, openat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use tz::{DateTime, TimeZone};

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::jpeg::orient::Turn;
use crate::jpeg::{self, ExifPlace};
use crate::limits::TURNS_OF_A_SECOND_MAX;

// ---- time and name --------------------------------------------------------------------------

/// A moment as the clock on the wall shows it here.
#[derive(Clone, Copy, Debug)]
pub struct Moment(DateTime);

impl Moment {
    /// By the system's time zone, or TZ. Zone files are read anew each time: the zone may be
    /// changed, and its rules too, while we run for years.
    pub fn local(time: SystemTime) -> Option<Moment> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).ok()?;
        let zone = match env::var("TZ") {
            Ok(zone) if zone.is_empty() => Ok(TimeZone::utc()),
            Ok(zone) => TimeZone::from_posix_tz(&zone),
            Err(_) => TimeZone::local(),
        };
        let at = |zone: &TimeZone| {
            DateTime::from_timespec(seconds, since.subsec_nanos(), zone.as_ref()).ok()
        };
        let local = zone.ok().as_ref().and_then(at).or_else(|| at(&TimeZone::utc()))?;
        (0..=9999).contains(&local.year()).then_some(Moment(local))
    }

    /// The time zone's distance from UTC, as `+01:00`.
    fn offset(&self) -> String {
        let offset = self.0.local_time_type().ut_offset();
        let minutes = offset.abs() / 60;
        let sign = if offset < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// As EXIF writes it: `2026:11:22 14:03:55`.
    fn exif(&self) -> String {
        let at = &self.0;
        let (year, month, day) = (at.year(), at.month(), at.month_day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        format!("{year:04}:{month:02}:{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    fn milliseconds(&self) -> u32 {
        self.0.nanoseconds() / 1_000_000
    }
}

/// ISO 8601 with milliseconds and offset: `2026-11-22T14:03:55.312+01:00`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.exif().replacen(':', "-", 2).replace(' ', "T");
        write!(f, "{date}.{:03}{}", self.milliseconds(), self.offset())
    }
}

/// The name of a photo: `2026-11-22_14-03-55.jpg`, local time, and `-1`, `-2`… before the dot
/// when there were several in a second. Ordered by time, then by turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhotoName {
    /// Year, month, day, hour, minute and second as 14 decimal digits.
    second: u64,
    /// 0: the second's first.
    turn: u16,
}

impl PhotoName {
    /// The name that `moment` gives, in its `turn`.
    pub fn new(moment: &Moment, turn: u16) -> PhotoName {
        let at = &moment.0;
        // In 0..=9999: `Moment::local`.
        let day =
            at.year() as u64 * 10_000 + u64::from(at.month()) * 100 + u64::from(at.month_day());
        let time =
            u64::from(at.hour()) * 10_000 + u64::from(at.minute()) * 100 + u64::from(at.second());
        PhotoName { second: day * 1_000_000 + time, turn }
    }

    /// Understand a file's name; none if it is not exactly what a photo of ours is called.
    pub fn parse(name: &str) -> Option<PhotoName> {
        let stem = name.strip_suffix(".jpg")?;
        let (moment, turn) = stem.split_at_checked("2026-11-22_14-03-55".len())?;
        let mut second = 0;
        for (at, byte) in moment.bytes().enumerate() {
            match (at, byte) {
                (4 | 7 | 13 | 16, b'-') | (10, b'_') => {}
                (4 | 7 | 10 | 13 | 16, _) => return None,
                (_, b'0'..=b'9') => second = second * 10 + u64::from(byte - b'0'),
                _ => return None,
            }
        }
        let turn = match turn.strip_prefix('-') {
            None if turn.is_empty() => 0,
            Some(digits) if digits.starts_with(|c| ('1'..='9').contains(&c)) => {
                digits.parse().ok()?
            }
            _ => return None,
        };
        let parsed = PhotoName { second, turn };
        let [month, day, hour, minute, second] = parsed.fields();
        let is_time = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        (is_time && turn <= TURNS_OF_A_SECOND_MAX).then_some(parsed)
    }

    /// Month, day, hour, minute, second.
    fn fields(&self) -> [u64; 5] {
        [100_000_000, 1_000_000, 10_000, 100, 1].map(|place| self.second / place % 100)
    }

    /// When it was taken, for people: `2026-11-22 14:03:55`.
    pub fn taken(&self) -> String {
        let [month, day, hour, minute, second] = self.fields();
        let year = self.second / 10_000_000_000;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl fmt::Display for PhotoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stem = self.taken().replace(' ', "_").replace(':', "-");
        match self.turn {
            0 => write!(f, "{stem}.jpg"),
            turn => write!(f, "{stem}-{turn}.jpg"),
        }
    }
}

impl fmt::Debug for PhotoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// ---- saving ---------------------------------------------------------------------------------

/// A photo that is on the disk.
#[derive(Debug)]
pub struct Saved {
    pub name: PhotoName,
    pub taken: Moment,
    /// Width and height in pixels, as it is shown.
    pub size: (u32, u32),
    pub bytes: u64,
}

/// Names of files that are being written begin with this; nobody is shown them.
pub const TEMPORARY: &str = ".new-";

/// Save `frame` into the folder at `path`, which is made if it has gone. When this returns, the
/// photo is there to stay: its bytes and its name have been written through to the medium. On
/// `Err` nothing of it is left, unless the disk does not let it be removed either.
pub fn save(path: &Path, frame: &Frame) -> Result<Saved> {
    let failed = |doing| move |source: io::Error| Error::new(doing, "a photo", source);
    make_folder(path)?;
    let folder = open_folder(path).map_err(|source| Error::new("open", path.display(), source))?;
    let taken = Moment::local(frame.captured)
        .ok_or_else(|| Error::found("name", "a photo", "the clock shows no usable time".into()))?;
    let place = jpeg::exif_place(frame.jpeg())
        .ok_or_else(|| Error::found("save", "a photo", "the frame's head is damaged".into()))?;
    let mut temporary = Temporary::new(&folder).map_err(failed("begin"))?;
    let bytes = write(&mut temporary.file, frame.jpeg(), &place, &taken)
        .and_then(|bytes| temporary.file.sync_all().map(|()| bytes))
        .map_err(failed("write"))?;
    let name = temporary.publish(&taken).map_err(failed("name"))?;
    // Beside a new name FAT writes the file's place and length only with the file; in the other
    // order a cut in between would leave two names for one place.
    sync_folder(&folder)
        .and_then(|()| temporary.file.sync_all())
        .map_err(failed("write through"))?;
    temporary.keep();
    Ok(Saved { name, taken, size: frame.shown.size, bytes })
}

/// Make the folder at `path` if there is none, and those above it, to stay.
pub fn make_folder(path: &Path) -> Result<()> {
    let made = |path: &Path| {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        sync_folder(&open_folder(above.unwrap_or(Path::new(".")))?)
    };
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(missing).collect();
    for path in missing.into_iter().rev() {
        made(path).map_err(|source| Error::new("make the folder", path.display(), source))?;
    }
    match path.is_dir() {
        true => Ok(()),
        false => {
            let source = Errno::NOTDIR.into();
            Err(Error::new("use as a folder", path.display(), source))
        }
    }
}

/// Whether photos can be written into the folder at `path`; the error says what to do.
pub fn check_writable(path: &Path) -> Result<()> {
    let access = accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
    access.map_err(|errno| advise(Error::new("write photos into", path.display(), errno.into())))
}

/// The system's refusal of a folder, with what the operator can do about it.
pub fn advise(error: Error) -> Error {
    match error.source().kind() {
        io::ErrorKind::PermissionDenied => {
            error.advising("it must belong to the user that runs pistream; a service sees no /home")
        }
        io::ErrorKind::NotADirectory => {
            error.advising("a file is in its place; --pic names the folder of photos")
        }
        io::ErrorKind::ReadOnlyFilesystem => error.advising(
            "the disk is mounted so, or the service may not write there; to allow it: \
             systemctl edit pistream, and there [Service] and, below it, ReadWritePaths=FOLDER",
        ),
        _ => error,
    }
}

pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Open a file to be read, wherever its name leads: no link is followed, no FIFO waited for.
pub fn open_file(folder: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map(File::from)
}

/// What is called `name` in the folder, if it is a plain file. `Err`: the disk does not tell.
pub fn look(folder: &OwnedFd, name: PhotoName) -> rustix::io::Result<Option<Stat>> {
    match statat(folder, name.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        found => {
            let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
            found.map(|stat| Some(stat).filter(|stat| kind(stat) == FileType::RegularFile))
        }
    }
}

/// Put a small file that `fill` writes in the place of `name`, so that at any time it is the old
/// one or the new one (but after a power cut: `durable`). Until then it is called `scratch`, and on
/// `Err` it goes. It is given back.
pub fn replace(
    folder: &OwnedFd,
    scratch: &str,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, scratch, flags, Mode::from_raw_mode(0o644))?);
    let replaced = fill(&mut file).and_then(|()| Ok(renameat(folder, scratch, folder, name)?));
    if replaced.is_err() {
        let _ = unlinkat(folder, scratch, AtFlags::empty());
    }
    replaced.map(|()| file)
}

/// Write the folder's names through to the medium; some file systems do so by themselves and
/// have no call for it.
pub fn sync_folder(folder: &OwnedFd) -> io::Result<()> {
    match retry_on_intr(|| fsync(folder)) {
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        result => Ok(result?),
    }
}

/// A file under a hidden name; it goes unless it is published. Bound: the code's form of it.
struct Temporary<'f> {
    folder: &'f OwnedFd,
    name: String,
    file: File,
    goes: bool,
}

impl<'f> Temporary<'f> {
    fn new(folder: &'f OwnedFd) -> io::Result<Temporary<'f>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        for turn in 0..=TURNS_OF_A_SECOND_MAX {
            let name = format!("{TEMPORARY}{}-{turn}", std::process::id());
            match openat(folder, &name, flags, mode) {
                Ok(file) => {
                    let file = File::from(file);
                    let mut temporary = Temporary { folder, name, file, goes: true };
                    let file = &temporary.file;
                    // So that another program's sweep leaves it alone. Not all disks have locks.
                    let locked = flock(file, FlockOperation::NonBlockingLockExclusive);
                    // A sweep that was quicker has it, or has removed it already.
                    let swept = locked == Err(Errno::WOULDBLOCK) || fstat(file)?.st_nlink == 0;
                    if !swept {
                        return Ok(temporary);
                    }
                    temporary.goes = false; // it is the sweep's to remove
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Give it the first free name of its second, under which it still goes unless it is kept.
    fn publish(&mut self, taken: &Moment) -> io::Result<PhotoName> {
        for turn in 0..=TURNS_OF_A_SECOND_MAX {
            let name = PhotoName::new(taken, turn);
            match rename_new(self.folder, &self.name, &name.to_string()) {
                Ok(()) => {
                    self.name = name.to_string();
                    return Ok(name);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EXIST.into())
    }

    fn keep(mut self) {
        self.goes = false;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.goes {
            let _ = unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Rename and never overwrite.
fn rename_new(folder: &OwnedFd, old: &str, new: &str) -> rustix::io::Result<()> {
    match renameat_with(folder, old, folder, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {} // a file system that cannot promise it
        result => return result,
    }
    match linkat(folder, old, folder, new, AtFlags::empty()) {
        Ok(()) => {
            return unlinkat(folder, old, AtFlags::empty()).inspect_err(|_| {
                let _ = unlinkat(folder, new, AtFlags::empty());
            });
        }
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(_) => {} // nor has it links
    }
    match statat(folder, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(folder, old, folder, new),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

/// File systems of the kind FAT.
const FAT: FsWord = 0x4d44;

/// Remove what a crash has left in the middle of being written; how many files. On FAT that may be
/// a photo's name with no bytes behind it.
pub fn sweep(path: &Path) -> io::Result<usize> {
    let folder = open_folder(path)?;
    let fat = fstatfs(&folder).is_ok_and(|disk| disk.f_type == FAT);
    let is_empty = |name: &CStr| {
        name.to_str().ok().and_then(PhotoName::parse).is_some()
            && statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size == 0)
    };
    let mut swept = 0;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let temporary = name.to_bytes().starts_with(TEMPORARY.as_bytes());
        let unfinished = temporary || (fat && is_empty(name));
        if !unfinished {
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(&folder, name, flags, Mode::empty()) else { continue };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Ours, or a disk without locks.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL) => {
                swept += usize::from(unlinkat(&folder, name, AtFlags::empty()).is_ok());
            }
            Err(_) => {} // another program is just writing it
        }
    }
    Ok(swept)
}

// ---- EXIF -----------------------------------------------------------------------------------

/// Write the frame's own bytes with date and orientation in between; how many in all.
pub fn write(
    file: &mut impl Write,
    jpeg: &[u8],
    place: &ExifPlace,
    taken: &Moment,
) -> io::Result<u64> {
    let old = place.old.clone().unwrap_or(place.insert..place.insert);
    let theirs = jpeg[old.clone()].get(4 + jpeg::EXIF.len()..);
    let turn = jpeg::orientation(jpeg);
    let segment = |theirs| jpeg::exif_segment(&exif(theirs, place.size, turn, taken)?);
    // What the camera says may be odd, or too much beside what we say.
    let exif = segment(theirs).or_else(|| segment(None)).unwrap_or_default();
    let (head, tail) = (&jpeg[..place.insert], &jpeg[old.end..]);
    for piece in [head, &exif, &jpeg[place.insert..old.start], tail] {
        file.write_all(piece)?;
    }
    Ok((jpeg.len() - old.len() + exif.len()) as u64)
}

/// The TIFF structure of a photo's EXIF data (EXIF 2.32): what the camera said, if anything,
/// with our date in place of the camera's. The orientation is the one that the stream is shown in,
/// however odd the rest may be.
fn exif(theirs: Option<&[u8]>, size: (u32, u32), turn: Turn, taken: &Moment) -> Option<Vec<u8>> {
    let field = |tag, value| Field { tag, ifd_num: In::PRIMARY, value };
    let text = |text: String| Value::Ascii(vec![text.into_bytes()]);
    let ours = [
        field(Tag::Orientation, Value::Short(vec![turn.number()])),
        field(Tag::Software, text(format!("pistream {}", env!("CARGO_PKG_VERSION")))),
        field(Tag::DateTime, text(taken.exif())),
        field(Tag::ExifVersion, Value::Undefined(b"0232".to_vec(), 0)),
        field(Tag::DateTimeOriginal, text(taken.exif())),
        field(Tag::DateTimeDigitized, text(taken.exif())),
        field(Tag::OffsetTime, text(taken.offset())),
        field(Tag::OffsetTimeOriginal, text(taken.offset())),
        field(Tag::SubSecTimeOriginal, text(format!("{:03}", taken.milliseconds()))),
        field(Tag::PixelXDimension, Value::Long(vec![size.0])),
        field(Tag::PixelYDimension, Value::Long(vec![size.1])),
    ];
    let theirs = theirs.and_then(|tiff| exif::Reader::new().read_raw(tiff.to_vec()).ok());
    let theirs: Vec<&Field> = theirs
        .iter()
        .flat_map(exif::Exif::fields)
        .filter(|field| field.ifd_num == In::PRIMARY && ours.iter().all(|f| f.tag != field.tag))
        .filter(|field| !matches!(field.value, Value::Unknown(..)))
        .collect();
    let mut writer = Writer::new();
    for field in ours.iter().chain(theirs) {
        writer.push_field(field);
    }
    let mut tiff = Cursor::new(Vec::new());
    writer.write(&mut tiff, false).ok()?;
    Some(tiff.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_name_is_one_of_ours_or_none() {
        for name in [
            "2026-11-22_14-03-55.jpg",
            "2026-11-22_14-03-55-1.jpg",
            "2026-11-22_14-03-55-9999.jpg",
            "1970-01-01_00-00-00.jpg",
            "9999-12-31_23-59-60.jpg",
        ] {
            assert_eq!(PhotoName::parse(name).expect(name).to_string(), name);
        }
        for name in [
            "",
            ".jpg",
            "2026-11-22_14-03-55",
            "2026-11-22_14-03-55.jpeg",
            "2026-11-22_14-03-55.JPG",
            "2026-11-22_14-03-55-0.jpg",
            "2026-11-22_14-03-55-01.jpg",
            "2026-11-22_14-03-55-+1.jpg",
            "2026-11-22_14-03-55-10000.jpg",
            "2026-11-22_14-03-55-.jpg",
            "2026-11-22_14-03-551.jpg",
            "2026-13-22_14-03-55.jpg",
            "2026-00-22_14-03-55.jpg",
            "2026-11-32_14-03-55.jpg",
            "2026-11-22_24-03-55.jpg",
            "2026-11-22_14-60-55.jpg",
            "2026-11-22 14-03-55.jpg",
            "2026-11-22_14:03:55.jpg",
            "02026-11-22_14-03-5.jpg",
            "２026-11-22_14-03-5.jpg",
            "2026-11-22_14-03-5中.jpg",
            "../2026-11-22_14-03-55.jpg",
            "2026-11-22_14-03-55.jpg/",
            "2026-11-22_14-03-55.jpg\0",
        ] {
            assert_eq!(PhotoName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_ordered_by_time_and_turn() {
        let names = [
            "0999-01-01_00-00-00.jpg",
            "2026-11-22_14-03-55.jpg",
            "2026-11-22_14-03-55-2.jpg",
            "2026-11-22_14-03-55-10.jpg",
            "2026-11-22_14-03-56.jpg",
            "2026-12-01_00-00-00.jpg",
        ];
        let parsed = names.map(|name| PhotoName::parse(name).unwrap());
        assert!(parsed.is_sorted());
        assert_eq!(parsed[3].taken(), "2026-11-22 14:03:55");
    }

    #[test]
    fn a_moment_has_a_name_at_any_setting_of_the_clock() {
        let at = |seconds| Moment::local(UNIX_EPOCH + Duration::from_secs(seconds));
        let name = |seconds| PhotoName::new(&at(seconds).unwrap(), 3).to_string();
        assert_eq!(PhotoName::parse(&name(0)).unwrap().to_string(), name(0));
        assert!(name(1_795_000_000).starts_with("2026-11-1"), "{}", name(1_795_000_000));
        assert!(Moment::local(UNIX_EPOCH - Duration::from_secs(99)).is_some());
        assert!(at(u64::MAX / 4).is_none(), "a year of more than four digits");
        let text = at(1_795_000_000).unwrap().to_string();
        assert_eq!(text.len(), "2026-11-22T14:03:55.312+01:00".len(), "{text}");
    }
}
