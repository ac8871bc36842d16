//! One connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::answer::{Answer, Head, parse_trailers};
use super::{HttpError, Request};

/// How long a read or write may take unless [`Peer::set_patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of one head, chunk line or trailer block.
const HEAD_MAX: usize = 256 * 1024;
const READ_AT_ONCE: usize = 64 * 1024;

/// How a connection ended, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN: the peer closed in an orderly way.
    Fin,
    /// RST: the peer threw the connection away.
    Reset,
    /// Nothing came for as long as the patience of this peer.
    Silent,
}

/// A connection on which a test says and hears exact bytes. TCP_NODELAY is set: each `send` is a write.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    addr: SocketAddr,
    /// Read from the socket and not yet taken.
    buffer: Vec<u8>,
}

impl Peer {
    pub fn connect(addr: SocketAddr) -> Result<Self, HttpError> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|source| HttpError::Connect { addr, source })?;
        let peer = Self { stream, addr, buffer: Vec::new() };
        peer.set_patience(PATIENCE)?;
        Ok(peer)
    }

    /// How long one read or write may wait. The default is 20 s.
    pub fn set_patience(&self, patience: Duration) -> Result<(), HttpError> {
        let set = self.stream.set_read_timeout(Some(patience));
        set.and_then(|()| self.stream.set_write_timeout(Some(patience)))
            .map_err(|source| HttpError::Connect { addr: self.addr, source })
    }

    /// The socket, for options such as buffer sizes.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and reads its answer, which may have stopped early. The connection stays usable
    /// when the answer is complete.
    pub fn exchange(&mut self, request: &Request) -> Result<Answer, HttpError> {
        self.send(&request.wire(&self.addr.to_string()))?;
        if request.method == "HEAD" { self.read_answer_to_head() } else { self.read_answer() }
    }

    /// Writes these bytes, as one write where the socket takes them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        self.stream.write_all(bytes).map_err(|source| HttpError::Write { source })
    }

    /// Writes each piece by itself, `gap` apart: a slow client.
    pub fn send_slowly(&mut self, pieces: &[&[u8]], gap: Duration) -> Result<(), HttpError> {
        for (position, piece) in pieces.iter().enumerate() {
            if position > 0 {
                std::thread::sleep(gap);
            }
            self.send(piece)?;
        }
        Ok(())
    }

    /// What is there, waiting for at least one byte.
    pub fn read_some(&mut self) -> Result<Vec<u8>, HttpError> {
        if self.buffer.is_empty() {
            self.demand()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Exactly `count` bytes.
    pub fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, HttpError> {
        while self.buffer.len() < count {
            self.demand()?;
        }
        Ok(self.take(count))
    }

    /// Everything up to and including `mark`.
    pub fn read_until(&mut self, mark: &[u8]) -> Result<Vec<u8>, HttpError> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], mark) {
                return Ok(self.take(searched + at + mark.len()));
            }
            if self.buffer.len() > HEAD_MAX {
                let got = std::mem::take(&mut self.buffer);
                return Err(HttpError::Malformed { what: format!("no end in {HEAD_MAX} bytes"), got });
            }
            searched = self.buffer.len().saturating_sub(mark.len());
            self.demand()?;
        }
    }

    /// Everything until the connection ends, and how it ended.
    pub fn read_to_end(&mut self) -> Result<(Vec<u8>, End), HttpError> {
        loop {
            if let Some(end) = self.fill()? {
                return Ok((std::mem::take(&mut self.buffer), end));
            }
        }
    }

    /// Whether nothing at all (no byte, no FIN) comes for so long.
    pub fn quiet_for(&mut self, time: Duration) -> Result<bool, HttpError> {
        let usual = self.stream.read_timeout().map_err(|source| HttpError::Read { source })?;
        self.set_patience(time)?;
        let started = Instant::now();
        let ended = if self.buffer.is_empty() { self.fill()? } else { None };
        self.set_patience(usual.unwrap_or(PATIENCE))?;
        Ok(ended == Some(End::Silent) && started.elapsed() >= time)
    }

    /// Reads the next answer. It is an error when not even a head came, and when the head says twice how
    /// long the body is: a peer that guesses would hide a smuggled answer.
    pub fn read_answer(&mut self) -> Result<Answer, HttpError> {
        let mut answer = self.read_answer_to_head()?;
        answer.end = match body_length(&answer.head)? {
            BodyLength::None => None,
            BodyLength::Chunked => self.read_chunks(&mut answer)?,
            BodyLength::Exactly(length) => self.take_into(&mut answer.body, length)?,
            BodyLength::UntilClose => self.read_rest(&mut answer)?,
        };
        Ok(answer)
    }

    /// Reads interim heads and the head, and no body: for answers to HEAD.
    pub fn read_answer_to_head(&mut self) -> Result<Answer, HttpError> {
        let mut interim = Vec::new();
        let mut head = self.read_head()?;
        while (100..200).contains(&head.status) && head.status != 101 {
            interim.push(head);
            head = self.read_head()?;
        }
        Ok(Answer { interim, head, body: Vec::new(), chunks: Vec::new(), trailers: Vec::new(), end: None })
    }

    /// Reads one head, interim or not.
    pub fn read_head(&mut self) -> Result<Head, HttpError> {
        Head::parse(self.read_until(b"\r\n\r\n")?)
    }

    /// FIN from our side; the answer can still be read.
    pub fn half_close(&self) -> Result<(), HttpError> {
        self.stream.shutdown(Shutdown::Write).map_err(|source| HttpError::Write { source })
    }

    /// Throws the connection away with RST.
    pub fn reset(self) -> Result<(), HttpError> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .map_err(|error| HttpError::Write { source: error.into() })
    }

    fn read_rest(&mut self, answer: &mut Answer) -> Result<Option<End>, HttpError> {
        let (body, end) = self.read_to_end()?;
        answer.body = body;
        Ok((end != End::Fin).then_some(end))
    }

    fn read_chunks(&mut self, answer: &mut Answer) -> Result<Option<End>, HttpError> {
        loop {
            let line = match self.read_until(b"\r\n") {
                Err(HttpError::Ended { end, .. }) => return Ok(Some(end)),
                other => other?,
            };
            let size = chunk_size(&line)?;
            if size == 0 {
                return self.read_trailers(answer);
            }
            let before = answer.body.len();
            let end = self.take_into(&mut answer.body, size)?;
            answer.chunks.push(answer.body.len() - before);
            if end.is_some() {
                return Ok(end);
            }
            match self.read_exactly(2) {
                Ok(crlf) if crlf == b"\r\n" => {}
                Ok(got) => return Err(HttpError::Malformed { what: "chunk without CRLF".to_owned(), got }),
                Err(HttpError::Ended { end, .. }) => return Ok(Some(end)),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_trailers(&mut self, answer: &mut Answer) -> Result<Option<End>, HttpError> {
        let mut block = Vec::new();
        loop {
            match self.read_until(b"\r\n") {
                Ok(line) => block.extend_from_slice(&line),
                Err(HttpError::Ended { end, .. }) => return Ok(Some(end)),
                Err(error) => return Err(error),
            }
            if block == b"\r\n" || block.ends_with(b"\r\n\r\n") {
                answer.trailers = parse_trailers(&block)?;
                return Ok(None);
            }
        }
    }

    /// Moves `count` bytes into `body`, or as many as come before the end.
    fn take_into(&mut self, body: &mut Vec<u8>, mut count: usize) -> Result<Option<End>, HttpError> {
        loop {
            let ready = count.min(self.buffer.len());
            body.extend(self.buffer.drain(..ready));
            count -= ready;
            if count == 0 {
                return Ok(None);
            }
            if let Some(end) = self.fill()? {
                return Ok(Some(end));
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    /// Reads more, or fails with what is there.
    fn demand(&mut self) -> Result<(), HttpError> {
        match self.fill()? {
            None => Ok(()),
            Some(end) => Err(HttpError::Ended { end, got: self.buffer.clone() }),
        }
    }

    /// One read into the buffer; `Some` when nothing more will come in time.
    fn fill(&mut self) -> Result<Option<End>, HttpError> {
        let start = self.buffer.len();
        self.buffer.resize(start + READ_AT_ONCE, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(start + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => Ok(Some(End::Fin)),
            Ok(_) => Ok(None),
            Err(error) => end_of(error).map(Some),
        }
    }
}

fn end_of(error: io::Error) -> Result<End, HttpError> {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Ok(End::Reset),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(End::Silent),
        _ => Err(HttpError::Read { source: error }),
    }
}

enum BodyLength {
    None,
    Exactly(usize),
    Chunked,
    UntilClose,
}

fn body_length(head: &Head) -> Result<BodyLength, HttpError> {
    let malformed = |what: &str| HttpError::Malformed { what: what.to_owned(), got: head.wire.clone() };
    if matches!(head.status, 204 | 304) {
        return Ok(BodyLength::None);
    }
    match (&head.all("transfer-encoding")[..], &head.all("content-length")[..]) {
        ([], []) => Ok(BodyLength::UntilClose),
        (["chunked"], []) => Ok(BodyLength::Chunked),
        ([], [digits]) => {
            number(digits, 10).map(BodyLength::Exactly).ok_or_else(|| malformed("content-length"))
        }
        _ => Err(malformed("more than one body length")),
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, HttpError> {
    let text = String::from_utf8_lossy(line);
    let digits = text.trim_end().split(';').next().unwrap_or("");
    let malformed = || HttpError::Malformed { what: "chunk size".to_owned(), got: line.to_vec() };
    number(digits, 16).ok_or_else(malformed)
}

/// Digits only: no sign, no white space.
fn number(digits: &str, radix: u32) -> Option<usize> {
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| usize::from_str_radix(digits, radix).ok()).flatten()
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

#[cfg(test)]
mod tests;
