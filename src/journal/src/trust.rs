//! The trust document of a journal: every key that the instance ever signed with (SPEC section 10).

use serde::{Deserialize, Serialize};

use estoppel_evidence::{Alg, Instance, KeyId, PublicKey, Use, envelope};

/// Largest document that is read.
pub(crate) const BYTES_MAX: u64 = 1 << 20;
/// Most keys; the schema's limit.
pub const KEYS_MAX: usize = 1_024;

/// Keys by which entries, checkpoints and manifests of one instance are verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustDocument {
    /// Oldest first.
    pub keys: Vec<TrustRow>,
    v: Version,
}

/// One key. Fields stand in canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRow {
    pub alg: Alg,
    pub iss: Instance,
    pub kid: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_from_index: Option<u64>,
    /// Base64 of the DER form.
    pub spki: String,
    pub r#use: Use,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Version {
    #[default]
    #[serde(rename = "pef-trust/v0")]
    V0,
}

/// The document cannot take another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trust document holds {KEYS_MAX} keys, which is its limit; start a new epoch")]
pub struct TrustFull;

impl TrustDocument {
    /// No keys yet.
    pub fn new() -> Self {
        Self { keys: Vec::new(), v: Version::V0 }
    }

    /// Reads a document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("rows hold strings and integers")
    }

    /// Adds a key unless it is there. Whether it was added.
    pub(crate) fn add(&mut self, iss: &Instance, key: &PublicKey, use_: Use) -> Result<bool, TrustFull> {
        if self.keys.iter().any(|row| row.kid == key.id()) {
            return Ok(false);
        }
        if self.keys.len() == KEYS_MAX {
            return Err(TrustFull);
        }
        self.keys.push(TrustRow {
            alg: key.alg(),
            iss: iss.clone(),
            kid: key.id(),
            revoked_from_index: None,
            spki: envelope::base64(key.spki()),
            r#use: use_,
        });
        Ok(true)
    }
}

impl Default for TrustDocument {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use estoppel_evidence::{Signer as _, SoftKey};

    #[test]
    fn documents_are_canonical_and_read_back() {
        let mut document = TrustDocument::new();
        let iss = "gw.local/main/1".parse().unwrap();
        assert_eq!(document.add(&iss, SoftKey::ed25519(&[1; 32]).public(), Use::Receipt), Ok(true));
        assert_eq!(document.add(&iss, SoftKey::ed25519(&[1; 32]).public(), Use::Receipt), Ok(false));
        document.add(&iss, SoftKey::p256(&[1; 32]).unwrap().public(), Use::Manifest).unwrap();
        let bytes = document.to_bytes();
        assert_eq!(estoppel_evidence::canonical::foreign(&bytes).unwrap(), bytes);
        assert_eq!(TrustDocument::parse(&bytes).unwrap(), document);
    }
}
