//! How many rows name a call.

use std::sync::Arc;

use estoppel_evidence::id::CallId;
use tokio::sync::{mpsc, oneshot};

use super::{Warm, number, text};
use crate::dsn::Dsn;
use crate::error::{Cause, SnapshotError};
use crate::source::{Answers, Settings};
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

/// Of each table in their order.
type Counts = Box<[Result<RowCount, Cause>]>;
type Answer = Result<Counts, Arc<SnapshotError>>;
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
    /// In which order tables are asked: those that could not be counted the last time come last.
    order: Vec<usize>,
    warm: Warm,
}

impl RowCounter {
    /// A counter and the task that serves it. Nothing is connected to yet.
    pub fn new(dsn: Dsn, settings: Settings, tables: Arc<[Written]>) -> (Self, RowCounterTask) {
        let (sender, requests) = mpsc::channel(settings.waiting_max.max(1));
        let counter = Self { requests: sender, settings: settings.clone() };
        let order = (0..tables.len()).collect();
        // A slow table leaves time for the others.
        let share = settings.deadline / 2;
        let statement = if tables.len() > 1 { settings.statement.min(share) } else { settings.statement };
        let settings = Settings { statement, ..settings };
        (counter, RowCounterTask { requests, tables, order, warm: Warm::new(dsn, settings) })
    }

    /// The rows of each table, in their order, that name `call` now, or why they could not be counted.
    ///
    /// # Errors
    /// None could be: what [`SnapshotError`] says.
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

    /// Of each call. One table that cannot be counted hinders no other.
    async fn count(&mut self, calls: &[CallId]) -> Result<Vec<Counts>, SnapshotError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.warm.begin_with("SAVEPOINT a_table").await?;
        let ask = |table: &Written| {
            let hint = table.hint().map_or_else(
                || "SELECT true".to_owned(),
                |(hint, stamp)| crate::hint::is_there(table, hint, stamp),
            );
            let counts: Vec<String> = calls.iter().map(|call| query(table, *call)).collect();
            format!("{hint}; {}; ROLLBACK TO SAVEPOINT a_table", counts.join("; "))
        };
        let asked = self.order.iter().filter_map(|at| self.tables.get(*at)).map(ask).collect::<Vec<_>>();
        // After an error nothing is taken but this.
        let mut messages = Vec::with_capacity(asked.len() * 2 + 1);
        for ask in &asked {
            messages.extend([ask.as_str(), "ROLLBACK TO SAVEPOINT a_table"]);
        }
        messages.push("COMMIT");
        let mut answers = self.warm.go_on_all(&messages).await?;
        answers.pop().ok_or(SnapshotError::Unreadable("no end of a count"))??;
        let mut counted = vec![vec![Err(Cause::Unreadable); self.tables.len()]; calls.len()];
        let mut later = Vec::new();
        for (at, answer) in self.order.iter().zip(answers.into_iter().step_by(2)) {
            let counts = match answer {
                Err(error) if !error.spares_connection() => return Err(error),
                answer => answer.and_then(|answers| self.read(*at, &answers, calls.len())),
            };
            if let Err(error) = &counts {
                let table = self.tables.get(*at).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(database = %self.warm.dsn, table, cause = error.cause().as_str(), %error, "rows of calls are not counted");
                later.push(*at);
            }
            for (call, of_call) in counted.iter_mut().enumerate() {
                let count = match &counts {
                    Ok(counts) => counts.get(call).copied().ok_or(Cause::Unreadable),
                    Err(error) => Err(error.cause()),
                };
                if let Some(place) = of_call.get_mut(*at) {
                    *place = count;
                }
            }
        }
        self.order.retain(|at| !later.contains(at));
        self.order.append(&mut later);
        Ok(counted.into_iter().map(Vec::into_boxed_slice).collect())
    }

    /// What was said of one table, for each call.
    fn read(&self, at: usize, answers: &Answers, calls: usize) -> Result<Vec<RowCount>, SnapshotError> {
        let said = answers.first().and_then(|rows| rows.first()).and_then(|row| text(row, 0));
        if said != Some("t") {
            let table = self.tables.get(at).map(ToString::to_string).unwrap_or_default();
            return Err(SnapshotError::HintMissing { table: table.into() });
        }
        let counts = answers.iter().skip(1).take(calls).map(|rows| {
            let rows = number(rows.first().ok_or(SnapshotError::Unreadable("no count of rows"))?, 0)?;
            Ok(RowCount { rows: rows.min(ROWS_MAX), is_more: rows > ROWS_MAX })
        });
        counts.collect()
    }
}

/// One row with a number.
fn query(table: &Written, call: CallId) -> String {
    format!(
        "SELECT count(*) FROM (SELECT FROM {} WHERE {} = '{call}' LIMIT {}) x",
        table.quoted(),
        table.quoted_key(),
        ROWS_MAX + 1
    )
}
