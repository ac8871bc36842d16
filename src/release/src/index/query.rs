//! Questions in SQL, which can neither change anything nor go on for ever.

use std::sync::mpsc;
use std::time::Duration;

use estoppel_evidence::hash::hex;
use rusqlite::Batch;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use serde::Serialize;

use super::Index;
use crate::code::{Code, Refusal};

/// Most rows of an answer. With more there is none, and `QUERY_ROWS_MAX`.
pub const ROWS_MAX: usize = 10_000;
/// Most bytes of an answer. With more there is none, and `QUERY_ROWS_MAX`.
pub const BYTES_MAX: usize = 16 << 20;
/// How long a question may take. Then `QUERY_TIME`.
pub const TIME_MAX: Duration = Duration::from_secs(30);
/// Most memory of SQLite.
const HEAP_BYTES_MAX: u64 = 1 << 30;

/// An answer.
#[derive(Debug, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// A value of an answer.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    Null,
    Whole(i64),
    Fraction(f64),
    /// Bytes are written in hex digits.
    Text(String),
}

impl Cell {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Whole(number),
            ValueRef::Real(number) => Self::Fraction(number),
            ValueRef::Text(bytes) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            ValueRef::Blob(bytes) => Self::Text(hex(bytes)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Null | Self::Whole(_) | Self::Fraction(_) => 8,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("-"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Fraction(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Index {
    /// Answers one question.
    ///
    /// # Errors
    /// `QUERY_WRITES` for what is no question, `QUERY_INVALID`, `QUERY_ROWS_MAX`, `QUERY_TIME`.
    pub fn query(&self, sql: &str) -> Result<Table, Refusal> {
        self.query_within(sql, TIME_MAX)
    }

    pub(super) fn query_within(&self, sql: &str, time: Duration) -> Result<Table, Refusal> {
        let limit = format!("PRAGMA hard_heap_limit = {HEAP_BYTES_MAX}");
        // The memory of the process bounds it where SQLite cannot.
        let _ = self.db.query_row(&limit, [], |_| Ok(()));
        let interrupt = self.db.get_interrupt_handle();
        let (done, over) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if over.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                    interrupt.interrupt();
                }
            });
            let answer = self.ask(sql, time);
            drop(done);
            answer
        })
    }

    fn ask(&self, sql: &str, time: Duration) -> Result<Table, Refusal> {
        let refused = |error: rusqlite::Error| refusal(&error, time);
        let mut batch = Batch::new(&self.db, sql);
        let empty = || Refusal::new(Code::QueryInvalid, "there is no question");
        let mut asked = batch.next().map_err(refused)?.ok_or_else(empty)?;
        // What has no columns is BEGIN, ATTACH and the like, which say that they change nothing.
        if !asked.readonly() || asked.column_count() == 0 {
            let said = "only questions are answered: one SELECT; the index is made from the ledger and never written to";
            return Err(Refusal::new(Code::QueryWrites, said));
        }
        if batch.next().map_err(refused)?.is_some() {
            return Err(Refusal::new(Code::QueryInvalid, "there are several statements; one is answered"));
        }
        let columns: Vec<String> = asked.column_names().map(ToOwned::to_owned).collect();
        let width = columns.len();
        let mut table = Table { columns, rows: Vec::new() };
        let mut bytes = 0;
        let mut rows = asked.query([]).map_err(refused)?;
        while let Some(row) = rows.next().map_err(refused)? {
            let cells: Result<Vec<Cell>, _> = (0..width).map(|at| row.get_ref(at).map(Cell::of)).collect();
            let cells = cells.map_err(refused)?;
            bytes += cells.iter().map(Cell::bytes).sum::<usize>();
            if table.rows.len() == ROWS_MAX || bytes > BYTES_MAX {
                let said =
                    format!("the answer has more than {ROWS_MAX} rows or {BYTES_MAX} bytes; ask for less");
                return Err(Refusal::new(Code::QueryRowsMax, said));
            }
            table.rows.push(cells);
        }
        Ok(table)
    }
}

fn refusal(error: &rusqlite::Error, time: Duration) -> Refusal {
    use rusqlite::ErrorCode::{OperationInterrupted, ReadOnly};
    match error.sqlite_error_code() {
        Some(OperationInterrupted) => {
            Refusal::new(Code::QueryTime, format!("it was not answered after {} s", time.as_secs_f32()))
        }
        Some(ReadOnly) => Refusal::new(Code::QueryWrites, "the index is never written to"),
        _ => Refusal::new(Code::QueryInvalid, error.to_string()),
    }
}
