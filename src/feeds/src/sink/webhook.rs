//! One signed request for each document, as Standard Webhooks has it: `webhook-id`, `webhook-timestamp`, and
//! `webhook-signature` over both and the body, one of each secret. The id is the document's own, so that copies of it are
//! known by it.

use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use estoppel_evidence::Sha256;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::post::{Post, Sender, content_type};
use super::{Delivery, SinkError};
use crate::document::Document;
use crate::secret;
use crate::settings::HookTo;

/// Bytes that a secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most secrets that sign at a time.
const SECRETS_MAX: usize = 4;

/// A receiver of events.
pub(crate) struct WebhookSink {
    sender: Sender,
    to: HookTo,
    post: Post,
    secrets: Secrets,
}

/// Keys that sign, in the order of the file.
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl WebhookSink {
    pub fn new(to: &HookTo, sender: Sender) -> Result<Self, SinkError> {
        let (post, secrets) = open(to, sender)?;
        Ok(Self { sender, to: to.clone(), post, secrets })
    }

    /// In order; what follows one that fails is left.
    pub async fn deliver(&mut self, documents: &[Document]) -> Delivery {
        for (at, document) in documents.iter().enumerate() {
            if let Err(error) = self.send(document).await {
                return Delivery {
                    left: (at..documents.len()).collect(),
                    error: Some(error),
                    ..Delivery::default()
                };
            }
        }
        Delivery::default()
    }

    /// Gives one document to the receiver, and says how it took it.
    pub async fn send(&mut self, document: &Document) -> Result<StatusCode, SinkError> {
        let body = Bytes::from(document.json.clone());
        let answer = self.post.send(self.secrets.headers(&document.uid, &body, now()), body).await?;
        if answer.status.is_success() {
            return Ok(answer.status);
        }
        if matches!(answer.status.as_u16(), 401 | 403 | 404 | 410) {
            self.read_again();
        }
        Err(answer.error())
    }

    /// What was replaced on disk takes effect without a restart.
    fn read_again(&mut self) {
        match open(&self.to, self.sender) {
            Ok((post, secrets)) => (self.post, self.secrets) = (post, secrets),
            Err(error) => tracing::warn!(%error, "the secret of a webhook was not read again"),
        }
    }
}

fn open(to: &HookTo, sender: Sender) -> Result<(Post, Secrets), SinkError> {
    let post = to.post(sender)?;
    let (text, from) = match (&to.secret_file, &to.secret_env) {
        (None, Some(name)) => (secret::variable(name)?, PathBuf::from(name)),
        (path, _) => {
            let path = path.clone().unwrap_or_default();
            (secret::read(&path)?, path)
        }
    };
    let problem = "it is not `whsec_` and 24 to 64 bytes in base64, at most 4 times; `echo whsec_$(openssl rand -base64 32)`";
    let wrong = || SinkError::Token { path: from, problem: problem.into() };
    Ok((post, Secrets::parse(&text).ok_or_else(wrong)?))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Secrets {
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = |word: &str| {
            let bytes = STANDARD.decode(word.strip_prefix("whsec_")?).ok()?;
            SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
        };
        let secrets: Option<Vec<Vec<u8>>> = text.split_whitespace().map(bytes).collect();
        secrets.filter(|secrets| (1..=SECRETS_MAX).contains(&secrets.len())).map(Self)
    }

    pub fn headers(&self, uid: &str, body: &[u8], now: u64) -> HeaderMap {
        let id = id(uid);
        let signature = self.signature(&id, now, body);
        let values =
            [("webhook-id", id), ("webhook-timestamp", now.to_string()), ("webhook-signature", signature)];
        let header =
            |(name, value)| Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?));
        values.into_iter().filter_map(header).chain([content_type("application/json")]).collect()
    }

    /// One for each key, with a space between.
    fn signature(&self, id: &str, now: u64, body: &[u8]) -> String {
        let signed = |key: &Vec<u8>| {
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(format!("{id}.{now}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(signed).collect::<Vec<_>>().join(" ")
    }
}

/// A document's id without what ids of messages may not have in them.
pub(crate) fn id(uid: &str) -> String {
    let digits: String = Sha256::of(uid.as_bytes()).hex().chars().take(32).collect();
    format!("msg_{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_make() {
        // The example of the documentation of Svix, who wrote the standard.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = Secrets(vec![key.clone()]);
        let signature =
            secret.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = Secrets(vec![vec![7; 24], key]).signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(both.split(' ').nth(1), Some(signature.as_str()), "each key signs");
    }

    #[test]
    fn a_document_has_one_id_over_all_tries() {
        let secret = Secrets(vec![vec![7; 24]]);
        let header =
            |uid, now, name: &str| secret.headers(uid, b"{}", now)[name].to_str().unwrap().to_owned();
        assert_eq!(header("leaf:aa", 1, "webhook-id"), header("leaf:aa", 2, "webhook-id"));
        assert_ne!(header("leaf:aa", 1, "webhook-signature"), header("leaf:aa", 2, "webhook-signature"));
        assert_ne!(header("leaf:aa", 1, "webhook-id"), header("leaf:aa#threat", 1, "webhook-id"));
    }
}
