//! DSSE envelopes and in-toto statements (SPEC section 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::hash::Sha256;
use crate::key::{KeyError, KeyId, Signer, dsse_form};

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
