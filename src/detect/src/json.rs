//! The strings of a JSON text, each with its place, member names included; names that come twice are both there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Most characters of a place.
pub const PLACE_CHARS_MAX: usize = 120;
/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 120;
/// Most bytes of a member name that is shown.
const NAME_BYTES_MAX: usize = 32;

/// One string of a JSON text.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Where it stands, as a JSON Pointer. In the place of names that may be data of themselves it has `*`.
    pub place: &'a str,
    /// What it says, without escapes.
    pub text: &'a str,
    /// It is the name of a member.
    pub is_name: bool,
}

/// Gives every string of `json` to `each`, in order.
///
/// # Errors
/// It is not one JSON text, or nested too deeply; what came before was given.
pub fn walk(json: &[u8], each: &mut dyn FnMut(Text<'_>)) -> Result<(), String> {
    let mut place = String::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let walked = Value { place: &mut place, each, depth: DEPTH_MAX }.deserialize(&mut reader);
    walked.and_then(|()| reader.end()).map_err(|error| error.to_string())
}

/// Whether a string may itself be a JSON text.
pub fn is_json_like(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with(['{', '[']) && text.contains('\\')
}

/// The escapes of JSON strings undone wherever they stand: what a reader of the strings in this piece of JSON sees.
/// `rest` keeps an escape that has not ended for the next piece.
pub fn unescaped(piece: &str, rest: &mut String) -> String {
    let mut text = std::mem::take(rest);
    text.push_str(piece);
    let mut out = String::with_capacity(text.len());
    let mut left = text.as_str();
    while let Some(at) = left.find('\\') {
        let (plain, escape) = left.split_at(at);
        out.push_str(plain);
        match escaped(escape) {
            Some((one, length)) => {
                out.push(one);
                left = escape.get(length..).unwrap_or_default();
            }
            None => {
                rest.push_str(escape);
                return out;
            }
        }
    }
    out.push_str(left);
    out
}

/// The character that an escape at the front stands for, and its bytes; none if it has not ended.
fn escaped(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let kind = text.get(1..)?.chars().next()?;
    let one = match kind {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => {
            let digits = text.get(2..)?;
            if digits.len() < 4 {
                return None;
            }
            let Some(high) = unit(digits) else { return Some(('\\', 1)) };
            if !(0xD800..0xDC00).contains(&high) {
                return Some((char::from_u32(high).unwrap_or('\u{FFFD}'), 6));
            }
            let second = text.get(6..)?;
            let begins_low = second.starts_with("\\u") || second.is_empty() || second == "\\";
            if begins_low && second.len() < 6 {
                return None;
            }
            let low = second.strip_prefix("\\u").and_then(unit).filter(|low| (0xDC00..0xE000).contains(low));
            let Some(low) = low else { return Some(('\u{FFFD}', 6)) };
            let joined = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            return Some((char::from_u32(joined).unwrap_or('\u{FFFD}'), 12));
        }
        other => other,
    };
    Some((one, 1 + kind.len_utf8()))
}

struct Value<'p, 'e> {
    place: &'p mut String,
    each: &'e mut dyn FnMut(Text<'_>),
    depth: usize,
}

impl Value<'_, '_> {
    fn below(&mut self, token: &dyn fmt::Display) -> usize {
        let before = self.place.len();
        let token = token.to_string();
        if before + 1 + token.len() <= PLACE_CHARS_MAX {
            self.place.push('/');
            self.place.push_str(&token);
        }
        before
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.number(&number.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.number(&number.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.each)(Text { place: self.place, text, is_name: false });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        for index in 0_u64.. {
            let before = self.below(&index);
            let next = items.next_element_seed(Value { place: self.place, each: self.each, depth })?;
            self.place.truncate(before);
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        while let Some(name) = members.next_key::<std::borrow::Cow<'_, str>>()? {
            let before = self.below(&Name(&name));
            (self.each)(Text { place: self.place, text: &name, is_name: true });
            members.next_value_seed(Value { place: self.place, each: self.each, depth })?;
            self.place.truncate(before);
        }
        Ok(())
    }
}

impl Value<'_, '_> {
    /// Numbers may be what strings are: a card's.
    fn number(self, text: &str) {
        if text.len() >= 9 {
            (self.each)(Text { place: self.place, text, is_name: false });
        }
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))
    }
}

/// A member name as a token of a place.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-');
        let shown = (1..=NAME_BYTES_MAX).contains(&self.0.len()) && self.0.bytes().all(is_plain);
        f.write_str(if shown { self.0 } else { "*" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(json: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        walk(json.as_bytes(), &mut |one| {
            if !one.is_name {
                out.push((one.place.to_owned(), one.text.to_owned()));
            }
        })
        .unwrap();
        out
    }

    #[test]
    fn every_string_has_its_place_also_the_first_of_two() {
        let found = strings(r#"{"a":["x",{"b":"y"}],"a":"\u007a","9c":"w","n":4111111111111111,"m":1}"#);
        let expected = [("/a/0", "x"), ("/a/1/b", "y"), ("/a", "z"), ("/*", "w"), ("/n", "4111111111111111")];
        assert_eq!(found, expected.map(|(place, text)| (place.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for text in ["", "{", "{\"a\":1} x", &format!("{}1{}", "[".repeat(125), "]".repeat(125))] {
            assert!(walk(text.as_bytes(), &mut |_| ()).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_are_undone_wherever_the_text_is_cut() {
        let text = r#"{"a":"\u0041K\nIA\ud83d\ude00\"\\ \ud800 x"}"#;
        let expected = "{\"a\":\"AK\nIA😀\"\\ \u{FFFD} x\"}";
        for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            let mut rest = String::new();
            let mut out = unescaped(&text[..at], &mut rest);
            out.push_str(&unescaped(&text[at..], &mut rest));
            assert_eq!(out, expected, "{at}");
        }
    }
}
