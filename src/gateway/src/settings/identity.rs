//! Who may call, and by what callers prove it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, is_local, is_name, origin};

/// Most issuers; each has keys in memory and an origin that is asked for them.
const ISSUERS_MAX: usize = 16;
/// Longest time that may be set, seconds.
const SECONDS_MAX: u64 = 7 * 86_400;
/// Most that clocks may differ, seconds.
const LEEWAY_MAX: u64 = 300;

/// What proves who calls, beside the certificates that a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Keys that the operator gave out. None by default.
    pub api_keys: Option<File>,
    /// Who is not taken any more. None by default.
    pub revoked: Option<File>,
    /// Which tenants certificates belong to.
    pub certificates: Certificates,
    /// Issuers of bearer tokens, at most 16.
    pub jwt: Vec<Jwt>,
}

/// A file that is looked at again and again. Whoever can write it decides who may call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub file: PathBuf,
}

/// What is said of clients' certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// The first that takes the certificate's subject says its tenant.
    pub tenants: Vec<CertificateTenant>,
}

/// A tenant by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateTenant {
    /// DNS name that the subject is, or ends in as a whole label.
    pub name: String,
    pub tenant: String,
}

/// An issuer whose tokens are taken. Whoever can edit this chooses who is believed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Name in logs, metrics and receipts.
    pub name: String,
    /// `iss` of its tokens, to the letter.
    pub issuer: String,
    /// What this gateway is called in `aud`; one of them has to be there.
    pub audience: Vec<String>,
    /// Where its keys are (RFC 7517): `https`, or on this machine.
    pub jwks_url: Option<String>,
    /// File with its keys, in the place of `jwks_url`; read again when it changes.
    pub jwks_file: Option<PathBuf>,
    /// PEM certificates that are trusted for `jwks_url` instead of the built-in web roots.
    pub ca: Option<PathBuf>,
    /// Algorithms that are taken. Default: all three.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be from ours. Default 30 s, at most 300.
    #[serde(default = "leeway_s")]
    pub leeway_s: u64,
    /// Claim that says who calls. Default `sub`.
    #[serde(default = "sub")]
    pub subject_claim: String,
    /// Put before it, so that two issuers never name the same subject. Default none; needed where there are several.
    #[serde(default)]
    pub subject_prefix: String,
    /// Claim that says whose caller it is; a token without it is not taken. None by default.
    pub tenant_claim: Option<String>,
    /// Tenant of all of its callers, in the place of `tenant_claim`. None by default.
    pub tenant: Option<String>,
    /// Claim with what the token is good for: words in one text, or a list. Default `scope`.
    #[serde(default = "scope")]
    pub scope_claim: String,
    /// What else a token has to say. None by default.
    #[serde(default)]
    pub required_claims: Vec<RequiredClaim>,
    /// Keys are fetched again after this long. Default 300 s.
    #[serde(default = "refresh_s")]
    pub refresh_s: u64,
    /// Keys that could not be fetched again are used so long. Default 3,600 s; then tokens are answered 503 `ISSUER_DOWN`.
    #[serde(default = "stale_s")]
    pub stale_s: u64,
    /// How long a fetch may take. Default 3,000 ms.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// A claim that has this value, or is a list that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    pub claim: String,
    pub value: String,
}

/// How a token is signed. What is not here is never taken: neither `none` nor anything with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDSA,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2,048 to 8,192 bits.
    RS256,
}

impl Algorithm {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "EdDSA" => Self::EdDSA,
            "ES256" => Self::ES256,
            "RS256" => Self::RS256,
            _ => return None,
        })
    }
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256]
}

fn leeway_s() -> u64 {
    30
}

fn sub() -> String {
    "sub".into()
}

fn scope() -> String {
    "scope".into()
}

fn refresh_s() -> u64 {
    300
}

fn stale_s() -> u64 {
    3_600
}

fn timeout_ms() -> u64 {
    3_000
}

impl Identity {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        let mut wrong = |key: String, problem: &str| {
            errors.push(SettingsError { key: format!("identity.{key}"), problem: problem.into() });
        };
        for (i, tenant) in self.certificates.tenants.iter().enumerate() {
            if tenant.name.is_empty() || !is_noted_whole(&tenant.tenant) {
                wrong(
                    format!("certificates.tenants[{i}]"),
                    "needs a name and a tenant of 1 to 128 characters",
                );
            }
        }
        if self.jwt.len() > ISSUERS_MAX {
            wrong("jwt".into(), "at most 16 issuers");
        }
        let mut names = BTreeSet::new();
        for (i, jwt) in self.jwt.iter().enumerate() {
            for (key, problem) in jwt.check() {
                wrong(format!("jwt[{i}].{key}"), &problem);
            }
            if !names.insert(&jwt.name) {
                wrong(format!("jwt[{i}].name"), "is the name of an earlier issuer");
            }
            for earlier in &self.jwt[..i] {
                let (a, b) = (&earlier.subject_prefix, &jwt.subject_prefix);
                if earlier.issuer == jwt.issuer {
                    wrong(format!("jwt[{i}].issuer"), "is that of an earlier one");
                }
                if a.starts_with(b) || b.starts_with(a) {
                    wrong(
                        format!("jwt[{i}].subject_prefix"),
                        "two issuers could name the same subject; give each a prefix with which no other begins",
                    );
                }
            }
        }
        errors
    }
}

impl Jwt {
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut errors = Vec::new();
        let mut wrong = |key: &'static str, problem: &str| errors.push((key, problem.to_owned()));
        if !is_name(&self.name) {
            wrong("name", super::NAME_RULE);
        }
        if self.issuer.is_empty() {
            wrong("issuer", "must not be empty");
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            wrong("audience", "says what this gateway is called; a token for anybody is a token for nobody");
        }
        if self.algorithms.is_empty() {
            wrong("algorithms", "needs one of EdDSA, ES256 and RS256");
        }
        match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) => match origin(url) {
                Err(problem) => wrong("jwks_url", &problem),
                Ok(origin) if !origin.tls && !is_local(&origin.host) => {
                    wrong("jwks_url", "must start with `https://` unless it is on this machine");
                }
                Ok(origin) if !origin.tls && self.ca.is_some() => {
                    wrong("ca", "has no effect without an `https://` URL");
                }
                Ok(_) => {}
            },
            (None, Some(_)) if self.ca.is_some() => wrong("ca", "has no effect without `jwks_url`"),
            (None, Some(_)) => {}
            _ => wrong("jwks_url", "needs one of `jwks_url` and `jwks_file`"),
        }
        if self.tenant.is_some() && self.tenant_claim.is_some() {
            wrong("tenant", "has no effect beside `tenant_claim`");
        }
        if self.tenant.as_deref().is_some_and(|tenant| !is_noted_whole(tenant)) {
            wrong("tenant", "must have 1 to 128 characters");
        }
        for (key, claim) in [
            ("subject_claim", Some(&self.subject_claim)),
            ("scope_claim", Some(&self.scope_claim)),
            ("tenant_claim", self.tenant_claim.as_ref()),
        ] {
            if claim.is_some_and(String::is_empty) {
                wrong(key, "must not be empty");
            }
        }
        if self.leeway_s > LEEWAY_MAX {
            wrong("leeway_s", "must be at most 300");
        }
        for (key, seconds) in [("refresh_s", self.refresh_s), ("stale_s", self.stale_s)] {
            if !(1..=SECONDS_MAX).contains(&seconds) {
                wrong(key, "must be between 1 and 604,800");
            }
        }
        if !(1..=60_000).contains(&self.timeout_ms) {
            wrong("timeout_ms", "must be between 1 and 60,000");
        }
        errors
    }
}

/// Whether a receipt has all of it, unchanged: what is cut could be somebody else.
pub(crate) fn is_noted_whole(text: &str) -> bool {
    !text.is_empty() && estoppel_evidence::text::name(text) == text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(value: serde_json::Value) -> Vec<String> {
        let identity: Identity = serde_json::from_value(value).unwrap();
        identity.check().into_iter().map(|error| error.key).collect()
    }

    fn jwt(name: &str, more: serde_json::Value) -> serde_json::Value {
        let mut jwt = json!({ "name": name, "issuer": format!("https://{name}"), "audience": ["gw"], "jwks_file": "f" });
        for (key, value) in more.as_object().unwrap() {
            jwt[key] = value.clone();
        }
        jwt
    }

    #[test]
    fn what_would_weaken_it_is_refused_with_its_key() {
        assert_eq!(keys(json!({ "jwt": [jwt("a", json!({}))] })), [""; 0]);
        for (more, key) in [
            (json!({ "audience": [] }), "audience"),
            (json!({ "algorithms": [] }), "algorithms"),
            (json!({ "jwks_file": null }), "jwks_url"),
            (json!({ "jwks_url": "https://a" }), "jwks_url"),
            (json!({ "jwks_file": null, "jwks_url": "http://a.example/k" }), "jwks_url"),
            (json!({ "jwks_file": null, "jwks_url": "http://127.0.0.1/k", "ca": "c" }), "ca"),
            (json!({ "leeway_s": 301 }), "leeway_s"),
            (json!({ "tenant": "x", "tenant_claim": "y" }), "tenant"),
            (json!({ "tenant": "x".repeat(129) }), "tenant"),
            (json!({ "refresh_s": 0 }), "refresh_s"),
        ] {
            assert_eq!(keys(json!({ "jwt": [jwt("a", more)] })), [format!("identity.jwt[0].{key}")]);
        }
        let hs = jwt("a", json!({ "algorithms": ["HS256"] }));
        assert!(serde_json::from_value::<Identity>(json!({ "jwt": [hs] })).is_err());
    }

    #[test]
    fn two_issuers_never_name_the_same_subject() {
        let two = |a: &str, b: &str| {
            let prefix = |name: &str, prefix: &str| jwt(name, json!({ "subject_prefix": prefix }));
            keys(json!({ "jwt": [prefix("a", a), prefix("b", b)] }))
        };
        assert_eq!(two("a:", "b:"), [""; 0]);
        for (a, b) in [("", "b:"), ("a", "ab"), ("x", "x")] {
            assert_eq!(two(a, b), ["identity.jwt[1].subject_prefix"]);
        }
    }
}
