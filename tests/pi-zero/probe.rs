//! probe: what is done to pistream inside the emulated Pi, and what of it is measured there.
//!
//! ```text
//! probe start LOG PROGRAM [ARGUMENT]...   start a server, wait until it listens on port 5000
//! probe watch VIEWERS FRAMES TARGET       so many viewers until each has seen so many frames
//! probe count FRAMES TARGET               the same with one, between two calls of `mark`
//! probe idle SECONDS                      nothing, between two calls of `mark`
//! probe copy FILE FOLDER COUNT            photos of one second after the other
//! probe clock SECONDS                     sets the clock, also past 2038, which busybox cannot
//! probe thumbs COUNT                      the thumbnails of so many of these
//! probe get COUNT TARGET                  one answer after the other
//! probe first TARGET                      a stream's first frame, when the camera must be started
//! ```
//!
//! Each prints words of the form `name=value`. A frame that is not whole, a stream that ends and a
//! wait without end are errors.

use std::ffi::c_long;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = "127.0.0.1:5000";
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames before those that count: the stream's beginning costs more.
const WARM_UP: usize = 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["start", log, program, ref rest @ ..] => start(log, program, rest),
        ["watch", viewers, frames, target] => watch(number(viewers), number(frames), target),
        ["count", frames, target] => count(number(frames), target),
        ["idle", seconds] => {
            mark();
            thread::sleep(Duration::from_secs(number(seconds) as u64));
            mark();
            Ok(())
        }
        ["clock", seconds] => set_clock(number(seconds)),
        ["thumbs", count] => thumbs(number(count)),
        ["get", count, target] => get(number(count), target),
        ["first", target] => first(target),
        ["copy", file, folder, count] => copy(file, folder, number(count)),
        _ => Err(io::Error::other("see the head of probe.rs")),
    };
    if let Err(fault) = done {
        println!("probe: {fault}");
        process::exit(1);
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap_or_else(|_| {
        println!("probe: {word} is no number");
        process::exit(2);
    })
}

/// Where count.c begins to count anew: it knows this function's address.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mark() {
    std::hint::black_box(SERVER);
}

fn start(log: &str, program: &str, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(log)?);
    let begin = Instant::now();
    let mut child = command.spawn()?;
    while TcpStream::connect(SERVER).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("{program} ended: {status}")));
        }
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::other("it does not listen"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    println!("pid={} listening_ms={}", child.id(), begin.elapsed().as_millis());
    Ok(())
}

/// What a viewer has of a stream.
struct Viewer {
    stream: BufReader<TcpStream>,
    frame: Vec<u8>,
}

impl Viewer {
    fn open(target: &str) -> io::Result<Viewer> {
        let stream = TcpStream::connect(SERVER)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(&stream, "GET {target} HTTP/1.0\r\n\r\n")?;
        let mut viewer = Viewer { stream: BufReader::new(stream), frame: Vec::new() };
        let status = viewer.line()?;
        if !status.starts_with("HTTP/1.0 200 ") {
            return Err(io::Error::other(status));
        }
        while !viewer.line()?.is_empty() {}
        Ok(viewer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::Error::other("the stream ended")),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Reads the next frame; it must be a whole JPEG by its first and last bytes.
    fn next(&mut self) -> io::Result<()> {
        let mut length = 0;
        loop {
            let line = self.line()?;
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = number(value);
            }
            if line.is_empty() && length > 0 {
                break;
            }
        }
        self.frame.resize(length, 0);
        self.stream.read_exact(&mut self.frame)?;
        match (self.frame.starts_with(&[0xff, 0xd8]), self.frame.ends_with(&[0xff, 0xd9])) {
            (true, true) => Ok(()),
            _ => Err(io::Error::other("a frame that is not whole")),
        }
    }

    /// The number behind `name` in uvc-cam's stamp.
    fn stamped(&self, name: &str) -> Option<u64> {
        let head = &self.frame[..self.frame.len().min(200)];
        let place = head.windows(name.len()).position(|word| word == name.as_bytes())?;
        let digits = head[place + name.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
    }
}

/// The times between frames, and how many of the camera's a viewer has not seen.
fn watch(viewers: usize, frames: usize, target: &str) -> io::Result<()> {
    let begin = Instant::now();
    let watching = |_| {
        let target = target.to_owned();
        thread::spawn(move || watch_alone(frames, &target))
    };
    let all: Vec<_> = (0..viewers).map(watching).collect();
    for viewer in all {
        let seen = viewer.join().map_err(|_| io::Error::other("a viewer's panic"))??;
        println!("{seen} seconds={:.1}", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn watch_alone(frames: usize, target: &str) -> io::Result<String> {
    let mut viewer = Viewer::open(target)?;
    viewer.next()?;
    let (mut gaps, mut bytes, mut missed) = (Vec::new(), 0, 0);
    let (mut last, mut number) = (Instant::now(), viewer.stamped("seq="));
    for _ in 0..frames {
        viewer.next()?;
        gaps.push(last.elapsed().as_millis());
        last = Instant::now();
        bytes += viewer.frame.len();
        // A repeated frame has the number of the one before.
        if let (Some(before), Some(now)) = (number, viewer.stamped("seq=")) {
            missed += now.saturating_sub(before).saturating_sub(1);
        }
        number = viewer.stamped("seq=");
    }
    gaps.sort();
    let at = |part: usize| gaps[(gaps.len() - 1) * part / 100];
    let (median, p99, max) = (at(50), at(99), at(100));
    Ok(format!(
        "frames={frames} bytes={bytes} missed={missed} \
         median_ms={median} p99_ms={p99} max_ms={max}"
    ))
}

fn count(frames: usize, target: &str) -> io::Result<()> {
    let mut viewer = Viewer::open(target)?;
    for _ in 0..WARM_UP {
        viewer.next()?;
    }
    let mut bytes = 0;
    mark();
    for _ in 0..frames {
        viewer.next()?;
        bytes += viewer.frame.len();
    }
    mark();
    println!("frames={frames} frame_bytes={}", bytes / frames);
    Ok(())
}

/// By the system call itself: this C library's seconds end in 2038.
fn set_clock(seconds: usize) -> io::Result<()> {
    const CLOCK_SETTIME64: c_long = 404;
    const CLOCK_REALTIME: c_long = 0;
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    let time = [seconds as i64, 0];
    // SAFETY: the kernel reads two 64-bit integers from `time`, a `struct __kernel_timespec`.
    match unsafe { syscall(CLOCK_SETTIME64, CLOCK_REALTIME, time.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The name of the photo of this second.
fn name(n: usize) -> String {
    let (hours, minutes, seconds) = (n / 3600, n / 60 % 60, n % 60);
    format!("2026-01-02_{hours:02}-{minutes:02}-{seconds:02}.jpg")
}

fn copy(file: &str, folder: &str, count: usize) -> io::Result<()> {
    let bytes = fs::read(file)?;
    for n in 0..count {
        fs::write(format!("{folder}/{}", name(n)), &bytes)?;
    }
    println!("photos={count} photo_bytes={}", bytes.len());
    Ok(())
}

fn thumbs(count: usize) -> io::Result<()> {
    let begin = Instant::now();
    for n in 0..count {
        if !ask(&format!("/thumb/{}", name(n)))?.ends_with(&[0xff, 0xd9]) {
            return Err(io::Error::other(format!("no thumbnail of {}", name(n))));
        }
    }
    println!("thumbs={count} seconds={:.1}", begin.elapsed().as_secs_f64());
    Ok(())
}

fn get(count: usize, target: &str) -> io::Result<()> {
    let begin = Instant::now();
    let mut bytes = 0;
    for _ in 0..count {
        bytes += ask(target)?.len();
    }
    println!("answers={count} bytes={bytes} seconds={:.1}", begin.elapsed().as_secs_f64());
    Ok(())
}

/// A whole answer, with its head.
fn ask(target: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    if !reply.starts_with(b"HTTP/1.0 200 ") {
        let line = reply.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(format!("{target}: {}", String::from_utf8_lossy(line))));
    }
    Ok(reply)
}

/// How long it takes from the request to the frame's last byte, and what of it was before the
/// camera made that frame.
fn first(target: &str) -> io::Result<()> {
    let begin = monotonic();
    let mut viewer = Viewer::open(target)?;
    viewer.next()?;
    let end = monotonic();
    let (Some(number), Some(made)) = (viewer.stamped("seq="), viewer.stamped("ns=")) else {
        return Err(io::Error::other("a frame without the camera's stamp"));
    };
    let ms = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    println!("number={number} made_ms={:.1} seen_ms={:.1}", ms(begin, made), ms(begin, end));
    Ok(())
}

/// Nanoseconds by the clock of the camera's stamps.
fn monotonic() -> u64 {
    const CLOCK_GETTIME64: c_long = 403;
    const CLOCK_MONOTONIC: c_long = 1;
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    let mut time = [0_i64; 2];
    // SAFETY: the kernel writes two 64-bit integers to `time`, a `struct __kernel_timespec`.
    unsafe { syscall(CLOCK_GETTIME64, CLOCK_MONOTONIC, time.as_mut_ptr()) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}
