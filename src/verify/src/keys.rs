//! Public keys, lists of keys, and the signatures over typed bytes (SPEC section 3).
//!
//! The algorithm of a key is what its SubjectPublicKeyInfo says; no label beside a signature is ever asked.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;

use crate::hash::Hash;
use crate::view::View;

/// The PAE type of an entry line.
pub(crate) const ENTRY_TYPE: &str = "application/vnd.estoppel.pef.entry.v0+json";
/// The PAE type of in-toto statements.
pub(crate) const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// The PAE type of the proof inside `key.rotate`.
pub(crate) const POSSESSION_TYPE: &str = "application/vnd.estoppel.pef.possession.v0+json";

/// `302a300506032b6570032100`, then the key.
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// `3059301306072a8648ce3d020106082a8648ce3d03010703420004`, then x and y.
const P256_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// What a key computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Ed25519,
    EcdsaP256Sha256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Ed25519 => "ed25519",
            Algorithm::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    Receipt,
    Checkpoint,
    Manifest,
}

impl Usage {
    pub fn name(self) -> &'static str {
        match self {
            Usage::Receipt => "receipt",
            Usage::Checkpoint => "checkpoint",
            Usage::Manifest => "manifest",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Usage> {
        [Usage::Receipt, Usage::Checkpoint, Usage::Manifest].into_iter().find(|usage| usage.name() == name)
    }
}

/// A public key in one of the two exact forms of SPEC section 3.
#[derive(Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    point: Point,
}

/// None when the bytes are no point of the curve, or one that no honest signer has. Such a key verifies nothing.
#[derive(Clone)]
enum Point {
    Ed25519(Option<Box<ed25519_dalek::VerifyingKey>>),
    P256(Option<Box<p256::ecdsa::VerifyingKey>>),
}

impl PublicKey {
    /// Reads SubjectPublicKeyInfo DER in exactly the form that SPEC section 3 gives.
    pub fn of_spki(spki: &[u8]) -> Option<PublicKey> {
        let point = if let Some(key) = spki.strip_prefix(&ED25519_PREFIX) {
            let key: &[u8; 32] = key.try_into().ok()?;
            let point = ed25519_dalek::VerifyingKey::from_bytes(key).ok();
            Point::Ed25519(point.filter(|_| is_canonical_point(key)).map(Box::new))
        } else {
            let coordinates: &[u8; 64] = spki.strip_prefix(&P256_PREFIX)?.try_into().ok()?;
            let mut point = vec![4];
            point.extend_from_slice(coordinates);
            Point::P256(p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok().map(Box::new))
        };
        Some(PublicKey { spki: spki.to_vec(), point })
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.point {
            Point::Ed25519(_) => Algorithm::Ed25519,
            Point::P256(_) => Algorithm::EcdsaP256Sha256,
        }
    }

    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SPKI.
    pub fn id(&self) -> Hash {
        Hash::of(&self.spki)
    }

    /// The 32 bytes of an Ed25519 key.
    pub(crate) fn ed25519_bytes(&self) -> Option<&[u8]> {
        self.spki.strip_prefix(&ED25519_PREFIX)
    }

    /// Verifies a signature in the form of `receipts.sig` and of notes: 64 bytes.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match &self.point {
            Point::Ed25519(Some(key)) => {
                key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
            }
            Point::P256(Some(key)) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Point::Ed25519(None) | Point::P256(None) => false,
        }
    }

    /// Verifies a signature in the form of envelopes: DER for P-256.
    pub(crate) fn verifies_enveloped(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.point {
            Point::P256(Some(key)) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            _ => signature.try_into().is_ok_and(|signature| self.verifies(message, signature)),
        }
    }
}

/// Whether y is below 2^255 - 19. `verify_strict` sees to the same for R, because it compares R with a point that
/// it encodes itself, but it takes the key as it is.
fn is_canonical_point(key: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = key;
    !(*first >= 0xed && middle.iter().all(|byte| *byte == 0xff) && last & 0x7f == 0x7f)
}

/// DSSE pre-authentication encoding.
pub(crate) fn pae(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Strict base64 of SPEC: padded, no line breaks, zero trailing bits.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A key of a manifest or a trust document.
pub(crate) struct Key {
    pub id: Hash,
    pub usage: Usage,
    pub public: PublicKey,
    /// The instance; only trust documents state it.
    pub iss: Option<String>,
    pub revoked_from_index: Option<u64>,
}

impl Key {
    /// The 4-byte id of this key in notes signed as `name`.
    pub(crate) fn note_id(&self, name: &str) -> Option<[u8; 4]> {
        let mut preimage = name.as_bytes().to_vec();
        preimage.extend_from_slice(b"\n\x01");
        preimage.extend_from_slice(self.public.ed25519_bytes()?);
        let Hash([a, b, c, d, ..]) = Hash::of(&preimage);
        Some([a, b, c, d])
    }
}

/// What is wrong with a list of keys.
#[derive(Debug)]
pub(crate) enum KeysFault {
    /// Step M3.
    Id(String),
    /// Step M4.
    Algorithm(String),
}

impl KeysFault {
    pub(crate) fn into_text(self) -> String {
        match self {
            KeysFault::Id(text) | KeysFault::Algorithm(text) => text,
        }
    }
}

/// A list of keys, each with an id of its own.
#[derive(Default)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    /// Reads the `keys` of a document that is valid by its schema; steps M3 and M4.
    pub(crate) fn read(rows: View<'_>) -> Result<Keys, KeysFault> {
        let mut seen = std::collections::BTreeSet::new();
        let mut spkis = Vec::new();
        for row in rows.items() {
            let kid = row.text_of("kid");
            let spki = base64_decode(&row.text_of("spki")).filter(|spki| Hash::of(spki).hex() == *kid);
            let Some(spki) = spki else {
                return Err(KeysFault::Id(format!(
                    "key id `{kid}` is not the hash of the key listed under it"
                )));
            };
            if !seen.insert(kid.clone()) {
                return Err(KeysFault::Id(format!("key id `{kid}` is listed twice")));
            }
            spkis.push((row, kid, spki));
        }
        let mut keys = Vec::new();
        for (row, kid, spki) in spkis {
            keys.push(Self::key(row, kid, &spki).map_err(KeysFault::Algorithm)?);
        }
        Ok(Keys(keys))
    }

    fn key(row: View<'_>, kid: Cow<'_, str>, spki: &[u8]) -> Result<Key, String> {
        let stated = row.text_of("alg");
        let public = PublicKey::of_spki(spki)
            .ok_or_else(|| format!("key `{kid}` is in neither of the two forms that are allowed"))?;
        let found = public.algorithm();
        if found.name() != stated {
            return Err(format!("key `{kid}` is stated to be `{stated}` but is `{}`", found.name()));
        }
        let usage = row.text_of("use");
        let usage = Usage::of(&usage).ok_or_else(|| format!("key `{kid}` has the unknown use `{usage}`"))?;
        if usage == Usage::Checkpoint && found != Algorithm::Ed25519 {
            return Err(format!("checkpoint key `{kid}` is `{}`, expected `ed25519`", found.name()));
        }
        Ok(Key {
            id: public.id(),
            usage,
            public,
            iss: row.member("iss").and_then(View::text).map(Cow::into_owned),
            revoked_from_index: row.member("revoked_from_index").and_then(View::count),
        })
    }

    /// One key, for any instance.
    pub(crate) fn single(public: PublicKey, usage: Usage) -> Keys {
        Keys(vec![Key { id: public.id(), usage, public, iss: None, revoked_from_index: None }])
    }

    /// Only the keys of instance `iss`.
    pub(crate) fn of_instance(self, iss: &str) -> Keys {
        Keys(self.0.into_iter().filter(|key| key.iss.as_deref() == Some(iss)).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The key of that id, if it has that use.
    pub(crate) fn find(&self, id: Hash, usage: Usage) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id && key.usage == usage)
    }
}

#[cfg(test)]
mod tests;
