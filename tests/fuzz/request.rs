//! The request parser and the reader of bodies, against a second reading of the same bytes that
//! shares no code with them: two servers that read one request differently is what smuggling needs.

use pistream::http::request::{BodyReader, Framing, Head, Method, Version, parse};
use pistream::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX};

use super::Dice;

pub fn run(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let whole = parse(bytes).map(|parsed| parsed.map(|(_, used)| used));
    for _ in 0..8 {
        let cut = dice.roll(bytes.len() + 1);
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some((_, used))) => assert_eq!(whole, Ok(Some(used)), "more bytes change nothing"),
            Err(reject) => assert_eq!(whole, Err(reject), "a refusal is for good; cut at {cut}"),
        }
    }
    let Ok(Some((head, used))) = parse(bytes) else { return };
    assert!(used <= bytes.len().min(HEAD_BYTES_MAX));
    check_head(&head, &bytes[..used]);
    check_path(&head);
    check_body(head.framing, &bytes[used..], &mut dice);
}

/// The lines of a head without the empty ones around, each without its end.
fn lines(head: &[u8]) -> Vec<&[u8]> {
    let lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<&[u8]> = lines.skip_while(|line| line.is_empty()).collect();
    let (end, lines) = lines.split_last().expect("what stands behind the last line end");
    assert!(end.is_empty());
    let (last, lines) = lines.split_last().expect("the line that ends the head");
    assert!(last.is_empty() && lines.iter().all(|line| !line.is_empty()), "one empty line ends it");
    lines.to_vec()
}

fn check_head(head: &Head, bytes: &[u8]) {
    let lines = lines(bytes);
    let (first, fields) = lines.split_first().expect("a request line");
    assert!(lines.iter().all(|line| !line.contains(&b'\r') && !line.contains(&0)), "bare CR, NUL");
    assert!(fields.len() <= HEADERS_MAX);
    let request = &head.request;
    let words: Vec<&[u8]> = first.split(|b| *b == b' ').collect();
    let method: &[u8] = match request.method {
        Method::Get => b"GET",
        Method::Head => b"HEAD",
        Method::Post => b"POST",
        Method::Delete => b"DELETE",
        Method::Options => b"OPTIONS",
    };
    let version: &[u8] = match request.version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    };
    assert_eq!(words, [method, request.target.as_bytes(), version], "the request line");
    let fields: Vec<(String, &[u8])> = fields.iter().map(|line| field(line)).collect();
    let all = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(n, _)| n == name).map(|(_, value)| *value).collect()
    };
    let hosts = all("host");
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || request.version == Version::Http10), "Host");
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match head.framing {
        Framing::Chunked => {
            assert!(lengths.is_empty() && request.version == Version::Http11);
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Length(length) => {
            assert!(codings.is_empty(), "a coding that nobody reads");
            assert!(length <= BODY_BYTES_MAX && (length == 0 || !lengths.is_empty()));
            for said in lengths {
                let digits = std::str::from_utf8(said).expect("digits");
                assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
                assert_eq!(digits.parse(), Ok(length));
            }
        }
    }
}

/// Name in lower case and value of a field; RFC 9112, section 5.
fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|b| *b == b':').expect("a name and a value");
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    assert!(colon > 0 && line[..colon].iter().all(is_token), "no space before the colon, no fold");
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    (name, line[colon + 1..].trim_ascii())
}

/// What everybody relies on who is given a path.
fn check_path(head: &Head) {
    let Some(path) = &head.request.path else { return };
    let rest = path.strip_prefix('/').expect("a path from the site's start");
    assert!(!path.contains(['\0', '\\']));
    let mut segments = rest.strip_suffix('/').unwrap_or(rest).split('/');
    assert!(rest.is_empty() || segments.all(|s| !s.is_empty() && !s.starts_with('.')), "{path:?}");
    // As it leaves this program in links, it comes back.
    let again = format!("GET {} HTTP/1.0\r\n\r\n", encoded(path));
    if again.len() <= HEAD_BYTES_MAX {
        let again = parse(again.as_bytes()).expect("a fine request").expect("a whole one").0;
        assert_eq!(again.request.path.as_ref(), Some(path));
    }
}

/// A path in which all but letters, digits and slashes is percent-encoded.
pub fn encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'/';
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    path.bytes().map(one).collect()
}

fn check_body(framing: Framing, bytes: &[u8], dice: &mut Dice) {
    let at_once = read(framing, &[bytes]);
    assert_eq!(read(framing, &dice.pieces(bytes)), at_once, "however it is cut");
    let Ok((body, used, true)) = at_once else { return };
    assert!(body.len() <= BODY_BYTES_MAX);
    match framing {
        Framing::Length(length) => assert!(used == length && body == bytes[..length]),
        Framing::Chunked => assert_eq!(unchunked(&bytes[..used]), body),
    }
}

/// The body, how many bytes were used for it, and whether it is whole; or only that it is refused.
fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), ()> {
    let (mut reader, mut body) = (BodyReader::new(framing), Vec::new());
    let (mut held, mut all) = (Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        let used = reader.read(&held, &mut body).map_err(drop)?;
        held.drain(..used);
        all += used;
    }
    let used = reader.read(&held, &mut body).map_err(drop)?;
    Ok((body, all + used, reader.is_done()))
}

/// RFC 9112, section 7.1, for what was accepted.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").expect("a line with a size");
        let line = &bytes[..end];
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        assert!(!extension.iter().any(|b| b"\r\n".contains(b)), "a bare CR or LF");
        let size = std::str::from_utf8(size).expect("digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return body;
        }
        let (chunk, rest) = bytes[end + 2..].split_at(size);
        body.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n").expect("a line end behind the chunk");
    }
}
