use p256::ecdsa::signature::Signer as _;
use proptest::prelude::*;

use super::*;
use crate::made::{MadeKey, b64};

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn ed25519(key: &str) -> PublicKey {
    PublicKey::of_spki(&[&ED25519_PREFIX[..], &unhex(key)].concat()).unwrap()
}

fn verifies(key: &PublicKey, message: &[u8], signature: &str) -> bool {
    key.verifies(message, unhex(signature).as_slice().try_into().unwrap())
}

/// RFC 8032 section 7.1, tests 1, 2 and 3: key, message, signature.
const RFC_8032: [(&str, &str, &str); 3] = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
];

#[test]
fn the_signatures_of_rfc_8032_verify() {
    for (key, message, signature) in RFC_8032 {
        let key = ed25519(key);
        let message = unhex(message);
        assert!(verifies(&key, &message, signature));
        assert!(!verifies(&key, b"other", signature));
    }
}

/// The order of the group, little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

#[test]
fn s_plus_the_group_order_is_refused() {
    let (key, message, signature) = RFC_8032[1];
    let mut bytes = unhex(signature);
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(unhex(ORDER)) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    let signature: [u8; 64] = bytes.try_into().unwrap();
    assert!(!ed25519(key).verifies(&unhex(message), &signature));
}

/// The points of small order in canonical form, then forms of them that are not canonical.
const SMALL: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

#[test]
fn small_order_keys_and_points_are_refused() {
    // With A of small order, R = A or the neutral point and S = 0 satisfy [S]B = R + [k]A for many messages.
    for a in SMALL {
        for r in SMALL {
            for message in 0..8u8 {
                assert!(!verifies(&ed25519(a), &[message], &format!("{r}{}", "00".repeat(32))), "{a} {r}");
            }
        }
    }
    let honest = MadeKey::new(1);
    let key = PublicKey::of_spki(&honest.spki()).unwrap();
    for r in SMALL {
        assert!(!verifies(&key, b"m", &format!("{r}{}", "00".repeat(32))));
    }
}

#[test]
fn keys_that_are_not_canonical_are_refused() {
    // y = p + 3 and y = p + 4: points of large order written in a second way.
    let mut second_forms = 0;
    for low in 0xed..=0xffu8 {
        for high in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, high);
            assert!(!is_canonical_point(&bytes));
            second_forms += usize::from(ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok());
            let spki = [&ED25519_PREFIX[..], &bytes].concat();
            assert!(matches!(PublicKey::of_spki(&spki).unwrap().point, Point::Ed25519(None)));
        }
    }
    assert!(second_forms > 4, "the library takes such keys, so this check is needed");
    assert!(is_canonical_point(&[0xec; 32]));
    let mut largest = [0xff; 32];
    (largest[0], largest[31]) = (0xec, 0x7f);
    assert!(is_canonical_point(&largest));
}

#[test]
fn bytes_that_are_no_point_verify_nothing() {
    let mut none = 0;
    for y in 2..20u8 {
        let mut bytes = [0; 32];
        bytes[0] = y;
        let key = PublicKey::of_spki(&[&ED25519_PREFIX[..], &bytes].concat()).unwrap();
        none += usize::from(matches!(key.point, Point::Ed25519(None)));
        assert!(!key.verifies(b"m", &[0; 64]));
    }
    assert!(none > 0);
    let off_curve = PublicKey::of_spki(&[&P256_PREFIX[..], &[7; 64]].concat()).unwrap();
    assert!(!off_curve.verifies(b"m", &[1; 64]));
    assert_eq!(off_curve.algorithm(), Algorithm::EcdsaP256Sha256);
}

fn p256_key() -> (p256::ecdsa::SigningKey, PublicKey) {
    let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = secret.verifying_key().to_sec1_point(false);
    let spki = [&P256_PREFIX[..26], point.as_bytes()].concat();
    (secret, PublicKey::of_spki(&spki).unwrap())
}

#[test]
fn p_256_takes_any_s_in_range() {
    let (secret, key) = p256_key();
    let signature: p256::ecdsa::Signature = secret.sign(b"m");
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
    assert_ne!(signature, other);
    for signature in [signature, other] {
        let raw: [u8; 64] = signature.to_bytes().into();
        assert!(key.verifies(b"m", &raw));
        assert!(!key.verifies(b"n", &raw));
        assert!(key.verifies_enveloped(b"m", signature.to_der().as_bytes()));
        assert!(!key.verifies_enveloped(b"m", &raw), "envelopes hold DER");
        let longer = [signature.to_der().as_bytes(), &[0]].concat();
        assert!(!key.verifies_enveloped(b"m", &longer));
        let mut zero = raw;
        zero[32..].fill(0);
        assert!(!key.verifies(b"m", &zero));
        zero = raw;
        zero[..32].fill(0);
        assert!(!key.verifies(b"m", &zero));
        zero = raw;
        zero[32..].fill(0xff);
        assert!(!key.verifies(b"m", &zero));
    }
}

#[test]
fn der_has_one_form() {
    let (secret, key) = p256_key();
    let signature: p256::ecdsa::Signature = secret.sign(b"m");
    let der = signature.to_der().as_bytes().to_vec();
    assert!(key.verifies_enveloped(b"m", &der));
    // A length in two bytes where one is enough.
    let long = [&[der[0], 0x81], &der[1..]].concat();
    assert!(!key.verifies_enveloped(b"m", &long));
    // A zero before r that it does not need, or, if it needs one, a second.
    let mut padded = der.clone();
    padded[1] += 1;
    padded[3] += 1;
    padded.insert(4, 0);
    assert!(!key.verifies_enveloped(b"m", &padded));
}

#[test]
fn an_spki_has_one_of_two_exact_forms() {
    let good = MadeKey::new(1).spki();
    assert_eq!(PublicKey::of_spki(&good).unwrap().algorithm(), Algorithm::Ed25519);
    let (_, p256) = p256_key();
    assert_eq!(p256.spki().len(), 91);
    for at in 0..12 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(PublicKey::of_spki(&bad).is_none());
    }
    for at in 0..27 {
        let mut bad = p256.spki().to_vec();
        bad[at] ^= 1;
        assert!(PublicKey::of_spki(&bad).is_none());
    }
    assert!(PublicKey::of_spki(&good[..43]).is_none());
    assert!(PublicKey::of_spki(&[&good[..], &[0]].concat()).is_none());
    assert!(PublicKey::of_spki(&p256.spki()[..90]).is_none());
    assert!(PublicKey::of_spki(&[p256.spki(), &[0]].concat()).is_none());
    let (secret, _) = p256_key();
    let compressed = secret.verifying_key().to_sec1_point(true);
    assert!(PublicKey::of_spki(&[&P256_PREFIX[..26], compressed.as_bytes()].concat()).is_none());
    assert!(PublicKey::of_spki(b"").is_none());
}

#[test]
fn pae_is_that_of_the_dsse_protocol() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn base64_is_strict() {
    assert_eq!(base64_decode("aGk="), Some(b"hi".to_vec()));
    for text in ["aGk", "aGl=", "aGk=\n", "aG k=", "aGk==", "aGk=aGk=", "-_==", "="] {
        assert_eq!(base64_decode(text), None, "{text:?}");
    }
}

fn read(rows: &str) -> Result<Keys, KeysFault> {
    Keys::read(View::of(rows.as_bytes()))
}

#[test]
fn a_list_of_keys_is_checked_id_by_id_and_then_form_by_form() {
    let key = MadeKey::new(1);
    let row = key.row("receipt").to_string();
    let other = MadeKey::new(2).row("checkpoint").to_string();
    assert_eq!(read(&format!("[{row},{other}]")).unwrap().iter().count(), 2);
    let wrong_alg = row.replace("\"ed25519\"", "\"ecdsa-p256-sha256\"");
    let wrong_id = other.replace(&MadeKey::new(2).id(), &key.id().replace('a', "b"));
    assert!(matches!(read(&format!("[{row},{row}]")), Err(KeysFault::Id(_))));
    let second_use = key.row("manifest").to_string();
    assert!(matches!(read(&format!("[{row},{second_use}]")), Err(KeysFault::Id(_))));
    assert!(matches!(read(&format!("[{wrong_alg}]")), Err(KeysFault::Algorithm(_))));
    assert!(matches!(read(&format!("[{wrong_alg},{wrong_id}]")), Err(KeysFault::Id(_))));
    let spki = [0x30u8, 0];
    let short = format!(
        r#"{{"alg":"ed25519","kid":"{}","spki":"{}","use":"receipt"}}"#,
        Hash::of(&spki).hex(),
        b64(&spki)
    );
    assert!(matches!(read(&format!("[{short}]")), Err(KeysFault::Algorithm(_))));
    let (_, p256) = p256_key();
    let row = |usage: &str| {
        format!(
            r#"{{"alg":"ecdsa-p256-sha256","kid":"{}","spki":"{}","use":"{usage}"}}"#,
            p256.id().hex(),
            b64(p256.spki())
        )
    };
    assert!(read(&format!("[{}]", row("receipt"))).is_ok());
    assert!(matches!(read(&format!("[{}]", row("checkpoint"))), Err(KeysFault::Algorithm(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bit_that_flips_breaks_a_signature(seed: u8, message: Vec<u8>, bit in 0usize..512) {
        let key = MadeKey::new(seed);
        let public = PublicKey::of_spki(&key.spki()).unwrap();
        let mut signature = key.sign(&message);
        prop_assert!(public.verifies(&message, &signature));
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!public.verifies(&message, &signature));
    }

    #[test]
    fn any_bytes_are_a_key_or_not(spki: Vec<u8>, signature: [u8; 64]) {
        for spki in [spki.clone(), [&ED25519_PREFIX[..], &signature[..32]].concat(), [&P256_PREFIX[..], &signature].concat()] {
            if let Some(key) = PublicKey::of_spki(&spki) {
                prop_assert!(!key.verifies(b"m", &signature));
                prop_assert!(!key.verifies_enveloped(b"m", &spki));
            }
        }
    }
}
