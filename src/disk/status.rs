//! How the house stands, for programs (JSON) and for people (a page).
//!
//! The loop brings what it knows (`Facts`); what the disk knows is added here, and the time, since
//! the time zone is a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use rustix::param::page_size;
use serde::{Serialize, Serializer};

use super::album::Album;
use super::gallery::{self, size, span};
use super::photo::Moment;
use super::plot;
use crate::error::{Error, Result};
use crate::frame::CameraState;
use crate::http::phrases::Lang;

/// What the loop knows of the house.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The first one first: at most `CAMERAS_MAX`.
    pub cameras: Vec<CameraFacts>,
    /// Who watches.
    pub viewers: usize,
    /// At most `VIEWERS_MAX`.
    pub watching: Vec<Viewer>,
    /// Open ones, the viewers' too.
    pub connections: usize,
    /// By the first digit of their status, from 1 on.
    pub answers: [u64; 5],
    pub bytes_sent: u64,
    /// By all viewers, those too who have gone.
    pub frames_sent: u64,
    pub frames_late: u64,
    pub frames_unasked: u64,
    pub wrong_passwords: u64,
    /// Bytes of this process that are resident.
    pub memory: Option<u64>,
    /// Seconds since the start.
    pub uptime: u64,
    pub interval: Option<Interval>,
    /// The oldest first: at most `HISTORY_MAX`.
    pub history: Vec<Sample>,
}

impl Facts {
    /// Bytes of memory that grow with the number of viewers, about.
    pub fn bytes(&self) -> usize {
        self.watching.len() * (size_of::<Viewer>() + ADDRESS_BYTES)
    }
}

/// Bytes of an address as text, at most.
const ADDRESS_BYTES: usize = 45;

/// What the loop knows of a camera.
#[derive(Clone, Debug, Serialize)]
pub struct CameraFacts {
    #[serde(flatten)]
    pub state: CameraState,
    /// Frames a second asked of it, if anybody did.
    pub fps_asked: Option<u32>,
    /// Frames a second that come now; none if there are none.
    #[serde(serialize_with = "maybe_tenths")]
    pub fps_real: Option<f64>,
    /// Seconds since the newest frame was captured; none if there is none.
    #[serde(serialize_with = "milliseconds")]
    pub age: Option<f64>,
    /// The newest frame's number.
    pub frames: u64,
    pub drops: Drops,
    pub viewers: usize,
}

/// One viewer.
#[derive(Clone, Debug, Serialize)]
pub struct Viewer {
    /// For operators only. Bound: the code's form of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Which camera, counted from 1.
    pub camera: usize,
    /// For how long it has been watching.
    pub seconds: u64,
    /// Pixels that its frames may be wide; none: as they are.
    pub width: Option<u32>,
    /// Frames a second that it takes.
    #[serde(serialize_with = "tenths")]
    pub fps: f64,
    pub frames: u64,
    /// Frames that passed while it was busy with another.
    pub late: u64,
    /// Frames that were more than it asked for.
    pub unasked: u64,
    /// Whether it would be given a frame now.
    pub gate_open: bool,
    /// Bytes that the kernel holds for it.
    pub queued: u64,
    /// Seconds since what it sees was captured.
    #[serde(serialize_with = "milliseconds")]
    pub age: Option<f64>,
}

/// How it stood at one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub seconds_ago: f64,
    pub fps: f64,
    pub viewers: usize,
    /// Bytes resident.
    pub memory: u64,
}

/// The memory of this process, by the kernel's account. Reading it waits for no disk.
#[derive(Debug)]
pub struct Memory(Option<File>);

impl Memory {
    pub fn open() -> Memory {
        Memory(File::open("/proc/self/statm").ok())
    }

    /// Bytes that are resident; none if the kernel does not tell.
    pub fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(&text[..length]).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page_size() as u64)
    }
}

/// Frames of the device that were not shown, by reason.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Drops {
    pub damaged: u64,
    pub empty: u64,
    pub broken: u64,
    pub skipped: u64,
}

/// Interval photos that are being taken.
#[derive(Clone, Debug, Serialize)]
pub struct Interval {
    /// Seconds.
    pub every: f64,
    #[serde(serialize_with = "as_local")]
    pub until: Option<SystemTime>,
    pub saved: u64,
    pub skipped: u64,
    /// Bound: a sentence of the code's.
    pub trouble: Option<String>,
}

#[derive(Serialize)]
struct Status<'f> {
    version: &'static str,
    /// ISO 8601, with the distance from UTC. Bound: the code's form of it.
    time: String,
    /// Seconds.
    uptime: u64,
    /// The first one: all there is, mostly.
    camera: Option<&'f CameraFacts>,
    cameras: &'f [CameraFacts],
    viewers: usize,
    watching: &'f [Viewer],
    connections: usize,
    wrong_passwords: u64,
    /// Bytes of this process that are resident.
    memory: Option<u64>,
    /// None if the folder cannot be listed.
    photos: Option<Photos>,
    interval: Option<&'f Interval>,
    disk: Disk,
}

#[derive(Serialize)]
struct Photos {
    count: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Disk {
    /// Bytes; none if the folder of photos cannot be asked.
    free: Option<u64>,
}

pub fn json(facts: &Facts, album: &Album) -> Result<Vec<u8>> {
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        time: local(SystemTime::now()),
        uptime: facts.uptime,
        camera: facts.cameras.first(),
        cameras: &facts.cameras,
        viewers: facts.viewers,
        watching: &facts.watching,
        connections: facts.connections,
        wrong_passwords: facts.wrong_passwords,
        memory: facts.memory,
        photos: photos(album),
        interval: facts.interval.as_ref(),
        disk: Disk { free: album.free().ok() },
    };
    serde_json::to_vec(&status).map_err(|e| Error::found("write", "the status", e.to_string()))
}

/// A disk that fails does not take the rest of the status away, nor fill the log: pages ask often.
fn photos(album: &Album) -> Option<Photos> {
    let all = album.excerpt(0, 0).inspect_err(|error| log::debug!("{error}")).ok()?;
    Some(Photos { count: all.total, bytes: all.bytes })
}

/// How the interval photos stand: `null` if there are none.
pub fn interval_json(interval: Option<&Interval>) -> Result<Vec<u8>> {
    serde_json::to_vec(&interval).map_err(|e| Error::found("write", "the interval", e.to_string()))
}

/// What a person sees of the status.
pub fn page(facts: &Facts, album: &Album, lang: Lang) -> Result<String> {
    let several = facts.cameras.len() > 1;
    let mut cameras: Vec<_> = facts.cameras.iter().map(|one| camera_rows(one, lang)).collect();
    // One camera is told of together with the house.
    let mut rows = if several { Vec::new() } else { cameras.pop().unwrap_or_default() };
    rows.push(("Viewers", facts.viewers.to_string()));
    if let Some(photos) = photos(album) {
        rows.push(("Photos", photos.count.to_string()));
        rows.push(("Space used", size(photos.bytes)));
    }
    rows.extend(album.free().ok().map(|free| ("Space free", size(free))));
    rows.push(("Running for", span(whole(facts.uptime), lang)));
    rows.push(("Time", for_people(SystemTime::now())));
    rows.push(("Version", env!("CARGO_PKG_VERSION").to_owned()));
    let plots = plot::plots(&facts.history, lang);
    let watching = facts.watching.iter().map(|one| watching(one, several, lang)).collect();
    gallery::status(&gallery::Status { rows, cameras, plots, watching }, lang).map_err(failed)
}

fn camera_rows(camera: &CameraFacts, lang: Lang) -> Vec<(&'static str, String)> {
    let state = &camera.state;
    let working = match (&state.reason, state.test) {
        (Some(reason), _) => lang.fill("No signal: {}", &[reason]),
        (None, true) => lang.say("The test picture: no camera is in use.").to_owned(),
        (None, false) if camera.fps_real.is_some() => lang.say("Working").to_owned(),
        (None, false) => lang.say("Off, because nobody watches.").to_owned(),
    };
    let Drops { damaged, empty, broken, .. } = camera.drops;
    let mut rows = vec![("Camera", working)];
    rows.extend(state.device.clone().map(|device| ("Device", device)));
    rows.extend(state.format.clone().map(|format| ("Format", format)));
    if state.width > 0 {
        rows.push(("Picture size", format!("{} × {}", state.width, state.height)));
    }
    rows.extend(camera.fps_real.map(|fps| ("Frames a second", format!("{fps:.1}"))));
    rows.push(("Frames", camera.frames.to_string()));
    rows.push(("Frames dropped", (damaged + empty + broken).to_string()));
    rows
}

/// A row of the table of those who watch; which of `several` cameras is said.
fn watching(viewer: &Viewer, several: bool, lang: Lang) -> Vec<String> {
    let mut row = vec![viewer.address.clone().unwrap_or_default()];
    row.extend(several.then(|| viewer.camera.to_string()));
    row.extend([
        format!("{:.1}", viewer.fps),
        viewer.late.to_string(),
        viewer.age.map_or(String::new(), |age| format!("{age:.2} s")),
        span(whole(viewer.seconds), lang),
    ]);
    row
}

/// What a person sees of the interval photos, with the buttons that start and stop them.
pub fn interval_page(interval: Option<&Interval>, lang: Lang) -> Result<String> {
    let running = interval.map(|interval| gallery::Running {
        every_seconds: interval.every.round() as u64,
        until: interval.until.map(for_people),
        saved: interval.saved,
        skipped: interval.skipped,
        trouble: interval.trouble.clone(),
    });
    gallery::interval(&gallery::Interval { running }, lang).map_err(failed)
}

fn failed(error: askama::Error) -> Error {
    Error::found("render", "a page", error.to_string())
}

/// Seconds, rounded so that they make whole minutes, hours or days when there are many.
fn whole(seconds: u64) -> u64 {
    let unit = [24 * 3600, 3600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    seconds - seconds % unit
}

fn for_people(time: SystemTime) -> String {
    let moment = local(time);
    moment.get(..19).unwrap_or(&moment).replace('T', " ")
}

fn local(time: SystemTime) -> String {
    Moment::local(time).map(|moment| moment.to_string()).unwrap_or_default()
}

fn tenths<S: Serializer>(number: &f64, out: S) -> std::result::Result<S::Ok, S::Error> {
    ((number * 10.0).round() / 10.0).serialize(out)
}

fn maybe_tenths<S: Serializer>(
    number: &Option<f64>,
    out: S,
) -> std::result::Result<S::Ok, S::Error> {
    number.map(|number| (number * 10.0).round() / 10.0).serialize(out)
}

fn milliseconds<S: Serializer>(
    seconds: &Option<f64>,
    out: S,
) -> std::result::Result<S::Ok, S::Error> {
    seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0).serialize(out)
}

fn as_local<S: Serializer>(
    time: &Option<SystemTime>,
    out: S,
) -> std::result::Result<S::Ok, S::Error> {
    time.map(local).serialize(out)
}
