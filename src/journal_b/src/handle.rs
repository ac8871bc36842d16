//! What the data plane holds: slots and runs.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use estoppel_evidence::entry::{CallRecord, Intent, RunClass};
use estoppel_evidence::{CaptureKey, Reason, RunCapture, RunId};
use serde::Serialize;

use crate::ack::{Ack, AckError};
use crate::error::Refused;
use crate::journal::Inner;
use crate::writer::Command;

/// A reserved place for one record. Dropping it frees the place.
pub struct Slot {
    pub(crate) inner: Arc<Inner>,
}

impl Slot {
    /// Hands over the call's record. Never blocks.
    pub fn commit(self, run: &RunHandle, record: Box<CallRecord>) -> Ack {
        let inner = self.inner.clone();
        inner.push(|ack| Command::Call { run: run.clone(), record, ack, slot: self })
    }

    /// Hands over the intent of a call, which keeps its slot.
    pub fn intent(&self, run: &RunHandle, intent: Intent) -> Ack {
        self.inner.push(|ack| Command::Intent { run: run.clone(), intent, ack })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.inner.gauges.slots.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A run that calls can be recorded in. While a clone of it lives outside the journal, the run is not sealed.
#[derive(Clone, Debug)]
pub struct RunHandle(pub(crate) Arc<RunInner>);

#[derive(Debug)]
pub(crate) struct RunInner {
    pub(crate) id: RunId,
    pub(crate) name: Option<String>,
    pub(crate) class: RunClass,
    pub(crate) capture: RunCapture,
    pub(crate) used_us: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) opened_us: AtomicU64,
    /// `run.open` is written.
    pub(crate) opened: AtomicBool,
}

impl RunHandle {
    pub(crate) fn new(id: RunId, name: Option<String>, class: RunClass, key: &CaptureKey) -> Self {
        Self(Arc::new(RunInner {
            id,
            name,
            class,
            capture: key.run(id),
            used_us: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            opened_us: AtomicU64::new(0),
            opened: AtomicBool::new(false),
        }))
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.0.id
    }

    /// The run's capture key.
    pub fn capture(&self) -> &RunCapture {
        &self.0.capture
    }

    /// The name that callers gave it.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

/// Whether a run takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Open,
    Sealed,
}

/// One run as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    pub id: RunId,
    pub name: Option<String>,
    pub class: RunClass,
    pub state: RunState,
    pub entries: u64,
    pub calls: u64,
    /// When it was opened, microseconds since 1970.
    pub opened_us: u64,
    /// Where its bundle is.
    pub bundle: Option<PathBuf>,
}

/// How many sealed runs are remembered for listing; their bundles are on disk.
const SEALED_MAX: usize = 1_000;

/// Which runs take calls.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<RegistryState>,
}

#[derive(Debug, Default)]
struct RegistryState {
    named: HashMap<String, RunHandle>,
    ambient: Option<RunHandle>,
    sealed: VecDeque<RunSummary>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default() }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open run of that name, or the ambient one; made on first use.
    pub(crate) fn get(
        &self,
        name: Option<&str>,
        max: usize,
        make: impl FnOnce() -> RunHandle,
    ) -> Result<RunHandle, Refused> {
        let mut state = self.locked();
        match name {
            None => Ok(state.ambient.get_or_insert_with(make).clone()),
            Some(name) => {
                if let Some(run) = state.named.get(name) {
                    return Ok(run.clone());
                }
                if state.named.len() >= max {
                    return Err(Refused::Full { retry_after: Duration::from_secs(1) });
                }
                let run = make();
                state.named.insert(name.to_string(), run.clone());
                Ok(run)
            }
        }
    }

    /// Takes back a run that was open when the process ended.
    pub(crate) fn restore(&self, run: RunHandle) {
        let mut state = self.locked();
        match (&run.0.name, run.0.class) {
            (Some(name), RunClass::Caller) => {
                state.named.insert(name.clone(), run);
            }
            (_, RunClass::Ambient) => state.ambient = Some(run),
            _ => {}
        }
    }

    /// Takes a run out, so that the next call of its name opens another. By id or name.
    pub(crate) fn take(&self, which: &str) -> Option<RunHandle> {
        let mut state = self.locked();
        let is = |run: &RunHandle| run.0.id.to_string() == which;
        if state.ambient.as_ref().is_some_and(is) || which == "ambient" {
            return state.ambient.take();
        }
        if let Some(run) = state.named.remove(which) {
            return Some(run);
        }
        let name = state.named.iter().find(|(_, run)| is(run)).map(|(name, _)| name.clone())?;
        state.named.remove(&name)
    }

    /// Takes out the runs that have become idle or too old.
    pub(crate) fn expire(&self, stale: impl Fn(&RunHandle) -> bool) -> Vec<RunHandle> {
        let mut state = self.locked();
        let mut out: Vec<RunHandle> = Vec::new();
        if state.ambient.as_ref().is_some_and(&stale) {
            out.extend(state.ambient.take());
        }
        let names: Vec<String> =
            state.named.iter().filter(|(_, run)| stale(run)).map(|(name, _)| name.clone()).collect();
        out.extend(names.iter().filter_map(|name| state.named.remove(name)));
        out
    }

    pub(crate) fn sealed(&self, run: &RunHandle, bundle: Option<PathBuf>) {
        let mut state = self.locked();
        if state.sealed.len() == SEALED_MAX {
            state.sealed.pop_front();
        }
        state.sealed.push_back(summary(run, RunState::Sealed, bundle));
    }

    pub(crate) fn is_sealed(&self, which: &str) -> Option<RunSummary> {
        let state = self.locked();
        state
            .sealed
            .iter()
            .rev()
            .find(|run| run.id.to_string() == which || run.name.as_deref() == Some(which))
            .cloned()
    }

    pub(crate) fn list(&self) -> Vec<RunSummary> {
        let state = self.locked();
        let mut open: Vec<RunSummary> = state
            .ambient
            .iter()
            .chain(state.named.values())
            .map(|run| summary(run, RunState::Open, None))
            .collect();
        open.sort_by_key(|run| run.id);
        open.into_iter().chain(state.sealed.iter().cloned()).collect()
    }

    pub(crate) fn open(&self) -> usize {
        let state = self.locked();
        state.named.len() + usize::from(state.ambient.is_some())
    }
}

fn summary(run: &RunHandle, state: RunState, bundle: Option<PathBuf>) -> RunSummary {
    RunSummary {
        id: run.0.id,
        name: run.0.name.clone(),
        class: run.0.class,
        state,
        entries: run.0.entries.load(Ordering::Relaxed),
        calls: run.0.calls.load(Ordering::Relaxed),
        opened_us: run.0.opened_us.load(Ordering::Relaxed),
        bundle,
    }
}

/// An acknowledgement that is refused from the start.
pub(crate) fn refused_ack(reason: Reason) -> Ack {
    let (sender, ack) = Ack::pair();
    let _ = sender.send(Err(AckError(reason)));
    ack
}
