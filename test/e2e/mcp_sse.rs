//! HTTP+SSE, the MCP transport of 2024-11-05: answers to what is posted come in the stream of another call.

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Fault, Framing, Reply, Rule, Script, Split};
use serde_json::{Value, json};

use crate::mcp_values::{refusal, result, seen, tool, tools};
use crate::support::{Setup, World};

const RULES: &str = "rules:
- { id: no-shell, when: { tool: shell* }, verdict: block, reason: TOOL_DENIED }
- { id: no-told, when: { operation: mcp.notifications/told }, verdict: block, reason: TOOL_DENIED }
";

fn policy(defaults: &str) -> String {
    format!("version: 1\nname: sse\ndefaults: {{ verdict: allow{defaults} }}\n{RULES}")
}

const ROUTES: &str = "[[route]]
name = \"sse\"
path = \"/legacy\"
strip_path = true
upstream = \"stub\"
dialect = \"mcp\"

[[route]]
name = \"plain\"
path = \"/sse\"
upstream = \"stub\"
dialect = \"mcp\"
";

fn endpoint(url: &str) -> String {
    format!("event: endpoint\r\ndata: {url}\r\n\r\n")
}

fn message(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

/// A server whose stream says `events`, and then ends or stays open. It takes what is posted.
fn world(policy: &str, events: &str, stays: bool) -> World {
    let stream = Reply::new(Body::Text(events.into()))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .split(Split::Each { bytes: 1 });
    let stream = if stays { stream.fault(Fault::Stall { after_bytes: events.len() as u64 }) } else { stream };
    let accepted = Reply::text("Accepted").status(202);
    let script = Script::always(accepted).on(Rule { method: Some("GET".into()), ..Rule::any("", stream) });
    World::with(script, &Setup { policy: policy.into(), routes: ROUTES.into(), ..Setup::default() })
}

fn open(path: &str) -> Request {
    Request::new("GET", path).header("accept", "text/event-stream").header("estoppel-run", "sse")
}

fn post(url: &str, body: &str) -> Request {
    Request::new("POST", url)
        .header("content-type", "application/json")
        .header("estoppel-run", "sse")
        .body(body)
}

fn call(id: u8, name: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}"}}}}"#)
}

#[test]
fn a_refusal_of_a_post_is_said_in_its_stream_and_the_server_sees_nothing() {
    for judge in ["", ", judge: { unknown_tools: json }"] {
        let world = world(&policy(judge), &endpoint("/messages?s=1"), true);
        let mut stream = Peer::connect(world.gateway).unwrap();
        stream.send(&open("/legacy/sse").wire("gateway")).unwrap();
        let head = String::from_utf8(stream.read_until(b"\r\n\r\n").unwrap()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream.read_until(b"data: /legacy/messages?s=1\r\n").unwrap();
        let url = "/legacy/messages?s=1";

        let denied = world.send(&post(url, &call(7, "shell")));
        assert_eq!((denied.status(), denied.text().as_str()), (202, ""));
        let said = String::from_utf8(stream.read_until(b"\"2.0\"}\n\n").unwrap()).unwrap();
        let error = said.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let error: Value = serde_json::from_str(error).unwrap();
        assert_eq!((&error["id"], &error["error"]["data"]["code"]), (&json!(7), &json!("TOOL_DENIED")));

        let told = world.send(&post(url, r#"{"jsonrpc":"2.0","method":"notifications/told"}"#));
        assert_eq!(told.status(), 202, "nobody waits for an answer to a notification");
        let elsewhere = seen(&world, &post("/legacy/messages?s=2", &call(8, "shell")));
        assert_eq!((elsewhere.status(), refusal(&elsewhere, &json!(8)).as_str()), (403, "TOOL_DENIED"));
        assert_eq!(world.upstream.hits().total(), 1, "only the stream was asked for");

        let taken = world.send(&post(url, &call(9, "add")));
        assert_eq!((taken.status(), taken.text().as_str()), (202, ""), "what it says is not looked at");
        if !judge.is_empty() {
            assert_eq!(world.send(&post(url, &call(9, "add"))).status(), 202);
            let said = String::from_utf8(stream.read_until(b"\"2.0\"}\n\n").unwrap()).unwrap();
            assert!(said.contains("REQUEST_VIOLATED"), "the id waits for its answer: {said}");
        }
        assert_eq!(world.upstream.hits().total(), 2);

        drop(stream);
        world.wait_until_idle();
        let gone = seen(&world, &post(url, &call(10, "shell")));
        assert_eq!((gone.status(), refusal(&gone, &json!(10)).as_str()), (403, "TOOL_DENIED"));
        let receipts = world.receipts("sse");
        let denied = &receipts[0];
        assert_eq!(denied["response"]["client"]["status"], 202, "{denied}");
        assert_eq!(denied["verdict"]["reason"], "TOOL_DENIED");
        assert!(denied["response"].get("upstream").is_none());
        let stream = receipts.iter().find(|receipt| receipt["request"]["method"] == "GET").unwrap();
        assert_eq!(stream["repair"]["strategy"], "mcp_endpoint", "{stream}");
        assert_eq!(stream["outcome"]["code"], "CLIENT_GONE");
    }
}

#[test]
fn an_endpoint_that_needs_no_change_gets_none() {
    let events = format!(
        ": hello\r\n\r\n{}{}",
        endpoint("/sse/messages?s=1"),
        message(r#"{"method":"notifications/x"}"#)
    );
    let world = world(&policy(""), &events, false);
    assert_eq!(world.send(&open("/sse/stream")).text(), events);
    let receipt = world.receipts("sse").remove(0);
    assert!(receipt.get("repair").is_none() && receipt["verdict"]["action"] == "allow", "{receipt}");
}

#[test]
fn an_endpoint_elsewhere_or_in_the_middle_of_a_stream_is_refused() {
    let cases = [
        ("/legacy/sse", endpoint("http://evil.test/messages")),
        ("/legacy/sse", endpoint("//evil.test/messages")),
        ("/legacy/sse", endpoint("/a/../b")),
        ("/sse/stream", endpoint("/messages")),
        ("/legacy/sse", endpoint("/messages").repeat(2)),
        ("/legacy/sse", format!("{}{}", message(r#"{"method":"x"}"#), endpoint("/messages"))),
        ("/legacy/sse", "event: endpoint\n\n".into()),
        ("/legacy/sse", format!("\u{feff}{}", endpoint("//evil.test/messages"))),
    ];
    for (path, events) in cases {
        for defaults in
            [", on_not_evaluated: allow", ", on_not_evaluated: allow, judge: { release: observe }"]
        {
            let world = world(&policy(defaults), &events, true);
            let got = seen(&world, &open(path));
            assert_eq!(refusal(&got, &Value::Null), "VALUE_AMBIGUOUS", "{events}: {}", got.text());
            assert!(!got.text().contains("evil"), "{}", got.text());
            assert_eq!(world.receipts("sse")[0]["verdict"]["reason"], "VALUE_AMBIGUOUS");
        }
    }
}

#[test]
fn a_list_that_nobody_is_known_to_have_asked_for_is_filtered_or_refused() {
    let list = tools(&[tool("add", "adds"), tool("shell", "runs")]);
    let events = format!("{}{}", endpoint("/messages"), message(&list));
    let filtered = world(&policy(""), &events, false).send(&open("/legacy/sse")).text();
    assert!(filtered.contains("\"add\"") && !filtered.contains("\"shell\""), "{filtered}");
    let judged = world(&policy(", judge: { unknown_tools: json }"), &events, false);
    let got = seen(&judged, &open("/legacy/sse"));
    assert_eq!(refusal(&got, &json!(1)), "VALUE_AMBIGUOUS", "{}", got.text());
}

#[test]
fn where_findings_are_only_recorded_the_stream_goes_on() {
    let events = format!("{}{}", endpoint("/messages"), message(&result("5", "{}")).repeat(2));
    let world = world(&policy(", judge: { release: observe }"), &events, false);
    let text = world.send(&open("/legacy/sse")).text();
    assert_eq!(text, events.replace("data: /messages", "data: /legacy/messages"));
    let receipt = world.receipts("sse").remove(0);
    assert_eq!(receipt["downgrades"][0]["code"], "VALUE_AMBIGUOUS", "{receipt}");
}
