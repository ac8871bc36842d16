//! `estoppel show`.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use estoppel_bundle::{Bundle, ReadAt};
use estoppel_evidence::envelope::{ENTRY_TYPE, wrap};
use estoppel_evidence::key::dsse_form;
use estoppel_evidence::{KeyId, Reason};
use serde_json::{Value, json};

use crate::arguments::Show;
use crate::output::{Failure, Output, plain};
use crate::scope::{self, Scope};
use crate::snapshot::{Documents, brief};

/// One entry of a bundle: its line as stored, read, and its signature.
pub struct Line {
    bytes: Vec<u8>,
    pub value: Value,
    signature: Option<[u8; 64]>,
}

impl Line {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

pub fn run(output: &Output, show: &Show) -> Result<ExitCode, Failure> {
    let (manifest, lines) = read(&show.bundle)?;
    let ledger = show.repo.as_deref().map(scope::ledger).transpose()?;
    match &show.call {
        None => {
            let scope = Scope::of(lines.iter().map(|line| &line.value), ledger.as_ref());
            overview(*output, &show.bundle, &manifest, &lines, &scope)
        }
        Some(which) => call(*output, show, which, &manifest, &lines),
    }
}

/// The manifest and the entries of a bundle, as they stand there: nothing is judged.
pub fn read(path: &Path) -> Result<(Value, Vec<Line>), Failure> {
    entries(path, &open(path)?)
}

/// The manifest and the entries of a bundle that was opened; `path` is named where they cannot be read.
pub fn entries(path: &Path, bundle: &Opened) -> Result<(Value, Vec<Line>), Failure> {
    let open = |error| not_open(path, &error);
    let manifest = serde_json::from_slice(&bundle.manifest().to_bytes()).unwrap_or(Value::Null);
    let mut lines = Vec::new();
    let mut entries = bundle.entries().map_err(open)?;
    while let Some(entry) = entries.next().map_err(open)? {
        let bytes = entry.line.to_vec();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        lines.push(Line { bytes, value, signature: entry.signature });
    }
    Ok((manifest, lines))
}

/// A bundle, as it stands there.
pub fn open(path: &Path) -> Result<Opened, Failure> {
    if path.is_dir() {
        return Err(Failure::input("ARGUMENT_INVALID", "expected the `.pef.zip`, not a bundle folder"));
    }
    crate::input::regular(path).map_err(|error| crate::input::unreadable(path, &error))?;
    let file = File::open(path).map_err(|error| crate::input::unreadable(path, &error))?;
    Bundle::from_zip(Archived::File(file)).map_err(|error| not_open(path, &error))
}

/// A bundle whose bytes were read: what becomes of the file does not matter any more.
pub fn opened(path: &Path, bytes: Vec<u8>) -> Result<Opened, Failure> {
    Bundle::from_zip(Archived::Bytes(bytes)).map_err(|error| not_open(path, &error))
}

/// A bundle over bytes that were read; `path` is named where it is none.
pub fn over<'b>(path: &Path, bytes: &'b [u8]) -> Result<Bundle<estoppel_bundle::Archive<&'b [u8]>>, Failure> {
    Bundle::from_zip(bytes).map_err(|error| not_open(path, &error))
}

fn not_open(path: &Path, error: &estoppel_bundle::OpenError) -> Failure {
    Failure::reason(error.reason(), plain(&format!("{}: {error}", path.display())))
}

/// A bundle on disk, or its bytes.
pub type Opened = Bundle<estoppel_bundle::Archive<Archived>>;

/// An archive, read at offsets.
pub enum Archived {
    File(File),
    Bytes(Vec<u8>),
}

impl ReadAt for Archived {
    fn size(&self) -> std::io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Bytes(bytes) => bytes.size(),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        match self {
            Self::File(file) => std::os::unix::fs::FileExt::read_at(file, buffer, offset),
            Self::Bytes(bytes) => bytes.read_at(buffer, offset),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A value of the evidence, fit for a terminal.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        value => plain(text(value)),
    }
}

fn overview(
    output: Output,
    bundle: &Path,
    manifest: &Value,
    lines: &[Line],
    scope: &Scope,
) -> Result<ExitCode, Failure> {
    let mut documents = Documents::of(bundle);
    output.line(&format!("run      {} {}", shown(&manifest["run"]), shown(&manifest["name"])));
    output.line(&format!(
        "by       {} ({} {})",
        shown(&manifest["iss"]),
        shown(&manifest["build"]["name"]),
        shown(&manifest["build"]["version"])
    ));
    output.line(&format!(
        "from     {} to {}, sealed {}",
        shown(&manifest["opened"]),
        shown(&manifest["sealed"]),
        shown(&manifest["seal_reason"])
    ));
    output.line(&format!(
        "root     {} over {} entries",
        shown(&manifest["tree"]["root"]),
        shown(&manifest["tree"]["size"])
    ));
    output.line(&format!("of       {}", scope.line()));
    output.line("");
    output.line(&format!(
        "{:>5}  {:<15}  {:<7} {:<26} {:<20} outcome",
        "seq", "time", "verdict", "operation", "model"
    ));
    for line in lines {
        let entry = &line.value;
        let seq = entry["seq"].to_string();
        if entry["kind"] != "call" {
            output.line(&format!(
                "{seq:>5}  {:<15}  {}{}",
                clock(entry),
                shown(&entry["kind"]),
                bypass(entry)
            ));
            continue;
        }
        output.line(&format!(
            "{seq:>5}  {:<15}  {:<7} {:<26} {:<20} {}",
            clock(entry),
            shown(&entry["verdict"]["action"]),
            shown(&entry["operation"]),
            shown(&entry["facts"]["model"]),
            outcome(entry)
                + &link(entry, lines)
                + &brief(entry, &mut |before, after| documents.compared(before, after))
                + &shadows(entry),
        ));
    }
    output.line("");
    output.line("nothing was judged here; `estoppel verify` does that");
    let entries: Vec<&Value> = lines.iter().map(|line| &line.value).collect();
    Ok(output.data(&json!({ "manifest": manifest, "entries": entries, "release": scope.data() })))
}

fn clock(entry: &Value) -> String {
    plain(text(&entry["ts"]).get(11..26).unwrap_or("-"))
}

fn outcome(entry: &Value) -> String {
    let code = shown(&entry["outcome"]["code"]);
    match (entry["verdict"]["reason"].as_str(), entry["outcome"]["complete"].as_bool()) {
        (Some(reason), _) if plain(reason) != code => format!("{code} ({})", plain(reason)),
        (_, Some(false)) => format!("{code} (incomplete)"),
        _ => code,
    }
}

/// What an entry `bypass` says was found.
fn bypass(entry: &Value) -> String {
    if entry["kind"] != "bypass" {
        return String::new();
    }
    let count = entry["count"].as_u64().unwrap_or(1);
    let words = ["source", "upstream", "ref", "comment"].iter().filter_map(|member| entry[*member].as_str());
    format!("  {count} by {}", words.map(plain).collect::<Vec<_>>().join(", "))
}

/// The other of two calls of which the second asks again what the first was refused for.
fn link(entry: &Value, lines: &[Line]) -> String {
    let place = |call: &Value| {
        let is = |line: &&Line| line.value["kind"] == "call" && line.value["call"] == *call;
        lines.iter().find(is).map_or_else(|| shown(call), |line| format!("seq {}", shown(&line.value["seq"])))
    };
    let link = &entry["ext"]["reask"];
    match (&link["next"], &link["of"]) {
        (next @ Value::String(_), _) => format!(", asked again in {}", place(next)),
        (_, of @ Value::String(_)) => format!(", asks again for {}", place(of)),
        _ => String::new(),
    }
}

/// What policies said that changed nothing, each by the first figures of its hash.
fn shadows(entry: &Value) -> String {
    let one = |shadow: &Value| {
        let hash: String = shown(&shadow["policy"]).trim_start_matches("sha256:").chars().take(12).collect();
        let said = if shadow["state"] == "judged" { &shadow["verdict"] } else { &shadow["state"] };
        let reason = shadow["reason"].as_str().map(|reason| format!(" ({})", plain(reason)));
        format!(", shadow {hash} {}{}", shown(said), reason.unwrap_or_default())
    };
    entry["shadow"].as_array().into_iter().flatten().map(one).collect()
}

fn call(
    output: Output,
    show: &Show,
    which: &str,
    manifest: &Value,
    lines: &[Line],
) -> Result<ExitCode, Failure> {
    let line = find(lines, which)?;
    let pretty = serde_json::to_string_pretty(&line.value).unwrap_or_default();
    pretty.lines().for_each(|line| output.line(&plain(line)));
    if let Some(path) = &show.export {
        export(path, manifest, line)?;
        output.note(&format!("receipt written to {}", plain(&path.display().to_string())));
    }
    Ok(output.data(&line.value))
}

/// The entry of that sequence number, or the receipt of the call of that id; without one, what else names the call.
pub fn find<'l>(lines: &'l [Line], which: &str) -> Result<&'l Line, Failure> {
    let at = which.parse::<u64>().ok();
    let is_receipt = |line: &&Line| line.value["kind"] == "call" && line.value["call"] == which;
    let is = |line: &&Line| match at {
        Some(seq) => line.value["seq"] == seq,
        None => line.value["call"] == which,
    };
    lines.iter().find(is_receipt).or_else(|| lines.iter().find(is)).ok_or_else(|| {
        let message = format!("no entry of the bundle has the id or sequence number `{which}`");
        Failure::input("ARGUMENT_INVALID", message)
    })
}

/// The receipt of a call.
pub fn find_call<'l>(lines: &'l [Line], which: &str) -> Result<&'l Line, Failure> {
    let line = find(lines, which)?;
    match line.value["kind"] == "call" {
        true => Ok(line),
        false => Err(Failure::input("ARGUMENT_INVALID", "this entry is no call")),
    }
}

/// Writes a receipt as an envelope that stands alone (SPEC section 14).
fn export(path: &Path, manifest: &Value, line: &Line) -> Result<(), Failure> {
    let Some(signature) = &line.signature else {
        let message = "the run was signed by checkpoint, so no receipt stands alone";
        return Err(Failure { exit: 8, ..Failure::input("ARGUMENT_INVALID", message) });
    };
    let kid = text(&line.value["kid"]);
    let alg = manifest["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|key| key["kid"] == kid)
        .map(|key| text(&key["alg"]));
    let (Some(id), Some(alg)) = (KeyId::parse(kid), alg) else {
        return Err(Failure::input("ARGUMENT_INVALID", "the bundle does not hold the key of this receipt"));
    };
    let alg = if alg == "ed25519" { estoppel_evidence::Alg::Ed25519 } else { estoppel_evidence::Alg::P256 };
    if path.exists() {
        return Err(Failure::reason(
            Reason::OutputExists,
            format!("`{}` exists and is not overwritten", path.display()),
        ));
    }
    std::fs::write(path, wrap(ENTRY_TYPE, &line.bytes, id, &dsse_form(alg, signature))).map_err(|error| {
        Failure::runtime("DISK_FAILED", format!("cannot write `{}`: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_cannot_write_to_the_terminal_by_itself() {
        let hostile = "a\u{1b}[2Jb\nc\u{202e}d\u{2066}e\u{7f}\u{9b}é";
        assert_eq!(shown(&json!(hostile)), r"a\u001b[2Jb\u000ac\u202ed\u2066e\u007f\u009bé");
        let entry = json!({ "outcome": { "code": "OK\u{1b}" }, "verdict": { "reason": "x\r" } });
        assert_eq!(outcome(&entry), r"OK\u001b (x\u000d)");
        assert_eq!(shown(&json!(7)), "7");
        let found = json!({ "count": 2, "kind": "bypass", "ref": "a\u{1b}", "source": "database" });
        assert_eq!(bypass(&found), r"  2 by database, a\u001b");
        let link = link(&json!({ "ext": { "reask": { "of": "\u{1b}" } } }), &[]);
        assert_eq!(link, r", asks again for \u001b");
        let shadow = json!({ "shadow": [
            { "policy": "sha256:0123456789abcdef", "reason": "X\u{1b}", "state": "judged", "verdict": "block" },
            { "policy": "\u{1b}", "state": "skipped\u{1b}" },
        ] });
        assert_eq!(shadows(&shadow), r", shadow 0123456789ab block (X\u001b), shadow \u001b skipped\u001b");
    }
}
