//! The oldest segments of a journal, deleted by rules once a bucket keeps copies of them; and what the journal is without them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use estoppel_journal::{Journal, SystemClock};
use estoppel_kit::http::Request;
use estoppel_kit::{SeaweedServer, require_real};
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, cli_binary, path};

const BUCKET: &str = "evidence";
const SEGMENTS: &str = "version = 1\n[[rule]]\nid = \"segments-now\"\nclass = \"segments\"\nkeep_days = 0\n";
const BUNDLES: &str = "version = 1\n[[rule]]\nid = \"bundles-now\"\nclass = \"bundles\"\nkeep_days = 0\n";

/// A gateway with segments of the least size, and a bucket for what it finishes.
struct Kept {
    world: World,
    server: SeaweedServer,
    archive: PathBuf,
    segments: PathBuf,
    bundles: PathBuf,
}

impl Kept {
    fn new() -> Option<Self> {
        let server = SeaweedServer::start()?;
        server.make_bucket(BUCKET, true);
        // The hashes of its units fill a segment in a few calls.
        let stream = Body::Repeat { text: "data: x\n\n".into(), times: 8_000 };
        let answer = Reply::new(stream).header("content-type", "text/event-stream");
        let setup = Setup { journal: "segment_mib = 1".into(), ..Setup::default() };
        let world = World::with(Script::always(answer), &setup);
        let key = json!({ "Version": 1, "AccessKeyId": SeaweedServer::KEY, "SecretAccessKey": SeaweedServer::SECRET });
        let key = world.scratch.write("s3-key.json", key.to_string());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let archive = format!(
            "[archive]\nendpoint = \"http://{}\"\nbucket = \"{BUCKET}\"\nmode = \"governance\"\nretain_days = 2\n\
             credentials = {{ file = {key:?} }}\n",
            server.address()
        );
        let archive = world.scratch.write("archive.toml", archive);
        let segments = world.scratch.write("segments.toml", SEGMENTS);
        let bundles = world.scratch.write("bundles.toml", BUNDLES);
        Some(Self { world, server, archive, segments, bundles })
    }

    fn call(&self, run: &str) {
        let request = Request::new("POST", "/events").header("estoppel-run", run);
        assert_eq!(self.world.send(&request.body("{}")).status(), 200);
    }

    /// Makes calls of a run until the journal has so many segments.
    fn fill(&self, run: &str, segments: usize) {
        while names(&self.world.journal()).len() < segments {
            self.call(run);
        }
    }

    fn push(&self) {
        let (journal, config) = (self.world.journal(), path(&self.archive));
        good(cli(&["archive", "push", path(&journal), "--config", config]));
    }

    fn retention(&self, words: &[&str]) -> (i32, Value) {
        let (journal, admin) = (self.world.journal(), self.world.admin.to_string());
        cli(&[&["retention"], words, &["--journal", path(&journal), "--admin", &admin]].concat())
    }

    /// What is planned of segments: their names, and how many are kept by why.
    fn planned(&self) -> (Vec<String>, Value) {
        let document = good(self.retention(&["plan", "--rules", path(&self.segments)]))["document"].clone();
        let objects = document["objects"].as_array().unwrap().iter();
        let paths = objects.map(|object| object["path"].as_str().unwrap().to_owned());
        let mut names: Vec<String> = paths.map(|path| path.replace("segments/", "")).collect();
        names.sort();
        let kept = document["kept"].as_array().unwrap().iter();
        let of_segments = kept.filter(|kept| !matches!(kept["why"].as_str(), Some("no_rule")));
        (
            names,
            of_segments
                .map(|kept| (kept["why"].as_str().unwrap().to_owned(), kept["count"].clone()))
                .collect(),
        )
    }

    fn apply(&self, rules: &Path) -> Value {
        good(self.retention(&["apply", "--rules", path(rules), "--by", "operator"]))
    }

    /// Five segments, all but the last archived. Runs of the first three are sealed, and have no bundles any more.
    fn aged(&mut self) {
        self.fill("one", 2);
        self.world.seal("one");
        self.fill("two", 3);
        self.world.seal("two");
        self.fill("three", 4);
        self.world.seal("three");
        self.fill("four", 5);
        self.world.stop();
        self.apply(&self.bundles.clone());
        self.push();
    }
}

fn good(answer: (i32, Value)) -> Value {
    assert_eq!(answer.0, 0, "{}", answer.1);
    answer.1["data"].clone()
}

/// Names of the segments, in order.
fn names(journal: &Path) -> Vec<String> {
    let names = std::fs::read_dir(journal.join("segments")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    names
}

fn first(name: &str) -> u64 {
    name[..20].parse().unwrap()
}

/// What the three verifiers say of a journal; that of ours.
fn judged(journal: &Path) -> Value {
    let (exit, answer) = cli(&["verify", path(journal)]);
    let ours = answer["data"].clone();
    assert!(ours["verdicts"].is_object(), "{exit}: {answer}");
    let verifiers = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers");
    for (program, verifier) in [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")] {
        let Some(program) = require_real(program) else { continue };
        let done =
            Command::new(program).arg(verifiers.join(verifier)).arg("--json").arg(journal).output().unwrap();
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        for member in ["reason", "index", "seq", "verdicts"] {
            assert_eq!(said[member], ours[member], "{verifier}: {said} and {ours}");
        }
    }
    ours
}

fn reason(journal: &Path) -> String {
    judged(journal)["reason"].as_str().unwrap_or("none").to_owned()
}

/// The code with which the journal is not opened.
fn refused(journal: &Path) -> String {
    let keys = estoppel_journal::keys::load(&journal.join("keys")).unwrap();
    let opened = Journal::open_offline(journal, keys, None, None, Arc::new(SystemClock::new()));
    opened.err().map_or_else(|| "none".to_owned(), |error| error.reason().to_string())
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn the_oldest_segments_go_when_nothing_needs_them_and_the_journal_goes_on_without_them() {
    let Some(mut kept) = Kept::new() else { return };
    let journal = kept.world.journal();
    kept.call("short");
    let short = kept.world.seal("short");
    kept.fill("early", 2);
    kept.world.seal("early");
    kept.fill("late", 3);
    let before = names(&journal);
    // The run of the instance's own events is open as long as the daemon runs.
    assert_eq!(
        kept.planned(),
        (Vec::new(), json!({ "open": 1, "not_oldest": 2 }).as_object().unwrap().clone().into())
    );
    kept.world.stop();
    kept.world.restart();
    assert_eq!(kept.planned().1["in_use"], 1, "the bundle of a run whose seal is in it");
    kept.apply(&kept.bundles.clone());
    assert!(!short.exists());
    assert_eq!(kept.planned().1["not_archived"], 1);
    kept.push();
    good(kept.retention(&["hold", "add", "early", "--by", "counsel", "--reason", "case 12"]));
    assert_eq!(kept.planned().1["held"], 1);
    good(kept.retention(&["hold", "remove", "early", "--by", "counsel", "--reason", "closed"]));
    // `late` has entries in the second segment and is open.
    assert_eq!(kept.planned().0, before[..1]);

    let out = kept.world.scratch.join("plan.json");
    good(kept.retention(&["plan", "--rules", path(&kept.segments), "--out", path(&out)]));
    assert_eq!(names(&journal), before, "a plan deletes nothing");
    let done = good(kept.retention(&["apply", "--plan", path(&out), "--by", "operator"]));
    assert_eq!((&done["deleted"], &done["kept_back"]), (&json!(1), &json!([])));
    assert_eq!(names(&journal), before[1..]);
    let trust = journal.join("trust.json");
    let report = done["report"].as_str().unwrap();
    good(cli(&["retention", "verify", path(&out), report, "--trust", path(&trust)]));
    let said = judged(&journal);
    assert_eq!(said["begins"]["size"], first(&before[1]), "{said}");
    assert_eq!((&said["begins"]["segments"], &said["begins"]["runs"]), (&json!(1), &json!(2)), "{said}");
    assert_eq!(said["begins"]["copies"][0]["bucket"], BUCKET);

    // The daemon that was running meanwhile goes on, and so does one that starts.
    for round in 0..3 {
        let run = format!("after-{round}");
        kept.call(&run);
        kept.world.receipts(&run);
        kept.world.stop();
        if round == 0 {
            std::fs::remove_file(journal.join("hashes")).unwrap(); // proofs are made from what is there
        }
        assert_eq!(reason(&journal), "none");
        kept.world.restart();
    }
    assert!(kept.world.receipts("late").len() > 2, "a run that was open goes on");
    let again = cli(&["seal", "early", "--admin", &kept.world.admin.to_string()]);
    assert_eq!(again.1["error"]["code"], "SEGMENT_DELETED", "{}", again.1);
    assert!(!again.1["error"]["message"].as_str().unwrap().contains(BUCKET), "{}", again.1);

    // The next deletion names all that went before it.
    kept.world.stop();
    kept.apply(&kept.bundles.clone());
    kept.push();
    let (due, _) = kept.planned();
    assert!(!due.is_empty() && names(&journal).starts_with(&due), "{due:?}");
    kept.apply(&kept.segments.clone());
    let said = judged(&journal);
    let next = first(&names(&journal)[0]);
    assert_eq!((&said["begins"]["segments"], &said["begins"]["size"]), (&json!(1 + due.len()), &json!(next)));
    good(cli(&["archive", "verify", path(&journal), "--config", path(&kept.archive)]));
    kept.world.restart();
    kept.call("last");
    kept.world.receipts("last");
    kept.world.stop();

    // With the copies back and the file away, it is verified from its first entry.
    put_back(&kept, &journal);
    std::fs::rename(journal.join("beginning.json"), kept.world.scratch.join("beginning.json")).unwrap();
    let whole = judged(&journal);
    assert_eq!((&whole["reason"], &whole["begins"]), (&Value::Null, &Value::Null), "{whole}");
    assert_eq!(whole["root"], judged(&journal)["root"]);
}

/// Gets every segment that was archived from the bucket.
fn put_back(kept: &Kept, journal: &Path) {
    let status = good(cli(&["archive", "status", path(journal)]));
    for entry in status["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "segment") {
        let text = |name: &str| entry[name].as_str().unwrap();
        let at = format!("{}?versionId={}", text("key"), text("version"));
        let answer = kept.server.ask(estoppel_kit::Method::Get, BUCKET, &at, &[], b"");
        assert_eq!(answer.status(), 200);
        std::fs::write(journal.join("segments").join(text("name")), answer.body).unwrap();
    }
}

#[test]
fn a_journal_that_does_not_begin_as_it_says_is_refused_by_all_who_read_it() {
    let Some(mut kept) = Kept::new() else { return };
    let journal = kept.world.journal();
    kept.aged();
    let before = names(&journal);
    copied(&journal, &kept.world.scratch.join("whole"));
    kept.apply(&kept.segments.clone());
    let after = names(&journal);
    assert_eq!(after, before[3..]);
    assert_eq!((reason(&journal), refused(&journal)), ("none".into(), "none".into()));

    let whole = kept.world.scratch.join("whole");
    let mut number = 0;
    let mut check = |what: &str, code: &str, change: &dyn Fn(&Path)| {
        number += 1;
        let copy = kept.world.scratch.join(format!("copy-{number}"));
        copied(&journal, &copy);
        change(&copy);
        assert_eq!((reason(&copy).as_str(), refused(&copy).as_str()), (code, "JOURNAL_CORRUPT"), "{what}");
    };
    let beginning = |copy: &Path| copy.join("beginning.json");
    check("nothing says why the first segment is missing", "INDEX_MISMATCH", &|copy| {
        std::fs::remove_file(beginning(copy)).unwrap();
    });
    check("a segment after the beginning is gone", "INDEX_MISMATCH", &|copy| {
        std::fs::remove_file(copy.join("segments").join(&after[0])).unwrap();
    });
    check("one byte of the signature was changed", "ENVELOPE_SIGNATURE", &|copy| {
        let text = std::fs::read_to_string(beginning(copy)).unwrap();
        let at = text.find("\"sig\":\"").unwrap() + 9;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        std::fs::write(beginning(copy), format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    });
    let keys = kept.world.scratch.join("other-keys");
    good(cli(&["keys", "init", "--dir", path(&keys)]));
    check("somebody else signed it", "KEY_UNKNOWN", &|copy| {
        let envelope: Value = serde_json::from_slice(&std::fs::read(beginning(copy)).unwrap()).unwrap();
        let payload =
            estoppel_evidence::envelope::from_base64(envelope["payload"].as_str().unwrap()).unwrap();
        let keys = estoppel_journal::keys::load(&keys).unwrap();
        let signed =
            estoppel_evidence::envelope::sign("application/vnd.in-toto+json", &payload, &*keys.manifest);
        std::fs::write(beginning(copy), signed.unwrap()).unwrap();
    });
    check("it is of a journal that is not this one", "BEGINNING_UNRECORDED", &|copy| {
        let forged =
            resigned(copy, |predicate| predicate["plan"] = json!(format!("sha256:{}", "0".repeat(64))));
        std::fs::write(beginning(copy), forged).unwrap();
    });
    check("the tree before it was another", "CHECKPOINT_MISMATCH", &|copy| {
        let forged =
            resigned(copy, |predicate| predicate["peaks"][0] = json!(format!("root:{}", "0".repeat(64))));
        std::fs::write(beginning(copy), forged).unwrap();
    });
    // A segment from before that is there again changes nothing, whatever is in it.
    std::fs::copy(whole.join("segments").join(&before[0]), journal.join("segments").join(&before[0]))
        .unwrap();
    assert_eq!(judged(&journal)["begins"]["passed_over"], 1);
    assert_eq!(refused(&journal), "none");
}

/// The file `beginning.json` of a journal with another content, signed by the journal's own key.
fn resigned(journal: &Path, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let envelope: Value =
        serde_json::from_slice(&std::fs::read(journal.join("beginning.json")).unwrap()).unwrap();
    let payload = estoppel_evidence::envelope::from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    change(&mut statement["predicate"]);
    let keys = estoppel_journal::keys::load(&journal.join("keys")).unwrap();
    let payload = serde_json::to_vec(&statement).unwrap();
    estoppel_evidence::envelope::sign("application/vnd.in-toto+json", &payload, &*keys.manifest).unwrap()
}

/// Reports of deletions but for that of the bundles.
fn completed(journal: &Path) -> usize {
    let files = std::fs::read_dir(journal.join("retention")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| path(file).ends_with(".completed.json")).count() - 1
}

#[test]
fn a_deletion_of_segments_that_is_killed_anywhere_leaves_a_journal_that_verifies_and_ends_as_planned() {
    let Some(mut kept) = Kept::new() else { return };
    let Some(strace) = require_real("strace") else { return };
    let journal = kept.world.journal();
    kept.aged();
    let out = kept.world.scratch.join("plan.json");
    let planned = good(kept.retention(&["plan", "--rules", path(&kept.segments), "--out", path(&out)]));
    let objects = planned["document"]["objects"].as_array().unwrap().iter();
    let listed: BTreeSet<String> =
        objects.map(|object| object["path"].as_str().unwrap().replace("segments/", "")).collect();
    assert!(listed.len() >= 2, "{planned}");
    let whole = kept.world.scratch.join("whole");
    copied(&journal, &whole);
    let mut begun = BTreeSet::new();
    for step in 1.. {
        let copy = kept.world.scratch.join(format!("step-{step}"));
        copied(&whole, &copy);
        let mut command = Command::new(&strace);
        let calls = "rename,renameat,renameat2,unlink,unlinkat";
        let fault = format!("inject={calls}:signal=KILL:when={step}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &fault]);
        command.arg(cli_binary()).args(["retention", "apply", "--by", "operator", "--admin", "127.0.0.1:1"]);
        command.arg("--journal").arg(&copy).arg("--plan").arg(&out);
        let ended = command.stdout(Stdio::null()).status().unwrap();
        let (exit, said) = cli(&["verify", path(&copy)]);
        assert_eq!((exit, refused(&copy).as_str()), (0, "none"), "after step {step}: {said}");
        if !ended.success() {
            assert_eq!(ended.signal(), Some(9), "{ended}");
            begun.insert((said["data"]["begins"].is_object(), completed(&copy)));
        }
        if completed(&copy) == 0 {
            let words = ["retention", "apply", "--by", "operator", "--admin", "127.0.0.1:1", "--journal"];
            let done = good(cli(&[&words[..], &[path(&copy), "--plan", path(&out)]].concat()));
            assert_eq!(done["kept_back"], json!([]), "after step {step}");
        }
        assert!(names(&copy).iter().all(|name| !listed.contains(name)), "after step {step}");
        assert_eq!((completed(&copy), reason(&copy).as_str()), (1, "none"), "after step {step}");
        assert_eq!(std::fs::read_dir(copy.join("retention/trash")).unwrap().count(), 0, "after step {step}");
        std::fs::remove_dir_all(&copy).unwrap();
        if ended.success() {
            break;
        }
    }
    // Before the journal began later, after it did, and when all was done.
    assert_eq!(begun, BTreeSet::from([(false, 0), (true, 0), (true, 1)]));
    kept.apply(&kept.segments.clone());
    kept.world.restart();
    kept.call("after");
    kept.world.receipts("after");
}

#[test]
fn what_was_put_under_hold_after_the_beginning_was_written_is_kept_back() {
    let Some(mut kept) = Kept::new() else { return };
    let Some(strace) = require_real("strace") else { return };
    let journal = kept.world.journal();
    kept.aged();
    let before = names(&journal);
    let mut command = Command::new(&strace);
    // The first time that something is taken away.
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=renameat",
        "-e",
        "inject=renameat:signal=KILL:when=1",
    ]);
    command.arg(cli_binary()).args(["retention", "apply", "--by", "operator", "--admin", "127.0.0.1:1"]);
    command.arg("--journal").arg(&journal).arg("--rules").arg(&kept.segments);
    assert_eq!(command.stdout(Stdio::null()).status().unwrap().signal(), Some(9));
    let said = judged(&journal);
    assert!(said["begins"]["segments"].as_u64() >= Some(2), "{said}");
    // It has entries in the third segment and in the fourth.
    good(kept.retention(&["hold", "add", "three", "--by", "counsel", "--reason", "case 13"]));
    let done = good(kept.retention(&["apply", "--by", "operator"]));
    assert_eq!(done["resumed"], true);
    let held: Vec<&str> = done["kept_back"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| {
            assert_eq!(kept["why"], "held", "{done}");
            kept["path"].as_str().unwrap().strip_prefix("segments/").unwrap()
        })
        .collect();
    let left: Vec<String> = names(&journal)
        .into_iter()
        .filter(|name| first(name) < said["begins"]["size"].as_u64().unwrap())
        .collect();
    assert_eq!(left, held, "{before:?}");
    assert_eq!(reason(&journal), "none");
}

#[test]
fn who_seals_a_run_whose_bundle_only_the_bucket_has_is_told_so() {
    let Some(mut kept) = Kept::new() else { return };
    let journal = kept.world.journal();
    kept.call("short");
    let short = kept.world.seal("short");
    kept.push();
    kept.apply(&kept.bundles.clone());
    assert!(!short.exists());
    let admin = kept.world.admin.to_string();
    let told = |words: &[&str], code: &str| {
        let (exit, answer) = cli(&[&["seal"], words].concat());
        assert_eq!((exit, &answer["error"]["code"]), (6, &json!(code)), "{answer}");
        let said = answer["error"]["message"].as_str().unwrap().to_owned();
        let digest = |word: &&str| word.contains("sha256/") && !word.contains("journal");
        assert!(
            said.contains(&format!("bucket `{BUCKET}`")) && said.split('`').any(|word| digest(&word)),
            "{said}"
        );
        assert!(said.contains(&format!("http://{}", kept.server.address())), "{said}");
    };
    told(&["short", "--admin", &admin], "BUNDLE_DELETED");
    kept.world.stop();
    told(&["short", "--journal", path(&journal)], "BUNDLE_DELETED");
    assert!(!short.exists());
}
