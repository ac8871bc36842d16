//! What can be asked of `estoppel`.

mod attest;
mod audit;
mod dashboard;
mod database;
mod generation;
mod notify;
mod release;
mod sync;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use estoppel_replay::database::SqlSource;
use estoppel_snapshot::TableName;

pub use attest::{
    Attest, AttestCommand, AttestVerify, Beside, Bundles, ComplianceCommand, KitBuild, KitCommand, KitVerify,
    Report,
};
pub use audit::*;
pub use dashboard::*;
pub use database::*;
pub use generation::*;
pub use notify::*;
pub use release::*;
pub use sync::*;

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
pub struct Verify {
    /// A `.pef.zip`, a bundle folder, a journal folder, an exported receipt, or a checkpoint note; or the word `tag`.
    pub path: PathBuf,
    /// After `tag`: a tag of the repository that the working folder is in, held against the release ledger.
    #[arg(value_name = "TAG")]
    pub tag: Option<String>,
    /// Trust document: the keys that you accept, from elsewhere than the evidence.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Public key (PEM) for a single receipt or checkpoint.
    #[arg(long, conflicts_with = "trust")]
    pub key: Option<PathBuf>,
    /// Origin that a checkpoint must have; refused with all else.
    #[arg(long)]
    pub origin: Option<String>,
    /// A checkpoint that you kept elsewhere; the journal must still contain what it signs. A file that is no checkpoint
    /// fails the verification (exit 2), one that cannot be read is refused (exit 6).
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// Which signatures of entries are verified.
    #[arg(long, value_enum, default_value_t = Signatures::Each)]
    pub signatures: Signatures,
    /// A call of the bundle, by id or sequence number: are `--events` the bytes that its client was streamed?
    #[arg(long, value_name = "CALL", requires_all = ["events", "disclosure"])]
    pub stream: Option<String>,
    /// The bytes of the stream as the client got them; with `--place`, those of units that follow each other.
    #[arg(long, value_name = "FILE", requires = "stream")]
    pub events: Option<PathBuf>,
    /// Key of that stream or call, as `estoppel keys disclose` writes it.
    #[arg(long, value_name = "FILE")]
    pub disclosure: Option<PathBuf>,
    /// Place of the first unit in `--events`, counted from 0; without it they are the whole stream.
    #[arg(long, value_name = "N", requires = "stream")]
    pub place: Option<u64>,
    /// A call of the bundle, by id or sequence number: is `--content` the body that is its `--part`? Takes a disclosure of scope
    /// `call` or `run`.
    #[arg(long, value_name = "CALL", requires_all = ["content", "disclosure", "part"], conflicts_with = "stream")]
    pub body: Option<String>,
    /// Which body of the call.
    #[arg(long, value_enum, requires = "body")]
    pub part: Option<BodyPart>,
    /// The body as it passed, byte for byte.
    #[arg(long, value_name = "FILE", requires = "body")]
    pub content: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPart {
    /// The request.
    Request,
    /// The answer as it came from the upstream.
    Upstream,
    /// The answer as the client was given it.
    Client,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// All.
    Each,
    /// None; authenticity rests on the checkpoint. About ten times faster.
    Checkpoint,
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

#[derive(Subcommand, Debug)]
pub enum SnapshotCommand {
    /// What changed in a database while a call was made, or between two snapshots.
    Diff(SnapshotDiff),
    /// Looks at a database as the gateway does around calls.
    Take(SnapshotTake),
}

#[derive(Args, Debug)]
pub struct SnapshotDiff {
    /// A `.pef.zip` with --call, or a snapshot's document.
    pub from: PathBuf,
    /// The document of the snapshot after it.
    #[arg(conflicts_with = "call", required_unless_present = "call")]
    pub to: Option<PathBuf>,
    /// The call: its id, or its sequence number.
    #[arg(long)]
    pub call: Option<String>,
}

#[derive(Args, Debug)]
pub struct SnapshotTake {
    /// The database, as `postgresql://user@host:port/name`; better in the environment if it has a password.
    #[arg(long, value_name = "URL", env = "ESTOPPEL_PG", hide_env_values = true)]
    pub pg: String,
    /// Certificates that the database's may be signed by (PEM). Default: the web's roots.
    #[arg(long, value_name = "FILE")]
    pub pg_ca: Option<PathBuf>,
    /// Tables of whose rows digests are taken, as `table` or `schema.table`.
    #[arg(long, value_name = "TABLE", num_args = 1..)]
    pub rows: Vec<TableName>,
    /// More rows than this, of these tables together, are not read.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, requires = "rows")]
    pub rows_max: u64,
    /// Nor more bytes of their text.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, requires = "rows")]
    pub rows_bytes_max: u64,
    /// Nor for more milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000, requires = "rows")]
    pub rows_ms: u64,
    /// Writes the document (canonical JSON) to a new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
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
#[command(args_conflicts_with_subcommands = true)]
pub struct Incident {
    /// The run: its bundle, or with `--journal` its id, its name or `ambient`.
    #[arg(long, value_name = "RUN|BUNDLE")]
    pub from: Option<PathBuf>,
    /// How long before the run and after it: a number and one of s, m, h, d.
    #[arg(long, default_value = "30m")]
    pub window: String,
    /// Journal folder; the sealed bundles of other runs within the window are taken too.
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Trust document that every bundle is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Policy of today: the run's calls are judged again by it, as `estoppel regress` does, and what comes out is put in.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Folder of packs that the policy takes contracts from.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub packs: Option<PathBuf>,
    /// New file for all of it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<IncidentCommand>,
}

#[derive(Subcommand, Debug)]
pub enum IncidentCommand {
    /// Judges such a file: every bundle, and that all else in it is what the bundles give.
    Verify {
        /// The file that `estoppel incident` wrote.
        pack: PathBuf,
        /// Trust document that every bundle is verified by.
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
pub enum ArchiveCommand {
    /// Copies what is sealed and not archived yet, and confirms each copy.
    Push(ArchiveOf),
    /// Says what is archived and what is not, by the index alone.
    Status {
        /// A journal folder, a folder of bundles, or a `.pef.zip`.
        path: PathBuf,
    },
    /// Holds index, local files and copies against one another.
    Verify(ArchiveOf),
}

#[derive(Args, Debug)]
pub struct ArchiveOf {
    /// A journal folder, a folder of bundles, or a `.pef.zip`.
    pub path: PathBuf,
    /// File (TOML) with the table `[archive]`; that of the daemon will do (docs/archive.md).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum CustodyCommand {
    /// Adds an entry to the list of a bundle, and begins the list if there is none.
    Add(CustodyAdd),
    /// Shows the list of a bundle.
    Show {
        /// A `.pef.zip`.
        bundle: PathBuf,
    },
    /// Judges the list of a bundle.
    Verify(CustodyVerify),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CustodyAction {
    /// The bundle went from one place or person to another.
    Moved,
    /// The bundle is verified here and now; what comes out is recorded.
    Verified,
    /// Somebody was given the bundle, or a key that opens a part of it.
    Disclosed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Disclosure {
    Bundle,
    Run,
    Call,
    Events,
}

#[derive(Args, Debug)]
pub struct CustodyAdd {
    /// A `.pef.zip`.
    pub bundle: PathBuf,
    /// What was done.
    #[arg(long, value_enum)]
    pub action: CustodyAction,
    /// Private key (PEM) that signs the entry. It signs no evidence of the bundle.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Who did it, in words.
    #[arg(long)]
    pub actor: String,
    /// From where it was moved.
    #[arg(long, required_if_eq("action", "moved"))]
    pub from: Option<String>,
    /// To where it was moved, or to whom it was disclosed.
    #[arg(long, required_if_eq_any([("action", "moved"), ("action", "disclosed")]))]
    pub to: Option<String>,
    /// What was disclosed.
    #[arg(long, value_enum, default_value_t = Disclosure::Bundle)]
    pub what: Disclosure,
    /// The file that was given, such as a disclosed key; its digest is recorded.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Trust document that the bundle is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// What there is to add, in words.
    #[arg(long)]
    pub note: Option<String>,
}

#[derive(Args, Debug)]
pub struct CustodyVerify {
    /// A `.pef.zip`.
    pub bundle: PathBuf,
    /// Public key (PEM) that you accept. May be repeated; without any, every key is taken at its own word.
    #[arg(long, value_name = "FILE")]
    pub signer: Vec<PathBuf>,
    /// Entry hash that the list must have (`leaf:…`). May be repeated.
    #[arg(long, value_name = "LEAF")]
    pub head: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Seal {
    /// Run id, the name that callers gave, or `ambient`.
    pub run: String,
    #[command(flatten)]
    pub source: Source,
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

#[derive(Args, Debug)]
pub struct Switch {
    /// `all`, or `route:NAME`, `tool:NAME`, `identity:NAME` or `tenant:NAME`.
    pub target: String,
    /// Why; goes into the journal.
    #[arg(long)]
    pub reason: String,
    /// Who you are; goes into the journal as you say it.
    #[arg(long)]
    pub by: String,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args, Debug)]
pub struct Admin {
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
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

/// What stored bodies of a journal are read with, where they are encrypted.
#[derive(Args, Debug)]
pub struct BodyKeyFiles {
    /// A key that stored bodies are encrypted for, as `encryption.key_file` of the gateway. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub body_key: Vec<PathBuf>,
    /// A program that unwraps such keys, as `encryption.command.argv`: a JSON list in a file that only you can read.
    #[arg(long, value_name = "FILE")]
    pub body_key_command: Option<PathBuf>,
    /// How long that program may take.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub body_key_timeout_ms: u64,
}

#[derive(Args, Debug)]
pub struct Encrypt {
    /// The file.
    pub path: PathBuf,
    /// Where the result is written, readable by you only. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The wrapping key: 64 hex digits in a file that only you can read, as `estoppel keys wrapping` makes it.
    #[arg(long, value_name = "FILE", conflicts_with = "key_command")]
    pub key: Option<PathBuf>,
    /// A program that wraps instead, as a JSON list of it and its arguments, in a file that only you can read.
    #[arg(long, value_name = "FILE")]
    pub key_command: Option<PathBuf>,
    /// How long that program may take.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub key_timeout_ms: u64,
}

/// A journal whose content is kept or deleted.
#[derive(Args, Debug)]
pub struct Kept {
    /// Journal folder.
    #[arg(long)]
    pub journal: PathBuf,
    /// Key folder. Default: `keys` in the journal folder.
    #[arg(long)]
    pub keys: Option<PathBuf>,
    /// Admin address of the daemon, asked to record what is done where it has the journal open.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
    #[command(flatten)]
    pub body_keys: BodyKeyFiles,
}

#[derive(Subcommand, Debug)]
pub enum RetentionCommand {
    /// Says what the rules let go, as a signed plan. Deletes nothing.
    Plan {
        #[command(flatten)]
        kept: Kept,
        /// The rules (TOML).
        #[arg(long)]
        rules: PathBuf,
        /// The moment as of which ages count, `2026-11-21T04:00:00.000000Z`. Default: now.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        /// Where the plan is written, for `retention apply --plan`. An existing file is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Deletes what a plan lists, or what is left of one that was begun, and reports it.
    Apply {
        #[command(flatten)]
        kept: Kept,
        /// The rules (TOML), to plan and delete at once.
        #[arg(long, conflicts_with = "plan")]
        rules: Option<PathBuf>,
        /// A plan that `retention plan --out` wrote.
        #[arg(long, value_name = "FILE")]
        plan: Option<PathBuf>,
        /// Who does it; is recorded.
        #[arg(long)]
        by: String,
    },
    /// Judges a plan, and the report that it was done.
    Verify {
        /// The signed plan.
        plan: PathBuf,
        /// The signed report.
        report: Option<PathBuf>,
        /// Trust document: the keys that you accept.
        #[arg(long)]
        trust: PathBuf,
    },
    /// Keeps runs whatever the rules say.
    #[command(subcommand)]
    Hold(LegalHoldCommand),
}

#[derive(Subcommand, Debug)]
pub enum LegalHoldCommand {
    /// Puts a run under legal hold.
    Add(LegalHold),
    /// Lets a run go from its legal hold.
    Remove(LegalHold),
    /// Lists runs under legal hold.
    List {
        /// Journal folder.
        #[arg(long)]
        journal: PathBuf,
    },
}

#[derive(Args, Debug)]
pub struct LegalHold {
    /// Id or name of the run; of a name, all runs that have it.
    pub run: String,
    #[command(flatten)]
    pub kept: Kept,
    /// Why; is recorded.
    #[arg(long)]
    pub reason: String,
    /// Who does it; is recorded.
    #[arg(long)]
    pub by: String,
}

#[derive(Subcommand, Debug)]
pub enum IdentityCommand {
    /// Makes, lists and revokes API keys.
    #[command(subcommand)]
    Key(ApiKeyCommand),
}

#[derive(Subcommand, Debug)]
pub enum ApiKeyCommand {
    /// Makes a key, puts its digest into the file and shows it once.
    New(NewApiKey),
    /// Lists the keys of a file.
    List {
        /// File of the keys.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Takes a key back.
    Revoke {
        /// Id of the key, 16 hex digits.
        id: String,
        /// File of the keys.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub struct NewApiKey {
    /// Who calls with it; what rules, controls and receipts call the identity.
    #[arg(long)]
    pub subject: String,
    /// Whose caller that is.
    #[arg(long)]
    pub tenant: Option<String>,
    /// What it is good for, where routes ask for a scope. May be repeated.
    #[arg(long)]
    pub scope: Vec<String>,
    /// Days until it ends. Default: never.
    #[arg(long, value_name = "N")]
    pub days: Option<u64>,
    /// File of the keys; made if it is missing.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum McpCommand {
    /// What servers said first of their tools.
    #[command(subcommand)]
    Pins(PinsCommand),
    /// Serves an MCP server that speaks over standard input and output as streamable HTTP.
    Bridge(Bridge),
}

#[derive(Args, Debug)]
pub struct Bridge {
    /// Address to listen on; loopback only.
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub listen: std::net::SocketAddr,
    /// Path of the endpoint.
    #[arg(long, default_value = "/mcp")]
    pub path: String,
    /// Name of an environment variable that the server gets beside the usual ones. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// Most sessions at a time, each with a process of its own.
    #[arg(long, default_value_t = 16)]
    pub sessions_max: usize,
    /// The server and its arguments, after `--`; no shell is asked.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub enum PinsCommand {
    /// Lists the tools that are pinned, and definitions that were refused because they are others.
    List(Daemon),
    /// Takes a definition that was refused in the place of the pinned one; leaves a receipt.
    Accept {
        #[command(flatten)]
        tool: PinnedTool,
        /// Digest of the refused definition, as `list` shows it.
        #[arg(long)]
        definition: String,
    },
    /// Forgets a tool, so that what its server says next counts; leaves a receipt.
    Forget(PinnedTool),
}

/// A pinned tool.
#[derive(Args, Debug)]
pub struct PinnedTool {
    /// Name of the tool.
    pub tool: String,
    /// Route of its server.
    #[arg(long)]
    pub route: String,
    /// Path at which the server is asked.
    #[arg(long, default_value = "/mcp")]
    pub server: String,
    #[command(flatten)]
    pub daemon: Daemon,
}

/// A daemon that runs.
#[derive(Args, Debug)]
pub struct Daemon {
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
}

#[derive(Subcommand, Debug)]
pub enum RunCommand {
    /// Lists open and recently sealed runs.
    List(Source),
    /// Shows one run.
    Show {
        /// Run id or name.
        run: String,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Subcommand, Debug)]
pub enum HoldCommand {
    /// Lists calls that wait for people.
    List {
        /// Lists those that are over as well.
        #[arg(long)]
        all: bool,
        /// Admin address of the daemon, with or without `http://`.
        #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
        admin: String,
    },
    /// Shows one hold.
    Show {
        /// Hold id.
        hold: String,
        /// Admin address of the daemon, with or without `http://`.
        #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
        admin: String,
    },
    /// Signs that a call may pass.
    Approve(Decide),
    /// Signs that it may not.
    Deny(Decide),
}

#[derive(Args, Debug)]
pub struct Decide {
    /// Hold id.
    pub hold: String,
    /// Your private key: PKCS#8 PEM that only you can read, as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Why, for whoever reads the evidence; at most 256 characters.
    #[arg(long)]
    pub comment: Option<String>,
    /// Decides only if the hold is of this payload.
    #[arg(long, value_name = "TAG")]
    pub payload: Option<String>,
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum KeyAlgorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    P256,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum KeyUse {
    Receipt,
    Checkpoint,
    Manifest,
}

#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Makes a full set of keys. Existing keys are never overwritten.
    Init {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Algorithm of receipt and manifest keys; the checkpoint key is always Ed25519.
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::Ed25519)]
        alg: KeyAlgorithm,
    },
    /// Makes a key that wraps those of encrypted files. An existing file is never overwritten.
    Wrapping {
        /// Where the key is written, readable by you only.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Makes a new key of one use; the old public key is kept beside it. A running daemon takes it up on SIGHUP.
    Rotate {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Which key.
        #[arg(long = "use", value_enum)]
        key_use: KeyUse,
        /// Algorithm of the new key; a checkpoint key is Ed25519.
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::Ed25519)]
        alg: KeyAlgorithm,
    },
    /// Lists the keys in use and those that were replaced.
    List {
        /// Folder of the keys.
        #[arg(long, default_value = "keys")]
        dir: PathBuf,
        /// Prints a trust document for this instance (`host/name/epoch`) instead.
        #[arg(long, value_name = "INSTANCE")]
        trust: Option<String>,
    },
    /// Writes the capture key of one call or run, by which an auditor can prove what was sent.
    Disclose(Disclose),
}

#[derive(Subcommand, Debug)]
pub enum ReplayCommand {
    /// Judges the recorded bytes again, offline, by the policy that judged them.
    Run(ReplayRun),
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
    /// Makes the recorded calls of MCP tools again for real. The environment has to have `ESTOPPEL_REPLAY_LIVE` with the id of the run.
    #[arg(long, requires = "upstream", conflicts_with = "url")]
    pub live: bool,
    /// The MCP server that is called, as `http://HOST:PORT/PATH`.
    #[arg(long, value_name = "URL", requires = "live")]
    pub upstream: Option<String>,
    /// A tool that may be called; no other is.
    #[arg(long, value_name = "NAME", requires = "live")]
    pub allow_tool: Vec<String>,
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
    /// Which calls brought SQL, and where: `tool=NAME,argument=/POINTER[,result=/POINTER]`, or `operation=ID` for `tool`.
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

#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Reports everything that is wrong with a policy.
    Lint {
        /// The policy.
        #[arg(default_value = "policy.yaml")]
        file: PathBuf,
        /// Folder of the packs that it takes contracts from.
        #[arg(long, value_name = "DIR")]
        packs: Option<PathBuf>,
    },
    /// Prints the policy hash, as receipts carry it.
    Hash {
        /// The policy.
        file: PathBuf,
    },
    /// Says what a policy decides about a call, and which rules it tried. The very code that judges traffic.
    Explain {
        /// The policy.
        file: PathBuf,
        /// Route that takes the call.
        #[arg(long, default_value = "")]
        route: String,
        /// Folder of the packs that it takes contracts from.
        #[arg(long, value_name = "DIR")]
        packs: Option<PathBuf>,
        /// Operation, as in `openai.chat.completions` or `mcp.tools/call`.
        #[arg(long)]
        operation: Option<String>,
        /// Path of the request, without its query: with `--method` it says which of the route's operations it is.
        #[arg(long, requires = "method", conflicts_with = "operation")]
        path: Option<String>,
        /// Model that the request names.
        #[arg(long)]
        model: Option<String>,
        /// Tool that the request offers. May be repeated.
        #[arg(long)]
        tool: Vec<String>,
        /// Tool that is called, with the JSON text that it is called with, as `fetch={"url":"https://example.com/"}`. May be
        /// repeated.
        #[arg(long, value_name = "NAME=JSON")]
        call: Vec<String>,
        /// JSON text of the request's body.
        #[arg(long, value_name = "JSON")]
        body: Option<String>,
        /// Method of the request; `--path` needs it.
        #[arg(long)]
        method: Option<String>,
        /// Proven identity.
        #[arg(long)]
        identity: Option<String>,
        /// Tenant that it belongs to.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Prints a policy in the one layout.
    Fmt {
        /// The policy.
        file: PathBuf,
        /// Only says whether it is laid out so; exit code 5 if not.
        #[arg(long)]
        check: bool,
    },
    /// Says what differs between two policies, by setting and by rule.
    Diff {
        /// The policy as it was.
        before: PathBuf,
        /// The policy as it is.
        after: PathBuf,
    },
    /// Judges the cases beside a policy.
    Test {
        /// The policy.
        file: PathBuf,
        /// Its cases. Default: beside it, `mine.cases.yaml` for `mine.yaml`.
        cases: Option<PathBuf>,
        /// Writes the results as JUnit XML to this new file.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Says which recorded calls a policy would have decided otherwise.
    Simulate(Simulate),
    /// Lists the threats that rules may name.
    Threats,
}

#[derive(Args, Debug)]
pub struct Simulate {
    /// Sealed bundles with the calls.
    #[arg(required = true)]
    pub bundles: Vec<PathBuf>,
    /// The candidate.
    #[arg(long)]
    pub policy: PathBuf,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Trust document that the bundles are verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// A call that cannot be decided counts as a difference.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Subcommand, Debug)]
pub enum RegressCommand {
    /// Makes a fixture of a recorded call.
    Add(RegressAdd),
    /// Judges fixtures again, and compares with what was recorded.
    Run(RegressRun),
    /// Makes fixtures of what was stopped in a run, and judges them again.
    Bootstrap(RegressBootstrap),
}

#[derive(Args, Debug)]
pub struct RegressAdd {
    /// Sealed bundle with the call.
    #[arg(long, value_name = "BUNDLE")]
    pub from: PathBuf,
    /// The call, by id or sequence number.
    #[arg(long)]
    pub call: String,
    /// Name of the fixture: letters, digits, `.`, `_` and `-`. Default: the call's id.
    #[arg(long, value_parser = crate::regress::name)]
    pub name: Option<String>,
    /// What is to come out.
    #[arg(long, value_enum, default_value_t = Expect::Receipt)]
    pub expect: Expect,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub into: PathBuf,
    #[command(flatten)]
    pub vouched: Vouched,
}

/// Who vouches for the keys of a bundle.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Vouched {
    /// Trust document that the bundle is verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Takes the keys that the bundle itself names.
    #[arg(long)]
    pub self_asserted: bool,
}

/// What a fixture expects.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Verdict and reason of the receipt.
    Receipt,
    /// The receipt's verdict, for whatever reason.
    Verdict,
    /// It passes, whatever the receipt says.
    Allow,
    /// It is repaired.
    Repair,
    /// It waits for people.
    Hold,
    /// It is blocked.
    Block,
}

#[derive(Args, Debug)]
pub struct RegressRun {
    /// The policy of today.
    #[arg(long, default_value = "policy.yaml")]
    pub policy: PathBuf,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub fixtures: PathBuf,
    /// A sealed bundle, all of whose calls are judged again instead.
    #[arg(long, value_name = "FILE", conflicts_with = "fixtures")]
    pub bundle: Option<PathBuf>,
    /// Trust document: the checkpoint of each fixture has to be signed by a key of it, or the bundle's.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Writes the results as JUnit XML to this new file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// A fixture that cannot be decided counts as a difference.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Args, Debug)]
pub struct RegressBootstrap {
    /// Sealed bundle of the incident.
    pub bundle: PathBuf,
    /// A call, by id or sequence number. May be repeated. Default: every call that was blocked, held or repaired.
    #[arg(long)]
    pub call: Vec<String>,
    /// What is to come out.
    #[arg(long, value_enum, default_value_t = Expect::Receipt)]
    pub expect: Expect,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub into: PathBuf,
    #[command(flatten)]
    pub vouched: Vouched,
    /// The policy of today.
    #[arg(long, default_value = "policy.yaml")]
    pub policy: PathBuf,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Writes the results as JUnit XML to this new file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// A fixture that cannot be decided counts as a difference.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Args, Debug)]
pub struct Reduce {
    /// Sealed bundle of the run.
    pub bundle: PathBuf,
    /// What the calls that are left must still have: `final-blocked`, `finding:RULE`, or `command`, which is then asked.
    #[arg(long, value_parser = crate::reduce::predicate)]
    pub predicate: Predicate,
    #[command(flatten)]
    pub vouched: Vouched,
    /// Judges by this policy instead of the ones that judged then.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub packs: Option<PathBuf>,
    /// Writes the report, in canonical form, to this new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Most sets of calls that are asked about.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub sets_max: usize,
    /// How long the command may take each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub seconds: u64,
    /// The command and its arguments, after `--`; a file with the calls comes last. 0: they have it, 1: they do not.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What a set of calls has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// The final call of the run is in it and blocked.
    FinalBlocked,
    /// This rule of a detector holds in one of them.
    Finding(Box<str>),
    Command,
}

#[derive(Args, Debug)]
pub struct Judge {
    /// The body or the answer; `-` is standard input.
    pub file: PathBuf,
    /// Contract for a body: a file with a JSON Schema or a CSV contract; with `--policy`, the name of one of its contracts.
    #[arg(long, conflicts_with = "dialect")]
    pub contract: Option<String>,
    /// Policy that has the contract or the route.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Folder of the packs that the policy takes contracts from.
    #[arg(long, requires = "policy", value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Route of the policy: what it says of values is what is done.
    #[arg(long, requires = "policy")]
    pub route: Option<String>,
    /// Operation of the route, by its id: what it says of values is what is done. The file is judged as an answer.
    #[arg(long, requires = "route", value_name = "ID")]
    pub operation: Option<String>,
    /// How it is written. Default: by the ending of the file's name, a model's answer by its first byte.
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    pub format: Option<Written>,
    /// Judges a model's answer in this dialect.
    #[arg(long, value_enum)]
    pub dialect: Option<ModelDialect>,
    /// Request that was answered; it says what tools and text have to be.
    #[arg(long, requires = "dialect", value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// What is repaired: `none`, `r1`, or `r1+CLASS,CLASS` with further classes. Default: what the route says, else `none`.
    #[arg(long, value_parser = crate::judge::repair)]
    pub repair: Option<estoppel_policy::Repair>,
    /// When bytes leave. Default: as the route says, else `hold_structured`, of one JSON text without repair `stream_and_cut`.
    #[arg(long, value_enum)]
    pub release: Option<ReleaseMode>,
    /// Most bytes that are held back. Default: the route's `held_bytes_max`, else 262144.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub held_bytes_max: Option<u64>,
    /// Bytes that are judged at a time. The verdict does not depend on it.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub chunk: u32,
    /// Writes what a client would get to this new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How a body is written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// One JSON text.
    Json,
    /// A JSON text a line.
    Ndjson,
    /// An event stream.
    Sse,
    /// CSV.
    Csv,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum ModelDialect {
    OpenaiChat,
    OpenaiResponses,
    AnthropicMessages,
    Gemini,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum ReleaseMode {
    /// Values, units and bodies once they have passed.
    HoldStructured,
    /// Nothing before all has passed.
    HoldAll,
    /// Everything until the first violation.
    StreamAndCut,
    /// Everything; what is found is only told.
    Observe,
}

#[derive(Subcommand, Debug)]
pub enum ContractCommand {
    /// Reports everything that keeps a contract from being enforced.
    Lint {
        /// The contract: a JSON Schema or a CSV contract.
        file: PathBuf,
        /// Its language. Default: a CSV contract has `version` and `columns`.
        #[arg(long = "as", value_name = "KIND", value_enum)]
        kind: Option<Language>,
        /// Prints the digest by which receipts name it as the contract of this tool's calls, too.
        #[arg(long, value_name = "NAME")]
        tool: Option<String>,
    },
    /// Judges the bodies of fixture files, each whole and byte by byte, and compares.
    Test {
        /// Files of fixtures (YAML or JSON).
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Folder of the packs that their policies take contracts from.
        #[arg(long, value_name = "DIR")]
        packs: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
pub enum PackCommand {
    /// Reports everything that is wrong with a pack.
    Lint(PackFolder),
    /// Judges the bodies of its fixtures, and compares what became of them with its goldens, byte for byte.
    Test {
        #[command(flatten)]
        pack: PackFolder,
        /// Writes the goldens, if every case comes out as its fixtures expect.
        #[arg(long)]
        update: bool,
    },
    /// Prints what a policy says to take its contracts from it.
    Digest {
        /// Folder of the pack.
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
pub struct PackFolder {
    /// Folder of the pack.
    pub dir: PathBuf,
    /// Folder of other packs that its policies take contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
}

/// The language of a contract.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// JSON Schema.
    Json,
    /// By spec/contracts/csv.md.
    Csv,
}

#[derive(Args, Debug)]
pub struct Doctor {
    /// Configuration of the daemon.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Admin address of a running daemon, with or without `http://`.
    #[arg(long)]
    pub admin: Option<String>,
    /// A database that calls write to, as `postgresql://user@host:port/name`; better in the environment if it has a password.
    #[arg(long, value_name = "URL", env = "ESTOPPEL_PG", hide_env_values = true)]
    pub pg: Option<String>,
    /// Certificates that the database's may be signed by (PEM). Default: the web's roots.
    #[arg(long, value_name = "FILE", requires = "pg")]
    pub pg_ca: Option<PathBuf>,
    /// A table whose rows name the call that wrote them, and its column: `public.orders=call_id`; where the database writes the column itself,
    /// with the hint `:setting`, `:application_name` or `:comment`, and `:trigger` where a trigger does. May be given again.
    #[arg(long, value_name = "TABLE=COLUMN[:HINT[:trigger]]", requires = "pg", value_parser = crate::doctor::written)]
    pub written: Vec<estoppel_snapshot::Written>,
    /// Prints the SQL that an administrator of the database would run to turn each warning green.
    #[arg(long, requires = "pg")]
    pub suggest_fixes: bool,
    /// A version of Postgres at the end of its support is no reason for exit code 7.
    #[arg(long, requires = "pg")]
    pub allow_best_effort: bool,
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
