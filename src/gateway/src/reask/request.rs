//! The second request: the client's own, byte for byte, with turns added at the end of its conversation.

use std::collections::BTreeMap;

use estoppel_wire::dialect::Dialect;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What of a request decides whether and where turns may be added. A member that comes twice makes it unreadable.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, alias = "input", alias = "contents")]
    messages: &'a RawValue,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    /// The upstream adds each answer to it, also a refused one.
    #[serde(default)]
    conversation: Option<IgnoredAny>,
    #[serde(default)]
    background: Option<bool>,
    /// Tools that the upstream itself calls.
    #[serde(default)]
    mcp_servers: Option<IgnoredAny>,
    #[serde(default)]
    web_search_options: Option<IgnoredAny>,
    /// What the upstream has stored may have tools, too.
    #[serde(default, alias = "cachedContent", alias = "cached_content")]
    prompt: Option<IgnoredAny>,
}

/// Of a tool's definition, which type it is.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

/// Whether calls of these tools are made by the client alone, so that a refused one has had no effect.
fn are_clients(dialect: Dialect, tools: &RawValue) -> bool {
    if dialect == Dialect::Gemini {
        let names = ["functionDeclarations", "function_declarations"];
        let tools: Result<Vec<BTreeMap<String, IgnoredAny>>, _> = serde_json::from_str(tools.get());
        return tools
            .is_ok_and(|tools| tools.iter().flat_map(BTreeMap::keys).all(|name| names.contains(&&**name)));
    }
    let tools: Result<Vec<Typed>, _> = serde_json::from_str(tools.get());
    tools.is_ok_and(|tools| {
        tools.iter().all(|tool| match tool.kind.as_deref() {
            None => dialect == Dialect::AnthropicMessages,
            Some("custom") => true,
            Some(kind) => kind == "function" && dialect != Dialect::AnthropicMessages,
        })
    })
}

/// `body` with `turns` at the end of its conversation; none if it is no request that may be made again.
pub(super) fn with_turns(dialect: Dialect, body: &[u8], turns: &[String]) -> Option<Vec<u8>> {
    let request: Request<'_> = serde_json::from_slice(body).ok()?;
    let keeps_state = request.conversation.is_some() || request.background == Some(true);
    let hidden = [&request.mcp_servers, &request.web_search_options, &request.prompt];
    if keeps_state || hidden.iter().any(|member| member.is_some()) || turns.is_empty() {
        return None;
    }
    if !request.tools.is_none_or(|tools| are_clients(dialect, tools)) {
        return None;
    }
    let conversation = request.messages.get();
    let start = conversation.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.get(conversation.len()..)?;
    let turns = turns.join(",");
    let joined = match conversation.as_bytes() {
        [b'[', inner @ .., b']'] if inner.trim_ascii().is_empty() => format!("[{turns}]"),
        [b'[', .., b']'] => format!("{},{turns}]", conversation.strip_suffix(']')?),
        [b'"', ..] if dialect == Dialect::OpenAiResponses => {
            format!(r#"[{{"role":"user","content":{conversation}}},{turns}]"#)
        }
        _ => return None,
    };
    Some([before, joined.as_bytes(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, body: &str, expected: Option<&str>) {
        let turns = ["1".to_owned(), "2".to_owned()];
        let made = with_turns(dialect, body.as_bytes(), &turns).map(|body| String::from_utf8(body).unwrap());
        assert_eq!(made.as_deref(), expected, "{body}");
    }

    #[test]
    fn turns_are_added_at_the_end_and_no_other_byte_changes() {
        check(
            Dialect::OpenAiChat,
            r#" {"n":1.50, "messages": [{"a":"]"} ] ,"z":1e2}"#,
            Some(r#" {"n":1.50, "messages": [{"a":"]"} ,1,2] ,"z":1e2}"#),
        );
        check(Dialect::Gemini, r#"{"contents":[ ]}"#, Some(r#"{"contents":[1,2]}"#));
        check(
            Dialect::OpenAiResponses,
            r#"{"input":"a\"b","store":false}"#,
            Some(r#"{"input":[{"role":"user","content":"a\"b"},1,2],"store":false}"#),
        );
    }

    #[test]
    fn what_keeps_state_or_calls_tools_itself_is_not_asked_again() {
        for body in [
            r#"{"input":"a","conversation":"conv_1"}"#,
            r#"{"input":"a","background":true}"#,
            r#"{"input":"a","prompt":{"id":"pmpt_1"}}"#,
            r#"{"input":"a","tools":[{"type":"mcp"}]}"#,
            r#"{"input":"a","tools":[{"name":"x"}]}"#,
            r#"{"input":"a","input":"b"}"#,
            r#"{"input":"a","messages":[]}"#,
            r#"{"prompt":"a"}"#,
            r#"{"input":7}"#,
            "[",
        ] {
            check(Dialect::OpenAiResponses, body, None);
        }
        check(
            Dialect::AnthropicMessages,
            r#"{"messages":[],"tools":[{"type":"web_search_20250305"}]}"#,
            None,
        );
        check(Dialect::AnthropicMessages, r#"{"messages":[],"mcp_servers":[{}]}"#, None);
        check(Dialect::AnthropicMessages, r#"{"messages":"a"}"#, None);
        check(Dialect::Gemini, r#"{"contents":[],"tools":[{"codeExecution":{}}]}"#, None);
        check(Dialect::Gemini, r#"{"contents":[],"cachedContent":"c"}"#, None);
        check(Dialect::Gemini, r#"{"contents":[],"cached_content":"c"}"#, None);
        check(Dialect::OpenAiChat, r#"{"messages":[],"web_search_options":{}}"#, None);
    }

    #[test]
    fn tools_of_the_client_are_no_hindrance() {
        for (dialect, body) in [
            (Dialect::OpenAiResponses, r#"{"input":[],"tools":[{"type":"function"},{"type":"custom"}]}"#),
            (Dialect::AnthropicMessages, r#"{"messages":[],"tools":[{"name":"x"},{"type":"custom"}]}"#),
            (Dialect::Gemini, r#"{"contents":[],"tools":[{"functionDeclarations":[]}]}"#),
        ] {
            assert!(with_turns(dialect, body.as_bytes(), &["1".into()]).is_some(), "{body}");
        }
    }
}
