//! What the kernel lets us have of the machine.

use std::path::{Path, PathBuf};

use super::read_text;
use crate::limits::MEMORY_FILE_BYTES_MAX;

/// Bytes of memory that there are for us: the machine's, or what our control group may use.
pub fn memory() -> u64 {
    let machine = read("/proc/meminfo".as_ref()).and_then(|text| total(&text));
    let groups = read("/proc/self/cgroup".as_ref()).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| limit_of(Path::new("/sys/fs/cgroup"), line));
    machine.into_iter().chain(limits).min().unwrap_or(u64::MAX)
}

fn read(path: &Path) -> Option<String> {
    read_text(path, MEMORY_FILE_BYTES_MAX).ok()
}

/// Bytes, from a text like `MemTotal:  437856 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the control group in a line like `0::/a/b` (or `4:memory:/a/b`, of the first
/// version) and of those that it is in. Inside of a container the path may lead nowhere, but the
/// container's own limit stands at the root.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    let files = groups.map(|group| root.join(group).join(file));
    // The word "max" is no number.
    files.filter_map(|file: PathBuf| read(&file)?.trim_end().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(files: &[(&str, &str)]) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("pistream-groups-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for (name, content) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], line: &str, expect: Option<u64>) {
        let root = groups(files);
        assert_eq!(limit_of(&root, line), expect, "{line} with {files:?}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let files = [("a/memory.max", "100\n"), ("a/b/memory.max", "max\n")];
        check(&files, "0::/a/b", Some(100));
        check(&files, "0::/a", Some(100));
        check(&files, "0::/", None);
        check(&files, "0::/elsewhere", None);
        let files = [("memory.max", "70\n")];
        check(&files, "0::/", Some(70));
        check(&files, "0::/docker/0123/service", Some(70));
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "16777216\n"),
        ];
        check(&files, "4:memory:/a", Some(16_777_216));
        check(&files, "4:hugetlb,memory:/a/b", Some(16_777_216));
        check(&files, "3:cpuset:/a", None);
        check(&files, "nonsense", None);
    }

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(total("MemTotal:         437856 kB\nMemFree: 1 kB\n"), Some(448_364_544));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!((1 << 20..1 << 50).contains(&memory()), "{}", memory());
    }
}
