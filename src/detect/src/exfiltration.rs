//! Data that leaves in what a client shows or follows: images, links, and long values in them. Heuristic: a link with a
//! long value is often just a link.

use crate::catalogue::{Anchors, Code, Look, View};
use crate::finding::{Class, Confidence, Detector, RuleInfo, Severity};

const fn info(id: &'static str, confidence: Confidence, severity: Severity) -> RuleInfo {
    RuleInfo { id, detector: Detector::Exfiltration, class: Class::Exfiltration, confidence, severity }
}

const fn at(words: &'static [&'static str], look: fn(&View<'_>) -> Look) -> Code {
    Code { anchors: Anchors::Words(words), before: 0, reach: 1024, look }
}

pub(crate) const RULES: &[(RuleInfo, Code)] = &[
    (info("exfiltration.markdown_image", Confidence::Medium, Severity::High), at(&["!["], markdown_image)),
    (info("exfiltration.html_image", Confidence::Medium, Severity::High), at(&["<img"], html_image)),
    (info("exfiltration.markdown_link", Confidence::Low, Severity::Medium), at(&["](http"], markdown_link)),
    (
        info("exfiltration.encoded_url", Confidence::Medium, Severity::High),
        at(&["http://", "https://"], encoded_url),
    ),
    (info("exfiltration.data_uri", Confidence::Low, Severity::Low), at(&["data:"], data_uri)),
];

/// Least bytes of a query that carries something out of an image, and out of a link.
const IMAGE_QUERY_MIN: usize = 16;
const LINK_QUERY_MIN: usize = 64;
/// Least characters of base 64 or hexadecimal in one piece.
const ENCODED_MIN: usize = 64;

/// A URL at the front of `text`, up to what ends it; none if that has not come.
fn url<'a>(view: &View<'_>, text: &'a [u8]) -> Option<&'a [u8]> {
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b')' | b'"' | b'\'' | b'<' | b'>' | b'`');
    match text.iter().position(ends) {
        Some(end) => text.get(..end),
        None => view.is_whole.then_some(text),
    }
}

fn is_remote(url: &[u8]) -> bool {
    let begins = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|text| text.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    begins("http://") || begins("https://") || begins("//")
}

/// Bytes of the query's values.
fn query_bytes(url: &[u8]) -> usize {
    let Some(from) = url.iter().position(|byte| *byte == b'?') else { return 0 };
    let pairs = url.get(from + 1..).unwrap_or_default().split(|byte| *byte == b'&');
    pairs.map(|pair| pair.iter().position(|byte| *byte == b'=').map_or(0, |at| pair.len() - at - 1)).sum()
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A finding that begins at the anchor and ends `length` bytes after it.
fn found(view: &View<'_>, length: usize, confidence: Confidence) -> Look {
    Look::Found { from: view.at, to: view.at + length, confidence }
}

fn markdown_image(view: &View<'_>) -> Look {
    let text = view.ahead();
    let label = text.get(..text.len().min(260)).unwrap_or_default();
    let Some(open) = position(label, b"](") else {
        let over = view.is_whole || label.len() >= 260 || label.contains(&b'\n');
        return if over { Look::Nothing } else { Look::Wait };
    };
    let Some(url) = url(view, text.get(open + 2..).unwrap_or_default()) else { return Look::Wait };
    if is_remote(url) && (query_bytes(url) >= IMAGE_QUERY_MIN || has_encoded(url)) {
        return found(view, open + 2 + url.len(), Confidence::Medium);
    }
    Look::Nothing
}

fn html_image(view: &View<'_>) -> Look {
    let text = view.ahead();
    let Some(end) = text.iter().position(|byte| *byte == b'>').or(view.is_whole.then_some(text.len())) else {
        return Look::Wait;
    };
    let tag = text.get(..end).unwrap_or_default();
    let small = tag.to_ascii_lowercase();
    let Some(source) = position(&small, b"src=") else { return Look::Nothing };
    let value = tag.get(source + 4..).unwrap_or_default();
    let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
    let stops = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
    let url = value.split(stops).next().unwrap_or_default();
    if is_remote(url) && (query_bytes(url) >= IMAGE_QUERY_MIN || has_encoded(url)) {
        return found(view, end, Confidence::Medium);
    }
    Look::Nothing
}

fn markdown_link(view: &View<'_>) -> Look {
    let Some(url) = url(view, view.ahead().get(2..).unwrap_or_default()) else { return Look::Wait };
    if query_bytes(url) >= LINK_QUERY_MIN {
        return found(view, 2 + url.len(), Confidence::Low);
    }
    Look::Nothing
}

fn encoded_url(view: &View<'_>) -> Look {
    let Some(url) = url(view, view.ahead()) else { return Look::Wait };
    if has_encoded(url) {
        return found(view, url.len(), Confidence::Medium);
    }
    Look::Nothing
}

/// Whether a piece of its path or query is long and in base 64 or hexadecimal: what has both cases and digits, or only
/// digits and a to f.
fn has_encoded(url: &[u8]) -> bool {
    let path = url
        .iter()
        .skip(8)
        .position(|byte| *byte == b'/')
        .and_then(|at| url.get(at + 9..))
        .unwrap_or_default();
    let joins = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_' | b'-');
    path.split(|byte| !joins(*byte)).any(|piece| {
        let has = |kind: fn(&u8) -> bool| piece.iter().any(kind);
        let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
        let dashes = piece.iter().filter(|byte| matches!(byte, b'-' | b'_')).count();
        piece.len() >= ENCODED_MIN
            && dashes * 16 < piece.len()
            && (mixed || piece.iter().all(u8::is_ascii_hexdigit))
    })
}

/// RFC 2397 with more than a picture's worth of text in base 64.
fn data_uri(view: &View<'_>) -> Look {
    let text = view.ahead();
    let head = text.get(..text.len().min(128)).unwrap_or_default();
    let Some(comma) = head.iter().position(|byte| *byte == b',') else {
        let over = view.is_whole || head.len() >= 128 || head.iter().any(u8::is_ascii_whitespace);
        return if over { Look::Nothing } else { Look::Wait };
    };
    let kind = head.get(..comma).unwrap_or_default().to_ascii_lowercase();
    if !kind.ends_with(b";base64") || kind.starts_with(b"data:image/") {
        return Look::Nothing;
    }
    let Some(all) = url(view, text) else { return Look::Wait };
    if all.len() - comma > 256 { found(view, all.len(), Confidence::Low) } else { Look::Nothing }
}
