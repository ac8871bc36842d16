//! Batches by POST over one kept connection.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::post::{Answer, Post, Sender, content_type};
use super::{Delivery, SinkError};
use crate::document::{Document, Format};
use crate::secret;
use crate::settings::{Compression, Encoding, HttpTo, Shape};

/// A collector.
pub(crate) struct HttpSink {
    post: Post,
    shape: Shape,
    encoding: Encoding,
    compression: Compression,
    /// Whether anything was taken yet. Until then a refusal may be one of the compression.
    taken: bool,
    format: Format,
    token: Option<Token>,
}

struct Token {
    path: PathBuf,
    name: HeaderName,
    value: HeaderValue,
}

impl HttpSink {
    pub fn new(to: &HttpTo, format: Format) -> Result<Self, SinkError> {
        let post = Post::new(Sender::Gateway, &to.url, to.ca.as_deref(), to.timeout_ms)?;
        let token = to.token_file.as_deref().map(|path| token(path, to.shape)).transpose()?;
        let (shape, encoding) = (to.shape, to.encoding.unwrap_or_default());
        let compression = to.compression;
        Ok(Self { post, shape, encoding, compression, taken: false, format, token })
    }

    pub async fn deliver(&mut self, documents: &[Document]) -> Delivery {
        let sent = documents.len();
        let body = match self.body(documents) {
            Ok(body) => body,
            Err(error) => return Delivery::failed(sent, error),
        };
        match self.post.send(self.headers(), body).await {
            Ok(answer) if answer.status.is_success() => {
                self.taken = true;
                let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
                self.shape.taken(sent, kind, &answer.body)
            }
            Ok(answer) => {
                if matches!(answer.status.as_u16(), 401 | 403) {
                    self.read_token_again();
                }
                Delivery::failed(sent, self.error(&answer))
            }
            Err(error) => Delivery::failed(sent, error),
        }
    }

    fn error(&self, answer: &Answer) -> SinkError {
        let is_compressed = self.compression == Compression::Gzip;
        match answer.error() {
            SinkError::Status { status: status @ (400 | 415), text, retry_after }
                if is_compressed && !self.taken =>
            {
                SinkError::Compressed { status, text, retry_after }
            }
            other => other,
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

    fn headers(&self) -> HeaderMap {
        let gzip = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let gzip = (self.compression == Compression::Gzip).then_some(gzip);
        let token = self.token.as_ref().map(|token| (token.name.clone(), token.value.clone()));
        let kind = content_type(self.shape.content_type(self.encoding));
        [Some(kind), gzip, token].into_iter().flatten().collect()
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
    let (name, value) = shape.authorization(&secret::read(path)?);
    let mut value = HeaderValue::try_from(value).map_err(|_| wrong("it is no header value".into()))?;
    value.set_sensitive(true);
    Ok(Token { path: path.into(), name: HeaderName::from_static(name), value })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
