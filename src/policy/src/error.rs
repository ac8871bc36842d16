//! What can be wrong with a document, and where.

use std::fmt;

/// Most errors reported of one document. What lies beyond is counted in the last one.
pub(crate) const ERRORS_MAX: usize = 100;

/// Kind of an error; stable, for machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum PolicyErrorCode {
    /// The text is not YAML.
    Syntax,
    /// The YAML uses something that a policy may not use, or that YAML readers disagree about.
    YamlFeature,
    /// The document is larger or deeper than allowed.
    Limit,
    /// A key is written twice in one mapping.
    DuplicateKey,
    /// A key that the language does not have.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A value is of the wrong kind: a list where text belongs, or `"5"` where a number belongs.
    Type,
    /// A value is of the right kind and not allowed.
    Value,
    /// The version is not one this program reads.
    Version,
    /// A block without a reason code, or a body stored in full without a reason.
    ReasonMissing,
    /// Two rules have the same id.
    DuplicateRule,
    /// Two operations of a route have the same id, or take the same requests.
    AmbiguousOperation,
    /// A contract of a pack is not there, or is not the one that the document names.
    Pack,
    /// A rule that can never decide, because an earlier one takes all its calls. A warning.
    UnreachableRule,
    /// A threat id that no known list has. A warning, which `estoppel policy lint` does not let pass.
    UnknownThreat,
    /// A tolerance under which any two values are the same. A warning.
    IgnoredWhole,
}

impl PolicyErrorCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::Syntax,
        Self::YamlFeature,
        Self::Limit,
        Self::DuplicateKey,
        Self::UnknownKey,
        Self::MissingKey,
        Self::Type,
        Self::Value,
        Self::Version,
        Self::ReasonMissing,
        Self::DuplicateRule,
        Self::AmbiguousOperation,
        Self::Pack,
        Self::UnreachableRule,
        Self::UnknownThreat,
        Self::IgnoredWhole,
    ];

    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "POLICY_SYNTAX",
            Self::YamlFeature => "POLICY_YAML_FEATURE",
            Self::Limit => "POLICY_LIMIT",
            Self::DuplicateKey => "POLICY_DUPLICATE_KEY",
            Self::UnknownKey => "POLICY_UNKNOWN_KEY",
            Self::MissingKey => "POLICY_MISSING_KEY",
            Self::Type => "POLICY_TYPE",
            Self::Value => "POLICY_VALUE",
            Self::Version => "POLICY_VERSION",
            Self::ReasonMissing => "POLICY_REASON_MISSING",
            Self::DuplicateRule => "POLICY_DUPLICATE_RULE",
            Self::AmbiguousOperation => "POLICY_AMBIGUOUS_OPERATION",
            Self::Pack => "POLICY_PACK",
            Self::UnreachableRule => "POLICY_UNREACHABLE_RULE",
            Self::UnknownThreat => "POLICY_UNKNOWN_THREAT",
            Self::IgnoredWhole => "POLICY_IGNORED_WHOLE",
        }
    }

    /// Whether the document is accepted all the same.
    pub fn is_warning(self) -> bool {
        matches!(self, Self::UnreachableRule | Self::UnknownThreat | Self::IgnoredWhole)
    }
}

impl fmt::Display for PolicyErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {code}: {}{message}", Prefix(.path))]
pub struct PolicyError {
    /// Its kind.
    pub code: PolicyErrorCode,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key, as `rules[0].when.tool`; empty where the whole document is meant.
    pub path: String,
    /// What is wrong, for a reader.
    pub message: String,
}

struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}

/// Most characters of the document's own text that an error repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// Text of the document as an error may repeat it: short, and without characters that would spoil a log line.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() { cut + "…" } else { cut }
}

/// A place in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place {
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Collects errors up to [`ERRORS_MAX`].
#[derive(Default)]
pub(crate) struct Errors {
    list: Vec<PolicyError>,
    beyond: usize,
}

impl Errors {
    pub fn add(&mut self, code: PolicyErrorCode, place: Place, path: String, message: String) {
        if self.list.len() < ERRORS_MAX {
            self.list.push(PolicyError { code, line: place.line, column: place.column, path, message });
        } else {
            self.beyond += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len() + self.beyond
    }

    /// The errors in the order of the text.
    pub fn into_list(mut self) -> Vec<PolicyError> {
        self.list.sort_by_key(|error| (error.line, error.column));
        if let Some(last) = self.list.last_mut().filter(|_| self.beyond > 0) {
            last.message = format!("{}; and {} errors more", last.message, self.beyond);
        }
        self.list
    }
}
