//! A blocking HTTP/1.1 peer for tests: exact bytes out, exact bytes in.
//!
//! [`get`] and [`post`] are for the simple case. [`Peer`] is one connection: it sends any bytes, also ones
//! that are no HTTP, and reads an answer with its interim heads, chunk sizes and trailers, or stops in the
//! middle. How a connection ended is a value ([`End`]), because that is often what a test is about.
//!
//! [`Tool`] is the other side: an upstream that does something before it answers.
//!
//! On purpose absent: TLS, HTTP/2, redirects, decompression, pools, retries.

mod answer;
mod peer;
mod tool;

use std::io;
use std::net::SocketAddr;

pub use answer::{Answer, Head};
pub use peer::{End, Peer};
pub use tool::{Asked, Tool};

/// Why no answer could be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("could not talk to {addr}")]
    Connect { addr: SocketAddr, source: io::Error },
    #[error("could not write to the peer")]
    Write { source: io::Error },
    #[error("could not read from the peer")]
    Read { source: io::Error },
    #[error("the peer ended ({end:?}) after {} bytes: {:?}", got.len(), String::from_utf8_lossy(got))]
    Ended { end: End, got: Vec<u8> },
    #[error("the answer stopped early ({:?}) after {} body bytes", answer.end, answer.body.len())]
    Incomplete { answer: Box<Answer> },
    #[error("not an HTTP answer: {what}: {:?}", String::from_utf8_lossy(got))]
    Malformed { what: String, got: Vec<u8> },
}

/// One request. `host` is added, and a length when there is a body; everything else is up to the test.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Body::None }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Sized(body.as_ref().to_vec());
        self
    }

    /// A body with `transfer-encoding: chunked`, these pieces as chunks. An empty piece is left out: it
    /// would end the body.
    #[must_use]
    pub fn chunks(mut self, pieces: &[&[u8]]) -> Self {
        let kept = pieces.iter().filter(|piece| !piece.is_empty());
        self.body = Body::Chunked(kept.map(|piece| piece.to_vec()).collect());
        self
    }

    /// The exact bytes of this request.
    #[must_use]
    pub fn wire(&self, host: &str) -> Vec<u8> {
        let mut wire = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match &self.body {
            Body::None => wire.extend_from_slice(b"\r\n"),
            Body::Sized(body) => {
                wire.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                wire.extend_from_slice(body);
            }
            Body::Chunked(pieces) => {
                wire.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for piece in pieces {
                    wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    wire.extend_from_slice(piece);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(b"0\r\n\r\n");
            }
        }
        wire
    }
}

/// GET on a connection of its own. An answer that stopped early is an error.
pub fn get(addr: SocketAddr, target: &str) -> Result<Answer, HttpError> {
    send(addr, &Request::new("GET", target))
}

/// POST of a JSON body on a connection of its own. An answer that stopped early is an error.
pub fn post(addr: SocketAddr, target: &str, json: impl AsRef<[u8]>) -> Result<Answer, HttpError> {
    send(addr, &Request::new("POST", target).header("content-type", "application/json").body(json))
}

/// Any request on a connection of its own. An answer that stopped early is an error.
pub fn send(addr: SocketAddr, request: &Request) -> Result<Answer, HttpError> {
    Peer::connect(addr)?.exchange(request)?.complete()
}
