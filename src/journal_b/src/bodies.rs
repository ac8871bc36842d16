//! The content-addressed body store: `bodies/<2 hex>/<64 hex>`, for calls whose policy says that bodies are kept.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use sha2::Digest as _;

use crate::seal::body_path;

/// A store below a journal's folder.
#[derive(Clone, Debug)]
pub struct Bodies {
    folder: PathBuf,
}

/// Why a body was not stored.
#[derive(Debug, thiserror::Error)]
#[error("a body could not be stored: {0}")]
pub struct BodyError(#[from] io::Error);

/// A body that is being stored. Dropping it removes what was written.
pub struct StoredBody {
    folder: PathBuf,
    temporary: PathBuf,
    file: File,
    hash: sha2::Sha256,
    done: bool,
}

impl Bodies {
    /// The store of the journal in `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { folder: dir.join("bodies") }
    }

    /// Begins a body. `unique` tells apart what is written at the same time.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(&self, unique: &str) -> Result<StoredBody, BodyError> {
        let temporary = self.folder.join(format!(".{unique}"));
        let file = File::create(&temporary)?;
        Ok(StoredBody {
            folder: self.folder.clone(),
            temporary,
            file,
            hash: sha2::Sha256::new(),
            done: false,
        })
    }
}

impl StoredBody {
    /// Takes the next bytes. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Makes the body durable under its digest.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(mut self) -> Result<Sha256, BodyError> {
        let digest = Sha256(std::mem::take(&mut self.hash).finalize().into());
        let path = body_path(&self.folder, digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        self.file.sync_all()?;
        fs::rename(&self.temporary, &path)?;
        self.done = true;
        crate::storage::sync_folder_of(&path)?;
        Ok(digest)
    }
}

impl Drop for StoredBody {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary); // nothing refers to it
        }
    }
}
