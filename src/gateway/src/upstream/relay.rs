//! Reads one response body, driving the connection that it comes from.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};

use super::pool::{Lease, Pool};
use super::shared::Place;

/// How the connection behind a body makes progress.
pub(crate) enum Driver {
    /// By us.
    Own { lease: Lease, pool: Arc<Pool>, ended: bool },
    /// By the task of a shared HTTP/2 connection.
    Shared { _place: Place },
}

/// A response body on its way. Dropping it before its end closes (HTTP/1.1) or resets (HTTP/2) what it came through.
pub(crate) struct Relay {
    body: Source,
    driver: Option<Driver>,
}

enum Source {
    Upstream(Incoming),
    /// What the gateway has put together.
    Own(Option<Bytes>),
}

impl Relay {
    pub(crate) fn new(body: Incoming, driver: Driver) -> Self {
        Self { body: Source::Upstream(body), driver: Some(driver) }
    }

    /// A body that is there already.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { body: Source::Own(Some(body).filter(|body| !body.is_empty())), driver: None }
    }

    /// Whether the body is known to be at its end.
    pub(crate) fn is_end(&self) -> bool {
        match &self.body {
            Source::Upstream(body) => body.is_end_stream(),
            Source::Own(body) => body.is_none(),
        }
    }

    /// Length of the body if it was announced.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match &self.body {
            Source::Upstream(body) => body.size_hint().exact(),
            Source::Own(body) => Some(body.as_ref().map_or(0, |body| body.len() as u64)),
        }
    }

    /// The next frame. `Pending` means that the socket has nothing more right now.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = match &mut self.body {
            Source::Upstream(body) => body,
            Source::Own(body) => return Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        };
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(Driver::Own { lease, ended, .. }) = &mut self.driver
            && !*ended
        {
            *ended = Pin::new(&mut *lease.http1.driver).poll(cx).is_ready();
            return Pin::new(body).poll_frame(cx);
        }
        Poll::Pending
    }

    /// Gives the connection back once the body has been read to its end.
    pub(crate) fn release(&mut self) {
        let Some(Driver::Own { mut lease, pool, ended: false }) = self.driver.take() else { return };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let open = Pin::new(&mut *lease.http1.driver).poll(&mut cx).is_pending();
        if open && lease.http1.send.is_ready() {
            pool.keep(lease);
        }
    }
}
