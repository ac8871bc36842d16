//! Entries: the lines of a run (SPEC section 4), written by types whose fields stand in canonical order.
//!
//! A line is made in one pass from structs by `line.rs`; a property test holds it against the general
//! canonicalizer. Content comes as records that know nothing of chains; [`Link`] adds what the chain gives.

mod call;
mod detection;
mod event;
mod line;
mod shadow;
mod snapshot;

pub use call::{
    ApprovalRecord, BodyMode, CallRecord, Captured, Claims, ClientEnd, ContractRef, ContractSource,
    Downgrade, EDITS_MAX, Edit, Evaluated, Facts, Held, HoldOutcome, HoldRecord, IdempotencyDecision,
    IdempotencyRecord, Identity, IdentityDetails, IdentityKind, Judged, LimitRecord, LimitState, Looked,
    Outcome, PolicyRef, Reask, Repair, RequestSide, ResponseSide, Storage, StreamRecord, Threat, Times,
    TraceContext, Usage, VerdictAction, VerdictMode, VerdictRecord,
};
pub use detection::{CLASSES_MAX, Detection, DetectorOutcome, DetectorRun, FINDINGS_MAX, Finding};
pub use event::{
    Act, Approval, ApprovalDecision, ApprovalStatement, Build, Bypass, BypassSource, Counters, Durability,
    Event, Gap, Hold, HoldOf, Intent, Interrupted, JournalRecover, KeyRotate, LateSnapshot, PolicyLoad,
    RunClass, RunOpen, RunSeal, SealReason, Sign,
};
pub use shadow::{SHADOWS_MAX, ShadowRecord, ShadowState};
pub use snapshot::{SnapshotRecord, SnapshotSide, TableWrites};

use serde::Serialize;

use crate::hash::Leaf;
use crate::id::{Instance, RunId};
use crate::key::KeyId;
use crate::time::UnixMicros;

/// Longest line without its LF, in bytes (SPEC section 4).
pub const LINE_BYTES_MAX: usize = 16_384;
/// Largest integer of an entry (SPEC section 1). A larger count is written as this.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// The format's name in every entry.
pub const VERSION: &str = "pef/v0";

/// What the chain gives an entry.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    /// The instance that writes.
    pub iss: &'a Instance,
    /// The receipt key that signs this entry.
    pub kid: KeyId,
    /// The run.
    pub run: RunId,
    /// Position in the run.
    pub seq: u64,
    /// Entry hash of the one before; none at 0.
    pub prev: Option<Leaf>,
    /// Wall clock.
    pub ts: UnixMicros,
    /// Microseconds since `run.open`, never decreasing.
    pub mono_us: u64,
}

/// A line would be longer than [`LINE_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entry is {bytes} bytes long, limit {LINE_BYTES_MAX}")]
pub struct LineTooLong {
    /// Its length.
    pub bytes: usize,
}

fn write_line<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), LineTooLong> {
    out.clear();
    line::write(out, value).expect("entries hold strings, integers, booleans and lists of them");
    match out.len() {
        bytes if bytes > LINE_BYTES_MAX => Err(LineTooLong { bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
