//! URIs by RFC 3986.

use super::super::uri::{Parts, split};
use super::host;

pub(super) fn uri(text: &str) -> bool {
    let parts = split(text);
    parts.scheme.is_some() && are_well_formed(&parts)
}

pub(super) fn reference(text: &str) -> bool {
    are_well_formed(&split(text))
}

fn are_well_formed(parts: &Parts<'_>) -> bool {
    let Parts { scheme, authority, path, query, fragment } = *parts;
    // Section 4.2: a colon in the first segment of a relative path would make it a scheme.
    let first = path.split('/').next().unwrap_or_default();
    let path_is = (scheme.is_some() || authority.is_some() || !first.contains(':')) && made_of(path, "/:@");
    let extra = "/:@?";
    path_is
        && authority.is_none_or(authority_is)
        && query.is_none_or(|query| made_of(query, extra))
        && fragment.is_none_or(|fragment| made_of(fragment, extra))
}

fn authority_is(text: &str) -> bool {
    let (user, rest) = text.rsplit_once('@').map_or(("", text), |(user, rest)| (user, rest));
    let (host, port) = match rest.strip_prefix('[') {
        Some(literal) => {
            let Some((address, port)) = literal.split_once(']') else { return false };
            if !host::ipv6(address) && !is_future(address) {
                return false;
            }
            ("", port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => rest.split_once(':').map_or((rest, Some("")), |(host, port)| (host, Some(port))),
    };
    let digits = port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    made_of(user, ":") && made_of(host, "") && digits
}

/// An address of a version after 6.
fn is_future(text: &str) -> bool {
    let Some((version, rest)) = text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let hex = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex && !rest.is_empty() && !rest.contains('%') && made_of(rest, ":")
}

/// Unreserved characters, sub-delimiters, percent escapes, and `extra`.
fn made_of(text: &str, extra: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                hex() && hex()
            }
            _ => {
                byte.is_ascii_alphanumeric()
                    || b"-._~!$&'()*+,;=".contains(&byte)
                    || extra.as_bytes().contains(&byte)
            }
        };
        if !fits {
            return false;
        }
    }
    true
}
