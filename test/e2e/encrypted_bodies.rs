//! Stored bodies that the gateway encrypts, and what becomes of calls when nobody gives it a key.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use estoppel_bundle::Bundle;
use estoppel_kit::Scratch;
use estoppel_kit::http::{Request, get};
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::{Value, json};

use crate::support::{OPEN, PATIENCE, Setup, World, chat, cli, daemon_binary, path};

const SECRET: &str = "planted-4711";

fn policy() -> String {
    "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: r } } }\nrules:\n  \
     - { id: tagged, when: { model: tagged }, verdict: allow, body_storage: hmac }\n"
        .into()
}

fn setup(encryption: &str) -> Setup {
    Setup { policy: policy(), config: format!("[encryption]\n{encryption}\n"), ..Setup::default() }
}

fn key(scratch: &Scratch, name: &str) -> PathBuf {
    let key = scratch.join(name);
    assert_eq!(cli(&["keys", "wrapping", "--out", path(&key)]).0, 0);
    key
}

fn echo() -> Script {
    Script::model().on(Rule::any("/echo", Reply::new(Body::Echo)))
}

fn asked(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{SECRET}"}}]}}"#)
}

/// Files below a folder, but for bundles, and what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let at = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true if at.ends_with("bundles") => {}
            true => found.extend(files(&at)),
            false => found.push((at.clone(), std::fs::read(&at).unwrap())),
        }
    }
    found
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

/// Whether a bundle holds a body that holds this.
fn is_bundled(bundle: &Path, body: &[u8]) -> bool {
    let bundle = Bundle::from_zip(std::fs::read(bundle).unwrap()).unwrap();
    let is_it = |(path, size): (&estoppel_bundle::BundlePath, u64)| {
        path.as_str().starts_with("bodies/") && bundle.read(path, size).unwrap() == body
    };
    bundle.files().any(is_it)
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("none")
}

#[test]
fn stored_bodies_lie_encrypted_and_are_in_the_bundle_as_they_passed() {
    let keys = Scratch::new("keys");
    let world = World::with(echo(), &setup(&format!("key_file = {:?}", key(&keys, "key"))));
    let upload = format!("{SECRET} ").repeat(100_000).into_bytes();
    for stream in [false, true] {
        assert_eq!(world.send(&chat("kept", &asked("m", stream))).status(), 200);
    }
    let echoed = world.send(&Request::new("POST", "/echo").header("estoppel-run", "kept").body(&upload));
    assert!(echoed.body == upload);
    world.wait_for_calls("kept", 3);
    let mut bodies = 0;
    for (at, bytes) in files(&world.journal()) {
        assert!(!holds(&bytes, SECRET), "{} is in clear", at.display());
        if at.starts_with(world.journal().join("bodies")) {
            assert!(at.extension().is_some_and(|end| end == "enc"), "{}", at.display());
            bodies += 1;
        }
    }
    assert!(bodies >= 5, "{bodies}");
    let bundle = world.seal("kept");
    for receipt in world.receipts_in(&bundle) {
        assert_eq!(receipt["body"]["mode"], "full");
        assert!(receipt.get("downgrades").is_none(), "{receipt}");
    }
    assert!(is_bundled(&bundle, &upload) && is_bundled(&bundle, asked("m", true).as_bytes()));
    assert_eq!(world.metric("estoppel_body_key_usable"), Some(1.0));
}

/// A program that holds no key and gives it back, as long as a file is there.
fn program(scratch: &Scratch) -> (PathBuf, String) {
    let works = scratch.join("works");
    let script = format!(
        r#"test -e {} || exit 1; read line; case "$line" in
        *'"op":"wrap"'*) echo "$line" | sed 's/.*"key":"\([^"]*\)".*/{{"id":"kms:7","wrapped":"\1"}}/' ;;
        *) echo "$line" | sed 's/.*"wrapped":"\([^"]*\)".*/{{"key":"\1"}}/' ;; esac"#,
        works.display()
    );
    let argv = json!(["sh", "-c", script]).to_string();
    (works, format!("command = {{ argv = {argv}, timeout_ms = 20000 }}"))
}

#[test]
fn without_a_key_calls_that_are_to_be_stored_are_refused_until_there_is_one() {
    let scratch = Scratch::new("keys");
    let (works, command) = program(&scratch);
    // It need not encrypt anything when it starts, and does not start where it must.
    let mut world = World::with(echo(), &Setup { policy: OPEN.into(), ..setup(&command) });
    let told = world.daemon.stderr();
    assert!(told.contains("KEY_HOOK_FAILED") && told.contains("encryption.command `sh`"), "{told}");
    std::fs::write(world.scratch.join("policy.yaml"), policy()).unwrap();
    world.daemon.hang_up();
    estoppel_kit::until("the policy that stores", PATIENCE, || {
        (get(world.admin, "/readyz").unwrap().status() == 503).then_some(())
    });
    let refused = world.send(&chat("kept", &asked("m", false)));
    assert_eq!((refused.status(), refused.text().contains("KEY_HOOK_FAILED")), (503, true));
    let ready = get(world.admin, "/readyz").unwrap();
    assert_eq!((ready.status(), ready.text().contains("KEY_HOOK_FAILED")), (503, true));
    assert_eq!(world.metric("estoppel_body_key_usable"), Some(0.0));
    assert!(world.metric("estoppel_body_key_failures_total") >= Some(1.0));
    assert_eq!(world.send(&chat("kept", &asked("tagged", false))).status(), 200, "nothing of it is stored");
    std::fs::write(&works, "").unwrap();
    estoppel_kit::until("a key", 3 * PATIENCE, || {
        (get(world.admin, "/readyz").unwrap().status() == 200).then_some(())
    });
    assert_eq!(world.send(&chat("kept", &asked("m", false))).status(), 200);
    let receipts = world.receipts("kept");
    assert_eq!(receipts.len(), 3);
    let first = &receipts[0];
    assert_eq!(
        (&first["verdict"]["action"], &first["outcome"]["code"]),
        (&"block".into(), &"KEY_HOOK_FAILED".into()),
        "{first}"
    );
    assert!(first["response"].get("upstream").is_none(), "{first}");
    assert_eq!((&first["body"]["mode"], &first["request"]["sha256"]), (&"hmac".into(), &Value::Null));
    assert_eq!(
        (&receipts[1]["body"]["mode"], &receipts[2]["body"]["mode"]),
        (&"hmac".into(), &"full".into())
    );
    assert!(receipts[2]["request"]["sha256"].is_string());
}

#[test]
fn where_that_is_allowed_they_go_on_and_receipts_say_that_nothing_was_stored() {
    let world = World::with(echo(), &setup("command = { argv = [\"false\"] }\non_failure = \"hmac\""));
    assert_eq!(get(world.admin, "/readyz").unwrap().status(), 200);
    assert_eq!(world.metric("estoppel_body_key_usable"), Some(0.0));
    assert_eq!(world.send(&chat("kept", &asked("m", false))).status(), 200);
    assert_eq!(world.send(&chat("kept", &asked("tagged", false))).status(), 200);
    let receipts = world.receipts("kept");
    let told = json!([{ "code": "BODY_NOT_STORED", "detail": "KEY_HOOK_FAILED" }]);
    assert_eq!((&receipts[0]["body"]["mode"], &receipts[0]["downgrades"]), (&"hmac".into(), &told));
    assert!(receipts[0]["request"]["tag"].is_string() && receipts[0]["request"].get("sha256").is_none());
    assert!(receipts[1].get("downgrades").is_none(), "{}", receipts[1]);
    assert!(files(&world.journal().join("bodies")).is_empty());
}

/// Puts another `[encryption]` into the configuration.
fn configure(world: &World, encryption: &str) {
    let file = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("[encryption]").unwrap();
    std::fs::write(&file, format!("{before}[encryption]\n{encryption}\n")).unwrap();
}

#[test]
fn a_new_key_writes_and_what_the_one_before_wrote_is_read_with_it_only() {
    let keys = Scratch::new("keys");
    let (old, new) = (key(&keys, "old"), key(&keys, "new"));
    let mut world = World::with(echo(), &setup(&format!("key_file = {old:?}")));
    for run in ["both", "lost"] {
        assert_eq!(world.send(&chat(run, &asked("old", false))).status(), 200);
    }
    world.stop();
    configure(&world, &format!("key_file = {new:?}\nretired_key_files = [{old:?}]"));
    world.restart();
    assert_eq!(world.send(&chat("both", &asked("new", false))).status(), 200);
    let bundle = world.seal("both");
    assert_eq!(world.receipts_in(&bundle).len(), 2);
    for model in ["old", "new"] {
        assert!(is_bundled(&bundle, asked(model, false).as_bytes()), "{model}");
    }
    world.stop();
    let journal = world.journal();
    let seal = |more: &[&str]| cli(&[&["seal", "lost", "--journal", path(&journal)], more].concat());
    let (exit, answer) = seal(&[]);
    assert_eq!((exit, code(&answer)), (2, "ENCRYPTION_KEY"), "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap_or_default().contains("--body-key"), "{answer}");
}

#[test]
fn a_journal_is_sealed_and_compared_by_whoever_has_the_key() {
    let keys = Scratch::new("keys");
    let own = key(&keys, "own");
    let [mut world, mut second] =
        [(); 2].map(|()| World::with(echo(), &setup(&format!("key_file = {own:?}"))));
    assert_eq!(world.send(&chat("one", &asked("one", false))).status(), 200);
    assert_eq!(second.send(&chat("one", &asked("one", false).replace(SECRET, "changed-1177"))).status(), 200);
    world.stop();
    second.stop();
    let (journal, against) = (world.journal(), second.journal());
    let diff = |more: &[&str]| {
        let words = ["diff", path(&journal), path(&against), "--run", "one", "--unverified"];
        cli(&[&words[..], more].concat())
    };
    // Tags of two journals say nothing of each other, so the bodies have to be read.
    let (exit, answer) = diff(&[]);
    assert_eq!((exit, code(&answer)), (2, "ENCRYPTION_KEY"), "{answer}");
    assert!(answer["error"]["hint"].as_str().unwrap_or_default().contains("--body-key"), "{answer}");
    let other = key(&keys, "other");
    assert_eq!(code(&diff(&["--body-key", path(&other)]).1), "ENCRYPTION_KEY");
    let (exit, answer) = diff(&["--body-key", path(&other), "--body-key", path(&own)]);
    assert_eq!((exit, &answer["data"]["diff"]["bodies"]["unknown"]), (5, &json!(0)), "{answer}");
    assert!(answer["data"]["diff"]["changes"].to_string().contains("changed-1177"), "{answer}");
    let seal = |key: &Path| cli(&["seal", "one", "--journal", path(&journal), "--body-key", path(key)]);
    let (exit, answer) = seal(&other);
    assert_eq!((exit, code(&answer)), (2, "ENCRYPTION_KEY"), "{answer}");
    let (exit, answer) = cli(&["run", "show", "one", "--journal", path(&journal)]);
    assert_eq!((exit, &answer["data"]["state"]), (0, &json!("open")), "{answer}");
    let (exit, answer) = seal(&own);
    assert_eq!(exit, 0, "{answer}");
    let first = answer["data"].clone();
    assert_eq!(code(&seal(&own).1), "RUN_SEALED");
    // As it is after a bundle could not be written.
    std::fs::remove_file(first["path"].as_str().unwrap()).unwrap();
    drop(std::fs::remove_file(journal.join("bundled")));
    let (exit, again) = seal(&own);
    assert_eq!((exit, &again["data"]), (0, &first), "the bundle is written: {again}");
    let bundle = PathBuf::from(answer["data"]["path"].as_str().unwrap());
    assert!(is_bundled(&bundle, asked("one", false).as_bytes()));
}

#[test]
fn what_was_put_in_the_place_of_a_stored_body_is_not_sealed() {
    let keys = Scratch::new("keys");
    let world = World::with(echo(), &setup(&format!("key_file = {:?}", key(&keys, "key"))));
    type Alter = fn(&mut Vec<u8>, &[u8]);
    let cases: [(&str, Alter, &str); 3] = [
        ("cut", |bytes, _| bytes.truncate(bytes.len() - 1), "ENCRYPTION_DAMAGED"),
        ("swapped", |bytes, other| *bytes = other.to_vec(), "JOURNAL_CORRUPT"),
        ("clear", |bytes, _| *bytes = b"{}".to_vec(), "ENCRYPTION_DAMAGED"),
    ];
    let other = Request::new("POST", "/echo").header("estoppel-run", "other").body("0".repeat(27));
    assert_eq!(world.send(&other).status(), 200);
    world.wait_for_calls("other", 1);
    let other = files(&world.journal().join("bodies")).remove(0).1;
    for (run, alter, told) in cases {
        let text = format!("{run} {}", "x".repeat(26 - run.len()));
        let request = Request::new("POST", "/echo").header("estoppel-run", run).body(&text);
        assert_eq!(world.send(&request).status(), 200);
        world.wait_for_calls(run, 1);
        let digest = estoppel_evidence::Sha256::of(text.as_bytes()).hex();
        let file = world.journal().join("bodies").join(&digest[..2]).join(format!("{digest}.enc"));
        let mut bytes = std::fs::read(&file).unwrap();
        alter(&mut bytes, &other);
        std::fs::write(&file, bytes).unwrap();
        let (_, answer) = cli(&["seal", run, "--admin", &world.admin.to_string()]);
        assert_eq!(code(&answer), told, "{run}: {answer}");
        assert!(files(&world.journal()).iter().all(|(at, _)| at.extension().is_none_or(|end| end != "zip")));
    }
}

#[test]
fn a_key_file_that_others_can_read_starts_no_gateway() {
    let keys = Scratch::new("keys");
    let open = key(&keys, "open");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
    let world = World::with(echo(), &Setup { policy: policy(), ..Setup::default() });
    let refused = |set: &[&str]| {
        let mut command = std::process::Command::new(crate::support::daemon_binary());
        command.arg("--config").arg(world.scratch.join("estoppeld.toml")).arg("--check-config");
        for set in set {
            command.args(["--set", set]);
        }
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let told = refused(&[&format!("encryption.key_file={}", path(&open))]);
    assert!(told.contains("KEY_PERMISSIONS"), "{told}");
    for set in ["encryption.on_failure=hmac", "encryption.on_failure=maybe", "encryption.data_key_seconds=1"]
    {
        let told = refused(&[set]);
        assert!(told.contains("CONFIG_INVALID") && told.contains("encryption"), "{set}: {told}");
    }
}

/// What a start that is refused, `--check-config` and the doctor say of the configuration: exit codes, and all that is said.
fn checked(world: &World) -> [(Option<i32>, String); 2] {
    let file = world.scratch.join("estoppeld.toml");
    let mut command = std::process::Command::new(daemon_binary());
    let done = command.arg("--check-config").arg("--config").arg(&file).output().unwrap();
    let (exit, answer) = cli(&["doctor", "--config", path(&file)]);
    [(done.status.code(), String::from_utf8(done.stderr).unwrap()), (Some(exit), answer.to_string())]
}

#[test]
fn a_gateway_that_must_encrypt_and_cannot_does_not_start() {
    let scratch = Scratch::new("keys");
    let (works, command) = program(&scratch);
    std::fs::write(&works, "").unwrap();
    let mut world = World::with(echo(), &setup(&command));
    world.stop();
    std::fs::remove_file(&works).unwrap();
    let check = |world: &World| {
        for (exit, said) in checked(world) {
            assert_eq!(exit, Some(7), "{said}");
            assert!(said.contains("KEY_HOOK_FAILED") && said.contains("encryption.command `sh`"), "{said}");
            assert!(!said.contains("test -e"), "arguments may hold secrets: {said}");
        }
    };
    check(&world);
    let mut start = std::process::Command::new(daemon_binary());
    start.arg("--config").arg(world.scratch.join("estoppeld.toml"));
    let mut daemon = estoppel_kit::Process::start("refused", start, &world.scratch);
    assert_eq!(daemon.wait_exit(PATIENCE), estoppel_kit::Exit::Code(7), "{}", daemon.stderr());
    let said = daemon.stderr();
    let line = said.lines().find(|line| line.starts_with("estoppeld: ")).unwrap_or_default();
    assert!(line.starts_with("estoppeld: KEY_HOOK_FAILED: encryption.command `sh`"), "{said}");
    world.check_journal();
    // Where calls may go on without, it starts and says so.
    configure(&world, &format!("{command}\non_failure = \"hmac\""));
    check(&world);
    world.restart();
    assert!(world.daemon.stderr().contains("encryption.command `sh`"), "{}", world.daemon.stderr());
}

#[test]
fn a_key_that_does_not_open_what_is_still_to_be_sealed_is_told_before_anybody_seals() {
    let keys = Scratch::new("keys");
    let (old, new) = (key(&keys, "old"), key(&keys, "new"));
    let mut world = World::with(echo(), &setup(&format!("key_file = {old:?}")));
    for run in ["done", "open"] {
        assert_eq!(world.send(&chat(run, &asked(run, false))).status(), 200);
    }
    world.seal("done");
    world.stop();
    let secrets = [&old, &new].map(|file| std::fs::read_to_string(file).unwrap().trim().to_owned());
    let check = |said: &str, named: &str| {
        assert!(said.contains("ENCRYPTION_KEY") && said.contains(named), "{said}");
        assert!(!secrets.iter().any(|secret| said.contains(secret)), "{said}");
    };
    configure(&world, &format!("key_file = {new:?}"));
    let [config, doctor] = checked(&world);
    assert_eq!((config.0, doctor.0), (Some(2), Some(7)), "{} {}", config.1, doctor.1);
    [config.1, doctor.1].iter().for_each(|said| check(said, path(&new)));
    world.restart();
    let told = |world: &World| {
        estoppel_kit::until("what the start says", PATIENCE, || {
            let said = world.daemon.stderr();
            said.lines().find(|line| line.contains("ENCRYPTION_KEY")).map(ToOwned::to_owned)
        })
    };
    check(&told(&world), path(&new));
    assert_eq!(world.send(&chat("later", &asked("later", false))).status(), 200, "new bodies are encrypted");
    world.stop();
    // A key that was taken out of the configuration is as wrong.
    let file = world.scratch.join("estoppeld.toml");
    let with = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, with.split_once("[encryption]").unwrap().0).unwrap();
    let [config, _] = checked(&world);
    assert_eq!(config.0, Some(2), "{}", config.1);
    check(&config.1, "encryption: ");
    std::fs::write(&file, with).unwrap();
    configure(&world, &format!("key_file = {new:?}\nretired_key_files = [{old:?}]"));
    let [config, _] = checked(&world);
    assert_eq!(config, (Some(0), String::new()));
    world.restart();
    for run in ["open", "later"] {
        world.receipts(run);
    }
    world.stop();
    // Everything is in bundles: nothing needs the old key any more.
    configure(&world, &format!("key_file = {new:?}"));
    assert_eq!(checked(&world)[0], (Some(0), String::new()));
}
