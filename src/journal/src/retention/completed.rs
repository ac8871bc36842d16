//! Deletions that the log says were completed, and their reports.

use std::path::{Path, PathBuf};

use estoppel_evidence::Sha256;
use estoppel_evidence::envelope::from_base64;
use serde::Deserialize;

use super::files::Place;
use super::plan::Object;
use crate::storage::{FileSystem, read_small};

/// Largest report that is read.
const REPORT_BYTES_MAX: u64 = 64 << 20;
/// What stands in the entry before the digest of the report.
const BEFORE_DIGEST: &str = "report sha256 ";

/// An entry that says so.
pub(crate) struct Completed {
    plan: Sha256,
    report: Sha256,
}

impl Completed {
    /// Reads an entry's line; none if it is another entry.
    pub fn of(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Act {
            act: String,
            comment: String,
            on: String,
        }
        let word = b"retention_completed";
        line.windows(word.len()).any(|part| part == word).then_some(())?;
        let act: Act = serde_json::from_slice(line).ok()?;
        let (_, report) = act.comment.rsplit_once(BEFORE_DIGEST)?;
        let report = Sha256::parse(&format!("{}{report}", Sha256::PREFIX))?;
        (act.act == "retention_completed").then_some(Self { plan: Sha256::parse(&act.on)?, report })
    }

    /// Where its report is, if that is the one which the entry names, and lists this stored body.
    pub fn report(&self, folder: &Path, body: Sha256) -> Option<PathBuf> {
        #[derive(Deserialize)]
        struct Envelope {
            payload: String,
        }
        #[derive(Deserialize)]
        struct Statement {
            predicate: Predicate,
        }
        #[derive(Deserialize)]
        struct Predicate {
            kept_back: Vec<KeptBack>,
            objects: Vec<Object>,
        }
        #[derive(Deserialize)]
        struct KeptBack {
            path: String,
        }
        let path = folder.join(format!("{}.completed.json", self.plan.hex()));
        let bytes = read_small(&FileSystem, &path, REPORT_BYTES_MAX).ok().flatten()?;
        (Sha256::of(&bytes) == self.report).then_some(())?;
        let envelope: Envelope = serde_json::from_slice(&bytes).ok()?;
        let Statement { predicate } = serde_json::from_slice(&from_base64(&envelope.payload)?).ok()?;
        let is_it =
            |path: &str| matches!(Place::parse(path), Some(Place::Body { digest, .. }) if digest == body);
        let is_listed = predicate.objects.iter().any(|object| is_it(&object.path));
        let is_kept = predicate.kept_back.iter().any(|kept| is_it(&kept.path));
        (is_listed && !is_kept).then_some(path)
    }
}
