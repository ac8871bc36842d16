//! OpenAI Chat Completions.

use super::compose::{array, event, object, quoted, raw};
use super::{CREATED, EVENTS, JSON, Turn};
use crate::answer::Made;
use crate::script::ToolCall;

const ID: &str = "chatcmpl-scripted";
const END: &str = "data: [DONE]\n\n";

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.ask.stream { Made::pieces(EVENTS, &stream(turn)) } else { Made::plain(JSON, whole(turn)) }
}

pub(super) fn refusal(why: &str) -> String {
    let error = object(&[
        ("message", quoted(why)),
        ("type", quoted("invalid_request_error")),
        ("param", raw("null")),
        ("code", raw("null")),
    ]);
    object(&[("error", error)])
}

fn whole(turn: &Turn) -> String {
    let content = if turn.speaks() { quoted(&turn.text) } else { raw("null") };
    let mut message = vec![("role", quoted("assistant")), ("content", content), ("refusal", raw("null"))];
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().enumerate();
        let calls: Vec<String> = calls.map(|(n, call)| tool_call(n, call, &call.arguments, false)).collect();
        message.push(("tool_calls", array(&calls)));
    }
    let choice = |index: u64| {
        object(&[
            ("index", raw(index)),
            ("message", object(&message)),
            ("logprobs", raw("null")),
            ("finish_reason", quoted(turn.finish("stop", "tool_calls"))),
        ])
    };
    let choices: Vec<String> = (0..turn.ask.choices).map(choice).collect();
    let mut members = envelope(turn, "chat.completion", array(&choices));
    members.push(("usage", usage(turn)));
    object(&members)
}

fn stream(turn: &Turn) -> Vec<String> {
    let content = if turn.speaks() { quoted("") } else { raw("null") };
    let first = [("role", quoted("assistant")), ("content", content), ("refusal", raw("null"))];
    let mut deltas = vec![object(&first)];
    deltas.extend(turn.text_fragments().iter().map(|text| object(&[("content", quoted(text))])));
    for (n, call) in turn.calls.iter().enumerate() {
        deltas.push(object(&[("tool_calls", array(&[tool_call(n, call, "", true)]))]));
        deltas.extend(turn.argument_fragments(call).iter().map(|part| arguments_delta(n, part)));
    }
    let each_choice = |delta: &String, finish: Option<&str>| -> Vec<String> {
        (0..turn.ask.choices).map(|index| chunk(turn, index, delta, finish)).collect()
    };
    let mut events: Vec<String> = deltas.iter().flat_map(|delta| each_choice(delta, None)).collect();
    events.extend(each_choice(&object(&[]), Some(turn.finish("stop", "tool_calls"))));
    if turn.ask.include_usage {
        let mut members = envelope(turn, "chat.completion.chunk", array(&[]));
        members.push(("usage", usage(turn)));
        events.push(event(&object(&members)));
    }
    events.push(END.to_owned());
    events
}

fn chunk(turn: &Turn, index: u64, delta: &str, finish: Option<&str>) -> String {
    let choice = object(&[
        ("index", raw(index)),
        ("delta", raw(delta)),
        ("logprobs", raw("null")),
        ("finish_reason", finish.map_or_else(|| raw("null"), quoted)),
    ]);
    let mut members = envelope(turn, "chat.completion.chunk", array(&[choice]));
    if turn.ask.include_usage {
        members.push(("usage", raw("null")));
    }
    event(&object(&members))
}

fn tool_call(n: usize, call: &ToolCall, arguments: &str, indexed: bool) -> String {
    let function = object(&[("name", quoted(&call.name)), ("arguments", quoted(arguments))]);
    let mut members = if indexed { vec![("index", raw(n))] } else { Vec::new() };
    members.extend([
        ("id", quoted(&format!("call_{n}"))),
        ("type", quoted("function")),
        ("function", function),
    ]);
    object(&members)
}

fn arguments_delta(n: usize, part: &str) -> String {
    let function = object(&[("arguments", quoted(part))]);
    object(&[("tool_calls", array(&[object(&[("index", raw(n)), ("function", function)])]))])
}

fn envelope(turn: &Turn, kind: &str, choices: String) -> Vec<(&'static str, String)> {
    vec![
        ("id", quoted(ID)),
        ("object", quoted(kind)),
        ("created", raw(CREATED)),
        ("model", quoted(&turn.ask.model)),
        ("service_tier", quoted("default")),
        ("system_fingerprint", quoted("fp_scripted")),
        ("choices", choices),
    ]
}

fn usage(turn: &Turn) -> String {
    object(&[
        ("prompt_tokens", raw(turn.input_tokens())),
        ("completion_tokens", raw(turn.output_tokens())),
        ("total_tokens", raw(turn.all_tokens())),
        ("prompt_tokens_details", object(&[("cached_tokens", raw(0)), ("audio_tokens", raw(0))])),
        ("completion_tokens_details", object(&[("reasoning_tokens", raw(0)), ("audio_tokens", raw(0))])),
    ])
}
