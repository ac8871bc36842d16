//! What can be asked about a bundle, a journal, a receipt or a checkpoint.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::CustodyBy;

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
    #[command(flatten)]
    pub custody: CustodyBy,
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
