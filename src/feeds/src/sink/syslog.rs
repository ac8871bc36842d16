//! Syslog: RFC 5424 messages over a stream, each with its length before it (RFC 6587 section 3.4.1, RFC 5425).
//!
//! Syslog acknowledges nothing. What was written to a connection that then broke may or may not have arrived, so the newest
//! [`RESEND_BYTES_MAX`] of it are sent again on the next one. What a receiver had taken and then lost nobody can know.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use estoppel_evidence::time::UnixMicros;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::SinkError;
use super::connect::{Stream, Tls};
use crate::document::Document;
use crate::settings::SyslogTo;

/// Most bytes that are kept for a next connection.
const RESEND_BYTES_MAX: usize = 1 << 20;

/// Where a receiver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Address {
    /// Reads `tcp://host:port`, `tls://host:port` or `unix:/path`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("`unix:` takes a whole path".into())
            };
        }
        let (tls, rest) = match (text.strip_prefix("tcp://"), text.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("must start with `tcp://`, `tls://` or `unix:`".into()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or("has no port")?;
        let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            Err("has no host".into())
        } else {
            Ok(Self::Tcp { host: host.into(), port, tls })
        }
    }
}

/// A receiver.
pub(crate) struct SyslogSink {
    address: Address,
    text: String,
    tls: Option<Tls>,
    facility: u8,
    timeout: Duration,
    stream: Option<Stream>,
    /// What was sent last, the newest at the end.
    sent: VecDeque<Vec<u8>>,
    sent_bytes: usize,
}

impl SyslogSink {
    pub fn new(to: &SyslogTo) -> Result<Self, SinkError> {
        let address = Address::parse(&to.address).map_err(SinkError::Tls)?;
        let tls = match &address {
            Address::Tcp { host, tls: true, .. } => Some(Tls::new(host, to.ca.as_deref())?),
            _ => None,
        };
        Ok(Self {
            address,
            text: to.address.clone(),
            tls,
            facility: to.facility,
            timeout: Duration::from_millis(to.timeout_ms),
            stream: None,
            sent: VecDeque::new(),
            sent_bytes: 0,
        })
    }

    pub async fn deliver(&mut self, documents: &[Document]) -> Result<(), SinkError> {
        let messages: Vec<Vec<u8>> =
            documents.iter().map(|document| message(self.facility, document)).collect();
        let late = || SinkError::Late { address: self.text.clone(), seconds: self.timeout.as_secs() };
        let (late, timeout) = (late(), self.timeout);
        let result = tokio::time::timeout(timeout, self.send(&messages)).await.unwrap_or(Err(late));
        match &result {
            Ok(()) => self.keep(messages),
            Err(_) => self.stream = None,
        }
        result
    }

    async fn send(&mut self, messages: &[Vec<u8>]) -> Result<(), SinkError> {
        let address = self.text.clone();
        let broken = |source| SinkError::Broken { address: address.clone(), source };
        if let Some(stream) = &mut self.stream
            && has_ended(stream).await
        {
            self.stream = None;
        }
        if self.stream.is_none() {
            let connected = match &self.address {
                Address::Tcp { host, port, .. } => Stream::tcp(host, *port, self.tls.as_ref()).await,
                Address::Unix(path) => Stream::unix(path).await,
            };
            let mut stream =
                connected.map_err(|source| SinkError::Connect { address: address.clone(), source })?;
            for message in &self.sent {
                stream.write_all(message).await.map_err(broken)?;
            }
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        for message in messages {
            stream.write_all(message).await.map_err(broken)?;
        }
        stream.flush().await.map_err(broken)
    }

    fn keep(&mut self, messages: Vec<Vec<u8>>) {
        for message in messages {
            self.sent_bytes += message.len();
            self.sent.push_back(message);
        }
        while self.sent_bytes > RESEND_BYTES_MAX
            && let Some(oldest) = self.sent.pop_front()
        {
            self.sent_bytes -= oldest.len();
        }
    }
}

/// Whether the receiver has closed. It sends nothing, so that whatever can be read is the end; a write would not show it.
async fn has_ended(stream: &mut Stream) -> bool {
    let mut byte = [0];
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        Poll::Ready(!matches!(Pin::new(&mut *stream).poll_read(cx, &mut buffer), Poll::Pending))
    })
    .await
}

/// `<length> <priority>1 <time> <host> <app> - <kind> - <document>`.
fn message(facility: u8, document: &Document) -> Vec<u8> {
    let severity = match document.severity {
        5 => 2,
        4 => 3,
        3 => 4,
        2 => 5,
        _ => 6,
    };
    let priority = u32::from(facility) * 8 + severity;
    let mut parts = document.instance.split('/');
    let host = parts.next().filter(|host| !host.is_empty()).unwrap_or("-");
    let process = parts.next().unwrap_or("-");
    let time = UnixMicros(document.time_us);
    let mut line = format!("<{priority}>1 {time} {host} estoppeld {process} - - ").into_bytes();
    line.extend_from_slice(&document.json);
    let mut message = format!("{} ", line.len()).into_bytes();
    message.append(&mut line);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, tls| Ok(Address::Tcp { host: host.into(), port: 6514, tls });
        assert_eq!(Address::parse("tcp://a.b:6514"), tcp("a.b", false));
        assert_eq!(Address::parse("tls://[::1]:6514"), tcp("::1", true));
        assert_eq!(Address::parse("unix:/run/log"), Ok(Address::Unix("/run/log".into())));
        for text in ["", "tcp://a", "tcp://:1", "tcp://a:x", "unix:log", "udp://a:1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_says_its_length_and_is_one_line() {
        let json = br#"{"a":"x\ny"}"#.to_vec();
        let document = Document {
            uid: "u".into(),
            instance: "gw.example/main/1".into(),
            time_us: 1_500_000,
            severity: 4,
            json,
        };
        let text = String::from_utf8(message(13, &document)).unwrap();
        assert_eq!(
            text,
            r#"77 <107>1 1970-01-01T00:00:01.500000Z gw.example estoppeld main - - {"a":"x\ny"}"#
        );
    }
}
