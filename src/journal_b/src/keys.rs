//! Key files: `receipt.pem`, `checkpoint.pem`, `manifest.pem` (PKCS#8) and `capture.key` (64 hex digits) in one folder,
//! readable by their owner only.
//!
//! A key can also live elsewhere: `<use>.command` beside `<use>.pub.pem` names a program that signs (a KMS client, a
//! hardware token's tool). It gets the message in base64 on standard input and prints the 64-byte signature in base64.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::hash::{from_hex, hex};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::{Alg, CaptureKey, Instance, KeyId, PublicKey, Reason, Signer, SoftKey, Use};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::storage::{Files, Storage as _};

/// What a journal signs and captures with.
pub struct Keys {
    pub receipt: Arc<dyn Signer>,
    pub checkpoint: Arc<dyn Signer>,
    pub manifest: Arc<dyn Signer>,
    pub capture: CaptureKey,
}

impl Keys {
    /// The key of that use.
    pub fn of(&self, use_: Use) -> &Arc<dyn Signer> {
        match use_ {
            Use::Receipt => &self.receipt,
            Use::Checkpoint => &self.checkpoint,
            Use::Manifest => &self.manifest,
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("there is no key `{path}`; `estoppel keys init` makes one", path = .0.display())]
    Missing(PathBuf),
    #[error("`{path}` can be read by others (mode {mode:o}); `chmod 600` it, and make a new key if others had access", path = .path.display())]
    Permissions { path: PathBuf, mode: u32 },
    #[error("`{path}` {problem}", path = .path.display())]
    Unusable { path: PathBuf, problem: String },
    #[error("`{path}` exists; keys are never overwritten", path = .0.display())]
    Exists(PathBuf),
    #[error("cannot use `{path}`: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
}

impl KeyFileError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) | Self::Unusable { .. } => Reason::KeyInvalid,
            Self::Permissions { .. } => Reason::KeyPermissions,
            Self::Exists(_) => Reason::OutputExists,
            Self::File { source, .. } => crate::error::disk_reason(source),
        }
    }
}

fn pem_path(dir: &Path, use_: Use) -> PathBuf {
    dir.join(format!("{}.pem", use_.as_str()))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_path_buf();
    move |source| KeyFileError::File { path, source }
}

/// Whether the folder holds any key.
pub fn exist(dir: &Path) -> bool {
    Use::ALL.iter().any(|use_| pem_path(dir, *use_).exists() || command_path(dir, *use_).exists())
        || dir.join("capture.key").exists()
}

/// Makes a full set of keys. The checkpoint key is always Ed25519 (SPEC section 3).
///
/// # Errors
/// [`KeyFileError::Exists`] when any of them is there already; then nothing was made.
pub fn init(dir: &Path, alg: Alg) -> Result<(), KeyFileError> {
    for path in Use::ALL.map(|use_| pem_path(dir, use_)).into_iter().chain([dir.join("capture.key")]) {
        if path.exists() {
            return Err(KeyFileError::Exists(path));
        }
    }
    fs::create_dir_all(dir).map_err(file_error(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(file_error(dir))?;
    for use_ in Use::ALL {
        let alg = if use_ == Use::Checkpoint { Alg::Ed25519 } else { alg };
        write_new(&pem_path(dir, use_), &generate(alg)?)?;
    }
    let capture = Zeroizing::new(random()?);
    write_new(&dir.join("capture.key"), &Zeroizing::new(format!("{}\n", hex(&*capture))))
}

/// A new private key as PEM.
fn generate(alg: Alg) -> Result<Zeroizing<String>, KeyFileError> {
    loop {
        let seed = Zeroizing::new(random()?);
        let key = match alg {
            Alg::Ed25519 => Some(SoftKey::ed25519(&seed)),
            Alg::P256 => SoftKey::p256(&seed), // fails for about one scalar in 2^32
        };
        if let Some(key) = key {
            return key.to_pem().map_err(|error| KeyFileError::Unusable {
                path: PathBuf::new(),
                problem: error.to_string(),
            });
        }
    }
}

fn random() -> Result<[u8; 32], KeyFileError> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| KeyFileError::File { path: "the random source".into(), source: error.into() })?;
    Ok(bytes)
}

fn write_new(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error(path))
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::Missing(path.into()));
        }
        other => other.map_err(file_error(path))?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.into(), mode });
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(file_error(path))
}

/// Loads a full set of keys.
///
/// # Errors
/// [`KeyFileError`] names the file and what to do.
pub fn load(dir: &Path) -> Result<Keys, KeyFileError> {
    let path = dir.join("capture.key");
    let text = read_private(&path)?;
    let capture = from_hex::<32>(text.trim_end()).ok_or_else(|| KeyFileError::Unusable {
        path,
        problem: "does not hold 64 lower-case hex digits".into(),
    })?;
    let keys = Keys {
        receipt: signer(dir, Use::Receipt)?,
        checkpoint: signer(dir, Use::Checkpoint)?,
        manifest: signer(dir, Use::Manifest)?,
        capture: CaptureKey::new(capture),
    };
    if keys.checkpoint.public().alg() != Alg::Ed25519 {
        let problem = "is not an Ed25519 key; checkpoints are always signed with Ed25519".to_string();
        return Err(KeyFileError::Unusable { path: pem_path(dir, Use::Checkpoint), problem });
    }
    let ids = Use::ALL.map(|use_| keys.of(use_).public().id());
    if ids[0] == ids[1] || ids[0] == ids[2] || ids[1] == ids[2] {
        let problem = "holds one key for two uses".to_string();
        return Err(KeyFileError::Unusable { path: dir.into(), problem });
    }
    Ok(keys)
}

/// Loads the signer of one use.
///
/// # Errors
/// As [`load`].
pub fn signer(dir: &Path, use_: Use) -> Result<Arc<dyn Signer>, KeyFileError> {
    let command = command_path(dir, use_);
    if command.exists() {
        return Ok(Arc::new(CommandKey::load(dir, use_)?));
    }
    let path = pem_path(dir, use_);
    let key = SoftKey::from_pem(&read_private(&path)?)
        .map_err(|error| KeyFileError::Unusable { path, problem: format!("is {error}") })?;
    Ok(fast(key))
}

/// The same key through aws-lc-rs where that is faster: Ed25519 signing takes about half the time.
pub fn fast(key: SoftKey) -> Arc<dyn Signer> {
    let pair = key.ed25519_seed().and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&*seed).ok());
    match pair {
        Some(pair)
            if Some(pair.public_key().as_ref())
                == key.public().ed25519_bytes().as_ref().map(|b| b.as_slice()) =>
        {
            Arc::new(FastKey { pair, public: key.public().clone() })
        }
        _ => Arc::new(key),
    }
}

struct FastKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Signer for FastKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.pair
            .sign(message)
            .as_ref()
            .try_into()
            .map_err(|_| KeyError::Signer { what: "a signature has not 64 bytes".into() })
    }
}

fn command_path(dir: &Path, use_: Use) -> PathBuf {
    dir.join(format!("{}.command", use_.as_str()))
}

/// A key that a program holds.
struct CommandKey {
    program: Vec<String>,
    public: PublicKey,
}

impl CommandKey {
    fn load(dir: &Path, use_: Use) -> Result<Self, KeyFileError> {
        let path = command_path(dir, use_);
        let text = read_private(&path)?;
        let program: Vec<String> = serde_json::from_str(&text)
            .ok()
            .filter(|list: &Vec<String>| !list.is_empty())
            .ok_or_else(|| KeyFileError::Unusable {
                path,
                problem: "is not a JSON list of program and arguments".into(),
            })?;
        let path = dir.join(format!("{}.pub.pem", use_.as_str()));
        let text = fs::read_to_string(&path).map_err(file_error(&path))?;
        let public = public_from_pem(&text)
            .ok_or_else(|| KeyFileError::Unusable { path, problem: "is not a public key in PEM".into() })?;
        Ok(Self { program, public })
    }
}

/// Reads a SubjectPublicKeyInfo in PEM.
pub fn public_from_pem(text: &str) -> Option<PublicKey> {
    let body =
        text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let digits: String = body.split_ascii_whitespace().collect();
    PublicKey::from_spki(&from_base64(&digits)?).ok()
}

impl Signer for CommandKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let failed = |what: String| KeyError::Signer { what };
        let (program, arguments) = self.program.split_first().ok_or_else(|| failed("no program".into()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(format!("`{program}` did not start: {error}")))?;
        if let Some(mut input) = child.stdin.take() {
            let line = format!("{}\n", base64(message));
            input
                .write_all(line.as_bytes())
                .map_err(|error| failed(format!("`{program}` takes no input: {error}")))?;
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(format!("`{program}` ended with {}", output.status)));
        }
        std::str::from_utf8(&output.stdout)
            .ok()
            .and_then(|text| from_base64(text.trim()))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| failed(format!("`{program}` did not print a 64-byte signature in base64")))
    }
}

/// Makes a new key of one use in place of the old one, whose file is kept as `<use>-<key id>.pem`.
///
/// # Errors
/// As [`init`]; on error the old key is still in place.
pub fn rotate(dir: &Path, use_: Use, alg: Alg) -> Result<Arc<dyn Signer>, KeyFileError> {
    let old = signer(dir, use_)?;
    let alg = if use_ == Use::Checkpoint { Alg::Ed25519 } else { alg };
    let path = pem_path(dir, use_);
    let fresh = dir.join(format!("{}.new.pem", use_.as_str()));
    write_new(&fresh, &generate(alg)?)?;
    let kept = dir.join(format!("{}-{}.pem", use_.as_str(), &old.public().id().to_string()[..16]));
    fs::hard_link(&path, &kept).map_err(file_error(&kept))?;
    fs::rename(&fresh, &path).map_err(file_error(&path))?;
    crate::storage::sync_folder_of(&path).map_err(file_error(&path))?;
    signer(dir, use_)
}

/// One key as `estoppel keys list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct KeyRow {
    #[serde(rename = "use")]
    pub use_: Use,
    pub alg: Alg,
    pub kid: KeyId,
    pub held: &'static str,
}

/// The keys that are in use.
///
/// # Errors
/// As [`load`].
pub fn list(dir: &Path) -> Result<Vec<KeyRow>, KeyFileError> {
    Use::ALL
        .iter()
        .map(|use_| {
            let signer = signer(dir, *use_)?;
            let held = if command_path(dir, *use_).exists() { "command" } else { "file" };
            Ok(KeyRow { use_: *use_, alg: signer.public().alg(), kid: signer.public().id(), held })
        })
        .collect()
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TrustKey {
    alg: String,
    iss: String,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_from_index: Option<u64>,
    spki: String,
    r#use: String,
}

#[derive(Serialize, Deserialize)]
struct Trust {
    keys: Vec<TrustKey>,
    v: String,
}

/// Adds keys to the journal's trust document (SPEC section 10). Keys that it names already stay.
///
/// # Errors
/// Those of the disk, and a document that cannot be read.
pub(crate) fn trust(dir: &Path, instance: &Instance, keys: &[(Use, &PublicKey)]) -> Result<(), KeyFileError> {
    let path = dir.join("trust.json");
    let mut trust = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| KeyFileError::Unusable {
            path: path.clone(),
            problem: format!("is not a trust document: {error}"),
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Trust { keys: Vec::new(), v: "pef-trust/v0".into() }
        }
        Err(source) => return Err(KeyFileError::File { path, source }),
    };
    let mut changed = false;
    for (use_, key) in keys {
        let row = TrustKey {
            alg: match key.alg() {
                Alg::Ed25519 => "ed25519".into(),
                Alg::P256 => "ecdsa-p256-sha256".into(),
            },
            iss: instance.to_string(),
            kid: key.id().to_string(),
            revoked_from_index: None,
            spki: base64(key.spki()),
            r#use: use_.as_str().into(),
        };
        if !trust
            .keys
            .iter()
            .any(|known| known.kid == row.kid && known.iss == row.iss && known.r#use == row.r#use)
        {
            trust.keys.push(row);
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&trust).unwrap_or_default();
    Files.replace(&path, &bytes).map_err(file_error(&path))
}
