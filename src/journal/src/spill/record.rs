//! How a record looks in the spill file: JSON for what is small, the stream's node hashes behind it as they are.
//!
//! The form is private: a spill file is read only by the program that wrote it, or its successor after a crash. Every
//! field of a record is named here, so that a new one does not compile until it is kept.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use estoppel_evidence::capture::StreamRoot;
use estoppel_evidence::entry::{
    BodyMode, CallRecord, Captured, Claims, Detection, Downgrade, Evaluated, Facts, Held, IdempotencyRecord,
    Identity, IdentityDetails, Intent, Judged, LimitRecord, Outcome, PolicyRef, Reask, RequestSide,
    ResponseSide, RunClass, ShadowRecord, SnapshotRecord, Storage, StreamRecord, Threat, Times, TraceContext,
    VerdictRecord,
};
use estoppel_evidence::{CallId, Reason, Root, RunId, Sha256};

use crate::admit::locked;

/// Most different dialects and HTTP versions that are read back from a spill file; each is kept for good.
const NAMES_MAX: usize = 64;

/// The run that a record belongs to, with what is needed to open it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SpilledRun {
    pub id: RunId,
    pub class: RunClass,
    pub name: Option<Box<str>>,
    pub opened_us: u64,
}

/// One record of the spill file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spilled {
    pub run: SpilledRun,
    pub what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Call(Box<SpilledCall>),
    Intent { call: CallId, operation: String, policy: Sha256 },
    Interrupted { call: CallId, reason: Reason },
}

#[derive(Debug, Serialize, Deserialize)]
struct SpilledBody {
    bytes: u64,
    sha256: Option<Sha256>,
    stored: Option<Sha256>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SpilledStream {
    comments: u64,
    events: u64,
    first_us: u64,
    last_us: u64,
    terminated: Option<bool>,
    units: u64,
    level: u32,
    root: Root,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpilledCall {
    call: CallId,
    attempt: u32,
    storage_mode: BodyMode,
    storage_reason: Option<Arc<str>>,
    storage_redacted: Vec<Arc<str>>,
    claims: Option<Box<Claims>>,
    destination: Option<Box<str>>,
    detection: Option<Box<Detection>>,
    dialect: Option<String>,
    downgrades: Vec<Downgrade>,
    evaluated_request: Evaluated,
    evaluated_response: Evaluated,
    facts: Facts,
    #[serde(default)]
    held: Option<Box<Held>>,
    #[serde(default)]
    idempotency: Option<IdempotencyRecord>,
    identity: Identity,
    #[serde(default)]
    identity_details: Option<Box<IdentityDetails>>,
    judged: Option<Box<Judged>>,
    limits: Vec<LimitRecord>,
    operation: String,
    outcome: Outcome,
    policy: PolicyRef,
    reask: Option<Reask>,
    request_body: SpilledBody,
    request_method: String,
    request_route: Option<Arc<str>>,
    request_target: Sha256,
    request_version: String,
    response_client: SpilledBody,
    response_client_status: u16,
    response_upstream: Option<(u16, SpilledBody)>,
    #[serde(default)]
    shadow: Vec<ShadowRecord>,
    #[serde(default)]
    snapshot: Option<Box<SnapshotRecord>>,
    stream: Option<SpilledStream>,
    #[serde(default)]
    tenant: Option<Arc<str>>,
    threat: Option<Arc<Threat>>,
    time: Times,
    #[serde(default)]
    trace: Option<Box<TraceContext>>,
    upstream: Option<Arc<str>>,
    #[serde(default)]
    upstream_request: Option<Box<str>>,
    verdict: VerdictRecord,
}

impl SpilledBody {
    fn of(captured: Captured) -> Self {
        let Captured { bytes, sha256, stored } = captured;
        Self { bytes, sha256: sha256.map(Sha256), stored: stored.map(Sha256) }
    }

    fn back(self) -> Captured {
        let Self { bytes, sha256, stored } = self;
        Captured { bytes, sha256: sha256.map(|digest| digest.0), stored: stored.map(|digest| digest.0) }
    }
}

impl SpilledCall {
    /// The record without its stream's nodes, and the nodes.
    pub fn of(record: CallRecord) -> (Self, Vec<[u8; 32]>) {
        let CallRecord {
            call,
            attempt,
            storage: Storage { mode: storage_mode, reason: storage_reason, redacted: storage_redacted },
            claims,
            destination,
            detection,
            dialect,
            downgrades,
            evaluated_request,
            evaluated_response,
            facts,
            held,
            idempotency,
            identity,
            identity_details,
            judged,
            limits,
            operation,
            outcome,
            policy,
            reask,
            request: RequestSide { body, method, route, target, version },
            response: ResponseSide { client, client_status, upstream: answer },
            shadow,
            snapshot,
            stream,
            tenant,
            threat,
            time,
            trace,
            upstream,
            upstream_request,
            verdict,
        } = record;
        let (stream, nodes) = match stream.map(|stream| *stream) {
            None => (None, Vec::new()),
            Some(StreamRecord { comments, events, first_us, last_us, terminated, tree }) => {
                let StreamRoot { units, level, root, nodes } = tree;
                (
                    Some(SpilledStream {
                        comments,
                        events,
                        first_us,
                        last_us,
                        terminated,
                        units,
                        level,
                        root,
                    }),
                    nodes,
                )
            }
        };
        let spilled = Self {
            call,
            attempt,
            storage_mode,
            storage_reason,
            storage_redacted,
            claims,
            destination,
            detection,
            dialect: dialect.map(Into::into),
            downgrades,
            evaluated_request,
            evaluated_response,
            facts,
            held,
            idempotency,
            identity,
            identity_details,
            judged,
            limits,
            operation: operation.into_owned(),
            outcome,
            policy,
            reask,
            request_body: SpilledBody::of(body),
            request_method: method.into_owned(),
            request_route: route,
            request_target: Sha256(target),
            request_version: version.into(),
            response_client: SpilledBody::of(client),
            response_client_status: client_status,
            response_upstream: answer.map(|(status, body)| (status, SpilledBody::of(body))),
            shadow,
            snapshot,
            stream,
            tenant,
            threat,
            time,
            trace,
            upstream,
            upstream_request,
            verdict,
        };
        (spilled, nodes)
    }

    /// The record again; `None` when it names a dialect or version too many.
    pub fn back(self, nodes: Vec<[u8; 32]>) -> Option<Box<CallRecord>> {
        let stream = self.stream.map(|stream| {
            let SpilledStream { comments, events, first_us, last_us, terminated, units, level, root } =
                stream;
            let tree = StreamRoot { units, level, root, nodes };
            Box::new(StreamRecord { comments, events, first_us, last_us, terminated, tree })
        });
        let dialect = match self.dialect {
            None => None,
            Some(name) => Some(kept(&name)?),
        };
        Some(Box::new(CallRecord {
            call: self.call,
            attempt: self.attempt,
            storage: Storage {
                mode: self.storage_mode,
                reason: self.storage_reason,
                redacted: self.storage_redacted,
            },
            claims: self.claims,
            destination: self.destination,
            detection: self.detection,
            dialect,
            downgrades: self.downgrades,
            evaluated_request: self.evaluated_request,
            evaluated_response: self.evaluated_response,
            facts: self.facts,
            held: self.held,
            idempotency: self.idempotency,
            identity: self.identity,
            identity_details: self.identity_details,
            judged: self.judged,
            limits: self.limits,
            operation: Cow::Owned(self.operation),
            outcome: self.outcome,
            policy: self.policy,
            reask: self.reask,
            request: RequestSide {
                body: self.request_body.back(),
                method: Cow::Owned(self.request_method),
                route: self.request_route,
                target: self.request_target.0,
                version: kept(&self.request_version)?,
            },
            response: ResponseSide {
                client: self.response_client.back(),
                client_status: self.response_client_status,
                upstream: self.response_upstream.map(|(status, body)| (status, body.back())),
            },
            shadow: self.shadow,
            snapshot: self.snapshot,
            stream,
            tenant: self.tenant,
            threat: self.threat,
            time: self.time,
            trace: self.trace,
            upstream: self.upstream,
            upstream_request: self.upstream_request,
            verdict: self.verdict,
        }))
    }

    pub fn key(&self) -> (CallId, u32) {
        (self.call, self.attempt)
    }
}

impl Spilled {
    /// With only the start of each list, as [`CallRecord::shorten`] does it.
    pub fn shortened(self) -> Self {
        let What::Call(mut call) = self.what else { return self };
        let facts = &mut call.facts;
        for list in [&mut facts.tools_offered, &mut facts.tools_called, &mut facts.finish] {
            let kept = list.len().min(4);
            facts.more += (list.len() - kept) as u64; // bounded lists
            list.truncate(kept);
        }
        call.downgrades.truncate(4);
        if let Some(detection) = &mut call.detection {
            detection.shorten();
        }
        call.limits.truncate(4);
        if let Some(trace) = &mut call.trace {
            trace.state = None;
        }
        call.shadow.iter_mut().for_each(ShadowRecord::shorten);
        Self { what: What::Call(call), ..self }
    }
}

impl What {
    pub fn intent(intent: Intent) -> Self {
        let Intent { call, operation, policy } = intent;
        Self::Intent { call, operation, policy }
    }
}

/// The same text, for good. There are few different ones; beyond [`NAMES_MAX`] a spill file is not ours.
fn kept(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = locked(&NAMES);
    match names.iter().find(|known| **known == name) {
        Some(known) => Some(known),
        None if names.len() == NAMES_MAX => None,
        None => {
            let known: &'static str = Box::leak(name.into());
            names.push(known);
            Some(known)
        }
    }
}
