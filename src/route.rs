//! (method, path) to what is asked of the house: the whole site on one screen. Pure.

use core::net::IpAddr;
use std::time::Duration;

use crate::disk::Task;
use crate::http::request::{Method, Request};
use crate::http::response::{Response, Status};

/// What a request asks of the house.
#[derive(Debug)]
pub enum Action {
    /// This answer.
    Reply(Response),
    /// Frames without end, at most so many a second.
    Stream { fps: Option<f64> },
    /// The next frame.
    Snapshot(Freshness),
    /// What the disk thread has to find.
    Disk(Task),
}

/// Which frame a snapshot may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// A frame that is there and not older than this is given at once.
    pub max_age: Option<Duration>,
    /// Wait for a settled exposure after a cold start.
    pub settled: bool,
}

/// Work out what `request` asks.
pub fn route(request: &Request, hosts: &Hosts) -> Action {
    if !request.host.as_deref().is_none_or(|host| hosts.allow(host)) {
        let sentence = "This site is not known by that name. If it should be, start pistream \
             with --host-name and the name.";
        return Action::Reply(Response::sentence(Status::Misdirected, sentence));
    }
    match request.method {
        Method::Get | Method::Head => {}
        Method::Options => return Action::Reply(Response::nothing().field("Allow", ALLOWED)),
        Method::Post | Method::Delete => {
            let refusal =
                Response::sentence(Status::MethodNotAllowed, "This can only be looked at.");
            return Action::Reply(refusal.field("Allow", ALLOWED));
        }
    }
    let action = request.query_value("action");
    match (request.path.as_deref(), action.as_deref()) {
        (Some("/video_feed" | "/stream" | "/stream.mjpg"), _) | (Some("/"), Some("stream")) => {
            stream(request)
        }
        (Some("/snapshot" | "/snapshot.jpg"), _) | (Some("/"), Some("snapshot")) => {
            snapshot(request)
        }
        (Some("/md"), _) => Action::Reply(
            Response::sentence(Status::MovedPermanently, "The notes are there.")
                .field("Location", "/md/"),
        ),
        (Some(path), _) => match path.strip_prefix("/md/") {
            Some(note) => {
                let raw = request.query_value("raw").is_some();
                Action::Disk(Task::OpenNote { path: note.to_owned(), raw })
            }
            None => Action::Disk(Task::OpenPage(path.to_owned())),
        },
        (None, _) => Action::Reply(Response::not_found()),
    }
}

const ALLOWED: &str = "GET, HEAD, OPTIONS";

fn stream(request: &Request) -> Action {
    let Ok(fps) = positive(request, "fps") else { return malformed("fps") };
    Action::Stream { fps }
}

fn snapshot(request: &Request) -> Action {
    let max_age = match request.query_value("max_age").map(|text| text.parse()) {
        None => None,
        Some(Ok(ms)) => Some(Duration::from_millis(ms)),
        Some(Err(_)) => {
            let sentence = "The parameter max_age must be a number of milliseconds.";
            return Action::Reply(Response::sentence(Status::BadRequest, sentence));
        }
    };
    let now = request.query_value("now").is_some_and(|value| value == "1");
    Action::Snapshot(Freshness { max_age, settled: max_age.is_none() && !now })
}

/// A query parameter that must be a number above zero if it is there.
fn positive(request: &Request, name: &str) -> Result<Option<f64>, ()> {
    let Some(text) = request.query_value(name) else { return Ok(None) };
    // No signs, exponents, infinities.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse().ok().filter(|n: &f64| plain && n.is_finite() && *n > 0.0);
    number.map(Some).ok_or(())
}

fn malformed(name: &str) -> Action {
    let sentence = format!("The parameter {name} must be a number above zero.");
    Action::Reply(Response::sentence(Status::BadRequest, &sentence))
}

/// The names that this site answers to. A page elsewhere that lets its own name point to our
/// address (DNS rebinding) could read the camera as if it were ours; so only names are served
/// that nobody outside can give us.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// `names`: `--host-name`s; `own`: this machine's full name.
    pub fn new(names: &[String], own: &str) -> Hosts {
        let names = names.iter().map(String::as_str).chain([own]);
        Hosts { names: names.filter(|n| !n.is_empty()).map(str::to_ascii_lowercase).collect() }
    }

    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = name_of(&host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let local = [".local", ".lan", ".home.arpa", ".internal", ".localhost"];
        is_address
            || !name.contains('.')
            || local.iter().any(|suffix| name.ends_with(suffix))
            || self.names.iter().any(|allowed| match allowed.strip_prefix('*') {
                Some("") => true,
                Some(suffix) => suffix.starts_with('.') && name.ends_with(suffix),
                None => name == allowed,
            })
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
        let found = match route(&request(head), &Hosts::default()) {
            Action::Reply(response) => response.status.code().to_owned(),
            Action::Stream { fps } => format!("stream {fps:?}"),
            Action::Snapshot(Freshness { max_age, settled }) => {
                format!("snapshot {max_age:?} {settled}")
            }
            Action::Disk(Task::OpenPage(path)) => format!("page {path}"),
            Action::Disk(Task::OpenNote { path, raw }) => format!("note {path} {raw}"),
            Action::Disk(Task::ReadChunk { .. }) => unreachable!("asked for by no request"),
        };
        assert_eq!(found, expect, "{head}");
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
