//! `estoppel dashboard`: releases, running evolutions and gateways on one screen, and what can be done about them.
//!
//! Threads look and ask ([`watch`]), what they bring becomes a [`model`], and a frame follows from the model, what is chosen
//! and a time alone ([`screen`]). What is done is done by commands of this program, as anybody would type them ([`deeds`]).
//! The same views are printed as lines, and the same model as JSON.

mod deeds;
mod form;
mod gateway;
mod keys;
mod model;
mod repository;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod words;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::{Value, json};

use crate::arguments::{Dashboard, Size, View};
use crate::ledger::now;
use crate::output::{Failure, Output};
use keys::Desk;
use model::{Fault, Model};
use view::VIEWS;
use watch::Watch;

pub fn run(output: &Output, asked: &Dashboard) -> Result<ExitCode, Failure> {
    if asked.snapshot.is_none() && !asked.plain && !output.json && is_drawable() {
        return terminal::show(asked);
    }
    let mut model = Watch::begin(asked)?.once(asked);
    if let Some(version) = &asked.generation {
        watch::only(&mut model, version)?;
    }
    let exit = faults(&model, asked.view).map(|fault| fault.exit).next().unwrap_or(0);
    if let Some(size) = asked.snapshot {
        let lines = frame(&model, &mut Desk::new(asked.view.unwrap_or(View::Releases), None), now(), size);
        lines.iter().for_each(|line| output.line(line));
        return Ok(output.answer(&json!({ "frame": lines }), exit));
    }
    let views: Vec<View> = asked.view.map_or(VIEWS.to_vec(), |view| vec![view]);
    if !output.json {
        let only = asked.generation.as_ref().map(ToString::to_string);
        let lines = views.iter().flat_map(|view| view::lines(*view, &model, only.as_deref(), now()));
        lines.for_each(|line| output.line(&line));
    }
    Ok(output.answer(&data(&model, &views), exit))
}

/// Whether there is a terminal that understands more than lines, and somebody who wants that.
fn is_drawable() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// What keeps a view that is asked for from being shown.
fn faults(model: &Model, view: Option<View>) -> impl Iterator<Item = &Fault> {
    let releases = model.releases.fault.iter().filter(move |_| view != Some(View::Gateway));
    let gateways = model.gateways.iter().filter_map(|gateway| gateway.seen.fault.as_ref());
    releases.chain(gateways.filter(move |_| view.is_none_or(|view| view == View::Gateway)))
}

fn data(model: &Model, views: &[View]) -> Value {
    let has = |wanted: View| views.contains(&wanted);
    let mut data = json!({});
    if has(View::Releases) || has(View::Evolutions) || has(View::Run) {
        data["releases"] = json!(model.releases);
    }
    if has(View::Gateway) {
        data["gateways"] = json!(model.gateways);
    }
    data
}

/// What a terminal of this size shows.
fn frame(
    model: &Model,
    desk: &mut Desk,
    now: estoppel_evidence::time::UnixMicros,
    size: Size,
) -> Vec<String> {
    let area = Rect::new(0, 0, size.width, size.height);
    let mut buffer = Buffer::empty(area);
    screen::draw(model, desk, now, area, &mut buffer);
    let row = |y| {
        let mut text = String::new();
        let mut x = 0;
        while x < area.width {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            // The second half of a wide character is a cell of its own.
            x += u16::try_from(words::width(symbol).max(1)).unwrap_or(1);
        }
        text.trim_end().to_owned()
    };
    (0..area.height).map(row).collect()
}
