//! Which rows were written since the last look, and what they name.
//!
//! A row's `xmin` is the transaction that wrote it, or a part of one (a savepoint): Postgres does not say of a part whether an earlier
//! snapshot saw it. So each look keeps which transactions it saw from the oldest that was running on. What a later one sees
//! beside them was committed in between; all rows of a transaction come into sight at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Warm, number, text};
use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::source::{Answers, Settings};
use crate::written::Written;

/// Most pairs of a transaction and a key that one look reads of a table.
const PAIRS_MAX: usize = 100_000;
/// Longer keys are cut; no call's id is so long.
const KEY_CHARS_MAX: usize = 64;

/// Rows that were written since the look before, or changed, by what they name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Place of the table in the list.
    pub table: usize,
    /// What the declared column holds.
    pub key: Option<Box<str>>,
    pub rows: u64,
}

/// What a look saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    pub changed: Vec<Changed>,
    /// It goes on from the look before. Otherwise nothing is known of what came in between, and `changed` is empty.
    pub is_continued: bool,
    /// All that was changed is in `changed`. Otherwise the next look does not go on from this one.
    pub is_whole: bool,
}

/// Looks at the rows of tables again and again.
#[derive(Debug)]
pub struct RowWatch {
    tables: Arc<[Written]>,
    bytes_max: u64,
    warm: Warm,
    last: Option<Seen>,
}

/// A look that another can go on from.
#[derive(Debug)]
struct Seen {
    moment: Moment,
    /// Transactions from `moment.oldest` on whose rows were there.
    transactions: HashSet<u64>,
}

/// When a look was, in the counting of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Moment {
    system: Box<str>,
    database: Box<str>,
    /// `pg_current_snapshot()` as text.
    snapshot: Box<str>,
    /// The oldest transaction that was running.
    oldest: u64,
    in_recovery: bool,
}

impl Moment {
    /// Nothing was committed in between. Of a replica a snapshot does not say which transactions are running.
    fn is_same(&self, other: &Self) -> bool {
        self == other && !self.in_recovery
    }

    fn is_later_than(&self, other: &Self) -> bool {
        self.system == other.system && self.database == other.database && self.oldest >= other.oldest
    }
}

impl RowWatch {
    /// `settings.deadline` is for a whole look. Larger tables than `bytes_max` are not looked at.
    pub fn new(dsn: Dsn, settings: Settings, tables: Arc<[Written]>, bytes_max: u64) -> Self {
        Self { tables, bytes_max, warm: Warm::new(dsn, settings), last: None }
    }

    /// Looks now.
    ///
    /// # Errors
    /// What [`SnapshotError`] says; the next look goes on from the one before this.
    pub async fn look(&mut self) -> Result<Looked, SnapshotError> {
        let deadline: Duration = self.warm.settings.deadline;
        let looked = match tokio::time::timeout(deadline, self.look_whole()).await {
            Ok(looked) => looked,
            Err(_) => Err(SnapshotError::Late(deadline)),
        };
        looked.inspect_err(|_| self.warm.give_up())
    }

    async fn look_whole(&mut self) -> Result<Looked, SnapshotError> {
        let begun = self.warm.begin_with(&self.preflight()).await?;
        let moment = self.moment(&begun)?;
        if self.last.as_ref().is_some_and(|last| last.moment.is_same(&moment)) {
            self.warm.go_on("COMMIT").await?;
            return Ok(Looked { changed: Vec::new(), is_continued: true, is_whole: true });
        }
        let last = self.last.as_ref().filter(|last| moment.is_later_than(&last.moment));
        let since = last.map_or(moment.oldest, |last| last.moment.oldest);
        let mut scans: Vec<String> = self.tables.iter().map(|table| scan(table, since)).collect();
        scans.push("COMMIT".into());
        let scanned = self.warm.go_on(&scans.join("; ")).await?;
        if scanned.len() != scans.len() {
            return Err(SnapshotError::Unreadable("rows of a table are missing"));
        }
        let mut looked = Looked { changed: Vec::new(), is_continued: last.is_some(), is_whole: true };
        let mut transactions = HashSet::new();
        for (table, rows) in scanned.iter().take(self.tables.len()).enumerate() {
            looked.is_whole &= rows.len() <= PAIRS_MAX;
            for row in rows {
                let transaction = number(row, 0)?;
                if transaction >= moment.oldest {
                    transactions.insert(transaction);
                }
                if last.is_some_and(|last| !last.transactions.contains(&transaction)) {
                    looked.changed.push(Changed {
                        table,
                        key: text(row, 1).map(Into::into),
                        rows: number(row, 2)?,
                    });
                }
            }
        }
        self.last = looked.is_whole.then_some(Seen { moment, transactions });
        Ok(looked)
    }

    /// Which server, which moment, and how large each table is with its partitions.
    fn preflight(&self) -> String {
        let mut statements = vec![
            crate::catalog::SYSTEM.to_owned(),
            "SELECT d.oid, pg_current_snapshot(), pg_snapshot_xmin(pg_current_snapshot()), pg_is_in_recovery() \
             FROM pg_database d WHERE d.datname = current_database()"
                .to_owned(),
        ];
        statements.extend(self.tables.iter().map(|table| {
            let name = table.literal();
            format!(
                "SELECT coalesce((SELECT sum(pg_relation_size(p.relid))::bigint FROM pg_partition_tree({name}::regclass) p), \
                 pg_relation_size({name}::regclass))"
            )
        }));
        statements.join("; ")
    }

    fn moment(&self, begun: &Answers) -> Result<Moment, SnapshotError> {
        let unreadable = SnapshotError::Unreadable("no moment of a look");
        let row = |at: usize| begun.get(at).and_then(|rows| rows.first());
        let (Some(system), Some(session)) = (row(0), row(1)) else { return Err(unreadable) };
        for (at, table) in self.tables.iter().enumerate() {
            let size = row(2 + at).ok_or(SnapshotError::Unreadable("no size of a table"))?;
            let bytes = number(size, 0)?;
            if bytes > self.bytes_max {
                let table = table.to_string().into();
                return Err(SnapshotError::TooLarge { table, bytes, bytes_max: self.bytes_max });
            }
        }
        let text = |row, at| text(row, at).map(Box::<str>::from);
        let (Some(system), Some(database), Some(snapshot)) =
            (text(system, 0), text(session, 0), text(session, 1))
        else {
            return Err(unreadable);
        };
        let in_recovery = super::text(session, 3) != Some("f");
        Ok(Moment { system, database, snapshot, oldest: number(session, 2)?, in_recovery })
    }
}

/// Rows of transactions from `since` on: transaction, key, count. `xmin` has 32 bits of its number; the others follow from it being less
/// than the next one, unless the row is four billion transactions old. `age` leaves out most rows before anything of them is computed.
fn scan(table: &Written, since: u64) -> String {
    let low = since & u64::from(u32::MAX);
    let (table, key) = (table.quoted(), table.quoted_key());
    format!(
        "SELECT x.transaction, x.key, count(*) FROM (\
           SELECT n.next - ((n.next - t.xmin::text::bigint) & 4294967295) AS transaction, \
             left(t.{key}::text, {KEY_CHARS_MAX}) AS key \
           FROM {table} t, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n \
           WHERE age(t.xmin) <= age('{low}'::xid)) x \
         WHERE x.transaction >= {since} GROUP BY x.transaction, x.key ORDER BY x.key IS NOT NULL LIMIT {}",
        PAIRS_MAX + 1
    )
}
