//! One of the two that are compared, as entries by names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use estoppel_evidence::Sha256;
use serde_json::{Map, Value};

use crate::bodies::Captured;
use crate::compare::held;
use crate::normalizers::{Normalizers, Taken, take};
use crate::path::Path;

/// Most entries of a side.
pub const ENTRIES_MAX: usize = 500_000;

/// Why something cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    #[error("entry {place} is no entry of a run")]
    Line { place: u64 },
    #[error("more than {ENTRIES_MAX} entries")]
    EntriesMax,
    #[error("a {} cannot be compared with a {}", .0.as_str(), .1.as_str())]
    Kinds(Kind, Kind),
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The entries of one run.
    Run,
    /// Those of all runs of a journal.
    Journal,
    /// The objects of a schema.
    Schema,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Journal => "journal",
            Self::Schema => "schema",
        }
    }

    /// How many names stand before those that normalizers know.
    pub(crate) fn names_before(self) -> usize {
        match self {
            Self::Journal => 3,
            Self::Run | Self::Schema => 0,
        }
    }
}

/// One entry: its value without what normalizers take out, and without its bodies.
#[derive(Debug)]
pub(crate) struct Entry {
    pub path: Path,
    pub value: Box<[u8]>,
    pub digest: Sha256,
    pub taken: Taken,
    pub bodies: [Captured; 3],
    /// The members that say where the entry is.
    pub place: Map<String, Value>,
}

/// Entries in order of their paths.
#[derive(Debug)]
pub struct Side {
    pub(crate) kind: Kind,
    pub(crate) entries: Vec<Entry>,
    /// What this is, for the context: set by whoever read it.
    pub about: Map<String, Value>,
}

/// Takes what a side consists of.
#[derive(Debug)]
pub struct Reader<'n> {
    kind: Kind,
    normalizers: &'n Normalizers,
    entries: Vec<Entry>,
    counts: BTreeMap<Path, u32>,
    policies: BTreeSet<Path>,
    /// Class and name of each run, by its id.
    runs: BTreeMap<String, [String; 2]>,
    lines: u64,
}

const PLACE: [&str; 5] = ["call", "hold", "run", "seq", "ts"];

impl<'n> Reader<'n> {
    pub fn new(kind: Kind, normalizers: &'n Normalizers) -> Self {
        Self {
            kind,
            normalizers,
            entries: Vec::new(),
            counts: BTreeMap::new(),
            policies: BTreeSet::new(),
            runs: BTreeMap::new(),
            lines: 0,
        }
    }

    /// Takes an object of a schema at its names.
    ///
    /// # Errors
    /// [`SideError::EntriesMax`].
    pub fn object(&mut self, names: &[&str], value: Value) -> Result<(), SideError> {
        self.push(Path::default().below(names), value, Default::default(), Map::new())
    }

    /// Takes the next line of a run or journal.
    ///
    /// # Errors
    /// [`SideError::Line`] where it is not JSON with the members that every entry has, and [`SideError::EntriesMax`].
    pub fn line(&mut self, line: &[u8]) -> Result<(), SideError> {
        let place = self.lines;
        self.lines += 1;
        let mut value: Value = serde_json::from_slice(line).map_err(|_| SideError::Line { place })?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = value["kind"].as_str().ok_or(SideError::Line { place })?.to_owned();
        let mut before = Path::default();
        if self.kind == Kind::Journal {
            let run = value["run"].as_str().ok_or(SideError::Line { place })?.to_owned();
            if kind == "run.open" {
                self.runs.insert(run.clone(), [text(&value["class"]), text(&value["name"])]);
            }
            let [class, name] = self.runs.get(&run).ok_or(SideError::Line { place })?;
            before = before.below(&["runs", class, name]);
        }
        let like = if kind == "call" {
            let [route, dialect, operation, subject] = names_of(&value);
            if let Some(policy) = value["policy"]["hash"].as_str() {
                self.policies.insert(before.below(&["policies", policy]));
            }
            before.below(&["calls", &route, &dialect, &operation, &subject])
        } else {
            before.below(&["events", &kind])
        };
        let count = self.counts.entry(like.clone()).or_default();
        *count += 1;
        let path = like.below(&[&format!("{count:06}")]);
        let found = PLACE.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone())));
        let found = found.collect();
        let bodies = if kind == "call" { Captured::take(&mut value) } else { Default::default() };
        self.push(path, value, bodies, found)
    }

    fn push(
        &mut self,
        path: Path,
        mut value: Value,
        bodies: [Captured; 3],
        place: Map<String, Value>,
    ) -> Result<(), SideError> {
        if self.entries.len() + self.policies.len() >= ENTRIES_MAX {
            return Err(SideError::EntriesMax);
        }
        let known = path.0.get(self.kind.names_before()..).unwrap_or_default();
        let taken = take(&mut value, &self.normalizers.within(known));
        let value = held(&value).into_boxed_slice();
        self.entries.push(Entry { path, digest: Sha256::of(&value), value, taken, bodies, place });
        Ok(())
    }

    /// All that was taken.
    ///
    /// # Errors
    /// [`SideError::EntriesMax`].
    pub fn finish(mut self) -> Result<Side, SideError> {
        for policy in std::mem::take(&mut self.policies) {
            self.push(policy, Value::Bool(true), Default::default(), Map::new())?;
        }
        self.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(Side { kind: self.kind, entries: self.entries, about: Map::new() })
    }
}

/// How many names stand before the value of a call.
pub(crate) const CALL_NAMES: usize = 6;

/// A call of a scenario, as a side of its own.
#[derive(Debug)]
pub(crate) struct Call {
    pub side: Side,
    /// Route, dialect, operation, and the tools of MCP: what a call keeps when another model is asked.
    pub kind: Vec<String>,
    pub began_us: u64,
    pub seq: u64,
    pub policy: String,
    pub verdict: Value,
    pub has_upstream: bool,
    pub is_of_model: bool,
    target: Option<String>,
}

impl Call {
    /// None for an entry of another kind.
    pub fn read(line: &[u8], normalizers: &Normalizers) -> Result<Option<Self>, ()> {
        let mut value: Value = serde_json::from_slice(line).map_err(|_| ())?;
        if value["kind"].as_str().ok_or(())? != "call" {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let [route, dialect, operation, mut subject] = names_of(&value);
        let is_of_model = !matches!(dialect.as_str(), "mcp" | "json" | "bytes" | "");
        if dialect != "mcp" {
            subject.clear();
        }
        let place = PLACE.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone())));
        let place = place.collect();
        let began_us = number(&value["mono_us"]).saturating_sub(number(&value["time"]["total_us"]));
        let (policy, verdict, seq) =
            (text(&value["policy"]["hash"]), value["verdict"].clone(), number(&value["seq"]));
        let has_upstream = value["response"]["upstream"].is_object();
        let target = value["request"]["target_tag"].as_str().map(ToOwned::to_owned);
        let bodies = Captured::take(&mut value);
        let path = Path::default().below(&["calls", &route, &dialect, &operation, &subject, "000001"]);
        let mut reader = Reader::new(Kind::Run, normalizers);
        reader.push(path, value, bodies, place).map_err(|_| ())?;
        let side = reader.finish().map_err(|_| ())?;
        let kind = vec![route, dialect, operation, subject];
        Ok(Some(Self { side, kind, began_us, seq, policy, verdict, has_upstream, is_of_model, target }))
    }

    /// Its id and sequence number.
    pub fn place(&self) -> Value {
        let place = self.side.entries.first().map(|entry| &entry.place);
        let member = |name: &str| place.and_then(|place| place.get(name)).cloned().unwrap_or_default();
        serde_json::json!({ "call": member("call"), "seq": member("seq") })
    }

    /// The digest of its stored request.
    pub fn request(&self) -> Option<&str> {
        self.side.entries.first()?.bodies.first()?.sha256.as_deref()
    }

    /// The digest of the stored answer that the client was given.
    pub fn answer(&self) -> Option<&str> {
        self.side.entries.first()?.bodies.get(1)?.sha256.as_deref()
    }

    pub fn is_of(&self, dialect: &str) -> bool {
        self.kind.get(1).is_some_and(|of| of == dialect)
    }

    /// Whether both asked at the same path with the same query, if that can be told: by their tags under one key, or where one of them is of
    /// the `targets` of both runs, by the tags of these.
    pub fn has_same_target(
        &self,
        other: &Self,
        (ours, theirs): (&HashMap<String, String>, &HashMap<String, String>),
    ) -> Option<bool> {
        let (one, other) = (self.target.as_ref()?, other.target.as_ref()?);
        if one == other {
            return Some(true);
        }
        // A target that both were asked about has one tag in each run.
        let is_tried =
            |targets: &HashMap<String, String>, target| targets.values().any(|known| known == target);
        match (ours.get(one), theirs.get(other)) {
            (Some(one), Some(other)) => Some(one == other),
            (Some(one), None) => is_tried(theirs, one).then_some(false),
            (None, Some(other)) => is_tried(ours, other).then_some(false),
            (None, None) => None,
        }
    }

    /// Whether the target decides what was asked: for models and tools the operation does.
    pub fn is_plain(&self) -> bool {
        matches!(self.kind.get(1).map(String::as_str), Some("json" | "bytes" | ""))
    }

    pub fn answer_cause(&self) -> crate::scenario::Cause {
        use crate::scenario::Cause;
        match self.kind.get(1).map(String::as_str) {
            Some("mcp") => Cause::ToolAnswer,
            _ if self.is_of_model => Cause::ModelAnswer,
            _ => Cause::UpstreamAnswer,
        }
    }
}

/// Route, dialect, operation and subject of a call.
fn names_of(call: &Value) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let facts = &call["facts"];
    let subject = if call["dialect"] == "mcp" {
        let tools = facts["tools_called"].as_array().into_iter().flatten();
        tools.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    } else {
        text(&facts["model"])
    };
    [text(&call["request"]["route"]), text(&call["dialect"]), text(&call["operation"]), subject]
}
