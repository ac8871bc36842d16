//! Credentials for upstreams. A client's own never crosses a route whose upstream has one: it is taken off, and the upstream
//! gets a token that was made for the gateway. Tokens live in memory only, are short-lived where their source says so, and are
//! never logged: they are header values that print as `Sensitive`.

mod cache;
mod command;
mod exchange;
mod query;

use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::Reason;
use futures_util::FutureExt as _;
use http::Uri;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use self::cache::{Cache, Key};
use self::command::Command;
use self::exchange::Exchange;
use crate::headers::{CREDENTIALS, remove_named};
use crate::settings::Credential as Settings;

/// What an upstream gets instead of its client's credential.
pub(crate) struct Credential {
    upstream: Box<str>,
    header: HeaderName,
    source: Source,
    settings: Settings,
}

enum Source {
    /// The upstream needs none.
    Nothing,
    Static(HeaderValue),
    Command {
        command: Arc<Command>,
        cache: Cache,
    },
    Exchange {
        exchange: Arc<Exchange>,
        cache: Cache,
    },
}

/// A token for one call.
pub(crate) struct Held {
    /// None where the upstream needs none.
    value: Option<HeaderValue>,
    /// Where it is remembered, if it is.
    key: Option<Key>,
}

/// A token as its source made it.
#[derive(Clone)]
pub(crate) struct Minted {
    token: HeaderValue,
    lifetime: Duration,
}

impl Credential {
    /// What `settings` says for `upstream`. What `before` has minted is kept if it says the same, but files are read again.
    ///
    /// # Errors
    /// A file that cannot be read or is open to others, or a value that fits into no header.
    pub(crate) fn build(
        upstream: &str,
        settings: &Settings,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, String> {
        let said = |problem: String| format!("upstream `{upstream}`: credential: {problem}");
        if let Some(before) = before.filter(|before| before.settings == *settings && !before.reads_files()) {
            return Ok(before.clone());
        }
        let header: HeaderName = settings.header.parse().map_err(|_| said("`header` is no name".into()))?;
        let source = match (&settings.fixed, &settings.command, &settings.token_exchange) {
            (Some(fixed), _, _) => {
                let text = estoppel_journal::keys::read_secret(&fixed.file);
                let text = text.map_err(|error| said(error.to_string()))?;
                let value = value(&header, text.trim());
                Source::Static(value.ok_or_else(|| said("the file is empty or no token".into()))?)
            }
            (_, Some(command), _) => {
                Source::Command { command: Arc::new(Command::new(command)), cache: Cache::default() }
            }
            (_, _, Some(exchange)) => {
                let exchange = Exchange::new(upstream, exchange).map_err(said)?;
                Source::Exchange { exchange: Arc::new(exchange), cache: Cache::default() }
            }
            (None, None, None) if settings.none => Source::Nothing,
            (None, None, None) => return Err(said("it has no source".into())),
        };
        Ok(Arc::new(Self { upstream: upstream.into(), header, source, settings: settings.clone() }))
    }

    fn reads_files(&self) -> bool {
        let secret =
            self.settings.token_exchange.as_ref().and_then(|exchange| exchange.client_secret.as_ref());
        self.settings.fixed.is_some() || secret.is_some()
    }

    /// The token for a call with these headers.
    ///
    /// # Errors
    /// The call brings nothing that a token could be had for, or none is to be had.
    pub(crate) async fn of(&self, headers: &HeaderMap) -> Result<Held, Reason> {
        let (cache, key, minting) = match &self.source {
            Source::Nothing => return Ok(Held { value: None, key: None }),
            Source::Static(value) => return Ok(Held { value: Some(value.clone()), key: None }),
            Source::Command { command, cache } => {
                let command = command.clone();
                (cache, Key::common(), async move { command.mint().await }.boxed())
            }
            Source::Exchange { exchange, cache } => {
                let subject = bearer(headers).ok_or(Reason::CredentialMissing)?;
                let (key, exchange) = (Key::of(&subject), exchange.clone());
                (cache, key, async move { exchange.mint(&subject).await }.boxed())
            }
        };
        let token = cache.get(key, minting).await.map_err(|failed| {
            tracing::warn!(upstream = %self.upstream, why = %failed.why, "no credential for an upstream");
            failed.reason
        })?;
        let value = token.to_str().ok().and_then(|token| value(&self.header, token));
        Ok(Held { value: Some(value.ok_or(Reason::CredentialFailed)?), key: Some(key) })
    }

    /// Puts the token in the place of what the client sent.
    pub(crate) fn put(&self, held: &Held, headers: &mut HeaderMap) {
        without_credentials(headers);
        // A client that sends something there wants the upstream to take it for the credential.
        remove_named(headers, std::slice::from_ref(&self.header));
        if let Some(value) = &held.value {
            headers.insert(self.header.clone(), value.clone());
        }
    }

    /// The target without what clients send credentials in; none if it is not one any more.
    pub(crate) fn target(&self, target: Uri) -> Option<Uri> {
        query::without(target, &self.settings.query)
    }

    /// The upstream did not take the token, so the next call gets another one.
    pub(crate) fn refused(&self, held: &Held) {
        if let Source::Command { cache, .. } | Source::Exchange { cache, .. } = &self.source
            && let Some(key) = held.key
        {
            cache.forget(key);
        }
    }
}

/// Takes a client's credentials off.
pub(crate) fn without_credentials(headers: &mut HeaderMap) {
    remove_named(headers, &CREDENTIALS);
}

/// Why there is no token.
#[derive(Clone)]
pub(crate) struct Failed {
    reason: Reason,
    /// For the log; no token is in it.
    why: Arc<str>,
}

impl Failed {
    fn new(why: impl Into<Arc<str>>) -> Self {
        Self { reason: Reason::CredentialFailed, why: why.into() }
    }
}

/// A token as the header's value; in `authorization` as a bearer token (RFC 6750).
fn value(header: &HeaderName, token: &str) -> Option<HeaderValue> {
    let text = if *header == AUTHORIZATION { format!("Bearer {token}") } else { token.to_owned() };
    let mut value = HeaderValue::from_str(&text).ok().filter(|_| is_token(token))?;
    value.set_sensitive(true);
    Some(value)
}

/// Printable, and without spaces.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The bearer token of a call.
fn bearer(headers: &HeaderMap) -> Option<Box<str>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let fits = second.is_none() && scheme.eq_ignore_ascii_case("bearer") && is_token(token);
    // A key of the gateway's own is nobody else's business.
    (fits && !token.starts_with(crate::identity::api_keys::PREFIX)).then(|| token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        });
        headers
    }

    #[test]
    fn one_bearer_token_is_one() {
        assert_eq!(bearer(&headers(&["Bearer abc"])).as_deref(), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc"])).as_deref(), Some("abc"));
        for wrong in [
            &[][..],
            &["abc"],
            &["Basic abc"],
            &["Bearer a b"],
            &["Bearer "],
            &["Bearer a", "Bearer a"],
            &["Bearer esk_1"],
        ] {
            assert_eq!(bearer(&headers(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_an_upstream_may_read_as_a_credential_is_taken_off() {
        let mut headers = HeaderMap::new();
        for name in ["x-api-key", "x_api_key", "x.goog_api-key", "authorization", "x-api-keys", "xapikey"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        without_credentials(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-api-keys", "xapikey"]);
    }

    #[test]
    fn a_token_is_not_printed() {
        let value = value(&AUTHORIZATION, "secret").unwrap();
        assert_eq!(value, "Bearer secret");
        assert!(!format!("{value:?}").contains("secret"));
        assert_eq!(super::value(&HeaderName::from_static("x-api-key"), "k").unwrap(), "k");
        assert!(super::value(&AUTHORIZATION, "").is_none() && super::value(&AUTHORIZATION, "a\nb").is_none());
    }
}
