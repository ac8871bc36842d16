//! `estoppel replay run --live`: recorded calls of allowed tools, made again for real.
//!
//! Two things have to be said that nobody says by accident: the tools by name, and in the environment the run.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use estoppel_evidence::{Reason, Sha256};
use estoppel_replay::certificate::{BodiesBy, Mode};
use estoppel_replay::live::{Plan, answer_to, replay};
use estoppel_replay::{Connections, Matching, Normalizers, Tally};
use serde_json::{Value, json};
use ureq::http::Uri;

use super::{Prepared, Said, classes, conclude, normalizers, unread};
use crate::arguments::ReplayRun;
use crate::output::{Failure, Output, plain};

/// Has to be the id of the run that is replayed.
const INTERLOCK: &str = "ESTOPPEL_REPLAY_LIVE";
/// The longest that one call may take, with its answer.
const CALL: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 25 << 20;
/// What is spoken where the server does not say otherwise.
const PROTOCOL: &str = "2025-06-18";

pub(super) fn run(output: Output, run: &ReplayRun, prepared: &Prepared) -> Result<ExitCode, Failure> {
    let wanted = &run.live;
    let id = prepared.bundle.manifest().run.to_string();
    if wanted.allow_tool.is_empty() {
        return Err(refused("no tool is allowed to be called").hint("--allow-tool NAME, for each"));
    }
    if !std::env::var(INTERLOCK).is_ok_and(|said| said == id) {
        return Err(refused(&format!("`{INTERLOCK}` does not name this run"))
            .hint(format!("what is called is real: if that is meant, say {INTERLOCK}={id}")));
    }
    let url = wanted.upstream.as_deref().unwrap_or_default();
    let place = Place::of(url, &wanted.allow_host)?;
    let normalizers = run.normalizers.as_deref().map(normalizers).transpose()?;
    let mut classes = classes(output, run.policy.as_deref())?;
    let mut connections = Connections::default();
    connections.allow([place.address]);
    let mut tally = Tally::new(Matching::Strict);
    let plan = Plan {
        tools: wanted.allow_tool.iter().cloned().collect(),
        upstream: place.origin.clone(),
        normalizers: normalizers.as_ref(),
        capture: prepared.capture.as_ref(),
        classes: &mut classes,
    };
    output.note(&plain(&format!("calls of {} are made for real", wanted.allow_tool.join(", "))));
    let mut server = Server::new(place);
    let mut ask = |request: &[u8]| server.ask(request);
    let replayed = replay(&prepared.bundle, plan, &mut ask, &mut tally, &mut connections);
    let replayed = replayed.map_err(|error| unread(&error))?;
    let bodies_by = if prepared.capture.is_some() { BodiesBy::Tag } else { BodiesBy::Digest };
    let digest: Option<Sha256> = normalizers.as_ref().map(Normalizers::digest);
    let said = Said {
        connections: connections.count(),
        normalizers: digest,
        live: Some(replayed),
        policy: classes.policy(),
        ..Said::of(Mode::Live, bodies_by)
    };
    conclude(output, &run.of, &prepared.bundle, &prepared.key, prepared.started, &tally, said)
}

fn refused(message: &str) -> Failure {
    Failure { exit: 8, ..Failure::runtime("LIVE_REFUSED", plain(message)) }
}

/// Where the tools are: one address, looked up once.
struct Place {
    address: SocketAddr,
    authority: String,
    origin: String,
    path: String,
}

impl Place {
    fn of(url: &str, allowed_hosts: &[String]) -> Result<Self, Failure> {
        let invalid = |why: &str| {
            Failure::reason(Reason::ArgumentInvalid, plain(&format!("--upstream: {why}")))
                .hint("a gateway on this machine speaks TLS to what is elsewhere: name one of its routes")
        };
        let uri: Uri = url.parse().map_err(|_| invalid("this is no URL"))?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        let host = host.ok_or_else(|| invalid("expected `http://HOST:PORT/PATH`"))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid("credentials have no place in it"));
        }
        let (name, port) = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
        let is_allowed = allowed_hosts.iter().any(|allowed| allowed == name);
        let elsewhere =
            || refused(&format!("`{name}` is not on this machine")).hint("--allow-host NAME allows it");
        // Nobody is asked for the address of a name that was not allowed.
        let is_here = name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost");
        if !is_here && !is_allowed {
            return Err(elsewhere());
        }
        let found = (name, port).to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = found.ok_or_else(|| {
            Failure::reason(Reason::DependencyMissing, plain(&format!("`{host}` has no address")))
        })?;
        if !address.ip().is_loopback() && !is_allowed {
            return Err(elsewhere());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, origin: format!("http://{authority}"), authority, path })
    }
}

/// A server of MCP over streamable HTTP.
struct Server {
    place: Place,
    agent: ureq::Agent,
    /// What it said at the beginning, once it was asked.
    session: Option<Session>,
}

#[derive(Clone, Default)]
struct Session {
    id: Option<String>,
    protocol: Option<String>,
}

impl Server {
    fn new(place: Place) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(CALL))
            .build();
        Self { place, agent: config.into(), session: None }
    }

    /// The body of the answer, as far as it came.
    fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => {
                let session = self.begin();
                self.session = Some(session.clone());
                session
            }
        };
        self.post(request, &session).map(|(body, _)| body)
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
        let Some((body, id)) = self.post(hello.to_string().as_bytes(), &Session::default()) else {
            return Session::default();
        };
        let said = answer_to(&hello["id"], &body).unwrap_or_default();
        let protocol = said["result"]["protocolVersion"].as_str().map(ToOwned::to_owned);
        let session = Session { id, protocol };
        if session.protocol.is_some() {
            let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            // Nothing is said to that.
            let _ = self.post(ready.to_string().as_bytes(), &session);
        }
        session
    }

    fn post(&self, message: &[u8], session: &Session) -> Option<(Vec<u8>, Option<String>)> {
        let read: Value = serde_json::from_slice(message).unwrap_or_default();
        let mut request = self
            .agent
            .post(format!("http://{}{}", self.place.address, self.place.path))
            .header("host", &self.place.authority)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-method", read["method"].as_str().unwrap_or_default());
        for (name, value) in [
            ("mcp-name", read["params"]["name"].as_str()),
            ("mcp-protocol-version", session.protocol.as_deref()),
            ("mcp-session-id", session.id.as_deref()),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let mut response = request.send(message).ok()?;
        let id = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok().map(str::to_owned));
        let mut body = Vec::new();
        // What came before it broke off may hold the answer.
        let _ = response.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut body);
        Some((body, id))
    }
}
