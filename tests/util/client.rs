//! A small blocking HTTP client that forgives nothing: heads, bodies and the multipart stream are
//! read byte for byte as the contract writes them, and anything else is `InvalidData`.
//!
//! Every wait has a deadline. No reply is taken for whole because one read returned it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::PATIENCE;

/// A reply's status line and fields, spelled and ordered as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The head at the front of `bytes` and its length; `None` while it is not whole.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("a head that is no text"))?;
        let mut lines = text.split("\r\n");
        let (version, status, reason) = status_line(lines.next().unwrap_or(""))?;
        let mut head = Head { version, status, reason, headers: Vec::new() };
        for line in lines {
            let (name, value) = field(line)?;
            if head.header(&name).is_some() {
                return Err(bad(format!("{name:?} twice in {text:?}")));
            }
            head.headers.push((name, value));
        }
        if head.header("Transfer-Encoding").is_some() {
            return Err(bad(format!("a transfer coding, which we never use: {text:?}")));
        }
        Ok(Some((head, end + 4)))
    }

    /// A field's value, whatever the spelling of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|field| field.1.as_str())
    }

    /// The names in their order.
    pub fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|field| field.0.as_str()).collect()
    }

    fn length(&self) -> io::Result<Option<usize>> {
        let Some(value) = self.header("Content-Length") else {
            return Ok(None);
        };
        number(value).map(Some)
    }

    /// Whether the connection stays open behind this reply.
    pub fn keeps_alive(&self) -> bool {
        match self.header("Connection") {
            Some(value) => value == "keep-alive",
            None => self.version == "HTTP/1.1",
        }
    }
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    fn new(head: Head, body: Vec<u8>) -> Reply {
        let Head { version, status, reason, headers } = head;
        Reply { version, status, reason, headers, body }
    }

    /// A field's value, whatever the spelling of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|field| field.1.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The fields without `Date`, which differs from one second to the next.
    pub fn fields(&self) -> Vec<(&str, &str)> {
        let fields = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fields.filter(|(name, _)| *name != "Date").collect()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{} {:?}: {}", self.reason, self.headers, self.text());
        self
    }
}

/// One connection on which requests follow each other.
pub struct Client {
    socket: TcpStream,
    inbox: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).expect("connect")
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&addr, PATIENCE)?;
        socket.set_nodelay(true)?;
        Ok(Client { socket, inbox: Vec::new() })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.try_send(bytes).expect("send");
        self
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.set_write_timeout(Some(PATIENCE))?;
        self.socket.write_all(bytes.as_ref())
    }

    /// The next reply, to a request that was not HEAD.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply(false).expect("a reply")
    }

    /// The next reply, to HEAD: no body, whatever its `Content-Length` says.
    #[track_caller]
    pub fn reply_to_head(&mut self) -> Reply {
        self.try_reply(true).expect("a reply")
    }

    /// The next reply's head alone; what follows it is not read.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.try_head(Instant::now() + PATIENCE).expect("a reply")
    }

    pub fn try_reply(&mut self, head_only: bool) -> io::Result<Reply> {
        let end = Instant::now() + PATIENCE;
        let head = self.try_head(end)?;
        let bodiless = head_only || head.status < 200 || matches!(head.status, 204 | 304);
        let body = match head.length()? {
            _ if bodiless => Vec::new(),
            Some(length) => {
                while self.inbox.len() < length {
                    self.more(end)?;
                }
                self.inbox.drain(..length).collect()
            }
            None if head.keeps_alive() => return Err(bad(format!("no end: {head:?}"))),
            None => self.until_end(end)?,
        };
        Ok(Reply::new(head, body))
    }

    /// What came so far and was not asked for, and all that comes until the end.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.until_end(Instant::now() + PATIENCE)
    }

    /// The server closes in order (no reset) and sends nothing more before it does.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.rest().expect("an orderly end");
        assert!(rest.is_empty(), "after the last reply: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Nothing comes for a moment, and the connection stays.
    #[track_caller]
    pub fn expect_silence(&mut self, pause: Duration) {
        match self.more(Instant::now() + pause) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => panic!("not silent: {other:?} {:?}", String::from_utf8_lossy(&self.inbox)),
        }
    }

    fn try_head(&mut self, end: Instant) -> io::Result<Head> {
        loop {
            if let Some((head, length)) = Head::parse(&self.inbox)? {
                self.inbox.drain(..length);
                return Ok(head);
            }
            self.more(end)?;
        }
    }

    fn until_end(&mut self, end: Instant) -> io::Result<Vec<u8>> {
        loop {
            match self.more(end) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.inbox))
    }

    fn more(&mut self, end: Instant) -> io::Result<()> {
        more(&mut self.socket, &mut self.inbox, end)
    }
}

/// GET over a connection of its own, to its end.
#[track_caller]
pub fn get(addr: SocketAddr, target: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    ask(addr, request.as_bytes())
}

/// Presses the button for a photo, which must be saved; what is told of it.
#[track_caller]
pub fn press(addr: SocketAddr) -> serde_json::Value {
    let request =
        "POST /photo HTTP/1.1\r\nHost: pi\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let reply = ask(addr, request.as_bytes()).expect(201);
    serde_json::from_slice(&reply.body).expect("JSON")
}

/// Sends `bytes`, reads to the end, and takes it as exactly one reply.
#[track_caller]
pub fn ask(addr: SocketAddr, bytes: &[u8]) -> Reply {
    let mut client = Client::connect(addr);
    client.send(bytes);
    let reply = client.try_reply(bytes.starts_with(b"HEAD ")).unwrap_or_else(|error| {
        panic!("{error} for {:?}", String::from_utf8_lossy(bytes));
    });
    client.expect_end();
    reply
}

/// One part of the stream.
#[derive(Clone, Debug)]
pub struct Part {
    pub headers: Vec<(String, String)>,
    /// Seconds since 1970 when the frame was captured.
    pub timestamp: f64,
    pub jpeg: Vec<u8>,
}

/// Multipart bytes to parts, without a socket; what is not a whole part stays inside.
#[derive(Default)]
pub struct Parts {
    inbox: Vec<u8>,
    begun: bool,
}

impl Parts {
    pub fn push(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    /// Bytes of a part that is not whole yet.
    pub fn pending(&self) -> usize {
        self.inbox.len()
    }

    /// The next part; whole only when the boundary behind it is there too. Exactly
    /// `Content-Type: image/jpeg`, `Content-Length`, `X-Timestamp`, an empty line, the JPEG, and
    /// `CRLF--frameCRLF`.
    pub fn next(&mut self) -> io::Result<Option<Part>> {
        if !self.begun {
            let first = b"--frame\r\n";
            expect(&self.inbox, first)?;
            if self.inbox.len() < first.len() {
                return Ok(None);
            }
            self.inbox.drain(..first.len());
            self.begun = true;
        }
        let first = b"Content-Type: image/jpeg\r\nContent-Length: ";
        expect(&self.inbox, first)?;
        let Some(end) = find(&self.inbox, b"\r\n\r\n") else {
            return match self.inbox.len() {
                0..512 => Ok(None),
                _ => Err(bad("a part's head without end")),
            };
        };
        let head = std::str::from_utf8(&self.inbox[first.len()..end]);
        let head = head.map_err(|_| bad("a part's head is no text"))?;
        let (length, stamp) = head.split_once("\r\nX-Timestamp: ").ok_or_else(|| bad(head))?;
        let (length, timestamp) = (number(length)?, seconds(stamp)?);
        let headers = [("Content-Type", "image/jpeg"), ("Content-Length", &length.to_string())];
        let mut headers: Vec<_> = headers.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        headers.push(("X-Timestamp".to_owned(), stamp.to_owned()));
        let (from, to) = (end + 4, end + 4 + length);
        let last = b"\r\n--frame\r\n";
        if let Some(tail) = self.inbox.get(to..) {
            expect(tail, last)?;
        }
        if self.inbox.len() < to + last.len() {
            return Ok(None);
        }
        let jpeg = self.inbox[from..to].to_vec();
        self.inbox.drain(..to + last.len());
        if !jpeg.starts_with(b"\xff\xd8\xff") || !jpeg.ends_with(b"\xff\xd9") {
            return Err(bad("a part that is no JPEG from its start to its end"));
        }
        Ok(Some(Part { headers, timestamp, jpeg }))
    }
}

/// The parts of a stream that another program prints, given to `take` until that has enough, or
/// the stream ends.
pub fn parts(mut out: impl Read, mut take: impl FnMut(Part) -> bool) -> io::Result<()> {
    let (mut parts, mut bytes) = (Parts::default(), [0; 65536]);
    loop {
        match out.read(&mut bytes)? {
            0 => return Ok(()),
            count => parts.push(&bytes[..count]),
        }
        while let Some(part) = parts.next()? {
            if !take(part) {
                return Ok(());
            }
        }
    }
}

/// JPEGs out of a stream, whatever stands between them; those with a thumbnail would be cut.
pub struct Jpegs<R> {
    from: R,
    inbox: Vec<u8>,
}

impl<R: Read> Jpegs<R> {
    pub fn new(from: R) -> Jpegs<R> {
        Jpegs { from, inbox: Vec::new() }
    }
}

impl<R: Read> Iterator for Jpegs<R> {
    type Item = io::Result<Vec<u8>>;

    /// `None` where the stream ends.
    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut bytes = [0; 65536];
        loop {
            if let Some(end) = find(&self.inbox, b"\xff\xd9") {
                let mut jpeg: Vec<u8> = self.inbox.drain(..end + 2).collect();
                let start = find(&jpeg, b"\xff\xd8").unwrap_or(jpeg.len());
                return Some(Ok(jpeg.split_off(start)));
            }
            match self.from.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.inbox.extend_from_slice(&bytes[..count]),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A viewer: one connection that carries a stream.
pub struct Stream {
    socket: TcpStream,
    parts: Parts,
    /// The last part's time stamp.
    last: f64,
    /// The reply's head.
    pub head: Head,
}

impl Stream {
    /// Asks with HTTP/1.1 and expects 200.
    #[track_caller]
    pub fn open(addr: SocketAddr, target: &str) -> Stream {
        Stream::ask(addr, &format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
    }

    /// Sends `request` and expects 200 and the stream.
    #[track_caller]
    pub fn ask(addr: SocketAddr, request: &str) -> Stream {
        let mut client = Client::connect(addr);
        client.send(request);
        let head = client.head();
        assert_eq!(head.status, 200, "{head:?} {:?}", String::from_utf8_lossy(&client.inbox));
        let parts = Parts { inbox: client.inbox, begun: false };
        Stream { socket: client.socket, parts, last: 0.0, head }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The next part, boundary behind it included. `TimedOut` loses nothing: ask again.
    pub fn next_part(&mut self, timeout: Duration) -> io::Result<Part> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(part) = self.parts.next()? {
                self.last = part.timestamp;
                return Ok(part);
            }
            more(&mut self.socket, &mut self.parts.inbox, end)?;
        }
    }

    /// The next part; its absence is a failure.
    #[track_caller]
    pub fn part(&mut self) -> Part {
        self.next_part(PATIENCE).expect("the next part")
    }

    /// The next frame: a part that only repeats the one before is passed over, as it comes when
    /// the camera, or the machine, pauses. An older one is a failure.
    #[track_caller]
    pub fn frame(&mut self) -> Part {
        loop {
            let before = self.last;
            let part = self.part();
            assert!(part.timestamp >= before, "an old frame: {} after {before}", part.timestamp);
            if part.timestamp > before {
                return part;
            }
        }
    }

    /// All that comes until the end, as bytes.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match more(&mut self.socket, &mut self.parts.inbox, end) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.parts.inbox))
    }
}

/// Decodes as strictly as can be: width, height, and three bytes a pixel.
#[track_caller]
pub fn decode(jpeg: &[u8]) -> (usize, usize, Vec<u8>) {
    try_decode(jpeg).unwrap_or_else(|error| panic!("{} bytes: {error}", jpeg.len()))
}

pub fn try_decode(jpeg: &[u8]) -> Result<(usize, usize, Vec<u8>), String> {
    let options =
        DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    let pixels = decoder.decode().map_err(|error| format!("{error:?}"))?;
    let info = decoder.info().ok_or("no picture")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    match pixels.len() == width * height * 3 {
        true => Ok((width, height, pixels)),
        false => Err(format!("{} bytes for {width}x{height}", pixels.len())),
    }
}

/// Reads once more, at the latest until `end`; the other side's end is `UnexpectedEof`.
fn more(socket: &mut TcpStream, inbox: &mut Vec<u8>, end: Instant) -> io::Result<()> {
    let mut chunk = [0; 65536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                inbox.extend_from_slice(&chunk[..count]);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// As far as `bytes` go, they must be `what`.
fn expect(bytes: &[u8], what: &[u8]) -> io::Result<()> {
    let length = bytes.len().min(what.len());
    if bytes[..length] == what[..length] {
        return Ok(());
    }
    let (have, want) = (&bytes[..bytes.len().min(80)], String::from_utf8_lossy(what));
    Err(bad(format!("{:?} where {want:?} must stand", String::from_utf8_lossy(have))))
}

/// Decimal digits and nothing else.
fn number(text: &str) -> io::Result<usize> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.parse().ok().filter(|_| plain);
    parsed.ok_or_else(|| bad(format!("{text:?} is no length")))
}

/// `1795334017.312000`: seconds with exactly six decimals.
fn seconds(text: &str) -> io::Result<f64> {
    let (whole, part) = text.split_once('.').ok_or_else(|| bad(text))?;
    number(whole)?;
    number(part)?;
    match part.len() {
        6 => text.parse().map_err(|_| bad(text)),
        _ => Err(bad(format!("X-Timestamp {text:?}"))),
    }
}

fn status_line(line: &str) -> io::Result<(String, u16, String)> {
    let wrong = || bad(format!("{line:?} is no status line"));
    let mut words = line.splitn(3, ' ');
    let version = words.next().filter(|word| matches!(*word, "HTTP/1.0" | "HTTP/1.1"));
    let status = words.next().filter(|word| word.len() == 3);
    let status = status.and_then(|word| word.parse::<u16>().ok());
    let status = status.filter(|status| (100..600).contains(status));
    let reason = words.next().filter(|word| !word.is_empty());
    let reason = reason.filter(|word| word.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    let (version, reason) = (version.ok_or_else(wrong)?, reason.ok_or_else(wrong)?);
    Ok((version.to_owned(), status.ok_or_else(wrong)?, reason.to_owned()))
}

/// `Name: value`: a token, a colon, one space, a value without space around it.
fn field(line: &str) -> io::Result<(String, String)> {
    let wrong = || bad(format!("{line:?} is no header field"));
    let (name, value) = line.split_once(": ").ok_or_else(wrong)?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let plain = |b: u8| b == b' ' || b.is_ascii_graphic();
    let good = !name.is_empty() && name.bytes().all(token) && value.bytes().all(plain);
    match good && value == value.trim() && !value.is_empty() {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(wrong()),
    }
}
