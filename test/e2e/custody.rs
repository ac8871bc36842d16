//! Who had a bundle in hand, as the commands that have it in hand add to its list.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use estoppel_evidence::{Sha256, Signer as _, SoftKey};
use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::support::{World, cli, cli_binary, path};

/// A private key that only its owner can read, and the public one.
pub fn custodian(scratch: &Scratch, name: &str, seed: u8) -> (PathBuf, PathBuf) {
    let key = SoftKey::ed25519(&[seed; 32]);
    let private = scratch.write(format!("{name}.pem"), key.to_pem().unwrap().as_bytes());
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    (private, scratch.write(format!("{name}.pub.pem"), key.public().pem()))
}

pub fn list_of(bundle: &Path) -> PathBuf {
    PathBuf::from(format!("{}.custody.ndjson", bundle.display()))
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

/// A journal, and whoever signs for what is done with its bundles.
struct Hand {
    world: World,
    scratch: Scratch,
    key: PathBuf,
    public: PathBuf,
}

impl Hand {
    fn new() -> Self {
        let scratch = Scratch::new("custody");
        let (key, public) = custodian(&scratch, "ada", 41);
        Self { world: World::new(Script::always(Reply::json("{}"))), scratch, key, public }
    }

    fn call(&self, run: &str) {
        let request = Request::new("POST", "/orders").header("estoppel-run", run);
        assert_eq!(self.world.send(&request.body("{}")).status(), 200);
    }

    fn sealed(&self, run: &str) -> PathBuf {
        self.call(run);
        self.world.seal(run)
    }

    fn trust(&self) -> PathBuf {
        self.world.journal().join("trust.json")
    }

    fn by<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [words, &["--custody-key", path(&self.key), "--custody-by", "Ada"]].concat()
    }

    fn act(&self, words: &[&str]) -> (i32, Value) {
        cli(&self.by(words))
    }

    fn verify(&self, bundle: &Path) -> (i32, Value) {
        let trust = self.trust();
        cli(&self.by(&["verify", path(bundle), "--trust", path(&trust)]))
    }

    fn disclose(&self, bundle: &Path, out: &Path, more: &[&str]) -> (i32, Value) {
        let keys = self.world.journal().join("keys");
        let words = ["keys", "disclose", path(bundle), "--scope", "run", "--dir", path(&keys)];
        cli(&[&words[..], &["--out", path(out)], more].concat())
    }

    fn kit(&self, bundle: &Path, out: &Path, more: &[&str]) -> (i32, Value) {
        let trust = self.trust();
        let (signer, _) = custodian(&self.scratch, "kit", 43);
        let words = ["kit", "build", "--bundle", path(bundle), "--trust", path(&trust)];
        cli(&[&words[..], &["--key", path(&signer), "--out", path(out)], more].concat())
    }

    /// The predicates of the list, which has to hold by our key.
    fn entries(&self, bundle: &Path) -> Vec<Value> {
        let (exit, answer) = cli(&["custody", "verify", path(bundle), "--signer", path(&self.public)]);
        assert_eq!(exit, 0, "{answer:#}");
        let rows = answer["data"]["entries"].as_array().unwrap().iter();
        rows.map(|row| row["entry"].clone()).collect()
    }
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

fn digest(file: &Path) -> Value {
    json!(Sha256::of(&std::fs::read(file).unwrap()))
}

#[test]
fn each_command_that_has_a_bundle_in_hand_adds_what_it_did() {
    let hand = Hand::new();
    hand.call("nightly");
    let admin = hand.world.admin.to_string();
    let (exit, answer) = hand.act(&["seal", "nightly", "--admin", &admin]);
    assert_eq!(exit, 0, "{answer:#}");
    let bundle = PathBuf::from(answer["data"]["path"].as_str().unwrap());
    assert_eq!(answer["data"]["custody"]["list"], path(&list_of(&bundle)));
    assert_eq!(actions(&hand.entries(&bundle)), ["sealed"]);
    assert_eq!(hand.act(&["seal", "nightly", "--admin", &admin]).0, 6, "it is sealed already");

    let (exit, answer) = hand.verify(&bundle);
    assert_eq!((exit, &answer["data"]["verdicts"]["authenticity"]), (0, &json!("trusted")), "{answer:#}");
    let head = answer["data"]["custody"]["head"].as_str().unwrap().to_owned();
    let (opened, kit) = (hand.scratch.join("run.key"), hand.scratch.join("a.kit.zip"));
    let to = hand.by(&["--custody-to", "Acme Audit"]);
    let (exit, answer) = hand.disclose(&bundle, &opened, &to);
    assert_eq!(exit, 0, "{answer:#}");
    let (exit, answer) = hand.kit(&bundle, &kit, &to);
    assert_eq!(exit, 0, "{answer:#}");
    assert_eq!(answer["data"]["custody"][0]["list"], path(&list_of(&bundle)));

    let entries = hand.entries(&bundle);
    assert_eq!(actions(&entries), ["sealed", "verified", "disclosed", "disclosed"]);
    assert_eq!(entries[1]["verified"]["authenticity"], "trusted");
    assert!(entries[1]["verified"]["reason"].is_null() && entries[1]["verified"]["found"].is_null());
    assert_eq!(entries[2]["prev"], head);
    for (entry, what, file) in [(&entries[2], "run", &opened), (&entries[3], "bundle", &kit)] {
        let expected = json!({ "to": "Acme Audit", "what": what, "sha256": digest(file) });
        assert_eq!(entry["disclosed"], expected);
        assert_eq!((&entry["actor"], &entry["bundle"]["sha256"]), (&json!("Ada"), &digest(&bundle)));
    }

    let before = std::fs::read(list_of(&bundle)).unwrap();
    assert_eq!(code(&hand.disclose(&bundle, &opened, &to).1), "OUTPUT_EXISTS");
    assert_eq!(code(&hand.kit(&bundle, &kit, &to).1), "OUTPUT_EXISTS");
    assert!(std::fs::read(list_of(&bundle)).unwrap() == before, "what failed is not recorded");
    assert_eq!(cli(&["verify", path(&bundle)]).0, 0);
    assert!(std::fs::read(list_of(&bundle)).unwrap() == before, "nor what nobody asked for");
}

#[test]
fn a_file_that_is_not_the_bundle_any_more_is_recorded_as_what_was_found() {
    let hand = Hand::new();
    let (bundle, other) = (hand.sealed("one"), hand.sealed("other"));
    assert_eq!(hand.verify(&bundle).0, 0);
    let whole = std::fs::read(&bundle).unwrap();
    let mark = b"\"kind\":\"call\"";
    let place = whole.windows(mark.len()).position(|window| window == mark).unwrap();
    let mut altered = whole.clone();
    altered[place + mark.len() - 2] ^= 1;
    let mut found = Vec::new();
    let mut codes = Vec::new();
    for content in [altered, b"no bundle".to_vec(), std::fs::read(&other).unwrap()] {
        std::fs::write(&bundle, &content).unwrap();
        let (exit, answer) = hand.verify(&bundle);
        assert_eq!(exit, 2, "{answer:#}");
        codes.push(answer);
        found.push(json!(Sha256::of(&content)));
    }
    assert_eq!(code(&codes[2]), "CUSTODY_BUNDLE", "it verifies, and is another");
    let words = ["custody", "add", path(&bundle), "--key", path(&hand.key), "--actor", "Ada"];
    let (exit, answer) = cli(&[&words[..], &["--action", "verified"]].concat());
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_BUNDLE"), "{answer:#}");
    let moved = ["--action", "moved", "--from", "a", "--to", "b"];
    assert_eq!(code(&cli(&[&words[..], &moved].concat()).1), "CUSTODY_BUNDLE", "that says nothing of it");

    assert_eq!(code(&cli(&["custody", "verify", path(&bundle)]).1), "CUSTODY_BUNDLE");
    std::fs::write(&bundle, &whole).unwrap();
    let entries = hand.entries(&bundle);
    assert_eq!(entries.len(), 6, "{entries:#?}");
    for (entry, found) in entries[2..5].iter().zip(&found) {
        assert_eq!((&entry["verified"]["found"], &entry["bundle"]["sha256"]), (found, &digest(&bundle)));
    }
    assert_eq!(entries[2]["verified"]["integrity"], "failed");
    assert!(entries[2]["verified"]["reason"].is_string() && entries[3]["verified"]["reason"].is_string());
    assert_eq!(entries[4]["verified"]["integrity"], "ok");
    assert_eq!(entries[5]["verified"]["found"], found[2]);

    let trust = hand.scratch.write("trust.json", "{}");
    let undecided = cli(&hand.by(&["verify", path(&bundle), "--trust", path(&trust)]));
    let added = ["--action", "verified", "--trust", path(&trust)];
    for (exit, answer) in [undecided, cli(&[&words[..], &added].concat())] {
        assert_eq!(exit, 6, "{answer:#}");
    }
    assert_eq!(hand.entries(&bundle).len(), 6, "what was not decided is not recorded");

    let none = hand.scratch.write("none.pef.zip", "no bundle");
    let (exit, answer) = hand.verify(&none);
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_UNRECORDED"), "there is nothing to begin a list with");
    assert!(!list_of(&none).exists());
}

#[test]
fn what_cannot_be_recorded_is_not_given_away_and_what_was_done_is_said() {
    let hand = Hand::new();
    let bundle = hand.sealed("nightly");
    let (opened, kit) = (hand.scratch.join("run.key"), hand.scratch.join("a.kit.zip"));
    let missing = hand.scratch.join("none.pem");
    let evidence = hand.world.journal().join("keys/manifest.pem");
    for (key, exit, reason) in [(&missing, 6, "KEY_INVALID"), (&evidence, 8, "CUSTODY_KEY_SHARED")] {
        let by = ["--custody-key", path(key), "--custody-by", "Ada", "--custody-to", "Acme"];
        for (found, answer) in [hand.disclose(&bundle, &opened, &by), hand.kit(&bundle, &kit, &by)] {
            assert_eq!((found, code(&answer)), (exit, reason), "{answer:#}");
        }
    }
    let (exit, answer) = hand.disclose(&bundle, &opened, &hand.by(&["--custody-to", "a\nb"]));
    assert_eq!((exit, code(&answer)), (6, "CUSTODY_WORDS"), "{answer:#}");
    let (exit, answer) = hand.disclose(&bundle, &opened, &hand.by(&[]));
    assert_eq!((exit, code(&answer)), (6, "ARGUMENT_INVALID"), "nobody is named: {answer:#}");
    for half in [&["--custody-by", "Ada"][..], &["--custody-key", path(&hand.key)]] {
        assert_eq!(cli(&[&["verify", path(&bundle)], half].concat()).0, 6);
    }
    let (exit, answer) = hand.verify(&hand.world.journal());
    assert_eq!((exit, code(&answer)), (6, "ARGUMENT_INVALID"), "{answer:#}");

    let list = list_of(&bundle);
    std::fs::write(&list, "not a list\n").unwrap();
    let to = hand.by(&["--custody-to", "Acme"]);
    for (found, answer) in [hand.disclose(&bundle, &opened, &to), hand.kit(&bundle, &kit, &to)] {
        assert_eq!((found, code(&answer)), (2, "CUSTODY_SCHEMA"), "{answer:#}");
    }
    assert!(!opened.exists() && !kit.exists(), "nothing was given");
    let (exit, answer) = hand.verify(&bundle);
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_UNRECORDED"), "{answer:#}");
    let (message, data) = (&answer["error"]["message"], &answer["error"]["data"]);
    assert!(message.as_str().unwrap().contains("was verified"), "{message}");
    assert_eq!(
        (&data["verdicts"]["integrity"], &data["custody"]["code"]),
        (&json!("ok"), &json!("CUSTODY_SCHEMA"))
    );
    assert_eq!(std::fs::read(&list).unwrap(), b"not a list\n");

    // Another holds it for longer than anybody waits.
    std::fs::remove_file(&list).unwrap();
    let held = std::fs::File::create(&list).unwrap();
    held.lock().unwrap();
    let (exit, answer) = hand.verify(&bundle);
    assert_eq!((exit, code(&answer)), (1, "CUSTODY_UNRECORDED"), "{answer:#}");
    assert_eq!(answer["error"]["data"]["custody"]["code"], "CUSTODY_BUSY");
    drop(held);
    hand.call("later");
    let dir = hand.world.journal().join("bundles");
    std::fs::set_permissions(&hand.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let bundles = || std::fs::read_dir(&dir).unwrap().count();
    let before = bundles();
    let (exit, answer) = hand.act(&["seal", "later", "--admin", &hand.world.admin.to_string()]);
    assert_eq!((exit, code(&answer), bundles()), (6, "KEY_PERMISSIONS", before), "{answer:#}");
}

#[test]
fn entries_that_are_added_at_once_are_all_in_one_chain() {
    let hand = Hand::new();
    let bundle = hand.sealed("nightly");
    let start = |number: usize| -> Child {
        let (key, actor) = (path(&hand.key), format!("hand {number}"));
        let mut command = Command::new(cli_binary());
        command.args(["verify", path(&bundle), "--custody-key", key, "--custody-by", &actor]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in (0..12).map(start).collect::<Vec<_>>() {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let entries = hand.entries(&bundle);
    let mut actors: Vec<&str> = entries[1..].iter().map(|entry| entry["actor"].as_str().unwrap()).collect();
    actors.sort_unstable();
    let mut expected: Vec<String> = (0..12).map(|number| format!("hand {number}")).collect();
    expected.sort_unstable();
    assert_eq!(actors, expected);
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "sealed").count(), 1);
}
