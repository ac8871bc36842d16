//! DSSE envelopes (SPEC section 3; step M5 of section 11).

use crate::hash::Hash;
use crate::keys::{PublicKey, base64_decode, pae};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// An envelope in its one allowed form. Nothing is verified yet.
pub(crate) struct Envelope {
    pub payload: Vec<u8>,
    pub key_id: Hash,
    kind: &'static str,
    signature: Vec<u8>,
}

impl Envelope {
    /// Reads an envelope with a payload of type `kind`; says in words what is wrong with it.
    pub(crate) fn read(bytes: &[u8], kind: &'static str) -> Result<Envelope, String> {
        if let Err(fault) = Schemas::get().envelope.check(bytes, &mut Slots::default()) {
            return Err(fault.describe(bytes));
        }
        let envelope = View::of(bytes);
        let found = envelope.text_of("payloadType");
        if found != kind {
            return Err(format!("expected payload type `{kind}`, found `{found}`"));
        }
        let strict = |what: &str, text: &str| {
            base64_decode(text).ok_or_else(|| format!("`{what}` is not strict base64"))
        };
        let payload = strict("payload", &envelope.text_of("payload"))?;
        let signature = envelope.member("signatures").and_then(|list| list.items().next());
        let signature = signature.ok_or("expected one signature")?;
        Ok(Envelope {
            payload,
            key_id: Hash::of_hex(signature.text_of("keyid").as_bytes()).ok_or("expected a key id")?,
            kind,
            signature: strict("sig", &signature.text_of("sig"))?,
        })
    }

    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies_enveloped(&pae(self.kind, &self.payload), &self.signature)
    }
}

#[cfg(test)]
mod tests;
