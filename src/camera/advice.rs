//! What can be done about a camera that cannot be used: who has it, which group may open it, which
//! cameras there are instead.
//!
//! To find that out takes a while: all processes are looked through, or all cameras opened. So it
//! is done once for as long as the error stays the same.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::process::geteuid;

use super::v4l2::{Device, Verdict, nodes};
use crate::error::{Error, Reason, Result};
use crate::holder::{Holders, own_service};
use crate::limits::NAMED_CAMERAS_MAX;

/// An error, and what can be done about it. Prints as both. Bound: the code's sentences, with at
/// most `HOLDERS_MAX` programs or `NAMED_CAMERAS_MAX` cameras in them.
pub struct Advice {
    error: String,
    /// Empty if there is nothing to be said.
    remedy: String,
    /// Those who have the device that is busy.
    holders: Option<Holders>,
}

impl Advice {
    pub fn on(error: &Error) -> Advice {
        let path = Path::new(error.subject());
        let source = error.source();
        let mut holders = None;
        let remedy = match (source.raw_os_error(), source.kind()) {
            _ if !path.is_absolute() => String::new(), // it is no device's
            (Some(libc::EBUSY), _) => holders.insert(Holders::of_device(path)).to_string(),
            (Some(libc::EACCES), _) => way_in(path),
            (Some(libc::EPERM), _) => {
                "the container or the service does not let the program have it (DeviceAllow=)"
                    .into()
            }
            // Not a camera: by its path, by its answers, or by what it says of itself.
            (Some(libc::ENOENT | libc::ENOTTY | libc::EISDIR), _)
            | (None, io::ErrorKind::Unsupported) => others(path),
            _ => String::new(),
        };
        Advice { error: error.to_string(), remedy, holders }
    }

    /// Whether it is still what is to be said of `error`.
    pub fn fits(&self, error: &Error) -> bool {
        self.error == error.to_string() && self.holders.as_ref().is_none_or(Holders::stay)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = if self.remedy.is_empty() { "" } else { "; " };
        write!(f, "{}{stop}{}", self.error, self.remedy)
    }
}

/// Refuse a path that will never be a camera's. What is not there may come yet.
pub fn check_path(path: &Path) -> Result<()> {
    let what = match fs::metadata(path).map(|found| found.file_type()) {
        Ok(found) if found.is_dir() => "a folder",
        Ok(found) if !found.is_char_device() => "a file",
        _ => return Ok(()),
    };
    // A preloaded camera stands in for whatever is at the path.
    if Device::open(path).is_ok() {
        return Ok(());
    }
    let reason = format!("it is {what} and no camera; {}", others(path));
    Err(Error::found("use", path.display(), reason))
}

/// The cameras that can be used in place of `path`.
fn others(path: &Path) -> String {
    let cameras = nodes().into_iter().filter(|node| node != path);
    let cameras = cameras.flat_map(|node| Device::open(&node));
    let cameras = cameras.filter(|device| device.verdict == Verdict::Camera);
    let names: Vec<String> = cameras.map(|device| device.to_string()).collect();
    match names.len() {
        0 => "no other camera is here, as pistream --list-cameras tells".to_owned(),
        n if n > NAMED_CAMERAS_MAX => {
            format!("pistream --list-cameras names the {n} that are here")
        }
        _ => format!("here is {}", names.join(" and ")),
    }
}

// ---- permission -----------------------------------------------------------------------------

/// A node that may not be opened, and who wants to.
struct Denied<'a> {
    path: &'a Path,
    mode: u32,
    owner: u32,
    group: u32,
    user: u32,
    /// The system service that we are. Bound: the kernel's, of a file's name.
    service: Option<String>,
}

/// How somebody gets in whom the device at `path` refused.
fn way_in(path: &Path) -> String {
    let node = match fs::metadata(path) {
        Ok(node) => node,
        Err(error) => return format!("its folder is closed to us: {}", Reason(&error)),
    };
    let (mode, owner, group) = (node.mode(), node.uid(), node.gid());
    let (user, service) = (geteuid().as_raw(), own_service());
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let denied = Denied { path, mode, owner, group, user, service };
    denied.way_in(&read("/etc/passwd"), &read("/etc/group"))
}

impl Denied<'_> {
    /// By the texts of /etc/passwd and /etc/group.
    fn way_in(&self, users: &str, groups: &str) -> String {
        if self.user == 0 {
            return "the container or the service does not let the program have it".to_owned();
        }
        let user = name(users, self.user);
        if self.mode & 0o060 != 0o060 {
            let (path, owner) = (self.path.display(), name(users, self.owner));
            return format!(
                "only {owner} may use it; to let the group video: sudo chgrp video {path}; \
                 sudo chmod g+rw {path}"
            );
        }
        let again = match &self.service {
            Some(unit) => format!("sudo systemctl restart {unit}"),
            None => "log in again, and start pistream again".to_owned(),
        };
        let group = name(groups, self.group);
        let members = entry(groups, self.group).and_then(|fields| fields.get(3).copied());
        match members.is_some_and(|members| members.split(',').any(|member| member == user)) {
            true => format!("{user} is in the group {group} from the next start on: {again}"),
            false => {
                format!("the group {group} may: sudo usermod -aG {group} {user}; then {again}")
            }
        }
    }
}

/// The fields of the entry with this number, of /etc/passwd or /etc/group.
fn entry(file: &str, number: u32) -> Option<Vec<&str>> {
    let number = number.to_string();
    let mut entries = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find(|fields| fields.get(2).is_some_and(|field| *field == number))
}

/// What it is called there; its number if it is not there.
fn name(file: &str, number: u32) -> String {
    entry(file, number).map_or_else(|| number.to_string(), |fields| fields[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000:,,,:/home/pi:/bin/bash\n";

    fn denied() -> Denied<'static> {
        let path = Path::new("/dev/video0");
        Denied { path, mode: 0o20660, owner: 0, group: 44, user: 1000, service: None }
    }

    #[track_caller]
    fn check(denied: Denied, groups: &str, parts: &[&str]) {
        let said = denied.way_in(USERS, groups);
        for part in parts {
            assert!(said.contains(part), "no {part:?} in {said:?}");
        }
        assert!(!said.contains('\n') && said.len() < 160, "{said}");
    }

    #[test]
    fn who_may_not_open_a_camera_is_told_which_group_to_join() {
        let groups = "root:x:0:\nvideo:x:44:anna,otto\n";
        check(denied(), groups, &["the group video", "sudo usermod -aG video pi", "log in again"]);
        let service = Some("pistream".to_owned());
        let told = ["sudo usermod -aG video pi", "sudo systemctl restart pistream"];
        check(Denied { service, ..denied() }, groups, &told);
        check(denied(), "video:x:44:anna,pi\n", &["pi is in the group video", "log in again"]);
        check(denied(), "", &["sudo usermod -aG 44 pi"]);
        check(Denied { user: 7, ..denied() }, groups, &["sudo usermod -aG video 7"]);
        let closed = Denied { mode: 0o20600, ..denied() };
        check(closed, groups, &["only root", "sudo chgrp video /dev/video0"]);
        check(Denied { user: 0, ..denied() }, groups, &["container"]);
    }

    #[test]
    fn an_advice_is_for_one_error() {
        let error = |errno| Error::new("open", "/dev/x", io::Error::from_raw_os_error(errno));
        let advice = Advice::on(&error(libc::EPERM));
        assert!(advice.fits(&error(libc::EPERM)) && !advice.fits(&error(libc::EIO)));
        assert!(advice.to_string().contains("not permitted; the container"), "{advice}");
        assert_eq!(Advice::on(&error(libc::EIO)).to_string(), "open /dev/x: Input/output error");
        let busy = Advice::on(&error(libc::EBUSY)).to_string();
        assert!(busy.ends_with("another program has it; sudo fuser -v /dev/x names it"), "{busy}");
    }

    #[test]
    fn holders_are_looked_for_once_and_again_when_they_have_gone() {
        let file = std::env::temp_dir().join(format!("pistream-advice-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        let file = fs::canonicalize(file).unwrap();
        let error = Error::new("open", file.display(), io::Error::from_raw_os_error(libc::EBUSY));
        let unknown = Advice::on(&error);
        let mut holder = std::process::Command::new("sleep")
            .arg("1000")
            .stdin(fs::File::open(&file).unwrap())
            .spawn()
            .unwrap();
        assert!(unknown.fits(&error), "it would be looked for at each try");
        let known = Advice::on(&error);
        let named = format!("sleep (process {}) has it", holder.id());
        assert!(known.to_string().contains(&named), "{known}");
        assert!(known.fits(&error));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(!known.fits(&error), "it has gone");
        fs::remove_file(file).unwrap();
    }
}
