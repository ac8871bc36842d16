//! One frame, from what is known, what is chosen and a time alone.

use estoppel_evidence::time::UnixMicros;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget as _};

use super::keys::{Desk, Over, question};
use super::model::Model;
use super::view::{self, VIEWS};
use super::words::{Tone, Words, clipped, line, moment, width as columns_of, wrapped};
use crate::arguments::View;

/// Below this height of both together details are not beside the list; Enter shows them.
const LOW: u16 = 6;
/// Below this width keys are named without words, and columns need not stand below each other.
const NARROW: u16 = 60;
/// Below this height no row is kept free.
const FEW_ROWS: u16 = 14;
/// Most lines that are said at the bottom.
const SAID_MAX: usize = 3;

/// Lines of a log beside a list; Enter shows all that is read of it.
const LOG_LINES: usize = 8;

/// Draws everything into `area`.
pub fn draw(model: &Model, desk: &mut Desk, now: UnixMicros, area: Rect, buffer: &mut Buffer) {
    let Rect { width, height, .. } = area;
    if width == 0 || height == 0 {
        return;
    }
    put(buffer, area, 0, &tabs(desk.view, now, width));
    buffer.set_style(Rect { height: 1, ..area }, Style::new().add_modifier(Modifier::REVERSED));
    let said = said(desk, area);
    let spoken = u16::try_from(said.len()).unwrap_or(1);
    let body = Rect { y: area.y + 1, height: height.saturating_sub(2 + spoken), ..area };
    views(model, desk, now, body, buffer);
    if height > 1 + spoken {
        for (row, line) in (height - 1 - spoken..).zip(&said) {
            put(buffer, area, row, line);
        }
        put(buffer, area, height - 1, &keys(desk, width));
    }
    over(desk, area, buffer);
}

/// One line of an area.
fn put(buffer: &mut Buffer, area: Rect, row: u16, line: &Line<'static>) {
    if row < area.height {
        let line = clipped(line, usize::from(area.width));
        buffer.set_line(area.x, area.y + row, &line, area.width);
    }
}

fn tabs(shown: View, now: UnixMicros, width: u16) -> Line<'static> {
    let mut words = Words::new();
    if width >= 60 {
        words = words.add(Tone::Strong, " estoppel  ");
    }
    for (number, view) in VIEWS.iter().enumerate() {
        let name = view::name(*view);
        let text = if *view == shown {
            format!("[{} {name}]", number + 1)
        } else {
            format!(" {} {name} ", number + 1)
        };
        // Beside each other on forty columns, too.
        let text = if width < 52 { text.replace("evolutions", "evol.") } else { text };
        words = words.add(if *view == shown { Tone::Strong } else { Tone::Plain }, &text);
    }
    let clock = format!("{} UTC ", moment(now).chars().skip(11).collect::<String>());
    let line = words.line();
    let free = usize::from(width).saturating_sub(line.width() + clock.len());
    match free {
        0 => line,
        free => {
            let mut spans = line.spans;
            spans.push(Span::raw(" ".repeat(free) + &clock));
            Line::from(spans)
        }
    }
}

fn views(model: &Model, desk: &mut Desk, now: UnixMicros, area: Rect, buffer: &mut Buffer) {
    let mut page = view::page(desk.view, model, &desk.chosen, now, usize::from(area.width).saturating_sub(2));
    if desk.view == View::Run && page.rows.is_empty() {
        let beginning = desk.running.iter().find(|name| name.starts_with("evolution of "));
        let note =
            beginning.map(|name| line(Tone::Care, &format!("{name} begins; its steps will stand here")));
        page.notes = note.map_or(page.notes, |note| vec![note]);
    }
    let mut at = 0;
    for note in &page.notes {
        for text in wrapped(&super::words::printed(note), usize::from(area.width).saturating_sub(2)) {
            let style = note.spans.first().map(|span| span.style).unwrap_or_default();
            put(buffer, area, at, &Line::from(Span::styled(format!(" {text}"), style)));
            at += 1;
        }
    }
    let rest = area.height.saturating_sub(at);
    let list = Rect { y: area.y + at, height: rest, ..area };
    let count = u16::try_from(page.rows.len() + 1).unwrap_or(u16::MAX);
    // Short lists leave their room to the details, long ones get half.
    let listed = if rest < LOW { rest } else { count.min((rest / 2).max(4)).min(rest) };
    let (_, chosen) = desk.rows(model, now);
    rows(&page, chosen, Rect { height: listed, ..list }, buffer);
    let below = Rect { y: list.y + listed, height: rest - listed, ..list };
    if below.height < 3 || page.rows.is_empty() {
        return;
    }
    let rule = "─".repeat(usize::from(below.width));
    put(buffer, below, 0, &line(Tone::Dim, &rule));
    let columns = usize::from(below.width).saturating_sub(2);
    let lines = view::details(desk.view, model, &desk.chosen, now, LOG_LINES);
    let lines: Vec<Line<'static>> = lines.iter().flat_map(|line| folded(line, columns)).collect();
    let inner = Rect { y: below.y + 1, height: below.height - 1, ..below };
    desk.top = scrolled(&lines, desk.top, inner, buffer);
}

/// The rows around the one that is chosen.
fn rows(page: &view::Page, chosen: usize, area: Rect, buffer: &mut Buffer) {
    let Some(head) = &page.head else { return };
    let mut head = head.clone();
    head.spans.insert(0, Span::raw("  "));
    put(buffer, area, 0, &head);
    let room = usize::from(area.height.saturating_sub(1));
    let first = chosen.saturating_sub(room / 2).min(page.rows.len().saturating_sub(room));
    for (row, (number, (_, line))) in page.rows.iter().enumerate().skip(first).take(room).enumerate() {
        let is_chosen = number == chosen;
        let mut line = line.clone();
        line.spans.insert(0, Span::raw(if is_chosen { "> " } else { "  " }));
        let row = u16::try_from(row + 1).unwrap_or(u16::MAX);
        put(buffer, area, row, &line);
        if is_chosen {
            let whole = Rect { y: area.y + row, height: 1, ..area }.intersection(area);
            buffer.set_style(whole, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    more(first, page.rows.len(), room, area, buffer);
}

/// Lines from `top` on, and the first one that was shown.
fn scrolled(lines: &[Line<'static>], top: usize, area: Rect, buffer: &mut Buffer) -> usize {
    let room = usize::from(area.height);
    let top = top.min(lines.len().saturating_sub(room));
    for (row, line) in lines.iter().skip(top).take(room).enumerate() {
        let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
        put(buffer, inner, u16::try_from(row).unwrap_or(u16::MAX), line);
    }
    more(top, lines.len(), room, area, buffer);
    top
}

/// Says at the end of an area how much there is beside what is shown.
fn more(first: usize, all: usize, room: usize, area: Rect, buffer: &mut Buffer) {
    if all <= room || room == 0 {
        return;
    }
    let text = format!(" {}-{} of {all} ", first + 1, (first + room).min(all));
    let wide = u16::try_from(text.len()).unwrap_or(u16::MAX);
    if wide < area.width {
        let (x, y) = (area.x + area.width - wide, area.y + area.height - 1);
        // What it stands before is marked as cut there.
        let is_cut = (x..area.x + area.width).any(|x| !matches!(buffer[(x, y)].symbol(), " " | "…"));
        buffer.set_line(x, y, &line(Tone::Strong, &text), wide);
        if is_cut && x > area.x {
            buffer[(x, y)].set_symbol("…");
        }
    }
}

/// What was said last, or what runs, in as many lines as it needs. Where rows are few, nothing needs none.
fn said(desk: &Desk, area: Rect) -> Vec<Line<'static>> {
    let (tone, text) = match (&desk.said, desk.running.as_slice()) {
        (Some((tone, text)), _) => (*tone, text.clone()),
        (None, []) => (Tone::Plain, String::new()),
        (None, running) => (Tone::Care, format!("running: {}", running.join(", "))),
    };
    if text.is_empty() && area.height < FEW_ROWS {
        return Vec::new();
    }
    let mut pieces = wrapped(&text, usize::from(area.width).saturating_sub(2));
    if pieces.len() > SAID_MAX {
        pieces.truncate(SAID_MAX);
        pieces[SAID_MAX - 1].push_str(" …");
    }
    pieces.iter().map(|piece| Words::new().add(Tone::Plain, " ").add(tone, piece).line()).collect()
}

fn keys(desk: &Desk, width: u16) -> Line<'static> {
    let all: &[(&str, &str)] = match (&desk.over, desk.view) {
        (Some(Over::Asked { .. }), _) => &[("y", "yes"), ("n", "no"), ("↑↓", "scroll")],
        (Some(Over::Leaving), _) => &[("y", "yes"), ("n", "no")],
        (Some(Over::Waiving(_)), _) => &[("Esc", "no"), ("Tab", "field"), ("↵", "on")],
        (Some(Over::Text { .. }), _) => &[("q", "close"), ("↑↓", "scroll")],
        (None, View::Gateway) => {
            &[("?", "help"), ("q", "quit"), ("a", "approve"), ("d", "deny"), ("e", "seal run"), ("↵", "more")]
        }
        (None, _) => &[
            ("?", "help"),
            ("q", "quit"),
            ("s", "start"),
            ("p", "promote"),
            ("a", "approve"),
            ("w", "waive"),
            ("e", "seal"),
            ("l", "logs"),
            ("↵", "more"),
        ],
    };
    let long: usize = all.iter().map(|(key, does)| columns_of(key) + does.len() + 3).sum();
    let has_words = long <= usize::from(width);
    let mut words = Words::new();
    for (key, does) in all {
        words = words.add(Tone::Plain, " ").add(Tone::Strong, key);
        // Where there is no room, that of the key that explains the others stays.
        let does = if has_words || *key == "?" { format!(" {does} ") } else { " ".into() };
        words = words.add(Tone::Dim, &does);
    }
    words.line()
}

const HELP: &[(&str, &str)] = &[
    ("1 2 3 4, Tab", "another view"),
    ("↑ ↓, j k", "choose a row; g and G the first and the last"),
    ("← →", "another generation, in the view of evolutions, too"),
    ("PgUp PgDn", "scroll what is said of the row"),
    ("Enter", "what is said of it on the whole screen"),
    ("s", "run every step of the generation on what HEAD is"),
    ("p", "ask the gates, and promote its candidate if all pass"),
    ("a", "approve the candidate; in the view of gateways, the call"),
    ("d", "deny the call that waits"),
    ("w", "waive a gate that refuses the candidate, with a reason and for a time"),
    ("e", "seal the draft; in the view of gateways, the run of the call"),
    ("l", "logs of the evolution"),
    ("Ctrl-L, Ctrl-Z", "draw again, suspend"),
    ("q, Ctrl-C", "quit; what runs goes on"),
];

/// What each key does.
pub fn help() -> Vec<Line<'static>> {
    let row =
        |(keys, does): &(&str, &str)| Words::new().cell(Tone::Strong, keys, 16).add(Tone::Plain, does).line();
    let mut lines: Vec<Line<'static>> = HELP.iter().map(row).collect();
    lines.push(Line::default());
    lines.push(line(Tone::Dim, "s, p, a, d, w and e show what they will run, and ask first."));
    lines
}

/// What stands in front of the views.
fn over(desk: &mut Desk, area: Rect, buffer: &mut Buffer) {
    let Some(over) = &mut desk.over else { return };
    let body = Rect { height: area.height.saturating_sub(1), ..area };
    let (title, tone, lines) = match over {
        Over::Asked { deed, .. } => (deed.name.clone(), Tone::Care, question(deed)),
        Over::Waiving(form) => (form.title(), Tone::Care, form.lines()),
        Over::Leaving => {
            let says = "Commands still run. They go on without the dashboard, and the ledger has what comes of them. Quit?";
            ("quit".to_owned(), Tone::Care, vec![line(Tone::Plain, says)])
        }
        Over::Text { title, tone, lines, .. } => (title.clone(), *tone, lines.clone()),
    };
    let is_text = matches!(over, Over::Text { .. });
    let columns = usize::from(body.width.saturating_sub(4)).min(if is_text { usize::MAX } else { 96 });
    let lines: Vec<Line<'static>> = lines.iter().flat_map(|line| folded(line, columns)).collect();
    let wide = u16::try_from(columns + 4).unwrap_or(u16::MAX).min(body.width);
    let tall = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(body.height);
    let tall = if is_text { body.height } else { tall };
    let frame = Rect {
        x: body.x + (body.width - wide) / 2,
        y: body.y + (body.height - tall) / 2,
        width: wide,
        height: tall,
    };
    Clear.render(frame, buffer);
    let title = Words::new().add(tone, &format!(" {title} ")).line();
    let title = clipped(&title, usize::from(frame.width).saturating_sub(2));
    let block = Block::bordered().title(title).border_style(tone.style());
    let inner = block.inner(frame);
    block.render(frame, buffer);
    match over {
        Over::Text { top, .. } | Over::Asked { top, .. } => *top = scrolled(&lines, *top, inner, buffer),
        // Where there is no room for both, what is written is seen, and not what was chosen.
        Over::Waiving(form) if form.is_written() => drop(scrolled(&lines, usize::MAX, inner, buffer)),
        Over::Leaving | Over::Waiving(_) => drop(scrolled(&lines, 0, inner, buffer)),
    }
}

/// A line in as many as it needs. What follows stands below the last column, where that leaves it enough room.
fn folded(line: &Line<'static>, columns: usize) -> Vec<Line<'static>> {
    let is_narrow = columns < usize::from(NARROW);
    let squeezed = if is_narrow && line.width() > columns { squeezed(line) } else { line.clone() };
    let line = if squeezed.width() <= columns { &squeezed } else { line };
    let Some((last, before)) = line.spans.split_last().filter(|_| line.width() > columns) else {
        return vec![line.clone()];
    };
    let indent: usize = before.iter().map(Span::width).sum();
    if indent > columns * 2 / 3 {
        let pieces = wrapped(&super::words::printed(line), columns);
        return pieces.into_iter().map(|piece| Line::from(Span::styled(piece, last.style))).collect();
    }
    let pieces = wrapped(&last.content, columns - indent).into_iter().enumerate();
    let row = |(number, piece): (usize, String)| {
        let mut spans = if number == 0 { before.to_vec() } else { vec![Span::raw(" ".repeat(indent))] };
        spans.push(Span::styled(piece, last.style));
        Line::from(spans)
    };
    pieces.map(row).collect()
}

/// The same without what fills columns up.
fn squeezed(line: &Line<'static>) -> Line<'static> {
    let spans = line.spans.iter().map(|span| {
        let text = span.content.trim_end();
        let gap = if text.is_empty() {
            &*span.content
        } else if text.len() < span.content.len() {
            "  "
        } else {
            ""
        };
        Span::styled(format!("{text}{gap}"), span.style)
    });
    Line::from(spans.collect::<Vec<_>>())
}
