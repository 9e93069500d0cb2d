//! Writes what a package says of the options, from the options themselves: the manual page, the
//! completions of three shells, and the file that the service takes its options from.
//!
//!     cargo run --example manual -- FOLDER
//!
//! An example, so that what it needs costs the program nothing. `tests/package.rs` checks it.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use clap::{Arg, Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use pistream::config::Config;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).ok_or("say into which folder to write")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("pistream.1"), page()?)?;
    fs::write(folder.join("pistream.default"), defaults())?;
    for (shell, name) in SHELLS {
        fs::write(folder.join(name), completions(shell))?;
    }
    Ok(())
}

/// Each with the file's name by which it finds its completions.
pub const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "pistream.bash"), (Shell::Zsh, "_pistream"), (Shell::Fish, "pistream.fish")];

pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    generate(shell, &mut Config::command(), "pistream", &mut script);
    script
}

// ---- the manual page ------------------------------------------------------------------------

const SIGNALS: [(&str, &str); 1] = [(
    "SIGTERM, SIGINT",
    "The program ends: streams are closed, photos on their way to the disk are saved, for which it \
     takes 10 seconds at most. A second signal ends it at once.",
)];

const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "It was ended by a signal, or it has printed what was asked for."),
    (
        "1",
        "It could not start, or could not go on: an address is in use, a folder cannot be made. \
         One line on standard error says what and why.",
    ),
    ("2", "An option is wrong. One line on standard error says which, and what is allowed."),
];

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "PISTREAM_...",
        "Each option's variable is named with the option. What stands on the command line counts \
         more. Several values are separated by commas; a second camera is PISTREAM_CAMERA_2.",
    ),
    (
        "RUST_LOG",
        "How much is written to standard error: error, warn, info (which it is if nothing is \
         said), debug, or off.",
    ),
    ("TZ", "The time zone of photos' names and dates, if it is not to be the system's."),
    ("NOTIFY_SOCKET", "Where a service manager listens, as sd_notify(3) says. Set by systemd."),
    (
        "WATCHDOG_USEC, WATCHDOG_PID",
        "Within which time the service manager must hear that the program works, as \
         sd_watchdog_enabled(3) says. Set by systemd.",
    ),
];

const FILES: [(&str, &str); 7] = [
    (
        "/etc/default/pistream",
        "The service's options, as variables. After a change: systemctl restart pistream",
    ),
    (
        "/var/lib/pistream/pic",
        "The service's photos, with the list of those to be kept (.keep) and a cache of \
         thumbnails. The group pistream may read them.",
    ),
    (
        "/var/lib/pistream/www",
        "Pages of your own. A file here replaces the built-in page of the same name.",
    ),
    ("/var/lib/pistream/md", "Notes of your own, in Markdown."),
    ("/usr/share/pistream/www", "The built-in pages, to begin with when you write your own."),
    ("/usr/share/pistream/md", "The documentation. The service shows it as /md/manual/."),
    (
        "/usr/lib/systemd/system/pistream.service",
        "The service. Change it with: systemctl edit pistream",
    ),
];

const EXAMPLES: [(&str, &str); 6] = [
    ("pistream", "Serve the first camera on port 5000, with photos in the folder pic."),
    ("pistream --list-cameras", "See which cameras there are, and what they can do."),
    (
        "pistream --camera /dev/video2 --size 1920x1080 --fps 15",
        "Serve this camera, with larger pictures and fewer of them.",
    ),
    (
        "pistream --every 5m --keep-free 500M",
        "Take a photo every five minutes, and delete the oldest ones before the disk is full.",
    ),
    (
        "curl -X POST http://localhost:5000/photo",
        "Take a photo. http://localhost:5000/snapshot is a picture that is not saved.",
    ),
    ("journalctl -u pistream", "Read what the service has to say."),
];

const SEE_ALSO: &str = "v4l2-ctl(1), systemctl(1), journalctl(1), and the notes in \
    /usr/share/pistream/md: index.md, pi.md, routes.md.";

pub fn page() -> Result<String, Box<dyn Error>> {
    let command = Config::command();
    let man = Man::new(command.clone()).title("PISTREAM").date(date()?).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([bold("pistream"), roman(" ["), italic("OPTION"), roman("]...")]);
    synopsis.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    page.extend(options);
    let mut page = String::from_utf8(page)?;
    // Groups of options are parts of one section.
    for heading in headings(&command) {
        let heading = heading.to_uppercase();
        page = page.replace(&format!(".SH {heading}\n"), &format!(".SS {heading}\n"));
    }
    let mut rest = Roff::new();
    section(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
    section(&mut rest, "FILES", &FILES);
    section(&mut rest, "SIGNALS", &SIGNALS);
    section(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    section(&mut rest, "EXAMPLES", &EXAMPLES);
    rest.control("SH", ["SEE ALSO"]);
    rest.text([roman(SEE_ALSO)]);
    Ok(page + &rest.render())
}

/// That of the newest version, as `22 Nov 2026`.
fn date() -> Result<String, &'static str> {
    let changes = include_str!("debian/changelog");
    let signed = changes.lines().find_map(|line| line.strip_prefix(" -- "));
    let (_, date) = signed.and_then(|line| line.split_once(", ")).ok_or("no date in changelog")?;
    Ok(date.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// The groups that `--help` has, in its order.
fn headings(command: &Command) -> Vec<&str> {
    let mut headings = Vec::new();
    for heading in command.get_arguments().filter_map(Arg::get_help_heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    headings
}

fn section(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, meaning) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

// ---- the service's options ------------------------------------------------------------------

const WIDTH: usize = 78;

const HEAD: &str = "\
The options of the service pistream. To change one, take away the sign before it and write what \
you want; then: systemctl restart pistream

Several values are separated by commas. The page of pistream(1) has more.";

const LOG: &str = "\
How much goes into the log, which journalctl -u pistream shows: error, warn, info (a line for \
each request), debug. Each line may be written to an SD card.";

/// What the sandbox of `pistream.service` adds to an option's meaning.
const NOTES: [(&str, &str); 5] = [
    (
        "PISTREAM_WWW",
        "The folder's own files are in /var/lib/pistream/www; the built-in ones, to copy from, \
         are in /usr/share/pistream/www.",
    ),
    ("PISTREAM_MD", "This is /var/lib/pistream/md; the documentation is shown in it, as manual."),
    (
        "PISTREAM_PIC",
        "This is /var/lib/pistream/pic. A folder on another disk, below /media, /mnt or /srv, must \
         belong to the user pistream: chown pistream FOLDER. Any other place has to be \
         allowed first: systemctl edit pistream, and there: [Service], and in the next line: \
         ReadWritePaths=/the/place",
    ),
    ("PISTREAM_CAMERA", "A second one goes into a line of its own: PISTREAM_CAMERA_2=/dev/video2"),
    ("PISTREAM_LISTEN", "Ports below 1024 are allowed: [::]:80 is the usual one of a site."),
];

pub fn defaults() -> String {
    let mut text = format!("{}\n{}#RUST_LOG=warn\n", comment(HEAD), comment(LOG));
    let command = Config::command();
    for heading in headings(&command) {
        text += &format!("\n# ---- {heading}\n");
        let group = command.get_arguments().filter(|arg| arg.get_help_heading() == Some(heading));
        for arg in group {
            let Some(variable) = arg.get_env().map(|name| name.to_string_lossy()) else { continue };
            text.push('\n');
            // The short text is the long one's first paragraph.
            let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
            let help = help.unwrap_or_default();
            let stop = if help.ends_with(['.', ']']) { "" } else { "." };
            text += &comment(&format!("{help}{stop}"));
            for (_, note) in NOTES.iter().filter(|(name, _)| *name == variable) {
                text += &comment(note);
            }
            let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
            text += &format!("#{variable}={}\n", values.collect::<Vec<_>>().join(","));
        }
    }
    text
}

/// Comment lines, filled anew.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.trim().split("\n\n") {
        if !lines.is_empty() {
            lines += "#\n";
        }
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines += &line;
                lines.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line += word;
        }
        lines += &line;
        lines.push('\n');
    }
    lines
}
