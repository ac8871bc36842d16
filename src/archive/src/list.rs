//! A file of lines that is only added to, by one process at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::hash::Leaf;
use rustix::fs::FlockOperation;

/// A list that is held.
pub(crate) struct List {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Why a list could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("it is in use by another process")]
    Busy,
    #[error("it is larger than {0} bytes")]
    Limit(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl List {
    /// Opens it, making it if it is not there, and gives its whole lines. A line that a crash cut off is taken away: it was never
    /// promised to anybody.
    pub fn open(path: &Path, bytes_max: u64) -> Result<(Self, Vec<u8>), ListError> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => ListError::Busy,
            error => ListError::Io(error.into()),
        })?;
        let mut text = Vec::new();
        (&mut file).take(bytes_max.saturating_add(1)).read_to_end(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(ListError::Limit(bytes_max));
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "the list ended in the middle of a line, which was taken away");
            text.truncate(whole);
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        sync_folder(path)?;
        let bytes = text.len() as u64;
        Ok((Self { path: path.to_path_buf(), file, bytes }, text))
    }

    /// Adds a line and makes it durable. After an error the list is as it was, or ends in a part of the line.
    pub fn add(&mut self, line: &[u8]) -> io::Result<Leaf> {
        let whole = [line, b"\n"].concat();
        let written = self
            .file
            .seek(SeekFrom::Start(self.bytes))
            .and_then(|_| self.file.write_all(&whole))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            if let Err(left) = self.file.set_len(self.bytes) {
                tracing::warn!(path = %self.path.display(), error = %left, "a line that was not written whole is left");
            }
            return Err(error);
        }
        self.bytes += whole.len() as u64;
        Ok(Leaf::of(line))
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Puts a whole small file in place: a reader sees the old content or the new, also after a power cut.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_held_by_one_and_loses_only_what_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let (mut list, text) = List::open(&path, 100).unwrap();
        assert!(text.is_empty() && matches!(List::open(&path, 100), Err(ListError::Busy)));
        assert_eq!(list.add(b"one").unwrap(), Leaf::of(b"one"));
        list.add(b"two").unwrap();
        drop(list);
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend(b"thr");
        std::fs::write(&path, &torn).unwrap();
        let (mut list, text) = List::open(&path, 100).unwrap();
        assert_eq!((text.as_slice(), list.bytes()), (&b"one\ntwo\n"[..], 8));
        list.add(b"three").unwrap();
        drop(list);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
        assert!(matches!(List::open(&path, 13), Err(ListError::Limit(13))));
    }
}
