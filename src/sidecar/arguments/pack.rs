//! What can be asked about packs of policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum PackCommand {
    /// Reports everything that is wrong with a pack.
    Lint(PackFolder),
    /// Judges the bodies of its fixtures, and compares what became of them with its goldens, byte for byte.
    Test {
        #[command(flatten)]
        pack: PackFolder,
        /// Writes the goldens, if every case comes out as its fixtures expect.
        #[arg(long)]
        update: bool,
    },
    /// Prints what a policy says to take its contracts from it.
    Digest {
        /// Folder of the pack.
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
pub struct PackFolder {
    /// Folder of the pack.
    pub dir: PathBuf,
    /// Folder of other packs that its policies take contracts from.
    #[arg(long, value_name = "DIR")]
    pub packs: Option<PathBuf>,
}
