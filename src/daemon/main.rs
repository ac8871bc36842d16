//! `estoppeld`: the gateway daemon. Arguments, configuration, wiring, signals; no rules of its own.

mod config;
mod keyed;
mod keys;
mod reload;
mod shadows;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use config::{Config, EncryptionConfig, Loaded, LogConfig, LogFormat, Refusal};
use estoppel_archive::{ArchiveMetrics, Archiver};
use estoppel_evidence::{Reason, Sha256};
use estoppel_feeds::{FeedMetrics, Feeds};
use estoppel_gateway::{Gateway, Metrics, Snapshot, admin};
use estoppel_journal::encryption::{BodyKeys, OnKeyFailure};
use estoppel_journal::{Journal, KeyFileError, Keys, SystemClock};
use keys::SigningKeys;

/// How long a stop waits for feeds to deliver what is left. The rest comes after the next start.
const FEEDS_PATIENCE: Duration = Duration::from_secs(3);
/// How long a stop waits for the archive to notice.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(1);

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The gateway daemon: forwards LLM and tool traffic, judges it by policy and leaves a signed receipt for every call.
#[derive(Parser)]
#[command(name = "estoppeld", version, about)]
struct Arguments {
    /// Configuration file (TOML). Environment variables ESTOPPEL__SECTION__KEY override it.
    #[arg(long, default_value = "/etc/estoppel/estoppeld.toml")]
    config: PathBuf,
    /// Overrides one key, as in `--set journal.dir=/tmp/j`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Checks configuration, policy, keys and certificates, says what is wrong, and ends.
    #[arg(long)]
    check_config: bool,
    /// Writes the addresses that are listened on to this file (JSON), once calls are taken.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.into(), v.into())).ok_or_else(|| "must be KEY=VALUE".into())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            report(&refusal);
            ExitCode::from(exit_code(refusal.reason))
        }
    }
}

/// One line per problem, so that a log collector and a person both can read it.
#[expect(clippy::print_stderr, reason = "the log may not be set up yet")]
fn report(refusal: &Refusal) {
    for line in &refusal.lines {
        eprintln!("estoppeld: {}: {line}", refusal.reason);
    }
}

fn exit_code(reason: Reason) -> u8 {
    match reason {
        Reason::ConfigInvalid | Reason::PolicyInvalid | Reason::FileUnreadable | Reason::ArgumentInvalid => 6,
        Reason::KeyInvalid | Reason::KeyPermissions => 6,
        Reason::DirectoryMissing | Reason::DependencyMissing | Reason::KeyHookFailed => 7,
        Reason::JournalCorrupt | Reason::JournalRollback | Reason::JournalFork | Reason::EncryptionKey => 2,
        _ => 1,
    }
}

fn run(arguments: &Arguments) -> Result<(), Refusal> {
    let loaded = config::load(&arguments.config, &arguments.set)?;
    log(&loaded.config.log)?;
    let metrics = Metrics::new();
    let policy = Arc::new(loaded.policy.compile());
    let snapshot = Snapshot::build(&loaded.settings, policy, &metrics, None)
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))?;
    let Checked { keys, body_keys, remarks } = check(&loaded, snapshot.stores_bodies())?;
    let shadows = shadows::load(&loaded, None);
    if arguments.check_config {
        shadows.check()?;
        remarks.map_or(Ok(()), Err)?;
        check_unsealed(&loaded, body_keys)()?;
        #[expect(clippy::print_stdout, reason = "the answer to --check-config")]
        {
            println!("configuration ok, policy {}", loaded.policy.hash());
        }
        return Ok(());
    }
    remarks.iter().for_each(tell);
    let (journal, signing) = open_journal(&loaded, keys, body_keys)?;
    shadows.store(&journal)?;
    shadows.report(&metrics);
    let snapshot = snapshot.with_shadows(shadows.ready);
    let threads = match loaded.settings.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let runtime = |name: &str, threads: usize| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(|error| Refusal::new(Reason::Internal, format!("cannot start a runtime: {error}")))
    };
    let data = runtime("data", threads)?;
    let background = runtime("background", 1)?;
    let clock: Arc<dyn estoppel_journal::Clock> = Arc::new(SystemClock::new());
    let store = state::open(&loaded, clock.unix_us(), &data)?;
    let started = data.block_on(async {
        let durability = loaded.config.journal.durability;
        Gateway::start(&loaded.settings, snapshot, journal.clone(), durability, clock, metrics.clone(), store)
    });
    let gateway = Arc::new(started.map_err(|error| Refusal::new(error.reason(), error.to_string()))?);
    data.block_on(gateway.read_switches());
    let mut feeds = start_feeds(&loaded, &journal, &metrics)?;
    let archiver = start_archive(&loaded, &metrics)?;
    let ended =
        background.block_on(serve(arguments, &loaded, &gateway, &journal, &metrics, signing, &mut feeds));
    data.block_on(gateway.shutdown());
    let closed = journal.close(Duration::from_secs(30));
    feeds.stop(FEEDS_PATIENCE);
    archiver.into_iter().for_each(|archiver| archiver.stop(ARCHIVE_PATIENCE));
    closed.map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    tracing::info!("stopped");
    ended
}

/// Feeds that follow the journal, each on a thread of its own.
fn start_feeds(loaded: &Loaded, journal: &Journal, metrics: &Metrics) -> Result<Feeds, Refusal> {
    let clock: Arc<dyn estoppel_journal::Clock> = Arc::new(SystemClock::new());
    let counts = FeedMetrics::new(clock.clone());
    metrics.register(Box::new(counts.clone()));
    let (feeds, alerts) = (&loaded.config.feeds, &loaded.config.alerts);
    Feeds::start(journal, &loaded.feeds_dir(), &loaded.instance, feeds, alerts, counts, clock)
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))
}

/// Copies what is sealed to a bucket, on a thread of its own.
fn start_archive(loaded: &Loaded, metrics: &Metrics) -> Result<Option<Archiver>, Refusal> {
    let Some(settings) = &loaded.config.archive else { return Ok(None) };
    let clock: Arc<dyn estoppel_journal::Clock> = Arc::new(SystemClock::new());
    let counts = ArchiveMetrics::new(clock.clone());
    metrics.register(Box::new(counts.clone()));
    let archiver = Archiver::start(&loaded.config.journal.dir, settings.clone(), counts, clock);
    let failed = |error| Refusal::new(Reason::Internal, format!("cannot start a thread: {error}"));
    archiver.map(Some).map_err(failed)
}

/// Runs until a signal says stop.
async fn serve(
    arguments: &Arguments,
    loaded: &Loaded,
    gateway: &Arc<Gateway>,
    journal: &Journal,
    metrics: &Metrics,
    mut keys: Option<SigningKeys>,
    feeds: &mut Feeds,
) -> Result<(), Refusal> {
    let admin = match &loaded.settings.admin {
        None => None,
        Some(settings) => Some(
            admin::start(settings, gateway)
                .await
                .map_err(|error| Refusal::new(error.reason(), error.to_string()))?,
        ),
    };
    let listening = gateway.listening();
    for (name, address) in &listening.listeners {
        tracing::info!(listener = %name, %address, "listening");
    }
    if let Some(address) = admin {
        tracing::info!(%address, "admin listening");
    }
    if let Some(path) = &arguments.ready_file {
        let listeners: std::collections::BTreeMap<_, _> = listening.listeners.iter().cloned().collect();
        let ready = serde_json::json!({ "listeners": listeners, "admin": admin, "pid": std::process::id() });
        write_whole(path, ready.to_string().as_bytes()).map_err(|error| {
            Refusal::new(Reason::DirectoryReadOnly, format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    reload::until_stopped(arguments, gateway, journal, metrics, keys.as_mut(), feeds).await
}

/// A reader sees the whole file or none.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

/// What a start goes on with.
#[derive(Default)]
struct Checked {
    /// None if they are still to be made.
    keys: Option<Keys>,
    /// What stored bodies are encrypted with, if they are; with a first key unless there is a remark.
    body_keys: Option<Arc<BodyKeys>>,
    /// What a start does not fail for.
    remarks: Option<Refusal>,
}

/// Everything that a start can be refused for before it listens or writes. `stores`: the policy has bodies stored.
fn check(loaded: &Loaded, stores: bool) -> Result<Checked, Refusal> {
    check_tls(&loaded.settings)?;
    check_feeds(loaded)?;
    if let Some(settings) = &loaded.config.archive {
        Archiver::check(settings).map_err(|error| {
            let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            Refusal::new(Reason::ConfigInvalid, format!("archive: {error}{why}"))
        })?;
    }
    if !loaded.config.journal.enabled {
        return Ok(Checked::default());
    }
    let dir = &loaded.config.journal.dir;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if parent.is_some_and(|parent| !parent.is_dir()) {
        let line =
            format!("there is no folder to put the journal `{}` in; make it, or name another", dir.display());
        return Err(Refusal::new(Reason::DirectoryMissing, line));
    }
    let body_keys = body_keys(loaded)?.map(Arc::new);
    let keys_dir = loaded.keys_dir();
    let keys = match loaded.config.keys.init && !estoppel_journal::keys::exist(&keys_dir) {
        true => None,
        false => {
            let keys = estoppel_journal::keys::load(&keys_dir);
            Some(keys.map_err(|error| Refusal::new(error.reason(), error.to_string()))?)
        }
    };
    let mut remarks = None;
    if let (Some(encryption), Some(body_keys)) = (&loaded.config.encryption, &body_keys)
        && let Err(error) = body_keys.renew()
    {
        let refusal = Refusal::new(error.reason(), format!("{}: {error}", encryption.named()));
        if stores && body_keys.on_failure() == OnKeyFailure::Refuse {
            return Err(refusal);
        }
        remarks = Some(refusal);
    }
    Ok(Checked { keys, body_keys, remarks })
}

/// Looks, when it is called, whether stored bodies that are still to be put into bundles can be read.
fn check_unsealed(
    loaded: &Loaded,
    keys: Option<Arc<BodyKeys>>,
) -> impl FnOnce() -> Result<(), Refusal> + Send + use<> {
    let Config { encryption, journal, .. } = &loaded.config;
    let (dir, is_on) = (journal.dir.clone(), journal.enabled);
    let named = encryption.as_ref().map_or_else(|| "encryption".into(), EncryptionConfig::named);
    move || {
        let keys = keys.unwrap_or_else(|| Arc::new(BodyKeys::none()));
        let checked = if is_on { estoppel_journal::check_unsealed(&dir, &keys) } else { Ok(()) };
        checked.map_err(|error| {
            let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
            let mend = match error.reason() {
                Reason::EncryptionKey => "; `encryption.retired_key_files` names earlier keys",
                _ => "",
            };
            Refusal::new(error.reason(), format!("{named}: {error}{why}{mend}"))
        })
    }
}

/// In the log: the start goes on.
fn tell(refusal: &Refusal) {
    for line in &refusal.lines {
        tracing::error!(code = %refusal.reason, "{line}");
    }
}

fn open_journal(
    loaded: &Loaded,
    keys: Option<Keys>,
    body_keys: Option<Arc<BodyKeys>>,
) -> Result<(Journal, Option<SigningKeys>), Refusal> {
    if !loaded.config.journal.enabled {
        tracing::warn!("evidence is off: calls are judged and forwarded, and nothing of them is recorded");
        return Ok((Journal::off(loaded.journal(), Arc::new(SystemClock::new())), None));
    }
    let keys_dir = loaded.keys_dir();
    let keys = keys.map_or_else(|| make_keys(&keys_dir), Ok)?;
    let signing = SigningKeys::new(keys_dir, &keys);
    let thread = |error| Refusal::new(Reason::Internal, format!("cannot start a thread: {error}"));
    if let Some(keys) = &body_keys {
        keys.start().map_err(thread)?;
    }
    let unsealed = check_unsealed(loaded, body_keys.clone());
    let copy_of = Some(estoppel_archive::copy_of as estoppel_journal::CopyOf);
    let settings = estoppel_journal::Settings { body_keys, copy_of, ..loaded.journal() };
    let journal = Journal::open(settings, keys, Arc::new(SystemClock::new()))
        .map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    // It reads all that is recorded, and nothing waits for it: it ends by itself, or with the process.
    let check = move || drop(unsealed().inspect_err(tell));
    std::thread::Builder::new().name("unsealed".into()).spawn(check).map_err(thread)?;
    let hash = Sha256(*loaded.policy.hash().as_bytes());
    journal
        .store_policy(hash, &loaded.policy.canonical())
        .map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    journal.policy_loaded(Some(hash), None);
    Ok((journal, Some(signing)))
}

/// What stored bodies are encrypted with, if they are.
fn body_keys(loaded: &Loaded) -> Result<Option<BodyKeys>, Refusal> {
    loaded.config.encryption.as_ref().map(config::EncryptionConfig::keys).transpose()
}

fn make_keys(dir: &Path) -> Result<Keys, Refusal> {
    let refusal = |error: KeyFileError| Refusal::new(error.reason(), error.to_string());
    estoppel_journal::keys::init(dir, estoppel_evidence::Alg::Ed25519).map_err(refusal)?;
    tracing::info!(dir = %dir.display(), "keys were made");
    estoppel_journal::keys::load(dir).map_err(refusal)
}

/// Certificates and keys of listeners can be read.
pub(crate) fn check_tls(settings: &estoppel_gateway::Settings) -> Result<(), Refusal> {
    for listener in &settings.listener {
        if let Some(tls) = &listener.tls {
            estoppel_gateway::tls::listener(tls, listener.http2).map_err(|error| {
                Refusal::new(Reason::ConfigInvalid, format!("listener `{}`: {error}", listener.name))
            })?;
        }
    }
    Ok(())
}

/// Tokens and certificates of feeds can be read.
pub(crate) fn check_feeds(loaded: &Loaded) -> Result<(), Refusal> {
    Feeds::check(&loaded.config.feeds).map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))
}

fn log(log: &LogConfig) -> Result<(), Refusal> {
    let filter = tracing_subscriber::EnvFilter::try_new(&log.level)
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, format!("log.level: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
    Ok(())
}
