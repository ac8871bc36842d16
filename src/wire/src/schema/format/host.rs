//! Hosts and mail addresses.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// RFC 1123 section 2.1: letters, digits and inner hyphens, with RFC 5891 section 4.2.3.1 for the third and fourth.
/// What an A-label (`xn--`) stands for is not looked at, but it must be punycode.
pub(super) fn hostname(text: &str) -> bool {
    text.len() <= 253 && !text.is_empty() && text.split('.').all(label)
}

fn label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let inner = !text.starts_with('-') && !text.ends_with('-');
    (1..=63).contains(&bytes.len()) && plain && inner && bytes.get(2..4) != Some(b"--")
        || (plain && inner && bytes.len() <= 63 && a_label(text))
}

fn a_label(text: &str) -> bool {
    let prefixed = text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("xn--"));
    prefixed && text.get(4..).is_some_and(|code| !code.is_empty() && punycode(code))
}

/// Parameters of RFC 3492 section 5.
const BASE: u32 = 36;
const THRESHOLD_MIN: u32 = 1;
const THRESHOLD_MAX: u32 = 26;

/// RFC 3492 section 6.2, without keeping the result.
fn punycode(code: &str) -> bool {
    let (basic, extended) = code.rsplit_once('-').unwrap_or(("", code));
    let mut count = basic.len() as u32; // at most 63
    let (mut point, mut bias, mut index) = (128_u32, 72_u32, 0_u32);
    let mut digits = extended.bytes();
    let mut any = false;
    while digits.len() > 0 {
        any = true;
        let (before, mut weight, mut k) = (index, 1_u32, BASE);
        loop {
            let Some(digit) = digits.next().and_then(|byte| char::from(byte).to_digit(36)) else {
                return false;
            };
            let digit = if digit < 10 { digit + 26 } else { digit - 10 };
            let Some(next) = digit.checked_mul(weight).and_then(|step| index.checked_add(step)) else {
                return false;
            };
            index = next;
            let threshold = k.saturating_sub(bias).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
            if digit < threshold {
                break;
            }
            let Some(next) = weight.checked_mul(BASE - threshold) else { return false };
            weight = next;
            k += BASE;
        }
        count += 1;
        bias = adapt(index - before, count, before == 0);
        let Some(next) = point.checked_add(index / count).filter(|point| char::from_u32(*point).is_some())
        else {
            return false;
        };
        point = next;
        index = index % count + 1;
    }
    any
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, count: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

pub(super) fn ipv4(text: &str) -> bool {
    Ipv4Addr::from_str(text).is_ok()
}

pub(super) fn ipv6(text: &str) -> bool {
    Ipv6Addr::from_str(text).is_ok()
}

/// RFC 5321 section 4.1.2, with the characters of RFC 6531 above ASCII.
pub(super) fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_is = match local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted_text(quoted),
        None => local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom)),
    };
    local.len() <= 64 && local_is && mail_domain(domain)
}

fn is_atom(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char) || !char.is_ascii()
}

fn quoted_text(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let fits = match char {
            '\\' => chars.next().is_some_and(|char| !char.is_ascii_control()),
            _ => char != '"' && !char.is_ascii_control(),
        };
        if !fits {
            return false;
        }
    }
    true
}

fn mail_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return literal.strip_prefix("IPv6:").map_or_else(|| ipv4(literal), ipv6);
    }
    if text.is_ascii() {
        return hostname(text);
    }
    let inner = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    let plain = |char: char| char.is_alphanumeric() || char == '-' || !char.is_ascii();
    text.split('.').all(|label| !label.is_empty() && inner(label) && label.chars().all(plain))
}
