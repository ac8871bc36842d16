//! A diff as a page of its own: nothing is loaded, nothing runs, and what came from evidence is text.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::diff::{Change, Diff, Differing, Operation};

/// Most changes that a page shows, and most characters of a value.
const ROWS_MAX: usize = 20_000;
const SHOWN_MAX: usize = 4_000;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>estoppel diff</title><style>\
:root{color-scheme:light dark;--line:#8885;--gone:#d33a;--new:#2a4a}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%;table-layout:fixed}\
th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}\
td,code{font-family:ui-monospace,monospace;font-size:13px;overflow-wrap:anywhere;white-space:pre-wrap}\
.gone{border-left:4px solid var(--gone)}.new{border-left:4px solid var(--new)}\
section{margin:1.5rem 0}h2{font-size:1rem;overflow-wrap:anywhere}.warn{border:2px solid var(--gone);padding:.5rem}\
</style></head><body>\n";

/// `text` so that a page shows it as it is: no markup, no control characters, no changed direction of writing.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if hidden => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// The page; `digest` is that of the document.
pub fn page(diff: &Diff, digest: &str) -> String {
    let mut out = String::from(HEAD);
    let counts = diff.counts;
    let _ = writeln!(out, "<h1>What differs between two {}s</h1>", diff.kind.as_str());
    for (name, about) in [("left", &diff.from), ("right", &diff.to)] {
        let _ = writeln!(out, "<p><strong>{name}</strong> <code>{}</code></p>", members(about));
        if about.get("verified").is_none_or(|verified| verified == "no") {
            let _ = writeln!(out, "<p class=\"warn\">The {name} side was <strong>not verified</strong>.</p>");
        }
    }
    let _ = writeln!(
        out,
        "<p>Only right: {} · only left: {} · changed: {} · equal: {} · bodies compared: {} · bodies of which nobody can say: {}</p>\n\
         <p>digest <code>{}</code></p>",
        counts.added,
        counts.removed,
        counts.changed,
        counts.equal,
        diff.compared,
        diff.unknown,
        escaped(digest)
    );
    for entry in &diff.entries {
        if entry.changes.start >= ROWS_MAX {
            break;
        }
        section(&mut out, entry, diff.changes.get(entry.changes.clone()).unwrap_or_default());
    }
    let beyond = diff.left_out + diff.changes.len().saturating_sub(ROWS_MAX) as u64; // widening
    if beyond > 0 {
        let _ = writeln!(out, "<p class=\"warn\">{beyond} more changes are not on this page.</p>");
    }
    passed_over(&mut out, diff);
    out.push_str("</body></html>\n");
    out
}

fn members(members: &Map<String, Value>) -> String {
    let shown = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{}: {}", escaped(name), escaped(text)),
        value => format!("{}: {}", escaped(name), escaped(&value.to_string())),
    };
    members.iter().map(shown).collect::<Vec<_>>().join(" · ")
}

fn section(out: &mut String, entry: &Differing, changes: &[Change]) {
    let _ = writeln!(out, "<section><h2>{}</h2>", escaped(&entry.path));
    let place = |place: &Option<Map<String, Value>>| place.as_ref().map(members).unwrap_or_default();
    let _ = writeln!(
        out,
        "<table><tr><th>at</th><th>left<br><code>{}</code></th><th>right<br><code>{}</code></th></tr>",
        place(&entry.from),
        place(&entry.to)
    );
    for change in changes.iter().take(ROWS_MAX) {
        let path = change.path();
        let below = path.strip_prefix(&entry.path).unwrap_or(&path);
        let (from, to) = match &change.operation {
            Operation::Add(value) => (None, Some(value)),
            Operation::Remove(value) => (Some(value), None),
            Operation::Change(from, to) => (Some(from), Some(to)),
        };
        let _ = writeln!(
            out,
            "<tr><td>{}</td>{}{}</tr>",
            escaped(if below.is_empty() { "(all of it)" } else { below }),
            cell(from, "gone"),
            cell(to, "new")
        );
    }
    out.push_str("</table></section>\n");
}

fn cell(value: Option<&Value>, class: &str) -> String {
    let Some(value) = value else { return "<td></td>".into() };
    let text = match value {
        Value::String(_) => value.to_string(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < text.len() { " …" } else { "" };
    let lines: Vec<String> = cut.split('\n').map(escaped).collect();
    format!("<td class=\"{class}\">{}{more}</td>", lines.join("\n"))
}

fn passed_over(out: &mut String, diff: &Diff) {
    if !diff.opaque.is_empty() {
        out.push_str("<h2>Bodies that differ and were not looked into</h2><ul>\n");
        for (path, cause) in diff.opaque.iter().take(ROWS_MAX) {
            let _ = writeln!(out, "<li><code>{}</code>: {cause}</li>", escaped(path));
        }
        out.push_str("</ul>\n");
    }
    if !diff.ignored.is_empty() {
        out.push_str("<h2>Passed over by normalizers, though it differs</h2><ul>\n");
        for (path, entries) in &diff.ignored {
            let _ = writeln!(out, "<li><code>{}</code> in {entries} entries</li>", escaped(path));
        }
        out.push_str("</ul>\n");
    }
}
