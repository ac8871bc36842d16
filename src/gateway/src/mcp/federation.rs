//! Several MCP servers that are one to clients: tools are called `<server>__<tool>`, prompts likewise, lists are merged, and a call
//! goes to the server that its tool's name begins with, under that server's own name for it.
//!
//! Tools and prompts are all that is offered, by streamable HTTP: stateless from 2026-07-28 on, in sessions before. Everything else is refused
//! rather than guessed. Rules, pins and contracts know tools by the names that clients use. A server that does not answer is left
//! out of lists, and told.

mod merge;
pub(crate) mod name;
mod server;
mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_wire::dialect::mcp::{Id, Message, Messages, TOOLS_CALL, TOOLS_LIST};
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Method, StatusCode};
use serde_json::{Value, json};

use self::merge::{Kind, LISTED_MAX, Listed, answer};
pub(crate) use self::server::{Asking, Server};
use self::server::{SESSION, Said, VERSION};
pub(crate) use self::sessions::Sessions;
use self::sessions::{Member, Session};
use super::agreement::is_mirrored;
use crate::credential::Credential;
use crate::respond::Refusal;
use crate::upstream::{Answered, Relay};

/// Most servers of one route.
pub(crate) const SERVERS_MAX: usize = 16;
/// Most pages of one server's list.
const PAGES_MAX: usize = 64;
/// Versions with sessions, newest first.
const EARLIER: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The servers of one route.
pub(crate) struct Federation {
    /// The route's name and path.
    name: Arc<str>,
    path: Box<str>,
    servers: Vec<Server>,
    pub(crate) sessions: Arc<Sessions>,
}

/// What a client is told.
pub(crate) enum Told {
    /// A server's answer, as it comes; or one made of those of several.
    Answer {
        answered: Box<Answered>,
        /// Who gave it.
        upstream: Box<str>,
        /// Who should have had a part in it.
        missing: Vec<(Arc<str>, Reason)>,
    },
    /// What no server was asked for.
    Own { status: StatusCode, body: Bytes },
}

/// A request that gets no answer.
pub(crate) struct Refused {
    pub(crate) refusal: Box<Refusal>,
    /// The one that did not give it.
    pub(crate) upstream: Option<Arc<str>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: Box::new(refusal), upstream: None }
    }
}

/// One request of a client.
struct Request<'a> {
    asking: Asking<'a>,
    message: &'a Message,
    /// None where there are no sessions.
    session: Option<Arc<Session>>,
}

impl Federation {
    pub(crate) fn new(name: &str, path: &str, servers: Vec<Server>, sessions: Arc<Sessions>) -> Self {
        Self { name: name.into(), path: path.trim_end_matches('/').into(), servers, sessions }
    }

    /// What a server gets in the place of its clients' credentials.
    pub(crate) fn credential(&self, server: &str) -> Option<&Arc<Credential>> {
        self.servers.iter().find(|one| *one.name == *server)?.credential.as_ref()
    }

    /// Answers a request that the policy lets go.
    ///
    /// # Errors
    /// It is not offered, or who should answer does not.
    pub(crate) async fn send(&self, asking: Asking<'_>) -> Result<Told, Refused> {
        if asking.head.uri.path().trim_end_matches('/') != &*self.path {
            return Err(Refusal::new(Reason::RouteUnknown).into());
        }
        match asking.head.method {
            Method::POST => {}
            Method::DELETE => return self.close(&asking).await,
            _ => return Err(Refusal::new(Reason::MethodRefused).into()),
        }
        let messages = Messages::read(asking.body).map_err(|_| Refusal::new(Reason::RequestInvalid))?;
        let [message] = messages.list.as_slice() else { return Err(not_offered("a batch")) };
        let Some(method) = message.method.as_deref().filter(|_| !messages.batch) else {
            return Err(not_offered("a batch, or an answer to a server"));
        };
        let stated = asking.head.headers.get(&VERSION).and_then(|version| version.to_str().ok());
        if message.version.as_deref().or(stated).is_some_and(is_mirrored) {
            let request = Request { asking, message, session: None };
            return match (method, &message.id) {
                ("server/discover", Some(id)) => self.discover(&request, id).await,
                (TOOLS_LIST, Some(id)) => self.list(Kind::Tools, &request, id).await,
                (PROMPTS_LIST, Some(id)) => self.list(Kind::Prompts, &request, id).await,
                (TOOLS_CALL | PROMPTS_GET, Some(_)) => self.call(&request).await,
                _ => Err(not_offered(method)),
            };
        }
        if let ("initialize", Some(id)) = (method, &message.id) {
            return self.initialize(&asking, id).await;
        }
        let session = Some(self.session(&asking)?);
        let request = Request { asking, message, session };
        match (method, &message.id) {
            ("ping", Some(id)) => Ok(Told::Own { status: StatusCode::OK, body: answer(id, &json!({})) }),
            ("notifications/initialized", None) => Ok(accepted()), // each server was told with its hello
            ("notifications/cancelled", None) => Ok(self.tell_all(&request).await),
            (TOOLS_LIST, Some(id)) => self.list(Kind::Tools, &request, id).await,
            (PROMPTS_LIST, Some(id)) => self.list(Kind::Prompts, &request, id).await,
            (TOOLS_CALL | PROMPTS_GET, Some(_)) => self.call(&request).await,
            _ => Err(not_offered(method)),
        }
    }

    /// A call goes to one server, and its answer comes as it is.
    async fn call(&self, request: &Request<'_>) -> Result<Told, Refused> {
        let Request { asking, message, .. } = request;
        let called = message.name.as_deref().unwrap_or_default();
        let found = name::split(called)
            .and_then(|(server, tool)| Some((self.servers.iter().find(|one| *one.name == *server)?, tool)));
        let Some((server, tool)) = found else {
            return Err(not_offered("a name of none of its servers"));
        };
        let failed = |reason: Reason| Refused {
            refusal: Box::new(Refusal::new(reason)),
            upstream: Some(server.pool.target.name.clone()),
        };
        let body = renamed(asking.body, message, tool).ok_or_else(|| failed(Reason::RequestInvalid))?;
        let mut named = Vec::new();
        if asking.head.headers.contains_key(NAME) {
            named.push((NAME, name::header(tool).ok_or_else(|| failed(Reason::RequestInvalid))?));
        }
        let mut answered = self.in_session(request, server, &named, body.clone()).await.map_err(failed)?;
        if let Some(session) = lost(request, server, answered.head.status) {
            session.lose(&server.name);
            answered = self.in_session(request, server, &named, body).await.map_err(failed)?;
        }
        // Its own session is not the client's.
        answered.head.headers.remove(SESSION);
        let upstream = (&*server.pool.target.name).into();
        Ok(Told::Answer { answered: Box::new(answered), upstream, missing: Vec::new() })
    }

    async fn in_session(
        &self,
        request: &Request<'_>,
        server: &Server,
        named: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answered, Reason> {
        let mut changed = self.of_era(request, server).await?;
        changed.extend(named.iter().cloned());
        server.send(&request.asking, Method::POST, &changed, body).await
    }

    /// Headers that say in which session, if any, and in which version a server is asked.
    async fn of_era(
        &self,
        request: &Request<'_>,
        server: &Server,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Reason> {
        let Some(session) = &request.session else {
            let stated = request.asking.head.headers.get(&VERSION);
            return Ok(stated.map(|version| (VERSION, version.clone())).into_iter().collect());
        };
        Ok(self.member(server, &request.asking, session).await?.headers())
    }

    /// The lists of all servers, whole, as one.
    async fn list(&self, kind: Kind, request: &Request<'_>, id: &Id) -> Result<Told, Refused> {
        let said: Value = serde_json::from_slice(request.asking.body).unwrap_or_default();
        if said["params"].get("cursor").is_some_and(|cursor| !cursor.is_null()) {
            return Err(not_offered("a cursor: its lists are whole"));
        }
        let (lists, missing) =
            self.of_all(|server| self.pages(kind, request, server, id, said.clone())).await?;
        if lists.iter().map(|(_, list)| list.len()).sum::<usize>() > LISTED_MAX {
            return Err(not_offered("a list of more than 1,024 names"));
        }
        let names: Vec<&str> = missing.iter().map(|(server, _)| &*server.name).collect();
        let (servers, lists): (Vec<_>, Vec<_>) = lists.into_iter().unzip();
        let body = merge::lists(kind, id, &lists, &names, request.session.is_none());
        Ok(merged(&servers, missing, body, None))
    }

    /// All pages of one server.
    async fn pages(
        &self,
        kind: Kind,
        request: &Request<'_>,
        server: &Server,
        id: &Id,
        mut said: Value,
    ) -> Result<Listed, Reason> {
        let mut list = Listed::default();
        let mut body = request.asking.body.clone();
        let mut may_lose = true;
        for _ in 0..PAGES_MAX {
            let changed = self.of_era(request, server).await?;
            let answer = server.ask(&request.asking, &changed, body.clone(), id).await?;
            if let Some(session) = lost(request, server, answer.status).filter(|_| may_lose) {
                session.lose(&server.name);
                may_lose = false;
                continue;
            }
            if kind == Kind::Prompts && has_no_method(&answer) {
                return Ok(list); // a server of tools alone
            }
            let next = result(&answer, id).and_then(|_| list.page(kind, &server.name, &answer.text));
            let Some(cursor) = next.ok_or(Reason::UpstreamError)? else { return Ok(list) };
            if list.bytes() as u64 > request.asking.limits.held_bytes_max {
                return Err(Reason::HeldBytesMax);
            }
            said["params"]["cursor"] = cursor.into();
            body = said.to_string().into();
        }
        Err(Reason::UpstreamError)
    }

    /// What all servers together are. None of it is said where one that answers speaks earlier versions only, because its client
    /// then goes back to those.
    async fn discover(&self, request: &Request<'_>, id: &Id) -> Result<Told, Refused> {
        let asked = |server| async move {
            let changed = self.of_era(request, server).await?;
            let said = server.ask(&request.asking, &changed, request.asking.body.clone(), id).await?;
            Ok(result(&said, id).and_then(|result| versions(&result)))
        };
        let (said, missing) = self.of_all(asked).await?;
        let mut common: Option<Vec<String>> = None;
        for (_, versions) in &said {
            let versions = versions.iter().flatten().filter(|version| is_mirrored(version));
            let versions: Vec<String> = versions.cloned().collect();
            common = Some(match common {
                None => versions,
                Some(before) => before.into_iter().filter(|one| versions.contains(one)).collect(),
            });
        }
        let common = common.filter(|common| !common.is_empty());
        let common = common.ok_or_else(|| not_offered("a version of all its servers since 2026-07-28"))?;
        let result = json!({
            "supportedVersions": common, "capabilities": offered(), "resultType": "complete", "ttlMs": 0,
            "cacheScope": "private", "_meta": { "io.modelcontextprotocol/serverInfo": self.info() },
        });
        let servers: Vec<&Server> = said.into_iter().map(|(server, _)| server).collect();
        Ok(merged(&servers, missing, answer(id, &result), None))
    }

    /// Opens a session with the client, and one with each server.
    async fn initialize(&self, asking: &Asking<'_>, id: &Id) -> Result<Told, Refused> {
        let said: Value = serde_json::from_slice(asking.body).unwrap_or_default();
        let asked = said["params"]["protocolVersion"].as_str().unwrap_or_default();
        let version = EARLIER.iter().find(|known| **known == asked).unwrap_or(&EARLIER[0]);
        // Servers ask this client for nothing: which of them an answer is for, its id does not say.
        let info = said["params"].get("clientInfo").filter(|info| info.is_object()).cloned();
        let info = info.unwrap_or_else(|| self.info());
        let hello = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info });
        let session = Session::new(asking.identity, hello);
        let (members, missing) = self.of_all(|server| self.member(server, asking, &session)).await?;
        let opened = self.sessions.open(session.clone()).map_err(|_| Refusal::new(Reason::Internal))?;
        let result = json!({
            "protocolVersion": version, "capabilities": offered(), "serverInfo": self.info(),
        });
        let servers: Vec<&Server> = members.into_iter().map(|(server, _)| server).collect();
        Ok(merged(&servers, missing, answer(id, &result), HeaderValue::try_from(opened).ok()))
    }

    /// The session with one server, begun if there is none.
    async fn member(
        &self,
        server: &Server,
        asking: &Asking<'_>,
        session: &Session,
    ) -> Result<Member, Reason> {
        if let Some(member) = session.member(&server.name) {
            return Ok(member);
        }
        let id = Id::Text(HELLO.into());
        let hello = json!({ "jsonrpc": "2.0", "id": HELLO, "method": "initialize", "params": session.hello });
        let said = server.ask(asking, &[], hello.to_string().into(), &id).await?;
        let result = result(&said, &id).ok_or(Reason::UpstreamError)?;
        let version = result["protocolVersion"].as_str().and_then(|text| HeaderValue::try_from(text).ok());
        let version = version.ok_or(Reason::UpstreamError)?;
        let member = Member { id: said.headers.get(SESSION).cloned(), version };
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let sent = server.send(asking, Method::POST, &member.headers(), ready.to_string().into()).await?;
        if !sent.head.status.is_success() {
            return Err(Reason::UpstreamError);
        }
        session.join(&server.name, member.clone());
        Ok(member)
    }

    /// The session that a request names.
    fn session(&self, asking: &Asking<'_>) -> Result<Arc<Session>, Refused> {
        let named = super::sessions::session(&asking.head.headers);
        let known = named.and_then(|id| self.sessions.of(&id, asking.identity));
        known.ok_or_else(|| Refusal::new(Reason::SessionUnknown).into())
    }

    /// Ends a session, and those with the servers.
    async fn close(&self, asking: &Asking<'_>) -> Result<Told, Refused> {
        let session = self.session(asking)?;
        if let Some(id) = super::sessions::session(&asking.head.headers) {
            self.sessions.close(&id);
        }
        let ended = self.servers.iter().filter_map(|server| {
            let member = session.member(&server.name).filter(|member| member.id.is_some())?;
            Some(async move {
                drop(server.send(asking, Method::DELETE, &member.headers(), Bytes::new()).await);
            })
        });
        join_all(ended).await;
        Ok(Told::Own { status: StatusCode::OK, body: Bytes::new() })
    }

    /// Tells every server that the client has a session with.
    async fn tell_all(&self, request: &Request<'_>) -> Told {
        let told = self.servers.iter().filter_map(|server| {
            let member = request.session.as_ref()?.member(&server.name)?;
            let body = request.asking.body.clone();
            Some(async move {
                drop(server.send(&request.asking, Method::POST, &member.headers(), body).await);
            })
        });
        join_all(told).await;
        accepted()
    }

    /// Asks all servers at once: what they said, and those who did not.
    ///
    /// # Errors
    /// None did.
    async fn of_all<'a, T, F: Future<Output = Result<T, Reason>>>(
        &'a self,
        ask: impl Fn(&'a Server) -> F,
    ) -> Result<(Vec<(&'a Server, T)>, Vec<(&'a Server, Reason)>), Refused> {
        let asked = join_all(self.servers.iter().map(ask)).await;
        let (mut said, mut missing) = (Vec::new(), Vec::new());
        for (server, asked) in self.servers.iter().zip(asked) {
            match asked {
                Ok(answer) => said.push((server, answer)),
                Err(reason) => {
                    tracing::warn!(route = %self.name, server = %server.name, %reason, "an MCP server of several is left out");
                    missing.push((server, reason));
                }
            }
        }
        match (said.is_empty(), missing.first()) {
            (true, Some((server, reason))) => Err(Refused {
                refusal: Box::new(Refusal::new(*reason)),
                upstream: Some(server.pool.target.name.clone()),
            }),
            _ => Ok((said, missing)),
        }
    }

    fn info(&self) -> Value {
        json!({ "name": &*self.name, "version": env!("CARGO_PKG_VERSION") })
    }
}

const PROMPTS_LIST: &str = "prompts/list";
const PROMPTS_GET: &str = "prompts/get";

/// What clients are told that there is.
fn offered() -> Value {
    json!({ "prompts": {}, "tools": {} })
}

/// The id of what the gateway itself asks of a server.
const HELLO: &str = "estoppel";
const NAME: HeaderName = HeaderName::from_static("mcp-name");

impl Member {
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let session = self.id.clone().map(|id| (SESSION, id));
        session.into_iter().chain([(VERSION, self.version.clone())]).collect()
    }
}

fn accepted() -> Told {
    Told::Own { status: StatusCode::ACCEPTED, body: Bytes::new() }
}

fn not_offered(what: &str) -> Refused {
    let what: String = what.chars().take(96).collect();
    Refusal::because(Reason::NotFederated, Some(&what)).into()
}

/// The client's session with `server`, if that knows it no more.
fn lost(request: &Request<'_>, server: &Server, status: StatusCode) -> Option<Arc<Session>> {
    let session = request.session.clone().filter(|_| status == StatusCode::NOT_FOUND)?;
    session.member(&server.name).is_some_and(|member| member.id.is_some()).then_some(session)
}

/// What a server gives in answer to `id`.
fn result(said: &Said, id: &Id) -> Option<Value> {
    if !said.status.is_success() || !server::answers(&said.text, id) {
        return None;
    }
    let mut message: Value = serde_json::from_slice(&said.text).ok()?;
    Some(message.get_mut("result")?.take()).filter(Value::is_object)
}

/// Whether a server says that it does not know what it was asked.
fn has_no_method(said: &Said) -> bool {
    let said: Value = serde_json::from_slice(&said.text).unwrap_or_default();
    said["error"]["code"] == METHOD_NOT_FOUND
}

/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i32 = -32_601;

fn versions(result: &Value) -> Option<Vec<String>> {
    let versions = result["supportedVersions"].as_array()?.iter();
    Some(versions.filter_map(|version| version.as_str().map(str::to_owned)).collect())
}

/// A call, with its server's own name for the tool.
fn renamed(body: &Bytes, message: &Message, tool: &str) -> Option<Bytes> {
    let span = message.name_at.as_ref()?;
    let at = |at: u64| usize::try_from(at).ok();
    let (before, after) = (body.get(..at(span.start)?)?, body.get(at(span.end)?..)?);
    Some([before, &serde_json::to_vec(tool).ok()?, after].concat().into())
}

fn merged(
    servers: &[&Server],
    missing: Vec<(&Server, Reason)>,
    body: Bytes,
    session: Option<HeaderValue>,
) -> Told {
    let mut head = http::Response::new(()).into_parts().0;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(session) = session {
        head.headers.insert(SESSION, session);
    }
    let upstream: Vec<&str> = servers.iter().map(|server| &*server.pool.target.name).collect();
    Told::Answer {
        answered: Box::new(Answered { head, relay: Relay::whole(body), connected: None }),
        upstream: upstream.join("+").into(),
        missing: missing.into_iter().map(|(server, why)| (server.pool.target.name.clone(), why)).collect(),
    }
}
