//! Names of photos, and paths: what is taken for a photo's name is one, and no way leads out of the
//! folders that are served. What a page repeats of them cannot run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use pistream::disk::folder::{Entry, Folder};
use pistream::disk::page::list;
use pistream::disk::photo::Moment;
use pistream::disk::{PhotoName, Task};
use pistream::http::page::dress;
use pistream::http::phrases::Lang;
use pistream::http::request::{Method, Request, parse};
use pistream::limits::TURNS_OF_A_SECOND_MAX;
use pistream::route::{Action, Hosts, route};

use super::markdown::check_page;
use super::request::encoded;

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    check_photo_name(&text);
    check_moment(bytes);
    for name in [&text[..], &format!("a/../{text}"), &format!("out/{text}"), &format!("up/{text}")]
    {
        check_open(name); // the folder holds by itself
    }
    let names: Vec<String> = text.split('\n').map(str::to_owned).collect();
    check_page(&list(&names, "a/", Lang::English).expect("a page"));
    for target in [text.to_string(), encoded(&text)] {
        if let Some(request) = request(&target) {
            check_path(&request);
        }
    }
    check_form(bytes);
}

fn check_photo_name(text: &str) {
    if let Some(name) = PhotoName::parse(text) {
        assert_eq!(name.to_string(), text);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
    }
}

/// A photo of any moment has a name that is one.
fn check_moment(bytes: &[u8]) {
    let Some(seconds) = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return };
    for seconds in [seconds, seconds >> 27, seconds >> 33] {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        if let Some(moment) = time.and_then(Moment::local) {
            let name = PhotoName::new(&moment, bytes.len() as u16 % (TURNS_OF_A_SECOND_MAX + 1));
            assert_eq!(PhotoName::parse(&name.to_string()), Some(name));
        }
    }
}

// ---- paths ----------------------------------------------------------------------------------

/// A folder that is served, with links that lead out of it, and one beside it that is not.
static TREE: LazyLock<PathBuf> = LazyLock::new(|| {
    let tree = std::env::temp_dir().join(format!("pistream-fuzz-{}", std::process::id()));
    for file in ["in/index.html", "in/a/b.txt", "in/中.md", "secret/secret.txt"] {
        let path = tree.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, &file[..2]).expect("write a file");
    }
    let links = [
        ("out", "../secret"),
        ("up", ".."),
        ("away", "/etc"),
        ("secret.txt", "../secret/secret.txt"),
        ("inside", "a"),
    ];
    for (link, to) in links {
        symlink(to, tree.join("in").join(link)).expect("make a link");
    }
    tree
});

/// Remove the folders; who comes later has none.
pub fn clear() {
    let _ = fs::remove_dir_all(&*TREE);
}

fn check_open(name: &str) {
    static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new(TREE.join("in")));
    if let Ok(Entry::File(mut found)) = FOLDER.open(name) {
        let bytes = FOLDER.read(name, &mut found, 99).expect("a file to read");
        assert_eq!(bytes, b"in", "{name:?} leads out");
    }
    if let Ok(Some(names)) = FOLDER.list(name) {
        let inside = ["a/", "away", "b.txt", "index.html", "inside", "out", "secret.txt", "up"];
        let known = |name: &String| inside.contains(&name.as_str()) || name == "中.md";
        assert!(names.iter().all(known), "{name:?} leads out: {names:?}");
    }
}

fn request(target: &str) -> Option<Request> {
    let target = format!("/{}", target.strip_prefix('/').unwrap_or(target));
    let head = format!("GET {target} HTTP/1.1\r\nHost: pi\r\nAccept: text/html\r\n\r\n");
    let (parsed, used) = parse(head.as_bytes()).ok()??;
    (used == head.len()).then_some(parsed.request)
}

/// What a path leads to has it as its name.
fn check_path(request: &Request) {
    let path = request.path.as_deref();
    match route(request, &Hosts::default(), 2) {
        Action::Disk(Task::OpenPage { path: page, .. }) => {
            assert_eq!(Some(&page[..]), path);
            check_open(&page[1..]);
        }
        Action::Disk(Task::OpenNote { path: note, .. }) => {
            assert_eq!(Some(&format!("/md/{note}")[..]), path);
            check_open(&note);
        }
        Action::Disk(Task::OpenPhoto(name)) => assert_eq!(Some(&format!("/pic/{name}")[..]), path),
        Action::Disk(Task::OpenThumbnail { name, .. }) => {
            assert_eq!(Some(&format!("/thumb/{name}")[..]), path);
        }
        Action::Disk(Task::View { name: Some(name), .. }) => {
            assert_eq!(Some(&format!("/view/{name}")[..]), path);
        }
        action => check_reply(action, request),
    }
}

/// The bytes as a form, and what the page of an error repeats of it.
fn check_form(bytes: &[u8]) {
    let forms =
        ["gallery/delete", "gallery/keep", "gallery/archive", "controls", "interval", "photo"];
    for form in forms {
        let mut request = request(form).expect("a fine request");
        (request.method, request.may_change) = (Method::Post, true);
        request.body = bytes.to_vec();
        check_reply(route(&request, &Hosts::default(), 2), &request);
    }
}

fn check_reply(action: Action, request: &Request) {
    if let Action::Reply(response) = action {
        let page = dress(response, request);
        if page.content_type.starts_with("text/html") {
            check_page(&page.text());
        }
    }
}
