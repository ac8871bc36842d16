//! Why a value is left as it is: the codes of spec/repair.md section 6.

use thiserror::Error;

use super::Class;
use crate::Defect;

/// The damage that was met first and is not repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Unrepairable {
    #[error("the text ends inside a value")]
    Truncated,
    #[error("a quote is missing, or one inside a string is not escaped")]
    QuoteBroken,
    #[error("a colon is missing")]
    ColonMissing,
    #[error("typographic quotes as delimiters")]
    SmartQuote,
    #[error("not a number, or infinite")]
    NotANumber,
    #[error("a number is not written as JSON writes it")]
    NumberForm,
    #[error("more than one value could be meant")]
    SeveralCandidates,
    #[error("several values follow each other")]
    SeveralDocuments,
    #[error("a member name comes twice in one object")]
    DuplicateKey,
    #[error("a value is missing")]
    ValueMissing,
    #[error("a member lacks its name or its value")]
    MemberIncomplete,
    #[error("not UTF-8")]
    InvalidUtf8,
    #[error("an escape names half of a surrogate pair")]
    LoneSurrogate,
    #[error("an escape that JSON does not have")]
    EscapeInvalid,
    #[error("a bare word as a value")]
    LiteralUnknown,
    #[error("a member name is no string and no identifier")]
    KeyNotString,
    #[error("a closer has no opener of its kind")]
    CloserUnmatched,
    #[error("more than one comma is missing")]
    CommasMissing,
    #[error("strings in single and in double quotes")]
    QuotesMixed,
    #[error("readers may disagree about what a comment hides")]
    CommentAmbiguous,
    #[error("readers may disagree about where a code fence ends")]
    FenceAmbiguous,
    #[error("the text around the value may be part of it")]
    ProseAmbiguous,
    #[error("nothing that could be a value")]
    NoCandidate,
    #[error("a byte that no rule allows")]
    UnexpectedByte,
    #[error("nested too deep")]
    DepthMax,
    #[error("a member name is too long")]
    KeyBytesMax,
    #[error("a number is too long")]
    NumberBytesMax,
    #[error("the value is too long to repair")]
    BytesMax,
    #[error("too many edits")]
    EditsMax,
    #[error("a scalar cannot become the wanted type without loss")]
    CoercionLossy,
    #[error("a pointer names no scalar, or one with two wishes")]
    CoercionTarget,
    /// It could be repaired, but the profile does not grant it.
    #[error("the repair `{}` is not granted", .0.name())]
    NotGranted(Class),
}

impl Unrepairable {
    /// Every one but those that name a class.
    const PLAIN: [Self; 31] = [
        Self::Truncated,
        Self::QuoteBroken,
        Self::ColonMissing,
        Self::SmartQuote,
        Self::NotANumber,
        Self::NumberForm,
        Self::SeveralCandidates,
        Self::SeveralDocuments,
        Self::DuplicateKey,
        Self::ValueMissing,
        Self::MemberIncomplete,
        Self::InvalidUtf8,
        Self::LoneSurrogate,
        Self::EscapeInvalid,
        Self::LiteralUnknown,
        Self::KeyNotString,
        Self::CloserUnmatched,
        Self::CommasMissing,
        Self::QuotesMixed,
        Self::CommentAmbiguous,
        Self::FenceAmbiguous,
        Self::ProseAmbiguous,
        Self::NoCandidate,
        Self::UnexpectedByte,
        Self::DepthMax,
        Self::KeyBytesMax,
        Self::NumberBytesMax,
        Self::BytesMax,
        Self::EditsMax,
        Self::CoercionLossy,
        Self::CoercionTarget,
    ];

    /// Every one, in the order of declaration.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(Class::ALL.into_iter().map(Self::NotGranted))
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Truncated => "TRUNCATED",
            Self::QuoteBroken => "QUOTE_BROKEN",
            Self::ColonMissing => "COLON_MISSING",
            Self::SmartQuote => "SMART_QUOTE",
            Self::NotANumber => "NOT_A_NUMBER",
            Self::NumberForm => "NUMBER_FORM",
            Self::SeveralCandidates => "SEVERAL_CANDIDATES",
            Self::SeveralDocuments => "SEVERAL_DOCUMENTS",
            Self::DuplicateKey => "DUPLICATE_KEY",
            Self::ValueMissing => "VALUE_MISSING",
            Self::MemberIncomplete => "MEMBER_INCOMPLETE",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::LoneSurrogate => "LONE_SURROGATE",
            Self::EscapeInvalid => "ESCAPE_INVALID",
            Self::LiteralUnknown => "LITERAL_UNKNOWN",
            Self::KeyNotString => "KEY_NOT_STRING",
            Self::CloserUnmatched => "CLOSER_UNMATCHED",
            Self::CommasMissing => "COMMAS_MISSING",
            Self::QuotesMixed => "QUOTES_MIXED",
            Self::CommentAmbiguous => "COMMENT_AMBIGUOUS",
            Self::FenceAmbiguous => "FENCE_AMBIGUOUS",
            Self::ProseAmbiguous => "PROSE_AMBIGUOUS",
            Self::NoCandidate => "NO_CANDIDATE",
            Self::UnexpectedByte => "UNEXPECTED_BYTE",
            Self::DepthMax => "DEPTH_MAX",
            Self::KeyBytesMax => "KEY_BYTES_MAX",
            Self::NumberBytesMax => "NUMBER_BYTES_MAX",
            Self::BytesMax => "BYTES_MAX",
            Self::EditsMax => "EDITS_MAX",
            Self::CoercionLossy => "COERCION_LOSSY",
            Self::CoercionTarget => "COERCION_TARGET",
            Self::NotGranted(class) => class.not_granted(),
        }
    }
}

impl From<Defect> for Unrepairable {
    fn from(defect: Defect) -> Self {
        match defect {
            Defect::InvalidUtf8 => Self::InvalidUtf8,
            Defect::LoneSurrogate => Self::LoneSurrogate,
            Defect::DepthMax => Self::DepthMax,
            Defect::KeyBytesMax => Self::KeyBytesMax,
            Defect::NumberBytesMax => Self::NumberBytesMax,
            Defect::DuplicateKey => Self::DuplicateKey,
            Defect::Truncated => Self::Truncated,
            // The tokenizer says none of the last three.
            Defect::JsonMalformed
            | Defect::EventBytesMax
            | Defect::EncodingUnsupported
            | Defect::NotEvaluated => Self::UnexpectedByte,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_the_specification() {
        let specification = include_str!("../../../../spec/repair.md");
        let mut codes: Vec<_> = Unrepairable::PLAIN.iter().map(|plain| plain.code()).collect();
        assert!(codes.iter().all(|code| specification.contains(&format!("`{code}`"))));
        for class in Class::ALL {
            assert!(specification.contains(&format!("`{}`", class.name())));
            let code = Unrepairable::NotGranted(class).code();
            let expected = format!("{}_NOT_GRANTED", class.name().to_uppercase());
            assert_eq!(code, if class == Class::MissingCloser { "TRUNCATED" } else { &expected });
            codes.extend((code != "TRUNCATED").then_some(code));
        }
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
        assert_eq!(Unrepairable::all().count(), all + 1);
    }
}
