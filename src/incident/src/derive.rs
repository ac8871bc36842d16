//! What follows from the bundles and takes more than reading them: differences between snapshots, and calls judged again.

use std::collections::BTreeMap;

use estoppel_bundle::BundlePath;
use estoppel_evidence::Sha256;
use serde_json::{Value, json};

use crate::error::IncidentError;
use crate::pack::{Given, Part, canonical, put};

/// Most bytes of one snapshot.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
const FORMAT: &str = "estoppel-incident-regress/1";
/// What the subject's calls come to by the policy that is at [`POLICY`].
pub(crate) const REGRESS: &str = "regress.json";
pub(crate) const POLICY: &str = "regress/policy.json";
pub(crate) const DIFFS: &str = "diffs/";

/// Does what takes other crates. The same input has to give the same output.
pub trait Derive {
    /// What differs between two snapshots, as a canonical document (`spec/diff.md`).
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn difference(&self, before: &[u8], after: &[u8]) -> Result<Vec<u8>, String>;

    /// A row for each call of a bundle, judged again by a policy in canonical form: `seq`, `call`, `recorded` (`verdict`, and
    /// where there are any `reason` and `rule`), `state` (`same`, `changed` or `undecided`), and what more there is to say.
    ///
    /// # Errors
    /// What is wrong with the policy or the bundle.
    fn judge_again(&self, policy: &[u8], given: &Given) -> Result<Vec<Value>, String>;
}

/// Puts a diff for each call of `rows` that saw a database change, and has the row refer to it.
pub(crate) fn put_diffs(
    files: &mut BTreeMap<BundlePath, Vec<u8>>,
    parts: &[Part<'_>],
    rows: &mut [Value],
    derive: &dyn Derive,
) -> Result<(), IncidentError> {
    for row in rows {
        let side = |side: &str| row["snapshot"][side]["digest"].as_str().and_then(Sha256::parse);
        let (Some(before), Some(after)) = (side("pre"), side("post")) else { continue };
        let part = parts.iter().find(|part| row["bundle"] == part.path.as_str());
        let Some(part) = part.filter(|_| before != after) else { continue };
        let read = |digest| {
            let path = BundlePath::snapshot(digest);
            let content = part.opened.read(&path, SNAPSHOT_BYTES_MAX);
            content.map_err(|error| IncidentError::Form(format!("{}!{path}: {error}", part.path)))
        };
        let diff = derive.difference(&read(before)?, &read(after)?).map_err(IncidentError::Form)?;
        let path = format!("{DIFFS}{}.{}.json", part.run(), row["seq"]);
        let link = json!({ "at": path, "kind": "diff", "to": Sha256::of(&diff).to_string() });
        put(files, &path, diff)?;
        if let Some(links) = row["links"].as_array_mut() {
            links.push(link);
        }
    }
    Ok(())
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
