//! The spill file: records that found no slot in the queue, durable until the journal takes them.

use estoppel_evidence::CallId;

use crate::admit::{AckError, Item};

/// Most bytes that one record takes in the spill file: a receipt with the most stream nodes that there may be, and its
/// intent.
pub const RECORD_BYTES_MAX: u64 = (2 << 20) + (256 << 10);

/// What makes a spilled record recognizable among entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SpillKey {
    kind: u8,
    call: CallId,
    attempt: u32,
}

impl SpillKey {
    /// The key of an entry; none for kinds that are never spilled.
    pub fn of_line(kind: &str, call: Option<CallId>, attempt: Option<u32>) -> Option<Self> {
        let (kind, attempt) = match kind {
            "call" => (0, attempt?),
            "intent" => (1, 0),
            "interrupted" => (2, 0),
            _ => return None,
        };
        Some(Self { kind, call: call?, attempt })
    }
}

pub(crate) struct Spill;

impl Spill {
    pub fn reserve(&self) -> bool {
        false
    }

    pub fn release(&self) {}

    pub fn gauges(&self) -> (u64, u64) {
        (0, 0)
    }

    pub fn push(&self, item: Item) -> Result<u64, (Item, AckError)> {
        Err((item, AckError::Failed))
    }
}
