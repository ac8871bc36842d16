//! Batches by POST over one kept connection.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::connect::{Endpoint, Stream, Tls};
use super::shape::quote;
use super::{Delivery, SinkError};
use crate::document::{Document, Format};
use crate::settings::{Compression, Encoding, HttpTo, Shape};

/// Most bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Largest token.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// A collector.
pub(crate) struct HttpSink {
    endpoint: Endpoint,
    tls: Option<Tls>,
    shape: Shape,
    encoding: Encoding,
    compression: Compression,
    /// Whether anything was taken yet. Until then a refusal may be one of the compression.
    taken: bool,
    format: Format,
    token: Option<Token>,
    timeout: Duration,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
}

struct Token {
    path: PathBuf,
    name: &'static str,
    value: HeaderValue,
}

impl HttpSink {
    pub fn new(to: &HttpTo, format: Format) -> Result<Self, SinkError> {
        let endpoint = Endpoint::parse(&to.url).map_err(SinkError::Tls)?;
        let tls = endpoint.tls.then(|| Tls::new(&endpoint.host, to.ca.as_deref())).transpose()?;
        let token = to.token_file.as_deref().map(|path| token(path, to.shape)).transpose()?;
        let timeout = Duration::from_millis(to.timeout_ms);
        let (shape, encoding) = (to.shape, to.encoding.unwrap_or_default());
        let compression = to.compression;
        let (taken, connection) = (false, None);
        Ok(Self { endpoint, tls, shape, encoding, compression, taken, format, token, timeout, connection })
    }

    pub async fn deliver(&mut self, documents: &[Document]) -> Delivery {
        let sent = documents.len();
        let body = match self.body(documents) {
            Ok(body) => body,
            Err(error) => return Delivery::failed(sent, error),
        };
        let late =
            SinkError::Late { address: self.endpoint.authority.clone(), seconds: self.timeout.as_secs() };
        let answered = tokio::time::timeout(self.timeout, self.post(body)).await.unwrap_or(Err(late));
        match answered {
            Ok((status, headers, answer)) if status.is_success() => {
                self.taken = true;
                let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
                self.shape.taken(sent, content_type, &answer)
            }
            Ok((status, headers, answer)) => {
                if matches!(status.as_u16(), 401 | 403) {
                    self.read_token_again();
                }
                let retry_after = retry_after(&headers);
                let (status, text) = (status.as_u16(), quote(&answer));
                let is_compressed = self.compression == Compression::Gzip;
                let error = match status {
                    400 | 415 if is_compressed && !self.taken => {
                        SinkError::Compressed { status, text, retry_after }
                    }
                    _ => SinkError::Status { status, text, retry_after },
                };
                Delivery::failed(sent, error)
            }
            Err(error) => {
                self.connection = None;
                Delivery::failed(sent, error)
            }
        }
    }

    fn body(&self, documents: &[Document]) -> Result<Bytes, SinkError> {
        let body = self.shape.body(self.encoding, self.format, documents)?;
        let packed = match self.compression {
            Compression::None => Ok(body),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }
        };
        packed.map(Bytes::from).map_err(SinkError::Pack)
    }

    async fn post(&mut self, body: Bytes) -> Result<(StatusCode, HeaderMap, Bytes), SinkError> {
        let address = self.endpoint.authority.clone();
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| SinkError::Broken {
            address: address.clone(),
            source: io::Error::other(source),
        };
        let request = self.request(body).map_err(|error| broken(error.into()))?;
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
        Ok((head.status, head.headers, body.to_bytes()))
    }

    fn request(&self, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(&self.endpoint.target)
            .header(header::HOST, &self.endpoint.authority)
            .header(header::USER_AGENT, concat!("estoppeld/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, self.shape.content_type(self.encoding))
            .header(header::CONTENT_LENGTH, body.len());
        if self.compression == Compression::Gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        if let Some(token) = &self.token {
            request = request.header(token.name, token.value.clone());
        }
        request.body(Full::new(body))
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

    /// A token that was replaced on disk takes effect without a restart.
    fn read_token_again(&mut self) {
        let Some(path) = self.token.as_ref().map(|token| token.path.clone()) else { return };
        match token(&path, self.shape) {
            Ok(token) => self.token = Some(token),
            Err(error) => tracing::warn!(%error, "the token was not read again"),
        }
    }
}

fn token(path: &Path, shape: Shape) -> Result<Token, SinkError> {
    let wrong = |problem: String| SinkError::Token { path: path.into(), problem };
    let meta = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others can read or write the file; `chmod 600` it".into()));
    }
    if meta.len() > TOKEN_BYTES_MAX {
        return Err(wrong(format!("it is larger than {TOKEN_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let (name, value) = shape.authorization(text.trim());
    let mut value = HeaderValue::try_from(value).map_err(|_| wrong("it is no header value".into()))?;
    if text.trim().is_empty() {
        return Err(wrong("it is empty".into()));
    }
    value.set_sensitive(true);
    Ok(Token { path: path.into(), name, value })
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

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let token = token(&path, Shape::SplunkHec);
            assert_eq!(token.is_ok(), good, "{mode:o}");
            assert!(token.is_err() || !format!("{:?}", token.unwrap().value).contains("s3cret"));
        }
    }
}
