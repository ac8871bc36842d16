//! What statements cite beside bundles: chains of custody, copies in a bucket, releases. And kits that have all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_attest::Kit;
use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, SoftKey};
use estoppel_kit::{Scratch, SeaweedServer, require_real};
use serde_json::{Value, json};

use crate::attest::Recording;
use crate::custody::custodian;
use crate::releases::Repository;
use crate::support::{cli, cli_binary, path};

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

fn hint(answer: &Value) -> &str {
    answer["error"]["hint"].as_str().unwrap_or_default()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A run whose bundle a custodian had in hand.
struct Held {
    recording: Recording,
    list: PathBuf,
    custodian: PathBuf,
    public: PathBuf,
}

impl Held {
    fn new() -> Self {
        let recording = Recording::new(true);
        let (custodian, public) = custodian(&recording.scratch, "ada", 31);
        let list = PathBuf::from(format!("{}.custody.ndjson", recording.bundle.display()));
        let held = Self { recording, list, custodian, public };
        held.act(&["--action", "moved", "--from", "gateway", "--to", "safe"]);
        held.act(&["--action", "disclosed", "--to", "auditor"]);
        held
    }

    fn act(&self, words: &[&str]) {
        let bundle = &self.recording.bundle;
        let add = ["custody", "add", path(bundle), "--key", path(&self.custodian), "--actor", "ada"];
        let (exit, answer) = cli(&[&add[..], words].concat());
        assert_eq!(exit, 0, "{answer}");
    }

    fn verify(&self, out: &Path, more: &[&str]) -> (i32, Value) {
        let trust = self.recording.trust();
        let words = [
            "attest",
            "verify",
            path(out),
            "--bundle",
            path(&self.recording.bundle),
            "--trust",
            path(&trust),
        ];
        cli(&[&words[..], more].concat())
    }
}

impl Held {
    /// A kit with an attestation.
    fn kit(&self, attestation: &Path, more: &[&str]) -> (i32, Value) {
        let Recording { bundle, key, scratch, .. } = &self.recording;
        let (trust, out) = (self.recording.trust(), scratch.join("held.kit.zip"));
        let words = ["kit", "build", "--bundle", path(bundle), "--trust", path(&trust), "--key", path(key)];
        cli(&[&words[..], &["--attestation", path(attestation), "--out", path(&out)], more].concat())
    }
}

/// A control of what `estoppel attest` printed.
fn control<'v>(answer: &'v Value, id: &str) -> &'v Value {
    let rows = answer["data"]["attestation"]["controls"].as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} of {answer:#}"))
}

fn listed(evidence: &Value, kind: &str) -> Vec<String> {
    let row = evidence.as_array().unwrap().iter().find(|row| row["kind"] == kind);
    let listed = row.unwrap_or_else(|| panic!("{kind} of {evidence:#}"))["listed"].as_array().unwrap();
    listed.iter().map(|digest| digest.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_chain_of_custody_is_cited_entry_by_entry_and_a_forged_one_is_refused() {
    let held = Held::new();
    let (out, list) = (held.recording.scratch.join("pci"), path(&held.list).to_owned());
    let cited = ["--custody", &list, "--custodian", path(&held.public)];
    let (exit, answer) = held.recording.attest("nist-sp-800-161r1", &out, &cited);
    assert_eq!(exit, 0, "{answer}");
    let predicate = &answer["data"]["attestation"];
    let leaves: Vec<String> = text(&held.list)
        .lines()
        .map(|line| estoppel_evidence::Leaf::of(line.as_bytes()).to_string())
        .collect();
    assert_eq!(leaves.len(), 3);
    assert_eq!(listed(&predicate["evidence"], "custody_entries"), leaves);
    assert_eq!(predicate["custody"][0]["actions"], json!({ "disclosed": 1, "moved": 1, "sealed": 1 }));
    assert_eq!(predicate["custody"][0]["head"], leaves[2]);
    let kinds = control(&answer, "AU-10")["evidence"].to_string();
    assert!(kinds.contains("custody_entries"), "{kinds}");

    let whole = text(&held.list);
    assert_eq!(held.verify(&out, &cited).0, 0);
    held.act(&["--action", "verified"]);
    assert_eq!(held.verify(&out, &cited).0, 0, "the list has grown since");
    let (exit, answer) = held.verify(&out, &[]);
    assert_eq!((exit, code(&answer)), (6, "ATTESTATION_MISSING"), "what is cited has to be given");
    assert!(hint(&answer).contains("--custody"), "{answer}");
    let kit = held.kit(&out, &[]);
    assert_eq!((kit.0, code(&kit.1)), (6, "ATTESTATION_MISSING"), "{}", kit.1);
    assert!(hint(&kit.1).contains("--custody"), "{}", kit.1);
    assert_eq!(held.kit(&out, &["--custody", &list]).0, 0);
    let (_, stranger) = custodian(&held.recording.scratch, "bo", 32);
    let (exit, answer) = held.verify(&out, &["--custody", &list, "--custodian", path(&stranger)]);
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_UNTRUSTED"));
    let lines: Vec<&str> = whole.lines().collect();
    let [one, two, three] = lines[..] else { panic!("{whole}") };
    let altered = three.replacen("\"sig\":\"", "\"sig\":\"A", 1);
    for (forged, expected) in [
        (String::new(), "CUSTODY_FORM"),
        (format!("{one}\n{two}\n"), "CUSTODY_CUT"),
        (format!("{one}\n{three}\n"), "CUSTODY_CHAIN"),
        (format!("{one}\n{two}\n{altered}\n"), "CUSTODY_SCHEMA"),
    ] {
        std::fs::write(&held.list, forged).unwrap();
        let (exit, answer) = held.verify(&out, &cited);
        assert_eq!((exit, code(&answer)), (2, expected), "{answer}");
    }
    std::fs::write(&held.list, whole).unwrap();
    let other = Held::new();
    let (exit, answer) = held.recording.attest(
        "soc2-2017",
        &held.recording.scratch.join("o"),
        &["--custody", path(&other.list)],
    );
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_BUNDLE"), "a list of another bundle");
    assert!(!held.recording.scratch.join("o").exists());
}

#[test]
fn a_custodian_s_failed_verification_is_said_by_statement_copies_and_kit_and_keeps_no_bundle_out() {
    let held = Held::new();
    let Recording { bundle, scratch, .. } = &held.recording;
    let (whole, trust) = (std::fs::read(bundle).unwrap(), held.recording.trust());
    let verified = || {
        let words = ["custody", "add", path(bundle), "--action", "verified", "--actor", "ada"];
        cli(&[&words[..], &["--key", path(&held.custodian), "--trust", path(&trust)]].concat())
    };
    assert_eq!(verified().0, 0);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(bundle, &damaged).unwrap();
    let (exit, answer) = verified();
    assert_eq!(exit, 2, "{answer}");
    let list = path(&held.list).to_owned();
    let cited = ["--custody", &list, "--custodian", path(&held.public)];
    let out = scratch.join("soc2");
    let (exit, answer) = held.recording.attest("soc2-2017", &out, &cited);
    assert_eq!((exit, code(&answer)), (2, "ATTESTATION_BUNDLE"), "the bundle does not verify now");
    std::fs::write(bundle, &whole).unwrap();

    let (exit, answer) = held.recording.attest("soc2-2017", &out, &cited);
    assert_eq!(exit, 0, "{answer}");
    let predicate = &answer["data"]["attestation"];
    let failed = &predicate["custody"][0]["failed"];
    assert_eq!((&failed["count"], &failed["last"]), (&json!(1), &json!("failed")), "{failed:#}");
    let last = &failed["listed"][0];
    assert_eq!(last["found"], json!(Sha256::of(&damaged)));
    assert!(last["reason"].is_string() && last["entry"] == predicate["custody"][0]["head"], "{last:#}");
    assert_eq!(predicate["bundles"][0]["verdicts"]["integrity"], "ok", "and the bundle holds now");
    let faults = crate::attest::schema();
    assert!(faults.is_valid(&crate::attest::statement(&out.join("attestation.json"))));
    for copy in ["attestation.pdf", "assessment-results.json"] {
        let copy = String::from_utf8_lossy(&std::fs::read(out.join(copy)).unwrap()).into_owned();
        assert!(copy.contains("1 of 2 verifications") && copy.contains(last["reason"].as_str().unwrap()));
    }
    let told = |words: &[&str]| {
        let run = Command::new(cli_binary()).args(words).output().unwrap();
        assert!(run.status.success(), "{words:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let of = ["--bundle", path(bundle), "--trust", path(&trust), "--custody", &list];
    let report = ["compliance", "report", "--framework", "soc2-2017"];
    for words in [&["attest", "verify", path(&out)][..], &report[..]] {
        let said = told(&[words, &of[..]].concat());
        assert!(said.contains("FAILED       1 of 2 verifications of run "), "{said}");
    }

    assert_eq!(verified().0, 0);
    assert_eq!(held.verify(&out, &cited).0, 0, "a later one passed; the statement is about what was");
    let kit = scratch.join("held.kit.zip");
    let (exit, answer) = held.kit(&out, &["--custody", &list]);
    assert_eq!(exit, 0, "{answer}");
    let row = &answer["data"]["summary"]["custody"][0]["failed"];
    assert_eq!((&row["count"], &row["last"]), (&json!(1), &json!("passed")), "the kit has the longer list");
    let files = Kit::from_zip(&std::fs::read(&kit).unwrap()).unwrap().files;
    files.iter().for_each(|(name, content)| drop(scratch.write(format!("kit/{name}"), content)));
    let script = scratch.join("kit").join("verify.py");
    let python = Command::new("python3").arg(script).arg(&kit).output().unwrap();
    let python = String::from_utf8_lossy(&python.stdout).into_owned();
    assert!(python.starts_with("kit          holds"), "{python}");
    for said in [python, told(&["kit", "verify", path(&kit)])] {
        assert!(said.contains("FAILED       1 of 3 verifications of run "), "{said}");
    }
    let forge = |change: &dyn Fn(&mut Value)| {
        let mut statement = crate::attest::statement(&out.join("attestation.json"));
        change(&mut statement["predicate"]["custody"][0]);
        let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
        let forged = scratch.join("forged.json");
        std::fs::write(&forged, sign(STATEMENT_TYPE, &payload, &SoftKey::ed25519(&[11; 32])).unwrap())
            .unwrap();
        held.verify(&forged, &cited)
    };
    let (exit, answer) = forge(&|row| drop(row.as_object_mut().unwrap().remove("failed")));
    assert_eq!((exit, code(&answer)), (2, "ATTESTATION_MISMATCH"), "{answer}");
    let (exit, answer) = forge(&|row| row["failed"]["last"] = json!("passed"));
    assert_eq!((exit, code(&answer)), (2, "ATTESTATION_MISMATCH"), "{answer}");
}

const BUCKET: &str = "evidence";

/// Copies what is sealed to a bucket of a real service. Gives the index.
fn archived(held: &Held, server: &SeaweedServer, mode: &str, days: u32) -> PathBuf {
    let scratch = &held.recording.scratch;
    let credentials =
        json!({ "Version": 1, "AccessKeyId": SeaweedServer::KEY, "SecretAccessKey": SeaweedServer::SECRET });
    let secret = scratch.write("s3.json", credentials.to_string());
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "[archive]\nendpoint = \"http://{}\"\nbucket = \"{BUCKET}\"\nprefix = \"gw-1/\"\nmode = \"{mode}\"\nretain_days = {days}\n\
         credentials = {{ file = {secret:?} }}\ncustody = {{ key = {:?}, actor = \"archiver\" }}\n",
        server.address(),
        held.custodian
    );
    let config = scratch.write("archive.toml", config);
    let (exit, answer) =
        cli(&["archive", "push", path(&held.recording.world.journal()), "--config", path(&config)]);
    assert_eq!(exit, 0, "{answer}");
    held.recording.bundle.with_file_name("archive.ndjson")
}

#[test]
fn a_locked_copy_passes_where_a_trusted_custodian_signed_for_it_and_nowhere_else() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let held = Held::new();
    let index = archived(&held, &server, "compliance", 400);
    let (index, list) = (path(&index).to_owned(), path(&held.list).to_owned());
    let scratch = &held.recording.scratch;
    let cited = ["--archive", &index, "--custody", &list, "--custodian", path(&held.public)];
    let out = scratch.join("pci");
    let (exit, answer) = held.recording.attest("pci-dss-4.0.1", &out, &cited);
    assert_eq!(exit, 0, "{answer}");
    for id in ["10.3.3", "10.5.1"] {
        assert_eq!(control(&answer, id)["result"], "pass", "{:#}", control(&answer, id));
    }
    let copy = &answer["data"]["attestation"]["archive"]["copies"][0];
    let sha256 = Sha256::of(&std::fs::read(&held.recording.bundle).unwrap());
    assert_eq!((&copy["bucket"], &copy["mode"]), (&json!(BUCKET), &json!("COMPLIANCE")));
    assert_eq!(
        (copy["sha256"].clone(), copy["key"].clone()),
        (json!(sha256), json!(format!("gw-1/sha256/{}", sha256.hex())))
    );
    assert!(
        copy["version"].is_string() && copy["retain_until"].is_string() && copy["signed"].is_string(),
        "{copy}"
    );
    assert_eq!(held.verify(&out, &cited).0, 0);
    if let Some(reader) = require_real("pdftotext") {
        let page = out.join("attestation.pdf");
        let read = Command::new(reader).args(["-layout", path(&page), "-"]).output().unwrap();
        let text = String::from_utf8_lossy(&read.stdout);
        assert!(
            text.contains("bucket evidence") && text.contains("signed for") && text.contains("1 disclosed"),
            "{text}"
        );
    }

    let hipaa = held.recording.attest("hipaa-security-rule", &scratch.join("hipaa"), &cited).1;
    assert_eq!(control(&hipaa, "164.316(b)(2)(i)")["result"], "not_assessed", "400 days are no six years");
    let without =
        |more: &[&str], name: &str| held.recording.attest("pci-dss-4.0.1", &scratch.join(name), more).1;
    let nothing = without(&[], "nothing");
    assert_eq!(control(&nothing, "10.3.3")["result"], "no_evidence", "no archive was given");
    for (more, name) in [(&cited[..2], "unsigned"), (&cited[..4], "unvouched")] {
        let answer = without(more, name);
        let row = control(&answer, "10.3.3");
        assert_eq!(
            (&row["result"], &row["checks"][0]["against"]),
            (&json!("fail"), &json!("unlocked_bundles")),
            "{name}"
        );
        assert_ne!(control(&answer, "10.5.1")["result"], "pass", "{name}");
    }

    let whole = text(Path::new(&index));
    let longer = whole.replacen("\"retain_until\":\"20", "\"retain_until\":\"21", 1);
    let of_another = whole.replace(&sha256.hex(), &Sha256::of(b"another").hex());
    for (forged, expected) in [
        (whole.trim_end().to_owned(), "ARCHIVE_FORM"),
        (whole.replacen("COMPLIANCE", "NONE", 1), "ARCHIVE_SCHEMA"),
        (whole.lines().skip(1).map(|line| format!("{line}\n")).collect(), "ARCHIVE_CHAIN"),
        (longer, "ARCHIVE_CHAIN"),
    ] {
        std::fs::write(&index, &forged).unwrap();
        let (exit, answer) = held.verify(&out, &cited);
        assert_eq!((exit, code(&answer)), (2, expected), "{answer}");
        let (exit, answer) = held.recording.attest("pci-dss-4.0.1", &scratch.join("forged"), &cited);
        assert_eq!((exit, code(&answer)), (2, expected), "{answer}");
    }
    // One that was written anew, as nobody can see from it alone: the list of custody does not say so.
    let rewritten = rechained(&of_another.replacen("2027", "2037", 1));
    std::fs::write(&index, rewritten).unwrap();
    let (exit, answer) = held.verify(&out, &cited);
    assert_ne!(exit, 0, "{answer}");
}

/// The lines of an index, each with the hash of the one before it.
fn rechained(index: &str) -> String {
    let mut before: Option<String> = None;
    let mut out = String::new();
    for line in index.lines() {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        if let Some(prev) = &before {
            entry["prev"] = json!(prev);
        }
        let line =
            String::from_utf8(estoppel_evidence::canonical::foreign(entry.to_string().as_bytes()).unwrap())
                .unwrap();
        before = Some(estoppel_evidence::Leaf::of(line.as_bytes()).to_string());
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// A repository in which one version was promoted, its export, and the digest that it begins with.
fn promoted() -> (Repository, PathBuf, String) {
    let repository = Repository::new("cited");
    repository.seal("1.0.0", "true", &json!({ "approvals": { "count": 1 } }), &json!({}));
    assert_eq!(repository.evolve("1.0.0").0, 0);
    repository.done("other", &["approve", "1.0.0"]);
    repository.done("other", &["promote", "1.0.0"]);
    let export = repository.scratch.join("audit.json");
    let (exit, answer) = repository.ask(&["audit", "export", "--out", path(&export), "--local"]);
    assert_eq!(exit, 0, "{answer}");
    let document: Value = serde_json::from_str(&text(&export)).unwrap();
    (repository, export, document["genesis"].as_str().unwrap().to_owned())
}

/// The ids of the events of a kind, from the export alone.
fn events(export: &Path, kind: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(&text(export)).unwrap();
    let rows = document["rows"].as_array().unwrap().iter().filter(|row| row["kind"] == kind);
    rows.map(|row| row["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_promotion_answers_controls_of_change_by_the_digests_of_its_records() {
    let (repository, export, genesis) = promoted();
    let store = Scratch::new("empty");
    let report = |more: &[&str]| {
        let words =
            ["compliance", "report", "--journal", path(store.path()), "--framework", "nist-sp-800-161r1"];
        cli(&[&words[..], more].concat())
    };
    let word = |answer: &Value, id: &str| {
        let rows = answer["data"]["frameworks"][0]["controls"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).unwrap()["state"].clone()
    };
    let (exit, empty) = report(&[]);
    assert_eq!((exit, word(&empty, "CM-3")), (0, json!("no_evidence")));
    let by_repository = ["--ledger", path(&repository.dir)];
    let by_export = ["--ledger", path(&export), "--genesis", &genesis];
    for given in [&by_repository[..], &by_export[..]] {
        let (exit, answer) = report(given);
        assert_eq!(
            (exit, word(&answer, "CM-3"), word(&answer, "AU-2")),
            (0, json!("evidence"), json!("no_evidence"))
        );
        let evidence = &answer["data"]["frameworks"][0]["evidence"];
        for (kind, of) in [
            ("promotions", "promotion.finished"),
            ("release_approvals", "approval.given"),
            ("evolutions", "evolution.finished"),
            ("generations", "generation.sealed"),
            ("role_changes", "roles.set"),
        ] {
            assert_eq!(listed(evidence, kind), events(&export, of), "{kind}");
        }
        assert_eq!(listed(evidence, "promotions").len(), 1);
    }
    let (exit, answer) = report(&by_export[..2]);
    assert_eq!((exit, code(&answer)), (6, "ARGUMENT_INVALID"), "nobody vouches for its beginning");
    let (exit, answer) = report(&["--ledger", path(&export), "--genesis", &Sha256::of(b"x").to_string()]);
    assert_eq!((exit, code(&answer)), (2, "LEDGER_GENESIS"), "{answer}");
    let forged = text(&export).replacen("approved", "approvel", 1).replacen(
        "\"payload\":\"eyJ",
        "\"payload\":\"eyK",
        1,
    );
    std::fs::write(&export, forged).unwrap();
    let (exit, answer) = report(&by_export);
    assert_eq!(exit, 2, "{answer}");
}

#[test]
fn releases_are_cited_in_a_statement_that_holds_when_the_ledger_has_grown() {
    let (repository, export, genesis) = promoted();
    let recording = Recording::new(true);
    let out = recording.scratch.join("soc2");
    let (exit, answer) = recording.attest("soc2-2017", &out, &["--ledger", path(&repository.dir)]);
    assert_eq!(exit, 0, "{answer}");
    assert_eq!(answer["data"]["attestation"]["ledger"]["genesis"], genesis);
    let signed = crate::attest::statement(&out.join("attestation.json"));
    let schema = crate::attest::schema();
    let faults: Vec<String> = schema.iter_errors(&signed).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let trust = recording.trust();
    let verify = |more: &[&str]| {
        let words =
            ["attest", "verify", path(&out), "--bundle", path(&recording.bundle), "--trust", path(&trust)];
        cli(&[&words[..], more].concat())
    };
    assert_eq!(verify(&["--ledger", path(&export)]).0, 0);
    repository.seal("1.0.1", "true", &json!({}), &json!({}));
    assert_eq!(verify(&["--ledger", path(&repository.dir)]).0, 0);
    let (exit, answer) = verify(&[]);
    assert_eq!((exit, code(&answer)), (6, "ATTESTATION_MISSING"), "{answer}");
    assert!(hint(&answer).contains("--ledger"), "{answer}");
    let (key, kit) = (path(&recording.key), recording.scratch.join("soc2.kit.zip"));
    let words = ["kit", "build", "--bundle", path(&recording.bundle), "--trust", path(&trust), "--key", key];
    let (exit, answer) = cli(&[&words[..], &["--attestation", path(&out), "--out", path(&kit)]].concat());
    assert_eq!((exit, code(&answer)), (6, "ATTESTATION_MISSING"), "{answer}");
    assert!(hint(&answer).contains("--audit-export"), "{answer}");
    let words = ["attest", "--framework", "soc2-2017", "--ledger", path(&repository.dir), "--key", key];
    let (exit, answer) = cli(&[&words[..], &["--out", path(&recording.scratch.join("none"))]].concat());
    assert_eq!((exit, code(&answer)), (6, "ATTESTATION_EMPTY"), "{answer}");
    assert!(hint(&answer).contains("--bundle") && hint(&answer).contains("--journal"), "{answer}");
    let other = promoted();
    let (exit, answer) = verify(&["--ledger", path(&other.1)]);
    assert_eq!((exit, code(&answer)), (2, "AUDIT_ALTERED"), "{answer}");
}

/// A kit that has a part of every kind.
pub struct Whole {
    held: Held,
    kit: PathBuf,
    _repository: Repository,
    server: Option<SeaweedServer>,
}

impl Whole {
    pub fn new() -> Self {
        let server = SeaweedServer::start();
        let held = Held::new();
        let recording = &held.recording;
        let scratch = &recording.scratch;
        let index = server.as_ref().map(|server| {
            server.make_bucket(BUCKET, true);
            archived(&held, server, "governance", 2)
        });
        let (repository, export, genesis) = promoted();
        let export = scratch.write("audit.json", std::fs::read(export).unwrap());
        let list = path(&held.list).to_owned();
        let mut cited = vec!["--custody", &list];
        cited.extend(index.iter().flat_map(|index| ["--archive", path(index)]));
        let attested = [
            &cited[..],
            &["--custodian", path(&held.public), "--ledger", path(&export), "--genesis", &genesis],
        ]
        .concat();
        let out = scratch.join("soc2");
        let (exit, answer) = recording.attest("soc2-2017", &out, &attested);
        assert_eq!(exit, 0, "{answer}");
        let (certificate, result, kit) =
            (scratch.join("replay.json"), scratch.join("regress.json"), scratch.join("a.kit.zip"));
        let keys = recording.world.journal().join("keys");
        let replay =
            ["replay", "run", path(&recording.bundle), "--key", path(&recording.key), "--allow-partial"];
        cli(&[&replay[..], &["--out", path(&certificate), "--keys", path(&keys)]].concat());
        let policy = scratch.write(
            "looser.yaml",
            "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\n",
        );
        let regress =
            cli(&["regress", "run", "--bundle", path(&recording.bundle), "--policy", path(&policy)]).1;
        assert!(regress["data"]["calls"].as_array().is_some_and(|rows| rows.len() == 3), "{regress}");
        std::fs::write(&result, regress.to_string()).unwrap();
        let trust = recording.trust();
        let words = [
            "kit",
            "build",
            "--bundle",
            path(&recording.bundle),
            "--trust",
            path(&trust),
            "--key",
            path(&recording.key),
        ];
        let more = [
            "--attestation",
            path(&out),
            "--audit-export",
            path(&export),
            "--certificate",
            path(&certificate),
        ];
        let last = ["--regress", path(&result), "--out", path(&kit)];
        let (exit, answer) = cli(&[&words[..], &more, &cited, &last].concat());
        assert_eq!(exit, 0, "{answer}");
        Self { held, kit, _repository: repository, server }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        Kit::from_zip(&std::fs::read(&self.kit).unwrap()).unwrap().files
    }

    fn statement(&self) -> Value {
        let envelope: Value = serde_json::from_slice(&self.files()["kit.json"]).unwrap();
        serde_json::from_slice(&from_base64(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// The same kit with other files and another statement, as its signer could sign it.
    pub fn resigned(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>, &mut Value)) -> PathBuf {
        let (mut files, mut statement) = (self.files(), self.statement());
        change(&mut files, &mut statement);
        files.remove("kit.json");
        let subject = |(path, content): (&String, &Vec<u8>)| json!({ "digest": { "sha256": Sha256::of(content).hex() }, "name": path });
        statement["subject"] = files.iter().map(subject).collect();
        let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
        files
            .insert("kit.json".into(), sign(STATEMENT_TYPE, &payload, &SoftKey::ed25519(&[11; 32])).unwrap());
        self.held.recording.scratch.write("changed.zip", Kit { files }.to_zip().unwrap())
    }

    /// What both programs say of a kit: exit code and code.
    pub fn answers(&self, kit: &Path) -> [(i32, String); 2] {
        let (exit, answer) = cli(&["kit", "verify", path(kit)]);
        let script = self.held.recording.scratch.join("kit").join("verify.py");
        let out = Command::new("python3").arg(script).arg(kit).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        let refused = said.strip_prefix("REFUSED ").and_then(|rest| rest.split(':').next());
        assert!(out.status.success() || refused.is_some(), "{said}");
        [
            (exit, code(&answer).to_owned()),
            (out.status.code().unwrap(), refused.unwrap_or_default().to_owned()),
        ]
    }

    pub fn unpack(&self) {
        for (path, content) in self.files() {
            self.held.recording.scratch.write(format!("kit/{path}"), content);
        }
    }
}

/// JSON pointers to every number and every digest below.
fn leaves(value: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| leaves(value, &format!("{at}/{name}"), into))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| leaves(value, &format!("{at}/{index}"), into))
        }
        _ => into.push(at.to_owned()),
    }
}

#[test]
fn every_number_of_a_kit_s_summary_is_counted_again_by_both_programs() {
    let whole = Whole::new();
    whole.unpack();
    let held = [(0, String::new()), (0, String::new())];
    assert_eq!(whole.answers(&whole.kit), held);
    assert_eq!(whole.answers(&whole.resigned(|_, _| ())), held, "what was not changed holds");
    let statement = whole.statement();
    let summary = &statement["predicate"]["summary"];
    for name in ["inventory", "trace", "regress", "runs", "certificates", "custody", "ledger", "releases"] {
        assert!(!summary[name].is_null(), "{name} of {summary:#}");
    }
    assert_eq!(
        summary["regress"][0]["changed"].as_u64().unwrap() + summary["regress"][0]["same"].as_u64().unwrap(),
        3
    );
    let mut places = Vec::new();
    leaves(summary, "/predicate/summary", &mut places);
    let is_number = |place: &&String| statement.pointer(place).unwrap().is_u64();
    let numbers: Vec<&String> = places.iter().filter(is_number).collect();
    assert!(numbers.len() > 40, "{numbers:?}");
    let refused = || (2, "KIT_SUMMARY".to_owned());
    let mut members = BTreeSet::new();
    for place in numbers {
        let forged = whole.resigned(|_, kit| {
            let value = kit.pointer_mut(place).unwrap();
            *value = json!(value.as_u64().unwrap() + 1);
        });
        let member = place.split('/').nth(3).unwrap();
        if members.insert(member) {
            assert_eq!(whole.answers(&forged), [refused(), refused()], "{place}");
        } else {
            let (exit, answer) = cli(&["kit", "verify", path(&forged)]);
            assert_eq!((exit, code(&answer).to_owned()), refused(), "{place}: {answer}");
        }
    }
    assert!(members.len() >= 9, "{members:?}");
}

/// Exchanges a file under `folder` for what `change` makes of it, called as its digest where its name is one.
fn exchange(files: &mut BTreeMap<String, Vec<u8>>, folder: &str, change: impl FnOnce(&str) -> String) {
    let path =
        files.keys().find(|path| path.starts_with(folder) && !path.ends_with(".pef.zip")).unwrap().clone();
    let content = change(std::str::from_utf8(&files.remove(&path).unwrap()).unwrap()).into_bytes();
    let named = ["certificates/", "regress/"].contains(&folder);
    let to = if named { format!("{folder}{}.json", Sha256::of(&content).hex()) } else { path };
    files.insert(to, content);
}

#[test]
fn parts_of_a_kit_that_do_not_hold_are_refused_by_both_programs() {
    let whole = Whole::new();
    whole.unpack();
    let refused = |folder: &str, change: fn(&str) -> String, expected: &str| {
        let kit = whole.resigned(|files, _| exchange(files, folder, change));
        assert_eq!(whole.answers(&kit), [(2, expected.to_owned()), (2, expected.to_owned())], "{folder}");
    };
    refused(
        "bundles/",
        |list| list.lines().skip(1).map(|line| format!("{line}\n")).collect(),
        "CUSTODY_CHAIN",
    );
    refused("bundles/", |list| list.trim_end().to_owned(), "CUSTODY_FORM");
    refused(
        "certificates/",
        |text| {
            let (head, sig) = text.split_once("\"sig\":\"").unwrap();
            let (first, other) =
                if sig.starts_with('A') { ('A', 'B') } else { (sig.chars().next().unwrap(), 'A') };
            format!("{head}\"sig\":\"{}", sig.replacen(first, &other.to_string(), 1))
        },
        "CERTIFICATE_SIGNATURE",
    );
    refused("regress/", |text| text.replacen("\"state\":\"changed\"", "\"state\":\"same\"", 1), "KIT_RESULT");
    refused("regress/", |text| text.replacen("\"changed\":1", "\"changed\":0", 1), "KIT_RESULT");
    refused(
        "regress/",
        |text| text.replacen("\"verdict\":\"block\"", "\"verdict\":\"allow\"", 1),
        "KIT_RESULT",
    );
    refused("regress/", |text| text.replacen("\"call\":\"0", "\"call\":\"1", 1), "KIT_RESULT");
    refused(
        "ledger.json",
        |text| text.replacen("\"head\":\"sha256:", "\"head\":\"sha256:0", 1),
        "AUDIT_ALTERED",
    );
    if whole.server.is_some() {
        refused("archive.ndjson", |index| index.replacen("GOVERNANCE", "COMPLIANCE", 1), "ARCHIVE_CHAIN");
    }
    let renamed = whole.resigned(|files, _| {
        let path = files.keys().find(|path| path.starts_with("regress/")).unwrap().clone();
        let content = files.remove(&path).unwrap();
        files.insert(format!("regress/{}.json", Sha256::of(b"x").hex()), content);
    });
    assert_eq!(whole.answers(&renamed), [(2, "KIT_ALTERED".to_owned()), (2, "KIT_ALTERED".to_owned())]);
    let weaker = whole.resigned(|files, _| {
        let file = files.get_mut("attestations/soc2-2017/attestation.json").unwrap();
        let envelope: Value = serde_json::from_slice(file).unwrap();
        let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        let predicate = &mut statement["predicate"];
        let controls = predicate["controls"].as_array_mut().unwrap();
        let control = controls.iter_mut().find(|control| control["id"] == "CC8.1").unwrap();
        assert_eq!(control["state"], "evidence");
        (control["state"], control["evidence"]) = (json!("no_evidence"), json!([]));
        for (word, more) in [("evidence", -1), ("no_evidence", 1)] {
            let count = predicate["counts"][word].as_i64().unwrap();
            predicate["counts"][word] = json!(count + more);
        }
        let payload = estoppel_evidence::canonical::foreign(statement.to_string().as_bytes()).unwrap();
        *file = sign(STATEMENT_TYPE, &payload, &SoftKey::ed25519(&[11; 32])).unwrap();
    });
    let mismatch = || (2, "ATTESTATION_MISMATCH".to_owned());
    assert_eq!(
        whole.answers(&weaker),
        [mismatch(), mismatch()],
        "counted right, and not what the evidence gives"
    );
    let cut = whole.resigned(|files, _| drop(files.remove("ledger.json")));
    assert_eq!(whole.answers(&cut), [mismatch(), mismatch()], "an attestation cites the ledger");
}
