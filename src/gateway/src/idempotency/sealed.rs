//! An answer at rest: sealed with AES-256-GCM under a key that only who brings the same key and payload can make.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

/// Seals the answer of one call.
pub(super) struct Sealer {
    key: [u8; 32],
    /// The call; another's answer cannot be put in its place.
    call: Box<str>,
    policy: Box<str>,
}

/// An answer as it was given.
#[derive(Debug)]
pub(super) struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Hash of the policy that let it pass.
    pub policy: String,
}

/// What stands before the body, as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Head {
    headers: Vec<(String, String)>,
    policy: String,
    status: u16,
}

impl Sealer {
    pub fn new(key: [u8; 32], call: &str, policy: &str) -> Self {
        Self { key, call: call.into(), policy: policy.into() }
    }

    /// None where the system has no randomness.
    pub fn seal(&self, status: StatusCode, headers: &HeaderMap, body: &[Bytes]) -> Option<Bytes> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let head = Head {
            headers: headers.iter().filter_map(text).collect(),
            policy: self.policy.to_string(),
            status: status.as_u16(),
        };
        let mut plain = serde_json::to_vec(&head).ok()?;
        plain.push(b'\n');
        body.iter().for_each(|piece| plain.extend_from_slice(piece));
        let nonce = self.cipher()?.seal_in_place_append_tag(self.aad(), &mut plain).ok()?;
        Some([&nonce.as_ref()[..], &plain].concat().into())
    }

    /// None of what this did not seal.
    pub fn open(&self, sealed: &[u8]) -> Option<Answered> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = rest.to_vec();
        let length = self.cipher()?.open_in_place(nonce, self.aad(), &mut plain).ok()?.len();
        plain.truncate(length);
        let end = plain.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(plain.get(..end)?).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &head.headers {
            headers.append(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
        }
        let body = Bytes::from(plain).slice(end + 1..);
        let status = StatusCode::from_u16(head.status).ok()?;
        Some(Answered { status, headers, body, policy: head.policy })
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.key).ok()
    }

    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(self.call.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_call_open_an_answer_and_nothing_of_it_is_readable() {
        let sealer = Sealer::new([7; 32], "call-1", "sha256:aa");
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("text/secret"));
        let body = [Bytes::from_static(b"body\n"), Bytes::from_static(b"\0of secrets")];
        let sealed = sealer.seal(StatusCode::CREATED, &headers, &body).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret" || part == b"sha256"));
        assert_ne!(sealed, sealer.seal(StatusCode::CREATED, &headers, &body).unwrap());

        let opened = sealer.open(&sealed).unwrap();
        assert_eq!(
            (opened.status, &opened.headers, opened.policy.as_str()),
            (StatusCode::CREATED, &headers, "sha256:aa")
        );
        assert_eq!(opened.body, "body\n\0of secrets");
        assert!(Sealer::new([8; 32], "call-1", "sha256:aa").open(&sealed).is_none());
        assert!(Sealer::new([7; 32], "call-2", "sha256:aa").open(&sealed).is_none());
        for at in 0..sealed.len() {
            let mut torn = sealed.to_vec();
            torn[at] ^= 1;
            assert!(sealer.open(&torn).is_none(), "{at}");
            assert!(sealer.open(&sealed[..at]).is_none(), "{at}");
        }
    }
}
