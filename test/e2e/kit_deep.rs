//! Results of regress in kits: judged again by the policy that came with them, and refused where they say otherwise.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_attest::Kit;
use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_evidence::{Sha256, SoftKey};
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, path};

const THEN: &str = "version: 1\nname: then\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: regress } } }\n\
    routes: { dark: { body_storage: hmac } }\n";
const ROUTES: &str = "[[route]]\nname = \"orders\"\npath = \"/orders\"\nupstream = \"stub\"\ndialect = \"json\"\n\
    [[route]]\nname = \"dark\"\npath = \"/dark\"\nupstream = \"stub\"\ndialect = \"json\"\n";

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/packs")
}

/// Orders are held against a contract of a pack.
fn tested() -> String {
    let contract = std::fs::read(packs().join("contracts/contracts/order.schema.json")).unwrap();
    let packed =
        format!("{{ pack: contracts, contract: order, sha256: \"{}\" }}", Sha256::of(&contract).hex());
    format!(
        "version: 1\nname: tested\ndefaults: {{ verdict: allow, on_not_evaluated: block }}\ncontracts: {{ order: {packed} }}\n\
         routes: {{ orders: {{ judge: {{ request: order }} }}, dark: {{ judge: {{ request: order }} }} }}\n"
    )
}

/// A run of which one call would be blocked by another policy, and one cannot be judged again.
struct Judged {
    world: World,
    bundle: PathBuf,
    key: PathBuf,
    policy: PathBuf,
    result: PathBuf,
}

impl Judged {
    fn new() -> Self {
        let answer = Reply::new(Body::Text("{}".into())).header("content-type", "application/json");
        let setup = Setup { policy: THEN.into(), routes: ROUTES.into(), ..Setup::default() };
        let world = World::with(Script::always(answer), &setup);
        for (target, body) in [
            ("/orders", r#"{"sku":"AB-0001","count":2}"#),
            ("/orders", r#"{"sku":"AB-0001","count":"many"}"#),
            ("/dark", r#"{"sku":"AB-0001"}"#),
        ] {
            let request = Request::new("POST", target).header("content-type", "application/json");
            assert_eq!(world.send(&request.header("estoppel-run", "judged").body(body)).status(), 200);
        }
        world.wait_for_calls("judged", 3);
        let bundle = world.seal("judged");
        let key =
            world.scratch.write("auditor.pem", SoftKey::ed25519(&[11; 32]).to_pem().unwrap().as_bytes());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let policy = world.scratch.write("tested.yaml", tested());
        let result = world.scratch.join("result.json");
        let judged = Self { world, bundle, key, policy, result };
        let said = judged.regress(&["--bundle", path(&judged.bundle)]);
        assert_eq!(counts(&said["data"]), [1, 1, 1], "{said:#}");
        std::fs::write(&judged.result, said.to_string()).unwrap();
        judged
    }

    fn trust(&self) -> PathBuf {
        self.world.journal().join("trust.json")
    }

    fn regress(&self, of: &[&str]) -> Value {
        let packs = packs();
        let words = ["regress", "run", "--policy", path(&self.policy), "--packs", path(&packs)];
        cli(&[&words, of].concat()).1
    }

    fn build(&self, to: &Path, more: &[&str]) -> (i32, Value) {
        let trust = self.trust();
        let words = ["kit", "build", "--bundle", path(&self.bundle), "--trust", path(&trust)];
        cli(&[&words[..], &["--key", path(&self.key), "--out", path(to)], more].concat())
    }

    /// A kit with this result and the policy that was tested.
    fn kit(&self, name: &str, result: &Path) -> PathBuf {
        let (to, packs) = (self.world.scratch.join(name), packs());
        let parts = ["--regress", path(result), "--policy", path(&self.policy), "--packs", path(&packs)];
        let (exit, answer) = self.build(&to, &parts);
        assert_eq!(exit, 0, "{answer:#}");
        to
    }

    /// The kit as its signer can sign it when `change` was made to its files.
    fn resigned(
        &self,
        kit: &Path,
        change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>, &mut Value),
    ) -> PathBuf {
        let mut files = Kit::from_zip(&std::fs::read(kit).unwrap()).unwrap().files;
        let envelope: Value = serde_json::from_slice(&files.remove("kit.json").unwrap()).unwrap();
        let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut files, &mut statement["predicate"]["summary"]["regress"][0]);
        let subject = |(path, content): (&String, &Vec<u8>)| json!({ "digest": { "sha256": Sha256::of(content).hex() }, "name": path });
        statement["subject"] = files.iter().map(subject).collect();
        let payload = canonical(&statement);
        let signed = sign(STATEMENT_TYPE, &payload, &SoftKey::ed25519(&[11; 32])).unwrap();
        files.insert("kit.json".into(), signed);
        self.world.scratch.write("forged.zip", Kit { files }.to_zip().unwrap())
    }

    /// A kit whose result says something else, with a summary that fits.
    fn forged(&self, kit: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
        self.resigned(kit, |files, row| {
            let mut result: Value =
                serde_json::from_slice(&files.remove(text(&row["path"])).unwrap()).unwrap();
            change(&mut result);
            let rows = result.get("calls").or(result.get("fixtures")).unwrap().as_array().unwrap().clone();
            for state in ["same", "changed", "undecided"] {
                let count = rows.iter().filter(|row| row["state"] == state).count();
                (result[state], row[state]) = (json!(count), json!(count));
            }
            let content = canonical(&result);
            let digest = Sha256::of(&content);
            (row["digest"], row["path"]) = (json!(digest), json!(format!("regress/{}.json", digest.hex())));
            files.insert(text(&row["path"]).to_owned(), content);
        })
    }
}

fn canonical(value: &Value) -> Vec<u8> {
    estoppel_evidence::canonical::foreign(value.to_string().as_bytes()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn counts(result: &Value) -> [u64; 3] {
    ["same", "changed", "undecided"].map(|name| result[name].as_u64().unwrap_or_else(|| panic!("{result:#}")))
}

fn verify(kit: &Path, more: &[&str]) -> (i32, String, Value) {
    let (exit, answer) = cli(&[&["kit", "verify", path(kit)], more].concat());
    (exit, answer["error"]["code"].as_str().unwrap_or_default().to_owned(), answer)
}

/// What the program that was written by the specification alone ends with, and says.
fn by_python(kit: &Path) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers/python/kit_verify.py");
    let out = Command::new("python3").arg(script).arg(kit).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), said)
}

#[test]
fn a_kit_with_the_tested_policy_and_its_packs_is_judged_again() {
    let judged = Judged::new();
    let kit = judged.kit("a.kit.zip", &judged.result);
    let files = Kit::from_zip(&std::fs::read(&kit).unwrap()).unwrap().files;
    let (exit, _, answer) = verify(&kit, &["--deep"]);
    assert_eq!(exit, 0, "{answer:#}");
    let row = &answer["data"]["summary"]["regress"][0];
    assert_eq!(answer["data"]["judged_again"], json!([{ "path": row["path"], "rows": 3 }]));
    assert_eq!(Sha256::of(&files[text(&row["policy"])]).to_string(), text(&row["policy_hash"]));
    assert_eq!(files.keys().filter(|path| path.starts_with("contracts/")).count(), 1);
    let (exit, _, answer) = verify(&kit, &[]);
    assert_eq!((exit, &answer["data"]["judged_again"]), (0, &Value::Null), "nothing was judged again");
    let (exit, said) = by_python(&kit);
    assert_eq!(exit, 0, "{said}");
    assert!(said.contains("calls of regress were not judged again"), "{said}");

    let fixtures = judged.world.scratch.join("fixtures");
    let trust = judged.trust();
    for (call, expect) in [("1", "receipt"), ("2", "block"), ("3", "verdict")] {
        let words = ["regress", "add", "--from", path(&judged.bundle), "--call", call, "--expect", expect];
        let (exit, answer) =
            cli(&[&words[..], &["--into", path(&fixtures), "--trust", path(&trust)]].concat());
        assert_eq!(exit, 0, "{answer:#}");
    }
    let said = judged.regress(&["--fixtures", path(&fixtures), "--trust", path(&trust)]);
    assert_eq!(counts(&said["data"]), [2, 0, 1], "{said:#}");
    let result = judged.world.scratch.write("fixtures.json", said.to_string());
    let kit = judged.kit("b.kit.zip", &result);
    assert_eq!(verify(&kit, &["--deep"]).0, 0);
    let twice = judged.forged(&kit, |result| {
        let rows = result["fixtures"].as_array_mut().unwrap();
        let same = rows.iter().find(|row| row["state"] == "same").unwrap().clone();
        rows.push(same);
    });
    assert_eq!(verify(&twice, &[]).0, 0);
    assert_eq!(verify(&twice, &["--deep"]).1, "KIT_JUDGED_OTHERWISE", "one fixture counts once");
}

#[test]
fn a_forged_result_is_refused_where_its_calls_are_judged_again() {
    let judged = Judged::new();
    let kit = judged.kit("a.kit.zip", &judged.result);
    let row = |result: &mut Value, state: &str, change: fn(&mut Value)| {
        let rows = result["calls"].as_array_mut().unwrap();
        change(rows.iter_mut().find(|row| row["state"] == state).unwrap());
    };
    let pass = |row: &mut Value| {
        row["state"] = json!("same");
        row["now"] =
            json!({ "not_asked": [], "reason": row["expected"]["reason"], "rule": null, "verdict": "allow" });
        let members = row.as_object_mut().unwrap();
        members.retain(|name, _| !["because", "cause"].contains(&name.as_str()));
    };
    let check = |what: &str, seq: Option<u64>, change: &dyn Fn(&mut Value)| {
        let forged = judged.forged(&kit, change);
        assert_eq!(verify(&forged, &[]).0, 0, "{what}: {}", verify(&forged, &[]).2);
        let (exit, said) = by_python(&forged);
        assert_eq!(exit, 0, "{what}: {said}");
        let (exit, code, answer) = verify(&forged, &["--deep"]);
        assert_eq!((exit, code.as_str()), (2, "KIT_JUDGED_OTHERWISE"), "{what}: {answer:#}");
        assert_eq!(answer["error"]["data"]["seq"].as_u64(), seq, "{what}: {answer:#}");
        if let Some(seq) = seq {
            let receipts = judged.world.receipts_in(&judged.bundle);
            let call = text(&receipts.iter().find(|receipt| receipt["seq"] == seq).unwrap()["call"]);
            assert!(text(&answer["error"]["message"]).contains(call), "{what}: {answer:#}");
        }
    };
    check("what was refused passes", Some(2), &|result| {
        row(result, "changed", pass);
        result.as_object_mut().unwrap().remove("first");
    });
    check("what was not stored passes", Some(3), &|result| row(result, "undecided", pass));
    check("another rule", Some(2), &|result| {
        row(result, "changed", |row| row["now"]["rule"] = json!("no-orders"));
    });
    check("another reason", Some(2), &|result| {
        row(result, "changed", |row| row["now"]["reason"] = json!("TOOL_DENIED"));
    });
    check("another cause", Some(3), &|result| {
        row(result, "undecided", |row| row["cause"] = json!("nobody knows"));
    });
    check("another culprit", Some(2), &|result| {
        row(result, "changed", |row| row["because"] = json!("program"));
    });
    check("expected by its author", Some(2), &|result| {
        row(result, "changed", |row| {
            row["state"] = json!("same");
            row["expected"]["by"] = json!("author");
            row["expected"]["verdict"] = json!("block");
        });
    });
    check("a call left out", Some(2), &|result| {
        let rows = result["calls"].as_array_mut().unwrap();
        rows.retain(|row| row["state"] != "changed");
    });
    check("no first", None, &|result| drop(result.as_object_mut().unwrap().remove("first")));

    let said = std::fs::read_to_string(&judged.result).unwrap();
    let mut said: Value = serde_json::from_str(&said).unwrap();
    row(&mut said["data"], "changed", |row| row["now"]["rule"] = json!("no-orders"));
    let result = judged.world.scratch.write("forged.json", said.to_string());
    let (to, packs) = (judged.world.scratch.join("none.zip"), packs());
    let parts = ["--regress", path(&result), "--policy", path(&judged.policy), "--packs", path(&packs)];
    let (exit, answer) = judged.build(&to, &parts);
    assert_eq!((exit, text(&answer["error"]["code"])), (2, "KIT_JUDGED_OTHERWISE"), "{answer:#}");
    assert!(!to.exists());
}

#[test]
fn a_kit_has_the_policy_that_a_result_names_or_says_that_nothing_was_decided() {
    let judged = Judged::new();
    let (to, packs) = (judged.world.scratch.join("none.zip"), packs());
    let other = judged.world.scratch.write("other.yaml", tested().replace("name: tested", "name: other"));
    for (policy, packs, expected) in
        [(&other, Some(&packs), "KIT_POLICY"), (&judged.policy, None, "POLICY_INVALID")]
    {
        let packs: Vec<&str> = packs.iter().flat_map(|packs| ["--packs", path(packs)]).collect();
        let parts = ["--regress", path(&judged.result), "--policy", path(policy)];
        let (exit, answer) = judged.build(&to, &[&parts[..], &packs].concat());
        assert_eq!((exit, text(&answer["error"]["code"])), (6, expected), "{answer:#}");
        assert!(!to.exists());
    }
    let (exit, answer) = judged.build(&to, &["--regress", path(&judged.result)]);
    assert_eq!((exit, &answer["data"]["summary"]["regress"][0]["policy"]), (0, &Value::Null), "{answer:#}");
    assert_eq!(verify(&to, &[]).0, 0);
    let (exit, code, answer) = verify(&to, &["--deep"]);
    assert_eq!((exit, code.as_str()), (6, "KIT_NOT_JUDGED"), "{answer:#}");

    let kit = judged.kit("a.kit.zip", &judged.result);
    type Files = BTreeMap<String, Vec<u8>>;
    let find =
        |files: &Files, folder: &str| files.keys().find(|path| path.starts_with(folder)).unwrap().clone();
    let refused = |expected: &str, change: &dyn Fn(&mut Files)| {
        let forged = judged.resigned(&kit, |files, _| change(files));
        let (exit, code, answer) = verify(&forged, &[]);
        assert_eq!((exit, code.as_str()), (2, expected), "{answer:#}");
        let (exit, said) = by_python(&forged);
        assert!(exit == 2 && said.starts_with(&format!("REFUSED {expected}:")), "{expected}: {said}");
    };
    refused("KIT_MISSING", &|files| drop(files.remove(&find(files, "contracts/"))));
    for folder in ["contracts/", "policies/"] {
        refused("KIT_ALTERED", &|files| files.get_mut(&find(files, folder)).unwrap().push(b' '));
    }
    refused("KIT_FORM", &|files| {
        let policy = canonical(&json!({ "name": "stray", "version": 1 }));
        files.insert(format!("policies/{}.json", Sha256::of(&policy).hex()), policy);
    });
    refused("KIT_FORM", &|files| {
        files.insert(format!("contracts/{}", Sha256::of(b"{}").hex()), b"{}".to_vec());
    });
    refused("KIT_SUMMARY", &|files| {
        files.retain(|path, _| !path.starts_with("contracts/") && !path.starts_with("policies/"));
    });
}
