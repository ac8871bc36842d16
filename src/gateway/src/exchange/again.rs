//! A call whose answer was refused, and the call that asks again.

use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::entry::{CallRecord, Captured, ClientEnd, Reask as Link, VerdictAction};
use estoppel_evidence::{CallId, Reason};
use estoppel_journal::Ack;
use estoppel_policy::{Reask, Release};
use estoppel_wire::dialect::{Dialect, is_cut_short};
use http::request::Parts;

use super::{Exchange, Start};
use crate::body::Room;
use crate::idempotency::Taken;
use crate::reask::{self, NotAsked, Origin};
use crate::respond::Refusal;

/// A second call, ready to be permitted and sent. Its place in the evidence is taken.
pub(crate) struct Second {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) head: Box<Parts>,
    pub(crate) body: Bytes,
    pub(crate) room: Room,
}

impl Exchange {
    /// Keeps what asking again needs, where the policy asks for that and there is room for it.
    pub(crate) fn keep_origin(&mut self, head: &Parts, body: &[Bytes]) {
        let is_model = !matches!(self.dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes);
        let terms = self.route.as_ref().and_then(|route| route.judging.as_ref());
        let terms = terms.filter(|terms| is_model && terms.release != Release::Observe);
        let Some(Reask::Once(terms)) = terms.map(|terms| terms.reask) else { return };
        self.origin = Origin::new(head, body, terms, &self.shared.held);
    }

    /// Something of the answer leaves now, so it stays the only one.
    pub(crate) fn forget_origin(&mut self) {
        self.origin = None;
    }

    /// Keeps a piece of an answer that may be refused.
    pub(super) fn hear(&mut self, piece: &Bytes) {
        let Some(origin) = &mut self.origin else { return };
        let judged = self.response.as_ref().and_then(|response| response.judged.as_ref());
        if judged.is_some_and(|judged| judged.model().is_some()) {
            origin.hear(piece, &self.shared.held);
        } else {
            self.origin = None;
        }
    }

    /// Whether this is the second of two calls.
    pub(crate) fn asks_again(&self) -> bool {
        matches!(self.record.reask, Some(Link::Of(_)))
    }

    /// Whether this is a second call whose answer, read whole, is none: an error in a 200, or nothing.
    pub(crate) fn is_left_unanswered(&mut self, answer: &[Bytes]) -> bool {
        if !self.asks_again() {
            return false;
        }
        self.end_scan();
        let Some(response) = &self.response else { return false };
        let is_error = response.facts.as_ref().is_some_and(|facts| facts.error.is_some());
        is_error || reask::is_no_answer(answer, response.framing)
    }

    /// What its client is told in the place of a failure that is not its own doing.
    pub(crate) fn told_instead(&mut self) -> Option<Refusal> {
        let instead = self.instead.take().map(|refusal| *refusal);
        instead.filter(|_| self.record.verdict.action != VerdictAction::Block)
    }

    /// How long all of the second call may still take.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let total = self.route.as_ref()?.settings.limits.total;
        Some(total.saturating_sub(Duration::from_micros(self.elapsed_us())))
    }

    /// Makes the second call, if the policy wants one and there may be one; `refusal` is what the client would get.
    pub(crate) fn again(&mut self, refusal: &Refusal) -> Option<Second> {
        let origin = self.origin.take()?;
        let by_rule = self.record.policy.rule.is_some();
        if by_rule || self.has_left() || !reask::is_worth_it(refusal.reason) {
            return None;
        }
        match self.second(*origin, refusal) {
            Ok(second) => Some(second),
            Err(not_asked) => {
                self.shared.metrics.reasked(self.route.as_deref(), not_asked.as_str());
                None
            }
        }
    }

    fn second(&mut self, origin: Origin, refusal: &Refusal) -> Result<Second, NotAsked> {
        self.end_scan();
        let response = self.response.as_ref().ok_or(NotAsked::Unfit)?;
        let cut_short = response
            .facts
            .as_ref()
            .is_some_and(|facts| facts.finish.items.iter().any(|reason| is_cut_short(reason)));
        if cut_short {
            return Err(NotAsked::Unfit); // it would be cut again
        }
        let told = reask::told(origin.terms, refusal.reason, self.detail());
        let bytes_max = self.route.as_ref().map_or(0, |route| route.settings.limits.request_bytes_max);
        let body = origin.compose(self.dialect, response.framing, &told, bytes_max)?;
        if self.time_left().is_none_or(|left| left.is_zero()) {
            return Err(NotAsked::TotalTime);
        }
        let mut room = Room::default();
        room.hold(&self.shared.held, body.len() as u64).map_err(|_| NotAsked::NoMemory)?;
        let slot = self.shared.journal.admit().map_err(|_| NotAsked::NoEvidence)?;
        let in_flight = self.in_flight.take().ok_or(NotAsked::Unfit)?;
        let mut exchange = Self::new(Start {
            shared: self.shared.clone(),
            snapshot: self.snapshot.clone(),
            route: self.route.clone(),
            dialect: self.dialect,
            run: self.run.clone(),
            started_us: self.started_us,
            record: self.second_record(),
            slot,
            in_flight,
            stalled: self.stalled.clone(),
        });
        exchange.instead = Some(Box::new(refusal.clone()));
        exchange.left = self.left.clone();
        let route = self.route.as_ref().map_or("", |route| &route.name);
        exchange.shadowing = self.shadowing.as_ref().and_then(|shadowing| shadowing.again(route));
        exchange.spent = self.spent.clone();
        exchange.taken = self.taken.take().map(Taken::again); // whose answer is the client's
        let head = origin.into_head(&exchange.call.to_string());
        Ok(Second { exchange, head, body, room })
    }

    fn second_record(&self) -> Box<CallRecord> {
        let first = &self.record;
        let mut record = self.shared.blank_record();
        record.call = self.shared.next_call();
        record.reask = Some(Link::Of(first.call));
        record.identity = first.identity.clone();
        record.identity_details = first.identity_details.clone();
        record.tenant = first.tenant.clone();
        record.claims = first.claims.clone();
        record.trace = first.trace.clone();
        record.policy.hash = first.policy.hash;
        record.dialect = first.dialect;
        record.operation = first.operation.clone();
        record.request.method = first.request.method.clone();
        record.request.route = first.request.route.clone();
        record.request.target = first.request.target;
        record.request.version = first.request.version;
        record.upstream = first.upstream.clone();
        record
    }

    /// The record goes to the journal: the answer was refused, its client got nothing of it, and `next` asks again.
    pub(crate) fn asked_again(&mut self, next: CallId, code: Reason) -> Option<Ack> {
        self.record.reask = Some(Link::Next(next));
        drop(self.release_tail());
        if let Some(response) = &mut self.response {
            response.stream = None;
        }
        self.finish(ClientEnd::Refused, code, false, Some((0, Captured::default())))
    }
}
