//! What the rules of a policy look into: what one request has in its body and calls, and what a model's answer calls, each
//! asked about once its arguments are whole and before any of them leaves.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_policy::{
    BodyStorage, Call, Content, Decision, Judging, Needs, Policy, Release, RequestFacts, ResponseFacts,
    RuleId, Severity, Tool, Verdict, Wanted,
};
use estoppel_wire::dialect::mcp::{Messages, TOOLS_CALL};
use estoppel_wire::dialect::{self, Dialect};

use crate::detecting::{self, Classes, Detecting, RouteDetectors};
use crate::judging::Objection;
use crate::provenance::Listening;
use crate::respond::Refusal;

/// Who says more of a request than its bytes do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    /// Which classes of data are in it.
    pub(crate) detecting: Option<&'a Detecting>,
    /// What of it a tool gave earlier.
    pub(crate) listening: Option<&'a Listening>,
}

/// What is in one request, as far as rules ask.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) body: Option<Content>,
    /// Calls of an MCP server's tools.
    calls: Vec<(Box<str>, Content)>,
}

impl Contents {
    /// Reads a request that came whole.
    pub(crate) fn read(
        needs: Needs,
        said: Said<'_>,
        dialect: Dialect,
        facts: Option<&dialect::RequestFacts>,
        coded: bool,
        chunks: &[Bytes],
    ) -> Self {
        let looks = needs.body || needs.calls && dialect == Dialect::Mcp;
        if !looks || chunks.iter().all(Bytes::is_empty) {
            return Self::default();
        }
        if coded || dialect == Dialect::Bytes {
            let data = said.detecting.filter(|_| needs.data && !coded).and_then(Detecting::in_request);
            return Self { body: Some(told(Content::unread(), data.as_ref())), calls: Vec::new() };
        }
        let text = match chunks {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let leads = matches!(dialect, Dialect::Mcp | Dialect::Json);
        let wanted = Wanted { destinations: needs.destinations && leads };
        let said = Said {
            detecting: said.detecting.filter(|_| needs.data),
            listening: said.listening.filter(|_| needs.earlier),
        };
        let data = said.detecting.and_then(Detecting::in_request);
        let is_mcp = dialect == Dialect::Mcp;
        Self {
            body: needs.body.then(|| told(Content::read(&text, wanted), data.as_ref())),
            calls: if is_mcp { server_calls(needs, said, facts, &text) } else { Vec::new() },
        }
    }

    /// Of a request whose body nobody reads.
    pub(crate) fn unread() -> Self {
        Self { body: Some(Content::unread()), calls: Vec::new() }
    }

    /// The host that this rule decided because of.
    pub(crate) fn leads_to(&self, policy: &Policy, rule: &RuleId) -> Option<String> {
        let contents = self.calls.iter().map(|(_, content)| content).chain(&self.body);
        contents.filter_map(|content| policy.leads_to(rule, content)).next()
    }

    /// The calls of one tool of a server's.
    pub(crate) fn called<'a>(&'a self, name: &'a str) -> Vec<Tool<'a>> {
        let called = self.calls.iter().filter(|(called, _)| **called == *name);
        let called: Vec<_> = called.map(|(name, content)| Tool { name, call: Call::With(content) }).collect();
        if called.is_empty() { vec![Tool::from(name)] } else { called }
    }

    /// The tools that rules are asked about: those that are called, or those that are offered.
    pub(crate) fn tools<'a>(&'a self, facts: Option<&'a dialect::RequestFacts>) -> Vec<Tool<'a>> {
        let called = self.calls.iter().map(|(name, content)| Tool { name, call: Call::With(content) });
        if !self.calls.is_empty() {
            return called.collect();
        }
        let Some(facts) = facts else { return Vec::new() };
        let names = facts.tools.items.iter().map(String::as_str).chain(facts.tool_called.as_deref());
        names.map(Tool::from).collect()
    }
}

fn server_calls(
    needs: Needs,
    said: Said<'_>,
    facts: Option<&dialect::RequestFacts>,
    text: &[u8],
) -> Vec<(Box<str>, Content)> {
    if !needs.calls {
        return Vec::new();
    }
    let Ok(messages) = Messages::read(text) else {
        let named = facts.and_then(|facts| facts.tool_called.as_deref());
        return named.map(|name| (name.into(), Content::unread())).into_iter().collect();
    };
    let batch = messages.batch;
    let calls = messages.list.into_iter().enumerate();
    let calls = calls.filter(|(_, message)| message.method.as_deref() == Some(TOOLS_CALL));
    let content = |(index, message): (usize, dialect::mcp::Message)| {
        let data = said.detecting.and_then(|detecting| detecting.in_server_call(batch.then_some(index)));
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let arguments = message.arguments.map(|span| text.get(within(span.start)..within(span.end)));
        let content = match arguments {
            None => Content::read(b"{}", wanted(needs)),
            Some(arguments) => Content::read(arguments.unwrap_or_default(), wanted(needs)),
        };
        let content = told(content, data.as_ref());
        let content = match said.listening {
            Some(listening) => listening.tell(content),
            None => content,
        };
        (message.name.unwrap_or_default().into(), content)
    };
    calls.map(content).collect()
}

/// With the classes that detectors found.
fn told(content: Content, classes: Option<&Classes>) -> Content {
    match classes {
        Some(classes) => classes.tell(content),
        None => content,
    }
}

fn wanted(needs: Needs) -> Wanted {
    Wanted { destinations: needs.destinations }
}

/// A decision of the policy's, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruled {
    pub(crate) rule: Option<Box<str>>,
    pub(crate) code: Option<Box<str>>,
    message: Option<Box<str>>,
    pub(crate) severity: Option<Severity>,
    pub(crate) threat: Vec<Box<str>>,
    pub(crate) storage: BodyStorage,
    /// Classes of data in the call that it is about, and where that leads.
    pub(crate) classes: Vec<&'static str>,
    pub(crate) destination: Option<String>,
}

impl Ruled {
    pub(crate) fn new(decision: &Decision<'_>) -> Self {
        Self {
            rule: decision.rule.map(|rule| rule.as_str().into()),
            code: decision.reason.map(|reason| reason.as_str().into()),
            message: decision.message.map(Into::into),
            severity: decision.severity,
            threat: decision.threat.iter().map(|id| id.as_str().into()).collect(),
            storage: decision.body_storage.clone(),
            classes: Vec::new(),
            destination: None,
        }
    }

    pub(crate) fn reason(&self) -> Reason {
        self.code.as_deref().and_then(Reason::parse).unwrap_or(Reason::PolicyBlock)
    }

    /// What the caller is told.
    pub(crate) fn refusal(&self) -> Refusal {
        let code = self.code.as_deref().map(Into::into);
        Refusal { code, message: self.message.clone(), ..Refusal::new(self.reason()) }
    }
}

/// What the rules are told of a call's request, for as long as its answer comes.
pub(crate) struct Asking {
    pub(crate) route: Box<str>,
    pub(crate) operation: Box<str>,
    pub(crate) dialect: Option<&'static str>,
    pub(crate) method: Box<str>,
    pub(crate) identity: Option<Box<str>>,
    pub(crate) tenant: Option<Box<str>>,
    pub(crate) model: Option<Box<str>>,
    pub(crate) approved: Option<Box<str>>,
}

/// Asks the rules about the calls of a model's answer.
pub(crate) struct CallRules {
    policy: Arc<Policy>,
    needs: Needs,
    asking: Asking,
    contents: Arc<Contents>,
    /// Those who find classes of data; none where no rule asks for any.
    detectors: Option<Arc<RouteDetectors>>,
    /// What tools gave earlier; none where no rule asks.
    listening: Option<Listening>,
    /// The model that the answer says it comes from.
    served: Option<Box<str>>,
}

impl CallRules {
    pub(crate) fn new(
        policy: Arc<Policy>,
        needs: Needs,
        asking: Asking,
        contents: Arc<Contents>,
        detectors: Option<Arc<RouteDetectors>>,
        listening: Option<Listening>,
    ) -> Self {
        let detectors = detectors.filter(|_| needs.data);
        Self { policy, needs, asking, contents, detectors, listening, served: None }
    }

    pub(crate) fn served(&mut self, model: &str) {
        if self.served.as_deref() != Some(model) {
            self.served = Some(model.into());
        }
    }

    /// Asks about a call whose arguments are whole.
    ///
    /// # Errors
    /// It must not leave.
    pub(crate) fn judge(&self, name: &str, arguments: &[u8]) -> Result<(), Objection> {
        let classes = self.detectors.as_ref().and_then(|detectors| detectors.in_call(arguments));
        let content = told(Content::read(arguments, wanted(self.needs)), classes.as_ref());
        let content = match &self.listening {
            Some(listening) => listening.tell(content),
            None => content,
        };
        let asking = &self.asking;
        let request = RequestFacts {
            route: &asking.route,
            operation: Some(&asking.operation),
            dialect: asking.dialect,
            method: Some(&asking.method),
            identity: asking.identity.as_deref(),
            tenant: asking.tenant.as_deref(),
            model: asking.model.as_deref(),
            approved: asking.approved.as_deref(),
            body: self.contents.body.as_ref(),
            ..RequestFacts::default()
        };
        let decision = self.policy.response(&ResponseFacts {
            request,
            model_served: self.served.as_deref(),
            tools_called: &[Tool { name, call: Call::With(&content) }],
            ..ResponseFacts::default()
        });
        match decision.verdict {
            Verdict::Allow => Ok(()),
            Verdict::Block | Verdict::Hold => Err(Objection::of_rule(Ruled {
                classes: classes.map(|classes| classes.found).unwrap_or_default(),
                destination: decision.rule.and_then(|rule| self.policy.leads_to(rule, &content)),
                ..Ruled::new(&decision)
            })),
        }
    }
}

/// What keeps the rules of a policy from being enforced on one of these routes: what calls are made with leaves before it is
/// judged, or nothing says which call it was that people let pass.
pub fn rule_errors<'r>(policy: &Policy, routes: impl IntoIterator<Item = &'r str>) -> Vec<String> {
    let release = |judging: &Judging| match judging {
        Judging::None => None,
        Judging::On(terms) => match terms.release() {
            Release::StreamAndCut => Some("stream_and_cut"),
            Release::Observe => Some("observe"),
            Release::HoldStructured | Release::HoldAll => None,
        },
    };
    let wrong = |route: &str| {
        let settings = policy.route(route);
        let of_operations = settings.operations.iter().filter_map(|operation| operation.judge.as_ref());
        let release = [&settings.judge].into_iter().chain(of_operations).find_map(release)?;
        policy.needs(route).calls.then(|| {
            format!(
                "route `{route}`: rules look into the arguments of calls, which `release: {release}` lets leave first"
            )
        })
    };
    let not_kept = |route: &str| {
        policy.hold_without_storage(route).map(|rule| {
            format!(
                "route `{route}`: rule `{rule}` holds calls, and `body_storage: none` keeps nothing that an approval could name"
            )
        })
    };
    routes.into_iter().flat_map(|route| wrong(route).into_iter().chain(not_kept(route))).collect()
}

/// Rules that can only leave calls on one of these routes not evaluated: no detector there finds what they ask for.
pub fn rule_warnings<'r>(policy: &Policy, routes: impl IntoIterator<Item = &'r str>) -> Vec<String> {
    let unseen = |route: &'r str| {
        let found = detecting::classes(&policy.route(route).detectors);
        let whose = if route.is_empty() { "any other route".into() } else { format!("route `{route}`") };
        let warning = |class| {
            format!("{whose}: no detector of requests or calls finds `{class}`, which a rule asks for")
        };
        policy.data_not_in(route, &found).into_iter().map(warning).collect::<Vec<_>>()
    };
    routes.into_iter().flat_map(unseen).collect()
}
