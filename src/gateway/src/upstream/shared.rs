//! An HTTP/2 connection that many calls share.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http2::SendRequest;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connect::Http2Driver;
use super::stream::Alert;
use crate::body::UpstreamBody;

#[derive(Clone)]
pub(crate) struct Shared {
    send: SendRequest<UpstreamBody>,
    state: Arc<State>,
}

struct State {
    streams: AtomicUsize,
    /// What the upstream allows at a time, as it last said.
    streams_max: AtomicUsize,
    alert: Alert,
    used: Mutex<Instant>,
}

/// One stream's place on its connection.
pub(crate) struct Place(Arc<State>);

impl Shared {
    /// The connection's one task ends when the connection does, or when the last sender is gone.
    pub(crate) fn start(
        send: SendRequest<UpstreamBody>,
        mut driver: Box<Http2Driver>,
        alert: Alert,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            streams_max: AtomicUsize::new(driver.current_max_send_streams()),
            alert,
            used: Mutex::new(Instant::now()),
        });
        let told = state.clone();
        tokio::spawn(async move {
            let driving = poll_fn(|cx| {
                let ended = Pin::new(&mut *driver).poll(cx);
                told.streams_max.store(driver.current_max_send_streams(), Ordering::Relaxed);
                ended
            });
            if let Err(error) = driving.await {
                tracing::debug!(%error, "upstream http2 connection ended");
            }
            drop(permit);
        });
        Self { send, state }
    }

    /// A place for one more stream, unless the connection is full or no longer takes any.
    pub(crate) fn enter(&self) -> Option<(SendRequest<UpstreamBody>, Place)> {
        if !self.send.is_ready() {
            return None;
        }
        let max = self.state.streams_max.load(Ordering::Relaxed);
        let more = |streams: usize| (streams < max).then_some(streams + 1);
        self.state.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some((self.send.clone(), Place(self.state.clone())))
    }

    /// Whether it is worth keeping: open, and in use since `oldest`.
    pub(crate) fn is_wanted(&self, oldest: Option<Instant>) -> bool {
        let busy = self.state.streams.load(Ordering::Relaxed) > 0;
        !self.send.is_closed() && (busy || oldest.is_none_or(|oldest| *self.state.used() > oldest))
    }
}

impl State {
    fn used(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(crate) fn alert(&self) -> &Alert {
        &self.0.alert
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.used() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
