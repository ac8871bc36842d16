//! The key folder: one private key per use, and the secret that captures are keyed with.
//!
//! Files: `receipt.pem`, `checkpoint.pem`, `manifest.pem` (PKCS#8, as `openssl genpkey` writes them) and `capture.key`
//! (32 bytes as 64 hex digits), readable by their owner only. A key that was replaced while its runs are open is kept as
//! `<use>-<16 digits of its id>.pem` until the journal has recorded the rotation; then it is removed, because nothing
//! needs it any more and whoever finds it could sign with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use estoppel_evidence::hash::{from_hex, hex};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{Alg, CaptureKey, KeyId, PublicKey, Reason, Signer, SoftKey, Use};

use crate::admit::AckError;
use crate::settings::Keys;
use crate::signer::signer;

const CAPTURE_FILE: &str = "capture.key";
/// Largest key file that is read.
const KEY_BYTES_MAX: u64 = 16_384;
/// Hex digits of a key id in the name of a kept file.
const KEPT_DIGITS: usize = 16;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("`{path}` can be read by others (mode {mode:o}); run `chmod 600` on it and consider it known to them")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("could not {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is not a key file that can be used")]
    Key { path: PathBuf, source: KeyError },
    #[error("`{path}` does not hold 64 hex digits")]
    Capture { path: PathBuf },
    #[error("`{path}` is there already and is not overwritten")]
    Exists { path: PathBuf },
    #[error("`{path}` is not there; `init` makes keys")]
    Missing { path: PathBuf },
    #[error("key {id} has two uses; each use needs a key of its own")]
    Shared { id: KeyId },
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
}

impl KeysError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Permissions { .. } => Reason::KeyPermissions,
            Self::Io { source, .. } if crate::storage::is_full(source) => Reason::DiskFull,
            Self::Exists { .. } => Reason::OutputExists,
            Self::Io { .. }
            | Self::Key { .. }
            | Self::Capture { .. }
            | Self::Missing { .. }
            | Self::Shared { .. }
            | Self::Random(_) => Reason::KeyInvalid,
        }
    }
}

/// Why a key was not replaced. Nothing has changed then, unless the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("the new key cannot be used")]
    Key(#[source] KeyError),
    #[error("key {id} signs already, or signed once; a rotation needs a new key")]
    Known { id: KeyId },
    #[error("the trust document could not be written")]
    Trust(#[source] io::Error),
    #[error(transparent)]
    Full(#[from] crate::trust::TrustFull),
    #[error("the rotation was not recorded")]
    Journal(#[source] AckError),
}

impl RotateError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Key(_) | Self::Known { .. } | Self::Full(_) => Reason::KeyInvalid,
            Self::Trust(error) if crate::storage::is_full(error) => Reason::DiskFull,
            Self::Trust(_) => Reason::DiskFailed,
            Self::Journal(error) => error.reason(),
        }
    }
}

/// A key file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub use_: Use,
    pub key: PublicKey,
    pub path: PathBuf,
    /// Replaced, and kept until the journal has recorded that.
    pub kept: bool,
}

/// Whether the folder holds any key.
pub fn exist(dir: &Path) -> bool {
    Use::ALL.iter().any(|use_| path(dir, *use_).exists()) || dir.join(CAPTURE_FILE).exists()
}

/// Makes the folder and new keys in it: receipts and manifests with `alg`, checkpoints with Ed25519.
///
/// # Errors
/// [`KeysError::Exists`] when there is any key: none is ever overwritten.
pub fn init(dir: &Path, alg: Alg) -> Result<Vec<KeyFile>, KeysError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(|source| io_error("make", dir, source))?;
    let paths = Use::ALL.iter().map(|use_| path(dir, *use_)).chain([dir.join(CAPTURE_FILE)]);
    if let Some(path) = paths.into_iter().find(|path| path.exists()) {
        return Err(KeysError::Exists { path });
    }
    let mut made = Vec::new();
    for use_ in Use::ALL {
        let path = path(dir, use_);
        let key = generate(if use_ == Use::Checkpoint { Alg::Ed25519 } else { alg })?;
        write_key(&path, &key)?;
        made.push(KeyFile { use_, key: key.public().clone(), path, kept: false });
    }
    let secret = random()?;
    let mut text = Zeroizing::new(hex(&*secret));
    text.push('\n');
    write_secret(&dir.join(CAPTURE_FILE), text.as_bytes())?;
    sync_dir(dir)?;
    Ok(made)
}

/// Reads all keys.
///
/// # Errors
/// [`KeysError::Permissions`] for a file that others can read, and whatever else makes a key unusable.
pub fn load(dir: &Path) -> Result<Keys, KeysError> {
    let [receipt, checkpoint, manifest] =
        [Use::Receipt, Use::Checkpoint, Use::Manifest].map(|use_| read_key(&path(dir, use_), use_).map(signer));
    let keys = Keys { receipt: receipt?, checkpoint: checkpoint?, manifest: manifest?, capture: load_capture(dir)? };
    distinct(&keys)?;
    Ok(keys)
}

/// Refuses a key with two uses.
pub(crate) fn distinct(keys: &Keys) -> Result<(), KeysError> {
    let [a, b, c] = [&keys.receipt, &keys.checkpoint, &keys.manifest].map(|key| key.public().id());
    match () {
        () if a == b || a == c => Err(KeysError::Shared { id: a }),
        () if b == c => Err(KeysError::Shared { id: b }),
        () => Ok(()),
    }
}

/// Reads the capture secret alone, for keys that are held elsewhere.
pub fn load_capture(dir: &Path) -> Result<CaptureKey, KeysError> {
    let path = dir.join(CAPTURE_FILE);
    let text = read_secret(&path)?;
    let bytes = from_hex(text.strip_suffix('\n').unwrap_or(&text)).ok_or(KeysError::Capture { path })?;
    Ok(CaptureKey::new(bytes))
}

/// Reads a public key in PEM form, as `openssl pkey -pubout` writes it.
pub fn read_public(path: &Path) -> Result<PublicKey, KeysError> {
    let malformed = || KeysError::Key { path: path.into(), source: KeyError::NotAPublicKey };
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|source| io_error("read", path, source))?;
    let body = text
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|text| text.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or_else(malformed)?;
    let body: String = body.split_ascii_whitespace().collect();
    let spki = estoppel_evidence::envelope::from_base64(&body).ok_or_else(malformed)?;
    PublicKey::from_spki(&spki).map_err(|source| KeysError::Key { path: path.into(), source })
}

/// All key files with their ids, kept ones included.
pub fn list(dir: &Path) -> Result<Vec<KeyFile>, KeysError> {
    let mut files = Vec::new();
    for use_ in Use::ALL {
        let path = path(dir, use_);
        match read_key(&path, use_) {
            Ok(key) => files.push(KeyFile { use_, key: key.public().clone(), path, kept: false }),
            Err(KeysError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    files.extend(kept(dir)?.into_iter().map(|(file, _)| file));
    Ok(files)
}

/// Puts a new key in the place of the one for `use_` and keeps the old one. Give the result to
/// [`crate::Journal::rotate`]; if no journal is open, the next start records the rotation.
pub fn rotate(dir: &Path, use_: Use) -> Result<Arc<dyn Signer>, KeysError> {
    let current = path(dir, use_);
    let old = read_key(&current, use_)?;
    let new = generate(old.public().alg())?;
    let next = dir.join(format!("{}.next.pem", use_.as_str()));
    // A rotation that was cut off before the swap left a key that has signed nothing.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &next, error)),
        _ => {}
    }
    write_key(&next, &new)?;
    let kept = dir.join(kept_name(use_, old.public().id()));
    // A link and not a rename: there is never a moment without a current key.
    match std::fs::hard_link(&current, &kept) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error("keep", &current, error)),
        _ => {}
    }
    sync_dir(dir)?;
    std::fs::rename(&next, &current).map_err(|source| io_error("replace", &current, source))?;
    sync_dir(dir)?;
    Ok(signer(new))
}

/// Keys that were replaced and whose rotation no journal has recorded yet.
pub(crate) fn kept(dir: &Path) -> Result<Vec<(KeyFile, Arc<dyn Signer>)>, KeysError> {
    let names = match std::fs::read_dir(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", dir, error)),
    };
    let mut found = Vec::new();
    for entry in names {
        let entry = entry.map_err(|source| io_error("list", dir, source))?;
        let name = entry.file_name();
        let Some((use_, digits)) = name.to_str().and_then(kept_parts) else { continue };
        let path = entry.path();
        let key = read_key(&path, use_)?;
        if key.public().id().to_string().starts_with(digits) {
            let file = KeyFile { use_, key: key.public().clone(), path, kept: true };
            found.push((file, signer(key)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    Ok(found)
}

/// Removes a kept key: its rotation is recorded.
pub(crate) fn forget(dir: &Path, use_: Use, id: KeyId) -> Result<(), KeysError> {
    let path = dir.join(kept_name(use_, id));
    match std::fs::remove_file(&path) {
        Ok(()) => sync_dir(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", &path, error)),
    }
}

fn path(dir: &Path, use_: Use) -> PathBuf {
    dir.join(format!("{}.pem", use_.as_str()))
}

fn kept_name(use_: Use, id: KeyId) -> String {
    let id = id.to_string();
    format!("{}-{}.pem", use_.as_str(), id.get(..KEPT_DIGITS).unwrap_or(&id))
}

fn kept_parts(name: &str) -> Option<(Use, &str)> {
    let (use_, digits) = name.strip_suffix(".pem")?.split_once('-')?;
    let use_ = Use::ALL.into_iter().find(|known| known.as_str() == use_)?;
    (digits.len() == KEPT_DIGITS).then_some((use_, digits))
}

fn generate(alg: Alg) -> Result<SoftKey, KeysError> {
    loop {
        let bytes = random()?;
        match alg {
            Alg::Ed25519 => return Ok(SoftKey::ed25519(&bytes)),
            // One scalar in 2^32 is out of range and is drawn again.
            Alg::P256 => {
                if let Some(key) = SoftKey::p256(&bytes) {
                    return Ok(key);
                }
            }
        }
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let n = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| KeysError::Random(error.into()))?;
    match n {
        32 => Ok(bytes),
        _ => Err(KeysError::Random(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn read_key(path: &Path, use_: Use) -> Result<SoftKey, KeysError> {
    let malformed = |source| KeysError::Key { path: path.into(), source };
    let key = SoftKey::from_pem(&read_secret(path)?).map_err(malformed)?;
    match (use_, key.public().alg()) {
        (Use::Checkpoint, found @ Alg::P256) => {
            Err(malformed(KeyError::WrongAlgorithm { wanted: Alg::Ed25519, found }))
        }
        _ => Ok(key),
    }
}

/// Reads a file that only its owner may read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeysError::Missing { path: path.into() },
        _ => io_error("open", path, source),
    })?;
    let mode = file.metadata().map_err(|source| io_error("look at", path, source))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Permissions { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|source| io_error("read", path, source))?;
    Ok(text)
}

fn write_key(path: &Path, key: &SoftKey) -> Result<(), KeysError> {
    let pem = key.to_pem().map_err(|source| KeysError::Key { path: path.into(), source })?;
    write_secret(path, pem.as_bytes())
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeysError::Exists { path: path.into() },
        _ => io_error("write", path, source),
    })
}

fn sync_dir(dir: &Path) -> Result<(), KeysError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error("sync", dir, source))
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> KeysError {
    KeysError::Io { what, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn ids(keys: &Keys) -> [KeyId; 3] {
        [&keys.receipt, &keys.checkpoint, &keys.manifest].map(|key| key.public().id())
    }

    #[test]
    fn made_keys_are_private_and_load() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keys");
        assert!(!exist(&folder));
        let made = init(&folder, Alg::P256).unwrap();
        assert!(exist(&folder));
        let keys = load(&folder).unwrap();
        assert_eq!(made.iter().map(|file| file.key.id()).collect::<Vec<_>>(), ids(&keys));
        assert_eq!(keys.checkpoint.public().alg(), Alg::Ed25519);
        assert_eq!(keys.receipt.public().alg(), Alg::P256);
        for name in ["receipt.pem", "checkpoint.pem", "manifest.pem", "capture.key"] {
            assert_eq!(std::fs::metadata(folder.join(name)).unwrap().mode() & 0o7777, 0o600, "{name}");
        }
    }

    #[test]
    fn keys_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.pem"), "mine").unwrap();
        assert!(matches!(init(dir.path(), Alg::Ed25519), Err(KeysError::Exists { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_others_can_read_are_refused() {
        for name in ["receipt.pem", "checkpoint.pem", "manifest.pem", "capture.key"] {
            for mode in [0o640, 0o604, 0o620, 0o610] {
                let dir = tempfile::tempdir().unwrap();
                init(dir.path(), Alg::Ed25519).unwrap();
                std::fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
                let error = load(dir.path()).unwrap_err();
                assert_eq!(error.reason(), Reason::KeyPermissions, "{name} {mode:o}");
            }
        }
    }

    #[test]
    fn one_key_for_two_uses_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::Ed25519).unwrap();
        std::fs::copy(dir.path().join("receipt.pem"), dir.path().join("manifest.pem")).unwrap();
        assert!(matches!(load(dir.path()), Err(KeysError::Shared { .. })));
    }

    #[test]
    fn checkpoint_keys_are_ed25519() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::P256).unwrap();
        std::fs::copy(dir.path().join("receipt.pem"), dir.path().join("checkpoint.pem")).unwrap();
        assert!(matches!(load(dir.path()), Err(KeysError::Key { .. })));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for (name, content) in [("receipt.pem", "x"), ("capture.key", "00"), ("capture.key", "")] {
            let dir = tempfile::tempdir().unwrap();
            init(dir.path(), Alg::Ed25519).unwrap();
            std::fs::write(dir.path().join(name), content).unwrap();
            assert_eq!(load(dir.path()).unwrap_err().reason(), Reason::KeyInvalid, "{name}");
        }
    }

    #[test]
    fn a_replaced_key_is_kept_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::Ed25519).unwrap();
        let before = load(dir.path()).unwrap().receipt.public().id();
        let new = rotate(dir.path(), Use::Receipt).unwrap().public().id();
        assert_eq!(load(dir.path()).unwrap().receipt.public().id(), new);
        let kept: Vec<KeyId> = kept(dir.path()).unwrap().iter().map(|(file, _)| file.key.id()).collect();
        assert_eq!(kept, [before]);
        assert_eq!(list(dir.path()).unwrap().len(), 4);
        forget(dir.path(), Use::Receipt, before).unwrap();
        forget(dir.path(), Use::Receipt, before).unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), 3);
    }

    #[test]
    fn public_keys_read_back_from_pem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("public.pem");
        for key in [SoftKey::ed25519(&[1; 32]), SoftKey::p256(&[1; 32]).unwrap()] {
            std::fs::write(&path, key.public().pem()).unwrap();
            assert_eq!(&read_public(&path).unwrap(), key.public());
        }
        std::fs::write(&path, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").unwrap();
        assert!(read_public(&path).is_err());
    }
}
