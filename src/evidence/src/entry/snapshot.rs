//! What a database looked like around a call (`snapshot` of the receipt, `spec/snapshot.md`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash::Sha256;
use crate::reason::Reason;

/// What is known of a database around a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// How far a replica was behind, the worse of both sides. None where it was none.
    pub lag_bytes: Option<u64>,
    /// None where none was due: nothing was sent, or nothing is known of before.
    pub post: Option<SnapshotSide>,
    pub pre: Option<SnapshotSide>,
    /// The database's name in the configuration.
    pub source: Arc<str>,
    /// How many rows of declared tables named the call after it. Empty where none are declared, or none could be counted.
    #[serde(default)]
    pub writes: Vec<TableWrites>,
}

/// How many rows of a table name a call (`ext.writes`). Members in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableWrites {
    /// Why they could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<str>>,
    /// From what of the session the database writes down the call, where writers do not do so themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    /// There are more than `rows`, which were not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// None where there is a `cause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// `schema.table`.
    pub table: Box<str>,
}

/// What of it is the receipt's member. Members in the order of their names.
#[derive(Serialize)]
pub(super) struct SnapshotDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    post: Option<&'a SnapshotSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pre: Option<&'a SnapshotSide>,
    source: &'a str,
}

impl SnapshotRecord {
    pub(super) fn document(&self) -> SnapshotDocument<'_> {
        SnapshotDocument { post: self.post.as_ref(), pre: self.pre.as_ref(), source: &self.source }
    }

    /// A replica was so far behind.
    pub fn add_lag(&mut self, lag_bytes: Option<u64>) {
        self.lag_bytes = self.lag_bytes.max(lag_bytes);
    }
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
