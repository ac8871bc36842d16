//! What sealed bundles show of a framework, signed (`spec/attestation.md`).
//!
//! - [`Framework`] is a file of `policies/frameworks`: controls, and which evidence answers them.
//! - [`Evidence`] is bundles that were verified in that moment, and what of them can be pointed at by digest.
//! - [`Further`] is what stands beside them: chains of custody, the index of an archive, the ledger of releases.
//! - [`Statement`] is made of both and signed; [`verify`] makes it again from the bundles and compares. [`pdf`] and [`oscal`] follow from it.
//! - [`RunDigest`] is one run in a few numbers, and its badge.
//! - [`Kit`] is all of that as one file, made by [`assemble`] and judged by [`check`].
//!
//! Promises: nothing is said of a bundle that does not verify; every `pass` is a named function over entries; the same evidence,
//! id, time and program give the same bytes.
//!
//! Left to others: files, keys on disk, the clock.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

mod assess;
mod check;
mod cited;
mod digest;
mod error;
mod evidence;
mod framework;
mod kind;
mod kit;
mod oscal;
mod pdf;
mod statement;
mod verify;

pub use assess::{Assessment, ControlRow, Outcome};
pub use check::{CHECKS, Check};
pub use cited::Further;
pub use digest::{Replayed, RunDigest};
pub use error::{AttestError, Cites};
pub use evidence::{BUNDLES_MAX, Evidence, Given, Run};
pub use framework::{Framework, FrameworkKind};
pub use kind::{KINDS, Kind};
pub use kit::{Archived, CheckedKit, Contents, KIT_BYTES_MAX, Kit, assemble, check, copies, result_of};
pub use oscal::oscal;
pub use pdf::pdf;
pub use statement::{Circumstances, PREDICATE, Statement, Tool};
pub use verify::{Verified, framework_of, verify};
