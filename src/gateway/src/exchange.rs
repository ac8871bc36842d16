//! One call's record in the making. It is the finish guard: however the call ends, also by being dropped, exactly one
//! record goes to the journal. Dropping it pushes the record and formats nothing.

mod again;
mod detected;
mod held;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::capture::StreamTree;
use estoppel_evidence::entry::{
    BodyMode, CallRecord, Captured, ClientEnd, Downgrade, Evaluated, Facts, Intent, Looked, Outcome, Storage,
    StreamRecord, Threat, Usage, VerdictAction,
};
use estoppel_evidence::{CallId, Reason, text};
use estoppel_journal::{Ack, RunHandle, Slot};
use estoppel_policy::{
    BodyStorage, Call, Content, Control, Decision, Disconnect, Evaluation, Release, RequestFacts,
    ResponseFacts, Severity, ThreatId, Tool, ToolLists, Verdict,
};
use estoppel_wire::dialect::mcp::{Message, Messages};
use estoppel_wire::dialect::{self, Dialect, Framing, MarkKind, ResponseScan};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

pub(crate) use self::again::Second;
use self::held::HeldBack;
pub(crate) use self::held::{OBSERVED_ANSWER, OBSERVED_REQUEST};
use crate::body::Upload;
use crate::call::InFlight;
use crate::controls::{Asks, Ending, Held};
use crate::detecting::Detecting;
use crate::judging::{self, Asked, Objection, Recorded, RouteTerms, mcp};
use crate::mcp::agreement;
use crate::mcp::lists::Caller;
use crate::reask::Origin;
use crate::respond::Refusal;
use crate::rules::{Asking, CallRules, Contents, Ruled};
use crate::serve::Shared;
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
    /// Something of it may have reached the upstream.
    pub(crate) sent: bool,
    /// What the upstream said of tokens is not all in the record.
    usage_unread: bool,
    response: Option<Box<Response>>,
    /// What the request asked its answer to be, until the answer comes.
    asked: Option<Box<Asked>>,
    /// What of the request was held against contracts.
    request_contracts: judging::RequestJudged,
    /// What the request's receipt names.
    contracts_named: Vec<Contract>,
    /// The requests to an MCP server, until the answer comes.
    asked_server: Option<Box<mcp::Requests>>,
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
    /// What of the request rules look into.
    contents: Arc<Contents>,
    /// Whether the answer's head was given to the client.
    given: bool,
    /// Set when the client has left and the answer is read on; there where the policy says so.
    left: Option<Arc<AtomicBool>>,
    redaction: Option<Redaction>,
    detecting: Option<Box<Detecting>>,
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
            sent: false,
            usage_unread: false,
            response: None,
            asked: None,
            request_contracts: judging::RequestJudged::default(),
            contracts_named: Vec::new(),
            asked_server: None,
            server_calls: None,
            calls_judged: false,
            detail: None,
            ruled: None,
            approved: None,
            contents: Arc::default(),
            given: false,
            left: None,
            redaction: None,
            detecting: None,
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
        self.redaction = None;
        self.record.storage = match storage {
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
    }

    /// A rule that decides at the answer may take back that bodies are stored; it cannot bring back what is gone.
    pub(crate) fn restrict_storage(&mut self, storage: &BodyStorage) {
        if self.stores() && !matches!(storage, BodyStorage::Full { .. }) {
            self.shared.stores.forget(self.call);
            self.store_bodies(storage);
        }
    }

    /// Whether bodies are stored.
    fn stores(&self) -> bool {
        matches!(self.record.storage.mode, BodyMode::Full | BodyMode::Redacted)
    }

    fn feed(&self, side: Side, form: Form) -> Option<Feed> {
        let redaction = || self.redaction.clone().map(|redaction| (redaction, form));
        self.stores().then(|| self.shared.stores.body(self.call, side, redaction()))
    }

    /// Where the request body is stored, if it is.
    pub(crate) fn request_feed(&self) -> Option<Feed> {
        self.feed(Side::Request, Form::Json)
    }

    /// Takes note of what was read in a request body, before it is judged.
    pub(crate) fn request_read(&mut self, facts: dialect::RequestFacts) {
        self.request = Request::Held { hash: Sha256::new(), bytes: 0, facts: Some(Box::new(facts)) };
    }

    /// Takes note of a request body that was read whole, once it is known how it is captured.
    pub(crate) fn request_held(&mut self, chunks: &[Bytes]) {
        let judges = self.route.as_ref().is_some_and(|route| route.judging.is_some());
        if let Request::Held { facts: Some(facts), .. } = &self.request
            && judges
        {
            self.asked = Some(Box::new(Asked::new(&facts.contracts, chunks)));
        }
        let hashes = self.hashes();
        let feed = self.request_feed();
        let Request::Held { hash, bytes, .. } = &mut self.request else { return };
        for chunk in chunks {
            *bytes += chunk.len() as u64;
            if hashes {
                hash.update(chunk);
            }
            if let Some(feed) = &feed {
                feed.push(chunk.clone());
            }
        }
    }

    /// SHA-256 of a request body that was read whole; none where nothing is kept of bodies.
    pub(crate) fn request_digest(&self) -> Option<[u8; 32]> {
        match &self.request {
            Request::Held { hash, .. } if self.hashes() => Some(hash.clone().finalize().into()),
            Request::Held { .. } | Request::Sent(_) => None,
        }
    }

    /// The tool that a request calls, or the one that it offers.
    pub(crate) fn request_tool(&self) -> Option<&str> {
        let facts = self.request.facts()?;
        let offered = match facts.tools.items.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        facts.tool_called.as_deref().or(offered)
    }

    /// What the request is called.
    pub(crate) fn request_operation(&self) -> &str {
        match self.request.facts() {
            Some(facts) if !self.is_listed() => &facts.operation,
            _ => &self.record.operation,
        }
    }

    /// The request body will be read while it is sent.
    pub(crate) fn request_sent(&mut self, upload: Arc<Upload>) {
        self.request = Request::Sent(upload);
    }

    /// What is known of the request, for the policy.
    pub(crate) fn judge_request<R>(&self, judge: impl FnOnce(&RequestFacts<'_>) -> R) -> R {
        let facts = self.request.facts();
        let tools = self.contents.tools(facts);
        judge(&self.request_facts(facts, &tools))
    }

    /// What it says of the tokens that it asks for.
    pub(crate) fn asks(&self) -> Asks {
        match &self.request {
            Request::Held { bytes, facts, .. } => {
                let output_max = facts.as_ref().and_then(|facts| facts.output_max);
                Asks { output_max, request_bytes: *bytes }
            }
            Request::Sent(_) => Asks { output_max: None, request_bytes: 0 },
        }
    }

    fn request_facts<'a>(
        &'a self,
        facts: Option<&'a dialect::RequestFacts>,
        tools: &'a [Tool<'a>],
    ) -> RequestFacts<'a> {
        RequestFacts {
            route: self.route.as_ref().map_or("", |route| &route.name),
            operation: Some(match facts {
                Some(facts) if !self.is_listed() => &facts.operation,
                _ => &self.record.operation,
            }),
            dialect: self.record.dialect,
            method: Some(&self.record.request.method),
            identity: self.record.identity.subject.as_deref(),
            tenant: None,
            model: facts.and_then(|facts| facts.model.as_deref()),
            approved: self.approved.as_deref(),
            tools,
            body: self.contents.body.as_ref(),
            evaluation: match facts {
                _ if self.request_judged => Evaluation::Evaluated, // or it is refused for its contract
                None if self.request_unread => Evaluation::NotEvaluated,
                None => Evaluation::Evaluated,
                Some(facts) => {
                    let names = [facts.model.as_deref(), facts.tool_called.as_deref()];
                    evaluation(&facts.evaluated, &facts.tools, &names)
                }
            },
        }
    }

    /// Whether the policy names what the call does.
    fn is_listed(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.listed(self.dialect).is_some())
    }

    /// Judges a response that is not read, before any of it is given.
    pub(crate) fn judge_unread<R>(&mut self, judge: impl FnOnce(&ResponseFacts<'_>) -> R) -> R {
        let request = self.request.facts();
        let tools = self.contents.tools(request);
        judge(&ResponseFacts {
            request: self.request_facts(request, &tools),
            evaluation: Evaluation::NotEvaluated,
            ..ResponseFacts::default()
        })
    }

    /// The response is refused because it was not read.
    pub(crate) fn response_unread(&mut self) {
        if let Some(response) = &mut self.response {
            response.looked = Looked::NotEvaluated;
            response.unread = true;
        }
    }

    /// Judges the response as far as it has been read.
    pub(crate) fn judge_response<R>(&mut self, judge: impl FnOnce(&ResponseFacts<'_>) -> R) -> Option<R> {
        self.end_scan();
        let facts = self.response.as_ref()?.facts.as_ref()?;
        let request = self.request.facts();
        let unread = Content::unread();
        let is_foreign = |name: &String| facts.foreign_called.contains(name);
        let call = |name| self.call(is_foreign(name), false, &unread);
        let names = facts.tools_called.items.iter();
        let called: Vec<Tool<'_>> = names.map(|name| Tool { name, call: call(name) }).collect();
        let request_tools = self.contents.tools(request);
        let judged = judge(&ResponseFacts {
            request: self.request_facts(request, &request_tools),
            model_served: facts.model.as_deref(),
            tools_called: &called,
            said: None,
            evaluation: if self.judges_body() {
                Evaluation::Evaluated
            } else {
                evaluation(&facts.evaluated, &facts.tools_called, &[facts.model.as_deref()])
            },
        });
        Some(judged)
    }

    /// Ends the scan of the response and says what it found.
    fn end_scan(&mut self) {
        if let Some(response) = &mut self.response
            && response.facts.is_none()
        {
            response.facts = Some(response.scan.finish());
        }
    }

    /// Whether the upstream ended a stream without what its dialect ends one with, and without saying why it stopped.
    pub(crate) fn stream_is_cut(&mut self) -> bool {
        self.end_scan();
        let facts = self.response.as_ref().and_then(|response| response.facts.as_ref());
        facts.is_some_and(judging::is_cut)
    }

    /// Why the request body could not be read to its end, if that is so.
    pub(crate) fn upload_error(&self) -> Option<Reason> {
        match &self.request {
            Request::Held { .. } => None,
            Request::Sent(upload) => upload.error().map(crate::body::ReadError::reason),
        }
    }

    /// Id of the JSON-RPC request, as JSON text.
    pub(crate) fn rpc_id(&self) -> Option<String> {
        let Request::Held { facts: Some(facts), .. } = &self.request else { return None };
        let id = facts.rpc_id.as_deref()?;
        if facts.rpc_id_is_text { serde_json::to_string(id).ok() } else { Some(id.to_owned()) }
    }

    /// The run's id as a header value.
    pub(crate) fn run_header(&self) -> Option<http::HeaderValue> {
        http::HeaderValue::try_from(self.run.id().to_string()).ok()
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

    /// A response head has come.
    ///
    /// # Errors
    /// The answer is to be held against a contract, and cannot be.
    pub(crate) fn response_head(
        &mut self,
        head: &http::response::Parts,
        framing: Framing,
        coded: bool,
    ) -> Result<(), Objection> {
        let status = head.status;
        let judged = self.held_back(head, framing, coded)?;
        let looked = match framing {
            Framing::Json | Framing::Sse if !coded => Looked::Recognized,
            _ => Looked::NotEvaluated,
        };
        if coded {
            self.downgrade(Reason::EncodingUnsupported);
        }
        let framing = if coded { Framing::Opaque } else { framing };
        let notarized = framing == Framing::Sse && !self.shared.journal.is_off();
        let stream = notarized.then(|| Stream {
            tree: self.run.capture().call(self.record.call).stream(),
            first_us: None,
            last_us: 0,
        });
        let form = if framing == Framing::Sse { Form::Sse } else { Form::Json };
        let limits = self.route.as_ref().map(|route| route.settings.limits).unwrap_or_default();
        let event_bytes_max = usize::try_from(limits.event_bytes_max).unwrap_or(usize::MAX);
        // A path that no dialect is known for may still answer in JSON.
        let dialect = if self.dialect == Dialect::Bytes { Dialect::Json } else { self.dialect };
        self.record.time.upstream_us = Some(self.elapsed_us());
        self.detect_head(framing, coded);
        self.response = Some(Box::new(Response {
            status: status.as_u16(),
            framing,
            hash: Sha256::new(),
            feed: self.feed(Side::Upstream, form),
            bytes: 0,
            scan: match judged.as_ref().and_then(|judged| judged.model()) {
                Some(_) => ResponseScan::new(dialect, framing).event_bytes_max(event_bytes_max).with_parts(),
                None => ResponseScan::new(dialect, framing).event_bytes_max(event_bytes_max),
            },
            facts: None,
            looked,
            unread: false,
            seen: (0, false, true),
            marks: Vec::new(),
            stream,
            departed: None,
            tail: Vec::new(),
            tail_marks: Vec::new(),
            judged,
        }));
        Ok(())
    }

    /// Judges an answer that was read whole. Gives its body, with repaired values in their places.
    pub(crate) fn judge_body(&mut self, body: Vec<Bytes>) -> Result<Vec<Bytes>, Objection> {
        let Some(response) = self.response.as_mut() else { return Ok(body) };
        let Some(judged) = response.judged.as_mut().filter(|judged| !judged.holds) else { return Ok(body) };
        if let Some(answers) = judged.answers_mut() {
            let found = if body.is_empty() { Ok(None) } else { answers.judge(&body.concat()) };
            let filtered = found.or_else(|objection| judged.observed_or(objection).map(|()| None))?;
            return Ok(match filtered {
                Some(filtered) => self.replace_body(filtered.into()),
                None => body,
            });
        }
        let Some(stream) = judged.model_mut() else { return Ok(body) };
        if let Some(model) = response.facts.as_ref().and_then(|facts| facts.model.as_deref()) {
            stream.judge_mut().served(model);
        }
        let whole: Bytes = match body.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let facts = response.facts.as_ref();
        let left = match judging::judge_whole(stream, whole.clone(), &response.scan, facts) {
            Ok(left) => left,
            Err(objection) => return judged.observed_or(objection).map(|()| body),
        };
        if left == whole {
            return Ok(body);
        }
        Ok(self.replace_body(left))
    }

    /// Gives the client `body` instead of the upstream's.
    fn replace_body(&mut self, body: Bytes) -> Vec<Bytes> {
        let sha256 = self.hashes().then(|| Sha256::digest(&body).into());
        let judged = self.response.as_mut().and_then(|response| response.judged.as_mut());
        if let Some(judged) = judged {
            judged.replaced = Some(Captured { bytes: body.len() as u64, sha256, stored: None });
        }
        if let Some(feed) = self.stores().then(|| self.feed(Side::Client, Form::Json)).flatten() {
            feed.push(body.clone());
        }
        vec![body]
    }

    /// Whether the answer is a stream whose values are judged, so that its length may change.
    pub(crate) fn may_change(&self) -> bool {
        self.response.as_ref().is_some_and(|response| response.holds_back())
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

    /// Bytes of the response so far, held ones included.
    pub(crate) fn response_bytes(&self) -> u64 {
        self.response.as_ref().map_or(0, |response| match &response.judged {
            Some(judged) if judged.apart => judged.bytes,
            _ => response.bytes + response.tail.iter().map(|piece| piece.len() as u64).sum::<u64>(),
        })
    }

    /// Looks at bytes of the response that came at `now_us`. Returns those that may leave now; the rest, from the dialect's own terminator on,
    /// is held until the receipt is durable.
    ///
    /// # Errors
    /// The policy blocks what these bytes of a stream say; none of them may leave.
    pub(crate) fn response_data(&mut self, data: Bytes, now_us: u64) -> Result<Bytes, Objection> {
        self.hear(&data);
        let hashes = self.hashes();
        let Some(response) = self.response.as_mut() else { return Ok(data) };
        let mut ends = std::mem::take(&mut response.marks);
        response.scan.push(&data, &mut |mark| ends.push(mark));
        if !ends.is_empty() {
            self.judge_stream()?;
        }
        if let Some(response) = self.response.as_deref_mut().filter(|response| response.holds_back()) {
            let left = response.hold_back(&data, &ends, hashes, now_us);
            ends.clear();
            response.marks = ends;
            let left = left?;
            response.judged.as_mut().map_or(Ok(()), |judged| judged.make_room(&self.shared.held))?;
            return Ok(left);
        }
        let Some(response) = self.response.as_mut() else { return Ok(data) };
        response.watch(&data, &ends, hashes)?;
        let holding = !response.tail.is_empty();
        let (mut start, mut hold_from) = (0, holding.then_some(0));
        let piece = response.tail.len();
        for mark in ends.drain(..) {
            if mark.kind == MarkKind::Terminator && hold_from.is_none() {
                hold_from = Some(start);
            }
            match (hold_from, &mut response.stream) {
                (Some(from), _) => response.tail_marks.push(Mark { piece, end: mark.end - from }),
                (None, Some(stream)) => {
                    stream.tree.update(&data[start..mark.end]);
                    stream.tree.end_unit();
                }
                (None, None) => {}
            }
            start = mark.end;
        }
        response.marks = ends;
        if let Some(stream) = &mut response.stream {
            stream.first_us.get_or_insert(now_us);
            stream.last_us = now_us;
            if hold_from.is_none() {
                stream.tree.update(&data[start..]);
            }
        }
        let (now_part, held) = match hold_from {
            None => (data, None),
            Some(from) => (data.slice(..from), Some(data.slice(from..))),
        };
        response.pass(&now_part, hashes);
        response.tail.extend(held);
        Ok(now_part)
    }

    /// The stream is over: what of it belongs to no event, if nothing is held back any more.
    pub(crate) fn end_held_back(&mut self) -> Result<Bytes, Objection> {
        let hashes = self.hashes();
        match self.response.as_deref_mut() {
            Some(response) => response.end_held_back(hashes),
            None => Ok(Bytes::new()),
        }
    }

    /// What a client still gets of a judged answer before that is broken because of `code`: what had passed, and in a stream
    /// of events the reason.
    pub(crate) fn last_words(&mut self, code: Reason) -> Bytes {
        if self.has_left() {
            return Bytes::new();
        }
        let rpc_id = self.rpc_id();
        let refusal = self.refusal(code);
        let (dialect, call, hashes) = (self.dialect, self.call, self.hashes());
        let holds_events = self.holds_events();
        let Some(response) = self.response.as_deref_mut() else { return Bytes::new() };
        if holds_events && !response.holds_back() {
            let event = refusal.event(dialect, call, rpc_id.as_deref()).unwrap_or_default();
            response.say(event.clone(), hashes);
            return event;
        }
        if !response.holds_back() {
            return Bytes::new();
        }
        if response.framing == Framing::Sse
            && let Some(event) = refusal.event(dialect, call, rpc_id.as_deref())
        {
            response.say(event, hashes);
        }
        response.take_ready()
    }

    /// Whether a client that is still there waits for events that are held back.
    pub(crate) fn makes_wait(&self) -> bool {
        !self.has_left() && self.response.as_ref().is_some_and(|response| response.makes_wait())
    }

    /// What such a client is told, if its dialect has words for that.
    pub(crate) fn keep_alive(&mut self) -> Option<Bytes> {
        let (dialect, hashes) = (self.dialect, self.hashes());
        let response = self.response.as_deref_mut()?;
        let said = crate::respond::keepalive(dialect, response.has_opened())?;
        Some(response.keep_alive(said, hashes))
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

    /// Reads what rules look into in a request that came whole.
    pub(crate) fn look_into(&mut self, coded: bool, chunks: &[Bytes]) {
        let needs = self.route.as_ref().map(|route| route.needs).unwrap_or_default();
        let facts = self.request.facts();
        let detecting = self.detecting.as_deref();
        self.contents = Arc::new(Contents::read(needs, detecting, self.dialect, facts, coded, chunks));
    }

    /// The request's body is not read, though rules look into it.
    pub(crate) fn not_looked_into(&mut self) {
        self.contents = Arc::new(Contents::unread());
    }

    /// What rules are told of a call in the answer before its arguments are whole.
    fn call<'a>(&self, foreign: bool, too_late: bool, unread: &'a Content) -> Call<'a> {
        let needs = self.route.as_ref().is_some_and(|route| route.needs.calls);
        let holds = self.response.as_ref().is_some_and(|response| response.judges_calls());
        match (needs, holds && !foreign && !too_late) {
            (false, _) => Call::Offered, // no rule asks
            (true, true) => Call::ToCome,
            (true, false) => Call::With(unread),
        }
    }

    /// What asks the rules about each call in the answer, if they look into any.
    fn call_rules(&self) -> Option<CallRules> {
        let route = self.route.as_ref().filter(|route| route.needs.calls)?;
        let facts = self.request.facts();
        let request = self.request_facts(facts, &[]);
        let owned = |fact: Option<&str>| fact.map(Into::into);
        let asking = Asking {
            route: route.name.as_ref().into(),
            operation: request.operation.unwrap_or_default().into(),
            dialect: self.record.dialect,
            method: request.method.unwrap_or_default().into(),
            identity: owned(request.identity),
            tenant: owned(request.tenant),
            model: owned(request.model),
            approved: owned(request.approved),
        };
        let (policy, contents) = (self.snapshot.policy.clone(), self.contents.clone());
        Some(CallRules::new(policy, route.needs, asking, contents, route.detectors.clone()))
    }

    /// Holds a request against the policy's contracts for it.
    ///
    /// # Errors
    /// It does not keep to it, or cannot be held against it.
    pub(crate) fn judge_request_body(
        &mut self,
        head: &http::request::Parts,
        coded: bool,
        chunks: &[Bytes],
    ) -> Result<(), Objection> {
        if self.dialect == Dialect::Mcp && !coded {
            let body = chunks.concat();
            if let Ok(messages) = Messages::read(&body) {
                agreement::check(&head.headers, &messages, &body)?;
            }
        }
        let Some(terms) = self.route.as_ref().and_then(|route| route.judging.clone()) else {
            if self.awaits_list(head) && !coded {
                self.judge_server_calls(&RouteTerms::none(), head, coded, chunks)?;
            }
            return Ok(());
        };
        if self.dialect == Dialect::Mcp {
            let judged = self.judge_server_calls(&terms, head, coded, chunks);
            self.unless_observed(&terms, judged.map_err(Objection::of_request), false)?;
        }
        let method = self.record.request.method.clone();
        let sent = judging::Sent { method: &method, headers: &head.headers, coded, chunks };
        let key = self.shared.schemas.key;
        let judged = terms.judge_request(self.dialect, &sent, key, &mut self.request_contracts);
        let judged = judged.and_then(|()| match &self.asked {
            Some(asked) => terms.check_asked(asked, &self.shared.schemas),
            None => Ok(()),
        });
        self.unless_observed(&terms, judged.map_err(Objection::of_request), false)
    }

    /// Whether a list of tools may be in the answer that has to be filtered: to this request, or in a stream that is taken up
    /// again.
    fn awaits_list(&self, head: &http::request::Parts) -> bool {
        let Request::Held { facts: Some(facts), .. } = &self.request else { return false };
        let filters = self.route.as_ref().is_some_and(|route| route.settings.tool_lists == ToolLists::Filter);
        let asks = matches!(facts.operation.as_str(), "mcp.tools/list" | "mcp.batch");
        let returns = head.method == http::Method::GET && head.headers.contains_key("last-event-id");
        self.dialect == Dialect::Mcp && filters && (asks || returns)
    }

    /// The policy's word on one message of several in a request to an MCP server.
    pub(crate) fn judge_message<R>(
        &self,
        message: &Message,
        judge: impl FnOnce(&RequestFacts<'_>) -> R,
    ) -> R {
        let operation = message.method.as_deref().map(dialect::mcp::operation);
        let is_call = message.method.as_deref() == Some(dialect::mcp::TOOLS_CALL);
        let name = message.name.as_deref().filter(|_| is_call);
        let tools = name.map(|name| self.contents.called(name)).unwrap_or_default();
        judge(&RequestFacts {
            operation: operation.as_deref(),
            evaluation: Evaluation::Evaluated,
            ..self.request_facts(None, &tools)
        })
    }

    /// Holds the calls in a request to an MCP server against what is known of their tools.
    fn judge_server_calls(
        &mut self,
        terms: &Arc<RouteTerms>,
        head: &http::request::Parts,
        coded: bool,
        chunks: &[Bytes],
    ) -> Result<(), Objection> {
        let Some(route) = self.route.as_ref() else { return Ok(()) };
        let requests = self.asked_server.insert(Box::new(mcp::Requests::new(mcp::Server {
            route: route.name.clone(),
            terms: terms.clone(),
            judges: route.judging.is_some(),
            caller: (route.settings.tool_lists == ToolLists::Filter && !terms.forwards()).then(|| Caller {
                policy: self.snapshot.policy.clone(),
                route: route.name.clone(),
                identity: self.record.identity.subject.as_deref().map(Into::into),
            }),
            schemas: self.shared.schemas.clone(),
            pins: route.pins.clone(),
            sessions: route.sessions.clone(),
            session: crate::mcp::sessions::session(&head.headers),
            path: route.target(head).map_or_else(Box::default, |target| target.path().into()),
        })));
        if chunks.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        if coded {
            return Err(Objection::new(Reason::ContractUnsupported, "the request has a content coding"));
        }
        let judged = requests.judge(&chunks.concat());
        self.calls_judged = requests.has_judged();
        self.server_calls = requests.record();
        judged
    }

    /// Where findings are only recorded they are.
    fn unless_observed(
        &mut self,
        terms: &RouteTerms,
        judged: Result<(), Objection>,
        in_answer: bool,
    ) -> Result<(), Objection> {
        judged.or_else(|objection| match terms.release {
            Release::Observe => {
                self.record.downgrades.push(held::observed(objection.reason, in_answer));
                Ok(())
            }
            Release::HoldStructured | Release::HoldAll | Release::StreamAndCut => Err(objection),
        })
    }

    /// Judges a stream of a model's when it has said something new: a call of a tool, the model, something unreadable.
    fn judge_stream(&mut self) -> Result<(), Objection> {
        if matches!(self.dialect, Dialect::Json | Dialect::Bytes) {
            return Ok(());
        }
        let Some(response) = &mut self.response else { return Ok(()) };
        let state = {
            let so_far = response.scan.so_far();
            (so_far.tools_called.len(), so_far.model.is_some(), so_far.read)
        };
        let before = std::mem::replace(&mut response.seen, state);
        if before == state {
            return Ok(());
        }
        response.tell_model();
        let (_, had_model, _) = before;
        let policy = self.snapshot.policy.clone();
        let decision = {
            let Some(response) = &self.response else { return Ok(()) };
            let so_far = response.scan.so_far();
            let request = self.request.facts();
            let offered = self.contents.tools(request);
            let unread = Content::unread();
            // Calls that were judged before it was known which model makes them.
            let too_late = !had_model && so_far.model.is_some() && response.has_judged_values();
            let called: Vec<Tool<'_>> = so_far
                .tools_called
                .map(|(name, foreign)| Tool { name, call: self.call(foreign, too_late, &unread) })
                .collect();
            let mut names = called.iter().map(|tool| tool.name).chain(so_far.model);
            let cut = names.any(|name| name.ends_with('…'));
            let evaluation =
                if so_far.read && !cut { Evaluation::Evaluated } else { Evaluation::NotEvaluated };
            policy.response(&ResponseFacts {
                request: self.request_facts(request, &offered),
                model_served: so_far.model,
                tools_called: &called,
                said: None,
                evaluation,
            })
        };
        if decision.verdict.lets_go() {
            return Ok(());
        }
        self.decide(&decision);
        self.restrict_storage(decision.body_storage);
        let code = decision.reason.and_then(|reason| Reason::parse(reason.as_str()));
        Err(code.unwrap_or(Reason::PolicyBlock).into())
    }

    /// Whether the dialect's own terminator has been seen, so that what follows is held.
    pub(crate) fn holds_tail(&self) -> bool {
        self.response.as_ref().is_some_and(|response| !response.tail.is_empty())
    }

    /// Takes the held bytes into the record as about to leave, and gives them out.
    fn release_tail(&mut self) -> Vec<Bytes> {
        let hashes = self.hashes();
        let Some(response) = self.response.as_mut() else { return Vec::new() };
        let tail = std::mem::take(&mut response.tail);
        let marks = std::mem::take(&mut response.tail_marks);
        for (piece, data) in tail.iter().enumerate() {
            response.pass(data, hashes);
            let Some(stream) = &mut response.stream else { continue };
            let mut start = 0;
            for mark in marks.iter().filter(|mark| mark.piece == piece) {
                stream.tree.update(&data[start..mark.end]);
                stream.tree.end_unit();
                start = mark.end;
            }
            stream.tree.update(&data[start..]);
        }
        tail
    }

    /// The answer's head is given to the client now, unless it has left.
    pub(crate) fn give(&mut self) {
        self.given = !self.has_left();
        if !self.given {
            self.depart();
        }
    }

    /// What tells this call that its client has left, and how long it is read on then.
    pub(crate) fn follow(&mut self) -> Option<(Arc<AtomicBool>, Duration)> {
        let Disconnect::Drain { seconds, .. } = self.route.as_ref()?.settings.disconnect else { return None };
        let left = self.left.get_or_insert_default().clone();
        Some((left, Duration::from_secs(seconds)))
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed))
    }

    /// The client has left inside its answer: how long that is read on, if it is.
    pub(crate) fn leave(&mut self) -> Option<Duration> {
        if self.slot.is_none() || self.shared.cutting.load(Ordering::Relaxed) {
            return None;
        }
        let (left, time) = self.follow()?;
        left.store(true, Ordering::Relaxed);
        self.depart();
        Some(time)
    }

    /// Most bytes that may be read on, once the client has left.
    pub(crate) fn drain_bytes(&self) -> Option<u64> {
        match self.route.as_ref()?.settings.disconnect {
            Disconnect::Drain { bytes, .. } if self.has_left() => Some(bytes),
            _ => None,
        }
    }

    /// From here on the client gets nothing.
    fn depart(&mut self) {
        let (hashes, given) = (self.hashes(), self.given);
        let Some(response) = self.response.as_mut().filter(|response| response.departed.is_none()) else {
            return;
        };
        let stream = response.stream.take();
        response.departed = Some(Box::new(if given {
            let sha256 = hashes.then(|| response.hash.clone().finalize().into());
            (Captured { bytes: response.bytes, sha256, stored: None }, stream)
        } else {
            (Captured::default(), None)
        }));
    }

    /// The upstream's answer is complete: the record goes to the journal. What is held may leave when the
    /// acknowledgement has come.
    pub(crate) fn complete(&mut self) -> (Vec<Bytes>, Option<Ack>) {
        let tail = self.release_tail();
        let ack = self.finish(ClientEnd::HandedOver, Reason::Ok, true, None);
        (tail, ack)
    }

    /// The answer that began cannot be completed.
    pub(crate) fn cut(&mut self, code: Reason) -> Option<Ack> {
        self.finish(ClientEnd::HandedOver, code, false, None)
    }

    /// An answer of ours takes the place of the upstream's.
    pub(crate) fn refuse(&mut self, code: Reason, status: StatusCode, body: &[u8]) -> Option<Ack> {
        drop(self.release_tail());
        if let Some(feed) = self.feed(Side::Client, Form::Json).filter(|_| !self.has_left()) {
            feed.push(Bytes::copy_from_slice(body));
        }
        let captured = Captured {
            bytes: body.len() as u64,
            sha256: self.hashes().then(|| Sha256::digest(body).into()),
            stored: None,
        };
        self.finish(ClientEnd::Refused, code, true, Some((status.as_u16(), captured)))
    }

    /// The gateway answers itself, and not to refuse.
    pub(crate) fn tell(&mut self, body: &[u8]) -> Option<Ack> {
        self.record.verdict.action = VerdictAction::Allow;
        if let Some(feed) = self.feed(Side::Client, Form::Json) {
            feed.push(Bytes::copy_from_slice(body));
        }
        let sha256 = self.hashes().then(|| Sha256::digest(body).into());
        let captured = Captured { bytes: body.len() as u64, sha256, stored: None };
        self.finish(ClientEnd::HandedOver, Reason::Ok, true, Some((StatusCode::OK.as_u16(), captured)))
    }

    /// What a 401 says of where tokens are given, if the route says so.
    pub(crate) fn challenge(&self, brought: bool) -> Option<http::HeaderValue> {
        Some(self.route.as_ref()?.protected_resource.as_ref()?.challenge(brought))
    }

    fn finish(
        &mut self,
        mut client: ClientEnd,
        mut code: Reason,
        mut complete: bool,
        mut ours: Option<(u16, Captured)>,
    ) -> Option<Ack> {
        let slot = self.slot.take()?;
        if self.has_left() {
            if !matches!(code, Reason::Ok | Reason::ClientGone)
                && self.record.verdict.action == VerdictAction::Allow
            {
                self.downgrade(code);
            }
            let stalled = self.stalled.load(Ordering::Relaxed);
            code = if stalled { Reason::ClientStalled } else { Reason::ClientGone };
            (client, complete, ours) = (ClientEnd::Gone, false, None);
        }
        if client == ClientEnd::Gone {
            self.depart();
            drop(self.release_tail());
        }
        let (total_us, stores) = (self.elapsed_us(), self.stores());
        self.finish_detecting();
        self.finish_request();
        let (upstream_code, contracts) = self.finish_response(ours);
        self.settle();
        let record = &mut self.record;
        record.time.total_us = total_us;
        let code = if code == Reason::Ok { upstream_code.unwrap_or(code) } else { code };
        record.outcome = Outcome { client, code, complete };
        self.shared.metrics.finished(self.route.as_deref(), record);
        let record = std::mem::replace(&mut self.record, self.shared.blank_record());
        if !stores && contracts.is_empty() {
            return Some(slot.commit(&self.run, record));
        }
        let (promise, ack) = slot.promise(self.run.clone());
        self.shared.stores.commit(promise, record, contracts);
        Some(ack)
    }

    /// Counts what the call used.
    fn settle(&mut self) {
        let Some(held) = self.held.take() else { return };
        let ending = Ending {
            sent: self.sent,
            status: self.record.response.upstream.map(|(status, _)| status),
            usage: if self.usage_unread { Usage::default() } else { self.record.facts.usage },
            dialect: self.dialect,
        };
        self.record.limits = held.settle(&ending, &self.shared.metrics);
    }

    fn finish_request(&mut self) {
        let (hashes, is_listed) = (self.hashes(), self.is_listed());
        let record = &mut self.record;
        let held = Request::Held { hash: Sha256::new(), bytes: 0, facts: None };
        let (hash, bytes, facts) = match std::mem::replace(&mut self.request, held) {
            Request::Held { hash, bytes, facts } => (hash, bytes, facts),
            Request::Sent(upload) => {
                let (hash, bytes, facts) = upload.take();
                (hash, bytes, facts.map(Box::new))
            }
        };
        record.request.body =
            Captured { bytes, sha256: hashes.then(|| hash.finalize().into()), stored: None };
        let enforced = self.request_contracts.record().or_else(|| self.server_calls.take());
        let judged = enforced.is_some() || self.calls_judged;
        if let Some((reference, stored)) = enforced {
            record.judged.get_or_insert_default().request = Some(reference);
            self.contracts_named.push(stored);
        }
        record.evaluated_request = match &facts {
            None if judged => Evaluated { bytes, state: Looked::Judged, ..Evaluated::default() },
            Some(facts) if judged => evaluated(&facts.evaluated, Looked::Judged),
            _ if bytes == 0 => Evaluated { state: Looked::Empty, ..Evaluated::default() },
            None => {
                Evaluated { bytes: 0, skipped: bytes, state: Looked::NotEvaluated, ..Evaluated::default() }
            }
            Some(facts) => evaluated(&facts.evaluated, Looked::Recognized),
        };
        let Some(facts) = facts else { return };
        if !is_listed {
            record.operation = facts.operation.into();
        }
        let out = &mut record.facts;
        out.model = facts.model.as_deref().map(name);
        out.stream = facts.stream;
        out.rpc_id = facts.rpc_id.as_deref().map(name);
        out.tools_offered = names(&facts.tools, &mut out.more);
        out.tools_called = facts.tool_called.as_deref().map(name).into_iter().collect();
    }

    /// Returns what the upstream's answer itself says went wrong, and contracts that have to be kept.
    fn finish_response(&mut self, ours: Option<(u16, Captured)>) -> (Option<Reason>, Vec<Contract>) {
        let hashes = self.hashes();
        let mut contracts = std::mem::take(&mut self.contracts_named);
        let record = &mut self.record;
        let Some(response) = self.response.take() else {
            let (status, captured) = ours.unwrap_or_default();
            record.response.client = captured;
            record.response.client_status = status;
            record.evaluated_response = Evaluated { state: Looked::Empty, ..Evaluated::default() };
            return (None, self.to_be_kept(contracts));
        };
        let Response {
            status: upstream_status,
            hash,
            bytes,
            mut scan,
            facts,
            looked,
            unread,
            stream,
            departed,
            judged,
            ..
        } = *response;
        let captured = Captured { bytes, sha256: hashes.then(|| hash.finalize().into()), stored: None };
        let (mut sent, mut captured, mut looked, mut bytes) = (captured, captured, looked, bytes);
        // Whether a body was held against a contract, and kept it.
        let mut of_body = None;
        if let Some(mut judged) = judged {
            of_body = judged.body_passed();
            if judged.apart {
                sent = Captured {
                    bytes: judged.bytes,
                    sha256: hashes.then(|| judged.hash.clone().finalize().into()),
                    stored: None,
                };
                bytes = judged.bytes;
            }
            captured = judged.replaced.take().unwrap_or(captured);
            if judged.has_judged() {
                looked = Looked::Judged;
            }
            contracts.extend(judged.record(record));
            let repaired = record.judged.as_ref().is_some_and(|judged| judged.repair.is_some());
            if repaired && record.verdict.action == VerdictAction::Allow {
                record.verdict.action = VerdictAction::Repair;
            }
        }
        record.response.upstream = Some((upstream_status, sent));
        let (part, stream) = departed.map_or((None, stream), |departed| (Some(departed.0), departed.1));
        let theirs = if part.is_some() && !self.given { 0 } else { upstream_status };
        let (status, client) = ours.unwrap_or((theirs, part.unwrap_or(captured)));
        record.response.client = client;
        record.response.client_status = status;
        let facts = facts.unwrap_or_else(|| scan.finish());
        record.evaluated_response = match bytes {
            0 if !unread => Evaluated { state: Looked::Empty, ..Evaluated::default() },
            bytes if looked == Looked::Judged && of_body.is_some() => {
                let defect = facts.evaluated.defect.filter(|_| of_body == Some(false)).map(defect);
                Evaluated { bytes, events: facts.evaluated.events, defect, skipped: 0, state: Looked::Judged }
            }
            bytes if looked == Looked::NotEvaluated => {
                Evaluated { skipped: bytes, state: Looked::NotEvaluated, ..Evaluated::default() }
            }
            _ => evaluated(&facts.evaluated, looked),
        };
        if let Some(stream) = stream {
            record.stream = Some(Box::new(StreamRecord {
                comments: facts.comments,
                events: facts.events,
                first_us: stream.first_us.unwrap_or_default(),
                last_us: stream.last_us,
                terminated: facts.terminated,
                tree: stream.tree.finish(),
            }));
        }
        fill_response_facts(&mut record.facts, &facts);
        self.usage_unread = facts.usage_unread;
        if facts.usage_unread {
            record.downgrades.push(Downgrade { code: Reason::NotEvaluated, detail: Some("usage".into()) });
        }
        (facts.error.is_some().then_some(Reason::UpstreamError), self.to_be_kept(contracts))
    }

    /// Contracts that are not known to be kept.
    fn to_be_kept(&self, mut contracts: Vec<Contract>) -> Vec<Contract> {
        let journal = &self.shared.journal;
        contracts.retain(|(digest, _)| !journal.is_off() && !journal.contracts().has(*digest));
        contracts
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.slot.is_none() {
            return;
        }
        let code = if self.shared.cutting.load(Ordering::Relaxed) {
            Reason::Shutdown
        } else if self.has_left() {
            Reason::DrainMax
        } else if self.stalled.load(Ordering::Relaxed) {
            Reason::ClientStalled
        } else {
            Reason::ClientGone
        };
        drop(self.finish(ClientEnd::Gone, code, false, None));
    }
}

fn fill_response_facts(out: &mut Facts, facts: &dialect::ResponseFacts) {
    out.error = facts.error.as_deref().map(name);
    out.model_served = facts.model.as_deref().map(name);
    out.finish = names(&facts.finish, &mut out.more);
    out.tools_called.extend(names(&facts.tools_called, &mut out.more));
    if let Some(usage) = facts.usage {
        out.usage = Usage {
            cached_input: usage.cached_input,
            input: usage.input,
            output: usage.output,
            reasoning: usage.reasoning,
            total: usage.total,
        };
    }
}

/// A name from outside, made fit for an entry.
fn name(text: &str) -> Box<str> {
    text::name(if text.is_empty() { "-" } else { text }).into()
}

/// Most names of one list in a receipt; the rest is counted in `facts.more`.
const NAMES_MAX: usize = 32;

fn names(list: &dialect::Names, more: &mut u64) -> Vec<Box<str>> {
    *more += list.more + list.items.len().saturating_sub(NAMES_MAX) as u64;
    list.items.iter().take(NAMES_MAX).map(|item| name(item)).collect()
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
