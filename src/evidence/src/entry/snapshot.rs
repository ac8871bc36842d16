//! What a database looked like around a call (`snapshot` of the receipt, `spec/snapshot.md`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash::Sha256;
use crate::reason::Reason;

/// Members in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// None where none was due: nothing was sent, or nothing is known of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<SnapshotSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<SnapshotSide>,
    /// The database's name in the configuration.
    pub source: Arc<str>,
}

/// One snapshot, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSide {
    /// What is wrong or missing, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Reason>,
    /// Digest of the schema document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
    /// Where the log of writes was: before it, of the snapshot before a call; after it, of the one after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<Box<str>>,
}

impl SnapshotSide {
    /// There is none, because of `code`.
    pub fn none(code: Reason) -> Self {
        Self { code: Some(code), ..Self::default() }
    }
}
