//! A stream that a client opens with a GET of its own, and what becomes of it if its first event names an endpoint.

use std::sync::Arc;

use http::Method;
use http::header::HOST;
use http::request::Parts;

use super::endpoint::{refused, resolve};
use super::streams::{Opened, session};
use crate::judging::Objection;
use crate::snapshot::{RouteEntry, Snapshot};

/// Who opens it, and where.
#[derive(Clone)]
pub(crate) struct Opening {
    snapshot: Arc<Snapshot>,
    route: Arc<RouteEntry>,
    identity: Option<Box<str>>,
    /// The request's URL and host.
    head: Parts,
}

/// What an endpoint makes of it.
pub(crate) struct Endpoint {
    pub(crate) stream: Opened,
    /// The session that the stream is.
    pub(crate) session: Box<str>,
    /// Where its client is told to post.
    pub(crate) url: String,
}

impl Opening {
    /// None where the request opens no such stream: it posts, or is of a session of streamable HTTP, whose clients do not look at
    /// such an event.
    pub(crate) fn new(
        snapshot: &Arc<Snapshot>,
        route: &Arc<RouteEntry>,
        identity: Option<&str>,
        head: &Parts,
    ) -> Option<Self> {
        if head.method != Method::GET || head.headers.contains_key("mcp-session-id") {
            return None;
        }
        let mut post = http::Request::new(()).into_parts().0;
        post.method = Method::POST;
        post.uri = head.uri.clone();
        if let Some(host) = head.headers.get(HOST) {
            post.headers.insert(HOST, host.clone());
        }
        let (snapshot, route) = (snapshot.clone(), route.clone());
        Some(Self { snapshot, route, identity: identity.map(Into::into), head: post })
    }

    /// The stream's first event names an endpoint.
    ///
    /// # Errors
    /// What is posted there would not come by this route, or nobody can say where it is.
    pub(crate) fn open(&self, said: &[u8]) -> Result<Endpoint, Objection> {
        let asked = self.route.target(&self.head).ok_or_else(|| refused("nobody asked for it"))?;
        let origin = &self.route.pool.target.origin;
        let meant = resolve(said, origin, asked.path_and_query().map_or("/", |asked| asked.as_str()))?;
        let url = self.route.client_path(&meant).filter(|url| self.leads_to(url, &meant));
        let url = url.ok_or_else(|| refused("this route does not lead there"))?;
        let stream = self.route.streams.open(&meant, self.identity.as_deref(), asked.path());
        Ok(Endpoint { stream, session: session(&meant), url })
    }

    /// Whether a post to `url` takes this route to `meant`.
    fn leads_to(&self, url: &str, meant: &str) -> bool {
        let Ok(uri) = url.parse() else { return false };
        let mut head = self.head.clone();
        head.uri = uri;
        let taken = self.snapshot.route(&head).is_some_and(|taken| taken.name == self.route.name);
        let target = self.route.target(&head);
        taken && target.is_some_and(|target| target.path_and_query().is_some_and(|target| target == meant))
    }
}
