//! Recorded calls kept as fixtures, and judged again: each adapter from recorded wire bytes, and what fixtures refuse.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Leaf, Root, Signer as _, SoftKey};
use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use junit_parser::{TestStatus, TestSuites};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, path};

struct Adapter {
    name: &'static str,
    path: &'static str,
    dialect: &'static str,
    /// What the policy blocks.
    when: &'static str,
}

const CALL: &str = "tool: get_weather, arguments: [{ at: /query, equals: evidence }]";
const ADAPTERS: &[Adapter] = &[
    Adapter { name: "openai_chat", path: "/v1/chat/completions", dialect: "openai_chat", when: CALL },
    Adapter { name: "openai_chat_stream", path: "/v1/chat/completions", dialect: "openai_chat", when: CALL },
    Adapter { name: "openai_responses", path: "/v1/responses", dialect: "openai_responses", when: CALL },
    Adapter {
        name: "openai_responses_stream",
        path: "/v1/responses",
        dialect: "openai_responses",
        when: CALL,
    },
    Adapter { name: "anthropic_messages", path: "/v1/messages", dialect: "anthropic_messages", when: CALL },
    Adapter {
        name: "anthropic_messages_stream",
        path: "/v1/messages",
        dialect: "anthropic_messages",
        when: CALL,
    },
    Adapter {
        name: "mcp",
        path: "/mcp",
        dialect: "mcp",
        when: "tool: get_weather, arguments: [{ at: /city, equals: Köln }]",
    },
    Adapter {
        name: "json_tool",
        path: "/tools/weather",
        dialect: "json",
        when: "route: tools, body: [{ at: /city, equals: Köln }]",
    },
];
const ROUTES: &str =
    "[[route]]\nname = \"tools\"\npath = \"/tools\"\nupstream = \"stub\"\ndialect = \"json\"\n";
const STORED: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: block, body_storage: { full: { reason: regress } } }\n";

fn wire(name: &str) -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("test/e2e/wire").join(name);
    std::fs::read_to_string(file).ok()
}

fn policy(when: &str) -> String {
    format!(
        "{STORED}rules:\n- {{ id: no-weather, when: {{ {when} }}, verdict: block, reason: TOOL_DENIED }}\n"
    )
}

impl Adapter {
    /// One call that passes and one that is blocked, sealed.
    fn recorded(&self) -> (World, PathBuf) {
        let request = wire(&format!("{}.request.json", self.name)).unwrap();
        let (answer, kind) = match wire(&format!("{}.answer.sse", self.name)) {
            Some(answer) => (answer, "text/event-stream"),
            None => (wire(&format!("{}.answer.json", self.name)).unwrap(), "application/json"),
        };
        let says = |text: String| Reply::new(Body::Text(text)).header("content-type", kind);
        let harmless = says(answer.replace("evidence", "weather!"));
        let script = Script::always(says(answer))
            .on(Rule { body_contains: Some("Bonn".into()), ..Rule::any("", harmless) });
        let setup = Setup { policy: policy(self.when), routes: ROUTES.into(), ..Setup::default() };
        let world = World::with(script, &setup);
        let ask = |body: &str| {
            let request = Request::new("POST", self.path).header("content-type", "application/json");
            request.header("estoppel-run", "kept").body(body)
        };
        let other = request.replace("Köln", "Bonn").replacen("{\"model\"", "{\"user\":\"Bonn\",\"model\"", 1);
        assert_ne!(other, request, "{}", self.name);
        assert_eq!(world.send(&ask(&other)).status(), 200, "{}", self.name);
        cut(&world, &ask(&request));
        world.wait_for_calls("kept", 2);
        let bundle = world.seal("kept");
        (world, bundle)
    }
}

/// Sends a request whose answer may be cut.
fn cut(world: &World, request: &Request) {
    drop(estoppel_kit::http::send(world.gateway, request));
}

/// A folder with a policy and fixtures.
struct Kept {
    scratch: Scratch,
    trust: PathBuf,
}

impl Kept {
    fn new(world: &World) -> Self {
        let scratch = Scratch::new("regress");
        Self { trust: world.journal().join("trust.json"), scratch }
    }

    fn add(&self, bundle: &Path, call: &str, more: &[&str]) -> (i32, Value) {
        let into = self.scratch.join("fixtures");
        let words = ["regress", "add", "--from", path(bundle), "--call", call, "--into", path(&into)];
        cli(&[&words, ["--trust", path(&self.trust)].as_slice(), more].concat())
    }

    fn run(&self, policy: &str, more: &[&str]) -> (i32, Value) {
        let file = self.scratch.write("policy.yaml", policy);
        let fixtures = self.scratch.join("fixtures");
        let words = ["regress", "run", "--policy", path(&file), "--fixtures", path(&fixtures)];
        cli(&[&words, ["--trust", path(&self.trust)].as_slice(), more].concat())
    }

    fn junit(&self, policy: &str) -> TestSuites {
        let file = self.scratch.join("junit.xml");
        let _ = std::fs::remove_file(&file);
        self.run(policy, &["--junit", path(&file)]);
        junit_parser::from_reader(std::fs::read(file).unwrap().as_slice()).unwrap()
    }
}

fn counts(said: &Value) -> [u64; 3] {
    ["same", "changed", "undecided"].map(|key| said["data"][key].as_u64().unwrap_or_else(|| panic!("{said}")))
}

#[test]
fn every_adapter_is_captured_blocked_and_judged_again_from_recorded_bytes() {
    for adapter in ADAPTERS {
        let name = adapter.name;
        let (world, bundle) = adapter.recorded();
        let receipts = world.receipts_in(&bundle);
        let verdicts: Vec<&Value> = receipts.iter().map(|receipt| &receipt["verdict"]["action"]).collect();
        assert_eq!(verdicts, ["allow", "block"], "{name}: {receipts:?}");
        assert!(receipts.iter().all(|receipt| receipt["dialect"] == adapter.dialect), "{name}");
        let kept = Kept::new(&world);
        for receipt in &receipts {
            let (code, said) = kept.add(&bundle, receipt["call"].as_str().unwrap(), &[]);
            assert_eq!(code, 0, "{name}: {said}");
        }
        let (code, said) = kept.run(&policy(adapter.when), &["--strict"]);
        assert_eq!((code, counts(&said)), (0, [2, 0, 0]), "{name}: {said}");
        let (code, said) = kept.run(STORED, &["--strict"]);
        assert_eq!((code, counts(&said)), (5, [1, 1, 0]), "{name}: {said}");
        let rows = said["data"]["fixtures"].as_array().unwrap();
        let changed = rows.iter().find(|row| row["state"] == "changed").unwrap();
        let blocked = receipts[1]["call"].as_str().unwrap();
        assert_eq!(changed["call"], blocked, "{name}");
        assert_eq!(changed["because"], "policy", "{name}: {changed}");
        assert_eq!(changed["expected"]["rule"], "no-weather", "{name}: {changed}");
        assert_eq!(changed["now"]["verdict"], "allow", "{name}: {changed}");
        let suites = kept.junit(STORED);
        let (code, said) = kept.run("no policy", &["--junit", path(&kept.scratch.join("junit.xml"))]);
        assert_eq!(
            (code, &said["error"]["code"]),
            (8, &Value::from("OUTPUT_EXISTS")),
            "before it judges: {said}"
        );
        let cases: Vec<_> = suites.suites.iter().flat_map(|suite| &suite.cases).collect();
        assert_eq!((suites.suites[0].tests, suites.suites[0].failures, cases.len()), (2, 1, 2), "{name}");
        let failed: Vec<_> = cases.iter().filter(|case| case.status.is_failure()).collect();
        assert!(failed.len() == 1 && failed[0].name.contains(blocked), "{name}: {failed:?}");
        let TestStatus::Failure(failure) = &failed[0].status else { panic!("{failed:?}") };
        assert!(
            failure.message.contains("block by `no-weather` with TOOL_DENIED -> allow"),
            "{name}: {failure:?}"
        );
        let tighter = policy(adapter.when.split(", a").next().unwrap().split(", b").next().unwrap());
        let (code, said) = kept.run(&tighter, &["--strict"]);
        assert_eq!((code, counts(&said)), (5, [1, 1, 0]), "{name}: {said}");
    }
}

/// Calls that detectors, contracts and a control decide about, sealed.
#[test]
fn a_rule_about_earlier_results_leaves_only_those_calls_undecided_about_which_it_asks() {
    let (world, bundle) = ADAPTERS[0].recorded();
    let kept = Kept::new(&world);
    for receipt in world.receipts_in(&bundle) {
        assert_eq!(kept.add(&bundle, receipt["call"].as_str().unwrap(), &[]).0, 0);
    }
    let with = |policy: &str, tool: &str| {
        let reused = format!(
            "- {{ id: reused, when: {{ tool: {tool}, provenance: {{}} }}, verdict: block, reason: REUSED }}\n"
        );
        match policy.contains("rules:") {
            true => format!("{policy}{reused}"),
            false => format!("{policy}rules:\n{reused}"),
        }
    };
    let (code, said) = kept.run(&with(&policy(CALL), "send_mail"), &["--strict"]);
    assert_eq!((code, counts(&said)), (0, [2, 0, 0]), "{said}");
    let (code, said) = kept.run(&with(STORED, "send_mail"), &[]);
    assert_eq!((code, counts(&said)), (5, [1, 1, 0]), "{said}");
    let (_, said) = kept.run(&with(&policy(CALL), "get_weather"), &[]);
    assert_eq!(counts(&said), [1, 0, 1], "what is blocked before it is asked is decided: {said}");
    let (code, said) = kept.run(&with(STORED, "get_weather"), &["--strict"]);
    assert_eq!((code, counts(&said)), (5, [0, 0, 2]), "{said}");
}

fn incident(storage: &str) -> (World, PathBuf) {
    let tool = |arguments: &str| {
        let calls = Some(vec![ToolCall { name: "order".into(), arguments: arguments.into() }]);
        Reply::model(ModelReply { calls, ..ModelReply::new(Dialect::ChatCompletions) })
    };
    let says = |text: &str, reply: Reply| Rule { body_contains: Some(text.into()), ..Rule::any("", reply) };
    let leak = ModelReply {
        text: Some(format!("the key is {SECRET}")),
        ..ModelReply::new(Dialect::ChatCompletions)
    };
    let script = Script::always(Reply::model(ModelReply::new(Dialect::ChatCompletions)))
        .on(says("leak it", Reply::model(leak)))
        .on(says("order one", tool(r#"{"sku":"A","count":1,}"#)))
        .on(says("order many", tool(r#"{"sku":"A","count":1000}"#)));
    let world = World::with(script, &Setup { policy: strict(storage), ..Setup::default() });
    let ask = |text: &str, stream: bool| {
        let schema = r#"{"type":"object","properties":{"count":{"type":"integer","maximum":99}}}"#;
        format!(
            r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}],"tools":[{{"type":"function","function":{{"name":"order","parameters":{schema}}}}}]}}"#
        )
    };
    let texts = [
        ("hello", false),
        ("leak it", false),
        ("leak it", true),
        ("order one", false),
        ("order many", false),
        ("order many", true),
        (SECRET, false),
    ];
    for (text, stream) in texts {
        cut(&world, &chat("incident", &ask(text, stream)));
    }
    cut(&world, &chat("incident", &ask("too much", false)));
    world.wait_for_calls("incident", 8);
    let bundle = world.seal("incident");
    (world, bundle)
}

const SECRET: &str = "AKIAQYLPMN5HFIQR7XYA";
const RATE: &str = "controls:\n- { id: few, kind: rate, when: {}, limit: 6, seconds: 3600 }\n";

fn strict(storage: &str) -> String {
    format!(
        "version: 1\nname: t\ndetectors: {{ secrets: {{ mode: enforce }} }}\ndefaults: {{ verdict: allow, on_not_evaluated: block, body_storage: {storage}, judge: {{ repair: r1 }} }}\n{RATE}"
    )
}

const FULL: &str = "{ full: { reason: regress } }";

#[test]
fn detectors_contracts_and_repairs_are_asked_again_and_state_is_undecided() {
    let (world, bundle) = incident(FULL);
    let kept = Kept::new(&world);
    let receipts = world.receipts_in(&bundle);
    let came: Vec<String> = receipts
        .iter()
        .map(|receipt| {
            let verdict = &receipt["verdict"];
            format!("{} {}", verdict["action"].as_str().unwrap(), verdict["reason"].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        came,
        [
            "allow -",
            "block SECRET_FOUND",
            "block SECRET_FOUND",
            "repair -",
            "block CONTRACT_VIOLATED",
            "block CONTRACT_VIOLATED",
            "block SECRET_FOUND",
            "block RATE_MAX"
        ]
    );
    for receipt in &receipts {
        let (code, said) = kept.add(&bundle, receipt["call"].as_str().unwrap(), &[]);
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = kept.run(&strict(FULL), &[]);
    assert_eq!((code, counts(&said)), (0, [6, 0, 2]), "{said}");
    let rows = said["data"]["fixtures"].as_array().unwrap();
    let causes: Vec<&str> = rows.iter().filter_map(|row| row["cause"].as_str()).collect();
    // Of a stream the bytes that were refused are not stored.
    assert!(causes.iter().any(|cause| cause.contains("was cut")), "{causes:?}");
    assert!(causes.iter().any(|cause| cause.contains("RATE_MAX")), "{causes:?}");
    assert_eq!(rows.iter().filter(|row| row["now"]["not_asked"] == json!(["controls"])).count(), 5, "{said}");
    assert_eq!(kept.run(&strict(FULL), &["--strict"]).0, 5);
    let changed = |policy: &str| {
        let (code, said) = kept.run(policy, &[]);
        assert_eq!(code, 5, "{said}");
        let rows = said["data"]["fixtures"].as_array().unwrap();
        let mut all: Vec<u64> = rows
            .iter()
            .filter(|row| row["state"] == "changed")
            .map(|row| row["seq"].as_u64().unwrap())
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(changed(&strict(FULL).replace("mode: enforce", "mode: shadow")), [2, 7]);
    assert_eq!(changed(&strict(FULL).replace("judge: { repair: r1 }", "judge: none")), [4, 5, 6]);
    assert_eq!(changed(&strict(FULL).replace("repair: r1", "repair: none")), [4]);
}

#[test]
fn a_call_whose_bodies_were_not_stored_needs_its_expectation_said() {
    let (world, bundle) = incident("hmac");
    let kept = Kept::new(&world);
    let (code, said) = kept.add(&bundle, "1", &[]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("BODY_NOT_STORED")), "{said}");
    let open = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: block }\n";
    assert_eq!(kept.add(&bundle, "1", &["--expect", "verdict", "--name", "passes"]).0, 0);
    assert_eq!(kept.run(open, &["--strict"]).0, 0);
    assert_eq!(kept.add(&bundle, "1", &["--expect", "block", "--name", "from-now-on"]).0, 0);
    let (code, said) = kept.run(open, &[]);
    assert_eq!((code, counts(&said)), (5, [1, 1, 0]), "{said}");
    assert_eq!(said["data"]["fixtures"][0]["because"], "author");
    let shut = open.replace("verdict: allow", "verdict: block");
    let (code, said) = kept.run(&shut, &[]);
    assert_eq!((code, counts(&said)), (5, [1, 1, 0]), "{said}");
    let (code, said) = kept.run(&strict("hmac"), &[]);
    assert_eq!((code, counts(&said)), (5, [0, 0, 2]), "nothing was decided: {said}");
}

#[test]
fn a_fixture_of_a_verdict_lacks_no_body_that_was_stored() {
    let (world, bundle) = incident(FULL);
    let kept = Kept::new(&world);
    for (name, expect) in [("verdict", "verdict"), ("author", "allow")] {
        assert_eq!(kept.add(&bundle, "4", &["--name", name, "--expect", expect]).0, 0);
        for file in ["request.body", "answer.body"] {
            let file = kept.scratch.join(format!("fixtures/{name}/{file}"));
            let bytes = std::fs::read(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            let (code, said) = kept.run(&strict(FULL), &[]);
            assert_eq!((code, &said["error"]["code"]), (2, &json!("FIXTURE_MISMATCH")), "{said}");
            std::fs::write(&file, bytes).unwrap();
        }
        std::fs::remove_dir_all(kept.scratch.join(format!("fixtures/{name}"))).unwrap();
    }
}

#[test]
fn a_fixture_that_is_not_what_was_recorded_is_refused() {
    let (world, bundle) = incident(FULL);
    let kept = Kept::new(&world);
    let folder = kept.scratch.join("fixtures/it");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(kept.add(&bundle, "4", &["--name", "it"]).0, 0);
    let files = ["answer.body", "checkpoint", "fixture.json", "policy.json", "receipt.json", "request.body"];
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, files);
    let before = files.map(read);
    assert_eq!(kept.add(&bundle, "4", &["--name", "it"]).0, 0, "it says the same");
    assert_eq!(kept.add(&bundle, "5", &["--name", "it"]).0, 8);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(kept.add(&bundle, "4", &["--name", "it"]).0, 0);
    assert_eq!(files.map(read), before, "the same bytes twice");
    let document: Value = serde_json::from_slice(&before[2]).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../spec/regress.schema.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &document), "{document}");

    let policy = strict(FULL);
    assert_eq!(kept.run(&policy, &[]).0, 0);
    for (file, bytes) in files.iter().zip(&before) {
        let file = folder.join(file);
        let mut forged = bytes.clone();
        let at = forged.len() / 2;
        forged[at] = if forged[at] == b'1' { b'2' } else { b'1' };
        std::fs::write(&file, &forged).unwrap();
        let (code, said) = kept.run(&policy, &[]);
        assert!([2, 6].contains(&code) && said["ok"] == false, "{}: {said}", file.display());
        std::fs::remove_file(&file).unwrap();
        let (code, said) = kept.run(&policy, &[]);
        assert!([2, 6].contains(&code) && said["ok"] == false, "{}: {said}", file.display());
        std::fs::write(&file, bytes).unwrap();
    }
    // Whoever writes the receipt anew, with all that leads to it, still has no signature over its root.
    let receipt = String::from_utf8(before[4].clone()).unwrap();
    let receipt = receipt.replace(r#""action":"repair""#, r#""action":"allow""#);
    let leaf = Leaf::of(receipt.as_bytes());
    let mut other = document.clone();
    (other["leaf"], other["path"], other["size"], other["seq"]) =
        (json!(leaf), json!([]), json!(1), json!(0));
    (other["root"], other["expect"]) = (json!(Root(leaf.0)), json!({ "by": "receipt", "verdict": "allow" }));
    std::fs::write(folder.join("receipt.json"), receipt.replace(r#""seq":4"#, r#""seq":0"#)).unwrap();
    std::fs::write(folder.join("fixture.json"), other.to_string()).unwrap();
    let (code, said) = kept.run(&policy, &[]);
    assert_eq!((code, &said["error"]["code"]), (2, &json!("FIXTURE_MISMATCH")), "{said}");
    for (file, bytes) in files.iter().zip(&before) {
        std::fs::write(folder.join(file), bytes).unwrap();
    }
    assert_eq!(kept.run(&policy, &[]).0, 0);
    let (stranger, _) = incident("hmac");
    let trust = stranger.journal().join("trust.json");
    let fixtures = kept.scratch.join("fixtures");
    std::fs::write(fixtures.join(".gitignore"), "").unwrap();
    assert_eq!(kept.run(&policy, &[]).0, 0);
    std::fs::write(fixtures.join("README.md"), "").unwrap();
    let (code, said) = kept.run(&policy, &[]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("FIXTURE_MALFORMED")), "{said}");
    std::fs::remove_file(fixtures.join("README.md")).unwrap();
    std::os::unix::fs::symlink(&folder, fixtures.join("other")).unwrap();
    let (code, said) = kept.run(&policy, &[]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("FIXTURE_MALFORMED")), "a link: {said}");
    std::fs::remove_file(fixtures.join("other")).unwrap();
    let file = kept.scratch.join("policy.yaml");
    let words =
        ["regress", "run", "--fixtures", path(&fixtures), "--policy", path(&file), "--trust", path(&trust)];
    assert_eq!(cli(&words).0, 2);
}

#[test]
fn nothing_is_made_of_a_bundle_that_nobody_vouches_for_and_no_fixture_is_no_success() {
    let (world, bundle) = incident(FULL);
    let kept = Kept::new(&world);
    let words = ["regress", "add", "--from", path(&bundle), "--call", "1"];
    assert_eq!(cli(&words).0, 6);
    let (stranger, _) = incident("hmac");
    let trust = stranger.journal().join("trust.json");
    let (code, said) = cli(&[&words, ["--trust", path(&trust)].as_slice()].concat());
    assert_eq!((code, &said["error"]["code"]), (2, &json!("BUNDLE_INVALID")), "{said}");
    std::fs::create_dir(kept.scratch.join("fixtures")).unwrap();
    let (code, said) = kept.run(&strict(FULL), &[]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("FIXTURES_MISSING")), "{said}");
}

#[test]
fn bootstrap_makes_fixtures_of_what_was_stopped_and_judges_them() {
    let (world, bundle) = incident(FULL);
    let kept = Kept::new(&world);
    let into = kept.scratch.join("fixtures");
    let bootstrap = |policy: &str, more: &[&str]| {
        let file = kept.scratch.write("policy.yaml", policy);
        let words = ["regress", "bootstrap", path(&bundle), "--into", path(&into), "--policy", path(&file)];
        cli(&[&words, ["--trust", path(&kept.trust)].as_slice(), more].concat())
    };
    let (code, said) = bootstrap(&strict(FULL), &[]);
    assert_eq!((code, counts(&said)), (0, [5, 0, 2]), "{said}");
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 7);
    let (code, said) = bootstrap(&strict(FULL).replace("mode: enforce", "mode: none"), &["--call", "2"]);
    assert_eq!((code, counts(&said)), (5, [0, 1, 0]), "{said}");
    let (world, bundle) = incident("hmac");
    let trust = world.journal().join("trust.json");
    let (code, said) = cli(&[
        "regress",
        "bootstrap",
        path(&bundle),
        "--into",
        path(&into),
        "--policy",
        path(&kept.scratch.join("policy.yaml")),
        "--trust",
        path(&trust),
    ]);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("BODY_NOT_STORED")), "{said}");
    assert_eq!(said["error"]["data"]["left_out"].as_array().unwrap().len(), 7, "{said}");
}

const CONTRACTS: &str = r#"contracts:
  order: { json: '{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}' }
  small: { json: '{"properties":{"n":{"maximum":9}}}' }
  rows: { csv: '{"version":1,"columns":[{"name":"id","type":"integer"}]}' }
"#;
const JUDGED: &str = "routes:\n  tools: { judge: { request: order, answer: small, repair: r1 } }\n  table: { judge: { answer: rows } }\n  mcp: { judge: { unknown_tools: json, tools: { add: small }, results: { add: small } } }\n";
const HELD: &str =
    "rules:\n- { id: payments, when: { route: pay }, verdict: hold, hold: { approvers: [ada] } }\n";

fn of_routes(routes: &str, rules: &str) -> String {
    let key = base64(SoftKey::ed25519(&[1; 32]).public().spki());
    format!("{STORED}{CONTRACTS}{routes}approvers: {{ ada: {key} }}\n{rules}")
}

/// A run in which a call waits is not sealed.
fn deny(world: &World, hold: &str) {
    let pem = world.scratch.write("ada.pem", SoftKey::ed25519(&[1; 32]).to_pem().unwrap().as_bytes());
    std::fs::set_permissions(&pem, std::fs::Permissions::from_mode(0o600)).unwrap();
    let admin = world.admin.to_string();
    let (code, said) = cli(&["hold", "deny", hold, "--key", path(&pem), "--admin", &admin]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn bodies_rows_results_of_servers_and_holds_are_judged_again() {
    let says = |kind: &str, text: &str| Reply::new(Body::Text(text.into())).header("content-type", kind);
    let json = |text: &str| says("application/json", text);
    let on = |text: &str, reply: Reply| Rule { body_contains: Some(text.into()), ..Rule::any("", reply) };
    let result = |n: u32| {
        json(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"structuredContent":{{"n":{n}}}}}}}"#
        ))
    };
    let script = Script::always(json(r#"{"n":1}"#))
        .on(on("too many", json(r#"{"n":10}"#)))
        .on(on("careless", json(r#"{"n":1,}"#)))
        .on(on("good rows", says("text/csv", "id\n1\n2\n")))
        .on(on("bad rows", says("text/csv", "id\n1\nx\n")))
        .on(on(r#""n":1}"#, result(1)))
        .on(on(r#""n":2}"#, result(20)));
    let route = |name: &str, more: &str| {
        format!("[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"stub\"\n{more}\n")
    };
    let plain = "dialect = \"json\"\n";
    let routes = [
        route("tools", plain),
        route("table", plain),
        route("pay", plain),
        route("mcp", "dialect = \"mcp\"\n"),
    ]
    .concat();
    let world = World::with(script, &Setup { policy: of_routes(JUDGED, HELD), routes, ..Setup::default() });
    let add = |n: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"add","arguments":{{"n":{n}}}}}}}"#
        )
    };
    let calls = [
        ("tools", r#"{"sku":"a"}"#.to_owned(), "allow -"),
        ("tools", r#"{"sku":1}"#.to_owned(), "block REQUEST_VIOLATED"),
        ("tools", r#"{"sku":"too many"}"#.to_owned(), "block CONTRACT_VIOLATED"),
        ("tools", r#"{"sku":"careless"}"#.to_owned(), "repair -"),
        ("table", r#"{"want":"good rows"}"#.to_owned(), "allow -"),
        ("table", r#"{"want":"bad rows"}"#.to_owned(), "block CONTRACT_VIOLATED"),
        ("mcp", add(1), "allow -"),
        ("mcp", add(2), "block CONTRACT_VIOLATED"),
        ("mcp", add(10), "block REQUEST_VIOLATED"),
        ("pay", r#"{"amount":1}"#.to_owned(), "hold APPROVAL_REQUIRED"),
    ];
    for (path, body, _) in &calls {
        let request = Request::new("POST", &format!("/{path}")).header("content-type", "application/json");
        let answer =
            estoppel_kit::http::send(world.gateway, &request.header("estoppel-run", "kinds").body(body));
        if let Some(hold) = answer.ok().and_then(|answer| Some(answer.header("estoppel-hold")?.to_owned())) {
            deny(&world, &hold);
        }
    }
    world.wait_for_calls("kinds", calls.len() as u64);
    let bundle = world.seal("kinds");
    let receipts = world.receipts_in(&bundle);
    let kept = Kept::new(&world);
    for (receipt, (_, body, expected)) in receipts.iter().zip(&calls) {
        let verdict = &receipt["verdict"];
        let came =
            format!("{} {}", verdict["action"].as_str().unwrap(), verdict["reason"].as_str().unwrap_or("-"));
        assert_eq!(came, *expected, "{body}: {receipt}");
        let (code, said) = kept.add(&bundle, receipt["call"].as_str().unwrap(), &[]);
        assert_eq!(code, 0, "{body}: {said}");
    }
    let (code, said) = kept.run(&of_routes(JUDGED, HELD), &["--strict"]);
    assert_eq!((code, counts(&said)), (0, [calls.len() as u64, 0, 0]), "{said}");
    let changed = |policy: &str| {
        let (code, said) = kept.run(policy, &["--strict"]);
        assert_eq!((code, &said["data"]["undecided"]), (5, &json!(0)), "{said}");
        let rows = said["data"]["fixtures"].as_array().unwrap();
        let of = receipts.iter().map(|receipt| &receipt["call"]);
        let is_changed =
            |call: &Value| rows.iter().any(|row| row["call"] == *call && row["state"] == "changed");
        of.enumerate().filter(|(_, call)| is_changed(call)).map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert_eq!(changed(&of_routes(JUDGED, "")), [9]);
    assert_eq!(changed(&of_routes("", HELD)), [1, 2, 3, 5, 7, 8]);
    assert_eq!(changed(&of_routes(&JUDGED.replace(", results: { add: small }", ""), HELD)), [7]);
    assert_eq!(changed(&of_routes(JUDGED, HELD).replace("maximum\":9", "maximum\":0")), [0, 3, 6, 7]);
}

#[test]
fn a_whole_run_is_judged_by_another_policy_and_the_first_call_that_differs_is_said_with_its_cause() {
    let rule = "rules:\n  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
    let then = format!("{STORED}{rule}");
    let world = World::with(Script::model(), &Setup { policy: then.clone(), ..Setup::default() });
    let tool = |name: &str| {
        let tool = json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
        json!({"model": "scripted-1", "messages": [{"role": "user", "content": "hello"}], "tools": [tool]})
            .to_string()
    };
    for (name, status) in [("search", 200), ("shell", 403), ("search", 200)] {
        assert_eq!(world.send(&chat("whole", &tool(name))).status(), status);
    }
    let bundle = world.seal("whole");
    let run = |policy: &str| {
        let file = world.scratch.write("today.yaml", policy);
        cli(&["regress", "run", "--bundle", path(&bundle), "--policy", path(&file)])
    };
    let (code, said) = run(&then);
    assert_eq!((code, &said["data"]["same"], &said["data"]["first"]), (0, &json!(3), &Value::Null), "{said}");
    let (code, said) = run(STORED);
    assert_eq!((code, &said["data"]["changed"]), (5, &json!(1)), "{said}");
    let second = &world.receipts_in(&bundle)[1];
    let expected = json!({"call": second["call"], "seq": second["seq"], "because": "policy"});
    assert_eq!(said["data"]["first"], expected);
    let both = then.replace("tool: shell", "tool: search");
    let (code, said) = run(&both);
    assert_eq!((code, &said["data"]["first"]["seq"]), (5, &json!(1)), "{said}");
    assert_eq!((&said["data"]["changed"], said["data"]["calls"].as_array().unwrap().len()), (&json!(3), 3));
}
