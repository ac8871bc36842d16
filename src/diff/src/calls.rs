//! Which call a model's messages speak of: ids are made anew in each run, and what they refer to is not.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::diff::{Change, Operation};
use crate::path::Path;

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

/// The ids of calls in a body, each as `call-` and a number, from 1, in the order in which they come first.
#[derive(Default)]
pub(crate) struct Named(BTreeMap<Path, String>);

impl Named {
    /// `names` lead to the entry's body.
    pub fn of(names: &Path, body: &Value) -> Self {
        let (dialect, place) = (names.0.get(2).map(String::as_str), names.0.get(6).map(String::as_str));
        let places = PLACES.iter().find(|row| Some(row.0) == dialect && Some(row.1) == place);
        let Some((_, _, places)) = places else { return Self::default() };
        let mut walk = Walk { numbers: HashMap::new(), named: BTreeMap::new() };
        walk.value(&Path::default(), body, places);
        Self(walk.named)
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
            let text = |name: &String| Value::String(name.clone());
            let operation = match (self.0.get(place), other.0.get(place)) {
                (Some(one), Some(other)) if one != other => Operation::Change(text(one), text(other)),
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
