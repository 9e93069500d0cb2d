//! What every page of ours has around its content, and the page of an error. Pure.

use askama::Template;

use super::phrases::Lang;
use super::request::Request;
use super::response::{Body, Response};

/// The field that our own pages have, and no others.
pub const POLICY: &str = "Content-Security-Policy";
/// What a page of ours may load: its own files, and nothing inline. The operator's own pages
/// have the policy that they bring.
const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'self'";
/// The end of it, to which other origins may be added.
pub const FRAME_POLICY: &str = "frame-ancestors 'self'";

/// What a file may do that others may have written: be shown, as if by no site.
const FILE_POLICY: &str = "sandbox";

/// The content type of a page of ours.
pub const HTML: &str = "text/html; charset=utf-8";

/// The answer with the policy of our own pages, if it is a page.
pub fn with_policy(page: Response) -> Response {
    match page.content_type.starts_with("text/html") {
        true => page.field(POLICY, PAGE_POLICY),
        false => page,
    }
}

/// The answer with the policy of files that are no pages of ours, if it could run something when
/// it is opened by itself: HTML, SVG and other XML.
pub fn with_sandbox(file: Response) -> Response {
    let kind = file.content_type.split(';').next().unwrap_or_default();
    match kind.contains("html") || kind.ends_with("/xml") || kind.ends_with("+xml") {
        true => file.field(POLICY, FILE_POLICY),
        false => file,
    }
}

/// Where in the site a page belongs; the navigation marks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Gallery,
    Notes,
    Status,
    /// Nowhere, as an error.
    Aside,
}

/// A page: the site's look around `content`, which is HTML that is safe already.
/// `www/index.html`, the live page, has the same head and navigation.
#[derive(Template)]
#[template(
    ext = "html",
    source = r##"<!doctype html>
<html lang="{{ lang.tag() }}">
<head>
<meta charset="utf-8">
<title>{{ title }} · pistream</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#f3f4f2" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#101312" media="(prefers-color-scheme: dark)">
<link rel="icon" href="{{ root }}icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{{ root }}app.css">
<link rel="stylesheet" href="{{ root }}notes.css">
{% for file in files -%}
{% if file.ends_with(".css") -%}
<link rel="stylesheet" href="{{ root }}{{ file }}">
{% else -%}
<script src="{{ root }}{{ file }}" defer></script>
{% endif -%}
{% endfor -%}
</head>
<body class="page">
<a class="skip" href="#content">{{ lang.say("Skip to the content") }}</a>
<header>
  <p class="brand"><img src="{{ root }}icon.svg" alt="" width="28" height="28">pistream</p>
  <nav aria-label="{{ lang.say("Site") }}">
  <a href="{{ start() }}">{{ lang.say("Live") }}</a>
  <a href="{{ root }}gallery"{{ mark(Place::Gallery)|safe }}>{{ lang.say("Gallery") }}</a>
  <a href="{{ root }}md/"{{ mark(Place::Notes)|safe }}>{{ lang.say("Notes") }}</a>
  <a href="{{ root }}status"{{ mark(Place::Status)|safe }}>{{ lang.say("Status") }}</a></nav>
</header>
<main id="content" class="{{ kind }}" tabindex="-1">
{{ content|safe }}</main>
</body>
</html>
"##
)]
pub struct Shell<'a> {
    pub lang: Lang,
    pub title: &'a str,
    /// Leads from the page to the site's start: `/`, or `../` as often as there are folders.
    pub root: &'a str,
    pub place: Place,
    /// The class of the content: `note` is text in a column.
    pub kind: &'a str,
    /// Further files of `www/`, by name: style sheets and scripts.
    pub files: &'a [&'a str],
    pub content: &'a str,
}

impl Shell<'_> {
    /// The site's start; an empty address would be the page itself.
    fn start(&self) -> &str {
        if self.root.is_empty() { "./" } else { self.root }
    }

    fn mark(&self, place: Place) -> &'static str {
        if self.place == place { " aria-current=\"true\"" } else { "" }
    }
}

#[derive(Template)]
#[template(ext = "html", source = "<h1>{{ title }}</h1>\n<p>{{ sentence }}</p>\n")]
struct Sentence<'a> {
    title: &'a str,
    sentence: &'a str,
}

/// An error's sentence in the visitor's language. What is no sentence stays as it is.
pub fn translate(mut response: Response, lang: Lang) -> Response {
    if let Some(sentence) = sentence_of(&response) {
        let said = format!("{}\n", lang.sentence(&sentence));
        response.body = Body::Bytes(said.into_bytes().into());
    }
    response
}

/// An error's sentence in the site's look and in the visitor's language, for a person in a
/// browser. What is no sentence stays as it is.
pub fn dress(mut response: Response, request: &Request) -> Response {
    let lang = request.lang;
    let Some(sentence) = sentence_of(&response) else { return response };
    let title = lang.sentence(&response.status.line()[4..]);
    let page = Sentence { title: &title, sentence: &lang.sentence(&sentence) }.render().and_then(
        |content| {
            let (root, place, kind) = ("../".repeat(request.depth), Place::Aside, "note");
            let (root, files) = (root.as_str(), &[][..]);
            Shell { lang, title: &title, root, place, kind, files, content: &content }.render()
        },
    );
    let Ok(page) = page else { return translate(response, lang) }; // the sentence will do
    response.body = Body::Bytes(page.into_bytes().into());
    response.content_type = HTML.into();
    with_policy(response)
}

/// One of our pages for who may only look: what changes something is hidden (`app.css`).
pub fn for_viewer(mut response: Response) -> Response {
    let own = |(name, value): &(&str, String)| *name == POLICY && value != FILE_POLICY;
    let ours = response.fields.iter().any(own);
    let Body::Bytes(bytes) = &response.body else { return response };
    if ours && let Ok(page) = str::from_utf8(bytes) {
        let page = page.replacen("<body", "<body data-role=\"viewer\"", 1);
        response.body = Body::Bytes(page.into_bytes().into());
        if let Some(etag) = &mut response.validators.etag {
            *etag = format!("{}-viewer\"", etag.trim_end_matches('"'));
        }
    }
    response
}

fn sentence_of(response: &Response) -> Option<String> {
    let Body::Bytes(sentence) = &response.body else { return None };
    let plain = response.status.is_error() && response.content_type.starts_with("text/plain");
    plain.then(|| String::from_utf8_lossy(sentence).trim_end().to_owned())
}
