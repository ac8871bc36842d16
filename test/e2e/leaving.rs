//! Clients that leave before their answer is whole.

use std::time::Duration;

use estoppel_kit::http::Peer;
use estoppel_stub::{Body, Delays, Fault, Framing, Outcome, Reply, Script, Split};
use serde_json::Value;

use crate::support::{PATIENCE, Setup, World, chat};

const HELLO: &str = r#"{"model":"m","messages":[]}"#;
const ASK: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const LAST: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n";

/// 40 events in about half a second, then usage and the terminator.
fn events() -> Reply {
    Reply::new(Body::Text(EVENT.repeat(40) + LAST))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .split(Split::Each { bytes: EVENT.len() as u64 })
        .delay_ms(Delays { between_writes: 12, ..Delays::default() })
}

fn drain(bytes: u64, seconds: u64) -> String {
    format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, disconnect: {{ drain: {{ bytes: {bytes}, seconds: {seconds} }} }} }}\n"
    )
}

fn world(reply: Reply, policy: String) -> World {
    World::with(Script::always(reply), &Setup { policy, ..Setup::default() })
}

/// Asks, reads until `mark` and leaves. Gives the bytes of the body that were read.
fn leave_after(world: &World, run: &str, ask: &str, mark: &str) -> usize {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat(run, ask).wire("gateway")).unwrap();
    peer.read_until(b"\r\n\r\n").unwrap();
    peer.read_until(mark.as_bytes()).unwrap().len()
}

/// The only receipt of `run`, once its call has ended.
fn receipt(world: &World, run: &str) -> Value {
    world.wait_for_calls(run, 1);
    world.wait_until_idle();
    let mut receipts = world.receipts(run);
    assert_eq!(receipts.len(), 1);
    receipts.remove(0)
}

fn downgrades(receipt: &Value) -> Vec<&str> {
    let list = receipt["downgrades"].as_array();
    list.into_iter().flatten().map(|downgrade| downgrade["code"].as_str().unwrap()).collect()
}

fn check_gone(receipt: &Value) {
    assert_eq!(receipt["outcome"]["client"], "gone", "{receipt}");
    assert_eq!(receipt["outcome"]["code"], "CLIENT_GONE");
    assert_eq!(receipt["outcome"]["complete"], false);
}

#[test]
fn a_drained_stream_says_what_the_client_got_and_what_the_upstream_sent() {
    let world = world(events(), drain(1 << 20, 20));
    leave_after(&world, "drained", ASK, "data: ");
    let receipt = receipt(&world, "drained");
    check_gone(&receipt);
    assert_eq!(downgrades(&receipt), [""; 0]);
    let whole = EVENT.len() * 40 + LAST.len();
    assert_eq!(receipt["response"]["upstream"]["bytes"], whole);
    let got = receipt["response"]["client"]["bytes"].as_u64().unwrap() as usize;
    assert!((EVENT.len()..whole).contains(&got), "{got}");
    assert_ne!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"]);
    assert_eq!(receipt["sse"]["units"], got.div_ceil(EVENT.len()), "units are what the client got");
    assert_eq!(receipt["sse"]["events"], 42, "events are what the upstream sent");
    assert_eq!(receipt["facts"]["usage"]["total"], 7);
    assert_eq!(world.upstream.hits().last().unwrap().outcome(), Outcome::Sent);
}

#[test]
fn a_plain_answer_is_read_on_when_its_client_left_before_the_head() {
    let text =
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let reply = Reply::json(text).delay_ms(Delays { before_head: 400, ..Delays::default() });
    let world = world(reply, drain(1 << 20, 20));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("plain", HELLO).wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1));
    drop(peer);
    let receipt = receipt(&world, "plain");
    check_gone(&receipt);
    assert_eq!(downgrades(&receipt), [""; 0]);
    assert_eq!(receipt["response"]["upstream"]["bytes"], text.len());
    assert_eq!(receipt["response"]["client"]["bytes"], 0);
    assert_eq!(receipt["facts"]["usage"]["total"], 2);
    assert_eq!(world.upstream.hits().last().unwrap().outcome(), Outcome::Sent);
}

#[test]
fn a_stream_is_read_on_when_its_client_left_before_the_head() {
    let reply = events().delay_ms(Delays { before_head: 300, between_writes: 2, ..Delays::default() });
    let world = world(reply, drain(1 << 20, 20));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("early", ASK).wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1));
    drop(peer);
    let receipt = receipt(&world, "early");
    check_gone(&receipt);
    assert_eq!(receipt["response"]["upstream"]["bytes"], EVENT.len() * 40 + LAST.len());
    assert_eq!(receipt["response"]["client"]["bytes"], 0);
    assert_eq!(receipt.get("sse"), None, "no byte of the stream reached the client");
}

fn check_drain_ends(reply: Reply, policy: String, code: &str) {
    let world = world(reply, policy);
    leave_after(&world, "bounded", ASK, "data: ");
    let receipt = receipt(&world, "bounded");
    check_gone(&receipt);
    assert_eq!(downgrades(&receipt), [code]);
    assert!(
        receipt["response"]["upstream"]["bytes"].as_u64() >= receipt["response"]["client"]["bytes"].as_u64()
    );
    let stopped = world.upstream.hits().wait(Duration::from_secs(5), |hits| {
        hits.last().is_some_and(|seen| seen.outcome() != Outcome::Answering)
    });
    assert!(stopped, "the upstream still sends");
}

#[test]
fn a_drain_ends_at_its_bounds_and_says_so() {
    let endless = || events().fault(Fault::Stall { after_bytes: 5 * EVENT.len() as u64 });
    check_drain_ends(events(), drain(3 * EVENT.len() as u64, 20), "DRAIN_MAX");
    check_drain_ends(events(), drain(0, 20), "DRAIN_MAX");
    check_drain_ends(endless(), drain(1 << 20, 1), "DRAIN_MAX");
    let limits = |limits: &str| format!("{}limits: {{ {limits} }}\n", drain(1 << 20, 20));
    check_drain_ends(endless(), limits("between_events_ms: 200"), "TIMEOUT_BETWEEN");
    check_drain_ends(events(), limits("total_ms: 300"), "TIMEOUT_TOTAL");
    check_drain_ends(events(), limits("response_bytes_max: 1024"), "RESPONSE_BYTES_MAX");
    let cut = events().fault(Fault::Truncate { after_bytes: 20 * EVENT.len() as u64 });
    check_drain_ends(cut, drain(1 << 20, 20), "TRUNCATED");
}

#[test]
fn an_upstream_that_does_not_answer_a_client_that_left_is_let_go_in_time() {
    let world = world(Reply::default().fault(Fault::NoAnswer), drain(1 << 20, 1));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("silent", HELLO).wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1));
    drop(peer);
    let receipt = receipt(&world, "silent");
    check_gone(&receipt);
    assert_eq!(downgrades(&receipt), ["DRAIN_MAX"]);
    assert_eq!(receipt["response"].get("upstream"), None);
}

#[test]
fn no_more_answers_are_drained_than_configured() {
    let setup = Setup {
        policy: drain(1 << 20, 20),
        config: "[server]\ndrains_max = 2\ndrain_ms = 300\n".into(),
        ..Setup::default()
    };
    let stall = events().fault(Fault::Stall { after_bytes: 5 * EVENT.len() as u64 });
    let mut world = World::with(Script::always(stall), &setup);
    for _ in 0..4 {
        leave_after(&world, "many", ASK, "data: ");
    }
    world.wait_for_calls("many", 2);
    estoppel_kit::until("two drains", PATIENCE, || {
        (world.metric("estoppel_drains") == Some(2.0)).then_some(())
    });
    assert_eq!(world.metric("estoppel_calls_in_flight"), Some(2.0));
    world.stop();
    world.restart();
    let receipts = world.receipts("many");
    let codes: Vec<_> = receipts.iter().map(|receipt| downgrades(receipt)).collect();
    assert_eq!(codes, [["DRAIN_MAX"], ["DRAIN_MAX"], ["SHUTDOWN"], ["SHUTDOWN"]]);
    receipts.iter().for_each(check_gone);
}

#[test]
fn shutdown_waits_for_a_drain_that_ends_in_time() {
    let mut world = world(events(), drain(1 << 20, 20));
    leave_after(&world, "down", ASK, "data: ");
    world.stop();
    world.check_journal();
    world.restart();
    let receipts = world.receipts("down");
    check_gone(&receipts[0]);
    assert_eq!(downgrades(&receipts[0]), [""; 0]);
    assert_eq!(receipts[0]["response"]["upstream"]["bytes"], EVENT.len() * 40 + LAST.len());
}

#[test]
fn with_cancel_everything_is_released_when_the_client_leaves() {
    let slow = events().fault(Fault::Stall { after_bytes: 5 * EVENT.len() as u64 });
    let world = World::new(Script::always(slow));
    for _ in 0..20 {
        leave_after(&world, "cancel", ASK, "data: ");
    }
    let soon = Duration::from_secs(5);
    estoppel_kit::until("nothing in flight", soon, || {
        (world.metric("estoppel_calls_in_flight") == Some(0.0)).then_some(())
    });
    let all_gone = |hits: &estoppel_stub::Hits| {
        hits.requests().iter().filter(|seen| seen.outcome() == Outcome::PeerGone).count() == 20
    };
    assert!(world.upstream.hits().wait(soon, all_gone), "an upstream connection is still open");
    estoppel_kit::until("no client connections", soon, || {
        (world.metric("estoppel_connections") == Some(0.0)).then_some(())
    });
    let receipts = world.receipts("cancel");
    assert_eq!(receipts.len(), 20);
    receipts.iter().for_each(check_gone);
    assert_eq!(receipts[0]["response"]["client"]["bytes"], receipts[0]["response"]["upstream"]["bytes"]);
}

#[test]
fn a_client_that_leaves_before_a_whole_answer_is_there_got_nothing_of_it() {
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000));
    let reply =
        Reply::json(&text).split(Split::Each { bytes: 1_000 }).fault(Fault::Stall { after_bytes: 2_000 });
    let world = World::new(Script::always(reply));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("half", HELLO).wire("gateway")).unwrap();
    assert!(
        world
            .upstream
            .hits()
            .wait(PATIENCE, |hits| hits.last().is_some_and(|seen| seen.sent_bytes() >= 2_000))
    );
    std::thread::sleep(Duration::from_millis(100)); // the bytes are on their way to the gateway
    drop(peer);
    let receipt = receipt(&world, "half");
    check_gone(&receipt);
    assert_eq!(receipt["response"]["client"]["bytes"], 0, "{receipt}");
    assert_eq!(receipt["response"]["upstream"]["bytes"], 2_000);
}

#[test]
fn a_client_that_leaves_inside_its_request_body_reaches_nobody() {
    let world = World::new(Script::model());
    let mut peer = Peer::connect(world.gateway).unwrap();
    let wire = chat("upload", &"x".repeat(1_000)).wire("gateway");
    peer.send(&wire[..wire.len() - 500]).unwrap();
    drop(peer);
    world.wait_for_calls("upload", 1);
    assert_eq!(world.upstream.hits().total(), 0);
    let code = world.receipts("upload")[0]["outcome"]["code"].clone();
    assert!(code == "REQUEST_BROKEN" || code == "CLIENT_GONE", "{code}");
}
