//! What somebody meets who starts the program for the first time, or in a wrong way: `--help`, and
//! refusals of one line each that say what is wrong and what to do. What the program can live with
//! ends nothing: it is one warning in the log, and the rest of the site goes on.

mod util;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::{Arg, CommandFactory};
use pistream::config::Config;
use util::{
    Client, Ended, Folder, PATIENCE, Server, binary, command, decode, one_line, run, run_command,
};

/// A user without any rights, and its group.
const NOBODY: u32 = 65534;

/// Ends with `code` and one line that has all `parts`.
#[track_caller]
fn refused(command: Command, code: i32, parts: &[&str]) -> String {
    let line = one_line(&run_command(command), code);
    println!("{line}");
    assert!(line.starts_with("pistream: ") && line.len() < 400, "{line}");
    for part in parts {
        assert!(line.contains(part), "{line:?} lacks {part:?}");
    }
    line
}

/// The program as a user without rights; none if these tests have none to give away.
fn as_nobody(args: &[&str]) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root can be somebody else");
        return None;
    }
    let mut command = command(args);
    command.uid(NOBODY).gid(NOBODY);
    Some(command)
}

/// All may do in it what they like.
fn open_folder() -> Folder {
    let folder = Folder::new();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("a mode");
    folder
}

// ---- options --------------------------------------------------------------------------------

#[test]
fn a_wrong_option_is_one_line_that_says_what_would_be_right() {
    let check = |args: &[&str], parts: &[&str]| {
        refused(command(args), 2, parts);
    };
    for (value, allowed) in [
        ("0x0", "such as 640x480"),
        ("1x1", "from 16 to 16384"),
        ("99999x99999", "from 16 to 16384"),
        ("16000x16000", "20000000 pixels in all"),
        ("640", "WIDTHxHEIGHT"),
        ("640x480x3", "WIDTHxHEIGHT"),
        ("640×480", "WIDTHxHEIGHT"),
        ("", "--size"),
    ] {
        check(&["--size", value], &["--size <WxH>", value, allowed]);
    }
    for value in ["0", "241", "ten", "12.5", "1e1", "99999999999999999999"] {
        check(&["--fps", value], &["--fps <N>", value, "a whole number from 1 to 240"]);
    }
    check(&["--fps=-1"], &["'-1'", "from 1 to 240"]);
    for value in ["0", "101", "good", "80%"] {
        check(&["--quality", value], &["--quality <N>", value, "from 1 to 100"]);
    }
    for value in ["5000", "localhost:5000", "127.0.0.1", "127.0.0.1:70000", "::1:5000", "unix:"] {
        check(&["--listen", value], &["--listen <ADDR:PORT>", value, "[::]:5000", "unix:PATH"]);
    }
    check(&["--camera", "video0"], &["--camera <CAMERA>", "'video0'", "/dev/video0", "exec:"]);
    check(&["--rotate", "45"], &["--rotate <DEGREES>", "'45'", "0, 90, 180, 270"]);
    check(&["--every", "0s"], &["--every <TIME>", "1s to 24h"]);
    check(&["--keep-free", "lots"], &["--keep-free <SIZE>", "500M or 2G"]);
    check(&["--format", "mjpg"], &["'mjpg'", "mjpeg, yuyv", "did you mean 'mjpeg'?"]);
    // Options that are none, lack their value, come twice, or are none at all.
    check(&["--qualty", "5"], &["'--qualty'", "did you mean '--quality'?"]);
    check(&["--idle-of", "5"], &["did you mean '--idle-off'?"]);
    check(&["--zzz"], &["'--zzz'", "pistream --help lists all options"]);
    check(&["-x"], &["'-x'", "pistream --help lists all options"]);
    check(&["--fps"], &["a value is required for '--fps <N>'"]);
    check(&["--fps", "5", "--fps", "6"], &["'--fps <N>'", "multiple times"]);
    check(&["/dev/video0"], &["'/dev/video0'", "--camera /dev/video0"]);
    check(&["--mirror=yes"], &["'yes'", "'--mirror'"]);
    // Options that contradict each other.
    check(&["--camera", "-", "--size", "640x480"], &["--size", "the program that makes them"]);
    check(&["--camera", "auto", "--camera", "/dev/video0"], &["auto", "name each"]);
    let nine = ["--listen=127.0.0.1:1"; 9];
    check(&nine, &["--listen: at most 8"]);
}

#[test]
fn a_wrong_variable_is_named() {
    let check = |name: &str, value: &str, parts: &[&str]| {
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        command.env(name, value);
        refused(command, 2, &[parts, &[name]].concat());
    };
    check("PISTREAM_FPS", "0", &["'0'", "--fps <N>", "1 to 240", "in the environment"]);
    check("PISTREAM_SIZE", "big", &["'big'", "640x480"]);
    check("PISTREAM_FORMAT", "mjpg", &["did you mean 'mjpeg'?"]);
    check("PISTREAM_CAMERA", "video0", &["'video0'", "/dev/video0"]);
    check("PISTREAM_CAMERA_2", "video0", &["'video0'", "/dev/video0"]);
    check("PISTREAM_CAMERA_3", "test", &["PISTREAM_CAMERA_2"]);
    check("PISTREAM_IDLE_OFF", "soon", &["'soon'", "30s"]);
    check("PISTREAM_QUALITY", "", &["--quality <N>"]);
    // What is on the command line counts more, and is not the environment's.
    let mut both = command(&["--fps", "0"]);
    both.env("PISTREAM_FPS", "5");
    assert!(!refused(both, 2, &["'0'"]).contains("environment"));
}

#[test]
fn a_variable_that_no_option_has_is_a_warning() {
    let mut command = command(&["--camera", "test", "--listen", "127.0.0.1:0"]);
    command.env("PISTREAM_FSP", "5").env("PISTREAM_MIRROR", "0").env("PISTREAM_FPS", "5");
    let server = Server::start_command(command);
    server.get("/").expect(200);
    let complaints = server.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("PISTREAM_FSP: no option has"), "{complaints:?}");
    server.stop();
}

#[test]
fn words_that_are_no_text_are_refused_and_folders_may_have_any_name() {
    let odd = || OsString::from_vec(b"/tmp/caf\xe9".to_vec());
    let mut wrong = command(&["--camera"]);
    wrong.arg(odd());
    refused(wrong, 2, &["UTF-8", "/tmp/caf"]);
    let mut wrong = command(&["--listen", "127.0.0.1:0"]);
    wrong.env("PISTREAM_SIZE", odd());
    refused(wrong, 2, &["UTF-8", "PISTREAM_SIZE"]);
    let folder = Folder::new();
    let mut fitting = command(&["--camera", "test", "--listen", "127.0.0.1:0", "--pic"]);
    fitting.arg(folder.path().join(OsString::from_vec(b"caf\xe9".to_vec())));
    fitting.env("LC_ALL", "C").env("LANG", "no-such-locale");
    let server = Server::start_command(fitting);
    post_photo(&server).expect(201);
    assert_eq!(server.complaints(), [""; 0]);
    server.stop();
}

fn post_photo(server: &Server) -> util::Reply {
    Client::connect(server.addr()).send("POST /photo HTTP/1.0\r\nContent-Length: 0\r\n\r\n").reply()
}

// ---- help -----------------------------------------------------------------------------------

#[track_caller]
fn help(option: &str, columns: &str) -> String {
    let mut command = command(&[option]);
    command.env("COLUMNS", columns).env("PISTREAM_CAMERA", "exec:a secret");
    let Ended { status, stdout, stderr } = run_command(command);
    assert_eq!((status.code(), &*stderr), (Some(0), ""));
    assert!(!stdout.contains("secret"), "the environment's values in the help");
    stdout
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default()
}

#[test]
fn help_fits_the_terminal_and_says_where_to_read_on() {
    let text = help("--help", "80");
    println!("{text}");
    for option in ["-h", "--help"] {
        for columns in ["60", "80", "100"] {
            let widest = widest(&help(option, columns));
            assert!(widest <= columns.parse().unwrap(), "{option}: {widest} of {columns}");
        }
        assert!(widest(&help(option, "300")) <= 100, "long lines are hard to read");
    }
    let mut place = 0;
    for heading in ["Usage:", "Options:", "Site:", "Photos:", "Access:", "Camera:", "Examples:"] {
        let at = text.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading}"));
        assert!(at >= place, "{heading} in its place");
        place = at;
    }
    let more = text[place..].split("\n\n").last().expect("an end");
    for source in ["man pistream", "/md/", "README.md"] {
        assert!(more.starts_with("More:") && more.contains(source), "{more}");
    }
    let version = run(&["--version"]).stdout;
    assert_eq!(version, concat!("pistream ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(run(&["-V"]).stdout, version);
}

/// A terminal's width is asked of the terminal.
#[test]
fn help_asks_the_terminal_how_wide_it_is() {
    for columns in [50, 80] {
        let line = format!("stty rows 24 cols {columns} && {} --help", binary().display());
        let shown = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .output()
            .expect("start script");
        let text = String::from_utf8_lossy(&shown.stdout).replace('\r', "");
        assert!(shown.status.success() && text.contains("--list-cameras"), "{text}");
        let widest = widest(&text);
        assert!((columns - 20..=columns).contains(&widest), "{widest} of {columns}:\n{text}");
    }
}

#[test]
fn each_option_is_explained_everywhere() {
    let readme = include_str!("../README.md");
    let text = help("--help", "100");
    let command = Config::command();
    let options: Vec<&Arg> = command.get_arguments().collect();
    assert!(options.len() > 20, "the options are there");
    for arg in options {
        let long = arg.get_long().expect("a long name");
        assert!(readme.contains(&format!("`--{long}")), "--{long} is not in README.md");
        assert!(arg.get_help_heading().is_some(), "--{long} is in no group");
        let (_, rest) = text.split_once(&format!("      --{long}")).expect(long);
        let own = rest.split("\n      --").next().unwrap_or_default();
        let sentence = arg.get_help().expect("a help").to_string();
        if let Some(variable) = arg.get_env() {
            assert!(own.contains(&format!("[env: {}]", variable.display())), "{own}");
        }
        // A number or a time has its unit or an example.
        let takes = arg.get_value_names().unwrap_or_default();
        let measure = takes.iter().any(|name| ["N", "TIME", "SIZE", "DEGREES"].contains(&&**name));
        let units = ["second", "photos", "egrees", "served", "quality", "10s", "30s", "500M"];
        let clear = units.iter().any(|unit| sentence.contains(unit)) || long == "max-photos";
        assert!(!measure || !arg.get_action().takes_values() || clear, "--{long}: {sentence}");
    }
}

// ---- addresses ------------------------------------------------------------------------------

fn listening(address: &str) -> Command {
    command(&["--camera", "test", "--listen", address])
}

#[test]
fn who_has_the_port_is_named() {
    let server = Server::start(&["--camera", "test"]);
    let (address, pid) = (server.addr().to_string(), server.pid());
    let holder = format!("pistream (process {pid}) has it; to end that: ");
    refused(listening(&address), 1, &[&address, "in use", &holder, "another port: --listen '127"]);
    // Also by another address of the same port.
    let port = server.addr().port();
    refused(listening(&format!("0.0.0.0:{port}")), 1, &["in use", &holder]);
    refused(listening(&format!("[::]:{port}")), 1, &["in use", &holder, "--listen '[::]:"]);
    server.get("/").expect(200);
    if let Some(command) = as_nobody(&["--camera", "test", "--listen", &address]) {
        let fuser = format!("another program has it; sudo fuser -v {port}/tcp names it");
        refused(command, 1, &[&address, "in use", &fuser]);
    }
    server.stop();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().unwrap();
    let twice = format!("--listen={free}");
    refused(command(&["--camera", "test", &twice, &twice]), 1, &["in use", "names it twice"]);
}

#[test]
fn an_address_that_we_cannot_have_says_which_we_can() {
    refused(listening("192.0.2.1:5000"), 1, &["192.0.2.1:5000", "no interface", "'[::]:5000'"]);
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|first| first.trim() == "1024")
        && let Some(command) = as_nobody(&["--camera", "test", "--listen", "127.0.0.1:81"])
    {
        let parts = ["127.0.0.1:81", "Permission denied", "--listen '127.0.0.1:5000'", "setcap"];
        refused(command, 1, &parts);
    }
    let folder = Folder::new();
    let at = |name: &str| format!("unix:{}/{name}", folder.arg());
    refused(listening(&at("none/socket")), 1, &["none/socket", "make its folder first"]);
    folder.write("file", "");
    refused(listening(&at("file")), 1, &["in use", "a file is there: remove it"]);
    assert!(folder.path().join("file").exists(), "somebody's file");
    refused(listening(&at(&"long".repeat(50))), 1, &["path must be shorter"]);
    let taken = at("socket");
    let _held = UnixListener::bind(folder.path().join("socket")).expect("a socket");
    // What another test is just starting may have it too, until it is a program of its own.
    let holder = format!("(process {})", std::process::id());
    refused(listening(&taken), 1, &["in use", &holder, "or take another path"]);
    if let Some(command) = as_nobody(&["--listen", &at("mine")]) {
        refused(command, 1, &["Permission denied", "may write into"]);
    }
}

#[test]
fn two_programs_share_a_folder_of_photos_and_nothing_else() {
    let pic = Folder::new();
    let args = ["--camera", "test", "--pic", pic.arg()];
    let (one, other) = (Server::start(&args), Server::start(&args));
    let mut photos = 0;
    for server in [&one, &other, &one, &other] {
        post_photo(server).expect(201);
        photos += 1;
    }
    let saved = || {
        let entries = fs::read_dir(pic.path()).expect("the folder").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".jpg")).count()
    };
    assert_eq!(saved(), photos);
    for server in [one, other] {
        assert_eq!(server.complaints(), [""; 0]);
        server.stop();
    }
    assert_eq!(saved(), photos);
}

// ---- folders --------------------------------------------------------------------------------

#[test]
fn a_folder_of_photos_that_cannot_be_is_one_line() {
    let folder = Folder::new();
    let file = folder.write("file", "").display().to_string();
    let with = |pic: &str| command(&["--camera", "test", "--listen", "127.0.0.1:0", "--pic", pic]);
    refused(with(&file), 1, &[&file, "Not a directory", "a file is in its place"]);
    let below = format!("{file}/pic");
    refused(with(&below), 1, &["make the folder", &below, "a file is in its place"]);
    refused(with("/proc/pic"), 1, &["make the folder /proc/pic"]);
    if let Some(command) = as_nobody(&["--camera", "test", "--listen", "127.0.0.1:0"]) {
        // Where it was started, in somebody else's folder.
        refused(command, 1, &["make the folder pic: Permission denied", "must belong to the user"]);
    }
}

#[test]
fn a_folder_of_photos_that_is_closed_costs_the_photos_only() {
    let pic = Folder::new();
    let args = ["--camera", "test", "--listen", "127.0.0.1:0", "--pic", pic.arg()];
    let Some(command) = as_nobody(&args) else { return };
    let server = Server::start_command(command);
    let line = server.wait_for_log("write photos into", PATIENCE);
    assert!(line.contains(pic.arg()) && line.contains("must belong to the user"), "{line}");
    decode(&server.get("/snapshot").expect(200).body);
    for path in ["/", "/gallery", "/status"] {
        server.get(path).expect(200);
    }
    let refusal = post_photo(&server);
    assert!(refusal.status >= 500 && refusal.text().contains("not saved"), "{refusal:?}");
    // As soon as it may, it does.
    fs::set_permissions(pic.path(), Permissions::from_mode(0o777)).expect("a mode");
    post_photo(&server).expect(201);
    server.stop();
}

#[test]
fn folders_of_pages_that_are_not_there_are_said_and_the_site_goes_on() {
    let folder = Folder::new();
    let file = folder.write("file", "").display().to_string();
    let missing = folder.path().join("typo").display().to_string();
    let server = Server::start(&["--camera", "test", "--www", &missing, "--md", &file]);
    for (option, path, reason) in
        [("--www", &missing, "No such file"), ("--md", &file, "Not a directory")]
    {
        let line = server.wait_for_log(&format!("make the folder of {option}"), PATIENCE);
        assert!(line.contains(path.as_str()) && line.contains(reason), "{line}");
    }
    server.get("/").expect(200);
    assert!(server.get("/md/").status < 500);
    assert_eq!(server.complaints().len(), 2, "{:?}", server.complaints());
    server.stop();
    // Where they usually are, they need not be.
    let server = Server::start(&["--camera", "test"]);
    server.get("/").expect(200);
    assert!(server.get("/md/").status < 500);
    assert_eq!(server.complaints(), [""; 0]);
    server.stop();
    let (closed, pic) = (Folder::new(), open_folder());
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).expect("a mode");
    let listen = ["--camera", "test", "--listen", "127.0.0.1:0", "--pic", pic.arg()];
    let Some(command) = as_nobody(&[&listen[..], &["--www", closed.arg()]].concat()) else {
        return;
    };
    let server = Server::start_command(command);
    let line = server.wait_for_log("the folder of --www", PATIENCE);
    assert!(line.contains("Permission denied") && line.contains("let the user"), "{line}");
    decode(&server.get("/snapshot").expect(200).body);
    server.stop();
}

// ---- cameras --------------------------------------------------------------------------------

#[test]
fn what_can_never_be_a_camera_is_refused() {
    let folder = Folder::new();
    let file = folder.write("film.mjpg", "").display().to_string();
    let with = |camera: &str| command(&["--listen", "127.0.0.1:0", "--camera", camera]);
    refused(with(folder.arg()), 1, &[folder.arg(), "it is a folder and no camera"]);
    let line = refused(with(&file), 1, &[&file, "it is a file and no camera"]);
    assert!(Path::new("/dev/video0").exists() || line.contains("--list-cameras"), "{line}");
}

#[test]
fn a_camera_that_is_not_there_is_waited_for_and_said_once() {
    for (camera, reason) in [
        ("/dev/video-that-is-not-there", "No such file or directory; "),
        ("/dev/null", "Inappropriate ioctl for device; "),
    ] {
        let server = Server::start(&["--camera", camera]);
        let line = server.wait_for_log("WARN  camera: ", PATIENCE);
        assert!(line.contains(camera) && line.contains(reason), "{line}");
        let remedy = line.split(reason).nth(1).expect(reason);
        assert!(remedy.contains("--list-cameras") || remedy.contains("here is"), "{line}");
        let reply = server.get("/snapshot").expect(503);
        assert!(reply.text().contains(remedy), "{}", reply.text());
        assert_eq!(server.complaints().len(), 1, "{:?}", server.complaints());
        server.stop();
    }
}

/// The guest is a PC that runs this machine's programs.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kernel {
    use std::io::{self, Write};
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::fs::chown;
    use std::process::Child;
    use std::thread::{self, JoinHandle};

    use super::util::guest::{self, UsbCamera, nodes};
    use super::util::until;
    use super::*;

    /// vivid with an output beside its camera, and the USB camera.
    const DEVICES: [&str; 3] = ["vivid:node_types=257:num_inputs=1", "vhci-hcd", "uvcvideo"];

    #[test]
    fn a_camera_that_cannot_be_used_says_why_and_what_to_do() {
        guest::run(&DEVICES, || {
            let camera = UsbCamera::plugged("Rig", &[]);
            let node = camera.node();
            let output = nodes("vivid-000-vid-out").pop().expect("an output");
            what_is_no_camera_tells_which_there_are(&camera.metadata_node(), &node);
            what_is_no_camera_tells_which_there_are(&output, &node);
            what_is_no_camera_tells_which_there_are(Path::new("/dev/video99"), &node);
            whoever_has_the_camera_is_named(&node);
            the_first_of_two_of_us_has_the_camera(&node);
            whose_camera_it_is_not_is_told_which_group_to_join(&node);
        });
    }

    fn what_is_no_camera_tells_which_there_are(wrong: &Path, node: &Path) {
        let server = Server::start(&["--camera", &wrong.display().to_string()]);
        let line = server.wait_for_log("WARN  camera: ", PATIENCE);
        println!("{line}");
        let (wrong, node) = (wrong.display().to_string(), node.display().to_string());
        assert!(line.contains(&wrong), "{line}");
        let here = line.split("; here is ").nth(1).expect("which there are");
        assert!(here.contains(&node) && here.contains("uvcvideo"), "{line}");
        assert!(!here.contains(&wrong) && here.contains(" and /dev/video"), "{line}");
        server.stop();
    }

    /// Somebody who watches, and takes all that comes, until dropped.
    struct Watcher(TcpStream, Option<JoinHandle<()>>);

    impl Watcher {
        fn of(server: &Server) -> Watcher {
            let mut socket = TcpStream::connect(server.addr()).expect("connect");
            socket.write_all(b"GET /video_feed HTTP/1.0\r\n\r\n").expect("ask");
            let mut reader = socket.try_clone().expect("a second descriptor");
            let read = move || drop(io::copy(&mut reader, &mut io::sink()));
            Watcher(socket, Some(thread::spawn(read)))
        }
    }

    impl Drop for Watcher {
        fn drop(&mut self) {
            let _ = self.0.shutdown(Shutdown::Both);
            let _ = self.1.take().map(JoinHandle::join);
        }
    }

    /// Another program that has the camera until it is dropped.
    struct Other(Child);

    impl Other {
        fn streaming(node: &Path) -> Other {
            let node = node.to_str().expect("a plain path");
            let child = Command::new("v4l2-ctl")
                .args(["-d", node, "--stream-mmap", "--stream-count=100000"])
                .args(["--stream-to=/tmp/frames"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start v4l2-ctl");
            let other = Other(child);
            let begun = || fs::metadata("/tmp/frames").ok().filter(|file| file.len() > 0);
            assert!(until(PATIENCE, begun).is_some(), "the other program does not begin");
            other
        }
    }

    impl Drop for Other {
        /// When it has ended, nobody has the camera.
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
            let _ = fs::remove_file("/tmp/frames");
        }
    }

    /// Waits for `text` in the log, and finds it in all places where somebody may look.
    #[track_caller]
    fn expect_reason(server: &Server, text: &str) {
        let line = server.wait_for_log(text, PATIENCE);
        println!("{line}");
        let reply = server.get("/snapshot").expect(503);
        assert!(reply.text().contains(text), "{}", reply.text());
        let status = server.get("/status").expect(200).text();
        assert!(status.contains(text), "{status}");
        assert_eq!(server.complaints().len(), 1, "said once: {:?}", server.complaints());
    }

    fn whoever_has_the_camera_is_named(node: &Path) {
        let name = node.display().to_string();
        let other = Other::streaming(node);
        let server = Server::start(&["--camera", &name, "--idle-off", "100ms"]);
        let watcher = Watcher::of(&server);
        let pid = other.0.id();
        let holder = format!("v4l2-ctl (process {pid}) has it; to end that: kill {pid}");
        expect_reason(&server, &format!("Device or resource busy; {holder}"));
        drop(other);
        server.wait_for_log("camera back after", PATIENCE);
        // Another one has another number.
        drop(watcher);
        server.wait_for_log("stopped after", PATIENCE);
        let free = until(PATIENCE, || (!server.holds(node)).then_some(()));
        assert!(free.is_some(), "{name} is still held");
        let other = Other::streaming(node);
        let _watcher = Watcher::of(&server);
        server.wait_for_log(&format!("v4l2-ctl (process {}) has it", other.0.id()), PATIENCE);
        server.stop();

        // Who may not look into the other program is told how to find out.
        fs::set_permissions(node, Permissions::from_mode(0o666)).expect("a mode");
        let pic = open_folder();
        let args = ["--camera", &name, "--listen", "127.0.0.1:0", "--pic", pic.arg()];
        let server = Server::start_command(as_nobody(&args).expect("root of the guest"));
        let _watcher = Watcher::of(&server);
        expect_reason(&server, &format!("another program has it; sudo fuser -v {name} names it"));
        server.stop();
    }

    fn the_first_of_two_of_us_has_the_camera(node: &Path) {
        let name = node.display().to_string();
        let free = |server: &Server| until(PATIENCE, || (!server.holds(node)).then_some(()));
        let first = Server::start(&["--camera", &name, "--idle-off", "100ms"]);
        let watcher = Watcher::of(&first);
        decode(&first.get("/snapshot").expect(200).body);
        let second = Server::start(&["--camera", &name]);
        let _waiting = Watcher::of(&second);
        expect_reason(&second, &format!("pistream (process {}) has it", first.pid()));
        decode(&first.get("/snapshot").expect(200).body);
        // It is handed over.
        drop(watcher);
        assert!(free(&first).is_some(), "{name} is still held");
        second.wait_for_log("camera back after", PATIENCE);
        assert_eq!(first.complaints(), [""; 0]);
        first.stop();
        second.stop();
    }

    fn whose_camera_it_is_not_is_told_which_group_to_join(node: &Path) {
        let groups = fs::read_to_string("/etc/group").expect("the groups");
        let video = groups.lines().find_map(|line| line.strip_prefix("video:x:")).expect("video");
        let video = video.split(':').next().and_then(|number| number.parse().ok());
        chown(node, Some(0), video).expect("the group video");
        fs::set_permissions(node, Permissions::from_mode(0o660)).expect("a mode");
        let pic = open_folder();
        let name = node.display().to_string();
        let args = ["--camera", &name, "--listen", "127.0.0.1:0", "--pic", pic.arg()];
        let server = Server::start_command(as_nobody(&args).expect("root of the guest"));
        let _watcher = Watcher::of(&server);
        let way = "the group video may: sudo usermod -aG video nobody; then log in again";
        expect_reason(&server, &format!("open {name}: Permission denied; {way}"));
        let list = as_nobody(&["--list-cameras"]).expect("root of the guest");
        let list = run_command(list).stdout;
        assert!(list.contains(&format!("open {name}: Permission denied; {way}")), "{list}");
        // It need not be started again for that if the node itself is opened.
        fs::set_permissions(node, Permissions::from_mode(0o666)).expect("a mode");
        server.wait_for_log("camera back after", PATIENCE);
        server.stop();
    }
}
