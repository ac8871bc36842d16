//! What cannot be read is blocked where the policy says so: before it reaches the upstream, or the client.

use std::io::Write as _;

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Framing, Reply, Script, Split};

use crate::support::{PATIENCE, Setup, World, chat};

const STRICT: &str = "version: 1\nname: strict\ndefaults: { verdict: allow, on_not_evaluated: block }\nlimits: { held_bytes_max: 4096 }\nrules:\n  - { id: no-shell, when: { tool: bash }, verdict: block, reason: TOOL_DENIED }\n  - { id: no-evil, when: { model: \"*-evil\" }, verdict: block, reason: MODEL_DENIED }\n";
const SHELL: &str = r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"bash"}}]}"#;
const CALLS: &str = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"function":{"name":"bash"}}]},"finish_reason":"tool_calls"}]}"#;

fn strict(script: Script) -> World {
    World::with(script, &Setup { policy: STRICT.into(), ..Setup::default() })
}

#[test]
fn a_request_that_is_not_read_never_leaves() {
    let world = strict(Script::model());
    let post = |path: &str| Request::new("POST", path).header("content-type", "application/json").body(SHELL);
    let requests = [
        post("/v1/chat/completions").header("content-encoding", "gzip"),
        post("/v1/chat/completions").header("content-encoding", "x"),
        post("/v1/chat/completions").header("content-encoding", ""),
        post("/v1/chat/completions")
            .header("content-encoding", "gzip")
            .header("connection", "content-encoding"),
        post("/v1/%63hat/completions"),
        post("/v1/chat//completions"),
        post("/v1/chat/./completions"),
        post("/v1/messages/batches"),
        post("/v1/responses")
            .body(r#"{"model":"m","tools":[{"type":"mcp","server_url":"https://s.example"}]}"#),
        post("/v1/messages").body(r#"{"model":"m","mcp_servers":[{"name":"s","url":"https://s.example"}]}"#),
        post("/v1beta/models/a%252Fb:generateContent").body("{}"),
        Request::new("PUT", "/v1/chat/completions").header("content-type", "application/json").body(SHELL),
        Request::new("POST", "/tools/run").header("content-type", "text/plain").body("run"),
        chat("x", &format!(r#"{{"model":"{}-evil","messages":[]}}"#, "a".repeat(200))),
    ];
    let count = requests.len();
    for request in requests {
        let answer = world.send(&request.header("estoppel-run", "unread"));
        assert!([400, 403].contains(&answer.status()), "{} {}", answer.status(), answer.text());
    }
    assert_eq!(world.upstream.hits().total(), 0);
    let receipts = world.receipts("unread");
    assert_eq!(receipts.len(), count - 1);
    assert!(receipts.iter().all(|receipt| receipt["verdict"]["action"] == "block"), "{receipts:?}");
}

#[test]
fn what_an_mcp_server_asks_of_its_client_does_not_leave() {
    let asks =
        r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"tools":[{"name":"bash"}]}}"#;
    let body =
        format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}}\n\ndata: {asks}\n\n");
    for (kind, body) in [("text/event-stream", body.as_str()), ("application/json", asks)] {
        let reply =
            Reply::new(Body::Text(body.into())).header("content-type", kind).framing(Framing::Chunked);
        let world = strict(Script::always(reply));
        let call = Request::new("POST", "/mcp")
            .header("content-type", "application/json")
            .header("estoppel-run", "asks")
            .body(r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"search"}}"#);
        let answer = Peer::connect(world.gateway).unwrap().exchange(&call).unwrap();
        assert!(!answer.text().contains("sampling"), "{kind}: {}", answer.text());
        world.wait_for_calls("asks", 1);
        assert_eq!(world.receipts("asks")[0]["outcome"]["code"], "NOT_EVALUATED", "{kind}");
    }
}

#[test]
fn what_has_no_body_and_answers_that_are_plain_json_pass() {
    let list = Reply::new(Body::Text(r#"{"object":"list","data":[]}"#.into()))
        .header("content-type", "application/json");
    for (method, framing) in [("GET", Framing::ContentLength), ("DELETE", Framing::Chunked)] {
        let world = strict(Script::always(list.clone().framing(framing)));
        let answer = world.send(&Request::new(method, "/v1/models").header("estoppel-run", "list"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(world.receipts("list")[0]["verdict"]["action"], "allow");
    }
}

#[test]
fn a_tool_call_is_withheld_however_the_answer_is_framed_or_labelled() {
    let json = |framing| {
        Reply::new(Body::Text(CALLS.into())).header("content-type", "application/json").framing(framing)
    };
    let labelled = |kind: &str| Reply::new(Body::Text(CALLS.into())).header("content-type", kind);
    let long = CALLS.replace(r#""role""#, &format!(r#""filler":"{}","role""#, "x".repeat(9000)));
    let long = |framing| {
        Reply::new(Body::Text(long.clone())).header("content-type", "application/json").framing(framing)
    };
    let replies = [
        (json(Framing::Chunked), "TOOL_DENIED"),
        (json(Framing::Close), "TOOL_DENIED"),
        (labelled("text/plain"), "NOT_EVALUATED"),
        (Reply::new(Body::Text(CALLS.into())), "NOT_EVALUATED"),
        (labelled("application/json").header("content-encoding", "x"), "NOT_EVALUATED"),
        (long(Framing::ContentLength), "NOT_EVALUATED"),
        (long(Framing::Chunked), "NOT_EVALUATED"),
    ];
    for (at, (reply, code)) in replies.into_iter().enumerate() {
        let world = strict(Script::always(reply));
        let answer = world.send(&chat("held", r#"{"model":"m","messages":[]}"#));
        assert_eq!(answer.status(), 403, "{at}");
        assert!(!answer.text().contains("tool_calls"), "{at}");
        let receipt = world.receipts("held").remove(0);
        assert_eq!(receipt["outcome"]["code"], code, "{at}");
        let state = if code == "TOOL_DENIED" { "recognized" } else { "not_evaluated" };
        assert_eq!(receipt["evaluated"]["response"]["state"], state, "{at}");
    }
}

#[test]
fn an_answer_too_long_to_be_held_streams_where_the_policy_lets_it() {
    let policy = STRICT.replace("on_not_evaluated: block", "on_not_evaluated: allow");
    let text = format!(r#"{{"model":"m","filler":"{}"}}"#, "x".repeat(300_000));
    let reply = Reply::new(Body::Text(text.clone()))
        .header("content-type", "application/json")
        .framing(Framing::Chunked);
    let world = World::with(Script::always(reply), &Setup { policy, ..Setup::default() });
    let answer = world.send(&chat("long", r#"{"model":"m","messages":[]}"#));
    assert_eq!((answer.status(), answer.text()), (200, text.clone()));
    assert_eq!(world.receipts("long")[0]["response"]["client"]["bytes"], text.len());
}

#[test]
fn a_streamed_tool_call_is_cut_before_it_leaves() {
    let chat_event = |delta: &str| {
        format!("data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
    };
    let text = chat_event(r#"{"content":"harmless"}"#)
        + &chat_event(r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"bash","arguments":""}}]}"#)
        + &chat_event(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"cmd\":\"rm\"}"}}]}"#)
        + "data: [DONE]\n\n";
    let first = text.find("\n\n").unwrap() + 2;
    for split in [first, 1, text.len()] {
        let reply = Reply::new(Body::Text(text.clone()))
            .header("content-type", "text/event-stream")
            .framing(Framing::Chunked)
            .split(Split::Each { bytes: split as u64 });
        let world = strict(Script::always(reply));
        let answer = Peer::connect(world.gateway)
            .unwrap()
            .exchange(&chat("cut", r#"{"model":"m","stream":true,"messages":[]}"#))
            .unwrap();
        assert!(answer.end.is_some(), "the client sees that the answer is not whole");
        assert!(!answer.text().contains("cmd"), "{split}: {}", answer.text());
        let told = answer.text().strip_prefix(&text[..first]).map(ToOwned::to_owned);
        let told = told.unwrap_or_else(|| answer.text());
        assert!(told.starts_with("data: {\"error\":{\"code\":\"TOOL_DENIED\""), "{split}: {told}");
        assert_eq!(told.matches("\n\n").count(), 1, "{split}: nothing else leaves: {told}");
        world.wait_for_calls("cut", 1);
        let receipt = world.receipts("cut").remove(0);
        assert_eq!(receipt["outcome"]["code"], "TOOL_DENIED", "{split}");
        assert_eq!(receipt["verdict"]["action"], "block");
        assert_eq!(receipt["policy"]["rule"], "no-shell");
        assert_eq!(receipt["facts"]["tools_called"][0], "bash");
        assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len(), "{split}");
    }
}

#[test]
fn a_streamed_answer_of_a_denied_model_or_with_unreadable_events_is_cut() {
    let replies = [
        ("data: {\"model\":\"x-evil\",\"choices\":[]}\n\ndata: [DONE]\n\n", "MODEL_DENIED"),
        ("data: {\"model\":\"m\",\"choices\":[\n\ndata: [DONE]\n\n", "NOT_EVALUATED"),
    ];
    for (text, code) in replies {
        let reply = Reply::new(Body::Text(text.into()))
            .header("content-type", "text/event-stream")
            .framing(Framing::Chunked);
        let world = strict(Script::always(reply));
        let answer = Peer::connect(world.gateway)
            .unwrap()
            .exchange(&chat("cut", r#"{"model":"m","stream":true,"messages":[]}"#))
            .unwrap();
        let told = answer.text();
        assert!(answer.end.is_some() && told.starts_with("data: {\"error\":"), "{told}");
        assert!(told.contains(code) && told.matches("\n\n").count() == 1, "nothing else leaves: {told}");
        world.wait_for_calls("cut", 1);
        assert_eq!(world.receipts("cut")[0]["outcome"]["code"], code);
    }
}

#[test]
fn request_bodies_that_wait_to_be_judged_have_a_bound_in_all() {
    let setup = Setup { config: "[server]\nheld_mib = 1\n".into(), ..Setup::default() };
    let world = World::with(Script::model(), &setup);
    let body = |bytes: usize| format!(r#"{{"model":"m","messages":[],"x":"{}"}}"#, "y".repeat(bytes));
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n";
    // If the second is read before the first, it is the first that finds no room; then both begin anew.
    let slow = estoppel_kit::until("the bound", PATIENCE, || {
        let mut slow = std::net::TcpStream::connect(world.gateway).unwrap();
        slow.write_all(head.as_bytes()).and_then(|()| slow.write_all(&vec![b' '; 900 << 10])).ok()?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        let answer = world.send(&chat("bound", &body(400 << 10)));
        (answer.status() == 503 && answer.text().contains("IN_FLIGHT_MAX")).then_some(slow)
    });
    drop(slow);
    estoppel_kit::until("room again", PATIENCE, || {
        (world.send(&chat("bound", &body(400 << 10))).status() == 200).then_some(())
    });
}

#[test]
fn headers_and_events_have_the_bounds_of_the_policy() {
    let policy = STRICT.replace("held_bytes_max: 4096", "header_bytes_max: 1024, event_bytes_max: 1024");
    let setup = || Setup { policy: policy.clone(), ..Setup::default() };
    let ask = || chat("bounds", r#"{"model":"m","stream":true,"messages":[]}"#);
    let world = World::with(Script::model(), &setup());
    assert_eq!(world.send(&ask().header("x-long", &"y".repeat(1100))).status(), 431);
    assert_eq!(world.upstream.hits().total(), 0);
    let event = format!(
        "data: {{\"model\":\"m\",\"choices\":[],\"x\":\"{}\"}}\n\ndata: [DONE]\n\n",
        "y".repeat(1100)
    );
    let stream =
        Reply::new(Body::Text(event)).header("content-type", "text/event-stream").framing(Framing::Chunked);
    for (reply, code) in [
        (Reply::new(Body::Text("{}".into())).header("x-long", &"y".repeat(1100)), "UPSTREAM_PROTOCOL"),
        (stream, "NOT_EVALUATED"),
    ] {
        let world = World::with(Script::always(reply), &setup());
        let _ = Peer::connect(world.gateway).unwrap().exchange(&ask()).unwrap();
        world.wait_for_calls("bounds", 1);
        assert_eq!(world.receipts("bounds")[0]["outcome"]["code"], code);
    }
}
