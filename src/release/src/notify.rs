//! What others are told of the ledger: messages about its events, and what of them was told by this clone (spec/notification.md, docs/notifications.md).
//!
//! A message is a function of the ledger alone, so that every clone says the same of an event under the same key. What was
//! told is kept beside the repository and outlives every restart; nothing of it is in the ledger.
//!
//! Left to others: who is told, how, and when.

mod message;
mod told;

#[cfg(test)]
mod tests;

pub use message::{ALERT, Message, NAMES_OF_RUNS, TEST, is_beginning, messages, names, test};
pub use told::{Bound, DESTINATIONS_MAX, Fault, REFUSED_MAX, State, Told};
