//! The pages about photos, and the one of the status: what is known of them to HTML. Pure.
//!
//! All of them work without JavaScript; `www/gallery.js` and `www/fresh.js` add comfort. Names of
//! photos are not read here, only shown and put into addresses.

use askama::{Error, Template};

use super::plot::Plot;
use super::site::encode;
use crate::http::page::{Place, Shell};
use crate::http::phrases::Lang;

/// A photo as the pages show it. Bound: the code's forms of a name and a time.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its file's name.
    pub name: String,
    /// Changes when the file does; makes the thumbnail's address good for ever.
    pub version: String,
    /// When it was taken: `2026-11-22 14:03:55`.
    pub taken: String,
    pub bytes: u64,
    /// Never deleted to make room.
    pub kept: bool,
}

impl Shown {
    fn address(&self) -> String {
        encode(&self.name)
    }

    fn size(&self) -> String {
        size(self.bytes)
    }
}

/// Bytes as people read them: `1.2 MB`, as disks are sold, in powers of ten.
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter().peekable();
    let mut unit = units.next().unwrap_or_default();
    // 999.5 would be written as 1000.
    while amount >= 999.5 && units.peek().is_some() {
        amount /= 1000.0;
        unit = units.next().unwrap_or_default();
    }
    let decimals = usize::from(unit != "B" && amount < 9.95);
    format!("{amount:.decimals$} {unit}")
}

/// A time as people say it, in its largest whole unit: `90 seconds`, `5 minutes`, `1 hour`.
pub fn span(seconds: u64, lang: Lang) -> String {
    let (day, hour, minute) = (86_400, 3_600, 60);
    match seconds {
        s if s >= day && s % day == 0 => lang.count(s / day, "{} day", "{} days"),
        s if s >= hour && s % hour == 0 => lang.count(s / hour, "{} hour", "{} hours"),
        s if s >= minute && s % minute == 0 => lang.count(s / minute, "{} minute", "{} minutes"),
        s => lang.count(s, "{} second", "{} seconds"),
    }
}

// ---- the gallery ----------------------------------------------------------------------------

/// A page of the gallery, at `/gallery?page=N`.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// This page's, the newest first: at most `PAGE_PHOTOS`.
    pub photos: Vec<Shown>,
    /// Photos on all pages.
    pub total: usize,
    /// From 1.
    pub page: usize,
    pub pages: usize,
    /// Bytes of all photos.
    pub used: u64,
    /// Bytes that the disk has left, if it tells.
    pub free: Option<u64>,
    /// What became of the wish that led here.
    pub outcome: Option<Outcome>,
}

/// What became of a wish about photos. Bound: `NAMED_PHOTOS_MAX` in each list.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub deleted: usize,
    /// How many are now kept (true) or no longer kept (false).
    pub kept: Option<(bool, usize)>,
    /// Names of those that were not there.
    pub missing: Vec<String>,
    /// Names of those with which the disk failed.
    pub failed: Vec<String>,
    /// How many more of both there are, too many to be named.
    pub unnamed: usize,
}

impl Outcome {
    fn sentences(&self, lang: Lang) -> String {
        let Outcome { deleted, kept, missing, failed, unnamed } = self;
        let mut said = Vec::new();
        if *deleted > 0 {
            said.push(lang.count(*deleted as u64, "{} photo deleted.", "{} photos deleted."));
        }
        match *kept {
            Some((true, n)) => said.push(lang.count(
                n as u64,
                "{} photo is kept from now on.",
                "{} photos are kept from now on.",
            )),
            Some((false, n)) => said.push(lang.count(
                n as u64,
                "{} photo is no longer kept.",
                "{} photos are no longer kept.",
            )),
            None => {}
        }
        let names = |names: &[String]| names.join(", ");
        match missing.len() {
            0 => {}
            1 => said.push(lang.fill("{} was already gone.", &[&names(missing)])),
            _ => said.push(lang.fill("{} were already gone.", &[&names(missing)])),
        }
        if !failed.is_empty() {
            let phrase = "{} could not be changed; the log says why.";
            said.push(lang.fill(phrase, &[&names(failed)]));
        }
        if *unnamed > 0 {
            let more = lang.count(
                *unnamed as u64,
                "{} more was gone or could not be changed.",
                "{} more were gone or could not be changed.",
            );
            said.push(more);
        }
        if said.is_empty() {
            said.push(lang.say("No photo was selected.").to_owned());
        }
        lang.join(&said)
    }
}

/// The button that deletes, behind a second look: a disclosure, so that it needs no script.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<details class="confirm change">
<summary class="button">{{ lang.say("Delete…") }}</summary>
<div>
<p>{{ lang.say("Deleted photos cannot be brought back.") }}</p>
<button class="button bad" formaction="{{ root }}gallery/delete"
  data-one="{{ lang.say("Delete {} photo") }}" data-many="{{ lang.say("Delete {} photos") }}">
{{- lang.say(text) }}</button>
</div>
</details>"#
)]
struct Confirm<'a> {
    lang: Lang,
    root: &'a str,
    text: &'static str,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ lang.say("Gallery") }}</h1>
<p class="soft">{{ space() }}</p>
{% if let Some(outcome) = outcome -%}
<p class="said" role="status">{{ outcome }}</p>
{% endif -%}
<form id="gallery" method="post" action="gallery/archive">
<input type="hidden" name="page" value="{{ gallery.page }}">
<ul class="grid">
{% for photo in gallery.photos -%}
<li>
<a href="view/{{ photo.address() }}"><img src="thumb/{{ photo.address() }}?v={{ photo.version }}"
  alt="{{ lang.fill("Photo taken {}", [photo.taken.as_str()]) }}" width="320" height="240"
  loading="lazy" decoding="async"></a>
<label><input type="checkbox" name="name" value="{{ photo.name }}">
<span>{{ photo.taken }}</span></label>
<p>{{ photo.size() }}{% if photo.kept %} · <b title="
  {{- lang.say("Never deleted to make room for new photos") }}">{{ lang.say("Kept") }}</b>
{%- endif %}</p>
</li>
{% endfor -%}
</ul>
<div class="bar" role="group" aria-label="{{ lang.say("Selected photos") }}">
<p id="choice" hidden><label><input type="checkbox" id="all"> {{ lang.say("Select all") }}</label>
<output data-selected="{{ lang.say("{} selected") }}"></output></p>
<button class="button" formaction="gallery/archive">{{ lang.say("Download") }}</button>
<button class="button change" formaction="gallery/keep" name="keep" value="1" title="
  {{- lang.say("Never deleted to make room for new photos") }}">{{ lang.say("Keep") }}</button>
<button class="button change" formaction="gallery/keep" name="keep" value="0">
{{- lang.say("Stop keeping") }}</button>
{{ confirm()|safe }}
</div>
</form>
{% if gallery.pages > 1 -%}
<nav class="pages" aria-label="{{ lang.say("Pages") }}">
{% if gallery.page > 1 -%}
<a class="button" href="gallery?page=1">{{ lang.say("Newest") }}</a>
<a class="button" rel="prev" href="gallery?page={{ gallery.page - 1 }}">
{{- lang.say("Newer") }}</a>
{% endif -%}
<span>{{ position() }}</span>
{% if gallery.page < gallery.pages -%}
<a class="button" rel="next" href="gallery?page={{ gallery.page + 1 }}">
{{- lang.say("Older") }}</a>
<a class="button" href="gallery?page={{ gallery.pages }}">{{ lang.say("Oldest") }}</a>
{% endif -%}
</nav>
{% endif -%}
{% if gallery.total > 1 -%}
<form class="all" method="post" action="gallery/archive">
<button class="button">{{ lang.fill("Download all {} photos", [total().as_str()]) }}</button>
</form>
{% endif -%}
"#
)]
struct GalleryPage<'a> {
    gallery: &'a Gallery,
    /// Bound: `NAMED_PHOTOS_MAX` names, twice, in sentences.
    outcome: Option<String>,
    lang: Lang,
}

impl GalleryPage<'_> {
    fn total(&self) -> String {
        self.gallery.total.to_string()
    }

    fn space(&self) -> String {
        let Gallery { total, used, free, .. } = self.gallery;
        let phrase = if *total == 1 { "{} used by {} photo." } else { "{} used by {} photos." };
        let used = self.lang.fill(phrase, &[&size(*used), &self.total()]);
        match free {
            Some(free) => {
                let free = self.lang.fill("{} free.", &[&size(*free)]);
                self.lang.join(&[used, free])
            }
            None => used,
        }
    }

    fn position(&self) -> String {
        let Gallery { page, pages, .. } = self.gallery;
        self.lang.fill("Page {} of {}", &[&page.to_string(), &pages.to_string()])
    }

    fn confirm(&self) -> Confirm<'static> {
        Confirm { lang: self.lang, root: "", text: "Delete the selected photos" }
    }
}

/// The page at `/gallery?page=N`.
pub fn gallery(gallery: &Gallery, lang: Lang) -> Result<String, Error> {
    let outcome = gallery.outcome.as_ref().map(|outcome| outcome.sentences(lang));
    let content = match gallery.total {
        0 => Empty { lang, root: "", title: lang.say("Gallery"), outcome }.render()?,
        _ => GalleryPage { gallery, outcome, lang }.render()?,
    };
    shell(lang.say("Gallery"), "", "gallery", &content, lang)
}

/// Where there is no photo yet: a button that takes one.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ title }}</h1>
{% if let Some(outcome) = outcome -%}
<p class="said" role="status">{{ outcome }}</p>
{% endif -%}
<p>{{ lang.say("There are no photos yet.") }}</p>
<form class="change" method="post" action="{{ root }}photo">
<button class="button main">{{ lang.say("Take a photo") }}</button>
</form>
"#
)]
struct Empty<'a> {
    lang: Lang,
    root: &'a str,
    title: &'a str,
    /// Bound: `NAMED_PHOTOS_MAX` names, twice, in sentences.
    outcome: Option<String>,
}

/// The page of the newest photo when there is none. `root` as in `Shell`.
pub fn no_photo(root: &str, lang: Lang) -> Result<String, Error> {
    let title = lang.say("Last photo");
    let content = Empty { lang, root, title, outcome: None }.render()?;
    shell(title, root, "gallery", &content, lang)
}

fn shell(title: &str, root: &str, kind: &str, content: &str, lang: Lang) -> Result<String, Error> {
    let files = &["gallery.css", "gallery.js"];
    Shell { lang, title, root, place: Place::Gallery, kind, files, content }.render()
}

// ---- one photo ------------------------------------------------------------------------------

/// The page of a photo, at `/view/NAME`, or of the newest, at `/current_picture`.
#[derive(Clone, Debug)]
pub struct View {
    pub photo: Shown,
    /// Its neighbour's name. Bound: the code's form of it.
    pub newer: Option<String>,
    /// The other's. Bound: the code's form of it.
    pub older: Option<String>,
    /// There is none newer.
    pub newest: bool,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<div class="photo">
<a href="{{ root }}pic/{{ photo.address() }}" title="{{ lang.say("Open at full size") }}">
<img src="{{ root }}pic/{{ photo.address() }}"
  alt="{{ lang.fill("Photo taken {}", [photo.taken.as_str()]) }}"></a>
<nav aria-label="{{ lang.say("Photos") }}">
{% if let Some(newer) = view.newer -%}
<a rel="prev" href="{{ root }}view/{{ newer|address }}" title="{{ lang.say("Newer photo") }} (←)"
  aria-label="{{ lang.say("Newer photo") }}" aria-keyshortcuts="ArrowLeft">
<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M15 4l-8 8 8 8"/></svg></a>
{% endif -%}
{% if let Some(older) = view.older -%}
<a rel="next" href="{{ root }}view/{{ older|address }}" title="{{ lang.say("Older photo") }} (→)"
  aria-label="{{ lang.say("Older photo") }}" aria-keyshortcuts="ArrowRight">
<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M9 4l8 8-8 8"/></svg></a>
{% endif -%}
</nav>
</div>
<div class="about">
<h1>{{ photo.taken }}</h1>
<p class="soft">{{ photo.size() }}
{%- if view.newest %} · {{ lang.say("The newest photo") }}{% endif %}
{%- if photo.kept %} · <b title="
  {{- lang.say("Never deleted to make room for new photos") }}">{{ lang.say("Kept") }}</b>
{%- endif %}</p>
</div>
<form class="bar" method="post" action="{{ root }}gallery/keep">
<input type="hidden" name="name" value="{{ photo.name }}">
<input type="hidden" name="view" value="1">
<a class="button" href="{{ root }}gallery">{{ lang.say("Gallery") }}</a>
<a class="button" href="{{ root }}pic/{{ photo.address() }}" download>{{ lang.say("Download") }}</a>
{% if photo.kept -%}
<button class="button change" name="keep" value="0">{{ lang.say("Stop keeping") }}</button>
{% else -%}
<button class="button change" name="keep" value="1" title="
  {{- lang.say("Never deleted to make room for new photos") }}">{{ lang.say("Keep") }}</button>
{% endif -%}
{{ confirm()|safe }}
</form>
"#
)]
struct ViewPage<'a> {
    view: &'a View,
    photo: &'a Shown,
    root: &'a str,
    lang: Lang,
}

mod filters {
    use askama::{Result, Values};

    /// A name as it stands in an address.
    #[askama::filter_fn]
    pub fn address(name: &str, _: &dyn Values) -> Result<String> {
        Ok(super::encode(name))
    }
}

impl ViewPage<'_> {
    fn confirm(&self) -> Confirm<'_> {
        Confirm { lang: self.lang, root: self.root, text: "Delete this photo" }
    }
}

/// The page of a photo. `root` as in `Shell`: `../` at `/view/NAME`, empty at `/current_picture`.
pub fn view(view: &View, root: &str, lang: Lang) -> Result<String, Error> {
    let content = ViewPage { view, photo: &view.photo, root, lang }.render()?;
    shell(&view.photo.taken, root, "view", &content, lang)
}

// ---- interval photos ------------------------------------------------------------------------

/// The page at `/interval`.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub running: Option<Running>,
}

/// Interval photos that are being taken. Bound: the code's form of a time, and a sentence of its.
#[derive(Clone, Debug)]
pub struct Running {
    pub every_seconds: u64,
    /// When they end, as people read it; none: when they are stopped.
    pub until: Option<String>,
    pub saved: u64,
    pub skipped: u64,
    /// Why the last one could not be taken.
    pub trouble: Option<String>,
}

impl Running {
    fn sentence(&self, lang: &Lang) -> String {
        let every = span(self.every_seconds, *lang);
        match &self.until {
            Some(until) => lang.fill("A photo every {}, until {}.", &[&every, until]),
            None => lang.fill("A photo every {}, until stopped.", &[&every]),
        }
    }

    fn saved(&self, lang: &Lang) -> String {
        let saved = lang.count(self.saved, "{} photo saved.", "{} photos saved.");
        match self.skipped {
            0 => saved,
            n => lang.join(&[saved, lang.fill("{} skipped.", &[&n.to_string()])]),
        }
    }
}

/// What the form offers, in seconds and as `every` and `until` are written.
const EVERY: &[(u64, &str)] = &[
    (5, "5s"),
    (10, "10s"),
    (30, "30s"),
    (60, "1m"),
    (300, "5m"),
    (900, "15m"),
    (1_800, "30m"),
    (3_600, "1h"),
    (21_600, "6h"),
];
const EVERY_AT_FIRST: &str = "5m";
const UNTIL: &[(u64, &str)] = &[(3_600, "1h"), (28_800, "8h"), (86_400, "24h"), (259_200, "72h")];

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ lang.say("Interval photos") }}</h1>
{% if let Some(running) = running -%}
<div class="said" data-fresh>
<p><b>{{ running.sentence(lang) }}</b></p>
<p>{{ running.saved(lang) }}</p>
{% if let Some(trouble) = running.trouble -%}
<p class="trouble">{{ lang.fill("The last one failed: {}", [lang.sentence(trouble).as_ref()]) }}</p>
{% endif -%}
</div>
<form class="change" method="post" action="interval">
<button class="button main" name="stop" value="1">{{ lang.say("Stop") }}</button>
</form>
<h2>{{ lang.say("Start anew") }}</h2>
{% else -%}
<p>{{ lang.say("The camera can take a photo by itself, again and again.") }}</p>
{% endif -%}
<form class="fields change" method="post" action="interval">
<label>{{ lang.say("A photo every") }}
<select name="every">
{% for (text, written) in choices(EVERY) -%}
<option value="{{ written }}"{% if written == EVERY_AT_FIRST %} selected{% endif %}>
{{- text }}</option>
{% endfor -%}
</select></label>
<label>{{ lang.say("For") }}
<select name="until">
<option value="">{{ lang.say("until stopped") }}</option>
{% for (text, written) in choices(UNTIL) -%}
<option value="{{ written }}">{{ text }}</option>
{% endfor -%}
</select></label>
<button class="button{% if running.is_none() %} main{% endif %}">{{ lang.say("Start") }}</button>
</form>
"#
)]
struct IntervalPage<'a> {
    running: Option<&'a Running>,
    lang: Lang,
}

impl IntervalPage<'_> {
    fn choices(&self, times: &[(u64, &'static str)]) -> Vec<(String, &'static str)> {
        times.iter().map(|(seconds, written)| (span(*seconds, self.lang), *written)).collect()
    }
}

/// The page at `/interval`.
pub fn interval(interval: &Interval, lang: Lang) -> Result<String, Error> {
    let content = IntervalPage { running: interval.running.as_ref(), lang }.render()?;
    let (title, place) = (lang.say("Interval photos"), Place::Aside);
    fresh(title, place, &content, lang)
}

/// A page of text, a part of which is kept up to date.
fn fresh(title: &str, place: Place, content: &str, lang: Lang) -> Result<String, Error> {
    let files = &["gallery.css", "fresh.js"];
    Shell { lang, title, root: "", place, kind: "note", files, content }.render()
}

// ---- the status -----------------------------------------------------------------------------

/// The page at `/status`: what is known, each with what it is. Bound: the code's phrases, of
/// `CAMERAS_MAX` cameras and `VIEWERS_MAX` viewers.
#[derive(Clone, Debug)]
pub struct Status {
    /// A phrase of the table, and the value as people read it.
    pub rows: Vec<(&'static str, String)>,
    /// The same of each camera, if there are several.
    pub cameras: Vec<Vec<(&'static str, String)>>,
    pub plots: Vec<Plot>,
    /// Where from, which of several cameras, frames a second, frames missed, age of the picture,
    /// for how long.
    pub watching: Vec<Vec<String>>,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ lang.say("Status") }}</h1>
<div data-fresh>
<table class="status">
{% for (what, value) in status.rows -%}
<tr><th scope="row">{{ lang.say(what) }}</th><td>{{ value }}</td></tr>
{% endfor -%}
</table>
{% for rows in status.cameras -%}
<h2>{{ lang.fill("Camera {}", [loop.index.to_string().as_str()]) }}</h2>
<table class="status">
{% for (what, value) in rows -%}
<tr><th scope="row">{{ lang.say(what) }}</th><td>{{ value }}</td></tr>
{% endfor -%}
</table>
<p><a href="controls/{{ loop.index }}">{{ lang.say("Set the camera's controls") }}</a></p>
{% endfor -%}
{% if !status.plots.is_empty() -%}
<h2>{{ lang.say("The last minutes") }}</h2>
<div class="plots">
{% for plot in status.plots -%}
<figure><figcaption>{{ plot.title }} <span class="soft">≤ {{ plot.most }}</span></figcaption>
<svg viewBox="0 -2 300 64" preserveAspectRatio="none" role="img" aria-label="{{ plot.title }}"><path
  d="{{ plot.path }}"/></svg></figure>
{% endfor -%}
</div>
{% endif -%}
{% if !status.watching.is_empty() -%}
<h2>{{ lang.say("Viewers") }}</h2>
<table>
<tr>
{%- for head in heads() -%}
<th scope="col">{{ lang.say(head) }}</th>
{%- endfor %}</tr>
{% for viewer in status.watching -%}
<tr>{% for value in viewer %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor -%}
</table>
{% endif -%}
</div>
{% if status.cameras.is_empty() -%}
<p><a href="controls">{{ lang.say("Set the camera's controls") }}</a></p>
{% endif -%}
"#
)]
struct StatusPage<'a> {
    status: &'a Status,
    lang: Lang,
}

impl StatusPage<'_> {
    /// Over what is told of those who watch.
    fn heads(&self) -> Vec<&'static str> {
        let mut heads = vec!["Address"];
        if !self.status.cameras.is_empty() {
            heads.push("Camera");
        }
        heads.extend(["Frames a second", "Frames missed", "Age of the picture", "For"]);
        heads
    }
}

/// The page at `/status`.
pub fn status(status: &Status, lang: Lang) -> Result<String, Error> {
    let content = StatusPage { status, lang }.render()?;
    fresh(lang.say("Status"), Place::Status, &content, lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGS: [Lang; 2] = [Lang::English, Lang::Chinese];

    fn shown(name: &str) -> Shown {
        Shown {
            name: name.to_owned(),
            version: "1234-5678".to_owned(),
            taken: "2026-11-22 14:03:55".to_owned(),
            bytes: 1_234_567,
            kept: name.ends_with("-1.jpg"),
        }
    }

    fn full() -> Gallery {
        Gallery {
            photos: vec![shown("2026-11-22_14-03-55-1.jpg"), shown("2026-11-22_14-03-55.jpg")],
            total: 122,
            page: 2,
            pages: 3,
            used: 1_200_000_000,
            free: Some(12_300_000_000),
            outcome: None,
        }
    }

    #[track_caller]
    fn expect(page: &str, parts: &[&str]) {
        for part in parts {
            assert!(page.contains(part), "no {part}: {page}");
        }
    }

    #[test]
    fn sizes_and_spans_are_as_people_read_them() {
        for (bytes, expect) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_234_567, "1.2 MB"),
            (12_300_000_000, "12 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
        for (seconds, expect) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (300, "5 minutes"),
            (3_600, "1 hour"),
            (5_400, "90 minutes"),
            (259_200, "3 days"),
        ] {
            assert_eq!(span(seconds, Lang::English), expect);
        }
        assert_eq!(span(300, Lang::Chinese), "5 分钟");
        for (seconds, written) in EVERY.iter().chain(UNTIL) {
            let (number, unit) = written.split_at(written.len() - 1);
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                _ => 3_600,
            };
            assert_eq!(number.parse::<u64>().unwrap() * unit, *seconds, "{written}");
        }
    }

    #[test]
    fn the_gallery_has_all_that_works_without_a_script() {
        let page = gallery(&full(), Lang::English).unwrap();
        expect(
            &page,
            &[
                "1.2 GB used by 122 photos. 12 GB free.",
                "<a href=\"view/2026-11-22_14-03-55-1.jpg\">",
                "src=\"thumb/2026-11-22_14-03-55.jpg?v=1234-5678\"",
                "name=\"name\" value=\"2026-11-22_14-03-55.jpg\"",
                "<input type=\"hidden\" name=\"page\" value=\"2\">",
                "formaction=\"gallery/delete\"",
                "formaction=\"gallery/keep\" name=\"keep\" value=\"1\"",
                "formaction=\"gallery/keep\" name=\"keep\" value=\"0\"",
                "rel=\"prev\" href=\"gallery?page=1\"",
                "rel=\"next\" href=\"gallery?page=3\"",
                "Page 2 of 3",
                "Download all 122 photos",
                "aria-current=\"true\">Gallery</a>",
                "<a href=\"./\">Live</a>",
            ],
        );
        assert_eq!(page.matches(">Kept</b>").count(), 1);
        assert!(!page.contains("role=\"status\""));

        let last = Gallery { page: 3, free: None, total: 1, ..full() };
        let page = gallery(&last, Lang::English).unwrap();
        expect(&page, &["1.2 GB used by 1 photo.</p>", "rel=\"prev\" href=\"gallery?page=2\""]);
        assert!(!page.contains("rel=\"next\"") && !page.contains("Download all"));
        let only = Gallery { page: 1, pages: 1, ..full() };
        assert!(!gallery(&only, Lang::English).unwrap().contains("class=\"pages\""));
    }

    #[test]
    fn an_empty_gallery_says_so_and_takes_a_photo() {
        let outcome = Some(Outcome { deleted: 1, ..Outcome::default() });
        let none = Gallery { photos: vec![], total: 0, page: 1, pages: 1, outcome, ..full() };
        let page = gallery(&none, Lang::English).unwrap();
        expect(&page, &["no photos yet", "method=\"post\" action=\"photo\"", "1 photo deleted."]);
        let page = no_photo("../", Lang::Chinese).unwrap();
        expect(&page, &["还没有照片", "action=\"../photo\"", "href=\"../gallery.css\""]);
    }

    #[test]
    fn an_outcome_is_said_in_sentences() {
        let check = |outcome: Outcome, expect| {
            assert_eq!(outcome.sentences(Lang::English), expect);
            assert!(!outcome.sentences(Lang::Chinese).is_empty());
        };
        let none = Outcome::default;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check(none(), "No photo was selected.");
        check(Outcome { deleted: 3, ..none() }, "3 photos deleted.");
        check(Outcome { kept: Some((true, 1)), ..none() }, "1 photo is kept from now on.");
        check(Outcome { kept: Some((false, 2)), ..none() }, "2 photos are no longer kept.");
        check(Outcome { missing: names(&["a.jpg"]), ..none() }, "a.jpg was already gone.");
        check(
            Outcome { deleted: 1, missing: names(&["a", "b"]), failed: names(&["c"]), ..none() },
            "1 photo deleted. a, b were already gone. c could not be changed; the log says why.",
        );
        check(
            Outcome { failed: names(&["a", "b"]), unnamed: 7, ..none() },
            "a, b could not be changed; the log says why. \
             7 more were gone or could not be changed.",
        );
    }

    #[test]
    fn a_photo_has_its_neighbours_and_what_can_be_done_with_it() {
        let photo = View {
            photo: shown("b.jpg"),
            newer: Some("c.jpg".to_owned()),
            older: Some("a.jpg".to_owned()),
            newest: false,
        };
        let page = view(&photo, "../", Lang::English).unwrap();
        expect(
            &page,
            &[
                "<img src=\"../pic/b.jpg\"",
                "rel=\"prev\" href=\"../view/c.jpg\"",
                "rel=\"next\" href=\"../view/a.jpg\"",
                "href=\"../pic/b.jpg\" download",
                "formaction=\"../gallery/delete\"",
                "name=\"keep\" value=\"1\"",
                "alt=\"Photo taken 2026-11-22 14:03:55\"",
                "<title>2026-11-22 14:03:55 · pistream</title>",
            ],
        );
        let newest = View { newer: None, newest: true, photo: shown("b-1.jpg"), ..photo };
        let page = view(&newest, "", Lang::English).unwrap();
        expect(&page, &["src=\"pic/b-1.jpg\"", "The newest photo", "name=\"keep\" value=\"0\""]);
        assert!(!page.contains("rel=\"prev\""));
    }

    #[test]
    fn interval_photos_are_told_and_can_be_stopped() {
        let page = interval(&Interval::default(), Lang::English).unwrap();
        expect(&page, &["<option value=\"5m\" selected>5 minutes</option>", "name=\"until\""]);
        assert!(!page.contains("name=\"stop\""));
        let running = |until: Option<&str>| Interval {
            running: Some(Running {
                every_seconds: 300,
                until: until.map(str::to_owned),
                saved: 12,
                skipped: 1,
                trouble: Some("The <disk> is full.".to_owned()),
            }),
        };
        let page = interval(&running(None), Lang::English).unwrap();
        expect(
            &page,
            &[
                "A photo every 5 minutes, until stopped.",
                "12 photos saved. 1 skipped.",
                "The last one failed: The &#60;disk&#62; is full.",
                "name=\"stop\" value=\"1\"",
            ],
        );
        let page = interval(&running(Some("18:00")), Lang::Chinese).unwrap();
        expect(&page, &["每 5 分钟拍一张，直到 18:00。", "已保存 12 张照片。跳过 1 张。"]);
    }

    #[test]
    fn the_status_is_a_table() {
        let rows = vec![("Viewers", "2".to_owned()), ("Camera", "<b>".to_owned())];
        let page = status(
            &Status { rows, cameras: Vec::new(), plots: Vec::new(), watching: Vec::new() },
            Lang::Chinese,
        )
        .unwrap();
        expect(&page, &["<th scope=\"row\">观看人数</th><td>2</td>", "<td>&#60;b&#62;</td>"]);
        expect(&page, &["fresh.js", "aria-current=\"true\">状态</a>"]);
    }

    /// All pages, with names that try to break out, have only tags and attributes of ours, and
    /// every address in them is relative.
    #[test]
    fn names_cannot_break_out_and_addresses_are_relative() {
        let bad = "\"><script>x</script>&'.jpg";
        let outcome = Some(Outcome { missing: vec![bad.to_owned()], ..Outcome::default() });
        let neighbour = Some(bad.to_owned());
        let one =
            View { photo: shown(bad), newer: neighbour.clone(), older: neighbour, newest: false };
        for lang in LANGS {
            let pages = [
                gallery(
                    &Gallery { photos: vec![shown(bad)], outcome: outcome.clone(), ..full() },
                    lang,
                ),
                view(&one, "../", lang),
            ];
            for page in pages.map(Result::unwrap) {
                assert!(!page.contains("<script>") && !page.contains("style="), "{page}");
                for name in ["href=\"", "src=\"", "action=\""] {
                    for address in page.split(name).skip(1) {
                        assert!(!address.starts_with('/') && !address.starts_with("http"));
                        assert!(!address.starts_with('"'), "an empty address: {page}");
                    }
                }
            }
        }
    }
}
