//! A daemon with its journal in a scratch folder, and the scripted upstream behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use estoppel_kit::http::{Answer, Request};
use estoppel_kit::{Process, Scratch};
use estoppel_stub::{Script, Stub};
use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Policy that lets everything pass.
pub const OPEN: &str = "version: 1\nname: test\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac, disconnect: cancel }\n";

pub fn daemon_binary() -> &'static str {
    env!("CARGO_BIN_EXE_estoppeld")
}

pub fn cli_binary() -> &'static str {
    env!("CARGO_BIN_EXE_estoppel")
}

/// What a test sets up.
pub struct Setup {
    pub policy: String,
    /// Further TOML.
    pub config: String,
    /// Routes before the one that takes everything.
    pub routes: String,
    /// Keys inside `[journal]`.
    pub journal: String,
    /// Keys inside `[admin]`.
    pub admin: String,
    /// Keys inside `[[listener]]`.
    pub listener: String,
    /// Keys inside `[upstream.stub]`.
    pub upstream: String,
    /// Whether the upstream's URL is `https`.
    pub upstream_tls: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: OPEN.into(),
            config: String::new(),
            routes: String::new(),
            journal: String::new(),
            admin: String::new(),
            listener: String::new(),
            upstream: String::new(),
            upstream_tls: false,
        }
    }
}

/// A running gateway with its upstream.
pub struct World {
    pub upstream: Stub,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
    pub daemon: Process,
    pub scratch: Scratch,
    starts: u32,
}

impl World {
    pub fn new(script: Script) -> Self {
        Self::with(script, &Setup::default())
    }

    pub fn with(script: Script, setup: &Setup) -> Self {
        Self::over(Stub::spawn_thread(script).unwrap(), setup)
    }

    /// In front of an upstream that is already there.
    pub fn over(upstream: Stub, setup: &Setup) -> Self {
        let scratch = Scratch::new("world");
        write_config(&scratch, upstream.addr(), setup);
        let (daemon, gateway, admin) = start(&scratch, 0);
        Self { upstream, gateway, admin, daemon, scratch, starts: 1 }
    }

    /// Starts the daemon again on the same journal.
    pub fn restart(&mut self) {
        let (daemon, gateway, admin) = start(&self.scratch, self.starts);
        self.starts += 1;
        (self.daemon, self.gateway, self.admin) = (daemon, gateway, admin);
    }

    pub fn journal(&self) -> PathBuf {
        self.scratch.join("journal")
    }

    pub fn send(&self, request: &Request) -> Answer {
        estoppel_kit::http::send(self.gateway, request).unwrap()
    }

    /// Seals `run`, verifies the bundle, and gives its receipts.
    pub fn receipts(&self, run: &str) -> Vec<Value> {
        self.receipts_in(&self.seal(run))
    }

    /// Verifies `bundle` and gives its receipts.
    pub fn receipts_in(&self, bundle: &Path) -> Vec<Value> {
        let trust = self.journal().join("trust.json");
        let verified = cli(&["verify", path(bundle), "--trust", path(&trust)]);
        assert_eq!(verified.0, 0, "{}", verified.1);
        let shown = cli(&["show", path(bundle)]);
        let entries = shown.1["data"]["entries"].as_array().unwrap().clone();
        entries.into_iter().filter(|entry| entry["kind"] == "call").collect()
    }

    pub fn seal(&self, run: &str) -> PathBuf {
        let sealed = cli(&["seal", run, "--admin", &self.admin.to_string()]);
        assert_eq!(sealed.0, 0, "{}", sealed.1);
        PathBuf::from(sealed.1["data"]["path"].as_str().unwrap())
    }

    /// Waits until `run` has `calls` receipts.
    pub fn wait_for_calls(&self, run: &str, calls: u64) {
        estoppel_kit::until("receipts", PATIENCE, || {
            let shown = cli(&["run", "show", run, "--admin", &self.admin.to_string()]);
            (shown.1["data"]["calls"].as_u64() >= Some(calls)).then_some(())
        });
    }

    /// A number of the metrics page, by its line's beginning.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = estoppel_kit::http::get(self.admin, "/metrics").unwrap().text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.and_then(|value| value.parse().ok())
    }

    /// Waits until nothing is in flight.
    pub fn wait_until_idle(&self) {
        estoppel_kit::until("no calls in flight", PATIENCE, || {
            (self.metric("estoppel_calls_in_flight") == Some(0.0)).then_some(())
        });
    }

    /// Stops the daemon as an operator would.
    pub fn stop(&mut self) {
        self.daemon.terminate();
        let exit = self.daemon.wait_exit(PATIENCE);
        assert_eq!(exit, estoppel_kit::Exit::Code(0), "{}", self.daemon.stderr());
    }

    /// The journal as it is on disk, judged.
    pub fn check_journal(&self) -> Value {
        let (code, report) = cli(&["verify", path(&self.journal())]);
        assert_eq!(code, 0, "{report}");
        report["data"].clone()
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn write_config(scratch: &Scratch, upstream: SocketAddr, setup: &Setup) -> PathBuf {
    let policy = scratch.write("policy.yaml", &setup.policy);
    let journal = scratch.join("journal");
    let scheme = if setup.upstream_tls { "https" } else { "http" };
    let text = format!(
        "[instance]\nhost = \"localhost\"\nname = \"e2e\"\n\n[journal]\ndir = {journal:?}\n{}\n\n[keys]\ninit = true\n\n[policy]\nfile = {policy:?}\n\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{}\n\n[[listener]]\nlisten = \"127.0.0.1:0\"\n{}\n\n[upstream.stub]\nurl = \"{scheme}://{upstream}\"\n{}\n\n{}\n\
         [[route]]\nname = \"stub\"\nupstream = \"stub\"\n\n{}",
        setup.journal, setup.admin, setup.listener, setup.upstream, setup.routes, setup.config
    );
    scratch.write("estoppeld.toml", text)
}

pub fn start(scratch: &Scratch, number: u32) -> (Process, SocketAddr, SocketAddr) {
    let ready = scratch.join(format!("ready-{number}.json"));
    let mut command = Command::new(daemon_binary());
    command.arg("--config").arg(scratch.join("estoppeld.toml")).arg("--ready-file").arg(&ready);
    let mut daemon = Process::start(&format!("estoppeld-{number}"), command, scratch);
    let text = daemon.wait_ready(PATIENCE, |_| std::fs::read(&ready).ok());
    let value: Value = serde_json::from_slice(&text).unwrap();
    let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
    (daemon, address(&value["listeners"]["main"]), address(&value["admin"]))
}

/// Runs `estoppel --json …`: exit code and the answer.
pub fn cli(words: &[&str]) -> (i32, Value) {
    let done = Command::new(cli_binary()).arg("--json").args(words).output().unwrap();
    let answer = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| {
        panic!(
            "{words:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        )
    });
    (done.status.code().unwrap(), answer)
}

/// A chat completion request of run `run`.
pub fn chat(run: &str, body: &str) -> Request {
    Request::new("POST", "/v1/chat/completions")
        .header("content-type", "application/json")
        .header("estoppel-run", run)
        .body(body)
}
