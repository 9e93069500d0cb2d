//! Photos on disk, by the real binary: taken, shown, kept, deleted, and nothing lost or half
//! written, whatever the disk does and whenever the program is killed.
//!
//! The test picture counts as settled at once, so a photo is there after a frame or two.

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exif::Tag;
use rustix::process::Signal;
use serde_json::Value as Json;

use util::mount::Mount;
use util::photos::{
    Receipt, delete, exif_text, expect_photo, names_in, names_of, parts_of, photos_in, post, press,
    request, send, shown, taken_of, unfinished, unix, unzip,
};
use util::stamp::without_exif;
use util::{
    Chance, Client, Folder, PATIENCE, Part, Reply, Server, Stream, command, decode, median,
    one_line, run, until,
};

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--camera", "test"], args].concat())
}

/// Where a server that was not told otherwise keeps its photos.
fn pic(server: &Server) -> PathBuf {
    server.folder().path().join("pic")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Nothing half-written is there; a thumbnail may just be on its way.
#[track_caller]
fn expect_finished(folder: &Path) {
    let finished = until(PATIENCE, || unfinished(folder).is_empty().then_some(()));
    assert!(finished.is_some(), "{:?}", unfinished(folder));
}

/// A real picture of the server's, made once for all tests.
fn sample() -> &'static [u8] {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    SAMPLE.get_or_init(|| start(&[]).get("/snapshot?now=1").expect(200).body)
}

/// The same picture with comments in it, so that it has at least so many bytes.
fn large(bytes: usize) -> Vec<u8> {
    let (start, rest) = sample().split_at(2);
    let comment = [&[0xff, 0xfe, 0xff, 0xff], &[b' '; 0xfffd][..]].concat();
    [start, &comment.repeat(bytes.div_ceil(comment.len())), rest].concat()
}

/// Puts photos into a folder: one file under many names.
fn fill(folder: &Path, names: &[String], jpeg: &[u8]) {
    fs::create_dir_all(folder).expect("make a folder");
    let (first, rest) = names.split_first().expect("names");
    fs::write(folder.join(first), jpeg).expect("write a photo");
    for name in rest {
        fs::hard_link(folder.join(first), folder.join(name)).expect("link a photo");
    }
}

/// A folder of photos.
fn album(names: &[String]) -> Folder {
    let folder = Folder::new();
    fill(folder.path(), names, sample());
    folder
}

/// All photos, as the gallery shows them.
fn gallery(server: &Server) -> Vec<String> {
    shown(&server.get("/gallery").expect(200))
}

#[track_caller]
fn json(reply: &Reply) -> Json {
    assert_eq!(reply.header("Content-Type"), Some("application/json"), "{}", reply.text());
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// The log has exactly so many lines with `pattern`, or will have them soon: they are written
/// by a thread of their own.
#[track_caller]
fn expect_lines(server: &Server, pattern: &str, count: usize) -> Vec<String> {
    let find = || -> Vec<String> {
        server.log().lines().filter(|l| l.contains(pattern)).map(str::to_owned).collect()
    };
    until(PATIENCE, || (find().len() >= count).then_some(()));
    let found = find();
    assert_eq!(found.len(), count, "{pattern:?}: {found:?}");
    found
}

/// It streams, shows pages and takes photos.
#[track_caller]
fn expect_unharmed(server: &Server) {
    let mut stream = Stream::open(server.addr(), "/video_feed");
    decode(&stream.frame().jpeg);
    server.get("/").expect(200);
    press(server);
    stream.frame();
}

// ---- a photo is taken ------------------------------------------------------------------------

#[test]
fn a_program_gets_a_receipt_and_the_photo_is_whole_with_date_and_orientation() {
    let server = start(&[]);
    let receipt = press(&server);
    let bytes = expect_photo(&pic(&server).join(&receipt.name));
    assert_eq!(bytes.len(), receipt.bytes);
    let (width, height, _) = decode(&bytes);
    assert_eq!((width, height), (receipt.width, receipt.height));
    let second = &receipt.taken[..19];
    let name = format!("{}.jpg", second.replace('T', "_").replace(':', "-"));
    assert_eq!(receipt.name, name, "the first of its second");
    assert_eq!(taken_of(&bytes), receipt.taken[..23]);
    let served = server.get(&receipt.url).expect(200);
    assert_eq!(served.header("Content-Type"), Some("image/jpeg"));
    assert_eq!(served.body, bytes);
    expect_finished(&pic(&server));
}

#[test]
fn a_person_is_led_to_the_page_that_shows_the_photo() {
    let server = start(&[]);
    let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let reply = send(server.addr(), "POST", "/photo", accept, "").expect(303);
    assert_eq!(reply.header("Location"), Some("current_picture"));
    let page = server.get("/current_picture").expect(200).text();
    let photos = photos_in(&pic(&server));
    assert_eq!(photos.len(), 1);
    assert!(page.contains(&format!("pic/{}", photos.first().unwrap())), "{page}");
}

/// No second encoding, and none of the picture's bytes changed.
#[test]
fn a_photo_is_a_frame_of_the_stream_with_nothing_but_exif_data_added() {
    let server = start(&[]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    stream.frame();
    let (receipts, frames) = thread::scope(|scope| {
        let pressing = scope.spawn(|| (0..5).map(|_| press(&server)).collect());
        let mut frames: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while !pressing.is_finished() {
            let Part { headers, jpeg, .. } = stream.part();
            let stamp = &headers[2].1;
            frames.insert(stamp[..stamp.len() - 3].to_owned(), jpeg);
        }
        let receipts: Vec<Receipt> = pressing.join().unwrap();
        (receipts, frames)
    });
    let mut found = 0;
    for receipt in &receipts {
        let photo = expect_photo(&pic(&server).join(&receipt.name));
        // On a busy machine this viewer may have missed that frame.
        let Some(frame) = frames.get(&format!("{:.3}", unix(&receipt.taken))) else { continue };
        assert_eq!(decode(&photo), decode(frame), "other pixels");
        assert_eq!(&without_exif(&photo), frame);
        found += 1;
    }
    assert!(found > 0, "none of {receipts:?} among {:?}", frames.keys());
}

#[test]
fn a_photo_is_never_from_before_the_press() {
    // In a large picture much can happen between the moment it shows and its being there; at a
    // slow pace the newest frame is old when the button is pressed.
    for (fps, size, presses) in [("30", "1920x1080", 20), ("2", "640x480", 3)] {
        let server = start(&["--fps", fps, "--size", size]);
        let mut stream = Stream::open(server.addr(), "/video_feed");
        stream.frame();
        let mut chance = Chance(7);
        for _ in 0..presses {
            // Not always just after a frame, as the answer to the press before is.
            thread::sleep(Duration::from_micros(chance.below(40_000) as u64));
            let pressed = now();
            let taken = unix(&press(&server).taken);
            // Milliseconds are cut off.
            assert!(taken >= pressed - 0.001, "taken {} s before the press", pressed - taken);
            assert!(taken <= now(), "taken in the future");
        }
    }
}

#[test]
fn eight_presses_at_once_are_photos_of_one_second_and_the_ninth_is_turned_away() {
    let server = start(&[]);
    let addr = server.addr();
    // They stand at the door together when the loop looks there again.
    server.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..9).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.send(request(addr, "POST", "/photo", "", ""));
    }
    server.signal(Signal::CONT);
    let replies: Vec<Reply> = clients.iter_mut().map(Client::reply).collect();
    let (saved, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.status == 201);
    assert_eq!((saved.len(), refused.len()), (8, 1), "{replies:?}");
    assert_eq!(refused[0].status, 503);
    assert!(refused[0].header("Retry-After").is_some(), "{:?}", refused[0]);
    let receipts: Vec<Receipt> = saved.into_iter().map(Receipt::of).collect();
    let names: BTreeSet<String> = receipts.iter().map(|receipt| receipt.name.clone()).collect();
    assert_eq!(names, photos_in(&pic(&server)));
    let turns: BTreeSet<u32> = names.iter().map(|name| parts_of(name).unwrap().1).collect();
    assert_eq!(turns, (0..8).collect(), "{names:?}");
    for receipt in &receipts {
        let bytes = expect_photo(&pic(&server).join(&receipt.name));
        assert_eq!(bytes.len(), receipt.bytes);
    }
    expect_finished(&pic(&server));
    expect_unharmed(&server);
}

#[test]
fn a_photo_is_named_by_the_clock_on_the_wall_of_its_zone() {
    for (zone, offset) in [
        ("Asia/Shanghai", "+08:00"),
        ("Asia/Kathmandu", "+05:45"),
        ("<-0930>9:30", "-09:30"),
        ("", "+00:00"),
        ("No/Such_Zone", "+00:00"),
    ] {
        let mut command = command(&["--camera", "test", "--listen", "127.0.0.1:0"]);
        command.env("TZ", zone);
        let server = Server::start_command(command);
        let receipt = press(&server);
        assert_eq!(&receipt.taken[23..], offset, "TZ={zone:?}");
        let off = (now() - unix(&receipt.taken)).abs();
        assert!(off < PATIENCE.as_secs_f64(), "TZ={zone:?}: {off} s off");
        let (second, _) = parts_of(&receipt.name).unwrap();
        assert_eq!(second, receipt.taken[..19].replace('T', "_").replace(':', "-"));
        let bytes = expect_photo(&pic(&server).join(&receipt.name));
        assert_eq!(exif_text(&bytes, Tag::OffsetTimeOriginal), offset);
    }
}

/// Two programs, one of which is started again and again: each start sweeps the folder.
#[test]
fn two_programs_on_one_folder_never_overwrite_each_others_photos() {
    let folder = Folder::new();
    let size_of = |width: usize| format!("{width}x120");
    let server = |width: usize| start(&["--pic", folder.arg(), "--size", &size_of(width)]);
    let first = server(160);
    let start_again_and_again = || -> Vec<Receipt> {
        let started = (0..40).map(|n| (n, server(200))).filter(|(n, _)| n % 8 == 0);
        started.flat_map(|(_, second)| [(); 3].map(|()| press(&second))).collect()
    };
    let press_two = || {
        thread::scope(|scope| {
            let other = scope.spawn(|| press(&first));
            [press(&first), other.join().unwrap()]
        })
    };
    let receipts = thread::scope(|scope| {
        let second = scope.spawn(start_again_and_again);
        let mut all = Vec::new();
        while !second.is_finished() {
            all.extend(press_two());
        }
        all.extend(second.join().unwrap());
        all
    });
    let names: BTreeSet<String> = receipts.iter().map(|receipt| receipt.name.clone()).collect();
    assert_eq!(names.len(), receipts.len(), "one name for two photos");
    assert_eq!(names, photos_in(folder.path()));
    for receipt in &receipts {
        let bytes = expect_photo(&folder.path().join(&receipt.name));
        assert_eq!(taken_of(&bytes), receipt.taken[..23]);
        assert_eq!((bytes.len(), decode(&bytes).0), (receipt.bytes, receipt.width));
    }
    let both: BTreeSet<usize> = receipts.iter().map(|receipt| receipt.width).collect();
    assert_eq!(both, BTreeSet::from([160, 200]));
    expect_finished(folder.path());
}

#[test]
fn a_photo_is_saved_although_the_one_who_pressed_has_left() {
    let server = start(&["--fps", "5"]);
    let addr = server.addr();
    for count in 1..=3 {
        let mut client = Client::connect(addr);
        client.send(request(addr, "POST", "/photo", "", ""));
        drop(client);
        let saved = || (photos_in(&pic(&server)).len() == count).then_some(());
        assert!(until(PATIENCE, saved).is_some(), "photo {count} is not saved");
    }
    for name in photos_in(&pic(&server)) {
        expect_photo(&pic(&server).join(name));
    }
}

#[test]
fn looking_at_the_button_does_not_press_it() {
    let server = start(&[]);
    for method in ["GET", "HEAD", "DELETE"] {
        let reply = send(server.addr(), method, "/photo", "", "").expect(405);
        assert_eq!(reply.header("Allow"), Some("POST, OPTIONS"));
    }
    for path in ["/gallery/delete", "/gallery/keep", "/gallery/archive"] {
        server.get(path).expect(405);
    }
    assert_eq!(photos_in(&pic(&server)).len(), 0);
}

#[test]
fn pages_of_other_sites_can_neither_take_nor_change_photos() {
    let server = start(&[]);
    let kept = press(&server).name;
    let form = format!("name={kept}&keep=1&every=1s");
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://elsewhere.example\r\n",
        "Origin: null\r\n",
    ] {
        for path in ["/photo", "/gallery/delete", "/gallery/keep", "/gallery/archive", "/interval"]
        {
            send(server.addr(), "POST", path, fields, &form).expect(403);
        }
        send(server.addr(), "DELETE", &format!("/pic/{kept}"), fields, "").expect(403);
    }
    assert_eq!(photos_in(&pic(&server)), BTreeSet::from([kept]));
    assert!(!pic(&server).join(".keep").exists());
    assert_eq!(json(&server.get("/interval").expect(200)), Json::Null);
    let own = format!("Origin: http://{}\r\n", server.addr());
    send(server.addr(), "POST", "/photo", &own, "").expect(201);
}

// ---- photos are looked at --------------------------------------------------------------------

#[test]
fn a_photo_is_served_in_parts_and_not_again_when_it_is_known() {
    let server = start(&[]);
    let Receipt { url, name, .. } = press(&server);
    let whole = server.get(&url).expect(200);
    let get = |fields: &str| send(server.addr(), "GET", &url, fields, "");
    for (range, part) in [("0-99", 0..100), ("100-", 100..whole.body.len())] {
        let reply = get(&format!("Range: bytes={range}\r\n")).expect(206);
        assert_eq!(reply.body, whole.body[part]);
    }
    get("Range: bytes=99999999-\r\n").expect(416);
    let etag = whole.header("ETag").expect("ETag").to_owned();
    let modified = whole.header("Last-Modified").expect("Last-Modified").to_owned();
    let known =
        [format!("If-None-Match: {etag}\r\n"), format!("If-Modified-Since: {modified}\r\n")];
    for field in &known {
        let reply = get(field).expect(304);
        assert_eq!(reply.header("ETag"), Some(etag.as_str()));
    }
    // Another picture under the same name, with the same length and a later time.
    let path = pic(&server).join(name);
    let later = fs::metadata(&path).unwrap().modified().unwrap() + Duration::from_secs(7);
    fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
    for field in &known {
        get(field).expect(200);
    }
    assert_eq!(
        get(&format!("Range: bytes=0-9\r\nIf-Range: {etag}\r\n")).expect(200).body.len(),
        whole.body.len()
    );
}

#[test]
fn a_thumbnail_is_small_and_has_the_shape_of_its_photo() {
    for (width, height) in [(640, 480), (1280, 720), (160, 120), (400, 1000)] {
        let server = start(&["--size", &format!("{width}x{height}")]);
        let name = press(&server).name;
        let target = format!("/thumb/{name}");
        let reply = server.get(&target).expect(200);
        assert_eq!(reply.header("Content-Type"), Some("image/jpeg"));
        let (w, h, _) = decode(&reply.body);
        assert!(w <= 320 && w <= width, "{w}x{h} of {width}x{height}");
        assert!(w >= 160, "{w}x{h} of {width}x{height} is too small");
        let high = w as f64 * height as f64 / width as f64;
        assert!((h as f64 - high).abs() <= 1.0, "{w}x{h} of {width}x{height}");
        assert_eq!(reply.header("Cache-Control"), Some("no-cache"));
        let etag = reply.header("ETag").expect("ETag");
        let known = format!("If-None-Match: {etag}\r\n");
        send(server.addr(), "GET", &target, &known, "").expect(304);
        // The gallery's own link names the version.
        let page = server.get("/gallery").expect(200).text();
        let (_, link) = page.split_once(&format!("{}?v=", &target[1..])).expect("a link");
        let version = link.split('"').next().unwrap();
        let reply = server.get(&format!("{target}?v={version}")).expect(200);
        let forever = reply.header("Cache-Control").unwrap();
        assert!(forever.contains("immutable") && forever.contains("max-age=31536000"), "{forever}");
    }
}

#[test]
fn a_thumbnail_is_made_anew_when_it_is_missing_damaged_or_of_another_picture() {
    let server = start(&[]);
    let name = press(&server).name;
    let target = format!("/thumb/{name}");
    let photo = pic(&server).join(&name);
    let kept = pic(&server).join(".thumbnails").join(&name);
    let small = server.get(&target).expect(200);
    assert!(until(PATIENCE, || kept.exists().then_some(())).is_some(), "it is not kept");
    // The file's time says that it is of this photo: it is the content that gives it away.
    let taken = fs::metadata(&photo).unwrap().modified().unwrap();
    let damage = |bytes: &[u8]| {
        fs::write(&kept, bytes).unwrap();
        fs::File::options().append(true).open(&kept).unwrap().set_modified(taken).unwrap();
    };
    let expect_again = |what: &str| {
        let reply = server.get(&target).expect(200);
        assert_eq!(reply.body, small.body, "{what}");
        assert_eq!(fs::read(&kept).unwrap(), small.body, "{what}: it is not kept");
    };
    expect_again("untouched");
    fs::remove_file(&kept).unwrap();
    expect_again("missing");
    damage(b"");
    expect_again("empty");
    damage(&small.body[..small.body.len() / 2]);
    expect_again("cut");
    damage(&vec![0; small.body.len()]);
    expect_again("zeros");
    fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    expect_again("without its folder");
    let other = start(&["--size", "1280x720"]).get("/snapshot?now=1").expect(200).body;
    fs::write(&photo, other).unwrap();
    let reply = server.get(&target).expect(200);
    let (width, height, _) = decode(&reply.body);
    assert_eq!((width, height), (320, 180), "still of the old picture");
    assert_ne!(reply.header("ETag"), small.header("ETag"));
}

#[test]
fn a_deleted_photo_is_gone_from_everywhere() {
    let server = start(&[]);
    let names = [press(&server).name, press(&server).name];
    let gone = &names[0];
    server.get(&format!("/thumb/{gone}")).expect(200);
    delete(&server, gone).expect(204);
    delete(&server, gone).expect(404);
    for root in ["pic", "thumb", "view"] {
        server.get(&format!("/{root}/{gone}")).expect(404);
        server.get(&format!("/{root}/{}", names[1])).expect(200);
    }
    assert_eq!(gallery(&server), names[1..]);
    assert_eq!(photos_in(&pic(&server)).into_iter().collect::<Vec<_>>(), names[1..]);
    assert!(!pic(&server).join(".thumbnails").join(gone).exists());
}

#[test]
fn the_second_of_two_tabs_is_told_what_was_gone_already() {
    let folder = album(&names_of(2026, 3));
    let server = start(&["--pic", folder.arg()]);
    let names = names_of(2026, 3);
    let form = |names: &[String]| names.iter().map(|n| format!("name={n}&")).collect::<String>();
    let first = post(&server, "/gallery/delete", &form(&names[..1])).expect(303);
    let second = post(&server, "/gallery/delete", &(form(&names[..2]) + "page=1")).expect(303);
    let follow = |reply: &Reply| {
        let location = reply.header("Location").expect("Location");
        let target = location.strip_prefix("..").expect("a relative address");
        server.get(target).expect(200)
    };
    let page = follow(&first).text();
    assert!(page.contains("1 photo deleted.") && !page.contains("already gone"), "{page}");
    let page = follow(&second);
    assert_eq!(shown(&page), names[2..]);
    let said = format!("1 photo deleted. {} was already gone.", names[0]);
    assert!(page.text().contains(&said), "{}", page.text());
    assert_eq!(photos_in(folder.path()).into_iter().collect::<Vec<_>>(), names[2..]);
    // Nothing happens when one of the names is no photo's.
    post(&server, "/gallery/delete", &(form(&names[2..]) + "name=../secret")).expect(400);
    assert_eq!(photos_in(folder.path()).len(), 1);
}

#[test]
fn what_is_kept_is_known_after_a_restart_and_spared_when_room_is_made() {
    let names = names_of(2026, 4);
    let folder = album(&names);
    let keep = |server: &Server, name: &str, keep: u8| {
        let form = format!("name={name}&keep={keep}&page=1");
        let reply = post(server, "/gallery/keep", &form).expect(303);
        let word = ["unkept", "kept"][usize::from(keep)];
        let location = format!("../gallery?page=1&{word}=1");
        assert_eq!(reply.header("Location"), Some(location.as_str()));
    };
    let listed = || fs::read_to_string(folder.path().join(".keep")).unwrap();
    let server = start(&["--pic", folder.arg()]);
    for name in [&names[0], &names[1]] {
        keep(&server, name, 1);
    }
    keep(&server, &names[1], 0);
    assert_eq!(listed(), format!("{}\n", names[0]));
    server.stop();
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    let page = server.get("/gallery").expect(200).text();
    assert_eq!(page.matches(">Kept</b>").count(), 1, "{page}");
    let saved = press(&server).name;
    expect_photos(folder.path(), &[&names[0], &names[3], &saved].map(String::clone));
    // From the photo's own page it leads back there.
    let form = format!("name={}&keep=0&view=1", names[0]);
    let reply = post(&server, "/gallery/keep", &form).expect(303);
    assert_eq!(reply.header("Location"), Some(format!("../view/{}", names[0]).as_str()));
    assert_eq!(listed(), "");
}

#[test]
fn an_archive_is_whole_and_holds_what_was_asked_for() {
    let server = start(&[]);
    let photos: BTreeMap<String, Vec<u8>> = (0..3)
        .map(|_| press(&server).name)
        .map(|name| (name.clone(), fs::read(pic(&server).join(name)).unwrap()))
        .collect();
    let names: Vec<&String> = photos.keys().collect();
    let some = format!("name={}&name={}&page=1", names[2], names[0]);
    for (form, missing) in [("", None), (some.as_str(), Some(names[1]))] {
        // The client reads as many bytes as were promised, and then the connection ends.
        let reply = post(&server, "/gallery/archive", form).expect(200);
        assert_eq!(reply.header("Content-Type"), Some("application/zip"));
        let disposition = reply.header("Content-Disposition").expect("Content-Disposition");
        assert!(disposition.starts_with("attachment; filename=\"pistream-20"), "{disposition}");
        let mut wanted = photos.clone();
        missing.map(|name| wanted.remove(name));
        assert!(unzip(&reply.body) == wanted, "other files");
        let file = server.folder().write("photos.zip", &reply.body);
        match Command::new("unzip").arg("-t").arg(file).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) => eprintln!("no unzip here: {error}"),
        }
    }
    // What has gone is left out; an archive of nothing is none.
    delete(&server, names[0]).expect(204);
    let reply = post(&server, "/gallery/archive", &some).expect(200);
    assert_eq!(unzip(&reply.body).keys().collect::<Vec<_>>(), [names[2]]);
    post(&server, "/gallery/archive", &format!("name={}", names[0])).expect(404);
}

/// Strangers who do not read what they asked for hold little memory and few places.
#[test]
fn archives_that_nobody_reads_cost_little_and_are_few() {
    let names = names_of(2020, 1);
    let folder = Folder::new();
    let large = fs::File::create(folder.path().join(&names[0])).unwrap();
    large.set_len(50 << 20).unwrap();
    let server = start(&["--pic", folder.arg()]);
    let asked = request(server.addr(), "POST", "/gallery/archive", "", "");
    let mut readers: Vec<Client> = Vec::new();
    let before = server.rss_kib();
    for count in 1..=4 {
        let mut client = Client::connect(server.addr());
        client.send(&asked);
        readers.push(client);
        expect_lines(&server, "/gallery/archive 200", count);
    }
    let refused = post(&server, "/gallery/archive", "").expect(503);
    assert!(refused.header("Retry-After").is_some());
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for four readers");
    let whole = readers.pop().unwrap().reply().expect(200);
    assert!(whole.body.len() > 50 << 20);
    assert!(whole.body.starts_with(b"PK\x03\x04"));
    drop(readers);
    let again = || (post(&server, "/gallery/archive", "").status == 200).then_some(());
    assert!(until(PATIENCE, again).is_some(), "no place becomes free");
}

#[test]
fn a_photo_that_is_named_twice_is_meant_once() {
    let names = names_of(2020, 2);
    let folder = album(&names);
    let server = start(&["--pic", folder.arg()]);
    let twice = format!("name={0}&name={0}", names[0]);
    let reply = post(&server, "/gallery/archive", &twice).expect(200);
    assert_eq!(unzip(&reply.body).len(), 1);
    let reply = post(&server, "/gallery/delete", &twice).expect(303);
    let location = reply.header("Location").unwrap();
    assert!(location.ends_with("deleted=1"), "{location}");
    let reply = post(&server, "/gallery/keep", "").expect(303);
    assert!(reply.header("Location").unwrap().ends_with("deleted=0"), "none was named");
    assert!(!folder.path().join(".keep").exists());
}

#[test]
fn an_archive_of_which_a_photo_vanishes_ends_early_and_nothing_else_does() {
    // More than the sockets' buffers hold: most of it is read when the client reads.
    let names = names_of(2026, 60);
    let folder = Folder::new();
    fill(folder.path(), &names, &large(1 << 20));
    let server = start(&["--pic", folder.arg()]);
    let mut client = Client::connect(server.addr());
    client.send(request(server.addr(), "POST", "/gallery/archive", "", ""));
    let head = client.head();
    let length: usize = head.header("Content-Length").unwrap().parse().unwrap();
    assert!(length > 60 << 20, "{length} bytes");
    delete(&server, &names[50]).expect(204);
    let came = client.rest().map_or(0, |bytes| bytes.len());
    assert!(came < length, "an archive of what is not there");
    let reply = post(&server, "/gallery/archive", "").expect(200);
    assert_eq!(unzip(&reply.body).len(), 59);
    expect_unharmed(&server);
}

#[test]
fn the_gallery_shows_sixty_photos_a_page_the_newest_first() {
    let mut names = names_of(2026, 130);
    let folder = album(&names);
    let server = start(&["--pic", folder.arg()]);
    names.reverse();
    let page = |query: &str| shown(&server.get(&format!("/gallery{query}")).expect(200));
    for (query, part) in [
        ("", 0..60),
        ("?page=1", 0..60),
        ("?page=2", 60..120),
        ("?page=3", 120..130),
        ("?page=4", 120..130),
        ("?page=18446744073709551615", 120..130),
        ("?page=99999999999999999999999", 0..60),
        ("?page=0", 0..60),
        ("?page=-1", 0..60),
        ("?page=x", 0..60),
    ] {
        assert_eq!(page(query), names[part], "{query}");
    }
    // Another program's photos are seen without being told of; ten comes after nine.
    let newer = ["", "-2", "-9", "-10"].map(|turn| format!("2027-01-01_00-00-00{turn}.jpg"));
    fill(folder.path(), &newer, sample());
    assert!(page("")[..4].iter().eq(newer.iter().rev()), "{:?}", page(""));
}

#[test]
fn the_page_of_a_photo_leads_to_the_ones_before_and_after_it() {
    let names = names_of(2026, 3);
    let folder = album(&names);
    let server = start(&["--pic", folder.arg()]);
    let links = |target: &str| {
        let page = server.get(target).expect(200).text();
        let link = |rel: &str| {
            let (_, rest) = page.split_once(&format!("<a rel=\"{rel}\" href=\""))?;
            Some(rest.split('"').next()?.trim_start_matches("../").to_owned())
        };
        (link("prev"), link("next"))
    };
    let view = |n: usize| Some(format!("view/{}", names[n]));
    assert_eq!(links(&format!("/view/{}", names[0])), (view(1), None));
    assert_eq!(links(&format!("/view/{}", names[1])), (view(2), view(0)));
    assert_eq!(links(&format!("/view/{}", names[2])), (None, view(1)));
    assert_eq!(links("/current_picture"), (None, view(1)));
    server.get(&format!("/view/{}", names_of(2027, 1)[0])).expect(404);
}

#[test]
fn without_photos_the_pages_offer_to_take_one() {
    let server = start(&[]);
    for target in ["/current_picture", "/gallery", "/gallery?page=7"] {
        let page = server.get(target).expect(200).text();
        assert!(page.contains("There are no photos yet."), "{page}");
        assert!(page.contains("method=\"post\" action=\"photo\""), "{page}");
    }
    post(&server, "/gallery/archive", "").expect(404);
}

// ---- room is made ----------------------------------------------------------------------------

/// The old ones go after the answer, so that nobody waits for it.
#[track_caller]
fn expect_photos(folder: &Path, expect: &[String]) {
    let expect: BTreeSet<String> = expect.iter().cloned().collect();
    let seen = until(PATIENCE, || (photos_in(folder) == expect).then_some(()));
    assert!(seen.is_some(), "{:?} instead of {expect:?}", photos_in(folder));
}

#[test]
fn the_oldest_photos_go_when_there_are_more_than_allowed() {
    let names = names_of(2020, 6);
    let folder = album(&names);
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    server.get(&format!("/thumb/{}", names[0])).expect(200);
    let mut left = names[4..].to_vec();
    left.push(press(&server).name);
    let expect = |left: &[String]| expect_photos(folder.path(), left);
    expect(&left);
    let said = expect_lines(&server, "made room", 1);
    assert!(said[0].contains(" 4 ") && said[0].contains(&names[0]), "{said:?}");
    for count in 2..=3 {
        left.push(press(&server).name);
        left.remove(0);
        expect(&left);
        expect_lines(&server, "made room", count);
    }
    left.reverse();
    assert_eq!(gallery(&server), left);
    let thumbnails = names_in(&folder.path().join(".thumbnails"));
    assert!(!thumbnails.contains(&names[0]), "{thumbnails:?}");
}

/// One that cannot go must not cost the others their places without a photo being saved for it.
#[test]
fn an_old_photo_that_cannot_be_deleted_is_passed_over() {
    let names = names_of(2020, 6);
    let folder = album(&names);
    let _pinned = Mount::pinned(&folder.path().join(&names[0]));
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    let saved = press(&server).name;
    expect_photos(folder.path(), &[names[0].clone(), names[5].clone(), saved]);
    let said = expect_lines(&server, "cannot be deleted", 1);
    assert!(said[0].contains(&names[0]), "{said:?}");
}

/// The same where room in bytes is asked for.
#[test]
fn a_photo_is_saved_although_the_oldest_cannot_go() {
    let disk = Folder::new();
    let _disk = Mount::disk(disk.path(), 1024);
    let names = names_of(2020, 6);
    for name in &names {
        fs::write(disk.path().join(name), sample()).unwrap();
    }
    let _pinned = Mount::pinned(&disk.path().join(&names[0]));
    let free = 1024 * 1024 - names.len() * sample().len().next_multiple_of(4096);
    let keep_free = free.to_string(); // so that one photo more has to make room
    let server = start(&["--pic", disk.arg(), "--keep-free", &keep_free]);
    let saved = press(&server).name;
    let left = photos_in(disk.path());
    assert!(left.contains(&saved) && left.contains(&names[0]), "{left:?}");
    assert!(!left.contains(&names[1]) && left.contains(&names[5]), "{left:?}");
}

/// Somebody else filled the disk: no photo goes for a room that they cannot make.
#[test]
fn no_photo_is_deleted_where_all_of_them_would_not_make_room() {
    let disk = Folder::new();
    let _disk = Mount::disk(disk.path(), 1024);
    let names = names_of(2020, 4);
    for name in &names {
        fs::write(disk.path().join(name), sample()).unwrap();
    }
    fs::write(disk.path().join("film.mp4"), vec![7; 700 << 10]).unwrap();
    let server = start(&["--pic", disk.arg(), "--keep-free", "900K"]);
    let refused = post(&server, "/photo", "").expect(507).text();
    assert!(refused.contains("--keep-free"), "{refused}");
    assert_eq!(photos_in(disk.path()), names.iter().cloned().collect());
    fs::remove_file(disk.path().join("film.mp4")).unwrap();
    let saved = press(&server).name;
    assert!(photos_in(disk.path()).contains(&saved));
}

/// Nobody has looked at the gallery since the start: the limit holds all the same.
#[test]
fn room_is_made_for_the_first_photo_after_a_start() {
    let folder = album(&names_of(2020, 6));
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    press(&server);
    let thinned = || (photos_in(folder.path()).len() == 3).then_some(());
    assert!(until(PATIENCE, thinned).is_some(), "{:?}", photos_in(folder.path()));
}

/// A clock that fell back must not make the photo that was just taken the oldest.
#[test]
fn a_photo_saved_since_the_start_is_newer_than_all_that_were_found() {
    let names = names_of(2099, 3);
    let folder = album(&names);
    let server = start(&["--pic", folder.arg(), "--max-photos", "3"]);
    let mut order: Vec<String> = names.into_iter().rev().collect();
    for _ in 0..5 {
        let saved = press(&server).name;
        order.insert(0, saved.clone());
        order.truncate(3);
        expect_photos(folder.path(), &order);
        assert_eq!(gallery(&server), order);
        let page = server.get("/current_picture").expect(200).text();
        assert!(page.contains(&format!("pic/{saved}")), "{page}");
    }
}

#[test]
fn as_much_of_the_disk_stays_free_as_was_asked_for() {
    const KIB: u64 = 1024;
    let folder = Folder::new();
    let _mount = Mount::disk(folder.path(), 4096);
    // Eight files of their own, a quarter of a megabyte each, in the future; two are kept.
    let names = names_of(2099, 8);
    for name in &names {
        fs::write(folder.path().join(name), large(192 << 10)).unwrap();
    }
    let server = start(&["--pic", folder.arg(), "--keep-free", "3M"]);
    let kept = [&names[0], &names[5]].map(|name| format!("name={name}&"));
    post(&server, "/gallery/keep", &(kept.concat() + "keep=1")).expect(303);
    let free = || {
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    let before = free();
    assert!(before < 3072 * KIB, "{before} bytes are free already");
    let saved = press(&server).name;
    // A thumbnail is made after the photo, and files end at a page's border.
    assert!(free() > 3072 * KIB - 64 * KIB, "{} bytes are free", free());
    expect_lines(&server, "made room", 1);
    let left = photos_in(folder.path());
    for name in [&names[0], &names[5], &names[7], &saved] {
        assert!(left.contains(name), "{name} of {left:?}");
    }
    assert!(!left.contains(&names[1]), "{left:?}");
    let rank = |name: &String| names.iter().position(|other| other == name);
    let oldest = names.iter().find(|name| left.contains(*name) && !kept_name(&kept, name));
    let gone = names.iter().filter(|name| !left.contains(*name)).filter_map(rank).max();
    assert!(oldest.and_then(rank) > gone, "not the oldest first: {left:?}");
}

fn kept_name(kept: &[String], name: &str) -> bool {
    kept.iter().any(|field| field.contains(name))
}

#[test]
fn a_photo_is_refused_when_nothing_may_be_deleted_for_it() {
    let folder = Folder::new();
    let _mount = Mount::disk(folder.path(), 2048);
    let names = names_of(2026, 2);
    fill(folder.path(), &names, sample());
    let server = start(&["--pic", folder.arg(), "--keep-free", "1G"]);
    let form: String = names.iter().map(|name| format!("name={name}&")).collect();
    post(&server, "/gallery/keep", &form).expect(303);
    let reply = post(&server, "/photo", "").expect(507);
    assert!(reply.text().contains("--keep-free"), "{}", reply.text());
    let page = send(server.addr(), "POST", "/photo", "Accept: text/html\r\n", "").expect(507);
    assert!(page.text().contains("--keep-free"), "{}", page.text());
    assert_eq!(photos_in(folder.path()).into_iter().collect::<Vec<_>>(), names);
    expect_finished(folder.path());
    Stream::open(server.addr(), "/video_feed").frame();
}

// ---- the disk fails --------------------------------------------------------------------------

/// Takes all room but so many bytes.
fn fill_up(folder: &Path, left: u64) -> PathBuf {
    let path = folder.join("filler");
    let mut file = fs::File::create(&path).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size - left).expect("make the file shorter");
    path
}

#[test]
fn a_full_disk_is_said_in_words_and_nothing_half_written_is_left() {
    let folder = Folder::new();
    let _mount = Mount::disk(folder.path(), 1024);
    let server = start(&["--pic", folder.arg()]);
    let first = press(&server);
    server.get(&format!("/thumb/{}", first.name)).expect(200);
    let names = names_in(folder.path());
    let mut stream = Stream::open(server.addr(), "/video_feed");
    // No room at all, and room for half a photo.
    for left in [0, first.bytes as u64 / 2] {
        let filler = fill_up(folder.path(), left);
        for accept in ["", "Accept: text/html\r\n"] {
            let reply = send(server.addr(), "POST", "/photo", accept, "").expect(507);
            assert!(reply.text().contains("the disk is full"), "{}", reply.text());
        }
        if left == 0 {
            let reply = post(&server, "/gallery/keep", &format!("name={}", first.name));
            assert!(reply.expect(507).text().contains("the disk is full"));
        }
        stream.frame();
        assert_eq!(gallery(&server), [&*first.name]);
        server.get(&format!("/thumb/{}", first.name)).expect(200);
        fs::remove_file(filler).unwrap();
        assert_eq!(names_in(folder.path()), names, "something was left");
    }
    let second = press(&server);
    expect_photo(&folder.path().join(&second.name));
    stream.frame();
    // What is full can be emptied.
    fill_up(folder.path(), 0);
    delete(&server, &first.name).expect(204);
}

#[test]
fn a_read_only_folder_is_said_in_words_and_everything_else_works() {
    let name = names_of(2026, 1).remove(0);
    let folder = album(std::slice::from_ref(&name));
    let mount = Mount::read_only(folder.path());
    let server = start(&["--pic", folder.arg()]);
    let line = server.wait_for_log("write photos into", PATIENCE);
    assert!(line.contains("Read-only file system") && line.contains("ReadWritePaths"), "{line}");
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let says = |reply: Reply, status: u16| {
        let text = reply.expect(status).text();
        assert!(text.to_lowercase().contains("read-only"), "{text}");
    };
    says(post(&server, "/photo", ""), 507);
    says(post(&server, "/gallery/keep", &format!("name={name}")), 507);
    says(delete(&server, &name), 500);
    let reply = post(&server, "/gallery/delete", &format!("name={name}")).expect(303);
    let location = reply.header("Location").unwrap();
    assert!(location.ends_with(&format!("&deleted=0&failed={name}")), "{location}");
    let page = server.get(location.strip_prefix("..").unwrap()).expect(200);
    assert!(page.text().contains(&format!("{name} could not be changed")), "{}", page.text());
    assert_eq!(shown(&page), [&*name]);
    server.get(&format!("/pic/{name}")).expect(200);
    server.get(&format!("/thumb/{name}")).expect(200);
    stream.frame();
    drop(mount);
    assert_eq!(names_in(folder.path()), BTreeSet::from([name]));
    expect_unharmed(&server);
}

#[test]
fn a_folder_that_vanishes_is_made_anew_by_the_next_photo() {
    let server = start(&[]);
    let old = press(&server).name;
    assert_eq!(gallery(&server), [&*old]);
    fs::remove_dir_all(pic(&server)).unwrap();
    let page = server.get("/gallery").expect(200).text();
    assert!(page.contains("There are no photos yet."), "{page}");
    for root in ["pic", "thumb", "view"] {
        server.get(&format!("/{root}/{old}")).expect(404);
    }
    delete(&server, &old).expect(404);
    post(&server, "/gallery/archive", "").expect(404);
    assert_eq!(json(&server.get("/status").expect(200))["photos"]["count"], 0);
    let new = press(&server).name;
    expect_photo(&pic(&server).join(&new));
    assert_eq!(gallery(&server), [new]);
}

#[test]
fn a_file_where_the_folder_was_stops_no_stream() {
    let server = start(&[]);
    press(&server);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    fs::remove_dir_all(pic(&server)).unwrap();
    fs::write(pic(&server), "I was here first.").unwrap();
    let refused = post(&server, "/photo", "").expect(507).text();
    assert!(refused.starts_with("The photo is not saved: "), "{refused}");
    for target in ["/gallery", "/current_picture"] {
        server.get(target).expect(500);
    }
    let status = json(&server.get("/status").expect(200));
    assert!(status["photos"].is_null() && status["viewers"] == 1, "{status}");
    server.get("/pic/2026-01-01_00-00-00.jpg").expect(404);
    stream.frame();
    assert_eq!(fs::read(pic(&server)).unwrap(), b"I was here first.");
    fs::remove_file(pic(&server)).unwrap();
    expect_unharmed(&server);
}

/// What a folder of photos may hold beside them. Gives a folder outside with what must not be
/// seen or touched.
fn put_foreign_things(folder: &Path) -> Folder {
    let outside = Folder::new();
    let secret = outside.write("secret.jpg", large(1 << 16));
    for name in [
        "notes.txt",
        "IMG_0001.jpg",
        "2026-1-1_1-1-1.jpg",
        "2026-13-01_00-00-00.jpg",
        "2026-01-01_24-00-00.jpg",
        "2026-01-01_00-00-00.JPG",
        "2026-01-01_00-00-00.jpeg",
        "2026-01-01_00-00-00.jpg.bak",
        "2026-01-01_00-00-00-0.jpg",
        "2026-01-01_00-00-00-01.jpg",
        "2026-01-01_00-00-00-99999.jpg",
        "2026-01-01_00-00-00 (1).jpg",
        "２026-01-01_00-00-00.jpg",
        "<script>alert(1)<script>.jpg",
        ".2026-01-01_00-00-00.jpg",
        "new\nline.jpg",
    ] {
        fs::write(folder.join(name), sample()).unwrap();
    }
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"2026-01-01_00-00-00\xff.jpg")), "")
        .unwrap();
    fs::create_dir(folder.join("2020-01-01_00-00-01.jpg")).unwrap();
    fs::write(folder.join("2020-01-01_00-00-01.jpg/inside.jpg"), sample()).unwrap();
    let fifo = Command::new("mkfifo").arg(folder.join("2020-01-01_00-00-02.jpg")).status();
    assert!(fifo.expect("mkfifo").success());
    symlink(&secret, folder.join("2020-01-01_00-00-03.jpg")).unwrap();
    symlink(outside.path(), folder.join("2020-01-01_00-00-04.jpg")).unwrap();
    symlink("nowhere", folder.join("2020-01-01_00-00-05.jpg")).unwrap();
    symlink("/dev/zero", folder.join("2020-01-01_00-00-06.jpg")).unwrap();
    symlink("2020-01-01_00-00-07.jpg", folder.join("2020-01-01_00-00-07.jpg")).unwrap();
    symlink(outside.path(), folder.join(".thumbnails")).unwrap();
    outside
}

#[test]
fn what_is_no_photo_is_neither_shown_nor_served_nor_deleted() {
    let folder = Folder::new();
    let outside = put_foreign_things(folder.path());
    let theirs = names_in(folder.path());
    let server = start(&["--pic", folder.arg(), "--max-photos", "2"]);
    let mut saved: Vec<String> = (0..4).map(|_| press(&server).name).collect();
    saved.reverse();
    saved.truncate(2);
    let thinned = until(PATIENCE, || (gallery(&server) == saved).then_some(()));
    assert!(thinned.is_some(), "{:?} instead of {saved:?}", gallery(&server));
    let archive = post(&server, "/gallery/archive", "").expect(200);
    assert_eq!(unzip(&archive.body).len(), 2);
    for n in 1..=7 {
        let name = format!("2020-01-01_00-00-0{n}.jpg");
        for root in ["pic", "thumb", "view"] {
            server.get(&format!("/{root}/{name}")).expect(404);
        }
        let reply = post(&server, "/gallery/archive", &format!("name={name}"));
        assert!(reply.status >= 400, "{name}: {reply:?}");
    }
    for name in &saved {
        server.get(&format!("/thumb/{name}")).expect(200);
    }
    let all: BTreeSet<String> = theirs.into_iter().chain(saved).collect();
    assert_eq!(names_in(folder.path()), all);
    assert_eq!(names_in(outside.path()), BTreeSet::from(["secret.jpg".to_owned()]));
    expect_unharmed(&server);
}

/// Has the name of a photo and is none; and a list of kept photos that is none.
#[test]
fn damaged_content_harms_only_itself() {
    let names = names_of(2026, 5);
    let folder = Folder::new();
    let whole = sample();
    for (name, bytes) in names.iter().zip([
        whole,
        b"".as_slice(),
        b"not a JPEG at all".as_slice(),
        &whole[..whole.len() / 2],
        &[&whole[..200], &vec![0xff; 5000][..]].concat(),
    ]) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::create_dir(folder.path().join(".keep")).unwrap();
    fs::write(folder.path().join(".thumbnails"), "I am no folder.").unwrap();
    let server = start(&["--pic", folder.arg()]);
    let mut order = names.clone();
    order.reverse();
    assert_eq!(gallery(&server), order);
    for name in &names {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        assert_eq!(server.get(&format!("/pic/{name}")).expect(200).body, bytes);
        server.get(&format!("/view/{name}")).expect(200);
        let thumbnail = server.get(&format!("/thumb/{name}"));
        match thumbnail.status {
            200 => drop(decode(&thumbnail.body)),
            _ => drop(thumbnail.expect(404)),
        }
    }
    server.get(&format!("/thumb/{}", names[0])).expect(200);
    let reply = post(&server, "/gallery/archive", "").expect(200);
    assert_eq!(unzip(&reply.body).len(), 5);
    post(&server, "/gallery/keep", &format!("name={}", names[0])).expect(507);
    expect_finished(folder.path());
    for name in &names {
        delete(&server, name).expect(204);
    }
    expect_unharmed(&server);
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_folder() {
    let server = start(&[]);
    let name = press(&server).name;
    let folder = server.folder();
    // Where the tricks would lead if they worked.
    let outside = names_of(2026, 1).remove(0);
    for path in ["secret.jpg", "etc/passwd", &outside, "pic/.keep", "pic/sub/x.jpg"] {
        folder.write(path, large(1 << 16));
    }
    folder.write(&format!("pic/sub/{outside}"), sample());
    folder.write(&format!("pic/.thumbnails/{outside}"), sample());
    let count = || photos_in(&pic(&server)).len() + photos_in(folder.path()).len();
    let before = count();
    let mut tricks = vec![".keep".to_owned(), "%2ekeep".into(), ".thumbnails".into(), "sub".into()];
    tricks.extend([&outside, "secret.jpg", "etc/passwd"].iter().flat_map(|target| {
        let ups = [
            "..",
            "%2e%2e",
            "%2E.",
            ".%2e",
            "%252e%252e",
            "%c0%ae%c0%ae",
            "%e0%80%ae%e0%80%ae",
            "%uff0e%uff0e",
            "\u{ff0e}\u{ff0e}",
            "....",
            "..;",
            "..%00",
            "..%20",
            "..\\",
            "sub",
            "sub/..",
            ".thumbnails",
            &name,
        ];
        let slashes = ["/", "%2f", "%2F", "%252f", "\\", "%5c", "%c0%af", "//", "/./", "/%2e/"];
        ups.into_iter()
            .flat_map(|up| slashes.map(|slash| format!("{up}{slash}{target}")))
            .collect::<Vec<_>>()
    }));
    for ending in ["%00", "%00.png", "%20", ".", "/x", "%2f", "::$DATA", "%0a", "~", ";x", "%0d%0a"]
    {
        tricks.push(format!("{name}{ending}"));
    }
    tricks.push(name.replace('-', "%e2%88%92"));
    tricks.push(name.replace("jpg", "JPG"));
    for trick in &tricks {
        for root in ["pic", "thumb", "view"] {
            for (method, head) in [("GET", false), ("HEAD", true), ("DELETE", false)] {
                if method == "DELETE" && root != "pic" {
                    continue;
                }
                let mut client = Client::connect(server.addr());
                let target = format!("/{root}/{trick}");
                client.send(request(server.addr(), method, &target, "", ""));
                let reply = client.try_reply(head).unwrap_or_else(|e| panic!("{target}: {e}"));
                // What is no URL at all is 400.
                let raw = trick.contains(|c: char| c == '\\' || !c.is_ascii());
                let fine = reply.status == 404 || (raw && reply.status == 400);
                assert!(fine, "{method} {target}: {} {}", reply.status, reply.reason);
                assert!(!reply.body.starts_with(b"\xff\xd8"), "{target}");
            }
        }
    }
    assert_eq!(count(), before);
    server.get(&format!("/pic/{name}")).expect(200);
}

// ---- the disk is slow ------------------------------------------------------------------------

/// A server on a disk that takes so long each time that something must be written through.
fn start_on_slow_disk(delay: Duration, args: &[&str]) -> Server {
    let program = command(&[&["--camera", "test", "--listen", "127.0.0.1:0"], args].concat());
    let mut traced = Command::new("strace");
    // Only these calls are stopped, and the tracer is the child: signals reach the program.
    let inject = format!("inject=fsync,fdatasync:delay_enter={}", delay.as_micros());
    traced.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"]);
    traced.args(["-e", "trace=fsync,fdatasync", "-e", &inject]);
    traced.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    Server::start_command(traced)
}

/// The longest time without a new frame, until it is `over`.
fn longest_gap(stream: &mut Stream, over: impl Fn() -> bool) -> Duration {
    stream.frame();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !over() {
        stream.frame();
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

/// Waits until a photo is being written.
#[track_caller]
fn expect_saving(folder: &Folder) {
    let begun = until(PATIENCE, || (!unfinished(folder.path()).is_empty()).then_some(()));
    assert!(begun.is_some(), "no photo is being written");
}

#[test]
fn a_slow_disk_holds_up_no_stream_and_no_page() {
    const DELAY: Duration = Duration::from_secs(2);
    const PERIOD: Duration = Duration::from_millis(100);
    let folder = Folder::new();
    let names = names_of(2026, 3);
    fill(folder.path(), &names, sample());
    let server = start_on_slow_disk(DELAY, &["--pic", folder.arg()]);
    let mut stream = Stream::open(server.addr(), "/video_feed");
    let save = || {
        let begun = Instant::now();
        press(&server);
        begun.elapsed()
    };
    let look = |name: &str| {
        expect_saving(&folder);
        let roots = ["/pic/", "/thumb/", "/view/"].map(|root| format!("{root}{name}"));
        let pages = ["/", "/gallery", "/current_picture", "/status", "/snapshot?now=1"];
        let times = roots.iter().map(String::as_str).chain(pages).map(|target| {
            let asked = Instant::now();
            server.get(target).expect(200);
            (asked.elapsed(), target.to_owned())
        });
        times.max().unwrap()
    };
    let mut round = |name: &str| -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(1);
        let control = longest_gap(&mut stream, || Instant::now() > end);
        let (gap, slowest, saving) = thread::scope(|scope| {
            let saving = scope.spawn(save);
            let looking = scope.spawn(|| look(name));
            let gap = longest_gap(&mut stream, || saving.is_finished());
            (gap, looking.join().unwrap(), saving.join().unwrap())
        });
        assert!(saving > DELAY, "saved in {saving:?}: the disk is not slow");
        if gap > control + 2 * PERIOD {
            return Err(format!("no frame for {gap:?}, without photos {control:?}"));
        }
        if slowest.0 > DELAY / 2 {
            return Err(format!("{} took {:?}", slowest.1, slowest.0));
        }
        Ok(())
    };
    // Another program may take the machine's time once; the disk's delay is there each time.
    let faults: Vec<String> = names.iter().map_while(|name| round(name).err()).collect();
    assert!(faults.len() < names.len(), "{faults:?}");
}

/// One whole photo and nothing half-written, but perhaps among the thumbnails: those are no loss.
#[track_caller]
fn expect_only_photo(folder: &Path) -> PathBuf {
    let mut names = names_in(folder);
    names.remove(".thumbnails");
    assert_eq!(names.len(), 1, "{names:?}");
    let photo = folder.join(names.pop_first().unwrap());
    expect_photo(&photo);
    photo
}

#[test]
fn the_end_waits_for_a_photo_that_is_being_saved() {
    let folder = Folder::new();
    let server = start_on_slow_disk(Duration::from_secs(2), &["--pic", folder.arg()]);
    let addr = server.addr();
    let pressing = thread::spawn(move || send(addr, "POST", "/photo", "", ""));
    expect_saving(&folder);
    let mut stream = Stream::open(addr, "/video_feed?fps=1");
    server.signal(Signal::TERM);
    stream.rest().expect("an orderly end of the stream");
    server.ended(PATIENCE);
    let receipt = Receipt::of(&pressing.join().expect("an answer"));
    let photo = expect_only_photo(folder.path());
    assert_eq!(fs::metadata(photo).unwrap().len() as usize, receipt.bytes);
}

/// Nobody waits for it but the house.
#[test]
fn the_end_waits_for_an_interval_photo_too() {
    let folder = Folder::new();
    let args = ["--pic", folder.arg(), "--every", "1h"];
    let server = start_on_slow_disk(Duration::from_secs(1), &args);
    expect_saving(&folder);
    server.signal(Signal::TERM);
    server.ended(PATIENCE);
    expect_only_photo(folder.path());
}

// ---- the program is killed -------------------------------------------------------------------

/// A photo, by its name and its own time: a name that was freed may be used again.
type Identity = (String, String);

/// What the clients of a program that gets killed know for sure.
#[derive(Default)]
struct Ledger {
    /// Saved, by its answer, and nobody has sent for its deletion.
    there: BTreeSet<Identity>,
    /// Deleted, by the answer.
    gone: BTreeSet<Identity>,
}

/// Takes and deletes photos until the program is dead or the time is over.
fn use_photos(addr: SocketAddr, seed: u64, over: &AtomicBool, ledger: &Mutex<Ledger>) {
    let mut chance = Chance(seed);
    let try_send = |method: &str, target: &str| -> std::io::Result<Reply> {
        let mut client = Client::try_connect(addr)?;
        client.try_send(request(addr, method, target, "", ""))?;
        client.try_reply(false)
    };
    // A port of the dead is soon another server's.
    while !over.load(Ordering::SeqCst) {
        let Ok(reply) = try_send("POST", "/photo") else { return };
        let Receipt { name, taken, .. } = Receipt::of(&reply);
        ledger.lock().unwrap().there.insert((name, taken[..23].to_owned()));
        let victim = {
            let there = &mut ledger.lock().unwrap().there;
            let many = there.len() > 30 || chance.below(2) == 0;
            let victim = there.iter().nth(chance.below(there.len().max(1))).cloned();
            victim.filter(|victim| many && there.remove(victim))
        };
        let Some(victim) = victim.filter(|_| !over.load(Ordering::SeqCst)) else { continue };
        let Ok(reply) = try_send("DELETE", &format!("/pic/{}", victim.0)) else { return };
        assert_eq!(reply.status, 204, "{victim:?}: {}", reply.text());
        ledger.lock().unwrap().gone.insert(victim);
    }
}

#[test]
fn a_program_that_is_killed_loses_no_photo_and_leaves_none_half_written() {
    const ROUNDS: usize = 200;
    let folder = Folder::new();
    let ledger = Mutex::new(Ledger::default());
    let mut chance = Chance(1795334017);
    // What was looked at is looked at again only if it has changed.
    let mut known: BTreeMap<String, ((u64, i64), String)> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut server = start(&["--pic", folder.arg(), "--size", "160x120", "--fps", "60"]);
        expect_finished(folder.path()); // what the kill before has left is swept
        let names = names_in(folder.path());
        known.retain(|name, _| names.contains(name));
        for name in names.iter().filter(|name| *name != ".thumbnails") {
            let path = folder.path().join(name);
            let stat = fs::metadata(&path).unwrap();
            let version = (stat.ino(), stat.mtime_nsec());
            if known.get(name).is_none_or(|(seen, _)| *seen != version) {
                known.insert(name.clone(), (version, taken_of(&expect_photo(&path))));
            }
        }
        let on_disk = |(name, taken): &&Identity| known.get(name).is_some_and(|k| k.1 == *taken);
        {
            let Ledger { there, gone } = &*ledger.lock().unwrap();
            let lost: Vec<_> = there.iter().filter(|photo| !on_disk(photo)).collect();
            assert!(lost.is_empty(), "round {round}: saved and lost: {lost:?}");
            let back: Vec<_> = gone.iter().filter(on_disk).collect();
            assert!(back.is_empty(), "round {round}: deleted and back: {back:?}");
        }
        let over = AtomicBool::new(false);
        let pause = Duration::from_micros(chance.below(200_000) as u64);
        let seeds = [(); 3].map(|()| chance.below(1 << 30) as u64);
        thread::scope(|scope| {
            let (addr, over, ledger) = (server.addr(), &over, &ledger);
            for seed in seeds {
                scope.spawn(move || use_photos(addr, seed, over, ledger));
            }
            thread::sleep(pause); // the moment of death is what varies
            over.store(true, Ordering::SeqCst);
            server.signal(Signal::KILL);
            let dead = until(PATIENCE, || (!server.running()).then_some(()));
            assert!(dead.is_some(), "it survived");
        });
    }
    let Ledger { there, gone } = &*ledger.lock().unwrap();
    assert!(gone.len() > ROUNDS, "only {} deleted, {} there", gone.len(), there.len());
}

// ---- many photos -----------------------------------------------------------------------------

#[test]
fn ten_thousand_photos_cost_a_page_of_the_gallery_no_more_than_a_hundred_do() {
    const MEMORY_KIB: u64 = 2048;
    let servers = [100, 10_000].map(|count| {
        let folder = album(&names_of(2026, count));
        let server = start(&["--pic", folder.arg()]);
        (server, folder)
    });
    // Time stamps of a folder are relied on when they are some seconds old.
    let old = |folder: &Folder| {
        let changed = fs::metadata(folder.path()).unwrap().ctime() as f64;
        now() - changed > 5.0
    };
    until(PATIENCE, || servers.iter().all(|(_, folder)| old(folder)).then_some(()));
    let [few, many] = &servers.map(|(server, folder)| {
        let client = Mutex::new(Client::connect(server.addr()));
        (server, folder, client)
    });
    let spend = |(server, _, client): &(Server, Folder, Mutex<Client>), requests: usize| {
        let before = server.cpu();
        let mut client = client.lock().unwrap();
        for _ in 0..requests {
            client.send("GET /gallery HTTP/1.1\r\nHost: pi\r\n\r\n").reply().expect(200);
        }
        (server.cpu() - before).as_secs_f64()
    };
    // Enough of them that processor time, which comes in hundredths of a second, says something.
    let mut requests = 50;
    spend(many, requests);
    while spend(few, requests) < 0.2 {
        requests *= 2;
    }
    let ratios: Vec<f64> = (0..5).map(|_| spend(many, requests) / spend(few, requests)).collect();
    assert!(median(&ratios) <= 2.0, "{ratios:?} times the processor's work");
    let (small, large) = (few.0.rss_kib(), many.0.rss_kib());
    assert!(large < small + MEMORY_KIB, "{large} KiB, with a hundred {small} KiB");
    let page = many.0.get("/gallery?page=167").expect(200);
    assert_eq!(shown(&page).len(), 10_000 - 166 * 60);
}

// ---- interval photos -------------------------------------------------------------------------

#[test]
fn interval_photos_keep_to_their_grid() {
    // A frame every 200 ms: if each photo waited a second from the one before it, they would
    // drift by a frame each time.
    let server = start(&["--every", "1s", "--fps", "5"]);
    let enough = || (photos_in(&pic(&server)).len() >= 7).then_some(());
    assert!(until(PATIENCE, enough).is_some(), "{:?}", photos_in(&pic(&server)));
    let times: Vec<f64> = photos_in(&pic(&server))
        .iter()
        .map(|name| unix(&format!("{}+00:00", taken_of(&expect_photo(&pic(&server).join(name))))))
        .collect();
    let state = json(&server.get("/interval").expect(200));
    let mut ticks: Vec<f64> = times.iter().map(|time| (time - times[0]).round()).collect();
    let offsets: Vec<f64> = times.iter().zip(&ticks).map(|(t, n)| t - times[0] - n).collect();
    assert!(offsets.iter().all(|off| off.abs() < 0.45), "{offsets:?}");
    ticks.dedup();
    assert_eq!(ticks.len(), times.len(), "two at one time: {times:?}");
    // What is missing in the grid was said to be skipped.
    let missing = ticks.last().unwrap() + 1.0 - ticks.len() as f64;
    assert!(state["skipped"].as_f64().unwrap() >= missing, "{state} {times:?}");
    assert_eq!((&state["every"], &state["until"]), (&Json::from(1.0), &Json::Null));
    assert_eq!(state["trouble"], Json::Null);
    assert!(state["saved"].as_u64().unwrap() >= 7, "{state}");
}

#[test]
fn interval_photos_are_started_stopped_and_end_by_themselves() {
    let server = start(&[]);
    let state = |reply: &Reply| json(reply);
    let ask = |form: &str| state(&post(&server, "/interval", form).expect(200));
    let count = || photos_in(&pic(&server)).len();
    assert_eq!(state(&server.get("/interval").expect(200)), Json::Null);
    let begun = ask("every=1s");
    let expected = serde_json::json!({
        "every": 1.0, "until": null, "saved": 0, "skipped": 0, "trouble": null
    });
    assert_eq!(begun, expected);
    assert!(until(PATIENCE, || (count() >= 2).then_some(())).is_some());
    let shown = json(&server.get("/status").expect(200))["interval"].take();
    assert_eq!(shown["every"], 1.0);
    assert_eq!(ask("stop=1"), Json::Null);
    expect_lines(&server, "interval photos: over", 1);
    let stopped = count();
    // It ends by itself; and if it had not stopped before, there would be more.
    let asked = now();
    let begun = ask("every=1s&until=3s");
    let end = unix(begun["until"].as_str().expect("a time"));
    assert!((asked + 2.9..now() + 3.1).contains(&end), "{begun}");
    expect_lines(&server, "interval photos: over", 2);
    assert!(now() >= end - 0.1, "ended {} s early", end - now());
    assert_eq!(state(&server.get("/interval").expect(200)), Json::Null);
    let taken = count() - stopped;
    assert!((1..=4).contains(&taken), "{taken} in three seconds");
    // A person gets the page, and is led back to it.
    let accept = "Accept: text/html\r\n";
    let reply = send(server.addr(), "POST", "/interval", accept, "every=5m").expect(303);
    assert_eq!(reply.header("Location"), Some("interval"));
    let page = send(server.addr(), "GET", "/interval", accept, "").expect(200);
    assert!(page.text().contains("5 minutes"), "{}", page.text());
}

#[test]
fn wrong_intervals_are_refused_and_change_nothing() {
    let server = start(&[]);
    post(&server, "/interval", "every=1h").expect(200);
    for form in [
        "",
        "every=",
        "every=0",
        "every=999ms",
        "every=25h",
        "every=-1s",
        "every=1.5s",
        "every=x",
        "every=99999999999999999999s",
        "every=1h&until=30m",
        "every=1h&until=367d",
        "every=1h&until=0",
        "every=1h&until=tomorrow",
    ] {
        let reply = post(&server, "/interval", form).expect(400);
        assert!(reply.text().contains("must be"), "{form}: {}", reply.text());
    }
    assert_eq!(json(&server.get("/interval").expect(200))["every"], 3600.0);
    for every in ["0", "25h", "x"] {
        let line = one_line(&run(&["--camera", "test", "--every", every]), 2);
        assert!(line.contains("--every") && line.contains("from 1s to 24h"), "{line}");
    }
}

#[test]
fn without_a_camera_interval_photos_are_skipped_and_that_is_said_once() {
    let server = Server::start(&["--camera", "/dev/video-that-is-not-there", "--every", "1s"]);
    let state = || json(&server.get("/interval").expect(200));
    let skipped = || (state()["skipped"].as_u64() >= Some(4)).then_some(());
    assert!(until(PATIENCE, skipped).is_some(), "{}", state());
    expect_lines(&server, "interval photo skipped", 1);
    let trouble = state()["trouble"].as_str().expect("a reason").to_owned();
    assert!(trouble.contains("/dev/video-that-is-not-there"), "{trouble}");
    assert_eq!(state()["saved"], 0);
    let reply = post(&server, "/photo", "").expect(503);
    assert!(reply.text().contains("/dev/video-that-is-not-there"), "{}", reply.text());
    assert_eq!(photos_in(&pic(&server)).len(), 0);
}

/// As above, but the disk is what fails; when it recovers, the photos go on.
#[test]
fn interval_photos_go_on_when_there_is_room_again() {
    let folder = Folder::new();
    let _mount = Mount::disk(folder.path(), 1024);
    let filler = fill_up(folder.path(), 0);
    let server = start(&["--pic", folder.arg(), "--every", "1s"]);
    let state = || json(&server.get("/interval").expect(200));
    let skipped = || (state()["skipped"].as_u64() >= Some(2)).then_some(());
    assert!(until(PATIENCE, skipped).is_some(), "{}", state());
    assert!(state()["trouble"].as_str().expect("a reason").contains("the disk is full"));
    expect_lines(&server, "interval photo skipped", 1);
    fs::remove_file(filler).unwrap();
    let saved = || (state()["saved"].as_u64() >= Some(1)).then_some(());
    assert!(until(PATIENCE, saved).is_some(), "{}", state());
    assert_eq!(state()["trouble"], Json::Null);
    expect_lines(&server, "interval photos: they go on", 1);
}

// ---- the status, and the end -----------------------------------------------------------------

#[test]
fn the_status_tells_how_the_house_stands() {
    let server = start(&["--fps", "20"]);
    server.wait_for_log("camera: the test picture", PATIENCE); // said after it was reported
    let status = || json(&server.get("/status").expect(200));
    let keys = |value: &Json| -> BTreeSet<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let first = status();
    let all = [
        "version",
        "time",
        "uptime",
        "camera",
        "cameras",
        "viewers",
        "watching",
        "connections",
        "wrong_passwords",
        "memory",
        "photos",
        "interval",
        "disk",
    ];
    assert_eq!(keys(&first), set(&all));
    let camera = [
        "device",
        "driver",
        "format",
        "width",
        "height",
        "fps",
        "online",
        "test",
        "reason",
        "fps_asked",
        "fps_real",
        "age",
        "frames",
        "drops",
        "viewers",
    ];
    assert_eq!(keys(&first["camera"]), set(&camera));
    assert_eq!(first["cameras"], serde_json::json!([first["camera"]]));
    assert_eq!(keys(&first["camera"]["drops"]), set(&["damaged", "empty", "broken", "skipped"]));
    assert_eq!(keys(&first["photos"]), set(&["count", "bytes"]));
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert!((unix(first["time"].as_str().unwrap()) - now()).abs() < PATIENCE.as_secs_f64());
    assert!(first["disk"]["free"].as_u64() > Some(0), "{first}");
    assert_eq!(
        (&first["camera"]["online"], &first["camera"]["test"]),
        (&true.into(), &true.into())
    );
    assert_eq!((&first["viewers"], &first["camera"]["fps_real"]), (&0.into(), &Json::Null));
    assert_eq!(first["photos"], serde_json::json!({"count": 0, "bytes": 0}));
    let receipt = press(&server);
    let mut streams = [(); 2].map(|()| Stream::open(server.addr(), "/video_feed"));
    (0..10).for_each(|_| streams.iter_mut().for_each(|stream| drop(stream.frame())));
    let second = status();
    assert_eq!(second["viewers"], 2);
    let fps = second["camera"]["fps_real"].as_f64().expect("frames come");
    assert!((2.0..30.0).contains(&fps), "{fps} frames a second of 20");
    assert_eq!(
        (&second["camera"]["width"], &second["camera"]["height"]),
        (&640.into(), &480.into())
    );
    assert!(second["camera"]["frames"].as_u64() >= Some(10), "{second}");
    assert_eq!(second["photos"], serde_json::json!({"count": 1, "bytes": receipt.bytes}));
    assert!(second["uptime"].as_u64() >= first["uptime"].as_u64());
    drop(streams);
    let left = || {
        let status = status();
        (status["viewers"] == 0 && status["camera"]["fps_real"].is_null()).then_some(())
    };
    assert!(until(PATIENCE, left).is_some(), "{}", status());
    let page = send(server.addr(), "GET", "/status", "Accept: text/html\r\n", "").expect(200);
    assert!(page.header("Content-Type").unwrap().starts_with("text/html"), "{page:?}");
}

#[test]
fn it_ends_within_two_seconds_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = start(&["--every", "1h"]);
        let first = || (!photos_in(&pic(&server)).is_empty()).then_some(());
        assert!(until(PATIENCE, first).is_some());
        let log = server.stop_by(signal);
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn who_still_waits_for_a_photo_at_the_end_is_told_so() {
    let server = start(&["--fps", "1"]);
    let addr = server.addr();
    let mut stream = Stream::open(addr, "/video_feed");
    stream.frame();
    let mut client = Client::connect(addr);
    client.send(request(addr, "POST", "/photo", "", ""));
    server.get("/nothing").expect(404); // who came before this has been heard
    server.stop();
    // The next frame was a second away; a busy machine may have come to it.
    let reply = client.reply();
    assert!(matches!(reply.status, 503 | 201), "{reply:?}");
    client.expect_end();
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line_and_exit_code_1() {
    for folder in ["/proc/photos", "/dev/null", "/dev/null/photos"] {
        let args = ["--camera", "test", "--listen", "127.0.0.1:0", "--pic", folder];
        let line = one_line(&run(&args), 1);
        assert!(line.contains(folder), "{line}");
    }
}
