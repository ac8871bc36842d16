//! One open run as the writer knows it.

use estoppel_evidence::entry::{Counters, Event, Intent, VerdictAction};
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{CallId, Leaf};

use crate::handle::RunHandle;

/// Where an entry is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First index of the segment.
    pub(crate) segment: u64,
    /// Offset of the frame.
    pub(crate) offset: u64,
}

/// The chain of one run.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) run: RunHandle,
    pub(crate) seq: u64,
    pub(crate) prev: Option<Leaf>,
    pub(crate) tree: Frontier,
    pub(crate) counters: Counters,
    pub(crate) places: Vec<Place>,
    pub(crate) mono_us: u64,
    /// Monotonic clock's reading that stands for `mono_us` 0; may lie before the process began.
    pub(crate) base_us: i128,
    /// Intents without their call (durability `sync`).
    pub(crate) intents: Vec<(CallId, Leaf)>,
}

impl Chain {
    pub(crate) fn new(run: RunHandle, now_us: u64) -> Self {
        Self {
            run,
            seq: 0,
            prev: None,
            tree: Frontier::default(),
            counters: Counters::default(),
            places: Vec::new(),
            mono_us: 0,
            base_us: i128::from(now_us),
            intents: Vec::new(),
        }
    }

    /// The time on the run's own clock, never smaller than before.
    pub(crate) fn mono(&self, now_us: u64) -> u64 {
        let elapsed = u64::try_from(i128::from(now_us) - self.base_us).unwrap_or_default();
        elapsed.max(self.mono_us)
    }

    /// The entry is part of the chain now.
    pub(crate) fn append(&mut self, leaf: Leaf, place: Place, mono_us: u64) {
        self.seq += 1;
        self.prev = Some(leaf);
        self.tree.push(leaf);
        self.places.push(place);
        self.mono_us = mono_us;
    }

    pub(crate) fn count_call(&mut self, call: CallId, action: VerdictAction, complete: bool) {
        let counters = &mut self.counters;
        counters.calls += 1;
        match action {
            VerdictAction::Allow => counters.allow += 1,
            VerdictAction::Repair => counters.repair += 1,
            VerdictAction::Hold => counters.hold += 1,
            VerdictAction::Block => counters.block += 1,
        }
        counters.incomplete += u64::from(!complete);
        self.intents.retain(|(intent, _)| *intent != call);
    }

    pub(crate) fn count_event(&mut self, event: &Event, leaf: Leaf) {
        match event {
            Event::Intent(Intent { call, .. }) => self.intents.push((*call, leaf)),
            Event::Interrupted(interrupted) => {
                self.counters.interrupted += 1;
                self.intents.retain(|(intent, _)| *intent != interrupted.call);
            }
            _ => {}
        }
    }
}
