//! The table: a row for each event, and a last one for the ledger. No cell is taken for a formula.

use std::borrow::Cow;

use super::{Claimed, Row, Span, Told, heads, heads_of, moment, moment_of};

const COLUMNS: [&str; 10] =
    ["time", "kind", "actor", "name", "host", "version", "commit", "event", "previous", "said"];
/// Kind of the last row: it is of no event.
const LAST: &str = "audit.export";

pub(super) fn write(told: &Told<'_>) -> String {
    let mut out = line(&COLUMNS.map(Cow::Borrowed));
    for row in &told.rows {
        let Row { actor, at, commit, event, host, kind, name, previous, said, version } = row;
        let (at, actor, event) = (at.to_string(), actor.to_string(), event.to_string());
        let cells = [&at, *kind, &actor, name, host, version, commit, &event, previous, said];
        out.push_str(&line(&cells.map(safe)));
    }
    let (from, to) = (moment(told.span.from), moment(told.span.to));
    let (head, heads) = (told.ledger.head().to_string(), heads(told.ledger));
    let said = format!("rows {}; events {}", told.rows.len(), told.ledger.events().len());
    let cells = [from.as_str(), LAST, "", "", "", "", &to, &head, &heads, &said];
    out.push_str(&line(&cells.map(safe)));
    out
}

/// Every cell in quotes, as RFC 4180 has them.
fn line(cells: &[Cow<'_, str>; 10]) -> String {
    let quoted: Vec<String> = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
    quoted.join(",") + "\r\n"
}

/// What begins a formula in some spreadsheet, and what says that a text is none.
const STARTS: [char; 9] = ['=', '+', '-', '@', '\'', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// A text that a spreadsheet would take for a formula begins with an apostrophe; controls are told as escapes.
fn safe(cell: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control();
    let cell: Cow<'_, str> = if cell.contains(is_control) {
        let escaped = |c: char| if is_control(c) { c.escape_default().collect() } else { c.to_string() };
        cell.chars().map(escaped).collect::<String>().into()
    } else {
        cell.into()
    };
    if cell.starts_with(STARTS) { format!("'{cell}").into() } else { cell }
}

/// What the last row says.
pub(super) fn read(text: &str) -> Option<Claimed> {
    let last = text.strip_suffix("\"\r\n")?.rsplit("\r\n").next()?.strip_prefix('"')?;
    let cells: Vec<&str> = last.split("\",\"").collect();
    let [from, LAST, _, _, _, _, to, _, heads, _] = cells.as_slice() else { return None };
    let span = Span { from: moment_of(from)?, to: moment_of(to)? };
    Some(Claimed { span, heads: heads_of(heads)?, files: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_more_than_one_line() {
        for (cell, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("'=1", "''=1"),
            ("\t=1", "\\t=1"),
            ("a\r\nb", "a\\r\\nb"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(safe(cell), expected, "{cell:?}");
        }
        assert!(line(&[""; 10].map(|_| safe("a\"b"))).starts_with("\"a\"\"b\","));
    }
}
