//! Whether an operation that is run again gives exactly what it gave, or what is within a tolerance (`spec/replay.md`).
//!
//! Traffic does not go by it: a replay does.

use crate::path::ValuePath;

/// Most tolerances of one list.
pub(crate) const TOLERANCES_MAX: usize = 64;
/// Most tools of a route of which something is said.
pub(crate) const TOOLS_MAX: usize = 256;
/// Most digits of an amount, before and after the point.
const AMOUNT_DIGITS_MAX: usize = 18;

/// The class of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Determinism {
    /// Exact: what differs at all is another answer.
    E0,
    /// What differs within these tolerances is the same.
    E1(Tolerances),
}

impl Determinism {
    /// The word in documents.
    pub fn class(&self) -> &'static str {
        match self {
            Self::E0 => "E0",
            Self::E1(_) => "E1",
        }
    }
}

/// What may differ, by what is compared. INVARIANT: something may.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tolerances {
    /// Of bodies of requests.
    pub request: Vec<Tolerance>,
    /// Of bodies of answers; of an MCP tool, of the message.
    pub answer: Vec<Tolerance>,
    /// Of the list of rows that a statement gives.
    pub rows: Vec<Tolerance>,
}

impl Tolerances {
    /// Each part with its name in documents.
    pub fn parts(&self) -> [(&'static str, &[Tolerance]); 3] {
        [("answer", &self.answer), ("request", &self.request), ("rows", &self.rows)]
    }
}

/// Values that may differ, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tolerance {
    pub at: ValuePath,
    pub within: Within,
}

/// How a value may differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Within {
    /// Two numbers, by at most this much.
    Absolute(Amount),
    /// Two numbers, by at most this part of the recorded one.
    Relative(Amount),
    /// Two lists, in the order of their elements.
    AnyOrder,
    /// In anything, also in being there.
    Ignored,
}

impl Within {
    pub(crate) const WORDS: [Self; 2] = [Self::AnyOrder, Self::Ignored];

    /// The word in documents and certificates.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Absolute(_) => "absolute",
            Self::Relative(_) => "relative",
            Self::AnyOrder => "any_order",
            Self::Ignored => "ignored",
        }
    }
}

/// A number that is not negative, in plain decimal digits: at most 18 before the point and 18 after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Amount(String);

impl Amount {
    /// None for another form: `0.50`, `.5`, `1e3` and `-1` are none.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let fits = |digits: &str| {
            (1..=AMOUNT_DIGITS_MAX).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_whole = fits(whole) && (whole == "0" || !whole.starts_with('0'));
        let is_fraction = fraction.is_none_or(|digits| fits(digits) && !digits.ends_with('0'));
        (is_whole && is_fraction).then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is at most 1.
    pub(crate) fn is_part(&self) -> bool {
        self.0 == "1" || self.0 == "0" || self.0.starts_with("0.")
    }
}

/// What a route says of its calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RouteDeterminism {
    pub all: Determinism,
    /// Of calls of MCP tools, by name.
    pub tools: std::collections::BTreeMap<String, Determinism>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_one_spelling() {
        for text in ["0", "1", "0.01", "12.5", "999999999999999999.000000000000000001"] {
            assert_eq!(Amount::parse(text).as_ref().map(Amount::as_str), Some(text));
        }
        for text in
            ["", ".", "1.", ".5", "00", "01", "0.50", "-1", "+1", "1e3", "NaN", "inf", " 1", "1_0", "٣"]
        {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
        assert_eq!(Amount::parse(&"1".repeat(AMOUNT_DIGITS_MAX + 1)), None);
        let is_part = |text: &str| Amount::parse(text).unwrap().is_part();
        assert!(is_part("0") && is_part("0.999") && is_part("1") && !is_part("1.1") && !is_part("10"));
    }
}
