//! Calls that are not of functions, in every dialect that has them, whole and streamed: custom tools, tools that the provider
//! has built in, and tools that servers run.

use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World};

const JSON: &str = "version: 1
name: judged
defaults:
  verdict: allow
  judge: { repair: r1 }
";
const BLOCK: &str = "version: 1
name: judged
defaults:
  verdict: allow
  judge: { unknown_tools: block }
";
const NAMED: &str = r#"version: 1
name: judged
contracts:
  city: { json: '{ "type": "object", "required": ["city"] }' }
  ls: { json: '{ "type": "object", "properties": { "command": { "const": ["ls"] } } }' }
  short: { json: '{ "type": "string", "maxLength": 8 }' }
  open: { json: '{ "type": "object", "properties": { "type": { "const": "search" } } }' }
  python: { json: '{ "type": "object", "properties": { "code": { "maxLength": 8 } } }' }
defaults:
  verdict: allow
  judge:
    unknown_tools: block
    repair: r1
    tools: { run: city, local_shell: ls, code_interpreter: short, web_search: open, ask: city, codeExecution: python }
"#;

#[derive(Clone, Copy, PartialEq)]
enum Api {
    Chat,
    Responses,
    Messages,
    Gemini,
}

/// What the model calls: in Responses an output item, in Messages a content block, in chats an element of `tool_calls`, in
/// Gemini a part.
fn answer(api: Api, call: &Value, stream: bool) -> String {
    let event = |value: &Value| match (api, value["type"].as_str()) {
        (Api::Chat | Api::Gemini, _) | (_, None) => format!("data: {value}\n\n"),
        (Api::Responses | Api::Messages, Some(kind)) => format!("event: {kind}\ndata: {value}\n\n"),
    };
    let mut indexed = call.clone();
    indexed["index"] = json!(0);
    let whole = match api {
        Api::Chat => {
            json!({ "choices": [{ "index": 0, "message": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] })
        }
        Api::Responses => json!({ "object": "response", "status": "completed", "output": [call] }),
        Api::Messages => json!({ "type": "message", "content": [call], "stop_reason": "end_turn" }),
        Api::Gemini => json!({ "candidates": [{ "content": { "parts": [call] }, "finishReason": "STOP" }] }),
    };
    let events = match api {
        _ if !stream => return whole.to_string(),
        Api::Gemini => vec![whole],
        Api::Chat => vec![
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [indexed] } }] }),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
        ],
        Api::Responses => vec![
            json!({ "type": "response.output_item.done", "output_index": 0, "item": call }),
            json!({ "type": "response.completed", "response": { "status": "completed", "output": [call] } }),
        ],
        Api::Messages => {
            let mut begun = call.clone();
            begun["input"] = json!({});
            let delta = json!({ "type": "input_json_delta", "partial_json": call["input"].to_string() });
            vec![
                json!({ "type": "content_block_start", "index": 0, "content_block": begun }),
                json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
                json!({ "type": "content_block_stop", "index": 0 }),
                json!({ "type": "message_stop" }),
            ]
        }
    };
    let done = if api == Api::Chat { "data: [DONE]\n\n" } else { "" };
    events.iter().map(event).collect::<String>() + done
}

fn request(api: Api, tools: &Value, stream: bool) -> Request {
    let path = match (api, stream) {
        (Api::Chat, _) => "/v1/chat/completions",
        (Api::Responses, _) => "/v1/responses",
        (Api::Messages, _) => "/v1/messages",
        (Api::Gemini, false) => "/v1beta/models/m:generateContent",
        (Api::Gemini, true) => "/v1beta/models/m:streamGenerateContent?alt=sse",
    };
    let mut body = json!({ "model": "m", "stream": stream, "tools": tools });
    if api == Api::Gemini {
        body = json!({ "contents": [], "tools": tools });
    }
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("estoppel-run", "judged")
        .body(body.to_string().into_bytes())
}

/// Sends one call, whole and streamed; gives the reason of each receipt, or `OK` where all of it came through.
fn reasons(api: Api, tools: &Value, call: &Value, policy: &str) -> [String; 2] {
    [false, true].map(|stream| {
        let said = answer(api, call, stream);
        let kind = if stream { "text/event-stream" } else { "application/json" };
        let reply = Reply::new(Body::Text(said.clone())).header("content-type", kind);
        let setup = Setup { policy: policy.into(), ..Setup::default() };
        let world = World::with(Script::always(reply), &setup);
        let answer = estoppel_kit::http::send(world.gateway, &request(api, tools, stream));
        world.wait_for_calls("judged", 1);
        let receipt = world.receipts("judged").remove(0);
        if receipt["verdict"]["action"] == "allow" {
            assert_eq!(answer.unwrap().text(), said, "{receipt}");
            return "OK".into();
        }
        assert!(!answer.is_ok_and(|answer| answer.text().contains("SECRET")), "{receipt}");
        receipt["verdict"]["reason"].as_str().unwrap().into()
    })
}

fn check(api: Api, tools: &Value, call: &Value, policy: &str, expected: &str) {
    assert_eq!(reasons(api, tools, call, policy), [expected, expected], "{call} {policy}");
}

#[test]
fn a_custom_input_is_any_text_only_where_the_request_says_so() {
    let offers = |format: &Value| {
        let chat = json!([{ "type": "custom", "custom": { "name": "note", "format": format } }]);
        let responses = json!([{ "type": "custom", "name": "note", "format": format }]);
        [(Api::Chat, chat), (Api::Responses, responses)]
    };
    let call = |api, name: &str, input: &str| match api {
        Api::Chat => json!({ "id": "c", "type": "custom", "custom": { "name": name, "input": input } }),
        _ => json!({ "type": "custom_tool_call", "call_id": "c", "name": name, "input": input }),
    };
    for (api, tools) in offers(&json!({ "type": "text" })) {
        check(api, &tools, &call(api, "note", "any text"), JSON, "OK");
        check(api, &tools, &call(api, "note", "any text"), BLOCK, "OK");
        check(api, &tools, &call(api, "other", "SECRET"), JSON, "VALUE_MALFORMED");
        check(api, &tools, &call(api, "other", "{}"), JSON, "OK");
        check(api, &tools, &call(api, "other", "SECRET"), BLOCK, "CONTRACT_MISSING");
    }
    for (api, tools) in offers(&Value::Null) {
        check(api, &tools, &call(api, "note", "any text"), JSON, "OK");
        check(api, &tools, &call(api, "note", "SECRET"), BLOCK, "CONTRACT_MISSING");
        check(api, &tools, &call(api, "run", r#"{"city":"Köln"}"#), NAMED, "OK");
        check(api, &tools, &call(api, "run", r#"{"SECRET":1}"#), NAMED, "CONTRACT_VIOLATED");
        check(api, &tools, &call(api, "run", "SECRET"), NAMED, "VALUE_MALFORMED");
    }
    for (api, tools) in offers(&json!({ "type": "grammar", "syntax": "regex", "definition": "a" })) {
        check(api, &tools, &call(api, "note", "b"), JSON, "OK");
        check(api, &tools, &call(api, "note", "SECRET"), BLOCK, "CONTRACT_UNSUPPORTED");
    }
}

#[test]
fn a_custom_input_that_must_be_json_is_repaired_once() {
    let call = json!({ "type": "custom_tool_call", "call_id": "c", "name": "run", "input": "```json\n{\"city\":\"a\",}\n```" });
    for stream in [false, true] {
        let kind = if stream { "text/event-stream" } else { "application/json" };
        let reply =
            Reply::new(Body::Text(answer(Api::Responses, &call, stream))).header("content-type", kind);
        let world = World::with(Script::always(reply), &Setup { policy: NAMED.into(), ..Setup::default() });
        let text = world.send(&request(Api::Responses, &json!([]), stream)).text();
        assert!(text.contains(r#""input":"{\"city\":\"a\"}\n""#) && !text.contains("```"), "{text}");
        let receipt = world.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "repair");
        assert_eq!(receipt["facts"]["tools_called"][0], "run", "{receipt}");
    }
}

#[test]
fn calls_of_tools_that_the_provider_has_need_a_contract_of_the_policy_where_all_do() {
    let shell = |command: &str| json!({ "type": "local_shell_call", "action": { "type": "exec", "command": [command] } });
    let code = |code: &str| json!({ "type": "code_interpreter_call", "code": code });
    let search = json!({ "type": "web_search_call", "action": { "type": "search", "query": "SECRET" } });
    let open = json!({ "type": "web_search_call", "action": { "type": "open_page", "url": "SECRET" } });
    let image = json!({ "type": "image_generation_call", "result": "SECRET" });
    let mcp = |arguments: &str| json!({ "type": "mcp_call", "name": "ask", "arguments": arguments });
    let none = json!([]);
    for call in [&shell("SECRET"), &code("SECRET"), &search, &image, &mcp("{\"SECRET\":1}")] {
        check(Api::Responses, &none, call, JSON, "OK");
        check(Api::Responses, &none, call, BLOCK, "CONTRACT_MISSING");
    }
    check(Api::Responses, &none, &mcp("SECRET"), JSON, "VALUE_MALFORMED");
    for (call, expected) in [
        (shell("ls"), "OK"),
        (shell("SECRET"), "CONTRACT_VIOLATED"),
        (code("print(1)"), "OK"),
        (code("print(SECRET)"), "CONTRACT_VIOLATED"),
        (search, "OK"),
        (open, "CONTRACT_VIOLATED"),
        (image, "CONTRACT_MISSING"),
        (mcp(r#"{"city":"a"}"#), "OK"),
        (mcp("{\"SECRET\":1}"), "CONTRACT_VIOLATED"),
    ] {
        check(Api::Responses, &none, &call, NAMED, expected);
    }
}

#[test]
fn calls_that_anthropic_or_gemini_run_are_judged_too() {
    for kind in ["server_tool_use", "mcp_tool_use"] {
        let call =
            |name: &str, input: Value| json!({ "type": kind, "id": "t", "name": name, "input": input });
        let none = json!([]);
        check(Api::Messages, &none, &call("web", json!({ "SECRET": 1 })), JSON, "OK");
        check(Api::Messages, &none, &call("web", json!(["SECRET"])), JSON, "CONTRACT_VIOLATED");
        check(Api::Messages, &none, &call("web", json!({ "SECRET": 1 })), BLOCK, "CONTRACT_MISSING");
        check(Api::Messages, &none, &call("ask", json!({ "SECRET": 1 })), NAMED, "CONTRACT_VIOLATED");
        check(Api::Messages, &none, &call("ask", json!({ "city": "a" })), NAMED, "OK");
    }
    let code = |code: &str| json!({ "executableCode": { "language": "PYTHON", "code": code } });
    let tools = json!([{ "codeExecution": {} }]);
    check(Api::Gemini, &tools, &code("SECRET"), JSON, "OK");
    check(Api::Gemini, &tools, &code("SECRET"), BLOCK, "CONTRACT_MISSING");
    check(Api::Gemini, &tools, &code("print(1)"), NAMED, "OK");
    check(Api::Gemini, &tools, &code("print(SECRET)"), NAMED, "CONTRACT_VIOLATED");
}

#[test]
fn rules_see_the_names_of_such_calls() {
    let rule = |tool: &str| {
        format!(
            "version: 1\nname: judged\ndefaults: {{ verdict: allow }}\nrules:\n- {{ id: deny, when: {{ tool: {tool} }}, verdict: block, reason: TOOL_DENIED }}\n"
        )
    };
    let none = json!([]);
    for (api, call, tool) in [
        (Api::Chat, json!({ "type": "custom", "custom": { "name": "SECRET", "input": "x" } }), "secret"),
        (Api::Responses, json!({ "type": "custom_tool_call", "name": "note", "input": "SECRET" }), "note"),
        (Api::Responses, json!({ "type": "apply_patch_call", "operation": { "SECRET": 1 } }), "apply_patch"),
        (Api::Responses, json!({ "type": "mcp_call", "name": "ask", "arguments": "SECRET" }), "ask"),
        (Api::Messages, json!({ "type": "server_tool_use", "name": "web", "input": { "SECRET": 1 } }), "web"),
        (Api::Gemini, json!({ "executableCode": { "code": "SECRET" } }), "code_execution"),
        (Api::Gemini, json!({ "executableCode": { "code": "SECRET" } }), "codeExecution"),
    ] {
        check(api, &none, &call, &rule(tool), "TOOL_DENIED");
    }
}

#[test]
fn a_call_of_a_kind_that_is_not_known_never_comes_through() {
    let rule = |tool: &str| {
        format!(
            "version: 1\nname: judged\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\nrules:\n- {{ id: deny, when: {{ tool: {tool} }}, verdict: block, reason: TOOL_DENIED }}\n"
        )
    };
    let none = json!([]);
    for call in [
        json!({ "id": "a", "type": "shell", "shell": { "command": "SECRET" } }),
        json!({ "id": "a", "type": "mcp", "mcp": { "name": "SECRET" } }),
        json!({ "id": "a", "type": "function", "function": null, "SECRET": 1 }),
        json!({ "type": null, "SECRET": 1 }),
    ] {
        for policy in [JSON, BLOCK] {
            check(Api::Chat, &none, &call, policy, "NOT_EVALUATED");
        }
        let Some(kind) = call["type"].as_str().filter(|kind| *kind != "function") else { continue };
        check(Api::Chat, &none, &call, &rule(kind), "TOOL_DENIED");
        check(Api::Chat, &none, &call, &rule("\"*\""), "TOOL_DENIED");
    }
    for member in ["toolCall", "tool_call", "mystery"] {
        let call = json!({ member: { "args": "SECRET" } });
        check(Api::Gemini, &none, &call, BLOCK, "NOT_EVALUATED");
    }
}

#[test]
fn an_event_of_a_call_without_its_item_never_comes_through() {
    let end = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n";
    let item = r#"{"type":"function_call","name":"SECRET","arguments":"{}"}"#;
    for (name, data, expected) in [
        (
            "response.shell_call_command.done",
            r#""type":"response.shell_call_command.done","output_index":0,"command":"SECRET""#.into(),
            "VALUE_AMBIGUOUS",
        ),
        (
            "response.foo_call_arguments.done",
            r#""type":"response.foo_call_arguments.done","output_index":0,"arguments":"SECRET""#.into(),
            "VALUE_AMBIGUOUS",
        ),
        ("response.mystery", r#""type":"response.mystery","call":"SECRET""#.into(), "NOT_EVALUATED"),
        (
            "response.output_item.done",
            format!(r#""type":"response.created","output_index":0,"item":{item}"#),
            "NOT_EVALUATED",
        ),
        ("response.output_item.done", format!(r#""output_index":0,"item":{item}"#), "NOT_EVALUATED"),
    ] {
        let said = format!("event: {name}\ndata: {{{data}}}\n\n{end}");
        let reply = Reply::new(Body::Text(said)).header("content-type", "text/event-stream");
        let world = World::with(Script::always(reply), &Setup { policy: JSON.into(), ..Setup::default() });
        let answer = estoppel_kit::http::send(world.gateway, &request(Api::Responses, &json!([]), true));
        world.wait_for_calls("judged", 1);
        let receipt = world.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["reason"], expected, "{data} {receipt}");
        assert!(!answer.is_ok_and(|answer| answer.text().contains("SECRET")), "{receipt}");
    }
}
