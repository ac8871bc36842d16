//! A program run to its end: its input given, its output read up to a limit, its time limited.

mod group;
mod left;

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) use group::Group;
pub(crate) use left::Taking;
pub use left::end_what_is_left;

/// How often it is looked whether a program that has not closed its output has ended.
const LOOK: Duration = Duration::from_millis(20);

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
    let deadline = Instant::now() + limits.time;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // What the program left may keep its pipes for ever, so that nobody waits for these threads.
    let (input, most) = (input.to_vec(), limits.output_bytes_max);
    // Who closes its input early has read what it wanted.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let errors = aside(move || stderr.map(|stderr| drain(stderr, most)));
    let output = aside(move || stdout.map(|stdout| read_whole(stdout, most)));
    let finished = follow(&mut child, limits, deadline, &output, end).and_then(|(exit, stdout)| {
        let stderr =
            errors.recv_timeout(rest(deadline)).map_err(|_| ProcessError::Time { time: limits.time })?;
        let stderr = String::from_utf8_lossy(&stderr.unwrap_or_default()).trim_end().to_owned();
        Ok(Finished { exit, stdout, stderr })
    });
    end(&mut child);
    finished
}

/// How the program ended, and what it wrote. Once it has ended, what is left of its group is.
fn follow(
    child: &mut Child,
    limits: Limits,
    deadline: Instant,
    output: &mpsc::Receiver<Option<io::Result<Option<Vec<u8>>>>>,
    end: &dyn Fn(&mut Child),
) -> Result<(Option<i32>, Vec<u8>), ProcessError> {
    let late = || ProcessError::Time { time: limits.time };
    let stdout = loop {
        match output.recv_timeout(LOOK.min(rest(deadline))) {
            Ok(Some(Ok(Some(stdout)))) => break stdout,
            Ok(Some(Ok(None))) => {
                return Err(ProcessError::Output { output_bytes_max: limits.output_bytes_max });
            }
            Ok(Some(Err(error))) => return Err(ProcessError::Wait(error)),
            Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => break Vec::new(),
            Err(mpsc::RecvTimeoutError::Timeout) if rest(deadline).is_zero() => return Err(late()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if child.try_wait().map_err(ProcessError::Wait)?.is_some() {
                    end(child);
                }
            }
        }
    };
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait().map_err(ProcessError::Wait)? {
            end(child);
            return Ok((status.code(), stdout));
        }
        if rest(deadline).is_zero() {
            return Err(late());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// What a thread of its own comes to.
fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || told.send(work()));
    heard
}

fn rest(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Ends the process group of `child`.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // A group that is gone already is what was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // It may have left its group.
    let _ = child.kill();
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

    #[test]
    fn what_holds_pipes_or_closes_them_is_held_to_the_time_too() {
        let short = Limits { time: Duration::from_secs(1), ..LIMITS };
        for script in [
            "setsid sleep 30 & echo done",
            "setsid sh -c 'exec > /dev/null; sleep 30' & echo done",
            "echo done; exec >&-; sleep 600",
            "exec 2>&-; setsid sleep 30 & sleep 600",
        ] {
            let done = run(shell(script), b"", short);
            assert!(matches!(done, Err(ProcessError::Time { .. })), "{script}: {done:?}");
            let done = run_kept(shell(script), b"", short);
            assert!(matches!(done, Err(ProcessError::Time { .. })), "{script}: {done:?}");
        }
        let done = run(shell("sleep 600 & echo done"), b"", LIMITS).unwrap();
        assert_eq!((done.exit, done.stdout.as_slice()), (Some(0), &b"done\n"[..]), "its group ends with it");
    }
}
