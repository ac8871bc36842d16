//! Stored bodies: files named by their SHA-256, for capture mode `full`.
//!
//! A [`BodyWriter`] blocks on the disk: drive it from a background thread, and commit the record only after
//! [`BodyWriter::finish`], so that no receipt names a body that is not durable. The same bytes are stored once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest as _;

use estoppel_evidence::{Reason, Sha256};

use crate::error::io_reason;
use crate::storage::{Storage, StorageFile};

/// Why a body was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    BytesMax { limit: u64 },
    #[error("could not {what} a stored body")]
    Io { what: &'static str, source: io::Error },
}

impl BodyError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BytesMax { .. } => Reason::ResponseBytesMax,
            Self::Io { source, .. } => io_reason(source),
        }
    }
}

/// Where the body with that digest is.
pub(crate) fn body_path(bodies: &Path, digest: Sha256) -> PathBuf {
    let hex = digest.hex();
    bodies.join(hex.get(..2).unwrap_or_default()).join(&hex)
}

/// The folder of stored bodies.
#[derive(Clone)]
pub struct BodyStore {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    bytes_max: u64,
    count: Arc<AtomicU64>,
}

impl BodyStore {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf, bytes_max: u64) -> Self {
        Self { storage, dir, bytes_max, count: Arc::default() }
    }

    /// Starts a body. Blocks on the disk.
    pub fn create(&self) -> Result<BodyWriter, BodyError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{number}.tmp"));
        match self.storage.remove(&temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(BodyError::Io { what: "replace", source });
            }
            _ => {}
        }
        let file =
            self.storage.create(&temporary).map_err(|source| BodyError::Io { what: "make", source })?;
        Ok(BodyWriter {
            store: self.clone(),
            temporary,
            file,
            digest: sha2::Sha256::new(),
            bytes: 0,
            done: false,
        })
    }
}

/// One body while it is written. Dropping it without [`BodyWriter::finish`] removes what was written.
pub struct BodyWriter {
    store: BodyStore,
    temporary: PathBuf,
    file: Box<dyn StorageFile>,
    digest: sha2::Sha256,
    bytes: u64,
    done: bool,
}

impl BodyWriter {
    /// Adds bytes. Blocks on the disk.
    ///
    /// # Errors
    /// [`BodyError::BytesMax`]; the body is then of no use.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let end = self.bytes + bytes.len() as u64; // a length fits
        if end > self.store.bytes_max {
            return Err(BodyError::BytesMax { limit: self.store.bytes_max });
        }
        self.file.write_at(bytes, self.bytes).map_err(|source| BodyError::Io { what: "write", source })?;
        self.digest.update(bytes);
        self.bytes = end;
        Ok(())
    }

    /// Makes the body durable under its name. Returns its digest and size.
    pub fn finish(mut self) -> Result<(Sha256, u64), BodyError> {
        let io = |what| move |source| BodyError::Io { what, source };
        let digest = Sha256(std::mem::take(&mut self.digest).finalize().into());
        let path = body_path(&self.store.dir, digest);
        let folder = path.parent().unwrap_or(&self.store.dir).to_path_buf();
        let storage = &*self.store.storage;
        self.file.sync_all().map_err(io("sync"))?;
        storage.create_dir(&folder).map_err(io("make the folder of"))?;
        storage.rename(&self.temporary, &path).map_err(io("name"))?;
        self.done = true;
        for dir in [&folder, &self.store.dir] {
            storage.open_dir(dir).and_then(|dir| dir.sync()).map_err(io("sync the folder of"))?;
        }
        Ok((digest, self.bytes))
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.store.storage.remove(&self.temporary)
        {
            tracing::warn!(%error, "an unfinished body could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;

    fn store(dir: &Path, bytes_max: u64) -> BodyStore {
        BodyStore::new(Arc::new(FileSystem), dir.into(), bytes_max)
    }

    #[test]
    fn bodies_are_named_by_their_digest_and_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 100);
        for _ in 0..2 {
            let mut writer = store.create().unwrap();
            writer.write(b"some ").unwrap();
            writer.write(b"body").unwrap();
            assert_eq!(writer.finish().unwrap(), (Sha256::of(b"some body"), 9));
        }
        let path = body_path(dir.path(), Sha256::of(b"some body"));
        assert_eq!(std::fs::read(path).unwrap(), b"some body");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = store(dir.path(), 8).create().unwrap();
        writer.write(b"12345678").unwrap();
        assert!(matches!(writer.write(b"9"), Err(BodyError::BytesMax { limit: 8 })));
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
