//! One call's record in the making. It is the finish guard: however the call ends, also by being dropped, exactly one
//! record goes to the journal. Dropping it pushes the record and formats nothing.

mod again;
mod answer;
mod detected;
mod ending;
mod heard;
mod held;
mod pictured;
mod posted;
mod request;
mod shadowed;
mod unfinished;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::capture::StreamTree;
use estoppel_evidence::entry::{
    BodyMode, CallRecord, Captured, Downgrade, Evaluated, Intent, Looked, Storage, Threat, VerdictAction,
};
use estoppel_evidence::{CallId, Reason, text};
use estoppel_journal::encryption::{DataKey, OnKeyFailure};
use estoppel_journal::{Ack, RunHandle, Slot};
use estoppel_policy::{BodyStorage, Control, Decision, Evaluation, Severity, ThreatId, Verdict};
use estoppel_wire::dialect::{self, Dialect, Framing, ResponseScan};
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

pub(crate) use self::again::Second;
use self::held::HeldBack;
pub(crate) use self::held::observed_in;
use self::pictured::Pictured;
pub(crate) use self::posted::Aside;
use self::unfinished::Unfinished;
use crate::body::Upload;
use crate::call::InFlight;
use crate::controls::Held;
use crate::database::{Inside, Named};
use crate::detecting::Detecting;
use crate::idempotency::Taken;
use crate::judging::{self, Asked, Objection, Recorded, mcp};
use crate::mcp::streams::Post;
use crate::provenance::Heard;
use crate::reask::Origin;
use crate::respond::Refusal;
use crate::rules::{Contents, Ruled};
use crate::serve::Shared;
use crate::shadow::Shadowing;
use crate::snapshot::{RouteEntry, Snapshot};
use crate::store::{Contract, Feed, Form, Redaction, Side};

/// One call from routing to its receipt.
pub(crate) struct Exchange {
    pub(crate) call: CallId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) route: Option<Arc<RouteEntry>>,
    pub(crate) dialect: Dialect,
    pub(crate) run: RunHandle,
    pub(crate) started_us: u64,
    pub(crate) record: Box<CallRecord>,
    /// Gone once the record has been handed over.
    slot: Option<Slot>,
    request: Request,
    /// There is a request body that nobody reads before it is sent.
    pub(crate) request_unread: bool,
    /// A contract says all that there is to say of the request's body.
    pub(crate) request_judged: bool,
    /// What the call holds of the policy's counters.
    pub(crate) held: Option<Box<Held>>,
    /// What the route's database looked like before.
    pictured: Option<Pictured>,
    /// It may change a database whose schema is watched.
    inside: Option<Inside>,
    /// Rows of the route's database may name it.
    named: Option<Named>,
    /// The key that the call has taken.
    pub(crate) taken: Option<Box<Taken>>,
    /// Something of it may have reached the upstream.
    pub(crate) sent: bool,
    /// What the upstream said of tokens is not all in the record.
    usage_unread: bool,
    /// The upstream's answer came to its end.
    answer_ended: bool,
    response: Option<Box<Response>>,
    /// What the request asked its answer to be, until the answer comes.
    asked: Option<Box<Asked>>,
    /// What of the request was held against contracts.
    request_contracts: judging::RequestJudged,
    /// What the request's receipt names.
    contracts_named: Vec<Contract>,
    /// The requests to an MCP server, until the answer comes.
    asked_server: Option<Box<mcp::Requests>>,
    /// The stream in which it is answered, if that is another call's.
    post: Option<Box<Post>>,
    /// What calls of its tools were held against.
    server_calls: Option<Recorded>,
    /// Calls of its tools were judged.
    calls_judged: bool,
    /// What the caller is told of a value that was refused.
    detail: Option<Box<str>>,
    /// What a rule said of one.
    ruled: Option<Box<Ruled>>,
    /// The rule that held the call, once people have let it pass.
    pub(crate) approved: Option<Box<str>>,
    /// Where a credential was that was meant for the gateway, and stays here.
    pub(crate) spent: Option<http::HeaderName>,
    /// What of the request rules look into.
    contents: Arc<Contents>,
    /// Whether the answer's head was given to the client.
    given: bool,
    /// Set when the client has left and the answer is read on; there where the policy says so.
    left: Option<Arc<AtomicBool>>,
    redaction: Option<Redaction>,
    /// What bodies are encrypted with, where they are: the same for all of a call.
    body_key: Option<Arc<DataKey>>,
    /// The policy asks to store bodies, and there is no key to encrypt them with.
    unkeyed: bool,
    detecting: Option<Box<Detecting>>,
    /// The answer of an MCP server, where rules ask what tools gave earlier.
    heard: Option<Box<Heard>>,
    /// Policies that are asked and change nothing, if there are any.
    shadowing: Option<Box<Shadowing>>,
    /// Set by the connection when its client stopped reading.
    pub(crate) stalled: Arc<std::sync::atomic::AtomicBool>,
    /// What is kept of it as long as it may be asked again.
    origin: Option<Box<Origin>>,
    /// It asks again; what its client is told if that fails.
    instead: Option<Box<Refusal>>,
    in_flight: Option<InFlight>,
}

/// The request body's state: read here, or by the upstream connection while it sends.
enum Request {
    Held { hash: Sha256, bytes: u64, facts: Option<Box<dialect::RequestFacts>> },
    Sent(Arc<Upload>),
}

/// The response body's state. Without `judged`, what the client gets is what the upstream sent.
struct Response {
    status: u16,
    framing: Framing,
    /// Of what the client gets.
    hash: Sha256,
    feed: Option<Feed>,
    bytes: u64,
    scan: ResponseScan,
    /// What the scan found, once it has been ended.
    facts: Option<dialect::ResponseFacts>,
    looked: Looked,
    /// Refused for not having been read.
    unread: bool,
    /// What of a stream the policy has seen: calls, whether the model was known, whether all was read.
    seen: (usize, bool, bool),
    /// Ends of the events in the piece that is being looked at.
    marks: Vec<dialect::EventMark>,
    stream: Option<Stream>,
    /// What the client had got when it left, and that part's stream.
    departed: Option<Box<(Captured, Option<Stream>)>>,
    /// Bytes that are held until the receipt is durable: from the terminator's event on.
    tail: Vec<Bytes>,
    tail_marks: Vec<Mark>,
    judged: Option<Box<HeldBack>>,
    /// Keeps an event until it is whole, where the policy may refuse it.
    unfinished: Option<Box<Unfinished>>,
}

impl Request {
    /// What was read in a body that came whole.
    fn facts(&self) -> Option<&dialect::RequestFacts> {
        match self {
            Self::Held { facts, .. } => facts.as_deref(),
            Self::Sent(_) => None,
        }
    }
}

impl Response {
    /// Whether what is called is asked about once it is whole.
    fn judges_calls(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.model().is_some())
    }

    fn has_judged_values(&self) -> bool {
        let model = self.judged.as_ref().and_then(|judged| judged.model());
        model.is_some_and(|stream| !stream.verdicts().is_empty())
    }

    /// Whoever judges calls is told which model makes them.
    fn tell_model(&mut self) {
        let Some(stream) = self.judged.as_mut().and_then(|judged| judged.model_mut()) else { return };
        if let Some(model) = self.scan.so_far().model {
            stream.judge_mut().served(model);
        }
    }

    /// These bytes are part of the answer now.
    fn pass(&mut self, data: &Bytes, hashes: bool) {
        if hashes {
            self.hash.update(data);
        }
        let feed = match &self.judged {
            Some(judged) if judged.apart => &judged.feed,
            _ => &self.feed,
        };
        if let Some(feed) = feed {
            feed.push(data.clone());
        }
        self.bytes += data.len() as u64;
    }
}

struct Stream {
    tree: StreamTree,
    first_us: Option<u64>,
    last_us: u64,
}

/// A unit's end inside one piece of the tail.
#[derive(Clone, Copy)]
struct Mark {
    piece: usize,
    end: usize,
}

/// What the layers before knew.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) route: Option<Arc<RouteEntry>>,
    pub(crate) dialect: Dialect,
    pub(crate) run: RunHandle,
    pub(crate) started_us: u64,
    pub(crate) record: Box<CallRecord>,
    pub(crate) slot: Slot,
    pub(crate) in_flight: InFlight,
    pub(crate) stalled: Arc<std::sync::atomic::AtomicBool>,
}

impl Exchange {
    pub(crate) fn new(start: Start) -> Box<Self> {
        Box::new(Self {
            call: start.record.call,
            shared: start.shared,
            snapshot: start.snapshot,
            route: start.route,
            dialect: start.dialect,
            run: start.run,
            started_us: start.started_us,
            record: start.record,
            slot: Some(start.slot),
            request: Request::Held { hash: Sha256::new(), bytes: 0, facts: None },
            request_unread: false,
            request_judged: false,
            held: None,
            pictured: None,
            inside: None,
            named: None,
            taken: None,
            sent: false,
            usage_unread: false,
            answer_ended: false,
            response: None,
            asked: None,
            request_contracts: judging::RequestJudged::default(),
            contracts_named: Vec::new(),
            asked_server: None,
            post: None,
            server_calls: None,
            calls_judged: false,
            detail: None,
            ruled: None,
            approved: None,
            spent: None,
            contents: Arc::default(),
            given: false,
            left: None,
            redaction: None,
            body_key: None,
            unkeyed: false,
            detecting: None,
            heard: None,
            shadowing: None,
            stalled: start.stalled,
            origin: None,
            instead: None,
            in_flight: Some(start.in_flight),
        })
    }

    /// Microseconds since the head was read.
    pub(crate) fn elapsed_us(&self) -> u64 {
        self.shared.clock.mono_us().saturating_sub(self.started_us)
    }

    /// Whether bodies are hashed at all.
    pub(crate) fn hashes(&self) -> bool {
        self.record.storage.mode != BodyMode::None
    }

    /// Sets how bodies are captured, as the policy decided.
    pub(crate) fn store_bodies(&mut self, storage: &BodyStorage) {
        let stored = self.stores();
        self.redaction = None;
        self.unkeyed = matches!(storage, BodyStorage::Full { .. }) && !self.takes_body_key();
        self.record.storage = match storage {
            _ if self.unkeyed => Storage::default(),
            _ if self.shared.journal.is_off() => Storage { mode: BodyMode::None, ..Storage::default() },
            BodyStorage::None => Storage { mode: BodyMode::None, ..Storage::default() },
            BodyStorage::Hmac => Storage::default(),
            BodyStorage::Full { reason, redact } => {
                let reason = Some(reason.as_str().into());
                if redact.is_empty() {
                    Storage { mode: BodyMode::Full, reason, redacted: Vec::new() }
                } else {
                    let bytes_max = self.route.as_ref().map_or(0, |r| r.settings.limits.held_bytes_max);
                    self.redaction = Some(Redaction { paths: redact.as_slice().into(), bytes_max });
                    let redacted = redact.iter().map(|path| path.text().clone()).collect();
                    Storage { mode: BodyMode::Redacted, reason, redacted }
                }
            }
        };
        if stored && !self.stores() {
            self.shared.stores.forget(self.call);
        }
    }

    /// Takes the key of today, where bodies are encrypted. False if there is none.
    fn takes_body_key(&mut self) -> bool {
        let Some(keys) = self.shared.journal.bodies().keys() else { return true };
        self.body_key = keys.current();
        self.body_key.is_some()
    }

    /// Whether the call may not go on because its bodies could not be stored.
    pub(crate) fn is_refused_without_key(&self) -> bool {
        let keys = self.shared.journal.bodies().keys();
        self.unkeyed && keys.is_some_and(|keys| keys.on_failure() == OnKeyFailure::Refuse)
    }

    /// A rule that decides at the answer may take back that bodies are stored; it cannot bring back what is gone.
    pub(crate) fn restrict_storage(&mut self, storage: &BodyStorage) {
        if self.stores() && !matches!(storage, BodyStorage::Full { .. }) {
            self.store_bodies(storage);
        }
    }

    /// Whether bodies are stored.
    fn stores(&self) -> bool {
        matches!(self.record.storage.mode, BodyMode::Full | BodyMode::Redacted)
    }

    fn feed(&self, side: Side, form: Form) -> Option<Feed> {
        let redaction = || self.redaction.clone().map(|redaction| (redaction, form));
        self.stores().then(|| self.shared.stores.body(self.call, side, self.body_key.clone(), redaction()))
    }

    /// Records that this call is about to be sent upstream.
    pub(crate) fn intent(&mut self, intent: Intent) -> Option<Ack> {
        Some(self.slot.as_ref()?.intent(&self.run, intent))
    }

    /// A block that no rule gave a reason for gets the refusal's own.
    pub(crate) fn note_refusal(&mut self, refusal: &Refusal) {
        let verdict = &mut self.record.verdict;
        if verdict.action == VerdictAction::Block && verdict.reason.is_none() {
            verdict.reason = Some(refusal.reason.code().into());
        }
    }

    /// A control blocks the call.
    pub(crate) fn block_by(&mut self, control: Option<&Control>, code: &str) {
        let verdict = &mut self.record.verdict;
        verdict.action = VerdictAction::Block;
        verdict.reason = Some(code.into());
        let Some(control) = control else { return };
        self.record.policy.rule = Some(control.id().as_str().into());
        self.classify(control.threat(), control.severity());
    }

    fn classify(&mut self, threat: &[ThreatId], severity: Option<Severity>) {
        if !threat.is_empty() || severity.is_some() {
            self.record.threat = Some(Arc::new(Threat {
                ids: threat.iter().map(|id| id.as_str().into()).collect(),
                severity: severity.map(|severity| severity.as_str().into()),
            }));
        }
    }

    /// Writes the policy's decision into the record.
    pub(crate) fn decide(&mut self, decision: &Decision<'_>) {
        let host = decision.rule.and_then(|rule| self.contents.leads_to(&self.snapshot.policy, rule));
        self.record.destination = host.map(|host| text::name(&host).into());
        self.record.policy.rule = decision.rule.map(|rule| rule.as_str().into());
        self.record.verdict.action = match decision.verdict {
            Verdict::Allow => VerdictAction::Allow,
            // Only requests wait for people; whoever holds one says so.
            Verdict::Block | Verdict::Hold => VerdictAction::Block,
        };
        self.record.verdict.reason = decision.reason.map(|reason| reason.as_str().into());
        self.classify(decision.threat, decision.severity);
    }

    /// The verdict on values is a block, unless a rule has blocked already.
    pub(crate) fn block(&mut self, objection: Objection) {
        let code = objection.reason;
        self.detail = objection.detail;
        if self.record.verdict.action == VerdictAction::Block {
            return;
        }
        if let Some(ruled) = objection.ruled {
            self.record.destination = ruled.destination.as_deref().map(|host| text::name(host).into());
            if let Some(detecting) = &mut self.detecting {
                detecting.told(&ruled.classes);
            }
            self.record.policy.rule = ruled.rule.clone().map(Into::into);
            self.record.verdict.action = VerdictAction::Block;
            self.record.verdict.reason = ruled.code.clone().map(Into::into);
            if !ruled.threat.is_empty() || ruled.severity.is_some() {
                self.record.threat = Some(Arc::new(Threat {
                    ids: ruled.threat.clone(),
                    severity: ruled.severity.map(|severity| severity.as_str().into()),
                }));
            }
            self.restrict_storage(&ruled.storage);
            self.ruled = Some(ruled);
            return;
        }
        self.record.verdict.action = VerdictAction::Block;
        self.record.verdict.reason = Some(code.code().into());
        self.record.policy.rule = None;
    }

    /// Takes note of a step that was not done as configured.
    pub(crate) fn downgrade(&mut self, code: Reason) {
        self.record.downgrades.push(Downgrade { code, detail: None });
    }

    /// Ready when the response's stored body has room for more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let feed = self.response.as_ref().and_then(|response| response.feed.as_ref());
        feed.map_or(Poll::Ready(()), |feed| feed.poll_room(cx))
    }

    /// Something of the call may reach the upstream from here on.
    pub(crate) fn sends(&mut self) {
        self.sent = true;
        if let Some(taken) = &mut self.taken {
            taken.sends();
        }
    }

    /// A piece of an answer leaves as it comes.
    pub(crate) fn leaves(&mut self, piece: &Bytes) {
        if let Some(taken) = &mut self.taken {
            taken.hear(piece, &self.shared.held);
        }
    }

    /// What the caller is told of a value that was refused.
    pub(crate) fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What the caller is told when the answer ends because of `code`.
    pub(crate) fn refusal(&self, code: Reason) -> Refusal {
        match self.ruled.as_ref().filter(|ruled| ruled.reason() == code) {
            Some(ruled) => ruled.refusal(),
            None => Refusal::because(code, self.detail.as_deref()),
        }
    }
}

/// Names that were left out or cut were not seen, so no rule can have judged them.
fn evaluation(evaluated: &dialect::Evaluated, tools: &dialect::Names, names: &[Option<&str>]) -> Evaluation {
    let mut texts = tools.items.iter().map(String::as_str).chain(names.iter().flatten().copied());
    let unseen = tools.more > 0 || texts.any(|name| name.ends_with('…'));
    if unseen || evaluated.defect.is_some() || evaluated.skipped > 0 {
        Evaluation::NotEvaluated
    } else {
        Evaluation::Evaluated
    }
}

fn evaluated(from: &dialect::Evaluated, looked: Looked) -> Evaluated {
    Evaluated {
        bytes: from.bytes,
        defect: from.defect.map(defect),
        events: from.events,
        skipped: from.skipped,
        state: looked,
    }
}

/// A wire defect as a reason of ours.
fn defect(defect: estoppel_wire::Defect) -> Reason {
    use estoppel_wire::Defect;
    match defect {
        Defect::JsonMalformed => Reason::JsonMalformed,
        Defect::InvalidUtf8 => Reason::InvalidUtf8,
        Defect::LoneSurrogate => Reason::LoneSurrogate,
        Defect::DepthMax => Reason::DepthMax,
        Defect::KeyBytesMax => Reason::KeyBytesMax,
        Defect::NumberBytesMax => Reason::NumberBytesMax,
        Defect::DuplicateKey => Reason::DuplicateKey,
        Defect::EventBytesMax => Reason::EventBytesMax,
        Defect::Truncated => Reason::Truncated,
        Defect::EncodingUnsupported => Reason::EncodingUnsupported,
        Defect::NotEvaluated => Reason::ContentUnknown,
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Framing of a response by its headers, and whether it is content-coded.
pub(crate) fn framing(headers: &HeaderMap) -> (Framing, bool) {
    let is_coded =
        |value: &http::HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let coded = headers.get_all(http::header::CONTENT_ENCODING).iter().any(is_coded);
    if headers.get_all(http::header::CONTENT_TYPE).iter().nth(1).is_some() {
        return (Framing::Opaque, coded); // readers take either
    }
    let kind = headers.get(http::header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let essence = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let framing = if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Framing::Sse
    } else if essence.eq_ignore_ascii_case(b"application/json")
        || essence.to_ascii_lowercase().ends_with(b"+json")
    {
        Framing::Json
    } else {
        Framing::Opaque
    };
    (framing, coded)
}
