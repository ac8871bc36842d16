//! Dates and times of RFC 3339, section 5.6.

/// A moment: ordered as moments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct Instant<'a> {
    /// Seconds from 0000-03-01, of UTC.
    seconds: i64,
    /// A leap second follows the second before it.
    leap: bool,
    /// Digits after the point, without zeros at the end; as text they are ordered as fractions are.
    fraction: &'a [u8],
}

impl<'a> Instant<'a> {
    pub(in super::super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let day = day(date)?;
        let [b'T' | b't' | b' ', h, hh, b':', m, mm, b':', s, ss, rest @ ..] = rest else { return None };
        let (hour, minute, second) = (pair(*h, *hh)?, pair(*m, *mm)?, pair(*s, *ss)?);
        let (fraction, zone) = split_fraction(rest)?;
        let offset = offset_seconds(zone)?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let leap = second == 60;
        let seconds = day * DAY + hour * 3600 + minute * 60 + second - i64::from(leap) - offset;
        let last_of_the_day = seconds.rem_euclid(DAY) == DAY - 1;
        (!leap || last_of_the_day).then_some(Self { seconds, leap, fraction })
    }
}

const DAY: i64 = 86_400;

/// Days from 0000-03-01 of a full-date: a day that exists.
#[inline(always)]
pub(in super::super) fn day(text: &[u8]) -> Option<i64> {
    let (&year_and_month, &[d0, d1]) = text.split_first_chunk().and_then(|(head, tail)| match tail {
        [_, _] => tail.first_chunk().map(|tail| (head, tail)),
        _ => None,
    })?;
    let [y0, y1, y2, y3, _, m0, m1, _] = year_and_month_digits(year_and_month)?;
    let year = (y0 * 10 + y1) * 100 + y2 * 10 + y3;
    let (month, day) = (m0 * 10 + m1, pair(d0, d1)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    // The year begins in March, so that the leap day is its last: 153 days in each five months.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1)
}

/// The digits of `2026-11-`, all in one word: without the text `0000-00-`, a lane is a digit if it is at most
/// nine, and a hyphen if nothing is left.
#[inline(always)]
fn year_and_month_digits(text: [u8; 8]) -> Option<[i64; 8]> {
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    const ROOM: u64 = u64::from_le_bytes([0x76, 0x76, 0x76, 0x76, 0x7F, 0x76, 0x76, 0x7F]);
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(*b"0000-00-");
    let over = digits | (digits & !HIGH).wrapping_add(ROOM);
    (over & HIGH == 0).then(|| digits.to_le_bytes().map(i64::from))
}

#[inline(always)]
fn pair(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Digits after a point, if there is one, and what follows.
fn split_fraction(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(text) = rest.strip_prefix(b".") else { return Some((b"", rest)) };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let (mut fraction, zone) = text.split_at_checked(digits)?;
    while let Some(shorter) = fraction.strip_suffix(b"0") {
        fraction = shorter;
    }
    Some((fraction, zone))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hour, minute) = (pair(h0, h1)?, pair(m0, m1)?);
            let seconds = hour * 3600 + minute * 60;
            (hour <= 23 && minute <= 59).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Instant<'_> {
        Instant::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a time"))
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = day(b"0000-01-01").unwrap() - 1;
        for year in [0, 1, 3, 4, 100, 1900, 1999, 2000, 2024, 2026, 2100, 9999] {
            before = day(format!("{year:04}-01-01").as_bytes()).unwrap() - 1;
            for month in 1..=12 {
                for date in 1..=31 {
                    if let Some(number) = day(format!("{year:04}-{month:02}-{date:02}").as_bytes()) {
                        assert_eq!(number, before + 1, "{year}-{month}-{date}");
                        before = number;
                    }
                }
            }
            if year < 9999 {
                assert_eq!(day(format!("{:04}-01-01", year + 1).as_bytes()), Some(before + 1));
            }
        }
        assert!(before > 0);
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [
            "2026-02-29",
            "1900-02-29",
            "2026-04-31",
            "2026-00-10",
            "2026-13-01",
            "2026-01-00",
            "2026-01-32",
            "26-01-01",
            "2026-1-1",
            "2026/01/01",
            "2026-01-01 ",
            "",
            "20260101",
            "２026-01-01",
        ] {
            assert_eq!(day(text.as_bytes()), None, "{text}");
        }
        assert!(day(b"2024-02-29").is_some() && day(b"2000-02-29").is_some());
    }

    #[test]
    fn moments_are_compared_across_offsets() {
        let same = [
            "2026-11-21T10:00:00Z",
            "2026-11-21t10:00:00.000z",
            "2026-11-21 11:30:00+01:30",
            "2026-11-20T23:59:00-10:01",
        ];
        assert!(same.iter().all(|text| instant(text) == instant(same[0])));
        let ordered = [
            "2026-11-21T10:00:00Z",
            "2026-11-21T10:00:00.05Z",
            "2026-11-21T10:00:00.5Z",
            "2026-11-21T10:00:01Z",
            "2026-12-31T23:59:59.9Z",
            "2026-12-31T23:59:60Z",
            "2027-01-01T00:00:00Z",
        ];
        assert!(ordered.windows(2).all(|pair| instant(pair[0]) < instant(pair[1])));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-11-21T10:00:61Z",
            "2026-11-21T10:00:60Z",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00Z",
            "2026-11-21T10:00:00+0100",
            "2026-11-21T10:00:00+24:00",
            "2026-11-21T10:00:00ZZ",
            "2026-02-30T10:00:00Z",
        ] {
            assert!(Instant::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Instant::parse(b"1998-12-31T15:59:60.1-08:00").is_some());
    }
}
