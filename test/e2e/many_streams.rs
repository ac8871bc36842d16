//! What a slow stream costs while it is open.

use estoppel_kit::http::Peer;
use estoppel_stub::{Body, Fault, Framing, Listen, Protocol, Reply, Script, Split, Stub};

use crate::support::{PATIENCE, Setup, World, chat};

const ASK: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
/// Most memory of the gateway for one open stream, both connections included: about seven of 8 KiB are hyper's buffers.
const STREAM_BYTES_MAX: u64 = 96 << 10;

fn slow(protocol: Protocol) -> Stub {
    let reply = Reply::new(Body::Text(EVENT.repeat(1_000)))
        .header("content-type", "text/event-stream")
        .split(Split::Each { bytes: EVENT.len() as u64 })
        .fault(Fault::Slow { bytes_per_write: EVENT.len() as u64, every_ms: 2_000 });
    let reply = if protocol == Protocol::Http1 { reply.framing(Framing::Chunked) } else { reply };
    let script =
        Script { remember: estoppel_stub::Remember { requests: 0, body_bytes: 0 }, ..Script::always(reply) };
    Stub::spawn_thread_on(Listen { protocol, ..Listen::default() }, script).unwrap()
}

/// Memory of the daemon that is its own or its share, in bytes.
fn pss(world: &World) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", world.daemon.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn ask(world: &World) -> Peer {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("streams", ASK).wire("gateway")).unwrap();
    peer
}

#[expect(clippy::print_stdout, reason = "the figure is what one runs it for")]
fn check_streams(protocol: Protocol, count: usize) {
    let keys = format!("connections_max = {count}\n");
    let keys = if protocol == Protocol::Http2 { keys + "http2 = \"always\"\n" } else { keys };
    let policy = format!("{}limits: {{ connect_ms: 60000 }}\n", crate::support::OPEN);
    let world = World::over(slow(protocol), &Setup { upstream: keys, policy, ..Setup::default() });
    drop(ask(&world).read_until(b"data: ").unwrap());
    world.wait_until_idle();
    let before = pss(&world);
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(ask(&world));
    }
    for peer in &mut peers {
        peer.set_patience(PATIENCE * 5).unwrap();
        peer.read_until(b"data: ").unwrap();
    }
    assert_eq!(world.metric("estoppel_calls_in_flight"), Some(count as f64));
    let each = pss(&world).saturating_sub(before) / count as u64;
    println!("{count} slow streams over {protocol:?}: {each} bytes each, {} MiB in all", pss(&world) >> 20);
    assert!(each <= STREAM_BYTES_MAX, "{each} bytes for each stream");
    drop(peers);
    estoppel_kit::until("nothing in flight", PATIENCE, || {
        (world.metric("estoppel_calls_in_flight") == Some(0.0)).then_some(())
    });
    world.wait_for_calls("streams", count as u64 + 1);
}

/// `ESTOPPEL_STREAMS` sets how many go to an HTTP/2 upstream; 10,000 need as many file descriptors here and there.
#[test]
fn slow_streams_stay_within_their_memory() {
    let many = std::env::var("ESTOPPEL_STREAMS").map_or(1_000, |count| count.parse().unwrap());
    check_streams(Protocol::Http1, 1_000);
    check_streams(Protocol::Http2, many);
}
