//! Connections: accepting, reading requests, sending answers, going away.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::hits::Hits;
use crate::plan::{Memo, Plan, ScriptError};
use crate::request::{BodyLength, Head, RequestBody, RequestError, read_body, read_head};
use crate::script::Script;
use crate::send::{After, Wire, send};

/// Where and how a stub listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Default 127.0.0.1, a free port.
    pub address: SocketAddr,
    /// Speaks TLS with this.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None }
    }
}

/// Why a stub does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{0} is not a loopback address; the stub listens on loopback only")]
    NotLoopback(SocketAddr),
    #[error("cannot start a runtime: {0}")]
    Runtime(io::Error),
}

/// A running stub. Dropping it closes its connections and frees its port.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    hits: Hits,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// Starts on the current runtime, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(script: Script) -> Result<Self, StartError> {
        Self::start_on(Listen::default(), script).await
    }

    /// As [`Stub::start`], where the caller says.
    ///
    /// # Errors
    /// [`StartError`].
    #[expect(clippy::unused_async, reason = "must run inside a runtime")]
    pub async fn start_on(listen: Listen, script: Script) -> Result<Self, StartError> {
        let address = listen.address;
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(address));
        }
        let plan = Arc::new(Plan::new(&script)?);
        let failed = |source| StartError::Listen { address, source };
        let socket = std::net::TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        if let Some(bytes) = script.send_buffer_bytes {
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, bytes as usize)
                .map_err(|error| failed(error.into()))?;
        }
        let address = socket.local_addr().map_err(failed)?;
        let socket = TcpListener::from_std(socket).map_err(failed)?;
        let hits = Hits::new(plan.remember);
        let (stop, stopped) = watch::channel(false);
        let shared = Shared { plan, hits: hits.clone(), tls: listen.tls };
        tokio::spawn(accept(socket, Arc::new(shared), stopped));
        Ok(Self { address, hits, stop, thread: None })
    }

    /// Starts on a runtime and thread of its own, for callers that are not async.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn spawn_thread(script: Script) -> Result<Self, StartError> {
        Self::spawn_thread_on(Listen::default(), script)
    }

    /// As [`Stub::spawn_thread`], where the caller says.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn spawn_thread_on(listen: Listen, script: Script) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let mut stub = runtime.block_on(Self::start_on(listen, script))?;
        let mut stopped = stub.stop.subscribe();
        let thread = std::thread::Builder::new()
            .name("stub".into())
            .spawn(move || {
                runtime.block_on(async {
                    let _ = stopped.wait_for(|stop| *stop).await; // an error means that the stub is gone
                });
            })
            .map_err(StartError::Runtime)?;
        stub.thread = Some(thread);
        Ok(stub)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it received.
    #[must_use]
    pub fn hits(&self) -> &Hits {
        &self.hits
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it ends because it was told so
        }
    }
}

/// Serves until the process ends.
///
/// # Errors
/// [`StartError`].
pub fn serve_forever(address: SocketAddr, script: Script) -> Result<(), StartError> {
    let stub = Stub::spawn_thread_on(Listen { address, tls: None }, script)?;
    loop {
        std::thread::park_timeout(Duration::from_secs(3600));
        if stub.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Ok(());
        }
    }
}

struct Shared {
    plan: Arc<Plan>,
    hits: Hits,
    tls: Option<Arc<ServerConfig>>,
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let mut stop = stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (shared, mut stop) = (shared.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, &shared) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, shared: &Shared) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let number = shared.hits.connected();
    // A duplicate of the socket, so that it can be reset from below TLS.
    let handle = rustix::io::dup(&stream).ok();
    let after = match &shared.tls {
        None => {
            let mut stream = stream;
            exchanges(&mut stream, shared, number).await
        }
        Some(config) => match tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await {
            Ok(mut stream) => exchanges(&mut stream, shared, number).await,
            Err(error) => {
                tracing::debug!(%error, "stub: TLS handshake failed");
                return;
            }
        },
    };
    if let (After::Reset, Some(handle)) = (after, handle) {
        // RST instead of FIN when the last descriptor closes.
        let _ = rustix::net::sockopt::set_socket_linger(&handle, Some(Duration::ZERO));
    }
}

async fn exchanges<S: Wire>(stream: &mut S, shared: &Shared, connection: u64) -> After {
    let mut buffer = BytesMut::new();
    let mut memo: Memo = None;
    loop {
        let head = match read_head(stream, &mut buffer).await {
            Ok(Some(head)) => head,
            Ok(None) => return After::Close,
            Err(error) => {
                let head = Head::unreadable(buffer.split().freeze());
                return refuse(stream, shared, connection, &head, &RequestBody::default(), &error).await;
            }
        };
        if let Some(answer) = shared.plan.before_body(&head) {
            let progress = shared.hits.arrived(connection, &head, &RequestBody::default());
            return match send(stream, &answer, head.method() == "HEAD", &mut buffer, &progress).await {
                After::Reset => After::Reset,
                After::KeepOpen | After::Close => After::Close,
            };
        }
        let length = match head.body_length() {
            Ok(length) => length,
            Err(error) => {
                return refuse(stream, shared, connection, &head, &RequestBody::default(), &error).await;
            }
        };
        let continues = head.expects_continue() && length != BodyLength::Exactly(0);
        if continues && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return After::Close;
        }
        let body = match read_body(stream, &mut buffer, length).await {
            Ok(body) => body,
            Err(error) => {
                let rest = buffer.split().freeze();
                let body = RequestBody { wire: rest.clone(), plain: rest };
                return refuse(stream, shared, connection, &head, &body, &error).await;
            }
        };
        let progress = shared.hits.arrived(connection, &head, &body);
        let answer = shared.plan.answer(&head, &body.plain, &mut memo);
        match send(stream, &answer, head.method() == "HEAD", &mut buffer, &progress).await {
            After::KeepOpen if head.keeps_alive() => {}
            After::Reset => return After::Reset,
            After::KeepOpen | After::Close => return After::Close,
        }
    }
}

/// Answers a request that is none, as far as somebody listens.
async fn refuse<S: Wire>(
    stream: &mut S,
    shared: &Shared,
    connection: u64,
    head: &Head,
    body: &RequestBody,
    error: &RequestError,
) -> After {
    shared.hits.refuse(connection, head, body);
    if let Some(status) = error.status() {
        let text = format!("{error}\n");
        let answer = format!(
            "HTTP/1.1 {status} Refused\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await; // the peer may be gone
    }
    After::Close
}
