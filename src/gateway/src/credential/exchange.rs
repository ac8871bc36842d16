//! A token that an authorization server gives for the client's (RFC 8693).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::envelope::base64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use serde::Deserialize;

use super::{Failed, Minted, is_token};
use crate::body::{Room, UpstreamBody};
use crate::settings::{Http2, TokenExchange, Upstream};
use crate::upstream::{Pool, Target};

/// Longest answer of an authorization server that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most connections to it.
const CONNECTIONS_MAX: usize = 16;
/// How long a token lives of which that is not said.
const LIFETIME: Duration = Duration::from_secs(60);

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) struct Exchange {
    pool: Arc<Pool>,
    /// All of the form but the client's token.
    form: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// Errors of a token endpoint (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
const ERRORS: [&str; 7] = [
    "invalid_request",
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
];
/// Those that say that the client's token is no good.
const CLIENTS_ERRORS: [&str; 2] = ["invalid_request", "invalid_grant"];

#[derive(Deserialize)]
struct Objection {
    error: String,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl Exchange {
    pub(super) fn new(upstream: &str, settings: &TokenExchange) -> Result<Self, String> {
        let target = Upstream {
            url: settings.token_url.clone(),
            ca: settings.ca.clone(),
            client: None,
            http2: Http2::Auto,
            connections_max: CONNECTIONS_MAX,
            idle_ms: 10_000,
            credential: None,
        };
        let target = Target::new(upstream, &target).map_err(|error| error.to_string())?;
        let secret = settings.client_secret.as_ref().map(|path| estoppel_journal::keys::read_secret(path));
        let secret = secret.transpose().map_err(|error| error.to_string())?;
        let authorization = match (&settings.client_id, &secret) {
            (Some(id), Some(secret)) => {
                let pair = format!("{}:{}", encoded(id), encoded(secret.trim()));
                let value = HeaderValue::from_str(&format!("Basic {}", base64(pair.as_bytes())));
                let mut value = value.map_err(|error| error.to_string())?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        let public_id = settings.client_id.as_ref().filter(|_| authorization.is_none());
        let mut form = String::new();
        for (name, value) in [
            ("grant_type", Some(GRANT)),
            ("requested_token_type", Some(ACCESS_TOKEN)),
            ("subject_token_type", Some(ACCESS_TOKEN)),
            ("audience", settings.audience.as_deref()),
            ("resource", settings.resource.as_deref()),
            ("scope", settings.scope.as_deref()),
            ("client_id", public_id.map(String::as_str)),
        ] {
            if let Some(value) = value {
                form.push_str(&format!("{name}={}&", encoded(value)));
            }
        }
        let timeout = Duration::from_millis(settings.timeout_ms);
        Ok(Self { pool: Pool::new(target), form, authorization, timeout })
    }

    /// Exchanges a client's token.
    pub(super) async fn mint(&self, subject: &str) -> Result<Minted, Failed> {
        let exchanged = tokio::time::timeout(self.timeout, self.ask(subject)).await;
        let (status, body) =
            exchanged.unwrap_or_else(|_| Err(Failed::new("the token endpoint is silent")))?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        let answer = answer.filter(|answer| is_token(&answer.access_token));
        let answer = answer.ok_or_else(|| Failed::new("the token endpoint gives no token"))?;
        let token = HeaderValue::from_str(&answer.access_token);
        let token = token.map_err(|_| Failed::new("the token endpoint gives no token"))?;
        Ok(Minted { token, lifetime: answer.expires_in.map_or(LIFETIME, Duration::from_secs) })
    }

    async fn ask(&self, subject: &str) -> Result<(StatusCode, Vec<u8>), Failed> {
        let form = Bytes::from(format!("{}subject_token={}", self.form, encoded(subject)));
        let base = self.pool.target.origin.base.as_str();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(if base.is_empty() { "/" } else { base })
            .header(HOST, self.pool.target.authority.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(CONTENT_LENGTH, form.len());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(UpstreamBody::held(vec![form], Room::default()));
        let request = request.map_err(|error| Failed::new(error.to_string()))?;
        let answered = self.pool.send(request, self.timeout, self.timeout, None).await;
        let answered = answered.map_err(|error| Failed::new(format!("the token endpoint: {error}")))?;
        let (mut relay, mut body) = (answered.relay, Vec::new());
        while let Some(frame) = poll_fn(|cx| relay.poll_frame(cx)).await {
            let frame = frame.map_err(|error| Failed::new(format!("the token endpoint: {error}")))?;
            body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Failed::new("the token endpoint says too much"));
            }
        }
        relay.release();
        Ok((answered.head.status, body))
    }
}

/// Why there is no token: because of the client's (RFC 8693 section 2.2.2), or of what the gateway is there (RFC 6749 section 5.2).
fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let said: Option<Objection> = serde_json::from_slice(body).ok();
    let error = said.map(|said| said.error).filter(|error| ERRORS.contains(&error.as_str()));
    let is_the_clients = match (&error, status) {
        (Some(error), _) => CLIENTS_ERRORS.contains(&error.as_str()),
        (None, status) => status == StatusCode::BAD_REQUEST || status == StatusCode::FORBIDDEN,
    };
    let reason = if is_the_clients { Reason::CredentialMissing } else { Reason::CredentialFailed };
    let why = format!("the token endpoint says {status} {}", error.as_deref().unwrap_or_default());
    Failed { reason, why: why.trim_end().into() }
}

/// As forms have it (WHATWG URL, `application/x-www-form-urlencoded`), spaces as `%20`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_is_that_there_is_no_token() {
        for (status, body, reason, why) in [
            (400, r#"{"error":"invalid_grant"}"#, Reason::CredentialMissing, "400 Bad Request invalid_grant"),
            (
                400,
                r#"{"error":"invalid_request"}"#,
                Reason::CredentialMissing,
                "400 Bad Request invalid_request",
            ),
            (
                400,
                r#"{"error":"invalid_target"}"#,
                Reason::CredentialFailed,
                "400 Bad Request invalid_target",
            ),
            (
                400,
                r#"{"error":"unsupported_grant_type"}"#,
                Reason::CredentialFailed,
                "unsupported_grant_type",
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#,
                Reason::CredentialFailed,
                "401 Unauthorized invalid_client",
            ),
            (401, "", Reason::CredentialFailed, "401 Unauthorized"),
            (400, r#"{"error":"secret-token\n"}"#, Reason::CredentialMissing, "400 Bad Request"),
            (403, "no", Reason::CredentialMissing, "403 Forbidden"),
            (500, "no", Reason::CredentialFailed, "500 Internal Server Error"),
        ] {
            let failed = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(failed.reason, reason, "{status} {body}");
            assert!(failed.why.ends_with(why), "{}", failed.why);
        }
    }
}
