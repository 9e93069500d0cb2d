//! Programs that people give a camera's address to, each against the real server: it must take a
//! hundred pictures in a row, in order and whole, as fast as the camera makes them, beginning with
//! the picture of the moment at which it asked.
//!
//! [`PROGRAMS`] is the list; a new one is a row there, and a package in `scripts/test`. In the
//! long run one that is missing is a failure, like every other.

mod util;
#[path = "util/browser.rs"]
mod browser;

use std::collections::{BTreeMap, VecDeque};
use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine};
use browser::Browser;
use serde_json::{Value, json};
use util::console::free_port;
use util::go2rtc::{self, Go2rtc};
use util::numbered::{Camera, HEIGHT, Taken, WIDTH, number, number_in, number_of_blocks, soon};
use util::{Folder, Jpegs, PATIENCE, Started, installed, long, until};

// ---- the programs ---------------------------------------------------------------------------

struct Program {
    /// Of the program that is run, and what the server's log shows.
    name: &'static str,
    /// Only in the long run.
    long: bool,
    /// It takes a picture whenever it looks: it may leave some out, or take one twice, or begin
    /// late. That the server has sent it all of them, the server tells.
    by_its_clock: bool,
    /// The address for it at go2rtc, which alone is given the camera's, and hands the stream on.
    relayed: Option<fn(&Go2rtc) -> String>,
    gives: Gives,
    command: fn(&Place) -> Command,
}

/// What a program makes of the stream.
#[derive(Clone, Copy)]
enum Gives {
    /// Grey pixels on standard output, as it decoded them.
    Pixels,
    /// The stream on standard output, as it came.
    Stream,
    /// JPEGs on standard output, whatever stands between them.
    Jpegs,
    /// A line with `CRC32:` and the checksum of each picture's bytes on standard output.
    Checksums,
    /// JPEG files with ascending numbers for names in its folder, encoded anew.
    Files,
}

/// Where a program finds the camera, and may leave files.
struct Place<'a> {
    url: String,
    folder: &'a Folder,
}

impl Place<'_> {
    /// What the program says goes here.
    fn complaints(&self) -> PathBuf {
        self.folder.path().join("complaints")
    }

    /// What went wrong, and what the program says of it.
    fn complaint(&self, what: &str) -> String {
        let said = fs::read_to_string(self.complaints()).unwrap_or_default();
        format!("{what}; the program says {said:?}")
    }

    /// The words of a line, with `URL` and `FOLDER` filled in.
    fn run(&self, line: &str) -> Command {
        let fill = |word: &str| word.replace("URL", &self.url).replace("FOLDER", self.folder.arg());
        let mut words = line.split_whitespace().map(fill);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        command
    }

    /// A program in Python whose arguments are the camera's address and `more`.
    fn python(&self, program: &str, more: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/python3"); // Debian's, which has the modules
        command.args(["-c", program, &self.url]).args(more);
        command
    }
}

const SHORT: Program = Program {
    name: "",
    long: false,
    by_its_clock: false,
    relayed: None,
    gives: Gives::Stream,
    command: |place| place.run(""),
};
const LONG: Program = Program { long: true, ..SHORT };

const PROGRAMS: [Program; 14] = [
    Program { name: "curl", command: curl, ..SHORT },
    Program {
        name: "wget",
        command: |place| place.run("wget --quiet --output-document=- URL"),
        ..SHORT
    },
    Program { name: "ffmpeg", gives: Gives::Pixels, command: |place| ffmpeg(place, ""), ..SHORT },
    Program {
        name: "ffprobe",
        gives: Gives::Checksums,
        command: |place| {
            place.run(
                "ffprobe -loglevel error -read_intervals %+#110 -show_packets \
                 -show_data_hash crc32 -show_entries packet=data_hash -of csv=p=0 URL",
            )
        },
        ..SHORT
    },
    Program {
        name: "gst-launch-1.0",
        gives: Gives::Pixels,
        command: |place| {
            place.run(
                "gst-launch-1.0 --quiet souphttpsrc location=URL is-live=true ! multipartdemux \
                 ! jpegdec ! videoconvert ! video/x-raw,format=GRAY8 ! fdsink sync=false",
            )
        },
        ..LONG
    },
    Program {
        name: "mpv",
        gives: Gives::Pixels,
        command: |place| {
            place.run(
                "mpv --no-config --really-quiet --untimed --no-audio \
                 --o=- --of=rawvideo --ovc=rawvideo --vf=format=gray URL",
            )
        },
        ..LONG
    },
    Program {
        name: "vlc (what it receives)",
        gives: Gives::Jpegs,
        command: |place| vlc(place, "--sout=#std{access=file,mux=mpjpeg,dst=-}"),
        ..LONG
    },
    Program {
        name: "vlc (what it shows)",
        by_its_clock: true,
        gives: Gives::Files,
        command: |place| {
            vlc(
                place,
                "--vout=dummy --video-filter=scene --scene-format=jpg --scene-ratio=1 \
                 --scene-prefix= --scene-path=FOLDER",
            )
        },
        ..LONG
    },
    Program { name: "motion", by_its_clock: true, gives: Gives::Files, command: motion, ..LONG },
    Program {
        name: "OpenCV",
        gives: Gives::Pixels,
        command: |place| place.python(OPENCV, &[]),
        ..LONG
    },
    Program {
        name: "requests",
        gives: Gives::Jpegs,
        command: |place| place.python(REQUESTS, &[]),
        ..LONG
    },
    // For each still picture it asks anew.
    Program {
        name: "homeassistant",
        by_its_clock: true,
        gives: Gives::Jpegs,
        command: |place| place.python(HOMEASSISTANT, &[&installed("PISTREAM_HOMEASSISTANT")]),
        ..LONG
    },
    Program {
        name: "go2rtc (by MJPEG to curl)",
        relayed: Some(Go2rtc::mjpeg),
        gives: Gives::Jpegs,
        command: curl,
        ..LONG
    },
    Program {
        name: "go2rtc (by RTSP to ffmpeg)",
        relayed: Some(Go2rtc::rtsp),
        gives: Gives::Pixels,
        command: |place| ffmpeg(place, "-rtsp_transport tcp"),
        ..LONG
    },
];

fn curl(place: &Place) -> Command {
    place.run("curl --silent --no-buffer URL")
}

fn ffmpeg(place: &Place, options: &str) -> Command {
    place.run(&format!(
        "ffmpeg -nostdin -loglevel error {options} -i URL \
         -fps_mode passthrough -f rawvideo -pix_fmt gray -"
    ))
}

/// VLC does not run as root.
fn vlc(place: &Place, options: &str) -> Command {
    let root = rustix::process::geteuid().is_root();
    let other = if root { "setpriv --reuid=65534 --regid=65534 --clear-groups " } else { "" };
    let all = Permissions::from_mode(0o777);
    fs::set_permissions(place.folder.path(), all).expect("a folder for another user");
    let line = format!("{other}cvlc --quiet --intf=dummy --no-audio {options} URL");
    let mut command = place.run(&line);
    command.env("HOME", place.folder.path());
    command
}

fn motion(place: &Place) -> Command {
    let Place { url, folder } = place;
    let settings = format!("netcam_url {url}\ntarget_dir {}\n{MOTION}", folder.arg());
    folder.write("motion.conf", settings);
    place.run("motion -n -c FOLDER/motion.conf")
}

/// A picture each time that it looks, which is as often as the camera's come.
const MOTION: &str = "\
framerate 25
width 320
height 256
emulate_motion on
picture_output on
picture_quality 90
movie_output off
webcontrol_port 0
stream_port 0
log_level 4
picture_filename %Y%m%d%H%M%S%q
";

const OPENCV: &str = "
import cv2, sys
camera = cv2.VideoCapture(sys.argv[1])
while True:
    there, picture = camera.read()
    if not there:
        sys.exit('no picture')
    sys.stdout.buffer.write(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).tobytes())
    sys.stdout.buffer.flush()
";

/// As it stands in a thousand places.
const REQUESTS: &str = r"
import requests, sys
received = b''
for chunk in requests.get(sys.argv[1], stream=True).iter_content(chunk_size=1024):
    received += chunk
    start, end = received.find(b'\xff\xd8'), received.find(b'\xff\xd9')
    if start != -1 and end != -1:
        sys.stdout.buffer.write(received[start:end + 2])
        sys.stdout.buffer.flush()
        received = received[end + 2:]
";

/// Home Assistant's own function for a picture out of a stream, without the rest of it, which
/// wants another Python and a hundred packages; called as its camera does.
const HOMEASSISTANT: &str = "
import ast, asyncio, sys, zipfile
from collections.abc import AsyncIterator
import httpx
url, wheel = sys.argv[1:]
source = zipfile.ZipFile(wheel).read('homeassistant/components/mjpeg/camera.py')
name = 'async_extract_image_from_mjpeg'
own = [part for part in ast.parse(source).body if getattr(part, 'name', None) == name]
exec(compile(ast.Module(own, []), name, 'exec'))
async def pictures():
    async with httpx.AsyncClient() as client:
        while True:
            async with client.stream('get', url, timeout=10) as stream:
                picture = await async_extract_image_from_mjpeg(stream.aiter_bytes(102400))
            sys.stdout.buffer.write(picture)
            sys.stdout.buffer.flush()
asyncio.run(pictures())
";

// ---- what they make of it -------------------------------------------------------------------

/// A picture as a program hands it on.
enum Picture {
    Pixels(Vec<u8>),
    Jpeg(Vec<u8>),
    Checksum(u32),
}

impl Picture {
    fn number(&self, camera: &Camera) -> Result<u32, String> {
        match self {
            Picture::Pixels(grey) => number(grey),
            Picture::Jpeg(jpeg) => number_in(jpeg),
            Picture::Checksum(checksum) => {
                camera.number_of(*checksum).ok_or_else(|| format!("no picture has {checksum:08x}"))
            }
        }
    }
}

/// A program at work.
struct Run {
    _started: Started,
    pictures: Receiver<Result<Picture, String>>,
}

impl Run {
    fn start(program: &Program, place: &Place) -> Result<Run, String> {
        let mut command = (program.command)(place);
        command.stdout(Stdio::piped());
        let mut started = Started::new(command, &place.complaints())?;
        let out = started.stdout();
        let (tell, pictures) = channel();
        let (gives, folder) = (program.gives, place.folder.path().to_owned());
        thread::spawn(move || {
            let end = match gives {
                Gives::Pixels => pixels(out, &tell),
                Gives::Stream => stream(out, &tell),
                Gives::Jpegs => jpegs(out, &tell),
                Gives::Checksums => checksums(out, &tell),
                Gives::Files => files(&folder, &tell),
            };
            if let Err(error) = end {
                let _ = tell.send(Err(error.to_string()));
            }
        });
        Ok(Run { _started: started, pictures })
    }
}

type Tell = Sender<Result<Picture, String>>;

/// Each of these goes on until the program ends, or nobody listens.
fn pixels(mut out: ChildStdout, tell: &Tell) -> io::Result<()> {
    loop {
        let mut grey = vec![0; WIDTH * HEIGHT];
        out.read_exact(&mut grey)?;
        if tell.send(Ok(Picture::Pixels(grey))).is_err() {
            return Ok(());
        }
    }
}

fn stream(out: ChildStdout, tell: &Tell) -> io::Result<()> {
    util::parts(out, |part| tell.send(Ok(Picture::Jpeg(part.jpeg))).is_ok())
}

fn jpegs(out: ChildStdout, tell: &Tell) -> io::Result<()> {
    for jpeg in Jpegs::new(out) {
        if tell.send(Ok(Picture::Jpeg(jpeg?))).is_err() {
            break;
        }
    }
    Ok(())
}

fn checksums(out: ChildStdout, tell: &Tell) -> io::Result<()> {
    for line in BufReader::new(out).lines() {
        let line = line?;
        let digits = line.trim().strip_prefix("CRC32:");
        let checksum = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let picture = checksum.map(Picture::Checksum).ok_or(line);
        if tell.send(picture).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// In the order of their names' numbers; a file is whole when the next one is there.
fn files(folder: &Path, tell: &Tell) -> io::Result<()> {
    let mut told = 0;
    loop {
        let files = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let numbered = |path: PathBuf| {
            let stem = path.file_name()?.to_str()?.strip_suffix(".jpg")?;
            Some((stem.parse::<u64>().ok()?, path))
        };
        let files = files.collect::<io::Result<Vec<_>>>()?;
        let files: BTreeMap<u64, PathBuf> = files.into_iter().filter_map(numbered).collect();
        let whole = files.len().saturating_sub(1);
        for path in files.values().take(whole).skip(told) {
            let jpeg = fs::read(path)?;
            if !jpeg.ends_with(b"\xff\xd9") {
                break; // motion may write one again, if two are of the same instant
            }
            if tell.send(Ok(Picture::Jpeg(jpeg))).is_err() {
                return Ok(());
            }
            told += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

// ---- what is asked of them ------------------------------------------------------------------

/// The part of an address that tells a program's requests in the log.
fn target(program: &str) -> String {
    format!("/video_feed?{}", program.split(' ').next().expect("a word"))
}

/// Let a program take its pictures.
fn take(program: &Program, camera: &Camera) -> Result<String, String> {
    let folder = Folder::new();
    let target = target(program.name);
    let url = format!("http://{}{target}", camera.addr());
    let relay = program.relayed.map(|address| {
        let go2rtc = Go2rtc::start(&format!("streams:\n  camera: {url}\n"));
        (address(&go2rtc), go2rtc)
    });
    let url = relay.as_ref().map_or(url, |(address, _)| address.clone());
    let place = Place { url, folder: &folder };
    let mut taken = Taken::new(camera, &target);
    let run = Run::start(program, &place)?;
    let next = || match soon(&run.pictures)? {
        Some(picture) => picture?.number(camera).map(Some),
        None => Ok(None),
    };
    taken.fill(next).map_err(|fault| place.complaint(&fault))?;
    taken.judge(program.by_its_clock)
}

#[test]
fn every_program_takes_a_hundred_pictures_in_a_row() {
    let camera = Camera::start(&[]);
    let mut faults = Vec::new();
    let is_there = |program: &&Program| match program.relayed {
        Some(_) => go2rtc::is_there(),
        None => long() || !program.long,
    };
    for program in PROGRAMS.iter().filter(is_there) {
        match camera.unhurried(|| take(program, &camera)) {
            Ok(report) => println!("{}: {report}", program.name),
            Err(fault) => faults.push(format!("{}: {fault}", program.name)),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// An `<img>` of a page, looked at whenever Chromium draws.
#[test]
fn chromium_shows_a_hundred_pictures_in_their_order() {
    let camera = Camera::start(&[]);
    let browser = Browser::start();
    let target = target("chromium");
    let show = || {
        let mut taken = Taken::new(&camera, &target);
        browser.open(&browser::page(&camera, "md/"));
        browser.eval(&format!("const address = '{target}'; {LOOK}"));
        let mut seen: VecDeque<Vec<u8>> = VecDeque::new();
        let next = || {
            if seen.is_empty() {
                let blocks = browser.eval("return window.seen.splice(0)");
                seen = serde_json::from_value(blocks).expect("grey values of pictures");
            }
            seen.pop_front().map(|blocks| number_of_blocks(&blocks)).transpose()
        };
        taken.fill(next)?;
        taken.judge(true)
    };
    println!("chromium: {}", camera.unhurried(show).expect("all in their order"));
}

/// Keeps what is green in the middle of each block of each new picture.
const LOOK: &str = "
window.seen = [];
const picture = new Image(), canvas = document.createElement('canvas');
const paper = canvas.getContext('2d', { willReadFrequently: true });
let last = '';
const look = () => {
  requestAnimationFrame(look);
  const { naturalWidth: width, naturalHeight: height } = picture;
  if (!width) return;
  if (canvas.width != width) [canvas.width, canvas.height] = [width, height];
  paper.drawImage(picture, 0, 0);
  const { data } = paper.getImageData(0, 0, width, height), blocks = [];
  for (let y = height / 8; y < height; y += height / 4)
    for (let x = width / 16; x < width; x += width / 8) blocks.push(data[(y * width + x) * 4 + 1]);
  const bits = blocks.map(value => value > 127).join();
  if (bits != last) window.seen.push(blocks);
  last = bits;
};
picture.src = address;
document.body.append(picture);
look();
";

/// The button in OctoPrint's settings, pressed by its API: the answer must be a picture by its
/// type and its bytes, and each time a new one.
#[test]
fn octoprint_finds_snapshots_good() {
    if !long() {
        return;
    }
    const KEY: &str = "0123456789ABCDEF0123456789ABCDEF";
    let camera = Camera::start(&[]);
    let folder = Folder::new();
    folder.write("base/config.yaml", format!("{OCTOPRINT}api:\n  key: {KEY}\n"));
    let addr = free_port();
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut command = Command::new(installed("PISTREAM_OCTOPRINT"));
    command.args(["serve", "--iknowwhatimdoing", "--host", &host, "--port", &port, "--basedir"]);
    command.arg(folder.path().join("base")).stdout(Stdio::null());
    let octoprint = Started::new(command, &folder.path().join("complaints")).expect("OctoPrint");
    let wish = json!({
        "command": "url", "url": format!("http://{}/snapshot", camera.addr()), "method": "GET",
        "response": "bytes", "timeout": 5, "validSsl": true,
        "content_type_whitelist": ["image/*"], "content_type_guess": true,
    })
    .to_string();
    let press = || {
        let length = wish.len();
        let head = format!(
            "POST /api/util/test HTTP/1.0\r\nX-Api-Key: {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut socket = TcpStream::connect(addr).ok()?;
        socket.write_all(format!("{head}{wish}").as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(answer)
    };
    let mut last = None;
    for _ in 0..10 {
        let answer = until(3 * PATIENCE, press).expect("OctoPrint answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let answer: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(answer["result"], true, "{answer:#}");
        let bytes = answer["response"]["content"].as_str().expect("a picture");
        let number = number_in(&BASE64_STANDARD.decode(bytes).expect("base64"));
        let number = number.expect("one of ours");
        assert!(last < Some(number), "{number} after {last:?}");
        last = Some(number);
    }
    drop(octoprint);
}

/// Nothing that asks for a user, or for another machine.
const OCTOPRINT: &str = "\
server:
  firstRun: false
  onlineCheck:
    enabled: false
  pluginBlacklist:
    enabled: false
plugins:
  _disabled: [announcements, discovery, errortracking, health_check, pluginmanager, softwareupdate, tracking]
";
