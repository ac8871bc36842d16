//! The tokenizer: one state, one byte or one run of bytes at a time.

use super::{Container, DEPTH_MOST, Limits, Literal, Visitor, number::Part, short, string::Text};
use crate::{Defect, as_u64};

/// Push tokenizer for one JSON text after another.
#[derive(Debug)]
pub struct Tokenizer<P> {
    pub(super) limits: Limits,
    pub(super) state: State,
    /// The open containers, innermost last.
    open: Vec<Level<P>>,
    /// The place of the value that comes next or is being read.
    pub(super) at: Option<P>,
    /// Offset of the key, the value or the end of a container that came last or is being read.
    start: u64,
    pub(super) string: Text,
    /// A key or number that cannot be given as a slice of the chunk.
    pub(super) token: Vec<u8>,
    /// Bytes of the key or number so far, as written.
    pub(super) token_len: usize,
    /// Bytes of earlier chunks.
    pub(super) before: u64,
    fault: Option<Fault>,
}

/// Where the text stands between two bytes. A tag of its own is told with one jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// A value must come.
    Value,
    /// After `[`: an element or `]`.
    FirstElement,
    /// After `,` in an array.
    Element,
    /// After `{`: a key or `}`.
    FirstKey,
    /// After `,` in an object.
    Key,
    Colon,
    /// After a value inside a container: `,` or its end.
    Next,
    Done,
    Text,
    Escape,
    /// Inside `\uXXXX`, with so many digits to come.
    Digits(u8),
    /// After the first half of a pair: a backslash must come, and then `u`.
    PairBackslash,
    PairMark,
    Number(Part),
    /// Inside a literal, after so many letters.
    Literal(Literal, u8),
}

/// An open container.
#[derive(Clone, Copy, Debug)]
struct Level<P> {
    container: Container,
    place: Option<P>,
    /// Offset of its bracket.
    start: u64,
}

/// A defect and the absolute offset of the byte that shows it.
#[derive(Clone, Copy, Debug)]
struct Fault {
    defect: Defect,
    offset: u64,
}

/// The fault is noted; small, because every step returns one or a position.
#[derive(Debug)]
pub(super) struct Stop(Defect);

impl<P: Copy> Tokenizer<P> {
    /// A tokenizer for a text whose outermost value has the place `root`.
    pub fn new(limits: Limits, root: Option<P>) -> Self {
        let depth_max = limits.depth_max.min(DEPTH_MOST);
        Self {
            limits: Limits { depth_max, ..limits },
            state: State::Value,
            open: Vec::new(),
            at: root,
            start: 0,
            string: Text::default(),
            token: Vec::new(),
            token_len: 0,
            before: 0,
            fault: None,
        }
    }

    /// Begins a new text and keeps the buffers.
    pub fn reset(&mut self, root: Option<P>) {
        self.state = State::Value;
        self.open.clear();
        self.at = root;
        self.token.clear();
        self.start = 0;
        self.before = 0;
        self.fault = None;
    }

    /// Takes all of `chunk`, or the part before the first defect. A defect stays until [`Self::reset`].
    pub fn feed<V: Visitor<Place = P>>(&mut self, chunk: &[u8], visitor: &mut V) -> Result<(), Defect> {
        if let Some(fault) = self.fault {
            return Err(fault.defect);
        }
        match self.run(chunk, visitor) {
            Ok(()) => {
                self.before += as_u64(chunk.len());
                Ok(())
            }
            Err(Stop(defect)) => Err(defect),
        }
    }

    /// The text is over. A text that is not whole is [`Defect::Truncated`].
    pub fn finish<V: Visitor<Place = P>>(&mut self, visitor: &mut V) -> Result<(), Defect> {
        if let Some(fault) = self.fault {
            return Err(fault.defect);
        }
        match self.state {
            State::Done => Ok(()),
            State::Number(part) if part.may_end() && self.open.is_empty() => {
                self.end_number(b"", 0, visitor);
                Ok(())
            }
            _ => {
                let Stop(defect) = self.stop(Defect::Truncated, self.before);
                Err(defect)
            }
        }
    }

    /// Bytes found good: all that were fed, or those before the defect (before the first byte of a sequence
    /// that is not UTF-8).
    pub fn offset(&self) -> u64 {
        self.fault.map_or(self.before, |fault| fault.offset)
    }

    /// Offset of the first byte of the key, value or end of a container that came last, whole or not. For a
    /// visitor that is done, this is the token at which it was.
    pub fn token_offset(&self) -> u64 {
        self.start
    }

    /// A key, a value or the end of a container begins.
    #[inline]
    pub(super) fn starts(&mut self, pos: usize) {
        self.start = self.before.wrapping_add(as_u64(pos)); // no text is longer than 2^64
    }

    fn run<V: Visitor<Place = P>>(&mut self, chunk: &[u8], visitor: &mut V) -> Result<(), Stop> {
        let mut pos = 0;
        while let Some(&byte) = chunk.get(pos) {
            if visitor.is_done() {
                break;
            }
            let before_value = match self.state {
                State::Next => self.next(chunk, byte, pos, visitor)?,
                State::FirstKey | State::Key if byte == b'"' => self.key(chunk, pos + 1, visitor)?,
                State::FirstElement | State::Element if byte != b']' && !is_space(byte) => {
                    self.element(pos, visitor)
                }
                State::Value => pos,
                _ => {
                    pos = self.seldom(chunk, byte, pos, visitor)?;
                    continue;
                }
            };
            pos = match chunk.get(before_value) {
                Some(&byte) if self.state == State::Value && !visitor.is_done() => {
                    self.value(chunk, byte, before_value, visitor)?
                }
                _ => before_value,
            };
        }
        Ok(())
    }

    /// After a value inside of a container.
    #[inline(always)]
    fn next<V>(&mut self, chunk: &[u8], byte: u8, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        match byte {
            b',' => self.comma(chunk, pos + 1, visitor),
            _ if is_space(byte) => Ok(pos + 1),
            _ => self.close(byte, pos, visitor),
        }
    }

    /// What dense text has none or little of.
    #[inline(never)]
    fn seldom<V>(&mut self, chunk: &[u8], byte: u8, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        match self.state {
            State::Text => self.text(chunk, pos, visitor),
            State::Number(part) => self.number(chunk, pos, pos, part, visitor),
            State::Literal(literal, letters) => self.literal(chunk, pos, literal, letters, visitor),
            State::Escape => self.escape(byte, pos, visitor),
            State::Digits(left) => self.digit(byte, pos, left, visitor),
            State::PairBackslash => self.pair(byte, b'\\', State::PairMark, pos),
            State::PairMark => self.pair(byte, b'u', State::Digits(4), pos),
            _ if is_space(byte) => Ok(pos + 1),
            State::FirstElement if byte == b']' => self.close(byte, pos, visitor),
            State::FirstKey if byte == b'}' => self.close(byte, pos, visitor),
            State::Element => Ok(self.element(pos, visitor)),
            State::Colon if byte == b':' => {
                self.state = State::Value;
                Ok(pos + 1)
            }
            _ => Err(self.malformed(pos)),
        }
    }

    /// After a comma. What mostly follows at once is read at once.
    #[inline(always)]
    fn comma<V>(&mut self, chunk: &[u8], pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let object = self.innermost() == Some(Container::Object);
        match chunk.get(pos) {
            Some(b'"') if object => return self.key(chunk, pos + 1, visitor),
            Some(byte) if !object && !is_space(*byte) => {
                return Ok(self.element(pos, visitor));
            }
            _ => {}
        }
        self.state = if object { State::Key } else { State::Element };
        Ok(pos)
    }

    /// An element begins; its value is read next.
    #[inline(always)]
    fn element<V: Visitor<Place = P>>(&mut self, pos: usize, visitor: &mut V) -> usize {
        self.starts(pos);
        self.at = self.here().and_then(|array| visitor.element(array));
        self.state = State::Value;
        pos
    }

    #[inline(always)]
    fn value<V>(&mut self, chunk: &[u8], byte: u8, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        if is_space(byte) {
            return Ok(pos + 1);
        }
        self.starts(pos);
        match byte {
            b'"' => self.string(chunk, pos + 1, visitor),
            b'{' => self.open(Container::Object, pos, visitor),
            b'[' => self.open(Container::Array, pos, visitor),
            b't' => self.begin_literal(chunk, pos, Literal::True, visitor),
            b'f' => self.begin_literal(chunk, pos, Literal::False, visitor),
            b'n' => self.begin_literal(chunk, pos, Literal::Null, visitor),
            _ => self.number_or_none(chunk, byte, pos, visitor),
        }
    }

    #[inline(always)]
    fn number_or_none<V>(
        &mut self,
        chunk: &[u8],
        byte: u8,
        pos: usize,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        if let Some(rest) = chunk.get(pos..)
            && let Some(found) = short::short(rest)
            && let Some(text) = rest.get(..found.len)
            && found.len <= self.limits.number_bytes_max
        {
            if let Some(at) = self.at {
                visitor.short_number(at, text, found.number);
                self.tell_span(at, pos + found.len, visitor);
            }
            self.end_value();
            return Ok(pos + found.len);
        }
        self.begin_number(chunk, byte, pos, visitor)
    }

    /// A number that is read by its text.
    #[inline(never)]
    fn begin_number<V>(&mut self, chunk: &[u8], byte: u8, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let Some(part) = Part::start(byte) else { return Err(self.malformed(pos)) };
        self.token.clear();
        self.token_len = 0;
        self.number(chunk, pos, pos + 1, part, visitor)
    }

    fn open<V>(&mut self, container: Container, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        if self.open.len() >= self.limits.depth_max as usize {
            return Err(self.stop_at(Defect::DepthMax, pos));
        }
        self.open.push(Level { container, place: self.at, start: self.start });
        if let Some(at) = self.at {
            visitor.begin(at, container);
        }
        self.state = match container {
            Container::Object => State::FirstKey,
            Container::Array => State::FirstElement,
        };
        Ok(pos + 1)
    }

    #[inline]
    fn close<V>(&mut self, byte: u8, pos: usize, visitor: &mut V) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let container = match (byte, self.innermost()) {
            (b'}', Some(Container::Object)) => Container::Object,
            (b']', Some(Container::Array)) => Container::Array,
            _ => return Err(self.malformed(pos)),
        };
        self.starts(pos);
        if let Some(Level { place: Some(at), start, .. }) = self.open.pop() {
            visitor.end(at, container);
            visitor.span(at, start, self.before.wrapping_add(as_u64(pos + 1)));
        }
        self.end_value();
        Ok(pos + 1)
    }

    /// The value at [`Self::at`], which holds no others, ends before `pos`.
    #[inline]
    pub(super) fn tell_span<V: Visitor<Place = P>>(&self, at: P, pos: usize, visitor: &mut V) {
        visitor.span(at, self.start, self.before.wrapping_add(as_u64(pos))); // nothing at all where nobody asks
    }

    pub(super) fn end_value(&mut self) {
        self.state = if self.open.is_empty() { State::Done } else { State::Next };
    }

    /// The place of the innermost open container.
    #[inline]
    pub(super) fn here(&self) -> Option<P> {
        self.open.last().and_then(|level| level.place)
    }

    #[inline]
    fn innermost(&self) -> Option<Container> {
        self.open.last().map(|level| level.container)
    }

    /// A number whose bytes in this chunk start at `start`; those before `pos` are read.
    #[inline]
    fn number<V>(
        &mut self,
        chunk: &[u8],
        start: usize,
        mut pos: usize,
        mut part: Part,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let most = start.saturating_add(self.limits.number_bytes_max - self.token_len); // counted up to the limit
        while let Some(next) = chunk.get(pos).and_then(|&byte| part.next(byte)) {
            part = next;
            pos += 1;
        }
        if pos > most {
            return Err(self.stop_at(Defect::NumberBytesMax, most));
        }
        let piece = chunk.get(start..pos).unwrap_or_default();
        if pos == chunk.len() {
            self.token_len += piece.len();
            if self.at.is_some() {
                self.token.extend_from_slice(piece);
            }
            self.state = State::Number(part);
        } else if part.may_end() {
            self.end_number(piece, pos, visitor);
        } else {
            return Err(self.malformed(pos));
        }
        Ok(pos)
    }

    /// The number is the token kept so far and `last`, which ends before `pos`.
    #[inline]
    fn end_number<V: Visitor<Place = P>>(&mut self, last: &[u8], pos: usize, visitor: &mut V) {
        if let Some(at) = self.at {
            if self.token.is_empty() {
                visitor.number(at, last);
            } else {
                self.token.extend_from_slice(last);
                visitor.number(at, &self.token);
            }
            self.tell_span(at, pos, visitor);
        }
        self.end_value();
    }

    #[inline(always)]
    fn begin_literal<V>(
        &mut self,
        chunk: &[u8],
        pos: usize,
        literal: Literal,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let word = literal.word();
        if !chunk.get(pos..).is_some_and(|rest| rest.starts_with(word)) {
            return self.literal(chunk, pos, literal, 0, visitor);
        }
        let end = pos + word.len();
        if let Some(at) = self.at {
            visitor.literal(at, literal);
            self.tell_span(at, end, visitor);
        }
        self.end_value();
        Ok(end)
    }

    /// A literal of which so many letters have come.
    #[inline(never)]
    fn literal<V>(
        &mut self,
        chunk: &[u8],
        pos: usize,
        literal: Literal,
        letters: u8,
        visitor: &mut V,
    ) -> Result<usize, Stop>
    where
        V: Visitor<Place = P>,
    {
        let rest = chunk.get(pos..).unwrap_or_default();
        let wanted = literal.word().get(usize::from(letters)..).unwrap_or_default();
        let same = wanted.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if same == wanted.len() {
            if let Some(at) = self.at {
                visitor.literal(at, literal);
                self.tell_span(at, pos + same, visitor);
            }
            self.end_value();
        } else if same == rest.len() {
            self.state = State::Literal(literal, letters + same as u8); // at most the 5 letters of `false`
        } else {
            return Err(self.malformed(pos + same));
        }
        Ok(pos + same)
    }

    pub(super) fn malformed(&mut self, pos: usize) -> Stop {
        self.stop_at(Defect::JsonMalformed, pos)
    }

    pub(super) fn stop_at(&mut self, defect: Defect, pos: usize) -> Stop {
        self.stop(defect, self.before + as_u64(pos))
    }

    #[cold]
    pub(super) fn stop(&mut self, defect: Defect, offset: u64) -> Stop {
        self.fault = Some(Fault { defect, offset });
        Stop(defect)
    }
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

impl Literal {
    #[inline(always)]
    const fn word(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}
