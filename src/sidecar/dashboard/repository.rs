//! What the ledger of a repository says, and how far evolutions are that run in this clone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use estoppel_evidence::KeyId;
use estoppel_release::evolution::{self, progress};
use estoppel_release::generation::{self as contract, Folder, FolderError, StageName};
use estoppel_release::git::ObjectId;
use estoppel_release::index::{Standing, standings};
use estoppel_release::ledger::{
    Body, Event, EvolutionFinished, EvolutionStarted, LEDGER_REF, Ledger, State, Store,
};
use estoppel_release::{Code, Version, promotion};
use serde_json::Value;

use super::model::{
    Change, Evolution, Fault, Gate, Generation, Happened, Log, Releases, Running, Step, Whereabouts,
};
use crate::arguments::InRepository;
use crate::ledger::store;
use crate::output::Failure;
use crate::{input, status};

/// How much of the end of a log is shown.
const LOG_BYTES: u64 = 16 << 10;
/// Most drafts whose files are read, the newest versions first.
const DRAFTS_READ_MAX: usize = 16;
/// Most open evolutions of which it is looked how far they are: those that were cut off stay open.
const LOOKED_AT_MAX: usize = 16;

/// Reads a repository again and again, the ledger only where it has moved.
pub struct Looked {
    at: InRepository,
    kept: Option<(Option<ObjectId>, Releases)>,
}

impl Looked {
    pub fn new(at: InRepository) -> Self {
        Self { at, kept: None }
    }

    pub fn look(&mut self) -> Result<Releases, Fault> {
        let store = store(&self.at)?;
        let mut releases = self.ledger(&store)?;
        look_on(&store, &mut releases);
        // What ended while it was looked at is in the ledger now.
        if self.kept.as_ref().map(|(target, _)| target) != Some(&target(&store)?) {
            releases = self.ledger(&store)?;
            look_on(&store, &mut releases);
        }
        add_drafts(&self.at.repo, &mut releases)?;
        releases.commit = store.git().commit("HEAD")?.map(|commit| commit.to_string());
        Ok(releases)
    }

    fn ledger(&mut self, store: &Store) -> Result<Releases, Failure> {
        let target = target(store)?;
        if let Some((_, releases)) = self.kept.as_ref().filter(|(known, _)| *known == target) {
            return Ok(releases.clone());
        }
        let ledger = match store.read() {
            Ok(ledger) => Some(ledger),
            Err(refusal) if refusal.code == Code::LedgerMissing => None,
            Err(refusal) => return Err(refusal.into()),
        };
        let releases = Releases {
            commit: None,
            generations: ledger.as_ref().map(generations).unwrap_or_default(),
            head: ledger.as_ref().map(|ledger| ledger.head().to_string()),
            is_trusted: store.trusted()?.is_some(),
            top: store.git().top().display().to_string(),
        };
        self.kept = Some((target, releases.clone()));
        Ok(releases)
    }
}

fn target(store: &Store) -> Result<Option<ObjectId>, Failure> {
    Ok(store.git().target(LEDGER_REF)?)
}

fn generations(ledger: &Ledger) -> Vec<Generation> {
    let mut happened = timelines(ledger);
    let mut all: Vec<Generation> = standings(ledger)
        .into_iter()
        .map(|standing| {
            let mut timeline = happened.remove(&standing.version).unwrap_or_default();
            timeline.reverse();
            generation(ledger, &standing, timeline)
        })
        .collect();
    all.reverse();
    all
}

fn generation(ledger: &Ledger, standing: &Standing, timeline: Vec<Happened>) -> Generation {
    let running = standing.running.iter().rev().filter_map(|id| {
        let (event, run) = ledger.started(id)?;
        Some(Running {
            evolution: id.clone(),
            version: run.version.clone(),
            since: event.at,
            by: who(ledger, event.actor),
            commit: run.commit.to_string(),
            changes: run.changes.clone(),
            at: Whereabouts::Elsewhere,
            steps: Vec::new(),
            log: None,
        })
    });
    let changes = standing.changes.iter().map(|change| Change {
        id: change.id.clone(),
        kind: change.kind.clone(),
        title: change.title.clone(),
        proven: change.proven,
    });
    let gates = timeline.iter().find(|row| !row.gates.is_empty()).map(|row| row.gates.clone());
    let gates = gates.unwrap_or_default();
    let is_open = standing.status == State::Sealed;
    let waivable = gates.iter().filter(|gate| {
        is_open && gate.refuses() && promotion::is_waivable(ledger, &standing.version, &gate.gate)
    });
    let waivable = waivable.cloned().collect();
    Generation {
        version: standing.version.clone(),
        status: standing.status.as_str(),
        contract: Some(standing.contract.to_string()),
        broken: None,
        changes: changes.collect(),
        proven: standing.proven(),
        tag: standing.tag.clone(),
        passed: standing.passed,
        failed: standing.failed,
        gates,
        waivable,
        running: running.collect(),
        next: status::next(standing),
        stage: standing.stage.as_ref().map(|(stage, tag)| format!("{stage} as {tag}")),
        next_stage: (standing.next_stage != StageName::Final).then(|| standing.next_stage.to_string()),
        environments: standing.environments.clone(),
        timeline,
    }
}

fn who(ledger: &Ledger, key: KeyId) -> String {
    ledger.roles().name(key).map_or_else(|| key.to_string(), ToOwned::to_owned)
}

/// What happened to each version, in the order of the ledger.
fn timelines(ledger: &Ledger) -> BTreeMap<Version, Vec<Happened>> {
    let mut all: BTreeMap<Version, Vec<Happened>> = BTreeMap::new();
    for event in ledger.events() {
        let Some((version, happened)) = happened(ledger, event) else { continue };
        let rows = all.entry(version).or_default();
        let id = happened.evolution.as_ref().map(|evolution| evolution.id.clone());
        // An evolution is one row, which says how it ended.
        rows.retain(|row| id.is_none() || row.evolution.as_ref().map(|known| &known.id) != id.as_ref());
        // That a promotion was begun is told for as long as nothing is known of its end.
        if matches!(happened.kind, "promotion.finished" | "promotion.refused") {
            rows.retain(|row| row.kind != "promotion.started");
        }
        rows.push(happened);
    }
    all
}

fn happened(ledger: &Ledger, event: &Event) -> Option<(Version, Happened)> {
    let row = |says: String, commit: Option<&ObjectId>| Happened {
        at: event.at,
        kind: event.body.kind(),
        by: who(ledger, event.actor),
        says,
        commit: commit.map(ToString::to_string),
        evolution: None,
        gates: Vec::new(),
    };
    Some(match &event.body {
        Body::GenerationSealed(body) => {
            (body.version.clone(), row(format!("sealed, {} changes", body.changes.len()), None))
        }
        Body::GenerationAmended(body) => {
            let why = body.reason.as_deref().unwrap_or_default();
            (body.version.clone(), row(format!("amended: {why}"), None))
        }
        Body::GenerationAbandoned(body) => {
            let is_beside = ledger.promoted(&body.version).is_some();
            let note = if is_beside { " (beside the release, does not count)" } else { "" };
            (body.version.clone(), row(format!("abandoned{note}: {}", body.reason), None))
        }
        Body::EvolutionStarted(run) => {
            let evolution = Some(begun(run));
            let begun = row(format!("evolution open: {}", run.changes.join(", ")), Some(&run.commit));
            (run.version.clone(), Happened { evolution, ..begun })
        }
        Body::EvolutionFinished(run) => {
            let word = run.result.as_str().to_lowercase();
            let tag = run.tag.as_ref().map(|tag| format!(", candidate {tag}")).unwrap_or_default();
            let ended = row(format!("evolution {word}{tag}"), Some(&run.commit));
            (run.version.clone(), Happened { evolution: Some(ended_as(run)), ..ended })
        }
        Body::Approved(body) => {
            (body.version.clone(), row(format!("approved until {}", body.expires), Some(&body.commit)))
        }
        Body::Waived(body) => {
            let says = format!("waived {} until {}: {}", body.gate, body.expires, body.reason);
            (body.version.clone(), row(says, Some(&body.commit)))
        }
        Body::PromotionStarted(body) => {
            (body.version.clone(), row("promotion begun".into(), Some(&body.commit)))
        }
        Body::PromotionRefused(body) => {
            let gates = gates(&body.gates);
            let refusing = gates.iter().filter(|gate| gate.refuses());
            let names: Vec<&str> = refusing.map(|gate| gate.gate.as_str()).collect();
            let refused = row(format!("promotion refused by {}", names.join(", ")), Some(&body.commit));
            (body.version.clone(), Happened { gates, ..refused })
        }
        Body::PromotionFinished(body) => {
            let promoted = row(format!("promoted as {}", body.tag), Some(&body.commit));
            (body.version.clone(), Happened { gates: gates(&body.gates), ..promoted })
        }
        Body::RolledBack(body) => {
            let says = format!("rolled back to {}: {}", body.to, body.reason);
            (body.from.clone(), row(says, Some(&body.commit)))
        }
        Body::StagePromoted(body) => {
            let says = format!("{} reached as {}", body.stage.as_str(), body.tag);
            (body.version.clone(), Happened { gates: gates(&body.gates), ..row(says, Some(&body.commit)) })
        }
        Body::EnvironmentSet(body) => {
            let says = format!("{} has {}", body.environment, body.tag);
            (body.version.clone(), row(says, Some(&body.commit)))
        }
        Body::RolesSet(_) => return None,
    })
}

fn begun(run: &EvolutionStarted) -> Evolution {
    Evolution {
        id: run.evolution.clone(),
        result: "OPEN",
        changes: run.changes.clone(),
        steps: Vec::new(),
        why: None,
    }
}

fn ended_as(run: &EvolutionFinished) -> Evolution {
    let steps = run.steps.iter().map(|step| Step {
        id: step.id.clone(),
        state: step.outcome.as_str(),
        duration_ms: Some(step.duration_ms),
        exit: step.exit,
    });
    Evolution {
        id: run.evolution.clone(),
        result: run.result.as_str(),
        changes: run.changes.keys().cloned().collect(),
        steps: steps.collect(),
        why: run.why.clone(),
    }
}

fn gates(rows: &[Value]) -> Vec<Gate> {
    let gate = |row: &Value| {
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Gate { gate: word("gate"), state: word("state"), why: word("why") }
    };
    rows.iter().map(gate).collect()
}

/// Looks how far the evolutions are that run here.
fn look_on(store: &Store, releases: &mut Releases) {
    let running = releases.generations.iter_mut().flat_map(|generation| &mut generation.running);
    let mut running: Vec<&mut Running> = running.collect();
    running.sort_by_key(|run| std::cmp::Reverse(run.since));
    for run in running.into_iter().take(LOOKED_AT_MAX) {
        let logs = evolution::logs(store.git().private(), &run.evolution);
        let Some(seen) = progress::seen(&logs) else { continue };
        run.at = if seen.is_alive { Whereabouts::Here } else { Whereabouts::CutOff };
        run.steps = seen.steps.iter().map(|far| step(far, seen.is_alive)).collect();
        let begun = seen.steps.iter().rev().filter(|far| far.standing != progress::Standing::Wanted);
        let latest = begun.clone().find(|far| far.standing == progress::Standing::Running);
        run.log = latest.or(begun.clone().next()).and_then(|far| log(&logs, &far.step));
    }
    for Generation { running, timeline, .. } in &mut releases.generations {
        running.iter().for_each(|run| tell(run, timeline));
    }
}

/// Of an evolution that has not ended the ledger knows that it began. What is seen of it is told in its row.
fn tell(run: &Running, timeline: &mut [Happened]) {
    let word = match run.at {
        Whereabouts::Here => "running",
        Whereabouts::CutOff => "cut off",
        Whereabouts::Elsewhere => return,
    };
    for row in timeline {
        let Some(evolution) = row.evolution.as_mut().filter(|it| it.id == run.evolution) else { continue };
        row.says = format!("evolution {word}: {}", run.changes.join(", "));
        if run.at == Whereabouts::CutOff {
            evolution.result = "CUT_OFF";
        }
    }
}

fn log(logs: &Path, step: &str) -> Option<Log> {
    let text = progress::tail(logs, step, LOG_BYTES).ok()?;
    Some(Log { step: step.to_owned(), lines: text.lines().map(ToOwned::to_owned).collect() })
}

fn step(far: &progress::Far, is_alive: bool) -> Step {
    let (state, duration_ms) = match far.standing {
        progress::Standing::Wanted => ("wanted", None),
        progress::Standing::Running if is_alive => ("running", None),
        progress::Standing::Running => ("cut_off", None),
        progress::Standing::Ended { outcome, duration_ms } => (outcome.as_str(), Some(duration_ms)),
    };
    Step { id: far.step.clone(), state, duration_ms, exit: None }
}

/// Generations that are files and not sealed, with what sealing them would put into the ledger.
fn add_drafts(repo: &Path, releases: &mut Releases) -> Result<(), Failure> {
    let folder = Folder::near(repo).map_err(|error| input::unreadable(repo, &error))?;
    let files = folder.files().map_err(|error| Failure::input("GENERATION_LIMIT", error.to_string()))?;
    let sealed: BTreeSet<Version> = releases.generations.iter().map(|known| known.version.clone()).collect();
    let mut drafts: Vec<Generation> = Vec::new();
    for (version, path) in files.named.into_iter().rev().filter(|(version, _)| !sealed.contains(version)) {
        // A version may have a file in either format, which is told when it is read.
        if drafts.last().is_some_and(|known| known.version == version) {
            continue;
        }
        let is_read = drafts.len() < DRAFTS_READ_MAX;
        let read = is_read.then(|| folder.file(&version).and_then(|_| contract::Generation::open(&path)));
        drafts.push(draft(version, read));
    }
    releases.generations.extend(drafts);
    releases.generations.sort_by(|a, b| b.version.cmp(&a.version));
    Ok(())
}

fn draft(version: Version, read: Option<Result<contract::Generation, FolderError>>) -> Generation {
    let (read, broken) = match read.transpose() {
        Ok(read) => (read, None),
        Err(FolderError::Invalid { errors, .. }) => {
            (None, Some(errors.first().map_or_else(String::new, ToString::to_string)))
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let change = |change: &contract::Change| Change {
        id: change.id.to_string(),
        kind: change.kind.as_str().to_owned(),
        title: change.title.clone(),
        proven: false,
    };
    Generation {
        next: Some(match broken {
            None => format!("estoppel generation seal {version}"),
            Some(_) => "estoppel generation lint".into(),
        }),
        version,
        status: "draft",
        contract: read.as_ref().map(|read| read.digest().to_string()),
        broken,
        changes: read.iter().flat_map(|read| &read.changes).map(change).collect(),
        proven: 0,
        tag: None,
        passed: 0,
        failed: 0,
        gates: Vec::new(),
        waivable: Vec::new(),
        timeline: Vec::new(),
        running: Vec::new(),
        stage: None,
        next_stage: None,
        environments: Vec::new(),
    }
}
