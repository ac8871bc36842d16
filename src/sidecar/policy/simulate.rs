//! `estoppel policy simulate`: what a candidate would have decided about recorded calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_bundle::BundlePath;
use estoppel_gateway::packs::Packs;
use estoppel_gateway::recorded::{self, RecordedAnswer, RecordedCall, Ruling};
use estoppel_policy::{Policy, PolicyDocument, Verdict};
use estoppel_wire::dialect::Dialect;
use serde_json::{Value, json};

use crate::arguments::Simulate;
use crate::output::{Failure, Output, plain};
use crate::{input, show, verify};

/// Most bytes of one stored body that are read.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Codes of blocks that come from the policy's own defaults.
const DEFAULTS: [&str; 2] = ["POLICY_BLOCK", "NOT_EVALUATED"];

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
        let recorded = recorded_ruling(entry);
        let approved = entry["approval"]["hold"].as_str().and_then(|hold| holds.get(hold)?.as_str());
        let facts = call_of(&bundle, (entry, approved), own, recorded.as_ref());
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
            (Some(_), Ok(_)) if recorded_ruling(entry).is_none() => {
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

/// What the rules said; none where something else stood in the way.
fn recorded_ruling(entry: &Value) -> Option<Ruling> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let (rule, reason) = (text(&entry["policy"]["rule"]), text(&entry["verdict"]["reason"]));
    let verdict = match entry["verdict"]["action"].as_str()? {
        "allow" | "repair" => Verdict::Allow,
        "hold" => Verdict::Hold,
        "block" if reason.as_deref().is_some_and(|reason| reason.starts_with("HOLD_")) => return None,
        "block" => Verdict::Block,
        _ => return None,
    };
    let by_policy = rule.is_some() || reason.as_deref().is_some_and(|reason| DEFAULTS.contains(&reason));
    (verdict.lets_go() || by_policy).then_some(Ruling { verdict, rule, reason })
}

/// `approved` is the rule that held the call, if people let it pass; its receipt names the rule that decided last.
fn call_of(
    bundle: &show::Opened,
    (entry, approved): (&Value, Option<&str>),
    own: &Policy,
    recorded: Option<&Ruling>,
) -> RecordedCall {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let names =
        |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().filter_map(text).collect() };
    let facts = &entry["facts"];
    let dialect = entry["dialect"].as_str().and_then(|name| name.parse().ok());
    let is_mcp = entry["dialect"] == "mcp";
    let (offered, called) = (names(&facts["tools_offered"]), names(&facts["tools_called"]));
    let singles =
        [&facts["model"], &facts["model_served"], &entry["identity"]["subject"], &entry["operation"]];
    let is_cut = |name: &str| name.ends_with('…');
    let names_left_out = facts["more"].as_u64().unwrap_or_default() > 0
        || singles.iter().filter_map(|value| value.as_str()).any(is_cut)
        || offered.iter().chain(&called).any(|name| is_cut(name));
    let full = entry["body"]["mode"] == "full";
    let body = |side: &Value| {
        let hex = side["sha256"].as_str().filter(|_| full)?.strip_prefix("sha256:")?;
        stored(bundle, &format!("bodies/{hex}"))
    };
    let upstream = &entry["response"]["upstream"];
    let answer = (!upstream.is_null()).then(|| RecordedAnswer {
        model_served: text(&facts["model_served"]),
        tools_called: if is_mcp { Vec::new() } else { called.clone() },
        evaluated: read(&entry["evaluated"]["response"]),
        is_stream: !entry["sse"].is_null(),
        body: body(upstream).or_else(|| body(&entry["response"]["client"])),
    });
    let request_body = body(&entry["request"]);
    let was_read = read(&entry["evaluated"]["request"]);
    let is_empty = entry["evaluated"]["request"]["state"] == "empty";
    // A body that streams through is not read before the verdict: after a block nobody knows whether there was one.
    let was_blocked = is_empty && upstream.is_null();
    let is_plain = matches!(dialect, None | Some(Dialect::Json | Dialect::Bytes));
    let is_unknown = is_plain && was_blocked || dialect == Some(Dialect::Json) && !is_empty && was_read;
    let mut call = RecordedCall {
        route: text(&entry["request"]["route"]).unwrap_or_default(),
        operation: text(&entry["operation"]).unwrap_or_default(),
        dialect,
        method: text(&entry["request"]["method"]).unwrap_or_default(),
        identity: text(&entry["identity"]["subject"]),
        tenant: text(&entry["tenant"]),
        model: text(&facts["model"]),
        approved: approved.map(ToOwned::to_owned),
        tools_offered: if is_mcp { called } else { offered },
        names_left_out,
        request_evaluated: (!is_unknown).then_some(was_read),
        has_body: is_unknown || entry["request"]["bytes"].as_u64().unwrap_or_default() > 0,
        request_body,
        answer,
    };
    // Whether such a body counted as read is not recorded, but its own policy may tell.
    if call.request_evaluated.is_none() {
        let fits = |evaluated| {
            let assumed = RecordedCall { request_evaluated: Some(evaluated), ..call.clone() };
            recorded::judge(own, &assumed).ok().as_ref() == recorded
        };
        call.request_evaluated = match (fits(true), fits(false)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            (true, true) | (false, false) => None,
        };
    }
    call
}

fn read(evaluated: &Value) -> bool {
    let whole = evaluated["skipped"].as_u64().unwrap_or_default() == 0 && evaluated["defect"].is_null();
    match evaluated["state"].as_str() {
        Some("empty") => true,
        Some("recognized" | "judged") => whole,
        _ => false,
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
