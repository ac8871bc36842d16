use serde_json::Value;

use super::*;

const CHAT: &str = "/v1/chat/completions";

/// Runs the model and gives status and pieces.
fn run(reply: &ModelReply, target: &str, body: &str) -> (Option<u16>, Vec<String>) {
    let made = answer(reply, target, body.as_bytes());
    let (mut pieces, mut position, len) = (Vec::new(), 0, made.source.len());
    while position < len {
        let end = made.ends.next_end(position, len);
        pieces.push(String::from_utf8(made.source.slice(position, end).to_vec()).unwrap());
        position = end;
    }
    (made.status, pieces)
}

fn json(reply: &ModelReply, target: &str, body: &str) -> Value {
    let (status, pieces) = run(reply, target, body);
    assert_eq!(status, None, "{pieces:?}");
    serde_json::from_str(&pieces.concat()).unwrap()
}

/// The data of each event; `[DONE]` as a text.
fn events(reply: &ModelReply, target: &str, body: &str) -> Vec<Value> {
    let (_, pieces) = run(reply, target, body);
    let data = |piece: &String| {
        let (_, data) = piece.split_once("data: ").unwrap();
        assert!(
            piece.ends_with("\n\n") && piece.matches("data: ").count() == 1,
            "one event a piece: {piece}"
        );
        serde_json::from_str(data.trim_end()).unwrap_or_else(|_| Value::from(data.trim_end()))
    };
    pieces.iter().map(data).collect()
}

fn user(text: &str, more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]{more}}}"#)
}

fn new(dialect: Dialect) -> ModelReply {
    ModelReply::new(dialect)
}

#[test]
fn it_repeats_the_user_in_upper_case_in_every_dialect() {
    let chat = json(&new(Dialect::ChatCompletions), CHAT, &user("hi you", ""));
    assert_eq!(chat["choices"][0]["message"]["content"], "HI YOU");
    assert_eq!(chat["choices"][0]["finish_reason"], "stop");
    let messages = json(&new(Dialect::Messages), "/v1/messages", &user("hi you", ""));
    assert_eq!(
        (&messages["content"][0]["text"], &messages["stop_reason"]),
        (&"HI YOU".into(), &"end_turn".into())
    );
    let responses = json(&new(Dialect::Responses), "/v1/responses", r#"{"input":"hi you"}"#);
    assert_eq!(responses["output"][0]["content"][0]["text"], "HI YOU");
    let body = r#"{"contents":[{"parts":[{"text":"hi you"}]}]}"#;
    let gemini = json(&new(Dialect::Gemini), "/v1beta/models/g:generateContent", body);
    assert_eq!(gemini["candidates"][0]["content"]["parts"][0]["text"], "HI YOU");
    assert_eq!(
        (&gemini["modelVersion"], &gemini["candidates"][0]["finishReason"]),
        (&"g".into(), &"STOP".into())
    );
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let body = user("the tool", r#","stream":true,"tools":[{"function":{"name":"f"}}]"#);
    assert_eq!(
        run(&new(Dialect::ChatCompletions), CHAT, &body),
        run(&new(Dialect::ChatCompletions), CHAT, &body)
    );
}

#[test]
fn token_counts_follow_from_byte_lengths() {
    let body = user("12345", "");
    let usage = json(&new(Dialect::ChatCompletions), CHAT, &body)["usage"].clone();
    assert_eq!(usage["prompt_tokens"], body.len().div_ceil(4));
    assert_eq!(
        (&usage["completion_tokens"], &usage["total_tokens"]),
        (&2.into(), &(body.len().div_ceil(4) + 2).into())
    );
}

#[test]
fn streamed_chat_is_role_then_words_then_finish_then_usage_then_done() {
    let options = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let all = events(&new(Dialect::ChatCompletions), CHAT, &user("a b", options));
    let deltas: Vec<&Value> = all.iter().map(|event| &event["choices"][0]["delta"]["content"]).collect();
    assert_eq!(deltas[..3], [&Value::from(""), &"A ".into(), &"B".into()]);
    assert_eq!(all[3]["choices"][0]["finish_reason"], "stop");
    assert!(all[..4].iter().all(|event| event["usage"].is_null()));
    assert_eq!(
        (all[4]["choices"].as_array().map(Vec::len), all[4]["usage"]["completion_tokens"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!((&all[5], all.len()), (&Value::from("[DONE]"), 6));
}

#[test]
fn streamed_arguments_come_in_fragments_that_join_to_valid_json() {
    let body = user("use the tool", r#","stream":true,"tools":[{"function":{"name":"f"}}]"#);
    let all = events(&new(Dialect::ChatCompletions), CHAT, &body);
    let calls: Vec<&Value> = all
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call.is_object())
        .collect();
    assert_eq!((&calls[0]["function"]["name"], &calls[0]["id"]), (&"f".into(), &"call_0".into()));
    assert!(calls.len() > 3 && calls[1..].iter().all(|call| call["id"].is_null()));
    let joined: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(joined, ARGUMENTS);
    serde_json::from_str::<Value>(&joined).unwrap();
}

#[test]
fn several_choices_are_interleaved() {
    let all = events(&new(Dialect::ChatCompletions), CHAT, &user("a b", r#","stream":true,"n":2"#));
    let order: Vec<u64> = all.iter().filter_map(|event| event["choices"][0]["index"].as_u64()).collect();
    assert_eq!(order, [0, 1, 0, 1, 0, 1, 0, 1]);
    let whole = json(&new(Dialect::ChatCompletions), CHAT, &user("a", r#","n":3"#));
    assert_eq!(whole["choices"][2]["index"], 2);
}

#[test]
fn a_responses_stream_numbers_its_events_and_names_them_twice() {
    let body = r#"{"stream":true,"input":"a tool","tools":[{"type":"function","name":"f"}]}"#;
    let reply = ModelReply { text: Some("A B".into()), ..ModelReply::calling(Dialect::Responses, "f", "{}") };
    let (_, pieces) = run(&reply, "/v1/responses", body);
    let all = events(&reply, "/v1/responses", body);
    for (n, (piece, event)) in pieces.iter().zip(&all).enumerate() {
        assert_eq!(event["sequence_number"], n);
        assert!(piece.starts_with(&format!("event: {}\n", event["type"].as_str().unwrap())));
    }
    let types: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(types, expected.map(|name| format!("response.{name}")));
    assert_eq!((&all[4]["output_index"], &all[10]["output_index"]), (&0.into(), &1.into()));
    assert_eq!(all[13]["response"]["output"][1]["arguments"], "{}");
}

#[test]
fn a_messages_stream_has_the_full_sequence_of_events() {
    let body = user("use the tool", r#","stream":true,"tools":[{"name":"f"}]"#);
    let (_, pieces) = run(&new(Dialect::Messages), "/v1/messages", &body);
    let names: Vec<&str> = pieces.iter().map(|piece| piece[7..].lines().next().unwrap()).collect();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let all = events(&new(Dialect::Messages), "/v1/messages", &body);
    assert_eq!(all[1]["content_block"]["input"], serde_json::json!({}));
    let joined: String = all.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(joined, ARGUMENTS);
    assert_eq!(all[all.len() - 2]["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_gemini_stream_is_events_or_one_array() {
    let body = r#"{"contents":[{"parts":[{"text":"a b"}]}]}"#;
    let target = "/v1beta/models/g:streamGenerateContent";
    let all = events(&new(Dialect::Gemini), &format!("{target}?key=k&alt=sse"), body);
    let array = json(&new(Dialect::Gemini), target, body);
    assert_eq!(array, Value::from(all));
    assert_eq!(array[0]["candidates"][0]["finishReason"], Value::Null);
    assert_eq!(array[1]["candidates"][0]["finishReason"], "STOP");
    let tool =
        r#"{"contents":[{"parts":[{"text":"a tool"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#;
    let array = json(&new(Dialect::Gemini), target, tool);
    assert_eq!(array[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]["limit"], 3);
}

#[test]
fn what_the_script_says_is_put_on_the_wire_as_it_is() {
    let broken = r#"{"a": 1,, }"#;
    for (dialect, target) in [(Dialect::Messages, "/"), (Dialect::Gemini, "/models/g:streamGenerateContent")]
    {
        let body = r#"{"messages":[],"contents":[]}"#;
        assert!(run(&ModelReply::calling(dialect, "f", broken), target, body).1.concat().contains(broken));
    }
    let finish =
        ModelReply { finish: Some("length".into()), ..ModelReply::saying(Dialect::ChatCompletions, "x") };
    let whole = json(&finish, CHAT, &user("a tool", r#","tools":[{"function":{"name":"f"}}]"#));
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["choices"][0]["message"]["content"], "x");
    let short = ModelReply { fragment_bytes: Some(1), ..ModelReply::saying(Dialect::ChatCompletions, "aé") };
    let all = events(&short, CHAT, &user("", r#","stream":true"#));
    assert_eq!(
        (&all[1]["choices"][0]["delta"]["content"], &all[2]["choices"][0]["delta"]["content"]),
        (&"a".into(), &"é".into())
    );
}

#[test]
fn a_request_that_cannot_be_read_is_refused_in_the_dialect() {
    for (dialect, pointer) in [
        (Dialect::ChatCompletions, "/error/type"),
        (Dialect::Responses, "/error/type"),
        (Dialect::Messages, "/error/type"),
        (Dialect::Gemini, "/error/status"),
    ] {
        let (status, pieces) = run(&new(dialect), "/", "{");
        let error: Value = serde_json::from_str(&pieces.concat()).unwrap();
        assert_eq!(status, Some(400));
        assert!(error.pointer(pointer).is_some_and(Value::is_string), "{error}");
    }
}

#[test]
fn the_list_of_models_is_valid_json() {
    let list: Value = serde_json::from_str(LIST).unwrap();
    assert_eq!(
        (&list["data"][0]["id"], &list["models"][0]["name"]),
        (&"scripted-1".into(), &"models/scripted-1".into())
    );
}

#[test]
fn fragments_never_cut_a_character() {
    assert_eq!(fragments("aé€b", 1), ["a", "é", "€", "b"]);
    assert_eq!(fragments("abcdef", 4), ["abcd", "ef"]);
    assert_eq!(fragments("", 4), [""; 0]);
}
