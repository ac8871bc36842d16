//! Accepting connections, and what happens on an HTTP/1.1 connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::{Answer, How};
use crate::h2;
use crate::hits::{Hits, Outcome};
use crate::plan::{Memo, Plan};
use crate::request::{BodyLength, Head, RequestBody, RequestError, read_body, read_head};
use crate::respond::Respond;
use crate::script::Script;
use crate::send::{Broke, Sender};
use crate::stub::{Listen, Protocol, StartError};

/// Most connections at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 16_384;
/// Pause after a failed accept (no file descriptors left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long and how much is still read after FIN: closing with unread bytes would make it RST.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// A stub that listens and does not accept yet.
#[derive(Debug)]
pub(crate) struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
}

/// What all connections of one stub share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub plan: Plan,
    pub hits: Hits,
}

impl Server {
    /// Needs no runtime.
    pub fn bind(listen: Listen, script: &Script) -> Result<Self, StartError> {
        if !listen.address.ip().is_loopback() {
            return Err(StartError::NotLoopback(listen.address));
        }
        let plan = Plan::new(script)?;
        if listen.protocol == Protocol::Http2 {
            h2::check(script)?;
        }
        Self::bind_plan(listen, plan, script.send_buffer_bytes)
    }

    /// HTTP/1.1, with answers that other code makes.
    pub fn bind_responding(address: SocketAddr, respond: Arc<dyn Respond>) -> Result<Self, StartError> {
        Self::bind_plan(Listen { address, ..Listen::default() }, Plan::responding(respond), None)
    }

    fn bind_plan(listen: Listen, plan: Plan, send_buffer_bytes: Option<u32>) -> Result<Self, StartError> {
        let Listen { address, tls, protocol } = listen;
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(address));
        }
        let listener = listen_on(address, send_buffer_bytes);
        let listener = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = listener.map_err(|source| StartError::Listen { address, source })?;
        let tls = if protocol == Protocol::Http2 { tls.map(h2::offer) } else { tls };
        let hits = Hits::new(plan.remember);
        Ok(Self { listener, address, protocol, tls, shared: Arc::new(Shared { plan, hits }) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn hits(&self) -> &Hits {
        &self.shared.hits
    }

    /// Accepts until told to stop; owns every connection.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        let acceptor = self.tls.map(TlsAcceptor::from);
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "stub cannot watch its listener"),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = stopped.changed() => break, // Told to stop, or nobody is left to tell.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                        let shared = Arc::clone(&self.shared);
                        connections.spawn(connect(stream, acceptor.clone(), self.protocol, shared));
                    }
                    Ok(_) => {}
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(listener);
        connections.shutdown().await;
    }
}

fn listen_on(address: SocketAddr, send_buffer_bytes: Option<u32>) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    if let Some(bytes) = send_buffer_bytes {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, bytes)?; // Accepted sockets inherit it.
    }
    Ok(listener)
}

async fn connect(stream: TcpStream, acceptor: Option<TlsAcceptor>, protocol: Protocol, shared: Arc<Shared>) {
    let number = shared.hits.connected();
    if stream.set_nodelay(true).is_err() {
        return; // The peer has gone already.
    }
    let Some(acceptor) = acceptor else { return speak(stream, protocol, shared, number).await };
    match acceptor.accept(stream).await {
        Ok(stream) => speak(stream, protocol, shared, number).await,
        Err(error) => tracing::debug!(%error, "stub: TLS handshake failed"),
    }
}

async fn speak<L: Link>(link: L, protocol: Protocol, shared: Arc<Shared>, number: u64) {
    match protocol {
        Protocol::Http1 => Connection::new(link, shared, number).run().await,
        Protocol::Http2 => h2::run(link, shared, number).await,
    }
}

/// A stream, with TLS or without, whose socket can be reached for what only a socket can do.
pub(crate) trait Link: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Link for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

impl Link for TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

/// One HTTP/1.1 connection.
struct Connection<L> {
    link: L,
    shared: Arc<Shared>,
    number: u64,
    /// Read and not yet used.
    inbox: BytesMut,
    /// Memory for writes.
    held: BytesMut,
    memo: Memo,
}

/// What comes after one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Next,
    /// An orderly end: with TLS, close_notify first.
    Close,
    /// FIN and nothing else.
    Fin,
    Reset,
    /// The peer has gone; nothing to say to it.
    Drop,
}

impl<L: Link> Connection<L> {
    fn new(link: L, shared: Arc<Shared>, number: u64) -> Self {
        Self { link, shared, number, inbox: BytesMut::new(), held: BytesMut::new(), memo: None }
    }

    /// One exchange after another. Errors of closing are the peer's going away.
    async fn run(mut self) {
        let then = loop {
            match self.exchange().await {
                Then::Next => {}
                then => break then,
            }
        };
        match then {
            Then::Close if self.link.shutdown().await.is_ok() => linger(self.link.tcp()).await,
            Then::Fin if self.link.tcp().shutdown().await.is_ok() => linger(self.link.tcp()).await,
            Then::Reset => drop(self.link.tcp().set_zero_linger()), // Closing it now sends RST.
            Then::Close | Then::Fin | Then::Drop | Then::Next => {}
        }
    }

    async fn exchange(&mut self) -> Then {
        let head = match read_head(&mut self.link, &mut self.inbox).await {
            Ok(Some(head)) => head,
            Ok(None) => return Then::Drop,
            Err(error) => {
                let wire = self.inbox.split().freeze();
                return self.refuse(&Head::unreadable(wire), &RequestBody::default(), &error).await;
            }
        };
        if let Some(answer) = self.shared.plan.before_body(&head) {
            return match self.answer(&answer, &head, &RequestBody::default()).await {
                Then::Next => Then::Close, // What comes next is a body that nobody reads.
                then => then,
            };
        }
        match self.read_body(&head).await {
            Ok(body) => {
                let answer = self.shared.plan.answer(&head, &body.plain, &mut self.memo);
                self.answer(&answer, &head, &body).await
            }
            Err(error) => {
                let wire = self.inbox.split().freeze();
                let body = RequestBody { plain: wire.clone(), wire };
                self.refuse(&head, &body, &error).await
            }
        }
    }

    async fn read_body(&mut self, head: &Head) -> Result<RequestBody, RequestError> {
        let length = head.body_length()?;
        if head.expects_continue() && length != BodyLength::Exactly(0) {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.link.write_all(go_on).await.map_err(|_| RequestError::Gone)?;
            self.link.flush().await.map_err(|_| RequestError::Gone)?;
        }
        read_body(&mut self.link, &mut self.inbox, length).await
    }

    async fn answer(&mut self, answer: &Answer, head: &Head, body: &RequestBody) -> Then {
        let progress = self.shared.hits.arrived(self.number, head, body);
        let (stream, inbox, held) = (&mut self.link, &mut self.inbox, &mut self.held);
        let sender = Sender { stream, inbox, held, progress: &progress };
        let (outcome, then) = match sender.send(answer, head.method() == "HEAD").await {
            Ok(()) if answer.close || !head.keeps_alive() => (Outcome::Sent, Then::Close),
            Ok(()) => (Outcome::Sent, Then::Next),
            Err(Broke::PeerGone) => (Outcome::PeerGone, Then::Drop),
            Err(Broke::Script(How::Reset)) => (Outcome::CutByScript, Then::Reset),
            Err(Broke::Script(How::Fin | How::Stall)) => (Outcome::CutByScript, Then::Fin),
        };
        progress.end(outcome);
        then
    }

    /// Records a request that no rule sees, and answers it as far as somebody listens.
    async fn refuse(&mut self, head: &Head, body: &RequestBody, error: &RequestError) -> Then {
        self.shared.hits.refuse(self.number, head, body);
        let Some(status) = error.status() else { return Then::Drop };
        let length = error.to_string().len();
        let answer = format!(
            "HTTP/1.1 {status} Refused\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{error}"
        );
        if self.link.write_all(answer.as_bytes()).await.is_ok() { Then::Close } else { Then::Drop }
    }
}

/// Reads what the peer still sends, within limits, so that closing does not turn FIN into RST.
pub(crate) async fn linger(tcp: &mut TcpStream) {
    let mut scrap = vec![0; 16 * 1024];
    let reading = async {
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            match tcp.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read += count,
            }
        }
    };
    let _ = timeout(LINGER, reading).await; // However it ends, the connection is closed next.
}

#[cfg(test)]
pub(crate) mod tests;
