//! `estoppel reduce`: the fewest calls of a run that still have what it was looked at for.

mod command;
mod minimize;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::entry::VerdictAction;
use estoppel_evidence::{Leaf, canonical};
use estoppel_gateway::contract_errors;
use estoppel_gateway::packs::Packs;
use estoppel_gateway::recorded::{Prepared, Rejudged, Retrial, in_series};
use serde_json::{Value, json};

use crate::arguments::{Predicate, Reduce};
use crate::output::{Failure, Output, plain};
use crate::recorded::{self, call_of};
use crate::show::{self, Line};
use crate::{policy, trial, verify};

use command::Asked;
use minimize::{Failed, Minimal, minimize};

const FORMAT: &str = "estoppel-reduce/1";
/// Most calls of a run.
const CALLS_MAX: usize = 10_000;

/// A predicate as it is typed.
pub fn predicate(text: &str) -> Result<Predicate, String> {
    match (text, text.strip_prefix("finding:")) {
        ("final-blocked", _) => Ok(Predicate::FinalBlocked),
        ("command", _) => Ok(Predicate::Command),
        (_, Some(rule)) if !rule.is_empty() => Ok(Predicate::Finding(rule.into())),
        _ => Err("`final-blocked`, `finding:RULE` or `command`".into()),
    }
}

impl std::fmt::Display for Predicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FinalBlocked => f.write_str("final-blocked"),
            Self::Finding(rule) => write!(f, "finding:{rule}"),
            Self::Command => f.write_str("command"),
        }
    }
}

/// The calls of a run, and what is asked of them.
struct Run<'a> {
    calls: Vec<&'a Line>,
    prepared: Vec<Prepared>,
    lines: Vec<Value>,
    asked: Asked<'a>,
    predicate: &'a Predicate,
    /// Hash of the one that was named.
    policy: String,
}

pub fn run(output: Output, reduce: &Reduce) -> Result<ExitCode, Failure> {
    let bundle = verify::demand(&reduce.bundle, reduce.vouched.trust.as_deref())?;
    if (reduce.predicate == Predicate::Command) == reduce.command.is_empty() {
        let message = "--predicate command goes with a command after `--`, and nothing else does";
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let (manifest, lines) = show::entries(&reduce.bundle, &bundle)?;
    let calls: Vec<&Line> = lines.iter().filter(|line| line.value["kind"] == "call").collect();
    if calls.len() > CALLS_MAX {
        return Err(Failure::input("CALLS_MAX", format!("the run has more than {CALLS_MAX} calls")));
    }
    let folder = Scratch::new()?;
    let is_command = reduce.predicate == Predicate::Command;
    let today =
        reduce.policy.as_deref().map(|file| today(output, file, reduce.packs.as_deref())).transpose()?;
    let run = Run {
        policy: today.as_ref().map_or_else(|| "recorded".into(), |today| today.policy().hash().to_string()),
        prepared: if is_command { Vec::new() } else { prepared(today.as_ref(), &bundle, &calls)? },
        lines: match is_command {
            true => calls.iter().map(|call| command::line(&bundle, &call.value)).collect(),
            false => Vec::new(),
        },
        asked: Asked {
            command: &reduce.command,
            seconds: reduce.seconds,
            file: folder.0.join("calls.ndjson"),
        },
        predicate: &reduce.predicate,
        calls,
    };
    let found = minimize(run.calls.len(), reduce.sets_max, |set| run.holds(set));
    let found = found.map_err(|failed| run.said(failed, reduce.sets_max))?;
    let report = run.report(&manifest, &found, reduce)?;
    run.print(output, &found);
    if let Some(out) = &reduce.out {
        write(out, &report)?;
    }
    Ok(output.data(&report))
}

/// Judges each call, by the policy of then or by the one that was named.
fn prepared(
    today: Option<&Retrial>,
    bundle: &show::Opened,
    calls: &[&Line],
) -> Result<Vec<Prepared>, Failure> {
    let mut policies: BTreeMap<&str, Retrial> = BTreeMap::new();
    let mut prepared = Vec::with_capacity(calls.len());
    for line in calls {
        let entry = &line.value;
        let hash = entry["policy"]["hash"].as_str().unwrap_or_default();
        if !policies.contains_key(hash) {
            policies.insert(hash, recorded::retrial(recorded::policy_text(bundle, hash), hash)?);
        }
        let Some(own) = policies.get(hash) else { continue };
        let call = call_of(bundle, (entry, None), own);
        prepared.push(today.unwrap_or(own).prepare(&call));
    }
    Ok(prepared)
}

fn today(output: Output, file: &Path, packs: Option<&Path>) -> Result<Retrial, Failure> {
    let policy = policy::compiled(output, file, &Packs::at(packs))?;
    let errors = contract_errors(&policy);
    if errors.is_empty() { recorded::again(policy) } else { Err(trial::contract_failure(file, &errors)) }
}

impl Run<'_> {
    fn judged(&self, set: &[usize]) -> Vec<Result<Rejudged, String>> {
        in_series(set.iter().filter_map(|at| self.prepared.get(*at)))
    }

    /// Whether these calls alone have what is looked for.
    fn holds(&self, set: &[usize]) -> Result<bool, Failure> {
        let is_final = |at: Option<&usize>| at.is_some_and(|at| at + 1 == self.calls.len());
        match self.predicate {
            Predicate::FinalBlocked => {
                let last = self.judged(set).pop().filter(|_| is_final(set.last()));
                Ok(last.is_some_and(|last| last.is_ok_and(|last| last.action == VerdictAction::Block)))
            }
            Predicate::Finding(rule) => {
                let has = |judged: Result<Rejudged, String>| {
                    judged.is_ok_and(|judged| judged.findings.iter().any(|found| **found == **rule))
                };
                Ok(self.judged(set).into_iter().any(has))
            }
            Predicate::Command => {
                let lines: Vec<&Value> = set.iter().filter_map(|at| self.lines.get(*at)).collect();
                self.asked.holds(&lines)
            }
        }
    }

    /// Calls of the whole run of which nobody can say what became of them now, and why of the first.
    fn undecided(&self) -> (usize, Option<String>) {
        let judged = self.judged(&(0..self.prepared.len()).collect::<Vec<_>>());
        let first = judged.iter().find_map(|judged| judged.as_ref().err().cloned());
        (judged.iter().filter(|it| it.is_err()).count(), first)
    }

    fn said(&self, failed: Failed<Failure>, sets_max: usize) -> Failure {
        match failed {
            Failed::Predicate(failure) => failure,
            Failed::Unmet => match self.undecided() {
                (0, _) => Failure::input("PREDICATE_UNMET", "the predicate does not hold of the whole run"),
                (undecided, first) => {
                    let is_missing = first.as_ref().is_some_and(|cause| {
                        cause.contains("not in the bundle") || cause.contains("not there")
                    });
                    let first =
                        first.map(|cause| format!(", the first of them because {cause}")).unwrap_or_default();
                    let message = format!(
                        "nobody can say whether the predicate holds: {undecided} of {} calls could not be judged again{first}",
                        self.calls.len()
                    );
                    Failure::input("PREDICATE_UNMET", plain(&message)).hint(match is_missing {
                        true => "bodies have to be in the bundle (`body_storage: { full: … }`)",
                        false => "docs/regress.md says what is undecided, and why",
                    })
                }
            },
            Failed::AskedMax => {
                let message = format!("more than {sets_max} sets would have to be asked about");
                Failure::runtime("SETS_MAX", message).hint("--sets-max allows more")
            }
        }
    }

    fn report(&self, manifest: &Value, found: &Minimal, reduce: &Reduce) -> Result<Value, Failure> {
        let judged = self.judged(&found.kept);
        let mut judged = judged.iter();
        let row = |at: &usize| {
            let line = self.calls.get(*at)?;
            let now = judged.next().and_then(|judged| judged.as_ref().ok());
            let mut row = json!({
                "call": line.value["call"], "seq": line.value["seq"], "leaf": Leaf::of(line.bytes()),
                "recorded": { "verdict": line.value["verdict"]["action"], "reason": line.value["verdict"]["reason"] },
            });
            if let Some(now) = now {
                row["judged"] =
                    json!({ "verdict": now.action.as_str(), "rule": now.rule, "reason": now.reason });
            }
            Some(row)
        };
        let kept: Vec<Value> = found.kept.iter().filter_map(row).collect();
        let (undecided, _) = self.undecided();
        // What removing one call leaves has been asked about: that is what 1-minimal means.
        let report = json!({
            "format": FORMAT,
            "run": manifest["run"], "root": manifest["tree"]["root"],
            "predicate": reduce.predicate.to_string(),
            "policy": self.policy,
            "calls": self.calls.len(), "undecided": undecided, "kept": kept, "sets": found.asked,
        });
        let canonical = canonical::foreign(report.to_string().as_bytes()).ok();
        canonical
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Failure::runtime("INTERNAL", "the report has no canonical form"))
    }

    fn print(&self, output: Output, found: &Minimal) {
        for line in found.kept.iter().filter_map(|at| self.calls.get(*at)) {
            let text = |value: &Value| plain(value.as_str().unwrap_or("-"));
            let entry = &line.value;
            output.line(&format!(
                "{:>6}  {}  {:<7} {}",
                entry["seq"],
                text(&entry["call"]),
                text(&entry["verdict"]["action"]),
                text(&entry["verdict"]["reason"])
            ));
        }
        output.line(&format!(
            "{} of {} calls; without any one of them the predicate does not hold ({} sets asked about)",
            found.kept.len(),
            self.calls.len(),
            found.asked
        ));
    }
}

/// The report in canonical form, in a new file.
fn write(path: &Path, report: &Value) -> Result<(), Failure> {
    let bytes = canonical::foreign(report.to_string().as_bytes()).unwrap_or_default();
    let made =
        File::create_new(path).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    made.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure {
            exit: 8,
            ..Failure::runtime("OUTPUT_EXISTS", plain(&format!("`{}` is there already", path.display())))
        },
        _ => Failure::runtime("DISK_FAILED", plain(&format!("cannot write `{}`: {error}", path.display()))),
    })
}

/// A folder that is gone afterwards: what it holds are bodies.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let failed = |error: std::io::Error| Failure::runtime("DISK_FAILED", error.to_string());
        let key = trial::random().map_err(failed)?;
        let folder = std::env::temp_dir().join(format!("estoppel-reduce-{:016x}{:016x}", key[0], key[1]));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
