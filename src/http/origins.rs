//! Pages of other origins that may read this site (`--allow-origin`): what a browser is told of
//! them (CORS, in the Fetch standard), and who may show our pages in a frame. Pure.

use super::page::{FRAME_POLICY, POLICY};
use super::request::Request;
use super::response::Response;

/// A camera is private: without an option, pages of other origins can show its pictures (`img`
/// asks nobody), but not read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// As browsers write them: scheme, host and port if it is not the scheme's. Bound: the
    /// operator's list.
    allowed: Vec<String>,
    /// Names and passwords are in use.
    asks: bool,
}

/// Request fields that a page may set: what programs send that read streams and pictures.
const FIELDS: &str = "Authorization, Cache-Control, Content-Type, If-Modified-Since, \
    If-None-Match, Pragma, Range, X-Requested-With";
/// Seconds that a browser may remember a preflight.
const REMEMBERED: &str = "7200";

impl Origins {
    /// Those that may read; `asks`: with a name and a password only.
    pub fn new(allowed: &[String], asks: bool) -> Origins {
        Origins { allowed: allowed.to_vec(), asks }
    }

    /// Whether a page there may read.
    pub fn allow(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == "*" || allowed == origin)
    }

    /// Tell the browser of who asked what its page may read of this answer.
    pub fn stamp(&self, response: &mut Response, request: &Request) {
        if self.allowed.is_empty() {
            return;
        }
        let all = self.allowed.iter().any(|allowed| allowed == "*");
        for (name, value) in &mut response.fields {
            if *name == POLICY && value.ends_with(FRAME_POLICY) {
                let origins = if all { "*".to_owned() } else { self.allowed.join(" ") };
                value.push(' ');
                value.push_str(&origins);
            }
        }
        response.by_origin = !all;
        let mut add = |name, value: &str| response.fields.push((name, value.to_owned()));
        let Some(origin) = request.origin.as_deref().filter(|origin| self.allow(origin)) else {
            return;
        };
        // A page of anybody's never reads with the password of who looks at it.
        add("Access-Control-Allow-Origin", if all { "*" } else { origin });
        if self.asks && !all {
            add("Access-Control-Allow-Credentials", "true");
        }
        if request.is_preflight {
            add("Access-Control-Allow-Methods", "GET, HEAD");
            add("Access-Control-Allow-Headers", FIELDS);
            add("Access-Control-Max-Age", REMEMBERED);
        } else {
            add("Access-Control-Expose-Headers", "X-Timestamp");
        }
    }
}
