//! What can be asked about generations.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use estoppel_evidence::Sha256;
use estoppel_release::Version;
use estoppel_release::generation::{ChangeType, NewChange};

use super::{InRepository, SignedBy};

/// A version, with or without the `v` of its tag.
pub fn version(text: &str) -> Result<Version, String> {
    let parsed: Result<Version, _> = text.strip_prefix('v').unwrap_or(text).parse();
    parsed.map_err(|error| error.to_string())
}

fn change(text: &str) -> Result<NewChange, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(kind), Some(id), Some(title)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("expected TYPE:ID:TITLE, as `add:PAY-001:Pay by invoice`".into());
    };
    let words: Vec<&str> = ChangeType::ALL.iter().map(|kind| kind.as_str()).collect();
    let known = ChangeType::ALL.iter().copied().find(|known| known.as_str() == kind);
    let kind = known.ok_or_else(|| format!("`{kind}` is none of {}", words.join(", ")))?;
    Ok(NewChange { kind, id: id.to_owned(), title: title.to_owned() })
}

#[derive(Args, Debug)]
pub struct New {
    /// Folder that is made; it may be there if it is empty.
    pub dir: PathBuf,
    /// Name of a template; `minimal` where nothing is said.
    #[arg(long, conflicts_with = "from")]
    pub template: Option<String>,
    /// The same by its name in the catalog: `catalog:rust.release`.
    #[arg(long, value_name = "CATALOG")]
    pub from: Option<String>,
    /// Who answers for the first generation.
    #[arg(long)]
    pub author: Option<String>,
}

#[derive(Subcommand, Debug)]
pub enum GenerationCommand {
    /// Begins the generation of a version; asks on a terminal what is not said.
    New(GenerationNew),
    /// Lists generations, and what became of each.
    List {
        #[command(flatten)]
        at: InRepository,
    },
    /// Shows a generation with its digests.
    Show {
        /// The version.
        #[arg(id = "of", value_name = "VERSION", value_parser = version)]
        version: Version,
        #[command(flatten)]
        at: InRepository,
    },
    /// Reports everything that is wrong with generations.
    Lint {
        /// Files; every generation of the repository where none is named.
        files: Vec<PathBuf>,
        #[command(flatten)]
        at: InRepository,
    },
    /// Fixes the contract of a draft in the ledger.
    Seal(GenerationSeal),
    /// Puts the file in the place of the contract that is sealed; proofs of changes that it alters lapse.
    Amend(GenerationReason),
    /// Says that a sealed version will not be promoted.
    Abandon(GenerationReason),
}

#[derive(Args, Debug)]
pub struct GenerationNew {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = version)]
    pub version: Version,
    /// What it is for.
    #[arg(long)]
    pub description: Option<String>,
    /// Who answers for it; `user.name` of git's configuration where nothing is said.
    #[arg(long)]
    pub author: Option<String>,
    /// A change, as `add:PAY-001:Pay by invoice`; may be given again.
    #[arg(long, value_name = "TYPE:ID:TITLE", value_parser = change)]
    pub change: Vec<NewChange>,
    /// Name of a template; `minimal` where nothing is said.
    #[arg(long, conflicts_with = "like")]
    pub template: Option<String>,
    /// A version whose steps, gates, policies, hooks and stages are taken over.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub like: Option<Version>,
    /// The promoted version that a hotfix mends.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub base: Option<Version>,
    #[command(flatten)]
    pub at: InRepository,
}

#[derive(Args, Debug)]
pub struct GenerationSeal {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = version)]
    pub version: Version,
    /// The contract that is meant, `sha256:…`; refused where the file has another one.
    #[arg(long, value_name = "DIGEST", value_parser = super::release::contract_digest)]
    pub contract: Option<Sha256>,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}

#[derive(Args, Debug)]
pub struct GenerationReason {
    /// The version.
    #[arg(id = "of", value_name = "VERSION", value_parser = version)]
    pub version: Version,
    /// Why.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub at: InRepository,
    #[command(flatten)]
    pub signed: SignedBy,
}
