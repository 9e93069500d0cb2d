//! HTTP/1.0 and HTTP/1.1 as a machine without a socket, a file or a clock.
//!
//! Bytes and answers go in, wants and bytes come out; `net` moves them. RFC 9110, RFC 9112.

pub mod conn;
pub mod origins;
pub mod outbox;
pub mod page;
pub mod phrases;
pub mod request;
pub mod response;
pub mod viewing;

use std::time::{Instant, SystemTime};

/// The time of one turn, taken once by the loop: nobody else reads a clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For dates that people read.
    pub wall: SystemTime,
}
