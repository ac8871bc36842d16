//! What a held MCP request asks for, whatever its id and round: what people let pass, because its client sends it again under
//! another id (SPEC section 4, `hold`).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use estoppel_evidence::HoldId;
use estoppel_evidence::capture::{Label, RunCapture};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::mcp::agreement::is_mirrored;
use crate::members::Members;

/// What a state begins with that the gateway gives out.
const STATE: &str = "estoppel-hold.";
/// Requests that may be answered with what is needed before there is a result (MCP 2026-07-28, multi round-trip requests).
const ROUNDS: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
const META: &str = "_meta";
const REQUEST_STATE: &str = "requestState";
/// The member of `_meta` with the protocol version.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// A request that asks for something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) digest: [u8; 32],
    /// What its client was given to bring back.
    pub(super) state: Option<Box<str>>,
    /// Its client sends it again by itself when it is told to.
    pub(super) comes_again: bool,
}

impl Call {
    /// None where `body` is not one such request, or could be read in two ways.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let message = Members::once(body)?;
        let method: String = text(message.get("method")?)?;
        message.get("id").filter(|id| is_id(id) && ROUNDS.contains(&method.as_str()))?;
        let params = Members::once(message.get("params")?.get().as_bytes())?;
        let state = params.get(REQUEST_STATE).and_then(ours);
        let mut asked: Vec<(&str, &str)> = params.0.iter().map(|(name, raw)| (&**name, raw.get())).collect();
        asked.retain(|(name, _)| *name != META && (*name != REQUEST_STATE || state.is_none()));
        asked.sort_unstable();
        let mut digest = Sha256::new();
        let members = std::iter::once(("method", method.as_str())).chain(asked);
        for part in members.flat_map(|(name, value)| [name, value]) {
            digest.update((part.len() as u64).to_be_bytes()); // lengths fit
            digest.update(part);
        }
        let meta = params.get(META).and_then(|meta| Members::once(meta.get().as_bytes()));
        let version: Option<String> = meta.and_then(|meta| text(meta.get(VERSION)?));
        let comes_again = version.is_some_and(|version| is_mirrored(&version));
        Some(Self { digest: digest.finalize().into(), state, comes_again })
    }
}

/// What the client of a held call is given to bring back: its hold, and that it was this gateway that said so.
pub(super) fn state(hold: HoldId, capture: &RunCapture) -> String {
    let proof = capture.tag(Label::HoldState, &Sha256::digest(hold.to_string()).into());
    format!("{STATE}{hold}.{proof}")
}

/// Whether a client brings back what it was given.
pub(super) fn is_given(state: &str, given: &str) -> bool {
    verify_slices_are_equal(state.as_bytes(), given.as_bytes()).is_ok()
}

/// The hold that a state names.
pub(super) fn named(state: &str) -> Option<HoldId> {
    state.strip_prefix(STATE)?.split_once('.')?.0.parse().ok()
}

/// A body without a state of the gateway's, which upstreams know nothing of; none if there is none in it.
pub(crate) fn without_state(chunks: &[Bytes]) -> Option<Bytes> {
    let body = match chunks {
        [one] => one.clone(),
        several => several.concat().into(),
    };
    memchr::memmem::find(&body, STATE.as_bytes())?;
    let params = Members::once(&body)?.get("params")?.get();
    let members = Members::once(params.as_bytes())?;
    ours(members.get(REQUEST_STATE)?)?;
    let kept = members.0.iter().filter(|(name, _)| name != REQUEST_STATE);
    let kept = kept.map(|(name, raw)| Some(format!("{}:{}", serde_json::to_string(name).ok()?, raw.get())));
    let kept: Vec<String> = kept.collect::<Option<_>>()?;
    // INVARIANT: `params` is a part of `body`.
    let start = (params.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.get(params.len()..)?;
    Some([before, b"{", kept.join(",").as_bytes(), b"}", after].concat().into())
}

/// A string or an integer; `null` is none (MCP, base protocol, requests).
fn is_id(raw: &RawValue) -> bool {
    let is_integer = || raw.get().trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    raw.get().starts_with('"') || is_integer()
}

fn ours(raw: &RawValue) -> Option<Box<str>> {
    text(raw).filter(|text| text.starts_with(STATE)).map(Into::into)
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::RunId;
    use estoppel_evidence::capture::CaptureKey;

    use super::*;

    fn call(params: &str) -> Option<Call> {
        Call::of(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#).as_bytes())
    }

    fn digest(params: &str) -> [u8; 32] {
        call(params).unwrap().digest
    }

    #[test]
    fn what_is_asked_for_is_the_same_under_any_id_order_round_and_meta() {
        let asked = digest(r#"{"name":"a","arguments":{"x":1}}"#);
        let other_id =
            br#"{"id":"z","params":{"name":"a","arguments":{"x":1}},"method":"tools/call","jsonrpc":"2.0"}"#;
        assert_eq!(Call::of(other_id).unwrap().digest, asked);
        for same in [
            r#"{ "arguments" : {"x":1}, "name" : "a" }"#,
            r#"{"name":"a","arguments":{"x":1},"_meta":{"progressToken":7}}"#,
            r#"{"name":"a","arguments":{"x":1},"requestState":"estoppel-hold.1.2"}"#,
        ] {
            assert_eq!(digest(same), asked, "{same}");
        }
        for other in [
            r#"{"name":"b","arguments":{"x":1}}"#,
            r#"{"name":"a","arguments":{"x":2}}"#,
            r#"{"name":"a","arguments":{"x":1.0}}"#,
            r#"{"name":"a"}"#,
            r#"{"name":"a","arguments":{"x":1},"task":{}}"#,
            r#"{"name":"a","arguments":{"x":1},"inputResponses":{}}"#,
            r#"{"name":"a","arguments":{"x":1},"requestState":"theirs"}"#,
        ] {
            assert_ne!(digest(other), asked, "{other}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_vectors() {
        let body = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"transfer","arguments":{"amount":90000}}}"#;
        let mut said = Vec::new();
        for part in ["method", "tools/call", "arguments", r#"{"amount":90000}"#, "name", r#""transfer""#] {
            said.extend_from_slice(&(part.len() as u64).to_be_bytes());
            said.extend_from_slice(part.as_bytes());
        }
        assert_eq!(Call::of(body).unwrap().digest, <[u8; 32]>::from(Sha256::digest(said)));
    }

    #[test]
    fn what_could_be_read_in_two_ways_asks_for_nothing() {
        for twice in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"name":"a","requestState":"estoppel-hold.1.2","requestState":"x"}"#,
            "[]",
        ] {
            assert_eq!(call(twice), None, "{twice}");
        }
        for body in [
            r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}]"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{},"params":{}}"#,
        ] {
            assert_eq!(Call::of(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn clients_since_multi_round_trip_requests_come_again_by_themselves() {
        let meta = |version: &str| format!(r#"{{"_meta":{{"{VERSION}":{version}}}}}"#);
        assert!(call(&meta(r#""2026-07-28""#)).unwrap().comes_again);
        for version in [r#""2025-11-25""#, "7", r#""later""#] {
            assert!(!call(&meta(version)).unwrap().comes_again, "{version}");
        }
        assert!(!call("{}").unwrap().comes_again);
    }

    #[test]
    fn a_state_names_its_hold_and_does_not_go_on() {
        let capture = CaptureKey::new([7; 32]).run(RunId::new(1, [2; 10]));
        let hold = HoldId::new(1, [3; 10]);
        let state = state(hold, &capture);
        assert_eq!(named(&state), Some(hold));
        assert_eq!(named("estoppel-hold.x.y"), None);
        let sent = format!(
            r#"{{ "id":1,"params": {{"name":"a", "requestState":"{state}","arguments":{{ }}}} ,"method":"tools/call"}}"#
        );
        assert_eq!(
            call(&format!(r#"{{"requestState":"{state}"}}"#)).unwrap().state.as_deref(),
            Some(&*state)
        );
        let expected = r#"{ "id":1,"params": {"name":"a","arguments":{ }} ,"method":"tools/call"}"#;
        for cut in 0..sent.len() {
            let chunks = [
                Bytes::copy_from_slice(&sent.as_bytes()[..cut]),
                Bytes::copy_from_slice(&sent.as_bytes()[cut..]),
            ];
            assert_eq!(without_state(&chunks).as_deref(), Some(expected.as_bytes()));
        }
        for theirs in [
            r#"{"params":{"requestState":"theirs"}}"#,
            r#"{"params":{"a":"estoppel-hold.1"}}"#,
            "estoppel-hold.",
        ] {
            assert_eq!(without_state(&[Bytes::copy_from_slice(theirs.as_bytes())]), None);
        }
    }
}
