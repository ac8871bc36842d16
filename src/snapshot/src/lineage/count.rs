//! How many rows name a call.

use std::sync::Arc;

use estoppel_evidence::id::CallId;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::SimpleQueryRow;

use super::{Warm, number};
use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::source::Settings;
use crate::written::Written;

/// Rows of one table are counted up to this.
const ROWS_MAX: u64 = 10_000;
/// Calls that are asked about at once.
const BATCH_MAX: usize = 64;

/// How many rows of a table name a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowCount {
    pub rows: u64,
    /// There are more than were counted.
    pub is_more: bool,
}

type Answer = Result<Box<[RowCount]>, Arc<SnapshotError>>;
type Request = (CallId, oneshot::Sender<Answer>);

/// Asks how many rows name a call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RowCounter {
    requests: mpsc::Sender<Request>,
    settings: Settings,
}

/// What a [`RowCounter`] is served by: to be run as one task, which ends when no counter is left.
#[derive(Debug)]
pub struct RowCounterTask {
    requests: mpsc::Receiver<Request>,
    tables: Arc<[Written]>,
    warm: Warm,
}

impl RowCounter {
    /// A counter and the task that serves it. Nothing is connected to yet.
    pub fn new(dsn: Dsn, settings: Settings, tables: Arc<[Written]>) -> (Self, RowCounterTask) {
        let (sender, requests) = mpsc::channel(settings.waiting_max.max(1));
        let counter = Self { requests: sender, settings: settings.clone() };
        (counter, RowCounterTask { requests, tables, warm: Warm::new(dsn, settings) })
    }

    /// The rows of each table, in their order, that name `call` now.
    ///
    /// # Errors
    /// What [`SnapshotError`] says.
    pub async fn count(&self, call: CallId) -> Answer {
        let (sender, answer) = oneshot::channel();
        if self.requests.try_send((call, sender)).is_err() {
            return Err(Arc::new(SnapshotError::Busy(self.requests.max_capacity())));
        }
        let patience = self.settings.deadline.saturating_mul(2); // one batch may be under way
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Arc::new(SnapshotError::Late(patience))),
        }
    }
}

impl RowCounterTask {
    /// Serves until the last [`RowCounter`] is gone.
    pub async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let mut waiting = vec![first];
            while let Some(another) = self.requests.try_recv().ok().filter(|_| waiting.len() < BATCH_MAX) {
                waiting.push(another);
            }
            waiting.retain(|(_, answer)| !answer.is_closed());
            let calls: Vec<CallId> = waiting.iter().map(|(call, _)| *call).collect();
            let deadline = self.warm.settings.deadline;
            let counted = match tokio::time::timeout(deadline, self.count(&calls)).await {
                Ok(counted) => counted,
                Err(_) => Err(SnapshotError::Late(deadline)),
            };
            match counted {
                Ok(counts) => {
                    for ((_, answer), counts) in waiting.into_iter().zip(counts) {
                        let _ = answer.send(Ok(counts)); // who gave up waiting has been told so
                    }
                }
                Err(error) => {
                    self.warm.give_up();
                    tracing::warn!(database = %self.warm.dsn, cause = error.cause().as_str(), %error, "rows of calls are not counted");
                    let error = Arc::new(error);
                    for (_, answer) in waiting {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn count(&mut self, calls: &[CallId]) -> Result<Vec<Box<[RowCount]>>, SnapshotError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut statements: Vec<String> = calls.iter().map(|call| self.query(*call)).collect();
        statements.push("COMMIT".into());
        let answers = self.warm.begin_with(&statements.join("; ")).await?;
        let unreadable = SnapshotError::Unreadable("no count of rows");
        let row = |rows: &Vec<SimpleQueryRow>| rows.first().map(|row| self.read(row));
        let counts = answers.iter().take(calls.len()).map(row).collect::<Option<Result<Vec<_>, _>>>();
        counts.ok_or(unreadable)?
    }

    fn read(&self, row: &SimpleQueryRow) -> Result<Box<[RowCount]>, SnapshotError> {
        let count = |at| {
            let rows = number(row, at)?;
            Ok(RowCount { rows: rows.min(ROWS_MAX), is_more: rows > ROWS_MAX })
        };
        (0..self.tables.len()).map(count).collect()
    }

    /// One row with a number for each table.
    fn query(&self, call: CallId) -> String {
        let one = |table: &Written| {
            format!(
                "(SELECT count(*) FROM (SELECT FROM {} WHERE {} = '{call}' LIMIT {}) x)",
                table.quoted(),
                table.quoted_key(),
                ROWS_MAX + 1
            )
        };
        format!("SELECT {}", self.tables.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}
