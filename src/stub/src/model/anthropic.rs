//! Anthropic Messages.

use super::compose::{array, object, quoted, raw, typed_event};
use super::{EVENTS, JSON, Turn};
use crate::answer::Made;

const ID: &str = "msg_scripted";

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.ask.stream { Made::pieces(EVENTS, &stream(turn)) } else { Made::plain(JSON, whole(turn)) }
}

pub(super) fn refusal(why: &str) -> String {
    let error = object(&[("type", quoted("invalid_request_error")), ("message", quoted(why))]);
    object(&[("type", quoted("error")), ("error", error)])
}

fn whole(turn: &Turn) -> String {
    let mut content = Vec::new();
    if turn.speaks() {
        content.push(text_block(&turn.text));
    }
    let calls = turn.calls.iter().enumerate();
    content.extend(calls.map(|(n, call)| tool_block(n, &call.name, &call.arguments)));
    message(turn, &content, &quoted(stop_reason(turn)), turn.output_tokens())
}

fn stream(turn: &Turn) -> Vec<String> {
    let start = message(turn, &[], "null", 1);
    let mut events = vec![typed_event("message_start", &[("message", start)])];
    let mut blocks = 0;
    if turn.speaks() {
        let texts = turn.text_fragments();
        let deltas = texts.iter().map(|text| delta("text_delta", "text", text)).collect();
        add_block(&mut events, &mut blocks, text_block(""), deltas);
    }
    for (n, call) in turn.calls.iter().enumerate() {
        let parts = turn.argument_fragments(call);
        let deltas = parts.iter().map(|part| delta("input_json_delta", "partial_json", part)).collect();
        add_block(&mut events, &mut blocks, tool_block(n, &call.name, "{}"), deltas);
    }
    let stop = [("stop_reason", quoted(stop_reason(turn))), ("stop_sequence", raw("null"))];
    let usage = object(&[("output_tokens", raw(turn.output_tokens()))]);
    events.push(typed_event("message_delta", &[("delta", object(&stop)), ("usage", usage)]));
    events.push(typed_event("message_stop", &[]));
    events
}

/// One content block: start, deltas, stop; after the first start a ping, as the provider does.
fn add_block(events: &mut Vec<String>, index: &mut usize, block: String, deltas: Vec<String>) {
    let place = || ("index", raw(*index));
    events.push(typed_event("content_block_start", &[place(), ("content_block", block)]));
    if *index == 0 {
        events.push(typed_event("ping", &[]));
    }
    events.extend(
        deltas.into_iter().map(|delta| typed_event("content_block_delta", &[place(), ("delta", delta)])),
    );
    events.push(typed_event("content_block_stop", &[place()]));
    *index += 1;
}

fn message(turn: &Turn, content: &[String], stop_reason: &str, output_tokens: usize) -> String {
    let usage = object(&[
        ("input_tokens", raw(turn.input_tokens())),
        ("cache_creation_input_tokens", raw(0)),
        ("cache_read_input_tokens", raw(0)),
        ("output_tokens", raw(output_tokens)),
    ]);
    object(&[
        ("id", quoted(ID)),
        ("type", quoted("message")),
        ("role", quoted("assistant")),
        ("model", quoted(&turn.ask.model)),
        ("content", array(content)),
        ("stop_reason", raw(stop_reason)),
        ("stop_sequence", raw("null")),
        ("usage", usage),
    ])
}

fn stop_reason(turn: &Turn) -> &str {
    turn.finish("end_turn", "tool_use")
}

fn text_block(text: &str) -> String {
    object(&[("type", quoted("text")), ("text", quoted(text))])
}

/// `input` is put there as it is, an object or not.
fn tool_block(n: usize, name: &str, input: &str) -> String {
    let id = quoted(&format!("toolu_{n}"));
    object(&[("type", quoted("tool_use")), ("id", id), ("name", quoted(name)), ("input", raw(input))])
}

fn delta(kind: &str, member: &str, value: &str) -> String {
    object(&[("type", quoted(kind)), (member, quoted(value))])
}
