//! Where the tools or the API are: one address, looked up once.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use estoppel_evidence::Reason;
use estoppel_replay::live::Target;
use estoppel_snapshot::Tls;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, parse_pem};

use super::refused;
use crate::arguments::ReplayLive;
use crate::input;
use crate::output::{Failure, plain};
use crate::replay::causes;

/// INVARIANT: the address is on this machine, or of a host that was allowed.
pub(super) struct Place {
    address: SocketAddr,
    /// Scheme, host and port.
    origin: String,
    /// Path and query; a plain API begins below it.
    path: String,
    /// What the route of the gateway takes off a target.
    stripped: String,
    /// Who may vouch for its certificate; none without TLS.
    roots: Option<Vec<Certificate<'static>>>,
}

impl Place {
    pub(super) fn of(wanted: &ReplayLive) -> Result<Self, Failure> {
        let url = wanted.upstream.as_deref().unwrap_or_default();
        let uri: Uri = url.parse().map_err(|_| invalid("this is no URL"))?;
        let host = uri.host().filter(|_| matches!(uri.scheme_str(), Some("http" | "https")));
        let host = host.ok_or_else(|| invalid("expected `http://HOST:PORT/PATH`, or `https://…`"))?;
        let is_tls = uri.scheme_str() == Some("https");
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid("credentials have no place in it"));
        }
        if !wanted.allow_operation.is_empty() && uri.query().is_some() {
            return Err(invalid("a query has no place in it: --target has those of calls"));
        }
        let roots = match (&wanted.upstream_ca, is_tls) {
            (None, false) => None,
            (Some(ca), true) => Some(certificates(ca)?),
            (None, true) => {
                let failure = invalid("`https` needs to know who may vouch for the server's certificate");
                return Err(failure.hint("--upstream-ca FILE, in PEM"));
            }
            (Some(_), false) => return Err(invalid("--upstream-ca has no effect without `https`")),
        };
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let address = address(host, port, &wanted.allow_host)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let scheme = if is_tls { "https" } else { "http" };
        let stripped = wanted.strip_path.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self { address, origin: format!("{scheme}://{authority}"), path, stripped, roots })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn roots(&self) -> Option<&[Certificate<'static>]> {
        self.roots.as_deref()
    }

    /// Where the tools of MCP are.
    pub(super) fn tools(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// Where a target of a plain API is, which the gateway got.
    pub(super) fn url(&self, target: &Target) -> Result<Uri, Failure> {
        let target = target.as_str();
        let rest = target
            .strip_prefix(&self.stripped)
            .filter(|rest| self.stripped.is_empty() || rest.is_empty() || rest.starts_with(['/', '?']));
        let rest = rest.ok_or_else(|| {
            let message =
                format!("--target: `{target}` does not begin with `{}` (--strip-path)", self.stripped);
            Failure::input("ARGUMENT_INVALID", plain(&message))
        })?;
        let slash = if rest.starts_with('/') { "" } else { "/" };
        let url = format!("{}{}{slash}{rest}", self.origin, self.path.trim_end_matches('/'));
        let wrong = || {
            Failure::input("ARGUMENT_INVALID", plain(&format!("--target: `{target}` is no path of a URL")))
        };
        url.parse().map_err(|_| wrong())
    }
}

fn invalid(why: &str) -> Failure {
    Failure::reason(Reason::ArgumentInvalid, plain(&format!("--upstream: {why}")))
}

/// One address of a host on this machine, or of one that was allowed.
fn address(host: &str, port: u16, allowed_hosts: &[String]) -> Result<SocketAddr, Failure> {
    let name = host.trim_matches(['[', ']']);
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
    Ok(address)
}

/// Those of a file in PEM, of which each can be used.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let unusable = |why: &str| {
        let message = format!("--upstream-ca: `{}`: {why}", path.display());
        Failure::reason(Reason::FileUnreadable, plain(&message))
    };
    Tls::trusting(Some(path)).map_err(|error| unusable(&causes(&error)))?;
    let bytes = input::file(path)?;
    let certificate = |item: Result<PemItem<'static>, ureq::Error>| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(unusable(&error.to_string()))),
    };
    parse_pem(&bytes).filter_map(certificate).collect()
}
