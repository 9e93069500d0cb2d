//! What is answered: status, fields and body to the bytes of a head. Pure.
//!
//! Conditional requests and ranges are worked out here, from the request's fields and the
//! response's validators: RFC 9110, sections 13 and 14.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::phrases::Lang;
use super::request::{Method, Reject, Request, Version};
use crate::frame::Frame;
use crate::limits::RETRY_AFTER_SECONDS;

const SERVER: &str = concat!("pistream/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    Created,
    NoContent,
    PartialContent,
    MovedPermanently,
    SeeOther,
    NotModified,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    ContentTooLarge,
    RangeNotSatisfiable,
    ExpectationFailed,
    Misdirected,
    TooManyRequests,
    HeadTooLarge,
    InternalError,
    NotImplemented,
    Unavailable,
    InsufficientStorage,
}

impl Status {
    /// Code and reason phrase as they stand in the status line.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::Created => "201 Created",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::SeeOther => "303 See Other",
            Status::NotModified => "304 Not Modified",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Conflict => "409 Conflict",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::Misdirected => "421 Misdirected Request",
            Status::TooManyRequests => "429 Too Many Requests",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::InternalError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::Unavailable => "503 Service Unavailable",
            Status::InsufficientStorage => "507 Insufficient Storage",
        }
    }

    pub fn is_error(self) -> bool {
        self.code() >= "400"
    }

    /// The three digits.
    pub fn code(self) -> &'static str {
        &self.line()[..3]
    }
}

/// One answer, before it is fitted to its request. Bound: the code's fields, which may repeat a
/// path of a request, `HEAD_BYTES_MAX`, or name `NAMED_PHOTOS_MAX` photos.
#[derive(Debug)]
pub struct Response {
    pub status: Status,
    pub content_type: Cow<'static, str>,
    pub cache_control: &'static str,
    /// Further fields.
    pub fields: Vec<(&'static str, String)>,
    pub validators: Validators,
    /// The language that was chosen for the visitor, if there was a choice.
    pub language: Option<Lang>,
    /// It depends on the origin of the page that asked.
    pub by_origin: bool,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    /// Bound: one page, made of a note (`NOTE_BYTES_MAX`), of a list (`LISTED_MAX`), of viewers
    /// (`VIEWERS_MAX`), or less.
    Bytes(Cow<'static, [u8]>),
    /// One picture.
    Frame(Arc<Frame>),
    /// So many bytes, pulled in chunks while they are sent.
    Pulled(u64),
    /// Frames without end, at most so many a second.
    Frames { fps: Option<f64> },
}

/// What a client may hold against its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, quotes included. Bound: the code's form of it.
    pub etag: Option<String>,
    pub modified: Option<SystemTime>,
}

impl Response {
    pub fn new(status: Status, content_type: impl Into<Cow<'static, str>>, body: Body) -> Response {
        Response {
            status,
            content_type: content_type.into(),
            cache_control: "no-store",
            fields: Vec::new(),
            validators: Validators::default(),
            language: None,
            by_origin: false,
            body,
        }
    }

    /// An error, or another answer that is a sentence.
    pub fn sentence(status: Status, sentence: &str) -> Response {
        let text = format!("{sentence}\n").into_bytes();
        Response::new(status, "text/plain; charset=utf-8", Body::Bytes(text.into()))
    }

    /// 404.
    pub fn not_found() -> Response {
        Response::sentence(Status::NotFound, "There is no such page.")
    }

    /// 204: done, and there is nothing to show.
    pub fn nothing() -> Response {
        Response::new(Status::NoContent, "", Body::Bytes(Cow::Borrowed(b"")))
    }

    /// 303: what was asked is done, and the result is to be seen there. A relative address holds
    /// below a folder of a proxy too.
    pub fn see_other(location: &str) -> Response {
        Response::sentence(Status::SeeOther, "It is done.").field("Location", location)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(sentence: &str) -> Response {
        Response::sentence(Status::Unavailable, sentence)
            .field("Retry-After", RETRY_AFTER_SECONDS.to_string())
    }

    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    pub fn in_language(mut self, lang: Lang) -> Response {
        self.language = Some(lang);
        self
    }

    /// The stream: its parts follow as they come.
    pub fn stream(fps: Option<f64>) -> Response {
        let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
        Response::new(Status::Ok, kind, Body::Frames { fps })
    }

    /// One frame as a file of its own.
    pub fn snapshot(frame: Arc<Frame>) -> Response {
        let stamp = timestamp(frame.captured).to_string();
        Response::new(Status::Ok, "image/jpeg", Body::Frame(frame)).field("X-Timestamp", stamp)
    }

    /// What a request for the snapshot's head gets without starting the camera.
    pub fn snapshot_head() -> Response {
        Response::new(Status::Ok, "image/jpeg", Body::Frames { fps: None })
    }

    /// The body of a sentence.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Bytes(bytes) => String::from_utf8_lossy(bytes),
            _ => "".into(),
        }
    }

    /// Bytes of the body, if they are known.
    fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Frame(frame) => Some(frame.jpeg().len() as u64),
            Body::Pulled(length) => Some(*length),
            Body::Frames { .. } => None,
        }
    }

    /// Fit to the request: 304 where the client's copy is good, 206 or 416 where it asked for a
    /// range. Gives the part of the body to send, in bytes from its start.
    pub fn fit(&mut self, request: &Request, now: SystemTime) -> std::ops::Range<u64> {
        let length = self.length().unwrap_or(0);
        let whole = 0..length;
        let reading = matches!(request.method, Method::Get | Method::Head);
        if !reading || self.status != Status::Ok || self.validators == Validators::default() {
            return whole;
        }
        if self.validators.is_current(request, now) {
            self.status = Status::NotModified;
            return 0..0;
        }
        self.fields.push(("Accept-Ranges", "bytes".to_owned()));
        // A range is defined for GET alone (RFC 9110, section 14.2).
        let asked = request.range.as_deref().filter(|_| request.method == Method::Get);
        let Some(asked) = asked.filter(|_| self.validators.allow_range(request)) else {
            return whole;
        };
        match byte_range(asked, length) {
            AskedRange::Ignored => whole,
            AskedRange::Part(part) => {
                let value = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                self.fields.push(("Content-Range", value));
                self.status = Status::PartialContent;
                part
            }
            AskedRange::Outside => {
                *self = Response::sentence(
                    Status::RangeNotSatisfiable,
                    "The file does not have these bytes.",
                )
                .field("Content-Range", format!("bytes */{length}"));
                0..self.length().unwrap_or(0)
            }
        }
    }

    /// The head as it goes over the wire, empty line included.
    pub fn head(&self, how: &Delivery) -> Vec<u8> {
        let mut head = String::with_capacity(512);
        // Writing to a String cannot fail.
        let _ = self.write_head(&mut head, how);
        head.into_bytes()
    }

    fn write_head(&self, out: &mut String, how: &Delivery) -> fmt::Result {
        let version = match how.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        write!(out, "{version} {}\r\n", self.status.line())?;
        let has_content = !matches!(self.status, Status::NoContent | Status::NotModified);
        if has_content {
            write!(out, "Content-Type: {}\r\n", self.content_type)?;
        }
        if let Some(length) = how.length.filter(|_| has_content) {
            write!(out, "Content-Length: {length}\r\n")?;
        }
        match (how.close, how.version) {
            (true, _) => out.write_str("Connection: close\r\n")?,
            (false, Version::Http10) => out.write_str("Connection: keep-alive\r\n")?,
            (false, Version::Http11) => {}
        }
        write!(out, "Server: {SERVER}\r\n")?;
        if how.date >= UNIX_EPOCH {
            write!(out, "Date: {}\r\n", httpdate::fmt_http_date(how.date))?;
        }
        write!(out, "Cache-Control: {}\r\n", self.cache_control)?;
        if let Some(etag) = &self.validators.etag {
            write!(out, "ETag: {etag}\r\n")?;
        }
        if let Some(modified) = self.validators.modified {
            // A file may be from before the clock was set back (RFC 9110, section 8.8.2.1).
            let modified = httpdate::fmt_http_date(modified.min(how.date.max(UNIX_EPOCH)));
            write!(out, "Last-Modified: {modified}\r\n")?;
        }
        // RFC 9110, section 15.4.5: what describes the content stays with the copy.
        if let Some(language) = self.language.filter(|_| has_content) {
            write!(out, "Content-Language: {}\r\n", language.tag())?;
        }
        match (self.language, self.by_origin) {
            (None, false) => {}
            (Some(_), false) => out.write_str("Vary: Accept-Language\r\n")?,
            (None, true) => out.write_str("Vary: Origin\r\n")?,
            (Some(_), true) => out.write_str("Vary: Accept-Language, Origin\r\n")?,
        }
        for (name, value) in &self.fields {
            debug_assert!(!value.contains(['\r', '\n']), "a field's value is one line");
            write!(out, "{name}: {value}\r\n")?;
        }
        if has_content && !matches!(self.body, Body::Frames { .. }) {
            out.write_str("X-Content-Type-Options: nosniff\r\n")?;
        }
        if has_content && self.content_type.starts_with("text/html") {
            out.write_str("Referrer-Policy: same-origin\r\n")?;
        }
        out.write_str("\r\n")
    }
}

impl From<Reject> for Response {
    fn from(reject: Reject) -> Response {
        Response::sentence(reject.status, reject.sentence)
    }
}

/// What of a head depends on the connection.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub version: Version,
    pub close: bool,
    /// `Content-Length`; none where the end of the connection ends the body.
    pub length: Option<u64>,
    pub date: SystemTime,
}

impl Validators {
    /// RFC 9110, section 13.2.2: `If-None-Match` decides alone where it is sent. A date of the
    /// future is from before the clock was set back: what has changed since may look older.
    fn is_current(&self, request: &Request, now: SystemTime) -> bool {
        if let Some(tags) = &request.if_none_match {
            let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
            return tags.split(',').any(|tag| {
                tag.trim() == "*" || self.etag.as_deref().is_some_and(|own| weak(tag) == own)
            });
        }
        let since = request.if_modified_since.as_deref().and_then(date);
        let since = since.filter(|since| *since <= now);
        match (self.modified, since) {
            (Some(modified), Some(since)) => whole_seconds(modified) <= since,
            _ => false,
        }
    }

    /// RFC 9110, section 13.1.5: a range is served if the rest of the client's copy is ours.
    fn allow_range(&self, request: &Request) -> bool {
        match request.if_range.as_deref() {
            None => true,
            Some(tag) if tag.starts_with('"') => self.etag.as_deref() == Some(tag),
            Some(when) => {
                let modified = self.modified.map(whole_seconds);
                modified.is_some() && date(when) == modified
            }
        }
    }
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// HTTP's dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[derive(Debug, PartialEq, Eq)]
enum AskedRange {
    /// Malformed, another unit, or several: the whole is sent, as section 14.2 allows.
    Ignored,
    Part(std::ops::Range<u64>),
    Outside,
}

/// RFC 9110, section 14.1.2.
fn byte_range(asked: &str, length: u64) -> AskedRange {
    let number = |digits: &str| {
        let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit lie outside of every file.
        fine.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let Some((unit, set)) = asked.split_once('=') else { return AskedRange::Ignored };
    let Some((first, last)) = set.trim().split_once('-') else { return AskedRange::Ignored };
    if !unit.eq_ignore_ascii_case("bytes") {
        return AskedRange::Ignored;
    }
    let (first, last) = match (first, number(first), last, number(last)) {
        ("", _, _, Some(0)) => return AskedRange::Outside,
        ("", _, _, Some(suffix)) => (length.saturating_sub(suffix), length.saturating_sub(1)),
        (_, Some(first), "", _) => (first, length.saturating_sub(1)),
        (_, Some(first), _, Some(last)) if first <= last => (first, last),
        _ => return AskedRange::Ignored,
    };
    if first >= length {
        return AskedRange::Outside;
    }
    AskedRange::Part(first..last.min(length - 1) + 1)
}

// ---- the stream's parts ---------------------------------------------------------------------

/// Unquoted and without dashes in front: Fluidd and Safari read no other.
const BOUNDARY: &str = "frame";
/// The body's first bytes.
pub const STREAM_START: &[u8] = b"--frame\r\n";
/// Behind each frame, in the same write: else some clients show each frame one late.
pub const PART_END: &[u8] = b"\r\n--frame\r\n";

/// A frame as it goes over the wire; its head is made once, not once a viewer. Bound: the code's
/// form of it.
#[derive(Debug)]
pub struct Part {
    pub head: Vec<u8>,
    pub frame: Arc<Frame>,
}

impl Part {
    pub fn new(frame: Arc<Frame>) -> Part {
        let head = format!(
            "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: {}\r\n\r\n",
            frame.jpeg().len(),
            timestamp(frame.captured),
        );
        Part { head: head.into_bytes(), frame }
    }
}

/// Seconds since 1970 with six decimals.
fn timestamp(time: SystemTime) -> impl fmt::Display {
    struct Seconds(Duration);
    impl fmt::Display for Seconds {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
        }
    }
    Seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
