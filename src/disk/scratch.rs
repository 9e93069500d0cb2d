//! A folder for a unit test, gone with the test.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

pub struct Scratch(PathBuf);

impl Scratch {
    /// No two tests may give the same name.
    pub fn new(name: &str) -> Scratch {
        let path = env::temp_dir().join(format!("pistream-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a folder of its own");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is in it, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
