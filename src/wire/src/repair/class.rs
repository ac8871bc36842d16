//! Which damage may be undone: the classes of spec/repair.md section 4.

use std::fmt;

/// One kind of damage and its edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// U+FEFF as the first character.
    ByteOrderMark,
    /// White space that JSON does not know, outside strings.
    ForeignSpace,
    /// One code fence that encloses exactly one value.
    CodeFence,
    /// A comma before a closer.
    TrailingComma,
    /// `//` and `/* */` outside strings.
    Comment,
    /// `True`, `False`, `None`.
    PythonLiteral,
    /// A byte below 0x20 inside a string.
    ControlCharacter,
    /// An ASCII identifier as a member name.
    UnquotedKey,
    /// All strings of the text in `'`.
    SingleQuote,
    /// Text around exactly one candidate.
    Prose,
    /// One comma in the whole text.
    MissingComma,
    /// The outermost closer twice.
    DoubledCloser,
    /// The text ends inside containers, after a whole string or container.
    MissingCloser,
    /// `"42"` where a number is wanted.
    StringToInteger,
    /// `"true"` where a boolean is wanted.
    StringToBoolean,
    /// `3.0` where an integer is wanted.
    FractionToInteger,
}

impl Class {
    /// Every class, in the order of spec/repair.md.
    pub const ALL: [Self; 16] = [
        Self::ByteOrderMark,
        Self::ForeignSpace,
        Self::CodeFence,
        Self::TrailingComma,
        Self::Comment,
        Self::PythonLiteral,
        Self::ControlCharacter,
        Self::UnquotedKey,
        Self::SingleQuote,
        Self::Prose,
        Self::MissingComma,
        Self::DoubledCloser,
        Self::MissingCloser,
        Self::StringToInteger,
        Self::StringToBoolean,
        Self::FractionToInteger,
    ];

    /// The stable name: `op` of an edit in a receipt, and what a policy lists.
    pub const fn name(self) -> &'static str {
        self.names().0
    }

    /// The code of a value that this class would repair if it were granted.
    pub(super) const fn not_granted(self) -> &'static str {
        self.names().1
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ByteOrderMark => ("byte_order_mark", "BYTE_ORDER_MARK_NOT_GRANTED"),
            Self::ForeignSpace => ("foreign_space", "FOREIGN_SPACE_NOT_GRANTED"),
            Self::CodeFence => ("code_fence", "CODE_FENCE_NOT_GRANTED"),
            Self::TrailingComma => ("trailing_comma", "TRAILING_COMMA_NOT_GRANTED"),
            Self::Comment => ("comment", "COMMENT_NOT_GRANTED"),
            Self::PythonLiteral => ("python_literal", "PYTHON_LITERAL_NOT_GRANTED"),
            Self::ControlCharacter => ("control_character", "CONTROL_CHARACTER_NOT_GRANTED"),
            Self::UnquotedKey => ("unquoted_key", "UNQUOTED_KEY_NOT_GRANTED"),
            Self::SingleQuote => ("single_quote", "SINGLE_QUOTE_NOT_GRANTED"),
            Self::Prose => ("prose", "PROSE_NOT_GRANTED"),
            Self::MissingComma => ("missing_comma", "MISSING_COMMA_NOT_GRANTED"),
            Self::DoubledCloser => ("doubled_closer", "DOUBLED_CLOSER_NOT_GRANTED"),
            Self::MissingCloser => ("missing_closer", "TRUNCATED"),
            Self::StringToInteger => ("string_to_integer", "STRING_TO_INTEGER_NOT_GRANTED"),
            Self::StringToBoolean => ("string_to_boolean", "STRING_TO_BOOLEAN_NOT_GRANTED"),
            Self::FractionToInteger => ("fraction_to_integer", "FRACTION_TO_INTEGER_NOT_GRANTED"),
        }
    }

    /// The class that `name` names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32 // 16 variants, numbered from 0
    }

    /// What this class repairs may be less than what was sent.
    pub const fn is_lossy(self) -> bool {
        matches!(self, Self::MissingCloser)
    }
}

/// A set of classes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Classes(u32);

impl Classes {
    pub const NONE: Self = Self(0);

    /// Those whose damage has exactly one reading: on when repair is granted at all.
    pub const SAFE: Self = Self::NONE
        .with(Class::ByteOrderMark)
        .with(Class::ForeignSpace)
        .with(Class::CodeFence)
        .with(Class::TrailingComma)
        .with(Class::Comment)
        .with(Class::PythonLiteral)
        .with(Class::ControlCharacter);

    pub const fn with(self, class: Class) -> Self {
        Self(self.0 | class.bit())
    }

    pub const fn without(self, class: Class) -> Self {
        Self(self.0 & !class.bit())
    }

    pub const fn has(self, class: Class) -> bool {
        self.0 & class.bit() != 0
    }
}

impl Default for Classes {
    fn default() -> Self {
        Self::SAFE
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Class::ALL.into_iter().filter(|class| self.has(*class))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_classes() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
        }
        assert_eq!(Class::from_name("truncation"), None);
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        assert!(Class::ALL.into_iter().all(|class| !Classes::NONE.has(class)));
        let all: Classes = Class::ALL.into_iter().collect();
        assert!(Class::ALL.into_iter().all(|class| all.has(class) && !all.without(class).has(class)));
        assert!(!Classes::default().has(Class::MissingCloser));
    }
}
