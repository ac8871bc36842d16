//! Signed statements that state their key themselves: an envelope of type in-toto around a canonical statement whose
//! predicate has a member `key` (`spec/replay.md`, `spec/attestation.md`).

use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::json::is_strict;
use crate::keys::{PublicKey, STATEMENT_TYPE, base64_decode};
use crate::view::View;

/// A statement whose signature was verified by the key that it states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    pub payload: Vec<u8>,
    pub key: Hash,
}

/// Reads an envelope and verifies it by the key that its statement states. What else the statement says is not looked at, and not
/// whether anybody trusts the key.
///
/// # Errors
/// In words what is wrong.
pub fn read_statement(bytes: &[u8]) -> Result<SignedStatement, String> {
    let envelope = Envelope::read(bytes, STATEMENT_TYPE)?;
    is_strict(&envelope.payload)
        .map_err(|fault| format!("the statement: {}", fault.describe(&envelope.payload)))?;
    let stated =
        View::of(&envelope.payload).member("predicate").and_then(|predicate| predicate.member("key"));
    let key = stated.and_then(key_of).filter(|key| key.id() == envelope.key_id);
    let key = key.ok_or("expected the key of the signature, its hash and its algorithm")?;
    if !envelope.is_signed_by(&key) {
        return Err(format!("the signature is not one of key `{}`", key.id().hex()));
    }
    Ok(SignedStatement { key: key.id(), payload: envelope.payload })
}

/// The key that a statement states, if it is the one that it is called.
pub(crate) fn key_of(stated: View<'_>) -> Option<PublicKey> {
    let public = PublicKey::of_spki(&base64_decode(&stated.text_of("spki"))?)?;
    let is_it =
        public.id().hex() == *stated.text_of("kid") && public.algorithm().name() == &*stated.text_of("alg");
    is_it.then_some(public)
}
