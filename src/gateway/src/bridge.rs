//! Serves an MCP server that speaks over its standard input and output as streamable HTTP on loopback, so that the gateway can be
//! put before it.
//!
//! Until 2025-11-25 each session has a process of its own, which ends with it. Requests of later versions belong to no session
//! and share one process, which is started again when it has ended. What a process says that answers no request goes to the
//! session's own stream (GET), or to that of its oldest open request.
//!
//! This is no proxy of bytes: messages are read and written anew, and where processes are shared their ids are ours.
//! Listens on loopback only, without TLS and without asking who calls; that is the gateway's duty.

mod events;
mod process;
mod session;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::events::Said;
use self::session::Session;

pub use self::process::Command;

/// Longest message, bytes, in either direction.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_READ_MAX: Duration = Duration::from_secs(10);
/// The first version whose requests belong to no session.
const STATELESS_SINCE: &str = "2026-07-28";

/// What is bridged, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Loopback. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Path of the endpoint.
    pub path: String,
    /// The server.
    pub command: Command,
    /// Most sessions at a time. Further ones end the one that nobody has used for the longest time, or are refused with 503.
    pub sessions_max: usize,
}

/// Serves until SIGTERM or SIGINT, and ends every process then. `listening` is told the address.
///
/// # Errors
/// The address is not on loopback or taken, or there is no runtime to be had.
pub fn run(settings: Settings, listening: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    if !settings.listen.ip().is_loopback() {
        return Err(std::io::Error::other("the bridge listens on loopback only"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpListener::bind(settings.listen).await?;
        listening(socket.local_addr()?);
        let bridge = Arc::new(Bridge { settings, sessions: Mutex::default() });
        let ended = stopped();
        tokio::select! {
            () = accept(&socket, &bridge) => {}
            () = ended => {}
        }
        bridge.end().await;
        Ok(())
    })
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

struct Bridge {
    settings: Settings,
    /// By id; the one without sessions has the empty id.
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

type Answer = Response<events::Body>;

async fn accept(socket: &TcpListener, bridge: &Arc<Bridge>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((tcp, _)) = socket.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let bridge = bridge.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let bridge = bridge.clone();
                async move { Ok::<_, Infallible>(bridge.answer(request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_READ_MAX)
                .serve_connection(TokioIo::new(tcp), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "bridge connection ended");
            }
            drop(permit);
        });
    }
}

impl Bridge {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        if crate::admin::from_elsewhere(&request).is_some() {
            return refused(StatusCode::FORBIDDEN, None, -32_600, "web pages may not do this");
        }
        if request.uri().path() != self.settings.path {
            return refused(StatusCode::NOT_FOUND, None, -32_600, "there is no such path");
        }
        let (head, body) = request.into_parts();
        match head.method {
            Method::POST => self.post(&head.headers, body).await,
            Method::GET => match self.session(&head.headers) {
                Some(session) => stream(session.listen(), &session),
                None => no_session(&head.headers),
            },
            Method::DELETE => match self.take(&head.headers) {
                Some(session) => {
                    session.end().await;
                    empty(StatusCode::OK)
                }
                None => no_session(&head.headers),
            },
            _ => {
                let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
                answer
            }
        }
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: Incoming) -> Answer {
        let Ok(body) = Limited::new(body, MESSAGE_BYTES_MAX).collect().await else {
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                None,
                -32_600,
                "the message is too long or broken",
            );
        };
        let message: Value = match serde_json::from_slice(&body.to_bytes()) {
            Ok(message @ Value::Object(_)) => message,
            Ok(_) => return refused(StatusCode::BAD_REQUEST, None, -32_600, "batches are not bridged"),
            Err(_) => return refused(StatusCode::BAD_REQUEST, None, -32_700, "the message is not JSON"),
        };
        let id = message.get("id").filter(|id| !id.is_null()).cloned();
        let asks = id.is_some() && message["method"].is_string();
        let session = match self.of(headers, &message) {
            Ok(session) => session,
            Err(answer) => return *answer,
        };
        let Some(id) = id.filter(|_| asks) else {
            return match session.tell(message).await {
                Ok(()) => empty(StatusCode::ACCEPTED),
                Err(why) => refused(StatusCode::BAD_GATEWAY, None, -32_000, why),
            };
        };
        match session.ask(id.clone(), message).await {
            Ok(said) => stream(said, &session),
            Err(why) => refused(StatusCode::BAD_GATEWAY, Some(&id), -32_000, why),
        }
    }

    /// The session of a message; an `initialize` begins one.
    fn of(&self, headers: &HeaderMap, message: &Value) -> Result<Arc<Session>, Box<Answer>> {
        if let Some(session) = self.session(headers) {
            return Ok(session);
        }
        let named = headers.contains_key(SESSION);
        let id = match message["method"].as_str() {
            Some("initialize") if !named => session::new_id().map_err(|error| could_not(&error))?,
            _ if !named && is_stateless(headers, message) => String::new(),
            _ => return Err(Box::new(no_session(headers))),
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.is_open());
        if let Some(session) = sessions.get(&id) {
            return Ok(session.clone());
        }
        if sessions.len() >= self.settings.sessions_max && !make_room(&mut sessions) {
            let full = "there are too many sessions";
            return Err(Box::new(refused(StatusCode::SERVICE_UNAVAILABLE, message.get("id"), -32_000, full)));
        }
        let session = Session::start(&id, &self.settings.command).map_err(|error| could_not(&error))?;
        sessions.insert(id, session.clone());
        Ok(session)
    }

    fn session(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let id = headers.get(SESSION)?.to_str().ok().filter(|id| !id.is_empty())?;
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).filter(|session| session.is_open()).cloned()
    }

    fn take(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let id = headers.get(SESSION)?.to_str().ok().filter(|id| !id.is_empty())?;
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    async fn end(&self) {
        let sessions = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        for session in sessions.values() {
            session.close();
        }
        for session in sessions.values() {
            session.end().await;
        }
    }
}

/// Ends the session that nobody has used for the longest time. Sessions in which somebody waits are not ended.
fn make_room(sessions: &mut HashMap<String, Arc<Session>>) -> bool {
    let idle = sessions.iter().filter_map(|(id, session)| Some((session.idle_since()?, id)));
    let Some(id) = idle.min().map(|(_, id)| id.clone()) else { return false };
    if let Some(session) = sessions.remove(&id) {
        tokio::spawn(async move { session.end().await });
    }
    true
}

const SESSION: &str = "mcp-session-id";

fn is_stateless(headers: &HeaderMap, message: &Value) -> bool {
    let stated = headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok());
    let meta = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
    stated.or(meta.as_str()).is_some_and(|version| version >= STATELESS_SINCE)
}

/// A stream of what is said, in the session's name.
fn stream(said: Said, session: &Session) -> Answer {
    let mut answer = Response::new(events::Body::Events(said));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = HeaderValue::from_str(session.id()).ok().filter(|id| !id.is_empty()) {
        headers.insert(SESSION, id);
    }
    answer
}

/// Clients begin anew at 404, and send what they have left out at 400.
fn no_session(headers: &HeaderMap) -> Answer {
    match headers.contains_key(SESSION) {
        true => refused(StatusCode::NOT_FOUND, None, -32_001, "there is no such session"),
        false => refused(StatusCode::BAD_REQUEST, None, -32_600, "the request names no session"),
    }
}

fn could_not(error: &std::io::Error) -> Box<Answer> {
    tracing::error!(%error, "the server does not start");
    Box::new(refused(StatusCode::BAD_GATEWAY, None, -32_000, "the server does not start"))
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(events::Body::Whole(None));
    *answer.status_mut() = status;
    answer
}

fn refused(status: StatusCode, id: Option<&Value>, code: i32, why: &str) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": why } });
    let mut answer = Response::new(events::Body::Whole(Some(Bytes::from(body.to_string()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
