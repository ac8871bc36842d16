//! JSON Schema compiled once, then judged while a JSON text streams by: contracts as automata.
//!
//! Words: a *schema* is a document by JSON Schema 2020-12 or draft-07, or in another [`Language`]; a *node* is the duty of
//! one of its subschemas; a [`Check`] judges one JSON text after another; a *task* is a node at work on one open value.
//!
//! Promises:
//! - A schema is enforced whole or refused: what is not supported, or over the [`SchemaLimits`], is a
//!   [`SchemaError`] with the place of the keyword. Nothing is fetched.
//! - A [`Violation`] comes at the token that decides it, and does not depend on how the bytes were cut.
//! - Memory is bounded by the depth of the text and by the [`CheckLimits`]; once warm, nothing is allocated.
//! - A member that comes twice is a violation, in every object, known to the schema or not.
//! - What must be kept whole is kept under a cap; past the cap is a violation of its own, never a pass.
//!
//! Left to others: what a violation means for the call (policy), where schemas come from, and repair.

mod at_once;
mod check;
mod choice;
mod compile;
mod document;
mod error;
mod format;
mod gemini;
mod hash;
mod index;
mod keyword;
mod names;
mod node;
mod number;
mod pattern;
mod scalar;
mod sets;
mod task;
mod uri;
mod violation;

#[cfg(test)]
mod tests;

pub use check::{Check, CheckLimits};
pub use error::{Fault, SchemaError};
pub use hash::HashKey;
pub use keyword::Keyword;
pub use violation::{Cap, Cause, Violation};

use node::Program;

/// Bounds on one schema. A schema over one of them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaLimits {
    /// Bytes of the document. Default 1 MiB.
    pub bytes_max: usize,
    /// Values in the document, of any kind. Default 65,536.
    pub values_max: usize,
    /// Arrays and objects inside each other. Default and most: [`crate::json::DEPTH_MOST`].
    pub depth_max: u32,
    /// Nodes that the document compiles to. Default 65,536.
    pub nodes_max: usize,
    /// Nodes that judge one value together, by references, `allOf`, `anyOf` and their kind. Default 64.
    pub branches_max: usize,
    /// Values in one `enum`. Default 4,096.
    pub enum_max: usize,
    /// Memory of the automaton of one pattern; making it takes up to four times as much. Default 2 MiB.
    pub pattern_bytes_max: usize,
    /// Memory of the automata of all patterns. Default 8 MiB.
    pub patterns_bytes_max: usize,
    /// What `format` means. Default: nothing.
    pub formats: Formats,
    /// What becomes of members that are no keywords. Default: nothing.
    pub unknown: Unknown,
}

impl Default for SchemaLimits {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 20,
            values_max: 65_536,
            depth_max: crate::json::DEPTH_MOST,
            nodes_max: 65_536,
            branches_max: 64,
            enum_max: 4_096,
            pattern_bytes_max: 2 << 20,
            patterns_bytes_max: 8 << 20,
            formats: Formats::Annotate,
            unknown: Unknown::Ignore,
        }
    }
}

/// What a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// JSON Schema 2020-12, or draft-07 where it says so.
    JsonSchema,
    /// Gemini's `Schema`: `parameters` and `responseSchema` of its requests.
    Gemini,
}

/// What the keyword `format` means (Validation section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formats {
    /// It says something to readers, and nothing to this program.
    Annotate,
    /// Strings must be in the format; a format that is not known makes the schema refused.
    Assert,
}

/// What becomes of members of a schema that are no keywords (Core section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They are annotations.
    Ignore,
    /// They make the schema refused, because they may be keywords misspelt. Those that begin with `x-` do not.
    Refuse,
}

/// A compiled schema, to be shared by any number of checks.
///
/// ```
/// use std::sync::Arc;
/// use estoppel_wire::schema::{Check, CheckLimits, HashKey, Schema, SchemaLimits};
///
/// let schema = br#"{"properties": {"amount": {"type": "integer", "maximum": 100}}, "required": ["amount"]}"#;
/// let schema = Schema::compile(schema, &SchemaLimits::default()).expect("a schema that can be enforced");
/// let mut check = Check::new(Arc::new(schema), CheckLimits::default(), HashKey([1, 2])); // drawn at random, really
///
/// check.feed(br#"{"amo"#).expect("nothing is wrong yet");
/// let violation = check.feed(br#"unt": 1e3, "note": "#).expect_err("too much");
/// assert_eq!((&*violation.schema, &*violation.instance), ("/properties/amount/maximum", "/amount"));
/// assert_eq!(violation.offset, 11);
/// ```
#[derive(Debug)]
pub struct Schema {
    program: Program,
}

impl Schema {
    /// Compiles a JSON Schema document, or says all that is wrong with it.
    pub fn compile(document: &[u8], limits: &SchemaLimits) -> Result<Self, Vec<SchemaError>> {
        Self::compile_in(Language::JsonSchema, document, limits)
    }

    /// Compiles a schema document in `language`, or says all that is wrong with it.
    pub fn compile_in(
        language: Language,
        document: &[u8],
        limits: &SchemaLimits,
    ) -> Result<Self, Vec<SchemaError>> {
        compile::compile(language, document, limits).map(|program| Self { program })
    }
}
