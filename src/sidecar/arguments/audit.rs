//! What auditors can ask.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use estoppel_evidence::Sha256;

use super::InRepository;
use crate::output::Failure;

#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Writes the ledger of releases for people who audit.
    Export(AuditExport),
    /// Makes an export again and says whether it is the same.
    Verify(AuditVerify),
}

#[derive(Args, Debug)]
pub struct AuditExport {
    /// How it is written.
    #[arg(long, value_enum, default_value_t = AuditFormat::Json)]
    pub format: AuditFormat,
    /// The first moment that has rows (RFC 3339); the chain is told whole.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// The first moment that has none any more (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// A new file for it, which is there when it is whole. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub at: InRepository,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFormat {
    /// Canonical JSON with the signed events; it can be verified alone.
    Json,
    /// A table whose cells no spreadsheet takes for formulas.
    Csv,
    /// One page without script.
    Html,
}

#[derive(Args, Debug)]
pub struct AuditVerify {
    /// What `estoppel audit export` wrote.
    pub file: PathBuf,
    /// The first event of the ledger that you trust, `sha256:…`; where nothing is said, the one that the repository trusts.
    #[arg(long, value_name = "DIGEST")]
    pub genesis: Option<String>,
    #[command(flatten)]
    pub at: InRepository,
}

/// The digest that an argument is.
pub fn digest(text: &str) -> Result<Sha256, Failure> {
    Sha256::parse(text)
        .ok_or_else(|| Failure::input("ARGUMENT_INVALID", "expected `sha256:` and 64 hex digits"))
}
