//! What evidence is made of: ids, hashes, canonical bytes, entries, trees, notes, signature envelopes and reasons.
//!
//! Everything here is a function of its arguments: no clock, files, network, environment or threads. The formats are
//! those of `spec/pef/SPEC.md`; each module names its section. Judging evidence is left to `estoppel-verify`, which
//! shares no code with this crate on purpose.

pub mod canonical;
pub mod capture;
pub mod disclosure;
pub mod entry;
pub mod envelope;
pub mod hash;
pub mod id;
pub mod key;
pub mod note;
pub mod reason;
pub mod text;
pub mod time;
pub mod tree;

pub use capture::{CallCapture, CaptureKey, RunCapture, Tag};
pub use hash::{Leaf, Root, Sha256};
pub use id::{CallId, HoldId, Instance, RunId};
pub use key::{Alg, KeyId, PublicKey, Signer, SoftKey, Use};
pub use reason::{Fault, Reason};
