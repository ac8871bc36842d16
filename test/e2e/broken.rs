use std::time::Duration;

use estoppel_kit::http::{End, Peer, Request};
use estoppel_stub::{Body, Fault, Framing, Outcome, Reply, Script, Split};

use crate::support::{OPEN, PATIENCE, Setup, World, chat};

const ASK: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

fn stream(times: usize) -> Reply {
    Reply::new(Body::Text(EVENT.repeat(times) + "data: [DONE]\n\n"))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .split(Split::Each { bytes: EVENT.len() as u64 })
}

/// The answer is cut and its receipt says why.
fn check_cut(reply: Reply, code: &str, policy: &str) {
    let world = World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() });
    let answer = Peer::connect(world.gateway).unwrap().exchange(&chat("cut", ASK)).unwrap();
    assert!(answer.end.is_some(), "the client must see that the answer is not whole");
    assert!(!answer.text().contains("[DONE]"));
    world.wait_for_calls("cut", 1);
    let receipts = world.receipts("cut");
    assert_eq!(receipts[0]["outcome"]["code"], code);
    assert_eq!(receipts[0]["outcome"]["complete"], false);
    assert_eq!(receipts[0]["response"]["client"]["bytes"], answer.body.len());
}

#[test]
fn an_upstream_that_stops_inside_a_stream_never_looks_complete() {
    let after = 2 * EVENT.len() as u64;
    check_cut(stream(9).fault(Fault::Truncate { after_bytes: after }), "TRUNCATED", OPEN);
    check_cut(stream(9).fault(Fault::Reset { after_bytes: after }), "TRUNCATED", OPEN);
}

#[test]
fn a_stream_without_its_terminator_is_cut_even_when_the_transport_ended_well() {
    let reply = Reply::new(Body::Text(EVENT.repeat(3)))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked);
    check_cut(reply, "TRUNCATED", OPEN);
}

#[test]
fn an_answer_shorter_than_announced_is_not_passed_on() {
    let reply = Reply::new(Body::Text("{\"a\":1}".into()))
        .header("content-type", "application/json")
        .framing(Framing::WrongLength { by: 10 });
    let world = World::new(Script::always(reply));
    let answer = world.send(&chat("short", "{}"));
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("TRUNCATED"));
    let receipts = world.receipts("short");
    assert_eq!(receipts[0]["outcome"]["code"], "TRUNCATED");
    assert_eq!(receipts[0]["outcome"]["client"], "refused");
}

#[test]
fn upstreams_that_do_not_answer_are_named() {
    let policy = format!("{OPEN}limits: {{ headers_ms: 200, connect_ms: 500 }}\n");
    for (fault, status, code) in [
        (Fault::NoAnswer, 504, "TIMEOUT_HEADERS"),
        (Fault::CloseBeforeHead, 502, "UPSTREAM_RESET"),
        (Fault::ResetBeforeHead, 502, "UPSTREAM_RESET"),
    ] {
        let world = World::with(
            Script::always(Reply::default().fault(fault)),
            &Setup { policy: policy.clone(), ..Setup::default() },
        );
        let answer = world.send(&chat("dead", "{}"));
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert_eq!(world.receipts("dead")[0]["outcome"]["code"], code);
    }
}

#[test]
fn an_upstream_that_is_not_there_gives_502_and_a_receipt() {
    let mut world = World::new(Script::model());
    world.upstream = estoppel_stub::Stub::spawn_thread(Script::model()).unwrap(); // the first one is gone
    let answer = world.send(&chat("gone", "{}"));
    assert_eq!(answer.status(), 502);
    assert_eq!(world.receipts("gone")[0]["outcome"]["code"], "UPSTREAM_CONNECT");
}

#[test]
fn an_answer_that_is_not_http_is_refused() {
    let world =
        World::new(Script::always(Reply::new(Body::Text("220 smtp ready\r\n".into())).framing(Framing::Raw)));
    let answer = world.send(&chat("smtp", "{}"));
    assert_eq!(answer.status(), 502);
    assert_eq!(world.receipts("smtp")[0]["outcome"]["code"], "UPSTREAM_PROTOCOL");
}

#[test]
fn a_client_that_leaves_stops_the_upstream_within_a_second() {
    let slow = Reply::new(Body::Text(EVENT.repeat(10_000)))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .fault(Fault::Slow { bytes_per_write: 64, every_ms: 10 });
    let world = World::new(Script::always(slow));
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("left", ASK).wire("gateway")).unwrap();
    peer.read_until(b"data: ").unwrap();
    drop(peer);
    let stopped = world.upstream.hits().wait(Duration::from_secs(5), |hits| {
        hits.last().is_some_and(|seen| seen.outcome() == Outcome::PeerGone)
    });
    assert!(stopped, "the upstream still sends");
    world.wait_for_calls("left", 1);
    let receipts = world.receipts("left");
    assert_eq!(receipts[0]["outcome"]["code"], "CLIENT_GONE");
    assert_eq!(receipts[0]["outcome"]["client"], "gone");
}

#[test]
fn ambiguous_requests_are_refused_and_never_forwarded() {
    let world = World::new(Script::model());
    for wire in [
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 2\r\n\r\n{}",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        "GET / HTTP/1.1\r\nhost: a\r\nx\u{0}y: 1\r\n\r\n",
    ] {
        let mut peer = Peer::connect(world.gateway).unwrap();
        peer.send(wire.as_bytes()).unwrap();
        let (bytes, end) = peer.read_to_end().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{wire:?}: {text}");
        assert_ne!(end, End::Silent, "{wire:?}");
    }
    assert_eq!(world.upstream.hits().total(), 0);
}

#[test]
fn a_request_over_its_limit_is_refused_with_413() {
    let policy = format!("{OPEN}limits: {{ request_bytes_max: 2048 }}\n");
    let world = World::with(Script::model(), &Setup { policy, ..Setup::default() });
    let answer = world.send(&chat("large", &"x".repeat(4000)));
    assert_eq!(answer.status(), 413);
    assert_eq!(world.upstream.hits().total(), 0);
    assert_eq!(world.receipts("large")[0]["outcome"]["code"], "REQUEST_BYTES_MAX");
}

#[test]
fn unknown_paths_bad_headers_and_upgrades_leave_receipts() {
    let config = "[[route]]\nname = \"never\"\nupstream = \"stub\"\n";
    let world = World::with(Script::model(), &Setup { config: config.into(), ..Setup::default() });
    let bad = Request::new("GET", "/x").header("estoppel-run", "odd").header("estoppel-job-id", "");
    assert_eq!(world.send(&bad).status(), 400);
    let upgrade = Request::new("GET", "/x")
        .header("estoppel-run", "odd")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(world.send(&upgrade).status(), 501);
    let codes: Vec<String> = world
        .receipts("odd")
        .iter()
        .map(|receipt| receipt["outcome"]["code"].as_str().unwrap().into())
        .collect();
    assert_eq!(codes, ["HEADER_INVALID", "UPGRADE_REFUSED"]);
    assert_eq!(world.upstream.hits().total(), 0);
    let _ = PATIENCE;
}

#[test]
fn an_answer_with_more_than_100_header_lines_is_refused() {
    for (lines, status) in [(90, 200), (101, 502)] {
        let reply = Reply::new(Body::Text("{}".into())).header("content-type", "application/json");
        let reply = (0..lines).fold(reply, |reply, n| reply.header(&format!("x-{n}"), "y"));
        let world = World::new(Script::always(reply));
        let answer = world.send(&chat("headers", ASK));
        assert_eq!(answer.status(), status);
        let code = if status == 200 { "OK" } else { "UPSTREAM_PROTOCOL" };
        assert_eq!(world.receipts("headers")[0]["outcome"]["code"], code);
    }
}
