//! The keys of one issuer: from a file, or fetched.
//!
//! Keys are fetched beside the calls, again and again. A call waits for them only where a token names a key that is not known, at
//! most once in [`ASK_EVERY`] for all calls together: so a new key is taken at once, and nobody can make us ask without end.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use estoppel_evidence::Reason;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderValue};
use http::{Request, StatusCode};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::followed::Followed;
use super::key_set::KeySet;
use super::token::Token;
use crate::body::{Room, UpstreamBody};
use crate::settings::{Http2, Jwt, Upstream};
use crate::upstream::{Pool, Target};

/// How often calls may make us ask for keys that we do not know.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The same while we know none at all.
const ASK_FIRST_EVERY: Duration = Duration::from_millis(500);
/// Largest key set that is read.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Connections to an issuer.
const CONNECTIONS_MAX: usize = 2;

pub(super) struct IssuerKeys {
    issuer: Box<str>,
    source: Source,
    refresh: Duration,
    stale: Duration,
    timeout: Duration,
    current: ArcSwapOption<Current>,
    /// Held while somebody asks for them.
    asking: Mutex<Asked>,
}

enum Source {
    File(Followed),
    Url(Arc<Pool>),
}

struct Current {
    keys: Arc<KeySet>,
    at: Instant,
}

/// When the issuer was last asked.
#[derive(Default)]
struct Asked {
    last: Option<Instant>,
    /// Because of a call.
    for_call: Option<Instant>,
    failed: bool,
}

impl IssuerKeys {
    /// # Errors
    /// A file that cannot be read, or a URL that cannot be asked. Whether it answers is not tried.
    pub(super) fn new(settings: &Jwt) -> Result<Self, String> {
        let source = match (&settings.jwks_url, &settings.jwks_file) {
            (Some(url), _) => Source::Url(Pool::new(target(settings, url)?)),
            (None, Some(path)) => Source::File(Followed::new(path)),
            (None, None) => return Err("it has neither `jwks_url` nor `jwks_file`".into()),
        };
        let keys = Self {
            issuer: settings.name.as_str().into(),
            source,
            refresh: Duration::from_secs(settings.refresh_s),
            stale: Duration::from_secs(settings.stale_s),
            timeout: Duration::from_millis(settings.timeout_ms),
            current: ArcSwapOption::empty(),
            asking: Mutex::default(),
        };
        keys.look_again().transpose()?;
        Ok(keys)
    }

    /// Reads a file that has changed. None: there is nothing new.
    pub(super) fn look_again(&self) -> Option<Result<(), String>> {
        let Source::File(file) = &self.source else { return None };
        let said = |problem: String| format!("`{}`: {problem}", file.path().display());
        let read = file.again()?.map_err(|error| said(error.to_string()));
        let read = read.and_then(|bytes| KeySet::read(&bytes).map_err(|problem| said(problem.into())));
        Some(read.map(|keys| self.keep(keys)))
    }

    /// Fetches them if that is due. None: it is not.
    pub(super) async fn refresh(&self) -> Option<Result<(), String>> {
        let Source::Url(pool) = &self.source else { return None };
        let asked = self.asking.lock().await;
        let every = if asked.failed { self.refresh.min(ASK_EVERY) } else { self.refresh };
        if asked.last.is_some_and(|last| last.elapsed() < every) {
            return None;
        }
        Some(self.fetch(pool, asked).await)
    }

    /// Keys of which one may have signed the token.
    ///
    /// # Errors
    /// There is none, or nobody knows because the issuer cannot be asked.
    pub(super) async fn of(&self, token: &Token<'_>) -> Result<Arc<KeySet>, Reason> {
        if let Some(keys) = self.known(token) {
            return Ok(keys);
        }
        if let Source::Url(pool) = &self.source {
            let mut asked = self.asking.lock().await;
            if let Some(keys) = self.known(token) {
                return Ok(keys);
            }
            let every = if self.in_force().is_some() { ASK_EVERY } else { ASK_FIRST_EVERY };
            if asked.for_call.is_none_or(|last| last.elapsed() >= every) {
                asked.for_call = Some(Instant::now());
                if let Err(problem) = self.fetch(pool, asked).await {
                    tracing::warn!(issuer = %self.issuer, problem, "the issuer's keys cannot be had");
                }
            }
        }
        let missing = if self.in_force().is_some() { Reason::TokenInvalid } else { Reason::IssuerDown };
        self.known(token).ok_or(missing)
    }

    fn in_force(&self) -> Option<Arc<KeySet>> {
        let is_file = matches!(self.source, Source::File(_));
        let current = self.current.load();
        let current = current.as_ref().filter(|current| is_file || current.at.elapsed() <= self.stale)?;
        Some(current.keys.clone())
    }

    fn known(&self, token: &Token<'_>) -> Option<Arc<KeySet>> {
        let keys = self.in_force()?;
        let fits = keys.of(token.kid.as_deref(), token.algorithm).next().is_some();
        fits.then_some(keys)
    }

    fn keep(&self, keys: KeySet) {
        self.current.store(Some(Arc::new(Current { keys: Arc::new(keys), at: Instant::now() })));
    }

    async fn fetch(&self, pool: &Arc<Pool>, mut asked: MutexGuard<'_, Asked>) -> Result<(), String> {
        // Until it has ended it has failed: whoever asks may leave meanwhile.
        (asked.last, asked.failed) = (Some(Instant::now()), true);
        let answer = tokio::time::timeout(self.timeout, get(pool, self.timeout)).await;
        let document = answer.unwrap_or_else(|_| Err("it is silent".into()))?;
        self.keep(KeySet::read(&document)?);
        asked.failed = false;
        Ok(())
    }
}

fn target(settings: &Jwt, url: &str) -> Result<Target, String> {
    let upstream = Upstream {
        url: url.into(),
        ca: settings.ca.clone(),
        client: None,
        http2: Http2::Auto,
        connections_max: CONNECTIONS_MAX,
        idle_ms: 10_000,
        credential: None,
    };
    Target::new(&settings.name, &upstream).map_err(|error| error.to_string())
}

async fn get(pool: &Arc<Pool>, timeout: Duration) -> Result<Vec<u8>, String> {
    let base = pool.target.origin.base.as_str();
    let mut request = Request::new(UpstreamBody::held(Vec::new(), Room::default()));
    let path = if base.is_empty() { "/" } else { base };
    *request.uri_mut() = path.parse().map_err(|_| "its path cannot be asked for")?;
    let headers = request.headers_mut();
    headers.insert(HOST, pool.target.authority.clone());
    headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let answered = pool.send(request, timeout, timeout, None).await.map_err(|error| error.to_string())?;
    if answered.head.status != StatusCode::OK {
        return Err(format!("it says {}", answered.head.status));
    }
    let (mut relay, mut document) = (answered.relay, Vec::new());
    while let Some(frame) = poll_fn(|cx| relay.poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
        document.extend_from_slice(&data);
        if document.len() > ANSWER_BYTES_MAX {
            return Err("it says too much".into());
        }
    }
    relay.release();
    Ok(document)
}
