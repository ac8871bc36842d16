//! What can be asked about a single value.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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

/// The language of a contract.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// JSON Schema.
    Json,
    /// By spec/contracts/csv.md.
    Csv,
}
