//! What the log says of runs, bodies and legal holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use estoppel_evidence::entry::RunClass;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, RunId, Sha256};
use serde::Deserialize;

use super::RetentionError;
use crate::beginning::{Beginning, CarriedRun, Copy, found};
use crate::bundled;
use crate::entries::Entries;
use crate::storage::FileSystem;

/// A run, as its entries say.
#[derive(Clone, Debug)]
pub struct SurveyedRun {
    pub class: RunClass,
    pub name: Option<String>,
    pub opened: UnixMicros,
    /// Of the seal; none while the run is open.
    pub sealed: Option<UnixMicros>,
    /// Whether the journal will not write its bundle again by itself.
    pub is_settled: bool,
}

/// Why a run was put under legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegalHold {
    pub comment: Option<String>,
    pub since: UnixMicros,
}

/// A segment of the log.
#[derive(Clone, Debug)]
pub(super) struct SurveyedSegment {
    /// Log index of its first entry.
    pub first: u64,
    pub entries: u64,
    /// Hash of its last entry.
    pub head: Leaf,
    /// When the newest of its entries was written.
    pub newest: UnixMicros,
    pub runs: BTreeSet<RunId>,
    /// Whether another follows it.
    pub is_finished: bool,
    /// Whether it has the entry by which an operator stopped something that nobody has let go on.
    pub is_in_force: bool,
}

/// A journal read through. Memory grows with its runs and its distinct stored bodies, not with its calls.
#[derive(Default)]
pub struct Survey {
    pub runs: BTreeMap<RunId, SurveyedRun>,
    /// By run and by who holds it: each holder lets go for itself.
    pub holds: BTreeMap<(RunId, String), LegalHold>,
    /// Entries of the log, and the hash of the last.
    pub size: u64,
    pub head: Option<Leaf>,
    /// Where content was archived, by its digest. Left to the caller: without it no segment may go.
    pub copies: BTreeMap<Sha256, Copy>,
    /// Entries before the first segment.
    pub begin: u64,
    /// Oldest first.
    pub(super) segments: Vec<SurveyedSegment>,
    /// Log index of the seal of each run.
    pub(super) seals: BTreeMap<RunId, u64>,
    /// Of each stored body the log index of the newest receipt that names it.
    pub(super) named: HashMap<Sha256, u64>,
    /// By what is stopped, the first index of the segment with the entry that says so.
    stopped: BTreeMap<String, u64>,
    /// Of each stored body the runs that name it, each with the time of its newest receipt that does.
    pub(super) bodies: HashMap<Sha256, BTreeMap<RunId, UnixMicros>>,
}

impl Survey {
    /// Reads the log in `dir`, which another process may be writing. Nothing is judged and no lock is taken.
    ///
    /// # Errors
    /// [`RetentionError::Read`] and [`RetentionError::Entry`].
    pub fn of(dir: &Path) -> Result<Self, RetentionError> {
        let storage = FileSystem;
        let layout = found(&storage, dir)?;
        // Read first: a bundle that is written meanwhile counts as not settled.
        let bundled = bundled::read(&storage, &layout);
        let mut survey = Self::default();
        if let Some(before) = Beginning::read(&storage, &layout)? {
            survey.begin(before);
        }
        Entries { storage: &storage, layout: &layout }.walk(None, |entry| {
            if entry.note.is_none() {
                let first = layout.first(entry.place.segment()).unwrap_or(entry.index);
                survey.take(entry.line, (first, entry.index), bundled).map_err(RetentionError::Entry)?;
            }
            Ok::<_, RetentionError>(true)
        })?;
        let last = layout.segments().checked_sub(1).and_then(|last| layout.first(last));
        for segment in &mut survey.segments {
            segment.is_finished = Some(segment.first) != last;
            segment.is_in_force = survey.stopped.values().any(|first| *first == segment.first);
        }
        Ok(survey)
    }

    fn begin(&mut self, before: Beginning) {
        self.begin = before.size;
        self.size = before.size;
        self.head = Some(before.head);
        for CarriedRun { run, class, name, opened, .. } in before.runs {
            self.runs.insert(run, SurveyedRun { class, name, opened, sealed: None, is_settled: false });
        }
    }

    /// Runs by id or by the name that callers gave.
    pub fn named<'a>(&'a self, which: &'a str) -> impl Iterator<Item = RunId> + 'a {
        let id = which.parse::<RunId>().ok();
        let fits = move |(run, seen): &(&RunId, &SurveyedRun)| match id {
            Some(id) => **run == id,
            None => seen.name.as_deref() == Some(which),
        };
        self.runs.iter().filter(fits).map(|(run, _)| *run)
    }

    pub fn is_held(&self, run: &RunId) -> bool {
        self.holders(run).next().is_some()
    }

    /// Who has the run under legal hold.
    pub fn holders(&self, run: &RunId) -> impl Iterator<Item = &str> {
        let held = self.holds.range((*run, String::new())..).take_while(move |((held, _), _)| held == run);
        held.map(|((_, by), _)| by.as_str())
    }

    fn take(
        &mut self,
        line: &[u8],
        (first, index): (u64, u64),
        bundled: u64,
    ) -> Result<(), serde_json::Error> {
        let Head { kind, run, ts } = serde_json::from_slice(line)?;
        let (is_settled, leaf) = (index < bundled, Leaf::of(line));
        self.size = index.saturating_add(1);
        self.head = Some(leaf);
        self.count(first, run, (leaf, ts));
        match kind.as_str() {
            "run.open" => {
                let Open { class, name } = serde_json::from_slice(line)?;
                self.runs.insert(run, SurveyedRun { class, name, opened: ts, sealed: None, is_settled });
            }
            "run.seal" => {
                if let Some(seen) = self.runs.get_mut(&run) {
                    seen.sealed = Some(ts);
                    seen.is_settled = is_settled;
                    self.seals.insert(run, index);
                }
            }
            "call" => {
                let Call { request, response } = serde_json::from_slice(line)?;
                let named = [Some(request), response.upstream, Some(response.client)];
                for digest in named.into_iter().flatten().filter_map(|body| body.sha256) {
                    let newest = self.bodies.entry(digest).or_default().entry(run).or_insert(ts);
                    *newest = ts.max(*newest);
                    self.named.insert(digest, index);
                }
            }
            "act" => self.follow(serde_json::from_slice(line)?, ts, first),
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, first: u64, run: RunId, (head, ts): (Leaf, UnixMicros)) {
        match self.segments.last_mut().filter(|segment| segment.first == first) {
            Some(segment) => {
                segment.entries += 1;
                segment.head = head;
                segment.newest = segment.newest.max(ts);
                segment.runs.insert(run);
            }
            None => self.segments.push(SurveyedSegment {
                first,
                entries: 1,
                head,
                newest: ts,
                runs: BTreeSet::from([run]),
                is_finished: false,
                is_in_force: false,
            }),
        }
    }

    fn follow(&mut self, act: Act, ts: UnixMicros, first: u64) {
        match (act.act.as_str(), &act.on) {
            ("kill", Some(on)) => drop(self.stopped.insert(on.clone(), first)),
            ("resume", Some(on)) => drop(self.stopped.remove(on)),
            _ => {}
        }
        let on = act.on.as_deref().and_then(|on| on.strip_prefix("run:")?.parse::<RunId>().ok());
        match (act.act.as_str(), on) {
            ("legal_hold", Some(run)) => {
                self.holds.insert((run, act.by), LegalHold { comment: act.comment, since: ts });
            }
            ("legal_release", Some(run)) => drop(self.holds.remove(&(run, act.by))),
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    run: RunId,
    ts: UnixMicros,
}

#[derive(Deserialize)]
struct Open {
    class: RunClass,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    request: Body,
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    upstream: Option<Body>,
    client: Body,
}

#[derive(Deserialize)]
struct Body {
    sha256: Option<Sha256>,
}

#[derive(Deserialize)]
struct Act {
    act: String,
    by: String,
    comment: Option<String>,
    on: Option<String>,
}
