//! Sessions of MCP servers until 2025-11-25: what is left in one stream and comes in another.

use estoppel_kit::http::Request;
use estoppel_stub::{Reply, Rule, Script};
use serde_json::Value;

use crate::mcp_values::{Form, GOOD, POLICY, add, list, refusal, result, rule, seen, tool, tools, world};

/// A client that left the stream of its call asks for what it has missed.
fn resumed(session: &str) -> Request {
    Request::new("GET", "/mcp")
        .header("accept", "text/event-stream")
        .header("mcp-session-id", session)
        .header("last-event-id", "1")
        .header("estoppel-run", "mcp")
}

/// A server that closes the stream of each call before it answers, and answers in the next.
fn leaves_and_returns(answer: &str) -> Script {
    let begun = Reply::text("id: 1\nretry: 9\ndata: \n\n").header("content-type", "text/event-stream");
    Script::always(Reply::default().status(404))
        .on(rule("tools/list", Form::Json.reply(&tools(&[tool("add", "adds")]))))
        .on(rule("tools/call", begun))
        .on(Rule { method: Some("GET".into()), ..Rule::any("", Form::Events.reply(answer)) })
}

#[test]
fn an_answer_in_a_later_stream_of_its_session_is_held_against_its_call() {
    let good = result("2", GOOD);
    let in_session = |request: Request| request.header("mcp-session-id", "s1");
    let kept = world(POLICY, leaves_and_returns(&good));
    assert_eq!(kept.send(&list()).status(), 200);
    assert_eq!(kept.send(&in_session(add())).status(), 200);
    for _ in 0..2 {
        assert_eq!(kept.send(&resumed("s1")).text(), Form::Events.text(&good));
    }
    assert_eq!(refusal(&seen(&kept, &resumed("s2")), &Value::Null), "VALUE_AMBIGUOUS");
    kept.wait_for_calls("mcp", 5);
    let receipt = kept.receipts("mcp").remove(2);
    assert_eq!(receipt["contract"]["response"]["source"], "mcp", "{receipt}");

    let broken = world(POLICY, leaves_and_returns(&result("2", r#"{"structuredContent":{"sum":"SECRET"}}"#)));
    assert_eq!(broken.send(&list()).status(), 200);
    assert_eq!(broken.send(&in_session(add())).status(), 200);
    let got = seen(&broken, &resumed("s1"));
    assert_eq!(refusal(&got, &Value::Null), "CONTRACT_VIOLATED", "{}", got.text());
    assert!(!got.text().contains("SECRET"));
}

#[test]
fn an_answer_to_nothing_that_its_session_asked_is_refused() {
    let world = world(POLICY, leaves_and_returns(&result("3", GOOD)));
    assert_eq!(world.send(&list()).status(), 200);
    assert_eq!(world.send(&add().header("mcp-session-id", "s1")).status(), 200);
    assert_eq!(refusal(&seen(&world, &resumed("s1")), &Value::Null), "VALUE_AMBIGUOUS");
}
