//! The inside of strings: finding where plain text ends, and checking UTF-8 across chunks.
//!
//! Both are resumable and neither allocates. UTF-8 is checked only where a byte above 0x7F was seen.

/// A stretch of string content that stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// Bytes before the first `"`, `\` or control byte (RFC 8259 section 7), or all there are.
    pub len: usize,
    /// Some byte of it is above 0x7F; otherwise the stretch is ASCII.
    pub wide: bool,
}

/// Bytes looked at by words before blocks are worth their set-up.
const SHORT: usize = 16;
const BLOCK: usize = 32;

/// Finds the end of the plain text that `bytes` starts with.
#[inline(always)]
pub(super) fn plain(bytes: &[u8]) -> Plain {
    let Some(short) = bytes.first_chunk::<SHORT>() else { return plain_end(bytes, 0, false) };
    match words(short) {
        Plain { len: SHORT, wide } => plain_long(bytes, SHORT, wide),
        found => found,
    }
}

/// The rest after `len` bytes: blocks first, then words, then the last few bytes.
#[inline(never)]
fn plain_long(bytes: &[u8], mut len: usize, mut wide: bool) -> Plain {
    let (blocks, _) = bytes.get(len..).unwrap_or_default().as_chunks::<BLOCK>();
    for block in blocks {
        let (special, high) = block_marks(block);
        if special {
            break;
        }
        wide |= high;
        len += BLOCK;
    }
    plain_end(bytes, len, wide)
}

/// The last few bytes.
#[inline(never)]
fn plain_end(bytes: &[u8], mut len: usize, mut wide: bool) -> Plain {
    let (pieces, _) = bytes.get(len..).unwrap_or_default().as_chunks::<8>();
    for piece in pieces {
        let found = words(piece);
        len += found.len;
        wide |= found.wide;
        if found.len < piece.len() {
            return Plain { len, wide };
        }
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

/// Some byte is special; some byte is above 0x7F. A plain fold over a fixed length becomes vector code.
#[inline(always)]
fn block_marks(block: &[u8; BLOCK]) -> (bool, bool) {
    block
        .iter()
        .fold((false, false), |(special, high), &byte| (special | is_special(byte), high | (byte >= 0x80)))
}

#[inline(always)]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The plain text that some words start with.
#[inline(always)]
fn words<const LEN: usize>(bytes: &[u8; LEN]) -> Plain {
    let mut wide = false;
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = special(word);
        let before = marks.wrapping_sub(1) & !marks;
        wide |= word & before & HIGH != 0;
        if marks != 0 {
            let lane = (marks.trailing_zeros() / 8) as usize; // at most 7
            return Plain { len: index * 8 + lane, wide };
        }
    }
    Plain { len: LEN, wide }
}

const LOW: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// High bit set in the lanes of special bytes. Lanes above the first one set may be wrong (borrow), so only
/// the first counts.
#[inline(always)]
fn special(word: u64) -> u64 {
    let quote = (word ^ (LOW * b'"' as u64)).wrapping_sub(LOW);
    let backslash = (word ^ (LOW * b'\\' as u64)).wrapping_sub(LOW);
    let control = word.wrapping_sub(LOW * 0x20);
    (quote | backslash | control) & !word & HIGH
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
        fn words_and_blocks_see_what_bytes_do(block in any::<[u8; BLOCK]>()) {
            let len = by_bytes(&block);
            prop_assert_eq!(words(&block), Plain { len, wide: !block[..len].is_ascii() });
            prop_assert_eq!(block_marks(&block), (len < BLOCK, !block.is_ascii()));
        }

        #[test]
        fn plain_agrees_with_a_look_at_each_byte(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let found = plain(&bytes);
            prop_assert_eq!(found.len, by_bytes(&bytes));
            prop_assert_eq!(found.wide, !bytes[..found.len].is_ascii());
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
