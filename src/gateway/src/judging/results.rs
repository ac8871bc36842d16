//! Results of tools in a request, on their way to the model.

use std::collections::HashMap;

use estoppel_wire::dialect::Dialect;
use serde_json::Value;

/// One result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToolResult<'a> {
    /// None: the request does not say, or says in two ways, which tool was called.
    pub(super) name: Option<&'a str>,
    /// None: it is no single text, so that nobody knows what the model reads.
    pub(super) text: Option<String>,
    /// As it stands in the request.
    pub(super) given: &'a Value,
    /// It says itself that it is an error.
    pub(super) failed: bool,
}

/// What tools gave, as a request to a model brings it along, each with the tool's name if that is known: results of its
/// client's tools, failed ones too, and of those that the provider runs.
pub(crate) fn given(dialect: Dialect, request: &Value) -> Vec<(Option<&str>, &Value)> {
    let own = results(dialect, request).into_iter().map(|result| (result.name, result.given));
    let others = match dialect {
        Dialect::OpenAiResponses => list(&request["input"]),
        Dialect::AnthropicMessages => {
            let contents = list(&request["messages"]).into_iter().map(|message| &message["content"]);
            contents.flat_map(list).collect()
        }
        _ => Vec::new(),
    };
    own.chain(others.into_iter().filter_map(provider_given)).collect()
}

/// A result of a tool that is not the client's function.
fn provider_given(item: &Value) -> Option<(Option<&str>, &Value)> {
    match item["type"].as_str()? {
        "function_call_output" | "custom_tool_call_output" | "tool_result" => None,
        "mcp_call" => Some((item["name"].as_str(), item)),
        kind if kind.ends_with("_output") => Some((None, &item["output"])),
        kind if kind.ends_with("_tool_result") => Some((None, &item["content"])),
        _ => None,
    }
}

/// The results in a request that is read as `dialect`.
pub(super) fn results(dialect: Dialect, request: &Value) -> Vec<ToolResult<'_>> {
    let items = |name: &str| request[name].as_array().into_iter().flatten();
    match dialect {
        Dialect::OpenAiChat => chat(items("messages").collect()),
        Dialect::OpenAiResponses => responses(items("input").collect()),
        Dialect::AnthropicMessages => {
            let blocks = items("messages").flat_map(|message| message["content"].as_array());
            messages(blocks.flatten().collect())
        }
        Dialect::Gemini => {
            let parts = list(&request["contents"]).into_iter().flat_map(|content| list(&content["parts"]));
            gemini(parts.collect())
        }
        Dialect::Mcp | Dialect::Json | Dialect::Bytes => Vec::new(),
    }
}

impl<'a> ToolResult<'a> {
    fn new(name: Option<&'a str>, given: &'a Value) -> Self {
        Self { name, text: text(given), given, failed: false }
    }
}

/// Names of calls by their ids; none for an id that two tools have.
#[derive(Default)]
struct Calls<'a>(HashMap<&'a str, Option<&'a str>>);

impl<'a> Calls<'a> {
    fn add(&mut self, id: &'a Value, name: &'a Value) {
        let (Some(id), name) = (id.as_str(), name.as_str()) else { return };
        let known = self.0.entry(id).or_insert(name);
        if *known != name {
            *known = None;
        }
    }

    fn name(&self, id: &Value) -> Option<&'a str> {
        *self.0.get(id.as_str()?)?
    }
}

fn chat(messages: Vec<&Value>) -> Vec<ToolResult<'_>> {
    let mut calls = Calls::default();
    for call in messages.iter().flat_map(|message| message["tool_calls"].as_array()).flatten() {
        calls.add(
            &call["id"],
            if call["custom"].is_null() { &call["function"]["name"] } else { &call["custom"]["name"] },
        );
    }
    let of_role =
        |role: &'static str| messages.iter().copied().filter(move |message| message["role"] == role);
    let by_id = of_role("tool")
        .map(|message| ToolResult::new(calls.name(&message["tool_call_id"]), &message["content"]));
    let named =
        of_role("function").map(|message| ToolResult::new(message["name"].as_str(), &message["content"]));
    by_id.chain(named).collect()
}

fn responses(items: Vec<&Value>) -> Vec<ToolResult<'_>> {
    let mut calls = Calls::default();
    let kind = |item: &Value| item["type"].as_str().unwrap_or_default().to_owned();
    for item in items.iter().filter(|item| matches!(&*kind(item), "function_call" | "custom_tool_call")) {
        calls.add(&item["call_id"], &item["name"]);
    }
    let outputs = items
        .iter()
        .filter(|item| matches!(&*kind(item), "function_call_output" | "custom_tool_call_output"));
    outputs.map(|item| ToolResult::new(calls.name(&item["call_id"]), &item["output"])).collect()
}

fn messages(blocks: Vec<&Value>) -> Vec<ToolResult<'_>> {
    let mut calls = Calls::default();
    for block in blocks.iter().filter(|block| block["type"] == "tool_use") {
        calls.add(&block["id"], &block["name"]);
    }
    let results = blocks.iter().copied().filter(|block| block["type"] == "tool_result");
    results
        .map(|block| ToolResult {
            failed: block["is_error"] == true,
            ..ToolResult::new(calls.name(&block["tool_use_id"]), &block["content"])
        })
        .collect()
}

/// The elements of a list, or the one that stands in its place, as protocol buffers may be written.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn gemini(parts: Vec<&Value>) -> Vec<ToolResult<'_>> {
    let mut ids = Calls::default();
    let mut called = Vec::new();
    for call in parts.iter().filter_map(|part| spelt(part, "functionCall", "function_call")) {
        ids.add(&call["id"], &call["name"]);
        called.extend(call["name"].as_str());
    }
    let results = parts.iter().filter_map(|part| spelt(part, "functionResponse", "function_response"));
    let mut out = Vec::new();
    for response in results {
        let name = response["name"].as_str().filter(|name| {
            called.contains(name) && (response["id"].is_null() || ids.name(&response["id"]) == Some(*name))
        });
        let given = &response["response"];
        out.push(ToolResult { name, text: Some(given.to_string()), given, failed: false });
    }
    out
}

/// A member by either of its names; what is there by both is nothing that one can read.
fn spelt<'a>(part: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    match (&part[camel], &part[snake]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, one) | (one, Value::Null) => Some(one),
        _ => Some(&Value::Null),
    }
}

/// A content that is one text.
fn text(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => match parts.as_slice() {
            [part] if is_text(part) => part["text"].as_str().map(str::to_owned),
            _ => None,
        },
        _ => None,
    }
}

fn is_text(part: &Value) -> bool {
    matches!(part["type"].as_str(), None | Some("text" | "input_text" | "output_text"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(dialect: Dialect, request: &Value) -> Vec<(Option<String>, Option<String>)> {
        let results = results(dialect, request).into_iter().filter(|one| !one.failed);
        results.map(|one| (one.name.map(str::to_owned), one.text)).collect()
    }

    fn one(name: &str, text: &str) -> (Option<String>, Option<String>) {
        (Some(name.into()), Some(text.into()))
    }

    #[test]
    fn a_result_belongs_to_the_call_that_it_answers() {
        let chat = json!({ "messages": [
            { "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "f" } }, { "id": "b", "custom": { "name": "g" } }] },
            { "role": "tool", "tool_call_id": "b", "content": [{ "type": "text", "text": "2" }] },
            { "role": "tool", "tool_call_id": "a", "content": "1" },
            { "role": "tool", "tool_call_id": "c", "content": "3" },
            { "role": "function", "name": "h", "content": null },
        ] });
        let expected = [one("g", "2"), one("f", "1"), (None, Some("3".into())), (Some("h".into()), None)];
        assert_eq!(told(Dialect::OpenAiChat, &chat), expected);
        let responses = json!({ "input": [
            { "type": "function_call", "call_id": "a", "name": "f" },
            { "type": "function_call_output", "call_id": "a", "output": "1" },
            { "type": "function_call_output", "call_id": "x", "output": [{ "type": "input_text", "text": "2" }] },
        ] });
        assert_eq!(told(Dialect::OpenAiResponses, &responses), [one("f", "1"), (None, Some("2".into()))]);
        let messages = json!({ "messages": [
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "f", "input": {} }] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "a", "content": "1" },
                { "type": "tool_result", "tool_use_id": "a", "content": "no", "is_error": true },
                { "type": "tool_result", "tool_use_id": "a", "content": [{ "text": "1" }, { "text": "2" }] },
            ] },
        ] });
        assert_eq!(told(Dialect::AnthropicMessages, &messages), [one("f", "1"), (Some("f".into()), None)]);
        let gemini = json!({ "contents": [{ "parts": [
            { "functionCall": { "name": "f", "id": "1" } }, { "function_call": { "name": "g" } },
            { "functionResponse": { "name": "other", "response": {} } },
            { "functionResponse": { "name": "g", "id": "1", "response": {} } },
            { "functionResponse": { "name": "f", "response": { "n": 1 } } },
            { "function_response": { "name": "g", "response": { "n": 2 } } },
            { "text": "hello" },
        ] }] });
        let nobodys = (None, Some("{}".into()));
        let expected = [nobodys.clone(), nobodys, one("f", "{\"n\":1}"), one("g", "{\"n\":2}")];
        assert_eq!(told(Dialect::Gemini, &gemini), expected);
        let single =
            json!({ "contents": { "parts": { "functionResponse": { "name": "f", "response": 1 } } } });
        assert_eq!(told(Dialect::Gemini, &single), [(None, Some("1".into()))]);
        let image = json!({ "messages": [{ "role": "function", "name": "h", "content": [{ "type": "image_url", "text": "1" }] }] });
        assert_eq!(told(Dialect::OpenAiChat, &image), [(Some("h".into()), None)]);
    }

    #[test]
    fn an_id_that_two_tools_have_names_none() {
        let chat = json!({ "messages": [
            { "tool_calls": [{ "id": "a", "function": { "name": "f" } }, { "id": "a", "function": { "name": "g" } }] },
            { "role": "tool", "tool_call_id": "a", "content": "1" },
        ] });
        assert_eq!(told(Dialect::OpenAiChat, &chat), [(None, Some("1".into()))]);
    }
}
