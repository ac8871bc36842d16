//! Runs of a window that the log of a journal has and no bundle is there of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, RunId, Sha256};
use estoppel_incident::{Absent, AbsentRun, Deletion, Log, Why};
use estoppel_journal::retention::{self, Plan, RetentionError, Survey, SurveyedRun};
use estoppel_verify::{Given, verify_retention};
use serde::Deserialize;

use crate::output::{Failure, plain};
use crate::{input, verify};

/// What a journal says of its runs.
pub enum Known {
    Read {
        survey: Box<Survey>,
        deletions: BTreeMap<RunId, (Deletion, UnixMicros)>,
    },
    /// The code of what is wrong with the log.
    Unread(String),
}

impl Known {
    /// Reads the log, once it has verified. What keeps that from being done is what is known then.
    pub fn of(journal: &Path, trust: Option<&Path>) -> Self {
        Self::read(journal, trust).unwrap_or_else(|failure| Self::Unread(failure.code))
    }

    fn read(journal: &Path, trust: Option<&Path>) -> Result<Self, Failure> {
        let report = verify::journal_report(journal, trust)?;
        if let Some(finding) = report.finding {
            return Ok(Self::Unread(finding.reason.code().to_owned()));
        }
        let survey = Survey::of(journal).map_err(|error| failed(&error))?;
        if survey.size == 0 {
            return Ok(Self::Unread(Reason::RunUnknown.code().to_owned())); // whose bundles are there had a log
        }
        let trust = trust.map_or_else(|| journal.join("trust.json"), Path::to_owned);
        let deletions = deletions(journal, &input::file(&trust)?)?;
        Ok(Self::Read { survey: Box::new(survey), deletions })
    }

    /// The runs that may have been open between the two and are not `included`.
    pub fn absent(&self, (from, to): (UnixMicros, UnixMicros), included: &BTreeSet<RunId>) -> Absent {
        let (survey, deletions) = match self {
            Self::Unread(code) => return Absent::unread(code),
            Self::Read { survey, deletions } => (survey, deletions),
        };
        let of_log = survey.runs.iter().map(|(run, seen)| row(*run, Some(seen), deletions.get(run)));
        // Of a run whose entries are gone with their segments, the id says when it was opened.
        let is_not_later = |run: &RunId| opened_ms(*run).saturating_mul(1_000) <= to.0;
        let of_reports =
            deletions.iter().filter(|(run, _)| !survey.runs.contains_key(run) && is_not_later(run));
        let of_reports = of_reports.map(|(run, deletion)| row(*run, None, Some(deletion)));
        let rows = of_log.chain(of_reports);
        let rows = rows.filter(|row| !included.contains(&row.run) && row.is_within(from, to));
        let log = Log { begins: survey.begin, head: survey.head, size: survey.size };
        Absent::of(log, rows.collect())
    }

    /// What is known of a run that is named and has no bundle.
    pub fn named(&self, name: &str) -> Option<AbsentRun> {
        let Self::Read { survey, deletions } = self else { return None };
        let id = name.parse::<RunId>().ok();
        let run = survey.named(name).last().or_else(|| id.filter(|run| deletions.contains_key(run)))?;
        Some(row(run, survey.runs.get(&run), deletions.get(&run)))
    }
}

fn failed(error: &RetentionError) -> Failure {
    Failure::reason(error.reason(), plain(&error.to_string()))
}

/// Unix time of an id (RFC 9562 section 5.7).
fn opened_ms(run: RunId) -> u64 {
    run.bytes().iter().take(6).fold(0, |ms, byte| ms << 8 | u64::from(*byte))
}

fn row(run: RunId, seen: Option<&SurveyedRun>, deletion: Option<&(Deletion, UnixMicros)>) -> AbsentRun {
    let sealed = match (seen, deletion) {
        (Some(seen), _) => seen.sealed,
        (None, Some((_, sealed))) => Some(*sealed),
        (None, None) => None,
    };
    let deletion = deletion.filter(|_| sealed.is_some()).map(|(deletion, _)| deletion.clone());
    let why = match (&deletion, seen) {
        _ if sealed.is_none() => Why::Open,
        (Some(Deletion { report: Some(_), .. }), _) => Why::Deleted,
        (Some(_), _) => Why::Deleting,
        (None, Some(seen)) if !seen.is_settled => Why::NotBundled,
        (None, _) => Why::Missing,
    };
    AbsentRun {
        class: seen.map(|seen| seen.class),
        deletion,
        name: seen.and_then(|seen| seen.name.clone()),
        opened: seen.map(|seen| seen.opened),
        run,
        sealed,
        why,
    }
}

/// Bundles that plans of retention list, each with when its run was sealed. Documents that this instance has not signed say nothing.
fn deletions(journal: &Path, trust: &[u8]) -> Result<BTreeMap<RunId, (Deletion, UnixMicros)>, Failure> {
    let iss = crate::retention::instance(journal)?;
    let mut found: BTreeMap<RunId, (Deletion, UnixMicros)> = BTreeMap::new();
    for kept in retention::documents(journal).map_err(|error| failed(&error))? {
        let Ok(signed) = retention::kept(journal, &kept.plan) else { continue };
        let report = kept.report.and_then(|name| retention::kept(journal, &name).ok());
        let judge = |report: Option<&[u8]>| verify_retention(&signed, report, Given::Trust(trust)).ok();
        let with_report = report.as_deref().and_then(|report| Some((judge(Some(report))?, Some(report))));
        let Some((proof, report)) = with_report.or_else(|| Some((judge(None)?, None))) else { continue };
        let Ok(plan) = Plan::parse(&proof.plan) else { continue };
        if plan.iss != iss {
            continue;
        }
        let done = proof.report.as_deref().and_then(Done::parse);
        let kept_back =
            |path: &str| done.iter().flat_map(|done| &done.kept_back).any(|kept| kept.path == path);
        let digest = Sha256::of(&proof.plan);
        for object in plan.objects.iter().filter(|object| !kept_back(&object.path)) {
            let Some(run) = object.bundle() else { continue };
            let deletion = Deletion {
                at: done.as_ref().map(|done| done.at),
                plan: digest,
                report: report.filter(|_| done.is_some()).map(Sha256::of),
                sha256: object.sha256,
            };
            // One that was done says more than one that was only begun.
            let is_better =
                |(before, _): &(Deletion, UnixMicros)| deletion.report.is_some() && before.report.is_none();
            if found.get(&run).is_none_or(is_better) {
                found.insert(run, (deletion, object.age_basis));
            }
        }
    }
    Ok(found)
}

/// What of a report is read.
#[derive(Deserialize)]
struct Done {
    at: UnixMicros,
    kept_back: Vec<KeptBack>,
}

#[derive(Deserialize)]
struct KeptBack {
    path: String,
}

impl Done {
    fn parse(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Signed {
            predicate: Done,
        }
        serde_json::from_slice(payload).ok().map(|Signed { predicate }| predicate)
    }
}
