//! The inside of strings: finding where plain text ends, and checking UTF-8 across chunks.
//!
//! Both are resumable and neither allocates. UTF-8 is checked only where a byte above 0x7F was seen.

/// A stretch of string content that stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// Bytes before the first `"`, `\` or control byte (RFC 8259 section 7), or all there are.
    pub len: usize,
    /// Some byte looked at was above 0x7F; false means that the stretch is ASCII.
    pub wide: bool,
}

/// Words looked at one by one before blocks are worth their set-up.
const SHORT_WORDS: usize = 8;
const BLOCK: usize = 64;

/// Finds the end of the plain text that `bytes` starts with.
#[inline(always)]
pub(super) fn plain(bytes: &[u8]) -> Plain {
    let mut wide = 0;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().take(SHORT_WORDS).enumerate() {
        let word = u64::from_le_bytes(*word);
        wide |= word;
        let marks = special(word);
        if marks != 0 {
            return Plain { len: index * 8 + first(marks), wide: wide & HIGH != 0 };
        }
    }
    let short = SHORT_WORDS.min(words.len()) * 8;
    let wide = wide & HIGH != 0;
    plain_long(bytes, short, wide)
}

/// The rest after `from` bytes: blocks first, then words, then the last few bytes.
#[inline(never)]
fn plain_long(bytes: &[u8], from: usize, mut wide: bool) -> Plain {
    let mut len = from;
    let (blocks, _) = bytes.get(len..).unwrap_or_default().as_chunks::<BLOCK>();
    for block in blocks {
        // Plain folds over a fixed size become vector code; no branch inside.
        let (stop, high) =
            block.iter().fold((false, 0), |(stop, high), &byte| (stop | is_special(byte), high | byte));
        wide |= high >= 0x80;
        if stop {
            break;
        }
        len += BLOCK;
    }
    let (words, _) = bytes.get(len..).unwrap_or_default().as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        wide |= word & HIGH != 0;
        let marks = special(word);
        if marks != 0 {
            return Plain { len: len + first(marks), wide };
        }
        len += 8;
    }
    for &byte in bytes.get(len..).unwrap_or_default() {
        if is_special(byte) {
            break;
        }
        wide |= byte >= 0x80;
        len += 1;
    }
    Plain { len, wide }
}

const LOW: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// High bit set in the lanes of special bytes. Lanes above the first one set may be wrong (borrow), so only
/// the first counts.
fn special(word: u64) -> u64 {
    let quote = word ^ (LOW * b'"' as u64);
    let backslash = word ^ (LOW * b'\\' as u64);
    let marks = (quote.wrapping_sub(LOW) & !quote)
        | (backslash.wrapping_sub(LOW) & !backslash)
        | (word.wrapping_sub(LOW * 0x20) & !word);
    marks & HIGH
}

/// Index of the first lane set; the words were read little-endian, so it is the lowest.
fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize // at most 8
}

/// Checks UTF-8 in pieces (RFC 3629).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    /// A character that the last piece began.
    held: [u8; 4],
    len: usize,
}

/// Where bytes stop being UTF-8: at the first byte of the bad sequence, which `before` bytes precede in this
/// piece, or which began `earlier` bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8 {
    pub before: usize,
    pub earlier: usize,
}

impl Utf8 {
    /// A character is under way, so that the next piece must be checked whatever it holds.
    pub(super) fn is_open(&self) -> bool {
        self.len > 0
    }

    /// Checks the next piece.
    pub(super) fn check(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let rest = self.complete(piece)?;
        let Err(error) = std::str::from_utf8(rest) else { return Ok(()) };
        let valid = error.valid_up_to();
        let tail = rest.get(valid..).unwrap_or_default();
        match (error.error_len(), self.held.get_mut(..tail.len())) {
            (None, Some(held)) => {
                held.copy_from_slice(tail);
                self.len = tail.len();
                Ok(())
            }
            _ => Err(NotUtf8 { before: piece.len() - rest.len() + valid, earlier: 0 }),
        }
    }

    /// Feeds the open character; returns what follows it.
    fn complete<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        let earlier = self.len;
        while self.len > 0
            && let [byte, rest @ ..] = piece
        {
            let Some(free) = self.held.get_mut(self.len) else { return Err(NotUtf8 { before: 0, earlier }) };
            *free = *byte;
            self.len += 1;
            piece = rest;
            match std::str::from_utf8(self.held.get(..self.len).unwrap_or_default()) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(NotUtf8 { before: 0, earlier }),
            }
        }
        Ok(piece)
    }

    /// The text is at an end, or at an escape: nothing may be open.
    pub(super) fn close(&self) -> Result<(), NotUtf8> {
        if self.len == 0 { Ok(()) } else { Err(NotUtf8 { before: 0, earlier: self.len }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::splits::cut;

    fn by_bytes(bytes: &[u8]) -> usize {
        bytes.iter().position(|&byte| is_special(byte)).unwrap_or(bytes.len())
    }

    #[test]
    fn finds_each_special_byte_at_each_place() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for at in 0..200 {
                let mut bytes = [b'a'; 200];
                bytes[at] = special;
                assert_eq!(plain(&bytes), Plain { len: at, wide: false });
            }
        }
    }

    #[test]
    fn takes_every_other_byte_for_plain() {
        for byte in (0x20..=0xFF).filter(|byte| !is_special(*byte)) {
            let bytes = [byte; 150];
            for len in 0..150 {
                assert_eq!(plain(&bytes[..len]), Plain { len, wide: byte >= 0x80 && len > 0 });
            }
        }
    }

    proptest! {
        #[test]
        fn plain_agrees_with_a_look_at_each_byte(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let found = plain(&bytes);
            prop_assert_eq!(found.len, by_bytes(&bytes));
            prop_assert!(found.wide || bytes[..found.len].is_ascii());
        }

        #[test]
        fn utf8_in_pieces_agrees_with_utf8_whole(
            parts in prop::collection::vec(
                prop::sample::select(vec![&b"a"[..], "é".as_bytes(), "€".as_bytes(), "😀".as_bytes(), b"\xE2\x82", b"\xF0",
                    b"\x80", b"\xC0\xAF", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xFF"]), 0..6),
            places in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let bytes = parts.concat();
            let mut utf8 = Utf8::default();
            let mut before = 0;
            let mut found = Ok(());
            for piece in cut(&bytes, &places) {
                found = utf8.check(piece).map_err(|bad| before + bad.before - bad.earlier);
                if found.is_err() {
                    break;
                }
                before += piece.len();
            }
            let found = found.and_then(|()| utf8.close().map_err(|bad| before - bad.earlier));
            prop_assert_eq!(found, std::str::from_utf8(&bytes).map(|_| ()).map_err(|error| error.valid_up_to()));
        }
    }
}
