//! The timeline as a page of its own: nothing is loaded, nothing runs, and what came from evidence is text.

use std::fmt::Write as _;

use estoppel_diff::escaped;
use serde_json::Value;

use crate::absent::{Absent, AbsentRun};
use crate::pack::{Format, Part, Span};

/// Most rows of each table.
const ROWS_MAX: usize = 5_000;
/// What stands in columns of its own.
const SHOWN: [&str; 6] = ["bundle", "kind", "links", "notable", "seq", "ts"];

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>estoppel incident</title><style>\
:root{color-scheme:light dark;--line:#8885;--bad:#d33a}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}\
td,code{font-family:ui-monospace,monospace;font-size:13px;overflow-wrap:anywhere}\
.bad{border-left:4px solid var(--bad)}\
</style></head><body>\n";

/// What a page is of.
pub(crate) struct Shown<'a, 'g> {
    pub format: Format,
    pub parts: &'a [Part<'g>],
    pub span: &'a Span,
    pub rows: &'a [Value],
}

impl Shown<'_, '_> {
    pub fn page(&self, absent: Option<&Absent>, regress: Option<&Value>) -> String {
        let mut out = self.head();
        if self.format == Format::Second {
            not_here(&mut out, absent);
        }
        if let Some(regress) = regress {
            let count = |state: &str| regress["counts"][state].as_u64().unwrap_or_default();
            let _ = writeln!(
                out,
                "<h2>Judged again</h2>\n<p>By the policy <code>{}</code>: {} calls as recorded, {} otherwise, {} undecided.</p>",
                text(&regress["policy"]),
                count("same"),
                count("changed"),
                count("undecided")
            );
        }
        let (notable, rest): (Vec<&Value>, Vec<&Value>) =
            self.rows.iter().partition(|row| row["notable"] == true);
        table(&mut out, "What is notable", &notable);
        table(&mut out, "All else", &rest);
        out.push_str("</body></html>\n");
        out
    }

    /// Title and bundles.
    fn head(&self) -> String {
        let Self { parts, span, .. } = *self;
        let mut out = String::from(HEAD);
        let subject = parts.first().map(|part| &part.manifest).unwrap_or(&Value::Null);
        let _ = writeln!(
            out,
            "<h1>Incident: run {}</h1>\n<p><code>{}</code>, from {} to {}</p>\n\
             <p>This page says what the bundles beside it say. It proves nothing: <code>estoppel incident verify</code> does.</p>\n\
             <h2>Bundles</h2>\n<table><tr><th>file</th><th>run</th><th>opened</th><th>sealed</th><th>root</th></tr>",
            text(if subject["name"].is_null() { &subject["class"] } else { &subject["name"] }),
            text(&subject["run"]),
            escaped(&span.from),
            escaped(&span.to)
        );
        for part in parts {
            let manifest = &part.manifest;
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&part.path),
                text(if manifest["name"].is_null() { &manifest["class"] } else { &manifest["name"] }),
                text(&manifest["opened"]),
                text(&manifest["sealed"]),
                text(&manifest["tree"]["root"])
            );
        }
        out.push_str("</table>\n");
        out
    }
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or("-"))
}

/// Says whether the window is whole.
fn not_here(out: &mut String, absent: Option<&Absent>) {
    out.push_str("<h2>Runs of the window that are not in this file</h2>\n");
    let Some(absent) = absent else {
        out.push_str("<p>Not known: no journal was asked.</p>\n");
        return;
    };
    let Some(log) = absent.log() else {
        let code = escaped(absent.unread_code());
        let _ = writeln!(
            out,
            "<p class=\"bad\">Not known: the log of the journal could not be relied on (<code>{code}</code>).</p>"
        );
        return;
    };
    let head = log.head.map_or_else(|| "-".to_owned(), |head| head.to_string());
    let _ = writeln!(
        out,
        "<p>{} runs, by {} entries of the log up to <code>{}</code>.</p>",
        absent.rows().len(),
        log.size,
        escaped(&head)
    );
    if log.begins > 0 {
        let _ = writeln!(
            out,
            "<p class=\"bad\">The log begins at entry {}: of older runs it knows only what reports of retention say.</p>",
            log.begins
        );
    }
    if absent.rows().is_empty() {
        return;
    }
    out.push_str("<table><tr><th>run</th><th>opened</th><th>sealed</th><th>why</th></tr>\n");
    let moment =
        |at: Option<estoppel_evidence::time::UnixMicros>| at.map_or_else(|| "-".into(), |at| at.to_string());
    for row in absent.rows().iter().take(ROWS_MAX) {
        let AbsentRun { run, name, opened, sealed, .. } = row;
        let name = name.as_ref().map(|name| format!("{}<br>", escaped(name))).unwrap_or_default();
        let (opened, sealed) = (moment(*opened), moment(*sealed));
        let why = escaped(&row.words());
        let _ = writeln!(
            out,
            "<tr class=\"bad\"><td>{name}{run}</td><td>{opened}</td><td>{sealed}</td><td>{why}</td></tr>"
        );
    }
    out.push_str("</table>\n");
    if absent.rows().len() > ROWS_MAX {
        let _ = writeln!(out, "<p>{} more are in absent.json.</p>", absent.rows().len() - ROWS_MAX);
    }
}

fn table(out: &mut String, title: &str, rows: &[&Value]) {
    let _ = writeln!(out, "<h2>{title}</h2>\n<p>{} entries</p>", rows.len());
    if rows.is_empty() {
        return;
    }
    out.push_str("<table><tr><th>time</th><th>entry</th><th>what</th><th>refers to</th></tr>\n");
    for row in rows.iter().take(ROWS_MAX) {
        let class = match row["verdict"].as_str().or(row["kind"].as_str()) {
            Some("block" | "hold" | "bypass" | "gap" | "interrupted") => " class=\"bad\"",
            _ => "",
        };
        let _ = writeln!(
            out,
            "<tr{class}><td>{}</td><td>{}<br>{}#{}</td><td>{}</td><td>{}</td></tr>",
            escaped(row["ts"].as_str().unwrap_or("-")),
            escaped(row["kind"].as_str().unwrap_or("-")),
            escaped(row["bundle"].as_str().unwrap_or("-")),
            escaped(&row["seq"].to_string()),
            members(row),
            links(row)
        );
    }
    out.push_str("</table>\n");
    if rows.len() > ROWS_MAX {
        let _ = writeln!(out, "<p>{} more are in timeline.json.</p>", rows.len() - ROWS_MAX);
    }
}

fn members(row: &Value) -> String {
    let members = row.as_object().into_iter().flatten().filter(|(name, _)| !SHOWN.contains(&name.as_str()));
    let shown = members.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        format!("{}: {}", escaped(name), escaped(&text))
    });
    shown.collect::<Vec<_>>().join("<br>")
}

fn links(row: &Value) -> String {
    let links = row["links"].as_array().into_iter().flatten().map(|link| {
        let kind = escaped(link["kind"].as_str().unwrap_or("-"));
        match link["at"].as_str() {
            Some(at) => format!("{kind}: {}", escaped(at)),
            None => format!("{kind}: {} (not in this file)", escaped(link["to"].as_str().unwrap_or("-"))),
        }
    });
    links.collect::<Vec<_>>().join("<br>")
}
