//! URLs to where no tool should be sent: this machine, its network, and what clouds tell about themselves.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use idna::AsciiDenyList;

use crate::catalogue::{Anchors, Code, Look, View};
use crate::engine::is_word;
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};

const fn info(id: &'static str, confidence: Confidence, severity: Severity) -> RuleInfo {
    RuleInfo { id, detector: Detector::Ssrf, class: Class::Ssrf, confidence, severity }
}

const fn at_urls(look: fn(&View<'_>) -> Look) -> Code {
    Code { anchors: Anchors::Words(SCHEMES), before: 0, reach: URL_BYTES_MAX, look }
}

/// Schemes that are fetched. Browsers and their kind take any number of slashes after them, also none.
const SCHEMES: &[&str] = &["http:", "https:", "ftp:", "ws:", "wss:"];
const BARE: &[&str] = &[
    "169.254.169.254",
    "metadata.google.internal",
    "100.100.100.200",
    "fd00:ec2::254",
    "instance-data.ec2.internal",
];
/// Most bytes of a URL that are looked at.
const URL_BYTES_MAX: usize = 512;
/// Most colons of an authority: a password's, those of an address and a port's. What has more is none, so that schemes in a row cost
/// no more than their bytes.
const COLONS_MAX: usize = 16;

pub(crate) const RULES: &[(RuleInfo, Code)] = &[
    (
        info("ssrf.metadata", Confidence::High, Severity::Critical),
        at_urls(|view| of_host(view, Host::Metadata)),
    ),
    (info("ssrf.loopback", Confidence::High, Severity::High), at_urls(|view| of_host(view, Host::Loopback))),
    (
        info("ssrf.link_local", Confidence::High, Severity::High),
        at_urls(|view| of_host(view, Host::LinkLocal)),
    ),
    (info("ssrf.private", Confidence::High, Severity::Medium), at_urls(|view| of_host(view, Host::Private))),
    (info("ssrf.obscured", Confidence::High, Severity::High), at_urls(|view| of_host(view, Host::Obscured))),
    (
        info("ssrf.rebinding", Confidence::Medium, Severity::Medium),
        at_urls(|view| of_host(view, Host::Rebinding)),
    ),
    (info("ssrf.userinfo", Confidence::High, Severity::Medium), at_urls(userinfo)),
    (
        info("ssrf.scheme", Confidence::High, Severity::High),
        Code {
            anchors: Anchors::Words(&[
                "file://",
                "gopher://",
                "dict://",
                "ldap://",
                "tftp://",
                "netdoc://",
                "jar:http",
            ]),
            before: 0,
            reach: URL_BYTES_MAX,
            look: scheme,
        },
    ),
    (
        info("ssrf.metadata_address", Confidence::Medium, Severity::High),
        Code { anchors: Anchors::Words(BARE), before: 0, reach: 64, look: bare },
    ),
];

/// Where a host leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Host {
    Metadata,
    Loopback,
    LinkLocal,
    Private,
    /// A public address that is written so that it is not seen to be one.
    Obscured,
    /// A name that says itself which address it stands for.
    Rebinding,
    Other,
}

/// The authority of a URL: who, where, and where it ends.
struct Authority<'a> {
    slashes: usize,
    user: Option<&'a [u8]>,
    host: &'a [u8],
    end: usize,
}

/// RFC 3986 section 3.2, as browsers read it: a backslash ends it too. `Err`: it has not ended.
fn authority<'a>(view: &View<'a>) -> Result<Option<Authority<'a>>, Look> {
    if view.before().is_some_and(is_word) {
        return Ok(None);
    }
    let text = view.text.get(view.at..).unwrap_or_default();
    let Some(scheme) = text.iter().position(|byte| *byte == b':').map(|at| at + 1) else {
        return Ok(None);
    };
    let rest = text.get(scheme..).unwrap_or_default();
    let slashes = rest.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    let (from, rest) = (scheme + slashes, rest.get(slashes..).unwrap_or_default());
    let ends = |byte: &u8| {
        byte.is_ascii_whitespace()
            || matches!(byte, b'/' | b'?' | b'#' | b'\\' | b'"' | b'\'' | b'<' | b'>' | b'`')
    };
    let mut colons = 0;
    let stops = |byte: &u8| {
        colons += usize::from(*byte == b':');
        ends(byte) || colons > COLONS_MAX
    };
    let end = match rest.iter().position(stops) {
        Some(_) if colons > COLONS_MAX => return Ok(None),
        Some(end) => end,
        None if view.is_whole => rest.len(),
        None => return Err(Look::Wait),
    };
    let all = rest.get(..end).unwrap_or_default();
    let (user, place) = match all.iter().rposition(|byte| *byte == b'@') {
        Some(at) => (all.get(..at), all.get(at + 1..).unwrap_or_default()),
        None => (None, all),
    };
    Ok(Some(Authority { slashes, user, host: without_port(place), end: from + end }))
}

fn without_port(place: &[u8]) -> &[u8] {
    if place.starts_with(b"[") {
        let end = place.iter().position(|byte| *byte == b']').map_or(place.len(), |at| at + 1);
        return place.get(..end).unwrap_or_default();
    }
    let host = place.split(|byte| *byte == b':').next().unwrap_or_default();
    let trailing = |byte: &u8| !matches!(byte, b')' | b',' | b';' | b'.' | b']' | b'}');
    let end = host.iter().rposition(trailing).map_or(0, |at| at + 1);
    host.get(..end).unwrap_or_default()
}

fn of_host(view: &View<'_>, wanted: Host) -> Look {
    let authority = match authority(view) {
        Ok(Some(authority)) => authority,
        Ok(None) => return Look::Nothing,
        Err(look) => return look,
    };
    // `http:8080` is a name and a port.
    let is_port = authority.host.len() <= 5 && authority.host.iter().all(u8::is_ascii_digit);
    if authority.slashes == 0 && is_port || leads(authority.host) != wanted {
        return Look::Nothing;
    }
    let confidence = if wanted == Host::Rebinding { Confidence::Medium } else { Confidence::High };
    Look::Found { from: view.at, to: view.at + authority.end, confidence }
}

/// `https://known.example@other.example`: a host where people read one and programs do not.
fn userinfo(view: &View<'_>) -> Look {
    let authority = match authority(view) {
        Ok(Some(authority)) => authority,
        Ok(None) => return Look::Nothing,
        Err(look) => return look,
    };
    let looks_like_host = |user: &[u8]| {
        let name = user.split(|byte| *byte == b':').next().unwrap_or_default();
        name.contains(&b'.') && !name.contains(&b'@') && name.iter().any(u8::is_ascii_alphabetic)
    };
    if authority.user.is_some_and(looks_like_host) && !authority.host.is_empty() {
        return Look::Found { from: view.at, to: view.at + authority.end, confidence: Confidence::High };
    }
    Look::Nothing
}

fn scheme(view: &View<'_>) -> Look {
    if view.before().is_some_and(is_word) {
        return Look::Nothing;
    }
    let text = view.ahead();
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`');
    let end = match text.iter().position(ends) {
        Some(end) => end,
        None if view.is_whole => text.len(),
        None => return Look::Wait,
    };
    Look::Found { from: view.at, to: view.at + end, confidence: Confidence::High }
}

fn bare(view: &View<'_>) -> Look {
    let text = view.ahead();
    let joins = |byte: u8| is_word(byte) || matches!(byte, b'.' | b':');
    if view.before().is_some_and(joins) {
        return Look::Nothing;
    }
    let Some(length) = BARE.iter().map(|word| word.len()).find(|length| {
        text.get(..*length)
            .is_some_and(|text| BARE.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes())))
    }) else {
        return Look::Nothing;
    };
    match text.get(length) {
        None if !view.is_whole => Look::Wait,
        Some(next) if is_word(*next) => Look::Nothing,
        _ => Look::Found { from: view.at, to: view.at + length, confidence: Confidence::Medium },
    }
}

fn leads(host: &[u8]) -> Host {
    let Some(host) = percent_decoded(host) else { return Host::Other };
    let mapped = match host.is_ascii() {
        true => Cow::Borrowed(host.as_str()),
        false => idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::EMPTY).unwrap_or_default(),
    };
    let name = mapped.trim_end_matches('.').to_ascii_lowercase();
    if let Some(inner) = name.strip_prefix('[') {
        let text = inner.trim_end_matches(']');
        let text = text.split('%').next().unwrap_or_default();
        return text.parse::<Ipv6Addr>().map_or(Host::Other, leads_v6);
    }
    if let Some((address, plain)) = ipv4(&name) {
        return match leads_v4(address) {
            Host::Other if !plain => Host::Obscured,
            host => host,
        };
    }
    match name.as_str() {
        "localhost" | "localhost.localdomain" | "ip6-localhost" => Host::Loopback,
        "metadata"
        | "metadata.google.internal"
        | "metadata.goog"
        | "instance-data"
        | "instance-data.ec2.internal" => Host::Metadata,
        name if name.ends_with(".localhost") => Host::Loopback,
        name if [".nip.io", ".sslip.io", ".xip.io", ".localtest.me", ".lvh.me"]
            .iter()
            .any(|end| name.ends_with(end)) =>
        {
            Host::Rebinding
        }
        "localtest.me" | "lvh.me" => Host::Rebinding,
        _ => Host::Other,
    }
}

fn leads_v4(address: Ipv4Addr) -> Host {
    let octets = address.octets();
    match octets {
        [169, 254, 169, 254]
        | [169, 254, 170, 2]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16]
        | [192, 0, 0, 192] => Host::Metadata,
        [127 | 0, ..] => Host::Loopback,
        [169, 254, ..] => Host::LinkLocal,
        [100, 64..=127, ..] => Host::Private, // RFC 6598
        _ if address.is_private() => Host::Private,
        _ => Host::Other,
    }
}

fn leads_v6(address: Ipv6Addr) -> Host {
    let segments = address.segments();
    let inner = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Host::Loopback,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Host::Metadata,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            match leads_v4(inner(high, low)) {
                Host::Other => Host::Obscured,
                host => host,
            }
        }
        [0x2002, high, low, ..] => match leads_v4(inner(high, low)) {
            Host::Other => Host::Other,
            host => host,
        },
        [0xfe80..=0xfebf, ..] => Host::LinkLocal,
        [0xfc00..=0xfdff, ..] => Host::Private,
        _ => Host::Other,
    }
}

/// An address as `inet_aton` reads it: one to four numbers, each decimal, octal or hexadecimal; and whether it is in
/// the four decimal numbers that people write.
fn ipv4(name: &str) -> Option<(Ipv4Addr, bool)> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > 4 {
        return None;
    }
    let numbers: Vec<u64> = parts.iter().map(|part| number(part)).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    let room = 4 - first.len();
    if first.iter().any(|number| *number > 255) || *last >= 1 << (8 * room) {
        return None;
    }
    let high = first.iter().enumerate().fold(0_u64, |sum, (at, number)| sum | number << (8 * (3 - at)));
    let address = Ipv4Addr::from(u32::try_from(high | last).ok()?);
    Some((address, name.parse::<Ipv4Addr>().is_ok()))
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn percent_decoded(host: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(host.len());
    let mut rest = host;
    while let Some((byte, after)) = rest.split_first() {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                out.push(u8::try_from(hex(high)? * 16 + hex(low)?).ok()?);
                rest = after;
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_leads_to_the_same_place() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xA9FEA9FE",
            "0xa9.0xfe.0xa9.0xfe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.16689662",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "169.254.169.254.",
            "%31%36%39.254.169.254",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "[fd00:ec2::254]",
            "[2002:a9fe:a9fe::]",
            "\u{2460}\u{2465}\u{2468}.254.169.254",
            "169\u{3002}254\u{3002}169\u{3002}254",
            "1\u{ff16}9.254.169.254",
            "169.254.1\u{ad}69.254",
            "%EF%BC%9169.254.169.254",
            "168.63.129.16",
        ] {
            assert_eq!(leads(host.as_bytes()), Host::Metadata, "{host}");
        }
        for (host, expected) in [
            ("127.0.0.1", Host::Loopback),
            ("127.1", Host::Loopback),
            ("0", Host::Loopback),
            ("2130706433", Host::Loopback),
            ("017700000001", Host::Loopback),
            ("[::1]", Host::Loopback),
            ("a.localhost", Host::Loopback),
            ("10.1.2.3", Host::Private),
            ("192.168.0.1", Host::Private),
            ("172.31.0.1", Host::Private),
            ("172.32.0.1", Host::Other),
            ("169.254.1.1", Host::LinkLocal),
            ("[fe80::1%eth0]", Host::LinkLocal),
            ("[fd12::1]", Host::Private),
            ("134744072", Host::Obscured),
            ("8.8.8.8", Host::Other),
            ("127.0.0.1.nip.io", Host::Rebinding),
            ("example.com", Host::Other),
            ("1.2.3.4.5", Host::Other),
            ("256.1.1.1", Host::Other),
            ("", Host::Other),
            ("\u{24db}ocalhost", Host::Loopback),
            ("b\u{fc}cher.example", Host::Other),
            ("xn--\u{fc}.\u{200d}", Host::Other),
        ] {
            assert_eq!(leads(host.as_bytes()), expected, "{host}");
        }
    }
}
