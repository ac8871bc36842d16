//! One new connection: TCP, TLS if asked for, HTTP handshake.

use std::io;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::{Alert, Stream};
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
    #[error("the upstream allows no stream")]
    Full,
}

/// An HTTP/1.1 connection with the half that drives it.
pub(crate) struct Http1 {
    pub(crate) send: http1::SendRequest<UpstreamBody>,
    pub(crate) driver: Box<http1::Connection<Stream, UpstreamBody>>,
    pub(crate) alert: Alert,
}

pub(crate) type Http2Driver = http2::Connection<Stream, UpstreamBody, TokioExecutor>;

/// A fresh connection.
pub(crate) enum Fresh {
    Http1(Http1),
    Http2(http2::SendRequest<UpstreamBody>, Box<Http2Driver>, Alert),
}

/// Connects to `target`. The caller bounds the time.
pub(crate) async fn connect(target: &Target) -> Result<Fresh, ConnectError> {
    let tcp = TcpStream::connect((target.origin.host.as_str(), target.origin.port))
        .await
        .map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let alert = Alert::default();
    let (stream, h2) = match &target.tls {
        None => (Stream::Plain(TokioIo::new(tcp)), target.settings.http2 == Http2::Always),
        Some((config, server)) => {
            let tls = TlsConnector::from(config.clone())
                .connect(server.clone(), tcp)
                .await
                .map_err(ConnectError::Tls)?;
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            (Stream::tls(tls, alert.clone()), h2)
        }
    };
    if h2 { http2(stream, alert).await } else { http1(stream, alert).await }
}

async fn http1(stream: Stream, alert: Alert) -> Result<Fresh, ConnectError> {
    let (send, driver) = http1::Builder::new().handshake(stream).await.map_err(ConnectError::Http)?;
    Ok(Fresh::Http1(Http1 { send, driver: Box::new(driver), alert }))
}

async fn http2(stream: Stream, alert: Alert) -> Result<Fresh, ConnectError> {
    let (send, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(std::time::Duration::from_secs(30)))
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(4 << 20)
        .handshake(stream)
        .await
        .map_err(ConnectError::Http)?;
    Ok(Fresh::Http2(send, Box::new(driver), alert))
}
