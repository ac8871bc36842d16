//! A token that a program prints: the text alone, or `{"access_token": …, "expires_in": seconds}`.

use std::io::{ErrorKind, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use http::HeaderValue;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{Failed, Minted, is_token};
use crate::settings::CommandCredential;

/// Most bytes that a program may print: less than a pipe holds, so that it never waits for us.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How often a program is looked at while it runs.
const POLL: Duration = Duration::from_millis(5);
/// What it gets of our environment.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE"];

pub(super) struct Command {
    argv: Vec<String>,
    ttl: Duration,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl Command {
    pub(super) fn new(settings: &CommandCredential) -> Self {
        Self {
            argv: settings.argv.clone(),
            ttl: Duration::from_millis(settings.ttl_ms),
            timeout: Duration::from_millis(settings.timeout_ms),
        }
    }

    /// Runs the program on a thread for blocking work.
    pub(super) async fn mint(&self) -> Result<Minted, Failed> {
        let (argv, timeout, ttl) = (self.argv.clone(), self.timeout, self.ttl);
        let printed = tokio::task::spawn_blocking(move || run(&argv, timeout)).await;
        let printed = printed.map_err(|_| Failed::new("the command was abandoned"))??;
        let (token, lifetime) = match serde_json::from_slice::<Answer>(&printed) {
            Ok(answer) => (answer.access_token, answer.expires_in.map_or(ttl, Duration::from_secs)),
            // Not what it would say as JSON, with who knows what else.
            Err(_) if printed.trim_ascii_start().starts_with(b"{") => {
                return Err(Failed::new("the command printed JSON that is no answer"));
            }
            Err(_) => (String::from_utf8_lossy(&printed).trim().to_owned(), ttl),
        };
        let token = HeaderValue::from_str(&token).ok().filter(|_| is_token(&token));
        let token = token.ok_or_else(|| Failed::new("the command printed no token"))?;
        Ok(Minted { token, lifetime })
    }
}

fn run(argv: &[String], timeout: Duration) -> Result<Vec<u8>, Failed> {
    let (program, arguments) = argv.split_first().ok_or_else(|| Failed::new("there is no command"))?;
    let environment = ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let child = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| Failed::new(format!("the command does not start: {error}")))?;
    let status = ended(&mut child, timeout)?;
    if !status.success() {
        return Err(Failed::new(format!("the command ended with {status}")));
    }
    let mut printed = vec![0; ANSWER_BYTES_MAX];
    let pipe = child.stdout.as_mut().ok_or_else(|| Failed::new("the command has no output"))?;
    // It has ended, so all that it printed is in the pipe. What it has left running may hold the pipe open, and is not waited for.
    let length = ioctl_fionbio(&*pipe, true)
        .map_err(Into::into)
        .and_then(|()| pipe.read(&mut printed))
        .or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(error) })
        .map_err(|error| Failed::new(error.to_string()))?;
    printed.truncate(length);
    Ok(printed)
}

fn ended(child: &mut Child, timeout: Duration) -> Result<std::process::ExitStatus, Failed> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if start.elapsed() < timeout => std::thread::sleep(POLL),
            Ok(None) => {
                let group = Pid::from_child(child);
                let killed = kill_process_group(group, Signal::KILL).map_err(std::io::Error::from);
                let killed = killed.and_then(|()| child.wait());
                return Err(Failed::new(format!("the command took too long; killed: {}", killed.is_ok())));
            }
            Err(error) => return Err(Failed::new(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    async fn printed(script: &str) -> Result<(String, u64), String> {
        let argv = ["sh", "-c", script].map(String::from).to_vec();
        let command = Command::new(&CommandCredential { argv, ttl_ms: 7_000, timeout_ms: 10_000 });
        let minted = command.mint().await.map_err(|failed| failed.why.to_string())?;
        Ok((minted.token.to_str().unwrap().to_owned(), minted.lifetime.as_secs()))
    }

    #[tokio::test]
    async fn a_token_is_a_line_or_says_how_long_it_lives() {
        assert_eq!(printed("echo abc").await, Ok(("abc".into(), 7)));
        assert_eq!(printed(r#"echo '{"access_token":"x","expires_in":60}'"#).await, Ok(("x".into(), 60)));
        assert_eq!(printed("echo ${CARGO_PKG_NAME:-clean}").await, Ok(("clean".into(), 7)));
    }

    #[tokio::test]
    async fn what_is_no_token_is_none() {
        assert!(printed("exit 3").await.unwrap_err().contains("exit status: 3"));
        let huge = r#"echo '{"access_token":"x","expires_in":-5}'"#;
        for script in ["true", "(sleep 5; echo late) &", "echo a b", "echo '{}'; exit 1", "echo '{}'", huge] {
            assert!(printed(script).await.is_err(), "{script}");
        }
        let argv = vec!["/no/such/program".into()];
        assert!(Command::new(&CommandCredential { argv, ttl_ms: 1, timeout_ms: 1 }).mint().await.is_err());
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed() {
        let argv = ["sleep", "600"].map(String::from).to_vec();
        let command = Command::new(&CommandCredential { argv, ttl_ms: 1, timeout_ms: 20 });
        assert!(command.mint().await.is_err_and(|failed| failed.why.contains("killed: true")));
    }

    #[tokio::test]
    async fn what_it_started_is_killed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let opened = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        let mut reader = std::fs::File::from(opened.unwrap());
        let script = format!("exec 1>{}; sleep 600 & echo started; sleep 600", pipe.display());
        let argv = ["sh", "-c", &script].map(String::from).to_vec();
        let command = Command::new(&CommandCredential { argv, ttl_ms: 1, timeout_ms: 2_000 });
        assert!(command.mint().await.is_err());
        ioctl_fionbio(&reader, false).unwrap();
        let mut said = String::new();
        // Ends when nobody has the other end open any more.
        reader.read_to_string(&mut said).unwrap();
        assert!("started\n".starts_with(&said), "{said}");
    }
}
