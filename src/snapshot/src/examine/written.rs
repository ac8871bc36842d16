//! Whether the rows of a table can be asked which call wrote them.

use tokio_postgres::SimpleQueryRow;

use super::{Check, State};
use crate::hint::{self, ID_CHARS, Stamp};
use crate::source::{Answers, Connection};
use crate::written::Written;

/// What a column may be, so that a call's id is compared with it as it is.
const KEY_TYPES: [&str; 3] = ["uuid", "text", "character varying"];

pub(super) async fn examine(connection: &Connection, table: &Written, user: &str) -> Vec<Check> {
    let mut answers = connection.ask_all(&[&exists(table)]).await.into_iter();
    let found = match answers.next() {
        Some(Ok(answers)) => answers,
        Some(Err(error)) => return vec![Check::new(State::Bad, format!("{table}: {error}"))],
        None => return vec![Check::new(State::Bad, format!("{table}: no answer"))],
    };
    let said = |at: usize| first(&found).and_then(|row| row.try_get(at).ok().flatten());
    let (Some(kind), Some(may_use)) = (said(0), said(1)) else {
        return vec![Check::new(State::Bad, format!("there is no table {table}"))];
    };
    if !["r", "p"].contains(&kind) {
        return vec![Check::new(State::Bad, format!("{table} is no table whose rows are its own"))];
    }
    let Some(of_type) = said(2) else {
        let missing = Check::new(State::Bad, format!("{table} has no column {}", table.quoted_key()));
        let Some((hint, stamp)) = table.hint() else { return vec![missing] };
        let column = format!("ALTER TABLE {} ADD COLUMN {} text;", table.quoted(), table.quoted_key());
        let heirs = heirs(connection, table).await;
        return vec![missing.fix(format!("{column} {}", hint::sql(table, hint, stamp, false, &heirs)))];
    };
    let chars_max = said(6).and_then(|chars| chars.parse::<i64>().ok());
    if chars_max.is_some_and(|chars_max| chars_max < ID_CHARS) {
        let (quoted, key) = (table.quoted(), table.quoted_key());
        let most = chars_max.unwrap_or_default();
        return vec![
            Check::new(
                State::Bad,
                format!("column {key} of {table} is too short: {most} characters at most"),
            )
            .advice("a call's id has 36; a statement that writes one fails")
            .fix(format!("ALTER TABLE {quoted} ALTER COLUMN {key} TYPE text;")),
        ];
    }
    if !KEY_TYPES.contains(&of_type) {
        let what = format!("column {} of {table} is {of_type}", table.quoted_key());
        return vec![Check::new(State::Bad, what).advice("a call's id needs a column of type uuid or text")];
    }
    let mut checks: Vec<Check> = stamped(connection, table, of_type == "uuid").await.into_iter().collect();
    if may_use != "t" {
        checks.push(
            Check::new(State::Bad, format!("the role may not use the schema of {table}"))
                .fix(format!("GRANT USAGE ON SCHEMA {} TO {user};", table.quoted_schema())),
        );
    }
    if said(3) != Some("t") {
        let columns = format!("{}, xmin", table.quoted_key());
        checks.push(
            Check::new(State::Bad, format!("the role may not read {columns} of {table}"))
                .fix(format!("GRANT SELECT ({columns}) ON {} TO {user};", table.quoted())),
        );
    }
    if said(4) != Some("f") {
        checks.push(
            Check::new(State::Bad, format!("policies hide rows of {table} from the role"))
                .advice("rows are counted by a role that sees all of them, or not at all (rls_filtered)"),
        );
    }
    if said(5) != Some("t") {
        let missing =
            Check::new(State::Warn, format!("no index of {table} begins with {}", table.quoted_key()));
        let (quoted, key) = (table.quoted(), table.quoted_key());
        // A partitioned table has none made while others write.
        checks.push(if kind == "p" {
            missing
                .advice("each call has the whole table read; this statement makes writers wait, unless each partition has such an index already, which CREATE INDEX CONCURRENTLY makes")
                .fix(format!("CREATE INDEX ON {quoted} ({key});"))
        } else {
            missing
                .advice("each call has the whole table read")
                .fix(format!("CREATE INDEX CONCURRENTLY ON {quoted} ({key});"))
        });
    }
    if checks.is_empty() {
        checks.push(Check::new(State::Good, format!("rows of {table} can be asked which call wrote them")));
    }
    checks
}

/// Whether the hint is written into rows that is declared.
async fn stamped(connection: &Connection, table: &Written, is_uuid: bool) -> Option<Check> {
    let (hint, stamp) = table.hint()?;
    let ask = format!(
        "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog; {}; COMMIT",
        hint::is_there(table, hint, stamp)
    );
    let answers = connection.ask_all(&[&ask]).await.into_iter().next()?;
    let is_there = match &answers {
        Ok(answers) => answers.iter().find_map(|rows| rows.first()?.try_get(0).ok().flatten()) == Some("t"),
        Err(_) => false,
    };
    let by = match stamp {
        Stamp::Default => "the default of its column",
        Stamp::Trigger => "a trigger",
    };
    let what = format!("{table} has no call of {} written into its rows by {by}", hint.as_str());
    let check =
        || Check::new(State::Bad, what).advice("until then nothing is claimed of its rows (hint_missing)");
    if is_there {
        return None;
    }
    let heirs = heirs(connection, table).await;
    Some(check().fix(hint::sql(table, hint, stamp, is_uuid, &heirs)))
}

/// The tables that inherit from it, as SQL. None where they cannot be read: what is printed then does not do for them, which the next
/// examination says.
async fn heirs(connection: &Connection, table: &Written) -> Vec<String> {
    let ask = format!("BEGIN READ ONLY; SET LOCAL search_path = pg_catalog; {}; COMMIT", hint::heirs(table));
    let Some(Ok(answers)) = connection.ask_all(&[&ask]).await.into_iter().next() else { return Vec::new() };
    let rows = answers.iter().flatten();
    rows.filter_map(|row| row.try_get(0).ok().flatten().map(str::to_owned)).collect()
}

fn first(answers: &Answers) -> Option<&SimpleQueryRow> {
    answers.first()?.first()
}

/// One row: kind, whether the schema may be used, type of the column, whether it and `xmin` may be read, whether policies hide rows,
/// whether an index serves it, and how many characters the column takes at most, if text of a limited length.
fn exists(table: &Written) -> String {
    let (schema, name, key) = (table.schema_literal(), table.table_literal(), table.key_literal());
    format!(
        "SELECT c.relkind, pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
         pg_catalog.format_type(a.atttypid, NULL), \
         pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AND pg_catalog.has_column_privilege(c.oid, 'xmin', 'SELECT'), \
         pg_catalog.row_security_active(c.oid), \
         EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL), \
         CASE WHEN a.atttypid IN ('pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.bpchar'::pg_catalog.regtype) AND a.atttypmod >= 4 \
         THEN a.atttypmod - 4 END \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = {key} AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = {schema} AND c.relname = {name}"
    )
}
