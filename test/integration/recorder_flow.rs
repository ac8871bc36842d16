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

const HEADER_BYTES: usize = 256;
const FRAME_HEAD_BYTES: usize = 17;

/// The segment's frames as they are, and the header before them.
fn frames(segment: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (header, mut rest) = segment.split_at(HEADER_BYTES);
    let mut frames = Vec::new();
    while let Some(length) =
        rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize).filter(|n| *n > 0)
    {
        let (frame, after) = rest.split_at(FRAME_HEAD_BYTES + length);
        frames.push(frame);
        rest = after;
    }
    (header, frames)
}

#[test]
fn a_line_of_the_journal_that_is_dropped_swapped_repeated_or_cut_off_is_refused_at_its_place() {
    let mut world = World::new(Script::model());
    for _ in 0..4 {
        assert_eq!(world.send(&chat("tampered", HELLO)).status(), 200);
    }
    world.stop();
    world.check_journal();
    let file = world.journal().join("segments/00000000000000000000.seg");
    let whole = std::fs::read(&file).unwrap();
    let (header, frames) = frames(&whole);
    let is_call = |frame: &&[u8]| frame.windows(13).any(|part| part == br#""kind":"call""#);
    let first = frames.iter().position(is_call).unwrap();
    let second = first + 1 + frames[first + 1..].iter().position(is_call).unwrap();
    let check = |what: &str, changed: Vec<&[u8]>| {
        let mut bytes = [header, &changed.concat()].concat();
        bytes.resize(whole.len().max(bytes.len()), 0);
        std::fs::write(&file, bytes).unwrap();
        let (exit, answer) = cli(&["verify", path(&world.journal())]);
        let data = &answer["data"];
        assert_eq!(exit, 2, "{what}: {answer}");
        // Frames are numbered too: the place in the log shows before the place in the run.
        assert!(data["index"].is_u64(), "{what}: {data}");
    };
    check("dropped", [&frames[..first], &frames[first + 1..]].concat());
    let mut swapped = frames.clone();
    swapped.swap(first, second);
    check("swapped", swapped);
    check("repeated", [&frames[..=first], &frames[first..]].concat());
    check("cut off", frames[..second].to_vec());
    std::fs::write(&file, &whole).unwrap();
    world.check_journal();
}
