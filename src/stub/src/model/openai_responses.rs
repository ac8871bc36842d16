//! OpenAI Responses.

use super::compose::{array, object, quoted, raw, typed_event};
use super::{CREATED, EVENTS, JSON, Turn};
use crate::answer::Made;
use crate::script::ToolCall;

const ID: &str = "resp_scripted";
const MESSAGE_ID: &str = "msg_scripted";
const DONE: &str = "completed";
const RUNNING: &str = "in_progress";

type Members = Vec<(&'static str, String)>;

pub(super) fn answer(turn: &Turn) -> Made {
    if turn.ask.stream {
        Made::pieces(EVENTS, &Events::default().all(turn))
    } else {
        Made::plain(JSON, finished(turn))
    }
}

fn finished(turn: &Turn) -> String {
    response(turn, turn.finish(DONE, DONE), &output(turn), &usage(turn))
}

fn response(turn: &Turn, status: &str, output: &str, usage: &str) -> String {
    let null = || raw("null");
    object(&[
        ("id", quoted(ID)),
        ("object", quoted("response")),
        ("created_at", raw(CREATED)),
        ("status", quoted(status)),
        ("background", raw(false)),
        ("error", null()),
        ("incomplete_details", null()),
        ("instructions", null()),
        ("max_output_tokens", null()),
        ("model", quoted(&turn.ask.model)),
        ("output", raw(output)),
        ("parallel_tool_calls", raw(true)),
        ("previous_response_id", null()),
        ("reasoning", object(&[("effort", null()), ("summary", null())])),
        ("store", raw(false)),
        ("temperature", raw("1.0")),
        ("text", object(&[("format", object(&[("type", quoted("text"))]))])),
        ("tool_choice", quoted("auto")),
        ("tools", array(&[])),
        ("top_p", raw("1.0")),
        ("truncation", quoted("disabled")),
        ("usage", raw(usage)),
        ("user", null()),
        ("metadata", object(&[])),
    ])
}

fn usage(turn: &Turn) -> String {
    object(&[
        ("input_tokens", raw(turn.input_tokens())),
        ("input_tokens_details", object(&[("cached_tokens", raw(0))])),
        ("output_tokens", raw(turn.output_tokens())),
        ("output_tokens_details", object(&[("reasoning_tokens", raw(0))])),
        ("total_tokens", raw(turn.all_tokens())),
    ])
}

fn output(turn: &Turn) -> String {
    let mut items = Vec::new();
    if turn.speaks() {
        items.push(message(DONE, &[text_part(&turn.text)]));
    }
    items.extend(turn.calls.iter().enumerate().map(|(n, call)| call_item(n, call, &call.arguments, DONE)));
    array(&items)
}

fn message(status: &str, content: &[String]) -> String {
    object(&[
        ("id", quoted(MESSAGE_ID)),
        ("type", quoted("message")),
        ("status", quoted(status)),
        ("content", array(content)),
        ("role", quoted("assistant")),
    ])
}

fn text_part(text: &str) -> String {
    object(&[
        ("type", quoted("output_text")),
        ("annotations", array(&[])),
        ("logprobs", array(&[])),
        ("text", quoted(text)),
    ])
}

fn call_item(n: usize, call: &ToolCall, arguments: &str, status: &str) -> String {
    object(&[
        ("id", quoted(&call_id(n))),
        ("type", quoted("function_call")),
        ("status", quoted(status)),
        ("arguments", quoted(arguments)),
        ("call_id", quoted(&format!("call_{n}"))),
        ("name", quoted(&call.name)),
    ])
}

fn call_id(n: usize) -> String {
    format!("fc_{n}")
}

/// The events so far; each carries its number.
#[derive(Default)]
struct Events {
    events: Vec<String>,
    /// Items of the output that are complete.
    items: usize,
}

impl Events {
    fn all(mut self, turn: &Turn) -> Vec<String> {
        for name in ["response.created", "response.in_progress"] {
            self.add(name, vec![("response", response(turn, RUNNING, &array(&[]), "null"))]);
        }
        if turn.speaks() {
            self.message(turn);
        }
        for (n, call) in turn.calls.iter().enumerate() {
            self.call(turn, n, call);
        }
        let last = format!("response.{}", turn.finish(DONE, DONE));
        self.add(&last, vec![("response", finished(turn))]);
        self.events
    }

    fn add(&mut self, name: &str, members: Members) {
        let mut all = vec![("sequence_number", raw(self.events.len()))];
        all.extend(members);
        self.events.push(typed_event(name, &all));
    }

    fn message(&mut self, turn: &Turn) {
        self.item("response.output_item.added", message(RUNNING, &[]));
        self.part("response.content_part.added", vec![("part", text_part(""))]);
        for text in turn.text_fragments() {
            let delta = vec![("delta", quoted(text)), ("logprobs", array(&[]))];
            self.part("response.output_text.delta", delta);
        }
        let done = vec![("text", quoted(&turn.text)), ("logprobs", array(&[]))];
        self.part("response.output_text.done", done);
        self.part("response.content_part.done", vec![("part", text_part(&turn.text))]);
        self.item("response.output_item.done", message(DONE, &[text_part(&turn.text)]));
        self.items += 1;
    }

    fn call(&mut self, turn: &Turn, n: usize, call: &ToolCall) {
        self.item("response.output_item.added", call_item(n, call, "", RUNNING));
        let place = |index: usize| vec![("item_id", quoted(&call_id(n))), ("output_index", raw(index))];
        for part in turn.argument_fragments(call) {
            let mut members = place(self.items);
            members.push(("delta", quoted(part)));
            self.add("response.function_call_arguments.delta", members);
        }
        let mut members = place(self.items);
        members.extend([("name", quoted(&call.name)), ("arguments", quoted(&call.arguments))]);
        self.add("response.function_call_arguments.done", members);
        self.item("response.output_item.done", call_item(n, call, &call.arguments, DONE));
        self.items += 1;
    }

    fn item(&mut self, name: &str, item: String) {
        self.add(name, vec![("output_index", raw(self.items)), ("item", item)]);
    }

    fn part(&mut self, name: &str, more: Members) {
        let mut members = vec![
            ("item_id", quoted(MESSAGE_ID)),
            ("output_index", raw(self.items)),
            ("content_index", raw(0)),
        ];
        members.extend(more);
        self.add(name, members);
    }
}
