//! Short notations: UUIDs and JSON pointers.

/// RFC 9562 section 4.
pub(super) fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// RFC 6901 section 3.
pub(super) fn pointer(text: &str) -> bool {
    let escapes = || text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    text.is_empty() || (text.starts_with('/') && escapes())
}

/// draft-bhutton-relative-json-pointer section 3.
pub(super) fn relative_pointer(text: &str) -> bool {
    let Some((_, rest)) = steps(text) else { return false };
    let rest = match rest.strip_prefix(['+', '-']) {
        None => rest,
        Some(shifted) => match steps(shifted) {
            Some((by, after)) if by != "0" => after,
            _ => return false,
        },
    };
    rest == "#" || pointer(rest)
}

/// A number without leading zeros, and what follows it.
fn steps(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    (digits > 0 && (digits == 1 || !number.starts_with('0'))).then_some((number, rest))
}
