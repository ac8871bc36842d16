//! Why there is no pack, or none to rely on.

use crate::pack::{BUNDLES_MAX, PACK_BYTES_MAX, ROWS_MAX, WINDOW_S_MAX};

/// Each has a stable code.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    #[error("not a pack: {0}")]
    Form(String),
    #[error("`{path}` does not verify: {reason}")]
    Bundle { path: String, reason: String },
    #[error("`{path}` is not there")]
    Missing { path: String },
    #[error("`{path}` is not of this pack")]
    Undeclared { path: String },
    #[error("`{path}` is not what the bundles of this pack give")]
    Altered { path: String },
    #[error("entry {seq} of `{path}` refers to the {kind} `{to}`, which is not there")]
    Dangling { path: String, seq: u64, kind: &'static str, to: String },
    #[error("`{path}` is no bundle of the window")]
    Outside { path: String },
    #[error(
        "more than {BUNDLES_MAX} bundles, {ROWS_MAX} entries, {PACK_BYTES_MAX} bytes or {WINDOW_S_MAX} s"
    )]
    Limit,
}

impl IncidentError {
    /// The code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "INCIDENT_FORM",
            Self::Bundle { .. } => "INCIDENT_BUNDLE",
            Self::Missing { .. } => "INCIDENT_MISSING",
            Self::Undeclared { .. } => "INCIDENT_UNDECLARED",
            Self::Altered { .. } => "INCIDENT_ALTERED",
            Self::Dangling { .. } => "INCIDENT_DANGLING",
            Self::Outside { .. } => "INCIDENT_OUTSIDE",
            Self::Limit => "INCIDENT_LIMIT",
        }
    }
}
