//! The hashes of SPEC section 2: SHA-256 and how each role of it is written.

use sha2::{Digest, Sha256};

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of the bytes themselves; equals `sha256sum`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// Of an entry: id, chain link and leaf in one. `line` is without its line feed.
    pub fn leaf(line: &[u8]) -> Hash {
        let mut sha = Sha256::new();
        sha.update([0]);
        sha.update(line);
        Hash(sha.finalize().into())
    }

    /// Of an inner tree node.
    pub fn node(left: Hash, right: Hash) -> Hash {
        let mut sha = Sha256::new();
        sha.update([1]);
        sha.update(left.0);
        sha.update(right.0);
        Hash(sha.finalize().into())
    }

    /// 64 lower-case hex digits.
    pub fn hex(self) -> String {
        self.hex_bytes().into_iter().map(char::from).collect()
    }

    pub(crate) fn hex_bytes(self) -> [u8; 64] {
        let mut hex = [0; 64];
        for (digits, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = digits {
                *high = hex_digit(byte >> 4);
                *low = hex_digit(byte & 15);
            }
        }
        hex
    }

    /// Reads 64 lower-case hex digits.
    pub(crate) fn of_hex(hex: &[u8]) -> Option<Hash> {
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = digits else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Hash(hash))
    }

    /// Reads `<prefix>` and 64 hex digits, for example `leaf:…`.
    pub(crate) fn of_text(prefix: &str, text: &[u8]) -> Option<Hash> {
        text.strip_prefix(prefix.as_bytes()).and_then(Hash::of_hex)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Of a number below 16.
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// HMAC-SHA-256 (RFC 2104) of the parts, under a key of 32 bytes.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Hash {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(place, key)| *place ^= key);
        block
    };
    let mut inner = Hasher::default();
    inner.update(&pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Hasher::default();
    outer.update(&pad(0x5c));
    outer.update(&inner.finish().0);
    outer.finish()
}

/// The hash of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha_256_gives_the_value_of_fips_180_4() {
        assert_eq!(
            Hash::of(b"abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    /// RFC 4231 section 4.2, whose key of 20 bytes is the same as one of 32 with zeros at its end.
    #[test]
    fn hmac_gives_the_value_of_rfc_4231() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hmac(&key, &[b"Hi There"]).hex(), expected);
        assert_eq!(hmac(&key, &[b"Hi", b" There"]).hex(), expected);
    }

    #[test]
    fn hex_is_read_back_and_only_in_lower_case() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::of_hex(hash.hex().as_bytes()), Some(hash));
        assert_eq!(Hash::of_hex(hash.hex().to_uppercase().as_bytes()), None);
        assert_eq!(Hash::of_hex(&hash.hex().as_bytes()[1..]), None);
        assert_eq!(Hash::of_text("leaf:", format!("leaf:{}", hash.hex()).as_bytes()), Some(hash));
        assert_eq!(Hash::of_text("leaf:", format!("root:{}", hash.hex()).as_bytes()), None);
    }
}
