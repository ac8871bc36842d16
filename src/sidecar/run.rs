//! `estoppel run …` and `estoppel seal`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use estoppel_archive::Action;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{RunClass, SealReason};
use estoppel_evidence::time::UnixMicros;
use estoppel_journal::{CopyOf, Journal, KeyFileError, RunState, SealError, SealedRun, SystemClock};
use serde_json::{Value, json};

use crate::admin::{ask, encoded};
use crate::arguments::{BodyKeyFiles, RunCommand, Seal, Source};
use crate::custody;
use crate::output::{Failure, Output, plain};

const CLOSE: Duration = Duration::from_secs(30);

pub fn run(output: &Output, command: &RunCommand) -> Result<ExitCode, Failure> {
    match command {
        RunCommand::List(source) => list(*output, source),
        RunCommand::Show { run, source } => show(*output, run, source),
    }
}

fn runs(source: &Source) -> Result<Vec<Value>, Failure> {
    let value = match &source.journal {
        None => ask(&source.admin, "GET", "/runs")?["runs"].clone(),
        Some(_) => json!(offline(source)?.runs()),
    };
    Ok(value.as_array().cloned().unwrap_or_default())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(output: Output, source: &Source) -> Result<ExitCode, Failure> {
    let runs = runs(source)?;
    output
        .line(&format!("{:<36}  {:<8} {:<7} {:>8} {:>8}  name", "run", "class", "state", "entries", "calls"));
    runs.iter().for_each(|run| output.line(&row(run)));
    Ok(output.data(&json!({ "runs": runs })))
}

fn row(run: &Value) -> String {
    plain(&format!(
        "{:<36}  {:<8} {:<7} {:>8} {:>8}  {}",
        text(&run["id"]),
        text(&run["class"]),
        text(&run["state"]),
        run["entries"].to_string(),
        run["calls"].to_string(),
        text(&run["name"]),
    ))
}

fn show(output: Output, which: &str, source: &Source) -> Result<ExitCode, Failure> {
    let runs = runs(source)?;
    let named = runs.iter().find(|run| text(&run["id"]) == which || text(&run["name"]) == which);
    let by_class = || runs.iter().find(|run| run["name"].is_null() && text(&run["class"]) == which);
    let found = named.or_else(by_class);
    let Some(run) = found else {
        return Err(Failure::reason(Reason::RunUnknown, format!("there is no run `{which}`"))
            .hint("estoppel run list"));
    };
    if let Some(members) = run.as_object() {
        for (name, value) in members {
            let (name, shown) = shown(name, value);
            output.line(&plain(&format!("{name:<12} {shown}")));
        }
    }
    Ok(output.data(run))
}

/// A member for people: a moment as UTC time, nothing as `-`.
fn shown<'n>(name: &'n str, value: &Value) -> (&'n str, String) {
    match (name.strip_suffix("_us"), value) {
        (_, Value::Null) => (name, "-".into()),
        (_, Value::String(text)) => (name, text.clone()),
        (Some(moment), Value::Number(micros)) if micros.as_u64().is_some() => {
            (moment, UnixMicros(micros.as_u64().unwrap_or_default()).to_string())
        }
        _ => (name, value.to_string()),
    }
}

pub fn seal(output: &Output, seal: &Seal) -> Result<ExitCode, Failure> {
    let by = custody::custodian(&seal.custody)?;
    let mut sealed = match &seal.source.journal {
        None => ask(&seal.source.admin, "POST", &format!("/runs/{}/seal", encoded(&seal.run)))?,
        Some(dir) => {
            needs_no_key(dir, &seal.source.body_keys)?;
            json!(seal_offline(dir, seal)?)
        }
    };
    output.line(&plain(&format!("sealed {} ({} entries)", text(&sealed["run"]), sealed["entries"])));
    output.line(&plain(&format!("bundle {}", text(&sealed["path"]))));
    output.line(&plain(&format!("root   {}", text(&sealed["root"]))));
    if let Some(by) = by {
        let bundle = PathBuf::from(text(&sealed["path"]));
        let added = custody::record(&bundle, &by, &custody::done(Action::Sealed)).map_err(|error| {
            let what = format!("run {} was sealed", text(&sealed["run"]));
            custody::unrecorded(&what, &sealed, &bundle, &error)
        })?;
        sealed["custody"] = custody::told(*output, &bundle, added.head);
    }
    Ok(output.data(&sealed))
}

fn seal_offline(dir: &Path, seal: &Seal) -> Result<SealedRun, Failure> {
    let before = crate::bundles::of_journal(dir, usize::MAX)?;
    let was_there = |bundle: &Path| before.iter().any(|path| path.file_name() == bundle.file_name());
    let journal = offline(&seal.source)?;
    let found = journal.runs().into_iter().find(|run| {
        run.id.to_string() == seal.run
            || run.name.as_deref() == Some(&*seal.run)
            || run.class == RunClass::Ambient && run.state == RunState::Open && seal.run == "ambient"
    });
    if let Some(run) = &found {
        journal.check_body_keys(run.id).map_err(|error| not_sealed(&error))?;
    }
    let sealed = match (journal.seal_blocking(&seal.run, SealReason::Clean), found) {
        // One that a process could not write any more was written when the journal was opened.
        (Err(SealError::Done { bundle: Some(path) }), Some(run)) if !was_there(&path) => {
            journal.export(run.id).wait()
        }
        (sealed, _) => sealed,
    };
    close(&journal)?;
    sealed.map_err(|error| not_sealed(&error))
}

fn close(journal: &Journal) -> Result<(), Failure> {
    journal.close(CLOSE).map_err(|error| Failure::reason(error.reason(), error.to_string()))
}

/// Refuses before anything is written what could not be finished: a bundle holds bodies as they passed.
fn needs_no_key(journal: &Path, given: &BodyKeyFiles) -> Result<(), Failure> {
    let is_given = !given.body_key.is_empty() || given.body_key_command.is_some();
    if is_given || !estoppel_journal::stores_encrypted(journal) {
        return Ok(());
    }
    let message = "stored bodies of the journal are encrypted, and no key was given";
    Err(Failure::reason(Reason::EncryptionKey, message).hint(crate::encrypt::BODY_KEY_HINT))
}

fn not_sealed(error: &SealError) -> Failure {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    let failure = Failure::reason(error.reason(), plain(&told));
    match error.reason() {
        Reason::EncryptionKey => failure.hint(crate::encrypt::BODY_KEY_HINT),
        _ => failure,
    }
}

/// Opens the journal itself, which takes its lock: refused while a daemon runs.
fn offline(source: &Source) -> Result<Journal, Failure> {
    let dir = source.journal.clone().unwrap_or_default();
    let keys_dir = source.keys.clone().unwrap_or_else(|| dir.join("keys"));
    let keys = estoppel_journal::keys::load(&keys_dir).map_err(|error| {
        let missing = matches!(error, KeyFileError::Missing { .. }) && source.keys.is_none();
        let failure = Failure::reason(error.reason(), error.to_string());
        if missing { failure.hint("name the folder of this journal's keys with --keys DIR") } else { failure }
    })?;
    let body_keys = crate::encrypt::body_keys(&source.body_keys)?.map(Arc::new);
    let copy_of = Some(estoppel_archive::copy_of as CopyOf);
    Journal::open_offline(&dir, keys, body_keys, copy_of, Arc::new(SystemClock::new()))
        .map_err(|error| Failure::reason(error.reason(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_utc_and_nothing_as_a_dash() {
        assert_eq!(shown("bundle", &Value::Null), ("bundle", "-".into()));
        assert_eq!(shown("opened_us", &json!(1_500_000)), ("opened", "1970-01-01T00:00:01.500000Z".into()));
        assert_eq!(shown("calls", &json!(3)), ("calls", "3".into()));
        assert_eq!(shown("name", &json!("a")), ("name", "a".into()));
    }

    #[test]
    fn what_a_run_is_called_cannot_draw_on_the_terminal() {
        let row = row(&json!({ "id": "1", "name": "a\u{1b}[2Jb\u{202e}c\nd" }));
        assert!(row.ends_with(r"a\u001b[2Jb\u202ec\u000ad"), "{row}");
    }
}
