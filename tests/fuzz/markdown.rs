//! Notes as pages: whatever the Markdown, nothing in the page can run. The page is read by a second
//! reader that knows nothing of how it was made: it takes the few tags, attributes and addresses
//! that are known to be harmless, in the one form in which we write them, and nothing else.

use pistream::disk::page::note;
use pistream::http::phrases::Lang;

pub fn run(bytes: &[u8]) {
    let markdown = String::from_utf8_lossy(bytes);
    check_page(&note(&markdown, "a/b.md", Lang::English).expect("a page"));
}

/// Tags with the attributes that they may have.
const TAGS: [(&str, &str); 38] = [
    ("html", "lang"),
    ("head", ""),
    ("meta", "charset name content media"),
    ("title", ""),
    ("link", "rel href type"),
    ("body", "class data-role"),
    ("header", ""),
    ("nav", "aria-label"),
    ("main", "id class tabindex"),
    ("h1", "id"),
    ("h2", "id"),
    ("h3", "id"),
    ("h4", "id"),
    ("h5", "id"),
    ("h6", "id"),
    ("p", "class"),
    ("a", "class href title aria-current"),
    ("img", "src alt title width height"),
    ("em", ""),
    ("strong", ""),
    ("del", ""),
    ("code", "class"),
    ("pre", ""),
    ("blockquote", ""),
    ("ul", "class"),
    ("ol", "start"),
    ("li", ""),
    ("table", ""),
    ("thead", ""),
    ("tbody", ""),
    ("tr", ""),
    ("th", "style"),
    ("td", "style"),
    ("hr", ""),
    ("br", ""),
    ("input", "disabled type checked"),
    ("div", "class id"),
    ("sup", "class"),
];
/// Tags that nothing closes.
const VOID: [&str; 6] = ["meta", "link", "img", "hr", "br", "input"];

/// Panics unless nothing in this page can run, and each tag is closed where it must be.
pub fn check_page(page: &str) {
    let mut rest = page.strip_prefix("<!doctype html>").expect("a page");
    let mut open = Vec::new();
    while let Some(at) = rest.find('<') {
        decoded(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag's end");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "</{name}> closes it"),
            None => {
                let name = check_tag(tag.strip_suffix('/').unwrap_or(tag).trim_end());
                if !VOID.contains(&name) {
                    open.push(name);
                }
            }
        }
    }
    decoded(rest);
    assert!(open.is_empty(), "{open:?} stay open");
}

/// Gives the tag's name.
fn check_tag(tag: &str) -> &str {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let known = TAGS.iter().find(|(known, _)| *known == name);
    let (_, known) = known.unwrap_or_else(|| panic!("<{tag}> is no tag of ours"));
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (attribute, after) = rest.split_once("=\"").expect("a value in quotes");
        let (value, after) = after.split_once('"').expect("the end of a value");
        assert!(
            !attribute.is_empty() && known.split(' ').any(|known| known == attribute),
            "{attribute} in <{tag}>"
        );
        assert!(!seen.contains(&attribute), "{attribute} twice in <{tag}>");
        seen.push(attribute);
        check_value(attribute, &decoded(value));
        assert!(after.is_empty() || after.starts_with(' '), "a space behind it in <{tag}>");
        rest = after.trim_start_matches(' ');
    }
    name
}

fn check_value(attribute: &str, value: &str) {
    let fits = match attribute {
        "href" => leads_to(value, &["http", "https", "mailto"]),
        "src" => leads_to(value, &["http", "https"]),
        "style" => ["left", "center", "right"].iter().any(|s| value == format!("text-align: {s}")),
        "rel" => ["icon", "stylesheet"].contains(&value),
        "type" => ["checkbox", "image/svg+xml"].contains(&value),
        "start" => value.bytes().all(|b| b.is_ascii_digit()),
        _ => true,
    };
    assert!(fits, "{attribute}={value:?}");
}

/// Text with its references decoded. Only those are known that stand for what must not stand there.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(';').expect("a whole reference");
        decoded.push(match name {
            "amp" | "#38" => '&',
            "lt" | "#60" => '<',
            "gt" | "#62" => '>',
            "quot" | "#34" => '"',
            "#x27" | "#39" => '\'',
            _ => panic!("&{name}; is no reference of ours"),
        });
        decoded.push_str(rest);
    }
    decoded
}

/// Whether an address has one of these schemes or none: the URL standard's parser, section 4.4, to
/// the end of its scheme state.
fn leads_to(address: &str, schemes: &[&str]) -> bool {
    let trimmed = address.trim_matches(|c: char| c <= ' ');
    let read: String = trimmed.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
    let begins = read.starts_with(|c: char| c.is_ascii_alphabetic());
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let end = read.find(|c| !in_scheme(c)).unwrap_or(read.len());
    let has_scheme = begins && read[end..].starts_with(':');
    !has_scheme || schemes.iter().any(|scheme| read[..end].eq_ignore_ascii_case(scheme))
}
