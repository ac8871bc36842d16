//! Two runs of one scenario: in which call they part first, and why.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::Script;
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, cli_binary, path};

fn setup(storage: &str, rules: &str) -> Setup {
    let policy = format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {storage} }}\n{rules}"
    );
    Setup { policy, ..Setup::default() }
}

const FULL: &str = "{ full: { reason: replay } }";

fn ask(model: &str, text: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

/// One run, in which these were asked in turn.
fn run(world: &World, name: &str, bodies: &[String]) -> PathBuf {
    for body in bodies {
        assert!(matches!(world.send(&chat(name, body)).status(), 200 | 403), "{body}");
    }
    world.seal(name)
}

fn compare(one: &Path, two: &Path) -> (i32, Value) {
    let (code, answer) = cli(&["replay", "compare", path(one), path(two)]);
    (code, answer["data"].clone())
}

#[test]
fn the_first_call_in_which_two_runs_part_is_said_with_its_cause() {
    let world = World::with(Script::model(), &setup(FULL, ""));
    let asked =
        |model: &str, second: &str| [ask("scripted-1", "a"), ask("scripted-1", "a"), ask(model, second)];
    let before = run(&world, "before", &asked("scripted-1", "b"));
    let same = run(&world, "same", &asked("scripted-1", "b"));
    let prompt = run(&world, "prompt", &asked("scripted-1", "c"));
    let model = run(&world, "model", &asked("scripted-2", "b"));
    let shorter = run(&world, "shorter", &asked("scripted-1", "b")[..2]);
    let (code, found) = compare(&before, &same);
    assert_eq!(
        (code, &found["result"], &found["calls"]["equal"]),
        (0, &json!("equal"), &json!(3)),
        "{found:#}"
    );
    for (other, cause) in [(&prompt, "PROMPT"), (&model, "MODEL"), (&shorter, "CALL_MISSING")] {
        let (code, found) = compare(&before, other);
        assert_eq!(
            (code, &found["result"], &found["first"]["cause"]),
            (5, &json!("parted"), &json!(cause)),
            "{found:#}"
        );
        assert_eq!(
            (&found["first"]["from"]["place"], &found["first"]["from"]["seq"]),
            (&json!(2), &json!(3))
        );
        assert_eq!(&found["calls"]["equal"], 2);
    }
    let (_, mirrored) = compare(&shorter, &before);
    assert_eq!(mirrored["first"]["cause"], "CALL_ADDED");
    let told = Command::new(cli_binary())
        .args(["replay", "compare", path(&before), path(&prompt)])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("first       PROMPT: the model was told something else"), "{told}");
    assert!(told.contains("/request/body/messages/0/content"), "{told}");
    let scratch = Scratch::new("compare");
    let written = |name: &str| {
        let out = scratch.join(name);
        assert_eq!(cli(&["replay", "compare", path(&before), path(&model), "--out", path(&out)]).0, 5);
        std::fs::read(out).unwrap()
    };
    assert!(written("one.json") == written("two.json"));
}

#[test]
fn another_path_parts_for_whoever_has_the_keys_and_names_it() {
    let world = World::with(Script::model(), &setup(FULL, ""));
    let ask_at = |name: &str, query: &str| {
        let target = format!("/v1/chat/completions{query}");
        let request = Request::new("POST", &target).header("content-type", "application/json");
        let request = request.header("estoppel-run", name).body(ask("scripted-1", "a"));
        assert_eq!(world.send(&request).status(), 200, "{target}");
        world.seal(name)
    };
    let (before, same, other) = (ask_at("before", ""), ask_at("same", ""), ask_at("other", "?beta=1"));
    let keys = world.journal().join("keys");
    let plain = ["--target", "/v1/chat/completions"];
    let with = |to: &Path, more: &[&str]| {
        let (code, answer) = cli(&[&["replay", "compare", path(&before), path(to)], more].concat());
        (code, if answer["error"].is_null() { answer["data"].clone() } else { answer["error"].clone() })
    };
    let not_compared = |found: &Value| found["targets"]["not_compared"].clone();
    let (code, found) = with(&other, &[]);
    assert_eq!((code, not_compared(&found)), (0, json!(1)), "by receipts alone nobody can say: {found:#}");
    let by_keys = [&plain[..], &["--keys", path(&keys)]].concat();
    let (code, found) = with(&same, &by_keys);
    assert_eq!((code, not_compared(&found)), (0, json!(0)), "{found:#}");
    let (code, found) = with(&other, &by_keys);
    assert_eq!((code, &found["first"]["cause"]), (5, &json!("TARGET")), "{found:#}");
    assert_eq!(found["first"]["at"], json!(["/request/target_tag"]));
    let scratch = Scratch::new("targets");
    let disclosed = |bundle: &Path, name: &str| {
        let file = scratch.join(name);
        let words =
            ["keys", "disclose", path(bundle), "--dir", path(&keys), "--scope", "run", "--out", path(&file)];
        let (code, said) = cli(&words);
        assert_eq!(code, 0, "{said}");
        file
    };
    let (one, two) = (disclosed(&before, "one.key"), disclosed(&other, "two.key"));
    let by_disclosures = [&plain[..], &["--disclosure", path(&one), "--disclosure", path(&two)]].concat();
    assert_eq!(with(&other, &by_disclosures).1["first"]["cause"], "TARGET");
    let swapped = [&plain[..], &["--disclosure", path(&two), "--disclosure", path(&one)]].concat();
    for (more, code) in [
        (&swapped, "KEY_INVALID"),
        (&plain.to_vec(), "ARGUMENT_INVALID"),
        (&[&plain[..], &["--disclosure", path(&one)]].concat(), "ARGUMENT_INVALID"),
        (&vec!["--target", "v1", "--keys", path(&keys)], "ARGUMENT_INVALID"),
    ] {
        let (exit, error) = with(&other, more);
        assert_eq!((exit, &error["code"]), (6, &json!(code)), "{more:?} {error}");
    }
}

#[test]
fn a_call_that_another_policy_refuses_parts_because_of_the_policy() {
    let asked = [ask("scripted-1", "a"), ask("scripted-2", "a")];
    let before = World::with(Script::model(), &setup(FULL, ""));
    let rule =
        "rules:\n- { id: no-two, when: { model: scripted-2 }, verdict: block, reason: MODEL_DENIED }\n";
    let after = World::with(Script::model(), &setup(FULL, rule));
    let (one, two) = (run(&before, "r", &asked), run(&after, "r", &asked));
    let (code, found) = compare(&one, &two);
    assert_eq!((code, &found["first"]["cause"]), (5, &json!("POLICY")), "{found:#}");
    assert_eq!((&found["first"]["from"]["place"], &found["policies"]), (&json!(1), &json!("other")));
    assert_eq!(found["calls"]["equal"], 1, "another hash alone is no difference");
}

#[test]
fn without_stored_bodies_calls_are_undecided_and_never_equal() {
    let world = World::with(Script::model(), &setup("hmac", ""));
    let asked = [ask("scripted-1", "a")];
    let (one, two) = (run(&world, "one", &asked), run(&world, "two", &asked));
    let (code, found) = compare(&one, &two);
    assert_eq!(
        (code, &found["result"], &found["calls"]["undecided"]),
        (5, &json!("undecided"), &json!(1)),
        "{found:#}"
    );
    assert_eq!(found["first_undecided"]["seq"], 1);
    let (code, found) = compare(&one, &one);
    assert_eq!((code, &found["result"]), (0, &json!("equal")), "tags of one run can be compared: {found:#}");
}

#[test]
fn nothing_is_compared_that_does_not_verify() {
    let world = World::with(Script::model(), &setup(FULL, ""));
    let one = run(&world, "one", &[ask("scripted-1", "a")]);
    let scratch = Scratch::new("compare");
    let mut bytes = std::fs::read(&one).unwrap();
    let at = bytes.windows(6).position(|part| part == b"\"call\"").unwrap();
    bytes[at + 1] ^= 1;
    let altered = scratch.write("altered.pef.zip", bytes);
    for (from, to) in [(&one, &altered), (&altered, &one)] {
        let (code, answer) = cli(&["replay", "compare", path(from), path(to)]);
        assert_eq!((code, &answer["error"]["code"]), (2, &json!("EVIDENCE_INVALID")), "{answer}");
        let hint = answer["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("estoppel verify") && !hint.contains("--unverified"), "{hint}");
    }
    let trust = world.journal().join("trust.json");
    for (more, is_told) in [(&[][..], true), (&["--trust", path(&trust)], false)] {
        let words = [&["replay", "compare", path(&one), path(&one)], more].concat();
        let told = Command::new(cli_binary()).args(words).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert_eq!(told.contains("nobody has vouched for the keys"), is_told, "{told}");
    }
    let (code, answer) = cli(&["replay", "compare", path(&one), path(scratch.path())]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{answer}");
}
