//! Messages that two parsers could read in two ways, and headers that belong to one connection only.

use estoppel_kit::http::{End, Peer, Request};
use estoppel_stub::{Body, Framing, Interim, Reply, Rule, Script};

use crate::support::{Setup, World, chat};

const HELLO: &str = r#"{"model":"m","messages":[]}"#;
/// What a smuggler wants to be read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

fn echo() -> Script {
    Script::always(Reply::new(Body::Echo))
}

/// The request is refused, its connection closed, and what follows it is never read as a request.
fn check_refused(world: &World, wire: &str, statuses: &[u16]) {
    let before = world.upstream.hits().total();
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(format!("{wire}{SMUGGLED}").as_bytes()).unwrap();
    let (bytes, end) = peer.read_to_end().unwrap_or_else(|error| panic!("{wire:?}: {error}"));
    let text = String::from_utf8_lossy(&bytes);
    let answered = statuses.iter().any(|status| text.starts_with(&format!("HTTP/1.1 {status} ")));
    assert!(answered, "{wire:?}: {text:?}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{wire:?}: {text}");
    assert_ne!(end, End::Silent, "{wire:?}");
    assert_eq!(world.upstream.hits().total(), before, "{wire:?} reached the upstream");
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let world = World::new(echo());
    for headers in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "content-length: 3\r\ncontent-length: 4",
        "content-length: 3, 3",
        "content-length: +3",
        "content-length: -1",
        "content-length: 0x3",
        "content-length: 3 3",
        "content-length:",
        "content-length: 99999999999999999999",
        "content-length : 3",
        "transfer-encoding: identity",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding: chunked\r\n\tidentity",
        "x-folded: a\r\n b",
        "x-nul: a\u{0}b",
        "x-cr: a\rb",
        "x name: a",
        ": a",
    ] {
        check_refused(&world, &format!("POST /x HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n"), &[400]);
    }
}

#[test]
fn equal_lengths_are_forwarded_as_one() {
    let world = World::new(echo());
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc").unwrap();
    assert_eq!(peer.read_answer().unwrap().text(), "abc");
    let head = String::from_utf8_lossy(&world.upstream.hits().last().unwrap().head).into_owned();
    assert_eq!(head.matches("content-length").count(), 1, "{head}");
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused() {
    let world = World::new(echo());
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "2\n{}\n0\n\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "2 2\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "\r\n2\r\n{}\r\n0\r\n\r\n",
        "2;a=b\nc\r\n{}\r\n0\r\n\r\n",
    ] {
        check_refused(&world, &format!("{head}{body}"), &[400]);
    }
    let extension = "x".repeat(64 << 10);
    check_refused(&world, &format!("{head}2;{extension}\r\n{{}}\r\n0\r\n\r\n"), &[400]);
}

#[test]
fn heads_that_are_not_for_us_are_refused() {
    let world = World::new(echo());
    for (wire, status) in [
        ("GET /x HTTP/1.1\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET http://a/x HTTP/1.1\r\nhost: b\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /x HTTP/1.2\r\nhost: a\r\n\r\n", 400),
        ("GET /x HTTP/3.0\r\nhost: a\r\n\r\n", 400),
        ("GET /x y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("G@T /x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ] {
        check_refused(&world, wire, &[status]);
    }
}

#[test]
fn heads_that_are_too_large_are_answered_431() {
    let setup = Setup { config: "[server]\nhead_bytes_max = 16384\n".into(), ..Setup::default() };
    let world = World::with(echo(), &setup);
    let many: String = (0..300).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(40_000));
    for headers in [many, long] {
        check_refused(&world, &format!("GET /x HTTP/1.1\r\nhost: a\r\n{headers}\r\n"), &[431]);
    }
    let target = "x".repeat(70_000);
    check_refused(&world, &format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n"), &[414, 431]);
}

#[test]
fn an_absolute_target_goes_to_the_configured_upstream_in_origin_form() {
    let world = World::new(echo());
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(b"GET http://a.test/x?y=1 HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(peer.read_answer().unwrap().status(), 200);
    let seen = world.upstream.hits().last().unwrap();
    assert_eq!(seen.target, "/x?y=1");
    assert_eq!(seen.header("host"), Some(world.upstream.addr().to_string()));
}

#[test]
fn chunk_extensions_and_request_trailers_do_not_change_the_body() {
    let world = World::new(echo());
    let mut peer = Peer::connect(world.gateway).unwrap();
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\ntrailer: x-late\r\n\r\n";
    peer.send(
        format!("{head}3;name=\"v;w\"\r\nabc\r\n2\r\nde\r\n0;last\r\nx-late: 1\r\ncontent-length: 9\r\n\r\n")
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(peer.read_answer().unwrap().text(), "abcde");
    let seen = world.upstream.hits().last().unwrap();
    assert_eq!(&seen.body[..], b"abcde");
    let wire = String::from_utf8_lossy(&seen.body_wire).into_owned();
    assert!(!wire.contains("name=") && !wire.contains("last") && !wire.contains("content-length"), "{wire}");
}

#[test]
fn expect_is_answered_by_us_and_not_forwarded() {
    let world = World::new(echo());
    for path in ["/x", "/v1/chat/completions"] {
        let mut peer = Peer::connect(world.gateway).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        );
        peer.send(head.as_bytes()).unwrap();
        assert_eq!(peer.read_head().unwrap().status, 100, "{path}");
        peer.send(b"{}").unwrap();
        assert_eq!(peer.read_answer().unwrap().text(), "{}");
        assert_eq!(world.upstream.hits().last().unwrap().header("expect"), None);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::new(echo());
    let mut peer = Peer::connect(world.gateway).unwrap();
    let wire: Vec<u8> =
        (0..5).flat_map(|number| Request::new("POST", "/x").body(number.to_string()).wire("a")).collect();
    peer.send(&wire).unwrap();
    for number in 0..5 {
        assert_eq!(peer.read_answer().unwrap().text(), number.to_string());
    }
}

#[test]
fn answers_without_a_body_leave_both_connections_usable() {
    let json = Reply::json(r#"{"a":1}"#);
    let script = Script::always(json)
        .on(Rule::any("/204", Reply::default().status(204)))
        .on(Rule::any("/304", Reply::default().status(304).header("etag", "\"x\"")));
    let world = World::new(script);
    let mut peer = Peer::connect(world.gateway).unwrap();
    let head = peer.exchange(&Request::new("HEAD", "/x").header("estoppel-run", "none")).unwrap();
    assert_eq!((head.status(), head.header("content-length")), (200, Some("7")));
    for (path, status) in [("/204", 204), ("/304", 304), ("/x", 200)] {
        let answer = peer.exchange(&Request::new("GET", path).header("estoppel-run", "none")).unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.body.len(), if status == 200 { 7 } else { 0 });
    }
    assert_eq!(world.upstream.hits().connections(), 1);
    let bytes: Vec<u64> = world
        .receipts("none")
        .iter()
        .map(|receipt| receipt["response"]["client"]["bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(bytes, [0, 0, 0, 7]);
}

/// An upstream that sends more than it announced never has the rest taken for the next answer.
fn check_not_poisoned(first: &str) {
    let raw = Reply::new(Body::Text(first.into())).framing(Framing::Raw);
    let script = Script::always(Reply::text("honest")).on(Rule::any("/first", raw));
    let world = World::new(script);
    let mut peer = Peer::connect(world.gateway).unwrap();
    let answer = peer.exchange(&Request::new("GET", "/first")).unwrap();
    assert!(!answer.text().contains("forged"), "{first:?}: {}", answer.text());
    for _ in 0..3 {
        let answer = world.send(&Request::new("GET", "/next"));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "honest"), "{first:?}");
    }
}

#[test]
fn bytes_after_an_answer_are_not_the_next_answer() {
    const FORGED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    for first in [
        format!("HTTP/1.1 204 No Content\r\n\r\n{FORGED}"),
        format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n{FORGED}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab{FORGED}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{FORGED}"),
    ] {
        check_not_poisoned(&first);
    }
}

#[test]
fn answers_that_can_be_read_in_two_ways_are_not_passed_on() {
    for first in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-nul: a\u{0}b\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nab\n0\n\n",
    ] {
        let raw = Reply { close: true, ..Reply::new(Body::Text(first.into())).framing(Framing::Raw) };
        let world = World::new(Script::always(raw));
        let mut peer = Peer::connect(world.gateway).unwrap();
        let answer = peer.exchange(&chat("two", HELLO)).unwrap();
        assert!(answer.status() == 502 || answer.end.is_some(), "{first:?}: {answer:?}");
        world.wait_for_calls("two", 1);
        assert_ne!(world.receipts("two")[0]["outcome"]["code"], "OK", "{first:?}");
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let hint = |status| Interim { status, headers: vec![("link".into(), "</a>".into())] };
    let reply = Reply { interim: vec![hint(103), hint(100), hint(103)], ..Reply::text("whole") };
    let world = World::new(Script::always(reply));
    let answer = world.send(&Request::new("GET", "/x"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "whole"));
}

#[test]
fn an_upstream_that_switches_protocols_unasked_is_refused() {
    let first = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw bytes";
    let raw = Reply { close: true, ..Reply::new(Body::Text(first.into())).framing(Framing::Raw) };
    let world = World::new(Script::always(raw));
    let answer = Peer::connect(world.gateway).unwrap().exchange(&chat("switch", HELLO)).unwrap();
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().contains("raw bytes"), "{}", answer.text());
    assert_ne!(world.receipts("switch")[0]["outcome"]["code"], "OK");
}
