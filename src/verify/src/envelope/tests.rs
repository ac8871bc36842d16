use super::*;
use crate::keys::{ENTRY_TYPE, STATEMENT_TYPE};
use crate::made::{MadeKey, b64};

fn good() -> String {
    String::from_utf8(MadeKey::new(1).envelope(ENTRY_TYPE, b"{}")).unwrap()
}

#[test]
fn an_envelope_is_read_and_verified() {
    let key = PublicKey::of_spki(&MadeKey::new(1).spki()).unwrap();
    let other = PublicKey::of_spki(&MadeKey::new(2).spki()).unwrap();
    let envelope = Envelope::read(good().as_bytes(), ENTRY_TYPE).unwrap();
    assert_eq!(envelope.payload, b"{}");
    assert_eq!(envelope.key_id, key.id());
    assert!(envelope.is_signed_by(&key));
    assert!(!envelope.is_signed_by(&other));
}

#[test]
fn a_signature_of_another_type_does_not_verify() {
    let text = good().replace(ENTRY_TYPE, STATEMENT_TYPE);
    let envelope = Envelope::read(text.as_bytes(), STATEMENT_TYPE).unwrap();
    assert!(!envelope.is_signed_by(&PublicKey::of_spki(&MadeKey::new(1).spki()).unwrap()));
}

#[test]
fn any_other_form_is_refused() {
    let text = good();
    let id = MadeKey::new(1).id();
    let signature = text[text.find("[{").unwrap() + 1..text.find("}]").unwrap() + 1].to_owned();
    for bad in [
        String::new(),
        format!("{text}\n"),
        format!(" {text}"),
        text.replace(':', ": "),
        text.replace("\"payload\"", "\"body\""),
        text.replace("{\"payload\"", "{\"a\":1,\"payload\""),
        text.replace(&b64(b"{}"), "e30"),
        text.replace(&b64(b"{}"), "e31="),
        text.replace(&b64(b"{}"), "e30=\\n"),
        text.replace(&id, &id.to_uppercase()),
        text.replace(&id, ""),
        text.replace(&signature, &format!("{signature},{signature}")),
        text.replace(&signature, ""),
        text.replace("\"sig\"", "\"note\":1,\"sig\""),
        text.replace(ENTRY_TYPE, "text/plain"),
        text.replace("==\"}", "=\"}"),
    ] {
        assert_ne!(bad, text);
        assert!(Envelope::read(bad.as_bytes(), ENTRY_TYPE).is_err(), "{bad}");
    }
    assert!(Envelope::read(text.as_bytes(), STATEMENT_TYPE).is_err());
}
