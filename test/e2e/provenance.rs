//! What a tool gave earlier in a run, recognized in the arguments of a later call.

use estoppel_kit::http::{Answer, HttpError, Request};
use estoppel_stub::{Body, Dialect, Framing, ModelReply, Reply, Rule, Script, Split, ToolCall};
use serde_json::{Value, json};

use crate::holds::{People, spki};
use crate::mcp_values::{FORMS, Form, result, rule};
use crate::support::{PATIENCE, Setup, World};

const SECRET: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

fn policy(verdict: &str) -> String {
    format!(
        "version: 1\nname: provenance\ndefaults: {{ verdict: allow }}\napprovers: {{ ada: {} }}\n\
         routes: {{ fetch: {{ on_not_evaluated: allow }} }}\n\
         controls:\n- {{ id: once, kind: idempotency, when: {{ route: fetch }}, seconds: 900 }}\n\
         rules:\n- id: not-by-mail\n  when: {{ tool: send_mail, provenance: {{ min_length: 24, from: [fetch*], argument: [/body, /to] }} }}\n  {verdict}\n",
        spki("ada")
    )
}

const HOLD: &str = "verdict: hold\n  hold: { approvers: [ada] }";
const BLOCK: &str = "verdict: block\n  reason: PROVENANCE";

fn world(verdict: &str, script: Script) -> World {
    let route = |name: &str| {
        format!("[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"stub\"\ndialect = \"mcp\"\n")
    };
    World::with(
        script,
        &Setup { policy: policy(verdict), routes: route("mcp") + &route("fetch"), ..Setup::default() },
    )
}

/// A page, as `fetch` gives it.
fn page(text: &str) -> String {
    result("1", &json!({ "content": [{ "type": "text", "text": text }] }).to_string())
}

fn server(page: Reply) -> Script {
    Script::always(Form::Json.reply(&result("2", r#"{"content":[]}"#)))
        .on(rule(r#""name":"fetch""#, page.clone()))
        .on(rule(r#""name":"other""#, page))
}

fn call(path: &str, run: &str, id: u8, tool: &str, arguments: &Value) -> Request {
    let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("estoppel-run", run)
        .body(call.to_string())
}

fn fetch(run: &str) -> Request {
    call("/fetch", run, 1, "fetch", &json!({ "url": "https://example.com/" }))
}

fn mail(run: &str, body: &str) -> Request {
    call("/mcp", run, 2, "send_mail", &json!({ "to": "eve@example.com", "body": body }))
}

/// Its status, and the code and the hold of a refusal.
fn said(answer: &Answer) -> (u16, String, Option<String>) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let data = &body["error"]["data"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (answer.status(), text(&data["code"]).unwrap_or_default(), text(&data["hold"]["id"]))
}

fn refused(world: &World, request: &Request) -> String {
    said(&world.send(request)).1
}

fn missed(world: &World, cause: &str) -> Option<f64> {
    world.metric(&format!("estoppel_provenance_missed_total{{cause=\"{cause}\"}}"))
}

#[test]
fn a_string_that_a_tool_gave_is_held_on_its_way_out_and_passes_once_approved() {
    let text = page(&format!("Deploy key:\n\t{SECRET}\nKeep it."));
    let cut = |bytes| {
        let reply = Reply::new(Body::Text(text.clone())).header("content-type", "application/json");
        reply.framing(Framing::Chunked).split(Split::Each { bytes })
    };
    let forms = FORMS.map(|form| form.reply(&text));
    for reply in forms.into_iter().chain([cut(1), cut(7), cut(64)]) {
        let world = world(HOLD, server(reply));
        assert_eq!(said(&world.send(&mail("first", SECRET))).0, 200, "nothing came before");
        assert_eq!(world.send(&fetch("first")).status(), 200);
        assert_eq!(said(&world.send(&mail("first", "see you on Monday, at the usual place"))).0, 200);
        assert_eq!(said(&world.send(&mail("second", SECRET))).0, 200, "of another run");
        let spelled: String = SECRET.to_uppercase().chars().flat_map(|c| [c, ' ']).collect();
        let before = world.upstream.hits().total();
        let people = People::new(&world);
        let (_, code, hold) = said(&world.send(&mail("first", &spelled)));
        assert_eq!(code, "APPROVAL_REQUIRED");
        assert_eq!(people.decide("deny", &hold.unwrap(), "ada").1, "denied");
        let request = mail("first", &format!("Dear Eve, {SECRET} is it"));
        let (status, code, hold) = said(&world.send(&request));
        assert_eq!((status, code.as_str()), (403, "APPROVAL_REQUIRED"));
        assert_eq!(world.upstream.hits().total(), before, "the server does not see it");
        let hold = hold.unwrap();
        assert_eq!(people.decide("approve", &hold, "ada").1, "approved");
        assert_eq!(world.send(&request.header("estoppel-hold", &hold)).status(), 200);
        assert_eq!(world.upstream.hits().total(), before + 1);
        world.wait_until_idle();
        let receipts = world.receipts("first");
        let told: Vec<_> = receipts
            .iter()
            .map(|receipt| (&receipt["verdict"]["action"], &receipt["policy"]["rule"]))
            .collect();
        let (allow, hold, rule) = (json!("allow"), json!("hold"), json!("not-by-mail"));
        let none = Value::Null;
        let (let_go, held, approved) = ((&allow, &none), (&hold, &rule), (&allow, &rule));
        assert_eq!(told, [let_go, let_go, let_go, held, held, approved]);
    }
}

#[test]
fn after_a_tool_was_asked_others_are_refused_whatever_they_carry() {
    let policy = "version: 1\nname: after\ndefaults: { verdict: allow }\n\
        rules:\n- { id: shut, when: { tool: send_*, after: [fetch, resources/read] }, verdict: block, reason: AFTER }\n";
    let routes = "[[route]]\nname = \"mcp\"\npath = \"/mcp\"\nupstream = \"stub\"\ndialect = \"mcp\"\n\
        [[route]]\nname = \"fetch\"\npath = \"/fetch\"\nupstream = \"stub\"\ndialect = \"mcp\"\n";
    for form in FORMS {
        let setup = Setup { policy: policy.into(), routes: routes.into(), ..Setup::default() };
        let world = World::with(server(form.reply(&page("nothing that anyone would send on"))), &setup);
        assert_eq!(refused(&world, &mail("a", "before")), "");
        assert_eq!(world.send(&call("/fetch", "a", 1, "other", &json!({}))).status(), 200);
        assert_eq!(refused(&world, &mail("a", "after another tool")), "");
        assert_eq!(world.send(&fetch("a")).status(), 200);
        let before = world.upstream.hits().total();
        assert_eq!(refused(&world, &mail("a", "cmV3b3JkZWQ=")), "AFTER");
        assert_eq!(world.upstream.hits().total(), before, "the server does not see it");
        assert_eq!(refused(&world, &mail("b", "of another run")), "");
        assert_eq!(refused(&world, &call("/mcp", "a", 3, "note", &json!({}))), "", "of another tool");
    }
}

#[test]
fn only_what_the_named_tools_gave_and_only_in_the_named_arguments() {
    let world = world(BLOCK, server(Form::Json.reply(&page(SECRET))));
    let send = |run: &str, arguments: Value| refused(&world, &call("/mcp", run, 2, "send_mail", &arguments));
    assert_eq!(world.send(&call("/fetch", "a", 1, "other", &json!({}))).status(), 200);
    assert_eq!(send("a", json!({ "body": SECRET })), "");
    assert_eq!(world.send(&fetch("a")).status(), 200);
    assert_eq!(send("a", json!({ "body": SECRET })), "PROVENANCE");
    assert_eq!(send("a", json!({ "to": [{ "name": SECRET }] })), "PROVENANCE");
    assert_eq!(send("a", json!({ "subject": SECRET })), "");
    assert_eq!(send("a", json!({ "body": &SECRET[..16] })), "", "shorter than the rule asks");
    assert_eq!(refused(&world, &call("/mcp", "a", 2, "note", &json!({ "body": SECRET }))), "");
}

#[test]
fn what_a_stored_answer_gives_again_is_known_in_the_run_that_gets_it() {
    let world = world(BLOCK, server(Form::Events.reply(&page(SECRET))));
    let keyed =
        |run: &str| fetch(run).header("idempotency-key", "7a1d").header("authorization", "Bearer ann");
    assert_eq!(world.send(&keyed("a")).status(), 200);
    world.wait_until_idle();
    let again = world.send(&keyed("b"));
    assert_eq!((again.status(), again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(refused(&world, &mail("b", SECRET)), "PROVENANCE");
    assert_eq!(refused(&world, &mail("c", SECRET)), "");
}

#[test]
fn where_something_could_not_be_listened_to_calls_are_not_evaluated() {
    let coded = Reply::new(Body::Text("?".into())).header("content-type", "application/json");
    let huge = page(&"x ".repeat(600_000));
    for (reply, cause) in [
        (coded.header("content-encoding", "gzip"), "unread"),
        (Form::Json.reply("{\"result\":1,\"result\":2}"), "unread"),
        (Form::Json.reply(&huge), "bytes"),
    ] {
        let world = world(BLOCK, server(reply));
        assert_eq!(refused(&world, &mail("a", "nothing of interest in this one")), "");
        assert_eq!(world.send(&fetch("a")).status(), 200);
        assert_eq!(refused(&world, &mail("a", "nothing of interest in this one")), "NOT_EVALUATED");
        assert_eq!(refused(&world, &mail("b", "nothing of interest in this one")), "");
        assert_eq!(missed(&world, cause), Some(1.0), "{cause}");
    }
}

#[test]
fn of_a_run_that_began_before_the_gateway_only_what_is_found_is_known() {
    let mut world = world(BLOCK, server(Form::Json.reply(&page(SECRET))));
    assert_eq!(world.send(&fetch("old")).status(), 200);
    world.wait_until_idle();
    world.stop();
    world.restart();
    assert_eq!(refused(&world, &mail("old", "nothing of interest in this one")), "NOT_EVALUATED");
    assert_eq!(missed(&world, "before"), Some(1.0));
    assert_eq!(world.send(&fetch("old")).status(), 200);
    assert_eq!(refused(&world, &mail("old", SECRET)), "PROVENANCE");
    assert_eq!(refused(&world, &mail("new", "nothing of interest in this one")), "");
}

fn calling(dialect: Dialect, arguments: &Value) -> Rule {
    let calls = vec![ToolCall { name: "send_mail".into(), arguments: arguments.to_string() }];
    Rule::any("", Reply::model(ModelReply { calls: Some(calls), ..ModelReply::new(dialect) }))
}

/// What a client gets, also of an answer that is cut.
fn given(world: &World, request: &Request) -> String {
    match estoppel_kit::http::send(world.gateway, request) {
        Ok(answer) => answer.text(),
        Err(HttpError::Incomplete { answer }) => answer.text(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_result_that_a_models_client_brings_back_is_known_when_the_model_calls() {
    let text = format!("the key is {SECRET}");
    let surfaces = [
        (
            "/v1/chat/completions",
            Dialect::ChatCompletions,
            json!({ "model": "m", "messages": [
                { "role": "assistant", "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "fetch", "arguments": "{}" } }] },
                { "role": "tool", "tool_call_id": "1", "content": text },
            ] }),
        ),
        (
            "/v1/responses",
            Dialect::Responses,
            json!({ "model": "m", "input": [
                { "type": "function_call", "call_id": "1", "name": "fetch", "arguments": "{}" },
                { "type": "function_call_output", "call_id": "1", "output": text },
            ] }),
        ),
        (
            "/v1/messages",
            Dialect::Messages,
            json!({ "model": "m", "max_tokens": 9, "messages": [
                { "role": "assistant", "content": [{ "type": "tool_use", "id": "1", "name": "fetch", "input": {} }] },
                { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "1", "is_error": true, "content": [{ "type": "text", "text": text }] }] },
            ] }),
        ),
        (
            "/v1beta/models/m:generateContent",
            Dialect::Gemini,
            json!({ "contents": [
                { "role": "model", "parts": [{ "functionCall": { "name": "fetch", "args": {} } }] },
                { "role": "user", "parts": [{ "functionResponse": { "name": "fetch", "response": { "page": text } } }] },
            ] }),
        ),
    ];
    for (path, dialect, request) in surfaces {
        for stream in [false, true] {
            let path = match (dialect, stream) {
                (Dialect::Gemini, true) => "/v1beta/models/m:streamGenerateContent?alt=sse",
                _ => path,
            };
            let mut request = request.clone();
            if stream && dialect != Dialect::Gemini {
                request["stream"] = true.into();
            }
            let send = |run: &str, mailed: &str, request: &Value| {
                let script = Script::default().on(calling(dialect, &json!({ "to": "eve", "body": mailed })));
                let world = world(BLOCK, script);
                let post = |request: &Value| {
                    Request::new("POST", path)
                        .header("content-type", "application/json")
                        .header("estoppel-run", run)
                        .body(request.to_string())
                };
                (given(&world, &post(request)), world.receipts(run).remove(0))
            };
            let (text, receipt) = send("a", SECRET, &request);
            assert_eq!(receipt["verdict"]["reason"], "PROVENANCE", "{path} {stream}: {receipt}");
            assert_eq!(receipt["policy"]["rule"], "not-by-mail");
            assert!(!text.contains(&SECRET[8..16]), "{path} {stream}: {text}");
            let (_, receipt) = send("a", "nothing of interest in this one", &request);
            assert_eq!(receipt["verdict"]["action"], "allow", "{path} {stream}: {receipt}");
            let silent = json!({ "model": "m", "max_tokens": 9, "stream": request["stream"] == true, "messages": [], "input": "x", "contents": [] });
            let silent = if dialect == Dialect::Gemini { json!({ "contents": [] }) } else { silent };
            let (_, receipt) = send("a", SECRET, &silent);
            assert_eq!(receipt["verdict"]["action"], "allow", "{path} {stream}: {receipt}");
        }
    }
}

fn reload(world: &mut World, policy: &str) {
    let ok = |world: &World| world.metric("estoppel_reloads_total{result=\"ok\"}").unwrap_or_default();
    let before = ok(world);
    world.scratch.write("policy.yaml", policy);
    world.daemon.hang_up();
    estoppel_kit::until("the new policy", PATIENCE, || Some(ok(world)).filter(|after| *after > before));
}

#[test]
fn a_policy_that_comes_to_ask_knows_nothing_of_runs_that_are_open() {
    let mut world = world(BLOCK, server(Form::Json.reply(&page(SECRET))));
    assert_eq!(refused(&world, &mail("a", "nothing of interest in this one")), "");
    reload(&mut world, "version: 1\nname: silent\ndefaults: { verdict: allow }\n");
    assert_eq!(world.send(&fetch("a")).status(), 200);
    reload(&mut world, &policy(BLOCK));
    assert_eq!(refused(&world, &mail("a", "nothing of interest in this one")), "NOT_EVALUATED");
    assert_eq!(refused(&world, &mail("b", "nothing of interest in this one")), "");
}
