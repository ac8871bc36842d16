//! Numbers by their decimal text: compared, tested and hashed without rounding.

use std::cmp::Ordering;

use super::hash::Hash;
use crate::json::Short;

/// A decimal number: its significant digits, then a power of ten.
///
/// Digits have neither leading nor trailing zeros, so equal numbers have equal parts; zero has no digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// Digits before and after the point, in this order.
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Power of ten of the last digit. Saturates at [`EXPONENT_MOST`].
    exponent: i64,
}

/// Far past every bound that a schema can have, see [`Owned::parse`]; far from overflow in sums.
const EXPONENT_MOST: i64 = 1 << 60;

/// Largest power of ten in a schema, either way.
const EXPONENT_IN_SCHEMA: i64 = 1_000_000;

impl<'a> Decimal<'a> {
    /// Reads a number by RFC 8259, which the tokenizer has checked.
    #[inline(never)]
    pub(super) fn parse(text: &'a [u8]) -> Self {
        let (negative, text) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (digits, power) = split_at_any(text, b"eE");
        let (whole, fraction) = split_at_any(digits, b".");
        let mut exponent = power_of(power) - length(fraction);
        let fraction_kept = trim_end(fraction);
        exponent += length(fraction) - length(fraction_kept);
        let mut whole = trim_start(whole);
        if fraction_kept.is_empty() {
            let kept = trim_end(whole);
            exponent += length(whole) - length(kept);
            whole = kept;
        }
        let fraction = if whole.is_empty() { trim_start(fraction_kept) } else { fraction_kept };
        if whole.is_empty() && fraction.is_empty() {
            return Self { negative: false, whole, fraction, exponent: 0 };
        }
        Self { negative, whole, fraction, exponent }
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    /// `1.0` and `1e2` are integers (JSON Schema Core section 4.2.3).
    pub(super) fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    fn digits(&self) -> impl Iterator<Item = u8> + Clone + 'a {
        self.whole.iter().chain(self.fraction).copied()
    }

    /// Power of ten just above the first digit.
    fn magnitude(&self) -> i64 {
        length(self.whole) + length(self.fraction) + self.exponent
    }

    fn compare_size(&self, other: &Decimal<'_>) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                self.magnitude().cmp(&other.magnitude()).then_with(|| self.digits().cmp(other.digits()))
            }
        }
    }

    pub(super) fn compare(&self, other: &Decimal<'_>) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    /// The number is a whole multiple of `divisor`.
    fn is_multiple_of(&self, divisor: &Divisor) -> bool {
        let Some(shift) = self.exponent.checked_sub(divisor.exponent) else { return false };
        if self.is_zero() {
            return true;
        }
        if shift < 0 {
            return false; // neither ends in a zero, so ten does not divide this one
        }
        let modulus = u128::from(divisor.digits);
        let remainder =
            self.digits().fold(0, |sum: u128, digit| (sum * 10 + u128::from(digit - b'0')) % modulus);
        (remainder * power(10 % modulus, shift.unsigned_abs(), modulus)).is_multiple_of(modulus)
    }

    pub(super) fn hash(&self, hash: &mut Hash) {
        hash.word(u64::from(self.negative));
        hash.word(self.exponent.unsigned_abs() << 1 | u64::from(self.exponent < 0));
        hash.bytes(self.whole);
        hash.bytes(self.fraction);
        hash.word(length(self.whole).unsigned_abs() + length(self.fraction).unsigned_abs());
    }
}

impl Short {
    #[inline]
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        if digits.len() > 18 {
            return None;
        }
        let mut whole = 0;
        let mut rest = digits.iter();
        for byte in rest.by_ref() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                if *byte != b'.' {
                    return None;
                }
                break;
            }
            whole = whole * 10 + i64::from(digit);
        }
        let mut fraction = false;
        for byte in rest {
            if !byte.is_ascii_digit() {
                return None;
            }
            fraction |= *byte != b'0';
        }
        Some(Self { negative, whole: if negative { -whole } else { whole }, fraction })
    }

    #[inline]
    pub(super) fn is_integer(self) -> bool {
        !self.fraction
    }

    #[inline]
    fn compare(self, other: i64) -> Ordering {
        let beyond = match (self.fraction, self.negative) {
            (false, _) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (true, true) => Ordering::Less,
        };
        self.whole.cmp(&other).then(beyond)
    }
}

/// `base` to the `exponent`, modulo at most 18 digits.
fn power(mut base: u128, mut exponent: u64, modulus: u128) -> u128 {
    let mut result = 1 % modulus;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % modulus;
        }
        base = base * base % modulus;
        exponent >>= 1;
    }
    result
}

fn split_at_any<'a>(text: &'a [u8], marks: &[u8]) -> (&'a [u8], &'a [u8]) {
    match text.iter().position(|byte| marks.contains(byte)) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, b""),
    }
}

fn power_of(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value = digits.iter().fold(0, |sum: i64, digit| {
        sum.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0'))).min(EXPONENT_MOST)
    });
    if negative { -value } else { value }
}

fn length(text: &[u8]) -> i64 {
    text.len() as i64 // a slice has at most `isize::MAX` bytes
}

fn trim_start(mut digits: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = digits {
        digits = rest;
    }
    digits
}

fn trim_end(mut digits: &[u8]) -> &[u8] {
    while let [rest @ .., b'0'] = digits {
        digits = rest;
    }
    digits
}

/// A number of the schema.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    text: Box<[u8]>,
    /// If it is a short integer.
    short: Option<i64>,
}

impl Owned {
    /// `None`: its power of ten is out of all proportion.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text: Box<[u8]> = text.as_bytes().into();
        let decimal = Decimal::parse(&text);
        let sane = decimal.exponent.abs() <= EXPONENT_IN_SCHEMA;
        let short = Short::parse(&text).filter(|short| short.is_integer()).map(|short| short.whole);
        sane.then_some(Self { text, short })
    }

    /// What it is, if it is a short integer.
    pub(super) fn short(&self) -> Option<i64> {
        self.short
    }

    pub(super) fn decimal(&self) -> Decimal<'_> {
        Decimal::parse(&self.text)
    }

    /// How the number written as `text` compares with this one.
    #[inline]
    pub(super) fn compare(&self, text: &[u8], short: Option<Short>) -> Ordering {
        match (short, self.short) {
            (Some(short), Some(own)) => short.compare(own),
            _ => self.compare_exactly(text),
        }
    }

    #[inline(never)]
    fn compare_exactly(&self, text: &[u8]) -> Ordering {
        Decimal::parse(text).compare(&self.decimal())
    }
}

/// What `multipleOf` divides by.
#[derive(Clone, Debug)]
pub(super) struct Divisor {
    digits: u64,
    exponent: i64,
}

impl Divisor {
    /// `None`: not above zero, or of more than 18 significant digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let decimal = Decimal::parse(text.as_bytes());
        let digits: Vec<u8> = decimal.digits().collect();
        let sane = !decimal.negative
            && !digits.is_empty()
            && digits.len() <= 18
            && decimal.exponent.abs() <= EXPONENT_IN_SCHEMA;
        let value = digits.iter().take(18).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        sane.then_some(Self { digits: value, exponent: decimal.exponent })
    }

    #[inline(never)]
    pub(super) fn divides(&self, text: &[u8]) -> bool {
        Decimal::parse(text).is_multiple_of(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compare(a: &str, b: &str) -> Ordering {
        Decimal::parse(a.as_bytes()).compare(&Decimal::parse(b.as_bytes()))
    }

    fn divides(divisor: &str, number: &str) -> bool {
        Divisor::parse(divisor).expect("a divisor").divides(number.as_bytes())
    }

    #[test]
    fn writings_of_one_number_are_equal() {
        for group in [
            &["1", "1.0", "10e-1", "0.1e1", "1E0", "1e+0"][..],
            &["0", "-0", "0.000", "0e99", "-0.0e-7"],
            &["120", "1.2e2", "0.0120e4", "12000e-2"],
        ] {
            for a in group {
                for b in group {
                    assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn order_is_exact() {
        let rising = [
            "-1e400",
            "-12345678901234567891",
            "-12345678901234567890",
            "-1.5",
            "-1",
            "-1e-400",
            "0",
            "1e-99999999999999999999",
            "1e-400",
            "0.1",
            "0.10000000000000000001",
            "1",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "1e99999999999999999999",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn integers_are_told_by_value() {
        for (text, is) in [
            ("1.0", true),
            ("1.5e1", true),
            ("0.0", true),
            ("-0e-5", true),
            ("1e-1", false),
            ("10e-1", true),
            ("1.05e1", false),
            ("1e400", true),
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()).is_integer(), is, "{text}");
        }
    }

    #[test]
    fn multiples_are_exact() {
        assert!(divides("0.01", "4.02"));
        assert!(divides("0.0001", "0.0075"));
        assert!(!divides("0.0001", "0.00751"));
        assert!(divides("3", "3e400"));
        assert!(!divides("3", "1e400"));
        assert!(divides("1e-8", "12391239123"));
        assert!(divides("0.5", "1e308"));
        assert!(divides("7", "0"));
        assert!(divides("1.5", "-4.5"));
        assert!(!divides("20", "10"));
        assert!(divides("20", "1e2"));
        assert!(Divisor::parse("0").is_none());
        assert!(Divisor::parse("-2").is_none());
    }

    proptest! {
        #[test]
        fn agrees_with_integers(a in any::<i64>(), b in any::<i64>(), k in 1_i64..5000) {
            prop_assert_eq!(compare(&a.to_string(), &b.to_string()), a.cmp(&b));
            prop_assert_eq!(divides(&k.to_string(), &a.to_string()), a % k == 0);
        }

        #[test]
        fn short_forms_agree_with_long_ones(text in "-?(0|[1-9][0-9]{0,17})([.][0-9]{1,3})?([eE][0-9])?", bound in -5_i64..5) {
            let bound = Owned::parse(&bound.to_string()).expect("moderate");
            let decimal = Decimal::parse(text.as_bytes());
            let short = Short::parse(text.as_bytes());
            prop_assert_eq!(bound.compare(text.as_bytes(), short), decimal.compare(&bound.decimal()));
            if let Some(short) = short {
                prop_assert_eq!(short.is_integer(), decimal.is_integer());
            }
        }
    }
}
