//! Sealing: a run's entries are read back and gathered into its bundle.

use std::path::PathBuf;

use serde::Serialize;

use estoppel_evidence::entry::SealReason;
use estoppel_evidence::{Reason, Root, RunId, Sha256};

use crate::admit::AckError;

/// A sealed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// The bundle file.
    pub path: PathBuf,
    pub run: RunId,
    /// Root of the run tree with the seal.
    pub root: Root,
    /// Entries with the seal.
    pub entries: u64,
    /// Log index of the seal.
    pub index: u64,
    pub reason: SealReason,
    /// SHA-256 of the bundle's manifest, which names its content.
    pub manifest: Sha256,
}

/// Why a run was not sealed or its bundle not written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("no open run has that name or id")]
    Unknown,
    #[error("calls of the run are still in flight; try again when they have ended")]
    Busy,
    #[error("the run is recorded as sealed, but {0}")]
    Journal(#[source] AckError),
}

impl SealError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown => Reason::RunUnknown,
            Self::Busy => Reason::RunBusy,
            Self::Journal(error) => error.reason(),
        }
    }
}
