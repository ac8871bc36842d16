//! Numbers by which states know people, with the check digits that their issuers publish.

use crate::catalogue::{Anchors, Code, Look, View};
use crate::engine::is_word;
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};
use crate::personal::{Grouped, grouped, is_near, run, stands_alone};

const fn info(id: &'static str, confidence: Confidence) -> RuleInfo {
    RuleInfo { id, detector: Detector::Pii, class: Class::Pii, confidence, severity: Severity::High }
}

const fn at_digits(look: fn(&View<'_>) -> Look, before: usize) -> Code {
    Code { anchors: Anchors::Digits, before, reach: 32, look }
}

pub(crate) const RULES: &[(RuleInfo, Code)] = &[
    (info("pii.us_ssn", Confidence::High), at_digits(us_ssn, 0)),
    (info("pii.uk_nhs", Confidence::High), at_digits(uk_nhs, 0)),
    (info("pii.de_tax_id", Confidence::High), at_digits(de_tax_id, 0)),
    (info("pii.fr_nir", Confidence::High), at_digits(fr_nir, 0)),
    (info("pii.es_dni", Confidence::High), at_digits(es_dni, 1)),
    (info("pii.br_cpf", Confidence::High), at_digits(br_cpf, 0)),
    (info("pii.in_aadhaar", Confidence::High), at_digits(in_aadhaar, 0)),
];

/// A number in these groups, or in one piece, that stands alone; with it, where it ends.
fn number(view: &View<'_>, shape: &[usize], separators: &[u8]) -> Result<Option<(Grouped, usize)>, Look> {
    let is_part = |byte: u8| byte.is_ascii_digit() || separators.contains(&byte);
    let Some(text) = run(view, view.ahead(), is_part) else { return Err(Look::Wait) };
    let mut found = grouped(text, separators);
    let count = if found.groups.starts_with(shape) { shape.len() } else { 1 };
    let digits: usize = found.groups.iter().take(count).sum();
    let Some(end) = found.ends.get(count - 1).copied() else { return Ok(None) };
    let goes_on = found.groups.len() > count;
    if digits != shape.iter().sum::<usize>() || goes_on || !stands_alone(view, view.at, view.at + end) {
        return Ok(None);
    }
    found.digits.truncate(digits);
    Ok(Some((found, view.at + end)))
}

/// A number that keeps `check`: sure beside one of `words`, `otherwise` in groups.
fn found(
    view: &View<'_>,
    shape: &[usize],
    separators: &[u8],
    words: &[&str],
    otherwise: Confidence,
    check: fn(&[u8]) -> bool,
) -> Look {
    let (number, to) = match number(view, shape, separators) {
        Ok(Some(found)) => found,
        Ok(None) => return Look::Nothing,
        Err(look) => return look,
    };
    if !check(&number.digits) {
        return Look::Nothing;
    }
    let confidence = match (is_near(view, words), number.separator.is_some()) {
        (true, _) => Confidence::High,
        (false, true) => otherwise,
        (false, false) => Confidence::Low,
    };
    Look::Found { from: view.at, to, confidence }
}

fn us_ssn(view: &View<'_>) -> Look {
    let words = ["ssn", "social security", "social-security", "social_security"];
    found(view, &[3, 2, 4], b"-", &words, Confidence::Medium, |digits| {
        let [a, b, c, d, e, rest @ ..] = digits else { return false };
        let area = [*a, *b, *c];
        *a != 9
            && area != [0, 0, 0]
            && area != [6, 6, 6]
            && (*d, *e) != (0, 0)
            && rest.iter().any(|digit| *digit != 0)
    })
}

fn weighted(digits: &[u8], weights: impl Iterator<Item = u32>) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

fn uk_nhs(view: &View<'_>) -> Look {
    found(view, &[3, 3, 4], b" -", &["nhs", "patient"], Confidence::Medium, |digits| {
        let check = 11 - weighted(digits, (2..=10).rev()) % 11;
        let check = if check == 11 { 0 } else { check };
        digits.get(9).copied().map(u32::from) == Some(check) && digits.first() != Some(&0)
    })
}

/// ISO 7064 MOD 11,10; of the first ten digits exactly one comes twice or three times.
fn de_tax_id(view: &View<'_>) -> Look {
    let words = ["steuer", "idnr", "tax id", "tax-id", "tin"];
    found(view, &[2, 3, 3, 3], b" /", &words, Confidence::Medium, |digits| {
        let Some((last, first)) = digits.split_last() else { return false };
        let mut counts = [0_u8; 10];
        first.iter().for_each(|digit| counts[usize::from(*digit % 10)] += 1);
        let repeated: Vec<u8> = counts.into_iter().filter(|count| *count > 1).collect();
        let product = first.iter().fold(10_u32, |product, digit| {
            let sum = (u32::from(*digit) + product) % 10;
            (if sum == 0 { 10 } else { sum }) * 2 % 11
        });
        let check = (11 - product) % 10;
        digits.first() != Some(&0) && matches!(repeated.as_slice(), [2 | 3]) && u32::from(*last) == check
    })
}

/// Sex, year, month, place, order and a key of two digits: 97 minus the rest by 97.
fn fr_nir(view: &View<'_>) -> Look {
    let words = ["sécu", "secu", "nir", "insee", "assur"];
    found(view, &[1, 2, 2, 2, 3, 3, 2], b" ", &words, Confidence::High, |digits| {
        let value = |part: &[u8]| part.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(*digit));
        let (Some(month), Some(body), Some(key)) = (digits.get(3..5), digits.get(..13), digits.get(13..))
        else {
            return false;
        };
        matches!(digits.first(), Some(1 | 2))
            && matches!(value(month), 1..=12 | 20..=42 | 50..=99)
            && value(key) == 97 - value(body) % 97
    })
}

/// Eight digits, or `X`, `Y` or `Z` and seven, and a letter by 23.
fn es_dni(view: &View<'_>) -> Look {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let foreign = view.before().and_then(|byte| b"XYZ".iter().position(|letter| *letter == byte));
    let from = view.at - usize::from(foreign.is_some());
    let joins = |byte: &u8| is_word(*byte) || matches!(byte, b'-' | b'.' | b'/');
    if from.checked_sub(1).and_then(|at| view.text.get(at)).is_some_and(joins) {
        return Look::Nothing;
    }
    let text = view.ahead();
    let Some(digits) = run(view, text, |byte| byte.is_ascii_digit()) else { return Look::Wait };
    if digits.len() != 8 - usize::from(foreign.is_some()) {
        return Look::Nothing;
    }
    let dash = usize::from(text.get(digits.len()) == Some(&b'-'));
    let end = digits.len() + dash;
    let (letter, after) = (text.get(end), text.get(end + 1));
    if (letter.is_none() || after.is_none()) && !view.is_whole {
        return Look::Wait;
    }
    let number = digits.iter().fold(foreign.unwrap_or(0), |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if letter.is_none() || letter != LETTERS.get(number % 23) || after.is_some_and(|byte| is_word(*byte)) {
        return Look::Nothing;
    }
    let near = is_near(view, &["dni", "nie", "nif", "documento"]);
    let confidence = if near { Confidence::High } else { Confidence::Medium };
    Look::Found { from, to: view.at + end + 1, confidence }
}

/// `000.000.000-00`, or in one piece.
fn br_cpf(view: &View<'_>) -> Look {
    let is_part = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let Some(text) = run(view, view.ahead(), is_part) else { return Look::Wait };
    let text = text.strip_suffix(b".").unwrap_or(text);
    let is_written = text.len() == 14
        && text.iter().enumerate().all(|(at, byte)| match at {
            3 | 7 => *byte == b'.',
            11 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let is_plain = text.len() == 11 && text.iter().all(u8::is_ascii_digit);
    let to = view.at + text.len();
    if !(is_written || is_plain) || !stands_alone(view, view.at, to) {
        return Look::Nothing;
    }
    let digits: Vec<u8> = text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    let check = |count: u32| {
        let sum = weighted(&digits[..count as usize], (2..=count + 1).rev());
        (sum * 10 % 11 % 10) as u8 // below ten
    };
    let repeats = digits.iter().all(|digit| Some(digit) == digits.first());
    if repeats || digits.get(9) != Some(&check(9)) || digits.get(10) != Some(&check(10)) {
        return Look::Nothing;
    }
    let confidence = match (is_written, is_near(view, &["cpf"])) {
        (true, _) | (_, true) => Confidence::High,
        _ => Confidence::Low,
    };
    Look::Found { from: view.at, to, confidence }
}

/// Twelve digits whose last is by Verhoeff.
fn in_aadhaar(view: &View<'_>) -> Look {
    found(view, &[4, 4, 4], b" -", &["aadhaar", "aadhar", "uidai"], Confidence::Medium, |digits| {
        matches!(digits.first(), Some(2..=9)) && verhoeff(digits)
    })
}

/// J. Verhoeff, Error Detecting Decimal Codes, 1969: the dihedral group of order ten.
fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTED: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permuted =
        |digit: u8, times: usize| (0..times % 8).fold(digit, |digit, _| PERMUTED[usize::from(digit % 10)]);
    let sum = digits.iter().rev().enumerate().fold(0, |sum, (at, digit)| product(sum, permuted(*digit, at)));
    sum == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dihedral_group_finds_single_errors() {
        assert!(verhoeff(&[2, 3, 6, 3]));
        assert!((0..=9).filter(|last| verhoeff(&[2, 3, 6, *last])).count() == 1);
    }
}
