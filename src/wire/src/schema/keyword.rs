//! The keywords that a violation can name.

/// A keyword of JSON Schema that a value can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Keyword {
    /// The schema is `false`.
    False,
    Type,
    Enum,
    Const,
    MultipleOf,
    Maximum,
    ExclusiveMaximum,
    Minimum,
    ExclusiveMinimum,
    MaxLength,
    MinLength,
    Pattern,
    Format,
    MaxItems,
    MinItems,
    UniqueItems,
    Contains,
    MaxContains,
    MinContains,
    MaxProperties,
    MinProperties,
    Required,
    DependentRequired,
    AnyOf,
    OneOf,
    Not,
    UnevaluatedProperties,
    UnevaluatedItems,
}

impl Keyword {
    /// As it is written in a schema; empty for [`Self::False`], where the schema itself is the keyword.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::False => "",
            Self::Type => "type",
            Self::Enum => "enum",
            Self::Const => "const",
            Self::MultipleOf => "multipleOf",
            Self::Maximum => "maximum",
            Self::ExclusiveMaximum => "exclusiveMaximum",
            Self::Minimum => "minimum",
            Self::ExclusiveMinimum => "exclusiveMinimum",
            Self::MaxLength => "maxLength",
            Self::MinLength => "minLength",
            Self::Pattern => "pattern",
            Self::Format => "format",
            Self::MaxItems => "maxItems",
            Self::MinItems => "minItems",
            Self::UniqueItems => "uniqueItems",
            Self::Contains => "contains",
            Self::MaxContains => "maxContains",
            Self::MinContains => "minContains",
            Self::MaxProperties => "maxProperties",
            Self::MinProperties => "minProperties",
            Self::Required => "required",
            Self::DependentRequired => "dependentRequired",
            Self::AnyOf => "anyOf",
            Self::OneOf => "oneOf",
            Self::Not => "not",
            Self::UnevaluatedProperties => "unevaluatedProperties",
            Self::UnevaluatedItems => "unevaluatedItems",
        }
    }
}
