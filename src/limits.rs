//! Every number the house promises, each with its reason. Imports nothing of ours.
//!
//! A number that bounds a buffer, a queue, a loop or a wait stands here and nowhere else.

use std::time::Duration;

// ---- a request ------------------------------------------------------------------------------

/// A request's head, empty lines before it included. Browsers send 1 to 2 KiB; cookies of other
/// programs on the same host come on top.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header fields of a request; the answer past that is 431.
pub const HEADERS_MAX: usize = 64;
/// A request's body. Forms of a few hundred photo names fit.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// One line of chunked coding: size, extension, line end; and one line of its trailer.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Trailer lines of a chunked body that are skipped before it counts as malformed.
pub const TRAILER_LINES_MAX: usize = 32;
/// One read from a socket; one buffer of this size serves all of them.
pub const READ_BYTES: usize = 16 * 1024;
/// Bytes that a client may have sent ahead of what was understood: a head and one read.
pub const INBOX_BYTES_MAX: usize = HEAD_BYTES_MAX + READ_BYTES;
/// Characters of a request's target in a log line.
pub const LOGGED_TARGET_CHARS_MAX: usize = 200;

// ---- a connection's patience ----------------------------------------------------------------

/// A head must be whole within this; a human at telnet types slowly.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// A body must be whole within this, however much of it keeps coming.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// A kept-alive connection without a next request is closed silently.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(15);
/// A client that takes none of what it is owed for this long is gone.
pub const STALL_TIME_MAX: Duration = Duration::from_secs(10);
/// After the half-close, input is swallowed this long so that no reset overtakes our answer.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

// ---- the loop -------------------------------------------------------------------------------

/// Pieces handed to one vectored write.
pub const WRITE_PIECES_MAX: usize = 8;
/// Rounds of pump-and-meet for one peer before the others get their turn.
pub const TURNS_MAX: usize = 8;
/// Reads of one peer in one round: 256 KiB.
pub const READS_MAX: usize = 16;
/// Events taken from the kernel at once.
pub const EVENTS_MAX: usize = 256;
/// Guests accepted in one turn, so that a flood of connections cannot starve the streams.
pub const ACCEPTS_MAX: usize = 64;
/// Waiting connections that the kernel holds for us.
pub const BACKLOG: i32 = 1024;
/// Streams and waiting snapshots served at once unless `--max-viewers` says otherwise.
pub const VIEWERS: usize = 1000;
/// The largest `--max-viewers`.
pub const VIEWERS_MAX: usize = 100_000;
/// Connections beside the viewers': pages, keep-alive, requests being read.
pub const SPARE_SEATS: usize = 200;
/// Descriptors kept back from the guests: listeners, camera, files, the log.
pub const SPARE_DESCRIPTORS: usize = 64;
/// `accept` is tried again after this when descriptors or memory had run out.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// What a refused client is told to wait.
pub const RETRY_AFTER_SECONDS: u32 = 10;
/// Guests beyond the last seat, who are told so and leave.
pub const REFUSALS_MAX: usize = 16;
/// Bytes that all guests together may make us hold: requests half received, pages half sent.
/// Past that, who asks for much is refused, and who leaves a request unfinished goes.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all frames but the newest that are still being sent. Past that, who has the oldest is
/// closed.
pub const PAST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So many of the newest frames do not count, however large they are.
pub const FRAMES_NOT_PAST: usize = 4;
/// Of little memory, guests may make us hold one part in so many in each of these ways, …
pub const MEMORY_SHARE: u64 = 16;
/// …but at least this.
pub const SHARE_BYTES_MIN: usize = 2 * 1024 * 1024;
/// Who has made us hold less than this need not give it back.
pub const TRIM_BYTES_MIN: usize = 256 * 1024;
/// A silent connection is asked after this long whether its other end is still there…
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// …and again this often, until the kernel (after nine times) gives it up.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time that an option may name.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Addresses that `--listen` may name.
pub const LISTENERS_MAX: usize = 8;
/// A service manager that cannot be told something now is told after this.
pub const NOTIFY_RETRY: Duration = Duration::from_secs(1);
/// The loop says no more often than this that it turns, however often it is asked to.
pub const WATCHDOG_PERIOD_MIN: Duration = Duration::from_millis(10);

// ---- the stream -----------------------------------------------------------------------------

/// A pause this long sends the last frame once more: Chrome draws a part when the next begins.
pub const REPEAT_AFTER: Duration = Duration::from_millis(500);
/// A viewer that asked for at most this many frames a second lives with pauses.
pub const REPEAT_FPS_MIN: f64 = 2.0;
/// Bytes that the kernel may hold for a viewer when its next frame begins, on any link.
pub const GATE_BYTES_MIN: u64 = 16 * 1024;
/// What the link delivers in this time may wait as well: acknowledgements come in bursts, and a
/// radio stutters. Less idles the link, more is only older; …
pub const GATE_STUTTER: Duration = Duration::from_millis(30);
/// …but no more than this.
pub const GATE_STUTTER_BYTES_MAX: u64 = 64 * 1024;
/// Bytes not yet sent that the kernel takes before it says that it is full.
pub const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// What a link delivers is measured over this time at least; …
pub const LINK_SAMPLE_TIME: Duration = Duration::from_millis(20);
/// …the best of it counts for one to two times this long: pauses are not its rate, and it may
/// change.
pub const LINK_RATE_TIME: Duration = Duration::from_millis(500);
/// A viewer whose kernel holds too much is looked at again after this at the earliest, …
pub const GATE_WAIT_MIN: Duration = Duration::from_millis(5);
/// … and after this at the latest.
pub const GATE_WAIT_MAX: Duration = Duration::from_millis(100);
/// A snapshot waits this long for a frame.
pub const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(5);

/// Renditions of the picture that are made at once for viewers who asked for smaller ones, or for
/// ones with their pixels turned; past that the answer is 503.
pub const RENDITIONS_MAX: usize = 4;
/// How far the thread that makes them stands back when cores are short: the others' frames and the
/// camera's go first.
pub const SCALING_NICE: i32 = 10;
/// The longest time between two frames that `fps` can ask for.
pub const PACE_INTERVAL_MAX: Duration = Duration::from_secs(3600);

// ---- the camera -----------------------------------------------------------------------------

/// Cameras of one site. A Raspberry Pi has fewer ports, and its processor less to give.
pub const CAMERAS_MAX: usize = 8;
/// Descriptors of one camera: those of the first are among the spare ones. A program has its two
/// outputs and its guard's input; then hot-plug news, the nudge, the device.
pub const CAMERA_DESCRIPTORS_MAX: usize = 6;
/// One JPEG. A camera of 20 megapixels stays below it.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pixels of one side.
pub const SIDE_PIXELS_MAX: u32 = 16_384;
/// The shortest side in pixels.
pub const SIDE_PIXELS_MIN: u32 = 16;
/// Pixels of a picture: what a frame's bytes allow for, and a small machine's memory.
pub const PIXELS_MAX: u32 = 20_000_000;
/// Frames a second that may be asked for.
pub const FPS_MAX: u32 = 240;
/// Frames a second asked of a camera when nobody said: more costs every viewer.
pub const FPS: u32 = 30;
/// Frames a second of the test picture when nobody said: a Pi Zero has to encode them.
pub const PATTERN_FPS: u32 = 10;
/// JPEG quality of raw cameras when nobody said.
pub const QUALITY: u8 = 80;
/// JPEG quality of the test picture and NO SIGNAL.
pub const PATTERN_QUALITY: u8 = 75;
/// The size asked of a camera that makes JPEG.
pub const JPEG_SIZE: (u32, u32) = (1280, 720);
/// The size asked of a camera whose frames we must encode.
pub const RAW_SIZE: (u32, u32) = (640, 480);
/// Buffers asked of the driver. Fewer lose frames, more hold memory.
pub const BUFFERS: u32 = 4;
/// Buffers that a driver may give instead.
pub const BUFFERS_MAX: usize = 32;
/// Recycled JPEG buffers: one being filled, one newest, some still being sent.
pub const POOL_MAX: usize = 4;
/// From the time stamp of a frame to the next one's: the unit in which they are told.
pub const STAMP_STEP_MIN: Duration = Duration::from_micros(1);
/// A time stamp this far behind the one before says that the clock was set back; a smaller one that
/// a thread was held up between two clocks.
pub const CLOCK_STEP_MIN: Duration = Duration::from_secs(1);
/// A camera without a whole frame for this long is lost.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(3);
/// NO SIGNAL is shown this often.
pub const NO_SIGNAL_PERIOD: Duration = Duration::from_secs(1);
/// The first wait before a lost camera is tried again; it doubles up to the next.
pub const REOPEN_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a lost camera is tried again.
pub const REOPEN_MAX: Duration = Duration::from_secs(1);
/// `--camera auto` waits this long for the camera it had before it takes another one.
pub const SWAP_TIME: Duration = Duration::from_secs(10);
/// A node that has just appeared may refuse us this long, until udev has set its group.
pub const NODE_TIME_MAX: Duration = Duration::from_secs(3);
/// A camera that was unplugged is closed so long after that: its driver is taking it apart.
pub const TEARDOWN_TIME: Duration = Duration::from_millis(250);
/// A camera's first frames are dark: this long after its start they count as settled.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);
/// A photo in a size of its own: frames that pass before it, …
pub const STILL_FRAMES_MIN: u32 = 4;
/// …how long the exposure adapts to the new size, …
pub const STILL_SETTLE_TIME: Duration = Duration::from_millis(400);
/// …and how long it may take before the stream's size has to do.
pub const STILL_TIME_MAX: Duration = Duration::from_secs(4);
/// The camera is released this long after its last viewer, so that programs that poll
/// every ten seconds do not switch it on and off.
pub const IDLE_OFF: Duration = Duration::from_secs(30);
/// Formats, sizes and rates read from one device; a driver that lists without end is cut off.
pub const ENUMERATION_MAX: u32 = 256;
/// Device nodes looked at.
pub const NODES_MAX: usize = 64;
/// Segments walked in one JPEG's head and between its scans.
pub const SEGMENTS_MAX: usize = 1024;
/// Frames that a camera thread dequeues at once to reach the newest.
pub const DEQUEUES_MAX: usize = 32;
/// Bytes of hot-plug news read at once.
pub const HOTPLUG_BYTES: usize = 1024;

// ---- the status -----------------------------------------------------------------------------

/// Time between two points of the status page's plots, …
pub const HISTORY_STEP: Duration = Duration::from_secs(2);
/// …of which so many are kept: ten minutes.
pub const HISTORY_MAX: usize = 300;

// ---- a sequence of JPEGs, from standard input or a program ----------------------------------

/// What the kernel holds of it: the most that it allows every user.
pub const PIPE_BYTES: usize = 1024 * 1024;
/// The least room that it is read into.
pub const PIPE_READ_BYTES_MIN: usize = 64 * 1024;
/// Reads at once to reach the newest picture, from a pipe that is filled again meanwhile.
pub const PIPE_READS_MAX: usize = 16;
/// A program without a whole picture for this long hangs, and is ended. Camera software takes
/// seconds to start on a Pi Zero, and a network camera too.
pub const PROGRAM_TIME_MAX: Duration = Duration::from_secs(15);
/// The longest wait before a program is started again: each start costs a small machine about as
/// much as a second of its work. A run of this length makes the wait short again.
pub const PROGRAM_RESTART_MAX: Duration = Duration::from_secs(10);
/// A program that has closed its output may take this long to say why and end by itself.
pub const PROGRAM_CLOSE_TIME_MAX: Duration = Duration::from_millis(300);
/// From SIGTERM to SIGKILL.
pub const PROGRAM_END_TIME_MAX: Duration = Duration::from_millis(800);
/// From SIGKILL to giving up: the kernel holds it then.
pub const PROGRAM_KILL_TIME_MAX: Duration = Duration::from_millis(200);
/// A program that is ending is looked at this often.
pub const PROGRAM_LOOK_TIME: Duration = Duration::from_millis(10);
/// Programs that the kernel holds before no other is started.
pub const STUCK_MAX: usize = 4;
/// Characters of a command in the status.
pub const COMMAND_CHARS_MAX: usize = 200;
/// Characters of a program's name in the log.
pub const PROGRAM_NAME_CHARS_MAX: usize = 40;
/// Bytes of a line that a program says.
pub const REMARK_BYTES_MAX: usize = 300;
/// Lines of it that are logged at once, …
pub const REMARKS_MAX: u32 = 20;
/// …and after that one in so long.
pub const REMARK_PERIOD: Duration = Duration::from_secs(30);

// ---- the camera's controls ------------------------------------------------------------------

/// Controls read from one device; a driver that lists without end is cut off. vivid, which has
/// some of each kind, has 59.
pub const CONTROLS_MAX: usize = 512;
/// Entries looked for in one control's menu.
pub const MENU_MAX: usize = 256;
/// Bytes of a control that is a text; a longer one is listed and not set.
pub const CONTROL_TEXT_BYTES_MAX: i64 = 256;
/// Characters of a value that a refusal repeats.
pub const SHOWN_VALUE_CHARS_MAX: usize = 60;
/// Requests for controls that wait for the camera's thread; past that the answer is 503.
pub const ORDERS_MAX: usize = 16;
/// Such a request waits this long: a photo in a size of its own may come first, and a camera has
/// five seconds for an answer to its driver, which may hang.
pub const ORDER_TIME_MAX: Duration = Duration::from_secs(8);
/// Settings are written to their file this often at most: somebody may be moving a slider, and
/// cards wear out.
pub const SETTINGS_PERIOD: Duration = Duration::from_secs(1);
/// If the disk refused them, they are written again after this.
pub const SETTINGS_RETRY: Duration = Duration::from_secs(30);
/// Cameras of which it is remembered what was set; most sites have one.
pub const KEPT_CAMERAS_MAX: usize = 256;
/// Bytes of the file of settings.
pub const SETTINGS_BYTES_MAX: u64 = 1024 * 1024;

// ---- the disk -------------------------------------------------------------------------------

/// Jobs waiting for the disk thread; past that a page is answered 503.
pub const JOBS_MAX: usize = 64;
/// A file up to this size is answered whole by the job that opens it; a larger one is pulled
/// in chunks of it.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// The chunks of downloads that have begun, when guests make us hold too much already.
pub const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// Bytes of a file in which the kernel tells of memory.
pub const MEMORY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Names read from a folder that is listed.
pub const LISTED_MAX: usize = 10_000;
/// A Markdown file that is rendered.
pub const NOTE_BYTES_MAX: u64 = 1024 * 1024;
/// Rendered notes kept in memory.
pub const NOTES_KEPT_MAX: usize = 4;
/// The year 10000, where HTTP's dates end; a file may carry any time.
pub const HTTP_DATE_MAX: Duration = Duration::from_secs(253_402_300_800);

// ---- photos ---------------------------------------------------------------------------------

/// Presses of the button that wait for their frame; past that the answer is 503.
pub const PHOTO_WAITS_MAX: usize = 8;
/// A photo waits this long for a frame, …
pub const PHOTO_TIME_MAX: Duration = Duration::from_secs(5);
/// …and this long if it has a size of its own, and then perhaps the stream's after all.
pub const STILL_PHOTO_TIME_MAX: Duration = Duration::from_secs(10);
/// Durable changes waiting for their thread: photos to save, photos to delete.
pub const CHANGES_MAX: usize = 16;
/// Photos that are listed; a folder with more shows the rest when there are fewer.
pub const PHOTOS_MAX: usize = 100_000;
/// Photos that may have the same second in their names.
pub const TURNS_OF_A_SECOND_MAX: u16 = 9999;
/// Bytes of a photo that is made smaller: a frame and its EXIF data.
pub const PHOTO_BYTES_MAX: u64 = FRAME_BYTES_MAX as u64 + 128 * 1024;
/// Bytes of a form that the loop reads: all photos that may be named, and some more.
pub const FORM_BYTES_MAX: usize = 64 * 1024;
/// Photos that a form may name.
pub const NAMES_MAX: usize = 1000;
/// Archives that are sent at once; past that the answer is 503.
pub const ARCHIVES_MAX: usize = 4;
/// Photos on a page of the gallery.
pub const PAGE_PHOTOS: usize = 60;
/// Photos that an answer names when something went wrong with them: a page's.
pub const NAMED_PHOTOS_MAX: usize = PAGE_PHOTOS;
/// Frames over whose times the rate is measured.
pub const METERED_FRAMES: usize = 32;
/// After so long without a frame there is no rate.
pub const METER_TIME: Duration = Duration::from_secs(3);
/// Pixels of a thumbnail's width.
pub const THUMBNAIL_WIDTH: usize = 320;
/// JPEG quality of thumbnails.
pub const THUMBNAIL_QUALITY: u8 = 75;
/// Bytes of a thumbnail's file; a larger one is not ours.
pub const THUMBNAIL_BYTES_MAX: u64 = 512 * 1024;
/// Pixels of a photo that is made smaller. Its rows pass through, they are not all held.
pub const DECODED_PIXELS_MAX: u32 = 64_000_000;
/// Scans of a progressive JPEG; more only cost time.
pub const SCANS_MAX: u32 = 200;
/// A folder changed less than this ago may change again within the same time stamp (FAT counts
/// two seconds).
pub const FOLDER_STAMP_TIME: Duration = Duration::from_secs(3);
/// Bytes of the list of photos that are kept.
pub const KEEP_BYTES_MAX: u64 = PHOTOS_MAX as u64 * 30;
/// Bytes of a copy of that list, or of the settings, with the checksum in front.
pub const COPY_BYTES_MAX: u64 = KEEP_BYTES_MAX + SETTINGS_BYTES_MAX;
/// The shortest time between two interval photos.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest one.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest time that interval photos can be asked to go on.
pub const INTERVAL_TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// At the end, photos on their way to the disk have so long.
pub const END_TIME_MAX: Duration = Duration::from_secs(10);

// ---- access ---------------------------------------------------------------------------------

/// Bytes of a name in the password file.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a password: what bcrypt looks at.
pub const PASSWORD_BYTES_MAX: usize = 72;
/// Bytes of the password file.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 64 * 1024;
/// bcrypt's cost of what `--hash-password` makes, doubling with each: some tenths of a second on a
/// Pi Zero, once for each browser.
pub const HASH_COST: u32 = 8;
/// The highest cost that is taken: some seconds on a Pi Zero.
pub const HASH_COST_MAX: u32 = 12;
/// How far the thread that works out passwords stands back when cores are short.
pub const ACCESS_NICE: i32 = 10;
/// Names with passwords, right and wrong ones, whose verdict is remembered.
pub const PROOFS_KEPT_MAX: usize = 128;
/// Passwords waiting to be worked out; who comes then may come again later.
pub const GUESSES_WAITING_MAX: usize = 8;
/// Guests who wait for the same password to be worked out.
pub const GUESS_TICKETS_MAX: usize = 4096;
/// Wrong passwords from one address after which it has to wait before the next: …
pub const GUESSES_FREE: u32 = 3;
/// …this long at first, doubling each time, …
pub const GUESS_WAIT_MIN: Duration = Duration::from_secs(1);
/// …up to this.
pub const GUESS_WAIT_MAX: Duration = Duration::from_secs(300);
/// An address that has not guessed for so long begins anew.
pub const GUESSES_KEPT_TIME: Duration = Duration::from_secs(3600);
/// Addresses whose guesses are counted; past that all others are counted as one.
pub const GUESSERS_MAX: usize = 1024;
/// Origins that were refused and named in the log, once each.
pub const ORIGINS_NAMED_MAX: usize = 16;

// ---- the log --------------------------------------------------------------------------------

/// Bytes of lines waiting to be written; past that lines are counted and left out.
pub const LOG_BYTES_MAX: usize = 256 * 1024;
/// At the end, so long the last lines may take.
pub const LOG_TIME_MAX: Duration = Duration::from_millis(500);

// ---- who holds what we cannot have ----------------------------------------------------------

/// Processes looked through: what the kernel allows where nobody asked for more.
pub const PROCESSES_MAX: usize = 32_768;
/// Descriptors of one of them: what a browser with many pages has.
pub const DESCRIPTORS_MAX: usize = 8192;
/// Holders that are named.
pub const HOLDERS_MAX: usize = 3;
/// Bytes of a file of `/proc`. Sockets that listen stand first in the kernel's lists.
pub const PROC_BYTES_MAX: u64 = 1024 * 1024;
/// Cameras that are named to somebody who asked for one that is not there.
pub const NAMED_CAMERAS_MAX: usize = 3;

const _: () =
    assert!(STILL_PHOTO_TIME_MAX.as_secs() > STILL_TIME_MAX.as_secs() + PHOTO_TIME_MAX.as_secs());
const _: () = assert!(ORDER_TIME_MAX.as_secs() > STILL_TIME_MAX.as_secs());
const _: () = assert!(INBOX_BYTES_MAX >= HEAD_BYTES_MAX + READ_BYTES);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < INBOX_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX > INBOX_BYTES_MAX);
const _: () = assert!(IDLE_TIME_MAX.as_secs() <= HEAD_TIME_MAX.as_secs());
const _: () = assert!(REFUSALS_MAX < SPARE_DESCRIPTORS);
const _: () = assert!(HELD_BYTES_MAX > 4 * (BODY_BYTES_MAX + INBOX_BYTES_MAX));
const _: () = assert!(SHARE_BYTES_MIN > BODY_BYTES_MAX + INBOX_BYTES_MAX);
const _: () = assert!(REOPEN_MAX.as_millis() <= FRAME_TIME_MAX.as_millis());
// SIGTERM ends the house within two seconds.
const _: () = assert!(
    PROGRAM_CLOSE_TIME_MAX.as_millis()
        + PROGRAM_END_TIME_MAX.as_millis()
        + PROGRAM_KILL_TIME_MAX.as_millis()
        < 1500
);
const _: () = assert!(FRAME_TIME_MAX.as_secs() < PROGRAM_TIME_MAX.as_secs());
const _: () = assert!(BUFFERS as usize <= BUFFERS_MAX && BUFFERS as usize <= DEQUEUES_MAX);
const _: () = assert!(WRITE_PIECES_MAX <= 16); // what every kernel's IOV_MAX allows
