//! What may stand between any two tokens: white space and comments.

use super::{Class, Unrepairable, scan::Scan};

impl Scan<'_> {
    /// Passes over white space and comments.
    pub(super) fn trivia(&mut self) -> Result<(), Unrepairable> {
        loop {
            let rest = self.rest();
            match rest {
                [b' ' | b'\t' | b'\n' | b'\r', ..] => self.pos += 1,
                [b'/', b'/', ..] => self.line_comment()?,
                [b'/', b'*', ..] => self.block_comment()?,
                _ if foreign_space(rest) > 0 => self.foreign_run()?,
                _ => return Ok(()),
            }
        }
    }

    /// From one foreign space to the last that only white space parts from it.
    fn foreign_run(&mut self) -> Result<(), Unrepairable> {
        let start = self.pos;
        let (mut end, mut at) = (start, start);
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            match (foreign_space(rest), rest.first()) {
                (0, Some(b' ' | b'\t' | b'\n' | b'\r')) => at += 1,
                (0, _) => break,
                (length, _) => {
                    at += length;
                    end = at;
                }
            }
        }
        self.pos = end;
        self.edits.push(Class::ForeignSpace, start, end - start, "")
    }

    fn line_comment(&mut self) -> Result<(), Unrepairable> {
        let rest = self.rest();
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = line.strip_suffix(b"\r").filter(|_| line.len() < rest.len()).unwrap_or(line);
        let other_ends = text.contains(&b'\r') || has(text, "\u{2028}") || has(text, "\u{2029}");
        self.comment(text.len(), other_ends)
    }

    fn block_comment(&mut self) -> Result<(), Unrepairable> {
        let text = self.rest().get(2..).unwrap_or_default();
        let length = text.windows(2).position(|pair| pair == b"*/").ok_or(Unrepairable::Truncated)?;
        let nested = has(text.get(..length).unwrap_or_default(), "/*");
        self.comment(2 + length + 2, nested)
    }

    fn comment(&mut self, length: usize, ambiguous: bool) -> Result<(), Unrepairable> {
        let text = self.rest().get(..length).unwrap_or_default();
        let hides = text.contains(&b'"')
            || text.contains(&b'\'') && self.edits.grants(Class::SingleQuote)
            || text.contains(&b':') && self.edits.grants(Class::UnquotedKey);
        if ambiguous || hides || has(text, "```") || has(text, "~~~") {
            return Err(Unrepairable::CommentAmbiguous);
        }
        self.edits.push(Class::Comment, self.pos, length, "")?;
        self.pos += length;
        Ok(())
    }
}

fn has(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}

/// Bytes of the white space that `bytes` start with and JSON does not know; 0 if they do not.
pub(super) fn foreign_space(bytes: &[u8]) -> usize {
    match bytes {
        [0x0B | 0x0C, ..] => 1,
        [0xC2, 0x85 | 0xA0, ..] => 2,
        [0xE1, 0x9A, 0x80, ..] // U+1680
        | [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, ..] // U+2000 to U+200A, U+2028, U+2029, U+202F
        | [0xE2, 0x81, 0x9F, ..] // U+205F
        | [0xE3, 0x80, 0x80, ..] // U+3000
        | [0xEF, 0xBB, 0xBF, ..] => 3, // U+FEFF
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_space_is_what_unicode_calls_white_space_and_the_mark() {
        for character in '\0'..=char::MAX {
            let known = matches!(character, ' ' | '\t' | '\n' | '\r');
            let foreign = (character.is_whitespace() || character == '\u{FEFF}') && !known;
            let length = foreign_space(character.encode_utf8(&mut [0; 4]).as_bytes());
            assert_eq!(length, if foreign { character.len_utf8() } else { 0 }, "{character:?}");
        }
    }
}
