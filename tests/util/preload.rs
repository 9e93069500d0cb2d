//! The preloaded camera that has controls (`knobs.c`), in place of a device.

use std::path::Path;
use std::process::Command;

use super::{Folder, command};

/// The libraries to preload.
pub struct Preload(String);

impl Preload {
    #[track_caller]
    pub fn build(folder: &Folder) -> Preload {
        let build = |name: &str, source: &str| {
            let library = folder.path().join(name);
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
            let flags = ["-O1", "-shared", "-fPIC", "-w", "-ldl", "-lpthread"];
            let built = Command::new("cc").arg("-o").arg(&library).arg(source).args(flags).status();
            assert!(built.expect("run cc").success(), "compile {name}");
            library.display().to_string()
        };
        let knobs = build("knobs.so", "tests/util/knobs.c");
        let camera = build("camera.so", "tests/bench/camera.c");
        Preload(format!("{knobs}:{camera}"))
    }

    /// The program with this camera.
    pub fn command(&self, args: &[&str]) -> Command {
        let device = "/dev/video90"; // need not be there
        let camera_args = ["--listen", "127.0.0.1:0", "--camera", device, "--fps", "10"];
        let mut command = command(&[&camera_args[..], args].concat());
        command.env("LD_PRELOAD", &self.0).env("CAMERA_DEVICE", device);
        command.env("CAMERA_FORMATS", "YUYV").env("CAMERA_FPS", "10").env("CAMERA_RT", "0");
        command
    }
}
