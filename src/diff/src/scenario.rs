//! Two runs of one scenario: the first call in which they part, and of what kind the cause is (`spec/diff.md` section 9).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::bodies::{Bodies, Stored};
use crate::calls::Given;
use crate::diff::{Change, Diff, Operation, differences};
use crate::normalizers::Normalizers;
use crate::side::{CALL_NAMES, Call, ENTRIES_MAX, SideError};

const FORMAT: &str = "estoppel-compare/1";
/// Most pointers of a call.
const POINTERS_MAX: usize = 16;
/// Largest body in which is looked for who said what differs.
const BODY_BYTES_MAX: u64 = 8 << 20;

macro_rules! causes {
    ($($name:ident $code:literal $text:literal;)*) => {
        /// Why two calls part.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Cause { $(#[doc = $text] $name,)* }

        impl Cause {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the specification writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One sentence for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

causes! {
    CallMissing "CALL_MISSING" "the second run does not make the call";
    CallAdded "CALL_ADDED" "the first run does not make the call";
    Order "ORDER" "the calls were made in another order";
    Model "MODEL" "another model was asked for, or answered";
    ToolAnswer "TOOL_ANSWER" "a tool had given something else";
    Prompt "PROMPT" "the model was told something else";
    Tools "TOOLS" "the model was offered other tools";
    Parameters "PARAMETERS" "the model was asked with other parameters";
    Target "TARGET" "another path or query was asked for";
    Request "REQUEST" "the request was another one";
    Policy "POLICY" "another policy came to another verdict";
    Judgement "JUDGEMENT" "the same policy came to another verdict";
    UpstreamStatus "UPSTREAM_STATUS" "the upstream gave another status, or no answer";
    ModelAnswer "MODEL_ANSWER" "asked the same, the model answered otherwise";
    UpstreamAnswer "UPSTREAM_ANSWER" "asked the same, the upstream answered otherwise";
    Outcome "OUTCOME" "the call ended otherwise";
    Receipt "RECEIPT" "nothing but something else in the receipt differs";
}

/// The calls of a run, in the order in which they began.
#[derive(Debug)]
pub struct Scenario {
    calls: Vec<Call>,
    /// What this is: set by whoever read it.
    pub about: Map<String, Value>,
    /// Paths with their queries that may have been asked for, by their tags in this run: set by whoever has its key.
    pub targets: HashMap<String, String>,
}

impl Scenario {
    /// Takes the lines of a run.
    ///
    /// # Errors
    /// [`SideError::Line`] and [`SideError::EntriesMax`].
    pub fn read<'l>(
        lines: impl IntoIterator<Item = &'l [u8]>,
        normalizers: &Normalizers,
    ) -> Result<Self, SideError> {
        let mut calls = Vec::new();
        for (place, line) in (0..).zip(lines) {
            let call = Call::read(line, normalizers).map_err(|()| SideError::Line { place })?;
            calls.extend(call);
            if calls.len() > ENTRIES_MAX {
                return Err(SideError::EntriesMax);
            }
        }
        calls.sort_by_key(|call| (call.began_us, call.seq));
        Ok(Self { calls, about: Map::new(), targets: HashMap::new() })
    }
}

/// A call in which two runs part.
#[derive(Clone, PartialEq, Debug)]
pub struct Parting {
    /// In the order in which they came about. INVARIANT: never empty.
    pub causes: Vec<Cause>,
    /// Place, call and sequence number on each side that has the call.
    pub from: Option<(usize, Value)>,
    pub to: Option<(usize, Value)>,
    /// The first places, as pointers into the entry.
    pub at: Vec<String>,
}

/// What two runs of a scenario came to.
#[derive(Debug)]
pub struct Comparison {
    pub equal: u64,
    pub undecided: u64,
    pub parted: u64,
    /// Pairs of which nobody can say whether both asked at the same path.
    pub targets_not_compared: u64,
    pub first: Option<Parting>,
    /// The first call of which nobody can say.
    pub first_undecided: Option<(usize, Value)>,
    /// The first cause of each call that parts.
    pub causes: BTreeMap<Cause, u64>,
    pub same_policies: bool,
    sizes: (usize, usize),
    about: (Map<String, Value>, Map<String, Value>),
    normalizers: String,
}

/// Holds the calls of two runs against each other: the k-th of a kind against the k-th of that kind.
///
/// # Errors
/// Those of [`crate::diff()`].
pub fn compare(
    from: &Scenario,
    to: &Scenario,
    normalizers: &Normalizers,
    bodies: (&dyn Bodies, &dyn Bodies),
) -> Result<Comparison, SideError> {
    let partners = partners(&from.calls, &to.calls);
    let given = (Given::of(&from.calls, bodies.0), Given::of(&to.calls, bodies.1));
    let policies = |side: &Scenario| -> std::collections::BTreeSet<String> {
        side.calls.iter().map(|call| call.policy.clone()).collect()
    };
    let mut comparison = Comparison {
        equal: 0,
        undecided: 0,
        targets_not_compared: 0,
        parted: 0,
        first: None,
        first_undecided: None,
        causes: BTreeMap::new(),
        same_policies: policies(from) == policies(to),
        sizes: (from.calls.len(), to.calls.len()),
        about: (from.about.clone(), to.about.clone()),
        normalizers: normalizers.digest().to_string(),
    };
    // Calls that only the second run makes stand before the next that both make.
    let mut passed = 0;
    let mut has_partner = vec![false; to.calls.len()];
    for partner in partners.iter().flatten() {
        if let Some(slot) = has_partner.get_mut(*partner) {
            *slot = true;
        }
    }
    let mut added = (0..to.calls.len()).filter(|place| has_partner.get(*place) == Some(&false)).peekable();
    for (place, call) in from.calls.iter().enumerate() {
        let Some((partner, other)) =
            partners.get(place).copied().flatten().and_then(|at| Some((at, to.calls.get(at)?)))
        else {
            comparison.part(Parting::of(Cause::CallMissing, Some((place, call.place())), None));
            continue;
        };
        while let Some(extra) = added.next_if(|extra| *extra < partner) {
            let place = to.calls.get(extra).map(|call| (extra, call.place()));
            comparison.part(Parting::of(Cause::CallAdded, None, place));
        }
        let (here, there) = ((place, call.place()), (partner, other.place()));
        if partner < passed {
            comparison.part(Parting::of(Cause::Order, Some(here), Some(there)));
            continue;
        }
        passed = partner;
        let found = differences(&call.side, &other.side, normalizers, bodies, Some((&given.0, &given.1)))?;
        let has_same_target = call.has_same_target(other, (&from.targets, &to.targets));
        comparison.targets_not_compared += u64::from(has_same_target.is_none());
        let (causes, at) = causes(&found, (call, other), bodies, has_same_target == Some(false));
        let is_known = has_same_target.is_some() || !call.is_plain();
        match (causes.is_empty(), found.unknown > 0 || !is_known) {
            (false, _) => comparison.part(Parting { causes, from: Some(here), to: Some(there), at }),
            (true, false) => comparison.equal += 1,
            (true, true) => {
                comparison.undecided += 1;
                comparison.first_undecided.get_or_insert(here);
            }
        }
    }
    for extra in added {
        let place = to.calls.get(extra).map(|call| (extra, call.place()));
        comparison.part(Parting::of(Cause::CallAdded, None, place));
    }
    Ok(comparison)
}

/// For each call of the one the call of the other that is the k-th of its kind.
fn partners(from: &[Call], to: &[Call]) -> Vec<Option<usize>> {
    let mut of_kind: HashMap<&[String], std::collections::VecDeque<usize>> = HashMap::new();
    for (place, call) in to.iter().enumerate() {
        of_kind.entry(&call.kind).or_default().push_back(place);
    }
    from.iter().map(|call| of_kind.get_mut(call.kind.as_slice())?.pop_front()).collect()
}

impl Parting {
    fn of(cause: Cause, from: Option<(usize, Value)>, to: Option<(usize, Value)>) -> Self {
        Self { causes: vec![cause], from, to, at: Vec::new() }
    }

    /// Why they part.
    pub fn cause(&self) -> Cause {
        self.causes.first().copied().unwrap_or(Cause::Receipt)
    }

    fn document(&self) -> Value {
        let mut row = json!({
            "at": self.at,
            "cause": self.cause().as_str(),
            "causes": self.causes.iter().map(|cause| cause.as_str()).collect::<Vec<_>>(),
        });
        for (name, side) in [("from", &self.from), ("to", &self.to)] {
            if let Some(side) = side {
                row[name] = placed(side);
            }
        }
        row
    }
}

fn placed((place, of): &(usize, Value)) -> Value {
    let mut row = of.clone();
    row["place"] = json!(place);
    row
}

impl Comparison {
    fn part(&mut self, parting: Parting) {
        self.parted += 1;
        *self.causes.entry(parting.cause()).or_default() += 1;
        self.first.get_or_insert(parting);
    }

    /// `equal` where every call was held against its partner and found the same.
    pub fn result(&self) -> &'static str {
        match (&self.first, self.undecided) {
            (Some(_), _) => "parted",
            (None, 0) if self.equal > 0 => "equal",
            _ => "undecided",
        }
    }

    /// The document of `spec/diff.md` section 9.
    pub fn document(&self) -> Value {
        let causes =
            self.causes.iter().map(|(cause, count)| json!({ "cause": cause.as_str(), "count": count }));
        let mut document = json!({
            "calls": {
                "equal": self.equal,
                "from": self.sizes.0,
                "parted": self.parted,
                "to": self.sizes.1,
                "undecided": self.undecided,
            },
            "causes": causes.collect::<Vec<_>>(),
            "format": FORMAT,
            "from": self.about.0,
            "normalizers": self.normalizers,
            "policies": if self.same_policies { "same" } else { "other" },
            "result": self.result(),
            "targets": { "not_compared": self.targets_not_compared },
            "to": self.about.1,
        });
        if let Some(first) = &self.first {
            document["first"] = first.document();
        }
        if let Some(first) = &self.first_undecided {
            document["first_undecided"] = placed(first);
        }
        document
    }
}

/// When in a call something happens: what comes first is the cause of what follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Asked,
    Refused,
    Answered,
    Judged,
    Ended,
    Noted,
}

/// What each change says of the cause, in order and each once, and where.
fn causes(
    found: &Diff,
    (from, to): (&Call, &Call),
    bodies: (&dyn Bodies, &dyn Bodies),
    has_other_target: bool,
) -> (Vec<Cause>, Vec<String>) {
    let requests = Requests::of(found, (from, to), bodies);
    let by_policy = if from.policy == to.policy { Cause::Judgement } else { Cause::Policy };
    // Refused on one side before anything went out: what came back on the other is no cause.
    let is_refused = from.has_upstream != to.has_upstream && from.verdict != to.verdict;
    let paths = || found.changes.iter().map(|change| change.path.0.get(CALL_NAMES..).unwrap_or_default());
    let is_answer = |names: &[String]| {
        names.first().is_some_and(|name| name == "response")
            && names.get(1).is_some_and(|name| name == "upstream")
    };
    let has_other_answer = !is_refused && paths().any(is_answer);
    let mut all: Vec<(Stage, Cause, String)> = Vec::new();
    if has_other_target {
        all.push((Stage::Asked, Cause::Target, pointer(&["request", "target_tag"])));
    }
    for change in &found.changes {
        let names = change.path.0.get(CALL_NAMES..).unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (stage, cause) = match names.as_slice() {
            ["facts", "model"] => (Stage::Asked, Cause::Model),
            ["facts", "tools_offered", ..] => (Stage::Asked, Cause::Tools),
            ["facts", "stream"] => (Stage::Asked, Cause::Parameters),
            ["request", "body", rest @ ..] if from.is_of_model => {
                (Stage::Asked, requests.cause(change, rest))
            }
            ["request" | "identity" | "tenant" | "claims" | "lineage", ..] => (Stage::Asked, Cause::Request),
            ["response", ..] | ["facts" | "sse", ..] if is_refused => (Stage::Refused, by_policy),
            ["facts", "model_served"] => (Stage::Answered, Cause::Model),
            ["response", "upstream"] | ["response", "upstream", "status"] => {
                (Stage::Answered, Cause::UpstreamStatus)
            }
            ["response", "upstream", ..] | ["facts" | "sse", ..] => (Stage::Answered, from.answer_cause()),
            ["response", ..] if has_other_answer => (Stage::Answered, from.answer_cause()),
            [
                "response" | "verdict" | "policy" | "evaluated" | "detectors" | "approval" | "hold"
                | "repair" | "limits" | "risk" | "threat" | "contract" | "idempotency" | "shadow",
                ..,
            ] => (if is_refused { Stage::Refused } else { Stage::Judged }, by_policy),
            ["outcome", ..] => (Stage::Ended, Cause::Outcome),
            _ => (Stage::Noted, Cause::Receipt),
        };
        all.push((stage, cause, pointer(&names)));
    }
    all.sort_by_key(|(stage, cause, _)| (*stage, *cause));
    let mut causes: Vec<Cause> = Vec::new();
    for (_, cause, _) in &all {
        if !causes.contains(cause) {
            causes.push(*cause);
        }
    }
    (causes, all.into_iter().map(|(_, _, at)| at).take(POINTERS_MAX).collect())
}

fn pointer(names: &[&str]) -> String {
    names.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}

/// Both bodies of a request, where they say whose words differ.
struct Requests([Option<Value>; 2]);

impl Requests {
    fn of(found: &Diff, (from, to): (&Call, &Call), (ones, others): (&dyn Bodies, &dyn Bodies)) -> Self {
        let is_asked = |change: &Change| {
            let names = change.path.0.get(CALL_NAMES..).unwrap_or_default();
            matches!(names, [first, second, ..] if first == "request" && second == "body")
        };
        if !found.changes.iter().any(is_asked) {
            return Self([None, None]);
        }
        let read = |bodies: &dyn Bodies, call: &Call| match bodies.stored(call.request()?, BODY_BYTES_MAX) {
            Stored::Bytes(bytes) => serde_json::from_slice(&bytes).ok(),
            Stored::Missing | Stored::TooLarge => None,
        };
        Self([read(ones, from), read(others, to)])
    }

    fn cause(&self, change: &Change, names: &[&str]) -> Cause {
        match names.first() {
            Some(&"model") => Cause::Model,
            Some(
                &("messages"
                | "input"
                | "instructions"
                | "system"
                | "contents"
                | "systemInstruction"
                | "system_instruction"
                | "prompt"
                | "previous_response_id"),
            ) => match self.is_of_tool(change, names) {
                true => Cause::ToolAnswer,
                false => Cause::Prompt,
            },
            Some(
                &("tools"
                | "tool_choice"
                | "toolConfig"
                | "tool_config"
                | "functions"
                | "function_call"
                | "parallel_tool_calls"),
            ) => Cause::Tools,
            _ => Cause::Parameters,
        }
    }

    /// Whether what differs is, or is in, what a tool had given.
    fn is_of_tool(&self, change: &Change, names: &[&str]) -> bool {
        let own = match &change.operation {
            Operation::Add(value) | Operation::Remove(value) => [Some(value), None],
            Operation::Change(from, to) => [Some(from), Some(to)],
        };
        let said = own.into_iter().flatten().any(gives);
        said || names.contains(&"functionResponse")
            || self.0.iter().flatten().any(|body| {
                let mut at = Some(body);
                names.iter().any(|name| {
                    at = at.and_then(|value| match value {
                        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                        other => other.get(name),
                    });
                    at.is_some_and(gives)
                })
            })
    }
}

/// Whether a part of a request is what a tool gave, in any dialect.
fn gives(value: &Value) -> bool {
    let is_kind = |kind: &str| kind == "tool_result" || kind.ends_with("_output");
    matches!(value["role"].as_str(), Some("tool" | "function"))
        || value["type"].as_str().is_some_and(is_kind)
        || value.get("functionResponse").is_some()
}
