//! Reading of JSON documents that were admitted: members, items and values by their place in the text.
//!
//! On bytes that were not admitted the answers may be nonsense, but each call ends and none panics.

use std::borrow::Cow;

use crate::json::integer_at;

/// The characters that `raw`, the inside of an admitted string, stands for.
pub(crate) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        let escaped = if char == '\\' { rest.next() } else { None };
        if escaped == Some('u') {
            let digits: String = rest.by_ref().take(4).collect();
            units.push(u16::from_str_radix(&digits, 16).unwrap_or_default());
            continue;
        }
        plain.extend(char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or('\u{fffd}')));
        plain.push(match escaped {
            Some('b') => '\u{8}',
            Some('t') => '\t',
            Some('n') => '\n',
            Some('f') => '\u{c}',
            Some('r') => '\r',
            Some(other) => other,
            None => char,
        });
    }
    plain.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')));
    Cow::Owned(plain)
}

/// One value of a document that was admitted.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    text: &'a [u8],
}

impl<'a> View<'a> {
    pub(crate) fn of(document: &'a [u8]) -> Self {
        View { text: document.trim_ascii() }
    }

    /// The value as it stands in the document.
    pub(crate) fn raw(self) -> &'a [u8] {
        self.text
    }

    /// The members of an object, none if it is not one.
    pub(crate) fn members(self) -> impl Iterator<Item = (Cow<'a, str>, View<'a>)> {
        let mut parts = Parts::of(self, b'{');
        std::iter::from_fn(move || {
            let name = parts.part()?;
            let value = parts.part()?;
            Some((name.text()?, value))
        })
    }

    /// The items of an array, none if it is not one.
    pub(crate) fn items(self) -> impl Iterator<Item = View<'a>> {
        let mut parts = Parts::of(self, b'[');
        std::iter::from_fn(move || parts.part())
    }

    /// The member of that name.
    pub(crate) fn member(self, name: &str) -> Option<View<'a>> {
        self.members().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        match self.text {
            [b'"', raw @ .., b'"'] => Some(unescape(raw)),
            _ => None,
        }
    }

    pub(crate) fn integer(self) -> Option<i64> {
        match integer_at(self.text, 0) {
            Ok((end, value)) if end == self.text.len() => Some(value),
            _ => None,
        }
    }

    pub(crate) fn count(self) -> Option<u64> {
        self.integer().and_then(|value| u64::try_from(value).ok())
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        match self.text {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The text of the member of that name; empty when there is none.
    pub(crate) fn text_of(self, name: &str) -> Cow<'a, str> {
        self.member(name).and_then(View::text).unwrap_or_default()
    }
}

/// The values inside of an object or array, names and values alike, one after the other.
struct Parts<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn of(view: View<'a>, open: u8) -> Self {
        match view.text {
            [first, rest @ .., _] if *first == open => Parts { text: rest, at: 0 },
            _ => Parts { text: &[], at: 0 },
        }
    }

    fn part(&mut self) -> Option<View<'a>> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = self.text.get(self.at) {
            self.at += 1;
        }
        let from = self.at;
        let to = skip(self.text, from);
        self.at = to;
        self.text.get(from..to).filter(|part| !part.is_empty()).map(|text| View { text })
    }
}

/// The end of the value that starts at `at`.
fn skip(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = skip_string(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn skip_string(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

/// Writes `text` as a canonical JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}
