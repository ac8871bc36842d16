//! When the remote is asked again that did not take what it was told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use estoppel_evidence::time::UnixMicros;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Refusal};
use crate::git::Git;

/// The wait after the first failure.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(300);

/// How often it has failed, and when it is tried again. What is sent is not in it: that is what the remote lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// How often it failed in a row.
    pub tries: u32,
    /// It is not tried again before.
    pub not_before: UnixMicros,
    /// What went wrong last.
    pub why: String,
}

fn file(git: &Git) -> PathBuf {
    git.private().join("outbox.json")
}

fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", path.display()))
}

impl Outbox {
    /// What is kept of this clone; none where nothing has failed. One that cannot be read counts as none: it only says when.
    pub fn read(git: &Git) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file(git)).ok()?).ok()
    }

    /// The state after one more failure. `chance` makes the wait one of its own, so that many clones do not come back at
    /// one moment.
    pub fn failed(before: Option<&Self>, now: UnixMicros, why: &str, chance: u64) -> Self {
        let tries = before.map_or(0, |before| before.tries).saturating_add(1);
        let wait = Self::wait(tries, chance);
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Self { tries, not_before: UnixMicros(now.0.saturating_add(micros)), why: why.to_owned() }
    }

    /// Doubles with each failure up to [`WAIT_MAX`]; between its half and its whole by chance.
    pub fn wait(tries: u32, chance: u64) -> Duration {
        let whole = WAIT_MIN.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(WAIT_MAX);
        let part = u32::try_from(chance % 1_024).unwrap_or(0);
        whole / 2 + whole / 2 * part / 1_023
    }

    /// Keeps it.
    ///
    /// # Errors
    /// `GIT_FAILED`.
    pub fn write(&self, git: &Git) -> Result<(), Refusal> {
        let path = file(git);
        let bytes = serde_json::to_vec(self).map_err(|error| failed(&path, &error.into()))?;
        let write = || {
            std::fs::create_dir_all(git.private())?;
            let mut beside = tempfile::NamedTempFile::new_in(git.private())?;
            std::io::Write::write_all(&mut beside, &bytes)?;
            beside.as_file().sync_all()?;
            beside.persist(&path).map_err(|error| error.error).map(drop)
        };
        write().map_err(|error| failed(&path, &error))
    }

    /// Forgets it, after it went well.
    ///
    /// # Errors
    /// `GIT_FAILED`.
    pub fn clear(git: &Git) -> Result<(), Refusal> {
        let path = file(git);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, &error)),
            _ => Ok(()),
        }
    }
}
