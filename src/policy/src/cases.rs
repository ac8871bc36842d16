//! Facts with the decision that is expected of them: what a `*.cases.yaml` beside a policy holds.
//!
//! A case has a `request`, and a `response` if that is what is judged. Keys are those of the facts; a fact
//! that is left out is absent. A tool is a name, or a name with the JSON text that it is called with. `expect` is compared whole: no `rule` means that a default decided.

use std::fmt;

use crate::content::{Content, Wanted};
use crate::document::{ReasonCode, RuleId, Verdict};
use crate::error::PolicyError;
use crate::explain::Explanation;
use crate::facts::{Call, Evaluation, RequestFacts, ResponseFacts, Tool};
use crate::policy::{Decision, Policy};
use crate::provenance::Earlier;
use crate::read::{Map, Reader};
use crate::yaml::{self, Kind, Node};

/// A file of cases, checked.
#[derive(Clone, Debug)]
pub struct Cases {
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// Facts, and what is expected of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case claims.
    pub claim: String,
    request: Request,
    response: Option<Response>,
    /// What should be decided.
    pub expect: Expectation,
}

#[derive(Clone, Debug)]
struct Request {
    route: String,
    operation: Option<String>,
    dialect: Option<String>,
    method: Option<String>,
    identity: Option<String>,
    tenant: Option<String>,
    model: Option<String>,
    tools: Vec<Named>,
    body: Option<Content>,
    /// What tools gave earlier; none: nobody listened.
    earlier: Option<Earlier>,
    evaluation: Evaluation,
}

#[derive(Clone, Debug)]
struct Response {
    model_served: Option<String>,
    tools_called: Vec<Named>,
    said: Option<Content>,
    evaluation: Evaluation,
}

/// A tool, and what it is called with.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    content: Option<Content>,
}

/// The part of a decision that a case pins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decides; none if a default does.
    pub rule: Option<RuleId>,
    /// The reason code.
    pub reason: Option<ReasonCode>,
}

/// A case that came out otherwise.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{claim}`: expected {expected}, got {got}{steps}")]
pub struct CaseFailure {
    /// What the case claims.
    pub claim: String,
    /// What it expects.
    pub expected: Expectation,
    /// What was decided.
    pub got: Expectation,
    /// How, one line a step, each after a line feed.
    pub steps: String,
}

impl Cases {
    /// Reads a file of cases. All errors come at once, in the order of the text.
    pub fn parse(yaml: &str) -> Result<Self, Vec<PolicyError>> {
        let mut reader = Reader::default();
        let cases = yaml::parse(yaml, &mut reader.errors).and_then(|root| reader.cases(&root));
        match cases {
            Some(cases) if reader.errors.is_empty() => Ok(Self { cases }),
            _ => Err(reader.errors.into_list()),
        }
    }

    /// Judges every case. Empty: all came out as expected.
    pub fn check(&self, policy: &Policy) -> Vec<CaseFailure> {
        self.cases.iter().filter_map(|case| case.check(policy)).collect()
    }
}

impl Case {
    /// Judges it. None: it came out as expected.
    pub fn check(&self, policy: &Policy) -> Option<CaseFailure> {
        let told = |tools: &[Named]| -> Vec<Named> {
            tools.iter().map(|tool| tool.told(self.request.earlier.as_ref())).collect()
        };
        let sent = told(&self.request.tools);
        let tools: Vec<Tool<'_>> = sent.iter().map(|tool| tool.tool(Call::Offered)).collect();
        let request = self.request.facts(&tools);
        match &self.response {
            None => self.compare(&policy.explain_request(&request)),
            Some(response) => {
                let unread = Content::unread();
                let called = told(&response.tools_called);
                let tools: Vec<Tool<'_>> = called.iter().map(|tool| tool.tool(Call::With(&unread))).collect();
                self.compare(&policy.explain_response(&response.facts(request, &tools)))
            }
        }
    }

    fn compare(&self, explanation: &Explanation<'_>) -> Option<CaseFailure> {
        let got = Expectation::of(&explanation.decision);
        if got == self.expect {
            return None;
        }
        let steps = explanation.steps.iter().map(|step| format!("\n  {step}")).collect();
        Some(CaseFailure { claim: self.claim.clone(), expected: self.expect.clone(), got, steps })
    }
}

impl Named {
    /// With what of it stood in earlier results.
    fn told(&self, earlier: Option<&Earlier>) -> Self {
        let mut told = self.clone();
        if let (Some(content), Some(earlier)) = (&mut told.content, earlier) {
            *content = std::mem::take(content).with_earlier(earlier);
        }
        told
    }

    fn tool<'a>(&'a self, without: Call<'a>) -> Tool<'a> {
        Tool { name: &self.name, call: self.content.as_ref().map_or(without, Call::With) }
    }
}

impl Request {
    fn facts<'a>(&'a self, tools: &'a [Tool<'a>]) -> RequestFacts<'a> {
        RequestFacts {
            route: &self.route,
            operation: self.operation.as_deref(),
            dialect: self.dialect.as_deref(),
            method: self.method.as_deref(),
            identity: self.identity.as_deref(),
            tenant: self.tenant.as_deref(),
            model: self.model.as_deref(),
            tools,
            body: self.body.as_ref(),
            approved: None,
            evaluation: self.evaluation,
        }
    }
}

impl Response {
    fn facts<'a>(&'a self, request: RequestFacts<'a>, tools_called: &'a [Tool<'a>]) -> ResponseFacts<'a> {
        let (model_served, said) = (self.model_served.as_deref(), self.said.as_ref());
        ResponseFacts { request, model_served, tools_called, said, evaluation: self.evaluation }
    }
}

impl Expectation {
    fn of(decision: &Decision<'_>) -> Self {
        Self { verdict: decision.verdict, rule: decision.rule.cloned(), reason: decision.reason.cloned() }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if let Some(rule) = &self.rule {
            write!(f, " by `{rule}`")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " with {reason}")?;
        }
        Ok(())
    }
}

/// What is known of a JSON text, and of the data in it.
fn content(text: Option<String>, data: Option<Vec<Box<str>>>) -> Option<Content> {
    let wanted = Wanted { destinations: true };
    let content = match (text, &data) {
        (Some(text), _) => Content::read(text.as_bytes(), wanted),
        (None, Some(_)) => Content::unread(),
        (None, None) => return None,
    };
    Some(match data {
        Some(classes) => content.with_data(classes),
        None => content,
    })
}

const REQUEST_KEYS: [&str; 12] = [
    "route",
    "operation",
    "dialect",
    "method",
    "identity",
    "tenant",
    "model",
    "tools",
    "body",
    "data",
    "earlier",
    "evaluated",
];
const RESPONSE_KEYS: [&str; 4] = ["model_served", "tools_called", "data", "evaluated"];

impl Reader {
    fn cases(&mut self, root: &Node) -> Option<Vec<Case>> {
        let map = self.map(root)?;
        self.version(&map)?;
        self.known_keys(&map, &["version", "cases"]);
        self.required(&map, "cases", |reader, node| {
            let items = reader.list(node)?;
            Some(reader.each(items, Self::case))
        })
    }

    fn case(&mut self, node: &Node) -> Option<Case> {
        let map = self.map(node)?;
        self.known_keys(&map, &["claim", "request", "response", "expect"]);
        let claim = self.required(&map, "claim", Self::owned_text);
        let request = self.required(&map, "request", Self::request);
        let response = self.optional(&map, "response", Self::response);
        let expect = self.required(&map, "expect", Self::expectation);
        Some(Case { claim: claim?, request: request?, response, expect: expect? })
    }

    fn request(&mut self, node: &Node) -> Option<Request> {
        let map = self.map(node)?;
        self.known_keys(&map, &REQUEST_KEYS);
        let mut fact = |key| self.optional(&map, key, Self::owned_text);
        let [operation, dialect, method] = ["operation", "dialect", "method"].map(&mut fact);
        let [identity, tenant, model, body] = ["identity", "tenant", "model", "body"].map(&mut fact);
        let route = self.required(&map, "route", Self::owned_text);
        let tools = self.tools(&map, "tools");
        let evaluation = self.evaluation(&map);
        let data = self.data(&map);
        let body = content(body, data);
        let earlier = self.optional(&map, "earlier", Self::earlier);
        Some(Request {
            route: route?,
            operation,
            dialect,
            method,
            identity,
            tenant,
            model,
            tools,
            body,
            earlier,
            evaluation,
        })
    }

    fn response(&mut self, node: &Node) -> Option<Response> {
        let map = self.map(node)?;
        self.known_keys(&map, &RESPONSE_KEYS);
        Some(Response {
            model_served: self.optional(&map, "model_served", Self::owned_text),
            tools_called: self.tools(&map, "tools_called"),
            said: self.data(&map).map(|classes| Content::unread().with_data(classes)),
            evaluation: self.evaluation(&map),
        })
    }

    fn tools(&mut self, map: &Map<'_>, key: &str) -> Vec<Named> {
        let read = |reader: &mut Self, node: &Node| {
            let items = reader.list(node)?;
            Some(reader.each(items, Self::named))
        };
        self.optional(map, key, read).unwrap_or_default()
    }

    fn named(&mut self, node: &Node) -> Option<Named> {
        if !matches!(node.kind, Kind::Map(_)) {
            return Some(Named { name: self.owned_text(node)?, content: None });
        }
        let map = self.map(node)?;
        self.known_keys(&map, &["name", "arguments", "data"]);
        let name = self.required(&map, "name", Self::owned_text);
        let arguments = self.required(&map, "arguments", Self::owned_text);
        let data = self.data(&map);
        Some(Named { name: name?, content: content(arguments, data) })
    }

    /// What tools gave earlier.
    fn earlier(&mut self, node: &Node) -> Option<Earlier> {
        let items = self.list(node)?;
        let mut earlier = Earlier::new(&[0; 16]);
        self.each(items, |reader, item| {
            let map = reader.map(item)?;
            reader.known_keys(&map, &["tool", "result"]);
            let tool = reader.optional(&map, "tool", Self::owned_text);
            let result = reader.required(&map, "result", Self::owned_text)?;
            earlier.learn(tool.as_deref(), &result.into(), usize::MAX);
            Some(())
        });
        Some(earlier)
    }

    /// Classes of data that were found.
    fn data(&mut self, map: &Map<'_>) -> Option<Vec<Box<str>>> {
        let read = |reader: &mut Self, node: &Node| {
            let items = reader.list(node)?;
            Some(reader.each(items, Self::owned_text).into_iter().map(Into::into).collect())
        };
        self.optional(map, "data", read)
    }

    fn evaluation(&mut self, map: &Map<'_>) -> Evaluation {
        const WORDS: [(&str, Evaluation); 2] =
            [("whole", Evaluation::Evaluated), ("not_evaluated", Evaluation::NotEvaluated)];
        let find =
            |text: &str| WORDS.iter().find(|(word, _)| *word == text).map(|(_, evaluation)| *evaluation);
        let read = |reader: &mut Self, node: &Node| reader.parsed(node, "`whole` or `not_evaluated`", find);
        self.optional(map, "evaluated", read).unwrap_or_default()
    }

    fn expectation(&mut self, node: &Node) -> Option<Expectation> {
        let map = self.map(node)?;
        self.known_keys(&map, &["verdict", "rule", "reason"]);
        let rule = |reader: &mut Self, node: &Node| reader.parsed(node, "a rule's id", RuleId::parse);
        let reason = |reader: &mut Self, node: &Node| reader.parsed(node, "a reason code", ReasonCode::parse);
        let verdict = self.required(&map, "verdict", Self::verdict);
        let rule = self.optional(&map, "rule", rule);
        let reason = self.optional(&map, "reason", reason);
        Some(Expectation { verdict: verdict?, rule, reason })
    }

    fn owned_text(&mut self, node: &Node) -> Option<String> {
        self.text(node).map(String::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyDocument;

    fn policy() -> Policy {
        let text = "version: 1
name: nn
defaults: { verdict: allow }
rules:
- { id: no-shell, when: { tool: shell* }, verdict: block, reason: TOOL_DENIED }
";
        PolicyDocument::parse(text).unwrap().compile()
    }

    #[test]
    fn a_case_that_comes_out_otherwise_tells_how() {
        let text = "version: 1
cases:
- claim: shells pass
  request: { route: llm, model: m, tools: [search, shell] }
  expect: { verdict: allow }
- claim: a called shell is blocked
  request: { route: llm }
  response: { tools_called: [shell] }
  expect: { verdict: block, rule: no-shell, reason: TOOL_DENIED }
";
        let failures = Cases::parse(text).unwrap().check(&policy());
        let shown: Vec<_> = failures.iter().map(ToString::to_string).collect();
        let expected = "`shells pass`: expected allow, got block by `no-shell` with TOOL_DENIED
  tool `search`, model `m`: rule `no-shell` does not hold, because of `tool`
  tool `search`, model `m`: no rule holds, the default is allow
  tool `shell`, model `m`: rule `no-shell` decides";
        assert_eq!(shown, [expected]);
    }

    #[test]
    fn a_file_of_cases_is_refused_whole() {
        let text = "version: 1
cases:
- claim: x
  request: { root: llm, evaluated: yes, tools: shell }
  expect: { verdict: deny }
";
        let codes: Vec<_> =
            Cases::parse(text).unwrap_err().iter().map(|e| (e.code.as_str(), e.path.clone())).collect();
        let expected = [
            ("POLICY_MISSING_KEY", "cases[0].request"),
            ("POLICY_UNKNOWN_KEY", "cases[0].request.root"),
            ("POLICY_TYPE", "cases[0].request.evaluated"),
            ("POLICY_TYPE", "cases[0].request.tools"),
            ("POLICY_VALUE", "cases[0].expect.verdict"),
        ];
        assert_eq!(codes, expected.map(|(code, path)| (code, path.to_string())));
    }
}
