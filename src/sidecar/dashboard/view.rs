//! The views: each is a list and the details of what is chosen in it, for the screen and for lines alike.

mod evolutions;
mod gateway;
pub(super) mod releases;
mod run;

use estoppel_evidence::time::UnixMicros;
use ratatui::text::Line;

use super::model::{Fault, Gate, Generation, Model, Running, Step};
use super::words::{Tone, Words, ago, line, printed, took};
use crate::arguments::View;

pub use gateway::Row;

pub const VIEWS: [View; 4] = [View::Releases, View::Evolutions, View::Run, View::Gateway];

pub fn name(view: View) -> &'static str {
    match view {
        View::Releases => "releases",
        View::Evolutions => "evolutions",
        View::Run => "run",
        View::Gateway => "gateway",
    }
}

/// What can be chosen, by something that stays its own when others come before it.
pub type RowKey = String;

/// A view as it is now.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Names of the columns; none where there is nothing to list.
    pub head: Option<Line<'static>>,
    pub rows: Vec<(RowKey, Line<'static>)>,
    /// Instead of rows, or why these are not new.
    pub notes: Vec<Line<'static>>,
}

/// What is chosen in the views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub generation: Option<RowKey>,
    pub happened: Option<RowKey>,
    pub running: Option<RowKey>,
    pub gateway: Option<RowKey>,
}

/// The list of a view.
pub fn page(view: View, model: &Model, chosen: &Chosen, now: UnixMicros, width: usize) -> Page {
    match view {
        View::Releases => releases::page(model, now, width),
        View::Evolutions => evolutions::page(model, chosen, now, width),
        View::Run => run::page(model, now, width),
        View::Gateway => gateway::page(model, now, width),
    }
}

/// What is to be said of a row; of a log no more than so many lines at its end.
pub fn details(
    view: View,
    model: &Model,
    chosen: &Chosen,
    now: UnixMicros,
    log_max: usize,
) -> Vec<Line<'static>> {
    match view {
        View::Releases => generation(model, chosen).map(releases::details).unwrap_or_default(),
        View::Evolutions => evolutions::details(model, chosen),
        View::Run => running(model, chosen).map(|run| run::details(run, log_max)).unwrap_or_default(),
        View::Gateway => gateway::details(model, chosen, now),
    }
}

/// The generation that is chosen; the first where none is.
pub fn generation<'m>(model: &'m Model, chosen: &Chosen) -> Option<&'m Generation> {
    let all = &model.releases.value.as_ref()?.generations;
    let wanted = chosen.generation.as_deref();
    let named = all.iter().find(|generation| Some(generation.version.to_string().as_str()) == wanted);
    named.or(all.first())
}

/// The generation that keys are about: in the view of evolutions that run, that of the one which is chosen.
pub fn subject<'m>(view: View, model: &'m Model, chosen: &Chosen) -> Option<&'m Generation> {
    let run = running(model, chosen).filter(|_| view == View::Run);
    let generation = run.map(|run| run.version.to_string()).or_else(|| chosen.generation.clone());
    self::generation(model, &Chosen { generation, ..Chosen::default() })
}

/// The evolution that runs and is chosen; the first where none is.
pub fn running<'m>(model: &'m Model, chosen: &Chosen) -> Option<&'m Running> {
    let all: Vec<&Running> = run::all(model).collect();
    let named = all.iter().find(|run| Some(&run.evolution) == chosen.running.as_ref());
    named.or(all.first()).copied()
}

/// The gateway that is chosen, and the call there where one is.
pub fn at_gateway<'m>(model: &'m Model, chosen: &Chosen) -> Option<(&'m str, Row<'m>)> {
    gateway::chosen(model, chosen).map(|(gateway, row)| (gateway.admin.as_str(), row))
}

/// The event that is chosen.
pub fn happened<'m>(model: &'m Model, chosen: &Chosen) -> Option<&'m super::model::Happened> {
    evolutions::happened(model, chosen)
}

/// A view as lines, with everything that could be chosen on the screen.
pub fn lines(view: View, model: &Model, only: Option<&str>, now: UnixMicros) -> Vec<String> {
    const WIDTH: usize = 120;
    let mut out = vec![format!("== {} ==", name(view))];
    let mut put = |lines: &[Line<'_>], indent: &str| {
        out.extend(lines.iter().map(|line| format!("{indent}{}", printed(line)).trim_end().to_owned()));
    };
    let generations: Vec<Option<String>> = match (view, only) {
        (View::Evolutions, None) => releases::versions(model).into_iter().map(Some).collect(),
        (_, only) => vec![only.map(ToOwned::to_owned)],
    };
    let is_empty = generations.is_empty();
    for generation in generations.into_iter().chain(is_empty.then_some(None)) {
        let mut chosen = Chosen { generation: generation.clone(), ..Chosen::default() };
        let page = page(view, model, &chosen, now, WIDTH);
        put(&page.notes, "");
        put(page.head.as_slice(), "");
        for (key, row) in &page.rows {
            if view == View::Releases && generation.as_ref().is_some_and(|only| only != key) {
                continue;
            }
            put(std::slice::from_ref(row), "");
            let choice = match view {
                View::Releases => &mut chosen.generation,
                View::Evolutions => &mut chosen.happened,
                View::Run => &mut chosen.running,
                View::Gateway => &mut chosen.gateway,
            };
            *choice = Some(key.clone());
            put(&details(view, model, &chosen, now, usize::MAX), "    ");
        }
    }
    out
}

/// What keeps something from being shown, and how old what is shown is.
fn fault(fault: &Fault, at: Option<UnixMicros>, now: UnixMicros) -> Line<'static> {
    let words = Words::new().add(Tone::Bad, &fault.code).add(Tone::Plain, &format!(": {}", fault.message));
    match at {
        Some(at) => words.add(Tone::Care, &format!("; what is shown is from {}", ago(now, at))).line(),
        None => words.line(),
    }
}

fn steps(steps: &[Step]) -> Vec<Line<'static>> {
    let row = |step: &Step| {
        let mut words = Words::new()
            .add(Tone::Plain, "  ")
            .cell(Tone::of(step.state), &step.state.replace('_', " "), 14)
            .cell(Tone::Plain, &step.id, 28);
        if let Some(ms) = step.duration_ms {
            words = words.cell(Tone::Dim, &took(ms), 10);
        }
        match step.exit.filter(|exit| *exit != 0) {
            Some(exit) => words.add(Tone::Bad, &format!("exit {exit}")).line(),
            None => words.line(),
        }
    };
    steps.iter().map(row).collect()
}

fn gates(gates: &[Gate]) -> Vec<Line<'static>> {
    let row = |gate: &Gate| {
        let words = Words::new().add(Tone::Plain, "  ").cell(Tone::of(&gate.state), &gate.state, 9);
        words.cell(Tone::Plain, &gate.gate, 27).add(Tone::Plain, &gate.why).line()
    };
    // What stands in the way first.
    let (passing, others): (Vec<&Gate>, Vec<&Gate>) = gates.iter().partition(|gate| gate.state == "pass");
    others.into_iter().chain(passing).map(row).collect()
}

fn fact(name: &str, text: &str) -> Line<'static> {
    Words::new().cell(Tone::Dim, name, 12).add(Tone::Plain, text).line()
}

fn note(text: &str) -> Line<'static> {
    line(Tone::Dim, text)
}
