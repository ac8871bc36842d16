//! From the syntax of ECMA-262 (with the `u` flag, and the leniency of Annex B where patterns in the wild lean on
//! it) to that of regex-automata. One pass, no recursion; everything that is not known is refused.

use std::{fmt::Write as _, iter::Peekable, str::Chars};

use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in super::super) enum Refusal {
    /// Good ECMA-262, but nothing that an automaton could do.
    #[error("{0} cannot be matched in linear time")]
    NotRegular(&'static str),
    #[error("{0}")]
    Invalid(&'static str),
}

use Refusal::{Invalid, NotRegular};

/// A pattern that ECMA-262 admits, whether or not it can be compiled here.
pub(in super::super) fn is_valid(source: &str) -> bool {
    !matches!(translate(source), Err(Invalid(_)))
}

pub(super) fn translate(source: &str) -> Result<String, Refusal> {
    let mut translator = Translator {
        rest: source.chars().peekable(),
        out: String::new(),
        depth: 0,
        atom: Atom::No,
        irregular: None,
    };
    translator.pattern()?;
    match translator.irregular {
        Some(what) => Err(NotRegular(what)),
        None => Ok(translator.out),
    }
}

/// What may come before a quantifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Atom {
    No,
    Yes,
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    depth: u32,
    atom: Atom,
    irregular: Option<&'static str>,
}

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
/// WhiteSpace and LineTerminator of ECMA-262.
const SPACE: &str =
    r"\x{9}-\x{D}\x{20}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";

/// One member of a class, or one atom.
enum Item {
    Char(char),
    /// In the syntax of the target, usable inside of a class.
    Set(String),
}

impl Translator<'_> {
    fn pattern(&mut self) -> Result<(), Refusal> {
        while let Some(char) = self.rest.next() {
            match char {
                '^' | '$' => self.put(char, Atom::No),
                '|' => self.put('|', Atom::No),
                '(' => self.group()?,
                ')' => {
                    self.depth =
                        self.depth.checked_sub(1).ok_or(Invalid("a group is closed but not open"))?;
                    self.put(')', Atom::Yes);
                }
                '*' | '+' | '?' => self.quantifier(&char.to_string())?,
                '{' => match self.counts() {
                    Some(counts) => self.quantifier(&counts?)?,
                    None => self.literal('{'),
                },
                '[' => self.class()?,
                '.' => {
                    self.out.push_str(r"[^\n\r\x{2028}\x{2029}]");
                    self.atom = Atom::Yes;
                }
                '\\' => self.escape()?,
                _ => self.literal(char),
            }
        }
        if self.depth == 0 { Ok(()) } else { Err(Invalid("a group is not closed")) }
    }

    fn put(&mut self, char: char, atom: Atom) {
        self.out.push(char);
        self.atom = atom;
    }

    fn literal(&mut self, char: char) {
        point(&mut self.out, char);
        self.atom = Atom::Yes;
    }

    fn group(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        self.out.push_str("(?:");
        self.atom = Atom::No;
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        match self.rest.next() {
            Some(':') => Ok(()),
            Some('=' | '!') => self.is_irregular("lookahead"),
            Some('<') if self.rest.peek().is_some_and(|next| matches!(next, '=' | '!')) => {
                self.rest.next();
                self.is_irregular("lookbehind")
            }
            Some('<') => self.group_name(),
            _ => Err(Invalid("a group begins with `(?` and nothing that ECMA-262 knows")),
        }
    }

    fn group_name(&mut self) -> Result<(), Refusal> {
        let mut length = 0;
        loop {
            match self.rest.next() {
                Some('>') if length > 0 => return Ok(()),
                Some(char) if char.is_alphanumeric() || matches!(char, '_' | '$') => length += 1,
                _ => return Err(Invalid("a group has no proper name")),
            }
        }
    }

    /// Goes on, so that an invalid rest is still found.
    fn is_irregular(&mut self, what: &'static str) -> Result<(), Refusal> {
        self.irregular.get_or_insert(what);
        Ok(())
    }

    /// After `{`: a quantifier, if it is one; otherwise nothing is taken.
    fn counts(&mut self) -> Option<Result<String, Refusal>> {
        let mut ahead = self.rest.clone();
        let mut text = String::from("{");
        loop {
            let char = ahead.next()?;
            match char {
                '0'..='9' => text.push(char),
                ',' if text.len() > 1 && !text.contains(',') => text.push(char),
                '}' if text.len() > 1 => break,
                _ => return None,
            }
        }
        self.rest = ahead;
        let bounds = text.trim_start_matches('{');
        let (low, high) = bounds.split_once(',').unwrap_or((bounds, bounds));
        let Ok(low) = low.parse::<u32>() else { return Some(Err(Invalid("a count is too large"))) };
        let high = match high {
            "" => None,
            _ => match high.parse::<u32>() {
                Ok(high) => Some(high),
                Err(_) => return Some(Err(Invalid("a count is too large"))),
            },
        };
        if high.is_some_and(|high| high < low) {
            return Some(Err(Invalid("the counts of a quantifier are out of order")));
        }
        text.push('}');
        Some(Ok(text))
    }

    fn quantifier(&mut self, text: &str) -> Result<(), Refusal> {
        if self.atom == Atom::No {
            return Err(Invalid("a quantifier has nothing to repeat"));
        }
        self.out.push_str(text);
        self.rest.next_if_eq(&'?'); // being lazy does not change whether there is a match
        self.atom = Atom::No;
        Ok(())
    }

    /// After a backslash outside of a class.
    fn escape(&mut self) -> Result<(), Refusal> {
        match self.rest.peek() {
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => self.out.push_str(r"(?-u:\B)"),
            Some('1'..='9') => {
                self.atom = Atom::Yes;
                self.is_irregular("a backreference")?;
            }
            Some('k') => {
                self.rest.next();
                self.rest.next_if_eq(&'<').ok_or(Invalid("`\\k` without a name"))?;
                self.atom = Atom::Yes;
                self.group_name()?;
                return self.is_irregular("a backreference");
            }
            _ => {
                match self.escaped()? {
                    Item::Char(char) => self.literal(char),
                    Item::Set(set) => {
                        let _ = write!(self.out, "[{set}]"); // a String takes every write
                        self.atom = Atom::Yes;
                    }
                }
                return Ok(());
            }
        }
        if !matches!(self.rest.next(), Some('1'..='9')) {
            self.atom = Atom::No;
        }
        Ok(())
    }

    /// After a backslash, where a class member may stand.
    fn escaped(&mut self) -> Result<Item, Refusal> {
        let char = self.rest.next().ok_or(Invalid("a backslash at the end"))?;
        Ok(match char {
            'd' => Item::Set(DIGIT.into()),
            'D' => Item::Set(format!("[^{DIGIT}]")),
            'w' => Item::Set(WORD.into()),
            'W' => Item::Set(format!("[^{WORD}]")),
            's' => Item::Set(SPACE.into()),
            'S' => Item::Set(format!("[^{SPACE}]")),
            'p' | 'P' => Item::Set(self.property(char)?),
            't' => Item::Char('\t'),
            'n' => Item::Char('\n'),
            'v' => Item::Char('\u{B}'),
            'f' => Item::Char('\u{C}'),
            'r' => Item::Char('\r'),
            '0' if !self.rest.peek().is_some_and(char::is_ascii_digit) => Item::Char('\0'),
            'c' => match self.rest.next() {
                Some(letter) if letter.is_ascii_alphabetic() => Item::Char(char::from(letter as u8 & 0x1F)), // ASCII
                _ => return Err(Invalid("`\\c` without a letter")),
            },
            'x' => Item::Char(scalar(self.hex(2)?)?),
            'u' => Item::Char(self.unicode()?),
            _ if char.is_ascii_alphanumeric() => {
                return Err(Invalid("an escape that ECMA-262 does not know"));
            }
            _ => Item::Char(char),
        })
    }

    /// After `\p` or `\P`.
    fn property(&mut self, letter: char) -> Result<String, Refusal> {
        let mut name = format!("\\{letter}{{");
        self.rest.next_if_eq(&'{').ok_or(Invalid("a property without a name"))?;
        loop {
            match self.rest.next() {
                Some('}') => break,
                Some(char) if char.is_ascii_alphanumeric() || matches!(char, '_' | '=') => name.push(char),
                _ => return Err(Invalid("a property has no proper name")),
            }
        }
        name.push('}');
        Ok(name)
    }

    /// After `\u`.
    fn unicode(&mut self) -> Result<char, Refusal> {
        if self.rest.next_if_eq(&'{').is_some() {
            let mut value = 0_u32;
            loop {
                let char = self.rest.next().ok_or(Invalid("`\\u{` is not closed"))?;
                match char.to_digit(16) {
                    Some(digit) if value <= 0xFFFF => value = value << 4 | digit,
                    None if char == '}' => return scalar(value),
                    _ => return Err(Invalid("`\\u{` has no proper number")),
                }
            }
        }
        let first = self.hex(4)?;
        if !(0xD800..0xDC00).contains(&first) {
            return scalar(first);
        }
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('\\') && ahead.next() == Some('u') {
            self.rest = ahead;
            let second = self.hex(4)?;
            if (0xDC00..0xE000).contains(&second) {
                return scalar(0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00)));
            }
        }
        Err(Invalid("half of a surrogate pair"))
    }

    fn hex(&mut self, digits: u32) -> Result<u32, Refusal> {
        (0..digits).try_fold(0, |value, _| {
            let digit = self.rest.next().and_then(|char| char.to_digit(16));
            digit.map(|digit| value << 4 | digit).ok_or(Invalid("an escape has too few digits"))
        })
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), Refusal> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut set = String::new();
        loop {
            match self.member()? {
                None => break,
                Some(Item::Set(part)) => set.push_str(&part),
                Some(Item::Char(low)) => self.range(low, &mut set)?,
            }
        }
        let (out, all) = (&mut self.out, r"[\x{0}-\x{10FFFF}]");
        match (set.is_empty(), negated) {
            (true, false) => out.push_str(r"[^\x{0}-\x{10FFFF}]"),
            (true, true) => out.push_str(all),
            (false, _) => {
                let _ = write!(out, "[{}{set}]", if negated { "^" } else { "" }); // a String takes every write
            }
        }
        self.atom = Atom::Yes;
        Ok(())
    }

    fn member(&mut self) -> Result<Option<Item>, Refusal> {
        match self.rest.next() {
            None => Err(Invalid("a class is not closed")),
            Some(']') => Ok(None),
            Some('\\') if self.rest.next_if_eq(&'b').is_some() => Ok(Some(Item::Char('\u{8}'))),
            Some('\\') => self.escaped().map(Some),
            Some(char) => Ok(Some(Item::Char(char))),
        }
    }

    /// `low`, or the range that it begins.
    fn range(&mut self, low: char, set: &mut String) -> Result<(), Refusal> {
        point(set, low);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || ahead.peek() == Some(&']') {
            return Ok(());
        }
        self.rest = ahead;
        match self.member()? {
            Some(Item::Char(high)) if high >= low => {
                set.push('-');
                point(set, high);
                Ok(())
            }
            Some(Item::Set(part)) => {
                point(set, '-');
                set.push_str(&part);
                Ok(())
            }
            _ => Err(Invalid("a range of a class is out of order")),
        }
    }
}

fn scalar(value: u32) -> Result<char, Refusal> {
    char::from_u32(value).ok_or(Invalid("half of a surrogate pair"))
}

/// A character as itself, whatever it means elsewhere.
fn point(out: &mut String, char: char) {
    let _ = write!(out, "\\x{{{:X}}}", u32::from(char)); // a String takes every write
}
