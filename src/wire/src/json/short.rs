//! Numbers of few digits, read many digits at once. Most numbers are such; all others are read by their text.

/// A number without power and of at most 18 digits: what is before its point, and whether anything is after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    pub negative: bool,
    /// With its sign.
    pub whole: i64,
    /// Some digit after the point is not zero.
    pub fraction: bool,
}

/// A short number at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub number: Short,
    /// Bytes that it takes up.
    pub len: usize,
}

/// Reads a number that ends well before `bytes` do. `None`: it does not, or it is none, or not a short one.
#[inline(always)]
pub(super) fn short(bytes: &[u8]) -> Option<Found> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let before = whole(digits)?;
    let whole = if negative { -before.value } else { before.value };
    let len = before.len + usize::from(negative);
    match *digits.get(before.len)? {
        b'.' => {
            let after = few(digits.get(before.len + 1..)?)?;
            let ends = !matches!(digits.get(before.len + 1 + after.len), None | Some(b'e' | b'E'));
            let number = Short { negative, whole, fraction: after.value != 0 };
            ends.then_some(Found { number, len: len + 1 + after.len })
        }
        b'e' | b'E' => None,
        _ => Some(Found { number: Short { negative, whole, fraction: false }, len }),
    }
}

/// Digits in a row, and what they are worth.
#[derive(Clone, Copy, Debug)]
struct Digits {
    value: i64,
    len: usize,
}

/// The digits before the point: at most 15, and no leading zero.
#[inline(always)]
fn whole(bytes: &[u8]) -> Option<Digits> {
    let word = word(bytes)?;
    if word.digits == 0 || (word.digits > 1 && bytes.first() == Some(&b'0')) {
        return None;
    }
    if word.digits < 8 {
        return Some(Digits { value: word.value(), len: word.digits });
    }
    let more = few(bytes.get(8..)?);
    let (value, len) = more.map_or((0, 0), |more| (more.value, more.len));
    let power = POWERS.get(len)?;
    (more.is_some() || !bytes.get(8)?.is_ascii_digit())
        .then_some(Digits { value: word.value() * power + value, len: 8 + len })
}

const POWERS: [i64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// One to seven digits.
#[inline(always)]
fn few(bytes: &[u8]) -> Option<Digits> {
    let word = word(bytes)?;
    matches!(word.digits, 1..8).then(|| Digits { value: word.value(), len: word.digits })
}

/// Eight bytes that begin with some digits.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// The first byte lowest; digits are 0 to 9.
    lanes: u64,
    digits: usize,
}

#[inline(always)]
fn word(bytes: &[u8]) -> Option<Word> {
    let lanes = u64::from_le_bytes(*bytes.first_chunk()?) ^ u64::from_le_bytes([b'0'; 8]);
    // The high bit of each lane that is above 9. A carry goes to later lanes only, so the first is right.
    let others = (lanes.wrapping_add(u64::from_le_bytes([0x76; 8])) | lanes) & u64::from_le_bytes([0x80; 8]);
    Some(Word { lanes, digits: (others.trailing_zeros() / 8) as usize }) // at most 8
}

impl Word {
    /// What one to eight digits are worth: neighbours are joined three times.
    #[inline(always)]
    fn value(self) -> i64 {
        let lanes = self.lanes << ((64 - 8 * self.digits) & 63); // zeros first
        let pairs = (lanes & 0x0F0F_0F0F_0F0F_0F0F).wrapping_mul((10 << 8) + 1) >> 8;
        let fours = (pairs & 0x00FF_00FF_00FF_00FF).wrapping_mul((100 << 16) + 1) >> 16;
        let all = (fours & 0x0000_FFFF_0000_FFFF).wrapping_mul((10_000 << 32) + 1) >> 32;
        all as i64 // eight digits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Option<Found> {
        short(format!("{text}, and some bytes more").as_bytes())
    }

    #[test]
    fn what_is_not_a_short_number_is_left_to_others() {
        for text in [
            "",
            "-",
            "01",
            "-01",
            "1e5",
            "1E5",
            "1.",
            "1.e5",
            "1.5e5",
            ".5",
            "1234567890123456",
            "1.12345678",
            "a",
        ] {
            assert_eq!(check(text), None, "{text}");
        }
        for text in ["1", "1,234", "12345678", "12.345678", "1.2345678"] {
            assert_eq!(short(text.as_bytes()), None, "{text}: its end is not there");
        }
    }

    proptest! {
        #[test]
        fn digits_are_worth_what_they_are_worth(whole in 0..1_000_000_000_000_000_u64, places in 0_u32..16, part in proptest::option::of("[0-9]{1,7}"), negative: bool) {
            let whole = whole / 10_u64.pow(places);
            let sign = if negative { "-" } else { "" };
            let tail = part.as_ref().map(|part| format!(".{part}")).unwrap_or_default();
            let text = format!("{sign}{whole}{tail}");
            let value = i64::try_from(whole).expect("15 digits");
            let number = Short {
                negative,
                whole: if negative { -value } else { value },
                fraction: part.is_some_and(|part| part.bytes().any(|byte| byte != b'0')),
            };
            prop_assert_eq!(check(&text), Some(Found { number, len: text.len() }));
        }
    }
}
