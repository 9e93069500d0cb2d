//! The world's faults: what we did, to what, and why it failed.
//!
//! A client's fault is a `Reject` (in `http`), our own is an `assert!`.

use std::{fmt, io};

/// An operation on something outside that failed.
///
/// Prints as `open /dev/video0: No such file or directory`.
#[derive(Debug)]
pub struct Error {
    doing: &'static str,
    /// Bound: the operator's path or the kernel's name, or what a request names, `HEAD_BYTES_MAX`.
    subject: String,
    source: io::Error,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(doing: &'static str, subject: impl fmt::Display, source: io::Error) -> Error {
        Error { doing, subject: subject.to_string(), source }
    }

    /// An error of our own finding: `reason` says what is wrong and, if it can, what to do.
    pub fn found(doing: &'static str, subject: impl fmt::Display, reason: String) -> Error {
        Error::new(doing, subject, io::Error::other(reason))
    }

    /// The same, and behind the reason what can be done about it.
    pub fn advising(self, remedy: &str) -> Error {
        let reason = format!("{} ({remedy})", Reason(&self.source));
        Error::found(self.doing, self.subject, reason)
    }

    pub fn source(&self) -> &io::Error {
        &self.source
    }

    /// What the operation was for: of a file or a device, its path.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.doing, self.subject, Reason(&self.source))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An `io::Error` without the "(os error N)" that says nothing to a person.
pub struct Reason<'a>(pub &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let end = text.find(" (os error").unwrap_or(text.len());
        f.write_str(&text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_deed_the_thing_and_the_reason() {
        let error = Error::new("open", "/dev/video0", io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "open /dev/video0: No such file or directory");
    }
}
