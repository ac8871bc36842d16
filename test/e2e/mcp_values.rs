//! MCP tools: what they are called with and what they give, held against what their server said of them first.

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_stub::{Body, Framing, Reply, Rule, Script, Split, Stub};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World};

pub(crate) const POLICY: &str = "version: 1
name: tools
defaults:
  verdict: allow
  judge: { unknown_tools: block }
";

pub(crate) const INPUT: &str =
    r#"{"properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"],"type":"object"}"#;
pub(crate) const OUTPUT: &str =
    r#"{"properties":{"sum":{"type":"integer"}},"required":["sum"],"type":"object"}"#;
pub(crate) const GOOD: &str = r#"{"content":[],"structuredContent":{"sum":3}}"#;

pub(crate) fn tool(name: &str, description: &str) -> String {
    format!(
        r#"{{"name":"{name}","description":"{description}","inputSchema":{INPUT},"outputSchema":{OUTPUT}}}"#
    )
}

pub(crate) fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

pub(crate) fn tools(tools: &[String]) -> String {
    result("1", &format!(r#"{{"tools":[{}]}}"#, tools.join(",")))
}

pub(crate) const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;

/// A server's answer, as it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// After a comment, an event without data and a notification.
    Events,
}

pub(crate) const FORMS: [Form; 2] = [Form::Json, Form::Events];

impl Form {
    pub(crate) fn text(self, message: &str) -> String {
        match self {
            Self::Json => message.into(),
            Self::Events => format!(
                ": hello\n\nid: 1\nretry: 9\n\nevent: message\ndata: {PROGRESS}\n\nevent: message\r\nid: 2\r\ndata: {message}\r\n\r\n"
            ),
        }
    }

    pub(crate) fn reply(self, message: &str) -> Reply {
        let reply = Reply::new(Body::Text(self.text(message)));
        match self {
            Self::Json => reply.header("content-type", "application/json"),
            Self::Events => reply
                .header("content-type", "text/event-stream")
                .framing(Framing::Chunked)
                .split(Split::Each { bytes: 1 }),
        }
    }
}

pub(crate) fn rule(contains: &str, reply: Reply) -> Rule {
    Rule { body_contains: Some(contains.into()), ..Rule::any("", reply) }
}

/// A server that lists `add`, and answers its calls with `answer`.
pub(crate) fn server(form: Form, answer: &str) -> Script {
    Script::always(Reply::default().status(404))
        .on(rule("tools/list", form.reply(&tools(&[tool("add", "adds")]))))
        .on(rule("tools/call", form.reply(answer)))
}

pub(crate) fn world(policy: &str, script: Script) -> World {
    World::with(script, &Setup { policy: policy.into(), ..Setup::default() })
}

pub(crate) fn post(body: &str) -> Request {
    Request::new("POST", "/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("estoppel-run", "mcp")
        .body(body)
}

pub(crate) fn list() -> Request {
    post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
}

pub(crate) fn call(name: &str, arguments: &str) -> Request {
    let params = format!(r#"{{"name":"{name}","arguments":{arguments}}}"#);
    post(&format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{params}}}"#))
}

pub(crate) fn add() -> Request {
    call("add", r#"{"a":1,"b":2}"#)
}

/// What a client gets, also of an answer that is broken off.
pub(crate) fn seen(world: &World, request: &Request) -> Answer {
    Peer::connect(world.gateway).unwrap().exchange(request).unwrap()
}

/// The code of the JSON-RPC error to the request with this id.
pub(crate) fn refusal(answer: &Answer, id: &Value) -> String {
    let text = answer.text();
    let last = text.lines().rev().find(|line| line.contains("\"error\"")).unwrap_or_default();
    let error: Value = serde_json::from_str(last.trim_start_matches("data: ")).unwrap_or_default();
    assert_eq!(error["id"], *id, "{text}");
    error["error"]["data"]["code"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn digest(tool: &str, schema: &str) -> String {
    let document = format!(r#"{{"tools":{{"{tool}":{schema}}}}}"#);
    estoppel_evidence::Sha256::of(document.as_bytes()).to_string()
}

#[test]
fn a_valid_call_and_its_result_pass_byte_for_byte_and_the_receipt_names_both_contracts() {
    for form in FORMS {
        let answer = result("2", GOOD);
        let world = world(POLICY, server(form, &answer));
        assert_eq!(world.send(&list()).text(), form.text(&tools(&[tool("add", "adds")])), "{form:?}");
        assert_eq!(world.send(&add()).text(), form.text(&answer), "{form:?}");
        let receipts = world.receipts("mcp");
        assert!(receipts[0].get("contract").is_none(), "{}", receipts[0]);
        let named = |schema| json!({ "digest": digest("add", schema), "id": "add", "source": "mcp" });
        let receipt = &receipts[1];
        assert_eq!(receipt["contract"], json!({ "request": named(INPUT), "response": named(OUTPUT) }));
        for side in ["request", "response"] {
            assert_eq!(receipt["evaluated"][side]["state"], "judged", "{form:?}: {receipt}");
        }
        assert_eq!(receipt["verdict"]["action"], "allow");
        assert_eq!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"]);
    }
}

#[test]
fn arguments_that_break_their_contract_never_reach_the_server() {
    let world = world(POLICY, server(Form::Json, &result("2", GOOD)));
    let unlisted = call("add", r#"{"a":1,"b":2}"#);
    assert_eq!(refusal(&seen(&world, &unlisted), &json!(2)), "CONTRACT_MISSING");
    assert_eq!(world.send(&list()).status(), 200);
    let cases = [
        (call("add", r#"{"a":1}"#), "REQUEST_VIOLATED"),
        (call("add", r#"{"a":1,"b":"2"}"#), "REQUEST_VIOLATED"),
        (call("add", r#"{"a":1,"b":2,"b":3}"#), "REQUEST_VIOLATED"),
        (call("add", "null"), "REQUEST_VIOLATED"),
        (call("sub", r#"{"a":1,"b":2}"#), "CONTRACT_MISSING"),
        (post(r#"{"id":2,"method":"tools/call","params":{"name":"add"}}"#), "REQUEST_VIOLATED"),
        (add().header("content-encoding", "gzip"), "NOT_EVALUATED"),
    ];
    for (request, code) in &cases {
        let answer = seen(&world, request);
        let id = if *code == "NOT_EVALUATED" { Value::Null } else { json!(2) };
        assert_eq!(refusal(&answer, &id), *code, "{}", answer.text());
    }
    assert_eq!(world.upstream.hits().total(), 1);
    let violated = &world.receipts("mcp")[2];
    assert_eq!(violated["contract"]["request"]["digest"], digest("add", INPUT), "{violated}");
    assert_eq!(violated["verdict"]["reason"], "REQUEST_VIOLATED");
    assert!(violated["response"].get("upstream").is_none());
}

#[test]
fn what_cannot_be_read_is_refused_whatever_the_policy_says_of_the_unread() {
    let policy = POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge");
    let world = world(&policy, server(Form::Json, &result("2", GOOD)));
    assert_eq!(world.send(&list()).status(), 200);
    let twice =
        r#"{"id":2,"method":"tools/call","params":{"name":"add","arguments":{},"arguments":{"a":1,"b":2}}}"#;
    for (request, code) in [
        (add().header("content-encoding", "gzip"), "CONTRACT_UNSUPPORTED"),
        (post(twice), "REQUEST_VIOLATED"),
        (post(r#"{"id":2,"method":"tools/call","params":{"arguments":{}}}"#), "REQUEST_VIOLATED"),
        (post("{"), "REQUEST_VIOLATED"),
    ] {
        let answer = seen(&world, &request);
        assert!(answer.text().contains(code), "{code}: {}", answer.text());
    }
    assert_eq!(world.upstream.hits().total(), 1);
}

#[test]
fn without_a_contract_arguments_are_an_object() {
    let policy = POLICY.replace("unknown_tools: block", "unknown_tools: json");
    let world = world(&policy, server(Form::Json, &result("2", r#"{"content":[]}"#)));
    assert_eq!(refusal(&seen(&world, &call("add", "[1]")), &json!(2)), "REQUEST_VIOLATED");
    assert_eq!(world.send(&call("add", "{}")).status(), 200);
    assert_eq!(world.upstream.hits().total(), 1);
    let receipts = world.receipts("mcp");
    assert_eq!(receipts[1]["evaluated"]["request"]["state"], "judged");
    assert!(receipts[1].get("contract").is_none());
}

#[test]
fn a_result_that_breaks_its_contract_never_leaves() {
    let cases = [
        (result("2", r#"{"structuredContent":{"sum":"SECRET"}}"#), "CONTRACT_VIOLATED"),
        (result("2", r#"{"content":[{"type":"text","text":"SECRET"}]}"#), "CONTRACT_VIOLATED"),
        (result("2", r#"{"structuredContent":["SECRET"],"isError":true}"#), "CONTRACT_VIOLATED"),
        (result("3", r#"{"structuredContent":{"sum":3},"x":"SECRET"}"#), "VALUE_AMBIGUOUS"),
        (result("\"2\"", r#"{"structuredContent":{"sum":3},"x":"SECRET"}"#), "VALUE_AMBIGUOUS"),
    ];
    for form in FORMS {
        for (answer, code) in &cases {
            let world = world(POLICY, server(form, answer));
            assert_eq!(world.send(&list()).status(), 200);
            let got = seen(&world, &add());
            assert_eq!(refusal(&got, &json!(2)), *code, "{form:?} {answer}: {}", got.text());
            assert!(!got.text().contains("SECRET"), "{form:?}: {}", got.text());
            match form {
                Form::Json => assert_eq!(got.status(), 422),
                Form::Events => {
                    assert_eq!((got.status(), got.end.is_some()), (200, true), "{answer}");
                    assert!(got.text().contains(PROGRESS), "what came before has left");
                }
            }
            world.wait_for_calls("mcp", 2);
            let receipt = world.receipts("mcp").remove(1);
            assert_eq!(receipt["verdict"]["reason"], *code, "{receipt}");
            assert_eq!(receipt["outcome"]["complete"], json!(form == Form::Json));
        }
    }
}

#[test]
fn a_tool_that_fails_or_asks_first_needs_no_structured_content() {
    for answer in [
        r#"{"content":[],"isError":true}"#,
        r#"{"content":[],"isError":true,"structuredContent":null}"#,
        r#"{"resultType":"input_required","inputRequests":{}}"#,
    ] {
        for form in FORMS {
            let answer = result("2", answer);
            let world = world(POLICY, server(form, &answer));
            assert_eq!(world.send(&list()).status(), 200);
            assert_eq!(world.send(&add()).text(), form.text(&answer));
        }
    }
}

#[test]
fn a_changed_tool_is_refused_and_what_it_was_first_still_counts() {
    for form in FORMS {
        let other = form.reply(&tools(&[tool("new", "is new"), tool("add", "SECRET")]));
        let script = Script::always(form.reply(&result("2", GOOD)))
            .on(Rule { times: Some(1), ..rule("tools/list", form.reply(&tools(&[tool("add", "adds")]))) })
            .on(rule("tools/list", other));
        let world = world(POLICY, script);
        assert_eq!(world.send(&list()).status(), 200);
        for _ in 0..2 {
            let got = seen(&world, &list());
            assert_eq!(refusal(&got, &json!(1)), "TOOL_CHANGED", "{form:?}: {}", got.text());
            assert!(got.text().contains("tool `add`") && !got.text().contains("SECRET"), "{}", got.text());
        }
        assert_eq!(world.send(&add()).status(), 200);
        assert_eq!(refusal(&seen(&world, &call("new", "{}")), &json!(2)), "CONTRACT_MISSING");
        world.wait_for_calls("mcp", 5);
        assert_eq!(world.metric("estoppel_tools_changed_total{route=\"stub\"}"), Some(2.0));
        assert!(
            world.daemon.stderr().contains("a tool has changed; what it was counts"),
            "{}",
            world.daemon.stderr()
        );
        assert_eq!(world.receipts("mcp")[1]["verdict"]["reason"], "TOOL_CHANGED");
    }
}

#[test]
fn a_change_that_the_policy_allows_is_in_the_receipt_and_counts_from_then_on() {
    let narrow =
        tool("add", "adds").replace("\"required\":[\"a\",\"b\"]", "\"required\":[\"a\",\"b\",\"c\"]");
    let script = Script::always(Form::Json.reply(&result("2", GOOD)))
        .on(Rule { times: Some(1), ..rule("tools/list", Form::Json.reply(&tools(&[tool("add", "adds")]))) })
        .on(rule("tools/list", Form::Json.reply(&tools(&[narrow]))));
    let world = world(&POLICY.replace("unknown_tools: block", "changed_tools: allow"), script);
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(world.send(&add()).status(), 200);
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(refusal(&seen(&world, &add()), &json!(2)), "REQUEST_VIOLATED");
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(world.metric("estoppel_tools_changed_total{route=\"stub\"}"), Some(1.0));
    let receipts = world.receipts("mcp");
    let changed = json!([{ "code": "TOOL_CHANGED", "detail": "add" }]);
    assert_eq!(receipts[2]["downgrades"], changed, "{}", receipts[2]);
    assert_eq!(receipts[2]["verdict"]["action"], "allow");
    assert!(receipts[4].get("downgrades").is_none());
}

#[test]
fn pages_of_a_list_add_up() {
    let page = |name: &str| format!(r#"{{"tools":[{}],"nextCursor":"x"}}"#, tool(name, "d"));
    let script = Script::always(Form::Json.reply(&result("2", GOOD)))
        .on(rule("cursor", Form::Json.reply(&result("1", &page("add")))))
        .on(rule("tools/list", Form::Json.reply(&result("1", &page("sub")))));
    let world = world(POLICY, script);
    let next = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}"#;
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(world.send(&post(next)).status(), 200);
    for name in ["add", "sub"] {
        assert_eq!(world.send(&call(name, r#"{"a":1,"b":2}"#)).status(), 200);
        assert_eq!(refusal(&seen(&world, &call(name, "{}")), &json!(2)), "REQUEST_VIOLATED");
    }
}

#[test]
fn every_call_of_a_batch_is_judged_and_every_result_by_its_own_id() {
    let policy = POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge");
    let call = |id: u8, arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"add","arguments":{arguments}}}}}"#
        )
    };
    let batch = |calls: &[String]| post(&format!("[{}]", calls.join(",")));
    let (good, bad) = (r#"{"a":1,"b":2}"#, r#"{"a":1}"#);
    let answers = format!("[{},{}]", result("8", GOOD), result("7", GOOD));
    let wrong = format!("[{},{}]", result("7", GOOD), result("8", r#"{"structuredContent":"SECRET"}"#));
    for form in FORMS {
        let script = Script::always(form.reply(&answers))
            .on(rule("tools/list", form.reply(&tools(&[tool("add", "adds")]))))
            .on(rule("99", form.reply(&wrong)));
        let world = world(&policy, script);
        assert_eq!(world.send(&list()).status(), 200);
        let both = batch(&[call(7, good), call(8, good)]);
        assert_eq!(world.send(&both).text(), form.text(&answers));
        for calls in [[call(7, good), call(8, bad)], [call(7, good), call(7, good)]] {
            assert_eq!(seen(&world, &batch(&calls)).status(), 422);
        }
        assert_eq!(world.upstream.hits().total(), 2);
        let got = seen(&world, &batch(&[call(7, r#"{"a":99,"b":2}"#), call(8, good)]));
        assert!(got.text().contains("CONTRACT_VIOLATED") && !got.text().contains("SECRET"), "{}", got.text());
        world.wait_for_calls("mcp", 5);
        assert_eq!(world.receipts("mcp")[1]["contract"]["response"]["digest"], digest("add", OUTPUT));
    }
}

#[test]
fn release_says_what_leaves_before_it_has_passed() {
    let answer = result("2", r#"{"structuredContent":"wrong"}"#);
    let policy = |release: &str| POLICY.replace("block }", &format!("block, release: {release} }}"));
    for form in FORMS {
        let observed = world(&policy("observe"), server(form, &answer));
        assert_eq!(observed.send(&list()).status(), 200);
        assert_eq!(observed.send(&call("add", "{}")).text(), form.text(&answer), "{form:?}");
        let receipt = observed.receipts("mcp").remove(1);
        let sent = json!({ "code": "REQUEST_VIOLATED", "detail": "observed in the request" });
        let given = json!({ "code": "CONTRACT_VIOLATED", "detail": "observed in the answer" });
        assert_eq!(receipt["downgrades"], json!([sent, given]), "{receipt}");
        assert_eq!(receipt["verdict"]["action"], "allow");

        let held = world(&policy("hold_all"), server(form, &answer));
        assert_eq!(held.send(&list()).text(), form.text(&tools(&[tool("add", "adds")])));
        let got = seen(&held, &add());
        assert_eq!((got.status(), refusal(&got, &json!(2)).as_str()), (422, "CONTRACT_VIOLATED"));

        let cut = world(&policy("stream_and_cut"), server(form, &answer));
        assert_eq!(cut.send(&list()).status(), 200);
        assert_eq!(refusal(&seen(&cut, &call("add", "{}")), &json!(2)), "REQUEST_VIOLATED");
        let got = seen(&cut, &add());
        assert!(got.status() == 422 || got.end.is_some(), "{form:?}: {}", got.text());
        cut.wait_for_calls("mcp", 3);
        assert_eq!(cut.receipts("mcp")[2]["verdict"]["reason"], "CONTRACT_VIOLATED");
    }
}

#[test]
fn what_answers_no_request_flows_under_hold_all() {
    let policy = POLICY.replace("block }", "block, release: hold_all }");
    let world = world(&policy, Script::always(Form::Events.reply("{}")));
    let listen =
        Request::new("GET", "/mcp").header("accept", "text/event-stream").header("estoppel-run", "mcp");
    let answer = seen(&world, &listen);
    assert!(answer.header("estoppel-receipt").is_none() && answer.text().contains(PROGRESS));
}

#[test]
fn the_policy_s_contract_comes_before_the_server_s() {
    let policy = format!(
        "{}contracts:\n  small: {{ json: '{{\"properties\":{{\"a\":{{\"maximum\":9}}}}}}' }}\n",
        POLICY.replace("block }", "block, tools: { add: small } }")
    );
    let world = world(&policy, server(Form::Json, &result("2", GOOD)));
    assert_eq!(world.send(&call("add", "{}")).status(), 200);
    assert_eq!(refusal(&seen(&world, &call("add", r#"{"a":10}"#)), &json!(2)), "REQUEST_VIOLATED");
    let receipt = world.receipts("mcp").remove(0);
    let named = json!({ "digest": digest("add", r#"{"properties":{"a":{"maximum":9}}}"#), "id": "add", "source": "policy" });
    assert_eq!(receipt["contract"], json!({ "request": named }));
}

#[test]
fn the_policy_s_contract_for_results_comes_before_the_server_s() {
    let policy = format!(
        "{}contracts:\n  small: {{ json: '{{\"properties\":{{\"sum\":{{\"maximum\":2}}}}}}' }}\n",
        POLICY.replace("block }", "json, results: { add: small } }")
    );
    let world = world(&policy, server(Form::Json, &result("2", GOOD)));
    assert_eq!(refusal(&seen(&world, &add()), &json!(2)), "CONTRACT_VIOLATED");
    let receipt = world.receipts("mcp").remove(0);
    let small = r#"{"properties":{"sum":{"maximum":2}}}"#;
    let named = json!({ "digest": digest("add", small), "id": "add", "source": "policy" });
    assert_eq!(receipt["contract"], json!({ "response": named }));
}

#[test]
fn a_schema_that_cannot_be_enforced_refuses_calls_before_they_are_made() {
    for part in ["inputSchema", "outputSchema"] {
        let tool = format!(r#"{{"name":"add","{part}":{{"$ref":"https://s.example/x"}}}}"#);
        let script = Script::always(Form::Json.reply(&result("2", GOOD)))
            .on(rule("tools/list", Form::Json.reply(&tools(&[tool]))));
        let world = world(&POLICY.replace("block", "json"), script);
        assert_eq!(world.send(&list()).status(), 200);
        let got = seen(&world, &add());
        assert_eq!(refusal(&got, &json!(2)), "CONTRACT_UNSUPPORTED", "{part}");
        assert!(got.text().contains(&format!("call of `add`: its `{part}`: ")), "{}", got.text());
        assert_eq!(world.upstream.hits().total(), 1);
    }
}

#[test]
fn a_reload_keeps_what_is_known_of_a_server_and_another_upstream_drops_it() {
    let mut world = world(POLICY, server(Form::Json, &result("2", GOOD)));
    assert_eq!(world.send(&list()).status(), 200);
    world.scratch.write("policy.yaml", POLICY.replace("name: tools", "name: other"));
    world.daemon.hang_up();
    let reloads = |world: &World| world.metric("estoppel_reloads_total{result=\"ok\"}");
    estoppel_kit::until("the reload", PATIENCE, || (reloads(&world) >= Some(1.0)).then_some(()));
    assert_eq!(world.send(&add()).status(), 200);
    let other = Stub::spawn_thread(server(Form::Json, &result("2", GOOD))).unwrap();
    let setup = Setup { policy: POLICY.into(), ..Setup::default() };
    crate::support::write_config(&world.scratch, other.addr(), &setup);
    world.daemon.hang_up();
    estoppel_kit::until("the other upstream", PATIENCE, || {
        (seen(&world, &add()).text().contains("CONTRACT_MISSING")).then_some(())
    });
    assert_eq!(other.hits().total(), 0);
}

#[test]
fn an_id_that_is_a_text_stays_one_in_a_refusal() {
    let world = world(POLICY, server(Form::Json, &result("2", GOOD)));
    for id in ["\"7\"", "\"a b\""] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#);
        let expected: Value = serde_json::from_str(id).unwrap();
        assert_eq!(refusal(&seen(&world, &post(&body)), &expected), "CONTRACT_MISSING");
    }
}

#[test]
fn an_event_with_an_id_and_no_data_is_nothing_to_be_judged() {
    let text = format!("id: 1\ndata: \n\ndata: {}\n\n", result("2", GOOD));
    let reply = Reply::new(Body::Text(text.clone())).header("content-type", "text/event-stream");
    let script =
        Script::always(reply).on(rule("tools/list", Form::Json.reply(&tools(&[tool("add", "adds")]))));
    let world = world(POLICY, script);
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(world.send(&add()).text(), text);
}
