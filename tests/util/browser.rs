//! A browser as a test's hand and eye: Debian's Chromium without a window, through chromedriver,
//! by the WebDriver protocol (W3C) and Chromium's own commands (CDP).
//!
//! fantoccini speaks the protocol. Its asynchronous runtime runs only within a call and on the
//! caller's thread: a test asks one thing after the other and waits for each.
//! Own processes only: the browser ends with its session, and both are killed by their number.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use url::{ParseError, Url};

use crate::util::{Folder, PATIENCE, Reply, Server, decode, until};

pub const PHONE: Screen = Screen { width: 390, height: 844, phone: true, dark: false };
pub const PHONE_ON_ITS_SIDE: Screen = Screen { width: 844, height: 390, ..PHONE };
pub const SMALL_PHONE: Screen = Screen { width: 320, height: 568, ..PHONE };
pub const TABLET: Screen = Screen { width: 768, height: 1024, ..PHONE };
pub const DESKTOP: Screen = Screen { width: 1280, height: 800, phone: false, dark: false };

/// Keys that have no letter, as WebDriver numbers them.
pub const TAB: char = '\u{e004}';
pub const ENTER: char = '\u{e007}';
pub const ESCAPE: char = '\u{e00c}';
pub const LEFT: char = '\u{e012}';
pub const RIGHT: char = '\u{e014}';
pub const DOWN: char = '\u{e015}';
pub const DELETE: char = '\u{e017}';

/// The driver itself waits for the browser; a start on a busy machine takes its time.
const REPLY_TIME_MAX: Duration = Duration::from_secs(90);

/// Command line of the browser: no window, no sandbox (tests run as root), no errand of its own.
const ARGS: [&str; 12] = [
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
];
/// Names do not resolve, so that no page and no fault of ours reaches another host.
const NAMES: &str = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1";

/// One browser with an empty profile, and one page in it.
pub struct Browser {
    client: Client,
    runtime: Runtime,
    /// The browser's process, ended with the session or else by this number.
    pid: Option<Pid>,
    // Dropped in this order: nothing writes into the profile any more when it is removed.
    _driver: Driver,
    _profile: Folder,
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

/// A server with the test picture, and a browser.
#[track_caller]
pub fn start() -> (Server, Browser) {
    (Server::start(&["--camera", "test"]), Browser::start())
}

/// The address of a server's page; `path` without a slash at its start.
pub fn page(server: &Server, path: &str) -> String {
    format!("http://{}/{path}", server.addr())
}

/// Opens the live page and waits until it says that it is live.
#[track_caller]
pub fn open_live(browser: &Browser, server: &Server, screen: Screen) {
    browser.set_screen(screen);
    browser.open(&page(server, ""));
    wait_for_state(browser, "live");
}

#[track_caller]
pub fn wait_for_state(browser: &Browser, state: &str) {
    browser.wait(&format!("document.documentElement.dataset.state === '{state}'"));
}

/// Presses a button of the site without a browser: the form's fields, and no page wanted.
#[track_caller]
pub fn post(server: &Server, path: &str, form: &str) -> Reply {
    let length = form.len();
    let request = format!("POST /{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{form}");
    server.ask(request.as_bytes())
}

/// Has the server take a photo; its name.
#[track_caller]
pub fn take_photo(server: &Server) -> String {
    let receipt = post(server, "photo", "").expect(201);
    let receipt: Value = serde_json::from_slice(&receipt.body).expect("JSON");
    receipt["name"].as_str().expect("a name").to_owned()
}

/// The names of the photos in the folder, the newest first.
#[track_caller]
pub fn photos(server: &Server) -> Vec<String> {
    let mut names = names_in(&server.folder().path().join("pic"));
    names.retain(|name| name.ends_with(".jpg"));
    // Without the end, a second's first photo is before its second.
    names.sort_by(|a, b| b.trim_end_matches(".jpg").cmp(a.trim_end_matches(".jpg")));
    names
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().into_string().expect("a plain name")).collect()
}

/// chromedriver, killed when dropped.
struct Driver {
    child: Child,
    /// Of the loopback interface.
    port: u16,
}

impl Driver {
    /// It takes a free port of IPv4's, and ends if somebody has the same one of IPv6's.
    #[track_caller]
    fn start() -> Driver {
        (0..5).find_map(|_| Driver::try_start()).expect("chromedriver names its port")
    }

    fn try_start() -> Option<Driver> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start chromedriver (Debian: chromium-driver; scripts/test installs it)");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut driver = Driver { child, port: 0 };
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop)); // a full pipe would block the driver
        driver.port = port?;
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command to the driver for which fantoccini has no function, or none that serves here.
#[derive(Debug)]
struct Own {
    method: Method,
    /// Behind the session's address.
    path: &'static str,
    body: Option<Value>,
}

impl Own {
    fn post(path: &'static str, body: Value) -> Own {
        Own { method: Method::POST, path, body: Some(body) }
    }
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

impl Browser {
    #[track_caller]
    pub fn start() -> Browser {
        Browser::start_with(json!({}))
    }

    /// Starts one with settings of its profile (Chromium's "prefs").
    #[track_caller]
    pub fn start_with(prefs: Value) -> Browser {
        Browser::launch(prefs, NAMES)
    }

    /// Starts one for which these names are this machine's: who owns a name may say so of it.
    #[track_caller]
    pub fn start_with_names(names: &[&str]) -> Browser {
        let own: String = names.iter().map(|name| format!("MAP {name} 127.0.0.1, ")).collect();
        Browser::launch(json!({}), &format!("{own}{NAMES}"))
    }

    #[track_caller]
    fn launch(prefs: Value, names: &str) -> Browser {
        let profile = Folder::new();
        let driver = Driver::start();
        let mut args: Vec<String> = ARGS.map(str::to_owned).to_vec();
        args.push(format!("--user-data-dir={}", profile.arg()));
        args.push(format!("--host-resolver-rules={names}"));
        let wanted = Capabilities::from_iter([
            ("browserName".to_owned(), json!("chrome")),
            ("pageLoadStrategy".to_owned(), json!("eager")),
            ("goog:loggingPrefs".to_owned(), json!({"browser": "ALL", "performance": "ALL"})),
            ("goog:chromeOptions".to_owned(), json!({"args": args, "prefs": prefs})),
        ]);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut session = ClientBuilder::new(HttpConnector::new());
        session.capabilities(wanted);
        let address = format!("http://127.0.0.1:{}", driver.port);
        let client = match attempt(&runtime, session.connect(&address)) {
            Ok(client) => client,
            Err(error) => panic!("start a browser: {error}"),
        };
        let pid = client.capabilities().and_then(|found| found.get("goog:processID")?.as_i64());
        let pid = pid.and_then(|pid| Pid::from_raw(pid as i32));
        let browser = Browser { client, runtime, pid, _driver: driver, _profile: profile };
        browser.open("about:blank");
        browser
    }

    /// Shows the pages on such a screen from now on.
    #[track_caller]
    pub fn set_screen(&self, screen: Screen) {
        let Screen { width, height, phone, dark } = screen;
        let mut size = json!({"width": width, "height": height, "deviceScaleFactor": 1});
        size["mobile"] = json!(phone);
        self.cdp("Emulation.setDeviceMetricsOverride", size);
        self.cdp("Emulation.setTouchEmulationEnabled", json!({"enabled": phone}));
        let theme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Asks for pages in these languages from now on (`de-CH,de,en`: the best first), by each
    /// request's `Accept-Language`, to which the browser adds the weights, and before scripts.
    #[track_caller]
    pub fn set_languages(&self, languages: &str) {
        let agent = self.eval("return navigator.userAgent"); // cannot be left as it is unsaid
        let params = json!({"userAgent": agent, "acceptLanguage": languages});
        self.cdp("Emulation.setUserAgentOverride", params);
    }

    /// Lets the pages that are opened from now on run their scripts, or not; `eval` works anyway.
    #[track_caller]
    pub fn set_scripts(&self, run: bool) {
        self.cdp("Emulation.setScriptExecutionDisabled", json!({"value": !run}));
    }

    /// Opens a page and waits until its document is read (not its pictures: a stream has no end).
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.finish(url, self.client.goto(url));
    }

    /// Runs a function's body in the page; what it returns.
    #[track_caller]
    pub fn eval(&self, body: &str) -> Value {
        self.finish(body, self.client.execute(body, Vec::new()))
    }

    /// By axe-core's rules: nothing on the page that is open keeps out who sees, hears or moves
    /// otherwise, on a phone and a desk, in light and dark colours.
    #[track_caller]
    pub fn expect_open_to_all(&self, name: &str) {
        // axe-core's file; scripts/test --long brings it.
        let axe = std::env::var("PISTREAM_AXE").expect("PISTREAM_AXE names axe-core's axe.min.js");
        self.run_file(axe);
        for screen in [PHONE, DESKTOP] {
            for dark in [false, true] {
                let screen = Screen { dark, ..screen };
                self.set_screen(screen);
                let found = self.eval(
                    "return axe.run().then(found => found.violations
                         .filter(({ impact }) => impact === 'serious' || impact === 'critical')
                         .map(({ id, nodes }) => [id, nodes.map(node => node.html)]))",
                );
                assert_eq!(found, json!([]), "{name} on {screen:?}");
            }
        }
    }

    /// Runs a file's source in the page as a script of its own, whatever the page's policy says:
    /// what it declares stays there for `eval`.
    #[track_caller]
    pub fn run_file(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let source = match std::fs::read_to_string(path) {
            Ok(source) => source,
            Err(error) => panic!("read {}: {error}", path.display()),
        };
        let outcome = self.cdp("Runtime.evaluate", json!({"expression": source}));
        let fault = &outcome["exceptionDetails"];
        assert!(fault.is_null(), "{}: {fault:#}", path.display());
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

    /// Waits until the page at a path (with its query, if it has one) is read and its scripts
    /// have begun.
    #[track_caller]
    pub fn wait_for_page(&self, path: &str) {
        self.wait(&format!(
            "location.pathname + location.search === '/{path}' &&
             performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        ));
    }

    /// Presses and releases one key.
    #[track_caller]
    pub fn press(&self, key: char) {
        self.type_keys(key.encode_utf8(&mut [0; 4]));
    }

    /// Presses and releases one key after the other, wherever the focus is.
    #[track_caller]
    pub fn type_keys(&self, keys: &str) {
        let strokes = keys.chars().fold(KeyActions::new("keyboard".to_owned()), |strokes, key| {
            strokes.then(KeyAction::Down { value: key }).then(KeyAction::Up { value: key })
        });
        self.finish(keys, self.client.perform_actions(strokes));
    }

    /// Clicks the element that a CSS selector names, in its middle, as a person would.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        // From behind a bar that lies over the page, as far as the page's style knows of it.
        self.eval(&format!(
            "document.querySelector({selector:?})?.scrollIntoView({{ block: 'nearest' }})"
        ));
        self.finish(selector, async { self.element(selector).await?.click().await });
    }

    /// Clicks it while Shift is held down.
    #[track_caller]
    pub fn shift_click(&self, selector: &str) {
        let place = self.eval(&format!(
            "const found = document.querySelector({selector:?});
             found.scrollIntoView({{ block: 'center' }});
             const r = found.getBoundingClientRect();
             return [r.x + r.width / 2, r.y + r.height / 2]"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let mut event = json!({"type": kind, "x": place[0], "y": place[1], "modifiers": 8});
            (event["button"], event["clickCount"]) = (json!("left"), json!(1));
            self.cdp("Input.dispatchMouseEvent", event);
        }
    }

    /// The text of the element that a CSS selector names, as far as one sees it.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.finish(selector, async { self.element(selector).await?.text().await })
    }

    /// Swipes with a finger from one point of the screen to another: x, y.
    #[track_caller]
    pub fn swipe(&self, from: [f64; 2], to: [f64; 2]) {
        const STEPS: u32 = 10;
        let touch = |kind: &str, points: Value| {
            self.cdp("Input.dispatchTouchEvent", json!({"type": kind, "touchPoints": points}));
        };
        touch("touchStart", json!([{"x": from[0], "y": from[1]}]));
        for step in 1..=STEPS {
            let way = f64::from(step) / f64::from(STEPS);
            let [x, y] = [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * way);
            touch("touchMove", json!([{"x": x, "y": y}]));
        }
        touch("touchEnd", json!([]));
    }

    /// Puts a new tab before the page, so that the page is hidden; gives the page's handle.
    #[track_caller]
    pub fn cover(&self) -> WindowHandle {
        self.finish("a new tab", async {
            let page = self.client.window().await?;
            let tab = self.client.new_window(true).await?;
            self.client.switch_to_window(tab.handle).await?;
            Ok(page)
        })
    }

    /// Closes the tab that covers a page, so that the page is seen again.
    #[track_caller]
    pub fn uncover(&self, page: &WindowHandle) {
        self.finish("the covered page", async {
            self.client.close_window().await?;
            self.client.switch_to_window(page.clone()).await
        });
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub fn cdp(&self, command: &str, params: Value) -> Value {
        let own = Own::post("/goog/cdp/execute", json!({"cmd": command, "params": params}));
        self.finish(command, self.client.issue_cmd(own))
    }

    /// What the console (`browser`) or the network (`performance`) logged since last asked.
    #[track_caller]
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let own = Own::post("/se/log", json!({"type": kind}));
        let entries = self.finish(kind, self.client.issue_cmd(own));
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

    /// Nothing on the console: no error, no warning, nothing that the page's policy forbids.
    #[track_caller]
    pub fn expect_no_complaints(&self) {
        let console = self.log("browser");
        assert!(console.is_empty(), "{console:#?}");
    }

    /// Saves files without a question, into this folder.
    #[track_caller]
    pub fn save_files_to(&self, folder: &Folder) {
        let allow = json!({"behavior": "allow", "downloadPath": folder.arg()});
        self.cdp("Browser.setDownloadBehavior", allow);
    }

    /// Waits until a file whose name ends so is whole in that folder.
    #[track_caller]
    pub fn saved_file(&self, folder: &Folder, end: &str) -> PathBuf {
        let whole = || {
            let names = names_in(folder.path());
            let saving = names.iter().any(|name| name.ends_with(".crdownload"));
            let file = folder.path().join(names.iter().find(|name| name.ends_with(end))?);
            (!saving && file.metadata().is_ok_and(|file| file.len() > 0)).then_some(file)
        };
        until(PATIENCE, whole).unwrap_or_else(|| panic!("no file {end}"))
    }

    /// The rectangle of the element that a CSS selector names: x, y, width, height.
    #[track_caller]
    pub fn rectangle(&self, selector: &str) -> [f64; 4] {
        let found = self.eval(&format!(
            "const r = document.querySelector({selector:?}).getBoundingClientRect();
             return [r.x, r.y, r.width, r.height]"
        ));
        serde_json::from_value(found).expect("four numbers")
    }

    /// What is drawn inside a rectangle of the page: x, y, width, height.
    #[track_caller]
    pub fn pixels(&self, [x, y, width, height]: [f64; 4]) -> Pixels {
        let clip = json!({"x": x, "y": y, "width": width, "height": height, "scale": 1});
        let params = json!({"format": "jpeg", "quality": 95, "clip": clip});
        let picture = self.cdp("Page.captureScreenshot", params);
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture"));
        let (width, height, rgb) = decode(&bytes.expect("base64"));
        Pixels { width, height, rgb }
    }

    /// Writes what the screen shows to `target/screenshots/NAME.png`, for a person to look at.
    #[track_caller]
    pub fn save(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder).expect("make the folder of screenshots");
        let bytes = self.finish("a screenshot", self.client.screenshot());
        std::fs::write(folder.join(name).with_extension("png"), bytes).expect("write a screenshot");
    }

    async fn element(&self, selector: &str) -> Result<Element, CmdError> {
        self.client.find(Locator::Css(selector)).await
    }

    /// Waits for what a command brings. An error of the driver ends the test.
    #[track_caller]
    fn finish<T>(&self, what: &str, command: impl Future<Output = Result<T, CmdError>>) -> T {
        match attempt(&self.runtime, command) {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let own = Own::post("/se/log", json!({"type": "browser"}));
            let console = attempt(&self.runtime, self.client.issue_cmd(own));
            eprintln!("--- the console ---\n{:#}", console.unwrap_or_default());
        }
        // Not `Client::close`, which does not say whether the driver obeyed.
        let end = Own { method: Method::DELETE, path: "", body: None };
        let ended = attempt(&self.runtime, self.client.issue_cmd(end));
        if let (Err(_), Some(pid)) = (ended, self.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Lets the runtime run until a command has its answer, or the time for it is over.
fn attempt<T, E: Display>(
    runtime: &Runtime,
    command: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match runtime.block_on(async { timeout(REPLY_TIME_MAX, command).await }) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {REPLY_TIME_MAX:?}")),
    }
}
