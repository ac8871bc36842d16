//! What can be asked about recorded calls under the policy of now.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub enum RegressCommand {
    /// Makes a fixture of a recorded call.
    Add(RegressAdd),
    /// Judges fixtures again, and compares with what was recorded.
    Run(RegressRun),
    /// Makes fixtures of what was stopped in a run, and judges them again.
    Bootstrap(RegressBootstrap),
}

#[derive(Args, Debug)]
pub struct RegressAdd {
    /// Sealed bundle with the call.
    #[arg(long, value_name = "BUNDLE")]
    pub from: PathBuf,
    /// The call, by id or sequence number.
    #[arg(long)]
    pub call: String,
    /// Name of the fixture: letters, digits, `.`, `_` and `-`. Default: the call's id.
    #[arg(long, value_parser = crate::regress::name)]
    pub name: Option<String>,
    /// What is to come out.
    #[arg(long, value_enum, default_value_t = Expect::Receipt)]
    pub expect: Expect,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub into: PathBuf,
    #[command(flatten)]
    pub vouched: Vouched,
}

/// Who vouches for the keys of a bundle.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Vouched {
    /// Trust document that the bundle is verified by.
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// Takes the keys that the bundle itself names.
    #[arg(long)]
    pub self_asserted: bool,
}

/// What a fixture expects.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Verdict and reason of the receipt.
    Receipt,
    /// The receipt's verdict, for whatever reason.
    Verdict,
    /// It passes, whatever the receipt says.
    Allow,
    /// It is repaired.
    Repair,
    /// It waits for people.
    Hold,
    /// It is blocked.
    Block,
}

#[derive(Args, Debug)]
pub struct RegressRun {
    #[command(flatten)]
    pub today: Today,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub fixtures: PathBuf,
    /// A sealed bundle, all of whose calls are judged again instead.
    #[arg(long, value_name = "FILE", conflicts_with = "fixtures")]
    pub bundle: Option<PathBuf>,
    /// Trust document: the checkpoint of each fixture has to be signed by a key of it, or the bundle's.
    #[arg(long)]
    pub trust: Option<PathBuf>,
}

/// What judges today, and what becomes of the results.
#[derive(Args, Debug)]
pub struct Today {
    /// The policy of today.
    #[arg(long, default_value = "policy.yaml")]
    pub policy: PathBuf,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
    /// Writes the results as JUnit XML to this new file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// A fixture that cannot be decided counts as a difference.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Args, Debug)]
pub struct RegressBootstrap {
    /// Sealed bundle of the incident.
    pub bundle: PathBuf,
    /// A call, by id or sequence number. May be repeated. Default: every call that was blocked, held or repaired.
    #[arg(long)]
    pub call: Vec<String>,
    /// What is to come out.
    #[arg(long, value_enum, default_value_t = Expect::Receipt)]
    pub expect: Expect,
    /// Folder of the fixtures.
    #[arg(long, value_name = "DIR", default_value = "regress")]
    pub into: PathBuf,
    #[command(flatten)]
    pub vouched: Vouched,
    #[command(flatten)]
    pub today: Today,
}

#[derive(Args, Debug)]
pub struct Reduce {
    /// Sealed bundle of the run.
    pub bundle: PathBuf,
    /// What the calls that are left must still have: `final-blocked`, `finding:RULE`, or `command`, which is then asked.
    #[arg(long, value_parser = crate::reduce::predicate)]
    pub predicate: Predicate,
    #[command(flatten)]
    pub vouched: Vouched,
    /// Judges by this policy instead of the ones that judged then.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Folder of the packs that it takes contracts from.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub packs: Option<PathBuf>,
    /// Writes the report, in canonical form, to this new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Most sets of calls that are asked about.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub sets_max: usize,
    /// How long the command may take each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub seconds: u64,
    /// The command and its arguments, after `--`; a file with the calls comes last. 0: they have it, 1: they do not.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What a set of calls has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// The final call of the run is in it and blocked.
    FinalBlocked,
    /// This rule of a detector holds in one of them.
    Finding(Box<str>),
    Command,
}
