//! Streams and snapshots whose pixels are turned (`bake=1`), from the real binary: every way in
//! which a picture can be turned, what is left as it is, what cannot be turned, and a program that
//! ignores EXIF.

mod util;

use std::collections::HashMap;
use std::process::{Command, Stdio};

use pistream::jpeg::{mend, orient::Turn, orientation};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};
use util::client::find;
use util::{Folder, PATIENCE, Server, Stream, decode, until};

// ---- pictures -------------------------------------------------------------------------------

/// Decoded: sides and RGB.
struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    fn of(jpeg: &[u8]) -> Pixels {
        let (width, height, rgb) = decode(jpeg);
        Pixels { width, height, rgb }
    }

    fn at(&self, (x, y): (usize, usize)) -> &[u8] {
        &self.rgb[(y * self.width + x) * 3..][..3]
    }
}

/// Quarters clockwise, and whether it is mirrored after that.
type Way = (u16, bool);

fn ways() -> impl Iterator<Item = Way> {
    (0..4).flat_map(|quarters| [(quarters, false), (quarters, true)])
}

/// In which ways `stored` can be turned to look like `seen`, whatever their sizes.
fn fitting(stored: &Pixels, seen: &Pixels) -> Vec<Way> {
    let fits = |(quarters, mirror): &Way| {
        let sides_change = (stored.width < stored.height) != (seen.width < seen.height);
        let places = (0..40).flat_map(|y| (0..40).map(move |x| (x, y)));
        let alike = places.filter(|(x, y)| {
            let unmirrored = if *mirror { 39 - x } else { *x };
            let (from_x, from_y) = match quarters {
                1 => (*y, 39 - unmirrored),
                2 => (39 - unmirrored, 39 - y),
                3 => (39 - y, unmirrored),
                _ => (unmirrored, *y),
            };
            // The middle of one of 40 fields.
            let place = |n: usize, side: usize| (2 * n + 1) * side / 80;
            let one = stored.at((place(from_x, stored.width), place(from_y, stored.height)));
            let other = seen.at((place(*x, seen.width), place(*y, seen.height)));
            one.iter().zip(other).all(|(a, b)| a.abs_diff(*b) < 40)
        });
        (quarters % 2 == 1) == sides_change && alike.count() > 40 * 40 * 93 / 100
    };
    ways().filter(fits).collect()
}

/// A picture in which no two ways of turning are alike.
fn picture((width, height): (usize, usize), subsamp: Subsamp, progressive: bool) -> Vec<u8> {
    let field = |x: usize, y: usize| match (x * 4 / width, y * 3 / height) {
        (0, 0) => [220, 30, 30],
        (3, 0) => [30, 200, 40],
        (0, 2) => [40, 40, 220],
        (_, 1) => [20, 20, 20],
        _ => [200, 200, 200],
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(|n| field(n % width, n / width)).collect();
    let (pitch, format) = (width * 3, PixelFormat::RGB);
    let mut compressor = Compressor::new().expect("a compressor");
    compressor.set_subsamp(subsamp).expect("a way to share colours");
    compressor.set_progressive(progressive).expect("an order of coefficients");
    compressor.set_quality(85).expect("a quality");
    let image = Image { pixels: &pixels[..], width, pitch, height, format };
    compressor.compress_to_vec(image).expect("a picture")
}

/// A program that prints these pictures in turn, without end, is the camera.
fn film(folder: &Folder, pictures: &[Vec<u8>], args: &[&str]) -> Server {
    for (n, picture) in pictures.iter().enumerate() {
        folder.write(&format!("{n}.jpg"), picture);
    }
    let last = pictures.len() - 1;
    let camera = format!(
        "exec:cd {}; while :; do for n in $(seq 0 {last}); do cat $n.jpg; sleep 0.05; done; done",
        folder.arg()
    );
    Server::start(&[&["--camera", &camera, "--fps", "240"], args].concat())
}

/// Options that have the picture turned in this way.
fn turned((quarters, mirror): Way) -> Vec<String> {
    let mut args = vec!["--rotate".to_owned(), (quarters * 90).to_string()];
    args.extend(mirror.then(|| "--mirror".to_owned()));
    args
}

/// A frame that both viewers were shown.
fn same_frame(one: &mut Stream, other: &mut Stream) -> (Vec<u8>, Vec<u8>) {
    let mut seen: HashMap<u64, [Option<Vec<u8>>; 2]> = HashMap::new();
    loop {
        for (n, stream) in [&mut *one, &mut *other].into_iter().enumerate() {
            let part = stream.frame();
            let both = seen.entry((part.timestamp * 1e6).round() as u64).or_default();
            both[n] = Some(part.jpeg);
            if let [Some(first), Some(second)] = both {
                return (std::mem::take(first), std::mem::take(second));
            }
        }
    }
}

// ---- what is turned, and what is not --------------------------------------------------------

#[test]
fn every_turn_is_baked_into_streams_and_snapshots_of_every_size() {
    let upright = picture((640, 480), Subsamp::Sub2x2, false);
    let stored = Pixels::of(&upright);
    for way in ways() {
        let args = turned(way);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let folder = Folder::new();
        let server = film(&folder, std::slice::from_ref(&upright), &args);
        let check = |target: &str, jpeg: &[u8]| {
            assert!(orientation(jpeg).is_none(), "{way:?} {target}");
            let seen = Pixels::of(jpeg);
            assert_eq!(fitting(&stored, &seen), [way], "{target}");
            let sides = (seen.width.max(seen.height), seen.width.min(seen.height));
            assert!(target.contains("width") || sides == (640, 480), "{target}: {sides:?}");
            assert!(!target.contains("width") || seen.width <= 320, "{target}: {sides:?}");
        };
        for target in ["/video_feed?bake=1", "/stream?bake=1&width=320", "/?action=stream&bake=1"] {
            check(target, &Stream::open(server.addr(), target).part().jpeg);
        }
        for target in ["/snapshot?bake=1", "/snapshot.jpg?width=200&bake=1"] {
            check(target, &server.get(target).expect(200).body);
        }
        let plain = server.get("/snapshot?bake=0").expect(200).body;
        assert_eq!(orientation(&plain), Turn::new(way.0 as u8, way.1));
        assert_eq!(fitting(&stored, &Pixels::of(&plain)), [(0, false)]);
        assert_eq!(server.complaints(), [""; 0]);
        server.stop();
    }
}

#[test]
fn what_is_upright_is_given_as_it_is_and_costs_nothing() {
    let server = Server::start(&["--camera", "test"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    plain.part();
    let threads = server.threads();
    let mut baked = Stream::open(server.addr(), "/video_feed?bake=1");
    let (one, other) = same_frame(&mut plain, &mut baked);
    assert!(one == other, "the same bytes");
    server.get("/snapshot?bake=1").expect(200);
    assert_eq!(server.threads(), threads, "nothing is to be made");
    let (one, other) = same_frame(
        &mut Stream::open(server.addr(), "/video_feed?width=320"),
        &mut Stream::open(server.addr(), "/video_feed?width=320&bake=1"),
    );
    assert!(one == other, "the smaller ones too");
    for bake in ["", "2", "yes", "-1", "1.0"] {
        for path in ["/video_feed", "/snapshot"] {
            let reply = server.get(&format!("{path}?bake={bake}")).expect(400);
            assert!(reply.text().contains("bake"), "{}", reply.text());
        }
    }
}

#[test]
fn a_thread_turns_while_somebody_asks_and_once_for_all() {
    let server = Server::start(&["--camera", "test", "--rotate", "90"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    plain.part();
    server.get("/snapshot?bake=0").expect(200);
    let threads = server.threads();
    let open = || Stream::open(server.addr(), "/video_feed?bake=1");
    let (mut first, mut second) = (open(), open());
    let (one, other) = same_frame(&mut first, &mut second);
    assert!(one == other && server.threads() == threads + 1);
    drop((first, second));
    let ended = || (server.threads() == threads).then_some(());
    assert!(until(PATIENCE, ended).is_some(), "it ends");
    server.get("/snapshot?bake=1").expect(200);
    assert!(until(PATIENCE, ended).is_some(), "again");
    assert!(!orientation(&plain.frame().jpeg).is_none(), "the others see what they saw");
}

#[test]
fn what_is_turned_counts_among_the_four_that_are_made_at_once() {
    let server = Server::start(&["--camera", "test", "--size", "640x480", "--rotate", "180"]);
    let targets = ["bake=1", "width=80", "width=80&bake=1", "width=160&bake=1"];
    let streams = targets.map(|query| {
        let mut stream = Stream::open(server.addr(), &format!("/video_feed?{query}"));
        stream.part();
        stream
    });
    server.get("/snapshot?width=160").expect(503);
    server.get("/video_feed?width=320&bake=1").expect(503);
    for query in targets {
        server.get(&format!("/snapshot?{query}")).expect(200);
    }
    server.get("/snapshot").expect(200);
    drop(streams);
}

#[test]
fn no_signal_is_upright_and_is_shown_to_those_who_ask_for_turned_pictures() {
    let absent = "/dev/video-that-is-not-there";
    let server = Server::start(&["--camera", absent, "--rotate", "90"]);
    let plain = Stream::open(server.addr(), "/video_feed").part().jpeg;
    let baked = Stream::open(server.addr(), "/video_feed?bake=1").part().jpeg;
    let size = |jpeg: &[u8]| (Pixels::of(jpeg).width, Pixels::of(jpeg).height);
    assert_eq!(size(&baked), size(&plain));
    server.get("/snapshot?bake=1").expect(503);
}

// ---- cameras that make JPEG -----------------------------------------------------------------

#[test]
fn all_kinds_of_jpeg_are_turned_with_what_the_camera_says_of_itself() {
    for (subsamp, progressive) in [
        (Subsamp::Sub2x1, false), // most webcams; 4:4:0 when it is turned
        (Subsamp::Sub2x2, false),
        (Subsamp::None, false),
        (Subsamp::Sub1x2, false),
        (Subsamp::Sub2x2, true),
    ] {
        let folder = Folder::new();
        let upright = picture((310, 202), subsamp, progressive);
        // The camera says that it hangs on its side; and it was turned once more.
        let mut hanging = Vec::new();
        mend(&upright, Turn::new(1, false), &mut hanging).expect("a whole picture");
        let server = film(&folder, &[hanging], &["--rotate", "180"]);
        let stored = Pixels::of(&upright);
        let what = format!("{subsamp:?} {progressive}");
        for (target, longest) in [("/snapshot?bake=1", 310), ("/snapshot?bake=1&width=80", 120)] {
            let jpeg = server.get(target).expect(200).body;
            assert!(orientation(&jpeg).is_none(), "{what}");
            let seen = Pixels::of(&jpeg);
            assert_eq!(fitting(&stored, &seen), [(3, false)], "{what} {target}");
            assert!((longest - 15..=longest).contains(&seen.height), "{what} {}", seen.height);
        }
        server.stop();
    }
}

#[test]
fn a_picture_that_cannot_be_turned_is_left_out_and_said_once() {
    let folder = Folder::new();
    let whole = picture((320, 240), Subsamp::Sub2x2, false);
    let named = |name: &[u8]| [&whole[..2], b"\xff\xfe\0\x06", name, &whole[2..]].concat();
    let torn = [&named(b"torn")[..whole.len() * 3 / 4], b"\xff\xd9"].concat();
    let server = film(&folder, &[named(b"good"), torn], &["--rotate", "90"]);
    let mut plain = Stream::open(server.addr(), "/video_feed");
    let mut baked = Stream::open(server.addr(), "/video_feed?bake=1");
    let mut torn_seen = 0;
    let said = || server.log().matches("could not be made smaller or turned").count();
    for n in 0.. {
        torn_seen += u32::from(find(&plain.frame().jpeg, b"torn").is_some());
        let jpeg = baked.frame().jpeg;
        assert!(find(&jpeg, b"good").is_some() && orientation(&jpeg).is_none());
        if n >= 20 && torn_seen >= 5 && said() > 0 {
            break;
        }
        assert!(n < 500, "{torn_seen} torn ones came by: {}", server.log());
    }
    assert_eq!(said(), 1, "{}", server.log());
    server.stop();
}

/// What ffmpeg shows of a target, `size` large, if it is told to ignore orientations.
fn by_ffmpeg(server: &Server, target: &str, (width, height): (usize, usize)) -> Pixels {
    let url = format!("http://{}{target}", server.addr());
    let output = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-noautorotate", "-i", &url, "-frames:v", "1"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout.len(), width * height * 3, "{target}: {said}");
    Pixels { width, height, rgb: output.stdout }
}

#[test]
fn a_program_that_ignores_exif_sees_the_turned_picture() {
    for subsamp in [Subsamp::Sub2x1, Subsamp::Sub2x2] {
        let folder = Folder::new();
        let upright = picture((320, 240), subsamp, false);
        let server = film(&folder, std::slice::from_ref(&upright), &["--rotate", "90", "--mirror"]);
        let stored = Pixels::of(&upright);
        for (target, size, expect) in [
            ("/video_feed", (320, 240), (0, false)),
            ("/video_feed?bake=1", (240, 320), (1, true)),
            ("/video_feed?bake=1&width=120", (120, 160), (1, true)),
        ] {
            let seen = by_ffmpeg(&server, target, size);
            assert_eq!(fitting(&stored, &seen), [expect], "{subsamp:?} {target}");
        }
        server.stop();
    }
}
