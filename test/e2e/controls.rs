//! Rates, velocities and caps: what is counted, over streams, restarts, crashes and several gateways.

use std::net::SocketAddr;

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_kit::{RedisServer, Scratch};
use estoppel_stub::{Body, Fault, Reply, Script, Stub};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, chat, cli, path};

const HELLO: &str = r#"{"model":"gpt-4o","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"max_tokens":10,"messages":[]}"#;

fn policy(controls: &str) -> String {
    format!("version: 1\nname: test\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\n{controls}")
}

fn setup(controls: &str) -> Setup {
    Setup { policy: policy(controls), ..Setup::default() }
}

/// Answers that say how many tokens they took.
fn billed(input: u64, output: u64) -> Script {
    let usage = format!(r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}"#);
    let whole = format!(r#"{{"model":"gpt-4o","choices":[],{usage}}}"#);
    Script::always(Reply::json(&whole))
}

/// A stream that says so in its last event.
fn billed_stream(input: u64, output: u64) -> Script {
    let last =
        format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#);
    let first =
        r#"{"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
    Script::always(Reply::sse(&[first, &last, "[DONE]"]))
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_token_count_that_no_receipt_can_hold_leaves_what_was_reserved_and_a_run_that_verifies() {
    let controls = "controls:\n- { id: tokens, kind: cap, when: {}, unit: tokens, limit: 9007199254740991, per: month }\n";
    for input in [1 << 53, u64::MAX] {
        let mut world = World::with(billed(input, 1), &setup(controls));
        assert_eq!(world.send(&chat("huge", HELLO)).status(), 200);
        world.wait_for_calls("huge", 1);
        let receipt = &world.receipts("huge")[0];
        assert_eq!(receipt["facts"]["usage"], json!({ "output": 1 }), "{receipt}");
        assert_eq!(receipt["downgrades"], json!([{ "code": "NOT_EVALUATED", "detail": "usage" }]));
        let (state, reserved, counted) = count(receipt, "tokens");
        assert_eq!((state.as_str(), reserved), ("reserved", counted), "{receipt}");
        world.stop();
        world.check_journal();
    }
}

/// The row of `control` in a receipt: its state, and what was reserved and counted.
fn count(receipt: &Value, control: &str) -> (String, Option<u64>, Option<u64>) {
    let rows = |list: &Value| {
        let list = list.as_array().cloned().unwrap_or_default();
        list.into_iter().find(|row| row["rule"] == control).unwrap_or_default()
    };
    let counts = rows(&receipt["ext"]["controls"]);
    let state = rows(&receipt["limits"])["state"].as_str().unwrap_or_default().to_owned();
    (state, counts["reserved"].as_u64(), counts["counted"].as_u64())
}

fn counted(receipts: &[Value], control: &str) -> u64 {
    receipts.iter().filter_map(|receipt| count(receipt, control).2).sum()
}

#[test]
fn the_fourth_call_of_a_cap_of_three_is_429_and_stays_so_over_a_restart() {
    let controls = "controls:\n- { id: three, kind: cap, when: {}, unit: calls, limit: 3, per: month, reason: ENOUGH, message: that was all }\n";
    let mut world = World::with(billed(1, 1), &setup(controls));
    for _ in 0..3 {
        assert_eq!(world.send(&chat("cap", HELLO)).status(), 200);
    }
    let fourth = world.send(&chat("cap", HELLO));
    assert_eq!((fourth.status(), code(&fourth).as_str()), (429, "ENOUGH"));
    assert!(fourth.text().contains("that was all") && fourth.text().contains("rate_limit_error"));
    let wait: u64 = fourth.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    assert_eq!(world.metric(r#"estoppel_control_counted_total{control="three",unit="calls"}"#), Some(3.0));
    assert_eq!(world.metric(r#"estoppel_control_blocked_total{control="three"}"#), Some(1.0));
    let receipts = world.receipts("cap");
    assert_eq!(counted(&receipts, "three"), 3);
    assert_eq!(
        receipts[2]["limits"][0],
        serde_json::json!({ "left": 0, "rule": "three", "state": "counted" })
    );
    assert_eq!(receipts[3]["verdict"]["reason"], "ENOUGH");
    assert_eq!(receipts[3]["policy"]["rule"], "three");
    assert_eq!(receipts[3]["outcome"]["code"], "CAP_MAX");
    assert_eq!(
        receipts[3]["limits"][0],
        serde_json::json!({ "left": 0, "rule": "three", "state": "exceeded" })
    );

    world.stop();
    world.restart();
    assert_eq!(world.send(&chat("again", HELLO)).status(), 429);
    assert_eq!(world.upstream.hits().total(), 3);
    world.check_journal();
}

#[test]
fn a_small_cap_is_kept_to_the_call_over_kill_9() {
    let controls = "controls:\n- { id: five, kind: cap, when: {}, unit: calls, limit: 5, per: month }\n";
    let mut world = World::with(billed(1, 1), &setup(controls));
    for round in 0..4 {
        drop(world.send(&chat(&format!("round-{round}"), HELLO)));
        drop(world.send(&chat(&format!("round-{round}"), HELLO)));
        world.daemon.kill_9();
        world.restart();
    }
    assert_eq!(world.upstream.hits().total(), 5);
}

#[test]
fn tokens_count_as_the_upstream_states_them_also_in_streams() {
    let controls = "controls:\n- { id: tokens, kind: cap, when: {}, unit: tokens, limit: 90, per: day }\n";
    for (script, body) in [(billed(30, 4), HELLO), (billed_stream(30, 4), STREAM)] {
        let world = World::with(script, &setup(controls));
        let statuses: Vec<u16> = (0..5).map(|_| world.send(&chat("tokens", body)).status()).collect();
        // Each holds about 30 until it is known that it took 34.
        assert_eq!(statuses, [200, 200, 429, 429, 429]);
        let receipts = world.receipts("tokens");
        let (state, reserved, used) = count(&receipts[0], "tokens");
        assert_eq!((state.as_str(), used), ("counted", Some(34)));
        assert_eq!(reserved, Some(10 + (body.len() as u64).div_ceil(4)));
        let metric = world.metric(r#"estoppel_control_counted_total{control="tokens",unit="tokens"}"#);
        assert_eq!((metric, counted(&receipts, "tokens")), (Some(68.0), 68));
    }
}

#[test]
fn what_nobody_states_stays_reserved_and_the_receipt_says_so() {
    let controls = "controls:\n- { id: tokens, kind: cap, when: {}, unit: tokens, limit: 100, per: day, estimate: 40 }\n";
    let silent = Script::always(Reply::json(r#"{"model":"m","choices":[]}"#));
    let world = World::with(silent, &setup(controls));
    let body = r#"{"model":"m","messages":[]}"#;
    let statuses: Vec<u16> = (0..3).map(|_| world.send(&chat("silent", body)).status()).collect();
    assert_eq!(statuses, [200, 200, 429]);
    let receipts = world.receipts("silent");
    assert_eq!(count(&receipts[0], "tokens"), ("reserved".into(), Some(40), Some(40)));
}

/// Anthropic's streams state one token of output where they begin, and all of them where they end.
const BEGINS: &str = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"usage":{"input_tokens":10,"output_tokens":1}}}"#;
const SAYS: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"much of it"}}"#;

const ENDS: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":30}}"#;

#[test]
fn a_stream_that_is_left_before_its_end_counts_no_less_than_was_reserved() {
    let controls = "controls:\n- { id: tokens, kind: cap, when: {}, unit: tokens, limit: 9000, per: day }\n";
    let ask = r#"{"model":"claude","max_tokens":800,"stream":true,"messages":[]}"#;
    let reserved = 800 + (ask.len() as u64).div_ceil(4);
    let request = Request::new("POST", "/v1/messages")
        .header("content-type", "application/json")
        .header("estoppel-run", "left")
        .body(ask)
        .wire("gateway");
    let events = [BEGINS, SAYS, ENDS, r#"{"type":"message_stop"}"#];
    for (given, mark, state, expected) in
        [(2, "much of it", "reserved", reserved), (3, "end_turn", "counted", 40)]
    {
        let after_bytes = events[..given].iter().map(|event| event.len() + "data: \n\n".len()).sum::<usize>();
        let stalls = Reply::sse(&events).fault(Fault::Stall { after_bytes: after_bytes as u64 });
        let world = World::with(Script::always(stalls), &setup(controls));
        let mut peer = Peer::connect(world.gateway).unwrap();
        peer.send(&request).unwrap();
        peer.read_until(mark.as_bytes()).unwrap();
        drop(peer);
        world.wait_for_calls("left", 1);
        world.wait_until_idle();
        let receipt = &world.receipts("left")[0];
        assert_eq!(receipt["outcome"]["code"], "CLIENT_GONE");
        let (counted, _, used) = count(receipt, "tokens");
        assert_eq!((counted.as_str(), used), (state, Some(expected)), "{receipt}");
    }
}

#[test]
fn what_is_stated_in_part_costs_no_less_than_was_reserved() {
    let controls = "controls:\n- { id: cost, kind: cap, when: {}, unit: cost, limit: 9000, per: month }\nprices:\n- { model: gpt*, from: \"2020-01-01\", input: 1000000, output: 4000000 }\n";
    let reserved = 40 + (HELLO.len() as u64).div_ceil(4);
    for (usage, state, expected) in [
        (r#"{"prompt_tokens":100,"completion_tokens":50}"#, "counted", 300),
        (r#"{"prompt_tokens":100,"total_tokens":150}"#, "counted", 300),
        (r#"{"completion_tokens":50,"total_tokens":150}"#, "counted", 300),
        (r#"{"total_tokens":10}"#, "reserved", reserved),
        (r#"{"total_tokens":1000}"#, "counted", 1000),
        (r#"{"prompt_tokens":1}"#, "reserved", reserved),
    ] {
        let answer = format!(r#"{{"model":"gpt-4o","choices":[],"usage":{usage}}}"#);
        let world = World::with(Script::always(Reply::json(&answer)), &setup(controls));
        assert_eq!(world.send(&chat("part", HELLO)).status(), 200);
        let (counted, _, used) = count(&world.receipts("part")[0], "cost");
        assert_eq!((counted.as_str(), used), (state, Some(expected)), "{usage}");
    }
}

#[test]
fn a_call_that_reaches_no_upstream_gives_back_what_it_held() {
    let controls = "controls:\n- { id: one, kind: cap, when: {}, unit: calls, limit: 1, per: day }\n";
    let upstream = Stub::spawn_thread(billed(1, 1)).unwrap();
    let mut setup = setup(controls);
    // A port that nobody listens on, found by letting go of one.
    let gone: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    setup.routes = format!(
        "[upstream.gone]\nurl = \"http://{gone}\"\n\n[[route]]\nname = \"gone\"\npath = \"/gone\"\nupstream = \"gone\"\n\n"
    );
    let world = World::over(upstream, &setup);
    let unreachable = Request::new("POST", "/gone/v1/chat/completions")
        .header("content-type", "application/json")
        .header("estoppel-run", "gone");
    for _ in 0..2 {
        assert_eq!(world.send(&unreachable.clone().body(HELLO)).status(), 502);
    }
    assert_eq!(world.send(&chat("gone", HELLO)).status(), 200);
    assert_eq!(world.send(&chat("gone", HELLO)).status(), 429);
    let receipts = world.receipts("gone");
    assert_eq!(count(&receipts[0], "one"), ("released".into(), Some(1), Some(0)));
    assert_eq!(count(&receipts[2], "one"), ("counted".into(), Some(1), Some(1)));
}

#[test]
fn an_upstream_that_refuses_bills_no_tokens_and_one_that_breaks_off_may_have() {
    let controls = "controls:\n- { id: tokens, kind: cap, when: {}, unit: tokens, limit: 1000, per: day }\n";
    let refuses = Script::always(Reply::json(r#"{"error":{"code":"busy"}}"#).status(429));
    let breaks = Script::always(Reply::json(r#"{"model":"m"}"#).fault(Fault::Reset { after_bytes: 5 }));
    let held = 10 + (HELLO.len() as u64).div_ceil(4);
    for (script, state, expected) in [(refuses, "counted", Some(0)), (breaks, "reserved", Some(held))] {
        let world = World::with(script, &setup(controls));
        drop(world.send(&chat("bad", HELLO)));
        let receipt = &world.receipts("bad")[0];
        assert_eq!((count(receipt, "tokens").0.as_str(), count(receipt, "tokens").2), (state, expected));
    }
}

#[test]
fn costs_go_by_the_price_in_force_and_models_without_one_are_blocked() {
    let controls = "controls:\n- { id: cost, kind: cap, when: {}, unit: cost, limit: 950, per: month, by: [identity] }\nprices:\n- { model: gpt*, from: \"2099-01-01\", input: 1, output: 1 }\n- { model: gpt*, from: \"2020-01-01\", input: 1000000, output: 4000000 }\n";
    let world = World::with(billed(100, 50), &setup(controls));
    let statuses: Vec<u16> = (0..5).map(|_| world.send(&chat("cost", HELLO)).status()).collect();
    // 100 + 4 * 50 each; what is held before that is less.
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let other = world.send(&chat("cost", r#"{"model":"other","messages":[]}"#));
    assert_eq!((other.status(), code(&other).as_str()), (403, "PRICE_MISSING"));
    let receipts = world.receipts("cost");
    assert_eq!(count(&receipts[0], "cost").2, Some(300));
    assert_eq!(receipts[5]["policy"]["rule"], "cost");
}

#[test]
fn a_tool_may_be_called_so_often_and_others_go_on() {
    let controls =
        "controls:\n- { id: pay, kind: velocity, when: { tool: pay* }, limit: 2, seconds: 3600 }\n";
    let script = Script::always(Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#));
    let world = World::with(script, &setup(controls));
    let call = |tool: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
        );
        world.send(&Request::new("POST", "/mcp").header("content-type", "application/json").body(&body))
    };
    let statuses = ["pay", "PAY", "pay", "pay2", "look"].map(|tool| call(tool).status());
    assert_eq!(statuses, [200, 200, 429, 200, 200]);
    let refused: Value = serde_json::from_slice(&call("pay").body).unwrap();
    assert_eq!(refused["error"]["data"]["code"], "VELOCITY_MAX");
    assert_eq!(world.upstream.hits().total(), 4);
}

#[test]
fn a_rate_is_counted_by_route_and_says_when_to_come_back() {
    let controls =
        "controls:\n- { id: slow, kind: rate, when: { route: stub }, by: [route], limit: 2, seconds: 600 }\n";
    let world = World::with(Script::always(Reply::new(Body::Text("x".into()))), &setup(controls));
    let answers: Vec<Answer> = (0..3).map(|_| world.send(&Request::new("GET", "/x"))).collect();
    assert_eq!(answers.iter().map(Answer::status).collect::<Vec<_>>(), [200, 200, 429]);
    let wait: u64 = answers[2].header("retry-after").unwrap().parse().unwrap();
    assert!((570..=630).contains(&wait), "{wait}");
}

#[test]
fn what_is_frozen_is_blocked_and_counts_nowhere() {
    let controls = "controls:\n- { id: cap, kind: cap, when: {}, unit: calls, limit: 1, per: month }\n- { id: freeze, kind: freeze, when: { model: gpt* }, windows: [{ from: \"2020-01-01T00:00:00Z\", until: \"2999-01-01T00:00:00Z\" }] }\n- { id: past, kind: freeze, when: {}, windows: [{ from: \"2020-01-01T00:00:00Z\", until: \"2020-01-02T00:00:00Z\" }] }\n";
    let world = World::with(billed(1, 1), &setup(controls));
    for _ in 0..2 {
        let frozen = world.send(&chat("frozen", HELLO));
        assert_eq!((frozen.status(), code(&frozen).as_str()), (403, "FROZEN"));
    }
    assert_eq!(world.send(&chat("frozen", r#"{"model":"m","messages":[]}"#)).status(), 200);
    assert_eq!(world.upstream.hits().total(), 1);
    assert_eq!(world.receipts("frozen")[0]["policy"]["rule"], "freeze");
}

/// A gateway on a Redis.
fn sharing(redis: &RedisServer, controls: &str) -> Setup {
    let config = format!("[state]\nstore = \"redis\"\nurl = \"{}\"\ntimeout_ms = 20000\n", redis.url());
    Setup { config, ..setup(controls) }
}

#[test]
fn two_gateways_on_one_redis_let_through_exactly_the_cap() {
    let Some(redis) = RedisServer::start() else { return };
    let controls = "controls:\n- { id: cap, kind: cap, when: {}, unit: calls, limit: 50, per: month }\n";
    let worlds = [
        World::with(billed(1, 1), &sharing(&redis, controls)),
        World::with(billed(1, 1), &sharing(&redis, controls)),
    ];
    let through: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let gateway = worlds[caller % 2].gateway;
                scope.spawn(move || {
                    let call = || estoppel_kit::http::send(gateway, &chat("both", HELLO)).unwrap().status();
                    let statuses: Vec<u16> = (0..20).map(|_| call()).collect();
                    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
                    statuses.iter().filter(|status| **status == 200).count()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    let hits = worlds.each_ref().map(|world| world.upstream.hits().total());
    assert_eq!((through, hits.iter().sum::<u64>()), (50, 50), "{hits:?}");
    assert!(hits.iter().all(|hits| *hits > 0), "{hits:?}");
    let receipts = worlds.iter().map(|world| counted(&world.receipts("both"), "cap")).sum::<u64>();
    assert_eq!(receipts, 50);
}

const RECIPIENTS: &str = "controls:\n- { id: recipients, kind: distinct, when: { tool: send_mail }, of: /to/*, by: [route], limit: 3, seconds: 3600 }\n";

fn mail(to: &[&str]) -> Request {
    mail_at("/mcp", to)
}

fn mail_at(path: &str, to: &[&str]) -> Request {
    let arguments = json!({ "to": to, "body": "hello" });
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "send_mail", "arguments": arguments } });
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("estoppel-run", "mail")
        .body(call.to_string())
}

fn mailed() -> Script {
    Script::always(Reply::json(r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#))
}

/// Status, and the code of a refusal.
fn mail_said(gateway: SocketAddr, to: &[&str]) -> (u16, String) {
    let answer = estoppel_kit::http::send(gateway, &mail(to)).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status(), body["error"]["data"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn new_recipients_are_refused_once_so_many_were_written_to_and_known_ones_are_not() {
    let mut world = World::with(mailed(), &setup(RECIPIENTS));
    let said = |world: &World, to: &[&str]| mail_said(world.gateway, to);
    let (passes, full) = ((200, String::new()), (429, "CAP_MAX".to_owned()));
    assert_eq!(said(&world, &["ann", "bob", "ann"]), passes);
    assert_eq!(said(&world, &["cem", "dan"]), full, "with one of them there would be four");
    assert_eq!(said(&world, &["cem"]), passes);
    for to in [&["bob"][..], &["cem", "ann"], &[]] {
        assert_eq!(said(&world, to), passes, "{to:?}");
    }
    assert_eq!(said(&world, &["ann", "dan"]), full);
    let refused = world.send(&mail(&["eve"]));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_780).contains(&wait), "{wait}");
    assert_eq!(
        world.metric(r#"estoppel_control_counted_total{control="recipients",unit="targets"}"#),
        Some(6.0)
    );
    let hits = world.upstream.hits().total();
    let receipts = world.receipts("mail");
    let row = |left: u64, state: &str| json!({ "left": left, "rule": "recipients", "state": state });
    assert_eq!(receipts[0]["limits"], json!([row(2, "counted"), row(1, "counted")]));
    assert_eq!(receipts[1]["limits"], json!([row(0, "exceeded")]));
    assert_eq!(
        (&receipts[1]["verdict"]["reason"], &receipts[1]["policy"]["rule"]),
        (&json!("CAP_MAX"), &json!("recipients"))
    );
    world.daemon.kill_9();
    world.restart();
    assert_eq!(said(&world, &["bob"]), passes, "a crash forgets nobody");
    assert_eq!(said(&world, &["dan"]), full);
    assert_eq!(world.upstream.hits().total(), hits + 1);
}

#[test]
fn a_recipient_that_was_not_reached_is_given_back_and_one_that_cannot_be_read_is_refused() {
    let gone: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut setup = setup(&RECIPIENTS.replace(", by: [route]", ""));
    setup.routes = format!(
        "[upstream.gone]\nurl = \"http://{gone}\"\n\n[[route]]\nname = \"gone\"\npath = \"/gone\"\nupstream = \"gone\"\ndialect = \"mcp\"\n\n"
    );
    let world = World::over(Stub::spawn_thread(mailed()).unwrap(), &setup);
    assert_eq!(world.send(&mail_at("/gone", &["x", "y", "z"])).status(), 502);
    let odd = |arguments: Value| {
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "send_mail", "arguments": arguments } });
        let request =
            Request::new("POST", "/mcp").header("content-type", "application/json").body(call.to_string());
        let body: Value = serde_json::from_slice(&world.send(&request).body).unwrap();
        body["error"]["data"]["code"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(odd(json!({ "to": [["ann"]] })), "NOT_EVALUATED");
    assert_eq!(odd(json!({ "to": "[\"ann\"]" })), "NOT_EVALUATED");
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    assert_eq!(odd(json!({ "to": many })), "NOT_EVALUATED");
    assert_eq!(odd(json!({ "cc": ["ann"] })), "");
    assert_eq!(mail_said(world.gateway, &["ann", "bob", "cem"]).0, 200, "nothing of that was counted");
}

#[test]
fn two_gateways_on_one_redis_write_to_exactly_so_many() {
    let Some(mut redis) = RedisServer::start() else { return };
    let controls = RECIPIENTS.replace("limit: 3", "limit: 20");
    let worlds = [
        World::with(mailed(), &sharing(&redis, &controls)),
        World::with(mailed(), &sharing(&redis, &controls)),
    ];
    let reached: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|caller| {
                let gateway = worlds[caller % 2].gateway;
                scope.spawn(move || {
                    let names = (0..30).map(|number| format!("{}", (number * 7 + caller * 5) % 40));
                    let passes = |name: &String| {
                        let (status, code) = mail_said(gateway, &[name]);
                        assert!(
                            status == 200 || (status, code.as_str()) == (429, "CAP_MAX"),
                            "{status} {code}"
                        );
                        status == 200
                    };
                    names.filter(passes).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let different: std::collections::BTreeSet<&String> = reached.iter().collect();
    assert_eq!(different.len(), 20, "{different:?}");
    for world in &worlds {
        for name in &different {
            assert_eq!(mail_said(world.gateway, &[name.as_str()]).0, 200, "known at both");
        }
        assert_eq!(mail_said(world.gateway, &["somebody else"]).0, 429);
    }
    redis.kill_9();
    assert_eq!(mail_said(worlds[0].gateway, &["0"]), (503, "STORE_DOWN".into()));
}

#[test]
fn a_redis_that_goes_away_is_what_the_control_says() {
    let Some(mut redis) = RedisServer::start() else { return };
    let controls = "controls:\n- { id: closed, kind: cap, when: { model: closed }, unit: calls, limit: 100, per: day }\n- { id: budget, kind: cap, when: { model: budget }, unit: calls, limit: 100, per: day, on_store_down: { local_budget: 3 } }\n";
    let world = World::with(billed(1, 1), &sharing(&redis, controls));
    let call = |model: &str| world.send(&chat("down", &format!(r#"{{"model":"{model}","messages":[]}}"#)));
    assert_eq!([call("closed").status(), call("budget").status()], [200, 200]);
    redis.kill_9();
    let refused = call("closed");
    assert_eq!((refused.status(), code(&refused).as_str()), (503, "STORE_DOWN"));
    assert!(refused.header("retry-after").is_some());
    let statuses: Vec<u16> = (0..5).map(|_| call("budget").status()).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
    assert_eq!(call("other").status(), 200);
    assert!(world.metric("estoppel_store_failures_total") >= Some(6.0));
    redis.restart();
    estoppel_kit::until("the store is back", PATIENCE, || (call("closed").status() == 200).then_some(()));
    let receipts = world.receipts("down");
    let states = |control: &str| -> Vec<String> {
        let states = receipts.iter().map(|receipt| count(receipt, control).0);
        states.filter(|state| !state.is_empty()).collect()
    };
    let budget = ["counted", "local_budget", "local_budget", "local_budget", "store_down", "store_down"];
    assert_eq!(states("budget"), budget);
    assert_eq!(states("closed")[..2], ["counted", "store_down"]);
}

#[test]
fn what_is_wrong_with_the_store_is_said_at_the_start() {
    let scratch = Scratch::new("state");
    let upstream: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for (config, expected) in [
        ("store = \"redis\"", "state.url: says where the Redis is"),
        ("url = \"redis://127.0.0.1\"", "state.url: only with"),
        ("store = \"redis\"\nurl = \"redis://10.0.0.1\"", "without TLS"),
        ("timeout_ms = 0", "state.timeout_ms"),
        ("prefix = \"\"", "state.prefix"),
        ("stroe = \"local\"", "stroe"),
    ] {
        let setup = Setup { config: format!("[state]\n{config}\n"), ..Setup::default() };
        let file = crate::support::write_config(&scratch, upstream, &setup);
        let done = std::process::Command::new(crate::support::daemon_binary())
            .args(["--check-config", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(expected), "{config}: {said}");
    }
}

fn tool(world: &World, name: &str) -> Answer {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{}}}}}}"#
    );
    let request = Request::new("POST", "/mcp").header("content-type", "application/json");
    world.send(&request.header("estoppel-run", "drill").body(&body))
}

fn switch(world: &World, words: &[&str]) -> Value {
    let admin = world.admin.to_string();
    let (code, answer) = cli(&[words, &["--admin", &admin]].concat());
    assert_eq!(code, 0, "{answer}");
    answer["data"]["switches"].clone()
}

#[test]
fn a_killed_tool_is_blocked_at_every_gateway_until_it_is_resumed_and_the_journals_say_so() {
    let Some(redis) = RedisServer::start() else { return };
    let script = || Script::always(Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#));
    let mut worlds =
        [World::with(script(), &sharing(&redis, "")), World::with(script(), &sharing(&redis, ""))];
    for world in &worlds {
        estoppel_kit::until("switches are read", PATIENCE, || {
            (tool(world, "shell").status() == 200).then_some(())
        });
    }
    let hits = worlds.each_ref().map(|world| world.upstream.hits().total());
    let killed = switch(&worlds[0], &["kill", "tool:Shell", "--by", "alice", "--reason", "drill/7 \u{e9}"]);
    assert_eq!(
        (&killed[0]["target"], &killed[0]["reason"]),
        (&"tool:shell".into(), &"drill/7 \u{e9}".into())
    );
    // Here at once; elsewhere when it looks, four times a second.
    let refused = tool(&worlds[0], "shell");
    let refused: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(refused["error"]["data"]["code"], "KILLED");
    estoppel_kit::until("the other gateway blocks", PATIENCE, || {
        (tool(&worlds[1], "SHELL").status() == 403).then_some(())
    });
    assert_eq!(tool(&worlds[1], "look").status(), 200);
    assert!(worlds[0].upstream.hits().total() == hits[0]);

    worlds[1].stop();
    worlds[1].restart();
    estoppel_kit::until("switches are read", PATIENCE, || {
        (tool(&worlds[1], "look").status() == 200).then_some(())
    });
    assert_eq!(tool(&worlds[1], "shell").status(), 403);
    let left = switch(&worlds[1], &["resume", "tool:shell", "--by", "bob", "--reason", "over"]);
    assert_eq!(left, serde_json::json!([]));
    assert_eq!(tool(&worlds[1], "shell").status(), 200);
    estoppel_kit::until("the first gateway goes on", PATIENCE, || {
        (tool(&worlds[0], "shell").status() == 200).then_some(())
    });
    let blocked =
        worlds[0].receipts("drill").into_iter().filter(|receipt| receipt["verdict"]["reason"] == "KILLED");
    assert!(blocked.count() >= 1);
    for world in &mut worlds {
        // The daemon's own run is sealed when it stops.
        world.stop();
        let bundles = std::fs::read_dir(world.journal().join("bundles")).unwrap();
        let mut bundles: Vec<_> = bundles.map(|entry| entry.unwrap().path()).collect();
        bundles.sort();
        let shown = bundles.iter().map(|bundle| cli(&["show", path(bundle)]).1);
        let entries: Vec<Value> =
            shown.flat_map(|shown| shown["data"]["entries"].as_array().unwrap().clone()).collect();
        let told: Vec<_> = entries
            .iter()
            .filter(|entry| entry["kind"] == "act" && entry["on"] == "tool:shell")
            .map(|entry| (entry["act"].as_str().unwrap(), entry["by"].as_str().unwrap()))
            .collect();
        assert!(told.ends_with(&[("kill", "alice"), ("resume", "bob")]), "{told:?}");
        world.check_journal();
    }
}

#[test]
fn everything_stops_and_stays_stopped_over_kill_9() {
    let mut world = World::with(billed(1, 1), &setup(""));
    assert_eq!(world.send(&chat("drill", HELLO)).status(), 200);
    switch(&world, &["kill", "all", "--by", "alice", "--reason", "drill"]);
    assert_eq!(world.send(&chat("drill", HELLO)).status(), 403);
    world.daemon.kill_9();
    world.restart();
    estoppel_kit::until("switches are read", PATIENCE, || {
        let answer = world.send(&chat("drill", HELLO));
        assert_ne!(answer.status(), 200, "it goes on by itself");
        (answer.status() == 403).then_some(())
    });
    switch(&world, &["resume", "all", "--by", "alice", "--reason", "over"]);
    assert_eq!(world.send(&chat("drill", HELLO)).status(), 200);
    assert_eq!(world.upstream.hits().total(), 2);
}

#[test]
fn what_is_killed_while_the_store_is_down_stops_here_and_everywhere_when_it_is_back() {
    let Some(mut redis) = RedisServer::start() else { return };
    let worlds = [(), ()].map(|()| World::with(billed(1, 1), &sharing(&redis, "")));
    for world in &worlds {
        estoppel_kit::until("switches are read", PATIENCE, || {
            (world.send(&chat("drill", HELLO)).status() == 200).then_some(())
        });
    }
    redis.kill_9();
    let admin = worlds[0].admin.to_string();
    let (exit, answer) = cli(&["kill", "all", "--by", "alice", "--reason", "drill", "--admin", &admin]);
    assert_eq!((exit, &answer["error"]["code"]), (1, &"STORE_DOWN".into()), "{answer}");
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(said.contains("stopped at this gateway"), "{said}");
    assert_eq!(worlds[0].send(&chat("drill", HELLO)).status(), 403);
    assert_eq!(worlds[1].send(&chat("drill", HELLO)).status(), 200);
    redis.restart();
    estoppel_kit::until("the other gateway stops", PATIENCE, || {
        (worlds[1].send(&chat("drill", HELLO)).status() == 403).then_some(())
    });
    switch(&worlds[0], &["resume", "all", "--by", "bob", "--reason", "over"]);
    assert_eq!(worlds[0].send(&chat("drill", HELLO)).status(), 200);
}

#[test]
fn what_was_killed_stays_killed_when_the_file_of_the_store_is_gone_and_that_is_said() {
    for damage in [(|file| std::fs::remove_file(file).unwrap()) as fn(&std::path::Path), |file| {
        std::fs::write(file, "").unwrap()
    }] {
        let mut world = World::with(billed(1, 1), &setup(""));
        switch(&world, &["kill", "all", "--by", "alice", "--reason", "drill"]);
        switch(&world, &["kill", "tool:x", "--by", "alice", "--reason", "drill"]);
        switch(&world, &["resume", "tool:x", "--by", "bob", "--reason", "over"]);
        assert_eq!(world.metric("estoppel_store_lost_total"), Some(0.0), "a new journal has lost nothing");
        world.stop();
        damage(&world.journal().join("state.sqlite"));
        world.restart();
        assert_eq!(world.send(&chat("drill", HELLO)).status(), 403);
        assert_eq!(world.metric("estoppel_store_lost_total"), Some(1.0));
        assert!(world.daemon.stderr().contains("the store is without what it had"));
        let (_, listed) = cli(&["switches", "--admin", &world.admin.to_string()]);
        assert!(listed["data"]["store_lost_us"].is_u64(), "{listed}");
        let rows = listed["data"]["switches"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{listed}");
        assert_eq!((&rows[0]["target"], &rows[0]["by"]), (&"all".into(), &"alice".into()));

        switch(&world, &["resume", "all", "--by", "bob", "--reason", "over"]);
        world.stop();
        world.restart();
        assert_eq!(world.send(&chat("drill", HELLO)).status(), 200);
        assert_eq!(world.metric("estoppel_store_lost_total"), Some(0.0));
        world.stop();
        world.check_journal();
    }
}

#[test]
fn what_was_killed_stays_killed_when_the_redis_is_emptied_and_that_is_said() {
    let Some(mut redis) = RedisServer::start() else { return };
    let worlds = [(), ()].map(|()| World::with(billed(1, 1), &sharing(&redis, "")));
    let blocked = |world: &World| world.send(&chat("drill", HELLO)).status() == 403;
    for world in &worlds {
        estoppel_kit::until("switches are read", PATIENCE, || {
            (world.send(&chat("drill", HELLO)).status() == 200).then_some(())
        });
    }
    switch(&worlds[0], &["kill", "all", "--by", "alice", "--reason", "drill"]);
    estoppel_kit::until("the other gateway stops", PATIENCE, || blocked(&worlds[1]).then_some(()));
    redis.restart();
    for world in &worlds {
        estoppel_kit::until("the loss is seen", PATIENCE, || {
            assert!(blocked(world), "it goes on by itself");
            (world.metric("estoppel_store_lost_total") >= Some(1.0)).then_some(())
        });
        assert!(blocked(world));
    }
    switch(&worlds[0], &["resume", "all", "--by", "bob", "--reason", "over"]);
    for world in &worlds {
        estoppel_kit::until("it goes on", PATIENCE, || (!blocked(world)).then_some(()));
    }
}

#[test]
fn a_switch_of_no_route_is_refused_and_one_that_has_stopped_nothing_says_so() {
    let world = World::with(billed(1, 1), &setup(""));
    let admin = world.admin.to_string();
    let (exit, answer) =
        cli(&["kill", "route:STUB", "--by", "alice", "--reason", "drill", "--admin", &admin]);
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(exit != 0 && said.contains("stub"), "{answer}");
    assert_eq!(switch(&world, &["switches"]), json!([]));
    assert_eq!(
        switch(&world, &["kill", "route:stub", "--by", "alice", "--reason", "drill"])[0]["stopped"],
        0
    );
    assert_eq!(world.send(&chat("drill", HELLO)).status(), 403);
    assert_eq!(switch(&world, &["switches"])[0]["stopped"], 1);
    switch(&world, &["resume", "route:stub", "--by", "alice", "--reason", "over"]);
    let again = switch(&world, &["kill", "route:stub", "--by", "alice", "--reason", "drill"]);
    assert_eq!(again[0]["stopped"], 0);
}

#[test]
fn a_gateway_that_refuses_every_call_for_its_store_is_not_ready() {
    for (on_store_down, expected) in [("closed", 503), ("{ local_budget: 3 }", 200)] {
        let Some(mut redis) = RedisServer::start() else { return };
        let control = format!(
            "controls:\n- {{ id: a, kind: cap, when: {{}}, unit: calls, limit: 9, per: day, on_store_down: {on_store_down} }}\n"
        );
        let world = World::with(billed(1, 1), &sharing(&redis, &control));
        let ready = || estoppel_kit::http::get(world.admin, "/readyz").unwrap();
        estoppel_kit::until("it is ready", PATIENCE, || (ready().status() == 200).then_some(()));
        redis.kill_9();
        estoppel_kit::until("the store is missed", PATIENCE, || {
            (expected == 200 || ready().status() == 503).then_some(())
        });
        assert_eq!(world.send(&chat("down", HELLO)).status(), expected);
        let page = ready();
        assert_eq!((page.status(), page.text().contains("STORE_DOWN")), (expected, expected == 503));
        redis.restart();
        estoppel_kit::until("it is ready again", PATIENCE, || (ready().status() == 200).then_some(()));
    }
}
