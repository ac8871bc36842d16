//! Headers that say again what a message says: `mcp-protocol-version`, `mcp-method`, `mcp-name` and `mcp-param-…`, from 2026-07-28
//! on (streamable HTTP, "Request Metadata"). Others on the way may go by them and the server by the body, so they have to agree.
//! Nothing here is decided by a header. Of earlier versions they are not read.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use estoppel_evidence::Reason;
use estoppel_wire::dialect::Span;
use estoppel_wire::dialect::mcp::{Message, Messages, TOOLS_CALL};
use http::HeaderMap;
use serde_json::Value;

use crate::judging::Objection;
use crate::mcp::mirrored::Mirrored;

/// The first version whose messages are mirrored in headers. Versions are dates, so they compare as texts.
const MIRRORED_SINCE: &str = "2026-07-28";

/// Holds the headers of a request against its body; `mirrored` says what of a tool's arguments is in them.
///
/// # Errors
/// One of them is missing or says something else.
pub(crate) fn check(
    headers: &HeaderMap,
    messages: &Messages,
    body: &[u8],
    mirrored: impl Fn(&str) -> Option<Arc<Mirrored>>,
) -> Result<(), Objection> {
    let stated = one(headers, "mcp-protocol-version")?;
    let message = match messages.list.as_slice() {
        [message] if !messages.batch => message,
        _ if stated.as_deref().is_some_and(is_mirrored) => return Err(mismatch("a batch", "mcp-method")),
        _ => return Ok(()),
    };
    let version = message.version.as_deref();
    // A server may go by either.
    if ![stated.as_deref(), version].into_iter().flatten().any(is_mirrored) {
        return Ok(());
    }
    if version.is_some_and(|version| stated.as_deref() != Some(version)) {
        return Err(mismatch("the message's protocol version", "mcp-protocol-version"));
    }
    let Some(method) = message.method.as_deref() else { return Ok(()) };
    agree(message, one(headers, "mcp-method")?, Some(method), "mcp-method")?;
    if let Some(name) = name(message, method, body) {
        agree(message, one(headers, "mcp-name")?, Some(&name), "mcp-name")?;
    }
    let called = message.name.as_deref().filter(|_| method == TOOLS_CALL);
    match called.and_then(mirrored) {
        Some(mirrored) => arguments_agree(headers, message, body, &mirrored),
        None => Ok(()),
    }
}

fn arguments_agree(
    headers: &HeaderMap,
    message: &Message,
    body: &[u8],
    mirrored: &Mirrored,
) -> Result<(), Objection> {
    if mirrored.arguments().is_empty() {
        return Ok(());
    }
    let text = message.arguments.as_ref().map_or(Some(&b"null"[..]), |span| part(span, body));
    let Some(arguments) = text.and_then(|text| serde_json::from_slice::<Value>(text).ok()) else {
        return Err(mismatch("the arguments cannot be read", "mcp-param-…"));
    };
    for argument in mirrored.arguments() {
        let header = argument.header.as_str();
        if !argument.agrees(one(headers, header)?.as_deref(), &arguments) {
            return Err(mismatch("the argument that it mirrors", header));
        }
    }
    Ok(())
}

fn part<'a>(span: &Span, body: &'a [u8]) -> Option<&'a [u8]> {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    body.get(within(span.start)..within(span.end))
}

/// Whether messages of a version are mirrored in headers, and belong to no session.
pub(crate) fn is_mirrored(version: &str) -> bool {
    version >= MIRRORED_SINCE && version.starts_with(|first: char| first.is_ascii_digit())
}

/// Notifications may leave a header out, requests may not.
fn agree(
    message: &Message,
    said: Option<String>,
    meant: Option<&str>,
    header: &str,
) -> Result<(), Objection> {
    let is_left_out = said.is_none() && message.id.is_none();
    if is_left_out || said.as_deref() == meant { Ok(()) } else { Err(mismatch("the message", header)) }
}

/// What `mcp-name` has to say of a message, if anything.
fn name(message: &Message, method: &str, body: &[u8]) -> Option<String> {
    let text = |span: &Option<Span>| serde_json::from_slice::<String>(part(span.as_ref()?, body)?).ok();
    match method {
        "tools/call" | "prompts/get" => message.name.clone(),
        "resources/read" => text(&message.uri),
        "tasks/get" | "tasks/update" | "tasks/cancel" => text(&message.task),
        _ => None,
    }
}

/// The value of a header, decoded where it is wrapped as `=?base64?…?=`.
fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, Objection> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).filter(|_| values.next().is_none());
    let text = text.ok_or_else(|| mismatch("it is not one text", name))?;
    let Some(wrapped) = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(Some(text.to_owned()));
    };
    let decoded = STANDARD.decode(wrapped).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map(Some).ok_or_else(|| mismatch("it is not base64", name))
}

fn mismatch(what: &str, header: &str) -> Objection {
    Objection::new(Reason::HeaderMismatch, &format!("`{header}`: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"add"}}"#;

    fn agrees(body: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(&map, &Messages::read(body.as_bytes()).unwrap(), body.as_bytes(), |_| None).is_ok()
    }

    fn modern(body: &str, headers: &[(&'static str, &str)]) -> bool {
        agrees(body, &[&[("mcp-protocol-version", "2026-07-28")], headers].concat())
    }

    #[test]
    fn earlier_versions_are_not_asked_for_them() {
        assert!(agrees(CALL, &[]) && agrees(CALL, &[("mcp-method", "other")]));
        assert!(agrees(CALL, &[("mcp-protocol-version", "2025-11-25"), ("mcp-name", "other")]));
    }

    #[test]
    fn each_header_says_what_the_body_says() {
        let right = [("mcp-method", "tools/call"), ("mcp-name", "add")];
        assert!(modern(CALL, &right));
        assert!(modern(CALL, &[right[0], ("mcp-name", "=?base64?YWRk?=")]));
        for wrong in [
            &[right[0]][..],
            &[right[1]],
            &[],
            &[("mcp-method", "TOOLS/CALL"), right[1]],
            &[right[0], ("mcp-name", "Add")],
            &[right[0], right[1], right[1]],
            &[right[0], ("mcp-name", "=?base64?YWRk!?=")],
        ] {
            assert!(!modern(CALL, wrong), "{wrong:?}");
        }
        assert!(!modern(&format!("[{CALL}]"), &right));
        assert!(agrees(&format!("[{CALL}]"), &[]));
    }

    #[test]
    fn names_are_uris_and_tasks_where_the_method_has_those() {
        let read = r#"{"id":1,"method":"resources/read","params":{"uri":"a:\/\/\u0062"}}"#;
        assert!(modern(read, &[("mcp-method", "resources/read"), ("mcp-name", "a://b")]));
        assert!(!modern(read, &[("mcp-method", "resources/read")]));
        let task = r#"{"id":1,"method":"tasks/get","params":{"taskId":"t"}}"#;
        assert!(modern(task, &[("mcp-method", "tasks/get"), ("mcp-name", "t")]));
        assert!(!modern(task, &[("mcp-method", "tasks/get"), ("mcp-name", "u")]));
        assert!(modern(
            r#"{"id":1,"method":"tools/list"}"#,
            &[("mcp-method", "tools/list"), ("mcp-name", "any")]
        ));
    }

    #[test]
    fn the_version_in_the_body_counts_too() {
        let stated = |version: &str| {
            format!(
                r#"{{"id":1,"method":"tools/list","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}"}}}}}}"#
            )
        };
        let method = ("mcp-method", "tools/list");
        assert!(modern(&stated("2026-07-28"), &[method]));
        assert!(!modern(&stated("2027-01-01"), &[method]));
        assert!(!agrees(&stated("2026-07-28"), &[method]));
        assert!(agrees(&stated("2025-11-25"), &[]));
        for earlier in ["2025-11-25", "DRAFT"] {
            assert!(!agrees(
                &stated("2026-07-28"),
                &[("mcp-protocol-version", earlier), ("mcp-method", "ping")]
            ));
        }
    }

    #[test]
    fn answers_and_notifications_need_none() {
        assert!(modern(r#"{"id":1,"result":{}}"#, &[]));
        let told = r#"{"method":"notifications/cancelled"}"#;
        assert!(modern(told, &[]) && !modern(told, &[("mcp-method", "tools/call")]));
    }
}
