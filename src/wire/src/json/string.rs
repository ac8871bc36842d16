//! The part of the tokenizer that reads strings and keys.

use super::{
    Capture, Visitor,
    text::{NotUtf8, Plain, Utf8, plain},
    tokenizer::{State, Stop, Tokenizer},
};
use crate::{Defect, as_u64};

/// The string being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text {
    is_key: bool,
    /// Somebody wants the content.
    taken: bool,
    utf8: Utf8,
    /// The digits of a `\u` escape so far.
    unit: u16,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl<P: Copy> Tokenizer<P> {
    /// After the opening quote of a key.
    #[inline(always)]
    pub(super) fn key<V>(&mut self, chunk: &[u8], pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        self.starts(pos.saturating_sub(1)); // its quote
        if let Some(object) = self.here()
            && let Some(expected) = visitor.expected(object)
            && let Some(rest) = chunk.get(pos..)
            && expected.begins(rest)
            && expected.written() <= self.limits.key_bytes_max
        // one byte early, which is for the long way
        {
            let end = pos + expected.written();
            self.at = visitor.expected_member(object);
            return Ok(self.after_key(chunk, end));
        }
        self.any_key(chunk, pos, visitor)
    }

    /// A key that was not expected.
    #[inline(never)]
    fn any_key<V>(&mut self, chunk: &[u8], pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let rest = chunk.get(pos..).unwrap_or_default();
        let found = plain(rest);
        if let Some((key, [b'"', ..])) = rest.split_at_checked(found.len)
            && !found.wide
            && found.len <= self.limits.key_bytes_max
        {
            self.at = self.here().and_then(|object| visitor.member(object, key));
            return Ok(self.after_key(chunk, pos + found.len + 1));
        }
        self.token.clear();
        self.token_len = 0;
        self.string = Text { is_key: true, taken: self.here().is_some(), ..Text::default() };
        self.text_from(chunk, pos, found, visitor)
    }

    /// After the closing quote of a key. What mostly follows at once is read at once.
    #[inline(always)]
    fn after_key(&mut self, chunk: &[u8], pos: usize) -> usize {
        let colon = chunk.get(pos) == Some(&b':');
        self.state = if colon { State::Value } else { State::Colon };
        pos + usize::from(colon)
    }

    /// After the opening quote of a string that is a value.
    #[inline(always)]
    pub(super) fn string<V>(&mut self, chunk: &[u8], pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let rest = chunk.get(pos..).unwrap_or_default();
        let found = plain(rest);
        if let Some((text, [b'"', ..])) = rest.split_at_checked(found.len)
            && !found.wide
        {
            let end = pos + found.len + 1;
            if let Some(at) = self.at {
                visitor.whole_string(at, text);
                self.tell_span(at, end, visitor);
            }
            self.end_value();
            return Ok(end);
        }
        self.any_string(chunk, pos, found, visitor)
    }

    /// A string that is not whole in this chunk, not ASCII, or has escapes.
    #[inline(never)]
    fn any_string<V>(
        &mut self,
        chunk: &[u8],
        pos: usize,
        found: Plain,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let taken = self.at.is_some_and(|at| visitor.string(at) == Capture::Take);
        self.string = Text { taken, ..Text::default() };
        self.text_from(chunk, pos, found, visitor)
    }

    /// Inside a string, not inside an escape.
    pub(super) fn text<V>(&mut self, chunk: &[u8], pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let found = plain(chunk.get(pos..).unwrap_or_default());
        self.text_from(chunk, pos, found, visitor)
    }

    fn text_from<V>(
        &mut self,
        chunk: &[u8],
        mut pos: usize,
        mut found: Plain,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        loop {
            let rest = chunk.get(pos..).unwrap_or_default();
            let (piece, after) = rest.split_at_checked(found.len).unwrap_or((rest, b""));
            if found.wide || self.string.utf8.is_open() || self.string.is_key {
                self.check(piece, pos)?;
            }
            self.give(piece, visitor);
            let end = pos + found.len;
            match after {
                [] => {
                    self.state = State::Text;
                    return Ok(end);
                }
                [b'"', ..] => {
                    self.end_text(end, visitor)?;
                    return Ok(end + 1);
                }
                [b'\\', mark, ..]
                    if !self.string.is_key
                        && let Some(character) = escaped(*mark) =>
                {
                    self.close_utf8(end)?;
                    self.give(&[character], visitor);
                    pos = end + 2;
                    found = plain(chunk.get(pos..).unwrap_or_default());
                }
                [b'\\', ..] => {
                    self.close_utf8(end)?;
                    self.count_key(1, end)?;
                    self.state = State::Escape;
                    return Ok(end + 1);
                }
                _ => {
                    self.close_utf8(end)?;
                    return Err(self.malformed(end));
                }
            }
        }
    }

    /// Checks a piece of plain text, of a key as far as it may go.
    fn check(&mut self, piece: &[u8], pos: usize) -> Result<(), Stop> {
        let room = if self.string.is_key { self.limits.key_bytes_max - self.token_len } else { piece.len() };
        let allowed = piece.get(..room).unwrap_or(piece); // what is past the limit must not decide the defect
        self.string.utf8.check(allowed).map_err(|bad| self.not_utf8(bad, pos))?;
        self.count_key(piece.len(), pos)
    }

    /// Counts bytes of a key as written; `pos` is where they start.
    fn count_key(&mut self, bytes: usize, pos: usize) -> Result<(), Stop> {
        if !self.string.is_key {
            return Ok(());
        }
        let room = self.limits.key_bytes_max - self.token_len; // counted up to the limit
        if bytes > room {
            return Err(self.stop_at(Defect::KeyBytesMax, pos + room));
        }
        self.token_len += bytes;
        Ok(())
    }

    #[inline]
    fn give<V: Visitor<Place = P>>(&mut self, piece: &[u8], visitor: &mut V) {
        if !self.string.taken || piece.is_empty() {
            return;
        }
        if self.string.is_key {
            self.token.extend_from_slice(piece);
        } else if let Some(at) = self.at {
            visitor.text(at, piece);
        }
    }

    #[inline]
    fn end_text<V: Visitor<Place = P>>(&mut self, pos: usize, visitor: &mut V) -> Result<(), Stop> {
        self.close_utf8(pos)?;
        if self.string.is_key {
            self.at = self.here().and_then(|object| visitor.member(object, &self.token));
            self.state = State::Colon;
        } else {
            if let Some(at) = self.at {
                visitor.string_end(at);
                self.tell_span(at, pos + 1, visitor);
            }
            self.end_value();
        }
        Ok(())
    }

    #[inline]
    fn close_utf8(&mut self, pos: usize) -> Result<(), Stop> {
        self.string.utf8.close().map_err(|bad| self.not_utf8(bad, pos))
    }

    /// The byte after a backslash.
    pub(super) fn escape<V: Visitor<Place = P>>(
        &mut self,
        byte: u8,
        pos: usize,
        visitor: &mut V,
    ) -> Result<usize, Stop> {
        self.count_key(1, pos)?;
        if byte == b'u' {
            self.string.unit = 0;
            self.state = State::Digits(4);
            return Ok(pos + 1);
        }
        let Some(character) = escaped(byte) else { return Err(self.malformed(pos)) };
        self.give(&[character], visitor);
        self.state = State::Text;
        Ok(pos + 1)
    }

    /// One hex digit of `\uXXXX`.
    pub(super) fn digit<V>(&mut self, byte: u8, pos: usize, left: u8, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        self.count_key(1, pos)?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(self.malformed(pos)),
        };
        self.string.unit = self.string.unit << 4 | u16::from(digit);
        match left {
            2.. => self.state = State::Digits(left - 1),
            _ => self.unit(self.string.unit, pos, visitor)?,
        }
        Ok(pos + 1)
    }

    /// One UTF-16 code unit, whose last digit is at `pos`.
    fn unit<V: Visitor<Place = P>>(&mut self, unit: u16, pos: usize, visitor: &mut V) -> Result<(), Stop> {
        if self.string.high.is_none() && (0xD800..0xDC00).contains(&unit) {
            self.string.high = Some(unit);
            self.state = State::PairBackslash;
            return Ok(());
        }
        let units = self.string.high.take().into_iter().chain([unit]);
        let mut characters = char::decode_utf16(units);
        let (Some(Ok(character)), None) = (characters.next(), characters.next()) else {
            return Err(self.stop_at(Defect::LoneSurrogate, pos));
        };
        self.give(character.encode_utf8(&mut [0; 4]).as_bytes(), visitor);
        self.state = State::Text;
        Ok(())
    }

    /// What must stand between the halves of a pair.
    pub(super) fn pair(&mut self, byte: u8, expected: u8, then: State, pos: usize) -> Result<usize, Stop> {
        if byte != expected {
            return Err(self.stop_at(Defect::LoneSurrogate, pos));
        }
        self.count_key(1, pos)?;
        self.string.unit = 0;
        self.state = then;
        Ok(pos + 1)
    }

    fn not_utf8(&mut self, bad: NotUtf8, pos: usize) -> Stop {
        let offset = (self.before + as_u64(pos + bad.before)).saturating_sub(as_u64(bad.earlier));
        self.stop(Defect::InvalidUtf8, offset)
    }
}

/// What a backslash and this byte stand for, if that is one character at once (RFC 8259 section 7).
#[inline]
fn escaped(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' | b'/' => Some(byte),
        b'b' => Some(0x08),
        b'f' => Some(0x0C),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}
