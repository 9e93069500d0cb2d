//! The power is cut while photos are taken, kept and deleted: what was answered is there for good,
//! and what was on its way is there whole or not at all.
//!
//! The kernel's dm-log-writes records all that reaches a disk, in its order; after each answer a
//! mark is set. Afterwards a disk is made that has the record up to some place, as a cut there
//! leaves it: with all that was flushed before, and, every other time, with only some of what was
//! not, since drives reorder what waits in their caches. The program starts on it, and must find
//! what its answers promised. Eight places a file system, or two hundred in the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::util::client::{ask, press, try_decode};
use super::util::{Chance, Folder, PATIENCE, Server, guest, long};

/// Disks in memory: the one that is written, the record of it, the one after the cut.
const DISK: &str = "/dev/ram0";
const RECORD: &str = "/dev/ram1";
const CUT: &str = "/dev/ram2";
const RAM_DISKS: &str = "brd:rd_nr=3:rd_size=131072:max_part=0";
const SECTOR: usize = 512;
const DISK_BYTES: usize = 16 * 1024 * 1024;
/// What a cut between a photo's name and its length leaves on FAT.
const EMPTY: &str = "2001-01-01_00-00-00.jpg";

#[test]
fn a_power_cut_on_ext4_loses_no_answered_photo() {
    guest::run(&[RAM_DISKS, "dm-log-writes", "ext4"], || {
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        try_cuts("ext4", "mke2fs", &["-q", "-F", "-t", "ext4", "-J", "size=4", "-E", options]);
    });
}

#[test]
fn a_power_cut_on_fat_loses_no_answered_photo() {
    guest::run(&[RAM_DISKS, "dm-log-writes", "vfat", "nls_cp437", "nls_ascii"], || {
        try_cuts("vfat", "mkfs.vfat", &["-F", "16", "-s", "4", "-I"]);
    });
}

/// What the answers so far promise of the disk.
#[derive(Clone, Default)]
struct Promise {
    photos: BTreeMap<String, Rc<Vec<u8>>>,
    kept: BTreeSet<String>,
}

fn try_cuts(kind: &str, mkfs: &str, options: &[&str]) {
    let seed = env::var("PISTREAM_SEED").ok().and_then(|seed| seed.parse().ok());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = seed.unwrap_or(since.as_nanos() as u64);
    println!("PISTREAM_SEED={seed}");
    let mut chance = Chance(seed);
    let (acts, cuts) = if long() { (100, 200) } else { (20, 8) };
    let begun = Instant::now();
    let promises = record(kind, mkfs, options, acts, &mut chance);
    let entries = read_record();
    let marks: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].mark).collect();
    println!(
        "{kind}: {} writes and {} marks in {:.1} s",
        entries.len(),
        marks.len(),
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(marks.len(), promises.len(), "the record is not whole");

    // Half of them right after an answer, and a quarter while the list of those kept is replaced.
    let lists: Vec<usize> = (1..marks.len())
        .filter(|answer| promises[*answer].kept != promises[answer - 1].kept)
        .collect();
    let mut places: Vec<usize> = (0..cuts)
        .map(|cut| match cut % 4 {
            0 | 2 => marks[chance.below(marks.len())],
            1 if !lists.is_empty() => {
                let answer = lists[chance.below(lists.len())];
                marks[answer - 1] + chance.below(marks[answer] - marks[answer - 1])
            }
            _ => marks[0] + chance.below(entries.len() - marks[0]),
        })
        .collect();
    places.sort_unstable();
    let mut disk = Disk { settled: vec![0; DISK_BYTES], entries: &entries, next: 0 };
    let mut found = 0;
    for place in places {
        let loses = chance.below(2) == 1;
        let image = disk.cut_behind(place, loses.then_some(&mut chance));
        let answered = marks.iter().rposition(|mark| *mark <= place).expect("not before the first");
        let (before, after) =
            (&promises[answered], promises.get(answered + 1).unwrap_or(&promises[answered]));
        println!("cut behind write {place}, after answer {answered}, losing some: {loses}");
        found += check(kind, &image, before, after);
    }
    println!("{kind}: {cuts} cuts, {found} photos found whole, {:?} in all", begun.elapsed());
}

// ---- the record -----------------------------------------------------------------------------

/// Has the program take photos, keep and delete them, on a disk whose writes are recorded; tells
/// what was promised at each mark.
fn record(
    kind: &str,
    mkfs: &str,
    options: &[&str],
    acts: usize,
    chance: &mut Chance,
) -> Vec<Promise> {
    let table = format!("0 {} log-writes {DISK} {RECORD}", DISK_BYTES / SECTOR);
    tool("dmsetup", &["create", "disk", "--table", &table]);
    let disk = "/dev/mapper/disk";
    tool(mkfs, &[options, &[disk]].concat());
    let folder = Folder::new();
    tool("mount", &["-t", kind, disk, folder.arg()]);
    let pic = folder.path().join("pic");
    let server = serving(&pic);
    let mut promises = vec![Promise::default()];
    set_mark(0);
    for number in 1..=acts {
        let mut promise = promises[number - 1].clone();
        act(&server, &pic, &mut promise, chance);
        set_mark(number);
        promises.push(promise);
    }
    end(server);
    tool("umount", &[folder.arg()]);
    tool("dmsetup", &["remove", "disk"]);
    promises
}

fn serving(pic: &Path) -> Server {
    let pic = pic.to_str().expect("a plain path");
    Server::start(&["--camera", "test", "--size", "320x240", "--pic", pic])
}

fn act(server: &Server, pic: &Path, promise: &mut Promise, chance: &mut Chance) {
    let names: Vec<&String> = promise.photos.keys().collect();
    let some = names.get(chance.below(names.len().max(1))).map(|name| name.to_string());
    match (chance.below(8), some) {
        (0, Some(name)) => {
            let head = format!("DELETE /pic/{name} HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n");
            ask(server.addr(), format!("{head}\r\n").as_bytes()).expect(204);
            promise.photos.remove(&name);
            promise.kept.remove(&name);
        }
        (1 | 2, Some(name)) => {
            let keep = promise.kept.insert(name.clone());
            if !keep {
                promise.kept.remove(&name);
            }
            let form = format!("name={name}&keep={}", u8::from(keep));
            let head = "POST /gallery/keep HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n";
            let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
            let request = format!("{head}{kind}Content-Length: {}\r\n\r\n{form}", form.len());
            ask(server.addr(), request.as_bytes()).expect(303);
        }
        _ => {
            let name = photo(server);
            let file = fs::read(pic.join(&name)).expect("the photo");
            promise.photos.insert(name, Rc::new(file));
        }
    }
}

/// Takes a photo; its name.
fn photo(server: &Server) -> String {
    press(server.addr())["name"].as_str().expect("a name").to_owned()
}

fn set_mark(number: usize) {
    tool("dmsetup", &["message", "disk", "0", "mark", &number.to_string()]);
}

fn end(server: Server) {
    server.signal(Signal::TERM);
    server.ended(PATIENCE);
}

#[track_caller]
fn tool(program: &str, args: &[&str]) {
    // The device-mapper makes its nodes by itself: there is no udev.
    let run = Command::new(program).args(args).env("DM_DISABLE_UDEV", "1").output();
    let run = run.unwrap_or_else(|error| panic!("start {program}: {error}"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {args:?}: {said}");
}

/// One write, a flush, or a mark.
struct Entry {
    /// The first byte's place on the disk.
    at: usize,
    data: Vec<u8>,
    flush: bool,
    /// Forced through the drive's cache.
    forced: bool,
    mark: bool,
}

/// The record, as drivers/md/dm-log-writes.c writes it: a head, then a sector an entry with the
/// data behind it; all numbers have 64 bits and begin with their lowest byte.
fn read_record() -> Vec<Entry> {
    const MAGIC: u64 = 0x006a_7366_7773_6872;
    const FLUSH: u64 = 1;
    const FORCED: u64 = 2;
    const DISCARD: u64 = 4;
    const MARK: u64 = 8;
    let mut record = File::open(RECORD).expect("open the record");
    let mut sectors = |count: u64| {
        let mut bytes = vec![0; count as usize * SECTOR];
        record.read_exact(&mut bytes).expect("read the record");
        bytes
    };
    let number = |bytes: &[u8], index: usize| {
        u64::from_le_bytes(bytes[8 * index..8 * index + 8].try_into().expect("eight bytes"))
    };
    let head = sectors(1);
    assert_eq!((number(&head, 0), number(&head, 1)), (MAGIC, 1), "not a record that is known here");
    assert_eq!(number(&head, 3) as u32 as usize, SECTOR, "bytes a sector");
    let entry = |_| {
        let head = sectors(1);
        let [at, count, flags, length] = [0, 1, 2, 3].map(|index| number(&head, index));
        let is = |flag| flags & flag != 0;
        assert!(!is(DISCARD), "nobody discards here");
        let text = String::from_utf8_lossy(&head[32..][..length as usize]);
        Entry {
            at: at as usize * SECTOR,
            data: sectors(count),
            flush: is(FLUSH),
            forced: is(FORCED),
            // At the end the kernel sets one of its own.
            mark: is(MARK) && text.parse::<usize>().is_ok(),
        }
    };
    (0..number(&head, 2)).map(entry).collect()
}

// ---- the cut --------------------------------------------------------------------------------

/// A disk that the record is written to once more.
struct Disk<'e> {
    /// All before the last flush.
    settled: Vec<u8>,
    entries: &'e [Entry],
    /// The first entry that is not settled.
    next: usize,
}

impl Disk<'_> {
    /// What the disk has when the power is cut behind an entry, which may not lie before the last
    /// one; by `chance`, some of what was not flushed is lost.
    fn cut_behind(&mut self, place: usize, mut chance: Option<&mut Chance>) -> Vec<u8> {
        let flushed = self.entries[..=place].iter().rposition(|entry| entry.flush).unwrap_or(0);
        for entry in self.entries.get(self.next..flushed).unwrap_or_default() {
            entry.write_to(&mut self.settled);
        }
        self.next = self.next.max(flushed);
        let mut image = self.settled.clone();
        for entry in &self.entries[self.next..=place] {
            let lost = chance.as_mut().is_some_and(|chance| chance.below(2) == 0);
            if entry.forced || !lost {
                entry.write_to(&mut image);
            }
        }
        image
    }
}

impl Entry {
    fn write_to(&self, disk: &mut [u8]) {
        disk[self.at..self.at + self.data.len()].copy_from_slice(&self.data);
    }
}

/// Starts the program on what the cut has left, and looks at what is there; how many photos are
/// found. What was being done at the cut is done or not: `before` or `after` is the promise.
fn check(kind: &str, image: &[u8], before: &Promise, after: &Promise) -> usize {
    let mut disk = OpenOptions::new().write(true).open(CUT).expect("open the disk");
    disk.write_all(image).expect("write the disk");
    disk.sync_all().expect("write the disk through");
    drop(disk);
    let mut repaired = String::new();
    if kind == "vfat" {
        // FAT has no journal: it is repaired before it is mounted, as at every start of a machine.
        let repair = Command::new("fsck.vfat").args(["-a", CUT]).output().expect("start fsck.vfat");
        repaired = String::from_utf8_lossy(&repair.stdout).into_owned();
        assert!(matches!(repair.status.code(), Some(0 | 1)), "{}: {repaired}", repair.status);
    }
    let folder = Folder::new();
    tool("mount", &["-t", kind, CUT, folder.arg()]);
    let pic = folder.path().join("pic");
    if kind == "vfat" && pic.exists() {
        fs::write(pic.join(EMPTY), "").expect("write a file"); // it must be swept, as nobody's
    }
    let there = names(&pic);
    let thumbnails = names(&pic.join(".thumbnails"));
    let server = serving(&pic);
    // It is saved behind the sweep of what was half written.
    let fresh = photo(&server);
    let found = names(&pic);
    let half: Vec<&String> = found.iter().filter(|name| name.starts_with(".new-")).collect();
    assert!(half.is_empty(), "{half:?} are not swept");
    for name in before.photos.keys().filter(|name| after.photos.contains_key(*name)) {
        assert!(found.contains(name), "{name} is lost: {found:?}");
    }
    let mut whole = 0;
    for name in found.iter().filter(|name| name.ends_with(".jpg") && **name != fresh) {
        let known = before.photos.get(name).or(after.photos.get(name));
        let known = known.unwrap_or_else(|| panic!("{name} is nobody's"));
        let file = fs::read(pic.join(name)).expect("read a photo");
        assert!(file == **known, "{name} is damaged: {} bytes of {}", file.len(), known.len());
        whole += 1;
    }
    try_decode(&fs::read(pic.join(&fresh)).expect("the new photo")).expect("a whole photo");
    let kept = fs::read_to_string(pic.join(".keep")).unwrap_or_default();
    let kept: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    assert!(
        kept == before.kept || kept == after.kept,
        "kept: {kept:?}, not {:?} or {:?}; there was {there:?}; {repaired}",
        before.kept,
        after.kept
    );
    for name in thumbnails.iter().filter(|name| found.contains(*name)).rev().take(3) {
        let thumbnail = server.get(&format!("/thumb/{name}")).expect(200).body;
        let decoded = try_decode(&thumbnail);
        assert!(decoded.is_ok(), "the thumbnail of {name}: {:?}", decoded.err());
    }
    end(server);
    tool("umount", &[folder.arg()]);
    whole
}

/// What is in a folder; nothing if there is none.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.expect("a folder that can be read"))).collect()
}
