//! What can be asked about who had a bundle.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand, Debug)]
pub enum CustodyCommand {
    /// Adds an entry to the list of a bundle, and begins the list if there is none.
    Add(CustodyAdd),
    /// Shows the list of a bundle.
    Show {
        /// A `.pef.zip`.
        bundle: PathBuf,
    },
    /// Judges the list of a bundle.
    Verify(CustodyVerify),
}

/// Who signs in the list beside a bundle that a command did what it does.
#[derive(Args, Clone, Debug, Default)]
pub struct CustodyBy {
    /// Private key (PEM) that signs an entry of what is done, in the chain of custody beside the bundle. It signs no evidence of the bundle.
    #[arg(long, value_name = "FILE", requires = "custody_by")]
    pub custody_key: Option<PathBuf>,
    /// Who does it, in words.
    #[arg(long, value_name = "WHO", requires = "custody_key")]
    pub custody_by: Option<String>,
}

/// The same, of what is given away.
#[derive(Args, Clone, Debug, Default)]
pub struct CustodyTo {
    #[command(flatten)]
    pub by: CustodyBy,
    /// To whom it is given, in words.
    #[arg(long, value_name = "WHOM", requires = "custody_key")]
    pub custody_to: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CustodyAction {
    /// The bundle went from one place or person to another.
    Moved,
    /// The bundle is verified here and now; what comes out is recorded.
    Verified,
    /// Somebody was given the bundle, or a key that opens a part of it.
    Disclosed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Disclosure {
    Bundle,
    Run,
    Call,
    Events,
}

#[derive(Args, Debug)]
pub struct CustodyAdd {
    /// A `.pef.zip`.
    pub bundle: PathBuf,
    /// What was done.
    #[arg(long, value_enum)]
    pub action: CustodyAction,
    /// Private key (PEM) that signs the entry. It signs no evidence of the bundle.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Who did it, in words.
    #[arg(long)]
    pub actor: String,
    /// From where it was moved.
    #[arg(long, required_if_eq("action", "moved"))]
    pub from: Option<String>,
    /// To where it was moved, or to whom it was disclosed.
    #[arg(long, required_if_eq_any([("action", "moved"), ("action", "disclosed")]))]
    pub to: Option<String>,
    /// What was disclosed.
    #[arg(long, value_enum, default_value_t = Disclosure::Bundle)]
    pub what: Disclosure,
    /// The file that was given, such as a disclosed key; its digest is recorded.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Trust document that the bundle is verified by.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// What there is to add, in words.
    #[arg(long)]
    pub note: Option<String>,
}

#[derive(Args, Debug)]
pub struct CustodyVerify {
    /// A `.pef.zip`.
    pub bundle: PathBuf,
    /// Public key (PEM) that you accept. May be repeated; without any, every key is taken at its own word.
    #[arg(long, value_name = "FILE")]
    pub signer: Vec<PathBuf>,
    /// Entry hash that the list must have (`leaf:…`). May be repeated.
    #[arg(long, value_name = "LEAF")]
    pub head: Vec<String>,
}
