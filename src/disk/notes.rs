//! A path below `/md/` to a page: a Markdown file rendered, the list of a folder, or a file that
//! lies beside the notes, such as an image.
//!
//! What was rendered last is kept, and used for as long as its file has not changed.

use std::collections::VecDeque;

use super::folder::{Entry, Folder, Found};
use super::page;
use super::site::{Page, REVALIDATE, moved_to_folder, serve};
use crate::error::{Error, Result};
use crate::http::page::{HTML, with_policy, with_sandbox};
use crate::http::phrases::Lang;
use crate::http::response::{Body, Response, Status, Validators};
use crate::limits::{NOTE_BYTES_MAX, NOTES_KEPT_MAX};

#[derive(Debug)]
pub struct Notes {
    md: Folder,
    /// The newest first; at most `NOTES_KEPT_MAX`.
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Bound: a path in a request, `HEAD_BYTES_MAX`.
    name: String,
    /// Of the page around it.
    lang: Lang,
    /// What its file looked like.
    validators: Validators,
    /// Bound: made of `NOTE_BYTES_MAX`.
    html: String,
}

impl Kept {
    fn is(&self, name: &str, lang: Lang) -> bool {
        self.name == name && self.lang == lang
    }
}

impl Notes {
    pub fn new(md: Folder) -> Notes {
        Notes { md, kept: VecDeque::new() }
    }

    /// The page at `path`, clean and without `/md/` before it; with `raw`, a note's source. None:
    /// there is nothing; `Err`: the disk failed.
    pub fn open(&mut self, path: &str, raw: bool, lang: Lang) -> Result<Option<Page>> {
        if path.is_empty() || path.ends_with('/') {
            return self.list(path, lang);
        }
        if !path.ends_with(".md") {
            match self.md.open(path)? {
                Entry::File(found) => {
                    let (response, file) = serve(&self.md, path, found)?;
                    return Ok(Some((with_sandbox(response), file)));
                }
                Entry::Folder => return Ok(Some((moved_to_folder(&format!("md/{path}")), None))),
                Entry::Nothing => {}
            }
        }
        let name = format!("{}.md", path.strip_suffix(".md").unwrap_or(path));
        match self.md.open(&name)? {
            Entry::File(found) => self.note(&name, found, raw, lang).map(Some),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &str, lang: Lang) -> Result<Option<Page>> {
        let names = match self.md.list(path.trim_end_matches('/'))? {
            Some(names) => names,
            None if path.is_empty() => Vec::new(), // the folder of all notes need not be there
            None => return Ok(None),
        };
        let html = page::list(&names, path, lang).map_err(|error| failed(path, &error))?;
        Ok(Some((text(HTML, html).in_language(lang), None)))
    }

    fn note(&mut self, name: &str, mut found: Found, raw: bool, lang: Lang) -> Result<Page> {
        if found.length > NOTE_BYTES_MAX {
            let sentence = "This note is larger than 1 MiB; with ?raw it can be had as it is.";
            return match raw {
                true => serve(&self.md, name, found),
                false => Ok((Response::sentence(Status::InternalError, sentence), None)),
            };
        }
        let validators = found.validators.clone();
        let is_kept = |kept: &&Kept| kept.is(name, lang) && kept.validators == validators;
        if let Some(kept) = self.kept.iter().find(is_kept).filter(|_| !raw) {
            let page = text(HTML, kept.html.clone()).in_language(lang);
            return Ok((with_validators(page, validators), None));
        }
        let bytes = self.md.read(name, &mut found, NOTE_BYTES_MAX)?;
        if raw {
            return Ok((with_validators(text(RAW, bytes), validators), None));
        }
        let markdown = String::from_utf8_lossy(&bytes);
        let html = page::note(&markdown, name, lang).map_err(|error| failed(name, &error))?;
        self.kept.retain(|kept| !kept.is(name, lang));
        self.kept.truncate(NOTES_KEPT_MAX - 1);
        let page = text(HTML, html.clone()).in_language(lang);
        let (name, kept) = (name.to_owned(), validators.clone());
        self.kept.push_front(Kept { name, lang, validators: kept, html });
        Ok((with_validators(page, validators), None))
    }
}

const RAW: &str = "text/plain; charset=utf-8";

fn text(content_type: &'static str, bytes: impl Into<Vec<u8>>) -> Response {
    with_policy(Response::new(Status::Ok, content_type, Body::Bytes(bytes.into().into())))
}

/// A page and its source have one file but are two things; so has the next version of us.
fn with_validators(mut response: Response, file: Validators) -> Response {
    let kind = if response.content_type == RAW { "raw" } else { env!("CARGO_PKG_VERSION") };
    let lang = response.language.map_or("", Lang::tag);
    let etag = file.etag.map(|etag| format!("{}-{kind}{lang}\"", etag.trim_end_matches('"')));
    response.validators = Validators { etag, modified: None };
    response.cache_control = REVALIDATE;
    response
}

fn failed(name: &str, error: &askama::Error) -> Error {
    Error::found("render", format!("md/{name}").escape_debug(), error.to_string())
}
