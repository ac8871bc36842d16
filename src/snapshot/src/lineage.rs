//! Which calls the rows of declared tables name. Only the declared column and `xmin` of a row are read.

mod changed;
mod count;
mod transactions;

pub use changed::{Changed, Looked, RowWatch, WatchSettings};
pub use count::{RowCount, RowCounter, RowCounterTask};

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::source::{Answers, Connection, Settings};

/// One connection that is opened when it is needed, and once more where the server went away while nobody looked.
#[derive(Debug)]
struct Warm {
    dsn: Dsn,
    settings: Settings,
    connection: Option<Connection>,
}

impl Warm {
    fn new(dsn: Dsn, settings: Settings) -> Self {
        Self { dsn, settings, connection: None }
    }

    /// What begins every transaction, and the number of its statements.
    fn begin(connection: &Connection, settings: &Settings) -> (String, usize) {
        let millis = |duration: Duration| {
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64)
        };
        let (statement, lock) = (millis(settings.statement), millis(settings.lock));
        let begin = crate::catalog::begin(connection.version, statement, lock);
        let statements = begin.matches(';').count() + 1;
        (begin, statements)
    }

    /// Begins a transaction with `statements`; gives the rows of these.
    async fn begin_with(&mut self, statements: &str) -> Result<Answers, SnapshotError> {
        let warm = self.connection.take().filter(|connection| !connection.is_closed());
        let was_warm = warm.is_some();
        let connection = match warm {
            Some(connection) => connection,
            None => self.open().await?,
        };
        match self.begin_on(connection, statements).await {
            Err(error) if was_warm && !error.spares_connection() => {
                let connection = self.open().await?;
                self.begin_on(connection, statements).await
            }
            answered => answered,
        }
    }

    async fn open(&self) -> Result<Connection, SnapshotError> {
        Connection::open(&self.dsn, &self.settings, None).await
    }

    async fn begin_on(&mut self, connection: Connection, statements: &str) -> Result<Answers, SnapshotError> {
        let (begin, count) = Self::begin(&connection, &self.settings);
        let answers = connection.ask_rows(&format!("{begin}; {statements}")).await?;
        self.connection = Some(connection);
        Ok(answers.into_iter().skip(count).collect())
    }

    /// The same transaction goes on.
    async fn go_on(&mut self, statements: &str) -> Result<Answers, SnapshotError> {
        let connection =
            self.connection.clone().ok_or(SnapshotError::Unreadable("the connection is gone"))?;
        connection.ask_rows(statements).await
    }

    /// The same transaction goes on, with messages of which each has its own outcome.
    async fn go_on_all(
        &mut self,
        messages: &[&str],
    ) -> Result<Vec<Result<Answers, SnapshotError>>, SnapshotError> {
        let connection =
            self.connection.clone().ok_or(SnapshotError::Unreadable("the connection is gone"))?;
        Ok(connection.ask_all_rows(messages).await)
    }

    /// After an error: what was asked may still be under way, so that the connection is not used again.
    fn give_up(&mut self) {
        self.connection = None;
    }
}

fn text(row: &SimpleQueryRow, at: usize) -> Option<&str> {
    row.try_get(at).ok().flatten()
}

fn number(row: &SimpleQueryRow, at: usize) -> Result<u64, SnapshotError> {
    let number = text(row, at).and_then(|text| text.parse().ok());
    number.ok_or(SnapshotError::Unreadable("a number about rows"))
}
