use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::{
    Dialect,
    dialect::{CallForm, Framing, MarkKind, ResponseScan},
    splits::every_split,
};

/// Takes objects; repairs one comma too many.
struct Objects {
    texts: bool,
}

impl Objects {
    fn judge(text: &[u8]) -> Outcome<&'static str, String> {
        let is_object =
            |text: &[u8]| serde_json::from_slice::<Value>(text).is_ok_and(|value| value.is_object());
        let shorter = text.strip_suffix(b",}").map(|head| [head, b"}"].concat());
        match shorter {
            _ if is_object(text) => Outcome::Pass,
            Some(shorter) if is_object(&shorter) => Outcome::Repaired(shorter, "comma"),
            _ => Outcome::Refused(String::from_utf8_lossy(text).into_owned()),
        }
    }
}

impl Judge for Objects {
    type Repair = &'static str;
    type Finding = String;

    fn wants_call(&mut self, form: CallForm, name: &str) -> Result<bool, String> {
        match name {
            "web_search" | "image_generation" => Ok(false),
            "computer" => Err(format!("{form:?}")),
            _ => Ok(true),
        }
    }

    fn call(&mut self, form: CallForm, name: &str, arguments: &[u8]) -> Outcome<&'static str, String> {
        match form {
            CallForm::Custom if name == "any" => Outcome::Pass,
            CallForm::Code => Outcome::Refused(String::from_utf8_lossy(arguments).into_owned()),
            _ => Self::judge(arguments),
        }
    }

    fn wants_text(&self) -> bool {
        self.texts
    }

    fn text(&mut self, text: &[u8]) -> Outcome<&'static str, String> {
        Self::judge(text)
    }
}

/// What left after each block, joined, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    left: Vec<String>,
    refused: Option<Refused<String>>,
    verdicts: Vec<Verdict<&'static str>>,
}

fn run_in(dialect: Dialect, texts: bool, held_max: usize, chunks: &[&[u8]]) -> Ran {
    let mut scan = ResponseScan::new(dialect, Framing::Sse).with_parts();
    let mut stream = Stream::new(dialect, Objects { texts }, held_max);
    let (mut blocks, mut left, mut refused) = (Blocks::default(), Vec::<String>::new(), None);
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        let (mut marks, mut from, mut before) = (Vec::new(), 0, 0);
        scan.push(&chunk, &mut |mark| marks.push(mark));
        if let Some(line_feed) = blocks.line_feed(&chunk) {
            let mut out = Vec::new();
            refused = refused.or(stream.line_feed(line_feed, &mut out).err());
            left.last_mut().unwrap().push_str(&String::from_utf8(out.concat()).unwrap());
            from = 1;
        }
        for mark in marks {
            let (block, next) = blocks.end(&chunk, from, mark.end);
            let mut out = Vec::new();
            let ends = mark.kind == MarkKind::Terminator;
            let taken = stream.event(block, &scan.parts()[before..mark.parts], ends, &mut out);
            refused = refused.or(taken.err());
            left.push(String::from_utf8(out.concat()).unwrap());
            (from, before) = (next, mark.parts);
        }
        blocks.keep(&chunk, from);
    }
    refused = refused.or(stream.finish().err());
    Ran { left, refused, verdicts: stream.verdicts().to_vec() }
}

/// The same for every split.
fn run(dialect: Dialect, texts: bool, events: &[String]) -> Ran {
    let body = events.concat();
    let whole = run_in(dialect, texts, 1 << 20, &[body.as_bytes()]);
    every_split(body.as_bytes(), |chunks| {
        assert_eq!(run_in(dialect, texts, 1 << 20, chunks), whole, "{chunks:?}");
    });
    assert_eq!(whole.left.len(), events.len());
    whole
}

fn data(text: &str) -> String {
    format!("data: {text}\n\n")
}

fn chat(delta: &str) -> String {
    data(&format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#))
}

fn chat_call(index: u64, name: &str, arguments: &str) -> String {
    let (name, arguments) = (serde_json::json!(name), serde_json::json!(arguments));
    let name = if name == "" { String::new() } else { format!(r#""name":{name},"#) };
    chat(&format!(r#"{{"tool_calls":[{{"index":{index},"function":{{{name}"arguments":{arguments}}}}}]}}"#))
}

fn chat_end() -> String {
    data(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#)
}

fn done() -> String {
    data("[DONE]")
}

/// What a client of a chat stream joins: its text, and the arguments of each call.
fn chat_reads(left: &[String]) -> (String, Vec<String>) {
    let (mut text, mut calls) = (String::new(), Vec::<String>::new());
    for event in left.concat().split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let Ok(event) = serde_json::from_str::<Value>(event) else { continue };
        let delta = &event["choices"][0]["delta"];
        text.push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            calls.resize(calls.len().max(index + 1), String::new());
            calls[index].push_str(call["function"]["arguments"].as_str().unwrap());
        }
    }
    (text, calls)
}

#[test]
fn a_valid_call_leaves_as_it_came_once_it_is_whole() {
    let events = [
        chat(r#"{"role":"assistant","content":""}"#),
        chat_call(0, "f", ""),
        chat_call(0, "", "{\"a\":"),
        chat(r#"{"content":"meanwhile"}"#),
        chat_call(1, "g", "{}"),
        chat_call(0, "", "1}"),
        chat_end(),
        data(r#"{"choices":[],"usage":{"total_tokens":1}}"#),
        done(),
    ];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert_eq!((&ran.refused, ran.verdicts.len()), (&None, 2));
    let held = [1, 2, 4, 5, 6].map(|at| events[at].clone()).concat();
    let expected = [&events[0], "", "", &events[3], "", "", &held, &events[7], &events[8]];
    assert_eq!(ran.left, expected);
}

#[test]
fn a_repaired_call_is_told_once_and_everything_else_stays() {
    let events = [
        chat_call(0, "f", "{\"a\":"),
        chat_call(1, "g", "{}"),
        chat_call(0, "", "\"é\\n\""),
        chat_call(0, "", ",}"),
        chat_end(),
        done(),
    ];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert_eq!(ran.refused, None);
    assert_eq!(ran.verdicts[0].repair, Some("comma"));
    assert_eq!(chat_reads(&ran.left).1, ["{\"a\":\"é\\n\"}", "{}"]);
    let left = ran.left.concat();
    assert_eq!(left.matches("data: ").count(), events.len());
    assert!(left.contains(&events[1]) && left.contains(&events[4]), "{left}");
}

#[test]
fn nothing_of_a_refused_call_leaves_and_nothing_after_it() {
    let events = [chat_call(0, "f", "{\"a\":"), chat(r#"{"content":"x"}"#), chat_end(), done()];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert_eq!(ran.left, ["", &events[1], "", ""]);
    assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "{\"a\":"));
}

#[test]
fn a_stream_that_ends_inside_a_call_is_truncated() {
    let ran = run(Dialect::OpenAiChat, false, &[chat_call(0, "f", "{}")]);
    assert_eq!((ran.left, ran.refused), (vec![String::new()], Some(Refused::Truncated)));
    // The terminator ends what no reason ended.
    let ran = run(Dialect::OpenAiChat, false, &[chat_call(0, "f", "{}"), done()]);
    assert_eq!((ran.left.concat(), ran.refused), (chat_call(0, "f", "{}") + &done(), None));
}

#[test]
fn a_call_that_goes_on_after_its_end_is_refused() {
    let events = [chat_call(0, "f", "{}"), chat_end(), chat_call(0, "", " ")];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert!(matches!(ran.refused, Some(Refused::GoesOn { .. })), "{ran:?}");
}

#[test]
fn an_answer_that_was_asked_for_as_json_is_held_too() {
    let events = [
        chat(r#"{"role":"assistant","content":""}"#),
        chat(r#"{"content":"{\"a\":1"}"#),
        chat(r#"{"content":",}"}"#),
        chat_end(),
        done(),
    ];
    let ran = run(Dialect::OpenAiChat, true, &events);
    assert_eq!(ran.left[..3], ["", "", ""]);
    assert_eq!((chat_reads(&ran.left).0.as_str(), ran.refused), ("{\"a\":1}", None));
}

#[test]
fn what_is_held_is_bounded() {
    let events: String = (0..100).map(|_| chat_call(0, "f", "          ")).collect();
    let ran = run_in(Dialect::OpenAiChat, false, 2000, &[events.as_bytes()]);
    assert_eq!((ran.refused, ran.left.concat()), (Some(Refused::HeldBytesMax), String::new()));
}

fn response(kind: &str, rest: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{rest}}}\n\n")
}

fn responses(pieces: &[&str], again: &str) -> Vec<String> {
    let text = |text: &str| serde_json::json!(text).to_string();
    let item = |arguments: &str| {
        format!(
            r#"{{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":{}}}"#,
            text(arguments)
        )
    };
    let mut events =
        vec![response("response.output_item.added", &format!(r#""output_index":0,"item":{}"#, item("")))];
    events.extend(pieces.iter().map(|piece| {
        let delta = format!(r#""output_index":0,"delta":{}"#, text(piece));
        response("response.function_call_arguments.delta", &delta)
    }));
    events.push(response(
        "response.function_call_arguments.done",
        &format!(r#""output_index":0,"arguments":{}"#, text(again)),
    ));
    events
        .push(response("response.output_item.done", &format!(r#""output_index":0,"item":{}"#, item(again))));
    events.push(response(
        "response.completed",
        &format!(r#""response":{{"output":[{}],"status":"completed"}}"#, item(again)),
    ));
    events
}

#[test]
fn responses_repeats_are_compared_and_replaced() {
    let valid = responses(&["{\"a\"", ":1}"], "{\"a\":1}");
    let ran = run(Dialect::OpenAiResponses, false, &valid);
    assert_eq!((ran.left.concat(), ran.refused), (valid.concat(), None));
    assert_eq!(ran.left[..4].concat(), "");

    let ran = run(Dialect::OpenAiResponses, false, &responses(&["{\"a\"", ":1,}"], "{\"a\":1,}"));
    let left = ran.left.concat();
    assert_eq!(ran.refused, None);
    assert_eq!(left.matches(r#""arguments":"{\"a\":1}""#).count(), 3, "{left}");
    assert_eq!(left.matches(r#""delta":"{\"a\":1}""#).count(), 1);
    assert!(!left.contains(",}\""), "{left}");

    let ran = run(Dialect::OpenAiResponses, false, &responses(&["{}"], "{\"rm\":true}"));
    assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{ran:?}");
    assert_eq!(ran.left.concat(), "");
}

#[test]
fn the_last_event_of_a_responses_stream_cannot_say_otherwise() {
    let mut events = responses(&["{\"a\":1}"], "{\"a\":1}");
    let last = events.last_mut().unwrap();
    *last = last.replace(r#"{\"a\":1}"#, r#"{\"a\":2}"#);
    let ran = run(Dialect::OpenAiResponses, false, &events);
    assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{ran:?}");
    assert_eq!(ran.left[4], "");
}

#[test]
fn blocks_of_a_message_keep_their_order() {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let start = |index, block: &str| {
        event("content_block_start", &format!(r#","index":{index},"content_block":{block}"#))
    };
    let delta =
        |index, delta: &str| event("content_block_delta", &format!(r#","index":{index},"delta":{delta}"#));
    let stop = |index| event("content_block_stop", &format!(r#","index":{index}"#));
    let events = [
        start(0, r#"{"type":"text","text":""}"#),
        delta(0, r#"{"type":"text_delta","text":"I look"}"#),
        stop(0),
        start(1, r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#), // not wanted
        delta(1, r#"{"type":"input_json_delta","partial_json":"not json"}"#),
        stop(1),
        start(2, r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#),
        event("ping", ""),
        delta(2, r#"{"type":"input_json_delta","partial_json":"{\"a\":1,}"}"#),
        stop(2),
        start(3, r#"{"type":"tool_use","id":"u","name":"none","input":{}}"#),
        stop(3),
        event("message_delta", r#","delta":{"stop_reason":"tool_use"}"#),
        event("message_stop", ""),
    ];
    let ran = run(Dialect::AnthropicMessages, false, &events);
    assert_eq!(ran.refused, None);
    assert_eq!(ran.left[..6], events[..6]);
    assert_eq!(ran.left[6..9].concat(), "");
    assert_eq!(ran.left[9], events[6..10].concat().replace(",}", "}"));
    assert_eq!(ran.left[10], "");
    assert_eq!(ran.left[11..].concat(), events[10..].concat());
}

#[test]
fn gemini_calls_are_judged_event_by_event() {
    let call = |args: &str| {
        data(&format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"f","args":{args}}}}}]}}}}]}}"#
        ))
    };
    let events = [call("{\"a\":1}"), call("{}"), call("[]")];
    let ran = run(Dialect::Gemini, false, &events);
    assert_eq!(ran.left, [&events[0], &events[1], ""]);
    assert!(matches!(ran.refused, Some(Refused::Value { .. })));
}

#[test]
fn data_in_several_lines_is_one_value() {
    let event = "id: 7\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\r\ndata:\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1,}\"}}]},\r\ndata: \"finish_reason\":\"stop\"}]}\r\n\r\n";
    let ran = run_in(Dialect::OpenAiChat, false, 1 << 20, &[event.as_bytes()]);
    let expected = event.replace("1,}", "1}").replace("data:\"function", "data: \"function");
    assert_eq!((ran.left.concat(), ran.refused), (expected, None));
}

#[test]
fn line_ends_of_two_bytes_stay_together() {
    let lf = [chat_call(0, "f", "{}"), chat(r#"{"content":"x"}"#), chat_end(), done()].concat();
    let body = lf.replace('\n', "\r\n");
    let whole = run_in(Dialect::OpenAiChat, false, 1 << 20, &[body.as_bytes()]);
    assert!(whole.left.iter().all(|left| left.is_empty() || left.ends_with("\r\n\r\n")), "{whole:?}");
    every_split(body.as_bytes(), |chunks| {
        let ran = run_in(Dialect::OpenAiChat, false, 1 << 20, chunks);
        assert_eq!((ran.left.concat(), ran.refused), (whole.left.concat(), None), "{chunks:?}");
    });
}

fn whole(dialect: Dialect, texts: bool, body: &str) -> Result<String, Refused<String>> {
    let mut scan = ResponseScan::new(dialect, Framing::Json).with_parts();
    scan.push(body.as_bytes(), &mut |_| {});
    scan.finish();
    let mut stream = Stream::new(dialect, Objects { texts }, 1 << 20);
    let left = stream.whole(Bytes::copy_from_slice(body.as_bytes()), scan.parts())?;
    Ok(String::from_utf8(left.to_vec()).unwrap())
}

#[test]
fn values_of_whole_bodies_are_judged_where_they_stand() {
    let chat = |arguments: &str, content: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":{content},"tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}},{{"function":{{"name":"g","arguments":"{{}}"}}}}]}},"finish_reason":"tool_calls"}}]}}"#
        )
    };
    let valid = chat(r#""{}""#, "null");
    assert_eq!(whole(Dialect::OpenAiChat, false, &valid), Ok(valid));
    let broken = chat(r#""{\"a\":1,}""#, "null");
    assert_eq!(whole(Dialect::OpenAiChat, false, &broken), Ok(broken.replace(",}\"", "}\"")));
    let text = chat(r#""{}""#, r#""{\"b\":2,}""#);
    assert_eq!(whole(Dialect::OpenAiChat, false, &text), Ok(text.clone()));
    assert_eq!(whole(Dialect::OpenAiChat, true, &text), Ok(text.replace(",}\"", "}\"")));
    assert!(matches!(
        whole(Dialect::OpenAiChat, false, &chat(r#""{""#, "null")),
        Err(Refused::Value { at, .. }) if at.inner == 0
    ));
    assert_eq!(whole(Dialect::OpenAiChat, false, &chat("{}", "null")), Err(Refused::NotText));

    let message = r#"{"type":"message","content":[{"type":"text","text":"x"},{"type":"tool_use","name":"f","input":{"a":1}}]}"#;
    assert_eq!(whole(Dialect::AnthropicMessages, false, message), Ok(message.into()));
    let response = r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"{,}"}]},{"type":"function_call","name":"f","arguments":"{}"}]}"#;
    assert_eq!(whole(Dialect::OpenAiResponses, false, response), Ok(response.into()));
    assert_eq!(whole(Dialect::OpenAiResponses, true, response), Ok(response.replace("{,}", "{}")));
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"structuredContent":[1]}}"#;
    assert!(whole(Dialect::Mcp, false, result).is_err());
}

fn message(kind: &str, rest: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n")
}

fn block_start(index: u64, kind: &str, name: &str) -> String {
    let block = format!(r#"{{"type":"{kind}","id":"t","name":"{name}","input":{{}}}}"#);
    message("content_block_start", &format!(r#","index":{index},"content_block":{block}"#))
}

fn block_delta(index: u64, kind: &str, piece: &str) -> String {
    let piece = serde_json::json!(piece);
    message(
        "content_block_delta",
        &format!(r#","index":{index},"delta":{{"type":"{kind}","partial_json":{piece}}}"#),
    )
}

fn block_stop(index: u64) -> String {
    message("content_block_stop", &format!(r#","index":{index}"#))
}

#[test]
fn a_place_has_one_call() {
    let good = |index| {
        [block_start(index, "tool_use", "f"), block_delta(index, "input_json_delta", "{}"), block_stop(index)]
    };
    let again = [good(0).concat(), block_start(0, "tool_use", "rm"), block_stop(0)];
    let open_again = [block_start(0, "tool_use", "f"), block_start(0, "tool_use", "rm"), block_stop(0)];
    let after_foreign =
        [block_start(0, "server_tool_use", "s"), block_stop(0), block_start(0, "tool_use", "rm")];
    let interleaved = [block_start(1, "tool_use", "f"), block_start(0, "tool_use", "g"), block_stop(1)];
    for events in [again, open_again, after_foreign, interleaved] {
        let body = events.concat();
        let ran = run_in(Dialect::AnthropicMessages, false, 1 << 20, &[body.as_bytes()]);
        assert!(ran.refused.is_some(), "{body}");
        assert!(!ran.left.concat().contains("rm"), "{ran:?}");
    }
}

#[test]
fn a_call_keeps_its_name() {
    let events = responses(&["{\"a\":1}"], "{\"a\":1}");
    for at in [3, 4] {
        let mut renamed = events.clone();
        renamed[at] = renamed[at].replace(r#""name":"f""#, r#""name":"rm""#);
        let ran = run(Dialect::OpenAiResponses, false, &renamed);
        assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{at}: {ran:?}");
        assert!(!ran.left.concat().contains("rm"));
    }
}

/// Events with parts that only this program would count are not read.
#[test]
fn pieces_that_clients_pass_over_are_a_doubt() {
    let named =
        |name: &str| block_delta(0, "input_json_delta", "x").replace("event: content_block_delta", name);
    let thought = block_delta(0, "thinking_delta", "x");
    let told =
        message("message_start", r#","message":{"content":[{"type":"tool_use","name":"f","input":{}}]}"#);
    let chat = |choice: &str| data(&format!(r#"{{"choices":[{choice}]}}"#));
    let call = r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"x"}}]}"#;
    for (dialect, event) in [
        (Dialect::AnthropicMessages, named("event: ping")),
        (Dialect::AnthropicMessages, named(": none")),
        (Dialect::AnthropicMessages, thought),
        (Dialect::AnthropicMessages, told),
        (Dialect::OpenAiChat, chat(&format!(r#"{{"index":0,"message":{call}}}"#))),
        (Dialect::OpenAiChat, chat(&format!(r#"{{"index":-1,"delta":{call}}}"#))),
        (Dialect::OpenAiResponses, data(ITEM)),
        (Dialect::OpenAiResponses, format!("event: response.output_item.done\n{}", data(ITEM))),
        (Dialect::OpenAiResponses, data(&ITEM.replace('{', r#"{"type":null,"#))),
        (Dialect::OpenAiResponses, data(r#"{"command":"rm"}"#)),
        (Dialect::OpenAiResponses, data(r#"{"error":{},"delta":"rm"}"#)),
        (
            Dialect::OpenAiChat,
            format!("event: thread.x\n{}", chat(&format!(r#"{{"index":0,"delta":{call}}}"#))),
        ),
    ] {
        let mut scan = ResponseScan::new(dialect, Framing::Sse).with_parts();
        scan.push(event.as_bytes(), &mut |_| {});
        assert!(!scan.so_far().read, "{event}");
    }
    let mut scan = ResponseScan::new(Dialect::OpenAiResponses, Framing::Sse).with_parts();
    scan.push(data(r#"{"error":{"code":"overloaded"}}"#).as_bytes(), &mut |_| {});
    assert!(scan.so_far().read);
}

/// What the data of an event without a type says.
const ITEM: &str = r#"{"output_index":0,"item":{"type":"function_call","name":"f","arguments":"{}"}}"#;

#[test]
fn only_a_stream_begins_with_a_byte_order_mark() {
    let good = chat_call(0, "f", "{\"a\":1}");
    let decoy = format!("\u{feff}{}{}", good.trim_end(), "\n");
    let events = [chat(r#"{"content":"x"}"#), decoy + &chat_call(0, "f", "{\"a\":!}"), chat_end(), done()];
    let ran = run_in(Dialect::OpenAiChat, false, 1 << 20, &[events.concat().as_bytes()]);
    assert!(ran.refused.is_some() && !ran.left.concat().contains('!'), "{ran:?}");
    let marked = format!("\u{feff}{}", chat_call(0, "f", "{\"a\":1,}")) + &chat_end() + &done();
    let ran = run_in(Dialect::OpenAiChat, false, 1 << 20, &[marked.as_bytes()]);
    assert_eq!((ran.left.concat(), ran.refused), (marked.replace("1,}", "1}"), None));
}

#[test]
fn gemini_text_ends_with_its_reason_and_a_call_needs_no_arguments() {
    let part = |part: &str, end: &str| {
        data(&format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}{end}}}]}}"#))
    };
    let events = [
        part(r#"{"text":"{\"a\""}"#, ""),
        part(r#"{"text":":1}"}"#, r#","finishReason":"STOP""#),
        part(r#"{"functionCall":{"name":"f"}}"#, ""),
    ];
    let ran = run(Dialect::Gemini, true, &events);
    assert_eq!((ran.left.concat(), ran.refused), (events.concat(), None));
}

#[test]
fn gemini_calls_between_the_pieces_of_a_text_are_other_calls() {
    let part = |part: &str, end: &str| {
        data(&format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}{end}}}]}}"#))
    };
    let call = |name: &str| part(&format!(r#"{{"functionCall":{{"name":"{name}"}}}}"#), "");
    let thought = part(r#"{"text":"hm","thought":true}"#, "");
    let events = [
        part(r#"{"text":"{"}"#, ""),
        call("f"),
        thought,
        call("g"),
        part(r#"{"text":"}"}"#, r#","finishReason":"STOP""#),
    ];
    let ran = run(Dialect::Gemini, true, &events);
    assert_eq!((ran.left.concat(), ran.refused), (events.concat(), None));
    assert_eq!(ran.left[..4].concat(), "");
}

#[test]
fn gemini_thoughts_flow_though_the_text_is_judged() {
    let part = |part: &str| data(&format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}"#));
    let events = [part(r#"{"text":"hm","thought":true}"#), part(r#"{"text":"hm"}"#)];
    let ran = run(Dialect::Gemini, true, &events);
    assert_eq!(ran.left, [&*events[0], ""]);
    assert_eq!(ran.refused, Some(Refused::Truncated));
}

#[test]
fn gemini_arguments_in_pieces_are_refused() {
    let call = |call: &str| {
        data(&format!(r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{{call}}}}}]}}}}]}}"#))
    };
    let events = [
        call(r#""name":"f","willContinue":true"#),
        call(r#""partialArgs":[{"jsonPath":"$.a","stringValue":"!"}]"#),
    ];
    let ran = run(Dialect::Gemini, false, &events);
    assert!(ran.refused.is_some() && !ran.left.concat().contains('!'), "{ran:?}");
}

#[test]
fn a_gemini_text_in_an_array_of_responses_is_one_value() {
    let part = |text: &str, end: &str| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{end}}}]}}"#)
    };
    let body = format!("[{},{}]", part(r#"{\"a\":1"#, ""), part(",}", r#","finishReason":"STOP""#));
    let mut scan = ResponseScan::new(Dialect::Gemini, Framing::Json).with_parts();
    scan.push(body.as_bytes(), &mut |_| {});
    scan.finish();
    let mut stream = Stream::new(Dialect::Gemini, Objects { texts: true }, 1 << 20);
    let left = stream.whole(body.clone().into(), scan.parts()).unwrap();
    let expected = format!("[{},{}]", part(r#"{\"a\":1}"#, ""), part("", r#","finishReason":"STOP""#));
    assert_eq!(left, expected);
}

#[test]
fn a_part_that_begins_with_text_is_judged() {
    let event = |kind: &str, rest: &str| {
        data(&format!(r#"{{"type":"{kind}","output_index":0,"content_index":0,"item_id":"m",{rest}}}"#))
    };
    let part = |text: &str| format!(r#""part":{{"type":"output_text","text":{}}}"#, serde_json::json!(text));
    let events = |first: &str| {
        [
            event("response.content_part.added", &part(first)),
            event("response.output_text.delta", r#""delta":"{}""#),
            event("response.output_text.done", r#""text":"{}""#),
            data(r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#),
        ]
    };
    let ran = run(Dialect::OpenAiResponses, true, &events("[1]"));
    assert!(ran.refused.is_some() && !ran.left.concat().contains("[1]"), "{ran:?}");
    assert_eq!(run(Dialect::OpenAiResponses, true, &events("")).refused, None);
}

#[test]
fn only_text_overtakes_a_call() {
    let bare = chat(r#"{"tool_calls":[{"index":0}]}"#);
    let events = [
        chat_call(0, "f", ""),
        bare,
        ": hello\n\n".to_owned(),
        "id: 7\n\n".to_owned(),
        chat(r#"{"content":"meanwhile"}"#),
        chat_call(0, "", "{}"),
        chat_end(),
        done(),
    ];
    let ran =
        run(Dialect::OpenAiChat, false, &events[..2].iter().chain(&events[4..]).cloned().collect::<Vec<_>>());
    let left = ran.left.concat();
    let at = |text: &str| left.find(text).unwrap_or_else(|| panic!("{text}: {left}"));
    assert!(at("meanwhile") < at("\"f\"") && at("\"f\"") < at("[{\"index\":0}]"), "{left}");
    let without_text =
        events.iter().filter(|event| !event.contains("meanwhile")).cloned().collect::<Vec<_>>().concat();
    let whole = run_in(Dialect::OpenAiChat, false, 1 << 20, &[without_text.as_bytes()]);
    assert_eq!(whole.left.concat(), without_text, "the order is kept");
}

fn chat_custom(index: u64, name: &str, input: &str) -> String {
    let input = serde_json::json!(input);
    let name = if name.is_empty() { String::new() } else { format!(r#""name":"{name}","#) };
    chat(&format!(
        r#"{{"tool_calls":[{{"index":{index},"type":"custom","custom":{{{name}"input":{input}}}}}]}}"#
    ))
}

#[test]
fn a_custom_input_of_a_chat_is_judged_at_its_end() {
    let events = [
        chat_custom(0, "any", ""),
        chat_custom(0, "", "print("),
        chat_call(1, "f", "{}"),
        chat_custom(0, "", "1)"),
        chat_end(),
        done(),
    ];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert_eq!((ran.left.concat(), ran.refused), (events.concat(), None));
    assert_eq!((ran.left[..4].concat(), ran.verdicts[0].bytes), (String::new(), 8));

    let events = [chat_custom(0, "json", "{\"a\""), chat_custom(0, "", ":1,}"), chat_end(), done()];
    let ran = run(Dialect::OpenAiChat, false, &events);
    assert_eq!(ran.refused, None);
    let left = ran.left.concat();
    assert!(left.contains(r#""input":"{\"a\":1}""#) && left.contains(r#""input":"""#), "{left}");

    let ran = run(Dialect::OpenAiChat, false, &[chat_custom(0, "json", "rm"), chat_end(), done()]);
    assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "rm"));
    assert_eq!(ran.left.concat(), "");
}

#[test]
fn a_call_stays_what_it_is() {
    let ran = run(Dialect::OpenAiChat, false, &[chat_custom(0, "any", "rm"), chat_call(0, "", "{}")]);
    assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{ran:?}");
    let item = |kind: &str, rest: &str| {
        response(
            "response.output_item.done",
            &format!(r#""output_index":0,"item":{{"type":"{kind}",{rest}}}"#),
        )
    };
    let custom = item("custom_tool_call", r#""name":"any","input":"rm""#);
    let function = item("function_call", r#""name":"any","arguments":"{}""#);
    let search = item("web_search_call", r#""action":{}"#);
    let shell = item("shell_call", r#""action":{}"#);
    for events in [
        [custom.clone(), function.clone()],
        [function.clone(), custom.clone()],
        [search.clone(), function],
        [custom, search.clone()],
        [search, shell],
    ] {
        let ran = run(Dialect::OpenAiResponses, false, &events);
        assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{events:?} {ran:?}");
        assert_eq!(ran.left[1], "");
    }
}

/// One call of a Responses stream, with its argument in `pieces`, and `again` as often as it is said after them.
fn said(item: &str, event: &str, member: &str, pieces: &[&str], again: &str) -> Vec<String> {
    let text = |text: &str| serde_json::json!(text).to_string();
    let item = |said: &str| format!(r#"{{"type":"{item}","id":"c","name":"n","{member}":{}}}"#, text(said));
    let mut events =
        vec![response("response.output_item.added", &format!(r#""output_index":0,"item":{}"#, item("")))];
    events.extend(pieces.iter().map(|piece| {
        response(&format!("{event}.delta"), &format!(r#""output_index":0,"delta":{}"#, text(piece)))
    }));
    events
        .push(response(&format!("{event}.done"), &format!(r#""output_index":0,"{member}":{}"#, text(again))));
    events
        .push(response("response.output_item.done", &format!(r#""output_index":0,"item":{}"#, item(again))));
    let completed = format!(r#""response":{{"output":[{}],"status":"completed"}}"#, item(again));
    events.push(response("response.completed", &completed));
    events
}

#[test]
fn custom_and_hosted_calls_of_responses_are_compared_judged_and_replaced() {
    for (item, event, member) in [
        ("custom_tool_call", "response.custom_tool_call_input", "input"),
        ("mcp_call", "response.mcp_call_arguments", "arguments"),
    ] {
        let valid = said(item, event, member, &["{\"a\"", ":1}"], "{\"a\":1}");
        let ran = run(Dialect::OpenAiResponses, false, &valid);
        assert_eq!((ran.left.concat(), ran.refused), (valid.concat(), None));
        assert_eq!(ran.left[..4].concat(), "", "held until the item is done");

        let ran =
            run(Dialect::OpenAiResponses, false, &said(item, event, member, &["{\"a\":1,}"], "{\"a\":1,}"));
        let left = ran.left.concat();
        assert_eq!((ran.refused, left.matches(",}\"").count()), (None, 0), "{left}");
        assert_eq!(left.matches(r#""{\"a\":1}""#).count(), 4, "{left}");

        let ran = run(Dialect::OpenAiResponses, false, &said(item, event, member, &["{}"], "{\"rm\":true}"));
        assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{ran:?}");
        let ran = run(Dialect::OpenAiResponses, false, &said(item, event, member, &["rm"], "rm"));
        assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "rm"));
    }
    let code = said(
        "code_interpreter_call",
        "response.code_interpreter_call_code",
        "code",
        &["print", "(1)"],
        "print(1)",
    );
    let ran = run(Dialect::OpenAiResponses, false, &code);
    assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "print(1)"));
    assert_eq!(ran.left.concat(), "");
}

#[test]
fn a_built_in_call_is_judged_as_the_value_that_its_item_ends_with() {
    let events = |first: &str, last: &str, again: &str| {
        let item = |action: &str| format!(r#"{{"type":"shell_call","id":"c","action":{action}}}"#);
        [
            response("response.output_item.added", &format!(r#""output_index":0,"item":{}"#, item(first))),
            response("response.shell_call_command.delta", r#""output_index":0,"delta":"ls""#),
            response("response.output_item.done", &format!(r#""output_index":0,"item":{}"#, item(last))),
            response("response.completed", &format!(r#""response":{{"output":[{}]}}"#, item(again))),
        ]
    };
    let action = r#"{"commands":["ls"]}"#;
    let valid = events(r#"{"commands":[]}"#, action, action);
    let ran = run(Dialect::OpenAiResponses, false, &valid);
    assert_eq!((ran.left.concat(), ran.refused), (valid.concat(), None));
    assert_eq!(ran.left[..2].concat(), "");
    assert_eq!((ran.verdicts.len(), ran.verdicts[0].name.as_deref()), (1, Some("shell")));
    let ran = run(Dialect::OpenAiResponses, false, &events("{}", action, "{}"));
    assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{ran:?}");
    let ran = run(Dialect::OpenAiResponses, false, &events("null", "[1]", "[1]"));
    assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "[1]"));
    assert_eq!(run(Dialect::OpenAiResponses, false, &events("null", "null", "null")).refused, None);
}

#[test]
fn what_an_event_says_of_a_call_needs_the_calls_item() {
    let end = response("response.completed", r#""response":{"output":[],"status":"completed"}"#);
    let message = r#""output_index":0,"item":{"type":"message","content":[]}"#;
    for (kind, item_type) in [
        ("shell_call_command.added", "shell_call"),
        ("shell_call_command.delta", "shell_call"),
        ("shell_call_command.done", "shell_call"),
        ("apply_patch_call_operation_diff.delta", "apply_patch_call"),
        ("apply_patch_call_operation_diff.done", "apply_patch_call"),
        ("local_shell_call_action.done", "local_shell_call"),
        ("foo_call_arguments.done", "foo_call"),
        ("foo_call.completed", "foo_call"),
    ] {
        let said =
            r#""output_index":0,"command":"rm","delta":"rm","arguments":"rm","diff":"rm","action":"rm""#;
        let said = response(&format!("response.{kind}"), said);
        let ran = run(Dialect::OpenAiResponses, false, &[said.clone(), end.clone()]);
        assert_eq!((ran.left.concat(), ran.refused), (String::new(), Some(Refused::NoName)), "{kind}");

        let begun = response("response.output_item.added", message);
        let ran = run(Dialect::OpenAiResponses, false, &[begun.clone(), said.clone(), end.clone()]);
        assert_eq!((ran.left.concat(), ran.refused), (begun, Some(Refused::NoName)), "{kind}");

        let item = |kind: &str, name: &str| {
            let item =
                format!(r#""output_index":0,"item":{{"type":"{kind}","name":"{name}","action":{{"c":1}}}}"#);
            response("response.output_item.done", &item)
        };
        let events = [said.clone(), item(item_type, "")];
        let ran = run(Dialect::OpenAiResponses, false, &events);
        assert_eq!(
            (ran.left[0].as_str(), ran.left.concat(), ran.refused),
            ("", events.concat(), None),
            "{kind}"
        );

        let ran = run(Dialect::OpenAiResponses, false, &[said.clone(), item("function_call", "f")]);
        assert!(matches!(ran.refused, Some(Refused::SaidOtherwise { .. })), "{kind} {ran:?}");
        let ran = run(Dialect::OpenAiResponses, false, &[item(item_type, ""), said]);
        assert!(matches!(ran.refused, Some(Refused::GoesOn { .. })), "{kind} {ran:?}");
    }
}

#[test]
fn a_text_beside_the_answers_own_is_judged_by_itself() {
    let choice = |rest: &str| format!(r#"{{"choices":[{{"index":0,"finish_reason":"stop",{rest}}}]}}"#);
    let beside = |text: &str| choice(&format!(r#""message":{{"content":"{{}}"}},"text":{text}"#));
    for (text, passes) in [(r#""{}""#, true), ("null", true), (r#""rm""#, false), (r#"["rm"]"#, false)] {
        assert_eq!(whole(Dialect::OpenAiChat, true, &beside(text)).is_ok(), passes, "{text}");
        let events = [data(&beside(text).replace("message", "delta")), done()];
        assert_eq!(run(Dialect::OpenAiChat, true, &events).refused.is_none(), passes, "{text}");
    }
    let halves = choice(r#""message":{"content":"{"},"text":"}""#);
    assert!(whole(Dialect::OpenAiChat, true, &halves).is_err());
    assert!(whole(Dialect::OpenAiChat, false, &beside(r#""rm""#)).is_ok());

    let output = r#""output":[{"type":"message","content":[{"type":"output_text","text":"{}"}]}]"#;
    for (text, passes) in [(r#""{}""#, true), ("null", true), (r#""rm""#, false), (r#"["rm"]"#, false)] {
        for body in
            [format!(r#"{{"output_text":{text},{output}}}"#), format!(r#"{{{output},"output_text":{text}}}"#)]
        {
            assert_eq!(whole(Dialect::OpenAiResponses, true, &body).is_ok(), passes, "{body}");
            let end = response("response.completed", &format!(r#""response":{body}"#));
            assert_eq!(run(Dialect::OpenAiResponses, true, &[end]).refused.is_none(), passes, "{body}");
            assert!(whole(Dialect::OpenAiResponses, false, &body).is_ok(), "{body}");
        }
    }
    let comma = r#"{"output_text":"{\"a\":1,}"}"#;
    assert_eq!(whole(Dialect::OpenAiResponses, true, comma), Ok(comma.replace(",}\"", "}\"")));
}

#[test]
fn calls_that_are_not_wanted_flow_and_those_that_must_not_be_are_refused() {
    let item = |index: u64, kind: &str| {
        let item = format!(r#""output_index":{index},"item":{{"type":"{kind}_call","action":{{"q":[]}}}}"#);
        response("response.output_item.added", &item)
    };
    let events = [
        item(0, "web_search"),
        response("response.web_search_call.searching", r#""output_index":0"#),
        item(0, "web_search").replace("added", "done"),
        item(1, "image_generation"),
        response(
            "response.image_generation_call.partial_image",
            r#""output_index":1,"partial_image_b64":"""#,
        ),
        item(2, "computer"),
    ];
    let ran = run(Dialect::OpenAiResponses, false, &events);
    assert_eq!(ran.left[..5], events[..5]);
    assert!(matches!(ran.refused, Some(Refused::Value { finding, .. }) if finding == "BuiltIn"));
    assert_eq!(ran.left[5], "");
}

#[test]
fn a_call_that_the_provider_runs_is_judged_like_the_clients() {
    let block = |kind: &str| {
        [block_start(0, kind, "s"), block_delta(0, "input_json_delta", "{\"q\":1,}"), block_stop(0)]
    };
    for kind in ["server_tool_use", "mcp_tool_use"] {
        let ran = run(Dialect::AnthropicMessages, false, &block(kind));
        assert_eq!((ran.left.concat(), ran.refused), (block(kind).concat().replace(",}", "}"), None));
        assert_eq!(ran.left[..2].concat(), "");
    }
    let body = |kind: &str, input: &str| {
        format!(r#"{{"type":"message","content":[{{"type":"{kind}","name":"s","input":{input}}}]}}"#)
    };
    assert!(whole(Dialect::AnthropicMessages, false, &body("server_tool_use", "[]")).is_err());
    let passes = body("mcp_tool_use", "{}");
    assert_eq!(whole(Dialect::AnthropicMessages, false, &passes), Ok(passes));
}

#[test]
fn whole_answers_have_calls_of_every_form() {
    let chat = |input: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"message":{{"tool_calls":[{{"type":"custom","custom":{{"name":"json","input":{input}}}}}]}}}},{{"index":1,"message":{{"tool_calls":[{{"type":"custom","custom":{{"name":"any","input":"x"}}}}]}}}}]}}"#
        )
    };
    let broken = chat(r#""{\"a\":1,}""#);
    assert_eq!(whole(Dialect::OpenAiChat, false, &broken), Ok(broken.replace(",}\"", "}\"")));
    assert!(matches!(whole(Dialect::OpenAiChat, false, &chat(r#""no""#)), Err(Refused::Value { .. })));
    let output = |item: &str| format!(r#"{{"output":[{item}]}}"#);
    for (item, passes) in [
        (r#"{"type":"custom_tool_call","name":"any","input":"x"}"#, true),
        (r#"{"type":"custom_tool_call","name":"json","input":"x"}"#, false),
        (r#"{"type":"mcp_call","name":"n","arguments":"{}"}"#, true),
        (r#"{"type":"mcp_call","name":"n","arguments":"["}"#, false),
        (r#"{"type":"local_shell_call","action":{"command":["ls"]}}"#, true),
        (r#"{"type":"apply_patch_call","operation":"x"}"#, false),
        (r#"{"type":"code_interpreter_call","code":"1"}"#, false),
        (r#"{"type":"computer_call","action":{}}"#, false),
        (r#"{"type":"web_search_call","action":[]}"#, true),
    ] {
        assert_eq!(whole(Dialect::OpenAiResponses, false, &output(item)).is_ok(), passes, "{item}");
    }
    let code =
        r#"{"candidates":[{"content":{"parts":[{"executableCode":CODE},{"functionCall":{"name":"f"}}]}}]}"#;
    assert!(whole(Dialect::Gemini, false, &code.replace("CODE", r#"{"code":"1"}"#)).is_ok());
    assert!(whole(Dialect::Gemini, false, &code.replace("CODE", "[]")).is_err());
}

#[test]
fn an_empty_text_where_json_was_asked_for_is_refused_unless_something_else_was_said() {
    let begin = chat(r#"{"role":"assistant","content":"","refusal":null}"#);
    let ran = run(Dialect::OpenAiChat, true, &[begin.clone(), chat_end(), done()]);
    assert_eq!((ran.refused, ran.left.concat()), (Some(Refused::Empty), String::new()));
    assert_eq!(run(Dialect::OpenAiChat, false, &[begin.clone(), chat_end(), done()]).refused, None);
    for instead in [chat_call(0, "f", "{}"), chat(r#"{"refusal":"No."}"#), chat(r#"{"content":"{}"}"#)] {
        let events = [begin.clone(), instead, chat_end(), done()];
        let ran = run(Dialect::OpenAiChat, true, &events);
        assert_eq!((ran.left.concat(), ran.refused), (events.concat(), None));
    }
    let body = |message: &str, other: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"message":{{{message}}}}},{{"index":1,"message":{{{other}}}}}]}}"#
        )
    };
    let json = r#""content":"{}""#;
    assert_eq!(whole(Dialect::OpenAiChat, true, &body(json, r#""content":"""#)), Err(Refused::Empty));
    assert!(whole(Dialect::OpenAiChat, true, &body(json, r#""content":"","refusal":"No.""#)).is_ok());
    assert!(whole(Dialect::OpenAiChat, true, &body(json, r#""content":null"#)).is_ok());

    let item = |content: &str| format!(r#"{{"output":[{{"type":"message","content":[{content}]}}]}}"#);
    let text = r#"{"type":"output_text","text":""}"#;
    assert_eq!(whole(Dialect::OpenAiResponses, true, &item(text)), Err(Refused::Empty));
    assert!(whole(Dialect::OpenAiResponses, true, &item(r#"{"type":"refusal","refusal":"No."}"#)).is_ok());
    let end = response("response.completed", &format!(r#""response":{}"#, item(text)));
    let added = response("response.output_text.delta", r#""output_index":0,"content_index":0,"delta":"""#);
    let refusal = response("response.refusal.delta", r#""output_index":0,"content_index":1,"delta":"No.""#);
    let ran = run(Dialect::OpenAiResponses, true, &[added.clone(), end.clone()]);
    assert_eq!((ran.refused, ran.left[1].as_str()), (Some(Refused::Empty), ""));
    assert_eq!(run(Dialect::OpenAiResponses, true, &[added, refusal, end]).refused, None);

    let block = |text: &str| format!(r#"{{"type":"message","content":[{{"type":"text","text":"{text}"}}]}}"#);
    assert_eq!(whole(Dialect::AnthropicMessages, true, &block("")), Err(Refused::Empty));
    let part = |text: &str, end: &str| {
        data(&format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{end}}}]}}"#))
    };
    let end = part("", r#","finishReason":"STOP""#);
    assert_eq!(run(Dialect::Gemini, true, std::slice::from_ref(&end)).refused, Some(Refused::Empty));
    assert_eq!(run(Dialect::Gemini, true, &[part("{}", ""), end]).refused, None);
}
