//! Thumbnails: made once, kept in a hidden folder among the photos, made again when they are
//! missing. They are a cache: nothing is lost with them, so nothing is written through, and a
//! folder that cannot be written only costs time.
//!
//! A thumbnail has its photo's time of change, to the nanosecond, and that is how it is known to
//! be of this photo. What a power cut left of one does not end like a JPEG and is made again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, Dir, Mode, OFlags, Stat, Timespec, Timestamps, accessat, fstat, futimens,
    mkdirat, openat, unlinkat,
};
use rustix::io::Errno;

use super::photo::{PhotoName, TEMPORARY, open_file, open_folder, replace};
use crate::error::{Error, Result};
use crate::jpeg;
use crate::limits::{PHOTO_BYTES_MAX, THUMBNAIL_BYTES_MAX, THUMBNAIL_QUALITY, THUMBNAIL_WIDTH};

/// The folder of thumbnails, in that of photos.
const FOLDER: &str = ".thumbnails";

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The thumbnail of a photo, from the cache or made now. None: there is no such photo, or nothing
/// can be made of it. `thread` tells the caller's thread from others.
pub fn open(pic: &Path, name: PhotoName, thread: &str) -> Result<Option<Vec<u8>>> {
    let failed = |doing| move |errno: Errno| Error::new(doing, name, errno.into());
    let Ok(folder) = open_folder(pic) else { return Ok(None) };
    let file = match open_file(&folder, &name.to_string()) {
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        other => other.map_err(failed("open"))?,
    };
    let stat = fstat(&file).map_err(failed("look at"))?;
    let cache = cache(&folder);
    if let Some(kept) = cache.as_ref().and_then(|cache| kept(cache, name, &stat)) {
        return Ok((kept != HOPELESS).then_some(kept));
    }
    let length = (stat.st_size as u64).min(PHOTO_BYTES_MAX);
    let mut bytes = Vec::with_capacity(length as usize);
    let read = file.take(length).read_to_end(&mut bytes);
    read.map_err(|source| Error::new("read", name, source))?;
    let small = match jpeg::thumbnail(&bytes, THUMBNAIL_WIDTH, THUMBNAIL_QUALITY) {
        Ok(small) => with_exif(small, &bytes),
        Err(reason) => {
            log::debug!("{name}: no thumbnail can be made of it: {reason}");
            HOPELESS.to_vec()
        }
    };
    if let Some(cache) = cache {
        if let Err(source) = store(&cache, name, &stat, &small, thread) {
            log::debug!("{}", Error::new("keep the thumbnail of", name, source));
        }
        // Deleted meanwhile: its thumbnail must not stay behind.
        if accessat(&folder, name.to_string(), Access::EXISTS, AtFlags::empty()).is_err() {
            let _ = unlinkat(&cache, name.to_string(), AtFlags::empty());
        }
    }
    Ok((small != HOPELESS).then_some(small))
}

/// Stands in the cache for a photo of which no thumbnail can be made, so that it is not tried
/// again each time.
const HOPELESS: &[u8] = b"none\n";

/// Remove the thumbnail of a photo that has gone from `pic`.
pub fn remove(pic: &OwnedFd, name: PhotoName) {
    if let Ok(cache) = openat(pic, FOLDER, READ | OFlags::DIRECTORY, Mode::empty()) {
        let _ = unlinkat(cache, name.to_string(), AtFlags::empty());
    }
}

/// Remove what is no thumbnail of a photo that is there.
pub fn sweep(pic: &Path) -> io::Result<()> {
    let folder = open_folder(pic)?;
    let Ok(cache) = openat(&folder, FOLDER, READ | OFlags::DIRECTORY, Mode::empty()) else {
        return Ok(());
    };
    for entry in Dir::read_from(&cache)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let photo = PhotoName::parse(name);
        let is_there =
            photo.is_some() && accessat(&folder, name, Access::EXISTS, AtFlags::empty()).is_ok();
        if name != "." && name != ".." && !is_there {
            let _ = unlinkat(&cache, name, AtFlags::empty());
        }
    }
    Ok(())
}

/// The folder of thumbnails, made if need be; none if it cannot be.
fn cache(folder: &OwnedFd) -> Option<OwnedFd> {
    let open = || openat(folder, FOLDER, READ | OFlags::DIRECTORY, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            let _ = mkdirat(folder, FOLDER, Mode::from_raw_mode(0o755)); // another may be first
            open().ok()
        }
        other => other.ok(),
    }
}

fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime as _, stat.st_mtime_nsec as _)
}

/// What the cache has of this photo, if it is whole and of this version.
fn kept(cache: &OwnedFd, name: PhotoName, photo: &Stat) -> Option<Vec<u8>> {
    let file = open_file(cache, &name.to_string()).ok()?;
    let stat = fstat(&file).ok().filter(|stat| modified(stat) == modified(photo))?;
    let mut bytes = Vec::with_capacity((stat.st_size as u64).min(THUMBNAIL_BYTES_MAX) as usize);
    file.take(THUMBNAIL_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let whole = bytes.starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9]);
    (whole || bytes == HOPELESS).then_some(bytes)
}

fn store(
    cache: &OwnedFd,
    name: PhotoName,
    photo: &Stat,
    small: &[u8],
    thread: &str,
) -> io::Result<()> {
    // Its own, also among programs that share the folder.
    let scratch = format!("{TEMPORARY}{}-{thread}", std::process::id());
    let (tv_sec, tv_nsec) = modified(photo);
    let time = Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    let fill = |file: &mut File| {
        file.write_all(small)?;
        Ok(futimens(file, &Timestamps { last_access: time, last_modification: time })?)
    };
    replace(cache, &scratch, &name.to_string(), fill).map(drop)
}

/// The small picture with the large one's EXIF data: it has to be turned in the same way.
fn with_exif(small: Vec<u8>, photo: &[u8]) -> Vec<u8> {
    let exif = jpeg::exif_place(photo).and_then(|place| place.old).map(|old| &photo[old]);
    let at = jpeg::exif_place(&small).map(|place| place.insert);
    match (exif, at) {
        (Some(exif), Some(at)) => [&small[..at], exif, &small[at..]].concat(),
        _ => small,
    }
}
