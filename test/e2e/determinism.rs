//! Cutting the same bytes anywhere, in either direction, changes no output byte, digest or fact; and a run has one bundle,
//! byte for byte.

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Framing, Reply, Script, Split};
use serde_json::Value;

use crate::support::{PATIENCE, World, chat, cli};

const STREAM: &str = "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\u{e9}\"}}]}\n\n: ping\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\r\n\r\ndata: [DONE]\n\n";
const ANSWER: &str = "{\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"h\u{e9}\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}";
const ASK: &str = "{\"model\":\"m\u{fc}\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}";

/// What of a receipt must not depend on how bytes were cut.
fn essence(receipt: &Value) -> Value {
    let mut out = receipt.clone();
    for name in ["call", "seq", "prev", "ts", "mono_us", "time"] {
        out.as_object_mut().unwrap().remove(name);
    }
    for pointer in ["/request", "/response/client", "/response/upstream"] {
        // Commitments are per call by design.
        out.pointer_mut(pointer).and_then(Value::as_object_mut).map(|object| object.remove("commit"));
    }
    for name in ["first_us", "last_us", "root", "nodes"] {
        // The stream's tree is keyed per call by design; its size is compared.
        out.pointer_mut("/sse").and_then(Value::as_object_mut).map(|object| object.remove(name));
    }
    out
}

/// Gives what they have in common.
pub fn assert_all_alike(world: &World, run: &str, count: usize) -> Value {
    let receipts = world.receipts(run);
    assert_eq!(receipts.len(), count);
    let first = essence(&receipts[0]);
    assert_eq!(first["outcome"]["complete"], true);
    for receipt in &receipts[1..] {
        assert_eq!(essence(receipt), first);
    }
    first
}

/// A rule a split: each request takes the next. In two pieces it is cut every `step` bytes.
pub fn answers(body: &str, kind: &str, framing: Framing, step: usize) -> (Script, usize) {
    let mut script = Script::default();
    let splits: Vec<Split> = [1, 2, 3, 7, 64]
        .map(|bytes| Split::Each { bytes })
        .into_iter()
        .chain((1..body.len() as u64).step_by(step).map(|at| Split::At { offsets: vec![at] }))
        .chain([Split::Whole])
        .collect();
    let count = splits.len();
    for split in splits {
        let reply =
            Reply::new(Body::Text(body.into())).header("content-type", kind).framing(framing).split(split);
        script = script.on(estoppel_stub::Rule::any("", reply).times(1));
    }
    (script, count)
}

#[test]
fn streams_cut_anywhere_give_the_same_bytes_and_receipts() {
    let (script, count) = answers(STREAM, "text/event-stream", Framing::Chunked, 5);
    let world = World::new(script);
    for _ in 0..count {
        assert_eq!(world.send(&chat("sse", ASK)).text(), STREAM);
    }
    assert_all_alike(&world, "sse", count);
}

#[test]
fn json_answers_cut_anywhere_give_the_same_bytes_and_receipts() {
    for (run, framing) in [("whole", Framing::ContentLength), ("chunked", Framing::Chunked)] {
        let (script, count) = answers(ANSWER, "application/json", framing, 5);
        let world = World::new(script);
        for _ in 0..count {
            assert_eq!(world.send(&chat(run, ASK)).text(), ANSWER);
        }
        assert_all_alike(&world, run, count);
    }
}

#[test]
fn requests_cut_anywhere_give_the_same_bytes_and_receipts() {
    let world = World::new(Script::model());
    let wire = chat("asks", ASK).wire(&world.gateway.to_string());
    let body_at = wire.len() - ASK.len();
    let mut count = 0;
    for at in (1..ASK.len()).step_by(4) {
        let mut peer = Peer::connect(world.gateway).unwrap();
        peer.send(&wire[..body_at + at]).unwrap();
        peer.send(&wire[body_at + at..]).unwrap();
        assert_eq!(peer.read_answer().unwrap().status(), 200);
        count += 1;
    }
    let pieces: Vec<&[u8]> = ASK.as_bytes().chunks(1).collect();
    let request = Request::new("POST", "/v1/chat/completions")
        .header("content-type", "application/json")
        .header("estoppel-run", "asks")
        .chunks(&pieces);
    assert_eq!(world.send(&request).status(), 200);
    count += 1;
    let bodies: std::collections::BTreeSet<Vec<u8>> =
        world.upstream.hits().requests().iter().map(|seen| seen.body.to_vec()).collect();
    assert_eq!(bodies, [ASK.as_bytes().to_vec()].into());
    assert_all_alike(&world, "asks", count);
}

#[test]
fn a_sealed_run_takes_no_second_seal_and_its_bundle_never_changes() {
    let world = World::new(Script::model());
    assert_eq!(world.send(&chat("once", ASK)).status(), 200);
    let bundle = world.seal("once");
    let bytes = std::fs::read(&bundle).unwrap();
    let again = cli(&["seal", "once", "--admin", &world.admin.to_string()]);
    assert_ne!(again.0, 0);
    assert_eq!(world.send(&chat("once", ASK)).status(), 200);
    let second = world.seal("once");
    assert_ne!(bundle, second, "a later call of that name is another run");
    assert_eq!(std::fs::read(&bundle).unwrap(), bytes, "a sealed bundle never changes");
}

#[test]
fn a_bundle_that_a_crash_took_is_made_again_byte_for_byte() {
    let mut world = World::new(Script::model());
    for _ in 0..3 {
        assert_eq!(world.send(&chat("lost", ASK)).status(), 200);
    }
    let bundle = world.seal("lost");
    let bytes = std::fs::read(&bundle).unwrap();
    world.stop();
    std::fs::remove_file(&bundle).unwrap();
    std::fs::remove_file(world.journal().join("bundled")).unwrap();
    world.restart();
    let again = estoppel_kit::until("the bundle", PATIENCE, || std::fs::read(&bundle).ok());
    assert!(again == bytes, "the bytes differ");
}
