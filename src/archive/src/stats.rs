//! What the archive counts, as Prometheus takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use estoppel_journal::Clock;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};

/// The metrics of the archive. Cloning gives another handle.
#[derive(Clone)]
pub struct ArchiveMetrics {
    clock: Arc<dyn Clock>,
    /// When the oldest file was written that waits, microseconds; 0 when none does.
    oldest_us: Arc<AtomicU64>,
    files: IntCounterVec,
    bytes: IntCounter,
    failures: IntCounter,
    waiting: IntGauge,
    lag: IntGauge,
    success: IntGauge,
}

impl ArchiveMetrics {
    /// A fresh set; register it with the registry that is scraped.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("the name is valid");
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("the name is valid");
        let files = Opts::new("estoppel_archive_files_total", "Files whose copy was confirmed.");
        Self {
            clock,
            oldest_us: Arc::default(),
            files: IntCounterVec::new(files, &["kind"]).expect("the name and the label are valid"),
            bytes: counter("estoppel_archive_bytes_total", "Bytes of files whose copy was confirmed."),
            failures: counter("estoppel_archive_failures_total", "Files and passes that failed."),
            waiting: gauge("estoppel_archive_waiting_files", "Sealed files that are not archived."),
            lag: gauge("estoppel_archive_lag_seconds", "Age of the oldest sealed file that is not archived."),
            success: gauge(
                "estoppel_archive_last_success_timestamp_seconds",
                "When nothing was left to archive.",
            ),
        }
    }

    pub(crate) fn copied(&self, kind: &str, bytes: u64) {
        self.files.with_label_values(&[kind]).inc();
        self.bytes.inc_by(bytes);
    }

    pub(crate) fn failed(&self, times: u64) {
        self.failures.inc_by(times);
    }

    /// How much waits, and since when.
    pub(crate) fn waits(&self, files: usize, oldest_us: Option<u64>) {
        self.waiting.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.oldest_us.store(oldest_us.unwrap_or_default(), Relaxed);
        if files == 0 {
            self.success.set(i64::try_from(self.clock.unix_us() / 1_000_000).unwrap_or(i64::MAX));
        }
    }

    fn parts(&self) -> [&dyn Collector; 6] {
        [&self.files, &self.bytes, &self.failures, &self.waiting, &self.lag, &self.success]
    }
}

impl Collector for ArchiveMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let oldest = self.oldest_us.load(Relaxed);
        let age = if oldest > 0 { self.clock.unix_us().saturating_sub(oldest) / 1_000_000 } else { 0 };
        self.lag.set(i64::try_from(age).unwrap_or(i64::MAX));
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}
