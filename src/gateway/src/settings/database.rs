//! Databases that calls write to.

use std::path::PathBuf;

use serde::Deserialize;

use super::{COUNT_MAX, NAME_RULE, SettingsError, is_name};

/// Longest that a call may be made to wait for one snapshot.
const WAIT_MS_MAX: u64 = 60_000;

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
    /// How far a replica may be behind, bytes of log; beyond it `REPLICA_LAG`. Default 16 MiB.
    pub replica_lag_bytes_max: Option<u64>,
}

impl Database {
    /// Bytes that a replica may be behind where nothing is said: one segment of the log.
    pub(crate) const REPLICA_LAG_BYTES: u64 = 16 << 20;

    /// How long a call waits for a snapshot.
    pub(crate) fn wait_ms(&self) -> u64 {
        self.budget_ms.saturating_add(self.grace_ms)
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
            ("statement_ms", database.statement_ms.unwrap_or(1)),
        ] {
            if !(1..=WAIT_MS_MAX).contains(&ms) {
                wrong(i, key, "must be between 1 and 60,000".into());
            }
        }
        if database.wait_ms() > WAIT_MS_MAX || database.wait_ms() >= evidence_ms {
            let problem =
                "`budget_ms` and `grace_ms` together must be at most 60,000 and below `server.evidence_ms`";
            wrong(i, "grace_ms", problem.into());
        }
        for (key, count) in [("relations_max", database.relations_max), ("waiting_max", database.waiting_max)]
        {
            if !(1..=COUNT_MAX).contains(&count) {
                wrong(i, key, "must be between 1 and 16,777,216".into());
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

fn lock_ms() -> u64 {
    100
}

fn relations_max() -> usize {
    1_000
}

fn waiting_max() -> usize {
    1_024
}
