//! Policies that are asked about every call and change nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::http::Request;
use estoppel_kit::{Process, Scratch, until};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{OPEN, PATIENCE, Setup, World, chat, cli, daemon_binary, path, write_config};

const STRICT: &str = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n\
    - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";

/// A daemon with these shadow policies, in `<name>.yaml` beside its policy.
fn world(policy: &str, shadows: &[(&str, &str)], script: Script) -> (World, Scratch) {
    let scratch = Scratch::new("shadows");
    let config = shadows.iter().map(|(name, text)| {
        let file = scratch.write(format!("{name}.yaml"), text);
        format!("[[shadow]]\npath = {file:?}\n\n")
    });
    let setup = Setup { policy: policy.into(), config: config.collect(), ..Setup::default() };
    (World::with(script, &setup), scratch)
}

fn asks(tools: &[&str], stream: bool) -> String {
    let tool = |name: &&str| json!({ "type": "function", "function": { "name": name } });
    let mut body =
        json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] });
    if !tools.is_empty() {
        body["tools"] = tools.iter().map(tool).collect();
    }
    body.to_string()
}

/// What a receipt says of its shadow policies, without their hashes.
fn said(receipt: &Value) -> Vec<Value> {
    let without = |shadow: &Value| {
        let mut shadow = shadow.clone();
        let policy = shadow.as_object_mut().unwrap().remove("policy").unwrap();
        assert!(policy.as_str().unwrap().starts_with("sha256:"), "{policy}");
        shadow
    };
    receipt["shadow"].as_array().into_iter().flatten().map(without).collect()
}

fn allowed() -> Value {
    json!({ "state": "judged", "verdict": "allow" })
}

fn blocked(rule: &str, reason: &str) -> Value {
    json!({ "reason": reason, "rule": rule, "state": "judged", "verdict": "block" })
}

fn skipped(reason: &str) -> Value {
    json!({ "reason": reason, "state": "skipped" })
}

fn hash(receipt: &Value, index: usize) -> String {
    receipt["shadow"][index]["policy"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
}

#[test]
fn verdicts_are_in_the_receipt_the_bundle_and_the_metrics_and_change_nothing() {
    let lenient = OPEN.replace("name: test", "name: lenient");
    let (world, _files) = world(OPEN, &[("strict", STRICT), ("lenient", &lenient)], Script::model());
    for tools in [&["shell"][..], &["search"]] {
        assert_eq!(world.send(&chat("beside", &asks(tools, false))).status(), 200);
    }
    let bundle = world.seal("beside");
    let receipts = world.receipts_in(&bundle);
    assert_eq!(said(&receipts[0]), [blocked("no-shell", "TOOL_DENIED"), allowed()]);
    assert_eq!(said(&receipts[1]), [allowed(), allowed()]);
    assert_eq!(receipts[0]["verdict"], json!({ "action": "allow", "mode": "enforce" }));
    let verdicts = |verdict: &str, agrees: &str| {
        let labels =
            format!("agrees=\"{agrees}\",enforced=\"allow\",policy=\"candidate\",verdict=\"{verdict}\"");
        world.metric(&format!("estoppel_shadow_verdicts_total{{{labels}}}"))
    };
    assert_eq!((verdicts("block", "no"), verdicts("allow", "yes")), (Some(1.0), Some(1.0)));
    let mut archive = Command::new("unzip");
    let listed = archive.arg("-Z1").arg(&bundle).output().unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    for index in [0, 1] {
        let file = format!("policy/{}.json", hash(&receipts[0], index));
        assert!(files.lines().any(|name| name == file), "{file}: {files}");
    }
    let shown = Command::new(crate::support::cli_binary()).args(["show", path(&bundle)]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let row = format!("shadow {} block (TOOL_DENIED)", &hash(&receipts[0], 0)[..12]);
    assert!(shown.contains(&row), "{shown}");
}

/// CLY-6.1, small; `benches/beside.py` does it with 10,000.
#[test]
fn as_many_calls_are_blocked_with_shadow_policies_as_without() {
    let enforced = STRICT.replace("name: candidate", "name: enforced").replace("tool: shell", "tool: [bash]");
    let all = "version: 1\nname: nothing-goes\ndefaults: { verdict: block, on_not_evaluated: block }\n";
    let four: Vec<(String, String)> = (0..3)
        .map(|n| (format!("s{n}"), STRICT.replace("name: candidate", &format!("name: candidate-{n}"))))
        .chain([("all".into(), all.into())])
        .collect();
    let four: Vec<(&str, &str)> = four.iter().map(|(name, text)| (&**name, &**text)).collect();
    let outcome = |shadows: &[(&str, &str)]| -> Vec<(u16, String)> {
        let (world, _files) = world(&enforced, shadows, Script::model());
        let tools = ["search", "shell", "bash"];
        let requests = (0..120).map(|n| asks(&[tools[n % 3]], n % 4 == 0));
        let answers: Vec<_> = requests
            .map(|body| world.send(&chat("many", &body)))
            .map(|answer| (answer.status(), masked(&answer.text())))
            .collect();
        let receipts = world.receipts("many");
        let blocks = receipts.iter().filter(|receipt| receipt["verdict"]["action"] == "block").count();
        assert_eq!((receipts.len(), blocks), (120, 40));
        for receipt in &receipts {
            assert_eq!(said(receipt).len(), shadows.len());
            assert!(said(receipt).iter().all(|shadow| shadow["state"] == "judged"), "{receipt}");
        }
        answers
    };
    assert_eq!(outcome(&[]), outcome(&four));
}

/// An answer without what is new in each.
fn masked(text: &str) -> String {
    let mut hidden = String::new();
    for word in text.split('"') {
        let is_id = word.len() == 36 && word.matches('-').count() == 4;
        hidden.push_str(if is_id { "an id" } else { word });
        hidden.push('"');
    }
    hidden
}

const ARGUMENTS: &str = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: block }\nrules:\n\
    - { id: egress, when: { tool: fetch, destination_not: [good.example] }, verdict: block, reason: EGRESS_DENIED }\n\
    - { id: large, when: { tool: pay, arguments: [{ at: /amount, greater_than: 100 }] }, verdict: block, reason: TOO_MUCH }\n";

fn calling(name: &str, arguments: &str) -> Reply {
    let calls = Some(vec![ToolCall { name: name.into(), arguments: arguments.into() }]);
    Reply::model(ModelReply { calls, ..ModelReply::new(Dialect::ChatCompletions) })
}

#[test]
fn what_a_model_calls_is_judged_whole_and_streamed_though_nobody_else_looks() {
    let says = |text: &str, reply: Reply| Rule { body_contains: Some(text.into()), ..Rule::any("", reply) };
    let script = Script::always(Reply::model(ModelReply::new(Dialect::ChatCompletions)))
        .on(says("\"good\"", calling("fetch", r#"{"url":"http://good.example/"}"#)))
        .on(says("\"evil\"", calling("fetch", r#"{"url":"http://evil.example/"}"#)))
        .on(says("\"pay\"", calling("pay", r#"{"amount":500}"#)))
        .on(says("\"torn\"", calling("pay", r#"{"amount":"#)));
    let (world, _files) = world(OPEN, &[("c", ARGUMENTS)], script);
    let body = |text: &str, stream: bool| asks(&[], stream).replace("\"hi\"", &format!("\"{text}\""));
    for stream in [false, true] {
        for text in ["hi", "good", "evil", "pay", "torn"] {
            assert_eq!(world.send(&chat("calls", &body(text, stream))).status(), 200);
        }
    }
    let receipts = world.receipts("calls");
    let verdicts: Vec<Value> = receipts.iter().flat_map(said).collect();
    let unread = json!({ "reason": "NOT_EVALUATED", "state": "judged", "verdict": "block" });
    let each =
        [allowed(), allowed(), blocked("egress", "EGRESS_DENIED"), blocked("large", "TOO_MUCH"), unread];
    assert_eq!(verdicts, [each.clone(), each].concat());
}

#[test]
fn what_a_client_sends_is_looked_into_up_to_a_limit_and_beyond_it_is_skipped() {
    let shadow = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n\
        - { id: urgent, when: { body: [{ at: /metadata/tag, equals: urgent }] }, verdict: block, reason: X }\n";
    let (world, _files) = world(OPEN, &[("c", shadow)], Script::model());
    let tagged = |tag: &str, filler: usize| {
        let text = "x".repeat(filler);
        format!(
            r#"{{"model":"m","metadata":{{"tag":"{tag}"}},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    };
    for body in [tagged("none", 1), tagged("urgent", 1), tagged("urgent", 256 << 10)] {
        assert_eq!(world.send(&chat("sent", &body)).status(), 200);
    }
    // JSON without a dialect is sent as it comes: no policy in force asked to read it.
    let plain = Request::new("POST", "/orders")
        .header("content-type", "application/json")
        .header("estoppel-run", "sent")
        .body(r#"{"metadata":{"tag":"urgent"}}"#);
    assert_eq!(world.send(&plain).status(), 404, "the model knows no such path");
    let verdicts: Vec<Value> = world.receipts("sent").iter().flat_map(said).collect();
    assert_eq!(
        verdicts,
        [allowed(), blocked("urgent", "X"), skipped("SHADOW_BYTES_MAX"), skipped("NOT_EVALUATED")]
    );
    let labels = r#"{policy="candidate",reason="SHADOW_BYTES_MAX"}"#;
    assert_eq!(world.metric(&format!("estoppel_shadow_skipped_total{labels}")), Some(1.0));
}

#[test]
fn classes_of_data_are_those_that_the_policy_in_force_has_looked_for() {
    let shadow = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: block }\ndetectors: { pii: { mode: shadow } }\n\
        rules:\n- { id: cards, when: { data: pii.card }, verdict: block, reason: X }\n";
    let body = asks(&[], false).replace("\"hi\"", "\"4111 1111 1111 1111\"");
    for (detectors, expected) in
        [("", skipped("NOT_EVALUATED")), ("detectors: { pii: { mode: shadow } }\n", blocked("cards", "X"))]
    {
        let (world, _files) = world(&format!("{OPEN}{detectors}"), &[("c", shadow)], Script::model());
        assert_eq!(world.send(&chat("data", &body)).status(), 200);
        assert_eq!(said(&world.receipts("data")[0]), [expected], "{detectors}");
    }
}

#[test]
fn a_shadow_policy_opens_no_hold_counts_nothing_and_holds_against_no_contract() {
    let shadow = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: allow }\n\
        approvers: { ada: MCowBQYDK2VwAyEACgOWXvPccU/G1jDvc5zBLAVBBx9eT3YHjpgJ3yVPTn0= }\n\
        rules:\n- { id: transfers, when: { tool: transfer }, verdict: hold, hold: { approvers: [ada] } }\n\
        controls:\n- { id: once, kind: rate, when: {}, limit: 1, seconds: 60 }\n";
    let (world, _files) = world(OPEN, &[("c", shadow)], Script::model());
    for tools in [&["transfer"][..], &["search"], &["search"]] {
        assert_eq!(world.send(&chat("nothing", &asks(tools, false))).status(), 200);
    }
    let receipts = world.receipts("nothing");
    let held =
        json!({ "reason": "APPROVAL_REQUIRED", "rule": "transfers", "state": "judged", "verdict": "hold" });
    let partial = json!({ "reason": "SHADOW_PARTIAL", "state": "judged", "verdict": "allow" });
    assert_eq!(receipts.iter().flat_map(said).collect::<Vec<_>>(), [held, partial.clone(), partial]);
    assert!(receipts.iter().all(|receipt| receipt.get("limits").is_none() && receipt.get("hold").is_none()));
    assert_eq!(world.metric("estoppel_holds_open"), Some(0.0));
    let control = r#"estoppel_control_counted_total{control="once",unit="calls"}"#;
    assert_eq!(world.metric(control), None, "nothing was counted");
}

#[test]
fn an_operation_is_called_what_the_shadow_policy_lists_it_as() {
    let shadow = "version: 1\nname: candidate\ndefaults: { verdict: allow, on_not_evaluated: allow }\nroutes:\n  stub:\n\
        \x20   operations:\n    - { id: order, method: POST, path: \"/orders/{id}\" }\n\
        rules:\n- { id: orders, when: { operation: order }, verdict: block, reason: X }\n";
    let (world, _files) = world(OPEN, &[("c", shadow)], Script::always(Reply::new(Body::Text("ok".into()))));
    for target in ["/orders/7", "/others"] {
        let request = Request::new("POST", target).header("estoppel-run", "listed").body("x");
        assert_eq!(world.send(&request).status(), 200);
    }
    let verdicts: Vec<Value> = world.receipts("listed").iter().flat_map(said).collect();
    let denied = json!({ "reason": "OPERATION_DENIED", "state": "judged", "verdict": "block" });
    assert_eq!(verdicts, [blocked("orders", "X"), denied]);
}

#[test]
fn what_the_policy_in_force_blocks_is_judged_by_what_came() {
    let enforced = STRICT.replace("name: candidate", "name: enforced");
    let lenient = OPEN.replace("name: test", "name: lenient");
    let (world, _files) = world(&enforced, &[("c", &lenient), ("d", STRICT)], Script::model());
    assert_eq!(world.send(&chat("blocked", &asks(&["shell"], false))).status(), 403);
    let nowhere = Request::new("GET", "/a/../b").header("estoppel-run", "blocked");
    assert_eq!(world.send(&nowhere).status(), 400);
    let receipts = world.receipts("blocked");
    assert_eq!(said(&receipts[0]), [allowed(), blocked("no-shell", "TOOL_DENIED")]);
    assert_eq!(said(&receipts[1]), [skipped("NOT_EVALUATED"), skipped("NOT_EVALUATED")]);
}

fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn a_shadow_policy_is_reloaded_and_a_broken_one_is_refused_whole_while_the_rest_goes_on() {
    let (world, files) = world(OPEN, &[("c", STRICT)], Script::model());
    let file = files.join("c.yaml");
    let ask = |run: &str| {
        assert_eq!(world.send(&chat(run, &asks(&["shell"], false))).status(), 200);
    };
    ask("first");
    write(&file, "version: 1\nname: candidate\nruls: []\n");
    until("the alarm", PATIENCE, || (world.metric("estoppel_shadow_refused") == Some(1.0)).then_some(()));
    assert!(world.daemon.stderr().contains("shadow policy refused"), "{}", world.daemon.stderr());
    ask("second");
    write(&file, &STRICT.replace("TOOL_DENIED", "OTHER"));
    until("the new one", PATIENCE, || (world.metric("estoppel_shadow_refused") == Some(0.0)).then_some(()));
    ask("third");
    let verdict = |run: &str| said(&world.receipts(run)[0]);
    assert_eq!(verdict("first"), [blocked("no-shell", "TOOL_DENIED")]);
    assert_eq!(verdict("second"), [blocked("no-shell", "TOOL_DENIED")], "the last good one stays");
    assert_eq!(verdict("third"), [blocked("no-shell", "OTHER")]);
}

#[test]
fn a_broken_one_is_named_by_check_config_and_does_not_keep_the_daemon_from_starting() {
    let names_no_route = STRICT.replace("tool: shell", "route: nowhere");
    let broken =
        [("a", "version: 1\nname: a\nruls: []\n"), ("b", &*names_no_route), ("c", STRICT), ("d", STRICT)];
    let (world, _files) = world(OPEN, &broken, Script::model());
    assert_eq!(world.send(&chat("on", &asks(&["shell"], false))).status(), 200);
    assert_eq!(said(&world.receipts("on")[0]), [blocked("no-shell", "TOOL_DENIED")]);
    assert_eq!(world.metric("estoppel_shadow_refused"), Some(3.0));
    let config: PathBuf = world.scratch.join("estoppeld.toml");
    let done =
        Command::new(daemon_binary()).arg("--check-config").arg("--config").arg(config).output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(6), "{told}");
    for part in ["a.yaml: ", "b.yaml: the policy names route `nowhere`", "d.yaml: the shadow policy `"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn nine_are_too_many_and_one_twice_is_a_mistake() {
    let scratch = Scratch::new("nine");
    let shadows =
        |count: usize| (0..count).map(|n| format!("[[shadow]]\npath = \"{n}.yaml\"\n\n")).collect::<String>();
    for (config, hint) in [(shadows(9), "at most 8"), (shadows(1) + &shadows(1), "is there twice")] {
        let file =
            write_config(&scratch, "127.0.0.1:9".parse().unwrap(), &Setup { config, ..Setup::default() });
        let done = Command::new(daemon_binary()).arg("--config").arg(file).output().unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(6), "{told}");
        assert!(told.contains("CONFIG_INVALID") && told.contains(hint), "{told}");
    }
}

/// CLY-6.2.
#[test]
fn a_line_of_a_feed_has_the_shadow_verdict_and_both_policies() {
    let scratch = Scratch::new("fed");
    let candidate = scratch.write("c.yaml", STRICT);
    let (ocsf, ecs) = (scratch.join("ocsf.ndjson"), scratch.join("ecs.ndjson"));
    let feed = |name: &str, file: &Path| {
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"{name}\"\nlinger_ms = 5\nto = {{ file = {{ path = {file:?} }} }}\n\n"
        )
    };
    let config = format!("{}{}[[shadow]]\npath = {candidate:?}\n", feed("ocsf", &ocsf), feed("ecs", &ecs));
    let world = World::with(Script::model(), &Setup { config, ..Setup::default() });
    assert_eq!(world.send(&chat("fed", &asks(&["shell"], false))).status(), 200);
    let receipt = world.receipts("fed").remove(0);
    let (enforced, shadow) = (&receipt["policy"]["hash"], &receipt["shadow"][0]["policy"]);
    assert_ne!(enforced, shadow);
    for (file, own) in [(&ocsf, "/unmapped"), (&ecs, "/estoppel")] {
        let line = until("the line", PATIENCE, || {
            let text = std::fs::read_to_string(file).ok()?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.into_iter().find(|line| line.pointer(own).is_some_and(|own| own["shadow_verdict"] == true))
        });
        let own = line.pointer(own).unwrap();
        assert_eq!(own["shadow"][0]["policy"], *shadow);
        assert_eq!(own["shadow"][0]["verdict"], "block");
        let text = line.to_string();
        let hex = enforced.as_str().unwrap().trim_start_matches("sha256:");
        assert!(text.contains(hex), "{text}");
    }
    let lint = cli(&["policy", "lint", path(&candidate)]);
    assert_eq!(lint.0, 0);
}

/// CLY-6.3.
#[test]
fn the_example_boots_and_its_policies_are_asked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new("example");
    for policy in ["baseline", "mcp-strict", "pii-egress"] {
        let text = std::fs::read_to_string(root.join(format!("policies/{policy}.yaml"))).unwrap();
        scratch.write(format!("{policy}.yaml"), text);
    }
    let upstream = estoppel_stub::Stub::spawn_thread(Script::model()).unwrap();
    let example = std::fs::read_to_string(root.join("examples/shadow.toml")).unwrap();
    let own = example
        .replace("https://api.openai.com", &format!("http://{}", upstream.addr()))
        .replace("127.0.0.1:9464", "127.0.0.1:0")
        .replace("127.0.0.1:8080", "127.0.0.1:0");
    let (config, ready) = (scratch.write("shadow.toml", own), scratch.join("ready.json"));
    assert_eq!(cli(&["keys", "init", "--dir", path(&scratch.join("keys"))]).0, 0);
    let mut command = Command::new(daemon_binary());
    command.current_dir(scratch.path()).arg("--config").arg(config).arg("--ready-file").arg(&ready);
    let mut daemon = Process::start("example", command, &scratch);
    let ready: Value =
        serde_json::from_slice(&daemon.wait_ready(PATIENCE, |_| std::fs::read(&ready).ok())).unwrap();
    let at = |value: &Value| value.as_str().unwrap().parse::<std::net::SocketAddr>().unwrap();
    let answer = estoppel_kit::http::send(
        at(&ready["listeners"]["main"]),
        &chat("example", &asks(&["search"], false)),
    );
    assert_eq!(answer.unwrap().status(), 200);
    let sealed = cli(&["seal", "example", "--admin", &at(&ready["admin"]).to_string()]);
    assert_eq!(sealed.0, 0, "{}", sealed.1);
    let bundle = scratch.join(sealed.1["data"]["path"].as_str().unwrap());
    let entries = cli(&["show", path(&bundle)]).1["data"]["entries"].clone();
    let calls = entries.as_array().unwrap().iter().filter(|entry| entry["kind"] == "call");
    let states: Vec<Value> = calls.flat_map(said).map(|shadow| shadow["state"].clone()).collect();
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(!daemon.stderr().contains("refused"), "{}", daemon.stderr());
}
