//! One event: a file, its signature, and what it says (spec/ledger.md sections 1 and 2).

use std::collections::BTreeSet;

use estoppel_evidence::envelope::{self, from_base64, pae};
use estoppel_evidence::key::KeyError;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{KeyId, PublicKey, Sha256, Signer, canonical};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::body::Body;
use crate::code::{Code, Refusal};
use crate::git::ObjectId;

/// PAE type of an event.
pub const EVENT_TYPE: &str = "application/vnd.estoppel.ledger.event.v0+json";
/// Most bytes of the file of an event.
pub const EVENT_BYTES_MAX: usize = 4 << 20;
/// Most events that one event may follow directly.
const PARENTS_MAX: usize = 256;
/// Longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// An event as it was read. Its signature is not verified yet: the ledger knows whose key it is.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: Sha256,
    pub actor: KeyId,
    pub at: UnixMicros,
    pub body: Body,
    /// The commit that the working tree stood at, as whoever wrote it states.
    pub stood_at: Option<ObjectId>,
    pub host: String,
    pub parents: BTreeSet<Sha256>,
    /// The file.
    pub bytes: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    actor: KeyId,
    at: UnixMicros,
    body: Value,
    host: String,
    kind: String,
    parents: Vec<Sha256>,
    #[serde(default, deserialize_with = "present")]
    stood_at: Option<ObjectId>,
    v: u8,
}

/// A member that is there has a value.
fn present<'d, D: Deserializer<'d>>(from: D) -> Result<Option<ObjectId>, D::Error> {
    ObjectId::deserialize(from).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [Signature; 1],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: KeyId,
    sig: String,
}

impl Event {
    /// Makes and signs an event. `stood_at` is the commit that the working tree stands at, if it has one.
    ///
    /// # Errors
    /// What the signer answers.
    pub fn sign(
        body: &Body,
        parents: &BTreeSet<Sha256>,
        at: UnixMicros,
        host: &str,
        stood_at: Option<&ObjectId>,
        signer: &dyn Signer,
    ) -> Result<Vec<u8>, KeyError> {
        let failed = |error: serde_json::Error| KeyError::Signer { what: error.to_string() };
        let mut document = json!({
            "actor": signer.public().id(), "at": at, "body": body.write().map_err(failed)?, "host": host,
            "kind": body.kind(), "parents": parents, "v": 0,
        });
        if let (Some(commit), Some(members)) = (stood_at, document.as_object_mut()) {
            members.insert("stood_at".into(), json!(commit));
        }
        let payload = serde_json_canonicalizer::to_vec(&document).map_err(failed)?;
        envelope::sign(EVENT_TYPE, &payload, signer)
    }

    /// Reads the file of an event.
    ///
    /// # Errors
    /// `LEDGER_EVENT_INVALID`.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let id = Sha256::of(bytes);
        let wrong = |why: &str| Refusal::new(Code::LedgerEventInvalid, format!("event {id} {why}"));
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(wrong(&format!("has more than {EVENT_BYTES_MAX} bytes")));
        }
        let is_canonical = |bytes: &[u8]| canonical::foreign(bytes).is_ok_and(|canonical| canonical == bytes);
        if !is_canonical(bytes) {
            return Err(wrong("is not canonical JSON"));
        }
        let outer: Envelope =
            serde_json::from_slice(bytes).map_err(|error| wrong(&format!("is no envelope: {error}")))?;
        if outer.payload_type != EVENT_TYPE {
            return Err(wrong("is of another type"));
        }
        let payload = from_base64(&outer.payload).ok_or_else(|| wrong("is not strict base64"))?;
        if !is_canonical(&payload) {
            return Err(wrong("has a payload that is not canonical JSON"));
        }
        let Document { actor, at, body, host, kind, parents, stood_at, v } =
            serde_json::from_slice(&payload).map_err(|error| wrong(&error.to_string()))?;
        let [Signature { keyid, sig }] = outer.signatures;
        let signature = from_base64(&sig).and_then(|sig| sig.try_into().ok());
        let signature = signature.ok_or_else(|| wrong("has no signature of 64 bytes"))?;
        if keyid != actor {
            return Err(wrong("is signed under another key id than that of its actor"));
        }
        if v != 0 {
            return Err(wrong(&format!("is of version {v}, which is not known")));
        }
        if host.len() > HOST_BYTES_MAX || host.chars().any(char::is_control) {
            return Err(wrong("has a host that is none"));
        }
        let is_sorted = parents.is_sorted_by(|a, b| a < b);
        if !is_sorted || parents.len() > PARENTS_MAX {
            return Err(wrong("has parents that are not in order, occur twice or are too many"));
        }
        let body = Body::read(&kind, body)
            .ok_or_else(|| wrong(&format!("of kind `{kind}` does not say what that kind says")))?;
        let parents = parents.into_iter().collect();
        Ok(Self { id, actor, at, body, stood_at, host, parents, bytes: bytes.to_vec(), payload, signature })
    }

    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.id() == self.actor && key.verifies(&pae(EVENT_TYPE, &self.payload), &self.signature)
    }

    /// Where its file is in the tree of the ledger.
    pub fn path(&self) -> String {
        path(self.id)
    }

    /// What was signed, as JSON.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

/// Where the file of an event is in the tree of the ledger.
pub(super) fn path(id: Sha256) -> String {
    let hex = id.hex();
    let (folder, rest) = hex.split_at(2);
    format!("events/{folder}/{rest}.json")
}
