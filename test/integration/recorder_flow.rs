use std::path::Path;
use std::process::Command;

use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{World, chat, cli, path};

const HELLO: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;

fn answer_of(program: &str, script: &str, words: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers").join(script);
    let done = Command::new(program).arg(script).arg("--json").args(words).output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[test]
fn calls_before_and_after_a_kill_are_one_chain_that_three_verifiers_read_alike() {
    let mut world = World::new(Script::model());
    let leaf = |world: &World| {
        let answer = world.send(&chat("flow", HELLO));
        answer.header("estoppel-receipt").unwrap().to_owned()
    };
    let mut leaves = vec![leaf(&world), leaf(&world)];
    world.daemon.kill_9();
    world.restart();
    leaves.push(leaf(&world));
    let bundle = world.seal("flow");
    world.stop();
    world.check_journal();

    let entries = cli(&["show", path(&bundle)]).1["data"]["entries"].as_array().unwrap().clone();
    let calls: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "call").collect();
    assert_eq!(calls.len(), leaves.len(), "each call that was answered is recorded once");
    for (seq, entry) in entries.iter().enumerate() {
        assert_eq!(entry["seq"], seq);
    }
    for (earlier, later) in leaves.iter().zip(calls.iter().skip(1)) {
        let index = later["seq"].as_u64().unwrap() as usize;
        let linked = entries[index]["prev"] == earlier.as_str();
        let between = entries[index - 1]["kind"] != "call";
        assert!(linked || between, "entry {index} does not follow {earlier}");
    }

    let trust = world.journal().join("trust.json");
    let words = ["--trust", path(&trust), path(&bundle)];
    let ours = cli(&[&["verify"], &words[..]].concat()).1["data"].clone();
    assert_eq!(ours["verdicts"]["authenticity"], "trusted");
    for (program, script) in [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")] {
        let theirs = answer_of(program, script, &words);
        for member in ["ok", "reason", "verdicts", "run", "entries"] {
            assert_eq!(theirs[member], ours[member], "{program}: {member}");
        }
    }
}

#[test]
fn what_was_recorded_is_in_the_journal_before_anything_is_sealed() {
    let world = World::new(Script::model());
    for n in 1..=3 {
        assert_eq!(world.send(&chat("open", HELLO)).status(), 200);
        let report = world.check_journal();
        assert_eq!(report["counters"]["calls"], n);
    }
}
