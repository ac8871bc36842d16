//! A real PostgreSQL on a socket in a scratch folder: no port, nothing synced.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::Process;
use crate::require::require_real_with;
use crate::scratch::Scratch;

/// Addresses that were given out.
static COUNTER: AtomicU32 = AtomicU32::new(0);
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Debian keeps the programs of its versions, newest last.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Where the servers of other versions are, without programs that speak to them.
const OTHERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node_modules");

/// A running server with a superuser `postgres` and a database `postgres`. Dropping it kills it.
#[derive(Debug)]
pub struct PostgresServer {
    /// The server's own.
    programs: PathBuf,
    /// What speaks to it.
    clients: PathBuf,
    process: Process,
    scratch: Scratch,
    starts: u32,
    settings: Vec<String>,
}

impl PostgresServer {
    /// Starts an empty one that takes connections over TCP, and those only over TLS, at an address of this machine that is its own: on the usual port, so
    /// that none has to be found. `identity` gives its certificate and key in PEM, for that address.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start_encrypted(identity: impl FnOnce(Ipv4Addr) -> (String, String)) -> Option<(Self, Ipv4Addr)> {
        let programs = require_real_with("postgres", find_programs)?;
        let [.., a, b, c] =
            (std::process::id() ^ COUNTER.fetch_add(1 << 16, Ordering::Relaxed)).to_be_bytes();
        let address = Ipv4Addr::new(127, a, b, c | 2);
        let (certificate, key) = identity(address);
        let scratch = initialized(&programs);
        let data = scratch.join("data");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = data.join(name);
            fs::write(&file, text).expect("the folder can be written to");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its files are ours");
            give_away(&file);
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.0/8 trust\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("the folder can be written to");
        let settings = vec![format!("listen_addresses={address}"), "ssl=on".to_owned()];
        let process = run(&programs, &scratch, 0, &settings);
        let clients = programs.clone();
        Some((Self { programs, clients, process, scratch, starts: 1, settings }, address))
    }

    /// Where its socket is.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts an empty one; `None` where none is installed, see [`crate::require_real`].
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start() -> Option<Self> {
        let programs = require_real_with("postgres", find_programs)?;
        Some(Self::start_from(programs.clone(), programs))
    }

    /// Starts an empty one of this major version.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start_version(major: u32) -> Option<Self> {
        let clients = require_real_with("postgres", find_programs)?;
        let programs = require_real_with(&format!("postgres {major}"), || find_version(major))?;
        Some(Self::start_from(programs, clients))
    }

    #[track_caller]
    fn start_from(programs: PathBuf, clients: PathBuf) -> Self {
        let scratch = initialized(&programs);
        let process = run(&programs, &scratch, 0, &[]);
        Self { programs, clients, process, scratch, starts: 1, settings: Vec::new() }
    }

    /// Another server that follows this one.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn replica(&self) -> Self {
        let scratch = Scratch::new("pg-replica");
        give_away(scratch.path());
        let mut backup = as_another(&self.clients.join("pg_basebackup"));
        backup.args([
            "--no-sync",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--username=postgres",
            "--host",
        ]);
        let out = backup.arg(self.scratch.path()).arg("--pgdata").arg(scratch.join("data")).output();
        let out = out.expect("pg_basebackup can be started");
        assert!(out.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&out.stderr));
        let process = run(&self.programs, &scratch, 0, &[]);
        let (programs, clients) = (self.programs.clone(), self.clients.clone());
        Self { programs, clients, process, scratch, starts: 1, settings: Vec::new() }
    }

    /// Locks a table against everybody, until what this gives is dropped.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    #[must_use]
    pub fn lock(&self, database: &str, table: &str) -> LockedTable {
        let mut psql = Command::new(self.clients.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url("postgres", database)]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = psql.spawn().expect("psql can be started");
        let statements = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n");
        let stdin = session.stdin.as_mut().expect("it is piped");
        stdin.write_all(statements.as_bytes()).expect("psql reads");
        let mut line = String::new();
        let mut stdout = BufReader::new(session.stdout.as_mut().expect("it is piped"));
        stdout.read_line(&mut line).expect("psql writes");
        assert_eq!(line.trim(), "locked");
        LockedTable { session }
    }

    /// What clients connect to, as that user.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql:///{database}?host={}&user={user}", self.scratch.path().display())
    }

    /// Runs statements as the superuser; gives the rows, columns separated by `|`.
    ///
    /// # Panics
    /// When the server refuses one.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(self.clients.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.url("postgres", database),
            "-c",
            statements,
        ]);
        let out = psql.output().expect("psql can be started");
        assert!(out.status.success(), "psql: {}\n{statements}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// What `pg_dump --schema-only` prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn dump(&self, database: &str) -> String {
        let mut dump = Command::new(self.clients.join("pg_dump"));
        dump.args(["--schema-only", "--dbname", &self.url("postgres", database)]);
        let out = dump.output().expect("pg_dump can be started");
        assert!(out.status.success(), "pg_dump: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// All of its processes stop where they are; what was committed is still there after
    /// [`PostgresServer::restart`]. (SIGKILL of the first one would leave the others running for a while.)
    #[track_caller]
    pub fn crash(&mut self) {
        self.process.quit();
        self.process.wait_exit(PATIENCE);
    }

    /// Starts it again on the same data as a replica of nobody, after a [`PostgresServer::crash`].
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn restart_as_replica(&mut self) {
        fs::write(self.scratch.join("data/standby.signal"), "").expect("the folder can be written to");
        self.restart();
    }

    /// Starts it again on the same data, after a [`PostgresServer::crash`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = run(&self.programs, &self.scratch, self.starts, &self.settings);
        self.starts += 1;
    }
}

/// A session that holds a lock, and lets go of it when this is dropped.
#[derive(Debug)]
pub struct LockedTable {
    session: Child,
}

impl Drop for LockedTable {
    fn drop(&mut self) {
        drop(self.session.stdin.take()); // psql ends, and its transaction with it
        let _ = self.session.wait(); // there is nothing to do about a session that cannot be waited for
    }
}

/// A scratch folder with an empty server in it.
#[track_caller]
fn initialized(programs: &Path) -> Scratch {
    let scratch = Scratch::new("pg");
    give_away(scratch.path());
    let mut initdb = as_another(&programs.join("initdb"));
    initdb.args([
        "--auth=trust",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
        "--username=postgres",
        "--pgdata",
    ]);
    let out = initdb.arg(scratch.join("data")).output().expect("initdb can be started");
    assert!(out.status.success(), "initdb: {}", String::from_utf8_lossy(&out.stderr));
    scratch
}

#[track_caller]
fn run(programs: &Path, scratch: &Scratch, number: u32, settings: &[String]) -> Process {
    let mut command = as_another(&programs.join("postgres"));
    command.arg("-D").arg(scratch.join("data")).arg("-k").arg(scratch.path());
    for setting in
        ["listen_addresses=", "fsync=off", "full_page_writes=off", "max_wal_senders=4", "wal_level=replica"]
    {
        command.args(["-c", setting]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let mut process = Process::start(&format!("postgres-{number}"), command, scratch);
    process.wait_ready(PATIENCE, |process| process.stderr().contains("ready to accept").then_some(()));
    process
}

fn find_programs() -> Result<PathBuf, String> {
    let mut found: Vec<PathBuf> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().ok_or_else(|| format!("no programs under {DEBIAN}"))
}

fn find_version(major: u32) -> Result<PathBuf, String> {
    let debian = Path::new(DEBIAN).join(major.to_string()).join("bin");
    let other = Path::new(OTHERS).join(format!("postgres-{major}/native/bin"));
    let found = [debian, other].into_iter().find(|folder| folder.join("initdb").is_file());
    found.ok_or_else(|| format!("neither under {DEBIAN} nor under {OTHERS}"))
}

/// PostgreSQL refuses to run as root.
pub(crate) fn as_another(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        let (user, group) = somebody();
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

pub(crate) fn give_away(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        let (user, group) = somebody();
        chown(folder, Some(user), Some(group)).expect("root may give folders away");
    }
}

/// The `postgres` of the system, or nobody.
fn somebody() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |line: &str| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    users.lines().find_map(numbers).unwrap_or((65_534, 65_534))
}
