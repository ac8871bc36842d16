//! Gemini generateContent and streamGenerateContent.

use serde_json::{Value, json};

use super::{Turn, data};
use crate::answer::Made;

pub(super) fn answer(turn: &Turn, target: &str) -> Made {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.ends_with(":streamGenerateContent") {
        return Made::plain("application/json", chunk(turn, parts(turn), true).to_string());
    }
    let mut chunks: Vec<Value> =
        turn.text_fragments().iter().map(|text| chunk(turn, vec![json!({ "text": text })], false)).collect();
    let calls = turn.calls.iter().map(call_part).collect();
    chunks.push(chunk(turn, calls, true));
    if query.split('&').any(|pair| pair == "alt=sse") {
        return Made::pieces("text/event-stream", &chunks.iter().map(data).collect::<Vec<_>>());
    }
    let last = chunks.len() - 1;
    let pieces: Vec<String> = chunks
        .iter()
        .enumerate()
        .map(|(n, chunk)| {
            let (before, after) = (if n == 0 { "[" } else { ",\n" }, if n == last { "]" } else { "" });
            format!("{before}{chunk}{after}")
        })
        .collect();
    Made::pieces("application/json", &pieces)
}

fn call_part(call: &crate::script::ToolCall) -> Value {
    let args: Value = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
    json!({ "functionCall": { "name": call.name, "args": args } })
}

fn parts(turn: &Turn) -> Vec<Value> {
    let text = (!turn.text.is_empty()).then(|| json!({ "text": turn.text }));
    text.into_iter().chain(turn.calls.iter().map(call_part)).collect()
}

fn chunk(turn: &Turn, parts: Vec<Value>, last: bool) -> Value {
    let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
    if last {
        candidate["finishReason"] = turn.finish.as_deref().unwrap_or("STOP").into();
    }
    let output = turn.output_tokens();
    json!({
        "candidates": [candidate], "modelVersion": turn.model,
        "usageMetadata": { "promptTokenCount": turn.input_tokens, "candidatesTokenCount": output,
            "totalTokenCount": turn.input_tokens + output },
    })
}
