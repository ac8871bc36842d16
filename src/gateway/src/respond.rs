//! The only place where a reason becomes a status and a body, in the dialect that the caller speaks.
//!
//! A caller sees the code, a short safe text and the call's id. Addresses, paths and causes stay in the log.

use bytes::Bytes;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, HoldId, Leaf, Reason};
use estoppel_wire::dialect::Dialect;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::body::AnswerBody;

/// Header with the call's id, on every answer.
pub(crate) const CALL: HeaderName = HeaderName::from_static("estoppel-call");
/// Header or trailer with the receipt's id (`leaf:…`).
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static("estoppel-receipt");
/// Header with the id of the hold that a call waits in; the client sends it back with the same call.
pub(crate) const HOLD: HeaderName = HeaderName::from_static("estoppel-hold");
/// Header with the run's id.
pub(crate) const RUN: HeaderName = HeaderName::from_static("estoppel-run");

/// An answer of ours instead of the upstream's.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// A policy's own code and text, if a rule decided.
    pub(crate) code: Option<std::sync::Arc<str>>,
    pub(crate) message: Option<Box<str>>,
    pub(crate) retry: Retry,
    /// The call waits for people.
    pub(crate) hold: Option<Box<Waits>>,
}

/// A call that is not refused for good.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) hold: HoldId,
    pub(crate) expires: UnixMicros,
    /// 202 where the caller reads statuses, 403 where its dialect would take any 2xx for an answer; 200 with a `state`.
    pub(crate) status: StatusCode,
    pub(crate) retry_after: u64,
    /// What MCP's client brings back with its next round, by itself.
    pub(crate) state: Option<Box<str>>,
}

/// What the caller is told about trying again, where the status says that it may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Retry {
    #[default]
    Soon,
    After {
        seconds: u64,
    },
    /// The same call never succeeds.
    Never,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self { reason, code: None, message: None, retry: Retry::Soon, hold: None }
    }

    /// With what and where in the message.
    pub(crate) fn because(reason: Reason, detail: Option<&str>) -> Self {
        let message = detail.map(|detail| format!("{}: {detail}", reason.text()).into());
        Self { message, ..Self::new(reason) }
    }

    pub(crate) fn status(&self) -> StatusCode {
        if let Some(waits) = &self.hold {
            return waits.status;
        }
        StatusCode::from_u16(self.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(self.reason.code())
    }

    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or(self.reason.text())
    }

    /// The body in `dialect`'s own error shape; RFC 9457 where it has none.
    pub(crate) fn body(&self, dialect: Dialect, call: Option<CallId>, rpc_id: Option<&str>) -> Bytes {
        let (code, message) = (self.code(), self.message());
        let call = call.map(|call| call.to_string());
        if let Some(state) = self.hold.as_ref().and_then(|waits| waits.state.as_deref()) {
            return line(&json!({
                "jsonrpc": "2.0",
                "id": rpc_id.and_then(|id| serde_json::from_str::<serde_json::Value>(id).ok()),
                "result": { "resultType": "input_required", "requestState": state },
            }));
        }
        let hold = self.hold.as_ref().map(|waits| json!({ "id": waits.hold, "expires": waits.expires }));
        let mut value = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses => json!({
                "error": { "message": message, "type": self.openai_type(), "param": null, "code": code },
            }),
            Dialect::AnthropicMessages => json!({
                "type": "error",
                "error": { "type": self.anthropic_type(), "message": format!("{message} ({code})") },
                "request_id": call,
            }),
            Dialect::Gemini => json!({
                "error": { "code": self.status().as_u16(), "message": message, "status": self.google_status(),
                    "details": [{ "reason": code }] },
            }),
            Dialect::Mcp => json!({
                "jsonrpc": "2.0",
                "id": rpc_id.and_then(|id| serde_json::from_str::<serde_json::Value>(id).ok()),
                "error": { "code": self.rpc_code(), "message": message, "data": { "code": code, "call": call } },
            }),
            Dialect::Json | Dialect::Bytes => json!({
                "type": format!("urn:estoppel:reason:{code}"),
                "title": message,
                "status": self.status().as_u16(),
                "code": code,
                "retryable": self.hold.is_some() || self.reason.retryable() && !matches!(self.retry, Retry::Never),
                "instance": call.map(|call| format!("urn:uuid:{call}")),
            }),
        };
        if let Some(hold) = hold {
            match dialect {
                Dialect::Mcp => value["error"]["data"]["hold"] = hold,
                Dialect::Json | Dialect::Bytes => value["hold"] = hold,
                _ => {} // the header says it
            }
        }
        line(&value)
    }

    /// The last event of a stream that is broken off: what makes `dialect`'s own clients raise.
    pub(crate) fn event(&self, dialect: Dialect, call: CallId, rpc_id: Option<&str>) -> Option<Bytes> {
        let name = match dialect {
            Dialect::OpenAiChat | Dialect::Gemini => "",
            Dialect::OpenAiResponses | Dialect::AnthropicMessages => "event: error\n",
            Dialect::Mcp => "event: message\n",
            Dialect::Json | Dialect::Bytes => return None,
        };
        let data = match dialect {
            // Some clients read the members of the event itself, others those of `error`.
            Dialect::OpenAiResponses => json!({
                "type": "error", "code": self.code(), "message": self.message(), "param": null,
                "error": { "type": self.openai_type(), "code": self.code(), "message": self.message() },
            })
            .to_string(),
            _ => {
                let body = self.body(dialect, Some(call), rpc_id);
                String::from_utf8_lossy(&body).trim_end().to_owned()
            }
        };
        Some(format!("{name}data: {data}\n\n").into())
    }

    fn openai_type(&self) -> &'static str {
        match self.status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn google_status(&self) -> &'static str {
        match self.status().as_u16() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            400..=499 => "INVALID_ARGUMENT",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INTERNAL",
        }
    }

    /// JSON-RPC 2.0 section 5.1: -32000 to -32099 are the server's own.
    fn rpc_code(&self) -> i32 {
        if self.reason == Reason::HeaderMismatch {
            return -32_020; // MCP's own, from 2026-07-28 on
        }
        if self.reason == Reason::NotFederated {
            return -32_601; // no such method
        }
        match self.status().as_u16() {
            403 => -32_003,
            404 => -32_004,
            400..=499 => -32_600,
            _ => -32_000,
        }
    }

    /// The answer around a body made by [`Refusal::body`].
    pub(crate) fn answer(&self, dialect: Dialect, body: Bytes) -> Response<AnswerBody> {
        let kind = match dialect {
            Dialect::Json | Dialect::Bytes if !self.status().is_success() => "application/problem+json",
            _ => "application/json",
        };
        let mut answer = Response::new(AnswerBody::whole(vec![body]));
        *answer.status_mut() = self.status();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            match self.retry {
                Retry::Soon => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
                Retry::After { seconds } => drop(headers.insert(RETRY_AFTER, seconds.max(1).into())),
                Retry::Never => {}
            }
        }
        if self.reason == Reason::CredentialMissing {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        if let Some(waits) = &self.hold {
            headers.insert(RETRY_AFTER, waits.retry_after.into());
            if let Ok(id) = HeaderValue::try_from(waits.hold.to_string()) {
                headers.insert(HOLD, id);
            }
        }
        if matches!(self.reason, Reason::RequestBytesMax | Reason::RequestStalled | Reason::RequestInvalid) {
            // The rest of the request is not read, so the connection cannot be used again.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

fn line(value: &serde_json::Value) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

/// Everything that is said to keep a client waiting.
pub(crate) const KEEPALIVES: [&[u8]; 2] = [b"event: ping\ndata: {\"type\": \"ping\"}\n\n", b": keep-alive\n"];

/// What a client is told while events are held back, between two of them; `opened` once it has got the event that
/// Anthropic's streams open with.
///
/// A comment ends in one line end: at a blank line after it, clients that keep an event's id give out an empty event.
/// Google's clients take a comment for data, or drop the event after it, so they are told nothing.
pub(crate) fn keepalive(dialect: Dialect, opened: bool) -> Option<&'static [u8]> {
    let [ping, comment] = KEEPALIVES;
    match dialect {
        Dialect::AnthropicMessages if opened => Some(ping),
        Dialect::AnthropicMessages | Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::Mcp => {
            Some(comment)
        }
        Dialect::Gemini | Dialect::Json | Dialect::Bytes => None,
    }
}

/// Puts the ids on an answer.
pub(crate) fn stamp(headers: &mut HeaderMap, call: CallId, run: Option<&HeaderValue>, receipt: Option<Leaf>) {
    if let Ok(value) = HeaderValue::try_from(call.to_string()) {
        headers.insert(CALL, value);
    }
    if let Some(run) = run {
        headers.insert(RUN, run.clone());
    }
    if let Some(Ok(value)) = receipt.map(|leaf| HeaderValue::try_from(leaf.to_string())) {
        headers.insert(RECEIPT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(dialect: Dialect) -> serde_json::Value {
        serde_json::from_slice(&Refusal::new(Reason::ToolDenied).body(dialect, None, Some("7"))).unwrap()
    }

    #[test]
    fn each_dialect_gets_its_own_error_shape() {
        assert_eq!(body(Dialect::OpenAiChat)["error"]["code"], "TOOL_DENIED");
        assert_eq!(body(Dialect::OpenAiChat)["error"]["type"], "permission_error");
        assert_eq!(body(Dialect::AnthropicMessages)["type"], "error");
        assert_eq!(body(Dialect::AnthropicMessages)["error"]["type"], "permission_error");
        assert_eq!(body(Dialect::Gemini)["error"]["status"], "PERMISSION_DENIED");
        assert_eq!(body(Dialect::Mcp)["id"], 7);
        assert_eq!(body(Dialect::Mcp)["error"]["code"], -32_003);
        assert_eq!(body(Dialect::Json)["code"], "TOOL_DENIED");
        assert_eq!(body(Dialect::Json)["status"], 403);
    }

    #[test]
    fn answers_that_may_be_tried_again_say_when() {
        let answer = Refusal::new(Reason::EvidenceFull).answer(Dialect::Json, Bytes::new());
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key(RETRY_AFTER));
    }
}
