//! What can be asked of `estoppel attest` and `estoppel compliance`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CustodyTo;

/// Which bundles.
#[derive(Args, Debug, Clone, Default)]
pub struct Bundles {
    /// A sealed bundle, `.pef.zip`. May be given again.
    #[arg(long = "bundle", value_name = "FILE")]
    pub bundles: Vec<PathBuf>,
    /// Journal folder, for all of its sealed bundles.
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Trust document that every bundle is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

/// What is cited beside them.
#[derive(Args, Debug, Clone, Default)]
pub struct Beside {
    /// Chain of custody of one of the bundles, `<bundle>.custody.ndjson`. May be given again.
    #[arg(long, value_name = "FILE")]
    pub custody: Vec<PathBuf>,
    /// Public key in PEM of a custodian whom you know: every entry has to be by one of them. May be given again.
    #[arg(long = "custodian", value_name = "FILE", requires = "custody")]
    pub custodians: Vec<PathBuf>,
    /// Index of the archive that has copies of the bundles, `archive.ndjson`.
    #[arg(long, value_name = "FILE")]
    pub archive: Option<PathBuf>,
    /// Ledger of releases: its repository, or what `estoppel audit export` wrote as JSON.
    #[arg(long, value_name = "DIR|FILE")]
    pub ledger: Option<PathBuf>,
    /// The first event of the ledger that you trust, `sha256:…`; where nothing is said, the one that the repository trusts.
    #[arg(long, value_name = "DIGEST", requires = "ledger")]
    pub genesis: Option<String>,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Attest {
    /// Name of a framework (`estoppel compliance list`), or its file.
    #[arg(long, value_name = "NAME|FILE")]
    pub framework: Option<String>,
    #[command(flatten)]
    pub of: Bundles,
    #[command(flatten)]
    pub beside: Beside,
    /// Private key in PEM that signs, readable by you only; none that signs evidence.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// New folder for the statement and its copies.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Exit code 3 where a control fails.
    #[arg(long)]
    pub strict: bool,
    #[command(subcommand)]
    pub command: Option<AttestCommand>,
}

#[derive(Subcommand, Debug)]
pub enum AttestCommand {
    /// Makes an attestation again from the bundles, and compares every byte.
    Verify(AttestVerify),
}

#[derive(Args, Debug)]
pub struct AttestVerify {
    /// The folder that `estoppel attest` wrote, or the `attestation.json` of it.
    pub attestation: PathBuf,
    #[command(flatten)]
    pub of: Bundles,
    #[command(flatten)]
    pub beside: Beside,
    /// The framework, where it is none that comes with this program.
    #[arg(long, value_name = "FILE")]
    pub framework: Option<PathBuf>,
    /// Public key in PEM that the attestation has to be signed by.
    #[arg(long, value_name = "FILE")]
    pub signer: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum ComplianceCommand {
    /// Lists the frameworks that come with this program.
    List,
    /// Says of each control what evidence there is. Nothing is signed.
    Report(Box<ComplianceReport>),
}

#[derive(Args, Debug)]
pub struct ComplianceReport {
    /// Only this framework: its name or file. May be given again.
    #[arg(long, value_name = "NAME|FILE")]
    pub framework: Vec<String>,
    #[command(flatten)]
    pub of: Bundles,
    #[command(flatten)]
    pub beside: Beside,
}

#[derive(Subcommand, Debug)]
pub enum KitCommand {
    /// Puts bundles, attestations, trust document and verifiers into one signed file.
    Build(Box<KitBuild>),
    /// Makes a kit again from its contents, and compares every byte.
    Verify(KitVerify),
}

#[derive(Args, Debug)]
pub struct KitVerify {
    /// The file that `estoppel kit build` wrote.
    pub kit: PathBuf,
    /// Trust document from elsewhere, which the kit's has to be.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Public key in PEM that the kit has to be signed by.
    #[arg(long, value_name = "FILE")]
    pub signer: Option<PathBuf>,
    /// Judges the calls of results of regress again, each by the policy of its result, which the kit has to have.
    #[arg(long)]
    pub deep: bool,
}

#[derive(Args, Debug)]
pub struct KitBuild {
    #[command(flatten)]
    pub of: Bundles,
    /// A folder that `estoppel attest` wrote about these bundles. May be given again.
    #[arg(long = "attestation", value_name = "DIR")]
    pub attestations: Vec<PathBuf>,
    /// Chain of custody of one of the bundles, `<bundle>.custody.ndjson`. May be given again.
    #[arg(long, value_name = "FILE")]
    pub custody: Vec<PathBuf>,
    /// Index of the archive that has copies of the bundles, `archive.ndjson`.
    #[arg(long, value_name = "FILE")]
    pub archive: Option<PathBuf>,
    /// What `estoppel audit export` wrote as JSON.
    #[arg(long, value_name = "FILE")]
    pub audit_export: Option<PathBuf>,
    /// A certificate of a replay of one of the bundles. May be given again.
    #[arg(long = "certificate", value_name = "FILE")]
    pub certificates: Vec<PathBuf>,
    /// What `estoppel regress run --json` said of calls of these bundles. May be given again.
    #[arg(long = "regress", value_name = "FILE")]
    pub results: Vec<PathBuf>,
    /// The policy that one of these results is about, so that its calls can be judged again. May be given again.
    #[arg(long = "policy", value_name = "FILE", requires = "results")]
    pub policies: Vec<PathBuf>,
    /// Folder of the packs that these policies take contracts from.
    #[arg(long, value_name = "DIR", requires = "policies")]
    pub packs: Option<PathBuf>,
    /// A framework's file, where it is none that comes with this program. May be given again.
    #[arg(long = "framework", value_name = "FILE")]
    pub frameworks: Vec<PathBuf>,
    /// Private key in PEM that signs, readable by you only; none that signs evidence.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// New file for the kit.
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub given: CustodyTo,
}

#[derive(Args, Debug)]
pub struct Report {
    /// The sealed bundle, `.pef.zip`, that is told in a few numbers.
    #[arg(long, value_name = "BUNDLE")]
    pub digest: PathBuf,
    /// Trust document that the bundle is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// A certificate of a replay of this bundle, whose status is told too.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Public key in PEM that the certificate has to be signed by.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub signer: Option<PathBuf>,
    /// New file for a badge.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// New file for the numbers, as JSON.
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
