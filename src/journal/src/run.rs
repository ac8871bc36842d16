//! Runs as the data plane sees them: open ones by name, and handles that keep a run from being sealed.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

use estoppel_evidence::capture::RunCapture;
use estoppel_evidence::entry::RunClass;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{RunId, Sha256};

use crate::admit::Shared;

/// Most sealed runs that are remembered for [`crate::Journal::runs`]. Older ones are still in the segments.
pub(crate) const SEALED_MAX: usize = 1_024;

/// A run that may still get entries.
pub(crate) struct Run {
    pub id: RunId,
    pub class: RunClass,
    pub name: Option<Box<str>>,
    pub capture: RunCapture,
    /// Named in `run.open`.
    pub policy: Sha256,
    pub opened: UnixMicros,
    /// Monotonic clock when this process opened it; none: another did.
    pub opened_us: Option<u64>,
    /// Handles that exist. While there is one, the run cannot be sealed.
    pub in_flight: AtomicUsize,
    /// Records in the spill file. While there is one, the run cannot be sealed.
    pub spilled: AtomicUsize,
    /// A seal waits for `in_flight` and `spilled` to become 0.
    pub sealing: AtomicBool,
    /// Its seal is written: the writer appends nothing more.
    pub sealed: AtomicBool,
    pub entries: AtomicU64,
    pub calls: AtomicU64,
    /// Monotonic clock when a handle was last asked for.
    pub used_us: AtomicU64,
}

impl Run {
    /// Whether nothing of the run is on its way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0 && self.spilled.load(Ordering::SeqCst) == 0
    }
}

/// A call's hold on its run: while it exists the run stays open. Cloning counts as another.
pub struct RunHandle {
    run: Arc<Run>,
    shared: Arc<Shared>,
}

impl RunHandle {
    pub(crate) fn new(run: Arc<Run>, shared: Arc<Shared>) -> Self {
        run.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { run, shared }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.run.id
    }

    /// What the run's bytes are captured with.
    pub fn capture(&self) -> &RunCapture {
        &self.run.capture
    }

    /// The name that callers gave it.
    pub fn name(&self) -> Option<&str> {
        self.run.name.as_deref()
    }

    /// Monotonic clock when this process opened it; none: another did, and this one goes on with it.
    pub fn opened_us(&self) -> Option<u64> {
        self.run.opened_us
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }
}

impl Clone for RunHandle {
    fn clone(&self) -> Self {
        Self::new(self.run.clone(), self.shared.clone())
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        let last = self.run.in_flight.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.run.sealing.load(Ordering::SeqCst) {
            self.shared.nudge();
        }
    }
}

impl std::fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunHandle({})", self.run.id)
    }
}

/// Where a run is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Open,
    /// A seal waits for calls in flight.
    Sealing,
    Sealed,
}

/// A run, for those who look after it.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    pub id: RunId,
    pub name: Option<String>,
    pub class: RunClass,
    pub state: RunState,
    /// When it was opened, microseconds since 1970.
    pub opened_us: u64,
    /// Entries that are recorded.
    pub entries: u64,
    /// Receipts among them.
    pub calls: u64,
    /// Where the bundle is, or will be once it is written.
    pub bundle: Option<PathBuf>,
}

/// The runs that are open, and those that were sealed last.
#[derive(Default)]
pub(crate) struct RunTable {
    /// By id, all classes.
    pub open: HashMap<RunId, Arc<Run>>,
    /// Caller runs by name.
    pub named: HashMap<Box<str>, Arc<Run>>,
    /// The run of calls that name none.
    pub ambient: Option<Arc<Run>>,
    /// At most [`SEALED_MAX`], the newest last.
    pub sealed: VecDeque<RunSummary>,
}

impl RunTable {
    /// Adds an open run and makes it the one of its name or class.
    pub fn insert(&mut self, run: Arc<Run>) {
        match (run.class, &run.name) {
            (RunClass::Caller, Some(name)) => drop(self.named.insert(name.clone(), run.clone())),
            (RunClass::Ambient, _) => self.ambient = Some(run.clone()),
            (RunClass::Caller | RunClass::Instance, _) => {}
        }
        self.open.insert(run.id, run);
    }

    /// No further call gets this run; handles that exist go on.
    pub fn detach(&mut self, run: &Run) {
        if let Some(name) = &run.name
            && self.named.get(name).is_some_and(|named| named.id == run.id)
        {
            self.named.remove(name);
        }
        if self.ambient.as_ref().is_some_and(|ambient| ambient.id == run.id) {
            self.ambient = None;
        }
    }

    /// Open runs of callers that no further call gets.
    pub fn detached(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.open.values().filter(|run| match (run.class, &run.name) {
            (RunClass::Caller, Some(name)) => self.named.get(name).is_none_or(|named| named.id != run.id),
            (RunClass::Ambient, _) => self.ambient.as_ref().is_none_or(|ambient| ambient.id != run.id),
            (RunClass::Caller | RunClass::Instance, _) => false,
        })
    }

    /// The run is gone: sealed, or dropped because it never got an entry.
    pub fn remove(&mut self, run: &Run) {
        self.detach(run);
        self.open.remove(&run.id);
    }

    /// Remembers a sealed run.
    pub fn remember(&mut self, summary: RunSummary) {
        if self.sealed.len() == SEALED_MAX {
            self.sealed.pop_front();
        }
        self.sealed.push_back(summary);
    }

    /// An open run by id, by the name that callers gave it, or by its class where there is one run of it.
    pub fn find(&self, text: &str) -> Option<&Arc<Run>> {
        let by_id = || text.parse::<RunId>().ok().and_then(|id| self.open.get(&id));
        let by_class = || match text {
            "ambient" => self.ambient.as_ref(),
            "instance" => self.open.values().find(|run| run.class == RunClass::Instance),
            _ => None,
        };
        by_id().or_else(|| self.named.get(text)).or_else(by_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use estoppel_evidence::CaptureKey;

    fn run(n: u8, class: RunClass, name: Option<&str>) -> Arc<Run> {
        let id = RunId::new(1, [n; 10]);
        Arc::new(Run {
            id,
            class,
            name: name.map(Into::into),
            capture: CaptureKey::new([1; 32]).run(id),
            policy: Sha256([0; 32]),
            opened: UnixMicros(0),
            opened_us: None,
            in_flight: AtomicUsize::new(0),
            spilled: AtomicUsize::new(0),
            sealing: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            used_us: AtomicU64::new(0),
        })
    }

    #[test]
    fn a_detached_run_gives_its_name_free_and_stays_open() {
        let mut table = RunTable::default();
        let (one, two) = (run(1, RunClass::Caller, Some("job")), run(2, RunClass::Caller, Some("job")));
        table.insert(one.clone());
        table.detach(&one);
        table.insert(two.clone());
        table.detach(&one); // again: not its name any more
        assert_eq!(table.find("job").map(|r| r.id), Some(two.id));
        assert_eq!(table.find(&one.id.to_string()).map(|r| r.id), Some(one.id));
        table.remove(&one);
        assert!(table.find(&one.id.to_string()).is_none());
        assert_eq!(table.find("job").map(|r| r.id), Some(two.id));
    }

    #[test]
    fn runs_without_a_name_are_found_by_their_class_unless_a_caller_took_the_word() {
        let mut table = RunTable::default();
        let (ambient, instance) = (run(1, RunClass::Ambient, None), run(2, RunClass::Instance, None));
        table.insert(ambient.clone());
        table.insert(instance.clone());
        assert_eq!(table.find("ambient").map(|r| r.id), Some(ambient.id));
        assert_eq!(table.find("instance").map(|r| r.id), Some(instance.id));
        let named = run(3, RunClass::Caller, Some("ambient"));
        table.insert(named.clone());
        assert_eq!(table.find("ambient").map(|r| r.id), Some(named.id));
        table.remove(&named);
        table.detach(&ambient);
        assert!(table.find("ambient").is_none());
    }

    #[test]
    fn sealed_runs_are_remembered_up_to_the_limit() {
        let mut table = RunTable::default();
        for n in 0..SEALED_MAX as u64 + 3 {
            table.remember(RunSummary {
                id: RunId::new(n, [0; 10]),
                name: None,
                class: RunClass::Ambient,
                state: RunState::Sealed,
                opened_us: 0,
                entries: 0,
                calls: 0,
                bundle: None,
            });
        }
        assert_eq!(table.sealed.len(), SEALED_MAX);
        assert_eq!(table.sealed.front().map(|s| s.id), Some(RunId::new(3, [0; 10])));
    }
}
