//! The pages in a real browser, as a person meets them: the live page on a phone and on a desktop,
//! by day and by night, its keys, its tools, a hidden tab, a lost server, and no JavaScript at all.
//!
//! Screenshots are kept in `target/screenshots/`, for eyes that judge what a test cannot.

mod util;

#[path = "util/browser.rs"]
mod browser;

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use browser::{
    Browser, DESKTOP, PHONE, PHONE_ON_ITS_SIDE, SMALL_PHONE, Screen, TAB, TABLET, open_live, page,
    photos, post, start, take_photo, wait_for_state,
};
use util::{Client, Folder, PATIENCE, Server, Stream, command, decode, until};

/// Alike but for rounding to whole pixels.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1.5
}

/// The picture on the screen has something on it, and that changes.
#[track_caller]
fn expect_motion(browser: &Browser) {
    let place = browser.rectangle("#picture");
    let first = browser.pixels(place);
    assert!(first.colours() > 4, "a blank picture, of {} colours", first.colours());
    let moved = || (browser.pixels(place).difference(&first) > 0.0005).then_some(());
    assert!(until(PATIENCE, moved).is_some(), "the picture stands still");
}

/// Nothing is wider or higher than the screen; the picture is whole, in its own shape, as large as
/// its place allows, and nothing covers it.
#[track_caller]
fn expect_whole_picture(browser: &Browser, screen: Screen, turned: bool) {
    let page = "const page = document.scrollingElement;
        return [page.scrollWidth, page.scrollHeight, innerWidth, innerHeight]";
    let (width, height) = (screen.width, screen.height);
    assert_eq!(browser.eval(page), json!([width, height, width, height]), "{screen:?}");

    let [x, y, w, h] = browser.rectangle("#picture");
    let [stage_x, stage_y, stage_w, stage_h] = browser.rectangle("#stage");
    let report = format!("{screen:?}: {w} x {h} at {x}, {y}; {stage_w} x {stage_h}");
    let (right, bottom) = (stage_x + stage_w, stage_y + stage_h);
    assert!(x > stage_x - 1.0 && y > stage_y - 1.0, "{report}");
    assert!(x + w < right + 1.0 && y + h < bottom + 1.0, "{report}");
    assert!(close(w, stage_w) || close(h, stage_h), "room to grow: {report}");
    let shape = if turned { 480.0 / 640.0 } else { 640.0 / 480.0 };
    assert!((w / h - shape).abs() < 0.01, "squeezed: {report}");

    for (x, y) in [(x + 8.0, y + 8.0), (x + w - 8.0, y + 8.0), (x + w / 2.0, y + h - 8.0)] {
        let top = browser.eval(&format!("return document.elementFromPoint({x}, {y})?.id"));
        assert_eq!(top, "picture", "covered at {x}, {y}: {report}");
    }
}

#[test]
fn the_live_page_shows_the_whole_moving_picture_on_every_screen() {
    let (server, browser) = start();
    for (name, screen) in [
        ("phone", PHONE),
        ("small-phone", SMALL_PHONE),
        ("phone-on-its-side", PHONE_ON_ITS_SIDE),
        ("tablet", TABLET),
        ("desktop", DESKTOP),
    ] {
        for dark in [false, true] {
            let screen = Screen { dark, ..screen };
            open_live(&browser, &server, screen);
            expect_whole_picture(&browser, screen, false);
            expect_motion(&browser);
            let ground = browser.pixels([2.0, f64::from(screen.height) - 6.0, 4.0, 4.0]).at(1, 1);
            assert_eq!(ground.iter().all(|part| *part < 64), dark, "{screen:?}: {ground:?}");
            assert_eq!(ground.iter().all(|part| *part > 192), !dark, "{screen:?}: {ground:?}");
            browser.save(&format!("live-{name}-{}", if dark { "dark" } else { "light" }));
        }
    }
}

/// A picture as the page shows it: its width and height, and its colours near the corners: top
/// left, top right, bottom left, bottom right.
fn corners(browser: &Browser, path: &str) -> ([u64; 2], [[u64; 3]; 4]) {
    browser.eval(&format!(
        "window.probe = new Image(); probe.src = '{path}'; document.body.append(probe)"
    ));
    browser.wait("probe.complete && probe.naturalWidth > 0");
    let sides = browser.eval("return [probe.naturalWidth, probe.naturalHeight]");
    let colours = browser.eval(
        "const page = document.createElement('canvas');
         [page.width, page.height] = [probe.naturalWidth, probe.naturalHeight];
         const context = page.getContext('2d');
         context.drawImage(probe, 0, 0);
         return [[.06, .06], [.94, .06], [.06, .94], [.94, .94]].map(([x, y]) =>
             [...context.getImageData(x * page.width, y * page.height, 1, 1).data])",
    );
    browser.eval("probe.removeAttribute('src'); probe.remove()");
    let number = |value: &Value| value.as_u64().expect("a number");
    let colour = |n: usize| [0, 1, 2].map(|part| number(&colours[n][part]));
    ([0, 1].map(|n| number(&sides[n])), [0, 1, 2, 3].map(colour))
}

#[track_caller]
fn expect_colours(found: [[u64; 3]; 4], expect: [[u64; 3]; 4], what: &str) {
    let near =
        found.iter().flatten().zip(expect.iter().flatten()).all(|(a, b)| a.abs_diff(*b) < 30);
    assert!(near, "{what}: corners of {found:?}, not {expect:?}");
}

/// The browser turns by EXIF's orientation: stream, snapshot, photo, and what is made smaller. What
/// is turned already it leaves as it is.
#[test]
fn a_camera_that_hangs_on_its_side_is_shown_upright_everywhere() {
    let browser = Browser::start();
    // The test picture has a white bar at its left and a blue one at its right, dark ground below.
    let (white, blue, dark) = ([191, 191, 191], [0, 0, 191], [24, 28, 34]);
    for (args, expect) in [
        (["--rotate", "90"].as_slice(), [dark, white, dark, blue]),
        (&["--rotate", "90", "--mirror"], [white, dark, blue, dark]),
        (&["--rotate", "180"], [dark, dark, blue, white]),
    ] {
        let server = Server::start(&[&["--camera", "test"], args].concat());
        open_live(&browser, &server, DESKTOP);
        let photo = take_photo(&server);
        let quarter = args.contains(&"90");
        let paths = ["snapshot", "snapshot?width=320", "video_feed", "video_feed?width=320"];
        let baked = ["snapshot?bake=1", "video_feed?bake=1", "video_feed?width=320&bake=1"];
        let paths = paths.into_iter().chain(baked).map(str::to_owned);
        for path in paths.chain([format!("pic/{photo}"), format!("thumb/{photo}")]) {
            let ([width, height], colours) = corners(&browser, &path);
            assert_eq!(width < height, quarter, "{args:?} {path}: {width} x {height}");
            assert!(width <= 320 || !path.contains("width="), "{args:?} {path}: {width} wide");
            expect_colours(colours, expect, &format!("{args:?} {path}"));
        }
    }
}

/// Most webcams send 4:2:2, and that is 4:4:0 when it has been turned.
#[test]
fn a_turned_webcam_s_picture_is_shown_in_its_colours() {
    let browser = Browser::start();
    let film = "exec:ffmpeg -loglevel error -re -f lavfi -i smptebars=size=640x480:rate=10 \
                -pix_fmt yuvj422p -q:v 3 -f mjpeg -";
    let server = Server::start(&["--camera", film, "--rotate", "90"]);
    open_live(&browser, &server, DESKTOP);
    let (sides, expect) = corners(&browser, "video_feed");
    assert_eq!(sides, [480, 640]);
    assert_eq!(expect.iter().collect::<HashSet<_>>().len(), 4, "{expect:?}");
    for path in ["snapshot?bake=1", "video_feed?bake=1", "video_feed?width=240&bake=1"] {
        let (sides, colours) = corners(&browser, path);
        assert_eq!(sides, if path.contains("width") { [240, 320] } else { [480, 640] }, "{path}");
        expect_colours(colours, expect, path);
    }
}

#[test]
fn the_tools_fit_every_screen_and_none_covers_another() {
    let (server, browser) = start();
    for screen in [SMALL_PHONE, PHONE, PHONE_ON_ITS_SIDE, TABLET, DESKTOP] {
        open_live(&browser, &server, screen);
        browser.press('c');
        let tools = "const tools = document.querySelectorAll('nav a, #tools :is(a, button)');
            return Array.from(tools, tool => {
                const r = tool.getBoundingClientRect();
                const at = (x, y) => tool.contains(document.elementFromPoint(r.x + x, r.y + y));
                return {
                    name: tool.textContent.trim(),
                    inside: r.x >= 0 && r.y >= 0
                        && r.right <= innerWidth && r.bottom <= innerHeight,
                    free: at(r.width / 2, 4) && at(r.width / 2, r.height - 4)
                        && at(4, r.height / 2) && at(r.width - 4, r.height / 2),
                    whole: tool.scrollWidth <= tool.clientWidth + 1,
                    large: r.width >= 36 && r.height >= 44,
                };
            })";
        let tools = browser.eval(tools);
        let tools = tools.as_array().expect("a list");
        assert_eq!(tools.len(), 12);
        for tool in tools {
            for law in ["inside", "free", "whole", "large"] {
                assert_eq!(tool[law], true, "not {law} on {screen:?}: {tool}");
            }
        }
    }
}

#[test]
fn a_page_asks_no_other_host_and_has_nothing_to_complain_of() {
    let (server, browser) = start();
    browser.requests(); // those of the browser's own first page
    open_live(&browser, &server, DESKTOP);
    expect_motion(&browser);
    browser.click("#turn");
    browser.click("#flip");
    let site = page(&server, "");
    let asked = browser.requests();
    for page in ["", "app.css", "app.js", "icon.svg", "video_feed"] {
        assert!(asked.contains(&format!("{site}{page}")), "{page} not in {asked:?}");
    }
    let elsewhere: Vec<_> = asked.iter().filter(|url| !url.starts_with(&site)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    browser.expect_no_complaints();
    assert_eq!(server.complaints(), [""; 0]);
}

#[test]
fn keys_turn_and_mirror_the_picture_and_the_view_is_remembered() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    let view = || {
        let body = "const style = getComputedStyle(document.getElementById('frame'));
            const m = new DOMMatrix(style.transform);
            return [m.a, m.b, m.c, m.d].map(Math.round)";
        serde_json::from_value::<[f64; 4]>(browser.eval(body)).expect("four numbers")
    };
    assert_eq!(view(), [1.0, 0.0, 0.0, 1.0]);
    let quarter = [0.0, 1.0, -1.0, 0.0];
    browser.press('r');
    assert_eq!(view(), quarter, "clockwise by a quarter");
    expect_whole_picture(&browser, DESKTOP, true);
    browser.save("turned-desktop");
    browser.set_screen(PHONE);
    expect_whole_picture(&browser, PHONE, true);
    browser.save("turned-phone");

    // Mirrored, a further turn is clockwise still, as the eye sees it.
    browser.press('m');
    assert_eq!(view(), [0.0, 1.0, 1.0, 0.0]);
    browser.press('r');
    assert_eq!(view(), [-1.0, 0.0, 0.0, 1.0]);
    assert_eq!(browser.eval("return document.getElementById('flip').ariaPressed"), "true");

    open_live(&browser, &server, PHONE);
    assert_eq!(view(), [-1.0, 0.0, 0.0, 1.0], "remembered");
    browser.press('m');
    for _ in 0..5 {
        browser.press('r');
    }
    let turned = view();
    assert!(turned == quarter || turned == [0.0, -1.0, 1.0, 0.0], "{turned:?}");
}

#[test]
fn full_screen_shows_nothing_but_the_picture() {
    let (server, browser) = start();
    let dark = Screen { dark: true, ..DESKTOP };
    open_live(&browser, &server, dark);
    browser.press('f');
    browser.wait("document.fullscreenElement && !document.querySelector('header').offsetHeight");
    // The tools go by themselves when nothing moves.
    browser.wait("getComputedStyle(document.getElementById('tools')).opacity === '0'");
    expect_whole_picture(&browser, dark, false);
    assert!(close(browser.rectangle("#picture")[3], 800.0));
    browser.save("full-screen");
    browser.press('f');
    browser.wait("!document.fullscreenElement && document.querySelector('header').offsetHeight");
    expect_whole_picture(&browser, dark, false);

    browser.click("#full");
    browser.wait("document.fullscreenElement");
    browser.eval("document.exitFullscreen()");
    browser.wait("document.querySelector('header').offsetHeight");
}

#[test]
fn every_tool_has_a_name_and_is_reached_by_the_keyboard() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    let mut seen = Vec::new();
    for _ in 0..13 {
        browser.press(TAB);
        let focus = browser.eval(
            "const at = document.activeElement, style = getComputedStyle(at);
             return [at.textContent.trim(), style.outlineStyle, at.getBoundingClientRect().height]",
        );
        assert_eq!(focus[1], "solid", "one sees where the focus is");
        assert!(focus[2].as_f64() >= Some(44.0), "large enough for a thumb: {focus}");
        seen.push(focus[0].clone());
    }
    let site = ["Live", "Gallery", "Notes", "Status", "Controls"];
    let look = ["Snapshot", "Rotate", "Mirror", "Clock", "Full screen"];
    let photos = ["Last photo", "Photo", "Interval"];
    assert_eq!(seen, [&site[..], &look, &photos].concat());
    let status = browser.eval("return document.querySelector('#status[role=status]').textContent");
    assert_eq!(status, "Live");
    let name = "return document.querySelector('[role=img]').ariaLabel";
    assert_eq!(browser.eval(name), "Live picture of the camera");
}

#[test]
fn the_snapshot_button_saves_the_picture_as_a_file() {
    let (server, browser) = start();
    let folder = Folder::new();
    browser.save_files_to(&folder);
    open_live(&browser, &server, PHONE);
    browser.click("#snapshot");
    let file = browser.saved_file(&folder, ".jpg");
    let (width, height, _) = decode(&std::fs::read(&file).expect("read it"));
    assert_eq!((width, height), (640, 480));
    let name = file.file_stem().unwrap().to_str().unwrap();
    let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00 00.00.00", "named after the moment");
    wait_for_state(&browser, "live");
}

/// Waits until the page says that a photo is saved, and shows it; the photo's name.
#[track_caller]
fn shown_photo(browser: &Browser, server: &Server, before: usize) -> String {
    browser.wait("document.querySelector('#toast[role=status] img')?.naturalWidth > 0");
    // At once, for it does not stay long.
    let shown = browser.eval(
        "const toast = document.getElementById('toast'), path = link => link.pathname;
         return [toast.innerText.trim(), path(toast.querySelector('a')), path(last)]",
    );
    let saved = photos(server);
    assert_eq!(saved.len(), before + 1, "{saved:?}");
    let view = format!("/view/{}", saved[0]);
    assert_eq!(shown, json!(["Photo saved", view, view]));
    saved[0].clone()
}

#[test]
fn the_photo_button_and_its_key_save_a_photo_while_the_picture_runs_on() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    browser.eval("window.still_here = true");
    browser.click("#photo");
    let first = shown_photo(&browser, &server, 0);
    browser.save("photo-taken-desktop");
    wait_for_state(&browser, "live");
    expect_motion(&browser);
    assert_eq!(browser.eval("return window.still_here"), true, "the page was left");
    let small = browser.eval("return document.querySelector('#last img').naturalWidth");
    assert!(small.as_u64() > Some(0), "the tool shows the last photo: {small}");
    browser.expect_no_complaints();

    browser.press('p');
    browser.wait(&format!("!document.getElementById('last').href.endsWith('{first}')"));
    let second = shown_photo(&browser, &server, 1);
    assert_ne!(first, second);
    browser.click("#toast a");
    browser.wait(&format!("location.pathname === '/view/{second}'"));
    browser.wait("document.querySelector('.photo img').naturalWidth === 640");
    for name in [&first, &second] {
        let file = std::fs::read(server.folder().path().join("pic").join(name)).expect("a file");
        let (width, height, _) = decode(&file);
        assert_eq!((width, height), (640, 480));
    }
}

#[test]
fn a_photo_that_cannot_be_taken_says_why() {
    let server = Server::start(&["--camera", "/dev/video-that-is-not-there"]);
    let browser = Browser::start();
    browser.set_screen(PHONE);
    browser.open(&page(&server, ""));
    wait_for_state(&browser, "dark");
    let sentence = post(&server, "photo", "").expect(503).text();
    assert!(sentence.starts_with("The camera gives no picture: "), "{sentence}");
    browser.click("#photo");
    let toast = "document.querySelector('#toast[role=status]').textContent";
    browser.wait(&format!("{toast} === '{}'", sentence.trim_end()));
    browser.save("no-photo-phone");
    assert_eq!(photos(&server), [""; 0]);
    wait_for_state(&browser, "dark");
}

/// Seconds since the start of the day, of a time that ends in `hh:mm:ss`.
fn seconds_of_day(time: &str) -> i64 {
    let parts: Vec<i64> = time[time.len() - 8..].split(':').map(|n| n.parse().unwrap()).collect();
    parts[0] * 3600 + parts[1] * 60 + parts[2]
}

#[test]
fn the_clock_shows_the_cameras_time_and_is_remembered() {
    let mut command = command(&["--camera", "test", "--listen", "127.0.0.1:0"]);
    command.env("TZ", "ODD-05:45"); // 5:45 ahead of UTC
    let server = Server::start_command(command);
    let browser = Browser::start();
    let zone = json!({"timezoneId": "America/St_Johns"});
    browser.cdp("Emulation.setTimezoneOverride", zone);
    open_live(&browser, &server, PHONE);
    assert_eq!(browser.text("#time"), "", "off at first");
    browser.press('c');
    let expect_time = || {
        browser.wait("document.getElementById('time').textContent");
        let shown = browser.text("#time");
        let status = server.get("/status").expect(200).text();
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let time = status["time"].as_str().expect("a time");
        assert!(time.ends_with("+05:45"), "{time}");
        assert_eq!(shown.len(), "2026-11-22 14:03:55".len(), "{shown}");
        let apart = seconds_of_day(&time[..19]) - seconds_of_day(&shown);
        // A busy machine answers late; any other zone would be off by a quarter of an hour.
        assert!((apart + 60).rem_euclid(86_400) < 120, "{shown} at {time}");
        shown
    };
    let shown = expect_time();
    browser.wait(&format!("document.getElementById('time').textContent > '{shown}'"));
    browser.save("clock-phone");
    open_live(&browser, &server, DESKTOP);
    expect_time();
    assert_eq!(browser.eval("return document.getElementById('clock').ariaPressed"), "true");
    let [x, y, width, height] = browser.rectangle("#time");
    let [left, top, stage_width, stage_height] = browser.rectangle("#stage");
    assert!(x >= left && x + width <= left + stage_width, "over the picture");
    assert!(y >= top && y + height <= top + stage_height, "over the picture");
    browser.click("#clock");
    assert_eq!(browser.text("#time"), "");
}

#[test]
fn the_page_tells_the_camera_the_frames_and_the_viewers() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    let stats = |viewers: &str| {
        // The test picture has ten frames a second; a busy machine drops some, and shows others late.
        let said = format!("/^Test picture,([0-9.]+) fps,{viewers}$/.exec(stats.join())");
        browser.wait(&format!(
            "(stats => {{ const said = {said}; return said && said[1] > 0.5 && said[1] < 11; }})(
                [...document.querySelectorAll('#stats span')].map(stat => stat.textContent))"
        ));
    };
    stats("1 viewer");
    let mut other = Stream::open(server.addr(), "/video_feed");
    other.frame();
    stats("2 viewers");
    drop(other);
    stats("1 viewer");
}

/// How many connections, and how many streams, one browser had open at the same time at most, and
/// how many streams it asked for: all by the server's log.
fn connections(log: &str) -> (usize, usize, usize) {
    let (mut open, mut streams) = (HashSet::new(), HashSet::new());
    let (mut most, mut most_streams, mut asked) = (0, 0, 0);
    for line in log.lines() {
        let Some(at) = line.find("127.0.0.1:") else { continue };
        let address = line[at..].split([' ', '/']).next().unwrap().trim_end_matches(':');
        if line.contains(": closed: ") {
            open.remove(address);
            streams.remove(address);
        } else if line.contains(" GET /") {
            open.insert(address);
            if line.contains(" GET /video_feed") {
                streams.insert(address);
                asked += 1;
            }
        }
        most = most.max(open.len());
        most_streams = most_streams.max(streams.len());
    }
    (most, most_streams, asked)
}

#[test]
fn the_page_has_one_stream_at_a_time_and_a_handful_of_connections() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    for key in "rmcprp".chars() {
        browser.press(key);
    }
    browser.click("#turn");
    browser.click("#photo");
    browser.wait("document.querySelector('#toast img')?.naturalWidth > 0");
    browser.set_screen(PHONE);
    expect_motion(&browser);
    let (most, streams, asked) = connections(&server.log());
    assert_eq!((streams, asked), (1, 1), "{}", server.log());
    assert!((2..=6).contains(&most), "{most} connections");

    let tab = browser.cover();
    server.wait_for_log(": closed: ", PATIENCE);
    wait_for_streams(&server, 0);
    browser.uncover(&tab);
    wait_for_state(&browser, "live");
    expect_motion(&browser);
    let (most, streams, asked) = connections(&server.log());
    assert_eq!((streams, asked), (1, 2), "{}", server.log());
    assert!(most <= 6, "{most} connections");
}

#[track_caller]
fn wait_for_streams(server: &Server, count: u64) {
    let viewers = || {
        let status = server.get("/status").expect(200).text();
        serde_json::from_str::<Value>(&status).expect("JSON")["viewers"].as_u64()
    };
    let reached = until(PATIENCE, || (viewers() == Some(count)).then_some(()));
    assert!(reached.is_some(), "{:?} streams, not {count}", viewers());
}

/// Whether the server, which takes one viewer, has room for one.
fn has_room(server: &Server) -> bool {
    let mut viewer = Client::connect(server.addr());
    viewer.send("GET /video_feed HTTP/1.0\r\n\r\n");
    viewer.head().status == 200
}

#[test]
fn a_hidden_tab_gives_its_stream_back_and_takes_it_up_again() {
    let server = Server::start(&["--camera", "test", "--max-viewers", "1"]);
    let browser = Browser::start();
    open_live(&browser, &server, DESKTOP);
    expect_motion(&browser);
    assert!(!has_room(&server), "the page has its stream");
    let tab = browser.cover();
    assert!(until(PATIENCE, || has_room(&server).then_some(())).is_some(), "still streaming");
    browser.uncover(&tab);
    wait_for_state(&browser, "live");
    expect_motion(&browser);
}

#[test]
fn a_lost_server_is_said_and_found_again() {
    let (server, browser) = start();
    open_live(&browser, &server, DESKTOP);
    let addr = server.addr().to_string();
    server.stop();
    wait_for_state(&browser, "lost");
    browser.wait("document.getElementById('lost').offsetHeight");
    let status = browser.eval("return document.getElementById('status').textContent");
    assert_eq!(status, "Connection lost");
    let last = browser.pixels(browser.rectangle("#picture"));
    assert!(last.colours() > 1, "the last picture stays, dimmed");
    browser.save("lost-desktop");
    browser.set_screen(Screen { dark: true, ..PHONE });
    browser.save("lost-phone-dark");

    let _server = Server::start(&["--camera", "test", "--listen", &addr]);
    wait_for_state(&browser, "live");
    browser.wait("!document.getElementById('lost').offsetHeight");
    expect_motion(&browser);
}

#[test]
fn a_server_that_hangs_is_noticed_and_a_stream_that_goes_on_is_taken_up() {
    let (server, browser) = start();
    open_live(&browser, &server, PHONE);
    server.signal(Signal::STOP); // its sockets stay open, as when a cable is pulled
    wait_for_state(&browser, "lost");
    server.signal(Signal::CONT);
    wait_for_state(&browser, "live");
    expect_motion(&browser);
}

#[test]
fn a_camera_without_a_picture_is_said_while_the_stream_shows_why() {
    let server = Server::start(&["--camera", "/dev/video-that-is-not-there"]);
    let browser = Browser::start();
    browser.set_screen(DESKTOP);
    browser.open(&page(&server, ""));
    wait_for_state(&browser, "dark");
    let status = browser.eval("return document.getElementById('status').textContent");
    assert_eq!(status, "No signal from the camera");
    assert!(browser.pixels(browser.rectangle("#picture")).colours() > 1, "the reason is drawn");
    browser.save("no-signal-desktop");
}

#[test]
fn where_the_stream_does_not_run_snapshots_take_its_place() {
    let (server, browser) = start();
    browser.cdp("Network.enable", json!({}));
    browser.cdp("Network.setBlockedURLs", json!({"urls": ["*video_feed*"]}));
    open_live(&browser, &server, PHONE);
    expect_motion(&browser);
    expect_whole_picture(&browser, PHONE, false);
    let status = browser.eval("return document.getElementById('status').textContent");
    assert_eq!(status, "Live, picture by picture");
}

#[test]
fn without_javascript_the_picture_runs_and_a_snapshot_is_a_link_away() {
    let server = Server::start(&["--camera", "test"]);
    let settings = json!({"profile": {"default_content_setting_values": {"javascript": 2}}});
    let browser = Browser::start_with(settings);
    for screen in [PHONE, DESKTOP] {
        browser.set_screen(screen);
        browser.open(&page(&server, ""));
        browser.wait("document.getElementById('picture').complete");
        assert_eq!(browser.eval("return document.documentElement.dataset.state"), Value::Null);
        expect_motion(&browser);
        let tools = "return Array.from(document.querySelectorAll('#tools :is(a, button)'))
            .filter(tool => tool.offsetHeight).map(tool => tool.getAttribute('href') || tool.id)";
        let alive = json!(["snapshot.jpg", "current_picture", "photo", "interval"]);
        assert_eq!(browser.eval(tools), alive, "no dead buttons");
        browser.save(if screen.phone { "no-script-phone" } else { "no-script-desktop" });
    }
    server.get("/snapshot.jpg").expect(200);
    assert!(until(Duration::from_secs(1), || server.complaints().pop()).is_none());
}

#[test]
fn notes_are_read_on_a_phone_and_on_a_desktop_and_lead_back() {
    let notes = concat!(env!("CARGO_MANIFEST_DIR"), "/md");
    let server = Server::start(&["--camera", "test", "--md", notes]);
    let browser = Browser::start();
    for (name, screen) in [("phone", PHONE), ("small-phone", SMALL_PHONE), ("desktop", DESKTOP)] {
        browser.set_screen(Screen { dark: name == "phone", ..screen });
        open_live(&browser, &server, screen);
        browser.eval("document.querySelector('nav a[href$=\"md/\"]').click()");
        browser.wait("document.title === 'Notes · pistream'");
        browser.save(&format!("notes-{name}"));
        browser.eval("document.querySelector('.list a[href=\"house\"]').click()");
        browser.wait("document.title === 'The house · pistream'");
        // Wide tables and drawings scroll in themselves.
        let wide = browser.eval("return document.scrollingElement.scrollWidth");
        assert_eq!(wide, json!(screen.width), "{name}");
        browser.wait("document.getElementById('the-rooms')");
        browser.save(&format!("note-{name}"));
        browser.eval("document.querySelector('nav a').click()");
        wait_for_state(&browser, "live");
    }
    browser.expect_no_complaints();
}
