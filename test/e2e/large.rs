//! Bodies of any size, held against contracts in constant memory. `LARGE_MIB=1024` for the full size.

use std::io::Read as _;

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Framing, Remember, Reply, Script};

use crate::support::{PATIENCE, Setup, World};

/// Most that a large body may add to the daemon's memory; most of it are the nodes of a stream of events.
const GROWTH_MAX: u64 = 24 << 20;

const CONTRACTS: &str = r#"version: 1
name: large
contracts:
  rows:
    csv: '{"version":1,"header":"absent","columns":[{"name":"id","type":"integer"},{"name":"note","type":"string","max_length":40},{"name":"when","type":"date"}]}'
  value: { json: '{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}' }
  list: { json: '{"type":"array","items":{"type":"string","maxLength":99}}' }
  any: { json: '{}' }
limits: { response_bytes_max: 1073741824, held_bytes_max: 65536, total_ms: 3600000 }
defaults: { verdict: allow, judge: JUDGE }
"#;

fn mib() -> u64 {
    std::env::var("LARGE_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Most memory since the last [`forget`].
fn peak(world: &World) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", world.daemon.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn forget(world: &World) {
    std::fs::write(format!("/proc/{}/clear_refs", world.daemon.id()), "5").unwrap();
}

/// Bytes of the answer, head included, as they are read and let go.
fn drain(world: &World) -> u64 {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.set_patience(PATIENCE * 90).unwrap();
    let request = Request::new("GET", "/large").header("estoppel-run", "large").header("connection", "close");
    peer.send(&request.wire("localhost")).unwrap();
    let (mut stream, mut bytes, mut buffer) = (peer.stream(), 0, vec![0; 1 << 16]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        bytes += count as u64;
    }
    bytes
}

fn world(judge: &str, kind: &str, body: Body) -> World {
    let reply = Reply::new(body).header("content-type", kind).framing(Framing::Chunked);
    let script = Script { remember: Remember { requests: 0, body_bytes: 0 }, ..Script::always(reply) };
    World::with(script, &Setup { policy: CONTRACTS.replace("JUDGE", judge), ..Setup::default() })
}

fn repeat(text: &str, bytes: u64) -> Body {
    Body::Repeat { text: text.into(), times: bytes / text.len() as u64 }
}

/// The body passes whole, judged, and takes no memory of its own.
#[expect(clippy::print_stdout, reason = "the figure is what one runs it for")]
fn passes(judge: &str, kind: &str, body: Body, bytes: u64, units: Option<u64>) {
    let world = world(judge, kind, body);
    forget(&world);
    let before = peak(&world);
    assert!(drain(&world) > bytes);
    world.wait_for_calls("large", 1);
    let growth = peak(&world).saturating_sub(before);
    println!("{kind}, {} MiB: {} KiB more than {}", bytes >> 20, growth >> 10, before >> 10);
    assert!(growth < GROWTH_MAX, "{kind}: {growth} bytes more");
    let receipt = world.receipts("large").remove(0);
    assert_eq!(receipt["outcome"]["complete"], true, "{receipt}");
    assert_eq!(receipt["evaluated"]["response"]["state"], "judged", "{receipt}");
    assert_eq!(receipt["response"]["client"]["bytes"], bytes, "{receipt}");
    if let Some(units) = units {
        assert_eq!(receipt["sse"]["units"], units, "{receipt}");
    }
}

#[test]
fn csv_of_any_length_is_judged_in_constant_memory() {
    let row = "1234567,a note of some length,2026-11-21\r\n";
    let bytes = (mib() << 20) / row.len() as u64 * row.len() as u64;
    passes("{ answer: rows }", "text/csv", repeat(row, bytes), bytes, None);
}

#[test]
fn lines_of_any_number_are_judged_in_constant_memory() {
    let line = "{\"n\":1,\"text\":\"a line of some length\"}\n";
    let bytes = (mib() << 20) / line.len() as u64 * line.len() as u64;
    passes("{ answer: value }", "application/x-ndjson", repeat(line, bytes), bytes, None);
}

#[test]
fn a_million_events_are_judged_in_constant_memory() {
    let event = "data: {\"n\":1}\n\n";
    let events = if mib() >= 1024 { 1_000_000 } else { 200_000 };
    let bytes = events * event.len() as u64;
    passes("{ answer: value }", "text/event-stream", repeat(event, bytes), bytes, Some(events));
}

#[test]
fn one_json_text_of_50_mib_is_judged_in_constant_memory() {
    let element = "\"a string of some length in a long list\",";
    let body = format!("[{}\"\"]", element.repeat((50 << 20) / element.len()));
    let bytes = body.len() as u64;
    passes("{ answer: list, release: stream_and_cut }", "application/json", Body::Text(body), bytes, None);
}

#[test]
fn a_nest_of_200_000_is_refused_by_name() {
    let body = "[".repeat(200_000) + &"]".repeat(200_000);
    for (judge, status) in [("{ answer: any }", "422"), ("{ answer: any, release: stream_and_cut }", "200")] {
        let world = world(judge, "application/json", Body::Text(body.clone()));
        let mut peer = Peer::connect(world.gateway).unwrap();
        peer.send(&Request::new("GET", "/large").header("estoppel-run", "large").wire("localhost")).unwrap();
        let answer = peer.read_answer().unwrap();
        assert_eq!(answer.status().to_string(), status);
        assert!(answer.body.len() < body.len());
        world.wait_for_calls("large", 1);
        let receipt = world.receipts("large").remove(0);
        assert_eq!(receipt["verdict"]["reason"], "VALUE_MALFORMED", "{receipt}");
        assert_eq!(receipt["evaluated"]["response"]["defect"], "DEPTH_MAX", "{receipt}");
    }
}
