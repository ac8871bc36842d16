//! Hashes and their written forms (SPEC section 2).

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::Digest as _;

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = vec![0; bytes.len() * 2];
    hex_into(&mut out, bytes);
    String::from_utf8(out).expect("hex digits are ASCII")
}

/// Writes the digits of `bytes` into `out`, which is twice as long. Without a table, so that the compiler can use
/// vectors.
pub(crate) fn hex_into(out: &mut [u8], bytes: &[u8]) {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
}

/// The bytes that 2·N lower-case hex digits stand for; `None` for anything else.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// `prefix` and the hex digits on the stack, so that writing a hash allocates nothing.
pub(crate) fn with_text<R>(prefix: &str, bytes: &[u8; 32], f: impl FnOnce(&str) -> R) -> R {
    let mut buffer = [0u8; 96];
    let start = prefix.len();
    buffer[..start].copy_from_slice(prefix.as_bytes());
    hex_into(&mut buffer[start..start + 64], bytes);
    f(std::str::from_utf8(&buffer[..start + 64]).expect("prefix and hex digits are ASCII"))
}

macro_rules! written_hash {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The prefix of the written form.
            pub const PREFIX: &'static str = $prefix;

            /// Reads the written form; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                from_hex(text.strip_prefix($prefix)?).map(Self)
            }

            /// The 64 hex digits without the prefix.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                with_text($prefix, &self.0, |text| f.write_str(text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                with_text($prefix, &self.0, |text| serializer.serialize_str(text))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(concat!("not a ", $prefix, "<64 hex> hash")))
            }
        }
    };
}

written_hash!(
    /// SHA-256 of content, equal to what `sha256sum` prints. Written `sha256:<hex>`.
    Sha256,
    "sha256:"
);
written_hash!(
    /// Entry hash: receipt id, chain link and tree leaf in one. SHA-256(0x00 ‖ line). Written `leaf:<hex>`.
    Leaf,
    "leaf:"
);
written_hash!(
    /// Root of an RFC 6962 tree. Written `root:<hex>`, base64 in notes.
    Root,
    "root:"
);
written_hash!(
    /// A per-call commitment to bytes, or the commitment to a capture key. Written `commit:<hex>`.
    Commit,
    "commit:"
);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl Leaf {
    /// The entry hash of a line, given without its LF.
    pub fn of(line: &[u8]) -> Self {
        let mut hasher = sha2::Sha256::new_with_prefix([0]);
        hasher.update(line);
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_forms_read_back() {
        let leaf = Leaf::of(b"{}");
        assert_eq!(Leaf::parse(&leaf.to_string()), Some(leaf));
        assert_eq!(Sha256::parse(&leaf.to_string()), None);
        assert_eq!(serde_json::to_string(&leaf).unwrap(), format!("\"{leaf}\""));
    }

    #[test]
    fn upper_case_hex_is_refused() {
        let text = Sha256::of(b"").to_string().to_uppercase().replace("SHA256:", "sha256:");
        assert_eq!(Sha256::parse(&text), None);
    }

    #[test]
    fn content_digest_is_that_of_sha256sum() {
        assert_eq!(
            Sha256::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
