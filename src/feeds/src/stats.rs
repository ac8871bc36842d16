//! What feeds count, as Prometheus takes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use estoppel_journal::Clock;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

/// Counts of one feed. Written by its thread alone, but for `durable`.
pub(crate) struct FeedStats {
    /// Log index up to which entries were delivered.
    pub index: AtomicU64,
    /// When the oldest entry that is being delivered was written, microseconds; 0 when nothing waits.
    pub oldest_us: AtomicU64,
    pub entries: AtomicU64,
    pub documents: AtomicU64,
    pub retries: AtomicU64,
    pub failures: AtomicU64,
    pub refused: AtomicU64,
    pub missed: AtomicU64,
    /// Microseconds.
    pub success_us: AtomicU64,
    durable: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl FeedStats {
    pub fn new(durable: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            index: AtomicU64::new(0),
            oldest_us: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            documents: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            success_us: AtomicU64::new(0),
            durable,
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

/// The metrics of all feeds. Cloning gives another handle.
#[derive(Clone)]
pub struct FeedMetrics {
    clock: Arc<dyn Clock>,
    feeds: Arc<Mutex<BTreeMap<String, Arc<FeedStats>>>>,
    lag_entries: IntGaugeVec,
    lag_seconds: IntGaugeVec,
    success: IntGaugeVec,
    off: IntGaugeVec,
    counters: [IntCounterVec; 6],
}

impl FeedMetrics {
    /// A fresh set; register it with the registry that is scraped.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let gauge = |name: &str, help: &str| {
            IntGaugeVec::new(Opts::new(name, help), &["feed"]).expect("names and labels are valid")
        };
        let counter = |name: &str, help: &str| {
            IntCounterVec::new(Opts::new(name, help), &["feed"]).expect("names and labels are valid")
        };
        Self {
            clock,
            feeds: Arc::default(),
            lag_entries: gauge(
                "estoppel_feed_lag_entries",
                "Durable journal entries that a feed has not delivered.",
            ),
            lag_seconds: gauge(
                "estoppel_feed_lag_seconds",
                "Age of the oldest entry that a feed has not delivered.",
            ),
            success: gauge(
                "estoppel_feed_last_success_timestamp_seconds",
                "When a feed last delivered something.",
            ),
            off: gauge("estoppel_feed_off", "1: the feed does not run, because its cursor cannot be used."),
            counters: [
                counter("estoppel_feed_entries_total", "Journal entries that a feed is done with."),
                counter("estoppel_feed_documents_total", "Documents that a feed's sink took."),
                counter("estoppel_feed_retries_total", "Deliveries that were tried again."),
                counter("estoppel_feed_failures_total", "Deliveries and reads that failed."),
                counter(
                    "estoppel_feed_refused_documents_total",
                    "Documents that a collector refused for good; they were set aside.",
                ),
                counter(
                    "estoppel_feed_missed_entries_total",
                    "Entries whose segment was removed before a feed had read it.",
                ),
            ],
        }
    }

    pub(crate) fn add(&self, name: &str, stats: Arc<FeedStats>) {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), stats);
        for counter in &self.counters {
            counter.remove_label_values(&[name]).ok(); // a feed of that name may have run before
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        for gauge in [&self.lag_entries, &self.lag_seconds, &self.success] {
            gauge.remove_label_values(&[name]).ok(); // it may never have been scraped
        }
    }

    pub(crate) fn none_is_off(&self) {
        self.off.reset();
    }

    pub(crate) fn is_off(&self, name: &str) {
        self.off.with_label_values(&[name]).set(1);
    }

    fn update(&self) {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, stats) in &*feeds {
            let label = [name.as_str()];
            let set = |gauge: &IntGaugeVec, value: u64| {
                gauge.with_label_values(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            let behind = (stats.durable)().saturating_sub(stats.index.load(Relaxed));
            let oldest = stats.oldest_us.load(Relaxed);
            let age = if behind > 0 && oldest > 0 {
                self.clock.unix_us().saturating_sub(oldest) / 1_000_000
            } else {
                0
            };
            set(&self.lag_entries, behind);
            set(&self.lag_seconds, age);
            set(&self.success, stats.success_us.load(Relaxed) / 1_000_000);
            let values = [
                &stats.entries,
                &stats.documents,
                &stats.retries,
                &stats.failures,
                &stats.refused,
                &stats.missed,
            ];
            for (counter, value) in self.counters.iter().zip(values) {
                let counter = counter.with_label_values(&label);
                counter.inc_by(value.load(Relaxed).saturating_sub(counter.get()));
            }
        }
    }
}

impl Collector for FeedMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.lag_entries, &self.lag_seconds, &self.success, &self.off];
        gauges
            .into_iter()
            .flat_map(Collector::desc)
            .chain(self.counters.iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        let gauges = [&self.lag_entries, &self.lag_seconds, &self.success, &self.off];
        gauges
            .into_iter()
            .flat_map(Collector::collect)
            .chain(self.counters.iter().flat_map(Collector::collect))
            .collect()
    }
}
