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
    /// Name of the member that should be there and is not, shortened and escaped, where that is what the keyword says.
    pub missing: Option<Box<str>>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cap {
    #[error("too many names open to tell whether one comes twice")]
    Names,
    #[error("a string too long to be judged")]
    Text,
    #[error("too many items to tell whether they are unique")]
    Items,
    #[error("too many branches of the schema at once")]
    Branches,
    #[error("too many members to tell which were evaluated")]
    Evaluated,
    #[error("judging it takes more steps than a text of its size may")]
    Cost,
}

impl Cap {
    /// Every cap, in the order of declaration.
    pub const ALL: [Self; 6] =
        [Self::Names, Self::Text, Self::Items, Self::Branches, Self::Evaluated, Self::Cost];

    const fn code(self) -> &'static str {
        match self {
            Self::Names => "SCHEMA_NAMES_MAX",
            Self::Text => "SCHEMA_TEXT_BYTES_MAX",
            Self::Items => "SCHEMA_UNIQUE_ITEMS_MAX",
            Self::Branches => "SCHEMA_BRANCHES_MAX",
            Self::Evaluated => "SCHEMA_EVALUATED_MAX",
            Self::Cost => "SCHEMA_COST_MAX",
        }
    }
}

impl Cause {
    /// The stable code: metric label, receipt field, and row of spec/findings.json or, of a defect, spec/reasons.json.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Json(defect) => defect.code(),
            Self::DuplicateKey => Defect::DuplicateKey.code(),
            Self::Keyword(_) => "SCHEMA_VIOLATION",
            Self::Cap(cap) => cap.code(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Json(defect) => write!(f, "{defect}")?,
            Cause::DuplicateKey => f.write_str("a member comes twice")?,
            Cause::Keyword(_) => write!(f, "fails `{}`", self.schema)?,
            Cause::Cap(cap) => write!(f, "{cap}")?,
        }
        match &*self.instance {
            "" => write!(f, " at the top, byte {}", self.offset)?,
            instance => write!(f, " at `{instance}`, byte {}", self.offset)?,
        }
        self.missing.as_ref().map_or(Ok(()), |name| write!(f, ": `{name}` is missing"))
    }
}

impl std::error::Error for Violation {}
