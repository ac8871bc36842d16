//! The steps of an evolution: in the order that they need each other, as many at a time as is allowed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use estoppel_evidence::Sha256;

use crate::generation::Step;
use crate::ledger::{Content, StepOutcome, StepResult};
use crate::process::{Group, Taking};
use crate::worktree::Picture;

/// Most bytes of the log of one step. Beyond them it is ended with `log_bytes_max`.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// How often it is looked whether a step is done.
const LOOK: Duration = Duration::from_millis(5);

/// Whoever looks on.
pub trait Watch: Sync {
    fn begun(&self, step: &Step);
    fn ended(&self, result: &StepResult);
}

/// Nobody.
pub struct Unwatched;

impl Watch for Unwatched {
    fn begun(&self, _: &Step) {}

    fn ended(&self, _: &StepResult) {}
}

/// Where steps run, and what they are told.
pub struct Place<'a> {
    pub tree: &'a Path,
    /// What the files of the commit were before the first step.
    pub picture: &'a Picture,
    pub logs: &'a Path,
    /// Variables beside those that a step asks for.
    pub told: &'a [(&'static str, String)],
}

/// Files of the commit that were not as the commit has them any more.
pub struct Changed {
    /// The step after which it was seen; others may have run beside it.
    pub after: String,
    pub paths: Vec<String>,
}

/// What came of the steps.
pub struct Ran {
    /// In the order of the steps.
    pub results: Vec<StepResult>,
    pub changed: Option<Changed>,
    /// Whether something that a step left running could not be ended.
    pub is_left: bool,
}

/// Runs all of `steps`, at most `jobs` at a time. After each the files of the commit are looked at; where they have changed,
/// no further step begins.
pub fn run(steps: &[&Step], place: &Place<'_>, jobs: usize, watch: &dyn Watch) -> Ran {
    let mut changed: Option<Changed> = None;
    let mut results: BTreeMap<&str, StepResult> = BTreeMap::new();
    let mut waiting: Vec<&Step> = steps.to_vec();
    let (mut running, mut is_left, taking) = (0, false, Taking::begin());
    let (done, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        loop {
            let (before, mut later) = (waiting.len(), Vec::new());
            for step in std::mem::take(&mut waiting) {
                let needs = step.needs.iter().map(|need| results.get(need.as_str()));
                let outcomes: Vec<Option<StepOutcome>> =
                    needs.map(|result| result.map(|result| result.outcome)).collect();
                let is_vain = outcomes.iter().flatten().any(|outcome| *outcome != StepOutcome::Passed);
                if is_vain || changed.is_some() {
                    let skipped = result(step, StepOutcome::Skipped, Duration::ZERO);
                    watch.ended(&skipped);
                    results.insert(step.id.as_str(), skipped);
                } else if outcomes.iter().all(Option::is_some) && running < jobs.max(1) {
                    running += 1;
                    watch.begun(step);
                    let done = done.clone();
                    // It is received as long as a step runs.
                    scope.spawn(move || {
                        drop(done.send((step, run_one(step, place), place.picture.changed())))
                    });
                } else {
                    later.push(step);
                }
            }
            let is_unchanged = later.len() == before;
            waiting = later;
            if running > 0 {
                let Ok((step, result, paths)) = finished.recv() else { break };
                running -= 1;
                // While others run nobody can tell whose it is.
                is_left |= running == 0 && !taking.end_all();
                watch.ended(&result);
                if changed.is_none() && !paths.is_empty() {
                    changed = Some(Changed { after: step.id.to_string(), paths });
                }
                results.insert(step.id.as_str(), result);
            } else if waiting.is_empty() || is_unchanged {
                break;
            }
        }
    });
    let missing = |step: &&Step| result(step, StepOutcome::Skipped, Duration::ZERO);
    let results =
        steps.iter().map(|step| results.remove(step.id.as_str()).unwrap_or_else(|| missing(step))).collect();
    Ran { results, changed, is_left }
}

fn result(step: &Step, outcome: StepOutcome, took: Duration) -> StepResult {
    StepResult {
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        exit: None,
        id: step.id.to_string(),
        kind: step.kind.to_string(),
        log: None,
        outcome,
    }
}

/// Where the log of a step is.
pub fn log_path(logs: &Path, step: &str) -> PathBuf {
    logs.join(format!("{step}.log"))
}

fn run_one(step: &Step, place: &Place<'_>) -> StepResult {
    let path = log_path(place.logs, step.id.as_str());
    let began = Instant::now();
    let (outcome, exit) = match start(step, place, &path) {
        Ok((group, mut child)) => {
            let ended = watch_over(&mut child, step, &path, began);
            // Nothing that is still in its group outlives it.
            group.end(&mut child);
            ended
        }
        Err(error) => {
            // The log says why, if there can be one.
            let _ = std::fs::write(&path, format!("could not be started: {error}\n"));
            (StepOutcome::NotStarted, None)
        }
    };
    let log = digest(&path).ok();
    StepResult { exit, log, ..result(step, outcome, began.elapsed()) }
}

fn start(step: &Step, place: &Place<'_>, log: &Path) -> io::Result<(Group, Child)> {
    let file = File::create_new(log)?;
    let (program, arguments) = step.run.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let folder =
        step.folder.as_ref().map_or_else(|| place.tree.to_path_buf(), |folder| place.tree.join(folder));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear();
    command.envs(allowed_env(&step.env)).envs(place.told.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let group = Group::begin()?;
    let child = group.spawn(&mut command)?;
    Ok((group, child))
}

/// What every program is given, so that it finds others, and what it asks for by name.
pub(crate) fn allowed_env(names: &[String]) -> Vec<(String, std::ffi::OsString)> {
    const ALWAYS: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LANG"];
    let names = ALWAYS.iter().copied().chain(names.iter().map(String::as_str));
    names.filter_map(|name| std::env::var_os(name).map(|value| (name.to_owned(), value))).collect()
}

fn watch_over(child: &mut Child, step: &Step, log: &Path, began: Instant) -> (StepOutcome, Option<i32>) {
    let time = Duration::from_secs(step.timeout_s.into());
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return of_status(status),
            Ok(None) => {}
            Err(_) => return (StepOutcome::Failed, None),
        }
        if began.elapsed() >= time {
            return (StepOutcome::TimedOut, None);
        }
        if std::fs::metadata(log).is_ok_and(|file| file.len() > LOG_BYTES_MAX) {
            return (StepOutcome::LogBytesMax, None);
        }
        std::thread::sleep(LOOK);
    }
}

fn of_status(status: ExitStatus) -> (StepOutcome, Option<i32>) {
    let outcome = if status.success() { StepOutcome::Passed } else { StepOutcome::Failed };
    (outcome, status.code())
}

/// Length and digest of a file.
pub fn digest(path: &Path) -> io::Result<Content> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Content { bytes: bytes.len() as u64, sha256: Sha256::of(&bytes) }) // a length fits in 64 bits
}
