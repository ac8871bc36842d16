use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Sha256, Signer as _, SoftKey};
use estoppel_incident::Pack;
use estoppel_kit::Scratch;
use estoppel_kit::http::{Request, post};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, path};

const LARGE: &str = r#"{"amount":90000}"#;

fn approver() -> SoftKey {
    SoftKey::ed25519(&[7; 32])
}

fn policy() -> String {
    format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {{ full: {{ reason: r }} }} }}\n\
         approvers:\n  ada: {}\nrules:\n\
         - {{ id: no-drop, when: {{ method: DELETE }}, verdict: block, reason: TOOL_DENIED }}\n\
         - id: large\n  when: {{ method: POST, body: [{{ at: /amount, greater_than: 1000 }}] }}\n  verdict: hold\n  hold: {{ approvers: [ada] }}\n",
        base64(approver().public().spki())
    )
}

fn transfer(body: &str) -> Request {
    let request = Request::new("POST", "/transfers").header("content-type", "application/json");
    request.header("estoppel-run", "subject").body(body)
}

/// A run with a plain, a blocked and an approved call; another one with a blocked call; and a bypass that was reported.
fn happened() -> (World, PathBuf) {
    let script = Script::always(Reply::json(r#"{"done":true}"#));
    let mut world = World::with(script, &Setup { policy: policy(), ..Setup::default() });
    let key = world.scratch.write("ada.pem", approver().to_pem().unwrap().as_bytes());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let admin = world.admin.to_string();
    assert_eq!(world.send(&transfer(r#"{"amount":1}"#)).status(), 200);
    let hold = world.send(&transfer(LARGE)).header("estoppel-hold").unwrap().to_owned();
    let approved = cli(&[
        "hold",
        "approve",
        &hold,
        "--key",
        path(&key),
        "--comment",
        "by <b>phone</b>",
        "--admin",
        &admin,
    ]);
    assert_eq!(approved.0, 0, "{}", approved.1);
    assert_eq!(world.send(&transfer(LARGE).header("estoppel-hold", &hold)).status(), 200);
    for run in ["subject", "beside"] {
        assert_eq!(world.send(&Request::new("DELETE", "/orders").header("estoppel-run", run)).status(), 403);
    }
    assert_eq!(world.send(&Request::new("GET", "/orders").header("estoppel-run", "beside")).status(), 200);
    let said = json!({ "source": "database", "ref": "orders:1", "comment": "<script>alert(1)</script>" });
    assert_eq!(post(world.admin, "/bypasses", said.to_string()).unwrap().status(), 200);
    world.wait_until_idle();
    let subject = world.seal("subject");
    world.seal("beside");
    world.stop();
    (world, subject)
}

fn incident(world: &World, from: &str, out: &Path) -> (i32, Value) {
    let (journal, trust) = (world.journal(), world.journal().join("trust.json"));
    cli(&[
        "incident",
        "--from",
        from,
        "--journal",
        path(&journal),
        "--trust",
        path(&trust),
        "--out",
        path(out),
    ])
}

fn verify(pack: &Path) -> (i32, String) {
    let (code, answer) = cli(&["incident", "verify", path(pack)]);
    (code, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn files(pack: &Path) -> BTreeMap<String, Vec<u8>> {
    let pack = Pack::from_zip(&std::fs::read(pack).unwrap()).unwrap();
    pack.files.into_iter().map(|(path, content)| (path.to_string(), content)).collect()
}

fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let files = files.iter().map(|(path, content)| (path.parse().unwrap(), content.clone())).collect();
    std::fs::write(path, Pack { files }.to_zip().unwrap()).unwrap();
}

#[test]
fn a_run_and_what_happened_around_it_are_one_file_whose_references_all_resolve() {
    let (world, subject) = happened();
    let scratch = Scratch::new("incident");
    let out = scratch.join("a.zip");
    let (code, answer) = incident(&world, "subject", &out);
    assert_eq!(code, 0, "{answer:#}");
    assert_eq!(verify(&out), (0, String::new()));
    let summary = &answer["data"]["index"]["summary"];
    let reasons = json!({ "APPROVAL_REQUIRED": 1, "BYPASS": 1, "TOOL_DENIED": 2 });
    assert_eq!((&summary["reasons"], &summary["kinds"]["approval"]), (&reasons, &json!(1)), "{summary:#}");
    let files = files(&out);
    let timeline: Value = serde_json::from_slice(&files["timeline.json"]).unwrap();
    let rows = timeline["rows"].as_array().unwrap();
    let kinds: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["verdict"].as_str().unwrap_or("-")))
        .collect();
    let expected = [
        "run.open -",
        "call allow",
        "hold -",
        "call hold",
        "approval -",
        "call allow",
        "call block",
        "bypass -",
        "run.seal -",
    ];
    for kind in expected {
        assert!(kinds.iter().any(|found| found == kind), "{kind} in {kinds:?}");
    }
    let of_others = rows.iter().filter(|row| !row["bundle"].as_str().unwrap().contains(&run_of(&subject)));
    let of_others: Vec<&Value> = of_others.collect();
    assert!(of_others.iter().all(|row| row["notable"] == true) && !of_others.is_empty(), "{of_others:#?}");

    let mut seen = 0;
    for row in rows {
        for link in row["links"].as_array().unwrap() {
            let Some(at) = link["at"].as_str() else { continue };
            let (bundle, inside) = at.split_once('!').unwrap();
            let opened = estoppel_bundle::Bundle::from_zip(files[bundle].as_slice()).unwrap();
            let to = link["to"].as_str().unwrap();
            match inside.split_once('#') {
                Some((_, seq)) => {
                    let shown = scratch.write("one.pef.zip", &files[bundle]);
                    let entry = cli(&["show", path(&shown), "--call", seq]).1["data"].clone();
                    assert!(entry["hold"] == to || entry["call"] == to, "{link} leads to {entry}");
                }
                None => {
                    let content = opened.read(&inside.parse().unwrap(), 1 << 20).unwrap();
                    assert_eq!(Sha256::of(&content).to_string(), to, "{link}");
                }
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} references");

    let page = String::from_utf8(files["timeline.html"].clone()).unwrap();
    assert!(
        !page.contains("<script") && !page.contains("<b>") && page.contains("by &lt;b&gt;phone&lt;/b&gt;"),
        "{page}"
    );
    let again = scratch.join("b.zip");
    assert_eq!(incident(&world, &run_of(&subject), &again).0, 0);
    assert!(
        std::fs::read(&out).unwrap() == std::fs::read(&again).unwrap(),
        "the same bundles give the same bytes"
    );
    let (code, answer) = incident(&world, "subject", &out);
    assert_eq!((code, &answer["error"]["code"]), (8, &json!("OUTPUT_EXISTS")), "{answer}");
}

fn run_of(bundle: &Path) -> String {
    bundle.file_name().unwrap().to_str().unwrap().trim_end_matches(".pef.zip").to_owned()
}

#[test]
fn a_bundle_alone_is_enough_and_what_is_not_sealed_is_not_found() {
    let (world, subject) = happened();
    let scratch = Scratch::new("alone");
    let out = scratch.join("a.zip");
    let (code, answer) = cli(&["incident", "--from", path(&subject), "--out", path(&out), "--window", "1h"]);
    assert_eq!((code, answer["data"]["index"]["bundles"].as_array().unwrap().len()), (0, 1), "{answer:#}");
    assert_eq!(verify(&out).0, 0);
    let refused = |words: &[&str]| {
        let (code, answer) = cli(&[&["incident"], words].concat());
        format!("{code} {}", answer["error"]["code"].as_str().unwrap())
    };
    let (journal, none) = (world.journal(), scratch.join("none.zip"));
    let (journal, none) = (path(&journal), path(&none));
    assert_eq!(refused(&["--from", "never", "--journal", journal, "--out", none]), "6 RUN_UNKNOWN");
    assert_eq!(refused(&["--from", "subject", "--out", none]), "6 RUN_UNKNOWN");
    assert_eq!(refused(&["--from", path(&subject), "--window", "1y", "--out", none]), "6 ARGUMENT_INVALID");
    assert_eq!(refused(&["--from", path(&subject)]), "6 ARGUMENT_INVALID");
    let mut forged = std::fs::read(&subject).unwrap();
    let at = forged.windows(7).position(|part| part == b"\"allow\"").unwrap();
    forged[at + 1] = b'b';
    let forged = scratch.write("forged.pef.zip", forged);
    let said = refused(&["--from", path(&forged), "--out", none]);
    assert!(said.starts_with("2 ") || said.starts_with("6 "), "{said}");
    assert!(!Path::new(none).exists(), "nothing is left of what failed");
}

#[test]
fn what_is_altered_missing_or_not_of_it_is_refused() {
    let (world, subject) = happened();
    let scratch = Scratch::new("forged");
    let out = scratch.join("a.zip");
    assert_eq!(incident(&world, "subject", &out).0, 0);
    let files = files(&out);
    let (run, other) = (run_of(&subject), scratch.join("b.zip"));
    let own = format!("bundles/{run}.pef.zip");
    let beside = files.keys().find(|path| path.starts_with("bundles/") && **path != own).unwrap();
    type Files = BTreeMap<String, Vec<u8>>;
    let check = |what: &str, change: &dyn Fn(&mut Files), expected: &str| {
        let mut changed = files.clone();
        change(&mut changed);
        write(&other, &changed);
        assert_eq!(verify(&other), (2, expected.to_owned()), "{what}");
    };
    let replace = |files: &mut BTreeMap<String, Vec<u8>>, path: &str, from: &str, to: &str| {
        let text = String::from_utf8(files[path].clone()).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        files.insert(path.to_owned(), text.replacen(from, to, 1).into_bytes());
    };
    check(
        "timeline",
        &|f| replace(f, "timeline.json", r#""verdict":"block""#, r#""verdict":"allow""#),
        "INCIDENT_ALTERED",
    );
    check("page", &|f| replace(f, "timeline.html", "verdict: block", "verdict: allow"), "INCIDENT_ALTERED");
    check("index", &|f| replace(f, "incident.json", r#""rows":"#, r#""rows":1"#), "INCIDENT_ALTERED");
    check(
        "window",
        &|f| replace(f, "incident.json", r#""window_s":1800"#, r#""window_s":1801"#),
        "INCIDENT_ALTERED",
    );
    check("form", &|f| replace(f, "incident.json", "{", "["), "INCIDENT_FORM");
    check("no index", &|f| drop(f.remove("incident.json")), "INCIDENT_MISSING");
    check("no page", &|f| drop(f.remove("timeline.html")), "INCIDENT_MISSING");
    check("a file more", &|f| drop(f.insert("notes.txt".into(), b"x".to_vec())), "INCIDENT_UNDECLARED");
    check(
        "content more",
        &|f| drop(f.insert(format!("{own}.d/{}", "0".repeat(64)), b"x".to_vec())),
        "INCIDENT_UNDECLARED",
    );
    check("a bundle less", &|f| drop(f.remove(beside)), "INCIDENT_ALTERED");
    check("its own bundle gone", &|f| drop(f.remove(&own)), "INCIDENT_FORM");
    let forged = |f: &mut BTreeMap<String, Vec<u8>>| {
        let bundle = f.get_mut(&own).unwrap();
        let at = bundle
            .windows(9)
            .position(|part| part == b"POST /tra" || part == b"\"blocked\"")
            .unwrap_or(bundle.len() / 2);
        bundle[at] ^= 1;
    };
    check("a bundle altered", &forged, "INCIDENT_BUNDLE");
    let swapped = |f: &mut BTreeMap<String, Vec<u8>>| {
        let content = f[beside].clone();
        f.insert(own.clone(), content);
    };
    check("one bundle in the place of another", &swapped, "INCIDENT_FORM");
    let mut bytes = std::fs::read(&out).unwrap();
    let length = bytes.len();
    for cut in [0, 1, length / 2, length - 1] {
        std::fs::write(&other, &bytes[..cut]).unwrap();
        assert_eq!(verify(&other), (2, "INCIDENT_FORM".into()), "{cut} of {length} bytes");
    }
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    assert_eq!(verify(&other).1, "INCIDENT_FORM");
    let strange = scratch.join("strange.json");
    let keys = world.scratch.join("other-keys");
    assert_eq!(cli(&["keys", "init", "--dir", path(&keys)]).0, 0);
    let listed = Command::new(crate::support::cli_binary())
        .args(["keys", "list", "--dir", path(&keys), "--trust", "localhost/e2e/0"])
        .output()
        .unwrap();
    std::fs::write(&strange, listed.stdout).unwrap();
    let (code, answer) = cli(&["incident", "verify", path(&out), "--trust", path(&strange)]);
    assert_eq!((code, &answer["error"]["code"]), (2, &json!("INCIDENT_BUNDLE")), "{answer}");
}

#[test]
fn calls_are_judged_again_by_the_policy_of_today_and_whoever_verifies_judges_them_once_more() {
    let (world, subject) = happened();
    let scratch = Scratch::new("again");
    let looser = scratch
        .write("looser.yaml", policy().replace("verdict: block, reason: TOOL_DENIED", "verdict: allow"));
    let out = scratch.join("a.zip");
    let with = |policy: &Path, out: &Path| {
        cli(&["incident", "--from", path(&subject), "--policy", path(policy), "--out", path(out)])
    };
    let (code, answer) = with(&looser, &out);
    assert_eq!(code, 0, "{answer:#}");
    let regress = &answer["data"]["index"]["regress"];
    assert_eq!(regress["counts"], json!({ "changed": 1, "same": 2, "undecided": 1 }), "{answer:#}");
    assert_eq!(verify(&out), (0, String::new()));

    let found = files(&out);
    let results: Value = serde_json::from_slice(&found["regress.json"]).unwrap();
    assert_eq!(results["policy"], json!(Sha256::of(&found["regress/policy.json"]).to_string()));
    let rows = results["rows"].as_array().unwrap();
    let changed = rows.iter().find(|row| row["state"] == "changed").unwrap();
    assert_eq!(
        (&changed["recorded"]["verdict"], &changed["now"]["verdict"]),
        (&json!("block"), &json!("allow"))
    );
    assert_eq!(changed["because"], "policy");
    let timeline: Value = serde_json::from_slice(&found["timeline.json"]).unwrap();
    let mut linked = 0;
    for row in timeline["rows"].as_array().unwrap() {
        for link in row["links"].as_array().unwrap().iter().filter(|link| link["kind"] == "regress") {
            let seq: u64 =
                link["at"].as_str().unwrap().strip_prefix("regress.json#").unwrap().parse().unwrap();
            let result = rows.iter().find(|result| result["seq"] == seq).unwrap();
            assert_eq!((&result["call"], &result["state"]), (&row["call"], &row["regress"]));
            linked += 1;
        }
    }
    assert_eq!(linked, rows.len());
    assert!(String::from_utf8_lossy(&found["timeline.html"]).contains("1 otherwise"));

    let own = scratch.write("own.yaml", policy());
    let other = scratch.join("b.zip");
    assert_eq!(with(&own, &other).1["data"]["index"]["regress"]["counts"]["changed"], 0);
    let forge = |name: &str, content: Option<&[u8]>| {
        let mut forged = found.clone();
        match content {
            Some(content) => drop(forged.insert(name.to_owned(), content.to_vec())),
            None => drop(forged.remove(name)),
        }
        let path = scratch.join("forged.zip");
        write(&path, &forged);
        verify(&path)
    };
    let softened = String::from_utf8(found["regress.json"].clone()).unwrap().replace("changed", "samesam");
    let refused = |code: &str| (2, code.to_owned());
    assert_eq!(forge("regress.json", Some(softened.as_bytes())), refused("INCIDENT_ALTERED"));
    assert_eq!(forge("regress.json", None), refused("INCIDENT_MISSING"));
    let theirs = &files(&other)["regress/policy.json"];
    assert_eq!(forge("regress/policy.json", Some(theirs)), refused("INCIDENT_ALTERED"));
    assert_eq!(forge("regress/policy.json", Some(b"{}")), refused("INCIDENT_FORM"));
    assert_eq!(forge("regress/policy.json", None), refused("INCIDENT_ALTERED"));
    drop(world);
}

/// The rows of `absent.json`, which have to be on the timeline and the page as well.
fn absent(pack: &Path) -> Vec<Value> {
    let files = files(pack);
    let list: Value = serde_json::from_slice(&files["absent.json"]).unwrap();
    let timeline: Value = serde_json::from_slice(&files["timeline.json"]).unwrap();
    let index: Value = serde_json::from_slice(&files["incident.json"]).unwrap();
    let schema = serde_json::from_str(include_str!("../../spec/incident.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    schema.validate(&list).unwrap_or_else(|error| panic!("{error}: {list:#}"));
    let rows = list["rows"].as_array().unwrap().clone();
    assert_eq!(timeline["absent"], list["rows"]);
    let counted: u64 =
        index["absent"]["counts"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(counted, rows.len() as u64, "{index:#}");
    let page = String::from_utf8(files["timeline.html"].clone()).unwrap();
    assert!(rows.iter().all(|row| page.contains(row["run"].as_str().unwrap())), "{page}");
    rows
}

#[test]
fn runs_of_the_window_that_retention_took_or_that_are_missing_are_named_with_why() {
    let mut world = World::with(Script::model(), &Setup::default());
    let bundles: Vec<PathBuf> = ["subject", "gone", "lost", "open"]
        .into_iter()
        .map(|run| {
            let request =
                crate::support::chat(run, r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
            assert_eq!(world.send(&request).status(), 200);
            if run == "open" { PathBuf::new() } else { world.seal(run) }
        })
        .collect();
    let [subject, gone, lost, _] = &bundles[..] else { panic!("four runs") };
    let journal = world.journal();
    let scratch = Scratch::new("absent");
    let out = |name: &str| scratch.join(name);

    // Retention takes one, by a plan that names no other; another is missing, and nobody signed for that.
    let kept: Vec<(PathBuf, PathBuf)> = [subject, lost]
        .map(|bundle| (bundle.clone(), scratch.join(bundle.file_name().unwrap().to_str().unwrap())))
        .into();
    for (from, to) in &kept {
        std::fs::rename(from, to).unwrap();
    }
    let rules = scratch.write(
        "rules.toml",
        "version = 1\n[[rule]]\nid = \"now\"\nclass = \"bundles\"\nrun_class = \"caller\"\nkeep_days = 0\n",
    );
    let admin = world.admin.to_string();
    let words = ["retention", "apply", "--rules", path(&rules), "--by", "J", "--journal", path(&journal)];
    let (code, applied) = cli(&[&words[..], &["--admin", &admin]].concat());
    assert_eq!((code, &applied["data"]["deleted"]), (0, &json!(1)), "{applied:#}");
    for (from, to) in &kept {
        std::fs::rename(to, from).unwrap();
    }
    std::fs::remove_file(lost).unwrap();

    let (code, answer) = incident(&world, "subject", &out("a.zip"));
    assert_eq!(code, 0, "{answer:#}");
    assert_eq!(verify(&out("a.zip")), (0, String::new()));
    let rows = absent(&out("a.zip"));
    assert_eq!(answer["data"]["absent"], json!(rows));
    let of =
        |run: &str| rows.iter().find(|row| row["run"] == run).unwrap_or_else(|| panic!("{run} in {rows:#?}"));
    let named = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    let report = std::fs::read(applied["data"]["report"].as_str().unwrap()).unwrap();
    let deleted = of(&run_of(gone));
    assert_eq!(deleted["why"], "deleted");
    assert_eq!(
        (&deleted["deletion"]["plan"], &deleted["deletion"]["report"]),
        (&applied["data"]["plan"], &json!(Sha256::of(&report).to_string()))
    );
    assert_eq!((&of(&run_of(lost))["why"], &named("open")["why"]), (&json!("missing"), &json!("open")));
    let instance = rows.iter().find(|row| row["class"] == "instance").unwrap();
    assert_eq!((&instance["why"], rows.len()), (&json!("open"), 4), "{rows:#?}");
    let (code, answer) = incident(&world, "gone", &out("none.zip"));
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("INCIDENT_ABSENT")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(applied["data"]["plan"].as_str().unwrap()));

    // A report that nobody signed explains nothing.
    world.stop();
    let report = PathBuf::from(applied["data"]["report"].as_str().unwrap());
    let signed = std::fs::read(&report).unwrap();
    let mut forged = signed.clone();
    let at = forged.len() / 2;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    std::fs::write(&report, &forged).unwrap();
    assert_eq!(incident(&world, "subject", &out("b.zip")).0, 0);
    let rows = absent(&out("b.zip"));
    let row = rows.iter().find(|row| row["run"] == run_of(gone)).unwrap();
    assert_eq!(
        (&row["why"], &row["deletion"]["report"]),
        (&json!("deleting"), &Value::Null),
        "a plan without its report"
    );
    std::fs::write(report.with_extension("").with_extension("planned.json"), b"{}").unwrap();
    assert_eq!(incident(&world, "subject", &out("c.zip")).0, 0);
    let rows = absent(&out("c.zip"));
    let row = rows.iter().find(|row| row["run"] == run_of(gone)).unwrap();
    assert_eq!((&row["why"], &row["deletion"]), (&json!("missing"), &Value::Null));

    // Of a log that does not verify nobody knows what it had.
    let segment = std::fs::read_dir(journal.join("segments")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, answer) = incident(&world, "subject", &out("d.zip"));
    assert_eq!((code, answer["data"]["index"]["absent"]["unread"].is_string()), (0, true), "{answer:#}");
    assert_eq!(verify(&out("d.zip")), (0, String::new()));
}

#[test]
fn a_list_of_absent_runs_that_cannot_be_is_refused_and_packs_without_one_still_verify() {
    let (world, subject) = happened();
    let scratch = Scratch::new("listed");
    let out = scratch.join("a.zip");
    let beside =
        std::fs::read_dir(world.journal().join("bundles")).unwrap().map(|entry| entry.unwrap().path());
    let beside: Vec<PathBuf> = beside.filter(|bundle| *bundle != subject).collect();
    std::fs::remove_file(&beside[0]).unwrap();
    assert_eq!(incident(&world, "subject", &out).0, 0);
    let made = files(&out);
    assert_eq!(absent(&out).len(), 1, "one bundle was taken away");
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut list: Value = serde_json::from_slice(&made["absent.json"]).unwrap();
        change(&mut list);
        let mut files = made.clone();
        let bytes = estoppel_evidence::canonical::foreign(list.to_string().as_bytes()).unwrap();
        files.insert("absent.json".into(), bytes);
        let path = scratch.join("forged.zip");
        write(&path, &files);
        verify(&path)
    };
    let refused = |code: &str| (2, code.to_owned());
    assert_eq!(forged(&|list| list["rows"] = json!([])), refused("INCIDENT_ALTERED"), "a run less");
    assert_eq!(forged(&|list| list["rows"][0]["run"] = json!(run_of(&subject))), refused("INCIDENT_FORM"));
    assert_eq!(forged(&|list| list["rows"][0]["why"] = json!("lost")), refused("INCIDENT_FORM"));
    let later = json!("2199-01-01T00:00:00.000000Z");
    assert_eq!(forged(&|list| list["rows"][0]["opened"] = later.clone()), refused("INCIDENT_FORM"));
    let mut without = made.clone();
    without.remove("absent.json");
    let path_of = scratch.join("without.zip");
    write(&path_of, &without);
    assert_eq!(verify(&path_of), refused("INCIDENT_ALTERED"));

    // As the program wrote them before it named absent runs.
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("test/e2e/incident/first-format.zip");
    assert_eq!(verify(&first), (0, String::new()));
    let mut files = files(&first);
    files.insert("absent.json".into(), made["absent.json"].clone());
    write(&path_of, &files);
    assert_eq!(verify(&path_of), refused("INCIDENT_UNDECLARED"));
}
