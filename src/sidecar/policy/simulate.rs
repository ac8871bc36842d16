//! `estoppel policy simulate`: what a candidate would have decided about recorded calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use estoppel_gateway::packs::Packs;
use estoppel_gateway::recorded::{Retrial, Ruling};
use serde_json::{Value, json};

use crate::arguments::Simulate;
use crate::output::{Failure, Output, plain};
use crate::recorded::{self, call_of};
use crate::{show, verify};

/// What came of the calls.
#[derive(Default)]
struct Findings {
    calls: usize,
    changes: Vec<Value>,
    undecided: Vec<Value>,
    drift: Vec<Value>,
}

pub fn run(output: Output, simulate: &Simulate) -> Result<ExitCode, Failure> {
    let candidate = super::compiled(output, &simulate.policy, &Packs::at(simulate.packs.as_deref()))?;
    let candidate = recorded::again(candidate)?;
    let mut found = Findings::default();
    for path in &simulate.bundles {
        let bundle = verify::demand(path, simulate.trust.as_deref())?;
        replay((path, &bundle), &candidate, &mut found)?;
    }
    print(output, &found);
    let differs = !found.changes.is_empty() || !found.drift.is_empty();
    let exit = if differs || simulate.strict && !found.undecided.is_empty() { 5 } else { 0 };
    let data = json!({
        "policy_hash": candidate.policy().hash().to_string(),
        "calls": found.calls,
        "changes": found.changes,
        "undecided": found.undecided,
        "drift": found.drift,
    });
    Ok(output.answer(&data, exit))
}

fn print(output: Output, found: &Findings) {
    let text = |row: &Value, key: &str| plain(row[key].as_str().unwrap_or("-"));
    for row in &found.changes {
        let (call, old, new) = (text(row, "call"), said(&row["old"]), said(&row["new"]));
        output.line(&format!("change     {call}  {old} -> {new}"));
    }
    for row in &found.drift {
        let (call, old, new) = (text(row, "call"), said(&row["recorded"]), said(&row["judged"]));
        output.line(&format!("drift      {call}  recorded {old}, its own policy says {new} now"));
    }
    for row in &found.undecided {
        output.line(&format!("undecided  {}  {}", text(row, "call"), text(row, "cause")));
    }
    output.line(&format!(
        "{} calls: {} would change, {} undecided, {} drift",
        found.calls,
        found.changes.len(),
        found.undecided.len(),
        found.drift.len()
    ));
}

fn said(ruling: &Value) -> String {
    let part = |key: &str| ruling[key].as_str().map(plain);
    let by = part("rule").map(|rule| format!(" by `{rule}`")).unwrap_or_default();
    let with = part("reason").map(|reason| format!(" with {reason}")).unwrap_or_default();
    format!("{}{by}{with}", part("verdict").unwrap_or_default())
}

fn row(ruling: &Ruling) -> Value {
    json!({ "verdict": ruling.verdict.as_str(), "rule": ruling.rule, "reason": ruling.reason })
}

fn replay(
    (path, bundle): (&Path, &show::Opened),
    candidate: &Retrial,
    found: &mut Findings,
) -> Result<(), Failure> {
    let (_, lines) = show::entries(path, bundle)?;
    let mut policies: BTreeMap<String, Retrial> = BTreeMap::new();
    let holds = lines.iter().map(|line| &line.value).filter(|entry| entry["kind"] == "hold");
    let holds: BTreeMap<&str, &Value> =
        holds.filter_map(|entry| Some((entry["hold"].as_str()?, &entry["rule"]))).collect();
    for line in lines.iter().filter(|line| line.value["kind"] == "call") {
        let entry = &line.value;
        found.calls += 1;
        let call = entry["call"].clone();
        let hash = entry["policy"]["hash"].as_str().unwrap_or_default().to_owned();
        if !policies.contains_key(&hash) {
            policies.insert(hash.clone(), recorded::retrial(recorded::policy_text(bundle, &hash), &hash)?);
        }
        let Some(own) = policies.get(&hash) else { continue };
        let ruling = Ruling::of_receipt(entry);
        let approved = entry["approval"]["hold"].as_str().and_then(|hold| holds.get(hold)?.as_str());
        let facts = call_of(bundle, (entry, approved), own);
        let of_own = own.rules(&facts);
        if let (Some(recorded), Ok(judged)) = (&ruling, &of_own)
            && recorded != judged
        {
            found.drift.push(json!({ "call": call, "recorded": row(recorded), "judged": row(judged) }));
        }
        let undecided = |cause: &str| json!({ "call": call, "cause": cause });
        match (ruling.or_else(|| of_own.as_ref().ok().cloned()), candidate.rules(&facts)) {
            (_, Err(cause)) => found.undecided.push(undecided(&cause)),
            (None, Ok(_)) => found.undecided.push(undecided("what its own policy said is not recorded")),
            (Some(old), Ok(new)) if (old.verdict, &old.rule) == (new.verdict, &new.rule) => {}
            (Some(_), Ok(_)) if Ruling::of_receipt(entry).is_none() => {
                let code = entry["verdict"]["reason"].as_str().unwrap_or("-");
                found.undecided.push(undecided(&format!("it was blocked beside the rules: {code}")));
            }
            (Some(old), Ok(new)) => {
                found.changes.push(json!({ "call": call, "old": row(&old), "new": row(&new) }));
            }
        }
    }
    Ok(())
}
