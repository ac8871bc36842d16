//! `estoppel diff`: what differs between two runs, journals or schemas.

pub mod side;

use std::path::Path;
use std::process::ExitCode;

use estoppel_diff::{Change, Diff, Differing, NoBodies, Normalizers, Operation, diff, page};
use estoppel_incident::{Compared, Unread};
use estoppel_snapshot::{RowChange, Schema, TableName, row_changes};
use serde_json::{Map, Value};

use crate::arguments;
use crate::output::{Colour, Failure, Output, plain};
use crate::{input, verify};

/// Most changes that a terminal gets, and most characters of a value.
const SHOWN_MAX: usize = 500;
const SHOWN_CHARACTERS_MAX: usize = 200;
/// Largest file of normalizers.
const NORMALIZERS_BYTES_MAX: u64 = 4 << 20;

/// The document of what differs between two schemas.
pub fn schemas(before: &[u8], after: &[u8]) -> Result<Vec<u8>, String> {
    difference(before, after, &|_| true).map(|found| found.bytes())
}

/// The same of what both have.
pub fn known_of_schemas(before: &[u8], after: &[u8]) -> Result<Compared, String> {
    let read = |bytes| Schema::parse(bytes).map_err(|error| error.to_string());
    let (from, to) = (read(before)?, read(after)?);
    let unread = row_changes(from.rows(), to.rows()).into_iter().filter_map(|change| match change {
        RowChange::Unknown { table, cause } => Some(Unread { table, cause: cause.to_owned() }),
        RowChange::Changed { .. } => None,
    });
    let unread: Vec<Unread> = unread.collect();
    let is_known = |table: &TableName| !unread.iter().any(|unread| unread.table == table.to_string());
    let found = difference(before, after, &is_known)?;
    Ok(Compared { diff: (!found.is_empty()).then(|| found.bytes()), unread })
}

fn difference(before: &[u8], after: &[u8], has_rows: &dyn Fn(&TableName) -> bool) -> Result<Diff, String> {
    let normalizers = Normalizers::new(None).map_err(|error| error.to_string())?;
    let side = |bytes| side::schema_side(bytes, &normalizers, has_rows);
    diff(&side(before)?, &side(after)?, &normalizers, (&NoBodies, &NoBodies))
        .map_err(|error| error.to_string())
}

/// Exit code 5 when something differs.
pub fn run(output: &Output, asked: &arguments::Diff) -> Result<ExitCode, Failure> {
    let normalizers = normalizers(asked.normalizers.as_deref())?;
    let trust = asked.trust.as_deref();
    if asked.run.is_some() && !verify::is_journal(&asked.from) && !verify::is_journal(&asked.to) {
        return Err(Failure::input("ARGUMENT_INVALID", "--run goes with a journal; a bundle is one run"));
    }
    let body_keys = crate::encrypt::body_keys(&asked.body_keys)?;
    let read = |path| {
        side::read(
            path,
            &side::Asked {
                run: asked.run.as_deref(),
                trust,
                unverified: asked.unverified,
                normalizers: &normalizers,
                body_keys: body_keys.as_ref(),
            },
        )
    };
    let (from, to) = (read(&asked.from)?, read(&asked.to)?);
    let found = diff(&from.side, &to.side, &normalizers, (&*from.bodies, &*to.bodies)).map_err(|error| {
        Failure::input("ARGUMENT_INVALID", error.to_string()).hint("--run takes one run out of a journal")
    })?;
    for side in [&from, &to] {
        if let Some(error) = side.unread.borrow_mut().take() {
            return Err(crate::encrypt::body_unread(&error));
        }
    }
    drop((from, to));
    let (document, digest) = found.document();
    if let Some(path) = &asked.out {
        input::write_new(path, &found.bytes())?;
    }
    if let Some(path) = &asked.html {
        input::write_new(path, page(&found, &digest.to_string()).as_bytes())?;
    }
    print(*output, &found, &digest.to_string());
    Ok(output.answer(&document, if found.is_empty() { 0 } else { 5 }))
}

/// The default ones, and those of a file.
pub fn normalizers(path: Option<&Path>) -> Result<Normalizers, Failure> {
    let further = path.map(|path| input::limited(path, NORMALIZERS_BYTES_MAX)).transpose()?;
    Normalizers::new(further.as_deref())
        .map_err(|error| Failure::input("ARGUMENT_INVALID", plain(&format!("normalizers: {error}"))))
}

fn print(output: Output, found: &Diff, digest: &str) {
    for (name, about) in [("from", &found.from), ("to", &found.to)] {
        output.line(&format!("{name:<11} {}", members(about)));
        if about.get("verified").is_some_and(|verified| verified == "no") {
            output.line(
                &output.paint(
                    Colour::Red,
                    &format!("{name:<11} NOT VERIFIED: nothing vouches for what follows"),
                ),
            );
        }
    }
    let mut left = SHOWN_MAX;
    for entry in &found.entries {
        let changes = found.changes.get(entry.changes.clone()).unwrap_or_default();
        if left == 0 {
            break;
        }
        show(output, entry, changes.get(..changes.len().min(left)).unwrap_or_default());
        left = left.saturating_sub(changes.len());
    }
    let beyond = found.left_out + found.changes.len().saturating_sub(SHOWN_MAX) as u64; // widening
    if beyond > 0 {
        output.line(&format!("… and {beyond} changes more; --out, --html and --json have them"));
    }
    let counts = found.counts;
    output.line(&format!(
        "entries     {} changed, {} only in from, {} only in to, {} equal",
        counts.changed, counts.removed, counts.added, counts.equal
    ));
    let unknown = match found.unknown {
        0 => String::new(),
        count => format!(", {count} of which nobody can say: two runs tag bodies with two keys"),
    };
    output.line(&format!("bodies      {} compared{unknown}", found.compared));
    if !found.opaque.is_empty() {
        output.line(&format!("opaque      {} bodies differ and were not looked into", found.opaque.len()));
    }
    output.line(&format!("digest      {digest}"));
}

fn members(about: &Map<String, Value>) -> String {
    let shown = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        plain(&format!("{name} {text}"))
    };
    about.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn show(output: Output, entry: &Differing, changes: &[Change]) {
    let place = entry.to.as_ref().or(entry.from.as_ref()).map(members).unwrap_or_default();
    output.line(&format!("{}  {}", plain(&entry.path), output.paint(Colour::Dim, &place)));
    for change in changes {
        let path = change.path();
        let below = match path.strip_prefix(&entry.path) {
            Some("") | None => "all of it",
            Some(below) => below,
        };
        let below = plain(below);
        let line = match &change.operation {
            Operation::Add(value) => output.paint(Colour::Green, &format!("  + {below}  {}", short(value))),
            Operation::Remove(value) => output.paint(Colour::Red, &format!("  - {below}  {}", short(value))),
            Operation::Change(from, to) => {
                output.paint(Colour::Yellow, &format!("  ~ {below}  {} -> {}", short(from), short(to)))
            }
        };
        output.line(&line);
    }
}

fn short(value: &Value) -> String {
    let text = plain(&value.to_string());
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_cut_and_cannot_draw_on_the_terminal() {
        assert_eq!(short(&json!("a\u{1b}[2J\u{202e}")), r#""a\u001b[2J\u202e""#);
        assert_eq!(short(&json!("é".repeat(300))).chars().count(), SHOWN_CHARACTERS_MAX + 1);
        let about = json!({ "name": "x\u{9b}\n", "entries": 3 });
        assert_eq!(members(about.as_object().unwrap()), r"entries 3, name x\u009b\u000a");
    }
}
