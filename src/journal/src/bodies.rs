//! Stored bodies: files named by their SHA-256, for capture mode `full`; with `.enc` behind it where they are encrypted
//! (spec/encryption.md).
//!
//! A [`BodyWriter`] blocks on the disk: drive it from a background thread, and commit the record only after
//! [`BodyWriter::finish`], so that no receipt names a body that is not durable. The same bytes are stored once. With
//! [`Settings::body_keys`](crate::Settings::body_keys) nothing of a body is on the disk in clear, also while it is written.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::Digest as _;

use estoppel_evidence::{Reason, Sha256};

use crate::encryption::{BodyKeys, DataKey, Decryptor, EncryptionError, Encryptor};
use crate::error::io_reason;
use crate::storage::{FileSystem, Storage, StorageFile};

/// What the names of encrypted bodies end with.
pub(crate) const ENCRYPTED: &str = ".enc";

/// Why a body was not stored, or not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    BytesMax { limit: u64 },
    #[error("could not {what} a stored body")]
    Io { what: &'static str, source: io::Error },
    #[error("bodies are encrypted, and there is no key for this one")]
    NoKey,
    #[error("a stored body could not be encrypted or decrypted")]
    Encryption(#[from] EncryptionError),
    #[error("the file of a stored body holds something else")]
    Changed,
}

impl BodyError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BytesMax { .. } => Reason::ResponseBytesMax,
            Self::Io { source, .. } => io_reason(source),
            Self::NoKey => Reason::KeyHookFailed,
            Self::Encryption(error) => error.reason(),
            Self::Changed => Reason::JournalCorrupt,
        }
    }
}

/// Where the body with that digest is, in clear.
pub(crate) fn body_path(bodies: &Path, digest: Sha256) -> PathBuf {
    let hex = digest.hex();
    bodies.join(hex.get(..2).unwrap_or_default()).join(&hex)
}

/// Where it is when it is encrypted.
pub(crate) fn encrypted_path(bodies: &Path, digest: Sha256) -> PathBuf {
    let mut path = body_path(bodies, digest).into_os_string();
    path.push(ENCRYPTED);
    path.into()
}

/// A stored body, from its start. Whoever reads it compares its digest.
pub(crate) struct Stored {
    /// Of its content.
    pub bytes: u64,
    pub content: Box<dyn Read>,
}

/// Opens a body, in clear or encrypted; none if it is not there.
pub(crate) fn open(
    storage: &dyn Storage,
    bodies: &Path,
    keys: Option<&BodyKeys>,
    digest: Sha256,
) -> Result<Option<Stored>, BodyError> {
    let io = |source| BodyError::Io { what: "read", source };
    let there = |path: PathBuf| match storage.open(&path) {
        Ok(file) => file.len().map(|bytes| Some((file, bytes))).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    };
    if let Some((file, bytes)) = there(body_path(bodies, digest))? {
        return Ok(Some(Stored { bytes, content: Box::new(FileReader::new(file)) }));
    }
    let Some((file, bytes)) = there(encrypted_path(bodies, digest))? else { return Ok(None) };
    let none = BodyKeys::none();
    let decryptor = Decryptor::new(keys.unwrap_or(&none), FileReader::new(file))?;
    Ok(Some(Stored { bytes: decryptor.content_bytes(bytes), content: Box::new(decryptor) }))
}

/// A stored body of the journal in `dir`, whole; none if it is not there. A daemon may be writing the journal.
///
/// # Errors
/// [`BodyError`]; [`BodyError::BytesMax`] if it has more than `bytes_max`.
pub fn read_body(
    dir: &Path,
    keys: Option<&BodyKeys>,
    digest: Sha256,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, BodyError> {
    let bodies = crate::layout::Layout::new(dir, None).bodies_dir();
    let Some(mut stored) = open(&FileSystem, &bodies, keys, digest)? else { return Ok(None) };
    if stored.bytes > bytes_max {
        return Err(BodyError::BytesMax { limit: bytes_max });
    }
    let mut bytes = Vec::new();
    let read = (&mut stored.content).take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(read_failed)?;
    if Sha256::of(&bytes) == digest { Ok(Some(bytes)) } else { Err(BodyError::Changed) }
}

/// Whether the journal in `dir` has stored bodies that are encrypted. A folder that cannot be listed has none.
pub fn stores_encrypted(dir: &Path) -> bool {
    let bodies = crate::layout::Layout::new(dir, None).bodies_dir();
    let names = |dir: &Path| FileSystem.list(dir).unwrap_or_default();
    let has = |inner: &String| names(&bodies.join(inner)).iter().any(|name| name.ends_with(ENCRYPTED));
    names(&bodies).iter().any(has)
}

/// An error of a [`Stored`] body's content.
pub(crate) fn read_failed(error: io::Error) -> BodyError {
    match error.downcast::<EncryptionError>() {
        Ok(error) => BodyError::Encryption(error),
        Err(source) => BodyError::Io { what: "read", source },
    }
}

/// Reads a file from its start.
pub(crate) struct FileReader {
    file: Box<dyn StorageFile>,
    offset: u64,
}

impl FileReader {
    pub fn new(file: Box<dyn StorageFile>) -> Self {
        Self { file, offset: 0 }
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64; // a length fits
        Ok(n)
    }
}

/// The folder of stored bodies.
#[derive(Clone)]
pub struct BodyStore {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    bytes_max: u64,
    keys: Option<Arc<BodyKeys>>,
    count: Arc<AtomicU64>,
}

impl BodyStore {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        dir: PathBuf,
        bytes_max: u64,
        keys: Option<Arc<BodyKeys>>,
    ) -> Self {
        Self { storage, dir, bytes_max, keys, count: Arc::default() }
    }

    /// What bodies are encrypted with; none where they are stored in clear.
    pub fn keys(&self) -> Option<&BodyKeys> {
        self.keys.as_deref()
    }

    /// Starts a body. Blocks on the disk.
    ///
    /// # Errors
    /// [`BodyError`]; [`BodyError::NoKey`] where bodies are encrypted and none is given.
    pub fn create(&self, key: Option<&DataKey>) -> Result<BodyWriter, BodyError> {
        let mut sealed = Vec::new();
        let encryptor = match (&self.keys, key) {
            (None, _) => None,
            (Some(_), None) => return Err(BodyError::NoKey),
            (Some(_), Some(key)) => Some(Encryptor::shared(key, &mut sealed)?),
        };
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
            encryptor,
            sealed,
            offset: 0,
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
    encryptor: Option<Encryptor>,
    /// What is encrypted and not written yet.
    sealed: Vec<u8>,
    /// Bytes of the file.
    offset: u64,
    digest: sha2::Sha256,
    /// Bytes of the content.
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
        match &mut self.encryptor {
            None => {
                let written = self.file.write_at(bytes, self.offset);
                written.map_err(|source| BodyError::Io { what: "write", source })?;
                self.offset += bytes.len() as u64; // a length fits
            }
            Some(encryptor) => {
                encryptor.push(bytes, &mut self.sealed)?;
                self.put_sealed(Encryptor::CHUNK_BYTES_SEALED)?;
            }
        }
        self.digest.update(bytes);
        self.bytes = end;
        Ok(())
    }

    /// Writes what is encrypted, if it is at least that much.
    fn put_sealed(&mut self, bytes_min: usize) -> Result<(), BodyError> {
        if self.sealed.len() < bytes_min {
            return Ok(());
        }
        let written = self.file.write_at(&self.sealed, self.offset);
        written.map_err(|source| BodyError::Io { what: "write", source })?;
        self.offset += self.sealed.len() as u64; // a length fits
        self.sealed.clear();
        Ok(())
    }

    /// Makes the body durable under its name. Returns its digest and size.
    ///
    /// # Errors
    /// [`BodyError`]; nothing has the name then.
    pub fn finish(mut self) -> Result<(Sha256, u64), BodyError> {
        let io = |what| move |source| BodyError::Io { what, source };
        let digest = Sha256(std::mem::take(&mut self.digest).finalize().into());
        let path = match self.encryptor.take() {
            None => body_path(&self.store.dir, digest),
            Some(encryptor) => {
                encryptor.finish(&mut self.sealed)?;
                self.put_sealed(0)?;
                encrypted_path(&self.store.dir, digest)
            }
        };
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
    use crate::clock::SystemClock;
    use crate::encryption::FileHook;

    fn store(dir: &Path, bytes_max: u64) -> BodyStore {
        BodyStore::new(Arc::new(FileSystem), dir.into(), bytes_max, None)
    }

    #[test]
    fn bodies_are_named_by_their_digest_and_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 100);
        for _ in 0..2 {
            let mut writer = store.create(None).unwrap();
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
        let mut writer = store(dir.path(), 8).create(None).unwrap();
        writer.write(b"12345678").unwrap();
        assert!(matches!(writer.write(b"9"), Err(BodyError::BytesMax { limit: 8 })));
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn keys(byte: u8) -> Arc<BodyKeys> {
        let hook = FileHook::new(zeroize::Zeroizing::new([byte; 32]));
        Arc::new(BodyKeys::to_read(vec![Box::new(hook)], Arc::new(SystemClock::new())))
    }

    /// A journal's folder, and a store in it that encrypts.
    fn encrypting(keys: &Arc<BodyKeys>) -> (tempfile::TempDir, BodyStore) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bodies")).unwrap();
        keys.renew().unwrap();
        let bodies = dir.path().join("bodies");
        let store = BodyStore::new(Arc::new(FileSystem), bodies, 1 << 30, Some(keys.clone()));
        (dir, store)
    }

    fn stored(store: &BodyStore, keys: &BodyKeys, parts: &[&[u8]]) -> (Sha256, PathBuf) {
        let mut writer = store.create(keys.current().as_deref()).unwrap();
        for part in parts {
            writer.write(part).unwrap();
        }
        let (digest, bytes) = writer.finish().unwrap();
        assert_eq!(bytes, parts.concat().len() as u64);
        (digest, encrypted_path(&store.dir, digest))
    }

    const MOST: u64 = 1 << 30;

    #[test]
    fn encrypted_bodies_come_back_with_their_key_and_none_other() {
        let own = keys(1);
        let (dir, store) = encrypting(&own);
        let chunk = crate::encryption::CHUNK_BYTES;
        for length in [1, 4096, chunk - 1, chunk, chunk + 1, 3 * chunk] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (digest, _) = stored(&store, &own, &content.chunks(1000).collect::<Vec<_>>());
            let read = |keys: Option<&BodyKeys>, most| read_body(dir.path(), keys, digest, most);
            assert!(read(Some(&own), MOST).unwrap().unwrap() == content, "{length}");
            // Also by a process that did not write it.
            assert!(read(Some(&keys(1)), MOST).unwrap().unwrap() == content, "{length}");
            let below = read(Some(&own), length as u64 - 1);
            assert!(matches!(below, Err(BodyError::BytesMax { .. })), "{length}: {below:?}");
            for refused in [read(None, MOST), read(Some(&keys(2)), MOST)] {
                assert_eq!(refused.unwrap_err().reason(), Reason::EncryptionKey);
            }
        }
        assert_eq!(read_body(dir.path(), Some(&own), Sha256::of(b"none"), MOST).unwrap(), None);
    }

    #[test]
    fn nothing_of_an_encrypted_body_is_in_clear_at_any_moment() {
        let own = keys(1);
        let (dir, store) = encrypting(&own);
        let secret = b"planted-4711 ".repeat(1 << 13);
        let is_clear = || {
            let mut folders = vec![dir.path().to_path_buf()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if std::fs::read(&path).unwrap().windows(7).any(|part| part == b"planted") {
                        return true;
                    }
                }
            }
            false
        };
        let mut writer = store.create(own.current().as_deref()).unwrap();
        for part in secret.chunks(7_001) {
            writer.write(part).unwrap();
            assert!(!is_clear());
        }
        let (digest, _) = writer.finish().unwrap();
        assert!(!is_clear());
        assert!(read_body(dir.path(), Some(&own), digest, MOST).unwrap().unwrap() == secret);
    }

    #[test]
    fn an_encrypted_body_that_was_swapped_cut_or_changed_is_refused() {
        let own = keys(1);
        let (dir, store) = encrypting(&own);
        let chunk = crate::encryption::CHUNK_BYTES;
        let (one, at) = stored(&store, &own, &[&vec![1; 2 * chunk + 9]]);
        let (_, other) = stored(&store, &own, &[&vec![2; 2 * chunk + 9]]);
        let whole = std::fs::read(&at).unwrap();
        let reason = |bytes: &[u8]| {
            std::fs::write(&at, bytes).unwrap();
            read_body(dir.path(), Some(&own), one, MOST).unwrap_err().reason()
        };
        let swapped = std::fs::read(other).unwrap();
        assert_eq!(reason(&swapped), Reason::JournalCorrupt, "another body under this name");
        let head = whole.len() - (2 * chunk + 9 + 3 * 16);
        let full = chunk + 16;
        for cut in [0, 7, head - 1, head, head + full, head + 2 * full, whole.len() - 1] {
            assert_eq!(reason(&whole[..cut]), Reason::EncryptionDamaged, "cut at {cut}");
        }
        for at in [0, 20, head - 2, head, head + full + 3, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(reason(&changed), Reason::EncryptionDamaged, "byte {at}");
        }
        // Chunks of another file of the same data key, at the same place.
        let mixed = [&whole[..head], &swapped[head..]].concat();
        assert_eq!(reason(&mixed), Reason::EncryptionDamaged);
        assert_eq!(reason(&[&whole[..], &[0]].concat()), Reason::EncryptionDamaged);
    }

    #[test]
    fn bodies_from_before_are_read_as_they_are_and_without_a_key_none_is_written() {
        let own = keys(1);
        let (dir, store) = encrypting(&own);
        let clear = BodyStore::new(Arc::new(FileSystem), store.dir.clone(), MOST, None);
        // What looks like a header is content like any other.
        for content in [&b"from before"[..], b"PEFENC0\n"] {
            let mut writer = clear.create(None).unwrap();
            writer.write(content).unwrap();
            let (digest, _) = writer.finish().unwrap();
            assert_eq!(read_body(dir.path(), Some(&own), digest, MOST).unwrap().unwrap(), content);
        }
        assert!(matches!(store.create(None), Err(BodyError::NoKey)));
    }
}
