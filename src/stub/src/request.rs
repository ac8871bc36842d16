//! Requests off the wire, HTTP/1.1. Strict: what could be read in two ways is refused, because a test that
//! asks what an upstream saw must not get an opinion.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memmem};
use tokio::io::{AsyncRead, AsyncReadExt as _};

const HEADERS_MAX: usize = 128;
/// Largest head. Beyond: 431.
pub(crate) const HEAD_MAX: usize = 128 * 1024;
/// Largest request body, framing included. Beyond: 413.
pub(crate) const BODY_MAX: usize = 256 << 20;
/// Longest chunk line or trailer line. Beyond: 400.
const LINE_MAX: usize = 8 * 1024;
const READ_MIN: usize = 8 * 1024;

/// Why a request was not answered by the script.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("not HTTP/1.1: {what}")]
    Malformed { what: &'static str },
    #[error("the body has more than one length")]
    Ambiguous,
    #[error("a transfer coding other than chunked")]
    Coding,
    #[error("the head is larger than {HEAD_MAX} bytes")]
    HeadTooLarge,
    #[error("the body is larger than {BODY_MAX} bytes")]
    BodyTooLarge,
    #[error("the peer went away in the middle of a request")]
    Gone,
}

impl RequestError {
    /// The status to answer with; none when nobody listens.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Malformed { .. } | Self::Ambiguous => Some(400),
            Self::Coding => Some(501),
            Self::HeadTooLarge => Some(431),
            Self::BodyTooLarge => Some(413),
            Self::Gone => None,
        }
    }
}

/// The head of a request, as it came. The parts are slices of `wire`.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Exact bytes, blank line included.
    pub wire: Bytes,
    method: Bytes,
    target: Bytes,
    headers: Vec<(Bytes, Bytes)>,
    http11: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    Exactly(usize),
    Chunked,
}

/// A body with and without its framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestBody {
    pub wire: Bytes,
    pub plain: Bytes,
}

impl Head {
    /// Reads a head that ends with its blank line. Lines must end with CRLF.
    pub fn parse(wire: Bytes) -> Result<Self, RequestError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&wire) {
            Ok(httparse::Status::Complete(end)) if end == wire.len() && !has_bare_line_feed(&wire) => {}
            Ok(_) => return Err(RequestError::Malformed { what: "head" }),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadTooLarge),
            Err(_) => return Err(RequestError::Malformed { what: "head" }),
        }
        let part = |text: &[u8]| wire.slice_ref(text); // httparse gives slices of what it was given.
        Ok(Self {
            method: part(request.method.unwrap_or_default().as_bytes()),
            target: part(request.path.unwrap_or_default().as_bytes()),
            http11: request.version == Some(1),
            headers: request.headers.iter().map(|it| (part(it.name.as_bytes()), part(it.value))).collect(),
            wire: wire.clone(),
        })
    }

    /// A head that came in another form (HTTP/2), written as HTTP/1.1 would.
    pub fn rendered(wire: Bytes, method: &str, target: &str, headers: Vec<(Bytes, Bytes)>) -> Self {
        let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Self { wire, method: own(method), target: own(target), headers, http11: true }
    }

    pub fn method(&self) -> &str {
        text(&self.method)
    }

    /// Path and query, as sent.
    pub fn target(&self) -> &str {
        text(&self.target)
    }

    pub fn path(&self) -> &str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The values of this header, its name in any case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        let wanted = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        wanted.map(|(_, value)| value)
    }

    /// Names and values as sent: order, case and repetitions kept.
    pub fn headers(&self) -> &[(Bytes, Bytes)] {
        &self.headers
    }

    /// A head of which nothing could be read.
    pub fn unreadable(wire: Bytes) -> Self {
        Self { wire, method: Bytes::new(), target: Bytes::new(), headers: Vec::new(), http11: false }
    }

    /// Whether the peer lets the connection live on.
    pub fn keeps_alive(&self) -> bool {
        self.http11 && !self.says("connection", "close")
    }

    pub fn expects_continue(&self) -> bool {
        self.http11 && self.says("expect", "100-continue")
    }

    pub fn body_length(&self) -> Result<BodyLength, RequestError> {
        let (mut codings, mut lengths) = (self.all("transfer-encoding"), self.all("content-length"));
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(BodyLength::Exactly(0)),
            (Some(_), Some(_)) => Err(RequestError::Ambiguous),
            (Some(coding), None) if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") => {
                if self.http11 {
                    Ok(BodyLength::Chunked)
                } else {
                    Err(RequestError::Coding)
                }
            }
            (Some(_), None) => Err(RequestError::Coding),
            (None, Some(digits)) if lengths.next().is_none() => exact_length(digits),
            (None, Some(_)) => Err(RequestError::Ambiguous),
        }
    }

    /// Whether a comma-separated header has this word.
    fn says(&self, name: &str, word: &str) -> bool {
        let mut words = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// Reads the next head; `None` when the connection ended between requests. What cannot be read stays in
/// `buffer` for the record.
pub(crate) async fn read_head<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Head>, RequestError>
where
    S: AsyncRead + Unpin,
{
    let mut searched = 0;
    loop {
        if let Some(at) = memmem::find(&buffer[searched..], b"\r\n\r\n") {
            let end = searched + at + 4;
            let head = Head::parse(Bytes::copy_from_slice(&buffer[..end]))?;
            buffer.advance(end);
            return Ok(Some(head));
        }
        if buffer.len() > HEAD_MAX {
            return Err(RequestError::HeadTooLarge);
        }
        searched = buffer.len().saturating_sub(3);
        match read_more(stream, buffer).await {
            Err(_) if buffer.is_empty() => return Ok(None),
            other => other?,
        }
    }
}

/// Reads the body. When the peer goes away in the middle, what came is lost to the script but stays in
/// `buffer` for the record.
pub(crate) async fn read_body<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    length: BodyLength,
) -> Result<RequestBody, RequestError>
where
    S: AsyncRead + Unpin,
{
    match length {
        BodyLength::Exactly(0) => Ok(RequestBody::default()),
        BodyLength::Exactly(count) => {
            demand(stream, buffer, count).await?;
            let wire = buffer.split_to(count).freeze();
            Ok(RequestBody { plain: wire.clone(), wire })
        }
        BodyLength::Chunked => read_chunked(stream, buffer).await,
    }
}

async fn read_chunked<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<RequestBody, RequestError>
where
    S: AsyncRead + Unpin,
{
    let (mut plain, mut position) = (BytesMut::new(), 0);
    loop {
        let data = read_line(stream, buffer, position).await?;
        let size = chunk_size(&buffer[position..data])?;
        if size == 0 {
            position = data;
            break;
        }
        let end = data.checked_add(size).filter(|end| *end < BODY_MAX).ok_or(RequestError::BodyTooLarge)?;
        demand(stream, buffer, end + 2).await?;
        if &buffer[end..end + 2] != b"\r\n" {
            return Err(RequestError::Malformed { what: "chunk without CRLF" });
        }
        plain.extend_from_slice(&buffer[data..end]);
        position = end + 2;
    }
    loop {
        let next = read_line(stream, buffer, position).await?;
        let blank = next - position == 2;
        position = next;
        if blank {
            let wire = buffer.split_to(position).freeze();
            return Ok(RequestBody { wire, plain: plain.freeze() });
        }
    }
}

/// Reads until a line that starts at `start` is whole; gives the position after its CRLF.
async fn read_line<S>(stream: &mut S, buffer: &mut BytesMut, start: usize) -> Result<usize, RequestError>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(at) = memchr(b'\n', &buffer[start..]) {
            let end = start + at;
            let crlf = at > 0 && buffer[end - 1] == b'\r';
            return if crlf { Ok(end + 1) } else { Err(RequestError::Malformed { what: "bare line feed" }) };
        }
        if buffer.len() - start > LINE_MAX {
            return Err(RequestError::Malformed { what: "endless line in a chunked body" });
        }
        demand(stream, buffer, buffer.len() + 1).await?;
    }
}

/// Reads until `count` bytes are there.
async fn demand<S>(stream: &mut S, buffer: &mut BytesMut, count: usize) -> Result<(), RequestError>
where
    S: AsyncRead + Unpin,
{
    if count > BODY_MAX {
        return Err(RequestError::BodyTooLarge);
    }
    while buffer.len() < count {
        read_more(stream, buffer).await?;
    }
    Ok(())
}

async fn read_more<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<(), RequestError>
where
    S: AsyncRead + Unpin,
{
    buffer.reserve(READ_MIN);
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => Err(RequestError::Gone),
        Ok(_) => Ok(()),
    }
}

fn exact_length(digits: &[u8]) -> Result<BodyLength, RequestError> {
    let malformed = RequestError::Malformed { what: "content-length" };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    match text(digits).parse() {
        Ok(length) if length <= BODY_MAX => Ok(BodyLength::Exactly(length)),
        _ => Err(RequestError::BodyTooLarge),
    }
}

/// The size at the start of a chunk line; extensions are allowed and ignored.
fn chunk_size(line: &[u8]) -> Result<usize, RequestError> {
    let mut digits = line.strip_suffix(b"\r\n").unwrap_or(line);
    if let Some(end) = memchr(b';', digits) {
        digits = digits[..end].trim_ascii_end();
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(RequestError::Malformed { what: "chunk size" });
    }
    usize::from_str_radix(text(digits), 16).map_err(|_| RequestError::BodyTooLarge)
}

fn has_bare_line_feed(wire: &[u8]) -> bool {
    memchr_iter(b'\n', wire).any(|at| at == 0 || wire[at - 1] != b'\r')
}

/// Bytes that were checked to be ASCII or UTF-8 by the caller's parser.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use estoppel_kit::every_split;
    use tokio::runtime::Builder;

    use super::*;

    type Read = Result<Option<(Head, RequestBody)>, RequestError>;

    /// One request from a connection that gives these bytes and ends; and what is left over.
    fn read(wire: &[u8]) -> (Read, Vec<u8>) {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut stream, mut buffer) = (wire, BytesMut::new());
            let read = async {
                let Some(head) = read_head(&mut stream, &mut buffer).await? else { return Ok(None) };
                let length = head.body_length()?;
                let body = read_body(&mut stream, &mut buffer, length).await?;
                Ok(Some((head, body)))
            };
            let read = read.await;
            (read, [&buffer, stream].concat())
        })
    }

    fn check(wire: &str, plain: &str, rest: &str) {
        let (read, left) = read(wire.as_bytes());
        let (head, body) = read.unwrap().unwrap();
        assert_eq!(body.plain, plain.as_bytes());
        assert_eq!(left, rest.as_bytes());
        assert_eq!([&head.wire[..], &body.wire, &left].concat(), wire.as_bytes());
    }

    fn check_refused(wire: &str, status: Option<u16>) {
        match read(wire.as_bytes()).0 {
            Err(error) => assert_eq!(error.status(), status, "{wire:?}: {error}"),
            Ok(_) => panic!("{wire:?} must be refused"),
        }
    }

    #[test]
    fn reads_bodies_of_both_framings_and_leaves_the_rest() {
        check("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET", "", "GET");
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", "abc", "d");
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
        check(&format!("{chunked}3\r\nabc\r\n1;x=\"y\"\r\nd\r\n0\r\n\r\nnext"), "abcd", "next");
        check(&format!("{chunked}0\r\nx-sum: 1\r\ny: 2\r\n\r\n"), "", "");
        check("GET / HTTP/1.1\r\nempty:\r\n\r\n", "", "");
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        let post = |headers: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        check_refused(&post("content-length: 1\r\ntransfer-encoding: chunked"), Some(400));
        check_refused(&post("content-length: 1\r\ncontent-length: 1"), Some(400));
        check_refused(&post("content-length: 1, 1"), Some(400));
        check_refused(&post("content-length: +1"), Some(400));
        check_refused(&post("content-length:"), Some(400));
        check_refused(&post("content-length : 1"), Some(400));
        check_refused(&post("x: 1\ny: 2"), Some(400));
        check_refused(&post("x: 1\r\n folded"), Some(400));
        check_refused(&post("transfer-encoding: gzip, chunked"), Some(501));
        check_refused(&post("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), Some(501));
        check_refused(&post("transfer-encoding: xchunked"), Some(501));
        check_refused(&post("content-length: 99999999999999999999"), Some(413));
        check_refused("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(400));
        check_refused("PRI * HTTP/2.0\r\n\r\n", Some(400));
        let chunked = post("transfer-encoding: chunked");
        for body in ["x\r\n", "\r\n", "+1\r\na\r\n", "0x1\r\na\r\n", "1\na\r\n", "1\r\nab\r\n", " 1\r\na\r\n"]
        {
            check_refused(&format!("{chunked}{body}0\r\n\r\n"), Some(400));
        }
        check_refused(&format!("{chunked}ffffffffffffffffff\r\n"), Some(413));
    }

    #[test]
    fn limits_have_an_answer_of_their_own() {
        check_refused(&format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD_MAX)), Some(431));
        check_refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1)), Some(431));
        let endless =
            format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;{}", "x".repeat(LINE_MAX));
        check_refused(&endless, Some(400));
    }

    #[test]
    fn a_peer_that_goes_is_told_apart_from_one_that_is_done() {
        assert!(read(b"").0.unwrap().is_none());
        check_refused("GET / HT", None);
        check_refused("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab", None);
        check_refused("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", None);
    }

    #[test]
    fn a_request_does_not_depend_on_how_it_arrives() {
        let wire = b"POST /a?b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n";
        let runtime = Builder::new_current_thread().build().unwrap();
        every_split(wire, |chunks| {
            let (mut near, mut far) = tokio::io::duplex(4);
            let sending = async {
                use tokio::io::AsyncWriteExt as _;
                for chunk in chunks {
                    near.write_all(chunk).await.unwrap();
                }
            };
            let mut buffer = BytesMut::new();
            let reading = async {
                let head = read_head(&mut far, &mut buffer).await.unwrap().unwrap();
                let body = read_body(&mut far, &mut buffer, head.body_length().unwrap()).await.unwrap();
                assert_eq!((head.method(), head.path(), head.target()), ("POST", "/a", "/a?b"));
                assert_eq!(
                    (&body.plain[..], [&head.wire[..], &body.wire].concat()),
                    (&b"abc"[..], wire.to_vec())
                );
            };
            runtime.block_on(async { tokio::join!(sending, reading) });
        });
    }

    #[test]
    fn connection_words_are_read_from_lists_in_any_case() {
        let head =
            |headers: &str| Head::parse(format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n").into()).unwrap();
        assert!(head("a: b").keeps_alive());
        assert!(!head("Connection: foo, Close").keeps_alive());
        assert!(head("expect: 100-Continue").expects_continue());
        assert!(!Head::parse("GET / HTTP/1.0\r\n\r\n".into()).unwrap().keeps_alive());
    }
}
