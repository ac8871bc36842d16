//! Evolutions that have not ended.

use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::super::model::{Model, Running, Whereabouts};
use super::super::words::{Tone, Words, ago, bar, heading, moment};
use super::{Page, fact, note, releases, steps};

/// Below this width there is no room for when it began, which the details say.
const NARROW: usize = 60;

pub fn all(model: &Model) -> impl Iterator<Item = &Running> {
    let releases = model.releases.value.iter();
    let mut all: Vec<&Running> =
        releases.flat_map(|releases| &releases.generations).flat_map(|found| &found.running).collect();
    all.sort_by_key(|run| (run.at != Whereabouts::Here, std::cmp::Reverse(run.since)));
    all.into_iter()
}

pub fn page(model: &Model, now: UnixMicros, width: usize) -> Page {
    let mut page = Page::default();
    if model.releases.value.is_none() || model.releases.fault.is_some() {
        page.notes = releases::page(model, now, width).notes;
    }
    let rows = all(model).map(|run| (run.evolution.clone(), row(run, now, width)));
    page.rows = rows.collect();
    if page.rows.is_empty() {
        page.notes.push(note("no evolution runs; s in the view of releases starts one"));
        return page;
    }
    if width < NARROW {
        let head = Words::new().cell(Tone::Dim, "version", 10).cell(Tone::Dim, "steps", 6);
        page.head = Some(head.add(Tone::Dim, "state").line());
        return page;
    }
    let head = Words::new().cell(Tone::Dim, "version", 15).cell(Tone::Dim, "begun", 11);
    page.head = Some(head.cell(Tone::Dim, "steps", 18).add(Tone::Dim, "state").line());
    page
}

fn row(run: &Running, now: UnixMicros, width: usize) -> Line<'static> {
    let (ended, all) = (run.steps.iter().filter(|step| step.duration_ms.is_some()).count(), run.steps.len());
    let (tone, state) = state(run);
    if width < NARROW {
        let words = Words::new().cell(Tone::Strong, &run.version.to_string(), 10);
        return words.cell(Tone::Care, &format!("{ended}/{all}"), 6).add(tone, &state).line();
    }
    let words = Words::new().cell(Tone::Strong, &run.version.to_string(), 15).cell(
        Tone::Dim,
        &ago(now, run.since),
        11,
    );
    let words = match all {
        0 => words.cell(Tone::Dim, "-", 18),
        _ => words.add(Tone::Care, &bar(ended, all, 10)).cell(Tone::Plain, &format!(" {ended}/{all}"), 8),
    };
    words.add(tone, &state).line()
}

fn state(run: &Running) -> (Tone, String) {
    match run.at {
        Whereabouts::Here => {
            let now = run.steps.iter().filter(|step| step.state == "running").map(|step| step.id.as_str());
            (Tone::Care, format!("running {}", now.collect::<Vec<_>>().join(", ")))
        }
        Whereabouts::CutOff => (Tone::Bad, "cut off; what it was to prove is unproven".into()),
        Whereabouts::Elsewhere => (Tone::Dim, format!("in another clone, by {}", run.by)),
    }
}

pub fn details(run: &Running, log_max: usize) -> Vec<Line<'static>> {
    let mut lines = vec![
        fact("state", &state(run).1),
        fact("evolution", &run.evolution),
        fact("commit", &run.commit),
        fact("begun", &format!("{} UTC by {}", moment(run.since), run.by)),
        fact("changes", &run.changes.join(", ")),
    ];
    if !run.steps.is_empty() {
        lines.push(heading("steps"));
        lines.extend(steps(&run.steps));
    }
    if let Some(log) = &run.log {
        lines.push(heading(&format!("end of the log of {}", log.step)));
        let end = log.lines.iter().skip(log.lines.len().saturating_sub(log_max));
        lines.extend(end.map(|line| Words::new().add(Tone::Plain, "  ").add(Tone::Plain, line).line()));
    }
    lines
}
