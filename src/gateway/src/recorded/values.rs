//! What contracts and detectors say of the bytes of a recorded call.
//!
//! Heads are not recorded. A body is taken to be of the type that its contract is for, and without a content coding: where
//! the receipt says that one could not be read, nothing is guessed.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::VerdictAction;
use estoppel_policy::{Judging, Limits, Release, Surface, ToolLists, Verdict};
use estoppel_wire::contract::{self, Contract as Enforceable, Format};
use estoppel_wire::dialect::{Dialect, Framing, RequestScan, ResponseScan};
use estoppel_wire::judge::Blocks;

use super::{Cause, RecordedAnswer, RecordedCall, Rejudged, Request, Retrial, Route, Ruling, chunk};
use crate::contracts::Compiled;
use crate::detecting::Detecting;
use crate::judging::events::{self, Left};
use crate::judging::{Asked, Judge, Objection, RequestJudged, RouteTerms, Sent, mcp};
use crate::mcp::lists;
use crate::offline::{Judgement, Setting};

const UNREAD: &str = "a body was not read then, and what it is cannot be told from its bytes alone";
const REQUEST_MISSING: &str = "contracts or detectors look at the request, whose body is not there";
const ANSWER_MISSING: &str = "contracts or detectors look at the answer, whose body is not there";

/// What is known of a request for its answer.
pub(super) struct Answering {
    asked: Asked,
    server: Option<Box<mcp::Requests>>,
}

/// What a policy holds a call's values against.
pub(super) struct Values<'b> {
    retrial: &'b Retrial,
    route: &'b Route,
    call: &'b RecordedCall,
    dialect: Dialect,
    limits: Limits,
    terms: Option<Arc<RouteTerms>>,
    filters_lists: bool,
}

/// What built-in detectors make of a request.
pub(super) struct Detected {
    pub(super) detecting: Option<Box<Detecting>>,
    /// What they object to waits for its turn.
    pub(super) found: Result<(), Objection>,
}

/// Has built-in detectors look at a request.
pub(super) fn detect_request(route: &Route, call: &RecordedCall) -> Result<Detected, Cause> {
    let Some(detectors) = route.detectors()? else { return Ok(Detected { detecting: None, found: Ok(()) }) };
    let mut detecting = Box::new(Detecting::new(detectors.clone(), call.dialect.unwrap_or(Dialect::Bytes)));
    let found = match &call.request_body {
        None if call.has_body && detectors.reads_requests() => return Err(REQUEST_MISSING.into()),
        body => detecting.request(false, &[chunk(body.as_ref())]),
    };
    Ok(Detected { detecting: Some(detecting), found })
}

/// Detectors that are asked over the network are not asked again.
pub(super) fn no_one_else(route: &Route, surface: Surface, has_body: bool) -> Result<(), Cause> {
    let Some(detectors) = route.detectors()?.filter(|_| has_body) else { return Ok(()) };
    match detectors.externals(surface).find(|(external, _)| external.is_in_line()) {
        Some((external, _)) => Err(format!("detector `{}` is asked over the network", external.name())),
        None => Ok(()),
    }
}

impl<'b> Values<'b> {
    pub(super) fn new(
        retrial: &'b Retrial,
        route: &'b Rc<Route>,
        call: &'b RecordedCall,
    ) -> Result<Self, Cause> {
        let settings = retrial.policy.route(&call.route);
        let judging = match settings.operations.get(&call.operation) {
            Some(operation) => operation.judge.as_ref(),
            None => Some(&settings.judge),
        };
        let terms = match judging {
            Some(Judging::On(terms)) => {
                let contracts = retrial.contracts.as_ref().map_err(Clone::clone)?;
                Some(Arc::new(RouteTerms::new(terms, contracts)))
            }
            Some(Judging::None) | None => None,
        };
        Ok(Self {
            retrial,
            route,
            call,
            dialect: call.dialect.unwrap_or(Dialect::Bytes),
            limits: settings.limits,
            terms,
            filters_lists: settings.tool_lists == ToolLists::Filter,
        })
    }

    fn is_plain(&self) -> bool {
        matches!(self.dialect, Dialect::Json | Dialect::Bytes)
    }

    fn is_model(&self) -> bool {
        !self.is_plain() && self.dialect != Dialect::Mcp
    }

    /// Whether a contract reads a request that nothing else would.
    pub(super) fn reads_request(&self) -> bool {
        self.is_plain() && self.terms.as_ref().is_some_and(|terms| terms.request.is_some())
    }

    /// Holds the request against its contracts.
    pub(super) fn judge_request(&self) -> Result<Result<Answering, Objection>, Cause> {
        let call = self.call;
        let mut answering = Answering { asked: Asked::default(), server: None };
        let lists = self.dialect == Dialect::Mcp && self.filters_lists;
        if self.terms.is_none() && !lists {
            return Ok(Ok(answering));
        }
        if call.has_body && call.request_body.is_none() {
            return if self.terms.is_some() { Err(REQUEST_MISSING.into()) } else { Ok(Ok(answering)) };
        }
        let chunks = [chunk(call.request_body.as_ref())];
        if call.has_body && !self.is_plain() && call.is_unread {
            return Err(UNREAD.into());
        }
        let terms = self.terms.clone().unwrap_or_else(RouteTerms::none);
        let observes = |judged: Result<(), Objection>| match judged {
            Err(_) if terms.release == Release::Observe => Ok(()),
            judged => judged.map_err(Objection::of_request),
        };
        if self.dialect == Dialect::Mcp && call.has_body {
            let mut requests = Box::new(mcp::Requests::new(self.server(&terms)));
            if let Err(objection) = observes(requests.judge(&chunks[0])) {
                return Ok(Err(objection));
            }
            answering.server = Some(requests);
        }
        if self.is_model() && call.has_body {
            let mut scan = RequestScan::new(self.dialect, "/");
            scan.push(&chunks[0]);
            answering.asked = Asked::new(&scan.finish().contracts, &chunks);
        }
        if self.terms.is_none() {
            return Ok(Ok(answering));
        }
        let headers = http::HeaderMap::new();
        let sent = Sent { method: &call.method, headers: &headers, coded: false, chunks: &chunks };
        let schemas = &self.retrial.schemas;
        let judged = terms.judge_request(self.dialect, &sent, schemas.key, &mut RequestJudged::default());
        let judged = judged.and_then(|()| match self.is_model() {
            true => terms.check_asked(&answering.asked, schemas),
            false => Ok(()),
        });
        Ok(observes(judged).map(|()| answering))
    }

    /// Of a server only the policy is known: neither what it listed nor what its sessions asked.
    fn server(&self, terms: &Arc<RouteTerms>) -> mcp::Server {
        let filters = self.filters_lists && !terms.forwards();
        let caller = lists::Caller {
            policy: self.retrial.policy.clone(),
            route: self.call.route.as_str().into(),
            identity: self.call.identity.as_deref().map(Into::into),
            tenant: self.call.tenant.as_deref().map(Into::into),
        };
        mcp::Server {
            route: self.call.route.as_str().into(),
            terms: terms.clone(),
            judges: self.terms.is_some(),
            caller: filters.then_some(caller),
            schemas: self.retrial.schemas.clone(),
            pins: Arc::default(),
            sessions: Arc::default(),
            session: None,
            path: "/".into(),
            mirrored: Arc::default(),
            opening: None,
        }
    }

    /// What all that looks at the answer says of it. `ruling` is what the rules said of the request.
    pub(super) fn judge_answer(
        &self,
        answer: &RecordedAnswer,
        request: &Request<'_>,
        answering: Answering,
        detecting: &mut Option<Box<Detecting>>,
        ruling: Ruling,
    ) -> Result<Rejudged, Cause> {
        let policy = &self.retrial.policy;
        let judges = self.judges_answer(answer, &answering);
        let detects = self.route.detectors()?.is_some_and(|detectors| detectors.reads_answers());
        if (judges || detects) && answer.has_body && answer.body.is_none() {
            return Err(ANSWER_MISSING.into());
        }
        if (judges && !self.is_plain() || detects) && answer.has_body && answer.is_unread {
            return Err(UNREAD.into());
        }
        let body = chunk(answer.body.as_ref());
        let framing = self.framing(answer);
        if judges && self.is_model() && framing == Framing::Json && body.len() > self.held_bytes_max() {
            return Err("the answer is one body of more than may be held back".into());
        }
        let mut detect = || match detecting.as_mut().filter(|_| detects && !body.is_empty()) {
            Some(detecting) => self.detect_answer(detecting, framing, &body),
            None => Ok(()),
        };
        // A stream is looked at while it comes, what is whole after it was judged by its names.
        if framing == Framing::Sse
            && let Err(objection) = detect()
        {
            return Ok(Rejudged::refused(objection));
        }
        let to_come = judges && self.is_model();
        let has_contract = judges && self.body_contract().is_some();
        let evaluated = answer.evaluated || has_contract;
        let ruled = request.ruling_of_names(policy, answer, (to_come, evaluated), ruling.clone())?;
        if ruled.verdict != Verdict::Allow {
            return Ok(Rejudged::ruled(VerdictAction::Block, ruled));
        }
        if framing != Framing::Sse
            && let Err(objection) = detect()
        {
            return Ok(Rejudged::refused(objection));
        }
        no_one_else(self.route, Surface::Answer, answer.has_body)?;
        let judged = match judges && !body.is_empty() {
            true => self.judge_values(answer, request, answering, framing, &body)?,
            false => Ok(false),
        };
        Ok(match judged {
            Ok(true) => Rejudged::ruled(VerdictAction::Repair, ruling),
            Ok(false) => Rejudged::ruled(VerdictAction::Allow, ruling),
            Err(objection) => Rejudged::refused(objection),
        })
    }

    fn judges_answer(&self, answer: &RecordedAnswer, answering: &Answering) -> bool {
        let judges = match (&self.terms, self.dialect) {
            (Some(terms), Dialect::Json | Dialect::Bytes) => terms.answer.is_some(),
            (_, Dialect::Mcp) => answering.server.is_some() || self.body_contract().is_some(),
            (Some(_), _) => true,
            (None, _) => self.route.needs.calls && self.is_model(),
        };
        judges && (200..300).contains(&answer.status) && self.call.method != "HEAD"
    }

    fn body_contract(&self) -> Option<&Arc<Compiled>> {
        self.terms.as_ref().and_then(|terms| terms.answer.as_ref())
    }

    fn framing(&self, answer: &RecordedAnswer) -> Framing {
        let begins = answer.body.as_ref().and_then(|body| body.trim_ascii_start().first().copied());
        match (answer.is_stream, begins) {
            (true, _) => Framing::Sse,
            (false, Some(b'{' | b'[')) => Framing::Json,
            (false, _) if !self.is_plain() => Framing::Json,
            (false, _) => Framing::Opaque,
        }
    }

    fn held_bytes_max(&self) -> usize {
        usize::try_from(self.limits.held_bytes_max).unwrap_or(usize::MAX)
    }

    fn event_bytes_max(&self) -> usize {
        usize::try_from(self.limits.event_bytes_max).unwrap_or(usize::MAX)
    }

    fn detect_answer(
        &self,
        detecting: &mut Detecting,
        framing: Framing,
        body: &Bytes,
    ) -> Result<(), Objection> {
        detecting.answer_head(framing, false, (self.event_bytes_max(), self.held_bytes_max()));
        detecting.data(body.clone())?;
        detecting.end()?;
        detecting.answer(std::slice::from_ref(body))
    }

    /// Whether the answer was repaired; an error where it must not leave.
    fn judge_values(
        &self,
        answer: &RecordedAnswer,
        request: &Request<'_>,
        answering: Answering,
        framing: Framing,
        body: &Bytes,
    ) -> Result<Result<bool, Objection>, Cause> {
        match (self.body_contract(), answering.server) {
            (Some(_), _) if self.is_model() => {
                let detail = "a contract for bodies does not fit a model's answer";
                Ok(Err(Objection::new(Reason::ContractUnsupported, detail)))
            }
            (Some(contract), _) => Ok(self.judge_body(contract, answer, body)),
            (None, Some(requests)) => Ok(self.judge_server(*requests, answer, framing, body)),
            (None, None) => self.judge_model(answer, request, answering.asked, framing, body),
        }
    }

    fn judge_model(
        &self,
        answer: &RecordedAnswer,
        request: &Request<'_>,
        asked: Asked,
        framing: Framing,
        body: &Bytes,
    ) -> Result<Result<bool, Objection>, Cause> {
        let terms = self.terms.as_deref().cloned().unwrap_or_else(RouteTerms::only_rules);
        let rules = request.call_rules(&self.retrial.policy, answer)?;
        let setting = Setting::new(terms.clone(), &self.limits);
        let mut judge =
            Judge::new(asked, Arc::new(terms), self.retrial.schemas.clone(), false).with_rules(rules);
        if let Some(model) = &answer.model_served {
            judge.served(model);
        }
        let mut judgement = Judgement::model(&setting, self.dialect, framing, judge);
        let judged = judgement.judge(body, answer.is_whole);
        Ok(judged.map(|()| !judgement.edits().is_empty()))
    }

    fn judge_body(
        &self,
        contract: &Arc<Compiled>,
        answer: &RecordedAnswer,
        body: &Bytes,
    ) -> Result<bool, Objection> {
        let formats: &[Format] = match (&contract.enforceable, answer.is_stream) {
            (Enforceable::Csv(_), _) => &[Format::Csv],
            (Enforceable::Json(_), true) => &[Format::Events],
            (Enforceable::Json(_), false) => &[Format::Json, Format::Lines],
        };
        let mut judged = formats.iter().map(|format| self.judge_format(contract, *format, answer, body));
        let first = judged.next().unwrap_or(Ok(false));
        first.or_else(|objection| judged.find(Result::is_ok).unwrap_or(Err(objection)))
    }

    fn judge_format(
        &self,
        contract: &Arc<Compiled>,
        format: Format,
        answer: &RecordedAnswer,
        body: &Bytes,
    ) -> Result<bool, Objection> {
        let Some(terms) = &self.terms else { return Ok(false) };
        let how = contract::Terms {
            holds: !terms.forwards(),
            held_bytes_max: self.held_bytes_max(),
            repair: terms.repair,
            key: self.retrial.schemas.key,
        };
        let unsupported =
            || Objection::new(Reason::ContractUnsupported, "the body is not what its contract is for");
        let mut machine = contract::Body::new(&contract.enforceable, format, how).ok_or_else(unsupported)?;
        let mut left = Vec::new();
        let fed = machine.feed(body, &mut left);
        let ended = if answer.is_whole { fed.and_then(|()| machine.finish(&mut left)) } else { fed };
        match ended {
            Err(_) if terms.release == Release::Observe => Ok(false),
            ended => {
                ended.map(|()| !machine.edits(1).is_empty()).map_err(|refused| Objection::of_body(&refused))
            }
        }
    }

    fn judge_server(
        &self,
        requests: mcp::Requests,
        answer: &RecordedAnswer,
        framing: Framing,
        body: &Bytes,
    ) -> Result<bool, Objection> {
        let observes = self.terms.as_ref().is_some_and(|terms| terms.release == Release::Observe);
        let mut answers = mcp::Answers::new(requests);
        let judged = match framing {
            Framing::Sse => self.judge_server_events(&mut answers, answer, body),
            Framing::Json | Framing::Opaque => answers.judge(body).map(|filtered| filtered.is_some()),
        };
        if observes { Ok(judged.unwrap_or_default()) } else { judged }
    }

    fn judge_server_events(
        &self,
        answers: &mut mcp::Answers,
        answer: &RecordedAnswer,
        body: &Bytes,
    ) -> Result<bool, Objection> {
        let (mut blocks, mut marks, mut left) = (Blocks::default(), Vec::new(), Left::default());
        let mut scan = ResponseScan::new(self.dialect, Framing::Sse).event_bytes_max(self.event_bytes_max());
        scan.push(body, &mut |mark| marks.push(mark));
        events::judge(answers, &mut blocks, self.event_bytes_max(), &scan, body, &marks, &mut left)?;
        if answer.is_whole {
            events::finish(answers, &mut blocks, &mut Vec::new())?;
        }
        Ok(answers.repair().is_some())
    }
}
