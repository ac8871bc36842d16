//! `estoppel archive …`: sealed files in a bucket that keeps them.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use estoppel_archive::{ArchiveError, ArchiveSettings, Checked, Copied, Looked, Pushed, Target};
use estoppel_journal::SystemClock;
use serde_json::{Value, json};

use crate::arguments::{ArchiveCommand, ArchiveOf, ArchivePush};
use crate::output::{Colour, Failure, Output, plain};
use crate::{custody, input};

pub fn run(output: &Output, command: &ArchiveCommand) -> Result<ExitCode, Failure> {
    match command {
        ArchiveCommand::Push(asked) => push(*output, asked),
        ArchiveCommand::Status { path } => status(*output, path),
        ArchiveCommand::Verify(of) => verify(*output, of),
    }
}

pub fn failure(error: &ArchiveError) -> Failure {
    let (exit, retryable) = (error.exit_code(), error.is_retryable());
    let failure = Failure { exit, retryable, ..Failure::runtime(error.code(), plain(&causes(error))) };
    match error {
        ArchiveError::LockMissing { .. } => {
            failure.hint("object lock is switched on when a bucket is made; make another one")
        }
        ArchiveError::Index { .. } => {
            failure.hint("the file is left as it is; keep it, and find out who changed it")
        }
        _ => failure,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn settings(file: &Path) -> Result<ArchiveSettings, Failure> {
    let wrong = |why: &str| Failure::input("CONFIG_INVALID", plain(&format!("{}: {why}", file.display())));
    let table: toml::Table =
        input::text(file)?.parse().map_err(|error: toml::de::Error| wrong(error.message()))?;
    let archive = table.get("archive").ok_or_else(|| wrong("there is no table `[archive]`"))?;
    let settings: ArchiveSettings = archive
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| wrong(&format!("archive: {}", error.message())))?;
    match settings.check().as_slice() {
        [] => Ok(settings),
        problems => Err(wrong(&problems.join("; "))),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, ArchiveError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    runtime.block_on(work).map_err(|error| failure(&error))
}

fn push(output: Output, asked: &ArchivePush) -> Result<ExitCode, Failure> {
    let of = &asked.of;
    let target = Target::of(&of.path).map_err(|error| failure(&error))?;
    let mut settings = settings(&of.config)?;
    if let Some(by) = custody::settings(&asked.custody) {
        custody::custodian(&asked.custody)?;
        settings.custody = Some(by);
    }
    let told = |copied: &Copied| {
        let Copied { kind, name, version, retain_until, .. } = copied;
        output.line(&plain(&format!("archived    {kind} {name}, version {version}, until {retain_until}")));
    };
    let clock = Arc::new(SystemClock::new());
    let pushed = block_on(estoppel_archive::push(&target, &settings, clock, &mut Looked::default(), told))?;
    for (name, error) in &pushed.failed {
        let line = format!("FAILED      {}: {}: {}", plain(name), error.code(), plain(&causes(error)));
        output.line(&output.paint(Colour::Red, &line));
    }
    let (copied, known, failed) = (pushed.copied.len(), pushed.known, pushed.failed.len());
    output.line(&format!("{copied} archived, {known} were before, {failed} failed"));
    let exit = pushed.failed.iter().map(|(_, error)| error.exit_code()).max().unwrap_or_default();
    Ok(output.answer(&pushed_data(&pushed), exit))
}

fn pushed_data(pushed: &Pushed) -> Value {
    let copied = pushed.copied.iter().map(|copied| {
        json!({
            "kind": copied.kind, "name": copied.name, "bytes": copied.bytes, "sha256": copied.sha256, "key": copied.key,
            "version": copied.version, "retain_until": copied.retain_until, "seq": copied.seq,
        })
    });
    let failed = pushed.failed.iter().map(|(name, error)| {
        json!({ "name": name, "code": error.code(), "message": plain(&causes(error)), "retryable": error.is_retryable() })
    });
    json!({ "archived": copied.collect::<Vec<_>>(), "known": pushed.known, "failed": failed.collect::<Vec<_>>() })
}

fn status(output: Output, path: &Path) -> Result<ExitCode, Failure> {
    let target = Target::of(path).map_err(|error| failure(&error))?;
    let entries = estoppel_archive::read_entries(target.folder()).map_err(|error| failure(&error))?;
    let waiting = estoppel_archive::waiting(&target).map_err(|error| failure(&error))?;
    for entry in &entries {
        let hold = if entry.at.legal_hold { ", legal hold" } else { "" };
        let (kind, name, mode, until) = (&entry.kind, &entry.name, &entry.at.mode, &entry.at.retain_until);
        output.line(&plain(&format!("archived    {kind} {name}, {mode} until {until}{hold}")));
    }
    for file in &waiting {
        output.line(&plain(&format!("waiting     {} {}, {} bytes", file.kind, file.name, file.bytes)));
    }
    output.line(&format!("{} entries, {} files wait", entries.len(), waiting.len()));
    let head = entries.last().map(|last| format!("leaf:{}", last.leaf.hex()));
    let entries = entries.iter().map(|entry| {
        let at = &entry.at;
        json!({
            "seq": entry.seq, "ts": entry.ts, "kind": entry.kind, "name": entry.name, "endpoint": at.endpoint, "bucket": at.bucket,
            "key": at.key, "version": at.version, "bytes": at.bytes, "sha256": at.sha256, "mode": at.mode,
            "retain_until": at.retain_until, "legal_hold": at.legal_hold,
        })
    });
    let waiting =
        waiting.iter().map(|file| json!({ "kind": file.kind, "name": file.name, "bytes": file.bytes }));
    let (entries, waiting) = (entries.collect::<Vec<_>>(), waiting.collect::<Vec<_>>());
    Ok(output.data(&json!({ "entries": entries, "waiting": waiting, "head": head })))
}

fn verify(output: Output, of: &ArchiveOf) -> Result<ExitCode, Failure> {
    let target = Target::of(&of.path).map_err(|error| failure(&error))?;
    let settings = settings(&of.config)?;
    let checked = block_on(estoppel_archive::check(&target, &settings, Arc::new(SystemClock::new())))?;
    for fault in &checked.faults {
        let line = format!(
            "REFUSED     entry {} {}: {}: {}",
            fault.seq,
            plain(&fault.name),
            fault.code,
            plain(&fault.detail)
        );
        output.line(&output.paint(Colour::Red, &line));
    }
    let Checked { entries, confirmed, expired, local_absent, faults } = &checked;
    let waiting = estoppel_archive::waiting(&target).map_err(|error| failure(&error))?;
    for file in &waiting {
        output.line(&plain(&format!("no entry    {} {}", file.kind, file.name)));
    }
    output.line(&format!(
        "{entries} entries, {confirmed} copies confirmed, {expired} expired, {local_absent} local files are not there, {} local files have no entry, {} faults",
        waiting.len(),
        faults.len()
    ));
    let data = json!({
        "entries": entries, "confirmed": confirmed, "expired": expired, "local_absent": local_absent,
        "without_entry": waiting.iter().map(|file| plain(&file.name)).collect::<Vec<_>>(),
        "faults": faults.iter().map(|fault| {
            json!({ "seq": fault.seq, "name": fault.name, "code": fault.code, "detail": plain(&fault.detail) })
        }).collect::<Vec<_>>(),
    });
    match faults.first() {
        None => Ok(output.data(&data)),
        Some(first) => {
            let message = format!("entry {} `{}`: {}", first.seq, first.name, first.detail);
            Err(Failure { exit: 2, data: Some(data), ..Failure::runtime(first.code, plain(&message)) })
        }
    }
}
