//! From a generation to its promotion: what changes, what proves it, and what was decided on that proof.
//!
//! Words: a *generation* is the contract of one version; an *evolution* is one run of its steps on one commit; a *gate* is
//! a condition of its promotion; the *ledger* is the signed, append-only history of all of it, on a ref of the
//! repository itself.
//!
//! Left to others: reading evidence of traffic, printing, and where keys are kept.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic))]

pub mod audit;
mod code;
pub mod environment;
pub mod evolution;
pub mod generation;
pub mod git;
mod hook;
pub mod index;
pub mod ledger;
pub mod notify;
pub mod process;
pub mod promotion;
pub mod rollback;
#[cfg(test)]
mod scene;
pub mod sync;
pub mod tag;
mod version;
mod worktree;

pub use code::{Code, Refusal};
pub use version::{NotAVersion, Version};
