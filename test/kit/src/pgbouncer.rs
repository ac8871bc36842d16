//! A real PgBouncer in front of a real PostgreSQL, on a socket in a scratch folder.

use std::time::Duration;

use crate::postgres::{PostgresServer, as_another, give_away};
use crate::process::Process;
use crate::require::require_real_with;
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running pooler. Dropping it kills it.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    scratch: Scratch,
}

impl PgBouncer {
    /// Starts one with that `pool_mode`, and one connection to the server but for `session`; `None` where none is installed.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start(server: &PostgresServer, mode: &str) -> Option<Self> {
        let installed = || std::path::Path::new(PROGRAM).is_file();
        require_real_with("pgbouncer", || installed().then_some(()).ok_or_else(|| format!("no {PROGRAM}")))?;
        let scratch = Scratch::new("pgbouncer");
        give_away(scratch.path());
        let users = scratch.write("users.txt", "\"postgres\" \"\"\n\"estoppel_replay\" \"\"\n");
        let connections = if mode == "session" { 8 } else { 1 };
        let config = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {}\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = {connections}\n",
            server.folder().display(),
            scratch.path().display(),
            users.display(),
        );
        let config = scratch.write("pgbouncer.ini", config);
        let mut command = as_another(PROGRAM.as_ref());
        command.arg(config);
        let mut process = Process::start("pgbouncer", command, &scratch);
        process.wait_ready(PATIENCE, |process| process.stderr().contains("process up").then_some(()));
        Some(Self { _process: process, scratch })
    }

    /// What clients connect to, as that user.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql:///{database}?host={}&port=6432&user={user}", self.scratch.path().display())
    }
}
