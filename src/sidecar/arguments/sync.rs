//! What can be asked about this clone and the remote.

use clap::{Args, Subcommand};

use super::InRepository;

#[derive(Subcommand, Debug)]
pub enum SyncCommand {
    /// Says what this clone and the remote lack of each other, by versions; changes nothing.
    Status {
        #[command(flatten)]
        at: InRepository,
    },
    /// Takes over what the remote has.
    Pull {
        #[command(flatten)]
        at: InRepository,
    },
    /// Tells the remote what it lacks.
    Push(SyncPush),
}

#[derive(Args, Debug)]
pub struct SyncPush {
    /// Tries again until the remote takes it, with longer and longer waits.
    #[arg(long, conflicts_with = "now")]
    pub wait: bool,
    /// How often at most.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "wait", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub tries: u32,
    /// Does not keep to the wait that an earlier failure left.
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub at: InRepository,
}
