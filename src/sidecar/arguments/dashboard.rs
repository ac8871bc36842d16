//! What can be asked of the dashboard.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use estoppel_release::Version;

use super::InRepository;

#[derive(Args, Debug)]
pub struct Dashboard {
    /// What is shown first; without a terminal, what is shown at all.
    #[arg(long, value_enum)]
    pub view: Option<View>,
    /// The generation that is chosen first; without a terminal, the only one that is shown.
    #[arg(long, value_name = "VERSION", value_parser = super::generation::version)]
    pub generation: Option<Version>,
    /// Admin address of a gateway, with or without `http://`; several times for several.
    #[arg(long, value_name = "ADDRESS", env = "ESTOPPEL_ADMIN", value_delimiter = ',')]
    pub admin: Vec<String>,
    /// Ed25519 private key that signs what is started, promoted and approved here, in PKCS#8 PEM, readable by its owner only.
    #[arg(long, value_name = "FILE", env = "ESTOPPEL_RELEASE_KEY")]
    pub key: Option<PathBuf>,
    /// Private key that decides on held calls. Default: that of `--key`.
    #[arg(long, value_name = "FILE")]
    pub approver_key: Option<PathBuf>,
    /// Prints the views as lines and ends, also on a terminal.
    #[arg(long)]
    pub plain: bool,
    /// Prints what the screen of a terminal of this size shows, and ends.
    #[arg(long, value_name = "WIDTHxHEIGHT", conflicts_with = "plain")]
    pub snapshot: Option<Size>,
    #[command(flatten)]
    pub at: InRepository,
}

impl Dashboard {
    /// The gateways that are named; a variable that is set to nothing names none.
    pub fn gateways(&self) -> impl Iterator<Item = &String> {
        self.admin.iter().filter(|address| !address.is_empty())
    }
}

/// A part of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Generations: what is proven of each, and its gates.
    Releases,
    /// What happened to a generation, its evolutions step by step.
    Evolutions,
    /// Evolutions that run now.
    Run,
    /// Verdicts of gateways, and the calls that wait for people.
    Gateway,
}

/// Size of a terminal in characters, at least 20x5 and at most 500x200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (width, height) = text.split_once('x')?;
            Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
        };
        let is_meant = |size: &Self| (20..=500).contains(&size.width) && (5..=200).contains(&size.height);
        read().filter(is_meant).ok_or("expected a size from 20x5 to 500x200, as in 80x24")
    }
}
