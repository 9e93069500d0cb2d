//! The real binary with several cameras: programs that print pictures of different sizes, so that
//! each picture tells whose it is, and the live page that shows them.

mod util;

#[path = "util/browser.rs"]
mod browser;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pistream::jpeg::{Encoder, Layout, Raw};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use browser::{Browser, DESKTOP, PHONE, Screen, page, wait_for_state};
use util::client::ask;
use util::{Folder, PATIENCE, Server, Stream, command, decode, get, one_line, run, until};

const SIZES: [(usize, usize); 3] = [(320, 240), (160, 96), (64, 48)];

/// Programs that film: each notes its number in the file `running` and prints a picture of its own
/// size, twenty times a second.
struct Set(Folder);

impl Set {
    fn new() -> Set {
        let folder = Folder::new();
        for (n, (width, height)) in SIZES.into_iter().enumerate() {
            let grey = vec![60 + 60 * n as u8; width * height];
            let (layout, stride) = (Layout::Grey, width);
            let raw = Raw { layout, width, height, stride, limited: false, bytes: &grey };
            let mut jpeg = Vec::new();
            Encoder::new(80).expect("an encoder").encode(&raw, &mut jpeg).expect("a picture");
            folder.write(&format!("{}.jpg", n + 1), jpeg);
        }
        Set(folder)
    }

    /// `--camera` for the first so many of them.
    fn cameras(&self, count: usize) -> Vec<String> {
        let folder = self.0.arg();
        let program = |n| {
            format!(
                "--camera=exec:cd {folder}; echo $$ > running-{n}; \
                 while cat {n}.jpg; do sleep 0.05; done"
            )
        };
        (1..=count).map(program).collect()
    }

    fn serve(&self, count: usize, args: &[&str]) -> Server {
        let cameras = self.cameras(count);
        let cameras: Vec<&str> = cameras.iter().map(String::as_str).collect();
        Server::start(&[&cameras, args].concat())
    }

    /// The leader of a camera's program, if it runs.
    fn program(&self, camera: usize) -> Option<u32> {
        let path = self.0.path().join(format!("running-{camera}"));
        let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        PathBuf::from(format!("/proc/{pid}")).exists().then_some(pid)
    }

    #[track_caller]
    fn expect_running(&self, camera: usize, runs: bool) {
        let so = until(PATIENCE, || (self.program(camera).is_some() == runs).then_some(()));
        assert!(so.is_some(), "the program of camera {camera} runs: {}", !runs);
    }
}

/// Whose picture it is, counted from 1; none of NO SIGNAL, which the cameras' sizes are too small
/// to be mistaken for: it has letters in it.
fn whose(jpeg: &[u8]) -> Option<usize> {
    let (width, height, rgb) = decode(jpeg);
    let plain = rgb.iter().all(|sample| sample.abs_diff(rgb[0]) < 8);
    SIZES.iter().position(|size| *size == (width, height) && plain).map(|n| n + 1)
}

fn json_of(server: &Server, path: &str) -> Value {
    serde_json::from_slice(&get(server.addr(), path).expect(200).body).expect("JSON")
}

fn post(server: &Server, path: &str, form: &str) -> util::Reply {
    let length = form.len();
    let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{form}");
    ask(server.addr(), head.as_bytes())
}

#[test]
fn each_camera_is_reached_by_its_number_and_the_first_by_none() {
    let set = Set::new();
    let server = set.serve(3, &[]);
    for (path, camera) in [("", 1), ("/1", 1), ("/2", 2), ("/3", 3)] {
        let mut stream = Stream::open(server.addr(), &format!("/video_feed{path}"));
        (0..5).for_each(|_| assert_eq!(whose(&stream.frame().jpeg), Some(camera), "{path}"));
        let snapshot = server.get(&format!("/snapshot{path}?now=1")).expect(200).body;
        assert_eq!(whose(&snapshot), Some(camera), "{path}");
    }
    let (width, _, _) = decode(&server.get("/snapshot/2?now=1&width=100").expect(200).body);
    assert_eq!(width, 100, "five eighths of 160");
    for none in ["/video_feed/0", "/snapshot/4", "/controls/4", "/video_feed/x"] {
        let told = server.get(none).expect(404).text();
        assert!(told.starts_with("There is no camera ") && told.contains("is 3."), "{told}");
    }
    post(&server, "/photo?camera=4", "").expect(404);
    post(&server, "/photo?camera=x", "").expect(400);
    // A program has no controls; each camera's thread says so for itself.
    assert_eq!(json_of(&server, "/controls/3")["controls"], json!([]));
    server.stop();
}

#[test]
fn a_photo_is_of_the_camera_that_was_asked_for() {
    let set = Set::new();
    let server = set.serve(2, &[]);
    for (path, form, camera) in
        [("/photo", "", 1), ("/photo?camera=2", "", 2), ("/photo", "camera=2", 2)]
    {
        let told: Value =
            serde_json::from_slice(&post(&server, path, form).expect(201).body).expect("JSON");
        let (width, height) = SIZES[camera - 1];
        assert_eq!(told["camera"], camera, "{told}");
        assert_eq!((&told["width"], &told["height"]), (&json!(width), &json!(height)));
        let photo = server.get(told["url"].as_str().expect("an address")).expect(200).body;
        assert_eq!(whose(&photo), Some(camera));
    }
}

#[test]
fn interval_photos_are_of_every_camera() {
    let set = Set::new();
    let server = set.serve(2, &["--every", "1s"]);
    let saved = until(PATIENCE, || {
        let interval = json_of(&server, "/interval");
        (interval["saved"].as_u64() >= Some(4)).then_some(interval)
    });
    assert_eq!(saved.expect("photos")["trouble"], Value::Null);
    let pic = server.folder().path().join("pic");
    let photos = fs::read_dir(pic).expect("photos").flatten().map(|entry| entry.path());
    let photos = photos.filter(|path| path.extension().is_some_and(|e| e == "jpg"));
    let whose: Vec<_> = photos.map(|path| whose(&fs::read(path).expect("a photo"))).collect();
    for camera in [Some(1), Some(2)] {
        assert!(whose.iter().filter(|one| **one == camera).count() >= 2, "{whose:?}");
    }
}

#[test]
fn one_camera_dies_and_the_other_goes_on() {
    let set = Set::new();
    let server = set.serve(2, &[]);
    let mut first = Stream::open(server.addr(), "/video_feed");
    let mut second = Stream::open(server.addr(), "/video_feed/2");
    assert_eq!(whose(&first.frame().jpeg), Some(1));
    assert_eq!(whose(&second.frame().jpeg), Some(2));
    server.get("/healthz").expect(200);
    fs::remove_file(set.0.path().join("2.jpg")).expect("it is there"); // it cannot come back
    let pid = set.program(2).and_then(|pid| Pid::from_raw(pid as i32)).expect("it runs");
    kill_process_group(pid, Signal::KILL).expect("it runs");
    let gone = until(PATIENCE, || whose(&second.part().jpeg).is_none().then_some(()));
    gone.expect("NO SIGNAL");
    for _ in 0..20 {
        assert_eq!(whose(&first.frame().jpeg), Some(1), "the other does not notice");
    }
    let told = server.get("/healthz").expect(503).text();
    assert!(told.starts_with("Camera 2 gives no picture: run cd: "), "{told}");
    assert!(!told.contains("Camera 1"), "{told}");
    let status = json_of(&server, "/status");
    let online = |camera: &Value| (camera["online"].clone(), camera["reason"].is_null());
    assert_eq!(online(&status["camera"]), (json!(true), true), "{status}");
    assert_eq!(online(&status["cameras"][0]), (json!(true), true), "{status}");
    assert_eq!(online(&status["cameras"][1]), (json!(false), false), "{status}");
    let line = server.wait_for_log("camera 2 lost: ", PATIENCE);
    assert!(line.starts_with("WARN"), "{line}");
    server.get("/snapshot/2").expect(503);
    server.get("/snapshot").expect(200);
    post(&server, "/photo?camera=2", "").expect(503);
    post(&server, "/photo", "").expect(201);
    server.stop();
}

#[test]
fn each_camera_runs_only_while_somebody_watches_it() {
    let set = Set::new();
    let server = set.serve(2, &["--idle-off", "200ms"]);
    assert!(server.comes_to_rest(PATIENCE), "nobody watches");
    assert_eq!((set.program(1), set.program(2)), (None, None));
    let mut second = Stream::open(server.addr(), "/video_feed/2");
    assert_eq!(whose(&second.frame().jpeg), Some(2));
    assert_eq!(set.program(1), None);
    let mut first = Stream::open(server.addr(), "/video_feed/1");
    assert_eq!(whose(&first.frame().jpeg), Some(1));
    drop(second);
    set.expect_running(2, false);
    assert_eq!(whose(&first.frame().jpeg), Some(1));
    set.expect_running(1, true);
    drop(first);
    set.expect_running(1, false);
    assert!(server.comes_to_rest(PATIENCE), "nobody watches any more");
    server.stop();
}

#[test]
fn the_house_ends_with_all_its_programs() {
    let set = Set::new();
    let server = set.serve(3, &[]);
    let mut streams: Vec<Stream> =
        (1..=3).map(|n| Stream::open(server.addr(), &format!("/video_feed/{n}"))).collect();
    streams.iter_mut().for_each(|stream| drop(stream.frame()));
    (1..=3).for_each(|camera| set.expect_running(camera, true));
    server.stop();
    (1..=3).for_each(|camera| set.expect_running(camera, false));
}

#[test]
fn the_status_and_the_metrics_tell_of_each_camera() {
    let set = Set::new();
    let server = set.serve(2, &["--camera", "test"]);
    let mut two = [1, 2].map(|_| Stream::open(server.addr(), "/video_feed/2"));
    two.iter_mut().for_each(|stream| (0..5).for_each(|_| drop(stream.frame())));
    let status = json_of(&server, "/status");
    assert_eq!(status["camera"], status["cameras"][0]);
    let cameras = status["cameras"].as_array().expect("an array");
    let told = |name: &str| cameras.iter().map(|camera| camera[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("viewers"), [0, 2, 0]);
    assert_eq!(told("test"), [false, false, true]);
    assert_eq!((&cameras[1]["width"], &cameras[1]["height"]), (&json!(160), &json!(96)));
    assert!(cameras[1]["frames"].as_u64() >= Some(5), "{status}");
    assert_eq!((&cameras[0]["frames"], &status["viewers"]), (&json!(0), &json!(2)));
    let watched = |viewer: &Value| viewer["camera"] == 2;
    assert!(status["watching"].as_array().expect("a list").iter().all(watched), "{status}");
    let metrics = server.get("/metrics").expect(200).text();
    for line in [
        "pistream_viewers 2\n",
        "pistream_camera_viewers{camera=\"2\"} 2\n",
        "pistream_camera_viewers{camera=\"3\"} 0\n",
        "pistream_camera_online{camera=\"1\"} 1\n",
        "pistream_camera_drops_total{camera=\"3\",reason=\"broken\"} 0\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("frame_age_seconds{camera=\"1\"}"), "{metrics}");
    let page = ask(server.addr(), b"GET /status HTTP/1.0\r\nAccept: text/html\r\n\r\n").text();
    for part in ["<h2>Camera 1</h2>", "<h2>Camera 3</h2>", "href=\"controls/2\"", "160 × 96"] {
        assert!(page.contains(part), "no {part}: {page}");
    }
}

#[test]
fn viewers_of_all_cameras_are_counted_together() {
    let set = Set::new();
    let server = set.serve(2, &["--max-viewers", "2"]);
    let mut streams =
        ["/video_feed", "/video_feed/2"].map(|path| Stream::open(server.addr(), path));
    streams.iter_mut().for_each(|stream| drop(stream.frame()));
    server.get("/video_feed/2").expect(503);
    server.get("/snapshot").expect(503);
}

#[test]
fn cameras_that_cannot_be_used_together_are_refused_in_one_line() {
    let folder = Folder::new();
    let link = folder.path().join("webcam");
    std::os::unix::fs::symlink("/dev/video-of-nobody", &link).expect("a link");
    let refused = |cameras: &[&str], code| {
        let named = cameras.iter().flat_map(|camera| ["--camera", camera]);
        one_line(&run(&[&["--listen", "127.0.0.1:0"], &*named.collect::<Vec<_>>()].concat()), code)
    };
    let line = refused(&["/dev/video7", "test", "/dev/video7"], 1);
    assert!(line.contains("/dev/video7") && line.contains("twice"), "{line}");
    let target = folder.write("video", "");
    let other = folder.path().join("by-id");
    std::os::unix::fs::symlink(&target, &other).expect("a link");
    let (target, other) = (target.display().to_string(), other.display().to_string());
    let line = refused(&[&target, &other], 1);
    assert!(line.contains("the same camera as") && line.contains(&target), "{line}");
    let line = refused(&["auto", "auto"], 2);
    assert!(line.contains("--list-cameras"), "{line}");
    let line = refused(&["test"; 9], 2);
    assert!(line.contains("at most 8 cameras"), "{line}");
}

#[test]
fn the_environment_names_further_cameras_unless_the_command_line_does() {
    let set = Set::new();
    let cameras = set.cameras(2);
    let program = |n: usize| cameras[n].trim_start_matches("--camera=");
    let start = |args: &[&str]| {
        let mut command = command(&[&["--listen", "127.0.0.1:0"], args].concat());
        command.env("PISTREAM_CAMERA", program(0)).env("PISTREAM_CAMERA_2", program(1));
        Server::start_command(command)
    };
    let server = start(&[]);
    assert_eq!(whose(&server.get("/snapshot/2?now=1").expect(200).body), Some(2));
    let server = start(&["--camera", "test"]);
    server.get("/snapshot/2").expect(404);
}

// ---- the live page --------------------------------------------------------------------------

/// Opens the live page of `count` cameras and waits until each of them is live.
#[track_caller]
fn open_live(browser: &Browser, server: &Server, screen: Screen, count: usize) {
    browser.set_screen(screen);
    browser.open(&page(server, ""));
    browser
        .wait(&format!("document.querySelectorAll('figure[data-state=live]').length === {count}"));
}

/// The pictures' places and real sizes, in the order of the cameras.
fn pictures(browser: &Browser) -> Vec<[f64; 6]> {
    let body = "return Array.from(document.querySelectorAll('.picture'), picture => {
        const r = picture.getBoundingClientRect();
        return [r.x, r.y, r.width, r.height, picture.naturalWidth, picture.naturalHeight];
    })";
    serde_json::from_value(browser.eval(body)).expect("numbers")
}

#[test]
fn the_live_page_shows_all_cameras_on_every_screen() {
    let set = Set::new();
    for (count, name) in [(2, "two"), (3, "three")] {
        let server = set.serve(count, &[]);
        let browser = Browser::start();
        for screen in [DESKTOP, PHONE] {
            open_live(&browser, &server, screen, count);
            let seen = pictures(&browser);
            assert_eq!(seen.len(), count);
            for (n, [x, y, w, h, wide, high]) in seen.iter().copied().enumerate() {
                assert_eq!((wide as usize, high as usize), SIZES[n], "{seen:?}");
                let inside = x >= -0.5 && y >= -0.5 && x + w <= f64::from(screen.width) + 0.5;
                assert!(inside && (w / h - wide / high).abs() < 0.02, "{screen:?}: {seen:?}");
                assert!(w > 150.0, "it can be seen: {screen:?}: {seen:?}");
                for [left, top, width, height, ..] in &seen[n + 1..] {
                    let beside = x + w <= left + 0.5 || left + width <= x + 0.5;
                    let above = y + h <= top + 0.5 || top + height <= y + 0.5;
                    assert!(beside || above, "one covers another: {screen:?}: {seen:?}");
                }
            }
            let wide = browser.eval("return document.scrollingElement.scrollWidth");
            assert_eq!(wide, json!(screen.width));
            let device = if screen.phone { "phone" } else { "desktop" };
            browser.save(&format!("{name}-cameras-{device}"));
        }
        browser.expect_no_complaints();
    }
}

#[test]
fn the_tools_work_on_the_camera_that_is_chosen() {
    let set = Set::new();
    let server = set.serve(2, &[]);
    let browser = Browser::start();
    open_live(&browser, &server, DESKTOP, 2);
    let photo = |camera: u64| {
        let log = server.log().len();
        browser.press('p');
        server.wait_for_log_from(log, "POST /photo 201", PATIENCE);
        let (width, height) = SIZES[camera as usize - 1];
        server.wait_for_log_from(log, &format!(": {width}x{height}, "), PATIENCE);
    };
    let links = || {
        browser
            .eval("return ['snapshot', 'controls'].map(id => document.getElementById(id).pathname)")
    };
    photo(1);
    assert_eq!(links(), json!(["/snapshot/1", "/controls/1"]));
    // By a click on its picture, …
    browser.click("figure:nth-of-type(2) .picture");
    assert_eq!(links(), json!(["/snapshot/2", "/controls/2"]));
    assert_eq!(browser.eval("return document.querySelector('input:checked').value"), "2");
    photo(2);
    browser.wait("document.querySelector('figure:nth-of-type(2) #toast img')?.naturalWidth > 0");
    browser.press('r');
    let turned = "return Array.from(document.querySelectorAll('figure'),
        figure => figure.classList.contains('quarter'))";
    assert_eq!(browser.eval(turned), json!([false, true]), "each has its own view");
    browser.save("camera-chosen-desktop");
    // …by its number, and by its button; and it is remembered how each is looked at.
    browser.press('1');
    photo(1);
    browser.eval("document.querySelector('input[value=\"2\"]').click()");
    photo(2);
    open_live(&browser, &server, PHONE, 2);
    assert_eq!(browser.eval(turned), json!([false, true]));
    browser.press('f');
    browser.wait("document.fullscreenElement");
    browser.wait(
        "Array.from(document.querySelectorAll('figure'), f => f.offsetHeight > 0).join() \
         === 'true,false'",
    );
    browser.press('2');
    browser.wait(
        "Array.from(document.querySelectorAll('figure'), f => f.offsetHeight > 0).join() \
         === 'false,true'",
    );
    browser.expect_no_complaints();
}

/// A browser opens six connections to a site: the streams of many cameras must leave some over.
#[test]
fn eight_cameras_leave_connections_for_the_buttons() {
    let cameras: Vec<&str> = (0..8).flat_map(|_| ["--camera", "test"]).collect();
    let size = ["--size", "160x120", "--fps", "2"];
    let server = Server::start(&[&cameras[..], &size].concat());
    let browser = Browser::start();
    open_live(&browser, &server, DESKTOP, 8);
    browser.press('8');
    browser.press('p');
    browser.wait("document.querySelector('figure:nth-of-type(8) #toast img')?.naturalWidth > 0");
    browser.save("eight-cameras-desktop");
    let streams = server.log().matches(" GET /video_feed").count();
    assert!(streams <= 8, "{streams}");
    browser.expect_no_complaints();
}

#[test]
fn one_camera_lost_is_said_where_it_is_chosen() {
    let set = Set::new();
    let server = Server::start(
        &[
            &set.cameras(1).iter().map(String::as_str).collect::<Vec<_>>()[..],
            &["--camera", "/dev/video-that-is-not-there"],
        ]
        .concat(),
    );
    let browser = Browser::start();
    browser.set_screen(PHONE);
    browser.open(&page(&server, ""));
    wait_for_state(&browser, "live");
    browser.wait("document.querySelector('figure:nth-of-type(2)').dataset.state === 'dark'");
    browser.press('2');
    assert_eq!(browser.text("#status"), "No signal from the camera");
    browser.save("one-camera-lost-phone");
    browser.press('1');
    assert_eq!(browser.text("#status"), "Live");
}

#[test]
fn without_javascript_all_cameras_are_seen_and_one_is_chosen_for_the_photo() {
    let set = Set::new();
    let server = set.serve(2, &[]);
    let settings = json!({"profile": {"default_content_setting_values": {"javascript": 2}}});
    let browser = Browser::start_with(settings);
    browser.set_screen(PHONE);
    browser.open(&page(&server, ""));
    for n in [1, 2] {
        browser.wait(&format!("document.querySelectorAll('.picture')[{n} - 1].naturalWidth > 0"));
    }
    browser.click("input[value=\"2\"]");
    browser.click("#photo");
    server.wait_for_log(&format!(": {}x{}, ", SIZES[1].0, SIZES[1].1), PATIENCE);
    assert!(until(Duration::from_secs(1), || server.complaints().pop()).is_none());
}
