//! Where and by how much something differs, and when: what cannot be so whatever was replayed (step R6).

use std::cmp::Ordering;

use super::{CertificateReason, Check, fault};
use crate::view::View;

/// Most digits of an amount before its point, and after it.
const AMOUNT_DIGITS_MAX: usize = 18;
/// Most digits of an exponent.
const EXPONENT_DIGITS_MAX: usize = 15;

fn refuse(detail: String) -> Check {
    Err(fault(CertificateReason::Status, detail))
}

/// The replay ended when it began or later, at times that there are.
pub(super) fn check_times(predicate: View<'_>) -> Check {
    let (started, finished) = (predicate.text_of("started"), predicate.text_of("finished"));
    match [&started, &finished].into_iter().find(|text| !is_moment(text)) {
        Some(text) => refuse(format!("`{text}` is no time")),
        // Of one form, so their texts are in the order of time.
        None if finished < started => refuse(format!("it ended at {finished}, before it began")),
        None => Ok(()),
    }
}

/// `2026-11-22T06:00:00.000000Z`, of the Gregorian calendar from year 1 on. The form is the schema's.
fn is_moment(text: &str) -> bool {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) = (number(11, 13), number(14, 16), number(17, 19)) else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60
}

/// RFC 6901.
pub(super) fn is_pointer(text: &str) -> bool {
    let mut parts = text.split('/');
    parts.next() == Some("")
        && parts.flat_map(|name| name.split('~').skip(1)).all(|rest| rest.starts_with(['0', '1']))
}

/// One leads to what the other leads into, or to the same.
pub(super) fn is_above(one: &str, other: &str) -> bool {
    other.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a divergence is, and how far it is beyond what is tolerated there.
pub(super) fn check_beyond(row: View<'_>, has_classes: bool) -> Check {
    let texts = |view: View<'_>| view.text().map(std::borrow::Cow::into_owned);
    let at: Vec<String> = row.member("at").into_iter().flat_map(View::items).filter_map(texts).collect();
    if let Some(other) = at.iter().find(|at| !is_pointer(at)) {
        return refuse(format!("a divergence is at `{other}`, which is no JSON pointer"));
    }
    if let Some(twice) = repeated(&at) {
        return refuse(format!("a divergence is at `{twice}` twice"));
    }
    let beyond: Vec<View<'_>> = row.member("beyond").into_iter().flat_map(View::items).collect();
    if !beyond.is_empty() && !has_classes {
        return refuse("`beyond` does not fit `mode`".to_owned());
    }
    let places: Vec<String> = beyond.iter().map(|one| one.text_of("at").into_owned()).collect();
    if let Some(other) = places.iter().find(|place| !at.contains(place)) {
        return refuse(format!("`beyond` is at `{other}`, where nothing differs"));
    }
    if let Some(twice) = repeated(&places) {
        return refuse(format!("`beyond` is at `{twice}` twice"));
    }
    beyond.into_iter().try_for_each(check_distance)
}

fn repeated(texts: &[String]) -> Option<&String> {
    texts
        .iter()
        .enumerate()
        .find(|(place, text)| texts.iter().take(*place).any(|before| before == *text))
        .map(|(_, text)| text)
}

fn check_distance(beyond: View<'_>) -> Check {
    let within = beyond.text_of("within");
    let Some(amount) = Distance::amount(&within) else {
        return refuse(format!("`within` is `{within}`, which is no amount"));
    };
    let Some(by) = beyond.member("by").and_then(View::text) else { return Ok(()) };
    let Some(distance) = Distance::parse(&by) else {
        return refuse(format!("`by` is `{by}`, which is no distance"));
    };
    // What part of the recorded number this is, nobody can say.
    let least = if beyond.text_of("of") == "absolute" { amount } else { Distance::default() };
    match distance.compare(&least) {
        Ordering::Greater => Ok(()),
        _ => refuse(format!("a distance of {by} is not beyond a tolerance of {within}")),
    }
}

/// A decimal that is not negative: `0.` and these digits, times 10 to the power of `magnitude`. INVARIANT: the digits neither
/// begin nor end with a zero; nothing has none, and the magnitude 0.
#[derive(Default)]
struct Distance {
    digits: String,
    magnitude: i64,
}

impl Distance {
    /// Digits, maybe a point and digits, maybe `e` and an exponent.
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, power) = match text.split_once('e') {
            Some((mantissa, power)) => (mantissa, exponent(power)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        if !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let kept = digits.trim_start_matches('0');
        if kept.is_empty() {
            return Some(Self::default());
        }
        let zeros = i64::try_from(digits.len() - kept.len()).ok()?;
        let magnitude = i64::try_from(whole.len()).ok()?.checked_sub(zeros)?.checked_add(power)?;
        Some(Self { digits: kept.trim_end_matches('0').to_owned(), magnitude })
    }

    /// As a policy declares one: no zeros that could be left out, no exponent.
    fn amount(text: &str) -> Option<Self> {
        let (whole, fraction) =
            text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
        let fits = |digits: &str| are_digits(digits) && digits.len() <= AMOUNT_DIGITS_MAX;
        let is_whole = fits(whole) && (whole == "0" || !whole.starts_with('0'));
        let is_fraction = fraction.is_none_or(|digits| fits(digits) && !digits.ends_with('0'));
        if is_whole && is_fraction { Self::parse(text) } else { None }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let is_nothing = |distance: &Self| distance.digits.is_empty();
        match (is_nothing(self), is_nothing(other)) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => (self.magnitude, &self.digits).cmp(&(other.magnitude, &other.digits)),
        }
    }
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_it = are_digits(digits) && digits.len() <= EXPONENT_DIGITS_MAX;
    is_it.then(|| text.parse().ok()).flatten()
}
