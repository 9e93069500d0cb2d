//! The HTML that we make: a note from its Markdown, a list of notes. Pure.
//!
//! Safe whoever wrote the note: raw HTML is shown as text, and links and images lead only to
//! schemes that cannot run anything. That is decided on the parser's events, after it has decoded
//! entities and escapes, so there is nothing left to be decoded behind our back.

use std::collections::HashMap;

use askama::Template;
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};

use super::site::encode;
use crate::http::page::{Place, Shell};
use crate::http::phrases::Lang;

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<h1>{{ title }}</h1>
{% if entries.is_empty() -%}
<p>{{ lang.say("There are no notes here. Put Markdown files (.md) into this folder.") }}</p>
{% else -%}
<ul class="list">
{% for entry in entries -%}
<li><a href="{{ entry.link }}">{{ entry.text }}</a></li>
{% endfor -%}
</ul>
{% endif -%}
"#
)]
struct List<'a> {
    lang: Lang,
    title: &'a str,
    /// At most `LISTED_MAX`.
    entries: Vec<Entry>,
}

/// Bound: the kernel's file names, percent-encoded.
struct Entry {
    link: String,
    text: String,
}

/// A note as a page. `path` is its path below `md/`.
pub fn note(markdown: &str, path: &str, lang: Lang) -> Result<String, askama::Error> {
    let (title, content) = render(markdown);
    let stem = path.rsplit('/').next().unwrap_or(path);
    let title = title.unwrap_or_else(|| stem.strip_suffix(".md").unwrap_or(stem).to_owned());
    shell(&title, path, &content, lang)
}

/// The list of a folder's notes and sub-folders (`names`, with a slash behind folders'), at
/// `path` below `md/`: empty, or with a slash at its end.
pub fn list(names: &[String], path: &str, lang: Lang) -> Result<String, askama::Error> {
    let entry = |name: &String| {
        if let Some(folder) = name.strip_suffix('/') {
            return Some(Entry { link: format!("{}/", encode(folder)), text: name.clone() });
        }
        let stem = name.strip_suffix(".md").filter(|stem| !stem.is_empty())?;
        Some(Entry { link: encode(stem), text: stem.to_owned() })
    };
    let title = if path.is_empty() { lang.say("Notes") } else { path.trim_end_matches('/') };
    let entries = names.iter().filter_map(entry).collect();
    let content = List { lang, title, entries }.render()?;
    shell(title, path, &content, lang)
}

fn shell(title: &str, path: &str, content: &str, lang: Lang) -> Result<String, askama::Error> {
    let root = "../".repeat(1 + path.matches('/').count());
    let (place, kind) = (Place::Notes, "note");
    Shell { lang, title, root: &root, place, kind, files: &[], content }.render()
}

/// The title, which is the first heading's text, and the HTML of a note.
fn render(markdown: &str) -> (Option<String>, String) {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<Event> = Parser::new_ext(markdown, options).map(harmless).collect();
    drop_links_that_run(&mut events);
    let title = name_headings(&mut events);
    let mut content = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut content, events.into_iter());
    (title, content)
}

/// Raw HTML becomes text.
fn harmless(event: Event) -> Event {
    match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
        Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
        other => other,
    }
}

/// Take away links and images whose address could run something; their text stays.
fn drop_links_that_run(events: &mut Vec<Event>) {
    let mut dropped = Vec::new(); // for each link or image that is open
    events.retain(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, .. }) => {
            let kept = *link_type == LinkType::Email || leads_to(dest_url, &LINKED);
            dropped.push(!kept);
            kept
        }
        Event::Start(Tag::Image { dest_url, .. }) => {
            let kept = leads_to(dest_url, &SHOWN);
            dropped.push(!kept);
            kept
        }
        Event::End(TagEnd::Link | TagEnd::Image) => !dropped.pop().unwrap_or(false),
        _ => true,
    });
}

/// Schemes that a link may have.
const LINKED: [&str; 3] = ["http", "https", "mailto"];
/// Schemes that an image may have.
const SHOWN: [&str; 2] = ["http", "https"];

/// Whether an address is relative or of one of these schemes, as a browser reads it: it skips
/// control characters and spaces around (WHATWG URL, section 4.4).
fn leads_to(address: &str, schemes: &[&str]) -> bool {
    let read: String = address.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    let Some((scheme, _)) = read.split_once(':') else { return true };
    scheme.contains(['/', '?', '#']) || schemes.iter().any(|s| scheme.eq_ignore_ascii_case(s))
}

/// Give each heading an anchor made of its text; gives the first heading's text.
fn name_headings(events: &mut [Event]) -> Option<String> {
    let mut title = None;
    let mut used: HashMap<String, usize> = HashMap::new();
    let mut start = None;
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { .. }) => start = Some(at),
            Event::End(TagEnd::Heading(_)) => {
                let Some(start) = start.take() else { continue };
                let text = text_of(&events[start..at]);
                let id = only(anchor_of(&text), &mut used);
                if let Event::Start(Tag::Heading { id: place, level, .. }) = &mut events[start] {
                    debug_assert!(*level <= HeadingLevel::H6);
                    *place = Some(CowStr::from(id));
                }
                title = title.or(Some(text).filter(|text| !text.trim().is_empty()));
            }
            _ => {}
        }
    }
    title
}

/// The anchor, with the first number behind it that makes it the only one of its note. `used` has
/// the last number behind each.
fn only(anchor: String, used: &mut HashMap<String, usize>) -> String {
    let mut id = anchor.clone();
    let mut number = used.get(&anchor).copied().unwrap_or(0);
    while used.contains_key(&id) {
        number += 1;
        id = format!("{anchor}-{number}");
    }
    used.insert(anchor, number);
    used.entry(id.clone()).or_insert(0);
    id
}

fn text_of(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            _ => {}
        }
    }
    text
}

/// As GitHub does it: letters and digits of any script in lower case, a dash for a space.
fn anchor_of(text: &str) -> String {
    let fits = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let lower = text.trim().chars().flat_map(char::to_lowercase).filter(fits);
    let anchor: String = lower.map(|c| if c == ' ' { '-' } else { c }).collect();
    if anchor.is_empty() { "section".to_owned() } else { anchor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(markdown: &str, expect: &str) {
        assert_eq!(render(markdown).1.trim_end(), expect, "{markdown:?}");
    }

    #[test]
    fn markdown_with_its_usual_extensions_is_rendered() {
        check("*a* `b`", "<p><em>a</em> <code>b</code></p>");
        check("~~a~~", "<p><del>a</del></p>");
        check("\"quoted\" -- text...", "<p>\"quoted\" -- text...</p>");
        check("[n](other.md)", "<p><a href=\"other.md\">n</a></p>");
        check("<https://a.b/>", "<p><a href=\"https://a.b/\">https://a.b/</a></p>");
        check("<me@a.b>", "<p><a href=\"mailto:me@a.b\">me@a.b</a></p>");
        check("![x](pic/a%20b.png)", "<p><img src=\"pic/a%20b.png\" alt=\"x\" /></p>");
        for (markdown, part) in [
            ("|a|\n|-|\n|1|", "<table><thead><tr><th>a</th></tr></thead>"),
            ("- [x] done", "<input disabled=\"\" type=\"checkbox\" checked=\"\"/>"),
            ("a[^1]\n\n[^1]: note", "class=\"footnote-definition\""),
        ] {
            assert!(render(markdown).1.contains(part), "{}", render(markdown).1);
        }
    }

    #[test]
    fn headings_have_anchors_and_the_first_is_the_title() {
        check(
            "# The `house` rules",
            "<h1 id=\"the-house-rules\">The <code>house</code> rules</h1>",
        );
        check("## 中文 标题", "<h2 id=\"中文-标题\">中文 标题</h2>");
        let (title, html) = render("text\n\n## A\n\n## A\n\n# \"!\"");
        assert_eq!(title.as_deref(), Some("A"));
        for part in ["<h2 id=\"a\">", "<h2 id=\"a-1\">", "<h1 id=\"section\">"] {
            assert!(html.contains(part), "{html}");
        }
        let twins = render("# A\n\n# A\n\n# A-1\n\n# A\n\n# A-1").1;
        for id in ["a", "a-1", "a-1-1", "a-2", "a-1-2"] {
            assert_eq!(twins.matches(&format!("id=\"{id}\"")).count(), 1, "{id}: {twins}");
        }
        assert_eq!(render("no heading").0, None);
        let quoted = render("# a\" onclick=\"x").1;
        assert!(quoted.starts_with("<h1 id=\"a-onclickx\">"), "{quoted}");
    }

    /// What attackers write, and the sure signs that some of it would run.
    #[test]
    fn nothing_in_a_note_can_run() {
        let corpus = [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<div onclick=alert(1)>\n\n*x*\n\n</div>",
            "<!-- --><svg/onload=alert(1)>",
            "<![CDATA[<script>]]>",
            "<?php <script>alert(1)</script> ?>",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](  javascript:alert(1) )",
            "[a](<java\tscript:alert(1)>)",
            "[a](&#106;avascript:alert(1))",
            "[a](javascript&colon;alert(1))",
            "[a](java&Tab;script:alert(1))",
            "[a](&#x1;javascript:alert(1))",
            "[a](\\javascript:alert(1))",
            "[a](vbscript:x)",
            "[a](data:text/html;base64,PHNjcmlwdD4=)",
            "[a](file:///etc/passwd)",
            "![a](javascript:alert(1))",
            "![a](data:image/svg+xml;base64,PHN2Zz4=)",
            "<javascript:alert(1)>",
            "<data:text/html,x>",
            "[a]: javascript:alert(1)\n\n[a]",
            "[a](x \"\\\" onmouseover=alert(1) x=\\\"\")",
            "![\" onerror=alert(1) x=\"](x)",
            "[a](x\" onclick=\"alert(1))",
            "[![a](javascript:x)](javascript:y)",
            "```\"><script>alert(1)</script>\nx\n```",
            "[^\"><script>]\n\n[^\"><script>]: x",
            "# <script>alert(1)</script>",
            "|<script>|\n|-|\n|<img onerror=x>|",
            "- [x] <script>",
            "&lt;script&gt;",
            "\u{0}<script>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<style>@import 'x'</style>",
            "<base href=//evil.example/>",
            "<meta http-equiv=refresh content=0;url=//evil.example>",
        ];
        for markdown in corpus {
            let html = render(markdown).1;
            // Tags that are there are ours, and in them is nothing but what we know.
            for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
                let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
                let known = [
                    "p", "a", "img", "h1", "pre", "code", "table", "thead", "tbody", "tr", "th",
                    "td", "ul", "li", "input", "div", "sup", "em",
                ];
                assert!(known.contains(&name), "{markdown:?} gives <{tag}>");
                // A quote inside a value is &quot;, so that pieces outside of quotes are names.
                let names = tag.split('"').step_by(2).collect::<String>().to_lowercase();
                assert!(!names.contains(" on"), "{markdown:?} gives <{tag}>");
                let addresses =
                    ["href=\"", "src=\""].iter().flat_map(|name| tag.split(name).nth(1));
                for address in addresses.filter_map(|rest| rest.split('"').next()) {
                    let address = address.to_lowercase();
                    for scheme in ["javascript", "vbscript", "data:", "file:"] {
                        let runs = address.starts_with(scheme) || address.contains("&#");
                        assert!(!runs, "{markdown:?} gives <{tag}>");
                    }
                }
            }
        }
    }

    #[test]
    fn dropped_links_leave_their_text() {
        check("[a *b*](javascript:x) c", "<p>a <em>b</em> c</p>");
        check("![alt](data:x) [y](z)", "<p>alt <a href=\"z\">y</a></p>");
        check(
            "[a](b:c) [d](//e:1/f) [g](?h:i) [j](#k:l)",
            "<p>a <a href=\"//e:1/f\">d</a> \
            <a href=\"?h:i\">g</a> <a href=\"#k:l\">j</a></p>",
        );
    }

    #[test]
    fn pages_lead_back_to_the_site_from_any_depth() {
        let page = note("# <T>", "a/b/c.md", Lang::English).unwrap();
        assert!(page.contains("href=\"../../../app.css\"") && page.contains("href=\"../../../\""));
        assert!(page.contains("<title>&#60;T&#62; · pistream</title>"), "{page}");
        let names = ["x y.md", "图 片.md", "sub/", "photo.png", ".md"].map(str::to_owned);
        let page = list(&names, "", Lang::English).unwrap();
        for part in ["href=\"x%20y\"", "href=\"%E5%9B%BE%20%E7%89%87\"", "href=\"sub/\"", "图 片"]
        {
            assert!(page.contains(part), "no {part}: {page}");
        }
        assert!(!page.contains("photo.png"));
        let empty = |lang| list(&[], "sub/", lang).unwrap();
        assert!(empty(Lang::English).contains("There are no notes here"));
        let chinese = empty(Lang::Chinese);
        assert!(chinese.contains("这里还没有笔记") && chinese.contains("lang=\"zh-CN\""));
    }
}
