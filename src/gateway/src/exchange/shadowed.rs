//! What policies that change nothing say of a call, for its receipt.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::ShadowRecord;
use estoppel_policy::{Call, Content, Evaluation, RequestFacts, ResponseFacts, Tool, Wanted};
use estoppel_wire::dialect::{Dialect, Framing};
use http::request::Parts;

use super::Exchange;
use crate::recorded;
use crate::rules::{Contents, Said};
use crate::shadow::{Answer, Body, Missing, Shadow, Shadowing};

impl Exchange {
    /// Shadow policies will be asked about the call, if there are any.
    pub(crate) fn shadow(&mut self, head: &Parts) {
        let route = self.route.as_ref().map_or("", |route| &route.name);
        self.shadowing = Shadowing::new(&self.snapshot.shadows, route, head);
    }

    /// The policy in force has been asked about it.
    pub(crate) fn shadow_begins(&mut self) {
        if let Some(shadowing) = &mut self.shadowing {
            shadowing.is_begun = true;
        }
    }

    /// Keeps a request that was read whole until shadow policies are asked, if their rules look into it.
    pub(crate) fn shadow_keeps(&mut self, coded: bool, chunks: &[Bytes]) {
        let Some(shadowing) = &mut self.shadowing else { return };
        let needs = shadowing.needs;
        let looks = needs.body || needs.calls && self.dialect == Dialect::Mcp;
        let bytes = chunks.iter().map(Bytes::len).sum::<usize>();
        shadowing.body = if !looks || bytes == 0 {
            Body::None
        } else if self.route.as_ref().is_some_and(|route| route.needs.cover(needs)) {
            Body::Known(self.contents.clone())
        } else if bytes > shadowing.bytes_max() {
            Body::Unread(Reason::ShadowBytesMax)
        } else {
            Body::Kept { chunks: chunks.to_vec(), coded }
        };
    }

    /// The request is not read before it is sent, and has a body.
    pub(crate) fn shadow_unread(&mut self, coded: bool) {
        let Some(shadowing) = &mut self.shadowing else { return };
        let is_opaque = coded || self.dialect != Dialect::Json;
        shadowing.body = match is_opaque {
            _ if !shadowing.needs.body => Body::None,
            true => Body::Opaque,
            false => Body::Unread(Reason::NotEvaluated),
        };
    }

    /// The policy in force is asked about the answer.
    pub(super) fn shadow_answers(&mut self, answer: Answer) {
        if let Some(shadowing) = &mut self.shadowing {
            shadowing.answer = answer;
        }
    }

    /// Keeps a piece of a model's answer, where rules look into its calls.
    pub(super) fn shadow_hears(&mut self, piece: &Bytes) {
        let Some(shadowing) = self.shadowing.as_mut().filter(|shadowing| shadowing.needs.calls) else {
            return;
        };
        let framing = self.response.as_ref().map(|response| response.framing);
        if is_model(self.dialect) && matches!(framing, Some(Framing::Json | Framing::Sse)) {
            shadowing.kept.push(piece, &self.shared.held);
        }
    }

    /// Has the request judged, if it was not yet.
    pub(crate) fn ask_shadows(&mut self) {
        let Some(mut shadowing) = self.shadowing.take() else { return };
        if shadowing.begins() {
            self.look_for_shadows(&mut shadowing);
            let (facts, contents) = (self.request.facts(), shadowing.contents.clone());
            let unread = Content::unread();
            let mut tools = contents.tools(facts);
            if shadowing.missing.calls.is_some() {
                tools.iter_mut().for_each(|tool| tool.call = Call::With(&unread));
            }
            let is_plain = self.is_plain();
            shadowing.request(&self.shadow_facts(&contents, &tools), is_plain);
        }
        self.shadowing = Some(shadowing);
    }

    /// Has the answer judged, too. Gives what the receipt says, each with its policy.
    pub(super) fn finish_shadows(&mut self) -> Vec<(Arc<Shadow>, ShadowRecord)> {
        self.ask_shadows();
        let Some(mut shadowing) = self.shadowing.take() else { return Vec::new() };
        match shadowing.answer {
            Answer::Nothing => {}
            Answer::Unread => {
                let contents = shadowing.contents.clone();
                let tools = contents.tools(self.request.facts());
                let facts = ResponseFacts {
                    request: self.shadow_facts(&contents, &tools),
                    evaluation: Evaluation::NotEvaluated,
                    ..ResponseFacts::default()
                };
                shadowing.response(&facts, self.is_plain());
            }
            Answer::Read(evaluation) => self.judge_answer_of(&mut shadowing, evaluation),
        }
        shadowing.records().collect()
    }

    fn judge_answer_of(&mut self, shadowing: &mut Shadowing, evaluation: Evaluation) {
        self.end_scan();
        let made = self.calls_heard(shadowing);
        let Some(facts) = self.response.as_ref().and_then(|response| response.facts.as_ref()) else { return };
        let contents = shadowing.contents.clone();
        let tools = contents.tools(self.request.facts());
        let unread = Content::unread();
        let looks = shadowing.needs.calls;
        let not_made = |name: &&String| !made.iter().any(|(made, _)| made == *name);
        let named = facts.tools_called.items.iter().filter(not_made);
        let named =
            named.map(|name| Tool { name, call: if looks { Call::With(&unread) } else { Call::Offered } });
        let called: Vec<Tool<'_>> = named
            .chain(made.iter().map(|(name, content)| Tool { name, call: Call::With(content) }))
            .collect();
        let facts = ResponseFacts {
            request: self.shadow_facts(&contents, &tools),
            model_served: facts.model.as_deref(),
            tools_called: &called,
            said: None,
            evaluation,
        };
        shadowing.response(&facts, self.is_plain());
    }

    /// The calls of a model's answer with what they are made with, if rules look into that and it can be read.
    fn calls_heard(&self, shadowing: &mut Shadowing) -> Vec<(String, Content)> {
        let response = self.response.as_ref();
        let calls = response.and_then(|response| response.facts.as_ref()).map(|facts| &facts.tools_called);
        if !shadowing.needs.calls || calls.is_none_or(|calls| calls.items.is_empty()) {
            return Vec::new();
        }
        let is_stream = response.is_some_and(|response| response.framing == Framing::Sse);
        let heard = shadowing.heard();
        let made = heard.and_then(|heard| recorded::calls(self.dialect, is_stream, &heard));
        if made.is_none() {
            shadowing.missing.calls.get_or_insert(Reason::NotEvaluated);
        }
        let wanted = Wanted { destinations: shadowing.needs.destinations };
        let detectors = self.route.as_ref().and_then(|route| route.detectors.as_ref());
        let detectors = detectors.filter(|_| shadowing.needs.data);
        let read = |arguments: &[u8]| {
            let content = Content::read(arguments, wanted);
            let classes = detectors.and_then(|detectors| detectors.in_call(arguments));
            classes.map_or(content.clone(), |classes| classes.tell(content))
        };
        made.unwrap_or_default().into_iter().map(|(name, arguments)| (name, read(&arguments))).collect()
    }

    /// Reads what rules look into in the request.
    fn look_for_shadows(&self, shadowing: &mut Shadowing) {
        let facts = self.request.facts();
        shadowing.contents = match std::mem::replace(&mut shadowing.body, Body::None) {
            Body::None => return,
            Body::Known(contents) => contents,
            Body::Opaque => Arc::new(Contents::unread()),
            Body::Unread(reason) => {
                shadowing.missing = Missing { body: Some(reason), calls: Some(reason) };
                Arc::new(Contents::unread())
            }
            Body::Kept { chunks, coded } => {
                // What tools gave is listened to for the policy in force only.
                let said = Said { detecting: self.detecting.as_deref(), listening: None };
                let read = Contents::read(shadowing.needs, said, self.dialect, facts, coded, &chunks);
                Arc::new(read)
            }
        };
    }

    /// What the policy in force is told of the request, with the operation as the bytes say it.
    fn shadow_facts<'a>(&'a self, contents: &'a Contents, tools: &'a [Tool<'a>]) -> RequestFacts<'a> {
        let facts = self.request.facts();
        let said = facts.map(|facts| facts.operation.as_str());
        let unread = if self.dialect == Dialect::Json { "json" } else { "http" };
        let request = self.request_facts(facts, tools);
        let operation = if self.is_listed() { Some(said.unwrap_or(unread)) } else { request.operation };
        RequestFacts { operation, body: contents.body.as_ref(), ..request }
    }

    /// Whether no dialect says what the call does.
    fn is_plain(&self) -> bool {
        matches!(self.dialect, Dialect::Bytes | Dialect::Json)
    }
}

fn is_model(dialect: Dialect) -> bool {
    !matches!(dialect, Dialect::Mcp | Dialect::Json | Dialect::Bytes)
}
