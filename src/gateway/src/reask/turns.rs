//! A refused answer as turns of its conversation: what the model said, and what it is told of that.
//!
//! Nothing but text and calls of the client's tools can be said back. An answer with anything else, with several
//! choices, or in which the upstream called a tool itself, gives no turns.

use std::collections::BTreeMap;

use estoppel_wire::dialect::Dialect;
use serde_json::{Map, Value, json};

/// An answer as it came: one document, or the data of each of its events.
pub(super) struct Answer {
    pub(super) documents: Vec<Value>,
    pub(super) is_stream: bool,
}

/// The turns that follow a request whose answer is refused, as JSON texts.
pub(super) fn after(dialect: Dialect, answer: &Answer, told: &str) -> Option<Vec<String>> {
    let turns = match dialect {
        Dialect::OpenAiChat => chat(answer, told),
        Dialect::OpenAiResponses => responses(answer, told),
        Dialect::AnthropicMessages => messages(answer, told),
        Dialect::Gemini => gemini(answer, told),
        Dialect::Mcp | Dialect::Json | Dialect::Bytes => None,
    }?;
    Some(turns.iter().map(Value::to_string).collect())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Adds a piece of text to a member.
fn append(object: &mut Map<String, Value>, name: &str, piece: &Value) {
    let Some(piece) = piece.as_str() else { return };
    match object.get_mut(name) {
        Some(Value::String(text)) => text.push_str(piece),
        _ => drop(object.insert(name.to_owned(), piece.into())),
    }
}

fn chat(answer: &Answer, told: &str) -> Option<Vec<Value>> {
    let (mut text, mut calls) = (String::new(), BTreeMap::<u64, Map<String, Value>>::new());
    for document in &answer.documents {
        let choices = list(&document["choices"]);
        if choices.len() > 1 || choices.iter().any(|choice| choice["index"].as_u64().unwrap_or(0) > 0) {
            return None;
        }
        for choice in choices {
            let said = if answer.is_stream { &choice["delta"] } else { &choice["message"] };
            if ["function_call", "audio", "refusal"].iter().any(|name| !said[*name].is_null()) {
                return None;
            }
            match &said["content"] {
                Value::Null => {}
                Value::String(piece) => text.push_str(piece),
                _ => return None,
            }
            for (place, piece) in (0..).zip(list(&said["tool_calls"])) {
                let call = calls.entry(piece["index"].as_u64().unwrap_or(place)).or_default();
                add_call(call, piece.as_object()?);
            }
        }
    }
    let mut said =
        json!({ "role": "assistant", "content": if text.is_empty() { Value::Null } else { text.into() } });
    if calls.is_empty() {
        let nothing = said["content"].is_null();
        return (!nothing).then(|| vec![said, json!({ "role": "user", "content": told })]);
    }
    let mut turns = Vec::new();
    for call in calls.values() {
        let id = call.get("id")?.as_str()?;
        turns.push(json!({ "role": "tool", "tool_call_id": id, "content": told }));
    }
    said["tool_calls"] = calls.into_values().collect();
    turns.insert(0, said);
    Some(turns)
}

/// A piece of a chat's call: its arguments go on, all else is said once.
fn add_call(call: &mut Map<String, Value>, piece: &Map<String, Value>) {
    for (name, value) in piece.iter().filter(|(name, value)| *name != "index" && !value.is_null()) {
        let Some(function) = value.as_object() else {
            call.entry(name.as_str()).or_insert_with(|| value.clone());
            continue;
        };
        let known = call.entry(name.as_str()).or_insert_with(|| json!({}));
        let Some(known) = known.as_object_mut() else { continue };
        for (name, value) in function {
            match name.as_str() {
                "arguments" | "input" => append(known, name, value),
                _ => drop(known.entry(name.as_str()).or_insert_with(|| value.clone())),
            }
        }
    }
}

fn responses(answer: &Answer, told: &str) -> Option<Vec<Value>> {
    let (mut said, mut results) = (Vec::new(), Vec::new());
    for item in output(answer)?.values() {
        let call = &item["call_id"];
        match item["type"].as_str()? {
            "reasoning" => {} // it belongs to the answer that is refused
            "message" => {
                let parts = list(&item["content"]);
                if parts.iter().any(|part| part["type"] != "output_text") {
                    return None;
                }
                let text: String = parts.iter().map(|part| text_of(&part["text"])).collect();
                said.push(json!({ "role": "assistant", "content": text }));
            }
            // Without their ids, which lead to what the upstream may have stored.
            kind @ "function_call" => {
                let (name, arguments) = (item["name"].as_str()?, text_of(&item["arguments"]));
                said.push(
                    json!({ "type": kind, "call_id": call.as_str()?, "name": name, "arguments": arguments }),
                );
                results.push(json!({ "type": "function_call_output", "call_id": call, "output": told }));
            }
            kind @ "custom_tool_call" => {
                let (name, input) = (item["name"].as_str()?, text_of(&item["input"]));
                said.push(json!({ "type": kind, "call_id": call.as_str()?, "name": name, "input": input }));
                results.push(json!({ "type": "custom_tool_call_output", "call_id": call, "output": told }));
            }
            _ => return None,
        }
    }
    if said.is_empty() {
        return None;
    }
    if results.is_empty() {
        results.push(json!({ "role": "user", "content": told }));
    }
    said.append(&mut results);
    Some(said)
}

/// The items of a response by their place.
fn output(answer: &Answer) -> Option<BTreeMap<u64, Value>> {
    if !answer.is_stream {
        return Some((0..).zip(list(&answer.documents.first()?["output"]).iter().cloned()).collect());
    }
    let mut items = BTreeMap::new();
    for event in &answer.documents {
        let kind = text_of(&event["type"]);
        let Some(place) = event["output_index"].as_u64() else { continue };
        if matches!(kind, "response.output_item.added" | "response.output_item.done") {
            items.insert(place, event["item"].clone());
            continue;
        }
        let Some(item) = items.get_mut(&place).and_then(Value::as_object_mut) else { continue };
        match kind {
            "response.function_call_arguments.delta" => append(item, "arguments", &event["delta"]),
            "response.custom_tool_call_input.delta" => append(item, "input", &event["delta"]),
            "response.output_text.delta" => {
                let part = item.get_mut("content").and_then(Value::as_array_mut)?;
                if part.is_empty() {
                    part.push(json!({ "type": "output_text" }));
                }
                append(part.last_mut()?.as_object_mut()?, "text", &event["delta"]);
            }
            _ => {}
        }
    }
    Some(items)
}

fn messages(answer: &Answer, told: &str) -> Option<Vec<Value>> {
    let mut blocks = content(answer)?;
    blocks.retain(|block| block["type"] != "text" || block["text"] != "");
    let kinds = ["text", "thinking", "redacted_thinking", "tool_use"];
    let is_plain = blocks.iter().all(|block| kinds.contains(&text_of(&block["type"])));
    if blocks.is_empty() || !is_plain {
        return None;
    }
    let mut results = Vec::new();
    for block in blocks.iter().filter(|block| block["type"] == "tool_use") {
        let id = block["id"].as_str()?;
        results.push(json!({ "type": "tool_result", "tool_use_id": id, "is_error": true, "content": told }));
    }
    let reply = if results.is_empty() { json!(told) } else { results.into() };
    Some(vec![json!({ "role": "assistant", "content": blocks }), json!({ "role": "user", "content": reply })])
}

/// The blocks of a message.
fn content(answer: &Answer) -> Option<Vec<Value>> {
    if !answer.is_stream {
        return Some(list(&answer.documents.first()?["content"]).to_vec());
    }
    let mut blocks: Vec<(Map<String, Value>, String)> = Vec::new();
    for event in &answer.documents {
        match text_of(&event["type"]) {
            "content_block_start" => {
                blocks.push((event["content_block"].as_object()?.clone(), String::new()))
            }
            "content_block_delta" => {
                let (block, input) = blocks.last_mut()?;
                let delta = &event["delta"];
                match text_of(&delta["type"]) {
                    "text_delta" => append(block, "text", &delta["text"]),
                    "thinking_delta" => append(block, "thinking", &delta["thinking"]),
                    "signature_delta" => append(block, "signature", &delta["signature"]),
                    "input_json_delta" => input.push_str(text_of(&delta["partial_json"])),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let whole = |(mut block, input): (Map<String, Value>, String)| {
        if block.get("type").is_some_and(|kind| kind == "tool_use") && !input.is_empty() {
            // An input has to be an object, whatever the model made of it.
            let input: Map<String, Value> = serde_json::from_str(&input).unwrap_or_default();
            block.insert("input".into(), input.into());
        }
        Value::Object(block)
    };
    Some(blocks.into_iter().map(whole).collect())
}

fn gemini(answer: &Answer, told: &str) -> Option<Vec<Value>> {
    const PLAIN: [&str; 6] =
        ["text", "thought", "thoughtSignature", "thought_signature", "functionCall", "function_call"];
    let mut parts = Vec::new();
    let pieces = answer.documents.iter().flat_map(|document| match document {
        Value::Array(responses) => responses.as_slice(),
        one => std::slice::from_ref(one),
    });
    for response in pieces {
        let candidates = list(&response["candidates"]);
        if candidates.len() > 1 || candidates.iter().any(|one| one["index"].as_u64().unwrap_or(0) > 0) {
            return None;
        }
        parts.extend(candidates.iter().flat_map(|candidate| list(&candidate["content"]["parts"])));
    }
    let mut results = Vec::new();
    for part in &parts {
        if !part.as_object()?.keys().all(|name| PLAIN.contains(&name.as_str())) {
            return None;
        }
        let Some(call) = part.get("functionCall").or_else(|| part.get("function_call")) else { continue };
        let mut result = json!({ "name": call["name"].as_str()?, "response": { "error": told } });
        if let Some(id) = call.get("id") {
            result["id"] = id.clone();
        }
        results.push(json!({ "functionResponse": result }));
    }
    if parts.is_empty() {
        return None;
    }
    if results.is_empty() {
        results.push(json!({ "text": told }));
    }
    Some(vec![json!({ "role": "model", "parts": parts }), json!({ "role": "user", "parts": results })])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, is_stream: bool, documents: Value, expected: Value) {
        let documents = documents.as_array().unwrap().clone();
        let turns = after(dialect, &Answer { documents, is_stream }, "NO");
        let read = |turn: &String| serde_json::from_str::<Value>(turn).unwrap();
        let turns = turns.map_or(Value::Null, |turns| turns.iter().map(read).collect());
        assert_eq!(turns, expected);
    }

    #[test]
    fn a_chat_says_its_calls_again_and_each_is_answered() {
        let call =
            |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{" } });
        let said = json!({ "role": "assistant", "content": "hm", "tool_calls": [call("a"), call("b")], "refusal": null });
        let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "NO" });
        let turns = json!([
            { "role": "assistant", "content": "hm", "tool_calls": [call("a"), call("b")] },
            result("a"),
            result("b")
        ]);
        check(
            Dialect::OpenAiChat,
            false,
            json!([{ "choices": [{ "index": 0, "message": said }] }]),
            turns.clone(),
        );
        let event = |delta: Value| json!({ "choices": [{ "index": 0, "delta": delta }] });
        let piece = |index: u64, piece: &str| {
            event(json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }))
        };
        let begin = |index: u64, id: &str| {
            let function = json!({ "name": "f", "arguments": "" });
            event(
                json!({ "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }] }),
            )
        };
        let events = json!([
            event(json!({ "role": "assistant", "content": "h" })), event(json!({ "content": "m" })),
            begin(0, "a"), piece(0, "{"), begin(1, "b"), piece(1, "{"), { "choices": [] }
        ]);
        check(Dialect::OpenAiChat, true, events, turns);
    }

    #[test]
    fn a_text_is_answered_by_the_user() {
        let turns = json!([{ "role": "assistant", "content": "x" }, { "role": "user", "content": "NO" }]);
        let chat = json!([{ "choices": [{ "message": { "content": "x" } }] }]);
        check(Dialect::OpenAiChat, false, chat, turns.clone());
        let part = json!({ "type": "output_text", "text": "x" });
        let item = json!({ "type": "message", "id": "m", "content": [part] });
        let reasoning = json!({ "type": "reasoning", "id": "r" });
        check(Dialect::OpenAiResponses, false, json!([{ "output": [reasoning, item] }]), turns.clone());
        let added = json!({ "type": "message", "content": [] });
        let events = json!([
            { "type": "response.output_item.added", "output_index": 0, "item": added },
            { "type": "response.output_text.delta", "output_index": 0, "delta": "x" }
        ]);
        check(Dialect::OpenAiResponses, true, events, turns);
        let gemini = json!([[{ "candidates": [{ "content": { "parts": [{ "text": "x" }] } }] }]]);
        let turns = json!([
            { "role": "model", "parts": [{ "text": "x" }] },
            { "role": "user", "parts": [{ "text": "NO" }] }
        ]);
        check(Dialect::Gemini, false, gemini, turns);
    }

    #[test]
    fn responses_says_calls_again_without_the_ids_of_what_was_stored() {
        let call =
            json!({ "type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}" });
        let custom =
            json!({ "type": "custom_tool_call", "id": "x", "call_id": "d", "name": "g", "input": "1" });
        let turns = json!([
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
            { "type": "custom_tool_call", "call_id": "d", "name": "g", "input": "1" },
            { "type": "function_call_output", "call_id": "c", "output": "NO" },
            { "type": "custom_tool_call_output", "call_id": "d", "output": "NO" }
        ]);
        check(Dialect::OpenAiResponses, false, json!([{ "output": [call, custom] }]), turns);
    }

    #[test]
    fn a_message_keeps_its_thinking_and_its_results_are_errors() {
        let start = |block: Value| json!({ "type": "content_block_start", "content_block": block });
        let delta = |delta: Value| json!({ "type": "content_block_delta", "delta": delta });
        let events = json!([
            start(json!({ "type": "thinking", "thinking": "", "signature": "" })),
            delta(json!({ "type": "thinking_delta", "thinking": "t" })),
            delta(json!({ "type": "signature_delta", "signature": "s" })),
            start(json!({ "type": "text", "text": "" })),
            start(json!({ "type": "tool_use", "id": "a", "name": "f", "input": {} })),
            delta(json!({ "type": "input_json_delta", "partial_json": "{\"x\":" })),
            delta(json!({ "type": "input_json_delta", "partial_json": "1}" })),
            start(json!({ "type": "tool_use", "id": "b", "name": "f", "input": {} })),
            delta(json!({ "type": "input_json_delta", "partial_json": "{\"x\":" })),
        ]);
        let result =
            |id: &str| json!({ "type": "tool_result", "tool_use_id": id, "is_error": true, "content": "NO" });
        let blocks = json!([
            { "type": "thinking", "thinking": "t", "signature": "s" },
            { "type": "tool_use", "id": "a", "name": "f", "input": { "x": 1 } },
            { "type": "tool_use", "id": "b", "name": "f", "input": {} }
        ]);
        let turns = json!([
            { "role": "assistant", "content": blocks },
            { "role": "user", "content": [result("a"), result("b")] }
        ]);
        check(Dialect::AnthropicMessages, true, events, turns.clone());
        check(Dialect::AnthropicMessages, false, json!([{ "content": blocks }]), turns);
    }

    #[test]
    fn gemini_gets_a_response_for_each_call_with_its_id() {
        let part = json!({ "functionCall": { "name": "f", "id": "7", "args": {} }, "thoughtSignature": "s" });
        let response = json!({ "name": "f", "id": "7", "response": { "error": "NO" } });
        let turns = json!([
            { "role": "model", "parts": [part] },
            { "role": "user", "parts": [{ "functionResponse": response }] }
        ]);
        let event = json!({ "candidates": [{ "content": { "parts": [part] } }] });
        check(Dialect::Gemini, true, json!([event]), turns);
    }

    #[test]
    fn what_cannot_be_said_back_gives_no_turns() {
        let message = |message: Value| json!({ "choices": [{ "message": message }] });
        let choices = json!({ "choices": [{ "index": 0, "message": {} }, { "index": 1, "message": {} }] });
        for document in [
            message(json!({ "content": null })),
            message(json!({ "content": "x", "audio": {} })),
            message(json!({ "tool_calls": [{ "function": {} }] })),
            choices,
        ] {
            check(Dialect::OpenAiChat, false, json!([document]), Value::Null);
        }
        for kind in ["mcp_call", "web_search_call", "code_interpreter_call", "computer_call"] {
            check(Dialect::OpenAiResponses, false, json!([{ "output": [{ "type": kind }] }]), Value::Null);
        }
        for kind in ["server_tool_use", "mcp_tool_use"] {
            check(Dialect::AnthropicMessages, false, json!([{ "content": [{ "type": kind }] }]), Value::Null);
        }
        let parts = json!([{ "executableCode": {} }]);
        let document = json!({ "candidates": [{ "content": { "parts": parts } }] });
        check(Dialect::Gemini, false, json!([document]), Value::Null);
    }
}
