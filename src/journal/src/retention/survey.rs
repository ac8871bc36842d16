//! What the log says of runs, bodies and legal holds.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use estoppel_evidence::entry::RunClass;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Leaf, RunId, Sha256};
use serde::Deserialize;

use super::RetentionError;
use crate::entries::Entries;
use crate::layout::Layout;
use crate::segment::first_of;
use crate::start::bundled;
use crate::storage::{FileSystem, Storage as _};

/// A run, as its entries say.
#[derive(Clone, Debug)]
pub struct SurveyedRun {
    pub class: RunClass,
    pub name: Option<String>,
    /// Of the seal; none while the run is open.
    pub sealed: Option<UnixMicros>,
    /// Whether the journal will not write its bundle again by itself.
    pub(super) is_settled: bool,
}

/// Why a run was put under legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegalHold {
    pub comment: Option<String>,
    pub since: UnixMicros,
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
        let layout = Layout::new(dir, None);
        let folder = layout.segments_dir();
        let names = storage.list(&folder).map_err(RetentionError::io("list", &folder))?;
        let mut segments: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
        segments.sort_unstable();
        layout.set_segments(segments);
        // Read first: a bundle that is written meanwhile counts as not settled.
        let bundled = bundled(&storage, &layout);
        let mut survey = Self::default();
        Entries { storage: &storage, layout: &layout }.walk(None, |entry| {
            if entry.note.is_none() {
                survey.take(entry.line, entry.index < bundled).map_err(RetentionError::Entry)?;
                survey.size = entry.index.saturating_add(1);
                survey.head = Some(Leaf::of(entry.line));
            }
            Ok::<_, RetentionError>(true)
        })?;
        Ok(survey)
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

    /// Who has the run under legal hold.
    pub fn holders(&self, run: &RunId) -> impl Iterator<Item = &str> {
        let held = self.holds.range((*run, String::new())..).take_while(move |((held, _), _)| held == run);
        held.map(|((_, by), _)| by.as_str())
    }

    fn take(&mut self, line: &[u8], is_settled: bool) -> Result<(), serde_json::Error> {
        let Head { kind, run, ts } = serde_json::from_slice(line)?;
        match kind.as_str() {
            "run.open" => {
                let Open { class, name } = serde_json::from_slice(line)?;
                self.runs.insert(run, SurveyedRun { class, name, sealed: None, is_settled });
            }
            "run.seal" => {
                if let Some(seen) = self.runs.get_mut(&run) {
                    seen.sealed = Some(ts);
                    seen.is_settled = is_settled;
                }
            }
            "call" => {
                let Call { request, response } = serde_json::from_slice(line)?;
                let named = [Some(request), response.upstream, Some(response.client)];
                for digest in named.into_iter().flatten().filter_map(|body| body.sha256) {
                    let newest = self.bodies.entry(digest).or_default().entry(run).or_insert(ts);
                    *newest = ts.max(*newest);
                }
            }
            "act" => self.follow(serde_json::from_slice(line)?, ts),
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, act: Act, ts: UnixMicros) {
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
