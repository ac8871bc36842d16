//! Retention: what of a journal's content may be deleted, and deleting exactly that.
//!
//! A [`Survey`] reads the whole log and says which run is sealed, when, which receipts name which stored body, and what is under
//! legal hold. A [`Plan`] is a list of files with their digests, made from it by rules. [`delete`] removes what a plan lists and
//! nothing else.
//!
//! Promises: ages are those of signed entries, never of files; a time of a file can only keep it. Of segments only the oldest go, and
//! only once the journal says, signed, that it begins after them ([`beginning`], [`begin`]). What is open, held, not yet in a bundle, or
//! known to no receipt is kept; what is of a name that nothing writes there is kept and named ([`Strangers`]). Every file is reached from the journal's folder without following a link, and removed only after its
//! bytes were found to be those that the plan names.
//! Deleting the same plan again goes on where it ended.
//!
//! Left to others: verifying the journal and the signature of a plan, what was archived, signing, recording what was done, printing.

mod begin;
mod completed;
mod deleted;
mod files;
mod plan;
mod survey;

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::{Instance, Reason};
use serde::{Deserialize, Serialize};

use crate::entries::ReadError;
use crate::error::{JournalError, io_reason};
use crate::journal::instance_of;
use crate::storage::FileSystem;

pub use crate::beginning::Copy;
pub use begin::{begin, beginning};
pub(crate) use completed::Completed;
pub use deleted::Deletion;
pub use files::{Busy, Documents, Kept, check, delete, documents, forget, keep, kept, lock, unfinished};
pub use plan::{OBJECTS_MAX, Object, Plan, PlannedSegment, Reckoned, Rule, SETTLE, STRANGERS_MAX, Strangers};
pub use survey::{LegalHold, Survey, SurveyedRun};

/// What is kept for a time of its own.
#[derive(Clone, std::marker::Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Stored bodies, by digest. Their age is that of the newest receipt that names them.
    Bodies,
    /// Bundles of sealed runs, with what is kept beside them. Their age is that of the seal.
    Bundles,
    /// The oldest segments, once their content is archived and nothing else here needs them. Their age is that of their newest entry.
    Segments,
}

/// Why nothing was planned, or nothing more was deleted.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error("`{path}` is no plain file or folder, and nothing is deleted while it is there")]
    Path { path: PathBuf },
    #[error("could not {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the journal could not be read")]
    Read(#[from] ReadError),
    #[error("an entry of the journal could not be read")]
    Entry(#[source] serde_json::Error),
    #[error("where the journal begins could not be said")]
    Begin(#[from] JournalError),
    #[error("the plan cannot be read")]
    Plan(#[source] serde_json::Error),
    #[error("`{path}` was planned to be deleted and may not be any more: {why}")]
    Stale { path: String, why: &'static str },
}

/// The instance that the journal in `dir` belongs to.
///
/// # Errors
/// [`JournalError`].
pub fn instance(dir: &Path) -> Result<Instance, JournalError> {
    instance_of(&FileSystem, dir)
}

impl RetentionError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Path { .. } => Reason::RetentionPath,
            Self::Io { source, .. } => io_reason(source),
            Self::Read(error) => error.reason(),
            Self::Begin(error) => error.reason(),
            Self::Entry(_) => Reason::JournalCorrupt,
            Self::Plan(_) | Self::Stale { .. } => Reason::RetentionStale,
        }
    }

    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
