//! How the house stands, for Prometheus: its text format 0.0.4. Pure but for the disk's share.

use std::fmt::{self, Display, Write};

use super::album::Album;
use super::status::{CameraFacts, Drops, Facts};

/// The content type that Prometheus knows this form by.
pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of it. The disk's part is left out where the disk does not tell.
pub fn text(facts: &Facts, album: &Album) -> String {
    let mut out = Metrics(String::with_capacity(4096));
    // Writing to a String cannot fail.
    let _ = write(&mut out, facts, album);
    out.0
}

/// Bound: the code's names, of `CAMERAS_MAX` cameras.
struct Metrics(String);

impl Metrics {
    /// One metric with its description; `samples`: labels, which may be empty, and value.
    fn metric<V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        samples: &[(impl AsRef<str>, V)],
    ) -> fmt::Result {
        let out = &mut self.0;
        writeln!(out, "# HELP {name} {help}")?;
        writeln!(out, "# TYPE {name} {kind}")?;
        for (labels, value) in samples {
            let labels = labels.as_ref();
            match labels.is_empty() {
                true => writeln!(out, "{name} {value}")?,
                false => writeln!(out, "{name}{{{labels}}} {value}")?,
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric("counter", name, help, &[("", value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) -> fmt::Result {
        self.metric("gauge", name, help, &[("", value)])
    }
}

fn write(out: &mut Metrics, facts: &Facts, album: &Album) -> fmt::Result {
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    out.metric("gauge", "pistream_info", "The program.", &[(version, 1)])?;
    out.gauge("pistream_uptime_seconds", "Time since the start.", facts.uptime)?;
    cameras(out, &facts.cameras)?;
    let help = "Streams that are being sent.";
    out.gauge("pistream_viewers", help, facts.viewers)?;
    out.gauge("pistream_connections", "Open connections.", facts.connections)?;
    let help = "Frames that viewers took.";
    out.counter("pistream_frames_sent_total", help, facts.frames_sent)?;
    let missed =
        [("reason=\"late\"", facts.frames_late), ("reason=\"unasked\"", facts.frames_unasked)];
    let help = "Frames that viewers did not take: busy with another, or above their fps.";
    out.metric("counter", "pistream_frames_missed_total", help, &missed)?;
    out.counter("pistream_sent_bytes_total", "Bytes given to sockets.", facts.bytes_sent)?;
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| format!("class=\"{class}\""));
    let answers: Vec<(String, u64)> = classes.into_iter().zip(facts.answers).collect();
    let help = "Answers by the class of their status.";
    out.metric("counter", "pistream_answers_total", help, &answers)?;
    let help = "Wrong names and passwords.";
    out.counter("pistream_wrong_passwords_total", help, facts.wrong_passwords)?;
    if let Some(memory) = facts.memory {
        out.gauge("process_resident_memory_bytes", "Resident memory.", memory)?;
    }
    if let Ok(all) = album.excerpt(0, 0) {
        out.gauge("pistream_photos", "Photos in the folder.", all.total)?;
        out.gauge("pistream_photos_bytes", "Bytes of these photos.", all.bytes)?;
    }
    if let Ok(free) = album.free() {
        let help = "Bytes that the disk of the photos has left.";
        out.gauge("pistream_disk_free_bytes", help, free)?;
    }
    Ok(())
}

fn cameras(out: &mut Metrics, cameras: &[CameraFacts]) -> fmt::Result {
    let mut each =
        |kind: &str, name: &str, help: &str, value: &dyn Fn(&CameraFacts) -> Option<f64>| {
            let labelled = cameras.iter().enumerate();
            let samples: Vec<(String, f64)> = labelled
                .filter_map(|(n, camera)| Some((format!("camera=\"{}\"", n + 1), value(camera)?)))
                .collect();
            match samples.is_empty() {
                true => Ok(()),
                false => out.metric(kind, name, help, &samples),
            }
        };
    let help = "1 if the camera gives frames, or would if somebody watched.";
    each("gauge", "pistream_camera_online", help, &|camera| {
        Some(u8::from(camera.state.online).into())
    })?;
    let help = "Frames of the camera.";
    each("counter", "pistream_camera_frames_total", help, &|camera| Some(camera.frames as f64))?;
    let help = "Frames a second that come now.";
    each("gauge", "pistream_camera_fps", help, &|camera| Some(camera.fps_real.unwrap_or(0.0)))?;
    let help = "Time since the newest frame was captured.";
    each("gauge", "pistream_camera_frame_age_seconds", help, &|camera| camera.age)?;
    let help = "Streams of the camera that are being sent.";
    each("gauge", "pistream_camera_viewers", help, &|camera| Some(camera.viewers as f64))?;
    let by_reason = cameras.iter().enumerate().flat_map(|(n, camera)| {
        let Drops { damaged, empty, broken, skipped } = camera.drops;
        [("damaged", damaged), ("empty", empty), ("broken", broken), ("skipped", skipped)]
            .map(|(reason, count)| (format!("camera=\"{}\",reason=\"{reason}\"", n + 1), count))
    });
    let by_reason: Vec<(String, u64)> = by_reason.collect();
    let help = "Frames of the camera that were not shown.";
    out.metric("counter", "pistream_camera_drops_total", help, &by_reason)
}
