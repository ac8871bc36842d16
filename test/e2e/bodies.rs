//! Bodies that a policy has stored.

use std::collections::BTreeMap;
use std::path::Path;

use estoppel_bundle::Bundle;
use estoppel_evidence::Sha256;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::Value;

use crate::support::{Setup, World, chat, cli, path};

const SECRET: &str = "planted-4711";

fn policy(storage: &str) -> Setup {
    let policy = format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {storage} }}\nrules:\n  \
         - {{ id: no-shell, when: {{ tool: shell }}, verdict: block, reason: TOOL_DENIED }}\n"
    );
    Setup { policy, ..Setup::default() }
}

fn full() -> Setup {
    policy("{ full: { reason: incident 4711 } }")
}

/// Stored bodies of a bundle, by digest.
fn bodies(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let bundle = Bundle::from_zip(std::fs::read(bundle).unwrap()).unwrap();
    let mut bodies = BTreeMap::new();
    for (path, size) in bundle.files() {
        let Some(digest) = path.as_str().strip_prefix("bodies/") else { continue };
        bodies.insert(format!("sha256:{digest}"), bundle.read(path, size).unwrap());
    }
    bodies
}

fn stored<'a>(bodies: &'a BTreeMap<String, Vec<u8>>, side: &Value) -> &'a [u8] {
    &bodies[side["sha256"].as_str().unwrap_or_else(|| panic!("not stored: {side}"))]
}

fn user(text: &str, stream: bool) -> String {
    format!(r#"{{"model":"scripted-1","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

#[test]
fn bodies_are_in_the_bundle_as_they_passed() {
    let script = Script::model().on(Rule::any("/echo", Reply::new(Body::Echo)));
    let world = World::with(script, &full());
    let asked = [user("plain", false), user("streamed", true)];
    let answers = asked.each_ref().map(|body| world.send(&chat("kept", body)).body);
    let upload = estoppel_stub::filler(0, 3 << 20);
    let echoed = world.send(&Request::new("POST", "/echo").header("estoppel-run", "kept").body(&upload));
    assert!(echoed.body == upload);
    let tool = r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"shell"}}]}"#;
    let blocked = world.send(&chat("kept", tool)).body;
    let bundle = world.seal("kept");
    let receipts = world.receipts_in(&bundle);
    let bodies = bodies(&bundle);
    for receipt in &receipts {
        assert_eq!(receipt["body"], serde_json::json!({"mode": "full", "reason": "incident 4711"}));
        assert!(receipt.get("downgrades").is_none(), "{receipt}");
    }
    for (at, (request, answer)) in asked.iter().zip(&answers).enumerate() {
        assert_eq!(stored(&bodies, &receipts[at]["request"]), request.as_bytes());
        assert_eq!(stored(&bodies, &receipts[at]["response"]["upstream"]), answer);
        assert_eq!(stored(&bodies, &receipts[at]["response"]["client"]), answer);
    }
    assert!(stored(&bodies, &receipts[2]["request"]) == upload);
    assert!(stored(&bodies, &receipts[2]["response"]["client"]) == upload);
    assert_eq!(stored(&bodies, &receipts[3]["request"]), tool.as_bytes());
    assert_eq!(stored(&bodies, &receipts[3]["response"]["client"]), blocked);
    assert_eq!(bodies.len(), 7, "equal bodies are stored once");
}

#[test]
fn a_rule_may_store_what_its_route_does_not() {
    let rule = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: none }\nrules:\n  - { id: watch, when: { model: \"scripted*\" }, verdict: allow, body_storage: hmac }\n";
    let world = World::with(Script::model(), &Setup { policy: rule.into(), ..Setup::default() });
    let same = user("same", false);
    for body in [&same, &same, &user("other", false), &same.replace("scripted-1", "else")] {
        assert_eq!(world.send(&chat("rule", body)).status(), 200);
    }
    let receipts = world.receipts("rule");
    let tag = |at: usize| receipts[at]["request"]["tag"].clone();
    assert!(tag(0).is_string() && tag(0) == tag(1) && tag(0) != tag(2));
    assert_eq!(receipts[3]["body"]["mode"], "none");
    assert!(tag(3).is_null());
}

#[test]
fn redacted_values_are_nowhere_in_the_bundle() {
    let paths = "[/messages/*/content, \"/choices/*/message/content\", \"/choices/*/delta\", /never]";
    let world =
        World::with(Script::model(), &policy(&format!("{{ full: {{ reason: r, redact: {paths} }} }}")));
    for stream in [false, true] {
        let answer = world.send(&chat("red", &user(SECRET, stream)));
        assert_eq!(answer.status(), 200);
    }
    let bundle = world.seal("red");
    let receipts = world.receipts_in(&bundle);
    let bodies = bodies(&bundle);
    let paths = ["/messages/*/content", "/choices/*/message/content"];
    assert_eq!(
        receipts[0]["body"],
        serde_json::json!({"mode": "redacted", "reason": "r", "redacted": paths})
    );
    assert_eq!(
        receipts[1]["body"]["redacted"],
        serde_json::json!(["/messages/*/content", "/choices/*/delta"])
    );
    let tags: Vec<Value> = receipts
        .iter()
        .map(|receipt| {
            let request: Value = serde_json::from_slice(stored(&bodies, &receipt["request"])).unwrap();
            let mark = &request["messages"][0]["content"]["$redacted"];
            assert_eq!((&mark["type"], &mark["bytes"]), (&"string".into(), &(SECRET.len() + 2).into()));
            mark["tag"].clone()
        })
        .collect();
    assert_eq!(tags[0], tags[1], "equal values have equal tags in one run");
    assert!(
        std::str::from_utf8(stored(&bodies, &receipts[1]["response"]["client"]))
            .unwrap()
            .contains("$redacted")
    );
    for (digest, body) in &bodies {
        assert!(
            !body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()),
            "{digest} holds the secret"
        );
    }
    let whole = std::fs::read(&bundle).unwrap();
    assert!(!whole.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
}

#[test]
fn what_cannot_be_redacted_is_not_stored() {
    let script = Script::default().on(Rule::any("/echo", Reply::new(Body::Echo)));
    let world = World::with(script, &policy("{ full: { reason: r, redact: [/a] } }"));
    let answer = world.send(&Request::new("POST", "/echo").header("estoppel-run", "no").body(SECRET));
    assert_eq!(answer.text(), SECRET);
    let bundle = world.seal("no");
    let receipts = world.receipts_in(&bundle);
    assert!(receipts[0]["request"].get("sha256").is_none());
    assert_eq!(receipts[0]["downgrades"][0]["code"], "BODY_NOT_STORED");
    assert_eq!(receipts[0]["downgrades"][0]["detail"], "request: not JSON, so that it cannot be redacted");
    assert!(bodies(&bundle).is_empty());
}

#[test]
fn a_body_that_the_disk_does_not_take_is_missing_and_the_call_goes_on() {
    let world = World::with(Script::model(), &full());
    let store = world.journal().join("bodies");
    std::fs::remove_dir(&store).unwrap();
    std::fs::write(&store, "in the way").unwrap();
    let answer = world.send(&chat("gone", &user("hello", false)));
    assert_eq!(answer.status(), 200);
    let receipts = world.receipts("gone");
    let codes: Vec<_> = receipts[0]["downgrades"].as_array().unwrap().iter().map(|d| &d["code"]).collect();
    assert_eq!(codes, ["BODY_NOT_STORED", "BODY_NOT_STORED"]);
    assert!(receipts[0]["request"]["tag"].is_string());
}

#[test]
fn a_body_of_26_mib_is_kept_beside_the_bundle_and_missed_when_it_is_gone() {
    let script = Script::default().on(Rule::any("/echo", Reply::new(Body::Echo)));
    let mut setup = full();
    setup.policy.push_str("limits: { request_bytes_max: 33554432, response_bytes_max: 33554432 }\n");
    let world = World::with(script, &setup);
    let upload = estoppel_stub::filler(0, 26 << 20);
    let echoed = world.send(&Request::new("POST", "/echo").header("estoppel-run", "large").body(&upload));
    assert!(echoed.body == upload);
    let bundle = world.seal("large");
    let receipts = world.receipts_in(&bundle);
    assert!(std::fs::metadata(&bundle).unwrap().len() < 1 << 20);
    let digest = Sha256::of(&upload);
    assert_eq!(receipts[0]["request"]["sha256"], digest.to_string());
    let trust = world.journal().join("trust.json");
    let external = bundle.with_added_extension("d").join(digest.hex());
    assert!(std::fs::read(&external).unwrap() == upload);
    let verify = || cli(&["verify", path(&bundle), "--trust", path(&trust)]);
    assert_eq!(verify().0, 0);
    std::fs::remove_file(&external).unwrap();
    let (code, report) = verify();
    assert_eq!((code, &report["data"]["reason"]), (2, &"MISSING_EXTERNAL".into()), "{report}");
}

#[test]
fn a_rule_that_blocks_the_answer_may_take_back_that_bodies_are_stored() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: r } } }\nrules:\n  \
                  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED, body_storage: hmac }\n";
    let called =
        r#"{"model":"m","choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"shell"}}]}}]}"#;
    let script =
        Script::always(Reply::new(Body::Text(called.into())).header("content-type", "application/json"));
    let world = World::with(script, &Setup { policy: policy.into(), ..Setup::default() });
    assert_eq!(world.send(&chat("back", &user(SECRET, false))).status(), 403);
    let bundle = world.seal("back");
    let receipts = world.receipts_in(&bundle);
    assert_eq!(receipts[0]["body"]["mode"], "hmac");
    assert!(bodies(&bundle).is_empty());
    let left = std::fs::read_dir(world.journal().join("bodies")).unwrap().count();
    assert_eq!(left, 0, "nothing of it is left in the journal");
}
