//! A real program under test.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::poll::poll;
use crate::scratch::Scratch;

/// How much of stderr a failure text shows.
const TAIL_BYTES: usize = 4096;
/// How long `kill_9` and drop wait until the kernel has reaped the process.
const REAP_PATIENCE: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// A running program. Its stdout and stderr are files, so nothing blocks on a full pipe and the text
/// stays after the end. Dropping it kills it with SIGKILL and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    exit: Option<Exit>,
}

impl Process {
    /// Starts `command` with stdin closed and output in `scratch/NAME.stdout` and `scratch/NAME.stderr`.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    #[must_use]
    pub fn start(name: &str, mut command: Command, scratch: &Scratch) -> Self {
        let stdout = scratch.join(format!("{name}.stdout"));
        let stderr = scratch.join(format!("{name}.stderr"));
        let open = |path: &PathBuf| {
            File::create(path).unwrap_or_else(|error| panic!("could not make {}: {error}", path.display()))
        };
        command.stdin(Stdio::null()).stdout(open(&stdout)).stderr(open(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        Self { name: name.to_owned(), child, stdout, stderr, exit: None }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written to stdout so far. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// Polls `ready` until it answers.
    ///
    /// # Panics
    /// When the process ends first or `patience` is used up; the text has the tail of stderr.
    #[track_caller]
    pub fn wait_ready<T>(&mut self, patience: Duration, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        enum Seen<T> {
            Ready(T),
            Ended(Exit),
        }
        let seen = poll(patience, || {
            let ended = self.poll_exit(); // Before `ready`, so that output of a finished process still counts.
            ready(self).map(Seen::Ready).or_else(|| ended.map(Seen::Ended))
        });
        match seen {
            Some(Seen::Ready(found)) => found,
            Some(Seen::Ended(exit)) => {
                panic!("{} ended ({exit:?}) before it was ready\n{}", self.name, self.tail())
            }
            None => panic!("{} was not ready after {patience:?}\n{}", self.name, self.tail()),
        }
    }

    /// How the process ended, if it did.
    pub fn poll_exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten().map(exit_of);
        }
        self.exit
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it still runs after `patience`.
    #[track_caller]
    pub fn wait_exit(&mut self, patience: Duration) -> Exit {
        match poll(patience, || self.poll_exit()) {
            Some(exit) => exit,
            None => panic!("{} still runs after {patience:?}\n{}", self.name, self.tail()),
        }
    }

    /// SIGKILL, and waits until it is gone: nothing of the process runs after this returns.
    #[track_caller]
    pub fn kill_9(&mut self) -> Exit {
        self.signal(Signal::KILL);
        self.wait_exit(REAP_PATIENCE)
    }

    /// SIGTERM. Does not wait.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGQUIT. Does not wait.
    #[track_caller]
    pub fn quit(&mut self) {
        self.signal(Signal::QUIT);
    }

    /// SIGHUP. Does not wait.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: the process keeps its sockets and answers nothing.
    #[track_caller]
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT, after [`Process::freeze`].
    #[track_caller]
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Does nothing to a process that has ended: its id may belong to another one by now.
    #[track_caller]
    fn signal(&mut self, signal: Signal) {
        if self.poll_exit().is_some() {
            return;
        }
        let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) else {
            panic!("{} has no usable process id", self.name);
        };
        if let Err(error) = kill_process(id, signal) {
            panic!("could not send {signal:?} to {}: {error}", self.name);
        }
    }

    fn tail(&self) -> String {
        let text = self.stderr();
        let mut start = text.len().saturating_sub(TAIL_BYTES);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        format!("--- end of stderr of {} ---\n{}", self.name, &text[start..])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.poll_exit().is_none() {
            // Both can only fail when the process is already gone, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The address that follows `mark` in a program's output, up to the next white space. Only a complete
/// line counts: a half-written one could hold half a port number.
#[must_use]
pub fn address_after(mark: &str, output: &str) -> Option<SocketAddr> {
    let complete = &output[..=output.rfind('\n')?];
    let rest = &complete[complete.find(mark)? + mark.len()..];
    rest.split_whitespace().next()?.parse().ok()
}

fn text_of(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match status.code() {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(status.signal().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(scratch: &Scratch, script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("shell", command, scratch)
    }

    #[test]
    fn waits_until_the_output_says_ready() {
        let scratch = Scratch::new("process");
        let mut process = shell(&scratch, "echo listening on 127.0.0.1:4711; exec sleep 60");
        let addr = process.wait_ready(PATIENCE, |process| address_after("listening on ", &process.stdout()));
        assert_eq!(addr.port(), 4711);
        assert_eq!(process.poll_exit(), None);
        assert_eq!(process.kill_9(), Exit::Signal(9));
    }

    #[test]
    #[should_panic(
        expected = "shell ended (Code(3)) before it was ready\n--- end of stderr of shell ---\nno port"
    )]
    fn a_death_before_ready_shows_the_end_of_stderr() {
        let scratch = Scratch::new("process");
        shell(&scratch, "echo no port >&2; exit 3").wait_ready(PATIENCE, |_| None::<()>);
    }

    #[test]
    #[should_panic(expected = "was not ready after 30ms")]
    fn impatience_is_a_failure_of_its_own() {
        let scratch = Scratch::new("process");
        shell(&scratch, "exec sleep 60").wait_ready(Duration::from_millis(30), |_| None::<()>);
    }

    #[test]
    fn output_of_a_process_that_already_ended_counts_as_ready() {
        let scratch = Scratch::new("process");
        let mut process = shell(&scratch, "echo done");
        process.wait_exit(PATIENCE);
        process.wait_ready(PATIENCE, |process| process.stdout().contains("done").then_some(()));
    }

    #[test]
    fn sigterm_can_be_answered_with_an_exit_code() {
        let scratch = Scratch::new("process");
        let mut process = shell(&scratch, "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done");
        process.wait_ready(PATIENCE, |process| process.stdout().contains("up").then_some(()));
        process.terminate();
        assert_eq!(process.wait_exit(PATIENCE), Exit::Code(7));
    }

    #[test]
    fn dropping_kills_and_reaps() {
        let scratch = Scratch::new("process");
        let process = shell(&scratch, "exec sleep 60");
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(id).is_err());
    }

    #[test]
    fn half_a_line_is_not_an_address() {
        assert_eq!(address_after("on ", "listening on 127.0.0.1:80"), None);
        assert_eq!(address_after("on ", "listening on 127.0.0.1:8080 now\n"), "127.0.0.1:8080".parse().ok());
        assert_eq!(address_after("on ", "nothing here\n"), None);
    }
}
