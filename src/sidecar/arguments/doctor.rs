//! What can be asked about what a gateway needs.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub struct Doctor {
    /// Configuration of the daemon.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Admin address of a running daemon, with or without `http://`.
    #[arg(long)]
    pub admin: Option<String>,
    /// A database that calls write to, as `postgresql://user@host:port/name`; better in the environment if it has a password.
    #[arg(long, value_name = "URL", env = "ESTOPPEL_PG", hide_env_values = true)]
    pub pg: Option<String>,
    /// Certificates that the database's may be signed by (PEM). Default: the web's roots.
    #[arg(long, value_name = "FILE", requires = "pg")]
    pub pg_ca: Option<PathBuf>,
    /// A table whose rows name the call that wrote them, and its column: `public.orders=call_id`; where the database writes the column itself,
    /// with the hint `:setting`, `:application_name` or `:comment`, and `:trigger` where a trigger does. May be given again.
    #[arg(long, value_name = "TABLE=COLUMN[:HINT[:trigger]]", requires = "pg", value_parser = crate::doctor::written)]
    pub written: Vec<estoppel_snapshot::Written>,
    /// Tables of whose rows snapshots are to have digests (`rows` of the database), as `table` or `schema.table`.
    #[arg(long, value_name = "TABLE", num_args = 1.., requires = "pg")]
    pub rows: Vec<estoppel_snapshot::TableName>,
    /// Prints the SQL that an administrator of the database would run to turn each warning green.
    #[arg(long, requires = "pg")]
    pub suggest_fixes: bool,
    /// A version of Postgres at the end of its support is no reason for exit code 7.
    #[arg(long, requires = "pg")]
    pub allow_best_effort: bool,
}
