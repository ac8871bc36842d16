//! Rows of tables, as another transaction sees them that exported its snapshot.

use std::time::Duration;

use estoppel_evidence::hash::Sha256;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Settings;
use super::connection::Connection;
use crate::catalog;
use crate::dsn::Dsn;
use crate::error::{Cause, SnapshotError};
use crate::rows::{RowDigests, Rows, RowsCause, TableName, TableRows};

/// Which rows are read, and how much of them at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowSettings {
    /// Only of these.
    pub tables: Vec<TableName>,
    /// More rows than this, of all tables together, are not read.
    pub rows_max: u64,
    /// Nor more bytes of text.
    pub bytes_max: u64,
    /// Nor for longer.
    pub time_max: Duration,
}

impl Default for RowSettings {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            rows_max: 10_000,
            bytes_max: 16 << 20,
            time_max: Duration::from_millis(200),
        }
    }
}

/// A second connection, kept warm. What the first one exports is gone when its transaction ends, so [`Copies::import`] comes before.
#[derive(Debug, Default)]
pub(super) struct Copies {
    connection: Option<Connection>,
}

/// A transaction that sees what the exported one sees.
pub(super) struct Imported {
    connection: Connection,
    until: Instant,
}

/// What may still be read.
struct Left {
    rows: u64,
    bytes: u64,
}

/// Why a table was left out, and whether others can still be read over the same connection.
struct Stop {
    cause: RowsCause,
    ends: bool,
}

impl Copies {
    pub async fn import(
        &mut self,
        dsn: &Dsn,
        settings: &Settings,
        snapshot: &str,
    ) -> Result<Imported, RowsCause> {
        let until = Instant::now() + settings.rows.time_max;
        let imported = async {
            let warm = self.connection.take().filter(|connection| !connection.is_closed());
            let connection = match warm {
                Some(connection) => connection,
                None => Connection::open(dsn, settings, None).await?,
            };
            let begin = catalog::begin_at(
                snapshot,
                connection.version,
                super::millis(settings.rows.time_max),
                super::millis(settings.lock),
            );
            connection.client().batch_execute(&begin).await?;
            Ok::<_, SnapshotError>(connection)
        };
        match tokio::time::timeout_at(until, imported).await {
            Ok(Ok(connection)) => Ok(Imported { connection, until }),
            Ok(Err(error)) => Err(cause_of(&error)),
            Err(_) => Err(RowsCause::TimeMax),
        }
    }

    /// Reads the tables. A connection over which more comes than is wanted is dropped: nothing is cancelled.
    pub async fn read(&mut self, imported: Imported, settings: &RowSettings) -> Rows {
        let Imported { connection, until } = imported;
        let mut rows = Rows::default();
        let mut left = Left { rows: settings.rows_max, bytes: settings.bytes_max };
        let mut ended = None;
        for table in &settings.tables {
            let read = match ended {
                Some(cause) => Err(Stop { cause, ends: true }),
                None => match tokio::time::timeout_at(until, copy(&connection, table, &mut left)).await {
                    Ok(read) => read,
                    Err(_) => Err(Stop { cause: RowsCause::TimeMax, ends: true }),
                },
            };
            let read = match read {
                Ok(digests) => TableRows::Known(digests),
                Err(Stop { cause, ends }) => {
                    ended = ended.or(ends.then_some(cause));
                    TableRows::Missing(cause)
                }
            };
            rows.put(table.clone(), read);
        }
        if ended.is_none() {
            connection.roll_back();
            self.connection = Some(connection);
        }
        rows
    }
}

async fn copy(connection: &Connection, table: &TableName, left: &mut Left) -> Result<RowDigests, Stop> {
    let client = connection.client();
    let ends = |error: tokio_postgres::Error| Stop { cause: cause_of(&error.into()), ends: true };
    client.batch_execute("SAVEPOINT a_table").await.map_err(ends)?;
    let read = stream(connection, table, left).await;
    if let Err(Stop { ends: true, .. }) = read {
        return read;
    }
    client.batch_execute("ROLLBACK TO SAVEPOINT a_table").await.map_err(ends)?;
    read
}

async fn stream(connection: &Connection, table: &TableName, left: &mut Left) -> Result<RowDigests, Stop> {
    let failed = |error: tokio_postgres::Error| {
        let error = SnapshotError::from(error);
        Stop { ends: error.cause() == Cause::Connect, cause: cause_of(&error) }
    };
    let one_more = left.rows.saturating_add(1);
    let sql = format!(
        "COPY (SELECT * FROM {}.{} LIMIT {one_more}) TO STDOUT",
        quoted(&table.schema),
        quoted(&table.table)
    );
    let copied = connection.client().copy_out(&sql).await.map_err(failed)?;
    let mut copied = std::pin::pin!(copied);
    let mut rows = Texts::default();
    while let Some(chunk) = copied.next().await {
        rows.push(&chunk.map_err(failed)?);
        if rows.bytes > left.bytes {
            return Err(Stop { cause: RowsCause::BytesMax, ends: true });
        }
    }
    let read = rows.finish();
    if read.0.len() as u64 > left.rows {
        return Err(Stop { cause: RowsCause::RowsMax, ends: false });
    }
    left.rows -= read.0.len() as u64;
    left.bytes -= read.1;
    Ok(RowDigests::new(read.0, read.1))
}

/// Lines of text become digests, wherever they are cut.
#[derive(Default)]
struct Texts {
    begun: Vec<u8>,
    digests: Vec<[u8; 32]>,
    bytes: u64,
}

impl Texts {
    fn push(&mut self, mut chunk: &[u8]) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = chunk.split_at(end);
            self.bytes += line.len() as u64;
            if self.begun.is_empty() {
                self.digests.push(Sha256::of(line).0);
            } else {
                self.begun.extend_from_slice(line);
                self.digests.push(Sha256::of(&std::mem::take(&mut self.begun)).0);
            }
            chunk = rest.get(1..).unwrap_or_default();
        }
        self.bytes += chunk.len() as u64;
        self.begun.extend_from_slice(chunk);
    }

    fn finish(self) -> (Vec<[u8; 32]>, u64) {
        (self.digests, self.bytes)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn cause_of(error: &SnapshotError) -> RowsCause {
    match error.cause() {
        Cause::Connect => RowsCause::Connect,
        Cause::StatementTimeout | Cause::Budget => RowsCause::TimeMax,
        Cause::LockTimeout => RowsCause::LockTimeout,
        Cause::Permission => RowsCause::Permission,
        Cause::RlsFiltered => RowsCause::RlsFiltered,
        Cause::DdlRace => RowsCause::UnknownTable,
        Cause::Version
        | Cause::Identity
        | Cause::Busy
        | Cause::Server
        | Cause::Unreadable
        | Cause::TooManyRelations
        | Cause::ReplicaRejected
        | Cause::LagExceeded
        | Cause::ReplayPaused
        | Cause::TableMissing
        | Cause::KeyMissing
        | Cause::KeyType
        | Cause::TooLarge
        | Cause::HintMissing
        | Cause::TooMany => RowsCause::Server,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn published_vectors_hold_wherever_the_text_is_cut() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../../spec/snapshot-vectors.json")).unwrap();
        for vector in vectors["rows"].as_array().unwrap() {
            let copied = vector["copied"].as_str().unwrap().as_bytes();
            for at in 0..=copied.len() {
                let mut texts = Texts::default();
                texts.push(&copied[..at]);
                texts.push(&copied[at..]);
                let (digests, bytes) = texts.finish();
                let mut rows = Rows::default();
                rows.put("t".parse().unwrap(), TableRows::Known(RowDigests::new(digests, bytes)));
                assert_eq!(rows.document()["public"]["t"], vector["table"], "{vector} cut at {at}");
            }
        }
    }
}
