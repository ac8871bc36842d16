//! Which rows were written since the last look, and what they name.
//!
//! A row's `xmin` is the transaction that wrote it, or a part of one (a savepoint): Postgres does not say of a part whether an earlier
//! snapshot saw it. So of each table it is kept which transactions were seen from the oldest that was running on. What is there
//! beside them was committed since; all rows of a transaction come into sight at once.
//!
//! Rows are read in the order of their transactions and of what they name, in pages. A *sweep* goes through all of them once, and may need
//! several looks: the next goes on where the one before ended, also after an error. What comes into sight behind it, the next sweep finds.

use std::time::Duration;

use super::transactions::Transactions;
use super::{Warm, number, text};
use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::source::{Answers, Settings};
use crate::written::{Written, literal};
use crate::{catalog, hint};

/// Longer keys are cut; no call's id is so long.
const KEY_CHARS_MAX: usize = 64;

/// Rows that were written, or changed, by what they name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// What the declared column holds.
    pub key: Option<Box<str>>,
    pub rows: u64,
    /// They were written after the look with this number began.
    pub since: u64,
}

/// What a look came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Looked {
    /// It goes on from looks before. Otherwise it is not known which rows are new, and none are told.
    pub is_continued: bool,
    /// All rows were looked at. Otherwise the next look goes on where this one ended.
    pub is_whole: bool,
}

/// How much a look reads.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// A larger table is not looked at.
    pub bytes_max: u64,
    /// Pairs of a transaction and a key that are held in memory at a time.
    pub page: u32,
    /// Most such pages of one look.
    pub pages_max: u32,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { bytes_max: 256 << 20, page: 10_000, pages_max: 64 }
    }
}

/// Looks at the rows of tables again and again, each for itself.
#[derive(Debug)]
pub struct RowWatch {
    tables: Box<[Watched]>,
    settings: WatchSettings,
    warm: Warm,
}

/// What is known of one table.
#[derive(Debug)]
struct Watched {
    table: Written,
    seen: Option<Seen>,
    sweep: Option<Sweep>,
    /// When all was seen that there is.
    whole: Option<Moment>,
}

/// What earlier sweeps saw.
#[derive(Debug)]
struct Seen {
    moment: Moment,
    /// All transactions below are over, and seen.
    floor: u64,
    /// Those from there on that were seen.
    transactions: Transactions,
    /// The number of the look that the last sweep began with, or of a later one that found nothing new.
    since: u64,
}

/// A way through all rows.
#[derive(Debug)]
struct Sweep {
    /// The oldest transaction that was running as it began.
    oldest: u64,
    /// The number of the look that it began with.
    number: u64,
    /// The first finds out which rows there are.
    tells: bool,
    /// Up to here all was read: a transaction and a key.
    at: Option<(u64, Option<Box<str>>)>,
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
    /// `settings.deadline` is for a whole look.
    pub fn new(dsn: Dsn, settings: Settings, tables: &[Written], watch: WatchSettings) -> Self {
        let watched =
            |table: &Written| Watched { table: table.clone(), seen: None, sweep: None, whole: None };
        let tables = tables.iter().map(watched).collect();
        Self { tables, settings: watch, warm: Warm::new(dsn, settings) }
    }

    /// Looks at the table at this place now. `number` rises from look to look. What was `found` is not found again, also if the look
    /// fails after it.
    ///
    /// # Errors
    /// What [`SnapshotError`] says; the next look goes on where this one ended.
    pub async fn look(
        &mut self,
        table: usize,
        number: u64,
        found: &mut (dyn FnMut(Changed) + Send),
    ) -> Result<Looked, SnapshotError> {
        let deadline: Duration = self.warm.settings.deadline;
        let Some(watched) = self.tables.get_mut(table) else {
            return Err(SnapshotError::Unreadable("there is no such table in the list"));
        };
        let look = Look { warm: &mut self.warm, settings: &self.settings, number };
        let looked = match tokio::time::timeout(deadline, look.at(watched, found)).await {
            Ok(looked) => looked,
            Err(_) => Err(SnapshotError::Late(deadline)),
        };
        if let Err(error) = &looked {
            self.warm.give_up();
            if matches!(error, SnapshotError::TooMany) {
                watched.forget();
            }
        }
        looked
    }
}

impl Watched {
    fn forget(&mut self) {
        (self.seen, self.sweep, self.whole) = (None, None, None);
    }

    /// Where the next page begins.
    fn from(&self, moment: &Moment) -> u64 {
        let floor = self.seen.as_ref().map_or(moment.oldest, |seen| seen.floor);
        let at = self.sweep.as_ref().and_then(|sweep| sweep.at.as_ref());
        at.map_or(floor, |(transaction, _)| floor.max(*transaction))
    }

    /// Takes a page in. The sweep has come so far then.
    fn read(
        &mut self,
        page: &[tokio_postgres::SimpleQueryRow],
        found: &mut (dyn FnMut(Changed) + Send),
    ) -> Result<(), SnapshotError> {
        let (Some(seen), Some(sweep)) = (&mut self.seen, &mut self.sweep) else { return Ok(()) };
        for row in page {
            let (transaction, rows) = (number(row, 0)?, number(row, 2)?);
            let key: Option<Box<str>> = text(row, 1).map(Into::into);
            if let Some((last, _)) = sweep.at.as_ref().filter(|(last, _)| *last < transaction) {
                seen.end(*last, sweep.oldest)?;
            }
            if sweep.tells && !seen.transactions.contains(transaction) {
                found(Changed { key: key.clone(), rows, since: seen.since });
            }
            sweep.at = Some((transaction, key));
        }
        Ok(())
    }

    /// There are no more rows.
    fn end(&mut self, moment: Moment, number: u64) -> Result<(), SnapshotError> {
        let (Some(seen), Some(sweep)) = (&mut self.seen, self.sweep.take()) else { return Ok(()) };
        if let Some((last, _)) = sweep.at {
            seen.end(last, sweep.oldest)?;
        }
        seen.floor = sweep.oldest;
        seen.transactions.forget_below(sweep.oldest);
        seen.since = sweep.number;
        self.whole = (sweep.number == number).then_some(moment);
        Ok(())
    }
}

impl Seen {
    /// All of a transaction was read. Those that were over as the sweep began are below its floor afterwards.
    fn end(&mut self, transaction: u64, oldest: u64) -> Result<(), SnapshotError> {
        if transaction >= oldest { self.transactions.insert(transaction) } else { Ok(()) }
    }
}

/// One look at one table.
struct Look<'a> {
    warm: &'a mut Warm,
    settings: &'a WatchSettings,
    number: u64,
}

impl Look<'_> {
    async fn at(
        self,
        watched: &mut Watched,
        found: &mut (dyn FnMut(Changed) + Send),
    ) -> Result<Looked, SnapshotError> {
        let begun = self.warm.begin_with(&preflight(&watched.table)).await?;
        let moment = self.moment(&begun, &watched.table)?;
        if watched.seen.as_ref().is_some_and(|seen| !moment.is_later_than(&seen.moment)) {
            watched.forget();
        }
        if watched.sweep.is_none() && watched.whole.as_ref().is_some_and(|whole| whole.is_same(&moment)) {
            self.warm.go_on("COMMIT").await?;
            if let Some(seen) = &mut watched.seen {
                seen.since = self.number;
            }
            return Ok(Looked { is_continued: true, is_whole: true });
        }
        let tells = watched.seen.is_some();
        let (oldest, number) = (moment.oldest, self.number);
        watched.sweep.get_or_insert(Sweep { oldest, number, tells, at: None });
        let is_continued = watched.sweep.as_ref().is_some_and(|sweep| sweep.tells);
        let (transactions, since) = (Transactions::default(), self.number);
        let seen = watched.seen.get_or_insert_with(|| Seen {
            moment: moment.clone(),
            floor: oldest,
            transactions,
            since,
        });
        seen.moment = moment.clone();
        let after = watched.sweep.as_ref().and_then(|sweep| sweep.at.as_ref());
        let scan = scan(&watched.table, watched.from(&moment), after);
        let fetch = format!("FETCH {} FROM pages", self.settings.page);
        let mut ask = format!("DECLARE pages NO SCROLL CURSOR FOR {scan}; {fetch}");
        for _ in 0..self.settings.pages_max.max(1) {
            let answers = self.warm.go_on(&ask).await?;
            let page = answers.last().ok_or(SnapshotError::Unreadable("a page of rows is missing"))?;
            watched.read(page, found)?;
            if (page.len() as u64) < u64::from(self.settings.page) {
                self.warm.go_on("COMMIT").await?;
                watched.end(moment, self.number)?;
                return Ok(Looked { is_continued, is_whole: true });
            }
            ask.clone_from(&fetch);
        }
        self.warm.go_on("COMMIT").await?;
        Ok(Looked { is_continued, is_whole: false })
    }

    fn moment(&self, begun: &Answers, table: &Written) -> Result<Moment, SnapshotError> {
        let unreadable = SnapshotError::Unreadable("no moment of a look");
        let row = |at: usize| begun.get(at).and_then(|rows| rows.first());
        let (Some(system), Some(session), Some(size)) = (row(0), row(1), row(2)) else {
            return Err(unreadable);
        };
        let (bytes, bytes_max) = (number(size, 0)?, self.settings.bytes_max);
        if bytes > bytes_max {
            return Err(SnapshotError::TooLarge { table: table.to_string().into(), bytes, bytes_max });
        }
        if table.hint().is_some() && row(3).and_then(|row| text(row, 0)) != Some("t") {
            return Err(SnapshotError::HintMissing { table: table.to_string().into() });
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

/// Which server, which moment, how large the table is with its parts, all of which are read, and whether the hint is written into it that is declared.
fn preflight(table: &Written) -> String {
    let mut statements = vec![
        catalog::SYSTEM.to_owned(),
        "SELECT d.oid, pg_current_snapshot(), pg_snapshot_xmin(pg_current_snapshot()), pg_is_in_recovery() \
         FROM pg_database d WHERE d.datname = current_database()"
            .to_owned(),
        format!(
            "{} SELECT coalesce(sum(pg_relation_size(part)), 0)::bigint FROM parts",
            hint::with_parts(table)
        ),
    ];
    statements.extend(table.hint().map(|(hint, stamp)| hint::is_there(table, hint, stamp)));
    statements.join("; ")
}

/// Rows of transactions from `from` on, and behind `after`: transaction, key, count. `xmin` has 32 bits of its number; the others follow from
/// it being less than the next one, unless the row is four billion transactions old. `age` leaves out most rows before anything of
/// them is computed.
fn scan(table: &Written, from: u64, after: Option<&(u64, Option<Box<str>>)>) -> String {
    let low = from & u64::from(u32::MAX);
    let (table, column) = (table.quoted(), table.quoted_key());
    let behind = match after {
        None => String::new(),
        Some((transaction, None)) => {
            format!(" AND (x.transaction > {transaction} OR x.key IS NOT NULL)")
        }
        Some((transaction, Some(key))) => {
            format!(" AND (x.transaction > {transaction} OR x.key > {})", literal(key))
        }
    };
    format!(
        "SELECT x.transaction, x.key, count(*) FROM (\
           SELECT n.next - ((n.next - t.xmin::text::bigint) & 4294967295) AS transaction, \
             left(t.{column}::text, {KEY_CHARS_MAX}) COLLATE \"C\" AS key \
           FROM {table} t, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) n \
           WHERE age(t.xmin) <= age('{low}'::xid)) x \
         WHERE x.transaction >= {from}{behind} GROUP BY x.transaction, x.key ORDER BY x.transaction, x.key NULLS FIRST"
    )
}
