//! `estoppel status`: where each generation stands, once or as it changes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use estoppel_release::Code;
use estoppel_release::evolution::{self, progress};
use estoppel_release::generation::{Folder, StageName};
use estoppel_release::git::Git;
use estoppel_release::index::{Standing, standings};
use estoppel_release::ledger::{Ledger, Outcome, State};
use serde_json::{Value, json};

use crate::arguments::Status;
use crate::ledger::store;
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, notify};

pub fn run(output: &Output, status: &Status) -> Result<ExitCode, Failure> {
    let mut before = None;
    loop {
        let (lines, data) = said(*output, status)?;
        if before.as_ref() != Some(&data) {
            lines.iter().for_each(|line| output.line(line));
            let is_alert = data["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            let code = output.answer(&data, if is_alert { 5 } else { 0 });
            if !status.watch {
                return Ok(code);
            }
            before = Some(data);
        }
        std::thread::sleep(Duration::from_secs(status.every_s.into()));
    }
}

fn said(output: Output, status: &Status) -> Result<(Vec<String>, Value), Failure> {
    let store = store(&status.at)?;
    let ledger = match store.read() {
        Ok(ledger) => Some(ledger),
        Err(refusal) if refusal.code == Code::LedgerMissing => None,
        Err(refusal) => return Err(refusal.into()),
    };
    let destinations = notify::standings(store.git(), ledger.as_ref())?;
    let mut found = ledger.as_ref().map(standings).unwrap_or_default();
    if let Some(file) = &status.textfile {
        write(file, &exposition(&found, ledger.as_ref(), &destinations))?;
    }
    found.retain(|standing| status.version.as_ref().is_none_or(|wanted| standing.version == *wanted));
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for standing in &found {
        let (cut_off, running): (Vec<&str>, Vec<&str>) =
            standing.running.iter().map(String::as_str).partition(|run| is_cut_off(store.git(), run));
        lines.push(line(output, standing, &running, &cut_off));
        rows.push(row(standing, &running, &cut_off));
    }
    for version in drafts(status, ledger.as_ref())? {
        let next = format!("estoppel generation seal {version}");
        lines.push(format!("{:<12} {} {next}", version.tag(), output.paint(Colour::Dim, "draft      ")));
        rows.push(json!({ "version": version, "status": "draft", "next": next }));
    }
    if rows.is_empty() {
        if let Some(version) = &status.version {
            return Err(Failure::input("GENERATION_UNKNOWN", format!("there is no generation {version}")));
        }
        lines.push("no generations; `estoppel generation new VERSION` begins one".into());
    }
    let head = ledger.as_ref().map(Ledger::head);
    let mut alerts: Vec<Value> = status.pass_rate_min.map_or_else(Vec::new, |min| alerts(&found, min));
    for alert in &alerts {
        let said = format!("ALERT       {}: {}", alert["version"], alert["message"]);
        lines.push(output.paint(Colour::Red, &plain(&said.replace('"', ""))));
    }
    let troubled = || destinations.iter().filter(|destination| destination.is_in_trouble());
    troubled().for_each(|destination| lines.extend(destination.lines(output)));
    alerts.extend(troubled().map(|destination| {
        let mut alert = destination.row();
        alert["alert"] = json!("untold");
        alert
    }));
    let destinations: Vec<Value> = destinations.iter().map(notify::Standing::row).collect();
    let data = json!({ "generations": rows, "head": head, "alerts": alerts, "destinations": destinations });
    Ok((lines, data))
}

/// One for each version of whose evolutions fewer than `min` of a hundred passed.
fn alerts(standings: &[Standing], min: u32) -> Vec<Value> {
    let alert = |standing: &Standing| {
        let (passed, failed) = (standing.passed, standing.failed);
        let is_low = standing.passed_of_hundred().is_some_and(|share| share < min as usize); // widening
        is_low.then(|| {
            json!({
                "alert": "pass_rate", "version": standing.version, "passed": passed, "failed": failed, "min": min,
                "message": format!("{passed} of {} evolutions passed, fewer than {min} of a hundred", passed + failed),
            })
        })
    };
    standings.iter().filter_map(alert).collect()
}

fn drafts(status: &Status, ledger: Option<&Ledger>) -> Result<Vec<estoppel_release::Version>, Failure> {
    let folder = Folder::near(&status.at.repo).map_err(|error| input::unreadable(&status.at.repo, &error))?;
    let files =
        folder.files().map_err(|error| Failure::input("GENERATION_LIMIT", plain(&error.to_string())))?;
    let is_draft = |version: &estoppel_release::Version| {
        ledger.is_none_or(|ledger| ledger.state(version).is_none())
            && status.version.as_ref().is_none_or(|wanted| wanted == version)
    };
    Ok(files.named.into_iter().map(|(version, _)| version).filter(is_draft).collect())
}

/// What to do next; none where nothing is to be done.
pub fn next(standing: &Standing) -> Option<String> {
    let version = &standing.version;
    let open: Vec<&str> =
        standing.changes.iter().filter(|change| !change.proven).map(|change| change.id.as_str()).collect();
    match (standing.status, open.as_slice()) {
        (State::Sealed, []) => Some(wanted(standing).unwrap_or_else(|| promote(standing))),
        (State::Sealed, open) if open.len() == standing.changes.len() => {
            Some(format!("estoppel evolution start {version} --all"))
        }
        (State::Sealed, open) => {
            Some(format!("estoppel evolution start {version} --change {}", open.join(" --change ")))
        }
        (State::Promoted | State::Abandoned | State::RolledBack, _) => None,
    }
}

fn promote(standing: &Standing) -> String {
    let Standing { version, next_stage, .. } = standing;
    let stage =
        if *next_stage == StageName::Final { String::new() } else { format!(" --stage {next_stage}") };
    format!("estoppel promote {version}{stage}")
}

/// What the gates want that refused the attempt that was made last, as long as nothing has changed since.
fn wanted(standing: &Standing) -> Option<String> {
    let version = &standing.version;
    let refusing = standing.refused_by.iter().filter(|_| standing.refuse_still).map(String::as_str);
    let each = refusing.map(|gate| match gate {
        "candidate" | "integration_at_candidate" | "min_evolutions" | "proof_max_age" => {
            format!("estoppel evolution start {version} --all")
        }
        "approvals" => format!("estoppel approve {version} --key FILE"),
        // A lower stage than was tried comes next.
        "stage_before" => promote(standing),
        // What to run depends on the sources: it is told beside the gate.
        _ => format!("{} --explain", promote(standing)),
    });
    // Who approves does it last: what is proven again is another candidate.
    let (last, first): (Vec<String>, Vec<String>) =
        each.partition(|command| command.starts_with("estoppel approve"));
    first.into_iter().chain(last).next()
}

fn is_cut_off(git: &Git, evolution: &str) -> bool {
    progress::is_cut_off(&evolution::logs(git.private(), evolution))
}

fn line(output: Output, standing: &Standing, running: &[&str], cut_off: &[&str]) -> String {
    let (status, total) = (standing.status.as_str(), standing.changes.len());
    let colour = match standing.status {
        State::Promoted => Colour::Green,
        State::Sealed => Colour::Yellow,
        State::RolledBack => Colour::Red,
        State::Abandoned => Colour::Dim,
    };
    let mut text = format!(
        "{:<12} {} {}/{total} proven",
        standing.version.tag(),
        output.paint(colour, &format!("{status:<11}")),
        standing.proven()
    );
    let mut add = |word: &str| {
        text.push_str("  ");
        text.push_str(&plain(word));
    };
    if let Some(tag) = &standing.tag {
        add(tag);
    }
    if let Some((stage, tag)) = &standing.stage {
        add(&format!("at {stage} {tag}"));
    }
    if !standing.environments.is_empty() {
        add(&format!("in {}", standing.environments.join(", ")));
    }
    for event in &standing.abandoned_beside {
        add(&format!("abandoned beside its release by {event}, which does not count"));
    }
    if let Some(last) = &standing.last {
        add(&format!("last {} {}", last.evolution, last.result.as_str()));
    }
    if !running.is_empty() {
        add(&format!("running {}", running.join(", ")));
    }
    if !cut_off.is_empty() {
        add(&format!("cut off {}", cut_off.join(", ")));
    }
    if !standing.refused_by.is_empty() {
        add(&format!("refused by {}", standing.refused_by.join(", ")));
    }
    if let Some(next) = next(standing) {
        add(&next);
    }
    text
}

fn row(standing: &Standing, running: &[&str], cut_off: &[&str]) -> Value {
    let changes = standing.changes.iter();
    let changes: Vec<Value> = changes
        .map(|change| {
            json!({
                "id": change.id, "type": change.kind, "title": change.title, "proven": change.proven,
                "evolution": change.evolution,
            })
        })
        .collect();
    let last = standing.last.as_ref();
    json!({
        "version": standing.version, "status": standing.status.as_str(), "contract": standing.contract,
        "changes": changes, "proven": standing.proven(), "tag": standing.tag,
        "stage": standing.stage.as_ref().map(|(stage, tag)| json!({ "stage": stage, "tag": tag })),
        "environments": standing.environments, "abandoned_beside": standing.abandoned_beside, "passed": standing.passed,
        "failed": standing.failed, "running": running, "cut_off": cut_off, "refused_by": standing.refused_by,
        "last": last.map(|last| json!({ "evolution": last.evolution, "result": last.result.as_str(), "at": last.at })),
        "sealed_at": standing.sealed_at, "promoted_at": standing.promoted_at, "next": next(standing),
    })
}

/// Figures in the text format of Prometheus.
fn exposition(standings: &[Standing], ledger: Option<&Ledger>, destinations: &[notify::Standing]) -> String {
    let mut out = String::new();
    let mut family = |name: &str, about: &str, kind: &str, samples: &[(String, f64)]| {
        // A String takes every write.
        let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let of = |standing: &Standing, result: Outcome| {
        format!("{{version=\"{}\",result=\"{}\"}}", standing.version, result.as_str().to_lowercase())
    };
    let evolutions = standings.iter().flat_map(|standing| {
        [
            (of(standing, Outcome::Passed), count(standing.passed)),
            (of(standing, Outcome::Failed), count(standing.failed)),
        ]
    });
    let evolutions: Vec<(String, f64)> = evolutions.collect();
    family("estoppel_evolutions_total", "Evolutions that ended.", "counter", &evolutions);
    let each = |value: fn(&Standing) -> usize| -> Vec<(String, f64)> {
        let sample = |standing| (label(standing), count(value(standing)));
        standings.iter().map(sample).collect()
    };
    family(
        "estoppel_generation_changes",
        "Changes of the contract in force.",
        "gauge",
        &each(|s| s.changes.len()),
    );
    family(
        "estoppel_generation_changes_proven",
        "Changes that are proven now.",
        "gauge",
        &each(Standing::proven),
    );
    let promoted = |standing: &Standing| usize::from(standing.status == State::Promoted);
    family("estoppel_generation_promoted", "Whether the version is promoted.", "gauge", &each(promoted));
    let took = standings.iter().flat_map(|standing| {
        standing.took.iter().map(|took| {
            let (version, gate, state) = (&standing.version, escaped(&took.gate), &took.state);
            let labels = format!("{{version=\"{version}\",gate=\"{gate}\",state=\"{state}\"}}");
            (labels, Duration::from_micros(took.us).as_secs_f64())
        })
    });
    family(
        "estoppel_promotion_gate_seconds",
        "How long gates of the last attempt looked at what is outside of the ledger.",
        "gauge",
        &took.collect::<Vec<_>>(),
    );
    let events = [(String::new(), count(ledger.map_or(0, |ledger| ledger.events().len())))];
    family("estoppel_ledger_events", "Events of the release ledger.", "gauge", &events);
    let figures = destinations.iter().map(notify::Standing::figures);
    let (waiting, refused): (Vec<_>, Vec<_>) = figures
        .map(|(labels, waiting, refused)| ((labels.clone(), count(waiting)), (labels, count(refused))))
        .unzip();
    family("estoppel_notify_waiting", "Events that a destination was not told yet.", "gauge", &waiting);
    family("estoppel_notify_refused", "Events that a destination did not want.", "gauge", &refused);
    out
}

/// Exact: no ledger has 2^53 of anything.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn count(n: usize) -> f64 {
    n as f64
}

/// As a value of a label (Prometheus text format 0.0.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn label(standing: &Standing) -> String {
    format!("{{version=\"{}\"}}", standing.version)
}

/// In the place of what was there, whole.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // What is half-written is not left.
        let _ = std::fs::remove_file(&beside);
        Failure::runtime("DISK_FAILED", plain(&format!("cannot write `{}`: {error}", path.display())))
    })
}
