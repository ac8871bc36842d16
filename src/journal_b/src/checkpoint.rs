//! Publishing instance checkpoints, and holding a second store against the journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_evidence::Root;
use estoppel_evidence::note::Checkpoint;

use crate::error::JournalError;
use crate::storage::Storage;

/// Where the newest checkpoint is kept: beside the segments, and in a second store that an attacker or an accident
/// that cuts the journal may not reach.
pub(crate) struct Published {
    storage: Arc<dyn Storage>,
    own: PathBuf,
    second: Option<PathBuf>,
    /// What the second store held when it was last seen.
    last: Option<String>,
}

impl Published {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, second: Option<PathBuf>) -> Self {
        Self { storage, own: dir.join("checkpoint"), second, last: None }
    }

    /// What has been published, from each store that has something: the notes' texts.
    pub(crate) fn read(&mut self) -> Result<Vec<Checkpoint>, JournalError> {
        let mut found = Vec::new();
        for path in [Some(&self.own), self.second.as_ref()].into_iter().flatten() {
            match std::fs::read_to_string(path) {
                Ok(note) => {
                    let checkpoint = Checkpoint::parse(&note).ok_or_else(|| JournalError::Corrupt {
                        path: path.clone(),
                        index: 0,
                        problem: "the published checkpoint is not a note".into(),
                    })?;
                    found.push(checkpoint);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(JournalError::Read { path: path.clone(), source }),
            }
        }
        self.last = self.second.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        Ok(found)
    }

    /// Publishes a note: first compare-and-swap in the second store, then beside the segments.
    pub(crate) fn publish(&mut self, note: &str) -> io::Result<()> {
        if let Some(path) = &self.second {
            let now = std::fs::read_to_string(path).ok();
            if now != self.last {
                return Err(io::Error::other("the second checkpoint store was changed by someone else"));
            }
            self.storage.replace(path, note.as_bytes())?;
            self.last = Some(note.to_string());
        }
        self.storage.replace(&self.own, note.as_bytes())
    }
}

/// Holds published checkpoints against the roots that the recovered journal had at their sizes.
pub(crate) fn compare(
    published: &[Checkpoint],
    entries: u64,
    root_at: impl Fn(u64) -> Option<Root>,
) -> Result<(), JournalError> {
    for checkpoint in published {
        if checkpoint.size > entries {
            return Err(JournalError::Rollback { entries, published: checkpoint.size });
        }
        if root_at(checkpoint.size).is_some_and(|root| root != checkpoint.root) {
            return Err(JournalError::Fork { size: checkpoint.size });
        }
    }
    Ok(())
}
