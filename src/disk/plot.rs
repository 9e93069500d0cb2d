//! The last minutes as small plots: SVG as it stands in a page. Pure.

use std::fmt::Write;

use super::gallery::size;
use super::status::Sample;
use crate::http::phrases::Lang;

/// Units of the drawing, which is stretched to the page's width.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 60.0;
/// A pause longer than this, in seconds, breaks the line.
const PAUSE: f64 = 10.0;

/// One quantity over time. Bound: `HISTORY_MAX` points.
#[derive(Clone, Debug)]
pub struct Plot {
    /// A phrase of the table.
    pub title: &'static str,
    /// The largest value, as people read it.
    pub most: String,
    /// What the line is drawn by, for an SVG `path` in a `viewBox` of 300 by 60.
    pub path: String,
}

/// Frame rate, viewers and memory; none while there is too little to be seen.
pub fn plots(history: &[Sample], lang: Lang) -> Vec<Plot> {
    let span = history.first().map_or(0.0, |first| first.seconds_ago);
    if history.len() < 3 || span <= 0.0 {
        return Vec::new();
    }
    let plot = |title, of: &dyn Fn(&Sample) -> f64, say: &dyn Fn(f64) -> String| {
        let most = history.iter().map(of).fold(0.0, f64::max);
        Plot { title: lang.say(title), most: say(most), path: path(history, span, most, of) }
    };
    vec![
        plot("Frames a second", &|sample| sample.fps, &|most| format!("{most:.1}")),
        plot("Viewers", &|sample| sample.viewers as f64, &|most| format!("{most:.0}")),
        plot("Memory", &|sample| sample.memory as f64, &|most| size(most as u64)),
    ]
}

fn path(history: &[Sample], span: f64, most: f64, of: &dyn Fn(&Sample) -> f64) -> String {
    let mut path = String::new();
    let mut last = f64::INFINITY;
    for sample in history {
        let x = WIDTH * (1.0 - sample.seconds_ago / span);
        let y = HEIGHT * (1.0 - of(sample) / most.max(f64::MIN_POSITIVE));
        let verb = if last - sample.seconds_ago > PAUSE { 'M' } else { 'L' };
        last = sample.seconds_ago;
        // Writing to a String cannot fail.
        let _ = write!(path, "{verb}{x:.1} {y:.1}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_the_oldest_to_now_and_pauses_break_it() {
        let sample = |seconds_ago, fps| Sample { seconds_ago, fps, viewers: 2, memory: 2_000_000 };
        let history =
            [sample(100.0, 30.0), sample(98.0, 15.0), sample(2.0, 0.0), sample(0.0, 30.0)];
        let plots = plots(&history, Lang::English);
        assert_eq!(plots.len(), 3);
        assert_eq!(plots[0].path, "M0.0 0.0L6.0 30.0M294.0 60.0L300.0 0.0");
        assert_eq!((&*plots[0].most, &*plots[1].most, &*plots[2].most), ("30.0", "2", "2.0 MB"));
        assert!(super::plots(&history[..2], Lang::English).is_empty());
    }
}
