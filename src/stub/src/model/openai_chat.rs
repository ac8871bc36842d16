//! OpenAI Chat Completions.

use serde_json::{Value, json};

use super::{CREATED, Turn, data};
use crate::answer::Made;

const ID: &str = "chatcmpl-scripted";

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.stream { stream(turn) } else { Made::plain("application/json", whole(turn).to_string()) }
}

fn finish(turn: &Turn) -> &str {
    let usual = if turn.calls.is_empty() { "stop" } else { "tool_calls" };
    turn.finish.as_deref().unwrap_or(usual)
}

fn usage(turn: &Turn) -> Value {
    let output = turn.output_tokens();
    json!({ "prompt_tokens": turn.input_tokens, "completion_tokens": output, "total_tokens": turn.input_tokens + output })
}

fn whole(turn: &Turn) -> Value {
    let content = if turn.text.is_empty() { Value::Null } else { turn.text.clone().into() };
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().enumerate().map(|(n, call)| {
            json!({ "id": format!("call_{n}"), "type": "function",
                "function": { "name": call.name, "arguments": call.arguments } })
        });
        message["tool_calls"] = calls.collect();
    }
    json!({
        "id": ID, "object": "chat.completion", "created": CREATED, "model": turn.model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish(turn) }],
        "usage": usage(turn),
    })
}

fn chunk(turn: &Turn, delta: &Value, finish: Option<&str>) -> String {
    data(&json!({
        "id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": turn.model,
        "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }],
    }))
}

fn stream(turn: &Turn) -> Made {
    let mut events = vec![chunk(turn, &json!({ "role": "assistant", "content": "" }), None)];
    events.extend(turn.text_fragments().iter().map(|text| chunk(turn, &json!({ "content": text }), None)));
    for (n, call) in turn.calls.iter().enumerate() {
        let start = json!({ "index": n, "id": format!("call_{n}"), "type": "function",
            "function": { "name": call.name, "arguments": "" } });
        events.push(chunk(turn, &json!({ "tool_calls": [start] }), None));
        for part in turn.argument_fragments(call) {
            let delta = json!({ "tool_calls": [{ "index": n, "function": { "arguments": part } }] });
            events.push(chunk(turn, &delta, None));
        }
    }
    events.push(chunk(turn, &json!({}), Some(finish(turn))));
    if turn.include_usage {
        events.push(data(&json!({
            "id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": turn.model,
            "choices": [], "usage": usage(turn),
        })));
    }
    events.push("data: [DONE]\n\n".to_owned());
    Made::pieces("text/event-stream", &events)
}
