//! Generations, with what is proven of each.

use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::super::model::{Evolution, Generation, Model, Whereabouts};
use super::super::words::{Tone, Words, bar, heading};
use super::{Page, fact, fault, gates, note};

/// Below this width only what matters most has a column.
const NARROW: usize = 60;

pub fn page(model: &Model, now: UnixMicros, width: usize) -> Page {
    let mut page = Page::default();
    let seen = &model.releases;
    page.notes.extend(seen.fault.as_ref().map(|found| fault(found, seen.at, now)));
    let Some(releases) = &seen.value else {
        if page.notes.is_empty() {
            page.notes.push(note("the repository is being read"));
        }
        return page;
    };
    if releases.head.is_none() {
        page.notes.push(note("this repository has no ledger; `estoppel ledger init --name YOU` begins one"));
    } else if !releases.is_trusted {
        page.notes
            .push(note("nobody has vouched for the beginning of the ledger; `estoppel ledger join` does"));
    }
    if releases.generations.is_empty() {
        page.notes.push(note("no generations; `estoppel generation new VERSION` begins one"));
        return page;
    }
    let head = Words::new().cell(Tone::Dim, "version", 15).cell(Tone::Dim, "status", 12);
    page.head = Some(if width < NARROW {
        Words::new()
            .cell(Tone::Dim, "version", 10)
            .cell(Tone::Dim, "status", 12)
            .add(Tone::Dim, "proven")
            .line()
    } else {
        head.cell(Tone::Dim, "proven", 18).add(Tone::Dim, "latest").line()
    });
    let rows = releases.generations.iter();
    page.rows = rows.map(|generation| (generation.version.to_string(), row(generation, width))).collect();
    page
}

/// Every version that there is.
pub fn versions(model: &Model) -> Vec<String> {
    let releases = model.releases.value.iter();
    releases.flat_map(|releases| &releases.generations).map(|found| found.version.to_string()).collect()
}

fn row(generation: &Generation, width: usize) -> Line<'static> {
    let status = generation.status.replace('_', " ");
    let version = if width < NARROW { 10 } else { 15 };
    let words = Words::new().cell(Tone::Strong, &generation.version.to_string(), version);
    let words = words.cell(Tone::of(generation.status), &status, 12);
    let (done, all) = (generation.proven, generation.changes.len());
    let count = if generation.status == "draft" { "-".to_owned() } else { format!("{done}/{all}") };
    let tone = if done == all { Tone::Good } else { Tone::Care };
    if width < NARROW {
        // A word is all that there is room for.
        let (tone_of_latest, latest) = latest(generation);
        let latest =
            latest.strip_prefix("evolution ").or(latest.strip_prefix("promotion ")).unwrap_or(&latest);
        return words.cell(tone, &count, 5).add(tone_of_latest, latest).line();
    }
    let words = match generation.status {
        "draft" => words.cell(Tone::Dim, "-", 18),
        _ => words.add(tone, &bar(done, all, 10)).add(Tone::Plain, " ").cell(Tone::Plain, &count, 7),
    };
    let (tone, latest) = latest(generation);
    words.add(tone, &latest).line()
}

fn latest(generation: &Generation) -> (Tone, String) {
    let refused = generation.timeline.first().filter(|row| row.kind == "promotion.refused");
    if let Some(run) = generation.running.iter().find(|run| run.at == Whereabouts::Here) {
        let ended = run.steps.iter().filter(|step| step.duration_ms.is_some()).count();
        return (Tone::Care, format!("running, {ended} of {} steps", run.steps.len()));
    }
    let is_cut = |evolution: &Evolution| evolution.result == "CUT_OFF";
    match (refused, generation.timeline.first()) {
        (None, Some(first)) if first.evolution.as_ref().is_some_and(is_cut) => {
            (Tone::Bad, first.says.clone())
        }
        (Some(refused), _) => (Tone::Bad, refused.says.clone()),
        (None, Some(first)) if generation.status != "promoted" => (Tone::Plain, first.says.clone()),
        _ => (Tone::Plain, generation.tag.clone().unwrap_or_default()),
    }
}

pub fn details(generation: &Generation) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    lines.extend(generation.next.as_ref().map(|next| fact("next", next)));
    lines.extend(generation.broken.as_ref().map(|why| fact("broken", why)));
    if let Some(contract) = generation.contract.as_ref().filter(|_| generation.status == "draft") {
        lines.push(fact("contract", &format!("{contract}, as its file is now")));
    }
    lines.extend(generation.tag.as_ref().map(|tag| fact("tag", tag)));
    lines.extend(generation.stage.as_ref().map(|stage| fact("at stage", stage)));
    if !generation.environments.is_empty() {
        lines.push(fact("in", &generation.environments.join(", ")));
    }
    if generation.passed + generation.failed + generation.running.len() > 0 {
        let mut said = format!("{} passed, {} failed", generation.passed, generation.failed);
        let of = |at: Whereabouts| generation.running.iter().filter(|run| run.at == at).count();
        for (count, word) in [(of(Whereabouts::Here), "running"), (of(Whereabouts::CutOff), "cut off")] {
            if count > 0 {
                said.push_str(&format!(", {count} {word}"));
            }
        }
        lines.push(fact("evolutions", &said));
    }
    if !generation.changes.is_empty() {
        lines.push(heading("changes"));
    }
    for change in &generation.changes {
        let state = match (generation.status, change.proven) {
            ("draft", _) => "planned",
            (_, true) => "proven",
            (_, false) => "unproven",
        };
        let tone = if change.proven { Tone::Good } else { Tone::Care };
        let words =
            Words::new().add(Tone::Plain, "  ").cell(tone, state, 9).cell(Tone::Strong, &change.id, 16);
        lines.push(words.cell(Tone::Dim, &change.kind, 9).add(Tone::Plain, &change.title).line());
    }
    if !generation.gates.is_empty() {
        lines.push(heading("gates, when it was last tried to promote it"));
        lines.extend(gates(&generation.gates));
    } else if generation.status == "sealed" {
        lines.push(note("its gates were not asked yet; p asks them, and promotes if all pass"));
    }
    lines
}
