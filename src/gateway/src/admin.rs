//! The operators' listener: health, metrics, runs, sealing. Plain HTTP on a private address.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 when calls are taken; 503 with the reason otherwise |
//! | `GET /startupz` | 200 once listeners are bound |
//! | `GET /metrics` | Prometheus text format 0.0.4 |
//! | `GET /runs` | open and recently sealed runs, JSON |
//! | `POST /runs/{id or name}/seal` | seals a run and says where its bundle is |
//!
//! Errors are RFC 9457 problem documents with the codes of `spec/reasons.json`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::SealReason;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;

use crate::serve::{Gateway, GatewayError, Shared};

type Page = Response<Full<Bytes>>;

/// Starts the operators' listener and says where it listens. Must be called inside the background runtime.
///
/// # Errors
/// [`GatewayError::Listen`].
pub async fn start(address: SocketAddr, gateway: &Gateway) -> Result<SocketAddr, GatewayError> {
    let listen = |source| GatewayError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(listen)?;
    let bound = socket.local_addr().map_err(listen)?;
    tokio::spawn(accept(socket, gateway.shared.clone()));
    Ok(bound)
}

/// Most connections of operators at a time.
const CONNECTIONS_MAX: usize = 64;

async fn accept(socket: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((tcp, _)) = socket.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .serve_connection(TokioIo::new(tcp), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(permit);
        });
    }
}

async fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Page {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET, "/livez" | "/startupz") => text(StatusCode::OK, "ok\n"),
        (&Method::GET, "/readyz") => ready(shared),
        (&Method::GET, "/metrics") => metrics(shared),
        (&Method::GET, "/runs") => json_page(StatusCode::OK, &json!({ "runs": shared.journal.runs() })),
        (&Method::POST, _) if path.starts_with("/runs/") => {
            match path["/runs/".len()..].strip_suffix("/seal") {
                Some(run) => seal(shared, run).await,
                None => problem(Reason::RouteUnknown, None),
            }
        }
        _ => problem(Reason::RouteUnknown, None),
    }
}

fn ready(shared: &Shared) -> Page {
    if shared.draining.load(Ordering::Relaxed) {
        return problem(Reason::Shutdown, None);
    }
    let stats = shared.journal.stats();
    match stats.failed {
        Some(reason) => problem(reason, None),
        None if stats.stalled => problem(Reason::DiskFull, None),
        None => text(StatusCode::OK, "ok\n"),
    }
}

fn metrics(shared: &Shared) -> Page {
    let body = shared.metrics.text(
        &shared.journal.stats(),
        shared.in_flight.load(Ordering::Relaxed),
        shared.drains.count(),
    );
    page(StatusCode::OK, "text/plain; version=0.0.4", body.into())
}

async fn seal(shared: &Arc<Shared>, run: &str) -> Page {
    let Some(run) = percent_decoded(run) else { return problem(Reason::RunUnknown, None) };
    match shared.journal.seal(&run, SealReason::Clean).await {
        Ok(sealed) => json_page(StatusCode::OK, &json!(sealed)),
        Err(error) => problem(error.reason(), Some(&error.to_string())),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
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
