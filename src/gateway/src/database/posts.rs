//! Snapshots after calls. One task takes them all, and then the receipt goes on its way; who waits for that receipt waits so for the
//! snapshot too, and nobody has to. One that does not come in time is tried for a while longer ([`late`]).

mod late;

use std::sync::Arc;

use estoppel_evidence::entry::{CallRecord, SnapshotSide};
use estoppel_journal::{Journal, Promise};
use estoppel_snapshot::{Schema, Snapshot};
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::late::{Awaited, Late};
use super::watch::Alone;
use super::{Counted, Database, Inside, Missed, Named, When, side, without_rows};
use crate::store::{Contract, Stores};

/// Most calls whose database is to be looked at after them. Beyond it, it is not, and the receipt says so.
const POSTS_MAX: usize = 16_384;

/// A call that has ended, and its database.
pub(crate) struct Due {
    pub(crate) promise: Promise,
    pub(crate) record: Box<CallRecord>,
    pub(crate) contracts: Vec<Contract>,
    pub(crate) database: Arc<Database>,
    /// What it looked like before.
    pub(crate) before: Arc<Snapshot>,
    /// If its schema is watched.
    pub(crate) inside: Option<Inside>,
    /// If rows may name it.
    pub(crate) named: Option<Named>,
}

/// What was seen after a call.
struct Seen {
    taken: Result<Arc<Snapshot>, Missed>,
    /// Since when the call was alone, if it was.
    alone: Option<Alone>,
    counted: Counted,
}

struct Waiting {
    due: Due,
    _place: OwnedSemaphorePermit,
}

/// Where such calls go.
pub(crate) struct Posts {
    places: Arc<Semaphore>,
    queue: mpsc::Sender<Waiting>,
    stores: Arc<Stores>,
    late: Late,
}

impl Posts {
    pub(crate) fn new(stores: Arc<Stores>, journal: Journal) -> (Self, PostQueue) {
        let (queue, dues) = mpsc::channel(POSTS_MAX);
        let places = Arc::new(Semaphore::new(POSTS_MAX));
        let late = Late::new(stores.clone(), journal);
        (Self { places, queue, stores: stores.clone(), late: late.clone() }, PostQueue { dues, stores, late })
    }

    /// The record goes to the journal once its database has been looked at.
    pub(crate) fn take(&self, due: Due) {
        let due = match self.places.clone().try_acquire_owned() {
            Err(_) => due,
            Ok(place) => match self.queue.try_send(Waiting { due, _place: place }) {
                Ok(()) => return,
                Err(
                    mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting),
                ) => waiting.due,
            },
        };
        let missed = due.database.is_busy();
        let seen = Seen { taken: Err(missed), alone: None, counted: Counted::default() };
        drop(due.end(seen, &self.stores));
    }

    /// Returns when no call waits. Each waits for a bounded time. What is late is given up.
    pub(crate) async fn ended(&self) {
        let all = u32::try_from(POSTS_MAX).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await; // Never closed.
        self.late.end().await;
    }
}

pub(crate) struct PostQueue {
    dues: mpsc::Receiver<Waiting>,
    stores: Arc<Stores>,
    late: Late,
}

impl PostQueue {
    /// Serves until the gateway is gone.
    pub(crate) async fn run(mut self) {
        let (mut looking, mut late) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                waiting = self.dues.recv() => match waiting {
                    Some(Waiting { due, _place }) => {
                        let stores = self.stores.clone();
                        looking.push(async move {
                            let alone = due.inside.as_ref().map(Inside::alone);
                            let database = &due.database;
                            let (taken, counted) =
                                join(database.look(When::After), database.count(due.record.call)).await;
                            let awaited = due.end(Seen { taken, alone, counted }, &stores);
                            drop(_place);
                            awaited
                        });
                    }
                    None => break,
                },
                Some(awaited) = looking.next() => late.extend(awaited.and_then(|awaited| self.late.take(awaited))),
                Some(()) = late.next() => {}
            }
        }
        while looking.next().await.is_some() {}
        drop(late);
    }
}

impl Due {
    /// The record goes on its way. Gives what it went without.
    fn end(self, seen: Seen, stores: &Stores) -> Option<Awaited> {
        let Self { promise, mut record, contracts, before, inside, named, database } = self;
        let Seen { taken, alone, counted } = seen;
        drop(named);
        let run = promise.run().clone();
        let awaited =
            (taken.is_err() && promise.keeps_order()).then(|| Awaited { call: record.call, run, database });
        let mut snapshots: Vec<Arc<Schema>> = vec![before.schema.clone()];
        let mut lag_bytes = None;
        let after = match taken {
            Ok(taken) => {
                lag_bytes = taken.lag_bytes;
                if let (Some(inside), Some(alone)) = (inside, alone) {
                    inside.leave(alone, &taken.schema);
                }
                record.downgrades.extend(without_rows(&taken, When::After));
                snapshots.push(taken.schema.clone());
                side(&taken, When::After)
            }
            Err(missed) => {
                record.downgrades.push(missed.downgrade());
                SnapshotSide::none(missed.code)
            }
        };
        record.downgrades.extend(counted.missed);
        if let Some(snapshot) = &mut record.snapshot {
            snapshot.writes = counted.writes;
            snapshot.post = Some(after);
            snapshot.add_lag(lag_bytes);
        }
        stores.commit(promise, record, contracts, snapshots);
        awaited
    }
}
