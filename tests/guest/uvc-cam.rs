//! uvc-cam: a USB camera made of software, for the kernel's real `uvcvideo` driver.
//!
//! It plugs itself through a socket pair into the kernel's virtual USB host controller (`vhci-hcd`,
//! the client side of USB/IP) and answers there as a UVC 1.0 device does: descriptors, PROBE and
//! COMMIT, controls of its lens and of its picture, MJPEG and YUYV frames on an isochronous endpoint,
//! as most cameras, or on a bulk one. `uvcvideo` makes an ordinary /dev/videoN of it, and a second node
//! for metadata. Needs root and both modules; the standard library is enough to compile it.
//!
//! ```text
//! uvc-cam [--port N] [--name TEXT] [--formats MJPG,YUYV] [--sizes 640x480,1280x720]
//!         [--fps 30,15,5] [--bulk] [--unplugged] [--picture FILE]
//! ```
//!
//! `--picture` shows that JPEG, whatever size was agreed on, instead of a drawing.
//!
//! Every JPEG carries a comment, its stamp: `uvc-cam seq=S ns=T len=L crc=C`, that is the frame's
//! number, the CLOCK_MONOTONIC time when it was made, its length, and the CRC-32 of all that
//! follows the comment. So a frame proves by itself that it came through whole, once, in order.
//!
//! Commands come on standard input, one a line. Each is answered with `ok S` on standard output,
//! where S is the number of the first frame made after it, or with `error: REASON`. The camera
//! goes when its standard input ends.
//!
//! ```text
//! unplug | plug       pull the cable, put it back in
//! freeze | resume     the device stays, frames stop coming
//! fps N               send N frames a second, whatever was agreed on
//! pad N               make every JPEG N bytes larger, with segments that decoders skip
//! nodht on|off        leave out the Huffman tables, as many real cameras do
//! junk N              the next N JPEGs are followed by 64 zero bytes
//! stale N             the next N JPEGs are followed by the second half of another one
//! truncate N          the next N frames lose their second half
//! garbage N           the next N frames are random bytes
//! empty N             the next N frames have no bytes at all
//! error N             the next N frames carry the error bit of UVC's payload header
//! lost N              the next N frames lose a packet on the wire (isochronous only)
//! stall               the endpoint stalls before the next frame (bulk only)
//! refuse N            the next N COMMITs are refused, so that STREAMON fails
//! mute WxH|off        the stream starts in that size, but no frames come
//! dark MS             for so long after a start, JPEGs are black, as those of a cold camera
//! starts              answered, in place of S, with how often a stream has started
//! control E S         answered, in place of S, with the value of control S (UVC's selector) of
//!                     entity E: 1, the lens; 2, the picture
//! veto N CODE         the next N changes of a control are refused with UVC's error CODE
//! mute-control E S    that control stalls whatever is asked of it; unplugging mends it
//! slow MS             every request for a control takes so long
//! forgetful on|off    controls are as by default after each start of a stream
//! ```
//!
//! Unplugged, it forgets what its controls were set to. While the exposure or the focus is automatic,
//! its time or its distance cannot be set (UVC's error 2, "wrong state").

use std::collections::VecDeque;
use std::ffi::c_long;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// The transfer size that `uvcvideo` is told for a bulk endpoint, in bytes.
const BULK_PAYLOAD: u32 = 16 * 1024;
/// One isochronous packet: 3 times 1024 bytes each microframe, 24 MB/s.
const ISO_PAYLOAD: u32 = 3 * 1024;
/// UVC counts frame intervals in units of 100 ns.
const UNITS_PER_SECOND: u32 = 10_000_000;
/// How long a frame waits for a transfer of the host's before it is given up.
const SEND_TIME_MAX: Duration = Duration::from_millis(500);
/// After an unplug the kernel keeps the port busy for a moment.
const PLUG_TIME_MAX: Duration = Duration::from_secs(5);

/// Errors as USB/IP carries them: Linux's numbers, negative.
const EXDEV: i32 = -18;
const EPIPE: i32 = -32;
const ECONNRESET: i32 = -104;

fn main() {
    let model = Model::from_arguments().unwrap_or_else(|fault| {
        eprintln!("uvc-cam: {fault}; see the head of uvc-cam.rs");
        process::exit(2);
    });
    let camera = Arc::new(Camera::new(model));
    if !camera.model.unplugged
        && let Err(fault) = camera.plug()
    {
        eprintln!("uvc-cam: plug into vhci-hcd: {fault} (is the module loaded?)");
        process::exit(1);
    }
    let streaming = camera.clone();
    thread::spawn(move || streaming.stream());
    for line in io::stdin().lines().map_while(Result::ok) {
        match camera.command(&line) {
            Ok(number) => println!("ok {number}"),
            Err(reason) => println!("error: {reason}"),
        }
    }
}

/// What kind of camera this is; never changes.
struct Model {
    port: u32,
    name: String,
    formats: Vec<Format>,
    sizes: Vec<(u16, u16)>,
    rates: Vec<u32>,
    bulk: bool,
    unplugged: bool,
    /// A JPEG without its first marker.
    picture: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Mjpg,
    Yuyv,
}

/// The whole device: two threads and the kernel's questions meet in its state.
struct Camera {
    model: Model,
    state: Mutex<State>,
    /// Told when the host has queued a transfer or has stopped the stream.
    changed: Condvar,
}

struct State {
    /// Our end of the USB cable; none while unplugged.
    cable: Option<UnixStream>,
    /// How often one was plugged in: which one it is.
    plugs: u32,
    /// What the host has queued on the streaming endpoint.
    transfers: VecDeque<Transfer>,
    /// The streaming parameters under negotiation (UVC 1.0, table 4-47).
    probe: [u8; 26],
    /// What was agreed on; none while the stream is stopped.
    stream: Option<Agreed>,
    knobs: Vec<Knob>,
    /// What went wrong last with a control (UVC 1.0, table 4-3).
    error_code: u8,
    faults: Faults,
    /// The next frame's number.
    number: u32,
    /// COMMITs that were not refused.
    starts: u32,
}

struct Transfer {
    sequence: u32,
    /// Isochronous: each packet's offset and length in bytes.
    packets: Vec<(u32, u32)>,
}

#[derive(Clone, Copy)]
struct Agreed {
    format: Format,
    width: u16,
    height: u16,
    interval: Duration,
    since: Instant,
}

/// What goes wrong; numbers count down frame by frame.
#[derive(Default)]
struct Faults {
    frozen: bool,
    rate: Option<f64>,
    pad: usize,
    tables_missing: bool,
    junk: u32,
    stale: u32,
    truncate: u32,
    garbage: u32,
    empty: u32,
    error: u32,
    lost: u32,
    stall: bool,
    refuse: u32,
    mute: Option<(u16, u16)>,
    dark: Duration,
    /// Changes that are refused, and why.
    veto: (u32, u8),
    slow: Duration,
    forgetful: bool,
}

impl Model {
    fn from_arguments() -> Result<Model, String> {
        let mut model = Model {
            port: 0,
            name: "uvc-cam".to_owned(),
            formats: vec![Format::Mjpg, Format::Yuyv],
            sizes: vec![(640, 480), (1280, 720)],
            rates: vec![30, 15, 5],
            bulk: false,
            unplugged: false,
            picture: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(option) = arguments.next() {
            let flag = match option.as_str() {
                "--bulk" => &mut model.bulk,
                "--unplugged" => &mut model.unplugged,
                _ => {
                    let understood = arguments.next().and_then(|value| model.set(&option, &value));
                    understood.ok_or_else(|| format!("bad or incomplete option {option}"))?;
                    continue;
                }
            };
            *flag = true;
        }
        Ok(model)
    }

    fn set(&mut self, option: &str, value: &str) -> Option<()> {
        match option {
            "--port" => self.port = value.parse().ok()?,
            "--name" => self.name = value.to_owned(),
            "--formats" => self.formats = value.split(',').map(format).collect::<Option<_>>()?,
            "--sizes" => self.sizes = value.split(',').map(size).collect::<Option<_>>()?,
            "--picture" => {
                let jpeg = fs::read(value).ok()?;
                self.picture = Some(jpeg.strip_prefix(&[0xff, 0xd8])?.to_vec());
            }
            "--fps" => self.rates = value.split(',').map(rate).collect::<Option<_>>()?,
            _ => return None,
        }
        Some(())
    }

    fn payload_size(&self) -> u32 {
        if self.bulk { BULK_PAYLOAD } else { ISO_PAYLOAD }
    }

    /// Clamps what the host asked for to what the descriptors offer.
    fn negotiate(&self, probe: &mut [u8; 26]) {
        probe[2] = probe[2].clamp(1, self.formats.len() as u8);
        probe[3] = probe[3].clamp(1, self.sizes.len() as u8);
        let wanted = u32_le(&probe[4..]);
        let interval = self
            .rates
            .iter()
            .map(|rate| UNITS_PER_SECOND / rate)
            .min_by_key(|interval| interval.abs_diff(wanted))
            .expect("a rate is always given");
        let (width, height) = self.sizes[probe[3] as usize - 1];
        probe[4..8].copy_from_slice(&interval.to_le_bytes());
        probe[18..22].copy_from_slice(&frame_size(width, height).to_le_bytes());
        probe[22..26].copy_from_slice(&self.payload_size().to_le_bytes());
    }

    /// What a COMMIT of these parameters agrees on.
    fn agreed(&self, probe: &[u8; 26]) -> Agreed {
        let (width, height) = self.sizes[probe[3] as usize - 1];
        Agreed {
            format: self.formats[probe[2] as usize - 1],
            width,
            height,
            interval: Duration::from_nanos(u64::from(u32_le(&probe[4..])) * 100),
            since: Instant::now(),
        }
    }
}

fn format(name: &str) -> Option<Format> {
    match name {
        "MJPG" => Some(Format::Mjpg),
        "YUYV" => Some(Format::Yuyv),
        _ => None,
    }
}

fn size(text: &str) -> Option<(u16, u16)> {
    let (width, height) = text.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

fn rate(text: &str) -> Option<u32> {
    text.parse().ok().filter(|rate| *rate > 0)
}

/// The largest frame, in bytes; a JPEG has no more than the raw picture.
fn frame_size(width: u16, height: u16) -> u32 {
    u32::from(width) * u32::from(height) * 2
}

// ---------------------------------------------------------------- commands and the cable

impl Camera {
    fn new(model: Model) -> Camera {
        let mut probe = [0; 26];
        model.negotiate(&mut probe);
        let state = State {
            cable: None,
            plugs: 0,
            transfers: VecDeque::new(),
            probe,
            stream: None,
            knobs: knobs(),
            error_code: 0,
            faults: Faults::default(),
            number: 0,
            starts: 0,
        };
        Camera { model, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the state locked")
    }

    /// Carries out a command; tells the number of the first frame that is made after it, or what
    /// it asks for.
    fn command(self: &Arc<Camera>, line: &str) -> Result<u32, String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let argument = words.next().unwrap_or_default();
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        let (first, second) = (number(Some(argument)), number(words.next()));
        match verb {
            "plug" => self.plug().map_err(|fault| format!("plug: {fault}"))?,
            "unplug" => self.unplug(),
            "starts" => return Ok(self.lock().starts),
            "control" | "mute-control" => {
                let state = &mut *self.lock();
                let knob = state.knobs.iter_mut().find(|k| (first, second) == k.numbers());
                let knob = knob.ok_or_else(|| format!("no such control: {line}"))?;
                knob.mute |= verb == "mute-control";
                return Ok(knob.current as u32);
            }
            "veto" => {
                let (Some(count), Some(code)) = (first, second) else {
                    return Err(format!("not understood: {line}"));
                };
                self.lock().faults.veto = (count.into(), code);
            }
            _ => {
                let state = &mut *self.lock();
                self.spoil(&mut state.faults, verb, argument)
                    .ok_or_else(|| format!("not understood: {line}"))?;
                return Ok(state.number);
            }
        }
        Ok(self.lock().number)
    }

    fn spoil(&self, faults: &mut Faults, verb: &str, argument: &str) -> Option<()> {
        let count = || argument.parse().ok();
        match verb {
            "freeze" => faults.frozen = true,
            "resume" => faults.frozen = false,
            "fps" => faults.rate = Some(argument.parse().ok().filter(|rate| *rate > 0.0)?),
            "pad" => faults.pad = argument.parse().ok()?,
            "nodht" => faults.tables_missing = argument == "on",
            "junk" => faults.junk = count()?,
            "stale" => faults.stale = count()?,
            "truncate" => faults.truncate = count()?,
            "garbage" => faults.garbage = count()?,
            "empty" => faults.empty = count()?,
            "error" => faults.error = count()?,
            "lost" if !self.model.bulk => faults.lost = count()?,
            "stall" if self.model.bulk => faults.stall = true,
            "refuse" => faults.refuse = count()?,
            "mute" if argument == "off" => faults.mute = None,
            "mute" => faults.mute = Some(size(argument)?),
            "dark" => faults.dark = Duration::from_millis(argument.parse().ok()?),
            "slow" => faults.slow = Duration::from_millis(argument.parse().ok()?),
            "forgetful" => faults.forgetful = argument == "on",
            _ => return None,
        }
        Some(())
    }

    fn plug(self: &Arc<Camera>) -> io::Result<()> {
        if self.lock().cable.is_some() {
            return Ok(());
        }
        let (ours, kernels) = UnixStream::pair()?;
        let (port, high_speed) = (self.model.port, 3);
        let device = 0x10000 + port;
        let line = format!("{port} {} {device} {high_speed}", kernels.as_raw_fd());
        let started = Instant::now();
        while let Err(fault) = fs::write("/sys/devices/platform/vhci_hcd.0/attach", &line) {
            if started.elapsed() > PLUG_TIME_MAX {
                return Err(fault);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut state = self.lock();
        (state.cable, state.knobs) = (Some(ours.try_clone()?), knobs());
        state.plugs += 1;
        let plug = state.plugs;
        self.stop(&mut state); // what an old cable has left
        drop(state);
        let camera = self.clone();
        thread::spawn(move || {
            // Ends with an error in any case: that of the cable when it is pulled.
            let _ = camera.serve(ours, plug);
            if let Ok(mut state) = camera.lock_at(plug) {
                state.cable = None;
                camera.stop(&mut state);
            }
        });
        Ok(())
    }

    /// The state, for what comes over the cable of that number; an error if a newer one is in.
    fn lock_at(&self, plug: u32) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.plugs == plug { Ok(state) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    fn stop(&self, state: &mut State) {
        state.stream = None;
        state.transfers.clear();
        self.changed.notify_all();
    }

    fn unplug(&self) {
        let cable = self.lock().cable.take();
        if let Some(cable) = cable {
            // Fails only when the kernel was faster.
            let _ = cable.shutdown(Shutdown::Both);
        }
    }

    // ------------------------------------------------------------ USB/IP

    /// Answers the host until the cable is pulled.
    fn serve(&self, mut cable: UnixStream, plug: u32) -> io::Result<()> {
        const UNLINK: u32 = 2;
        loop {
            let mut head = [0; 48];
            cable.read_exact(&mut head)?;
            let field = |at: usize| u32_be(&head[at..]);
            let (kind, sequence, inward, endpoint) =
                (field(0), field(4), field(12) == 1, field(16));
            if kind == UNLINK {
                let victim = field(20);
                let mut state = self.lock_at(plug)?;
                let before = state.transfers.len();
                state.transfers.retain(|transfer| transfer.sequence != victim);
                let found = state.transfers.len() < before;
                let status = if found { ECONNRESET } else { 0 };
                reply(&cable, Reply { kind: Reply::UNLINK, sequence, status, ..Reply::EMPTY })?;
                continue;
            }
            let length = field(24) as usize;
            let mut data = vec![0; if inward { 0 } else { length }];
            cable.read_exact(&mut data)?;
            let isochronous = endpoint != 0 && !self.model.bulk;
            let mut packets = vec![0; if isochronous { field(32) as usize * 16 } else { 0 }];
            cable.read_exact(&mut packets)?;
            let mut state = self.lock_at(plug)?;
            if endpoint != 0 {
                let packets = packets.chunks(16).map(|p| (u32_be(p), u32_be(&p[4..]))).collect();
                state.transfers.push_back(Transfer { sequence, packets });
                self.changed.notify_all();
                continue;
            }
            let setup: &[u8; 8] = head[40..].try_into().expect("a setup packet has 8 bytes");
            if matches!(setup[0], 0x21 | 0xa1) && setup[4] == 0 {
                let slow = state.faults.slow;
                drop(state);
                thread::sleep(slow);
                state = self.lock_at(plug)?;
            }
            let answer = control(&self.model, &mut state, setup, &data);
            self.changed.notify_all();
            let status = if answer.is_some() { 0 } else { EPIPE };
            let mut answer = answer.unwrap_or_default();
            answer.truncate(length);
            let moved = if inward || status != 0 { answer.len() } else { length };
            let payload = &answer;
            reply(&cable, Reply { sequence, status, length: moved, payload, ..Reply::EMPTY })?;
        }
    }

    // ------------------------------------------------------------ the stream

    /// Makes frame after frame while a stream is agreed on; never returns.
    fn stream(&self) {
        let mut toggle = 0;
        let mut due = Instant::now();
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut state = self.lock();
            let Some(agreed) = state.stream.filter(|agreed| state.faults.let_pass(agreed)) else {
                due = Instant::now() + Duration::from_millis(5);
                continue;
            };
            let number = state.number;
            state.number += 1;
            let shot = Shot::take(&mut state.faults, &agreed);
            drop(state);

            let interval = shot.rate.map_or(agreed.interval, |r| Duration::from_secs_f64(1.0 / r));
            // One that is late does not try to catch up.
            due = (due + interval).max(Instant::now() + interval / 2);
            if shot.stall {
                self.send(&agreed, &[vec![]], EPIPE);
            }
            let payloads = self.payloads(&agreed, number, toggle, &shot);
            let mut rest = &payloads[..];
            while !rest.is_empty() {
                match self.send(&agreed, rest, 0) {
                    0 => break,
                    sent => rest = &rest[sent..],
                }
            }
            toggle ^= 1;
        }
    }

    /// One frame as payloads: a header of two bytes and a piece of the picture each (UVC 1.0,
    /// 2.4.3.3). An empty one is a packet lost.
    fn payloads(&self, agreed: &Agreed, number: u32, toggle: u8, shot: &Shot) -> Vec<Vec<u8>> {
        const END_OF_FRAME: u8 = 0x02;
        const ERROR: u8 = 0x40;
        const END_OF_HEADER: u8 = 0x80;
        let picture = shot.picture(agreed, number, self.model.picture.as_deref());
        let room = self.model.payload_size() as usize - 2;
        let flags = END_OF_HEADER | toggle | if shot.error { ERROR } else { 0 };
        let mut payloads: Vec<Vec<u8>> =
            picture.chunks(room).map(|piece| [&[2, flags], piece].concat()).collect();
        if payloads.is_empty() {
            payloads.push(vec![2, flags]);
        }
        let (middle, last) = (payloads.len() / 2, payloads.len() - 1);
        payloads[last][1] |= END_OF_FRAME;
        if shot.lost {
            payloads[middle].clear();
        }
        payloads
    }

    /// Puts payloads into the next transfer: one into a bulk one, one into each packet of an
    /// isochronous one. Tells how many went; 0 when no transfer came, or the stream that they were
    /// made for is over.
    fn send(&self, agreed: &Agreed, payloads: &[Vec<u8>], status: i32) -> usize {
        let runs = |state: &State| state.stream.is_some_and(|now| now.since == agreed.since);
        let none_yet = |state: &mut State| state.transfers.is_empty() && runs(state);
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), SEND_TIME_MAX, none_yet)
            .expect("no thread panics with the state locked");
        if !runs(&state) {
            return 0;
        }
        let Some(Transfer { sequence, packets }) = state.transfers.pop_front() else { return 0 };
        let sent = payloads.len().min(packets.len().max(1));
        let mut data = payloads[..sent].concat();
        let length = data.len();
        for (index, (offset, room)) in packets.iter().enumerate() {
            let filled = payloads.get(index).map_or(0, Vec::len);
            let lost = index < sent && filled == 0;
            let status = if lost { EXDEV as u32 } else { 0 };
            for field in [*offset, *room, filled as u32, status] {
                data.extend(field.to_be_bytes());
            }
        }
        let Some(cable) = &state.cable else { return 0 };
        let (packets, payload) = (packets.len(), &data);
        let message = Reply { sequence, status, length, packets, payload, ..Reply::EMPTY };
        if reply(cable, message).is_ok() { sent } else { 0 }
    }
}

/// A message to the host. The kernel calls a transfer an URB.
struct Reply<'a> {
    kind: u32,
    sequence: u32,
    status: i32,
    length: usize,
    packets: usize,
    payload: &'a [u8],
}

impl Reply<'_> {
    const SUBMIT: u32 = 3;
    const UNLINK: u32 = 4;
    const EMPTY: Reply<'static> =
        Reply { kind: Reply::SUBMIT, sequence: 0, status: 0, length: 0, packets: 0, payload: &[] };
}

fn reply(mut cable: &UnixStream, message: Reply) -> io::Result<()> {
    let Reply { kind, sequence, status, length, packets, payload } = message;
    let mut bytes = Vec::with_capacity(48 + payload.len());
    for field in [kind, sequence, 0, 0, 0, status as u32, length as u32, 0, packets as u32] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.resize(48, 0);
    bytes.extend(payload);
    cable.write_all(&bytes)
}

// ---------------------------------------------------------------- requests on endpoint 0

/// Answers a request: bytes for one that reads, none for one that writes; `None` is a stall.
fn control(model: &Model, state: &mut State, setup: &[u8; 8], data: &[u8]) -> Option<Vec<u8>> {
    let [kind, request, value_low, value_high, index_low, index_high, ..] = *setup;
    let (video_control, video_streaming) = (index_low == 0, index_low == 1);
    match (kind, request) {
        (0x80, 6) => descriptor(model, value_high, value_low),
        (0x80..=0x82, 0) => Some(vec![0, 0]), // GET_STATUS
        (0x80, 8) => Some(vec![1]),           // GET_CONFIGURATION
        (0x81, 10) => Some(vec![0]),          // GET_INTERFACE
        // CLEAR_FEATURE(HALT) and SET_INTERFACE(alternate 0): how uvcvideo stops a bulk and an
        // isochronous stream.
        (0x02, 1) | (0x01, 11) if value_low == 0 => {
            state.stream = None;
            Some(vec![])
        }
        (0x00..=0x02, 1 | 3 | 9 | 11) => Some(vec![]),
        (0x21 | 0xa1, _) if video_streaming && matches!(value_high, 1 | 2) => {
            let commit = value_high == 2;
            streaming_parameters(model, state, request, commit, data)
        }
        (0x21 | 0xa1, _) if video_control && index_high != 0 => {
            let outcome = knob(state, request, (index_high, value_high), data);
            outcome.map_err(|code| state.error_code = code).ok()
        }
        (0xa1, 0x81) if video_control && value_high == 2 => Some(vec![state.error_code]),
        _ => None,
    }
}

/// PROBE and COMMIT (UVC 1.0, 4.3.1.1).
fn streaming_parameters(
    model: &Model,
    state: &mut State,
    request: u8,
    commit: bool,
    data: &[u8],
) -> Option<Vec<u8>> {
    match request {
        SET_CUR => {
            let mut probe = [0; 26];
            let length = data.len().min(probe.len());
            probe[..length].copy_from_slice(&data[..length]);
            model.negotiate(&mut probe);
            state.probe = probe;
            if commit {
                if countdown(&mut state.faults.refuse) {
                    return None;
                }
                state.stream = Some(model.agreed(&probe));
                state.starts += 1;
                if state.faults.forgetful {
                    state.knobs = knobs();
                }
            }
            Some(vec![])
        }
        GET_CUR | GET_MIN | GET_MAX | GET_RES | GET_DEF => Some(state.probe.to_vec()),
        GET_LEN => Some(vec![26, 0]),
        GET_INFO => Some(vec![3]),
        _ => None,
    }
}

/// A control: the entity and the selector that name it, its bytes on the wire, what it takes.
struct Knob {
    entity: u8,
    selector: u8,
    length: usize,
    min: i32,
    max: i32,
    step: i32,
    default: i32,
    current: i32,
    mute: bool,
}

/// The lens (UVC 1.0, 4.2.2.1) and the picture (4.2.2.3).
const LENS: u8 = 1;
const PICTURE: u8 = 2;
/// Whether the exposure is automatic: 1, by hand; 8, automatic. Its step is the modes that it has.
const EXPOSURE_MODE: (u8, u8) = (LENS, 2);
const EXPOSURE_TIME: (u8, u8) = (LENS, 4);
const FOCUS: (u8, u8) = (LENS, 6);
const FOCUS_AUTO: (u8, u8) = (LENS, 8);

/// All controls, as by default.
fn knobs() -> Vec<Knob> {
    let knob = |(entity, selector), length, min, max, step, default| {
        let (current, mute) = (default, false);
        Knob { entity, selector, length, min, max, step, default, current, mute }
    };
    vec![
        knob((PICTURE, 2), 2, -64, 64, 1, 0), // brightness
        knob((PICTURE, 3), 2, 0, 100, 1, 50), // contrast
        knob((PICTURE, 5), 1, 0, 2, 1, 1),    // power line frequency
        knob(EXPOSURE_MODE, 1, 1, 8, 9, 8),
        knob(EXPOSURE_TIME, 4, 3, 2047, 1, 250),
        knob(FOCUS, 2, 0, 250, 5, 0),
        knob(FOCUS_AUTO, 1, 0, 1, 1, 1),
    ]
}

impl Knob {
    fn numbers(&self) -> (Option<u8>, Option<u8>) {
        (Some(self.entity), Some(self.selector))
    }

    fn bytes(&self, value: i32) -> Vec<u8> {
        value.to_le_bytes()[..self.length].to_vec()
    }

    fn value(&self, data: &[u8]) -> Option<i32> {
        let bytes = data.get(..self.length)?;
        Some(match *bytes {
            [byte] => byte.into(),
            [low, high] => i16::from_le_bytes([low, high]).into(),
            _ => i32::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    fn takes(&self, value: i32) -> bool {
        match (self.entity, self.selector) {
            EXPOSURE_MODE => value == 1 || value == 8,
            _ => (self.min..=self.max).contains(&value),
        }
    }
}

/// A request for a control; `Err` is UVC's code of the error, and a stall.
fn knob(state: &mut State, request: u8, named: (u8, u8), data: &[u8]) -> Result<Vec<u8>, u8> {
    const WRONG_STATE: u8 = 2;
    const OUT_OF_RANGE: u8 = 4;
    const INVALID_CONTROL: u8 = 6;
    let is_set = |named: (u8, u8), to: i32| {
        let of = |knob: &&Knob| (knob.entity, knob.selector) == named;
        state.knobs.iter().find(of).is_some_and(|knob| knob.current == to)
    };
    let automatic = (named == EXPOSURE_TIME && is_set(EXPOSURE_MODE, 8))
        || (named == FOCUS && is_set(FOCUS_AUTO, 1));
    let of = |knob: &&mut Knob| (knob.entity, knob.selector) == named && !knob.mute;
    let knob = state.knobs.iter_mut().find(of).ok_or(INVALID_CONTROL)?;
    let (left, code) = &mut state.faults.veto;
    match request {
        SET_CUR if countdown(left) => Err(*code),
        SET_CUR if automatic => Err(WRONG_STATE),
        SET_CUR => {
            let wanted = knob.value(data).filter(|value| knob.takes(*value));
            knob.current = wanted.ok_or(OUT_OF_RANGE)?;
            Ok(vec![])
        }
        GET_CUR => Ok(knob.bytes(knob.current)),
        GET_MIN => Ok(knob.bytes(knob.min)),
        GET_MAX => Ok(knob.bytes(knob.max)),
        GET_RES => Ok(knob.bytes(knob.step)),
        GET_LEN => Ok(vec![knob.length as u8, 0]),
        // Can be read and written.
        GET_INFO => Ok(vec![3]),
        GET_DEF => Ok(knob.bytes(knob.default)),
        _ => Err(INVALID_CONTROL),
    }
}

const SET_CUR: u8 = 0x01;
const GET_CUR: u8 = 0x81;
const GET_MIN: u8 = 0x82;
const GET_MAX: u8 = 0x83;
const GET_RES: u8 = 0x84;
const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const GET_DEF: u8 = 0x87;

// ---------------------------------------------------------------- descriptors

fn descriptor(model: &Model, kind: u8, index: u8) -> Option<Vec<u8>> {
    match (kind, index) {
        (1, _) => Some(vec![18, 1, 0, 2, 0xef, 2, 1, 64, 0x6b, 0x1d, 2, 1, 0, 1, 1, 2, 3, 1]),
        (2, _) => Some(configuration(model)),
        (3, 0) => Some(vec![4, 3, 9, 4]), // the language: English
        (3, 1) => Some(text("pistream")),
        (3, 2) => Some(text(&model.name)),
        (3, _) => Some(text(&format!("serial{}", model.port))),
        _ => None,
    }
}

fn text(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&[2 + units.len() as u8, 3], &units[..]].concat()
}

/// The configuration with its two interfaces (USB 2.0, 9.6; UVC 1.0, 3.5 to 3.9).
fn configuration(model: &Model) -> Vec<u8> {
    let control = control_interface();
    let streaming = streaming_interface(model);
    let mut all = vec![8, 11, 0, 2, 14, 3, 0, 0]; // both belong to one video function
    all.extend([9, 4, 0, 0, 0, 14, 1, 0, 0]); // interface 0: video control
    all.extend(control);
    all.extend([9, 4, 1, 0, u8::from(model.bulk), 14, 2, 0, 0]); // interface 1: video streaming
    all.extend(streaming);
    if model.bulk {
        all.extend([7, 5, 0x81, 2, 0, 2, 0]); // bulk, to the host, 512 bytes
    } else {
        all.extend([9, 4, 1, 1, 1, 14, 2, 0, 0]); // alternate setting 1:
        all.extend([7, 5, 0x81, 5, 0, 0x14, 1]); // isochronous, 3 x 1024 bytes a microframe
    }
    let mut out = vec![9, 2];
    out.extend((9 + all.len() as u16).to_le_bytes());
    out.extend([2, 1, 0, 0x80, 250]);
    out.extend(all);
    out
}

fn control_interface() -> Vec<u8> {
    let mut units = vec![];
    // Terminal 1, the sensor with its lens; unit 2, the picture; terminal 3, the streaming
    // interface. Bits tell which controls there are.
    units.extend([18, 0x24, 2, LENS, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x2a, 0, 2]);
    units.extend([11, 0x24, 5, PICTURE, 1, 0, 0, 2, 3, 4, 0]);
    units.extend([9, 0x24, 3, 3, 1, 1, 0, 2, 0]);
    let mut out = vec![13, 0x24, 1, 0x00, 0x01]; // version 1.00
    out.extend((13 + units.len() as u16).to_le_bytes());
    out.extend(48_000_000u32.to_le_bytes());
    out.extend([1, 1]);
    out.extend(units);
    out
}

fn streaming_interface(model: &Model) -> Vec<u8> {
    const COLOUR_MATCHING: [u8; 6] = [6, 0x24, 13, 1, 1, 4];
    let mut formats = vec![];
    for (index, format) in (1..).zip(&model.formats) {
        let sizes = model.sizes.len() as u8;
        match format {
            Format::Mjpg => formats.extend([11, 0x24, 6, index, sizes, 1, 1, 0, 0, 0, 0]),
            Format::Yuyv => {
                formats.extend([27, 0x24, 4, index, sizes]);
                formats.extend(b"YUY2\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
                formats.extend([16, 1, 0, 0, 0, 0]);
            }
        }
        for (index, &(width, height)) in (1..).zip(&model.sizes) {
            let kind = if *format == Format::Mjpg { 7 } else { 5 };
            formats.extend([26 + 4 * model.rates.len() as u8, 0x24, kind, index, 0]);
            formats.extend(width.to_le_bytes());
            formats.extend(height.to_le_bytes());
            let bits = frame_size(width, height) * 8;
            formats.extend(bits.to_le_bytes());
            formats.extend(bits.saturating_mul(30).to_le_bytes());
            formats.extend(frame_size(width, height).to_le_bytes());
            formats.extend((UNITS_PER_SECOND / model.rates[0]).to_le_bytes());
            formats.push(model.rates.len() as u8);
            for rate in &model.rates {
                formats.extend((UNITS_PER_SECOND / rate).to_le_bytes());
            }
        }
        formats.extend(COLOUR_MATCHING);
    }
    let count = model.formats.len() as u8;
    let mut out = vec![13 + count, 0x24, 1, count];
    out.extend((13 + u16::from(count) + formats.len() as u16).to_le_bytes());
    out.extend([0x81, 0, 3, 0, 0, 0, 1]);
    out.extend(vec![0; usize::from(count)]);
    out.extend(formats);
    out
}

// ---------------------------------------------------------------- pictures

/// What happens to one frame: the faults as they stood when it was its turn.
struct Shot {
    rate: Option<f64>,
    pad: usize,
    tables_missing: bool,
    junk: bool,
    stale: bool,
    truncate: bool,
    garbage: bool,
    empty: bool,
    error: bool,
    lost: bool,
    stall: bool,
    dark: bool,
}

impl Faults {
    fn let_pass(&self, agreed: &Agreed) -> bool {
        !self.frozen && self.mute != Some((agreed.width, agreed.height))
    }
}

impl Shot {
    fn take(faults: &mut Faults, agreed: &Agreed) -> Shot {
        Shot {
            rate: faults.rate,
            pad: faults.pad,
            tables_missing: faults.tables_missing,
            junk: countdown(&mut faults.junk),
            stale: countdown(&mut faults.stale),
            truncate: countdown(&mut faults.truncate),
            garbage: countdown(&mut faults.garbage),
            empty: countdown(&mut faults.empty),
            error: countdown(&mut faults.error),
            lost: countdown(&mut faults.lost),
            stall: std::mem::take(&mut faults.stall),
            dark: agreed.since.elapsed() < faults.dark,
        }
    }

    /// The frame's bytes, with the damage that is done before they are sent.
    fn picture(&self, agreed: &Agreed, number: u32, given: Option<&[u8]>) -> Vec<u8> {
        let Agreed { format, width, height, .. } = *agreed;
        let mut picture = match format {
            Format::Yuyv => yuyv(width, height, number),
            Format::Mjpg => match given {
                Some(rest) => stamped(rest, number, monotonic()),
                None => stamped(&jpeg(agreed, number, self), number, monotonic()),
            },
        };
        if self.truncate {
            picture.truncate(picture.len() / 2);
        }
        if self.junk {
            picture.extend([0; 64]);
        }
        if self.stale {
            let half = picture.len() / 2;
            picture.extend_from_within(half..);
        }
        if self.garbage {
            let mut random = number | 1;
            for byte in &mut picture {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                *byte = random as u8;
            }
        }
        if self.empty {
            picture.clear();
        }
        picture
    }
}

fn countdown(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// Brightness of the 8x8 block (x, y): the frame's number in binary along the top, a ramp below
/// that moves.
fn luma(x: usize, y: usize, number: u32) -> i32 {
    if y == 0 && x < 32 {
        return if number >> x & 1 == 1 { 235 } else { 16 };
    }
    ((x * 4 + y * 2 + number as usize * 4) % 220) as i32 + 16
}

/// Colour (Cb, Cr) of column x of `columns`: eight bars.
fn chroma(x: usize, columns: usize) -> (i32, i32) {
    const BARS: [(i32, i32); 8] = [
        (128, 128),
        (44, 142),
        (156, 44),
        (72, 58),
        (184, 198),
        (100, 212),
        (212, 114),
        (128, 128),
    ];
    BARS[x * 8 / columns]
}

fn yuyv(width: u16, height: u16, number: u32) -> Vec<u8> {
    let (pairs, height) = (usize::from(width) / 2, usize::from(height));
    let mut out = Vec::with_capacity(pairs * height * 4);
    for y in (0..height).step_by(8) {
        let row: Vec<u8> = (0..pairs)
            .flat_map(|x| {
                let y = luma(x / 4, y / 8, number) as u8;
                let (cb, cr) = chroma(x, pairs);
                [y, cb as u8, y, cr as u8]
            })
            .collect();
        for _ in y..height.min(y + 8) {
            out.extend(&row);
        }
    }
    out
}

/// A baseline 4:2:2 JPEG, all that follows its stamp: 8x8 blocks of one colour each, so that no
/// transform is needed.
fn jpeg(agreed: &Agreed, number: u32, shot: &Shot) -> Vec<u8> {
    let Agreed { width, height, .. } = *agreed;
    let mut out = vec![];
    let mut left = shot.pad;
    while left > 4 {
        let bytes = left.min(60_000);
        segment(&mut out, 0xeb, &vec![0x55; bytes - 4]);
        left -= bytes;
    }
    // A quantizer of 8 cancels the transform's gain: a block's first coefficient is its value.
    segment(&mut out, 0xdb, &[&[0][..], &[8; 64], &[1], &[8; 64]].concat());
    let ([h1, h0], [w1, w0]) = (height.to_be_bytes(), width.to_be_bytes());
    segment(&mut out, 0xc0, &[8, h1, h0, w1, w0, 3, 1, 0x21, 0, 2, 0x11, 1, 3, 0x11, 1]);
    if !shot.tables_missing {
        for table in HUFFMAN_TABLES {
            segment(&mut out, 0xc4, table);
        }
    }
    segment(&mut out, 0xda, &[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]);
    let mut scan = Scan { out, bits: 0, count: 0, last: [0; 3] };
    let (columns, rows) = (usize::from(width).div_ceil(16), usize::from(height).div_ceil(8));
    for y in 0..rows {
        for x in 0..columns {
            let (cb, cr) = if shot.dark { (128, 128) } else { chroma(x, columns) };
            for x in [2 * x, 2 * x + 1] {
                scan.block(0, if shot.dark { 0 } else { luma(x, y, number) });
            }
            scan.block(1, cb);
            scan.block(2, cr);
        }
    }
    scan.put(0x7f, 7); // fills the last byte with ones
    scan.out.extend([0xff, 0xd9]);
    scan.out
}

fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    out.extend([0xff, marker]);
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(body);
}

/// The standard tables (ITU-T T.81, annex K.3); of the two for AC, only the codes up to the only
/// symbol used, "end of block".
const HUFFMAN_TABLES: [&[u8]; 4] = [
    &[0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    &[0x10, 0, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0],
    &[0x01, 0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    &[0x11, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

/// Entropy-coded data in the making.
struct Scan {
    out: Vec<u8>,
    bits: u64,
    count: u32,
    /// Each component's value in the block before.
    last: [i32; 3],
}

impl Scan {
    fn block(&mut self, component: usize, value: i32) {
        const LUMA: [(u32, u32); 9] =
            [(0, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (14, 4), (30, 5), (62, 6)];
        const CHROMA: [(u32, u32); 9] =
            [(0, 2), (1, 2), (2, 2), (6, 3), (14, 4), (30, 5), (62, 6), (126, 7), (254, 8)];
        const LUMA_END_OF_BLOCK: (u32, u32) = (0b1010, 4);
        const CHROMA_END_OF_BLOCK: (u32, u32) = (0b00, 2);
        let level = value - 128;
        let difference = level - self.last[component];
        self.last[component] = level;
        let size = 32 - difference.unsigned_abs().leading_zeros();
        let (codes, (end, end_length)) = match component {
            0 => (LUMA, LUMA_END_OF_BLOCK),
            _ => (CHROMA, CHROMA_END_OF_BLOCK),
        };
        let (code, length) = codes[size as usize];
        self.put(code, length);
        let amplitude = if difference < 0 { difference - 1 } else { difference };
        self.put(amplitude as u32 & ((1 << size) - 1), size);
        self.put(end, end_length);
    }

    fn put(&mut self, value: u32, length: u32) {
        self.bits = self.bits << length | u64::from(value);
        self.count += length;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.bits >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                self.out.push(0);
            }
        }
    }
}

// ---------------------------------------------------------------- the stamp

/// The whole JPEG: its start, its stamp, the rest.
fn stamped(rest: &[u8], number: u32, nanos: u64) -> Vec<u8> {
    let crc = crc32(rest);
    let stamp =
        |length: usize| format!("uvc-cam seq={number} ns={nanos} len={length:08} crc={crc:08x}");
    let total = 2 + 4 + stamp(0).len() + rest.len();
    let mut out = vec![0xff, 0xd8];
    segment(&mut out, 0xfe, stamp(total).as_bytes());
    out.extend(rest);
    out
}

fn crc32(data: &[u8]) -> u32 {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of V4L2's buffers.
fn monotonic() -> u64 {
    const CLOCK_MONOTONIC: i32 = 1;
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [c_long; 2]) -> i32;
    }
    let mut time = [0; 2];
    // SAFETY: with glibc, which keeps 32 bits on 32-bit Linux, `struct timespec` is two longs.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    let [seconds, nanos] = time;
    seconds as u64 * 1_000_000_000 + nanos as u64
}

// ---------------------------------------------------------------- numbers in messages

fn u32_be(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn u32_le(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
