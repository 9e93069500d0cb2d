//! (method, path) to what is asked of the house: the whole site on one screen. Pure.

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::config;
use crate::control::{self, Deed, excerpt};
use crate::disk::{Back, Change, NOTHING_DONE, Outcome, PhotoName, Task};
use crate::http::request::{Method, Request};
use crate::http::response::{Response, Status};
use crate::limits::{FORM_BYTES_MAX, INTERVAL_TIME_MAX, NAMED_PHOTOS_MAX, NAMES_MAX};
use crate::scale::Wish;

/// What a request asks of the house. Cameras are counted from 0 here, and from 1 in addresses.
#[derive(Debug)]
pub enum Action {
    /// This answer.
    Reply(Response),
    /// Frames without end, at most so many a second.
    Stream { camera: usize, fps: Option<f64>, wish: Wish },
    /// The next frame.
    Snapshot { camera: usize, freshness: Freshness, wish: Wish },
    /// The next frame, saved.
    Photo { camera: usize },
    /// Interval photos begun anew, or stopped.
    Interval(Option<Plan>),
    /// How the interval photos stand.
    ShowInterval,
    /// How the house stands.
    Status,
    /// The same for Prometheus.
    Metrics,
    /// Whether frames flow.
    Health,
    /// Something of a camera's controls.
    Controls { camera: usize, deed: Deed },
    /// What the disk has to find.
    Disk(Task),
    /// What it has to change.
    Change(Change),
}

/// Which frame a snapshot may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// A frame that is there and not older than this is given at once.
    pub max_age: Option<Duration>,
    /// Wait for a settled exposure after a cold start.
    pub settled: bool,
}

/// Interval photos as somebody wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub every: Duration,
    /// For so long; none: until they are stopped.
    pub length: Option<Duration>,
}

/// Work out what `request` asks of a house with so many cameras.
pub fn route(request: &Request, hosts: &Hosts, cameras: usize) -> Action {
    if !hosts.are_asked(request) {
        let sentence = "This site is not known by that name. If it should be, start pistream \
             with --host-name and the name.";
        return Action::Reply(Response::sentence(Status::Misdirected, sentence));
    }
    let Some(path) = request.path.as_deref() else { return Action::Reply(Response::not_found()) };
    let allowed = methods(path);
    match request.method {
        Method::Options => Action::Reply(Response::nothing().field("Allow", allowed)),
        Method::Post | Method::Delete if !request.may_change && path != "/gallery/archive" => {
            let sentence = "You may look at this site, and change nothing.";
            Action::Reply(Response::sentence(Status::Forbidden, sentence))
        }
        method if !allowed.contains(name_of_method(method)) => {
            let sentence = match method {
                Method::Post | Method::Delete => "This can only be looked at.",
                _ => "This is a button, not a page: it wants POST.",
            };
            let refusal = Response::sentence(Status::MethodNotAllowed, sentence);
            Action::Reply(refusal.field("Allow", allowed))
        }
        Method::Get | Method::Head => look(request, path, cameras),
        Method::Post | Method::Delete if !hosts.is_own_page(request) => {
            let sentence = "Only pages of this site may do that.";
            Action::Reply(Response::sentence(Status::Forbidden, sentence))
        }
        Method::Post => act(request, path, cameras),
        Method::Delete => match path.strip_prefix("/pic/").and_then(PhotoName::parse) {
            Some(name) => Action::Change(Change::Delete { names: vec![name], back: None }),
            None => Action::Reply(Response::not_found()),
        },
    }
}

/// The methods that a path knows.
fn methods(path: &str) -> &'static str {
    match path {
        "/photo" | "/gallery/delete" | "/gallery/keep" | "/gallery/archive" => "POST, OPTIONS",
        "/interval" | "/controls" => "GET, HEAD, POST, OPTIONS",
        path if path.starts_with("/controls/") => "GET, HEAD, POST, OPTIONS",
        path if path.starts_with("/pic/") => "GET, HEAD, DELETE, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

fn name_of_method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
    }
}

/// What is only to be shown.
fn look(request: &Request, path: &str, cameras: usize) -> Action {
    let lang = request.lang;
    let photo = |root: &str| path.strip_prefix(root).map(PhotoName::parse);
    let action = request.query_value("action");
    let (path, number) = numbered(path).unwrap_or((path, "1"));
    let camera = match camera(number, cameras) {
        Ok(camera) => camera,
        Err(refusal) => return refuse(refusal),
    };
    match (path, action.as_deref()) {
        ("/video_feed" | "/stream" | "/stream.mjpg", _) | ("/", Some("stream")) => {
            stream(request, camera)
        }
        ("/snapshot" | "/snapshot.jpg", _) | ("/", Some("snapshot")) => snapshot(request, camera),
        ("/gallery", _) => gallery(request),
        ("/current_picture", _) => Action::Disk(Task::View { name: None, lang }),
        ("/interval", _) => Action::ShowInterval,
        ("/status", _) => Action::Status,
        ("/metrics", _) => Action::Metrics,
        ("/healthz", _) => Action::Health,
        ("/controls", _) => Action::Controls { camera, deed: Deed::List },
        ("/md", _) => Action::Reply(
            Response::sentence(Status::MovedPermanently, "The notes are there.")
                .field("Location", "md/"),
        ),
        (path, _) => match (photo("/pic/"), photo("/thumb/"), photo("/view/")) {
            (Some(Some(name)), _, _) => Action::Disk(Task::OpenPhoto(name)),
            (_, Some(Some(name)), _) => {
                let version = request.query_value("v");
                Action::Disk(Task::OpenThumbnail { name, version })
            }
            (_, _, Some(Some(name))) => Action::Disk(Task::View { name: Some(name), lang }),
            (None, None, None) => page(request, path),
            _ => Action::Reply(Response::not_found()),
        },
    }
}

fn page(request: &Request, path: &str) -> Action {
    let lang = request.lang;
    Action::Disk(match path.strip_prefix("/md/") {
        Some(note) => {
            let raw = request.query_value("raw").is_some();
            Task::OpenNote { path: note.to_owned(), raw, lang }
        }
        None => Task::OpenPage { path: path.to_owned(), lang },
    })
}

/// What changes something.
fn act(request: &Request, path: &str, cameras: usize) -> Action {
    if request.body.len() > FORM_BYTES_MAX {
        let sentence = "This form is too large.";
        return Action::Reply(Response::sentence(Status::ContentTooLarge, sentence));
    }
    let form: Vec<(Cow<str>, Cow<str>)> = form_urlencoded::parse(&request.body).collect();
    let (path, number) = numbered(path).unwrap_or((path, "1"));
    let camera = match path {
        "/photo" => camera_for_photo(request, &form, cameras),
        _ => camera(number, cameras),
    };
    let camera = match camera {
        Ok(camera) => camera,
        Err(refusal) => return refuse(refusal),
    };
    match path {
        "/photo" => Action::Photo { camera },
        "/interval" => interval(&form),
        "/controls" => controls(&form, camera),
        _ => change(&form, path),
    }
}

/// Bound: `FORM_BYTES_MAX`.
type Form<'r> = [(Cow<'r, str>, Cow<'r, str>)];

/// A path that names a camera by its number: the path without that, and the number.
fn numbered(path: &str) -> Option<(&str, &str)> {
    let (path, number) = path.rsplit_once('/').filter(|(_, number)| !number.is_empty())?;
    ["/video_feed", "/snapshot", "/controls"].contains(&path).then_some((path, number))
}

/// A status, and a sentence that says why. Bound: the code's, with an excerpt of what was sent.
type Refusal = (Status, String);

fn refuse((status, sentence): Refusal) -> Action {
    Action::Reply(Response::sentence(status, &sentence))
}

/// The camera of this number, which outside is counted from 1.
fn camera(number: &str, cameras: usize) -> Result<usize, Refusal> {
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let index = number.parse().ok().and_then(|number: usize| number.checked_sub(1));
    index.filter(|index| digits && *index < cameras).ok_or_else(|| {
        let shown = excerpt(number);
        let sentence = format!("There is no camera {shown}; the last one is {cameras}.");
        (Status::NotFound, sentence)
    })
}

/// The camera that the query or the form names.
fn camera_for_photo(request: &Request, form: &Form, cameras: usize) -> Result<usize, Refusal> {
    let named = request.query_value("camera").map(Cow::Owned);
    let Some(number) = named.or_else(|| value(form, "camera").map(Cow::Borrowed)) else {
        return Ok(0);
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        let shown = excerpt(&number);
        let sentence = format!("The parameter camera must be the number of a camera, not {shown}.");
        return Err((Status::BadRequest, sentence));
    }
    camera(&number, cameras)
}

/// The first value of a form's field.
fn value<'f>(form: &'f Form, name: &str) -> Option<&'f str> {
    form.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
}

/// What is to be done with the photos that a form names.
fn change(form: &Form, path: &str) -> Action {
    let refuse = |status, sentence| Action::Reply(Response::sentence(status, sentence));
    let fields = form.iter().filter(|(field, _)| field == "name");
    // Each once: twice named is once meant.
    let names: Option<BTreeSet<PhotoName>> =
        fields.map(|(_, name)| PhotoName::parse(name)).collect();
    let names: Vec<PhotoName> = match names {
        None => return refuse(Status::BadRequest, "A name in the form is not that of a photo."),
        Some(names) if names.len() > NAMES_MAX => {
            return refuse(Status::ContentTooLarge, "These are too many photos at once.");
        }
        Some(names) => names.into_iter().collect(),
    };
    let page = value(form, "page").and_then(|page| page.parse::<usize>().ok());
    let back = match names[..] {
        [name] if value(form, "view").is_some() => Back::View(name),
        _ => Back::Gallery(page.unwrap_or(1)),
    };
    match path {
        // The form of a page of photos, none of which was selected: not all are meant.
        "/gallery/archive" if names.is_empty() && page.is_some() => {
            Action::Reply(back.to_gallery(NOTHING_DONE))
        }
        "/gallery/archive" => Action::Disk(Task::Archive(names)),
        "/gallery/keep" => {
            let keep = value(form, "keep") != Some("0");
            Action::Change(Change::Keep { names, keep, back })
        }
        _ => Action::Change(Change::Delete { names, back: Some(back) }),
    }
}

fn gallery(request: &Request) -> Action {
    let number = |name| request.query_value(name).and_then(|n| n.parse::<usize>().ok());
    let names = |name: &str| {
        let values = request.query_values(name);
        values.filter_map(|name| PhotoName::parse(&name)).take(NAMED_PHOTOS_MAX).collect()
    };
    let kept = number("kept").map(|n| (true, n)).or(number("unkept").map(|n| (false, n)));
    let outcome = Outcome {
        deleted: number("deleted"),
        kept,
        missing: names("missing"),
        failed: names("failed"),
        unnamed: number("unnamed").unwrap_or(0),
    };
    let page = number("page").unwrap_or(1).max(1);
    Action::Disk(Task::Gallery { page, outcome, lang: request.lang })
}

fn interval(form: &Form) -> Action {
    let value = |name| value(form, name).filter(|value| !value.is_empty());
    if value("stop").is_some() {
        return Action::Interval(None);
    }
    let refuse =
        |sentence: String| Action::Reply(Response::sentence(Status::BadRequest, &sentence));
    let every = match config::interval(value("every").unwrap_or_default()) {
        Ok(every) => every,
        Err(allowed) => return refuse(format!("The field every must be {allowed}.")),
    };
    let length = match value("until").map(config::duration) {
        None => None,
        Some(Some(length)) if (every..=INTERVAL_TIME_MAX).contains(&length) => Some(length),
        Some(_) => {
            let sentence = "The field until must be a time from now, such as 8h or 3d, that is \
                 not shorter than every and not longer than 366d.";
            return refuse(sentence.to_owned());
        }
    };
    Action::Interval(Some(Plan { every, length }))
}

/// A control to be set or reset. Of fields that stand twice the last counts: a box that is ticked
/// comes behind the hidden field that says that it is not.
fn controls(form: &Form, camera: usize) -> Action {
    let last = |name: &str| form.iter().rfind(|(field, _)| field == name).map(|(_, v)| &**v);
    let refuse =
        |sentence: String| Action::Reply(Response::sentence(Status::BadRequest, &sentence));
    let id = match last("id") {
        None if last("reset") == Some("all") => None,
        None => return refuse("The field id is missing: it names the control.".to_owned()),
        Some(sent) => {
            let id = control::number(sent).and_then(|id| u32::try_from(id).ok());
            let Some(id) = id else {
                let sent = excerpt(sent);
                return refuse(format!(
                    "The field id must be the number of a control, not {sent}."
                ));
            };
            Some(id)
        }
    };
    match (id, last("value"), last("reset")) {
        (id, _, Some(_)) => Action::Controls { camera, deed: Deed::Reset(id) },
        (Some(id), Some(value), None) => {
            Action::Controls { camera, deed: Deed::Set { id, value: value.to_owned() } }
        }
        _ => refuse("The field value is missing: what the control is to be set to.".to_owned()),
    }
}

fn stream(request: &Request, camera: usize) -> Action {
    match (positive(request, "fps"), wish(request)) {
        (Ok(fps), Ok(wish)) => Action::Stream { camera, fps, wish },
        (Err(sentence), _) | (_, Err(sentence)) => malformed(&sentence),
    }
}

fn snapshot(request: &Request, camera: usize) -> Action {
    let max_age = match request.query_value("max_age").map(|text| text.parse()) {
        None => None,
        Some(Ok(ms)) => Some(Duration::from_millis(ms)),
        Some(Err(_)) => {
            return malformed("The parameter max_age must be a number of milliseconds.");
        }
    };
    let now = request.query_value("now").is_some_and(|value| value == "1");
    let freshness = Freshness { max_age, settled: max_age.is_none() && !now };
    match wish(request) {
        Ok(wish) => Action::Snapshot { camera, freshness, wish },
        Err(sentence) => malformed(&sentence),
    }
}

/// How the pictures are to be. `Err`: what is wrong with that.
fn wish(request: &Request) -> Result<Wish, String> {
    // More than a number holds is more than there can be: all there is.
    let width = positive(request, "width")?.map(|width| width as u32);
    let bake = match request.query_value("bake").as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err("The parameter bake must be 0 or 1.".to_owned()),
    };
    Ok(Wish { width, bake })
}

/// A query parameter that must be a number above zero if it is there. `Err`: so it is not.
fn positive(request: &Request, name: &str) -> Result<Option<f64>, String> {
    let Some(text) = request.query_value(name) else { return Ok(None) };
    // No signs, exponents, infinities.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse().ok().filter(|n: &f64| plain && n.is_finite() && *n > 0.0);
    let sentence = || format!("The parameter {name} must be a number above zero.");
    number.map(Some).ok_or_else(sentence)
}

fn malformed(sentence: &str) -> Action {
    Action::Reply(Response::sentence(Status::BadRequest, sentence))
}

/// The names that this site answers to. A page elsewhere that lets its own name point to our
/// address (DNS rebinding) could read the camera as if it were ours; so only names are served
/// that nobody outside can give us.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// `--host-name`s. Bound: the operator's list.
    names: Vec<String>,
    /// This machine's full name. Bound: the kernel's, 64 bytes.
    own: String,
}

impl Hosts {
    /// `names`: `--host-name`s; `own`: this machine's full name.
    pub fn new(names: &[String], own: &str) -> Hosts {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Hosts { names, own: own.to_ascii_lowercase() }
    }

    /// Whether a request is for one of these names, or for none.
    pub fn are_asked(&self, request: &Request) -> bool {
        request.host.as_deref().is_none_or(|host| self.allow(host))
    }

    /// Whether a request that changes something comes from a page of this site, or from no page
    /// at all. Another site's page could otherwise press our buttons with its visitor's hand.
    fn is_own_page(&self, request: &Request) -> bool {
        if let Some(site) = request.fetch_site.as_deref() {
            return matches!(site, "same-origin" | "none");
        }
        request.origin.is_none() || self.is_own_origin(request) // no browser sends none
    }

    /// Whether the page that asks says that it is of this site.
    pub fn is_own_origin(&self, request: &Request) -> bool {
        let Some(origin) = request.origin.as_deref() else { return false };
        let Some((_, authority)) = origin.split_once("://") else { return false }; // "null"
        let authority = authority.to_ascii_lowercase();
        let host = request.host.as_deref().unwrap_or_default();
        host.eq_ignore_ascii_case(&authority)
            || self.names.iter().any(|name| is_named(name_of(&authority), name) && name != "*")
    }

    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = name_of(&host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let local = [".local", ".lan", ".home.arpa", ".internal", ".localhost"];
        is_address
            || !name.contains('.')
            || local.iter().any(|suffix| name.ends_with(suffix))
            || name == self.own
            || self.names.iter().any(|allowed| is_named(name, allowed))
    }
}

/// Whether `name` is what a `--host-name` allows.
fn is_named(name: &str, allowed: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => suffix.starts_with('.') && name.ends_with(suffix),
        None => name == allowed,
    }
}

/// A `Host` without its port and without the dot that may end a full name.
fn name_of(host: &str) -> &str {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse;

    fn request(head: &str) -> Request {
        let bytes = format!("{head}\r\nHost: pi\r\n\r\n");
        parse(bytes.as_bytes()).unwrap().unwrap().0.request
    }

    #[track_caller]
    fn check(head: &str, expect: &str) {
        check_form(head, "", expect);
    }

    #[track_caller]
    fn check_form(head: &str, form: &str, expect: &str) {
        let mut request = request(head);
        (request.body, request.may_change) = (form.into(), true);
        let found = match route(&request, &Hosts::default(), 2) {
            Action::Reply(response) => response.status.code().to_owned(),
            Action::Stream { camera: 1, .. } => "second stream".to_owned(),
            Action::Stream { fps, wish, .. } => format!("stream {fps:?}{}", wished(wish)),
            Action::Snapshot { camera: 1, .. } => "second snapshot".to_owned(),
            Action::Snapshot { freshness: Freshness { max_age, settled }, wish, .. } => {
                format!("snapshot {max_age:?} {settled}{}", wished(wish))
            }
            Action::Controls { camera: 0, deed } => format!("Controls({deed:?})"),
            Action::Disk(Task::OpenPage { path, .. }) => format!("page {path}"),
            Action::Disk(Task::OpenNote { path, raw, .. }) => format!("note {path} {raw}"),
            Action::Disk(task) => format!("{task:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(found, expect, "{head}");
    }

    fn wished(Wish { width, bake }: Wish) -> String {
        let width = width.map_or(String::new(), |width| format!(" {width} wide"));
        format!("{width}{}", if bake { " baked" } else { "" })
    }

    #[test]
    fn every_route_and_alias_leads_to_its_action() {
        check("GET / HTTP/1.1", "page /");
        check("GET /a/b%20c.html?x HTTP/1.1", "page /a/b c.html");
        for path in ["/video_feed", "/stream", "/stream.mjpg", "/?action=stream"] {
            check(&format!("GET {path} HTTP/1.1"), "stream None");
        }
        check("GET /video_feed?fps=2.5&cacheBust=1 HTTP/1.1", "stream Some(2.5)");
        for wrong in ["0", "-1", "x", "", "inf", "1e3", "NaN", "0.0"] {
            check(&format!("GET /video_feed?fps={wrong} HTTP/1.1"), "400");
            check(&format!("GET /video_feed?width={wrong} HTTP/1.1"), "400");
            check(&format!("GET /snapshot?width={wrong} HTTP/1.1"), "400");
        }
        check("GET /video_feed?width=320&fps=2 HTTP/1.1", "stream Some(2.0) 320 wide");
        let widest = "snapshot None true 4294967295 wide";
        check("GET /?action=snapshot&width=99999999999 HTTP/1.1", widest);
        for (bake, expect) in
            [("bake=1", " baked"), ("bake=0", ""), ("width=9&bake=1", " 9 wide baked")]
        {
            check(&format!("GET /stream?{bake} HTTP/1.1"), &format!("stream None{expect}"));
            let snapshot = format!("snapshot None true{expect}");
            check(&format!("GET /?action=snapshot&{bake} HTTP/1.1"), &snapshot);
        }
        for wrong in ["", "2", "01", "true", "-1"] {
            check(&format!("GET /?action=stream&bake={wrong} HTTP/1.1"), "400");
            check(&format!("GET /snapshot.jpg?bake={wrong} HTTP/1.1"), "400");
        }
        for path in ["/snapshot", "/snapshot.jpg", "/?action=snapshot", "/snapshot?1700000000"] {
            check(&format!("GET {path} HTTP/1.1"), "snapshot None true");
        }
        check("GET /snapshot?max_age=200 HTTP/1.1", "snapshot Some(200ms) false");
        check("GET /snapshot?now=1 HTTP/1.1", "snapshot None false");
        check("GET /snapshot?max_age=x HTTP/1.1", "400");
        check("GET /md HTTP/1.1", "301");
        check("GET /md/ HTTP/1.1", "note  false");
        check("GET /md/a/%E4%B8%AD?raw HTTP/1.1", "note a/中 true");
        check("GET /md/../x HTTP/1.1", "404");
        check("GET /../etc/passwd HTTP/1.1", "404");
        check("POST /video_feed HTTP/1.1", "405");
        check("DELETE / HTTP/1.1", "405");
        check("OPTIONS * HTTP/1.1", "204");
    }

    #[test]
    fn photos_are_reached_by_their_names_only() {
        let name = "2026-11-22_14-03-55.jpg";
        let twin = "2026-11-22_14-03-55-1.jpg";
        check(&format!("GET /pic/{name} HTTP/1.1"), &format!("OpenPhoto({name})"));
        let small = |version| format!("OpenThumbnail {{ name: {name}, version: {version} }}");
        check(&format!("GET /thumb/{name} HTTP/1.1"), &small("None"));
        check(&format!("GET /thumb/{name}?v=1-2 HTTP/1.1"), &small("Some(\"1-2\")"));
        let view = format!("View {{ name: Some({name}), lang: English }}");
        check(&format!("GET /view/{name} HTTP/1.1"), &view);
        check("GET /current_picture HTTP/1.1", "View { name: None, lang: English }");
        let delete = format!("Change(Delete {{ names: [{name}], back: None }})");
        check(&format!("DELETE /pic/{name} HTTP/1.1"), &delete);
        for root in ["pic", "thumb", "view"] {
            for odd in ["", "x.jpg", "2026-11-22_14-03-55", "a/2026-11-22_14-03-55.jpg", ".keep"] {
                check(&format!("GET /{root}/{odd} HTTP/1.1"), "404");
            }
        }
        check("DELETE /pic/x.jpg HTTP/1.1", "404");
        let form = format!("name={name}&name={twin}&page=3");
        let form = format!("{form}&name={name}"); // once more
        let names = format!("names: [{name}, {twin}]");
        let head = |path: &str| format!("POST /gallery/{path} HTTP/1.1");
        let delete = format!("Change(Delete {{ {names}, back: Some(Gallery(3)) }})");
        check_form(&head("delete"), &form, &delete);
        let keep = format!("Change(Keep {{ {names}, keep: true, back: Gallery(3) }})");
        check_form(&head("keep"), &form, &keep);
        let form = format!("name={name}&keep=0&view=1");
        let keep = format!("Change(Keep {{ names: [{name}], keep: false, back: View({name}) }})");
        check_form(&head("keep"), &form, &keep);
        check_form(&head("archive"), "", "Archive([])");
        check_form(&head("archive"), &format!("page=2&name={name}"), &format!("Archive([{name}])"));
        check_form(&head("archive"), "page=2", "303");
        for odd in ["..", "%2e%2e%2fx", "x.jpg", "", "2026-11-22_14-03-55.jpg%00"] {
            for path in ["delete", "keep", "archive"] {
                check_form(&head(path), &format!("name={name}&name={odd}"), "400");
            }
        }
        let many: String =
            (1..=NAMES_MAX + 1).map(|n| format!("name=2026-11-22_14-03-55-{n}.jpg&")).collect();
        check_form(&head("delete"), &many, "413");
        check_form(&head("keep"), &"a&".repeat(FORM_BYTES_MAX), "413");
        check("GET /photo HTTP/1.1", "405");
        check("POST /photo HTTP/1.1", "Photo { camera: 0 }");
    }

    #[test]
    fn interval_photos_are_asked_for_in_bounds() {
        let check = |form: &str, expect: &str| check_form("POST /interval HTTP/1.1", form, expect);
        check("stop=1", "Interval(None)");
        check("every=30s", "Interval(Some(Plan { every: 30s, length: None }))");
        check("every=5m&until=", "Interval(Some(Plan { every: 300s, length: None }))");
        check("every=5m&until=3d", "Interval(Some(Plan { every: 300s, length: Some(259200s) }))");
        for wrong in ["", "every=0", "every=x", "every=2d", "every=5m&until=1m", "every=1&until=x"]
        {
            check(wrong, "400");
        }
    }

    #[test]
    fn controls_are_named_by_their_number() {
        check("GET /controls HTTP/1.1", "Controls(List)");
        check("HEAD /controls HTTP/1.1", "Controls(List)");
        check("DELETE /controls HTTP/1.1", "405");
        let check = |form: &str, expect: &str| check_form("POST /controls HTTP/1.1", form, expect);
        let set = |value: &str| format!("Controls(Set {{ id: 9963776, value: {value:?} }})");
        check("id=9963776&value=-5", &set("-5"));
        check("id=0x980900&value=", &set(""));
        check("id=9963776&value=0&value=1", &set("1"));
        check("id=9963776&value=%3Cb%3E+x", &set("<b> x"));
        check("id=9963776&value=1&reset=1", "Controls(Reset(Some(9963776)))");
        check("reset=all", "Controls(Reset(None))");
        let long = "9".repeat(999);
        for wrong in
            ["", "value=1", "reset=1", "id=7", "id=&value=1", "id=x&value=1", "id=-1&value=1"]
        {
            check(wrong, "400");
        }
        check(&format!("id={long}&value=1"), "400");
        check("id=4294967296&reset=1", "400");
    }

    #[test]
    fn cameras_are_named_by_their_number_and_the_first_needs_none() {
        check("GET /video_feed/1 HTTP/1.1", "stream None");
        check("GET /video_feed/2?fps=5 HTTP/1.1", "second stream");
        check("HEAD /video_feed/2 HTTP/1.1", "second stream");
        check("GET /snapshot/2 HTTP/1.1", "second snapshot");
        check("GET /controls/1 HTTP/1.1", "Controls(List)");
        check("GET /controls/2 HTTP/1.1", "Controls { camera: 1, deed: List }");
        let reset = "Controls { camera: 1, deed: Reset(None) }";
        check_form("POST /controls/2 HTTP/1.1", "reset=all", reset);
        check("POST /photo?camera=2 HTTP/1.1", "Photo { camera: 1 }");
        check_form("POST /photo HTTP/1.1", "camera=2", "Photo { camera: 1 }");
        check_form("POST /photo?camera=1 HTTP/1.1", "camera=2", "Photo { camera: 0 }");
        for root in ["video_feed", "snapshot", "controls"] {
            for none in ["0", "3", "99999999999999999999999", "x", "+1"] {
                check(&format!("GET /{root}/{none} HTTP/1.1"), "404");
            }
        }
        check_form("POST /controls/3 HTTP/1.1", "reset=all", "404");
        check("POST /video_feed/2 HTTP/1.1", "405");
        check("POST /photo?camera=0 HTTP/1.1", "404");
        check("POST /photo?camera=3 HTTP/1.1", "404");
        for wrong in ["", "x", "-1", "%2B1", "1.0"] {
            check(&format!("POST /photo?camera={wrong} HTTP/1.1"), "400");
            check_form("POST /photo HTTP/1.1", &format!("camera={wrong}"), "400");
        }
    }

    #[test]
    fn only_pages_of_this_site_press_its_buttons() {
        let hosts = Hosts::new(&["cam.example.org".into(), "*".into()], "neighbour");
        let post = |fields: &str| {
            let bytes = format!("POST /photo HTTP/1.1\r\nHost: pi:5000\r\n{fields}\r\n");
            let mut request = parse(bytes.as_bytes()).unwrap().unwrap().0.request;
            request.may_change = true;
            match route(&request, &hosts, 1) {
                Action::Photo { .. } => "photo",
                Action::Reply(response) => response.status.code(),
                _ => "something else",
            }
        };
        for fields in [
            "",
            "Sec-Fetch-Site: same-origin\r\n",
            "Sec-Fetch-Site: none\r\n",
            "Origin: http://pi:5000\r\n",
            "Origin: HTTP://PI:5000\r\n",
            "Origin: https://cam.example.org\r\n",
            "Sec-Fetch-Site: same-origin\r\nOrigin: http://behind.a.proxy\r\n",
        ] {
            assert_eq!(post(fields), "photo", "{fields}");
        }
        for fields in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\nOrigin: http://pi:5000\r\n",
            "Origin: null\r\n",
            "Origin: http://pi\r\n",
            "Origin: http://neighbour:9000\r\n",
            "Origin: http://evil.example\r\n",
            "Origin: http://pi:5000.evil.example\r\n",
            "Origin: http://evil.example/http://pi:5000\r\n",
        ] {
            assert_eq!(post(fields), "403", "{fields}");
        }
    }

    #[test]
    fn only_names_that_nobody_outside_can_give_us_are_served() {
        let hosts = Hosts::new(&["cam.example.org".into(), "*.my.net".into()], "pi.corp.example");
        let allow = |host: &str| hosts.allow(host);
        for host in [
            "192.168.1.5",
            "192.168.1.5:5000",
            "[::1]:5000",
            "[fe80::1]",
            "::1",
            "pi",
            "pi:5000",
            "pi.local",
            "PI.LOCAL:80",
            "pi.local.",
            "a.home.arpa",
            "x.lan",
            "cam.example.org",
            "Cam.Example.Org:5000",
            "a.b.my.net",
            "pi.corp.example",
            "localhost:5000",
            "",
        ] {
            assert!(allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "cam.example.org.evil.example",
            "my.net",
            "xmy.net",
            "local.evil.com",
            "192.168.1.5.evil.com",
            "evil.com:5000",
            "pi.local.evil.com",
        ] {
            assert!(!allow(host), "{host}");
        }
        assert!(Hosts::new(&["*".into()], "").allow("evil.example"));
    }
}
