//! What every page of ours has around its content, and the page of an error. Pure.

use askama::Template;

use super::response::{Body, Response};

/// What a page of ours may load: its own files, and nothing inline. The operator's own pages
/// have the policy that they bring.
const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; \
    base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

/// The content type of a page of ours.
pub const HTML: &str = "text/html; charset=utf-8";

/// The answer with the policy of our own pages, if it is a page.
pub fn with_policy(page: Response) -> Response {
    match page.content_type.starts_with("text/html") {
        true => page.field("Content-Security-Policy", PAGE_POLICY),
        false => page,
    }
}

/// A page: the site's look around `content`, which is HTML that is safe already.
#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }} · pistream</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{{ root }}icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{{ root }}app.css">
<link rel="stylesheet" href="{{ root }}notes.css">
</head>
<body class="page">
<header>
  <h1><img src="{{ root }}icon.svg" alt="" width="28" height="28">pistream</h1>
  <nav aria-label="Site"><a href="{{ root }}">Live</a>
  <a href="{{ root }}md/"{% if notes %} aria-current="true"{% endif %}>Notes</a></nav>
</header>
<main class="note">
{{ content|safe }}</main>
</body>
</html>
"#
)]
pub struct Shell<'a> {
    pub title: &'a str,
    /// Leads from the page to the site's start: `/`, or `../` as often as there are folders.
    pub root: &'a str,
    /// The page belongs to the notes.
    pub notes: bool,
    pub content: &'a str,
}

#[derive(Template)]
#[template(ext = "html", source = "<h1>{{ title }}</h1>\n<p>{{ sentence }}</p>\n")]
struct Sentence<'a> {
    title: &'a str,
    sentence: &'a str,
}

/// An error's sentence in the site's look, for a person in a browser. What is no sentence stays
/// as it is.
pub fn dress(mut response: Response) -> Response {
    let Body::Bytes(sentence) = &response.body else { return response };
    if !response.status.is_error() || !response.content_type.starts_with("text/plain") {
        return response;
    }
    let sentence = String::from_utf8_lossy(sentence);
    let title = &response.status.line()[4..];
    let page = Sentence { title, sentence: sentence.trim_end() }
        .render()
        .and_then(|content| Shell { title, root: "/", notes: false, content: &content }.render());
    let Ok(page) = page else { return response }; // the sentence will do
    response.body = Body::Bytes(page.into_bytes().into());
    response.content_type = HTML.into();
    with_policy(response)
}
