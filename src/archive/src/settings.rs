//! The table `[archive]`.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::lock::Mode;

/// Where copies go and how they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// `https://` and the host of the S3 service; `http://` only on loopback. Whoever answers there gets the evidence.
    pub endpoint: String,
    /// Default `us-east-1`.
    #[serde(default = "region")]
    pub region: String,
    /// A bucket with object lock. What has none is refused before anything is sent.
    pub bucket: String,
    /// Before the keys of objects, as in `gateway-1/`. None by default.
    #[serde(default)]
    pub prefix: String,
    /// `path`: the bucket is in the path. `host`: it is in the name of the host. Default `path`.
    #[serde(default)]
    pub style: Style,
    /// `governance`: who has the right to can shorten a retention. `compliance`: nobody can, ever.
    pub mode: Mode,
    /// How long copies are kept, days, 1 to 36,500.
    pub retain_days: u32,
    /// Puts a legal hold on each copy, which keeps it until somebody ends the hold. Default false.
    #[serde(default)]
    pub legal_hold: bool,
    /// Where the access key comes from. Default: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[serde(default)]
    pub credentials: CredentialsFrom,
    /// Certificates (PEM) that are trusted instead of the web's roots.
    pub ca: Option<PathBuf>,
    /// Who signs what is done in the chain of custody of each bundle. None by default.
    pub custody: Option<CustodySettings>,
    /// Size of the parts of large files, MiB, 5 to 64. What is smaller is sent at once. Default 16.
    #[serde(default = "part_mib")]
    pub part_mib: u64,
    /// A request that takes longer has failed. Default 60,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// How often the daemon looks for what is sealed. Default 10 s.
    #[serde(default = "scan_seconds")]
    pub scan_seconds: u64,
    /// First and longest wait of the daemon after a failure; waits double, with jitter. Default 1,000 and 300,000 ms.
    #[serde(default = "retry_min_ms")]
    pub retry_min_ms: u64,
    #[serde(default = "retry_max_ms")]
    pub retry_max_ms: u64,
}

/// How a bucket is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    #[default]
    Path,
    Host,
}

/// Where the access key comes from: the environment, if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsFrom {
    /// A file that only its owner can read, with what `command` would print. Read again for each pass.
    pub file: Option<PathBuf>,
    /// A program that prints them, as `credential_process` of the AWS command line does.
    pub command: Option<CommandSettings>,
}

/// A program without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// It is killed when it takes longer. Default 10,000 ms.
    #[serde(default = "command_timeout_ms")]
    pub timeout_ms: u64,
}

/// Whose hand archives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodySettings {
    /// A private key (PEM) that only its owner can read. It signs nothing else.
    pub key: PathBuf,
    /// Who that is, in words.
    pub actor: String,
}

fn region() -> String {
    "us-east-1".into()
}

fn part_mib() -> u64 {
    16
}

fn timeout_ms() -> u64 {
    60_000
}

fn scan_seconds() -> u64 {
    10
}

fn retry_min_ms() -> u64 {
    1_000
}

fn retry_max_ms() -> u64 {
    300_000
}

fn command_timeout_ms() -> u64 {
    10_000
}

impl ArchiveSettings {
    /// What is wrong with it, each with its key.
    pub fn check(&self) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        wrong.extend(endpoint_refused(&self.endpoint).map(|why| format!("archive.endpoint: {why}")));
        let is_plain = |text: &str, more: &str, most: usize| {
            text.len() <= most && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if self.bucket.is_empty() || !is_plain(&self.bucket, "._-", 255) || self.bucket.starts_with('.') {
            wrong.push("archive.bucket: must be 1 to 255 of letters, digits and `._-`".into());
        }
        if self.region.is_empty() || !is_plain(&self.region, "-", 64) {
            wrong.push("archive.region: must be 1 to 64 of letters, digits and `-`".into());
        }
        let has_dots = self.prefix.split('/').any(|part| matches!(part, "." | ".."));
        if !is_plain(&self.prefix, "._/-", 512) || self.prefix.starts_with('/') || has_dots {
            wrong.push("archive.prefix: must be at most 512 of letters, digits and `._/-`".into());
        }
        let ranges = [
            ("retain_days", u64::from(self.retain_days), 1, 36_500),
            ("part_mib", self.part_mib, 5, 64),
            ("timeout_ms", self.timeout_ms, 100, 3_600_000),
            ("scan_seconds", self.scan_seconds, 1, 86_400),
            ("retry_min_ms", self.retry_min_ms, 1, 3_600_000),
            ("retry_max_ms", self.retry_max_ms, self.retry_min_ms, 86_400_000),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                wrong.push(format!("archive.{key}: must be between {least} and {most}"));
            }
        }
        let from = &self.credentials;
        if from.file.is_some() && from.command.is_some() {
            wrong.push("archive.credentials: `file` or `command`, not both".into());
        }
        if from.command.as_ref().is_some_and(|command| command.argv.is_empty() || command.timeout_ms == 0) {
            wrong.push("archive.credentials.command: needs a program, and time".into());
        }
        let actor = self.custody.as_ref().map(|custody| custody.actor.chars().count());
        if actor.is_some_and(|length| !(1..=256).contains(&length)) {
            wrong.push("archive.custody.actor: must be 1 to 256 characters".into());
        }
        wrong
    }

    pub(crate) fn part_bytes(&self) -> u64 {
        self.part_mib << 20
    }
}

/// Evidence and a signature that is good for minutes go there.
fn endpoint_refused(endpoint: &str) -> Option<String> {
    let Ok(url) = endpoint.parse::<Url>() else { return Some("is not a URL".into()) };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Some("must not hold a name, a password or a query".into());
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => None,
        ("http", Some(host)) => {
            let is_loopback = match host {
                url::Host::Domain(name) => name == "localhost",
                url::Host::Ipv4(ip) => IpAddr::from(ip).is_loopback(),
                url::Host::Ipv6(ip) => IpAddr::from(ip).is_loopback(),
            };
            (!is_loopback).then(|| "without TLS (`https://`) only on loopback".into())
        }
        _ => Some("must begin with `https://`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Result<ArchiveSettings, String> {
        let text = format!(
            r#"{{"endpoint":"https://s3.example","bucket":"b","mode":"compliance","retain_days":1{more}}}"#
        );
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_text_goes_to_loopback_alone() {
        for url in ["https://s3.example", "http://127.0.0.1:9", "http://localhost", "http://[::1]:1/s3"] {
            assert_eq!(endpoint_refused(url), None, "{url}");
        }
        for url in [
            "http://s3.example",
            "http://10.0.0.1",
            "http://127.0.0.1.example",
            "ftp://127.0.0.1",
            "https://a:b@s3.example",
            "https://s3.example/?x=1",
            "s3.example",
            "",
        ] {
            assert!(endpoint_refused(url).is_some(), "{url}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(settings("").unwrap().check(), Vec::<String>::new());
        for (more, key) in [
            (r#","prefix":"/a""#, "prefix"),
            (r#","prefix":"a/../b""#, "prefix"),
            (r#","region":"""#, "region"),
            (r#","part_mib":4"#, "part_mib"),
            (r#","part_mib":65"#, "part_mib"),
            (r#","timeout_ms":0"#, "timeout_ms"),
            (r#","retry_min_ms":10,"retry_max_ms":9"#, "retry_max_ms"),
            (r#","credentials":{"file":"f","command":{"argv":["x"]}}"#, "credentials"),
            (r#","credentials":{"command":{"argv":[]}}"#, "credentials.command"),
            (r#","custody":{"key":"k","actor":""}"#, "custody.actor"),
        ] {
            let wrong = settings(more).unwrap().check();
            assert!(
                wrong.len() == 1 && wrong[0].starts_with(&format!("archive.{key}:")),
                "{more}: {wrong:?}"
            );
        }
        for more in [r#","buckets":"b""#, r#","credentials":{"key":"k"}"#, r#","style":"dns""#] {
            assert!(settings(more).is_err(), "{more}");
        }
    }
}
