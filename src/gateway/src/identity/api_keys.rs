//! API keys of the gateway's own, and the file in which their digests are.
//!
//! A key is `esk_`, its id in 16 hex digits, `_` and 32 random bytes in base64url. The file has one JSON object a line, and of a
//! key nothing but its SHA-256: 256 random bits need no slow hash, and whoever reads the file cannot call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, Sha256};
use serde::{Deserialize, Serialize};

use crate::settings::is_noted_whole;

/// What every key begins with.
pub const PREFIX: &str = "esk_";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// Random bytes of its id.
const ID_BYTES: usize = 8;
const TEXT_BYTES: usize = PREFIX.len() + 2 * ID_BYTES + 1 + 43;
/// Most keys of a file.
const KEYS_MAX: usize = 65_536;
/// Most scopes of a key.
const SCOPES_MAX: usize = 64;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// 16 hex digits; part of the key, and no secret.
    pub id: String,
    /// Of the whole key.
    pub sha256: Sha256,
    /// Who calls with it.
    pub subject: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Box<str>>,
    /// Not taken from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMicros>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub revoked: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A line that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ApiKeyError {
    pub line: usize,
    pub problem: String,
}

impl ApiKey {
    /// A key and its line, from random bytes.
    pub fn new(random: [u8; ID_BYTES + SECRET_BYTES], subject: &str, tenant: Option<&str>) -> (String, Self) {
        let (id, secret) = random.split_at(ID_BYTES);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = Sha256::of(text.as_bytes());
        let (subject, tenant) = (subject.into(), tenant.map(Into::into));
        (text, Self { id, sha256, subject, tenant, scopes: Vec::new(), expires: None, revoked: false })
    }

    /// Why it is not taken any more.
    pub(super) fn is_over(&self, now_us: u64) -> Option<Reason> {
        let has_expired = self.expires.is_some_and(|expires| expires.0 <= now_us);
        let expired = has_expired.then_some(Reason::ApiKeyInvalid);
        self.revoked.then_some(Reason::IdentityRevoked).or(expired)
    }

    /// What is wrong with it.
    pub fn check(&self) -> Option<&'static str> {
        let names = [Some(&self.subject), self.tenant.as_ref()];
        if self.id.len() != 2 * ID_BYTES || !self.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Some("the id has to be 16 hex digits in lower case")
        } else if !names.into_iter().flatten().all(|name| is_noted_whole(name)) {
            Some("subject and tenant have to be 1 to 128 characters, none of them a control character")
        } else if self.scopes.len() > SCOPES_MAX || self.scopes.iter().any(|scope| scope.is_empty()) {
            Some("at most 64 scopes, none of them empty")
        } else {
            None
        }
    }
}

/// The keys of a file.
///
/// # Errors
/// The first line that cannot be used. Empty lines and those that begin with `#` are passed over.
pub fn read(bytes: &[u8]) -> Result<Vec<ApiKey>, ApiKeyError> {
    let text = str::from_utf8(bytes).map_err(|_| ApiKeyError { line: 1, problem: "not UTF-8".into() })?;
    let mut keys: Vec<ApiKey> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem: String| ApiKeyError { line: at + 1, problem };
        let key: ApiKey = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if let Some(problem) = key.check() {
            return Err(wrong(problem.into()));
        }
        if !ids.insert(key.id.clone()) {
            return Err(wrong(format!("the id `{}` is that of an earlier line", key.id)));
        }
        if keys.len() == KEYS_MAX {
            return Err(wrong("more than 65,536 keys".into()));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Keys by id.
#[derive(Debug, Default)]
pub(super) struct ApiKeys(HashMap<Box<str>, Arc<ApiKey>>);

impl ApiKeys {
    pub(super) fn new(keys: Vec<ApiKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id.as_str().into(), Arc::new(key))).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key that `presented` is. Takes the same time whichever key it is not.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn find(&self, presented: &PresentedKey) -> Result<&Arc<ApiKey>, Reason> {
        let known = presented.id.as_deref().and_then(|id| self.0.get(id));
        let nothing = Sha256([0; 32]);
        let stored = known.map_or(&nothing, |key| &key.sha256);
        let is_same = verify_slices_are_equal(&stored.0, &presented.digest.0).is_ok();
        known.filter(|_| is_same).ok_or(Reason::ApiKeyInvalid)
    }

    /// Whether each key is taken, by id.
    pub(super) fn states(&self) -> BTreeMap<String, bool> {
        self.0.values().map(|key| (key.id.clone(), !key.revoked)).collect()
    }
}

/// A key as a caller sent it; not its text.
#[derive(Debug)]
pub(crate) struct PresentedKey {
    id: Option<Box<str>>,
    digest: Sha256,
}

impl PresentedKey {
    /// None if it is not meant to be one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let id = rest.split('_').next().filter(|_| text.len() == TEXT_BYTES);
        Some(Self { id: id.map(Into::into), digest: Sha256::of(text.as_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_233_600_000_000;

    fn key(byte: u8) -> (String, ApiKey) {
        ApiKey::new([byte; 40], "billing", Some("acme"))
    }

    fn find(keys: Vec<ApiKey>, text: &str) -> Result<String, Reason> {
        let keys = ApiKeys::new(keys);
        let key = keys.find(&PresentedKey::read(text).unwrap())?;
        key.is_over(NOW).map_or_else(|| Ok(key.subject.to_string()), Err)
    }

    #[test]
    fn only_the_whole_key_is_taken() {
        let ((text, one), (other, _)) = (key(1), key(2));
        assert_eq!(text.len(), TEXT_BYTES);
        assert_eq!(find(vec![one.clone()], &text), Ok("billing".into()));
        let mixed = format!("{}{}", &text[..21], &other[21..]);
        for wrong in [&other, &mixed, &text[..TEXT_BYTES - 1], &format!("{text}A"), "esk_", "esk__"] {
            assert_eq!(find(vec![one.clone()], wrong), Err(Reason::ApiKeyInvalid), "{wrong}");
        }
        assert!(PresentedKey::read("sk-proj-1").is_none());
    }

    #[test]
    fn keys_end() {
        let (text, one) = key(1);
        let expires = |us| ApiKey { expires: Some(UnixMicros(us)), ..one.clone() };
        assert_eq!(find(vec![expires(NOW + 1)], &text), Ok("billing".into()));
        assert_eq!(find(vec![expires(NOW)], &text), Err(Reason::ApiKeyInvalid));
        let revoked = ApiKey { revoked: true, ..one };
        assert_eq!(find(vec![revoked.clone()], &text), Err(Reason::IdentityRevoked));
        let guess = format!("{}{}", &text[..21], &key(2).0[21..]);
        assert_eq!(
            find(vec![revoked], &guess),
            Err(Reason::ApiKeyInvalid),
            "whoever guesses is told nothing"
        );
    }

    #[test]
    fn a_file_is_taken_whole_or_not() {
        let ((_, one), (_, two)) = (key(1), key(2));
        let line = |key: &ApiKey| serde_json::to_string(key).unwrap();
        let text = format!("# keys\n\n{}\n{}\n", line(&one), line(&two));
        assert!(!text.contains("revoked") && !text.contains("scopes"));
        assert_eq!(read(text.as_bytes()).unwrap(), [one.clone(), two]);
        let bad_id = ApiKey { id: "A".repeat(16), ..one.clone() };
        let bad_subject = ApiKey { subject: "".into(), ..one.clone() };
        let unknown = line(&one).replacen('{', "{\"admin\":true,", 1);
        for bad in [line(&bad_id), line(&bad_subject), unknown, "{}".into(), line(&one)] {
            let error = read(format!("{}\n{bad}", line(&one)).as_bytes()).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
        }
    }
}
