//! Calls of HTTP+SSE (2024-11-05), where a post is answered in the stream of another call.

use std::task::{Context, Poll};

use bytes::Bytes;
use estoppel_wire::dialect::Dialect;
use http::StatusCode;
use http::request::Parts;
use tokio::sync::mpsc::OwnedPermit;

use super::Exchange;
use crate::judging::Objection;
use crate::mcp::opening::Opening;
use crate::respond::Refusal;

/// How a post is refused whose client looks at its stream only.
pub(crate) struct Aside(Option<(OwnedPermit<Bytes>, Bytes)>);

impl Aside {
    /// What the post itself is answered: that it was taken, as the transport has it, and nothing more.
    pub(crate) const STATUS: StatusCode = StatusCode::ACCEPTED;

    /// Says it in the stream.
    pub(crate) fn say(self) {
        if let Some((place, event)) = self.0 {
            place.send(event);
        }
    }
}

impl Exchange {
    /// Who calls, as far as that is proven: sessions are their callers' own.
    pub(crate) fn caller(&self) -> Option<Box<str>> {
        let subject = self.record.identity.subject.as_deref()?;
        Some(match &self.record.tenant {
            Some(tenant) => format!("{subject}\n{tenant}").into(),
            None => subject.into(),
        })
    }

    /// Finds the open stream that a post belongs to.
    pub(crate) fn find_stream(&mut self, head: &Parts) {
        let Some(route) = self.route.as_ref().filter(|_| self.dialect == Dialect::Mcp) else { return };
        if head.method != http::Method::POST || route.streams.is_empty() {
            return;
        }
        let target = route.target(head);
        let target = target.as_ref().and_then(|target| target.path_and_query());
        let caller = self.caller();
        let post = target.and_then(|target| route.streams.post(target.as_str(), caller.as_deref()));
        self.post = post.map(Box::new);
    }

    /// Whether its answer comes in the stream of another call.
    pub(crate) fn is_posted(&self) -> bool {
        self.post.is_some()
    }

    /// Whether it may open a stream in which posts are answered.
    pub(super) fn opens_stream(&self, head: &Parts) -> bool {
        let Some(route) = self.route.as_ref().filter(|_| self.dialect == Dialect::Mcp) else { return false };
        Opening::new(&self.snapshot, route, None, head).is_some()
    }

    /// What a post asks is known to its stream before the upstream can answer.
    pub(super) fn begin_posted(&mut self) -> Result<(), Objection> {
        let Some(requests) = self.asked_server.as_ref().filter(|_| self.is_posted()) else { return Ok(()) };
        requests.begin().map_err(Objection::of_request)
    }

    /// How `refusal` is told to the client of a stream. None where it looks at what its post is answered: to find out where
    /// tokens are given, and where nobody knows which request would be refused, or the stream takes no more.
    pub(crate) fn aside(&self, refusal: &Refusal) -> Option<Aside> {
        let post = self.post.as_ref().filter(|_| refusal.status() != StatusCode::UNAUTHORIZED)?;
        let facts = self.request.facts()?;
        let read = facts.evaluated.defect.is_none() && facts.evaluated.skipped == 0;
        match (facts.operation.as_str(), self.rpc_id()) {
            ("mcp" | "mcp.batch", _) => None,
            // Its id is one of the server's.
            ("mcp.response", _) | (_, None) => read.then_some(Aside(None)),
            (_, Some(id)) => {
                let event = refusal.event(self.dialect, self.call, Some(&id))?;
                Some(Aside(Some((post.place()?, event))))
            }
        }
    }

    /// The next refusal of a post that is to be said in this stream, as it leaves.
    pub(crate) fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.has_left() {
            return Poll::Pending;
        }
        let hashes = self.hashes();
        let Some(response) = self.response.as_deref_mut() else { return Poll::Pending };
        response.poll_aside(cx, hashes)
    }

    /// A post's own answer is not given: its client does not look at it, so nothing in it was judged.
    pub(crate) fn drops_body(&self) -> bool {
        self.response.as_ref().is_some_and(|response| response.is_acknowledgement())
    }
}
