//! Markdown notes on the real binary: lists, pages, sources, what lies beside them, and what must
//! not get out.

mod util;

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use util::{Client, Folder, Server};

fn start(notes: &Folder) -> Server {
    Server::start(&["--camera", "test", "--md", notes.arg()])
}

#[test]
fn notes_are_listed_and_shown_with_their_title() {
    let notes = Folder::new();
    notes.write("garden.md", "# The garden\n\n| bed | seed |\n|-|-|\n| 1 | beans |\n");
    notes.write("中文 笔记.md", "## 标题\n\n内容\n");
    notes.write("trips/2026 coast.md", "No heading here.\n");
    notes.write("trips/map.png", "not really a picture");
    notes.write(".secret.md", "hidden");
    let server = start(&notes);

    let list = server.get("/md/").expect(200);
    assert_eq!(list.header("Content-Type"), Some("text/html; charset=utf-8"));
    // It has no entity tag by which a copy could be asked after.
    assert_eq!(list.header("Cache-Control"), Some("no-store"));
    let policy = list.header("Content-Security-Policy").expect("a policy");
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe-inline"));
    for part in [">garden</a>", "href=\"garden\"", ">中文 笔记</a>", "href=\"trips/\""] {
        assert!(list.text().contains(part), "no {part}: {}", list.text());
    }
    assert!(!list.text().contains("secret"));

    for target in ["/md/garden", "/md/garden.md"] {
        let page = server.get(target).expect(200).text();
        assert!(page.contains("<title>The garden · pistream</title>"), "{page}");
        assert!(page.contains("<h1 id=\"the-garden\">") && page.contains("<td>beans</td>"));
    }
    let chinese = "/md/%E4%B8%AD%E6%96%87%20%E7%AC%94%E8%AE%B0";
    let page = server.get(chinese).expect(200).text();
    assert!(page.contains("<title>标题 · pistream</title>") && page.contains("内容"));

    let sub = server.get("/md/trips/").expect(200).text();
    assert!(sub.contains("href=\"2026%20coast\"") && !sub.contains("map.png"), "{sub}");
    let page = server.get("/md/trips/2026%20coast").expect(200).text();
    assert!(page.contains("<title>2026 coast · pistream</title>"), "{page}");
    assert!(page.contains("href=\"../../app.css\""));
    let image = server.get("/md/trips/map.png").expect(200);
    assert_eq!(image.header("Content-Type"), Some("image/png"));
    for (from, to) in [("/md", "md/"), ("/md/trips", "./trips/")] {
        let moved = server.get(from).expect(301);
        assert_eq!(moved.header("Location"), Some(to));
    }
    server.get("/md/nothing").expect(404);
    server.get("/md/nothing/").expect(404);
}

#[test]
fn raw_gives_the_source_as_text() {
    let notes = Folder::new();
    let source = "# A\n\n<script>alert(1)</script>\n";
    notes.write("a.md", source);
    let server = start(&notes);
    let raw = server.get("/md/a?raw").expect(200);
    assert_eq!(raw.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(raw.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(raw.text(), source);
    let page = server.get("/md/a").expect(200).text();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}

#[test]
fn a_changed_note_is_rendered_anew_and_an_unchanged_one_is_not_sent_again() {
    let notes = Folder::new();
    notes.write("a.md", "# First");
    let server = start(&notes);
    let page = server.get("/md/a").expect(200);
    let tag = page.header("ETag").expect("an entity tag").to_owned();
    let mut client = Client::connect(server.addr());
    let ask = format!("GET /md/a HTTP/1.1\r\nHost: pi\r\nIf-None-Match: {tag}\r\n\r\n");
    let unchanged = client.send(&ask).reply().expect(304);
    assert_eq!(unchanged.header("Content-Language"), None, "the copy has its own");
    assert_eq!(unchanged.header("Vary"), Some("Accept-Language"));
    let raw = format!("GET /md/a?raw HTTP/1.1\r\nHost: pi\r\nIf-None-Match: {tag}\r\n\r\n");
    client.send(raw).reply().expect(200); // the source is another thing
    // As many letters, and another time of change.
    let file = notes.write("a.md", "# Other");
    let later = SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options()
        .append(true)
        .open(file)
        .and_then(|file| file.set_modified(later))
        .expect("set the time");
    assert!(client.send(&ask).reply().expect(200).text().contains("Other"));
}

#[test]
fn nothing_leads_out_of_the_notes() {
    let outside = Folder::new();
    outside.write("secret.md", "# Secret");
    let notes = Folder::new();
    notes.write("a.md", "# A");
    symlink(outside.path().join("secret.md"), notes.path().join("link.md")).expect("a link");
    symlink(outside.path(), notes.path().join("folder")).expect("a link");
    symlink("a.md", notes.path().join("inside.md")).expect("a link");
    let server = start(&notes);
    for target in [
        "/md/link",
        "/md/link.md",
        "/md/link?raw",
        "/md/folder/",
        "/md/folder/secret",
        "/md/../secret",
        "/md/..%2f..%2fetc/passwd",
        "/md/%2e%2e/%2e%2e/etc/passwd",
        "/md/.hidden",
        "/md/a%00.md",
    ] {
        let reply = server.get(target);
        assert_eq!(reply.status, 404, "{target}");
        assert!(!reply.text().contains("Secret"));
    }
    assert!(server.get("/md/inside").expect(200).text().contains("<h1 id=\"a\">A</h1>"));
}

#[test]
fn odd_notes_harm_nobody() {
    let notes = Folder::new();
    notes.write("empty.md", "");
    notes.write("bytes.md", [0xff, 0xfe, b'#', 0, b'x']);
    notes.write("deep.md", "> ".repeat(20_000));
    notes.write("links.md", "[".repeat(50_000));
    notes.write("stars.md", "*a ".repeat(50_000));
    notes.write("large.md", "x".repeat(1_200_000));
    notes.write("folder.md/inside.md", "# In a folder with an odd name");
    let server = start(&notes);
    for name in ["empty", "bytes", "deep", "links", "stars"] {
        server.get(&format!("/md/{name}")).expect(200);
    }
    assert!(server.get("/md/large").expect(500).text().contains("1 MiB"));
    assert_eq!(server.get("/md/large?raw").expect(200).body.len(), 1_200_000);
    server.get("/md/folder.md/inside").expect(200);
    server.get("/md/folder.md").expect(404);
}

#[test]
fn errors_wear_the_same_look_for_a_person_and_are_a_sentence_for_a_program() {
    let notes = Folder::new();
    let server = start(&notes);
    let mut client = Client::connect(server.addr());
    let mut ask = |target: &str, accept: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: pi\r\nAccept: {accept}\r\n\r\n");
        client.send(head).reply()
    };
    for (target, root) in [("/nothing", ""), ("/md/nothing/deep", "../../"), ("/a/../b", "../../")]
    {
        let page = ask(target, "text/html,application/xhtml+xml,*/*;q=0.8").expect(404);
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert!(page.header("Content-Security-Policy").is_some());
        let style = format!("href=\"{root}app.css\"");
        for part in [&style, "<h1>Not Found</h1>", "There is no such page."] {
            assert!(page.text().contains(part), "no {part}: {}", page.text());
        }
    }
    let plain = ask("/nothing", "*/*").expect(404);
    assert_eq!(plain.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.text(), "There is no such page.\n");
    let fault = ask("/video_feed?fps=0", "text/html").expect(400);
    assert!(fault.text().contains("<h1>Bad Request</h1>"));
}

#[test]
fn without_a_folder_of_notes_the_list_says_what_to_do() {
    let notes = Folder::new();
    let absent = notes.path().join("absent");
    let server = Server::start(&["--camera", "test", "--md", absent.to_str().expect("text")]);
    let list = server.get("/md/").expect(200).text();
    assert!(list.contains("There are no notes here"), "{list}");
    server.get("/md/a").expect(404);
}
