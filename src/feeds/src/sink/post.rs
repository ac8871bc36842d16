//! Requests by POST over one kept connection.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::SinkError;
use super::connect::{Endpoint, Stream, Tls};
use super::shape::quote;

/// Most bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Which program sends, as `user-agent` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The gateway, whose feeds go on for as long as it runs.
    Gateway,
    /// The command line, which sends and ends.
    Cli,
}

impl Sender {
    fn agent(self) -> &'static str {
        match self {
            Self::Gateway => concat!("estoppeld/", env!("CARGO_PKG_VERSION")),
            Self::Cli => concat!("estoppel/", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// Where requests go.
pub(crate) struct Post {
    sender: Sender,
    endpoint: Endpoint,
    tls: Option<Tls>,
    timeout: Duration,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
}

/// What a collector said.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// What it is called if it is no success.
    pub fn error(&self) -> SinkError {
        let (status, text) = (self.status.as_u16(), quote(&self.body));
        SinkError::Status { status, text, retry_after: retry_after(&self.headers) }
    }
}

impl Post {
    pub fn new(sender: Sender, url: &str, ca: Option<&Path>, timeout_ms: u64) -> Result<Self, SinkError> {
        let endpoint = Endpoint::parse(url).map_err(SinkError::Tls)?;
        let tls = endpoint.tls.then(|| Tls::new(&endpoint.host, ca)).transpose()?;
        Ok(Self { sender, endpoint, tls, timeout: Duration::from_millis(timeout_ms), connection: None })
    }

    /// Sends one request. After an error the next has a connection of its own.
    pub async fn send(&mut self, headers: HeaderMap, body: Bytes) -> Result<Answer, SinkError> {
        let late =
            SinkError::Late { address: self.endpoint.authority.clone(), seconds: self.timeout.as_secs() };
        let answered =
            tokio::time::timeout(self.timeout, self.exchange(headers, body)).await.unwrap_or(Err(late));
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    async fn exchange(&mut self, headers: HeaderMap, body: Bytes) -> Result<Answer, SinkError> {
        let address = self.endpoint.authority.clone();
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| SinkError::Broken {
            address: address.clone(),
            source: io::Error::other(source),
        };
        let request = self.request(headers, body).map_err(|error| broken(error.into()))?;
        let kept = match self.connection.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let answer = connection.send_request(request).await.map_err(|error| broken(error.into()))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(broken)?;
        self.connection = Some(connection);
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    fn request(&self, headers: HeaderMap, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(&self.endpoint.target)
            .header(header::HOST, &self.endpoint.authority)
            .header(header::USER_AGENT, self.sender.agent())
            .header(header::CONTENT_LENGTH, body.len())
            .body(Full::new(body))?;
        request.headers_mut().extend(headers);
        Ok(request)
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, SinkError> {
        let Endpoint { host, port, authority, .. } = &self.endpoint;
        let failed = |source| SinkError::Connect { address: authority.clone(), source };
        let stream = Stream::tcp(host, *port, self.tls.as_ref()).await.map_err(failed)?;
        let (send, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(io::Error::other(error)))?;
        // Ends when the sender is dropped or the collector closes.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to a collector ended");
            }
        });
        Ok(send)
    }
}

/// The header that says what a body is.
pub(crate) fn content_type(value: &'static str) -> (header::HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static(value))
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), None, "it is over");
        assert!(asked("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_secs(1));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
