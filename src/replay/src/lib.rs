//! Recorded calls run again, and what came of it as a signed certificate (`spec/replay.md`).
//!
//! - [`serve::Server`] is a stub upstream that answers a client, which runs again, with the recorded bytes.
//! - [`judge::judge`] puts the recorded bytes through the judge again, without a client and without a network.
//! - [`database::replay`] runs recorded SQL in a scratch schema of a database, of which nothing stays.
//! - [`live::replay`] makes recorded calls of allowed tools again, by a client that the caller brings.
//! - [`Classes`] says of a call by which tolerances it is compared, if by any.
//! - All count in a [`Tally`], from which [`certificate::Certificate`] takes its status.
//!
//! Promised: nothing here can connect to an upstream, and [`Connections`] counts whether the process did all the same (a database is
//! connected to by `estoppel-snapshot`, where one is named); a step that could not
//! be replayed is never counted as matched; a request is answered by its own step, once, or not at all.
//!
//! Left to others: files, clocks, signals, printing; judging whether the bundle is genuine (`estoppel-verify`).

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

pub mod certificate;
pub mod database;
pub mod judge;
pub mod live;
pub mod serve;

mod classes;
mod code;
mod connections;
mod difference;
mod exact;
mod messages;
mod normalize;
mod step;
mod stored;
mod tally;
mod tolerance;

use std::collections::BTreeSet;

use database::SqlSource;
use estoppel_snapshot::ScratchError;

pub use certificate::{Certificate, CertifyError};
pub use classes::Classes;
pub use code::Code;
pub use connections::Connections;
pub use normalize::{Normalizers, NormalizersError};
pub use tally::{Counts, Divergence, Matching, Status, Tally};
pub use tolerance::{Beyond, Part};

/// Why a replay did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the bundle cannot be read")]
    Bundle(#[from] estoppel_bundle::OpenError),
    #[error("the run has more than {STEPS_MAX} calls")]
    Steps,
    #[error("more than {} calls bring a statement", database::STATEMENTS_MAX)]
    Statements,
    #[error("no call of the run is of `{wanted}`{}", called(.there))]
    Source { wanted: Box<SqlSource>, there: BTreeSet<String> },
    #[error("the schema document in the bundle cannot be used")]
    Schema(#[from] estoppel_snapshot::SchemaError),
    #[error("the statements could not be run")]
    Scratch(#[from] estoppel_snapshot::ScratchError),
    #[error("the sockets of this process cannot be listed, so nobody could say that none leads away")]
    Connections(#[source] std::io::Error),
}

impl ReplayError {
    /// The reason for machines.
    pub fn reason(&self) -> estoppel_evidence::Reason {
        match self {
            Self::Bundle(error) => error.reason(),
            Self::Steps | Self::Statements | Self::Source { .. } => {
                estoppel_evidence::Reason::ArgumentInvalid
            }
            Self::Schema(_) => estoppel_evidence::Reason::FileUnreadable,
            Self::Scratch(
                ScratchError::Role(_) | ScratchError::Objects(_) | ScratchError::Namespace { .. },
            ) => estoppel_evidence::Reason::ArgumentInvalid,
            Self::Scratch(_) | Self::Connections(_) => estoppel_evidence::Reason::DependencyMissing,
        }
    }
}

/// Most names that [`ReplayError::Source`] lists.
const CALLED_MAX: usize = 20;

fn called(there: &BTreeSet<String>) -> String {
    let names: Vec<_> = there.iter().take(CALLED_MAX).map(|name| format!("`{name}`")).collect();
    match (names.is_empty(), there.len() > CALLED_MAX) {
        (true, _) => "; none names a tool or an operation".to_owned(),
        (false, false) => format!("; there are {}", names.join(", ")),
        (false, true) => format!("; there are {} and others", names.join(", ")),
    }
}

/// Most steps of one replay that are served.
pub const STEPS_MAX: usize = 1_000_000;
