//! Calls that bring a key are done once: the first goes on, and who brings the key again gets the first's answer, or learns why
//! there is none (draft-ietf-httpapi-idempotency-key-header).
//!
//! A key is one caller's on one route. It is taken before anything of the call is sent, and is given back only where it is
//! known that nothing was done. What is stored of an answer can be read only by who brings the same key with the same
//! payload: it is sealed with a key made of the two, and the store has digests of them.

mod asked;
mod sealed;

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{IdempotencyDecision, IdempotencyRecord};
use estoppel_evidence::{CallId, Reason};
use estoppel_policy::Control;
use estoppel_state::{Began, Claimed, Known, Progress, StoreError};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use self::asked::Asked;
use self::sealed::{Answered, Sealer};
use crate::body::Room;
use crate::controls;
use crate::exchange::Exchange;
use crate::respond::{Refusal, Retry};

/// Header of an answer that is given again.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Bytes of an answer that are kept where the policy does not say.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// What an upstream says who has not done what it was asked.
const NOT_DONE: [StatusCode; 5] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
];
/// Headers that are given again.
const KEPT: [HeaderName; 13] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    HeaderName::from_static("mcp-protocol-version"),
];

/// What becomes of a call that may bring a key.
pub(crate) enum Turn {
    Goes,
    Given(Box<Given>),
    Refused(Refusal),
}

/// An answer that is given again.
pub(crate) struct Given {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The key that a call has taken, and what is kept of its answer so far.
pub(crate) struct Taken {
    claimed: Claimed,
    sealer: Sealer,
    head: Option<(StatusCode, HeaderMap)>,
    bytes_max: u64,
    bytes: u64,
    body: Vec<Bytes>,
    room: Room,
    /// The answer is too large.
    given_up: bool,
    asks_again: bool,
}

/// Gives a stored answer before anything is asked of people; takes nothing.
pub(crate) async fn look(exchange: &mut Exchange, head: &Parts, body: &[Bytes]) -> Turn {
    let asked = match ask(exchange, head, body) {
        Ok(Some(asked)) => asked,
        Ok(None) => return Turn::Goes,
        Err(refusal) => return Turn::Refused(refusal),
    };
    let shared = exchange.shared.clone();
    match shared.controls.store().known(shared.clock.unix_us(), asked.keyed(exchange)).await {
        Ok(None) => Turn::Goes,
        Ok(Some(known)) => told(exchange, &asked, known),
        Err(error) => Turn::Refused(down(exchange, &asked, &error)),
    }
}

/// Takes the key, unless another call has it.
pub(crate) async fn take(exchange: &mut Exchange, head: &Parts, body: &[Bytes]) -> Turn {
    let asked = match ask(exchange, head, body) {
        Ok(Some(asked)) => asked,
        Ok(None) => return Turn::Goes,
        Err(refusal) => return Turn::Refused(refusal),
    };
    let shared = exchange.shared.clone();
    match shared.controls.store().begin(shared.clock.unix_us(), asked.keyed(exchange)).await {
        Ok(Began::First(claimed)) => {
            note(exchange, &asked, IdempotencyDecision::First, None, "first");
            exchange.taken = Some(Box::new(Taken {
                claimed,
                sealer: asked.sealer(exchange.call),
                head: None,
                bytes_max: asked.answer_bytes_max.unwrap_or(ANSWER_BYTES_MAX),
                bytes: 0,
                body: Vec::new(),
                room: Room::default(),
                given_up: false,
                asks_again: false,
            }));
            Turn::Goes
        }
        Ok(Began::Known(known)) => told(exchange, &asked, known),
        Err(error) => Turn::Refused(down(exchange, &asked, &error)),
    }
}

/// None: it goes by no key.
fn ask(exchange: &mut Exchange, head: &Parts, body: &[Bytes]) -> Result<Option<Asked>, Refusal> {
    let policy = exchange.snapshot.policy.clone();
    let Some(control) = exchange.judge_request(|facts| policy.idempotency(facts)) else { return Ok(None) };
    // What an operator has stopped stays stopped, also where it would reach nobody.
    if let Some(refusal) = controls::stopped(exchange) {
        return Err(refusal);
    }
    match Asked::read(exchange, control, head, body) {
        Ok(Some(asked)) => Ok(Some(asked)),
        Ok(None) if !control.requires_key() => Ok(None),
        Ok(None) => Err(without_key(exchange, control, Reason::IdempotencyKeyMissing)),
        Err(reason) => Err(without_key(exchange, control, reason)),
    }
}

fn without_key(exchange: &mut Exchange, control: &Control, reason: Reason) -> Refusal {
    exchange.shared.metrics.keyed(control.id().as_str(), "key_missing");
    exchange.block_by(Some(control), reason.code());
    Refusal::because(reason, Some(&format!("`{}`", control.header())))
}

/// What is said to who brings a key that another call has.
fn told(exchange: &mut Exchange, asked: &Asked, known: Known) -> Turn {
    let Known { payload, call, state } = known;
    let first = call.parse().ok();
    let opened = match &state {
        Progress::Answered(sealed) => asked.sealer_of(&call).open(sealed),
        Progress::Running { .. } | Progress::Unanswered => None,
    };
    let (reason, label, detail) = match (state, opened) {
        _ if payload != asked.payload => (Reason::IdempotencyConflict, "conflict", None),
        (Progress::Running { .. }, _) => (Reason::IdempotencyInFlight, "in_flight", None),
        (_, Some(answered)) if answered.policy == exchange.snapshot.policy.hash().to_string() => {
            note(exchange, asked, IdempotencyDecision::Stored, first, "stored");
            return Turn::Given(Box::new(answered.into()));
        }
        (_, Some(_)) => (
            Reason::IdempotencyNoAnswer,
            "no_answer",
            Some("another policy than the one in force let it pass"),
        ),
        (Progress::Unanswered | Progress::Answered(_), None) => {
            (Reason::IdempotencyNoAnswer, "no_answer", None)
        }
    };
    note(exchange, asked, IdempotencyDecision::Conflict, first, label);
    let policy = exchange.snapshot.policy.clone();
    let control = exchange.judge_request(|facts| policy.idempotency(facts));
    exchange.block_by(control, reason.code());
    let retry = if reason.retryable() { Retry::Soon } else { Retry::Never };
    Turn::Refused(Refusal { retry, ..Refusal::because(reason, detail) })
}

fn note(
    exchange: &mut Exchange,
    asked: &Asked,
    decision: IdempotencyDecision,
    first: Option<CallId>,
    label: &str,
) {
    exchange.shared.metrics.keyed(&asked.control, label);
    exchange.record.idempotency = Some(IdempotencyRecord { decision, first });
}

/// Whether somebody has the key nobody can say, so nothing is sent.
fn down(exchange: &mut Exchange, asked: &Asked, error: &StoreError) -> Refusal {
    tracing::debug!(cause = %error, control = %asked.control, "keys of calls cannot be reached");
    exchange.shared.metrics.store_failed();
    let policy = exchange.snapshot.policy.clone();
    let control = exchange.judge_request(|facts| policy.idempotency(facts));
    exchange.block_by(control, Reason::StoreDown.code());
    Refusal::new(Reason::StoreDown)
}

impl Taken {
    /// Something of the call may reach the upstream now.
    pub(crate) fn sends(&mut self) {
        self.claimed.sent(true);
    }

    /// Nothing has reached the upstream after all.
    pub(crate) fn sent_nothing(&mut self) {
        if !self.asks_again {
            self.claimed.sent(false);
        }
    }

    /// For a second call: whatever becomes of it, the first has reached the upstream.
    pub(crate) fn again(mut self: Box<Self>) -> Box<Self> {
        self.asks_again = true;
        self
    }

    /// The head of the answer, as the client gets it.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        let mut kept = HeaderMap::new();
        for name in &KEPT {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        self.head = Some((status, kept));
    }

    /// A piece of an answer that is given as it comes.
    pub(crate) fn hear(&mut self, piece: &Bytes, memory: &Arc<tokio::sync::Semaphore>) {
        self.bytes += piece.len() as u64;
        let fits = self.bytes <= self.bytes_max && self.room.hold(memory, self.bytes).is_ok();
        if !fits || self.given_up {
            self.given_up = true;
            (self.body, self.room) = (Vec::new(), Room::default());
            return;
        }
        self.body.push(piece.clone());
    }

    /// The answer is whole, with `rest` as its end, and its receipt is durable.
    pub(crate) fn store(self: Box<Self>, rest: &[Bytes]) {
        let Self { claimed, sealer, head, bytes_max, bytes, mut body, given_up, .. } = *self;
        let Some((status, headers)) = head else { return };
        if NOT_DONE.contains(&status) {
            return claimed.free();
        }
        let bytes = bytes + rest.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if given_up || bytes > bytes_max {
            return; // as a call without an answer
        }
        body.extend_from_slice(rest);
        if let Some(sealed) = sealer.seal(status, &headers, &body) {
            claimed.answer(sealed);
        }
    }
}

impl From<Answered> for Given {
    fn from(answered: Answered) -> Self {
        let mut headers = answered.headers;
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        Self { status: answered.status, headers, body: answered.body }
    }
}
