//! What the journal counts about itself, for metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use estoppel_evidence::Reason;

use crate::encryption::BodyKeyStats;

/// One reading of the journal's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Nothing is recorded, because the configuration says so.
    pub off: bool,
    /// Records that wait to be written.
    pub queue: usize,
    /// Slots that are taken: calls in flight and records on their way to the disk.
    pub slots: usize,
    /// Entries of the instance log.
    pub entries: u64,
    /// Bytes of frames written since the start.
    pub bytes: u64,
    /// Batches written since the start.
    pub batches: u64,
    /// Entries in those batches.
    pub batch_entries: u64,
    /// Time spent in fdatasync since the start.
    pub sync_us: u64,
    /// Calls of fdatasync since the start.
    pub syncs: u64,
    /// Longest fdatasync since the start.
    pub sync_us_max: u64,
    /// Processor time of the writer thread since the start.
    pub writer_cpu_us: u64,
    /// Records that wait in the spill file.
    pub spilled: u64,
    /// Bytes of the spill file that are taken or set aside.
    pub spill_bytes: u64,
    /// Calls that were refused because queue and spill were full, since the start.
    pub refused: u64,
    /// Runs that are not sealed.
    pub runs_open: usize,
    /// Bundles written since the start.
    pub bundles: u64,
    /// Bundles that could not be written since the start; sealing such a run again writes its bundle.
    pub bundles_failed: u64,
    /// Size of the newest published checkpoint.
    pub checkpoint_size: u64,
    /// Checkpoints that could not be signed, stored elsewhere or published since the start.
    pub checkpoints_failed: u64,
    /// The next segment cannot be made because the disk is full; the writer waits.
    pub stalled: bool,
    /// Why nothing can be recorded any more, if that is so.
    pub failed: Option<Reason>,
    /// How the keys of stored bodies are; none where these are not encrypted.
    pub body_keys: Option<BodyKeyStats>,
}

/// The counters behind [`Stats`]. Each is written by one thread or is a plain sum.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
    pub batches: AtomicU64,
    pub batch_entries: AtomicU64,
    pub sync_us: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_us_max: AtomicU64,
    pub writer_cpu_us: AtomicU64,
    pub refused: AtomicU64,
    pub bundles: AtomicU64,
    pub bundles_failed: AtomicU64,
    pub checkpoint_size: AtomicU64,
    pub checkpoints_failed: AtomicU64,
    pub stalled: AtomicUsize,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicU64, n: u64) {
    gauge.store(n, Ordering::Relaxed);
}

/// Reads a counter.
pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
