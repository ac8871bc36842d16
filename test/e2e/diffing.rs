use std::path::Path;
use std::process::Command;

use estoppel_kit::Scratch;
use estoppel_stub::Script;
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, cli_binary, path};

const FULL: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: r } } }\nrules:\n  \
                    - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";

fn ask(text: &str) -> String {
    json!({ "model": "scripted-1", "messages": [{ "role": "user", "content": text }] }).to_string()
}

fn tool(name: &str) -> String {
    json!({ "model": "scripted-1", "messages": [], "tools": [{ "type": "function", "function": { "name": name } }] })
        .to_string()
}

/// A world with a bundle of each list of bodies.
fn runs(policy: &str, runs: [&[String]; 2]) -> (World, [std::path::PathBuf; 2]) {
    let world = World::with(Script::model(), &Setup { policy: policy.into(), ..Setup::default() });
    let bundles = [("one", runs[0]), ("two", runs[1])].map(|(name, bodies)| {
        bodies.iter().for_each(|body| drop(world.send(&chat(name, body))));
        world.seal(name)
    });
    (world, bundles)
}

fn changes(document: &Value) -> Vec<String> {
    let rows = document["data"]["diff"]["changes"].as_array().unwrap();
    rows.iter()
        .map(|row| format!("{} {}", row["op"].as_str().unwrap(), row["path"].as_str().unwrap()))
        .collect()
}

const AT: &str = "/calls/stub/openai_chat/openai.chat.completions/scripted-1";

#[test]
fn two_runs_differ_in_what_was_said_and_decided_and_not_in_ids_and_times() {
    let same = [ask("hello"), tool("search"), ask("bye")];
    let (world, [one, two]) = runs(FULL, [&same, &same]);
    let trust = world.journal().join("trust.json");
    let between = |from: &Path, to: &Path| cli(&["diff", path(from), path(to), "--trust", path(&trust)]);
    let (code, answer) = between(&one, &two);
    assert_eq!((code, changes(&answer)), (0, Vec::new()), "{answer:#}");
    assert_eq!(answer["data"]["diff"]["bodies"], json!({ "compared": 9, "unknown": 0 }));
    assert_eq!(answer["data"]["context"]["from"]["verified"], "trusted");

    for body in [ask("hello"), tool("shell")] {
        drop(world.send(&chat("three", &body)));
    }
    let (code, answer) = between(&one, &world.seal("three"));
    assert_eq!(code, 5);
    let found = changes(&answer);
    for expected in [
        format!("change {AT}/000002/verdict/action"),
        format!("change {AT}/000002/request/body/tools/0/function/name"),
        format!("remove {AT}/000002/response/upstream"),
        format!("remove {AT}/000003"),
    ] {
        assert!(found.contains(&expected), "{expected} in {found:#?}");
    }
    assert!(!found.iter().any(|row| row.contains("000001")), "{found:#?}");
}

#[test]
fn what_was_said_in_runs_without_stored_bodies_is_unknown_and_never_called_equal() {
    let (world, [one, two]) = runs(crate::support::OPEN, [&[ask("aaaa")], &[ask("bbbb")]]);
    let (code, answer) = cli(&["diff", path(&one), path(&two)]);
    let bodies = &answer["data"]["diff"]["bodies"];
    assert_eq!((code, bodies), (0, &json!({ "compared": 0, "unknown": 3 })), "{answer:#}");
    assert_eq!(answer["data"]["context"]["to"]["verified"], "self_asserted");
    let done = Command::new(cli_binary()).args(["diff", path(&one), path(&two)]).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("3 of which nobody can say"), "{said}");

    let journal = world.journal();
    let (code, answer) = cli(&["diff", path(&one), path(&journal), "--run", "one"]);
    assert_eq!(
        (code, &answer["data"]["diff"]["bodies"]["compared"]),
        (0, &json!(3)),
        "one run, one key: {answer:#}"
    );
    assert_eq!(cli(&["diff", path(&one), path(&two), "--run", "one"]).0, 6, "neither is a journal");
    let (code, answer) = cli(&["diff", path(&one), path(&journal)]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{answer}");
    let (code, answer) = cli(&["diff", path(&journal), path(&journal), "--run", "none"]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("RUN_UNKNOWN")), "{answer}");
    assert_eq!(cli(&["diff", path(&journal), path(&journal)]).0, 0);
}

#[test]
fn what_does_not_verify_is_not_compared_unless_it_is_asked_for_and_then_it_is_said() {
    let (_world, [one, two]) = runs(FULL, [&[ask("hello")], &[ask("hello")]]);
    let scratch = Scratch::new("forged");
    let mut bytes = std::fs::read(&two).unwrap();
    let at = bytes.windows(17).position(|part| part == br#""action":"allow","#).unwrap();
    bytes[at + 10..at + 15].copy_from_slice(b"block");
    let forged = scratch.write("forged.pef.zip", &bytes);
    let (code, answer) = cli(&["diff", path(&one), path(&forged)]);
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("EVIDENCE_INVALID")), "{answer}");
    for length in [0, 1, 30, bytes.len() / 2, bytes.len() - 1] {
        let cut = scratch.write("cut.pef.zip", &bytes[..length]);
        assert_eq!(cli(&["diff", path(&one), path(&cut)]).0, 2, "{length} bytes");
        assert_eq!(cli(&["diff", path(&one), path(&cut), "--unverified"]).0, 6, "{length} bytes");
    }
    let unverified = ["diff", path(&two), path(&two), "--unverified"];
    let (code, answer) = cli(&unverified);
    assert_eq!((code, &answer["data"]["context"]["from"]["verified"]), (0, &json!("no")), "{answer}");
    let done = Command::new(cli_binary()).args(unverified).output().unwrap();
    assert!(String::from_utf8(done.stdout).unwrap().contains("NOT VERIFIED"));
}

#[test]
fn the_document_is_the_same_in_every_place_and_language_and_another_program_finds_its_digest() {
    let (world, [one, two]) = runs(FULL, [&[ask("hello"), tool("search")], &[ask("hallo"), tool("shell")]]);
    let scratch = Scratch::new("same");
    let elsewhere = scratch.join("elsewhere.pef.zip");
    std::fs::copy(&one, &elsewhere).unwrap();
    let written = |from: &Path, name: &str, language: &str| {
        let out = scratch.join(name);
        let done = Command::new(cli_binary())
            .args(["diff", path(from), path(&two), "--out", path(&out)])
            .envs([("LC_ALL", language), ("LANG", language), ("TZ", "Asia/Kathmandu")])
            .current_dir(world.scratch.path())
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(5), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(out).unwrap()
    };
    let first = written(&one, "first.json", "C");
    assert!(first == written(&elsewhere, "second.json", "tr_TR.UTF-8"));
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers/python/diff_check.py");
    let checked = |name: &str| {
        let done =
            Command::new("python3").args(["-I", "-S"]).arg(&check).arg(scratch.join(name)).output().unwrap();
        done.status.code()
    };
    assert_eq!(checked("first.json"), Some(0));
    let altered = String::from_utf8(first).unwrap().replace(r#""to":"block""#, r#""to":"allow""#);
    scratch.write("altered.json", altered);
    assert_eq!(checked("altered.json"), Some(2));
    let out = scratch.join("first.json");
    let (code, answer) = cli(&["diff", path(&one), path(&two), "--out", path(&out)]);
    assert_eq!((code, &answer["error"]["code"]), (8, &json!("OUTPUT_EXISTS")), "{answer}");
}

#[test]
fn names_from_evidence_neither_draw_on_the_terminal_nor_become_markup() {
    let hostile = |text: &str| {
        json!({ "model": format!("m\u{1b}[2J\u{202e}<script>alert('{text}')</script>"), "messages": [] })
            .to_string()
    };
    let (_world, [one, two]) = runs(FULL, [&[hostile("a")], &[hostile("b")]]);
    let scratch = Scratch::new("hostile");
    let page = scratch.join("diff.html");
    let done = Command::new(cli_binary())
        .args(["diff", path(&one), path(&two), "--html", path(&page)])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(5));
    let said = String::from_utf8(done.stdout).unwrap();
    let page = String::from_utf8(std::fs::read(page).unwrap()).unwrap();
    for text in [&said, &page] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    }
    assert!(said.contains(r"[2J\u202e<script>"), "{said}");
    assert!(!page.contains("<script") && page.contains(r"[2J\u202e&lt;script&gt;"), "{page}");
}

fn schema(columns: &Value) -> String {
    let parts = [
        "constraints",
        "extensions",
        "functions",
        "indexes",
        "namespaces",
        "policies",
        "relations",
        "rules",
        "sequences",
        "triggers",
        "types",
        "views",
    ];
    let mut all = json!({ "columns": { "public": { "orders": columns } } });
    parts.iter().for_each(|part| all[*part] = json!({}));
    json!({ "format": "estoppel-schema/1", "parts": all, "uncovered": {} }).to_string()
}

#[test]
fn schemas_are_compared_object_by_object_and_the_order_of_columns_changes_nothing() {
    let scratch = Scratch::new("schemas");
    let at = |place: u64| json!({ "place": place, "type": "text" });
    let one = scratch.write("one.json", schema(&json!({ "a": at(1), "b": at(2) })));
    let turned = scratch.write("turned.json", schema(&json!({ "a": at(2), "b": at(1) })));
    let other = scratch.write("other.json", schema(&json!({ "a": at(1), "c": at(2) })));
    let (code, answer) = cli(&["diff", path(&one), path(&turned)]);
    assert_eq!((code, changes(&answer)), (0, Vec::new()));
    let ignored = json!([{ "entries": 2, "path": "/columns/*/*/*/place" }]);
    assert_eq!(answer["data"]["context"]["ignored"], ignored);
    let digest = |from: &Path| {
        let (code, answer) = cli(&["diff", path(from), path(&other)]);
        let found = ["remove /columns/public/orders/b", "add /columns/public/orders/c"];
        assert_eq!((code, changes(&answer)), (5, found.map(str::to_owned).to_vec()));
        answer["data"]["digest"].clone()
    };
    assert_eq!(digest(&one), digest(&turned));
    let further =
        scratch.write("n.json", r#"{"format":"estoppel-normalizers/1","paths":["/columns/*/*/*/type"]}"#);
    let (_, answer) = cli(&["diff", path(&one), path(&other), "--normalizers", path(&further)]);
    assert_eq!(answer["data"]["diff"]["changes"][0]["value"], json!({}));
    for wrong in ["{}", "{", r#"{"format":"estoppel-normalizers/1","paths":["a"]}"#] {
        let file = scratch.write("wrong.json", wrong);
        assert_eq!(cli(&["diff", path(&one), path(&one), "--normalizers", path(&file)]).0, 6, "{wrong}");
        assert_eq!(cli(&["diff", path(&one), path(&file)]).0, 6, "{wrong} is no schema");
    }
}
