//! What can be asked about what happened around a run.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
