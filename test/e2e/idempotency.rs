//! Calls that bring a key: done once, over retries, streams, crashes, clients that leave, and several gateways.

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_kit::{RedisServer, until};
use estoppel_stub::{Delays, Fault, Reply, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, chat, cli};

fn policy(rest: &str) -> String {
    format!("version: 1\nname: test\n{rest}")
}

const ONCE: &str = "defaults: { verdict: allow, on_not_evaluated: allow, body_storage: none }\ncontrols:\n- { id: once, kind: idempotency, when: { route: stub }, seconds: 3600 }\n";

fn setup(rest: &str) -> Setup {
    Setup { policy: policy(rest), ..Setup::default() }
}

/// An order with a key, in a run.
fn order(run: &str, key: &str, body: &str) -> Request {
    asking("POST", "/orders?x=1", run, key, body)
}

fn asking(method: &str, target: &str, run: &str, key: &str, body: &str) -> Request {
    let request = Request::new(method, target).header("content-type", "application/json");
    request.header("estoppel-run", run).header("idempotency-key", key).body(body)
}

fn created(number: u64) -> Reply {
    Reply::json(&format!(r#"{{"order":{number},"token":"t0p-s3cret"}}"#))
        .status(201)
        .header("location", &format!("/orders/{number}"))
        .header("set-cookie", "session=1")
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["code"].as_str().unwrap_or_default().to_owned()
}

fn decision(receipt: &Value) -> &str {
    receipt["idempotency"]["decision"].as_str().unwrap_or_default()
}

#[test]
fn who_brings_a_key_again_gets_the_first_answer_and_the_upstream_sees_nothing() {
    let mut world = World::with(Script::always(created(7)), &setup(ONCE));
    let first = world.send(&order("o", "k-1", "{\"n\":1}"));
    let again = world.send(&order("o", "k-1", "{\"n\":1}"));
    assert_eq!((first.status(), again.status()), (201, 201));
    assert_eq!((&first.body, first.header("location")), (&again.body, again.header("location")));
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );
    assert_eq!(again.header("set-cookie"), None);
    assert_ne!(first.header("estoppel-call"), again.header("estoppel-call"));
    assert_eq!(world.upstream.hits().total(), 1);

    let other = world.send(&order("o", "k-1", "{\"n\":2}"));
    assert_eq!((other.status(), code(&other).as_str()), (422, "IDEMPOTENCY_CONFLICT"));
    let elsewhere = asking("POST", "/orders?x=2", "o", "k-1", "{\"n\":1}");
    assert_eq!(world.send(&elsewhere).status(), 422);
    assert_eq!(world.send(&order("o", "k-2", "{\"n\":2}")).status(), 201);
    let plain = Request::new("POST", "/orders").header("estoppel-run", "o").body("{}");
    assert_eq!([world.send(&plain).status(), world.send(&plain).status()], [201, 201]);
    assert_eq!(world.upstream.hits().total(), 4);

    let receipts = world.receipts("o");
    let decisions: Vec<_> = receipts.iter().map(decision).collect();
    assert_eq!(decisions, ["first", "stored", "conflict", "conflict", "first", "", ""]);
    assert_eq!(receipts[0]["idempotency"], json!({ "decision": "first" }));
    assert_eq!(receipts[1]["idempotency"]["first"], receipts[0]["call"]);
    assert_eq!(receipts[1]["response"]["client"], json!({ "bytes": first.body.len(), "status": 201 }));
    assert_eq!(receipts[1]["response"]["upstream"], Value::Null);
    assert_eq!(receipts[1]["outcome"], json!({ "client": "handed_over", "code": "OK", "complete": true }));
    assert_eq!(receipts[1]["evaluated"]["response"]["state"], "not_evaluated");
    assert_eq!(receipts[2]["policy"]["rule"], "once");
    assert_eq!(receipts[2]["outcome"]["code"], "IDEMPOTENCY_CONFLICT");
    let counted = |decision: &str| {
        world.metric(&format!(r#"estoppel_idempotency_total{{control="once",decision="{decision}"}}"#))
    };
    assert_eq!([counted("first"), counted("stored"), counted("conflict")], [Some(2.0), Some(1.0), Some(2.0)]);

    // Not readable at rest, and there again after a restart.
    world.stop();
    let files = ["state.sqlite", "state.sqlite-wal"].map(|file| world.journal().join(file));
    let kept: Vec<u8> = files.iter().filter_map(|file| std::fs::read(file).ok()).flatten().collect();
    assert!(kept.len() > 1000, "{files:?}");
    for part in ["t0p-s3cret", "k-1", "/orders"] {
        assert!(!kept.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
    }
    world.restart();
    assert_eq!(world.send(&order("p", "k-1", "{\"n\":1}")).body, first.body);
    assert_eq!(world.upstream.hits().total(), 4);
    world.stop();
    world.check_journal();
}

#[test]
fn one_callers_key_is_not_anothers() {
    let world = World::with(Script::always(created(7)), &setup(ONCE));
    let with = |token: &str| order("who", "same", "{}").header("authorization", token);
    assert_eq!(world.send(&with("Bearer a")).status(), 201);
    let other = world.send(&with("Bearer b"));
    assert_eq!((other.status(), other.header("idempotency-replayed")), (201, None));
    assert_eq!(world.send(&with("Bearer b")).header("idempotency-replayed"), Some("true"));
    assert_eq!(world.upstream.hits().total(), 2);
}

#[test]
fn a_key_can_be_required_and_has_to_be_one() {
    let rest = "defaults: { verdict: allow, on_not_evaluated: allow }\ncontrols:\n- { id: once, kind: idempotency, when: { method: POST }, seconds: 60, header: x-key, required: true }\n";
    let world = World::with(Script::always(created(7)), &setup(rest));
    let missing = world.send(&order("need", "k", "{}"));
    assert_eq!((missing.status(), code(&missing).as_str()), (400, "IDEMPOTENCY_KEY_MISSING"));
    assert!(missing.text().contains("`x-key`"), "{}", missing.text());
    let twice = order("need", "k", "{}").header("x-key", "a").header("x-key", "b");
    assert_eq!(code(&world.send(&twice)), "HEADER_INVALID");
    assert_eq!(world.send(&Request::new("GET", "/x")).status(), 201);
    assert_eq!(world.send(&order("need", "k", "{}").header("x-key", "a")).status(), 201);
    assert_eq!(world.upstream.hits().total(), 2);
    assert_eq!(world.receipts("need")[0]["policy"]["rule"], "once");
}

#[test]
fn a_stream_is_given_again_as_it_was_and_too_large_a_one_is_not() {
    let event = r#"{"choices":[{"index":0,"delta":{"content":"hello"}}]}"#;
    let stream = Script::always(Reply::sse(&[event, event, "[DONE]"]));
    for (answer_bytes_max, again) in [(65_536, 200), (1_024, 200), (1_024, 409)] {
        let rest = format!(
            "defaults: {{ verdict: allow, on_not_evaluated: allow }}\ncontrols:\n- {{ id: once, kind: idempotency, when: {{}}, seconds: 60, answer_bytes_max: {answer_bytes_max} }}\n"
        );
        let large = [event; 100].iter().chain([&"[DONE]"]).copied().collect::<Vec<_>>();
        let large = Script::always(Reply::sse(&large));
        let script = if again == 409 { large } else { stream.clone() };
        let world = World::with(script, &setup(&rest));
        let ask = chat("s", r#"{"model":"m","stream":true,"messages":[]}"#).header("idempotency-key", "k");
        let first = world.send(&ask);
        let second = world.send(&ask);
        assert_eq!((first.status(), second.status()), (200, again), "{answer_bytes_max}");
        if again == 200 {
            assert_eq!(
                (&first.body, second.header("content-type")),
                (&second.body, Some("text/event-stream"))
            );
            assert!(second.text().contains("[DONE]"));
        } else {
            assert!(second.text().contains("IDEMPOTENCY_NO_ANSWER"), "{}", second.text());
        }
        assert_eq!(world.upstream.hits().total(), 1);
        drop(world.receipts("s"));
    }
}

#[test]
fn what_did_not_happen_may_be_tried_again_and_what_may_have_may_not() {
    let refused = Script::always(Reply::json("{}").status(429));
    let broke_off = Script::always(Reply::json("{\"a\":1}").fault(Fault::Reset { after_bytes: 3 }));
    let failed = Script::always(Reply::json("{\"failed\":true}").status(500));
    for (script, statuses, hits) in
        [(refused, [429, 429], 2), (broke_off, [502, 409], 1), (failed, [500, 500], 1)]
    {
        let world = World::with(script, &setup(ONCE));
        let got = [0, 1].map(|_| world.send(&order("r", "k", "{}")).status());
        assert_eq!((got, world.upstream.hits().total()), (statuses, hits));
    }
}

#[test]
fn a_call_that_was_refused_here_leaves_its_key_free_and_a_repeat_is_counted_nowhere() {
    let rest = "defaults: { verdict: allow, on_not_evaluated: allow }\ncontrols:\n- { id: two, kind: cap, when: {}, unit: calls, limit: 2, per: month }\n- { id: once, kind: idempotency, when: {}, seconds: 60 }\n";
    let world = World::with(Script::always(created(7)), &setup(rest));
    let send = |key: &str| world.send(&order("c", key, "{}")).status();
    assert_eq!(
        [send("a"), send("a"), send("a"), send("b"), send("c"), send("c"), send("b")],
        [201, 201, 201, 201, 429, 429, 201]
    );
    assert_eq!(world.upstream.hits().total(), 2);
}

/// Asks and leaves once the upstream has been reached.
fn leave(world: &World, request: &Request) {
    let before = world.upstream.hits().total();
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&request.wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() > before));
}

#[test]
fn while_the_first_runs_others_wait_and_after_kill_9_nobody_is_sent_again() {
    let mut world = World::with(Script::always(created(7).fault(Fault::NoAnswer)), &setup(ONCE));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&order("k9", "k", "{}").wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1));
    let second = world.send(&order("k9", "k", "{}"));
    assert_eq!((second.status(), code(&second).as_str()), (409, "IDEMPOTENCY_IN_FLIGHT"));
    assert_eq!(code(&world.send(&order("k9", "k", "{\"n\":2}"))), "IDEMPOTENCY_CONFLICT");

    world.daemon.kill_9();
    world.restart();
    let third = world.send(&order("after", "k", "{}"));
    assert_eq!((third.status(), code(&third).as_str()), (409, "IDEMPOTENCY_NO_ANSWER"));
    assert_eq!(world.upstream.hits().total(), 1);
    assert_eq!(decision(&world.receipts("after")[0]), "conflict");
}

#[test]
fn the_answer_of_a_client_that_left_is_kept_where_it_is_read_on() {
    let slow = created(7).delay_ms(Delays { before_head: 300, ..Delays::default() });
    for (disconnect, status) in [("{ drain: { bytes: 65536, seconds: 20 } }", 201), ("cancel", 409)] {
        let rest = ONCE.replace("body_storage: none", &format!("disconnect: {disconnect}"));
        let world = World::with(Script::always(slow.clone()), &setup(&rest));
        leave(&world, &order("left", "k", "{}"));
        world.wait_for_calls("left", 1);
        world.wait_until_idle();
        assert_eq!(world.send(&order("left", "k", "{}")).status(), status, "{disconnect}");
        assert_eq!(world.upstream.hits().total(), 1);
    }
}

#[test]
fn two_gateways_on_one_redis_send_once_and_without_it_nothing() {
    let Some(mut redis) = RedisServer::start() else { return };
    let config = format!("[state]\nstore = \"redis\"\nurl = \"{}\"\ntimeout_ms = 20000\n", redis.url());
    let shared = || Setup { config: config.clone(), ..setup(ONCE) };
    let slow = created(7).delay_ms(Delays { before_head: 100, ..Delays::default() });
    let worlds =
        [World::with(Script::always(slow.clone()), &shared()), World::with(Script::always(slow), &shared())];
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let caller = |at: usize| {
            let gateway = worlds[at % 2].gateway;
            scope.spawn(move || {
                let call = || estoppel_kit::http::send(gateway, &order("both", "k", "{}")).unwrap();
                until("an answer", PATIENCE, || {
                    let status = call().status();
                    assert!([201, 409].contains(&status), "{status}");
                    (status == 201).then_some(status)
                })
            })
        };
        let callers: Vec<_> = (0..8).map(caller).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(answers, [201; 8]);
    assert_eq!(worlds.iter().map(|world| world.upstream.hits().total()).sum::<u64>(), 1);
    redis.kill_9();
    let down = worlds[0].send(&order("down", "k", "{}"));
    assert_eq!((down.status(), code(&down).as_str()), (503, "STORE_DOWN"));
    assert_eq!(worlds.iter().map(|world| world.upstream.hits().total()).sum::<u64>(), 1);
}

#[test]
fn what_an_operator_has_stopped_or_another_policy_let_pass_is_not_given_again() {
    let mut world = World::with(Script::always(created(7)), &setup(ONCE));
    let send = |world: &World| world.send(&order("stop", "k", "{}"));
    assert_eq!(send(&world).status(), 201);
    let switch = |world: &World, words: &[&str]| {
        let admin = world.admin.to_string();
        let rest = ["--by", "alice", "--reason", "drill", "--admin", &admin];
        let (code, said) = cli(&[words, &rest].concat());
        assert_eq!(code, 0, "{said}");
    };
    switch(&world, &["kill", "all"]);
    assert_eq!((send(&world).status(), code(&send(&world)).as_str()), (403, "KILLED"));
    switch(&world, &["resume", "all"]);
    assert_eq!(send(&world).status(), 201);

    let file = world.scratch.join("policy.yaml");
    std::fs::write(&file, policy(&ONCE.replace("3600", "3601"))).unwrap();
    world.daemon.hang_up();
    until("the reload", PATIENCE, || {
        world.metric("estoppel_reloads_total{result=\"ok\"}").filter(|reloads| *reloads > 0.0)
    });
    let changed = send(&world);
    assert_eq!((changed.status(), code(&changed).as_str()), (409, "IDEMPOTENCY_NO_ANSWER"));
    assert_eq!(world.upstream.hits().total(), 1);
}
