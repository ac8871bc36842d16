//! Two JSON values, member by member and element by element.

use serde_json::Value;

use crate::diff::{Change, Operation};
use crate::path::Path;

/// The canonical bytes of a value.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("a JSON value has a canonical form")
}

/// Bytes that are the same for values that were read from the same canonical bytes: what is held in memory and digested there.
pub(crate) fn held(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value can be written")
}

/// Adds what makes `to` of `from` to `changes`.
pub(crate) fn compare(path: &mut Path, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                one(path, name, (from.get(name), to.get(name)), changes);
            }
        }
        (Value::Array(from), Value::Array(to)) => {
            for place in 0..from.len().max(to.len()) {
                one(path, &place.to_string(), (from.get(place), to.get(place)), changes);
            }
        }
        _ if from == to || canonical(from) == canonical(to) => {}
        _ => {
            let operation = Operation::Change(from.clone(), to.clone());
            changes.push(Change { path: path.clone(), operation });
        }
    }
}

fn one(path: &mut Path, name: &str, sides: (Option<&Value>, Option<&Value>), changes: &mut Vec<Change>) {
    path.0.push(name.to_owned());
    let only = match sides {
        (Some(from), Some(to)) => {
            compare(path, from, to, changes);
            None
        }
        (Some(from), None) => Some(Operation::Remove(from.clone())),
        (None, Some(to)) => Some(Operation::Add(to.clone())),
        (None, None) => None,
    };
    changes.extend(only.map(|operation| Change { path: path.clone(), operation }));
    path.0.pop();
}
