//! What the dashboard shows, as data: `--json` is this, and every frame is drawn from this and a time alone.
//!
//! Texts are as ledger and gateways have them; whoever draws them escapes them.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use estoppel_release::{Refusal, Version};
use serde::Serialize;

use crate::output::Failure;

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub releases: Seen<Releases>,
    /// In the order in which they were named.
    pub gateways: Vec<Gateway>,
}

/// What was last seen of something that is asked again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Seen<T> {
    /// The last that came; it may be old.
    pub value: Option<T>,
    /// When that came.
    pub at: Option<UnixMicros>,
    /// Why nothing came the last time, if nothing did.
    pub fault: Option<Fault>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { value: None, at: None, fault: None }
    }
}

impl<T> Seen<T> {
    /// With what came now. What came before stays where nothing did.
    pub fn take(&mut self, came: Result<T, Fault>, now: UnixMicros) {
        match came {
            Ok(value) => *self = Self { value: Some(value), at: Some(now), fault: None },
            Err(fault) => self.fault = Some(fault),
        }
    }
}

/// Why something is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub code: String,
    pub message: String,
    #[serde(skip)]
    pub exit: u8,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: failure.message, exit: failure.exit }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Releases {
    /// What `HEAD` is.
    pub commit: Option<String>,
    /// The newest version first.
    pub generations: Vec<Generation>,
    /// Digest of the ledger; none where there is no ledger.
    pub head: Option<String>,
    /// Whether somebody vouched for the beginning of the ledger.
    pub is_trusted: bool,
    /// The folder.
    pub top: String,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    pub version: Version,
    /// `draft`, or as the ledger says.
    pub status: &'static str,
    /// Digest of the contract in force; of a draft that of its file, none where that is not read.
    pub contract: Option<String>,
    /// Why the file of a draft cannot be sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    pub changes: Vec<Change>,
    /// How many of them are proven.
    pub proven: usize,
    /// Of the promotion; before that of the latest candidate.
    pub tag: Option<String>,
    pub passed: usize,
    pub failed: usize,
    /// Gates of the attempt to promote that was made last.
    pub gates: Vec<Gate>,
    /// Those of them that refuse, and that a person may waive under its contract.
    #[serde(skip)]
    pub waivable: Vec<Gate>,
    /// What happened, the newest first.
    pub timeline: Vec<Happened>,
    /// Evolutions that have not ended, the newest first.
    pub running: Vec<Running>,
    /// What to do next.
    pub next: Option<String>,
    /// The stage that it came to last, and its tag.
    pub stage: Option<String>,
    /// The stage before the release that its candidate comes to next.
    pub next_stage: Option<String>,
    /// The environments that have something of it.
    pub environments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub proven: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    pub gate: String,
    /// `pass`, `fail`, `missing` or `waived`.
    pub state: String,
    pub why: String,
}

impl Gate {
    pub fn refuses(&self) -> bool {
        matches!(self.state.as_str(), "fail" | "missing")
    }
}

/// An event of a generation, or an evolution from its begin to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happened {
    pub at: UnixMicros,
    /// Kind of the event.
    pub kind: &'static str,
    /// Whose key signed it.
    pub by: String,
    /// In a few words.
    pub says: String,
    pub commit: Option<String>,
    pub evolution: Option<Evolution>,
    /// Of a promotion, refused or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evolution {
    pub id: String,
    /// `PASSED`, `FAILED`, `OPEN`, or `CUT_OFF` where the program that ran it in this clone is gone.
    pub result: &'static str,
    pub changes: Vec<String>,
    pub steps: Vec<Step>,
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub id: String,
    /// `wanted`, `running`, `cut_off`, or how it ended.
    pub state: &'static str,
    pub duration_ms: Option<u64>,
    pub exit: Option<i32>,
}

/// An evolution that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Running {
    pub evolution: String,
    pub version: Version,
    pub since: UnixMicros,
    pub by: String,
    pub commit: String,
    pub changes: Vec<String>,
    pub at: Whereabouts,
    pub steps: Vec<Step>,
    /// The end of the log of the step that began last.
    pub log: Option<Log>,
}

/// Where an evolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whereabouts {
    /// In this clone, now.
    Here,
    /// In this clone, and the program that ran it is gone.
    CutOff,
    /// In another clone; how far it is cannot be seen.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    pub step: String,
    pub lines: Vec<String>,
}

/// A gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    pub admin: String,
    #[serde(flatten)]
    pub seen: Seen<Traffic>,
}

/// What a gateway says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// `ok`, or the code of why it takes no calls.
    pub ready: String,
    pub version: String,
    /// Calls with a receipt since it started, by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Calls with a receipt since it started, by code.
    pub outcomes: BTreeMap<String, u64>,
    /// Calls refused without a receipt since it started, by code.
    pub refused: BTreeMap<String, u64>,
    pub in_flight: u64,
    pub runs_open: u64,
    /// What of that came within the window.
    pub lately: Option<Lately>,
    /// Calls that wait, the one that expires first at the beginning.
    pub holds: Vec<Hold>,
    /// What is stopped, and why.
    pub switches: Vec<String>,
    /// None of a gateway that does not tell single calls.
    pub recent: Option<Recent>,
}

/// The latest calls that were not plainly allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Recent {
    /// Since when the gateway counts.
    pub since: String,
    /// How many there were since then, by verdict.
    pub counted: BTreeMap<String, u64>,
    /// The newest first.
    pub calls: Vec<Call>,
}

/// A call, by the names that its receipt has.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Call {
    pub call: String,
    pub run: String,
    pub ended: String,
    pub route: Option<String>,
    pub method: String,
    pub operation: String,
    pub tool: Option<String>,
    pub verdict: String,
    /// How the call ended.
    pub code: String,
    /// Of the verdict; it may be a policy's own.
    pub reason: Option<String>,
    pub rule: Option<String>,
    pub identity: Option<String>,
    pub tenant: Option<String>,
    /// Where people have decided about it.
    pub hold: Option<String>,
    pub would: Option<Would>,
    /// What judging found and did not enforce.
    pub observed: Option<String>,
}

/// What a policy that changes nothing would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Would {
    pub policy: String,
    pub verdict: String,
    pub reason: Option<String>,
    pub rule: Option<String>,
}

/// What came between two looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lately {
    /// How long that was, milliseconds.
    pub window_ms: u64,
    pub verdicts: BTreeMap<String, u64>,
    pub outcomes: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
}

/// A call that waits for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hold {
    pub id: String,
    pub run: String,
    pub state: String,
    pub method: String,
    /// None where it is too long or not known any more.
    pub target: Option<String>,
    pub content_type: Option<String>,
    /// Whether a credential comes with it; none where that is not known any more.
    pub credential: Option<bool>,
    /// Where it is stored as it is, and short.
    pub body: Option<String>,
    pub route: String,
    pub operation: Option<String>,
    pub tool: Option<String>,
    pub requester: Option<String>,
    pub rule: String,
    pub payload: String,
    pub bytes: u64,
    pub approved: u64,
    pub needs: u64,
    pub expires: String,
    /// Who may decide, and what each has said.
    pub approvers: Vec<String>,
}
