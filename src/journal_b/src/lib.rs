//! Where evidence becomes durable: admission, the ordered writer, segments, recovery, sealing.
//!
//! One thread orders everything. Callers reserve a [`Slot`] before they do anything that must be recorded, hand one
//! record over when it is done, and wait on an [`Ack`] that resolves when the record is as durable as
//! [`Settings::durability`] says. The formats are those of SPEC sections 4, 5 and 12.
//!
//! Absent on purpose: unbounded queues, retries of a failed fsync, and any reading of what a record means.

mod ack;
mod bodies;
mod chain;
mod checkpoint;
mod clock;
mod error;
mod frame;
mod handle;
mod journal;
pub mod keys;
mod recover;
mod seal;
mod segment;
mod settings;
mod stats;
mod storage;
mod writer;

pub use ack::{Ack, AckError, Recorded};
pub use bodies::{Bodies, BodyError, StoredBody};
pub use clock::{Clock, SystemClock};
pub use error::{JournalError, Refused, SealError};
pub use handle::{RunHandle, RunState, RunSummary, Slot};
pub use journal::Journal;
pub use keys::Keys;
pub use seal::SealedRun;
pub use settings::{Settings, SpillSettings};
pub use stats::Stats;
pub use storage::{Files, SegmentFile, Storage};
