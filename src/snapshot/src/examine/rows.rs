//! Whether snapshots can have digests of the rows of a table.

use super::{Check, State};
use crate::rows::{Rows, RowsCause, TableName};
use crate::source::Connection;
use crate::written::{identifier, literal};

/// What has rows that can be selected: tables, partitioned and foreign ones, views.
const KINDS: [&str; 5] = ["r", "p", "f", "v", "m"];

/// `read` is what the snapshot that was tried has of the named tables, if there is one.
pub(super) async fn examine(
    connection: &Connection,
    table: &TableName,
    read: Option<&Rows>,
    user: &str,
) -> Vec<Check> {
    let found = match connection.ask_all(&[&exists(table)]).await.into_iter().next() {
        Some(Ok(answers)) => answers,
        Some(Err(error)) => return vec![Check::new(State::Bad, format!("{table}: {error}"))],
        None => return vec![Check::new(State::Bad, format!("{table}: no answer"))],
    };
    let row = found.first().and_then(|rows| rows.first());
    let said = |at: usize| row.and_then(|row| row.try_get(at).ok().flatten());
    let (Some(kind), Some(may_use)) = (said(0), said(1)) else {
        return vec![
            Check::new(State::Bad, format!("there is no table {table}"))
                .advice("names are those of the catalog, in its letter case"),
        ];
    };
    if !KINDS.contains(&kind) {
        return vec![Check::new(State::Bad, format!("{table} is no table"))];
    }
    let mut checks = Vec::new();
    let schema = identifier(&table.schema);
    let quoted = format!("{schema}.{}", identifier(&table.table));
    if may_use != "t" {
        checks.push(
            Check::new(State::Bad, format!("the role may not use the schema of {table}"))
                .fix(format!("GRANT USAGE ON SCHEMA {schema} TO {user};")),
        );
    }
    if said(2) != Some("t") {
        checks.push(
            Check::new(State::Bad, format!("the role may not read all columns of {table}"))
                .fix(format!("GRANT SELECT ON {quoted} TO {user};")),
        );
    }
    if said(3) != Some("f") {
        checks.push(
            Check::new(State::Bad, format!("policies hide rows of {table} from the role"))
                .advice("all of its rows are read, or none: the role then sees all rows of each table that it may read; or leave this one out of `rows`")
                .fix(format!("ALTER ROLE {user} BYPASSRLS;")),
        );
    }
    if checks.is_empty() {
        checks.push(outcome(table, read));
    }
    checks
}

/// What came of reading it.
fn outcome(table: &TableName, read: Option<&Rows>) -> Check {
    let Some((_, document)) = read.and_then(|rows| rows.tables().find(|(name, _)| *name == table)) else {
        return Check::new(State::Warn, format!("rows of {table} were not read, as there is no snapshot"));
    };
    let gap = read.and_then(|rows| rows.gaps().find(|(name, _)| *name == table));
    let Some((_, cause)) = gap else {
        let what = format!("snapshots can have digests of the {} rows of {table}", document["count"]);
        return Check::new(State::Good, what);
    };
    let what = format!("rows of {table} were not read: {}", cause.as_str());
    match cause {
        RowsCause::RowsMax | RowsCause::BytesMax => Check::new(State::Warn, what)
            .advice("this looked with the defaults; raise `rows_max` and `rows_bytes_max`, and `rows_ms` with them, or leave the table out"),
        RowsCause::TimeMax => Check::new(State::Warn, what)
            .advice("it takes longer than this waited; leave the table out, or raise `rows_ms` far"),
        RowsCause::LockTimeout => Check::new(State::Warn, what).advice("somebody holds a lock on it now"),
        RowsCause::Connect => {
            Check::new(State::Bad, what).advice("a second connection is needed, and no pooler in between")
        }
        RowsCause::DdlRace
        | RowsCause::Permission
        | RowsCause::RlsFiltered
        | RowsCause::Server
        | RowsCause::UnknownTable => Check::new(State::Bad, what)
            .advice("`SELECT *` as this role, with `SET row_security = off`, says why"),
    }
}

/// One row: kind, whether the schema may be used, whether all columns may be read, whether policies hide rows.
fn exists(table: &TableName) -> String {
    let (schema, name) = (literal(&table.schema), literal(&table.table));
    format!(
        "SELECT c.relkind, pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
         pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AND NOT EXISTS \
         (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')), \
         pg_catalog.row_security_active(c.oid) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {schema} AND c.relname = {name}"
    )
}
