//! Disclosures: one capture key, given to somebody who shall be able to check what was captured with it (SPEC section 16).

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::capture::{CaptureKey, RunCapture};
use crate::hash::{from_hex, hex};
use crate::id::{CallId, RunId};

/// What a disclosed key opens. None leads to a key above it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The units of one call's stream: the least by which one of them can be proven.
    Events(CallId),
    /// One call: its stream, and its bodies.
    Call(CallId),
    /// Everything that was captured of the run.
    Run,
}

/// The document, canonical JSON. It is a secret.
pub fn disclose(key: &CaptureKey, run: RunId, scope: Scope) -> Zeroizing<String> {
    let capture = key.run(run);
    let (name, call, key) = match scope {
        Scope::Events(call) => ("events", Some(call), capture.call(call).events_key()),
        Scope::Call(call) => ("call", Some(call), capture.call_key(call)),
        Scope::Run => ("run", None, key.run_key(run)),
    };
    let call = call.map(|call| format!(r#""call":"{call}","#)).unwrap_or_default();
    let key = Zeroizing::new(hex(&*key));
    Zeroizing::new(format!(
        r#"{{{call}"key":"{}","run":"{run}","scope":"{name}","v":"pef-disclosure/v0"}}"#,
        *key
    ))
}

/// The key of a whole run, out of its disclosure; none if it is no such document.
pub fn run_capture(document: &[u8]) -> Option<(RunId, RunCapture)> {
    let read: Document<'_> = serde_json::from_slice(document).ok()?;
    let key = Zeroizing::new(from_hex::<32>(read.key)?);
    (read.scope == "run" && read.v == "pef-disclosure/v0").then(|| (read.run, RunCapture::new(key)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    key: &'a str,
    run: RunId,
    scope: &'a str,
    v: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the published vectors `valid-event-whole`, `-by-call` and `-by-run`, which were made by other code.
    #[test]
    fn disclosures_are_those_of_the_published_vectors() {
        let vectors = [
            include_str!("../../../spec/pef/vectors/valid-event-whole/disclosure.json"),
            include_str!("../../../spec/pef/vectors/valid-event-whole-by-call/disclosure.json"),
            include_str!("../../../spec/pef/vectors/valid-event-whole-by-run/disclosure.json"),
        ];
        let secret = crate::Sha256::of(b"estoppel test vector capture key");
        let key = CaptureKey::new(crate::hash::from_hex(&secret.hex()).unwrap());
        let run: RunId = "8c48415d-e3d2-4d08-a91c-03dd5ade6f06".parse().unwrap();
        let call: CallId = "444c9a19-7385-4e5e-a1db-d41e800c0a49".parse().unwrap();
        for (vector, scope) in vectors.into_iter().zip([Scope::Events(call), Scope::Call(call), Scope::Run]) {
            assert_eq!(disclose(&key, run, scope).as_str(), vector, "{scope:?}");
            assert!(crate::canonical::foreign(vector.as_bytes()).is_ok());
            let read = run_capture(vector.as_bytes()).map(|(of, key)| (of, key.commitment()));
            assert_eq!(read, (scope == Scope::Run).then(|| (run, key.run(run).commitment())));
        }
    }
}
