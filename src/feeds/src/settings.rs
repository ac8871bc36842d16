//! The `[[feeds]]` of the daemon's configuration.

use std::collections::BTreeSet;
use std::path::PathBuf;

use estoppel_evidence::Sha256;
use serde::Deserialize;

use crate::document::Format;
use crate::event::Event;
use crate::secret::{self, SecretUrl};
use crate::sink::SinkError;
use crate::sink::connect::Endpoint;
use crate::sink::post::{Post, Sender};

/// Most feeds of one daemon: each has a thread.
pub const FEEDS_MAX: usize = 16;
/// Most entries that are read, told and delivered at a time.
const BATCH_MAX: usize = 1_000;

/// One feed. Whoever edits it decides who is told what receipts say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedSettings {
    /// Name in metrics and of the cursor. A feed with another name begins anew.
    pub name: String,
    /// `ocsf`, `ecs`, `notice`, or, with `shape = "otlp"`, `otlp_traces`, `otlp_metrics` or `otlp_logs`.
    pub format: Format,
    /// Where a feed without a cursor begins. Default `start`.
    #[serde(default)]
    pub from: Begin,
    /// Which events it tells: `hold`, `decision`, `block`, `act`, `policy`, `bypass`, `alert`, `finding`. Default: all that the format has.
    pub events: Option<Vec<Event>>,
    /// Where documents go: exactly one of `file`, `stdout`, `syslog`, `http`, `webhook`, `slack`.
    pub to: To,
    /// Most entries in one delivery, 1 to 1,000. Default 256.
    #[serde(default = "batch")]
    pub batch: usize,
    /// How long a delivery waits for further entries. Default 200 ms.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// Wait after a first failure; doubled after each further one, with jitter. Default 500 ms.
    #[serde(default = "retry_min_ms")]
    pub retry_min_ms: u64,
    /// Longest wait between tries. A feed never gives up. Default 60,000 ms.
    #[serde(default = "retry_max_ms")]
    pub retry_max_ms: u64,
}

/// Where a feed without a cursor begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With the first entry that the journal has.
    #[default]
    Start,
    /// With what comes after the feed is first started; what was before is never told.
    Now,
}

/// The sink: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct To {
    pub file: Option<FileTo>,
    /// `true`: one document a line on the daemon's standard output.
    pub stdout: Option<bool>,
    pub syslog: Option<SyslogTo>,
    pub http: Option<HttpTo>,
    pub webhook: Option<HookTo>,
    pub slack: Option<HookTo>,
}

/// A file, one document a line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTo {
    /// The file. Older ones are beside it, `.1` being the newest of them.
    pub path: PathBuf,
    /// A file that would grow beyond this is renamed first. Default 64 MiB.
    #[serde(default = "rotate_bytes")]
    pub rotate_bytes: u64,
    /// How many older files are kept, at most 1,000. Default 8.
    #[serde(default = "keep")]
    pub keep: u32,
}

/// Syslog by RFC 5424, framed by octet counting (RFC 6587, RFC 5425).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogTo {
    /// `tcp://host:port`, `tls://host:port` or `unix:/path` of a stream socket.
    pub address: String,
    /// 0 to 23. Default 13, log audit.
    #[serde(default = "facility")]
    pub facility: u8,
    /// PEM certificates that are trusted instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// Longest a connection or a write may take. Default 30,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// A collector that takes batches by POST.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTo {
    /// `http://` or `https://`, with the whole path.
    pub url: String,
    /// How batches look, and how a token is sent.
    pub shape: Shape,
    /// With `shape = "otlp"` alone: `protobuf` or `json`. Default `protobuf`, which every collector takes.
    pub encoding: Option<Encoding>,
    /// `none` or `gzip`. Default `none`: a collector that does not take gzip answers 415 or 400, and then the feed waits.
    #[serde(default)]
    pub compression: Compression,
    /// File with the token, mode 0600; read again when the collector refuses it. Whoever reads it can write to the collector.
    pub token_file: Option<PathBuf>,
    /// PEM certificates that are trusted instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// Longest one delivery may take. Default 30,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// A receiver of messages: of single events by signed POST (`webhook`), or of lines of text as Slack takes them (`slack`).
/// Exactly one of `url`, `url_file` and `url_env` says where; whoever knows the URL can write there, and it is in no log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookTo {
    pub url: Option<SecretUrl>,
    /// File with the URL, mode 0600; read again when the receiver refuses it.
    pub url_file: Option<PathBuf>,
    /// Name of the environment variable with the URL.
    pub url_env: Option<String>,
    /// Of a `webhook`: file with `whsec_` and 24 to 64 bytes in base64, mode 0600. Whoever reads it can make events that look
    /// like ours. Several, one a line, at most 4: each signs, so that a receiver can be given another one beforehand.
    pub secret_file: Option<PathBuf>,
    /// The same from an environment variable of this name.
    pub secret_env: Option<String>,
    /// PEM certificates that are trusted instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// Longest one message may take. Default 30,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// What a collector expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// HTTP Event Collector, `/services/collector/event`; `Authorization: Splunk …`.
    SplunkHec,
    /// Logs intake, `/api/v2/logs`; `DD-API-KEY`.
    Datadog,
    /// `/<index>/_bulk`; `Authorization: ApiKey …`. Documents are created under their key, so copies leave no second one.
    ElasticBulk,
    /// One document a line; `Authorization: Bearer …`.
    Ndjson,
    /// OTLP over HTTP: `/v1/traces`, `/v1/metrics` or `/v1/logs`; `Authorization: Bearer …`.
    Otlp,
}

/// What a batch is packed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    /// `Content-Encoding: gzip`.
    Gzip,
}

/// The two encodings of OTLP over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}

fn batch() -> usize {
    256
}

fn linger_ms() -> u64 {
    200
}

fn retry_min_ms() -> u64 {
    500
}

fn retry_max_ms() -> u64 {
    60_000
}

fn rotate_bytes() -> u64 {
    64 << 20
}

fn keep() -> u32 {
    8
}

fn facility() -> u8 {
    13
}

fn timeout_ms() -> u64 {
    30_000
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// Key path, as in `feeds[1].to.http.url`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Every error, in order. Files that are named are not opened here.
pub fn check(feeds: &[FeedSettings]) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    if feeds.len() > FEEDS_MAX {
        errors
            .push(SettingsError { key: "feeds".into(), problem: format!("at most {FEEDS_MAX} are allowed") });
    }
    for (i, feed) in feeds.iter().enumerate() {
        let mut wrong = |key: &str, problem: String| {
            errors.push(SettingsError { key: format!("feeds[{i}].{key}"), problem });
        };
        if !is_name(&feed.name) {
            wrong("name", "must be 1 to 64 characters of a-z, 0-9, `-` and `_`".into());
        }
        if !names.insert(&feed.name) {
            wrong("name", format!("`{}` is the name of an earlier feed", feed.name));
        }
        if !(1..=BATCH_MAX).contains(&feed.batch) {
            wrong("batch", "must be between 1 and 1,000".into());
        }
        for (key, value, min, max) in [
            ("linger_ms", feed.linger_ms, 0, 60_000),
            ("retry_min_ms", feed.retry_min_ms, 1, 60_000),
            ("retry_max_ms", feed.retry_max_ms, feed.retry_min_ms, 3_600_000),
        ] {
            if !(min..=max).contains(&value) {
                wrong(key, format!("must be between {min} and {max}"));
            }
        }
        let otlp = feed.to.http.as_ref().is_some_and(|http| http.shape == Shape::Otlp);
        if otlp != feed.format.is_otlp() {
            wrong(
                "format",
                "`otlp_traces`, `otlp_metrics` and `otlp_logs` go with `shape = \"otlp\"`, and with nothing else"
                    .into(),
            );
        }
        if feed.events.as_ref().is_some_and(|events| events.is_empty() || feed.format.tells_calls_alone()) {
            wrong("events", "must name some, and has no effect on spans and measurements".into());
        }
        if feed.to.slack.is_some() && feed.format != Format::Notice {
            wrong("format", "must be `notice` for `slack`".into());
        }
        for (key, problem) in feed.to.problems() {
            wrong(&format!("to{key}"), problem);
        }
    }
    let stdouts = feeds.iter().filter(|feed| feed.to.stdout.is_some()).count();
    if stdouts > 1 {
        errors.push(SettingsError { key: "feeds".into(), problem: "only one may go to stdout".into() });
    }
    let mut paths = BTreeSet::new();
    for (i, file) in feeds.iter().enumerate().filter_map(|(i, feed)| Some((i, feed.to.file.as_ref()?))) {
        if !paths.insert(&file.path) {
            let problem = "is the file of an earlier feed".into();
            errors.push(SettingsError { key: format!("feeds[{i}].to.file.path"), problem });
        }
    }
    errors
}

impl To {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let given = [
            self.file.is_some(),
            self.stdout.is_some(),
            self.syslog.is_some(),
            self.http.is_some(),
            self.webhook.is_some(),
            self.slack.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let names = "`file`, `stdout`, `syslog`, `http`, `webhook`, `slack`";
            problems.push(("", format!("must have exactly one of {names}")));
        }
        if let Some(problem) = self.webhook.as_ref().and_then(|to| to.problem(true)) {
            problems.push((".webhook", problem));
        }
        if let Some(problem) = self.slack.as_ref().and_then(|to| to.problem(false)) {
            problems.push((".slack", problem));
        }
        if self.stdout == Some(false) {
            problems.push((".stdout", "must be true, or left out".into()));
        }
        if let Some(file) = &self.file {
            if file.rotate_bytes < 4 << 10 {
                problems.push((".file.rotate_bytes", "must be at least 4,096".into()));
            }
            if file.keep > 1_000 {
                problems.push((".file.keep", "must be at most 1,000".into()));
            }
        }
        if let Some(syslog) = &self.syslog {
            if let Err(problem) = crate::sink::syslog::Address::parse(&syslog.address) {
                problems.push((".syslog.address", problem));
            }
            if syslog.facility > 23 {
                problems.push((".syslog.facility", "must be at most 23".into()));
            }
            if syslog.ca.is_some() && !syslog.address.starts_with("tls://") {
                problems.push((".syslog.ca", "has no effect without a `tls://` address".into()));
            }
        }
        if let Some(http) = &self.http {
            if let Err(problem) = Endpoint::parse(&http.url) {
                problems.push((".http.url", problem));
            }
            if http.ca.is_some() && !http.url.starts_with("https://") {
                problems.push((".http.ca", "has no effect without an `https://` URL".into()));
            }
            if http.encoding.is_some() && http.shape != Shape::Otlp {
                problems.push((".http.encoding", "has no effect without `shape = \"otlp\"`".into()));
            }
        }
        problems
    }
}

impl HookTo {
    /// Opens nothing but the files that are named.
    pub(crate) fn post(&self, sender: Sender) -> Result<Post, SinkError> {
        let (url, from) = match (&self.url, &self.url_file, &self.url_env) {
            (Some(url), _, _) => (url.0.clone(), None),
            (None, Some(path), _) => (secret::read(path)?, Some(path.clone())),
            (None, None, Some(name)) => (secret::variable(name)?, Some(PathBuf::from(name))),
            (None, None, None) => return Err(SinkError::Tls("there is no URL".into())),
        };
        if let (Some(path), Err(problem)) = (from, Endpoint::parse(&url)) {
            return Err(SinkError::Token { path, problem });
        }
        Post::new(sender, &url, self.ca.as_deref(), self.timeout_ms)
    }

    /// Digest of what names the receiver in the settings: another one names another receiver. What a file or variable has in it
    /// does not count, as it is replaced where a secret is.
    pub fn address(&self) -> Sha256 {
        let said = match (&self.url, &self.url_file, &self.url_env) {
            (Some(url), _, _) => format!("url {}", url.0),
            (None, Some(path), _) => format!("url_file {}", path.display()),
            (None, None, name) => format!("url_env {}", name.as_deref().unwrap_or_default()),
        };
        Sha256::of(said.as_bytes())
    }

    /// What is wrong with it, if something is; `is_signed` is it of a `webhook`. Files that are named are not opened here.
    pub fn problem(&self, is_signed: bool) -> Option<String> {
        let problem = match (&self.url, &self.url_file, &self.url_env) {
            (Some(url), None, None) => {
                Endpoint::parse(&url.0).err().map(|problem| format!("`url` {problem}"))
            }
            (None, Some(_), None) | (None, None, Some(_)) => None,
            _ => Some("must have exactly one of `url`, `url_file` and `url_env`".into()),
        };
        let secret = match (is_signed, &self.secret_file, &self.secret_env) {
            (true, None, None) => Some("must have a `secret_file` or `secret_env` to sign with".into()),
            (true, Some(_), Some(_)) => Some("must have one of `secret_file` and `secret_env`".into()),
            (false, None, None) | (true, _, _) => None,
            (false, _, _) => Some("has nothing to sign, so no `secret_file` or `secret_env`".into()),
        };
        problem.or(secret)
    }
}

/// Whether a text can be the name of a feed or destination: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(feeds: serde_json::Value) -> Vec<String> {
        let feeds: Vec<FeedSettings> = serde_json::from_value(feeds).unwrap();
        check(&feeds).into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn every_error_is_reported_at_once_with_its_key() {
        let found = keys(serde_json::json!([
            { "name": "A", "format": "ocsf", "to": {}, "batch": 0 },
            { "name": "b", "format": "ecs", "to": { "file": { "path": "x", "rotate_bytes": 1 } }, "retry_max_ms": 1 },
            { "name": "b", "format": "ecs", "to": { "file": { "path": "x" }, "stdout": true } },
            { "name": "c", "format": "ocsf", "to": { "stdout": true } },
            { "name": "d", "format": "ocsf", "to": { "http": { "url": "ftp://x", "shape": "ndjson", "ca": "x", "encoding": "json" } } },
            { "name": "e", "format": "ocsf", "to": { "syslog": { "address": "udp://x:1", "facility": 24 } } },
            { "name": "f", "format": "otlp_traces", "to": { "file": { "path": "y" } } },
            { "name": "g", "format": "ecs", "to": { "http": { "url": "http://x", "shape": "otlp" } } },
            { "name": "h", "format": "notice", "events": [], "to": { "webhook": { "url": "http://x" } } },
            { "name": "i", "format": "ocsf", "to": { "slack": { "url": "http://x", "url_file": "y" } } },
        ]));
        assert_eq!(
            found,
            [
                "feeds[0].name",
                "feeds[0].batch",
                "feeds[0].to",
                "feeds[1].retry_max_ms",
                "feeds[1].to.file.rotate_bytes",
                "feeds[2].name",
                "feeds[2].to",
                "feeds[4].to.http.url",
                "feeds[4].to.http.ca",
                "feeds[4].to.http.encoding",
                "feeds[5].to.syslog.address",
                "feeds[5].to.syslog.facility",
                "feeds[6].format",
                "feeds[7].format",
                "feeds[8].events",
                "feeds[8].to.webhook",
                "feeds[9].format",
                "feeds[9].to.slack",
                "feeds",
                "feeds[2].to.file.path",
            ]
        );
    }

    #[test]
    fn the_url_of_a_channel_is_printed_nowhere() {
        let url = |url: &str| serde_json::json!([{ "name": "a", "format": "notice", "to": { "slack": { "url": url } } }]);
        let feeds: Vec<FeedSettings> =
            serde_json::from_value(url("https://hooks.example/services/T/B/hush")).unwrap();
        assert!(!format!("{feeds:?}").contains("hush"));
        let wrong: Vec<FeedSettings> =
            serde_json::from_value(url("https//hooks.example/hush and more")).unwrap();
        let said = format!("{:?}", check(&wrong));
        assert!(said.contains("is not a URL") && !said.contains("hush"), "{said}");
    }

    #[test]
    fn what_is_right_passes() {
        let feeds = serde_json::json!([
            { "name": "a", "format": "ocsf", "to": { "stdout": true } },
            { "name": "b", "format": "ecs", "to": { "http": { "url": "https://siem.example:8088/services/collector/event", "shape": "splunk_hec" } } },
            { "name": "c", "format": "ecs", "to": { "syslog": { "address": "tls://siem.example:6514" } } },
            { "name": "d", "format": "ecs", "to": { "syslog": { "address": "unix:/run/log.sock" } }, "from": "now" },
            { "name": "e", "format": "notice", "events": ["hold", "act"], "to": { "webhook": { "url_file": "u", "secret_file": "s" } } },
            { "name": "f", "format": "notice", "to": { "slack": { "url": "https://hooks.example/services/T/B/x" } } },
        ]);
        assert_eq!(keys(feeds), [""; 0]);
    }
}
