//! What can be asked of `estoppel`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Tries the whole thing here: a scripted model, the gateway, three calls, a sealed and verified bundle.
    Quickstart(Quickstart),
    /// Judges a bundle, a journal, a receipt or a checkpoint, offline.
    Verify(Verify),
    /// Shows what a bundle says.
    Show(Show),
    /// Seals a run and writes its bundle.
    Seal(Seal),
    /// Lists and shows the daemon's runs.
    #[command(subcommand)]
    Run(RunCommand),
    /// Makes, rotates and lists keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Checks, hashes and explains a policy.
    #[command(subcommand)]
    Policy(PolicyCommand),
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
    /// A `.pef.zip`, a bundle folder, a journal folder, an exported receipt, or a checkpoint note.
    pub path: PathBuf,
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
    /// Key of that stream, as `estoppel keys disclose` writes it.
    #[arg(long, value_name = "FILE", requires = "stream")]
    pub disclosure: Option<PathBuf>,
    /// Place of the first unit in `--events`, counted from 0; without it they are the whole stream.
    #[arg(long, value_name = "N", requires = "stream")]
    pub place: Option<u64>,
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
}

#[derive(Args, Debug)]
pub struct Seal {
    /// Run id, the name that callers gave, or `ambient`.
    pub run: String,
    #[command(flatten)]
    pub source: Source,
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
        file: PathBuf,
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
        /// Operation, as in `openai.chat.completions` or `mcp.tools/call`.
        #[arg(long)]
        operation: Option<String>,
        /// Model that the request names.
        #[arg(long)]
        model: Option<String>,
        /// Tool that the request offers or calls. May be repeated.
        #[arg(long)]
        tool: Vec<String>,
        /// Method of the request.
        #[arg(long)]
        method: Option<String>,
        /// Proven identity.
        #[arg(long)]
        identity: Option<String>,
    },
}

#[derive(Args, Debug)]
pub struct Doctor {
    /// Configuration of the daemon.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Admin address of a running daemon, with or without `http://`.
    #[arg(long)]
    pub admin: Option<String>,
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
