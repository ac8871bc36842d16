//! The file of counters, flags and keys, and the thread that writes it. What waits together is written in one transaction,
//! and is on disk when it is acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Transaction, params};
use tokio::sync::oneshot;

use crate::counter::{CounterKey, Span};
use crate::{Flags, StoreError};

/// Most writes that may wait for the thread; with more, claims are [`StoreError::Busy`].
const QUEUE_MAX: usize = 16_384;
/// Most writes in one transaction.
const BATCH_MAX: usize = 1_024;
/// Rows that are over are removed once in so many transactions.
const SWEEP_EVERY: u64 = 4_096;
/// `PRAGMA user_version` of the layout below.
const LAYOUT: i64 = 2;

const TABLES: &str = "
    CREATE TABLE counters (
        counter BLOB NOT NULL, span TEXT NOT NULL, seconds INTEGER NOT NULL, slot INTEGER NOT NULL,
        used INTEGER NOT NULL, end_us INTEGER NOT NULL, PRIMARY KEY (counter, slot)
    ) WITHOUT ROWID;
    CREATE TABLE flags (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// What layout 1 did not have.
const KEYS: &str = "
    CREATE TABLE keys (
        key BLOB NOT NULL PRIMARY KEY, payload BLOB NOT NULL, call TEXT NOT NULL, end_us INTEGER NOT NULL, answer BLOB
    ) WITHOUT ROWID;
    PRAGMA user_version = 2;
";

/// One part of a counter, as it is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub counter: CounterKey,
    pub span: Span,
    pub slot: u64,
    pub used: u64,
}

/// A key, as it is written down: without an answer, the call that has it was not known to be answered.
#[derive(Debug)]
pub(super) struct KeyRow {
    pub key: CounterKey,
    pub payload: [u8; 32],
    pub call: String,
    pub end_us: u64,
    pub answer: Option<Bytes>,
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub rows: Vec<Row>,
    pub flags: Flags,
    pub keys: Vec<KeyRow>,
}

/// Resolves when it is on disk; dropped when it cannot be.
pub(super) type Written = oneshot::Receiver<()>;

#[derive(Debug)]
struct Write {
    what: What,
    done: oneshot::Sender<()>,
}

#[derive(Debug)]
enum What {
    /// What a restart finds is at least this.
    Raise {
        rows: Vec<Row>,
        now_us: u64,
    },
    Flag(String, Option<String>),
    Key(KeyRow),
    Answer(CounterKey, Bytes),
    FreeKey(CounterKey),
    /// Those that are over by then.
    ForgetKeys {
        now_us: u64,
    },
    /// What a restart finds is this. The thread ends.
    Exact(Vec<Row>),
}

impl What {
    fn now_us(&self) -> u64 {
        match self {
            Self::Raise { now_us, .. } => *now_us,
            Self::Flag(..)
            | Self::Exact(_)
            | Self::Key(_)
            | Self::Answer(..)
            | Self::FreeKey(_)
            | Self::ForgetKeys { .. } => 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    queue: Mutex<Option<SyncSender<Write>>>,
}

impl Disk {
    pub fn open(file: &Path, now_us: u64) -> Result<(Self, Kept), StoreError> {
        let (connection, kept) = match file.exists() {
            true => {
                let connection = connect(file)?;
                let kept = read(&connection, now_us)?;
                (Some(connection), kept)
            }
            false => (None, Kept::default()),
        };
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let writer = Writer { file: file.into(), connection, batches: 0 };
        std::thread::Builder::new()
            .name("state".into())
            .spawn(move || writer.run(&receiver))
            .map_err(StoreError::Thread)?;
        Ok((Self { queue: Mutex::new(Some(sender)) }, kept))
    }

    pub fn raise(&self, now_us: u64, rows: Vec<Row>) -> Result<Written, StoreError> {
        self.push(What::Raise { rows, now_us })
    }

    pub fn set_flag(&self, name: &str, value: Option<&str>) -> Result<Written, StoreError> {
        self.push(What::Flag(name.into(), value.map(Into::into)))
    }

    pub fn keep_key(&self, row: KeyRow) -> Result<Written, StoreError> {
        self.push(What::Key(row))
    }

    pub fn answer_key(&self, key: CounterKey, answer: Bytes) -> Result<Written, StoreError> {
        self.push(What::Answer(key, answer))
    }

    pub fn free_key(&self, key: CounterKey) -> Result<Written, StoreError> {
        self.push(What::FreeKey(key))
    }

    pub fn forget_keys(&self, now_us: u64) -> Result<Written, StoreError> {
        self.push(What::ForgetKeys { now_us })
    }

    /// Writes what is counted, and ends the thread.
    pub fn close(&self, rows: Vec<Row>) -> Result<Written, StoreError> {
        let written = self.push(What::Exact(rows));
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        written
    }

    fn push(&self, what: What) -> Result<Written, StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(StoreError::Closed)?;
        let (done, written) = oneshot::channel();
        queue.try_send(Write { what, done }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        Ok(written)
    }
}

fn connect(file: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::ZERO)?; // whoever has it keeps it
    // Exclusive: two processes on one file would grant what is there once twice.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match layout {
        0 => connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} {KEYS} COMMIT;"))?,
        1 => connection.execute_batch(&format!("BEGIN IMMEDIATE; {KEYS} COMMIT;"))?,
        LAYOUT => connection.execute_batch("BEGIN IMMEDIATE; COMMIT;")?, // takes the lock now, not at the first call
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    Ok(connection)
}

fn read(connection: &Connection, now_us: u64) -> Result<Kept, rusqlite::Error> {
    let mut query = connection.prepare(
        "SELECT counter, span, seconds, slot, used FROM counters WHERE end_us > ?1 ORDER BY counter, slot",
    )?;
    let rows = query.query_map([signed(now_us)], |row| {
        let seconds = u32::try_from(row.get::<_, i64>(2)?).unwrap_or(u32::MAX);
        Ok(Row {
            counter: CounterKey(row.get(0)?),
            span: match row.get::<_, String>(1)?.as_str() {
                "day" => Span::Day,
                "month" => Span::Month,
                _ => Span::Window { seconds },
            },
            slot: unsigned(row.get(3)?),
            used: unsigned(row.get(4)?),
        })
    })?;
    let rows = rows.collect::<Result<_, _>>()?;
    let mut query = connection.prepare("SELECT name, value FROM flags")?;
    let flags = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let flags = flags.collect::<Result<_, _>>()?;
    connection.execute("DELETE FROM keys WHERE end_us <= ?1", [signed(now_us)])?;
    let mut query = connection.prepare("SELECT key, payload, call, end_us, answer FROM keys")?;
    let keys = query.query_map([], |row| {
        Ok(KeyRow {
            key: CounterKey(row.get(0)?),
            payload: row.get(1)?,
            call: row.get(2)?,
            end_us: unsigned(row.get(3)?),
            answer: row.get::<_, Option<Vec<u8>>>(4)?.map(Bytes::from),
        })
    })?;
    Ok(Kept { rows, flags, keys: keys.collect::<Result<_, _>>()? })
}

struct Writer {
    file: PathBuf,
    /// Made with the first write.
    connection: Option<Connection>,
    batches: u64,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            batch.extend(queue.try_iter().take(BATCH_MAX - 1));
            let written = self.write(&batch);
            if let Err(error) = &written {
                tracing::error!(%error, file = %self.file.display(), "counters cannot be written");
                self.connection = None;
            }
            if batch.iter().any(|write| matches!(write.what, What::Exact(_))) {
                self.connection = None; // the file is free before anybody hears of it
            }
            for write in batch {
                if written.is_ok() {
                    // Whoever has gone away gave back what it held.
                    let _ = write.done.send(());
                }
            }
        }
    }

    fn write(&mut self, batch: &[Write]) -> Result<(), rusqlite::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.file)?),
        };
        self.batches += 1;
        let transaction = connection.transaction()?;
        for write in batch {
            apply(&transaction, &write.what)?;
        }
        if self.batches.is_multiple_of(SWEEP_EVERY) {
            let now_us = batch.iter().map(|write| write.what.now_us()).max().unwrap_or_default();
            transaction.execute("DELETE FROM counters WHERE end_us <= ?1", [signed(now_us)])?;
        }
        transaction.commit()
    }
}

fn apply(transaction: &Transaction<'_>, what: &What) -> Result<(), rusqlite::Error> {
    match what {
        What::Raise { rows, .. } => put(transaction, rows, "MAX(used, excluded.used)"),
        What::Exact(rows) => put(transaction, rows, "excluded.used"),
        What::Flag(name, Some(value)) => {
            let text = "INSERT INTO flags VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
            transaction.prepare(text)?.execute(params![name, value]).map(drop)
        }
        What::Flag(name, None) => {
            transaction.prepare("DELETE FROM flags WHERE name = ?1")?.execute([name]).map(drop)
        }
        What::Key(KeyRow { key, payload, call, end_us, answer: _ }) => transaction
            .prepare("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3, ?4, NULL)")?
            .execute(params![key.0, payload, call, signed(*end_us)])
            .map(drop),
        What::Answer(key, answer) => transaction
            .prepare("UPDATE keys SET answer = ?2 WHERE key = ?1")?
            .execute(params![key.0, answer.as_ref()])
            .map(drop),
        What::FreeKey(key) => {
            transaction.prepare("DELETE FROM keys WHERE key = ?1")?.execute([key.0]).map(drop)
        }
        What::ForgetKeys { now_us } => {
            transaction.execute("DELETE FROM keys WHERE end_us <= ?1", [signed(*now_us)]).map(drop)
        }
    }
}

fn put(transaction: &Transaction<'_>, rows: &[Row], used: &str) -> Result<(), rusqlite::Error> {
    let text = format!(
        "INSERT INTO counters VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET used = {used}, end_us = excluded.end_us"
    );
    let mut insert = transaction.prepare(&text)?;
    for row in rows {
        let (span, seconds) = row.span.code();
        let end_us = signed(row.span.end_us(row.slot));
        insert.execute(params![row.counter.0, span, seconds, signed(row.slot), signed(row.used), end_us])?;
    }
    Ok(())
}

/// SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
