//! Bugs planted into a copy of the loop, of each kind that its simulation is there for
//! (`src/net/server/simulation.rs`): it finds them all, in the long run.

mod util;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In a file, one text in place of another, and what the simulation says of that.
struct Bug {
    file: &'static str,
    text: &'static str,
    planted: &'static str,
    found: &'static str,
}

const BUGS: [Bug; 13] = [
    Bug {
        file: "net/server.rs",
        text: "Answer::Settings(_) => {}\n            }\n            self.touch(seat);",
        planted: "Answer::Settings(_) => {}\n            }",
        found: "forgotten with work left",
    },
    Bug {
        file: "net/peer.rs",
        text: "Ok(received) => self.conn.receive(&buffer[..received], now),",
        planted: "Ok(received) => {
                    self.readable = received == room;
                    self.conn.receive(&buffer[..received], now)
                }",
        found: "forgotten with bytes to read",
    },
    Bug {
        file: "net/peer.rs",
        text: "self.writable = sent == owed;",
        planted: "self.writable = sent == owed && owed > 1000;",
        found: "forgotten with room to write",
    },
    Bug {
        file: "net/server.rs",
        text: "(peer.awaits_change, peer.lent) = (false, 0);",
        planted: "peer.awaits_change = false;",
        found: "nothing is lent after the answer",
    },
    Bug {
        file: "net/server/feed.rs",
        text: "for seat in self.seats_that(|peer| peer.watches(camera)) {
            self.snap(seat, now);
            self.touch(seat);",
        planted: "for seat in self.seats_that(|peer| peer.watches(camera)) {
            self.snap(seat, now);",
        found: "forgotten with", // work left, or without its frame: whichever guest comes first
    },
    Bug {
        file: "net/server.rs",
        text: "self.note_deadline(seat);\n                return;",
        planted: "return;",
        found: "its deadline forgotten",
    },
    Bug {
        file: "net/server.rs",
        text: "GUESTS_FAULTS.contains(&errno) => {}",
        planted: "GUESTS_FAULTS.contains(&errno) => {
                    self.doors[door] = false;
                    return;
                }",
        found: "forgotten with [",
    },
    Bug {
        file: "net/server.rs",
        text: "(peer.guest == ticket.guest).then_some(ticket.seat)",
        planted: "(peer.guest > 0).then_some(ticket.seat)",
        found: "another's answer",
    },
    Bug {
        file: "http/conn.rs",
        text: "viewing.repeats(&part.frame) && self.outbox.is_empty()",
        planted: "viewing.repeats(&part.frame)",
        found: "more than a frame is queued",
    },
    Bug {
        file: "http/conn.rs",
        text: "if self.outbox.is_empty() && pulled.is_empty() =>",
        planted: "if pulled.is_empty() =>",
        found: "written to after it was shut",
    },
    Bug {
        file: "net/server.rs",
        text: "if !self.touched.is_empty() {\n            return Some(Duration::ZERO);",
        planted: "if !self.peers.is_empty() {\n            return Some(Duration::ZERO);",
        found: "it spins",
    },
    Bug {
        file: "net/server.rs",
        text: "self.held -= peer.held;",
        planted: "",
        found: "memory that guests make us hold",
    },
    Bug {
        file: "net/server/feed.rs",
        text: "self.forget_past();",
        planted: "",
        found: "bytes of the past are held",
    },
];

impl Bug {
    /// The file, and what it holds: the text, once.
    fn place(&self, root: &Path) -> (PathBuf, String) {
        let file = root.join("src").join(self.file);
        let whole = fs::read_to_string(&file).expect(self.file);
        assert_eq!(whole.matches(self.text).count(), 1, "{}: {}", self.file, self.text);
        (file, whole)
    }
}

/// A copy of the sources to plant into, built in a folder of its own.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn new() -> Copy {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("planted");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let _ = fs::remove_dir_all(root.join("src")); // what an interrupted run has left
        for part in ["src", "www", "md"] {
            copy(&ours.join(part), &root.join(part));
        }
        for file in ["Cargo.toml", "Cargo.lock"] {
            fs::copy(ours.join(file), root.join(file)).expect(file);
        }
        Copy { root }
    }

    /// What the simulation says of the copy; none: nothing is wrong.
    fn simulate(&self) -> Option<String> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--lib", "--locked", "simulation"]).current_dir(&self.root);
        command.env("CARGO_TARGET_DIR", self.root.join("target")).env("PISTREAM_TURNS", "500000");
        let output = command.output().expect("cargo");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("running 1 test"), "{said}");
        (!output.status.success()).then_some(said)
    }

    /// The same with a bug.
    fn simulate_with(&self, bug: &Bug) -> Option<String> {
        let (file, whole) = bug.place(&self.root);
        fs::write(&file, whole.replace(bug.text, bug.planted)).expect("room for a bug");
        let said = self.simulate();
        fs::write(&file, whole).expect("room without it");
        said
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).expect("a file");
        return;
    }
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        copy(&path, &to.join(path.file_name().expect("a name")));
    }
}

#[test]
fn the_simulation_finds_each_bug_that_is_planted() {
    if !util::long() {
        return; // what can be seen without building stands below
    }
    let copy = Copy::new();
    assert_eq!(copy.simulate(), None);
    for bug in &BUGS {
        let said = copy.simulate_with(bug);
        let found = said.as_ref().is_some_and(|said| said.contains(bug.found));
        assert!(found, "{} in place of {}: {}", bug.planted, bug.text, said.unwrap_or_default());
        println!("{}: {}", bug.file, bug.found);
    }
}

#[test]
fn each_bug_has_its_place() {
    for bug in &BUGS {
        bug.place(Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}
