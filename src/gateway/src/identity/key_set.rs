//! Public keys of an issuer (RFC 7517). Keys that cannot check one of our three signatures are passed over: a set may hold
//! others for other readers.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::settings::Algorithm;

/// Most keys of one issuer that are used.
const KEYS_MAX: usize = 64;
/// Longest name of a key.
const KID_BYTES_MAX: usize = 256;

/// The keys of one issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
pub(super) struct Key {
    kid: Option<Box<str>>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    use_: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// # Errors
    /// What is wrong with the whole: it is no key set, or has no key that could be used, or too many.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let document: Document = serde_json::from_slice(bytes).map_err(|_| "it is no JSON Web Key Set")?;
        let jwks = document.keys.into_iter().filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
        let keys: Vec<Key> = jwks.filter_map(Jwk::key).collect();
        match keys.len() {
            0 => Err("it has no key for EdDSA, ES256 or RS256"),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err("it has more than 64 keys"),
        }
    }

    /// Those that may have made a signature; all that fit if the token names none.
    pub(super) fn of<'s>(
        &'s self,
        kid: Option<&'s str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'s Key> + 's {
        let named = move |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.0.iter().filter(named).filter(move |key| key.algorithm() == algorithm)
    }
}

impl Key {
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    fn algorithm(&self) -> Algorithm {
        match self.public {
            Public::Ed25519(_) => Algorithm::EdDSA,
            Public::P256(_) => Algorithm::ES256,
            Public::Rsa { .. } => Algorithm::RS256,
        }
    }

    /// Whether this key signed `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.public {
            Public::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature),
            Public::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Public::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        verified.is_ok()
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        let part = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?).ok();
        let for_signatures = self.use_.as_deref().is_none_or(|use_| use_ == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures || self.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return None;
        }
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Public::Ed25519(part(&self.x).filter(|x| x.len() == 32)?),
            ("EC", Some("P-256")) => {
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                let point = [&[4][..], &x, &y].concat();
                (x.len() == 32 && y.len() == 32).then_some(Public::P256(point))?
            }
            ("RSA", _) => {
                let (n, e) = (part(&self.n)?, part(&self.e)?);
                (256..=1_024).contains(&n.len()).then_some(Public::Rsa { n, e })?
            }
            _ => return None,
        };
        let key = Key { kid: self.kid.map(Into::into), public };
        let fits = self.alg.as_deref().is_none_or(|alg| Algorithm::parse(alg) == Some(key.algorithm()));
        fits.then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(keys: &Value) -> Result<KeySet, &'static str> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn ed25519(more: &Value) -> Value {
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "k" });
        more.as_object().unwrap().iter().for_each(|(name, value)| key[name] = value.clone());
        key
    }

    /// RFC 8037 appendix A.4.
    #[test]
    fn a_published_signature_is_verified_and_no_other() {
        let keys = read(&json!([{ "kty": "oct", "k": "AA" }, ed25519(&json!({}))])).unwrap();
        let key = keys.of(Some("k"), Algorithm::EdDSA).next().unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = URL_SAFE_NO_PAD
            .decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
            .unwrap();
        assert!(key.signed(message, &signature));
        assert!(!key.signed(&message[1..], &signature) && !key.signed(message, &signature[1..]));
        assert_eq!(keys.of(Some("other"), Algorithm::EdDSA).count(), 0);
        assert_eq!(keys.of(Some("k"), Algorithm::ES256).count(), 0);
        assert_eq!(keys.of(None, Algorithm::EdDSA).count(), 1);
    }

    #[test]
    fn keys_that_are_not_for_this_are_passed_over() {
        for more in [
            json!({ "use": "enc" }),
            json!({ "key_ops": ["sign"] }),
            json!({ "alg": "ES256" }),
            json!({ "crv": "X25519" }),
            json!({ "x": "AA" }),
            json!({ "x": null }),
            json!({ "kty": "oct" }),
            json!({ "kid": "k".repeat(257) }),
            json!({ "kid": 1 }),
        ] {
            assert!(read(&json!([ed25519(&more)])).is_err(), "{more}");
        }
        assert!(
            read(&json!([ed25519(&json!({ "use": "sig", "alg": "EdDSA", "key_ops": ["verify"] }))])).is_ok()
        );
        assert!(KeySet::read(b"{}").is_err() && KeySet::read(b"").is_err());
        let small = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB" });
        assert!(read(&json!([small])).is_err(), "1,024 bits");
    }
}
