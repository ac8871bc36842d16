//! `estoppel encrypt` and `estoppel decrypt`.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_journal::encryption::{self, BodyKeys, CommandHook, EncryptionError, FileHook, KeyHook};
use estoppel_journal::{BodyError, KeyFileError, SystemClock};
use serde_json::json;

use crate::arguments::{BodyKeyFiles, Encrypt};
use crate::input;
use crate::output::{Failure, Output, plain};

type Change = fn(&dyn KeyHook, &mut dyn Read, &mut dyn Write) -> Result<u64, EncryptionError>;

pub fn encrypt(output: &Output, asked: &Encrypt) -> Result<ExitCode, Failure> {
    run(*output, asked, "encrypted", encryption::encrypt)
}

pub fn decrypt(output: &Output, asked: &Encrypt) -> Result<ExitCode, Failure> {
    run(*output, asked, "decrypted", encryption::decrypt)
}

fn run(output: Output, asked: &Encrypt, done: &str, change: Change) -> Result<ExitCode, Failure> {
    let hook = hook(asked)?;
    let from = input::opened(&asked.path)?;
    let bytes = input::write_new_by(&asked.out, |out| {
        change(&*hook, &mut BufReader::new(from), out).map_err(|error| told(&error))
    })?;
    output.line(&plain(&format!("{bytes} bytes {done} into {}", asked.out.display())));
    Ok(output.data(&json!({ "path": asked.out, "bytes": bytes })))
}

fn hook(asked: &Encrypt) -> Result<Box<dyn KeyHook>, Failure> {
    match (&asked.key, &asked.key_command) {
        (Some(key), _) => file(key),
        (None, Some(file)) => command(file, asked.key_timeout_ms),
        (None, None) => Err(Failure::input("ARGUMENT_INVALID", "give --key or --key-command")),
    }
}

fn unusable(error: &KeyFileError) -> Failure {
    Failure::reason(error.reason(), plain(&error.to_string()))
}

fn file(key: &Path) -> Result<Box<dyn KeyHook>, Failure> {
    let key = estoppel_journal::keys::load_secret(key).map_err(|error| unusable(&error))?;
    Ok(Box::new(FileHook::new(key)))
}

fn command(file: &Path, timeout_ms: u64) -> Result<Box<dyn KeyHook>, Failure> {
    let text = estoppel_journal::keys::read_secret(file).map_err(|error| unusable(&error))?;
    let argv: Option<Vec<String>> = serde_json::from_str(&text).ok();
    let hook = argv.and_then(|argv| CommandHook::new(argv, Duration::from_millis(timeout_ms)));
    hook.map(|hook| Box::new(hook) as Box<dyn KeyHook>).ok_or_else(|| {
        let message = format!("`{}` is not a list of a program and its arguments, in JSON", file.display());
        Failure::reason(Reason::KeyInvalid, plain(&message))
    })
}

/// What stored bodies are read with; none where no key is given.
pub fn body_keys(given: &BodyKeyFiles) -> Result<Option<BodyKeys>, Failure> {
    let mut hooks = Vec::new();
    for key in &given.body_key {
        hooks.push(file(key)?);
    }
    if let Some(program) = &given.body_key_command {
        hooks.push(command(program, given.body_key_timeout_ms)?);
    }
    let keys = || BodyKeys::to_read(hooks, Arc::new(SystemClock::new()));
    Ok((!given.body_key.is_empty() || given.body_key_command.is_some()).then(keys))
}

/// How such a body is read.
pub const BODY_KEY_HINT: &str = "--body-key and --body-key-command say what stored bodies are read with";

/// A stored body that is there and could not be read.
pub fn body_unread(error: &BodyError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let failure = Failure::reason(error.reason(), plain(&format!("{error}{cause}")));
    match error.reason() {
        Reason::EncryptionKey => failure.hint(BODY_KEY_HINT),
        _ => failure,
    }
}

fn told(error: &EncryptionError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::reason(error.reason(), plain(&format!("{error}{cause}")))
}
