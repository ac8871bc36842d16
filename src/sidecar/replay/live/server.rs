//! Who is asked: an MCP server over streamable HTTP, or a plain API.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use estoppel_replay::live::{Answer, Request, answer_to};
use serde_json::{Value, json};
use ureq::config::Config;
use ureq::http;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::place::Place;

/// The longest that one call may take, with its answer.
const CALL: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 25 << 20;
/// What is spoken where the server does not say otherwise.
const PROTOCOL: &str = "2025-06-18";

pub(super) struct Server {
    place: Place,
    agent: ureq::Agent,
    /// What it said at the beginning, once it was asked.
    session: Option<Session>,
}

/// Of MCP.
#[derive(Clone, Default)]
struct Session {
    id: Option<String>,
    protocol: Option<String>,
}

/// Whatever a URL names, this is where it leads.
#[derive(Debug)]
struct There(SocketAddr);

impl Resolver for There {
    fn resolve(&self, _: &http::Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

impl Server {
    pub(super) fn new(place: Place) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(CALL));
        let config = match place.roots() {
            None => config,
            Some(roots) => config.tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::new_with_certs(roots))
                    .unversioned_rustls_crypto_provider(estoppel_gateway::tls::provider())
                    .build(),
            ),
        };
        let there = There(place.address());
        let agent = ureq::Agent::with_parts(config.build(), DefaultConnector::default(), there);
        Self { place, agent, session: None }
    }

    /// The answer, as far as it came.
    pub(super) fn ask(&mut self, request: &Request) -> Option<Answer> {
        let message = match request {
            Request::Message(message) => message,
            Request::Plain { method, target, body } => {
                let request = http::Request::builder().method(method.as_str());
                let request = request.uri(self.place.url(target).ok()?).header("accept", "application/json");
                // A method such as GET says by having none that there is no body.
                let sent = if body.is_empty() && !has_body(method) {
                    self.agent.run(request.body(()).ok()?)
                } else {
                    let request = request.header("content-type", "application/json");
                    self.agent.run(request.body(body.as_slice()).ok()?)
                };
                return read(sent.ok()?);
            }
        };
        let session = match &self.session {
            Some(session) => session.clone(),
            None => {
                let session = self.begin();
                self.session = Some(session.clone());
                session
            }
        };
        self.post(message, &session).map(|(answer, _)| answer)
    }

    /// A server without sessions refuses this, which is no failure.
    fn begin(&self) -> Session {
        let hello = json!({
            "id": "estoppel-replay",
            "jsonrpc": "2.0",
            "method": "initialize",
            "params": {
                "capabilities": {},
                "clientInfo": { "name": "estoppel-replay", "version": env!("CARGO_PKG_VERSION") },
                "protocolVersion": PROTOCOL,
            },
        });
        let Some((answer, id)) = self.post(hello.to_string().as_bytes(), &Session::default()) else {
            return Session::default();
        };
        let said = answer_to(&hello["id"], &answer.body).unwrap_or_default();
        let protocol = said["result"]["protocolVersion"].as_str().map(ToOwned::to_owned);
        let session = Session { id, protocol };
        if session.protocol.is_some() {
            let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            // Nothing is said to that.
            let _ = self.post(ready.to_string().as_bytes(), &session);
        }
        session
    }

    fn post(&self, message: &[u8], session: &Session) -> Option<(Answer, Option<String>)> {
        let said: Value = serde_json::from_slice(message).unwrap_or_default();
        let mut request = self
            .agent
            .post(self.place.tools())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-method", said["method"].as_str().unwrap_or_default());
        for (name, value) in [
            ("mcp-name", said["params"]["name"].as_str()),
            ("mcp-protocol-version", session.protocol.as_deref()),
            ("mcp-session-id", session.id.as_deref()),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let response = request.send(message).ok()?;
        let id = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok().map(str::to_owned));
        Some((read(response)?, id))
    }
}

/// Whether a request of this method has a body, if an empty one.
fn has_body(method: &str) -> bool {
    matches!(method, "PATCH" | "POST" | "PUT")
}

fn read(mut response: http::Response<ureq::Body>) -> Option<Answer> {
    let mut body = Vec::new();
    let read = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
    let is_whole = read.is_ok_and(|bytes| (bytes as u64) < ANSWER_BYTES_MAX); // usize fits
    Some(Answer { status: response.status().as_u16(), body, is_whole })
}
