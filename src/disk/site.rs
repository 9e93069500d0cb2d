//! A path of the site to a page: a file below `www/`, or the page built into the binary.
//!
//! No way leads out of the folder: the kernel resolves the path beneath it (openat2), and only
//! regular files are opened, so neither a symbolic link nor a device can be used against us.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::http::response::{Body, Response, Status, Validators};
use crate::limits::{CHUNK_BYTES, HTTP_DATE_MAX};

/// Kept by the browser, but asked after each time.
const REVALIDATE: &str = "no-cache";

/// What a page of ours may load: its own files, and nothing inline. The operator's own pages
/// have the policy that they bring.
const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

/// The pages built into the binary.
const BUILT_IN: [(&str, &[u8]); 4] = [
    ("index.html", include_bytes!("../../www/index.html")),
    ("app.css", include_bytes!("../../www/app.css")),
    ("app.js", include_bytes!("../../www/app.js")),
    ("icon.svg", include_bytes!("../../www/icon.svg")),
];

#[derive(Debug)]
pub struct Site {
    www: PathBuf,
}

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// A whole answer.
    Page(Response),
    /// An answer whose body must be pulled from the file.
    File(Response, File),
    Nothing,
}

/// What the folder has at a path.
enum Entry {
    File(OwnedFd, Stat),
    Folder,
    Nothing,
}

impl Site {
    pub fn new(www: PathBuf) -> Site {
        Site { www }
    }

    /// The page at `path`, which is clean (`http::request::Request::path`). A folder is its
    /// `index.html`. `Err`: the disk failed; what is not there is `Found::Nothing`.
    pub fn open(&self, path: &str) -> Result<Found> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (folder, name) = match path.strip_suffix('/') {
            None if !path.is_empty() => (false, Cow::Borrowed(path)),
            Some(above) => (true, format!("{above}/index.html").into()),
            None => (true, "index.html".into()),
        };
        match self.entry(&name).map_err(|e| Error::new("open", self.named(&name), e.into()))? {
            Entry::File(fd, stat) => self.file(&name, fd, &stat),
            // Links in a page are relative to its folder, so the address must end in a slash.
            Entry::Folder if !folder => Ok(Found::Page(moved_to_folder(path))),
            _ => Ok(built_in(&name)),
        }
    }

    /// For the log, where a name from a request must not look like lines of ours.
    fn named(&self, name: &str) -> String {
        self.www.join(name).display().to_string().escape_debug().to_string()
    }

    /// Looks first (O_PATH opens nothing) and opens regular files only: opening a device or a
    /// FIFO can have effects or block.
    fn entry(&self, name: &str) -> std::result::Result<Entry, Errno> {
        let look = OFlags::PATH | OFlags::CLOEXEC;
        let open = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let root = match openat(CWD, &self.www, look | OFlags::DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Entry::Nothing),
            Err(errno) => return Err(errno),
        };
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
                    FileType::RegularFile => Ok(Entry::File(file, stat)),
                    _ => Ok(Entry::Nothing), // replaced in between
                }
            }
            _ => Ok(Entry::Nothing),
        }
    }

    fn file(&self, name: &str, fd: OwnedFd, stat: &Stat) -> Result<Found> {
        let length = stat.st_size as u64;
        let validators = validators(stat);
        let mut file = File::from(fd);
        if length > CHUNK_BYTES as u64 {
            return Ok(Found::File(page(name, validators, Body::Pulled(length)), file));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.by_ref()
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::new("read", self.named(name), source))?;
        let ours = BUILT_IN.iter().any(|built_in| *built_in == (name, &bytes));
        let page = page(name, validators, Body::Bytes(bytes.into()));
        Ok(Found::Page(if ours { with_policy(page) } else { page }))
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

fn page(name: &str, validators: Validators, body: Body) -> Response {
    let mut response = Response::new(Status::Ok, content_type(name), body);
    response.validators = validators;
    response.cache_control = REVALIDATE;
    response
}

fn built_in(name: &str) -> Found {
    let Some((name, bytes)) = BUILT_IN.into_iter().find(|(built_in, _)| *built_in == name) else {
        return Found::Nothing;
    };
    let validators =
        Validators { etag: Some(format!("\"built-in-{:016x}\"", fnv1a(bytes))), modified: None };
    Found::Page(with_policy(page(name, validators, Body::Bytes(Cow::Borrowed(bytes)))))
}

fn with_policy(page: Response) -> Response {
    match page.content_type.starts_with("text/html") {
        true => page.field("Content-Security-Policy", PAGE_POLICY),
        false => page,
    }
}

fn moved_to_folder(path: &str) -> Response {
    let target: String =
        path.split('/').flat_map(|segment| ["/".to_owned(), encode(segment)]).collect();
    Response::sentence(Status::MovedPermanently, "This is a folder.")
        .field("Location", format!("{target}/"))
}

/// A path segment as it stands in a URL.
fn encode(segment: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SEGMENT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(segment, SEGMENT).to_string()
}

fn content_type(name: &str) -> Cow<'static, str> {
    let guess = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    let text = guess.starts_with("text/")
        || matches!(guess, "application/json" | "application/javascript" | "application/xml");
    if text { format!("{guess}; charset=utf-8").into() } else { guess.into() }
}

/// Length and time of change to the nanosecond: an edit changes at least one of them.
fn validators(stat: &Stat) -> Validators {
    let (seconds, nanos) = (stat.st_mtime, stat.st_mtime_nsec);
    let since = u64::try_from(seconds).ok().map(Duration::from_secs);
    let modified = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    Validators {
        etag: Some(format!("\"{:x}-{seconds:x}.{nanos:x}\"", stat.st_size)),
        modified: modified.filter(|time| has_http_date(*time)),
    }
}

/// HTTP's dates have years of four digits, and a file may carry any time.
fn has_http_date(time: SystemTime) -> bool {
    time.duration_since(UNIX_EPOCH).is_ok_and(|since| since < HTTP_DATE_MAX)
}

/// A hash that tells one build's page from another's; it need not withstand anyone.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}
