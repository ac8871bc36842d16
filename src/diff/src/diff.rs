//! What two sides differ in.

use std::cmp::Ordering;

use estoppel_evidence::Sha256;
use serde_json::{Map, Value, json};

use crate::bodies::{BODIES_BYTES_MAX, Bodies, Captured, PLACES, open, without_foreign_tags};
use crate::calls::{Given, Named};
use crate::compare::{canonical, compare};
use crate::normalizers::{Normalizers, Taken, take};
use crate::path::Path;
use crate::side::{Entry, Kind, Side, SideError};

const FORMAT: &str = "estoppel-diff/1";
/// Most changes that are listed, and most bytes of a value that is written out.
pub const CHANGES_MAX: usize = 100_000;
const VALUE_BYTES_MAX: usize = 16_384;

/// One difference, where it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub(crate) path: Path,
    pub operation: Operation,
}

/// What makes the one side of the other.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    Add(Value),
    Remove(Value),
    Change(Value, Value),
}

impl Change {
    /// The JSON pointer to it.
    pub fn path(&self) -> String {
        self.path.pointer()
    }
}

/// How many entries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub equal: u64,
}

/// An entry in which something differs.
#[derive(Clone, PartialEq, Debug)]
pub struct Differing {
    pub path: String,
    pub from: Option<Map<String, Value>>,
    pub to: Option<Map<String, Value>>,
    /// Its changes, as a range of [`Diff::changes`].
    pub changes: std::ops::Range<usize>,
}

/// What two sides differ in (`spec/diff.md` section 1).
#[derive(Debug)]
pub struct Diff {
    pub kind: Kind,
    pub counts: Counts,
    /// Bodies that were compared, and those of which nobody can say.
    pub compared: u64,
    pub unknown: u64,
    pub changes: Vec<Change>,
    pub left_out: u64,
    pub entries: Vec<Differing>,
    pub from: Map<String, Value>,
    pub to: Map<String, Value>,
    /// In how many entries each normalizer passed over something that differs.
    pub ignored: Vec<(String, u64)>,
    /// Bodies that differ and were not looked into, and why.
    pub opaque: Vec<(String, &'static str)>,
    normalizers: Sha256,
}

/// What makes `to` of `from`. `normalizers` are those that both were read with; bodies are asked for where they differ.
///
/// # Errors
/// [`SideError::Kinds`].
pub fn diff(
    from: &Side,
    to: &Side,
    normalizers: &Normalizers,
    bodies: (&dyn Bodies, &dyn Bodies),
) -> Result<Diff, SideError> {
    differences(from, to, normalizers, bodies, None)
}

/// As [`diff`], but that what ids of calls refer to is compared too, where it is known what the answers of both runs gave.
pub(crate) fn differences(
    from: &Side,
    to: &Side,
    normalizers: &Normalizers,
    bodies: (&dyn Bodies, &dyn Bodies),
    given: Option<(&Given, &Given)>,
) -> Result<Diff, SideError> {
    if from.kind != to.kind {
        return Err(SideError::Kinds(from.kind, to.kind));
    }
    let found = Found { ignored: vec![0; normalizers.len()], ..Found::default() };
    let mut walk = Walk { kind: from.kind, normalizers, bodies, given, room: BODIES_BYTES_MAX, found };
    let (mut ones, mut others) = (from.entries.iter().peekable(), to.entries.iter().peekable());
    loop {
        let order = match (ones.peek(), others.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.path.cmp(&other.path),
        };
        let one = if order == Ordering::Greater { None } else { ones.next() };
        let other = if order == Ordering::Less { None } else { others.next() };
        walk.entry(one, other);
    }
    let found = walk.found;
    let ignored = (0..).zip(found.ignored).filter(|(_, count)| *count > 0);
    let ignored = ignored.map(|(rule, count)| (normalizers.text(rule).to_owned(), count));
    Ok(Diff {
        kind: from.kind,
        counts: found.counts,
        compared: found.compared,
        unknown: found.unknown,
        changes: found.changes,
        left_out: found.left_out,
        entries: found.entries,
        from: from.about.clone(),
        to: to.about.clone(),
        ignored: ignored.collect(),
        opaque: found.opaque,
        normalizers: normalizers.digest(),
    })
}

#[derive(Default)]
struct Found {
    counts: Counts,
    compared: u64,
    unknown: u64,
    changes: Vec<Change>,
    left_out: u64,
    entries: Vec<Differing>,
    /// By the place of the rule.
    ignored: Vec<u64>,
    opaque: Vec<(String, &'static str)>,
}

struct Walk<'a> {
    kind: Kind,
    normalizers: &'a Normalizers,
    bodies: (&'a dyn Bodies, &'a dyn Bodies),
    given: Option<(&'a Given, &'a Given)>,
    /// Bytes of bodies that may still be read.
    room: u64,
    found: Found,
}

impl Walk<'_> {
    fn entry(&mut self, from: Option<&Entry>, to: Option<&Entry>) {
        let whole = |entry: &Entry| serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
        let (path, changes) = match (from, to) {
            (Some(from), Some(to)) => (&from.path, self.both(from, to)),
            (Some(from), None) => {
                self.found.counts.removed += 1;
                let operation = Operation::Remove(whole(from));
                (&from.path, vec![Change { path: from.path.clone(), operation }])
            }
            (None, Some(to)) => {
                self.found.counts.added += 1;
                (&to.path, vec![Change { path: to.path.clone(), operation: Operation::Add(whole(to)) }])
            }
            (None, None) => return,
        };
        if changes.is_empty() {
            return;
        }
        let room = CHANGES_MAX - self.found.changes.len();
        self.found.left_out += changes.len().saturating_sub(room) as u64; // widening
        let begin = self.found.changes.len();
        self.found.changes.extend(changes.into_iter().take(room));
        if begin < self.found.changes.len() {
            let place = |entry: Option<&Entry>| entry.map(|entry| entry.place.clone());
            self.found.entries.push(Differing {
                path: path.pointer(),
                from: place(from),
                to: place(to),
                changes: begin..self.found.changes.len(),
            });
        }
    }

    fn both(&mut self, from: &Entry, to: &Entry) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut ignored = Vec::new();
        differing(&from.taken, &to.taken, &mut ignored);
        if from.digest != to.digest {
            let value = |entry: &Entry| serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
            compare(&mut from.path.clone(), &value(from), &value(to), &mut changes);
        }
        for (place, (one, other)) in PLACES.iter().zip(from.bodies.iter().zip(&to.bodies)) {
            if one.bytes.is_some() && other.bytes.is_some() {
                self.body(&from.path.below(place), one, other, (&mut changes, &mut ignored));
            }
        }
        ignored.sort_unstable();
        ignored.dedup();
        for rule in ignored {
            if let Some(count) = self.found.ignored.get_mut(usize::from(rule)) {
                *count += 1;
            }
        }
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        match changes.is_empty() {
            true => self.found.counts.equal += 1,
            false => self.found.counts.changed += 1,
        }
        changes
    }

    fn body(
        &mut self,
        path: &Path,
        from: &Captured,
        to: &Captured,
        (changes, ignored): (&mut Vec<Change>, &mut Vec<u16>),
    ) {
        let mut is_known = from.are_known(to);
        let text = |text: &str| Value::String(text.to_owned());
        let mut differ = |name: &str, one: &str, other: &str| {
            let operation = Operation::Change(text(one), text(other));
            changes.push(Change { path: path.below(&[name]), operation });
        };
        if let (Some(one), Some(other)) = (&from.sha256, &to.sha256) {
            let opened = (one != other).then(|| open(self.bodies, (one, other), &mut self.room));
            match opened {
                None => {}
                Some(Ok(values)) => is_known = self.json(path, values, (changes, ignored)),
                Some(Err(cause)) => {
                    differ("sha256", one, other);
                    self.found.opaque.push((path.below(&["body"]).pointer(), cause.as_str()));
                }
            }
        } else if let (Some(one), Some(other)) = (&from.tag, &to.tag)
            && one != other
            && from.have_one_key(to)
        {
            differ("tag", one, other);
        }
        match is_known {
            true => self.found.compared += 1,
            false => self.found.unknown += 1,
        }
    }

    /// Says whether it is known if the bodies differ.
    fn json(
        &mut self,
        path: &Path,
        (mut from, mut to): (Value, Value),
        (changes, ignored): (&mut Vec<Change>, &mut Vec<u16>),
    ) -> bool {
        let bytes = path.below(&["bytes"]);
        changes.retain(|change| change.path != bytes);
        let mut path = path.below(&["body"]);
        let known = Path(path.0.get(self.kind.names_before()..).unwrap_or_default().to_vec());
        let named =
            self.given.map(|(ones, others)| (Named::of(&known, &from, ones), Named::of(&known, &to, others)));
        let rules = self.normalizers.within(&known.0);
        differing(&take(&mut from, &rules), &take(&mut to, &rules), ignored);
        let are_foreign = without_foreign_tags(&mut from, &mut to);
        let before = changes.len();
        compare(&mut path, &from, &to, changes);
        if let Some((one, other)) = named {
            one.compare(&other, &path, (&from, &to), changes);
        }
        !are_foreign || changes.len() > before
    }
}

/// The rules that took out different values.
fn differing(from: &Taken, to: &Taken, rules: &mut Vec<u16>) {
    let (mut ones, mut others) = (from.iter().peekable(), to.iter().peekable());
    while let Some(rule) = ones.peek().into_iter().chain(others.peek()).map(|(rule, _)| *rule).min() {
        let one = ones.next_if(|(of, _)| *of == rule);
        let other = others.next_if(|(of, _)| *of == rule);
        if one != other {
            rules.push(rule);
        }
    }
}

impl Diff {
    /// Whether anything differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What differs, as its digest covers it.
    fn covered(&self) -> Value {
        let mut value = json!({
            "bodies": { "compared": self.compared, "unknown": self.unknown },
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "counts": {
                "added": self.counts.added,
                "changed": self.counts.changed,
                "equal": self.counts.equal,
                "removed": self.counts.removed,
            },
            "format": FORMAT,
            "kind": self.kind.as_str(),
            "normalizers": self.normalizers.to_string(),
        });
        if self.left_out > 0 {
            value["left_out"] = json!(self.left_out);
        }
        value
    }

    /// The document, and the digest of what differs.
    pub fn document(&self) -> (Value, Sha256) {
        let covered = self.covered();
        let digest = Sha256::of(&canonical(&covered));
        let entries = self.entries.iter().map(|entry| {
            let mut row = json!({ "path": entry.path });
            for (name, place) in [("from", &entry.from), ("to", &entry.to)] {
                if let Some(place) = place {
                    row[name] = json!(place);
                }
            }
            row
        });
        let ignored = self.ignored.iter().map(|(path, entries)| json!({ "entries": entries, "path": path }));
        let opaque = self.opaque.iter().map(|(path, cause)| json!({ "cause": cause, "path": path }));
        let context = json!({
            "entries": entries.collect::<Vec<_>>(),
            "from": self.from,
            "ignored": ignored.collect::<Vec<_>>(),
            "opaque": opaque.collect::<Vec<_>>(),
            "to": self.to,
        });
        (json!({ "context": context, "diff": covered, "digest": digest.to_string() }), digest)
    }

    /// The canonical bytes of the document.
    pub fn bytes(&self) -> Vec<u8> {
        canonical(&self.document().0)
    }
}

fn change(change: &Change) -> Value {
    let (operation, values) = match &change.operation {
        Operation::Add(value) => ("add", vec![("value", value)]),
        Operation::Remove(value) => ("remove", vec![("value", value)]),
        Operation::Change(from, to) => ("change", vec![("from", from), ("to", to)]),
    };
    let mut row = json!({ "op": operation, "path": change.path() });
    for (name, value) in values {
        let bytes = canonical(value);
        match bytes.len() {
            0..=VALUE_BYTES_MAX => row[name] = value.clone(),
            length => {
                let large = json!({ "bytes": length, "sha256": Sha256::of(&bytes).to_string() });
                row[format!("{name}_large")] = large;
            }
        }
    }
    row
}
