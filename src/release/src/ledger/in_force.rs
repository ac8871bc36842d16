//! What an amendment leaves in force: what was said of a version before it has lapsed by its place in the ledger, whatever
//! text the contract has now.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;

use super::body::{Body, Contracted, EvolutionFinished};
use super::event::Event;
use crate::version::Version;

/// The amendments of a version, and what follows them.
#[derive(Debug)]
pub struct InForce<'e> {
    /// In an order in which each follows its parents; none where nothing was amended.
    events: Vec<&'e Event>,
    /// Each with the changes that it altered.
    amendments: Vec<(&'e Event, BTreeSet<&'e str>)>,
    /// The beginning of each evolution.
    starts: BTreeMap<&'e str, Sha256>,
    /// What follows every amendment.
    since: BTreeSet<Sha256>,
}

impl<'e> InForce<'e> {
    /// `events` are in an order in which each follows its parents.
    pub(super) fn of(events: impl IntoIterator<Item = &'e Event>, version: &Version) -> Self {
        let mut events: Vec<&Event> = events.into_iter().collect();
        let (mut amendments, mut starts, mut before) = (Vec::new(), BTreeMap::new(), None);
        for event in &events {
            match &event.body {
                Body::GenerationSealed(body) if body.version == *version => before = Some(body.as_ref()),
                Body::GenerationAmended(body) if body.version == *version => {
                    amendments.push((*event, altered(before, body)));
                    before = Some(body.as_ref());
                }
                Body::EvolutionStarted(run) if run.version == *version => {
                    starts.insert(run.evolution.as_str(), event.id);
                }
                _ => {}
            }
        }
        if amendments.is_empty() {
            events.clear();
        }
        let since = follow_all(&events, amendments.iter().map(|(event, _)| *event));
        Self { events, amendments, starts, since }
    }

    /// Whether what an event says of the version was said under the contract in force.
    pub fn has(&self, event: &Event) -> bool {
        self.amendments.is_empty() || self.since.contains(&event.id)
    }

    /// The same of a run: what counts is when it began.
    pub fn has_run(&self, run: &EvolutionFinished) -> bool {
        self.amendments.is_empty() || self.start(run).is_some_and(|start| self.since.contains(&start))
    }

    /// Whether a run shows a change as it has been since the last amendment that altered it.
    pub fn proves(&self, run: &EvolutionFinished, change: &str) -> bool {
        if self.has_run(run) {
            return true;
        }
        let altering = self.amendments.iter().filter(|(_, changes)| changes.contains(change));
        let mut altering = altering.map(|(event, _)| *event).peekable();
        altering.peek().is_none()
            || self.start(run).is_some_and(|start| follow_all(&self.events, altering).contains(&start))
    }

    fn start(&self, run: &EvolutionFinished) -> Option<Sha256> {
        self.starts.get(run.evolution.as_str()).copied()
    }
}

/// Changes that have another digest than before, or are there in one of both alone.
fn altered<'c>(before: Option<&'c Contracted>, now: &'c Contracted) -> BTreeSet<&'c str> {
    let was = |id: &str| before.and_then(|before| before.changes.get(id));
    let ids = before.into_iter().chain([now]).flat_map(|contract| contract.changes.keys());
    ids.filter(|id| was(id) != now.changes.get(*id)).map(String::as_str).collect()
}

/// Those that follow each of `these`.
fn follow_all<'e>(
    events: &[&'e Event],
    these: impl DoubleEndedIterator<Item = &'e Event>,
) -> BTreeSet<Sha256> {
    let mut found: Option<BTreeSet<Sha256>> = None;
    let mut done = BTreeSet::new();
    for event in these.rev() {
        // Whatever follows one that follows it, follows it.
        if done.contains(&event.id) {
            continue;
        }
        done.extend(followed(events, event));
        let mut after = following(events, event.id);
        after.remove(&event.id);
        found = Some(match found {
            None => after,
            Some(found) => &found & &after,
        });
    }
    found.unwrap_or_default()
}

/// An event and those that follow it, directly or not.
pub(super) fn following(events: &[&Event], id: Sha256) -> BTreeSet<Sha256> {
    let mut following = BTreeSet::from([id]);
    for event in events {
        if event.parents.iter().any(|parent| following.contains(parent)) {
            following.insert(event.id);
        }
    }
    following
}

/// Those that an event follows, directly or not.
pub(super) fn followed(events: &[&Event], of: &Event) -> BTreeSet<Sha256> {
    let mut followed: BTreeSet<Sha256> = of.parents.iter().copied().collect();
    for event in events.iter().rev() {
        if followed.contains(&event.id) {
            followed.extend(event.parents.iter().copied());
        }
    }
    followed
}
