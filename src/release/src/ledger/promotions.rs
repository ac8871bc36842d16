//! A promotion is held against the events that it follows: a releaser alone makes no release of what they contradict.

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::{KeyId, Sha256};

use super::body::{Body, Contracted, EvolutionFinished, Outcome, PromotionFinished};
use super::event::Event;
use super::roles::{Role, Roles};
use crate::code::{Code, Refusal};

const HOUR_US: u64 = 3_600_000_000;

/// Checks every promotion. `events` are in an order in which each follows its parents.
pub(super) fn check_promotions(events: &[Event]) -> Result<(), Refusal> {
    let places: BTreeMap<Sha256, usize> =
        events.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
    for (place, event) in events.iter().enumerate() {
        let Body::PromotionFinished(body) = &event.body else { continue };
        let past = Past { promotion: event, body, events: past(events, &places, place) };
        past.check().map_err(|why| {
            let said = format!("event {} promotes {}, and {why}", event.id, body.version);
            Refusal::new(Code::LedgerConflict, said)
        })?;
    }
    Ok(())
}

/// The events that one follows, directly or not, in their order.
fn past<'e>(events: &'e [Event], places: &BTreeMap<Sha256, usize>, place: usize) -> Vec<&'e Event> {
    let mut is_followed = vec![false; events.len()];
    for (at, event) in events.iter().enumerate().take(place + 1).rev() {
        if at == place || is_followed.get(at) == Some(&true) {
            for parent in event.parents.iter().filter_map(|parent| places.get(parent)) {
                if let Some(followed) = is_followed.get_mut(*parent) {
                    *followed = true;
                }
            }
        }
    }
    let earlier = events.iter().zip(is_followed).take(place);
    earlier.filter(|(_, followed)| *followed).map(|(event, _)| event).collect()
}

struct Past<'e> {
    promotion: &'e Event,
    body: &'e PromotionFinished,
    events: Vec<&'e Event>,
}

impl<'e> Past<'e> {
    fn check(&self) -> Result<(), String> {
        let contract = self.contract()?;
        let PromotionFinished { commit, contract: digest, promotion, version, .. } = self.body;
        if *promotion != Sha256::of(format!("{version}\n{digest}\n{commit}\n").as_bytes()) {
            return Err("its id is that of another promotion".into());
        }
        let changes = changes(contract);
        for change in &changes {
            self.check_change(change, contract.changes.get(*change))?;
        }
        let whole = self.passed().any(|run| {
            run.commit == *commit
                && run.contract == *digest
                && run.tag.is_some()
                && changes.iter().all(|change| run.changes.contains_key(*change))
        });
        if !whole {
            return Err(format!("no evolution of all changes passed on {commit} under its contract"));
        }
        self.check_approvals(contract)
    }

    /// The contract that is in force, of a version that is sealed.
    fn contract(&self) -> Result<&'e Contracted, String> {
        let (mut contract, mut is_sealed) = (None, false);
        for event in &self.events {
            match &event.body {
                Body::GenerationSealed(body) if body.version == self.body.version => {
                    (contract, is_sealed) = (Some(body.as_ref()), true);
                }
                Body::GenerationAmended(body) if body.version == self.body.version => {
                    contract = Some(body.as_ref());
                }
                Body::GenerationAbandoned(body) if body.version == self.body.version => is_sealed = false,
                _ => {}
            }
        }
        match contract.filter(|_| is_sealed) {
            None => Err("it was never sealed, or was abandoned".into()),
            Some(contract) if contract.contract != self.body.contract => {
                Err("another contract was in force".into())
            }
            Some(contract) => Ok(contract),
        }
    }

    fn roles(&self) -> Option<&'e Roles> {
        self.events.iter().rev().find_map(|event| match &event.body {
            Body::RolesSet(roles) => Some(roles),
            _ => None,
        })
    }

    fn has(&self, key: KeyId, role: Role) -> bool {
        self.roles().is_some_and(|roles| roles.has(key, role))
    }

    fn finished(&self) -> impl DoubleEndedIterator<Item = (&'e Event, &'e EvolutionFinished)> {
        self.events.iter().filter_map(|event| match &event.body {
            Body::EvolutionFinished(run) if run.version == self.body.version => Some((*event, run.as_ref())),
            _ => None,
        })
    }

    fn passed(&self) -> impl Iterator<Item = &'e EvolutionFinished> {
        let runs = self.finished().filter(|(event, _)| self.has(event.actor, Role::Runner));
        runs.map(|(_, run)| run).filter(|run| run.result == Outcome::Passed)
    }

    fn check_change(&self, change: &str, digest: Option<&Sha256>) -> Result<(), String> {
        let Some((event, run)) = self.finished().rev().find(|(_, run)| run.changes.contains_key(change))
        else {
            return Err(format!("no evolution of {change} has ended"));
        };
        if run.result != Outcome::Passed || !self.has(event.actor, Role::Runner) {
            return Err(format!("the latest evolution of {change}, {}, proves nothing", run.evolution));
        }
        if digest.is_none() || run.changes.get(change) != digest {
            return Err(format!("{change} was another one in its latest evolution, {}", run.evolution));
        }
        Ok(())
    }

    fn check_approvals(&self, contract: &Contracted) -> Result<(), String> {
        let asked = |name: &str| {
            contract.document.pointer(&format!("/gates/approvals/{name}")).and_then(serde_json::Value::as_u64)
        };
        let Some(count) = asked("count") else { return Ok(()) };
        let lasts = asked("hours_max").map_or(u64::MAX, |hours| hours.saturating_mul(HOUR_US));
        let (keys, names) = self.authors(contract);
        let mut people = BTreeSet::new();
        for event in &self.events {
            let Body::Approved(approved) = &event.body else { continue };
            let is_of_this = (&approved.version, &approved.contract, &approved.commit)
                == (&self.body.version, &self.body.contract, &self.body.commit);
            let at = self.promotion.at;
            let is_in_force = approved.expires > at && event.at.0.saturating_add(lasts) >= at.0;
            let name = self.roles().and_then(|roles| roles.name(event.actor));
            let name = name.filter(|name| !keys.contains(&event.actor) && !names.contains(name));
            if is_of_this && is_in_force && self.has(event.actor, Role::Approver) {
                people.extend(name);
            }
        }
        if u64::try_from(people.len()).is_ok_and(|has| has >= count) {
            return Ok(());
        }
        Err(format!("{} of {count} approvals were given", people.len()))
    }

    /// Keys and names of who wrote the contract.
    fn authors(&self, contract: &'e Contracted) -> (BTreeSet<KeyId>, BTreeSet<&'e str>) {
        let writers = self.events.iter().filter_map(|event| match &event.body {
            Body::GenerationSealed(body) | Body::GenerationAmended(body)
                if body.version == self.body.version =>
            {
                Some(event.actor)
            }
            _ => None,
        });
        let author = |name: &str| contract.document.get("author")?.get(name)?.as_str();
        let keys: BTreeSet<KeyId> = writers.chain(author("key").and_then(KeyId::parse)).collect();
        let names = keys.iter().filter_map(|key| self.roles()?.name(*key));
        let names = names.chain(author("name")).collect();
        (keys, names)
    }
}

/// What is to be proven: the changes of the contract, and those that its event states digests of.
fn changes(contract: &Contracted) -> BTreeSet<&str> {
    let listed =
        contract.document.get("changes").and_then(|changes| changes.as_array()).into_iter().flatten();
    let listed = listed.filter_map(|change| change.get("id")?.as_str());
    contract.changes.keys().map(String::as_str).chain(listed).collect()
}
