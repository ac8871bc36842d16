//! `estoppel snapshot`: what databases looked like around calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use estoppel_bundle::BundlePath;
use estoppel_evidence::{Reason, Sha256};
use estoppel_snapshot::{
    Change, Dsn, Lsn, RowChange, RowSettings, Rows, Schema, SchemaError, Settings, Source, Tls, diff,
    row_changes,
};
use serde_json::{Value, json};

use crate::arguments::{SnapshotCommand, SnapshotTake};
use crate::output::{Failure, Output, plain};
use crate::{input, show};

/// Largest document that is read.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// How long a snapshot may take that no call waits for, without its rows.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(output: &Output, command: &SnapshotCommand) -> Result<ExitCode, Failure> {
    match command {
        SnapshotCommand::Diff(asked) => match (&asked.call, &asked.to) {
            (Some(call), _) => of_call(*output, &asked.from, call),
            (None, Some(to)) => of_files(*output, &asked.from, to),
            (None, None) => Err(Failure::input("ARGUMENT_INVALID", "needs --call, or a second document")),
        },
        SnapshotCommand::Take(asked) => take(*output, asked),
    }
}

/// What changed in a database between the two snapshots of a call.
fn of_call(output: Output, bundle: &Path, call: &str) -> Result<ExitCode, Failure> {
    let (_, lines) = show::read(bundle)?;
    let receipt = &show::find(&lines, call)?.value;
    let mut snapshot = receipt["snapshot"].clone();
    if snapshot.is_null() {
        return Err(Failure::input("ARGUMENT_INVALID", "this entry has no snapshots"));
    }
    let is_late =
        |line: &&show::Line| line.value["kind"] == "snapshot" && line.value["call"] == receipt["call"];
    let late = lines.iter().find(is_late).map(|line| &line.value);
    if let Some(late) = late {
        snapshot["post"] = json!({ "digest": late["digest"], "lsn": late["lsn"] });
    }
    let bundle = show::open(bundle)?;
    let read = |side: &str| -> Result<Schema, Failure> {
        let of_side = &snapshot[side];
        let digest = of_side["digest"].as_str().and_then(Sha256::parse).ok_or_else(|| {
            let why = of_side["code"].as_str().map_or("none was due".into(), plain);
            Failure::input("ARGUMENT_INVALID", format!("there is no snapshot `{side}` of this call: {why}"))
        })?;
        let path = BundlePath::snapshot(digest);
        let changed = |what: String| Failure {
            exit: 2,
            ..Failure::runtime("FILE_DIGEST", format!("`{path}`: {what}"))
        };
        let bytes = bundle
            .read(&path, DOCUMENT_BYTES_MAX)
            .map_err(|error| Failure::reason(error.reason(), plain(&format!("`{path}`: {error}"))))?;
        let schema = Schema::parse(&bytes).map_err(|error| changed(error.to_string()))?;
        if schema.digest().0 != digest {
            return Err(changed("this is not what the receipt names".into()));
        }
        Ok(schema)
    };
    let (before, after) = (read("pre")?, read("post")?);
    for side in ["pre", "post"] {
        let text = |member: &str| snapshot[side][member].as_str().map_or("-".to_owned(), plain);
        output.line(&format!("{side:<4}  {}  log {}", text("digest"), text("lsn")));
    }
    if let Some(late) = late {
        output.line(&format!(
            "the second came late, entry {}; others may have written in between",
            late["seq"]
        ));
    }
    let late = late.map(|late| &late["seq"]);
    let about = json!({ "call": receipt["call"], "snapshot": snapshot, "late": late });
    output.note("only what is shown was checked; `estoppel verify` judges the bundle");
    Ok(told(output, &before, &after, about))
}

/// What differs between two documents.
fn of_files(output: Output, from: &Path, to: &Path) -> Result<ExitCode, Failure> {
    let read = |path: &Path| -> Result<Schema, Failure> {
        let bytes = input::limited(path, DOCUMENT_BYTES_MAX)?;
        let invalid = |error: SchemaError| {
            Failure::input("ARGUMENT_INVALID", plain(&format!("`{}`: {error}", path.display())))
        };
        Schema::parse(&bytes).map_err(invalid)
    };
    let (before, after) = (read(from)?, read(to)?);
    output.line(&format!("from  {}\nto    {}", before.digest(), after.digest()));
    let about = json!({ "from": before.digest().to_string(), "to": after.digest().to_string() });
    Ok(told(output, &before, &after, about))
}

/// Exit code 5 when something differs, or nobody knows whether it does.
fn told(output: Output, before: &Schema, after: &Schema, mut about: Value) -> ExitCode {
    let changes = diff(before, after);
    let rows = row_changes(before.rows(), after.rows());
    output.line("");
    for change in &changes {
        output.line(&line(change));
    }
    for change in &rows {
        output.line(&match change {
            RowChange::Changed { table, added, gone } => {
                format!("rows    {}  {added} added, {gone} gone", plain(table))
            }
            RowChange::Unknown { table, cause } => format!("rows    {}  not known: {cause}", plain(table)),
        });
    }
    output.line(&match changes.len() {
        0 => "nothing changed in the schema".to_owned(),
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    });
    if rows.is_empty() && before.rows().is_some() {
        output.line("nothing changed in the rows that were looked at");
    }
    about["changes"] = json!(changes);
    about["rows"] = json!(rows);
    let is_same = changes.is_empty() && rows.is_empty();
    output.answer(&about, if is_same { 0 } else { 5 })
}

/// Looks at a database. Exit code 5 when rows that were asked for are missing.
fn take(output: Output, asked: &SnapshotTake) -> Result<ExitCode, Failure> {
    let dsn =
        Dsn::parse(&asked.pg).map_err(|error| Failure::reason(Reason::ArgumentInvalid, error.to_string()))?;
    let tls = Tls::trusting(asked.pg_ca.as_deref())
        .map_err(|error| Failure::reason(Reason::FileUnreadable, error.to_string()))?;
    let time_max = Duration::from_millis(asked.rows_ms);
    let rows = RowSettings {
        tables: asked.rows.clone(),
        rows_max: asked.rows_max,
        bytes_max: asked.rows_bytes_max,
        time_max,
    };
    // Nobody's call waits.
    let deadline = PATIENCE.saturating_add(time_max);
    let settings = Settings { deadline, statement: PATIENCE, tls: Some(tls), rows, ..Settings::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::reason(Reason::Internal, error.to_string()))?;
    let taken = runtime.block_on(async {
        let (source, task) = Source::new(dsn, settings);
        tokio::spawn(task.run());
        source.take().await
    });
    let taken = taken.map_err(|error| {
        let message = format!("no snapshot ({}): {}", error.cause().as_str(), plain(&error.to_string()));
        Failure::runtime(error.reason().code(), message)
    })?;
    let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.to_string());
    let schema = &taken.schema;
    if let Some(path) = &asked.out {
        input::write_new(path, schema.bytes())?;
    }
    let log = lsn(taken.after);
    output.line(&format!("{}  log {}", schema.digest(), log.as_deref().unwrap_or("-")));
    output.line(&format!("{}: {} relations", plain(&taken.server.to_string()), taken.relations));
    let mut tables = Vec::new();
    for (name, says) in schema.rows().into_iter().flat_map(Rows::tables) {
        let name = plain(&name.to_string());
        output.line(&match (says["count"].as_u64(), says["cause"].as_str()) {
            (Some(count), _) => {
                format!("rows    {name}  {count}  {}", says["digest"].as_str().unwrap_or_default())
            }
            (None, cause) => format!("rows    {name}  not known: {}", cause.unwrap_or_default()),
        });
        tables.push(json!({ "table": name, "says": says }));
    }
    let is_whole = schema.rows().is_none_or(|rows| rows.gaps().next().is_none());
    let data = json!({
        "digest": schema.digest().to_string(),
        "schema_digest": schema.schema_digest().to_string(),
        "server": taken.server.as_ref(),
        "relations": taken.relations,
        "before": lsn(taken.before),
        "after": log,
        "rows": tables,
    });
    Ok(output.answer(&data, if is_whole { 0 } else { 5 }))
}

fn line(change: &Change) -> String {
    let value = |value: &Value| plain(&value.to_string());
    let path = plain(change.path());
    match change {
        Change::Add { value: added, .. } => format!("add     {path}  {}", value(added)),
        Change::Remove { value: gone, .. } => format!("remove  {path}  {}", value(gone)),
        Change::Change { from, to, .. } => format!("change  {path}  {} -> {}", value(from), value(to)),
    }
}

/// Of how many tables the snapshots of a bundle have digests of rows. Each document is read once.
pub struct Documents<'b> {
    bundle: &'b Path,
    tables: BTreeMap<Sha256, usize>,
}

impl<'b> Documents<'b> {
    pub fn of(bundle: &'b Path) -> Self {
        Self { bundle, tables: BTreeMap::new() }
    }

    /// None are known of a document that is not there, or is another.
    pub fn tables(&mut self, digest: &str) -> usize {
        let Some(digest) = Sha256::parse(digest) else { return 0 };
        *self.tables.entry(digest).or_insert_with(|| {
            let bytes = show::open(self.bundle)
                .ok()
                .and_then(|bundle| bundle.read(&BundlePath::snapshot(digest), DOCUMENT_BYTES_MAX).ok());
            let schema = bytes.and_then(|bytes| Schema::parse(&bytes).ok());
            let rows = schema.as_ref().filter(|schema| schema.digest().0 == digest).and_then(Schema::rows);
            rows.map_or(0, |rows| rows.tables().count().saturating_sub(rows.gaps().count()))
        })
    }
}

/// What a receipt says of its snapshots, for a list of calls. `tables` says of how many tables a document has digests of rows.
pub fn brief(receipt: &Value, tables: &mut dyn FnMut(&str) -> usize) -> String {
    let snapshot = &receipt["snapshot"];
    let Some(source) = snapshot["source"].as_str() else { return String::new() };
    let mut text = format!(", {}", plain(source));
    let digest = |side: &str| snapshot[side]["digest"].as_str();
    let downgrades = receipt["downgrades"].as_array().into_iter().flatten();
    let are_unread = downgrades.into_iter().any(|downgrade| downgrade["code"] == "ROWS_MISSING");
    let writes = || receipt["ext"]["writes"].as_array().into_iter().flatten();
    // Those that could not be counted may have been written.
    let are_written = writes().any(|writes| writes["rows"].as_u64() != Some(0));
    // Nobody wrote anything on that server in between.
    let is_quiet = snapshot["pre"]["lsn"].is_string() && snapshot["pre"]["lsn"] == snapshot["post"]["lsn"];
    match (digest("pre"), digest("post")) {
        (Some(pre), Some(post)) if pre == post && are_unread => {
            text.push_str(" schema as before, rows not known");
        }
        (Some(pre), Some(post)) if pre == post && is_quiet && !are_written => text.push_str(" as before"),
        // Of rows that have no digest nothing is known.
        (Some(pre), Some(post)) if pre == post => text.push_str(&match tables(pre) {
            0 => " schema as before".to_owned(),
            1 => " schema and rows of 1 table as before".to_owned(),
            count => format!(" schema and rows of {count} tables as before"),
        }),
        (Some(_), Some(_)) => text.push_str(" changed"),
        _ => {}
    }
    for side in ["pre", "post"] {
        if let Some(code) = snapshot[side]["code"].as_str() {
            let _ = write!(text, " {side} {}", plain(code)); // a `String` takes everything
        }
    }
    for writes in writes() {
        let table = writes["table"].as_str().unwrap_or("-");
        let Some(rows) = writes["rows"].as_u64() else {
            let _ = write!(text, ", rows of {} not known", plain(table));
            continue;
        };
        let more = if writes["more"] == true { "more than " } else { "" };
        let word = if rows == 1 { "row" } else { "rows" };
        let _ = write!(text, ", {more}{rows} {word} of {}", plain(table));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_whether_a_database_changed_and_what_is_missing() {
        let check = |snapshot: Value, expected: &str| {
            assert_eq!(brief(&json!({ "snapshot": snapshot }), &mut |_| 0), expected);
        };
        let (a, b) = (json!({ "digest": "sha256:a" }), json!({ "digest": "sha256:b" }));
        check(Value::Null, "");
        check(json!({ "source": "shop", "pre": a, "post": a }), ", shop schema as before");
        let at = |lsn: &str| json!({ "digest": "sha256:a", "lsn": lsn });
        check(json!({ "source": "shop", "pre": at("0/1"), "post": at("0/1") }), ", shop as before");
        let moved = json!({ "source": "shop", "pre": at("0/1"), "post": at("0/2") });
        check(moved.clone(), ", shop schema as before");
        for (count, words) in [(1, "1 table"), (2, "2 tables")] {
            let said = brief(&json!({ "snapshot": moved }), &mut |_| count);
            assert_eq!(said, format!(", shop schema and rows of {words} as before"));
        }
        check(json!({ "source": "shop", "pre": a, "post": b }), ", shop changed");
        check(json!({ "source": "shop", "pre": { "code": "PRE_FAIL" } }), ", shop pre PRE_FAIL");
        let writes =
            json!([{ "rows": 1, "table": "a\u{1b}" }, { "more": true, "rows": 10_000, "table": "b" }]);
        let written =
            json!({ "ext": { "writes": writes }, "snapshot": { "source": "s", "pre": a, "post": a } });
        assert_eq!(
            brief(&written, &mut |_| 0),
            r", s schema as before, 1 row of a\u001b, more than 10000 rows of b"
        );
        let mut missed = written;
        missed["ext"]["writes"] =
            json!([{ "rows": 0, "table": "a" }, { "cause": "permission", "table": "b" }]);
        assert_eq!(brief(&missed, &mut |_| 0), ", s schema as before, 0 rows of a, rows of b not known");
        let mut unread = json!({ "snapshot": { "source": "s", "pre": a, "post": a } });
        unread["downgrades"] = json!([{ "code": "ROWS_MISSING", "detail": "pre: public.orders rows_max" }]);
        assert_eq!(brief(&unread, &mut |_| 0), ", s schema as before, rows not known");
        let late = json!({ "source": "s\u{1b}", "pre": a, "post": { "code": "POST_TIMEOUT\u{1b}" } });
        check(late, r", s\u001b post POST_TIMEOUT\u001b");
    }
}
