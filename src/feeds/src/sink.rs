//! Where documents go. A sink takes documents in order and says how many of them it has; it keeps nothing for later but what
//! a broken connection could have lost.

pub(crate) mod connect;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod post;
pub(crate) mod shape;
pub(crate) mod slack;
pub(crate) mod stdout;
pub(crate) mod syslog;
pub(crate) mod webhook;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::post::Sender;
use crate::document::Document;
use crate::settings::FeedSettings;

/// Why documents could not be delivered; always tried again.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("could not {what} `{path}`", path = path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("could not write to the standard output")]
    Stdout(#[source] io::Error),
    #[error("could not reach `{address}`")]
    Connect { address: String, source: io::Error },
    #[error("the connection to `{address}` broke")]
    Broken { address: String, source: io::Error },
    #[error("`{address}` did not answer within {seconds} s")]
    Late { address: String, seconds: u64 },
    #[error("the collector answered {status}: {text}")]
    Status { status: u16, text: String, retry_after: Option<Duration> },
    #[error(
        "the collector has not taken a body in gzip yet, perhaps it takes none; it answered {status}: {text}"
    )]
    Compressed { status: u16, text: String, retry_after: Option<Duration> },
    #[error("{refused} of {sent} documents were not taken: {text}")]
    Partial { refused: usize, sent: usize, text: String },
    #[error("documents could not be encoded")]
    Encode(#[source] serde_json::Error),
    #[error("documents could not be compressed")]
    Pack(#[source] io::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("`{path}` cannot be used: {problem}", path = path.display())]
    Token { path: PathBuf, problem: String },
}

impl SinkError {
    /// How long the collector asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::Compressed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is the documents that the collector does not want, so that others may pass.
    pub fn is_about_documents(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }
}

/// What became of the documents of one delivery.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Places of those that must be tried again.
    pub left: Vec<usize>,
    /// Places of those that the collector will never take, and why.
    pub refused: Vec<(usize, String)>,
    /// How many more the collector will never take, without saying which.
    pub unnamed: u64,
    /// Why something is left.
    pub error: Option<SinkError>,
}

impl Delivery {
    /// Nothing of `sent` documents was taken.
    pub fn failed(sent: usize, error: SinkError) -> Self {
        Self { left: (0..sent).collect(), error: Some(error), ..Self::default() }
    }

    /// Everything or nothing was taken.
    pub fn whole(sent: usize, result: Result<(), SinkError>) -> Self {
        match result {
            Ok(()) => Self::default(),
            Err(error) => Self::failed(sent, error),
        }
    }
}

/// One sink.
pub(crate) enum Sink {
    File(file::FileSink),
    Stdout(stdout::StdoutSink),
    Syslog(Box<syslog::SyslogSink>),
    Http(Box<http::HttpSink>),
    Webhook(Box<webhook::WebhookSink>),
    Slack(Box<slack::SlackSink>),
}

impl Sink {
    /// Reads what the settings name and opens nothing else.
    pub fn new(settings: &FeedSettings) -> Result<Self, SinkError> {
        let to = &settings.to;
        if let Some(webhook) = &to.webhook {
            return Ok(Self::Webhook(Box::new(webhook::WebhookSink::new(webhook, Sender::Gateway)?)));
        }
        if let Some(slack) = &to.slack {
            return Ok(Self::Slack(Box::new(slack::SlackSink::new(slack, Sender::Gateway)?)));
        }
        Ok(match (&to.file, &to.syslog, &to.http) {
            (Some(file), _, _) => Self::File(file::FileSink::new(file)),
            (_, Some(syslog), _) => Self::Syslog(Box::new(syslog::SyslogSink::new(syslog)?)),
            (_, _, Some(http)) => Self::Http(Box::new(http::HttpSink::new(http, settings.format)?)),
            _ => Self::Stdout(stdout::StdoutSink),
        })
    }

    /// Gives documents to the collector.
    pub async fn deliver(&mut self, documents: &[Document]) -> Delivery {
        match self {
            Self::File(sink) => Delivery::whole(documents.len(), sink.deliver(documents)),
            Self::Stdout(sink) => Delivery::whole(documents.len(), sink.deliver(documents)),
            Self::Syslog(sink) => Delivery::whole(documents.len(), sink.deliver(documents).await),
            Self::Http(sink) => sink.deliver(documents).await,
            Self::Webhook(sink) => sink.deliver(documents).await,
            Self::Slack(sink) => sink.deliver(documents).await,
        }
    }

    /// Makes durable what was taken, as far as that is ours to do.
    pub fn flush(&mut self) -> Result<(), SinkError> {
        match self {
            Self::File(sink) => sink.flush(),
            _ => Ok(()),
        }
    }
}
