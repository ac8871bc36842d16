//! Access keys: from the environment, a file or a program, never printed.

use std::fmt;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::ArchiveError;
use crate::settings::{CommandSettings, CredentialsFrom};

/// Most bytes that a program may print: less than a pipe holds, so that it never waits for us.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// Most bytes of a file.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// How often a program is looked at while it runs.
const POLL: Duration = Duration::from_millis(5);
/// What it gets of our environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE"];

/// An access key.
pub(crate) struct Credentials {
    pub key: String,
    pub secret: Zeroizing<String>,
    pub token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// What `credential_process` of the AWS command line prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Credentials {
    pub fn load(from: &CredentialsFrom) -> Result<Self, ArchiveError> {
        let wrong = ArchiveError::Credentials;
        if let Some(file) = &from.file {
            // A pipe would be waited for.
            let plain = estoppel_journal::storage::read_plain(file, FILE_BYTES_MAX);
            plain.map_err(|error| wrong(format!("`{}`: {error}", file.display())))?;
            let text = estoppel_journal::keys::read_secret(file).map_err(|error| wrong(error.to_string()))?;
            return read(text.as_bytes()).ok_or_else(|| wrong(format!("`{}` holds none", file.display())));
        }
        if let Some(command) = &from.command {
            let printed = run(command).map_err(wrong)?;
            return read(&printed).ok_or_else(|| wrong("the command printed none".into()));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let missing = |name: &str| wrong(format!("{name} is not set"));
        Ok(Self {
            key: variable("AWS_ACCESS_KEY_ID").ok_or_else(|| missing("AWS_ACCESS_KEY_ID"))?,
            secret: variable("AWS_SECRET_ACCESS_KEY").ok_or_else(|| missing("AWS_SECRET_ACCESS_KEY"))?.into(),
            token: variable("AWS_SESSION_TOKEN").map(Into::into),
        })
    }
}

fn read(text: &[u8]) -> Option<Credentials> {
    let printed: Printed = serde_json::from_slice(text).ok()?;
    let is_whole =
        printed.version == 1 && !printed.access_key_id.is_empty() && !printed.secret_access_key.is_empty();
    is_whole.then_some(Credentials {
        key: printed.access_key_id,
        secret: printed.secret_access_key.into(),
        token: printed.session_token.filter(|token| !token.is_empty()).map(Into::into),
    })
}

fn run(command: &CommandSettings) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = command.argv.split_first().ok_or("there is no command")?;
    let environment = ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| format!("the command does not start: {error}"))?;
    let ended = wait(&mut child, Duration::from_millis(command.timeout_ms));
    // What it has left running would hold the pipe open.
    let group = Pid::from_child(&child);
    let left = kill_process_group(group, Signal::KILL);
    let status = match ended {
        Ok(Some(status)) => status,
        ended => {
            let reaped = child.wait().is_ok() && left.is_ok();
            return Err(format!("the command did not end: {ended:?}; killed: {reaped}"));
        }
    };
    if !status.success() {
        return Err(format!("the command ended with {status}"));
    }
    let mut printed = Zeroizing::new(Vec::new());
    let pipe = child.stdout.take().ok_or("the command has no output")?;
    pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut printed).map_err(|error| error.to_string())?;
    Ok(printed)
}

fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            None if start.elapsed() < timeout => std::thread::sleep(POLL),
            ended => return Ok(ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str =
        r#"{"Version":1,"AccessKeyId":"id","SecretAccessKey":"s3cret","SessionToken":"t0ken"}"#;

    fn command(script: &str, timeout_ms: u64) -> CredentialsFrom {
        let argv = ["sh", "-c", script].map(String::from).to_vec();
        CredentialsFrom { file: None, command: Some(CommandSettings { argv, timeout_ms }) }
    }

    #[test]
    fn a_file_is_read_if_it_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        let from = CredentialsFrom { file: Some(path.clone()), command: None };
        for (text, mode, good) in
            [(GOOD, 0o600, true), (GOOD, 0o640, false), ("{}", 0o600, false), ("", 0o600, false)]
        {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = Credentials::load(&from);
            assert_eq!(loaded.is_ok(), good, "{text} {mode:o}");
            assert!(!format!("{loaded:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_program_prints_them_and_what_it_prints_is_not_repeated() {
        let loaded = Credentials::load(&command(&format!("echo '{GOOD}'"), 20_000)).unwrap();
        assert_eq!((loaded.key.as_str(), loaded.secret.as_str()), ("id", "s3cret"));
        assert_eq!(loaded.token.unwrap().as_str(), "t0ken");
        for script in ["echo s3cret", "exit 3", "true", "echo '{\"Version\":2,\"AccessKeyId\":\"s3cret\"}'"] {
            let error = Credentials::load(&command(script, 20_000)).unwrap_err();
            assert!(!error.to_string().contains("s3cret") && error.code() == "ARCHIVE_CREDENTIALS");
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = Credentials::load(&command("sleep 600", 20)).unwrap_err().to_string();
        assert!(error.contains("killed: true"), "{error}");
    }

    #[test]
    fn what_a_program_leaves_running_is_not_waited_for() {
        assert!(Credentials::load(&command(&format!("sleep 600 & echo '{GOOD}'"), 20_000)).is_ok());
    }
}
