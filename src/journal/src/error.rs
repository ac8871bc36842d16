//! Why a journal could not be opened, closed or written to from outside the call path.

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::{KeyId, Reason, RunId};

use crate::checkpoint::StoreError;
use crate::keys::KeyFileError;
use crate::storage::is_full;
use crate::trust::TrustFull;

/// Why a journal could not be opened. Nothing was changed in it unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{what}")]
    Settings { what: String },
    #[error("another process writes the journal `{path}`")]
    Locked { path: PathBuf },
    #[error("could not {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "`{path}` is damaged at offset {offset}, entry {index}: {what}; the file was left as it is, restore it from a copy"
    )]
    Corrupt { path: PathBuf, offset: u64, index: u64, what: String },
    #[error(
        "the journal's tail is torn after entry {entries}, below the checkpoint of {signed} entries that was published; \
         restore it from a copy"
    )]
    TornBelow { entries: u64, signed: u64 },
    #[error("the journal belongs to `{found}`, not to `{wanted}`; give each instance a folder of its own")]
    Instance { found: String, wanted: String },
    #[error(
        "the journal has {entries} entries, but a checkpoint of {signed} was published in `{path}`; it was rolled back or \
         cut, restore the newer one"
    )]
    Rollback { entries: u64, signed: u64, path: PathBuf },
    #[error("the journal's first {signed} entries are not those that the checkpoint in `{path}` signs")]
    Fork { signed: u64, path: PathBuf },
    #[error("`{path}` is not a checkpoint of this journal")]
    Checkpoint { path: PathBuf },
    #[error(
        "run {run} is signed with key {wanted}, and neither that key nor a recorded rotation away from it is there"
    )]
    KeyMissing { run: RunId, wanted: KeyId },
    #[error("`{path}` is damaged: {what}; move it away to start without the records in it")]
    Spill { path: PathBuf, what: String },
    #[error("`{path}` does not say where this journal begins: {what}")]
    Beginning { path: PathBuf, what: &'static str },
    #[error("`{path}` is not a trust document")]
    Trust { path: PathBuf },
    #[error(transparent)]
    TrustFull(#[from] TrustFull),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error("the journal failed while it was opened: {what}")]
    Failed { what: String },
}

impl JournalError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }

    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Settings { .. } | Self::Instance { .. } => Reason::ConfigInvalid,
            Self::Locked { .. } => Reason::JournalLocked,
            Self::Io { source, .. } => io_reason(source),
            Self::Corrupt { .. }
            | Self::TornBelow { .. }
            | Self::Checkpoint { .. }
            | Self::Beginning { .. }
            | Self::Spill { .. }
            | Self::Trust { .. } => Reason::JournalCorrupt,
            Self::Rollback { .. } => Reason::JournalRollback,
            Self::Fork { .. } => Reason::JournalFork,
            Self::KeyMissing { .. } | Self::TrustFull(_) => Reason::KeyInvalid,
            Self::Keys(error) => error.reason(),
            Self::Failed { .. } => Reason::EvidenceFailed,
        }
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { path } => Self::Locked { path },
            StoreError::Malformed { path, .. } => Self::Checkpoint { path },
            StoreError::Io { what, path, source } => Self::Io { what, path, source },
        }
    }
}

/// What a failed operation on our own files is called.
pub(crate) fn io_reason(error: &io::Error) -> Reason {
    match error.kind() {
        _ if is_full(error) => Reason::DiskFull,
        io::ErrorKind::NotFound => Reason::DirectoryMissing,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Reason::DirectoryReadOnly,
        _ => Reason::DiskFailed,
    }
}

/// Why a journal did not close as it should. It is closed all the same.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("evidence could not be written: {what}")]
    Failed { reason: Reason, what: String },
    #[error(
        "the writer did not end in time; records that were not durable yet may be lost, and were not acknowledged"
    )]
    Late,
}

impl CloseError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Failed { reason, .. } => *reason,
            Self::Late => Reason::EvidenceLate,
        }
    }
}

/// Why a policy document was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StorePolicyError {
    #[error("the policy document is not the one that its hash names")]
    Digest,
    #[error("could not write the policy document")]
    Io(#[source] io::Error),
}

impl StorePolicyError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Digest => Reason::PolicyInvalid,
            Self::Io(error) => io_reason(error),
        }
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
