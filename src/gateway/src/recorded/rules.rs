//! What rules say of a recorded call.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_policy::{
    Call, Condition, Content, Evaluation, Explanation, Policy, RequestFacts, ResponseFacts, Step, Tool,
    Verdict, Wanted,
};
use estoppel_wire::dialect::{CallForm, Dialect, Framing, ResponseScan};
use estoppel_wire::judge::{self, Blocks, Outcome};

use super::{Cause, RecordedAnswer, RecordedCall, Route, Ruling, chunk};
use crate::detecting::Detecting;
use crate::rules::{Asking, CallRules, Contents, Said};

/// A recorded request, as rules are told of it.
pub(super) struct Request<'c> {
    call: &'c RecordedCall,
    route: &'c Route,
    pub(super) contents: Arc<Contents>,
    evaluated: bool,
    /// Rules look into its body, which is not there.
    is_missing: bool,
}

impl<'c> Request<'c> {
    pub(super) fn read(
        route: &'c Route,
        call: &'c RecordedCall,
        evaluated: bool,
        detecting: Option<&Detecting>,
    ) -> Result<Self, Cause> {
        let needs = route.needs;
        let dialect = call.dialect.unwrap_or(Dialect::Bytes);
        let asks_body = call.has_body && (needs.body || needs.calls && dialect == Dialect::Mcp);
        if needs.data && asks_body && call.request_body.is_none() {
            return Err("which classes of data were in it is not recorded".into());
        }
        // What is missing counts as unread, and whoever then asks for it does not know.
        let (contents, is_missing) = match &call.request_body {
            Some(_) => {
                let chunks = [chunk(call.request_body.as_ref())];
                (
                    Contents::read(needs, Said { detecting, listening: None }, dialect, None, false, &chunks),
                    false,
                )
            }
            None if asks_body => (Contents::unread(), evaluated),
            None => (Contents::default(), false),
        };
        Ok(Self { call, route, contents: Arc::new(contents), evaluated, is_missing })
    }

    /// Tells rules of it.
    pub(super) fn tell<R>(&self, judge: impl FnOnce(RequestFacts<'_>) -> R) -> R {
        let call = self.call;
        let called = self.contents.tools(None);
        let unread = Content::unread();
        let asks_calls = self.route.needs.calls && call.dialect == Some(Dialect::Mcp);
        let of_offer = if asks_calls { Call::With(&unread) } else { Call::Offered };
        let offered: Vec<Tool<'_>> =
            call.tools_offered.iter().map(|name| Tool { name, call: of_offer }).collect();
        judge(RequestFacts {
            route: &call.route,
            operation: Some(&call.operation),
            dialect: call.dialect.map(Dialect::as_str),
            method: Some(&call.method),
            identity: call.identity.as_deref(),
            tenant: call.tenant.as_deref(),
            model: call.model.as_deref(),
            tools: if called.is_empty() { &offered } else { &called },
            body: self.contents.body.as_ref(),
            approved: call.approved.as_deref(),
            evaluation: evaluation(self.evaluated),
        })
    }

    /// What rules say of the request.
    pub(super) fn ruling(&self, policy: &Policy) -> Result<Ruling, Cause> {
        self.tell(|facts| {
            let explained = policy.explain_request(&facts);
            if self.is_missing && asks_unread(&explained) {
                return Err("rules look into the request's body, which is not in the bundle".into());
            }
            if asks_earlier(&explained) {
                return Err(EARLIER.into());
            }
            Ok(Ruling::of(&explained.decision))
        })
    }

    /// Whether a control would count it.
    pub(super) fn is_counted(&self, policy: &Policy) -> bool {
        self.tell(|facts| policy.has_controls() && !policy.controls(&facts).is_empty())
    }

    /// What rules say of the answer: of whatever in it they may look into. `ruling` is what they said of the request.
    pub(super) fn ruling_of_answer(
        &self,
        policy: &Policy,
        answer: &RecordedAnswer,
        ruling: Ruling,
    ) -> Result<Ruling, Cause> {
        let needs = self.route.needs;
        let dialect = self.call.dialect.unwrap_or(Dialect::Bytes);
        let body = answer.body.as_ref().filter(|_| needs.calls && !answer.tools_called.is_empty());
        let made = body.and_then(|body| calls(dialect, answer.is_stream, body));
        let is_missing = made.is_none() || self.is_missing;
        let detectors = self.route.detectors()?.filter(|_| needs.data);
        let wanted = Wanted { destinations: needs.destinations };
        let read = |(name, arguments): (String, Vec<u8>)| {
            let content = Content::read(&arguments, wanted);
            let classes = detectors.and_then(|detectors| detectors.in_call(&arguments));
            (name, classes.iter().fold(content, |content, classes| classes.tell(content)))
        };
        let made: Vec<(String, Content)> = made.unwrap_or_default().into_iter().map(read).collect();
        let unread = Content::unread();
        let is_made = |name: &String| made.iter().any(|(made, _)| made == name);
        let of_name = if needs.calls { Call::With(&unread) } else { Call::Offered };
        let named = answer.tools_called.iter().filter(|name| !is_made(name));
        let called: Vec<Tool<'_>> = named
            .map(|name| Tool { name, call: of_name })
            .chain(made.iter().map(|(name, content)| Tool { name, call: Call::With(content) }))
            .collect();
        self.ruling_of_calls(policy, answer, (&called, answer.evaluated), is_missing, ruling)
    }

    /// The same of an answer whose calls are asked about one by one once they are whole.
    pub(super) fn ruling_of_names(
        &self,
        policy: &Policy,
        answer: &RecordedAnswer,
        (to_come, evaluated): (bool, bool),
        ruling: Ruling,
    ) -> Result<Ruling, Cause> {
        let unread = Content::unread();
        let call = match (self.route.needs.calls, to_come) {
            (false, _) => Call::Offered,
            (true, true) => Call::ToCome,
            (true, false) => Call::With(&unread),
        };
        let called: Vec<Tool<'_>> = answer.tools_called.iter().map(|name| Tool { name, call }).collect();
        let is_missing = !to_come && answer.body.is_none() || self.is_missing;
        self.ruling_of_calls(policy, answer, (&called, evaluated), is_missing, ruling)
    }

    fn ruling_of_calls(
        &self,
        policy: &Policy,
        answer: &RecordedAnswer,
        (tools_called, evaluated): (&[Tool<'_>], bool),
        is_missing: bool,
        ruling: Ruling,
    ) -> Result<Ruling, Cause> {
        self.tell(|request| {
            let explained = policy.explain_response(&ResponseFacts {
                request,
                model_served: answer.model_served.as_deref(),
                tools_called,
                said: None,
                evaluation: evaluation(evaluated),
            });
            if is_missing && asks_unread(&explained) {
                let cause =
                    "rules look into calls or bodies that are not in the bundle, or cannot be read again";
                return Err(cause.into());
            }
            if asks_earlier(&explained) {
                return Err(EARLIER.into());
            }
            Ok(match explained.decision.verdict {
                Verdict::Allow => ruling,
                // An answer cannot wait for people.
                Verdict::Block | Verdict::Hold => {
                    Ruling { verdict: Verdict::Block, ..Ruling::of(&explained.decision) }
                }
            })
        })
    }

    /// What asks rules about each call of the answer, if they look into any.
    pub(super) fn call_rules(
        &self,
        policy: &Arc<Policy>,
        answer: &RecordedAnswer,
    ) -> Result<Option<CallRules>, Cause> {
        if !self.route.needs.calls {
            return Ok(None);
        }
        if policy.listens() {
            // What a rule asks of earlier results is unknown, and would block. Whether one comes to ask is known.
            let allowed = Ruling { verdict: Verdict::Allow, rule: None, reason: None };
            self.ruling_of_answer(policy, answer, allowed)?;
        }
        let call = self.call;
        let owned = |fact: &Option<String>| fact.as_deref().map(Into::into);
        let asking = Asking {
            route: call.route.as_str().into(),
            operation: call.operation.as_str().into(),
            dialect: call.dialect.map(Dialect::as_str),
            method: call.method.as_str().into(),
            identity: owned(&call.identity),
            tenant: owned(&call.tenant),
            model: owned(&call.model),
            approved: owned(&call.approved),
        };
        let detectors = self.route.detectors()?.cloned();
        let contents = self.contents.clone();
        Ok(Some(CallRules::new(policy.clone(), self.route.needs, asking, contents, detectors, None)))
    }
}

impl Ruling {
    fn of(decision: &estoppel_policy::Decision<'_>) -> Self {
        Self {
            verdict: decision.verdict,
            rule: decision.rule.map(ToString::to_string),
            reason: decision.reason.map(ToString::to_string),
        }
    }
}

fn evaluation(evaluated: bool) -> Evaluation {
    if evaluated { Evaluation::Evaluated } else { Evaluation::NotEvaluated }
}

/// Whether a rule that was tried asked for something that could not be read.
fn asks_unread(explained: &Explanation<'_>) -> bool {
    explained.steps.iter().any(|step| matches!(step, Step::Unknown { .. }))
}

const EARLIER: &str = "what tools gave earlier in the run is not recorded";

/// Whether such a rule asked what tools gave earlier.
fn asks_earlier(explained: &Explanation<'_>) -> bool {
    let asks = |step: &Step<'_, '_>| match step {
        Step::Unknown { failed, .. } => {
            matches!(failed.condition, Some(Condition::Provenance | Condition::After))
        }
        _ => false,
    };
    explained.steps.iter().any(asks)
}

/// Takes the calls of an answer down.
#[derive(Default)]
struct Listed(Vec<(String, Vec<u8>)>);

impl judge::Judge for Listed {
    type Repair = Infallible;
    type Finding = Infallible;

    fn wants_call(&mut self, _: CallForm, _: &str) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn call(&mut self, _: CallForm, name: &str, arguments: &[u8]) -> Outcome<Infallible, Infallible> {
        self.0.push((name.to_owned(), arguments.to_vec()));
        Outcome::Pass
    }

    fn wants_text(&self) -> bool {
        false
    }

    fn text(&mut self, _: &[u8]) -> Outcome<Infallible, Infallible> {
        Outcome::Pass
    }
}

/// The calls in a model's answer with their arguments; none if they cannot be read.
pub(crate) fn calls(dialect: Dialect, is_stream: bool, body: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let framing = if is_stream { Framing::Sse } else { Framing::Json };
    let mut scan = ResponseScan::new(dialect, framing).event_bytes_max(body.len()).with_parts();
    let mut stream = judge::Stream::new(dialect, Listed::default(), usize::MAX);
    let body = Bytes::copy_from_slice(body);
    let mut marks = Vec::new();
    scan.push(&body, &mut |mark| marks.push(mark));
    if is_stream {
        let (mut blocks, mut out, mut from, mut before) = (Blocks::default(), Vec::new(), 0, 0);
        for mark in &marks {
            let (block, next) = blocks.end(&body, from, mark.end);
            let parts = scan.parts().get(before..mark.parts)?;
            let ends = mark.kind == estoppel_wire::dialect::MarkKind::Terminator;
            stream.event(block, parts, ends, &mut out).ok()?;
            (from, before) = (next, mark.parts);
        }
        stream.finish().ok()?;
        let read = scan.so_far().read;
        return read.then(|| std::mem::take(&mut stream.judge_mut().0));
    }
    let facts = scan.finish();
    stream.whole(body, scan.parts()).ok()?;
    facts.evaluated.defect.is_none().then(|| std::mem::take(&mut stream.judge_mut().0))
}
