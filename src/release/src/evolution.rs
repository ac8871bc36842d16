//! One run of the steps of a generation on one commit, its signed result, and the tag of the candidate where it passed.
//!
//! The contract that counts is the sealed one in the ledger, never the file; the sources are those of the commit in a clean
//! working tree, never those that somebody is working on. What the tested service sends through the gateway names the
//! run by its nonce, and what the steps leave in `ESTOPPEL_EVIDENCE` is bound to the run by its digest.

mod anchor;
mod cut_off;
pub mod progress;
mod statement;
mod steps;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, Sha256, hash};

use crate::code::{Code, Refusal};
use crate::generation::{Change, Generation, HookEvent, Step, fixtures_at};
use crate::git::ObjectId;
use crate::hook;
use crate::ledger::{
    Appended, Body, Content, Contracted, Draft, EvolutionFinished, EvolutionStarted, Hand, HookResult, Known,
    Ledger, Outcome, State, StepOutcome, StepResult, Store, TagDraft,
};
use crate::version::Version;
use crate::worktree::{self, Worktree};
use anchor::Anchor;
use progress::Telling;

pub(crate) use statement::sign;
pub use statement::{STATEMENT, TEST_RESULT};
pub(crate) use steps::allowed_env;
pub use steps::{LOG_BYTES_MAX, Place, Unwatched, Watch, log_path};

/// Most files that the steps of one run may leave as evidence.
pub const EVIDENCE_FILES_MAX: usize = 256;

/// Which changes are to be proven.
#[derive(Clone, Debug)]
pub enum Wanted {
    All,
    These(Vec<String>),
}

/// What is to be run.
pub struct Plan<'a> {
    pub version: &'a Version,
    pub wanted: Wanted,
    pub commit: ObjectId,
    /// How many steps run at a time.
    pub jobs: usize,
    /// 26 bytes nobody can guess: for the id and the nonce.
    pub random: [u8; 26],
}

/// The sealed contract of a version that can still be worked on.
pub fn sealed<'l>(ledger: &'l Ledger, version: &Version) -> Result<(Generation, &'l Contracted), Refusal> {
    let unknown = || {
        let said = format!("{version} is not sealed; `estoppel generation seal {version}` does that");
        Refusal::new(Code::GenerationUnknown, said)
    };
    let (_, contracted) = ledger.contract(version).ok_or_else(unknown)?;
    let generation = Generation::from_document(contracted.document.clone()).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Refusal::new(Code::LedgerEventInvalid, format!("the contract of {version} cannot be read: {first}"))
    })?;
    Ok((generation, contracted))
}

/// Runs an evolution from its start to its record.
///
/// # Errors
/// What keeps it from being run or recorded. That a step failed is no error: it is recorded, and told.
pub fn start(
    store: &Store,
    hand: &Hand<'_>,
    plan: &Plan<'_>,
    watch: &dyn Watch,
) -> Result<(EvolutionFinished, Appended), Refusal> {
    let git = store.git();
    worktree::sweep(git)?;
    cut_off::record(store, hand)?;
    let tree = git.tree(&plan.commit)?;
    let (id, nonce) = names((hand.now)(), &plan.random);
    let place = Folders::make(git.private(), &id)?;
    // Before the ledger says that it began, so that whoever finds it there can tell whether it is alive.
    let telling = Telling::begin(&place.logs, watch);
    let begun = begin(store, hand, plan, &id, &nonce);
    // Where the remote fell silent, it may have been begun.
    let (run, changes) = begun.inspect_err(|refusal| {
        if refusal.code != Code::RemoteFailed {
            place.remove();
        }
    })?;
    let anchor = Anchor::set(store, run.begun)?;
    telling.wanted(&run.wanted());
    let worktree = Worktree::add(git, &run.start.evolution, &plan.commit)?;
    let done = run.steps(&worktree, &place, plan.jobs, &telling)?;
    let evidence = place.evidence()?;
    run.record(store, hand, &anchor, &tree, done, evidence, changes)
}

type ChangeDigests = BTreeMap<String, Sha256>;

/// A run that was recorded as begun.
struct Run {
    generation: Generation,
    start: EvolutionStarted,
    /// The event that says so.
    begun: Sha256,
}

/// What came of the steps and hooks.
struct Done {
    result: Outcome,
    steps: Vec<StepResult>,
    hooks: Vec<HookResult>,
    /// Why it failed, where no step says so.
    why: Option<String>,
}

impl Done {
    fn failed(self) -> Self {
        Self { result: Outcome::Failed, ..self }
    }

    /// Who rewrites the sources proves other sources.
    fn held_against(self, changed: Option<(String, Vec<String>)>, logs: &Path) -> Result<Self, Refusal> {
        let Some((who, paths)) = changed else { return Ok(self) };
        let first = paths.first().map(String::as_str).unwrap_or_default();
        let why = format!("`{first}` is not as the commit has it any more after {who}");
        std::fs::write(logs.join("changed"), paths.join("\n") + "\n")
            .map_err(|error| folder_failed(logs, &error))?;
        Ok(Self { why: Some(why), ..self.failed() })
    }
}

/// The id of a run and its nonce.
fn names(now: UnixMicros, random: &[u8; 26]) -> (String, String) {
    let (for_id, for_nonce) = random.split_at(10);
    let id = CallId::new(now.0 / 1000, for_id.try_into().unwrap_or_default()).to_string();
    let nonce = format!("{id}.{}", hash::hex(for_nonce));
    (id, nonce)
}

fn unsigned(error: KeyError) -> Refusal {
    Refusal::new(Code::RoleMissing, format!("the key does not sign: {error}"))
}

fn begin(
    store: &Store,
    hand: &Hand<'_>,
    plan: &Plan<'_>,
    id: &str,
    nonce: &str,
) -> Result<(Run, ChangeDigests), Refusal> {
    let mut begun = None;
    let appended = store.append(hand, &mut |Known { ledger, .. }| {
        let (generation, contracted) = sealed(ledger, plan.version)?;
        if ledger.state(plan.version) != Some(State::Sealed) {
            let state = ledger.state(plan.version).map_or("unknown", State::as_str);
            return Err(Refusal::new(Code::StateInvalid, format!("{} is {state}", plan.version)));
        }
        let chosen = chosen(&generation, &plan.wanted)?;
        fixtures_at(store.git(), &plan.commit, &chosen)?;
        let changes: Vec<String> = chosen.iter().map(|change| change.id.to_string()).collect();
        let digests: ChangeDigests =
            contracted.changes.clone().into_iter().filter(|(id, _)| changes.contains(id)).collect();
        let start = EvolutionStarted {
            changes,
            commit: plan.commit.clone(),
            contract: contracted.contract,
            evolution: id.to_owned(),
            nonce: nonce.to_owned(),
            version: plan.version.clone(),
        };
        begun = Some((generation, start.clone(), digests));
        Ok(Body::EvolutionStarted(start).into())
    })?;
    let (generation, start, digests) =
        begun.ok_or_else(|| Refusal::new(Code::LedgerBusy, "nothing was begun"))?;
    Ok((Run { generation, start, begun: appended.event }, digests))
}

fn chosen<'g>(generation: &'g Generation, wanted: &Wanted) -> Result<Vec<&'g Change>, Refusal> {
    let Wanted::These(ids) = wanted else { return Ok(generation.changes.iter().collect()) };
    let mut changes = Vec::new();
    for change in &generation.changes {
        if ids.iter().any(|id| id == change.id.as_str()) {
            changes.push(change);
        }
    }
    match ids.iter().find(|id| generation.change(id).is_none()) {
        None => Ok(changes),
        Some(id) => {
            let known: Vec<&str> = generation.changes.iter().map(|change| change.id.as_str()).collect();
            let said = format!("{} has no change `{id}`; it has {}", generation.version, known.join(", "));
            Err(Refusal::new(Code::ChangeUnknown, said))
        }
    }
}

impl Run {
    fn changes(&self) -> Vec<&Change> {
        let is_of_it = |change: &&Change| self.start.changes.iter().any(|id| id == change.id.as_str());
        self.generation.changes.iter().filter(is_of_it).collect()
    }

    /// Whether the run is of every change, and so runs every step.
    fn is_whole(&self) -> bool {
        self.changes().len() == self.generation.changes.len()
    }

    fn wanted(&self) -> Vec<&Step> {
        if self.is_whole() {
            return self.generation.steps.iter().collect();
        }
        let changes = self.changes();
        let is_wanted = |step: &&Step| {
            let mut needed = changes.iter().flat_map(|change| self.generation.steps_for(change));
            needed.any(|needed| needed.id == step.id)
        };
        self.generation.steps.iter().filter(is_wanted).collect()
    }

    fn told(&self, evidence: &Path) -> Vec<(&'static str, String)> {
        let EvolutionStarted { changes, commit, evolution, nonce, version, .. } = &self.start;
        vec![
            ("ESTOPPEL_CHANGES", changes.join(",")),
            ("ESTOPPEL_COMMIT", commit.to_string()),
            ("ESTOPPEL_EVIDENCE", evidence.display().to_string()),
            ("ESTOPPEL_EVOLUTION", evolution.clone()),
            ("ESTOPPEL_NONCE", nonce.clone()),
            ("ESTOPPEL_VERSION", version.to_string()),
        ]
    }

    fn steps(
        &self,
        worktree: &Worktree,
        folders: &Folders,
        jobs: usize,
        watch: &dyn Watch,
    ) -> Result<Done, Refusal> {
        let told = self.told(&folders.evidence);
        let hooks = hook::Hooks {
            generation: &self.generation,
            changes: self.changes(),
            tree: worktree.path(),
            told: &told,
        };
        let mut heard = hooks.tell(HookEvent::EvolutionStart, &serde_json::json!({}));
        let wanted = self.wanted();
        let picture = worktree.picture();
        let changed_by =
            |who: &str| Some((who.to_owned(), picture.changed())).filter(|(_, paths)| !paths.is_empty());
        let changed = changed_by("the hooks");
        if changed.is_some() || heard.iter().any(|hook| !hook.passed) {
            let done = Done { result: Outcome::Failed, steps: Vec::new(), hooks: heard, why: None };
            return done.held_against(changed, &folders.logs);
        }
        let place = Place { tree: worktree.path(), picture, logs: &folders.logs, told: &told };
        let steps::Ran { results: steps, changed, is_left } = steps::run(&wanted, &place, jobs, watch);
        let is_failed =
            |step: &&StepResult| !matches!(step.outcome, StepOutcome::Passed | StepOutcome::Skipped);
        for step in steps.iter().filter(is_failed) {
            heard.extend(hooks.tell(HookEvent::StepFail, &serde_json::json!({ "step": step })));
        }
        let all_passed = changed.is_none()
            && !is_left
            && !steps.is_empty()
            && steps.iter().all(|step| step.outcome == StepOutcome::Passed);
        let result = if all_passed { Outcome::Passed } else { Outcome::Failed };
        let said = serde_json::json!({ "result": result, "steps": steps });
        let ended = hooks.tell(HookEvent::EvolutionEnd, &said);
        let stopped = ended.iter().any(|hook| !hook.passed);
        heard.extend(ended);
        let changed = changed.map(|changed| (format!("step `{}`", changed.after), changed.paths));
        let changed = changed.or_else(|| changed_by("the hooks"));
        let why = is_left.then(|| "what a step left running could not be ended".to_owned());
        let done = Done { result, steps, hooks: heard, why }.held_against(changed, &folders.logs)?;
        Ok(if stopped { done.failed() } else { done })
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of the record")]
    fn record(
        &self,
        store: &Store,
        hand: &Hand<'_>,
        anchor: &Anchor,
        tree: &ObjectId,
        done: Done,
        evidence: BTreeMap<String, Content>,
        changes: ChangeDigests,
    ) -> Result<(EvolutionFinished, Appended), Refusal> {
        let said = statement::of(&self.start, tree, done.result, &done.steps);
        let attestation = sign(&said, hand.signer).map_err(unsigned)?;
        let EvolutionStarted { commit, contract, evolution, version, .. } = self.start.clone();
        let finished = EvolutionFinished {
            attestation,
            changes,
            commit,
            contract,
            evidence,
            evolution,
            hooks: done.hooks,
            result: done.result,
            steps: done.steps,
            tag: None,
            version,
            why: done.why,
        };
        let mut recorded = None;
        anchor.is_trusted(store)?;
        let appended = store.append(hand, &mut |known| {
            anchor.holds(known.ledger)?;
            let draft = self.draft(&finished, known);
            if let Body::EvolutionFinished(body) = &draft.body {
                recorded = Some(body.as_ref().clone());
            }
            Ok(draft)
        })?;
        Ok((recorded.unwrap_or(finished), appended))
    }

    fn draft(&self, finished: &EvolutionFinished, known: &Known<'_>) -> Draft {
        if finished.result != Outcome::Passed {
            return Body::EvolutionFinished(Box::new(finished.clone())).into();
        }
        let number = known.next_number(&finished.version, "rc");
        let name = finished.version.candidate_tag(number);
        let tag = TagDraft {
            name: name.clone(),
            target: finished.commit.clone(),
            message: message(finished, number),
        };
        let body = EvolutionFinished { tag: Some(name), ..finished.clone() };
        Draft { tag: Some(tag), ..Body::EvolutionFinished(Box::new(body)).into() }
    }
}

fn message(finished: &EvolutionFinished, number: u64) -> String {
    let EvolutionFinished { version, evolution, contract, .. } = finished;
    let mut text = format!("{version}, candidate {number}\n\n");
    for (id, digest) in &finished.changes {
        // A String takes every write.
        let _ = writeln!(text, "Estoppel-Change: {id} {digest}");
    }
    let _ = writeln!(text, "Estoppel-Contract: {contract}\nEstoppel-Evolution: {evolution}");
    for (name, content) in &finished.evidence {
        let _ = writeln!(text, "Estoppel-Evidence: {name} {}", content.sha256);
    }
    text
}

/// Where what a run leaves is kept, among what belongs to this clone alone.
struct Folders {
    logs: PathBuf,
    evidence: PathBuf,
}

/// Where the logs of an evolution are, in the clone that ran it.
pub fn logs(private: &Path, evolution: &str) -> PathBuf {
    private.join("logs").join(evolution)
}

/// Where the files are that an evolution left as evidence, in the clone that ran it.
pub fn evidence(private: &Path, evolution: &str) -> PathBuf {
    private.join("evidence").join(evolution)
}

fn folder_failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", path.display()))
}

impl Folders {
    fn make(private: &Path, evolution: &str) -> Result<Self, Refusal> {
        let folders = Self { logs: logs(private, evolution), evidence: evidence(private, evolution) };
        for path in [&folders.logs, &folders.evidence] {
            std::fs::create_dir_all(path).map_err(|error| folder_failed(path, &error))?;
        }
        Ok(folders)
    }

    /// Of a run that never began. What stays is in nobody's way.
    fn remove(&self) {
        for path in [&self.logs, &self.evidence] {
            let _ = std::fs::remove_dir_all(path);
        }
    }

    /// The files that the steps left, with their digests.
    fn evidence(&self) -> Result<BTreeMap<String, Content>, Refusal> {
        let failed = |error: std::io::Error| folder_failed(&self.evidence, &error);
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.evidence).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().map_err(failed)?.is_file() || name.chars().any(char::is_control) {
                continue;
            }
            found.insert(name, steps::digest(&entry.path()).map_err(failed)?);
            if found.len() > EVIDENCE_FILES_MAX {
                let said = format!("the steps left more than {EVIDENCE_FILES_MAX} files of evidence");
                return Err(Refusal::new(Code::LedgerMax, said));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
