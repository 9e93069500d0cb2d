//! File systems that a test mounts for itself: a small disk that gets full, a folder that cannot
//! be written. Tests run as root; where mounting is refused, they fail and do not skip.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is mounted on a folder or a file, until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// A disk of its own in memory, with room for so many KiB.
    #[track_caller]
    pub fn disk(folder: &Path, kib: u32) -> Mount {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs", name(folder)]);
        Mount(folder.to_owned())
    }

    /// Mounted anew with another option: `ro`, `rw`.
    #[track_caller]
    pub fn remount(&self, option: &str) {
        run("mount", &["-o", &format!("remount,{option}"), name(&self.0)]);
    }

    /// The same files, which cannot be changed.
    #[track_caller]
    pub fn read_only(folder: &Path) -> Mount {
        run("mount", &["--bind", name(folder), name(folder)]);
        let mount = Mount(folder.to_owned());
        run("mount", &["-o", "remount,bind,ro", name(folder)]);
        mount
    }

    /// A file that cannot be removed.
    #[track_caller]
    pub fn pinned(file: &Path) -> Mount {
        run("mount", &["--bind", name(file), name(file)]);
        Mount(file.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left may still have the folder open.
        let _ = Command::new("umount").args(["--lazy", name(&self.0)]).status();
    }
}

fn name(folder: &Path) -> &str {
    folder.to_str().expect("a folder with a plain name")
}

#[track_caller]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {complaint}");
}
