//! How an exchange ends: its record, whatever way out it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::entry::{
    Captured, ClientEnd, Downgrade, Evaluated, Facts, IdempotencyDecision, Looked, Outcome, StreamRecord,
    Usage, VerdictAction,
};
use estoppel_evidence::{Reason, text};
use estoppel_journal::Ack;
use estoppel_policy::Disconnect;
use estoppel_wire::dialect;
use http::StatusCode;
use sha2::{Digest as _, Sha256};

use super::{Exchange, Pictured, Request, Response, defect, evaluated};
use crate::controls::Ending;
use crate::database::Due;
use crate::protected_resource::challenge;
use crate::store::{Contract, Form, Side};

impl Exchange {
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
    pub(super) fn depart(&mut self) {
        let (hashes, given) = (self.hashes(), self.given);
        self.response.iter_mut().for_each(|response| response.close());
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
    pub(crate) fn tell(&mut self, status: StatusCode, body: &[u8]) -> Option<Ack> {
        self.record.verdict.action = VerdictAction::Allow;
        if let Some(feed) = self.feed(Side::Client, Form::Json) {
            feed.push(Bytes::copy_from_slice(body));
        }
        let sha256 = self.hashes().then(|| Sha256::digest(body).into());
        let captured = Captured { bytes: body.len() as u64, sha256, stored: None };
        self.finish(ClientEnd::HandedOver, Reason::Ok, true, Some((status.as_u16(), captured)))
    }

    /// What a refusal says of tokens (RFC 6750 section 3), where it has to do with them.
    pub(crate) fn challenge(&self, reason: Reason) -> Option<http::HeaderValue> {
        let route = self.route.as_ref()?;
        let metadata = route.protected_resource.as_ref();
        let asks = metadata.is_some() || self.snapshot.callers.takes_credentials();
        (asks && matches!(reason.status(), 401) || reason == Reason::ScopeMissing)
            .then(|| challenge(reason, metadata, &route.scopes))?
    }

    pub(super) fn finish(
        &mut self,
        mut client: ClientEnd,
        mut code: Reason,
        mut complete: bool,
        mut ours: Option<(u16, Captured)>,
    ) -> Option<Ack> {
        let slot = self.slot.take()?;
        self.results_break_off();
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
        let shadows = self.finish_shadows();
        self.finish_detecting();
        self.finish_request();
        let (upstream_code, contracts) = self.finish_response(ours);
        self.settle();
        if self.unkeyed {
            self.record.downgrades.push(crate::store::not_stored(Reason::KeyHookFailed.code().into()));
        }
        let record = &mut self.record;
        record.time.total_us = total_us;
        let code = if code == Reason::Ok { upstream_code.unwrap_or(code) } else { code };
        record.outcome = Outcome { client, code, complete };
        self.shared.metrics.finished(self.route.as_deref(), record);
        self.shared.metrics.shadowed(&shadows, record.verdict.action);
        record.shadow = shadows.into_iter().map(|(_, said)| said).collect();
        self.shared.recent.take(self.run.id(), record, || self.shared.clock.unix_us());
        let record = std::mem::replace(&mut self.record, self.shared.blank_record());
        let (pictured, inside) = (self.pictured.take(), self.inside.take());
        let named = self.named.take();
        // Of several servers some may have been asked for what was not sent.
        let is_one = self.route.as_ref().is_some_and(|route| route.federation.is_none());
        let inside = match inside {
            Some(inside) if !self.sent && is_one => {
                inside.undone(pictured.as_ref().map(|pictured| &pictured.before.schema));
                None
            }
            inside => inside,
        };
        if !stores && contracts.is_empty() && pictured.is_none() {
            return Some(slot.commit(&self.run, record));
        }
        let (promise, ack) = slot.promise(self.run.clone());
        match pictured {
            None => self.shared.stores.commit(promise, record, contracts, Vec::new()),
            Some(Pictured { database, before }) if self.sent => {
                self.shared.posts.take(Due { promise, record, contracts, database, before, inside, named });
            }
            Some(Pictured { before, .. }) => {
                self.shared.stores.commit(promise, record, contracts, vec![before.schema.clone()]);
            }
        }
        Some(ack)
    }

    /// Counts what the call used.
    pub(super) fn settle(&mut self) {
        let Some(held) = self.held.take() else { return };
        let ending = Ending {
            sent: self.sent,
            status: self.record.response.upstream.map(|(status, _)| status),
            usage: if self.usage_unread { Usage::default() } else { self.record.facts.usage },
            is_whole: self.answer_ended,
            dialect: self.dialect,
        };
        self.record.limits = held.settle(&ending, &self.shared.metrics);
    }

    pub(super) fn finish_request(&mut self) {
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
    pub(super) fn finish_response(
        &mut self,
        ours: Option<(u16, Captured)>,
    ) -> (Option<Reason>, Vec<Contract>) {
        let hashes = self.hashes();
        let mut contracts = std::mem::take(&mut self.contracts_named);
        let record = &mut self.record;
        let Some(response) = self.response.take() else {
            let (status, captured) = ours.unwrap_or_default();
            record.response.client = captured;
            record.response.client_status = status;
            let again = record.idempotency.is_some_and(|it| it.decision == IdempotencyDecision::Stored);
            // What was looked at when it was given first the first receipt says.
            record.evaluated_response = match captured.bytes {
                bytes if again && bytes > 0 => {
                    Evaluated { skipped: bytes, state: Looked::NotEvaluated, ..Evaluated::default() }
                }
                _ => Evaluated { state: Looked::Empty, ..Evaluated::default() },
            };
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
        self.answer_ended = facts.events == 0 || facts.terminated == Some(true) || !facts.finish.is_empty();
        if facts.usage_unread {
            record.downgrades.push(Downgrade { code: Reason::NotEvaluated, detail: Some("usage".into()) });
        }
        (facts.error.is_some().then_some(Reason::UpstreamError), self.to_be_kept(contracts))
    }

    /// Contracts that are not known to be kept.
    pub(super) fn to_be_kept(&self, mut contracts: Vec<Contract>) -> Vec<Contract> {
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
