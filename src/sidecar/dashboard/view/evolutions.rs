//! What happened to one generation, the newest first.

use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::super::model::{Happened, Model};
use super::super::words::{Tone, Words, heading, moment};
use super::{Chosen, Page, fact, gates, generation, note, releases, steps};

/// Below this width there is no room for whose key signed.
const NARROW: usize = 70;
/// Below this width the year and the seconds are left to the details.
const NARROWER: usize = 50;

pub fn page(model: &Model, chosen: &Chosen, now: UnixMicros, width: usize) -> Page {
    let Some(generation) = generation(model, chosen) else { return releases::page(model, now, width) };
    let mut page = Page::default();
    if generation.timeline.is_empty() {
        let said = format!("{} is a draft: the ledger knows nothing of it", generation.version);
        page.notes.push(note(&said));
        return page;
    }
    let head = Words::new().cell(Tone::Dim, "UTC", if width < NARROWER { 12 } else { 21 });
    let head = if width < NARROW { head } else { head.cell(Tone::Dim, "by", 14) };
    page.head = Some(head.add(Tone::Dim, &format!("{}, the newest first", generation.version)).line());
    page.rows = generation.timeline.iter().map(|happened| (row(happened), line(happened, width))).collect();
    page
}

/// What tells a row from all others.
pub fn row(happened: &Happened) -> String {
    match &happened.evolution {
        Some(evolution) => evolution.id.clone(),
        None => format!("{} {}", happened.at, happened.kind),
    }
}

pub fn happened<'m>(model: &'m Model, chosen: &Chosen) -> Option<&'m Happened> {
    let timeline = &generation(model, chosen)?.timeline;
    let named = timeline.iter().find(|happened| Some(row(happened)) == chosen.happened);
    named.or(timeline.first())
}

fn line(happened: &Happened, width: usize) -> Line<'static> {
    let at = moment(happened.at);
    let words = match width < NARROWER {
        true => Words::new().cell(Tone::Dim, at.get(5..16).unwrap_or_default(), 12),
        false => Words::new().cell(Tone::Dim, &at, 21),
    };
    let words = if width < NARROW { words } else { words.cell(Tone::Plain, &happened.by, 14) };
    let tone = match (happened.kind, &happened.evolution) {
        (_, Some(evolution)) => Tone::of(evolution.result),
        ("promotion.finished", _) => Tone::Good,
        ("promotion.refused" | "rollback.done", _) => Tone::Bad,
        _ => Tone::Plain,
    };
    words.add(tone, &happened.says).line()
}

pub fn details(model: &Model, chosen: &Chosen) -> Vec<Line<'static>> {
    let Some(happened) = happened(model, chosen) else { return Vec::new() };
    let mut lines = vec![fact("what", &happened.says), fact("by", &happened.by)];
    lines.push(fact("at", &format!("{} UTC", moment(happened.at))));
    lines.push(fact("event", happened.kind));
    lines.extend(happened.commit.as_ref().map(|commit| fact("commit", commit)));
    if let Some(evolution) = &happened.evolution {
        lines.push(fact("evolution", &evolution.id));
        lines.push(fact("changes", &evolution.changes.join(", ")));
        lines.extend(evolution.why.as_ref().map(|why| fact("why", why)));
        // Of one that has not ended the ledger knows no steps.
        let mut running = super::run::all(model);
        let now = running.find(|run| run.evolution == evolution.id).map(|run| run.steps.as_slice());
        let shown = now.unwrap_or(&evolution.steps);
        if !shown.is_empty() {
            lines.push(heading("steps"));
            lines.extend(steps(shown));
        }
    }
    if !happened.gates.is_empty() {
        lines.push(heading("gates"));
        lines.extend(gates(&happened.gates));
    }
    lines
}
