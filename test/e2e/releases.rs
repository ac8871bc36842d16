//! From a sealed generation to its release and back: what is promoted, what never is, and that nothing is half done.

mod hostile;
mod ladder;
mod left;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use estoppel_kit::Scratch;
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, cli_binary, path};

/// A repository with a ledger. `owner` has every role; `other` approves and releases.
pub(crate) struct Repository {
    pub scratch: Scratch,
    pub dir: PathBuf,
}

pub fn git(dir: &Path, words: &[&str]) -> String {
    let done = Command::new("git").arg("-C").arg(dir).args(words).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn has(dir: &Path, name: &str) -> bool {
    !git(dir, &["for-each-ref", name]).is_empty()
}

impl Repository {
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let dir = scratch.join("repository");
        std::fs::create_dir_all(&dir).unwrap();
        git(&dir, &["init", "--quiet", "--initial-branch=main"]);
        git(&dir, &["config", "user.name", "Ada"]);
        git(&dir, &["config", "user.email", "ada@example.invalid"]);
        git(&dir, &["commit", "--quiet", "--allow-empty", "-m", "begun"]);
        let repository = Self { scratch, dir };
        for name in ["owner", "other"] {
            let key = repository.key(name);
            let public = repository.scratch.join(format!("{name}.pub"));
            let openssl = |words: &[&str]| {
                assert!(Command::new("openssl").args(words).output().unwrap().status.success(), "{words:?}");
            };
            openssl(&["genpkey", "-algorithm", "ed25519", "-out", path(&key)]);
            openssl(&["pkey", "-in", path(&key), "-pubout", "-out", path(&public)]);
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        }
        repository.done("owner", &["ledger", "init", "--name", "Ada"]);
        let public = repository.scratch.join("other.pub");
        let grant =
            ["roles", "grant", path(&public), "--name", "Bert", "--role", "approver", "--role", "releaser"];
        repository.done("owner", &grant);
        repository
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.pem"))
    }

    pub fn ask(&self, words: &[&str]) -> (i32, Value) {
        cli(&[words, &["--repo", path(&self.dir)]].concat())
    }

    pub fn sign(&self, who: &str, words: &[&str]) -> (i32, Value) {
        self.ask(&[words, &["--key", path(&self.key(who))]].concat())
    }

    pub fn done(&self, who: &str, words: &[&str]) -> Value {
        let (exit, answer) = self.sign(who, words);
        assert_eq!(exit, 0, "{words:?}: {answer}");
        answer["data"].clone()
    }

    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            let at = self.dir.join(name);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, text).unwrap();
        }
        git(&self.dir, &["add", "--all"]);
        git(&self.dir, &["commit", "--quiet", "--allow-empty", "-m", "next"]);
        git(&self.dir, &["rev-parse", "HEAD"])
    }

    /// Writes and seals a generation of one change.
    pub fn seal(&self, version: &str, run: &str, gates: &Value, more: &Value) {
        let mut document = json!({
            "generation": 1, "version": version, "description": "Invoices", "author": { "name": "Ada" },
            "changes": [{ "id": "PAY-001", "type": "fix", "title": "Round as banks do" }],
            "steps": [{
                "id": "unit", "kind": "unit", "run": ["sh", "-c", run], "proves": "all",
                "env": ["GATEWAY", "ADMIN", "ESTOPPEL_PROGRAM"],
            }],
            "gates": gates,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        let file = format!(".estoppel/generations/v{version}.yaml");
        self.commit(&[(file.as_str(), &document.to_string())]);
        self.done("owner", &["generation", "seal", version]);
    }

    pub fn evolve(&self, version: &str) -> (i32, Value) {
        self.sign("owner", &["evolution", "start", version, "--all"])
    }

    pub fn events(&self, kind: &str) -> usize {
        let shown = self.ask(&["ledger", "show", "--local"]).1;
        let events = shown["data"]["events"].as_array().unwrap().clone();
        events.iter().filter(|event| event["kind"] == kind).count()
    }

    pub fn commit_now(&self) -> String {
        git(&self.dir, &["rev-parse", "HEAD"])
    }
}

fn state<'v>(answer: &'v Value, gate: &str) -> &'v str {
    let rows = answer["data"]["gates"].as_array().unwrap();
    let row = rows.iter().find(|row| row["gate"] == gate);
    row.unwrap_or_else(|| panic!("{gate}: {answer:#}"))["state"].as_str().unwrap()
}

#[test]
fn a_pipeline_of_false_is_never_promoted() {
    let repository = Repository::new("false");
    repository.seal("1.0.0", "false", &json!({}), &json!({}));
    let (exit, run) = repository.evolve("1.0.0");
    assert_eq!((exit, &run["data"]["result"], &run["data"]["tag"]), (3, &json!("FAILED"), &Value::Null));
    let (exit, told) = repository.sign("owner", &["promote", "1.0.0", "--explain"]);
    assert_eq!((exit, repository.events("promotion.started")), (3, 0), "{told}");
    let (exit, refused) = repository.sign("owner", &["promote", "1.0.0"]);
    assert_eq!((exit, &refused["data"]["reason"]), (3, &json!("GATE_REFUSED")), "{refused}");
    assert_eq!(state(&refused, "all_changes_proven"), "fail");
    assert!(refused["data"]["gates"].to_string().contains("PAY-001"));
    assert!(!has(&repository.dir, "refs/tags"));
    assert_eq!((repository.events("promotion.refused"), repository.events("promotion.finished")), (1, 0));
    assert_eq!(repository.ask(&["ledger", "verify"]).0, 0);
}

#[test]
fn a_change_is_proven_approved_promoted_mended_and_taken_back() {
    let repository = Repository::new("whole");
    repository.seal("1.2.0", "echo proven", &json!({ "approvals": { "count": 1 } }), &json!({}));
    let run = repository.evolve("1.2.0").1["data"].clone();
    assert_eq!(run["tag"], "v1.2.0-rc.1", "{run}");
    let evolution = run["evolution"].as_str().unwrap();
    let logs = repository.ask(&["evolution", "logs", evolution, "--local"]).1;
    assert_eq!(logs["data"]["logs"][0]["log"], "proven\n");
    let listed = repository.ask(&["evolution", "list", "1.2.0"]).1;
    assert_eq!(listed["data"]["changes"][0]["state"], "proven");
    let (exit, missing) = repository.sign("owner", &["promote", "1.2.0"]);
    assert_eq!((exit, &missing["data"]["reason"]), (4, &json!("APPROVALS_MISSING")), "{missing}");
    repository.done("owner", &["approve", "1.2.0"]);
    assert_eq!(repository.sign("owner", &["promote", "1.2.0"]).0, 4);
    repository.done("other", &["approve", "1.2.0"]);
    let done = repository.done("other", &["promote", "1.2.0"]);
    assert_eq!(done["tag"], "v1.2.0");
    let (exit, again) = repository.sign("owner", &["promote", "1.2.0"]);
    assert_eq!((exit, &again["error"]["code"]), (8, &json!("PROMOTED_ALREADY")));

    let verify = |tag: &str| {
        let mut command = Command::new(cli_binary());
        command.args(["--json", "verify", "tag", tag]).current_dir(&repository.dir);
        let done: Output = command.output().unwrap();
        (done.status.code().unwrap(), serde_json::from_slice::<Value>(&done.stdout).unwrap())
    };
    assert_eq!(verify("v1.2.0").0, 0);
    assert_eq!(verify("v1.2.0-rc.1").1["data"]["kind"], "evolution.finished");
    let signers = repository.ask(&["roles", "signers"]).1["data"]["signers"].clone();
    let allowed: Vec<&str> = signers.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let file = repository.scratch.write("allowed", allowed.join("\n") + "\n");
    let option = format!("gpg.ssh.allowedSignersFile={}", file.display());
    git(&repository.dir, &["-c", &option, "verify-tag", "v1.2.0"]);

    let base = git(&repository.dir, &["rev-parse", "v1.2.0^{commit}"]);
    let mends =
        |skips: &str| json!({ "hotfix": { "base": "1.2.0", "reason": "money is lost", "skips": [skips] } });
    repository.seal("1.2.1", "true", &json!({ "min_evolutions": { "count": 3 } }), &mends("min_evolutions"));
    assert_eq!(repository.evolve("1.2.1").0, 0);
    let mended = repository.done("other", &["promote", "1.2.1"]);
    let rows = mended["gates"].as_array().unwrap();
    let skipped = rows.iter().find(|row| row["gate"] == "min_evolutions").unwrap();
    assert_eq!(
        (&skipped["state"], &skipped["waiver"]["reason"]),
        (&json!("waived"), &json!("money is lost"))
    );

    let back = repository.done("other", &["rollback", "1.2.1", "--reason", "it lost more"]);
    assert_eq!((&back["to"], &back["tag"]), (&json!("1.2.0"), &json!("rollback/v1.2.1")));
    let tree = |name: &str| git(&repository.dir, &["rev-parse", &format!("{name}^{{tree}}")]);
    assert_eq!(tree(back["commit"].as_str().unwrap()), tree(&base));
    assert_eq!(verify("rollback/v1.2.1").0, 0);
    let (exit, told) = verify("v1.2.1");
    assert_eq!((exit, &told["data"]["taken_back"]["to"]), (0, &json!("1.2.0")), "{told}");

    // The object of a candidate under the name of a release: git is content with it.
    let candidate = git(&repository.dir, &["rev-parse", "refs/tags/v1.2.1-rc.1"]);
    git(&repository.dir, &["update-ref", "refs/tags/v1.2.1", &candidate]);
    git(&repository.dir, &["-c", &option, "verify-tag", "v1.2.1"]);
    let (exit, forged) = verify("v1.2.1");
    assert_eq!((exit, &forged["error"]["code"]), (2, &json!("TAG_FORGED")), "{forged}");
    let (exit, unknown) = verify("v9.9.9");
    assert_eq!((exit, &unknown["error"]["code"]), (6, &json!("TAG_UNKNOWN")), "{unknown}");
    assert!(unknown["error"]["hint"].as_str().unwrap().contains("estoppel sync pull"), "{unknown}");
}

const POLICY: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: block, body_storage: { full: { reason: regress } } }\nrules:\n- { id: no-dinner, when: { body: [{ at: /user, equals: dinner }], route: stub }, verdict: block, reason: TOOL_DENIED }\n";

/// What a step does: a call under the nonce of the run, sealed into the evidence.
const CALLS: &str = "set -e
curl --silent --fail --output /dev/null --header \"Estoppel-Run: $ESTOPPEL_EVOLUTION\" \
--header \"Estoppel-Evolution-Id: ${NONCE:-$ESTOPPEL_NONCE}\" --header 'Content-Type: application/json' \
--data '{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}' \"http://$GATEWAY/v1/chat/completions\"
sealed=$(\"$ESTOPPEL_PROGRAM\" --json seal \"$ESTOPPEL_EVOLUTION\" --admin \"$ADMIN\" | sed 's/.*\"path\":\"\\([^\"]*\\)\".*/\\1/')
cp \"$sealed\" \"$ESTOPPEL_EVIDENCE/calls.pef.zip\"";

#[test]
fn each_row_of_an_audit_says_who_where_at_which_commit_and_what_was_before() {
    let repository = Repository::new("audited");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let sealed_at = git(&repository.dir, &["rev-parse", "HEAD"]);
    assert_eq!(repository.evolve("1.0.0").0, 0);
    repository.done("owner", &["promote", "1.0.0"]);
    let file = repository.scratch.join("audit.csv");
    let export = ["audit", "export", "--format", "csv", "--out", path(&file)];
    assert_eq!(repository.ask(&export).0, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('"').split("\",\"").map(ToOwned::to_owned).collect()
    };
    let rows: Vec<Vec<String>> = text.lines().map(cells).collect();
    let (head, rows) = rows.split_first().unwrap();
    let (_, rows) = rows.split_last().unwrap();
    let column = |name: &str| head.iter().position(|column| column == name).unwrap();
    assert!(rows.len() >= 7, "{text}");
    for (at, row) in rows.iter().enumerate() {
        let cell = |name: &str| row[column(name)].as_str();
        assert!(cell("actor").len() == 64 && !cell("name").is_empty() && !cell("host").is_empty(), "{row:?}");
        assert!(cell("commit").len() == 40, "{row:?}");
        git(&repository.dir, &["cat-file", "-e", &format!("{}^{{commit}}", cell("commit"))]);
        assert_eq!(cell("previous").is_empty(), at == 0, "only the first event follows none: {row:?}");
        assert!(at == 0 || cell("previous") == rows[at - 1][column("event")], "{row:?}");
    }
    let sealed = rows.iter().find(|row| row[column("kind")] == "generation.sealed").unwrap();
    assert_eq!(sealed[column("commit")], sealed_at);
    assert_eq!(repository.ask(&["audit", "verify", path(&file)]).0, 0);
    let forged = text.replacen(&sealed_at, &sealed_at.replace(|c: char| c.is_ascii_digit(), "f"), 1);
    std::fs::write(&file, forged).unwrap();
    assert_eq!(repository.ask(&["audit", "verify", path(&file)]).0, 2);
}

#[test]
fn a_backup_that_was_taken_while_others_wrote_is_whole_and_brings_the_ledger_back() {
    let repository = Repository::new("backup");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let genesis = repository.ask(&["ledger", "verify"]).1["data"]["genesis"].as_str().unwrap().to_owned();
    let backup = |number: usize| repository.scratch.join(format!("backup-{number}.json"));
    let public = repository.scratch.join("other.pub");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..8 {
                let name = format!("Bert {number}");
                let grant = ["roles", "grant", path(&public), "--name", &name, "--role", "approver"];
                repository.done("owner", &grant);
            }
        });
        let mut number = 0;
        while !writer.is_finished() || number == 0 {
            assert_eq!(repository.ask(&["audit", "export", "--out", path(&backup(number))]).0, 0);
            number += 1;
        }
        for number in 0..number {
            assert_eq!(repository.ask(&["audit", "verify", path(&backup(number))]).0, 0, "{number}");
        }
    });
    let last = repository.scratch.join("last.json");
    assert_eq!(repository.ask(&["audit", "export", "--out", path(&last)]).0, 0);
    let events = repository.events("roles.set");
    assert_eq!(events, 10);

    // An old one takes nothing back.
    let restored = repository.ask(&["ledger", "restore", path(&backup(0))]);
    assert_eq!((restored.0, repository.events("roles.set")), (0, events), "{}", restored.1);
    // The ledger is gone, with and without the memory of it.
    for names in [&["refs/estoppel/ledger"][..], &["refs/estoppel/ledger", "refs/estoppel/seen"]] {
        names.iter().for_each(|name| {
            git(&repository.dir, &["update-ref", "-d", name]);
        });
        assert_ne!(repository.ask(&["ledger", "verify"]).0, 0);
        let first = repository.ask(&["ledger", "restore", path(&backup(0))]);
        assert_eq!(first.0, 0, "{}", first.1);
        assert_eq!(repository.ask(&["ledger", "restore", path(&last)]).0, 0);
        assert_eq!(repository.events("roles.set"), events);
        assert_eq!(repository.ask(&["audit", "verify", path(&last)]).0, 0);
        let again = repository.ask(&["audit", "export"]).1["data"]["text"].clone();
        assert_eq!(again.as_str().unwrap(), std::fs::read_to_string(&last).unwrap());
    }
    let other = Repository::new("other");
    let (exit, answer) = other.ask(&["ledger", "restore", path(&last)]);
    assert_eq!((exit, &answer["error"]["code"]), (2, &json!("LEDGER_GENESIS")), "{answer}");

    let clone = repository.scratch.join("clone");
    git(repository.scratch.path(), &["clone", "--quiet", path(&repository.dir), path(&clone)]);
    let restore =
        |words: &[&str]| cli(&[&["ledger", "restore", path(&last), "--repo", path(&clone)], words].concat());
    let (exit, answer) = restore(&[]);
    assert_eq!((exit, &answer["error"]["code"]), (2, &json!("LEDGER_GENESIS")), "nobody trusts it: {answer}");
    assert_eq!(restore(&["--genesis", &genesis]).0, 0);
    let verified = cli(&["ledger", "verify", "--local", "--repo", path(&clone)]).1;
    assert_eq!(verified["data"]["standing"], "trusted", "{verified}");
    // Cut, forged, or no export.
    let text = std::fs::read_to_string(&last).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 7;
    let other = if text[at..].starts_with('A') { "B" } else { "A" };
    let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
    for forged in [altered, text[..text.len() / 2].to_owned(), "{}".into()] {
        let file = repository.scratch.write("forged.json", forged);
        assert_eq!(repository.ask(&["ledger", "restore", path(&file)]).0, 2);
    }
    assert_eq!(repository.events("roles.set"), events);
}

#[test]
fn what_went_through_the_gateway_joins_the_proof_and_a_loosened_rule_is_refused() {
    let answer = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
    });
    let script =
        Script::always(Reply::new(Body::Text(answer.to_string())).header("content-type", "application/json"));
    let world = World::with(script, &Setup { policy: POLICY.into(), ..Setup::default() });
    let asks = |user: &str| {
        format!(
            "{{\"model\":\"m\",\"user\":\"{user}\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]}}"
        )
    };
    assert_ne!(world.send(&chat("kept", &asks("dinner"))).status(), 200);
    world.wait_for_calls("kept", 1);
    let kept = world.seal("kept");
    let receipt = world.receipts_in(&kept).remove(0);
    assert_eq!(receipt["verdict"]["action"], "block", "{receipt}");

    let repository = Repository::new("traffic");
    let trust = world.journal().join("trust.json");
    let fixtures = repository.dir.join("fixtures");
    let call = receipt["call"].as_str().unwrap();
    let words = [
        "regress",
        "add",
        "--from",
        path(&kept),
        "--call",
        call,
        "--into",
        path(&fixtures),
        "--trust",
        path(&trust),
    ];
    let added = cli(&words);
    assert_eq!(added.0, 0, "{}", added.1);
    let trust = std::fs::read_to_string(trust).unwrap();
    repository.commit(&[("policy.yaml", POLICY), ("trust.json", &trust)]);
    let gates = json!({
        "evidence_bundle": { "trust": "trust.json", "calls_min": 1, "blocks_max": 0, "codes_refused": ["PRE_FAIL"] },
        "policy_hash": { "policy": "policy.yaml" }, "perf_budget": { "p95_ms": 60000 },
        "regress": { "policy": "policy.yaml", "fixtures": "fixtures" },
    });
    let run = |version: &str| {
        let key = repository.key("owner");
        let mut command = Command::new(cli_binary());
        command.args(["--json", "evolution", "start", version, "--all", "--repo", path(&repository.dir)]);
        command.args(["--key", path(&key)]).env("ESTOPPEL_PROGRAM", cli_binary());
        command.env("GATEWAY", world.gateway.to_string()).env("ADMIN", world.admin.to_string());
        let done = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{answer:#}");
        answer["data"].clone()
    };
    repository.seal("1.0.0", CALLS, &gates, &json!({}));
    let first = run("1.0.0");
    let evolution = first["evolution"].as_str().unwrap();
    let bundle = repository.dir.join(".git/estoppel/evidence").join(evolution).join("calls.pef.zip");
    let message = git(&repository.dir, &["cat-file", "tag", "v1.0.0-rc.1"]);
    let digest = first["evidence"]["calls.pef.zip"]["sha256"].as_str().unwrap();
    assert!(message.contains(digest) && message.contains(evolution), "{message}");

    let of = |words: &[&str]| cli(&[&["show"], words].concat()).1["data"]["release"].clone();
    let alone = of(&[path(&kept), "--repo", path(&repository.dir)]);
    assert_eq!((&alone["scope"], &alone["generation"]), (&json!("unscoped"), &Value::Null));
    let known = of(&[path(&bundle), "--repo", path(&repository.dir)]);
    assert_eq!(
        (&known["scope"], &known["generation"], &known["evolution"]),
        (&json!("known"), &json!("1.0.0"), &json!(evolution))
    );
    let claimed = of(&[path(&bundle)]);
    assert_eq!((&claimed["scope"], &claimed["generation"]), (&json!("claimed"), &Value::Null));
    let plain = Command::new(cli_binary()).args(["show", path(&kept)]).output().unwrap();
    assert!(String::from_utf8_lossy(&plain.stdout).contains("unscoped"));

    let bytes = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, [bytes.as_slice(), b"x"].concat()).unwrap();
    let (exit, forged) = repository.sign("other", &["promote", "1.0.0"]);
    assert_eq!((exit, state(&forged, "evidence_bundle")), (3, "fail"));
    std::fs::remove_file(&bundle).unwrap();
    let (exit, missing) = repository.sign("other", &["promote", "1.0.0"]);
    assert_eq!((exit, state(&missing, "evidence_bundle")), (3, "missing"));
    std::fs::write(&bundle, &bytes).unwrap();
    let promoted = repository.sign("other", &["promote", "1.0.0"]);
    assert_eq!(promoted.0, 0, "{:#}", promoted.1);
    for gate in ["evidence_bundle", "policy_hash", "perf_budget", "regress"] {
        assert_eq!(state(&promoted.1, gate), "pass", "{gate}");
    }

    // A good bundle of another run, and a rule that was loosened.
    let stale = format!("cp '{}' \"$ESTOPPEL_EVIDENCE/calls.pef.zip\"", bundle.display());
    let loosened = POLICY.replace("equals: dinner", "equals: supper");
    repository.commit(&[("policy.yaml", &loosened)]);
    repository.seal("1.1.0", &stale, &gates, &json!({}));
    run("1.1.0");
    let (exit, refused) = repository.sign("other", &["promote", "1.1.0"]);
    assert_eq!(exit, 3);
    for gate in ["evidence_bundle", "regress"] {
        assert_eq!(state(&refused, gate), "fail", "{gate}");
    }
    let rows = refused["data"]["gates"].to_string();
    assert!(rows.contains("of another run") && rows.contains("1 otherwise"), "{rows}");
    // Somebody puts the strict one where the candidate is checked out.
    for _ in 0..3 {
        let promote = || repository.sign("other", &["promote", "1.1.0"]);
        let (exit, told) = left::meddling(&repository, ("policy.yaml", POLICY), promote);
        match exit {
            2 => assert_eq!(told["error"]["code"], "LEDGER_ALTERED", "{told}"),
            exit => assert_eq!((exit, state(&told, "regress")), (3, "fail"), "{told}"),
        }
    }
    assert!(!has(&repository.dir, "refs/tags/v1.1.0"));

    let textfile = repository.scratch.join("figures.prom");
    let status = cli(&["status", "--repo", path(&repository.dir), "--textfile", path(&textfile)]);
    assert_eq!(status.0, 0, "{}", status.1);
    let figures = std::fs::read_to_string(&textfile).unwrap();
    let figure = |labels: &str| {
        let mut lines = figures.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find(|(name, _)| *name == labels).and_then(|(_, value)| value.parse::<f64>().ok())
    };
    let took = |version: &str, gate: &str, state: &str| {
        let labels = format!("version=\"{version}\",gate=\"{gate}\",state=\"{state}\"");
        figure(&format!("estoppel_promotion_gate_seconds{{{labels}}}"))
    };
    for (version, gate, state) in [("1.0.0", "regress", "pass"), ("1.1.0", "evidence_bundle", "fail")] {
        assert!(took(version, gate, state).is_some_and(|seconds| seconds > 0.0), "{gate}: {figures}");
    }
    assert_eq!(took("1.0.0", "regress", "fail"), None);
    for result in [("passed", 1.0), ("failed", 0.0)] {
        let labels = format!("estoppel_evolutions_total{{version=\"1.1.0\",result=\"{}\"}}", result.0);
        assert_eq!(figure(&labels), Some(result.1), "{figures}");
    }
}

/// A folder for `PATH` whose `git` kills who calls it before or after the `at`th call that changes something.
fn deadly(scratch: &Scratch, at: u32, mode: &str) -> PathBuf {
    let folder = scratch.join(format!("deadly-{at}-{mode}"));
    std::fs::create_dir_all(&folder).unwrap();
    let real = Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
    let count = folder.join("count");
    let script = format!(
        "#!/bin/sh
changes=
for word in \"$@\"; do case \"$word\" in push|update-ref|worktree|-w) changes=1;; esac; done
test -n \"$changes\" || exec '{real}' \"$@\"
echo >> '{count}'
test \"$(wc -l < '{count}')\" -eq {at} || exec '{real}' \"$@\"
if test {mode} = after; then '{real}' \"$@\"; fi
kill -9 \"$PPID\"
",
        count = count.display()
    );
    let program = folder.join("git");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_promotion_that_is_killed_at_any_step_is_whole_or_nothing_and_goes_on() {
    let repository = Repository::new("killed");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.0.0").0, 0);
    let genesis = git(&repository.dir, &["config", "estoppel.genesis"]);
    let mut steps = 0;
    for at in 1.. {
        let mut ended = 0;
        for mode in ["before", "after"] {
            let origin = repository.scratch.join(format!("origin-{at}-{mode}"));
            let clone = repository.scratch.join(format!("clone-{at}-{mode}"));
            git(&repository.dir, &["clone", "--quiet", "--mirror", path(&repository.dir), path(&origin)]);
            git(&repository.dir, &["clone", "--quiet", path(&origin), path(&clone)]);
            let joined = cli(&["ledger", "join", &genesis, "--repo", path(&clone)]);
            assert_eq!(joined.0, 0, "{}", joined.1);
            let key = repository.key("other");
            let promote = ["promote", "1.0.0", "--repo", path(&clone), "--key", path(&key)];
            let folder = deadly(&repository.scratch, at, mode);
            let mut paths = vec![folder];
            paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
            let mut command = Command::new(cli_binary());
            command.args(promote).env("PATH", std::env::join_paths(paths).unwrap());
            let done = command.output().unwrap();
            if done.status.code() == Some(0) {
                ended += 1;
            } else {
                assert_eq!(done.status.code(), None, "{at} {mode}: {done:?}");
            }
            let shown = cli(&["ledger", "show", "--repo", path(&clone)]).1;
            let is_finished = shown["data"]["events"].to_string().contains("promotion.finished");
            assert_eq!(has(&origin, "refs/tags/v1.0.0"), is_finished, "{at} {mode}");
            let mut again = cli(&[promote.as_slice(), &["--resume"]].concat());
            if again.1["error"]["code"] == "STATE_INVALID" {
                again = cli(&promote);
            }
            assert_eq!(again.0, 0, "{at} {mode}: {}", again.1);
            let tag = |dir: &Path| git(dir, &["rev-parse", "refs/tags/v1.0.0"]);
            assert_eq!(tag(&origin), tag(&clone), "{at} {mode}");
            let ledger = |dir: &Path| git(dir, &["rev-parse", "refs/estoppel/ledger"]);
            assert_eq!(ledger(&origin), ledger(&clone), "{at} {mode}");
            assert_eq!(cli(&["ledger", "verify", "--repo", path(&clone)]).0, 0);
        }
        steps = at;
        if ended == 2 {
            break;
        }
    }
    assert!(steps > 10, "only {steps} steps were tried");
}

#[test]
fn what_was_looked_at_under_another_contract_is_neither_approved_nor_promoted() {
    let repository = Repository::new("contract-meant");
    repository.seal("1.2.0", "true", &json!({ "approvals": { "count": 1 } }), &json!({}));
    assert_eq!(repository.evolve("1.2.0").0, 0);
    let other = format!("sha256:{}", "5a".repeat(32));
    for words in [["approve", "1.2.0", "--contract", &other], ["promote", "1.2.0", "--contract", &other]] {
        let (exit, refused) = repository.sign("other", &words);
        assert_eq!((exit, &refused["error"]["code"]), (3, &json!("STATE_INVALID")), "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(&other), "{refused}");
    }
    let waive = ["waive", "1.2.0", "no_failed", "--reason", "first", "--contract", &other];
    let (exit, refused) = repository.sign("other", &waive);
    assert_eq!((exit, &refused["error"]["code"]), (3, &json!("STATE_INVALID")), "{refused}");
    assert_eq!(repository.sign("other", &["approve", "1.2.0", "--contract", "5a"]).0, 6);
    let kinds = repository.ask(&["ledger", "show"]).1["data"]["events"].to_string();
    assert!(!kinds.contains("approval.") && !kinds.contains("promotion."), "{kinds}");
    let status = repository.ask(&["status"]).1.to_string();
    let own = status.split("\"contract\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    repository.done("other", &["approve", "1.2.0", "--contract", &own]);
    repository.done("other", &["promote", "1.2.0", "--contract", &own]);
}
