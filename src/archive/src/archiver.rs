//! Archiving as long as the daemon runs: one thread with a runtime of its own, so that nothing waits for a slow bucket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use estoppel_journal::Clock;
use tokio::sync::watch;

use crate::error::ArchiveError;
use crate::find::{Known, Target};
use crate::push::{Looked, push};
use crate::settings::ArchiveSettings;
use crate::stats::ArchiveMetrics;

/// How often a stop looks whether the thread has ended.
const POLL: Duration = Duration::from_millis(2);

/// The running archive of a journal.
pub struct Archiver {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Archiver {
    /// Reads what the settings name, so that a start can be refused for it. Opens no connection.
    ///
    /// # Errors
    /// Certificates, or the key of custody, cannot be read. Credentials may come later.
    pub fn check(settings: &ArchiveSettings) -> Result<(), ArchiveError> {
        let custody = settings.custody.as_ref().map(crate::custody::Custodian::load).transpose();
        custody.map_err(|source| ArchiveError::Custody {
            name: "archive.custody.key".into(),
            source: Box::new(source),
        })?;
        let url = settings.endpoint.parse().map_err(|error| ArchiveError::Endpoint(format!("{error}")))?;
        crate::connect::Host::new(&url, settings.ca.as_deref()).map(drop)
    }

    /// Starts it for the journal in `dir`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        dir: &Path,
        settings: ArchiveSettings,
        metrics: ArchiveMetrics,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let (target, known, looked) = (Target::journal(dir), Known::default(), Looked::default());
        let work = Work { target, known, looked, settings, metrics, clock, stopping, tries: 0 };
        let thread = std::thread::Builder::new().name("archive".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(work.run()),
                Err(error) => tracing::error!(%error, "the archive has no runtime"),
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it. What it was doing is taken up again after the next start.
    pub fn stop(self, patience: Duration) {
        self.stop.send_replace(true);
        let by = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < by {
            std::thread::sleep(POLL);
        }
        if !self.thread.is_finished() {
            tracing::warn!("the archive is left in the middle of its work");
        }
    }
}

struct Work {
    target: Target,
    known: Known,
    looked: Looked,
    settings: ArchiveSettings,
    metrics: ArchiveMetrics,
    clock: Arc<dyn Clock>,
    stopping: watch::Receiver<bool>,
    tries: u32,
}

impl Work {
    async fn run(mut self) {
        loop {
            let mut stopping = self.stopping.clone();
            let wait = tokio::select! {
                wait = self.pass() => wait,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let ended = tokio::time::timeout(wait, self.stopping.wait_for(|stop| *stop)).await;
            if ended.is_ok() {
                return;
            }
        }
    }

    /// One pass; gives how long to wait until the next.
    async fn pass(&mut self) -> Duration {
        if self.look() == Some(0) {
            self.tries = 0;
            return Duration::from_secs(self.settings.scan_seconds);
        }
        let metrics = self.metrics.clone();
        let told = |copied: &crate::push::Copied| {
            tracing::info!(kind = copied.kind, name = %copied.name, version = %copied.version, "archived");
            metrics.copied(copied.kind, copied.bytes);
        };
        let pushed = push(&self.target, &self.settings, self.clock.clone(), &mut self.looked, told).await;
        let failed = match pushed {
            Ok(pushed) => {
                for (name, error) in &pushed.failed {
                    let (code, error) = (error.code(), chain(error));
                    tracing::error!(%name, code, %error, "a file could not be archived");
                }
                pushed.failed.len()
            }
            Err(error) => {
                let (code, error) = (error.code(), chain(&error));
                tracing::error!(code, %error, "nothing more could be archived");
                1
            }
        };
        self.look();
        self.metrics.failed(failed as u64); // a length fits
        if failed == 0 {
            self.tries = 0;
            return Duration::from_secs(self.settings.scan_seconds);
        }
        self.back_off()
    }

    /// Counts what waits.
    fn look(&mut self) -> Option<usize> {
        match self.known.waiting(&self.target) {
            Ok(waiting) => {
                let oldest = waiting.iter().map(|file| micros(file.since)).min();
                self.metrics.waits(waiting.len(), oldest);
                Some(waiting.len())
            }
            Err(error) => {
                tracing::error!(code = error.code(), error = %chain(&error), "what waits to be archived is not known");
                None
            }
        }
    }

    /// Doubles up to the longest wait, each between its half and its whole by chance.
    fn back_off(&mut self) -> Duration {
        let (min, max) = (self.settings.retry_min_ms, self.settings.retry_max_ms);
        let whole = min.saturating_mul(1 << self.tries.min(20)).min(max);
        self.tries = self.tries.saturating_add(1);
        let mut random = [0; 8];
        // Without it the waits of many gateways are alike, which harms nothing here.
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok();
        let part = u64::from_ne_bytes(random) % (whole / 2 + 1);
        Duration::from_millis(whole - whole / 2 + part.min(whole / 2))
    }
}

fn micros(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
