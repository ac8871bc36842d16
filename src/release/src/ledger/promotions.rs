//! A promotion is held against the events that it follows: a releaser alone makes no release of what they contradict.

mod counts;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, Sha256};
use serde_json::Value;

use super::body::{Body, Contracted, EvolutionFinished, Outcome, StepOutcome};
use super::event::Event;
use super::in_force::InForce;
use super::promotion_id;
use super::roles::{Role, Roles};
use crate::code::{Code, Refusal};
use crate::generation::StageName;
use crate::git::ObjectId;
use crate::version::Version;

pub(super) use counts::known_since;

const HOUR_US: u64 = 3_600_000_000;

/// Checks every promotion. `events` are in an order in which each follows its parents.
pub(super) fn check_promotions(events: &[Event]) -> Result<(), Refusal> {
    let places: BTreeMap<Sha256, usize> =
        events.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
    for (place, event) in events.iter().enumerate() {
        let Some(promotion) = Promotion::of(event) else { continue };
        let events = past(events, &places, place);
        let in_force = InForce::of(events.iter().copied(), promotion.version);
        let past = Past { promotion, events, in_force };
        past.check().map_err(|why| {
            let Promotion { version, stage, .. } = &past.promotion;
            let said = format!("event {} promotes {version} to {stage}, and {why}", event.id);
            Refusal::new(Code::LedgerConflict, said)
        })?;
    }
    Ok(())
}

/// The events that one of them follows, directly or not, in their order.
pub(super) fn past_of<'e>(events: &'e [Event], event: &Event) -> Vec<&'e Event> {
    let places: BTreeMap<Sha256, usize> =
        events.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
    places.get(&event.id).map(|place| past(events, &places, *place)).unwrap_or_default()
}

/// The events that one follows, directly or not, in their order.
pub(super) fn past<'e>(
    events: &'e [Event],
    places: &BTreeMap<Sha256, usize>,
    place: usize,
) -> Vec<&'e Event> {
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

/// What an event promotes: a release, or a stage before it.
struct Promotion<'e> {
    at: UnixMicros,
    commit: &'e ObjectId,
    contract: Sha256,
    gates: &'e [Value],
    id: Sha256,
    stage: StageName,
    tag: &'e str,
    version: &'e Version,
}

impl<'e> Promotion<'e> {
    fn of(event: &'e Event) -> Option<Self> {
        let at = event.at;
        match &event.body {
            Body::PromotionFinished(body) => Some(Self {
                at,
                commit: &body.commit,
                contract: body.contract,
                gates: &body.gates,
                id: body.promotion,
                stage: StageName::Final,
                tag: &body.tag,
                version: &body.version,
            }),
            Body::StagePromoted(body) => Some(Self {
                at,
                commit: &body.commit,
                contract: body.contract,
                gates: &body.gates,
                id: body.promotion,
                stage: body.stage,
                tag: &body.tag,
                version: &body.version,
            }),
            _ => None,
        }
    }
}

struct Past<'e> {
    promotion: Promotion<'e>,
    events: Vec<&'e Event>,
    in_force: InForce<'e>,
}

impl<'e> Past<'e> {
    fn check(&self) -> Result<(), String> {
        let contract = self.contract()?;
        let Promotion { commit, contract: digest, id, version, stage, tag, .. } = &self.promotion;
        if *id != promotion_id(version, *digest, commit, *stage) {
            return Err("its id is that of another promotion".into());
        }
        let changes = changes(contract);
        for change in &changes {
            self.check_change(contract, change)?;
        }
        let whole = self.passed().any(|run| {
            run.commit == **commit
                && run.contract == *digest
                && self.in_force.has_run(run)
                && run.tag.is_some()
                && (*stage != StageName::Rc || run.tag.as_deref() == Some(*tag))
                && changes.iter().all(|change| run.changes.contains_key(*change))
                && lacking(run, &steps(contract)).is_none()
        });
        if !whole {
            return Err(format!("no evolution of all changes passed on {commit} under its contract"));
        }
        self.check_ladder(contract)?;
        self.check_approvals(contract)?;
        self.check_rows(contract)
    }

    /// The contract that is in force, of a version that is sealed and not released.
    fn contract(&self) -> Result<&'e Contracted, String> {
        let version = self.promotion.version;
        let (mut contract, mut is_sealed) = (None, false);
        for event in &self.events {
            match &event.body {
                Body::GenerationSealed(body) if body.version == *version => {
                    (contract, is_sealed) = (Some(body.as_ref()), true);
                }
                Body::GenerationAmended(body) if body.version == *version => contract = Some(body.as_ref()),
                Body::GenerationAbandoned(body) if body.version == *version => is_sealed = false,
                Body::PromotionFinished(body) if body.version == *version => is_sealed = false,
                _ => {}
            }
        }
        match contract.filter(|_| is_sealed) {
            None => Err("it was never sealed, or was abandoned or released".into()),
            Some(contract) if contract.contract != self.promotion.contract => {
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
            Body::EvolutionFinished(run) if run.version == *self.promotion.version => {
                Some((*event, run.as_ref()))
            }
            _ => None,
        })
    }

    fn passed(&self) -> impl Iterator<Item = &'e EvolutionFinished> {
        let runs = self.finished().filter(|(event, _)| self.has(event.actor, Role::Runner));
        runs.map(|(_, run)| run).filter(|run| run.result == Outcome::Passed)
    }

    fn check_change(&self, contract: &Contracted, change: &str) -> Result<(), String> {
        let digest = contract.changes.get(change);
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
        if !self.in_force.proves(run, change) {
            return Err(format!(
                "{change} was amended after its latest evolution, {}, had begun",
                run.evolution
            ));
        }
        match lacking(run, &steps_of(contract, change)) {
            Some(step) => {
                Err(format!("{} says of step `{step}` of {change} not that it passed", run.evolution))
            }
            None => Ok(()),
        }
    }

    /// The stage is one of the contract, and the one before it was reached on this commit under this contract.
    fn check_ladder(&self, contract: &Contracted) -> Result<(), String> {
        let own = self.promotion.stage;
        if own != StageName::Final && !ladder(contract).iter().any(|(stage, _)| *stage == own) {
            return Err("the contract has no such stage".into());
        }
        if self.is_waived(contract, "soak") {
            return self.reached(contract).map(|_| ());
        }
        self.check_soak(contract)
    }

    /// What promoted it to the stage before, with the time that it has to stay there, microseconds; none where there is no
    /// such stage.
    fn reached(&self, contract: &Contracted) -> Result<Option<(&'e Event, u64)>, String> {
        let own = self.promotion.stage;
        let Some((before, soak_us)) = ladder(contract).into_iter().rfind(|(stage, _)| *stage < own) else {
            return Ok(None);
        };
        let reached = self.events.iter().find(|event| match &event.body {
            Body::StagePromoted(body) => {
                (&body.version, body.contract, &body.commit, body.stage)
                    == (self.promotion.version, self.promotion.contract, self.promotion.commit, before)
                    && self.in_force.has(event)
                    && self.has(event.actor, Role::Releaser)
            }
            _ => false,
        });
        let missing = || format!("it was not at {before} on {}", self.promotion.commit);
        reached.map(|event| Some((*event, soak_us))).ok_or_else(missing)
    }

    fn check_soak(&self, contract: &Contracted) -> Result<(), String> {
        let Some((event, soak_us)) = self.reached(contract)? else { return Ok(()) };
        let since = known_since(&self.events, event);
        if since.0.saturating_add(soak_us) > self.promotion.at.0 {
            return Err(format!(
                "it was too short at the stage before, where it is known to be since {since}"
            ));
        }
        Ok(())
    }

    fn check_approvals(&self, contract: &Contracted) -> Result<(), String> {
        if !holds(contract, "approvals", self.promotion.stage) {
            return Ok(());
        }
        let asked = |name: &str| {
            contract.document.pointer(&format!("/gates/approvals/{name}")).and_then(Value::as_u64)
        };
        let Some(count) = asked("count") else { return Ok(()) };
        let lasts = asked("hours_max").map_or(u64::MAX, |hours| hours.saturating_mul(HOUR_US));
        let (keys, names) = self.authors(contract);
        let mut people = BTreeSet::new();
        for event in &self.events {
            let Body::Approved(approved) = &event.body else { continue };
            let is_of_this = self.is_of_this(&approved.version, approved.contract, &approved.commit)
                && self.in_force.has(event);
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

    fn is_of_this(&self, version: &Version, contract: Sha256, commit: &ObjectId) -> bool {
        (version, contract, commit)
            == (self.promotion.version, self.promotion.contract, self.promotion.commit)
    }

    /// Keys and names of who wrote the contract.
    fn authors(&self, contract: &'e Contracted) -> (BTreeSet<KeyId>, BTreeSet<&'e str>) {
        let writers = self.events.iter().filter_map(|event| match &event.body {
            Body::GenerationSealed(body) | Body::GenerationAmended(body)
                if body.version == *self.promotion.version =>
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
    let listed = list(contract, "/changes").filter_map(|change| change.get("id")?.as_str());
    contract.changes.keys().map(String::as_str).chain(listed).collect()
}

fn list<'c>(contract: &'c Contracted, pointer: &str) -> impl DoubleEndedIterator<Item = &'c Value> {
    contract.document.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Each stage with the time that a commit has to have been there, microseconds.
fn ladder(contract: &Contracted) -> Vec<(StageName, u64)> {
    let stage = |row: &Value| {
        let name = row.get("stage")?.as_str()?;
        let name = StageName::ALL.iter().copied().find(|stage| stage.as_str() == name)?;
        let hours = row.get("soak_hours").and_then(Value::as_u64).unwrap_or_default();
        Some((name, hours.saturating_mul(HOUR_US)))
    };
    list(contract, "/stages").filter_map(stage).collect()
}

/// Gates that are asked at the release alone, where they do not say `from`.
const DECIDED: [&str; 5] = ["approvals", "freeze_window", "min_evolutions", "perf_budget", "proof_max_age"];

/// Whether a gate of the contract holds at a stage.
fn holds(contract: &Contracted, gate: &str, stage: StageName) -> bool {
    let Some(gate_of) = contract.document.pointer(&format!("/gates/{gate}")) else { return false };
    holds_from(gate_of, if DECIDED.contains(&gate) { StageName::Final } else { StageName::Alpha }, stage)
}

fn holds_from(gate: &Value, otherwise: StageName, stage: StageName) -> bool {
    let said = gate.get("from").and_then(Value::as_str);
    let from = said.and_then(|said| StageName::ALL.iter().copied().find(|stage| stage.as_str() == said));
    from.unwrap_or(otherwise) <= stage
}

/// Whether the contract is a document of spec/generation.md, which says what its steps and gates are.
fn is_generation(contract: &Contracted) -> bool {
    contract.document.get("generation").and_then(Value::as_u64) == Some(1)
}

/// Id and kind of a step.
type Step<'c> = (&'c str, &'c str);

fn steps(contract: &Contracted) -> Vec<Step<'_>> {
    if !is_generation(contract) {
        return Vec::new();
    }
    list(contract, "/steps")
        .filter_map(|step| Some((step.get("id")?.as_str()?, step.get("kind")?.as_str()?)))
        .collect()
}

/// The steps that prove a change, and those that they need, directly or not.
fn steps_of<'c>(contract: &'c Contracted, change: &str) -> Vec<Step<'c>> {
    let words = |step: &'c Value, name: &str| {
        step.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    };
    let proves = |step: &&'c Value| {
        step.get("proves").and_then(Value::as_str) == Some("all")
            || words(step, "proves").any(|id| id == change)
    };
    let mut wanted: BTreeSet<&str> =
        list(contract, "/steps").filter(proves).filter_map(|step| step.get("id")?.as_str()).collect();
    loop {
        let is_wanted =
            |step: &&'c Value| step.get("id").and_then(Value::as_str).is_some_and(|id| wanted.contains(id));
        let needed: BTreeSet<&str> =
            list(contract, "/steps").filter(is_wanted).flat_map(|step| words(step, "needs")).collect();
        if needed.is_subset(&wanted) {
            break;
        }
        wanted.extend(needed);
    }
    steps(contract).into_iter().filter(|(id, _)| wanted.contains(id)).collect()
}

/// The first step that a run does not say passed.
fn lacking<'c>(run: &EvolutionFinished, steps: &[Step<'c>]) -> Option<&'c str> {
    let passed = |(id, kind): &Step<'_>| {
        run.steps
            .iter()
            .any(|step| step.id == *id && step.kind == *kind && step.outcome == StepOutcome::Passed)
    };
    steps.iter().find(|step| !passed(step)).map(|(id, _)| *id)
}
