//! Databases that calls write to.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use estoppel_snapshot::{RowSettings, TableName, WatchSettings};
use serde::Deserialize;

use super::{COUNT_MAX, NAME_RULE, SettingsError, is_name};

/// Longest that a call may be made to wait for one snapshot.
const WAIT_MS_MAX: u64 = 60_000;
/// Most tables of one database whose rows name calls.
const WRITTEN_MAX: usize = 8;
/// Longest time between two looks at rows.
const EVERY_MS_MAX: u64 = 3_600_000;
/// Largest table that may be looked at, MiB.
const WATCH_MIB_MAX: u64 = 1 << 20;
/// Most tables whose rows are read.
const TABLES_MAX: usize = 64;
/// Most that may be said of rows: 32 bytes of memory each, and 43 of a document.
const ROWS_MAX: u64 = 1_000_000;
const ROWS_BYTES_MAX: u64 = 1 << 30;

/// A Postgres database that is looked at around the calls that the policy names (`snapshot`). Whoever can edit this chooses which
/// database receipts speak of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Name in policy, receipts and metrics.
    pub name: String,
    /// File with its `postgresql://` URL, mode 0600. This or `url_env`. Read again on reload.
    pub url_file: Option<PathBuf>,
    /// Name of the environment variable with the URL.
    pub url_env: Option<String>,
    /// PEM certificates that are trusted instead of the built-in web roots, where the connection is over TLS.
    pub ca: Option<PathBuf>,
    /// What a snapshot should take at most; slower ones are counted. Default 50 ms.
    #[serde(default = "budget_ms")]
    pub budget_ms: u64,
    /// How much longer a call waits for one. Then there is none: `PRE_FAIL` or `POST_TIMEOUT`. Default 200 ms.
    #[serde(default = "grace_ms")]
    pub grace_ms: u64,
    /// How long it is tried to get a snapshot after a call whose receipt went without; then its run has an entry of its own, and it is not
    /// sealed before. 0: not at all. Default 10 s.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// How long the server may work on one statement. Default: as long as a call waits.
    pub statement_ms: Option<u64>,
    /// How long a statement may queue behind DDL. Default 100 ms.
    #[serde(default = "lock_ms")]
    pub lock_ms: u64,
    /// More relations than this are not looked at (`POLICY_SKIP`). Default 1,000.
    #[serde(default = "relations_max")]
    pub relations_max: usize,
    /// So many calls may wait for snapshots of it at a time; for more there is none. Default 1,024.
    #[serde(default = "waiting_max")]
    pub waiting_max: usize,
    /// Takes a replica for the database. Default false: `REPLICA_LAG`.
    #[serde(default)]
    pub allow_replica: bool,
    /// Takes a change of the schema outside of the calls that are looked at around for one that went round the gateway: an entry
    /// `bypass`. Only where all of them come through this gateway. Default false.
    #[serde(default)]
    pub watch_schema: bool,
    /// Tables whose rows name the call that wrote them: the gateway tells an upstream the call's id (`estoppel-call`), and counts
    /// after each call the rows that hold it.
    #[serde(default)]
    pub written: Vec<Written>,
    /// Takes a row of `written` that was written and names no call that was under way for one that went round the gateway: an entry
    /// `bypass`. Only where all that write there come through this gateway. Default false.
    #[serde(default)]
    pub watch_rows: bool,
    /// How often they are looked at. Default 5,000 ms.
    pub watch_rows_every_ms: Option<u64>,
    /// How long one look at one table may take. Default 2,000 ms.
    pub watch_rows_ms: Option<u64>,
    /// A larger table is not looked at. Default 256 MiB.
    pub watch_rows_mib_max: Option<u64>,
    /// Tables of whose rows snapshots have digests, as `table` or `schema.table`; at most 64. Whoever gets a bundle can try out whether a row
    /// that he can guess was there. Default none.
    #[serde(default)]
    pub rows: Vec<String>,
    /// More rows than this, of all of these tables together, are not read (`ROWS_MISSING`). Default 10,000.
    #[serde(default = "rows_max")]
    pub rows_max: u64,
    /// Nor more bytes of their text. Default 16 MiB.
    #[serde(default = "rows_bytes_max")]
    pub rows_bytes_max: u64,
    /// Nor for longer, by which a call waits longer for each snapshot. Default 200 ms.
    #[serde(default = "rows_ms")]
    pub rows_ms: u64,
    /// How far a replica may be behind, bytes of log; beyond it `REPLICA_LAG`. Default 16 MiB.
    pub replica_lag_bytes_max: Option<u64>,
}

/// A table, and its column that holds a call's id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// `schema.table`, as the catalog has the names.
    pub table: String,
    pub key: String,
    /// From what of the session the database writes the column itself. Where it does not, nothing is claimed of the table's rows
    /// (`LINEAGE_MISSING`, `hint_missing`). Default: writers name the column.
    pub hint: Option<Hint>,
    /// When it does. Default `default`.
    pub stamp: Option<Stamp>,
}

/// What a session says of the call that it writes for. Whoever may run SQL in it can say any call there, and needs its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// The setting `estoppel.call`.
    Setting,
    /// `estoppel-call=<id>` in the program's name.
    ApplicationName,
    /// `/*estoppel-call='<id>'*/` at the end of the statement.
    Comment,
}

/// When the database writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// The column's default: into rows that are inserted without it.
    Default,
    /// A trigger: into all rows that are inserted or changed, whatever the statement says.
    Trigger,
}

impl Written {
    fn read(&self) -> Result<estoppel_snapshot::Written, estoppel_snapshot::WrittenError> {
        let table = estoppel_snapshot::Written::new(&self.table, &self.key)?;
        let Some(hint) = self.hint else { return Ok(table) };
        let hint = match hint {
            Hint::Setting => estoppel_snapshot::Hint::Setting,
            Hint::ApplicationName => estoppel_snapshot::Hint::ApplicationName,
            Hint::Comment => estoppel_snapshot::Hint::Comment,
        };
        let stamp = match self.stamp {
            None | Some(Stamp::Default) => estoppel_snapshot::Stamp::Default,
            Some(Stamp::Trigger) => estoppel_snapshot::Stamp::Trigger,
        };
        Ok(table.hinted(hint, stamp))
    }
}

impl Database {
    /// Bytes that a replica may be behind where nothing is said: one segment of the log.
    pub(crate) const REPLICA_LAG_BYTES: u64 = 16 << 20;

    const WATCH_ROWS_EVERY_MS: u64 = 5_000;
    const WATCH_ROWS_MS: u64 = 2_000;
    const WATCH_ROWS_MIB: u64 = 256;

    /// The declared tables; what is wrong with the others [`check`] says.
    pub(crate) fn written(&self) -> Vec<estoppel_snapshot::Written> {
        self.written.iter().filter_map(|one| one.read().ok()).collect()
    }

    pub(crate) fn watch_rows_every_ms(&self) -> u64 {
        self.watch_rows_every_ms.unwrap_or(Self::WATCH_ROWS_EVERY_MS)
    }

    pub(crate) fn watch_rows_ms(&self) -> u64 {
        self.watch_rows_ms.unwrap_or(Self::WATCH_ROWS_MS)
    }

    pub(crate) fn watch(&self) -> WatchSettings {
        let bytes_max = self.watch_rows_mib_max.unwrap_or(Self::WATCH_ROWS_MIB) << 20;
        WatchSettings { bytes_max, ..WatchSettings::default() }
    }

    /// How long a call waits for a snapshot.
    pub(crate) fn wait_ms(&self) -> u64 {
        let rows_ms = if self.rows.is_empty() { 0 } else { self.rows_ms };
        self.budget_ms.saturating_add(self.grace_ms).saturating_add(rows_ms)
    }

    /// Which rows are read. Names that are none were refused before.
    pub(crate) fn rows(&self) -> RowSettings {
        RowSettings {
            tables: self.rows.iter().filter_map(|name| name.parse().ok()).collect(),
            rows_max: self.rows_max,
            bytes_max: self.rows_bytes_max,
            time_max: Duration::from_millis(self.rows_ms),
        }
    }
}

/// What is wrong with them; `evidence_ms` is how long a call waits for its receipt, which waits for the snapshot after it.
pub(super) fn check(databases: &[Database], evidence_ms: u64) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    let mut wrong = |i: usize, key: &str, problem: String| {
        errors.push(SettingsError { key: format!("database[{i}].{key}"), problem });
    };
    for (i, database) in databases.iter().enumerate() {
        if !is_name(&database.name) {
            wrong(i, "name", NAME_RULE.into());
        }
        if databases.iter().take(i).any(|before| before.name == database.name) {
            wrong(i, "name", format!("`{}` is the name of an earlier database", database.name));
        }
        if database.url_file.is_some() == database.url_env.is_some() {
            wrong(i, "url_file", "needs one of `url_file` and `url_env`".into());
        }
        let file = database.url_file.as_ref().map(|file| file.to_string_lossy());
        if file.is_some_and(|file| file.contains("://")) {
            wrong(i, "url_file", "is the URL itself, not the file that it is in".into());
        }
        if database.url_env.as_ref().is_some_and(|name| name.contains(['=', ':', '/'])) {
            wrong(i, "url_env", "is not the name of an environment variable".into());
        }
        for (key, ms) in [
            ("budget_ms", database.budget_ms),
            ("lock_ms", database.lock_ms),
            ("rows_ms", database.rows_ms),
            ("statement_ms", database.statement_ms.unwrap_or(1)),
        ] {
            if !(1..=WAIT_MS_MAX).contains(&ms) {
                wrong(i, key, "must be between 1 and 60,000".into());
            }
        }
        if database.wait_ms() > WAIT_MS_MAX || database.wait_ms() >= evidence_ms {
            let problem = "with `budget_ms`, and `rows_ms` where there are `rows`, must be at most 60,000 and below `server.evidence_ms`";
            wrong(i, "grace_ms", problem.into());
        }
        if database.late_ms > WAIT_MS_MAX {
            wrong(i, "late_ms", "must be at most 60,000".into());
        }
        for (key, count) in [("relations_max", database.relations_max), ("waiting_max", database.waiting_max)]
        {
            if !(1..=COUNT_MAX).contains(&count) {
                wrong(i, key, "must be between 1 and 16,777,216".into());
            }
        }
        if database.written.len() > WRITTEN_MAX {
            wrong(i, "written", format!("has at most {WRITTEN_MAX} tables"));
        }
        for (at, written) in database.written.iter().enumerate() {
            if let Err(error) = written.read() {
                wrong(i, &format!("written[{at}]"), error.to_string());
            }
            if written.stamp.is_some() && written.hint.is_none() {
                wrong(i, &format!("written[{at}].stamp"), "has no effect without `hint`".into());
            }
            if database.written.iter().take(at).any(|before| before.table == written.table) {
                wrong(i, &format!("written[{at}]"), format!("`{}` is there already", written.table));
            }
        }
        if database.watch_rows && database.written.is_empty() {
            wrong(i, "watch_rows", "has no effect without `written`".into());
        }
        for (key, said, most) in [
            ("watch_rows_every_ms", database.watch_rows_every_ms, EVERY_MS_MAX),
            ("watch_rows_ms", database.watch_rows_ms, WAIT_MS_MAX),
            ("watch_rows_mib_max", database.watch_rows_mib_max, WATCH_MIB_MAX),
        ] {
            if said.is_some() && !database.watch_rows {
                wrong(i, key, "has no effect without `watch_rows = true`".into());
            }
            if said.is_some_and(|said| !(1..=most).contains(&said)) {
                wrong(i, key, format!("must be between 1 and {most}"));
            }
        }
        let mut tables = HashSet::new();
        for name in &database.rows {
            match name.parse::<TableName>().map(|table| tables.insert(table)) {
                Err(error) => wrong(i, "rows", error.to_string()),
                Ok(false) => wrong(i, "rows", format!("names `{name}` twice")),
                Ok(true) => {}
            }
        }
        if database.rows.len() > TABLES_MAX {
            wrong(i, "rows", format!("must not name more than {TABLES_MAX} tables"));
        }
        for (key, value, most) in [
            ("rows_max", database.rows_max, ROWS_MAX),
            ("rows_bytes_max", database.rows_bytes_max, ROWS_BYTES_MAX),
        ] {
            if !(1..=most).contains(&value) {
                wrong(i, key, format!("must be between 1 and {most}"));
            }
        }
        if database.replica_lag_bytes_max.is_some() && !database.allow_replica {
            wrong(i, "replica_lag_bytes_max", "has no effect without `allow_replica = true`".into());
        }
    }
    errors
}

fn budget_ms() -> u64 {
    50
}

fn grace_ms() -> u64 {
    200
}

fn late_ms() -> u64 {
    10_000
}

fn lock_ms() -> u64 {
    100
}

fn relations_max() -> usize {
    1_000
}

fn rows_max() -> u64 {
    10_000
}

fn rows_bytes_max() -> u64 {
    16 << 20
}

fn rows_ms() -> u64 {
    200
}

fn waiting_max() -> usize {
    1_024
}
