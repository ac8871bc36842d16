//! Bytes in, units out: what passes through the gateway, recognized while it passes.
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`sse`] | bytes of a `text/event-stream` | events, and where each ends |
//! | [`json`] | bytes of one JSON text | tokens, to a visitor that says what it wants |
//! | [`csv`] | bytes of a CSV body | a verdict against a contract, and where it fails |
//! | [`repair`] | one malformed JSON value | the value repaired and the list of edits, or why not |
//! | [`schema`] | a JSON Schema; then bytes of one JSON text | whether the text keeps to it, and where it breaks it |
//! | [`contract`] | a contract; then bytes of one body | the bytes that may leave, or why the body is refused |
//! | [`dialect`] | a request or a response body in the shape of one API | the facts a receipt holds, and where the values stand that a judge looks at |
//! | [`judge`] | the events of an answer, with those values | the events that may leave, once a judge has seen them |
//!
//! All but `repair` is pushed: the caller hands in chunks as they arrive and keeps the bytes, which it may
//! forward untouched. Promises of every parser in this crate:
//!
//! - The answer does not depend on where the bytes were cut, down to one byte at a time.
//! - Memory is bounded by named limits and, once warm, nothing is allocated per event.
//! - Nothing is passed over in silence: what was not looked at is counted, with a [`Defect`] as the reason.
//! - No input makes it panic, wait, or read anything but its arguments.
//!
//! Left to others: I/O, time, content codings, what a defect means for the call (policy), and the words a
//! client is told.

pub mod contract;
pub mod csv;
pub mod dialect;
pub mod json;
pub mod judge;
pub mod repair;
pub mod schema;
pub mod sse;

mod defect;
#[cfg(test)]
mod splits;

pub use defect::Defect;
pub use dialect::Dialect;

/// A length as a counter that outlives one chunk.
const fn as_u64(length: usize) -> u64 {
    length as u64 // `usize` has at most 64 bits wherever Rust runs
}
