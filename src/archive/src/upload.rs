//! One file into the bucket, and back to see that it is there.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::client::Client;
use crate::error::{ArchiveError, disk};
use crate::find::{Found, Kind};
use crate::index::At;
use crate::list::replace;
use crate::lock::{Lock, whole_second};
use crate::object::{Part, Put};
use crate::settings::ArchiveSettings;

/// Most parts of an upload (S3).
const PARTS_MAX: u64 = 10_000;
/// Most bytes of the file that says how far an upload is.
const PROGRESS_BYTES_MAX: u64 = 4 << 20;
/// How much shorter the retention of a copy that was there already may be than that of a new one.
const SLACK_US: u64 = 86_400_000_000;
const DAY_US: u64 = 86_400_000_000;
/// Bytes of a file that are looked at at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Size and digest of a file.
pub(crate) fn digest(path: &Path) -> io::Result<(u64, Sha256)> {
    let mut file = File::open(path)?;
    let (mut digest, mut bytes, mut chunk) = (sha2::Sha256::new(), 0u64, vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((bytes, Sha256(digest.finalize().into()))),
            Ok(n) => {
                digest.update(chunk.get(..n).unwrap_or_default());
                bytes += n as u64; // widening
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How far an upload in parts is; beside the index, so that the next process goes on where this one was killed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    bucket: String,
    endpoint: String,
    key: String,
    upload: String,
    part_bytes: u64,
    parts: Vec<Part>,
}

/// Copies files to one bucket.
pub(crate) struct Uploader<'a> {
    pub client: Client,
    pub settings: &'a ArchiveSettings,
    /// Folder of the index.
    pub folder: &'a Path,
}

impl Uploader<'_> {
    /// Copies a file, unless its content is there already, and confirms the copy.
    pub async fn archive(&mut self, found: &Found) -> Result<At, ArchiveError> {
        found.check_name()?;
        let (bytes, sha256) = digest(&found.path).map_err(disk("read", &found.path))?;
        if found.kind == Kind::External && !found.name.ends_with(&sha256.hex()) {
            return Err(ArchiveError::Altered { name: found.name.clone() });
        }
        let key = format!("{}sha256/{}", self.settings.prefix, sha256.hex());
        let asked = self.asked();
        let version = match self.client.head(&key, None).await? {
            Some(version) => version.id,
            None => match self.send(found, bytes, &key, &asked).await? {
                Some(version) => version,
                None => {
                    // Somebody else put it there in between.
                    let missing = || ArchiveError::Missing { key: key.clone(), version: String::new() };
                    self.client.head(&key, None).await?.ok_or_else(missing)?.id
                }
            },
        };
        let lock = self.confirm(&key, &version, bytes, sha256, &asked).await?;
        self.forget(&key);
        if digest(&found.path).map_err(disk("read", &found.path))? != (bytes, sha256) {
            return Err(ArchiveError::Moving { name: found.name.clone() });
        }
        Ok(At {
            bucket: self.settings.bucket.clone(),
            bytes,
            endpoint: self.settings.endpoint.clone(),
            key,
            legal_hold: lock.legal_hold,
            mode: lock.mode.as_str(),
            retain_until: lock.until,
            sha256,
            version,
        })
    }

    /// The retention that the settings ask for, from now on.
    pub fn asked(&self) -> Lock {
        let days = u64::from(self.settings.retain_days);
        let until = self.client.now_us().saturating_add(days.saturating_mul(DAY_US));
        let (mode, legal_hold) = (self.settings.mode, self.settings.legal_hold);
        Lock { mode, until: whole_second(UnixMicros(until)), legal_hold }
    }

    /// Reads the version whole, and sees that it is kept.
    pub async fn confirm(
        &mut self,
        key: &str,
        version: &str,
        bytes: u64,
        sha256: Sha256,
        asked: &Lock,
    ) -> Result<Lock, ArchiveError> {
        let (named, id) = (key.to_owned(), version.to_owned());
        let Some(content) = self.client.read(key, version, bytes).await? else {
            return Err(ArchiveError::Missing { key: named, version: id });
        };
        if (content.bytes, content.sha256) != (bytes, sha256) {
            let found = format!("{} bytes, {}", content.bytes, content.sha256);
            return Err(ArchiveError::Changed { key: named, version: id, found });
        }
        let least = Lock { until: UnixMicros(asked.until.0.saturating_sub(SLACK_US)), ..*asked };
        let mut lock = content.lock;
        if !lock.is_some_and(|lock| lock.covers(&least)) {
            let longer = lock.map_or(asked.until, |lock| lock.until.max(asked.until));
            self.client.protect(key, version, &Lock { until: longer, ..*asked }).await?;
            lock = self.client.head(key, Some(version)).await?.and_then(|version| version.lock);
        }
        match lock {
            Some(lock) if lock.covers(&least) => Ok(lock),
            found => Err(ArchiveError::RetentionShort {
                key: named,
                version: id,
                found: found.map_or_else(
                    || "no retention".into(),
                    |lock| format!("{} until {}", lock.mode.as_str(), lock.until),
                ),
            }),
        }
    }

    /// Sends a file, and gives the version that was made; none if there is one already.
    async fn send(
        &mut self,
        found: &Found,
        bytes: u64,
        key: &str,
        lock: &Lock,
    ) -> Result<Option<String>, ArchiveError> {
        let file = File::open(&found.path).map_err(disk("open", &found.path))?;
        let part_bytes = self.settings.part_bytes();
        if bytes <= part_bytes {
            let body = read_part(&file, 0, bytes).map_err(disk("read", &found.path))?;
            return match self.client.put(key, body, lock).await? {
                Put::Made(version) => Ok(Some(version)),
                Put::Taken | Put::Gone => Ok(None),
            };
        }
        if bytes.div_ceil(part_bytes) > PARTS_MAX {
            return Err(ArchiveError::Limit { what: "parts of a file; raise part_mib", limit: PARTS_MAX });
        }
        // Once more if the service has forgotten what an earlier process began.
        for _ in 0..2 {
            let mut progress = match self.begun(key) {
                Some(progress) => progress,
                None => self.begin(key, lock).await?,
            };
            match self.parts(&file, &found.path, bytes, &mut progress).await? {
                Put::Made(version) => return Ok(Some(version)),
                Put::Taken => {
                    self.let_go(&progress).await;
                    return Ok(None);
                }
                Put::Gone => self.forget(key),
            }
            if self.client.head(key, None).await?.is_some() {
                return Ok(None);
            }
        }
        Err(ArchiveError::Answer { status: 404, code: "NoSuchUpload".into() })
    }

    /// Sends the parts that the service does not have yet.
    async fn parts(
        &mut self,
        file: &File,
        path: &Path,
        bytes: u64,
        progress: &mut Progress,
    ) -> Result<Put, ArchiveError> {
        loop {
            let offset = progress.part_bytes.saturating_mul(progress.parts.len() as u64); // widening
            if offset >= bytes {
                break;
            }
            let length = progress.part_bytes.min(bytes - offset);
            let body = read_part(file, offset, length).map_err(disk("read", path))?;
            let number = progress.parts.len() + 1;
            match self.client.part(&progress.key, &progress.upload, number, body).await? {
                Some(part) => progress.parts.push(part),
                None => return Ok(Put::Gone),
            }
            self.remember(progress)?;
        }
        self.client.complete(&progress.key, &progress.upload, &progress.parts).await
    }

    async fn begin(&mut self, key: &str, lock: &Lock) -> Result<Progress, ArchiveError> {
        let progress = Progress {
            bucket: self.settings.bucket.clone(),
            endpoint: self.settings.endpoint.clone(),
            upload: self.client.begin(key, lock).await?,
            part_bytes: self.settings.part_bytes(),
            parts: Vec::new(),
            key: key.to_owned(),
        };
        self.remember(&progress)?;
        Ok(progress)
    }

    /// What an earlier process has sent of the object, to the same place.
    fn begun(&self, key: &str) -> Option<Progress> {
        let file = File::open(self.progress_path(key)).ok()?;
        let mut text = Vec::new();
        file.take(PROGRESS_BYTES_MAX).read_to_end(&mut text).ok()?;
        let progress: Progress = serde_json::from_slice(&text).ok()?;
        let is_here = (progress.bucket.as_str(), progress.endpoint.as_str(), progress.key.as_str())
            == (self.settings.bucket.as_str(), self.settings.endpoint.as_str(), key);
        (is_here && progress.part_bytes > 0).then_some(progress)
    }

    fn remember(&self, progress: &Progress) -> Result<(), ArchiveError> {
        let path = self.progress_path(&progress.key);
        let text = serde_json::to_vec(progress).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &text)).map_err(disk("write", &path))
    }

    fn forget(&self, key: &str) {
        let path = self.progress_path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the progress of an upload that is over is left");
            }
            _ => {}
        }
    }

    async fn let_go(&mut self, progress: &Progress) {
        if let Err(error) = self.client.abort(&progress.key, &progress.upload).await {
            tracing::warn!(key = %progress.key, %error, "parts that nobody needs are left in the bucket");
        }
        self.forget(&progress.key);
    }

    fn progress_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("archive.{}.upload", key.rsplit('/').next().unwrap_or_default()))
    }
}

fn read_part(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut part = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, offset)?;
    Ok(part.into())
}
