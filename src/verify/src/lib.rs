//! Judges a bundle, a journal, a receipt, a checkpoint, a chain of custody or an index of what is archived from its bytes and
//! `spec/` alone.
//!
//! This is the second reading of `spec/pef/SPEC.md`: it shares no code with the crates that write evidence, so that
//! a mistake in one of them does not hide itself. It trusts nothing that a document states about itself: every
//! digest, count and conclusion is computed again.
//!
//! Words: a *step* is a row of the tables in SPEC sections 11 and 13; a [`Reason`] is the code of the first step that
//! failed; a [`Report`] has four verdicts, because "the bytes are whole", "these keys signed them", "nothing is
//! missing" and "they have a place in a log" are four questions.
//!
//! Promised: the same bytes always give the same report. No input panics. Nothing is read, written or waited for
//! here: bytes come from the caller, as do external content ([`Externals`]), journal segments ([`Segments`]) and
//! threads ([`Executor`]).
//!
//! Left to others: finding files, printing, and what a reader does with a verdict.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

mod archive;
mod body;
mod bundle;
mod certificate;
mod check;
mod container;
mod crc;
mod custody;
mod disclosure;
mod entry;
mod envelope;
mod events;
mod explain;
mod fuzz;
mod hash;
mod holds;
mod journal;
mod json;
mod keys;
mod late;
mod list;
mod manifest;
mod note;
mod reason;
mod receipt;
mod report;
mod retention;
mod run;
mod schema;
mod segment;
mod statement;
mod tally;
mod tree;
mod trust;
mod units;
mod view;

#[cfg(test)]
mod made;
#[cfg(test)]
mod reference;

pub use archive::{Archived, INDEX_BYTES_MAX, IndexFault, IndexReason, Pointer, read_index};
pub use body::{BodyQuestion, Part, verify_body};
pub use bundle::{Externals, NoExternals, Options, Signatures, verify_bundle};
pub use certificate::{CertificateFault, CertificateReason, CertificateReport, verify_certificate};
pub use check::{Check, Executor, Sequential};
pub use container::{DirectoryFile, Input};
pub use custody::{
    CUSTODY_BYTES_MAX, CUSTODY_ENTRIES_MAX, CustodyEntry, CustodyFault, CustodyOf, CustodyReason,
    verify_custody,
};
pub use events::{Question, verify_events};
pub use explain::explain;
#[doc(hidden)]
pub use fuzz::{
    fuzz_bundle, fuzz_canonical, fuzz_certificate, fuzz_journal, fuzz_lists, fuzz_note, fuzz_units,
};
pub use hash::Hash;
pub use journal::{JournalFiles, Segments, verify_journal};
pub use keys::{Algorithm, PublicKey, Usage};
pub use reason::{Decides, Reason};
pub use receipt::{Given, verify_checkpoint, verify_receipt};
pub use report::{
    Anchoring, AuditPath, Authenticity, Begins, BodyProof, Completeness, Copies, Counters, Finding,
    Integrity, Proof, Report, RunFacts, SigningKey, Standing, StreamProof, Subject, Unreadable, Verdicts,
};
pub use retention::{RetentionProof, verify_retention};
pub use statement::{SignedStatement, read_statement};
