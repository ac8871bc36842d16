//! Structured values of answers, held against what their requests asked for: valid, repaired, refused, in every dialect,
//! whole and streamed.

use std::path::Path;

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World};

const POLICY: &str = "version: 1
name: judged
defaults:
  verdict: allow
  judge: { unknown_tools: block, repair: r1 }
";

const GOOD: &str = r#"{"city": "Köln"}"#;

struct Surface {
    name: &'static str,
    path: &'static str,
    dialect: Dialect,
    stream: bool,
}

const fn surface(name: &'static str, path: &'static str, dialect: Dialect, stream: bool) -> Surface {
    Surface { name, path, dialect, stream }
}

const CHAT: Surface = surface("openai_chat", "/v1/chat/completions", Dialect::ChatCompletions, false);
const CHAT_STREAM: Surface =
    surface("openai_chat_stream", "/v1/chat/completions", Dialect::ChatCompletions, true);

/// Where arguments are text, so that a model can get them wrong.
const SURFACES: [Surface; 5] = [
    CHAT,
    CHAT_STREAM,
    surface("openai_responses", "/v1/responses", Dialect::Responses, false),
    surface("openai_responses_stream", "/v1/responses", Dialect::Responses, true),
    surface("anthropic_messages_stream", "/v1/messages", Dialect::Messages, true),
];

impl Surface {
    fn body(&self) -> Vec<u8> {
        let file = format!("test/e2e/wire/{}.request.json", self.name);
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    fn request(&self) -> Request {
        Request::new("POST", self.path)
            .header("content-type", "application/json")
            .header("estoppel-run", "judged")
            .body(self.body())
    }

    fn world(&self, policy: &str, calls: &[(&str, &str)]) -> World {
        let call = |(name, arguments): &(&str, &str)| ToolCall {
            name: (*name).into(),
            arguments: (*arguments).into(),
        };
        let calls = Some(calls.iter().map(call).collect());
        let reply = Reply::model(ModelReply { calls, ..ModelReply::new(self.dialect) });
        World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() })
    }

    /// The arguments of each call that a client reads from an answer.
    fn calls(&self, body: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !self.stream {
            let body: Value = serde_json::from_str(body).unwrap();
            let chat = body["choices"][0]["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
            let chat = chat.iter().map(|call| text(&call["function"]["arguments"]));
            let items = body["output"].as_array().cloned().unwrap_or_default();
            let items = items.iter().filter(|item| item["type"] == "function_call");
            return chat.chain(items.map(|item| text(&item["arguments"]))).collect();
        }
        let mut calls: Vec<String> = Vec::new();
        for event in body.split("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
            let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
            let chat = event["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default();
            let mut add = |at: &Value, piece: &Value| {
                let at = at.as_u64().unwrap_or_default() as usize;
                calls.resize(calls.len().max(at + 1), String::new());
                calls[at].push_str(&text(piece));
            };
            chat.iter().for_each(|call| add(&call["index"], &call["function"]["arguments"]));
            match event["type"].as_str().unwrap_or_default() {
                "response.function_call_arguments.delta" => add(&event["output_index"], &event["delta"]),
                "content_block_delta" => add(&event["index"], &event["delta"]["partial_json"]),
                "response.completed" => {
                    for item in event["response"]["output"].as_array().unwrap() {
                        let said = calls.iter().any(|call| Some(call.as_str()) == item["arguments"].as_str());
                        assert!(said, "{item} is not what the pieces say: {calls:?}");
                    }
                }
                _ => {}
            }
        }
        calls.into_iter().filter(|call| !call.is_empty()).collect()
    }
}

fn digest(schema: &str) -> String {
    estoppel_evidence::Sha256::of(schema.as_bytes()).to_string()
}

/// The schema of the tool that a request offers.
fn schema(value: &Value) -> Option<&Value> {
    match value {
        Value::Object(members) if members.contains_key("properties") => Some(value),
        Value::Object(members) => members.values().find_map(schema),
        Value::Array(items) => items.iter().find_map(schema),
        _ => None,
    }
}

#[test]
fn a_valid_call_passes_byte_for_byte_and_its_receipt_names_the_contract() {
    for surface in &SURFACES {
        let name = surface.name;
        let open =
            surface.world("version: 1\nname: open\ndefaults: { verdict: allow }\n", &[("get_weather", GOOD)]);
        let judged = surface.world(POLICY, &[("get_weather", GOOD)]);
        let answer = judged.send(&surface.request());
        assert_eq!(answer.text(), open.send(&surface.request()).text(), "{name}");
        assert_eq!(surface.calls(&answer.text()), [GOOD], "{name}");
        let receipt = judged.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "allow", "{name}: {receipt}");
        assert_eq!(receipt["evaluated"]["response"]["state"], "judged", "{name}");
        let offered: Value = serde_json::from_slice(&surface.body()).unwrap();
        let enforced = json!({ "tools": { "get_weather": schema(&offered).unwrap() } }).to_string();
        let contract =
            json!({ "response": { "digest": digest(&enforced), "id": "get_weather", "source": "request" } });
        assert_eq!(receipt["contract"], contract, "{name}");
        assert_eq!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"], "{name}");
        assert!(receipt.get("repair").is_none(), "{name}");
    }
}

#[test]
fn a_fenced_call_with_a_comma_too_many_is_repaired_once() {
    let broken = "```json\n{\"city\": \"Köln\",}\n```";
    for surface in &SURFACES {
        let name = surface.name;
        let world = surface.world(POLICY, &[("get_weather", broken)]);
        let answer = world.send(&surface.request());
        let calls = surface.calls(&answer.text());
        let read: Value = serde_json::from_str(&calls.concat()).unwrap();
        assert_eq!((calls.len(), read), (1, json!({ "city": "Köln" })), "{name}: {}", answer.text());
        let receipt = world.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "repair", "{name}: {receipt}");
        assert_eq!(receipt["outcome"]["complete"], true, "{name}");
        assert_eq!(
            (&receipt["repair"]["applied"], &receipt["repair"]["strategy"]),
            (&json!(true), &json!("r1"))
        );
        let ops: Vec<&str> = receipt["repair"]["edits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|edit| edit["op"].as_str().unwrap())
            .collect();
        assert!(ops.contains(&"trailing_comma"), "{name}: {ops:?}");
        assert_ne!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"], "{name}");
    }
}

#[test]
fn what_breaks_its_contract_never_leaves() {
    let cases = [
        (r#"{"town": "SECRET"}"#, "get_weather", "CONTRACT_VIOLATED"),
        (r#"{"city": "SECRET"#, "get_weather", "VALUE_TRUNCATED"),
        (r#"{"city": "SECRET"}"#, "undeclared", "CONTRACT_MISSING"),
    ];
    for surface in &SURFACES {
        for (arguments, tool, code) in cases {
            let name = format!("{} {code}", surface.name);
            let world = surface.world(POLICY, &[(tool, arguments)]);
            let (status, body) = match estoppel_kit::http::send(world.gateway, &surface.request()) {
                Ok(answer) => (answer.status(), answer.text()),
                Err(error) => (0, error.to_string()),
            };
            assert!(!body.contains("SECRET"), "{name}: {body}");
            assert_eq!(status, if surface.stream { 0 } else { 422 }, "{name}: {body}");
            if !surface.stream {
                assert!(body.contains(code), "{name}: {body}");
            }
            let receipt = world.receipts("judged").remove(0);
            assert_eq!(receipt["verdict"]["action"], "block", "{name}: {receipt}");
            assert_eq!(receipt["verdict"]["reason"], code, "{name}");
            assert_eq!(receipt["outcome"]["complete"], json!(!surface.stream), "{name}");
        }
    }
}

#[test]
fn without_repair_a_malformed_call_is_refused() {
    let policy = POLICY.replace(", repair: r1", "");
    let world = CHAT.world(&policy, &[("get_weather", "{\"city\": \"x\",}")]);
    let answer = world.send(&CHAT.request());
    assert_eq!(answer.status(), 422);
    assert!(answer.text().contains("VALUE_MALFORMED"), "{}", answer.text());
}

#[test]
fn one_bad_call_of_several_refuses_the_answer() {
    let calls = [("get_weather", GOOD), ("get_weather", r#"{"city": 5}"#)];
    for surface in [&CHAT, &CHAT_STREAM] {
        let world = surface.world(POLICY, &calls);
        let _ = estoppel_kit::http::send(world.gateway, &surface.request());
        assert_eq!(world.receipts("judged")[0]["verdict"]["reason"], "CONTRACT_VIOLATED", "{}", surface.name);
    }
}

/// A stream of the upstream's own making.
fn streamed(text: String, policy: &str) -> World {
    let reply = Reply::new(Body::Text(text)).header("content-type", "text/event-stream");
    World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() })
}

fn refused(text: String) -> Value {
    // The policy lets pass what could not be looked at; judging does not.
    let world = streamed(text, &POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge"));
    let answer = estoppel_kit::http::send(world.gateway, &CHAT_STREAM.request());
    assert!(!answer.is_ok_and(|answer| answer.text().contains("SECRET")));
    world.receipts("judged").remove(0)
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_whatever_the_policy_says_of_the_unread() {
    let event = |call: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\ndata: [DONE]\n\n"
        )
    };
    let twice = r#"{"index":0,"function":{"name":"get_weather","arguments":"{\"city\":\"a\"}","arguments":"SECRET"}}"#;
    let cased = r#"{"index":0,"function":{"name":"get_weather","arguments":"{\"city\":\"a\"}","Arguments":"SECRET"}}"#;
    let object = r#"{"index":0,"function":{"name":"get_weather","arguments":{"city":"SECRET"}}}"#;
    let nameless = r#"{"index":0,"function":{"arguments":"{\"city\":\"SECRET\"}"}}"#;
    for (call, reason) in [
        (twice, "VALUE_AMBIGUOUS"),
        (cased, "VALUE_AMBIGUOUS"),
        (object, "VALUE_MALFORMED"),
        (nameless, "VALUE_AMBIGUOUS"),
        (r#"{"index":0,"SECRET"}"#, "VALUE_AMBIGUOUS"),
    ] {
        assert_eq!(refused(event(call))["verdict"]["reason"], reason, "{call}");
    }
}

#[test]
fn what_follows_the_last_event_is_last_or_does_not_leave() {
    let text =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    let world = streamed(format!("{text}data: [DONE]\n"), POLICY);
    assert_eq!(world.send(&CHAT_STREAM.request()).text(), format!("{text}data: [DONE]\n"));
    // With its length announced, the last piece has all of it.
    let world = streamed(format!("{text}data: {{\"SECRET\":1}}"), POLICY);
    let answer = Peer::connect(world.gateway).unwrap().exchange(&CHAT_STREAM.request()).unwrap();
    assert!(answer.end.is_some() && answer.text().starts_with(text), "{}", answer.text());
    assert!(!answer.text().contains("SECRET") && answer.text().contains("VALUE_TRUNCATED"));
    world.wait_for_calls("judged", 1);
    let receipt = world.receipts("judged").remove(0);
    assert_eq!(receipt["verdict"]["reason"], "VALUE_TRUNCATED");
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
}

#[test]
fn a_line_that_some_clients_take_for_two_is_refused() {
    let call =
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"SECRET"}}]}}]}"#;
    for end in ["\u{2028}", "\u{2029}", "\u{85}", "\u{b}", "\u{1e}"] {
        for field in [": x", "id: x", "event: x"] {
            let events = format!("{field}{end}data: {call}\n\ndata: [DONE]\n\n");
            assert_eq!(refused(events)["verdict"]["reason"], "VALUE_AMBIGUOUS", "{field:?} {end:?}");
        }
    }
    let text = "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\u{2028}b\"}}]}";
    let plain = format!(": \u{e9}\u{2027}\n\ndata: {text}\n\ndata: [DONE]\n\n");
    let world = streamed(plain.clone(), POLICY);
    assert_eq!(world.send(&CHAT_STREAM.request()).text(), plain);
}

#[test]
fn an_empty_answer_where_json_was_asked_for_is_no_answer() {
    let message =
        |said: &str| format!(r#"{{"choices":[{{"index":0,"message":{{{said}}},"finish_reason":"stop"}}]}}"#);
    let events = |said: &str| {
        let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{{said}}}}}]}}\n\ndata: {end}\n\ndata: [DONE]\n\n"
        )
    };
    let empty = r#""content":"""#;
    for (said, passes) in
        [(empty, false), (r#""content":"","refusal":"No.""#, true), (r#""content":"{}""#, true)]
    {
        for (text, kind, stream) in
            [(message(said), "application/json", false), (events(said), "text/event-stream", true)]
        {
            let reply = Reply::new(Body::Text(text.clone())).header("content-type", kind);
            let world =
                World::with(Script::always(reply), &Setup { policy: POLICY.into(), ..Setup::default() });
            let asked =
                json!({ "model": "m", "stream": stream, "response_format": { "type": "json_object" } });
            let request = Request::new("POST", "/v1/chat/completions")
                .header("content-type", "application/json")
                .header("estoppel-run", "judged")
                .body(asked.to_string().into_bytes());
            let answer = estoppel_kit::http::send(world.gateway, &request);
            world.wait_for_calls("judged", 1);
            let receipt = world.receipts("judged").remove(0);
            if passes {
                assert_eq!(answer.unwrap().text(), text);
            } else {
                assert_eq!(receipt["verdict"]["reason"], "VALUE_TRUNCATED", "{receipt}");
                assert!(answer.is_err() || answer.unwrap().text().contains("the text is empty"));
            }
        }
    }
}

#[test]
fn what_no_dialect_gives_a_meaning_is_not_called_judged() {
    let text = "data: tick\n\ndata: [DONE]\n\n";
    let world = streamed(text.into(), &POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge"));
    let request = Request::new("GET", "/feed").header("estoppel-run", "judged");
    assert_eq!(world.send(&request).text(), text);
    let receipt = world.receipts("judged").remove(0);
    assert_eq!(receipt["verdict"]["action"], "allow", "{receipt}");
    assert_ne!(receipt["evaluated"]["response"]["state"], "judged");
}
