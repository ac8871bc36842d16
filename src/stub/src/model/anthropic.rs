//! Anthropic Messages.

use serde_json::{Value, json};

use super::{Turn, named};
use crate::answer::Made;

const ID: &str = "msg_scripted";

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.stream { stream(turn) } else { Made::plain("application/json", whole(turn).to_string()) }
}

fn stop_reason(turn: &Turn) -> &str {
    let usual = if turn.calls.is_empty() { "end_turn" } else { "tool_use" };
    turn.finish.as_deref().unwrap_or(usual)
}

fn whole(turn: &Turn) -> Value {
    let mut content = Vec::new();
    if !turn.text.is_empty() || turn.calls.is_empty() {
        content.push(json!({ "type": "text", "text": turn.text }));
    }
    for (n, call) in turn.calls.iter().enumerate() {
        let input: Value =
            serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.clone().into());
        content.push(
            json!({ "type": "tool_use", "id": format!("toolu_{n}"), "name": call.name, "input": input }),
        );
    }
    json!({
        "id": ID, "type": "message", "role": "assistant", "model": turn.model, "content": content,
        "stop_reason": stop_reason(turn), "stop_sequence": null,
        "usage": { "input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens() },
    })
}

fn stream(turn: &Turn) -> Made {
    let message = json!({
        "id": ID, "type": "message", "role": "assistant", "model": turn.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": { "input_tokens": turn.input_tokens, "output_tokens": 1 },
    });
    let mut events = vec![named(&json!({ "type": "message_start", "message": message }))];
    let mut index = 0;
    let mut block = |start: &Value, deltas: Vec<Value>| {
        events.push(named(&json!({ "type": "content_block_start", "index": index, "content_block": start })));
        for delta in deltas {
            events.push(named(&json!({ "type": "content_block_delta", "index": index, "delta": delta })));
        }
        events.push(named(&json!({ "type": "content_block_stop", "index": index })));
        index += 1;
    };
    if !turn.text.is_empty() || turn.calls.is_empty() {
        let deltas =
            turn.text_fragments().iter().map(|text| json!({ "type": "text_delta", "text": text })).collect();
        block(&json!({ "type": "text", "text": "" }), deltas);
    }
    for (n, call) in turn.calls.iter().enumerate() {
        let parts = turn.argument_fragments(call);
        let deltas =
            parts.iter().map(|part| json!({ "type": "input_json_delta", "partial_json": part })).collect();
        block(
            &json!({ "type": "tool_use", "id": format!("toolu_{n}"), "name": call.name, "input": {} }),
            deltas,
        );
    }
    events.insert(1, named(&json!({ "type": "ping" })));
    events.push(named(&json!({
        "type": "message_delta", "delta": { "stop_reason": stop_reason(turn), "stop_sequence": null },
        "usage": { "output_tokens": turn.output_tokens() },
    })));
    events.push(named(&json!({ "type": "message_stop" })));
    Made::pieces("text/event-stream", &events)
}
