//! The thread that makes lasting changes: photos saved, kept and deleted, and room made for them;
//! and what is set of the cameras' controls.
//! What it answers is on the medium; a power cut the moment after takes nothing back.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::album::{Album, Photo};
use super::photo::{self, PhotoName, Saved};
use super::settings::SettingsFile;
use super::{Answer, Change, Work, thumbnail};
use crate::config::Config;
use crate::control::Kept;
use crate::error::{Error, Reason, Result};
use crate::frame::Frame;
use crate::http::response::{Body, Response, Status};
use crate::limits::NAMED_PHOTOS_MAX;

/// When old photos have to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Bytes of the disk that are left to others.
    keep_free: Option<u64>,
    photos_max: Option<usize>,
}

/// The page that a form leads back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// The gallery at this page, counted from 1.
    Gallery(usize),
    /// The photo's own.
    View(PhotoName),
}

impl Room {
    pub fn of(config: &Config) -> Room {
        Room { keep_free: config.keep_free, photos_max: config.max_photos }
    }
}

pub struct Changes {
    album: Arc<Album>,
    room: Room,
    settings: Option<SettingsFile>,
    /// Just saved: it has no thumbnail yet, and there may be too many now.
    fresh: Option<PhotoName>,
}

impl Work<Change> for Changes {
    fn begin(&mut self) {
        let path = self.album.path();
        if let Err(error) = photo::check_writable(path) {
            return log::warn!("{error}");
        }
        if let Err(error) = self.album.restore_kept() {
            log::warn!("{error}");
        }
        match photo::sweep(path) {
            Ok(0) => {}
            Ok(count) => log::info!("{count} photos that a crash left unfinished were removed"),
            Err(error) => log::warn!("{}", Error::new("sweep", path.display(), error)),
        }
        if let Err(error) = thumbnail::sweep(path) {
            log::debug!("{}", Error::new("sweep the thumbnails in", path.display(), error));
        }
    }

    fn answer(&mut self, change: Change) -> Answer {
        match change {
            Change::Save { frame, camera, page } => self.save(&frame, camera, page),
            Change::Delete { names, back } => Answer::Page(self.delete(&names, back), None),
            Change::Keep { names, keep, back } => Answer::Page(self.keep(&names, keep, back), None),
            Change::Settings(kept) => Answer::Settings(self.save_settings(kept)),
        }
    }

    /// Nobody waits for the thumbnail yet, nor for the old photos to go.
    fn tidy(&mut self) {
        let Some(name) = self.fresh.take() else { return };
        self.thin_out(name);
        if let Err(error) = thumbnail::open(self.album.path(), name, "saved") {
            log::debug!("{error}");
        }
    }
}

impl Changes {
    pub fn new(album: Arc<Album>, room: Room, settings: Option<SettingsFile>) -> Changes {
        Changes { album, room, settings, fresh: None }
    }

    fn save_settings(&mut self, kept: Kept) -> std::result::Result<(), String> {
        let Some(file) = &mut self.settings else { return Ok(()) };
        file.save(kept).map_err(|error| {
            log::warn!("{error}");
            format!("What is set here will be lost at the end: {}.", lament(&error))
        })
    }

    fn save(&mut self, frame: &Frame, camera: usize, page: bool) -> Answer {
        let bytes = frame.jpeg().len() as u64;
        let saved = self.free_up(bytes).and_then(|()| photo::save(self.album.path(), frame));
        match saved {
            Ok(saved) => {
                let (width, height) = saved.size;
                log::info!("photo {}: {width}x{height}, {} bytes", saved.name, saved.bytes);
                self.album.add(Photo { name: saved.name, bytes: saved.bytes });
                self.fresh = Some(saved.name);
                Answer::Photo { response: receipt(&saved, camera, page), camera, outcome: Ok(()) }
            }
            Err(error) => {
                log::warn!("{error}");
                let sentence = format!("The photo is not saved: {}.", lament(&error));
                let response = Response::sentence(Status::InsufficientStorage, &sentence);
                Answer::Photo { response, camera, outcome: Err(sentence) }
            }
        }
    }

    /// Before a photo of so many bytes is saved: delete the oldest until there is room for it and
    /// for what others are promised.
    fn free_up(&self, bytes: u64) -> Result<()> {
        let lack = self.lack(bytes)?;
        if lack == 0 {
            return Ok(());
        }
        let (photos, _) = self.album.may_go()?;
        // If all of them would not do, none has to go.
        let hope: u64 = photos.iter().map(|photo| photo.bytes).sum();
        if hope >= lack && self.let_go(photos.into_iter(), lack, |photo| photo.bytes)? == 0 {
            return Ok(());
        }
        // Somebody else may have made room meanwhile.
        if self.lack(bytes)? == 0 {
            return Ok(());
        }
        let reason = "the disk has less room than --keep-free asks for, and there are not enough \
             photos that may be deleted";
        Err(Error::found("make room for", "a photo", reason.to_owned()))
    }

    /// What is lacking on the disk for a photo of so many bytes and for what others are promised.
    fn lack(&self, bytes: u64) -> Result<u64> {
        let Some(keep_free) = self.room.keep_free else { return Ok(0) };
        match self.album.free() {
            Ok(free) => Ok(keep_free.saturating_add(bytes).saturating_sub(free)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0), // made anew
            Err(error) => Err(Error::new("look at", "the disk", error)),
        }
    }

    /// After `newest` was saved: delete the oldest until there are no more than may be.
    fn thin_out(&self, newest: PhotoName) {
        let Some(photos_max) = self.room.photos_max else { return };
        let thinned = self.album.may_go().and_then(|(photos, total)| {
            let others = photos.into_iter().filter(|photo| photo.name != newest);
            self.let_go(others, total.saturating_sub(photos_max) as u64, |_| 1)
        });
        if let Err(error) = thinned {
            log::warn!("{error}");
        }
    }

    /// Delete photos in their order until what they weigh makes up for the `lack`; what is still
    /// lacking when there are no more. One that cannot be deleted is passed over.
    fn let_go(
        &self,
        photos: impl Iterator<Item = Photo>,
        mut lack: u64,
        weight: impl Fn(&Photo) -> u64,
    ) -> Result<u64> {
        let mut photos = photos.peekable();
        let (mut removed, mut failed) = (Vec::new(), Vec::new());
        while lack > 0 && photos.peek().is_some() {
            // As many as should do at once: each time costs a wait for the medium.
            let (mut going, mut hoped) = (Vec::new(), 0);
            while hoped < lack
                && let Some(photo) = photos.next()
            {
                hoped += weight(&photo);
                going.push(photo);
            }
            let names: Vec<PhotoName> = going.iter().map(|photo| photo.name).collect();
            let removal = self.album.remove(&names)?;
            let stays = |photo: &&Photo| removal.failed.iter().any(|(name, _)| *name == photo.name);
            let gone = going.iter().filter(|photo| !stays(photo)).map(&weight).sum();
            lack = lack.saturating_sub(gone);
            removed.extend(removal.removed);
            failed.extend(removal.failed);
        }
        if let Some(first) = removed.first() {
            let count = removed.len();
            log::info!("made room: {count} of the oldest photos deleted, {first} first");
        }
        if let Some((name, reason)) = failed.first() {
            let count = failed.len();
            log::warn!("{count} of the oldest photos cannot be deleted; {name}: {reason}");
        }
        Ok(lack)
    }

    fn delete(&self, names: &[PhotoName], back: Option<Back>) -> Response {
        let removal = match self.album.remove(names) {
            Ok(removal) => removal,
            Err(error) => {
                log::warn!("{error}");
                let sentence = format!("Nothing is deleted for good: {}.", lament(&error));
                return Response::sentence(Status::InternalError, &sentence);
            }
        };
        for (name, reason) in &removal.failed {
            log::warn!("delete {name}: {reason}");
        }
        if !removal.removed.is_empty() {
            log::info!("{} photos deleted", removal.removed.len());
        }
        let Some(back) = back else {
            return match (removal.failed.first(), removal.removed.is_empty()) {
                (Some((_, reason)), _) => {
                    let sentence = format!("The photo is not deleted: {reason}.");
                    Response::sentence(Status::InternalError, &sentence)
                }
                (None, true) => Response::sentence(Status::NotFound, "There is no such photo."),
                (None, false) => Response::nothing(),
            };
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("deleted", &removal.removed.len().to_string());
        let absent = removal.absent.iter().map(|name| ("missing", name));
        let failed = removal.failed.iter().map(|(name, _)| ("failed", name));
        let mut others = absent.chain(failed);
        for (what, name) in others.by_ref().take(NAMED_PHOTOS_MAX) {
            query.append_pair(what, &name.to_string());
        }
        match others.count() {
            0 => {}
            unnamed => drop(query.append_pair("unnamed", &unnamed.to_string())),
        }
        back.to_gallery(&query.finish())
    }

    fn keep(&self, names: &[PhotoName], keep: bool, back: Back) -> Response {
        if names.is_empty() {
            return back.to_gallery(NOTHING_DONE);
        }
        match (self.album.keep(names, keep), back) {
            (Ok(_), Back::View(name)) => Response::see_other(&format!("../view/{name}")),
            (Ok(count), back) => {
                let word = if keep { "kept" } else { "unkept" };
                back.to_gallery(&format!("{word}={count}"))
            }
            (Err(error), _) => {
                log::warn!("{error}");
                let sentence = format!("The mark is not saved: {}.", lament(&error));
                Response::sentence(Status::InsufficientStorage, &sentence)
            }
        }
    }
}

/// The outcome of a form in which no photo was selected.
pub const NOTHING_DONE: &str = "deleted=0";

impl Back {
    /// To the gallery, which says the `outcome` that a query names; to its first page if the photo
    /// whose page it was may be gone.
    pub fn to_gallery(&self, outcome: &str) -> Response {
        let page = match self {
            Back::Gallery(page) => *page,
            Back::View(_) => 1,
        };
        Response::see_other(&format!("../gallery?page={page}&{outcome}"))
    }
}

/// What a program is told of a photo. Bound: the code's forms of a name and a time.
#[derive(Serialize)]
struct Receipt {
    name: String,
    url: String,
    /// Which camera's, counted from 1.
    camera: usize,
    width: u32,
    height: u32,
    bytes: u64,
    /// ISO 8601, local time with its distance from UTC.
    taken: String,
}

fn receipt(saved: &Saved, camera: usize, page: bool) -> Response {
    if page {
        return Response::see_other("current_picture");
    }
    let (width, height) = saved.size;
    let name = saved.name.to_string();
    let receipt = Receipt {
        url: format!("/pic/{name}"),
        name,
        camera: camera + 1,
        width,
        height,
        bytes: saved.bytes,
        taken: saved.taken.to_string(),
    };
    // Strings and numbers always have a form in JSON.
    let json = serde_json::to_vec(&receipt).unwrap_or_default();
    Response::new(Status::Created, "application/json", Body::Bytes(json.into()))
        .field("Location", format!("pic/{}", saved.name))
}

/// Why the disk refused, in words for the person at the button.
fn lament(error: &Error) -> String {
    match error.source().raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "the disk is full".to_owned(),
        Some(libc::EROFS) => "the disk is read-only".to_owned(),
        Some(libc::EACCES | libc::EPERM) => "pistream may not write to the folder".to_owned(),
        _ => Reason(error.source()).to_string(),
    }
}
