//! What a kit has beside bundles and attestations: certificates of replays and results of regress. All of their numbers are
//! held against the bundles, or counted again. Results may have their policies beside them, so that whoever can judge judges again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use estoppel_bundle::Bundle;
use estoppel_evidence::{Sha256, canonical};
use estoppel_verify::{Input, Options, read_statement, verify_certificate};
use serde_json::{Value, json};

use super::{Beside, Kit};
use crate::error::AttestError;
use crate::evidence::Evidence;

/// Most bytes of a certificate or a result.
pub(super) const PART_BYTES_MAX: usize = 16 << 20;

pub(super) fn certificate_path(content: &[u8]) -> String {
    format!("certificates/{}.json", Sha256::of(content).hex())
}

pub(super) fn result_path(content: &[u8]) -> String {
    format!("regress/{}.json", Sha256::of(content).hex())
}

pub(super) fn policy_path(content: &[u8]) -> String {
    format!("policies/{}.json", Sha256::of(content).hex())
}

pub(super) fn contract_path(content: &[u8]) -> String {
    format!("contracts/{}", Sha256::of(content).hex())
}

/// The part of an answer of `estoppel regress run --json` that a kit keeps, canonical.
///
/// # Errors
/// [`AttestError::KitResult`] if it is none.
pub fn result_of(answer: &[u8]) -> Result<Vec<u8>, AttestError> {
    let wrong = |why: &str| AttestError::KitResult { path: "given".into(), why: why.to_owned() };
    let answer = canonical::foreign(answer).map_err(|_| wrong("it is no JSON"))?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let data = answer.get("data").filter(|data| data["policy_hash"].is_string());
    let data = data.ok_or_else(|| wrong("it is no answer of `estoppel regress run --json`"))?;
    canonical::foreign(data.to_string().as_bytes()).map_err(|_| wrong("it has no canonical form"))
}

/// Certificates, each about a bundle of the kit: R1 to R7 of `spec/replay.md`.
pub(super) fn certificates(
    kit: &Kit,
    evidence: &Evidence,
    options: &Options<'_>,
) -> Result<Vec<Value>, AttestError> {
    let mut rows = Vec::new();
    for (path, content) in kit.below("certificates/") {
        if *path != certificate_path(content) {
            return Err(AttestError::KitAltered(path.clone()));
        }
        rows.push(certificate(kit, evidence, options, (path, content))?);
    }
    Ok(rows)
}

fn certificate(
    kit: &Kit,
    evidence: &Evidence,
    options: &Options<'_>,
    (path, content): (&str, &[u8]),
) -> Result<Value, AttestError> {
    let wrong =
        |code: &'static str, why: String| AttestError::KitCertificate { path: path.to_owned(), code, why };
    // One that cannot be read is held against any of them, for the code that says why.
    let signed = read_statement(content).ok();
    let stated = signed.as_ref().and_then(|signed| serde_json::from_slice::<Value>(&signed.payload).ok());
    let named = stated.unwrap_or_default()["predicate"]["bundle"]["run"].as_str().map(str::to_owned);
    let run = evidence.runs().iter().find(|run| named.as_ref().is_none_or(|named| run.run == *named));
    let run = run.ok_or_else(|| wrong("CERTIFICATE_MISMATCH", "it is about none of these bundles".into()))?;
    let archive = kit.content(&format!("bundles/{}.pef.zip", run.run))?;
    let options = Options { trust: Some(kit.content(super::TRUST)?), ..*options };
    let beside = kit.beside(&run.run);
    let report = verify_certificate(content, None, Input::Zip(archive), &mut Beside(&beside), &options);
    let report = report.map_err(|error| wrong("CERTIFICATE_MALFORMED", error.to_string()))?;
    if let Some(fault) = report.fault {
        return Err(wrong(fault.reason.code(), fault.detail));
    }
    let (Some(statement), Some(signed)) = (report.statement, signed) else {
        return Err(wrong("CERTIFICATE_MALFORMED", "it is no statement".into()));
    };
    let stated: Value = serde_json::from_slice(&statement).unwrap_or_default();
    let predicate = &stated["predicate"];
    Ok(json!({
        "counts": predicate["counts"],
        "digest": Sha256::of(content),
        "kid": signed.key.hex(),
        "mode": predicate["mode"],
        "path": path,
        "run": run.run,
        "status": predicate["status"],
    }))
}

/// What a receipt says of its call.
struct Recorded {
    seq: Value,
    verdict: Value,
    reason: Value,
    rule: Value,
}

/// Results of regress, counted again from their rows, which are held against the receipts.
pub(super) fn results(kit: &Kit) -> Result<Vec<Value>, AttestError> {
    let mut calls = None;
    let mut rows = Vec::new();
    for (path, content) in kit.below("regress/") {
        if *path != result_path(content) {
            return Err(AttestError::KitAltered(path.clone()));
        }
        let calls = match &mut calls {
            Some(calls) => calls,
            none => none.insert(recorded(kit)?),
        };
        let row = result(content, calls).map_err(|why| AttestError::KitResult { path: path.clone(), why })?;
        let policy = row[4].as_str().and_then(Sha256::parse);
        let policy = policy.map(|digest| format!("policies/{}.json", digest.hex()));
        let mut row = json!({
            "changed": row[1], "checkpoints": row[3], "digest": Sha256::of(content), "path": path,
            "policy_hash": row[4], "same": row[0], "undecided": row[2],
        });
        if let Some(policy) = policy.filter(|path| kit.files.contains_key(path)) {
            row["policy"] = policy.into();
        }
        rows.push(row);
    }
    policies(kit, &rows)?;
    Ok(rows)
}

/// Policies and contracts are called as their digests, each is there for something, and no contract is missing.
fn policies(kit: &Kit, results: &[Value]) -> Result<(), AttestError> {
    let idle = |path: &str, what: &str| Err(AttestError::KitForm(format!("`{path}` is {what}")));
    let mut wanted = BTreeSet::new();
    for (path, content) in kit.below("policies/") {
        if *path != policy_path(content) {
            return Err(AttestError::KitAltered(path.clone()));
        }
        if !results.iter().any(|row| row["policy"] == path.as_str()) {
            return idle(path, "the policy of no result");
        }
        if content.len() > PART_BYTES_MAX || canonical::foreign(content).ok().as_deref() != Some(content) {
            return idle(path, "not canonical JSON, or too large");
        }
        let policy: Value = serde_json::from_slice(content).unwrap_or_default();
        let contracts = policy["contracts"].as_object().into_iter().flatten();
        let packed =
            contracts.filter_map(|(_, contract)| contract.get("pack").and(contract["sha256"].as_str()));
        wanted.extend(packed.map(|sha256| format!("contracts/{sha256}")));
    }
    for path in &wanted {
        kit.content(path)?;
    }
    for (path, content) in kit.below("contracts/") {
        if *path != contract_path(content) {
            return Err(AttestError::KitAltered(path.clone()));
        }
        if !wanted.contains(path) {
            return idle(path, "a contract of no policy");
        }
    }
    Ok(())
}

fn recorded(kit: &Kit) -> Result<HashMap<String, Recorded>, AttestError> {
    let mut calls = HashMap::new();
    for (path, archive) in kit.below("bundles/").filter(|(path, _)| path.ends_with(".pef.zip")) {
        let wrong = |reason: String| AttestError::Bundle { name: path.clone(), reason };
        let bundle = Bundle::from_zip(archive.as_slice()).map_err(|error| wrong(error.to_string()))?;
        let mut entries = bundle.entries().map_err(|error| wrong(error.to_string()))?;
        while let Some(entry) = entries.next().map_err(|error| wrong(error.to_string()))? {
            let entry: Value = serde_json::from_slice(entry.line).unwrap_or_default();
            let Some(call) = entry["call"].as_str().filter(|_| entry["kind"] == "call") else { continue };
            let said = Recorded {
                seq: entry["seq"].clone(),
                verdict: entry["verdict"]["action"].clone(),
                reason: entry["verdict"]["reason"].clone(),
                rule: entry["policy"]["rule"].clone(),
            };
            calls.insert(call.to_owned(), said);
        }
    }
    Ok(calls)
}

/// `same`, `changed`, `undecided`, `checkpoints` and `policy_hash`.
fn result(content: &[u8], calls: &HashMap<String, Recorded>) -> Result<[Value; 5], String> {
    if content.len() > PART_BYTES_MAX || canonical::foreign(content).ok().as_deref() != Some(content) {
        return Err("it is not canonical JSON, or too large".into());
    }
    let stated: Value = serde_json::from_slice(content).unwrap_or_default();
    let rows = match (&stated["calls"], &stated["fixtures"]) {
        (Value::Array(rows), Value::Null) | (Value::Null, Value::Array(rows)) => rows,
        _ => return Err("it has neither calls nor fixtures, or both".into()),
    };
    let mut counts = BTreeMap::from([("same", 0u64), ("changed", 0), ("undecided", 0)]);
    for row in rows {
        let call = row["call"].as_str().unwrap_or_default();
        let said = calls
            .get(call)
            .ok_or_else(|| format!("call `{}` is in none of the bundles", call.escape_debug()))?;
        let state = row["state"].as_str().unwrap_or_default();
        let count = counts.get_mut(state).ok_or_else(|| format!("call {call} has no state"))?;
        *count += 1;
        if !follows(row, said) {
            return Err(format!("call {call} is not what its receipt or its state says"));
        }
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    if ["same", "changed", "undecided"].iter().any(|name| stated[*name] != count(name)) {
        return Err("its rows give other numbers".into());
    }
    if stated["policy_hash"].as_str().is_none_or(|hash| Sha256::parse(hash).is_none()) {
        return Err("it does not say by which policy".into());
    }
    if !matches!(stated["checkpoints"].as_str(), Some("trusted" | "unchecked")) {
        return Err("it does not say whether checkpoints were looked at".into());
    }
    let said = |name: &str| stated[name].clone();
    Ok([said("same"), said("changed"), said("undecided"), said("checkpoints"), said("policy_hash")])
}

/// A row says of the recording what the receipt says, and its state is what follows from what it says came out.
fn follows(row: &Value, said: &Recorded) -> bool {
    let (expected, now) = (&row["expected"], &row["now"]);
    let is_as_recorded = match expected["by"].as_str() {
        Some("receipt") => expected["verdict"] == said.verdict && expected["reason"] == said.reason,
        Some("verdict") => expected["verdict"] == said.verdict,
        Some("author") => true,
        _ => false,
    };
    let is_same = now["verdict"] == expected["verdict"]
        && (expected["by"] != "receipt" || now["reason"] == expected["reason"]);
    let is_so = match row["state"].as_str() {
        Some("same") => now.is_object() && is_same,
        Some("changed") => now.is_object() && !is_same,
        _ => now.is_null() && row["cause"].is_string(),
    };
    is_as_recorded && is_so && row["seq"] == said.seq && expected["rule"] == said.rule
}
