//! A keyed 64-bit hash for sets of names and values seen. Who does not know the key cannot choose collisions;
//! and a collision can only refuse a value, never let one pass.

/// Where hashing starts from: two random words, drawn by the caller once per process or more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey(pub [u64; 2]);

/// The state of one hash. The bytes it is given may come in any pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash {
    state: u64,
    key: u64,
    /// Up to 7 bytes that do not yet make a word, lowest first.
    held: u64,
    held_bits: u32,
}

const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hash {
    #[inline]
    pub(super) fn new(key: HashKey) -> Self {
        let HashKey([first, second]) = key;
        Self { state: first ^ ODD, key: second | 1, held: 0, held_bits: 0 }
    }

    #[inline]
    pub(super) fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key).wrapping_add(ODD);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.held_bits != 0 {
            let Some((byte, after)) = rest.split_first() else { return };
            self.hold(*byte);
            rest = after;
        }
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        for byte in tail {
            self.hold(*byte);
        }
    }

    fn hold(&mut self, byte: u8) {
        self.held |= u64::from(byte) << self.held_bits;
        self.held_bits += 8;
        if self.held_bits == 64 {
            let word = self.held;
            self.word(word);
            (self.held, self.held_bits) = (0, 0);
        }
    }

    /// The hash; never zero.
    #[inline]
    pub(super) fn finish(mut self) -> u64 {
        self.word(self.held);
        self.word(u64::from(self.held_bits));
        fold(self.state, self.key ^ ODD) | 1 << 63
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64 // both halves
}

/// The hash of bytes that are there whole. Not equal to what [`Hash`] makes of them.
#[inline]
pub(super) fn of(key: HashKey, bytes: &[u8]) -> u64 {
    let HashKey([first, second]) = key;
    let mut state = first ^ (bytes.len() as u64).wrapping_mul(ODD);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), second | 1).wrapping_add(ODD);
    }
    let last = match tail {
        [] => 0,
        [a] => u64::from(*a),
        [a, b, ..] if tail.len() < 4 => {
            u64::from(*a) | u64::from(*b) << 8 | tail.get(2).map_or(0, |c| u64::from(*c) << 16)
        }
        _ => {
            let head = tail.first_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four));
            let end = tail.last_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four));
            u64::from(head) | u64::from(end) << 32
        }
    };
    fold(fold(state ^ last, second | 1) ^ ODD, first | 1) | 1 << 63
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::splits::cut;

    const KEY: HashKey = HashKey([3, 5]);

    proptest! {
        #[test]
        fn pieces_hash_like_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..60), places in prop::collection::vec(any::<usize>(), 0..5)) {
            let mut whole = Hash::new(KEY);
            whole.bytes(&bytes);
            let mut pieces = Hash::new(KEY);
            cut(&bytes, &places).iter().for_each(|piece| pieces.bytes(piece));
            prop_assert_eq!(whole.finish(), pieces.finish());
        }

        #[test]
        fn other_bytes_hash_otherwise(a in prop::collection::vec(any::<u8>(), 0..40), b in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(of(KEY, &a) == of(KEY, &b), a == b);
        }
    }
}
