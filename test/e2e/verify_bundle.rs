//! `estoppel verify` on what was sealed: good ones of every minor, and forgeries of one of our own.

use estoppel_kit::Scratch;
use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{World, chat, cli, path};

const HELLO: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;

#[test]
fn every_valid_vector_of_every_minor_verifies() {
    crate::published::check(|vector| vector.passes());
}

#[test]
fn a_bundle_is_trusted_by_its_own_instance_and_refused_by_another() {
    let (ours, other) = (World::new(Script::model()), World::new(Script::model()));
    assert_eq!(ours.send(&chat("mine", HELLO)).status(), 200);
    assert_eq!(other.send(&chat("theirs", HELLO)).status(), 200);
    let bundle = ours.seal("mine");
    let verdicts = |words: &[&str]| {
        let (exit, answer) = cli(words);
        (exit, answer["data"]["verdicts"]["authenticity"].clone())
    };
    assert_eq!(verdicts(&["verify", path(&bundle)]), (0, "self_asserted".into()));
    let trust = ours.journal().join("trust.json");
    assert_eq!(verdicts(&["verify", path(&bundle), "--trust", path(&trust)]), (0, "trusted".into()));
    let trust = other.journal().join("trust.json");
    assert_eq!(verdicts(&["verify", path(&bundle), "--trust", path(&trust)]), (2, "failed".into()));
}

/// Every string, number and boolean of a document, with something else in its place.
fn each_changed(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, inner)| {
                each_changed(inner).into_iter().map(move |changed| (name.clone(), changed))
            })
            .map(|(name, changed)| {
                let mut whole = value.clone();
                whole[&name] = changed;
                whole
            })
            .collect(),
        Value::Array(items) => (0..items.len())
            .flat_map(|at| each_changed(&items[at]).into_iter().map(move |changed| (at, changed)))
            .map(|(at, changed)| {
                let mut whole = value.clone();
                whole[at] = changed;
                whole
            })
            .collect(),
        Value::Number(number) => vec![number.as_u64().map_or(0, |number| number + 1).into()],
        Value::Bool(yes) => vec![(!yes).into()],
        Value::String(text) => vec![format!("{text}x").into()],
        Value::Null => vec![],
    }
}

#[test]
fn one_receipt_stands_alone_and_any_changed_field_is_refused() {
    let world = World::new(Script::model());
    assert_eq!(world.send(&chat("alone", HELLO)).status(), 200);
    let bundle = world.seal("alone");
    let scratch = Scratch::new("receipt");
    let export = scratch.join("r.json");
    assert_eq!(cli(&["show", path(&bundle), "--call", "1", "--export", path(&export)]).0, 0);
    let trust = world.journal().join("trust.json");
    assert_eq!(cli(&["verify", path(&export), "--trust", path(&trust)]).0, 0);
    let envelope: Value = serde_json::from_slice(&std::fs::read(&export).unwrap()).unwrap();
    let payload = estoppel_evidence::envelope::from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let forgeries = each_changed(&serde_json::from_slice(&payload).unwrap());
    assert!(forgeries.len() > 40, "{} fields", forgeries.len());
    for forgery in forgeries {
        let mut forged = envelope.clone();
        let line = serde_json::to_vec(&forgery).unwrap();
        forged["payload"] = estoppel_evidence::envelope::base64(&line).into();
        let file = scratch.write("forged.json", forged.to_string());
        assert_eq!(cli(&["verify", path(&file), "--trust", path(&trust)]).0, 2, "{forgery}");
    }
}

#[test]
fn a_receipt_is_verified_by_its_key_alone() {
    let world = World::new(Script::model());
    assert_eq!(world.send(&chat("key", HELLO)).status(), 200);
    let bundle = world.seal("key");
    let scratch = Scratch::new("key");
    let export = scratch.join("r.json");
    assert_eq!(cli(&["show", path(&bundle), "--call", "1", "--export", path(&export)]).0, 0);
    let trust: Value =
        serde_json::from_slice(&std::fs::read(world.journal().join("trust.json")).unwrap()).unwrap();
    let pem = |of: &str| {
        let key = trust["keys"].as_array().unwrap().iter().find(|key| key["use"] == of).unwrap();
        let text = key["spki"].as_str().unwrap();
        scratch.write(of, format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"))
    };
    assert_eq!(cli(&["verify", path(&export), "--key", path(&pem("receipt"))]).0, 0);
    assert_eq!(cli(&["verify", path(&export), "--key", path(&pem("manifest"))]).0, 2);
}

#[test]
fn an_origin_counts_for_a_checkpoint_and_is_refused_with_all_else() {
    let mut world = World::new(Script::model());
    assert_eq!(world.send(&chat("origin", HELLO)).status(), 200);
    let bundle = world.seal("origin");
    let export = world.scratch.join("r.json");
    assert_eq!(cli(&["show", path(&bundle), "--call", "1", "--export", path(&export)]).0, 0);
    world.stop();
    let (journal, trust) = (world.journal(), world.journal().join("trust.json"));
    for subject in [&bundle, &journal, &export] {
        let (exit, answer) =
            cli(&["verify", path(subject), "--trust", path(&trust), "--origin", "localhost/other/1"]);
        assert_eq!((exit, &answer["error"]["code"]), (6, &"ARGUMENT_INVALID".into()), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("--origin"), "{answer}");
    }
    let note = journal.join("checkpoint");
    let of = |origin| cli(&["verify", path(&note), "--trust", path(&trust), "--origin", origin]).0;
    assert_eq!((of("localhost/e2e/1"), of("localhost/other/1")), (0, 2));
}

#[test]
fn a_kept_checkpoint_that_is_none_fails_and_is_named() {
    let mut world = World::new(Script::model());
    assert_eq!(world.send(&chat("kept", HELLO)).status(), 200);
    world.stop();
    let (journal, kept) = (world.journal(), world.scratch.write("kept", "no checkpoint\n"));
    let (exit, answer) = cli(&["verify", path(&journal), "--against", path(&kept)]);
    assert_eq!((exit, &answer["data"]["reason"]), (2, &"CHECKPOINT_MALFORMED".into()), "{answer}");
    let detail = answer["data"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("the checkpoint from elsewhere: "), "{detail}");
    std::fs::write(journal.join("checkpoint"), "no checkpoint\n").unwrap();
    let (exit, answer) = cli(&["verify", path(&journal), "--against", path(&kept)]);
    let detail = answer["data"]["detail"].as_str().unwrap();
    assert!(exit == 2 && detail.starts_with("the file `checkpoint`: "), "{detail}");
    let missing = cli(&["verify", path(&journal), "--against", path(&world.scratch.join("none"))]);
    assert_eq!((missing.0, &missing.1["error"]["code"]), (6, &"FILE_UNREADABLE".into()));
}
