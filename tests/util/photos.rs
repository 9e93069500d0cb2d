//! Photos as the tests see them: what a program is told of one, what makes a whole one, what lies in
//! their folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::Path;

use exif::{In, Tag, Value};

use super::Server;
use super::client::{Reply, ask, decode};
use super::stamp::crc32;

/// One request on a connection of its own. `fields`: whole lines.
#[track_caller]
pub fn send(addr: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> Reply {
    ask(addr, request(addr, method, target, fields, body).as_bytes())
}

pub fn request(addr: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{fields}\r\n{body}"
    )
}

/// Press the button of a form, which is `form`.
#[track_caller]
pub fn post(server: &Server, target: &str, form: &str) -> Reply {
    send(server.addr(), "POST", target, "", form)
}

/// Take a photo.
#[track_caller]
pub fn press(server: &Server) -> Receipt {
    Receipt::of(&post(server, "/photo", ""))
}

#[track_caller]
pub fn delete(server: &Server, name: &str) -> Reply {
    send(server.addr(), "DELETE", &format!("/pic/{name}"), "", "")
}

/// The names of the photos that a page of the gallery shows, in its order.
pub fn shown(page: &Reply) -> Vec<String> {
    let text = page.text();
    let links = text.split("src=\"thumb/").skip(1);
    links.map(|rest| rest.split(['?', '"']).next().unwrap().to_owned()).collect()
}

/// What a program is told of its photo: exactly these fields.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub name: String,
    pub url: String,
    pub camera: usize,
    pub width: usize,
    pub height: usize,
    pub bytes: usize,
    pub taken: String,
}

impl Receipt {
    #[track_caller]
    pub fn of(reply: &Reply) -> Receipt {
        assert_eq!(reply.status, 201, "{:?}: {}", reply.headers, reply.text());
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        let receipt: Receipt = serde_json::from_slice(&reply.body).expect("a receipt");
        assert_eq!(receipt.camera, 1);
        let location = format!("pic/{}", receipt.name);
        assert_eq!(reply.header("Location"), Some(location.as_str()));
        assert_eq!(receipt.url, format!("/{location}"));
        receipt
    }
}

/// Seconds since 1970, of `2026-11-22T14:03:55.312+01:00`.
pub fn unix(taken: &str) -> f64 {
    let number = |from: usize, to: usize| taken[from..to].parse::<u16>().expect(taken);
    let byte = |from: usize| number(from, from + 2) as u8;
    let year = number(0, 4).into();
    let wall = tz::UtcDateTime::new(year, byte(5), byte(8), byte(11), byte(14), byte(17), 0);
    let seconds = wall.expect(taken).unix_time() as f64 + f64::from(number(20, 23)) / 1000.0;
    let offset = f64::from(number(24, 26)) * 3600.0 + f64::from(number(27, 29)) * 60.0;
    assert_eq!(taken.len(), "2026-11-22T14:03:55.312+01:00".len());
    match &taken[23..24] {
        "+" => seconds - offset,
        "-" => seconds + offset,
        sign => panic!("{sign:?} in {taken}"),
    }
}

pub fn exif_of(jpeg: &[u8]) -> exif::Exif {
    exif::Reader::new().read_from_container(&mut Cursor::new(jpeg)).expect("EXIF data")
}

pub fn exif_text(jpeg: &[u8], tag: Tag) -> String {
    match exif_of(jpeg).get_field(tag, In::PRIMARY).map(|field| field.value.clone()) {
        Some(Value::Ascii(lines)) => String::from_utf8(lines.concat()).expect("text"),
        other => panic!("{tag}: {other:?}"),
    }
}

/// When a photo was taken, as its own data say: `2026-11-22T14:03:55.312`.
pub fn taken_of(jpeg: &[u8]) -> String {
    let date = exif_text(jpeg, Tag::DateTimeOriginal).replacen(':', "-", 2).replace(' ', "T");
    format!("{date}.{}", exif_text(jpeg, Tag::SubSecTimeOriginal))
}

/// A photo's name with its parts: the second, and which of the photos of that second it is.
pub fn parts_of(name: &str) -> Option<(&str, u32)> {
    let stem = name.strip_suffix(".jpg")?;
    let (second, turn) = stem.split_at_checked("2026-11-22_14-03-55".len())?;
    let shape: String = second.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let turn = if turn.is_empty() { 0 } else { turn.strip_prefix('-')?.parse().ok()? };
    (shape == "0000-00-00_00-00-00").then_some((second, turn))
}

/// A photo on the disk is a whole upright JPEG, and its name and its data have the same time.
#[track_caller]
pub fn expect_photo(path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap().to_str().expect("a plain name");
    let (second, _) = parts_of(name).unwrap_or_else(|| panic!("{name} is no photo's name"));
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    decode(&bytes);
    let exif = exif_of(&bytes);
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).map(|field| &field.value);
    assert!(matches!(orientation, Some(Value::Short(v)) if v[..] == [1]), "{orientation:?}");
    let date = second.replacen('-', ":", 2).replace('_', " ").replace('-', ":");
    for tag in [Tag::DateTime, Tag::DateTimeOriginal, Tag::DateTimeDigitized] {
        assert_eq!(exif_text(&bytes, tag), date, "{name}");
    }
    bytes
}

/// The names in a folder, those of hidden files too.
pub fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The photos in a folder.
pub fn photos_in(folder: &Path) -> BTreeSet<String> {
    names_in(folder).into_iter().filter(|name| parts_of(name).is_some()).collect()
}

/// What was being written and has no name yet, thumbnails included.
pub fn unfinished(folder: &Path) -> Vec<String> {
    let thumbnails = folder.join(".thumbnails");
    let mut names = names_in(folder);
    if thumbnails.is_dir() {
        names.extend(names_in(&thumbnails));
    }
    names.into_iter().filter(|name| name.starts_with(".new")).collect()
}

/// Names of so many photos from the first seconds of a year, in their order.
pub fn names_of(year: u32, count: usize) -> Vec<String> {
    let name = |n| format!("{year}-01-01_{:02}-{:02}-{:02}.jpg", n / 3600, n / 60 % 60, n % 60);
    (0..count).map(name).collect()
}

/// The files in a ZIP archive that are stored as they are, by its own list at the end.
pub fn unzip(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let end = archive.len() - 22;
    assert_eq!(&archive[end..end + 4], b"PK\x05\x06", "the list's end");
    let (count, mut at) = (u16_at(end + 10), u32_at(end + 16));
    let mut files = BTreeMap::new();
    for _ in 0..count {
        assert_eq!(&archive[at..at + 4], b"PK\x01\x02", "an entry of the list");
        assert_eq!(u16_at(at + 10), 0, "stored");
        let (crc, size, name_size) = (u32_at(at + 16), u32_at(at + 24), u16_at(at + 28));
        let name = String::from_utf8(archive[at + 46..at + 46 + name_size].to_vec()).unwrap();
        let local = u32_at(at + 42);
        assert_eq!(&archive[local..local + 4], b"PK\x03\x04", "{name}");
        let from = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        let bytes = archive[from..from + size].to_vec();
        assert_eq!(crc32(&bytes) as usize, crc, "{name}");
        files.insert(name, bytes);
        at += 46 + name_size + u16_at(at + 30) + u16_at(at + 32);
    }
    assert_eq!(at, end, "the list's length");
    files
}
