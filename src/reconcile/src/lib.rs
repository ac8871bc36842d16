//! A provider's own log held against receipts.
//!
//! A *row* is a call that the provider's log names, or calls that it only counts. A row without a receipt is a call that went
//! round the gateway. One receipt answers for one row: whatever two of them have in common, the second is told.
//!
//! Promised: the same bytes give the same outcome, in whatever order receipts come; nothing that is unreadable is passed over,
//! so a log is read whole or not at all. Left to others: whether the receipts are genuine (verify them first), files, printing.

#![deny(clippy::unwrap_used, clippy::panic)]

mod mapping;
mod moment;
mod pair;
mod read;
mod receipt;
mod row;
mod sums;
mod sweep;

pub use mapping::{Mapping, TimeUnit};
pub use moment::moment;
pub use pair::{Cause, Paired, Pairing, Sure, Unpaired, pair};
pub use read::{Format, Log, ROWS_MAX, ReadError, read};
pub use receipt::Receipt;
pub use row::{Row, Sum, Tokens};
pub use sums::{Excess, excesses};
