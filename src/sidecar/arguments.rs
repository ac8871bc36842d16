//! What can be asked of `estoppel`.

mod archive;
mod attest;
mod audit;
mod custody;
mod dashboard;
mod database;
mod doctor;
mod gateway;
mod generation;
mod identity;
mod incident;
mod judge;
mod keys;
mod mcp;
mod notify;
mod pack;
mod policy;
mod regress;
mod release;
mod replay;
mod retention;
mod snapshot;
mod sync;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use archive::*;
pub use attest::{
    Attest, AttestCommand, AttestVerify, Beside, Bundles, ComplianceCommand, KitBuild, KitCommand, KitVerify,
    Report,
};
pub use audit::*;
pub use custody::*;
pub use dashboard::*;
pub use database::*;
pub use doctor::*;
pub use gateway::*;
pub use generation::*;
pub use identity::*;
pub use incident::*;
pub use judge::*;
pub use keys::*;
pub use mcp::*;
pub use notify::*;
pub use pack::*;
pub use policy::*;
pub use regress::*;
pub use release::*;
pub use replay::*;
pub use retention::*;
pub use snapshot::*;
pub use sync::*;
pub use verify::*;

/// Verifies, shows and explains evidence of LLM and tool calls.
///
/// Exit codes: 0 success, 1 runtime failure, 2 verification failed, 3 policy block or schema violation, 4 approval
/// required, 5 regression or drift, 6 invalid input, 7 dependency missing, 8 unsafe operation refused.
#[derive(Parser, Debug)]
#[command(name = "estoppel", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// One JSON document on standard output: {schema, ok, data | error}.
    #[arg(long, global = true)]
    pub json: bool,
    /// Says in plain words what the command does, and does nothing; `verify PATH --explain` says what the result means.
    #[arg(long, global = true)]
    pub explain: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Tries the whole thing here: a scripted model, the gateway, six calls, a sealed and verified bundle.
    Quickstart(Quickstart),
    /// Judges a bundle, a journal, a receipt or a checkpoint, offline.
    Verify(Verify),
    /// Shows what a bundle says.
    Show(Show),
    /// Says what differs between two runs, journals or database schemas.
    ///
    /// Two bundles, two journals, a bundle and a run of a journal, or two schema documents (docs/diff.md). Exit code 5 when something
    /// differs, 2 when one of them does not verify.
    Diff(Diff),
    /// Puts a run and what happened around it into one file, or judges such a file.
    ///
    /// The bundles of the window, an index, and a timeline as JSON and as a page (docs/incident.md).
    Incident(Incident),
    /// Says what sealed bundles show of a framework, signed; or judges such a statement.
    ///
    /// A statement as JSON, and copies of it for people and programs (docs/attestation.md). Exit code 2 when a bundle does not verify,
    /// or when the statement is not what the bundles give.
    Attest(Attest),
    /// Frameworks, and what evidence there is for their controls.
    #[command(subcommand)]
    Compliance(ComplianceCommand),
    /// A run in a few numbers with its Merkle root, and as a badge.
    Report(Report),
    /// Bundles, attestations and verifiers as one file for an auditor.
    #[command(subcommand)]
    Kit(KitCommand),
    /// What databases looked like around calls.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Seals a run and writes its bundle.
    Seal(Seal),
    /// Sealed files in a bucket that keeps them (S3 Object Lock).
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Who had a bundle in hand: a chained, signed list beside it.
    #[command(subcommand)]
    Custody(CustodyCommand),
    /// Lists and shows the daemon's runs.
    #[command(subcommand)]
    Run(RunCommand),
    /// Deletes stored bodies and bundles by rules, with a signed report, and keeps what is under legal hold.
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Encrypts a file, such as a bundle, under a key of its own that a key file or a program wraps.
    Encrypt(Encrypt),
    /// Decrypts a file that `estoppel encrypt` wrote. Exit code 2 for another key, and when anything of it was changed.
    Decrypt(Encrypt),
    /// Lists, shows and decides on calls that wait for people.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Holds a provider's own log against receipts, and tells the calls that went round the gateway.
    Reconcile(Reconcile),
    /// Stops calls at all gateways of a store, whatever the policy says.
    Kill(Switch),
    /// Lets calls go on that were stopped.
    Resume(Switch),
    /// Lists what is stopped.
    Switches(Admin),
    /// Recorded calls run again, and what came of it as a signed certificate.
    #[command(subcommand)]
    Replay(ReplayCommand),
    /// Makes, rotates and lists keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Who may call: API keys of the gateway's own.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// MCP servers: what is pinned of their tools.
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Checks, hashes and explains a policy.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Runs of the steps of a generation, and the candidates that come of them.
    #[command(subcommand)]
    Evolution(EvolutionCommand),
    /// Signs that the candidate of a generation may be promoted.
    Approve(Approve),
    /// Signs that a gate of a generation need not pass.
    Waive(Waive),
    /// Evaluates the gates of a generation, and makes its candidate a release where all pass.
    ///
    /// With `--explain` after the version the gates are told and nothing is written.
    Promote(Promote),
    /// Takes a promoted version back.
    Rollback(Rollback),
    /// What runs where, as the ledger was told.
    #[command(subcommand)]
    Environment(EnvironmentCommand),
    /// Begins a project from a template: a generation, a policy, and something to release.
    New(New),
    /// The contracts of versions: what changes, and what has to be shown before it is promoted.
    #[command(subcommand)]
    Generation(GenerationCommand),
    /// The signed history of releases, on a ref of the repository.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Who may seal, run, approve and promote.
    #[command(subcommand)]
    Roles(RolesCommand),
    /// Says where each generation stands.
    Status(Status),
    /// Releases, running evolutions and gateways on one screen, and what can be done about them.
    ///
    /// Without a terminal, with `NO_COLOR` or `TERM=dumb` the same as lines.
    Dashboard(Dashboard),
    /// This clone's ledger of releases and that of the remote.
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Tells others of releases: webhooks, channels, buckets.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// The ledger of releases as a database, made anew for each question.
    #[command(subcommand)]
    Db(DbCommand),
    /// The history of releases for people who audit.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Keeps recorded calls as fixtures, and judges them again by the policy of today.
    #[command(subcommand)]
    Regress(RegressCommand),
    /// Finds the fewest calls of a run that still have what it was looked at for.
    Reduce(Reduce),
    /// Judges a body or a model's answer against a contract, offline.
    Judge(Judge),
    /// Checks contracts, and tests them on bodies.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// Looks for secrets, personal data and the like in files, offline.
    ///
    /// With the built-in detectors (docs/detectors.md), by the very code that looks at traffic: the strings of a `.json` file with their
    /// places, other files as bytes. What was found is told by rule, place and length, never shown. Exit code 3 when something was.
    Detect(Detect),
    /// Checks packs of contracts, and tests them.
    #[command(subcommand)]
    Pack(PackCommand),
    /// Looks for the daemon, what is wrong with its configuration, and the tools of third-party checks.
    Doctor(Doctor),
    /// Runs the scripted upstream: a deterministic model for trying things out and for tests.
    Stub(Stub),
    /// Prints the bill of materials (CycloneDX).
    Sbom(Sbom),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual pages (roff).
    Man(Man),
}

#[derive(Args, Debug)]
pub struct Man {
    /// Command whose page is printed, as in `run show`. Default: the page of `estoppel` itself.
    pub command: Vec<String>,
    /// Writes every page into this folder instead, as `estoppel-run-show.1`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "markdown"])]
    pub all: Option<PathBuf>,
    /// Prints the reference of every command in Markdown instead.
    #[arg(long, conflicts_with = "command")]
    pub markdown: bool,
}

#[derive(Args, Debug)]
pub struct Quickstart {
    /// Folder for everything that is made. Default: a new folder under the current one.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Leaves the gateway running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args, Debug)]
pub struct Show {
    /// A `.pef.zip` or a bundle folder.
    pub bundle: PathBuf,
    /// Shows one call: its id, or its sequence number.
    #[arg(long)]
    pub call: Option<String>,
    /// Writes that call's receipt as a signed envelope (DSSE) to this file.
    #[arg(long, requires = "call", value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Folder in the repository whose ledger of releases says of which generation the run was.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Diff {
    /// The one: a `.pef.zip`, a journal folder, or a schema document.
    pub from: PathBuf,
    /// The other.
    pub to: PathBuf,
    /// Run of journals, by its id, its name or `ambient`; without it journals are compared whole.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Trust document that both are verified by.
    #[arg(long, value_name = "FILE", conflicts_with = "unverified")]
    pub trust: Option<PathBuf>,
    /// Verifies nothing, and says so in the answer.
    #[arg(long)]
    pub unverified: bool,
    /// Further paths at which values are not compared (spec/diff.md).
    #[arg(long, value_name = "FILE")]
    pub normalizers: Option<PathBuf>,
    /// Writes the document (canonical JSON) to a new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Writes a page that shows both sides to a new file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub body_keys: BodyKeyFiles,
}

#[derive(Args, Debug)]
pub struct Seal {
    /// Run id, the name that callers gave, or `ambient`.
    pub run: String,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub custody: CustodyBy,
}

#[derive(Args, Debug)]
pub struct Reconcile {
    /// The provider's log, whole: a file as its API or its console gives it.
    #[arg(long, value_name = "FILE")]
    pub provider_log: PathBuf,
    /// How the log is written.
    #[arg(long, value_enum)]
    pub format: LogFormat,
    /// Where a log in `csv` or `ndjson` has what (TOML, see docs/bypass.md).
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Journal folder with the receipts; the daemon may be running.
    #[arg(long, value_name = "DIR", required_unless_present = "bundle")]
    pub journal: Option<PathBuf>,
    /// Sealed bundle with receipts. May be given again, and beside `--journal`.
    #[arg(long, value_name = "FILE")]
    pub bundle: Vec<PathBuf>,
    /// Trust document that the evidence is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Upstream that the log is of. May be left out if the receipts name only one.
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Passes over rows that are earlier (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Passes over rows that are later; give receipts the time to be written.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// How far the provider's clock and the gateway's may be apart.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub window_s: u32,
    /// Receipts that are less surely those of a row do not count.
    #[arg(long, value_enum, default_value_t = Sureness::Possible)]
    pub sure: Sureness,
    /// Has the daemon record what is found, in its instance's run, but for what the evidence has recorded already.
    #[arg(long)]
    pub record: bool,
    #[command(flatten)]
    pub admin: Admin,
}

/// How a provider's log is written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Stored completions and responses, or usage, as OpenAI's API lists them.
    Openai,
    /// Messages one by one, or the usage report of Anthropic's administrators.
    Anthropic,
    /// A table with a line of columns first.
    Csv,
    /// One JSON object on each line.
    Ndjson,
}

/// How sure a receipt is that of a row.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sureness {
    /// Both name the same request.
    Certain,
    /// The only ones with this model, these tokens and this time.
    Likely,
    /// Of several with them.
    Ambiguous,
    /// Model and time fit; one of them says nothing of tokens.
    Possible,
}

/// Where runs are looked up.
#[derive(Args, Debug)]
pub struct Source {
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
    /// Journal folder, when no daemon is running.
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Key folder for `--journal`. Default: `keys` in the journal folder.
    #[arg(long, requires = "journal")]
    pub keys: Option<PathBuf>,
    #[command(flatten)]
    pub body_keys: BodyKeyFiles,
}

#[derive(Args, Debug)]
pub struct Disclose {
    /// The `.pef.zip` of the run.
    pub bundle: PathBuf,
    /// The call, by id or sequence number; not with `--scope run`.
    #[arg(long)]
    pub call: Option<String>,
    /// What the key opens.
    #[arg(long, value_enum, default_value_t = Scope::Events)]
    pub scope: Scope,
    /// Where the key is written, readable by you only. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Folder of the keys.
    #[arg(long, default_value = "keys")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub given: CustodyTo,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The events of one call's stream: the least by which one can be proven.
    Events,
    /// One call: its events, and its bodies.
    Call,
    /// The whole run: everything that was captured of it.
    Run,
}

#[derive(Args, Debug)]
pub struct Detect {
    /// Files; `-` is standard input.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Only this detector: secrets, pii, unicode, ssrf, exfiltration, injection, poisoning. May be given again.
    #[arg(long)]
    pub detector: Vec<String>,
    /// Only what is at least so sure: low, medium, high. Default: low.
    #[arg(long)]
    pub min_confidence: Option<String>,
}

#[derive(Args, Debug)]
pub struct Sbom {
    /// Another Cargo.lock of this project. Default: the one that this program was built from.
    #[arg(long)]
    pub lockfile: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Stub {
    /// Address to listen on; loopback only.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: std::net::SocketAddr,
    /// Script (JSON). Default: the built-in model.
    #[arg(long)]
    pub script: Option<PathBuf>,
}
