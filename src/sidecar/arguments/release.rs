//! What can be asked about releases.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The repository, and whether others are asked.
#[derive(Args, Debug)]
pub struct InRepository {
    /// Folder in the repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub repo: PathBuf,
    /// Neither asks nor tells the remote: `estoppel.remote` of git's configuration, else the only one, else `origin`.
    #[arg(long)]
    pub local: bool,
}

/// Who signs.
#[derive(Args, Debug)]
pub struct SignedBy {
    /// Ed25519 private key that signs the event, in PKCS#8 PEM, readable by its owner only.
    #[arg(long, value_name = "FILE", env = "ESTOPPEL_RELEASE_KEY")]
    pub key: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Begins the ledger of a repository; the key gets every role.
    Init(LedgerInit),
    /// Takes over the ledger of the remote, if it begins with the event that is named.
    Join(LedgerJoin),
    /// Checks every event of the ledger, and that nothing was taken out of it.
    Verify {
        #[command(flatten)]
        at: InRepository,
    },
    /// Lists the events of the ledger.
    Show {
        #[command(flatten)]
        at: InRepository,
    },
}

#[derive(Args, Debug)]
pub struct LedgerInit {
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
    /// Whose key it is.
    #[arg(long)]
    pub name: String,
}

#[derive(Args, Debug)]
pub struct LedgerJoin {
    /// The first event of the ledger, as `estoppel ledger verify` prints it where it is trusted: `sha256:…`.
    pub genesis: String,
    #[command(flatten)]
    pub at: InRepository,
}

#[derive(Subcommand, Debug)]
pub enum RolesCommand {
    /// Lists keys, whose they are and what they may do.
    List {
        #[command(flatten)]
        at: InRepository,
    },
    /// Says what a key may do, in the place of what it could before.
    Grant(RolesGrant),
    /// Takes every role from a key.
    Revoke(RolesRevoke),
    /// Prints the keys as an allowed-signers file, for `git verify-tag`.
    Signers {
        #[command(flatten)]
        at: InRepository,
    },
}

#[derive(Args, Debug)]
pub struct RolesGrant {
    /// Ed25519 public key in PEM.
    pub public: PathBuf,
    /// Whose key it is.
    #[arg(long)]
    pub name: String,
    /// A role; several times for several.
    #[arg(long, required = true)]
    pub role: Vec<RoleName>,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleName {
    Auditor,
    Approver,
    Author,
    Owner,
    Releaser,
    Runner,
}

#[derive(Args, Debug)]
pub struct RolesRevoke {
    /// The id of the key, 64 hex digits.
    pub kid: String,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}
