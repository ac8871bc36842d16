//! Gates that look at the ledger alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, Sha256};
use serde_json::Value;

use super::row::{Row, Waiver};
use super::{Candidate, Case};
use crate::code::Refusal;
use crate::generation::{self, Generation, Scope, Skip, Stage, StageName, Step, StepId};
use crate::git::{LeftOut, ObjectId, Ported};
use crate::ledger::{
    self, Body, Event, EvolutionFinished, InForce, Ledger, Outcome, PromotionFinished, Role, StagePromoted,
    StepOutcome, folded,
};
use crate::version::Version;

const HOUR_US: u64 = 3_600_000_000;

/// How far ahead of this clock a proof may be dated.
const CLOCK_SKEW_US_MAX: u64 = 300_000_000;

/// The rows of all of them, on the ledger as it is now.
pub(super) fn rows(case: &Case<'_>, ledger: &Ledger, clock: UnixMicros) -> Result<Vec<Row>, Refusal> {
    let proofs = Proofs::new(case, ledger, clock);
    let gates = &case.generation.gates;
    let mut rows = vec![
        proofs.candidate(),
        proofs.all_changes_proven()?,
        proofs.integration(),
        proofs.no_failed(gates.no_failed.scope),
    ];
    if let Some(gate) = &gates.min_evolutions {
        rows.push(proofs.min_evolutions(gate.count));
    }
    if let Some(gate) = &gates.proof_max_age {
        rows.push(proofs.max_age(gate.hours, clock));
    }
    if gates.approvals.is_some() {
        rows.push(proofs.approvals());
    }
    if gates.freeze_window.is_some() {
        rows.push(proofs.freeze());
    }
    if let Some(before) = case.generation.stage_before(case.stage) {
        rows.push(proofs.stage_before(before));
        if before.soak_hours > 0 {
            rows.push(proofs.soak(before, clock));
        }
    }
    if case.generation.hotfix.is_some() {
        rows.push(proofs.hotfix_base()?);
    }
    rows.extend(proofs.hotfix_forward_ported()?);
    Ok(rows)
}

/// When an event that is written now will say that it happened: not before one that it follows.
fn stated(ledger: &Ledger, clock: UnixMicros) -> UnixMicros {
    clock.max(ledger.last())
}

struct Proofs<'a> {
    case: &'a Case<'a>,
    ledger: &'a Ledger,
    in_force: InForce<'a>,
    /// What the promotion will say.
    now: UnixMicros,
}

/// The last thing that is known of a change.
enum Latest<'a> {
    Nothing,
    /// A run began after the last one that ended.
    Running(&'a str),
    Ended(&'a Event, &'a EvolutionFinished),
}

impl<'a> Proofs<'a> {
    fn new(case: &'a Case<'a>, ledger: &'a Ledger, clock: UnixMicros) -> Self {
        let in_force = ledger.in_force(&case.generation.version);
        Self { case, ledger, in_force, now: stated(ledger, clock) }
    }

    fn command(&self, change: &str) -> String {
        let Candidate { commit, .. } = self.case.candidate;
        format!(
            "estoppel evolution start {} --change {change} --commit {commit}",
            self.case.generation.version
        )
    }

    fn latest(&self, change: &str) -> Latest<'a> {
        let version = &self.case.generation.version;
        let mut latest = Latest::Nothing;
        let ended: BTreeSet<&str> =
            self.ledger.finished(version).map(|(_, run)| run.evolution.as_str()).collect();
        for event in self.ledger.events() {
            match &event.body {
                Body::EvolutionStarted(run)
                    if run.version == *version
                        && run.changes.iter().any(|id| id == change)
                        && !ended.contains(run.evolution.as_str()) =>
                {
                    latest = Latest::Running(&run.evolution);
                }
                Body::EvolutionFinished(run)
                    if run.version == *version && run.changes.contains_key(change) =>
                {
                    latest = Latest::Ended(event, run);
                }
                _ => {}
            }
        }
        latest
    }

    fn is_runner(&self, event: &Event) -> bool {
        self.ledger.roles().has(event.actor, Role::Runner)
    }

    fn candidate(&self) -> Row {
        const GATE: &str = "candidate";
        let Candidate { commit, tag, event } = self.case.candidate;
        match (tag, event) {
            (Some(tag), Some(event)) => {
                Row::pass(GATE, format!("{tag} on {commit}")).by([(tag.clone(), *event)])
            }
            _ => {
                let version = &self.case.generation.version;
                let why = format!("no evolution of {version} has passed, so there is no candidate");
                Row::missing(GATE, why, format!("estoppel evolution start {version} --all"))
            }
        }
    }

    fn all_changes_proven(&self) -> Result<Row, Refusal> {
        const GATE: &str = "all_changes_proven";
        let mut looked = Vec::new();
        for change in &self.case.generation.changes {
            let id = change.id.as_str();
            let (event, run) = match self.latest(id) {
                Latest::Nothing => {
                    return Ok(Row::missing(GATE, format!("no evolution has proven {id}"), self.command(id)));
                }
                Latest::Running(evolution) => {
                    let why = format!("evolution {evolution} of {id} was begun and has not ended");
                    return Ok(Row::missing(GATE, why, self.command(id)));
                }
                Latest::Ended(event, run) => (event, run),
            };
            let evolution = &run.evolution;
            if run.result != Outcome::Passed {
                return Ok(Row::fail(GATE, format!("the latest evolution of {id}, {evolution}, failed"))
                    .by([(evolution.clone(), event.id)]));
            }
            if run.changes.get(id) != Some(&self.case.generation.change_digest(change))
                || !self.in_force.proves(run, id)
            {
                let why = format!("{id} was amended after evolution {evolution} had proven it");
                return Ok(Row::missing(GATE, why, self.command(id)));
            }
            if let Some(step) = not_run(run, self.case.generation.steps_for(change)) {
                let why = format!("evolution {evolution} says {id} passed, and nothing of step `{step}`");
                return Ok(Row::fail(GATE, why).by([(evolution.clone(), event.id)]));
            }
            if !self.is_runner(event) {
                let why = format!("the key of evolution {evolution} of {id} is no `runner` any more");
                return Ok(Row::missing(GATE, why, self.command(id)));
            }
            if !self.case.history.is_ancestor(&run.commit, &self.case.candidate.commit)? {
                let why = format!(
                    "the latest evolution of {id} is on {}, which the candidate does not contain",
                    run.commit
                );
                return Ok(Row::fail(GATE, why).by([(evolution.clone(), event.id)]));
            }
            looked.push((evolution.clone(), event.id));
        }
        looked.sort();
        looked.dedup();
        let count = self.case.generation.changes.len();
        Ok(Row::pass(GATE, format!("{count} of {count} changes")).by(looked))
    }

    fn integration(&self) -> Row {
        const GATE: &str = "integration_at_candidate";
        let Candidate { commit, .. } = self.case.candidate;
        let version = &self.case.generation.version;
        match whole_run(self.case, self.ledger) {
            Some((event, run)) => Row::pass(GATE, format!("every step passed on {commit}"))
                .by([(run.evolution.clone(), event.id)]),
            None => Row::missing(
                GATE,
                format!("no evolution of all changes passed on {commit} under the contract in force"),
                format!("estoppel evolution start {version} --all --commit {commit}"),
            ),
        }
    }

    fn no_failed(&self, scope: Scope) -> Row {
        const GATE: &str = "no_failed";
        let of_version = self.ledger.finished(&self.case.generation.version);
        let mut failed = of_version.filter(|(_, run)| run.result == Outcome::Failed);
        let found = match scope {
            Scope::Ever => failed.next(),
            Scope::Latest => {
                let changes = self.case.generation.changes.iter();
                let latest = changes.filter_map(|change| match self.latest(change.id.as_str()) {
                    Latest::Ended(event, run) => Some((event, run)),
                    _ => None,
                });
                latest.into_iter().find(|(_, run)| run.result == Outcome::Failed)
            }
        };
        match (found, scope) {
            (Some((event, run)), _) => Row::fail(GATE, format!("evolution {} failed", run.evolution))
                .by([(run.evolution.clone(), event.id)]),
            (None, Scope::Latest) => Row::pass(GATE, "the latest evolution of no change failed"),
            (None, Scope::Ever) => Row::pass(GATE, "no evolution ever failed"),
        }
    }

    fn min_evolutions(&self, wanted: u32) -> Row {
        const GATE: &str = "min_evolutions";
        let passed: Vec<_> = self
            .ledger
            .finished(&self.case.generation.version)
            .filter(|(event, run)| {
                let is_of_contract =
                    run.contract == self.case.generation.digest() && self.in_force.has_run(run);
                run.result == Outcome::Passed && is_of_contract && self.is_runner(event)
            })
            .map(|(event, run)| (run.evolution.clone(), event.id))
            .collect();
        let why = format!("{} of {wanted} evolutions passed", passed.len());
        let run = format!("estoppel evolution start {} --all", self.case.generation.version);
        let is_enough = u32::try_from(passed.len()).unwrap_or(u32::MAX) >= wanted;
        if is_enough { Row::pass(GATE, why).by(passed) } else { Row::missing(GATE, why, run).by(passed) }
    }

    /// By the clock of whoever promotes: that of a runner does not make proofs younger.
    fn max_age(&self, hours: u32, clock: UnixMicros) -> Row {
        const GATE: &str = "proof_max_age";
        let oldest = clock.0.saturating_sub(u64::from(hours) * HOUR_US);
        let newest = clock.0.saturating_add(CLOCK_SKEW_US_MAX);
        for change in &self.case.generation.changes {
            let Latest::Ended(event, _) = self.latest(change.id.as_str()) else { continue };
            if event.at.0 > newest {
                let why = format!("the proof of {} is of {}, which is yet to come", change.id, event.at);
                return Row::fail(GATE, why);
            }
            if event.at.0 < oldest {
                let why =
                    format!("the proof of {} is of {}, more than {hours} hours ago", change.id, event.at);
                return Row::missing(GATE, why, self.command(change.id.as_str()));
            }
        }
        Row::pass(GATE, format!("no proof is older than {hours} hours"))
    }

    fn authors(&self) -> (BTreeSet<KeyId>, BTreeSet<String>) {
        authors(self.case.generation, self.ledger)
    }

    fn approvals(&self) -> Row {
        const GATE: &str = "approvals";
        let generation = self.case.generation;
        let Some(gate) = &generation.gates.approvals else { return Row::pass(GATE, "none is asked for") };
        let (author_keys, author_names) = self.authors();
        let mut people = BTreeMap::new();
        let mut refused = BTreeSet::new();
        for event in self.ledger.events() {
            let Body::Approved(approved) = &event.body else { continue };
            if approved.version != generation.version {
                continue;
            }
            let known = self.ledger.roles().name(event.actor);
            let Some(name) = known.filter(|_| self.ledger.roles().has(event.actor, Role::Approver)) else {
                refused.insert(format!("key {} may not approve any more", event.actor));
                continue;
            };
            let hours = gate.hours_max.map(|hours| u64::from(hours) * HOUR_US);
            let is_old = hours.is_some_and(|hours| event.at.0.saturating_add(hours) < self.now.0);
            let is_of_this = approved.contract == generation.digest()
                && approved.commit == self.case.candidate.commit
                && approved.policy == self.case.policy;
            let why = match () {
                () if author_keys.contains(&event.actor) || author_names.contains(&folded(name)) => {
                    "is the author's own"
                }
                () if !is_of_this => "is of another contract, commit or policy",
                () if !self.in_force.has(event) => "was given before the contract was amended",
                () if approved.expires <= self.now || is_old => "has expired",
                () => {
                    people.insert(folded(name), (name.to_owned(), event.id));
                    continue;
                }
            };
            refused.insert(format!("that of {name} {why}"));
        }
        let has = u32::try_from(people.len()).unwrap_or(u32::MAX);
        let mut why = format!("{has} of {} approvals", gate.count);
        for refused in &refused {
            why.push_str("; ");
            why.push_str(refused);
        }
        let run = format!("estoppel approve {} --key FILE", generation.version);
        if has >= gate.count {
            Row::pass(GATE, why).by(people.into_values())
        } else {
            Row::missing(GATE, why, run).by(people.into_values())
        }
    }

    fn freeze(&self) -> Row {
        const GATE: &str = "freeze_window";
        let windows = self.case.generation.gates.freeze_window.iter().flat_map(|gate| &gate.windows);
        for window in windows {
            match window.times() {
                Some(times) if !times.contains(&self.now) => {}
                Some(_) => return Row::fail(GATE, format!("until {}: {}", window.to, window.reason)),
                None => return Row::fail(GATE, format!("`{}` to `{}` is no time", window.from, window.to)),
            }
        }
        Row::pass(GATE, "nothing is frozen now")
    }

    /// The first time that this commit came to the stage, under the contract in force.
    fn reached(&self, stage: StageName) -> Option<(&'a Event, &'a StagePromoted)> {
        let mut stages = self.ledger.stages(&self.case.generation.version);
        stages.find(|(event, body)| {
            body.stage == stage
                && body.contract == self.case.generation.digest()
                && body.commit == self.case.candidate.commit
                && self.in_force.has(event)
                && self.ledger.roles().has(event.actor, Role::Releaser)
        })
    }

    fn stage_before(&self, before: &Stage) -> Row {
        const GATE: &str = "stage_before";
        let (version, commit) = (&self.case.generation.version, &self.case.candidate.commit);
        match self.reached(before.stage) {
            Some((event, body)) => {
                Row::pass(GATE, format!("{} on {commit}", body.tag)).by([(body.tag.clone(), event.id)])
            }
            None => {
                let why = format!("{commit} was not at {} under the contract in force", before.stage);
                Row::missing(GATE, why, format!("estoppel promote {version} --stage {}", before.stage))
            }
        }
    }

    /// By the clock of whoever promotes, as ages are.
    fn soak(&self, before: &Stage, clock: UnixMicros) -> Row {
        const GATE: &str = "soak";
        let (hours, stage) = (before.soak_hours, before.stage);
        let Some((event, body)) = self.reached(stage) else {
            return Row::fail(GATE, format!("{hours} hours at {stage} are asked for, and it was not there"));
        };
        let since = self.ledger.known_since(event);
        let until = UnixMicros(since.0.saturating_add(u64::from(hours) * HOUR_US));
        let mut why = format!("at {stage} since {}", event.at);
        if since > event.at {
            let _ =
                write!(why, ", known since {since}: what was written until then beside it did not know it");
        }
        let looked = [(body.tag.clone(), event.id)];
        if until <= clock {
            return Row::pass(GATE, why).by(looked);
        }
        Row::fail(GATE, format!("{why}; to stay there until {until}")).by(looked)
    }

    /// What a hotfix mended stays mended in what comes after it.
    fn hotfix_forward_ported(&self) -> Result<Option<Row>, Refusal> {
        const GATE: &str = "hotfix_forward_ported";
        let hotfixes = hotfixes_below(self.ledger, &self.case.generation.version);
        if hotfixes.is_empty() {
            return Ok(None);
        }
        let (mut looked, mut lacking) = (Vec::new(), None);
        let candidate = &self.case.candidate.commit;
        for Mended { event, promoted, base } in &hotfixes {
            let PromotionFinished { tag, commit, .. } = promoted;
            looked.push((tag.clone(), event.id));
            if lacking.is_some() || self.is_settled(event.id)? {
                continue;
            }
            // What it says of itself mends nothing, as long as it is what was sealed.
            let own = LeftOut {
                is_named: &|path| generation::is_file_of(Path::new(path), &promoted.version),
                is_it: &|path, bytes| generation::is_contract(Path::new(path), bytes, promoted.contract),
            };
            lacking = match self.case.history.ported(base, commit, candidate, &own)? {
                Ported::All => None,
                Ported::Lacks(file) => {
                    let why =
                        format!("{tag} is a hotfix, and what it changes in `{file}` is not in the candidate");
                    Some(Row::missing(GATE, why, self.ports(base, promoted)?))
                }
                Ported::Unclear(file) => {
                    let why = format!(
                        "{tag} is a hotfix, and `{file}` of the candidate is otherwise where it changes it: whether that is mended, a person says \
                         (`git diff {base} {commit}`)"
                    );
                    let version = &self.case.generation.version;
                    let run = format!("estoppel waive {version} {GATE} --reason TEXT --key FILE");
                    Some(Row::missing(GATE, why, run))
                }
            };
        }
        let pass = || Row::pass(GATE, format!("what {} hotfixes mended is there", hotfixes.len()));
        Ok(Some(lacking.unwrap_or_else(pass).by(looked)))
    }

    /// What brings a hotfix into the candidate.
    fn ports(&self, base: &ObjectId, promoted: &PromotionFinished) -> Result<String, Refusal> {
        let PromotionFinished { commit, tag, .. } = promoted;
        if !self.case.history.has_merges(base, commit)? {
            return Ok(format!("git cherry-pick -x {base}..{commit}"));
        }
        let is_merged = self.case.history.is_ancestor(commit, &self.case.candidate.commit)?;
        // What was merged once is not merged again.
        let diff = || format!("git diff --binary {base} {commit} | git apply --3way");
        Ok(if is_merged { diff() } else { format!("git merge {tag}") })
    }

    /// Whether a release that the candidate contains was held to this hotfix.
    fn is_settled(&self, hotfix: Sha256) -> Result<bool, Refusal> {
        let hotfix = hotfix.to_string();
        let names = |row: &Value| {
            row["gate"] == "hotfix_forward_ported"
                && row["evidence"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["digest"] == *hotfix))
        };
        for event in self.ledger.events() {
            let Body::PromotionFinished(body) = &event.body else { continue };
            if body.gates.iter().any(names)
                && self.ledger.state(&body.version) == Some(ledger::State::Promoted)
                && self.case.history.is_ancestor(&body.commit, &self.case.candidate.commit)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hotfix_base(&self) -> Result<Row, Refusal> {
        const GATE: &str = "hotfix_base";
        let Some(hotfix) = &self.case.generation.hotfix else {
            return Ok(Row::pass(GATE, "it is no hotfix"));
        };
        let version = &self.case.generation.version;
        let base = &hotfix.base;
        if !version.is_later_patch_of(base) {
            return Ok(Row::fail(GATE, format!("{version} is no later patch of {base}")));
        }
        let Some((event, promoted)) = self.ledger.promoted(base) else {
            return Ok(Row::fail(GATE, format!("{base} was not promoted")));
        };
        if !self.case.history.is_ancestor(&promoted.commit, &self.case.candidate.commit)? {
            return Ok(Row::fail(GATE, format!("the candidate does not contain {base}")));
        }
        Ok(Row::pass(GATE, format!("it mends {base}")).by([(base.to_string(), event.id)]))
    }
}

/// A hotfix that was promoted and not taken back, and the commit that it mends.
struct Mended<'l> {
    event: &'l Event,
    promoted: &'l PromotionFinished,
    base: ObjectId,
}

/// Those of versions below this one.
fn hotfixes_below<'l>(ledger: &'l Ledger, version: &Version) -> Vec<Mended<'l>> {
    let promoted = ledger.events().iter().filter_map(|event| match &event.body {
        Body::PromotionFinished(body) if body.version < *version => Some((event, body.as_ref())),
        _ => None,
    });
    let mended = promoted.filter_map(|(event, promoted)| {
        // The one that it was promoted under, whatever was written beside that.
        let mut contracts = ledger.contracts(&promoted.version);
        let (_, contract) = contracts.find(|(_, contract)| contract.contract == promoted.contract)?;
        let base: Version = contract.document.get("hotfix")?.get("base")?.as_str()?.parse().ok()?;
        let is_kept = ledger.state(&promoted.version) == Some(ledger::State::Promoted);
        let base = is_kept.then(|| ledger.promoted(&base))??.1.commit.clone();
        Some(Mended { event, promoted, base })
    });
    mended.collect()
}

/// Whether what mended an earlier version is asked of this one.
pub(super) fn follows_hotfix(ledger: &Ledger, version: &Version) -> bool {
    !hotfixes_below(ledger, version).is_empty()
}

/// Keys of who wrote the contract, and their names as people take them for one.
fn authors(generation: &Generation, ledger: &Ledger) -> (BTreeSet<KeyId>, BTreeSet<String>) {
    let writers = ledger.contracts(&generation.version).map(|(event, _)| event.actor);
    let keys: BTreeSet<KeyId> = writers.chain(generation.author.key).collect();
    let names = keys.iter().filter_map(|key| ledger.roles().name(*key)).map(folded);
    let names = names.chain([folded(&generation.author.name)]).collect();
    (keys, names)
}

/// Whether what this key approves or waives is the author's own, which does not count.
pub(super) fn is_authors_own(generation: &Generation, ledger: &Ledger, key: KeyId) -> bool {
    let (keys, names) = authors(generation, ledger);
    keys.contains(&key) || ledger.roles().name(key).is_some_and(|name| names.contains(&folded(name)))
}

/// Whether the generation asks this gate, and a person may waive it.
pub(super) fn is_waivable(generation: &Generation, follows_hotfix: bool, gate: &str) -> bool {
    let gates = &generation.gates;
    match gate {
        "no_failed" => true,
        "hotfix_forward_ported" => follows_hotfix,
        "soak" => generation.stages.iter().any(|stage| stage.soak_hours > 0),
        "freeze_window" => gates.freeze_window.is_some(),
        "min_evolutions" => gates.min_evolutions.is_some(),
        "perf_budget" => gates.perf_budget.is_some(),
        "proof_max_age" => gates.proof_max_age.is_some(),
        "regress" => gates.regress.is_some(),
        "replay_certificate" => gates.replay_certificate.is_some(),
        other => other
            .strip_prefix("command:")
            .is_some_and(|id| gates.commands.iter().any(|command| command.id.as_str() == id)),
    }
}

/// A step that a run says nothing of, or not that it passed.
fn not_run<'s>(run: &EvolutionFinished, steps: impl IntoIterator<Item = &'s Step>) -> Option<&'s StepId> {
    let passed = |step: &Step| {
        run.steps.iter().any(|result| {
            result.id == step.id.as_str()
                && result.kind == step.kind.as_str()
                && result.outcome == StepOutcome::Passed
        })
    };
    steps.into_iter().find(|step| !passed(step)).map(|step| &step.id)
}

/// The evolution of all changes that passed on the candidate, under the contract in force.
pub(super) fn whole_run<'l>(
    case: &Case<'_>,
    ledger: &'l Ledger,
) -> Option<(&'l Event, &'l EvolutionFinished)> {
    let generation = case.generation;
    let in_force = ledger.in_force(&generation.version);
    let runs = ledger.finished(&generation.version).filter(|(event, run)| {
        run.result == Outcome::Passed
            && run.commit == case.candidate.commit
            && run.contract == generation.digest()
            && in_force.has_run(run)
            && run.changes.len() == generation.changes.len()
            && not_run(run, generation.steps.iter()).is_none()
            && ledger.roles().has(event.actor, Role::Runner)
    });
    runs.last()
}

/// Puts a waiver to each row that does not pass and has one.
pub(super) fn waive(rows: &mut [Row], case: &Case<'_>, ledger: &Ledger, clock: UnixMicros) {
    let proofs = Proofs::new(case, ledger, clock);
    let now = proofs.now;
    let (author_keys, author_names) = proofs.authors();
    for row in rows.iter_mut().filter(|row| row.refuses()) {
        if !is_waivable(case.generation, true, &row.gate) {
            continue;
        }
        let skipped = case.generation.hotfix.as_ref().filter(|hotfix| {
            let skips = hotfix.skips.iter().copied().map(Skip::as_str);
            skips.into_iter().any(|skip| skip == row.gate)
        });
        if let Some(hotfix) = skipped {
            let by = case.generation.author.name.clone();
            row.waive(Waiver { by, expires: None, reason: hotfix.reason.clone() });
            continue;
        }
        let waivers = ledger.events().iter().filter_map(|event| match &event.body {
            Body::Waived(waived) => Some((event, waived)),
            _ => None,
        });
        for (event, waived) in waivers {
            let name = ledger.roles().name(event.actor).unwrap_or_default();
            let is_of_this = waived.gate == row.gate
                && waived.version == case.generation.version
                && waived.contract == case.generation.digest()
                && waived.commit == case.candidate.commit
                && proofs.in_force.has(event)
                && waived.expires > now;
            let is_own = author_keys.contains(&event.actor) || author_names.contains(&folded(name));
            if is_of_this && !is_own && ledger.roles().has(event.actor, Role::Approver) {
                let (expires, reason) = (Some(waived.expires), waived.reason.clone());
                row.waive(Waiver { by: name.to_owned(), expires, reason });
                row.evidence.push(super::row::Looked { digest: event.id, name: "waiver".into() });
            }
        }
    }
}
