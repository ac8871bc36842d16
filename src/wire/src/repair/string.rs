//! Strings, quoted either way.

use std::borrow::Cow;

use super::{Class, Unrepairable, scan::Scan};

impl Scan<'_> {
    /// At the opening delimiter.
    pub(super) fn string(&mut self, quote: u8) -> Result<(), Unrepairable> {
        if self.quote.is_some_and(|other| other != quote) {
            return Err(Unrepairable::QuotesMixed);
        }
        self.delimiter(quote)?;
        self.quote = Some(quote);
        loop {
            let rest = self.rest();
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\'' | b'\\' | 0..0x20));
            self.pos += plain.ok_or(Unrepairable::Truncated)?;
            match self.peek().ok_or(Unrepairable::Truncated)? {
                byte if byte == quote => return self.delimiter(quote),
                b'\\' => self.escape(quote)?,
                b'"' => {
                    self.edits.push(Class::SingleQuote, self.pos, 0, "\\")?;
                    self.pos += 1;
                }
                b'\'' => self.pos += 1,
                control => self.control(control)?,
            }
        }
    }

    fn delimiter(&mut self, quote: u8) -> Result<(), Unrepairable> {
        if quote == b'\'' {
            self.edits.push(Class::SingleQuote, self.pos, 1, "\"")?;
        }
        self.pos += 1;
        Ok(())
    }

    fn escape(&mut self, quote: u8) -> Result<(), Unrepairable> {
        self.pos += match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'\'', ..] if quote == b'\'' => {
                self.edits.push(Class::SingleQuote, self.pos, 1, "")?;
                2
            }
            [_, b'u', digits @ ..] => {
                let digits = digits.get(..4).unwrap_or(digits);
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Unrepairable::EscapeInvalid);
                }
                2 + digits.len()
            }
            [_] | [] => return Err(Unrepairable::Truncated),
            _ => return Err(Unrepairable::EscapeInvalid),
        };
        Ok(())
    }

    fn control(&mut self, byte: u8) -> Result<(), Unrepairable> {
        let escape = match byte {
            0x08 => Cow::Borrowed("\\b"),
            b'\t' => Cow::Borrowed("\\t"),
            b'\n' => Cow::Borrowed("\\n"),
            0x0C => Cow::Borrowed("\\f"),
            b'\r' => Cow::Borrowed("\\r"),
            _ => Cow::Owned(format!("\\u{byte:04x}")),
        };
        self.edits.push(Class::ControlCharacter, self.pos, 1, escape)?;
        self.pos += 1;
        if byte == b'\n' && self.line_looks_like_fence_end() {
            return Err(Unrepairable::FenceAmbiguous);
        }
        Ok(())
    }

    /// A typographic quote comes next.
    pub(super) fn at_smart_quote(&self) -> bool {
        matches!(
            self.rest(),
            [0xE2, 0x80, 0x98..=0x9F | 0xB9 | 0xBA, ..] | [0xC2, 0xAB | 0xBB, ..] // ‘ to ‟, ‹, ›, «, »
        )
    }
}
