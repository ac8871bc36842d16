//! What can go wrong, one enum per family of operations.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use estoppel_evidence::Reason;

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No slot is free.
    Full {
        /// When to try again.
        retry_after: Duration,
    },
    /// Evidence cannot be written.
    Failed(Reason),
    /// The journal is being closed.
    Closed,
}

impl Refused {
    /// The stable code.
    pub fn reason(self) -> Reason {
        match self {
            Self::Full { .. } => Reason::EvidenceFull,
            Self::Failed(_) => Reason::EvidenceFailed,
            Self::Closed => Reason::Shutdown,
        }
    }
}

/// Why a journal could not be opened or closed, or lost its disk.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("there is no folder `{path}` to put the journal in; make it, or name another as `journal.dir`", path = .0.display())]
    Parent(PathBuf),
    #[error("cannot write in `{path}`: {source}", path = .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("another process writes the journal in `{path}`; stop it, or give this one a folder of its own", path = .0.display())]
    Locked(PathBuf),
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the journal is damaged at log index {index} in `{path}`: {problem}; nothing was changed, keep the folder and start a new epoch", path = .path.display())]
    Corrupt { path: PathBuf, index: u64, problem: String },
    #[error(
        "the journal has {entries} entries, but a checkpoint over {published} was published: it was cut or rolled back; nothing was changed"
    )]
    Rollback { entries: u64, published: u64 },
    #[error(
        "the journal does not agree with the published checkpoint at size {size}: it was rewritten; nothing was changed"
    )]
    Fork { size: u64 },
    #[error("the journal in `{path}` belongs to instance `{found}`, not `{wanted}`", path = .path.display())]
    Instance { path: PathBuf, found: String, wanted: String },
    #[error(transparent)]
    Key(#[from] crate::keys::KeyFileError),
    #[error("evidence could not be written: {0}")]
    Failed(Reason),
    #[error("the writer did not end in time")]
    Stuck,
}

impl JournalError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Parent(_) => Reason::DirectoryMissing,
            Self::Folder { source, .. } => disk_reason(source),
            Self::Locked(_) => Reason::JournalLocked,
            Self::Read { .. } => Reason::FileUnreadable,
            Self::Corrupt { .. } => Reason::JournalCorrupt,
            Self::Rollback { .. } => Reason::JournalRollback,
            Self::Fork { .. } => Reason::JournalFork,
            Self::Instance { .. } => Reason::ConfigInvalid,
            Self::Key(error) => error.reason(),
            Self::Failed(reason) => *reason,
            Self::Stuck => Reason::EvidenceLate,
        }
    }
}

/// Why a run was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("there is no open run `{0}`")]
    Unknown(String),
    #[error("calls of run `{0}` are still in flight")]
    Busy(String),
    #[error(
        "the run is sealed, but its bundle could not be written: {0}; it will be written at the next start"
    )]
    Bundle(String),
    #[error("evidence cannot be written: {0}")]
    Failed(Reason),
}

impl SealError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) => Reason::RunUnknown,
            Self::Busy(_) => Reason::RunBusy,
            Self::Bundle(_) => Reason::DiskFailed,
            Self::Failed(reason) => *reason,
        }
    }
}

/// What a disk error means.
pub(crate) fn disk_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Reason::DirectoryReadOnly,
        io::ErrorKind::NotFound => Reason::DirectoryMissing,
        _ => Reason::DiskFailed,
    }
}
