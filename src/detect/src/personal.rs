//! Personal data that is written alike everywhere: payment cards, IBANs, addresses of mail and phones.

use crate::catalogue::{Anchors, Code, Look, View};
use crate::engine::is_word;
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};

const fn info(id: &'static str, confidence: Confidence, severity: Severity) -> RuleInfo {
    RuleInfo { id, detector: Detector::Pii, class: Class::Pii, confidence, severity }
}

pub(crate) const RULES: &[(RuleInfo, Code)] = &[
    (
        info("pii.card", Confidence::High, Severity::High),
        Code { anchors: Anchors::Digits, before: 0, reach: 40, look: card },
    ),
    (
        info("pii.iban", Confidence::High, Severity::High),
        Code { anchors: Anchors::Digits, before: 2, reach: 48, look: iban },
    ),
    (
        info("pii.email", Confidence::Medium, Severity::Low),
        Code { anchors: Anchors::Words(&["@"]), before: LOCAL_BYTES_MAX, reach: 192, look: email },
    ),
    (
        info("pii.phone", Confidence::Medium, Severity::Low),
        Code { anchors: Anchors::Words(&["+"]), before: 0, reach: 32, look: phone },
    ),
];

/// Bytes after a number that say whether it stands alone.
const AFTER: usize = 2;

/// The bytes at the front that are of a kind, if their end has come and what says whether it is one.
pub(crate) fn run<'a>(view: &View<'a>, text: &'a [u8], kind: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
    match text.iter().position(|byte| !kind(*byte)) {
        Some(end) if view.is_whole || text.len() - end >= AFTER => text.get(..end),
        Some(_) => None,
        None => view.is_whole.then_some(text),
    }
}

/// Digits in groups that one separator keeps apart: the digits, and where each group ends in the text.
pub(crate) struct Grouped {
    pub(crate) digits: Vec<u8>,
    pub(crate) groups: Vec<usize>,
    pub(crate) ends: Vec<usize>,
    pub(crate) separator: Option<u8>,
}

/// Groups of digits at the front of `text`, which is a run of digits, spaces, dashes and dots.
pub(crate) fn grouped(text: &[u8], separators: &[u8]) -> Grouped {
    let mut out = Grouped { digits: Vec::new(), groups: Vec::new(), ends: Vec::new(), separator: None };
    let (mut at, mut length) = (0, 0);
    while let Some(byte) = text.get(at) {
        if byte.is_ascii_digit() {
            out.digits.push(byte - b'0');
            length += 1;
        } else {
            let goes_on = text.get(at + 1).is_some_and(u8::is_ascii_digit);
            let same = out.separator.is_none_or(|known| known == *byte);
            if !goes_on || !same || !separators.contains(byte) {
                break;
            }
            out.separator = Some(*byte);
            out.groups.push(length);
            out.ends.push(at);
            length = 0;
        }
        at += 1;
    }
    out.groups.push(length);
    out.ends.push(at);
    out
}

/// Whether nothing beside `from..to` makes it a part of something longer.
pub(crate) fn stands_alone(view: &View<'_>, from: usize, to: usize) -> bool {
    let before = from.checked_sub(1).and_then(|at| view.text.get(at));
    let after = view.text.get(to);
    let then = view.text.get(to + 1);
    let joins = |byte: &u8| is_word(*byte);
    let decimal =
        |byte: &u8| matches!(byte, b'.' | b',' | b'-' | b'/') && then.is_some_and(u8::is_ascii_digit);
    let prefix = |byte: &u8| joins(byte) || matches!(byte, b'.' | b'-' | b'/' | b'#');
    !before.is_some_and(prefix) && !after.is_some_and(|byte| joins(byte) || decimal(byte))
}

/// Whether one of these words, in small letters, stands shortly before.
pub(crate) fn is_near(view: &View<'_>, words: &[&str]) -> bool {
    let near = view.behind().to_ascii_lowercase();
    words.iter().any(|word| near.windows(word.len()).any(|part| part == word.as_bytes()))
}

pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit) * 2) {
            (0, twice) => twice / 2,
            (_, twice) => twice / 10 + twice % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO/IEC 7812: who issues cards with these first digits, and how long they are.
fn is_issued(digits: &[u8]) -> bool {
    let first =
        |count: usize| digits.iter().take(count).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    match digits.len() {
        16 => {
            digits.first() == Some(&4)
                || matches!(first(2), 51..=55 | 65 | 62)
                || matches!(first(4), 2221..=2720 | 6011 | 3528..=3589)
                || matches!(first(3), 644..=649)
        }
        15 => matches!(first(2), 34 | 37),
        14 => matches!(first(3), 300..=305) || matches!(first(2), 36 | 38),
        13 | 19 => digits.first() == Some(&4) || digits.len() == 19 && first(2) == 62,
        _ => false,
    }
}

fn card(view: &View<'_>) -> Look {
    let text = view.ahead();
    let Some(text) = run(view, text, |byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'-')) else {
        return Look::Wait;
    };
    let Grouped { digits, groups, ends, .. } = grouped(text, b" -");
    let count = match groups.as_slice() {
        [_] => 1,
        [4, 4, 4, 4, 3, ..] => 5,
        [4, 4, 4, 4, ..] => 4,
        [4, 6, 5 | 4, ..] => 3,
        _ => return Look::Nothing,
    };
    let number: usize = groups.iter().take(count).sum();
    let (Some(end), Some(digits)) = (ends.get(count - 1), digits.get(..number)) else { return Look::Nothing };
    let repeats = digits.iter().all(|digit| Some(digit) == digits.first());
    let to = view.at + end;
    if repeats || !is_issued(digits) || !luhn(digits) || !stands_alone(view, view.at, to) {
        return Look::Nothing;
    }
    Look::Found { from: view.at, to, confidence: Confidence::High }
}

/// The IBAN registry: country and length.
const IBANS: [(&[u8; 2], usize); 77] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
];

/// ISO 13616: the country's length, in one piece or in groups of four, and mod 97.
fn iban(view: &View<'_>) -> Look {
    let Some(from) = view.at.checked_sub(2) else { return Look::Nothing };
    let country = view.text.get(from..view.at).unwrap_or_default();
    let Some((_, length)) = IBANS.iter().find(|(code, _)| &code[..] == country) else { return Look::Nothing };
    if from.checked_sub(1).and_then(|at| view.text.get(at)).is_some_and(|byte| is_word(*byte)) {
        return Look::Nothing;
    }
    let text = view.text.get(from..).unwrap_or_default();
    let mut found = Vec::with_capacity(*length);
    let mut to = None;
    let is_grouped = text.get(4) == Some(&b' ');
    for (at, byte) in text.iter().enumerate() {
        if is_grouped && at % 5 == 4 {
            if *byte != b' ' {
                return Look::Nothing;
            }
            continue;
        }
        if !byte.is_ascii_digit() && !byte.is_ascii_uppercase() {
            return Look::Nothing;
        }
        found.push(*byte);
        if found.len() == *length {
            to = Some(from + at + 1);
            break;
        }
    }
    let Some(to) = to else { return if view.is_whole { Look::Nothing } else { Look::Wait } };
    if to == view.text.len() && !view.is_whole {
        return Look::Wait;
    }
    let alone = !view.text.get(to).is_some_and(|byte| is_word(*byte));
    if alone && mod97(&found) == Some(1) {
        return Look::Found { from, to, confidence: Confidence::High };
    }
    Look::Nothing
}

/// The number that an IBAN stands for, by 97.
fn mod97(iban: &[u8]) -> Option<u32> {
    let (head, rest) = iban.split_at_checked(4)?;
    rest.iter().chain(head).try_fold(0_u32, |sum, byte| match byte {
        b'0'..=b'9' => Some((sum * 10 + u32::from(byte - b'0')) % 97),
        b'A'..=b'Z' => Some((sum * 100 + u32::from(byte - b'A') + 10) % 97),
        _ => None,
    })
}

/// RFC 5321 section 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

fn email(view: &View<'_>) -> Look {
    let is_local =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    let local = view.behind().iter().rev().take_while(is_local).count();
    if !(1..=LOCAL_BYTES_MAX).contains(&local) {
        return Look::Nothing;
    }
    let rest = view.ahead().get(1..).unwrap_or_default();
    let Some(host) = run(view, rest, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    else {
        return Look::Wait;
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    let labels: Vec<&[u8]> = host.split(|byte| *byte == b'.').collect();
    let is_label =
        |label: &&[u8]| (1..=63).contains(&label.len()) && !label.starts_with(b"-") && !label.ends_with(b"-");
    let is_top = |label: &&[u8]| label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic);
    let first = view.text.get(view.at - local);
    if labels.len() < 2
        || !labels.iter().all(is_label)
        || !labels.last().is_some_and(is_top)
        || first == Some(&b'.')
    {
        return Look::Nothing;
    }
    Look::Found { from: view.at - local, to: view.at + 1 + host.len(), confidence: Confidence::Medium }
}

/// ITU-T E.164: `+`, a country, and 8 to 15 digits in all.
fn phone(view: &View<'_>) -> Look {
    if view.before().is_some_and(|byte| is_word(byte) || matches!(byte, b'+' | b'/' | b'=')) {
        return Look::Nothing;
    }
    let rest = view.ahead().get(1..).unwrap_or_default();
    let part = |byte: u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'(' | b')' | b'.');
    let Some(text) = run(view, rest, part) else { return Look::Wait };
    let last = text.iter().rposition(u8::is_ascii_digit).map_or(0, |at| at + 1);
    let text = text.get(..last).unwrap_or_default();
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let to = view.at + 1 + last;
    let follows = view.text.get(to).is_some_and(|byte| is_word(*byte));
    if !(8..=15).contains(&digits) || !matches!(text.first(), Some(b'1'..=b'9')) || follows {
        return Look::Nothing;
    }
    Look::Found { from: view.at, to, confidence: Confidence::Medium }
}
