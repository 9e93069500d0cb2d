//! A camera with every fault that the guest's devices have, at random times one after the other,
//! while people watch, press the button and ask for snapshots, and interval photos go on; one in six
//! times another comes while the program recovers. For 40 s a kind of device, or ten minutes in the
//! long run; `PISTREAM_SEED` gives one order again.
//!
//! What is reported is how long after the device's health live frames are back: the promise is 3 s,
//! and the test allows what a busy machine needs.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use super::util::guest::{self, UsbCamera, vivid};
use super::util::photos::send;
use super::util::{
    Chance, Client, PATIENCE, Server, Stream, binary, client, long, median, stamp, until,
};
use super::{
    Belongings, PRESS, Picture, USB, USB_WITH_DAMAGED_FRAMES, VIVID, driver, pattern, show_bars,
    stamped,
};

/// From the device's health to live frames; 3 s are promised.
const BACK_TIME_MAX: Duration = Duration::from_secs(15);
/// What memory may grow by from the third quarter to the last one; in the short run, not everything
/// has happened once by then.
const GROWTH_KIB_MAX: u64 = 128;
const SHORT_GROWTH_KIB_MAX: u64 = 512;
/// A frame that is larger than the driver's buffers.
const TOO_LARGE: u32 = 700_000;

#[test]
fn an_isochronous_camera_comes_back_from_every_fault() {
    guest::run(&USB_WITH_DAMAGED_FRAMES, || {
        let faults = [&USB_FAULTS[..], &["lost"]].concat();
        try_usb(&mut UsbCamera::plugged("Rig", &[]), &faults);
    });
}

#[test]
fn a_bulk_camera_comes_back_from_every_fault() {
    guest::run(&USB, || {
        let faults = [&USB_FAULTS[..], &["stall"]].concat();
        try_usb(&mut UsbCamera::plugged("Bulk", &["--bulk"]), &faults);
    });
}

#[test]
fn a_raw_camera_comes_back_from_every_fault() {
    guest::run(&VIVID, || {
        show_bars();
        let server = serving(&["--camera", "/dev/video0", "--size", "320x180", "--fps", "10"]);
        try_all(&server, pattern, &VIVID_FAULTS, vivid_suffers);
    });
}

fn try_usb(camera: &mut UsbCamera, faults: &[&'static str]) {
    let server = serving(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
    try_all(&server, stamped, faults, |fault, chance| usb_suffers(camera, &server, fault, chance));
}

#[track_caller]
fn serving(camera: &[&str]) -> Server {
    Server::start(&[camera, &["--max-photos", "50"]].concat())
}

// ---- faults ---------------------------------------------------------------------------------

/// Those that take an argument are commands of uvc-cam.
const USB_FAULTS: [&str; 18] = [
    "unplug",
    "yank",
    "truncate",
    "garbage",
    "garbage for seconds",
    "junk",
    "stale",
    "empty",
    "error",
    "too large",
    "without tables",
    "freeze",
    "refuse",
    "mute",
    "veto",
    "slow",
    "mute-control",
    "forgetful",
];

/// Has the camera go wrong; when this returns it is healthy again.
fn usb_suffers(camera: &mut UsbCamera, server: &Server, fault: &str, chance: &mut Chance) {
    match fault {
        "unplug" => replug(camera, || pause(chance, 100, 1500)),
        // In again before the hub has noticed anything.
        "yank" => {
            camera.tell("unplug");
            camera.tell("plug");
        }
        "garbage for seconds" => spoil(camera, "garbage", 60),
        "too large" => {
            camera.tell(&format!("pad {TOO_LARGE}"));
            pause(chance, 100, 1000);
            camera.tell("pad 0");
        }
        "without tables" => {
            camera.tell("nodht on");
            pause(chance, 100, 500);
            camera.tell("nodht off");
        }
        "freeze" => {
            camera.tell("freeze");
            pause(chance, 100, 4500);
            camera.tell("resume");
        }
        "refuse" => {
            camera.tell("refuse 1000000");
            replug(camera, || ());
            pause(chance, 100, 1500);
            camera.tell("refuse 0");
        }
        "mute" => {
            camera.tell("mute 640x480");
            replug(camera, || ());
            pause(chance, 100, 4500);
            camera.tell("mute off");
        }
        "veto" => {
            camera.tell("veto 3 4");
            (0..3).for_each(|_| set_brightness(server, chance));
            camera.tell("veto 0 0");
        }
        "slow" => {
            camera.tell("slow 300");
            set_brightness(server, chance);
            camera.tell("slow 0");
        }
        "mute-control" => {
            camera.tell("mute-control 2 2"); // the brightness
            set_brightness(server, chance);
            replug(camera, || ());
        }
        "forgetful" => {
            set_brightness(server, chance);
            camera.tell("forgetful on");
            replug(camera, || ());
            pause(chance, 100, 1000);
            camera.tell("forgetful off");
        }
        "stall" => {
            let number = camera.tell("stall");
            wait_for_number(camera, number + 1);
        }
        frames => spoil(camera, frames, 1 + chance.below(20) as u32),
    }
}

fn replug(camera: &mut UsbCamera, meanwhile: impl FnOnce()) {
    camera.tell("unplug");
    meanwhile();
    camera.tell("plug");
    camera.node();
}

/// The next frames are damaged.
fn spoil(camera: &mut UsbCamera, how: &str, count: u32) {
    let first = camera.tell(&format!("{how} {count}"));
    wait_for_number(camera, first + count);
}

/// Until the camera has made all frames before this one.
#[track_caller]
fn wait_for_number(camera: &mut UsbCamera, number: u32) {
    let made = until(PATIENCE, || (camera.tell("resume") >= number).then_some(()));
    assert!(made.is_some(), "the camera makes no frames");
}

/// Somebody sets a control, whatever comes of it.
fn set_brightness(server: &Server, chance: &mut Chance) {
    let form = format!("id={}&value={}", 0x0098_0900, chance.below(100));
    post(server.addr(), "/controls", &form);
}

const VIVID_FAULTS: [&str; 8] = [
    "disconnect",
    "unbind",
    "fatal_streaming",
    "v4l2_buf_flag",
    "vidioc_qbuf",
    "vidioc_reqbufs",
    "vidioc_streamon",
    "dropped",
];

fn vivid_suffers(fault: &str, chance: &mut Chance) {
    match fault {
        "disconnect" => vivid("disconnect=1"),
        "unbind" => {
            driver("unbind");
            pause(chance, 500, 1500);
            driver("bind");
            show_bars();
        }
        "dropped" => {
            vivid("percentage_of_dropped_buffers=100");
            pause(chance, 100, 4500);
            vivid("percentage_of_dropped_buffers=0");
        }
        // It meets a start, for which the stream has to end.
        "vidioc_reqbufs" | "vidioc_streamon" => {
            vivid(&format!("inject_{fault}_error=1"));
            vivid("inject_fatal_streaming_error=1");
        }
        _ => vivid(&format!("inject_{fault}_error=1")),
    }
}

fn pause(chance: &mut Chance, least_ms: usize, most_ms: usize) {
    thread::sleep(Duration::from_millis((least_ms + chance.below(most_ms - least_ms)) as u64));
}

// ---- the trial ------------------------------------------------------------------------------

/// Has the device `suffer` each of the faults, again and again, and reports how that went.
#[track_caller]
fn try_all(
    server: &Server,
    recognise: fn(&[u8]) -> Picture,
    faults: &[&'static str],
    mut suffer: impl FnMut(&str, &mut Chance),
) {
    let _evidence = Evidence(server);
    let seed = env::var("PISTREAM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(now() as u64);
    println!("PISTREAM_SEED={seed}");
    let mut chance = Chance(seed);
    let watchers = [(); 2].map(|()| Watcher::open(server, recognise));
    for watcher in &watchers {
        watcher.live_after(0.0, "the start");
    }
    let start = Belongings::of(server);
    post(server.addr(), "/interval", "every=1s");
    let crowd = Crowd::start(server, recognise);

    let length = Duration::from_secs(if long() { 600 } else { 40 });
    let begun = Instant::now();
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut memory = Vec::new();
    let mut round = Vec::new();
    // Each at least once.
    while begun.elapsed() < length || !faults.iter().all(|fault| times.contains_key(fault)) {
        let mut draw = |chance: &mut Chance| {
            if round.is_empty() {
                round = faults.to_vec();
            }
            round.swap_remove(chance.below(round.len()))
        };
        let mut fault = draw(&mut chance);
        pause(&mut chance, 50, 500);
        suffer(fault, &mut chance);
        if chance.below(6) == 0 {
            // It is just recovering.
            pause(&mut chance, 1, 300);
            let other = draw(&mut chance);
            suffer(other, &mut chance);
            fault = "one behind another";
        }
        let (health, healthy) = (now(), Instant::now());
        let back = watchers.each_ref().map(|watcher| watcher.live_after(health, fault));
        let last = back.into_iter().max().expect("two of them");
        times.entry(fault).or_default().push((last - healthy).as_secs_f64());
        memory.push(Belongings::of(server).memory_kib);
    }
    println!("{:.0} s of faults; live frames are back after", begun.elapsed().as_secs_f64());
    for (fault, times) in &times {
        let (median, worst) = (median(times), times.iter().fold(0.0, |a: f64, b| a.max(*b)));
        println!("  {median:.2} s, at worst {worst:.2} s: {fault}, {} times", times.len());
    }
    let all: Vec<f64> = times.into_values().flatten().collect();
    let worst = all.iter().fold(0.0, |a: f64, b| a.max(*b));
    println!("  {:.2} s, at worst {worst:.2} s: all {}", median(&all), all.len());

    // Most of the time the camera is well.
    let least = (begun.elapsed().as_secs() / 20).max(1);
    println!("{}", crowd.end(least));
    let interval = client::get(server.addr(), "/interval").expect(200);
    let interval: Json = serde_json::from_slice(&interval.body).expect("JSON");
    assert!(interval["saved"].as_u64() >= Some(least), "{interval}");
    post(server.addr(), "/interval", "stop=1");
    println!("{}", server.wait_for_log("interval photos: over", PATIENCE));
    all_photos_are_whole(server, recognise);
    let pictures = watchers.map(Watcher::leave);
    println!("the viewers saw {pictures:?} pictures");
    nothing_has_grown(server, &start, &memory);
    println!("kernel: {}", kernel_s_fault().as_deref().unwrap_or("no fault"));
}

#[track_caller]
fn nothing_has_grown(server: &Server, start: &Belongings, memory: &[u64]) {
    // As before, somebody watches, and nobody else wants anything.
    let watchers = [(); 2].map(|()| Watcher::open(server, |_| Picture::Bars));
    for watcher in &watchers {
        watcher.live_after(0.0, "the end");
    }
    let had = |some: &Belongings| (some.descriptors, some.threads, some.buffers);
    until(PATIENCE, || (had(&Belongings::of(server)) == had(start)).then_some(()));
    assert_eq!(had(&Belongings::of(server)), had(start), "descriptors, threads, buffers");
    // The least is what stays.
    let quarter = memory.len() / 4;
    let least = |quarter: &[u64]| *quarter.iter().min().expect("several faults a quarter");
    let (third, last) = (least(&memory[2 * quarter..3 * quarter]), least(&memory[3 * quarter..]));
    println!("memory: {} KiB at the start, {third} in the third quarter, {last}", start.memory_kib);
    let most = if long() { GROWTH_KIB_MAX } else { SHORT_GROWTH_KIB_MAX };
    assert!(last <= third + most, "memory grew: {memory:?}");
}

fn all_photos_are_whole(server: &Server, recognise: fn(&[u8]) -> Picture) {
    let photos = fs::read_dir(server.folder().path().join("pic")).expect("the folder of photos");
    let mut count = 0;
    for entry in photos.flatten().filter(|entry| entry.path().extension().is_some()) {
        let Ok(photo) = fs::read(entry.path()) else { continue }; // one too many
        expect_whole(&format!("{:?}", entry.file_name()), recognise(&stamp::without_exif(&photo)));
        count += 1;
    }
    assert!(count > 0, "no photo is on the disk");
}

#[track_caller]
fn expect_whole(what: &str, picture: Picture) {
    assert!(!matches!(picture, Picture::Wrong(_)), "{what}: {picture:?}");
}

/// Seconds since 1970, as the times of frames are given.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Press the button of a form. Gives the status.
fn post(addr: SocketAddr, path: &str, form: &str) -> u16 {
    send(addr, "POST", path, "", form).status
}

// ---- those who watch ------------------------------------------------------------------------

/// Somebody who watches all the time, and keeps nothing.
struct Watcher {
    notes: Arc<(Mutex<Notes>, Condvar)>,
    stream: std::net::TcpStream,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Notes {
    pictures: u64,
    /// Of the newest live picture: when it was captured, its number, when it came.
    captured: f64,
    number: Option<u32>,
    at: Option<Instant>,
    fault: Option<String>,
}

impl Notes {
    fn add(&mut self, part: &client::Part, picture: Picture) {
        self.pictures += 1;
        let number = match picture {
            Picture::Frame(number) => Some(number),
            Picture::Bars => None,
            Picture::Other => return,
            Picture::Wrong(fault) => return self.fault = Some(fault),
        };
        // The last one may come once more, and nothing else.
        let repeated = part.timestamp == self.captured && number == self.number;
        let late = part.timestamp < self.captured || (number.is_some() && number <= self.number);
        if late && !repeated {
            let last = self.number;
            self.fault = Some(format!("{number:?} comes after {last:?}"));
        }
        (self.captured, self.number, self.at) = (part.timestamp, number, Some(Instant::now()));
    }
}

impl Watcher {
    #[track_caller]
    fn open(server: &Server, recognise: fn(&[u8]) -> Picture) -> Watcher {
        let mut stream = Stream::open(server.addr(), "/video_feed");
        let socket = stream.socket().try_clone().expect("a second descriptor");
        let notes = Arc::new((Mutex::new(Notes::default()), Condvar::new()));
        let writer = notes.clone();
        let reader = thread::spawn(move || {
            // The same bytes are the same picture.
            let mut known = (Vec::new(), Picture::Other);
            loop {
                let next = stream.next_part(PATIENCE);
                let mut notes = writer.0.lock().expect("no panic here");
                match next {
                    Ok(part) => {
                        if part.jpeg != known.0 {
                            known = (part.jpeg.clone(), recognise(&part.jpeg));
                        }
                        notes.add(&part, known.1.clone());
                    }
                    Err(error) => notes.fault = Some(format!("the stream ended: {error}")),
                }
                writer.1.notify_all();
                if notes.fault.is_some() {
                    return;
                }
            }
        });
        Watcher { notes, stream: socket, reader }
    }

    /// When the first live picture came that was captured after `time`.
    #[track_caller]
    fn live_after(&self, time: f64, what: &str) -> Instant {
        let end = Instant::now() + BACK_TIME_MAX;
        let mut notes = self.notes.0.lock().expect("no panic here");
        loop {
            if let Some(fault) = &notes.fault {
                panic!("{what}: {fault}");
            }
            if let Some(at) = notes.at.filter(|_| notes.captured > time) {
                return at;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: no live frames after {BACK_TIME_MAX:?} of health");
            notes = self.notes.1.wait_timeout(notes, left).expect("no panic here").0;
        }
    }

    /// How many pictures it has seen.
    #[track_caller]
    fn leave(self) -> u64 {
        let (pictures, fault) = {
            let mut notes = self.notes.0.lock().expect("no panic here");
            (notes.pictures, notes.fault.take())
        };
        assert_eq!(fault, None);
        let _ = self.stream.shutdown(Shutdown::Both);
        self.reader.join().expect("no panic in the thread that watches");
        pictures
    }
}

// ---- those who come and go ------------------------------------------------------------------

/// Threads that want something all the time; each tells at the end what it got.
struct Crowd {
    over: Arc<AtomicBool>,
    members: Vec<JoinHandle<(&'static str, u64, u64)>>,
}

impl Crowd {
    fn start(server: &Server, recognise: fn(&[u8]) -> Picture) -> Crowd {
        let over = Arc::new(AtomicBool::new(false));
        let (addr, pic) = (server.addr(), server.folder().path().join("pic"));
        let kinds: [Box<dyn Fn() -> bool + Send>; 3] = [
            Box::new(move || takes_a_photo(addr, &pic, recognise)),
            Box::new(move || takes_a_snapshot(addr, recognise)),
            Box::new(move || watches_for_a_moment(addr)),
        ];
        let names = ["photos", "snapshots", "streams"];
        let members = names.into_iter().zip(kinds).map(|(name, kind)| {
            let over = over.clone();
            thread::spawn(move || {
                let (mut given, mut refused) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    match kind() {
                        true => given += 1,
                        false => refused += 1,
                    }
                    thread::sleep(Duration::from_millis(200));
                }
                (name, given, refused)
            })
        });
        Crowd { members: members.collect(), over }
    }

    /// Each of them got `least` of what it wanted.
    #[track_caller]
    fn end(self, least: u64) -> String {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.members.into_iter().map(|member| {
            let (name, given, refused) = member.join().expect("all is well");
            assert!(given >= least, "{given} {name}, {refused} refused");
            format!("{given} {name} whole, {refused} refused")
        });
        ended.collect::<Vec<_>>().join("; ")
    }
}

/// It is on the disk and whole, or refused.
fn takes_a_photo(addr: SocketAddr, pic: &Path, recognise: fn(&[u8]) -> Picture) -> bool {
    let mut client = Client::connect(addr);
    let reply = client.send(PRESS).reply();
    if reply.status == 503 {
        return false;
    }
    let reply = reply.expect(201);
    let name = reply.header("Location").and_then(|place| place.strip_prefix("pic/"));
    let name = name.expect("the photo's place");
    let photo = fs::read(pic.join(name)).expect("the photo");
    expect_whole(name, recognise(&stamp::without_exif(&photo)));
    true
}

fn takes_a_snapshot(addr: SocketAddr, recognise: fn(&[u8]) -> Picture) -> bool {
    let reply = client::get(addr, "/snapshot");
    if reply.status == 503 {
        return false;
    }
    expect_whole("a snapshot", recognise(&reply.expect(200).body));
    true
}

fn watches_for_a_moment(addr: SocketAddr) -> bool {
    let mut stream = Stream::open(addr, "/video_feed?fps=5");
    (0..3).for_each(|_| drop(stream.next_part(PATIENCE).expect("a picture")));
    true
}

// ---- what is known of a failure -------------------------------------------------------------

/// Tells, when the test fails, what the kernel and the program have said.
struct Evidence<'s>(&'s Server);

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("--- the kernel: {} ---", kernel_s_fault().as_deref().unwrap_or("no fault"));
        eprintln!("{}", end_of(&kernel_s_messages(), 100));
        let nodes = fs::read_dir("/sys/class/video4linux").into_iter().flatten().flatten();
        eprintln!("--- nodes: {:?} ---", nodes.map(|node| node.file_name()).collect::<Vec<_>>());
        eprintln!("--- {} ---\n{}", binary().display(), end_of(&self.0.log(), 200));
    }
}

fn kernel_s_messages() -> String {
    let said = Command::new("dmesg").output().map(|run| run.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).into_owned()
}

/// The line with which the kernel tells that it has made a mistake.
fn kernel_s_fault() -> Option<String> {
    let said = kernel_s_messages();
    said.lines().find(|line| ["BUG:", "Oops"].iter().any(|w| line.contains(w))).map(str::to_owned)
}

fn end_of(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
