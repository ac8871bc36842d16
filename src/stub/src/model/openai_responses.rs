//! OpenAI Responses.

use serde_json::{Value, json};

use super::{CREATED, Turn, named};
use crate::answer::Made;

const ID: &str = "resp_scripted";

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.stream {
        stream(turn)
    } else {
        Made::plain("application/json", response(turn, "completed", output(turn)).to_string())
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn message(turn: &Turn, status: &str, content: Vec<Value>) -> Value {
    let _ = turn;
    json!({ "id": "msg_scripted", "type": "message", "role": "assistant", "status": status, "content": content })
}

fn call_item(n: usize, name: &str, arguments: &str, status: &str) -> Value {
    json!({ "id": format!("fc_{n}"), "type": "function_call", "call_id": format!("call_{n}"), "name": name,
        "arguments": arguments, "status": status })
}

fn output(turn: &Turn) -> Vec<Value> {
    let mut items = Vec::new();
    if !turn.text.is_empty() || turn.calls.is_empty() {
        items.push(message(turn, "completed", vec![text_part(&turn.text)]));
    }
    let calls = turn.calls.iter().enumerate();
    items.extend(calls.map(|(n, call)| call_item(n, &call.name, &call.arguments, "completed")));
    items
}

fn response(turn: &Turn, status: &str, output: Vec<Value>) -> Value {
    let status = if status == "completed" { turn.finish.as_deref().unwrap_or(status) } else { status };
    let tokens = turn.output_tokens();
    let usage = match status {
        "in_progress" => Value::Null,
        _ => json!({
            "input_tokens": turn.input_tokens, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": tokens, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": turn.input_tokens + tokens,
        }),
    };
    json!({
        "id": ID, "object": "response", "created_at": CREATED, "status": status, "model": turn.model, "output": output,
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true,
        "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [], "usage": usage,
    })
}

fn stream(turn: &Turn) -> Made {
    let mut events: Vec<Value> = vec![
        json!({ "type": "response.created", "response": response(turn, "in_progress", Vec::new()) }),
        json!({ "type": "response.in_progress", "response": response(turn, "in_progress", Vec::new()) }),
    ];
    let mut at = 0;
    if !turn.text.is_empty() || turn.calls.is_empty() {
        text_events(turn, at, &mut events);
        at += 1;
    }
    for (n, call) in turn.calls.iter().enumerate() {
        let item = format!("fc_{n}");
        let added = call_item(n, &call.name, "", "in_progress");
        events.push(json!({ "type": "response.output_item.added", "output_index": at, "item": added }));
        for part in turn.argument_fragments(call) {
            events.push(json!({ "type": "response.function_call_arguments.delta", "output_index": at, "item_id": item, "delta": part }));
        }
        events.push(
            json!({ "type": "response.function_call_arguments.done", "output_index": at, "item_id": item,
            "name": call.name, "arguments": call.arguments }),
        );
        let done = call_item(n, &call.name, &call.arguments, "completed");
        events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": done }));
        at += 1;
    }
    events
        .push(json!({ "type": "response.completed", "response": response(turn, "completed", output(turn)) }));
    let pieces: Vec<String> = events
        .into_iter()
        .enumerate()
        .map(|(n, mut event)| {
            event["sequence_number"] = n.into();
            named(&event)
        })
        .collect();
    Made::pieces("text/event-stream", &pieces)
}

fn text_events(turn: &Turn, at: usize, events: &mut Vec<Value>) {
    let place = |kind: &str| json!({ "type": kind, "output_index": at, "item_id": "msg_scripted", "content_index": 0 });
    let with = |kind: &str, name: &str, value: Value| {
        let mut event = place(kind);
        event[name] = value;
        event
    };
    events.push(json!({ "type": "response.output_item.added", "output_index": at, "item": message(turn, "in_progress", Vec::new()) }));
    events.push(with("response.content_part.added", "part", text_part("")));
    for text in turn.text_fragments() {
        let mut event = with("response.output_text.delta", "delta", text.into());
        event["logprobs"] = json!([]);
        events.push(event);
    }
    let mut done = with("response.output_text.done", "text", turn.text.clone().into());
    done["logprobs"] = json!([]);
    events.push(done);
    events.push(with("response.content_part.done", "part", text_part(&turn.text)));
    let item = message(turn, "completed", vec![text_part(&turn.text)]);
    events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
}
