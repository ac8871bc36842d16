//! What can be asked about what is kept and for how long.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{BodyKeyFiles, CustodyBy};

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
        #[command(flatten)]
        custody: CustodyBy,
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
