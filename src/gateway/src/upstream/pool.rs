//! The pool of one upstream, and sending one request through it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use estoppel_evidence::Reason;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connect::{ConnectError, Fresh, Http1, Target, connect};
use super::relay::{Driver, Relay};
use super::shared::{Place, Shared};
use super::stream::Stream;
use crate::body::UpstreamBody;
use crate::settings::Http2;

/// An HTTP/1.1 connection that counts against the upstream's limit for as long as it lives.
pub(crate) struct Lease {
    pub(crate) http1: Http1,
    pub(crate) _permit: OwnedSemaphorePermit,
}

const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

struct Idle {
    lease: Lease,
    since: Instant,
}

/// The connections of one upstream.
pub(crate) struct Pool {
    pub(crate) target: Target,
    /// Newest last, so that the warmest connection is used first.
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    /// Held while a connection is made that others may share: a burst makes one, not one each.
    sharing: tokio::sync::Mutex<()>,
    speaks_http1: AtomicBool,
    slots: Arc<Semaphore>,
    complained: Mutex<Option<Instant>>,
}

/// Why a request got no response head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no connection could be had")]
    Connect(#[from] ConnectError),
    #[error("no connection could be had in time")]
    ConnectTimeout,
    #[error("the client left before the request was sent")]
    ClientGone,
    #[error("no response head came in time")]
    HeadersTimeout,
    #[error("the call took too long")]
    TotalTimeout,
    /// With TLS 1.3 an upstream refuses a client's certificate after the handshake.
    #[error("the upstream ended TLS with an alert")]
    Tls,
    #[error("the exchange failed")]
    Exchange(#[source] hyper::Error),
}

impl SendError {
    /// Whether no upstream can have begun with the request.
    pub(crate) fn is_before_sending(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout | Self::ClientGone | Self::Tls => true,
            Self::HeadersTimeout | Self::TotalTimeout | Self::Exchange(_) => false,
        }
    }
}

/// A response head with what its body is read through.
pub(crate) struct Answered {
    pub(crate) head: http::response::Parts,
    pub(crate) relay: Relay,
    /// Time that connecting took, if a connection was made for this call.
    pub(crate) connected: Option<Duration>,
}

impl Pool {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(target.settings.connections_max));
        let speaks_http1 = match target.settings.http2 {
            Http2::Never => true,
            Http2::Auto => !target.origin.tls,
            Http2::Always => false,
        };
        Arc::new(Self {
            target,
            idle: Mutex::default(),
            shared: Mutex::default(),
            sharing: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(speaks_http1),
            slots,
            complained: Mutex::default(),
        })
    }

    /// Tells the operator why calls fail: a warning at most every [`COMPLAINT_EVERY`], the rest at level debug.
    pub(crate) fn complain(&self, reason: Reason, error: &dyn std::fmt::Display) {
        let upstream = &*self.target.name;
        let now = Instant::now();
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if reason == Reason::ClientGone || last.is_some_and(|last| now - last < COMPLAINT_EVERY) {
            tracing::debug!(upstream, %reason, %error, "upstream failed");
        } else {
            *last = Some(now);
            tracing::warn!(upstream, %reason, %error, "upstream failed; more of this within 10 s is at level debug");
        }
    }

    /// Sends `request` and waits for the response head.
    ///
    /// A request that a kept connection never started to send (the upstream had closed it meanwhile) is sent again on
    /// another one; nothing else is ever sent twice. `left` says that its client has left: then nothing is sent.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<UpstreamBody>,
        connect_for: Duration,
        headers_for: Duration,
        left: Option<&AtomicBool>,
    ) -> Result<Answered, SendError> {
        let mut connected = None;
        loop {
            let connection = match self.kept() {
                Some(kept) => kept,
                None => {
                    let start = Instant::now();
                    let made = tokio::time::timeout(connect_for, self.kept_or_fresh());
                    let (connection, fresh) = made.await.map_err(|_| SendError::ConnectTimeout)??;
                    connected = fresh.then(|| start.elapsed());
                    connection
                }
            };
            if left.is_some_and(|left| left.load(Ordering::Relaxed)) {
                return Err(SendError::ClientGone);
            }
            let answer = std::pin::pin!(self.exchange(connection, request));
            match tokio::time::timeout(headers_for, answer).await.map_err(|_| SendError::HeadersTimeout)? {
                Ok((head, relay)) => return Ok(Answered { head, relay, connected }),
                Err(Failed { mut error, tls }) => match error.take_message() {
                    Some(unsent) if connected.is_none() => request = unsent,
                    _ if tls => return Err(SendError::Tls),
                    _ => return Err(SendError::Exchange(error.into_error())),
                },
            }
        }
    }

    /// A kept connection that is still open.
    fn kept(&self) -> Option<Connection> {
        if let Some((send, place)) = locked(&self.shared).iter().find_map(Shared::enter) {
            return Some(Connection::Shared(send, place));
        }
        let oldest = Instant::now().checked_sub(Duration::from_millis(self.target.settings.idle_ms));
        loop {
            let mut idle = locked(&self.idle).pop()?;
            let fresh_enough = oldest.is_none_or(|oldest| idle.since > oldest);
            if fresh_enough && is_open(&mut idle.lease.http1) {
                return Some(Connection::Own(idle.lease));
            }
        }
    }

    /// A connection, and whether it was made for this call.
    async fn kept_or_fresh(&self) -> Result<(Connection, bool), ConnectError> {
        if self.speaks_http1.load(Ordering::Relaxed) {
            return Ok((self.fresh().await?, true));
        }
        let turn = self.sharing.lock().await;
        if let Some(kept) = self.kept() {
            return Ok((kept, false));
        }
        if self.speaks_http1.load(Ordering::Relaxed) {
            drop(turn);
        }
        Ok((self.fresh().await?, true))
    }

    async fn fresh(&self) -> Result<Connection, ConnectError> {
        let permit = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        match connect(&self.target).await? {
            Fresh::Http1(http1) => {
                self.speaks_http1.store(true, Ordering::Relaxed);
                Ok(Connection::Own(Lease { http1, _permit: permit }))
            }
            Fresh::Http2(send, driver, alert) => {
                self.speaks_http1.store(false, Ordering::Relaxed);
                let shared = Shared::start(send, driver, alert, permit);
                let (send, place) = shared.enter().ok_or(ConnectError::Full)?;
                let mut list = locked(&self.shared);
                list.retain(|shared| shared.is_wanted(None));
                list.push(shared);
                Ok(Connection::Shared(send, place))
            }
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        connection: Connection,
        request: Request<UpstreamBody>,
    ) -> Result<(http::response::Parts, Relay), Failed> {
        match connection {
            Connection::Own(mut lease) => {
                let sending = std::pin::pin!(lease.http1.send.try_send_request(request));
                let response = driven(&mut lease.http1.driver, sending).await;
                let tls = lease.http1.alert.was_seen();
                let response = response.map_err(|error| Failed { error, tls })?;
                let (head, body) = response.into_parts();
                Ok((head, Relay::new(body, Driver::Own { lease, pool: self.clone(), ended: false })))
            }
            Connection::Shared(mut send, place) => match send.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    Ok((head, Relay::new(body, Driver::Shared { _place: place })))
                }
                Err(error) => Err(Failed { error, tls: place.alert().was_seen() }),
            },
        }
    }

    /// Takes a connection back whose last response has been read to its end.
    pub(crate) fn keep(&self, lease: Lease) {
        locked(&self.idle).push(Idle { lease, since: Instant::now() });
    }

    /// Closes connections that have been idle too long or that the upstream has closed.
    pub(crate) fn sweep(&self) {
        let oldest = Instant::now().checked_sub(Duration::from_millis(self.target.settings.idle_ms));
        let mut idle = locked(&self.idle);
        idle.retain_mut(|idle| {
            oldest.is_none_or(|oldest| idle.since > oldest) && is_open(&mut idle.lease.http1)
        });
        drop(idle);
        locked(&self.shared).retain(|shared| shared.is_wanted(oldest));
    }
}

enum Connection {
    Own(Lease),
    Shared(hyper::client::conn::http2::SendRequest<UpstreamBody>, Place),
}

/// A request that got no answer.
struct Failed {
    error: TrySendError<Request<UpstreamBody>>,
    /// Whether its connection ended with a TLS alert.
    tls: bool,
}

/// The lists stay usable when a thread panicked while it held them: every change is a single push, pop or retain.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an idle connection is still open, found out by driving it once.
fn is_open(http1: &mut Http1) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(&mut *http1.driver).poll(&mut cx).is_pending() && http1.send.is_ready()
}

type Sent = Result<Response<Incoming>, TrySendError<Request<UpstreamBody>>>;

/// Drives the connection until `sending` is done.
async fn driven(
    driver: &mut hyper::client::conn::http1::Connection<Stream, UpstreamBody>,
    mut sending: Pin<&mut impl Future<Output = Sent>>,
) -> Sent {
    let mut ended = false;
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(sent);
        }
        if !ended {
            // An error here reaches `sending`, which tells whether the request was sent.
            ended = Pin::new(&mut *driver).poll(cx).is_ready();
        }
        sending.as_mut().poll(cx)
    })
    .await
}
