//! What the head of a message says of its body.

use estoppel_wire::contract;

/// Whether a repair would break what the answer's head says of its body.
pub(crate) fn is_signed(headers: &http::HeaderMap) -> bool {
    const NAMES: [&str; 5] = ["content-digest", "repr-digest", "digest", "content-md5", "signature-input"];
    NAMES.iter().any(|name| headers.contains_key(*name))
}

/// How a body says that it is written; none if no contract can be held against that.
pub(crate) fn format(headers: &http::HeaderMap) -> Option<contract::Format> {
    use contract::Format;
    if !is_utf8(headers) {
        return None;
    }
    let value = headers.get(http::header::CONTENT_TYPE)?.as_bytes();
    let essence = value.split(|byte| *byte == b';').next()?.trim_ascii().to_ascii_lowercase();
    Some(match essence.as_slice() {
        b"text/event-stream" => Format::Events,
        b"text/csv" | b"application/csv" => Format::Csv,
        b"application/x-ndjson"
        | b"application/ndjson"
        | b"application/jsonl"
        | b"application/x-jsonlines"
        | b"application/jsonlines" => Format::Lines,
        b"application/json" | b"text/json" => Format::Json,
        other if other.ends_with(b"+json") => Format::Json,
        _ => return None,
    })
}

/// Whether every reader takes a body for UTF-8: at most one content type, whose parameters are plain, and at most one
/// charset among them, which says so (RFC 9110 section 8.3).
pub(crate) fn is_utf8(headers: &http::HeaderMap) -> bool {
    let mut lines = headers.get_all(http::header::CONTENT_TYPE).iter();
    let Some(line) = lines.next() else { return true };
    let text = line.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/*~'%|`".contains(byte);
    let mut charsets = 0;
    let parameters_are_plain = text.split(|byte| *byte == b';').skip(1).all(|parameter| {
        let parameter = parameter.trim_ascii();
        if parameter.is_empty() {
            return true;
        }
        let Some(equals) = parameter.iter().position(|byte| *byte == b'=') else { return false };
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        if name.is_empty() || !name.iter().all(is_plain) || !value.iter().all(is_plain) {
            return false;
        }
        if !name.eq_ignore_ascii_case(b"charset") {
            return !name.to_ascii_lowercase().starts_with(b"charset");
        }
        charsets += 1;
        charsets == 1 && (value.eq_ignore_ascii_case(b"utf-8") || value.eq_ignore_ascii_case(b"us-ascii"))
    });
    lines.next().is_none() && !text.contains(&b',') && parameters_are_plain
}
