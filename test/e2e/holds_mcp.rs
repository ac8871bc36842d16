//! Calls of MCP tools that wait for people. Their clients send a call again under another id, so what is approved is what it asks for.

use estoppel_kit::http::{Answer, Request};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::holds::{People, check, entries, policy, sealed, show};
use crate::support::{Setup, World};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;

fn world() -> World {
    let rule = "- { id: tools, when: { operation: mcp.tools/call, tool: transfer }, verdict: hold, hold: { approvers: [ada] } }\n";
    let setup = Setup {
        policy: policy("approvers: [ada]", rule),
        routes: "[[route]]\nname = \"mcp\"\npath = \"/mcp\"\nupstream = \"stub\"\ndialect = \"mcp\"\n".into(),
        ..Setup::default()
    };
    World::with(Script::always(Reply::json(RESULT)), &setup)
}

fn call(id: u32, amount: u32) -> Value {
    let params = json!({ "name": "transfer", "arguments": { "amount": amount } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

/// The same as clients say it since multi round-trip requests.
fn modern(id: u32, state: Option<&str>) -> Value {
    let mut call = call(id, 9);
    call["params"]["_meta"] =
        json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": id });
    if let Some(state) = state {
        call["params"]["requestState"] = json!(state);
    }
    call
}

fn request(body: &Value) -> Request {
    Request::new("POST", "/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("estoppel-run", "held")
        .body(body.to_string())
}

fn modern_request(body: &Value) -> Request {
    request(body)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "transfer")
}

fn said(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
}

/// The hold that an answer names, after it was looked at.
fn held(answer: &Answer, id: u32) -> String {
    let said = said(answer);
    assert_eq!((answer.status(), &said["id"]), (403, &json!(id)), "{said}");
    assert_eq!(said["error"]["data"]["code"], "APPROVAL_REQUIRED");
    said["error"]["data"]["hold"]["id"].as_str().unwrap().to_owned()
}

fn state(answer: &Answer, id: u32) -> String {
    let said = said(answer);
    assert_eq!((answer.status(), &said["id"]), (200, &json!(id)), "{said}");
    assert_eq!(said["result"]["resultType"], "input_required");
    said["result"]["requestState"].as_str().unwrap().to_owned()
}

#[test]
fn a_held_call_of_an_mcp_tool_is_an_error_with_its_hold_until_it_is_approved() {
    let world = world();
    let batch = world.send(&request(&json!([call(7, 9)])));
    let refused = said(&batch);
    assert_eq!((batch.status(), &refused["error"]["data"]["hold"]), (403, &Value::Null), "{refused}");
    let hold = held(&world.send(&request(&call(7, 9))), 7);
    let shown = show(&world, &hold);
    assert_eq!((&shown["tool"], &shown["operation"]), (&json!("transfer"), &json!("mcp.tools/call")));
    assert_eq!(world.upstream.hits().total(), 0);
    check(People::new(&world).decide("approve", &hold, "ada"), 0, "approved");
    let released = world.send(&request(&call(7, 9)).header("estoppel-hold", &hold));
    assert_eq!((released.status(), released.text().as_str()), (200, RESULT));
    sealed(&world);
}

#[test]
fn a_client_that_only_calls_again_is_let_pass_once() {
    let world = world();
    let people = People::new(&world);
    let hold = held(&world.send(&request(&call(1, 9))), 1);
    assert_eq!(held(&world.send(&request(&call(2, 9))), 2), hold, "the same call waits once");
    let other = held(&world.send(&request(&call(3, 10))), 3);
    assert_ne!(other, hold, "another call waits for itself");
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    assert_eq!(held(&world.send(&request(&call(4, 10))), 4), other);
    let released = world.send(&request(&call(5, 9)));
    assert_eq!((released.status(), released.text().as_str()), (200, RESULT));
    let once = held(&world.send(&request(&call(6, 9))), 6);
    assert!(once != hold && once != other, "an approval is for one call");
    assert_eq!(world.upstream.hits().total(), 1);
    [other, once].iter().for_each(|left| check(people.decide("deny", left, "ada"), 0, "denied"));
    let (bundle, receipts) = sealed(&world);
    let opened = entries(&bundle, "hold");
    assert_eq!((opened.len(), &opened[0]["of"]), (3, &json!("call")));
    let passed: Vec<&Value> = receipts.iter().filter(|receipt| receipt["approval"].is_object()).collect();
    assert_eq!(passed.len(), 1);
    assert_eq!(passed[0]["approval"]["call_tag"], opened[0]["payload"]);
    assert_ne!(passed[0]["request"]["tag"], opened[0]["payload"]);
}

#[test]
fn a_call_without_the_session_does_not_use_up_what_was_approved_for_one_in_it() {
    let world = world();
    let people = People::new(&world);
    let in_session = |id| request(&call(id, 9)).header("mcp-session-id", "a");
    let hold = held(&world.send(&in_session(1)), 1);
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    let other = held(&world.send(&request(&call(2, 9))), 2);
    assert_ne!(other, hold);
    assert_eq!(world.send(&in_session(3)).text(), RESULT);
    check(people.decide("deny", &other, "ada"), 0, "denied");
    sealed(&world);
}

#[test]
fn a_denied_call_says_so_only_to_who_names_its_hold() {
    let world = world();
    let hold = held(&world.send(&request(&call(1, 9))), 1);
    let people = People::new(&world);
    check(people.decide("deny", &hold, "ada"), 0, "denied");
    let named = said(&world.send(&request(&call(2, 9)).header("estoppel-hold", &hold)));
    assert_eq!(named["error"]["data"]["code"], "HOLD_DENIED");
    let anew = held(&world.send(&request(&call(3, 9))), 3);
    assert_ne!(anew, hold, "who asks anew is held anew");
    check(people.decide("deny", &anew, "ada"), 0, "denied");
    sealed(&world);
}

#[test]
fn since_multi_round_trip_requests_the_client_is_told_to_come_again() {
    let world = world();
    let people = People::new(&world);
    let first = world.send(&modern_request(&modern(1, None)));
    let (state, hold) = (state(&first, 1), first.header("estoppel-hold").unwrap().to_owned());
    let forged = format!("{}{}", &state[..state.len() - 1], if state.ends_with('0') { '1' } else { '0' });
    for wrong in [&forged, "estoppel-hold.", "estoppel-hold.x.y"].map(|state| modern(2, Some(state))) {
        let answer = said(&world.send(&modern_request(&wrong)));
        assert_eq!(answer["error"]["data"]["code"], "HOLD_UNKNOWN", "{answer}");
    }
    let released = std::thread::scope(|scope| {
        let waits = scope.spawn(|| world.send(&modern_request(&modern(3, Some(&state)))));
        // The call that waits may have passed before this is told.
        let (exit, state) = people.decide("approve", &hold, "ada");
        assert!(exit == 0 && ["approved", "released"].contains(&state.as_str()), "{exit} {state}");
        waits.join().unwrap()
    });
    assert_eq!((released.status(), released.text().as_str()), (200, RESULT));
    let seen = String::from_utf8(world.upstream.hits().last().unwrap().body.to_vec()).unwrap();
    let expected = modern(3, None);
    assert_eq!(
        serde_json::from_str::<Value>(&seen).unwrap(),
        expected,
        "what the gateway gave out stays here"
    );
    let again = said(&world.send(&modern_request(&modern(4, Some(&state)))));
    assert_eq!(again["error"]["data"]["code"], "HOLD_CLOSED");
    assert_eq!(world.upstream.hits().total(), 1);
    let (_, receipts) = sealed(&world);
    assert_eq!(receipts[0]["verdict"]["action"], "hold");
    assert_eq!(receipts[0]["response"]["client"]["status"], 200);
}

#[test]
fn a_state_of_the_upstream_s_own_is_part_of_what_is_approved() {
    let world = world();
    let hold = held(&world.send(&request(&call(1, 9))), 1);
    let mut theirs = call(2, 9);
    theirs["params"]["requestState"] = json!("theirs");
    assert_ne!(held(&world.send(&request(&theirs)), 2), hold);
}

#[test]
fn what_waited_before_a_restart_is_the_same_call_after_it() {
    let mut world = world();
    let hold = held(&world.send(&request(&call(1, 9))), 1);
    world.daemon.kill_9();
    world.restart();
    assert_eq!(held(&world.send(&request(&call(2, 9))), 2), hold);
    check(People::new(&world).decide("approve", &hold, "ada"), 0, "approved");
    assert_eq!(world.send(&request(&call(3, 9))).text(), RESULT);
    assert_eq!(world.upstream.hits().total(), 1);
    sealed(&world);
}
