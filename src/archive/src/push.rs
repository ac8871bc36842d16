//! One pass: everything that is sealed and not archived yet.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use estoppel_evidence::time::UnixMicros;
use estoppel_journal::Clock;

use crate::check::compare;
use crate::client::Client;
use crate::custody::{Action, Copy, Custodian, Done, append};
use crate::error::{ArchiveError, disk};
use crate::find::{Found, Kind, Stamp, Target};
use crate::index::{Content, Index};
use crate::settings::ArchiveSettings;
use crate::upload::Uploader;

/// A file that was archived.
#[derive(Clone, Debug)]
pub struct Copied {
    pub kind: &'static str,
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
    pub key: String,
    pub version: String,
    pub retain_until: String,
    /// Number of its entry in the index.
    pub seq: u64,
}

/// Files whose content was found to be that of their copy, so that who pushes often reads each once. One that was written since is
/// read again.
#[derive(Debug, Default)]
pub struct Looked(HashMap<PathBuf, Stamp>);

impl Looked {
    /// Whether a file is still what was archived of it.
    ///
    /// # Errors
    /// [`ArchiveError::Local`]: it is not; [`ArchiveError::Disk`].
    fn at(&mut self, found: &Found, archived: &Content) -> Result<(), ArchiveError> {
        if self.0.get(&found.path) == Some(&found.stamp) {
            return Ok(());
        }
        let other = compare(&found.path, found.kind == Kind::Custody, archived);
        match other.map_err(disk("read", &found.path))? {
            Some(other) => Err(ArchiveError::Local { name: found.name.clone(), found: other }),
            None => {
                self.0.insert(found.path.clone(), found.stamp);
                Ok(())
            }
        }
    }
}

/// What became of a pass.
#[derive(Debug, Default)]
pub struct Pushed {
    pub copied: Vec<Copied>,
    /// Files that were archived before, and are what was archived.
    pub known: u64,
    /// Files that could not be archived, and why.
    pub failed: Vec<(String, ArchiveError)>,
}

/// Archives what is not archived yet, one file after the other. `copied` is told of each.
///
/// A file that cannot be archived does not keep the others from it. What was archived before is read, unless it was `looked` at since it
/// was written last; where it is something else by now it is not archived again (`ARCHIVE_LOCAL_CHANGED`).
///
/// # Errors
/// What concerns all of them: the index, the bucket, the connection, the credentials.
pub async fn push(
    target: &Target,
    settings: &ArchiveSettings,
    clock: Arc<dyn Clock>,
    looked: &mut Looked,
    mut told: impl FnMut(&Copied),
) -> Result<Pushed, ArchiveError> {
    let mut pushed = Pushed::default();
    let mut index = Index::open(target.folder())?;
    let by = settings.custody.as_ref().map(Custodian::load).transpose();
    let by = by.map_err(|source| ArchiveError::Custody {
        name: "archive.custody.key".into(),
        source: Box::new(source),
    })?;
    let mut pass = Pass { by, clock, settings, uploader: None, target };
    for kinds in [&[Kind::External, Kind::Bundle][..], &[Kind::Custody, Kind::Segment]] {
        // Looked for again: archiving a bundle adds to its custody.
        let mut files: Vec<Found> =
            target.files(index.copies())?.into_iter().filter(|found| kinds.contains(&found.kind)).collect();
        // What is new does not wait for what is only read.
        files.sort_by_key(|found| index.copies().of_file(found.kind, &found.name).is_some());
        for found in files {
            if let Some(archived) = index.copies().of_file(found.kind, &found.name) {
                let has_grown = found.kind == Kind::Custody && found.bytes > archived.bytes;
                match looked.at(&found, archived) {
                    Ok(()) if has_grown => {}
                    Ok(()) => {
                        pushed.known += 1;
                        continue;
                    }
                    Err(error) => {
                        pushed.failed.push((found.name, error));
                        continue;
                    }
                }
            }
            match pass.one(&mut index, &found).await {
                Ok(copied) => {
                    told(&copied);
                    pushed.copied.push(copied);
                }
                Err(error) if error.is_of_one_file() => {
                    pushed.failed.push((found.name, error));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(pushed)
}

struct Pass<'a> {
    by: Option<Custodian>,
    clock: Arc<dyn Clock>,
    settings: &'a ArchiveSettings,
    /// Once there is something to send.
    uploader: Option<Uploader<'a>>,
    target: &'a Target,
}

impl Pass<'_> {
    async fn one(&mut self, index: &mut Index, found: &Found) -> Result<Copied, ArchiveError> {
        if self.uploader.is_none() {
            let mut client = Client::new(self.settings, self.clock.clone())?;
            client.demand_lock().await?;
            let (settings, folder) = (self.settings, self.target.folder());
            self.uploader = Some(Uploader { client, settings, folder });
        }
        let Some(uploader) = &mut self.uploader else {
            return Err(ArchiveError::Endpoint("no connection".into()));
        };
        let at = uploader.archive(found).await?;
        let now = UnixMicros(self.clock.unix_us());
        if let Some(by) = self.by.as_ref().filter(|_| found.kind == Kind::Bundle) {
            // Before the index: a kill in between leaves the entry to be found here, and the file to be looked at again.
            let sha256 = Some(at.sha256);
            let done = Done { action: Action::Archived(Copy(&at)), note: None, ts: now, sha256 };
            append(&found.path, by, &done).map_err(|source| ArchiveError::Custody {
                name: found.name.clone(),
                source: Box::new(source),
            })?;
        }
        let seq = index.add(found.kind, &found.name, &at, now)?;
        Ok(Copied {
            kind: found.kind.as_str(),
            name: found.name.clone(),
            bytes: at.bytes,
            sha256: at.sha256.to_string(),
            key: at.key,
            version: at.version,
            retain_until: at.retain_until.to_string(),
            seq,
        })
    }
}
