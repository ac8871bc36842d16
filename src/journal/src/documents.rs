//! Documents that receipts name, such as contracts and snapshots of databases: files named by the SHA-256 of what is in
//! them, so that bundles can hold them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use estoppel_evidence::Sha256;

use crate::admit::locked;
use crate::storage::{Storage, write_whole};

/// Most documents of a folder that are remembered as kept; beyond, they are looked for on the disk again.
const KNOWN_MAX: usize = 4_096;

/// Where the document with that digest is.
pub(crate) fn document_path(documents: &Path, digest: Sha256) -> PathBuf {
    documents.join(format!("{}.json", digest.hex()))
}

/// A folder of documents.
#[derive(Clone)]
pub struct DocumentStore {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// Held while a document is written, so that two threads do not write the same one.
    known: Arc<Mutex<HashSet<Sha256>>>,
}

impl DocumentStore {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self { storage, dir, known: Arc::default() }
    }

    /// Whether this document is known to be durable.
    pub fn has(&self, digest: Sha256) -> bool {
        locked(&self.known).contains(&digest)
    }

    /// Makes a document durable; must come before the first receipt that names it. Blocks on the disk.
    ///
    /// # Errors
    /// It cannot be written, or is not what the digest names.
    pub fn keep(&self, digest: Sha256, canonical: &[u8]) -> io::Result<()> {
        if Sha256::of(canonical) != digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut known = locked(&self.known);
        if known.contains(&digest) {
            return Ok(());
        }
        let path = document_path(&self.dir, digest);
        let bytes = self.storage.open(&path).and_then(|file| file.len());
        if !bytes.is_ok_and(|bytes| bytes == canonical.len() as u64) {
            write_whole(&*self.storage, &path, canonical)?;
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest);
        Ok(())
    }
}
