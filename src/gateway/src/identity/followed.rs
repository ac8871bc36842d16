//! A file that is looked at again and again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Largest file that is read.
const BYTES_MAX: u64 = 16 << 20;
/// A file that changed so lately may change again without another time on it.
const RACY: Duration = Duration::from_secs(2);

/// A file by its place, and how it was when it was last read.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    /// None: it has not been looked for.
    seen: Mutex<Option<Seen>>,
}

/// None: there was none.
type Seen = Option<Stamp>;

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
    /// Whether it had changed just before.
    racy: bool,
}

impl Followed {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), seen: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes if it may be another than when they were last asked for, or why they cannot be had; that is told once.
    pub(super) fn again(&self) -> Option<io::Result<Vec<u8>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.stamp();
        let state: Seen = now.as_ref().ok().copied();
        if *seen == Some(state) && !state.is_some_and(|stamp| stamp.racy) {
            return None;
        }
        *seen = Some(state);
        Some(now.and_then(|_| self.read()))
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let metadata = std::fs::metadata(&self.path)?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let racy = SystemTime::now().duration_since(modified).is_ok_and(|age| age < RACY);
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(Stamp { device, inode, bytes: metadata.len(), changed, racy })
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_seen_and_a_file_that_rests_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let followed = Followed::new(&path);
        assert!(followed.again().unwrap().is_err());
        std::fs::write(&path, "a").unwrap();
        assert_eq!(followed.again().unwrap().unwrap(), b"a");
        std::fs::write(&path, "b").unwrap();
        assert_eq!(followed.again().unwrap().unwrap(), b"b", "the same size at the same time");
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(followed.again().unwrap().unwrap(), b"b");
        assert!(followed.again().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(followed.again().unwrap().is_err());
        assert!(followed.again().is_none());
    }
}
