//! Why there is no snapshot.

use std::time::Duration;

use estoppel_evidence::reason::Reason;

use crate::lsn::Lsn;

/// Why a snapshot could not be taken. [`SnapshotError::cause`] is stable, its text is for people.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the database could not be connected to")]
    Connect(#[source] tokio_postgres::Error),
    #[error("Postgres {major} is not supported; 13 is the oldest that is")]
    Version { major: u32 },
    #[error("this is another server than before: {now}, and it was {before}")]
    Identity { before: Box<str>, now: Box<str> },
    #[error("the server is a replica")]
    Replica,
    #[error("the replica is {lag_bytes} bytes behind, limit {limit_bytes}")]
    ReplicaLag { lag_bytes: u64, limit_bytes: u64 },
    #[error("the replica's replay is paused at {at}")]
    ReplayPaused { at: Lsn },
    #[error("the server ended a query: {message}")]
    Query { cause: Cause, message: Box<str> },
    #[error("somebody changed the schema while it was read, twice")]
    DdlRace,
    #[error("there are {relations} relations, limit {relations_max}")]
    Relations { relations: usize, relations_max: usize },
    #[error("no snapshot after {} ms", .0.as_millis())]
    Late(Duration),
    #[error("{0} snapshots of this database are waited for already")]
    Busy(usize),
    #[error("table {table} has {bytes} bytes, limit {bytes_max}")]
    TooLarge { table: Box<str>, bytes: u64, bytes_max: u64 },
    #[error("the database does not write the call into the rows of {table} by the hint that is declared")]
    HintMissing { table: Box<str> },
    #[error("more transactions than are remembered wrote while one was open")]
    TooMany,
    #[error("the server sent what cannot be read: {0}")]
    Unreadable(&'static str),
}

/// What a [`SnapshotError`] comes from: written in lower case beside its reason's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Connect,
    Version,
    Identity,
    StatementTimeout,
    LockTimeout,
    Permission,
    RlsFiltered,
    DdlRace,
    Budget,
    Busy,
    Server,
    Unreadable,
    TooManyRelations,
    ReplicaRejected,
    LagExceeded,
    ReplayPaused,
    TableMissing,
    KeyMissing,
    KeyType,
    TooLarge,
    HintMissing,
    TooMany,
}

impl Cause {
    /// The name in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Version => "version",
            Self::Identity => "identity",
            Self::StatementTimeout => "statement_timeout",
            Self::LockTimeout => "lock_timeout",
            Self::Permission => "permission",
            Self::RlsFiltered => "rls_filtered",
            Self::DdlRace => "ddl_race",
            Self::Budget => "budget",
            Self::Busy => "busy",
            Self::Server => "server",
            Self::Unreadable => "unreadable",
            Self::TooManyRelations => "too_many_relations",
            Self::ReplicaRejected => "replica_rejected",
            Self::LagExceeded => "lag_exceeded",
            Self::ReplayPaused => "replay_paused",
            Self::TableMissing => "table_missing",
            Self::KeyMissing => "key_missing",
            Self::KeyType => "key_type",
            Self::TooLarge => "too_large",
            Self::HintMissing => "hint_missing",
            Self::TooMany => "too_many",
        }
    }
}

impl SnapshotError {
    /// What it comes from.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Connect(_) => Cause::Connect,
            Self::Version { .. } => Cause::Version,
            Self::Identity { .. } => Cause::Identity,
            Self::Replica => Cause::ReplicaRejected,
            Self::ReplicaLag { .. } => Cause::LagExceeded,
            Self::ReplayPaused { .. } => Cause::ReplayPaused,
            Self::Query { cause, .. } => *cause,
            Self::DdlRace => Cause::DdlRace,
            Self::Relations { .. } => Cause::TooManyRelations,
            Self::Late(_) => Cause::Budget,
            Self::Busy(_) => Cause::Busy,
            Self::TooLarge { .. } => Cause::TooLarge,
            Self::HintMissing { .. } => Cause::HintMissing,
            Self::TooMany => Cause::TooMany,
            Self::Unreadable(_) => Cause::Unreadable,
        }
    }

    /// The code when it was the snapshot before a call.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Replica | Self::ReplicaLag { .. } | Self::ReplayPaused { .. } => Reason::ReplicaLag,
            Self::Relations { .. } => Reason::PolicySkip,
            Self::TooLarge { .. } | Self::HintMissing { .. } | Self::TooMany => Reason::LineageMissing,
            Self::Connect(_)
            | Self::Version { .. }
            | Self::Identity { .. }
            | Self::Query { .. }
            | Self::DdlRace
            | Self::Late(_)
            | Self::Busy(_)
            | Self::Unreadable(_) => Reason::PreFail,
        }
    }

    /// What it means where rows of declared tables were asked for.
    pub(crate) fn of_rows(error: tokio_postgres::Error) -> Self {
        let declared = error.as_db_error().and_then(|db| match db.code().code() {
            "42P01" | "3F000" => Some(Cause::TableMissing),
            "42703" => Some(Cause::KeyMissing),
            "22P02" | "42883" => Some(Cause::KeyType),
            // The session was idle between two messages, or the transaction took too long.
            "25P03" | "25P04" => Some(Cause::Budget),
            _ => None,
        });
        match (declared, Self::from(error)) {
            (Some(cause), Self::Query { message, .. }) => Self::Query { cause, message },
            (_, other) => other,
        }
    }

    /// Whether the connection may still be used.
    pub(crate) fn spares_connection(&self) -> bool {
        !matches!(
            self,
            Self::Connect(_)
                | Self::Late(_)
                | Self::Query { cause: Cause::Connect, .. }
                | Self::Unreadable(_)
        )
    }
}

impl From<tokio_postgres::Error> for SnapshotError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Query { cause: Cause::Connect, message: "the connection is lost".into() };
        };
        let cause = match (db.code().code(), db.message()) {
            ("57014", _) => Cause::StatementTimeout,
            ("55P03", _) => Cause::LockTimeout,
            ("42501", message) if message.contains("row-level security") => Cause::RlsFiltered,
            ("42501", _) => Cause::Permission,
            // A relation that went away while its definition was printed.
            ("XX000" | "42P01" | "42704", _) => Cause::DdlRace,
            (code, _) if code.starts_with("57P") || code.starts_with("08") => Cause::Connect,
            _ => Cause::Server,
        };
        Self::Query { cause, message: db.message().into() }
    }
}
