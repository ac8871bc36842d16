//! What follows from the bundles and takes more than reading them: differences between snapshots, and calls judged again.

use std::collections::BTreeMap;

use estoppel_bundle::BundlePath;
use estoppel_evidence::Sha256;
use serde_json::{Value, json};

use crate::error::IncidentError;
use crate::pack::{Format, Given, Part, canonical, put};

/// Most bytes of one snapshot.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
const FORMAT: &str = "estoppel-incident-regress/1";
/// What the subject's calls come to by the policy that is at [`POLICY`].
pub(crate) const REGRESS: &str = "regress.json";
pub(crate) const POLICY: &str = "regress/policy.json";
const ROWS_MISSING: &str = "ROWS_MISSING";
pub(crate) const DIFFS: &str = "diffs/";

/// What two snapshots say of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What differs, as a canonical document (`spec/diff.md`) that says nothing of `unread`; none where nothing does.
    pub diff: Option<Vec<u8>>,
    pub unread: Vec<Unread>,
}

/// A table whose rows one of two snapshots has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// `schema.table`.
    pub table: String,
    pub cause: String,
}

/// Does what takes other crates. The same input has to give the same output.
pub trait Derive {
    /// What differs between two snapshots, as a canonical document (`spec/diff.md`). A table whose rows one of them has not counts
    /// as one that differs.
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn difference(&self, before: &[u8], after: &[u8]) -> Result<Vec<u8>, String>;

    /// What differs of that which both snapshots have.
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn compare(&self, before: &[u8], after: &[u8]) -> Result<Compared, String>;

    /// A row for each call of a bundle, judged again by a policy in canonical form: `seq`, `call`, `recorded` (`verdict`, and
    /// where there are any `reason` and `rule`), `state` (`same`, `changed` or `undecided`), and what more there is to say.
    ///
    /// # Errors
    /// What is wrong with the policy or the bundle.
    fn judge_again(&self, policy: &[u8], given: &Given) -> Result<Vec<Value>, String>;
}

/// Puts a diff for each call of `rows` that saw a database change, and has the row refer to it, or say why what was not compared.
pub(crate) fn put_diffs(
    files: &mut BTreeMap<BundlePath, Vec<u8>>,
    parts: &[Part<'_>],
    rows: &mut [Value],
    (format, derive): (Format, &dyn Derive),
) -> Result<(), IncidentError> {
    for row in rows {
        let mut not_compared = not_taken(row);
        let side = |side: &str| row["snapshot"][side]["digest"].as_str().and_then(Sha256::parse);
        let part = parts.iter().find(|part| row["bundle"] == part.path.as_str());
        let diff = match (side("pre"), side("post"), part) {
            (Some(before), Some(after), Some(part)) if before != after || has_unread(row) => {
                compared((part, before, after), (format, derive), &mut not_compared)?
            }
            _ => None,
        };
        if format == Format::Second && !not_compared.is_empty() {
            row["not_compared"] = not_compared.into();
        }
        let Some(diff) = diff else { continue };
        let seq = row["seq"].as_u64().unwrap_or_default();
        let run = part.map(Part::run).unwrap_or_default();
        let path = format!("{DIFFS}{run}.{seq}.json");
        let link = json!({ "at": path, "kind": "diff", "to": Sha256::of(&diff).to_string() });
        put(files, &path, diff)?;
        if let Some(links) = row["links"].as_array_mut() {
            links.push(link);
        }
    }
    Ok(())
}

/// What differs between two snapshots that are there; `unread` gets tables whose rows one of them has not.
fn compared(
    (part, before, after): (&Part<'_>, Sha256, Sha256),
    (format, derive): (Format, &dyn Derive),
    unread: &mut Vec<Value>,
) -> Result<Option<Vec<u8>>, IncidentError> {
    let read = |digest| {
        let path = BundlePath::snapshot(digest);
        let content = part.opened.read(&path, SNAPSHOT_BYTES_MAX);
        content.map_err(|error| IncidentError::Form(format!("{}!{path}: {error}", part.path)))
    };
    match format {
        Format::First if before == after => Ok(None),
        Format::First => {
            derive.difference(&read(before)?, &read(after)?).map(Some).map_err(IncidentError::Form)
        }
        Format::Second => {
            let Compared { diff, unread: tables } =
                derive.compare(&read(before)?, &read(after)?).map_err(IncidentError::Form)?;
            let said =
                |Unread { table, cause }| json!({ "cause": cause, "code": ROWS_MISSING, "table": table });
            unread.extend(tables.into_iter().map(said));
            Ok(diff)
        }
    }
}

/// The snapshots of a call that there are not, each with its code and, where the receipt has it, the cause.
fn not_taken(row: &Value) -> Vec<Value> {
    let sides = ["pre", "post"].into_iter().filter_map(|side| {
        let snapshot = &row["snapshot"][side];
        let code = snapshot["code"].as_str().filter(|_| snapshot["digest"].is_null())?;
        let mut said = json!({ "code": code, "side": side });
        let mut downgrades = row["downgrades"].as_array().into_iter().flatten();
        let cause = downgrades.find(|downgrade| downgrade["code"] == code).map(|found| &found["detail"]);
        if let Some(cause) = cause.filter(|cause| cause.is_string()) {
            said["cause"] = cause.clone();
        }
        Some(said)
    });
    sides.collect()
}

/// Whether the receipt says that rows of a table are not known.
fn has_unread(row: &Value) -> bool {
    let mut downgrades = row["downgrades"].as_array().into_iter().flatten();
    downgrades.any(|downgrade| downgrade["code"] == ROWS_MISSING)
}

/// Puts what the subject's calls come to by `policy`, and has their rows refer to it; gives the counts.
///
/// # Errors
/// [`IncidentError::Dangling`] for a result that is of no call, or says something else of it than its receipt.
pub(crate) fn put_regress(
    files: &mut BTreeMap<BundlePath, Vec<u8>>,
    subject: &Part<'_>,
    rows: &mut [Value],
    policy: &[u8],
    derive: &dyn Derive,
) -> Result<Value, IncidentError> {
    let results = derive.judge_again(policy, subject.given).map_err(IncidentError::Form)?;
    let mut counts: BTreeMap<String, u64> =
        ["changed", "same", "undecided"].into_iter().map(|state| (state.to_owned(), 0)).collect();
    for result in &results {
        let seq = result["seq"].as_u64().unwrap_or_default();
        let is_of = |row: &&mut Value| row["bundle"] == subject.path.as_str() && row["seq"] == seq;
        let row = rows
            .iter_mut()
            .find(is_of)
            .filter(|row| row["call"] == result["call"] && row["verdict"] == result["recorded"]["verdict"]);
        let (Some(row), Some(state)) = (row, result["state"].as_str()) else {
            let (path, to) = (REGRESS.to_owned(), result["call"].to_string());
            return Err(IncidentError::Dangling { path, seq, kind: "call", to });
        };
        *counts.entry(state.to_owned()).or_default() += 1;
        let link = json!({ "at": format!("{REGRESS}#{seq}"), "kind": "regress", "to": result["call"] });
        if let Some(links) = row["links"].as_array_mut() {
            links.push(link);
        }
        row["regress"] = state.into();
    }
    let hash = Sha256::of(policy).to_string();
    let document =
        json!({ "counts": counts, "format": FORMAT, "of": subject.path, "policy": hash, "rows": results });
    put(files, REGRESS, canonical(&document)?)?;
    put(files, POLICY, policy.to_vec())?;
    Ok(json!({ "at": POLICY, "counts": counts, "policy": hash }))
}
