//! Repair-once: one fixed pass over the bytes of one malformed JSON value (spec/repair.md).
//!
//! Words: a *class* is one kind of damage together with its edit; a *profile* says which classes are granted;
//! an *edit* is a change at an offset of the original bytes.
//!
//! Promises:
//! - A value that is well formed is never entered ([`Outcome::Intact`]).
//! - The outcome depends on profile and bytes alone. Repaired bytes are what [`apply`] makes of the original
//!   and the edits; they are one JSON text without names that come twice, and a second pass finds them intact.
//! - No member, element or value is added or dropped, and string content and number text stay as they are,
//!   except for escapes. What has more than one reading is [`Unrepairable`], with a code to count it by.
//! - Time is linear but for sorting names, nothing recurses, output is bounded by the input and the edits.
//!
//! Left to the caller: that the value came whole and carries no signature, its contract, blocking, the receipt.

mod check;
mod class;
mod coerce;
mod edit;
mod envelope;
mod pointer;
mod scan;
mod string;
mod trivia;
mod unrepairable;
mod word;

#[cfg(test)]
mod tests;

pub use class::{Class, Classes};
pub use coerce::{Scalar, Want, coerce};
pub use edit::{EDITS_MOST, Edit, Misfit, apply};
pub use unrepairable::Unrepairable;

use scan::Scan;

/// The grammar and its list of edits: `strategy` in a receipt.
pub const PROFILE_ID: &str = "r1";

/// What may be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The classes that are granted. Default [`Classes::SAFE`].
    pub classes: Classes,
    /// Most edits of one value. Default 16, at most [`EDITS_MOST`]. One more is [`Unrepairable::EditsMax`].
    pub edits_max: usize,
    /// Most bytes of a malformed value. Default 256 KiB. A longer one is [`Unrepairable::BytesMax`].
    pub bytes_max: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self { classes: Classes::SAFE, edits_max: 16, bytes_max: 256 * 1024 }
    }
}

/// What the pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value is well formed; it was not entered.
    Intact,
    Repaired(Repaired),
}

/// A value that was malformed and no longer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub bytes: Vec<u8>,
    /// At least one, in order.
    pub edits: Vec<Edit>,
    /// The text was cut and only its brackets were closed: more may be missing than anybody saw.
    pub lossy: bool,
}

impl Repaired {
    /// `original` with `edits`, if that is well formed.
    fn check(original: &[u8], edits: Vec<Edit>) -> Result<Self, Unrepairable> {
        let bytes = apply(original, &edits).map_err(|Misfit { .. }| Unrepairable::UnexpectedByte)?;
        check::strict(&bytes)?;
        let lossy = edits.iter().any(|edit| edit.class.is_lossy());
        Ok(Self { bytes, edits, lossy })
    }
}

/// Repairs one value, once.
pub fn repair(profile: &Profile, bytes: &[u8]) -> Result<Outcome, Unrepairable> {
    match check::strict(bytes) {
        Ok(()) => return Ok(Outcome::Intact),
        Err(Unrepairable::DuplicateKey) => return Err(Unrepairable::DuplicateKey),
        Err(_) => {}
    }
    if bytes.len() > profile.bytes_max {
        return Err(Unrepairable::BytesMax);
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        let cut = error.error_len().is_none();
        return Err(if cut { Unrepairable::Truncated } else { Unrepairable::InvalidUtf8 });
    }
    let edits = Scan::new(profile, bytes).run()?;
    Repaired::check(bytes, edits).map(Outcome::Repaired)
}
