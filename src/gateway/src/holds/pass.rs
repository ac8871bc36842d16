//! A call that a rule holds: the first time, and when it comes again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::capture::{Label, Tag};
use estoppel_evidence::entry::{
    ApprovalRecord, BodyMode, Event, Held, Hold as HoldEntry, HoldOf, HoldOutcome, HoldRecord, VerdictAction,
};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{HoldId, Reason, text};
use estoppel_policy::{HoldMode, HoldTerms};
use estoppel_wire::dialect::Dialect;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::Notify;

use super::{Asked, Call, Claim, Facts, Kept, Opening, Sent, call};
use crate::exchange::Exchange;
use crate::headers::names_another_operation;
use crate::layer::forward::durable;
use crate::respond::{HOLD, Refusal, Waits};
use crate::serve::random;

/// Most bytes of a stored body that approvers are shown.
const SHOWN_BYTES_MAX: u64 = 16 << 10;
/// Clients are told to come again after this many seconds.
const RETRY_AFTER: u64 = 5;
/// A round of a call that comes again by itself waits this long: shorter than clients wait for an answer, and long because
/// they give up after ten.
const ROUND: Duration = Duration::from_secs(20);
/// It looks again after this at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lets a held call pass once people have let it. `Ok`: it goes on, under its hold's run.
pub(crate) async fn pass(
    exchange: &mut Exchange,
    head: &Parts,
    chunks: &[Bytes],
    terms: HoldTerms,
) -> Result<(), Refusal> {
    if exchange.shared.journal.is_off() {
        return Err(refuse(exchange, Reason::EvidenceOff));
    }
    // What people let pass is the method and path of the first line.
    if names_another_operation(&head.headers) {
        return Err(refuse(exchange, Reason::OperationDenied));
    }
    // INVARIANT: a policy that holds calls of which nothing is kept is not loaded.
    let Some(body) = exchange.request_digest() else {
        return Err(refuse(exchange, Reason::ApprovalRequired));
    };
    let sent = Sent {
        route: exchange.record.request.route.as_deref().unwrap_or_default().into(),
        method: head.method.as_str().into(),
        target: exchange.record.request.target,
        body,
        call: call_of(exchange, chunks),
        requester: exchange.record.identity.subject.as_deref().map(Into::into),
        asked: Asked::of(head),
    };
    let shared = exchange.shared.clone();
    let mut named = head.headers.get_all(HOLD).iter();
    let state = sent.call.as_ref().and_then(|call| call.state.as_deref());
    match (named.next(), named.next(), state) {
        (None, _, None) => match shared.holds.same(exchange.run.id(), exchange.snapshot.policy_hash, &sent) {
            Some(id) => once_more(exchange, id, &sent),
            None => first(exchange, sent, chunks, terms).await,
        },
        (None, _, Some(state)) => round(exchange, state, &sent).await,
        (Some(one), None, None) => {
            let id: Option<HoldId> = one.to_str().ok().and_then(|text| text.parse().ok());
            let Some(id) = id else { return Err(refuse(exchange, Reason::HoldUnknown)) };
            once_more(exchange, id, &sent)
        }
        (Some(_), ..) => Err(refuse(exchange, Reason::HoldUnknown)),
    }
}

/// What an MCP request asks for. Others are held as they are.
fn call_of(exchange: &Exchange, chunks: &[Bytes]) -> Option<Call> {
    (exchange.dialect == Dialect::Mcp).then(|| Call::of(&chunks.concat())).flatten()
}

fn once_more(exchange: &mut Exchange, id: HoldId, sent: &Sent) -> Result<(), Refusal> {
    again(exchange, id, sent).unwrap_or_else(|(facts, _)| Err(waits(exchange, &facts, sent)))
}

/// Waits a while before its client is told to come again.
async fn round(exchange: &mut Exchange, state: &str, sent: &Sent) -> Result<(), Refusal> {
    let holds = &exchange.shared.clone().holds;
    let id =
        call::named(state).filter(|id| holds.state(*id).is_none_or(|given| call::is_given(state, &given)));
    let Some(id) = id else { return Err(refuse(exchange, Reason::HoldUnknown)) };
    let until = tokio::time::Instant::now() + ROUND;
    loop {
        match again(exchange, id, sent) {
            Ok(done) => return done,
            Err((facts, changed)) => {
                let left = until.saturating_duration_since(tokio::time::Instant::now());
                if left.is_zero() {
                    return Err(waits(exchange, &facts, sent));
                }
                let _ = tokio::time::timeout(left.min(LOOK_AGAIN), changed.notified()).await;
            }
        }
    }
}

/// `Err`: it waits still, and what wakes it.
fn again(
    exchange: &mut Exchange,
    id: HoldId,
    sent: &Sent,
) -> Result<Result<(), Refusal>, (Arc<Facts>, Arc<Notify>)> {
    let shared = exchange.shared.clone();
    let now_us = shared.clock.unix_us();
    let waited = |facts: &Facts, outcome| HoldRecord {
        expires: facts.expires,
        id: facts.id,
        outcome,
        us: now_us.saturating_sub(facts.opened.0),
    };
    let policies = [exchange.snapshot.policy_hash, shared.snapshot.load().policy_hash];
    match shared.holds.claim(id, sent, policies, now_us) {
        Claim::Waits(facts, changed) => Err((facts, changed)),
        Claim::Refused(reason, over) => {
            exchange.record.held =
                over.map(|(facts, outcome)| Box::new(Held { hold: waited(&facts, outcome), approval: None }));
            Ok(Err(refuse(exchange, reason)))
        }
        Claim::Passes { facts, approved, leaf, run } => {
            exchange.run = run;
            exchange.record.held = Some(Box::new(Held {
                hold: waited(&facts, HoldOutcome::Approved),
                approval: Some(ApprovalRecord { approved, call_tag: call_tag(&facts), hold: id, leaf }),
            }));
            exchange.approved = exchange.record.policy.rule.as_deref().map(Into::into);
            Ok(Ok(()))
        }
    }
}

async fn first(
    exchange: &mut Exchange,
    sent: Sent,
    chunks: &[Bytes],
    terms: HoldTerms,
) -> Result<(), Refusal> {
    let shared = exchange.shared.clone();
    let facts = match facts(exchange, &sent, chunks, &terms) {
        Ok(facts) => Arc::new(facts),
        Err(reason) => return Err(refuse(exchange, reason)),
    };
    let opening = match shared.holds.open(
        facts.clone(),
        sent.asked.clone(),
        exchange.run.clone(),
        shared.clock.clone(),
    ) {
        Ok(opening) => opening,
        Err(reason) => return Err(refuse(exchange, reason)),
    };
    let ack = shared.journal.note(Some(&exchange.run), Event::Hold(entry(&facts)));
    match durable(ack, Duration::from_millis(shared.server.evidence_ms)).await {
        Ok(leaf) => opening.confirm(leaf),
        Err(reason) => return Err(refuse(exchange, reason)),
    }
    tracing::info!(hold = %facts.id, rule = facts.rule, "a call waits for people");
    match terms.mode {
        HoldMode::Accepted => {
            opening.keep();
            Err(waits(exchange, &facts, &sent))
        }
        HoldMode::Wait => wait(exchange, &opening, &facts, &sent).await,
    }
}

/// Ends with the decision, with the hold's time, or with its client: dropping this ends the hold.
async fn wait(
    exchange: &mut Exchange,
    opening: &Opening<'_>,
    facts: &Facts,
    sent: &Sent,
) -> Result<(), Refusal> {
    let clock = exchange.shared.clock.clone();
    exchange.record.verdict.action = VerdictAction::Hold;
    loop {
        match again(exchange, facts.id, sent) {
            Ok(done) => return done,
            Err(_) => {
                let left_us = facts.expires.0.saturating_sub(clock.unix_us());
                let _ =
                    tokio::time::timeout(Duration::from_micros(left_us), opening.changed.notified()).await;
            }
        }
    }
}

fn facts(exchange: &Exchange, sent: &Sent, chunks: &[Bytes], terms: &HoldTerms) -> Result<Facts, Reason> {
    let approvers = terms.approvers_for(sent.requester.as_deref());
    if approvers.len() < usize::from(terms.needs) {
        return Err(Reason::ApproversMissing);
    }
    let opened_us = exchange.shared.clock.unix_us();
    let total = exchange.route.as_ref().map_or(Duration::ZERO, |route| route.settings.limits.total);
    let ttl_us = terms.ttl_ms.saturating_mul(1_000);
    let ttl_us = match terms.mode {
        HoldMode::Accepted => ttl_us,
        HoldMode::Wait => ttl_us.min(crate::exchange::micros(total)),
    };
    let of = match (&sent.call, terms.mode) {
        (Some(_), HoldMode::Accepted) => HoldOf::Call,
        _ => HoldOf::Body,
    };
    let payload = sent.payload(of, exchange.run.capture()).ok_or(Reason::Internal)?;
    let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let is_shown = exchange.record.storage.mode == BodyMode::Full && bytes <= SHOWN_BYTES_MAX;
    Ok(Facts {
        id: HoldId::new(opened_us / 1_000, random().map_err(|_| Reason::Internal)?),
        call: exchange.call,
        run: exchange.run.id(),
        kept: Kept {
            route: sent.route.clone(),
            method: sent.method.clone(),
            target: exchange.run.capture().tag(Label::RequestTarget, &sent.target),
            payload,
            of,
            requester: sent.requester.clone(),
        },
        bytes,
        body: is_shown.then(|| String::from_utf8(chunks.concat()).ok()).flatten(),
        rule: exchange.record.policy.rule.as_deref().map(Into::into),
        tool: exchange.request_tool().map(|tool| text::name(tool).into()),
        operation: text::name(exchange.request_operation()).into(),
        policy: exchange.snapshot.policy_hash,
        approvers: approvers.into_iter().map(|(name, approver)| (name.into(), approver.clone())).collect(),
        needs: terms.needs,
        mode: terms.mode,
        opened: UnixMicros(opened_us),
        expires: UnixMicros(opened_us.saturating_add(ttl_us)),
    })
}

fn entry(facts: &Facts) -> HoldEntry {
    HoldEntry {
        approvers: facts.approvers.iter().map(|(_, approver)| approver.id()).collect(),
        call: facts.call,
        expires: facts.expires,
        hold: facts.id,
        needs: facts.needs,
        operation: Some(facts.operation.clone()),
        of: facts.kept.of,
        payload: facts.kept.payload,
        policy: facts.policy,
        requester: facts.kept.requester.as_deref().map(|requester| text::name(requester).into()),
        rule: facts.rule.clone(),
        tool: facts.tool.clone(),
    }
}

fn call_tag(facts: &Facts) -> Option<Tag> {
    Some(facts.kept.payload).filter(|_| facts.kept.of == HoldOf::Call)
}

/// The call is not let go, for another reason than that it has to wait.
fn refuse(exchange: &mut Exchange, reason: Reason) -> Refusal {
    exchange.record.verdict.action = VerdictAction::Block;
    exchange.record.verdict.reason = Some(reason.code().into());
    Refusal::new(reason)
}

fn waits(exchange: &mut Exchange, facts: &Facts, sent: &Sent) -> Refusal {
    let verdict = &mut exchange.record.verdict;
    verdict.action = VerdictAction::Hold;
    let comes_again =
        sent.call.as_ref().is_some_and(|call| call.comes_again) && facts.kept.of == HoldOf::Call;
    let state = comes_again.then(|| exchange.shared.holds.state(facts.id)).flatten();
    let generic = matches!(exchange.dialect, Dialect::Json | Dialect::Bytes);
    let left_us = facts.expires.0.saturating_sub(exchange.shared.clock.unix_us());
    let message = format!("{}: hold {}, until {}", Reason::ApprovalRequired.text(), facts.id, facts.expires);
    Refusal {
        code: verdict.reason.clone(),
        message: Some(message.into()),
        hold: Some(Box::new(Waits {
            hold: facts.id,
            expires: facts.expires,
            status: match state {
                Some(_) => StatusCode::OK,
                None if generic => StatusCode::ACCEPTED,
                None => StatusCode::FORBIDDEN,
            },
            retry_after: RETRY_AFTER.min(left_us / 1_000_000 + 1),
            state: state.map(Into::into),
        })),
        ..Refusal::new(Reason::ApprovalRequired)
    }
}
