//! JSON in which numbers are the decimals that they are written as: nothing is rounded.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use estoppel_evidence::Sha256;
use num_bigint::BigInt;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most lists and objects inside each other.
const DEPTH_MAX: usize = 128;
/// Most digits of a number that may differ, and most powers of ten that its first digit is away from the point.
const DIGITS_MAX: usize = 64;
const MAGNITUDE_MAX: i64 = 1000;
/// More digits of an exponent leave a number unread: it is equal to its own text only.
const EXPONENT_DIGITS_MAX: usize = 15;

/// A JSON value. In this order values are sorted where their own does not count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Exact {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Exact>),
    Object(BTreeMap<String, Exact>),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Number {
    Decimal(Decimal),
    /// With an exponent beyond all bounds, as it is written.
    Huge(String),
}

impl Exact {
    /// None for what is no JSON text, has a member twice, or is deeper than 128.
    pub fn read(text: &[u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_slice(text).ok()?;
        Self::of(raw, DEPTH_MAX)
    }

    fn of(raw: &RawValue, depth: usize) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let depth = depth.checked_sub(1)?;
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Self::List(items.into_iter().map(|item| Self::of(item, depth)).collect::<Option<_>>()?)
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let Members(members) = serde_json::from_str(text).ok()?;
                let members = members.into_iter().map(|(name, value)| Some((name, Self::of(value, depth)?)));
                Self::Object(members.collect::<Option<_>>()?)
            }
            _ => Self::number(text),
        })
    }

    /// `text` is a number of JSON.
    fn number(text: &str) -> Self {
        Self::Number(Decimal::parse(text).map_or_else(|| Number::Huge(text.to_owned()), Number::Decimal))
    }

    /// Of its canonical text: members by their names, and numbers as `125e-1`.
    pub fn digest(&self) -> Sha256 {
        let mut text = String::new();
        self.write(&mut text);
        Sha256::of(text.as_bytes())
    }

    fn write(&self, out: &mut String) {
        let string = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(Number::Huge(text)) => out.push_str(text),
            Self::Number(Number::Decimal(number)) => out.push_str(&number.canonical()),
            Self::Text(text) => out.push_str(&string(text)),
            Self::List(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (place, (name, value)) in members.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    out.push_str(&string(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// The members of an object, of which none comes twice.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, value)) = members.next_entry::<String, &'de RawValue>()? {
                    if all.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member comes twice"));
                    }
                }
                Ok(all)
            }
        }
        reader.deserialize_map(Once).map(Members)
    }
}

/// A decimal number: `digits` times a power of ten. INVARIANT: the digits neither begin nor end with a zero, so that equal
/// numbers have equal parts; zero has none, no sign and the exponent 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// A number as JSON and SQL write it; none for any other text, and for one with an exponent of more than 15 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let places = i64::try_from(fraction.len()).ok()?;
        Some(Self::normal(is_negative, &format!("{whole}{fraction}"), power.checked_sub(places)?))
    }

    fn normal(is_negative: bool, digits: &str, exponent: i64) -> Self {
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Self { is_negative: false, digits: String::new(), exponent: 0 };
        }
        let zeros = (digits.len() - kept.len()) as i64; // of a text in memory
        Self { is_negative, digits: kept.to_owned(), exponent: exponent.saturating_add(zeros) }
    }

    /// Whether it may be within a tolerance at all: arithmetic on others would be without bounds.
    fn is_bounded(&self) -> bool {
        self.digits.len() <= DIGITS_MAX && self.magnitude().abs() <= MAGNITUDE_MAX
    }

    /// The power of ten above the first digit.
    fn magnitude(&self) -> i64 {
        self.exponent.saturating_add(self.digits.len() as i64) // of a text in memory
    }

    /// How far another is away. None where one of them has too many digits.
    pub fn distance(&self, other: &Self) -> Option<Self> {
        if !self.is_bounded() || !other.is_bounded() {
            return None;
        }
        let unit = self.exponent.min(other.exponent);
        let distance = self.units(unit)? - other.units(unit)?;
        Some(Self::normal(false, &distance.magnitude().to_string(), unit))
    }

    /// Its first 64 digits.
    fn cut(&self) -> Self {
        let Some(digits) = self.digits.get(..DIGITS_MAX) else { return self.clone() };
        let left_out = (self.digits.len() - DIGITS_MAX) as i64; // of a text in memory
        Self::normal(self.is_negative, digits, self.exponent.saturating_add(left_out))
    }

    /// This part of a number, without its sign. Of each, 64 digits count: others are within nothing.
    pub fn part_of(&self, other: &Self) -> Option<Self> {
        let (one, two) = (self.cut(), other.cut());
        one.times(&two)
    }

    fn times(&self, other: &Self) -> Option<Self> {
        let (one, two) = (self.units(self.exponent)?, other.units(other.exponent)?);
        let product = (one * two).magnitude().to_string();
        Some(Self::normal(false, &product, self.exponent.checked_add(other.exponent)?))
    }

    /// How many of 10 to the power of `unit` it is; that is no more than the exponent.
    fn units(&self, unit: i64) -> Option<BigInt> {
        if self.digits.is_empty() {
            return Some(BigInt::ZERO);
        }
        let zeros = usize::try_from(self.exponent.checked_sub(unit)?).ok()?;
        let digits: BigInt = format!("{}{}", self.digits, "0".repeat(zeros)).parse().ok()?;
        Some(if self.is_negative { -digits } else { digits })
    }

    fn signum(&self) -> i8 {
        match (self.digits.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn canonical(&self) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        match self.digits.is_empty() {
            true => "0".to_owned(),
            false => format!("{sign}{}e{}", self.digits, self.exponent),
        }
    }
}

fn exponent(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > EXPONENT_DIGITS_MAX {
        return None;
    }
    let size: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(if is_negative { -size } else { size })
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.signum().cmp(&other.signum()).then_with(|| {
            let size = self.magnitude().cmp(&other.magnitude()).then_with(|| self.digits.cmp(&other.digits));
            if self.is_negative { size.reverse() } else { size }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As people write it, where that is not long.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ZEROS_MAX: i64 = 24;
        let sign = if self.is_negative { "-" } else { "" };
        let digits = self.digits.as_str();
        match (digits.is_empty(), self.exponent) {
            (true, _) => f.write_str("0"),
            (_, 0..=ZEROS_MAX) => {
                write!(f, "{sign}{digits}{}", "0".repeat(self.exponent.unsigned_abs() as usize))
            }
            (_, below) if (-ZEROS_MAX..0).contains(&below) => {
                let places = below.unsigned_abs() as usize; // at most 24
                let padded = format!("{digits:0>width$}", width = places + 1);
                let (whole, fraction) = padded.split_at(padded.len() - places);
                write!(f, "{sign}{whole}.{fraction}")
            }
            _ => write!(f, "{sign}{digits}e{}", self.exponent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_their_decimals() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0.1", "1E-1"),
            ("0", "-0.0"),
            ("0e5", "0"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
            ("1e999999999", "10e999999998"),
        ] {
            assert_eq!(decimal(one), decimal(other), "{one} {other}");
        }
        for (less, more) in [
            ("-2", "-1"),
            ("-1", "0"),
            ("0.1", "0.10000000000000000000001"),
            ("9", "10"),
            ("9007199254740992", "9007199254740993"),
            ("1e-999999999", "1"),
            ("1e999999998", "1e999999999"),
        ] {
            assert!(decimal(less) < decimal(more), "{less} {more}");
        }
        for text in ["", "-", "NaN", "Infinity", "1.", ".5", "1e", "1e+", "0x1", "1e9999999999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn distances_are_exact_and_bounded() {
        for (one, other, expected) in [
            ("0.3", "0.1", "0.2"),
            ("1", "1.000000000000000000001", "0.000000000000000000001"),
            ("-1.5", "2", "3.5"),
            ("1e30", "0", "1e30"),
            ("12", "2", "10"),
        ] {
            let found = decimal(one).distance(&decimal(other)).unwrap();
            assert_eq!((found.to_string(), found), (expected.to_owned(), decimal(expected)));
        }
        let long = "1".repeat(DIGITS_MAX + 1);
        for (one, other) in [("1e999999999", "1"), ("1", "1e-999999999"), ("1", &long)] {
            assert_eq!(decimal(one).distance(&decimal(other)), None, "{one} {other}");
        }
        assert_eq!(decimal("0.001").part_of(&decimal("-250")), Some(decimal("0.25")));
        let begun = format!("{}0", "1".repeat(DIGITS_MAX));
        assert_eq!(
            decimal("0.1").part_of(&decimal(&long)),
            Some(decimal(&begun).part_of(&decimal("0.1")).unwrap())
        );
    }

    #[test]
    fn values_are_read_as_they_stand_and_doubtful_ones_are_not() {
        let read = |text: &str| Exact::read(text.as_bytes());
        assert_eq!(read(r#"{"b":[1.0,"x"],"a":null}"#), read(r#" { "a" : null, "b" : [ 1, "\u0078" ] } "#));
        assert_ne!(read("9007199254740992"), read("9007199254740993"));
        assert_ne!(read("1e99999999999999999998"), read("1e99999999999999999999"));
        assert_ne!(read("1"), read("\"1\""));
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, "", "{", "1 2", "NaN"] {
            assert_eq!(read(text), None, "{text}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEPTH_MAX)).is_some() && read(&nested(DEPTH_MAX + 1)).is_none());
    }

    #[test]
    fn a_digest_is_of_one_text() {
        let digest = |text: &str| Exact::read(text.as_bytes()).unwrap().digest();
        assert_eq!(
            digest(r#"{"b":12.50,"a":["é\n",0,-100]}"#),
            Sha256::of(r#"{"a":["é\n",0,-1e2],"b":125e-1}"#.as_bytes())
        );
    }
}
