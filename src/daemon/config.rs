//! The daemon's configuration: file, then environment (`ESTOPPEL__JOURNAL__DIR=…`), then `--set journal.dir=…`.
//!
//! Each crate owns the types of its own part; this file composes them. Unknown keys are refused, and every error of
//! the file is reported at once, but that of types with another type in their place only the first is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use estoppel_archive::ArchiveSettings;
use estoppel_evidence::entry::{Build, Durability, SHADOWS_MAX, Sign};
use estoppel_evidence::{Instance, Reason, Sha256};
use estoppel_feeds::{AlertSettings, FeedSettings};
use estoppel_gateway::Settings;
use estoppel_gateway::packs::Packs;
use estoppel_gateway::settings::{Admin, COUNT_MAX, Database, Identity, Listener, Route, Server, Upstream};
use estoppel_journal::encryption::{BodyKeys, CommandHook, FileHook, KeyHook, OnKeyFailure};
use estoppel_journal::{KeyFileError, SystemClock};
use estoppel_policy::PolicyDocument;
use serde::Deserialize;

use crate::keyed;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub instance: InstanceConfig,
    pub journal: JournalConfig,
    #[serde(default)]
    pub keys: KeysConfig,
    /// What stored bodies are encrypted with. They are stored in clear by default.
    pub encryption: Option<EncryptionConfig>,
    pub policy: PolicyConfig,
    /// Policies that are asked about every call, too, and change nothing. At most 8, none by default.
    #[serde(default)]
    pub shadow: Vec<ShadowConfig>,
    #[serde(default)]
    pub packs: PacksConfig,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub listener: Vec<Listener>,
    pub admin: Option<Admin>,
    #[serde(default)]
    pub upstream: BTreeMap<String, Upstream>,
    #[serde(default)]
    pub route: Vec<Route>,
    #[serde(default)]
    pub database: Vec<Database>,
    #[serde(default)]
    pub identity: Identity,
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub feeds: Vec<FeedSettings>,
    #[serde(default)]
    pub alerts: Vec<AlertSettings>,
    #[serde(default)]
    pub state: StateConfig,
    /// Where sealed files are copied to. Nowhere by default.
    pub archive: Option<ArchiveSettings>,
}

/// Whose log this is: `<host>/<name>/<epoch>`. A journal folder belongs to one instance for good.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// Default `localhost`.
    pub host: String,
    /// Default `main`.
    pub name: String,
    /// Raised when a new journal is begun under the same name. Default 1.
    pub epoch: u32,
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self { host: "localhost".into(), name: "main".into(), epoch: 1 }
    }
}

/// Where and how evidence is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// Folder of the journal. Whoever can write it can destroy evidence, but not forge it without the keys.
    pub dir: PathBuf,
    /// With false calls are judged and forwarded, and nothing of them is recorded. Default true.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When a call counts as recorded: `memory`, `group` or `sync`. Default `group`.
    #[serde(default)]
    pub durability: Durability,
    /// Which entries are signed one by one: `each` or `checkpoint`. Default `each`.
    #[serde(default)]
    pub sign: Sign,
    /// Size of a segment file, MiB, at most 1,024. Default 64.
    #[serde(default = "segment_mib")]
    pub segment_mib: u64,
    /// Records that may wait for the writer. When it is full, records spill; when that is full too, calls are answered
    /// 503 `EVIDENCE_FULL`. Default 16,384.
    #[serde(default = "queue_entries")]
    pub queue_entries: usize,
    /// Spill file, better on another disk. None by default.
    pub spill: Option<PathBuf>,
    /// Size of the spill file, MiB, at least 3. Default 64.
    #[serde(default = "segment_mib")]
    pub spill_mib: u64,
    /// A checkpoint is signed at least this often while entries come in. Default 1,000 ms.
    #[serde(default = "checkpoint_ms")]
    pub checkpoint_ms: u64,
    /// Second place for the newest checkpoint, better on another disk: a journal that is shorter than it is refused at
    /// start. None by default.
    pub checkpoint_store: Option<PathBuf>,
    /// Most runs that may be open. Default 4,096.
    #[serde(default = "runs_max")]
    pub runs_max: usize,
    /// The run of calls that name none is sealed and replaced after this long. Default 3,600 s.
    #[serde(default = "ambient_seconds")]
    pub ambient_seconds: u64,
    /// Named runs without a call for this long are sealed. Default 86,400 s.
    #[serde(default = "run_idle_seconds")]
    pub run_idle_seconds: u64,
}

/// Where the keys are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Folder made by `estoppel keys init`. Default: `keys` in the journal's folder.
    pub dir: Option<PathBuf>,
    /// Makes the keys at the first start if there are none. Default false: in production keys are made on purpose.
    pub init: bool,
}

/// What stored bodies are encrypted with (spec/encryption.md): exactly one of `key_file` and `command`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionConfig {
    /// 64 hex digits, mode 0600. Whoever reads it can read all bodies that were stored with it.
    pub key_file: Option<PathBuf>,
    /// A program that wraps and unwraps keys. Whoever changes it can read what is stored from then on.
    pub command: Option<KeyCommand>,
    /// Earlier key files, by which bodies are still read. None by default.
    #[serde(default)]
    pub retired_key_files: Vec<PathBuf>,
    /// What becomes of calls whose bodies are to be stored while there is no key. Default `refuse`.
    #[serde(default)]
    pub on_failure: OnKeyFailure,
    /// How long one data key serves; the hook is asked for the next one at half of it. 60 to 86,400, default 3,600 s.
    #[serde(default = "data_key_seconds")]
    pub data_key_seconds: u64,
}

/// A program that holds a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCommand {
    /// The program and its arguments, started without a shell.
    pub argv: Vec<String>,
    /// Then it is killed. 1 to 60,000, default 5,000 ms.
    #[serde(default = "key_command_ms")]
    pub timeout_ms: u64,
}

/// Most earlier key files.
const RETIRED_MAX: usize = 16;

fn data_key_seconds() -> u64 {
    3_600
}

fn key_command_ms() -> u64 {
    5_000
}

impl EncryptionConfig {
    /// What is wrong with it.
    fn check(&self) -> Vec<&'static str> {
        let mut wrong = Vec::new();
        if self.key_file.is_some() == self.command.is_some() {
            wrong.push("encryption: needs one of `key_file` and `command`");
        }
        if let Some(command) = &self.command {
            if command.argv.first().is_none_or(String::is_empty) {
                wrong.push("encryption.command.argv: names no program");
            }
            if !(1..=60_000).contains(&command.timeout_ms) {
                wrong.push("encryption.command.timeout_ms: must be between 1 and 60,000");
            }
        }
        if !(60..=86_400).contains(&self.data_key_seconds) {
            wrong.push("encryption.data_key_seconds: must be between 60 and 86,400");
        }
        if self.retired_key_files.len() > RETIRED_MAX {
            wrong.push("encryption.retired_key_files: at most 16");
        }
        wrong
    }

    /// Reads the key files. Asks no program.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no key.
    pub fn keys(&self) -> Result<BodyKeys, Refusal> {
        let unusable = |error: KeyFileError| Refusal::new(error.reason(), format!("encryption: {error}"));
        let mut hooks: Vec<Box<dyn KeyHook>> = Vec::new();
        if let Some(command) = &self.command {
            let timeout = Duration::from_millis(command.timeout_ms);
            let hook = CommandHook::new(command.argv.clone(), timeout);
            hooks.extend(hook.map(|hook| Box::new(hook) as Box<dyn KeyHook>));
        }
        for file in self.key_file.iter().chain(&self.retired_key_files) {
            let key = estoppel_journal::keys::load_secret(file).map_err(unusable)?;
            hooks.push(Box::new(FileHook::new(key)));
        }
        let period = Duration::from_secs(self.data_key_seconds);
        Ok(BodyKeys::new(hooks, self.on_failure, period, Arc::new(SystemClock::new())))
    }

    /// What holds the key, as the configuration calls it.
    pub fn named(&self) -> String {
        match (&self.key_file, &self.command) {
            (Some(file), _) => format!("encryption.key_file `{}`", file.display()),
            (None, Some(command)) => {
                format!("encryption.command `{}`", command.argv.first().map_or("", String::as_str))
            }
            (None, None) => "encryption".into(),
        }
    }
}

/// Where the policy is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// `policy.yaml`. Whoever edits it decides what passes; every receipt names its hash.
    pub file: PathBuf,
}

/// Where a policy is that is asked and changes nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowConfig {
    /// A policy like `policy.file`. Whoever edits it decides what receipts say of it, and nothing else.
    pub path: PathBuf,
}

/// Where packs of contracts are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PacksConfig {
    /// Folder in which the pack `acme/orders` is `acme/orders`. Whoever edits what is in it can keep a policy from being
    /// loaded, but change nothing: policies name the digests of what they take. None by default.
    pub dir: Option<PathBuf>,
}

/// Where the counters of the policy's controls are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// `local`: in this process and a file. `redis`: in a Redis, for all gateways that use it. Default `local`.
    pub store: StoreKind,
    /// The file of a local store, made with the first count. Whoever can write it can give calls back their budgets.
    /// Default: `state.sqlite` in the journal's folder.
    pub file: Option<PathBuf>,
    /// `redis://` on loopback, `rediss://` or `redis+unix://`. Better given as `ESTOPPEL__STATE__URL` if there is a password in
    /// it.
    pub url: Option<String>,
    /// Before the name of each key; gateways with the same one share their counters. Default `estoppel`.
    pub prefix: String,
    /// A Redis that takes longer counts as down. Default 250 ms.
    pub timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    #[default]
    Local,
    Redis,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { store: StoreKind::Local, file: None, url: None, prefix: "estoppel".into(), timeout_ms: 250 }
    }
}

impl StateConfig {
    /// What is wrong with it.
    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match (self.store, self.url.as_deref()) {
            (StoreKind::Local, Some(_)) => {
                wrong.push("state.url: only with `state.store = \"redis\"`".into())
            }
            (StoreKind::Redis, None) => wrong.push("state.url: says where the Redis is".into()),
            (StoreKind::Redis, Some(url)) => {
                wrong.extend(url_refused(url).map(|why| format!("state.url: {why}")))
            }
            (StoreKind::Local, None) => {}
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if !(1..=128).contains(&self.prefix.len()) || !self.prefix.chars().all(is_plain) {
            wrong.push("state.prefix: must be 1 to 128 of letters, digits and `._:/-`".into());
        }
        if !(1..=60_000).contains(&self.timeout_ms) {
            wrong.push("state.timeout_ms: must be between 1 and 60,000".into());
        }
        wrong
    }
}

/// Counters decide what passes: whoever is on the way to them must not be able to change them.
fn url_refused(url: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Some("must be a URL") };
    match scheme {
        "rediss" | "redis+unix" => None,
        "redis" => {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let host = match host.strip_prefix('[') {
                Some(v6) => v6.split(']').next().unwrap_or_default(),
                None => host.split(':').next().unwrap_or_default(),
            };
            let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            (!loopback).then_some("without TLS (`rediss://`) only on loopback")
        }
        _ => Some("must begin with `redis://`, `rediss://` or `redis+unix://`"),
    }
}

/// How the daemon's own log is written. It goes to stderr and holds no bodies and no secrets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, or a filter such as `estoppel_gateway=debug`. Default `info`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

fn enabled() -> bool {
    true
}

fn segment_mib() -> u64 {
    64
}

fn queue_entries() -> usize {
    16_384
}

fn checkpoint_ms() -> u64 {
    1_000
}

fn runs_max() -> usize {
    4_096
}

fn ambient_seconds() -> u64 {
    3_600
}

fn run_idle_seconds() -> u64 {
    86_400
}

/// A start or reload that cannot go on: a stable code and one line each.
#[derive(Debug)]
pub struct Refusal {
    pub reason: Reason,
    pub lines: Vec<String>,
}

impl Refusal {
    pub fn new(reason: Reason, line: impl Into<String>) -> Self {
        Self { reason, lines: vec![line.into()] }
    }
}

/// A configuration that was read and checked.
pub struct Loaded {
    pub config: Config,
    pub settings: Settings,
    pub policy: PolicyDocument,
    pub instance: Instance,
    /// Digest of what the configuration says, whatever it was put together from.
    pub digest: Sha256,
}

/// Reads and checks everything that `file` names, without opening the journal or a port.
pub fn load(file: &Path, set: &[(String, String)]) -> Result<Loaded, Refusal> {
    let raw = read(file, set)?;
    let digest = Sha256::of(raw.to_string().as_bytes());
    let (config, unknown) = keyed::read::<Config>(raw);
    let mut lines: Vec<String> = unknown.iter().map(|line| format!("{}: {line}", file.display())).collect();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            lines.push(format!("{}: {error}", file.display()));
            return Err(Refusal { reason: Reason::ConfigInvalid, lines });
        }
    };
    let settings = Settings {
        listener: config.listener.clone(),
        admin: config.admin.clone(),
        upstream: config.upstream.clone(),
        route: config.route.clone(),
        database: config.database.clone(),
        identity: config.identity.clone(),
        server: config.server.clone(),
        pins_dir: config.journal.enabled.then(|| config.journal.dir.join("pins")),
    };
    lines.extend(settings.check().iter().map(|e| format!("{}: {e}", file.display())));
    lines.extend(estoppel_feeds::check(&config.feeds).iter().map(|e| format!("{}: {e}", file.display())));
    let alerts = estoppel_feeds::check_alerts(&config.alerts, &config.feeds);
    lines.extend(alerts.iter().map(|e| format!("{}: {e}", file.display())));
    for (i, alert) in config.alerts.iter().enumerate() {
        if let Some(route) = alert.route.as_ref().filter(|name| config.route.iter().all(|r| r.name != **name))
        {
            lines.push(format!("{}: alerts[{i}].route: there is no route `{route}`", file.display()));
        }
    }
    if !config.journal.enabled && !config.feeds.is_empty() {
        lines.push(format!(
            "{}: feeds: they follow the journal, and journal.enabled is false",
            file.display()
        ));
    }
    let name = format!("{}/{}/{}", config.instance.host, config.instance.name, config.instance.epoch);
    let instance = name.parse::<Instance>();
    if let Err(error) = &instance {
        lines.push(format!("{}: instance: `{name}` is {error}", file.display()));
    }
    if !(1..=1_024).contains(&config.journal.segment_mib) {
        lines.push(format!("{}: journal.segment_mib: must be between 1 and 1,024", file.display()));
    }
    if !(3..=1 << 20).contains(&config.journal.spill_mib) {
        lines.push(format!("{}: journal.spill_mib: must be between 3 and 1,048,576", file.display()));
    }
    for (key, count) in
        [("queue_entries", config.journal.queue_entries), ("runs_max", config.journal.runs_max)]
    {
        if !(1..=COUNT_MAX).contains(&count) {
            lines.push(format!("{}: journal.{key}: must be between 1 and 16,777,216", file.display()));
        }
    }
    if let Some(why) = config.admin.as_ref().and_then(admin_refused) {
        lines.push(format!("{}: admin.listen: {why}", file.display()));
    }
    if config.shadow.len() > SHADOWS_MAX {
        lines.push(format!("{}: shadow: at most {SHADOWS_MAX} policies", file.display()));
    }
    for (index, ShadowConfig { path }) in config.shadow.iter().enumerate() {
        if config.shadow.iter().take(index).any(|before| before.path == *path) {
            lines.push(format!("{}: shadow[{index}].path: is there twice", file.display()));
        }
    }
    let archive = config.archive.iter().flat_map(ArchiveSettings::check);
    lines.extend(archive.map(|e| format!("{}: {e}", file.display())));
    if !config.journal.enabled && config.archive.is_some() {
        lines.push(format!("{}: archive: nothing is sealed, as journal.enabled is false", file.display()));
    }
    let encryption = config.encryption.iter().flat_map(EncryptionConfig::check);
    lines.extend(encryption.map(|e| format!("{}: {e}", file.display())));
    lines.extend(config.state.check().iter().map(|e| format!("{}: {e}", file.display())));
    match (lines.is_empty(), instance) {
        (true, Ok(instance)) => {
            let policy = policy(&config.policy.file, config.packs.dir.as_deref())?;
            Ok(Loaded { config, settings, policy, instance, digest })
        }
        (_, _) => Err(Refusal { reason: Reason::ConfigInvalid, lines }),
    }
}

/// The operators' listener has no accounts: only those who reach it are kept out.
fn admin_refused(admin: &Admin) -> Option<String> {
    let ip = admin.listen.ip().to_canonical();
    let private = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match (ip.is_unspecified(), admin.anywhere) {
        (true, true) => None,
        (true, false) => {
            Some(format!("`{ip}` is every address of the machine; admin.anywhere = true allows that"))
        }
        (false, _) if private => None,
        (false, _) => Some(format!("`{ip}` is neither a loopback nor a private address")),
    }
}

fn read(file: &Path, set: &[(String, String)]) -> Result<serde_json::Value, Refusal> {
    let invalid = |error: config::ConfigError| {
        // Some of these errors draw the line they are about; one line is what a log takes.
        let text = error.to_string();
        let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "|").collect();
        Refusal::new(Reason::ConfigInvalid, format!("{}: {}", file.display(), words.join(" ")))
    };
    if !file.exists() {
        let line =
            format!("there is no configuration at `{}`; examples/ has some to start from", file.display());
        return Err(Refusal::new(Reason::FileUnreadable, line));
    }
    let mut builder = config::Config::builder()
        .add_source(config::File::from(file).format(config::FileFormat::Toml))
        .add_source(
            config::Environment::with_prefix("ESTOPPEL")
                .prefix_separator("__")
                .separator("__")
                .try_parsing(true),
        );
    for (key, value) in set {
        builder = builder.set_override(key.as_str(), scalar(value)).map_err(invalid)?;
    }
    builder.build().and_then(config::Config::try_deserialize).map_err(invalid)
}

/// `--set` values are what TOML would make of them, text otherwise.
fn scalar(text: &str) -> config::Value {
    match (text.parse::<bool>(), text.parse::<i64>()) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) => value.into(),
        _ => text.into(),
    }
}

/// Reads and checks a policy file, and takes what it needs from packs.
pub fn policy(file: &Path, packs: Option<&Path>) -> Result<PolicyDocument, Refusal> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Refusal::new(Reason::FileUnreadable, format!("cannot read the policy `{}`: {error}", file.display()))
    })?;
    let read = PolicyDocument::parse(&text)
        .and_then(|mut policy| Packs::at(packs).provide(&mut policy).map(|()| policy));
    read.map_err(|errors| Refusal {
        reason: Reason::PolicyInvalid,
        lines: errors.iter().map(|error| format!("{}: {error}", file.display())).collect(),
    })
}

impl Loaded {
    /// What the journal needs to know.
    pub fn journal(&self) -> estoppel_journal::Settings {
        let journal = &self.config.journal;
        estoppel_journal::Settings {
            dir: journal.dir.clone(),
            instance: self.instance.clone(),
            durability: journal.durability,
            sign: journal.sign,
            segment_bytes: journal.segment_mib << 20,
            queue_entries: journal.queue_entries,
            spill: journal
                .spill
                .clone()
                .map(|path| estoppel_journal::SpillSettings { path, bytes_max: journal.spill_mib << 20 }),
            checkpoint_every: Duration::from_millis(journal.checkpoint_ms),
            checkpoint_store: journal.checkpoint_store.clone(),
            runs_max: journal.runs_max,
            ambient_every: Duration::from_secs(journal.ambient_seconds),
            run_idle: Duration::from_secs(journal.run_idle_seconds),
            policy: Sha256(*self.policy.hash().as_bytes()),
            config: self.digest,
            build: build(),
            ..estoppel_journal::Settings::new(journal.dir.clone(), self.instance.clone())
        }
    }

    /// Folder of the feeds' cursors.
    pub fn feeds_dir(&self) -> PathBuf {
        self.config.journal.dir.join("feeds")
    }

    /// Where the counters are.
    pub fn state_file(&self) -> PathBuf {
        self.config.state.file.clone().unwrap_or_else(|| self.config.journal.dir.join("state.sqlite"))
    }

    /// Folder of the keys.
    pub fn keys_dir(&self) -> PathBuf {
        self.config.keys.dir.clone().unwrap_or_else(|| self.config.journal.dir.join("keys"))
    }
}

/// This program, as receipts name it.
pub fn build() -> Build {
    let digest = std::env::current_exe().and_then(std::fs::read).ok().map(|bytes| Sha256::of(&bytes));
    Build { digest, name: "estoppeld".into(), version: env!("CARGO_PKG_VERSION").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(listen: &str, anywhere: bool) -> bool {
        let admin = Admin { listen: listen.parse().unwrap(), anywhere, request_ms: 5_000, answer_ms: 60_000 };
        admin_refused(&admin).is_some()
    }

    #[test]
    fn a_redis_without_tls_is_on_this_machine() {
        for url in [
            "redis://127.0.0.1",
            "redis://:pw@localhost:6379/1",
            "redis://[::1]:1/",
            "rediss://r.example",
            "redis+unix:///r",
        ] {
            assert_eq!(url_refused(url), None, "{url}");
        }
        for url in [
            "redis://10.0.0.1",
            "redis://localhost@r.example",
            "redis://r.example/127.0.0.1",
            "http://127.0.0.1",
            "r",
            "redis://",
        ] {
            assert!(url_refused(url).is_some(), "{url}");
        }
    }

    #[test]
    fn operators_listen_on_loopback_or_private_addresses() {
        for listen in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "10.1.2.3:1",
            "172.16.0.1:1",
            "172.31.255.255:1",
            "192.168.1.1:1",
            "169.254.1.1:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert!(!refused(listen, false), "{listen}");
        }
        for listen in ["8.8.8.8:1", "172.32.0.1:1", "100.64.0.1:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1"] {
            assert!(refused(listen, false) && refused(listen, true), "{listen}");
        }
        for listen in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1"] {
            assert!(refused(listen, false) && !refused(listen, true), "{listen}");
        }
    }
}
