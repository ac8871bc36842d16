//! Runs that the window has and the pack has not, as the log of a journal and signed reports of retention say.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::entry::RunClass;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, RunId, Sha256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::IncidentError;
use crate::pack::{Part, Span, canonical};

const FORMAT: &str = "estoppel-incident-absent/1";
/// Path of the list in a pack.
pub(crate) const ABSENT: &str = "absent.json";
/// Most runs of a list. Default and fixed: 65,536. With more there is no pack (`INCIDENT_LIMIT`).
pub(crate) const ABSENT_MAX: usize = 65_536;

/// Why the bundle of a run is not in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A report of retention says that it was deleted.
    Deleted,
    /// A plan of retention lists it, and there is no report yet.
    Deleting,
    /// It is not there, and no plan that the instance signed lists it.
    Missing,
    /// The run is sealed; its bundle is still to be written.
    NotBundled,
    /// The run is not sealed.
    Open,
}

impl Why {
    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Deleting => "deleting",
            Self::Missing => "missing",
            Self::NotBundled => "not_bundled",
            Self::Open => "open",
        }
    }
}

/// By which documents of retention a bundle was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// When it was done, as the report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMicros>,
    /// Of the plan's payload.
    pub plan: Sha256,
    /// Of the report's envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Sha256>,
    /// Of the bundle's file.
    pub sha256: Sha256,
}

/// A run whose bundle is not in the pack. Members are in the order of canonical JSON, here and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsentRun {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<RunClass>,
    /// Of [`Why::Deleted`] and [`Why::Deleting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Unknown of a run that the log does not have any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<UnixMicros>,
    pub run: RunId,
    /// None while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<UnixMicros>,
    pub why: Why,
}

impl AbsentRun {
    /// Whether it may have been open between the two. What is not known is no reason to leave it out.
    pub fn is_within(&self, from: UnixMicros, to: UnixMicros) -> bool {
        self.opened.is_none_or(|opened| opened <= to) && self.sealed.is_none_or(|sealed| sealed >= from)
    }

    /// Why, in words for people.
    pub fn words(&self) -> String {
        let plan = || self.deletion.as_ref().map(|deletion| deletion.plan.to_string()).unwrap_or_default();
        match (self.why, self.deletion.as_ref().and_then(|deletion| deletion.report)) {
            (Why::Deleted, report) => {
                let report = report.map(|report| report.to_string()).unwrap_or_default();
                format!("its bundle was deleted by retention: plan {}, report {report}", plan())
            }
            (Why::Deleting, _) => format!("its bundle is being deleted by retention: plan {}", plan()),
            (Why::Missing, _) => "its bundle is missing, and no report of retention says why".to_owned(),
            (Why::NotBundled, _) => "its bundle is still to be written".to_owned(),
            (Why::Open, _) => "it is not sealed".to_owned(),
        }
    }

    /// Whether its members go together.
    fn is_clear(&self) -> bool {
        let has_report =
            self.deletion.as_ref().map(|deletion| deletion.report.is_some() && deletion.at.is_some());
        match self.why {
            Why::Deleted => self.sealed.is_some() && has_report == Some(true),
            Why::Deleting => self.sealed.is_some() && has_report == Some(false),
            Why::Missing | Why::NotBundled => self.sealed.is_some() && has_report.is_none(),
            Why::Open => self.sealed.is_none() && self.opened.is_some() && has_report.is_none(),
        }
    }
}

/// The log that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Entries before the first that it has: more than 0 where its oldest segments were deleted.
    pub begins: u64,
    /// Hash of the last entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Leaf>,
    /// Entries.
    pub size: u64,
}

/// What a journal knows of the runs of a window that are not in the pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Log>,
    /// In order of their ids.
    rows: Vec<AbsentRun>,
    /// Why the log could not be asked: the code of what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

impl Absent {
    /// What the log says.
    pub fn of(log: Log, mut rows: Vec<AbsentRun>) -> Self {
        rows.sort_by_key(|row| row.run);
        Self { format: FORMAT.into(), log: Some(log), rows, unread: None }
    }

    /// The log does not verify or cannot be read: nobody knows which runs are absent.
    pub fn unread(code: &str) -> Self {
        Self { format: FORMAT.into(), log: None, rows: Vec::new(), unread: Some(code.into()) }
    }

    /// The document.
    ///
    /// # Errors
    /// [`IncidentError::Form`].
    pub fn bytes(&self) -> Result<Vec<u8>, IncidentError> {
        canonical(&serde_json::to_value(self).unwrap_or_default())
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, IncidentError> {
        serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))
    }

    /// Reads a list, and sees that it is one for a pack of these bundles and this span.
    pub(crate) fn read(bytes: &[u8], parts: &[Part<'_>], span: &Span) -> Result<Self, IncidentError> {
        let read = Self::parse(bytes)?;
        let moment = |text: &str| UnixMicros::parse(text).unwrap_or_default();
        let (from, to) = (moment(&span.from), moment(&span.to));
        let is_word = |code: &String| {
            (1..=64).contains(&code.len())
                && code.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
        };
        let there: BTreeSet<&str> = parts.iter().map(Part::run).collect();
        let is_there = |row: &AbsentRun| there.contains(row.run.to_string().as_str());
        match () {
            () if read.rows.len() > ABSENT_MAX => Err(IncidentError::Limit),
            () if read.format != FORMAT || read.bytes()? != bytes => Err(wrong("not in its one form")),
            () if read.log.is_some() == read.unread.is_some() => {
                Err(wrong("either a log or why there is none"))
            }
            () if !read.unread.iter().all(is_word) || read.unread.is_some() && !read.rows.is_empty() => {
                Err(wrong("what was not read says nothing"))
            }
            () if !read.rows.is_sorted_by(|one, other| one.run < other.run) => Err(wrong("not in order")),
            () if !read.rows.iter().all(AbsentRun::is_clear) => Err(wrong("members that do not go together")),
            () if !read.rows.iter().all(|row| row.is_within(from, to)) => Err(wrong("a run of another time")),
            () if read.rows.iter().any(is_there) => Err(wrong("a run whose bundle is there")),
            () => Ok(read),
        }
    }

    /// The runs, by id.
    pub fn rows(&self) -> &[AbsentRun] {
        &self.rows
    }

    /// As the timeline has them.
    pub(crate) fn listed(&self) -> Value {
        json!(self.rows)
    }

    /// As the index has it.
    pub(crate) fn summary(&self) -> Value {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.why.as_str()).or_default() += 1;
        }
        let mut summary = json!({ "at": ABSENT, "counts": counts });
        if let Some(log) = &self.log {
            summary["log"] = json!(log);
        }
        if let Some(code) = &self.unread {
            summary["unread"] = json!(code);
        }
        summary
    }

    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    pub(crate) fn unread_code(&self) -> &str {
        self.unread.as_deref().unwrap_or("-")
    }
}

fn wrong(what: &str) -> IncidentError {
    IncidentError::Form(format!("{ABSENT}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span { from: UnixMicros(10_000_000).to_string(), to: UnixMicros(20_000_000).to_string() }
    }

    fn missing(id: u8) -> AbsentRun {
        AbsentRun {
            class: Some(RunClass::Caller),
            deletion: None,
            name: None,
            opened: Some(UnixMicros(11_000_000)),
            run: RunId::new(1, [id; 10]),
            sealed: Some(UnixMicros(12_000_000)),
            why: Why::Missing,
        }
    }

    fn code(list: &Absent) -> Option<&'static str> {
        Absent::read(&list.bytes().unwrap(), &[], &span()).err().map(|error| error.code())
    }

    #[test]
    fn a_list_is_read_back_and_what_says_nothing_clear_is_refused() {
        let log = || Log { begins: 0, head: None, size: 7 };
        let of = |rows: Vec<AbsentRun>| Absent::of(log(), rows);
        assert_eq!(code(&of(vec![missing(2), missing(1)])), None);
        assert_eq!(code(&Absent::unread("JOURNAL_CORRUPT")), None);
        let sha256 = Sha256::of(b"");
        let planned = Deletion { at: None, plan: sha256, report: None, sha256 };
        let done = Deletion { at: Some(UnixMicros(1)), report: Some(sha256), ..planned.clone() };
        let with = |change: &dyn Fn(&mut AbsentRun)| {
            let mut row = missing(1);
            change(&mut row);
            of(vec![row])
        };
        let deleted = |row: &mut AbsentRun, why, deletion: &Deletion| {
            (row.why, row.deletion, row.opened) = (why, Some(deletion.clone()), None);
        };
        assert_eq!(
            code(&with(&|row| deleted(row, Why::Deleted, &done))),
            None,
            "of a run that the log has not"
        );
        assert_eq!(code(&with(&|row| deleted(row, Why::Deleting, &planned))), None);
        let refused = [
            of(vec![missing(1), missing(1)]),
            with(&|row| row.sealed = Some(UnixMicros(9_999_999))),
            with(&|row| row.opened = Some(UnixMicros(20_000_001))),
            with(&|row| row.sealed = None),
            with(&|row| row.why = Why::Open),
            with(&|row| row.why = Why::Deleted),
            with(&|row| deleted(row, Why::Deleted, &planned)),
            with(&|row| deleted(row, Why::Deleting, &done)),
            with(&|row| deleted(row, Why::Missing, &done)),
            Absent::unread("<b>"),
            Absent { rows: vec![missing(1)], ..Absent::unread("JOURNAL_CORRUPT") },
            Absent { unread: Some("JOURNAL_CORRUPT".into()), ..of(Vec::new()) },
            Absent { log: None, ..of(Vec::new()) },
            Absent { format: "estoppel-incident-absent/2".into(), ..of(Vec::new()) },
        ];
        for list in refused {
            assert_eq!(code(&list), Some("INCIDENT_FORM"), "{list:?}");
        }
        let spaced = [&of(Vec::new()).bytes().unwrap()[..], b"\n"].concat();
        assert!(Absent::read(&spaced, &[], &span()).is_err());
    }
}
