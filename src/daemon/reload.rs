//! Runs until told to stop, and reloads on SIGHUP or when the configuration or the policy changes on disk. What cannot
//! be loaded changes nothing: the last good configuration stays in force, and the log, the metrics and the journal say
//! so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::{Reason, Sha256};
use estoppel_feeds::Feeds;
use estoppel_gateway::{Gateway, Metrics, Snapshot};
use estoppel_journal::Journal;
use notify::Watcher as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::Arguments;
use crate::config::{self, Loaded, Refusal};
use crate::keys::SigningKeys;

/// An editor writes a file in several steps; they are taken as one.
const SETTLE: Duration = Duration::from_millis(200);

/// Returns when SIGTERM or SIGINT comes.
pub async fn until_stopped(
    arguments: &Arguments,
    gateway: &Arc<Gateway>,
    journal: &Journal,
    metrics: &Metrics,
    mut keys: Option<&mut SigningKeys>,
    feeds: &mut Feeds,
) -> Result<(), Refusal> {
    let failed =
        |error: std::io::Error| Refusal::new(Reason::Internal, format!("cannot take signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let changed = Arc::new(Notify::new());
    let _watcher = watch(arguments, changed.clone());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
            () = settled(&changed) => {}
        }
        let loaded = reload(arguments, gateway, journal, metrics, keys.as_deref_mut(), feeds).await;
        metrics.reloaded(loaded.is_ok());
        if let Err(refusal) = loaded {
            journal.policy_loaded(None, Some(refusal.reason));
            for line in &refusal.lines {
                let code = refusal.reason;
                tracing::error!(%code, "reload refused, the last good configuration stays in force: {line}");
            }
        }
    }
    tracing::info!("stopping");
    Ok(())
}

/// Resolves once files have changed and [`SETTLE`] has passed; changes until then are part of the same one.
async fn settled(changed: &Notify) {
    changed.notified().await;
    tokio::time::sleep(SETTLE).await;
    drop(tokio::time::timeout(Duration::ZERO, changed.notified()).await);
}

/// Watches the folders of these files, because editors replace files by renaming.
fn watch(arguments: &Arguments, changed: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let config = config::load(&arguments.config, &arguments.set).ok()?;
    let shadows = config.config.shadow.iter().map(|shadow| shadow.path.clone());
    let own = [arguments.config.clone(), config.config.policy.file.clone()];
    let files: Vec<PathBuf> = own.into_iter().chain(shadows).collect();
    let names: Vec<PathBuf> = files.iter().filter_map(|file| file.file_name().map(PathBuf::from)).collect();
    let seen = move |event: notify::Result<notify::Event>| {
        let ours = event.is_ok_and(|event| {
            !event.kind.is_access()
                && event
                    .paths
                    .iter()
                    .any(|path| path.file_name().is_some_and(|name| names.iter().any(|n| n == name)))
        });
        if ours {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(seen)
        .inspect_err(|error| tracing::warn!(%error, "files are not watched; SIGHUP reloads"))
        .ok()?;
    for file in &files {
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(std::path::Path::new("."));
        if let Err(error) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "folder is not watched; SIGHUP reloads");
        }
    }
    Some(watcher)
}

/// Everything that can be refused is looked at before anything is put in force.
async fn reload(
    arguments: &Arguments,
    gateway: &Gateway,
    journal: &Journal,
    metrics: &Metrics,
    keys: Option<&mut SigningKeys>,
    feeds: &mut Feeds,
) -> Result<(), Refusal> {
    let loaded = config::load(&arguments.config, &arguments.set)?;
    let Loaded { settings, policy, .. } = &loaded;
    let before = gateway.snapshot();
    let snapshot = Snapshot::build(settings, Arc::new(policy.compile()), metrics, Some(&before))
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))?;
    crate::check_tls(settings)?;
    crate::check_feeds(&loaded)?;
    let shadows = crate::shadows::load(&loaded, Some(&before));
    let fresh = keys.as_ref().map(|keys| keys.read()).transpose()?;
    let hash = Sha256(*policy.hash().as_bytes());
    journal
        .store_policy(hash, &policy.canonical())
        .map_err(|error| Refusal::new(error.reason(), error.to_string()))?;
    shadows.store(journal)?;
    if let (Some(keys), Some(fresh)) = (keys, &fresh) {
        keys.renew(fresh, journal).await?;
    }
    gateway
        .reload(settings, snapshot.with_shadows(shadows.ready.iter().cloned()))
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))?;
    journal.policy_loaded(Some(hash), None);
    shadows.report(metrics);
    // Waits for feeds that end, which may take as long as their sinks do.
    tokio::task::block_in_place(|| feeds.reload(&loaded.config.feeds, &loaded.config.alerts))
        .map_err(|error| Refusal::new(Reason::ConfigInvalid, error.to_string()))?;
    tracing::info!(policy = %hash, "reloaded");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_edit_in_several_steps_is_one_change() {
        let changed = Notify::new();
        changed.notify_one();
        tokio::join!(biased; settled(&changed), async { changed.notify_one() });
        let another = tokio::time::timeout(Duration::ZERO, changed.notified()).await;
        assert!(another.is_err(), "the same edit would be loaded again");
        changed.notify_one();
        settled(&changed).await;
    }
}
