//! What happened around a run, as one file (`spec/incident.md`): sealed bundles, an index, and a timeline whose references
//! resolve in them.
//!
//! - [`Given`] is a sealed bundle with what lies beside it; [`assemble`] makes a [`Pack`] of several.
//! - [`check`] judges a pack: every bundle by `estoppel-verify`, and all else by making it again from the bundles.
//! - [`Absent`] lists the runs of the window that a journal knows and the pack has not. Nothing in the pack bears it out.
//!
//! Promises: the same bundles give the same bytes; nothing that a pack says of itself is believed.
//!
//! Left to others: what takes more than reading a bundle ([`Derive`]), finding the bundles and the runs of a window, files.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

mod absent;
mod check;
mod derive;
mod error;
mod link;
mod pack;
mod page;
mod timeline;

pub use absent::{Absent, AbsentRun, Deletion, Log, Why};
pub use check::{Checked, check};
pub use derive::{Compared, Derive, Unread};
pub use error::IncidentError;
pub use pack::{Asked, Format, Given, PACK_BYTES_MAX, Pack, WINDOW_S_MAX, assemble};
