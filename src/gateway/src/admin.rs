//! The operators' listener: health, metrics, runs, sealing. Plain HTTP on a private address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 when calls are taken; 503 with the reason otherwise |
//! | `GET /startupz` | 200 once listeners are bound |
//! | `GET /metrics` | Prometheus text format 0.0.4 |
//! | `GET /runs` | open and recently sealed runs, JSON |
//! | `GET /calls/recent?verdict&limit` | the latest calls that were not plainly allowed, JSON |
//! | `GET /holds`, `GET /holds/{id}` | calls that wait for people, and those that did last, JSON |
//! | `POST /holds/{id}/decisions` | takes an approver's signed decision, JSON |
//! | `POST /runs/{id or name}/seal` | seals a run and says where its bundle is; of a sealed run writes the bundle again if it is gone |
//! | `POST /bypasses` | records traffic that has no receipt, as somebody has found it, JSON |
//! | `POST /retention` | records a legal hold, its end, or what is deleted by plan, JSON |
//! | `GET /switches` | kill switches in force, JSON |
//! | `POST /switches/{target}/kill/{by}/{reason}` | stops calls |
//! | `POST /switches/{target}/resume/{by}/{reason}` | lets them go on |
//! | `GET /mcp/pins` | the MCP tools that are pinned, and definitions that were refused |
//! | `POST /mcp/pins/accept?route&server&tool&definition` | takes a refused definition in the place of the pinned one |
//! | `POST /mcp/pins/forget?route&server&tool` | forgets a tool |
//!
//! Errors are RFC 9457 problem documents with the codes of `spec/reasons.json`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::SealReason;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bypass::{self, Reported};
use crate::chain::Chain;
use crate::holds::{self, Signed};
use crate::mcp::operators::{self, Which, Word};
use crate::recent;
use crate::retained::{self, Told};
use crate::serve::{Gateway, GatewayError, Shared};
use crate::settings::Admin;
use crate::switches::{Kill, SWITCHES_MAX, Target};

type Page = Response<Full<Bytes>>;

/// Starts the operators' listener and says where it listens. Must be called inside the background runtime.
///
/// # Errors
/// [`GatewayError::Listen`].
pub async fn start(settings: &Admin, gateway: &Gateway) -> Result<SocketAddr, GatewayError> {
    let address = settings.listen;
    let listen = |source| GatewayError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(listen)?;
    // Accepted sockets inherit it: an answer that is not taken waits here, and not in the kernel's megabytes.
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)
        .map_err(|error| listen(error.into()))?;
    let bound = socket.local_addr().map_err(listen)?;
    let times = Times {
        request: Duration::from_millis(settings.request_ms),
        answer: Duration::from_millis(settings.answer_ms),
    };
    tokio::spawn(accept(socket, gateway.shared.clone(), times));
    Ok(bound)
}

/// Most connections of operators at a time.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of an answer that the kernel takes on before the other side does.
const SEND_BUFFER_BYTES: usize = 16 << 10;
/// Most routes that are named to somebody who names one that is not there.
const ROUTES_TOLD_MAX: usize = 32;
/// How long the head of its one request may take, at most.
const HEAD_READ_MAX: Duration = Duration::from_secs(1);

/// How long a connection may take for its one request and the answer. What is done between them has its own time.
#[derive(Clone, Copy)]
struct Times {
    /// From its first moment until the request is whole.
    request: Duration,
    /// From when the answer is there until it is taken.
    answer: Duration,
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, times: Times) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((tcp, _)) = socket.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            serve(tcp, &shared, times).await;
            drop(permit);
        });
    }
}

async fn serve(tcp: TcpStream, shared: &Arc<Shared>, times: Times) {
    let until = Instant::now() + times.request;
    let answered = Arc::new(Notify::new());
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (shared, answered) = (shared.clone(), answered.clone());
        async move {
            let page = answer(&shared, request, until).await;
            answered.notify_one();
            Ok::<_, Infallible>(page)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(times.request.min(HEAD_READ_MAX));
    let late = async {
        answered.notified().await;
        tokio::time::sleep(times.answer).await;
    };
    tokio::select! {
        served = builder.serve_connection(TokioIo::new(tcp), service) => if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended");
        },
        () = late => tracing::debug!("admin answer was not taken in time"),
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, until: Instant) -> Page {
    if let Some(why) = from_elsewhere(&request) {
        return forbidden(why);
    }
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/livez" | "/startupz") => text(StatusCode::OK, "ok\n"),
        (&Method::GET, "/readyz") => ready(shared),
        (&Method::GET, "/metrics") => metrics(shared),
        (&Method::GET, "/runs") => json_page(StatusCode::OK, &json!({ "runs": shared.journal.runs() })),
        (&Method::GET, "/calls/recent") => match recent::Which::read(request.uri().query()) {
            Ok(which) => json_page(StatusCode::OK, &shared.recent.list(which)),
            Err(why) => invalid(why),
        },
        (&Method::GET, "/holds") => {
            let now_us = shared.clock.unix_us();
            json_page(StatusCode::OK, &shared.holds.list(shared.journal.instance(), now_us))
        }
        (&Method::GET, _) if path.starts_with("/holds/") => hold(shared, &path["/holds/".len()..]),
        (&Method::POST, _) if path.starts_with("/holds/") => {
            match path["/holds/".len()..].strip_suffix("/decisions") {
                Some(id) => decide(shared, id, request.into_body(), until).await,
                None => problem(Reason::RouteUnknown, None),
            }
        }
        (&Method::GET, "/mcp/pins") => json_page(StatusCode::OK, &json!({ "pins": operators::rows(shared) })),
        (&Method::POST, "/mcp/pins/accept" | "/mcp/pins/forget") => pinned(shared, request.uri()).await,
        (&Method::POST, _) if path.starts_with("/runs/") => {
            match path["/runs/".len()..].strip_suffix("/seal") {
                Some(run) => seal(shared, run).await,
                None => problem(Reason::RouteUnknown, None),
            }
        }
        (&Method::POST, "/bypasses") => bypass(shared, request.into_body(), until).await,
        (&Method::POST, "/retention") => retention(shared, request.into_body(), until).await,
        (&Method::GET, "/switches") => switches(shared),
        (&Method::POST, _) if path.starts_with("/switches/") => {
            switch(shared, &path["/switches/".len()..]).await
        }
        _ => problem(Reason::RouteUnknown, None),
    }
}

/// Those in force.
fn switches(shared: &Shared) -> Page {
    let Some(killed) = shared.switches.in_force() else { return problem(Reason::StoreDown, None) };
    let rows: Vec<_> = killed
        .targets()
        .iter()
        .map(|(target, kill)| {
            let stopped = shared.switches.stopped(target);
            json!({
                "target": target.as_str(),
                "by": kill.by,
                "reason": kill.reason,
                "since_us": kill.since_us,
                "stopped": stopped,
            })
        })
        .collect();
    let lost_us = shared.switches.lost_us();
    json_page(StatusCode::OK, &json!({ "store_lost_us": lost_us, "switches": rows }))
}

/// `{target}/kill/{by}/{reason}` or the same with `resume`.
async fn switch(shared: &Arc<Shared>, path: &str) -> Page {
    let words: Option<Vec<String>> = path.split('/').map(percent_decoded).collect();
    let words = words.unwrap_or_default();
    let [target, action, by, reason] = words.as_slice() else {
        return problem(Reason::RouteUnknown, None);
    };
    let kills = match action.as_str() {
        "kill" => true,
        "resume" => false,
        _ => return problem(Reason::RouteUnknown, None),
    };
    let kill = Kill::new(by, reason, kills, shared.clock.unix_us());
    let (Some(target), Some(kill)) = (Target::parse(target), kill) else {
        let why = "the target is `all`, or `route:`, `tool:`, `identity:` or `tenant:` and a name; who and why have 1 to 256 bytes";
        return invalid(why);
    };
    let snapshot = shared.snapshot.load();
    let mut routes = snapshot.routes.iter().map(|route| &*route.name);
    if kills && target.route().is_some_and(|name| !routes.clone().any(|known| known == name)) {
        let some: Vec<&str> = routes.by_ref().take(ROUTES_TOLD_MAX).collect();
        let more = if routes.next().is_some() { ", …" } else { "" };
        return invalid(&format!("there is no such route; there are {}{more}", some.join(", ")));
    }
    let known = shared.switches.in_force();
    let full = known
        .is_some_and(|known| known.targets().len() >= SWITCHES_MAX && !known.targets().contains_key(&target));
    if kills && full {
        return invalid("there are as many switches as there may be");
    }
    match shared.switch(&target, &kill).await {
        Ok(()) => switches(shared),
        Err(error) if kills => {
            let here = "stopped at this gateway, which tells the others when the store is back";
            problem(Reason::StoreDown, Some(&format!("{error}; {here}")))
        }
        Err(error) => problem(Reason::StoreDown, Some(&error.to_string())),
    }
}

/// Why a request may come from a page in an operator's browser: by a name that its owner points here, or across sites.
pub(crate) fn from_elsewhere<B>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok()),
    };
    let is_address = |host: &str| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
    };
    if !host.is_some_and(|host| is_address(host.host())) || headers.get_all(HOST).iter().count() > 1 {
        return Some("the host must be an IP address or `localhost`");
    }
    if request.method() != Method::POST {
        return None;
    }
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match headers.contains_key(ORIGIN) || !sites.all(|site| site == "none" || site == "same-origin") {
        true => Some("web pages may not do this"),
        false => None,
    }
}

fn forbidden(why: &str) -> Page {
    let mut page = problem(Reason::RequestInvalid, Some(why));
    *page.status_mut() = StatusCode::FORBIDDEN;
    page
}

fn invalid(why: &str) -> Page {
    let mut page = problem(Reason::ArgumentInvalid, Some(why));
    *page.status_mut() = StatusCode::BAD_REQUEST;
    page
}

fn ready(shared: &Shared) -> Page {
    if shared.draining.load(Ordering::Relaxed) {
        return problem(Reason::Shutdown, None);
    }
    let stats = shared.journal.stats();
    match stats.failed {
        Some(reason) => problem(reason, None),
        None if stats.stalled => problem(Reason::DiskFull, None),
        None if stores_without_a_key(shared, &stats) => problem(Reason::KeyHookFailed, None),
        None if is_stopped_by_the_store(shared) => problem(Reason::StoreDown, None),
        None => text(StatusCode::OK, "ok\n"),
    }
}

/// Whether calls are refused because there is no key for the bodies that the policy asks to store.
fn stores_without_a_key(shared: &Shared, stats: &estoppel_journal::Stats) -> bool {
    stats.body_keys.is_some_and(|keys| keys.refusal().is_some()) && shared.snapshot.load().stores_bodies()
}

/// Whether the store that is down has every call answered 503.
fn is_stopped_by_the_store(shared: &Shared) -> bool {
    let is_down = shared.switches.is_unreadable() && shared.snapshot.load().policy.needs_a_store();
    shared.switches.in_force().is_none() || is_down
}

fn metrics(shared: &Shared) -> Page {
    let body = shared.metrics.text(
        &shared.journal.stats(),
        shared.in_flight.load(Ordering::Relaxed),
        shared.drains.count(),
    );
    page(StatusCode::OK, "text/plain; version=0.0.4", body.into())
}

fn hold(shared: &Shared, id: &str) -> Page {
    let show = |id| shared.holds.show(id, shared.journal.instance(), shared.clock.unix_us());
    match id.parse().ok().and_then(show) {
        Some(hold) => json_page(StatusCode::OK, &hold),
        None => problem(Reason::HoldUnknown, None),
    }
}

/// Longest document that is read.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

async fn decide(shared: &Arc<Shared>, id: &str, body: Incoming, until: Instant) -> Page {
    let Ok(id) = id.parse() else { return problem(Reason::HoldUnknown, None) };
    let signed: Signed = match document(body, until).await {
        Ok(signed) => signed,
        Err(page) => return *page,
    };
    match holds::decide(shared, id, signed).await {
        Ok(()) => hold(shared, &id.to_string()),
        Err((reason, what)) => problem(reason, what),
    }
}

async fn document<T: DeserializeOwned>(body: Incoming, until: Instant) -> Result<T, Box<Page>> {
    let read = Limited::new(body, DOCUMENT_BYTES_MAX).collect();
    let refuse = |reason, detail: Option<String>| Box::new(problem(reason, detail.as_deref()));
    match tokio::time::timeout_at(until, read).await {
        Ok(Ok(body)) => serde_json::from_slice(&body.to_bytes())
            .map_err(|error| refuse(Reason::RequestInvalid, Some(error.to_string()))),
        Ok(Err(_)) => Err(refuse(Reason::RequestBytesMax, None)),
        Err(_) => Err(refuse(Reason::RequestStalled, None)),
    }
}

async fn bypass(shared: &Arc<Shared>, body: Incoming, until: Instant) -> Page {
    let reported: Reported = match document(body, until).await {
        Ok(reported) => reported,
        Err(page) => return *page,
    };
    let found = match reported.checked() {
        Ok(found) => found,
        Err(why) => return invalid(why),
    };
    match bypass::record(shared, found).await {
        Ok(leaf) => json_page(StatusCode::OK, &json!({ "receipt": leaf.map(|leaf| leaf.to_string()) })),
        Err(reason) => problem(reason, None),
    }
}

async fn retention(shared: &Arc<Shared>, body: Incoming, until: Instant) -> Page {
    let told: Told = match document(body, until).await {
        Ok(told) => told,
        Err(page) => return *page,
    };
    let Some(act) = told.checked() else {
        return invalid(
            "`act` is one of retention's; `by`, `on` and `comment` have 1 to 128 and 256 characters",
        );
    };
    match retained::record(shared, act).await {
        Ok(leaf) => json_page(StatusCode::OK, &json!({ "receipt": leaf.map(|leaf| leaf.to_string()) })),
        Err(reason) => problem(reason, None),
    }
}

/// An operator's word on a pinned tool.
async fn pinned(shared: &Arc<Shared>, uri: &http::Uri) -> Page {
    let which = uri.query().and_then(|query| Which::read(query, percent_decoded));
    let word = which.as_ref().and_then(|which| match (uri.path(), which.definition) {
        ("/mcp/pins/accept", definition) => definition.map(Word::Accept),
        (_, None) => Some(Word::Forget),
        (_, Some(_)) => None,
    });
    let (Some(which), Some(word)) = (which, word) else {
        return problem(Reason::RequestInvalid, Some("route, server, tool, and to accept also definition"));
    };
    match operators::say(shared, &which, word).await {
        Ok(receipt) => json_page(StatusCode::OK, &json!({ "receipt": receipt.map(|leaf| leaf.to_string()) })),
        Err(reason) => problem(reason, None),
    }
}

async fn seal(shared: &Arc<Shared>, run: &str) -> Page {
    let Some(run) = percent_decoded(run) else { return problem(Reason::RunUnknown, None) };
    match shared.journal.seal(&run, SealReason::Clean).await {
        Ok(sealed) => json_page(StatusCode::OK, &json!(sealed)),
        Err(error) => problem(error.reason(), Some(&Chain(&error).to_string())),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Page {
    let mut page = Response::new(Full::new(body));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page
}

fn text(status: StatusCode, body: &'static str) -> Page {
    page(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

fn json_page(status: StatusCode, value: &serde_json::Value) -> Page {
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    page(status, "application/json", body.into())
}

fn problem(reason: Reason, detail: Option<&str>) -> Page {
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let value = json!({
        "type": format!("urn:estoppel:reason:{reason}"),
        "title": reason.text(),
        "status": status.as_u16(),
        "code": reason.code(),
        "retryable": reason.retryable(),
        "detail": detail,
    });
    let mut page = json_page(status, &value);
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/runs/a/seal");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        from_elsewhere(&request.body(()).unwrap()).is_some()
    }

    #[test]
    fn only_addresses_and_localhost_are_hosts() {
        for host in
            ["127.0.0.1", "127.0.0.1:9", "[::1]", "[fd00::1]:9", "localhost", "LOCALHOST:9", "10.0.0.1"]
        {
            assert!(!refused("GET", &[("host", host)]), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:9", "localhost.evil.example", "", "x@127.0.0.1:1:2"]
        {
            assert!(refused("GET", &[("host", host)]), "{host}");
        }
        assert!(refused("GET", &[]));
        assert!(refused("GET", &[("host", "127.0.0.1"), ("host", "evil.example")]));
    }

    #[test]
    fn web_pages_change_nothing() {
        let with = |name, value| refused("POST", &[("host", "127.0.0.1"), (name, value)]);
        assert!(
            !with("accept", "*/*")
                && !with("sec-fetch-site", "none")
                && !with("sec-fetch-site", "same-origin")
        );
        assert!(
            with("sec-fetch-site", "cross-site")
                && with("sec-fetch-site", "same-site")
                && with("sec-fetch-site", "")
        );
        assert!(with("origin", "http://127.0.0.1") && with("origin", "null"));
        assert!(!refused("GET", &[("host", "127.0.0.1"), ("origin", "null")]));
    }
}
