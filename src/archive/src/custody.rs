//! Chains of custody, as they are written (`spec/custody.md`).

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::envelope::{STATEMENT_TYPE, Subject, base64, sign, statement};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Alg, KeyId, Leaf, RunId, Sha256, Signer, SoftKey};
use estoppel_journal::KeyFileError;
use estoppel_verify::{
    CUSTODY_BYTES_MAX, CUSTODY_ENTRIES_MAX, CustodyEntry, CustodyFault, CustodyOf, CustodyReason, Hash,
    verify_custody,
};
use serde::{Deserialize, Serialize};

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
    #[error("`{path}` is not the file any more that it was done with", path = path.display())]
    Changed { path: PathBuf },
    #[error("the list does not hold: {0}")]
    Fault(CustodyFault),
    #[error("{what}: must be 1 to {limit} characters, none of them a control")]
    Words { what: &'static str, limit: usize },
    #[error("the list is full: {CUSTODY_BYTES_MAX} bytes or {CUSTODY_ENTRIES_MAX} entries")]
    Limit,
    #[error("key {0} signs evidence of this bundle; a chain of custody needs keys of its own")]
    Shared(KeyId),
    #[error("the key of custody cannot be used")]
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
            Self::Bundle { .. } | Self::Changed { .. } => "CUSTODY_BUNDLE",
            Self::Fault(fault) => fault.reason.code(),
            Self::Words { .. } => "CUSTODY_WORDS",
            Self::Limit => "CUSTODY_LIMIT",
            Self::Shared(_) => "CUSTODY_KEY_SHARED",
            Self::KeyFile(error) => error.reason().code(),
            Self::Key(_) => "CUSTODY_KEY",
        }
    }

    /// Whether what could not be read is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The exit code of a program that ends for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Disk { .. } | Self::Busy { .. } | Self::Key(_) => 1,
            Self::Fault(fault) => fault.reason.exit_code(),
            Self::Changed { .. } => 2,
            Self::Bundle { .. } | Self::Words { .. } | Self::Limit | Self::KeyFile(_) => 6,
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

impl Custodian {
    /// The key signs nothing of the evidence in a bundle.
    fn demand_own(&self, described: &Described) -> Result<(), CustodyError> {
        let kid = self.key.public().id();
        if described.keys.contains(&kid) { Err(CustodyError::Shared(kid)) } else { Ok(()) }
    }
}

/// What a verifier came to.
#[derive(Clone, Copy, Debug)]
pub struct Verdicts<'a> {
    pub anchoring: &'a str,
    pub authenticity: &'a str,
    pub completeness: &'a str,
    pub integrity: &'a str,
    pub reason: Option<&'a str>,
}

impl<'a> Verdicts<'a> {
    fn told(self, found: Option<Sha256>) -> Verified<'a> {
        let Self { anchoring, authenticity, completeness, integrity, reason } = self;
        Verified { anchoring, authenticity, completeness, found, integrity, reason }
    }
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
    /// Nothing since it was sealed, which entry 0 says of every list.
    Sealed,
    Moved {
        from: &'a str,
        to: &'a str,
    },
    Verified(Verdicts<'a>),
    Disclosed {
        to: &'a str,
        what: Disclosed,
        sha256: Option<Sha256>,
    },
    Archived(Copy<'a>),
    /// The file was removed, as a report of retention lists it.
    Deleted {
        /// Of the plan's payload.
        plan: Sha256,
        /// Of the report's envelope.
        report: Sha256,
    },
}

/// What is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    pub action: Action<'a>,
    pub note: Option<&'a str>,
    pub ts: UnixMicros,
    /// Of the file's bytes that it was done with, where they were read.
    pub sha256: Option<Sha256>,
}

impl Done<'_> {
    fn is_verified(&self) -> bool {
        matches!(self.action, Action::Verified(_))
    }

    fn is_deleted(&self) -> bool {
        matches!(self.action, Action::Deleted { .. })
    }
}

/// What a list has now.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    /// Entry hash of what was told, which was its last entry then.
    pub head: Leaf,
    /// Of the file that was verified, where it is not the bundle that the list is of.
    pub found: Option<Sha256>,
}

/// A copy, as the index has it.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a>(pub(crate) &'a At);

#[derive(Serialize)]
struct Deleted {
    plan: Sha256,
    report: Sha256,
}

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
struct Verified<'a> {
    anchoring: &'a str,
    authenticity: &'a str,
    completeness: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Sha256>,
    integrity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Sealed<'a> {
    iss: &'a str,
    manifest: Sha256,
    sealed: UnixMicros,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
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
    deleted: Option<Deleted>,
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
    verified: Option<Verified<'a>>,
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
/// # Errors
/// [`CustodyError`]; the list is then as it was, or has one entry more that is whole.
pub fn append(bundle: &Path, by: &Custodian, done: &Done<'_>) -> Result<Added, CustodyError> {
    check_words(done)?;
    let path = list_path(bundle);
    let described = describe(bundle, by, done)?;
    let (mut list, text) = open(&path)?;
    let entries = entries(&text, &described, by, done)?;
    let looked_at = done.sha256.or(described.as_ref().ok().map(|described| described.sha256));
    let (of, before) = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => (stated(first)?, Ok((entries.len() as u64, Leaf(last.leaf.0)))), // fits
        _ => {
            let described = described?;
            by.demand_own(&described)?;
            (BundleRef { run: described.run, sha256: described.sha256 }, Err(described))
        }
    };
    let found = looked_at.filter(|sha256| *sha256 != of.sha256);
    if found.is_some() && (before.is_err() || !done.is_verified()) {
        return Err(CustodyError::Changed { path: bundle.to_path_buf() });
    }
    if let Action::Archived(Copy(at)) = done.action
        && let Some(known) = entries.iter().find(|entry| is_copy(entry, at))
    {
        return Ok(Added { head: Leaf(known.leaf.0), found: None });
    }
    if let Action::Deleted { report, .. } = done.action
        && let Some(known) = entries.iter().find(|entry| is_deletion(entry, Some(report)))
    {
        return Ok(Added { head: Leaf(known.leaf.0), found: None });
    }
    let public = by.key.public();
    let spki = base64(public.spki());
    let key = Key { alg: public.alg(), kid: public.id(), spki: &spki };
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    let name = estoppel_evidence::text::name(&name).into_owned();
    let subjects = [Subject { name, digest: of.sha256 }];
    let payload = |action| Predicate {
        action,
        actor: &by.actor,
        archived: None,
        bundle: &of,
        deleted: None,
        disclosed: None,
        key: &key,
        moved: None,
        note: None,
        prev: None,
        sealed: None,
        seq: 0,
        ts: done.ts,
        v: "custody/v0",
        verified: None,
    };
    let mut write = |payload: &Predicate<'_>| -> Result<Leaf, CustodyError> {
        let io = |source| CustodyError::Disk { what: "write", path: path.clone(), source };
        let line = sign(STATEMENT_TYPE, &statement(PREDICATE, payload, &subjects), &by.key)?;
        if entries.len() >= CUSTODY_ENTRIES_MAX
            || line.len() > LINE_BYTES_MAX
            || list.bytes() + line.len() as u64 >= CUSTODY_BYTES_MAX
        {
            return Err(CustodyError::Limit);
        }
        list.add(&line).map_err(io)
    };
    let (seq, prev) = match before {
        Ok(before) => before,
        Err(described) => {
            let manifest = Sha256::of(&described.manifest);
            let sealed = Sealed { iss: &described.iss, manifest, sealed: described.sealed };
            (1, write(&Predicate { sealed: Some(sealed), ..payload("sealed") })?)
        }
    };
    let next = |action| Predicate { seq, prev: Some(prev), note: done.note, ..payload(action) };
    let told = match done.action {
        Action::Sealed => return Ok(Added { head: prev, found: None }),
        Action::Moved { from, to } => Predicate { moved: Some(Moved { from, to }), ..next("moved") },
        Action::Verified(verdicts) => Predicate { verified: Some(verdicts.told(found)), ..next("verified") },
        Action::Disclosed { to, what, sha256 } => {
            Predicate { disclosed: Some(DisclosedTo { sha256, to, what }), ..next("disclosed") }
        }
        Action::Archived(Copy(at)) => Predicate { archived: Some(at), ..next("archived") },
        Action::Deleted { plan, report } => {
            Predicate { deleted: Some(Deleted { plan, report }), ..next("deleted") }
        }
    };
    Ok(Added { head: write(&told)?, found })
}

/// Whether an entry could be added to the list of a bundle now. Asked before what cannot be taken back.
///
/// # Errors
/// Those of [`append`].
pub fn check(bundle: &Path, by: &Custodian, done: &Done<'_>) -> Result<(), CustodyError> {
    check_words(done)?;
    let path = list_path(bundle);
    let described = describe(bundle, by, done)?;
    if !path.exists() {
        return Ok(());
    }
    let (_held, text) = open(&path)?;
    match entries(&text, &described, by, done)?.len() {
        CUSTODY_ENTRIES_MAX.. => Err(CustodyError::Limit),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<(List, Vec<u8>), CustodyError> {
    List::open(path, CUSTODY_BYTES_MAX).map_err(|error| match error {
        ListError::Busy => CustodyError::Busy { path: path.to_path_buf() },
        ListError::Limit(_) => CustodyError::Limit,
        ListError::Io(source) => CustodyError::Disk { what: "open", path: path.to_path_buf(), source },
    })
}

/// The bundle, whose evidence the key signs nothing of. Where a list says what it ought to be, what was verified may be anything, and what
/// was deleted need not be there.
fn describe(
    bundle: &Path,
    by: &Custodian,
    done: &Done<'_>,
) -> Result<Result<Described, CustodyError>, CustodyError> {
    let has_list = list_path(bundle).exists();
    let may_be_another = done.is_verified() && has_list;
    let may_be_gone = done.is_deleted() && has_list;
    match Described::of(bundle) {
        Ok(described) if may_be_another => Ok(Ok(described)),
        Ok(described) => by.demand_own(&described).map(|()| Ok(described)),
        Err(error @ CustodyError::Bundle { .. }) if may_be_another => Ok(Err(error)),
        Err(error @ CustodyError::Disk { .. }) if may_be_gone && error.is_absent() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Entries of a list that holds, and is of the bundle.
fn entries(
    text: &[u8],
    described: &Result<Described, CustodyError>,
    by: &Custodian,
    done: &Done<'_>,
) -> Result<Vec<CustodyEntry>, CustodyError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let judge = |bundle| {
        verify_custody(text, &CustodyOf { bundle, ..CustodyOf::default() }).map_err(CustodyError::Fault)
    };
    let file = described.as_ref().ok();
    let bundle = file.map(|described| (Hash(described.sha256.0), described.manifest.as_slice()));
    if !done.is_verified() {
        return judge(bundle);
    }
    // What was verified may be another file.
    let entries = judge(None)?;
    let of = entries.first().map(stated).transpose()?;
    match file.filter(|file| of.is_some_and(|of| of.sha256 == file.sha256)) {
        Some(file) => by.demand_own(file).and_then(|()| judge(bundle)),
        None => Ok(entries),
    }
}

/// Whether an entry says that the bundle was deleted, by that report if one is given.
pub fn is_deletion(entry: &CustodyEntry, report: Option<Sha256>) -> bool {
    #[derive(Deserialize)]
    struct Said {
        predicate: Of,
    }
    #[derive(Deserialize)]
    struct Of {
        deleted: Option<By>,
    }
    #[derive(Deserialize)]
    struct By {
        report: Sha256,
    }
    let said: Option<Said> = serde_json::from_slice(&entry.statement).ok();
    let by = said.and_then(|said| said.predicate.deleted);
    by.is_some_and(|by| report.is_none_or(|report| report == by.report))
}

/// The bundle that an entry says it is of.
fn stated(entry: &CustodyEntry) -> Result<BundleRef, CustodyError> {
    #[derive(Deserialize)]
    struct Said {
        predicate: Of,
    }
    #[derive(Deserialize)]
    struct Of {
        bundle: Ref,
    }
    #[derive(Deserialize)]
    struct Ref {
        run: String,
        sha256: String,
    }
    let said: Option<Said> = serde_json::from_slice(&entry.statement).ok();
    let of = said.and_then(|said| {
        let Ref { run, sha256 } = said.predicate.bundle;
        Some(BundleRef { run: run.parse().ok()?, sha256: Sha256::parse(&sha256)? })
    });
    of.ok_or_else(|| {
        let detail = "it names no bundle".to_owned();
        CustodyError::Fault(CustodyFault { reason: CustodyReason::Schema, entry: Some(0), detail })
    })
}

fn is_copy(entry: &CustodyEntry, at: &At) -> bool {
    entry.archived.as_ref().is_some_and(|known| {
        (&*known.endpoint, &*known.bucket, &*known.version) == (&*at.endpoint, &*at.bucket, &*at.version)
    })
}

fn check_words(done: &Done<'_>) -> Result<(), CustodyError> {
    let said = match done.action {
        Action::Moved { from, to } => vec![("from", from), ("to", to)],
        Action::Disclosed { to, .. } => vec![("to", to)],
        Action::Sealed | Action::Verified(_) | Action::Archived(_) | Action::Deleted { .. } => Vec::new(),
    };
    said.into_iter().try_for_each(|(what, text)| words(what, text, WORDS_CHARS_MAX).map(drop))?;
    done.note.map_or(Ok(()), |note| words("note", note, NOTE_CHARS_MAX).map(drop))
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
