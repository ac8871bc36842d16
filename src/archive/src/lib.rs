//! Sealed files in a bucket that keeps them, and two lists beside them: where the copies are (`spec/archive.md`), and who had a
//! bundle in hand (`spec/custody.md`).
//!
//! - [`push`] copies what is not archived yet, [`check`] holds index, files and copies against one another.
//! - [`Archiver`] does the first continuously, on a thread of its own.
//! - [`custody::append`] adds to a chain of custody.
//! - [`Keeper`] keeps content that is no file and in no index, as events of the release ledger.
//!
//! Promises: an entry of the index is written when the copy was read back whole, with its digest and its retention; a file is
//! uploaded where a kill left off; nothing local is removed, and no copy is ever asked to be.
//!
//! Left to others: judging both lists (`estoppel-verify`), sealing, deciding what may go.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod archiver;
mod check;
mod client;
mod connect;
mod credentials;
pub mod custody;
mod error;
mod find;
mod index;
mod keep;
mod list;
mod lock;
mod object;
mod push;
mod settings;
mod stats;
mod upload;

pub use archiver::Archiver;
pub use check::{Checked, Fault, check};
pub use custody::{Action, Added, Custodian, CustodyError, Disclosed, Done, Verdicts};
pub use error::ArchiveError;
pub use find::{Kind, Target, Waiting, waiting};
pub use index::{INDEX_NAME, copy_of, read_entries};
pub use keep::Keeper;
pub use lock::Mode;
pub use push::{Copied, Looked, Pushed, push};
pub use settings::{ArchiveSettings, CommandSettings, CredentialsFrom, CustodySettings, Style};
pub use stats::ArchiveMetrics;
