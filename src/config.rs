//! What the operator asked for: argv and environment to a `Config`. Opens nothing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};
use ipnet::IpNet;

use crate::limits::{
    CAMERAS_MAX, FPS_MAX, IDLE_OFF, INTERVAL_MAX, INTERVAL_MIN, LISTENERS_MAX, PHOTOS_MAX,
    PIXELS_MAX, QUALITY, SIDE_PIXELS_MAX, SIDE_PIXELS_MIN, TIME_MAX, VIEWERS, VIEWERS_MAX,
};

/// A camera site in one small program: live video, snapshots and pages.
///
/// Every option can also be given in the environment; the log's level is RUST_LOG
/// (error, warn, info, debug).
// Bound: the operator's words.
#[derive(Clone, Debug, Parser)]
#[command(name = "pistream", version, after_help = MORE, max_term_width = HELP_COLUMNS)]
#[command(mut_args = |arg| arg.hide_env_values(true))]
pub struct Config {
    /// Address and port to serve on, [::] takes IPv4 too; or unix:PATH for a socket. Repeatable.
    #[arg(
        long, value_name = "ADDR:PORT", env = "PISTREAM_LISTEN", value_delimiter = ',',
        default_value = "[::]:5000", value_parser = listen, help_heading = "Site"
    )]
    pub listen: Vec<Listen>,

    /// Folder of pages; a file there replaces the built-in one of the same name.
    #[arg(
        long,
        value_name = "DIR",
        env = "PISTREAM_WWW",
        default_value = WWW,
        help_heading = "Site"
    )]
    pub www: PathBuf,

    /// Folder of notes in Markdown, shown below /md/.
    #[arg(
        long,
        value_name = "DIR",
        env = "PISTREAM_MD",
        default_value = MD,
        help_heading = "Site"
    )]
    pub md: PathBuf,

    /// Folder of the photos that are taken; made if it is missing.
    #[arg(
        long,
        value_name = "DIR",
        env = "PISTREAM_PIC",
        default_value = "pic",
        help_heading = "Photos"
    )]
    pub pic: PathBuf,

    /// Width and height of photos, or max for the camera's largest; the stream pauses while one
    /// is taken [default: the stream's]
    #[arg(
        long, value_name = "WxH", env = "PISTREAM_PHOTO_SIZE", value_parser = photo_size,
        help_heading = "Photos"
    )]
    pub photo_size: Option<PhotoSize>,

    /// Take a photo again and again after this time (10s, 5m, 1h), from the start on.
    #[arg(
        long, value_name = "TIME", env = "PISTREAM_EVERY", value_parser = interval,
        help_heading = "Photos"
    )]
    pub every: Option<Duration>,

    /// Delete the oldest photos before the disk has less room than this (500M, 2G); photos that
    /// are marked to be kept stay.
    #[arg(
        long, value_name = "SIZE", env = "PISTREAM_KEEP_FREE", value_parser = bytes,
        help_heading = "Photos"
    )]
    pub keep_free: Option<u64>,

    /// Delete the oldest photos when there are more than this; those marked to be kept stay.
    #[arg(
        long, value_name = "N", env = "PISTREAM_MAX_PHOTOS",
        value_parser = number(1, PHOTOS_MAX as u64).map(|n| n as usize), help_heading = "Photos"
    )]
    pub max_photos: Option<usize>,

    /// A further name that this site is reached by (*.example.org for all below, * for any).
    /// IP addresses and local names need none. Repeatable.
    #[arg(
        long = "host-name",
        value_name = "NAME",
        env = "PISTREAM_HOST_NAME",
        value_delimiter = ',',
        value_parser = host_name,
        help_heading = "Site"
    )]
    pub host_names: Vec<String>,

    /// File of names and passwords that are asked for: NAME:HASH or NAME:HASH:viewer a line, the
    /// hash by bcrypt. A viewer may look, and nothing else.
    #[arg(long, value_name = "FILE", env = "PISTREAM_PASSWORD_FILE", help_heading = "Access")]
    pub password_file: Option<PathBuf>,

    /// Read a password, print its line for the password file, and exit (NAME or NAME:viewer).
    #[arg(long, value_name = "NAME", help_heading = "Access")]
    pub hash_password: Option<String>,

    /// Nobody may take or delete photos, or set anything.
    #[arg(long, env = "PISTREAM_READ_ONLY", value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue, help_heading = "Access")]
    pub read_only: bool,

    /// Pages of this origin may read pictures and status, and show this site in a frame
    /// (http://mainsail.local, * for any). Repeatable.
    #[arg(
        long = "allow-origin", value_name = "ORIGIN", env = "PISTREAM_ALLOW_ORIGIN",
        value_delimiter = ',', value_parser = origin, help_heading = "Access"
    )]
    pub allow_origins: Vec<String>,

    /// Believe this proxy (address or network) whom it asks for, by its X-Forwarded-For.
    /// Repeatable.
    #[arg(
        long = "trust-proxy", value_name = "ADDR", env = "PISTREAM_TRUST_PROXY",
        value_delimiter = ',', value_parser = network, help_heading = "Access"
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// Folder of a proxy below which this site is found (/camera).
    #[arg(
        long, value_name = "PATH", env = "PISTREAM_BASE_PATH", default_value = "",
        hide_default_value = true, value_parser = base_path, help_heading = "Site"
    )]
    pub base_path: String,

    /// Streams and waiting snapshots served at once; one more is answered 503.
    #[arg(
        long, value_name = "N", env = "PISTREAM_MAX_VIEWERS", default_value_t = VIEWERS,
        value_parser = number(1, VIEWERS_MAX as u64).map(|n| n as usize), help_heading = "Site"
    )]
    pub max_viewers: usize,

    /// A camera: auto (the first one found, or a test picture), test, a device such as
    /// /dev/video0 or /dev/v4l/by-id/…, exec:COMMAND for a program that prints JPEGs one after
    /// the other (exec:'rpicam-vid -n -t 0 --codec mjpeg --flush -o -'), or - for such a program
    /// at standard input. Repeatable: the second one is at /video_feed/2; the options of this
    /// group hold for all. In the environment: PISTREAM_CAMERA, PISTREAM_CAMERA_2…
    #[arg(
        id = "camera", long, value_name = "CAMERA", env = "PISTREAM_CAMERA",
        default_value = "auto", value_parser = camera, help_heading = "Camera"
    )]
    pub cameras: Vec<Camera>,

    /// Width and height in pixels; a camera that lacks it gives its nearest one
    /// [default: 1280x720, cameras without JPEG 640x480]
    #[arg(
        long, value_name = "WxH", env = "PISTREAM_SIZE", value_parser = size,
        help_heading = "Camera"
    )]
    pub size: Option<(u32, u32)>,

    /// Frames a second at most [default: the camera's, up to 30; the test picture 10]
    #[arg(
        long, value_name = "N", env = "PISTREAM_FPS",
        value_parser = number(1, FPS_MAX as u64).map(|n| n as u32), help_heading = "Camera"
    )]
    pub fps: Option<u32>,

    /// Pixel format asked of the camera; auto prefers JPEG, which costs no encoding.
    #[arg(
        long, value_name = "FORMAT", env = "PISTREAM_FORMAT", default_value = "auto",
        value_parser = format_choice(), help_heading = "Camera"
    )]
    pub format: FormatChoice,

    /// JPEG quality where frames must be encoded, 1 to 100.
    #[arg(
        long, value_name = "N", env = "PISTREAM_QUALITY", default_value_t = QUALITY,
        value_parser = number(1, 100).map(|n| n as u8), help_heading = "Camera"
    )]
    pub quality: u8,

    /// Degrees that the picture is turned clockwise when it is shown: 0, 90, 180 or 270. EXIF data
    /// say so; for programs that ignore it there is /video_feed?bake=1.
    #[arg(
        long, value_name = "DEGREES", env = "PISTREAM_ROTATE", default_value = "0",
        value_parser = quarter_turn(), help_heading = "Camera"
    )]
    pub rotate: u16,

    /// Mirror the picture left to right, after it was turned.
    #[arg(long, env = "PISTREAM_MIRROR", value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue, help_heading = "Camera")]
    pub mirror: bool,

    /// The camera is released this long after its last viewer (30s, 5m; 0: never).
    #[arg(
        long, value_name = "TIME", env = "PISTREAM_IDLE_OFF", default_value = IDLE_OFF_TEXT,
        value_parser = time, help_heading = "Camera"
    )]
    pub idle_off: Duration,

    /// Keep what is set on the page of controls in this file (JSON), also when the program ends.
    #[arg(long, value_name = "FILE", env = "PISTREAM_SAVE_CONTROLS", help_heading = "Camera")]
    pub save_controls: Option<PathBuf>,

    /// Print the cameras of this machine with their formats, sizes and rates, and exit.
    #[arg(long, help_heading = "Camera")]
    pub list_cameras: bool,

    /// Variables of the environment that look like ours and are not. Bound: the operator's.
    #[arg(skip)]
    pub strangers: Vec<String>,
}

/// What `--help` ends with.
const MORE: &str = "\
Examples:
  pistream                        the first camera, at http://localhost:5000/
  pistream --list-cameras         which cameras there are, and what they can do
  pistream --camera /dev/video2 --size 1920x1080 --fps 15 --pic /srv/photos

More: man pistream, if it was installed as a package; the site's notes, at /md/;
README.md and the folder md where it was built.";

/// Characters of a line of help, on terminals that have more.
const HELP_COLUMNS: usize = 100;

/// The folders of pages and of notes if nobody names others. They need not be there.
pub const WWW: &str = "www";
pub const MD: &str = "md";

/// The port that we listen on if nobody says another one.
pub const PORT: u16 = 5000;

const IDLE_OFF_TEXT: &str = "30s";
const _: () = assert!(IDLE_OFF.as_secs() == 30);

/// A door: where guests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// A socket of this machine, by its path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the frames come from. Bound: the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Camera {
    /// The first device that captures; the test picture as long as none was ever seen.
    Auto,
    /// This device node.
    Device(PathBuf),
    /// The moving test picture.
    Test,
    /// A sequence of JPEGs that is written to our standard input.
    StandardInput,
    /// The same, printed by this command, which the shell runs.
    Exec(String),
}

impl Camera {
    /// Whether its pictures are taken as they come.
    pub fn is_sequence(&self) -> bool {
        matches!(self, Camera::StandardInput | Camera::Exec(_))
    }
}

/// `--photo-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhotoSize {
    /// The largest that the camera has.
    Max,
    /// Width and height in pixels.
    Of(u32, u32),
}

/// `--format`: a pixel format's V4L2 code, or none for the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatChoice(pub Option<[u8; 4]>);

/// Names of `--format` and what V4L2 calls them.
const FORMATS: [(&str, Option<[u8; 4]>); 9] = [
    ("auto", None),
    ("mjpeg", Some(*b"MJPG")),
    ("yuyv", Some(*b"YUYV")),
    ("uyvy", Some(*b"UYVY")),
    ("nv12", Some(*b"NV12")),
    ("yu12", Some(*b"YU12")),
    ("rgb3", Some(*b"RGB3")),
    ("bgr3", Some(*b"BGR3")),
    ("grey", Some(*b"GREY")),
];

impl Config {
    /// Read argv and the environment. `Err` holds what to print and the exit code: `--help` and
    /// `--version` end with 0, a wrong value with 2 and one line.
    pub fn read() -> Result<Config, Exit> {
        Config::from_words(env::args_os())
    }

    pub fn from_words<I: IntoIterator<Item: Into<OsString>>>(words: I) -> Result<Config, Exit> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let refused = |error| Exit::from_clap(&error, &words);
        let mut command = Config::command();
        let matches = command.try_get_matches_from_mut(&words).map_err(refused)?;
        let mut config = Config::from_arg_matches(&matches).map_err(refused)?;
        if matches.value_source("camera") != Some(ValueSource::CommandLine) {
            let variable = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
            config.cameras.extend(further_cameras(variable).map_err(Exit::refusing)?);
        }
        if config.listen.len() > LISTENERS_MAX {
            return Err(Exit::refusing(format!("--listen: at most {LISTENERS_MAX} addresses")));
        }
        config.check_cameras().map_err(Exit::refusing)?;
        config.strangers = strangers(&command, env::vars_os().map(|(name, _)| name));
        Ok(config)
    }
}

impl Config {
    /// Refuse cameras that cannot be used together, and options that none of them obeys.
    fn check_cameras(&self) -> Result<(), String> {
        let count = |wanted: Camera| self.cameras.iter().filter(|one| **one == wanted).count();
        let devices = self.cameras.iter().filter(|one| matches!(one, Camera::Device(_))).count();
        if self.cameras.len() > CAMERAS_MAX {
            return Err(format!("--camera: at most {CAMERAS_MAX} cameras"));
        }
        if count(Camera::StandardInput) > 1 {
            return Err("--camera -: there is one standard input only".to_owned());
        }
        let autos = count(Camera::Auto);
        if autos > 1 || (autos > 0 && devices > 0) {
            return Err("--camera auto: it takes the first device that it finds; with several, \
                        name each (--list-cameras prints them)"
                .to_owned());
        }
        let sizes = matches!(self.photo_size, Some(PhotoSize::Of(..)));
        let options = [
            (self.size.is_some(), "--size"),
            (self.format.0.is_some(), "--format"),
            (sizes, "--photo-size"),
        ];
        let given = options.into_iter().find(|(given, _)| *given);
        match given.filter(|_| self.cameras.iter().all(Camera::is_sequence)) {
            None => Ok(()),
            Some((_, option)) => Err(format!(
                "{option}: the pictures of --camera - and exec: are taken as they come; tell the \
                 program that makes them"
            )),
        }
    }
}

/// The cameras of the environment behind the first one. A variable cannot hold several, with
/// commas between: commands have commas, too.
fn further_cameras(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Camera>, String> {
    let mut cameras = Vec::new();
    // One more than there may be, so that it is refused and not passed over.
    for n in 2..=CAMERAS_MAX + 1 {
        let name = format!("PISTREAM_CAMERA_{n}");
        let Some(text) = variable(&name).filter(|text| !text.is_empty()) else { continue };
        if cameras.len() + 2 != n {
            return Err(format!("{name}: there is no PISTREAM_CAMERA_{}", n - 1));
        }
        let refused = |allowed| format!("invalid value '{text}' for {name}: {allowed}");
        cameras.push(camera(&text).map_err(refused)?);
    }
    Ok(cameras)
}

/// The program ends before it began. Bound: the operator's words in a sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    pub text: String,
    /// 0: goes to standard output; else to standard error.
    pub code: u8,
}

impl Exit {
    fn refusing(what: String) -> Exit {
        Exit { text: format!("pistream: {what}"), code: 2 }
    }

    fn from_clap(error: &clap::Error, words: &[OsString]) -> Exit {
        let text = error.render().to_string();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Exit { text: text.trim_end().to_owned(), code: 0 };
        }
        // The first paragraph says what is wrong; usage and hints follow it.
        let first = text.split("\n\n").next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        let said: Vec<&str> = first.split_whitespace().collect();
        Exit::refusing(said.join(" ") + &hint(error, words))
    }
}

/// Where the fault stands if not on the command line, and what may have been meant.
fn hint(error: &clap::Error, words: &[OsString]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let named = context(ContextKind::InvalidArg).unwrap_or_default();
    let mut hint = String::new();
    if let Some(variable) = variable_of(named, words) {
        hint += &format!(" (it is {variable} in the environment)");
    }
    let meant = context(ContextKind::SuggestedArg).or(context(ContextKind::SuggestedValue));
    match (error.kind(), meant) {
        (_, Some(meant)) => hint += &format!("; did you mean '{meant}'?"),
        (ErrorKind::UnknownArgument, None) if named.starts_with("/dev/") => {
            hint += &format!("; a camera is named by --camera {named}");
        }
        (ErrorKind::UnknownArgument, None) => hint += "; pistream --help lists all options",
        (ErrorKind::InvalidUtf8, None) => hint += &unreadable(words),
        _ => {}
    }
    hint
}

/// The variable that an option's value came from, if the option is not on the command line.
/// `option`: as clap writes it, `--fps <N>`.
fn variable_of(option: &str, words: &[OsString]) -> Option<String> {
    let long = option.split_whitespace().next()?.strip_prefix("--")?;
    let is_it = |word: &OsString| {
        let word = word.to_string_lossy();
        let name = word.strip_prefix("--").and_then(|word| word.split('=').next());
        name == Some(long)
    };
    if words.iter().any(is_it) {
        return None;
    }
    let command = Config::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// The word or the variable that is no text.
fn unreadable(words: &[OsString]) -> String {
    let is_text = |text: &OsString| text.to_str().is_some();
    if let Some(word) = words.iter().find(|word| !is_text(word)) {
        return format!(": {}", word.to_string_lossy());
    }
    let mut variables = env::vars_os();
    let ours = |name: &OsString| name.to_string_lossy().starts_with(PREFIX);
    let found = variables.find(|(name, value)| ours(name) && !is_text(value));
    found.map_or(String::new(), |(name, _)| format!(": {}", name.to_string_lossy()))
}

/// What our variables begin with.
const PREFIX: &str = "PISTREAM_";

/// Those of `variables` that look like ours and are not: a slip of the pen is not seen otherwise.
fn strangers(command: &Command, variables: impl Iterator<Item = OsString>) -> Vec<String> {
    let known: Vec<&OsStr> = command.get_arguments().filter_map(Arg::get_env).collect();
    let is_camera = |name: &str| {
        let number = name.strip_prefix("PISTREAM_CAMERA_").and_then(|number| number.parse().ok());
        number.is_some_and(|number: usize| (2..=CAMERAS_MAX).contains(&number))
    };
    let names = variables.filter(|name| !known.contains(&name.as_os_str()));
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(PREFIX) && !is_camera(name)).collect()
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Listen::Unix(path.into()));
    }
    text.parse().map(Listen::Tcp).map_err(|_| {
        "an address and a port, such as [::]:5000 or 127.0.0.1:8080, or unix:PATH".into()
    })
}

fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    match text == "*" || (plain && !name.is_empty()) {
        true => Ok(text.to_owned()),
        false => Err("a name without scheme and port, such as cam.example.org, or *".into()),
    }
}

/// As browsers write it: no path, and no port that is the scheme's.
fn origin(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/').to_ascii_lowercase();
    let fits = text.split_once("://").is_some_and(|(scheme, host)| {
        let default = if scheme == "https" { ":443" } else { ":80" };
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        ["http", "https"].contains(&scheme) && plain && !host.is_empty() && !host.ends_with(default)
    });
    match fits || text == "*" {
        true => Ok(text),
        false => Err("scheme, name and perhaps port, such as http://mainsail.local, or *".into()),
    }
}

/// An address, or all of a network.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "an address or a network, such as 127.0.0.1 or 172.16.0.0/12".into())
}

/// Without a slash at its end; empty for the root.
fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b));
    let fits = path.split('/').skip(1).all(|name| !name.is_empty() && !name.starts_with('.'));
    match plain && fits && (path.is_empty() || path.starts_with('/')) {
        true => Ok(path.to_owned()),
        false => Err("a path such as /camera, of letters, digits and -._~".into()),
    }
}

fn camera(text: &str) -> Result<Camera, String> {
    match text {
        "auto" => Ok(Camera::Auto),
        "test" => Ok(Camera::Test),
        "-" => Ok(Camera::StandardInput),
        path if path.starts_with('/') => Ok(Camera::Device(path.into())),
        _ => match text.strip_prefix("exec:").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Camera::Exec(command.to_owned())),
            _ => Err("auto, test, a device's path such as /dev/video0, exec:COMMAND, or -".into()),
        },
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && (SIDE_PIXELS_MIN..=SIDE_PIXELS_MAX).contains(n))
    };
    text.split_once('x')
        .and_then(|(w, h)| Some((side(w)?, side(h)?)))
        .filter(|(w, h)| w * h <= PIXELS_MAX)
        .ok_or_else(|| {
            format!(
                "WIDTHxHEIGHT, such as 640x480, each from {SIDE_PIXELS_MIN} to \
                 {SIDE_PIXELS_MAX}, {PIXELS_MAX} pixels in all at most"
            )
        })
}

fn photo_size(text: &str) -> Result<PhotoSize, String> {
    match text {
        "max" => Ok(PhotoSize::Max),
        _ => size(text)
            .map(|(w, h)| PhotoSize::Of(w, h))
            .map_err(|allowed| format!("max, or {allowed}")),
    }
}

/// The time between two interval photos.
pub fn interval(text: &str) -> Result<Duration, String> {
    let fits = |time: &Duration| (INTERVAL_MIN..=INTERVAL_MAX).contains(time);
    duration(text).filter(fits).ok_or_else(|| "a time from 1s to 24h, such as 30s or 5m".into())
}

/// "500M", "2G", "1.5G", or a plain number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    const ALLOWED: &str = "a number of bytes such as 500M or 2G";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" | "KIB" => 1024.0,
        "M" | "MB" | "MIB" => 1024.0 * 1024.0,
        "G" | "GB" | "GIB" => 1024.0 * 1024.0 * 1024.0,
        "T" | "TB" | "TIB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(ALLOWED.into()),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = digits.parse().ok().filter(|n: &f64| plain && n.is_finite() && *n > 0.0);
    number.map(|n| (n * unit) as u64).ok_or_else(|| ALLOWED.into())
}

/// A time up to a day.
fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text).filter(|time| *time <= TIME_MAX);
    time.ok_or_else(|| "a time up to 24h, such as 500ms, 30s, 5m or 2h".into())
}

/// "500ms", "30s", "5m", "2h", "3d", or a plain number of seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: u64 = digits.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// A whole number within bounds, with an error that names them.
fn number(min: u64, max: u64) -> impl TypedValueParser<Value = u64> {
    move |text: &str| {
        let number = text.parse().ok().filter(|n| (min..=max).contains(n));
        number.ok_or_else(|| format!("a whole number from {min} to {max}"))
    }
}

fn quarter_turn() -> impl TypedValueParser<Value = u16> {
    PossibleValuesParser::new(["0", "90", "180", "270"])
        .map(|degrees| degrees.parse().unwrap_or_default())
}

fn format_choice() -> impl TypedValueParser<Value = FormatChoice> {
    PossibleValuesParser::new(FORMATS.map(|(name, _)| name)).map(|chosen| {
        FormatChoice(FORMATS.iter().find(|(name, _)| *name == chosen).and_then(|(_, code)| *code))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Config, Exit> {
        Config::from_words(std::iter::once("pistream").chain(words.iter().copied()))
    }

    #[track_caller]
    fn refuses(words: &[&str], parts: &[&str]) {
        let exit = read(words).expect_err("a wrong value");
        assert_eq!(exit.code, 2);
        assert_eq!(exit.text.lines().count(), 1, "one line: {}", exit.text);
        for part in parts {
            assert!(exit.text.contains(part), "{:?} lacks {part:?}", exit.text);
        }
    }

    #[test]
    fn without_arguments_everything_has_its_default() {
        let config = read(&[]).unwrap();
        assert_eq!(config.listen, [Listen::Tcp("[::]:5000".parse().unwrap())]);
        assert_eq!(config.cameras, [Camera::Auto]);
        assert_eq!((config.size, config.fps, config.quality), (None, None, 80));
        assert_eq!(config.format, FormatChoice(None));
        assert_eq!(config.idle_off, IDLE_OFF);
    }

    #[test]
    fn values_are_understood() {
        let config = read(&[
            "--listen",
            "127.0.0.1:1",
            "--listen=[::1]:2",
            "--camera",
            "/dev/video3",
            "--size",
            "800x600",
            "--fps",
            "5",
            "--format",
            "nv12",
            "--idle-off",
            "0",
            "--host-name",
            "a.b",
        ])
        .unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!((config.rotate, config.mirror), (0, false));
        let turned = read(&["--rotate", "270", "--mirror"]).unwrap();
        assert_eq!((turned.rotate, turned.mirror), (270, true));
        assert_eq!(config.cameras, [Camera::Device("/dev/video3".into())]);
        assert_eq!(config.size, Some((800, 600)));
        assert_eq!(config.format, FormatChoice(Some(*b"NV12")));
        assert_eq!(config.idle_off, Duration::ZERO);
        let camera = |text: &str| read(&["--camera", text]).unwrap().cameras;
        assert_eq!(camera("-"), [Camera::StandardInput]);
        assert_eq!(camera("exec: a 'b c' | d "), [Camera::Exec("a 'b c' | d".into())]);
        let camera = ["--camera", "exec:a", "--photo-size", "max", "--format", "auto"];
        assert!(read(&camera).is_ok());
        assert_eq!(time("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(time("7"), Ok(Duration::from_secs(7)));
    }

    #[test]
    fn a_wrong_value_is_one_line_that_names_option_value_and_what_is_allowed() {
        refuses(&["--size", "big"], &["--size", "big", "640x480"]);
        refuses(&["--size", "0x480"], &["--size", "0x480", "16"]);
        refuses(&["--size", "+640x480"], &["--size"]);
        refuses(&["--size", "16384x16384"], &["--size", "20000000"]);
        refuses(&["--fps", "0"], &["--fps", "'0'", "1", "240"]);
        refuses(&["--fps", "x"], &["--fps", "'x'"]);
        refuses(&["--quality", "101"], &["--quality", "101", "100"]);
        refuses(&["--camera", "video0"], &["--camera", "video0", "/dev/video0"]);
        refuses(&["--camera", "exec: "], &["--camera", "exec:COMMAND"]);
        for camera in ["-", "exec:true"] {
            refuses(&["--camera", camera, "--size", "640x480"], &["--size"]);
            refuses(&["--camera", camera, "--format", "mjpeg"], &["--format"]);
            refuses(&["--camera", camera, "--photo-size", "640x480"], &["--photo-size"]);
        }
        refuses(&["--format", "h264"], &["--format", "h264", "mjpeg"]);
        refuses(&["--rotate", "45"], &["--rotate", "45", "270"]);
        refuses(&["--listen", "5000"], &["--listen", "5000", "127.0.0.1:8080"]);
        refuses(&["--idle-off", "soon"], &["--idle-off", "soon", "30s"]);
        refuses(&["--idle-off", "99999999999999999999h"], &["--idle-off"]);
        refuses(&["--idle-of", "1"], &["--idle-of"]);
        refuses(&["--host-name", "http://x/"], &["--host-name", "http://x/", "cam.example.org"]);
        refuses(&["--max-viewers", "0"], &["--max-viewers", "'0'"]);
        refuses(&["--save-controls"], &["--save-controls", "FILE"]);
    }

    #[test]
    fn cameras_are_several_and_none_is_taken_twice() {
        let cameras = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("--camera={name}")).collect()
        };
        let words = |cameras: &[String]| read(&cameras.iter().map(|c| &**c).collect::<Vec<_>>());
        let check = |names: &[&str], parts: &[&str]| {
            let cameras = cameras(names);
            match parts {
                [] => assert_eq!(words(&cameras).unwrap().cameras.len(), names.len()),
                _ => refuses(&cameras.iter().map(|c| &**c).collect::<Vec<_>>(), parts),
            }
        };
        check(&["/dev/video0", "/dev/video2", "exec:a", "exec:a", "test", "-"], &[]);
        check(&["auto", "exec:a,b", "test"], &[]);
        check(&["test"; CAMERAS_MAX], &[]);
        check(&["test"; CAMERAS_MAX + 1], &["--camera", "at most 8"]);
        check(&["-", "test", "-"], &["--camera -", "one"]);
        check(&["auto", "auto"], &["--camera auto", "--list-cameras"]);
        check(&["/dev/video0", "auto"], &["--camera auto", "name each"]);
        // An option is refused only if no camera obeys it.
        let mixed = ["--camera", "exec:a", "--camera", "/dev/video0", "--size", "640x480"];
        assert!(read(&mixed).is_ok());
    }

    #[test]
    fn further_cameras_come_from_numbered_variables() {
        let read = |pairs: &[(&str, &str)]| {
            let found = |name: &str| pairs.iter().find(|(known, _)| *known == name);
            further_cameras(|name| found(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(read(&[]), Ok(vec![]));
        let two = [("PISTREAM_CAMERA_2", "exec:a,b"), ("PISTREAM_CAMERA_3", "test")];
        assert_eq!(read(&two), Ok(vec![Camera::Exec("a,b".into()), Camera::Test]));
        let gap = read(&[("PISTREAM_CAMERA_3", "test")]).unwrap_err();
        assert!(gap.contains("PISTREAM_CAMERA_3") && gap.contains("no PISTREAM_CAMERA_2"), "{gap}");
        let wrong = read(&[("PISTREAM_CAMERA_2", "video0")]).unwrap_err();
        assert!(wrong.contains("'video0'") && wrong.contains("PISTREAM_CAMERA_2"), "{wrong}");
    }

    #[test]
    fn help_and_version_end_well() {
        assert_eq!(read(&["--version"]).unwrap_err().code, 0);
        let help = read(&["--help"]).unwrap_err();
        assert_eq!(help.code, 0);
        assert!(help.text.contains("--list-cameras") && help.text.contains("Camera:"));
    }
}
