//! What can be asked about the schema and rows of a database.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use estoppel_snapshot::TableName;

#[derive(Subcommand, Debug)]
pub enum SnapshotCommand {
    /// What changed in a database while a call was made, or between two snapshots.
    Diff(SnapshotDiff),
    /// Looks at a database as the gateway does around calls.
    Take(SnapshotTake),
}

#[derive(Args, Debug)]
pub struct SnapshotDiff {
    /// A `.pef.zip` with --call, or a snapshot's document.
    pub from: PathBuf,
    /// The document of the snapshot after it.
    #[arg(conflicts_with = "call", required_unless_present = "call")]
    pub to: Option<PathBuf>,
    /// The call: its id, or its sequence number.
    #[arg(long)]
    pub call: Option<String>,
}

#[derive(Args, Debug)]
pub struct SnapshotTake {
    /// The database, as `postgresql://user@host:port/name`; better in the environment if it has a password.
    #[arg(long, value_name = "URL", env = "ESTOPPEL_PG", hide_env_values = true)]
    pub pg: String,
    /// Certificates that the database's may be signed by (PEM). Default: the web's roots.
    #[arg(long, value_name = "FILE")]
    pub pg_ca: Option<PathBuf>,
    /// Tables of whose rows digests are taken, as `table` or `schema.table`.
    #[arg(long, value_name = "TABLE", num_args = 1..)]
    pub rows: Vec<TableName>,
    /// More rows than this, of these tables together, are not read.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000, requires = "rows")]
    pub rows_max: u64,
    /// Nor more bytes of their text.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, requires = "rows")]
    pub rows_bytes_max: u64,
    /// Nor for more milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000, requires = "rows")]
    pub rows_ms: u64,
    /// Writes the document (canonical JSON) to a new file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
