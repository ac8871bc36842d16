//! A temporary folder for one test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A fresh folder, removed on drop. When the test panics it is kept and its path is printed.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// # Panics
    /// When the folder cannot be made.
    #[track_caller]
    #[must_use]
    pub fn new(name: &str) -> Self {
        let made = tempfile::Builder::new().prefix(&format!("estoppel-{name}-")).tempdir();
        Self { folder: made.unwrap_or_else(|error| panic!("no scratch folder for {name}: {error}")) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file (and the folders above it) and returns its path.
    ///
    /// # Panics
    /// When the file cannot be written.
    #[track_caller]
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let folder = path.parent().unwrap_or(self.path());
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, bytes))
            .unwrap_or_else(|error| panic!("could not write {}: {error}", path.display()));
        path
    }

    /// # Panics
    /// When the file cannot be read.
    #[track_caller]
    #[must_use]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
    }
}

impl Drop for Scratch {
    #[allow(clippy::print_stderr)] // The one thing a person needs after a failed test.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("scratch folder kept: {}", self.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_the_folder_and_what_is_in_it() {
        let scratch = Scratch::new("gone");
        let file = scratch.write("deep/er/file.txt", "hello");
        assert_eq!(scratch.read("deep/er/file.txt"), b"hello");
        drop(scratch);
        assert!(!file.exists());
    }

    #[test]
    fn keeps_the_folder_when_the_test_panics() {
        let scratch = Scratch::new("kept");
        let path = scratch.path().to_owned();
        let panicked = std::thread::spawn(move || {
            let _held = scratch;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
