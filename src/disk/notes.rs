//! A path below `/md/` to a page: a Markdown file rendered, the list of a folder, or a file that
//! lies beside the notes, such as an image.
//!
//! What was rendered last is kept, and used for as long as its file has not changed.

use std::collections::VecDeque;

use super::folder::{Entry, Folder, Found};
use super::page;
use super::site::{Page, REVALIDATE, moved_to_folder, serve};
use crate::error::{Error, Result};
use crate::http::page::{HTML, with_policy};
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
    name: String,
    /// What its file looked like.
    validators: Validators,
    html: String,
}

impl Notes {
    pub fn new(md: Folder) -> Notes {
        Notes { md, kept: VecDeque::new() }
    }

    /// The page at `path`, clean and without `/md/` before it; with `raw`, a note's source. None:
    /// there is nothing; `Err`: the disk failed.
    pub fn open(&mut self, path: &str, raw: bool) -> Result<Option<Page>> {
        if path.is_empty() || path.ends_with('/') {
            return self.list(path);
        }
        if !path.ends_with(".md") {
            match self.md.open(path)? {
                Entry::File(found) => return serve(&self.md, path, found).map(Some),
                Entry::Folder => return Ok(Some((moved_to_folder(&format!("md/{path}")), None))),
                Entry::Nothing => {}
            }
        }
        let name = format!("{}.md", path.strip_suffix(".md").unwrap_or(path));
        match self.md.open(&name)? {
            Entry::File(found) => self.note(&name, found, raw).map(Some),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Page>> {
        let names = match self.md.list(path.trim_end_matches('/'))? {
            Some(names) => names,
            None if path.is_empty() => Vec::new(), // the folder of all notes need not be there
            None => return Ok(None),
        };
        let html =
            page::list(&names, path, Lang::default()).map_err(|error| failed(path, &error))?;
        Ok(Some((text(HTML, html), None)))
    }

    fn note(&mut self, name: &str, mut found: Found, raw: bool) -> Result<Page> {
        if found.length > NOTE_BYTES_MAX {
            let sentence = "This note is larger than 1 MiB; with ?raw it can be had as it is.";
            return match raw {
                true => serve(&self.md, name, found),
                false => Ok((Response::sentence(Status::InternalError, sentence), None)),
            };
        }
        let validators = found.validators.clone();
        let kept = self.kept.iter().find(|kept| kept.name == name && kept.validators == validators);
        if let Some(kept) = kept.filter(|_| !raw) {
            return Ok((with_validators(text(HTML, kept.html.clone()), validators), None));
        }
        let bytes = self.md.read(name, &mut found, NOTE_BYTES_MAX)?;
        if raw {
            return Ok((with_validators(text(RAW, bytes), validators), None));
        }
        let markdown = String::from_utf8_lossy(&bytes);
        let page =
            page::note(&markdown, name, Lang::default()).map_err(|error| failed(name, &error))?;
        self.kept.retain(|kept| kept.name != name);
        self.kept.truncate(NOTES_KEPT_MAX - 1);
        let kept =
            Kept { name: name.to_owned(), validators: validators.clone(), html: page.clone() };
        self.kept.push_front(kept);
        Ok((with_validators(text(HTML, page), validators), None))
    }
}

const RAW: &str = "text/plain; charset=utf-8";

fn text(content_type: &'static str, bytes: impl Into<Vec<u8>>) -> Response {
    let mut response = Response::new(Status::Ok, content_type, Body::Bytes(bytes.into().into()));
    response.cache_control = REVALIDATE;
    with_policy(response)
}

/// A page and its source have one file but are two things; so has the next version of us.
fn with_validators(mut response: Response, file: Validators) -> Response {
    let kind = if response.content_type == RAW { "raw" } else { env!("CARGO_PKG_VERSION") };
    let etag = file.etag.map(|etag| format!("{}-{kind}\"", etag.trim_end_matches('"')));
    response.validators = Validators { etag, modified: None };
    response
}

fn failed(name: &str, error: &askama::Error) -> Error {
    Error::found("render", format!("md/{name}").escape_debug(), error.to_string())
}
