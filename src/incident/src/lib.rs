//! What happened around a run, as one file (`spec/incident.md`): sealed bundles, an index, and a timeline whose references
//! resolve in them.
//!
//! - [`Given`] is a sealed bundle with what lies beside it; [`assemble`] makes a [`Pack`] of several.
//! - [`check`] judges a pack: every bundle by `estoppel-verify`, and all else by making it again from the bundles.
//!
//! Promises: the same bundles give the same bytes; nothing that a pack says of itself is believed.
//!
//! Left to others: what takes more than reading a bundle ([`Derive`]), finding the bundles of a window, files.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

mod check;
mod derive;
mod error;
mod link;
mod pack;
mod page;
mod timeline;

pub use check::{Checked, check};
pub use derive::Derive;
pub use error::IncidentError;
pub use pack::{Given, PACK_BYTES_MAX, Pack, WINDOW_S_MAX, assemble};
