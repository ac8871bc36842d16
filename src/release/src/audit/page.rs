//! The page: one file, nothing loaded, nothing run, and every text of an event escaped.

use std::fmt::Write as _;

use super::{Claimed, Row, Span, Told, heads, heads_of, moment, moment_of};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Release audit</title><style>\
:root{color-scheme:light dark;--line:#8885}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:100rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}\
td,code{font-family:ui-monospace,monospace;font-size:12px;overflow-wrap:anywhere}\
th{white-space:nowrap}\
</style></head><body>\n<h1>Release audit</h1>\n";
const HEADS: &str = "<dt>heads</dt><dd><code id=\"heads\">";
const FROM: &str = "<dt>from</dt><dd><code id=\"from\">";
const TO: &str = "<dt>to</dt><dd><code id=\"to\">";
const END: &str = "</code></dd>\n";

pub(super) fn write(told: &Told<'_>) -> String {
    let mut out = String::from(HEAD);
    let (ledger, span) = (told.ledger, told.span);
    let genesis = ledger.genesis().map(|genesis| genesis.to_string()).unwrap_or_default();
    // A String takes every write.
    let _ = write!(
        out,
        "<dl>\n<dt>ledger</dt><dd><code>{}</code></dd>\n{HEADS}{}{END}<dt>begins with</dt><dd><code>{genesis}</code></dd>\n\
         {FROM}{}{END}{TO}{}{END}<dt>rows</dt><dd>{} of {} events</dd>\n</dl>\n\
         <p><code>estoppel audit verify</code> makes this page again from the ledger and compares every byte.</p>\n<table>\n<tr>",
        ledger.head(),
        heads(ledger),
        moment(span.from),
        moment(span.to),
        told.rows.len(),
        ledger.events().len(),
    );
    for column in ["time", "kind", "who", "host", "version", "commit", "said", "event", "previous"] {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str("</tr>\n");
    for Row { actor, at, commit, event, host, kind, name, previous, said, version } in &told.rows {
        let (name, host, said) = (escaped(name), escaped(host), escaped(said));
        let (version, commit) = (escaped(version), escaped(commit));
        let _ = writeln!(
            out,
            "<tr><td>{at}</td><td>{kind}</td><td>{name}<br>{actor}</td><td>{host}</td><td>{version}</td><td>{commit}</td>\
             <td>{said}</td><td>{event}</td><td>{previous}</td></tr>"
        );
    }
    out.push_str("</table>\n</body></html>\n");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.extend(c.escape_default()),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

/// What the list at the top says.
pub(super) fn read(text: &str) -> Option<Claimed> {
    let between = |start: &str| Some(text.split_once(start)?.1.split_once(END)?.0);
    let span = Span { from: moment_of(between(FROM)?)?, to: moment_of(between(TO)?)? };
    Some(Claimed { span, heads: heads_of(between(HEADS)?)?, files: None })
}
