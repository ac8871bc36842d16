//! Signed requests over one kept connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estoppel_journal::Clock;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rusty_s3::{Bucket, UrlStyle};

use crate::connect::Host;
use crate::credentials::Credentials;
use crate::error::ArchiveError;
use crate::settings::{ArchiveSettings, Style};

/// How long a signature is good for.
const SIGNED_SECONDS: u64 = 900;
/// Most bytes of an answer that is no object.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// What is asked of the bucket, or of an object in it.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub key: Option<&'a str>,
    pub query: Vec<(&'a str, &'a str)>,
    /// Names in lower case.
    pub headers: Vec<(&'a str, String)>,
    pub body: Bytes,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, key: Option<&'a str>) -> Self {
        Self { method, key, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }
}

/// A whole answer.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The error code in the body, or none.
    pub fn code(&self) -> &str {
        element(&self.text, "Code").unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The text between the first `<name>` and the `</name>` after it. Answers whose members are read so are flat.
pub(crate) fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains(['<', '&'])).then_some(text)
}

/// A connection to the service.
pub(crate) struct Client {
    host: Host,
    authority: String,
    bucket: Bucket,
    credentials: Credentials,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Client {
    pub fn new(settings: &ArchiveSettings, clock: Arc<dyn Clock>) -> Result<Self, ArchiveError> {
        let wrong = |why: &dyn std::fmt::Debug| ArchiveError::Endpoint(format!("{why:?}"));
        let endpoint = settings.endpoint.parse().map_err(|error| wrong(&error))?;
        let style = match settings.style {
            Style::Path => UrlStyle::Path,
            Style::Host => UrlStyle::VirtualHost,
        };
        let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
            .map_err(|error| wrong(&error))?;
        let url = bucket.base_url();
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self {
            host: Host::new(url, settings.ca.as_deref())?,
            authority,
            bucket,
            credentials: Credentials::load(&settings.credentials)?,
            timeout: Duration::from_millis(settings.timeout_ms),
            clock,
            connection: None,
        })
    }

    pub fn bucket(&self) -> &str {
        self.bucket.name()
    }

    pub fn now_us(&self) -> u64 {
        self.clock.unix_us()
    }

    /// Asks and takes the answer whole.
    pub async fn ask(&mut self, ask: Ask<'_>) -> Result<Answer, ArchiveError> {
        let (status, headers, body) = self.open(ask).await?;
        self.whole(status, headers, body).await
    }

    /// The rest of an answer.
    pub async fn whole(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        mut body: Incoming,
    ) -> Result<Answer, ArchiveError> {
        let mut text = Vec::new();
        while let Some(chunk) = self.next(&mut body).await? {
            if text.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(ArchiveError::Answer { status: status.as_u16(), code: "too large".into() });
            }
            text.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// Asks and gives the answer's head; its body is read by [`Client::next`].
    pub async fn open(&mut self, ask: Ask<'_>) -> Result<(StatusCode, HeaderMap, Incoming), ArchiveError> {
        let late = self.late();
        let asked = tokio::time::timeout(self.timeout, self.exchange(ask)).await;
        let answer = asked.unwrap_or(Err(late));
        if answer.is_err() {
            self.connection = None;
        }
        let (head, body) = answer?.into_parts();
        Ok((head.status, head.headers, body))
    }

    /// The next bytes of a body.
    pub async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            let frame = match tokio::time::timeout(self.timeout, body.frame()).await {
                Err(_) => Err(self.late()),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame.map_err(|error| self.unreachable(io::Error::other(error))),
            };
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => return Ok(Some(bytes)),
                Ok(Err(_)) => {} // trailers
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
            }
        }
    }

    fn late(&self) -> ArchiveError {
        ArchiveError::Late { authority: self.authority.clone(), seconds: self.timeout.as_secs() }
    }

    fn unreachable(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Unreachable { authority: self.authority.clone(), source }
    }

    async fn exchange(&mut self, ask: Ask<'_>) -> Result<http::Response<Incoming>, ArchiveError> {
        let request = self.request(ask).map_err(|error| self.unreachable(io::Error::other(error)))?;
        let kept = match self.connection.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await.map_err(|error| self.unreachable(error))?,
        };
        let answer = connection.send_request(request).await;
        let answer = answer.map_err(|error| self.unreachable(io::Error::other(error)))?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn request(&self, mut ask: Ask<'_>) -> http::Result<Request<Full<Bytes>>> {
        ask.query.sort_unstable();
        ask.headers.sort_unstable();
        let url = match ask.key {
            Some(key) => self.bucket.object_url(key),
            None => self.bucket.base_url().clone(),
        };
        let now = i64::try_from(self.clock.unix_us() / 1_000_000).unwrap_or_default();
        let method = match ask.method {
            Method::PUT => rusty_s3::Method::Put,
            Method::POST => rusty_s3::Method::Post,
            Method::HEAD => rusty_s3::Method::Head,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let url = rusty_s3::signing::sign(
            &jiff::Timestamp::from_second(now).unwrap_or_default(),
            method,
            url,
            &self.credentials.key,
            &self.credentials.secret,
            self.credentials.token.as_ref().map(|token| token.as_str()),
            self.bucket.region(),
            SIGNED_SECONDS,
            ask.query.iter().copied(),
            ask.headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let mut request = Request::builder()
            .method(ask.method)
            .uri(target)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("estoppel/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_LENGTH, ask.body.len());
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(ask.body))
    }

    async fn connect(&self) -> io::Result<http1::SendRequest<Full<Bytes>>> {
        let stream = self.host.connect().await?;
        let (send, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends when the sender is dropped or the service closes.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to the archive ended");
            }
        });
        Ok(send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_its_text() {
        let xml = "<?xml?><R xmlns=\"x\"><UploadId>a-b</UploadId><E><Code>No</Code></E></R>";
        assert_eq!((element(xml, "UploadId"), element(xml, "Code")), (Some("a-b"), Some("No")));
        for (xml, name) in [(xml, "E"), (xml, "R"), ("<A>x", "A"), ("<A>&lt;</A>", "A"), ("", "A")] {
            assert_eq!(element(xml, name), None, "{xml}");
        }
    }
}
