//! The journal: admission, one ordered writer, segments, checkpoints, keys, bodies, bundles.
//!
//! A call takes a [`Slot`] before it may go on and gives it back as a record; the writer thread chains and signs records,
//! makes a whole batch durable at once and then resolves the [`Ack`]s. Formats are those of `spec/pef/SPEC.md`; what is
//! signed and how lines look is decided in `estoppel-evidence`.
//!
//! Promises: an acknowledged record is in the journal or the spill file and stays there through a crash at any
//! moment; an entry's place never changes; after an error of the disk nothing is acknowledged any more; what a start
//! finds is either continued exactly, or cut above the last checkpoint with an entry that says so, or refused.
//!
//! Left to others: what is recorded (the gateway), what it means (the verifier), when to seal (callers and operators).

pub mod encryption;
pub mod keys;
pub mod retention;
pub mod signer;
pub mod storage;
pub mod trust;

pub mod spill;

mod admit;
mod beginning;
mod bodies;
mod bundled;
mod chain;
mod checkpoint;
mod clock;
mod control;
mod documents;
mod entries;
mod error;
mod follow;
mod held;
mod index;
mod journal;
mod killed;
mod layout;
mod program;
mod read;
mod recover;
mod run;
mod seal;
mod segment;
mod settings;
mod start;
mod stats;
mod unsealed;
mod writer;

pub use admit::{Ack, AckError, CONTROLS_MAX, Promise, Recorded, Refused, Slot};
pub use bodies::{BodyError, BodyStore, BodyWriter, read_body, stores_encrypted};
pub use clock::{Clock, SystemClock};
pub use control::{Pending, Rotated};
pub use documents::DocumentStore;
pub use entries::ReadError;
pub use error::{CloseError, JournalError, StorePolicyError};
pub use follow::{Entry, Followed, Follower, Position};
pub use held::HeldCall;
pub use journal::{Before, Journal};
pub use keys::{KeyFileError, RotateError};
pub use killed::KilledTarget;
pub use read::read_lines;
pub use run::{RunHandle, RunState, RunSummary};
pub use seal::{BUNDLES_MAX, SealError, SealedRun};
pub use segment::SEGMENT_BYTES_MAX;
pub use settings::{CopyOf, Keys, SEGMENT_BYTES_MIN, Settings, SpillSettings};
pub use stats::Stats;
pub use unsealed::{UnsealedError, check_unsealed};
pub use writer::{BATCH_MAX, SEALS_MAX};
