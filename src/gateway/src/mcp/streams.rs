//! Open streams of HTTP+SSE, the transport of 2024-11-05: a client gets all answers in the stream that its GET opened, and posts
//! to the URL that the stream's first event names. So a post has to be known as one of its stream's, and what the gateway itself
//! answers to it has to be said there: clients do not look at what a post is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Most refusals that wait to be said in one stream; further ones are told as what the post is answered.
const REFUSALS_MAX: usize = 64;

/// The open streams of one route, by where the upstream is posted to. Each is a call in flight, which bounds them.
#[derive(Default)]
pub(crate) struct Streams(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: HashMap<Box<str>, Open>,
    opened: u64,
}

struct Open {
    /// Tells one stream from an earlier one with the same endpoint.
    number: u64,
    identity: Option<Box<str>>,
    /// The path that the stream was asked at.
    server: Box<str>,
    refusals: mpsc::Sender<Bytes>,
}

/// One's own stream, until it is dropped.
pub(crate) struct Opened {
    streams: Arc<Streams>,
    endpoint: Box<str>,
    number: u64,
    refusals: mpsc::Receiver<Bytes>,
}

/// A post that belongs to an open stream.
pub(crate) struct Post {
    /// The session that its stream is, among those of [`super::sessions`].
    pub(crate) session: Box<str>,
    /// The path that the stream was asked at: the server's, whose tools are pinned.
    pub(crate) server: Box<str>,
    refusals: mpsc::Sender<Bytes>,
}

/// The name of the session of a stream; no `mcp-session-id` can say the same.
pub(crate) fn session(endpoint: &str) -> Box<str> {
    format!("\n{endpoint}").into()
}

impl Streams {
    /// A stream has named its endpoint. A later one that names the same takes its place, as that of a client that comes back.
    pub(crate) fn open(self: &Arc<Self>, endpoint: &str, identity: Option<&str>, server: &str) -> Opened {
        let (sender, refusals) = mpsc::channel(REFUSALS_MAX);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.opened += 1;
        let number = known.opened;
        let open =
            Open { number, identity: identity.map(Into::into), server: server.into(), refusals: sender };
        known.open.insert(endpoint.into(), open);
        Opened { streams: self.clone(), endpoint: endpoint.into(), number, refusals }
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.is_empty()
    }

    /// What a post to `endpoint` belongs to, if its caller is the one whose stream that is.
    pub(crate) fn post(&self, endpoint: &str, identity: Option<&str>) -> Option<Post> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = known.open.get(endpoint).filter(|open| open.identity.as_deref() == identity)?;
        Some(Post {
            session: session(endpoint),
            server: open.server.clone(),
            refusals: open.refusals.clone(),
        })
    }
}

impl Post {
    /// A place for a refusal in the stream; none when too many wait there, or it has ended.
    pub(crate) fn place(&self) -> Option<mpsc::OwnedPermit<Bytes>> {
        self.refusals.clone().try_reserve_owned().ok()
    }
}

impl Opened {
    /// The next refusal that is to be said.
    pub(crate) fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        match self.refusals.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) | Poll::Pending => Poll::Pending, // another has taken its place
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut known = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.open.get(&self.endpoint).is_some_and(|open| open.number == self.number) {
            known.open.remove(&self.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_post_is_known_while_its_stream_is_open_and_to_its_own_caller() {
        let streams = Arc::new(Streams::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut opened = streams.open("/m?s=1", Some("a"), "/sse");
        assert!(streams.post("/m?s=2", Some("a")).is_none() && streams.post("/m?s=1", None).is_none());
        let post = streams.post("/m?s=1", Some("a")).unwrap();
        assert_eq!((&*post.server, &*post.session), ("/sse", "\n/m?s=1"));
        post.place().unwrap().send("no".into());
        assert_eq!(opened.poll_refusal(&mut cx), Poll::Ready("no".into()));
        assert!(opened.poll_refusal(&mut cx).is_pending());
        drop(opened);
        assert!(streams.post("/m?s=1", Some("a")).is_none() && post.place().is_none());
    }

    #[test]
    fn who_comes_back_takes_the_place_and_refusals_are_bounded() {
        let streams = Arc::new(Streams::default());
        let before = streams.open("/m", None, "/sse");
        let after = streams.open("/m", None, "/sse");
        drop(before);
        let post = streams.post("/m", None).unwrap();
        let places: Vec<_> = std::iter::from_fn(|| post.place()).take(REFUSALS_MAX + 1).collect();
        assert_eq!(places.len(), REFUSALS_MAX);
        drop(after);
        assert!(streams.post("/m", None).is_none());
    }
}
