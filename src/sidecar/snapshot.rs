//! `estoppel snapshot`: what databases looked like around calls.

use std::fmt::Write as _;
use std::process::ExitCode;

use estoppel_bundle::BundlePath;
use estoppel_evidence::Sha256;
use estoppel_snapshot::{Change, Schema, diff};
use serde_json::{Value, json};

use crate::arguments::{SnapshotCommand, SnapshotDiff};
use crate::output::{Failure, Output, plain};
use crate::show;

/// Largest document that is read.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

pub fn run(output: &Output, command: &SnapshotCommand) -> Result<ExitCode, Failure> {
    match command {
        SnapshotCommand::Diff(asked) => changes(*output, asked),
    }
}

/// What changed in a database between the two snapshots of a call. Exit code 5 when something did.
fn changes(output: Output, asked: &SnapshotDiff) -> Result<ExitCode, Failure> {
    let (_, lines) = show::read(&asked.bundle)?;
    let receipt = &show::find(&lines, &asked.call)?.value;
    let snapshot = &receipt["snapshot"];
    if snapshot.is_null() {
        return Err(Failure::input("ARGUMENT_INVALID", "this entry has no snapshots"));
    }
    let bundle = show::open(&asked.bundle)?;
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
    let changes = diff(&before, &after);
    for side in ["pre", "post"] {
        let text = |member: &str| snapshot[side][member].as_str().map_or("-".to_owned(), plain);
        output.line(&format!("{side:<4}  {}  log {}", text("digest"), text("lsn")));
    }
    output.line("");
    for change in &changes {
        output.line(&line(change));
    }
    output.line(&match changes.len() {
        0 => "nothing changed in the schema".to_owned(),
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    });
    output.note("only what is shown was checked; `estoppel verify` judges the bundle");
    let data = json!({ "call": receipt["call"], "changes": changes, "snapshot": snapshot });
    Ok(output.answer(&data, if changes.is_empty() { 0 } else { 5 }))
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

/// What a receipt says of its snapshots, for a list of calls.
pub fn brief(receipt: &Value) -> String {
    let snapshot = &receipt["snapshot"];
    let Some(source) = snapshot["source"].as_str() else { return String::new() };
    let mut text = format!(", {}", plain(source));
    let digest = |side: &str| snapshot[side]["digest"].as_str();
    match (digest("pre"), digest("post")) {
        (Some(pre), Some(post)) if pre == post => text.push_str(" as before"),
        (Some(_), Some(_)) => text.push_str(" changed"),
        _ => {}
    }
    for side in ["pre", "post"] {
        if let Some(code) = snapshot[side]["code"].as_str() {
            let _ = write!(text, " {side} {}", plain(code)); // a `String` takes everything
        }
    }
    for writes in receipt["ext"]["writes"].as_array().into_iter().flatten() {
        let (rows, table) = (writes["rows"].as_u64().unwrap_or(0), writes["table"].as_str().unwrap_or("-"));
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
            assert_eq!(brief(&json!({ "snapshot": snapshot })), expected);
        };
        let (a, b) = (json!({ "digest": "sha256:a" }), json!({ "digest": "sha256:b" }));
        check(Value::Null, "");
        check(json!({ "source": "shop", "pre": a, "post": a }), ", shop as before");
        check(json!({ "source": "shop", "pre": a, "post": b }), ", shop changed");
        check(json!({ "source": "shop", "pre": { "code": "PRE_FAIL" } }), ", shop pre PRE_FAIL");
        let writes =
            json!([{ "rows": 1, "table": "a\u{1b}" }, { "more": true, "rows": 10_000, "table": "b" }]);
        let written =
            json!({ "ext": { "writes": writes }, "snapshot": { "source": "s", "pre": a, "post": a } });
        assert_eq!(brief(&written), r", s as before, 1 row of a\u001b, more than 10000 rows of b");
        let late = json!({ "source": "s\u{1b}", "pre": a, "post": { "code": "POST_TIMEOUT\u{1b}" } });
        check(late, r", s\u001b post POST_TIMEOUT\u001b");
    }
}
