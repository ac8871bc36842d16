//! The gateway's part of the daemon's configuration: listeners, upstreams and routes.
//!
//! Raw types mirror the file and refuse unknown keys; [`Settings::check`] reports every error at once, each with its
//! key path. Limits and verdicts are not here: they are policy.

mod database;
mod identity;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub use self::database::{Database, Written};
pub(crate) use self::identity::is_noted_whole;
pub use self::identity::{Algorithm, CertificateTenant, Certificates, File, Identity, Jwt, RequiredClaim};
use crate::mcp::federation;

/// Listeners, upstreams and routes as the file has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where calls come in. At least one.
    #[serde(default)]
    pub listener: Vec<Listener>,
    /// Where operators look: health, metrics, runs, sealing. Give it a loopback or otherwise private address: whoever
    /// reaches it may seal runs and read run names, but no bodies and no keys.
    pub admin: Option<Admin>,
    /// Where calls go, by name.
    #[serde(default)]
    pub upstream: BTreeMap<String, Upstream>,
    /// Which calls go where; the first that matches takes the call.
    #[serde(default)]
    pub route: Vec<Route>,
    /// Databases that are looked at around calls.
    #[serde(default)]
    pub database: Vec<Database>,
    /// By what callers prove who they are.
    #[serde(default)]
    pub identity: Identity,
    /// Limits of the process.
    #[serde(default)]
    pub server: Server,
    /// Where pins of MCP tools are kept: a folder beside the journal, which no file names. None keeps them in memory.
    #[serde(skip)]
    pub pins_dir: Option<PathBuf>,
}

/// One address that takes calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name in logs and metrics. Default `main`.
    #[serde(default = "main_name")]
    pub name: String,
    /// Address and port. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<ListenerTls>,
    /// Offers HTTP/2 beside HTTP/1.1 (by ALPN with TLS, by prior knowledge without). Default true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// Kernel send buffer of accepted sockets, bytes. A client that stops reading stops the upstream after about
    /// twice this much. Default 128 KiB.
    #[serde(default = "send_buffer")]
    pub send_buffer_bytes: u32,
    /// Treats a client that has closed its sending half as still there. Default false: a half-close is a
    /// disconnect, noticed at once; with true a real disconnect is noticed only at a later write.
    #[serde(default)]
    pub half_close: bool,
}

/// TLS of a listener. Files are read again on reload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key. Whoever reads it can pose as this gateway.
    pub key: PathBuf,
    /// PEM certificates of the authorities whose client certificates are accepted (mutual TLS).
    pub client_ca: Option<PathBuf>,
    /// Refuses clients without a certificate. Default true where `client_ca` is given.
    pub client_required: Option<bool>,
}

/// The operators' listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port. Port 0 takes a free one. Loopback or private.
    pub listen: SocketAddr,
    /// Allows `0.0.0.0` and `[::]`, which are reachable from wherever the machine is. Default false.
    #[serde(default)]
    pub anywhere: bool,
    /// A request that has not come whole within this is refused, however its bytes trickle in. 10 to 60,000, default 5,000 ms.
    #[serde(default = "admin_request_ms")]
    pub request_ms: u64,
    /// An answer that was not taken within this is cut, however slowly it is read. 10 to 600,000, default 60,000 ms.
    #[serde(default = "admin_answer_ms")]
    pub answer_ms: u64,
}

fn admin_request_ms() -> u64 {
    5_000
}

fn admin_answer_ms() -> u64 {
    60_000
}

/// One origin that calls are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port` or `https://host[:port]`, with an optional path that is put before every request's path.
    pub url: String,
    /// PEM certificates that are trusted instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// PEM client certificate and key for mutual TLS.
    pub client: Option<ClientIdentity>,
    /// How HTTP/2 is used. Default `auto`.
    #[serde(default)]
    pub http2: Http2,
    /// Most connections at a time. When reached, calls wait within `connect_ms`. Default 1,024.
    #[serde(default = "connections_max")]
    pub connections_max: usize,
    /// Idle connections are closed after this long. Keep it below the upstream's own limit. Default 30,000 ms.
    #[serde(default = "idle_ms")]
    pub idle_ms: u64,
    /// What is sent in the place of the client's own credential, which is then taken off. Default none: it is forwarded.
    pub credential: Option<Credential>,
}

/// Where an upstream's credential comes from: exactly one of `static`, `command`, `token_exchange` and `none`. Whoever can edit
/// this chooses what the upstream takes the gateway for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Header that it is sent in; `authorization` has it as a bearer token, others as it is. Default `authorization`.
    #[serde(default = "authorization")]
    pub header: String,
    /// Parameters of the query that are taken off with the client's headers, because clients send credentials in them. Default
    /// `access_token` (RFC 6750 section 2.3) and `key` (Google's API keys); at most 16.
    #[serde(default = "query_credentials")]
    pub query: Vec<String>,
    /// A file.
    #[serde(rename = "static")]
    pub fixed: Option<StaticCredential>,
    /// A program.
    pub command: Option<CommandCredential>,
    /// An authorization server.
    pub token_exchange: Option<TokenExchange>,
    /// The upstream needs none: the client's is taken off, and nothing takes its place. Default false.
    #[serde(default)]
    pub none: bool,
}

/// A token in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticCredential {
    /// The token alone, mode 0600. Read again on reload.
    pub file: PathBuf,
}

/// A token that a program prints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandCredential {
    /// The program and its arguments; no shell is asked. It runs as the daemon.
    pub argv: Vec<String>,
    /// How long the token is used where the program does not say. Default 300,000 ms.
    #[serde(default = "ttl_ms")]
    pub ttl_ms: u64,
    /// Kills a program that takes longer. Default 5,000 ms.
    #[serde(default = "credential_ms")]
    pub timeout_ms: u64,
}

/// A token that is given for the client's bearer token (RFC 8693).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenExchange {
    /// Token endpoint. It gets clients' tokens, so it has to be `https` unless it is on this machine.
    pub token_url: String,
    /// PEM certificates that are trusted instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// Who the token is for.
    pub audience: Option<String>,
    /// Where it is used.
    pub resource: Option<String>,
    /// What it is for.
    pub scope: Option<String>,
    /// The gateway at the authorization server.
    pub client_id: Option<String>,
    /// File with the gateway's secret there, mode 0600. Read again on reload.
    pub client_secret: Option<PathBuf>,
    /// How long the endpoint may take. Default 5,000 ms.
    #[serde(default = "credential_ms")]
    pub timeout_ms: u64,
}

/// A client certificate for an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientIdentity {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// How HTTP/2 is used to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// When the upstream offers it in the TLS handshake; never without TLS.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always, without TLS by prior knowledge.
    Always,
}

/// Which calls go where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name in policy, receipts and metrics.
    pub name: String,
    /// Path that the request must start with, segment by segment: `/v1` takes `/v1` and `/v1/x`, not `/v1x`. Default `/`.
    #[serde(default = "slash")]
    pub path: String,
    /// Host that the request must name (without port), if given.
    pub host: Option<String>,
    /// Methods that are taken; all if empty.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Name of the upstream; left out where `federation` names several.
    #[serde(default)]
    pub upstream: String,
    /// MCP servers that are one to clients: what their tools' names begin with, and the name of the upstream. At most 16. Whoever
    /// can edit this decides which server a tool's name means. Default none.
    #[serde(default)]
    pub federation: BTreeMap<String, String>,
    /// Cuts `path` off before the request is forwarded. Default false.
    #[serde(default)]
    pub strip_path: bool,
    /// How bodies are read: `auto` (by path), or one dialect. Default `auto`.
    #[serde(default = "auto")]
    pub dialect: String,
    /// Refuses callers without a proven identity. Default false.
    #[serde(default)]
    pub identity_required: bool,
    /// Refuses callers whose credential lacks one of these scopes. Default none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// With false, tokens and keys in headers are the upstream's: only certificates say who calls. Default true.
    #[serde(default = "yes")]
    pub read_credentials: bool,
    /// Lets a credential that was meant for the gateway go on to the upstream, which can then pose as its caller. Default false.
    #[serde(default)]
    pub forward_credential: bool,
    /// File with 64 hex digits, mode 0600: context headers are taken only if they are signed with this secret. Whoever
    /// reads it can put calls into any run. Read again on reload. Default none: context headers are taken from everyone.
    pub context_key: Option<PathBuf>,
    /// What clients are told of where tokens for this route are given (RFC 9728). Default none.
    pub protected_resource: Option<ProtectedResource>,
    /// A trap: only traffic that goes round the gateway comes here. Every call is answered 403 `BYPASS` and recorded as a
    /// bypass of the upstream; none is forwarded. Default false. Whoever can unset it is not seen any more.
    #[serde(default)]
    pub canary: bool,
}

/// Metadata of a route that needs a token. Whoever can edit it chooses where clients ask for tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectedResource {
    /// URL of the route as clients know it. The metadata is served at `/.well-known/oauth-protected-resource` and its path.
    pub resource: String,
    /// Issuers whose tokens are taken. At least one.
    pub authorization_servers: Vec<String>,
    /// Scopes that clients may ask for. Default none.
    #[serde(default)]
    pub scopes_supported: Vec<String>,
}

/// Limits of the process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Most calls in flight; more are answered 503 `IN_FLIGHT_MAX`. Default 16,384.
    pub in_flight_max: usize,
    /// Most accepted connections at a time; more wait in the kernel's backlog. Default 16,384.
    pub connections_max: usize,
    /// Largest request head, bytes (431 `HEADERS_MAX`). Default 64 KiB.
    pub head_bytes_max: usize,
    /// A client has this long to send a request's head; also how long an idle connection is kept. Default 30,000 ms.
    pub head_ms: u64,
    /// A client that takes no bytes for this long is cut (`CLIENT_STALLED`). Default 60,000 ms.
    pub write_stall_ms: u64,
    /// After SIGTERM calls have this long to end; then they are cut and their receipts say `SHUTDOWN`. Default 25,000 ms.
    pub drain_ms: u64,
    /// A receipt must be on disk within this time, or the call is cut (`EVIDENCE_LATE`). Default 10,000 ms.
    pub evidence_ms: u64,
    /// Most calls that wait for people at a time; beyond it calls that would are answered 503 `HOLDS_MAX`. Default 1,024.
    pub holds_max: usize,
    /// Every upstream has to say by which credential it is called, so that no client's own reaches any. Default false.
    pub credentials_required: bool,
    /// Most responses that are read on after their client left (`disconnect: drain`). Default 256.
    pub drains_max: usize,
    /// Most memory for request bodies that are read whole and answers that are held back before they are judged, MiB; beyond
    /// it calls are answered 503 `IN_FLIGHT_MAX`. Default 1,024.
    pub held_mib: usize,
    /// Threads of the data plane, at most 1,024; 0 takes one per core. Default 0.
    pub threads: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            in_flight_max: 16_384,
            connections_max: 16_384,
            head_bytes_max: 64 << 10,
            head_ms: 30_000,
            write_stall_ms: 60_000,
            drain_ms: 25_000,
            evidence_ms: 10_000,
            holds_max: 1_024,
            credentials_required: false,
            drains_max: 256,
            held_mib: 1_024,
            threads: 0,
        }
    }
}

fn authorization() -> String {
    "authorization".into()
}

fn ttl_ms() -> u64 {
    300_000
}

fn query_credentials() -> Vec<String> {
    vec!["access_token".into(), "key".into()]
}

fn credential_ms() -> u64 {
    5_000
}

fn main_name() -> String {
    "main".into()
}

fn yes() -> bool {
    true
}

fn send_buffer() -> u32 {
    128 << 10
}

fn connections_max() -> usize {
    1_024
}

fn idle_ms() -> u64 {
    30_000
}

fn slash() -> String {
    "/".into()
}

fn auto() -> String {
    "auto".into()
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// Key path, as in `route[1].upstream`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Most that a setting which counts things may be: what is set aside for them must fit into a machine.
pub const COUNT_MAX: usize = 1 << 24;

/// Most names of parameters that are taken off as credentials.
const QUERY_MAX: usize = 16;

/// Most threads of the data plane.
const THREADS_MAX: usize = 1_024;

impl Settings {
    /// Every error of the file, in order; empty when there is none. Files that it names are not opened here.
    pub fn check(&self) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        let mut wrong = |key: String, problem: String| errors.push(SettingsError { key, problem });
        if self.listener.is_empty() {
            wrong("listener".into(), "at least one `[[listener]]` is needed".into());
        }
        for (i, listener) in self.listener.iter().enumerate() {
            if !is_name(&listener.name) {
                wrong(format!("listener[{i}].name"), NAME_RULE.into());
            }
        }
        for (name, upstream) in &self.upstream {
            if !is_name(name) {
                wrong(format!("upstream.{name}"), NAME_RULE.into());
            }
            if let Err(problem) = upstream.origin() {
                wrong(format!("upstream.{name}.url"), problem);
            }
            let tls = upstream.url.starts_with("https://");
            for (key, given) in [("ca", upstream.ca.is_some()), ("client", upstream.client.is_some())] {
                if given && !tls {
                    wrong(format!("upstream.{name}.{key}"), "has no effect without an `https://` URL".into());
                }
            }
            for (key, problem) in upstream.credential.iter().flat_map(Credential::check) {
                wrong(format!("upstream.{name}.credential{key}"), problem);
            }
            if self.server.credentials_required && upstream.credential.is_none() {
                let problem = "is missing, and `server.credentials_required` is set; an upstream that needs none says so: \
                               `credential = { none = true }`";
                wrong(format!("upstream.{name}.credential"), problem.into());
            }
            if !(1..=COUNT_MAX).contains(&upstream.connections_max) {
                wrong(format!("upstream.{name}.connections_max"), "must be between 1 and 16,777,216".into());
            }
        }
        if let Some(admin) = &self.admin {
            if !(10..=60_000).contains(&admin.request_ms) {
                wrong("admin.request_ms".into(), "must be between 10 and 60,000".into());
            }
            if !(10..=600_000).contains(&admin.answer_ms) {
                wrong("admin.answer_ms".into(), "must be between 10 and 600,000".into());
            }
        }
        self.identity.check().into_iter().for_each(|error| wrong(error.key, error.problem));
        let mut names = BTreeSet::new();
        for (i, route) in self.route.iter().enumerate() {
            if !is_name(&route.name) {
                wrong(format!("route[{i}].name"), NAME_RULE.into());
            }
            if !names.insert(&route.name) {
                wrong(
                    format!("route[{i}].name"),
                    format!("`{}` is the name of an earlier route", route.name),
                );
            }
            if !route.path.starts_with('/') {
                wrong(format!("route[{i}].path"), "must start with `/`".into());
            }
            if route.federation.is_empty() && !self.upstream.contains_key(&route.upstream) {
                wrong(format!("route[{i}].upstream"), format!("there is no `[upstream.{}]`", route.upstream));
            }
            if route.scopes.iter().any(|scope| !is_scope(scope)) {
                wrong(
                    format!("route[{i}].scopes"),
                    "scopes are printable words without `\"` and `\\`".into(),
                );
            }
            if route.forward_credential && self.server.credentials_required {
                let problem = "is not allowed while `server.credentials_required` is set";
                wrong(format!("route[{i}].forward_credential"), problem.into());
            }
            if !route.read_credentials && !route.scopes.is_empty() {
                wrong(
                    format!("route[{i}].scopes"),
                    "certificates have none; read_credentials is false".into(),
                );
            }
            for (key, problem) in self.federation_errors(route) {
                wrong(format!("route[{i}].{key}"), problem);
            }
            let earlier = self.route.iter().take(i).find(|earlier| earlier.covers(route));
            if let Some(earlier) = earlier.filter(|_| route.canary) {
                let problem = format!(
                    "no call reaches the trap: `{}` stands before it and takes them all",
                    earlier.name
                );
                wrong(format!("route[{i}].canary"), problem);
            }
            if let Some(said) = &route.protected_resource {
                let key = |key: &str| format!("route[{i}].protected_resource.{key}");
                if let Err(problem) = crate::protected_resource::ProtectedResource::new(said) {
                    wrong(key("resource"), problem);
                }
                if said.authorization_servers.is_empty() {
                    wrong(key("authorization_servers"), "at least one is needed".into());
                }
                for server in said.authorization_servers.iter().filter(|server| origin(server).is_err()) {
                    wrong(key("authorization_servers"), format!("`{server}` is not a URL"));
                }
            }
            for method in &route.methods {
                if method.parse::<http::Method>().is_err() || method.to_uppercase() != *method {
                    wrong(
                        format!("route[{i}].methods"),
                        format!("`{method}` is not an upper-case HTTP method"),
                    );
                }
            }
            if route.dialect != "auto" && route.dialect.parse::<estoppel_wire::dialect::Dialect>().is_err() {
                wrong(format!("route[{i}].dialect"), format!("`{}` is not a dialect", route.dialect));
            }
        }
        let databases = database::check(&self.database, self.server.evidence_ms);
        databases.into_iter().for_each(|error| wrong(error.key, error.problem));
        if self.route.is_empty() {
            wrong("route".into(), "at least one `[[route]]` is needed".into());
        }
        let server = &self.server;
        for (key, value, min) in [
            ("in_flight_max", server.in_flight_max, 1),
            ("connections_max", server.connections_max, 1),
            ("drains_max", server.drains_max, 0),
            ("holds_max", server.holds_max, 0),
            ("held_mib", server.held_mib, 0),
        ] {
            if !(min..=COUNT_MAX).contains(&value) {
                wrong(format!("server.{key}"), format!("must be between {min} and 16,777,216"));
            }
        }
        if server.threads > THREADS_MAX {
            wrong("server.threads".into(), "must be at most 1,024".into());
        }
        if !(1_024..=1 << 20).contains(&self.server.head_bytes_max) {
            wrong("server.head_bytes_max".into(), "must be between 1,024 and 1,048,576".into());
        }
        errors
    }
}

impl Settings {
    /// What is wrong with how a route has several servers, each with the rest of its key path.
    fn federation_errors(&self, route: &Route) -> Vec<(String, String)> {
        let mut errors = Vec::new();
        if route.federation.is_empty() {
            return errors;
        }
        if !route.upstream.is_empty() {
            errors.push(("upstream".into(), "has no effect beside `federation`".into()));
        }
        if route.dialect != "mcp" {
            errors.push(("dialect".into(), "must be `mcp` where there is a `federation`".into()));
        }
        if route.federation.len() > federation::SERVERS_MAX {
            errors.push(("federation".into(), format!("at most {} servers", federation::SERVERS_MAX)));
        }
        for (name, upstream) in &route.federation {
            if !federation::name::is_server(name) {
                let rule = "must be 1 to 32 characters of a-z, 0-9 and `-`";
                errors.push((format!("federation.{name}"), rule.into()));
            }
            if !self.upstream.contains_key(upstream) {
                errors.push((format!("federation.{name}"), format!("there is no `[upstream.{upstream}]`")));
            }
        }
        errors
    }
}

impl Credential {
    /// What is wrong with it, each with the rest of its key path.
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        let sources =
            [self.fixed.is_some(), self.command.is_some(), self.token_exchange.is_some(), self.none];
        if sources.iter().filter(|given| **given).count() != 1 {
            errors.push(("", "needs one of `static`, `command`, `token_exchange` and `none`".into()));
        }
        if self.query.len() > QUERY_MAX || self.query.iter().any(String::is_empty) {
            errors.push((".query", format!("must be at most {QUERY_MAX} names")));
        }
        if self.header.parse::<http::HeaderName>().is_err() {
            errors.push((".header", format!("`{}` is not the name of a header", self.header)));
        }
        if self.command.as_ref().is_some_and(|command| command.argv.is_empty()) {
            errors.push((".command.argv", "needs a program".into()));
        }
        if let Some(exchange) = &self.token_exchange {
            match origin(&exchange.token_url) {
                Err(problem) => errors.push((".token_exchange.token_url", problem)),
                Ok(origin) if !origin.tls && !is_local(&origin.host) => {
                    let problem = "must start with `https://` unless it is on this machine";
                    errors.push((".token_exchange.token_url", problem.into()));
                }
                Ok(_) => {}
            }
            if exchange.client_secret.is_some() && exchange.client_id.is_none() {
                errors.push((".token_exchange.client_secret", "has no effect without `client_id`".into()));
            }
        }
        errors
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// RFC 6749 section 3.3.
fn is_scope(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.bytes().all(fits)
}

const NAME_RULE: &str = "must be 1 to 64 characters of a-z, 0-9, `-` and `_`";

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

impl Route {
    /// Whether it takes every call that `other` would take.
    fn covers(&self, other: &Self) -> bool {
        let below = other.path.strip_prefix(self.path.trim_end_matches('/'));
        let is_below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let same_host = || {
            other
                .host
                .as_ref()
                .is_some_and(|host| self.host.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(host)))
        };
        let takes_methods =
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method));
        is_below && (self.host.is_none() || same_host()) && (self.methods.is_empty() || takes_methods())
    }
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Value of the `host` header: the port is left out where it is the scheme's own.
    pub authority: String,
    /// Path put before every request's path, without a slash at its end.
    pub base: String,
}

impl Upstream {
    /// The parts of `url`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn origin(&self) -> Result<Origin, String> {
        origin(&self.url)
    }
}

pub(crate) fn origin(url: &str) -> Result<Origin, String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("`{url}` is not a URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("must start with `http://` or `https://`".into()),
    };
    let host = uri.host().ok_or("has no host")?.trim_matches(['[', ']']).to_string();
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("must not hold a user name or password".into());
    }
    if uri.query().is_some() {
        return Err("must not hold a query".into());
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let authority = uri.authority().map(|a| a.as_str().to_string()).unwrap_or_default();
    Ok(Origin { tls, host, port, authority, base: uri.path().trim_end_matches('/').to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn every_error_is_reported_at_once_with_its_key() {
        let errors = settings(serde_json::json!({
            "listener": [],
            "upstream": { "a": { "url": "ftp://x" } },
            "route": [
                { "name": "One", "path": "v1", "upstream": "b", "methods": ["get"] },
                { "name": "One", "upstream": "a", "dialect": "latin" },
            ],
        }))
        .check();
        let keys: Vec<&str> = errors.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "listener",
                "upstream.a.url",
                "route[0].name",
                "route[0].path",
                "route[0].upstream",
                "route[0].methods",
                "route[1].name",
                "route[1].name",
                "route[1].dialect",
            ]
        );
    }

    #[test]
    fn several_servers_are_named_so_that_their_tools_can_be_told_apart() {
        let errors = |route: serde_json::Value| {
            let mut settings = settings(serde_json::json!({
                "listener": [{ "listen": "127.0.0.1:0" }],
                "upstream": { "a": { "url": "http://x/mcp" } },
                "route": [route],
            }));
            settings.route[0].name = "r".into();
            settings.check().into_iter().map(|error| error.key).collect::<Vec<_>>()
        };
        let route = |federation: serde_json::Value| serde_json::json!({ "name": "r", "dialect": "mcp", "federation": federation });
        assert!(errors(route(serde_json::json!({ "files": "a", "mail-2": "a" }))).is_empty());
        assert_eq!(
            errors(route(serde_json::json!({ "a_b": "a", "b": "c" }))),
            ["route[0].federation.a_b", "route[0].federation.b"]
        );
        let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("s{n}"), "a".into())).collect();
        assert_eq!(errors(route(many.into())), ["route[0].federation"]);
        let both = serde_json::json!({ "name": "r", "upstream": "a", "federation": { "a": "a" } });
        assert_eq!(errors(both), ["route[0].upstream", "route[0].dialect"]);
    }

    #[test]
    fn a_trap_that_no_call_reaches_is_refused() {
        let errors = |before: serde_json::Value, mut trap: serde_json::Value| {
            trap["name"] = "trap".into();
            trap["canary"] = true.into();
            let mut first = before;
            first["name"] = "first".into();
            (first["upstream"], trap["upstream"]) = ("a".into(), "a".into());
            let settings = settings(serde_json::json!({
                "listener": [{ "listen": "127.0.0.1:0" }],
                "upstream": { "a": { "url": "http://x" } },
                "route": [first, trap],
            }));
            settings.check().into_iter().map(|error| error.key).collect::<Vec<_>>()
        };
        let unreachable = |first, trap| assert_eq!(errors(first, trap), ["route[1].canary"]);
        unreachable(serde_json::json!({}), serde_json::json!({ "host": "api.example" }));
        unreachable(
            serde_json::json!({ "path": "/v1/" }),
            serde_json::json!({ "path": "/v1/x", "host": "api.example" }),
        );
        unreachable(
            serde_json::json!({ "host": "API.example" }),
            serde_json::json!({ "host": "api.example" }),
        );
        unreachable(
            serde_json::json!({ "methods": ["GET", "PUT"] }),
            serde_json::json!({ "methods": ["PUT"] }),
        );
        let reached = |first, trap| assert_eq!(errors(first, trap), Vec::<String>::new());
        reached(serde_json::json!({ "path": "/v1" }), serde_json::json!({}));
        reached(serde_json::json!({ "path": "/v1" }), serde_json::json!({ "path": "/v12" }));
        reached(serde_json::json!({ "host": "other.example" }), serde_json::json!({ "host": "api.example" }));
        reached(serde_json::json!({ "methods": ["GET"] }), serde_json::json!({}));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_value::<Settings>(serde_json::json!({ "lisener": [] })).is_err());
    }

    #[test]
    fn origins_leave_out_the_scheme_s_own_port() {
        let upstream = |url: &str| Upstream {
            url: url.into(),
            ca: None,
            client: None,
            http2: Http2::Auto,
            connections_max: 1,
            idle_ms: 1,
            credential: None,
        };
        let origin = upstream("https://api.example/v1/").origin().unwrap();
        assert_eq!((origin.host.as_str(), origin.port, origin.base.as_str()), ("api.example", 443, "/v1"));
        assert_eq!(upstream("http://[::1]:9").origin().unwrap().host, "::1");
        for url in ["", "/x", "http://u:p@h", "http://h/?q", "ws://h"] {
            assert!(upstream(url).origin().is_err(), "{url}");
        }
    }
}
