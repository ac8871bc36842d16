//! What can be wrong with a generation, and where.

use std::fmt;

/// Most errors reported of one file. What lies beyond is counted in the last one.
pub(super) const ERRORS_MAX: usize = 100;

/// Kind of an error; stable, for machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum GenerationErrorCode {
    /// The text is neither YAML nor TOML, or has no canonical form.
    Syntax,
    /// The YAML uses what readers disagree about, or an anchor, an alias or a tag.
    YamlFeature,
    /// The file is larger or deeper than allowed.
    Limit,
    /// A key is written twice in one mapping.
    DuplicateKey,
    /// The document does not keep to `spec/generation.schema.json`.
    Schema,
    /// Two changes, steps, hooks or commands have the same id.
    DuplicateId,
    /// A step names a change or a step that is not there.
    UnknownReference,
    /// Steps need each other in a circle.
    Cycle,
    /// No step proves a change.
    Unproven,
    /// A change lacks what the generation asks of changes of its type.
    ChangePolicy,
    /// Values that do not go together.
    Contradiction,
    /// The file is not named after the version in it.
    FileName,
}

impl GenerationErrorCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::Syntax,
        Self::YamlFeature,
        Self::Limit,
        Self::DuplicateKey,
        Self::Schema,
        Self::DuplicateId,
        Self::UnknownReference,
        Self::Cycle,
        Self::Unproven,
        Self::ChangePolicy,
        Self::Contradiction,
        Self::FileName,
    ];

    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "GENERATION_SYNTAX",
            Self::YamlFeature => "GENERATION_YAML_FEATURE",
            Self::Limit => "GENERATION_LIMIT",
            Self::DuplicateKey => "GENERATION_DUPLICATE_KEY",
            Self::Schema => "GENERATION_SCHEMA",
            Self::DuplicateId => "GENERATION_DUPLICATE_ID",
            Self::UnknownReference => "GENERATION_UNKNOWN_REFERENCE",
            Self::Cycle => "GENERATION_CYCLE",
            Self::Unproven => "GENERATION_UNPROVEN",
            Self::ChangePolicy => "GENERATION_CHANGE_POLICY",
            Self::Contradiction => "GENERATION_CONTRADICTION",
            Self::FileName => "GENERATION_FILE_NAME",
        }
    }
}

impl fmt::Display for GenerationErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with a generation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{code}: {pointer}: {message}", Prefix(*.line))]
pub struct GenerationError {
    /// Its kind.
    pub code: GenerationErrorCode,
    /// JSON pointer (RFC 6901) of the value; empty where the whole document is meant.
    pub pointer: String,
    /// Line in the text, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and what is allowed.
    pub message: String,
}

struct Prefix(Option<usize>);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, "line {line}: "))
    }
}

impl GenerationError {
    pub(super) fn new(
        code: GenerationErrorCode,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { code, pointer: pointer.into(), line: None, message: message.into() }
    }
}

/// Most characters of the document's own text that an error repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// Text of the document as an error may repeat it: short, and without characters that would spoil a log line.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() { cut + "…" } else { cut }
}
