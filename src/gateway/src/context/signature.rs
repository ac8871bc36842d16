//! Context headers that a caller signs, on routes with a `context_key`: who may put calls into a run is then not
//! everyone who reaches the listener.
//!
//! `estoppel-context-signature: t=<Unix seconds>,v1=<64 hex digits>`, where v1 is HMAC-SHA-256 with the route's key over
//!
//! ```text
//! estoppel-context/v1
//! <t>
//! <method> <request target>
//! <header name>:<value>        one line for each `estoppel-` header but this one, in the order of names
//! ```
//!
//! each line ended by LF.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;

use crate::headers::OWN_PREFIX;

const SIGNATURE: &str = "estoppel-context-signature";
/// How far the caller's clock may be from ours.
const SKEW_SECONDS: u64 = 300;

/// The secret that callers of a route sign with. `Debug` shows nothing.
#[derive(Clone)]
pub(crate) struct ContextKey(Hmac<sha2::Sha256>);

impl ContextKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    /// Whether the request's context headers are signed, and now. A request without any needs no signature.
    pub(crate) fn admits(&self, head: &Parts, now_seconds: u64) -> bool {
        let mut lines = Vec::new();
        for (name, value) in &head.headers {
            if name.as_str().starts_with(OWN_PREFIX) && name != SIGNATURE {
                let Ok(value) = value.to_str() else { return false };
                lines.push((name.as_str(), value));
            }
        }
        if lines.is_empty() {
            return true;
        }
        lines.sort_unstable();
        let Some((time, mac)) = given(head) else { return false };
        if time.abs_diff(now_seconds) > SKEW_SECONDS {
            return false;
        }
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut text = format!("estoppel-context/v1\n{time}\n{} {target}\n", head.method);
        for (name, value) in lines {
            let _ = writeln!(text, "{name}:{value}"); // a String takes all
        }
        let mut hmac = self.0.clone();
        hmac.update(text.as_bytes());
        hmac.verify_slice(&mac).is_ok()
    }
}

impl std::fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContextKey(***)")
    }
}

/// Time and tag of the one signature header.
fn given(head: &Parts) -> Option<(u64, [u8; 32])> {
    let mut values = head.headers.get_all(SIGNATURE).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (time, mac) = text.strip_prefix("t=")?.split_once(",v1=")?;
    Some((time.parse().ok()?, estoppel_evidence::hash::from_hex(mac)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_795_233_600;
    /// `openssl mac -digest SHA256 -macopt hexkey:0707… HMAC` over the five lines of `signed`.
    const TAG: &str = "2147edb0cb6b8e8ebc9e083d6ad09e4ed0bac17267b18d7be657a79ce5a0a9da";

    fn head(pairs: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::post("/v1/chat/completions?x=1");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn signed(run: &str, t: u64, tag: &str) -> Parts {
        let signature = format!("t={t},v1={tag}");
        head(&[("estoppel-run", run), ("estoppel-job-id", "j"), (SIGNATURE, &signature), ("x", "y")])
    }

    #[test]
    fn only_what_was_signed_is_admitted_and_only_for_a_while() {
        let key = ContextKey::new(&[7; 32]);
        assert!(key.admits(&signed("nightly", T, TAG), T));
        assert!(key.admits(&signed("nightly", T, TAG), T + SKEW_SECONDS));
        assert!(key.admits(&signed("nightly", T, TAG), T - SKEW_SECONDS));
        assert!(!key.admits(&signed("nightly", T, TAG), T + SKEW_SECONDS + 1));
        assert!(!key.admits(&signed("other", T, TAG), T));
        assert!(!key.admits(&signed("nightly", T + 1, TAG), T));
        assert!(!key.admits(&signed("nightly", T, &TAG.to_uppercase()), T));
        assert!(!ContextKey::new(&[8; 32]).admits(&signed("nightly", T, TAG), T));
        let mut other = signed("nightly", T, TAG);
        other.method = http::Method::GET;
        assert!(!key.admits(&other, T));
        let mut more = signed("nightly", T, TAG);
        more.headers.append("estoppel-run", "nightly".parse().unwrap());
        assert!(!key.admits(&more, T));
        let mut twice = signed("nightly", T, TAG);
        twice.headers.append(SIGNATURE, format!("t={T},v1={TAG}").parse().unwrap());
        assert!(!key.admits(&twice, T));
    }

    #[test]
    fn a_call_without_context_needs_no_signature() {
        let key = ContextKey::new(&[7; 32]);
        assert!(key.admits(&head(&[("x", "y")]), T));
        assert!(!key.admits(&head(&[("estoppel-run", "nightly")]), T));
    }
}
