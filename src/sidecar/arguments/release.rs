//! What can be asked about releases.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use estoppel_evidence::Sha256;
use estoppel_release::Version;
use estoppel_release::generation::StageName;

/// The repository, and whether others are asked.
#[derive(Args, Debug, Clone)]
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
    /// Brings events back from an export.
    Restore(LedgerRestore),
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
pub struct LedgerRestore {
    /// What `estoppel audit export` wrote as JSON.
    pub file: PathBuf,
    /// The first event of the ledger, `sha256:…`, where the repository trusts none yet.
    #[arg(long, value_name = "DIGEST")]
    pub genesis: Option<String>,
    #[command(flatten)]
    pub at: InRepository,
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

#[derive(Subcommand, Debug)]
pub enum EvolutionCommand {
    /// Runs the steps of a sealed generation on a commit; where all pass, its tag is a candidate.
    Start(EvolutionStart),
    /// Lists the evolutions of a generation, and where each change stands.
    List {
        /// The version.
        #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
        version: Version,
        #[command(flatten)]
        at: InRepository,
    },
    /// Shows an evolution, its steps, hooks and evidence.
    Show {
        /// The id of the evolution.
        evolution: String,
        #[command(flatten)]
        at: InRepository,
    },
    /// Prints the logs of an evolution that this clone ran, after their digests were compared.
    Logs {
        /// The id of the evolution.
        evolution: String,
        /// Of this step alone.
        #[arg(long)]
        step: Option<String>,
        #[command(flatten)]
        at: InRepository,
    },
}

#[derive(Args, Debug)]
pub struct EvolutionStart {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
    pub version: Version,
    /// A change that is to be proven; several times for several.
    #[arg(long, value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub change: Vec<String>,
    /// Every change, by every step: a promotion needs one such evolution at its candidate.
    #[arg(long)]
    pub all: bool,
    /// The commit that is proven.
    #[arg(long, value_name = "REVISION", default_value = "HEAD")]
    pub commit: String,
    /// How many steps run at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StageChosen {
    Alpha,
    Beta,
    Rc,
    Final,
}

impl StageChosen {
    pub fn name(self) -> StageName {
        match self {
            Self::Alpha => StageName::Alpha,
            Self::Beta => StageName::Beta,
            Self::Rc => StageName::Rc,
            Self::Final => StageName::Final,
        }
    }
}

#[derive(Args, Debug)]
pub struct Promote {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
    pub version: Version,
    /// Tag of the candidate; the last one where nothing is said.
    #[arg(long, value_name = "TAG")]
    pub candidate: Option<String>,
    /// The contract that is meant, `sha256:…`; refused where another one is in force.
    #[arg(long, value_name = "DIGEST", value_parser = contract_digest)]
    pub contract: Option<Sha256>,
    /// The stage of its contract that the candidate comes to; the release where nothing is said.
    #[arg(long, default_value = "final")]
    pub stage: StageChosen,
    /// Folder with evidence of the evolution, beside where this clone keeps it.
    #[arg(long, value_name = "DIR")]
    pub evidence: Vec<PathBuf>,
    /// Goes on with a promotion that was cut off; one that is done is only told.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Args, Debug)]
pub struct Approve {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
    pub version: Version,
    /// Tag of the candidate; the last one where nothing is said.
    #[arg(long, value_name = "TAG")]
    pub candidate: Option<String>,
    /// The contract that is meant, `sha256:…`; refused where another one is in force.
    #[arg(long, value_name = "DIGEST", value_parser = contract_digest)]
    pub contract: Option<Sha256>,
    /// For how long it counts.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=8784))]
    pub hours: u16,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Args, Debug)]
pub struct Waive {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
    pub version: Version,
    /// The gate, as `estoppel promote --explain` names it.
    pub gate: String,
    /// Why.
    #[arg(long)]
    pub reason: String,
    /// Tag of the candidate; the last one where nothing is said.
    #[arg(long, value_name = "TAG")]
    pub candidate: Option<String>,
    /// The contract that is meant, `sha256:…`; refused where another one is in force.
    #[arg(long, value_name = "DIGEST", value_parser = contract_digest)]
    pub contract: Option<Sha256>,
    /// For how long it counts.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=8784))]
    pub hours: u16,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Args, Debug)]
pub struct Rollback {
    /// The version that is taken back.
    #[arg(id = "of", value_name = "VERSION", value_parser = super::generation::version)]
    pub version: Version,
    /// The promoted version whose sources come back; the highest one below where nothing is said.
    #[arg(long, value_name = "VERSION", value_parser = super::generation::version)]
    pub to: Option<Version>,
    /// Why.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Subcommand, Debug)]
pub enum EnvironmentCommand {
    /// Lists environments: what each has, since when and by whom.
    List {
        #[command(flatten)]
        at: InRepository,
    },
    /// Says that an environment has a release from now on. It deploys nothing.
    Set(EnvironmentSet),
    /// Says from which stage on an environment takes what was promoted; without it only releases.
    Bind(EnvironmentBind),
}

#[derive(Args, Debug)]
pub struct EnvironmentSet {
    /// The environment, as `production`.
    pub name: String,
    /// What it has: a version that was promoted, or that of a tag of a stage, as `1.2.0-beta.1`.
    #[arg(id = "release", value_name = "VERSION", value_parser = super::generation::version)]
    pub release: Version,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Args, Debug)]
pub struct EnvironmentBind {
    /// The environment, as `staging`.
    pub name: String,
    /// The lowest stage that it takes.
    #[arg(long)]
    pub stage: StageChosen,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

pub(super) fn contract_digest(text: &str) -> Result<Sha256, String> {
    Sha256::parse(text).ok_or_else(|| "expected `sha256:` and 64 hex digits".to_owned())
}
