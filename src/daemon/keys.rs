//! Signing keys that are replaced while the daemon runs.

use std::path::PathBuf;

use estoppel_evidence::{KeyId, Use};
use estoppel_journal::{Journal, Keys};

use crate::config::Refusal;

/// The keys that sign, as they were last read from the key folder.
pub struct SigningKeys {
    dir: PathBuf,
    ids: [(Use, KeyId); 3],
}

impl SigningKeys {
    /// `keys` were read from `dir`.
    pub fn new(dir: PathBuf, keys: &Keys) -> Self {
        Self { dir, ids: Use::ALL.map(|use_| (use_, keys.of(use_).public().id())) }
    }

    /// Reads the folder again.
    ///
    /// # Errors
    /// A folder that cannot be read, or a key that cannot be used.
    pub fn read(&self) -> Result<Keys, Refusal> {
        estoppel_journal::keys::load(&self.dir)
            .map_err(|error| Refusal::new(error.reason(), error.to_string()))
    }

    /// Rotates to each of `keys` that is another one than before.
    ///
    /// # Errors
    /// A key that the journal does not take; keys before it in the order of uses are rotated.
    pub async fn renew(&mut self, keys: &Keys, journal: &Journal) -> Result<(), Refusal> {
        for (use_, id) in &mut self.ids {
            let signer = keys.of(*use_);
            if signer.public().id() == *id {
                continue;
            }
            let rotated = journal.rotate(*use_, signer.clone()).await.map_err(|error| {
                Refusal::new(error.reason(), format!("new {} key: {error}", use_.as_str()))
            })?;
            tracing::info!(key_use = use_.as_str(), old = %rotated.old, new = %rotated.new, runs = rotated.runs, "key rotated");
            *id = rotated.new;
        }
        Ok(())
    }
}
