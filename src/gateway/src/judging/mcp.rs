//! Calls of MCP tools and what they give, held against what the policy and the server say of the tools.
//!
//! A result is held against what the server had said when the tool was called, and belongs to a call by its id: clients take an
//! answer for whatever request has its id, so an answer to none of this call's requests is refused.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::entry::{ContractSource, Downgrade, Repair};
use estoppel_evidence::{Reason, Sha256, canonical, text};
use estoppel_policy::{Formats, Release, UnknownTools};
use estoppel_wire::contract::{Contract as Enforceable, Verdict, judge_value};
use estoppel_wire::dialect::Span;
use estoppel_wire::dialect::mcp::{Id, Message, Messages, TOOLS_CALL, TOOLS_LIST, Tool, ToolResult};
use estoppel_wire::judge;
use estoppel_wire::schema::{Language, Schema};

use super::{Ledger, Objection, RouteTerms};
use crate::contracts::{Compiled, Schemas};
use crate::mcp::lists::{self, Caller, Taken};
use crate::mcp::mirrored::MirroredTools;
use crate::mcp::opening::Opening;
use crate::mcp::sessions::Sessions;
use crate::mcp::streams::Opened;
use crate::pins::{Listed, Pins, Refused};

/// Where a call goes, and what it is held against.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) route: Arc<str>,
    pub(crate) terms: Arc<RouteTerms>,
    /// Whether anything is held against contracts. If not, lists are filtered and nothing else happens.
    pub(crate) judges: bool,
    /// From whose lists of tools those are left out that they may not call.
    pub(crate) caller: Option<Caller>,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) sessions: Arc<Sessions>,
    /// The session that the request names.
    pub(crate) session: Option<Box<str>>,
    /// The path that the upstream is asked at.
    pub(crate) path: Box<str>,
    /// What of its tools' arguments is in headers.
    pub(crate) mirrored: Arc<MirroredTools>,
    /// The request may open a stream in which its client gets all answers.
    pub(crate) opening: Option<Box<Opening>>,
}

/// The requests of one body.
pub(crate) struct Requests {
    server: Server,
    asked: Vec<(Id, Arc<Asked>)>,
    ledger: Ledger,
    calls: usize,
}

/// What a request asks for.
pub(crate) enum Asked {
    Call { name: Box<str>, output: Option<Contract> },
    Tools,
    Other,
}

/// What arguments or results have to be.
#[derive(Clone)]
pub(crate) struct Contract {
    schema: Arc<Schema>,
    /// As the receipt has it; none for what is only JSON.
    noted: Option<(Sha256, Bytes, ContractSource)>,
}

impl Contract {
    fn of_policy(contract: &Compiled) -> Result<Self, Objection> {
        let Enforceable::Json(schema) = &contract.enforceable else {
            return Err(Reason::ContractUnsupported.into()); // a policy that says so is not accepted
        };
        let (digest, text) = contract.stored.clone();
        Ok(Self { schema: schema.clone(), noted: Some((digest, text, ContractSource::Policy)) })
    }

    fn of_server(text: &Bytes, what: &str, formats: Formats, schemas: &Schemas) -> Result<Self, Objection> {
        let digest = Sha256::of(text);
        let schema = schemas.get(digest, Language::JsonSchema, formats, text);
        let schema = schema
            .map_err(|why| Objection::new(Reason::ContractUnsupported, &format!("its `{what}`: {why}")))?;
        Ok(Self { schema, noted: Some((digest, text.clone(), ContractSource::Mcp)) })
    }

    fn judge(
        &self,
        name: &str,
        value: &[u8],
        schemas: &Schemas,
        ledger: &mut Ledger,
    ) -> Result<(), Objection> {
        self.note(name, ledger);
        match judge_value(&self.schema, schemas.key, None, value) {
            Verdict::Valid | Verdict::Repaired(_) => Ok(()), // nothing grants a repair
            Verdict::Refused(violation) => Err(Objection::of_value(&violation)),
        }
    }

    fn note(&self, name: &str, ledger: &mut Ledger) {
        if let Some((digest, text, source)) = &self.noted {
            ledger.note(name, *digest, text, *source);
        }
    }
}

impl Requests {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, asked: Vec::new(), ledger: Ledger::default(), calls: 0 }
    }

    /// Judges the arguments of every call in a body. Where things are only recorded, what can be known is known all the same.
    ///
    /// # Errors
    /// The first objection.
    pub(crate) fn judge(&mut self, body: &[u8]) -> Result<(), Objection> {
        let messages = match Messages::read(body) {
            Ok(messages) => messages,
            Err(_) if !self.server.judges => return Ok(()),
            Err(_) => {
                return Err(Objection::new(Reason::ValueAmbiguous, "the request can be read in two ways"));
            }
        };
        let observes = self.server.terms.release == Release::Observe;
        let mut found = Ok(());
        for message in messages.list {
            found = found.and(self.message(message, body));
            if found.is_err() && !observes {
                break;
            }
        }
        found
    }

    /// Whether values are held against contracts, and not only lists filtered.
    pub(crate) fn judges(&self) -> bool {
        self.server.judges
    }

    /// Whether there was a call to be judged.
    pub(crate) fn has_judged(&self) -> bool {
        self.calls > 0
    }

    pub(crate) fn record(&self) -> Option<super::Recorded> {
        self.ledger.contract(&self.server.schemas)
    }

    /// Whether the request may open a stream in which posts are answered.
    pub(crate) fn may_open(&self) -> bool {
        self.server.opening.is_some()
    }

    /// Takes note of them before they leave, because their answers come in the stream that the session is.
    ///
    /// # Errors
    /// The client still waits for the answer to another request of the same id.
    pub(crate) fn begin(&self) -> Result<(), Objection> {
        let Some(session) = &self.server.session else { return Ok(()) };
        let begun = self.server.sessions.begin(session, &self.asked);
        begun.map_err(|_| Objection::new(Reason::ValueAmbiguous, "a request of this id waits for its answer"))
    }

    /// The request with this id: one of this call's, or one that its session made before.
    fn of(&self, id: &Id) -> Option<Arc<Asked>> {
        let own = self.asked.iter().find(|(asked, _)| asked == id).map(|(_, asked)| asked.clone());
        let session = self.server.session.as_deref();
        own.or_else(|| session.and_then(|session| self.server.sessions.asked(session, id)))
    }

    fn message(&mut self, message: Message, body: &[u8]) -> Result<(), Objection> {
        let (asked, judged) = match message.method.as_deref() {
            None => return Ok(()),
            Some(TOOLS_LIST) => (Asked::Tools, Ok(())),
            Some(TOOLS_CALL) if self.server.judges => self.call(&message, body),
            Some(_) => (Asked::Other, Ok(())),
        };
        let Some(id) = message.id else { return judged };
        if self.server.judges && self.asked.iter().any(|(known, _)| *known == id) {
            return Err(Objection::new(Reason::ValueAmbiguous, "two requests have one id"));
        }
        self.asked.push((id, Arc::new(asked)));
        judged
    }

    fn call(&mut self, message: &Message, body: &[u8]) -> (Asked, Result<(), Objection>) {
        let Some(name) = message.name.as_deref().filter(|name| !name.is_empty()) else {
            return (Asked::Other, Err(Objection::new(Reason::ValueAmbiguous, "a call names no tool")));
        };
        self.calls += 1;
        let Server { terms, schemas, pins, path, .. } = &self.server;
        let pin = pins.get(path, name);
        let arguments = message.arguments.as_ref().map_or(&b"{}"[..], |span| part(body, span));
        let judged = input(name, pin.as_deref(), terms, schemas)
            .and_then(|contract| contract.judge(name, arguments, schemas, &mut self.ledger));
        // Results that nobody could judge are not worth the call.
        let (output, judged) = match output(name, pin.as_deref(), terms, schemas) {
            Ok(output) => (output, judged),
            Err(objection) => (None, judged.and(Err(objection))),
        };
        let place = format!("call of `{}`", name.escape_debug());
        (Asked::Call { name: name.into(), output }, judged.map_err(|objection| objection.within(&place)))
    }
}

/// What the arguments of a call have to be.
fn input(
    name: &str,
    pin: Option<&Listed>,
    terms: &RouteTerms,
    schemas: &Schemas,
) -> Result<Contract, Objection> {
    match (terms.tools.get(name), pin.and_then(|pin| pin.input.as_ref()), terms.unknown_tools) {
        (Some(contract), ..) => Contract::of_policy(contract),
        (None, Some(text), _) => Contract::of_server(text, "inputSchema", terms.formats, schemas),
        (None, None, UnknownTools::Json) => Ok(Contract { schema: schemas.object.clone(), noted: None }),
        (None, None, UnknownTools::Block) => Err(Reason::ContractMissing.into()),
    }
}

/// What a tool's results have to be, if anybody says.
fn output(
    name: &str,
    pin: Option<&Listed>,
    terms: &RouteTerms,
    schemas: &Schemas,
) -> Result<Option<Contract>, Objection> {
    match (terms.results.get(name), pin.and_then(|pin| pin.output.as_ref())) {
        (Some(contract), _) => Contract::of_policy(contract).map(Some),
        (None, Some(text)) => Contract::of_server(text, "outputSchema", terms.formats, schemas).map(Some),
        (None, None) => Ok(None),
    }
}

/// The answers to them.
pub(crate) struct Answers {
    requests: Requests,
    ledger: Ledger,
    results: usize,
    /// Tools whose definitions were known otherwise.
    changed: Vec<Box<str>>,
    taken: Taken,
    begun: bool,
    /// An event with data has come.
    has_said: bool,
    /// The stream that this is, where posts are answered.
    stream: Option<Opened>,
    /// The message that was refused answers this request.
    refused: Option<Id>,
    /// What was found where that is only recorded, though events are held back.
    observed: Option<Reason>,
}

/// The event that says where a client posts (HTTP+SSE, 2024-11-05).
const ENDPOINT: &[u8] = b"endpoint";

/// Most tools of which a receipt says that they have changed.
const CHANGED_MAX: usize = 8;

impl Answers {
    pub(crate) fn new(requests: Requests) -> Self {
        if let Some(session) = &requests.server.session {
            requests.server.sessions.remember(session, &requests.asked);
        }
        Self {
            requests,
            ledger: Ledger::default(),
            results: 0,
            changed: Vec::new(),
            taken: Taken::default(),
            begun: false,
            has_said: false,
            stream: None,
            refused: None,
            observed: None,
        }
    }

    /// Whether a value or a list of tools is to come, and not only what a server says when it likes.
    pub(crate) fn awaits_values(&self) -> bool {
        self.requests.asked.iter().any(|(_, asked)| !matches!(**asked, Asked::Other))
    }

    pub(crate) fn has_judged(&self) -> bool {
        self.results > 0
    }

    pub(crate) fn record(&self) -> Option<super::Recorded> {
        self.ledger.contract(&self.requests.server.schemas)
    }

    /// What the receipt says of tools that have changed, if that was allowed.
    pub(crate) fn downgrades(&self) -> impl Iterator<Item = Downgrade> {
        let detail = |name: &str| Some(text::name(if name.is_empty() { "-" } else { name }).into());
        self.changed.iter().map(move |name| Downgrade { code: Reason::ToolChanged, detail: detail(name) })
    }

    /// Whether the answer may be a stream in which a client gets all answers.
    pub(crate) fn may_open(&self) -> bool {
        self.requests.server.opening.is_some()
    }

    /// The stream that this is, if posts are answered in it.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Opened> {
        self.stream.as_mut()
    }

    /// The client has left: what is posted is not answered here any more.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Id of the request whose answer was refused, as JSON text.
    pub(crate) fn refused(&self) -> Option<String> {
        match self.refused.as_ref()? {
            Id::Text(text) => serde_json::to_string(text).ok(),
            Id::Number(number) => Some(number.clone()),
        }
    }

    /// What was found where that is only recorded.
    pub(crate) fn observed(&self) -> Option<Reason> {
        self.observed
    }

    /// What the receipt says of tools that were left out of a list.
    pub(crate) fn repair(&self) -> Option<Repair> {
        self.taken.repair()
    }

    /// Judges what an event of the stream says; comments and the like say nothing. Gives the event as it may leave.
    ///
    /// # Errors
    /// It must not leave.
    pub(crate) fn event(&mut self, block: Bytes) -> Result<Bytes, Objection> {
        let is_first = !std::mem::replace(&mut self.begun, true);
        let data = judge::data(&block, is_first);
        if self.may_open() && judge::is_named(judge::without_mark(&block, is_first), ENDPOINT) {
            return self.open(block, &data, is_first);
        }
        if data.is_empty() {
            return Ok(block);
        }
        self.has_said = true;
        let judged = self.judge(&data).or_else(|objection| {
            // Elsewhere such a stream is only watched.
            let observes = self.may_open() && self.requests.server.terms.release == Release::Observe;
            if !observes {
                return Err(objection);
            }
            self.observed.get_or_insert(objection.reason);
            Ok(None)
        })?;
        Ok(match judged {
            Some(filtered) => judge::with_data(&block, is_first, &filtered),
            None => block,
        })
    }

    /// The event says where the client is to post.
    fn open(&mut self, block: Bytes, said: &[u8], is_first: bool) -> Result<Bytes, Objection> {
        let opening = self.requests.server.opening.as_ref().filter(|_| !self.has_said);
        let Some(opening) = opening else {
            return Err(Objection::new(Reason::ValueAmbiguous, "the stream names an endpoint in its middle"));
        };
        let endpoint = opening.open(said)?;
        self.has_said = true;
        self.requests.server.sessions.clear(&endpoint.session);
        self.requests.server.session = Some(endpoint.session);
        self.stream = Some(endpoint.stream);
        if endpoint.url.as_bytes() == said {
            return Ok(block);
        }
        self.taken.endpoint(said.len());
        Ok(judge::with_data(&block, is_first, endpoint.url.as_bytes()))
    }

    /// Judges a message, or an array of them. Gives it without the tools that are left out, if there are any.
    ///
    /// # Errors
    /// It must not leave.
    pub(crate) fn judge(&mut self, text: &[u8]) -> Result<Option<Vec<u8>>, Objection> {
        let judges = self.requests.server.judges;
        let messages = match Messages::read(text) {
            Ok(messages) => messages,
            Err(_) if !judges => match Messages::read_lists(text) {
                Ok(messages) => messages,
                Err(_) => return Ok(None),
            },
            Err(_) => {
                return Err(Objection::new(Reason::ValueAmbiguous, "the answer can be read in two ways"));
            }
        };
        let mut listed = Vec::new();
        for Message { id, result, is_error, .. } in messages.list {
            if is_error {
                self.end(id.as_ref());
            }
            let Some(result) = result else { continue };
            self.refused = id.clone().filter(|_| self.stream.is_some());
            let asked = match id.as_ref().and_then(|id| self.requests.of(id)) {
                Some(asked) => asked,
                // What its client takes for a list may be one.
                None if !judges && self.stream.is_some() && !result.tools.is_empty() => {
                    Arc::new(Asked::Tools)
                }
                None if !judges => continue,
                None => {
                    let what = "an answer is to no request of this call";
                    return Err(Objection::new(Reason::ValueAmbiguous, what));
                }
            };
            match &*asked {
                Asked::Call { name, output: Some(output) } => {
                    let place = format!("result of `{}`", name.escape_debug());
                    self.result(name, output, &result, text).map_err(|objection| objection.within(&place))?;
                }
                Asked::Tools => {
                    if judges {
                        self.tools(&result.tools, text)?;
                    }
                    self.mirror(&result.tools, text);
                    listed.push(result);
                }
                Asked::Call { output: None, .. } | Asked::Other => {}
            }
            self.end(id.as_ref());
            self.refused = None;
        }
        let caller = self.requests.server.caller.as_ref();
        Ok(caller.and_then(|caller| lists::filter(text, &listed, caller, &mut self.taken)))
    }

    /// The request is answered, in a stream in which others may be.
    fn end(&self, id: Option<&Id>) {
        if let (Some(_), Some(session), Some(id)) = (&self.stream, &self.requests.server.session, id) {
            self.requests.server.sessions.end(session, id);
        }
    }

    fn result(
        &mut self,
        name: &str,
        output: &Contract,
        result: &ToolResult,
        body: &[u8],
    ) -> Result<(), Objection> {
        let value = result.value.as_ref().map(|span| part(body, span));
        match value.filter(|value| !(result.failed && *value == b"null")) {
            Some(value) => {
                self.results += 1;
                output.judge(name, value, &self.requests.server.schemas, &mut self.ledger)
            }
            None if result.failed || result.is_partial => Ok(()),
            None => {
                output.note(name, &mut self.ledger);
                Err(Objection::new(Reason::ContractViolated, "there is no `structuredContent`"))
            }
        }
    }

    /// What the list says of headers counts for calls from now on.
    fn mirror(&self, tools: &[Tool], body: &[u8]) {
        let Server { mirrored, path, .. } = &self.requests.server;
        for tool in tools.iter().filter(|tool| tool.doubt.is_none()) {
            mirrored.listed(path, &tool.name, tool.input.as_ref().map(|span| part(body, span)));
        }
    }

    fn tools(&mut self, tools: &[Tool], body: &[u8]) -> Result<(), Objection> {
        let listed = tools.iter().map(|tool| listed(tool, body)).collect::<Result<Vec<_>, _>>()?;
        let Server { route, terms, pins, path, .. } = &self.requests.server;
        match pins.take(path, listed, terms.changed_tools) {
            Ok(changed) => {
                if let Some(first) = changed.first() {
                    tracing::warn!(%route, tool = %first.escape_debug(), tools = changed.len(), "a tool has changed; what it is now counts");
                }
                self.changed.extend(changed);
                self.changed.truncate(CHANGED_MAX);
                Ok(())
            }
            Err(Refused::Changed(name)) => {
                tracing::warn!(%route, tool = %name.escape_debug(), "a tool has changed; what it was counts");
                Err(Objection::new(Reason::ToolChanged, &format!("tool `{}`", name.escape_debug())))
            }
            Err(Refused::Full) => {
                let full = "more tools than are remembered of servers at this path";
                Err(Objection::new(Reason::ContractUnsupported, full))
            }
        }
    }
}

fn listed(tool: &Tool, body: &[u8]) -> Result<Listed, Objection> {
    let ambiguous = || {
        let what = format!("the definition of `{}` can be read in two ways", tool.name.escape_debug());
        Objection::new(Reason::ValueAmbiguous, &what)
    };
    let definition = canonical::foreign(part(body, &tool.definition)).map_err(|_| ambiguous())?;
    let schema = |span: &Option<Span>| span.as_ref().map(|span| Bytes::copy_from_slice(part(body, span)));
    Ok(Listed {
        name: tool.name.as_str().into(),
        definition: Sha256::of(&definition),
        input: schema(&tool.input),
        output: schema(&tool.output),
    })
}

fn part<'a>(body: &'a [u8], span: &Span) -> &'a [u8] {
    let Range { start, end } = span;
    let within = |at: &u64| usize::try_from(*at).unwrap_or(usize::MAX);
    body.get(within(start)..within(end)).unwrap_or_default()
}
