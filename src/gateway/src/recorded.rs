//! Calls that were recorded, judged by a policy again: from what their receipts and stored bodies say, by the code that judges
//! traffic. What they do not say is not guessed: such a call is undecided.
//!
//! | file | |
//! |---|---|
//! | `receipt.rs` | what a receipt says of a call |
//! | `rules.rs` | what rules say of a call |
//! | `values.rs` | what contracts and detectors say of its bytes |
//! | `series.rs` | what controls say of calls, one after the other |

mod receipt;
mod rules;
mod series;
mod values;

pub use series::{Prepared, in_series};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{Usage, VerdictAction};
use estoppel_policy::{Needs, Operation, Policy, Verdict};
use estoppel_wire::dialect::Dialect;

use crate::contracts::{Contracts, Schemas};
use crate::detecting::{Detecting, RouteDetectors};
use crate::judging::Objection;

use rules::Request;
pub(crate) use rules::calls;
use values::{Detected, Values};

/// What is known of a recorded call.
#[derive(Clone, Debug, Default)]
pub struct RecordedCall {
    pub route: String,
    pub operation: String,
    /// The policy of then listed the route's operations.
    pub operations_listed: bool,
    /// The one of these that it was.
    pub listed: Option<Operation>,
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
    /// Its body is plain JSON that was read whole. Whether that counted before the verdict goes by who asked to read it.
    pub is_recognized: bool,
    /// It has a body.
    pub has_body: bool,
    /// Nobody read that.
    pub is_unread: bool,
    /// The body, if it was stored as it came.
    pub request_body: Option<Vec<u8>>,
    /// When it began, in microseconds since 1970.
    pub began_us: u64,
    /// What came back, if the request was let go and something did.
    pub answer: Option<RecordedAnswer>,
}

/// What is known of the answer.
#[derive(Clone, Debug, Default)]
pub struct RecordedAnswer {
    pub status: u16,
    pub model_served: Option<String>,
    pub tools_called: Vec<String>,
    pub evaluated: bool,
    /// Nobody read it.
    pub is_unread: bool,
    /// As events.
    pub is_stream: bool,
    /// All of it was read.
    pub is_whole: bool,
    /// What it states of tokens.
    pub usage: Usage,
    /// It has a body.
    pub has_body: bool,
    /// What the upstream sent, if it was stored as it came.
    pub body: Option<Vec<u8>>,
}

/// What was stored of a call as it came.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    pub request: Option<Vec<u8>>,
    /// What came from the upstream.
    pub answer: Option<Vec<u8>>,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub verdict: Verdict,
    pub rule: Option<String>,
    pub reason: Option<String>,
}

/// What rules, contracts and detectors say, as a receipt would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejudged {
    pub action: VerdictAction,
    pub rule: Option<String>,
    pub reason: Option<String>,
    /// What would have been asked as well, and goes by more than the call.
    pub not_asked: Vec<&'static str>,
    /// Rules of detectors that held, sorted.
    pub findings: Vec<Box<str>>,
}

/// What a policy takes a recorded call for.
enum Listing {
    /// The operation that it was.
    Same,
    /// None of the list, or there is none: what calls are called then.
    Other(&'static str),
    /// None of the list, which refuses such.
    Denied,
}

/// What [`Rejudged::not_asked`] calls them.
const CONTROLS: &str = "controls";

/// Why it is not known what a policy says.
pub type Cause = String;

/// What is not known of a call.
#[derive(Clone, Debug)]
pub struct Undecided<T> {
    pub cause: Cause,
    /// It is one of these two.
    pub either: Option<Box<[T; 2]>>,
}

impl<T> From<Cause> for Undecided<T> {
    fn from(cause: Cause) -> Self {
        Self { cause, either: None }
    }
}

/// Whether a block for this reason, which no rule of a policy gave, goes by what can be judged again.
pub fn goes_by_bytes(reason: &str) -> bool {
    use Reason as R;
    let Some(reason) = Reason::parse(reason) else { return false };
    matches!(
        reason,
        R::PolicyBlock
            | R::NotEvaluated
            | R::ContractViolated
            | R::RequestViolated
            | R::ContractMissing
            | R::ContractUnsupported
            | R::ValueMalformed
            | R::ValueAmbiguous
            | R::ValueTruncated
            | R::HeldBytesMax
            | R::SecretFound
            | R::PiiFound
            | R::UnicodeFound
            | R::SsrfFound
            | R::ExfiltrationFound
            | R::InjectionFound
            | R::PoisoningFound
            | R::FindingsMax
    )
}

/// A policy that recorded calls are judged by.
pub struct Retrial {
    policy: Arc<Policy>,
    contracts: Result<Contracts, Cause>,
    schemas: Arc<Schemas>,
    routes: RefCell<BTreeMap<String, Rc<Route>>>,
}

/// What a policy has on one route.
struct Route {
    needs: Needs,
    detectors: Result<Option<Arc<RouteDetectors>>, Cause>,
}

impl Route {
    fn detectors(&self) -> Result<Option<&Arc<RouteDetectors>>, Cause> {
        self.detectors.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Whether the policy has a plain JSON request read before it is judged. It counts as read then.
    fn reads_json(&self) -> bool {
        let detects = || matches!(self.detectors(), Ok(Some(detectors)) if detectors.reads_requests());
        self.needs.body || self.needs.hold || self.needs.keyed || detects()
    }
}

impl Retrial {
    /// `key` is drawn at random.
    pub fn new(policy: Policy, key: [u64; 2]) -> Self {
        let contracts = Contracts::new(&policy).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("contracts of the policy cannot be enforced: {first}")
        });
        Self {
            policy: Arc::new(policy),
            contracts,
            schemas: Arc::new(Schemas::new(key)),
            routes: RefCell::default(),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the rules say of a call.
    ///
    /// # Errors
    /// Why it is not known: what they ask for was not recorded.
    pub fn rules(&self, call: &RecordedCall) -> Result<Ruling, Cause> {
        let route = self.route(&call.route);
        let ruled = in_either_case(call, &route, |evaluated| {
            let detecting = values::detect_request(&route, call)?.detecting;
            let request = Request::read(&route, call, evaluated, detecting.as_deref())?;
            let ruling = request.ruling(&self.policy)?;
            match call.answer.as_ref().filter(|_| ruling.verdict.lets_go()) {
                Some(answer) => request.ruling_of_answer(&self.policy, answer, ruling),
                None => Ok(ruling),
            }
        });
        ruled.map_err(|undecided| undecided.cause)
    }

    /// What the whole policy says of a call: its rules, contracts and detectors, in the order in which traffic meets them.
    ///
    /// # Errors
    /// As [`Self::rules`].
    pub fn judge(&self, call: &RecordedCall) -> Result<Rejudged, Undecided<Rejudged>> {
        let route = self.route(&call.route);
        match self.operation(call)? {
            Listing::Same => in_either_case(call, &route, |evaluated| self.judge_as(&route, call, evaluated)),
            Listing::Other(operation) => {
                let call = RecordedCall { operation: operation.into(), ..call.clone() };
                in_either_case(&call, &route, |evaluated| self.judge_as(&route, &call, evaluated))
            }
            Listing::Denied => Ok(Rejudged::unlisted()),
        }
    }

    fn judge_as(&self, route: &Rc<Route>, call: &RecordedCall, evaluated: bool) -> Result<Rejudged, Cause> {
        let Detected { mut detecting, found } = values::detect_request(route, call)?;
        let judged = self.judge_detected(route, call, evaluated, &mut detecting, found)?;
        let findings = detecting.map(|detecting| detecting.record().0.classes).unwrap_or_default();
        Ok(Rejudged { findings, ..judged })
    }

    fn judge_detected(
        &self,
        route: &Rc<Route>,
        call: &RecordedCall,
        evaluated: bool,
        detecting: &mut Option<Box<Detecting>>,
        found: Result<(), Objection>,
    ) -> Result<Rejudged, Cause> {
        let values = Values::new(self, route, call)?;
        let evaluated = evaluated || values.reads_request();
        let request = Request::read(route, call, evaluated, detecting.as_deref())?;
        let ruling = request.ruling(&self.policy)?;
        if ruling.verdict == Verdict::Block {
            return Ok(Rejudged::ruled(VerdictAction::Block, ruling));
        }
        if call.operation == "mcp.batch" {
            return Err("messages of a batch are not told apart".into());
        }
        if let Err(objection) = found {
            return Ok(Rejudged::refused(objection));
        }
        let asked = match values.judge_request()? {
            Ok(asked) => asked,
            Err(objection) => return Ok(Rejudged::refused(objection)),
        };
        values::no_one_else(route, estoppel_policy::Surface::Request, call.has_body)?;
        if ruling.verdict == Verdict::Hold {
            return Ok(Rejudged::ruled(VerdictAction::Hold, ruling));
        }
        let not_asked = if request.is_counted(&self.policy) { vec![CONTROLS] } else { Vec::new() };
        let judged = match &call.answer {
            None => Rejudged::ruled(VerdictAction::Allow, ruling),
            Some(answer) => values.judge_answer(answer, &request, asked, detecting, ruling)?,
        };
        Ok(Rejudged { not_asked, ..judged })
    }

    /// What the call's operation is by this policy. It goes by the path, which is in no receipt: of that is known what the operation of then says.
    fn operation(&self, call: &RecordedCall) -> Result<Listing, Cause> {
        let operations = &self.policy.route(&call.route).operations;
        // Other dialects name it themselves.
        let unlisted = match call.dialect {
            None | Some(Dialect::Bytes) => Some("http"),
            Some(Dialect::Json) => Some("json"),
            Some(_) => None,
        };
        let as_unlisted = || unlisted.map_or(Listing::Same, Listing::Other);
        let unknown = || "what its operation is goes by its path, which is not recorded".to_owned();
        match (operations.iter().next().is_some(), call.operations_listed) {
            (false, false) => Ok(Listing::Same),
            (false, true) => Ok(as_unlisted()),
            (true, true) if operations.get(&call.operation).is_some() => Ok(Listing::Same),
            (true, _) => match &call.listed {
                Some(listed) if operations.leave_out(listed) => match operations.others() {
                    Verdict::Allow => Ok(as_unlisted()),
                    Verdict::Block | Verdict::Hold => Ok(Listing::Denied),
                },
                _ => Err(unknown()),
            },
        }
    }

    fn route(&self, name: &str) -> Rc<Route> {
        if let Some(known) = self.routes.borrow().get(name) {
            return known.clone();
        }
        let settings = self.policy.route(name);
        let detectors = RouteDetectors::build(&settings.detectors);
        let route = Rc::new(Route { needs: self.policy.needs(name), detectors });
        self.routes.borrow_mut().insert(name.to_owned(), route.clone());
        route
    }
}

impl Rejudged {
    fn ruled(action: VerdictAction, ruling: Ruling) -> Self {
        Self { action, rule: ruling.rule, reason: ruling.reason, not_asked: Vec::new(), findings: Vec::new() }
    }

    fn unlisted() -> Self {
        Self {
            action: VerdictAction::Block,
            rule: None,
            reason: Some(Reason::OperationDenied.code().to_owned()),
            not_asked: Vec::new(),
            findings: Vec::new(),
        }
    }

    fn refused(objection: Objection) -> Self {
        let (rule, code) = objection.ruled.map(|ruled| (ruled.rule, ruled.code)).unwrap_or_default();
        let code = code.map_or_else(|| objection.reason.code().to_owned(), Into::into);
        Self {
            action: VerdictAction::Block,
            rule: rule.map(Into::into),
            reason: Some(code),
            not_asked: Vec::new(),
            findings: Vec::new(),
        }
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

/// Where nobody knows whether the request counts as read, both have to come to the same.
fn in_either_case<T: PartialEq>(
    call: &RecordedCall,
    route: &Route,
    judge: impl Fn(bool) -> Result<T, Cause>,
) -> Result<T, Undecided<T>> {
    if call.names_left_out {
        return Err(Cause::from("names were cut or left out of the receipt").into());
    }
    let is_read = (call.is_recognized && route.reads_json()).then_some(true);
    if let Some(evaluated) = is_read.or(call.request_evaluated) {
        return Ok(judge(evaluated)?);
    }
    let (read, unread) = (judge(true)?, judge(false)?);
    if read == unread {
        return Ok(read);
    }
    let cause =
        "whether its plain JSON counts as read goes by the route's configuration, which is not recorded";
    let cause = cause.into();
    Err(Undecided { cause, either: Some(Box::new([read, unread])) })
}

fn chunk(body: Option<&Vec<u8>>) -> Bytes {
    body.map(|body| Bytes::copy_from_slice(body)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use estoppel_policy::PolicyDocument;

    fn retrial(more: &str) -> Retrial {
        let text = format!("version: 1\nname: nn\ndefaults: {{ verdict: allow }}\n{more}\n");
        Retrial::new(PolicyDocument::parse(&text).unwrap().compile(), [0; 2])
    }

    fn policy(rules: &str) -> Retrial {
        retrial(&format!("rules:\n{rules}"))
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
        assert_eq!(names.rules(&chat(None)).unwrap().rule.as_deref(), Some("a"));
        let hosts = policy(
            "- { id: a, when: { tool: fetch, destination: evil.example }, verdict: block, reason: X }",
        );
        assert!(hosts.rules(&chat(None)).is_err());
        let answer = |url: &str| {
            format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","tool_calls":[{{"id":"1","type":"function","function":{{"name":"fetch","arguments":"{{\"url\":\"http://{url}/\"}}"}}}}]}},"finish_reason":"tool_calls"}}]}}"#
            )
        };
        assert_eq!(hosts.rules(&chat(Some(&answer("evil.example")))).unwrap().verdict, Verdict::Block);
        assert_eq!(hosts.rules(&chat(Some(&answer("good.example")))).unwrap().verdict, Verdict::Allow);
        assert!(hosts.rules(&chat(Some("{"))).is_err());
    }

    #[test]
    fn what_was_left_out_of_a_receipt_is_not_guessed() {
        let none = policy("- { id: a, when: { tool: none }, verdict: allow }");
        assert!(none.rules(&RecordedCall { names_left_out: true, ..chat(None) }).is_err());
        let plain = RecordedCall {
            dialect: Some(Dialect::Json),
            request_evaluated: None,
            answer: None,
            ..chat(None)
        };
        assert!(none.rules(&plain).is_err(), "blocked if it counted as not read");
    }

    fn cause(more: &str, call: &RecordedCall) -> Cause {
        retrial(more).judge(call).unwrap_err().cause
    }

    #[test]
    fn what_goes_by_more_than_the_call_is_undecided() {
        let call = RecordedCall { request_body: Some(b"{}".to_vec()), ..chat(Some("{}")) };
        assert_eq!(retrial("").judge(&call).unwrap().action, VerdictAction::Allow);
        let external = "detectors: { dlp: { url: 'http://127.0.0.1:1/', mode: enforce } }";
        assert!(cause(external, &call).contains("`dlp`"));
        let operations = "routes: { llm: { operations: [{ id: a, method: POST, path: /a }] } }";
        assert!(cause(operations, &call).contains("path"));
        let batch = RecordedCall {
            operation: "mcp.batch".into(),
            dialect: Some(Dialect::Mcp),
            answer: None,
            ..call.clone()
        };
        assert!(cause("", &batch).contains("batch"));
        let secrets = "detectors: { secrets: {} }";
        assert!(cause(secrets, &RecordedCall { request_body: None, ..call.clone() }).contains("request"));
        let unread = RecordedAnswer { is_unread: true, has_body: true, ..call.answer.clone().unwrap() };
        assert!(cause(secrets, &RecordedCall { answer: Some(unread), ..call }).contains("not read"));
    }

    #[test]
    fn an_operation_that_a_policy_lists_no_more_is_judged_as_it_would_be_met() {
        let list = |operations: &str| {
            format!(
                "routes: {{ llm: {{ operations: [{operations}] }} }}\nrules: [{{ id: a, when: {{ operation: orders.drop }}, verdict: allow }}, \
                 {{ id: b, when: {{ operation: json }}, verdict: block, reason: PLAIN }}]"
            )
        };
        let kept = "{ id: orders.list, method: GET, path: /orders }";
        let dropped = "{ id: orders.drop, method: DELETE, path: '/orders/{id}' }";
        let then = retrial(&list(&format!("{kept}, {dropped}")));
        let receipt = serde_json::json!({
            "dialect": "json", "operation": "orders.drop", "request": { "route": "llm", "method": "DELETE", "bytes": 2 },
            "evaluated": { "request": { "state": "streamed" } }, "verdict": { "action": "allow" }, "policy": { "rule": "a" },
        });
        let call = RecordedCall::of_receipt(&receipt, Bodies::default(), None, &then);
        let call = RecordedCall { request_evaluated: Some(true), ..call };
        let said = |more: &str| {
            let judged = retrial(more).judge(&call).map_err(|undecided| undecided.cause)?;
            Ok::<_, Cause>((judged.action, judged.reason))
        };
        let (allow, block) = (VerdictAction::Allow, VerdictAction::Block);
        let code = |code: &str| Some(code.to_owned());
        assert_eq!(said(&list(&format!("{kept}, {dropped}"))), Ok((allow, None)));
        assert_eq!(said(&list(kept)), Ok((block, code("OPERATION_DENIED"))));
        let others = list(kept).replace("] }", "], other_operations: allow }");
        assert_eq!(said(&others), Ok((block, code("PLAIN"))), "it is called as any other is");
        let nothing = "rules: [{ id: b, when: { operation: json }, verdict: block, reason: PLAIN }]";
        assert_eq!(said(nothing), Ok((block, code("PLAIN"))), "no list at all");
        assert_eq!(said(""), Ok((allow, None)));
        let renamed = list("{ id: orders.remove, method: DELETE, path: '/orders/{number}' }");
        assert!(said(&renamed).unwrap_err().contains("path"), "it may be another one");
    }

    #[test]
    fn plain_json_that_was_read_whole_counts_as_read_where_the_policy_has_it_read_first() {
        let detects = retrial("detectors: { secrets: { mode: enforce } }");
        let receipt = serde_json::json!({
            "dialect": "json", "request": { "route": "llm", "method": "POST", "bytes": 30 },
            "evaluated": { "request": { "bytes": 30, "state": "recognized" } },
            "verdict": { "action": "block", "reason": "SECRET_FOUND" },
        });
        let body = |text: &str| Bodies { request: Some(text.as_bytes().to_vec()), answer: None };
        let secret = r#"{"key":"AKIAIOSFODNN7EXAMPLE"}"#;
        let call = RecordedCall::of_receipt(&receipt, body(secret), None, &detects);
        let judged = detects.judge(&call).unwrap();
        assert_eq!(judged.reason.as_deref(), Some("SECRET_FOUND"));
        assert_eq!(judged.findings.iter().map(|rule| &**rule).collect::<Vec<_>>(), ["secret.aws_key"]);
        let call = RecordedCall::of_receipt(&receipt, body("{}"), None, &detects);
        assert_eq!(detects.judge(&call).unwrap().action, VerdictAction::Allow);
        assert!(cause("", &call).contains("configuration"), "nobody reads it first there");
        let mut unread = receipt.clone();
        unread["evaluated"]["request"]["defect"] = "JSON_MALFORMED".into();
        let call = RecordedCall::of_receipt(&unread, body("{}"), None, &detects);
        assert_eq!(detects.judge(&call).unwrap().reason.as_deref(), Some("NOT_EVALUATED"));
    }

    #[test]
    fn where_one_of_two_is_left_open_both_are_told() {
        let plain = RecordedCall {
            dialect: Some(Dialect::Json),
            request_evaluated: None,
            answer: None,
            ..chat(None)
        };
        let [read, unread] = *retrial("").judge(&plain).unwrap_err().either.unwrap();
        assert_eq!((read.action, unread.action), (VerdictAction::Allow, VerdictAction::Block));
        assert_eq!(unread.reason.as_deref(), Some("NOT_EVALUATED"));
    }
}
