//! Deletions that the log says were begun or completed, with their plans and reports.

use std::io;
use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use estoppel_evidence::envelope::from_base64;
use serde::Deserialize;

use super::files::Place;
use super::plan::Object;
use crate::storage::{FileSystem, read_small};

/// Largest plan or report that is read.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// What stands in the entry before the digest of the report.
const BEFORE_DIGEST: &str = "report sha256 ";

/// An entry that says that a deletion was completed.
pub(crate) struct Completed {
    pub plan: Sha256,
    /// Of the report.
    pub report: Sha256,
}

#[derive(Deserialize)]
struct Act {
    act: String,
    comment: Option<String>,
    on: Option<String>,
}

impl Act {
    /// Reads an entry's line; none if it is not this act.
    fn of(line: &[u8], word: &str) -> Option<Self> {
        line.windows(word.len()).any(|part| part == word.as_bytes()).then_some(())?;
        serde_json::from_slice(line).ok().filter(|act: &Self| act.act == word)
    }

    fn plan(&self) -> Option<Sha256> {
        Sha256::parse(self.on.as_deref()?)
    }
}

impl Completed {
    /// Reads an entry's line; none if it is another entry.
    pub fn of(line: &[u8]) -> Option<Self> {
        let act = Act::of(line, "retention_completed")?;
        let (_, report) = act.comment.as_deref()?.rsplit_once(BEFORE_DIGEST)?;
        let report = Sha256::parse(&format!("{}{report}", Sha256::PREFIX))?;
        Some(Self { plan: act.plan()?, report })
    }

    /// Where its report is, if that is the one which the entry names, and lists this stored body.
    pub fn report(&self, folder: &Path, body: Sha256) -> Option<PathBuf> {
        let path = report_path(folder, self.plan);
        let found = Document::read(&path).ok().flatten().filter(|found| found.file == self.report)?;
        found.deletes(|place| matches!(place, Place::Body { digest, .. } if *digest == body)).then_some(path)
    }
}

/// The plan of an entry that says that a deletion is begun; none if it is another entry.
pub(super) fn planned(line: &[u8]) -> Option<Sha256> {
    Act::of(line, "retention_planned")?.plan()
}

/// Where the plan with that digest is kept.
pub(super) fn plan_path(folder: &Path, plan: Sha256) -> PathBuf {
    folder.join(format!("{}.planned.json", plan.hex()))
}

/// Where the report on that plan is kept.
pub(super) fn report_path(folder: &Path, plan: Sha256) -> PathBuf {
    folder.join(format!("{}.completed.json", plan.hex()))
}

/// A plan or a report. Its signature is not looked at: the log says which one it must be.
pub(super) struct Document {
    /// Of the whole file, by which the log names a report.
    pub file: Sha256,
    /// Of what is signed, by which the log names a plan.
    pub payload: Sha256,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Predicate {
    #[serde(default)]
    kept_back: Vec<KeptBack>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct KeptBack {
    path: String,
}

impl Document {
    /// Reads it; none if nothing is there.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Envelope {
            payload: String,
        }
        #[derive(Deserialize)]
        struct Statement {
            predicate: Predicate,
        }
        let Some(bytes) = read_small(&FileSystem, path, DOCUMENT_BYTES_MAX)? else { return Ok(None) };
        let envelope: Envelope = serde_json::from_slice(&bytes)?;
        let payload = from_base64(&envelope.payload).ok_or(io::ErrorKind::InvalidData)?;
        let Statement { predicate } = serde_json::from_slice(&payload)?;
        Ok(Some(Self { file: Sha256::of(&bytes), payload: Sha256::of(&payload), predicate }))
    }

    /// Whether it lists something that `is_it`, and did not keep that back.
    pub fn deletes(&self, is_it: impl Fn(&Place) -> bool) -> bool {
        let is_it = |path: &str| Place::parse(path).is_some_and(|place| is_it(&place));
        self.predicate.objects.iter().any(|object| is_it(&object.path))
            && !self.predicate.kept_back.iter().any(|kept| is_it(&kept.path))
    }
}
