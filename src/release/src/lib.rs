//! From a generation to its promotion: what changes, what proves it, and what was decided on that proof.
//!
//! Words: a *generation* is the contract of one version; an *evolution* is one run of its steps on one commit; a *gate* is
//! a condition of its promotion; the *ledger* is the signed, append-only history of all of it, on a ref of the
//! repository itself.
//!
//! Left to others: reading evidence of traffic ([`estoppel-verify`] and the sidecar), printing, and keys.

mod version;

pub use version::{NotAVersion, Version};
