//! Whether a bundle that is not there was deleted on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use estoppel_evidence::{RunId, Sha256};

use super::completed::{Completed, Document, plan_path, planned, report_path};
use super::files::Place;
use crate::entries::{Entries, ReadError};

/// What the log says of the deletion of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// This report lists it.
    Completed { report: PathBuf },
    /// This plan lists it, and the deletion was begun and not ended.
    Begun { plan: PathBuf },
    /// This document would say it, and is not there or not the one that the log names.
    Unknown { document: PathBuf },
}

impl fmt::Display for Deletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed { report } => {
                write!(f, "it was deleted by a rule of retention, as `{}` says", report.display())
            }
            Self::Begun { plan } => {
                write!(f, "`{}` lists it, a deletion that was begun and not ended", plan.display())
            }
            Self::Unknown { document } => write!(
                f,
                "whether it was deleted by a rule of retention is not known: `{}` is not there, or not the one that the journal names",
                document.display()
            ),
        }
    }
}

impl Deletion {
    /// What the log says of the bundle of a run, whose seal has log index `seal`; none if it was not deleted. `folder` is that of
    /// retention. Only files that an entry names by their digest are believed.
    pub(crate) fn of_bundle(
        entries: &Entries<'_>,
        folder: &Path,
        run: RunId,
        seal: u64,
    ) -> Result<Option<Self>, ReadError> {
        let mut begun: BTreeSet<Sha256> = BTreeSet::new();
        let mut completed: BTreeMap<Sha256, BTreeSet<Sha256>> = BTreeMap::new();
        entries.walk(None, |entry| {
            // What was deleted before the run was sealed was not its bundle.
            if entry.note.is_none() && entry.index > seal {
                begun.extend(planned(entry.line));
                if let Some(Completed { plan, report }) = Completed::of(entry.line) {
                    completed.entry(plan).or_default().insert(report);
                }
            }
            Ok::<_, ReadError>(true)
        })?;
        let is_it = |place: &Place| matches!(place, Place::Bundle { run: of } if *of == run);
        let mut found = None;
        for (plan, reports) in &completed {
            let report = report_path(folder, *plan);
            match Document::read(&report) {
                Ok(Some(document)) if reports.contains(&document.file) => {
                    if document.deletes(is_it) {
                        return Ok(Some(Self::Completed { report }));
                    }
                }
                // The plan lists all that may be gone.
                _ => {
                    let lost = Self::by_plan(folder, *plan, is_it)
                        .unwrap_or(Some(Self::Unknown { document: report }));
                    found = lost.or(found);
                }
            }
        }
        for plan in begun.iter().filter(|plan| !completed.contains_key(plan)) {
            // A plan is kept before the first file goes, and taken back only if none went.
            found = Self::by_plan(folder, *plan, is_it).flatten().or(found);
        }
        Ok(found)
    }

    /// As a plan says, of whose deletion there is no report; the outer none if there is no such plan.
    fn by_plan(folder: &Path, plan: Sha256, is_it: impl Fn(&Place) -> bool) -> Option<Option<Self>> {
        let path = plan_path(folder, plan);
        match Document::read(&path) {
            Ok(None) => None,
            Ok(Some(document)) if document.payload == plan => {
                Some(document.deletes(is_it).then_some(Self::Begun { plan: path }))
            }
            _ => Some(Some(Self::Unknown { document: path })),
        }
    }
}
