//! What a frame costs in instructions, counted by valgrind: the same on a busy machine as on an
//! idle one. Only in the long run.
//!
//! The loop's thread alone, in user space: what the kernel does for a write is the same for every
//! server, and the camera's thread encodes the test picture here, which real cameras do themselves.

mod util;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use util::{PATIENCE, Server, Stream, binary, command, until};

/// Viewers beside the first one.
const CROWD: usize = 20;
/// Frames over which instructions are counted.
const FRAMES: usize = 100;
/// A frame, whoever sees it, and the first viewer: at most so many instructions.
const FRAME_MAX: f64 = 7_000.0;
/// The same frame for each further viewer.
const VIEWER_MAX: f64 = 1_800.0;

/// The server under callgrind.
struct Counted {
    server: Server,
    dumps: usize,
}

impl Counted {
    fn start() -> Counted {
        let plain = command(&[]);
        let mut counted = Command::new("valgrind");
        counted.args(["--tool=callgrind", "--separate-threads=yes"]);
        counted.args(["--callgrind-out-file=count", "--quiet"]).arg(binary());
        counted.args(["--listen", "127.0.0.1:0", "--camera", "test"]);
        counted.args(["--size", "320x240", "--fps", "10"]);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => counted.env(name, value),
                None => counted.env_remove(name),
            };
        }
        Counted { server: Server::start_command(counted), dumps: 0 }
    }

    fn control(&self, act: &str) {
        let folder = self.server.folder().path();
        let pid = self.server.pid().to_string();
        let done = Command::new("callgrind_control").args([act, &pid]).current_dir(folder).output();
        let done = done.expect("callgrind_control");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Instructions of the loop's thread for each of `FRAMES` frames, as `viewer` counts them.
    fn per_frame(&mut self, viewer: &Viewer) -> f64 {
        viewer.wait_for(3);
        self.control("--zero");
        let before = viewer.frames();
        viewer.wait_for(FRAMES);
        self.control("--dump");
        let frames = viewer.frames() - before;
        self.dumps += 1;
        let path = self.server.folder().path().join(format!("count.{}-01", self.dumps));
        let total = || {
            let text = fs::read_to_string(&path).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
            line.trim().parse::<f64>().ok()
        };
        until(PATIENCE, total).expect("the dump of the first thread") / frames as f64
    }
}

/// A thread that reads a stream to its end and counts.
struct Viewer {
    frames: Arc<AtomicUsize>,
}

impl Viewer {
    fn watch(server: &Server) -> Viewer {
        let viewer = Viewer { frames: Arc::default() };
        let frames = viewer.frames.clone();
        let mut stream = Stream::open(server.addr(), "/video_feed");
        thread::spawn(move || {
            while stream.next_part(PATIENCE).is_ok() {
                frames.fetch_add(1, Ordering::Relaxed);
            }
        });
        viewer
    }

    fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed)
    }

    fn wait_for(&self, frames: usize) {
        let wanted = self.frames() + frames;
        let limit = PATIENCE + Duration::from_secs(1) * frames as u32;
        until(limit, || (self.frames() >= wanted).then_some(())).expect("frames");
    }
}

#[test]
fn a_frame_costs_few_instructions_and_each_viewer_fewer() {
    if !util::long() {
        return;
    }
    let optimized = std::env::var_os("PISTREAM_BIN").is_some() || !cfg!(debug_assertions);
    assert!(optimized, "PISTREAM_BIN has to name the release program");
    let mut counted = Counted::start();
    let first = Viewer::watch(&counted.server);
    let one = counted.per_frame(&first);
    let crowd: Vec<Viewer> = (0..CROWD).map(|_| Viewer::watch(&counted.server)).collect();
    let all = counted.per_frame(&first);
    let each = (all - one) / crowd.len() as f64;
    println!("{one:.0} instructions a frame with one viewer, {each:.0} for each further one");
    assert!(one <= FRAME_MAX, "{one:.0} instructions a frame, {FRAME_MAX} allowed");
    assert!(each <= VIEWER_MAX, "{each:.0} instructions a frame and viewer, {VIEWER_MAX} allowed");
    assert!(each >= 100.0, "{each:.0}: nothing was counted");
}
