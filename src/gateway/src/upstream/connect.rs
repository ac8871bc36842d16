//! One new connection: TCP, TLS if asked for, HTTP handshake.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::UpstreamBody;
use crate::settings::{Http2, Origin, Upstream};
use crate::tls::{self, TlsError};

/// Where an upstream is and how it is spoken to.
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) authority: http::HeaderValue,
    pub(crate) settings: Upstream,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why a target cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("upstream `{name}`: {problem}")]
    Url { name: String, problem: String },
    #[error("upstream `{name}`: {source}")]
    Tls { name: String, source: TlsError },
}

impl Target {
    pub(crate) fn new(name: &str, settings: &Upstream) -> Result<Self, TargetError> {
        let url = |problem: String| TargetError::Url { name: name.into(), problem };
        let origin = settings.origin().map_err(url)?;
        let authority = http::HeaderValue::from_str(&origin.authority).map_err(|e| url(e.to_string()))?;
        let tls = if origin.tls {
            let server = ServerName::try_from(origin.host.clone()).map_err(|e| url(e.to_string()))?;
            let config =
                tls::upstream(settings).map_err(|source| TargetError::Tls { name: name.into(), source })?;
            Some((config, server))
        } else {
            None
        };
        Ok(Self { name: name.into(), origin, authority, settings: settings.clone(), tls })
    }

    /// Whether connections made for this target may serve `settings`. With files involved they may not: their content
    /// may have changed.
    pub(crate) fn same(&self, settings: &Upstream) -> bool {
        self.settings == *settings && settings.ca.is_none() && settings.client.is_none()
    }
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the HTTP handshake failed")]
    Http(#[source] hyper::Error),
}

/// A plain or TLS stream.
pub(crate) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Self::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, bufs))
    }
}

/// An HTTP/1.1 connection with the half that drives it.
pub(crate) struct Http1 {
    pub(crate) send: http1::SendRequest<UpstreamBody>,
    pub(crate) driver: Box<http1::Connection<Stream, UpstreamBody>>,
}

/// A fresh connection.
pub(crate) enum Fresh {
    Http1(Http1),
    Http2(http2::SendRequest<UpstreamBody>),
}

/// Connects to `target`. The caller bounds the time.
pub(crate) async fn connect(target: &Target) -> Result<Fresh, ConnectError> {
    let tcp = TcpStream::connect((target.origin.host.as_str(), target.origin.port))
        .await
        .map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let (stream, h2) = match &target.tls {
        None => (Stream::Plain(TokioIo::new(tcp)), target.settings.http2 == Http2::Always),
        Some((config, server)) => {
            let tls = TlsConnector::from(config.clone())
                .connect(server.clone(), tcp)
                .await
                .map_err(ConnectError::Tls)?;
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::Tls(Box::new(TokioIo::new(tls))), h2)
        }
    };
    if h2 { http2(stream).await } else { http1(stream).await }
}

async fn http1(stream: Stream) -> Result<Fresh, ConnectError> {
    let (send, driver) =
        http1::Builder::new().max_headers(256).handshake(stream).await.map_err(ConnectError::Http)?;
    Ok(Fresh::Http1(Http1 { send, driver: Box::new(driver) }))
}

async fn http2(stream: Stream) -> Result<Fresh, ConnectError> {
    let (send, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(std::time::Duration::from_secs(30)))
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(4 << 20)
        .handshake(stream)
        .await
        .map_err(ConnectError::Http)?;
    // One task per shared connection; it ends when the last sender is gone.
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "upstream http2 connection ended");
        }
    });
    Ok(Fresh::Http2(send))
}
