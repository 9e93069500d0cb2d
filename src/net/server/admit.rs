//! Who asks, and whether the house listens: address, name and password, the page he asks from.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Server;
use crate::access::{Role, Verdict};
use crate::http::Now;
use crate::http::request::{Method, Request};
use crate::http::response::{Response, Status};
use crate::limits::ORIGINS_NAMED_MAX;
use crate::net::world::World;

impl<W: World> Server<W> {
    /// Note what is known of who asks; whether the request is to be worked on now. If not, it was
    /// refused, or it waits until its password has been worked out.
    pub(super) fn admit(&mut self, seat: usize, now: Now) -> bool {
        let Some(peer) = self.peers.get_mut(seat) else { return false };
        let ticket = peer.ticket(seat);
        let address = peer.address.ip();
        let Some(request) = peer.conn.request_mut() else { return false };
        if request.path.as_deref() == Some(&self.base_path) {
            let sentence = "The site is in that folder.";
            let there = format!("{}/", self.base_path);
            let moved = Response::sentence(Status::MovedPermanently, sentence);
            peer.conn.answer(moved.field("Location", there), now);
            return false;
        }
        request.enter(&self.base_path);
        peer.behind = client(address, request, &self.proxies);
        let client = peer.behind.unwrap_or(address);
        // A browser sends no password with a preflight, and it is told nothing. A page of a strange
        // name that leads here may not try passwords: it is refused for its name.
        let open = request.method == Method::Options
            || request.path.as_deref() == Some("/healthz")
            || !self.hosts.are_asked(request);
        let verdict = match open {
            true => Verdict::Known(Role::Viewer),
            false => {
                let sent = request.authorization.as_deref();
                self.access.check(sent, client, ticket, now.instant)
            }
        };
        let refusal = match verdict {
            Verdict::Known(role) => {
                request.may_change = role == Role::Operator;
                self.note_origin(seat);
                return true;
            }
            Verdict::Waits => return false,
            Verdict::Unknown => {
                Response::sentence(Status::Unauthorized, "This site wants a name and a password.")
                    .field("WWW-Authenticate", "Basic realm=\"pistream\", charset=\"UTF-8\"")
            }
            Verdict::Later(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let sentence = "Too many wrong passwords; try again later.";
                Response::sentence(Status::TooManyRequests, sentence)
                    .field("Retry-After", seconds.to_string())
            }
        };
        peer.conn.answer(refusal, now);
        false
    }

    /// Say once of each page elsewhere that it is not let read, and how it would be.
    fn note_origin(&mut self, seat: usize) {
        let Some(request) = self.peers[seat].conn.request() else { return };
        let Some(origin) = request.origin.as_deref().filter(|origin| *origin != "null") else {
            return;
        };
        let known = self.hosts.is_own_origin(request) || self.origins.allow(origin);
        let said = self.refused_origins.iter().any(|said| said == origin);
        if known || said || self.refused_origins.len() >= ORIGINS_NAMED_MAX {
            return;
        }
        let shown: String = origin.chars().flat_map(char::escape_default).take(200).collect();
        log::warn!("a page of {shown} may not read this site; --allow-origin {shown} would let it");
        self.refused_origins.push(origin.to_owned());
    }
}

/// For whom a trusted proxy asks: the nearest address that is none of a trusted one's. Each adds
/// whom it asks for at the end; what stands before that, anybody may have written.
fn client(address: IpAddr, request: &Request, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&address) {
        return None;
    }
    let mut client = None;
    for entry in request.forwarded_for.as_deref()?.rsplit(',') {
        let Some(address) = address_in(entry.trim()) else { break };
        client = Some(address);
        if !is_trusted(&address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: some with a port, some of IPv6 in brackets.
fn address_in(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_matches(['[', ']']).parse::<IpAddr>();
    let with_port = || entry.parse::<std::net::SocketAddr>().map(|address| address.ip());
    bare.or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::parse;

    #[track_caller]
    fn check(address: &str, forwarded_for: &str, expect: Option<&str>) {
        let head =
            format!("GET / HTTP/1.1\r\nHost: pi\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n");
        let request = parse(head.as_bytes()).unwrap().unwrap().0.request;
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        let found = client(address.parse().unwrap(), &request, &trusted);
        assert_eq!(found, expect.map(|text| text.parse().unwrap()), "{address} {forwarded_for}");
    }

    #[test]
    fn only_trusted_proxies_say_for_whom_they_ask() {
        check("192.0.2.1", "198.51.100.7", None);
        check("127.0.0.1", "198.51.100.7", Some("198.51.100.7"));
        check("127.0.0.1", "203.0.113.9, 198.51.100.7", Some("198.51.100.7"));
        check("127.0.0.1", "198.51.100.7, 10.1.2.3", Some("198.51.100.7"));
        check("127.0.0.1", "10.1.2.3", Some("10.1.2.3"));
        check("fd00::1", "[2001:db8::5]:4711", Some("2001:db8::5"));
        check("10.0.0.1", "198.51.100.7:99", Some("198.51.100.7"));
        check("127.0.0.1", "198.51.100.7, unknown, 10.1.2.3", Some("10.1.2.3"));
        check("127.0.0.1", "unknown", None);
        check("127.0.0.1", "", None);
    }
}
