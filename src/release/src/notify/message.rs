//! One event as a message for people and their tools: a `type`, a `timestamp` and `data`, as Standard Webhooks has it.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use serde_json::{Map, Value, json};

use crate::ledger::{Body, Event, Ledger, Outcome, Roles};
use crate::version::Version;

/// Type of what is told of a figure that passed its bound.
pub const ALERT: &str = "alert";
/// Type of what is sent to try a destination, and is of no event.
pub const TEST: &str = "estoppel.test";
/// Types of an evolution that ended.
pub const NAMES_OF_RUNS: [&str; 2] = ["evolution.failed", "evolution.passed"];

/// Members of a body that are told as they are.
const FACTS: [&str; 14] = [
    "commit",
    "contract",
    "environment",
    "evolution",
    "expires",
    "from",
    "gate",
    "policy",
    "reason",
    "result",
    "stage",
    "tag",
    "to",
    "why",
];

/// What is told of an event, or of a figure at an event.
#[derive(Clone, Debug)]
pub struct Message {
    /// The key by which copies are known: the event's id, with a suffix where it is of a figure.
    pub uid: String,
    pub name: &'static str,
    pub at: UnixMicros,
    /// 1 to 5, as in OCSF.
    pub severity: u8,
    /// `type`, `timestamp` and `data`.
    pub document: Value,
}

/// Every type of message.
pub fn names() -> impl Iterator<Item = &'static str> {
    let kinds = Body::KINDS.iter().filter(|kind| **kind != "evolution.finished");
    kinds.map(|kind| name_of(kind)).chain(NAMES_OF_RUNS).chain([ALERT])
}

/// Whether a type is that of a beginning, of which nobody is told who does not ask for it.
pub fn is_beginning(name: &str) -> bool {
    name.ends_with(".started")
}

fn name_of(kind: &'static str) -> &'static str {
    match kind {
        "promotion.finished" => "generation.promoted",
        "rollback.done" => "generation.rolled_back",
        kind => kind,
    }
}

fn name(event: &Event) -> &'static str {
    let [failed, passed] = NAMES_OF_RUNS;
    match &event.body {
        Body::EvolutionFinished(run) => match run.result {
            Outcome::Failed => failed,
            Outcome::Passed => passed,
        },
        body => name_of(body.kind()),
    }
}

fn severity(name: &str) -> u8 {
    match name {
        "generation.rolled_back" | ALERT => 4,
        "promotion.refused" | "evolution.failed" | "approval.waiver" | "roles.set" => 3,
        TEST => 1,
        _ => 2,
    }
}

/// What is told of one event of a ledger: of the event itself, and of the share of evolutions that passed, where the event makes it
/// less than `pass_rate_min` of a hundred and it was not before. `repository` is what it is called.
pub fn messages(
    ledger: &Ledger,
    event: &Event,
    repository: &str,
    pass_rate_min: Option<u32>,
) -> Vec<Message> {
    let past = past(ledger, event);
    let document = event.document();
    let body = document.get("body").cloned().unwrap_or_default();
    let by = past.roles().and_then(|roles| roles.name(event.actor)).unwrap_or_default();
    let version = body.get("version").or(body.get("from")).and_then(Value::as_str);
    let mut data = Map::new();
    for name in FACTS {
        data.extend(
            body.get(name).filter(|fact| fact.is_string()).map(|fact| (name.to_owned(), fact.clone())),
        );
    }
    let facts = json!({
        "uid": event.id, "repository": repository, "ledger": ledger.genesis(), "kind": event.body.kind(),
        "actor": event.actor, "name": by, "host": event.host,
    });
    data.extend(facts.as_object().cloned().unwrap_or_default());
    data.extend(version.map(|version| ("version".to_owned(), json!(version))));
    data.extend(changes(&past, &body).map(|changes| ("changes".to_owned(), changes)));
    data.extend(gates(&body).map(|gates| ("gates".to_owned(), gates)));
    let said = line(name(event), by, version, &data);
    let mut messages = vec![message(event.id.to_string(), name(event), event.at, said, data.clone())];
    if let Some((passed, ended)) = pass_rate_min.and_then(|min| past.fell_below(event, min)) {
        let min = pass_rate_min.unwrap_or_default();
        let uid = format!("{}#alert-pass_rate", event.id);
        let said = format!(
            "{passed} of {ended} evolutions of {} passed, fewer than {min} of a hundred",
            version.unwrap_or("-")
        );
        let mut data = data;
        data.extend(
            json!({ "uid": uid, "alert": "pass_rate", "passed": passed, "failed": ended - passed, "min": min })
                .as_object()
                .cloned()
                .unwrap_or_default(),
        );
        messages.push(message(uid, ALERT, event.at, said, data));
    }
    messages
}

/// What is sent to try `destination`. `random` makes the key by which copies of it are known.
pub fn test(destination: &str, repository: &str, at: UnixMicros, random: u128) -> Message {
    let uid = format!("test:{random:032x}");
    let said = format!("a test of {destination}: nothing happened");
    let data = json!({ "uid": uid, "repository": repository, "destination": destination });
    message(uid, TEST, at, said, data.as_object().cloned().unwrap_or_default())
}

fn message(
    uid: String,
    name: &'static str,
    at: UnixMicros,
    said: String,
    mut data: Map<String, Value>,
) -> Message {
    let severity = severity(name);
    data.insert("severity".into(), json!(severity));
    data.insert("message".into(), json!(said));
    let document = json!({ "type": name, "timestamp": at, "data": data });
    Message { uid, name, at, severity, document }
}

/// One line for a person.
fn line(name: &str, by: &str, version: Option<&str>, data: &Map<String, Value>) -> String {
    let what = name.rsplit('.').next().unwrap_or(name).replace('_', " ");
    let subject = name.split('.').next().unwrap_or(name);
    let mut said = match version {
        Some(version) if subject == "generation" => format!("{version} {what}"),
        Some(version) => format!("{subject} of {version} {what}"),
        None => format!("{subject} {what}"),
    };
    let word = |name: &str| data.get(name).and_then(Value::as_str);
    for (fact, before) in [("tag", "as"), ("environment", "in"), ("gate", "of gate"), ("to", "to")] {
        said.extend(word(fact).map(|fact| format!(" {before} {fact}")));
    }
    if !by.is_empty() {
        said.push_str(&format!(" by {by}"));
    }
    if let Some(gates) = data.get("gates").and_then(Value::as_array) {
        let names = gates.iter().filter_map(|gate| gate.get("gate")?.as_str());
        said.push_str(&format!(": {}", names.collect::<Vec<_>>().join(", ")));
    }
    said.extend(word("reason").or(word("why")).map(|why| format!(": {why}")));
    said
}

/// The changes that the event is about, as the contract has them that it names.
fn changes(past: &Past<'_>, body: &Value) -> Option<Value> {
    let contract = body.get("contract")?.as_str().and_then(Sha256::parse)?;
    let document = past.contract(contract)?;
    let wanted: Option<BTreeSet<&str>> = match body.get("changes") {
        Some(Value::Array(ids)) => Some(ids.iter().filter_map(Value::as_str).collect()),
        Some(Value::Object(ids)) => Some(ids.keys().map(String::as_str).collect()),
        _ => None,
    };
    let listed = document.get("changes")?.as_array()?.iter();
    let of = |change: &Value| {
        let id = change.get("id")?.as_str()?;
        let is_wanted = wanted.as_ref().is_none_or(|wanted| wanted.contains(id));
        is_wanted.then(|| json!({ "id": id, "type": change.get("type"), "title": change.get("title") }))
    };
    Some(listed.filter_map(of).collect())
}

/// The gates that do not pass, of an attempt that was refused.
fn gates(body: &Value) -> Option<Value> {
    let of = |gate: &Value| {
        let state = gate.get("state")?.as_str().filter(|state| matches!(*state, "fail" | "missing"))?;
        Some(json!({ "gate": gate.get("gate"), "state": state, "why": gate.get("why") }))
    };
    let gates: Vec<Value> = body.get("gates")?.as_array()?.iter().filter_map(of).collect();
    (!gates.is_empty()).then_some(Value::Array(gates))
}

/// An event and what it follows, directly or not, in the order of the ledger: what it says does not depend on what was
/// written beside it or since.
struct Past<'l>(Vec<&'l Event>);

fn past<'l>(ledger: &'l Ledger, event: &'l Event) -> Past<'l> {
    let mut wanted = BTreeSet::from([event.id]);
    let mut events = Vec::new();
    for event in ledger.events().iter().rev() {
        if wanted.remove(&event.id) {
            wanted.extend(&event.parents);
            events.push(event);
        }
    }
    events.reverse();
    Past(events)
}

impl<'l> Past<'l> {
    fn roles(&self) -> Option<&'l Roles> {
        self.0.iter().rev().find_map(|event| match &event.body {
            Body::RolesSet(roles) => Some(roles),
            _ => None,
        })
    }

    fn contract(&self, digest: Sha256) -> Option<&'l Value> {
        self.0.iter().rev().find_map(|event| match &event.body {
            Body::GenerationSealed(body) | Body::GenerationAmended(body) if body.contract == digest => {
                Some(&body.document)
            }
            _ => None,
        })
    }

    /// How many evolutions passed and how many ended, where this one's end brings the share below the bound.
    fn fell_below(&self, event: &Event, min: u32) -> Option<(usize, usize)> {
        let Body::EvolutionFinished(last) = &event.body else { return None };
        let mut shares: BTreeMap<&Version, (usize, usize)> = BTreeMap::new();
        let is_below = |(passed, ended): (usize, usize)| {
            (passed * 100).checked_div(ended).is_some_and(|share| share < min as usize) // widening
        };
        let mut before = false;
        for event in &self.0 {
            let Body::EvolutionFinished(run) = &event.body else { continue };
            let share = shares.entry(&run.version).or_default();
            if run.version == last.version {
                before = is_below(*share);
            }
            share.0 += usize::from(run.result == Outcome::Passed);
            share.1 += 1;
        }
        let now = shares.get(&last.version).copied()?;
        (is_below(now) && !before).then_some(now)
    }
}
