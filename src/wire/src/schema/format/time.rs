//! Dates and times by RFC 3339, durations by its appendix A.

pub(super) fn date_time(text: &str) -> bool {
    match (text.split_at_checked(10), text.get(11..)) {
        (Some((day, rest)), Some(clock)) => date(day) && rest.starts_with(['T', 't']) && time(clock),
        _ => false,
    }
}

pub(super) fn date(text: &str) -> bool {
    let &[a, b, c, d, b'-', e, f, b'-', g, h] = text.as_bytes() else { return false };
    let (Some(year), Some(month), Some(day)) = (number(&[a, b, c, d]), number(&[e, f]), number(&[g, h]))
    else {
        return false;
    };
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// A time with its offset. A leap second is at 23:59:60 UTC.
pub(super) fn time(text: &str) -> bool {
    let Some((&[a, b, b':', c, d, b':', e, f], rest)) = text.as_bytes().split_first_chunk::<8>() else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) = (number(&[a, b]), number(&[c, d]), number(&[e, f])) else {
        return false;
    };
    let zone = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match fraction.split_at_checked(digits) {
                Some((_, zone)) if digits > 0 => zone,
                _ => return false,
            }
        }
        _ => rest,
    };
    let Some(offset) = offset(zone) else { return false };
    let minute_of_day = hour * 60 + minute;
    let utc = (minute_of_day - offset).rem_euclid(24 * 60);
    hour < 24 && minute < 60 && (second < 60 || (second == 60 && utc == 24 * 60 - 1))
}

/// Minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i32> {
    let (sign, hour, minute) = match *zone {
        [b'Z' | b'z'] => return Some(0),
        [b'+', a, b, b':', c, d] => (1, number(&[a, b])?, number(&[c, d])?),
        [b'-', a, b, b':', c, d] => (-1, number(&[a, b])?, number(&[c, d])?),
        _ => return None,
    };
    (hour < 24 && minute < 60).then_some(sign * (hour * 60 + minute))
}

fn number(digits: &[u8]) -> Option<i32> {
    digits
        .iter()
        .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i32::from(byte - b'0')))
}

pub(super) fn duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else { return false };
    let (days, clock) = rest.split_once('T').map_or((rest, None), |(days, clock)| (days, Some(clock)));
    if clock.is_none() && days.len() > 1 && units(days, "W") {
        return true;
    }
    let clock_is = clock.is_none_or(|clock| !clock.is_empty() && units(clock, "HMS"));
    (clock.is_some() || !days.is_empty()) && units(days, "YMD") && clock_is
}

/// Numbers with these units, in this order and without a gap between units.
fn units(text: &str, units: &str) -> bool {
    let mut rest = text;
    let mut left = units;
    let mut first = true;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some((_, after)) = rest.split_at_checked(digits).filter(|_| digits > 0) else { return false };
        let Some(unit) = after.chars().next() else { return false };
        let Some(at) = left.find(unit).filter(|at| first || *at == 0) else { return false };
        rest = after.get(unit.len_utf8()..).unwrap_or_default();
        left = left.get(at + 1..).unwrap_or_default();
        first = false;
    }
    true
}
