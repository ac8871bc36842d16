//! The ledger as a relational database, made anew from what was verified each time somebody asks, and never the truth.
//!
//! It lives in memory, so that nothing can be changed between the ledger and an answer; [`Index::write`] leaves a file for
//! other programs, whose rows cannot be changed either.

mod fill;
mod metric;
mod query;
mod standing;

#[cfg(test)]
mod tests;

use std::path::Path;

use rusqlite::Connection;

use crate::code::{Code, Refusal};
use crate::ledger::Ledger;

pub use metric::{METRICS, Metric};
pub use query::{BYTES_MAX, Cell, ROWS_MAX, TIME_MAX, Table};
pub use standing::{Last, Standing, Took, standings};

const SCHEMA: &str = include_str!("index/schema.sql");

/// A database of one ledger.
pub struct Index {
    db: Connection,
}

fn failed(error: rusqlite::Error) -> Refusal {
    Refusal::new(Code::IndexFailed, format!("the index could not be made: {error}"))
}

impl Index {
    /// Makes it.
    ///
    /// # Errors
    /// `INDEX_FAILED`.
    pub fn of(ledger: &Ledger) -> Result<Self, Refusal> {
        let mut db = Connection::open_in_memory().map_err(failed)?;
        db.execute_batch("PRAGMA foreign_keys = ON").map_err(failed)?;
        db.execute_batch(SCHEMA).map_err(failed)?;
        fill::all(&mut db, ledger).map_err(failed)?;
        for table in tables(&db).map_err(failed)? {
            for deed in ["UPDATE", "DELETE", "INSERT"] {
                let trigger = format!(
                    "CREATE TRIGGER \"{table}_{deed}\" BEFORE {deed} ON \"{table}\" BEGIN \
                     SELECT RAISE(ABORT, 'rows of the ledger are not changed'); END"
                );
                db.execute_batch(&trigger).map_err(failed)?;
            }
        }
        db.execute_batch("PRAGMA query_only = ON").map_err(failed)?;
        Ok(Self { db })
    }

    /// Writes it to a file that was not there.
    ///
    /// # Errors
    /// `INDEX_EXISTS`, `INDEX_FAILED`.
    pub fn write(&self, path: &Path) -> Result<(), Refusal> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
        file.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let said = format!("`{}` exists and is not overwritten", path.display());
                Refusal::new(Code::IndexExists, said)
            }
            _ => Refusal::new(Code::IndexFailed, format!("cannot write `{}`: {error}", path.display())),
        })?;
        let name = path.to_str().ok_or_else(|| Refusal::new(Code::IndexFailed, "the path is no text"))?;
        let written = self.db.execute_batch("PRAGMA query_only = OFF");
        let written = written.and_then(|()| self.db.execute("VACUUM INTO ?1", [name]).map(drop));
        let again = self.db.execute_batch("PRAGMA query_only = ON");
        written.and(again).map_err(|error| {
            // What is half-written is not left.
            let _ = std::fs::remove_file(path);
            failed(error)
        })
    }
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut asked = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    asked.query_map([], |row| row.get(0))?.collect()
}
