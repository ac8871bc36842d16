//! Listeners: accepting, TLS, HTTP, and the way down.
//!
//! One task per connection and none per call (HTTP/2 streams excepted, which hyper runs itself, and answers that are read
//! on after their client left, see `body/drain.rs`). Shutdown has three
//! phases: serve, drain (no new calls, connections close after the call they carry), cut (what is left is dropped, and
//! its receipts say `SHUTDOWN`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use estoppel_evidence::entry::{
    CallRecord, Captured, ClientEnd, Durability, Identity, IdentityKind, Outcome, PolicyRef, RequestSide,
    Times, VerdictAction, VerdictMode, VerdictRecord,
};
use estoppel_evidence::{CallId, Reason, Sha256};
use estoppel_journal::{Clock, Journal};
use estoppel_state::Store;
use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use crate::Metrics;
use crate::body::Drains;
use crate::call::Accepted;
use crate::contracts::Schemas;
use crate::controls::Controls;
use crate::database::Posts;
use crate::holds::Holds;
use crate::provenance;
use crate::recent::Recent;
use crate::settings::{Listener, Server, Settings};
use crate::snapshot::Snapshot;
use crate::stack::stack;
use crate::store::Stores;
use crate::switches::{self, Switches};

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) server: Server,
    pub(crate) durability: Durability,
    pub(crate) in_flight: Arc<AtomicUsize>,
    /// No new calls.
    pub(crate) draining: AtomicBool,
    /// Calls that end now were cut by us.
    pub(crate) cutting: AtomicBool,
    pub(crate) stores: Arc<Stores>,
    pub(crate) posts: Posts,
    /// The data plane's.
    runtime: tokio::runtime::Handle,
    /// Memory for request bodies, in KiB.
    pub(crate) held: Arc<Semaphore>,
    pub(crate) drains: Drains,
    pub(crate) holds: Holds,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) controls: Controls,
    pub(crate) switches: Switches,
    /// What tools gave earlier.
    pub(crate) earlier: Arc<provenance::Runs>,
    /// For whoever looks on.
    pub(crate) recent: Recent,
    calls: CallIds,
}

impl Shared {
    /// The id of a call of ours.
    pub(crate) fn next_call(&self) -> CallId {
        self.calls.next(self.clock.unix_us() / 1000)
    }

    /// A record with nothing in it yet.
    pub(crate) fn blank_record(&self) -> Box<CallRecord> {
        Box::new(blank())
    }
}

/// A record of nothing.
pub(crate) fn blank() -> CallRecord {
    CallRecord {
        call: CallId::new(0, [0; 10]),
        attempt: 1,
        storage: Default::default(),
        claims: None,
        destination: None,
        detection: None,
        dialect: None,
        downgrades: Vec::new(),
        evaluated_request: Default::default(),
        evaluated_response: Default::default(),
        facts: Default::default(),
        identity: Identity::default(),
        identity_details: None,
        held: None,
        idempotency: None,
        judged: None,
        limits: Vec::new(),
        operation: "http".into(),
        outcome: Outcome { client: ClientEnd::Gone, code: Reason::Internal, complete: false },
        policy: PolicyRef { hash: Sha256([0; 32]), rule: None },
        reask: None,
        request: RequestSide {
            body: Captured::default(),
            method: "GET".into(),
            route: None,
            target: [0; 32],
            version: "1.1",
        },
        response: Default::default(),
        shadow: Vec::new(),
        snapshot: None,
        stream: None,
        tenant: None,
        threat: None,
        time: Times::default(),
        trace: None,
        upstream: None,
        upstream_request: None,
        verdict: VerdictRecord { action: VerdictAction::Block, mode: VerdictMode::Enforce, reason: None },
    }
}

/// Call ids: unique in one process by a counter, and between processes by 74 bits that start at random.
struct CallIds {
    seed: u64,
    salt: u16,
    count: AtomicU64,
}

impl CallIds {
    fn new(random: [u8; 10]) -> Self {
        let (seed, salt) = random.split_at(8);
        Self {
            seed: u64::from_le_bytes(seed.try_into().expect("eight bytes")),
            salt: u16::from_le_bytes(salt.try_into().expect("two bytes")),
            count: AtomicU64::new(0),
        }
    }

    fn next(&self, unix_ms: u64) -> CallId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // A bijection of the counter, so two calls never share it.
        let mixed = self.seed.wrapping_add(count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = [0; 10];
        random[..2].copy_from_slice(&self.salt.to_le_bytes());
        random[2..].copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
        CallId::new(unix_ms, random)
    }
}

/// What is known of a connection's other end.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    /// Set when it stopped reading and was cut for that.
    pub(crate) stalled: Arc<AtomicBool>,
}

/// How far the way down has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Serve,
    Drain,
    Cut,
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("listener `{name}`: {source}")]
    Tls { name: String, source: crate::tls::TlsError },
    #[error("no random bytes: {0}")]
    Random(io::Error),
    #[error("no threads for stored bodies: {0}")]
    Threads(io::Error),
}

impl GatewayError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Reason::PortInUse,
            Self::Listen { .. } => Reason::ListenFailed,
            Self::Tls { .. } => Reason::ConfigInvalid,
            Self::Random(_) | Self::Threads(_) => Reason::Internal,
        }
    }
}

/// A running data plane.
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    listeners: Vec<Arc<ListenerState>>,
    phase: watch::Sender<Phase>,
    connections: Arc<Semaphore>,
}

struct ListenerState {
    settings: Listener,
    address: SocketAddr,
    tls: Option<ArcSwap<ServerConfig>>,
}

/// Where a gateway listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Name and address of each listener.
    pub listeners: Vec<(String, SocketAddr)>,
}

impl Gateway {
    /// Binds every listener and starts to accept. Must be called inside the data plane's runtime.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing is left listening.
    pub fn start(
        settings: &Settings,
        snapshot: Snapshot,
        journal: Journal,
        durability: Durability,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        store: Store,
    ) -> Result<Self, GatewayError> {
        let random: [u8; 10] = random()?;
        let key = [u64::from_le_bytes(self::random()?), u64::from_le_bytes(self::random()?)];
        let stores = Stores::start(journal.bodies(), journal.contracts(), journal.snapshots());
        let stores = Arc::new(stores.map_err(GatewayError::Threads)?);
        let (posts, dues) = Posts::new(stores.clone(), journal.clone());
        let (drains, queue) = Drains::new(settings.server.drains_max);
        let before = journal.before().clone();
        let earlier = provenance::Runs::new(self::random()?, metrics.clone());
        earlier.set(snapshot.policy.listens(), clock.mono_us());
        let recent = Recent::new(clock.unix_us());
        let shared = Arc::new(Shared {
            holds: Holds::new(settings.server.holds_max, metrics.clone()),
            journal,
            clock,
            metrics,
            snapshot: ArcSwap::from_pointee(snapshot),
            server: settings.server.clone(),
            durability,
            in_flight: Arc::default(),
            draining: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            stores,
            posts,
            runtime: tokio::runtime::Handle::current(),
            held: Arc::new(Semaphore::new((settings.server.held_mib << 10).min(Semaphore::MAX_PERMITS))),
            drains,
            schemas: Arc::new(Schemas::new(key)),
            controls: Controls::new(store),
            switches: Switches::new(before),
            earlier: Arc::new(earlier),
            recent,
            calls: CallIds::new(random),
        });
        shared.holds.restore(shared.journal.held(), &shared.snapshot.load(), shared.clock.unix_us());
        let (phase, _) = watch::channel(Phase::Serve);
        let connections = Arc::new(Semaphore::new(settings.server.connections_max));
        let mut bound = Vec::new();
        for listener in &settings.listener {
            bound.push(bind(listener)?);
        }
        let mut listeners = Vec::new();
        for (socket, state) in bound {
            let state = Arc::new(state);
            tokio::spawn(accept(
                socket,
                state.clone(),
                shared.clone(),
                phase.subscribe(),
                connections.clone(),
            ));
            listeners.push(state);
        }
        tokio::spawn(sweep(shared.clone(), phase.subscribe()));
        tokio::spawn(dues.run());
        for database in shared.snapshot.load().databases.values() {
            database.start(&shared.runtime, &shared);
        }
        tokio::spawn(switches::follow(shared.clone()));
        tokio::spawn(crate::identity::follow(shared.clone()));
        let mut down = phase.subscribe();
        tokio::spawn(queue.run(async move { drop(down.wait_for(|phase| *phase == Phase::Cut).await) }));
        Ok(Self { shared, listeners, phase, connections })
    }

    /// Reads the kill switches, so that the first calls need not wait for them. When they cannot be read, they are
    /// tried again and again, and until then calls are answered 503.
    pub async fn read_switches(&self) {
        drop(self.shared.keep_switches().await);
    }

    /// Where it listens.
    pub fn listening(&self) -> Listening {
        Listening { listeners: self.listeners.iter().map(|l| (l.settings.name.clone(), l.address)).collect() }
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Puts another configuration in force. Calls in flight keep theirs. Listeners keep their addresses; their
    /// certificates are read again.
    ///
    /// # Errors
    /// A certificate that cannot be read; then nothing has changed.
    pub fn reload(&self, settings: &Settings, snapshot: Snapshot) -> Result<(), GatewayError> {
        let mut fresh = Vec::new();
        for state in &self.listeners {
            let now = settings.listener.iter().find(|listener| listener.name == state.settings.name);
            if let (Some(tls), Some(slot)) = (now.and_then(|listener| listener.tls.as_ref()), &state.tls) {
                let config = crate::tls::listener(tls, state.settings.http2)
                    .map_err(|source| GatewayError::Tls { name: state.settings.name.clone(), source })?;
                fresh.push((slot, config));
            }
        }
        for (slot, config) in fresh {
            slot.store(config);
        }
        let listens = snapshot.policy.listens();
        let before = self.shared.snapshot.swap(Arc::new(snapshot));
        self.shared.earlier.set(listens, self.shared.clock.mono_us());
        let now = self.shared.snapshot.load();
        // Who watches a database stops where it is not the configuration's.
        for database in now.databases.values() {
            database.start(&self.shared.runtime, &self.shared);
        }
        for (name, database) in &before.databases {
            database.forget(now.databases.get(name));
        }
        Ok(())
    }

    /// Stops taking calls, lets those in flight end within the drain time, then cuts them. When it returns, every
    /// call has handed its record to the journal.
    pub async fn shutdown(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.holds.shut(self.shared.clock.unix_us());
        self.phase.send_replace(Phase::Drain);
        let drain = Duration::from_millis(self.shared.server.drain_ms);
        let all = u32::try_from(self.shared.server.connections_max).unwrap_or(u32::MAX);
        let ended = async || {
            let _ = self.connections.acquire_many(all).await;
            self.shared.drains.ended().await;
        };
        if tokio::time::timeout(drain, ended()).await.is_err() {
            let left = self.shared.in_flight.load(Ordering::Relaxed);
            tracing::warn!(calls = left, "drain time is over, cutting what is left");
            self.shared.cutting.store(true, Ordering::SeqCst);
            self.phase.send_replace(Phase::Cut);
            // Cutting drops futures; it needs a moment of the runtime, not of any peer.
            let _ = tokio::time::timeout(Duration::from_secs(5), ended()).await;
        }
        self.shared.posts.ended().await;
        self.shared.controls.store().close().await;
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], GatewayError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| GatewayError::Random(error.into()))?;
    Ok(bytes)
}

fn bind(listener: &Listener) -> Result<(TcpListener, ListenerState), GatewayError> {
    let failed = |source: io::Error| GatewayError::Listen { address: listener.listen, source };
    let tls = match &listener.tls {
        None => None,
        Some(tls) => {
            let config = crate::tls::listener(tls, listener.http2)
                .map_err(|source| GatewayError::Tls { name: listener.name.clone(), source })?;
            Some(ArcSwap::new(config))
        }
    };
    let socket = std::net::TcpListener::bind(listener.listen).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    // Accepted sockets inherit it. Without it a client that stops reading soaks up megabytes (kernel autotuning).
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, listener.send_buffer_bytes as usize)
        .map_err(|error| failed(error.into()))?;
    let address = socket.local_addr().map_err(failed)?;
    let socket = TcpListener::from_std(socket).map_err(failed)?;
    Ok((socket, ListenerState { settings: listener.clone(), address, tls }))
}

/// Closes idle upstream connections, and holds whose time is over, from time to time.
async fn sweep(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
            _ = phase.wait_for(|phase| *phase != Phase::Serve) => return,
        }
        shared.holds.sweep(shared.clock.unix_us());
        for pool in shared.snapshot.load().pools.values() {
            pool.sweep();
        }
    }
}

async fn accept(
    socket: TcpListener,
    listener: Arc<ListenerState>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    connections: Arc<Semaphore>,
) {
    let mut down = phase.clone();
    loop {
        let accepted = async {
            let room = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            (room, socket.accept().await)
        };
        let (room, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = down.wait_for(|phase| *phase != Phase::Serve) => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                let (listener, shared, phase) = (listener.clone(), shared.clone(), phase.clone());
                tokio::spawn(async move {
                    shared.metrics.connections.inc();
                    connection(tcp, &listener, &shared, phase).await;
                    shared.metrics.connections.dec();
                    drop(room);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before it was taken.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(
    tcp: TcpStream,
    listener: &ListenerState,
    shared: &Arc<Shared>,
    phase: watch::Receiver<Phase>,
) {
    if tcp.set_nodelay(true).is_err() {
        return; // the peer is gone already
    }
    let stall = Duration::from_millis(shared.server.write_stall_ms);
    let Some(tls) = &listener.tls else {
        let peer = Peer { identity: Identity::default(), stalled: Arc::default() };
        let io = StallGuard::new(TokioIo::new(tcp), stall, peer.stalled.clone());
        return serve(io, peer, listener, shared, phase).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls.load_full()).accept(tcp);
    let limit = Duration::from_millis(shared.server.head_ms);
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) => {
            let peer = Peer { identity: identity(&stream), stalled: Arc::default() };
            let io = StallGuard::new(TokioIo::new(stream), stall, peer.stalled.clone());
            serve(io, peer, listener, shared, phase).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// The client certificate's first DNS name, or its digest where it has none.
fn identity(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> Identity {
    let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) else {
        return Identity::default();
    };
    let digest = Sha256::of(certificate).to_string();
    let name = webpki::EndEntityCert::try_from(certificate).ok().and_then(|leaf| {
        leaf.valid_dns_names().next().map(|name| estoppel_evidence::text::name(name).into_owned())
    });
    let subject = name.unwrap_or_else(|| digest.clone());
    Identity { kid: Some(digest.into()), kind: IdentityKind::Mtls, subject: Some(subject.into()) }
}

async fn serve<I>(
    io: I,
    peer: Peer,
    listener: &ListenerState,
    shared: &Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) where
    I: Read + Write + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let stack = stack(shared);
    let accepting = shared.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut stack = stack.clone();
        let started_us = accepting.clock.mono_us();
        let call = accepting.calls.next(accepting.clock.unix_us() / 1000);
        let (head, body) = request.into_parts();
        let accepted = Accepted { call, started_us, head: Box::new(head), body, peer: peer.clone() };
        async move { Ok::<_, Infallible>(stack.call(accepted).await.unwrap_or_else(|never| match never {})) }
    });
    let builder = builder(listener, &shared.server);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = phase.wait_for(|phase| *phase != Phase::Serve) => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = connection => Some(ended),
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => None,
        };
    }
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

fn builder(listener: &ListenerState, server: &Server) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head = Duration::from_millis(server.head_ms);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .half_close(listener.settings.half_close)
        .max_buf_size(server.head_bytes_max.max(16 << 10))
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(256)
        .max_header_list_size(u32::try_from(server.head_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(64 << 10);
    if listener.settings.http2 { builder } else { builder.http1_only() }
}

/// Ends a connection whose peer takes no bytes for too long. hyper does not poll a body while it cannot write, so
/// this cannot be seen from there.
struct StallGuard<I> {
    io: I,
    limit: Duration,
    stalled: Arc<AtomicBool>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<I> StallGuard<I> {
    fn new(io: I, limit: Duration, stalled: Arc<AtomicBool>) -> Self {
        Self { io, limit, stalled, timer: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.timer = None;
            return result;
        }
        let limit = self.limit;
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        if timer.as_mut().poll(cx).is_ready() {
            self.stalled.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

use std::future::Future as _;

impl<I: Read + Unpin> Read for StallGuard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for StallGuard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_do_not_repeat() {
        let ids = CallIds::new([7; 10]);
        let many: std::collections::BTreeSet<CallId> = (0..10_000).map(|_| ids.next(1)).collect();
        assert_eq!(many.len(), 10_000);
    }
}
