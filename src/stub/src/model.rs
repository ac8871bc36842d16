//! A small deterministic model: what it says follows from the request, in the wire form of each provider.
//!
//! Good enough for the official clients: every member that they insist on is there. Ids and times are fixed.

mod anthropic;
mod gemini;
mod openai_chat;
mod openai_responses;

use bytes::Bytes;
use serde_json::Value;

use crate::answer::Made;
use crate::script::{Dialect, ModelReply, ToolCall};

/// `GET */models`.
pub(crate) const LIST: &str = concat!(
    r#"{"object":"list","data":[{"id":"scripted-1","object":"model","created":1700000000,"owned_by":"stub"}]}"#,
    "\n"
);

/// Moment that answers state.
const CREATED: u64 = 1_700_000_000;

/// What the model will say, whatever the wire form.
struct Turn {
    model: String,
    stream: bool,
    text: String,
    calls: Vec<ToolCall>,
    finish: Option<String>,
    fragment_bytes: Option<u32>,
    input_tokens: usize,
    include_usage: bool,
}

impl Turn {
    fn output_tokens(&self) -> usize {
        tokens(self.text.len() + self.calls.iter().map(|call| call.arguments.len()).sum::<usize>())
    }

    /// The text in the pieces that it is streamed in.
    fn text_fragments(&self) -> Vec<String> {
        match self.fragment_bytes {
            Some(bytes) => fragments(&self.text, bytes as usize),
            None => self.text.split_inclusive(' ').map(str::to_string).collect(),
        }
    }

    fn argument_fragments(&self, call: &ToolCall) -> Vec<String> {
        fragments(&call.arguments, self.fragment_bytes.map_or(9, |bytes| bytes as usize))
    }
}

/// About four bytes a token.
fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

/// Pieces of at most `bytes` bytes, never cut inside a character.
fn fragments(text: &str, bytes: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = bytes.clamp(1, rest.len());
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, left) = rest.split_at(end);
        out.push(piece.to_string());
        rest = left;
    }
    out
}

/// The answer to a request at `target` with `body`.
pub(crate) fn answer(reply: &ModelReply, target: &str, body: &Bytes) -> Made {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        let text = r#"{"error":{"message":"the request is not JSON","type":"invalid_request_error","param":null,"code":null}}"#;
        return Made::refusal(400, "application/json", text.to_owned());
    };
    let turn = turn(reply, &request, target, body.len());
    match reply.dialect {
        Dialect::ChatCompletions => openai_chat::answer(&turn),
        Dialect::Responses => openai_responses::answer(&turn),
        Dialect::Messages => anthropic::answer(&turn),
        Dialect::Gemini => gemini::answer(&turn, target),
    }
}

fn turn(reply: &ModelReply, request: &Value, target: &str, bytes: usize) -> Turn {
    let asked = last_user_text(request);
    let offered = first_tool(request);
    let wants_tool = asked.to_lowercase().contains("tool");
    let calls = match (&reply.calls, offered) {
        (Some(calls), _) => calls.clone(),
        (None, Some(name)) if wants_tool && reply.text.is_none() => {
            vec![ToolCall { name, arguments: r#"{"query":"evidence","limit":3}"#.to_owned() }]
        }
        _ => Vec::new(),
    };
    let text = match (&reply.text, calls.is_empty()) {
        (Some(text), _) => text.clone(),
        (None, true) => asked.to_uppercase(),
        (None, false) => String::new(),
    };
    let from_path = || {
        target.rsplit_once("/models/").map(|(_, rest)| rest.split([':', '?']).next().unwrap_or("").to_owned())
    };
    Turn {
        model: request["model"]
            .as_str()
            .map(str::to_string)
            .or_else(from_path)
            .unwrap_or_else(|| "scripted-1".into()),
        stream: request["stream"].as_bool().unwrap_or(false),
        text,
        calls,
        finish: reply.finish.clone(),
        fragment_bytes: reply.fragment_bytes,
        input_tokens: tokens(bytes),
        include_usage: request["stream_options"]["include_usage"].as_bool().unwrap_or(false),
    }
}

/// Text of the last message of the user, in any of the dialects.
fn last_user_text(request: &Value) -> String {
    if let Some(text) = request["input"].as_str() {
        return text.to_owned();
    }
    let lists = [&request["messages"], &request["input"], &request["contents"]];
    let messages = lists.into_iter().find_map(Value::as_array);
    let is_user = |message: &&Value| message["role"].as_str().is_none_or(|role| role == "user");
    let Some(message) = messages.and_then(|messages| messages.iter().rev().find(is_user)) else {
        return String::new();
    };
    let content = if message["parts"].is_array() { &message["parts"] } else { &message["content"] };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Name of the first offered tool.
fn first_tool(request: &Value) -> Option<String> {
    let tool = request["tools"].as_array()?.first()?;
    let names = [&tool["function"]["name"], &tool["name"], &tool["functionDeclarations"][0]["name"]];
    names.into_iter().find_map(Value::as_str).map(str::to_string)
}

/// An event without a name.
fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event whose name is the value's `type`.
fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or("message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dialect: Dialect, target: &str, body: &str) -> String {
        let made = answer(&ModelReply::new(dialect), target, &Bytes::from(body.to_owned()));
        String::from_utf8(made.source.slice(0, u64::MAX).to_vec()).unwrap()
    }

    #[test]
    fn it_repeats_the_user_in_upper_case_in_every_dialect() {
        let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi you"}]}"#;
        let value: Value = serde_json::from_str(&made(Dialect::ChatCompletions, "/", chat)).unwrap();
        assert_eq!(value["choices"][0]["message"]["content"], "HI YOU");
        let value: Value = serde_json::from_str(&made(Dialect::Messages, "/", chat)).unwrap();
        assert_eq!(value["content"][0]["text"], "HI YOU");
        let value: Value =
            serde_json::from_str(&made(Dialect::Responses, "/", r#"{"input":"hi you"}"#)).unwrap();
        assert_eq!(value["output"][0]["content"][0]["text"], "HI YOU");
        let gemini = r#"{"contents":[{"parts":[{"text":"hi you"}]}]}"#;
        let value: Value =
            serde_json::from_str(&made(Dialect::Gemini, "/models/g:generateContent", gemini)).unwrap();
        assert_eq!(value["candidates"][0]["content"]["parts"][0]["text"], "HI YOU");
    }

    #[test]
    fn it_calls_the_first_tool_when_asked_to() {
        let body =
            r#"{"messages":[{"role":"user","content":"use the tool"}],"tools":[{"function":{"name":"f"}}]}"#;
        let value: Value = serde_json::from_str(&made(Dialect::ChatCompletions, "/", body)).unwrap();
        assert_eq!(value["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f");
        assert_eq!(value["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn streams_end_with_the_dialect_s_own_terminator() {
        let body = r#"{"stream":true,"messages":[{"role":"user","content":"a b c"}]}"#;
        assert!(made(Dialect::ChatCompletions, "/", body).ends_with("data: [DONE]\n\n"));
        assert!(made(Dialect::Messages, "/", body).contains("event: message_stop\n"));
        let responses = made(Dialect::Responses, "/", r#"{"stream":true,"input":"a b"}"#);
        assert!(
            responses.starts_with("event: response.created\n")
                && responses.contains("event: response.completed\n")
        );
    }

    #[test]
    fn fragments_never_cut_a_character() {
        assert_eq!(fragments("aé€b", 1), ["a", "é", "€", "b"]);
        assert_eq!(fragments("abcdef", 4), ["abcd", "ef"]);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert_eq!(
            answer(&ModelReply::new(Dialect::Messages), "/", &Bytes::from_static(b"x")).status,
            Some(400)
        );
    }
}
