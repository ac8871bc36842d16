//! What came back.

use super::HttpError;
use super::peer::End;

/// Most headers of one head.
const HEADERS_MAX: usize = 128;

/// A status line and its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub reason: String,
    /// As sent: order, case and repetitions kept. Bytes that are not UTF-8 are replaced; see `wire`.
    pub headers: Vec<(String, String)>,
    /// The exact bytes, blank line included.
    pub wire: Vec<u8>,
}

impl Head {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every header of this name, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let wanted = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str()).collect()
    }

    /// Reads a head from `wire`, which ends with its blank line.
    pub(super) fn parse(wire: Vec<u8>) -> Result<Self, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(&wire) {
            Ok(httparse::Status::Complete(_)) => {}
            other => return Err(HttpError::Malformed { what: format!("head: {other:?}"), got: wire }),
        }
        let status = parsed.code.unwrap_or(0);
        let reason = parsed.reason.unwrap_or("").to_owned();
        let headers = parsed.headers.iter().map(owned).collect();
        Ok(Self { status, reason, headers, wire })
    }
}

/// One answer, complete or not.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer {
    /// Heads with a 1xx status that came first.
    pub interim: Vec<Head>,
    pub head: Head,
    /// The body without its framing; as far as it came.
    pub body: Vec<u8>,
    /// Sizes of the HTTP chunks, in order, without the last empty one. Empty when not chunked.
    pub chunks: Vec<usize>,
    pub trailers: Vec<(String, String)>,
    /// `None` when the framing says that this is all; otherwise what ended it first. A body that ends
    /// with the connection is complete when the connection ended with FIN.
    pub end: Option<End>,
}

impl Answer {
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Refuses an answer that stopped early.
    pub fn complete(self) -> Result<Self, HttpError> {
        match self.end {
            None => Ok(self),
            Some(_) => Err(HttpError::Incomplete { answer: Box::new(self) }),
        }
    }
}

/// Reads trailers from `wire`, which ends with a blank line.
pub(super) fn parse_trailers(wire: &[u8]) -> Result<Vec<(String, String)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(wire, &mut headers) {
        Ok(httparse::Status::Complete((_, parsed))) => Ok(parsed.iter().map(owned).collect()),
        other => Err(HttpError::Malformed { what: format!("trailers: {other:?}"), got: wire.to_vec() }),
    }
}

fn owned(header: &httparse::Header<'_>) -> (String, String) {
    (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
}
