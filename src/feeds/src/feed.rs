//! Running feeds: one thread each, with a runtime of its own, so that a sink that blocks stops nothing but itself.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use estoppel_evidence::Instance;
use estoppel_evidence::hash::Leaf;
use estoppel_evidence::time::UnixMicros;
use estoppel_journal::{Clock, Entry, Followed, Follower, Journal, Position};
use tokio::sync::{oneshot, watch};

use crate::alert::{self, AlertSettings, Window};
use crate::backoff::Backoff;
use crate::cursor::{Cursor, CursorError};
use crate::document::{Document, chosen, told};
use crate::event::{Event, is_wanted};
use crate::finding::{Finding, HIGH};
use crate::read::Line;
use crate::settings::{Begin, FeedSettings};
use crate::sink::{Sink, SinkError};
use crate::stats::{FeedMetrics, FeedStats, add};

/// Most bytes of entries in one delivery.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The cursor is stored at most this often while entries come in; after a crash as much comes twice.
const CURSOR_EVERY: Duration = Duration::from_secs(1);
/// Documents refused one after the other, from which on it is the collector's set-up that is wrong and not they.
const REFUSED_IN_A_ROW_MAX: u32 = 8;
/// Largest file of refused documents; further ones are only counted.
const REFUSED_BYTES_MAX: u64 = 16 << 20;

/// Why feeds cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("feed `{name}`: {source}")]
    Sink { name: String, source: SinkError },
    #[error("feed `{name}`: {source}")]
    Cursor { name: String, source: CursorError },
    #[error("could not make `{path}`: {source}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("could not start a thread for feed `{name}`: {source}")]
    Thread { name: String, source: io::Error },
}

/// All feeds of a daemon.
pub struct Feeds {
    journal: Journal,
    dir: PathBuf,
    instance: Instance,
    clock: Arc<dyn Clock>,
    metrics: FeedMetrics,
    running: BTreeMap<String, Running>,
}

struct Running {
    settings: FeedSettings,
    alerts: Vec<AlertSettings>,
    /// When the feed must have ended, once it is to end.
    stop: watch::Sender<Option<Instant>>,
    ended: oneshot::Receiver<()>,
}

impl Feeds {
    /// Reads what the settings name, so that a start can be refused for it. Opens no connection.
    ///
    /// # Errors
    /// The first sink that cannot be set up.
    pub fn check(settings: &[FeedSettings]) -> Result<(), FeedError> {
        settings.iter().try_for_each(|settings| sink(settings).map(drop))
    }

    /// Starts feeds whose cursors are in `dir`.
    ///
    /// # Errors
    /// [`FeedError`]; none runs then.
    pub fn start(
        journal: &Journal,
        dir: &Path,
        instance: &Instance,
        settings: &[FeedSettings],
        alerts: &[AlertSettings],
        metrics: FeedMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FeedError> {
        let (journal, dir, instance) = (journal.clone(), dir.to_owned(), instance.clone());
        let mut feeds = Self { journal, dir, instance, clock, metrics, running: BTreeMap::new() };
        feeds.reload(settings, alerts)?;
        Ok(feeds)
    }

    /// Ends feeds that are not in `settings` any more or changed, and starts those that are new or changed. One whose
    /// cursor cannot be used is off, because nobody knows where it stood; calls and other feeds go on without it.
    ///
    /// # Errors
    /// [`FeedError`]; nothing was changed then, but for a thread that could not be started.
    pub fn reload(&mut self, settings: &[FeedSettings], alerts: &[AlertSettings]) -> Result<(), FeedError> {
        let mut fresh = Vec::new();
        if !settings.is_empty() {
            make_folder(&self.dir)?;
        }
        for settings in settings {
            let unchanged = |running: &Running| running.settings == *settings && running.alerts == alerts;
            if self.running.get(&settings.name).is_some_and(unchanged) {
                continue;
            }
            fresh.push((settings, sink(settings)?));
        }
        let kept = |name: &String| settings.iter().any(|s| s.name == *name);
        let replaced = |name: &String| fresh.iter().any(|(s, _)| s.name == *name);
        let gone: Vec<String> =
            self.running.keys().filter(|name| !kept(name) || replaced(name)).cloned().collect();
        for name in gone {
            // The next of that name begins where this one stood, so it must have stored its cursor.
            if let Some(running) = self.running.remove(&name) {
                running.stop.send_replace(Some(Instant::now()));
                wait(running.ended, CURSOR_EVERY * 5);
                self.metrics.remove(&name);
                tracing::info!(feed = %name, "feed ended");
            }
        }
        self.metrics.none_is_off();
        for (settings, sink) in fresh {
            match self.run(settings, alerts, sink) {
                Err(FeedError::Cursor { name, source }) => {
                    tracing::error!(feed = %name, error = %chain(&source), "the feed is off");
                    self.metrics.is_off(&name);
                }
                started => started?,
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        settings: &FeedSettings,
        alerts: &[AlertSettings],
        sink: Sink,
    ) -> Result<(), FeedError> {
        let name = settings.name.clone();
        let cursor = Cursor::new(&self.dir, &name);
        let stored = cursor.read().map_err(|source| FeedError::Cursor { name: name.clone(), source })?;
        let (stored, counted) =
            stored.map_or((None, Vec::new()), |(stored, counted)| (Some(stored), counted));
        let windows = alert::windows(alerts, &counted);
        let position = match (stored, settings.from) {
            (Some(position), _) => position,
            (None, Begin::Start) => Position::default(),
            (None, Begin::Now) => {
                let index = self.journal.follow(Position::default()).durable();
                let now = Position { index, leaf: None, segment: index };
                // Before anything is delivered: after a kill, now would be later.
                cursor
                    .write(&now, &windows)
                    .map_err(|source| FeedError::Cursor { name: name.clone(), source })?;
                now
            }
        };
        let follower = self.journal.follow(position.clone());
        let stats = Arc::new(FeedStats::new(Box::new(follower.gauge())));
        stats.index.store(position.index, Relaxed);
        self.metrics.add(&name, stats.clone());
        let (stop, stopping) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let mut random = [0; 8];
        // Without it the waits of many gateways are alike, which harms nothing here.
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok();
        let feed = Feed {
            settings: settings.clone(),
            sink,
            cursor,
            follower,
            stats,
            stopping,
            clock: self.clock.clone(),
            instance: self.instance.to_string(),
            backoff: Backoff::new(settings.retry_min_ms, settings.retry_max_ms, u64::from_ne_bytes(random)),
            refused: self.dir.join(format!("{name}.refused.ndjson")),
            refused_in_a_row: 0,
            windows,
            delivered: position.clone(),
            stored: position,
            stored_at: Instant::now(),
        };
        let thread = move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(feed.run()),
                Err(error) => tracing::error!(%error, "a feed has no runtime"),
            }
            end.send(()).ok(); // nobody may be waiting
        };
        let short: String = name.chars().take(10).collect();
        std::thread::Builder::new()
            .name(format!("feed-{short}"))
            .spawn(thread)
            .map_err(|source| FeedError::Thread { name: name.clone(), source })?;
        tracing::info!(feed = %name, "feed started");
        let (settings, alerts) = (settings.clone(), alerts.to_vec());
        self.running.insert(name, Running { settings, alerts, stop, ended });
        Ok(())
    }

    /// Ends all feeds. What is durable is delivered if that takes no longer than `patience`; the rest comes after the next
    /// start. A thread that a sink blocks is left behind.
    pub fn stop(mut self, patience: Duration) {
        let by = Instant::now() + patience;
        for running in self.running.values() {
            running.stop.send_replace(Some(by));
        }
        for (name, running) in std::mem::take(&mut self.running) {
            let left = by.saturating_duration_since(Instant::now()) + CURSOR_EVERY;
            if !wait(running.ended, left) {
                tracing::warn!(feed = %name, "the feed is blocked by its sink; what it has not delivered comes again");
            }
        }
    }
}

fn sink(settings: &FeedSettings) -> Result<Sink, FeedError> {
    Sink::new(settings).map_err(|source| FeedError::Sink { name: settings.name.clone(), source })
}

fn make_folder(dir: &Path) -> Result<(), FeedError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| FeedError::Folder { path: dir.into(), source })
}

/// Whether it ended in time.
fn wait(mut ended: oneshot::Receiver<()>, patience: Duration) -> bool {
    let by = Instant::now() + patience;
    loop {
        match ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) if Instant::now() < by => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(oneshot::error::TryRecvError::Empty) => return false,
            _ => return true,
        }
    }
}

/// One feed.
struct Feed {
    settings: FeedSettings,
    sink: Sink,
    cursor: Cursor,
    follower: Follower,
    stats: Arc<FeedStats>,
    stopping: watch::Receiver<Option<Instant>>,
    clock: Arc<dyn Clock>,
    instance: String,
    backoff: Backoff,
    refused: PathBuf,
    refused_in_a_row: u32,
    /// What alerts have counted of what was delivered.
    windows: Vec<Window>,
    /// Everything before it was taken by the sink.
    delivered: Position,
    stored: Position,
    stored_at: Instant,
}

/// The feed must end.
struct Ended;

impl Feed {
    async fn run(mut self) {
        while let Ok(()) = self.turn().await {}
        self.store();
    }

    /// One delivery, or one wait.
    async fn turn(&mut self) -> Result<(), Ended> {
        match self.follower.read(self.settings.batch, BATCH_BYTES_MAX) {
            Ok(Followed::Entries(entries)) => self.entries(&entries).await,
            Ok(Followed::UpToDate) => self.idle().await,
            Ok(Followed::Gap { from, to, after }) => {
                let count = to.saturating_sub(from);
                tracing::error!(feed = %self.settings.name, from, to, "entries were removed before this feed had read them");
                add(&self.stats.missed, count);
                let detail = format!("entries {from} to {} of the log", to.saturating_sub(1));
                let title = "Entries were removed before a feed had read them";
                self.own("feed_gap", title, detail, &format!("{from}-{to}")).await?;
                self.done(after, 0);
                Ok(())
            }
            Ok(Followed::Rewound { index, after }) => {
                tracing::error!(feed = %self.settings.name, index, "the journal lost what this feed had delivered");
                let detail = format!("entry {} of the log is another", index.saturating_sub(1));
                let title = "The journal no longer holds what a feed had delivered";
                self.own("journal_rewound", title, detail, &index.to_string()).await?;
                self.windows.iter_mut().for_each(Window::clear);
                self.done(after, 0);
                Ok(())
            }
            Err(error) => {
                tracing::error!(feed = %self.settings.name, error = %chain(&error), "the journal cannot be read");
                // What cannot be read is at least as late as this.
                let now = self.clock.unix_us();
                if self.stats.oldest_us.load(Relaxed) == 0 {
                    self.stats.oldest_us.store(now, Relaxed);
                }
                self.fail(None).await
            }
        }
    }

    async fn entries(&mut self, entries: &[Entry]) -> Result<(), Ended> {
        let (format, events) = (self.settings.format, self.settings.events.as_deref());
        let mut windows = self.windows.clone();
        let mut told = Vec::new();
        for entry in entries {
            told.extend(chosen(format, events, entry));
            let alerts = alert::raised(&mut windows, format, entry);
            for alert in &alerts {
                tracing::warn!(feed = %self.settings.name, uid = %alert.uid, "an alert is told");
            }
            if is_wanted(events, Some(Event::Alert)) {
                told.extend(alerts);
            }
        }
        let oldest = entries.first().and_then(|entry| serde_json::from_slice::<Line>(&entry.line).ok());
        self.stats.oldest_us.store(oldest.map_or(0, |line| line.ts_us()), Relaxed);
        self.deliver(told).await?;
        self.windows = windows;
        if let Some(last) = entries.last() {
            self.done(last.after.clone(), entries.len() as u64); // a length fits
        }
        Ok(())
    }

    /// Tells of the feed itself.
    async fn own(
        &mut self,
        class: &'static str,
        title: &'static str,
        detail: String,
        key: &str,
    ) -> Result<(), Ended> {
        if self.settings.format.tells_calls_alone() {
            return Ok(()); // the log and the metrics have said it
        }
        let ts = UnixMicros(self.clock.unix_us()).to_string();
        let line = Line { kind: "feed".into(), iss: self.instance.clone(), ts, ..Line::default() };
        let uid = format!("feed:{}:{}#{class}-{key}", self.instance, self.settings.name);
        let position = self.follower.position().clone();
        let entry = Entry {
            index: position.index,
            leaf: Leaf([0; 32]),
            line: Vec::new(),
            signature: None,
            after: position,
        };
        let finding = Finding { uid, class, title, detail: Some(detail), severity: HIGH, detector: None };
        self.deliver(vec![told(self.settings.format, &entry, &line, &finding)]).await
    }

    /// Returns when all documents were taken or set aside.
    async fn deliver(&mut self, mut left: Vec<Document>) -> Result<(), Ended> {
        let mut most = left.len();
        while !left.is_empty() {
            let rest = left.split_off(most.min(left.len()));
            let delivery = tokio::select! {
                delivery = self.sink.deliver(&left) => delivery,
                () = deadline(self.stopping.clone()) => return Err(Ended),
            };
            let sent = left.len();
            let taken = sent.saturating_sub(delivery.left.len() + delivery.refused.len());
            add(&self.stats.documents, taken as u64); // a length fits
            if taken > 0 {
                self.went_well();
            }
            if delivery.unnamed > 0 {
                add(&self.stats.refused, delivery.unnamed);
                tracing::error!(feed = %self.settings.name, count = delivery.unnamed, "the collector refused documents");
            }
            for (at, why) in delivery.refused {
                self.set_aside(left.get(at), &why);
            }
            match delivery.error {
                Some(error) if error.is_about_documents() && sent > 1 => most = sent / 2,
                Some(error) if error.is_about_documents() && self.refused_in_a_row < REFUSED_IN_A_ROW_MAX => {
                    self.set_aside(left.first(), &error.to_string());
                    self.refused_in_a_row += 1;
                    left.clear();
                    left.extend(rest);
                    continue;
                }
                Some(error) => {
                    let (feed, text) = (&self.settings.name, chain(&error));
                    tracing::warn!(%feed, left = delivery.left.len(), error = %text, "a delivery failed and is tried again");
                    self.fail(error.retry_after()).await?;
                    add(&self.stats.retries, 1);
                }
                None => {}
            }
            let mut again = delivery.left.iter().peekable();
            let mut at = 0;
            left.retain(|_| {
                let keep = again.next_if(|place| **place == at).is_some();
                at += 1;
                keep
            });
            left.extend(rest);
        }
        Ok(())
    }

    fn went_well(&mut self) {
        self.backoff.reset();
        self.refused_in_a_row = 0;
        self.stats.success_us.store(self.clock.unix_us(), Relaxed);
    }

    /// Waits before the next try.
    async fn fail(&mut self, retry_after: Option<Duration>) -> Result<(), Ended> {
        add(&self.stats.failures, 1);
        let wait = self.backoff.next(retry_after);
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = deadline(self.stopping.clone()) => Err(Ended),
        }
    }

    /// Keeps a document that the collector will never take, where an operator finds it.
    fn set_aside(&self, document: Option<&Document>, why: &str) {
        let Some(document) = document else { return };
        add(&self.stats.refused, 1);
        let (feed, uid) = (&self.settings.name, &document.uid);
        tracing::error!(%feed, %uid, %why, "the collector refused a document; it is set aside");
        let mut line = document.json.clone();
        line.push(b'\n');
        let full = std::fs::metadata(&self.refused).is_ok_and(|meta| meta.len() >= REFUSED_BYTES_MAX);
        let kept = match full {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => {
                let mut options = OpenOptions::new();
                let opened = options.append(true).create(true).mode(0o600).open(&self.refused);
                opened.and_then(|mut file| file.write_all(&line))
            }
        };
        if let Err(error) = kept {
            tracing::error!(%feed, %uid, %error, "the refused document could not be kept; the journal has its entry");
        }
    }

    /// Nothing more is durable. Waits until it is, or the cursor is due.
    async fn idle(&mut self) -> Result<(), Ended> {
        self.stats.oldest_us.store(0, Relaxed);
        if self.stopping.borrow().is_some() {
            return Err(Ended);
        }
        let due = CURSOR_EVERY.saturating_sub(self.stored_at.elapsed());
        if self.delivered != self.stored && due.is_zero() {
            self.store();
            return Ok(());
        }
        let unstored = self.delivered != self.stored;
        let mut stopping = self.stopping.clone();
        let more = tokio::select! {
            () = self.follower.more() => true,
            _ = stopping.wait_for(Option::is_some) => false,
            () = tokio::time::sleep(due), if unstored => false,
        };
        if more {
            let linger = Duration::from_millis(self.settings.linger_ms);
            drop(tokio::time::timeout(linger, stopping.wait_for(Option::is_some)).await);
        }
        Ok(())
    }

    /// The sink has everything before `position`.
    fn done(&mut self, position: Position, entries: u64) {
        self.stats.index.store(position.index, Relaxed);
        add(&self.stats.entries, entries);
        self.delivered = position;
        if self.stored_at.elapsed() >= CURSOR_EVERY {
            self.store();
        }
    }

    /// Stores the cursor. When that fails, it is tried again later; what is told twice then has the same keys.
    fn store(&mut self) {
        if self.delivered == self.stored {
            return;
        }
        let flushed = self.sink.flush().map_err(|error| chain(&error));
        let written = flushed
            .and_then(|()| self.cursor.write(&self.delivered, &self.windows).map_err(|error| chain(&error)));
        match written {
            Ok(()) => self.stored = self.delivered.clone(),
            Err(error) => {
                add(&self.stats.failures, 1);
                tracing::error!(feed = %self.settings.name, %error, "the cursor could not be stored");
            }
        }
        self.stored_at = Instant::now();
    }
}

/// Resolves when the feed must have ended.
async fn deadline(mut stopping: watch::Receiver<Option<Instant>>) {
    let by = stopping.wait_for(Option::is_some).await.ok().and_then(|by| *by);
    if let Some(by) = by {
        tokio::time::sleep_until(by.into()).await;
    }
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
