//! JSON as a stream of tokens: one JSON text by RFC 8259, pushed in chunks, told to a visitor.
//!
//! The tokenizer is strict (no byte order mark, no comments, no lone surrogates, UTF-8 only) and checks every
//! byte, also of what the visitor does not want. The visitor steers by *places*: it gives each value it cares
//! for a place of its own making, gets the place back with everything that happens there, and answers `None`
//! for what it does not care for, which then costs no calls at any depth below. So a path is one small value
//! and nobody keeps a list of names.
//!
//! Promises:
//! - The calls a visitor sees, joined over the pieces of a string, do not depend on how the bytes were cut;
//!   nor does a defect, nor its [`Tokenizer::offset`].
//! - State is bounded by [`Limits`]; once warm, nothing is allocated, and text is handed out as slices of the
//!   chunk. Keys and numbers are copied only when a chunk ends inside one, or a key has an escape.
//! - Numbers are text. Nothing is rounded, and `1e999` is as good as `1`.
//!
//! Left to the visitor: members that come twice, and what anything means.

mod expected;
mod number;
mod short;
mod string;
mod text;
mod tokenizer;

#[cfg(test)]
mod tests;

pub use expected::Expected;
pub use short::Short;
pub use tokenizer::Tokenizer;

/// Bounds on one JSON text. All are reached by hostile input only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arrays and objects inside each other. Default and most: [`DEPTH_MOST`].
    pub depth_max: u32,
    /// Bytes of a member name as written, escapes included, without its quotes. Default 1 KiB.
    pub key_bytes_max: usize,
    /// Bytes of a number as written. Default 1 KiB.
    pub number_bytes_max: usize,
}

/// Most depth any [`Limits`] can allow.
pub const DEPTH_MOST: u32 = 128;

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: DEPTH_MOST, key_bytes_max: 1024, number_bytes_max: 1024 }
    }
}

/// The two kinds of values that hold others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Object,
    Array,
}

/// The three values that are names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    True,
    False,
    Null,
}

/// Whether a visitor wants the content of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Give it in pieces to [`Visitor::text`].
    Take,
    /// Check it, say where it ends, and keep it.
    Pass,
}

/// Who is told of the tokens. Every method but the first two does nothing unless overridden.
pub trait Visitor {
    /// Where a value stands, as far as the visitor cares.
    type Place: Copy;

    /// The place of the member `key` (unescaped, UTF-8) of the object at `of`. `None`: not wanted.
    fn member(&mut self, of: Self::Place, key: &[u8]) -> Option<Self::Place>;

    /// The member that most likely comes next in the object at `of`. If it does and is written without escapes, then
    /// [`Self::expected_member`] may be called in place of [`Self::member`].
    fn expected(&self, of: Self::Place) -> Option<&Expected> {
        let _ = of;
        None
    }

    /// The place of the member just expected. Not called where none was.
    fn expected_member(&mut self, of: Self::Place) -> Option<Self::Place> {
        let _ = of;
        None
    }

    /// The place of the next element of the array at `of`. `None`: not wanted.
    fn element(&mut self, of: Self::Place) -> Option<Self::Place>;

    /// An object or array opens at `at`.
    fn begin(&mut self, at: Self::Place, container: Container) {
        let _ = (at, container);
    }

    /// The object or array at `at` is whole.
    fn end(&mut self, at: Self::Place, container: Container) {
        let _ = (at, container);
    }

    /// A string opens at `at`.
    fn string(&mut self, at: Self::Place) -> Capture {
        let _ = at;
        Capture::Pass
    }

    /// The next piece of a string that is taken: unescaped, not empty, and UTF-8 once all pieces are joined.
    fn text(&mut self, at: Self::Place, piece: &[u8]) {
        let _ = (at, piece);
    }

    /// In place of [`Self::string`], [`Self::text`] and [`Self::string_end`]: a string without escapes and of ASCII only.
    fn whole_string(&mut self, at: Self::Place, text: &[u8]) {
        if self.string(at) == Capture::Take && !text.is_empty() {
            self.text(at, text);
        }
        self.string_end(at);
    }

    /// The string at `at` is whole, taken or not.
    fn string_end(&mut self, at: Self::Place) {
        let _ = at;
    }

    /// A number, as written: ASCII.
    fn number(&mut self, at: Self::Place, text: &[u8]) {
        let _ = (at, text);
    }

    /// In place of [`Self::number`], where it is of few digits, already read.
    fn short_number(&mut self, at: Self::Place, text: &[u8], number: Short) {
        let _ = number;
        self.number(at, text);
    }

    /// Nothing more is wanted, not even the check that the rest is well-formed. Asked between tokens; once it is
    /// true, the tokenizer takes no more bytes until [`Tokenizer::reset`].
    fn is_done(&self) -> bool {
        false
    }

    /// `true`, `false` or `null`.
    fn literal(&mut self, at: Self::Place, literal: Literal) {
        let _ = (at, literal);
    }

    /// Where the value at `at` stands in the text, quotes and brackets included, counted in bytes from the text's first.
    /// Comes last of all that is told of a value.
    fn span(&mut self, at: Self::Place, from: u64, to: u64) {
        let _ = (at, from, to);
    }
}
