//! Calls that were recorded, judged by the rules of a policy again: from what their receipts and stored bodies say, by the code
//! that judges traffic. What they do not say is not guessed: such a call is undecided.

use std::convert::Infallible;

use bytes::Bytes;
use estoppel_policy::{
    Call, Condition, Content, Evaluation, Explanation, Policy, RequestFacts, ResponseFacts, Step, Tool,
    Verdict, Wanted,
};
use estoppel_wire::dialect::{CallForm, Dialect, Framing, ResponseScan};
use estoppel_wire::judge::{self, Blocks, Outcome};
use serde_json::Value;

use crate::rules::{Contents, Said};

/// Codes of blocks that come from the policy's own defaults.
const DEFAULTS: [&str; 2] = ["POLICY_BLOCK", "NOT_EVALUATED"];

/// What is known of a recorded call.
#[derive(Clone, Debug, Default)]
pub struct RecordedCall {
    pub route: String,
    pub operation: String,
    /// None: none was recorded, or one that this program does not know.
    pub dialect: Option<Dialect>,
    pub method: String,
    pub identity: Option<String>,
    pub tenant: Option<String>,
    pub model: Option<String>,
    /// The rule that held it, if people let it pass.
    pub approved: Option<String>,
    pub tools_offered: Vec<String>,
    /// Names were cut or left out of the receipt.
    pub names_left_out: bool,
    /// Whether the request was read; none where the receipt does not say.
    pub request_evaluated: Option<bool>,
    /// It has a body.
    pub has_body: bool,
    /// The body, if it was stored as it came.
    pub request_body: Option<Vec<u8>>,
    /// What came back, if the request was let go and something did.
    pub answer: Option<RecordedAnswer>,
}

/// What is known of the answer.
#[derive(Clone, Debug, Default)]
pub struct RecordedAnswer {
    pub model_served: Option<String>,
    pub tools_called: Vec<String>,
    pub evaluated: bool,
    /// As events.
    pub is_stream: bool,
    pub body: Option<Vec<u8>>,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub verdict: Verdict,
    pub rule: Option<String>,
    pub reason: Option<String>,
}

/// What was stored of a call as it came.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    pub request: Option<Vec<u8>>,
    /// What came from the upstream.
    pub answer: Option<Vec<u8>>,
}

impl Ruling {
    /// What the rules said, by the receipt; none where something else stood in the way.
    pub fn of_receipt(entry: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let (rule, reason) = (text(&entry["policy"]["rule"]), text(&entry["verdict"]["reason"]));
        let verdict = match entry["verdict"]["action"].as_str()? {
            "allow" | "repair" => Verdict::Allow,
            "hold" => Verdict::Hold,
            "block" if reason.as_deref().is_some_and(|reason| reason.starts_with("HOLD_")) => return None,
            "block" => Verdict::Block,
            _ => return None,
        };
        let by_policy = rule.is_some() || reason.as_deref().is_some_and(|reason| DEFAULTS.contains(&reason));
        (verdict.lets_go() || by_policy).then_some(Ruling { verdict, rule, reason })
    }
}

impl RecordedCall {
    /// What its receipt and its bodies say, which `own`, the policy that judged it, completes. `approved` is the rule that held the
    /// call, if people let it pass; its receipt names the rule that decided last.
    pub fn of_receipt(entry: &Value, bodies: Bodies, approved: Option<&str>, own: &Policy) -> Self {
        let recorded = Ruling::of_receipt(entry);
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let names = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(text).collect()
        };
        let facts = &entry["facts"];
        let dialect = entry["dialect"].as_str().and_then(|name| name.parse().ok());
        let is_mcp = entry["dialect"] == "mcp";
        let (offered, called) = (names(&facts["tools_offered"]), names(&facts["tools_called"]));
        let singles =
            [&facts["model"], &facts["model_served"], &entry["identity"]["subject"], &entry["operation"]];
        let is_cut = |name: &str| name.ends_with('…');
        let names_left_out = facts["more"].as_u64().unwrap_or_default() > 0
            || singles.iter().filter_map(|value| value.as_str()).any(is_cut)
            || offered.iter().chain(&called).any(|name| is_cut(name));
        let upstream = &entry["response"]["upstream"];
        let answer = (!upstream.is_null()).then(|| RecordedAnswer {
            model_served: text(&facts["model_served"]),
            tools_called: if is_mcp { Vec::new() } else { called.clone() },
            evaluated: read(&entry["evaluated"]["response"]),
            is_stream: !entry["sse"].is_null(),
            body: bodies.answer,
        });
        let was_read = read(&entry["evaluated"]["request"]);
        let is_empty = entry["evaluated"]["request"]["state"] == "empty";
        // A body that streams through is not read before the verdict: after a block nobody knows whether there was one.
        let was_blocked = is_empty && upstream.is_null();
        let is_plain = matches!(dialect, None | Some(Dialect::Json | Dialect::Bytes));
        let is_unknown = is_plain && was_blocked || dialect == Some(Dialect::Json) && !is_empty && was_read;
        let mut call = Self {
            route: text(&entry["request"]["route"]).unwrap_or_default(),
            operation: text(&entry["operation"]).unwrap_or_default(),
            dialect,
            method: text(&entry["request"]["method"]).unwrap_or_default(),
            identity: text(&entry["identity"]["subject"]),
            tenant: text(&entry["tenant"]),
            model: text(&facts["model"]),
            approved: approved.map(ToOwned::to_owned),
            tools_offered: if is_mcp { called } else { offered },
            names_left_out,
            request_evaluated: (!is_unknown).then_some(was_read),
            has_body: is_unknown || entry["request"]["bytes"].as_u64().unwrap_or_default() > 0,
            request_body: bodies.request,
            answer,
        };
        // Whether such a body counted as read is not recorded, but its own policy may tell.
        if call.request_evaluated.is_none() {
            let fits = |evaluated| {
                let assumed = Self { request_evaluated: Some(evaluated), ..call.clone() };
                judge(own, &assumed).ok() == recorded
            };
            call.request_evaluated = match (fits(true), fits(false)) {
                (true, false) => Some(true),
                (false, true) => Some(false),
                (true, true) | (false, false) => None,
            };
        }
        call
    }
}

fn read(evaluated: &Value) -> bool {
    let whole = evaluated["skipped"].as_u64().unwrap_or_default() == 0 && evaluated["defect"].is_null();
    match evaluated["state"].as_str() {
        Some("empty") => true,
        Some("recognized" | "judged") => whole,
        _ => false,
    }
}

/// A stream without what the gateway says to keep its client waiting, and without what an upstream says in the same words.
pub fn without_keepalives(stream: &[u8]) -> Vec<u8> {
    let mut left = Vec::with_capacity(stream.len());
    let mut rest = stream;
    while let Some((first, after)) = rest.split_first() {
        match crate::respond::KEEPALIVES.iter().find(|said| rest.starts_with(said)) {
            Some(said) => rest = rest.get(said.len()..).unwrap_or_default(),
            None => {
                left.push(*first);
                rest = after;
            }
        }
    }
    left
}

/// Judges a recorded call.
///
/// # Errors
/// Why it is not known what the policy says: what it asks for was not recorded.
pub fn judge(policy: &Policy, call: &RecordedCall) -> Result<Ruling, &'static str> {
    if call.names_left_out {
        return Err("names were cut or left out of the receipt");
    }
    match call.request_evaluated {
        Some(evaluated) => judge_as(policy, call, evaluated),
        None => {
            let (read, unread) = (judge_as(policy, call, true)?, judge_as(policy, call, false)?);
            let same = read == unread;
            same.then_some(read).ok_or("it is not recorded whether its body counted as read")
        }
    }
}

fn judge_as(policy: &Policy, call: &RecordedCall, evaluated: bool) -> Result<Ruling, &'static str> {
    let needs = policy.needs(&call.route);
    let dialect = call.dialect.unwrap_or(Dialect::Bytes);
    let asks_body = call.has_body && (needs.body || needs.calls && dialect == Dialect::Mcp);
    if needs.data && (asks_body || call.answer.is_some()) {
        return Err("which classes of data were in it is not recorded");
    }
    // What is missing counts as unread, and whoever then asks for it does not know.
    let (contents, body_is_missing) = match &call.request_body {
        Some(body) => (
            Contents::read(needs, Said::default(), dialect, None, false, &[Bytes::copy_from_slice(body)]),
            false,
        ),
        None if asks_body => (Contents::unread(), evaluated),
        None => (Contents::default(), false),
    };
    let called = contents.tools(None);
    let unread = Content::unread();
    let asks_calls = needs.calls && dialect == Dialect::Mcp;
    let offers = call.tools_offered.iter();
    let offered: Vec<Tool<'_>> = offers
        .map(|name| Tool { name, call: if asks_calls { Call::With(&unread) } else { Call::Offered } })
        .collect();
    let evaluation = |evaluated| if evaluated { Evaluation::Evaluated } else { Evaluation::NotEvaluated };
    let request = RequestFacts {
        route: &call.route,
        operation: Some(&call.operation),
        dialect: call.dialect.map(Dialect::as_str),
        method: Some(&call.method),
        identity: call.identity.as_deref(),
        tenant: call.tenant.as_deref(),
        model: call.model.as_deref(),
        tools: if called.is_empty() { &offered } else { &called },
        body: contents.body.as_ref(),
        approved: call.approved.as_deref(),
        evaluation: evaluation(evaluated),
    };
    let explained = policy.explain_request(&request);
    if body_is_missing && asks_unread(&explained) {
        return Err("rules look into the request's body, which is not in the bundle");
    }
    if asks_earlier(&explained) {
        return Err(EARLIER);
    }
    let decision = explained.decision;
    let ruling = |decision: &estoppel_policy::Decision<'_>| Ruling {
        verdict: decision.verdict,
        rule: decision.rule.map(ToString::to_string),
        reason: decision.reason.map(ToString::to_string),
    };
    let Some(answer) = call.answer.as_ref().filter(|_| decision.verdict.lets_go()) else {
        return Ok(ruling(&decision));
    };
    let made = match &answer.body {
        Some(body) if needs.calls && !answer.tools_called.is_empty() => {
            calls(dialect, answer.is_stream, body)
        }
        _ => None,
    };
    let calls_are_missing = made.is_none();
    let made = made.unwrap_or_default();
    let wanted = Wanted { destinations: needs.destinations };
    let made: Vec<(String, Content)> =
        made.into_iter().map(|(name, arguments)| (name, Content::read(&arguments, wanted))).collect();
    let tools_called: Vec<Tool<'_>> = answer
        .tools_called
        .iter()
        .filter(|name| !made.iter().any(|(made, _)| made == *name))
        .map(|name| Tool { name, call: if needs.calls { Call::With(&unread) } else { Call::Offered } })
        .chain(made.iter().map(|(name, content)| Tool { name, call: Call::With(content) }))
        .collect();
    let explained = policy.explain_response(&ResponseFacts {
        request,
        model_served: answer.model_served.as_deref(),
        tools_called: &tools_called,
        said: None,
        evaluation: evaluation(answer.evaluated),
    });
    if (calls_are_missing || body_is_missing) && asks_unread(&explained) {
        return Err("rules look into calls or bodies that are not in the bundle, or cannot be read again");
    }
    if asks_earlier(&explained) {
        return Err(EARLIER);
    }
    let of_answer = explained.decision;
    Ok(match of_answer.verdict {
        Verdict::Allow => ruling(&decision),
        // An answer cannot wait for people.
        Verdict::Block | Verdict::Hold => Ruling { verdict: Verdict::Block, ..ruling(&of_answer) },
    })
}

/// Whether a rule that was tried asked for something that could not be read.
fn asks_unread(explained: &Explanation<'_>) -> bool {
    explained.steps.iter().any(|step| matches!(step, Step::Unknown { .. }))
}

const EARLIER: &str = "what tools gave earlier in the run is not recorded";

/// Whether such a rule asked what tools gave earlier.
fn asks_earlier(explained: &Explanation<'_>) -> bool {
    let asks = |step: &Step<'_, '_>| match step {
        Step::Unknown { failed, .. } => failed.condition == Some(Condition::Provenance),
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

#[cfg(test)]
mod tests {
    use super::*;
    use estoppel_policy::PolicyDocument;

    fn policy(rules: &str) -> Policy {
        let text = format!("version: 1\nname: nn\ndefaults: {{ verdict: allow }}\nrules:\n{rules}\n");
        PolicyDocument::parse(&text).unwrap().compile()
    }

    fn chat(body: Option<&str>) -> RecordedCall {
        RecordedCall {
            route: "llm".into(),
            dialect: Some(Dialect::OpenAiChat),
            request_evaluated: Some(true),
            has_body: true,
            answer: Some(RecordedAnswer {
                tools_called: vec!["fetch".into()],
                evaluated: true,
                is_stream: false,
                body: body.map(|body| body.as_bytes().to_vec()),
                ..RecordedAnswer::default()
            }),
            ..RecordedCall::default()
        }
    }

    #[test]
    fn a_call_whose_arguments_were_kept_is_judged_by_them_and_no_other_is() {
        let names = policy("- { id: a, when: { tool: fetch }, verdict: block, reason: X }");
        assert_eq!(judge(&names, &chat(None)).unwrap().rule.as_deref(), Some("a"));
        let hosts = policy(
            "- { id: a, when: { tool: fetch, destination: evil.example }, verdict: block, reason: X }",
        );
        assert!(judge(&hosts, &chat(None)).is_err());
        let answer = |url: &str| {
            format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"fetch","arguments":"{{\"url\":\"http://{url}/\"}}"}}}}]}},"finish_reason":"tool_calls"}}]}}"#
            )
        };
        assert_eq!(judge(&hosts, &chat(Some(&answer("evil.example")))).unwrap().verdict, Verdict::Block);
        assert_eq!(judge(&hosts, &chat(Some(&answer("good.example")))).unwrap().verdict, Verdict::Allow);
        assert!(judge(&hosts, &chat(Some("{"))).is_err());
    }

    #[test]
    fn what_was_left_out_of_a_receipt_is_not_guessed() {
        let none = policy("- { id: a, when: { tool: none }, verdict: allow }");
        assert!(judge(&none, &RecordedCall { names_left_out: true, ..chat(None) }).is_err());
        let plain = RecordedCall {
            dialect: Some(Dialect::Json),
            request_evaluated: None,
            answer: None,
            ..chat(None)
        };
        assert!(judge(&none, &plain).is_err(), "blocked if it counted as not read");
    }
}
