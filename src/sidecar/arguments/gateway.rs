//! What can be asked of a running gateway.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Source;

#[derive(Args, Debug)]
pub struct Switch {
    /// `all`, or `route:NAME`, `tool:NAME`, `identity:NAME` or `tenant:NAME`.
    pub target: String,
    /// Why; goes into the journal.
    #[arg(long)]
    pub reason: String,
    /// Who you are; goes into the journal as you say it.
    #[arg(long)]
    pub by: String,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args, Debug)]
pub struct Admin {
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
}

/// A daemon that runs.
#[derive(Args, Debug)]
pub struct Daemon {
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
}

#[derive(Subcommand, Debug)]
pub enum RunCommand {
    /// Lists open and recently sealed runs.
    List(Source),
    /// Shows one run.
    Show {
        /// Run id or name.
        run: String,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Subcommand, Debug)]
pub enum HoldCommand {
    /// Lists calls that wait for people.
    List {
        /// Lists those that are over as well.
        #[arg(long)]
        all: bool,
        /// Admin address of the daemon, with or without `http://`.
        #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
        admin: String,
    },
    /// Shows one hold.
    Show {
        /// Hold id.
        hold: String,
        /// Admin address of the daemon, with or without `http://`.
        #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
        admin: String,
    },
    /// Signs that a call may pass.
    Approve(Decide),
    /// Signs that it may not.
    Deny(Decide),
}

#[derive(Args, Debug)]
pub struct Decide {
    /// Hold id.
    pub hold: String,
    /// Your private key: PKCS#8 PEM that only you can read, as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Why, for whoever reads the evidence; at most 256 characters.
    #[arg(long)]
    pub comment: Option<String>,
    /// Decides only if the hold is of this payload.
    #[arg(long, value_name = "TAG")]
    pub payload: Option<String>,
    /// Admin address of the daemon, with or without `http://`.
    #[arg(long, env = "ESTOPPEL_ADMIN", default_value = "127.0.0.1:9464")]
    pub admin: String,
}
