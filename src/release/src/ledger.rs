//! The ledger: what was decided, by whom, on what, as signed events that follow one another (spec/ledger.md).
//!
//! A [`Ledger`] exists only when every event of it was checked: there is no other way to make one. [`Store`] keeps it on a
//! ref of the repository, and adds to it by compare-and-swap.

mod body;
mod check;
mod environments;
mod event;
mod facts;
mod in_force;
mod name;
mod promotions;
mod roles;
mod settled;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;

pub use body::{
    Approved, Body, Content, Contracted, EnvironmentSet, EvolutionFinished, EvolutionStarted,
    GenerationAbandoned, HookResult, Outcome, PromotionFinished, PromotionRefused, PromotionStarted,
    RolledBack, StagePromoted, StepOutcome, StepResult, Waived,
};
pub use check::check;
pub use event::{EVENT_BYTES_MAX, EVENT_TYPE, Event};
pub use in_force::InForce;
pub(crate) use name::folded;
pub use roles::{Role, Roles};
pub use store::{Appended, Draft, Hand, Known, LEDGER_REF, Store, TagDraft};

use crate::generation::StageName;
use crate::git::ObjectId;
use crate::version::Version;

/// Most events of a ledger.
pub const EVENTS_MAX: usize = 100_000;

/// A ledger that verifies.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// In an order in which each follows its parents.
    events: Vec<Event>,
    heads: BTreeSet<Sha256>,
    roles: Roles,
}

impl Ledger {
    /// The events, each after those that it follows.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events that none follows.
    pub fn heads(&self) -> &BTreeSet<Sha256> {
        &self.heads
    }

    /// The first event, which says who may do what.
    pub fn genesis(&self) -> Option<Sha256> {
        self.events.first().map(|event| event.id)
    }

    /// The roles in force.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// One digest for all of it: of the heads, in order, one a line.
    pub fn head(&self) -> Sha256 {
        let lines: String = self.heads.iter().map(|head| format!("{head}\n")).collect();
        Sha256::of(lines.as_bytes())
    }

    /// When the last event happened.
    pub fn last(&self) -> UnixMicros {
        self.events.iter().map(|event| event.at).max().unwrap_or_default()
    }

    /// The contract of a version that is in force, and the event that put it there. Of what was released it is the one that it was
    /// promoted under, whatever was written beside that.
    pub fn contract(&self, version: &Version) -> Option<(&Event, &Contracted)> {
        let Some((promotion, _)) = self.promoted(version) else { return self.contracts(version).last() };
        let known: BTreeSet<Sha256> =
            promotions::past_of(&self.events, promotion).iter().map(|event| event.id).collect();
        self.contracts(version).filter(|(event, _)| known.contains(&event.id)).last()
    }

    /// Every contract that a version had, the first one first.
    pub fn contracts(&self, version: &Version) -> impl Iterator<Item = (&Event, &Contracted)> {
        self.events.iter().filter_map(move |event| match &event.body {
            Body::GenerationSealed(body) | Body::GenerationAmended(body) if body.version == *version => {
                Some((event, body.as_ref()))
            }
            _ => None,
        })
    }

    /// What the amendments of a version leave in force.
    pub fn in_force(&self, version: &Version) -> InForce<'_> {
        InForce::of(&self.events, version)
    }

    /// What became of each evolution of a version, in the order of their ends.
    pub fn finished(&self, version: &Version) -> impl Iterator<Item = (&Event, &EvolutionFinished)> {
        self.events.iter().filter_map(move |event| match &event.body {
            Body::EvolutionFinished(body) if body.version == *version => Some((event, body.as_ref())),
            _ => None,
        })
    }

    /// The beginning of an evolution.
    pub fn started(&self, evolution: &str) -> Option<(&Event, &EvolutionStarted)> {
        self.events.iter().find_map(|event| match &event.body {
            Body::EvolutionStarted(body) if body.evolution == evolution => Some((event, body)),
            _ => None,
        })
    }

    /// How a version was promoted.
    pub fn promoted(&self, version: &Version) -> Option<(&Event, &PromotionFinished)> {
        self.events.iter().find_map(|event| match &event.body {
            Body::PromotionFinished(body) if body.version == *version => Some((event, body.as_ref())),
            _ => None,
        })
    }

    /// What says that a version is given up although it was released: it was written beside the release, and does not count.
    pub fn abandoned_beside(
        &self,
        version: &Version,
    ) -> impl Iterator<Item = (&Event, &GenerationAbandoned)> {
        let is_released = self.promoted(version).is_some();
        self.events.iter().filter(move |_| is_released).filter_map(move |event| match &event.body {
            Body::GenerationAbandoned(body) if body.version == *version => Some((event, body)),
            _ => None,
        })
    }

    /// How a version came to each stage before its release, in the order in which it did.
    pub fn stages(&self, version: &Version) -> impl Iterator<Item = (&Event, &StagePromoted)> {
        self.events.iter().filter_map(move |event| match &event.body {
            Body::StagePromoted(body) if body.version == *version => Some((event, body.as_ref())),
            _ => None,
        })
    }

    /// Since when an event was known to all who wrote later: the latest of its own time, and of those of events beside it.
    pub fn known_since(&self, event: &Event) -> UnixMicros {
        promotions::known_since(&self.events.iter().collect::<Vec<_>>(), event)
    }

    /// How a version was taken back.
    pub fn rolled_back(&self, version: &Version) -> Option<(&Event, &RolledBack)> {
        self.events.iter().find_map(|event| match &event.body {
            Body::RolledBack(body) if body.from == *version => Some((event, body)),
            _ => None,
        })
    }

    /// Every name of a tag that an event gave away, with the event.
    pub fn tags(&self) -> BTreeMap<&str, &Event> {
        let named = self.events.iter().filter_map(|event| {
            let tag = match &event.body {
                Body::EvolutionFinished(body) => body.tag.as_deref(),
                Body::PromotionFinished(body) => Some(body.tag.as_str()),
                Body::RolledBack(body) => Some(body.tag.as_str()),
                Body::StagePromoted(body) => body.own_tag(),
                _ => None,
            };
            tag.map(|tag| (tag, event))
        });
        named.collect()
    }

    /// What became of a version; none where the ledger has nothing of it.
    pub fn state(&self, version: &Version) -> Option<State> {
        let mut state = None;
        for event in &self.events {
            state = match &event.body {
                Body::GenerationSealed(body) if body.version == *version => Some(State::Sealed),
                // Of what was released only one that does not know it can say so; it stays released.
                Body::GenerationAbandoned(body)
                    if body.version == *version
                        && !matches!(state, Some(State::Promoted | State::RolledBack)) =>
                {
                    Some(State::Abandoned)
                }
                Body::PromotionFinished(body) if body.version == *version => Some(State::Promoted),
                Body::RolledBack(body) if body.from == *version => Some(State::RolledBack),
                _ => state,
            };
        }
        state
    }
}

/// Where a generation stands. One that the ledger does not know is a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Sealed,
    Promoted,
    Abandoned,
    RolledBack,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Promoted => "promoted",
            Self::Abandoned => "abandoned",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Names one promotion: version, contract and commit, and the stage where it is not the release, each with a LF.
pub fn promotion_id(version: &Version, contract: Sha256, commit: &ObjectId, stage: StageName) -> Sha256 {
    let stage = if stage == StageName::Final { String::new() } else { format!("{stage}\n") };
    Sha256::of(format!("{version}\n{contract}\n{commit}\n{stage}").as_bytes())
}

#[cfg(test)]
mod tests;
