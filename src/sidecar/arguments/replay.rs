//! What can be asked about a run that is run again.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use estoppel_replay::database::SqlSource;
use estoppel_replay::live::{Operation, Target};

#[derive(Subcommand, Debug)]
pub enum ReplayCommand {
    /// Judges the recorded bytes again, offline, by the policy that judged them.
    Run(Box<ReplayRun>),
    /// Serves the recorded answers on loopback, for the client to run again.
    Serve(ReplayServe),
    /// Says in which call two runs of one scenario part first, and why: another model, prompt, tool's answer, policy.
    ///
    /// Exit code 0 when they are equal, 5 when they part or nobody can say, 2 when one of them does not verify.
    Compare(ReplayCompare),
    /// Judges a certificate and the bundle that it is about.
    VerifyCertificate(VerifyCertificate),
}

#[derive(Args, Debug)]
pub struct ReplayOf {
    /// The `.pef.zip` of the run.
    pub bundle: PathBuf,
    /// Trust document that the bundle is verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Private key in PEM that signs the certificate, readable by you only; none that signs evidence.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where the certificate is written. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Folder of the gateway's keys, for the capture key by which requests and bodies are known.
    #[arg(long, value_name = "DIR", conflicts_with = "disclosure")]
    pub keys: Option<PathBuf>,
    /// The capture key of this run, as `estoppel keys disclose --scope run` wrote it.
    #[arg(long, value_name = "FILE")]
    pub disclosure: Option<PathBuf>,
    /// Exit code 0 for a replay that could not do everything, as long as nothing differs.
    #[arg(long)]
    pub allow_partial: bool,
}

#[derive(Args, Debug)]
pub struct ReplayRun {
    #[command(flatten)]
    pub of: ReplayOf,
    #[command(flatten)]
    pub database: ReplayDatabase,
    #[command(flatten)]
    pub live: ReplayLive,
    /// Which values may differ, by JSON pointer: with --db of rows (`/*/COLUMN`), with --live of messages (`/result/…`).
    #[arg(long, value_name = "FILE")]
    pub normalizers: Option<PathBuf>,
    /// Policy whose `determinism` says what is tolerated, with --db and --live; otherwise each call's own in the bundle.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ReplayLive {
    /// Makes the recorded calls of MCP tools, or of the operations of a plain API, again for real. The environment has to have `ESTOPPEL_REPLAY_LIVE` with the id of the run.
    #[arg(long, requires = "upstream", conflicts_with = "url")]
    pub live: bool,
    /// What is called, as `http://HOST:PORT/PATH` or `https://…`: the MCP server, or where the plain API begins.
    #[arg(long, value_name = "URL", requires = "live")]
    pub upstream: Option<String>,
    /// Who may vouch for its certificate, in PEM; `https` needs it.
    #[arg(long, value_name = "FILE", requires = "live")]
    pub upstream_ca: Option<PathBuf>,
    /// A tool that may be called; no other is.
    #[arg(long, value_name = "NAME", requires = "live")]
    pub allow_tool: Vec<String>,
    /// An operation of a plain API that may be called, no other is: as receipts name it, or `METHOD /PATH`. Needs --keys or --disclosure.
    #[arg(long, value_name = "NAME", requires = "live", conflicts_with = "allow_tool")]
    pub allow_operation: Vec<Operation>,
    /// A path with its query, as the gateway got it, that calls of these operations may have asked for: evidence has keyed tags of them only. May be given again.
    #[arg(long, value_name = "PATH", requires = "allow_operation")]
    pub target: Vec<Target>,
    /// What is taken off the beginning of these paths, as the route of the gateway does (`strip_path`).
    #[arg(long, value_name = "PATH", requires = "allow_operation")]
    pub strip_path: Option<String>,
    /// A host that may be called though it is not this machine.
    #[arg(long, value_name = "NAME", requires = "live")]
    pub allow_host: Vec<String>,
}

#[derive(Args, Debug)]
pub struct ReplayDatabase {
    /// A PostgreSQL database, as `postgresql://…`: recorded SQL is run in a scratch schema of it, in a transaction that is rolled back.
    #[arg(
        long = "db",
        value_name = "URL",
        env = "ESTOPPEL_REPLAY_DB",
        hide_env_values = true,
        requires = "sql"
    )]
    pub url: Option<String>,
    /// Which calls brought SQL, and where: `tool=NAME,argument=/POINTER[,parameters=/POINTER][,result=/POINTER][,count=/POINTER]`, or `operation=ID` for `tool`.
    #[arg(long, value_name = "SOURCE", requires = "url")]
    pub sql: Vec<SqlSource>,
    /// The schema of the recorded database that the scratch schema is made of.
    #[arg(long, value_name = "NAME", default_value = "public")]
    pub namespace: String,
    /// The longest that one statement may take.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    pub statement_ms: u64,
    /// Who may vouch for the database's certificate, in PEM; otherwise the web's roots.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub db_ca: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ReplayServe {
    #[command(flatten)]
    pub of: ReplayOf,
    /// Where it listens; port 0 leaves the port to the system.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,
    /// Whose answers are served.
    #[arg(long, value_enum, default_value_t = ReplaySide::Client)]
    pub side: ReplaySide,
    /// Goes on after a request that nothing was recorded for, or that was recorded otherwise; the replay has failed all the same.
    #[arg(long)]
    pub lenient: bool,
    /// Which values of requests may differ, by JSON pointer.
    #[arg(long, value_name = "FILE")]
    pub normalizers: Option<PathBuf>,
    /// Policy whose `determinism` says what is tolerated; otherwise each call's own in the bundle.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Path that is put before that of each request, as a gateway in between takes it off (`strip_path` of its route).
    #[arg(long, value_name = "PATH", default_value = "")]
    pub prefix: String,
    /// Answers take the time that they took.
    #[arg(long)]
    pub timed: bool,
    /// Ends when every recorded call was asked for, or the replay is over; otherwise at SIGINT or SIGTERM.
    #[arg(long)]
    pub until_done: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaySide {
    /// What the client was given: for a client that runs without a gateway.
    Client,
    /// What came from the upstream: for a gateway that runs again.
    Upstream,
}

#[derive(Args, Debug)]
pub struct ReplayCompare {
    /// The `.pef.zip` of the one run.
    pub from: PathBuf,
    /// That of the other.
    pub to: PathBuf,
    /// Trust document that both are verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Further paths at which values are not compared (spec/diff.md).
    #[arg(long, value_name = "FILE")]
    pub normalizers: Option<PathBuf>,
    /// A path with its query, as the gateway got it, that calls may have asked for: evidence has keyed tags of them only. May be given again.
    #[arg(long, value_name = "PATH")]
    pub target: Vec<String>,
    /// Folder of the gateway's keys, by which the tags of `--target` are told; given twice, the second is the second run's.
    #[arg(long, value_name = "DIR", requires = "target", conflicts_with = "disclosure")]
    pub keys: Vec<PathBuf>,
    /// The capture key of the first run, and then that of the second, as `estoppel keys disclose --scope run` wrote them.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub disclosure: Vec<PathBuf>,
    /// Writes the document (canonical JSON) to a new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct VerifyCertificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The `.pef.zip` that was replayed.
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
    /// Trust document that the bundle is verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Public key in PEM that the certificate has to be signed by.
    #[arg(long, value_name = "FILE")]
    pub signer: Option<PathBuf>,
}
