//! A path of the site to a page: a file below `www/`, or the page built into the binary.

use std::borrow::Cow;

use super::folder::{Entry, Folder, Found};
use super::{OpenFile, Source};
use crate::error::Result;
use crate::http::page::with_policy;
use crate::http::phrases::Lang;
use crate::http::response::{Body, Response, Status, Validators};
use crate::limits::CHUNK_BYTES;

/// Kept by the browser, but asked after each time.
pub const REVALIDATE: &str = "no-cache";

/// The pages built into the binary.
const BUILT_IN: [(&str, &[u8]); 10] = [
    ("index.html", include_bytes!("../../www/index.html")),
    ("app.css", include_bytes!("../../www/app.css")),
    ("app.js", include_bytes!("../../www/app.js")),
    ("notes.css", include_bytes!("../../www/notes.css")),
    ("gallery.css", include_bytes!("../../www/gallery.css")),
    ("gallery.js", include_bytes!("../../www/gallery.js")),
    ("controls.css", include_bytes!("../../www/controls.css")),
    ("controls.js", include_bytes!("../../www/controls.js")),
    ("fresh.js", include_bytes!("../../www/fresh.js")),
    ("icon.svg", include_bytes!("../../www/icon.svg")),
];

#[derive(Debug)]
pub struct Site {
    www: Folder,
    cameras: usize,
}

/// A page as an answer, and the file if its body is to be pulled from it.
pub type Page = (Response, Option<OpenFile>);

impl Site {
    pub fn new(www: Folder, cameras: usize) -> Site {
        Site { www, cameras }
    }

    /// The page at `path`, which is clean (`http::request::Request::path`). A folder is its
    /// `index.html`. Our own pages come in the visitor's language. None: there is no such page;
    /// `Err`: the disk failed.
    pub fn open(&self, path: &str, lang: Lang) -> Result<Option<Page>> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (folder, name) = match path.strip_suffix('/') {
            None if !path.is_empty() => (false, Cow::Borrowed(path)),
            Some(above) => (true, format!("{above}/index.html").into()),
            None => (true, "index.html".into()),
        };
        let ours = BUILT_IN.into_iter().find(|(built_in, _)| *built_in == name);
        Ok(Some(match (self.www.open(&name)?, ours) {
            (Entry::File(found), ours) => {
                let (page, file) = serve(&self.www, &name, found)?;
                match (ours, &page.body) {
                    // Unchanged, as in a checkout, it is still ours.
                    (Some((name, bytes)), Body::Bytes(found)) if **found == *bytes => {
                        (self.built_in(name, bytes, page.validators, lang), None)
                    }
                    _ => (page, file),
                }
            }
            // Links in a page are relative to its folder, so the address must end in a slash.
            (Entry::Folder, _) if !folder => (moved_to_folder(path), None),
            (_, Some((name, bytes))) => {
                let etag = Some(format!("\"built-in-{:016x}\"", fnv1a(bytes)));
                let validators = Validators { etag, modified: None };
                (self.built_in(name, bytes, validators, lang), None)
            }
            (_, None) => return Ok(None),
        }))
    }

    /// A page of ours, wherever its bytes came from.
    fn built_in(
        &self,
        name: &str,
        bytes: &'static [u8],
        mut found: Validators,
        lang: Lang,
    ) -> Response {
        if !name.ends_with(".html") {
            return page(name, found, Body::Bytes(Cow::Borrowed(bytes)));
        }
        // Each language is a page of its own, and so is each number of cameras.
        let (cameras, tag) = (self.cameras, lang.tag());
        found.etag = found.etag.map(|e| format!("{}-{cameras}-{tag}\"", e.trim_end_matches('"')));
        found.modified = None;
        let body = match (cameras, lang) {
            (1, Lang::English) => Cow::Borrowed(bytes), // as they are written
            _ => {
                let html = with_cameras(&String::from_utf8_lossy(bytes), cameras);
                lang.page(&html).into_bytes().into()
            }
        };
        with_policy(page(name, found, Body::Bytes(body))).in_language(lang)
    }
}

/// A file as it is: small ones with their bytes, large ones to be pulled.
pub fn serve(folder: &Folder, name: &str, mut found: Found) -> Result<Page> {
    let validators = std::mem::take(&mut found.validators);
    if found.length > CHUNK_BYTES as u64 {
        let response = page(name, validators, Body::Pulled(found.length));
        return Ok((response, Some(OpenFile(Source::File(found.file)))));
    }
    let bytes = folder.read(name, &mut found, CHUNK_BYTES as u64)?;
    Ok((page(name, validators, Body::Bytes(bytes.into())), None))
}

fn page(name: &str, validators: Validators, body: Body) -> Response {
    let mut response = Response::new(Status::Ok, content_type(name), body);
    response.validators = validators;
    response.cache_control = REVALIDATE;
    response
}

/// The live page with a figure for each of so many cameras, like the first one's.
fn with_cameras(page: &str, cameras: usize) -> String {
    let (from, to) = ("<figure", "</figure>");
    let place = page.find(from).zip(page.find(to).map(|at| at + to.len()));
    let Some((start, end)) = place.filter(|_| cameras > 1) else { return page.to_owned() };
    // Three are larger one below the other on a phone, as two are.
    let room = if cameras == 3 { 2 } else { cameras.next_power_of_two() };
    let room = format!("data-room=\"{room}\"");
    let mut out = page[..start].replace("data-room=\"1\"", &room);
    for n in 1..=cameras {
        let figure = page[start..end]
            .replace("\"video_feed\"", &format!("\"video_feed/{n}\""))
            .replace("value=\"1\"", &format!("value=\"{n}\""))
            .replace("<b>1</b>", &format!("<b>{n}</b>"));
        out.push_str(&match n {
            1 => figure,
            _ => [" checked", " id=\"frame\"", " id=\"picture\""]
                .iter()
                .fold(figure, |figure, first| figure.replace(first, "")),
        });
    }
    out.push_str(&page[end..]);
    out
}

/// The same address with a slash at its end, said so that it holds below a folder of a proxy too.
pub fn moved_to_folder(path: &str) -> Response {
    let name = path.rsplit('/').next().unwrap_or(path);
    Response::sentence(Status::MovedPermanently, "This is a folder.")
        .field("Location", format!("./{}/", encode(name)))
}

/// A path segment as it stands in a URL.
pub fn encode(segment: &str) -> String {
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
