//! `estoppel identity key …`: the file of API keys. It holds digests; a key itself is shown once and kept nowhere.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use estoppel_evidence::time::UnixMicros;
use estoppel_gateway::identity::api_keys::{self, ApiKey};
use serde_json::json;

use crate::arguments::{ApiKeyCommand, IdentityCommand, NewApiKey};
use crate::output::{Failure, Output, plain};

const DAY_US: u64 = 86_400_000_000;

pub fn run(output: &Output, command: &IdentityCommand) -> Result<ExitCode, Failure> {
    let IdentityCommand::Key(command) = command;
    match command {
        ApiKeyCommand::New(wanted) => new(*output, wanted),
        ApiKeyCommand::List { file } => list(*output, file),
        ApiKeyCommand::Revoke { id, file } => revoke(*output, id, file),
    }
}

fn new(output: Output, wanted: &NewApiKey) -> Result<ExitCode, Failure> {
    let (text, key) = ApiKey::new(random()?, &wanted.subject, wanted.tenant.as_deref());
    let expires = wanted.days.map(|days| UnixMicros(now_us().saturating_add(days.saturating_mul(DAY_US))));
    let scopes = wanted.scope.iter().map(|scope| scope.as_str().into()).collect();
    let key = ApiKey { expires, scopes, ..key };
    if let Some(problem) = key.check() {
        return Err(Failure::input("ARGUMENT_INVALID", problem));
    }
    let (mut lines, _) = read(&wanted.file, true)?;
    lines.push(line(&key)?);
    write(&wanted.file, &lines)?;
    output.note(&format!("key {} of {}; it is shown this once, keep it now", key.id, key.subject));
    output.line(&text);
    Ok(output.data(&json!({ "key": text, "id": key.id, "subject": key.subject, "expires": key.expires })))
}

fn list(output: Output, file: &Path) -> Result<ExitCode, Failure> {
    let (_, keys) = read(file, false)?;
    let now = UnixMicros(now_us());
    let mut rows = Vec::new();
    for key in &keys {
        let state = match key.expires {
            _ if key.revoked => "revoked",
            Some(expires) if expires <= now => "expired",
            _ => "taken",
        };
        let expires = key.expires.map_or("-".to_owned(), |expires| expires.to_string());
        let tenant = key.tenant.as_deref().unwrap_or("-");
        output.line(&plain(&format!("{} {state:<8} {expires:<28} {tenant:<16} {}", key.id, key.subject)));
        let ApiKey { id, subject, scopes, .. } = key;
        rows.push(json!({ "id": id, "subject": subject, "tenant": key.tenant, "scopes": scopes, "expires": key.expires, "state": state }));
    }
    Ok(output.data(&json!({ "keys": rows })))
}

fn revoke(output: Output, id: &str, file: &Path) -> Result<ExitCode, Failure> {
    let (mut lines, keys) = read(file, false)?;
    let Some(key) = keys.into_iter().find(|key| key.id == id) else {
        return Err(Failure::input("ARGUMENT_INVALID", format!("`{}` has no key `{id}`", file.display())));
    };
    let old = line(&key)?;
    let revoked = ApiKey { revoked: true, ..key };
    let new = line(&revoked)?;
    let is_it = |line: &String| serde_json::from_str::<ApiKey>(line).is_ok_and(|key| key.id == id);
    if old != new {
        lines.iter_mut().filter(|line| is_it(line)).for_each(|line| line.clone_from(&new));
        write(file, &lines)?;
    }
    output.line(&plain(&format!(
        "key {id} of {} is revoked; a running daemon sees that within a second",
        revoked.subject
    )));
    Ok(output.data(&json!({ "id": id, "subject": revoked.subject, "state": "revoked" })))
}

/// The lines of the file and the keys in it.
fn read(file: &Path, may_be_missing: bool) -> Result<(Vec<String>, Vec<ApiKey>), Failure> {
    let unusable = |problem: String| {
        Failure::input("FILE_UNREADABLE", plain(&format!("`{}`: {problem}", file.display())))
    };
    let bytes = match std::fs::read(file) {
        Err(error) if may_be_missing && error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| unusable(error.to_string()))?,
    };
    let keys = api_keys::read(&bytes).map_err(|error| unusable(error.to_string()))?;
    let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
    Ok((lines, keys))
}

fn line(key: &ApiKey) -> Result<String, Failure> {
    serde_json::to_string(key).map_err(|error| Failure::runtime("INTERNAL", error.to_string()))
}

/// Whole or not at all, with the mode that the file had; one that is new is the owner's alone.
fn write(file: &Path, lines: &[String]) -> Result<(), Failure> {
    let mode = std::fs::metadata(file).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = file.with_extension("new");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let write = || {
        let mut made = File::create(&temporary)?;
        made.set_permissions(Permissions::from_mode(mode))?;
        made.write_all(text.as_bytes())?;
        made.sync_all()?;
        std::fs::rename(&temporary, file)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        Failure::runtime("DISK_FAILED", plain(&format!("cannot write `{}`: {error}", file.display())))
    })
}

pub fn now_us() -> u64 {
    use estoppel_journal::Clock as _;
    estoppel_journal::SystemClock::new().unix_us()
}

pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(filled) if filled == N => Ok(bytes),
        _ => Err(Failure::runtime("INTERNAL", "the system gives no random numbers")),
    }
}
