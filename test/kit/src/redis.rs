//! A real Redis on a socket in a scratch folder: no port, nothing on disk.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::require::require_real;
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running Redis. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    process: Process,
    scratch: Scratch,
    starts: u32,
}

impl RedisServer {
    /// Starts one; `None` where none is installed, see [`require_real`].
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = require_real("redis-server")?;
        let scratch = Scratch::new("redis");
        let process = run(&program, &scratch, 0);
        Some(Self { program, process, scratch, starts: 1 })
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.scratch.join("redis.sock").display())
    }

    /// SIGKILL. All that it knew is gone.
    #[track_caller]
    pub fn kill_9(&mut self) {
        self.process.kill_9();
        let _ = std::fs::remove_file(self.scratch.join("redis.sock")); // a killed one leaves it behind
    }

    /// An empty one at the same place.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill_9();
        self.process = run(&self.program, &self.scratch, self.starts);
        self.starts += 1;
    }
}

#[track_caller]
fn run(program: &PathBuf, scratch: &Scratch, number: u32) -> Process {
    let mut command = Command::new(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    command.arg(scratch.join("redis.sock")).arg("--dir").arg(scratch.path());
    let mut process = Process::start(&format!("redis-{number}"), command, scratch);
    process.wait_ready(PATIENCE, |process| process.stdout().contains("ccept connections").then_some(()));
    process
}
