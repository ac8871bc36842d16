//! Which call a model's messages speak of: ids are made anew in each run, and what they refer to is not.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::bodies::{BODIES_BYTES_MAX, BODY_BYTES_MAX, Bodies, Stored};
use crate::diff::{Change, Operation};
use crate::path::Path;
use crate::side::Call;

/// The dialect in which a request speaks of what earlier answers gave.
const REFERRING: &str = "openai_responses";

/// Where the ids of calls are, by dialect and body. `*` stands for any element of a list.
static PLACES: [(&str, &str, &[&[&str]]); 6] = [
    (
        "openai_chat",
        "request",
        &[&["messages", "*", "tool_call_id"], &["messages", "*", "tool_calls", "*", "id"]],
    ),
    ("openai_chat", "response", &[&["choices", "*", "message", "tool_calls", "*", "id"]]),
    (
        "anthropic_messages",
        "request",
        &[&["messages", "*", "content", "*", "id"], &["messages", "*", "content", "*", "tool_use_id"]],
    ),
    ("anthropic_messages", "response", &[&["content", "*", "id"]]),
    ("openai_responses", "request", &[&["input", "*", "call_id"]]),
    ("openai_responses", "response", &[&["output", "*", "call_id"]]),
];

/// What the answers of a run gave, by its id: which call of which kind, and where in its answer.
#[derive(Default)]
pub(crate) struct Given(HashMap<String, String>);

impl Given {
    /// `calls` in their order. Answers that are not stored, and those beyond what is read of bodies, give nothing.
    pub fn of(calls: &[Call], bodies: &dyn Bodies) -> Self {
        let mut given = Self::default();
        let mut counts: HashMap<&[String], usize> = HashMap::new();
        let mut room = BODIES_BYTES_MAX;
        for call in calls.iter().filter(|call| call.is_of(REFERRING)) {
            let count = counts.entry(&call.kind).or_default();
            *count += 1;
            let Some(sha256) = call.answer().filter(|_| room > 0) else { continue };
            let Stored::Bytes(bytes) = bodies.stored(sha256, BODY_BYTES_MAX) else { continue };
            room = room.saturating_sub(bytes.len() as u64); // widening
            if let Some(answer) = answered(&bytes) {
                given.take(&format!("{} {count}", call.kind.join("/")), &answer);
            }
        }
        given
    }

    fn take(&mut self, call: &str, answer: &Value) {
        let items = answer["output"].as_array().into_iter().flatten();
        let items = items.enumerate().map(|(place, item)| (format!("/output/{place}/id"), &item["id"]));
        for (at, id) in std::iter::once(("/id".to_owned(), &answer["id"])).chain(items) {
            if let Some(id) = id.as_str() {
                self.0.entry(id.to_owned()).or_insert_with(|| format!("{call}{at}"));
            }
        }
    }
}

/// An answer, or the last that the events of one have.
fn answered(bytes: &[u8]) -> Option<Value> {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        return Some(answer);
    }
    let lines = bytes.split(|byte| *byte == b'\n').rev().filter_map(|line| line.strip_prefix(b"data:"));
    let mut events = lines.filter_map(|data| serde_json::from_slice::<Value>(data).ok());
    events.find_map(|mut event| Some(event.get_mut("response")?.take()).filter(Value::is_object))
}

/// What an id refers to.
struct Referent {
    /// As `call-` or `item-` and a number, from 1, in the order in which they come first in the body.
    name: String,
    /// What an earlier answer gave, where it is known.
    given: Option<String>,
}

impl Referent {
    fn is(&self, other: &Self) -> bool {
        match (&self.given, &other.given) {
            (Some(one), Some(other)) => one == other,
            _ => self.name == other.name,
        }
    }
}

/// The ids in a body that refer to calls and to what earlier answers gave.
#[derive(Default)]
pub(crate) struct Named(BTreeMap<Path, Referent>);

impl Named {
    /// `names` lead to the entry's body.
    pub fn of(names: &Path, body: &Value, given: &Given) -> Self {
        let (dialect, place) = (names.0.get(2).map(String::as_str), names.0.get(6).map(String::as_str));
        let places = PLACES.iter().find(|row| Some(row.0) == dialect && Some(row.1) == place);
        let Some((_, _, places)) = places else { return Self::default() };
        let mut walk = Walk { numbers: HashMap::new(), named: BTreeMap::new() };
        walk.value(&Path::default(), body, places);
        let calls = walk.named.into_iter().map(|(path, name)| (path, Referent { name, given: None }));
        let mut named = Self(calls.collect());
        if (dialect, place) == (Some(REFERRING), Some("request")) {
            named.references(body, given);
        }
        named
    }

    /// To the answer before, and to items of earlier ones.
    fn references(&mut self, body: &Value, given: &Given) {
        let items = body["input"].as_array().into_iter().flatten().enumerate();
        let items = items
            .filter(|(_, item)| item["type"] == "item_reference")
            .map(|(place, item)| (Path::default().below(&["input", &place.to_string(), "id"]), &item["id"]));
        let before = (Path::default().below(&["previous_response_id"]), &body["previous_response_id"]);
        let mut numbers = HashMap::new();
        for (path, id) in items.chain([before]) {
            let Some(id) = id.as_str() else { continue };
            let next = numbers.len() + 1;
            let number = *numbers.entry(id).or_insert(next);
            let given = given.0.get(id).cloned();
            self.0.insert(path, Referent { name: format!("item-{number}"), given });
        }
    }

    /// Adds where two bodies speak of other calls. What stands in a part that one of them lacks, or of which nothing is compared, is
    /// passed over.
    pub fn compare(
        &self,
        other: &Self,
        names: &Path,
        (from, to): (&Value, &Value),
        changes: &mut Vec<Change>,
    ) {
        let mut places: Vec<&Path> = self.0.keys().chain(other.0.keys()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let above = Path(place.0.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default());
            let is_there = |body: &Value| body.pointer(&above.pointer()).is_some_and(Value::is_object);
            if !is_there(from) || !is_there(to) {
                continue;
            }
            let text = |of: &Referent| Value::String(of.given.as_ref().unwrap_or(&of.name).clone());
            let operation = match (self.0.get(place), other.0.get(place)) {
                (Some(one), Some(other)) if !one.is(other) => Operation::Change(text(one), text(other)),
                (Some(one), None) => Operation::Remove(text(one)),
                (None, Some(other)) => Operation::Add(text(other)),
                _ => continue,
            };
            let place: Vec<&str> = place.0.iter().map(String::as_str).collect();
            changes.push(Change { path: names.below(&place), operation });
        }
    }
}

struct Walk<'v> {
    numbers: HashMap<&'v str, usize>,
    named: BTreeMap<Path, String>,
}

impl<'v> Walk<'v> {
    fn value(&mut self, path: &Path, value: &'v Value, places: &[&[&str]]) {
        if let Value::String(id) = value
            && places.iter().any(|rest| rest.is_empty())
        {
            let next = self.numbers.len() + 1;
            let number = *self.numbers.entry(id).or_insert(next);
            self.named.insert(path.clone(), format!("call-{number}"));
        }
        let below = |name: &str| -> Vec<&[&str]> {
            let rest = places.iter().filter_map(|place| place.split_first());
            rest.filter(|(first, _)| **first == name).map(|(_, rest)| rest).collect()
        };
        match value {
            Value::Array(items) => {
                let places = below("*");
                if !places.is_empty() {
                    for (place, item) in items.iter().enumerate() {
                        self.value(&path.below(&[&place.to_string()]), item, &places);
                    }
                }
            }
            Value::Object(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort_unstable();
                for name in names {
                    let places = below(name);
                    if let Some(value) = members.get(name).filter(|_| !places.is_empty()) {
                        self.value(&path.below(&[name]), value, &places);
                    }
                }
            }
            _ => {}
        }
    }
}
