//! The key folder: one private key per use, and the secret that captures are keyed with.
//!
//! Files: `receipt.pem`, `checkpoint.pem`, `manifest.pem` (PKCS#8, as `openssl genpkey` writes them) and `capture.key`
//! (32 bytes as 64 hex digits), readable by their owner only. A key that a program holds has two files instead:
//! `<use>.command`, a JSON list of the program and its arguments, and `<use>.pub.pem`, its public key. A key that was replaced while its runs are open is kept as
//! `<use>-<16 digits of its id>.pem` until the journal has recorded the rotation; then it is removed, because nothing
//! needs it any more and whoever finds it could sign with it. Its public key stays as `<use>-<16 digits>.pub.pem`, for the
//! trust document.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use estoppel_evidence::envelope::from_base64;
use estoppel_evidence::hash::{from_hex, hex};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{Alg, CaptureKey, KeyId, PublicKey, Reason, Signer, SoftKey, Use};

use crate::admit::AckError;
use crate::settings::Keys;
use crate::signer::{CommandSigner, fast};

const CAPTURE_FILE: &str = "capture.key";
/// Largest key file that is read.
const KEY_BYTES_MAX: u64 = 16_384;
/// How long a program may take for one signature.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// What makes the keys of a gateway.
const BY_INIT: &str = "`estoppel keys init`";
/// Hex digits of a key id in the name of a kept file.
const KEPT_DIGITS: usize = 16;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(
        "`{path}` can be read by others (mode {mode:o}); run `chmod 600` on it and consider it known to them"
    )]
    Permissions { path: PathBuf, mode: u32 },
    #[error("could not {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is {source}")]
    Key { path: PathBuf, source: KeyError },
    #[error("`{path}` is not a JSON list of a program and its arguments")]
    Command { path: PathBuf },
    #[error("`{path}` does not hold 64 hex digits")]
    Capture { path: PathBuf },
    #[error("`{path}` is there already and is not overwritten")]
    Exists { path: PathBuf },
    #[error("there is no key `{path}`; {made_by} makes one")]
    Missing { path: PathBuf, made_by: &'static str },
    #[error("there is no file `{path}`")]
    Absent { path: PathBuf },
    #[error("key {id} has two uses; each use needs a key of its own")]
    Shared { id: KeyId },
    #[error("a checkpoint key is Ed25519 and nothing else")]
    Algorithm,
    #[error("the system gives no random numbers")]
    Random(#[source] io::Error),
}

impl KeyFileError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Permissions { .. } => Reason::KeyPermissions,
            Self::Io { source, .. } if crate::storage::is_full(source) => Reason::DiskFull,
            Self::Io { what: "make", source, .. } => crate::error::io_reason(source),
            Self::Exists { .. } => Reason::OutputExists,
            Self::Algorithm => Reason::ArgumentInvalid,
            Self::Io { .. }
            | Self::Key { .. }
            | Self::Command { .. }
            | Self::Capture { .. }
            | Self::Missing { .. }
            | Self::Absent { .. }
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
    #[error(
        "run {run}, whose calls are still in flight, has as many keys as a bundle holds; rotate when they have ended"
    )]
    Run { run: estoppel_evidence::RunId },
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
            Self::Run { .. } => Reason::RunBusy,
            Self::Trust(error) if crate::storage::is_full(error) => Reason::DiskFull,
            Self::Trust(_) => Reason::DiskFailed,
            Self::Journal(error) => error.reason(),
        }
    }
}

/// A key that was replaced, and is kept until the journal has recorded that.
#[derive(Clone)]
pub(crate) struct KeptKey {
    pub use_: Use,
    pub signer: Arc<dyn Signer>,
}

/// One key as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    pub alg: Alg,
    /// Whether it is the one that signs now.
    pub current: bool,
    /// `file` or `command`; `kept` for a key that was replaced and whose rotation is not recorded yet; `retired` for one
    /// of which only the public key is left.
    pub held: &'static str,
    pub kid: KeyId,
    #[serde(skip)]
    pub public: PublicKey,
    #[serde(rename = "use")]
    pub use_: Use,
}

impl KeyRow {
    fn new(use_: Use, public: &PublicKey, held: &'static str) -> Self {
        let current = matches!(held, "file" | "command");
        Self { alg: public.alg(), current, held, kid: public.id(), public: public.clone(), use_ }
    }
}

/// Whether the folder holds any key.
pub fn exist(dir: &Path) -> bool {
    Use::ALL.iter().any(|use_| path(dir, *use_).exists() || command_path(dir, *use_).exists())
        || dir.join(CAPTURE_FILE).exists()
}

/// Makes the folder and new keys in it: receipts and manifests with `alg`, checkpoints with Ed25519.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is any key: none is ever overwritten.
pub fn init(dir: &Path, alg: Alg) -> Result<(), KeyFileError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(|source| io_error("make", dir, source))?;
    let paths = Use::ALL.iter().flat_map(|use_| [path(dir, *use_), command_path(dir, *use_)]);
    if let Some(path) = paths.chain([dir.join(CAPTURE_FILE)]).find(|path| path.exists()) {
        return Err(KeyFileError::Exists { path });
    }
    for use_ in Use::ALL {
        let key = generate(if use_ == Use::Checkpoint { Alg::Ed25519 } else { alg })?;
        write_key(&path(dir, use_), &key)?;
    }
    init_secret(&dir.join(CAPTURE_FILE))?;
    sync_dir(dir)
}

/// Makes 32 secret bytes, as [`load_secret`] reads them.
///
/// # Errors
/// [`KeyFileError::Exists`] when the file is there: none is ever overwritten.
pub fn init_secret(path: &Path) -> Result<(), KeyFileError> {
    let secret = random()?;
    let mut text = Zeroizing::new(hex(&*secret));
    text.push('\n');
    write_secret(path, text.as_bytes())
}

/// Reads all keys.
///
/// # Errors
/// [`KeyFileError::Permissions`] for a file that others can read, and whatever else makes a key unusable.
pub fn load(dir: &Path) -> Result<Keys, KeyFileError> {
    let keys = Keys {
        receipt: signer(dir, Use::Receipt)?,
        checkpoint: signer(dir, Use::Checkpoint)?,
        manifest: signer(dir, Use::Manifest)?,
        capture: load_capture(dir)?,
    };
    distinct(&keys)?;
    Ok(keys)
}

/// Refuses a key with two uses.
pub(crate) fn distinct(keys: &Keys) -> Result<(), KeyFileError> {
    let [a, b, c] = [&keys.receipt, &keys.checkpoint, &keys.manifest].map(|key| key.public().id());
    match () {
        () if a == b || a == c => Err(KeyFileError::Shared { id: a }),
        () if b == c => Err(KeyFileError::Shared { id: b }),
        () => Ok(()),
    }
}

/// Reads the capture secret alone, for keys that are held elsewhere.
pub fn load_capture(dir: &Path) -> Result<CaptureKey, KeyFileError> {
    Ok(CaptureKey::new(*secret(&dir.join(CAPTURE_FILE), BY_INIT)?))
}

/// Reads 32 secret bytes, written as 64 hex digits, from a file that only its owner can read.
pub fn load_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    secret(path, "`estoppel keys wrapping`")
}

fn secret(path: &Path, made_by: &'static str) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let text = read_made(path, made_by)?;
    let bytes = from_hex(text.strip_suffix('\n').unwrap_or(&text));
    bytes.map(Zeroizing::new).ok_or_else(|| KeyFileError::Capture { path: path.into() })
}

/// The key that somebody approves held calls with, from a file that only its owner can read.
///
/// # Errors
/// As [`load`].
pub fn load_approver(path: &Path) -> Result<SoftKey, KeyFileError> {
    let text = read_made(path, "`openssl genpkey -algorithm ed25519`")?;
    SoftKey::from_pem(&text).map_err(|source| KeyFileError::Key { path: path.into(), source })
}

/// The key that somebody signs certificates of replays with, from a file that only its owner can read.
///
/// # Errors
/// As [`load`].
pub fn load_certifier(path: &Path) -> Result<SoftKey, KeyFileError> {
    load_approver(path)
}

/// The signer of one use: a key file, or the program that holds the key.
///
/// # Errors
/// As [`load`].
pub fn signer(dir: &Path, use_: Use) -> Result<Arc<dyn Signer>, KeyFileError> {
    let command = command_path(dir, use_);
    if !command.exists() {
        return Ok(fast(read_key(&path(dir, use_), use_)?));
    }
    let words: Vec<String> = serde_json::from_str(&read_secret(&command)?)
        .map_err(|_| KeyFileError::Command { path: command.clone() })?;
    let public_path = dir.join(format!("{}.pub.pem", use_.as_str()));
    let public = read_public(&public_path)?;
    allowed(&public_path, use_, public.alg())?;
    let signer =
        CommandSigner::new(&words, public, COMMAND_TIMEOUT).ok_or(KeyFileError::Command { path: command })?;
    Ok(Arc::new(signer))
}

/// A public key in PEM form, as `openssl pkey -pubout` writes it; `None` for anything else.
pub fn public_from_pem(text: &str) -> Option<PublicKey> {
    let body =
        text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    PublicKey::from_spki(&from_base64(&body)?).ok()
}

fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|source| io_error("read", path, source))?;
    public_from_pem(&text)
        .ok_or_else(|| KeyFileError::Key { path: path.into(), source: KeyError::NotAPublicKey })
}

/// All keys: those in use, then kept and retired ones.
///
/// # Errors
/// As [`load`].
pub fn list(dir: &Path) -> Result<Vec<KeyRow>, KeyFileError> {
    let mut rows = Vec::new();
    for use_ in Use::ALL {
        let held = if command_path(dir, use_).exists() { "command" } else { "file" };
        rows.push(KeyRow::new(use_, signer(dir, use_)?.public(), held));
    }
    let kept = kept(dir)?.into_iter().map(|KeptKey { use_, signer }| (use_, signer.public().clone(), "kept"));
    let retired = retired(dir)?.into_iter().map(|(use_, public)| (use_, public, "retired"));
    for (use_, public, held) in kept.chain(retired) {
        if rows.iter().all(|row| row.kid != public.id()) {
            rows.push(KeyRow::new(use_, &public, held));
        }
    }
    Ok(rows)
}

/// Puts a new key in the place of the one for `use_` and keeps the old one. Give the result to
/// [`crate::Journal::rotate`]; if no journal is open, the next start records the rotation.
///
/// # Errors
/// As [`init`]; the old key is still in place then. A key that a program holds is replaced in the program.
pub fn rotate(dir: &Path, use_: Use, alg: Alg) -> Result<Arc<dyn Signer>, KeyFileError> {
    if use_ == Use::Checkpoint && alg != Alg::Ed25519 {
        return Err(KeyFileError::Algorithm);
    }
    if command_path(dir, use_).exists() {
        return Err(KeyFileError::Exists { path: command_path(dir, use_) });
    }
    let current = path(dir, use_);
    let old = read_key(&current, use_)?;
    let new = generate(alg)?;
    let next = dir.join(format!("{}.next.pem", use_.as_str()));
    // A rotation that was cut off before the swap left a key that has signed nothing.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &next, error));
        }
        _ => {}
    }
    write_key(&next, &new)?;
    let kept = dir.join(kept_name(use_, old.public().id()));
    // A link and not a rename: there is never a moment without a current key.
    match std::fs::hard_link(&current, &kept) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("keep", &current, error));
        }
        _ => {}
    }
    write_public(&dir.join(retired_name(use_, old.public().id())), old.public())?;
    sync_dir(dir)?;
    std::fs::rename(&next, &current).map_err(|source| io_error("replace", &current, source))?;
    sync_dir(dir)?;
    Ok(fast(new))
}

/// Keys that were replaced and whose rotation no journal has recorded yet.
pub(crate) fn kept(dir: &Path) -> Result<Vec<KeptKey>, KeyFileError> {
    let mut found = Vec::new();
    for (use_, digits, path) in replaced(dir, ".pem")? {
        let key = read_key(&path, use_)?;
        if key.public().id().to_string().starts_with(&digits) {
            found.push(KeptKey { use_, signer: fast(key) });
        }
    }
    found.sort_by_key(|kept| (kept.use_, kept.signer.public().id()));
    Ok(found)
}

/// Public keys of those that were replaced.
fn retired(dir: &Path) -> Result<Vec<(Use, PublicKey)>, KeyFileError> {
    let mut found = Vec::new();
    for (use_, digits, path) in replaced(dir, ".pub.pem")? {
        let public = read_public(&path)?;
        if public.id().to_string().starts_with(&digits) {
            found.push((use_, public));
        }
    }
    found.sort_by_key(|(use_, public)| (*use_, public.id()));
    Ok(found)
}

/// Files `<use>-<16 digits><ending>`.
fn replaced(dir: &Path, ending: &str) -> Result<Vec<(Use, String, PathBuf)>, KeyFileError> {
    let names = match std::fs::read_dir(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", dir, error)),
    };
    let mut found = Vec::new();
    for entry in names {
        let entry = entry.map_err(|source| io_error("list", dir, source))?;
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| replaced_parts(name, ending));
        found.extend(parts.map(|(use_, digits)| (use_, digits.to_owned(), entry.path())));
    }
    Ok(found)
}

/// Removes a kept key: its rotation is recorded.
pub(crate) fn forget(dir: &Path, use_: Use, id: KeyId) -> Result<(), KeyFileError> {
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

fn command_path(dir: &Path, use_: Use) -> PathBuf {
    dir.join(format!("{}.command", use_.as_str()))
}

fn kept_name(use_: Use, id: KeyId) -> String {
    format!("{}.pem", replaced_stem(use_, id))
}

fn retired_name(use_: Use, id: KeyId) -> String {
    format!("{}.pub.pem", replaced_stem(use_, id))
}

fn replaced_stem(use_: Use, id: KeyId) -> String {
    let id = id.to_string();
    format!("{}-{}", use_.as_str(), id.get(..KEPT_DIGITS).unwrap_or(&id))
}

fn replaced_parts<'n>(name: &'n str, ending: &str) -> Option<(Use, &'n str)> {
    let (use_, digits) = name.strip_suffix(ending)?.split_once('-')?;
    let use_ = Use::ALL.into_iter().find(|known| known.as_str() == use_)?;
    (digits.len() == KEPT_DIGITS).then_some((use_, digits))
}

fn generate(alg: Alg) -> Result<SoftKey, KeyFileError> {
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

fn random() -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let n = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| KeyFileError::Random(error.into()))?;
    match n {
        32 => Ok(bytes),
        _ => Err(KeyFileError::Random(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn read_key(path: &Path, use_: Use) -> Result<SoftKey, KeyFileError> {
    let key = SoftKey::from_pem(&read_made(path, BY_INIT)?)
        .map_err(|source| KeyFileError::Key { path: path.into(), source })?;
    allowed(path, use_, key.public().alg())?;
    Ok(key)
}

/// Checkpoints are signed with Ed25519 only (SPEC section 3).
fn allowed(path: &Path, use_: Use, found: Alg) -> Result<(), KeyFileError> {
    match (use_, found) {
        (Use::Checkpoint, Alg::P256) => {
            let source = KeyError::WrongAlgorithm { wanted: Alg::Ed25519, found };
            Err(KeyFileError::Key { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// Reads a key; where there is none it is said what makes one of its kind.
fn read_made(path: &Path, made_by: &'static str) -> Result<Zeroizing<String>, KeyFileError> {
    read_secret(path).map_err(|error| match error {
        KeyFileError::Absent { path } => KeyFileError::Missing { path, made_by },
        error => error,
    })
}

/// Reads a short text from a file that only its owner can read.
///
/// # Errors
/// There is no such file, it is open to others, or it cannot be read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Absent { path: path.into() },
        _ => io_error("open", path, source),
    })?;
    let mode = file.metadata().map_err(|source| io_error("look at", path, source))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|source| io_error("read", path, source))?;
    Ok(text)
}

fn write_key(path: &Path, key: &SoftKey) -> Result<(), KeyFileError> {
    let pem = key.to_pem().map_err(|source| KeyFileError::Key { path: path.into(), source })?;
    write_secret(path, pem.as_bytes())
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    write_new(path, bytes, 0o600).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
        _ => io_error("write", path, source),
    })
}

/// Whole or not at all: a rotation that is cut off here is begun again.
fn write_public(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    let begun = path.with_extension("new");
    let write = || {
        match std::fs::remove_file(&begun) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => write_new(&begun, key.pem().as_bytes(), 0o644)?,
        }
        // Whatever the umask took: auditors may read it.
        std::fs::set_permissions(&begun, PermissionsExt::from_mode(0o644))?;
        std::fs::rename(&begun, path)
    };
    write().map_err(|source| io_error("write", path, source))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> Result<(), KeyFileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error("sync", dir, source))
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { what, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(keys: &Keys) -> [KeyId; 3] {
        [&keys.receipt, &keys.checkpoint, &keys.manifest].map(|key| key.public().id())
    }

    #[test]
    fn made_keys_are_private_and_load() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keys");
        assert!(!exist(&folder));
        init(&folder, Alg::P256).unwrap();
        assert!(exist(&folder));
        let keys = load(&folder).unwrap();
        assert_eq!(list(&folder).unwrap().iter().map(|row| row.kid).collect::<Vec<_>>(), ids(&keys));
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
        assert!(matches!(init(dir.path(), Alg::Ed25519), Err(KeyFileError::Exists { .. })));
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
        assert!(matches!(load(dir.path()), Err(KeyFileError::Shared { .. })));
    }

    #[test]
    fn checkpoint_keys_are_ed25519() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::P256).unwrap();
        std::fs::copy(dir.path().join("receipt.pem"), dir.path().join("checkpoint.pem")).unwrap();
        assert!(matches!(load(dir.path()), Err(KeyFileError::Key { .. })));
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
        let new = rotate(dir.path(), Use::Receipt, Alg::P256).unwrap().public().id();
        assert_eq!(load(dir.path()).unwrap().receipt.public().id(), new);
        let kept: Vec<KeyId> =
            kept(dir.path()).unwrap().iter().map(|kept| kept.signer.public().id()).collect();
        assert_eq!(kept, [before]);
        assert_eq!(list(dir.path()).unwrap().len(), 4);
        forget(dir.path(), Use::Receipt, before).unwrap();
        forget(dir.path(), Use::Receipt, before).unwrap();
        assert!(super::kept(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn the_public_key_of_a_replaced_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::Ed25519).unwrap();
        let first = load(dir.path()).unwrap().receipt.public().clone();
        let second = rotate(dir.path(), Use::Receipt, Alg::P256).unwrap().public().clone();
        rotate(dir.path(), Use::Receipt, Alg::Ed25519).unwrap();
        forget(dir.path(), Use::Receipt, first.id()).unwrap();
        let rows = list(dir.path()).unwrap();
        let held = |key: &PublicKey| rows.iter().find(|row| row.kid == key.id()).unwrap().held;
        assert_eq!((rows.len(), held(&first), held(&second)), (5, "retired", "kept"));
        assert!(rows[..3].iter().all(|row| row.current) && !rows[3..].iter().any(|row| row.current));
        assert!(rows.iter().any(|row| row.public == first));
        let file = dir.path().join(retired_name(Use::Receipt, first.id()));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read_to_string(file).unwrap(), first.pem());
    }

    #[test]
    fn a_checkpoint_key_is_not_rotated_to_p256() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::Ed25519).unwrap();
        let before = list(dir.path()).unwrap();
        let error = rotate(dir.path(), Use::Checkpoint, Alg::P256).err().unwrap();
        assert_eq!(error.reason(), Reason::ArgumentInvalid);
        assert_eq!(list(dir.path()).unwrap(), before);
    }

    #[test]
    fn public_keys_read_back_from_pem() {
        for key in [SoftKey::ed25519(&[1; 32]), SoftKey::p256(&[1; 32]).unwrap()] {
            assert_eq!(public_from_pem(&key.public().pem()).as_ref(), Some(key.public()));
        }
        assert!(public_from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_none());
    }

    #[test]
    fn a_program_can_hold_a_key() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), Alg::Ed25519).unwrap();
        let public = SoftKey::ed25519(&[9; 32]).public().clone();
        std::fs::write(dir.path().join("receipt.pub.pem"), public.pem()).unwrap();
        let command = dir.path().join("receipt.command");
        write_secret(&command, b"[\"cat\"]").unwrap();
        let keys = load(dir.path()).unwrap();
        assert_eq!(keys.receipt.public(), &public);
        assert_eq!(keys.receipt.sign(&[7; 64]).unwrap(), [7; 64]);
        assert_eq!(list(dir.path()).unwrap()[0].held, "command");
        std::fs::set_permissions(&command, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(load(dir.path()).unwrap_err().reason(), Reason::KeyPermissions);
        std::fs::remove_file(&command).unwrap();
        write_secret(&command, b"[]").unwrap();
        assert!(matches!(load(dir.path()), Err(KeyFileError::Command { .. })));
    }
}
