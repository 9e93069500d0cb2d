//! A browser as a test's hand and eye: Debian's Chromium without a window, through chromedriver,
//! by the WebDriver protocol (W3C) and Chromium's own commands (CDP), JSON over HTTP/1.1.
//!
//! The client is our own: each of the driver crates brings an asynchronous runtime and some hundred
//! packages, and what a test needs is a dozen requests over one blocking socket each.
//! Own processes only: the browser ends with its session, and both are killed by their number.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::util::{Folder, PATIENCE, decode, until};

/// The driver itself waits for the browser; a start on a busy machine takes its time.
const REPLY_TIME_MAX: Duration = Duration::from_secs(90);

/// Command line of the browser: no window, no sandbox (tests run as root), no errand of its own.
/// Names do not resolve, so that no page and no fault of ours reaches another host.
const ARGS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// One browser with an empty profile, and one page in it.
pub struct Browser {
    driver: Child,
    addr: SocketAddr,
    /// `/session/…`, before each command's path; empty until the session stands.
    session: String,
    /// The browser's process, ended with the session or else by this number.
    pid: Option<Pid>,
    profile: Folder,
}

/// What a page is shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    /// Has fingers, not a mouse.
    pub phone: bool,
    /// The system's setting.
    pub dark: bool,
}

/// Pixels as the browser drew them, three bytes each, row by row.
pub struct Pixels {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Pixels {
    /// Red, green and blue at a point.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = (y * self.width + x) * 3;
        self.rgb[start..start + 3].try_into().unwrap()
    }

    /// How many clearly different colours there are; one in a blank picture.
    pub fn colours(&self) -> usize {
        let coarse = self.rgb.chunks_exact(3).map(|p| (p[0] >> 5, p[1] >> 5, p[2] >> 5));
        coarse.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The part of pixels that differ clearly from those of another picture of the same size.
    pub fn difference(&self, other: &Pixels) -> f64 {
        assert_eq!((self.width, self.height), (other.width, other.height));
        let pairs = self.rgb.chunks_exact(3).zip(other.rgb.chunks_exact(3));
        let differ = |(a, b): &(&[u8], &[u8])| a.iter().zip(*b).any(|(a, b)| a.abs_diff(*b) > 40);
        pairs.filter(differ).count() as f64 / (self.width * self.height) as f64
    }
}

impl Browser {
    pub fn start() -> Browser {
        Browser::start_with(json!({}))
    }

    /// Starts one with settings of its profile (Chromium's "prefs").
    #[track_caller]
    pub fn start_with(prefs: Value) -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start chromedriver (Debian: chromium-driver; scripts/test installs it)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop)); // a full pipe would block the driver
        let port = port.expect("chromedriver names its port");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (session, pid, profile) = (String::new(), None, Folder::new());
        let mut browser = Browser { driver, addr, session, pid, profile };
        let mut args: Vec<String> = ARGS.map(str::to_owned).to_vec();
        args.push(format!("--user-data-dir={}", browser.profile.arg()));
        let reply = browser.post(
            "/session",
            json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "pageLoadStrategy": "eager",
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "goog:chromeOptions": {"args": args, "prefs": prefs},
            }}}),
        );
        browser.session = format!("/session/{}", reply["sessionId"].as_str().expect("a session"));
        let pid = reply["capabilities"]["goog:processID"].as_i64();
        browser.pid = pid.and_then(|pid| Pid::from_raw(pid as i32));
        browser.open("about:blank");
        browser
    }

    /// Shows the pages on such a screen from now on.
    pub fn set_screen(&self, screen: Screen) {
        let Screen { width, height, phone, dark } = screen;
        let mut size = json!({"width": width, "height": height, "deviceScaleFactor": 1});
        size["mobile"] = json!(phone);
        self.cdp("Emulation.setDeviceMetricsOverride", size);
        let theme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Opens a page and waits until its document is read (not its pictures: a stream has no end).
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", json!({"url": url}));
    }

    /// Runs a function's body in the page; what it returns.
    #[track_caller]
    pub fn eval(&self, body: &str) -> Value {
        self.post("/execute/sync", json!({"script": body, "args": []}))
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn wait(&self, expression: &str) {
        let body = format!("return !!({expression})");
        if until(PATIENCE, || (self.eval(&body) == json!(true)).then_some(())).is_none() {
            let state = "return document.documentElement.outerHTML.slice(0, 300)";
            panic!("in {PATIENCE:?} never true: {expression}\n{}", self.eval(state));
        }
    }

    /// Presses and releases one key.
    #[track_caller]
    pub fn press(&self, key: char) {
        let key = key.to_string();
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let actions = json!([{"type": "key", "id": "keyboard", "actions": strokes}]);
        self.post("/actions", json!({"actions": actions}));
    }

    /// Clicks the element that a CSS selector names, in its middle, as a person would.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let using = json!({"using": "css selector", "value": selector});
        let element = self.post("/element", using);
        let id = element.as_object().and_then(|object| object.values().next()?.as_str());
        self.post(&format!("/element/{}/click", id.expect("an element")), json!({}));
    }

    /// Puts a new tab before the page, so that the page is hidden; gives the page's handle.
    #[track_caller]
    pub fn cover(&self) -> Value {
        let page = self.request("GET", "/window", None);
        let tab = self.post("/window/new", json!({"type": "tab"}));
        self.post("/window", json!({"handle": tab["handle"]}));
        page
    }

    /// Closes the tab that covers a page, so that the page is seen again.
    #[track_caller]
    pub fn uncover(&self, page: &Value) {
        self.request("DELETE", "/window", None);
        self.post("/window", json!({"handle": page}));
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub fn cdp(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    /// What the console (`browser`) or the network (`performance`) logged since last asked.
    #[track_caller]
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", json!({"type": kind}));
        entries.as_array().expect("a list").clone()
    }

    /// The addresses that the page asked for since last asked.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let url = |entry: &Value| {
            let text = entry["message"].as_str()?;
            let event = serde_json::from_str::<Value>(text).ok()?["message"].take();
            let sent = event["method"] == "Network.requestWillBeSent";
            sent.then(|| event["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        self.log("performance").iter().filter_map(url).collect()
    }

    /// What is drawn inside a rectangle of the page: x, y, width, height.
    #[track_caller]
    pub fn pixels(&self, [x, y, width, height]: [f64; 4]) -> Pixels {
        let clip = json!({"x": x, "y": y, "width": width, "height": height, "scale": 1});
        let params = json!({"format": "jpeg", "quality": 95, "clip": clip});
        let picture = self.cdp("Page.captureScreenshot", params);
        let (width, height, rgb) = decode(&base64(picture["data"].as_str().expect("a picture")));
        Pixels { width, height, rgb }
    }

    /// Writes what the screen shows to `target/screenshots/NAME.png`, for a person to look at.
    #[track_caller]
    pub fn save(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).expect("make the folder of screenshots");
        let picture = self.request("GET", "/screenshot", None);
        let bytes = base64(picture.as_str().expect("a picture"));
        std::fs::write(folder.join(name).with_extension("png"), bytes).expect("write a screenshot");
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Value {
        self.request("POST", path, Some(body))
    }

    /// One command to the driver; what it answers. An error of the driver ends the test.
    #[track_caller]
    fn request(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let path = format!("{}{path}", self.session);
        let reply = exchange(self.addr, method, &path, body);
        let reply = reply.unwrap_or_else(|error| panic!("chromedriver, {method} {path}: {error}"));
        let value = reply["value"].clone();
        if let Some(error) = value["error"].as_str() {
            panic!("{method} {path}: {error}: {}", value["message"].as_str().unwrap_or(""));
        }
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            if std::thread::panicking() {
                let path = format!("{}/se/log", self.session);
                let console = exchange(self.addr, "POST", &path, Some(json!({"type": "browser"})));
                eprintln!("--- the console ---\n{:#}", console.unwrap_or_default()["value"]);
            }
            let ended = exchange(self.addr, "DELETE", &self.session, None);
            if let (Err(_), Some(pid)) = (ended, self.pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One request on a connection of its own.
fn exchange(addr: SocketAddr, method: &str, path: &str, body: Option<Value>) -> io::Result<Value> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(REPLY_TIME_MAX))?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reply.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut text = vec![0; length];
    reply.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// RFC 4648 §4, as the driver sends its pictures.
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let mut bits = 0u32;
    let mut count = 0;
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{letter:?} in base64"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
