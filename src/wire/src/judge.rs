//! Structured values of an answer, held back until they are judged.
//!
//! A value that a client acts on (a tool call's arguments, an answer that was asked for as JSON) is of no use before it
//! is whole, so nothing is lost by keeping it back until then. [`Stream`] takes the events of a stream with the parts
//! that a [`crate::dialect::ResponseScan`] found in them, and gives out what may leave: events without such values
//! at once, the others when their value has been judged, as the bytes that came. Where a value was repaired, its first
//! piece is replaced by the whole repaired text and the others by nothing; no other byte of any event changes.
//!
//! Promises:
//! - No part of a value leaves before the value is whole and its [`Judge`] let it pass, nor after one was refused.
//! - A value that is said again later (Responses repeats everything up to three times) must be said in the same words,
//!   or the stream is refused; if it was repaired, it is replaced there too.
//! - What leaves does not depend on how the bytes were cut. Memory is bounded by [`Stream::new`]'s limit.
//!
//! Left to others: what a value is held against ([`Judge`]), the words a client is told when one is refused, and time.

pub(crate) mod event;
mod stream;
mod text;

#[cfg(test)]
mod tests;

pub use event::{Blocks, beside_data, data, has_hidden_line, is_named, with_data, without_mark};
pub use stream::{Refused, Stream, Verdict};

use crate::dialect::CallForm;

/// What holds values against contracts.
pub trait Judge {
    /// What a repair did, for the record.
    type Repair;
    /// Why a value is refused.
    type Finding;

    /// Whether a call that is not the client's own is held back and judged; else it goes on as it comes.
    ///
    /// # Errors
    /// There must be no such call.
    fn wants_call(&mut self, form: CallForm, name: &str) -> Result<bool, Self::Finding>;

    /// Judges the arguments of a call of the tool `name`, in the form that calls like this have.
    fn call(&mut self, form: CallForm, name: &str, arguments: &[u8]) -> Outcome<Self::Repair, Self::Finding>;

    /// Whether the answer's text was asked for as JSON, so that it is held back and judged.
    fn wants_text(&self) -> bool;

    /// Judges such a text.
    fn text(&mut self, text: &[u8]) -> Outcome<Self::Repair, Self::Finding>;
}

/// What became of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R, F> {
    Pass,
    /// It passes with this text in its place.
    Repaired(Vec<u8>, R),
    Refused(F),
}
