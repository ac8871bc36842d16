//! Keys, key ids and signing (SPEC section 3).
//!
//! A [`Signer`] signs typed bytes only; whoever holds one builds those bytes with [`crate::envelope::pae`] or
//! [`crate::note`]. Keys held elsewhere (a command, a KMS) implement the same trait outside this crate.

use std::fmt;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use p256::ecdsa::signature::Signer as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::hash::from_hex;

/// SPKI of an Ed25519 key before its 32 bytes (RFC 8410).
const ED25519_SPKI: &[u8; 12] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// SPKI of a P-256 key before its 65-byte uncompressed point (RFC 5480).
const P256_SPKI: &[u8; 26] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// Signature algorithm. It follows from the key, never from a label beside a signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Alg {
    /// Ed25519, RFC 8032.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA on P-256 with SHA-256, RFC 6979 nonces, low S.
    #[serde(rename = "ecdsa-p256-sha256")]
    P256,
}

/// What a key may sign. One key never has two uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    Receipt,
    Checkpoint,
    Manifest,
}

impl Use {
    /// All uses, in the order that they are shown.
    pub const ALL: [Self; 3] = [Self::Receipt, Self::Checkpoint, Self::Manifest];

    /// `receipt`, `checkpoint` or `manifest`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Checkpoint => "checkpoint",
            Self::Manifest => "manifest",
        }
    }
}

/// SHA-256 of a key's SubjectPublicKeyInfo. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hash::with_text("", &self.0, |text| f.write_str(text))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::hash::with_text("", &self.0, |text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a key id of 64 hex digits"))
    }
}

/// Why a key or a signature could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("not a PKCS#8 PEM private key for Ed25519 or P-256")]
    NotAPrivateKey,
    #[error("not a SubjectPublicKeyInfo of an Ed25519 or P-256 key in its one exact form")]
    NotAPublicKey,
    #[error("a {wanted:?} key is needed, this one is {found:?}")]
    WrongAlgorithm { wanted: Alg, found: Alg },
    #[error("the signer did not sign: {what}")]
    Signer { what: String },
}

/// A public key in its SPKI form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    alg: Alg,
    spki: Vec<u8>,
    id: KeyId,
}

impl PublicKey {
    /// Reads the DER form; only the two exact forms of SPEC section 3 are taken.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let alg = match spki.len() {
            44 if spki.starts_with(ED25519_SPKI) => Alg::Ed25519,
            91 if spki.starts_with(P256_SPKI) && spki[26] == 4 => Alg::P256,
            _ => return Err(KeyError::NotAPublicKey),
        };
        Ok(Self { alg, spki: spki.to_vec(), id: KeyId(crate::hash::Sha256::of(spki).0) })
    }

    fn ed25519(bytes: &[u8; 32]) -> Self {
        Self::from_spki(&[ED25519_SPKI.as_slice(), bytes].concat()).expect("prefix and length are right")
    }

    /// The algorithm that the key's own form states.
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// The DER bytes.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether this key signed the message. As strict as any verifier of ours, so that what is accepted here is so there.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        use p256::ecdsa::signature::Verifier as _;
        match self.ed25519_bytes() {
            Some(key) => {
                is_canonical_point(&key)
                    && ed25519_dalek::VerifyingKey::from_bytes(&key).is_ok_and(|key| {
                        let signature = ed25519_dalek::Signature::from_bytes(signature);
                        key.verify_strict(message, &signature).is_ok()
                    })
            }
            None => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(&self.spki[P256_SPKI.len()..]).is_ok_and(|key| {
                    p256::ecdsa::Signature::from_slice(signature)
                        .is_ok_and(|signature| key.verify(message, &signature).is_ok())
                })
            }
        }
    }

    /// As [`PublicKey::verifies`], of a signature in the form that DSSE carries.
    pub fn verifies_dsse(&self, message: &[u8], signature: &[u8]) -> bool {
        let raw = match self.alg {
            Alg::Ed25519 => signature.try_into().ok(),
            Alg::P256 => {
                p256::ecdsa::Signature::from_der(signature).ok().map(|found| found.to_bytes().into())
            }
        };
        raw.is_some_and(|raw: [u8; 64]| self.verifies(message, &raw))
    }

    /// The 32 bytes of an Ed25519 key.
    pub fn ed25519_bytes(&self) -> Option<[u8; 32]> {
        match self.alg {
            Alg::Ed25519 => self.spki[12..].try_into().ok(),
            Alg::P256 => None,
        }
    }

    /// The PEM form that `openssl pkey -pubin` reads.
    pub fn pem(&self) -> String {
        let text = crate::envelope::base64(&self.spki);
        let mut out = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in text.as_bytes().chunks(64) {
            out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            out.push('\n');
        }
        out.push_str("-----END PUBLIC KEY-----\n");
        out
    }
}

/// Whether the point's y is written in its one form, below 2^255 - 19.
fn is_canonical_point(key: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = key;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// Something that signs typed bytes with one key.
///
/// An implementation must be deterministic (sealing twice gives the same bytes) and must not sign anything but what
/// it is given. It may block; it is called on the journal's writer thread, never on the data plane.
pub trait Signer: Send + Sync {
    /// The key that verifies what [`Signer::sign`] makes.
    fn public(&self) -> &PublicKey;

    /// The 64-byte signature of `message`.
    ///
    /// # Errors
    /// [`KeyError::Signer`] when the key could not be reached or refused.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError>;
}

enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

/// A private key in memory.
pub struct SoftKey {
    secret: Secret,
    public: PublicKey,
}

impl SoftKey {
    /// An Ed25519 key from its 32-byte seed.
    pub fn ed25519(seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey::ed25519(secret.verifying_key().as_bytes());
        Self { secret: Secret::Ed25519(Box::new(secret)), public }
    }

    /// A P-256 key from its 32-byte scalar; `None` when that is zero or not below the group's order.
    pub fn p256(scalar: &[u8; 32]) -> Option<Self> {
        p256::ecdsa::SigningKey::from_slice(scalar).ok().map(Self::from_p256)
    }

    fn from_p256(secret: p256::ecdsa::SigningKey) -> Self {
        let point = secret.verifying_key().to_sec1_point(false);
        let public = PublicKey::from_spki(&[P256_SPKI.as_slice(), point.as_bytes()].concat())
            .expect("an uncompressed point has 65 bytes and starts with 4");
        Self { secret: Secret::P256(Box::new(secret)), public }
    }

    /// Reads a PKCS#8 PEM file's text, as `openssl genpkey` writes it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(secret) = ed25519_dalek::SigningKey::from_pkcs8_pem(pem) {
            let public = PublicKey::ed25519(secret.verifying_key().as_bytes());
            return Ok(Self { secret: Secret::Ed25519(Box::new(secret)), public });
        }
        let secret = p256::SecretKey::from_pkcs8_pem(pem).map_err(|_| KeyError::NotAPrivateKey)?;
        Ok(Self::from_p256(secret.into()))
    }

    /// The PKCS#8 PEM text, wiped when dropped.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let ending = ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF;
        let pem = match &self.secret {
            // Without the public half: the form that openssl writes and every library reads.
            Secret::Ed25519(secret) => {
                ed25519_dalek::pkcs8::KeypairBytes { secret_key: secret.to_bytes(), public_key: None }
                    .to_pkcs8_pem(ending)
            }
            Secret::P256(secret) => secret.to_pkcs8_pem(ending),
        };
        pem.map_err(|error| KeyError::Signer { what: error.to_string() })
    }

    /// The 32-byte seed of an Ed25519 key, for a faster implementation of the same algorithm.
    pub fn ed25519_seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        match &self.secret {
            Secret::Ed25519(secret) => Some(Zeroizing::new(secret.to_bytes())),
            Secret::P256(_) => None,
        }
    }
}

impl Signer for SoftKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        Ok(match &self.secret {
            Secret::Ed25519(secret) => secret.sign(message).to_bytes(),
            Secret::P256(secret) => {
                let signature: p256::ecdsa::Signature = secret.sign(message);
                signature.normalize_s().to_bytes().into()
            }
        })
    }
}

impl fmt::Debug for SoftKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftKey({})", self.public.id())
    }
}

/// A 64-byte signature in the form that DSSE carries: as it is for Ed25519, ASN.1 DER for ECDSA.
pub fn dsse_form(alg: Alg, signature: &[u8; 64]) -> Vec<u8> {
    match alg {
        Alg::Ed25519 => signature.to_vec(),
        Alg::P256 => {
            let (r, s) = signature.split_at(32);
            let body = [der_integer(r), der_integer(s)].concat();
            [&[0x30, body.len() as u8], body.as_slice()].concat() // at most 70 bytes
        }
    }
}

fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
    let digits = &bytes[start..];
    let pad = usize::from(digits[0] & 0x80 != 0);
    let mut out = vec![0x02, (digits.len() + pad) as u8]; // at most 33
    out.resize(2 + pad, 0);
    out.extend_from_slice(digits);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hex;

    #[test]
    fn ed25519_signs_as_rfc_8032_test_2() {
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SoftKey::ed25519(&seed);
        assert_eq!(
            hex(&key.public().ed25519_bytes().unwrap()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            hex(&key.sign(&[0x72]).unwrap()),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn p256_signs_as_rfc_6979_a_2_5() {
        let scalar = from_hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721").unwrap();
        let signature = SoftKey::p256(&scalar).unwrap().sign(b"sample").unwrap();
        assert_eq!(hex(&signature[..32]), "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716");
    }

    #[test]
    fn a_key_verifies_what_it_signed_and_nothing_else() {
        let keys = [SoftKey::ed25519(&[5; 32]), SoftKey::p256(&[5; 32]).unwrap(), SoftKey::ed25519(&[6; 32])];
        for key in &keys {
            let signature = key.sign(b"message").unwrap();
            for other in &keys {
                let same = other.public() == key.public();
                assert_eq!(other.public().verifies(b"message", &signature), same);
                assert!(!other.public().verifies(b"other", &signature));
            }
            assert!(!key.public().verifies(b"message", &[0; 64]));
        }
        let not_canonical = [&[0xee], [0xff; 30].as_slice(), &[0x7f]].concat(); // y = 2^255 - 18, which is 1
        let weak = PublicKey::ed25519(&not_canonical.try_into().unwrap());
        assert!(!weak.verifies(b"message", &[0; 64]));
    }

    #[test]
    fn private_keys_read_back_from_pem() {
        for key in [SoftKey::ed25519(&[5; 32]), SoftKey::p256(&[5; 32]).unwrap()] {
            let again = SoftKey::from_pem(&key.to_pem().unwrap()).unwrap();
            assert_eq!(again.public(), key.public());
        }
        assert!(SoftKey::from_pem("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n").is_err());
    }

    #[test]
    fn der_form_pads_high_bits_and_drops_zeros() {
        let mut signature = [0; 64];
        signature[31] = 0x80;
        signature[63] = 1;
        assert_eq!(dsse_form(Alg::P256, &signature), [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]);
    }

    #[test]
    fn only_exact_public_key_forms_are_taken() {
        let spki = SoftKey::ed25519(&[5; 32]).public().spki().to_vec();
        assert!(PublicKey::from_spki(&spki).is_ok());
        assert!(PublicKey::from_spki(&spki[..43]).is_err());
        assert!(PublicKey::from_spki(&[&spki[..], &[0]].concat()).is_err());
    }
}
