//! Checkpoints: signed heads of the instance log, compared with a second store before anyone else sees them.
//!
//! The second store is one file elsewhere, held under a lock for as long as the journal is open. A journal that was
//! rolled back, or a copy that goes its own way, is shorter than that file says or disagrees with it, and is refused.

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::note::Checkpoint;

use crate::storage::{Lock, Storage, read_small, write_whole};

/// Largest note that is read.
const NOTE_BYTES_MAX: u64 = 4_096;

/// Why a checkpoint was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("the checkpoint store `{path}` was changed by someone else")]
    Changed { path: PathBuf },
    #[error("could not {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Why a stored checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another process holds the checkpoint store `{path}`")]
    Locked { path: PathBuf },
    #[error("`{path}` is not a checkpoint of `{origin}`")]
    Malformed { path: PathBuf, origin: String },
    #[error("could not {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Reads a published checkpoint of that origin.
pub(crate) fn read(
    storage: &dyn Storage,
    path: &Path,
    origin: &str,
) -> Result<Option<(String, Checkpoint)>, StoreError> {
    let bytes = read_small(storage, path, NOTE_BYTES_MAX).map_err(|source| StoreError::Io {
        what: "read",
        path: path.into(),
        source,
    })?;
    let Some(bytes) = bytes else { return Ok(None) };
    let malformed = || StoreError::Malformed { path: path.into(), origin: origin.into() };
    let note = String::from_utf8(bytes).map_err(|_| malformed())?;
    let checkpoint = Checkpoint::parse(&note).filter(|c| c.origin == origin).ok_or_else(malformed)?;
    Ok(Some((note, checkpoint)))
}

/// The second store.
pub(crate) struct Store {
    path: PathBuf,
    /// The note that is there as far as we know.
    note: Option<String>,
    _lock: Box<dyn Lock>,
}

impl Store {
    /// Takes the store's lock and reads what it holds.
    pub fn open(
        storage: &dyn Storage,
        path: &Path,
        origin: &str,
    ) -> Result<(Self, Option<Checkpoint>), StoreError> {
        let mut lock_path = path.as_os_str().to_os_string();
        lock_path.push(".lock");
        let lock = storage.lock(Path::new(&lock_path)).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked { path: path.into() },
            _ => StoreError::Io { what: "lock", path: path.into(), source },
        })?;
        let (note, checkpoint) = read(storage, path, origin)?.unzip();
        Ok((Self { path: path.into(), note, _lock: lock }, checkpoint))
    }

    fn swap(&mut self, storage: &dyn Storage, note: &str) -> Result<(), PublishError> {
        let io = |what, source| PublishError::Io { what, path: self.path.clone(), source };
        let found = read_small(storage, &self.path, NOTE_BYTES_MAX).map_err(|source| io("read", source))?;
        // A write that failed may have taken effect all the same; then the new note is there already.
        let expected = found.as_deref() == self.note.as_ref().map(String::as_bytes)
            || found.as_deref() == Some(note.as_bytes());
        // A store that was lost is written again: it protects from now on.
        if !expected && found.is_some() {
            return Err(PublishError::Changed { path: self.path.clone() });
        }
        write_whole(storage, &self.path, note.as_bytes()).map_err(|source| io("write", source))?;
        self.note = Some(note.into());
        Ok(())
    }
}

/// Where checkpoints of one journal go.
pub(crate) struct Checkpoints {
    path: PathBuf,
    store: Option<Store>,
    /// Notes that were tried and may be in the store though the write failed.
    tried: Option<String>,
}

impl Checkpoints {
    /// `path` is the journal's own file.
    pub fn new(path: PathBuf, store: Option<Store>) -> Self {
        Self { path, store, tried: None }
    }

    /// Puts the note into the second store, then where everyone looks.
    pub fn publish(&mut self, storage: &dyn Storage, note: &str) -> Result<(), PublishError> {
        if let Some(store) = &mut self.store {
            if let Some(tried) = self.tried.take() {
                settle(storage, store, tried);
            }
            if let Err(error) = store.swap(storage, note) {
                self.tried = Some(note.into());
                return Err(error);
            }
        }
        write_whole(storage, &self.path, note.as_bytes()).map_err(|source| PublishError::Io {
            what: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// Finds out whether a write that failed took effect.
fn settle(storage: &dyn Storage, store: &mut Store, tried: String) {
    if let Ok(Some(found)) = read_small(storage, &store.path, NOTE_BYTES_MAX)
        && found == tried.as_bytes()
    {
        store.note = Some(tried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;
    use estoppel_evidence::{Root, SoftKey};

    fn note(size: u64) -> String {
        let checkpoint = Checkpoint { origin: "a/b/1".into(), size, root: Root([7; 32]) };
        checkpoint.sign("a/b/1", &SoftKey::ed25519(&[1; 32])).unwrap()
    }

    #[test]
    fn a_store_changed_by_someone_else_stops_publication() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("checkpoint"), dir.path().join("store"));
        let (store, found) = Store::open(&FileSystem, &other, "a/b/1").unwrap();
        assert_eq!(found, None);
        let mut checkpoints = Checkpoints::new(own.clone(), Some(store));
        checkpoints.publish(&FileSystem, &note(1)).unwrap();
        std::fs::write(&other, note(9)).unwrap();
        assert!(matches!(checkpoints.publish(&FileSystem, &note(2)), Err(PublishError::Changed { .. })));
        assert_eq!(
            std::fs::read_to_string(&own).unwrap(),
            note(1),
            "nothing is published that is not stored"
        );
    }

    #[test]
    fn a_store_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let _held = Store::open(&FileSystem, &path, "a/b/1").unwrap();
        assert!(matches!(Store::open(&FileSystem, &path, "a/b/1"), Err(StoreError::Locked { .. })));
    }

    #[test]
    fn a_store_of_another_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        std::fs::write(&path, note(1)).unwrap();
        assert!(matches!(Store::open(&FileSystem, &path, "a/b/2"), Err(StoreError::Malformed { .. })));
    }

    #[test]
    fn a_lost_store_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let (store, _) = Store::open(&FileSystem, &path, "a/b/1").unwrap();
        let mut checkpoints = Checkpoints::new(dir.path().join("checkpoint"), Some(store));
        checkpoints.publish(&FileSystem, &note(1)).unwrap();
        std::fs::remove_file(&path).unwrap();
        checkpoints.publish(&FileSystem, &note(2)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), note(2));
    }
}
