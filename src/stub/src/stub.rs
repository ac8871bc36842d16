//! A stub's life: where it listens, starting, stopping.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::hits::Hits;
use crate::plan::ScriptError;
use crate::respond::Respond;
use crate::script::Script;
use crate::serve::Server;

/// Where and how a stub listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Default: a free port of 127.0.0.1. Anything but loopback is refused.
    pub address: SocketAddr,
    /// Default: none. With HTTP/2 and no ALPN list of its own, `h2` is offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// Default: HTTP/1.1.
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Http1,
    /// Nothing else is spoken: prior knowledge, or ALPN when there is TLS.
    Http2,
}

/// Why a stub does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error("HTTP/2 has no way to do this: {}", problems.join("; "))]
    NotInHttp2 { problems: Vec<String> },
    #[error("could not listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{0} is not a loopback address; the stub listens on loopback only")]
    NotLoopback(SocketAddr),
    #[error("could not start the thread or the runtime of the stub")]
    Runtime(#[source] io::Error),
}

/// A running upstream. Dropping it closes its connections and frees its port.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    hits: Hits,
    stop: watch::Sender<bool>,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    /// On the caller's runtime.
    Task(JoinHandle<()>),
    /// On a runtime of its own.
    Thread(thread::JoinHandle<()>),
    Ended,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), tls: None, protocol: Protocol::Http1 }
    }
}

impl Stub {
    /// HTTP/1.1 on a free port of 127.0.0.1, on the caller's runtime.
    pub async fn start(script: Script) -> Result<Self, StartError> {
        Self::start_on(Listen::default(), script).await
    }

    /// As [`Stub::start`], with TLS.
    pub async fn start_tls(script: Script, tls: Arc<ServerConfig>) -> Result<Self, StartError> {
        Self::start_on(Listen { tls: Some(tls), ..Listen::default() }, script).await
    }

    /// As [`Stub::start`], speaking HTTP/2: with TLS, or with prior knowledge.
    pub async fn start_h2(script: Script, tls: Option<Arc<ServerConfig>>) -> Result<Self, StartError> {
        Self::start_on(Listen { tls, protocol: Protocol::Http2, ..Listen::default() }, script).await
    }

    /// As [`Stub::start`], where and how the caller says.
    #[expect(clippy::unused_async, reason = "must run inside a runtime")]
    pub async fn start_on(listen: Listen, script: Script) -> Result<Self, StartError> {
        let server = Server::bind(listen, &script)?;
        let (stop, stopped) = watch::channel(false);
        let (address, hits) = (server.address(), server.hits().clone());
        Ok(Self { address, hits, stop, runs: Runs::Task(tokio::spawn(server.run(stopped))) })
    }

    /// HTTP/1.1 on a free port of 127.0.0.1, on a thread of its own: for callers that are not async.
    pub fn spawn_thread(script: Script) -> Result<Self, StartError> {
        Self::spawn_thread_on(Listen::default(), script)
    }

    /// As [`Stub::spawn_thread`], where and how the caller says.
    pub fn spawn_thread_on(listen: Listen, script: Script) -> Result<Self, StartError> {
        Self::on_thread(Server::bind(listen, &script)?)
    }

    /// HTTP/1.1 at `address`, on a thread of its own, with answers that other code makes.
    pub fn spawn_thread_responding(
        address: SocketAddr,
        respond: Arc<dyn Respond>,
    ) -> Result<Self, StartError> {
        Self::on_thread(Server::bind_responding(address, respond)?)
    }

    fn on_thread(server: Server) -> Result<Self, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (address, hits) = (server.address(), server.hits().clone());
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Runtime)?;
        let life = move || runtime.block_on(server.run(stopped));
        let thread = thread::Builder::new().name("estoppel-stub".to_owned()).spawn(life);
        Ok(Self { address, hits, stop, runs: Runs::Thread(thread.map_err(StartError::Runtime)?) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it received so far.
    #[must_use]
    pub fn hits(&self) -> &Hits {
        &self.hits
    }

    /// Stops listening, closes all connections and waits until that is done.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        match self.runs.take() {
            Runs::Task(task) => drop(task.await), // Ended, whether by a panic or as told.
            Runs::Thread(thread) => drop(thread.join()), // Short: nothing there waits for a peer.
            Runs::Ended => {}
        }
    }

    /// Waits for the end of the thread.
    fn wait(mut self) {
        if let Runs::Thread(thread) = self.runs.take() {
            drop(thread.join());
        }
    }
}

impl Runs {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Ended)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        match self.runs.take() {
            Runs::Task(task) => task.abort(), // The connections go with it, which it owns.
            Runs::Thread(thread) => drop(thread.join()),
            Runs::Ended => {}
        }
    }
}

/// Serves the script over HTTP/1.1 until the process ends; returns only when it cannot start. Blocks the
/// calling thread, whether or not it belongs to a runtime. `listening` is told the address, which port 0
/// leaves to the system.
pub fn serve_forever(
    address: SocketAddr,
    script: Script,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), StartError> {
    let stub = Stub::spawn_thread_on(Listen { address, ..Listen::default() }, script)?;
    listening(stub.addr());
    stub.wait();
    Ok(())
}
