//! What changed between two schemas.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::schema::{PARTS, Schema};

/// One difference, at a JSON pointer (RFC 6901) into the parts of a schema.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Change {
    Add { path: String, value: Value },
    Remove { path: String, value: Value },
    Change { path: String, from: Value, to: Value },
}

impl Change {
    /// Where it is.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Remove { path, .. } | Self::Change { path, .. } => path,
        }
    }

    /// The same difference, seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Add { path, value } => Self::Remove { path, value },
            Self::Remove { path, value } => Self::Add { path, value },
            Self::Change { path, from, to } => Self::Change { path, from: to, to: from },
        }
    }
}

/// What makes the schema of `to` of that of `from`, in byte order of the names that lead there. Nothing for equal digests.
pub fn diff(from: &Schema, to: &Schema) -> Vec<Change> {
    let mut changes = Vec::new();
    if from.schema_digest() != to.schema_digest() {
        let nothing = Value::Object(Map::new());
        for (part, names) in PARTS {
            let of = |schema: &Schema| schema.parts().get(*part).unwrap_or(&nothing).clone();
            values(&mut format!("/{part}"), *names, &of(from), &of(to), &mut changes);
        }
    }
    changes
}

/// `names` more names lead to an object that is added and removed as a whole.
fn values(path: &mut String, names: usize, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => objects(path, names, from, to, changes),
        _ if from == to => {}
        _ => changes.push(Change::Change { path: path.clone(), from: from.clone(), to: to.clone() }),
    }
}

/// Both maps are in byte order, so that one walk over both finds what only one has.
fn objects(
    path: &mut String,
    names: usize,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    changes: &mut Vec<Change>,
) {
    let nothing = Value::Object(Map::new());
    let (mut from, mut to) = (from.iter().peekable(), to.iter().peekable());
    loop {
        let order = match (from.peek(), to.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let (gone, new) = match order {
            Ordering::Less => (from.next(), None),
            Ordering::Greater => (None, to.next()),
            Ordering::Equal => (from.next(), to.next()),
        };
        let Some((name, _)) = gone.or(new) else { return };
        let length = path.len();
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        match (gone, new) {
            (Some((_, from)), Some((_, to))) => values(path, names.saturating_sub(1), from, to, changes),
            (Some((_, folder)), None) if names > 1 => values(path, names - 1, folder, &nothing, changes),
            (None, Some((_, folder))) if names > 1 => values(path, names - 1, &nothing, folder, changes),
            (Some((_, value)), None) => {
                changes.push(Change::Remove { path: path.clone(), value: value.clone() })
            }
            (None, Some((_, value))) => {
                changes.push(Change::Add { path: path.clone(), value: value.clone() })
            }
            (None, None) => {}
        }
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schema(tables: &[(u8, u8, bool)]) -> Schema {
        let mut parts: Map<String, Value> =
            PARTS.iter().map(|(part, _)| ((*part).to_owned(), Value::Object(Map::new()))).collect();
        for (space, table, is_plain) in tables {
            let kind = if *is_plain { "table" } else { "view" };
            parts["relations"][format!("s/{space}")][format!("t~{table}")] =
                serde_json::json!({ "kind": kind });
        }
        let document = serde_json::json!({ "format": Schema::FORMAT, "parts": parts, "uncovered": {} });
        Schema::parse(&estoppel_evidence::canonical::foreign(document.to_string().as_bytes()).unwrap())
            .unwrap()
    }

    /// Makes `to` of `from`, by what [`diff`] says.
    fn apply(from: &Schema, changes: &[Change]) -> Value {
        let mut parts = from.parts().clone();
        for change in changes {
            let (folder, name) = change.path().rsplit_once('/').unwrap();
            let name = name.replace("~1", "/").replace("~0", "~");
            if let Change::Remove { .. } = change {
                parts.pointer_mut(folder).unwrap().as_object_mut().unwrap().remove(&name).unwrap();
                continue;
            }
            let mut at = &mut parts;
            for step in folder.split('/').skip(1) {
                at = &mut at[step.replace("~1", "/").replace("~0", "~")];
            }
            at[name] = match change {
                Change::Add { value, .. } | Change::Change { to: value, .. } => value.clone(),
                Change::Remove { .. } => unreachable!(),
            };
        }
        without_empty(parts)
    }

    /// A folder of which everything was removed.
    fn without_empty(mut parts: Value) -> Value {
        for part in parts.as_object_mut().unwrap().values_mut() {
            part.as_object_mut()
                .unwrap()
                .retain(|_, folder| folder.as_object().is_some_and(|folder| !folder.is_empty()));
        }
        parts
    }

    proptest! {
        #[test]
        fn a_diff_is_exactly_what_makes_one_of_the_other_and_its_mirror_is_the_way_back(
            one in prop::collection::vec((0..3_u8, 0..4_u8, any::<bool>()), 0..12),
            other in prop::collection::vec((0..3_u8, 0..4_u8, any::<bool>()), 0..12),
        ) {
            let (one, other) = (schema(&one), schema(&other));
            let there = diff(&one, &other);
            prop_assert_eq!(&apply(&one, &there), other.parts());
            let back: Vec<Change> = there.iter().cloned().map(Change::mirrored).collect();
            prop_assert_eq!(back, diff(&other, &one));
            prop_assert_eq!(there.is_empty(), one == other);
        }
    }
}
