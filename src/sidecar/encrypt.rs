//! `estoppel encrypt` and `estoppel decrypt`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_journal::encryption::{self, CommandHook, EncryptionError, FileHook, KeyHook};
use serde_json::json;

use crate::arguments::Encrypt;
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
    let bytes = write_new(&asked.out, |out| change(&*hook, &mut BufReader::new(from), out))?;
    output.line(&plain(&format!("{bytes} bytes {done} into {}", asked.out.display())));
    Ok(output.data(&json!({ "path": asked.out, "bytes": bytes })))
}

fn hook(asked: &Encrypt) -> Result<Box<dyn KeyHook>, Failure> {
    let unusable =
        |error: estoppel_journal::KeyFileError| Failure::reason(error.reason(), plain(&error.to_string()));
    match (&asked.key, &asked.key_command) {
        (Some(key), _) => {
            Ok(Box::new(FileHook::new(estoppel_journal::keys::load_secret(key).map_err(unusable)?)))
        }
        (None, Some(file)) => {
            let text = estoppel_journal::keys::read_secret(file).map_err(unusable)?;
            let argv: Option<Vec<String>> = serde_json::from_str(&text).ok();
            let hook =
                argv.and_then(|argv| CommandHook::new(argv, Duration::from_millis(asked.key_timeout_ms)));
            hook.map(|hook| Box::new(hook) as Box<dyn KeyHook>).ok_or_else(|| {
                let message =
                    format!("`{}` is not a list of a program and its arguments, in JSON", file.display());
                Failure::reason(Reason::KeyInvalid, plain(&message))
            })
        }
        (None, None) => Err(Failure::input("ARGUMENT_INVALID", "give --key or --key-command")),
    }
}

/// Writes a file that only the owner can read and that gets its name when it is whole and durable. What has the name already stays.
fn write_new(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, EncryptionError>,
) -> Result<u64, Failure> {
    let exists = || {
        let message = format!("`{}` exists and is not overwritten", path.display());
        Failure::reason(Reason::OutputExists, plain(&message))
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = Unfinished(path.with_file_name(name));
    let failed = |error: io::Error| {
        Failure::runtime("DISK_FAILED", plain(&format!("cannot write `{}`: {error}", path.display())))
    };
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished.0).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let bytes = write(&mut out).map_err(|error| told(&error))?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    // A rename would replace what was made in between.
    std::fs::hard_link(&unfinished.0, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => failed(error),
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(bytes)
}

fn told(error: &EncryptionError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::reason(error.reason(), plain(&format!("{error}{cause}")))
}

/// Removed in any case: whole content has its own name by then.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
