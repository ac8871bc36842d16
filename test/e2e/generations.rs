//! Generations: what is said of their files, what sealing fixes, and that every template is one. Audit exports of what became of them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::Scratch;
use serde_json::{Value, json};

use crate::support::{cli, cli_binary, path};

const FILE: &str = "generation: 1
version: \"1.2.0\"
description: Invoices
author: { name: Ada }
changes:
- { id: PAY-001, type: add, title: Pay by invoice }
- { id: PAY-002, type: fix, title: Round as banks do }
steps:
- { id: unit, kind: unit, run: [\"true\"], proves: all }
- { id: e2e, kind: e2e, run: [\"true\"], proves: [PAY-001] }
";

/// A repository with a ledger, and the key of everybody in it.
struct Repository {
    scratch: Scratch,
    key: PathBuf,
}

impl Repository {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let repository = Self { key: scratch.join("key.pem"), scratch };
        std::fs::create_dir_all(repository.dir()).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.git(&["config", "user.name", "Ada"]);
        repository.git(&["config", "user.email", "ada@example.invalid"]);
        repository.git(&["commit", "--quiet", "--allow-empty", "-m", "begun"]);
        let key = path(&repository.key);
        let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", key]).output();
        assert!(made.unwrap().status.success());
        std::fs::set_permissions(&repository.key, PermissionsExt::from_mode(0o600)).unwrap();
        repository
    }

    fn dir(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    fn git(&self, words: &[&str]) {
        let done = Command::new("git").arg("-C").arg(self.dir()).args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn file(&self) -> PathBuf {
        self.dir().join(".estoppel/generations/v1.2.0.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        std::fs::write(self.file(), text).unwrap();
    }

    fn ask(&self, words: &[&str]) -> (i32, Value) {
        let dir = self.dir();
        cli(&[words, &["--repo", path(&dir)]].concat())
    }

    fn sign(&self, words: &[&str]) -> (i32, Value) {
        self.ask(&[words, &["--key", path(&self.key)]].concat())
    }

    fn code(&self, words: &[&str]) -> (i32, String) {
        let (exit, answer) = self.sign(words);
        (exit, answer["error"]["code"].as_str().unwrap_or("OK").to_owned())
    }
}

#[test]
fn lint_names_the_place_and_what_is_allowed_there() {
    let scratch = Scratch::new("generation-lint");
    let bad = scratch.write("bad.yaml", FILE.replace("type: add", "type: break"));
    let done = Command::new(cli_binary()).args(["generation", "lint", path(&bad)]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(6));
    for word in ["line 6", "/changes/0/type", "`fix`, `refine`, `add`, `remove`", "GENERATION_SCHEMA"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (exit, answer) = cli(&["generation", "lint", path(&bad)]);
    assert_eq!((exit, &answer["error"]["code"]), (6, &json!("GENERATION_INVALID")));
    assert_eq!(answer["error"]["data"]["errors"][0]["pointer"], "/changes/0/type");
    let good = scratch.write("good.yaml", FILE);
    let toml = scratch.write("good.toml", "generation = 1\nversion = '1.2.0'\n");
    assert_eq!(cli(&["generation", "lint", path(&good)]).0, 0);
    let (exit, answer) = cli(&["generation", "lint", path(&good), path(&toml), path(&bad)]);
    assert_eq!((exit, answer["error"]["data"]["files"].as_array().unwrap().len()), (6, 2));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n";
    let bomb = scratch.write("bomb.yaml", bomb);
    let errors = cli(&["generation", "lint", path(&bomb)]).1["error"]["data"]["errors"].clone();
    assert!(errors.as_array().unwrap().iter().all(|error| error["code"] == "GENERATION_YAML_FEATURE"));
    assert_eq!(cli(&["generation", "lint", path(&scratch.join("none.yaml"))]).0, 6);
}

#[test]
fn a_new_generation_is_a_draft_with_a_digest() {
    let repository = Repository::new("generation-new");
    let (exit, begun) = repository.ask(&["generation", "new", "v1.2.0"]);
    assert_eq!(exit, 0, "{begun}");
    let (exit, shown) = repository.ask(&["generation", "show", "v1.2.0"]);
    let shown = &shown["data"];
    assert_eq!((exit, &shown["status"], &shown["author"]), (0, &json!("draft"), &json!("Ada")));
    assert_eq!(
        (shown["changes"].as_array().unwrap().len(), &shown["contract"]),
        (1, &begun["data"]["contract"])
    );
    assert_eq!(repository.ask(&["generation", "lint"]).0, 0);
    assert_eq!(repository.ask(&["generation", "new", "1.2.0"]).0, 8);
    let like = ["generation", "new", "1.3.0", "--like", "1.2.0", "--change", "fix:A-1:a \"b\": #c"];
    assert_eq!(repository.ask(&like).0, 0);
    let like = repository.ask(&["generation", "show", "1.3.0"]).1["data"].clone();
    assert_eq!((&like["steps"], &like["changes"][0]["title"]), (&json!(["proof"]), &json!("a \"b\": #c")));
    let listed = repository.ask(&["generation", "list"]).1["data"]["generations"].clone();
    assert_eq!(
        (listed[0]["version"].clone(), listed[1]["version"].clone()),
        (json!("1.2.0"), json!("1.3.0"))
    );
    for words in [
        &["generation", "new", "1.2"][..],
        &["generation", "new", "2.0.0", "--change", "break:A:b"],
        &["generation", "new", "2.0.0", "--change", "fix:-:b"],
        &["generation", "new", "2.0.0", "--template", "hotfix"],
        &["generation", "new", "2.0.0", "--like", "1.9.0"],
        &["generation", "show", "2.0.0"],
    ] {
        assert_eq!(repository.ask(words).0, 6, "{words:?}");
    }
    assert_eq!(repository.ask(&["generation", "list"]).1["data"]["generations"].as_array().unwrap().len(), 2);
}

#[test]
fn sealing_fixes_the_contract_and_an_amendment_voids_what_it_alters() {
    let repository = Repository::new("generation-seal");
    repository.write(FILE);
    let seal = ["generation", "seal", "1.2.0"];
    let amend = ["generation", "amend", "1.2.0", "--reason", "the bank said so"];
    assert_eq!(repository.code(&seal), (7, "LEDGER_MISSING".into()));
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    assert_eq!(repository.code(&amend), (3, "STATE_INVALID".into()));
    let (exit, sealed) = repository.sign(&seal);
    assert_eq!(exit, 0, "{sealed}");
    assert_eq!(repository.code(&seal), (3, "STATE_INVALID".into()));
    assert_eq!(repository.code(&amend), (3, "STATE_INVALID".into()), "nothing differs");
    let show = || repository.ask(&["generation", "show", "1.2.0"]).1["data"].clone();
    assert_eq!((&show()["status"], &show()["differs"]), (&json!("sealed"), &json!(false)));
    let before = show();
    repository.write(&FILE.replace("id: e2e, kind: e2e, run: [\"true\"]", "id: e2e, kind: e2e, run: [make]"));
    assert_eq!((&show()["differs"], &show()["sealed"]), (&json!(true), &sealed["data"]["contract"]));
    let (exit, amended) = repository.sign(&amend);
    let amended = &amended["data"];
    assert_eq!((exit, &amended["altered"], &amended["kept"]), (0, &json!(["PAY-001"]), &json!(["PAY-002"])));
    let after = show();
    assert_ne!(before["changes"][0]["digest"], after["changes"][0]["digest"]);
    assert_eq!(before["changes"][1]["digest"], after["changes"][1]["digest"]);
    assert_eq!((&after["differs"], &after["contract"]), (&json!(false), &amended["contract"]));
    std::fs::remove_file(repository.file()).unwrap();
    assert_eq!(show()["contract"], amended["contract"], "what is sealed outlives its file");
    assert_eq!(repository.code(&["generation", "amend", "1.2.0", "--reason", " "]).0, 6);
    assert_eq!(repository.code(&["generation", "abandon", "1.2.0", "--reason", "no"]).0, 0);
    assert_eq!(show()["status"], "abandoned");
    repository.write(FILE);
    assert_eq!(repository.code(&seal), (3, "STATE_INVALID".into()));
    let events = repository.ask(&["ledger", "show"]).1["data"]["events"].clone();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["roles.set", "generation.sealed", "generation.amended", "generation.abandoned"]);
    assert_eq!(events[2]["body"]["from"], sealed["data"]["contract"]);
}

fn in_folder(dir: &Path, words: &[&str]) -> i32 {
    let done = Command::new(cli_binary()).args(words).current_dir(dir).output().unwrap();
    done.status.code().unwrap()
}

#[test]
fn every_template_makes_a_folder_that_lints_clean() {
    let scratch = Scratch::new("generation-templates");
    let named = ["minimal", "go", "go-release", "python-lib", "node", "rust-release", "hotfix"];
    let catalog = ["catalog:rust.release", "catalog:go.release", "catalog:python.lib"];
    let asked =
        named.map(|name| ("--template", name)).into_iter().chain(catalog.map(|name| ("--from", name)));
    for (option, name) in asked {
        let dir = scratch.join(name.replace(':', "-"));
        assert_eq!(cli(&["new", option, name, path(&dir)]).0, 0, "{name}");
        assert_eq!(in_folder(&dir, &["generation", "lint"]), 0, "{name}");
        assert_eq!(in_folder(&dir, &["policy", "lint"]), 0, "{name}");
        let (exit, again) = cli(&["new", option, name, path(&dir)]);
        assert_eq!((exit, &again["error"]["code"]), (8, &json!("OUTPUT_EXISTS")));
    }
    let left: Vec<_> =
        std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), named.len() + catalog.len(), "{left:?}");
    let python = scratch.join("python-lib");
    let mut unittest = Command::new("python3");
    unittest.args(["-m", "unittest", "discover", "-s", "tests"]).current_dir(python);
    let tested = unittest.output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    assert_eq!(cli(&["new", "--from", "rust.release", path(&scratch.join("x"))]).0, 6);
    assert_eq!(cli(&["new", "--template", "cobol", path(&scratch.join("x"))]).0, 6);
    assert!(!scratch.join("x").exists());
}

#[test]
fn an_audit_export_is_verified_and_a_flipped_byte_is_found() {
    let repository = Repository::new("audit");
    repository.write(FILE);
    assert_eq!(repository.ask(&["audit", "export"]).0, 7);
    assert_eq!(repository.sign(&["ledger", "init", "--name", "=Ada"]).0, 0);
    assert_eq!(repository.sign(&["generation", "seal", "1.2.0"]).0, 0);
    assert_eq!(repository.sign(&["generation", "abandon", "1.2.0", "--reason", "no <b>more</b>"]).0, 0);
    let head = repository.ask(&["ledger", "verify"]).1["data"]["head"].as_str().unwrap().to_owned();
    for format in ["json", "csv", "html"] {
        let file = repository.scratch.join(format!("audit.{format}"));
        let export = ["audit", "export", "--format", format, "-o", path(&file)];
        // Killed while it writes, by the limit of the shell, it leaves nothing under that name.
        let mut killed = Command::new("bash");
        killed.args(["-c", "ulimit -f 1 && exec \"$0\" \"$@\"", cli_binary()]);
        let killed = killed.args(export).args(["--repo", path(&repository.dir())]).output().unwrap();
        assert_eq!(killed.status.signal(), Some(25), "SIGXFSZ: {killed:?}");
        assert!(!file.exists(), "{format}: a part of it is there");
        assert_eq!(repository.ask(&export).0, 0);
        assert_eq!(repository.ask(&export).0, 8);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(&head), "{format}");
        assert!(format != "csv" || !text.contains("\"=Ada\""), "{text}");
        assert!(format != "html" || !text.contains("<b>more"), "{text}");
        let (exit, found) = repository.ask(&["audit", "verify", path(&file)]);
        assert_eq!(
            (exit, &found["data"]["events"], &found["data"]["head"]),
            (0, &json!(3), &json!(head)),
            "{found}"
        );
        let alone = cli(&["audit", "verify", path(&file), "--repo", path(repository.scratch.path())]);
        assert_eq!(alone.0, if format == "json" { 0 } else { 7 }, "{format}: {}", alone.1);
        let mut bytes = text.into_bytes();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(repository.ask(&["audit", "verify", path(&file)]).0, 2, "{format}");
    }
    let shown = repository.ask(&["audit", "export", "--format", "csv", "--from", "2999-01-01T00:00:00Z"]).1;
    assert_eq!(shown["data"]["text"].as_str().unwrap().lines().count(), 2);
    assert_eq!(repository.ask(&["audit", "export", "--from", "yesterday"]).0, 6);
}

#[test]
fn questions_are_answered_and_nothing_is_written() {
    let repository = Repository::new("database");
    repository.write(FILE);
    assert_eq!(repository.ask(&["db", "query", "SELECT 1"]).0, 7);
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    let draft = repository.ask(&["status"]).1["data"]["generations"][0].clone();
    assert_eq!((&draft["version"], &draft["status"]), (&json!("1.2.0"), &json!("draft")));
    assert_eq!(repository.sign(&["generation", "seal", "1.2.0"]).0, 0);
    let (exit, answer) = repository.ask(&["db", "query", "SELECT id, type, proven FROM changes ORDER BY id"]);
    assert_eq!((exit, &answer["data"]["rows"][1]), (0, &json!(["PAY-002", "fix", 0])));
    for (sql, code) in
        [("INSERT INTO ledger VALUES ('a', 'b', 1)", 8), ("DROP TABLE events", 8), ("SELECT", 6)]
    {
        assert_eq!(repository.ask(&["db", "query", sql]).0, code, "{sql}");
    }
    let rate = repository.ask(&["db", "metric", "pass_rate", "--gen", "v1.2.0"]).1["data"].clone();
    assert_eq!((&rate["whole"], &rate["value"]), (&json!(0), &Value::Null));
    assert_eq!(repository.ask(&["db", "metric", "luck"]).0, 6);
    let textfile = repository.scratch.join("figures.prom");
    let status = repository.ask(&["status", "v1.2.0", "--textfile", path(&textfile)]).1["data"].clone();
    let standing = &status["generations"][0];
    assert_eq!((&standing["status"], &standing["proven"]), (&json!("sealed"), &json!(0)));
    assert_eq!(standing["next"], "estoppel evolution start 1.2.0 --all");
    let figures = std::fs::read_to_string(&textfile).unwrap();
    for line in [
        "estoppel_evolutions_total{version=\"1.2.0\",result=\"passed\"} 0",
        "estoppel_generation_changes{version=\"1.2.0\"} 2",
        "estoppel_ledger_events 2",
    ] {
        assert!(figures.lines().any(|found| found == line), "{line}: {figures}");
    }
    assert_eq!(repository.ask(&["status", "9.9.9"]).0, 6);
}

#[test]
fn a_watched_status_says_what_has_changed() {
    let repository = Repository::new("status-watch");
    repository.write(FILE);
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    let mut watch = Command::new(cli_binary());
    watch.args(["--json", "status", "--watch", "--every-s", "1", "--repo", path(&repository.dir())]);
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next = || {
        let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        answer["data"]["generations"][0]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "draft");
    assert_eq!(repository.sign(&["generation", "seal", "1.2.0"]).0, 0);
    assert_eq!(next(), "sealed");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn what_the_remote_lacks_outlives_an_outage_and_is_told_once() {
    let repository = Repository::new("sync");
    repository.write(FILE);
    let remote = repository.scratch.join("remote.git");
    let made = Command::new("git").args(["init", "--quiet", "--bare", path(&remote)]).output().unwrap();
    assert!(made.status.success());
    repository.git(&["remote", "add", "origin", path(&remote)]);
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    repository.git(&["config", "estoppel.sync", "local"]);
    assert_eq!(repository.sign(&["generation", "seal", "1.2.0"]).0, 0);
    let status = repository.ask(&["sync", "status"]).1["data"].clone();
    assert_eq!(
        (&status["mode"], &status["ahead"], &status["behind"]),
        (&json!("local"), &json!(1), &json!(0))
    );
    assert_eq!(
        (&status["versions"][0]["version"], &status["versions"][0]["state"]),
        (&json!("1.2.0"), &json!("ahead"))
    );
    let away = repository.scratch.join("away.git");
    std::fs::rename(&remote, &away).unwrap();
    let code = |words: &[&str]| {
        let (exit, answer) = repository.ask(words);
        (exit, answer["error"]["code"].as_str().unwrap_or("OK").to_owned())
    };
    for _ in 0..3 {
        assert_eq!(code(&["sync", "push", "--now"]), (1, "REMOTE_FAILED".into()));
    }
    assert_eq!(code(&["sync", "push"]), (1, "SYNC_WAITS".into()));
    let status = repository.ask(&["sync", "status"]).1["data"].clone();
    assert_eq!(
        (&status["asked"], &status["pending"], &status["outbox"]["tries"]),
        (&json!(false), &json!(1), &json!(3))
    );
    std::fs::rename(&away, &remote).unwrap();
    let (exit, pushed) = repository.ask(&["sync", "push", "--wait"]);
    assert_eq!((exit, &pushed["data"]["events"]), (0, &json!(1)));
    assert_eq!(repository.ask(&["sync", "push"]).1["data"]["events"], json!(0));
    let status = repository.ask(&["sync", "status"]).1["data"].clone();
    assert_eq!((&status["ahead"], &status["outbox"]), (&json!(0), &Value::Null));
    let other = repository.scratch.join("other");
    let cloned =
        Command::new("git").args(["clone", "--quiet", path(&remote), path(&other)]).output().unwrap();
    assert!(cloned.status.success());
    let events = repository.ask(&["ledger", "show"]).1["data"]["events"].clone();
    let genesis = events[0]["id"].as_str().unwrap();
    assert_eq!(cli(&["ledger", "join", genesis, "--repo", path(&other)]).0, 0);
    let shown = cli(&["generation", "show", "1.2.0", "--repo", path(&other)]).1;
    assert_eq!(shown["data"]["status"], "sealed");
    repository.git(&["config", "estoppel.sync", "sometimes"]);
    assert_eq!(code(&["sync", "status"]), (6, "SYNC_MODE".into()));
}

#[test]
fn two_of_three_red_are_one_alert_and_three_green_are_none() {
    let repository = Repository::new("pass-rate");
    let steps = |version: &str, run: &str| {
        FILE.replace("1.2.0", version).replace("run: [\"true\"]", &format!("run: {run}"))
    };
    repository.write(&steps("1.2.0", "[test, -e, nothing]"));
    std::fs::write(repository.file().with_file_name("v1.3.0.yaml"), steps("1.3.0", "[\"true\"]")).unwrap();
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    for version in ["1.2.0", "1.3.0"] {
        assert_eq!(repository.sign(&["generation", "seal", version]).0, 0);
    }
    let run = |version: &str| repository.sign(&["evolution", "start", version, "--all"]).0;
    assert_eq!([run("1.2.0"), run("1.2.0")], [3, 3]);
    repository.write(&steps("1.2.0", "[\"true\"]"));
    assert_eq!(repository.sign(&["generation", "amend", "1.2.0", "--reason", "it was wrong"]).0, 0);
    assert_eq!([run("1.2.0"), run("1.3.0"), run("1.3.0"), run("1.3.0")], [0; 4]);
    let (exit, status) = repository.ask(&["status", "--pass-rate-min", "80"]);
    let alerts = status["data"]["alerts"].as_array().unwrap();
    assert_eq!(
        (exit, alerts.len(), &alerts[0]["version"], &alerts[0]["passed"]),
        (5, 1, &json!("1.2.0"), &json!(1))
    );
    let green = repository.ask(&["status", "1.3.0", "--pass-rate-min", "80"]);
    assert_eq!((green.0, &green.1["data"]["alerts"]), (0, &json!([])));
    let rate = repository.ask(&["db", "metric", "pass_rate", "--gen", "1.2.0"]).1["data"].clone();
    assert_eq!((&rate["part"], &rate["whole"]), (&json!(1), &json!(3)));
}

#[test]
fn the_mode_says_when_the_remote_is_told() {
    let repository = Repository::new("modes");
    let remote = repository.scratch.join("remote.git");
    let made = Command::new("git").args(["init", "--quiet", "--bare", path(&remote)]).output().unwrap();
    assert!(made.status.success());
    repository.git(&["remote", "add", "origin", path(&remote)]);
    let asked = |words: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&remote).args(words).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let events = || asked(&["ls-tree", "-r", "--name-only", "refs/estoppel/ledger"]).lines().count();
    assert_eq!(repository.sign(&["ledger", "init", "--name", "Ada"]).0, 0);
    assert_eq!(events(), 1);
    repository.write(FILE);
    assert_eq!(repository.sign(&["generation", "seal", "1.2.0"]).0, 0);
    assert_eq!(events(), 2, "cloud: with every event");
    repository.git(&["config", "estoppel.sync", "local"]);
    assert_eq!(repository.sign(&["evolution", "start", "1.2.0", "--all"]).0, 0);
    assert_eq!(events(), 2, "local: never");
    repository.git(&["config", "estoppel.sync", "hybrid"]);
    assert_eq!(repository.sign(&["evolution", "start", "1.2.0", "--all"]).0, 0);
    assert_eq!((events(), asked(&["tag"])), (2, String::new()), "hybrid: not yet");
    let (exit, promoted) = repository.sign(&["promote", "1.2.0"]);
    assert_eq!(exit, 0, "{promoted}");
    assert_eq!(events(), 2 + 2 + 2 + 2, "hybrid: all of it with the promotion");
    assert_eq!(asked(&["tag"]), "v1.2.0\nv1.2.0-rc.1\nv1.2.0-rc.2\n");
    let status = repository.ask(&["sync", "status"]).1["data"].clone();
    assert_eq!((&status["ahead"], &status["behind"], &status["tags"]), (&json!(0), &json!(0), &json!([])));
    let audit = repository.ask(&["audit", "export", "--format", "csv"]).1["data"]["text"].clone();
    assert!(audit.as_str().unwrap().lines().count() >= 8, "{audit}");
}
