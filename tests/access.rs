//! Who may do what: names and passwords, viewers, pages of other origins, proxies, a base path.

mod util;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine};
use util::client::ask;
use util::{Client, Folder, PATIENCE, Reply, Server, Stream, command, get, one_line, run, until};

/// "secret" for anna, "guest" for otto, who is a viewer; bcrypt's lowest cost.
fn password_file(folder: &Folder) -> String {
    let hash = |password| bcrypt::hash(password, 4).expect("a hash");
    let text =
        format!("# who may come in\n\nanna:{}\notto:{}:viewer\n", hash("secret"), hash("guest"));
    folder.write("passwords", text).display().to_string()
}

const ANNA: &str = "Authorization: Basic YW5uYTpzZWNyZXQ="; // anna:secret
const OTTO: &str = "Authorization: Basic b3R0bzpndWVzdA=="; // otto:guest
const WRONG: &str = "Authorization: Basic YW5uYTp3cm9uZw=="; // anna:wrong

/// A wrong password for anna, each another.
fn wrong(n: usize) -> String {
    format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("anna:guess{n}")))
}

#[track_caller]
fn request(server: &Server, line: &str, fields: &[&str]) -> Reply {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let head = format!("{line} HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n{fields}\r\n");
    ask(server.addr(), head.as_bytes())
}

#[test]
fn nothing_is_served_without_a_password_where_there_is_one() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    let paths = [
        "/",
        "/video_feed",
        "/snapshot",
        "/status",
        "/gallery",
        "/md/",
        "/app.css",
        "/nowhere",
        "/pic/a.jpg",
        "/?action=stream",
    ];
    for path in paths {
        for fields in [&[][..], &[WRONG], &["Authorization: Bearer x"], &["Authorization: Basic"]] {
            let reply = request(&server, &format!("GET {path}"), fields);
            let shown = format!("{path} {fields:?}: {}", reply.text());
            assert!([401, 429].contains(&reply.status), "{} {shown}", reply.status);
            assert!(reply.text().starts_with("This site wants") || reply.status == 429, "{shown}");
        }
        for method in ["HEAD", "POST", "DELETE"] {
            let reply = request(&server, &format!("{method} {path}"), &["Content-Length: 0"]);
            assert_eq!(reply.status, 401, "{method} {path}");
        }
    }
    let realm = "Basic realm=\"pistream\", charset=\"UTF-8\"";
    let reply = request(&server, "GET /", &[]).expect(401);
    assert_eq!(reply.header("WWW-Authenticate"), Some(realm));
    for path in ["/", "/snapshot", "/status", "/gallery", "/md/", "/app.css"] {
        for who in [ANNA, OTTO] {
            request(&server, &format!("GET {path}"), &[who]).expect(200);
        }
    }
    request(&server, "GET /nowhere", &[ANNA]).expect(404);
    let head = format!("GET /video_feed HTTP/1.1\r\nHost: pi\r\n{OTTO}\r\n\r\n");
    let mut stream = Stream::ask(server.addr(), &head);
    (0..3).for_each(|_| drop(stream.frame()));
    // Not even that there is a page is told with a page's look to somebody unknown.
    let page = request(&server, "GET /", &["Accept: text/html"]).expect(401).text();
    assert!(page.contains("<h1>Unauthorized</h1>"), "{page}");
}

#[test]
fn a_viewer_may_look_and_not_touch() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    let photo = request(&server, "POST /photo", &[ANNA, "Content-Length: 0"]).expect(201);
    let photo: serde_json::Value = serde_json::from_slice(&photo.body).expect("JSON");
    let url = format!("/{}", photo["url"].as_str().expect("an address").trim_start_matches('/'));
    let forbidden = [
        "POST /photo".to_owned(),
        "POST /interval".to_owned(),
        "POST /gallery/delete".to_owned(),
        "POST /gallery/keep".to_owned(),
        format!("DELETE {url}"),
    ];
    for line in &forbidden {
        let reply = request(&server, line, &[OTTO, "Content-Length: 0"]).expect(403);
        assert!(reply.text().contains("change nothing"), "{line}: {}", reply.text());
    }
    request(&server, &format!("GET {url}"), &[OTTO]).expect(200);
    request(&server, "POST /gallery/archive", &[OTTO, "Content-Length: 0"]).expect(200);
    // What would be refused is not offered, and one's page is not taken for the other's.
    for path in ["/", "/gallery", "/interval", "/current_picture"] {
        let accept = "Accept: text/html";
        let seen = |who| request(&server, &format!("GET {path}"), &[who, accept]).expect(200);
        let (operators, viewers) = (seen(ANNA), seen(OTTO));
        assert!(viewers.text().contains("<body data-role=\"viewer\""), "{path}");
        assert!(!operators.text().contains("data-role"), "{path}");
        assert!(operators.text().contains("change"), "{path}");
        if let Some(tag) = operators.header("ETag") {
            let again = format!("If-None-Match: {tag}");
            request(&server, &format!("GET {path}"), &[OTTO, accept, &again]).expect(200);
            request(&server, &format!("GET {path}"), &[ANNA, accept, &again]).expect(304);
        }
    }
    request(&server, &format!("DELETE {url}"), &[ANNA]).expect(204);
}

#[test]
fn a_site_to_read_only_is_so_for_all() {
    let folder = Folder::new();
    let file = password_file(&folder);
    for options in [&["--read-only"][..], &["--read-only", "--password-file", &file]] {
        let options = [options, &["--camera", "test"]].concat();
        let server = Server::start(&options);
        request(&server, "GET /snapshot", &[ANNA]).expect(200);
        request(&server, "POST /photo", &[ANNA, "Content-Length: 0"]).expect(403);
        assert_eq!(fs::read_dir(server.folder().path().join("pic")).expect("pic/").count(), 0);
    }
    let mut by_environment = command(&["--listen", "127.0.0.1:0", "--camera", "test"]);
    by_environment.env("PISTREAM_READ_ONLY", "1");
    let server = Server::start_command(by_environment);
    request(&server, "POST /photo", &["Content-Length: 0"]).expect(403);
}

/// With a hash that takes seconds: the loop must not notice.
#[test]
fn a_password_is_worked_out_beside_the_loop_and_once() {
    let folder = Folder::new();
    let hash = bcrypt::hash("secret", 12).expect("a hash");
    let file = folder.write("passwords", format!("anna:{hash}\n")).display().to_string();
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    let head = format!("GET /app.css HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n{ANNA}\r\n\r\n");
    let addr = server.addr();
    let asked = |head: String| thread::spawn(move || ask(addr, head.as_bytes()));
    let crowd: Vec<_> = (0..6).map(|_| asked(head.clone())).collect();
    let before = server.cpu();
    while !crowd.iter().all(|one| one.is_finished()) {
        // Nobody else waits for it.
        request(&server, "GET /", &[]).expect(401);
        thread::sleep(Duration::from_millis(5));
    }
    crowd.into_iter().for_each(|one| drop(one.join().expect("an answer").expect(200)));
    let (once, begun) = (server.cpu() - before, server.cpu());
    (0..50).for_each(|_| drop(request(&server, "GET /app.css", &[ANNA]).expect(200)));
    let again = server.cpu() - begun;
    assert!(again < once / 2, "once {once:?}, fifty times more {again:?}");
}

/// A page of a name that somebody else let lead here once could tell a right password from a wrong
/// one, and have its visitor wait for it.
#[test]
fn by_a_strange_name_no_password_is_tried() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    let ask_by = |host: &str, fields: &str| {
        let head = format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}");
        ask(server.addr(), format!("{head}\r\n\r\n").as_bytes()).status
    };
    for n in 0..10 {
        assert_eq!(ask_by("evil.example", &wrong(n)), 421);
    }
    assert_eq!(ask_by("evil.example", ANNA), 421);
    assert_eq!(ask_by("evil.example", "Accept: */*"), 421);
    assert_eq!(ask_by("pi", &wrong(0)), 401, "nobody has to wait");
    assert_eq!(ask_by("pi", ANNA), 200);
}

#[test]
fn strangers_do_not_hear_why_there_is_no_picture() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let device = "/dev/video-that-is-not-there";
    let secret = ["--password-file", &file, "--camera", device];
    for (args, told) in [(&secret[..], false), (&secret[2..], true)] {
        let server = Server::start(args);
        let head = format!("GET /video_feed HTTP/1.1\r\nHost: pi\r\n{ANNA}\r\n\r\n");
        let _viewer = Stream::ask(server.addr(), &head);
        let ill =
            || Some(request(&server, "GET /healthz", &[])).filter(|reply| reply.status == 503);
        let text = until(PATIENCE, ill).expect("503").text();
        assert!(text.starts_with("The camera gives no picture"), "{text}");
        assert_eq!(text.contains(device), told, "{text}");
    }
}

#[test]
fn who_guesses_has_to_wait_and_who_knows_does_not() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    request(&server, "GET /", &[ANNA]).expect(200);
    let guess = |n| request(&server, "GET /", &[&wrong(n)]);
    let replies: Vec<Reply> = (0..20).map(guess).collect();
    let refused = replies.iter().filter(|reply| reply.status == 429);
    assert!(
        refused.clone().count() >= 14,
        "{:?}",
        replies.iter().map(|r| r.status).collect::<Vec<_>>()
    );
    for reply in refused {
        let wait: u32 = reply.header("Retry-After").expect("a time").parse().expect("seconds");
        assert!((1..=300).contains(&wait), "{wait}");
    }
    // The same wrong one once more is no other guess, and who is known is known.
    assert_eq!(guess(0).status, 401);
    request(&server, "GET /", &[ANNA]).expect(200);
    server.wait_for_log("127.0.0.1: wrong name or password, 3 times now: anna", PATIENCE);
    assert!(!server.log().contains("guess1"), "a password in the log");
}

/// The table of guessers once forgot who was still being made to wait when 1,024 others had guessed.
#[test]
fn a_crowd_of_guessers_frees_none_of_them_and_keeps_nobody_out_who_is_known() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let options = ["--camera", "test", "--trust-proxy", "127.0.0.1", "--password-file", &file];
    let server = Server::start(&options);
    let mut client = Client::connect(server.addr());
    let mut ask = |from: &str, authorization: &str| {
        let fields = format!("Host: pi\r\nX-Forwarded-For: {from}\r\n{authorization}");
        client.send(format!("GET /app.css HTTP/1.1\r\n{fields}\r\n\r\n")).reply()
    };
    ask("192.0.2.7", ANNA).expect(200);
    let guesser = "192.0.2.1";
    for n in 0..4 {
        ask(guesser, &wrong(n)).expect(401);
    }
    let (begin, crowd) = (Instant::now(), 1100);
    for n in 0..crowd {
        let from = format!("10.0.{}.{}", n / 256, n % 256);
        let status = ask(&from, &wrong(100 + n)).status;
        // Who has no place any more waits for the others.
        assert!(status == 401 || n > 1000 && status == 429, "{status} for guesser {n}");
        if n % 100 == 0 {
            ask(&from, ANNA).expect(200);
        }
    }
    // Its second is over; were it forgotten, it could guess three times more.
    thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    ask(guesser, &wrong(5)).expect(401);
    let wait = ask(guesser, &wrong(6)).expect(429);
    assert_eq!(
        wait.header("Retry-After"),
        Some("2"),
        "two seconds, or a part of the second is over"
    );
    ask(guesser, ANNA).expect(200);
}

#[test]
fn a_password_file_that_is_wrong_is_said_so() {
    let folder = Folder::new();
    let check = |text: &str, parts: &[&str]| {
        let file = folder.write("passwords", text).display().to_string();
        let line = one_line(&run(&["--password-file", &file, "--listen", "127.0.0.1:0"]), 1);
        for part in parts.iter().chain([&"passwords"]) {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
    };
    let hash = bcrypt::hash("x", 4).expect("a hash");
    check("", &["--hash-password"]);
    check("# only\n\n", &["nobody"]);
    check("anna\n", &["line 1", "NAME:HASH"]);
    check("anna:secret\n", &["line 1", "bcrypt"]);
    check(&format!("\n:{hash}\n"), &["line 2", "name"]);
    check(&format!("a:{hash}:boss\n"), &["line 1", "viewer"]);
    check(&format!("a:{hash}:viewer:x\n"), &["line 1", "viewer"]);
    check(&format!("a:{hash}\na:{hash}\n"), &["line 2", "twice"]);
    check(&format!("a:{}\n", hash.replace("$04$", "$31$")), &["line 1", "cost"]);
    let missing = folder.path().join("none").display().to_string();
    let line = one_line(&run(&["--password-file", &missing]), 1);
    assert!(line.contains("No such file"), "{line}");
}

#[test]
fn a_line_for_the_password_file_is_made_and_works() {
    let made = |who: &str, password: &str| {
        let mut child = command(&["--hash-password", who])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        use std::io::Write;
        child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("written");
        child.wait_with_output().expect("its end")
    };
    let text = |out: std::process::Output| String::from_utf8(out.stdout).expect("text");
    let lines = [made("anna", "secret\n"), made("otto:viewer", "guest")].map(text).concat();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let folder = Folder::new();
    let file = folder.write("passwords", lines).display().to_string();
    let server = Server::start(&["--password-file", &file, "--camera", "test"]);
    request(&server, "GET /", &[ANNA]).expect(200);
    request(&server, "POST /photo", &[OTTO, "Content-Length: 0"]).expect(403);
    for (who, password) in [("a:b", "x"), ("", "x"), ("anna", ""), ("anna", &"x".repeat(73))] {
        let out = made(who, password);
        assert_eq!(out.status.code(), Some(1), "{who} {password}");
        assert_eq!(String::from_utf8_lossy(&out.stderr).lines().count(), 1);
    }
}

/// As htpasswd makes it, where there is one; its hashes begin with $2y$.
#[test]
fn hashes_of_other_programs_are_understood() {
    // From the test vectors of John the Ripper: "U*U" with cost 5, of each variant.
    let hash = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    for variant in ["$2a", "$2b", "$2y"] {
        let folder = Folder::new();
        let file = folder.write("passwords", format!("u:{variant}{hash}")).display().to_string();
        let server = Server::start(&["--password-file", &file, "--camera", "test"]);
        request(&server, "GET /", &["Authorization: Basic dTpVKlU="]).expect(200);
        request(&server, "GET /", &["Authorization: Basic dTpVKlY="]).expect(401);
    }
}

// ---- pages of other origins -----------------------------------------------------------------

#[test]
fn pages_elsewhere_read_only_if_they_are_named() {
    const MAINSAIL: &str = "Origin: http://mainsail.local";
    let server =
        Server::start(&["--camera", "test", "--allow-origin", "http://Mainsail.local:8080/"]);
    let allowed = "Origin: http://mainsail.local:8080";
    for path in ["/snapshot", "/status", "/", "/nowhere"] {
        let line = format!("GET {path}");
        let reply = request(&server, &line, &[allowed]);
        let name = "Access-Control-Allow-Origin";
        assert_eq!(reply.header(name), Some("http://mainsail.local:8080"), "{path}");
        assert_eq!(reply.header("Access-Control-Allow-Credentials"), None);
        assert!(reply.header("Vary").is_some_and(|vary| vary.contains("Origin")), "{path}");
        for other in
            [&[MAINSAIL][..], &["Origin: null"], &["Origin: http://mainsail.local:8080.x"], &[]]
        {
            let reply = request(&server, &line, other);
            assert_eq!(reply.header(name), None, "{path} {other:?}");
            assert!(reply.header("Vary").is_some_and(|vary| vary.contains("Origin")));
        }
    }
    let head = format!("GET /video_feed HTTP/1.1\r\nHost: pi\r\n{allowed}\r\n\r\n");
    let mut stream = Stream::ask(server.addr(), &head);
    assert!(stream.head.header("Access-Control-Allow-Origin").is_some());
    stream.frame();
    // Said once, with what to do.
    server.wait_for_log("--allow-origin http://mainsail.local would", PATIENCE);
    assert_eq!(server.log().matches("--allow-origin http://mainsail.local would").count(), 1);
    // Who may read may also frame, and still not act.
    let page = request(&server, "GET /", &["Accept: text/html"]).expect(200);
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.ends_with("frame-ancestors 'self' http://mainsail.local:8080"), "{policy}");
    request(&server, "POST /photo", &[allowed, "Content-Length: 0"]).expect(403);
}

#[test]
fn preflights_are_answered() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let options = ["--camera", "test", "--allow-origin", "https://a.example", "--password-file"];
    let server = Server::start(&[&options[..], &[&file]].concat());
    let ask = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let fields = [
            &origin,
            "Access-Control-Request-Method: GET",
            "Access-Control-Request-Headers: authorization",
        ];
        request(&server, "OPTIONS /snapshot", &fields).expect(204)
    };
    let reply = ask("https://a.example");
    assert_eq!(reply.header("Access-Control-Allow-Origin"), Some("https://a.example"));
    assert_eq!(reply.header("Access-Control-Allow-Methods"), Some("GET, HEAD"));
    assert_eq!(reply.header("Access-Control-Allow-Credentials"), Some("true"));
    let fields = reply.header("Access-Control-Allow-Headers").expect("fields");
    assert!(fields.contains("Authorization"), "{fields}");
    assert_eq!(ask("https://b.example").header("Access-Control-Allow-Origin"), None);
    let plain = request(&server, "OPTIONS /snapshot", &[]).expect(204);
    assert_eq!(plain.header("Allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_star_lets_all_read_but_not_with_a_password() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let options = ["--camera", "test", "--allow-origin", "*", "--password-file", &file];
    let server = Server::start(&options);
    let reply = request(&server, "GET /status", &["Origin: https://any.example", ANNA]).expect(200);
    assert_eq!(reply.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(reply.header("Access-Control-Allow-Credentials"), None);
    assert_eq!(reply.header("Vary"), None);
}

// ---- proxies --------------------------------------------------------------------------------

#[test]
fn only_a_trusted_proxy_says_whom_it_asks_for() {
    let forwarded = "X-Forwarded-For: 203.0.113.9, 198.51.100.7";
    let server = Server::start(&["--camera", "test"]);
    request(&server, "GET /app.css", &[forwarded]).expect(200);
    server.wait_for_log("GET /app.css", PATIENCE);
    assert!(!server.log().contains("198.51.100.7"), "{}", server.log());
    let server = Server::start(&["--camera", "test", "--trust-proxy", "127.0.0.0/8"]);
    request(&server, "GET /app.css", &[forwarded]).expect(200);
    let line = server.wait_for_log("GET /app.css", PATIENCE);
    assert!(line.contains("198.51.100.7 by 127.0.0.1:"), "{line}");
    assert!(!server.log().contains("203.0.113.9"), "{}", server.log());
}

#[test]
fn guesses_through_a_trusted_proxy_are_the_guessers_own() {
    let folder = Folder::new();
    let file = password_file(&folder);
    let options = ["--camera", "test", "--trust-proxy", "127.0.0.1", "--password-file", &file];
    let server = Server::start(&options);
    let guess = |from: &str, n: usize| {
        let from = format!("X-Forwarded-For: {from}");
        request(&server, "GET /", &[&wrong(n), &from]).status
    };
    assert_eq!((0..4).map(|n| guess("192.0.2.1", n)).collect::<Vec<_>>(), [401; 4]);
    assert_eq!(guess("192.0.2.1", 5), 429);
    assert_eq!(guess("192.0.2.2", 6), 401);
    // A network of IPv6 is one guesser.
    (7..11).for_each(|n| assert_eq!(guess(&format!("2001:db8::{n}"), n), 401));
    assert_eq!(guess("2001:db8::ffff", 12), 429);
    assert_eq!(guess("2001:db8:0:1::1", 13), 401);
}

#[test]
fn a_site_below_a_folder_of_a_proxy_works_whether_the_folder_was_taken_off_or_not() {
    let server = Server::start(&["--camera", "test", "--base-path", "/house/camera"]);
    for path in ["/", "/snapshot", "/app.css", "/gallery", "/md/"] {
        get(server.addr(), path).expect(200);
        get(server.addr(), &format!("/house/camera{path}")).expect(200);
    }
    let moved = |path: &str| {
        let reply = get(server.addr(), path).expect(301);
        reply.header("Location").expect("where to").to_owned()
    };
    assert_eq!(moved("/house/camera"), "/house/camera/");
    assert_eq!(moved("/house/camera/md"), "md/");
    get(server.addr(), "/house/").expect(404);
    get(server.addr(), "/house/camera/house/camera/").expect(404);
    get(server.addr(), "/house/camerax/").expect(404);
    // An error's page leads to the start and the files of the site from where it stands.
    for (path, root) in [
        ("/house/camera/nowhere", ""),
        ("/house/camera/no/where", "../"),
        ("/no/where/", "../../"),
        ("/nowhere", ""),
    ] {
        let reply = request(&server, &format!("GET {path}"), &["Accept: text/html"]).expect(404);
        let link = format!("href=\"{root}app.css\"");
        assert!(reply.text().contains(&link), "{path}: no {link} in {}", reply.text());
    }
    for wrong in ["camera", "/a b", "/../x", "/a//b"] {
        let line = one_line(&run(&["--base-path", wrong]), 2);
        assert!(line.contains("--base-path") && line.contains("/camera"), "{line}");
    }
}

#[test]
fn wrong_options_say_what_is_allowed() {
    for (option, value, allowed) in [
        ("--allow-origin", "mainsail.local", "http://"),
        ("--allow-origin", "http://a/b", "http://"),
        ("--allow-origin", "http://a:80", "http://"),
        ("--trust-proxy", "proxy", "127.0.0.1"),
        ("--trust-proxy", "10.0.0.0/40", "172.16.0.0/12"),
    ] {
        let line = one_line(&run(&[option, value]), 2);
        for part in [option, value, allowed] {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
    }
}

// ---- sockets --------------------------------------------------------------------------------

#[test]
fn a_program_on_this_machine_comes_in_by_a_socket() {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = Folder::new();
    let path = folder.path().join("pistream.socket");
    drop(UnixListener::bind(&path).expect("what a killed one leaves behind"));
    let unix = format!("unix:{}", path.display());
    let both = ["--listen", &unix, "--listen", "127.0.0.1:0", "--trust-proxy", "127.0.0.1"];
    let server = Server::start(&[&both[..], &["--camera", "test"]].concat());
    let asked = |request: &str| {
        let mut socket = UnixStream::connect(&path).expect("a way in");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        socket.write_all(request.as_bytes()).expect("asked");
        socket
    };
    let fields = "Host: pi\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.5";
    let mut page = String::new();
    asked(&format!("GET /app.css HTTP/1.1\r\n{fields}\r\n\r\n")).read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let line = server.wait_for_log("GET /app.css", PATIENCE);
    assert!(line.contains("192.0.2.5 by unix"), "{line}");
    // A stream, longer than any buffer; one that never reads is closed, and takes nothing.
    let mut idle = asked("GET /video_feed HTTP/1.0\r\n\r\n");
    let mut stream = asked("GET /video_feed HTTP/1.0\r\n\r\n");
    let mut bytes = vec![0; 2_000_000];
    stream.read_exact(&mut bytes).expect("2 MB of pictures");
    assert!(bytes.windows(11).filter(|part| part == b"\r\n--frame\r\n").count() > 3);
    server.wait_for_log("closed: Stalled", PATIENCE);
    bytes.clear();
    idle.read_to_end(&mut bytes).expect("what the kernel held, and the end");
    assert!(bytes.len() < 400_000, "{} bytes waited", bytes.len());
    // A second one does not take the first one's place.
    let line = one_line(&run(&["--listen", &unix]), 1);
    assert!(line.contains(&unix) && line.contains("in use"), "{line}");
    drop(stream);
    server.stop();
    assert!(!path.exists(), "the socket is left behind");
}

/// As systemd does it: the sockets are there before the program is, from descriptor 3 on.
#[test]
fn the_service_manager_may_open_the_sockets() {
    let Ok(activate) = which("systemd-socket-activate") else {
        println!("skipped: systemd-socket-activate is not installed");
        return;
    };
    let folder = Folder::new();
    let path = folder.path().join("pistream.socket");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().unwrap();
    let plain = command(&[]);
    let mut child = Command::new(activate);
    child.args(["-l", &port.to_string(), "-l", &path.display().to_string()]);
    child.arg("--setenv=RUST_LOG=info").arg(util::binary()).args(["--camera", "test"]);
    child.current_dir(folder.path()).stderr(Stdio::null()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    let mut child = child.spawn().expect("systemd-socket-activate");
    let connected = || std::net::TcpStream::connect(port).ok();
    drop(util::until(PATIENCE, connected).expect("the manager listens"));
    get(port, "/app.css").expect(200);
    get(port, "/snapshot").expect(200);
    std::os::unix::net::UnixStream::connect(&path).expect("the other one");
    let pid = child.id();
    assert!(Command::new("kill").arg(pid.to_string()).status().expect("kill").success());
    assert!(child.wait().expect("its end").success());
    assert!(path.exists(), "the socket is the manager's");
}

fn which(name: &str) -> Result<String, ()> {
    let folders = ["/usr/bin", "/bin"].map(|folder| format!("{folder}/{name}"));
    folders.into_iter().find(|path| fs::metadata(path).is_ok()).ok_or(())
}
