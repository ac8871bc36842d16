//! The process of a server: one thread writes its input, one reads its output. Both end with it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::MESSAGE_BYTES_MAX;

/// Messages that wait for a process to read them.
const QUEUED_MAX: usize = 64;
/// How often a process is looked at that has to end.
const POLL: Duration = Duration::from_millis(10);
/// What it gets of our environment, beside what it is given by name.
const ENVIRONMENT: [&str; 8] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];

/// How a server is started. No shell is asked.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Names of further environment variables that it gets.
    pub environment: Vec<String>,
}

pub(super) struct Process {
    child: Mutex<Child>,
    input: Mutex<Option<mpsc::Sender<String>>>,
}

impl Process {
    /// Starts the server. Each line that it says is given to `said`, then none.
    pub(super) fn start(
        command: &Command,
        said: impl Fn(Option<&[u8]>) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (program, arguments) =
            command.argv.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
        let given = command.environment.iter().map(String::as_str).chain(ENVIRONMENT);
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(given.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("the process has no pipes");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (input, mut messages) = mpsc::channel::<String>(QUEUED_MAX);
        std::thread::Builder::new().name("bridge-input".into()).spawn(move || {
            while let Some(message) = messages.blocking_recv() {
                if stdin.write_all(message.as_bytes()).and_then(|()| stdin.write_all(b"\n")).is_err() {
                    break;
                }
            }
        })?;
        std::thread::Builder::new().name("bridge-output".into()).spawn(move || {
            read(stdout, &said);
            said(None);
        })?;
        Ok(Arc::new(Self { child: Mutex::new(child), input: Mutex::new(Some(input)) }))
    }

    /// Says `line` to the server.
    ///
    /// # Errors
    /// It has ended.
    pub(super) async fn say(&self, line: String) -> Result<(), &'static str> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let input = input.ok_or("the server has ended")?;
        input.send(line).await.map_err(|_| "the server has ended")
    }

    /// Closes its input, which tells it to end.
    pub(super) fn close(&self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Closes its input, and kills it if it has not ended `within`.
    pub(super) fn end(&self, within: Duration) {
        self.close();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if start.elapsed() >= within {
                let killed = child.kill().and_then(|()| child.wait());
                tracing::warn!(killed = killed.is_ok(), "the server did not end with its input");
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Reads lines. One that is too long ends it all, because what follows it cannot be told.
fn read(stdout: ChildStdout, said: &impl Fn(Option<&[u8]>)) {
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = MESSAGE_BYTES_MAX as u64 + 1;
        match lines.by_ref().take(most).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.len() > MESSAGE_BYTES_MAX => {
                tracing::error!(limit = MESSAGE_BYTES_MAX, "the server says too long a message");
                return;
            }
            Ok(_) => said(Some(line.trim_ascii())),
        }
    }
}
