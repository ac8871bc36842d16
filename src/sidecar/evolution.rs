//! `estoppel evolution …`.

use std::process::ExitCode;

use estoppel_evidence::Sha256;
use estoppel_release::evolution::{self, Plan, Wanted, Watch, progress};
use estoppel_release::generation::Step;
use estoppel_release::ledger::{Body, EvolutionFinished, Ledger, Outcome, StepOutcome, StepResult, Store};
use estoppel_release::{Code, Refusal, Version, process};
use serde_json::{Value, json};

use crate::arguments::{EvolutionCommand, EvolutionStart, InRepository};
use crate::identity;
use crate::ledger::{Signing, read, store};
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &EvolutionCommand) -> Result<ExitCode, Failure> {
    match command {
        EvolutionCommand::Start(start) => self::start(*output, start),
        EvolutionCommand::List { version, at } => list(*output, version, at),
        EvolutionCommand::Show { evolution, at } => show(*output, evolution, at),
        EvolutionCommand::Logs { evolution, step, at } => logs(*output, evolution, step.as_deref(), at),
    }
}

/// Tells each step as it begins and ends.
struct Told(Output);

impl Watch for Told {
    fn begun(&self, step: &Step) {
        self.0.line(&plain(&format!("run         {} ({})", step.id, step.kind)));
    }

    fn ended(&self, result: &StepResult) {
        self.0.line(&step_line(self.0, result));
    }
}

fn step_line(output: Output, result: &StepResult) -> String {
    let (word, colour) = match result.outcome {
        StepOutcome::Passed => ("passed", Colour::Green),
        StepOutcome::Failed => ("failed", Colour::Red),
        StepOutcome::TimedOut => ("timed out", Colour::Red),
        StepOutcome::NotStarted => ("not started", Colour::Red),
        StepOutcome::LogBytesMax => ("log too long", Colour::Red),
        StepOutcome::Skipped => ("skipped", Colour::Dim),
    };
    let exit = result.exit.filter(|exit| *exit != 0).map(|exit| format!(", exit {exit}")).unwrap_or_default();
    let rest = plain(&format!("{} {} ms{exit}", result.id, result.duration_ms));
    format!("{} {rest}", output.paint(colour, &format!("{word:<11}")))
}

fn start(output: Output, start: &EvolutionStart) -> Result<ExitCode, Failure> {
    let (store, signing) = (store(&start.at)?, Signing::of(&start.signed)?);
    let unknown = || Refusal::new(Code::RevisionUnknown, format!("there is no commit `{}`", start.commit));
    let commit = store.git().commit(&start.commit)?.ok_or_else(unknown)?;
    let wanted = if start.all { Wanted::All } else { Wanted::These(start.change.clone()) };
    let plan = Plan {
        version: &start.version,
        wanted,
        commit,
        jobs: start.jobs.into(),
        random: identity::random()?,
    };
    process::end_what_is_left();
    let (finished, recorded) = evolution::start(&store, &signing.hand(), &plan, &Told(output))?;
    print(output, &finished);
    let mut data = data(&finished);
    data["event"] = json!(recorded.event);
    let passed = finished.result == Outcome::Passed;
    Ok(output.answer(&data, if passed { 0 } else { Code::EvolutionFailed.exit() }))
}

fn print(output: Output, run: &EvolutionFinished) {
    for hook in run.hooks.iter().filter(|hook| !hook.passed) {
        output.line(&plain(&format!("hook        {} on {} did not end with 0", hook.id, hook.on)));
    }
    if let Some(why) = &run.why {
        output.line(&plain(&format!("why         {why}")));
    }
    for (name, content) in &run.evidence {
        output.line(&plain(&format!("evidence    {name} {}", content.sha256)));
    }
    let colour = if run.result == Outcome::Passed { Colour::Green } else { Colour::Red };
    let result = output.paint(colour, run.result.as_str());
    output.line(&format!("evolution   {} {result} on {}", plain(&run.evolution), run.commit));
    if let Some(tag) = &run.tag {
        output.line(&format!("candidate   {}", plain(tag)));
    }
}

fn data(run: &EvolutionFinished) -> Value {
    json!({
        "evolution": run.evolution, "version": run.version, "commit": run.commit, "contract": run.contract,
        "result": run.result, "tag": run.tag, "changes": run.changes, "steps": run.steps, "hooks": run.hooks,
        "evidence": run.evidence, "why": run.why,
    })
}

fn list(output: Output, version: &Version, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = store(at)?;
    let ledger = read(output, &store)?;
    let mut rows = Vec::new();
    for event in ledger.events() {
        match &event.body {
            Body::EvolutionFinished(run) if run.version == *version => {
                let changes: Vec<&str> = run.changes.keys().map(String::as_str).collect();
                let tag = run.tag.as_deref().unwrap_or("-");
                let (result, changes) = (run.result.as_str(), changes.join(","));
                output
                    .line(&plain(&format!("{} {} {result:<8} {tag:<20} {changes}", event.at, run.evolution)));
                let mut row = data(run);
                row["at"] = json!(event.at);
                row["event"] = json!(event.id);
                rows.push(row);
            }
            Body::EvolutionStarted(run) if run.version == *version && is_open(&ledger, &run.evolution) => {
                let changes = run.changes.join(",");
                let logs = evolution::logs(store.git().private(), &run.evolution);
                let result = if progress::is_cut_off(&logs) { "CUT_OFF" } else { "OPEN" };
                output.line(&plain(&format!(
                    "{} {} {result:<8} {:<20} {changes}",
                    event.at, run.evolution, "-"
                )));
                rows.push(json!({ "evolution": run.evolution, "changes": run.changes, "commit": run.commit, "result": result, "at": event.at, "event": event.id }));
            }
            _ => {}
        }
    }
    let (generation, _) = evolution::sealed(&ledger, version)?;
    let in_force = ledger.in_force(version);
    let states = generation.changes.iter().map(|change| {
        let latest =
            ledger.finished(version).filter(|(_, run)| run.changes.contains_key(change.id.as_str())).last();
        let is_current = |run: &EvolutionFinished| {
            run.changes.get(change.id.as_str()) == Some(&generation.change_digest(change))
                && in_force.proves(run, change.id.as_str())
        };
        let state = match latest {
            None => "unproven",
            Some((_, run)) if run.result == Outcome::Failed => "failed",
            Some((_, run)) if !is_current(run) => "amended",
            Some(_) => "proven",
        };
        output.line(&plain(&format!("change      {:<20} {state}", change.id.as_str())));
        json!({ "change": change.id, "state": state, "evolution": latest.map(|(_, run)| &run.evolution) })
    });
    let states: Vec<Value> = states.collect();
    Ok(output.data(&json!({ "evolutions": rows, "changes": states })))
}

fn is_open(ledger: &Ledger, evolution: &str) -> bool {
    !ledger
        .events()
        .iter()
        .any(|event| matches!(&event.body, Body::EvolutionFinished(run) if run.evolution == evolution))
}

fn find<'l>(
    store: &Store,
    ledger: &'l Ledger,
    evolution: &str,
) -> Result<(Sha256, &'l EvolutionFinished), Refusal> {
    let found = ledger.events().iter().find_map(|event| match &event.body {
        Body::EvolutionFinished(run) if run.evolution == evolution => Some((event.id, run.as_ref())),
        _ => None,
    });
    let unknown = || {
        let logs = evolution::logs(store.git().private(), evolution);
        let said = match ledger.started(evolution) {
            Some(_) if progress::is_cut_off(&logs) => {
                format!(
                    "evolution {evolution} was cut off; the next one that starts in this clone records its end"
                )
            }
            Some(_) => format!("evolution {evolution} was begun and has not ended"),
            None => format!("there is no evolution `{evolution}`"),
        };
        Refusal::new(Code::EvolutionUnknown, said)
    };
    found.ok_or_else(unknown)
}

fn show(output: Output, evolution: &str, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = store(at)?;
    let ledger = read(output, &store)?;
    let (event, run) = find(&store, &ledger, evolution)?;
    run.steps.iter().for_each(|step| output.line(&step_line(output, step)));
    print(output, run);
    let mut data = data(run);
    data["event"] = json!(event);
    data["nonce"] = json!(ledger.started(evolution).map(|(_, start)| &start.nonce));
    data["attestation"] = run.attestation.clone();
    Ok(output.data(&data))
}

fn logs(output: Output, evolution: &str, only: Option<&str>, at: &InRepository) -> Result<ExitCode, Failure> {
    let store = store(at)?;
    let ledger = store.read()?;
    let (_, run) = find(&store, &ledger, evolution)?;
    let folder = evolution::logs(store.git().private(), evolution);
    let mut text = String::new();
    let mut rows = Vec::new();
    for step in run.steps.iter().filter(|step| only.is_none_or(|only| only == step.id)) {
        let Some(log) = &step.log else { continue };
        let path = evolution::log_path(&folder, &step.id);
        let missing = |error| Refusal::new(Code::LogMissing, format!("the log of {}: {error}", step.id));
        let bytes = std::fs::read(&path).map_err(missing)?;
        if Sha256::of(&bytes) != log.sha256 {
            let said =
                format!("`{}` does not have the digest that is signed, {}", path.display(), log.sha256);
            return Err(Refusal::new(Code::LogAltered, said).into());
        }
        let said = String::from_utf8_lossy(&bytes);
        if only.is_none() {
            text.push_str(&format!("== {} ==\n", step.id));
        }
        let lines = said.lines().map(|line| plain(line) + "\n");
        text.extend(lines);
        rows.push(json!({ "step": step.id, "log": said, "sha256": log.sha256 }));
    }
    if rows.is_empty() {
        return Err(Refusal::new(Code::LogMissing, "there is no such step, or it was not run").into());
    }
    output.text(&text, &json!({ "evolution": evolution, "logs": rows }))
}
