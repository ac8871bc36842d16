//! A client over hyper: HTTP/2, and TLS. Exact bytes of HTTP/1.1 are the kit's `Peer`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub type Http2 = http2::SendRequest<Full<Bytes>>;

/// Runs the async part of a test.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(crate::support::PATIENCE * 3, test).await.expect("the test hangs")
    })
}

pub async fn http2(gateway: SocketAddr) -> Http2 {
    speak_http2(TcpStream::connect(gateway).await.unwrap()).await
}

pub async fn tls(gateway: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(gateway).await?;
    TlsConnector::from(config).connect("127.0.0.1".try_into().unwrap(), tcp).await
}

pub async fn speak_http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Http2 {
    let made = http2::Builder::new(TokioExecutor::new())
        .initial_max_send_streams(None)
        .handshake(TokioIo::new(stream))
        .await;
    let (send, connection) = made.unwrap();
    tokio::spawn(connection);
    send
}

pub async fn speak_http1(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> http1::SendRequest<Full<Bytes>> {
    let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A request of run `run`; for HTTP/2 with an authority, for HTTP/1.1 with the same as its host.
pub fn request(method: &str, path: &str, run: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://gateway.test{path}")).header("estoppel-run", run)
}

pub fn chat(run: &str, body: &str) -> Request<Full<Bytes>> {
    let request = request("POST", "/v1/chat/completions", run).header("content-type", "application/json");
    request.body(Full::from(body.to_owned())).unwrap()
}

/// One answer as far as it came.
#[derive(Debug)]
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// Why it is not whole.
    pub broken: Option<hyper::Error>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub async fn read(response: http::Response<Incoming>) -> Got {
    let (head, mut body) = response.into_parts();
    let mut got = Got {
        status: head.status,
        headers: head.headers,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        broken: None,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => got.body.extend_from_slice(&data),
            Ok(Err(frame)) => got.trailers = frame.into_trailers().unwrap(),
            Err(error) => {
                got.broken = Some(error);
                break;
            }
        }
    }
    got
}

pub async fn send(client: &mut Http2, request: Request<Full<Bytes>>) -> Got {
    client.ready().await.unwrap();
    read(client.send_request(request).await.unwrap()).await
}
