//! Tokens without quotes: literals, numbers, and names that should have had them.

use super::{
    Class, Unrepairable, check,
    scan::{Scan, is_word},
    trivia::foreign_space,
};

impl<'a> Scan<'a> {
    /// The word that comes next: spec/repair.md section 5.4.
    fn word(&self) -> &'a [u8] {
        let rest = self.rest();
        let mut length = 0;
        while let Some(tail @ [byte, ..]) = rest.get(length..)
            && is_word(*byte)
            && foreign_space(tail) == 0
        {
            length += 1;
        }
        rest.get(..length).unwrap_or(rest)
    }

    /// At a byte that a word may begin with.
    pub(super) fn literal(&mut self) -> Result<(), Unrepairable> {
        let word = self.word();
        let written = match word {
            b"true" | b"false" | b"null" => None,
            b"True" => Some("true"),
            b"False" => Some("false"),
            b"None" => Some("null"),
            _ => return Err(self.unknown(word)),
        };
        if let Some(written) = written {
            self.edits.push(Class::PythonLiteral, self.pos, word.len(), written)?;
        }
        self.pos += word.len();
        Ok(())
    }

    fn unknown(&self, word: &[u8]) -> Unrepairable {
        if is_not_a_number(word) {
            return Unrepairable::NotANumber;
        }
        match self.bytes.get(self.pos + word.len()) {
            None if starts_literal(word) || !self.is_outermost() => Unrepairable::Truncated,
            Some(b'"' | b'\'') => Unrepairable::QuoteBroken,
            _ if self.is_outermost() => Unrepairable::NoCandidate,
            _ => self.broken(Unrepairable::LiteralUnknown),
        }
    }

    /// At a byte that a number, or what is meant as one, begins with.
    pub(super) fn number(&mut self) -> Result<(), Unrepairable> {
        let word = self.word();
        let at_end = self.pos + word.len() == self.bytes.len();
        match check::strict(word) {
            Ok(()) => {
                self.pos += word.len();
                Ok(())
            }
            Err(limit @ Unrepairable::NumberBytesMax) => Err(limit),
            Err(_) if is_not_a_number(word) => Err(Unrepairable::NotANumber),
            Err(_) if at_end && !self.is_outermost() => Err(Unrepairable::Truncated),
            Err(Unrepairable::Truncated) if at_end => Err(Unrepairable::Truncated),
            Err(_) => Err(self.broken(Unrepairable::NumberForm)),
        }
    }

    /// At a byte that a name without quotes may begin with.
    pub(super) fn bare_key(&mut self) -> Result<(), Unrepairable> {
        let word = self.word();
        let (start, end) = (self.pos, self.pos + word.len());
        match self.bytes.get(end) {
            None => return Err(Unrepairable::Truncated),
            Some(b'"' | b'\'') => return Err(Unrepairable::QuoteBroken),
            _ if !is_name(word) => return Err(self.broken(Unrepairable::KeyNotString)),
            _ if !self.edits.grants(Class::UnquotedKey) => {
                return Err(self.broken(Unrepairable::NotGranted(Class::UnquotedKey)));
            }
            _ => {}
        }
        self.edits.push(Class::UnquotedKey, start, 0, "\"")?;
        self.edits.push(Class::UnquotedKey, end, 0, "\"")?;
        self.pos = end;
        Ok(())
    }

    pub(super) fn at_known_literal(&self) -> bool {
        is_literal(self.word())
    }
}

fn is_literal(word: &[u8]) -> bool {
    matches!(word, b"true" | b"false" | b"null" | b"True" | b"False" | b"None")
}

/// A literal that was cut may look like this.
fn starts_literal(word: &[u8]) -> bool {
    let literals: [&[u8]; 6] = [b"true", b"false", b"null", b"True", b"False", b"None"];
    literals.iter().any(|literal| literal.starts_with(word))
}

fn is_not_a_number(word: &[u8]) -> bool {
    let unsigned = word.strip_prefix(b"-").or(word.strip_prefix(b"+")).unwrap_or(word);
    [&b"nan"[..], b"inf", b"infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name))
}

/// A word of spec/repair.md section 5.4 that is no name.
pub(super) fn is_reserved(word: &[u8]) -> bool {
    is_literal(word) || matches!(word, b"NaN" | b"Infinity" | b"undefined")
}

/// An ASCII identifier that is not a word of its own.
fn is_name(word: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$');
    word.first().is_some_and(letter)
        && word.iter().all(|byte| letter(byte) || byte.is_ascii_digit())
        && !is_reserved(word)
}
