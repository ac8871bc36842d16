//! What operators may know of the journal at any moment.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use estoppel_evidence::Reason;

/// Gauges and counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Slots in use: calls in flight and records that wait.
    pub queue: usize,
    /// Entries of the instance log.
    pub entries: u64,
    /// Runs that are not sealed, the instance's own included.
    pub runs_open: usize,
    /// Records that wait in the spill file.
    pub spilled: u64,
    /// Batches written.
    pub batches: u64,
    /// Entries written in them.
    pub batched: u64,
    /// Microseconds spent in fdatasync.
    pub sync_us: u64,
    /// There is no room for the next segment, and calls are refused until there is.
    pub stalled: bool,
    /// Why calls are refused, if they are.
    pub failed: Option<Reason>,
    /// Size of the newest published checkpoint.
    pub checkpoint_size: u64,
}

/// Shared between the writer and everyone else.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) slots: AtomicUsize,
    pub(crate) entries: AtomicU64,
    pub(crate) spilled: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) batched: AtomicU64,
    pub(crate) sync_us: AtomicU64,
    pub(crate) checkpoint_size: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Fast check for [`Gauges::failure`].
    failing: AtomicBool,
    failure: Mutex<Failure>,
}

#[derive(Debug, Default)]
struct Failure {
    /// Never cleared: the segment is poisoned.
    poisoned: Option<Reason>,
    /// Cleared when there is room again.
    stalled: Option<Reason>,
}

impl Gauges {
    /// Why evidence cannot be written now, if that is so.
    pub(crate) fn failure(&self) -> Option<Reason> {
        if !self.failing.load(Ordering::Acquire) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.poisoned.or(failure.stalled)
    }

    pub(crate) fn poisoned(&self) -> Option<Reason> {
        if !self.failing.load(Ordering::Acquire) {
            return None;
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).poisoned
    }

    pub(crate) fn poison(&self, reason: Reason) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.poisoned.get_or_insert(reason);
        self.failing.store(true, Ordering::Release);
    }

    pub(crate) fn stall(&self, reason: Option<Reason>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.stalled = reason;
        self.failing.store(failure.poisoned.is_some() || failure.stalled.is_some(), Ordering::Release);
    }
}
