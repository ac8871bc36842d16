//! What can be asked about who is told of releases.

use clap::{Args, Subcommand};

use super::{
    Command, EnvironmentCommand, EvolutionCommand, GenerationCommand, InRepository, LedgerCommand,
    RolesCommand, SyncCommand,
};

#[derive(Subcommand, Debug)]
pub enum NotifyCommand {
    /// Says what each destination was not told yet, and why; changes nothing.
    Status {
        #[command(flatten)]
        at: InRepository,
    },
    /// Tells each destination what it was not told yet.
    Send(NotifySend),
    /// Sends one message that says nothing, and says what answered; no cursor moves.
    Test(NotifyTest),
    /// Begins anew with a destination, or goes on as what the settings say of it now.
    Begin(NotifyBegin),
}

#[derive(Args, Debug)]
pub struct NotifyTest {
    /// Name of a destination; all without one.
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<String>,
    #[command(flatten)]
    pub at: InRepository,
}

#[derive(Args, Debug)]
pub struct NotifyBegin {
    /// Name of a destination.
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Goes on where it stands: it is the same receiver at another address, and is told what it was not told yet.
    #[arg(long)]
    pub go_on: bool,
    #[command(flatten)]
    pub at: InRepository,
}

#[derive(Args, Debug)]
pub struct NotifySend {
    /// Tries again until every destination was told, with longer and longer waits.
    #[arg(long, conflicts_with = "now")]
    pub wait: bool,
    /// How often at most.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "wait", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub tries: u32,
    /// Does not keep to the waits that earlier failures left.
    #[arg(long)]
    pub now: bool,
    /// Tells also what a destination did not want before.
    #[arg(long)]
    pub refused: bool,
    #[command(flatten)]
    pub at: InRepository,
}

impl Command {
    /// The repository to whose ledger this command may add.
    pub fn adds_to(&self) -> Option<&InRepository> {
        match self {
            Self::Promote(asked) => Some(&asked.at),
            Self::Approve(asked) => Some(&asked.at),
            Self::Waive(asked) => Some(&asked.at),
            Self::Rollback(asked) => Some(&asked.at),
            Self::Evolution(EvolutionCommand::Start(asked)) => Some(&asked.at),
            Self::Generation(GenerationCommand::Seal(asked)) => Some(&asked.at),
            Self::Generation(GenerationCommand::Amend(asked) | GenerationCommand::Abandon(asked)) => {
                Some(&asked.at)
            }
            Self::Ledger(LedgerCommand::Init(asked)) => Some(&asked.at),
            Self::Ledger(LedgerCommand::Join(asked)) => Some(&asked.at),
            Self::Ledger(LedgerCommand::Restore(asked)) => Some(&asked.at),
            Self::Roles(RolesCommand::Grant(asked)) => Some(&asked.at),
            Self::Roles(RolesCommand::Revoke(asked)) => Some(&asked.at),
            Self::Environment(EnvironmentCommand::Set(asked)) => Some(&asked.at),
            Self::Environment(EnvironmentCommand::Bind(asked)) => Some(&asked.at),
            Self::Sync(SyncCommand::Pull { at }) => Some(at),
            Self::Sync(SyncCommand::Push(asked)) => Some(&asked.at),
            _ => None,
        }
    }
}
