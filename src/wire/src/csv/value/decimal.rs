//! Numbers as decimal text: compared and told apart without rounding.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::all_digits;

/// A number: `0.<digits> * 10^magnitude`, where the digits are `whole` and then `fraction`, and neither begin
/// nor end with a zero. Zero has no digits.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    magnitude: i64,
}

/// A number that is kept.
#[derive(Clone, Debug)]
pub(in super::super) struct DecimalBuf {
    negative: bool,
    digits: Box<[u8]>,
    magnitude: i64,
}

impl DecimalBuf {
    pub(in super::super) fn borrow(&self) -> Decimal<'_> {
        Decimal { negative: self.negative, whole: &self.digits, fraction: b"", magnitude: self.magnitude }
    }
}

impl From<Decimal<'_>> for DecimalBuf {
    fn from(number: Decimal<'_>) -> Self {
        let digits = number.digits().copied().collect();
        Self { negative: number.negative, digits, magnitude: number.magnitude }
    }
}

/// More digits of an exponent are refused, so that arithmetic on it is exact.
const EXPONENT_DIGITS_MAX: usize = 9;

impl<'a> Decimal<'a> {
    /// An optional sign, digits, an optional fraction, an optional exponent.
    pub(in super::super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = sign(text);
        let (number, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (rest.get(..at)?, exponent(rest.get(at + 1..)?)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match number.iter().position(|&byte| byte == b'.') {
            Some(at) => (number.get(..at)?, digits(number.get(at + 1..)?)?),
            None => (number, &b""[..]),
        };
        Some(Self::normal(negative, digits(whole)?, fraction, exponent))
    }

    fn normal(negative: bool, whole: &'a [u8], fraction: &'a [u8], exponent: i64) -> Self {
        let whole = without_leading(whole);
        let fraction = without_trailing(fraction);
        let zeros = if whole.is_empty() { fraction.len() - without_leading(fraction).len() } else { 0 };
        let fraction = fraction.get(zeros..).unwrap_or_default();
        let length = |digits: usize| i64::try_from(digits).unwrap_or(i64::MAX / 4); // far beyond any field
        let magnitude = exponent + length(whole.len()) - length(zeros);
        let whole = if fraction.is_empty() { without_trailing(whole) } else { whole };
        let zero = whole.is_empty() && fraction.is_empty();
        Self { negative: negative && !zero, whole, fraction, magnitude: if zero { 0 } else { magnitude } }
    }

    /// The number if it is an integer that an `i64` holds, else the end of `i64` on its side.
    pub(in super::super) fn to_i64_saturating(self) -> i64 {
        let mut number = 0_i64;
        let mut digits = self.digits();
        for _ in 0..self.magnitude.min(20) {
            let digit = digits.next().map_or(0, |digit| i64::from(digit - b'0'));
            number = number.saturating_mul(10);
            number = if self.negative { number.saturating_sub(digit) } else { number.saturating_add(digit) };
        }
        number
    }

    fn digits(&self) -> impl Iterator<Item = &'a u8> + use<'a> {
        self.whole.iter().chain(self.fraction)
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    /// -1, 0 or 1.
    fn signum(&self) -> i8 {
        if self.is_zero() {
            0
        } else if self.negative {
            -1
        } else {
            1
        }
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.signum().cmp(&other.signum()).then_with(|| {
            let size = self.magnitude.cmp(&other.magnitude).then_with(|| self.digits().cmp(other.digits()));
            if self.negative { size.reverse() } else { size }
        })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl Hash for Decimal<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.negative.hash(state);
        self.magnitude.hash(state);
        state.write_usize(self.whole.len() + self.fraction.len());
        self.digits().for_each(|&digit| state.write_u8(digit));
    }
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// One digit or more.
fn digits(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && all_digits(text)).then_some(text)
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, text) = sign(text);
    let digits = digits(text).filter(|digits| digits.len() <= EXPONENT_DIGITS_MAX)?;
    let size = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some(if negative { -size } else { size })
}

fn without_leading(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

fn without_trailing(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
    digits.get(..digits.len() - zeros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_are_ordered_by_what_they_amount_to() {
        let ordered = [
            "-1e10",
            "-1000000001",
            "-10.5",
            "-10.05",
            "-1",
            "-0.1",
            "-0.09",
            "0",
            "1e-999999999",
            "0.001",
            "0.0011",
            "0.1",
            "1",
            "1.0000000000000000000001",
            "9.99",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e999999999",
        ];
        for (at, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                assert_eq!(decimal(left).cmp(&decimal(right)), at.cmp(&other), "{left} {right}");
            }
        }
    }

    #[test]
    fn one_number_has_many_texts() {
        let hash = |text| BuildHasherDefault::<DefaultHasher>::default().hash_one(decimal(text));
        for same in [
            &["0", "-0", "+0.00", "0e5", "000"][..],
            &["1", "+1", "01", "1.0", "10e-1", "0.1E+1", "0.01e2"],
            &["-1200", "-1.2e3", "-12e2", "-1200.000"],
            &["0.05", "5e-2", "00.050"],
        ] {
            for text in same {
                assert_eq!(decimal(text), decimal(same[0]), "{text}");
                assert_eq!(hash(text), hash(same[0]), "{text}");
            }
        }
    }

    #[test]
    fn an_integer_is_clamped_to_64_bits() {
        for (text, expected) in [
            ("0", 0),
            ("-120", -120),
            ("12e3", 12_000),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-1e300", i64::MIN),
        ] {
            assert_eq!(decimal(text).to_i64_saturating(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e",
            "1e+",
            "e5",
            "1.2.3",
            "--1",
            "1,5",
            "NaN",
            "inf",
            "1e1234567890",
            "1_000",
        ] {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_scaled_integers(a in -999_999..999_999_i64, b in -999_999..999_999_i64, p in 0..4_u32, q in 0..4_u32) {
            let text = |n: i64, places: u32| {
                let unit = 10_i64.pow(places);
                let sign = if n < 0 { "-" } else { "" };
                match places {
                    0 => format!("{n}"),
                    _ => format!("{sign}{}.{:0width$}", n.abs() / unit, n.abs() % unit, width = places as usize),
                }
            };
            let (left, right) = (text(a, p), text(b, q));
            let expected = (a * 10_i64.pow(3 - p)).cmp(&(b * 10_i64.pow(3 - q)));
            prop_assert_eq!(decimal(&left).cmp(&decimal(&right)), expected, "{} {}", left, right);
        }
    }
}
