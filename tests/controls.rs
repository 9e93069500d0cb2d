//! The camera's controls on the real binary: of the kernel's drivers in the guest of `tests/guest`
//! (uvcvideo with a camera made of software, which is asked what it was told, and vivid, which has
//! all kinds), and their page in a real browser, with a preloaded camera on this machine.
//!
//! Screenshots are kept in `target/screenshots/`, for eyes that judge what a test cannot.

// The guest is a PC that runs this machine's programs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod util;

#[path = "util/browser.rs"]
mod browser;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use browser::{Browser, DESKTOP, PHONE, SMALL_PHONE, Screen, page, post};
use util::guest::{self, UsbCamera, v4l2_ctl, vivid};
use util::preload::Preload;
use util::{Client, Folder, PATIENCE, Reply, Server, Stream, decode, median, one_line, run, until};

const VIVID: [&str; 1] = ["vivid:node_types=1:num_inputs=1"];
const USB: [&str; 2] = ["vhci-hcd", "uvcvideo"];

// Ids of linux/v4l2-controls.h, and what they are on the software camera's wire.
const BRIGHTNESS: u64 = 0x0098_0900;
const CONTRAST: u64 = 0x0098_0901;
const POWER_LINE_FREQUENCY: u64 = 0x0098_0918;
const AUTO_EXPOSURE: u64 = 0x009a_0901;
const EXPOSURE_TIME: u64 = 0x009a_0902;
const FOCUS: u64 = 0x009a_090a;
const FOCUS_AUTO: u64 = 0x009a_090c;

/// What the camera has under an id.
#[track_caller]
fn told(camera: &mut UsbCamera, id: u64) -> i32 {
    let control = match id {
        BRIGHTNESS => "2 2",
        CONTRAST => "2 3",
        POWER_LINE_FREQUENCY => "2 5",
        AUTO_EXPOSURE => "1 2",
        EXPOSURE_TIME => "1 4",
        FOCUS => "1 6",
        FOCUS_AUTO => "1 8",
        _ => panic!("no control {id}"),
    };
    camera.tell(&format!("control {control}")) as i32
}

/// All that the site says of the controls.
#[track_caller]
fn listing(server: &Server) -> Value {
    let reply = server.get("/controls").expect(200);
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// What a list says of one control.
#[track_caller]
fn of(listing: &Value, id: u64) -> &Value {
    let controls = listing["controls"].as_array().expect("a list");
    let found = controls.iter().find(|control| control["id"] == id);
    found.unwrap_or_else(|| panic!("no control {id} in {listing:#}"))
}

fn by_name<'l>(listing: &'l Value, name: &str) -> Option<&'l Value> {
    listing["controls"].as_array()?.iter().find(|control| control["name"] == name)
}

fn send(server: &Server, id: u64, value: impl std::fmt::Display) -> Reply {
    post(server, "controls", &format!("id={id}&value={value}"))
}

/// The same for a connection that stays open.
fn request(id: u64, value: i64) -> String {
    let form = format!("id={id}&value={value}");
    let head = "POST /controls HTTP/1.1\r\nHost: localhost\r\nContent-Length:";
    format!("{head} {}\r\n\r\n{form}", form.len())
}

/// Sets a control; what it is then, as the answer says.
#[track_caller]
fn set(server: &Server, id: u64, value: impl std::fmt::Display) -> Value {
    let reply = send(server, id, value).expect(200);
    let listing: Value = serde_json::from_slice(&reply.body).expect("JSON");
    of(&listing, id)["value"].clone()
}

#[track_caller]
fn refused(reply: Reply, status: u16, parts: &[&str]) {
    let sentence = reply.expect(status).text();
    for part in parts {
        assert!(sentence.contains(part), "no {part:?} in {sentence:?}");
    }
}

// ---- uvcvideo -------------------------------------------------------------------------------

#[test]
fn a_usb_camera_does_at_once_what_is_set_and_keeps_it() {
    guest::run(&USB, || {
        let mut camera = UsbCamera::plugged("Rig", &[]);
        let folder = Folder::new();
        let file = folder.path().join("kept.json");
        let server = serving(&file);
        the_list_starts_no_stream(&mut camera, &server);
        focus_exposure_and_power_line_reach_the_camera(&mut camera, &server);
        what_cannot_be_is_refused_with_a_sentence(&mut camera, &server);
        frames_flow_while_a_control_is_moved(&mut camera, &server);
        what_was_set_outlives_the_cable(&mut camera, &server);
        drop(server.stop());
        what_was_set_outlives_the_program(&mut camera, &file);
        a_photo_of_another_size_forgets_nothing(&mut camera);
        resetting_forgets(&mut camera, &file);
        two_cameras_are_told_apart(&mut camera, &file);
        a_camera_that_hangs_stops_nobody_else(&mut camera, &file);
        a_control_that_is_broken_hides_no_other(&mut camera);
    });
}

#[track_caller]
fn serving(file: &Path) -> Server {
    let file = file.to_str().expect("a plain path");
    let camera = ["--camera", "auto", "--size", "640x480", "--fps", "15", "--idle-off", "1s"];
    Server::start(&[&camera[..], &["--save-controls", file]].concat())
}

/// Waits until the server has closed the camera.
#[track_caller]
fn expect_free(server: &Server, camera: &UsbCamera) {
    let node = camera.node();
    let free = until(PATIENCE, || (!server.holds(&node)).then_some(()));
    assert!(free.is_some(), "{} is still held", node.display());
}

fn the_list_starts_no_stream(camera: &mut UsbCamera, server: &Server) {
    let list = listing(server);
    println!("{list:#}");
    assert_eq!(camera.tell("starts"), 0, "the list has started a stream");
    expect_free(server, camera);
    assert!(list["camera"].as_str().is_some_and(|name| name.contains("(Rig, uvcvideo)")));
    assert_eq!((&list["reason"], &list["trouble"]), (&Value::Null, &Value::Null));
    let brightness = of(&list, BRIGHTNESS);
    for (member, value) in [
        ("name", json!("Brightness")),
        ("class", json!("User Controls")),
        ("type", json!("integer")),
        ("value", json!(0)),
        ("default", json!(0)),
        ("minimum", json!(-64)),
        ("maximum", json!(64)),
        ("step", json!(1)),
        ("settable", json!(true)),
        ("kept", json!(false)),
    ] {
        assert_eq!(brightness[member], value, "{member}");
    }
    let exposure = of(&list, AUTO_EXPOSURE);
    assert_eq!(
        (&exposure["class"], &exposure["type"]),
        (&json!("Camera Controls"), &json!("menu"))
    );
    // Of the four modes that there are, those that the camera has.
    let manual = json!({"value": 1, "name": "Manual Mode"});
    let aperture = json!({"value": 3, "name": "Aperture Priority Mode"});
    assert_eq!(exposure["menu"], json!([manual, aperture]));
    let time = of(&list, EXPOSURE_TIME);
    assert_eq!((&time["inactive"], &time["settable"]), (&json!(true), &json!(false)));
    assert_eq!(of(&list, FOCUS)["inactive"], true);
    assert_eq!(of(&list, FOCUS_AUTO)["type"], "boolean");
}

fn focus_exposure_and_power_line_reach_the_camera(camera: &mut UsbCamera, server: &Server) {
    // First while nobody watches, then in the stream.
    for watched in [false, true] {
        let stream = watched.then(|| {
            let mut stream = Stream::open(server.addr(), "/video_feed");
            stream.frame();
            stream
        });
        let sign = if watched { -1 } else { 1 };
        assert_eq!(set(server, BRIGHTNESS, 30 * sign), 30 * sign);
        assert_eq!(told(camera, BRIGHTNESS), 30 * sign);
        assert_eq!(set(server, POWER_LINE_FREQUENCY, 2), 2);
        assert_eq!(told(camera, POWER_LINE_FREQUENCY), 2);

        refused(
            send(server, EXPOSURE_TIME, 100),
            409,
            &["Exposure Time, Absolute is inactive", "Auto Exposure is Aperture Priority Mode"],
        );
        assert_eq!(set(server, AUTO_EXPOSURE, 1), 1);
        assert_eq!(told(camera, AUTO_EXPOSURE), 1);
        assert_eq!(of(&listing(server), EXPOSURE_TIME)["inactive"], false);
        assert_eq!(set(server, EXPOSURE_TIME, 100), 100);
        assert_eq!(told(camera, EXPOSURE_TIME), 100);

        refused(send(server, FOCUS, 50), 409, &["Focus, Absolute is inactive", "is on"]);
        assert_eq!(set(server, FOCUS_AUTO, 0), 0);
        // The driver rounds to the camera's steps, and the answer says so.
        assert_eq!(set(server, FOCUS, 123), 125);
        assert_eq!(told(camera, FOCUS), 125);
        assert_eq!(camera.tell("starts"), u32::from(watched));
        if stream.is_none() {
            assert_eq!(set(server, AUTO_EXPOSURE, 3), 3);
            assert_eq!(set(server, FOCUS_AUTO, 1), 1);
            assert_eq!(set(server, POWER_LINE_FREQUENCY, 0), 0);
        }
    }
}

fn what_cannot_be_is_refused_with_a_sentence(camera: &mut UsbCamera, server: &Server) {
    let before = told(camera, BRIGHTNESS);
    for wrong in ["65", "-65", "1.5", "bright", ""] {
        refused(send(server, BRIGHTNESS, wrong), 400, &["Brightness", "from -64 to 64", wrong]);
    }
    let menu = ["Power Line Frequency", "0 (Disabled), 1 (50 Hz), 2 (60 Hz)", "not 3"];
    refused(send(server, POWER_LINE_FREQUENCY, 3), 400, &menu);
    // In the range of the menu, and the camera has it not.
    refused(send(server, AUTO_EXPOSURE, 2), 400, &["Auto Exposure", "1 (Manual Mode)"]);
    refused(send(server, FOCUS_AUTO, 2), 400, &["0 or 1"]);
    refused(send(server, 1, 1), 404, &["no control 1"]);
    refused(send(server, 0x8098_0900, 1), 404, &["no control"]); // the one behind that, to V4L2
    refused(post(server, "controls", "id=x&value=1"), 400, &["id"]);
    refused(post(server, "controls", "id=9963776"), 400, &["value"]);

    for (code, status, parts) in [
        (1, 409, ["refuses", "busy"]),        // not ready: EBUSY
        (2, 409, ["refuses", "not allow"]),   // wrong state: EACCES, or EILSEQ
        (4, 409, ["refuses", "this value"]),  // out of range: ERANGE
        (8, 409, ["refuses", "this value"]),  // invalid value within range: EINVAL
        (6, 503, ["failed", "Input/output"]), // the firmware is broken: EIO
    ] {
        camera.tell(&format!("veto 1 {code}"));
        let reply = send(server, BRIGHTNESS, 7);
        refused(reply, status, &[parts[0], parts[1], "Brightness to 7"]);
        assert_eq!(told(camera, BRIGHTNESS), before, "{code}");
        assert_ne!(of(&listing(server), BRIGHTNESS)["value"], 7, "{code}");
    }

    // A page of another site, and a person's form.
    let form = "id=9963776&value=9";
    let ask = |fields: &str| {
        let length = form.len();
        let head = format!("POST /controls HTTP/1.0\r\n{fields}Content-Length: {length}\r\n\r\n");
        server.ask(format!("{head}{form}").as_bytes())
    };
    refused(ask("Sec-Fetch-Site: cross-site\r\n"), 403, &["Only pages of this site"]);
    assert_eq!(told(camera, BRIGHTNESS), before);
    let back = ask("Accept: text/html\r\n").expect(303);
    assert_eq!(back.header("Location"), Some("controls#c9963776"));
    assert_eq!(told(camera, BRIGHTNESS), 9);
}

fn frames_flow_while_a_control_is_moved(camera: &mut UsbCamera, server: &Server) {
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    let mut client = Client::connect(server.addr());
    let moved = thread::spawn(move || {
        for n in 0..100 {
            client.send(request(BRIGHTNESS, n % 50)).reply().expect(200);
        }
    });
    let (mut pauses, start) = (Vec::new(), Instant::now());
    let mut last = start;
    while !moved.is_finished() || pauses.len() < 20 {
        stream.frame();
        pauses.push(last.elapsed().as_secs_f64());
        last = Instant::now();
    }
    moved.join().expect("each change is done");
    assert_eq!(told(camera, BRIGHTNESS), 49);
    let longest = pauses.iter().copied().fold(0.0, f64::max);
    let (frames, took) = (pauses.len(), start.elapsed().as_secs_f64());
    let middle = median(&pauses);
    println!("{frames} frames in {took:.1} s while 100 values are set; {middle:.3} s between two");
    assert!(longest < 3.0, "the picture stood still for {longest:.1} s");
    assert!(!server.log().contains("camera lost"), "the camera was given up");
}

/// Nobody watches while it is unplugged, then somebody does.
fn what_was_set_outlives_the_cable(camera: &mut UsbCamera, server: &Server) {
    let expect = |camera: &mut UsbCamera, what: &str| {
        let as_set = [
            (BRIGHTNESS, 49),
            (POWER_LINE_FREQUENCY, 2),
            (AUTO_EXPOSURE, 1),
            (EXPOSURE_TIME, 100),
            (FOCUS_AUTO, 0),
            (FOCUS, 125),
        ];
        let mut all = || as_set.iter().all(|(id, value)| told(camera, *id) == *value);
        let _ = until(PATIENCE, || all().then_some(()));
        let values = as_set.map(|(id, _)| told(camera, id));
        assert_eq!(values, as_set.map(|(_, value)| value), "{what}");
    };
    let replug = |camera: &mut UsbCamera| {
        camera.tell("unplug");
        camera.expect_no_nodes();
        let gone = server.get("/controls");
        refused(gone, 503, &["The camera"]);
        refused(send(server, BRIGHTNESS, 1), 503, &["The camera"]);
        camera.tell("plug");
        camera.node();
    };
    expect_free(server, camera);
    replug(camera);
    assert_eq!(told(camera, BRIGHTNESS), 0, "the camera itself keeps it");
    // The list shows how it is to be, since it is made to be so.
    assert_eq!(of(&listing(server), BRIGHTNESS)["value"], 49);
    assert_eq!(of(&listing(server), BRIGHTNESS)["kept"], true);
    expect(camera, "after the list");
    replug(camera);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    expect(camera, "after the start");
    replug(camera);
    expect(camera, "while somebody watches");
    // And a camera that forgets at the start of a stream.
    drop(stream);
    expect_free(server, camera);
    camera.tell("forgetful on");
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    expect(camera, "after it has forgotten");
    camera.tell("forgetful off");
}

fn what_was_set_outlives_the_program(camera: &mut UsbCamera, file: &Path) {
    let text = fs::read_to_string(file).expect("the file");
    println!("{text}");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let key = saved.as_object().and_then(|all| all.keys().next()).expect("a camera").clone();
    assert!(key.starts_with("Rig at usb-"), "{key}");
    assert_eq!(saved[&key][FOCUS.to_string()], json!({"name": "Focus, Absolute", "value": 125}));
    // Somebody adds what this camera has not; it stays there.
    let mut edited = saved.clone();
    edited[&key]["123"] = json!({"name": "Unknown", "value": 1});
    edited["Another at usb-9"] = json!({"9963776": {"name": "Brightness", "value": 1}});
    fs::write(file, edited.to_string()).expect("edit the file");
    camera.tell("unplug");
    camera.expect_no_nodes();
    camera.tell("plug");
    camera.node();
    let server = serving(file);
    server.get("/snapshot").expect(200);
    assert_eq!(told(camera, FOCUS), 125);
    assert_eq!(told(camera, EXPOSURE_TIME), 100);
    let line = server.wait_for_log("WARN  camera: not as it was set", PATIENCE);
    assert!(line.contains("no control 123"), "{line}");
    assert_eq!(set(&server, CONTRAST, 70), 70);
    server.stop();
    let saved: Value = serde_json::from_slice(&fs::read(file).expect("the file")).expect("JSON");
    assert_eq!(saved[&key][CONTRAST.to_string()]["value"], 70, "at the end it is on the disk");
    assert_eq!(saved[&key]["123"]["name"], "Unknown");
    assert_eq!(saved["Another at usb-9"]["9963776"]["value"], 1);

    let broken = file.with_file_name("broken.json");
    fs::write(&broken, "{\n\"Rig\": 5\n}").expect("write a file");
    let broken = broken.to_str().expect("a plain path");
    let line = one_line(&run(&["--camera", "test", "--save-controls", broken]), 1);
    assert!(line.contains("broken.json") && line.contains("line 2"), "{line}");
    assert!(line.contains("mend it"), "{line}");
    assert_eq!(fs::read_to_string(broken).expect("it is there"), "{\n\"Rig\": 5\n}");
}

/// The stream is started anew for such a photo, and again after it.
fn a_photo_of_another_size_forgets_nothing(camera: &mut UsbCamera) {
    let server = Server::start(&["--size", "640x480", "--fps", "15", "--photo-size", "max"]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    assert_eq!(set(&server, CONTRAST, 33), 33);
    let starts = camera.tell("starts");
    camera.tell("forgetful on");
    post(&server, "photo", "").expect(201);
    // The photo is there before the stream is.
    let again = until(PATIENCE, || (camera.tell("starts") >= starts + 2).then_some(()));
    assert!(again.is_some(), "{} starts, before {starts}", camera.tell("starts"));
    stream.frame();
    let contrast = || (told(camera, CONTRAST) == 33).then_some(());
    assert!(until(PATIENCE, contrast).is_some(), "{} after a photo", told(camera, CONTRAST));
    assert_eq!(camera.tell("starts"), starts + 2);
    camera.tell("forgetful off");
    assert!(set(&server, CONTRAST, 70) == 70 && told(camera, BRIGHTNESS) == 0);
}

fn resetting_forgets(camera: &mut UsbCamera, file: &Path) {
    let server = serving(file);
    let reset = |form: &str| {
        let reply = post(&server, "controls", form).expect(200);
        serde_json::from_slice::<Value>(&reply.body).expect("JSON")
    };
    let list = reset(&format!("id={BRIGHTNESS}&reset=1"));
    let brightness = of(&list, BRIGHTNESS);
    assert_eq!((&brightness["value"], &brightness["kept"]), (&json!(0), &json!(false)));
    assert_eq!(told(camera, BRIGHTNESS), 0);
    assert_eq!(told(camera, CONTRAST), 70, "the others stay");
    let list = reset("reset=all");
    for (id, value) in [(CONTRAST, 50), (EXPOSURE_TIME, 250), (FOCUS, 0), (FOCUS_AUTO, 1)] {
        assert_eq!(told(camera, id), value, "{list:#}");
    }
    assert_eq!(told(camera, AUTO_EXPOSURE), 8, "automatic again, and last");
    let kept = |list: &Value| list["controls"].to_string().contains("\"kept\":true");
    assert!(!kept(&list), "{list:#}");
    server.stop();
    let text = fs::read_to_string(file).expect("the file");
    assert!(!text.contains("Rig") && text.contains("Another"), "{text}");
}

fn two_cameras_are_told_apart(camera: &mut UsbCamera, file: &Path) {
    let server = serving(file);
    assert_eq!(set(&server, BRIGHTNESS, 11), 11);
    server.stop();
    let mut other = UsbCamera::plugged("Other", &["--port", "1"]);
    let (node, file) = (other.node(), file.to_str().expect("a plain path"));
    let node = node.to_str().expect("a plain path");
    let server = Server::start(&["--camera", node, "--save-controls", file]);
    assert_eq!(of(&listing(&server), BRIGHTNESS)["value"], 0);
    assert_eq!(set(&server, CONTRAST, 12), 12);
    server.stop();
    assert_eq!((told(camera, BRIGHTNESS), told(&mut other, BRIGHTNESS)), (11, 0));
    assert_eq!((told(camera, CONTRAST), told(&mut other, CONTRAST)), (50, 12));
    let saved: Value = serde_json::from_slice(&fs::read(file).expect("the file")).expect("JSON");
    let cameras: Vec<&String> = saved.as_object().expect("cameras").keys().collect();
    assert_eq!(cameras.len(), 3, "{cameras:?}");

    // Both at once, with what was saved of each alone.
    let first = camera.node();
    let first = first.to_str().expect("a plain path");
    let small = ["--size", "640x480", "--fps", "5"];
    let both = ["--camera", first, "--camera", node, "--save-controls", file];
    let both = [&both[..], &small].concat();
    let list = |server: &Server, number| {
        let reply = server.get(&format!("/controls/{number}")).expect(200);
        serde_json::from_slice::<Value>(&reply.body).expect("JSON")
    };
    let server = Server::start(&both);
    assert_eq!(of(&list(&server, 1), BRIGHTNESS)["value"], 11);
    assert_eq!(of(&list(&server, 2), CONTRAST)["value"], 12);
    let paths = ["/video_feed/1", "/video_feed/2"];
    let mut streams = paths.map(|path| Stream::open(server.addr(), path));
    streams.iter_mut().for_each(|stream| (0..3).for_each(|_| drop(stream.frame())));
    post(&server, "controls/2", &format!("id={BRIGHTNESS}&value=13")).expect(200);
    assert_eq!((told(camera, BRIGHTNESS), told(&mut other, BRIGHTNESS)), (11, 13));
    let back = "Content-Length: 9\r\nAccept: text/html\r\n\r\nreset=all";
    let form = format!("POST /controls/2 HTTP/1.0\r\n{back}");
    let reply = server.ask(form.as_bytes()).expect(303);
    assert_eq!(reply.header("Location"), Some("2"), "from where the page is");
    assert_eq!((told(camera, BRIGHTNESS), told(&mut other, BRIGHTNESS)), (11, 0));
    post(&server, "controls/2", &format!("id={BRIGHTNESS}&value=14")).expect(200);
    drop(streams);
    server.stop();
    let server = Server::start(&both);
    for (number, value) in [(1, 11), (2, 14)] {
        let list = list(&server, number);
        let brightness = of(&list, BRIGHTNESS);
        assert_eq!((&brightness["value"], &brightness["kept"]), (&json!(value), &json!(true)));
    }
    server.stop();
}

fn a_camera_that_hangs_stops_nobody_else(camera: &mut UsbCamera, file: &Path) {
    let server = serving(file);
    listing(&server);
    camera.tell("slow 11000");
    let start = Instant::now();
    let mut client = Client::connect(server.addr());
    client.send(request(BRIGHTNESS, 22));
    thread::sleep(SECOND);
    let others = Instant::now();
    server.get("/status").expect(200);
    server.get("/").expect(200);
    assert!(others.elapsed() < 3 * SECOND, "others wait for the camera");
    refused(client.reply(), 503, &["does not answer"]);
    let waited = start.elapsed();
    assert!(waited >= 7 * SECOND, "{waited:?}");
    camera.tell("slow 0");
    let back = until(2 * PATIENCE, || (server.get("/controls").status == 200).then_some(()));
    assert!(back.is_some(), "the camera is answered for again");
}

/// uvcvideo ends its list at a control whose range the camera does not tell.
fn a_control_that_is_broken_hides_no_other(camera: &mut UsbCamera) {
    camera.tell("unplug");
    camera.expect_no_nodes();
    camera.tell("plug");
    camera.node();
    camera.tell("mute-control 2 3");
    let server = Server::start(&["--camera", "auto", "--idle-off", "1s"]);
    let list = listing(&server);
    let names = |name| by_name(&list, name).is_some();
    assert!(!names("Contrast"), "{list:#}");
    assert!(names("Brightness") && names("Power Line Frequency") && names("Focus, Absolute"));
    assert_eq!(of(&list, FOCUS)["class"], "Camera Controls");
    let reply = send(&server, CONTRAST, 1);
    refused(reply, 503, &["The camera does not tell its controls"]);
    assert_eq!(set(&server, POWER_LINE_FREQUENCY, 2), 2);
    let vetoed = told(camera, POWER_LINE_FREQUENCY);
    assert_eq!(vetoed, 2);
}

// ---- vivid ----------------------------------------------------------------------------------

#[test]
fn all_kinds_of_controls_are_listed_and_set_before_ones_eyes() {
    guest::run(&VIVID, || {
        vivid("test_pattern=0");
        vivid("osd_text_mode=2");
        let camera = ["--camera", "/dev/video0", "--size", "320x180", "--fps", "10"];
        let server = Server::start(&[&camera[..], &["--idle-off", "1s"]].concat());
        let list = listing(&server);
        each_kind_is_there(&list);
        each_kind_can_be_set(&server, &list);
        the_picture_becomes_brighter_at_once(&server);
        what_cannot_be_set_says_so(&server, &list);
        a_device_that_goes_in_the_middle_is_a_sentence(&server);
    });
}

fn each_kind_is_there(list: &Value) {
    let controls = list["controls"].as_array().expect("a list");
    println!("{} controls", controls.len());
    for control in controls {
        println!("{control}");
    }
    let kinds = [
        "integer",
        "integer64",
        "boolean",
        "menu",
        "integer_menu",
        "bitmask",
        "string",
        "button",
        "compound",
    ];
    for kind in kinds {
        assert!(controls.iter().any(|control| control["type"] == kind), "no {kind}");
    }
    let some = |member: &str| controls.iter().any(|control| control[member] == true);
    for member in ["read_only", "inactive", "volatile"] {
        assert!(some(member), "none is {member}");
    }
    let classes: Vec<&Value> = controls.iter().map(|control| &control["class"]).collect();
    assert!(classes.iter().all(|class| **class != ""), "{classes:?}");
    assert!(
        classes.contains(&&json!("User Controls")) && classes.contains(&&json!("Vivid Controls"))
    );
    let integers = by_name(list, "Integer Menu").expect("an integer menu");
    let menu = integers["menu"].as_array().expect("a menu");
    assert!(
        menu.iter().all(|item| item["name"].as_str().is_some_and(|n| n.parse::<i64>().is_ok()))
    );
}

#[track_caller]
fn id_of(list: &Value, name: &str) -> u64 {
    by_name(list, name).and_then(|control| control["id"].as_u64()).unwrap_or_else(|| {
        panic!("no control {name}");
    })
}

fn each_kind_can_be_set(server: &Server, list: &Value) {
    for (name, sent, value) in [
        ("Integer 32 Bits", "-2147483648", json!(-2_147_483_648_i64)),
        ("Integer 64 Bits", "9223372036854775807", json!(i64::MAX)),
        ("Boolean", "0", json!(0)),
        ("Menu", "4", json!(4)),
        ("Integer Menu", "8", json!(8)),
        ("Bitmask", "0x80400000", json!(0x8040_0000_u32)),
        ("String", "ab", json!("ab")),
    ] {
        let id = id_of(list, name);
        assert_eq!(set(server, id, sent), value, "{name}");
        assert_eq!(of(&listing(server), id)["value"], value, "{name}");
    }
    assert_eq!(set(server, id_of(list, "Button"), 1), Value::Null);
    // 2 to 4 letters there; and one that is not in the menu, though between others.
    refused(send(server, id_of(list, "String"), "a"), 400, &["String", "2 to 4"]);
    refused(send(server, id_of(list, "Menu"), "2"), 400, &["Menu", "not 2"]);
    refused(send(server, id_of(list, "Bitmask"), "1"), 400, &["Bitmask", "0x80402010"]);
    let reply = post(server, "controls", &format!("id={}&reset=1", id_of(list, "String")));
    let list: Value = serde_json::from_slice(&reply.expect(200).body).expect("JSON");
    let text = by_name(&list, "String").expect("it is there");
    assert_eq!(text["value"], text["default"]);
}

/// The mean of all colours of a frame that is captured from now on.
#[track_caller]
fn brightness(stream: &mut Stream) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs_f64();
    let part = loop {
        let part = stream.frame();
        if part.timestamp > now + 0.1 {
            break part;
        }
    };
    let (_, _, pixels) = decode(&part.jpeg);
    pixels.iter().map(|part| f64::from(*part)).sum::<f64>() / pixels.len() as f64
}

fn the_picture_becomes_brighter_at_once(server: &Server) {
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let before = brightness(&mut stream);
    assert_eq!(set(server, BRIGHTNESS, 255), 255);
    let after = brightness(&mut stream);
    println!("brightness {before:.0}, then {after:.0}");
    assert!(after > before + 40.0, "{before}, {after}");
    assert_eq!(set(server, BRIGHTNESS, 128), 128);
    assert!((brightness(&mut stream) - before).abs() < 10.0);
}

fn what_cannot_be_set_says_so(server: &Server, list: &Value) {
    let read_only = list["controls"].as_array().expect("a list").iter();
    let read_only = read_only.filter(|control| control["read_only"] == true);
    let id = read_only.filter_map(|control| control["id"].as_u64()).next().expect("one");
    refused(send(server, id, 1), 409, &["can only be read"]);
    let mut controls = list["controls"].as_array().expect("a list").iter();
    let compound = controls.find(|control| control["type"] == "compound").expect("one");
    let id = compound["id"].as_u64().expect("an id");
    refused(send(server, id, 1), 409, &["type that cannot be set"]);
    // With autogain, the gain follows the time of day.
    vivid("gain_automatic=1");
    refused(send(server, 0x0098_0913, 7), 409, &["Gain is inactive", "Gain, Automatic is on"]);
    vivid("gain_automatic=0");
    assert_eq!(set(server, 0x0098_0913, 7), 7);
}

fn a_device_that_goes_in_the_middle_is_a_sentence(server: &Server) {
    assert_eq!(set(server, CONTRAST, 99), 99);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    fs::write("/sys/bus/platform/drivers/vivid/unbind", "vivid.0").expect("unbind vivid");
    refused(send(server, BRIGHTNESS, 7), 503, &["The camera"]);
    server.wait_for_log("camera lost", PATIENCE);
    refused(server.get("/controls"), 503, &["The camera"]);
    fs::write("/sys/bus/platform/drivers/vivid/bind", "vivid.0").expect("bind vivid");
    server.wait_for_log("camera back", PATIENCE);
    // What was set before is set again, on a device that is as by default.
    assert_eq!(of(&listing(server), CONTRAST)["value"], 99);
    assert_eq!(server.get("/snapshot").status, 200);
    v4l2_ctl(&["-d", "/dev/video0", "--get-ctrl", "contrast"]).expect("another program may look");
}

// ---- the page -------------------------------------------------------------------------------

/// A server with a preloaded camera that has controls, and the file to which each change is added.
struct Rig {
    server: Server,
    changes: PathBuf,
    _folder: Folder,
}

#[track_caller]
fn preloaded(slow: Duration) -> Rig {
    preloaded_with(slow, &[])
}

#[track_caller]
fn preloaded_with(slow: Duration, args: &[&str]) -> Rig {
    let folder = Folder::new();
    let changes = folder.path().join("changes");
    let mut command = Preload::build(&folder).command(args);
    command.env("KNOBS_LOG", &changes).env("KNOBS_SLOW", slow.as_millis().to_string());
    Rig { server: Server::start_command(command), changes, _folder: folder }
}

impl Rig {
    /// The values that a control was set to so far.
    fn set(&self, id: u64) -> Vec<i64> {
        let text = fs::read_to_string(&self.changes).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let own = pairs.filter(|(found, _)| *found == id.to_string());
        own.map(|(_, value)| value.parse().expect("a number")).collect()
    }

    #[track_caller]
    fn wait_for(&self, id: u64, value: i64) {
        let last = || (self.set(id).last() == Some(&value)).then_some(());
        assert!(until(PATIENCE, last).is_some(), "{:?}, not {value}", self.set(id));
    }
}

fn open(browser: &Browser, rig: &Rig, screen: Screen) {
    browser.set_screen(screen);
    browser.open(&page(&rig.server, "controls"));
    browser.wait("document.querySelector('#sight').naturalWidth === 640");
}

/// What is in the knob of a control, by a selector.
fn in_knob(id: u64, what: &str) -> String {
    format!("#c{id} {what}")
}

const FLIP: u64 = 0x0098_0914;
const ONCE: u64 = 0x0098_090d;
const CAPTION: u64 = 0x0098_1900;
const LAMPS: u64 = 0x0098_1901;
const TEMPERATURE: u64 = 0x0098_1902;

#[test]
fn the_page_sets_at_once_what_is_moved() {
    let (rig, browser) = (preloaded(Duration::ZERO), Browser::start());
    open(&browser, &rig, DESKTOP);
    browser.wait("document.querySelector('main.alive')");
    // The slider, as a finger moves it, and its number.
    browser.eval(&format!(
        "const slider = document.querySelector('{}');
         slider.value = 40;
         slider.dispatchEvent(new Event('input', {{ bubbles: true }}))",
        in_knob(BRIGHTNESS, "[type=range]")
    ));
    rig.wait_for(BRIGHTNESS, 40);
    let number = in_knob(BRIGHTNESS, "[type=number]");
    browser.wait(&format!("document.querySelector('{number}').value === '40'"));
    // The driver rounds, and the page shows that.
    browser.eval(&format!(
        "const number = document.querySelector('{}');
         number.value = 60; number.step = 1; number.value = 63;
         number.dispatchEvent(new Event('change', {{ bubbles: true }}))",
        in_knob(CONTRAST, "[type=number]")
    ));
    rig.wait_for(CONTRAST, 63);
    let contrast = in_knob(CONTRAST, "[type=number]");
    browser.wait(&format!("document.querySelector('{contrast}').value === '65'"));
    browser.click(&in_knob(FLIP, "[role=switch]"));
    rig.wait_for(FLIP, 1);
    browser.click(&in_knob(POWER_LINE_FREQUENCY, "option[value='2']"));
    rig.wait_for(POWER_LINE_FREQUENCY, 2);
    browser.click(&in_knob(ONCE, "button"));
    rig.wait_for(ONCE, 0);
    browser.click(&in_knob(CAPTION, "input:not([type])"));
    browser.type_keys("A door");
    browser.press(browser::ENTER);
    let caption = || {
        let list = listing(&rig.server);
        (of(&list, CAPTION)["value"] == "A door").then_some(())
    };
    assert!(until(PATIENCE, caption).is_some(), "{}", of(&listing(&rig.server), CAPTION));

    // The exposure's time can be set when it is not automatic.
    let time = in_knob(EXPOSURE_TIME, "fieldset");
    browser.wait(&format!("document.querySelector('{time}').disabled"));
    assert_eq!(browser.text(&in_knob(EXPOSURE_TIME, "[data-state=inactive]")), "inactive");
    browser.click(&in_knob(AUTO_EXPOSURE, "option[value='1']"));
    browser.wait(&format!("!document.querySelector('{time}').disabled"));
    assert_eq!(browser.text(&in_knob(EXPOSURE_TIME, "[data-state=inactive]")), "");

    // What is wrong is said, and what is true is shown.
    let lamps = in_knob(LAMPS, "[name=value]");
    assert_eq!(
        browser.eval(&format!("return document.querySelector('{lamps}').value")),
        "0x00000001"
    );
    browser.eval(&format!(
        "const lamps = document.querySelector('{lamps}');
         lamps.value = '2'; lamps.dispatchEvent(new Event('change'))"
    ));
    browser.wait("document.querySelector('#said').textContent.includes('0x80000005')");
    browser.wait(&format!("document.querySelector('{lamps}').value === '0x00000001'"));
    let [_, y, _, height] = browser.rectangle("#said");
    assert!(y > 0.0 && y + height <= DESKTOP.height.into(), "out of sight: {y}, {height}");
    browser.save("controls-error-desktop");
    browser.eval(&format!(
        "const lamps = document.querySelector('{lamps}');
         lamps.value = '0x80000004'; lamps.dispatchEvent(new Event('change'))"
    ));
    browser.wait("document.querySelector('#said').hidden");
    assert_eq!(of(&listing(&rig.server), LAMPS)["value"], 0x8000_0004_u32);
    assert_eq!(
        browser.eval(&format!(
            "return document.querySelector('{}').disabled",
            in_knob(TEMPERATURE, "fieldset")
        )),
        true
    );

    browser.click(&in_knob(BRIGHTNESS, "[name=reset]"));
    rig.wait_for(BRIGHTNESS, 0);
    let button = in_knob(BRIGHTNESS, "[name=reset]");
    browser.wait(&format!("document.querySelector('{button}').hidden"));
    browser.click("form.all button");
    rig.wait_for(POWER_LINE_FREQUENCY, 1);
    rig.wait_for(AUTO_EXPOSURE, 3);
    browser.wait(&format!("document.querySelector('{time}').disabled"));
    browser.wait(&format!("!document.querySelector('{}').checked", in_knob(FLIP, "[role=switch]")));

    // Another one sets something: the page shows it.
    set(&rig.server, BRIGHTNESS, -7);
    browser.wait(&format!("document.querySelector('{number}').value === '-7'"));
    // The only complaint is the browser's own, of the answer 400.
    for entry in browser.log("browser") {
        assert!(entry["message"].to_string().contains("400"), "{entry}");
    }
}

#[test]
fn a_slider_that_is_moved_quickly_has_one_request_under_way_and_its_last_value_wins() {
    let (rig, browser) = (preloaded(Duration::from_millis(150)), Browser::start());
    open(&browser, &rig, PHONE);
    browser.wait("document.querySelector('main.alive')");
    browser.eval(&format!(
        "const slider = document.querySelector('{}');
         window.done = (async () => {{
             for (let n = 1; n <= 50; n++) {{
                 slider.value = n;
                 slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
                 await new Promise(done => setTimeout(done, 10));
             }}
         }})()",
        in_knob(BRIGHTNESS, "[type=range]")
    ));
    rig.wait_for(BRIGHTNESS, 50);
    let set = rig.set(BRIGHTNESS);
    assert!(set.len() < 25, "{set:?}");
    assert!(set.is_sorted(), "an older value came after a newer: {set:?}");
    let number = in_knob(BRIGHTNESS, "[type=number]");
    browser.wait(&format!("document.querySelector('{number}').value === '50'"));
    browser.expect_no_complaints();
}

#[test]
fn settings_that_cannot_be_saved_are_said_to_be_so() {
    let folder = Folder::new();
    let kept = folder.write("sub/kept.json", "{}\n");
    let rig = preloaded_with(Duration::ZERO, &["--save-controls", &kept.display().to_string()]);
    assert_eq!(set(&rig.server, BRIGHTNESS, 3), 3);
    let saved = || fs::read_to_string(&kept).is_ok_and(|text| text.contains("Brightness"));
    assert!(until(PATIENCE, || saved().then_some(())).is_some(), "not saved");
    fs::remove_dir_all(folder.path().join("sub")).expect("take its folder away");
    assert_eq!(set(&rig.server, BRIGHTNESS, 4), 4);
    let line = rig.server.wait_for_log("WARN  write", PATIENCE);
    assert!(line.contains("kept.json"), "{line}");
    let trouble = until(PATIENCE, || listing(&rig.server)["trouble"].as_str().map(str::to_owned));
    let trouble = trouble.expect("the list tells it");
    assert!(trouble.contains("lost at the end"), "{trouble}");
    let browser = Browser::start();
    open(&browser, &rig, PHONE);
    assert_eq!(browser.text("#trouble"), trouble);
    browser.save("controls-trouble-phone");
    rig.server.stop();
}

#[test]
fn the_page_works_without_javascript_and_names_cannot_break_out() {
    let (rig, browser) = (preloaded(Duration::ZERO), Browser::start());
    browser.set_scripts(false);
    open(&browser, &rig, PHONE);
    assert_eq!(browser.rectangle(&in_knob(BRIGHTNESS, "[type=range]")), [0.0; 4], "a dead slider");
    browser.click(&in_knob(BRIGHTNESS, "[type=number]"));
    browser.eval(&format!(
        "document.querySelector('{}').value = '-12'",
        in_knob(BRIGHTNESS, "[type=number]")
    ));
    browser.save("controls-no-script-phone");
    browser.click(&in_knob(BRIGHTNESS, "p button:not([name])"));
    rig.wait_for(BRIGHTNESS, -12);
    browser.wait_for_page("controls");
    assert_eq!(browser.eval("return location.hash"), format!("#c{BRIGHTNESS}"));
    browser.click(&in_knob(FLIP, "[role=switch]"));
    browser.click(&in_knob(FLIP, "p button:not([name])"));
    rig.wait_for(FLIP, 1);
    browser.wait(&format!("document.querySelector('{}').checked", in_knob(FLIP, "[role=switch]")));
    browser.click(&in_knob(FLIP, "[role=switch]"));
    browser.eval("window.seen = true"); // the next page has the same address
    browser.click(&in_knob(FLIP, "p button:not([name])"));
    rig.wait_for(FLIP, 0);
    browser.wait(&format!("!window.seen && location.hash === '#c{FLIP}'"));
    browser.wait_for_page("controls");
    browser.click(&in_knob(BRIGHTNESS, "[name=reset]"));
    rig.wait_for(BRIGHTNESS, 0);
    browser.open(&page(&rig.server, "controls"));
    browser
        .eval(&format!("document.querySelector('{}').value = '7'", in_knob(LAMPS, "[name=value]")));
    browser.click(&in_knob(LAMPS, "p button:not([name])"));
    browser.wait("document.querySelector('main p')");
    assert!(browser.text("main p").contains("0x80000005"), "{}", browser.text("main p"));

    // Nor can a text that somebody has set.
    const TEXT: &str = "\"><evil onload=evil=1>";
    let encoded: String = TEXT.bytes().map(|byte| format!("%{byte:02x}")).collect();
    post(&rig.server, "controls", &format!("id={CAPTION}&value={encoded}")).expect(200);
    browser.set_scripts(true);
    open(&browser, &rig, PHONE);
    let found = browser.eval(&format!(
        "return [!!window.evil, document.querySelectorAll('evil').length,
             [...document.querySelectorAll('label')].some(l => l.textContent.includes('<evil')),
             document.querySelector('{}').value]",
        in_knob(CAPTION, "input:not([type])")
    ));
    assert_eq!(found, json!([false, 0, true, TEXT]));
}

#[test]
fn the_page_fits_every_screen_and_speaks_chinese() {
    let (rig, browser) = (preloaded(Duration::ZERO), Browser::start());
    for (name, screen) in [("small-phone", SMALL_PHONE), ("phone", PHONE), ("desktop", DESKTOP)] {
        for dark in [false, true] {
            open(&browser, &rig, Screen { dark, ..screen });
            browser.wait("document.querySelector('main.alive')");
            let wide = browser.eval("return document.scrollingElement.scrollWidth");
            assert_eq!(wide, json!(screen.width), "{name}");
            let outside = browser.eval(
                "return [...document.querySelectorAll('main *')].filter(element => {
                     const r = element.getBoundingClientRect();
                     return r.width && (r.left < -.5 || r.right > innerWidth + .5);
                 }).map(element => element.outerHTML.slice(0, 80))",
            );
            assert_eq!(outside, json!([]), "{name}");
            let small = browser.eval(
                "return [...document.querySelectorAll('main :is(button, select, input)')]
                     .filter(element => {
                         const r = element.getBoundingClientRect();
                         return r.height && (r.height < 24 || r.width < 24);
                     }).map(element => element.outerHTML.slice(0, 80))",
            );
            assert_eq!(small, json!([]), "{name}");
            let theme = if dark { "dark" } else { "light" };
            browser.save(&format!("controls-{name}-{theme}"));
            // No field lies over another.
            let covered = browser.eval(
                "return [...document.querySelectorAll('section :is(button, select, input)')]
                     .filter(element => {
                         element.scrollIntoView({ block: 'nearest' });
                         const r = element.getBoundingClientRect();
                         const [x, y] = [r.x + r.width / 2, r.y + r.height / 2];
                         return r.height && document.elementFromPoint(x, y) !== element;
                     }).map(element => element.outerHTML.slice(0, 80))",
            );
            assert_eq!(covered, json!([]), "{name}");
            browser.eval("scrollTo(0, 0)");
            // The picture stays in sight.
            browser.eval("scrollTo(0, 1e6)");
            let [_, y, _, height] = browser.rectangle("#sight");
            assert!(y >= -1.0 && height > 100.0, "{name}: {y}, {height}");
            browser.save(&format!("controls-{name}-{theme}-end"));
        }
    }
    browser.set_languages("zh-CN,zh,en");
    open(&browser, &rig, PHONE);
    assert_eq!(browser.text("h1"), "控制");
    assert_eq!(browser.text(&in_knob(BRIGHTNESS, "label")), "亮度");
    browser.save("controls-zh-CN-phone");
}

#[test]
fn who_may_only_look_sees_values_and_nothing_to_set() {
    let rig = preloaded_with(Duration::ZERO, &["--read-only"]);
    let browser = Browser::start();
    for scripts in [true, false] {
        browser.set_scripts(scripts);
        open(&browser, &rig, PHONE);
        let state = browser.eval(&format!(
            "return [!!document.querySelector('main.alive'),
                 document.querySelector('#v{BRIGHTNESS}').value,
                 [...document.querySelectorAll('main :is(button, [type=range], fieldset)')]
                     .filter(element => element.checkVisibility())
                     .filter(element => !element.matches('fieldset:has(label)')).length,
                 [...document.querySelectorAll('main :is(input, select)')]
                     .filter(element => !element.matches(':disabled')).length > 0]"
        ));
        assert_eq!(state, json!([scripts, "0", 0, !scripts]));
        let name = if scripts { "controls-viewer-phone" } else { "controls-viewer-no-script" };
        browser.save(name);
    }
    refused(send(&rig.server, BRIGHTNESS, 1), 403, &["You may look"]);
}

#[test]
fn axe_finds_nothing_on_the_page_that_keeps_anybody_out() {
    if !util::long() {
        return;
    }
    let (rig, browser) = (preloaded(Duration::ZERO), Browser::start());
    open(&browser, &rig, PHONE);
    browser.expect_open_to_all("controls");
}

#[test]
fn the_test_picture_has_no_controls_and_says_so() {
    let (server, browser) = browser::start();
    let list = listing(&server);
    assert_eq!(list["controls"], json!([]));
    assert_eq!(list["reason"], "The test picture has no controls.");
    refused(send(&server, BRIGHTNESS, 1), 404, &["no control"]);
    browser.set_screen(PHONE);
    browser.open(&page(&server, ""));
    browser.click("#info a");
    browser.wait_for_page("controls");
    assert_eq!(browser.text(".knobs p:not(.said)"), "The test picture has no controls.");
    browser.wait("document.querySelector('#sight').naturalWidth === 640");
    browser.save("controls-none-phone");
    browser.expect_no_complaints();
}

const SECOND: Duration = Duration::from_secs(1);
