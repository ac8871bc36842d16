//! Wall-clock time as entries write it: RFC 3339 UTC with six fraction digits (SPEC section 1).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds. Written `2026-11-21T04:00:00.000000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMicros(pub u64);

/// The last moment that the written form can hold: the end of the year 9999.
const MAX: u64 = 253_402_300_799_999_999;

impl UnixMicros {
    /// The written form; moments after the year 9999 are written as its end.
    fn text(self) -> [u8; 27] {
        let micros = self.0.min(MAX);
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let mut out = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], second_of_day / 3600);
        digits(&mut out[14..16], second_of_day / 60 % 60);
        digits(&mut out[17..19], second_of_day % 60);
        digits(&mut out[20..26], fraction);
        out
    }

    /// Reads the written form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() != 27 {
            return None;
        }
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
        let value = Self((days(year, month, day)? * 86_400 + seconds) * 1_000_000 + number(20, 26)?);
        (value.text() == b).then_some(value)
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8; // a remainder of ten fits
        value /= 10;
    }
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar, counted in eras of 400 years
/// that start on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + (153 * shifted + 2) / 5 + day - 1;
    (year / 400 * 146_097 + day_of_era).checked_sub(719_468)
}

impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UnixMicros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).expect("digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for UnixMicros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a UTC time with six fraction digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_written() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_795_233_600_000_000, "2026-11-21T04:00:00.000000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(UnixMicros(micros).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn written_moments_read_back(micros in 0..=MAX) {
            prop_assert_eq!(UnixMicros::parse(&UnixMicros(micros).to_string()), Some(UnixMicros(micros)));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["2026-11-21T04:00:00Z", "2026-02-30T00:00:00.000000Z", "2026-11-21T24:00:00.000000Z"] {
            assert_eq!(UnixMicros::parse(text), None, "{text}");
        }
    }
}
