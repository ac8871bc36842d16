//! What can be asked about copies in an object store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CustodyBy;

#[derive(Subcommand, Debug)]
pub enum ArchiveCommand {
    /// Copies what is sealed and not archived yet, and confirms each copy.
    Push(ArchivePush),
    /// Says what is archived and what is not, by the index alone.
    Status {
        /// A journal folder, a folder of bundles, or a `.pef.zip`.
        path: PathBuf,
    },
    /// Holds index, local files and copies against one another.
    Verify(ArchiveOf),
}

#[derive(Args, Debug)]
pub struct ArchivePush {
    #[command(flatten)]
    pub of: ArchiveOf,
    #[command(flatten)]
    pub custody: CustodyBy,
}

#[derive(Args, Debug)]
pub struct ArchiveOf {
    /// A journal folder, a folder of bundles, or a `.pef.zip`.
    pub path: PathBuf,
    /// File (TOML) with the table `[archive]`; that of the daemon will do (docs/archive.md).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
