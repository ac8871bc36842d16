//! A picture of a Postgres database, taken around calls that write to it.
//!
//! | type | is |
//! |---|---|
//! | [`Dsn`] | where a database is, without what is secret in it |
//! | [`Source`] | one database with one warm connection of its own; takes snapshots when asked |
//! | [`Snapshot`] | what a database looked like: its schema, and where its log of writes was |
//! | [`Schema`] | the schema as a document with a digest, that two servers with the same schema share |
//! | [`Rows`] | a digest of each row of the tables that were named |
//! | [`diff`], [`row_changes`] | what is in one schema, or of rows, and not in another |
//! | [`Written`] | a table whose rows name the call that wrote them |
//! | [`Hint`] | what a session says of the call that it writes for, which the database writes into the rows itself |
//! | [`RowCounter`] | how many of their rows name a call |
//! | [`RowWatch`] | which of their rows were written since it last looked, and what they name |
//! | [`examine`] | whether a database can be recorded, and what would mend it |
//! | [`Scratch`] | a copy of a schema, without its rows, in a transaction that is never committed: recorded statements run in it |
//!
//! What this crate promises:
//!
//! - A snapshot that was taken is consistent: no DDL came between the rows that it is made of. Postgres alone does
//!   not promise that: under REPEATABLE READ rows follow the transaction's snapshot, while the functions that print
//!   definitions follow the latest catalog. A fingerprint of the catalog, read inside and after, shows it.
//! - Schemas are read from `pg_catalog` alone, so that what is seen does not depend on the grants of who looks. Of rows nothing is read
//!   but, in declared tables, the call that they name and the transaction that wrote them, and, in tables that were named for it, digests, of the
//!   same moment as the schema.
//! - A database is only read, but for a [`Scratch`], of which nothing stays. Nothing waits without an end, and no query is ever cancelled through
//!   a pooler.
//! - What a snapshot does not cover is named in it.
//!
//! Left to others: which calls get snapshots, and what becomes of a call whose snapshot failed (gateway).

mod catalog;
mod diff;
mod dsn;
mod error;
mod examine;
mod hint;
mod lineage;
mod lsn;
mod rows;
mod schema;
mod scratch;
mod server;
mod source;
mod tls;
mod written;

pub use diff::{Change, diff};
pub use dsn::{Dsn, DsnError};
pub use error::{Cause, SnapshotError};
pub use examine::{Check, State, examine};
pub use hint::{Hint, HintError, Stamp};
pub use lineage::{Changed, Looked, RowCount, RowCounter, RowCounterTask, RowWatch, WatchSettings};
pub use lsn::Lsn;
pub use rows::{RowChange, Rows, RowsCause, TableName, TableNameError, row_changes};
pub use schema::{Schema, SchemaDigest, SchemaError};
pub use scratch::{Closed, Column, Form, Ran, Scratch, ScratchError, ScratchSettings, role_sql};
pub use server::Server;
pub use source::{RowSettings, Settings, Snapshot, Source, SourceTask};
pub use tls::{Tls, TlsError};
pub use written::{Written, WrittenError};
