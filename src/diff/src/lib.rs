//! What differs between two runs, journals or schemas (`spec/diff.md`).
//!
//! | type | is |
//! |---|---|
//! | [`Normalizers`] | the paths at which values are not compared |
//! | [`Reader`] | takes the entries of a run or journal, or the objects of a schema |
//! | [`Side`] | what a reader took: entries by names, each with the digest of its value |
//! | [`Diff`] | what two sides differ in, as one canonical document with a digest |
//! | [`Scenario`], [`compare_runs`] | two runs of one scenario, and the first call in which they part |
//! | [`page`] | that document as a page for people |
//!
//! Promises: the same inputs give the same bytes everywhere; swapped inputs give the mirrored document; what was not compared is said.
//!
//! Left to others: reading and verifying what is compared, and stored bodies, which are asked for when they differ ([`Bodies`]).

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

mod bodies;
mod calls;
mod compare;
mod diff;
mod normalizers;
mod page;
mod path;
mod scenario;
mod side;

pub use bodies::{Bodies, NoBodies, Stored};
pub use diff::{CHANGES_MAX, Change, Counts, Diff, Differing, Operation, diff};
pub use normalizers::{Normalizers, NormalizersError};
pub use page::{escaped, page};
pub use scenario::{Cause, Comparison, Parting, Scenario, compare as compare_runs};
pub use side::{ENTRIES_MAX, Kind, Reader, Side, SideError};

#[cfg(test)]
mod tests;
