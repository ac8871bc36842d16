//! Strict JSON: admission and canonical form (SPEC section 1).
//!
//! Two readers, neither of which builds a tree:
//! - [`admit`] takes any admitted document, canonical or not. It is slow and only decides *why* a document was
//!   refused: malformed, or merely not canonical.
//! - [`Strict`] takes only documents that are admitted *and* canonical, in one pass. `schema.rs` drives it along a
//!   schema; [`is_strict`] drives it along nothing.
//!
//! A document that one of them has accepted is read with a `View`.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::view::unescape;

/// Nesting of evidence documents; the outermost object has depth 1. SPEC section 15.
pub(crate) const DEPTH_MAX: usize = 32;

/// The largest integer, and with a minus the smallest: 2^53 - 1.
pub(crate) const INTEGER_MAX: i64 = (1 << 53) - 1;

/// What is wrong with a document, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Byte offset in the document.
    pub at: usize,
    pub what: Cow<'static, str>,
    /// Names of the members that lead to the place, innermost first.
    pub path: Vec<String>,
}

impl Fault {
    pub(crate) fn new(at: usize, what: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Fault { at, what: what.into(), path: Vec::new() })
    }
}

impl Fault {
    /// The fault in words, with what stands at its place in `document`.
    pub(crate) fn describe(&self, document: &[u8]) -> String {
        let place = match self.path.as_slice() {
            [] => String::new(),
            names => {
                let names: Vec<&str> = names.iter().rev().map(String::as_str).collect();
                format!(" in `{}`", names.join("."))
            }
        };
        let found = document.get(self.at..).unwrap_or_default();
        let found = match found.get(..FOUND_BYTES_MAX) {
            _ if found.is_empty() => "the end".to_owned(),
            Some(start) => format!("`{}…`", printable(start)),
            None => format!("`{}`", printable(found)),
        };
        format!("{}{place}, at byte {} stands {found}", self.what, self.at)
    }
}

/// What a message may repeat of a document: no control characters.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(bytes).chars() {
        if char.is_control() { text.extend(char.escape_default()) } else { text.push(char) }
    }
    text
}

/// How much of a refused document a message repeats.
const FOUND_BYTES_MAX: usize = 48;

/// Boxed, because the good answer is given millions of times and should be one word.
pub(crate) type Checked<T = ()> = Result<T, Box<Fault>>;

/// Admission: the seven rules of SPEC section 1.
pub(crate) fn admit(document: &[u8]) -> Checked {
    if let Err(error) = std::str::from_utf8(document) {
        return Err(Fault::new(error.valid_up_to(), "expected UTF-8, found other bytes"));
    }
    let mut admission = Admission { text: document, at: 0 };
    admission.space();
    if admission.peek() != Some(b'{') {
        return Err(admission.fault("expected an object"));
    }
    admission.value(1)?;
    admission.space();
    if admission.at != document.len() {
        return Err(admission.fault("expected nothing after the object"));
    }
    Ok(())
}

/// Whether `document` is admitted and canonical.
pub(crate) fn is_strict(document: &[u8]) -> Checked {
    let mut strict = Strict::new(document)?;
    strict.expect(b'{', "expected an object")?;
    strict.object_rest(1)?;
    strict.end()
}

/// The lenient reader behind [`admit`].
struct Admission<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Admission<'a> {
    fn fault(&self, what: &'static str) -> Box<Fault> {
        Fault::new(self.at, what)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// `depth` is the depth that an object or array here would have.
    fn value(&mut self, depth: usize) -> Checked {
        match self.peek() {
            Some(b'{' | b'[') if depth > DEPTH_MAX => {
                Err(self.fault("expected at most 32 levels of nesting"))
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => Err(self.fault("`null` is not admitted")),
            _ => Err(self.fault("expected a JSON value")),
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        let start = self.at;
        self.at += 1;
        let mut names: Vec<Cow<'a, str>> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            let from = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fault("expected a member name"));
            }
            self.string()?;
            names.push(unescape(inside(self.text, from, self.at)));
            self.space();
            if self.take() != Some(b':') {
                return Err(Fault::new(self.at, "expected `:`"));
            }
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.take() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return Err(Fault::new(self.at, "expected `,` or `}`")),
            }
        }
        names.sort_unstable();
        match names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next) {
            Some((name, _)) => Err(Fault::new(start, format!("member `{name}` occurs twice in the object"))),
            None => Ok(()),
        }
    }

    fn array(&mut self, depth: usize) -> Checked {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.take() {
                Some(b',') => {}
                Some(b']') => return Ok(()),
                _ => return Err(Fault::new(self.at, "expected `,` or `]`")),
            }
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Checked {
        let here = self.text.get(self.at..).unwrap_or_default();
        if !here.starts_with(word) {
            return Err(self.fault("expected a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn integer(&mut self) -> Checked {
        let (end, _) = integer_at(self.text, self.at)?;
        if matches!(self.text.get(end), Some(b'.' | b'e' | b'E')) {
            return Err(self.fault("expected an integer without fraction or exponent"));
        }
        self.at = end;
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            let at = self.at;
            match self.take() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape(at)?,
                Some(0x00..=0x1f) => {
                    return Err(Fault::new(at, "a control character stands unescaped in a string"));
                }
                Some(byte) if byte >= 0xef => noncharacter_at(self.text, at)?,
                Some(_) => {}
                None => return Err(Fault::new(at, "the string does not end")),
            }
        }
    }

    /// Reads what follows the backslash at `start`.
    fn escape(&mut self, start: usize) -> Checked {
        match self.take() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => return Ok(()),
            Some(b'u') => {}
            _ => return Err(Fault::new(start, "unknown escape")),
        }
        let unit = self.hex4(start)?;
        let scalar = match unit {
            0xdc00..=0xdfff => return Err(Fault::new(start, "a low surrogate stands alone")),
            0xd800..=0xdbff => {
                if self.take() != Some(b'\\') || self.take() != Some(b'u') {
                    return Err(Fault::new(start, "a high surrogate stands alone"));
                }
                let low = self.hex4(start)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(Fault::new(start, "a high surrogate stands alone"));
                }
                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            other => other,
        };
        if is_noncharacter(scalar) {
            return Err(Fault::new(start, "a noncharacter is not admitted"));
        }
        Ok(())
    }

    fn hex4(&mut self, start: usize) -> Checked<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            match self.take().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => unit = unit * 16 + digit,
                None => return Err(Fault::new(start, "expected four hex digits after `\\u`")),
            }
        }
        Ok(unit)
    }
}

/// U+FDD0..U+FDEF, U+xxFFFE and U+xxFFFF.
fn is_noncharacter(scalar: u32) -> bool {
    (0xfdd0..=0xfdef).contains(&scalar) || scalar & 0xfffe == 0xfffe
}

/// Refuses a noncharacter whose UTF-8 form starts at `at`. The text around it is known to be UTF-8.
///
/// Only lead bytes from 0xEF on can start one, which keeps this off the common path.
#[cold]
fn noncharacter_at(text: &[u8], at: usize) -> Checked {
    let lead = text.get(at).copied().unwrap_or_default();
    let length = if lead >= 0xf0 { 4 } else { 3 };
    let scalar = text.get(at..at + length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match scalar.and_then(|text| text.chars().next()) {
        Some(scalar) if is_noncharacter(u32::from(scalar)) => {
            Err(Fault::new(at, "a noncharacter is not admitted"))
        }
        _ => Ok(()),
    }
}

/// Reads `-?(0|[1-9][0-9]*)` in range at `at`; gives the end and the value.
pub(crate) fn integer_at(text: &[u8], at: usize) -> Checked<(usize, i64)> {
    let negative = text.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let mut end = first;
    let mut value: i64 = 0;
    while let Some(digit @ b'0'..=b'9') = text.get(end) {
        value = value * 10 + i64::from(digit - b'0');
        if value > INTEGER_MAX {
            return Err(Fault::new(at, "expected an integer within 2^53 - 1"));
        }
        end += 1;
    }
    if end == first {
        return Err(Fault::new(at, "expected an integer"));
    }
    if text.get(first) == Some(&b'0') && (end > first + 1 || negative) {
        return Err(Fault::new(at, "expected an integer without leading zero and not `-0`"));
    }
    Ok((end, if negative { -value } else { value }))
}

/// A string as it stands in the document, between its quotes.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    /// Code points after unescaping.
    pub length: usize,
    pub from: usize,
    pub to: usize,
}

/// The one-pass reader of admitted and canonical documents.
pub(crate) struct Strict<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

impl<'a> Strict<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Checked<Self> {
        match std::str::from_utf8(text) {
            Ok(_) => Ok(Strict { text, at: 0 }),
            Err(error) => Err(Fault::new(error.valid_up_to(), "expected UTF-8, found other bytes")),
        }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// What is left of the text.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Checked {
        if self.eat(byte) { Ok(()) } else { Err(Fault::new(self.at, what)) }
    }

    pub(crate) fn end(&self) -> Checked {
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(Fault::new(self.at, "expected nothing after the object"))
        }
    }

    /// Reads any value. `depth` is the depth that an object or array here would have.
    pub(crate) fn value(&mut self, depth: usize) -> Checked {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.integer().map(drop),
            Some(b'{' | b'[') if depth > DEPTH_MAX => {
                Err(Fault::new(self.at, "expected at most 32 levels of nesting"))
            }
            Some(b'{') => {
                self.at += 1;
                self.object_rest(depth)
            }
            Some(b'[') => {
                self.at += 1;
                self.array_rest(depth)
            }
            _ => self.boolean(),
        }
    }

    pub(crate) fn boolean(&mut self) -> Checked {
        let rest = self.rest();
        self.at += match rest {
            [b't', b'r', b'u', b'e', ..] => 4,
            [b'f', b'a', b'l', b's', b'e', ..] => 5,
            _ => return Err(Fault::new(self.at, "expected `true` or `false`")),
        };
        Ok(())
    }

    pub(crate) fn integer(&mut self) -> Checked<i64> {
        let (end, value) = integer_at(self.text, self.at)?;
        self.at = end;
        Ok(value)
    }

    /// The rest of an object after its `{`, members in order of their UTF-16 code units.
    pub(crate) fn object_rest(&mut self, depth: usize) -> Checked {
        if self.eat(b'}') {
            return Ok(());
        }
        let mut before: Option<&'a [u8]> = None;
        loop {
            let name = self.string()?;
            let name = self.text.get(name.from..name.to).unwrap_or_default();
            if before.is_some_and(|before| utf16_order(before, name) != Ordering::Less) {
                return Err(Fault::new(self.at, "expected member names in ascending order"));
            }
            before = Some(name);
            self.expect(b':', "expected `:`")?;
            self.value(depth + 1)?;
            if self.eat(b',') {
                continue;
            }
            return self.expect(b'}', "expected `,` or `}`");
        }
    }

    fn array_rest(&mut self, depth: usize) -> Checked {
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.eat(b',') {
                continue;
            }
            return self.expect(b']', "expected `,` or `]`");
        }
    }

    pub(crate) fn string(&mut self) -> Checked<Text> {
        self.expect(b'"', "expected a string")?;
        let from = self.at;
        // Bytes that are not the first of their character.
        let mut further = 0;
        loop {
            let at = self.at;
            let Some(byte) = self.peek() else {
                return Err(Fault::new(at, "the string does not end"));
            };
            self.at += 1;
            match byte {
                b'"' => return Ok(Text { length: at - from - further, from, to: at }),
                b'\\' => further += self.escape(at)?,
                0x00..=0x1f => {
                    return Err(Fault::new(at, "a control character stands unescaped in a string"));
                }
                0x20..=0x7f => {}
                0x80..=0xbf => further += 1,
                0xc0..=0xee => {}
                0xef..=0xff => noncharacter_at(self.text, at)?,
            }
        }
    }

    /// Reads what follows the backslash at `start`: only the escapes that RFC 8785 writes. Gives the bytes that
    /// this escape has beyond one.
    #[cold]
    fn escape(&mut self, start: usize) -> Checked<usize> {
        let length = match self.rest() {
            [b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => 1,
            [b'u', b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f', ..]
            | [b'u', b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => 5,
            _ => return Err(Fault::new(start, "an escape that the canonical form does not use")),
        };
        self.at += length;
        Ok(length)
    }
}

/// Order of two member names, given as they stand between their quotes.
fn utf16_order(one: &[u8], other: &[u8]) -> Ordering {
    let plain = |name: &[u8]| name.iter().all(|b| b.is_ascii() && *b != b'\\');
    if plain(one) && plain(other) {
        return one.cmp(other);
    }
    unescape(one).encode_utf16().cmp(unescape(other).encode_utf16())
}

/// The bytes between the quotes of the string that stands at `from..to`.
fn inside(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from + 1..to.saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
