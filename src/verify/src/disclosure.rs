//! A disclosed capture key (SPEC sections 6, 7, 16 and 17): reading it, and what follows from it.

use crate::bundle::ENTRIES;
use crate::container::Files;
use crate::hash::{Hash, hmac};
use crate::reason::Reason;
use crate::report::{Finding, Step};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// Which key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Events,
    Call,
    Run,
}

/// A disclosure that passed E1. Its key is the reader's own input, so it is not guarded further here.
pub(crate) struct Disclosure {
    scope: Scope,
    key: Hash,
    run: String,
    call: Option<String>,
}

impl Disclosure {
    /// E1.
    pub(crate) fn read(bytes: &[u8]) -> Step<Disclosure> {
        let refuse = |detail: String| Finding::new(Reason::DisclosureInvalid, detail);
        Schemas::get()
            .disclosure
            .check(bytes, &mut Slots::default())
            .map_err(|fault| refuse(format!("the disclosure: {}", fault.describe(bytes))))?;
        let view = View::of(bytes);
        let scope = match &*view.text_of("scope") {
            "events" => Scope::Events,
            "call" => Scope::Call,
            _ => Scope::Run,
        };
        let call = view.member("call").and_then(View::text).map(|call| call.into_owned());
        if call.is_some() == (scope == Scope::Run) {
            let detail =
                "the disclosure: expected `call` for the scopes `events` and `call`, and for no other";
            return Err(refuse(detail.to_owned()));
        }
        let key = Hash::of_hex(view.text_of("key").as_bytes())
            .ok_or_else(|| refuse("the disclosure: expected 64 hex digits in `key`".to_owned()))?;
        Ok(Disclosure { scope, key, run: view.text_of("run").into_owned(), call })
    }

    /// E4 and D4: whether the key is said to be of `call`, and is what the run committed to.
    pub(crate) fn check(&self, files: &Files<'_>, call: &str) -> Step {
        let refuse = |detail: &str| Err(Finding::new(Reason::DisclosureMismatch, detail));
        let lines = files.get(ENTRIES).map(|file| file.bytes).unwrap_or_default();
        let open = View::of(lines.split(|byte| *byte == b'\n').next().unwrap_or_default());
        if self.run != open.text_of("run") {
            return refuse("the disclosed key is of another run");
        }
        if self.call.as_ref().is_some_and(|of| of != call) {
            return refuse("the disclosed key is of another call");
        }
        let stated = open.member("capture").map(|capture| capture.text_of("commitment")).unwrap_or_default();
        match self.commitment() {
            Some(found) if Hash::of_text("commit:", stated.as_bytes()) != Some(found) => {
                refuse("the disclosed key is not the one to which the run committed when it was opened")
            }
            _ => Ok(()),
        }
    }

    /// What `run.open` must state as commitment, if the key has one.
    fn commitment(&self) -> Option<Hash> {
        let parts: [&[u8]; 2] = [b"pef/v0/capture-key\0", &self.key.0];
        (self.scope == Scope::Run).then(|| Hash::of(&parts.concat()))
    }

    /// K_events of `call`.
    pub(crate) fn events(&self, call: &str) -> Hash {
        self.call_key(call).map_or(self.key, |key| hmac(&key.0, &[b"pef/v0/sse-events"]))
    }

    /// K_call of `call`, if the key leads to it.
    pub(crate) fn call_key(&self, call: &str) -> Option<Hash> {
        match self.scope {
            Scope::Events => None,
            Scope::Call => Some(self.key),
            Scope::Run => Some(hmac(&self.key.0, &[b"pef/v0/call-key\0", &uuid(call)])),
        }
    }
}

/// The 16 bytes of a UUID that a schema has passed.
fn uuid(text: &str) -> [u8; 16] {
    let digits = text.chars().filter_map(|digit| digit.to_digit(16));
    let number = digits.fold(0u128, |number, digit| number << 4 | u128::from(digit));
    number.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "01234567-89ab-4cde-8f01-23456789abcd";

    fn document(call: &str, scope: &str) -> String {
        let zeros = "0".repeat(64);
        format!(r#"{{{call}"key":"{zeros}","run":"{CALL}","scope":"{scope}","v":"pef-disclosure/v0"}}"#)
    }

    #[test]
    fn a_disclosure_names_a_call_exactly_where_its_key_is_of_one() {
        let named = format!(r#""call":"{CALL}","#);
        for (call, scope, good) in [
            (&*named, "events", true),
            (&named, "call", true),
            (&named, "run", false),
            ("", "run", true),
            ("", "call", false),
            ("", "events", false),
            (&named, "receipt", false),
        ] {
            let read = Disclosure::read(document(call, scope).as_bytes());
            assert_eq!(read.is_ok(), good, "{scope} with `{call}`");
            if let Err(finding) = read {
                assert_eq!(finding.reason, Reason::DisclosureInvalid);
            }
        }
    }

    #[test]
    fn a_uuid_is_its_sixteen_bytes() {
        assert_eq!(uuid(CALL)[..4], [0x01, 0x23, 0x45, 0x67]);
        assert_eq!(uuid(CALL)[12..], [0x67, 0x89, 0xab, 0xcd]);
    }
}
