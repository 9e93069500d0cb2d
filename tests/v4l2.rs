//! The real binary on the kernel's own video devices, in the guest of `tests/guest`: vivid for raw
//! formats and for drivers that fail, the software USB camera for MJPEG, for unplugging and for
//! damaged frames. What counts is what a viewer sees who stays connected, and what photos show.
//!
//! Each test boots a guest of its own; what belongs together shares one.

// The guest is a PC that runs this machine's programs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "v4l2/faults.rs"]
mod faults;
#[path = "v4l2/power.rs"]
mod power;
mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File, Permissions};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use util::client::try_decode;
use util::guest::{self, UsbCamera, v4l2_ctl, vivid};
use util::stamp::{self, Stamp};
use util::{Client, Folder, PATIENCE, Reply, Server, Stream, command, decode, median, run, until};

const VIVID: [&str; 1] = ["vivid:node_types=1:num_inputs=1"];
const USB: [&str; 2] = ["vhci-hcd", "uvcvideo"];
/// uvcvideo passes damaged frames on, marked as such, where by default it drops them silently.
const USB_WITH_DAMAGED_FRAMES: [&str; 2] = ["vhci-hcd", "uvcvideo:nodrop=1"];

const SECOND: Duration = Duration::from_secs(1);

// ---- raw formats ----------------------------------------------------------------------------

#[test]
fn raw_formats_have_their_size_colours_and_rate() {
    guest::run(&VIVID, || {
        show_bars();
        for format in ["yuyv", "nv12", "rgb3", "grey", "uyvy", "yu12", "bgr3", "auto"] {
            let camera = ["--camera", "/dev/video0", "--size", "640x480", "--fps", "10"];
            let server = Server::start(&[&camera[..], &["--format", format]].concat());
            let viewer = Viewer::open(&server, unstamped);
            let rate = viewer.wait("ten pictures a second", 0, ten_a_second);
            let seen = viewer.leave();
            println!("{format}: {rate:.2} fps, {} bytes a picture", seen[0].jpeg.len());
            for sight in [&seen[0], &seen[5], &seen[10]] {
                let (width, height, pixels) = decode(&sight.jpeg);
                assert_eq!((width, height), (640, 480), "{format}");
                assert_eq!(bars(width, height, &pixels, format == "grey"), Ok(()), "{format}");
            }
        }
    });
}

/// Vivid's test pattern "75% Colorbar", with no text in it.
fn show_bars() {
    vivid("test_pattern=0");
    vivid("osd_text_mode=2");
}

// ---- MJPEG ----------------------------------------------------------------------------------

#[test]
fn three_hundred_mjpeg_frames_come_through_byte_for_byte() {
    guest::run(&USB, || {
        let mut camera = UsbCamera::plugged("Rig", &[]);
        camera.tell("pad 20000");
        the_list_names_what_there_is(&camera);

        let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "30"]);
        let viewer = Viewer::open(&server, exactly_stamped);
        // All of them, but for moments in which this machine does not let the guest run.
        let frames = viewer.wait_at_most(3 * PATIENCE, "300 frames in a row", 0, |seen| {
            let row = last(seen, 300)?;
            left_out(row).filter(|count| *count <= 3).map(|_| row.to_vec())
        });
        viewer.leave();
        let (rate, left_out) = (rate(&frames), left_out(&frames));
        println!("{rate:.2} fps, {left_out:?} left out, {} bytes each", frames[0].jpeg.len());
        // The camera has 30, 15 and 5; on a busy machine it is late itself.
        assert!((20.0..=32.0).contains(&rate), "30 fps asked, {rate:.1} came");
        let (width, height, _) = decode(&frames[0].jpeg);
        assert_eq!((width, height), (640, 480));
        frames_carry_the_time_of_their_capture(&frames);
        drop(server);

        a_rate_that_the_camera_lacks_is_kept_all_the_same();
        a_size_that_the_camera_lacks_gives_the_nearest();
        a_metadata_node_is_never_taken(&camera);
    });
}

fn the_list_names_what_there_is(camera: &UsbCamera) {
    let (node, metadata_node) = (camera.node(), camera.metadata_node());
    let listed = run(&["--list-cameras"]);
    assert_eq!(listed.status.code(), Some(0), "{}", listed.stderr);
    print!("{}", listed.stdout);
    for part in [&*node.to_string_lossy(), "Rig", "uvcvideo", "MJPG", "YUYV", "640x480", "1280x720"]
    {
        assert!(listed.stdout.contains(part), "no {part} in the list");
    }
    let metadata_node = metadata_node.to_string_lossy();
    let mut lines = listed.stdout.lines().filter(|line| line.contains(&*metadata_node));
    assert!(lines.all(|line| line.contains("not a camera")), "{metadata_node} gives no pictures");
}

fn frames_carry_the_time_of_their_capture(frames: &[Sight]) {
    let seconds = |clock| Duration::try_from(clock_gettime(clock)).expect("after 1970");
    // Reckoned as the kernel does it, from the clock that only goes forward.
    let start = seconds(ClockId::Realtime) - seconds(ClockId::Monotonic);
    let mut delays = Vec::new();
    for frame in frames {
        let stamp = stamp::check(&frame.jpeg).ok().flatten().expect("a whole frame");
        delays.push(frame.captured - (start + stamp.made).as_secs_f64());
    }
    println!("captured {:.1} ms after they were made", median(&delays) * 1000.0);
    // The time is the driver's, of the frame's first packet. A busy machine delays that, and
    // stops us between one clock and the other.
    let wrong = delays.iter().find(|delay| !(-0.1..1.0).contains(*delay));
    assert_eq!(wrong, None, "a wrong X-Timestamp");
    assert!(median(&delays) < 0.05, "times that are not the capture's");
}

/// The camera has 30, 15 and 5 frames a second.
fn a_rate_that_the_camera_lacks_is_kept_all_the_same() {
    let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "10"]);
    let viewer = Viewer::open(&server, exactly_stamped);
    viewer.wait("ten pictures a second", 0, ten_a_second);
    viewer.leave();
}

fn a_size_that_the_camera_lacks_gives_the_nearest() {
    let server = Server::start(&["--camera", "auto", "--size", "700x500"]);
    let viewer = Viewer::open(&server, stamped);
    let first = viewer.live_from(0);
    viewer.leave();
    assert_eq!(decode(&first.jpeg).0, 640, "640x480 is the nearest to 700x500");
    let line = server.wait_for_log("700x500", PATIENCE);
    assert!(line.contains("640x480"), "{line}");
}

/// With the capture node out of sight, what is left of a camera is none.
fn a_metadata_node_is_never_taken(camera: &UsbCamera) {
    let node = camera.node();
    let metadata_node = camera.metadata_node();
    assert!(metadata_node.exists());
    fs::remove_file(&node).expect("hide the capture node");
    let server = Server::start(&["--camera", "auto"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.wait("the test picture", 0, |seen| seen.get(5).map(drop));
    assert!(!holds(&server, &metadata_node), "{} is taken", metadata_node.display());
    let seen = viewer.leave();
    assert_eq!(live(&seen).count(), 0);
}

// ---- what goes wrong with a USB camera ------------------------------------------------------

#[test]
fn damaged_frames_never_reach_a_viewer_who_stays_connected() {
    guest::run(&USB_WITH_DAMAGED_FRAMES, || {
        let mut camera = UsbCamera::plugged("Rig", &[]);
        let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
        let viewer = Viewer::open(&server, stamped);
        viewer.live_from(0);
        for fault in ["truncate", "garbage", "empty", "error", "lost"] {
            frames_are_left_out(&mut camera, &viewer, fault);
        }
        frames_without_tables_get_them(&mut camera, &viewer);
        what_stands_behind_a_frame_is_cut_off(&mut camera, &viewer, "junk");
        what_stands_behind_a_frame_is_cut_off(&mut camera, &viewer, "stale");
        a_short_pause_repeats_the_last_frame_once(&mut camera, &viewer);
        a_long_pause_shows_that_the_signal_is_gone(&mut camera, &server, &viewer);
        a_camera_that_refuses_to_start_is_asked_again(&mut camera, &viewer);
        viewer.leave();
        drop((server, camera));

        // A stall is a matter of bulk endpoints.
        let mut camera = UsbCamera::plugged("Bulk", &["--bulk"]);
        let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
        let viewer = Viewer::open(&server, stamped);
        viewer.live_from(0);
        let mark = viewer.mark();
        let number = camera.tell("stall");
        viewer.wait("frames after the stall", mark, |seen| after(seen, number + 15));
        // It broke a transfer, and the driver said so.
        server.wait_for_log("flagged as damaged", PATIENCE);
        viewer.leave();
    });
}

/// The next frames are spoilt: none of them is shown, those before and behind are.
fn frames_are_left_out(camera: &mut UsbCamera, viewer: &Viewer, fault: &str) {
    const COUNT: u32 = 5;
    let mark = viewer.mark();
    let first = camera.tell(&format!("{fault} {COUNT}"));
    viewer.wait(fault, mark, |seen| after(seen, first + COUNT + 5));
    let seen = viewer.seen_from(mark);
    let spoilt = first..first + COUNT;
    let shown = live(&seen).filter_map(Sight::number).find(|number| spoilt.contains(number));
    assert_eq!(shown, None, "{fault}: a spoilt frame is shown");
    assert_eq!(others(&seen).count(), 0, "{fault}: a moment's fault is no loss of signal");
    let next = live(&seen).filter_map(Sight::number).find(|number| *number >= spoilt.end);
    assert!(next.is_some_and(|number| number < spoilt.end + 3), "{fault}: {spoilt:?}, {next:?}");
}

fn frames_without_tables_get_them(camera: &mut UsbCamera, viewer: &Viewer) {
    let mark = viewer.mark();
    let first = camera.tell("nodht on");
    let mended = viewer.wait("a frame without tables", mark, |seen| after(seen, first));
    decode(&mended.jpeg);
    // Tables and nothing else were put in, and they were needed.
    let bare = stamp::without_tables(&mended.jpeg);
    let stamp = stamp::check(&bare).expect("the camera's own bytes");
    assert_eq!(stamp.map(|stamp| stamp.number), mended.number());
    assert!(try_decode(&bare).is_err(), "the decoder makes up tables, so it proves nothing");
    camera.tell("nodht off");
}

fn what_stands_behind_a_frame_is_cut_off(camera: &mut UsbCamera, viewer: &Viewer, what: &str) {
    const COUNT: u32 = 10;
    let mark = viewer.mark();
    let first = camera.tell(&format!("{what} {COUNT}"));
    viewer.wait("frames after the junk", mark, |seen| after(seen, first + COUNT));
    // That they are whole and have no byte too many, their stamps prove.
    let junk = first..first + COUNT;
    let seen = viewer.seen_from(mark);
    let shown = live(&seen).filter_map(Sight::number).filter(|number| junk.contains(number));
    let shown = shown.count();
    assert!(
        shown > COUNT as usize / 2,
        "of {COUNT} frames with {what} behind them {shown} are shown"
    );
}

fn a_short_pause_repeats_the_last_frame_once(camera: &mut UsbCamera, viewer: &Viewer) {
    let mark = viewer.mark() - 1; // the last frame may be one that was seen already
    camera.tell("freeze");
    let repeat = |seen: &[Sight]| {
        seen.windows(2).find(|two| two[1].repeats(&two[0])).map(|two| two[1].at - two[0].at)
    };
    let pause = viewer.wait("the last frame once more", mark, repeat);
    assert!((0.45..1.2).contains(&pause.as_secs_f64()), "repeated after {pause:?}");
    let mark = viewer.mark();
    thread::sleep(SECOND);
    assert_eq!(viewer.mark(), mark, "more than one repeat");
    camera.tell("resume");
    viewer.live_from(mark);
    assert_eq!(others(&viewer.seen_from(mark)).count(), 0, "a second is no loss of signal");
}

fn a_long_pause_shows_that_the_signal_is_gone(
    camera: &mut UsbCamera,
    server: &Server,
    viewer: &Viewer,
) {
    let mark = viewer.mark();
    let frozen = Instant::now();
    camera.tell("freeze");
    let lost = viewer.other_from(mark);
    let delay = (lost.at - frozen).as_secs_f64();
    assert!((2.8..4.5).contains(&delay), "NO SIGNAL after {delay:.1} s without a frame, not 3");
    decode(&lost.jpeg);
    server.get("/snapshot").expect(503);
    let times = viewer.wait("NO SIGNAL four times", mark, |seen| {
        let times: Vec<Instant> = others(seen).map(|sight| sight.at).collect();
        (times.len() >= 4).then_some(times)
    });
    let pause = (times[3] - times[0]).as_secs_f64() / 3.0;
    assert!((0.85..1.2).contains(&pause), "NO SIGNAL comes every {pause:.2} s");
    camera.tell("resume");
    viewer.live_from(viewer.mark());
}

fn a_camera_that_refuses_to_start_is_asked_again(camera: &mut UsbCamera, viewer: &Viewer) {
    let mark = viewer.mark();
    camera.tell("refuse 1000000");
    camera.tell("unplug");
    viewer.other_from(mark);
    camera.expect_no_nodes();
    camera.tell("plug");
    camera.node();
    // There, but it does not start.
    let mark = viewer.mark();
    viewer.wait("NO SIGNAL twice more", mark, |seen| others(seen).nth(1).map(drop));
    assert_eq!(live(&viewer.seen_from(mark)).count(), 0, "it refused, and frames came");
    camera.tell("refuse 0");
    viewer.live_from(mark);
}

// ---- unplugging -----------------------------------------------------------------------------

#[test]
fn viewers_see_every_unplug_and_replug_and_nothing_is_left_behind() {
    const CYCLES: usize = 25;
    /// The allocator's rest: less than one frame a cycle.
    const GROWTH_KIB_MAX: u64 = 256;
    guest::run(&USB, || {
        let mut camera = UsbCamera::plugged("Rig", &[]);
        let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
        let viewers = [Viewer::open(&server, stamped), Viewer::open(&server, stamped)];
        let mut counts = Vec::new();
        for cycle in 0..=CYCLES {
            for viewer in &viewers {
                viewer.live_from(viewer.mark());
            }
            counts.push(Belongings::of(&server));
            if cycle == CYCLES {
                break;
            }
            let marks = viewers.each_ref().map(Viewer::mark);
            camera.tell("unplug");
            for (viewer, mark) in viewers.iter().zip(marks) {
                viewer.other_from(mark);
            }
            camera.expect_no_nodes();
            camera.tell("plug");
        }
        for (cycle, belongings) in counts.iter().enumerate() {
            println!("after {cycle} cycles: {belongings:?}");
        }
        let (start, end) = (&counts[0], &counts[CYCLES]);
        assert_eq!((end.descriptors, end.threads), (start.descriptors, start.threads));
        assert_eq!(end.buffers, start.buffers);
        // The first cycles make the first NO SIGNAL pictures. The least of five is what stays.
        let least = |some: &[Belongings]| some.iter().map(|some| some.memory_kib).min();
        let (start, end) = (least(&counts[2..7]), least(&counts[CYCLES - 4..]));
        assert!(end <= start.map(|kib| kib + GROWTH_KIB_MAX), "memory grew: {start:?}, {end:?}");
        leave(viewers);
        drop(server);

        an_unplugged_camera_is_closed_when_its_driver_is_through(&mut camera);
        it_is_found_under_another_number(&mut camera, "auto");
        let node = camera.node();
        it_is_found_under_another_number(&mut camera, &node.to_string_lossy());
        it_is_found_under_another_number(&mut camera, BY_ID);
        drop(camera);
        another_camera_is_taken_only_when_the_one_in_use_stays_away();
        a_camera_without_the_format_asked_for_is_passed_over();
    });
}

/// What a process has of the kernel's things.
#[derive(Debug)]
struct Belongings {
    descriptors: usize,
    threads: usize,
    /// Frames of a device in its memory.
    buffers: usize,
    /// Memory of its own, without files and buffers.
    memory_kib: u64,
}

impl Belongings {
    fn of(server: &Server) -> Belongings {
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid()));
        let maps = maps.expect("the server runs");
        Belongings {
            descriptors: server.fds(),
            threads: server.threads(),
            buffers: maps.lines().filter(|line| line.contains("/dev/video")).count(),
            memory_kib: server.own_kib(),
        }
    }
}

/// Linux 6.1 may kill the thread that closes it sooner.
fn an_unplugged_camera_is_closed_when_its_driver_is_through(camera: &mut UsbCamera) {
    let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.live_from(0);
    let node = camera.node();
    let unplugged = Instant::now();
    camera.tell("unplug");
    camera.expect_no_nodes();
    let gone = format!("{} (deleted)", node.display());
    let held = || holds(&server, &node) || holds(&server, Path::new(&gone));
    let closed = until(PATIENCE, || (!held()).then(|| unplugged.elapsed()));
    let closed = closed.expect("it is never closed");
    println!("closed after {:.2} s", closed.as_secs_f64());
    assert!(closed > SECOND / 5, "closed after {closed:?}");
    camera.tell("plug");
    viewer.live_from(viewer.mark());
    viewer.leave();
}

/// The node of a device that is gone keeps its number as long as some program holds it.
fn it_is_found_under_another_number(camera: &mut UsbCamera, name: &str) {
    let node = camera.node();
    link_as_udev_does(&node);
    let server = Server::start(&["--camera", name, "--size", "640x480", "--fps", "15"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.live_from(0);
    let mark = viewer.mark();
    let held = File::open(&node).expect("hold the node");
    camera.tell("unplug");
    viewer.other_from(mark);
    camera.expect_no_nodes();
    camera.tell("plug");
    let other = camera.node();
    assert_ne!(other, node, "the node has the same number as before");
    link_as_udev_does(&other);
    viewer.live_from(viewer.mark());
    viewer.leave();
    drop(held);
}

/// A bad contact must not change the view for good.
fn another_camera_is_taken_only_when_the_one_in_use_stays_away() {
    let mut first = UsbCamera::plugged("First", &[]);
    let _second = UsbCamera::plugged("Second", &["--port", "1"]);
    let server = Server::start(&["--camera", "auto", "--size", "640x480", "--fps", "15"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.live_from(0);
    let mark = viewer.mark();
    first.tell("unplug");
    viewer.wait("NO SIGNAL three times", mark, |seen| others(seen).nth(2).map(drop));
    assert!(!server.log().contains("Second"), "the other camera was taken at once");
    let mark = viewer.mark();
    first.tell("plug");
    viewer.live_from(mark);
    assert!(!server.log().contains("Second"), "the other camera was taken");
    first.tell("unplug");
    let log = server.log().len();
    server.wait_for_log_from(log, "(Second, uvcvideo): MJPG", PATIENCE);
    viewer.live_from(viewer.mark());
}

fn a_camera_without_the_format_asked_for_is_passed_over() {
    let first = UsbCamera::plugged("First", &["--formats", "YUYV"]);
    let second = UsbCamera::plugged("Second", &["--port", "1"]);
    let server = Server::start(&["--format", "mjpeg", "--size", "640x480", "--fps", "15"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.live_from(0);
    server.wait_for_log("(Second, uvcvideo): MJPG", PATIENCE);
    viewer.leave();
    drop(server);

    // And the test picture needs neither.
    let server = Server::start(&["--camera", "test"]);
    let viewer = Viewer::open(&server, unstamped);
    viewer.other_from(0);
    for node in [first.node(), second.node()] {
        assert!(!holds(&server, &node), "{} is open for the test picture", node.display());
    }
    viewer.leave();
}

const BY_ID: &str = "/dev/v4l/by-id/usb-pistream_Rig_serial0-video-index0";

/// There is no udev in the guest to make the lasting name.
fn link_as_udev_does(node: &Path) {
    let link = Path::new(BY_ID);
    fs::create_dir_all(link.parent().expect("an absolute path")).expect("make /dev/v4l/by-id");
    let _ = fs::remove_file(link);
    symlink(node, link).expect("make the link");
}

// ---- drivers that fail ----------------------------------------------------------------------

#[test]
fn a_failing_driver_is_taken_up_again() {
    guest::run(&VIVID, || {
        show_bars();
        let camera = ["--camera", "/dev/video0", "--size", "320x180", "--fps", "10"];
        let server = Server::start(&camera);
        let viewers = [Viewer::open(&server, pattern), Viewer::open(&server, pattern)];
        let lost_and_back = |what: &str, press: &[&str]| {
            for viewer in &viewers {
                viewer.live_from(viewer.mark());
            }
            let marks = viewers.each_ref().map(Viewer::mark);
            let log = server.log().len();
            let started = Instant::now();
            press.iter().for_each(|control| vivid(control));
            server.wait_for_log_from(log, "camera lost", PATIENCE);
            for (viewer, mark) in viewers.iter().zip(marks) {
                let lost = viewer.position_of_other_from(mark);
                viewer.live_from(lost);
            }
            println!("{what}: live again after {:.1} s", started.elapsed().as_secs_f64());
        };
        viewers.iter().for_each(|viewer| drop(viewer.live_from(0)));
        let fds = server.fds(); // the search for the camera, which opens nodes, is over
        lost_and_back("fatal error", &["inject_fatal_streaming_error=1"]);
        lost_and_back("disconnect", &["disconnect=1"]);
        lost_and_back("QBUF fails", &["inject_vidioc_qbuf_error=1"]);
        for call in ["inject_vidioc_reqbufs_error=1", "inject_vidioc_streamon_error=1"] {
            lost_and_back(call, &[call, "inject_fatal_streaming_error=1"]);
        }

        let marks = viewers.each_ref().map(Viewer::mark);
        driver("unbind");
        for (viewer, mark) in viewers.iter().zip(marks) {
            viewer.wait("NO SIGNAL three times", mark, |seen| others(seen).nth(2).map(drop));
        }
        driver("bind");
        show_bars();
        for viewer in &viewers {
            viewer.live_from(viewer.mark());
        }

        // One buffer with an error in it is no loss.
        let marks = viewers.each_ref().map(Viewer::mark);
        let log = server.log().len();
        let noticed = until(PATIENCE, || {
            vivid("inject_v4l2_buf_flag_error=1"); // again: a busy machine skips raw frames
            server.log()[log..].contains("flagged as damaged").then_some(())
        });
        assert!(noticed.is_some(), "a damaged frame is shown");
        for (viewer, mark) in viewers.iter().zip(marks) {
            viewer.wait("ten pictures", mark, |seen| seen.get(9).map(drop));
            assert_eq!(others(&viewer.seen_from(mark)).count(), 0);
        }
        assert_eq!(server.fds(), fds);
        leave(viewers);
    });
}

/// Takes vivid's device from its driver, or gives it back.
fn driver(act: &str) {
    let file = Path::new("/sys/bus/platform/drivers/vivid").join(act);
    fs::write(file, "vivid.0").unwrap_or_else(|error| panic!("{act} vivid: {error}"));
}

// ---- nobody watches -------------------------------------------------------------------------

#[test]
fn a_camera_that_nobody_watches_is_free_and_the_program_sleeps() {
    guest::run(&USB, || {
        let mut camera = UsbCamera::unplugged("Rig");
        let server = Server::start(&["--camera", "auto", "--fps", "15", "--idle-off", "1s"]);
        let viewer = Viewer::open(&server, stamped);
        let picture = viewer.wait("the test picture", 0, |seen| seen.get(3).cloned());
        decode(&picture.jpeg);
        server.get("/snapshot").expect(200);
        camera.tell("plug");
        viewer.live_from(0);
        let node = camera.node();
        assert!(holds(&server, &node), "the measure of who holds a device is wrong");
        assert_eq!(frames_elsewhere(&node, 20), 0, "the measure of who may stream is wrong");
        let awake = runs(&server);
        viewer.live_from(viewer.mark());
        assert_ne!(runs(&server), awake, "the measure of who sleeps is wrong");
        viewer.leave();

        expect_free(&server, &node);
        thread::sleep(SECOND); // The last of what stopping makes a thread do.
        let asleep = (runs(&server), Instant::now());
        assert_eq!(frames_elsewhere(&node, 20), 20, "another program may have the camera");
        thread::sleep((10 * SECOND).saturating_sub(asleep.1.elapsed()));
        assert_eq!(runs(&server), asleep.0, "a thread ran while nobody watched");

        a_snapshot_starts_the_camera(&server);
        a_camera_that_another_program_uses_is_waited_for(&server, &node);
        a_camera_that_went_while_nobody_watched_is_missed(&mut camera, &server);
        drop(server);
        a_named_camera_is_waited_for(&mut camera);
        a_node_that_may_not_be_opened_yet_is_tried_again(&mut camera);
    });
}

fn a_snapshot_starts_the_camera(server: &Server) {
    let reply = server.get("/snapshot").expect(200);
    let stamp = stamp::check(&reply.body).expect("a whole frame");
    assert!(stamp.is_some(), "a picture that is not the camera's");
}

fn a_camera_that_another_program_uses_is_waited_for(server: &Server, node: &Path) {
    expect_free(server, node);
    let _ = fs::remove_file(FRAMES);
    let path = node.to_owned();
    let other = thread::spawn(move || frames_elsewhere(&path, 60)); // 2 s or more
    let taken = until(PATIENCE, || fs::metadata(FRAMES).ok().filter(|file| file.len() > 0));
    assert!(taken.is_some(), "the other program does not begin");
    let viewer = Viewer::open(server, stamped);
    viewer.other_from(0);
    server.get("/snapshot").expect(503);
    viewer.live_from(0);
    assert_eq!(other.join().ok(), Some(60), "the other program was disturbed");
    viewer.leave();
}

fn a_camera_that_went_while_nobody_watched_is_missed(camera: &mut UsbCamera, server: &Server) {
    expect_free(server, &camera.node());
    camera.tell("unplug");
    camera.expect_no_nodes();
    let viewer = Viewer::open(server, stamped);
    viewer.other_from(0);
    server.get("/snapshot").expect(503);
    camera.tell("plug");
    viewer.live_from(0);
    viewer.leave();
}

/// One that was never there: NO SIGNAL from the start, and no test picture.
fn a_named_camera_is_waited_for(camera: &mut UsbCamera) {
    camera.tell("unplug");
    camera.expect_no_nodes();
    let server = Server::start(&["--camera", BY_ID, "--fps", "15"]);
    let viewer = Viewer::open(&server, stamped);
    viewer.wait("NO SIGNAL three times", 0, |seen| others(seen).nth(2).map(drop));
    server.get("/snapshot").expect(503);
    camera.tell("plug");
    link_as_udev_does(&camera.node());
    viewer.live_from(0);
    let seen = viewer.leave();
    let start: Vec<&Sight> = others(&seen).take(3).collect();
    let pause = (start[2].at - start[0].at).as_secs_f64();
    assert!((1.6..2.6).contains(&pause), "two pictures in {pause:.1} s: not NO SIGNAL's pace");
}

/// A new node belongs to root until udev has set its group.
fn a_node_that_may_not_be_opened_yet_is_tried_again(camera: &mut UsbCamera) {
    const NOBODY: u32 = 65534;
    camera.tell("unplug");
    camera.expect_no_nodes();
    let pic = Folder::new();
    fs::set_permissions(pic.path(), Permissions::from_mode(0o777)).expect("open it to all");
    let mut command = command(&["--listen", "127.0.0.1:0", "--pic", pic.arg(), "--fps", "15"]);
    command.uid(NOBODY).gid(NOBODY);
    let server = Server::start_command(command);
    let viewer = Viewer::open(&server, stamped);
    viewer.other_from(0);
    camera.tell("plug");
    let node = camera.node();
    // After some tries it says so, once, and then waits for a change of the node.
    server.wait_for_log("group video", PATIENCE);
    assert_eq!(live(&viewer.seen_from(0)).count(), 0, "nobody may open root's node");
    let mark = viewer.mark();
    for node in [node, camera.metadata_node()] {
        fs::set_permissions(node, Permissions::from_mode(0o666)).expect("open the node to all");
    }
    viewer.live_from(mark);
    viewer.leave();
}

/// Where the other program puts its frames.
const FRAMES: &str = "/tmp/frames";

/// What another program gets from `node` of the `wanted` frames.
fn frames_elsewhere(node: &Path, wanted: usize) -> usize {
    let node = node.to_str().expect("a plain path");
    let _ = fs::remove_file(FRAMES);
    let (count, to) = (format!("--stream-count={wanted}"), format!("--stream-to={FRAMES}"));
    v4l2_ctl(&["-d", node, "--stream-mmap", &count, &to])
        .expect("v4l2-ctl does not mind a device that is busy");
    let frames = fs::read(FRAMES).unwrap_or_default();
    frames.windows(8).filter(|bytes| bytes == b"uvc-cam ").count()
}

/// Waits until the server has closed `node`.
#[track_caller]
fn expect_free(server: &Server, node: &Path) {
    let free = until(PATIENCE, || (!holds(server, node)).then_some(()));
    assert!(free.is_some(), "{} is still held", node.display());
}

/// Whether the server has `node` open.
fn holds(server: &Server, node: &Path) -> bool {
    server.holds(node)
}

/// How often each thread of the server was given a processor, and for how long, and in which
/// system call it waits. A thread whose line stays the same has not run at all.
fn runs(server: &Server) -> BTreeMap<PathBuf, String> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let threads = threads.flatten().map(|entry| {
        let read = |file| fs::read_to_string(entry.path().join(file)).expect("a thread that stays");
        (entry.path(), read("comm") + &read("schedstat") + &read("syscall"))
    });
    threads.collect()
}

// ---- photos ---------------------------------------------------------------------------------

const STREAM_SIZE: (u32, u32) = (640, 480);
const LARGEST_SIZE: (u32, u32) = (1920, 1080);

#[test]
fn a_photo_of_another_size_interrupts_the_stream_and_gives_it_back() {
    guest::run(&USB, || {
        let mut camera = UsbCamera::plugged("Rig", &["--sizes", "640x480,1280x720,1920x1080"]);
        let server = serving_photos("max");
        a_cold_camera_gives_a_bright_photo(&mut camera, &server, LARGEST_SIZE);
        let viewers = [Viewer::open(&server, stamped), Viewer::open(&server, stamped)];
        a_size_s_first_frames_are_not_photos(&mut camera, &server, &viewers);
        photos_one_after_the_other_leave_nothing_behind(&server, &viewers);
        those_who_press_at_once_share_an_interruption(&mut camera, &server, &viewers);
        a_size_that_fails_gives_way_to_the_stream_s(&mut camera, &server, &viewers);
        a_stream_that_does_not_come_back_at_once_is_waited_for(&mut camera, &server, &viewers);
        a_camera_unplugged_during_a_photo_is_missed(&mut camera, &server, &viewers);
        leave(viewers);
        drop(server);

        for (asked, given) in [("4000x3000", LARGEST_SIZE), ("1000x700", (1280, 720))] {
            let server = serving_photos(asked);
            a_cold_camera_gives_a_bright_photo(&mut camera, &server, given);
            let viewers = [Viewer::open(&server, stamped)];
            assert_eq!(photo_while_watched(&server, &viewers).size, given, "{asked}");
            leave(viewers);
        }

        let server = serving_photos("640x480");
        let viewers = [Viewer::open(&server, stamped)];
        wait_for_frames(&viewers);
        let starts = camera.tell("starts");
        assert_eq!(photo_while_watched(&server, &viewers).size, STREAM_SIZE);
        wait_for_frames(&viewers);
        assert_eq!(camera.tell("starts"), starts, "interrupted for the size that it has");
        leave(viewers);
    });
}

/// Streams in `STREAM_SIZE`.
#[track_caller]
fn serving_photos(size: &str) -> Server {
    Server::start(&["--size", "640x480", "--fps", "15", "--photo-size", size])
}

/// A photo on the disk.
#[derive(Debug)]
struct Photo {
    name: String,
    size: (u32, u32),
    file: Vec<u8>,
}

impl Photo {
    /// The photo that `reply` tells of.
    #[track_caller]
    fn of(server: &Server, reply: Reply) -> Photo {
        let reply = reply.expect(201);
        let name = reply.header("Location").and_then(|place| place.strip_prefix("pic/"));
        let name = name.expect("the photo's place").to_owned();
        let file = fs::read(server.folder().path().join("pic").join(&name)).expect("the photo");
        let size = stamp::size(&file).expect("a whole head");
        let told = ["width", "height"].map(|name| member(&reply.text(), name));
        assert_eq!(told, [size.0, size.1].map(|pixels| pixels.to_string()));
        // 2026-11-22_14-03-55.jpg was taken on 2026:11:22 14:03:55.
        let date = name[..19].replace('-', ":").replace('_', " ");
        assert!(util::client::find(&file, date.as_bytes()).is_some(), "no {date} in its EXIF data");
        Photo { name, size, file }
    }

    /// The number of the camera's frame, once it is found to be whole.
    #[track_caller]
    fn number(&self) -> u32 {
        match stamped(&stamp::without_exif(&self.file)) {
            Picture::Frame(number) => number,
            picture => panic!("{}: {picture:?}", self.name),
        }
    }
}

const PRESS: &str = "POST /photo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

/// Presses the button; the reply is to be read.
#[track_caller]
fn press(server: &Server) -> Client {
    let mut client = Client::connect(server.addr());
    client.send(PRESS);
    client
}

#[track_caller]
fn photo(server: &Server) -> Photo {
    Photo::of(server, press(server).reply())
}

/// Takes a photo, during which viewers see nothing but the stream and its last frame once more.
#[track_caller]
fn photo_while_watched(server: &Server, viewers: &[Viewer]) -> Photo {
    viewers.iter().for_each(|viewer| drop(viewer.live_from(viewer.mark())));
    let marks: Vec<usize> = viewers.iter().map(|viewer| viewer.mark() - 1).collect();
    let photo = photo(server);
    wait_for_frames(viewers);
    for (viewer, mark) in viewers.iter().zip(marks) {
        let seen = viewer.seen_from(mark);
        assert_eq!(others(&seen).count(), 0, "a photo is no loss of signal");
        let sizes: BTreeSet<_> = seen.iter().map(|sight| stamp::size(&sight.jpeg)).collect();
        assert_eq!(sizes.len(), 1, "the stream has changed its size: {sizes:?}");
    }
    photo
}

/// Waits until each viewer has seen some frames that are captured from now on.
#[track_caller]
fn wait_for_frames(viewers: &[Viewer]) {
    const COUNT: usize = 5;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    for viewer in viewers {
        let new = |sight: &&Sight| sight.captured > now;
        viewer.wait("frames", 0, |seen| live(seen).filter(new).nth(COUNT - 1).map(drop));
    }
}

#[track_caller]
fn a_cold_camera_gives_a_bright_photo(camera: &mut UsbCamera, server: &Server, size: (u32, u32)) {
    camera.tell("dark 500");
    let photo = photo(server);
    camera.tell("dark 0");
    assert_eq!(photo.size, size);
    photo.number();
    assert_bright(&photo);
}

#[track_caller]
fn assert_bright(photo: &Photo) {
    let (width, height, pixels) = decode(&photo.file);
    assert_eq!((width as u32, height as u32), photo.size);
    assert!(pixels.iter().any(|level| *level > 100), "the photo is dark");
}

/// A change of size sets the exposure back a little.
fn a_size_s_first_frames_are_not_photos(
    camera: &mut UsbCamera,
    server: &Server,
    viewers: &[Viewer],
) {
    camera.tell("dark 150");
    let photo = photo_while_watched(server, viewers);
    camera.tell("dark 0");
    assert_eq!(photo.size, LARGEST_SIZE);
    assert_bright(&photo);
}

fn photos_one_after_the_other_leave_nothing_behind(server: &Server, viewers: &[Viewer]) {
    const PHOTOS: usize = 10;
    /// Less than a photo each.
    const GROWTH_KIB_MAX: u64 = 256;
    let mut counts = Vec::new();
    for _ in 0..PHOTOS {
        let start = Instant::now();
        let photo = photo_while_watched(server, viewers);
        assert_eq!(photo.size, LARGEST_SIZE);
        counts.push(Belongings::of(server));
        let (bytes, seconds) = (photo.file.len(), start.elapsed().as_secs_f64());
        println!("a photo of {bytes} bytes in {seconds:.1} s: {:?}", counts[counts.len() - 1]);
    }
    let (start, end) = (&counts[0], &counts[PHOTOS - 1]);
    assert_eq!((end.descriptors, end.threads), (start.descriptors, start.threads));
    assert_eq!(end.buffers, start.buffers);
    let least = |some: &[Belongings]| some.iter().map(|some| some.memory_kib).min();
    let (start, end) = (least(&counts[1..4]), least(&counts[PHOTOS - 3..]));
    assert!(end <= start.map(|kib| kib + GROWTH_KIB_MAX), "memory grew: {start:?}, {end:?}");
}

fn those_who_press_at_once_share_an_interruption(
    camera: &mut UsbCamera,
    server: &Server,
    viewers: &[Viewer],
) {
    let starts = camera.tell("starts");
    let clients = [(); 4].map(|()| press(server));
    let photos = clients.map(|mut client| Photo::of(server, client.reply()));
    let numbers = photos.each_ref().map(|photo| (photo.size, photo.number()));
    let names: BTreeSet<&str> = photos.iter().map(|photo| &*photo.name).collect();
    assert_eq!(names.len(), photos.len(), "each has a photo of their own");
    // One picture, unless this machine is so busy that the last press came after it.
    let pictures = BTreeSet::from(numbers);
    assert!(pictures.iter().all(|(size, _)| *size == LARGEST_SIZE), "{pictures:?}");
    wait_for_frames(viewers);
    let started = (camera.tell("starts") - starts) as usize;
    assert_eq!(started, 2 * pictures.len(), "interrupted for nobody, with {pictures:?}");
}

fn a_size_that_fails_gives_way_to_the_stream_s(
    camera: &mut UsbCamera,
    server: &Server,
    viewers: &[Viewer],
) {
    for (fault, reason) in [("refuse 1", "start to stream"), ("mute 1920x1080", "in time")] {
        let log = server.log().len();
        camera.tell(fault);
        assert_eq!(photo_while_watched(server, viewers).size, STREAM_SIZE, "{fault}");
        let line = server.wait_for_log_from(log, "no photo in 1920x1080", PATIENCE);
        assert!(line.contains("WARN") && line.contains(reason), "{line}");
        camera.tell("mute off");
    }
    assert_eq!(photo_while_watched(server, viewers).size, LARGEST_SIZE);
}

fn a_stream_that_does_not_come_back_at_once_is_waited_for(
    camera: &mut UsbCamera,
    server: &Server,
    viewers: &[Viewer],
) {
    let log = server.log().len();
    camera.tell("refuse 2"); // the photo's size, and the stream's after it
    expect_no_large_photo(server, press(server).reply());
    for line in ["camera lost", "camera back"] {
        server.wait_for_log_from(log, line, PATIENCE);
    }
    wait_for_frames(viewers);
}

/// There is none, or if the stream has given a frame since the press, that one.
#[track_caller]
fn expect_no_large_photo(server: &Server, reply: Reply) {
    match reply.status {
        201 => assert_eq!(Photo::of(server, reply).size, STREAM_SIZE),
        _ => drop(reply.expect(503)),
    }
}

fn a_camera_unplugged_during_a_photo_is_missed(
    camera: &mut UsbCamera,
    server: &Server,
    viewers: &[Viewer],
) {
    let marks: Vec<usize> = viewers.iter().map(Viewer::mark).collect();
    let starts = camera.tell("starts");
    camera.tell("mute 1920x1080");
    let mut client = press(server);
    let begun = until(PATIENCE, || (camera.tell("starts") > starts).then_some(()));
    assert!(begun.is_some(), "the stream is not interrupted");
    camera.tell("unplug");
    expect_no_large_photo(server, client.reply());
    for (viewer, mark) in viewers.iter().zip(marks) {
        viewer.other_from(mark);
    }
    let reply = press(server).reply().expect(503);
    assert!(reply.text().contains("gives no picture"), "{}", reply.text());
    camera.expect_no_nodes();
    camera.tell("mute off");
    camera.tell("plug");
    wait_for_frames(viewers);
    // For the photo, and when it was back: nobody waits for the photos that were refused.
    assert_eq!(camera.tell("starts"), starts + 2, "interrupted for nobody");
    assert_eq!(photo_while_watched(server, viewers).size, LARGEST_SIZE);
}

#[test]
fn a_photo_is_new_and_whole_and_its_interval_outlives_the_camera() {
    guest::run(&[VIVID[0], USB[0], USB[1]], || {
        let mut camera = UsbCamera::plugged("Rig", &[]);
        let node = camera.node();
        let camera_at = ["--camera", &node.to_string_lossy(), "--size", "640x480", "--fps", "15"];
        let server = Server::start(&camera_at);
        a_cold_camera_gives_a_bright_photo(&mut camera, &server, STREAM_SIZE);
        let viewers = [Viewer::open(&server, stamped)];
        a_photo_is_never_from_before_the_press(&mut camera, &server);
        a_photo_without_tables_gets_them(&mut camera, &server, &viewers);
        leave(viewers);
        drop(server);

        let server = Server::start(&camera_at);
        a_frame_that_waited_is_as_dark_as_before(&mut camera, &server);
        drop(server);

        let server = Server::start(&[&camera_at[..], &["--every", "1s"]].concat());
        interval_photos_survive_unplugging(&mut camera, &server);
        drop(server);
        a_raw_camera_gives_a_photo_of_another_size();
    });
}

/// Frames wait in the driver's buffers when the program has no time for them.
fn a_frame_that_waited_is_as_dark_as_before(camera: &mut UsbCamera, server: &Server) {
    camera.tell("dark 500");
    let starts = camera.tell("starts");
    let mut client = press(server);
    let started = until(PATIENCE, || (camera.tell("starts") > starts).then_some(()));
    assert!(started.is_some(), "the camera does not start");
    server.signal(Signal::STOP);
    thread::sleep(3 * SECOND / 2); // longer than a camera is taken to be dark
    server.signal(Signal::CONT);
    let photo = Photo::of(server, client.reply());
    camera.tell("dark 0");
    assert_bright(&photo);
}

fn a_photo_is_never_from_before_the_press(camera: &mut UsbCamera, server: &Server) {
    let mut client = Client::connect(server.addr());
    client.send("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().expect(200);
    // Frames wait in the driver's buffers, and are so large that the press overtakes them.
    server.signal(Signal::STOP);
    let waiting = camera.tell("pad 500000");
    let later = until(PATIENCE, || Some(camera.tell("resume")).filter(|at| *at > waiting + 10));
    client.send(PRESS);
    server.signal(Signal::CONT);
    let number = Photo::of(server, client.reply()).number();
    camera.tell("pad 0");
    let later = later.expect("the camera goes on");
    assert!(number + 1 >= later, "frame {number} was there before {later}, the press");
}

fn a_photo_without_tables_gets_them(camera: &mut UsbCamera, server: &Server, viewers: &[Viewer]) {
    camera.tell("nodht on");
    wait_for_frames(viewers);
    let photo = photo_while_watched(server, viewers);
    decode(&photo.file);
    assert!(try_decode(&stamp::without_tables(&photo.file)).is_err(), "it had tables");
    camera.tell("nodht off");
}

fn interval_photos_survive_unplugging(camera: &mut UsbCamera, server: &Server) {
    wait_for_interval(server, "saved", 2);
    camera.tell("unplug");
    server.wait_for_log("interval photo skipped", PATIENCE);
    wait_for_interval(server, "skipped", 4);
    camera.tell("plug");
    server.wait_for_log("interval photos: they go on", PATIENCE);
    let saved = interval(server, "saved");
    wait_for_interval(server, "saved", saved + 1);
    let log = server.log();
    let said = log.lines().filter_map(|line| line.split_once("interval photo skipped: "));
    let said: Vec<&str> = said.map(|(_, reason)| reason).collect();
    assert_eq!(said.iter().collect::<BTreeSet<_>>().len(), said.len(), "said twice: {said:?}");
    for once in ["camera lost", "camera back", "they go on"] {
        assert_eq!(log.matches(once).count(), 1, "{once}:\n{log}");
    }
}

#[track_caller]
fn wait_for_interval(server: &Server, count: &str, least: u64) {
    let grown = until(PATIENCE, || (interval(server, count) >= least).then_some(()));
    assert!(grown.is_some(), "fewer than {least} interval photos are {count}");
}

/// How many interval photos are `count`: saved or skipped.
#[track_caller]
fn interval(server: &Server, count: &str) -> u64 {
    let text = server.get("/interval").expect(200).text();
    member(&text, count).parse().expect("a number")
}

/// A number out of a text in JSON.
#[track_caller]
fn member(json: &str, name: &str) -> String {
    let value = json.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest);
    let value = value.and_then(|rest| rest.split([',', '}']).next());
    value.unwrap_or_else(|| panic!("no {name} in {json}")).to_owned()
}

fn a_raw_camera_gives_a_photo_of_another_size() {
    show_bars();
    let camera = ["--camera", "/dev/video0", "--format", "yuyv", "--fps", "10"];
    let server =
        Server::start(&[&camera[..], &["--size", "320x180", "--photo-size", "640x360"]].concat());
    let viewers = [Viewer::open(&server, pattern)];
    let photo_of = |size| {
        let photo = photo_while_watched(&server, &viewers);
        assert_eq!(photo.size, size);
        let (width, height, pixels) = decode(&photo.file);
        assert_eq!(bars(width, height, &pixels, false), Ok(()));
    };
    photo_of((640, 360));
    for call in ["reqbufs", "streamon"] {
        let log = server.log().len();
        vivid(&format!("inject_vidioc_{call}_error=1"));
        photo_of((320, 180));
        server.wait_for_log_from(log, "no photo in 640x360", PATIENCE);
    }
    photo_of((640, 360));
    leave(viewers);
}

// ---- the stamps -----------------------------------------------------------------------------

#[test]
fn a_stamp_tells_whole_frames_from_damaged_ones() {
    assert_eq!(stamp::crc32(b"123456789"), 0xcbf4_3926);
    let rest = b"\xff\xdb\x00\x04ab\xff\xc4\x00\x05cde\xff\xda\x00\x02picture\xff\xd9";
    let length = rest.len() + 6 + "uvc-cam seq=7 ns=1 len=00000000 crc=00000000".len();
    let text = format!("uvc-cam seq=7 ns=1 len={length:08} crc={:08x}", stamp::crc32(rest));
    let comment = [&[0xff, 0xfe, 0, text.len() as u8 + 2], text.as_bytes()].concat();
    let whole = [&[0xff, 0xd8], &comment[..], rest].concat();
    let stamp = Stamp { number: 7, made: Duration::from_nanos(1) };
    assert_eq!(stamp::check(&whole), Ok(Some(stamp)));
    assert_eq!(stamp::check(&[&[0xff, 0xd8], &rest[..]].concat()), Ok(None), "no stamp");

    let wrong = |what: &str, jpeg: Vec<u8>| assert!(stamp::check(&jpeg).is_err(), "{what}");
    wrong("cut short", whole[..length - 1].to_vec());
    wrong("with something behind", [&whole[..], &[0]].concat());
    wrong("with something before the stamp", [&[0xff, 0xd8], &rest[..6], &whole[2..]].concat());
    let mut changed = whole.clone();
    changed[length - 5] ^= 1;
    wrong("with a bit changed", changed);
    let bare = stamp::without_tables(&whole);
    assert_eq!(bare.len(), length - 7);
    wrong("without its tables", bare);
}

// ---- what a viewer sees ---------------------------------------------------------------------

/// Somebody who watches: a thread takes what comes as it comes, as a browser does, and notes it.
struct Viewer {
    notes: Arc<Notes>,
    socket: TcpStream,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<Sight>>,
    grown: Condvar,
}

/// One picture of the stream, and when it came.
#[derive(Clone)]
struct Sight {
    at: Instant,
    /// When the server says it was taken, in seconds.
    captured: f64,
    /// How many seconds later it came.
    age: f64,
    picture: Picture,
    jpeg: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
enum Picture {
    /// The USB camera's frame with this number, whole.
    Frame(u32),
    /// vivid's colour bars.
    Bars,
    /// Made by the server: the test picture or NO SIGNAL.
    Other,
    /// What may never be seen, and why.
    Wrong(String),
}

/// The USB camera's frames, mended or not.
fn stamped(jpeg: &[u8]) -> Picture {
    match exactly_stamped(jpeg) {
        Picture::Wrong(fault) => match stamp::check(&stamp::without_tables(jpeg)) {
            Ok(Some(stamp)) => Picture::Frame(stamp.number),
            _ => Picture::Wrong(fault),
        },
        picture => picture,
    }
}

/// The USB camera's frames, every byte as the camera made it.
fn exactly_stamped(jpeg: &[u8]) -> Picture {
    match stamp::check(jpeg) {
        Ok(Some(stamp)) => Picture::Frame(stamp.number),
        Ok(None) => Picture::Other,
        Err(fault) => Picture::Wrong(fault),
    }
}

/// vivid's frames: told by their colours.
fn pattern(jpeg: &[u8]) -> Picture {
    match try_decode(jpeg) {
        Ok((width, height, pixels)) => match bars(width, height, &pixels, false) {
            Ok(()) => Picture::Bars,
            Err(_) => Picture::Other,
        },
        Err(fault) => Picture::Wrong(fault),
    }
}

/// Not looked at.
fn unstamped(_: &[u8]) -> Picture {
    Picture::Other
}

impl Viewer {
    #[track_caller]
    fn open(server: &Server, recognise: fn(&[u8]) -> Picture) -> Viewer {
        let mut stream = Stream::open(server.addr(), "/video_feed");
        let socket = stream.socket().try_clone().expect("a second descriptor");
        let notes = Arc::new(Notes::default());
        let writer = Arc::clone(&notes);
        let reader = thread::spawn(move || {
            // The same bytes are the same picture; decoding takes long in an emulated processor.
            let mut known = (Vec::new(), Picture::Other);
            let mut ended = false;
            while !ended {
                let next = stream.next_part(PATIENCE);
                let at = Instant::now();
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                let sight = match next {
                    Ok(part) => {
                        if part.jpeg != known.0 {
                            known = (part.jpeg.clone(), recognise(&part.jpeg));
                        }
                        let picture = known.1.clone();
                        let (captured, jpeg) = (part.timestamp, part.jpeg);
                        Sight { at, captured, age: unix.as_secs_f64() - captured, picture, jpeg }
                    }
                    Err(error) => {
                        ended = true;
                        let picture = Picture::Wrong(format!("the stream ended: {error}"));
                        Sight { at, captured: 0.0, age: 0.0, picture, jpeg: Vec::new() }
                    }
                };
                writer.seen.lock().expect("no panic here").push(sight);
                writer.grown.notify_all();
            }
        });
        Viewer { notes, socket, reader: Some(reader) }
    }

    /// How many pictures it has seen: a place in its notes.
    fn mark(&self) -> usize {
        self.notes.seen.lock().expect("no panic here").len()
    }

    fn seen_from(&self, mark: usize) -> Vec<Sight> {
        self.notes.seen.lock().expect("no panic here")[mark..].to_vec()
    }

    /// Waits for what `find` finds in the notes from `mark` on.
    #[track_caller]
    fn wait<T>(&self, what: &str, mark: usize, find: impl Fn(&[Sight]) -> Option<T>) -> T {
        self.wait_at_most(PATIENCE, what, mark, find)
    }

    #[track_caller]
    fn wait_at_most<T>(
        &self,
        limit: Duration,
        what: &str,
        mark: usize,
        find: impl Fn(&[Sight]) -> Option<T>,
    ) -> T {
        let end = Instant::now() + limit;
        let mut seen = self.notes.seen.lock().expect("no panic here");
        let fault = loop {
            if let Some(wrong) = seen.iter().find_map(Sight::fault) {
                break wrong.to_owned();
            }
            if let Some(found) = find(&seen[mark..]) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break "it does not come".to_owned();
            }
            seen = self.notes.grown.wait_timeout(seen, left).expect("no panic here").0;
        };
        let told = told(&seen);
        drop(seen);
        panic!("waiting for {what}: {fault}\n{told}");
    }

    /// The camera's first picture from `mark` on.
    #[track_caller]
    fn live_from(&self, mark: usize) -> Sight {
        self.wait("the camera", mark, |seen| live(seen).next().cloned())
    }

    /// The first picture from `mark` on that is not the camera's.
    #[track_caller]
    fn other_from(&self, mark: usize) -> Sight {
        self.wait("a picture of the server's", mark, |seen| others(seen).next().cloned())
    }

    #[track_caller]
    fn position_of_other_from(&self, mark: usize) -> usize {
        let other = |seen: &[Sight]| seen.iter().position(|s| s.picture == Picture::Other);
        mark + self.wait("a picture of the server's", mark, other)
    }

    /// Closes the stream; gives all that was seen after making sure that it was in order.
    #[track_caller]
    fn leave(mut self) -> Vec<Sight> {
        let seen = self.seen_from(0);
        let _ = self.socket.shutdown(Shutdown::Both);
        let reader = self.reader.take().expect("only a viewer who stays has one");
        reader.join().expect("no panic in the viewer's thread");
        assert_in_order(&seen);
        seen
    }
}

#[track_caller]
fn leave(viewers: impl IntoIterator<Item = Viewer>) {
    viewers.into_iter().for_each(|viewer| drop(viewer.leave()));
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Sight {
    fn number(&self) -> Option<u32> {
        match self.picture {
            Picture::Frame(number) => Some(number),
            _ => None,
        }
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<&str> {
        match &self.picture {
            Picture::Wrong(fault) => Some(fault),
            _ => None,
        }
    }

    /// Whether this is the picture before once more, as a pause brings it.
    fn repeats(&self, before: &Sight) -> bool {
        self.captured == before.captured && self.jpeg == before.jpeg
    }
}

/// The camera's own pictures.
fn live(seen: &[Sight]) -> impl Iterator<Item = &Sight> {
    seen.iter().filter(|sight| matches!(sight.picture, Picture::Frame(_) | Picture::Bars))
}

fn others(seen: &[Sight]) -> impl Iterator<Item = &Sight> {
    seen.iter().filter(|sight| sight.picture == Picture::Other)
}

/// The first frame with this number or a higher one.
fn after(seen: &[Sight], number: u32) -> Option<Sight> {
    live(seen).find(|sight| sight.number() >= Some(number)).cloned()
}

/// The last `count` pictures.
fn last(seen: &[Sight], count: usize) -> Option<&[Sight]> {
    seen.get(seen.len().checked_sub(count)?..)
}

/// How many of the camera's frames are missing in this row; `None` if it is no row.
fn left_out(row: &[Sight]) -> Option<u32> {
    let (first, last) = (row.first()?.number()?, row.last()?.number()?);
    let rises = row.windows(2).all(|two| two[0].number() < two[1].number());
    rises.then(|| last - first + 1 - row.len() as u32)
}

/// Pictures a second, by the times of their capture.
fn rate(row: &[Sight]) -> f64 {
    (row.len() - 1) as f64 / (row[row.len() - 1].captured - row[0].captured)
}

/// Whether the last eleven pictures came at this rate; a busy machine may need several tries.
fn ten_a_second(seen: &[Sight]) -> Option<f64> {
    last(seen, 11).map(rate).filter(|rate| (9.0..=11.0).contains(rate))
}

/// Nothing damaged, nothing twice but for one repeat in a pause, nothing out of order.
#[track_caller]
fn assert_in_order(seen: &[Sight]) {
    // A frame may be seen late; from its capture to its repetition it is never less.
    const PAUSE_MIN: f64 = 0.4;
    let mut last = None;
    let mut repeated = false;
    for (index, sight) in seen.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &seen[before]);
        let pause = sight.age >= PAUSE_MIN && !repeated;
        let repeats = before.is_some_and(|before| sight.repeats(before) && pause);
        repeated = repeats;
        let fault = match sight.picture {
            Picture::Wrong(_) => Some("damaged"),
            Picture::Frame(number) if Some(number) <= last && !repeats => Some("twice or late"),
            _ if before.is_some_and(|b| sight.captured < b.captured) => Some("out of order"),
            _ => None,
        };
        if let Some(fault) = fault {
            panic!("{fault}: picture {index}\n{}", told(&seen[..=index]));
        }
        last = sight.number().or(last);
    }
}

/// The last pictures, a line each.
fn told(seen: &[Sight]) -> String {
    let first = seen.len().saturating_sub(30);
    let mut out = String::new();
    for (index, sight) in seen.iter().enumerate().skip(first) {
        let at = (sight.at - seen[0].at).as_secs_f64();
        let Sight { picture, captured, jpeg, .. } = sight;
        let bytes = jpeg.len();
        let _ = writeln!(out, "{index}: at {at:.3} s, {picture:?}, of {captured}, {bytes} bytes");
    }
    out
}

/// Whether the picture is "75% Colorbar", or what in it differs.
fn bars(width: usize, height: usize, pixels: &[u8], grey: bool) -> Result<(), String> {
    const TOLERANCE: u8 = 8;
    const BARS: [[u8; 3]; 8] = [
        [191, 191, 191],
        [191, 191, 0],
        [0, 191, 191],
        [0, 191, 0],
        [191, 0, 191],
        [191, 0, 0],
        [0, 0, 191],
        [0, 0, 0],
    ];
    /// What vivid makes of them in GREY.
    const GREYS: [u8; 8] = [190, 176, 149, 136, 54, 40, 13, 0];
    for bar in 0..8 {
        for row in [height / 8, height / 2, height * 7 / 8] {
            let column = (2 * bar + 1) * width / 16;
            let at = (row * width + column) * 3;
            let seen = &pixels[at..at + 3];
            let meant = if grey { [GREYS[bar]; 3] } else { BARS[bar] };
            if seen.iter().zip(meant).any(|(seen, meant)| seen.abs_diff(meant) > TOLERANCE) {
                return Err(format!("at {column},{row}: {seen:?}, not {meant:?}"));
            }
        }
    }
    Ok(())
}
