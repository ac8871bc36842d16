//! `estoppel snapshot`: what databases looked like around calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
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

/// What two snapshots say of each other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Compared {
    /// The schema, or rows that both have, are not the same.
    is_changed: bool,
    /// How many tables have the same rows in both.
    same: usize,
    /// Tables whose rows are not known in one of them.
    unknown: Vec<String>,
}

impl Compared {
    fn of(before: &Schema, after: &Schema) -> Self {
        let changes = row_changes(before.rows(), after.rows());
        let is_changed = before.schema_digest() != after.schema_digest();
        let mut compared = Self { is_changed, ..Self::default() };
        for change in &changes {
            match change {
                RowChange::Changed { .. } => compared.is_changed = true,
                RowChange::Unknown { table, .. } => compared.unknown.push(table.clone()),
            }
        }
        let is_known = |name: &str| !compared.unknown.iter().any(|unknown| unknown == name);
        let tables = after.rows().into_iter().flat_map(Rows::tables);
        let known = tables.filter(|(name, _)| is_known(&name.to_string())).count();
        compared.same = known.saturating_sub(changes.len() - compared.unknown.len());
        compared
    }
}

/// The snapshots of a bundle.
pub struct Documents<'b> {
    bundle: &'b Path,
    compared: BTreeMap<(Sha256, Sha256), Option<Compared>>,
    /// The one that was read last: what one call leaves the next one finds.
    last: Option<(Sha256, Rc<Schema>)>,
}

impl<'b> Documents<'b> {
    pub fn of(bundle: &'b Path) -> Self {
        Self { bundle, compared: BTreeMap::new(), last: None }
    }

    /// None where a document is not there, or is another. Each pair is compared once.
    pub fn compared(&mut self, before: &str, after: &str) -> Option<Compared> {
        let pair = (Sha256::parse(before)?, Sha256::parse(after)?);
        if let Some(known) = self.compared.get(&pair) {
            return known.clone();
        }
        let before = self.schema(pair.0);
        let after = before.as_ref().and_then(|_| self.schema(pair.1));
        let compared = before.zip(after).map(|(before, after)| Compared::of(&before, &after));
        self.compared.insert(pair, compared.clone());
        compared
    }

    fn schema(&mut self, digest: Sha256) -> Option<Rc<Schema>> {
        if let Some((last, schema)) = &self.last
            && *last == digest
        {
            return Some(schema.clone());
        }
        let bytes = show::open(self.bundle).ok()?.read(&BundlePath::snapshot(digest), DOCUMENT_BYTES_MAX);
        let schema = Schema::parse(&bytes.ok()?).ok().filter(|schema| schema.digest().0 == digest)?;
        let schema = Rc::new(schema);
        self.last = Some((digest, schema.clone()));
        Some(schema)
    }
}

/// Most tables that a line names.
const NAMED_MAX: usize = 8;

fn said(compared: &Compared) -> String {
    let mut text = match (compared.is_changed, compared.same) {
        (true, _) => " changed".to_owned(),
        // Of rows that have no digest nothing is known.
        (false, 0) => " schema as before".to_owned(),
        (false, 1) => " schema and rows of 1 table as before".to_owned(),
        (false, count) => format!(" schema and rows of {count} tables as before"),
    };
    let named: Vec<String> = compared.unknown.iter().take(NAMED_MAX).map(|table| plain(table)).collect();
    let more = compared.unknown.len() - named.len();
    if !named.is_empty() {
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = write!(text, ", rows of {}{more} not known", named.join(", ")); // a `String` takes everything
    }
    text
}

/// What a receipt says of its snapshots, for a list of calls. `compare` says what two documents say of each other.
pub fn brief(receipt: &Value, compare: &mut dyn FnMut(&str, &str) -> Option<Compared>) -> String {
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
    if let (Some(pre), Some(post)) = (digest("pre"), digest("post")) {
        let is_same = pre == post;
        match compare(pre, post) {
            _ if is_same && is_quiet && !are_written && !are_unread => text.push_str(" as before"),
            Some(compared) => text.push_str(&said(&compared)),
            None if !is_same => text.push_str(" not known whether changed"),
            None if are_unread => text.push_str(" schema as before, rows not known"),
            None => text.push_str(" schema as before"),
        }
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
    use estoppel_evidence::envelope::base64;

    use super::*;

    #[test]
    fn a_list_says_whether_a_database_changed_and_what_is_missing() {
        let check = |snapshot: Value, expected: &str| {
            assert_eq!(brief(&json!({ "snapshot": snapshot }), &mut |_, _| None), expected);
        };
        let (a, b) = (json!({ "digest": "sha256:a" }), json!({ "digest": "sha256:b" }));
        check(Value::Null, "");
        check(json!({ "source": "shop", "pre": a, "post": a }), ", shop schema as before");
        let at = |lsn: &str| json!({ "digest": "sha256:a", "lsn": lsn });
        check(json!({ "source": "shop", "pre": at("0/1"), "post": at("0/1") }), ", shop as before");
        let moved = json!({ "source": "shop", "pre": at("0/1"), "post": at("0/2") });
        check(moved.clone(), ", shop schema as before");
        for (count, words) in [(1, "1 table"), (2, "2 tables")] {
            let compared = Compared { same: count, ..Compared::default() };
            let said = brief(&json!({ "snapshot": moved }), &mut |_, _| Some(compared.clone()));
            assert_eq!(said, format!(", shop schema and rows of {words} as before"));
        }
        check(json!({ "source": "shop", "pre": a, "post": b }), ", shop not known whether changed");
        check(json!({ "source": "shop", "pre": { "code": "PRE_FAIL" } }), ", shop pre PRE_FAIL");
        let writes =
            json!([{ "rows": 1, "table": "a\u{1b}" }, { "more": true, "rows": 10_000, "table": "b" }]);
        let written =
            json!({ "ext": { "writes": writes }, "snapshot": { "source": "s", "pre": a, "post": a } });
        assert_eq!(
            brief(&written, &mut |_, _| None),
            r", s schema as before, 1 row of a\u001b, more than 10000 rows of b"
        );
        let mut missed = written;
        missed["ext"]["writes"] =
            json!([{ "rows": 0, "table": "a" }, { "cause": "permission", "table": "b" }]);
        assert_eq!(
            brief(&missed, &mut |_, _| None),
            ", s schema as before, 0 rows of a, rows of b not known"
        );
        let mut unread = json!({ "snapshot": { "source": "s", "pre": a, "post": a } });
        unread["downgrades"] = json!([{ "code": "ROWS_MISSING", "detail": "pre: public.orders rows_max" }]);
        assert_eq!(brief(&unread, &mut |_, _| None), ", s schema as before, rows not known");
        let late = json!({ "source": "s\u{1b}", "pre": a, "post": { "code": "POST_TIMEOUT\u{1b}" } });
        check(late, r", s\u001b post POST_TIMEOUT\u001b");
    }

    fn document(columns: Value, rows: Value) -> Schema {
        let mut parts = serde_json::Map::new();
        for part in ["constraints", "extensions", "functions", "indexes", "namespaces", "policies"]
            .into_iter()
            .chain(["relations", "rules", "sequences", "triggers", "types", "views"])
        {
            parts.insert(part.to_owned(), json!({}));
        }
        parts.insert("columns".to_owned(), columns);
        let document =
            json!({ "format": Schema::FORMAT, "parts": parts, "rows": { "public": rows }, "uncovered": {} });
        let bytes = estoppel_evidence::canonical::foreign(document.to_string().as_bytes()).unwrap();
        Schema::parse(&bytes).unwrap()
    }

    #[test]
    fn changed_is_said_only_of_what_was_compared_and_tables_that_are_not_known_are_named() {
        let empty = Sha256::of(b"").to_string();
        let none = json!({ "bytes": 0, "count": 0, "digest": empty, "rows": "" });
        let row = [7; 32];
        let one =
            json!({ "bytes": 3, "count": 1, "digest": Sha256::of(&row).to_string(), "rows": base64(&row) });
        let locked = json!({ "cause": "lock_timeout", "code": "ROWS_MISSING" });
        let (plain, other) = (json!({}), json!({ "public": { "t": { "a": { "type": "text" } } } }));
        let (a, b) = (json!({ "digest": "sha256:a" }), json!({ "digest": "sha256:b" }));
        let said = |before: &Schema, after: &Schema| {
            let receipt = json!({ "snapshot": { "source": "s", "pre": a, "post": b } });
            brief(&receipt, &mut |_, _| Some(Compared::of(before, after)))
        };
        let before = document(plain.clone(), json!({ "orders": one, "stock": none }));
        let unread = document(plain.clone(), json!({ "orders": locked, "stock": none }));
        let expected = ", s schema and rows of 1 table as before, rows of public.orders not known";
        assert_eq!(said(&before, &unread), expected, "a lock of somebody else is no change");
        assert_eq!(said(&unread, &unread), expected);
        let written = document(plain.clone(), json!({ "orders": locked, "stock": one }));
        assert_eq!(said(&before, &written), ", s changed, rows of public.orders not known");
        let both = document(plain, json!({ "orders": locked, "stock": locked }));
        assert_eq!(
            said(&before, &both),
            ", s schema as before, rows of public.orders, public.stock not known"
        );
        assert_eq!(said(&before, &document(other, json!({ "orders": one, "stock": none }))), ", s changed");
    }
}
