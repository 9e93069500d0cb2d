//! Hostile bytes: what the targets of `tests/fuzz` promise, for their seeds and for random changes
//! of them, which are the same each time. An input that breaks something is kept, and said.

#[path = "fuzz/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use fuzz::Dice;

type Target = fn(&[u8]);

/// Bytes of an input that changes have made.
const INPUT_BYTES_MAX: usize = 8 * 1024;

#[test]
fn any_bytes_are_a_request_or_a_refusal() {
    try_all("request", fuzz::request::run, 20_000);
}

#[test]
fn any_bytes_from_a_client_are_answered_the_same_however_they_are_cut() {
    try_all("conn", fuzz::conn::run, 1000);
}

#[test]
fn any_bytes_from_a_camera_are_mended_or_dropped() {
    try_all("jpeg", fuzz::jpeg::run, 20_000);
}

#[test]
fn any_note_is_a_page_in_which_nothing_runs() {
    try_all("markdown", fuzz::markdown::run, 5000);
}

#[test]
fn any_name_stays_in_its_folder() {
    try_all("names", fuzz::names::run, 3000);
    fuzz::names::clear();
}

#[test]
fn any_bytes_in_a_pipe_are_the_same_pictures_however_they_are_cut() {
    try_all("pipe", fuzz::pipe::run, 8000);
}

/// The seeds, and `count` changes of them; in the long run twenty times as many, and few for Miri,
/// which is slow.
fn try_all(name: &str, target: Target, count: usize) {
    let long = std::env::var_os("PISTREAM_LONG").is_some_and(|value| value == "1");
    let count = if cfg!(miri) { count / 500 } else { count };
    let count = if long { 20 * count } else { count };
    let (seeds, words) = (seeds(name), words(name));
    assert!(seeds.len() >= 5 && words.len() >= 5, "{name} has seeds and words");
    for seed in &seeds {
        check(name, target, seed);
    }
    let mut dice = Dice::of(name.as_bytes());
    for _ in 0..count {
        check(name, target, &changed(&seeds, &words, &mut dice));
    }
    println!("{name}: {} seeds and {count} changes of them", seeds.len());
}

fn check(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(|| target(input)) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        let kept = fs::write(&path, input).map(|()| path.display().to_string());
        println!("{name} is broken by b\"{}\"", input.escape_ascii());
        println!("kept, to become a seed below tests/fuzz/seeds/{name}: {kept:?}");
        resume_unwind(panic);
    }
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind)
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder("seeds").join(name)).expect("the folder of seeds").flatten();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.sort_unstable();
    files.iter().map(|file| fs::read(file).expect("a seed")).collect()
}

/// A dictionary in libFuzzer's form: a word in quotes a line, with `\xNN`, `\\` and `\"` in it.
fn words(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder("dictionaries").join(name)).expect("a dictionary");
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| word(line).unwrap_or_else(|| panic!("{name}: {line}"))).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut word = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        word.push(match (first, rest.first()) {
            (b'\\', Some(b'x')) => {
                let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
                rest = &rest[3..];
                u8::from_str_radix(digits, 16).ok()?
            }
            (b'\\', Some(escaped)) => {
                rest = &rest[1..];
                *escaped
            }
            (plain, _) => *plain,
        });
    }
    Some(word)
}

/// One of the seeds after a few changes.
fn changed(seeds: &[Vec<u8>], words: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..1 + dice.roll(5) {
        change(&mut bytes, seeds, words, dice);
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.roll(bytes.len() + 1);
    let end = at + dice.roll((bytes.len() - at).min(64) + 1);
    let (word, other) = (&words[dice.roll(words.len())], &seeds[dice.roll(seeds.len())]);
    match dice.roll(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
        1 if at < bytes.len() => {
            let odd =
                [0, 9, 10, 12, 13, 32, 37, 47, 127, 128, 0xd8, 0xd9, 255, dice.roll(256) as u8];
            bytes[at] = odd[dice.roll(odd.len())];
        }
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let times = [2, 100][dice.roll(2)];
            let again = bytes[at..end].repeat(1 + dice.roll(times));
            drop(bytes.splice(at..at, again));
        }
        5 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[dice.roll(other.len() + 1)..]);
        }
        6 => drop(bytes.splice(at..at, other.iter().copied())),
        7 => {
            let end = (at + word.len()).min(bytes.len());
            drop(bytes.splice(at..end, word.iter().copied()));
        }
        _ => drop(bytes.splice(at..at, word.iter().copied())),
    }
}
