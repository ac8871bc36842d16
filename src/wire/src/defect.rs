//! Why bytes could not be read, as a closed list.
//!
//! A defect is a finding about bytes from outside, not an error of this program: the traffic may still pass.
//! The gateway maps each one to a reason by an exhaustive match.

use thiserror::Error;

/// What is wrong with a body, or why it was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Defect {
    /// Not one JSON text by RFC 8259.
    #[error("not well-formed JSON")]
    JsonMalformed,
    /// A JSON string holds bytes that are not UTF-8 (RFC 3629).
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A `\u` escape names half of a surrogate pair (RFC 8259 section 8.2).
    #[error("an escape names half of a surrogate pair")]
    LoneSurrogate,
    /// Arrays and objects nest deeper than [`crate::json::Limits::depth_max`].
    #[error("nested too deep")]
    DepthMax,
    /// A member name is longer than [`crate::json::Limits::key_bytes_max`].
    #[error("a member name is too long")]
    KeyBytesMax,
    /// A number is longer than [`crate::json::Limits::number_bytes_max`].
    #[error("a number is too long")]
    NumberBytesMax,
    /// A member that decides what a body says comes twice, or differs by case alone from one that does, so that
    /// two readers may see two bodies.
    #[error("a deciding member comes twice")]
    DuplicateKey,
    /// One event is longer than [`crate::sse::Limits::event_bytes_max`].
    #[error("an event is too long")]
    EventBytesMax,
    /// The body ended before what it had begun.
    #[error("the body ended early")]
    Truncated,
    /// The body has a content coding that was not undone. Set by callers, see `unread`.
    #[error("the content coding is not supported")]
    EncodingUnsupported,
    /// Nothing here knows how to read this body, or a value that decides what it says.
    #[error("not evaluated")]
    NotEvaluated,
}

impl Defect {
    /// Every defect, in the order of declaration.
    pub const ALL: [Self; 11] = [
        Self::JsonMalformed,
        Self::InvalidUtf8,
        Self::LoneSurrogate,
        Self::DepthMax,
        Self::KeyBytesMax,
        Self::NumberBytesMax,
        Self::DuplicateKey,
        Self::EventBytesMax,
        Self::Truncated,
        Self::EncodingUnsupported,
        Self::NotEvaluated,
    ];

    /// The stable code: metric label, receipt field and row of the reasons table.
    pub const fn code(self) -> &'static str {
        match self {
            Self::JsonMalformed => "JSON_MALFORMED",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::LoneSurrogate => "LONE_SURROGATE",
            Self::DepthMax => "DEPTH_MAX",
            Self::KeyBytesMax => "KEY_BYTES_MAX",
            Self::NumberBytesMax => "NUMBER_BYTES_MAX",
            Self::DuplicateKey => "DUPLICATE_KEY",
            Self::EventBytesMax => "EVENT_BYTES_MAX",
            Self::Truncated => "TRUNCATED",
            Self::EncodingUnsupported => "ENCODING_UNSUPPORTED",
            Self::NotEvaluated => "NOT_EVALUATED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_snake_and_distinct() {
        let mut codes: Vec<_> = Defect::ALL.iter().map(|defect| defect.code()).collect();
        assert!(codes.iter().all(|code| code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Defect::ALL.len());
    }
}
