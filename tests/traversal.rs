//! Paths that try to lead out of the folders that are served, made by rule: each way to write two
//! dots with each way to write what separates folders, to several depths, below each route.
//!
//! Whatever is asked, no answer has a byte of a file that lies outside, behind a link or hidden,
//! and none of them is touched.

mod util;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use util::client::press;
use util::{Chance, Client, Folder, Reply, Server, long};

/// Stands in each file that may not be seen.
const SECRET: &str = "SECRET-5f1d";
/// The name of a photo, and that of a link to a photo elsewhere.
const LINKED: &str = "2026-01-02_03-04-05.jpg";

/// Two dots, or what somebody's decoder takes for them.
const DOTS: [&[u8]; 40] = [
    b"..",
    b"%2e%2e",
    b"%2E%2E",
    b".%2e",
    b"%2e.",
    // Decoded twice, or thrice.
    b"%252e%252e",
    b"%25252e%25252e",
    b"%%32%65%%32%65",
    b"%%32e%%32e",
    // Longer than UTF-8 allows, with two to six bytes.
    b"%c0%ae%c0%ae",
    b"%C0%2E%C0%2E",
    b"%c0%6e%c0%6e",
    b"%e0%80%ae%e0%80%ae",
    b"%f0%80%80%ae%f0%80%80%ae",
    b"%f8%80%80%80%ae%f8%80%80%80%ae",
    b"%fc%80%80%80%80%ae%fc%80%80%80%80%ae",
    b"\xc0\xae\xc0\xae",
    // As wide as Chinese letters, or both dots in one letter.
    b"\xef\xbc\x8e\xef\xbc\x8e",
    b"%ef%bc%8e%ef%bc%8e",
    b"\xe2\x80\xa5",
    b"%e2%80%a5",
    b"%e2%80%a4%e2%80%a4",
    // As no standard has it.
    b"%u002e%u002e",
    b"%uff0e%uff0e",
    b"%u2024%u2024",
    // What is left when two dots, or two dots and a slash, are cut out once.
    b"...",
    b"....",
    b"..../",
    b"./..",
    // With what is cut off, or ends a string.
    b"..;",
    b"..;x=y",
    b"..%3b",
    b"..%00",
    b"%00..",
    b"..%20",
    b"..%09",
    b"..%0d%0a",
    b"..%23",
    b"..%3f",
    b"..~",
];

/// What separates folders, or what somebody's decoder takes for it.
const SEPARATORS: [&[u8]; 31] = [
    b"/",
    b"//",
    b"/./",
    b"/%2e/",
    b"%2f",
    b"%2F",
    b"%252f",
    b"%25252f",
    b"%%32%66",
    b"\\",
    b"%5c",
    b"%5C",
    b"%255c",
    b"/\\",
    b"\\/",
    b"%2f/",
    b"%c0%af",
    b"%c1%9c",
    b"%c0%2f",
    b"%e0%80%af",
    b"%f0%80%80%af",
    b"\xc0\xaf",
    b"\xef\xbc\x8f",
    b"%ef%bc%8f",
    b"%e2%88%95",
    b"%u2215",
    b"%uff0f",
    b";/",
    b"/;/",
    b"/%00/",
    b"%00/",
];

const DEPTHS: [usize; 4] = [1, 2, 3, 9];
const AIMS: [&str; 5] = ["secret.txt", "secret", "www/.hidden.txt", "pic/.keep", "etc/passwd"];

/// Folders to be served with a link out of each, and hidden files; the secrets lie beside them.
struct House {
    server: Server,
    base: Folder,
    client: Option<Client>,
}

impl House {
    #[track_caller]
    fn new() -> House {
        let base = Folder::new();
        base.write("secret.txt", SECRET);
        base.write("secret.md", format!("# {SECRET}"));
        base.write("www/page.txt", "page");
        base.write("md/note.md", "# Note");
        for room in ["www", "md", "pic"] {
            base.write(&format!("{room}/.hidden.txt"), SECRET);
            base.write(&format!("{room}/.hidden/secret.txt"), SECRET);
            let link = |to: &str, name: &str| {
                symlink(to, base.path().join(room).join(name)).expect("a link");
            };
            link("../secret.txt", "link.txt");
            link("../secret.md", "link.md");
            link("..", "out");
            link(base.path().join("secret.txt").to_str().expect("a plain path"), "absolute.txt");
        }
        let room = |name: &str| base.path().join(name).display().to_string();
        let (www, md, pic) = (room("www"), room("md"), room("pic"));
        let rooms = ["--www", &www, "--md", &md, "--pic", &pic];
        let server = Server::start(&[&["--camera", "test"], &rooms[..]].concat());
        // A photo as good as any, elsewhere.
        let taken = press(server.addr());
        let photo = base.path().join("pic").join(taken["name"].as_str().expect("a name"));
        let photo = fs::read(photo).expect("a photo");
        base.write("secret.jpg", [&photo[..], SECRET.as_bytes()].concat());
        symlink("../secret.jpg", base.path().join("pic").join(LINKED)).expect("a link");
        House { server, base, client: None }
    }

    /// What is answered; the connection is used again if it stays.
    #[track_caller]
    fn ask(&mut self, method: &str, target: &[u8], body: &[u8]) -> Reply {
        let fields = format!(" HTTP/1.1\r\nHost: pi\r\nContent-Length: {}\r\n\r\n", body.len());
        let request = [method.as_bytes(), b" ", target, fields.as_bytes(), body].concat();
        let addr = self.server.addr();
        let mut client = self.client.take().unwrap_or_else(|| Client::connect(addr));
        let reply = client.send(request).try_reply(false);
        let shown = target.escape_ascii();
        let reply = reply.unwrap_or_else(|error| panic!("{error}: {method} {shown}"));
        if reply.header("Connection") != Some("close") {
            self.client = Some(client);
        }
        assert!(!tells(&reply), "{method} {shown} tells {:?}", reply.text());
        reply
    }

    /// There is no such thing.
    #[track_caller]
    fn expect_nothing(&mut self, method: &str, target: &[u8]) {
        let status = self.ask(method, target, b"").status;
        let shown = target.escape_ascii();
        assert!(matches!(status, 400 | 404), "{status}: {method} {shown}");
    }

    /// All is as it was, and the house serves what it has.
    #[track_caller]
    fn expect_unharmed(mut self) {
        assert_eq!(self.ask("GET", b"/page.txt", b"").expect(200).text(), "page");
        assert!(self.ask("GET", b"/md/note", b"").expect(200).text().contains("Note"));
        let read = |name: &str| fs::read_to_string(self.base.path().join(name)).expect(name);
        assert_eq!(read("secret.txt"), SECRET);
        assert_eq!(read("www/.hidden/secret.txt"), SECRET);
        assert_eq!(read("pic/link.txt"), SECRET);
        assert!(fs::metadata(self.base.path().join("pic").join(LINKED)).is_ok());
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

/// Whether something stands in it that may not be seen.
fn tells(reply: &Reply) -> bool {
    let has = |what: &[u8]| util::client::find(&reply.body, what).is_some();
    has(SECRET.as_bytes()) || has(b"root:x:0:0")
}

/// Each path that `src/route.rs` names, with a slash at its end: a new one is tried too.
fn routes() -> Vec<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/route.rs");
    let source = fs::read_to_string(source).expect("the routes");
    let code = source.split("\n#[cfg(test)]").next().unwrap_or_default();
    let known = |b: u8| b.is_ascii_lowercase() || b"/_.".contains(&b);
    let literals = code.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    let paths = literals.filter(|text| text.starts_with('/') && text.bytes().all(known));
    let paths = paths.map(|path| format!("{}/", path.trim_end_matches('/')));
    let mut found: BTreeSet<String> = paths.collect();
    for path in ["/", "/pic/", "/thumb/", "/view/", "/md/", "/controls/", "/gallery/delete/"] {
        assert!(found.contains(path), "{path} not in {found:?}");
    }
    found.insert("/out/".to_owned()); // a link out of the folder
    found.insert(format!("/pic/{LINKED}/"));
    found.into_iter().collect()
}

/// Up so many folders and down to an aim.
fn path(dots: &[u8], separator: &[u8], depth: usize, aim: &str) -> Vec<u8> {
    let up = [dots, separator].concat().repeat(depth);
    [&up[..], aim.as_bytes()].concat()
}

/// The tests below see a secret if one is told.
#[test]
fn a_secret_that_is_served_would_be_seen() {
    let base = Folder::new();
    base.write("secret.txt", SECRET);
    let server = Server::start(&["--camera", "test", "--www", base.arg()]);
    assert!(tells(&server.get("/secret.txt").expect(200)));
}

/// In the long run, everything below each route; else each way once, below some route.
#[test]
fn no_way_to_write_a_path_leads_out_of_a_folder() {
    let mut house = House::new();
    let (routes, all, mut chance) = (routes(), long(), Chance(7));
    let ends: Vec<(&str, &str)> =
        routes.iter().flat_map(|route| AIMS.map(|aim| (route.as_str(), aim))).collect();
    let ways = DOTS.iter().flat_map(|dots| SEPARATORS.map(|separator| (*dots, separator)));
    let mut tried = 0;
    for (dots, separator) in ways {
        for depth in DEPTHS {
            let one = chance.below(ends.len());
            let chosen = if all { &ends[..] } else { &ends[one..=one] };
            for (route, aim) in chosen {
                let way = path(dots, separator, depth, aim);
                house.expect_nothing("GET", &[route.as_bytes(), &way].concat());
                tried += 1;
            }
        }
    }
    println!("{tried} paths");
    assert!(tried > 4000, "{tried}");
    house.expect_unharmed();
}

#[test]
fn what_is_hidden_or_behind_a_link_is_nowhere_however_it_is_written() {
    let mut house = House::new();
    let hexed = |name: &str, sign: &str| {
        let hex = |b: u8| if b == b'/' { "/".to_owned() } else { format!("{sign}{b:02x}") };
        name.bytes().map(hex).collect::<String>()
    };
    for route in routes() {
        for name in [
            ".hidden.txt",
            ".hidden/secret.txt",
            ".keep",
            ".thumbnails/2026-01-02_03-04-05.jpg",
            "link.txt",
            "link.md",
            "link",
            "absolute.txt",
            "out/secret.txt",
            "out/secret",
            "out/pic/.hidden.txt",
            "out/out/secret.txt",
            LINKED,
        ] {
            for written in [
                name.to_owned(),
                hexed(name, "%"),
                hexed(name, "%").to_uppercase(),
                hexed(name, "%25"),
                format!("{name}/"),
                format!("{name}/."),
                format!("{name}%00.jpg"),
            ] {
                house.expect_nothing("GET", format!("{route}{written}").as_bytes());
            }
        }
        for elsewhere in [
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "%2Fetc/passwd",
            "/%2fetc/passwd",
            "file:///etc/passwd",
            "C:%5Csecret.txt",
            "~/secret.txt",
            "~root/secret.txt",
            "proc/self/environ",
            "/proc/self/root/etc/passwd",
            "$HOME/secret.txt",
            "%24%28cat%20secret.txt%29",
        ] {
            house.expect_nothing("GET", format!("{route}{elsewhere}").as_bytes());
        }
    }
    // Targets that are whole addresses.
    for target in
        ["file:///etc/passwd", "http://pi/../secret.txt", "http://pi//etc/passwd", "../secret.txt"]
    {
        house.expect_nothing("GET", target.as_bytes());
    }
    house.expect_unharmed();
}

#[test]
fn no_way_to_write_a_name_deletes_keeps_packs_or_shows_another_file() {
    let mut house = House::new();
    let forms = ["/gallery/delete", "/gallery/keep", "/gallery/archive"];
    for (n, dots) in DOTS.iter().enumerate() {
        for (m, separator) in SEPARATORS.iter().enumerate() {
            let depth = DEPTHS[n % DEPTHS.len()];
            for aim in ["secret.txt", "secret.jpg"] {
                let way = path(dots, separator, depth, aim);
                house.expect_nothing("DELETE", &[b"/pic/", &way[..]].concat());
                // As it is, where the form's own decoding comes first; and so that it is what comes.
                let encoded: String = way.iter().map(|byte| format!("%{byte:02x}")).collect();
                for name in [&way[..], encoded.as_bytes()] {
                    let form = [b"name=", name].concat();
                    house.ask("POST", forms[m % forms.len()].as_bytes(), &form).expect(400);
                }
                let query = match m % 5 {
                    0 => format!("/thumb/{LINKED}?v={encoded}"),
                    1 => format!("/gallery?missing={encoded}&failed={encoded}"),
                    2 => format!("/md/note?raw={encoded}"),
                    3 => format!("/?action={encoded}"),
                    _ => format!("/video_feed?fps={encoded}"),
                };
                house.ask("GET", query.as_bytes(), b"");
            }
        }
    }
    // A link that has a photo's name is no photo.
    for route in ["pic", "thumb", "view"] {
        house.ask("GET", format!("/{route}/{LINKED}").as_bytes(), b"").expect(404);
    }
    house.ask("POST", b"/gallery/archive", format!("name={LINKED}").as_bytes());
    house.ask("POST", b"/gallery/archive", b"").expect(200);
    house.expect_unharmed();
}
