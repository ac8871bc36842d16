//! kill -9 at random moments under load: every call that a client saw complete has exactly one verifying receipt.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use estoppel_kit::http::Peer;
use estoppel_kit::{Seeded, seed};
use estoppel_stub::Script;

use crate::support::{World, chat, cli, path};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"plain"}]}"#;
const STREAMED: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a streamed one"}]}"#;

/// Calls until told to stop; gives the ids of those that it saw complete.
fn caller(gateway: std::net::SocketAddr, stop: &AtomicBool, seen: &Mutex<BTreeSet<String>>, streamed: bool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut peer) = Peer::connect(gateway) else { return };
        while !stop.load(Ordering::Relaxed) {
            let request = chat("kill", if streamed { STREAMED } else { PLAIN });
            let Ok(answer) = peer.exchange(&request) else { break };
            let terminated = !streamed || answer.text().contains("data: [DONE]");
            // An official client stops at the terminator, whatever the transport does after it.
            if answer.status() == 200 && terminated && (streamed || answer.end.is_none()) {
                seen.lock().unwrap().insert(answer.header("estoppel-call").unwrap().to_string());
            }
            if answer.end.is_some() {
                break;
            }
        }
    }
}

#[test]
fn every_call_that_a_client_saw_complete_has_one_receipt_after_kill_9() {
    let rounds: u32 = std::env::var("KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut chance = Seeded::new(seed());
    let mut world = World::new(Script::model());
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    for _ in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..8)
            .map(|n| {
                let (stop, seen, gateway) = (stop.clone(), seen.clone(), world.gateway);
                std::thread::spawn(move || caller(gateway, &stop, &seen, n % 2 == 0))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20 + chance.below(150) as u64));
        world.daemon.kill_9();
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        world.restart();
    }
    let bundle = world.seal("kill");
    let (code, report) =
        cli(&["verify", path(&bundle), "--trust", path(&world.journal().join("trust.json"))]);
    assert_eq!(code, 0, "{report}");
    let entries = cli(&["show", path(&bundle)]).1["data"]["entries"].as_array().unwrap().clone();
    let mut recorded = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == "call") {
        let call = entry["call"].as_str().unwrap().to_string();
        assert!(recorded.insert(call), "a call has two receipts: {entry}");
    }
    let seen = seen.lock().unwrap();
    let lost: Vec<_> = seen.difference(&recorded).collect();
    assert!(
        lost.is_empty(),
        "{} of {} calls that clients saw complete have no receipt",
        lost.len(),
        seen.len()
    );
    assert!(seen.len() > rounds as usize, "there was load: {}", seen.len());
    let arrived = world.upstream.hits().total();
    assert!(
        recorded.len() as u64 <= arrived,
        "{} receipts for {arrived} calls that arrived upstream",
        recorded.len()
    );
    world.stop();
    world.check_journal();
    println!(
        "kill -9 x {rounds}: {} calls seen complete, {} receipts, {arrived} upstream, 0 lost, 0 doubled",
        seen.len(),
        recorded.len()
    );
}
