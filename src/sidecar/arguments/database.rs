//! What can be asked about the ledger as a database, and about where releases stand.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use estoppel_release::Version;

use super::InRepository;
use super::generation::version;

#[derive(Subcommand, Debug)]
pub enum DbCommand {
    /// Answers a question in SQL; nothing is ever written.
    Query {
        /// One SELECT. `estoppel db tables` says what there is.
        sql: String,
        #[command(flatten)]
        at: InRepository,
    },
    /// Counts a figure.
    Metric {
        /// Its name; `estoppel db metric` without one lists them.
        name: Option<String>,
        /// Of one version only.
        #[arg(long = "gen", value_name = "VERSION", value_parser = version)]
        only: Option<Version>,
        #[command(flatten)]
        at: InRepository,
    },
    /// Lists tables and columns.
    Tables {
        #[command(flatten)]
        at: InRepository,
    },
    /// Writes the database to a new file, for other programs.
    Write {
        /// The file (SQLite 3).
        file: PathBuf,
        #[command(flatten)]
        at: InRepository,
    },
}

#[derive(Args, Debug)]
pub struct Status {
    /// Only this version.
    #[arg(id = "of", value_name = "VERSION", value_parser = version)]
    pub version: Option<Version>,
    /// Says it again when something has changed, until it is stopped.
    #[arg(long)]
    pub watch: bool,
    /// How long to wait before it looks again.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "watch", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub every_s: u32,
    /// Tells an alert of each version of whose evolutions fewer than so many of a hundred passed; exit code 5 where there is one.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub pass_rate_min: Option<u32>,
    /// Writes figures to this file, for a textfile collector of Prometheus; it is replaced whole.
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
    #[command(flatten)]
    pub at: InRepository,
}
