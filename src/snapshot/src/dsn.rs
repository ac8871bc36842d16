//! Where a database is. What is secret in it is never shown.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// A database and who to be there, from a `postgresql://` URL.
///
/// TLS: `sslmode=disable` is without, also where nothing is said of a socket or a loopback address; `require` and
/// `verify-full` both verify the server's certificate and name. Modes that fall back silently are refused.
#[derive(Clone)]
pub struct Dsn {
    config: tokio_postgres::Config,
    tls: bool,
}

/// Why a text is no [`Dsn`]. None of them shows the text.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    #[error("a database is written `postgresql://user@host:port/name`")]
    Scheme,
    #[error("`{0}` cannot be set for a database")]
    Parameter(Box<str>),
    #[error(
        "`sslmode={0}` may go on without TLS or with an unverified server; say `disable`, `require` or `verify-full`"
    )]
    SslMode(Box<str>),
    #[error("the database's URL cannot be read: {0}")]
    Unreadable(Box<str>),
    #[error("the database's URL names no {0}")]
    Missing(&'static str),
    #[error(
        "a `@`, `/`, `?`, `#` or white space in a user or a password has to be percent-encoded, and nothing else may stand beside the URL"
    )]
    Unescaped,
}

impl Dsn {
    /// Reads a URL. `pgbouncer=…` is passed over, since other clients need it.
    ///
    /// # Errors
    /// What [`DsnError`] says. `options` is refused: poolers do, and what it sets leaks to other clients.
    pub fn parse(url: &str) -> Result<Self, DsnError> {
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err(DsnError::Scheme);
        }
        if url.contains(char::is_whitespace) || url.contains(char::is_control) {
            return Err(DsnError::Unescaped);
        }
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        // What stands there may be the rest of a password.
        if query.contains(['@', '?']) || address.matches('@').count() > 1 || url.contains('#') {
            return Err(DsnError::Unescaped);
        }
        let mut sslmode = None;
        let mut kept = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("sslmode", mode) => sslmode = Some(mode),
                ("pgbouncer", _) => {}
                (name @ ("options" | "sslrootcert" | "sslnegotiation" | "application_name"), _) => {
                    return Err(DsnError::Parameter(name.into()));
                }
                _ => kept.push(parameter),
            }
        }
        let plain = format!("{address}?{}", kept.join("&"));
        let mut config: tokio_postgres::Config = plain
            .parse()
            .map_err(|error: tokio_postgres::Error| DsnError::Unreadable(source_of(&error).into()))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DsnError::Missing("host"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(DsnError::Missing("database"));
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(DsnError::Missing("user"));
        }
        let tls = match sslmode {
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            Some(other @ ("allow" | "prefer" | "verify-ca")) => return Err(DsnError::SslMode(other.into())),
            Some(_) => return Err(DsnError::SslMode("…".into())),
            None => !is_local(&config),
        };
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls })
    }

    /// Whether the connection is over TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        is_local(&self.config)
    }

    /// Where connections to it lead, names looked up now; a socket of this machine has no such address.
    ///
    /// # Errors
    /// A name cannot be looked up.
    pub fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        let given = self.config.get_hostaddrs();
        let mut addresses: Vec<SocketAddr> =
            given.iter().enumerate().map(|(at, ip)| SocketAddr::new(*ip, self.port(at))).collect();
        if given.is_empty() {
            for (at, host) in self.config.get_hosts().iter().enumerate() {
                if let Host::Tcp(name) = host {
                    addresses.extend((name.as_str(), self.port(at)).to_socket_addrs()?);
                }
            }
        }
        Ok(addresses)
    }

    /// What is connected with.
    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// HMAC-SHA-256 of where the database is and as whom, by a key of the deployment: two equal ones are the same place,
    /// and nobody without the key can guess it. Passwords are no part of it.
    pub fn tag(&self, key: &[u8]) -> [u8; 32] {
        let hosts: Vec<_> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(at, host)| json!({ "host": name_of(host), "port": self.port(at) }))
            .collect();
        let place = json!({
            "dbname": self.config.get_dbname(),
            "hostaddrs": self.config.get_hostaddrs().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "hosts": hosts,
            "target_session_attrs": match self.config.get_target_session_attrs() {
                TargetSessionAttrs::ReadWrite => "read-write",
                TargetSessionAttrs::ReadOnly => "read-only",
                _ => "any",
            },
            "tls": self.tls,
            "user": self.config.get_user(),
            "v": 1,
        });
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(place.to_string().as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn port(&self, at: usize) -> u16 {
        let ports = self.config.get_ports();
        ports.get(at).or(ports.first()).copied().unwrap_or(5432)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dsn(***)")
    }
}

/// The place without its password: for logs and reports of people who may know it.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.config.get_user().unwrap_or_default())?;
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", name_of(host), self.port(at))?;
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

fn name_of(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.to_ascii_lowercase(),
        Host::Unix(path) => path.display().to_string(),
    }
}

fn is_local(config: &tokio_postgres::Config) -> bool {
    let is_loopback_name = |name: &str| {
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => is_loopback_name(name),
            Host::Unix(_) => true,
        })
}

/// Only the cause: the message itself repeats what was given.
fn source_of(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| "not a connection string".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_neither_shown_nor_part_of_the_tag() {
        let dsn = Dsn::parse("postgresql://ada:hunter2@db.example:5433/shop").unwrap();
        assert_eq!(dsn.to_string(), "ada@db.example:5433/shop");
        assert_eq!(format!("{dsn:?}"), "Dsn(***)");
        let other = Dsn::parse("postgres://ada:else@DB.example:5433/shop?pgbouncer=true&sslmode=verify-full")
            .unwrap();
        assert_eq!(dsn.tag(b"key"), other.tag(b"key"));
        assert_ne!(dsn.tag(b"key"), dsn.tag(b"another"));
    }

    #[test]
    fn no_part_of_a_password_is_shown_that_was_not_escaped() {
        for password in
            ["hunt?er2", "hunt@er2", "hunt#er2", "hunt/er2", "hunt:er2", "hunt er2", "hunt%er2", "h?x=y&hunt"]
        {
            for url in [
                format!("postgresql://ada:{password}@db/shop"),
                format!("postgresql://ada:{password}@db:5432/shop"),
            ] {
                match Dsn::parse(&url) {
                    Ok(dsn) => assert!(!dsn.to_string().contains("hunt"), "{dsn}"),
                    Err(error) => assert!(!error.to_string().contains("hunt"), "{password}: {error}"),
                }
            }
        }
    }

    #[test]
    fn another_place_or_person_has_another_tag() {
        let tag = |url: &str| Dsn::parse(url).unwrap().tag(b"key");
        let base = tag("postgresql://ada@db/shop");
        for other in [
            "postgresql://bob@db/shop",
            "postgresql://ada@db2/shop",
            "postgresql://ada@db:5433/shop",
            "postgresql://ada@db/shop2",
            "postgresql://ada@db/shop?sslmode=disable",
            "postgresql://ada@db/shop?target_session_attrs=read-write",
        ] {
            assert_ne!(base, tag(other), "{other}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_spoken_to_over_tls_unless_the_url_says_otherwise() {
        let tls = |url: &str| Dsn::parse(url).unwrap().tls();
        assert!(tls("postgresql://ada@db/shop"));
        assert!(tls("postgresql://ada@127.0.0.1/shop?sslmode=require"));
        assert!(!tls("postgresql://ada@127.0.0.1/shop"));
        assert!(!tls("postgresql://ada@[::1]/shop"));
        assert!(!tls("postgresql:///shop?host=/run/postgresql&user=ada"));
        assert!(!tls("postgresql://ada@db/shop?sslmode=disable"));
    }

    #[test]
    fn what_stands_beside_the_url_is_not_taken_for_a_part_of_it() {
        for url in [
            "postgresql://ada@db/shop\nhunter2",
            "postgresql://ada:hun ter2@db/shop",
            "postgresql://ada@db/shop\thunter2",
        ] {
            let refused = Dsn::parse(url).unwrap_err();
            assert!(matches!(refused, DsnError::Unescaped), "{refused}");
            assert!(!refused.to_string().contains("ter2"));
        }
        let refused = Dsn::parse("postgresql://ada@db/shop?sslmode=hunter2").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }

    #[test]
    fn what_cannot_be_promised_is_refused() {
        for (url, why) in [
            ("host=db user=ada", "postgresql://"),
            ("mysql://ada@db/shop", "postgresql://"),
            ("postgresql://ada@db/shop?sslmode=prefer", "prefer"),
            ("postgresql://ada@db/shop?sslmode=verify-ca", "verify-ca"),
            ("postgresql://ada@db/shop?options=-csearch_path%3Dx", "options"),
            ("postgresql://ada@db/shop?surprise=1", "surprise"),
            ("postgresql://ada@db:port/shop", "port"),
            ("postgresql:///shop", "host"),
            ("postgresql://ada@db", "database"),
            ("postgresql://db/shop", "user"),
        ] {
            let error = Dsn::parse(url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
