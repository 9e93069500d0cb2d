//! The pictures that we draw ourselves: the moving test picture, and NO SIGNAL.

use font8x8::legacy::BASIC_LEGACY;

use crate::jpeg::{Layout, Raw};

/// A colour in JPEG's full-range Y, Cb, Cr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colour(u8, u8, u8);

impl Colour {
    /// ITU-T T.871, section 7.
    const fn rgb(r: i32, g: i32, b: i32) -> Colour {
        let y = (299 * r + 587 * g + 114 * b) / 1000;
        let cb = 128 + (b - y) * 1000 / 1772;
        let cr = 128 + (r - y) * 1000 / 1402;
        Colour(clamp(y), clamp(cb), clamp(cr))
    }
}

const fn clamp(value: i32) -> u8 {
    if value < 0 {
        0
    } else if value > 255 {
        255
    } else {
        value as u8
    }
}

const BACKGROUND: Colour = Colour::rgb(24, 28, 34);
const INK: Colour = Colour::rgb(236, 240, 244);
const FAINT: Colour = Colour::rgb(120, 130, 142);
const ACCENT: Colour = Colour::rgb(235, 120, 60);
/// White, yellow, cyan, green, magenta, red, blue at 75 %.
const BARS: [Colour; 7] = [
    Colour::rgb(191, 191, 191),
    Colour::rgb(191, 191, 0),
    Colour::rgb(0, 191, 191),
    Colour::rgb(0, 191, 0),
    Colour::rgb(191, 0, 191),
    Colour::rgb(191, 0, 0),
    Colour::rgb(0, 0, 191),
];

/// A 4:2:0 picture to draw on. Both sides are even.
#[derive(Clone, Debug)]
struct Canvas {
    width: usize,
    height: usize,
    /// Y, Cb and Cr planes. Bound: `PIXELS_MAX`, half as many bytes again.
    planes: Vec<u8>,
}

impl Canvas {
    fn new((width, height): (u32, u32)) -> Canvas {
        let (width, height) = ((width & !1) as usize, (height & !1) as usize);
        let mut canvas = Canvas { width, height, planes: vec![0; width * height * 3 / 2] };
        canvas.rectangle((0, 0), (width, height), BACKGROUND);
        canvas
    }

    fn raw(&self) -> Raw<'_> {
        Raw {
            layout: Layout::Yu12,
            width: self.width,
            height: self.height,
            stride: self.width,
            limited: false,
            bytes: &self.planes,
        }
    }

    /// Fill from `(x, y)` on; what lies outside is left out. Colour has half the resolution.
    fn rectangle(&mut self, (x, y): (usize, usize), (w, h): (usize, usize), colour: Colour) {
        let (width, height) = (self.width, self.height);
        let (luma, chroma) = self.planes.split_at_mut(width * height);
        let (cb, cr) = chroma.split_at_mut(width * height / 4);
        let (right, bottom) = ((x + w).min(width), (y + h).min(height));
        let (x, y) = (x.min(right), y.min(bottom));
        for row in luma.chunks_exact_mut(width).take(bottom).skip(y) {
            row[x..right].fill(colour.0);
        }
        for (plane, value) in [(cb, colour.1), (cr, colour.2)] {
            for row in plane.chunks_exact_mut(width / 2).take(bottom.div_ceil(2)).skip(y / 2) {
                row[x / 2..right.div_ceil(2)].fill(value);
            }
        }
    }

    /// One line of text, each of a letter's 8 x 8 points a square of `scale` pixels.
    fn text(&mut self, (x, y): (usize, usize), scale: usize, text: &str, colour: Colour) {
        for (position, letter) in text.chars().enumerate() {
            let glyph =
                BASIC_LEGACY[if letter.is_ascii() { letter as usize } else { '?' as usize }];
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    let at = (x + (position * 8 + column) * scale, y + row * scale);
                    self.rectangle(at, (scale, scale), colour);
                }
            }
        }
    }

    fn centered(&mut self, y: usize, scale: usize, text: &str, colour: Colour) {
        let width = text.chars().count() * 8 * scale;
        self.text((self.width.saturating_sub(width) / 2, y), scale, text, colour);
    }

    /// The scale at which so many letters fill the width.
    fn scale(&self, letters: usize) -> usize {
        (self.width / (8 * letters)).max(1)
    }
}

/// Text broken into lines of at most `columns` letters, between words where it can.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    let columns = columns.max(1);
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(columns) {
            let last = lines.len() - 1;
            let used = lines[last].chars().count();
            if used > 0 && used + 1 + piece.len() > columns {
                lines.push(String::new());
            } else if used > 0 {
                lines[last].push(' ');
            }
            let last = lines.len() - 1;
            lines[last].extend(piece);
        }
    }
    lines
}

/// The moving test picture: colour bars, a running box, a counter, and why it is shown.
#[derive(Debug)]
pub struct Pattern {
    background: Canvas,
    canvas: Canvas,
}

impl Pattern {
    pub fn new(size: (u32, u32), caption: &str) -> Pattern {
        let mut background = Canvas::new(size);
        let (width, height) = (background.width, background.height);
        for (n, colour) in BARS.into_iter().enumerate() {
            let (from, to) = (n * width / BARS.len(), (n + 1) * width / BARS.len());
            background.rectangle((from, 0), (to - from, height * 5 / 8), colour);
        }
        let scale = background.scale(20);
        background.centered(height * 5 / 8 + height / 24, scale, "TEST PICTURE", INK);
        let small = background.scale(40);
        let lines = wrap(caption, width / (8 * small));
        for (n, line) in lines.iter().take(2).enumerate() {
            let y = height * 5 / 8 + height / 24 + 11 * scale + n * 11 * small;
            background.centered(y, small, line, FAINT);
        }
        let canvas = background.clone();
        Pattern { background, canvas }
    }

    /// The picture at `seconds` after its start.
    pub fn draw(&mut self, frame: u64, seconds: f64) -> Raw<'_> {
        self.canvas.planes.copy_from_slice(&self.background.planes);
        let (width, height) = (self.canvas.width, self.canvas.height);
        // Once across in four seconds, and back.
        let phase = (seconds / 4.0) % 2.0;
        let place = if phase < 1.0 { phase } else { 2.0 - phase };
        let side = height / 12;
        let x = (place * width.saturating_sub(side) as f64) as usize;
        self.canvas.rectangle((x, height * 5 / 8 - side), (side, side), ACCENT);
        let small = self.canvas.scale(40);
        let clock = format!("{seconds:.1} s  frame {frame}");
        self.canvas.centered(height.saturating_sub(12 * small), small, &clock, INK);
        self.canvas.raw()
    }
}

/// Draw NO SIGNAL with its reason and hand it to `use_it`.
pub fn no_signal<T>(size: (u32, u32), reason: &str, use_it: impl FnOnce(&Raw) -> T) -> T {
    let mut canvas = Canvas::new(size);
    let (width, height) = (canvas.width, canvas.height);
    let (large, small) = (canvas.scale(14), canvas.scale(40));
    canvas.centered(height / 3, large, "NO SIGNAL", INK);
    for (n, line) in wrap(reason, (width / (8 * small)).saturating_sub(2)).iter().enumerate() {
        canvas.centered(height / 3 + 14 * large + n * 12 * small, small, line, FAINT);
    }
    use_it(&canvas.raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_where_it_can() {
        assert_eq!(
            wrap("open /dev/video0: No such file", 17),
            ["open /dev/video0:", "No such file"]
        );
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }

    #[test]
    fn any_size_can_be_drawn_on() {
        for size in [(16, 16), (17, 33), (640, 480), (1920, 1080), (16, 2000)] {
            let mut pattern = Pattern::new(size, "no camera was found, and this caption is long");
            let raw = pattern.draw(12345, 1e6 + 0.25);
            assert_eq!(raw.bytes.len(), raw.width * raw.height * 3 / 2);
            no_signal(size, &"very long reasons ".repeat(40), |raw| assert!(raw.width > 0));
        }
    }

    #[test]
    fn the_test_picture_moves() {
        let mut pattern = Pattern::new((640, 480), "");
        let first = pattern.draw(1, 0.0).bytes.to_vec();
        assert_ne!(first, pattern.draw(2, 0.5).bytes);
    }
}
