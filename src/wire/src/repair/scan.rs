//! The value itself: tokens, and what may be wrong between them (spec/repair.md section 5).

use super::{
    Class, Edit, Profile, Unrepairable,
    edit::{Edits, Mark},
    envelope::Fence,
};
use crate::json::Limits;

/// The text, how far it is read, and the edits so far.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) pos: usize,
    pub(super) edits: Edits,
    /// The closers that are due, innermost last.
    open: Vec<u8>,
    depth_max: usize,
    /// The delimiter of all strings so far.
    pub(super) quote: Option<u8>,
    pub(super) fence: Option<Fence>,
    /// The last complete value.
    pub(super) last: Kind,
    /// Its end.
    end: Mark,
    /// The last comma.
    comma: Mark,
    comma_inserted: bool,
}

/// What kind a complete value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    /// A number or a literal.
    Word,
    /// With its closer; `None` if that was not there.
    Container(Option<u8>),
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    /// After `[`.
    FirstElement,
    /// After `,` in an array.
    Element,
    /// After `{`.
    FirstKey,
    /// After `,` in an object.
    Key,
    /// After a name, quoted or not.
    Colon {
        quoted: bool,
    },
    /// After a complete value.
    Next,
}

impl<'a> Scan<'a> {
    pub(super) fn new(profile: &Profile, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            pos: 0,
            edits: Edits::new(profile),
            open: Vec::new(),
            depth_max: usize::try_from(Limits::default().depth_max).unwrap_or(usize::MAX),
            quote: None,
            fence: None,
            last: Kind::Word,
            end: Mark::default(),
            comma: Mark::default(),
            comma_inserted: false,
        }
    }

    /// The edits that make the text a JSON text.
    pub(super) fn run(mut self) -> Result<Vec<Edit>, Unrepairable> {
        self.text()?;
        Ok(self.edits.into_list())
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }

    /// No container is open: the value that comes is the outermost one.
    pub(super) fn is_outermost(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// One value, from its first byte to its last.
    pub(super) fn value(&mut self) -> Result<(), Unrepairable> {
        let mut expect = Expect::Value;
        loop {
            self.trivia()?;
            let Some(byte) = self.peek().filter(|_| !self.at_fence_end()) else { return self.early(expect) };
            expect = match expect {
                Expect::Value | Expect::FirstElement | Expect::Element => self.element(expect, byte)?,
                Expect::FirstKey | Expect::Key => self.key(expect, byte)?,
                Expect::Colon { quoted } => self.colon(quoted, byte)?,
                Expect::Next => self.next(byte)?,
            };
            if expect == Expect::Next && self.open.is_empty() {
                return Ok(());
            }
        }
    }

    /// The text or its fence is over before the value is.
    fn early(&mut self, expect: Expect) -> Result<(), Unrepairable> {
        if self.open.is_empty() {
            return Err(self.nothing());
        }
        let whole = expect == Expect::Next && self.last != Kind::Word;
        if !whole || !self.edits.grants(Class::MissingCloser) {
            return Err(Unrepairable::Truncated);
        }
        let closers: String = self.open.drain(..).rev().map(char::from).collect();
        self.last = Kind::Container(None);
        self.edits.insert(self.end, Class::MissingCloser, 0, closers)
    }

    fn element(&mut self, expect: Expect, byte: u8) -> Result<Expect, Unrepairable> {
        match byte {
            b'"' | b'\'' => {
                self.string(byte)?;
                Ok(self.complete(Kind::String))
            }
            b'{' => self.open(b'}', Expect::FirstKey),
            b'[' => self.open(b']', Expect::FirstElement),
            b']' if expect == Expect::FirstElement => Ok(self.close(byte)),
            b']' if expect == Expect::Element => self.trailing_comma(byte),
            b'}' | b']' if expect == Expect::Value => Err(self.broken(Unrepairable::ValueMissing)),
            b'}' | b']' => Err(self.broken(Unrepairable::CloserUnmatched)),
            b',' => Err(self.broken(Unrepairable::ValueMissing)),
            b'-' | b'+' | b'.' | b'0'..=b'9' => {
                self.number()?;
                Ok(self.complete(Kind::Word))
            }
            b'`' | b'~' => Err(Unrepairable::FenceAmbiguous),
            _ if self.at_smart_quote() => Err(Unrepairable::SmartQuote),
            _ if is_word(byte) => {
                self.literal()?;
                Ok(self.complete(Kind::Word))
            }
            _ => Err(self.broken(Unrepairable::UnexpectedByte)),
        }
    }

    fn key(&mut self, expect: Expect, byte: u8) -> Result<Expect, Unrepairable> {
        match byte {
            b'"' | b'\'' => {
                self.string(byte)?;
                Ok(Expect::Colon { quoted: true })
            }
            b'}' if expect == Expect::FirstKey => Ok(self.close(byte)),
            b'}' => self.trailing_comma(byte),
            b']' => Err(self.broken(Unrepairable::CloserUnmatched)),
            b',' => Err(self.broken(Unrepairable::ValueMissing)),
            b':' => Err(self.broken(Unrepairable::MemberIncomplete)),
            b'{' | b'[' => Err(self.broken(Unrepairable::KeyNotString)),
            _ if self.at_smart_quote() => Err(Unrepairable::SmartQuote),
            _ if is_word(byte) => {
                self.bare_key()?;
                Ok(Expect::Colon { quoted: false })
            }
            _ => Err(self.broken(Unrepairable::UnexpectedByte)),
        }
    }

    fn colon(&mut self, quoted: bool, byte: u8) -> Result<Expect, Unrepairable> {
        let code = match byte {
            b':' => {
                self.pos += 1;
                return Ok(Expect::Value);
            }
            b',' | b'}' | b']' => Unrepairable::MemberIncomplete,
            b'"' | b'\'' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'=' => Unrepairable::ColonMissing,
            _ if self.at_smart_quote() => return Err(Unrepairable::SmartQuote),
            _ if self.at_known_literal() => Unrepairable::ColonMissing,
            _ if quoted => Unrepairable::QuoteBroken,
            _ => Unrepairable::UnexpectedByte,
        };
        Err(self.broken(code))
    }

    fn next(&mut self, byte: u8) -> Result<Expect, Unrepairable> {
        let in_object = self.open.last() == Some(&b'}');
        match byte {
            b',' => {
                self.comma = self.edits.mark(self.pos);
                self.pos += 1;
                Ok(if in_object { Expect::Key } else { Expect::Element })
            }
            b'}' | b']' if self.open.last() == Some(&byte) => Ok(self.close(byte)),
            b'}' | b']' => Err(self.broken(Unrepairable::CloserUnmatched)),
            _ if self.at_smart_quote() => Err(Unrepairable::SmartQuote),
            _ => self.missing_comma(in_object, byte),
        }
    }

    fn open(&mut self, closer: u8, expect: Expect) -> Result<Expect, Unrepairable> {
        if self.open.len() >= self.depth_max {
            return Err(Unrepairable::DepthMax);
        }
        self.open.push(closer);
        self.pos += 1;
        Ok(expect)
    }

    fn close(&mut self, closer: u8) -> Expect {
        self.open.pop();
        self.pos += 1;
        self.complete(Kind::Container(Some(closer)))
    }

    fn complete(&mut self, kind: Kind) -> Expect {
        self.last = kind;
        self.end = self.edits.mark(self.pos);
        Expect::Next
    }

    fn trailing_comma(&mut self, closer: u8) -> Result<Expect, Unrepairable> {
        self.edits.insert(self.comma, Class::TrailingComma, 1, "")?;
        Ok(self.close(closer))
    }

    /// Before a byte that is neither comma nor closer.
    fn missing_comma(&mut self, in_object: bool, byte: u8) -> Result<Expect, Unrepairable> {
        let after_string = self.last == Kind::String;
        let quote = matches!(byte, b'"' | b'\'');
        let bare_key = self.edits.grants(Class::UnquotedKey) && is_word(byte) && !after_string;
        let element = !quote && !after_string && (matches!(byte, b'{' | b'[') || is_word(byte));
        if !(if in_object { quote || bare_key } else { element }) {
            let strings = quote || after_string;
            return Err(self.broken(if strings {
                Unrepairable::QuoteBroken
            } else {
                Unrepairable::UnexpectedByte
            }));
        }
        if self.quotes_are_odd() {
            return Err(Unrepairable::QuoteBroken);
        }
        if self.comma_inserted {
            return Err(Unrepairable::CommasMissing);
        }
        self.edits.insert(self.end, Class::MissingComma, 0, ",")?;
        self.comma_inserted = true;
        Ok(if in_object { Expect::Key } else { Expect::Element })
    }

    /// The code of damage that a broken quote may have made.
    pub(super) fn broken(&self, code: Unrepairable) -> Unrepairable {
        if self.quotes_are_odd() { Unrepairable::QuoteBroken } else { code }
    }

    fn quotes_are_odd(&self) -> bool {
        let quote = self.quote.unwrap_or(b'"');
        let mut escaped = false;
        let quotes = self.bytes.iter().filter(|byte| {
            let counts = **byte == quote && !escaped;
            escaped = **byte == b'\\' && !escaped;
            counts
        });
        quotes.count() % 2 == 1
    }
}

/// `byte` may be part of a word: spec/repair.md section 5.4. Foreign space is not looked at here.
pub(super) fn is_word(byte: u8) -> bool {
    let ends =
        matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"' | b'\'' | b'/' | b'`' | b'~' | 0x7F);
    byte > b' ' && !ends
}
