//! Rules on MCP traffic: tools that a caller may not call are not listed for it, calls in batches are told apart, and headers
//! have to say what the message says.

use estoppel_kit::http::Request;
use estoppel_stub::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::mcp_values::{FORMS, Form, GOOD, post, refusal, result, rule, seen, tool, tools, world};

const POLICY: &str = "version: 1
name: tools
defaults: { verdict: allow }
rules:
- { id: no-shell, when: { tool: shell* }, verdict: block, reason: TOOL_DENIED }
";

fn list() -> Request {
    post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
}

fn call(name: &str) -> Request {
    post(&one_call(2, name))
}

fn one_call(id: u8, name: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{{"a":1,"b":2}}}}}}"#
    )
}

fn three() -> String {
    tools(&[tool("add", "adds"), tool("shell", "runs"), tool("sub", "takes away")])
}

fn server(form: Form, list: &str) -> Script {
    Script::always(form.reply(&result("2", GOOD))).on(rule("tools/list", form.reply(list)))
}

#[test]
fn a_tool_that_may_not_be_called_is_not_listed_and_the_receipt_says_so() {
    let left = tools(&[tool("add", "adds"), tool("sub", "takes away")]);
    for judge in ["none", "{ unknown_tools: json }"] {
        for form in FORMS {
            let policy = POLICY.replace("allow }\nrules", &format!("allow, judge: {judge} }}\nrules"));
            let world = world(&policy, server(form, &three()));
            assert_eq!(world.send(&list()).text(), form.text(&left), "{form:?}");
            assert_eq!(world.send(&call("add")).status(), 200);
            let denied = seen(&world, &call("shell"));
            assert_eq!((denied.status(), refusal(&denied, &json!(2)).as_str()), (403, "TOOL_DENIED"));
            assert_eq!(world.upstream.hits().total(), 2, "the server does not see it");
            let receipts = world.receipts("mcp");
            let receipt = &receipts[0];
            assert_eq!(receipt["verdict"]["action"], "repair", "{receipt}");
            let repair = &receipt["repair"];
            assert_eq!((&repair["strategy"], &repair["lossy"]), (&json!("tool_lists"), &json!(true)));
            let place = three().find(r#"{"name":"shell"#).unwrap();
            let edit = json!({ "at": place, "del": tool("shell", "runs").len(), "op": "tool_denied" });
            assert_eq!(repair["edits"], json!([edit]));
            assert_ne!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"]);
            assert_eq!(receipts[1]["verdict"]["action"], "allow");
        }
    }
}

#[test]
fn a_list_of_tools_that_may_all_be_called_is_not_touched() {
    let all = tools(&[tool("add", "adds"), tool("sub", "takes away")]);
    for form in FORMS {
        let world = world(POLICY, server(form, &all));
        assert_eq!(world.send(&list()).text(), form.text(&all));
        let receipt = world.receipts("mcp").remove(0);
        assert_eq!(receipt["verdict"]["action"], "allow");
        assert!(receipt.get("repair").is_none());
        assert_eq!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"]);
    }
}

#[test]
fn a_policy_may_leave_lists_as_they_are() {
    let policy = POLICY.replace("allow }\nrules", "allow, tool_lists: as_is }\nrules");
    for form in FORMS {
        let world = world(&policy, server(form, &three()));
        assert_eq!(world.send(&list()).text(), form.text(&three()));
        assert_eq!(refusal(&seen(&world, &call("shell")), &json!(2)), "TOOL_DENIED");
    }
}

#[test]
fn an_element_that_is_no_tool_does_not_keep_a_list_from_being_filtered() {
    for odd in ["7", r#"{"name":7}"#] {
        for form in FORMS {
            let listed = tools(&[tool("add", "adds"), odd.into(), tool("shell", "runs")]);
            let world = world(POLICY, server(form, &listed));
            assert_eq!(
                world.send(&list()).text(),
                form.text(&tools(&[tool("add", "adds")])),
                "{form:?} {odd}"
            );
        }
    }
}

#[test]
fn a_list_in_a_stream_that_is_taken_up_again_is_filtered() {
    let begun = Reply::text("id: 1\ndata: \n\n").header("content-type", "text/event-stream");
    let script = Script::always(Reply::default().status(404))
        .on(rule("tools/list", begun))
        .on(Rule { method: Some("GET".into()), ..Rule::any("", Form::Events.reply(&three())) });
    let world = world(POLICY, script);
    assert_eq!(world.send(&list().header("mcp-session-id", "s1")).status(), 200);
    let resumed = Request::new("GET", "/mcp")
        .header("accept", "text/event-stream")
        .header("mcp-session-id", "s1")
        .header("last-event-id", "1");
    let text = world.send(&resumed).text().to_owned();
    assert!(text.contains("\"add\"") && !text.contains("\"shell\""), "{text}");
}

#[test]
fn a_denied_call_in_a_batch_blocks_all_of_it() {
    let policy = POLICY.replace("allow }\nrules", "allow, on_not_evaluated: allow }\nrules");
    let world = world(&policy, server(Form::Json, &three()));
    let batch = |calls: &[String]| post(&format!("[{}]", calls.join(",")));
    assert_eq!(world.send(&batch(&[one_call(1, "add"), one_call(2, "sub")])).status(), 200);
    let denied = seen(&world, &batch(&[one_call(1, "add"), one_call(2, "shell")]));
    assert_eq!((denied.status(), refusal(&denied, &Value::Null).as_str()), (403, "TOOL_DENIED"));
    assert_eq!(world.upstream.hits().total(), 1);
    let receipt = world.receipts("mcp").remove(1);
    assert_eq!(
        (&receipt["verdict"]["action"], &receipt["policy"]["rule"]),
        (&json!("block"), &json!("no-shell"))
    );
}

#[test]
fn from_2026_07_28_on_headers_say_what_the_message_says() {
    let world = world(POLICY, server(Form::Json, &three()));
    let modern = |name: &str, method: &str, called: &str| {
        call(name)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .header("mcp-name", called)
    };
    assert_eq!(world.send(&modern("add", "tools/call", "add")).status(), 200);
    assert_eq!(world.send(&call("add").header("mcp-method", "x")).status(), 200, "an earlier version");
    for wrong in [modern("add", "tools/list", "add"), modern("add", "tools/call", "sub")] {
        let answer = seen(&world, &wrong);
        assert_eq!((answer.status(), refusal(&answer, &json!(2)).as_str()), (400, "HEADER_MISMATCH"));
        let error: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!(error["error"]["code"], -32_020);
    }
    let denied = seen(&world, &modern("shell", "tools/call", "add"));
    assert_eq!(refusal(&denied, &json!(2)), "TOOL_DENIED", "the message counts, not its headers");
    assert_eq!(world.upstream.hits().total(), 2);
    assert_eq!(world.receipts("mcp")[2]["verdict"]["reason"], "HEADER_MISMATCH");
}

#[test]
fn headers_that_mirror_arguments_say_what_the_arguments_say() {
    let input = r#"{"type":"object","properties":{"a":{"type":"integer","x-mcp-header":"A"},"at":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}}"#;
    let listed = tools(&[format!(r#"{{"name":"add","inputSchema":{input}}}"#)]);
    for judge in ["none", "{ unknown_tools: json }"] {
        let policy = POLICY.replace("allow }\nrules", &format!("allow, judge: {judge} }}\nrules"));
        let world = world(&policy, server(Form::Json, &listed));
        let call = |arguments: &str, headers: &[(&str, &str)]| {
            let params = format!(r#"{{"name":"add","arguments":{arguments}}}"#);
            let body = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{params}}}"#);
            let standard =
                [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "add")];
            standard
                .iter()
                .chain(headers)
                .fold(post(&body), |request, (name, value)| request.header(name, value))
        };
        let both = r#"{"a":42,"at":{"region":"Z\u00fcrich"}}"#;
        let (a, region) = (("mcp-param-a", "42.0"), ("mcp-param-region", "=?base64?WsO8cmljaA==?="));
        let unknown = call(both, &[("mcp-param-a", "43")]);
        assert_eq!(world.send(&unknown).status(), 200, "nothing is known of it yet");
        assert_eq!(world.send(&list()).status(), 200);
        assert_eq!(world.send(&call(both, &[a, region, ("mcp-param-other", "x")])).status(), 200);
        assert_eq!(world.send(&call(r#"{"a":null}"#, &[])).status(), if judge == "none" { 200 } else { 422 });
        let before = world.upstream.hits().total();
        let wrong = [
            call(both, &[a]),
            call(both, &[a, a, region]),
            call(both, &[("mcp-param-a", "43"), region]),
            call(both, &[a, ("mcp-param-region", "Zurich")]),
            call(both, &[a, ("mcp-param-region", "=?base64?WsO8!?=")]),
            call("{}", &[a]),
            call(r#"{"a":null}"#, &[("mcp-param-a", "null")]),
        ];
        for request in wrong {
            let answer = seen(&world, &request);
            assert_eq!((answer.status(), refusal(&answer, &json!(2)).as_str()), (400, "HEADER_MISMATCH"));
        }
        assert_eq!(world.upstream.hits().total(), before, "the server does not see them");
        let old =
            post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{}}}"#);
        assert_eq!(world.send(&old.header("mcp-param-a", "42")).status(), 200, "an earlier version");
    }
}
