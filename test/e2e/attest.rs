//! Statements about frameworks: what they say of real evidence, and that nobody can change them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, Signer as _, SoftKey};
use estoppel_kit::http::Request;
use estoppel_kit::{Scratch, require_real};
use estoppel_stub::Script;
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, path};

const POLICY: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n\
    - { id: no-drop, when: { method: DELETE }, verdict: block, reason: TOOL_DENIED }\n";
const HELLO: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;

fn attester() -> SoftKey {
    SoftKey::ed25519(&[11; 32])
}

/// Evidence of a run, and what attests.
pub struct Recording {
    pub world: World,
    pub bundle: PathBuf,
    pub scratch: Scratch,
    pub key: PathBuf,
}

impl Recording {
    /// Two calls, and a refused one; `is_known` says whether their caller proves who he is.
    pub fn new(is_known: bool) -> Self {
        let scratch = Scratch::new("attest");
        let keys = scratch.write("keys.ndjson", "# who may call\n");
        let made = cli(&["identity", "key", "new", "--subject", "nightly", "--file", path(&keys)]).1;
        let secret = made["data"]["key"].as_str().unwrap().to_owned();
        let config = if is_known {
            format!("identity_required = true\n[identity]\napi_keys = {{ file = {keys:?} }}\n")
        } else {
            String::new()
        };
        let setup = Setup { policy: POLICY.into(), config, ..Setup::default() };
        let mut world = World::with(Script::model(), &setup);
        let call = |method: &str, target: &str, body: &str| {
            let request = Request::new(method, target).header("content-type", "application/json");
            let request = request.header("estoppel-run", "audited").body(body);
            if is_known { request.header("authorization", &format!("Bearer {secret}")) } else { request }
        };
        for _ in 0..2 {
            assert_eq!(world.send(&call("POST", "/v1/chat/completions", HELLO)).status(), 200);
        }
        assert_eq!(world.send(&call("DELETE", "/orders", "")).status(), 403);
        world.wait_until_idle();
        let bundle = world.seal("audited");
        world.stop();
        let key = scratch.write("attester.pem", attester().to_pem().unwrap().as_bytes());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { world, bundle, scratch, key }
    }

    pub fn trust(&self) -> PathBuf {
        self.world.journal().join("trust.json")
    }

    pub fn attest(&self, framework: &str, out: &Path, more: &[&str]) -> (i32, Value) {
        let trust = self.trust();
        let words =
            ["attest", "--framework", framework, "--bundle", path(&self.bundle), "--trust", path(&trust)];
        cli(&[&words[..], &["--key", path(&self.key), "--out", path(out)], more].concat())
    }

    pub fn verify(&self, attestation: &Path) -> (i32, String) {
        let trust = self.trust();
        let words =
            ["attest", "verify", path(attestation), "--bundle", path(&self.bundle), "--trust", path(&trust)];
        let (code, answer) = cli(&words);
        (code, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    fn report(&self) -> Vec<String> {
        let trust = self.trust();
        let words = ["compliance", "report", "--bundle", path(&self.bundle), "--trust", path(&trust)];
        let (code, answer) = cli(&words);
        assert_eq!(code, 0, "{answer}");
        words_of(&answer)
    }
}

/// `framework control word` of a report.
fn words_of(answer: &Value) -> Vec<String> {
    let frameworks = answer["data"]["frameworks"].as_array().unwrap();
    let rows = frameworks.iter().flat_map(|framework| {
        framework["controls"].as_array().unwrap().iter().map(move |control| {
            let word = control.get("result").unwrap_or(&control["state"]);
            [&framework["framework"], &control["id"], word].map(|word| word.as_str().unwrap()).join(" ")
        })
    });
    rows.collect()
}

fn result<'v>(attestation: &'v Value, control: &str) -> &'v Value {
    attestation["controls"].as_array().unwrap().iter().find(|row| row["id"] == control).unwrap()
}

pub fn schema() -> jsonschema::Validator {
    let text = include_str!("../../spec/attestation.schema.json");
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
}

pub fn statement(file: &Path) -> Value {
    let envelope: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    serde_json::from_slice(&from_base64(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
}

/// Signs what `change` made of the statement, as its signer could.
fn forge(folder: &Path, to: &Path, change: impl FnOnce(&mut Value)) {
    let mut statement = statement(&folder.join("attestation.json"));
    change(&mut statement);
    let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
    std::fs::write(to, sign(STATEMENT_TYPE, &payload, &attester()).unwrap()).unwrap();
}

#[test]
fn on_an_empty_store_every_control_of_every_framework_has_no_evidence() {
    let store = Scratch::new("empty");
    let (code, answer) = cli(&["compliance", "report", "--journal", path(store.path())]);
    assert_eq!(code, 0, "{answer}");
    let rows = words_of(&answer);
    assert!(rows.len() > 100 && rows.iter().all(|row| row.ends_with(" no_evidence")), "{rows:#?}");
    assert!(rows.iter().any(|row| row.starts_with("nist-sp-800-161r1 AU-9 ")), "{rows:#?}");
}

#[test]
fn a_control_passes_only_where_a_check_over_the_evidence_holds() {
    let (known, unknown) = (Recording::new(true).report(), Recording::new(false).report());
    let is = |rows: &[String], row: &str| rows.iter().any(|found| found == row);
    for control in ["pci-dss-4.0.1 8.2.1", "pci-dss-4.0.1 10.2.2", "hipaa-security-rule 164.312(d)"] {
        assert!(is(&known, &format!("{control} pass")), "{control} of {known:#?}");
        assert!(is(&unknown, &format!("{control} fail")), "{control} of {unknown:#?}");
    }
    for row in [
        "pci-dss-4.0.1 10.2.1 pass",
        "pci-dss-4.0.1 10.3.2 pass",
        "pci-dss-4.0.1 10.5.1 not_assessed",
        "pci-dss-4.0.1 10.2.1.2 no_evidence",
        "pci-dss-4.0.1 7.2.2 not_assessed",
        "nist-sp-800-161r1 AU-9 evidence",
        "eu-ai-act 12(1) evidence",
        "eu-ai-act 12(3)(d) no_evidence",
        "soc2-2017 CC6.1 evidence",
        "owasp-agentic-2026 ASI05 no_evidence",
    ] {
        assert!(is(&known, row), "{row} of {known:#?}");
    }
}

#[test]
fn every_pointer_of_an_attestation_resolves_in_its_bundle() {
    let recording = Recording::new(true);
    for framework in ["soc2-2017", "pci-dss-4.0.1", "nist-sp-800-161r1"] {
        let out = recording.scratch.join(framework);
        let (code, answer) = recording.attest(framework, &out, &[]);
        assert_eq!(code, 0, "{answer}");
        let opened = estoppel_bundle::Bundle::from_zip(std::fs::read(&recording.bundle).unwrap()).unwrap();
        let mut there = vec![opened.manifest_digest().to_string()];
        there.extend(opened.manifest().policies.iter().map(ToString::to_string));
        let mut entries = opened.entries().unwrap();
        while let Some(entry) = entries.next().unwrap() {
            there.push(estoppel_evidence::Leaf::of(entry.line).to_string());
        }
        let index = answer["data"]["attestation"]["evidence"].as_array().unwrap();
        let listed: Vec<&str> = index
            .iter()
            .flat_map(|row| row["listed"].as_array().unwrap())
            .map(|to| to.as_str().unwrap())
            .collect();
        assert!(listed.len() > 4, "{index:#?}");
        for to in listed {
            assert!(there.iter().any(|found| found == to), "{framework}: {to} is nowhere");
        }
        let rows = answer["data"]["attestation"]["controls"].as_array().unwrap();
        assert!(rows.iter().any(|row| row["state"] == "no_evidence"), "{framework}: {rows:#?}");
    }
}

#[test]
fn statements_keep_their_schema_and_a_mapping_cannot_say_pass() {
    let recording = Recording::new(false);
    let schema = schema();
    for framework in ["pci-dss-4.0.1", "eu-ai-act", "nist-ai-rmf-1.0", "owasp-llm-2026"] {
        let out = recording.scratch.join(framework);
        assert_eq!(recording.attest(framework, &out, &[]).0, 0, "{framework}");
        let mut statement = statement(&out.join("attestation.json"));
        let faults: Vec<String> = schema.iter_errors(&statement).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{framework}: {faults:?}");
        if framework != "pci-dss-4.0.1" {
            assert!(!statement.to_string().contains("\"result\""), "{framework}");
            statement["predicate"]["controls"][0]["result"] = json!("pass");
            assert!(!schema.is_valid(&statement), "{framework}: the schema takes a result");
        }
    }
}

#[test]
fn a_failed_control_names_what_is_lacking_and_strict_says_so() {
    let recording = Recording::new(false);
    let (code, answer) = recording.attest("pci-dss-4.0.1", &recording.scratch.join("strict"), &["--strict"]);
    let attestation = &answer["data"]["attestation"];
    assert_eq!((code, &result(attestation, "8.2.1")["result"]), (3, &json!("fail")), "{attestation:#}");
    let check = json!([{ "against": "anonymous_calls", "check": "callers_are_known", "result": "fail" }]);
    assert_eq!(result(attestation, "8.2.1")["checks"], check);
    let (code, _) = recording.attest("eu-ai-act", &recording.scratch.join("mapped"), &["--strict"]);
    assert_eq!(code, 0, "nothing fails in a mapping");
}

#[test]
fn an_attestation_that_is_altered_in_any_way_is_refused() {
    let recording = Recording::new(true);
    let out = recording.scratch.join("pci");
    assert_eq!(recording.attest("pci-dss-4.0.1", &out, &[]).0, 0);
    assert_eq!(recording.verify(&out), (0, String::new()));
    let file = out.join("attestation.json");
    assert_eq!(recording.verify(&file), (0, String::new()));
    let whole = std::fs::read(&file).unwrap();
    let altered = recording.scratch.join("altered.json");
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&altered, &bytes).unwrap();
        assert_eq!(recording.verify(&altered), (2, "ATTESTATION_FORM".into()), "byte {at}");
    }
    let forgeries: [fn(&mut Value); 4] = [
        |statement| statement["predicate"]["controls"][2]["result"] = json!("pass_with_honours"),
        |statement| statement["predicate"]["counts"]["pass"] = json!(17),
        |statement| statement["predicate"]["bundles"][0]["counters"]["block"] = json!(0),
        |statement| statement["subject"][0]["digest"]["sha256"] = json!(Sha256::of(b"x").hex()),
    ];
    for forgery in forgeries {
        forge(&out, &altered, forgery);
        assert_eq!(recording.verify(&altered), (2, "ATTESTATION_MISMATCH".into()));
    }
    forge(&out, &altered, |_| {});
    assert_eq!(recording.verify(&altered), (0, String::new()), "what was not changed holds");
}

#[test]
fn evidence_that_does_not_verify_or_is_not_the_attested_is_refused() {
    let recording = Recording::new(false);
    let out = recording.scratch.join("a");
    assert_eq!(recording.attest("soc2-2017", &out, &[]).0, 0);
    assert_eq!(recording.attest("soc2-2017", &out, &[]).0, 8, "nothing is overwritten");

    let other = Recording::new(false);
    let (code, answer) = cli(&["attest", "verify", path(&out), "--bundle", path(&other.bundle)]);
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("ATTESTATION_MISMATCH")), "{answer}");

    let mut bytes = std::fs::read(&recording.bundle).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    let broken = recording.scratch.write("broken.pef.zip", &bytes);
    let words =
        ["attest", "--framework", "soc2-2017", "--bundle", path(&broken), "--key", path(&recording.key)];
    let none = recording.scratch.join("none");
    let (code, answer) = cli(&[&words[..], &["--out", path(&none)]].concat());
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("ATTESTATION_BUNDLE")), "{answer}");
    assert!(!none.exists(), "nothing is half-written");

    let manifest = recording.world.journal().join("keys/manifest.pem");
    let words =
        ["attest", "--framework", "soc2-2017", "--bundle", path(&recording.bundle), "--key", path(&manifest)];
    let (code, answer) = cli(&[&words[..], &["--out", path(&none)]].concat());
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("KEY_INVALID")), "{answer}");

    let stranger = recording.scratch.write("stranger.pub.pem", SoftKey::ed25519(&[12; 32]).public().pem());
    let (bundle, trust) = (path(&recording.bundle).to_owned(), recording.trust());
    let words = ["attest", "verify", path(&out), "--bundle", &bundle, "--trust", path(&trust)];
    let (code, answer) = cli(&[&words[..], &["--signer", path(&stranger)]].concat());
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("ATTESTATION_UNTRUSTED")), "{answer}");
}

#[test]
fn the_page_cites_the_digest_of_the_statement_and_copies_may_not_differ() {
    let recording = Recording::new(true);
    let out = recording.scratch.join("hipaa");
    let (code, answer) = recording.attest("hipaa-security-rule", &out, &[]);
    assert_eq!(code, 0, "{answer}");
    let digest = Sha256::of(&std::fs::read(out.join("attestation.json")).unwrap()).to_string();
    assert_eq!(answer["data"]["digest"], digest);
    if let Some(reader) = require_real("pdftotext") {
        let read =
            Command::new(reader).args(["-layout", path(&out.join("attestation.pdf")), "-"]).output().unwrap();
        let text = String::from_utf8_lossy(&read.stdout);
        assert!(text.contains(&digest), "{text}");
        assert!(text.contains("HIPAA Security Rule") && text.contains("164.312(b)"), "{text}");
    }
    for name in ["attestation.pdf", "assessment-results.json", "attestation.json"] {
        let whole = std::fs::read(out.join(name)).unwrap();
        let mut altered = whole.clone();
        let at = altered.len() / 2;
        altered[at] ^= 1;
        std::fs::write(out.join(name), altered).unwrap();
        let code = if name == "attestation.json" { "ATTESTATION_FORM" } else { "ATTESTATION_COPY" };
        assert_eq!(recording.verify(&out), (2, code.into()), "{name}");
        std::fs::write(out.join(name), whole).unwrap();
    }
    std::fs::write(out.join("notes.txt"), "x").unwrap();
    assert_eq!(recording.verify(&out), (2, "ATTESTATION_COPY".into()), "a file that does not follow");
}

#[test]
fn the_digest_of_a_run_equals_a_recount_from_the_journal_and_its_badge_carries_the_root() {
    let recording = Recording::new(true);
    let (bundle, trust) = (path(&recording.bundle).to_owned(), recording.trust());
    let (svg, out) = (recording.scratch.join("badge.svg"), recording.scratch.join("digest.json"));
    let words = ["report", "--digest", &bundle, "--trust", path(&trust)];
    let (code, answer) = cli(&[&words[..], &["--svg", path(&svg), "--out", path(&out)]].concat());
    assert_eq!(code, 0, "{answer}");
    let digest = &answer["data"]["digest"];
    assert_eq!(&serde_json::from_slice::<Value>(&std::fs::read(&out).unwrap()).unwrap(), digest);

    let journal = recording.world.journal();
    let (code, counted) = cli(&["verify", path(&journal), "--trust", path(&trust)]);
    assert_eq!(code, 0, "{counted}");
    let mut calls = [0, 0, 0];
    for receipt in recording.world.receipts_in(&recording.bundle) {
        calls[0] += 1;
        calls[1] += u64::from(receipt["verdict"]["action"] == "block");
        calls[2] += u64::from(receipt["verdict"]["action"] == "repair");
    }
    assert_eq!(json!(calls), json!([digest["calls"], digest["blocks"], digest["repairs"]]), "{digest}");
    let counters = &counted["data"]["counters"];
    assert_eq!(json!(calls), json!([counters["calls"], counters["block"], counters["repair"]]), "{counters}");
    assert_eq!(json!(calls), json!([3, 1, 0]));
    let opened = estoppel_bundle::Bundle::from_zip(std::fs::read(&recording.bundle).unwrap()).unwrap();
    let mut entries = opened.entries().unwrap();
    let mut leaves = Vec::new();
    while let Some(entry) = entries.next().unwrap() {
        leaves.push(estoppel_evidence::Leaf::of(entry.line).0);
    }
    let root = estoppel_evidence::tree::root(&leaves);
    assert_eq!(digest["root"], root.to_string());
    let badge = std::fs::read_to_string(&svg).unwrap();
    assert!(
        badge.contains(&root.hex()) && badge.contains("3 calls, 1 blocked, 0 repaired | replay none"),
        "{badge}"
    );

    let certificate = recording.scratch.join("replay.json");
    let replay = [
        "replay",
        "run",
        &bundle,
        "--key",
        path(&recording.key),
        "--out",
        path(&certificate),
        "--allow-partial",
    ];
    let keys = journal.join("keys");
    let (_, replayed) = cli(&[&replay[..], &["--keys", path(&keys)]].concat());
    let (code, answer) = cli(&[&words[..], &["--certificate", path(&certificate)]].concat());
    assert_eq!(
        (code, &answer["data"]["digest"]["replay"]),
        (0, &replayed["data"]["certificate"]["status"]),
        "{answer}"
    );
    let of_another = Recording::new(true);
    let words = ["report", "--digest", path(&of_another.bundle), "--certificate", path(&certificate)];
    assert_eq!(cli(&words).0, 2, "a certificate of another bundle says nothing");
}
