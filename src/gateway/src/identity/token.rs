//! Signed tokens (RFC 7515, RFC 7519, RFC 8725), as far as they can be read without a key.
//!
//! Absent on purpose: encrypted tokens, unsigned ones, keys that a token brings or points at, `crit`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::{Object, object};
use crate::settings::Algorithm;

/// Longest token that is looked into.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Types of tokens that say who calls (RFC 9068 section 2.1). Others an issuer signs for something else, as for logging out.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// A token whose form is right. Nothing of it is believed.
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Object,
    message: &'t [u8],
    signature: Vec<u8>,
}

/// What a bearer's credential looks like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// No token with claims.
    Opaque,
    /// A token of whoever it says; none where that cannot be read.
    Of(Option<String>),
}

/// What kind of credential it is, and whose if it says so.
pub(super) fn form(text: &str) -> Form {
    let Some((header, claims, _)) = parts(text) else { return Form::Opaque };
    if text.len() > TOKEN_BYTES_MAX {
        return Form::Of(None);
    }
    // Members that come twice are found below: such a token is one, and refused.
    let is_header = |bytes: Vec<u8>| serde_json::from_slice::<Object>(&bytes).is_ok();
    if !decoded(header).is_some_and(is_header) {
        return Form::Opaque;
    }
    let claims = decoded(claims).and_then(|bytes| object(&bytes));
    Form::Of(claims.and_then(|claims| claims.get("iss")?.as_str().map(str::to_owned)))
}

impl<'t> Token<'t> {
    /// None if anything in its form or its header is not as it has to be.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let (header, claims, signature) = parts(text).filter(|_| text.len() <= TOKEN_BYTES_MAX)?;
        let message = &text.as_bytes()[..header.len() + 1 + claims.len()];
        let header = object(&decoded(header)?)?;
        let word = |name: &str| match header.get(name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text.as_str())),
            Some(_) => None,
        };
        let kind = word("typ")?.map(str::to_ascii_lowercase);
        if header.contains_key("crit") || kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::parse(word("alg")??)?,
            kid: word("kid")?.map(str::to_owned),
            claims: object(&decoded(claims)?)?,
            message,
            signature: decoded(signature)?,
        })
    }

    /// Whether `key` signed it.
    pub(super) fn is_signed_by(&self, key: &super::key_set::Key) -> bool {
        key.signed(self.message, &self.signature)
    }
}

fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some((header, claims, signature))
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        [header, claims, "sig"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    #[test]
    fn headers_that_ask_for_something_else_are_refused() {
        let claims = r#"{"iss":"i"}"#;
        let read =
            |header: &str| Token::read(&token(header, claims)).map(|token| (token.algorithm, token.kid));
        assert_eq!(read(r#"{"alg":"ES256"}"#), Some((Algorithm::ES256, None)));
        assert_eq!(
            read(r#"{"alg":"EdDSA","kid":"k","typ":"AT+jwt"}"#),
            Some((Algorithm::EdDSA, Some("k".into())))
        );
        // A key that it brings is not looked at.
        assert!(read(r#"{"alg":"RS256","jwk":{},"jku":"http://x","x5c":["a"]}"#).is_some());
        for header in [
            "{}",
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":"es256"}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","typ":"logout+jwt"}"#,
            r#"{"alg":"ES256","typ":1}"#,
            r#"{"alg":"ES256","crit":["exp"]}"#,
            r#"{"alg":"ES256","crit":[],"b64":false}"#,
        ] {
            assert_eq!(read(header), None, "{header}");
        }
    }

    #[test]
    fn claims_that_two_readers_could_read_in_two_ways_are_refused() {
        let header = r#"{"alg":"ES256"}"#;
        for claims in [r#"{"sub":"a","sub":"b"}"#, r#"{"iss":"i","act":{"sub":"a","sub":"b"}}"#, "[]", ""] {
            let text = token(header, claims);
            assert!(Token::read(&text).is_none(), "{claims}");
            assert_eq!(form(&text), Form::Of(None), "{claims}");
        }
        let good = token(header, r#"{"iss":"i"}"#);
        assert_eq!(form(&good), Form::Of(Some("i".into())));
        assert!(Token::read(&good).is_some());
        let padded = good.replacen('.', "=.", 1);
        assert!(Token::read(&padded).is_none() && Token::read(&format!("{good}.")).is_none());
    }

    #[test]
    fn what_has_no_claims_is_opaque_and_what_is_too_large_is_no_token() {
        for text in ["", "sk-abc", "a.b", "a.b.c", "a.b.c.d.e", "..", "sk.proj.x"] {
            assert_eq!(form(text), Form::Opaque, "{text}");
            assert!(Token::read(text).is_none());
        }
        let huge =
            token(r#"{"alg":"ES256"}"#, &format!(r#"{{"iss":"i","x":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX)));
        assert!(Token::read(&huge).is_none());
        assert_eq!(form(&huge), Form::Of(None));
    }
}
