//! The sealed archive of one run: its layout, how it is written, how it is opened again (SPEC sections 8 and 9).
//!
//! - [`facts::RunFacts`] is fed the run's entry lines and knows what the manifest says about them.
//! - [`write::Parts`] takes the files of the bundle through a [`write::Staging`] of the caller's, and
//!   [`write::Parts::seal`] adds the manifest, its signed statement and the sums.
//! - [`write::Sealed`] writes the result as a ZIP ([`zip`]) or file by file.
//! - [`open::Bundle`] reads either form back through a [`open::Source`], for show, replay and disclosure.
//! - [`recorded::Recorded`] gives the run's calls with their bodies, as replay and regress read them.
//!
//! Promises: sealing the same content with the same key gives the same bytes; no content larger than a limit is held
//! in memory; what is read back is compared with what was said about it before it is handed on.
//!
//! Left to others: files, temporary or not, and their syncing (the caller's staging); judging (`estoppel-verify`).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic))]

pub mod facts;
pub mod layout;
pub mod manifest;
pub mod open;
pub mod recorded;
pub mod write;
pub mod zip;

mod digest;
#[cfg(test)]
mod fixture;

pub use digest::Measure;
pub use facts::{Entry, FactsError, ManifestFacts, RunFacts};
pub use layout::{BundlePath, EXTERNAL_BYTES_MIN, PathError, Role};
pub use manifest::{KEYS_MAX, KeyRow, Manifest, POLICIES_MAX};
pub use open::{Bundle, OpenError, Source, fuzz_open};
pub use recorded::{Recorded, RecordedCall, RecordedEntry, Side, unit_ends};
pub use write::{MemoryStaging, Parts, Sealed, Staging, WriteError};
pub use zip::{Archive, ReadAt, ZipError, ZipWriter};
