//! What `estoppel policy` says of policies: lint, diff, test, and simulate on what was recorded.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Signer as _, SoftKey};
use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, path};

fn written(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let file = scratch.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn policy(defaults: &str, rules: &str) -> String {
    format!(
        "version: 1\nname: simulated\ndefaults: {{ verdict: allow, on_not_evaluated: block{defaults} }}\nrules:\n{rules}"
    )
}

const SHELL: &str = "- { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
/// Policies of this repository.
const SHIPPED: [&str; 5] = ["baseline", "open", "mcp-strict", "llm-cost", "pii-egress"];
const HOSTS: &str = "- { id: hosts, when: { tool: fetch, destination_not: good.example }, verdict: block, reason: EGRESS_DENIED }\n";
const LARGE: &str = "- { id: large, when: { body: [{ at: /max_tokens, greater_than: 100 }] }, verdict: block, reason: TOO_MUCH }\n";

#[test]
fn lint_refuses_threats_that_no_list_has_and_names_the_nearest() {
    let scratch = Scratch::new("lint");
    let rule = |threat: &str| {
        format!("- {{ id: a, when: {{}}, verdict: block, reason: X, threat: [\"{threat}\"] }}\n")
    };
    for (threat, fits) in [
        ("owasp_llm:2025/LLM06", true),
        ("owasp_llm:1.1/LLM02", true),
        ("atlas:5.6/AML.T0051.001", true),
        ("owasp_llm:2025/LLM16", false),
        ("owasp_llm:2023/LLM06", false),
        ("owasp_lm:2025/LLM06", false),
    ] {
        let file = written(&scratch, "policy.yaml", &policy("", &rule(threat)));
        let (code, said) = cli(&["policy", "lint", path(&file)]);
        assert_eq!(code, if fits { 0 } else { 6 }, "{threat}: {said}");
        if !fits {
            assert_eq!(said["error"]["code"], "POLICY_UNKNOWN_THREAT");
            let error = &said["error"]["data"]["errors"][0];
            assert_eq!((&error["line"], &error["path"]), (&json!(5), &json!("rules[0].threat[0]")), "{said}");
            assert!(error["message"].as_str().unwrap().contains("the nearest is `owasp_llm:"), "{said}");
        }
    }
    let (code, said) = cli(&["policy", "threats"]);
    let threats = said["data"]["threats"].as_array().unwrap();
    assert_eq!(code, 0);
    assert!(threats.iter().any(|threat| threat["id"] == "owasp_agentic:2026/ASI02"));
}

#[test]
fn diff_tells_of_rules_and_settings_and_not_of_layout() {
    let scratch = Scratch::new("diff");
    let before = written(&scratch, "a.yaml", &policy("", SHELL));
    let same = written(
        &scratch,
        "b.yaml",
        &format!("# why\n{}", policy("", SHELL).replace("tool: shell", "tool: [ 'shell' ]")),
    );
    let after = written(
        &scratch,
        "c.yaml",
        &policy(", disconnect: cancel", &format!("{HOSTS}{}", SHELL.replace("block", "allow"))),
    );
    let (code, said) = cli(&["policy", "diff", path(&before), path(&same)]);
    assert_eq!((code, &said["data"]["differences"]), (0, &json!([])), "{said}");
    let (code, said) = cli(&["policy", "diff", path(&before), path(&after)]);
    let rows = said["data"]["differences"].as_array().unwrap();
    let shown: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["place"].as_str().unwrap()))
        .collect();
    assert_eq!(code, 5);
    assert_eq!(shown, ["added defaults.disconnect", "changed rules.no-shell.verdict", "added rules.hosts"]);
}

#[test]
fn lint_warns_of_a_class_of_data_that_no_detector_of_a_route_finds() {
    let scratch = Scratch::new("data");
    let rule = "- { id: a, when: { data: [pii.*, secret.aws_key] }, verdict: block, reason: X }\n";
    let routes = "routes: { mcp: { detectors: { pii: { mode: none } } }, llm: {} }\n";
    let text = format!("{}detectors: {{ secrets: {{}}, pii: {{}} }}\n{routes}", policy("", rule));
    let file = written(&scratch, "policy.yaml", &text);
    let (code, said) = cli(&["policy", "lint", path(&file)]);
    assert_eq!(code, 0, "{said}");
    let warnings = said["data"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{said}");
    assert_eq!(warnings[0]["code"], "POLICY_NO_DETECTOR");
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(message.contains("route `mcp`") && message.contains("`pii.*`"), "{said}");
}

#[test]
fn test_runs_the_cases_beside_a_policy() {
    for name in SHIPPED {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/{name}.yaml"));
        assert_eq!(cli(&["policy", "test", path(&file)]).0, 0, "{name}");
    }
    let scratch = Scratch::new("cases");
    let file = written(&scratch, "mine.yaml", &policy("", HOSTS));
    let case = |verdict: &str| {
        let arguments = r#"{"url":"http://evil.example/<&>"}"#;
        format!(
            "version: 1\ncases:\n- claim: evil & co\n  request: {{ route: mcp, tools: [{{ name: fetch, arguments: '{arguments}' }}] }}\n  expect: {{ verdict: {verdict} }}\n"
        )
    };
    written(&scratch, "mine.cases.yaml", &case("allow"));
    let report = scratch.join("junit.xml");
    let (code, said) = cli(&["policy", "test", path(&file), "--junit", path(&report)]);
    assert_eq!((code, &said["data"]["failed"]), (3, &json!(1)), "{said}");
    let failure = said["data"]["cases"][0]["failure"].as_str().unwrap();
    assert!(failure.contains("tool `fetch`: rule `hosts` decides"), "{failure}");
    let (code, said) = cli(&["policy", "test", "/no/such/policy.yaml", "--junit", path(&report)]);
    assert_eq!(
        (code, &said["error"]["code"]),
        (8, &json!("OUTPUT_EXISTS")),
        "before anything is read: {said}"
    );
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains(r#"tests="1" failures="1""#) && report.contains("evil &amp; co"), "{report}");
    written(&scratch, "bad.cases.yaml", "version: 1\ncases: {}\n");
    let bad = scratch.join("bad.cases.yaml");
    let (code, said) = cli(&["policy", "test", path(&file), path(&bad)]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("CASES_INVALID")), "{said}");
}

/// Calls of several kinds under a policy, sealed.
fn recorded(storage: &str) -> (World, PathBuf) {
    let call = |arguments: &str| {
        let calls = Some(vec![ToolCall { name: "fetch".into(), arguments: arguments.into() }]);
        Reply::model(ModelReply { calls, ..ModelReply::new(Dialect::ChatCompletions) })
    };
    let says = |text: &str, reply: Reply| Rule { body_contains: Some(text.into()), ..Rule::any("", reply) };
    let script = Script::always(Reply::model(ModelReply::new(Dialect::ChatCompletions)))
        .on(says("go to good", call(r#"{"url":"http://good.example/"}"#)))
        .on(says("go to evil", call(r#"{"url":"http://evil.example/"}"#)));
    let policy = policy(&format!(", body_storage: {storage}"), SHELL);
    let world = World::with(script, &Setup { policy, ..Setup::default() });
    let ask = |text: &str, stream: bool, more: &str| {
        format!(
            r#"{{"model":"m","stream":{stream},"max_tokens":9{more},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    };
    let tools = |name: &str| format!(r#","tools":[{{"type":"function","function":{{"name":"{name}"}}}}]"#);
    let bodies = [
        ask("hello", false, ""),
        ask("hello", false, &tools("shell")),
        ask("hello", true, &tools("search")),
        ask("go to good", false, ""),
        ask("go to evil", false, ""),
        ask("go to evil", true, ""),
        ask("hello", false, r#","max_tokens":900"#).replace(r#""max_tokens":9,"#, ""),
    ];
    let status = bodies.each_ref().map(|body| world.send(&chat("kept", body)).status());
    assert_eq!(status, [200, 403, 200, 200, 200, 200, 200]);
    let unread = Request::new("POST", "/other").header("estoppel-run", "kept").body(b"?");
    assert_eq!(world.send(&unread).status(), 403);
    let bundle = world.seal("kept");
    (world, bundle)
}

fn simulate(scratch: &Scratch, bundle: &Path, candidate: &str, more: &[&str]) -> (i32, Value) {
    let file = written(scratch, "candidate.yaml", candidate);
    let mut words = vec!["policy", "simulate", path(bundle), "--policy", path(&file)];
    words.extend(more);
    cli(&words)
}

fn counts(said: &Value) -> [usize; 4] {
    let data = &said["data"];
    let length = |key: &str| data[key].as_array().unwrap().len();
    [data["calls"].as_u64().unwrap() as usize, length("changes"), length("undecided"), length("drift")]
}

#[test]
fn simulate_lists_every_verdict_that_would_change_and_guesses_none() {
    let scratch = Scratch::new("simulate");
    let (_world, bundle) = recorded("{ full: { reason: to try policies out } }");
    let (code, said) = simulate(&scratch, &bundle, &policy("", SHELL), &["--strict"]);
    assert_eq!((code, counts(&said)), (0, [8, 0, 0, 0]), "{said}");
    let (code, said) = simulate(
        &scratch,
        &bundle,
        &policy("", &format!("{HOSTS}{LARGE}{}", SHELL.replace("shell", "search"))),
        &[],
    );
    assert_eq!((code, counts(&said)), (5, [8, 5, 0, 0]), "{said}");
    let of = |key: &str| -> Vec<Value> {
        said["data"]["changes"].as_array().unwrap().iter().map(|row| row["new"][key].clone()).collect()
    };
    let rules = [Value::Null, json!("no-search"), json!("hosts"), json!("hosts"), json!("large")];
    assert_eq!(of("rule"), rules, "{said}");
    assert_eq!(said["data"]["changes"][0]["old"]["rule"], "no-shell");
    let carried =
        "- { id: carried, when: { tool: fetch, provenance: {} }, verdict: block, reason: CARRIED }\n";
    let (code, said) = simulate(&scratch, &bundle, &policy("", &format!("{carried}{SHELL}")), &[]);
    let [calls, changed, undecided, _] = counts(&said);
    assert_eq!((code, calls, changed), (0, 8, 0), "{said}");
    assert!(undecided > 0, "{said}");
    let cause = said["data"]["undecided"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("what tools gave earlier"), "{cause}");

    let (_world, bundle) = recorded("hmac");
    let (code, said) = simulate(&scratch, &bundle, &policy("", &format!("{HOSTS}{SHELL}")), &[]);
    assert_eq!((code, counts(&said)), (0, [8, 0, 3, 0]), "{said}");
    let cause = said["data"]["undecided"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("not in the bundle"), "{cause}");
    let (code, _) = simulate(&scratch, &bundle, &policy("", &format!("{HOSTS}{SHELL}")), &["--strict"]);
    assert_eq!(code, 5);
}

#[test]
fn simulate_reads_nothing_from_a_bundle_that_does_not_verify() {
    let scratch = Scratch::new("forged");
    let (_world, bundle) = recorded("hmac");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(8).position(|window| window == b"no-shell").unwrap();
    bytes[at] = b'N';
    let forged = scratch.join("forged.pef.zip");
    std::fs::write(&forged, bytes).unwrap();
    let (code, said) = simulate(&scratch, &forged, &policy("", SHELL), &[]);
    assert_eq!((code, &said["error"]["code"]), (2, &json!("BUNDLE_INVALID")), "{said}");
}

#[test]
fn fmt_prints_one_layout_and_keeps_the_hash_and_the_comments() {
    let scratch = Scratch::new("fmt");
    for name in SHIPPED {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/{name}.yaml"));
        assert_eq!(
            cli(&["policy", "fmt", "--check", path(&file)]).0,
            0,
            "{name} is laid out as everybody's are"
        );
        let (code, said) = cli(&["policy", "fmt", path(&file)]);
        let text = said["data"]["text"].as_str().unwrap();
        assert_eq!(code, 0, "{said}");
        let laid_out = written(&scratch, "laid-out.yaml", text);
        let hash = |file: &Path| cli(&["policy", "hash", path(file)]).1["data"]["policy_hash"].clone();
        assert_eq!(hash(&laid_out), hash(&file));
        let comments = |text: &str| text.matches('#').count();
        assert_eq!(comments(text), comments(&std::fs::read_to_string(&file).unwrap()), "{text}");
        assert_eq!(cli(&["policy", "fmt", "--check", path(&laid_out)]).0, 0, "{text}");
    }
    let crooked = written(&scratch, "crooked.yaml", &policy("", SHELL));
    assert_eq!(cli(&["policy", "fmt", "--check", path(&crooked)]).0, 5);
}

#[test]
fn simulate_knows_which_rule_held_a_call_that_another_rule_then_blocked() {
    let scratch = Scratch::new("released");
    let calls =
        Some(vec![ToolCall { name: "fetch".into(), arguments: r#"{"url":"http://evil.example/"}"#.into() }]);
    let script =
        Script::always(Reply::model(ModelReply { calls, ..ModelReply::new(Dialect::ChatCompletions) }));
    let key = SoftKey::ed25519(&[1; 32]);
    let held = "- { id: held, when: { body: [{ at: /max_tokens, greater_than: 100 }] }, verdict: hold, hold: { approvers: [ada] } }\n";
    let approvers = format!("approvers: {{ ada: {} }}\nrules:\n", base64(key.public().spki()));
    let storage = ", body_storage: { full: { reason: to try policies out } }";
    let own = policy(storage, &format!("{HOSTS}{held}")).replace("rules:\n", &approvers);
    let world = World::with(script, &Setup { policy: own.clone(), ..Setup::default() });
    let body = r#"{"model":"m","max_tokens":900,"messages":[{"role":"user","content":"go"}]}"#;
    let hold = world.send(&chat("kept", body)).header("estoppel-hold").unwrap().to_owned();
    let pem = written(&scratch, "ada.pem", std::str::from_utf8(key.to_pem().unwrap().as_bytes()).unwrap());
    std::fs::set_permissions(&pem, std::fs::Permissions::from_mode(0o600)).unwrap();
    let admin = world.admin.to_string();
    let (code, said) = cli(&["hold", "approve", &hold, "--key", path(&pem), "--admin", &admin]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(world.send(&chat("kept", body).header("estoppel-hold", &hold)).status(), 403);
    let bundle = world.seal("kept");
    let (code, said) = simulate(&scratch, &bundle, &own, &[]);
    assert_eq!((code, counts(&said)), (0, [2, 0, 0, 0]), "{said}");
    let open = own.replace("good.example", "evil.example");
    let (code, said) = simulate(&scratch, &bundle, &open, &[]);
    assert_eq!((code, counts(&said)), (5, [2, 1, 0, 0]), "{said}");
    assert_eq!(
        said["data"]["changes"][0]["new"],
        json!({ "verdict": "allow", "rule": "held", "reason": null })
    );
}
