//! `estoppel policy simulate`: what a candidate would have decided about recorded calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_bundle::BundlePath;
use estoppel_gateway::packs::Packs;
use estoppel_gateway::recorded::{self, Bodies, RecordedCall, Ruling};
use estoppel_policy::{Policy, PolicyDocument};
use serde_json::{Value, json};

use crate::arguments::Simulate;
use crate::output::{Failure, Output, plain};
use crate::{input, show, verify};

/// Most bytes of one stored body that are read.
const BODY_BYTES_MAX: u64 = 64 << 20;

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
    let mut found = Findings::default();
    for path in &simulate.bundles {
        let code = verify::exit_code(path, simulate.trust.as_deref())?;
        if code != 0 {
            let message = format!("`{}` does not verify, so nothing is read from it", path.display());
            return Err(Failure { exit: 2, ..Failure::runtime("BUNDLE_INVALID", plain(&message)) }
                .hint("`estoppel verify` says what is wrong with it"));
        }
        replay(path, &candidate, &mut found)?;
    }
    print(output, &found);
    let differs = !found.changes.is_empty() || !found.drift.is_empty();
    let exit = if differs || simulate.strict && !found.undecided.is_empty() { 5 } else { 0 };
    let data = json!({
        "policy_hash": candidate.hash().to_string(),
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

fn replay(path: &Path, candidate: &Policy, found: &mut Findings) -> Result<(), Failure> {
    let (_, lines) = show::read(path)?;
    let bundle = show::open(path)?;
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    let holds = lines.iter().map(|line| &line.value).filter(|entry| entry["kind"] == "hold");
    let holds: BTreeMap<&str, &Value> =
        holds.filter_map(|entry| Some((entry["hold"].as_str()?, &entry["rule"]))).collect();
    for line in lines.iter().filter(|line| line.value["kind"] == "call") {
        let entry = &line.value;
        found.calls += 1;
        let call = entry["call"].clone();
        let hash = entry["policy"]["hash"].as_str().unwrap_or_default().to_owned();
        if !policies.contains_key(&hash) {
            policies.insert(hash.clone(), policy_of(&bundle, &hash, path)?);
        }
        let Some(own) = policies.get(&hash) else { continue };
        let recorded = Ruling::of_receipt(entry);
        let approved = entry["approval"]["hold"].as_str().and_then(|hold| holds.get(hold)?.as_str());
        let facts = RecordedCall::of_receipt(entry, bodies(&bundle, entry), approved, own);
        let of_own = recorded::judge(own, &facts);
        if let (Some(recorded), Ok(judged)) = (&recorded, &of_own)
            && recorded != judged
        {
            found.drift.push(json!({ "call": call, "recorded": row(recorded), "judged": row(judged) }));
        }
        let undecided = |cause: &str| json!({ "call": call, "cause": cause });
        match (recorded.or_else(|| of_own.as_ref().ok().cloned()), recorded::judge(candidate, &facts)) {
            (_, Err(cause)) => found.undecided.push(undecided(cause)),
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

fn policy_of(bundle: &show::Opened, hash: &str, path: &Path) -> Result<Policy, Failure> {
    let unreadable = || {
        let message = format!("`{}`: the policy `{hash}` cannot be read", path.display());
        Failure::input("POLICY_INVALID", plain(&message))
    };
    let hex = hash.strip_prefix("sha256:").ok_or_else(unreadable)?;
    let text = stored(bundle, &format!("policy/{hex}.json")).ok_or_else(unreadable)?;
    let text = String::from_utf8(text).map_err(|_| unreadable())?;
    PolicyDocument::parse(&text).map(|document| document.compile()).map_err(|_| unreadable())
}

fn stored(bundle: &show::Opened, path: &str) -> Option<Vec<u8>> {
    let path: BundlePath = path.parse().ok()?;
    bundle.read(&path, BODY_BYTES_MAX).ok()
}

/// What was stored of a call as it came.
fn bodies(bundle: &show::Opened, entry: &Value) -> Bodies {
    let full = entry["body"]["mode"] == "full";
    let body = |side: &Value| {
        let hex = side["sha256"].as_str().filter(|_| full)?.strip_prefix("sha256:")?;
        stored(bundle, &format!("bodies/{hex}"))
    };
    let answers = &entry["response"];
    Bodies {
        request: body(&entry["request"]),
        answer: body(&answers["upstream"]).or_else(|| body(&answers["client"])),
    }
}

/// A file that was named to be written, refused if it is there.
pub fn new_file(path: &PathBuf, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let made = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    made.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure {
            exit: 8,
            ..Failure::runtime("OUTPUT_EXISTS", plain(&format!("`{}` is there already", path.display())))
        },
        _ => input::unreadable(path, &error),
    })
}
