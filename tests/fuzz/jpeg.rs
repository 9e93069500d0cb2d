//! What a camera gives, mended, turned, saved with its date, made smaller: whatever it was, what
//! leaves is whole, says once how it is turned, and is what it was said to be.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use pistream::disk::photo::{self, Moment};
use pistream::frame::Shape;
use pistream::jpeg::orient::Turn;
use pistream::jpeg::split::Splitter;
use pistream::jpeg::{EXIF, Scaler, exif_place, mend, mend_whole, orientation, thumbnail};

/// Huffman tables, and EXIF data that says how it is turned; what there was of it may stand twice.
const ADDED_BYTES_MAX: usize = 420 + 64;
/// Larger pictures are not decoded here: that only takes time.
const DECODED_PIXELS_MAX: u32 = 64 * 1024;
static TAKEN: LazyLock<Moment> = LazyLock::new(|| {
    Moment::local(UNIX_EPOCH + Duration::from_secs(1_795_334_017)).expect("a moment")
});

pub fn run(bytes: &[u8]) {
    let turn = Turn::from_number(bytes.len() as u16 % 8 + 1).expect("1 to 8");
    let (mut plain, mut turned) = (vec![7; 3], Vec::new());
    let mended = mend(bytes, Turn::default(), &mut plain);
    let shown = mend(bytes, turn, &mut turned);
    assert_eq!(mended.is_ok(), shown.is_ok(), "what is broken is so however it is turned");
    let (Ok(as_it_is), Ok(shown)) = (mended, shown) else { return };
    for (jpeg, shape) in [(&plain, as_it_is), (&turned, shown)] {
        assert!(jpeg.len() <= 2 * bytes.len() + ADDED_BYTES_MAX);
        check(jpeg, shape);
    }
    let said = plain.windows(EXIF.len()).filter(|window| *window == EXIF).count();
    if said <= 1 {
        assert_eq!(orientation(&turned), orientation(&plain).then(turn), "one turn more");
    }
    let first = Splitter::default().next(bytes).expect("a picture").expect("a whole one");
    let mut in_place = bytes[first.place].to_vec();
    assert_eq!(mend_whole(&mut in_place, Turn::default()), Ok(as_it_is));
    assert!(in_place == plain, "in place as in a copy");
    check_photo(&turned);
    let (width, height) = shown.size;
    // Miri cannot call C.
    if width * height <= DECODED_PIXELS_MAX && !cfg!(miri) {
        check_small(&turned);
    }
}

/// A whole picture with nothing behind it, shown in this shape, in which there is nothing to mend.
fn check(jpeg: &[u8], shape: Shape) {
    assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
    let stored = exif_place(jpeg).expect("a whole head").size;
    assert_eq!(orientation(jpeg).shown(stored), shape, "as it says itself");
    let mut again = Vec::new();
    assert_eq!(mend(jpeg, Turn::default(), &mut again), Ok(shape));
    assert!(again == jpeg, "mended once is mended for good");
}

/// The photo of a frame is the same picture, with our date.
fn check_photo(frame: &[u8]) {
    let place = exif_place(frame).expect("a whole head");
    let mut saved = Vec::new();
    let bytes = photo::write(&mut saved, frame, &place, &TAKEN).expect("memory takes all");
    assert_eq!(bytes, saved.len() as u64);
    check(&saved, orientation(frame).shown(place.size));
    let behind = place.old.map_or(place.insert, |old| old.end);
    assert!(saved.ends_with(&frame[behind..]), "the camera's own bytes");
    let date = b"2026:11:2"; // of all zones
    let dated = saved.windows(date.len()).any(|window| window == date);
    assert!(dated, "the date is in it");
}

/// What libjpeg makes of it is whole, or nothing.
fn check_small(frame: &[u8]) {
    let mut scaler = Scaler::new(75).expect("an encoder");
    let eighths = frame.len() % 8 + 1;
    let small = [
        scaler.scale(frame, eighths),
        scaler.bake(frame, eighths),
        scaler.bake(frame, 8),
        thumbnail(frame, 20, 75),
    ];
    for (n, small) in small.into_iter().enumerate() {
        let Ok(small) = small else { continue };
        let mut again = Vec::new();
        mend(&small, Turn::default(), &mut again).expect("a whole picture");
        assert!(again == small);
        let turn = if n == 1 || n == 2 { Turn::default() } else { orientation(frame) };
        assert_eq!(orientation(&small), turn);
    }
}
