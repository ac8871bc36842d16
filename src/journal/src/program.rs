//! Programs that hold keys: started anew for each question, without a shell, and killed with all that they started when they take
//! too long.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often a program is looked at while it runs.
const POLL: Duration = Duration::from_millis(1);

/// Gives `question` on standard input and takes the answer from standard output. The question is short: a pipe holds it without
/// anybody waiting. Says in words what went wrong, with the program's name.
pub(crate) fn ask(
    argv: &[String],
    question: &[u8],
    answer_max: u64,
    timeout: Duration,
) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("there is no program".into()) };
    let failed = |what: std::fmt::Arguments<'_>| format!("`{program}` {what}");
    let until = Instant::now() + timeout;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format_args!("could not be started: {error}")))?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(question),
        None => Ok(()),
    };
    let answer = child.stdout.take().map(|stdout| reader(stdout, answer_max));
    let slow = || failed(format_args!("took longer than {} ms", timeout.as_millis()));
    match wait(&mut child, until) {
        Ok(true) => {}
        Ok(false) => {
            kill_group(&child);
            let _ = child.wait(); // it ended by itself in between
            return Err(slow());
        }
        Err(what) => return Err(failed(format_args!("{what}"))),
    }
    written.map_err(|error| failed(format_args!("did not take the message: {error}")))?;
    // What it started may keep the pipe open after its end.
    let left = until.saturating_duration_since(Instant::now());
    let answer = answer.and_then(|answer| answer.recv_timeout(left).ok()).ok_or_else(|| {
        kill_group(&child);
        slow()
    })?;
    let bytes = answer.map_err(|error| failed(format_args!("could not be read: {error}")))?;
    if bytes.len() as u64 > answer_max {
        return Err(failed(format_args!("answered with more than {answer_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed(format_args!("answered what is not text")))
}

/// Reads the answer on a thread of its own, because nobody can say when it ends. A byte more than is allowed shows that it is too long.
fn reader(stdout: ChildStdout, answer_max: u64) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, answer) = channel();
    let read = move || {
        let mut bytes = Vec::new();
        let read = stdout.take(answer_max.saturating_add(1)).read_to_end(&mut bytes);
        drop(sender.send(read.map(|_| bytes))); // who asked may have left
    };
    // Without a thread there is no answer, which is told as one that did not come.
    drop(std::thread::Builder::new().name("key-program".into()).spawn(read));
    answer
}

fn kill_group(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL); // all of it has ended
    }
}

/// Waits for the end of the program; false when it takes too long.
fn wait(child: &mut Child, until: Instant) -> Result<bool, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(true),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            Ok(None) => return Ok(false),
            Err(error) => return Err(format!("could not be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(script: &str, timeout_ms: u64) -> Result<String, String> {
        let argv = ["sh", "-c", script].map(String::from);
        ask(&argv, b"question\n", 4_096, Duration::from_millis(timeout_ms))
    }

    #[test]
    fn what_a_program_leaves_behind_keeps_nobody_waiting_and_ends_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let mark = scratch.path().join("pid");
        // The pipe stays open as long as the sleep lives.
        let script = format!("sleep 600 & echo $! > {}; cat; exit 0", mark.display());
        assert!(asked(&script, 500).unwrap_err().contains("took longer"));
        let pid: u32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z"))
        };
        while is_alive() {
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn an_answer_that_is_too_long_or_no_text_is_refused() {
        assert_eq!(asked("cat", 20_000).unwrap(), "question\n");
        assert!(
            asked("read line; head -c 5000 /dev/zero | tr '\\0' a", 20_000)
                .unwrap_err()
                .contains("more than")
        );
        assert!(asked("read line; yes", 500).is_err());
        assert!(asked("read line; printf '\\377'", 20_000).unwrap_err().contains("not text"));
    }
}
