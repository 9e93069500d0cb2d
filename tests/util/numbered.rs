//! A camera whose pictures carry their number in blocks of black and white, which survive every
//! decoder and every encoder behind it ([`Camera`], [`number`]), and what is asked of a program that
//! looks at them ([`Taken`]).
//!
//! The next picture is given out only when the one before has reached a viewer: however slow the
//! machine is, the server never has to skip one. So a number that is missing was lost by somebody.

use std::io::{PipeWriter, Write};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pistream::jpeg::{Encoder, Layout, Raw};
use pistream::limits::REPEAT_AFTER;

use super::stamp::crc32;
use super::{Chance, PATIENCE, Server, Stream, decode, fed, until};

pub const WIDTH: usize = 320;
pub const HEIGHT: usize = 256; // whole macroblocks, to which some programs round
/// From one picture to the next: 25 a second.
const PERIOD: Duration = Duration::from_millis(40);

/// Pictures that each program must take in a row.
const TAKEN: usize = 100;
/// For a program's start and all its pictures, on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(3 * PATIENCE.as_secs());
/// How old the last of them may be when the program hands it on: more, and it falls behind. What
/// it keeps back for its own reasons, and a busy machine, are less.
const AGE_MAX: Duration = Duration::from_secs(3);

/// Blocks side by side; a row of them is a byte.
const COLUMNS: usize = 8;
/// Two bytes of the number, and the same inverted: a picture that is half another one is found out.
const ROWS: usize = 4;
const BLOCK: (usize, usize) = (WIDTH / COLUMNS, HEIGHT / ROWS);

/// The number in a picture of [`WIDTH`] times [`HEIGHT`] grey pixels.
pub fn number(grey: &[u8]) -> Result<u32, String> {
    if grey.len() != WIDTH * HEIGHT {
        return Err(format!("{} pixels", grey.len()));
    }
    let places = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (column, row)));
    number_of_blocks(&places.map(|(column, row)| mean(grey, column, row)).collect::<Vec<_>>())
}

/// The number in a picture of which there is one grey value for each block.
pub fn number_of_blocks(blocks: &[u8]) -> Result<u32, String> {
    let bits = |row: &[u8]| {
        row.iter().try_fold(0_u8, |byte, block| match block {
            0..96 => Ok(byte << 1),
            160.. => Ok(byte << 1 | 1),
            grey => Err(format!("a block that is neither black nor white: {grey}")),
        })
    };
    let bytes = blocks.chunks(COLUMNS).map(bits).collect::<Result<Vec<_>, _>>()?;
    match bytes[..] {
        [high, low, not_high, not_low] if (high, low) == (!not_high, !not_low) => {
            Ok(u32::from_be_bytes([0, 0, high, low]))
        }
        _ => Err(format!("a picture of two halves: {bytes:02x?}")),
    }
}

/// The number in a JPEG, decoded as strictly as can be.
pub fn number_in(jpeg: &[u8]) -> Result<u32, String> {
    let (width, height, rgb) = decode(jpeg);
    if (width, height) != (WIDTH, HEIGHT) {
        return Err(format!("a picture of {width}x{height}"));
    }
    number(&rgb.iter().skip(1).step_by(3).copied().collect::<Vec<_>>())
}

/// The mean of a block's inner half: at its borders a coder may blur.
fn mean(grey: &[u8], column: usize, row: usize) -> u8 {
    let (width, height) = BLOCK;
    let (left, top) = (column * width + width / 4, row * height + height / 4);
    let lines = (top..top + height / 2).map(|y| &grey[y * WIDTH + left..][..width / 2]);
    let sum: usize = lines.flatten().map(|pixel| usize::from(*pixel)).sum();
    (sum / (width / 2 * (height / 2))) as u8
}

/// Makes the pictures: blocks under noise, so that they weigh about what a camera's do.
struct Painter {
    encoder: Encoder,
    noise: Vec<u8>,
}

impl Painter {
    fn new() -> Painter {
        let mut chance = Chance(11);
        let noise = (0..WIDTH * HEIGHT).map(|_| chance.below(48) as u8).collect();
        Painter { encoder: Encoder::new(80).expect("an encoder"), noise }
    }

    /// In colours, as cameras' pictures are: some programs know no others.
    fn paint(&mut self, number: u32) -> Vec<u8> {
        let [_, _, high, low] = number.to_be_bytes();
        let bytes = [high, low, !high, !low];
        let mut yuyv = Vec::with_capacity(WIDTH * HEIGHT * 2);
        for (at, noise) in self.noise.iter().enumerate() {
            let (column, row) = (at % WIDTH / BLOCK.0, at / WIDTH / BLOCK.1);
            let white = bytes[row] >> (COLUMNS - 1 - column) & 1 == 1;
            yuyv.extend([noise + if white { 200 } else { 8 }, 128]);
        }
        let (width, height, stride) = (WIDTH, HEIGHT, WIDTH * 2);
        let layout = Layout::Yuyv;
        let raw = Raw { layout, width, height, stride, limited: false, bytes: &yuyv };
        let mut jpeg = Vec::new();
        self.encoder.encode(&raw, &mut jpeg).expect("a picture");
        jpeg
    }
}

/// What is remembered of a picture that was given out.
#[derive(Clone, Copy)]
struct Given {
    at: Instant,
    /// Of its bytes.
    checksum: u32,
}

/// The program with such a camera, which runs until this is dropped.
pub struct Camera {
    server: Server,
    /// By number, from 0 on.
    given: Arc<Mutex<Vec<Given>>>,
    ends: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
}

impl Camera {
    #[track_caller]
    pub fn start(args: &[&str]) -> Camera {
        let (server, pipe) = fed(&[&["--fps", "240"], args].concat());
        let given = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let viewer = Stream::open(server.addr(), "/video_feed?feeder");
        let feeder = {
            let (given, ends) = (given.clone(), ends.clone());
            thread::spawn(move || feed(pipe, viewer, &given, &ends))
        };
        let camera = Camera { server, given, ends, feeder: Some(feeder) };
        until(PATIENCE, || camera.count().gt(&0).then_some(())).expect("a picture");
        camera
    }

    fn count(&self) -> u32 {
        self.given.lock().unwrap().len() as u32
    }

    /// The number of the picture that was given out last.
    pub fn newest(&self) -> u32 {
        self.count() - 1
    }

    /// A picture that was given out.
    fn given(&self, number: u32) -> Given {
        self.given.lock().unwrap()[number as usize]
    }

    /// The number of the picture with this checksum.
    pub fn number_of(&self, checksum: u32) -> Option<u32> {
        let given = self.given.lock().unwrap();
        given.iter().position(|given| given.checksum == checksum).map(|at| at as u32)
    }

    /// Frames that passed viewers by because they, or the way to them, were busy.
    fn late(&self) -> String {
        let metrics = self.get("/metrics").expect(200).text();
        let name = "pistream_frames_missed_total{reason=\"late\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(name)).expect("its counter").to_owned()
    }

    /// What an attempt brings in which the server let no frame pass a viewer by: a machine that
    /// has no time for a viewer gets three.
    pub fn unhurried<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        for _ in 0..3 {
            let late = self.late();
            let result = attempt();
            if self.late() == late {
                return result;
            }
        }
        Err("the server has left out pictures, three times".to_owned())
    }

    /// Whether the machine was so slow that a picture may have been sent twice, as promised after
    /// half a second without a new one.
    pub fn paused_after(&self, number: u32) -> bool {
        let given = self.given.lock().unwrap();
        let next = given.get(number as usize + 1).map_or_else(Instant::now, |next| next.at);
        next - given[number as usize].at > REPEAT_AFTER * 3 / 4
    }
}

impl Deref for Camera {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.feeder.take().is_some_and(|feeder| feeder.join().is_ok());
        assert!(ended || thread::panicking(), "the camera has failed");
    }
}

/// Give out one picture after the other, each when the one before has been seen and its time has
/// come.
fn feed(mut pipe: PipeWriter, mut viewer: Stream, given: &Mutex<Vec<Given>>, ends: &AtomicBool) {
    let mut painter = Painter::new();
    let mut due = Instant::now();
    for number in 0..=u32::from(u16::MAX) {
        let jpeg = painter.paint(number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let at = Instant::now();
        given.lock().unwrap().push(Given { at, checksum: crc32(&jpeg) });
        pipe.write_all(&jpeg).expect("the program reads");
        while viewer.frame().jpeg != jpeg {}
        due = at + PERIOD;
    }
}

/// The pictures that a program takes.
pub struct Taken<'a> {
    camera: &'a Camera,
    /// The end of a line of the log that tells of a request of the program, …
    line: String,
    /// … and where the log begins that is looked at.
    logged: usize,
    requests: usize,
    /// The number of the newest one when the program was started, …
    before: u32,
    /// … and when its last request was seen in the log.
    asked: u32,
    /// Their numbers, and when they were handed on.
    pictures: Vec<(u32, Instant)>,
    /// How many of them are not the same as the one before.
    different: usize,
}

impl Taken<'_> {
    /// To be called before the program starts, which will ask for `target`.
    pub fn new<'a>(camera: &'a Camera, target: &str) -> Taken<'a> {
        let newest = camera.newest();
        Taken {
            camera,
            line: format!("GET {target} 200"),
            logged: camera.log().len(),
            requests: 0,
            before: newest,
            asked: newest,
            pictures: Vec::new(),
            different: 0,
        }
    }

    /// Take what comes until it is enough. `next` has the next number, or waits a moment for it.
    pub fn fill(
        &mut self,
        mut next: impl FnMut() -> Result<Option<u32>, String>,
    ) -> Result<(), String> {
        let end = Instant::now() + TIME_MAX;
        while self.different < TAKEN {
            self.see_requests();
            match next()? {
                Some(number) => self.push(number),
                None if Instant::now() < end => {}
                None => return Err(format!("only {} pictures in {TIME_MAX:?}", self.different)),
            }
        }
        Ok(())
    }

    fn see_requests(&mut self) {
        let requests = self.camera.log()[self.logged..].matches(&self.line).count();
        if requests > self.requests {
            (self.requests, self.asked) = (requests, self.camera.newest());
        }
    }

    fn push(&mut self, number: u32) {
        let same = self.pictures.last().is_some_and(|(last, _)| *last == number);
        self.different += usize::from(!same);
        self.pictures.push((number, Instant::now()));
    }

    /// Whether they are as promised; a line for people.
    pub fn judge(&self, by_its_clock: bool) -> Result<String, String> {
        let Taken { camera, before, asked, requests, .. } = *self;
        let (first, _) = self.pictures[0];
        // That one was given out, but may not have arrived.
        if first + 1 < before {
            return Err(format!(
                "picture {first} is older than the program, which began at {before}"
            ));
        }
        if first > asked + 1 && !by_its_clock {
            return Err(format!("the request came at picture {asked}, its first was {first}"));
        }
        let (mut twice, mut missed) = (0, 0);
        for pair in self.pictures.windows(2) {
            let (last, next) = (pair[0].0, pair[1].0);
            match next.checked_sub(last) {
                Some(1) => {}
                Some(0) if camera.paused_after(last) => {}
                Some(0) if by_its_clock => twice += 1,
                Some(step) if by_its_clock => missed += step - 1,
                _ => return Err(format!("picture {next} came after {last}")),
            }
        }
        let (last, at) = self.pictures[self.pictures.len() - 1];
        let age = at.duration_since(camera.given(last).at).as_millis();
        if age > AGE_MAX.as_millis() {
            return Err(format!("picture {last} is {age} ms old"));
        }
        Ok(format!(
            "asked {requests} times, last at picture {asked}; took {first} to {last}, the last \
             {age} ms old; itself left out {missed}, took {twice} twice"
        ))
    }
}

/// What a channel brings soon: none yet, or an error when nothing will come any more.
pub fn soon<T>(channel: &Receiver<T>) -> Result<Option<T>, String> {
    match channel.recv_timeout(Duration::from_millis(5)) {
        Ok(found) => Ok(Some(found)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err("it has ended".to_owned()),
    }
}
