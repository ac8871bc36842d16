//! Asking the daemon's admin listener: one HTTP/1.1 request over one connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use estoppel_evidence::Reason;
use serde_json::Value;

use crate::output::Failure;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a daemon is waited for.
#[derive(Clone, Copy)]
struct Patience {
    /// Until it takes the connection.
    connect: Duration,
    /// Without a byte: what it is asked for takes its time.
    silence: Duration,
    /// In all, however its bytes trickle in.
    total: Duration,
}

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(3),
    silence: Duration::from_secs(60),
    total: Duration::from_secs(120),
};

/// Sends a request without a body and gives the JSON answer.
pub fn ask(address: &str, method: &str, path: &str) -> Result<Value, Failure> {
    answered(send(address, method, path)?)
}

/// Posts a document and gives the JSON answer.
pub fn tell(address: &str, path: &str, document: &Value) -> Result<Value, Failure> {
    answered(exchange(address, "POST", path, document.to_string().as_bytes())?)
}

fn answered((status, body): (u16, Vec<u8>)) -> Result<Value, Failure> {
    let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status < 400 {
        return Ok(value);
    }
    let code = value["code"].as_str().unwrap_or("INTERNAL").to_string();
    let message =
        value["detail"].as_str().or(value["title"].as_str()).unwrap_or("the daemon refused").to_string();
    Err(match Reason::parse(&code) {
        Some(reason) => Failure::reason(reason, message),
        None => Failure::runtime(&code, message),
    })
}

/// `http://host:port/` as browsers show it is the same address.
fn authority(address: &str) -> &str {
    address.strip_prefix("http://").map_or(address, |rest| rest.strip_suffix('/').unwrap_or(rest))
}

/// Sends a request without a body and gives status and body.
pub fn send(address: &str, method: &str, path: &str) -> Result<(u16, Vec<u8>), Failure> {
    exchange(address, method, path, b"")
}

fn exchange(address: &str, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
    let address = authority(address);
    let unreachable = |why: String| {
        Failure::reason(Reason::AdminUnreachable, format!("no daemon answers at {address}: {why}")).hint(
            "give its admin address with --admin, or the journal folder with --journal when no daemon runs",
        )
    };
    let target = address
        .to_socket_addrs()
        .map_err(|error| unreachable(error.to_string()))?
        .next()
        .ok_or_else(|| unreachable("the name has no address".into()))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = talk(target, &[head.as_bytes(), body].concat(), PATIENCE);
    let answer = answer.map_err(|error| unreachable(error.to_string()))?;
    parse(&answer).ok_or_else(|| unreachable("what answers there is not the admin listener".into()))
}

/// Sends `request` and reads to the end, or not for longer than there is patience for.
fn talk(target: SocketAddr, request: &[u8], patience: Patience) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience.total;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(late()),
        left => Ok(left.min(patience.silence)),
    };
    let mut stream = TcpStream::connect_timeout(&target, patience.connect)?;
    let mut rest = request;
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left()?))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => rest = &rest[taken..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while answer.len() < ANSWER_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(taken) => answer.extend_from_slice(&piece[..taken]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// What the system calls by another name when the time of a socket is over.
fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it takes too long to answer")
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if chunked { Some((status, unchunk(body)?)) } else { Some((status, body.to_vec())) }
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(body.get(end + 2..end + 2 + size)?);
        body = body.get(end + 2 + size + 2..)?;
    }
}

/// A path segment with everything unusual encoded.
pub fn encoded(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_both_framings() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Some((200, b"ok".to_vec())));
        let chunked = b"HTTP/1.1 404 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), Some((404, b"ok".to_vec())));
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn whoever_answers_byte_by_byte_is_not_waited_for_without_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It goes on for as long as somebody listens.
        let dripping = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let patience = Patience { total: Duration::from_millis(100), ..PATIENCE };
        let error = talk(address, b"GET / HTTP/1.1\r\n\r\n", patience).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        dripping.join().unwrap();
    }

    #[test]
    fn an_address_may_be_written_as_a_url() {
        for address in ["127.0.0.1:9464", "http://127.0.0.1:9464", "http://127.0.0.1:9464/"] {
            assert_eq!(authority(address), "127.0.0.1:9464");
        }
    }

    #[test]
    fn run_names_are_encoded() {
        assert_eq!(encoded("nightly/42:a"), "nightly%2F42%3Aa");
    }
}
