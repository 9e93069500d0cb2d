//! The ARMv6 program on an emulated Raspberry Pi Zero: that it does there what it does elsewhere,
//! and what it costs. `scripts/test-pi-zero` builds program and rig and runs this; without it, the
//! tests say that they were skipped.
//!
//! Instructions are exact and the same each time, and so are memory and frames. How long anything
//! takes is not known here: an emulated processor has no caches and no slow memory.

mod util;

use std::process::Command;

use util::client::press;
use util::console::WEBCAM;
use util::pi::{self, Clock, Counted, Listening, Memory, Pi, value};
use util::{PATIENCE, Reply, Server, Stream, command, decode, get, stamp, until};

/// From the start until it listens, at one instruction a nanosecond.
const LISTENING_MS_MAX: f64 = 300.0;
/// With nobody there.
const IDLE_KIB_MAX: u64 = 2 * 1024;
const IDLE_ANONYMOUS_KIB_MAX: u64 = 800;
/// With four viewers of 1280x720 and the gallery of 1,000 photos in use; the camera's buffers,
/// which are the driver's, come on top.
const BUSY_KIB_MAX: u64 = 6 * 1024;
/// More than before, after 10,000 frames.
const GROWTH_KIB_MAX: u64 = 64;
/// In user space, for one viewer: a frame of `FRAME_BYTES` that the camera made.
const PASSED_MAX: u64 = 250_000;
/// In user space, for one viewer: 640x480 YUYV, encoded with quality 75.
const ENCODED_MAX: u64 = 27_000_000;
/// Of so many frames the mean.
const COUNTED: u64 = 1000;
/// About what a good USB camera gives at 1280x720.
const FRAME_BYTES: usize = 80_000;
const PHOTOS: u64 = 1000;
/// From a request until the camera, which was off, makes its first frame; and from then on until
/// the viewer has it, with its way over USB.
const STARTED_MS_MAX: f64 = 200.0;
const FIRST_MS_MAX: f64 = 70.0;
/// By which other work may lengthen the longest time between two frames.
const LONGER_MS_MAX: f64 = 3.0;

/// A picture as cameras make it: shapes, detail, noise; about `FRAME_BYTES` long.
fn photograph() -> Vec<u8> {
    let (width, height) = (1280, 720);
    let mut chance = util::Chance(1);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as i32 - 500, y as i32 - 300);
            let disc = if dx * dx + dy * dy < 40_000 { 90 } else { 0 };
            let detail = if ((x / 3) ^ (y / 5)) % 7 == 0 && x > 900 { 40 } else { 0 };
            for channel in 0..3 {
                let slope = (x * (channel + 1) + y * (3 - channel)) as i32 / 24;
                let noise = chance.below(13) as i32 - 6;
                pixels.push((40 + slope % 120 + disc + detail + noise).clamp(0, 255) as u8);
            }
        }
    }
    let image = turbojpeg::Image {
        pixels: &pixels[..],
        width,
        pitch: width * 3,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    let compress = |quality| {
        let subsamp = turbojpeg::Subsamp::Sub2x1;
        turbojpeg::compress(image, quality, subsamp).expect("a JPEG").to_vec()
    };
    let sizes = (20..95).map(compress);
    sizes.min_by_key(|jpeg| jpeg.len().abs_diff(FRAME_BYTES)).expect("some")
}

/// The software camera, on its own in the Pi; the node is /dev/video0 while nothing else is there.
fn plug_camera(pi: &mut Pi, options: &str) {
    pi.run("modprobe vhci-hcd && modprobe uvcvideo && mkfifo /tmp/tell");
    pi.run(&format!("(uvc-cam --bulk {options} <>/tmp/tell >/tmp/told 2>&1 &)"));
    pi.wait_for("[ -e /dev/video1 ]");
}

const CAMERA: &str = "--picture /root/shot.jpg --sizes 1280x720 --fps 15";

#[track_caller]
fn measure(pi: &mut Pi, server: &Listening, when: &str) -> Memory {
    let memory = pi.memory(server);
    println!("{when}: {memory:?} KiB");
    memory
}

#[track_caller]
fn expect_idle(pi: &mut Pi, server: &Listening) {
    pi.wait_for("grep -q 'taken up when somebody watches' /tmp/log"); // until then it starts
    let memory = measure(pi, server, "idle");
    assert!(memory.resident <= IDLE_KIB_MAX, "{memory:?}");
    assert!(memory.anonymous <= IDLE_ANONYMOUS_KIB_MAX, "{memory:?}");
    assert!(memory.anonymous > 0, "nothing was measured: {memory:?}");
}

/// The camera's own frame, byte for byte; its number.
#[track_caller]
fn expect_stamped(jpeg: &[u8]) -> u32 {
    stamp::check(jpeg).expect("a frame as it was made").expect("the camera's frame").number
}

/// The program under an emulated ARM1176, with this machine's kernel.
#[test]
fn an_arm1176_runs_the_program() {
    let Some(built) = pi::built() else { return };
    let plain = command(&[]);
    let mut emulated = Command::new("qemu-arm-static");
    emulated.args(["-cpu", "arm1176"]).arg(built.join("pistream"));
    emulated.args(["--listen", "127.0.0.1:0", "--camera", "test", "--size", "320x240"]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => emulated.env(name, value),
            None => emulated.env_remove(name),
        };
    }
    let server = Server::start_command(emulated);
    for page in ["/", "/gallery", "/status", "/md/"] {
        server.get(page).expect(200);
    }
    let (width, height, _) = decode(&server.get("/snapshot").expect(200).body);
    assert_eq!((width, height), (320, 240));
    let (width, _, _) = decode(&server.get("/snapshot?width=160").expect(200).body);
    assert_eq!(width, 160);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    (0..5).for_each(|_| drop(decode(&stream.frame().jpeg)));
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn a_usb_camera_streams_and_photographs_in_little_memory() {
    let Some(built) = pi::built() else { return };
    let mut pi = Pi::boot(&built, Clock::Host, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    let server = pi.start("/root/pistream", "");
    expect_idle(&mut pi, &server);

    // From inside, four at once; from outside over USB, byte for byte.
    let watched = pi.run("probe watch 4 60 /video_feed");
    println!("{watched}");
    assert_eq!(watched.lines().filter(|line| value(line, "frames") == 60.0).count(), 4);
    expect_stamped(&get(pi.addr(), "/snapshot").expect(200).body);
    let mut stream = Stream::open(pi.addr(), "/video_feed?fps=2");
    let numbers: Vec<u32> = (0..3).map(|_| expect_stamped(&stream.frame().jpeg)).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    drop(stream);

    let photo = press(pi.addr());
    assert_eq!((photo["width"].as_u64(), photo["height"].as_u64()), (Some(1280), Some(720)));
    let saved = get(pi.addr(), photo["url"].as_str().expect("an address")).expect(200).body;
    expect_stamped(&stamp::without_exif(&saved));
    let page = get(pi.addr(), "/gallery").expect(200).text();
    assert!(page.contains(photo["name"].as_str().expect("a name")), "{page}");
    let memory = measure(&mut pi, &server, "after all that");
    assert!(memory.resident <= BUSY_KIB_MAX, "{memory:?}");
    pi.stop(&server);
}

/// Every page, over the emulated USB network; then the cable is pulled and put back.
#[test]
fn the_whole_site_works_and_a_pulled_camera_comes_back() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Host, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    pi.run(
        "mkdir -p md pic && printf '# On *ARM*\\n\\n| a | b |\\n|-|-|\\n| 1 | 2 |\\n' > md/arm.md",
    );
    pi.run(&format!("probe copy /root/shot.jpg pic {PHOTOS}"));
    let server = pi.start("/root/pistream", "");
    let addr = pi.addr();
    let text = |target: &str| {
        let reply: Reply = get(addr, target).expect(200);
        assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"), "{target}");
        reply.text()
    };
    for page in ["/", "/md/", "/current_picture"] {
        assert!(text(page).contains("</html>"), "{page}");
    }
    for program in ["/status", "/interval"] {
        let reply = get(addr, program).expect(200);
        serde_json::from_slice::<serde_json::Value>(&reply.body).expect(program);
    }
    assert!(text("/md/arm").contains("<h1 id=\"on-arm\">On <em>ARM</em></h1>"));
    assert!(text("/md/arm").contains("<td>2</td>"));
    let gallery = text("/gallery");
    assert!(gallery.contains("2026-01-02_00-16-39"), "the newest of {PHOTOS}: {gallery}");
    assert!(gallery.contains("1000") || gallery.contains("1,000"), "{gallery}");
    assert!(text("/view/2026-01-02_00-08-00.jpg").contains("2026-01-02_00-07-59"));
    let (width, _, _) = decode(&get(addr, "/thumb/2026-01-02_00-08-00.jpg").expect(200).body);
    assert!((100..640).contains(&width), "a thumbnail of {width} pixels");
    assert_eq!(get(addr, "/nowhere").status, 404);

    // Whose picture a snapshot is: the camera's, NO SIGNAL, or none for the moment.
    let shown = || {
        let reply = get(addr, "/snapshot");
        (reply.status == 200).then(|| stamp::check(&reply.body).expect("a whole frame").is_some())
    };
    assert_eq!(shown(), Some(true));
    pi.run("echo unplug > /tmp/tell");
    pi.wait_for("[ ! -e /dev/video0 ] && grep -q 'camera lost' /tmp/log");
    assert_ne!(shown(), Some(true));
    pi.run("echo plug > /tmp/tell");
    until(PATIENCE, || (shown() == Some(true)).then_some(())).expect("the camera again");
    pi.stop(&server);
}

/// Seconds have 32 bits in this program's C library, and 64 in all that it uses.
#[test]
fn photos_have_their_date_after_2038() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Host, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    pi.run("probe clock 2208988800");
    let server = pi.start("/root/pistream", "");
    let photo = press(pi.addr());
    let name = photo["name"].as_str().expect("a name");
    assert!(name.starts_with("2040-01-01_00-0"), "{name}");
    let saved = get(pi.addr(), &format!("/pic/{name}")).expect(200);
    let modified = saved.header("Last-Modified").expect("a date");
    assert!(modified.starts_with("Sun, 01 Jan 2040 00:0"), "{modified}");
    assert!(saved.header("Date").is_some_and(|date| date.contains("2040")));
    assert!(get(pi.addr(), "/gallery").expect(200).text().contains(name));
    get(pi.addr(), &format!("/thumb/{name}")).expect(200);
    pi.run("probe watch 1 30 /video_feed");
    pi.stop(&server);
}

/// The colours of vivid's test pattern, through every format that we encode.
#[test]
fn every_raw_format_comes_out_in_its_colours() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Host, &[]);
    pi.run(WEBCAM);
    pi.wait_for("[ -e /dev/video0 ]");
    for format in ["yuyv", "uyvy", "nv12", "yu12", "rgb3", "bgr3", "grey"] {
        let options = format!("--camera /dev/video0 --format {format} --size 640x480 --fps 15");
        let server = pi.start("/root/pistream", &options);
        let (width, height, pixels) = decode(&get(pi.addr(), "/snapshot").expect(200).body);
        assert_eq!((width, height), (640, 480), "{format}");
        // Eight bars of 75 % colour: white, yellow, cyan, green, magenta, red, blue, black.
        let bar = |n: usize| {
            let at = (height * 3 / 4 * width + (2 * n + 1) * width / 16) * 3;
            [pixels[at], pixels[at + 1], pixels[at + 2]]
        };
        let near = |n: usize, expect: [u8; 3]| {
            let fits = bar(n).iter().zip(expect).all(|(a, b)| a.abs_diff(b) <= 16);
            assert!(fits, "{format}: bar {n} is {:?}, not {expect:?}", bar(n));
        };
        near(0, [191; 3]);
        near(7, [0; 3]);
        if format != "grey" {
            near(1, [191, 191, 0]);
            near(2, [0, 191, 191]);
            near(5, [191, 0, 0]);
            near(6, [0, 0, 191]);
        }
        pi.stop(&server);
    }
}

#[test]
fn ten_thousand_frames_and_a_thousand_photos_take_no_more_memory() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Host, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    pi.run(&format!("mkdir pic && probe copy /root/shot.jpg pic {PHOTOS}"));
    let server = pi.start("/root/pistream", "");
    expect_idle(&mut pi, &server);
    pi.run("(probe watch 4 300 /video_feed > /tmp/watched 2>&1 &)");
    println!("{}", pi.run("probe thumbs 60"));
    get(pi.addr(), "/gallery").expect(200);
    get(pi.addr(), "/view/2026-01-02_00-08-00.jpg").expect(200);
    let busy = measure(&mut pi, &server, "four viewers, the gallery");
    pi.wait_for("grep -c frames=300 /tmp/watched | grep -qx 4");
    println!("{}", pi.run("cat /tmp/watched"));
    let before = measure(&mut pi, &server, "before 10,000 frames");
    pi.run("echo fps 60 > /tmp/tell");
    println!("{}", pi.run("probe watch 1 10000 /video_feed"));
    let after = measure(&mut pi, &server, "after 10,000 frames");
    assert!(busy.resident <= BUSY_KIB_MAX, "{busy:?}");
    assert!(after.resident <= before.resident + GROWTH_KIB_MAX, "{before:?}, {after:?}");
    assert!(after.anonymous <= before.anonymous + GROWTH_KIB_MAX, "{before:?}, {after:?}");
    pi.stop(&server);
}

#[test]
fn a_frame_costs_few_instructions_and_rest_none() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Counted, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    pi.run(WEBCAM);
    pi.wait_for("[ -e /dev/video2 ]");

    let server = pi.start("/root/pistream", "--camera /dev/video0");
    println!("listening after {} ms", server.milliseconds);
    assert!(server.milliseconds <= LISTENING_MS_MAX, "{} ms", server.milliseconds);
    let idle = pi.count("probe idle 10");
    assert_eq!(idle.pistream, 0, "in ten idle seconds: {:?}", idle.functions);
    let passed = each(&mut pi, "passed through");
    assert!(passed.pistream <= PASSED_MAX, "{} instructions a frame", passed.pistream);
    assert!(passed.pistream > 10_000, "nothing was counted");
    pi.stop(&server);

    let options = "--camera /dev/video2 --format yuyv --size 640x480 --quality 75 --fps 15";
    let server = pi.start("/root/pistream", options);
    let encoded = each(&mut pi, "encoded");
    assert!(encoded.pistream <= ENCODED_MAX, "{} instructions a frame", encoded.pistream);
    assert!(encoded.pistream > 1_000_000, "nothing was counted");
    pi.stop(&server);
}

/// What a frame for one viewer costs, and a profile of it.
#[track_caller]
fn each(pi: &mut Pi, what: &str) -> Counted {
    let mut counted = pi.count(&format!("probe count {COUNTED} /video_feed"));
    counted.pistream /= COUNTED;
    counted.kernel /= COUNTED;
    println!(
        "{what}: {} instructions a frame, and {} in the kernel",
        counted.pistream, counted.kernel
    );
    for (name, count) in counted.functions.iter().take(8) {
        println!("  {:10} {name}", count / COUNTED);
    }
    counted
}

/// On one core: work for others is done while somebody watches. A frame that is ready does not wait
/// for it at all, and one that must be encoded hardly.
#[test]
fn frames_keep_coming_while_others_give_work() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let note = "# Part\n\nSome *words*, a [link](other.md) and `code`.\n\n- one\n- two\n\n";
    let note = note.repeat(2000);
    let files = [("shot.jpg", &photograph()[..]), ("note.md", note.as_bytes())];
    let mut pi = Pi::boot(&built, Clock::Counted, &files);
    plug_camera(&mut pi, CAMERA);
    pi.run(WEBCAM);
    pi.wait_for("[ -e /dev/video2 ]");
    pi.run("mkdir -p md && mv note.md md/");
    let raw = "--camera /dev/video2 --format yuyv --size 640x480 --quality 75 --fps 15";
    for camera in ["--camera /dev/video0", raw] {
        pi.run("rm -rf pic && mkdir pic && probe copy /root/shot.jpg pic 100");
        let server = pi.start("/root/pistream", camera);
        let alone = pi.run("probe watch 1 100 /video_feed");
        println!("{camera}\n  alone: {alone}");
        let works = ["thumbs 100", "get 20 /md/note", "get 20 /snapshot?width=320"];
        for work in works {
            pi.run("rm -f /tmp/watched; (probe watch 1 100 /video_feed > /tmp/watched 2>&1 &)");
            println!("  {}", pi.run(&format!("probe {work}")));
            pi.wait_for("grep -q frames=100 /tmp/watched");
            let beside = pi.run("cat /tmp/watched");
            println!("  beside {work}: {beside}");
            let longer = value(&beside, "max_ms") - value(&alone, "max_ms");
            assert!(longer <= LONGER_MS_MAX, "the longest gap grew by {longer} ms");
        }
        pi.stop(&server);
    }
}

/// A viewer gets the first frame that the camera makes, and has it as soon as the camera gave it.
#[test]
fn the_first_frame_takes_one_start_of_the_camera() {
    let Some(built) = pi::built().filter(|_| util::long()) else { return };
    let mut pi = Pi::boot(&built, Clock::Counted, &[("shot.jpg", &photograph())]);
    plug_camera(&mut pi, CAMERA);
    let server = pi.start("/root/pistream", "--camera /dev/video0 --idle-off 1s");
    for round in 1..=3 {
        pi.run("echo fps 15 > /tmp/tell");
        pi.wait_for(&format!("[ $(wc -l < /tmp/told) -eq {round} ]"));
        let told = pi.run("tail -n 1 /tmp/told");
        let next: u64 = told.trim_start_matches("ok ").parse().expect("a number");
        let said = pi.run("probe first /video_feed");
        println!("the camera's next is {next}: {said}");
        assert_eq!(value(&said, "number") as u64, next, "not its first frame");
        let (made, seen) = (value(&said, "made_ms"), value(&said, "seen_ms"));
        assert!(made <= STARTED_MS_MAX, "the camera was started {made} ms after the request");
        assert!(seen - made <= FIRST_MS_MAX, "the frame came {} ms after it was made", seen - made);
        pi.wait_for(&format!("[ $(grep -c 'camera: stopped' /tmp/log) -eq {round} ]"));
    }
    pi.stop(&server);
}
