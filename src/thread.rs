//! What the threads beside the loop have in common: how they stand back, how they wake the loop.

use mio::Waker;
use rustix::process::nice;

use crate::error::{Error, Reason};

/// Let the others go first when cores are short, by so much; `who` says so if it cannot be.
pub fn stand_back(by: i32, who: &str) {
    if let Err(errno) = nice(by) {
        log::debug!("stand back in {who}: {}", Reason(&errno.into()));
    }
}

/// Tell the loop that something was left for it.
pub fn wake(waker: &Waker) {
    if let Err(source) = waker.wake() {
        log::error!("{}", Error::new("wake", "the loop", source));
    }
}
