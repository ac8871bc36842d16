//! Finding the bytes that mean something, 64 at a time.
//!
//! A block becomes masks with a bit for each byte, and the reader jumps from one set bit to the next.

/// Bytes looked at in one go: one for each bit of a mask.
const BLOCK: usize = 64;

/// Masks over one block; bit 0 is its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    /// Delimiter, quote, CR, LF, and control characters but tab.
    plain: u64,
    /// The same without delimiter and LF, which are content inside quotes.
    quoted: u64,
    /// Some byte is above 0x7F.
    wide: bool,
}

/// Finds special bytes of one chunk, in ascending order.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    chunk: &'a [u8],
    delimiter: u8,
    /// Where the block that the masks are of begins.
    block: usize,
    masks: Masks,
    /// A byte above 0x7F stood in a block that was left since [`Self::forget`].
    left_wide: bool,
}

impl<'a> Finder<'a> {
    pub(super) fn new(chunk: &'a [u8], delimiter: u8) -> Self {
        Self { chunk, delimiter, block: 0, masks: masks_at(chunk, 0, delimiter), left_wide: false }
    }

    /// Place of the first byte at or after `from` that is special outside of quotes; the chunk's length if none.
    #[inline(always)]
    pub(super) fn plain(&mut self, from: usize) -> usize {
        self.find(from, |masks| masks.plain)
    }

    /// The same inside quotes.
    #[inline(always)]
    pub(super) fn quoted(&mut self, from: usize) -> usize {
        self.find(from, |masks| masks.quoted)
    }

    /// False only if every byte looked at since [`Self::forget`] is ASCII.
    #[inline(always)]
    pub(super) fn wide(&self) -> bool {
        self.left_wide | self.masks.wide
    }

    /// A field begins: bytes before it no longer count as looked at.
    #[inline(always)]
    pub(super) fn forget(&mut self) {
        self.left_wide = false;
    }

    #[inline(always)]
    fn find(&mut self, mut from: usize, mask: impl Fn(&Masks) -> u64) -> usize {
        loop {
            let within = from.wrapping_sub(self.block);
            if within < BLOCK {
                let bits = mask(&self.masks) >> within;
                if bits != 0 {
                    return (from + bits.trailing_zeros() as usize).min(self.chunk.len()); // at most 63
                }
                from = self.block + BLOCK;
            }
            if from >= self.chunk.len() {
                return self.chunk.len();
            }
            self.load(from - from % BLOCK);
        }
    }

    #[inline(always)]
    fn load(&mut self, block: usize) {
        self.left_wide |= self.masks.wide;
        self.block = block;
        self.masks = masks_at(self.chunk, block, self.delimiter);
    }
}

/// Masks of the block at `at`. Behind the end of the chunk stand zeros, which are special, so a search ends there.
#[inline(always)]
fn masks_at(chunk: &[u8], at: usize, delimiter: u8) -> Masks {
    let rest = chunk.get(at..).unwrap_or_default();
    match rest.first_chunk::<BLOCK>() {
        Some(block) => masks(block, delimiter),
        None => {
            let mut block = [0; BLOCK];
            block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            masks(&block, delimiter)
        }
    }
}

/// Sorts the bytes first, without a branch, which becomes vector code; then gathers the marks eight at a time.
#[inline(always)]
fn masks(block: &[u8; BLOCK], delimiter: u8) -> Masks {
    let mut marks = [0; BLOCK];
    let mut high = 0;
    for (mark, &byte) in marks.iter_mut().zip(block) {
        let always = (byte == b'"') | (byte == 0x7F) | ((byte < 0x20) & (byte != b'\t'));
        *mark = u8::from(always | (byte == delimiter)) | (u8::from(always & (byte != b'\n')) << 1);
        high |= byte;
    }
    let mut masks = Masks { wide: high > 0x7F, ..Masks::default() };
    let (words, _) = marks.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        masks.plain |= gather(word) << (8 * index);
        masks.quoted |= gather(word >> 1) << (8 * index);
    }
    masks
}

/// The lowest bits of eight bytes, side by side: each is moved to its place in the top byte, and no sum carries.
#[inline(always)]
fn gather(marks: u64) -> u64 {
    (marks & u64::from_le_bytes([1; 8])).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn masks_are_what_they_say(
            block in proptest::collection::vec(any::<u8>(), BLOCK),
            delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'\t'), Just(b'|')],
        ) {
            let block: [u8; BLOCK] = block.try_into().unwrap();
            let mut expected = Masks::default();
            for (at, &byte) in block.iter().enumerate() {
                let control = (byte < 0x20 && byte != b'\t') || byte == 0x7F;
                let plain = control || byte == b'"' || byte == delimiter;
                let quoted = byte == b'"' || (control && byte != b'\n');
                expected.plain |= u64::from(plain) << at;
                expected.quoted |= u64::from(quoted) << at;
                expected.wide |= byte > 0x7F;
            }
            prop_assert_eq!(masks(&block, delimiter), expected);
        }

        #[test]
        fn finds_each_special_byte_in_turn(bytes in proptest::collection::vec(prop_oneof![9 => Just(b'a'), 1 => Just(b',')], 0..300)) {
            let mut finder = Finder::new(&bytes, b',');
            let (mut from, mut found) = (0, Vec::new());
            loop {
                let at = finder.plain(from);
                if at == bytes.len() { break }
                found.push(at);
                from = at + 1;
            }
            let expected: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b',').collect();
            prop_assert_eq!(found, expected);
        }
    }
}
