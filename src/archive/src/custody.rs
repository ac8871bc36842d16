//! Chains of custody, as they are written (`spec/custody.md`).

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::envelope::{STATEMENT_TYPE, Subject, base64, sign, statement};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Alg, KeyId, Leaf, RunId, Sha256, Signer, SoftKey};
use estoppel_journal::KeyFileError;
use estoppel_verify::{CUSTODY_BYTES_MAX, CustodyEntry, CustodyFault, CustodyOf, Hash, verify_custody};
use serde::Serialize;

use crate::find::custody_name;
use crate::index::At;
use crate::list::{List, ListError};
use crate::settings::CustodySettings;

const PREDICATE: &str = "urn:estoppel:custody:v0";
/// Most characters of a word, and of a note.
const WORDS_CHARS_MAX: usize = 256;
const NOTE_CHARS_MAX: usize = 1_024;
const LINE_BYTES_MAX: usize = 16_384;

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error("could not {what} `{path}`", path = path.display())]
    Disk { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is in use by another process", path = path.display())]
    Busy { path: PathBuf },
    #[error("`{path}` is not a bundle: {why}", path = path.display())]
    Bundle { path: PathBuf, why: String },
    #[error("the list does not hold: {0}")]
    Fault(CustodyFault),
    #[error("{what}: must be 1 to {limit} characters, none of them a control")]
    Words { what: &'static str, limit: usize },
    #[error("the list is full: {limit} bytes")]
    Limit { limit: u64 },
    #[error("key {0} signs evidence of this bundle; a chain of custody needs keys of its own")]
    Shared(KeyId),
    #[error("the key cannot be read: {0}")]
    KeyFile(#[from] KeyFileError),
    #[error("the key did not sign")]
    Key(#[from] KeyError),
}

impl CustodyError {
    /// The code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "CUSTODY_DISK",
            Self::Busy { .. } => "CUSTODY_BUSY",
            Self::Bundle { .. } => "CUSTODY_BUNDLE",
            Self::Fault(fault) => fault.reason.code(),
            Self::Words { .. } => "CUSTODY_WORDS",
            Self::Limit { .. } => "CUSTODY_LIMIT",
            Self::Shared(_) => "CUSTODY_KEY_SHARED",
            Self::KeyFile(error) => error.reason().code(),
            Self::Key(_) => "CUSTODY_KEY",
        }
    }

    /// The exit code of a program that ends for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Disk { .. } | Self::Busy { .. } | Self::Key(_) => 1,
            Self::Fault(fault) => fault.reason.exit_code(),
            Self::Bundle { .. } | Self::Words { .. } | Self::Limit { .. } | Self::KeyFile(_) => 6,
            Self::Shared(_) => 8,
        }
    }
}

/// Whose hand it is.
pub struct Custodian {
    actor: String,
    key: SoftKey,
}

impl Custodian {
    /// Reads the key, from a file that only its owner can read.
    ///
    /// # Errors
    /// [`CustodyError::KeyFile`], [`CustodyError::Words`].
    pub fn load(settings: &CustodySettings) -> Result<Self, CustodyError> {
        let actor = words("actor", &settings.actor, WORDS_CHARS_MAX)?.to_owned();
        Ok(Self { actor, key: estoppel_journal::keys::load_certifier(&settings.key)? })
    }
}

/// What a verifier came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verdicts<'a> {
    pub anchoring: &'a str,
    pub authenticity: &'a str,
    pub completeness: &'a str,
    pub integrity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// What was given away: the bundle, or a key that opens a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Disclosed {
    Bundle,
    Call,
    Events,
    Run,
}

/// What was done with a bundle.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    Moved { from: &'a str, to: &'a str },
    Verified(Verdicts<'a>),
    Disclosed { to: &'a str, what: Disclosed, sha256: Option<Sha256> },
    Archived(Copy<'a>),
}

/// A copy, as the index has it.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a>(pub(crate) &'a At);

#[derive(Serialize)]
struct Moved<'a> {
    from: &'a str,
    to: &'a str,
}

#[derive(Serialize)]
struct DisclosedTo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    to: &'a str,
    what: Disclosed,
}

#[derive(Serialize)]
struct Sealed<'a> {
    iss: &'a str,
    manifest: Sha256,
    sealed: UnixMicros,
}

#[derive(Serialize)]
struct BundleRef {
    run: RunId,
    sha256: Sha256,
}

#[derive(Serialize)]
struct Key<'a> {
    alg: Alg,
    kid: KeyId,
    spki: &'a str,
}

#[derive(Serialize)]
struct Predicate<'a> {
    action: &'static str,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<&'a At>,
    bundle: &'a BundleRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    disclosed: Option<DisclosedTo<'a>>,
    key: &'a Key<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<Moved<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed<'a>>,
    seq: u64,
    ts: UnixMicros,
    v: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verdicts<'a>>,
}

/// The path of a bundle's list.
pub fn list_path(bundle: &Path) -> PathBuf {
    bundle.with_file_name(custody_name(&bundle.file_name().unwrap_or_default().to_string_lossy()))
}

/// A bundle's digest and its manifest.
pub struct Described {
    pub sha256: Sha256,
    pub manifest: Vec<u8>,
    run: RunId,
    iss: String,
    sealed: UnixMicros,
    keys: Vec<KeyId>,
}

impl Described {
    /// Of the bundle in a file.
    ///
    /// # Errors
    /// [`CustodyError::Bundle`], [`CustodyError::Disk`].
    pub fn of(path: &Path) -> Result<Self, CustodyError> {
        let io = |source| CustodyError::Disk { what: "read", path: path.to_path_buf(), source };
        let (_, sha256) = crate::upload::digest(path).map_err(io)?;
        let file = std::fs::File::open(path).map_err(io)?;
        let opened = estoppel_bundle::Bundle::from_zip(OnDisk(file))
            .map_err(|error| CustodyError::Bundle { path: path.to_path_buf(), why: error.to_string() })?;
        let manifest = opened.manifest();
        Ok(Self {
            sha256,
            run: manifest.run,
            iss: manifest.iss.to_string(),
            sealed: manifest.sealed,
            keys: manifest.keys.iter().map(|row| row.kid).collect(),
            manifest: manifest.to_bytes(),
        })
    }
}

struct OnDisk(std::fs::File);

impl estoppel_bundle::ReadAt for OnDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset)
    }
}

/// Adds to the list of a bundle, which is begun if there is none, and makes it durable. What was archived is not told twice.
///
/// Gives the list's last entry hash.
///
/// # Errors
/// [`CustodyError`]; the list is then as it was, or has one entry more that is whole.
pub fn append(
    bundle: &Path,
    by: &Custodian,
    action: Action<'_>,
    note: Option<&str>,
    ts: UnixMicros,
) -> Result<String, CustodyError> {
    check_words(&action, note)?;
    let described = Described::of(bundle)?;
    let public = by.key.public();
    if described.keys.contains(&public.id()) {
        return Err(CustodyError::Shared(public.id()));
    }
    let path = list_path(bundle);
    let (mut list, text) = List::open(&path, CUSTODY_BYTES_MAX).map_err(|error| match error {
        ListError::Busy => CustodyError::Busy { path: path.clone() },
        ListError::Limit(limit) => CustodyError::Limit { limit },
        ListError::Io(source) => CustodyError::Disk { what: "open", path: path.clone(), source },
    })?;
    let entries = match text.is_empty() {
        true => Vec::new(),
        false => {
            let bundle = Some((Hash(described.sha256.0), described.manifest.as_slice()));
            verify_custody(&text, &CustodyOf { bundle, ..CustodyOf::default() })
                .map_err(CustodyError::Fault)?
        }
    };
    if let Action::Archived(Copy(at)) = action
        && let Some(known) = entries.iter().find(|entry| is_copy(entry, at))
    {
        return Ok(format!("leaf:{}", known.leaf.hex()));
    }
    let spki = base64(public.spki());
    let key = Key { alg: public.alg(), kid: public.id(), spki: &spki };
    let of = BundleRef { run: described.run, sha256: described.sha256 };
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let name = estoppel_evidence::text::name(&name).into_owned();
    let subjects = [Subject { name, digest: described.sha256 }];
    let payload = |action| Predicate {
        action,
        actor: &by.actor,
        archived: None,
        bundle: &of,
        disclosed: None,
        key: &key,
        moved: None,
        note: None,
        prev: None,
        sealed: None,
        seq: 0,
        ts,
        v: "custody/v0",
        verified: None,
    };
    let mut write = |payload: &Predicate<'_>| -> Result<Leaf, CustodyError> {
        let io = |source| CustodyError::Disk { what: "write", path: path.clone(), source };
        let line = sign(STATEMENT_TYPE, &statement(PREDICATE, payload, &subjects), &by.key)?;
        if line.len() > LINE_BYTES_MAX || list.bytes() + line.len() as u64 >= CUSTODY_BYTES_MAX {
            return Err(CustodyError::Limit { limit: CUSTODY_BYTES_MAX });
        }
        list.add(&line).map_err(io)
    };
    let (seq, prev) = match entries.last() {
        Some(last) => (entries.len() as u64, Leaf(last.leaf.0)),
        None => {
            let manifest = Sha256::of(&described.manifest);
            let sealed = Sealed { iss: &described.iss, manifest, sealed: described.sealed };
            (1, write(&Predicate { sealed: Some(sealed), ..payload("sealed") })?)
        }
    };
    let next = |action| Predicate { seq, prev: Some(prev), note, ..payload(action) };
    let done = match action {
        Action::Moved { from, to } => Predicate { moved: Some(Moved { from, to }), ..next("moved") },
        Action::Verified(verdicts) => Predicate { verified: Some(verdicts), ..next("verified") },
        Action::Disclosed { to, what, sha256 } => {
            Predicate { disclosed: Some(DisclosedTo { sha256, to, what }), ..next("disclosed") }
        }
        Action::Archived(Copy(at)) => Predicate { archived: Some(at), ..next("archived") },
    };
    write(&done).map(|leaf| leaf.to_string())
}

fn is_copy(entry: &CustodyEntry, at: &At) -> bool {
    entry.archived.as_ref().is_some_and(|known| {
        (&*known.endpoint, &*known.bucket, &*known.version) == (&*at.endpoint, &*at.bucket, &*at.version)
    })
}

fn check_words(action: &Action<'_>, note: Option<&str>) -> Result<(), CustodyError> {
    let said = match action {
        Action::Moved { from, to } => vec![("from", *from), ("to", *to)],
        Action::Disclosed { to, .. } => vec![("to", *to)],
        Action::Verified(_) | Action::Archived(_) => Vec::new(),
    };
    said.into_iter().try_for_each(|(what, text)| words(what, text, WORDS_CHARS_MAX).map(drop))?;
    note.map_or(Ok(()), |note| words("note", note, NOTE_CHARS_MAX).map(drop))
}

/// Text that an entry can hold as it is.
fn words<'t>(what: &'static str, text: &'t str, limit: usize) -> Result<&'t str, CustodyError> {
    let is_short = (1..=limit).contains(&text.chars().count());
    if is_short && estoppel_evidence::text::is_fit(text) {
        Ok(text)
    } else {
        Err(CustodyError::Words { what, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_neither_empty_nor_long_nor_hidden() {
        for text in ["ada", "Zoë \u{1f600}", &"a".repeat(256)] {
            assert!(words("to", text, WORDS_CHARS_MAX).is_ok(), "{text}");
        }
        for text in ["", "a\nb", "a\u{7f}", "\u{fffe}", "\u{fdd0}", &"a".repeat(257)] {
            assert!(words("to", text, WORDS_CHARS_MAX).is_err(), "{text:?}");
        }
    }
}
