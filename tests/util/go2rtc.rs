//! go2rtc, which reads a camera's stream and hands it on in other ways ([`Go2rtc`]).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::client::Jpegs;
use super::console::free_port;
use super::{Folder, PATIENCE, Started, installed, long, until};

/// Only in the long run, and only where its package is for.
pub fn is_there() -> bool {
    long() && cfg!(target_arch = "x86_64")
}

/// The program at ports of its own, gone when dropped. Its stream is called `camera`.
pub struct Go2rtc {
    _started: Started,
    _folder: Folder,
    http: SocketAddr,
    rtsp: SocketAddr,
}

impl Go2rtc {
    #[track_caller]
    pub fn start(settings: &str) -> Go2rtc {
        let (folder, http, rtsp) = (Folder::new(), free_port(), free_port());
        // The last two would listen at all addresses.
        let own = format!(
            "log:\n  output: stderr\napi:\n  listen: {http}\nrtsp:\n  listen: {rtsp}\n\
             webrtc:\n  listen: \"\"\nsrtp:\n  listen: \"\"\n"
        );
        let mut command = Command::new(installed("PISTREAM_GO2RTC"));
        for (name, content) in [("page.yaml", settings), ("own.yaml", &own)] {
            command.arg("-config").arg(folder.write(name, content));
        }
        command.current_dir(folder.path()).stdout(Stdio::null());
        let says = folder.path().join("says");
        let started = Started::new(command, &says).expect("go2rtc");
        let ready = until(PATIENCE, || is_ready(http).ok().filter(|ready| *ready));
        let says = fs::read_to_string(says).unwrap_or_default();
        assert!(ready.is_some(), "go2rtc is not ready: {says}");
        Go2rtc { _started: started, _folder: folder, http, rtsp }
    }

    /// The stream as MJPEG, as cameras send it.
    pub fn mjpeg(&self) -> String {
        format!("http://{}{MJPEG}", self.http)
    }

    /// The stream's pictures as RTP packets (RFC 2435).
    pub fn rtsp(&self) -> String {
        format!("rtsp://{}/camera", self.rtsp)
    }

    /// A viewer of [`Go2rtc::mjpeg`].
    #[track_caller]
    pub fn view(&self) -> Jpegs<TcpStream> {
        Jpegs::new(ask(self.http, MJPEG).expect("go2rtc reads"))
    }
}

const MJPEG: &str = "/api/stream.mjpeg?src=camera";

/// It listens before it knows all its paths; this one, for debugging, is among the last.
fn is_ready(http: SocketAddr) -> io::Result<bool> {
    let mut answer = Vec::new();
    ask(http, "/api/stack")?.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.0 200 "))
}

/// Asks by HTTP/1.0, so that nothing stands between the bytes of a picture.
fn ask(http: SocketAddr, target: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(http)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "GET {target} HTTP/1.0\r\n\r\n")?;
    Ok(socket)
}
