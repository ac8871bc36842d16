//! What a call asks to be done once.

use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::entry::IdentityKind;
use estoppel_evidence::{CallId, Reason};
use estoppel_policy::{Control, ControlKind};
use estoppel_state::{CounterKey, Keyed};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::sealed::Sealer;
use crate::exchange::{Exchange, micros};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// What a call may take beyond the limit of its route, until it has ended here.
const MARGIN: Duration = Duration::from_secs(60);
/// By what upstreams tell callers apart whom the gateway does not know.
const CREDENTIALS: [HeaderName; 5] = [
    AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A key and what it stands for. Digests: whoever reads them learns neither.
pub(super) struct Asked {
    pub control: Box<str>,
    pub answer_bytes_max: Option<u64>,
    pub payload: [u8; 32],
    name: CounterKey,
    seal: [u8; 32],
    policy: String,
    seconds: u32,
}

impl Asked {
    /// None where the call brings no key.
    ///
    /// # Errors
    /// `HEADER_INVALID`: several keys, an empty one, or one of more than [`KEY_BYTES_MAX`] bytes or not of visible ASCII.
    pub fn read(
        exchange: &Exchange,
        control: &Control,
        head: &Parts,
        body: &[Bytes],
    ) -> Result<Option<Self>, Reason> {
        let ControlKind::Idempotency { seconds, answer_bytes_max, .. } = control.kind else {
            return Ok(None);
        };
        let Some(key) = key(&head.headers, control.header())? else { return Ok(None) };
        let route = exchange.route.as_ref().map_or("", |route| &route.name);
        let identity = &exchange.record.identity;
        let mut root = vec![b"estoppel key".as_slice(), control.header().as_bytes(), key, route.as_bytes()];
        let proven = identity.kind != IdentityKind::None;
        let credentials = CREDENTIALS.map(|name| (!proven).then(|| joined(&head.headers, &name)).flatten());
        match &identity.subject {
            Some(subject) if proven => root.extend([b"subject".as_slice(), subject.as_bytes()]),
            _ => root.extend(credentials.iter().map(|value| value.as_deref().unwrap_or_default())),
        }
        let root = digest(&root);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let [kind, coding] =
            [CONTENT_TYPE, CONTENT_ENCODING].map(|name| joined(&head.headers, &name).unwrap_or_default());
        let body = body.iter().fold(Sha256::new(), |hash, piece| hash.chain_update(piece)).finalize();
        let method = head.method.as_str().as_bytes();
        let payload = digest(&[&root, b"payload", method, target.as_bytes(), &kind, &coding, &body]);
        Ok(Some(Self {
            control: control.id().as_str().into(),
            answer_bytes_max,
            name: CounterKey::of(["key", &hex(&digest(&[&root, b"name"]))]),
            seal: digest(&[&root, b"seal", &payload]),
            payload,
            policy: exchange.snapshot.policy.hash().to_string(),
            seconds,
        }))
    }

    pub fn keyed(&self, exchange: &Exchange) -> Keyed {
        let total = exchange.route.as_ref().map_or(Duration::ZERO, |route| route.settings.limits.total);
        let run_us = micros(total.saturating_add(MARGIN));
        let keep_us = u64::from(self.seconds).saturating_mul(1_000_000).max(run_us);
        let call = exchange.call.to_string();
        Keyed { key: self.name, payload: self.payload, call, run_us, keep_us }
    }

    /// For the answer of `call`, which this policy let pass.
    pub fn sealer(&self, call: CallId) -> Sealer {
        Sealer::new(self.seal, &call.to_string(), &self.policy)
    }

    pub fn sealer_of(&self, call: &str) -> Sealer {
        Sealer::new(self.seal, call, &self.policy)
    }
}

fn key<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Reason> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.as_bytes().trim_ascii();
    let plain = value.iter().all(u8::is_ascii_graphic);
    let fits = (1..=KEY_BYTES_MAX).contains(&value.len()) && plain && values.next().is_none();
    if fits { Ok(Some(value)) } else { Err(Reason::HeaderInvalid) }
}

/// All values of a header.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    (!values.is_empty()).then(|| values.join(&b'\0'))
}

/// Of parts that do not run together.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_header_of_visible_ascii() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", value.parse().unwrap());
            }
            key(&headers, "idempotency-key").map(|key| key.map(<[u8]>::to_vec))
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"8e03978e\""]), Ok(Some(b"\"8e03978e\"".to_vec())));
        assert_eq!(read(&[&"k".repeat(KEY_BYTES_MAX)]), Ok(Some(vec![b'k'; KEY_BYTES_MAX])));
        for wrong in [&["a", "a"][..], &[""], &["a b"], &[&"k".repeat(KEY_BYTES_MAX + 1)]] {
            assert_eq!(read(wrong), Err(Reason::HeaderInvalid), "{wrong:?}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a", b""]), digest(&[b"a"]));
    }
}
