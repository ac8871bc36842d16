//! The receipt: one call (`spec/pef/schemas/receipt.schema.json`).

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::detection::{Detection, DetectorRun, FindingDocument};
use super::shadow::ShadowRecord;
use super::snapshot::{SnapshotDocument, SnapshotRecord, TableWrites};
use super::{LineTooLong, Link, VERSION, write_line};
use crate::capture::{Label, RunCapture, StreamRoot, Tag};
use crate::hash::{Commit, Leaf, Root, Sha256};
use crate::id::{CallId, HoldId, Instance, RunId};
use crate::key::KeyId;
use crate::reason::Reason;
use crate::time::UnixMicros;

/// How bodies are captured (SPEC section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyMode {
    /// Sizes only.
    None,
    /// Tags and commitments; no bytes are kept.
    #[default]
    Hmac,
    /// As `Full`, with values replaced by keyed digests before anything is stored.
    Redacted,
    /// The bytes are stored, by their SHA-256.
    Full,
}

/// How the bodies of one call are captured, and why if they are stored.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub mode: BodyMode,
    pub reason: Option<Arc<str>>,
    /// The policy's patterns by which values of stored bodies were redacted.
    pub redacted: Vec<Arc<str>>,
}

/// Bytes of one body: how many, and their SHA-256 unless the mode is `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub bytes: u64,
    pub sha256: Option<[u8; 32]>,
    /// SHA-256 of what the body store has: the bytes, or what redaction left of them.
    pub stored: Option<[u8; 32]>,
}

/// What the caller said of itself in headers: recorded, never believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evolution_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<Box<str>>,
}

impl Claims {
    /// Each claim with its name, in the order of names.
    pub fn fields(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("agent", self.agent.as_deref()),
            ("evolution_id", self.evolution_id.as_deref()),
            ("idempotency_key", self.idempotency_key.as_deref()),
            ("job_id", self.job_id.as_deref()),
            ("pipeline_id", self.pipeline_id.as_deref()),
            ("runtime", self.runtime.as_deref()),
            ("schema", self.schema.as_deref()),
            ("service_id", self.service_id.as_deref()),
        ]
    }

    /// The claim of that name, to be set.
    pub fn field_mut(&mut self, name: &str) -> Option<&mut Option<Box<str>>> {
        Some(match name {
            "agent" => &mut self.agent,
            "evolution_id" => &mut self.evolution_id,
            "idempotency_key" => &mut self.idempotency_key,
            "job_id" => &mut self.job_id,
            "pipeline_id" => &mut self.pipeline_id,
            "runtime" => &mut self.runtime,
            "schema" => &mut self.schema,
            "service_id" => &mut self.service_id,
            _ => return None,
        })
    }
}

/// A step that was not done as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    pub code: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
}

/// How far bytes were looked at. Nothing unjudged is called judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Looked {
    /// Held against a contract.
    Judged,
    /// Facts were read; nothing was held against a contract.
    Recognized,
    /// Not looked into.
    #[default]
    NotEvaluated,
    /// There were no bytes.
    Empty,
}

/// What was looked at in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluated {
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defect: Option<Reason>,
    #[serde(skip_serializing_if = "is_zero")]
    pub events: u64,
    pub skipped: u64,
    pub state: Looked,
}

/// Token counts as the upstream reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl Usage {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What was read from the bytes. Text is cut and cleaned by [`crate::text::name`] before it gets here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finish: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_served: Option<Box<str>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub more: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools_called: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools_offered: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Usage::is_empty")]
    pub usage: Usage,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How an identity was proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    #[default]
    None,
    Mtls,
    Token,
    ApiKey,
}

/// Who called, proven by the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<Arc<str>>,
    pub kind: IdentityKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
}

/// How an identity came about, beside who it is (SPEC section 4, `ext.identity`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityDetails {
    /// Who acts for the subject, the one that calls first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Box<str>>,
    /// Subject of the connection's certificate, where a token or a key says who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Arc<str>>,
    /// Name of the token's issuer in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
}

/// What became of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientEnd {
    /// All bytes were given to its transport, or are about to be once the receipt is durable. Never "delivered":
    /// what the transport did with them cannot be known.
    HandedOver,
    /// It left.
    Gone,
    /// It got an answer of ours instead of the upstream's.
    Refused,
}

/// How the call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub client: ClientEnd,
    pub code: Reason,
    pub complete: bool,
}

/// The policy that judged, and the rule that decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyRef {
    pub hash: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
}

/// The request as it was received.
#[derive(Clone, Debug)]
pub struct RequestSide {
    pub body: Captured,
    pub method: Cow<'static, str>,
    pub route: Option<Arc<str>>,
    /// SHA-256 of the request target's bytes.
    pub target: [u8; 32],
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
}

/// The answer: what the client got and what came from the upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseSide {
    pub client: Captured,
    pub client_status: u16,
    pub upstream: Option<(u16, Captured)>,
}

/// A stream's tree and how it went.
#[derive(Clone, Debug)]
pub struct StreamRecord {
    pub comments: u64,
    pub events: u64,
    pub first_us: u64,
    pub last_us: u64,
    pub terminated: Option<bool>,
    /// None with body mode `none` would hide the root too; the root is always kept.
    pub tree: StreamRoot,
}

/// Microseconds from the moment the request head was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_us: Option<u64>,
    pub total_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
}

/// What values were held against, and what a repair did to those of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Of the request's body.
    pub request: Option<ContractRef>,
    /// Of the answer's values.
    pub response: Option<ContractRef>,
    pub repair: Option<Repair>,
}

/// The contracts that were enforced (SPEC section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractRef {
    pub digest: Sha256,
    /// Name of the tool, if there is one contract and it is a tool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    pub source: ContractSource,
}

/// Where contracts come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContractSource {
    /// The policy, if only for some of them.
    Policy,
    /// The request's own definitions of tools and of its answer.
    Request,
    /// What an MCP server said of its tools.
    Mcp,
}

/// What was changed in values, at most [`EDITS_MAX`] edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    pub applied: bool,
    pub edits: Vec<Edit>,
    pub lossy: bool,
    pub strategy: Box<str>,
}

/// Most edits in one receipt.
pub const EDITS_MAX: usize = 64;

/// One edit: where in its value, how many bytes went, and of which class it is. What came in their place is not said,
/// because values are private.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub at: u64,
    pub del: u64,
    pub op: Box<str>,
}

/// What one control of the policy counted for a call (`limits`, and the amounts under `ext`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRecord {
    /// What was counted in the end; none: nothing was.
    pub counted: Option<u64>,
    /// What was left of the limit when the call was let in or refused; none: nobody knew.
    pub left: Option<u64>,
    /// What was reserved before the call went on.
    pub reserved: u64,
    pub rule: Arc<str>,
    pub state: LimitState,
    /// What is counted: `calls`, `tokens` or `cost`.
    pub unit: Box<str>,
}

/// How a control's count came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitState {
    /// What was used was counted.
    Counted,
    /// Nobody said what was used: what was reserved stays counted.
    Reserved,
    /// The call reached no upstream: nothing is counted.
    Released,
    /// It was refused, because it would have passed the limit.
    Exceeded,
    /// The counters could not be reached, and the gateway's own budget let it through.
    LocalBudget,
    /// The counters could not be reached, and it was refused.
    StoreDown,
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictAction {
    Allow,
    Repair,
    Hold,
    Block,
}

impl VerdictAction {
    /// As receipts have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Repair => "repair",
            Self::Hold => "hold",
            Self::Block => "block",
        }
    }
}

/// Whether the verdict was acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictMode {
    Enforce,
    Shadow,
}

/// The verdict with its reason code, which may be a policy's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerdictRecord {
    pub action: VerdictAction,
    pub mode: VerdictMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// How a hold ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOutcome {
    Approved,
    Denied,
    Expired,
}

/// The hold that a call waited in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    pub expires: UnixMicros,
    pub id: HoldId,
    pub outcome: HoldOutcome,
    /// From the hold's opening until this call went on, or was refused.
    pub us: u64,
}

/// The approvals that let a call pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// Keys that approved.
    pub approved: Vec<KeyId>,
    /// What was approved, where the hold is of what the request asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_tag: Option<Tag>,
    pub hold: HoldId,
    /// The hold's entry; none where it is not known because the entry waited in the spill file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf: Option<Leaf>,
}

/// That a call waited for people, and how that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub hold: HoldRecord,
    /// Only where it was approved.
    pub approval: Option<ApprovalRecord>,
}

/// That a call brought a key, and what that meant (SPEC section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    pub decision: IdempotencyDecision,
    /// The call that has the key, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<CallId>,
}

/// What a key meant for its call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdempotencyDecision {
    /// Nobody had the key.
    First,
    /// It was given the answer of the first.
    Stored,
    /// The first stood in its way.
    Conflict,
}

/// Two calls of which the second asks again what the first was refused for (SPEC section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reask {
    /// This answer was refused, and that call asked again.
    Next(CallId),
    /// This call asked again what that one was refused for.
    Of(CallId),
}

/// One call, as the data plane hands it over. It knows nothing of chains, keys or files.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub call: CallId,
    pub attempt: u32,
    pub storage: Storage,
    pub claims: Option<Box<Claims>>,
    /// The host that a rule decided because of.
    pub destination: Option<Box<str>>,
    /// None where no detector was to run.
    pub detection: Option<Box<Detection>>,
    pub dialect: Option<&'static str>,
    pub downgrades: Vec<Downgrade>,
    pub evaluated_request: Evaluated,
    pub evaluated_response: Evaluated,
    pub facts: Facts,
    /// None when the call did not wait for people, or does still.
    pub held: Option<Box<Held>>,
    /// None when the call did not go by a key.
    pub idempotency: Option<IdempotencyRecord>,
    pub identity: Identity,
    pub identity_details: Option<Box<IdentityDetails>>,
    /// None when nothing was held against a contract.
    pub judged: Option<Box<Judged>>,
    /// What the policy's controls counted, at most 32.
    pub limits: Vec<LimitRecord>,
    pub operation: Cow<'static, str>,
    pub outcome: Outcome,
    pub policy: PolicyRef,
    pub reask: Option<Reask>,
    pub request: RequestSide,
    pub response: ResponseSide,
    /// What policies said that change nothing, at most [`super::SHADOWS_MAX`].
    pub shadow: Vec<ShadowRecord>,
    /// None where the policy asks for none.
    pub snapshot: Option<Box<SnapshotRecord>>,
    pub stream: Option<Box<StreamRecord>>,
    /// Whose the identity is, as whoever proves it says.
    pub tenant: Option<Arc<str>>,
    pub threat: Option<Arc<Threat>>,
    pub time: Times,
    pub trace: Option<Box<TraceContext>>,
    pub upstream: Option<Arc<str>>,
    /// What the upstream calls the request, as its answer's head says.
    pub upstream_request: Option<Box<str>>,
    pub verdict: VerdictRecord,
}

/// The trace that the caller said its request is part of: recorded under `ext`, never believed. Whoever makes it has held
/// both against the grammar of W3C Trace Context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// `traceparent`, as far as its version 00 goes.
    pub parent: Box<str>,
    /// `tracestate`, at most 512 bytes.
    pub state: Option<Box<str>>,
}

/// Threat classification that a rule carries; ids name their edition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Threat {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Box<str>>,
}

#[derive(Serialize)]
struct BodyDocument<'a> {
    mode: BodyMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    redacted: &'a [Arc<str>],
}

#[derive(Serialize)]
struct EvaluatedDocument {
    request: Evaluated,
    response: Evaluated,
}

#[derive(Serialize)]
struct RequestDocument<'a> {
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<Commit>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_tag: Option<Tag>,
    version: &'static str,
}

#[derive(Serialize, Clone, Copy)]
struct BytesDocument {
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<Commit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
}

#[derive(Serialize)]
struct ResponseDocument {
    client: BytesDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<BytesDocument>,
}

#[derive(Serialize)]
struct StreamDocument {
    comments: u64,
    events: u64,
    first_us: u64,
    last_us: u64,
    level: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Sha256>,
    root: Root,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminated: Option<bool>,
    units: u64,
}

#[derive(Serialize)]
struct ContractDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a ContractRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a ContractRef>,
}

#[derive(Serialize)]
struct ExtDocument<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<CountDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingDocument<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    findings_more: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a IdentityDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reask: Option<ReaskDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_lag_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_request: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    writes: &'a [TableWrites],
}

impl<'a> ExtDocument<'a> {
    fn of(record: &'a CallRecord, capture: &RunCapture, keyed: bool) -> Option<Self> {
        let counted = record.limits.iter().filter_map(|limit| Some((limit, limit.counted?)));
        let controls: Vec<_> = counted
            .map(|(limit, counted)| CountDocument {
                counted,
                reserved: limit.reserved,
                rule: &limit.rule,
                unit: &limit.unit,
            })
            .collect();
        let detection = record.detection.as_deref().filter(|detection| !detection.findings.is_empty());
        let reask = record.reask.map(|reask| match reask {
            Reask::Next(call) => ReaskDocument { next: Some(call), of: None },
            Reask::Of(call) => ReaskDocument { next: None, of: Some(call) },
        });
        let identity = record.identity_details.as_deref();
        let upstream_request = record.upstream_request.as_deref();
        let snapshot_lag_bytes = record.snapshot.as_ref().and_then(|snapshot| snapshot.lag_bytes);
        let writes = record.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.writes);
        let trace = record.trace.as_deref();
        let any = !controls.is_empty()
            || detection.is_some()
            || identity.is_some()
            || reask.is_some()
            || snapshot_lag_bytes.is_some()
            || trace.is_some()
            || upstream_request.is_some()
            || !writes.is_empty();
        any.then(|| Self {
            controls,
            findings: detection.map(|detection| detection.documents(capture, keyed)).unwrap_or_default(),
            findings_more: detection.map_or(0, |detection| detection.more),
            identity,
            reask,
            snapshot_lag_bytes,
            traceparent: trace.map(|trace| &*trace.parent),
            tracestate: trace.and_then(|trace| trace.state.as_deref()),
            upstream_request,
            writes,
        })
    }
}

#[derive(Serialize)]
struct ReaskDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<CallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<CallId>,
}

#[derive(Serialize)]
struct LimitDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    rule: &'a str,
    state: LimitState,
}

#[derive(Serialize)]
struct CountDocument<'a> {
    counted: u64,
    reserved: u64,
    rule: &'a str,
    unit: &'a str,
}

#[derive(Serialize)]
struct CallDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<&'a ApprovalRecord>,
    attempt: u32,
    body: BodyDocument<'a>,
    call: CallId,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a Claims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<ContractDocument<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    data_class: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    detectors: &'a [DetectorRun],
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "<[Downgrade]>::is_empty")]
    downgrades: &'a [Downgrade],
    evaluated: EvaluatedDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext: Option<ExtDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<&'a HoldRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency: Option<IdempotencyRecord>,
    identity: &'a Identity,
    iss: &'a Instance,
    kid: KeyId,
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitDocument<'a>>,
    mono_us: u64,
    operation: &'a str,
    outcome: Outcome,
    policy: &'a PolicyRef,
    prev: Option<Leaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<&'a Repair>,
    request: RequestDocument<'a>,
    response: ResponseDocument,
    run: RunId,
    seq: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shadow: &'a [ShadowRecord],
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sse: Option<StreamDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threat: Option<&'a Threat>,
    time: Times,
    ts: UnixMicros,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    v: &'static str,
    verdict: &'a VerdictRecord,
}

impl CallRecord {
    /// Writes the receipt's line into `out`, which is cleared first. `nodes` is the digest of the stream's nodes file if
    /// one is kept.
    ///
    /// # Errors
    /// [`LineTooLong`]; [`CallRecord::shorten`] makes it fit.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        link: &Link<'_>,
        capture: &RunCapture,
        nodes: Option<Sha256>,
    ) -> Result<(), LineTooLong> {
        write_line(out, &self.document(link, capture, nodes))
    }

    fn document<'a>(
        &'a self,
        link: &Link<'a>,
        capture: &RunCapture,
        nodes: Option<Sha256>,
    ) -> CallDocument<'a> {
        let call = capture.call(self.call);
        let keyed = self.storage.mode != BodyMode::None;
        let body = |captured: &Captured, label: Label, status: Option<u16>| BytesDocument {
            bytes: captured.bytes,
            commit: captured.sha256.filter(|_| keyed).map(|digest| call.commit(label, &digest)),
            sha256: captured.stored.map(Sha256),
            status,
            tag: captured.sha256.filter(|_| keyed).map(|digest| capture.tag(label, &digest)),
        };
        let request = body(&self.request.body, Label::RequestBody, None);
        let upstream = self
            .response
            .upstream
            .as_ref()
            .map(|(status, captured)| body(captured, Label::ResponseBody, Some(*status)));
        let client = match (&upstream, &self.response.upstream) {
            (Some(document), Some((_, captured))) if *captured == self.response.client => {
                BytesDocument { status: Some(self.response.client_status), ..*document }
            }
            _ => body(
                &self.response.client,
                Label::ResponseBody,
                Some(self.response.client_status).filter(|s| *s > 0),
            ),
        };
        CallDocument {
            approval: self.held.as_ref().and_then(|held| held.approval.as_ref()),
            attempt: self.attempt,
            body: BodyDocument {
                mode: self.storage.mode,
                reason: self.storage.reason.as_deref(),
                redacted: &self.storage.redacted,
            },
            call: self.call,
            claims: self.claims.as_deref(),
            contract: self.judged.as_ref().and_then(|judged| {
                let (request, response) = (judged.request.as_ref(), judged.response.as_ref());
                (request.is_some() || response.is_some()).then_some(ContractDocument { request, response })
            }),
            data_class: self.detection.as_ref().map_or(&[], |detection| &detection.classes),
            destination: self.destination.as_deref(),
            detectors: self.detection.as_ref().map_or(&[], |detection| &detection.detectors),
            dialect: self.dialect,
            downgrades: &self.downgrades,
            evaluated: EvaluatedDocument {
                request: self.evaluated_request,
                response: self.evaluated_response,
            },
            ext: ExtDocument::of(self, capture, keyed),
            facts: Some(&self.facts).filter(|facts| **facts != Facts::default()),
            hold: self.held.as_ref().map(|held| &held.hold),
            idempotency: self.idempotency,
            identity: &self.identity,
            iss: link.iss,
            kid: link.kid,
            kind: "call",
            limits: self
                .limits
                .iter()
                .map(|limit| LimitDocument { left: limit.left, rule: &limit.rule, state: limit.state })
                .collect(),
            mono_us: link.mono_us,
            operation: &self.operation,
            outcome: self.outcome,
            policy: &self.policy,
            prev: link.prev,
            repair: self.judged.as_ref().and_then(|judged| judged.repair.as_ref()),
            request: RequestDocument {
                bytes: request.bytes,
                commit: request.commit,
                method: &self.request.method,
                route: self.request.route.as_deref(),
                sha256: request.sha256,
                tag: request.tag,
                target_tag: keyed.then(|| capture.tag(Label::RequestTarget, &self.request.target)),
                version: self.request.version,
            },
            response: ResponseDocument { client, upstream },
            run: link.run,
            seq: link.seq,
            shadow: &self.shadow,
            snapshot: self.snapshot.as_deref().map(SnapshotRecord::document),
            sse: self.stream.as_ref().map(|stream| StreamDocument {
                comments: stream.comments,
                events: stream.events,
                first_us: stream.first_us,
                last_us: stream.last_us,
                level: stream.tree.level,
                nodes,
                root: stream.tree.root,
                terminated: stream.terminated,
                units: stream.tree.units,
            }),
            tenant: self.tenant.as_deref(),
            threat: self.threat.as_deref(),
            time: self.time,
            ts: link.ts,
            upstream: self.upstream.as_deref(),
            v: VERSION,
            verdict: &self.verdict,
        }
    }

    /// Drops the longest lists, and says so in `facts.more`, and cuts claims to half of what a name may have, so that the
    /// line fits. What is left has bounded names only and cannot exceed the limit.
    pub fn shorten(&mut self) {
        // Approvals and who acts for whom are never left out, so names make room for them.
        let facts = &mut self.facts;
        for list in [&mut facts.tools_offered, &mut facts.tools_called, &mut facts.finish] {
            let kept = list.len().min(1);
            facts.more += (list.len() - kept) as u64; // bounded lists
            list.truncate(kept);
        }
        for (name, _) in Claims::default().fields() {
            let claim = self.claims.as_deref_mut().and_then(|claims| claims.field_mut(name)?.as_mut());
            claim.into_iter().for_each(cut_claim);
        }
        self.downgrades.truncate(4);
        if let Some(snapshot) = self.snapshot.as_mut().filter(|snapshot| !snapshot.writes.is_empty()) {
            snapshot.writes.clear();
            self.downgrades.truncate(3);
            let detail = Some("receipt_full".into());
            self.downgrades.push(Downgrade { code: Reason::LineageMissing, detail });
        }
        self.limits.truncate(4);
        self.shadow.iter_mut().for_each(ShadowRecord::shorten);
        if let Some(repair) = self.judged.as_mut().and_then(|judged| judged.repair.as_mut()) {
            repair.edits.truncate(16);
        }
        if let Some(detection) = &mut self.detection {
            detection.shorten();
        }
        if let Some(trace) = &mut self.trace {
            trace.state = None;
        }
    }
}

fn cut_claim(claim: &mut Box<str>) {
    if let Some((at, _)) = claim.char_indices().nth(crate::text::NAME_CHARS_MAX / 2) {
        *claim = claim[..at].into();
    }
}
