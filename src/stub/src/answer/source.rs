//! Where the bytes of a body come from, and where they are cut. Large bodies are patterns, never memory.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

const FILLER: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Least size of the block that a pattern is sent from, so that a write is not one repetition.
const BLOCK_MIN: usize = 64 * 1024;

static FILLER_BLOCK: LazyLock<Bytes> = LazyLock::new(|| FILLER.repeat(BLOCK_MIN / FILLER.len()).into());

/// `count` bytes of filler, from position `from` of an endless text. A body of `size` or `/bytes/{n}` is
/// `filler(0, n)`, so that a test can say what any part of it must be.
#[must_use]
pub fn filler(from: u64, count: usize) -> Vec<u8> {
    let skip = usize::try_from(from % FILLER.len() as u64).unwrap_or(0);
    FILLER.iter().copied().cycle().skip(skip).take(count).collect()
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Held(Bytes),
    /// The first `total` bytes of `block` for ever and ever, then `tail`.
    /// INVARIANT: `block` is not empty.
    Pattern {
        block: Bytes,
        total: u64,
        tail: Bytes,
    },
}

impl Source {
    pub fn empty() -> Self {
        Self::Held(Bytes::new())
    }

    pub fn filler(total: u64) -> Self {
        Self::Pattern { block: FILLER_BLOCK.clone(), total, tail: Bytes::new() }
    }

    /// `unit` so many times, then `tail`; `None` when the size does not fit in 64 bits.
    pub fn repeat(unit: &[u8], times: u64, tail: Bytes) -> Option<Self> {
        if unit.is_empty() {
            return Some(Self::Held(tail));
        }
        let total = (unit.len() as u64).checked_mul(times)?;
        total.checked_add(tail.len() as u64)?;
        let block = unit.repeat(BLOCK_MIN.div_ceil(unit.len())).into();
        Some(Self::Pattern { block, total, tail })
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Pattern { total, tail, .. } => total + tail.len() as u64,
        }
    }

    /// Bytes from `from` on, not beyond `to`: at least one if there is one, as many as lie together.
    pub fn slice(&self, from: u64, to: u64) -> Bytes {
        match self {
            Self::Held(bytes) => part(bytes, from, to),
            Self::Pattern { block, total, tail } if from < *total => {
                let start = from % block.len() as u64;
                part(block, start, start.saturating_add(to.min(*total) - from))
            }
            Self::Pattern { total, tail, .. } => part(tail, from - total, to.saturating_sub(*total)),
        }
    }
}

/// `bytes[from..to]`, as far as it exists.
fn part(bytes: &Bytes, from: u64, to: u64) -> Bytes {
    let inside = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    let (from, to) = (inside(from), inside(to));
    bytes.slice(from.min(to)..to)
}

/// Where a row of bytes is cut.
#[derive(Clone, Debug)]
pub(crate) enum Cuts {
    /// INVARIANT: not 0.
    Each(u64),
    /// INVARIANT: ascending.
    At(Arc<[u64]>),
}

impl Cuts {
    pub fn none() -> Self {
        Self::At(Arc::new([]))
    }

    /// After each piece.
    pub fn after_each(sizes: impl Iterator<Item = usize>) -> Self {
        let ends = sizes.scan(0, |end, size| {
            *end += size as u64;
            Some(*end)
        });
        Self::At(ends.collect())
    }

    /// Where the piece ends that starts at `from`, in `len` bytes. More than `from` while `from < len`.
    pub fn next_end(&self, from: u64, len: u64) -> u64 {
        let end = match self {
            Self::Each(size) => (from - from % size).saturating_add(*size),
            Self::At(ends) => ends.get(ends.partition_point(|end| *end <= from)).copied().unwrap_or(len),
        };
        end.min(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(source: &Source, cuts: &Cuts) -> Vec<Vec<u8>> {
        let (mut pieces, mut position) = (Vec::new(), 0);
        while position < source.len() {
            let (end, mut piece) = (cuts.next_end(position, source.len()), Vec::new());
            while position < end {
                let slice = source.slice(position, end);
                assert!(!slice.is_empty());
                position += slice.len() as u64;
                piece.extend_from_slice(&slice);
            }
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn a_pattern_is_its_unit_again_and_again_and_then_the_tail() {
        for (unit, times) in [("abc", 5_u64), ("x", 200_000), ("longer unit ", 10_000)] {
            let source = Source::repeat(unit.as_bytes(), times, "end".into()).unwrap();
            let expected = unit.repeat(usize::try_from(times).unwrap()) + "end";
            assert_eq!(whole(&source, &Cuts::none()), [expected.as_bytes()]);
            assert_eq!(whole(&source, &Cuts::Each(7)).concat(), expected.as_bytes());
        }
    }

    #[test]
    fn filler_can_be_foretold_at_any_position() {
        let source = Source::filler(200_000);
        assert_eq!(whole(&source, &Cuts::none()).concat(), filler(0, 200_000));
        assert_eq!(source.slice(70_000, 70_010), filler(70_000, 10));
        assert_eq!(Source::filler(u64::MAX).slice(u64::MAX - 5, u64::MAX), filler(u64::MAX - 5, 5));
    }

    #[test]
    fn cuts_make_the_pieces_they_name() {
        let source = Source::Held("abcdef".into());
        let pieces = |cuts: &Cuts| -> Vec<String> {
            whole(&source, cuts).into_iter().map(|piece| String::from_utf8(piece).unwrap()).collect()
        };
        assert_eq!(pieces(&Cuts::none()), ["abcdef"]);
        assert_eq!(pieces(&Cuts::Each(4)), ["abcd", "ef"]);
        assert_eq!(pieces(&Cuts::At([1, 3, 99].into())), ["a", "bc", "def"]);
        assert_eq!(pieces(&Cuts::after_each([2, 4].into_iter())), ["ab", "cdef"]);
    }

    #[test]
    fn a_size_beyond_64_bits_is_refused() {
        assert!(Source::repeat(b"ab", u64::MAX, Bytes::new()).is_none());
        assert_eq!(Source::repeat(b"", u64::MAX, Bytes::new()).unwrap().len(), 0);
    }
}
