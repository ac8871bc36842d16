//! A program run to its end: its input given, its output read up to a limit, its time limited.

mod group;
mod left;

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

pub(crate) use group::Group;
pub(crate) use left::Taking;
pub use left::end_what_is_left;

/// What a run is held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub time: Duration,
    /// Of standard output; of standard error as much is kept, and the rest passed over.
    pub output_bytes_max: u64,
}

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// None where a signal ended it.
    pub exit: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("it could not be started")]
    Start(#[source] io::Error),
    #[error("it was not done after {} s and was ended", time.as_secs_f32())]
    Time { time: Duration },
    #[error("it wrote more than {output_bytes_max} bytes and was ended")]
    Output { output_bytes_max: u64 },
    #[error("it could not be waited for")]
    Wait(#[source] io::Error),
}

/// Runs `command` in a process group of its own, which is ended whole where a limit is reached. Where this program is killed, it goes
/// on to its end.
pub fn run(mut command: Command, input: &[u8], limits: Limits) -> Result<Finished, ProcessError> {
    command.process_group(0);
    finish(command, input, limits, &Command::spawn, &end)
}

/// The same for what belongs to somebody else: it ends with this program, however that ends.
pub(crate) fn run_kept(command: Command, input: &[u8], limits: Limits) -> Result<Finished, ProcessError> {
    let group = Group::begin().map_err(ProcessError::Start)?;
    finish(command, input, limits, &|command| group.spawn(command), &|child| group.end(child))
}

fn finish(
    mut command: Command,
    input: &[u8],
    limits: Limits,
    spawn: &dyn Fn(&mut Command) -> io::Result<Child>,
    end: &dyn Fn(&mut Child),
) -> Result<Finished, ProcessError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command).map_err(ProcessError::Start)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // Who closes its input early has read what it wanted.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let errors = scope.spawn(move || stderr.map(|stderr| drain(stderr, limits.output_bytes_max)));
        let (told, read) = mpsc::channel();
        scope.spawn(move || told.send(stdout.map(|stdout| read_whole(stdout, limits.output_bytes_max))));
        let stdout = match read.recv_timeout(limits.time) {
            Ok(Some(Ok(Some(stdout)))) => stdout,
            Ok(Some(Ok(None))) => {
                end(&mut child);
                return Err(ProcessError::Output { output_bytes_max: limits.output_bytes_max });
            }
            Ok(Some(Err(error))) => {
                end(&mut child);
                return Err(ProcessError::Wait(error));
            }
            Ok(None) => Vec::new(),
            Err(_) => {
                end(&mut child);
                return Err(ProcessError::Time { time: limits.time });
            }
        };
        let status = child.wait().map_err(ProcessError::Wait)?;
        // What the program left running keeps neither us nor its pipes.
        end(&mut child);
        let stderr = errors.join().ok().flatten().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr).trim_end().to_owned();
        Ok(Finished { exit: status.code(), stdout, stderr })
    })
}

/// Ends the process group of `child`.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // A group that is gone already is what was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn read_whole(from: impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes)) // a length fits in 64 bits
}

fn drain(mut from: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(bytes_max).read_to_end(&mut kept);
    let _ = io::copy(&mut from, &mut io::sink());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(20), output_bytes_max: 1000 };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_errors_and_exit_are_kept_apart() {
        let done = run(shell("cat; echo no >&2; exit 3"), b"in", LIMITS).unwrap();
        assert_eq!((done.exit, done.stdout.as_slice(), done.stderr.as_str()), (Some(3), &b"in"[..], "no"));
    }

    #[test]
    fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let limits = Limits { time: Duration::from_millis(200), ..LIMITS };
        let said = run(shell("sleep 600 & sleep 600"), b"", limits).unwrap_err();
        assert!(matches!(said, ProcessError::Time { .. }), "{said}");
    }

    #[test]
    fn what_writes_without_end_is_ended() {
        let said = run(shell("yes"), b"", LIMITS).unwrap_err();
        assert!(matches!(said, ProcessError::Output { .. }), "{said}");
        assert!(run(shell("exit 0"), &[0; 1 << 20], LIMITS).is_ok());
    }
}
