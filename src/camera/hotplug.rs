//! News of video nodes, from inotify on `/dev`: no timer looks for cameras.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use crate::limits::HOTPLUG_BYTES;

#[derive(Debug)]
pub struct Hotplug {
    inotify: OwnedFd,
}

impl Hotplug {
    /// Watch from now on. A node's creation is news, and so is the change of its group and
    /// mode, which udev makes a moment later and which lets us in.
    pub fn new() -> io::Result<Hotplug> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        add_watch(
            &inotify,
            "/dev",
            WatchFlags::CREATE | WatchFlags::ATTRIB | WatchFlags::MOVED_TO,
        )?;
        Ok(Hotplug { inotify })
    }

    /// Becomes readable with news of `/dev`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Take the news; whether some of it is of a video node.
    pub fn take_news(&self) -> bool {
        let mut space = [MaybeUninit::uninit(); HOTPLUG_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut space);
        let mut news = false;
        while let Ok(event) = reader.next() {
            // No name: the queue ran over, and anything may have happened.
            let name = event.file_name().map(|name| name.to_bytes());
            news |= name.is_none_or(|name| name.starts_with(b"video"));
        }
        news
    }
}
