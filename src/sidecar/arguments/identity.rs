//! What can be asked about the keys that callers show.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
