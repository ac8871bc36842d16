//! What a check answers when a text breaks its contract.

use std::fmt;

use super::Keyword;
use crate::Defect;

/// The first token that breaks the contract, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub cause: Cause,
    /// JSON pointer to the value in the text; names are shortened and control characters escaped.
    pub instance: Box<str>,
    /// JSON pointer to the keyword in the schema document; empty if no keyword is to blame.
    pub schema: Box<str>,
    /// Offset of the first byte of the token, in bytes from the start of the text. For a defect, the bytes found good.
    pub offset: u64,
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Not a JSON text that can be read.
    Json(Defect),
    /// A member comes twice.
    DuplicateKey,
    /// A value fails the schema.
    Keyword(Keyword),
    /// Judging would have needed more than it may have.
    Cap(Cap),
}

/// A limit of [`super::CheckLimits`] that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    Names,
    Text,
    Items,
    Branches,
    Evaluated,
}

impl Cause {
    /// The stable code: metric label and receipt field.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Json(defect) => defect.code(),
            Self::DuplicateKey => Defect::DuplicateKey.code(),
            Self::Keyword(_) => "SCHEMA_VIOLATION",
            Self::Cap(Cap::Names) => "SCHEMA_NAMES_MAX",
            Self::Cap(Cap::Text) => "SCHEMA_TEXT_BYTES_MAX",
            Self::Cap(Cap::Items) => "SCHEMA_UNIQUE_ITEMS_MAX",
            Self::Cap(Cap::Branches) => "SCHEMA_BRANCHES_MAX",
            Self::Cap(Cap::Evaluated) => "SCHEMA_EVALUATED_MAX",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Json(defect) => write!(f, "{defect}")?,
            Cause::DuplicateKey => f.write_str("a member comes twice")?,
            Cause::Keyword(_) => write!(f, "fails `{}`", self.schema)?,
            Cause::Cap(cap) => f.write_str(match cap {
                Cap::Names => "too many names open to tell whether one comes twice",
                Cap::Text => "a string too long to be judged",
                Cap::Items => "too many items to tell whether they are unique",
                Cap::Branches => "too many branches of the schema at once",
                Cap::Evaluated => "too many members to tell which were evaluated",
            })?,
        }
        write!(f, " at `{}`, byte {}", self.instance, self.offset)
    }
}

impl std::error::Error for Violation {}
