//! Programs that hold keys: started anew for each question, without a shell, and killed when they take too long.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often a program is looked at while it runs.
const POLL: Duration = Duration::from_millis(1);

/// Gives `question` on standard input and takes the answer from standard output. Both are short: a pipe holds them without
/// anybody waiting. Says in words what went wrong, with the program's name.
pub(crate) fn ask(
    argv: &[String],
    question: &[u8],
    answer_max: u64,
    timeout: Duration,
) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("there is no program".into()) };
    let failed = |what: std::fmt::Arguments<'_>| format!("`{program}` {what}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(format_args!("could not be started: {error}")))?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(question),
        None => Ok(()),
    };
    let ended = wait(&mut child, timeout);
    let mut answer = String::new();
    let read = match child.stdout.take() {
        Some(stdout) if ended.is_ok() => stdout.take(answer_max).read_to_string(&mut answer),
        _ => Ok(0),
    };
    ended.map_err(|what| failed(format_args!("{what}")))?;
    written.map_err(|error| failed(format_args!("did not take the message: {error}")))?;
    read.map_err(|error| failed(format_args!("answered what is not text: {error}")))?;
    Ok(answer)
}

/// Waits for the end of the program and kills it when it takes too long.
fn wait(child: &mut Child, timeout: Duration) -> Result<(), String> {
    let until = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait().map(drop)); // it ended by itself in between
                return Err(format!("took longer than {} ms", timeout.as_millis()));
            }
            Err(error) => return Err(format!("could not be waited for: {error}")),
        }
    }
}
