//! Canonical bytes of JSON that is not ours (RFC 8785): policies, contracts, bodies.
//!
//! Entries never pass through here: their types write canonical bytes directly ([`crate::entry`]), and a property
//! test holds both against each other. Refuses what RFC 8785 leaves to chance: duplicate names, lone surrogates,
//! bytes after the value.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of foreign JSON that is canonicalized.
pub const DEPTH_MAX: usize = 128;

/// Why bytes have no canonical form.
#[derive(Debug, thiserror::Error)]
#[error("not canonicalizable JSON: {0}")]
pub struct CanonicalError(#[from] serde_json::Error);

/// The RFC 8785 form of a JSON document.
///
/// # Errors
/// Syntax errors, duplicate names, lone surrogates, nesting beyond [`DEPTH_MAX`], numbers that a double cannot hold.
pub fn foreign(json: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    refuse_duplicates(json)?;
    let value: serde_json::Value = serde_json::from_slice(json)?;
    Ok(serde_json_canonicalizer::to_vec(&value)?)
}

/// The RFC 8785 form of a value that this program made, so that it is neither deep nor has a name twice.
///
/// # Errors
/// Numbers that a double cannot hold.
pub fn own(value: &serde_json::Value) -> Result<Vec<u8>, CanonicalError> {
    Ok(serde_json_canonicalizer::to_vec(value)?)
}

/// Whether every number of a JSON document stays the same number in its RFC 8785 form, which holds doubles.
///
/// `json` must be well formed.
pub fn keeps_numbers(json: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while json.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = json.get(at..).unwrap_or_default();
                let is_of_it = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = rest.iter().position(|byte| !is_of_it(byte)).unwrap_or(rest.len());
                if !is_exact(rest.get(..length).unwrap_or_default()) {
                    return false;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    true
}

fn is_exact(number: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(number) else { return false };
    let Ok(double) = text.parse::<f64>() else { return false };
    double.is_finite() && decimal(text) == decimal(&format!("{double:e}"))
}

/// A number as digits without zeros at either end, and the power of ten of the last of them.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let negative = mantissa.starts_with('-');
    let (whole, fraction) =
        mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let kept = significant.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    let dropped = i64::try_from(significant.len() - kept.len()).ok()?;
    let power = exponent - i64::try_from(fraction.len()).ok()? + dropped;
    Some((negative, kept.to_owned(), power))
}

fn refuse_duplicates(json: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Unique { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Walks a value without keeping it and refuses an object with a name twice.
#[derive(Clone, Copy)]
struct Unique {
    depth: usize,
}

impl Unique {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(inner)?;
            if let Some(name) = seen.replace(name) {
                return Err(de::Error::custom(format_args!("the name `{name}` occurs twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_double_holds_are_kept() {
        for kept in [
            "1",
            "-0",
            "0.1",
            "1e2",
            "100",
            "1.50",
            "9007199254740993e0",
            "9007199254740992",
            "1e308",
            "-2.5E-3",
        ] {
            let exact = kept != "9007199254740993e0";
            assert_eq!(keeps_numbers(format!("{{\"a\\\"1e400\":[{kept}]}}").as_bytes()), exact, "{kept}");
        }
        for lost in [
            "1e400",
            "9007199254740993",
            "0.1000000000000000055511151231257827",
            "1e-400",
            "99.00000000000000000000000001",
        ] {
            assert!(!keeps_numbers(lost.as_bytes()), "{lost}");
        }
    }

    fn check(json: &str, canonical: &str) {
        assert_eq!(String::from_utf8(foreign(json.as_bytes()).unwrap()).unwrap(), canonical);
    }

    #[test]
    fn rfc_8785_section_3_2_2_sample() {
        check(
            "{\"numbers\":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],\
             \"string\":\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\"literals\":[null,true,false]}",
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
        );
    }

    #[test]
    fn rfc_8785_section_3_2_3_sorting() {
        check(
            "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\",\
             \"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\",\
             \"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
             \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
    }

    /// RFC 8785 appendix B, as hexadecimal doubles and their text.
    #[test]
    fn rfc_8785_appendix_b_numbers() {
        for (bits, text) in [
            (0x0000000000000001u64, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ] {
            check(&format!("[{:?}]", f64::from_bits(bits)), &format!("[{text}]"));
        }
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for json in [
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "\"\\ud800\"",
            "[1] x",
            "1e400",
            "[NaN]",
            "",
            &deep,
        ] {
            assert!(foreign(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn seventeen_digit_decimals_keep_their_value() {
        check("[0.30000000000000004,9007199254740993.0]", "[0.30000000000000004,9007199254740992]");
    }
}
