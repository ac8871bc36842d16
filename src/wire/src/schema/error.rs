//! Why a schema is refused.

use thiserror::Error;

use crate::Defect;

/// One reason why a schema is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{pointer}`: {fault}")]
pub struct SchemaError {
    /// JSON pointer of the keyword or value, in the schema document.
    pub pointer: String,
    #[source]
    pub fault: Fault,
}

impl SchemaError {
    pub(super) fn at_root(fault: Fault) -> Self {
        Self { pointer: String::new(), fault }
    }
}

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("not a JSON text: {defect} at byte {offset}")]
    NotJson { defect: Defect, offset: u64 },
    #[error("member `{key}` comes twice")]
    DuplicateKey { key: String },
    #[error("must be {expected}, is {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error("`{found}` is not {expected}")]
    WrongValue { expected: &'static str, found: String },
    #[error("`{uri}` is not a dialect that can be enforced (2020-12 and draft-07 are)")]
    DialectUnsupported { uri: String },
    #[error("vocabulary `{uri}` is required and not supported")]
    VocabularyUnsupported { uri: String },
    #[error("this keyword is not supported here: {reason}")]
    KeywordUnsupported { reason: &'static str },
    #[error("reference `{uri}` leads outside of this document")]
    ReferenceOutside { uri: String },
    #[error("reference `{uri}` leads to nothing")]
    ReferenceDangling { uri: String },
    #[error("two schemas have the name `{uri}`")]
    NameTwice { uri: String },
    #[error("this schema applies itself to the same value again")]
    ReferenceLoop,
    #[error("pattern is not regular, or not by ECMA-262: {reason}")]
    PatternUnsupported { reason: String },
    #[error("pattern needs more than {limit} bytes")]
    PatternBytesMax { limit: usize },
    #[error("format `{name}` is not known, so it cannot be asserted")]
    FormatUnknown { name: String },
    #[error("schema has more than {limit} bytes")]
    BytesMax { limit: usize },
    #[error("schema has more than {limit} values")]
    ValuesMax { limit: usize },
    #[error("schema compiles to more than {limit} nodes")]
    NodesMax { limit: usize },
    #[error("enum has more than {limit} values")]
    EnumMax { limit: usize },
    #[error("one value would be judged by more than {limit} branches at once")]
    BranchesMax { limit: usize },
}
