//! The house's laws that a program can check: style is a test, not a wish. `md/house.md` has
//! the laws with their reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rooms in the order of imports: a file uses its own room and rooms further left.
const ROOMS: [&str; 18] = [
    "limits", "error", "thread", "memory", "holder", "config", "journal", "control", "frame",
    "jpeg", "http", "disk", "scale", "access", "camera", "route", "net", "main",
];
const LINE_CHARS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
/// Style sheets and scripts of all pages together. No page loads all of them; that of the controls
/// has 7 kB of its own, since it has a field for each kind of value, and sends while one slides.
const WWW_BYTES_MAX: u64 = 39_400;

/// A source file, its room, and its lines without the tests at the bottom; none of a file of tests.
struct Source {
    path: String,
    room: String,
    lines: Vec<String>,
    whole: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    assert!(found.len() > 15, "the tree is there");
    let mut sources: Vec<Source> = found.into_iter().map(|path| source(&root, &path)).collect();
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let below = |module: &String| {
            source.path.strip_prefix(module).is_some_and(|rest| rest.starts_with(['.', '/']))
        };
        if tests.iter().any(below) {
            source.lines.clear();
        }
    }
    sources
}

fn source(root: &Path, path: &Path) -> Source {
    let whole = fs::read_to_string(path).expect("a source file");
    let path = path.strip_prefix(root).expect("below src").display().to_string();
    let room = path.split(['/', '.']).next().unwrap_or_default().to_owned();
    let code = whole.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    Source { path, room, lines: code.lines().map(str::to_owned).collect(), whole }
}

/// The modules of a file that only tests have, as paths without an ending.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let mut lines = source.whole.lines();
    let mut modules = Vec::new();
    while lines.by_ref().any(|line| line == "#[cfg(test)]") {
        let next = lines.next().unwrap_or_default().trim_start_matches("pub ");
        let name = next.strip_prefix("mod ").and_then(|name| name.strip_suffix(';'));
        modules.extend(name.map(|name| format!("{folder}/{name}")));
    }
    modules
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, found),
            path if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            _ => {}
        }
    }
}

impl Source {
    /// Code lines with their numbers; comments are left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().enumerate().map(|(n, line)| (n + 1, line.as_str()));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Fail if a code line of the files chosen holds one of `words`.
fn forbid(law: &str, words: &[&str], chosen: impl Fn(&Source) -> bool) {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| chosen(source)) {
        for (n, line) in source.code() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("src/{}:{n}: {word}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{law}\n{}", broken.join("\n"));
}

#[test]
fn imports_go_to_the_left_only() {
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let own = ROOMS.iter().position(|room| *room == source.room);
        let own = own.unwrap_or_else(|| panic!("src/{} is in no known room", source.path));
        for (n, line) in source.code() {
            let uses = line.split("crate::").skip(1).chain(line.split("pistream::").skip(1));
            for rest in uses.filter(|_| !line.contains("macro_rules")) {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                let room = ROOMS.iter().position(|room| Some(*room) == name);
                let room = room.unwrap_or_else(|| panic!("src/{}:{n}: {line}", source.path));
                assert!(room <= own, "src/{}:{n} looks to the right: {}", source.path, line.trim());
            }
        }
    }
}

#[test]
fn the_loop_waits_only_in_poll() {
    forbid(
        "net/ may not sleep, lock or wait for a channel",
        &["sleep", ".lock(", ".recv(", "recv_timeout", ".join()"],
        |source| source.room == "net",
    );
    // A socket of this machine has a path, which is touched at the start and at the end.
    let has_paths = ["net/listen.rs", "net/socket.rs"];
    forbid("net/ may not touch files", &["std::fs", "fs::", "rustix::fs"], |source| {
        source.room == "net" && !has_paths.contains(&source.path.as_str())
    });
    let polls = |source: &Source| source.code().filter(|(_, l)| l.contains(".poll(")).count();
    let all: usize = sources().iter().map(polls).sum();
    assert_eq!(all, 1, "one poll in the house");
}

#[test]
fn http_and_route_are_pure() {
    forbid(
        "http/ and route.rs have no socket, file, thread, clock or log",
        &["std::net", "std::fs", "std::thread", "rustix", "mio::", "::now()", "log::", "env::var"],
        |source| ["http", "route"].contains(&source.room.as_str()),
    );
}

#[test]
fn one_owner_each() {
    forbid("sockets belong to net/", &["mio::net", "TcpStream", "TcpListener", "socket2"], |s| {
        s.room != "net"
    });
    // A socket of this machine has a path.
    forbid("files belong to disk/; camera/ has its devices", &["std::fs", "rustix::fs"], |s| {
        let sockets = ["net/listen.rs", "net/socket.rs"].contains(&s.path.as_str());
        !sockets && !["holder", "disk", "camera"].contains(&s.room.as_str())
    });
    // Before it serves.
    forbid("the loop looks through no processes", &["holder::"], |s| {
        s.room == "net" && s.path != "net/listen.rs"
    });
    forbid("the device belongs to camera/v4l2.rs", &["v4l::"], |s| s.path != "camera/v4l2.rs");
    forbid("ioctl is for the device, and for the gate", &["libc::ioctl"], |s| {
        !["camera/v4l2.rs", "net/gate.rs"].contains(&s.path.as_str())
    });
    forbid("ZIP belongs to disk/archive.rs", &["rawzip"], |s| s.path != "disk/archive.rs");
    forbid("EXIF and zones belong to disk/photo.rs", &["exif::", "tz::"], |s| {
        s.path != "disk/photo.rs"
    });
    forbid("turbojpeg belongs to jpeg.rs", &["turbojpeg"], |s| s.path != "jpeg.rs");
    forbid("httparse belongs to http/request.rs", &["httparse"], |s| s.path != "http/request.rs");
    forbid("pulldown-cmark belongs to disk/page.rs", &["pulldown_cmark"], |s| {
        s.path != "disk/page.rs"
    });
    forbid("mio belongs to net/; others hold its waker", &["mio::"], |s| {
        s.room != "net" && !s.lines.iter().all(|l| !l.contains("mio::") || l == "use mio::Waker;")
    });
}

#[test]
fn locks_are_known_and_no_queue_is_endless() {
    // The album's is the disk threads' alone; the loop does not meet it.
    forbid("no Mutex but the slot's and the album's", &["Mutex", "RwLock", "Condvar"], |s| {
        !["frame.rs", "disk/album.rs"].contains(&s.path.as_str())
    });
    // The log's queue counts bytes, not places.
    forbid(
        "queues between threads have a limit",
        &["mpsc::channel", " channel(", "Sender<"],
        |s| {
            let bounded =
                ["journal.rs", "frame.rs", "scale.rs", "access.rs", "camera/mod.rs", "disk/mod.rs"];
            !bounded.contains(&s.path.as_str())
        },
    );
    forbid("queues between threads have a limit", &[" channel("], |s| s.path != "journal.rs");
}

#[test]
fn numbers_that_bound_stand_in_limits() {
    let times = ["Duration::from_secs(", "Duration::from_millis(", "Duration::from_micros("];
    let mut broken = Vec::new();
    for source in
        sources().iter().filter(|s| !["limits.rs", "config.rs"].contains(&s.path.as_str()))
    {
        for (n, line) in source.code() {
            for time in times {
                let digits = line.split(time).nth(1).and_then(|rest| rest.chars().next());
                // A second is a unit, not a bound.
                let unit = line.contains("from_secs(1)")
                    || line.contains("from_micros(999)")
                    || line.contains("from_millis(1)");
                if digits.is_some_and(|c| c.is_ascii_digit()) && !unit {
                    broken.push(format!("src/{}:{n}: {}", source.path, line.trim()));
                }
            }
            let bound = ["_MAX: ", "_MIN: "].iter().any(|suffix| line.contains(suffix));
            if bound && line.trim_start().trim_start_matches("pub ").starts_with("const ") {
                broken.push(format!("src/{}:{n}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "bounds and times belong into limits.rs:\n{}", broken.join("\n"));
    let limits = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/limits.rs"));
    assert!(!limits.expect("limits.rs").contains("crate::"), "limits.rs imports nothing of ours");
}

/// Types that can grow.
const GROWING: [&str; 12] = [
    "Vec",
    "VecDeque",
    "HashMap",
    "HashSet",
    "BTreeMap",
    "BTreeSet",
    "BinaryHeap",
    "LinkedList",
    "Slab",
    "String",
    "Cow",
    "BytesMut",
];
/// Who else bounds what is kept, where it is no number of ours: what is given once at the start;
/// names that the kernel has room for; text that has one form.
const BOUNDED_BY: [&str; 3] = ["the operator's", "the kernel's", "the code's"];

/// Whether a comment names a bound: a number of `limits.rs`, or who else sees to it.
fn names_a_bound(comment: &str, limits: &[&str]) -> bool {
    let bound =
        ["Bound:", "at most `", "At most `"].iter().filter_map(|word| comment.find(word)).min();
    let Some(bound) = bound.map(|at| &comment[at..]) else { return false };
    let numbers: Vec<&str> = bound
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    let known = numbers.iter().all(|name| limits.contains(name));
    known && (!numbers.is_empty() || BOUNDED_BY.iter().any(|who| bound.contains(who)))
}

/// The comment that ends above line `n`, attributes of one line left out.
fn comment_above(lines: &[String], n: usize) -> String {
    let above = lines[..n].iter().rev().map(|line| line.trim());
    let block = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    let mut block: Vec<&str> = block.filter(|line| !line.starts_with("#[")).collect();
    block.reverse();
    block.iter().map(|line| line.trim_start_matches('/').trim()).collect::<Vec<_>>().join(" ")
}

/// Fields, statics and names of types that can grow and of which nothing says how far: neither
/// above them, nor above the type that they belong to.
fn endless(source: &Source, limits: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    // The type whose fields are being read: its indent, and whether it has a bound for all.
    let mut open: Option<(usize, bool)> = None;
    for (n, line) in source.lines.iter().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") || code.starts_with("#[") {
            continue;
        }
        let indent = line.len() - code.len();
        let is_bounded = || names_a_bound(&comment_above(&source.lines, n), limits);
        let grows = code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| GROWING.contains(&word));
        match open {
            Some((at, _)) if indent == at => open = None, // its closing bracket
            // A variant may be called so.
            Some((_, false)) if grows && code != "String," && !is_bounded() => {
                found.push(format!("src/{}:{}: {code}", source.path, n + 1));
            }
            Some(_) => {}
            None => {
                let item = code.trim_start_matches("pub").trim_start_matches("(crate)");
                let item = item.trim_start_matches("(super)").trim_start();
                let begins = ["struct ", "enum ", "union ", "static ", "type ", "thread_local"];
                if !begins.iter().any(|begin| item.starts_with(begin)) {
                    continue;
                }
                if code.ends_with(['{', '(']) {
                    open = Some((indent, is_bounded()));
                } else if grows && !is_bounded() {
                    found.push(format!("src/{}:{}: {code}", source.path, n + 1));
                }
            }
        }
    }
    assert!(open.is_none(), "src/{}: the check lost its way", source.path);
    found
}

/// The names of the numbers in `limits.rs`.
fn limits(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect()
}

#[test]
fn every_collection_says_how_far_it_grows() {
    let text = include_str!("../src/limits.rs");
    let limits = limits(text);
    assert!(limits.len() > 100, "the numbers were read");
    let found: Vec<String> = sources().iter().flat_map(|source| endless(source, &limits)).collect();
    let law = "what can grow says above it what bounds it: a number of limits.rs, the operator's \
         words, the kernel's names, the code's forms (`Bound: …`, or: at most `NUMBER`)";
    assert!(found.is_empty(), "{law}\n{}", found.join("\n"));
}

#[test]
fn a_collection_without_a_bound_is_found() {
    let check = |code: &str, expect: usize| {
        let lines: Vec<String> = code.lines().map(str::to_owned).collect();
        let source =
            Source { path: "x.rs".into(), room: "x".into(), lines, whole: code.to_owned() };
        assert_eq!(endless(&source, &["GUESTS_MAX"]).len(), expect, "{code}");
    };
    let one = |above: &str, field: &str| format!("pub struct A {{\n{above}\n    {field}\n}}");
    for field in ["a: Vec<u8>,", "pub a: Option<Arc<Mutex<HashMap<u8, u8>>>>,", "a: String,"] {
        check(&one("    /// Guests.", field), 1);
        check(&one("    /// Guests, at most `GUESTS_MAX`.", field), 0);
        check(&one("    /// Bound: one line of\n    /// the operator's.", field), 0);
        check(&one("    /// Bound: `GUESTS_MIN`.", field), 1); // there is no such number
        check(&one("    /// Bound: it is small.", field), 1);
        check(&one("    /// `GUESTS_MAX` is a number.", field), 1);
        check(&one("    // Bound: `GUESTS_MAX`.\n    a: u8,", field), 1); // that is another's
        check(&format!("/// Bound: `GUESTS_MAX`.\n{}", one("    b: u8,", field)), 0);
    }
    check("enum A {\n    Number,\n    String,\n}", 0);
    check("enum A {\n    Text(String),\n    Name { name: String },\n}", 2);
    check("struct A(Vec<u8>);\ntype B = BTreeMap<u8, u8>;\nstatic C: Mutex<String> = D;", 3);
    check("fn a() -> Vec<u8> {\n    let b: Vec<u8> = Vec::new();\n    b\n}", 0);
}

#[test]
fn unsafe_is_rare_and_explained() {
    forbid("unsafe has three homes", &["unsafe "], |source| {
        !["camera/v4l2.rs", "net/gate.rs", "memory.rs"].contains(&source.path.as_str())
    });
    for source in sources() {
        for (n, line) in source.code().filter(|(_, line)| line.contains("unsafe ")) {
            // The comment stands above the statement that holds the block.
            let above = source.lines[..n - 1].iter().rev().take(4);
            let explained = above
                .map(|l| l.trim())
                .any(|l| l.starts_with("// SAFETY:") || l.starts_with("/// # Safety"));
            let declares = line.contains("unsafe trait") || line.contains("unsafe extern");
            assert!(explained || declares, "src/{}:{n} has no SAFETY: {line}", source.path);
        }
    }
}

#[test]
fn nothing_unfinished_and_no_panics_by_laziness() {
    let words =
        [".unwrap()", ".expect(", "todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "allow(dead"];
    forbid("no panics by laziness, nothing unfinished", &words, |_| true);
    forbid("only main prints", &["println!", "print!("], |source| source.path != "main.rs");
}

#[test]
fn every_file_says_what_it_owns() {
    for source in sources() {
        assert!(source.whole.starts_with("//! "), "src/{} does not", source.path);
    }
}

#[test]
fn lines_and_functions_are_short() {
    for source in sources() {
        for (n, line) in source.whole.lines().enumerate() {
            let chars = line.chars().count();
            assert!(chars <= LINE_CHARS_MAX, "src/{}:{}: {chars} chars", source.path, n + 1);
        }
        // rustfmt ends a function at the indent that it began with.
        let mut open: Option<(usize, String, usize)> = None;
        for (n, line) in source.lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let indent = line.len() - trimmed.len();
            let begins = ["fn ", "pub fn ", "const fn ", "pub const fn "];
            let begins = begins.iter().any(|begin| trimmed.starts_with(begin));
            if begins && open.is_none() && !trimmed.ends_with(['}', ';']) {
                open = Some((n, trimmed.to_owned(), indent));
            }
            if let Some((start, name, at)) = &open
                && trimmed == "}"
                && indent == *at
            {
                let lines = n - start + 1;
                assert!(lines <= FUNCTION_LINES_MAX, "src/{}: {name}: {lines} lines", source.path);
                open = None;
            }
        }
        assert!(open.is_none(), "src/{}: the check lost its way: {open:?}", source.path);
    }
}

#[test]
fn the_pages_weigh_little() {
    let www = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/www")).expect("www/").flatten();
    let weighed = |path: &PathBuf| path.extension().is_some_and(|e| e == "css" || e == "js");
    let files: Vec<PathBuf> = www.map(|entry| entry.path()).filter(weighed).collect();
    assert!(files.len() >= 6, "the files are there");
    let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert!(bytes < WWW_BYTES_MAX, "CSS and JS together have {bytes} bytes");
}

/// A file of the checkout.
fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Dependencies as `Cargo.toml` names them, with the comment above each.
fn named_dependencies() -> Vec<(String, String)> {
    let manifest = text("Cargo.toml");
    let (mut section, mut above, mut named) = ("", "", Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies")
            && let Some((name, _)) = line.split_once(" = ")
        {
            named.push((name.to_owned(), above.to_owned()));
        }
        above = line;
    }
    assert!(named.len() >= 10, "the dependencies were read");
    named
}

#[test]
fn every_dependency_has_its_reason() {
    for (name, above) in named_dependencies() {
        assert!(above.starts_with('#'), "{name}: no reason above it");
    }
}

/// Lines of `cargo tree`: name and licence of what is built for this machine, without ourselves.
fn tree(edges: &str) -> BTreeSet<(String, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let arguments = ["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}|{l}"];
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--edges", edges])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let entry = |line: &str| {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
        let name = package.split(' ').next()?;
        (name != env!("CARGO_PKG_NAME")).then(|| (name.to_owned(), licence.to_owned()))
    };
    let found: BTreeSet<_> = lines.lines().filter_map(entry).collect();
    assert!(found.len() > 30, "the tree was read: {lines}");
    found
}

#[test]
fn the_list_of_dependencies_is_whole() {
    let list = text("md/dependencies.md");
    // In that file, what stands between backticks is a package.
    let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let lock = text("Cargo.lock");
    let locked: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .filter(|name| *name != env!("CARGO_PKG_NAME"))
        .collect();
    let missing: Vec<_> = locked.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&locked).collect();
    let law = "md/dependencies.md names what stands in Cargo.lock";
    assert!(missing.is_empty() && gone.is_empty(), "{law}; it lacks {missing:?}, and has {gone:?}");
    let cells = |name: &str| -> Vec<&str> {
        let row = list.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("md/dependencies.md has no row of {name}"));
        row.trim_matches('|').split(" | ").map(str::trim).collect()
    };
    for (name, _) in named_dependencies() {
        let cells = cells(&name);
        let filled = cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty());
        assert!(filled, "{name}: name, version, licence, what for, who cares for it: {cells:?}");
        let version = cells[1].split(',').next().unwrap_or_default();
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{name} {version} is not that of Cargo.lock");
    }
    for (name, licence) in tree("normal") {
        let cells = cells(&name);
        let licences: Vec<&str> = cells[2].split("; ").collect();
        assert!(licences.contains(&licence.as_str()), "{name} has {licence}, not {licences:?}");
    }
}

#[test]
fn every_licence_is_one_of_those_allowed() {
    let rules = text("scripts/deny.toml");
    let allowed = rules.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let allowed: Vec<&str> = allowed.expect("a list").split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains(&"MIT"), "the licences were read: {allowed:?}");
    // AND binds more loosely here than it may: what is refused wrongly is looked at by a person.
    let fits = |licence: &str| {
        licence.split(" AND ").all(|one| {
            let mut ways = one.trim_matches(['(', ')']).split(" OR ").flat_map(|w| w.split('/'));
            ways.any(|way| allowed.contains(&way.trim_matches(['(', ')', ' '])))
        })
    };
    assert!(fits("(MIT OR GPL-3.0) AND Zlib") && !fits("GPL-3.0") && !fits("MIT AND GPL-3.0"));
    for (name, licence) in tree("normal,build,dev") {
        let exception = format!("{{ crate = \"{name}\", allow = [\"{licence}\"] }}");
        let allowed = fits(&licence) || rules.contains(&exception);
        assert!(allowed, "{name}: {licence} is not in scripts/deny.toml");
    }
}
