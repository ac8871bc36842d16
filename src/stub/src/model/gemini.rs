//! Gemini generateContent and streamGenerateContent.

use super::compose::{array, event, object, quoted, raw};
use super::{EVENTS, JSON, Turn};
use crate::answer::Made;

const ID: &str = "scripted";

pub(super) fn answer(turn: &Turn, target: &str) -> Made {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.ends_with(":streamGenerateContent") {
        let text = turn.speaks().then(|| text_part(&turn.text));
        let parts: Vec<String> = text.into_iter().chain(call_parts(turn)).collect();
        return Made::plain(JSON, chunk(turn, &parts, true));
    }
    let chunks = chunks(turn);
    if query.split('&').any(|pair| pair == "alt=sse") {
        let events: Vec<String> = chunks.iter().map(|chunk| event(chunk)).collect();
        return Made::pieces(EVENTS, &events);
    }
    Made::pieces(JSON, &as_array(&chunks))
}

pub(super) fn refusal(why: &str) -> String {
    let status = quoted("INVALID_ARGUMENT");
    object(&[("error", object(&[("code", raw(400)), ("message", quoted(why)), ("status", status)]))])
}

/// Text by fragments, then all calls (this provider does not cut arguments); the last chunk ends it.
fn chunks(turn: &Turn) -> Vec<String> {
    let mut steps: Vec<Vec<String>> =
        turn.text_fragments().iter().map(|text| vec![text_part(text)]).collect();
    if !turn.calls.is_empty() || steps.is_empty() {
        steps.push(call_parts(turn));
    }
    let last = steps.len() - 1; // At least one, just above.
    steps.iter().enumerate().map(|(n, parts)| chunk(turn, parts, n == last)).collect()
}

/// The pieces of one JSON array, cut as the provider does.
fn as_array(chunks: &[String]) -> Vec<String> {
    let mut pieces: Vec<String> = chunks.iter().map(|chunk| format!(",\r\n{chunk}")).collect();
    if let Some(first) = pieces.first_mut() {
        first.replace_range(..3, "[");
    }
    pieces.push("\r\n]".to_owned());
    pieces
}

fn chunk(turn: &Turn, parts: &[String], last: bool) -> String {
    let content = object(&[("parts", array(parts)), ("role", quoted("model"))]);
    let mut candidate = vec![("content", content)];
    if last {
        candidate.push(("finishReason", quoted(turn.finish("STOP", "STOP"))));
    }
    candidate.push(("index", raw(0)));
    let usage = object(&[
        ("promptTokenCount", raw(turn.input_tokens())),
        ("candidatesTokenCount", raw(turn.output_tokens())),
        ("totalTokenCount", raw(turn.all_tokens())),
    ]);
    object(&[
        ("candidates", array(&[object(&candidate)])),
        ("usageMetadata", usage),
        ("modelVersion", quoted(&turn.ask.model)),
        ("responseId", quoted(ID)),
    ])
}

fn text_part(text: &str) -> String {
    object(&[("text", quoted(text))])
}

/// `args` are put there as they are, an object or not.
fn call_parts(turn: &Turn) -> Vec<String> {
    let part = |name: &str, args: &str| {
        object(&[("functionCall", object(&[("name", quoted(name)), ("args", raw(args))]))])
    };
    turn.calls.iter().map(|call| part(&call.name, &call.arguments)).collect()
}
