//! Stages and environments by the command line, and a policy that takes contracts from packs.

use estoppel_kit::until;

use super::*;
use crate::support::PATIENCE;

const SHOP: &str = include_str!("../../../policies/packs/contracts/policies/shop.yaml");

#[test]
fn a_release_climbs_its_ladder_and_environments_follow_it() {
    let repository = Repository::new("ladder");
    repository.seal("1.1.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.1.0").0, 0);
    repository.done("other", &["promote", "1.1.0"]);
    let set = |name: &str, release: &str| repository.sign("other", &["environment", "set", name, release]);
    assert_eq!(set("production", "1.1.0").0, 0);

    let stages = json!({ "stages": [{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "final" }] });
    repository.seal("1.2.0", "true", &json!({ "approvals": { "count": 1, "from": "beta" } }), &stages);
    assert_eq!(repository.evolve("1.2.0").0, 0);
    let (exit, early) = repository.sign("other", &["promote", "1.2.0", "--stage", "beta"]);
    assert_eq!((exit, state(&early, "stage_before")), (3, "missing"), "{early}");
    let next = || repository.ask(&["status", "1.2.0"]).1["data"]["generations"][0].clone();
    assert_eq!(next()["next"], "estoppel promote 1.2.0 --stage alpha");
    let alpha = repository.done("other", &["promote", "1.2.0", "--stage", "alpha"]);
    assert_eq!((&alpha["tag"], &alpha["stage"]), (&json!("v1.2.0-alpha.1"), &json!("alpha")));
    assert_eq!(next()["next"], "estoppel promote 1.2.0 --stage beta");
    let (exit, lacking) = repository.sign("other", &["promote", "1.2.0", "--stage", "beta"]);
    assert_eq!((exit, &lacking["data"]["reason"]), (4, &json!("APPROVALS_MISSING")));
    let (exit, unknown) = repository.sign("other", &["promote", "1.2.0", "--stage", "rc"]);
    assert_eq!((exit, &unknown["error"]["code"]), (6, &json!("STAGE_UNKNOWN")), "{unknown}");
    repository.done("other", &["approve", "1.2.0"]);
    repository.done("other", &["promote", "1.2.0", "--stage", "beta"]);
    assert_eq!(next()["stage"], json!({ "stage": "beta", "tag": "v1.2.0-beta.1" }));
    let shown = repository.ask(&["generation", "show", "1.2.0"]).1["data"].clone();
    assert_eq!((&shown["status"], &shown["reached"][1]["tag"]), (&json!("sealed"), &json!("v1.2.0-beta.1")));
    let mut command = Command::new(cli_binary());
    command.args(["--json", "verify", "tag", "v1.2.0-beta.1"]).current_dir(&repository.dir);
    let told: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(
        (&told["data"]["kind"], &told["data"]["stage"]["stage"]),
        (&json!("stage.promoted"), &json!("beta"))
    );

    assert_eq!(set("staging", "1.2.0-beta.1").0, 3);
    let bind = ["environment", "bind", "staging", "--stage", "beta"];
    assert_eq!(repository.sign("other", &bind).0, 3);
    repository.done("owner", &bind);
    assert_eq!(set("staging", "1.2.0-alpha.1").0, 3);
    assert_eq!(set("staging", "1.2.0-beta.1").0, 0);
    repository.done("other", &["promote", "1.2.0"]);
    assert_eq!(set("production", "1.2.0").0, 0);
    let (exit, named) = set("Production", "1.2.0");
    assert_eq!((exit, &named["error"]["code"]), (6, &json!("ENVIRONMENT_INVALID")));
    let back = repository.done("other", &["rollback", "1.2.0", "--reason", "it loses money"]);
    assert_eq!(back["environments"], json!(["production", "staging"]));
    let listed = repository.ask(&["environment", "list"]).1["data"]["environments"].clone();
    let has: Vec<(&str, &str, &str)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["environment"], &row["tag"], &row["name"]))
        .map(|(name, tag, who)| (name.as_str().unwrap(), tag.as_str().unwrap(), who.as_str().unwrap()))
        .collect();
    assert_eq!(has, [("production", "v1.1.0", "Bert"), ("staging", "v1.1.0", "Bert")]);
    let (exit, gone) = set("production", "1.2.0");
    assert_eq!((exit, &gone["error"]["code"]), (3, &json!("STATE_INVALID")), "{gone}");

    let csv = repository.scratch.join("audit.csv");
    let (exit, _) = repository.ask(&["audit", "export", "--format", "csv", "--out", path(&csv)]);
    assert_eq!(exit, 0);
    let text = std::fs::read_to_string(csv).unwrap();
    assert!(
        text.contains("stage alpha; tag v1.2.0-alpha.1") && text.contains("environment production"),
        "{text}"
    );
    assert_eq!(repository.ask(&["ledger", "verify"]).0, 0);
    let asked = "SELECT environment, tag FROM environments ORDER BY at, environment";
    let rows = repository.ask(&["db", "query", asked]);
    assert_eq!(rows.0, 0, "{}", rows.1);
    assert!(rows.1["data"].to_string().contains("v1.2.0-beta.1"), "{}", rows.1);
}

#[test]
fn who_is_refused_is_told_what_is_wrong_and_what_to_do() {
    let repository = Repository::new("told");
    let said = |who: &str, words: &[&str], code: &str, parts: &[&str]| {
        let (exit, answer) = repository.sign(who, words);
        let message = answer["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!((exit, answer["error"]["code"].as_str()), (3, Some(code)), "{words:?}: {answer}");
        assert!(parts.iter().all(|part| message.contains(part)), "{words:?}: {message}");
    };
    let set = |release: &str, parts: &[&str]| {
        said("other", &["environment", "set", "staging", release], "STATE_INVALID", parts);
    };
    let bind = ["environment", "bind", "staging", "--stage", "beta"];
    let needs = "Bert (key ";
    said(
        "other",
        &bind,
        "ROLE_MISSING",
        &["needs the role `owner`", needs, "has approver, releaser", "--role releaser --role owner"],
    );
    repository.done("owner", &bind);
    let listed = repository.ask(&["environment", "list"]).1["data"]["environments"].clone();
    assert_eq!(
        (&listed[0]["environment"], &listed[0]["takes"], &listed[0]["tag"]),
        (&json!("staging"), &json!("beta"), &Value::Null),
        "{listed}"
    );

    let stages = json!({ "stages": [{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "final" }] });
    repository.seal("1.0.0", "true", &json!({ "approvals": { "count": 1 } }), &stages);
    assert_eq!(repository.evolve("1.0.0").0, 0);
    set("2.0.0", &["`v2.0.0` was promoted neither", "estoppel status"]);
    set("1.0.0-rc.1", &["is a candidate of 1.0.0", "estoppel promote 1.0.0 --explain"]);
    repository.done("other", &["promote", "1.0.0", "--stage", "alpha"]);
    set(
        "1.0.0-alpha.1",
        &["at alpha", "estoppel promote 1.0.0 --stage beta", "environment bind staging --stage alpha"],
    );
    repository.done("other", &["promote", "1.0.0", "--stage", "beta"]);
    repository.done("other", &["environment", "set", "staging", "1.0.0-beta.1"]);
    set("1.0.0-beta.1", &["already", "nothing to do"]);

    // What is next is what the gate wants, as long as nobody has done it.
    let next = || repository.ask(&["status", "1.0.0"]).1["data"]["generations"][0]["next"].clone();
    assert_eq!(next(), "estoppel promote 1.0.0");
    assert_eq!(repository.sign("other", &["promote", "1.0.0"]).0, 4);
    assert_eq!(next(), "estoppel approve 1.0.0 --key FILE");
    repository.done("other", &["approve", "1.0.0"]);
    assert_eq!(next(), "estoppel promote 1.0.0");
    repository.done("other", &["promote", "1.0.0"]);

    let back = |words: &[&str], parts: &[&str]| {
        let words = [&["rollback", "1.0.0", "--reason", "slow"], words].concat();
        said("other", &words, "STATE_INVALID", parts);
    };
    back(&[], &["no version below 1.0.0 is promoted", "nothing else is promoted"]);
    back(&["--to", "0.9.0"], &["0.9.0 is unknown to the ledger", "nothing else is promoted"]);
    repository.seal("1.1.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.1.0").0, 0);
    repository.done("other", &["promote", "1.1.0"]);
    back(&["--to", "0.9.0"], &["0.9.0 is unknown to the ledger", "`--to` takes one of 1.1.0"]);
    repository.done("other", &["rollback", "1.1.0", "--reason", "slow"]);
    set("1.1.0", &["rolled_back to 1.0.0", "another version"]);
}

#[test]
fn an_evolution_whose_program_was_killed_leaves_no_process_and_is_cut_off_until_the_next_one_ends_it() {
    let repository = Repository::new("status-cut");
    let script = "test -e \"$HOME/again\" || { sleep 600 & echo $$ $! >\"$ESTOPPEL_EVIDENCE/ids\"; wait; }";
    repository.seal("1.0.0", script, &json!({}), &json!({}));
    let private = repository.dir.join(".git/estoppel");
    let start = || {
        let mut command = Command::new(cli_binary());
        command.args(["evolution", "start", "1.0.0", "--all", "--repo", path(&repository.dir)]);
        command.arg("--key").arg(repository.key("owner")).env("HOME", &private);
        command.spawn().unwrap()
    };
    let mut runner = start();
    let row = || repository.ask(&["status", "1.0.0"]).1["data"]["generations"][0].clone();
    let count = |row: &Value, name: &str| row[name].as_array().map_or(0, Vec::len);
    until("it runs", PATIENCE, || (count(&row(), "running") == 1).then_some(()));
    let ids = || {
        let runs = std::fs::read_dir(private.join("evidence")).ok()?.flatten();
        let said = runs.filter_map(|run| std::fs::read_to_string(run.path().join("ids")).ok()).next()?;
        let ids: Vec<u32> = said.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        (said.ends_with('\n') && ids.len() == 2).then_some(ids)
    };
    let ids = until("its step has begun", PATIENCE, ids);
    let result = || {
        let listed = repository.ask(&["evolution", "list", "1.0.0"]).1["data"]["evolutions"].clone();
        let results = listed.as_array().into_iter().flatten().map(|run| run["result"].clone());
        results.collect::<Vec<_>>()
    };
    assert_eq!((count(&row(), "cut_off"), result()), (0, vec![json!("OPEN")]));
    runner.kill().unwrap();
    runner.wait().unwrap();
    for id in ids {
        // What nobody waits for leaves its number.
        let state = || std::fs::read_to_string(format!("/proc/{id}/stat"));
        let is_gone = || state().map_or(true, |state| state.contains(") Z "));
        until("what its step started is gone", PATIENCE, || is_gone().then_some(()));
    }
    let cut = row();
    assert_eq!((count(&cut, "running"), count(&cut, "cut_off")), (0, 1), "{cut}");
    assert_eq!(
        (&cut["next"], result()),
        (&json!("estoppel evolution start 1.0.0 --all"), vec![json!("CUT_OFF")])
    );
    let mut command = Command::new(cli_binary());
    let told = command.args(["status", "--repo", path(&repository.dir)]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("  cut off ") && !told.contains("  running "), "{told}");

    let trees = || {
        let folders = std::fs::read_dir(private.join("worktrees")).unwrap().flatten();
        folders.filter(|entry| entry.path().is_dir()).count()
    };
    assert_eq!(trees(), 1);
    std::fs::write(private.join("again"), "").unwrap();
    assert!(start().wait().unwrap().success());
    assert_eq!((trees(), result()), (0, vec![json!("FAILED"), json!("PASSED")]));
    let ended = row();
    assert_eq!((count(&ended, "running"), count(&ended, "cut_off")), (0, 0), "{ended}");
}

/// The files of a folder, to be committed under another one.
fn files(from: &Path, to: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let name = format!("{to}/{}", entry.file_name().unwrap().to_str().unwrap());
        match entry.is_dir() {
            true => files(&entry, &name, found),
            false => found.push((name, std::fs::read_to_string(&entry).unwrap())),
        }
    }
}

#[test]
fn calls_under_a_policy_with_packs_are_held_against_the_packs_at_the_candidate() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/packs");
    let receipt = Reply::new(Body::Text("{\"id\":\"r-1\",\"status\":\"accepted\"}".into()));
    let policy = SHOP.replace("  shop:", "  stub:");
    let setup =
        Setup { policy: policy.clone(), config: format!("[packs]\ndir = {shipped:?}\n"), ..Setup::default() };
    let world = World::with(Script::always(receipt.header("content-type", "application/json")), &setup);
    let repository = Repository::new("packs-gate");
    let trust = std::fs::read_to_string(world.journal().join("trust.json")).unwrap();
    let mut committed = vec![("policy.yaml".to_owned(), policy), ("trust.json".to_owned(), trust)];
    files(&shipped, "packs", &mut committed);
    let committed: Vec<(&str, &str)> = committed.iter().map(|(name, text)| (&**name, &**text)).collect();
    repository.commit(&committed);
    let calls = CALLS.replace("/v1/chat/completions", "/v1/orders").replace(
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}",
        "{\"sku\":\"AB-1234\",\"count\":1}",
    );
    let run = |version: &str, gate: Value| {
        let gates = json!({ "evidence_bundle": { "trust": "trust.json" }, "policy_hash": gate });
        repository.seal(version, &calls, &gates, &json!({}));
        let mut command = Command::new(cli_binary());
        command.args(["--json", "evolution", "start", version, "--all", "--repo", path(&repository.dir)]);
        command.args(["--key", path(&repository.key("owner"))]).env("ESTOPPEL_PROGRAM", cli_binary());
        command.env("GATEWAY", world.gateway.to_string()).env("ADMIN", world.admin.to_string());
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
        repository.sign("other", &["promote", version])
    };
    let (exit, refused) = run("1.0.0", json!({ "policy": "policy.yaml" }));
    assert_eq!((exit, state(&refused, "policy_hash")), (3, "fail"), "{refused:#}");
    let (exit, promoted) = run("1.1.0", json!({ "policy": "policy.yaml", "packs": "packs" }));
    assert_eq!((exit, state(&promoted, "policy_hash")), (0, "pass"), "{promoted:#}");
}
