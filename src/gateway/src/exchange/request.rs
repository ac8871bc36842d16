//! The request side of an exchange: what is known of it, and what is judged before anything leaves.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_policy::{Call, Content, Evaluation, Release, RequestFacts, Tool, ToolLists};
use estoppel_wire::dialect::mcp::{Message, Messages};
use estoppel_wire::dialect::{self, Dialect};
use sha2::{Digest as _, Sha256};

use super::{Exchange, Request, evaluation, held};
use crate::body::Upload;
use crate::controls::Asks;
use crate::identity::Caller;
use crate::judging::{self, Asked, Objection, RouteTerms, mcp};
use crate::mcp::agreement;
use crate::mcp::lists;
use crate::mcp::opening::Opening;
use crate::rules::{Asking, CallRules, Contents, Said};
use crate::store::{Feed, Form, Side};

impl Exchange {
    /// Where the request body is stored, if it is.
    pub(crate) fn request_feed(&self) -> Option<Feed> {
        self.feed(Side::Request, Form::Json)
    }

    /// Takes note of what was read in a request body, before it is judged.
    pub(crate) fn request_read(&mut self, facts: dialect::RequestFacts) {
        self.request = Request::Held { hash: Sha256::new(), bytes: 0, facts: Some(Box::new(facts)) };
    }

    /// Takes note of a request body that was read whole, once it is known how it is captured.
    pub(crate) fn request_held(&mut self, chunks: &[Bytes]) {
        let judges = self.route.as_ref().is_some_and(|route| route.judging.is_some());
        if let Request::Held { facts: Some(facts), .. } = &self.request
            && judges
        {
            self.asked = Some(Box::new(Asked::new(&facts.contracts, chunks)));
        }
        let hashes = self.hashes();
        let feed = self.request_feed();
        let Request::Held { hash, bytes, .. } = &mut self.request else { return };
        for chunk in chunks {
            *bytes += chunk.len() as u64;
            if hashes {
                hash.update(chunk);
            }
            if let Some(feed) = &feed {
                feed.push(chunk.clone());
            }
        }
    }

    /// SHA-256 of a request body that was read whole; none where nothing is kept of bodies.
    pub(crate) fn request_digest(&self) -> Option<[u8; 32]> {
        match &self.request {
            Request::Held { hash, .. } if self.hashes() => Some(hash.clone().finalize().into()),
            Request::Held { .. } | Request::Sent(_) => None,
        }
    }

    /// The tool that a request calls, or the one that it offers.
    pub(crate) fn request_tool(&self) -> Option<&str> {
        let facts = self.request.facts()?;
        let offered = match facts.tools.items.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        facts.tool_called.as_deref().or(offered)
    }

    /// What the request is called.
    pub(crate) fn request_operation(&self) -> &str {
        match self.request.facts() {
            Some(facts) if !self.is_listed() => &facts.operation,
            _ => &self.record.operation,
        }
    }

    /// The request body will be read while it is sent.
    pub(crate) fn request_sent(&mut self, upload: Arc<Upload>) {
        self.request = Request::Sent(upload);
    }

    /// What is known of the request, for the policy.
    pub(crate) fn judge_request<R>(&self, judge: impl FnOnce(&RequestFacts<'_>) -> R) -> R {
        let facts = self.request.facts();
        let tools = self.contents.tools(facts);
        judge(&self.request_facts(facts, &tools))
    }

    /// What it says of the tokens that it asks for.
    pub(crate) fn asks(&self) -> Asks {
        match &self.request {
            Request::Held { bytes, facts, .. } => {
                let output_max = facts.as_ref().and_then(|facts| facts.output_max);
                Asks { output_max, request_bytes: *bytes }
            }
            Request::Sent(_) => Asks { output_max: None, request_bytes: 0 },
        }
    }

    pub(super) fn request_facts<'a>(
        &'a self,
        facts: Option<&'a dialect::RequestFacts>,
        tools: &'a [Tool<'a>],
    ) -> RequestFacts<'a> {
        RequestFacts {
            route: self.route.as_ref().map_or("", |route| &route.name),
            operation: Some(match facts {
                Some(facts) if !self.is_listed() => &facts.operation,
                _ => &self.record.operation,
            }),
            dialect: self.record.dialect,
            method: Some(&self.record.request.method),
            identity: self.record.identity.subject.as_deref(),
            tenant: self.record.tenant.as_deref(),
            model: facts.and_then(|facts| facts.model.as_deref()),
            approved: self.approved.as_deref(),
            tools,
            body: self.contents.body.as_ref(),
            evaluation: match facts {
                _ if self.request_judged => Evaluation::Evaluated, // or it is refused for its contract
                None if self.request_unread => Evaluation::NotEvaluated,
                None => Evaluation::Evaluated,
                Some(facts) => {
                    let names = [facts.model.as_deref(), facts.tool_called.as_deref()];
                    evaluation(&facts.evaluated, &facts.tools, &names)
                }
            },
        }
    }

    /// Writes down who calls, and what of their credential goes no further.
    pub(crate) fn called_by(&mut self, caller: Caller) {
        let Caller { identity, tenant, details, header, .. } = caller;
        (self.record.identity, self.record.tenant, self.record.identity_details) =
            (identity, tenant, details);
        let forwards = self.route.as_ref().is_some_and(|route| route.forwards_credential);
        self.spent = header.filter(|_| !forwards);
    }

    /// Whether the policy names what the call does.
    pub(super) fn is_listed(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.listed(self.dialect).is_some())
    }

    /// Why the request body could not be read to its end, if that is so.
    pub(crate) fn upload_error(&self) -> Option<Reason> {
        match &self.request {
            Request::Held { .. } => None,
            Request::Sent(upload) => upload.error().map(crate::body::ReadError::reason),
        }
    }

    /// Id of the JSON-RPC request, as JSON text.
    pub(crate) fn rpc_id(&self) -> Option<String> {
        let Request::Held { facts: Some(facts), .. } = &self.request else { return None };
        let id = facts.rpc_id.as_deref()?;
        if facts.rpc_id_is_text { serde_json::to_string(id).ok() } else { Some(id.to_owned()) }
    }

    /// The run's id as a header value.
    pub(crate) fn run_header(&self) -> Option<http::HeaderValue> {
        http::HeaderValue::try_from(self.run.id().to_string()).ok()
    }

    /// Reads what rules look into in a request that came whole.
    pub(crate) fn look_into(&mut self, coded: bool, chunks: &[Bytes]) {
        let needs = self.route.as_ref().map(|route| route.needs).unwrap_or_default();
        let listening = self.listen(coded, chunks);
        let facts = self.request.facts();
        let said = Said { detecting: self.detecting.as_deref(), listening: listening.as_ref() };
        self.contents = Arc::new(Contents::read(needs, said, self.dialect, facts, coded, chunks));
    }

    /// The request's body is not read, though rules look into it.
    pub(crate) fn not_looked_into(&mut self) {
        self.contents = Arc::new(Contents::unread());
    }

    /// What rules are told of a call in the answer before its arguments are whole.
    pub(super) fn call<'a>(&self, foreign: bool, too_late: bool, unread: &'a Content) -> Call<'a> {
        let needs = self.route.as_ref().is_some_and(|route| route.needs.calls);
        let holds = self.response.as_ref().is_some_and(|response| response.judges_calls());
        match (needs, holds && !foreign && !too_late) {
            (false, _) => Call::Offered, // no rule asks
            (true, true) => Call::ToCome,
            (true, false) => Call::With(unread),
        }
    }

    /// What asks the rules about each call in the answer, if they look into any.
    pub(super) fn call_rules(&self) -> Option<CallRules> {
        let route = self.route.as_ref().filter(|route| route.needs.calls)?;
        let facts = self.request.facts();
        let request = self.request_facts(facts, &[]);
        let owned = |fact: Option<&str>| fact.map(Into::into);
        let asking = Asking {
            route: route.name.as_ref().into(),
            operation: request.operation.unwrap_or_default().into(),
            dialect: self.record.dialect,
            method: request.method.unwrap_or_default().into(),
            identity: owned(request.identity),
            tenant: owned(request.tenant),
            model: owned(request.model),
            approved: owned(request.approved),
        };
        let (policy, contents) = (self.snapshot.policy.clone(), self.contents.clone());
        let listening = self.listening().filter(|_| route.needs.earlier);
        Some(CallRules::new(policy, route.needs, asking, contents, route.detectors.clone(), listening))
    }

    /// Holds a request against the policy's contracts for it.
    ///
    /// # Errors
    /// It does not keep to it, or cannot be held against it.
    pub(crate) fn judge_request_body(
        &mut self,
        head: &http::request::Parts,
        coded: bool,
        chunks: &[Bytes],
    ) -> Result<(), Objection> {
        if self.dialect == Dialect::Mcp && !coded {
            let body = chunks.concat();
            if let Ok(messages) = Messages::read(&body) {
                let mirrored = |tool: &str| self.route.as_ref()?.mirrored_of(&self.server_path(head), tool);
                agreement::check(&head.headers, &messages, &body, mirrored)?;
            }
        }
        let Some(terms) = self.route.as_ref().and_then(|route| route.judging.clone()) else {
            let is_streamed = self.is_posted() || self.opens_stream(head);
            if (self.awaits_list(head) || is_streamed) && !coded {
                self.judge_server_calls(&RouteTerms::none(), head, coded, chunks)?;
            }
            return self.begin_posted();
        };
        if self.dialect == Dialect::Mcp {
            let judged = self.judge_server_calls(&terms, head, coded, chunks);
            self.unless_observed(&terms, judged.map_err(Objection::of_request), false)?;
            self.begin_posted()?;
        }
        let method = self.record.request.method.clone();
        let sent = judging::Sent { method: &method, headers: &head.headers, coded, chunks };
        let key = self.shared.schemas.key;
        let judged = terms.judge_request(self.dialect, &sent, key, &mut self.request_contracts);
        let judged = judged.and_then(|()| match &self.asked {
            Some(asked) => terms.check_asked(asked, &self.shared.schemas),
            None => Ok(()),
        });
        self.unless_observed(&terms, judged.map_err(Objection::of_request), false)
    }

    /// The path that tells the route's servers apart: the one that the upstream is asked at, or that the stream was asked at to
    /// which the request belongs.
    fn server_path(&self, head: &http::request::Parts) -> Box<str> {
        let Some(route) = &self.route else { return Box::default() };
        match (&self.post, &route.federation) {
            (Some(post), _) => post.server.clone(),
            (None, Some(_)) => route.path().into(),
            (None, None) => route.target(head).map_or_else(Box::default, |target| target.path().into()),
        }
    }

    /// Whether a list of tools may be in the answer that has to be filtered: to this request, or in a stream that is taken up
    /// again.
    pub(super) fn awaits_list(&self, head: &http::request::Parts) -> bool {
        let Request::Held { facts: Some(facts), .. } = &self.request else { return false };
        let filters = self.route.as_ref().is_some_and(|route| route.settings.tool_lists == ToolLists::Filter);
        let asks = matches!(facts.operation.as_str(), "mcp.tools/list" | "mcp.batch");
        let returns = head.method == http::Method::GET && head.headers.contains_key("last-event-id");
        self.dialect == Dialect::Mcp && filters && (asks || returns)
    }

    /// The policy's word on one message of several in a request to an MCP server.
    pub(crate) fn judge_message<R>(
        &self,
        message: &Message,
        judge: impl FnOnce(&RequestFacts<'_>) -> R,
    ) -> R {
        let operation = message.method.as_deref().map(dialect::mcp::operation);
        let is_call = message.method.as_deref() == Some(dialect::mcp::TOOLS_CALL);
        let name = message.name.as_deref().filter(|_| is_call);
        let tools = name.map(|name| self.contents.called(name)).unwrap_or_default();
        judge(&RequestFacts {
            operation: operation.as_deref(),
            evaluation: Evaluation::Evaluated,
            ..self.request_facts(None, &tools)
        })
    }

    /// Holds the calls in a request to an MCP server against what is known of their tools.
    pub(super) fn judge_server_calls(
        &mut self,
        terms: &Arc<RouteTerms>,
        head: &http::request::Parts,
        coded: bool,
        chunks: &[Bytes],
    ) -> Result<(), Objection> {
        let Some(route) = self.route.as_ref() else { return Ok(()) };
        let requests = self.asked_server.insert(Box::new(mcp::Requests::new(mcp::Server {
            route: route.name.clone(),
            terms: terms.clone(),
            judges: route.judging.is_some(),
            caller: (route.settings.tool_lists == ToolLists::Filter && !terms.forwards()).then(|| {
                lists::Caller {
                    policy: self.snapshot.policy.clone(),
                    route: route.name.clone(),
                    identity: self.record.identity.subject.as_deref().map(Into::into),
                    tenant: self.record.tenant.as_deref().map(Into::into),
                }
            }),
            schemas: self.shared.schemas.clone(),
            pins: route.pins.clone(),
            sessions: route.sessions.clone(),
            session: match &self.post {
                Some(post) => Some(post.session.clone()),
                None => crate::mcp::sessions::session(&head.headers),
            },
            path: self.server_path(head),
            mirrored: route.mirrored.clone(),
            opening: Opening::new(&self.snapshot, route, self.caller().as_deref(), head).map(Box::new),
        })));
        if chunks.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        if coded {
            return Err(Objection::new(Reason::ContractUnsupported, "the request has a content coding"));
        }
        let judged = requests.judge(&chunks.concat());
        self.calls_judged = requests.has_judged();
        self.server_calls = requests.record();
        judged
    }

    /// Where findings are only recorded they are.
    pub(super) fn unless_observed(
        &mut self,
        terms: &RouteTerms,
        judged: Result<(), Objection>,
        in_answer: bool,
    ) -> Result<(), Objection> {
        judged.or_else(|objection| match terms.release {
            Release::Observe => {
                self.record.downgrades.push(held::observed(objection.reason, in_answer));
                Ok(())
            }
            Release::HoldStructured | Release::HoldAll | Release::StreamAndCut => Err(objection),
        })
    }
}
