//! The answer side of an exchange: what is judged, changed and held back while it passes.

use bytes::Bytes;
use estoppel_evidence::entry::{Captured, Downgrade, Looked};
use estoppel_evidence::{Reason, text};
use estoppel_policy::{Content, Evaluation, ResponseFacts, Tool};
use estoppel_wire::dialect::{Dialect, Framing, MarkKind, ResponseScan};
use sha2::{Digest as _, Sha256};

use super::{Exchange, Mark, Response, Stream, evaluation};
use crate::judging::{self, Objection};
use crate::mcp::federation::Told;
use crate::rules::Ruled;
use crate::shadow::Answer;
use crate::store::{Form, Side};

impl Exchange {
    /// Takes note of which of several servers answered, and which should have.
    pub(crate) fn answered_by(&mut self, told: &Told) {
        let Told::Answer { upstream, missing, .. } = told else { return };
        self.record.upstream = Some(text::name(upstream).into());
        let route = self.route.as_ref().map_or("none", |route| &route.name);
        missing.iter().for_each(|(server, _)| self.shared.metrics.server_missing(route, server));
        let downgrades = missing
            .iter()
            .map(|(server, reason)| Downgrade { code: *reason, detail: Some(text::name(server).into()) });
        self.record.downgrades.extend(downgrades);
    }

    /// Judges a response that is not read, before any of it is given.
    pub(crate) fn judge_unread<R>(&mut self, judge: impl FnOnce(&ResponseFacts<'_>) -> R) -> R {
        self.shadow_answers(Answer::Unread);
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
        let evaluation = if self.judges_body() || self.drops_body() {
            Evaluation::Evaluated
        } else {
            evaluation(&facts.evaluated, &facts.tools_called, &[facts.model.as_deref()])
        };
        let judged = judge(&ResponseFacts {
            request: self.request_facts(request, &request_tools),
            model_served: facts.model.as_deref(),
            tools_called: &called,
            said: None,
            evaluation,
        });
        self.shadow_answers(Answer::Read(evaluation));
        Some(judged)
    }

    /// Ends the scan of the response and says what it found.
    pub(super) fn end_scan(&mut self) {
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
        self.hear_head(framing, coded);
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
            scan: {
                let scan = ResponseScan::new(dialect, framing).event_bytes_max(event_bytes_max);
                match judged.as_ref() {
                    Some(judged) if judged.model().is_some() => scan.with_parts(),
                    Some(judged) if judged.may_open() => scan.opened_by_endpoint(),
                    _ => scan,
                }
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
            unfinished: self.keeps_unfinished(framing),
        }));
        Ok(())
    }

    /// Judges an answer that was read whole. Gives its body, with repaired values in their places.
    pub(crate) fn judge_body(&mut self, body: Vec<Bytes>) -> Result<Vec<Bytes>, Objection> {
        let Some(response) = self.response.as_mut() else { return Ok(body) };
        if response.judged.as_ref().is_none_or(|judged| judged.holds) {
            return Ok(body);
        }
        if response.is_acknowledgement() {
            return Ok(self.replace_body(Bytes::new()));
        }
        let Some(judged) = response.judged.as_mut() else { return Ok(body) };
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
    pub(super) fn replace_body(&mut self, body: Bytes) -> Vec<Bytes> {
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

    /// Bytes of the response so far, held ones included.
    pub(crate) fn response_bytes(&self) -> u64 {
        self.response.as_ref().map_or(0, |response| match &response.judged {
            Some(judged) if judged.apart => judged.bytes,
            _ => {
                let tail = response.tail.iter().map(|piece| piece.len() as u64).sum::<u64>();
                response.bytes + tail + response.unfinished_bytes()
            }
        })
    }

    /// Looks at bytes of the response that came at `now_us`. Returns those that may leave now; the rest, from the dialect's own terminator on,
    /// is held until the receipt is durable.
    ///
    /// # Errors
    /// The policy blocks what these bytes of a stream say; none of them may leave.
    pub(crate) fn response_data(&mut self, data: Bytes, now_us: u64) -> Result<Bytes, Objection> {
        self.hear(&data);
        self.shadow_hears(&data);
        self.hear_results(&data);
        let hashes = self.hashes();
        let Some(response) = self.response.as_mut() else { return Ok(data) };
        let mut ends = std::mem::take(&mut response.marks);
        response.scan.push(&data, &mut |mark| ends.push(mark));
        if !ends.is_empty() || response.passes_over() {
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
        if let Some(stream) = &mut response.stream {
            stream.first_us.get_or_insert(now_us);
            stream.last_us = now_us;
        }
        let data = response.whole_events(data, &mut ends, &self.shared.held)?;
        if data.is_empty() {
            response.marks = ends;
            return Ok(data);
        }
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
        if let Some(stream) = response.stream.as_mut().filter(|_| hold_from.is_none()) {
            stream.tree.update(&data[start..]);
        }
        let (now_part, held) = match hold_from {
            None => (data, None),
            Some(from) => (data.slice(..from), Some(data.slice(from..))),
        };
        response.pass(&now_part, hashes);
        response.tail.extend(held);
        Ok(now_part)
    }

    /// What waits for the receipt to be durable.
    pub(crate) fn held_tail(&self) -> &[Bytes] {
        self.response.as_ref().map_or(&[], |response| &response.tail)
    }

    /// The stream is over: what of it belongs to no event, if nothing is held back any more.
    pub(crate) fn end_held_back(&mut self) -> Result<Bytes, Objection> {
        self.results_end();
        let hashes = self.hashes();
        match self.response.as_deref_mut() {
            Some(response) => {
                response.release_unfinished();
                response.end_held_back(hashes)
            }
            None => Ok(Bytes::new()),
        }
    }

    /// What a client still gets of a judged answer before that is broken because of `code`: what had passed, and in a stream
    /// of events the reason.
    pub(crate) fn last_words(&mut self, code: Reason) -> Bytes {
        if self.has_left() {
            return Bytes::new();
        }
        let refused_id = self.response.as_mut().and_then(|response| response.refused_id());
        let rpc_id = self.rpc_id().or(refused_id);
        let refusal = self.refusal(code);
        let (dialect, call, hashes) = (self.dialect, self.call, self.hashes());
        let holds_events = self.holds_events();
        let Some(response) = self.response.as_deref_mut() else { return Bytes::new() };
        if (holds_events || response.is_between_events()) && !response.holds_back() {
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

    /// Judges a stream of a model's when it has said something new: a call of a tool, the model, something unreadable.
    pub(super) fn judge_stream(&mut self) -> Result<(), Objection> {
        if matches!(self.dialect, Dialect::Json | Dialect::Bytes) {
            return Ok(());
        }
        let Some(response) = &mut self.response else { return Ok(()) };
        let state = {
            let so_far = response.scan.so_far();
            let read = so_far.read && !response.passes_over();
            (so_far.tools_called.len(), so_far.model.is_some(), read)
        };
        let before = std::mem::replace(&mut response.seen, state);
        if before == state {
            return Ok(());
        }
        response.tell_model();
        let (_, had_model, _) = before;
        let policy = self.snapshot.policy.clone();
        let (decision, evaluation) = {
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
            let (_, _, read) = state;
            let evaluation = if read && !cut { Evaluation::Evaluated } else { Evaluation::NotEvaluated };
            let decision = policy.response(&ResponseFacts {
                request: self.request_facts(request, &offered),
                model_served: so_far.model,
                tools_called: &called,
                said: None,
                evaluation,
            });
            (decision, evaluation)
        };
        self.shadow_answers(Answer::Read(evaluation));
        if decision.verdict.lets_go() {
            return Ok(());
        }
        self.decide(&decision);
        self.restrict_storage(decision.body_storage);
        let ruled = Ruled::new(&decision);
        let code = ruled.reason();
        self.ruled = Some(Box::new(ruled));
        Err(code.into())
    }

    /// Whether the dialect's own terminator has been seen, so that what follows is held.
    pub(crate) fn holds_tail(&self) -> bool {
        self.response.as_ref().is_some_and(|response| !response.tail.is_empty())
    }

    /// Takes the held bytes into the record as about to leave, and gives them out.
    pub(super) fn release_tail(&mut self) -> Vec<Bytes> {
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
}
