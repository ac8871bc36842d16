//! DSSE envelopes and in-toto statements (SPEC section 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::hash::Sha256;
use crate::key::{KeyError, KeyId, PublicKey, Signer, dsse_form};

/// PAE type of every entry line.
pub const ENTRY_TYPE: &str = "application/vnd.estoppel.pef.entry.v0+json";
/// PAE type of in-toto statements.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// PAE type of the possession proof inside `key.rotate`.
pub const POSSESSION_TYPE: &str = "application/vnd.estoppel.pef.possession.v0+json";
/// PAE type of the decision inside `approval`.
pub const APPROVAL_TYPE: &str = "application/vnd.estoppel.pef.approval.v0+json";
/// Predicate type of the manifest's statement.
pub const MANIFEST_PREDICATE: &str = "urn:estoppel:pef:manifest:v0";

/// Predicate type of what is planned to be deleted, and of the report that it was (spec/retention.md).
pub const RETENTION_PREDICATE: &str = "urn:estoppel:retention:v0";

/// Predicate type of what a journal says of its deleted segments (SPEC section 12).
pub const BEGINNING_PREDICATE: &str = "urn:estoppel:pef:beginning:v0";

/// Base64 as PEF writes it: RFC 4648 section 4 with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of strict base64 text; `None` for anything else.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// DSSE pre-authentication encoding: the bytes that a signature covers.
pub fn pae(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(kind.len() + body.len() + 32);
    pae_into(&mut out, kind, body);
    out
}

/// [`pae`] into a buffer that is cleared first.
pub fn pae_into(out: &mut Vec<u8>, kind: &str, body: &[u8]) {
    use std::io::Write as _;
    out.clear();
    write!(out, "DSSEv1 {} {kind} {} ", kind.len(), body.len()).expect("a Vec takes every write");
    out.extend_from_slice(body);
}

#[derive(Serialize)]
struct Signature<'a> {
    keyid: KeyId,
    sig: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: &'a str,
    signatures: [Signature<'a>; 1],
}

/// A signed envelope as canonical JSON.
///
/// # Errors
/// What the signer answers.
pub fn sign(kind: &str, payload: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, KeyError> {
    let raw = signer.sign(&pae(kind, payload))?;
    Ok(wrap(kind, payload, signer.public().id(), &dsse_form(signer.public().alg(), &raw)))
}

/// An envelope around a signature that exists already, in its DSSE form.
pub fn wrap(kind: &str, payload: &[u8], keyid: KeyId, signature: &[u8]) -> Vec<u8> {
    let sig = base64(signature);
    let envelope = Envelope {
        payload: base64(payload),
        payload_type: kind,
        signatures: [Signature { keyid, sig: &sig }],
    };
    serde_json::to_vec(&envelope).expect("strings and ids always serialize")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [OpenedSignature; 1],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenedSignature {
    keyid: KeyId,
    sig: String,
}

/// What an envelope holds, whoever signed it; `None` when it is none.
pub fn payload(bytes: &[u8]) -> Option<Vec<u8>> {
    from_base64(&serde_json::from_slice::<Opened>(bytes).ok()?.payload)
}

/// What an envelope of that type holds, if its one signature verifies with the key which it names and `key` gives.
pub fn open(kind: &str, bytes: &[u8], key: impl FnOnce(KeyId) -> Option<PublicKey>) -> Option<Vec<u8>> {
    let Opened { payload, payload_type, signatures: [OpenedSignature { keyid, sig }] } =
        serde_json::from_slice(bytes).ok()?;
    let payload = from_base64(&payload)?;
    let key = key(keyid).filter(|key| key.id() == keyid && payload_type == kind)?;
    key.verifies_dsse(&pae(kind, &payload), &from_base64(&sig)?).then_some(payload)
}

/// What a statement is about: one named thing by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Path in the bundle, or another name.
    pub name: String,
    /// Its content.
    pub digest: Sha256,
}

#[derive(Serialize)]
struct DigestSet {
    sha256: String,
}

#[derive(Serialize)]
struct SubjectDocument<'a> {
    digest: DigestSet,
    name: &'a str,
}

#[derive(Serialize)]
struct Statement<'a, P> {
    #[serde(rename = "_type")]
    kind: &'static str,
    predicate: P,
    #[serde(rename = "predicateType")]
    predicate_type: &'a str,
    subject: Vec<SubjectDocument<'a>>,
}

/// An in-toto Statement v1 as canonical JSON. `predicate` must serialize in canonical form itself: members in order,
/// integers only.
pub fn statement<P: Serialize>(predicate_type: &str, predicate: P, subjects: &[Subject]) -> Vec<u8> {
    let subject = subjects
        .iter()
        .map(|s| SubjectDocument { digest: DigestSet { sha256: s.digest.hex() }, name: &s.name })
        .collect();
    let statement = Statement { kind: "https://in-toto.io/Statement/v1", predicate, predicate_type, subject };
    serde_json::to_vec(&statement).expect("statements hold strings, integers and lists")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SoftKey;

    #[test]
    fn pae_is_that_of_the_dsse_protocol() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn envelopes_are_canonical() {
        let bytes = sign(ENTRY_TYPE, b"{}", &SoftKey::ed25519(&[1; 32])).unwrap();
        assert_eq!(crate::canonical::foreign(&bytes).unwrap(), bytes);
    }

    #[test]
    fn what_is_opened_was_signed_by_the_key_that_is_given() {
        let keys = [SoftKey::ed25519(&[1; 32]), SoftKey::p256(&[1; 32]).unwrap()];
        for key in &keys {
            let bytes = sign(STATEMENT_TYPE, b"{}", key).unwrap();
            let opened = |kind: &str, bytes: &[u8], with: &SoftKey| {
                let public = with.public().clone();
                open(kind, bytes, |_| Some(public))
            };
            assert_eq!(opened(STATEMENT_TYPE, &bytes, key).as_deref(), Some(&b"{}"[..]));
            assert_eq!(payload(&bytes).as_deref(), Some(&b"{}"[..]));
            assert_eq!(opened(ENTRY_TYPE, &bytes, key), None);
            assert_eq!(opened(STATEMENT_TYPE, &bytes, &SoftKey::ed25519(&[2; 32])), None);
            assert_eq!(open(STATEMENT_TYPE, &bytes, |_| None), None);
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(opened(STATEMENT_TYPE, text.replace("e30=", "W10=").as_bytes(), key), None);
        }
    }

    #[test]
    fn statements_are_canonical() {
        #[derive(Serialize)]
        struct Predicate {
            a: u8,
        }
        let bytes = statement(
            MANIFEST_PREDICATE,
            Predicate { a: 1 },
            &[Subject { name: "x".into(), digest: Sha256::of(b"") }],
        );
        assert_eq!(crate::canonical::foreign(&bytes).unwrap(), bytes);
    }

    #[test]
    fn loose_base64_is_refused() {
        assert_eq!(from_base64("QQ=="), Some(vec![b'A']));
        for text in ["QQ", "QQ=", "QR==", "QQ==\n", "Q_=="] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }
}
