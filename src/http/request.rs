//! Bytes to a whole request, or the reason why not. Pure.
//!
//! `httparse` splits the head; what it lets through is checked here: lengths, codings, hosts.
//! The target is decoded and normalized here, once: whoever gets a `Request` cannot be led out
//! of a folder by its path. RFC 9112 for the syntax, RFC 9110 for the fields.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Header, InvalidChunkSize, Status as Parsed};
use percent_encoding::percent_decode_str;

use super::phrases::Lang;
use super::response::Status;
use crate::limits::{
    BODY_BYTES_MAX, CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, TRAILER_LINES_MAX,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A whole request, understood. Bound: `HEAD_BYTES_MAX`, all together.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub version: Version,
    /// As it came, for the log only.
    pub target: String,
    /// INVARIANT: if some, begins with `/`, is decoded, has no empty, hidden, `.` or `..`
    /// segment, no NUL and no backslash; a `/` at the end is kept. None if the target's path
    /// cannot name anything here; that is a 404, not a 400.
    pub path: Option<String>,
    /// Folders that its address is below the site's start, as a browser counts them.
    pub depth: usize,
    /// What followed the `?`, still encoded.
    pub query: String,
    /// Name and port from `Host` or an absolute target; none in HTTP/1.0 without.
    pub host: Option<String>,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// A person asks with a browser: `Accept` names HTML.
    pub wants_page: bool,
    /// The language that the pages are to have: `Accept-Language`.
    pub lang: Lang,
    /// Where a browser says that the request comes from.
    pub origin: Option<String>,
    pub fetch_site: Option<String>,
    /// A browser asks whether a page of another origin may ask: a preflight.
    pub is_preflight: bool,
    /// The proof of who asks.
    pub authorization: Option<String>,
    /// For whom the proxies on the way say that they ask, the nearest last.
    pub forwarded_for: Option<String>,
    /// Whether the house lets who asks change something; until it has said so, it does not.
    pub may_change: bool,
    /// The site's folder was taken off the path, if it was there.
    entered: bool,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<String>,
    pub if_range: Option<String>,
    pub range: Option<String>,
    /// At most `BODY_BYTES_MAX`.
    pub body: Vec<u8>,
}

impl Request {
    /// The first value of a query parameter, decoded; a bare one has an empty value.
    pub fn query_value(&self, name: &str) -> Option<String> {
        values_of(self.query.as_bytes(), name).next().map(Cow::into_owned)
    }

    /// All values of a query parameter, decoded.
    pub fn query_values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = Cow<'r, str>> {
        values_of(self.query.as_bytes(), name)
    }
}

impl Request {
    /// The site's start is the folder `base` for who asks (`/camera`; `--base-path`). A proxy may
    /// have taken it off the path, or not.
    pub fn enter(&mut self, base: &str) {
        let Some(path) = &self.path else { return };
        let below = path.strip_prefix(base).filter(|below| below.starts_with('/'));
        if let Some(below) = below.filter(|below| below.len() < path.len() && !self.entered) {
            self.path = Some(below.to_owned());
            self.depth = self.depth.saturating_sub(base.matches('/').count());
        }
        self.entered = true;
    }
}

fn values_of<'b>(encoded: &'b [u8], name: &'b str) -> impl Iterator<Item = Cow<'b, str>> {
    form_urlencoded::parse(encoded).filter(move |(key, _)| key == name).map(|(_, value)| value)
}

/// The client's fault: a status and what to do about it. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub status: Status,
    pub sentence: &'static str,
}

const fn reject<T>(status: Status, sentence: &'static str) -> Result<T, Reject> {
    Err(Reject { status, sentence })
}

/// How the body's end is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
}

/// A request without its body yet.
#[derive(Debug)]
pub struct Head {
    pub request: Request,
    pub framing: Framing,
    /// The client waits for a word before it sends the body.
    pub expects_continue: bool,
}

/// Parse the head at the start of `bytes`; with it comes its length. `Ok(None)`: more is needed.
///
/// The answer depends on the bytes only, not on how they were cut: whole lines of the first
/// `HEAD_BYTES_MAX` bytes are looked at, never a part of a line.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Reject> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match behind_empty_lines(head) {
        [] | [b'\r'] => {}
        [first, ..] if first.is_ascii_graphic() => {}
        _ => return reject(Status::BadRequest, "This is not an HTTP request."),
    }
    let lines = memchr::memrchr(b'\n', head).map_or(0, |newline| newline + 1);
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parser = httparse::Request::new(&mut headers);
    match parser.parse(&head[..lines]) {
        Ok(Parsed::Complete(length)) => Ok(Some((understand(&parser)?, length))),
        Ok(Parsed::Partial) if head.len() == HEAD_BYTES_MAX => {
            reject(Status::HeadTooLarge, "The request's head is larger than 8 KiB.")
        }
        Ok(Parsed::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            reject(Status::HeadTooLarge, "The request has more than 64 header fields.")
        }
        Err(_) => reject(Status::BadRequest, "The request is malformed."),
    }
}

/// Whether this is the head of a HEAD request, though it is malformed or not whole: no answer to
/// it has a body (RFC 9110, section 9.3.2). What `parse` does not look at is not looked at here.
pub fn is_head(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    behind_empty_lines(head).starts_with(b"HEAD ")
}

fn behind_empty_lines(mut head: &[u8]) -> &[u8] {
    while let Some(rest) = head.strip_prefix(b"\n").or(head.strip_prefix(b"\r\n")) {
        head = rest;
    }
    head
}

fn understand(parsed: &httparse::Request) -> Result<Head, Reject> {
    // Partial heads end above: a complete one has all three.
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return reject(Status::BadRequest, "The request is malformed.");
    };
    let headers = &*parsed.headers;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let framing = framing(headers, version)?;
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => return reject(Status::NotImplemented, "This method is not known here."),
    };
    let (authority, origin_form) = split_target(target, method)?;
    let host = host(headers, version, authority)?;
    let (path, query) = origin_form.split_once('?').unwrap_or((&origin_form, ""));
    let expects_continue = match text(headers, "expect")? {
        None => false,
        // RFC 9110, section 10.1.1: a 1.0 client cannot mean it.
        Some(value) if value.eq_ignore_ascii_case("100-continue") => version == Version::Http11,
        Some(_) => return reject(Status::ExpectationFailed, "This expectation cannot be met."),
    };
    let request = Request {
        method,
        version,
        target: target.to_owned(),
        path: clean_path(path),
        depth: path.matches('/').count().saturating_sub(1),
        query: query.to_owned(),
        host,
        keep_alive: keeps_alive(headers, version)?,
        wants_page: list(headers, "accept")?.is_some_and(|kinds| kinds.contains("text/html")),
        lang: Lang::wanted(&list(headers, "accept-language")?.unwrap_or_default()),
        origin: text(headers, "origin")?.map(str::to_owned),
        fetch_site: text(headers, "sec-fetch-site")?.map(str::to_owned),
        is_preflight: method == Method::Options
            && text(headers, "access-control-request-method")?.is_some(),
        authorization: text(headers, "authorization")?.map(str::to_owned),
        forwarded_for: list(headers, "x-forwarded-for")?,
        may_change: false,
        entered: false,
        if_none_match: list(headers, "if-none-match")?,
        if_modified_since: text(headers, "if-modified-since")?.map(str::to_owned),
        if_range: text(headers, "if-range")?.map(str::to_owned),
        range: text(headers, "range")?.map(str::to_owned),
        body: Vec::new(),
    };
    Ok(Head { request, framing, expects_continue })
}

/// All values of a field, as bytes.
fn values<'h>(headers: &'h [Header], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

/// The value of a field that may stand once only; bytes beyond UTF-8 make it malformed.
fn text<'h>(headers: &'h [Header], name: &'h str) -> Result<Option<&'h str>, Reject> {
    let mut all = values(headers, name);
    match (all.next().map(std::str::from_utf8), all.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(trimmed(value))),
        _ => reject(Status::BadRequest, "A header field is malformed or stands twice."),
    }
}

/// Without the white space around it that HTTP knows (RFC 9110, section 5.6.3). Unicode has more,
/// and who stands before us may not pass it over.
fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// The values of a field that is a list, joined as if they stood in one line. Bytes beyond UTF-8
/// make it malformed: to overlook a value is how two servers come to read one request differently.
fn list(headers: &[Header], name: &str) -> Result<Option<String>, Reject> {
    let all: Result<Vec<&str>, _> = values(headers, name).map(std::str::from_utf8).collect();
    match all {
        Ok(all) => Ok((!all.is_empty()).then(|| all.join(", "))),
        Err(_) => reject(Status::BadRequest, "A header field is malformed."),
    }
}

fn framing(headers: &[Header], version: Version) -> Result<Framing, Reject> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    if let Some(coding) = list(headers, "transfer-encoding")? {
        if length.is_some() || version == Version::Http10 {
            return reject(Status::BadRequest, "The body's length is ambiguous.");
        }
        if !trimmed(&coding).eq_ignore_ascii_case("chunked") {
            return reject(Status::NotImplemented, "Only the coding chunked is known here.");
        }
        return Ok(Framing::Chunked);
    }
    let Some(length) = length else { return Ok(Framing::Length(0)) };
    if lengths.any(|other| other != length) {
        return reject(Status::BadRequest, "The body's length is ambiguous.");
    }
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return reject(Status::BadRequest, "The body's length is not a number.");
    }
    // More digits than fit are more bytes than fit.
    let bytes = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
    match bytes.filter(|bytes| *bytes <= BODY_BYTES_MAX) {
        Some(bytes) => Ok(Framing::Length(bytes)),
        None => reject(Status::ContentTooLarge, "The request's body is larger than 1 MiB."),
    }
}

/// Authority (of an absolute target) and path with query; RFC 9112, section 3.2.
fn split_target(target: &str, method: Method) -> Result<(Option<&str>, Cow<'_, str>), Reject> {
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok((None, target.into()));
    }
    let scheme_end = target.find("://").map_or(0, |colon| colon + 3);
    let (scheme, rest) = target.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case("http://") && !scheme.eq_ignore_ascii_case("https://") {
        return reject(Status::BadRequest, "The request's target is malformed.");
    }
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    if authority.is_empty() || authority.contains('@') {
        return reject(Status::BadRequest, "The request's target is malformed.");
    }
    match path.starts_with('/') {
        true => Ok((Some(authority), path.into())),
        false => Ok((Some(authority), format!("/{path}").into())),
    }
}

fn host(
    headers: &[Header],
    version: Version,
    authority: Option<&str>,
) -> Result<Option<String>, Reject> {
    let field = text(headers, "host")?;
    if field.is_none() && version == Version::Http11 {
        return reject(Status::BadRequest, "The request names no host.");
    }
    // An absolute target's authority replaces the field (RFC 9112, section 3.2.2).
    let both = [field, authority];
    if !both.iter().flatten().all(|host| is_host(host)) {
        return reject(Status::BadRequest, "The host's name is malformed.");
    }
    Ok(authority.or(field).map(str::to_owned))
}

/// Whether it has the form of a name or an address with, perhaps, a port.
fn is_host(host: &str) -> bool {
    let bracket = host.find(']').map_or(0, |end| end + 1);
    let (address, rest) = host.split_at(bracket);
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    let address_fits = address.strip_prefix('[').is_none_or(|inner| {
        let inner = inner.strip_suffix(']').unwrap_or(inner);
        name.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b":.%".contains(&b))
    });
    let name_fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    address_fits
        && name_fits
        && (address.is_empty() || address.starts_with('['))
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn keeps_alive(headers: &[Header], version: Version) -> Result<bool, Reject> {
    let options = list(headers, "connection")?.unwrap_or_default();
    let says = |word: &str| options.split(',').any(|o| trimmed(o).eq_ignore_ascii_case(word));
    Ok(match version {
        Version::Http11 => !says("close"),
        Version::Http10 => says("keep-alive") && !says("close"),
    })
}

/// The path decoded and normalized, or none if it names nothing that can exist here.
fn clean_path(path: &str) -> Option<String> {
    if path == "*" {
        return Some("/".to_owned());
    }
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        match &*segment {
            "" | "." => {}
            // Hidden files and ".."; a separator that was encoded to get past the split.
            name if name.starts_with('.') || name.contains(['/', '\\', '\0']) => return None,
            name => {
                clean.push('/');
                clean.push_str(name);
            }
        }
    }
    if clean.is_empty() || path.ends_with('/') || path.ends_with("/.") {
        clean.push('/');
    }
    Some(clean)
}

/// Reads a body out of the bytes that follow a head.
#[derive(Debug)]
pub struct BodyReader {
    stage: Stage,
    trailer_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many bytes of a body with a known length are to come.
    Length(usize),
    /// A line with the next chunk's size.
    ChunkSize,
    /// So many bytes of the chunk are to come.
    Chunk(usize),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, to the empty one.
    Trailer,
    Done,
}

impl BodyReader {
    pub fn new(framing: Framing) -> BodyReader {
        let stage = match framing {
            Framing::Length(0) => Stage::Done,
            Framing::Length(bytes) => Stage::Length(bytes),
            Framing::Chunked => Stage::ChunkSize,
        };
        BodyReader { stage, trailer_lines: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Move what belongs to the body from `bytes` into `body`; gives how many bytes were used.
    /// Call again with the unused rest and more until `is_done`.
    pub fn read(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Reject> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.stage {
                Stage::Done => return Ok(used),
                Stage::Length(left) | Stage::Chunk(left) => {
                    let taken = rest.len().min(left);
                    body.extend_from_slice(&rest[..taken]);
                    used += taken;
                    self.stage = match (self.stage, left - taken) {
                        (Stage::Length(_), 0) => Stage::Done,
                        (_, 0) => Stage::ChunkEnd,
                        (Stage::Length(_), left) => return self.wait(Stage::Length(left), used),
                        (_, left) => return self.wait(Stage::Chunk(left), used),
                    };
                }
                Stage::ChunkSize | Stage::ChunkEnd | Stage::Trailer => {
                    let Some(line) = line(rest)? else { return Ok(used) };
                    used += line.len();
                    self.stage = self.after_line(line, body.len())?;
                }
            }
        }
    }

    fn wait(&mut self, stage: Stage, used: usize) -> Result<usize, Reject> {
        self.stage = stage;
        Ok(used)
    }

    /// The stage that a whole line leads to.
    fn after_line(&mut self, line: &[u8], body_bytes: usize) -> Result<Stage, Reject> {
        let blank = line == b"\r\n";
        match self.stage {
            Stage::ChunkEnd if blank => Ok(Stage::ChunkSize),
            Stage::Trailer if blank => Ok(Stage::Done),
            Stage::Trailer => {
                self.trailer_lines += 1;
                if self.trailer_lines > TRAILER_LINES_MAX {
                    return reject(Status::BadRequest, "The body's trailer is too long.");
                }
                match is_field(line) {
                    true => Ok(Stage::Trailer),
                    false => reject(Status::BadRequest, "The body's chunks are malformed."),
                }
            }
            Stage::ChunkSize => match chunk_size(line)? {
                0 => Ok(Stage::Trailer),
                bytes if bytes <= (BODY_BYTES_MAX - body_bytes) as u64 => {
                    Ok(Stage::Chunk(bytes as usize))
                }
                _ => reject(Status::ContentTooLarge, "The request's body is larger than 1 MiB."),
            },
            _ => reject(Status::BadRequest, "The body's chunks are malformed."),
        }
    }
}

/// The line at the start of `bytes`, its end included; none if it is not whole yet.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Reject> {
    let window = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', window) {
        Some(newline) => Ok(Some(&bytes[..=newline])),
        None if window.len() == CHUNK_LINE_BYTES_MAX => {
            reject(Status::BadRequest, "The body's chunks are malformed.")
        }
        None => Ok(None),
    }
}

/// Whether a trailer's line is a header field; what it says is passed over.
fn is_field(line: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER];
    let field = [line, b"\r\n"].concat();
    let whole =
        |parsed| matches!(parsed, Ok(Parsed::Complete((length, _))) if length == field.len());
    line.ends_with(b"\r\n") && whole(httparse::parse_headers(&field, &mut fields))
}

/// RFC 9112, section 7.1: hex digits, extensions ignored. Only CRLF ends the line: others read on
/// behind a bare LF.
fn chunk_size(line: &[u8]) -> Result<u64, Reject> {
    let malformed =
        Reject { status: Status::BadRequest, sentence: "The body's chunks are malformed." };
    if !line.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(malformed); // httparse reads an empty size as 0
    }
    match httparse::parse_chunk_size(line) {
        Ok(Parsed::Complete((length, size))) if length == line.len() => Ok(size),
        Ok(_) | Err(InvalidChunkSize) => Err(malformed),
    }
}
