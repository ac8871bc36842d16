//! Snapshots that came too late for the receipts of their calls. Each is an entry of its own in the call's run (SPEC section 4,
//! `snapshot`), which is not sealed before.

use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::entry::{Event, LateSnapshot};
use estoppel_evidence::{CallId, Reason};
use estoppel_journal::{Journal, RunHandle};
use estoppel_snapshot::Snapshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::super::{Database, When, side};
use crate::store::Stores;

/// Most calls whose snapshot is still awaited once they have their receipts. Beyond it, none is.
const LATE_MAX: u32 = 256;
/// How often it is tried.
const RETRY: Duration = Duration::from_millis(500);

/// A call whose receipt went without a snapshot after it.
pub(super) struct Awaited {
    pub(super) call: CallId,
    pub(super) run: RunHandle,
    pub(super) database: Arc<Database>,
}

/// What records them.
#[derive(Clone)]
pub(super) struct Late {
    places: Arc<Semaphore>,
    ending: watch::Sender<bool>,
    stores: Arc<Stores>,
    journal: Journal,
}

impl Late {
    pub(super) fn new(stores: Arc<Stores>, journal: Journal) -> Self {
        let places = Arc::new(Semaphore::new(LATE_MAX as usize)); // widening
        Self { places, ending: watch::Sender::new(false), stores, journal }
    }

    /// Gives up what is still awaited; returns when nothing is.
    pub(super) async fn end(&self) {
        self.ending.send_replace(true);
        let _ = self.places.acquire_many(LATE_MAX).await; // Never closed.
    }

    /// Tries for a while. None where none is tried for.
    pub(super) fn take(&self, awaited: Awaited) -> Option<impl Future<Output = ()> + use<>> {
        if awaited.database.settings.late_ms == 0 {
            return None;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            awaited.database.tell_late(Reason::PostTimeout, "busy");
            return None;
        };
        Some(self.clone().come(awaited, place))
    }

    async fn come(self, awaited: Awaited, place: OwnedSemaphorePermit) {
        let Awaited { call, run, database } = awaited;
        let until = Instant::now() + Duration::from_millis(database.settings.late_ms);
        let mut ending = self.ending.subscribe();
        loop {
            tokio::select! {
                _ = ending.wait_for(|is_ending| *is_ending) => break database.tell_late(Reason::PostTimeout, "shutdown"),
                () = tokio::time::sleep(RETRY) => {}
            }
            let taken = tokio::select! {
                _ = ending.wait_for(|is_ending| *is_ending) => None,
                taken = database.look_late() => taken,
            };
            match taken {
                Some(taken) => break self.record(call, &run, &database, &taken).await,
                None if Instant::now() >= until => break database.tell_late(Reason::PostTimeout, "budget"),
                None => {}
            }
        }
        drop((run, place));
    }

    /// The store's thread has handed the receipt over before it keeps the document, so that the entry comes after it.
    async fn record(&self, call: CallId, run: &RunHandle, database: &Database, taken: &Snapshot) {
        let side = side(taken, When::After);
        let Some(digest) = side.digest else { return };
        if !self.stores.keep(call, taken.schema.clone()).await {
            return database.tell_late(Reason::BodyNotStored, "none");
        }
        let source = database.name().clone();
        let late = LateSnapshot { call, code: side.code, digest, lsn: side.lsn, source };
        match self.journal.note(Some(run), Event::Snapshot(late)).await {
            Ok(_) => database.tell_late(side.code.unwrap_or(Reason::Ok), "none"),
            Err(error) => tracing::error!(%call, %error, "a late snapshot is not in its call's run"),
        }
    }
}
