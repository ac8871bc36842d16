//! Whether a database can be recorded as it is, and the statement that would mend what cannot.

mod rows;
mod written;

use std::sync::Arc;

use crate::catalog;
use crate::dsn::Dsn;
use crate::error::{Cause, SnapshotError};
use crate::source::{Settings, Snapshot, Source, connect};
use crate::written::{Written, identifier};

/// How a thing was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Good,
    /// Works, but something is worth doing.
    Warn,
    /// Works, but nobody promises that it does.
    BestEffort,
    /// Snapshots would fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    pub state: State,
    pub what: String,
    pub advice: Option<&'static str>,
    /// SQL for an administrator of the server, which turns this into [`State::Good`].
    pub fix: Option<String>,
}

impl Check {
    fn new(state: State, what: impl Into<String>) -> Self {
        Self { state, what: what.into(), advice: None, fix: None }
    }

    fn advice(self, advice: &'static str) -> Self {
        Self { advice: Some(advice), ..self }
    }

    fn fix(self, sql: String) -> Self {
        Self { fix: Some(sql), ..self }
    }
}

/// The functions by which a log says where it is.
const LOG_FUNCTIONS: [&str; 3] =
    ["pg_current_wal_insert_lsn()", "pg_current_wal_flush_lsn()", "pg_walfile_name(pg_lsn)"];
/// The newest version of which no more is promised than that snapshots are tried.
const BEST_EFFORT: u32 = 14;

/// Looks at a database as snapshots would, with the rows that the settings name, and at tables whose rows name calls, and changes nothing
/// in it. What comes after a bad check may be missing.
pub async fn examine(dsn: &Dsn, settings: &Settings, tables: &[Written]) -> Vec<Check> {
    let mut checks = Vec::new();
    let connection = match connect(dsn, settings, None).await {
        Ok(connection) => connection,
        Err(error) => {
            checks.push(Check::new(State::Bad, format!("{dsn}: {}", with_sources(&error))).advice(
                match error {
                    SnapshotError::Version { .. } => "the oldest version that is recorded is 13",
                    _ => "is the server up, the address right, and may this role connect (pg_hba.conf)?",
                },
            ));
            return checks;
        }
    };
    checks.push(Check::new(State::Good, format!("{dsn} answers")));
    checks.push(version(connection.version / 10_000));
    if !dsn.tls() && !dsn.is_local() {
        checks.push(
            Check::new(State::Warn, "the connection is not encrypted")
                .advice("say `sslmode=verify-full` in the URL"),
        );
    }
    // A pooler passes over no startup options; what is set here is what is used anyhow.
    if connect(dsn, settings, Some("-c jit=off")).await.is_err() {
        checks.push(
            Check::new(State::Warn, "there is a pooler in between")
                .advice("snapshots work through one; a direct address is needed for digests of rows"),
        );
    }
    let user = identifier(dsn.config().get_user().unwrap_or_default());
    let database = identifier(dsn.config().get_dbname().unwrap_or_default());
    let role = "SELECT r.rolsuper, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d \
                ON d.oid = s.subdbid WHERE s.subenabled AND d.datname = pg_catalog.current_database()) \
                FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let mut answers = connection.ask_all(&[catalog::LOG_POSITION, catalog::SYSTEM, role]).await.into_iter();
    let mut next = || answers.next().unwrap_or(Err(SnapshotError::Unreadable("an answer is missing")));
    checks.push(match next() {
        Ok(_) => Check::new(State::Good, "the log says where it is"),
        Err(error) => log_unknown(&error, &user),
    });
    checks.push(match next() {
        Ok(_) => Check::new(State::Good, "the server says which one it is"),
        Err(error) => Check::new(State::Bad, format!("the server does not say which one it is: {error}"))
            .fix(format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {user};")),
    });
    if let Ok(rows) = next()
        && let Some(row) = rows.first().and_then(|rows| rows.first())
    {
        checks.push(if row.try_get(0).ok().flatten() == Some("t") {
            Check::new(State::Warn, "the role is a superuser, and needs only to connect").fix(format!(
                "CREATE ROLE estoppel_snapshot LOGIN PASSWORD '…'; GRANT CONNECT ON DATABASE {database} TO estoppel_snapshot;"
            ))
        } else {
            Check::new(State::Good, "the role is no superuser")
        });
        if row.try_get(1).ok().flatten() != Some("0") {
            checks.push(
                Check::new(State::Warn, "the database takes rows from others (subscriptions)")
                    .advice("writes that come that way have no call"),
            );
        }
    }
    let (check, taken) = snapshot(dsn, settings).await;
    checks.push(check);
    let read = taken.as_ref().and_then(|taken| taken.schema.rows());
    for table in &settings.rows.tables {
        checks.extend(rows::examine(&connection, table, read, &user).await);
    }
    for table in tables {
        checks.extend(written::examine(&connection, table, &user).await);
    }
    checks
}

fn version(major: u32) -> Check {
    if major <= BEST_EFFORT {
        Check::new(State::BestEffort, format!("Postgres {major} is at or past its end of support"))
            .advice("snapshots are tried as well as can be; upgrade the server, or say --allow-best-effort")
    } else {
        Check::new(State::Good, format!("Postgres {major}"))
    }
}

fn log_unknown(error: &SnapshotError, user: &str) -> Check {
    let check = Check::new(State::Warn, format!("the log does not say where it is: {error}"));
    if error.cause() == Cause::Permission {
        let grants: Vec<String> = LOG_FUNCTIONS
            .iter()
            .map(|function| format!("GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {user};"))
            .collect();
        return check.fix(grants.join(" "));
    }
    check.advice("on Amazon Aurora the writer says so only with `rds.logical_replication = 1`; receipts have LSN_MISSING until then")
}

async fn snapshot(dsn: &Dsn, settings: &Settings) -> (Check, Option<Arc<Snapshot>>) {
    let (source, task) = Source::new(dsn.clone(), settings.clone());
    let serving = tokio::spawn(task.run());
    let taken = source.take().await;
    serving.abort();
    let check = match &taken {
        Ok(snapshot) => {
            let uncovered: Vec<&str> = snapshot.schema.uncovered().collect();
            let what = format!(
                "a snapshot of {} relations took {} ms",
                snapshot.relations,
                snapshot.took.as_millis()
            );
            if uncovered.is_empty() {
                Check::new(State::Good, what)
            } else {
                Check::new(State::Good, format!("{what}; it does not describe {}", uncovered.join(", ")))
            }
        }
        Err(error) => {
            let check = Check::new(State::Bad, format!("no snapshot: {}", with_sources(error)));
            match error.cause() {
                Cause::ReplicaRejected => check.advice("name the primary in the URL"),
                Cause::TooManyRelations => check.advice("raise relations_max, and the deadline with it"),
                Cause::Budget | Cause::StatementTimeout => {
                    check.advice("the first snapshot is the slowest; raise the deadline")
                }
                _ => check,
            }
        }
    };
    (check, taken.ok())
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
