//! The Debian package: what it says of the options, what its service may do, and its life under a
//! real systemd: installed, used, disturbed, upgraded, removed.
//!
//! `scripts/test-package` builds packages and guest and runs this; without it, the tests that need
//! them say that they were skipped.

mod util;

// The same that scripts/package writes with.
#[allow(dead_code)]
#[path = "../scripts/manual.rs"]
mod manual;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use clap::{Arg, CommandFactory};
use clap_complete::Shell;
use pistream::config::Config;
use util::console::WEBCAM;
use util::debian::{self, Debian};
use util::{Folder, PATIENCE, Stream, binary, client, command, decode, get, until};

const UNIT: &str = include_str!("../scripts/debian/pistream.service");
/// What `systemd-analyze security` may say at most: 0 is safest, 10 is unsafe.
const EXPOSURE_MAX: f64 = 2.5;
/// In the unit.
const WATCHDOG: Duration = Duration::from_secs(30);
const VERSION: &str = env!("CARGO_PKG_VERSION");

// ---- what the package says ------------------------------------------------------------------

/// The long names of all options, and their variables.
fn options() -> Vec<(String, Option<String>)> {
    let mut command = Config::command();
    command.build();
    let of = |arg: &Arg| {
        let variable = arg.get_env().map(|name| name.to_str().expect("a plain name").to_owned());
        Some((arg.get_long()?.to_owned(), variable))
    };
    let options: Vec<_> = command.get_arguments().filter_map(of).collect();
    assert!(options.len() > 15, "the options are there");
    options
}

/// Whether a program is there; a test that needs it says that it is left out.
fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|found| found.status.success());
    if !found {
        println!("left out: there is no {program} here");
    }
    found
}

#[track_caller]
fn said(output: Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_manual_page_has_every_option_and_reads_well() {
    let source = manual::page().expect("a manual page");
    let plain = source.replace('\\', "");
    assert!(plain.contains("\npistream - A camera site in one small program"), "for whatis(1)");
    for (long, variable) in options() {
        assert!(plain.contains(&format!("--{long}")), "--{long} is missing");
        assert!(variable.is_none_or(|name| plain.contains(&name)), "--{long} has its variable");
    }
    if !is_there("man") {
        return;
    }
    let folder = Folder::new();
    let page = folder.write("pistream.1", &source);
    let mut man = Command::new("man");
    man.args(["--local-file", "--warnings", "--encoding=UTF-8"]).arg(page);
    man.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").env("MAN_KEEP_STDERR", "1");
    let text = said(man.output().expect("start man"));
    println!("{text}");
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "ENVIRONMENT",
        "FILES",
        "SIGNALS",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ] {
        assert_eq!(text.lines().filter(|line| *line == section).count(), 1, "{section}");
    }
}

#[test]
fn each_shell_completes_every_option() {
    for (shell, name) in manual::SHELLS {
        let script = String::from_utf8(manual::completions(shell)).expect("text");
        for (long, _) in options() {
            let word =
                if shell == Shell::Fish { format!("-l {long}") } else { format!("--{long}") };
            assert!(script.contains(&word), "{name} has no {word}");
        }
    }
    let folder = Folder::new();
    folder.write("pistream.bash", manual::completions(Shell::Bash));
    let mut bash = Command::new("bash");
    bash.current_dir(folder.path()).args(["--norc", "-c"]).arg(
        ". ./pistream.bash && COMP_WORDS=(pistream --li) COMP_CWORD=1 && \
         _pistream pistream --li pistream && echo ${COMPREPLY[@]}",
    );
    let completed = said(bash.output().expect("start bash"));
    let completed: BTreeSet<&str> = completed.split_whitespace().collect();
    assert_eq!(completed, BTreeSet::from(["--listen", "--list-cameras"]));
}

/// Each option stands there once, as a comment; with the comment's sign taken away, the program
/// takes it.
#[test]
fn the_service_has_every_option_in_its_file() {
    let text = manual::defaults();
    println!("{text}");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "all are comments");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "on any terminal");
    let assignments: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    let names: BTreeSet<&str> = assignments.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), assignments.len(), "each once");
    let options = options();
    let variables = options.iter().filter_map(|(_, variable)| variable.as_deref());
    assert_eq!(names, variables.chain(["RUST_LOG"]).collect());
    assert!(assignments.contains(&("PISTREAM_LISTEN", "[::]:5000")));
    let mut program = command(&["--list-cameras"]);
    program.envs(assignments.into_iter().filter(|(_, value)| !value.is_empty()));
    assert!(program.output().expect("start the program").status.success());
}

/// The unit for the program that is tested, in a folder of its own.
fn unit() -> (Folder, std::path::PathBuf) {
    let folder = Folder::new();
    let program = binary().canonicalize().expect("the program");
    let unit = UNIT.replace("/usr/bin/pistream", program.to_str().expect("a plain path"));
    let path = folder.write("pistream.service", unit);
    (folder, path)
}

#[test]
fn the_unit_is_understood_and_its_sandbox_is_tight() {
    assert!(UNIT.contains(&format!("WatchdogSec={}", WATCHDOG.as_secs())));
    if !is_there("systemd-analyze") {
        return;
    }
    let (_folder, unit) = unit();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    assert_eq!(said(verify.expect("start systemd-analyze")), "");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]).arg(&unit);
    let text = said(security.output().expect("start systemd-analyze"));
    assert!(exposure(&text) <= EXPOSURE_MAX, "{text}");
}

/// The number in "→ Overall exposure level for pistream.service: 2.0 OK".
#[track_caller]
fn exposure(text: &str) -> f64 {
    let line = text.lines().find(|line| line.contains("Overall exposure level")).expect("a sum");
    println!("{line}");
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number in {line:?}"))
}

#[test]
fn the_maintainer_scripts_are_scripts() {
    let checked = Command::new("sh")
        .args(["-n", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/debian/postrm")])
        .output();
    said(checked.expect("start sh"));
}

// ---- its life -------------------------------------------------------------------------------

const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install";
const UNPLUG: &str = "echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind";
const PLUG: &str = "echo vivid.0 > /sys/bus/platform/drivers/vivid/bind";
const PICTURES: &str = "/var/lib/pistream/pic";

/// The package of this revision, as the guest finds it.
fn package(revision: u32) -> String {
    format!("/files/pistream_{VERSION}-{revision}_amd64.deb")
}

/// The service's main process; it runs.
#[track_caller]
fn pid(guest: &mut Debian) -> String {
    let pid = guest.run("systemctl is-active -q pistream && systemctl show -P MainPID pistream");
    assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1), "{pid}");
    pid
}

/// Waits until the service is served by another process than `old`.
#[track_caller]
fn wait_for_another(guest: &mut Debian, old: &str, limit: Duration) {
    let line = format!(
        "[ \"$(systemctl show -P MainPID pistream)\" != {old} ] && systemctl is-active -q pistream"
    );
    guest.wait_within(&line, limit);
}

/// What `/status` says of the camera.
fn camera(guest: &Debian) -> serde_json::Value {
    let reply = get(guest.addr(), "/status").expect(200);
    let status: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    status["camera"].clone()
}

/// Watches until a frame of vivid's has come, and some more.
#[track_caller]
fn expect_vivid(guest: &Debian) {
    let mut stream = Stream::open(guest.addr(), "/video_feed");
    let shown = until(Duration::from_secs(60), || {
        stream.frame();
        let camera = camera(guest);
        let device = camera["device"].as_str().unwrap_or_default();
        (camera["online"] == true && device.contains("vivid")).then_some(())
    });
    assert!(shown.is_some(), "no picture of the camera: {}", camera(guest));
    for _ in 0..5 {
        let (width, height, _) = decode(&stream.frame().jpeg);
        assert_eq!((width, height), (640, 480));
    }
}

/// Takes a photo; its name.
#[track_caller]
fn press(guest: &Debian) -> String {
    client::press(guest.addr())["name"].as_str().expect("a name").to_owned()
}

/// A machine with a camera on which the package is installed.
#[track_caller]
fn with_camera() -> Option<Debian> {
    let (packages, machine) = debian::built()?;
    let mut guest = Debian::boot(&machine, &packages);
    guest.run(&format!("{INSTALL} {}", package(1)));
    guest.run(WEBCAM);
    expect_vivid(&guest);
    Some(guest)
}

#[test]
fn the_package_is_installed_used_upgraded_and_removed() {
    let Some((packages, machine)) = debian::built() else { return };
    let mut guest = Debian::boot(&machine, &packages);
    let guest = &mut guest;

    println!("{}", guest.run(&format!("{INSTALL} {}", package(1))));
    let first = pid(guest);
    assert_eq!(guest.run("systemctl is-enabled pistream"), "enabled");
    get(guest.addr(), "/").expect(200);
    assert_eq!(camera(guest)["test"], true, "without a camera, the test picture");
    guest.run(WEBCAM);
    expect_vivid(guest);
    assert_eq!(pid(guest), first, "a camera is taken up without a new start");

    let photo = press(guest);
    expect_files(guest, &photo);
    expect_sandbox(guest, &first);

    println!("--- upgrade");
    let defaults = "/etc/default/pistream";
    guest.run(&format!("sed -i 's/^#PISTREAM_QUALITY=.*/PISTREAM_QUALITY=71/' {defaults}"));
    println!("{}", guest.run(&format!("{INSTALL} {}", package(2))));
    assert_ne!(pid(guest), first, "the new program serves");
    let version = guest.run("dpkg-query --show --showformat '${Version}' pistream");
    assert_eq!(version, format!("{VERSION}-2"));
    guest.run(&format!("grep -qx PISTREAM_QUALITY=71 {defaults}"));
    let process = pid(guest);
    guest.run(&format!("tr '\\0' '\\n' < /proc/{process}/environ | grep -qx PISTREAM_QUALITY=71"));
    expect_vivid(guest);
    assert!(get(guest.addr(), "/gallery").expect(200).text().contains(&photo));

    println!("--- removal");
    guest.run("apt-get -q -y remove pistream");
    assert_eq!(guest.try_run("systemctl is-active pistream").0, "inactive");
    guest.run(&format!("[ ! -e /proc/{process} ] && [ ! -e /usr/bin/pistream ]"));
    guest.run(&format!("[ -s {PICTURES}/{photo} ] && [ -s {defaults} ]"));
    guest.run(&format!("{UNPLUG}; {PLUG}; sleep 3; systemctl is-system-running"));
    println!("--- purge");
    let said = guest.run("apt-get -q -y purge pistream 2>&1");
    assert!(said.contains("photos, pages and notes stay in /var/lib/pistream"), "{said}");
    guest.run(&format!("[ -s {PICTURES}/{photo} ] && [ ! -e {defaults} ]"));
    guest.run(&format!("[ ! -e {PICTURES}/.thumbnails ]"));
    println!("--- again");
    guest.run(&format!("{INSTALL} {}", package(2)));
    pid(guest);
    expect_vivid(guest);
    assert!(get(guest.addr(), "/gallery").expect(200).text().contains(&photo));
    assert_eq!(guest.run(&format!("stat -c %U {PICTURES}/{photo}")), "pistream");
    println!("--- and purged without anything to keep");
    guest.run(&format!("rm -r {PICTURES}/*.jpg /var/lib/pistream/www/* /var/lib/pistream/md/*.md"));
    let said = guest.run("apt-get -q -y purge pistream 2>&1");
    assert!(!said.contains("stay in"), "{said}");
    guest.run("[ ! -e /var/lib/pistream ]");
}

/// Photos, pages, notes, manual page and completions are where one looks for them.
#[track_caller]
fn expect_files(guest: &mut Debian, photo: &str) {
    let kept = guest.run(&format!("stat -c '%U %G %a' {PICTURES}/{photo} {PICTURES}"));
    assert_eq!(kept, "pistream pistream 640\npistream pistream 750");
    guest.run("echo '<p>mine</p>' > /var/lib/pistream/www/mine.html");
    guest.run("printf '# My note\\n' > /var/lib/pistream/md/mine.md");
    let addr = guest.addr();
    assert!(get(addr, "/mine.html").expect(200).text().contains("mine"));
    assert!(get(addr, "/md/mine").expect(200).text().contains("My note</h1>"));
    assert!(get(addr, "/md/").expect(200).text().contains("manual"));
    assert!(get(addr, "/md/manual/pi").expect(200).text().contains("Raspberry Pi"));
    get(addr, "/md/manual/live.png").expect(200);
    guest.run("cmp /usr/share/pistream/www/app.js /usr/share/pistream/www/app.js");
    assert!(guest.run("man pistream | cat").contains("PISTREAM_LISTEN"));
    assert!(guest.run("pistream --version").contains(VERSION));
    assert!(guest.run("pistream --list-cameras").contains("vivid"));
    let completed = guest.run(
        "bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader pistream; \
         complete -p pistream'",
    );
    assert!(completed.contains("_pistream"), "{completed}");
}

/// The process is as confined as the unit says.
#[track_caller]
fn expect_sandbox(guest: &mut Debian, process: &str) {
    let text = guest.run("systemd-analyze security --no-pager pistream.service");
    assert!(exposure(&text) <= EXPOSURE_MAX, "{text}");
    let status = guest.run(&format!("cat /proc/{process}/status"));
    let video = guest.run("getent group video | cut -d : -f 3");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:")[0], guest.run("id -u pistream"));
    assert!(field("Groups:").contains(&video), "{status}");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (vec!["1".into()], vec!["2".into()]));
    assert_eq!(field("CapEff:"), ["0000000000000400"], "to listen on port 80, and no more");
    // What it does not need, it cannot reach; what it needs, it can.
    let inside = format!("nsenter -m -t {process} setpriv --reuid pistream --clear-groups");
    for forbidden in ["touch /var/lib/pistream/www/x", "touch /etc/x", "ls /home", "ls /root"] {
        let (said, status) = guest.try_run(&format!("{inside} {forbidden}"));
        assert_ne!(status, 0, "{forbidden}: {said}");
    }
    guest.run(&format!("{inside} test -w {PICTURES}"));
    // The thread that makes smaller pictures may stand back.
    let mut stream = Stream::open(guest.addr(), "/video_feed?width=160");
    stream.frame();
    let nice = guest.run(&format!("ps -L -o ni= -p {process}"));
    assert!(nice.lines().any(|line| line.trim() == "10"), "{nice}");
    let says = guest.run("systemctl show -P StatusText pistream");
    assert!(says.contains("http://[::]:5000/"), "{says}");
    let journal = guest.run("journalctl --no-pager -o cat -u pistream");
    let own: Vec<&str> =
        journal.lines().filter(|line| !line.contains("pistream.service")).collect();
    assert_eq!(own, Vec::<&str>::new(), "the log is quiet");
}

#[test]
fn a_service_that_hangs_or_dies_is_started_again_and_an_idle_one_is_not() {
    let Some(mut guest) = with_camera() else { return };
    let guest = &mut guest;
    let first = pid(guest);
    expect_nothing_written(guest);
    assert_eq!(pid(guest), first, "a minute of rest, longer than the watchdog waits");

    println!("--- the loop stands still");
    guest.run(&format!("kill -STOP {first}"));
    wait_for_another(guest, &first, WATCHDOG * 2 + PATIENCE);
    guest.run("journalctl --no-pager -u pistream | grep -q 'Watchdog timeout'");
    expect_vivid(guest);
    for signal in ["KILL", "ABRT"] {
        println!("--- {signal}");
        let process = pid(guest);
        guest.run(&format!("kill -{signal} {process}"));
        wait_for_another(guest, &process, WATCHDOG);
    }
    expect_vivid(guest);
    println!("--- ended by itself");
    let process = pid(guest);
    guest.run(&format!("kill -TERM {process}"));
    wait_for_another(guest, &process, WATCHDOG);
    expect_faults_of_the_operator(guest);
}

/// A camera is watched, then nobody is there, longer than it takes to release it and than the
/// watchdog waits. Nothing reaches the disk, and no file is changed.
#[track_caller]
fn expect_nothing_written(guest: &mut Debian) {
    let written = |guest: &mut Debian| {
        guest.run("sync; awk '{ print $7 }' /sys/block/vda/stat").parse::<u64>().expect("sectors")
    };
    let visit = |guest: &Debian| {
        for page in ["/", "/gallery", "/status", "/md/", "/snapshot"] {
            get(guest.addr(), page).expect(200);
        }
    };
    // What the machine does by itself now and then is not the question, nor that the kernel notes
    // once a day that a file was read.
    guest.run("systemctl stop '*.timer'");
    visit(guest);
    written(guest);
    guest.run("touch /run/before; sleep 8");
    let before = written(guest);
    let mut stream = Stream::open(guest.addr(), "/video_feed");
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        stream.frame();
    }
    drop(stream);
    visit(guest);
    std::thread::sleep(Duration::from_secs(40));
    let sectors = written(guest) - before;
    let changed = guest.run("find / -xdev -type f -newer /run/before");
    println!("{sectors} sectors written; changed: {changed:?}");
    assert_eq!((sectors, &*changed), (0, ""));
    let process = pid(guest);
    let own = guest.run(&format!("sed -n 's/^write_bytes: //p' /proc/{process}/io"));
    assert_eq!(own, "0");
}

/// A wrong option is said once; a folder elsewhere needs no more than what the file says.
#[track_caller]
fn expect_faults_of_the_operator(guest: &mut Debian) {
    println!("--- a wrong option");
    let defaults = "/etc/default/pistream";
    guest.run(&format!("echo PISTREAM_FPS=many >> {defaults}; systemctl restart pistream || :"));
    guest.wait_for("[ $(systemctl show -P ActiveState pistream) = failed ]");
    guest.run("journalctl --no-pager -u pistream | grep -q 'PISTREAM_FPS\\|--fps'");
    guest.run("sleep 8; [ $(systemctl show -P ActiveState pistream) = failed ]");
    guest.run(&format!("sed -i /PISTREAM_FPS=many/d {defaults}; systemctl restart pistream"));

    println!("--- photos elsewhere");
    guest.run("mkdir -p /srv/photos /data && chown pistream /srv/photos");
    guest.run(&format!("echo PISTREAM_PIC=/srv/photos >> {defaults}; systemctl restart pistream"));
    let photo = press(guest);
    guest.run(&format!("[ -s /srv/photos/{photo} ]"));
    guest.run(&format!("sed -i s:=/srv/photos:=/data/photos: {defaults}"));
    guest.run("systemctl restart pistream || :");
    guest.wait_for("journalctl --no-pager -u pistream | grep -q 'ReadWritePaths='");
    guest.run("mkdir -p /data/photos /etc/systemd/system/pistream.service.d");
    guest.run("chown pistream /data/photos");
    guest.run(
        "printf '[Service]\\nReadWritePaths=/data/photos\\n' \
         > /etc/systemd/system/pistream.service.d/photos.conf; systemctl daemon-reload",
    );
    guest.run("systemctl restart pistream");
    let photo = press(guest);
    guest.run(&format!("[ -s /data/photos/{photo} ]"));
    println!("--- port 80");
    guest.run(&format!("echo PISTREAM_LISTEN=[::]:80,[::]:5000 >> {defaults}"));
    guest.run("systemctl restart pistream; ss -Hltn | grep -q ':80 '");
    pid(guest);
}

#[test]
fn a_camera_that_comes_starts_the_service_unless_it_is_disabled() {
    let Some(mut guest) = with_camera() else { return };
    let guest = &mut guest;
    let first = pid(guest);

    println!("--- unplugged and plugged");
    guest.run(UNPLUG);
    let gone = until(PATIENCE, || (camera(guest)["online"] == false).then_some(()));
    assert!(gone.is_some(), "{}", camera(guest));
    guest.run(PLUG);
    expect_vivid(guest);
    assert_eq!(pid(guest), first, "it has its camera back without a new start");

    println!("--- stopped: a camera starts it");
    guest.run(&format!("systemctl stop pistream; {UNPLUG}"));
    guest.wait_for("[ ! -e /dev/video0 ]");
    assert_eq!(guest.try_run("systemctl is-active pistream").0, "inactive");
    guest.run(PLUG);
    guest.wait_for("systemctl is-active -q pistream");
    expect_vivid(guest);

    println!("--- disabled: it stays so");
    guest.run(&format!("systemctl disable --now pistream; {UNPLUG}"));
    guest.wait_for("[ ! -e /dev/video0 ]");
    guest.run(&format!("{PLUG}; sleep 5"));
    assert_eq!(guest.try_run("systemctl is-active pistream").0, "inactive");
    guest.run("systemctl enable --now pistream");
    expect_vivid(guest);
}

// ---- the other architectures ----------------------------------------------------------------

/// Fields of a package's control file.
fn field(package: &Path, name: &str) -> String {
    let output = Command::new("dpkg-deb").arg("--field").arg(package).arg(name).output();
    said(output.expect("start dpkg-deb")).trim().to_owned()
}

#[test]
fn each_architecture_has_a_program_that_runs() {
    let Some((packages, _)) = debian::built() else { return };
    // The second looks for its C library where the cross compiler has it.
    let arm64 = "qemu-aarch64-static -L /usr/aarch64-linux-gnu";
    for (architecture, emulator, depends) in [
        ("amd64", "env", "libc6 (>= 2."),
        ("arm64", arm64, "libc6 (>= 2."),
        ("armhf", "qemu-arm-static -cpu arm1176", "systemd"),
    ] {
        let package = packages.join(format!("pistream_{VERSION}-1_{architecture}.deb"));
        assert_eq!(field(&package, "Architecture"), architecture);
        let needs = field(&package, "Depends");
        assert!(needs.starts_with(depends) && needs.contains("systemd"), "{needs}");
        let folder = Folder::new();
        let unpack = Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder.path()).output();
        said(unpack.expect("start dpkg-deb"));
        for file in [
            "etc/default/pistream",
            "usr/lib/systemd/system/pistream.service",
            "usr/lib/udev/rules.d/60-pistream.rules",
            "usr/share/doc/pistream/copyright",
            "usr/share/man/man1/pistream.1.gz",
            "usr/share/pistream/md/index.md",
            "usr/share/pistream/www/index.html",
        ] {
            assert!(folder.path().join(file).is_file(), "{architecture}: {file}");
        }
        let bytes = fs::metadata(&package).expect("the package").len();
        println!("{architecture}: {bytes} bytes, needs {needs}");
        let program = folder.path().join("usr/bin/pistream");
        let mut words = emulator.split(' ');
        let mut run = Command::new(words.next().expect("a word"));
        run.args(words).arg(program);
        let version = said(run.arg("--version").output().expect("start the program"));
        assert_eq!(version.trim(), format!("pistream {VERSION}"));
    }
}

/// Each of them as Debian's own checker sees it.
#[test]
fn lintian_has_nothing_to_say() {
    let Some((packages, _)) = debian::built() else { return };
    for architecture in ["amd64", "arm64", "armhf"] {
        let package = packages.join(format!("pistream_{VERSION}-1_{architecture}.deb"));
        let checked = Command::new("lintian").arg("--allow-root").arg(package).output();
        let checked = checked.expect("start lintian");
        assert_eq!(String::from_utf8_lossy(&checked.stdout), "", "{architecture}");
        said(checked);
    }
}
