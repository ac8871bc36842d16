//! What a value is, apart from any contract.

mod decimal;
mod time;

pub(super) use decimal::{Decimal, DecimalBuf};
pub(super) use time::{Instant, day};

/// Whether a spreadsheet might run a value, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Formula {
    No,
    /// Begins with `+` or `-`, like numbers do.
    Signed,
    Yes,
}

/// CWE-1236; OWASP ASVS 1.2.10. A line feed is here because a CR never stands without one.
#[inline(always)]
pub(super) fn formula(value: &[u8]) -> Formula {
    match value {
        [b'+' | b'-', ..] => Formula::Signed,
        [b'=' | b'@' | b'\t' | b'\r' | b'\n', ..] => Formula::Yes,
        // U+FF0B, U+FF0D, U+FF1D and U+FF20: full-width + - = @
        [0xEF, 0xBC, 0x8B | 0x8D | 0x9D | 0xA0, ..] => Formula::Yes,
        _ => Formula::No,
    }
}

/// An optional sign and digits.
#[inline]
pub(super) fn is_integer(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").or_else(|| value.strip_prefix(b"+")).unwrap_or(value);
    !digits.is_empty() && all_digits(digits)
}

/// An integer of at most 18 digits, which an `i64` holds.
#[inline(always)]
pub(super) fn small_integer(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, value),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let (mut number, mut digits_only) = (0_i64, true);
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        digits_only &= digit <= 9;
        number = number.wrapping_mul(10).wrapping_add(i64::from(digit)); // exact if there are digits only
    }
    digits_only.then_some(if negative { -number } else { number })
}

/// Whether [`Decimal::parse`] takes it.
#[inline(always)]
pub(super) fn is_number(value: &[u8]) -> bool {
    let rest = value.strip_prefix(b"-").or_else(|| value.strip_prefix(b"+")).unwrap_or(value);
    let whole = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(whole..) {
        _ if whole == 0 => false,
        None | Some([]) => true,
        Some([b'.', fraction @ ..]) if !fraction.is_empty() && all_digits(fraction) => true,
        Some(_) => Decimal::parse(value).is_some(),
    }
}

/// True for no bytes. Two overlapping words cover most values, so there is no loop over them.
#[inline(always)]
pub(super) fn all_digits(text: &[u8]) -> bool {
    match text.len() {
        0..4 => text.iter().all(u8::is_ascii_digit),
        4..=8 => match (text.first_chunk(), text.last_chunk()) {
            (Some(head), Some(tail)) => {
                let both = u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail));
                eight_digits(both)
            }
            _ => false,
        },
        _ => {
            let (words, _) = text.as_chunks::<8>();
            let tail = text.last_chunk().is_some_and(|tail| eight_digits(u64::from_le_bytes(*tail)));
            tail && words.iter().all(|word| eight_digits(u64::from_le_bytes(*word)))
        }
    }
}

/// Each lane has the high half of a digit, and has it still after six was added.
#[inline(always)]
fn eight_digits(word: u64) -> bool {
    const HIGH_HALVES: u64 = u64::from_le_bytes([0xF0; 8]);
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    const SIXES: u64 = u64::from_le_bytes([6; 8]);
    word & HIGH_HALVES == ZEROS && (word + SIXES) & HIGH_HALVES == ZEROS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formulas_are_told_by_their_first_character() {
        for value in ["=1", "@x", "\tx", "\r\n", "\n", "＝1", "＋1", "－1", "＠x"] {
            assert_eq!(formula(value.as_bytes()), Formula::Yes, "{value:?}");
        }
        for value in ["+1", "-1", "-x"] {
            assert_eq!(formula(value.as_bytes()), Formula::Signed, "{value:?}");
        }
        for value in ["", "1", "x=1", " =1", "ｘ", "'=1", "漢"] {
            assert_eq!(formula(value.as_bytes()), Formula::No, "{value:?}");
        }
    }

    #[test]
    fn integers_are_digits_with_at_most_one_sign() {
        for value in ["0", "-0", "+1", "007", "123456789012345678901234567890", "-12345678"] {
            assert!(is_integer(value.as_bytes()), "{value}");
        }
        for value in ["", "-", "+-1", "1.0", "1e3", " 1", "1 ", "１", "12345678:", "1234:", "/234", "0x10"] {
            assert!(!is_integer(value.as_bytes()), "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_short_ways_agree_with_the_long_ones(text in "[-+]?[0-9]{0,20}[.eE:/]?[-+]?[0-9]{0,3}") {
            let text = text.as_bytes();
            prop_assert_eq!(is_number(text), Decimal::parse(text).is_some());
            match small_integer(text) {
                Some(number) => {
                    let same = number.to_string();
                    prop_assert!(is_integer(text));
                    prop_assert_eq!(Decimal::parse(text), Decimal::parse(same.as_bytes()));
                }
                None => prop_assert!(!is_integer(text) || text.len() > 18),
            }
        }

        #[test]
        fn digits_are_digits(text in proptest::collection::vec(prop_oneof![40 => b'0'..=b'9', 1 => any::<u8>()], 0..40)) {
            prop_assert_eq!(all_digits(&text), text.iter().all(u8::is_ascii_digit));
        }
    }
}
