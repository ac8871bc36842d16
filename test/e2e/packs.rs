//! Packs: what their commands say, and that the daemon enforces what a policy takes from one, or nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, cli, cli_binary, daemon_binary, path};

const SHOP: &str = include_str!("../../policies/packs/contracts/policies/shop.yaml");

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/packs")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => std::fs::write(&target, std::fs::read(&entry).unwrap()).unwrap(),
        }
    }
}

/// A copy of what is shipped, to be changed: the folder of packs, and the pack.
fn packs(name: &str) -> (Scratch, PathBuf, PathBuf) {
    let scratch = Scratch::new(name);
    let dir = scratch.join("packs");
    copy(&shipped(), &dir);
    let pack = dir.join("contracts");
    (scratch, dir, pack)
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn the_shipped_packs_hold() {
    let dirs: Vec<PathBuf> =
        std::fs::read_dir(shipped()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!dirs.is_empty());
    for dir in dirs {
        assert_eq!(cli(&["pack", "lint", path(&dir)]).0, 0);
        let (code, answer) = cli(&["pack", "test", path(&dir)]);
        assert_eq!((code, &answer["data"]["problems"]), (0, &json!([])), "{answer:#}");
        let goldens = std::fs::read_dir(dir.join("goldens")).unwrap();
        let text: String =
            goldens.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
        for verdict in ["pass", "repair", "block"] {
            assert!(text.contains(&format!("\"verdict\": \"{verdict}\"")), "{}: {verdict}", dir.display());
        }
    }
    let shop = shipped().join("contracts/policies/shop.yaml");
    assert_eq!(cli(&["policy", "lint", path(&shop), "--packs", path(&shipped())]).0, 0);
    let explain = |words: &[&str]| cli(&[&["policy", "explain", path(&shop)], words].concat());
    let (code, explained) = explain(&["--packs", path(&shipped())]);
    assert!(code != 6 && explained["data"]["verdict"].is_string(), "{explained:#}");
    assert_eq!(explain(&[]).0, 6);
    let without = cli(&["policy", "lint", path(&shop)]);
    assert_eq!((without.0, &without.1["error"]["code"]), (6, &json!("POLICY_INVALID")));
    let printed = cli(&["pack", "digest", path(&shipped().join("contracts"))]).1;
    for (_, row) in printed["data"]["contracts"].as_object().unwrap() {
        assert!(SHOP.contains(row["sha256"].as_str().unwrap()), "{row}");
    }
}

#[test]
fn the_schema_of_packs_takes_the_shipped_manifest() {
    let manifest = json!({
        "pack": 1, "name": "acme/orders", "version": "1.0.0", "licence": "MIT", "description": "a\nb",
        "contracts": { "order": "contracts/order.schema.json" }, "policies": ["a.yaml"],
    });
    let scratch = Scratch::new("pack-schema");
    let schema = shipped().join("../../spec/pack.schema.json");
    let check = |key: &str, value: Value| {
        let mut changed = manifest.clone();
        changed[key] = value;
        scratch.write("pack/contracts/order.schema.json", "{}");
        scratch.write("pack/a.yaml", "version: 1\nname: a\n");
        scratch.write(
            "pack/fixtures/a.fixtures.yaml",
            "version: 1\ncontract: { json: '{}' }\ncases:\n- { name: a, body: '1', expect: pass }\n",
        );
        scratch.write("pack/pack.yaml", changed.to_string());
        let file = scratch.write("pack.json", changed.to_string());
        let judged = cli(&["judge", path(&file), "--contract", path(&schema)]);
        let read = cli(&["pack", "lint", path(&scratch.join("pack"))]);
        assert_eq!(
            (judged.0, read.0 == 0),
            (if read.0 == 0 { 0 } else { 3 }, judged.0 == 0),
            "{changed} {}",
            read.1
        );
        read.0 == 0
    };
    assert!(check("name", json!("orders")));
    assert!(check("licence", json!("MIT OR Apache-2.0")));
    for (key, value) in [
        ("pack", json!(2)),
        ("name", json!("a/b/c")),
        ("name", json!("../a")),
        ("version", json!("")),
        ("contracts", json!({})),
        ("contracts", json!({ "Order": "contracts/order.schema.json" })),
        ("contracts", json!({ "order": "../order.json" })),
        ("contracts", json!({ "order": "/order.json" })),
        ("policies", json!([])),
        ("more", json!("x")),
    ] {
        assert!(!check(key, value.clone()), "{key}: {value}");
    }
}

#[test]
fn a_pack_that_was_changed_is_told_by_its_digests_and_goldens() {
    let (_scratch, dir, pack) = packs("pack-changed");
    let test = |more: &[&str]| cli(&[&["pack", "test", path(&pack)], more].concat());
    let golden = pack.join("goldens/orders.json");
    let kept = std::fs::read(&golden).unwrap();
    edit(&golden, "SCHEMA_VIOLATION", "SCHEMA_VIOLATED");
    let (code, answer) = test(&[]);
    assert_eq!(code, 5, "{answer}");
    assert!(
        answer["data"]["problems"][0].as_str().unwrap().contains("goldens/orders.json says otherwise"),
        "{answer}"
    );
    assert_eq!(test(&["--update"]).0, 0);
    assert_eq!(std::fs::read(&golden).unwrap(), kept);
    std::fs::remove_file(&golden).unwrap();
    std::fs::write(pack.join("goldens/old.json"), "{}").unwrap();
    let (code, answer) = test(&[]);
    assert_eq!((code, answer["data"]["problems"].as_array().unwrap().len()), (5, 2), "{answer}");
    std::fs::remove_file(pack.join("goldens/old.json")).unwrap();
    let fixtures = pack.join("fixtures/orders.fixtures.yaml");
    edit(&fixtures, "expect: repair", "expect: pass");
    let (code, answer) = test(&["--update"]);
    assert_eq!((code, golden.exists()), (5, false), "nothing is written of what failed: {answer}");
    edit(&fixtures, "contracts/order.schema.json", "../../secret.json");
    let (code, answer) = test(&[]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("FILE_UNREADABLE")), "{answer}");
    edit(&pack.join("contracts/order.schema.json"), "99", "98");
    let (code, answer) = cli(&["pack", "lint", path(&pack)]);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("PACK_INVALID")), "{answer}");
    let said = answer["error"]["data"]["errors"][0].as_str().unwrap();
    let digest = cli(&["pack", "digest", path(&pack)]).1["data"]["contracts"]["order"]["sha256"].clone();
    let named = "305607aabc2e7d8fb96181eedf6a7c1543640e4eec7a5ccf07e8a9e8596dfb86";
    assert!(
        said.contains("POLICY_PACK") && said.contains(digest.as_str().unwrap()) && said.contains(named),
        "{said}"
    );
    let shop = pack.join("policies/shop.yaml");
    let (code, answer) = cli(&["policy", "lint", path(&shop), "--packs", path(&dir)]);
    let error = &answer["error"]["data"]["errors"][0];
    assert_eq!((code, &error["code"], &error["path"]), (6, &json!("POLICY_PACK"), &json!("contracts.order")));
    assert_eq!(error["line"], 7, "{error}");
}

/// A daemon in front of a shop, with the shipped policy and a copy of its pack.
fn shop(name: &str) -> (Scratch, PathBuf, World) {
    let (scratch, dir, pack) = packs(name);
    let receipt = Reply::new(Body::Text("{\"id\":\"r-1\",\"status\":\"accepted\"}".into()));
    let setup = Setup {
        policy: SHOP.replace("  shop:", "  stub:"),
        config: format!("[packs]\ndir = {dir:?}\n"),
        ..Setup::default()
    };
    let world = World::with(Script::always(receipt.header("content-type", "application/json")), &setup);
    (scratch, pack, world)
}

fn order(count: u32) -> Request {
    Request::new("POST", "/v1/orders")
        .header("estoppel-run", "packs")
        .header("content-type", "application/json")
        .body(format!("{{\"sku\":\"AB-1234\",\"count\":{count}}}"))
}

#[test]
fn the_daemon_enforces_what_a_policy_takes_from_a_pack() {
    let (_scratch, pack, world) = shop("pack-enforced");
    assert_eq!(world.send(&order(1)).status(), 200);
    assert_eq!(world.send(&order(100)).status(), 422);
    world.wait_for_calls("packs", 2);
    let receipts = world.receipts("packs");
    assert_eq!(receipts[0]["operation"], "orders.create");
    assert_eq!(receipts[1]["verdict"]["reason"], "REQUEST_VIOLATED");
    let schema: Value =
        serde_json::from_slice(&std::fs::read(pack.join("contracts/order.schema.json")).unwrap()).unwrap();
    let canonical = estoppel_evidence::canonical::foreign(schema.to_string().as_bytes()).unwrap();
    let digest = estoppel_evidence::Sha256::of(&canonical).to_string();
    assert_eq!(receipts[1]["contract"]["request"]["digest"], digest);
}

#[test]
fn a_changed_pack_is_refused_with_both_digests_and_changes_nothing_in_force() {
    let (_scratch, pack, mut world) = shop("pack-refused");
    edit(&pack.join("contracts/order.schema.json"), "99", "999");
    let checked = Command::new(daemon_binary())
        .args(["--check-config", "--config", path(&world.scratch.join("estoppeld.toml"))])
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(6), "{said}");
    let changed = std::fs::read(pack.join("contracts/order.schema.json")).unwrap();
    let digest = estoppel_evidence::Sha256::of(&changed).to_string();
    for part in ["POLICY_INVALID", "POLICY_PACK", digest.trim_start_matches("sha256:"), "305607aabc2e7d8f"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    world.daemon.hang_up();
    estoppel_kit::until("a refused reload", PATIENCE, || {
        world.daemon.stderr().contains("POLICY_PACK").then_some(())
    });
    assert_eq!(world.send(&order(100)).status(), 422, "the contract that was loaded stays in force");
    world.stop();
}

/// A small pack whose one file of fixtures is `fixtures`.
fn small(scratch: &Scratch, fixtures: &str) -> PathBuf {
    let manifest = json!({
        "pack": 1, "name": "acme/orders", "version": "1.0.0", "licence": "MIT", "description": "a",
        "contracts": { "order": "contracts/order.schema.json" },
    });
    scratch.write("pack/pack.yaml", manifest.to_string());
    scratch.write("pack/contracts/order.schema.json", "{}");
    scratch.write("pack/fixtures/a.fixtures.yaml", fixtures);
    scratch.join("pack")
}

#[test]
fn lint_reads_all_that_fixtures_name() {
    let scratch = Scratch::new("pack-named");
    scratch.write("outside.json", "{}");
    let kept = "contract: { file: ../contracts/order.schema.json }";
    for (subject, case, named) in [
        (kept, "body: '{}'", None),
        ("contract: { file: ../contracts/nope.json }", "body: '{}'", Some("nope.json")),
        ("contract: { file: ../../outside.json }", "body: '{}'", Some("outside.json")),
        (kept, "body_file: nope.json", Some("nope.json")),
        (kept, "body_file: ../../outside.json", Some("outside.json")),
        (kept, "body: '{}', out_file: nope.json", Some("nope.json")),
    ] {
        let cases = format!("- {{ name: a, {case}, expect: pass }}\n- {{ name: b, {case}, expect: pass }}\n");
        let pack = small(&scratch, &format!("version: 1\n{subject}\ncases:\n{cases}"));
        let (code, answer) = cli(&["pack", "lint", path(&pack)]);
        let Some(named) = named else {
            assert_eq!(code, 0, "{answer}");
            continue;
        };
        assert_eq!(
            (code, &answer["error"]["code"]),
            (6, &json!("PACK_INVALID")),
            "{subject} {case}: {answer}"
        );
        let errors = answer["error"]["data"]["errors"].as_array().or(answer["data"]["errors"].as_array());
        let [error] = errors.unwrap().as_slice() else { panic!("{answer}") };
        assert!(error.as_str().unwrap().contains(named), "{answer}");
    }
}

#[test]
fn what_is_wrong_with_a_pack_is_said_once_and_where() {
    let run = |words: &[&str]| {
        let output = Command::new(cli_binary()).args(words).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let scratch = Scratch::new("pack-said");
    let pack = small(
        &scratch,
        "version: 1\ncontract: { json: '{}' }\ncases:\n- { name: a, body: '1', expect: pass }\n",
    );
    scratch.write("pack/contracts/order.schema.json", "{");
    let (_, said) = run(&["pack", "lint", path(&pack)]);
    assert_eq!(said.matches("order.schema.json").count(), 1, "{said}");

    std::fs::remove_file(pack.join("contracts/order.schema.json")).unwrap();
    let (out, said) = run(&["pack", "digest", path(&pack)]);
    assert!(out.is_empty() && said.contains("order.schema.json"), "{out} {said}");

    scratch.write("pack/contracts/order.schema.json", "{}");
    scratch.write("elsewhere.json", "{}");
    std::fs::create_dir(pack.join("goldens")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere.json", pack.join("goldens/a.json")).unwrap();
    for words in [&["pack", "test", path(&pack)][..], &["pack", "test", path(&pack), "--update"]] {
        let (out, _) = run(words);
        assert!(out.contains("`goldens/a.json` is a link"), "{out}");
    }
    assert_eq!(std::fs::read_to_string(scratch.join("elsewhere.json")).unwrap(), "{}");

    std::fs::remove_file(pack.join("pack.yaml")).unwrap();
    let (_, said) = run(&["pack", "lint", path(&pack)]);
    assert!(said.contains("pack.yaml") && said.contains(path(&pack)), "{said}");
}
