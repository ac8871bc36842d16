//! `estoppel generation …`: the contracts of versions, and what the ledger says of them.

mod begin;
mod wizard;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use estoppel_evidence::Reason;
use estoppel_release::generation::{
    self, Amendment, ChangeId, Folder, FolderError, Generation, GenerationError,
};
use estoppel_release::git::Git;
use estoppel_release::ledger::{Event, Known, Ledger, StagePromoted, State, Store};
use estoppel_release::{Code, Refusal, Version};
use serde_json::{Value, json};

pub use begin::project;

use crate::arguments::{GenerationCommand, GenerationReason, GenerationSeal, InRepository};
use crate::input;
use crate::ledger::{Signing, now, store};
use crate::output::{Colour, Failure, Output, plain};

pub fn run(output: &Output, command: &GenerationCommand) -> Result<ExitCode, Failure> {
    match command {
        GenerationCommand::New(new) => begin::generation(*output, new),
        GenerationCommand::List { at } => list(*output, at),
        GenerationCommand::Show { version, at } => show(*output, version, at),
        GenerationCommand::Lint { files, at } => lint(*output, files, at),
        GenerationCommand::Seal(seal) => self::seal(*output, seal),
        GenerationCommand::Amend(amend) => self::amend(*output, amend),
        GenerationCommand::Abandon(abandon) => self::abandon(*output, abandon),
    }
}

fn folder(at: &InRepository) -> Result<Folder, Failure> {
    Folder::near(&at.repo).map_err(|error| input::unreadable(&at.repo, &error))
}

/// The ledger of this clone, if there is one.
fn known(at: &InRepository) -> Result<Option<Ledger>, Failure> {
    let read = Git::open(&at.repo).and_then(|git| Store::new(git, None, now).read());
    match read {
        Ok(ledger) => Ok(Some(ledger)),
        Err(refusal) if matches!(refusal.code, Code::NotARepository | Code::LedgerMissing) => Ok(None),
        Err(refusal) => Err(refusal.into()),
    }
}

fn row(error: &GenerationError) -> Value {
    json!({
        "code": error.code.as_str(), "pointer": error.pointer, "line": error.line, "message": error.message,
    })
}

fn refused(output: Output, path: &Path, errors: &[GenerationError]) -> Failure {
    let shown = path.display();
    let (message, rows) = match errors {
        [one] => (format!("`{shown}`: {one}"), vec![row(one)]),
        several => {
            several.iter().for_each(|error| output.note(&format!("{shown}: {error}")));
            (format!("`{shown}` has {} errors", several.len()), several.iter().map(row).collect())
        }
    };
    let data = json!({ "file": shown.to_string(), "errors": rows });
    Failure { data: Some(data), ..Failure::input("GENERATION_INVALID", message) }
}

fn failed(output: Output, error: FolderError) -> Failure {
    let message = plain(&error.to_string());
    match error {
        FolderError::Unknown { .. } => Failure::input("GENERATION_UNKNOWN", message).hint(
            "`estoppel generation new VERSION` begins one, `estoppel generation list` says which there are",
        ),
        FolderError::Twice { .. } => Failure::input("GENERATION_FILE_NAME", message),
        FolderError::Many { .. } => Failure::input("GENERATION_LIMIT", message),
        FolderError::Read { source, .. } => {
            Failure::reason(Reason::FileUnreadable, plain(&format!("{message}: {source}")))
        }
        FolderError::Write { source, .. } => {
            Failure::runtime("DISK_FAILED", plain(&format!("{message}: {source}")))
        }
        FolderError::Exists { .. } => Failure::reason(Reason::OutputExists, message),
        FolderError::Invalid { path, errors } => refused(output, Path::new(&path), &errors),
    }
}

fn open(output: Output, folder: &Folder, version: &Version) -> Result<Generation, Failure> {
    let read = folder.file(version).and_then(|path| Generation::open(&path));
    read.map_err(|error| failed(output, error))
}

fn lint(output: Output, files: &[PathBuf], at: &InRepository) -> Result<ExitCode, Failure> {
    let (files, others) = match files {
        [] => {
            let folder = folder(at)?;
            let found = folder.files().map_err(|error| failed(output, error))?;
            if found.named.is_empty() && found.others.is_empty() {
                let message = format!("`{}` has no generations", folder.path().display());
                return Err(Failure::input("GENERATION_UNKNOWN", plain(&message)));
            }
            (found.named.into_iter().map(|(_, path)| path).collect(), found.others)
        }
        files => (files.to_vec(), Vec::new()),
    };
    let mut failures = Vec::new();
    for path in &others {
        let message = format!("`{}` is not named like a generation, as `v1.4.0.yaml`", path.display());
        failures.push(Failure::input("GENERATION_FILE_NAME", plain(&message)));
    }
    let mut rows = Vec::new();
    for path in &files {
        match Generation::open(path) {
            Ok(read) => {
                let (version, changes) = (&read.version, read.changes.len());
                output.line(&plain(&format!("{}: ok, {version}, {changes} changes", path.display())));
                rows.push(json!({
                    "file": path.display().to_string(), "version": version, "contract": read.digest(), "changes": changes,
                }));
            }
            Err(error) => failures.push(failed(output, error)),
        }
    }
    match failures.len() {
        0 => Ok(output.data(&json!({ "generations": rows }))),
        1 => Err(failures.remove(0)),
        count => {
            failures.iter().for_each(|failure| output.note(&failure.message));
            let data: Vec<Value> = failures.into_iter().filter_map(|failure| failure.data).collect();
            let message = format!("{count} of {} files have errors", files.len() + others.len());
            Err(Failure {
                data: Some(json!({ "files": data })),
                ..Failure::input("GENERATION_INVALID", message)
            })
        }
    }
}

fn status(ledger: Option<&Ledger>, version: &Version) -> &'static str {
    ledger.and_then(|ledger| ledger.state(version)).map_or("draft", State::as_str)
}

fn painted(output: Output, status: &str) -> String {
    let colour = match status {
        "promoted" => Colour::Green,
        "sealed" => Colour::Yellow,
        "rolled_back" => Colour::Red,
        _ => Colour::Dim,
    };
    output.paint(colour, &format!("{status:<11}"))
}

fn list(output: Output, at: &InRepository) -> Result<ExitCode, Failure> {
    let (folder, ledger) = (folder(at)?, known(at)?);
    let files = folder.files().map_err(|error| failed(output, error))?;
    let mut rows = Vec::new();
    for (version, path) in files.named {
        let status = status(ledger.as_ref(), &version);
        let (said, row) = match Generation::open(&path) {
            Ok(read) => (
                format!(
                    "{:>3} changes  {}",
                    read.changes.len(),
                    read.description.lines().next().unwrap_or_default()
                ),
                json!({
                    "version": version, "status": status, "changes": read.changes.len(), "contract": read.digest(),
                    "description": read.description,
                }),
            ),
            Err(error) => {
                let said = format!("{error}; see `estoppel generation lint`");
                (said.clone(), json!({ "version": version, "status": status, "error": said }))
            }
        };
        output.line(&format!("{:<12} {} {}", version.tag(), painted(output, status), plain(&said)));
        rows.push(row);
    }
    if rows.is_empty() {
        output.line("no generations; `estoppel generation new VERSION` begins one");
    }
    Ok(output.data(&json!({ "generations": rows })))
}

fn show(output: Output, version: &Version, at: &InRepository) -> Result<ExitCode, Failure> {
    let (folder, ledger) = (folder(at)?, known(at)?);
    let sealed = ledger.as_ref().and_then(|ledger| ledger.contract(version)).map(|(_, sealed)| sealed);
    let file = folder.file(version);
    let read = match (&file, sealed) {
        (Ok(path), _) => Generation::open(path).map_err(|error| failed(output, error))?,
        (Err(FolderError::Unknown { .. }), Some(sealed)) => {
            Generation::from_document(sealed.document.clone())
                .map_err(|errors| refused(output, Path::new("ledger"), &errors))?
        }
        _ => return Err(file.err().map_or_else(|| unknown(version), |error| failed(output, error))),
    };
    let status = status(ledger.as_ref(), version);
    let differs = sealed.is_some_and(|sealed| sealed.contract != read.digest());
    let changes: Vec<Value> = read.changes.iter().map(|change| shown(&read, change)).collect();
    output.line(&format!("{} {}", version.tag(), painted(output, status)));
    output.line(&plain(&format!("description {}", read.description.trim_end())));
    output.line(&plain(&format!("author      {}", read.author.name)));
    output.line(&format!("contract    {}", read.digest()));
    if differs {
        output.line("note        the file is not the contract that is sealed; `estoppel generation amend` puts it in its place");
    }
    let stages: Vec<Value> =
        ledger.as_ref().map(|ledger| ledger.stages(version).map(reached).collect()).unwrap_or_default();
    for row in &stages {
        let word = |name: &str| row[name].as_str().unwrap_or_default();
        output.line(&plain(&format!(
            "{:<11} {} on {} at {}",
            word("stage"),
            word("tag"),
            word("commit"),
            word("at")
        )));
    }
    for (change, row) in read.changes.iter().zip(&changes) {
        let (kind, steps) = (change.kind, row["steps"].as_array().map_or(0, Vec::len));
        output.line(&plain(&format!("  {:<16} {kind:<7} {} ({steps} steps)", change.id, change.title)));
    }
    let data = json!({
        "version": version, "status": status, "description": read.description, "author": read.author.name,
        "contract": read.digest(), "sealed": sealed.map(|sealed| sealed.contract), "differs": differs,
        "changes": changes, "steps": read.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(),
        "gates": read.document().get("gates"), "hotfix": read.document().get("hotfix"),
        "stages": read.document().get("stages"), "reached": stages,
    });
    Ok(output.data(&data))
}

/// A stage that a commit of it came to.
fn reached((event, body): (&Event, &StagePromoted)) -> Value {
    json!({
        "stage": body.stage, "tag": body.tag, "commit": body.commit, "contract": body.contract, "at": event.at.to_string(),
        "event": event.id,
    })
}

fn unknown(version: &Version) -> Failure {
    Failure::input("GENERATION_UNKNOWN", format!("there is no generation {version}"))
}

fn shown(read: &Generation, change: &generation::Change) -> Value {
    let steps: Vec<&str> = read.steps_for(change).into_iter().map(|step| step.id.as_str()).collect();
    json!({
        "id": change.id.as_str(), "type": change.kind.as_str(), "title": change.title,
        "digest": read.change_digest(change), "steps": steps,
    })
}

fn seal(output: Output, seal: &GenerationSeal) -> Result<ExitCode, Failure> {
    let read = open(output, &folder(&seal.at)?, &seal.version)?;
    if let Some(meant) = seal.contract.filter(|meant| *meant != read.digest()) {
        let said = format!("the file of {} has the contract {}, not {meant}", read.version, read.digest());
        return Err(Refusal::new(Code::StateInvalid, said).into());
    }
    let (store, signing) = (store(&seal.at)?, Signing::of(&seal.signed)?);
    let appended = store
        .append(&signing.hand(), &mut |Known { ledger, .. }| Ok(generation::seal(ledger, &read)?.into()))?;
    output.line(&format!("sealed      {} with {} changes", read.version.tag(), read.changes.len()));
    output.line(&format!("contract    {}", read.digest()));
    output.line(&format!("event       {}", appended.event));
    Ok(output.data(&json!({ "version": read.version, "contract": read.digest(), "event": appended.event })))
}

fn amend(output: Output, amend: &GenerationReason) -> Result<ExitCode, Failure> {
    let read = open(output, &folder(&amend.at)?, &amend.version)?;
    let (store, signing, reason) = (store(&amend.at)?, Signing::of(&amend.signed)?, reason(amend)?);
    let mut amendment = Amendment::default();
    let appended = store.append(&signing.hand(), &mut |Known { ledger, .. }| {
        let (body, found) = generation::amend(ledger, &read, reason)?;
        amendment = found;
        Ok(body.into())
    })?;
    let ids = |ids: &[ChangeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (added, altered) = (ids(&amendment.added), ids(&amendment.altered));
    let (removed, kept) = (ids(&amendment.removed), ids(&amendment.kept));
    output.line(&format!("amended     {}", read.version.tag()));
    output.line(&format!("contract    {}", read.digest()));
    for (said, ids) in [("added", &added), ("to prove", &altered), ("removed", &removed), ("kept", &kept)] {
        if !ids.is_empty() {
            output.line(&format!("{said:<11} {}", ids.join(", ")));
        }
    }
    let data = json!({
        "version": read.version, "contract": read.digest(), "event": appended.event, "added": added,
        "altered": altered, "removed": removed, "kept": kept,
    });
    Ok(output.data(&data))
}

fn abandon(output: Output, abandon: &GenerationReason) -> Result<ExitCode, Failure> {
    let (store, signing, reason) = (store(&abandon.at)?, Signing::of(&abandon.signed)?, reason(abandon)?);
    let appended = store.append(&signing.hand(), &mut |Known { ledger, .. }| {
        Ok(generation::abandon(ledger, &abandon.version, reason)?.into())
    })?;
    output.line(&format!("abandoned   {}", abandon.version.tag()));
    Ok(output.data(&json!({ "version": abandon.version, "event": appended.event })))
}

/// Most characters of a reason.
const REASON_CHARS_MAX: usize = 1024;

fn reason(given: &GenerationReason) -> Result<&str, Failure> {
    let text = given.reason.trim();
    let is_said = !text.is_empty() && text.chars().count() <= REASON_CHARS_MAX && plain(text) == text;
    let message = format!("a reason has 1 to {REASON_CHARS_MAX} characters, without control characters");
    if is_said { Ok(text) } else { Err(Failure::input("ARGUMENT_INVALID", message)) }
}
