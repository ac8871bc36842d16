//! Index, local files and copies, held against one another.

use std::io;
use std::path::Path;
use std::sync::Arc;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use estoppel_journal::Clock;
use estoppel_verify::{Archived, Pointer};

use crate::client::Client;
use crate::error::{ArchiveError, disk};
use crate::find::Target;
use crate::index::{Content, read_entries};
use crate::lock::{Lock, Mode};
use crate::settings::ArchiveSettings;
use crate::upload::digest;

/// What is wrong with one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub seq: u64,
    pub name: String,
    /// As `spec/archive.md` writes it.
    pub code: &'static str,
    pub detail: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub entries: u64,
    /// Files that are not there any more.
    pub local_absent: u64,
    /// Copies that were read whole and are kept as they should be.
    pub confirmed: u64,
    /// Copies that are gone, as they may be by now.
    pub expired: u64,
    pub faults: Vec<Fault>,
}

/// Holds every entry of what `target` is against the local file, and against the copy.
///
/// # Errors
/// The index does not hold, or files or the bucket cannot be looked at.
pub async fn check(
    target: &Target,
    settings: &ArchiveSettings,
    clock: Arc<dyn Clock>,
) -> Result<Checked, ArchiveError> {
    let entries = read_entries(target.folder())?;
    let entries: Vec<Archived> = entries.into_iter().filter(|entry| target.has(&entry.name)).collect();
    let mut checked = Checked { entries: entries.len() as u64, ..Checked::default() };
    if entries.is_empty() {
        return Ok(checked);
    }
    let mut client = Client::new(settings, clock)?;
    client.demand_lock().await?;
    for entry in &entries {
        let fault = |code, detail| Fault { seq: entry.seq, name: entry.name.clone(), code, detail };
        match local(target, entry)? {
            Local::Same => {}
            Local::Absent => checked.local_absent += 1,
            Local::Other(found) => checked.faults.push(fault("ARCHIVE_LOCAL_CHANGED", found)),
        }
        match copy(&mut client, settings, &entry.at).await {
            Ok(Remote::Kept) => checked.confirmed += 1,
            Ok(Remote::Expired) => checked.expired += 1,
            Err(error @ (ArchiveError::Missing { .. } | ArchiveError::Changed { .. }))
            | Err(error @ ArchiveError::RetentionShort { .. }) => {
                checked.faults.push(fault(error.code(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}

enum Local {
    Same,
    Absent,
    Other(String),
}

fn local(target: &Target, entry: &Archived) -> Result<Local, ArchiveError> {
    let path = target.path(&entry.kind, &entry.name);
    let archived = Content { bytes: entry.at.bytes, sha256: entry.at.sha256.clone() };
    match compare(&path, entry.kind == "custody", &archived) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Local::Absent),
        Err(source) => Err(disk("read", &path)(source)),
        Ok(None) => Ok(Local::Same),
        Ok(Some(found)) => Ok(Local::Other(format!("`{}` has {found}", entry.name))),
    }
}

/// What a file has instead of what was archived of it, if that is something else; of a list that `grows`, at its beginning.
/// What is no plain file is not opened.
pub(crate) fn compare(path: &Path, grows: bool, archived: &Content) -> io::Result<Option<String>> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Ok(Some("no content of its own: it is no plain file".into()));
    }
    let (bytes, sha256) = if grows { begins(path, archived.bytes)? } else { digest(path)? };
    let is_same = bytes == archived.bytes && sha256.to_string() == archived.sha256;
    let Content { bytes: kept, sha256: of } = archived;
    Ok((!is_same).then(|| format!("{bytes} bytes and {sha256}; {kept} bytes and {of} are archived")))
}

/// Size and digest of the first `bytes` of a file.
fn begins(path: &Path, bytes: u64) -> io::Result<(u64, Sha256)> {
    use io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(bytes).read_to_end(&mut text)?;
    Ok((text.len() as u64, Sha256::of(&text)))
}

enum Remote {
    Kept,
    Expired,
}

async fn copy(client: &mut Client, settings: &ArchiveSettings, at: &Pointer) -> Result<Remote, ArchiveError> {
    let (key, version) = (at.key.clone(), at.version.clone());
    if (at.endpoint.as_str(), at.bucket.as_str()) != (settings.endpoint.as_str(), settings.bucket.as_str()) {
        let named = format!("it is in bucket `{}` of `{}`, which is not configured", at.bucket, at.endpoint);
        return Err(ArchiveError::Endpoint(named));
    }
    let until = UnixMicros::parse(&at.retain_until).unwrap_or_default();
    let Some(content) = client.read(&key, &version, at.bytes).await? else {
        let may_be_gone = until.0 < client.now_us() && !at.legal_hold;
        return if may_be_gone { Ok(Remote::Expired) } else { Err(ArchiveError::Missing { key, version }) };
    };
    if (content.bytes, content.sha256.to_string()) != (at.bytes, at.sha256.clone()) {
        let found = format!("{} bytes, {}", content.bytes, content.sha256);
        return Err(ArchiveError::Changed { key, version, found });
    }
    let mode = Mode::parse(&at.mode).unwrap_or(Mode::Compliance);
    let promised = Lock { mode, until, legal_hold: at.legal_hold };
    match content.lock {
        Some(lock) if lock.covers(&promised) => Ok(Remote::Kept),
        None if until.0 < client.now_us() && !at.legal_hold => Ok(Remote::Kept),
        found => {
            let found = found.map_or_else(
                || "no retention".to_owned(),
                |lock| {
                    let hold = if lock.legal_hold { ", legal hold" } else { "" };
                    format!("{} until {}{hold}", lock.mode.as_str(), lock.until)
                },
            );
            Err(ArchiveError::RetentionShort { key, version, found })
        }
    }
}
