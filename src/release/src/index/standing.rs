//! Where each sealed generation stands.

use std::collections::BTreeMap;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;

use crate::environment;
use crate::generation::{Generation, StageName};
use crate::ledger::{Body, Event, Ledger, Outcome, StagePromoted, State};
use crate::version::Version;

/// A generation that the ledger knows.
#[derive(Clone, Debug)]
pub struct Standing {
    pub version: Version,
    pub status: State,
    pub contract: Sha256,
    /// Each change of the contract in force.
    pub changes: Vec<Change>,
    pub sealed_at: UnixMicros,
    pub promoted_at: Option<UnixMicros>,
    /// Of the promotion; before that of the latest candidate.
    pub tag: Option<String>,
    /// The highest stage that a commit came to under the contract in force, and its tag; none of what is released.
    pub stage: Option<(StageName, String)>,
    /// The stage that the latest candidate comes to next, the release at last.
    pub next_stage: StageName,
    /// The environments that have something of it.
    pub environments: Vec<String>,
    /// Events that say that it is given up, written beside its release: they do not count.
    pub abandoned_beside: Vec<Sha256>,
    /// The evolution that ended last.
    pub last: Option<Last>,
    /// Evolutions that were begun and have not ended.
    pub running: Vec<String>,
    pub passed: usize,
    pub failed: usize,
    /// Gates that refused the attempt that was made last, if it was refused.
    pub refused_by: Vec<String>,
    /// Whether nothing has happened to the version since, so that they refuse still.
    pub refuse_still: bool,
    /// How long the attempt that was made last looked at what its gates look at outside of the ledger.
    pub took: Vec<Took>,
}

/// How long a gate took.
#[derive(Clone, Debug)]
pub struct Took {
    pub gate: String,
    pub state: String,
    pub us: u64,
}

/// What is known of a change.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: String,
    pub kind: String,
    pub title: String,
    pub digest: Sha256,
    /// Whether the latest evolution of it passed, has ended, and proved what has to be shown of it now.
    pub proven: bool,
    /// The latest evolution of it.
    pub evolution: Option<String>,
}

/// An evolution that ended.
#[derive(Clone, Debug)]
pub struct Last {
    pub evolution: String,
    pub result: Outcome,
    pub at: UnixMicros,
}

impl Standing {
    /// How many changes are proven.
    pub fn proven(&self) -> usize {
        self.changes.iter().filter(|change| change.proven).count()
    }

    /// Of a hundred evolutions that ended, how many passed; none where none ended.
    pub fn passed_of_hundred(&self) -> Option<usize> {
        (self.passed * 100).checked_div(self.passed + self.failed)
    }
}

/// Every generation of a ledger, the earliest version first.
pub fn standings(ledger: &Ledger) -> Vec<Standing> {
    let mut found: BTreeMap<Version, Standing> = BTreeMap::new();
    for event in ledger.events() {
        if let Some(standing) = of(&event.body).and_then(|version| found.get_mut(version)) {
            standing.refuse_still = matches!(event.body, Body::PromotionRefused(_));
        }
        match &event.body {
            Body::GenerationSealed(body) => {
                let standing = Standing {
                    version: body.version.clone(),
                    status: State::Sealed,
                    contract: body.contract,
                    changes: Vec::new(),
                    sealed_at: event.at,
                    promoted_at: None,
                    tag: None,
                    stage: None,
                    next_stage: StageName::Final,
                    environments: Vec::new(),
                    abandoned_beside: Vec::new(),
                    last: None,
                    running: Vec::new(),
                    passed: 0,
                    failed: 0,
                    refused_by: Vec::new(),
                    refuse_still: false,
                    took: Vec::new(),
                };
                found.insert(body.version.clone(), standing);
            }
            Body::EvolutionStarted(run) => {
                if let Some(standing) = found.get_mut(&run.version) {
                    standing.running.push(run.evolution.clone());
                }
            }
            Body::EvolutionFinished(run) => {
                if let Some(standing) = found.get_mut(&run.version) {
                    standing.running.retain(|running| *running != run.evolution);
                    let last = Last { evolution: run.evolution.clone(), result: run.result, at: event.at };
                    match run.result {
                        Outcome::Passed => standing.passed += 1,
                        Outcome::Failed => standing.failed += 1,
                    }
                    standing.tag = run.tag.clone().or(standing.tag.take());
                    standing.last = Some(last);
                }
            }
            Body::PromotionRefused(body) => {
                if let Some(standing) = found.get_mut(&body.version) {
                    let refusing = body.gates.iter().filter(|gate| {
                        let state = gate.get("state").and_then(serde_json::Value::as_str);
                        matches!(state, Some("fail" | "missing"))
                    });
                    let names = refusing.filter_map(|gate| gate.get("gate")?.as_str());
                    standing.refused_by = names.map(ToOwned::to_owned).collect();
                    standing.took = took(&body.gates);
                }
            }
            Body::PromotionFinished(body) => {
                if let Some(standing) = found.get_mut(&body.version) {
                    standing.refused_by.clear();
                    standing.took = took(&body.gates);
                    standing.promoted_at = Some(event.at);
                    standing.tag = Some(body.tag.clone());
                }
            }
            Body::StagePromoted(body) => {
                if let Some(standing) = found.get_mut(&body.version) {
                    standing.refused_by.clear();
                    standing.took = took(&body.gates);
                }
            }
            Body::Approved(_)
            | Body::Waived(_)
            | Body::EnvironmentSet(_)
            | Body::GenerationAbandoned(_)
            | Body::GenerationAmended(_)
            | Body::PromotionStarted(_)
            | Body::RolesSet(_)
            | Body::RolledBack(_) => {}
        }
    }
    for standing in found.values_mut() {
        if let Some((_, contracted)) = ledger.contract(&standing.version) {
            standing.contract = contracted.contract;
            standing.changes = changes(ledger, &standing.version, &contracted.document);
            climb(ledger, standing, &contracted.document);
        }
        standing.status = ledger.state(&standing.version).unwrap_or(State::Sealed);
        let beside = ledger.abandoned_beside(&standing.version);
        standing.abandoned_beside = beside.map(|(event, _)| event.id).collect();
    }
    for (name, pointer) in environment::pointers(ledger) {
        if let Some(standing) = found.get_mut(&pointer.version) {
            standing.environments.push(name);
        }
    }
    found.into_values().collect()
}

/// The version that something happens to.
fn of(body: &Body) -> Option<&Version> {
    match body {
        Body::GenerationSealed(body) | Body::GenerationAmended(body) => Some(&body.version),
        Body::GenerationAbandoned(body) => Some(&body.version),
        Body::EvolutionStarted(body) => Some(&body.version),
        Body::EvolutionFinished(body) => Some(&body.version),
        Body::Approved(body) => Some(&body.version),
        Body::Waived(body) => Some(&body.version),
        Body::PromotionStarted(body) => Some(&body.version),
        Body::PromotionRefused(body) => Some(&body.version),
        Body::PromotionFinished(body) => Some(&body.version),
        Body::StagePromoted(body) => Some(&body.version),
        Body::RolledBack(body) => Some(&body.from),
        Body::EnvironmentSet(_) | Body::RolesSet(_) => None,
    }
}

fn climb(ledger: &Ledger, standing: &mut Standing, document: &serde_json::Value) {
    if standing.promoted_at.is_some() {
        return;
    }
    let in_force = ledger.in_force(&standing.version);
    let of_contract = |(event, body): (&Event, &'_ StagePromoted)| {
        body.contract == standing.contract && in_force.has(event)
    };
    let stages = ledger.stages(&standing.version).filter(|row| of_contract(*row));
    let reached: Vec<&StagePromoted> = stages.map(|(_, body)| body).collect();
    let highest = reached.iter().max_by_key(|body| body.stage);
    let candidate = ledger.finished(&standing.version).filter(|(_, run)| run.tag.is_some()).last();
    let is_of_candidate =
        |body: &&&StagePromoted| candidate.is_some_and(|(_, run)| run.commit == body.commit);
    // Another commit climbs from the beginning.
    let own = reached.iter().filter(is_of_candidate).map(|body| body.stage).max();
    standing.stage = highest.map(|body| (body.stage, body.tag.clone()));
    let Ok(generation) = Generation::from_document(document.clone()) else { return };
    let mut above = generation.stages.iter().map(|known| known.stage);
    let above = above.find(|known| own.is_none_or(|stage| *known > stage));
    standing.next_stage = above.unwrap_or(StageName::Final);
}

fn took(gates: &[serde_json::Value]) -> Vec<Took> {
    let of = |gate: &serde_json::Value| {
        let word = |name: &str| Some(gate.get(name)?.as_str()?.to_owned());
        Some(Took { gate: word("gate")?, state: word("state")?, us: gate.get("us")?.as_u64()? })
    };
    gates.iter().filter_map(of).collect()
}

fn changes(ledger: &Ledger, version: &Version, document: &serde_json::Value) -> Vec<Change> {
    let Ok(generation) = Generation::from_document(document.clone()) else { return Vec::new() };
    let in_force = ledger.in_force(version);
    let change = |change: &crate::generation::Change| {
        let (id, digest) = (change.id.as_str(), generation.change_digest(change));
        let mut latest = None;
        let mut proven = false;
        for event in ledger.events() {
            match &event.body {
                Body::EvolutionStarted(run)
                    if run.version == *version && run.changes.iter().any(|of| of == id) =>
                {
                    (latest, proven) = (Some(run.evolution.clone()), false);
                }
                Body::EvolutionFinished(run) if run.version == *version => {
                    if let Some(of) = run.changes.get(id) {
                        latest = Some(run.evolution.clone());
                        proven = run.result == Outcome::Passed && *of == digest && in_force.proves(run, id);
                    }
                }
                _ => {}
            }
        }
        let (kind, title) = (change.kind.to_string(), change.title.clone());
        Change { id: id.to_owned(), kind, title, digest, proven, evolution: latest }
    };
    generation.changes.iter().map(change).collect()
}
