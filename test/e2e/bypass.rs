//! Traffic that goes round the gateway: found in the provider's log, at a trap, or by others, and proven by the bundle of the
//! instance's own run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use estoppel_kit::http::{Peer, post, send};
use estoppel_kit::{Scratch, require_real, until};
use estoppel_stub::{Reply, Rule, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, chat, cli, path};

const HELLO: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
const DENIED: &str = r#"{"model":"denied","messages":[{"role":"user","content":"hello"}]}"#;

fn answer(id: Option<&str>) -> Reply {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "m-1",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
    });
    let reply = Reply::json(&body.to_string());
    match id {
        Some(id) => reply.header("x-request-id", id),
        None => reply,
    }
}

/// Answers that name their requests `req_0` and so on.
fn numbered() -> Script {
    let rule =
        |id: usize| Rule { times: Some(1), reply: answer(Some(&format!("req_{id}"))), ..Rule::default() };
    Script { rules: (0..8).map(rule).collect(), ..Script::default() }
}

fn direct(world: &World, body: &str) {
    let request = chat("none", body);
    assert_eq!(send(world.upstream.addr(), &request).unwrap().status(), 200);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the scripted upstream would tell of the calls that it has had, as OpenAI lists them.
fn provider_log(world: &World, scratch: &Scratch) -> PathBuf {
    let calls = world.upstream.hits().requests().len();
    let rows: Vec<Value> = (0..calls)
        .map(|call| {
            json!({
                "object": "chat.completion", "id": format!("chatcmpl-{call}"), "request_id": format!("req_{call}"),
                "created": now(), "model": "m-1", "usage": { "prompt_tokens": 3, "completion_tokens": 4 },
            })
        })
        .collect();
    scratch.write("log.json", json!({ "object": "list", "data": rows, "has_more": false }).to_string())
}

/// Exit code and what was found.
fn reconcile(world: &World, log: &Path, more: &[&str]) -> (i32, Value) {
    let (journal, admin) = (world.journal(), world.admin.to_string());
    let mut words =
        vec!["reconcile", "--provider-log", path(log), "--journal", path(&journal), "--admin", &admin];
    words.extend(["--window-s", "3600"]);
    words.extend(more);
    let (exit, said) = cli(&words);
    (exit, if said["data"].is_null() { said["error"].clone() } else { said["data"].clone() })
}

/// Stops the daemon and gives the entries of the instance's own run, once three verifiers have judged its bundle.
fn own_entries(world: &mut World) -> Vec<Value> {
    world.stop();
    let bundles =
        std::fs::read_dir(world.journal().join("bundles")).unwrap().map(|entry| entry.unwrap().path());
    let shown = bundles.filter(|bundle| bundle.extension().is_some_and(|end| end == "zip")).map(|bundle| {
        let entries = cli(&["show", path(&bundle)]).1["data"]["entries"].as_array().unwrap().clone();
        (bundle, entries)
    });
    let mut own = shown.filter(|(_, entries)| entries[0]["class"] == "instance");
    let (bundle, entries) = own.next().unwrap();
    assert!(own.next().is_none());
    let trust = world.journal().join("trust.json");
    let verified = cli(&["verify", path(&bundle), "--trust", path(&trust)]);
    assert_eq!(verified.0, 0, "{}", verified.1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers");
    for (tool, program) in [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")] {
        let Some(tool) = require_real(tool) else { continue };
        let mut command = Command::new(tool);
        command.arg(root.join(program)).args(["--json", "--trust"]).args([&trust, &bundle]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stdout));
    }
    entries
}

fn bypasses(entries: &[Value]) -> Vec<&Value> {
    entries.iter().filter(|entry| entry["kind"] == "bypass").collect()
}

#[test]
fn a_call_made_directly_at_the_upstream_is_a_bypass_event_in_the_bundle_of_the_instance_run() {
    let mut world = World::new(numbered());
    let scratch = Scratch::new("reconcile");
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
    direct(&world, HELLO);
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
    world.wait_for_calls("job", 2);
    let log = provider_log(&world, &scratch);
    let (exit, found) = reconcile(&world, &log, &["--format", "openai", "--record"]);
    assert_eq!(exit, 5, "{found}");
    assert_eq!(
        (&found["calls"], &found["pairs"]["certain"], &found["unnamed"]),
        (&json!(3), &json!(2), &json!(0))
    );
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{found}");
    assert_eq!((&findings[0]["ref"], &findings[0]["cause"]), (&json!("req_1"), &json!("no_receipt")));
    assert_eq!(found["recorded"], 1);
    assert_eq!(world.metric("estoppel_bypass_total{source=\"provider_log\"}"), Some(1.0));
    assert_eq!(world.metric("estoppel_bypass_total{source=\"canary\"}"), Some(0.0));
    let (exit, again) = reconcile(&world, &log, &["--format", "openai", "--record"]);
    assert_eq!((exit, &again["recorded"], &again["findings"][0]["recorded"]), (5, &json!(0), &json!(true)));
    let bundle = world.seal("job");
    let (journal, admin) = (world.journal(), world.admin.to_string());
    let words =
        ["reconcile", "--provider-log", path(&log), "--format", "openai", "--journal", path(&journal)];
    let with_both = [&words[..], &["--bundle", path(&bundle), "--admin", &admin]].concat();
    assert_eq!(cli(&with_both).1["data"]["findings"].as_array().unwrap().len(), 1);
    let receipts = world.receipts_in(&bundle);
    let named: Vec<&Value> = receipts.iter().map(|receipt| &receipt["ext"]["upstream_request"]).collect();
    assert_eq!(named, ["req_0", "req_2"]);
    let entries = own_entries(&mut world);
    let found = bypasses(&entries);
    assert_eq!(found.len(), 1, "{entries:?}");
    for (name, value) in
        [("source", "provider_log"), ("reason", "BYPASS"), ("ref", "req_1"), ("upstream", "stub")]
    {
        assert_eq!(found[0][name], value);
    }
    assert!(
        found[0]["at"].is_string() && found[0]["comment"].as_str().unwrap().contains("row 2 of log.json")
    );
}

#[test]
fn calls_that_look_alike_are_counted_and_a_blocked_one_answers_for_none() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: denied, when: { model: denied }, verdict: block, reason: MODEL_DENIED }\n";
    let script = Script { otherwise: answer(None), ..Script::default() };
    let world = World::with(script, &Setup { policy: policy.into(), ..Setup::default() });
    let scratch = Scratch::new("reconcile");
    for _ in 0..2 {
        assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
        direct(&world, HELLO);
    }
    assert_eq!(world.send(&chat("job", DENIED)).status(), 403);
    direct(&world, DENIED);
    world.wait_for_calls("job", 3);
    let table = |rows: &[(&str, u64)]| {
        let rows = rows.iter().map(|(model, output)| format!("{},{model},3,{output}\n", now()));
        scratch.write("log.csv", format!("when,model,in,out\n{}", rows.collect::<String>()))
    };
    let mapping = scratch
        .write("mapping.toml", "time = \"when\"\nmodel = \"model\"\ninput = \"in\"\noutput = \"out\"\n");
    let csv = ["--format", "csv", "--mapping", path(&mapping)];
    let log = table(&[("m-1", 4), ("m-1", 4), ("m-1", 4), ("m-1", 4), ("denied", 4)]);
    let (exit, found) = reconcile(&world, &log, &csv);
    assert_eq!((exit, &found["pairs"]["ambiguous"]), (5, &json!(2)), "{found}");
    let causes: Vec<&Value> = found["findings"].as_array().unwrap().iter().map(|row| &row["cause"]).collect();
    assert_eq!(causes, ["too_few_receipts", "too_few_receipts", "no_receipt"]);
    let log = table(&[("m-1", 4), ("m", 4)]);
    let (exit, found) = reconcile(&world, &log, &csv);
    assert_eq!((exit, &found["unnamed"]), (0, &json!(0)), "{found}");
    let least = [&csv[..], &["--sure", "likely"]].concat();
    let (exit, found) = reconcile(&world, &log, &least);
    assert_eq!((exit, &found["findings"][0]["cause"]), (5, &json!("unsure")), "{found}");
    let (exit, found) = reconcile(&world, &log, &[&csv[..], &["--to", "2020-01-01T00:00:00Z"]].concat());
    assert_eq!((exit, &found["outside"], &found["calls"]), (0, &json!(2), &json!(0)));
}

#[test]
fn usage_that_is_only_counted_is_held_against_all_receipts() {
    let world = World::new(Script { otherwise: answer(None), ..Script::default() });
    let scratch = Scratch::new("reconcile");
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
    direct(&world, HELLO);
    world.wait_for_calls("job", 1);
    let usage = |calls: u64, input: u64| {
        let result =
            json!({ "model": "m-1", "num_model_requests": calls, "input_tokens": input, "output_tokens": 4 });
        let bucket = json!({ "start_time": now() - 60, "end_time": now() + 60, "results": [result] });
        scratch.write("usage.json", json!({ "object": "page", "data": [bucket] }).to_string())
    };
    let (exit, found) = reconcile(&world, &usage(2, 6), &["--format", "openai"]);
    assert_eq!((exit, &found["findings"][0]["count"]), (5, &json!(1)), "{found}");
    assert_eq!(reconcile(&world, &usage(1, 3), &["--format", "openai"]).0, 0);
    let (exit, found) = reconcile(&world, &usage(1, 9), &["--format", "anthropic", "--record"]);
    assert_eq!((exit, &found["recorded"]), (5, &json!(1)), "{found}");
    assert_eq!(found["excesses"][0]["log"]["input"], 9);
    assert_eq!(found["excesses"][0]["receipts"]["input"], 3);
}

#[test]
fn what_cannot_be_compared_whole_is_refused() {
    let mut world = World::new(numbered());
    let scratch = Scratch::new("reconcile");
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
    world.wait_for_calls("job", 1);
    let whole = provider_log(&world, &scratch);
    let openai = ["--format", "openai"];
    let broken = scratch.write("broken.json", r#"{"data":[{"model":"m"}]}"#);
    let (exit, said) = reconcile(&world, &broken, &openai);
    assert_eq!((exit, said["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
    assert!(said["message"].as_str().unwrap().contains("row 1"), "{said}");
    let other = [&openai[..], &["--upstream", "other"]].concat();
    assert!(reconcile(&world, &whole, &other).1["message"].as_str().unwrap().contains("`stub`"));
    assert_eq!(reconcile(&world, &whole, &["--format", "csv"]).0, 6);
    assert_eq!(reconcile(&world, &whole, &openai).0, 0);
    world.stop();
    assert_eq!(reconcile(&world, &whole, &openai).0, 0, "no daemon is needed");
    let unheard = reconcile(
        &world,
        &scratch.write("direct.json", r#"{"request_id":"req_9"}"#),
        &["--format", "openai", "--record"],
    );
    assert_eq!(unheard.1["data"]["findings"][0]["ref"], "req_9", "what was found is told all the same");
    assert_eq!((unheard.0, unheard.1["code"].as_str()), (7, Some("ADMIN_UNREACHABLE")));
    let segments =
        std::fs::read_dir(world.journal().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let first = segments.min().unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.windows(5).position(|five| five == b"req_0").unwrap();
    bytes[at + 4] = b'7';
    std::fs::write(&first, bytes).unwrap();
    let (exit, said) = reconcile(&world, &whole, &openai);
    assert_eq!((exit, said["code"].as_str()), (2, Some("EVIDENCE_INVALID")), "{said}");
}

#[test]
fn whoever_comes_to_a_trap_is_refused_recorded_and_counted() {
    let routes =
        "[[route]]\nname = \"trap\"\nhost = \"api.openai.com\"\nupstream = \"stub\"\ncanary = true\n\n";
    let scratch = Scratch::new("trap");
    let told = scratch.join("ocsf.ndjson");
    let feed =
        format!("[[feeds]]\nname = \"siem\"\nformat = \"ocsf\"\nto = {{ file = {{ path = {told:?} }} }}\n");
    let setup = Setup { routes: routes.into(), config: feed, ..Setup::default() };
    let mut world = World::with(Script::model(), &setup);
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("job", HELLO).wire("api.openai.com")).unwrap();
    let answer = peer.read_answer().unwrap();
    assert_eq!(answer.status(), 403, "{}", answer.text());
    assert!(answer.text().contains("BYPASS"), "{}", answer.text());
    assert_eq!(world.upstream.hits().total(), 0);
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200, "others are not meant");
    assert_eq!(world.metric("estoppel_bypass_total{source=\"canary\"}"), Some(1.0));
    let finding = until("the finding in the feed", PATIENCE, || {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let mut documents = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.find(|document| document["class_uid"] == 2004)
    });
    assert_eq!(finding["finding_info"]["types"], json!(["bypass"]));
    assert_eq!(finding["unmapped"]["bypass"]["source"], "canary");
    let receipts = world.receipts("job");
    assert_eq!(
        (&receipts[0]["verdict"]["action"], &receipts[0]["verdict"]["reason"]),
        (&json!("block"), &json!("BYPASS"))
    );
    assert_eq!(receipts[0]["request"]["route"], "trap");
    let entries = own_entries(&mut world);
    let found = bypasses(&entries);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["source"], &found[0]["upstream"]), (&json!("canary"), &json!("stub")));
    assert_eq!(found[0]["ref"], receipts[0]["call"]);
    assert_eq!(found[0]["comment"], "route trap, POST by nobody proven");
}

#[test]
fn other_finders_report_by_the_admin_listener_and_only_what_an_entry_can_hold() {
    let mut world = World::new(Script::model());
    let tell = |said: &Value| {
        let answer = post(world.admin, "/bypasses", said.to_string()).unwrap();
        (answer.status(), serde_json::from_str::<Value>(&answer.text()).unwrap())
    };
    let found =
        json!({ "source": "database", "ref": "orders/7", "count": 2, "at": "2026-11-21T04:00:00.000000Z" });
    let (status, said) = tell(&found);
    assert_eq!(status, 200, "{said}");
    let leaf = said["receipt"].as_str().unwrap().to_owned();
    assert!(leaf.starts_with("leaf:"));
    assert_eq!(tell(&json!({ "source": "credential", "upstream": "openai" })).0, 200);
    for (wrong, status) in [
        (json!({ "source": "rumour" }), 400),
        (json!({ "ref": "x" }), 400),
        (json!({ "source": "database", "ref": "a\u{1b}b" }), 400),
        (json!({ "source": "database", "count": 0 }), 400),
        (json!({ "source": "database", "comment": "x".repeat(20_000) }), 413),
    ] {
        let (found, said) = tell(&wrong);
        assert_eq!(found, status, "{said}");
    }
    assert_eq!(world.metric("estoppel_bypass_total{source=\"database\"}"), Some(2.0));
    let entries = own_entries(&mut world);
    let found = bypasses(&entries);
    let sources: Vec<&Value> = found.iter().map(|entry| &entry["source"]).collect();
    assert_eq!(sources, ["database", "credential"]);
    assert_eq!((&found[0]["count"], &found[0]["ref"]), (&json!(2), &json!("orders/7")));
}
