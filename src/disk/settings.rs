//! The file of what somebody has set of the cameras' controls (`--save-controls`): read at the
//! start, replaced whole at each change. What it has of other cameras and unknown controls stays.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::durable;
use super::photo::open_folder;
use crate::control::Kept;
use crate::error::{Error, Result};
use crate::limits::SETTINGS_BYTES_MAX;

#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    folder: PathBuf,
    /// Bound: the operator's file.
    name: String,
    kept: Kept,
}

impl SettingsFile {
    /// Read the file, if there is one yet. One that cannot be understood is an error and stays as
    /// it is: it would be overwritten with the next change.
    pub fn open(path: &Path) -> Result<SettingsFile> {
        let failed = |source| Error::new("read the settings in", path.display(), source);
        // A link is followed once; a file that is replaced would take its place.
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            found => found.map_err(failed)?,
        };
        let name = path.file_name().and_then(OsStr::to_str);
        let Some(name) = name.map(str::to_owned) else {
            return Err(failed(Errno::INVAL.into()));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        let opened = open_folder(&folder).map_err(failed)?;
        if let Err(error) = durable::restore(&opened, &name) {
            log::debug!("restore {}: {error}", path.display());
        }
        let text = durable::read(&opened, &name, SETTINGS_BYTES_MAX + 1).map_err(failed)?;
        let kept = text.map_or(Ok(Kept::default()), |text| read(&text)).map_err(failed)?;
        Ok(SettingsFile { path, folder, name, kept })
    }

    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Take over what is newer, and write all of it through to the medium.
    pub fn save(&mut self, newer: Kept) -> Result<()> {
        self.kept.merge(newer);
        self.kept.forget_empty();
        let text = self.kept.to_text();
        // What is written here must be readable at the next start.
        if text.len() as u64 > SETTINGS_BYTES_MAX {
            let reason = "it would be larger than 1 MiB".to_owned();
            return Err(Error::found("write", self.path.display(), reason));
        }
        let saved = open_folder(&self.folder)
            .and_then(|folder| durable::replace(&folder, &self.name, &text));
        saved.map_err(|source| Error::new("write", self.path.display(), source))
    }
}

fn read(text: &[u8]) -> io::Result<Kept> {
    if text.len() as u64 > SETTINGS_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB: mend it or move it away"));
    }
    let broken = |reason| io::Error::other(format!("{reason}: mend it or move it away"));
    Kept::from_text(text).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Setting, Settings, Value};
    use crate::disk::scratch::Scratch;
    use std::os::unix::fs::symlink;

    fn settings(id: u32) -> Settings {
        Settings::from([(id, Setting { name: "Knob".to_owned(), value: Value::Number(1) })])
    }

    #[test]
    fn settings_are_read_back_and_a_broken_file_is_left_alone() {
        let scratch = Scratch::new("settings");
        let folder = scratch.path();
        let (path, link) = (folder.join("kept.json"), folder.join("link.json"));
        assert!(SettingsFile::open(&path).unwrap().kept().is_empty(), "there is none yet");
        symlink("kept.json", &link).unwrap();
        fs::write(&path, "{\"Other\": {\"5\": {\"value\": \"x\"}}}").unwrap();
        let mut file = SettingsFile::open(&link).unwrap();
        let mut newer = Kept::default();
        newer.put("Rig", settings(7));
        newer.put("Empty", Settings::new());
        file.save(newer).unwrap();
        let again = SettingsFile::open(&path).unwrap();
        assert_eq!(again.kept().of("Rig"), settings(7));
        assert_eq!(again.kept().of("Other")[&5].value, Value::Text("x".to_owned()));
        assert!(!fs::read_to_string(&path).unwrap().contains("Empty"));
        assert!(link.is_symlink(), "the link still leads to the file");

        let before = fs::read(&path).unwrap();
        let long = Value::Text("x".repeat(SETTINGS_BYTES_MAX as usize));
        let mut newer = Kept::default();
        newer.put("Long", Settings::from([(1, Setting { name: String::new(), value: long })]));
        assert!(file.save(newer).unwrap_err().to_string().contains("1 MiB"));
        assert_eq!(fs::read(&path).unwrap(), before, "it could not be read again");

        fs::write(&path, "{\n  broken").unwrap();
        let error = SettingsFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("kept.json") && error.contains("line 2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  broken");
        fs::write(&path, vec![b' '; SETTINGS_BYTES_MAX as usize + 1]).unwrap();
        assert!(SettingsFile::open(&path).unwrap_err().to_string().contains("1 MiB"));
        assert!(SettingsFile::open(folder).is_err(), "a folder is no file");
        assert!(SettingsFile::open(&folder.join("no/kept.json")).is_err(), "no such folder");
    }
}
