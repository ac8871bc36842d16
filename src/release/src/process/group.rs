//! A process group that ends with this program, however that ends.
//!
//! A killed program ends nothing any more, and a signal at the death of a parent (`PR_SET_PDEATHSIG`) is known to one system, goes by
//! threads, and reaches the first process alone. So a *keeper* waits at a pipe whose other end only this program has: when it closes,
//! by whatever, the keeper ends the group that it leads. What leaves the group on purpose (`setsid`) is not reached, here as at
//! the end of a program.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// It says that no signal ends it before what it keeps is told, then waits. Each line that it reads is a process that it keeps: one that
/// makes itself the leader of a group is no longer in that of the keeper.
const KEEPER: &str = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU USR1 USR2 ALRM PIPE
echo
kept=
while read -r line; do kept=\"$kept -$line $line\"; done
for one in $kept; do kill -s KILL -- \"$one\"; done
kill -s KILL 0";

/// A group with its keeper. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    keeper: Child,
}

impl Group {
    /// Starts the keeper of an empty group.
    pub(crate) fn begin() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER]).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group = Self { keeper: command.spawn()? };
        let ready = group.keeper.stdout.take();
        ready.map_or(Ok(()), |mut ready| ready.read_exact(&mut [0]))?;
        Ok(group)
    }

    /// Starts a program in it.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // A process id fits.
        let mut child = command.process_group(self.keeper.id().cast_signed()).spawn()?;
        let told = self.keeper.stdin.as_ref().map_or(Ok(()), |mut told| writeln!(told, "{}", child.id()));
        told.inspect_err(|_| self.end(&mut child))?;
        Ok(child)
    }

    /// Ends the group and `child`, wherever that is now.
    pub(crate) fn end(&self, child: &mut Child) {
        // What is gone already is what was wanted. It may lead a group of its own, as under `timeout`.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(child), Signal::KILL);
        }
        let _ = kill_process_group(Pid::from_child(&self.keeper), Signal::KILL);
        let _ = child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It was not waited for, so that its number is still its own.
        let _ = kill_process_group(Pid::from_child(&self.keeper), Signal::KILL);
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// Starts a script in a group, and reads the ids that it writes on its first line.
    fn started(words: &[&str]) -> (Group, Child, Vec<i32>) {
        let group = Group::begin().unwrap();
        let mut command = Command::new(words[0]);
        let mut child = group.spawn(command.args(&words[1..]).stdout(Stdio::piped())).unwrap();
        let mut line = String::new();
        io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (group, child, line.split_whitespace().map(|id| id.parse().unwrap()).collect())
    }

    /// Waits until a process is gone or only its number is left.
    fn ends(id: i32) {
        let stat = format!("/proc/{id}/stat");
        let is_left = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while is_left() {
            std::thread::yield_now();
        }
    }

    const SCRIPT: &str = "sleep 600 & echo $$ $!; wait";

    #[test]
    fn what_is_in_it_ends_with_the_program_that_made_it() {
        for words in [
            ["sh", "-c", SCRIPT].as_slice(),
            &["sh", "-c", "trap '' TERM; kill 0; sleep 600 & echo $$ $!; wait"],
            &["timeout", "500", "sh", "-c", SCRIPT],
            &["setsid", "sh", "-c", SCRIPT],
        ] {
            let (mut group, mut child, ids) = started(words);
            // The end of the pipe that a killed program leaves.
            drop(group.keeper.stdin.take());
            assert_eq!(child.wait().unwrap().signal(), Some(9), "{words:?}");
            ids.into_iter().for_each(ends);
            assert_eq!(group.keeper.wait().unwrap().signal(), Some(9), "{words:?}");
        }
    }

    #[test]
    fn what_is_in_it_ends_where_it_is_ended_and_where_it_is_dropped() {
        for words in [["sh", "-c", SCRIPT].as_slice(), &["timeout", "500", "sh", "-c", SCRIPT]] {
            let (group, mut child, ids) = started(words);
            group.end(&mut child);
            ids.into_iter().for_each(ends);
        }
        let (group, mut child, ids) = started(&["sh", "-c", SCRIPT]);
        drop(group);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        ids.into_iter().for_each(ends);
    }
}
