//! Declared tables of whose rows snapshots have no digests: told when it begins, and by a metric.

use std::sync::{Mutex, PoisonError};

use estoppel_snapshot::{Snapshot, TableName};

use crate::Metrics;

/// Nothing is known of a table yet.
const UNKNOWN: &str = "";
/// Its rows were read.
const READ: &str = "none";

pub(super) struct Digests {
    tables: Vec<TableName>,
    /// Why each was not read the last time.
    said: Mutex<Vec<&'static str>>,
}

impl Digests {
    pub(super) fn of(tables: Vec<TableName>) -> Self {
        let said = Mutex::new(vec![UNKNOWN; tables.len()]);
        Self { tables, said }
    }

    pub(super) fn tables(&self) -> &[TableName] {
        &self.tables
    }

    /// What a snapshot has of them.
    pub(super) fn tell(&self, database: &str, taken: &Snapshot, metrics: &Metrics) {
        let Some(rows) = taken.schema.rows() else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, said) in self.tables.iter().zip(said.iter_mut()) {
            let gap = rows.gaps().find(|(name, _)| *name == table);
            let cause = gap.map_or(READ, |(_, cause)| cause.as_str());
            if cause == *said {
                continue;
            }
            *said = cause;
            if cause != READ {
                tracing::warn!(database, table = %table, cause, "snapshots have no digests of the rows of a table");
            }
            metrics.rows_digested(database, &table.to_string(), cause == READ);
        }
    }
}
