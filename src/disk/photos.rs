//! The thread that reads, on photos: their files and thumbnails, the gallery, one photo's page,
//! many of them as one file.

use std::sync::Arc;
use std::time::SystemTime;

use super::album::{Album, Place};
use super::archive::Archive;
use super::folder::{Entry, Folder};
use super::gallery::{self, Shown};
use super::metrics;
use super::photo::{Moment, PhotoName};
use super::site::{Page, REVALIDATE, serve};
use super::status::{self, Facts, Interval};
use super::{OpenFile, Source, thumbnail};
use crate::error::{Error, Result};
use crate::http::page::{HTML, with_policy};
use crate::http::phrases::Lang;
use crate::http::response::{Body, Response, Status, Validators};
use crate::limits::{ARCHIVES_MAX, PAGE_PHOTOS};

/// What was done to photos before the gallery is shown, as its address tells it. Bound:
/// `NAMED_PHOTOS_MAX` in each list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub deleted: Option<usize>,
    /// Marked as kept, or not any more, and how many.
    pub kept: Option<(bool, usize)>,
    /// Had gone before.
    pub missing: Vec<PhotoName>,
    /// Could not be deleted.
    pub failed: Vec<PhotoName>,
    /// How many more of both there are, too many to be named.
    pub unnamed: usize,
}

pub struct Photos {
    album: Arc<Album>,
    pic: Folder,
    /// Counts the archives that are being sent.
    archives: Arc<()>,
}

/// Kept by the browser for good: the address changes with the content.
const FOREVER: &str = "private, max-age=31536000, immutable";

impl Photos {
    pub fn new(album: Arc<Album>) -> Photos {
        Photos { pic: Folder::new(album.path().to_owned()), album, archives: Arc::new(()) }
    }

    /// A photo's file.
    pub fn file(&self, name: PhotoName) -> Result<Option<Page>> {
        let name = name.to_string();
        match self.pic.open(&name)? {
            Entry::File(found) => serve(&self.pic, &name, found).map(Some),
            _ => Ok(None),
        }
    }

    /// The thumbnail of a photo. An address that names the photo's `version` is good for ever.
    pub fn thumbnail(&self, name: PhotoName, version: Option<&str>) -> Result<Option<Page>> {
        let Some((_, now)) = self.pic.version(&name.to_string())? else { return Ok(None) };
        let small = thumbnail::open(self.album.path(), name, "looked")?;
        Ok(small.map(|bytes| {
            let mut response = Response::new(Status::Ok, "image/jpeg", Body::Bytes(bytes.into()));
            // Made of the photo, and changes with it.
            let etag = Some(format!("\"small-{now}\""));
            response.validators = Validators { etag, modified: None };
            response.cache_control = if version == Some(&now) { FOREVER } else { REVALIDATE };
            (response, None)
        }))
    }

    /// A page of the gallery, counted from 1; past the end, the last one.
    pub fn gallery(&self, page: usize, outcome: Outcome, lang: Lang) -> Result<Page> {
        let first = self.album.excerpt((page - 1).saturating_mul(PAGE_PHOTOS), PAGE_PHOTOS)?;
        let pages = first.total.div_ceil(PAGE_PHOTOS).max(1);
        let (page, excerpt) = match page <= pages {
            true => (page, first),
            false => (pages, self.album.excerpt((pages - 1) * PAGE_PHOTOS, PAGE_PHOTOS)?),
        };
        let names = |names: Vec<PhotoName>| names.iter().map(|name| name.to_string()).collect();
        let shown = |(name, kept): &(PhotoName, bool)| self.shown(*name, *kept).ok().flatten();
        let view = gallery::Gallery {
            photos: excerpt.photos.iter().filter_map(shown).collect(),
            total: excerpt.total,
            page,
            pages,
            used: excerpt.bytes,
            free: self.album.free().ok(),
            outcome: (outcome != Outcome::default()).then(|| gallery::Outcome {
                deleted: outcome.deleted.unwrap_or(0),
                kept: outcome.kept,
                missing: names(outcome.missing),
                failed: names(outcome.failed),
                unnamed: outcome.unnamed,
            }),
        };
        html(gallery::gallery(&view, lang), lang, "the gallery")
    }

    /// The page of one photo, or of the newest; that one is there even without photos.
    pub fn view(&self, name: Option<PhotoName>, lang: Lang) -> Result<Option<Page>> {
        let root = if name.is_some() { "../" } else { "" };
        let place = self.album.place(name)?;
        let shown = match &place {
            Some(place) => self.shown(place.name, place.kept)?,
            None => None,
        };
        let (Some(Place { newer, older, .. }), Some(photo)) = (place, shown) else {
            return match name {
                Some(_) => Ok(None),
                None => html(gallery::no_photo(root, lang), lang, "the newest photo").map(Some),
            };
        };
        let view = gallery::View {
            photo,
            newest: newer.is_none(),
            newer: newer.map(|name| name.to_string()),
            older: older.map(|name| name.to_string()),
        };
        html(gallery::view(&view, root, lang), lang, "a photo's page").map(Some)
    }

    pub fn archive(&self, names: Vec<PhotoName>) -> Result<Option<Page>> {
        let names = match names.is_empty() {
            true => self.album.all()?.iter().map(|photo| photo.name).collect(),
            false => names,
        };
        // Each open archive holds one of these.
        if Arc::strong_count(&self.archives) > ARCHIVES_MAX {
            let sentence = "There are too many downloads at once; try again later.";
            return Ok(Some((Response::unavailable(sentence), None)));
        }
        let archive = Archive::new(self.album.path(), &names, self.archives.clone())?;
        if archive.is_empty() {
            return Ok(None);
        }
        let body = Body::Pulled(archive.length()?);
        let day = Moment::local(SystemTime::now()).map(|now| now.to_string());
        let day = day.as_deref().and_then(|now| now.get(..10)).unwrap_or("photos").to_owned();
        let response = Response::new(Status::Ok, "application/zip", body)
            .field("Content-Disposition", format!("attachment; filename=\"pistream-{day}.zip\""));
        Ok(Some((response, Some(OpenFile(Source::Archive(archive))))))
    }

    pub fn status(&self, facts: &Facts, page: bool, lang: Lang) -> Result<Page> {
        Ok(match page {
            true => in_language(status::page(facts, &self.album, lang)?, lang),
            false => whole(JSON, status::json(facts, &self.album)?),
        })
    }

    pub fn metrics(&self, facts: &Facts) -> Result<Page> {
        Ok(whole(metrics::METRICS, metrics::text(facts, &self.album)))
    }

    pub fn interval(&self, interval: Option<&Interval>, page: bool, lang: Lang) -> Result<Page> {
        Ok(match page {
            true => in_language(status::interval_page(interval, lang)?, lang),
            false => whole(JSON, status::interval_json(interval)?),
        })
    }

    /// A photo as a page shows it; none if it has gone meanwhile.
    fn shown(&self, name: PhotoName, kept: bool) -> Result<Option<Shown>> {
        let Some((bytes, version)) = self.pic.version(&name.to_string())? else { return Ok(None) };
        let taken = name.taken();
        Ok(Some(Shown { name: name.to_string(), version, taken, bytes, kept }))
    }
}

pub const JSON: &str = "application/json";

fn html(page: askama::Result<String>, lang: Lang, what: &str) -> Result<Page> {
    let page = page.map_err(|error| Error::found("render", what, error.to_string()))?;
    Ok(in_language(page, lang))
}

pub fn in_language(page: String, lang: Lang) -> Page {
    let (response, file) = whole(HTML, page);
    (response.in_language(lang), file)
}

pub fn whole(content_type: &'static str, bytes: impl Into<Vec<u8>>) -> Page {
    let body = Body::Bytes(bytes.into().into());
    (with_policy(Response::new(Status::Ok, content_type, body)), None)
}
