//! The set-ups of `md/scale.md`, run as that page prints them but for ports and paths: nginx, Caddy
//! and HAProxy in front of the real server, and relays behind it: pistream itself, and go2rtc. Each is a process of its own with
//! its own folder; curl is the visitor, from an address that no other client has.

mod util;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;
use util::console::free_port;
use util::go2rtc::{self, Go2rtc};
use util::numbered::{Camera, HEIGHT, Taken, WIDTH, number, number_in, soon};
use util::{Folder, Jpegs, PATIENCE, Server, Started, Stream, long, until};

/// The visitor's address. All of 127.0.0.0/8 is this machine; the proxies are at 127.0.0.1.
const VISITOR: &str = "127.0.0.5";

// ---- the page -------------------------------------------------------------------------------

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/md/scale.md")).expect("md/scale.md")
}

/// The page's block in this language that contains `part`, with each `from` of `changes` replaced.
#[track_caller]
fn block(language: &str, part: &str, changes: &[(&str, &str)]) -> String {
    let page = page();
    let blocks = page.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    let block = blocks.find(|block| block.contains(part));
    let mut block = block.unwrap_or_else(|| panic!("no {language} with {part:?}")).to_owned();
    for (from, to) in changes {
        assert!(block.contains(from), "no {from:?} in {block}");
        block = block.replace(from, to);
    }
    block
}

/// The options of the page's command that contains `part`.
#[track_caller]
fn options(part: &str, changes: &[(&str, &str)]) -> Vec<String> {
    let command = block("sh", part, changes);
    let line = command.trim().strip_prefix("pistream ").expect("a command");
    // What stands in quotes is one word.
    let pieces = line.split('\'').enumerate();
    let words = pieces.flat_map(|(n, piece)| match n % 2 {
        0 => piece.split_whitespace().map(str::to_owned).collect(),
        _ => vec![piece.to_owned()],
    });
    words.collect()
}

/// The Pi, as the page starts it behind a proxy.
#[track_caller]
fn pi() -> Camera {
    let options = options("--trust-proxy 192.168.1.2", &[("192.168.1.2", "127.0.0.1")]);
    Camera::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
}

// ---- the site behind a proxy ----------------------------------------------------------------

/// A proxy, and how the site is visited by it.
struct Site {
    /// Ends with a slash.
    base: Url,
    /// Whose word the visitor takes for the proxy's name.
    authority: Option<String>,
    folder: Folder,
    _proxy: Started,
}

/// An answer as curl tells it, redirects followed.
struct Answer {
    status: u16,
    url: Url,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}: {}", self.url, String::from_utf8_lossy(&self.body));
        self
    }
}

impl Site {
    /// Start a proxy that will listen at `addr`, with its settings in `folder`.
    #[track_caller]
    fn start(command: Command, folder: Folder, addr: SocketAddr, scheme: &str) -> Site {
        let proxy = Started::new(command, &folder.path().join("says")).expect("a proxy");
        let listens = until(PATIENCE, || TcpStream::connect(addr).ok());
        let says = fs::read_to_string(folder.path().join("says")).unwrap_or_default();
        assert!(listens.is_some(), "the proxy does not listen: {says}");
        let base = format!("{scheme}://camera.example.org:{}/camera/", addr.port());
        let base = Url::parse(&base).expect("an address");
        Site { base, authority: None, folder, _proxy: proxy }
    }

    /// curl on its way to an address below the site's.
    fn curl(&self, path: &str) -> Command {
        let port = self.base.port().expect("a port");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--interface", VISITOR, "--noproxy", "*"]);
        curl.arg("--resolve").arg(format!("camera.example.org:{port}:127.0.0.1"));
        if let Some(file) = &self.authority {
            curl.args(["--cacert", file]);
        }
        curl.arg(self.base.join(path).expect("a path").as_str());
        curl
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        self.ask(path, &[])
    }

    #[track_caller]
    fn ask(&self, path: &str, options: &[&str]) -> Answer {
        let tell = "\n%{http_code} %{url_effective}";
        let mut curl = self.curl(path);
        curl.args(["--location", "--write-out", tell]).args(options);
        curl.arg("--max-time").arg(PATIENCE.as_secs().to_string());
        let output = curl.output().expect("curl");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {complaint}");
        let split = output.stdout.iter().rposition(|byte| *byte == b'\n').expect("a last line");
        let line = String::from_utf8_lossy(&output.stdout[split + 1..]);
        let (status, url) = line.split_once(' ').expect("a status and an address");
        Answer {
            status: status.parse().expect("a status"),
            url: Url::parse(url).expect("an address"),
            body: output.stdout[..split].to_owned(),
        }
    }

    /// All that a visitor does.
    #[track_caller]
    fn expect_whole(&self, pi: &Camera) {
        self.expect_stream(pi);
        self.expect_photo();
        self.expect_links();
        self.expect_address(pi);
    }

    /// Pictures come one by one, none is lost, and the Pi is told when the viewer leaves.
    #[track_caller]
    fn expect_stream(&self, pi: &Camera) {
        let watch = || {
            let mut taken = Taken::new(pi, "/camera/video_feed");
            let mut curl = self.curl("video_feed");
            curl.arg("--no-buffer").stdout(Stdio::piped());
            let mut viewer = Started::new(curl, &self.folder.path().join("viewer"))?;
            let (tell, pictures) = channel();
            let out = viewer.stdout();
            thread::spawn(move || util::parts(out, |part| tell.send(part.jpeg).is_ok()));
            taken.fill(|| soon(&pictures)?.map(|jpeg| number_in(&jpeg)).transpose())?;
            assert_eq!(viewers(pi), 2);
            taken.judge(false)
        };
        println!("{}: {}", self.base, pi.unhurried(watch).expect("as promised"));
        assert!(until(PATIENCE, || (viewers(pi) == 1).then_some(())).is_some(), "it never left");
    }

    /// The button works from the site's own page, and from no other.
    #[track_caller]
    fn expect_photo(&self) {
        let press = |origin: &str| {
            let origin = format!("Origin: {origin}");
            self.ask("photo", &["--data", "", "--header", "Accept: text/html", "--header", &origin])
        };
        let own = self.base.origin().ascii_serialization();
        let shown = press(&own).expect(200);
        assert_eq!(shown.url, self.base.join("current_picture").expect("an address"));
        press("https://elsewhere.example").expect(403);
        let receipt = self.ask("photo", &["--data", ""]).expect(201);
        let receipt: Value = serde_json::from_slice(&receipt.body).expect("JSON");
        assert!(receipt["url"].is_string(), "{receipt}");
    }

    /// Every link, picture and form of every page leads into the site, and to something.
    #[track_caller]
    fn expect_links(&self) {
        let without_slash = self.base.as_str().trim_end_matches('/');
        assert_eq!(self.get(without_slash).expect(200).url, self.base);
        let mut seen = BTreeSet::new();
        for path in
            ["", "gallery", "current_picture", "status", "interval", "controls", "md/", "no/where"]
        {
            let answer = self.ask(path, &["--header", "Accept: text/html"]);
            assert_eq!(answer.status, if path == "no/where" { 404 } else { 200 }, "{path}");
            let text = String::from_utf8(answer.body).expect("a page");
            for (name, value) in links(&text) {
                let mut link = answer.url.join(&value).expect("an address");
                link.set_fragment(None);
                let shown = format!("{name} of {}: {link}", answer.url);
                if link.host() != self.base.host() {
                    continue; // somebody else's
                }
                assert!(link.as_str().starts_with(self.base.as_str()), "{shown}");
                let followed = name != "action" && !link.path().contains("/video_feed");
                let other = link != answer.url;
                if followed && other && seen.insert(link.to_string()) {
                    let status = self.get(link.as_str()).status;
                    assert_eq!(status, 200, "{shown}");
                }
            }
        }
        for part in ["app.css", "/pic/", "/thumb/", "/view/", "/md/"] {
            assert!(seen.iter().any(|link| link.contains(part)), "no {part} in {seen:#?}");
        }
    }

    /// The log names the visitor, whatever he says of himself.
    #[track_caller]
    fn expect_address(&self, pi: &Camera) {
        self.ask("healthz", &["--header", "X-Forwarded-For: 203.0.113.9"]).expect(200);
        let line = pi.wait_for_log("GET /camera/healthz", PATIENCE);
        assert!(line.contains(&format!("{VISITOR} by ")), "{line}");
    }
}

/// Names and values of the attributes of a page that hold addresses.
fn links(page: &str) -> Vec<(&str, String)> {
    let names = ["href", "src", "action"];
    let found = names.into_iter().flat_map(|name| {
        let start = format!(" {name}=\"");
        let values = page.split(&start).skip(1).filter_map(|rest| rest.split_once('"'));
        let values: Vec<_> = values.collect();
        values.into_iter().map(move |(value, _)| (name, value.replace("&amp;", "&")))
    });
    found.collect()
}

fn viewers(server: &Server) -> u64 {
    let status = server.get("/status").expect(200);
    let status: Value = serde_json::from_slice(&status.body).expect("JSON");
    status["viewers"].as_u64().expect("a number")
}

// ---- nginx ----------------------------------------------------------------------------------

/// nginx with the page's settings, in front of `upstream`.
#[track_caller]
fn nginx(upstream: &str) -> Site {
    let (folder, addr) = (Folder::new(), free_port());
    let path = folder.arg();
    make_certificate(folder.path());
    let server = block(
        "nginx",
        "proxy_cache_path",
        &[
            ("/dev/shm/camera", &format!("{path}/cache")),
            ("listen 443", &format!("listen {addr}")),
            ("/etc/ssl/camera", path),
            ("http://192.168.1.3:5000", upstream),
        ],
    );
    folder.write("camera.conf", server);
    let root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let kept: String =
        kinds.iter().map(|kind| format!("{kind}_temp_path {path}/{kind};\n")).collect();
    let settings = format!(
        "daemon off;\n{root}\npid {path}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{kept}include {path}/camera.conf;\n}}\n"
    );
    folder.write("nginx.conf", settings);
    let mut command = Command::new("/usr/sbin/nginx");
    command.args(["-p", path, "-e", "stderr", "-c", "nginx.conf"]);
    let certificate = format!("{path}/certificate.pem");
    let mut site = Site::start(command, folder, addr, "https");
    site.authority = Some(certificate);
    site
}

/// As the page makes one.
#[track_caller]
fn make_certificate(folder: &Path) {
    let command = block("sh", "openssl req", &[]);
    let mut words = command.split_whitespace();
    let mut openssl = Command::new(words.next().expect("openssl"));
    let output = openssl.args(words).current_dir(folder).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn by_port(server: &Server) -> String {
    format!("http://{}", server.addr())
}

#[test]
fn the_whole_site_works_behind_nginx() {
    let pi = pi();
    nginx(&by_port(&pi)).expect_whole(&pi);
}

/// A hundred visitors, of whom the Pi hears once a second.
#[test]
fn nginx_keeps_a_snapshot_for_a_second() {
    let pi = pi();
    let site = nginx(&by_port(&pi));
    let begin = Instant::now();
    let visit = || {
        let mut last = 0;
        for visit in 0..25 {
            thread::sleep((begin + Duration::from_millis(160) * visit) - Instant::now());
            let answer = site.get(&format!("snapshot?cacheBust={visit}")).expect(200);
            let number = number_in(&answer.body).expect("one of ours");
            assert!(number >= last, "{number} after {last}");
            last = number;
        }
        last
    };
    let first = number_in(&site.get("snapshot").expect(200).body).expect("one of ours");
    let last = thread::scope(|scope| {
        let visitors: Vec<_> = (0..4).map(|_| scope.spawn(visit)).collect();
        visitors.into_iter().map(|visitor| visitor.join().expect("pictures")).max()
    });
    let seconds = begin.elapsed().as_secs() as usize;
    let asked = pi.log().matches("GET /camera/snapshot").count();
    println!("101 visits in {seconds} s cost the Pi {asked} requests");
    assert!(asked <= seconds + 2, "{asked} requests in {seconds} s");
    assert!(last > Some(first), "the same picture all the time");
}

/// Two visitors with different passwords, or none, never get each other's answers.
#[test]
fn a_kept_snapshot_is_for_who_may_see_it() {
    let folder = Folder::new();
    let hash = bcrypt::hash("secret", 4).expect("a hash");
    let file = folder.write("passwords", format!("anna:{hash}\n")).display().to_string();
    let server = Server::start(&[
        "--camera",
        "test",
        "--base-path",
        "/camera",
        "--host-name",
        "camera.example.org",
        "--password-file",
        &file,
    ]);
    let site = nginx(&by_port(&server));
    for _ in 0..5 {
        site.ask("snapshot?now=1", &["--user", "anna:secret"]).expect(200);
        site.get("snapshot?now=1").expect(401);
    }
}

#[test]
fn a_proxy_that_nobody_trusts_does_not_say_who_asks() {
    let options = ["--base-path", "/camera", "--host-name", "camera.example.org"];
    let server = Server::start(&[&options[..], &["--camera", "test"]].concat());
    nginx(&by_port(&server)).get("app.css").expect(200);
    server.wait_for_log("GET /camera/app.css 200", PATIENCE);
    assert!(!server.log().contains(VISITOR), "{}", server.log());
}

#[test]
fn nginx_reaches_a_socket_that_is_a_file() {
    let folder = Folder::new();
    let socket = folder.path().join("socket").display().to_string();
    let change = [("/run/pistream/socket", socket.as_str())];
    let options = options("--listen unix:", &change);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(["--listen", "127.0.0.1:0"]); // where the pictures' maker looks
    let pi = Camera::start(&options);
    nginx(&format!("http://unix:{socket}:")).expect_whole(&pi);
}

// ---- others ---------------------------------------------------------------------------------

#[test]
fn the_whole_site_works_behind_caddy() {
    if !long() {
        return;
    }
    let pi = pi();
    let (folder, addr, plain) = (Folder::new(), free_port(), free_port());
    let port = addr.port().to_string();
    let site = block(
        "caddyfile",
        "reverse_proxy",
        &[
            ("camera.example.org", &format!("camera.example.org:{port}")),
            ("192.168.1.3:5000", &pi.addr().to_string()),
        ],
    );
    let own = format!(
        "{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {}\n\thttps_port {port}\n}}\n",
        plain.port()
    );
    folder.write("Caddyfile", format!("{own}{site}"));
    let mut command = Command::new("caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(folder.path().join("Caddyfile"));
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, folder.path());
    }
    let authority = folder.path().join("caddy/pki/authorities/local/root.crt");
    let mut site = Site::start(command, folder, addr, "https");
    let certified = || {
        site.authority = authority.exists().then(|| authority.display().to_string());
        let reached = site.authority.is_some() && site.curl("").output().ok()?.status.success();
        reached.then_some(())
    };
    until(PATIENCE, certified).expect("a certificate of Caddy's own");
    site.expect_whole(&pi);
}

#[test]
fn the_whole_site_works_behind_haproxy() {
    if !long() {
        return;
    }
    let pi = pi();
    let (folder, addr) = (Folder::new(), free_port());
    let settings = block(
        "haproxy",
        "backend camera",
        &[("bind :80", &format!("bind {addr}")), ("192.168.1.3:5000", &pi.addr().to_string())],
    );
    let file = folder.write("haproxy.cfg", settings);
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file).stdout(Stdio::null());
    Site::start(command, folder, addr, "http").expect_whole(&pi);
}

// ---- relays ---------------------------------------------------------------------------------

/// Twenty who look at a relay, each of whom has seen pictures in their order.
#[track_caller]
fn crowd<V>(pi: &Camera, open: impl Fn() -> V, next: impl Fn(&mut V) -> Vec<u8>) -> Vec<V> {
    let mut crowd: Vec<V> = (0..20).map(|_| open()).collect();
    for viewer in &mut crowd {
        let mut numbers = Vec::new();
        while numbers.len() < 10 {
            // Before the first one of the Pi's, NO SIGNAL may be shown.
            numbers.extend(number_in(&next(viewer)));
        }
        let in_order = |a: &u32, b: &u32| a < b || (a == b && pi.paused_after(*a));
        assert!(numbers.is_sorted_by(in_order), "{numbers:?}");
    }
    crowd
}

/// The Pi has one viewer, and none when the relay has none.
#[track_caller]
fn expect_one_stream<V>(pi: &Camera, crowd: Vec<V>) {
    assert_eq!(viewers(pi), 2, "the relay, and the maker of the pictures");
    assert_eq!(pi.log().matches("GET /video_feed 200").count(), 1);
    drop(crowd);
    expect_none_left(pi);
}

#[track_caller]
fn expect_none_left(pi: &Camera) {
    assert!(until(PATIENCE, || (viewers(pi) == 1).then_some(())).is_some(), "it watches on");
}

#[test]
fn a_relay_serves_the_crowd_from_one_stream() {
    let pi = Camera::start(&[]);
    let change = [("192.168.1.3:5000", pi.addr().to_string())];
    let options = options("exec:curl", &change.each_ref().map(|(from, to)| (*from, to.as_str())));
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(["--idle-off", "1s"]);
    let relay = Server::start(&options);
    let open = || Stream::open(relay.addr(), "/video_feed");
    let crowd = crowd(&pi, open, |viewer| viewer.frame().jpeg);
    assert_eq!(viewers(&relay), 20);
    expect_one_stream(&pi, crowd);
}

/// A Pi, and go2rtc before it with those settings of the page that contain `part`; none where it
/// is not installed.
#[track_caller]
fn go2rtc(part: &str) -> Option<(Camera, Go2rtc)> {
    let pi = go2rtc::is_there().then(|| Camera::start(&[]))?;
    let settings = block("yaml", part, &[("192.168.1.3:5000", &pi.addr().to_string())]);
    Some((pi, Go2rtc::start(&settings)))
}

/// ffmpeg sees pictures of this kind there by RTSP, in their order and about as often as the Pi's.
#[track_caller]
fn expect_rtsp(url: &str, codec: &str) {
    let folder = Folder::new();
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string());
    command.args(["ffmpeg", "-rtsp_transport", "tcp", "-i", url]);
    command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    command.stdout(Stdio::piped());
    let says = folder.path().join("says");
    let mut ffmpeg = Started::new(command, &says).expect("ffmpeg");
    let mut out = ffmpeg.stdout();
    let (mut numbers, mut grey) = (Vec::new(), [0; WIDTH * HEIGHT]);
    for _ in 0..30 {
        let end = out.read_exact(&mut grey);
        let said = fs::read_to_string(&says).unwrap_or_default();
        assert!(end.is_ok(), "{url}: {end:?}: {said}");
        assert!(said.contains(&format!("Video: {codec}")), "{url}: {said}");
        numbers.push(number(&grey).expect("one of ours"));
    }
    assert!(numbers.is_sorted(), "{url}: {numbers:?}");
    numbers.dedup(); // the Pi's may come again when the machine pauses
    assert!(numbers.len() >= 15, "{url}: {numbers:?}");
}

#[test]
fn go2rtc_serves_the_crowd_from_one_stream() {
    let Some((pi, relay)) = go2rtc("streams:") else { return };
    let next = |viewer: &mut Jpegs<_>| viewer.next().expect("a picture").expect("whole");
    let crowd = crowd(&pi, || relay.view(), next);
    expect_rtsp(&relay.rtsp(), "mjpeg");
    expect_one_stream(&pi, crowd);
}

#[test]
fn go2rtc_has_h264_made_while_somebody_watches() {
    let Some((pi, relay)) = go2rtc("ffmpeg:camera") else { return };
    expect_rtsp(&format!("{}?video=h264", relay.rtsp()), "h264");
    expect_none_left(&pi);
}
