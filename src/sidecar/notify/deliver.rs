//! One destination, told what waits for it.

use std::sync::Arc;
use std::time::Duration;

use estoppel_archive::{ArchiveError, Keeper};
use estoppel_evidence::time::UnixMicros;
use estoppel_feeds::{Begin, Document, Messenger, SinkError};
use estoppel_journal::SystemClock;
use estoppel_release::Refusal;
use estoppel_release::git::Git;
use estoppel_release::ledger::{Event, Ledger};
use estoppel_release::notify::{Message, REFUSED_MAX, Told, messages};
use estoppel_release::sync::Outbox;

use super::settings::{Destination, Settings};
use crate::ledger::now;
use crate::output::plain;
use crate::sync::chance;

/// The longest wait that is kept to: a clock that was set back does not make a destination wait for years.
const WAIT_US_MAX: u64 = 600_000_000;

/// What became of one destination.
pub struct Delivered {
    /// How many events it was told now.
    pub told: usize,
    /// Another process of this clone is at it.
    pub is_taken: bool,
    /// Microseconds until it is tried again; none where nothing waits, or it can be tried now.
    pub wait: Option<u64>,
}

/// Why a destination did not take an event.
pub enum Problem {
    Hook(SinkError),
    Archive(ArchiveError),
}

impl Problem {
    /// Others may pass: it is this event that is not wanted.
    fn is_of_event(&self) -> bool {
        matches!(self, Self::Hook(error) if error.is_about_documents())
    }

    fn retry_after(&self) -> Duration {
        match self {
            Self::Hook(error) => error.retry_after().unwrap_or_default(),
            Self::Archive(_) => Duration::ZERO,
        }
    }

    /// Nothing answered there.
    pub fn is_of_connection(&self) -> bool {
        match self {
            Self::Hook(error) => {
                matches!(error, SinkError::Connect { .. } | SinkError::Broken { .. } | SinkError::Late { .. })
            }
            Self::Archive(error) => {
                matches!(error, ArchiveError::Unreachable { .. } | ArchiveError::Late { .. })
            }
        }
    }

    pub fn words(&self) -> String {
        let error: &dyn std::error::Error = match self {
            Self::Hook(error) => error,
            Self::Archive(error) => error,
        };
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            words.push_str(&format!(": {error}"));
            source = error.source();
        }
        plain(&words)
    }
}

/// How long to wait until a destination is tried again; nothing where it may be now.
pub fn wait(failed: Option<&Outbox>, now: UnixMicros) -> u64 {
    let wait = estoppel_release::sync::wait(failed, now);
    if wait > WAIT_US_MAX { 0 } else { wait }
}

/// How a destination is told.
pub struct Delivery<'a> {
    pub git: &'a Git,
    pub ledger: &'a Ledger,
    pub settings: &'a Settings,
    /// It is not waited for what earlier failures left.
    pub at_once: bool,
    /// What was not wanted before is told as well.
    pub again: bool,
    /// How long it may take altogether.
    pub patience: Option<Duration>,
}

impl Delivery<'_> {
    /// Tells a destination what waits for it, in the order of the ledger, until it fails. What went wrong is kept for the next
    /// time.
    pub async fn to(&self, destination: &Destination) -> Result<Delivered, Refusal> {
        let Some(mut told) = Told::take(self.git, &destination.name)? else {
            return Ok(Delivered { told: 0, is_taken: true, wait: None });
        };
        if !told.is_of(&destination.bound()) {
            return Ok(Delivered { told: 0, is_taken: false, wait: None });
        }
        begin(destination, &mut told, Some(self.ledger))?;
        if self.again {
            told.again()?;
        }
        let left = wait(told.state.failed.as_ref(), now());
        if left > 0 && !self.at_once && !told.waiting(self.ledger).is_empty() {
            return Ok(Delivered { told: 0, is_taken: false, wait: Some(left) });
        }
        let mut count = 0;
        let work = self.work(destination, &mut told, &mut count);
        let done = match self.patience {
            None => work.await,
            Some(patience) => tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
                Ok(Err((format!("it took longer than {} s", patience.as_secs()), Duration::ZERO)))
            }),
        };
        let failed = done?.err().map(|(why, after)| {
            let failed = Outbox::failed(told.state.failed.as_ref(), now(), &why, chance());
            let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).min(WAIT_US_MAX);
            let not_before = failed.not_before.max(UnixMicros(now().0.saturating_add(after)));
            Outbox { not_before, ..failed }
        });
        let left = failed.as_ref().map(|failed| wait(Some(failed), now()));
        told.fail(failed)?;
        Ok(Delivered { told: count, is_taken: false, wait: left })
    }

    /// What the destination said where it did not take an event, and how long it wants to be left alone.
    async fn work(
        &self,
        destination: &Destination,
        told: &mut Told,
        count: &mut usize,
    ) -> Result<Result<(), (String, Duration)>, Refusal> {
        let waiting: Vec<&Event> = told.waiting(self.ledger);
        if waiting.is_empty() {
            return Ok(Ok(()));
        }
        let failed = |problem: Problem| Ok(Err((problem.words(), problem.retry_after())));
        let mut receiver = match Receiver::open(destination).await {
            Ok(receiver) => receiver,
            Err(problem) => return failed(problem),
        };
        for event in waiting {
            match self.tell(&mut receiver, destination, event).await {
                Ok(is_told) => {
                    told.add(event.id)?;
                    *count += usize::from(is_told);
                }
                Err(problem) if problem.is_of_event() && told.state.refused.len() < REFUSED_MAX => {
                    told.refuse(event.id, &problem.words())?;
                    continue;
                }
                Err(problem) => return failed(problem),
            }
            // It works: the next failure is a first one.
            told.fail(None)?;
        }
        Ok(Ok(()))
    }

    /// Whether anything of it was to be told.
    async fn tell(
        &self,
        receiver: &mut Receiver<'_>,
        destination: &Destination,
        event: &Event,
    ) -> Result<bool, Problem> {
        let messenger = match receiver {
            Receiver::Bucket(keeper) => {
                return keeper.keep(&event.bytes).await.map(|()| true).map_err(Problem::Archive);
            }
            Receiver::Messenger(messenger) => messenger,
        };
        let Settings { repository, pass_rate_min, .. } = self.settings;
        let mut is_told = false;
        for message in messages(self.ledger, event, repository, *pass_rate_min) {
            if destination.wants(message.name) {
                messenger.send(&document(message, repository)).await.map_err(Problem::Hook)?;
                is_told = true;
            }
        }
        Ok(is_told)
    }
}

/// A message as it is sent.
pub fn document(message: Message, repository: &str) -> Document {
    let Message { uid, at, severity, document, .. } = message;
    Document::message(uid, repository.to_owned(), at.0, severity, document)
}

/// A destination that is new in this clone begins where its settings say; one that is not goes on.
pub fn begin(destination: &Destination, told: &mut Told, ledger: Option<&Ledger>) -> Result<(), Refusal> {
    match told.is_new() {
        true => begin_anew(destination, told, ledger),
        false => told.bind(destination.bound()),
    }
}

/// A destination begins where its settings say, whatever it was told.
pub fn begin_anew(
    destination: &Destination,
    told: &mut Told,
    ledger: Option<&Ledger>,
) -> Result<(), Refusal> {
    let ledger = ledger.filter(|_| destination.begins() == Begin::Now);
    told.begin(destination.bound(), ledger)
}

/// What takes messages or events.
pub enum Receiver<'a> {
    Messenger(Messenger),
    Bucket(Box<Keeper<'a>>),
}

impl<'a> Receiver<'a> {
    /// Reads what the settings name. A bucket is asked whether it keeps what is put there.
    pub async fn open(destination: &'a Destination) -> Result<Self, Problem> {
        let to = &destination.to;
        if let Some(s3) = &to.s3 {
            let keeper = Keeper::open(s3, Arc::new(SystemClock::new())).await;
            return keeper.map(Box::new).map(Self::Bucket).map_err(Problem::Archive);
        }
        let messenger = match (&to.webhook, &to.slack) {
            (Some(webhook), _) => Messenger::webhook(webhook),
            (None, Some(slack)) => Messenger::slack(slack),
            (None, None) => Err(SinkError::Tls("there is no destination".into())),
        };
        messenger.map(Self::Messenger).map_err(Problem::Hook)
    }
}
