//! Stored bodies and bundles that are deleted by rules, and what stays: open runs, legal holds, and every chain.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{PATIENCE, Setup, World, chat, cli, cli_binary, path};

const NOTHING: &str = "version = 1\n[[rule]]\nid = \"later\"\nclass = \"bundles\"\nkeep_days = 1\n";
const ALL: &str = "version = 1\n[[rule]]\nid = \"bundles-now\"\nclass = \"bundles\"\nrun_class = \"caller\"\nkeep_days = 0\n\
                   [[rule]]\nid = \"bodies-now\"\nclass = \"bodies\"\nkeep_days = 0\n";

/// A gateway that stores bodies.
fn world() -> World {
    let policy =
        crate::support::OPEN.replace("body_storage: hmac", "body_storage: { full: { reason: test } }");
    World::with(Script::model(), &Setup { policy, ..Setup::default() })
}

fn call(world: &World, run: &str, text: &str) {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    assert_eq!(world.send(&chat(run, &body)).status(), 200);
}

fn rules(world: &World, text: &str) -> PathBuf {
    world.scratch.write("retention.toml", text)
}

/// Files below a folder of the journal, as paths below the journal.
fn files(world: &World, folder: &str) -> BTreeSet<String> {
    fn walk(at: &Path, top: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), top, found),
                false => drop(found.insert(path(entry.path().strip_prefix(top).unwrap()).to_string())),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&world.journal().join(folder), &world.journal(), &mut found);
    found
}

/// Makes stored bodies as old as files that no call in flight can have written.
fn age(world: &World) {
    let then = SystemTime::now() - Duration::from_secs(48 * 3_600);
    for name in files(world, "bodies") {
        std::fs::File::options()
            .append(true)
            .open(world.journal().join(name))
            .unwrap()
            .set_modified(then)
            .unwrap();
    }
}

fn retention(world: &World, words: &[&str]) -> (i32, Value) {
    let (journal, admin) = (world.journal(), world.admin.to_string());
    cli(&[&["retention"], words, &["--journal", path(&journal), "--admin", &admin]].concat())
}

fn good(answer: (i32, Value)) -> Value {
    assert_eq!(answer.0, 0, "{}", answer.1);
    answer.1["data"].clone()
}

fn code(answer: &(i32, Value)) -> (i32, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", answer.1)))
}

/// The bytes of `objects` in what was signed.
fn objects(signed: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(signed).unwrap();
    let payload =
        base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(payload).unwrap();
    let from = text.find(r#""objects":["#).unwrap();
    text[from..].split(']').next().unwrap().as_bytes().to_vec()
}

/// The statement that was signed.
fn predicate(signed: &Path) -> Value {
    let envelope: Value = serde_json::from_slice(&std::fs::read(signed).unwrap()).unwrap();
    let payload =
        base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["predicate"].clone()
}

fn paths(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|object| object["path"].as_str().unwrap().to_string()).collect()
}

fn acts(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    estoppel_journal::read_lines(&world.journal(), u64::MAX, |line| lines.push(line.to_vec())).unwrap();
    let entries = lines.iter().map(|line| serde_json::from_slice::<Value>(line).unwrap());
    entries.filter(|entry| entry["kind"] == "act").map(|act| act["act"].as_str().unwrap().into()).collect()
}

#[test]
fn the_dry_run_and_the_report_list_the_same_and_the_chain_keeps_its_head() {
    let mut world = world();
    for run in ["gone", "held", "open"] {
        call(&world, run, run);
        call(&world, run, "shared by all");
    }
    let gone = world.seal("gone");
    let held = world.seal("held");
    age(&world);
    let (bodies, bundles) = (files(&world, "bodies"), files(&world, "bundles"));
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    good(retention(&world, &["hold", "add", "held", "--by", "counsel", "--reason", "case 12"]));

    let planned = good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let listed = paths(&planned["document"]["objects"]);
    assert!(listed.contains(path(gone.strip_prefix(world.journal()).unwrap())), "{planned}");
    assert_eq!(listed.iter().filter(|path| path.starts_with("bundles/")).count(), 1, "{planned}");
    assert_eq!((files(&world, "bodies"), files(&world, "bundles")), (bodies.clone(), bundles.clone()));
    let head = world.check_journal()["entries"].as_u64().unwrap();

    let done = good(retention(&world, &["apply", "--plan", path(&out), "--by", "operator"]));
    assert_eq!(done["deleted"].as_u64().unwrap(), listed.len() as u64, "{done}");
    let report = PathBuf::from(done["report"].as_str().unwrap());
    let (plan, completed) = (std::fs::read(&out).unwrap(), std::fs::read(&report).unwrap());
    assert_eq!(objects(&plan), objects(&completed));
    let left = |before: &BTreeSet<String>| before.difference(&listed).cloned().collect::<BTreeSet<_>>();
    assert_eq!((files(&world, "bodies"), files(&world, "bundles")), (left(&bodies), left(&bundles)));
    assert!(held.is_file());
    // Two bodies only the run that is gone had: a request and its answer. What all runs share is still needed.
    assert_eq!(bodies.len() - files(&world, "bodies").len(), 2);
    assert!(world.check_journal()["entries"].as_u64().unwrap() > head);
    assert_eq!(acts(&world), ["legal_hold", "retention_planned", "retention_completed"]);

    let trust = world.journal().join("trust.json");
    let verify = |plan: &Path, report: &Path| {
        cli(&["retention", "verify", path(plan), path(report), "--trust", path(&trust)])
    };
    assert_eq!(good(verify(&out, &report))["state"], "completed");
    let mut forged = completed.clone();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    assert_eq!(verify(&out, &world.scratch.write("forged.json", &forged)).0, 2);
    assert_eq!(verify(&report, &out).0, 2);

    let again = good(retention(&world, &["apply", "--rules", path(&rules), "--by", "operator"]));
    assert_eq!(again["deleted"], 0, "{again}");
    world.stop();
    world.restart();
    assert!(!gone.exists(), "a start writes no bundle again that was deleted");
    call(&world, "open", "goes on");
    world.seal("open");
    world.check_journal();
}

#[test]
fn a_legal_hold_beats_the_rules_until_it_is_removed_also_without_a_daemon() {
    let mut world = world();
    call(&world, "kept", "kept");
    let bundle = world.seal("kept");
    age(&world);
    world.stop();
    let rules = rules(&world, ALL);
    good(retention(&world, &["hold", "add", "kept", "--by", "counsel", "--reason", "case 12"]));
    let journal = world.journal();
    let listed = good(cli(&["retention", "hold", "list", "--journal", path(&journal)]));
    assert_eq!(listed["holds"][0]["by"], "counsel", "{listed}");
    let name = path(bundle.strip_prefix(&journal).unwrap()).to_string();
    let plan = || good(retention(&world, &["plan", "--rules", path(&rules)]))["document"].clone();
    assert!(!paths(&plan()["objects"]).contains(&name));
    good(retention(&world, &["apply", "--rules", path(&rules), "--by", "operator"]));
    assert!(bundle.is_file());
    good(retention(&world, &["hold", "remove", "kept", "--by", "counsel", "--reason", "closed"]));
    assert!(paths(&plan()["objects"]).contains(&name));
    good(retention(&world, &["apply", "--rules", path(&rules), "--by", "operator"]));
    assert!(!bundle.exists());
    world.check_journal();
    let unknown = retention(&world, &["hold", "add", "never", "--by", "counsel", "--reason", "none"]);
    assert_eq!(code(&unknown), (6, "RUN_UNKNOWN"));
}

#[test]
fn ages_are_those_of_entries_and_what_no_receipt_names_stays() {
    let world = world();
    call(&world, "young", "young");
    world.seal("young");
    let stray = format!("bodies/00/{}", "0".repeat(64));
    std::fs::create_dir_all(world.journal().join("bodies/00")).unwrap();
    std::fs::write(world.journal().join(&stray), b"stray").unwrap();
    age(&world);
    let rules = rules(&world, NOTHING);
    let planned = good(retention(&world, &["plan", "--rules", path(&rules)]));
    assert_eq!(planned["document"]["objects"], serde_json::json!([]), "{planned}");
    // A file that looks young is not kept for it, and of the same the same plan is made.
    let words = ["plan", "--rules", path(&rules), "--as-of", "2199-01-01T00:00:00.000000Z"];
    let plans = [(); 2].map(|()| good(retention(&world, &words)));
    assert_eq!(plans[0], plans[1]);
    assert_eq!(paths(&plans[0]["document"]["objects"]).len(), 1);
    let out = world.scratch.join("future.json");
    good(retention(&world, &[&words[..], &["--out", path(&out)]].concat()));
    let refused = retention(&world, &["apply", "--plan", path(&out), "--by", "operator"]);
    assert_eq!(code(&refused), (5, "RETENTION_STALE"));
    let all = self::rules(&world, ALL);
    let planned = good(retention(&world, &["plan", "--rules", path(&all)]));
    assert!(!paths(&planned["document"]["objects"]).contains(&stray), "{planned}");
}

#[test]
fn nothing_is_deleted_through_links_or_by_a_plan_of_somebody_else() {
    let world = world();
    call(&world, "run", "run");
    let bundle = world.seal("run");
    age(&world);
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));

    let keys = world.scratch.join("other-keys");
    assert_eq!(cli(&["keys", "init", "--dir", path(&keys)]).0, 0);
    let words = ["apply", "--plan", path(&out), "--by", "operator", "--keys", path(&keys)];
    assert_eq!(code(&retention(&world, &words)), (2, "KEY_UNKNOWN"));

    let outside = world.scratch.write("outside", b"precious");
    let linked = world.journal().join("bodies/00");
    std::fs::rename(&bundle, world.scratch.join("moved")).unwrap();
    std::os::unix::fs::symlink(&outside, &bundle).unwrap();
    let words = ["apply", "--plan", path(&out), "--by", "operator"];
    assert_eq!(code(&retention(&world, &["plan", "--rules", path(&rules)])), (8, "RETENTION_PATH"));
    let bodies = files(&world, "bodies");
    assert_eq!(code(&retention(&world, &words)), (8, "RETENTION_PATH"));
    assert_eq!(std::fs::read(&outside).unwrap(), b"precious");
    assert_eq!((files(&world, "bodies"), acts(&world)), (bodies, Vec::new()), "nothing is begun");
    std::fs::remove_file(&bundle).unwrap();
    assert_eq!(code(&retention(&world, &words)).1, "RETENTION_STALE", "what is gone was not deleted");

    std::os::unix::fs::symlink(world.scratch.join("."), &linked).unwrap();
    assert_eq!(code(&retention(&world, &["plan", "--rules", path(&rules)])), (8, "RETENTION_PATH"));
    std::fs::remove_file(&linked).unwrap();
    std::fs::rename(world.scratch.join("moved"), &bundle).unwrap();
    good(retention(&world, &words));
    assert!(!bundle.exists());
    world.check_journal();
}

/// `estoppel retention apply` as a process of its own.
fn applying(world: &World, admin: &str, words: &[&str]) -> std::process::Child {
    let mut command = Command::new(cli_binary());
    command.args(["--json", "retention", "apply", "--by", "operator", "--admin", admin, "--journal"]);
    command.arg(world.journal()).args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn begun(world: &World, end: &str) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(world.journal().join("retention")) else { return Vec::new() };
    let files = folder.map(|entry| entry.unwrap().path());
    files.filter(|file| path(file).ends_with(end)).collect()
}

#[test]
fn what_was_planned_when_it_was_killed_is_gone_on_with_but_for_what_was_held_since() {
    let world = world();
    for run in ["first", "second"] {
        call(&world, run, run);
    }
    let bundles = ["first", "second"].map(|run| world.seal(run));
    age(&world);
    let rules = rules(&world, ALL);
    // The daemon has the journal open; what stands in its place takes the question and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let mut child = applying(&world, &admin, &["--rules", path(&rules)]);
    let asked = silent.accept().unwrap();
    assert_eq!(begun(&world, ".planned.json").len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(asked);
    assert!(bundles.iter().all(|bundle| bundle.is_file()));

    good(retention(&world, &["hold", "add", "second", "--by", "counsel", "--reason", "case 13"]));
    let done = good(retention(&world, &["apply", "--by", "operator"]));
    assert_eq!(done["resumed"], true);
    assert!(!bundles[0].exists() && bundles[1].is_file(), "{done}");
    assert!(done["kept_back"].as_array().unwrap().iter().all(|kept| kept["why"] == "held"), "{done}");
    let (planned, completed) = (begun(&world, ".planned.json"), begun(&world, ".completed.json"));
    assert_eq!((planned.len(), completed.len()), (1, 1));
    assert_eq!(
        objects(&std::fs::read(&planned[0]).unwrap()),
        objects(&std::fs::read(&completed[0]).unwrap())
    );
    world.check_journal();
}

#[test]
fn who_holds_a_run_lets_go_for_itself_alone() {
    let world = world();
    call(&world, "kept", "kept");
    let hold =
        |what: &str, by: &str| retention(&world, &["hold", what, "kept", "--by", by, "--reason", "case 12"]);
    assert_eq!(code(&hold("remove", "counsel")), (6, "HOLD_MISSING"));
    good(hold("add", "counsel"));
    assert_eq!(code(&hold("add", "counsel")), (6, "HOLD_EXISTS"));
    good(hold("add", "regulator"));
    good(hold("remove", "counsel"));
    assert_eq!(code(&hold("remove", "counsel")), (6, "HOLD_MISSING"));
    world.seal("kept");
    age(&world);
    let rules = rules(&world, ALL);
    let planned = good(retention(&world, &["plan", "--rules", path(&rules)]));
    assert_eq!(planned["document"]["objects"], serde_json::json!([]), "{planned}");
    good(hold("remove", "regulator"));
    let planned = good(retention(&world, &["plan", "--rules", path(&rules)]));
    assert_ne!(planned["document"]["objects"], serde_json::json!([]), "{planned}");
}

#[test]
fn a_refused_deletion_is_not_made_up_for_by_the_next_one() {
    let world = world();
    call(&world, "run", "run");
    let bundle = world.seal("run");
    age(&world);
    let rules_of = |name: &str, text: &str| world.scratch.write(name, text);
    let (all, none) = (rules_of("all.toml", ALL), rules_of("none.toml", NOTHING));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let journal = world.journal();
    let apply = |admin: &str, words: &[&str]| {
        let first = ["retention", "apply", "--by", "operator", "--journal", path(&journal), "--admin", admin];
        cli(&[&first[..], words].concat())
    };
    assert_eq!(code(&apply(&closed, &["--rules", path(&all)])), (7, "ADMIN_UNREACHABLE"));
    assert_eq!(begun(&world, ".planned.json"), Vec::<PathBuf>::new());

    // What takes the question and is killed with it leaves a plan: only who asks for it ends it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = applying(&world, &silent.local_addr().unwrap().to_string(), &["--rules", path(&all)]);
    let asked = silent.accept().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(asked);
    assert_eq!(begun(&world, ".planned.json").len(), 1);
    let admin = world.admin.to_string();
    assert_eq!(code(&apply(&admin, &["--rules", path(&none)])), (8, "RETENTION_BEGUN"));
    assert_eq!(code(&apply(&admin, &["--plan", path(&none)])), (8, "RETENTION_BEGUN"));
    assert!(bundle.is_file());
    assert_eq!(good(apply(&admin, &[]))["resumed"], true);
    assert!(!bundle.exists());
    world.check_journal();
}

#[test]
fn what_nobody_could_verify_is_neither_signed_nor_deleted() {
    let world = world();
    call(&world, "run", "run");
    let bundle = world.seal("run");
    age(&world);
    let (rules, keys, out) =
        (rules(&world, ALL), world.scratch.join("others"), world.scratch.join("plan.json"));
    good(cli(&["keys", "init", "--dir", path(&keys)]));
    let others = ["--rules", path(&rules), "--keys", path(&keys)];
    let planned = retention(&world, &[&["plan", "--out", path(&out)], &others[..]].concat());
    assert_eq!(code(&planned), (2, "KEY_UNKNOWN"));
    assert!(!out.exists());
    let applied = retention(&world, &[&["apply", "--by", "operator"], &others[..]].concat());
    assert_eq!(code(&applied), (2, "KEY_UNKNOWN"));
    assert!(bundle.is_file());
    assert_eq!(begun(&world, ".planned.json"), Vec::<PathBuf>::new());
}

#[test]
fn a_deletion_that_is_killed_anywhere_ends_as_it_was_planned() {
    let mut world = world();
    for number in 0..8 {
        call(&world, "many", &format!("call {number}"));
    }
    world.seal("many");
    age(&world);
    world.stop();
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    let planned = good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let listed = paths(&planned["document"]["objects"]);
    assert!(listed.len() > 8, "{planned}");
    let there = || files(&world, "bodies").union(&files(&world, "bundles")).cloned().collect::<BTreeSet<_>>();
    let Some(strace) = estoppel_kit::require_real("strace") else { return };
    let mut killed = 0;
    // Each run is killed one step later than the run before it.
    for step in 2.. {
        let mut command = Command::new(&strace);
        let fault = format!("inject=renameat,unlinkat:signal=KILL:when={step}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat,unlinkat", "-e", &fault]);
        command.arg(cli_binary()).args(["retention", "apply", "--by", "operator", "--admin", "127.0.0.1:1"]);
        command.arg("--journal").arg(world.journal()).arg("--plan").arg(&out);
        let ended = command.stdout(Stdio::null()).status().unwrap();
        if ended.success() {
            break;
        }
        assert_eq!(ended.signal(), Some(9), "{ended}");
        killed += 1;
    }
    assert!(killed > 3, "{killed}");
    let completed = begun(&world, ".completed.json");
    assert_eq!(objects(&std::fs::read(&out).unwrap()), objects(&std::fs::read(&completed[0]).unwrap()));
    assert!(there().is_disjoint(&listed));
    assert_eq!(files(&world, "retention/trash"), BTreeSet::new());
    world.check_journal();
}

#[test]
fn rules_that_say_nothing_clear_are_refused() {
    let world = world();
    call(&world, "run", "run");
    let id = "[[rule]]\nid = \"a\"\nclass = \"bodies\"\nkeep_days = 1\n";
    for text in [
        "version = 1\n".to_owned(),
        format!("version = 2\n{id}"),
        format!("version = 1\n{id}{id}"),
        format!("version = 1\n{id}colour = 1\n"),
        format!("version = 1\n{}", id.replace("bodies", "segments") + "run_class = \"caller\"\n"),
        format!("version = 1\n{}", id.replace("bodies", "policies")),
        format!("version = 1\n{}", id.replace("\"a\"", "\"../a\"")),
    ] {
        let rules = rules(&world, &text);
        assert_eq!(
            code(&retention(&world, &["plan", "--rules", path(&rules)])),
            (6, "CONFIG_INVALID"),
            "{text}"
        );
    }
}

#[test]
fn a_bundle_that_is_not_written_again_names_the_report_that_let_its_bodies_go() {
    let mut world = world();
    call(&world, "gone", "gone");
    let bundle = world.seal("gone");
    age(&world);
    let bodies = "version = 1\n[[rule]]\nid = \"bodies-now\"\nclass = \"bodies\"\nkeep_days = 0\n";
    let rules = rules(&world, bodies);
    let applied = good(retention(&world, &["apply", "--rules", path(&rules), "--by", "J"]));
    let report = PathBuf::from(applied["report"].as_str().unwrap());
    world.stop();
    std::fs::remove_file(bundle).unwrap();
    std::fs::remove_file(world.journal().join("bundled")).unwrap();
    let told = |world: &mut World, code: &str| {
        world.restart();
        estoppel_kit::until(code, PATIENCE, || {
            let text = world.daemon.stderr();
            text.lines().find(|line| line.contains("no bundle was written")).map(ToOwned::to_owned)
        })
    };
    let line = told(&mut world, "BODY_DELETED");
    assert!(
        line.contains("BODY_DELETED") && line.contains(path(Path::new(report.file_name().unwrap()))),
        "{line}"
    );
    // A report that the log does not name vouches for nothing.
    world.stop();
    let mut forged = std::fs::read(&report).unwrap();
    forged.push(b'\n');
    std::fs::write(&report, forged).unwrap();
    let line = told(&mut world, "JOURNAL_CORRUPT");
    assert!(line.contains("JOURNAL_CORRUPT"), "{line}");
}

#[test]
fn a_bundle_that_was_deleted_on_purpose_does_not_come_back_and_one_that_was_not_does() {
    let mut world = world();
    for run in ["gone", "kept"] {
        call(&world, run, run);
    }
    let [gone, kept] = ["gone", "kept"].map(|run| world.seal(run));
    let first = std::fs::read(&kept).unwrap();
    good(retention(&world, &["hold", "add", "kept", "--by", "counsel", "--reason", "case 12"]));
    let bundles =
        "version = 1\n[[rule]]\nid = \"now\"\nclass = \"bundles\"\nrun_class = \"caller\"\nkeep_days = 0\n";
    let rules = rules(&world, bundles);
    let applied = good(retention(&world, &["apply", "--rules", path(&rules), "--by", "J"]));
    let report = PathBuf::from(applied["report"].as_str().unwrap());
    std::fs::remove_file(&kept).unwrap();
    assert!(!gone.exists());
    let admin = world.admin.to_string();
    let check = |words: &[&str]| {
        let refused = cli(&[&["seal", "gone"], words].concat());
        assert_eq!(code(&refused), (6, "BUNDLE_DELETED"), "{}", refused.1);
        let told = refused.1["error"]["message"].as_str().unwrap();
        assert!(told.contains(report.file_name().unwrap().to_str().unwrap()), "{told}");
        assert!(!gone.exists());
    };
    check(&["--admin", &admin]);
    let asked = estoppel_kit::http::Request::new("POST", "/runs/gone/seal");
    assert_eq!(estoppel_kit::http::send(world.admin, &asked).unwrap().status(), 410);
    assert_eq!(world.seal("kept"), kept);
    assert_eq!(std::fs::read(&kept).unwrap(), first);
    // Where nobody knows any more which bundles are there, a start looks for all of them.
    world.stop();
    let journal = world.journal();
    let forget = || std::fs::remove_file(journal.join("bundled")).unwrap();
    forget();
    world.restart();
    let there = cli(&["seal", "kept", "--admin", &world.admin.to_string()]);
    assert_eq!(code(&there), (6, "RUN_SEALED"));
    check(&["--admin", &world.admin.to_string()]);
    assert!(!world.daemon.stderr().contains("no bundle was written"), "{}", world.daemon.stderr());
    world.stop();
    forget();
    check(&["--journal", path(&journal)]);
    world.check_journal();
}

#[test]
fn what_a_killed_gateway_was_writing_is_gone_after_its_next_start() {
    let mut world = world();
    call(&world, "kept", "kept");
    world.stop();
    let before = files(&world, "bodies");
    for name in ["bodies/17.tmp", "bundles/x.pef.zip.tmp", "bundles/x.receipts.ndjson.part"] {
        std::fs::write(world.journal().join(name), "left over").unwrap();
    }
    world.restart();
    assert_eq!(files(&world, "bodies"), before);
    assert!(
        files(&world, "bundles").iter().all(|name| name.ends_with(".pef.zip")),
        "{:?}",
        files(&world, "bundles")
    );
}

#[test]
fn encrypted_bodies_are_let_go_as_others_are() {
    let keys = estoppel_kit::Scratch::new("keys");
    let key = keys.join("key");
    assert_eq!(cli(&["keys", "wrapping", "--out", path(&key)]).0, 0);
    let policy =
        crate::support::OPEN.replace("body_storage: hmac", "body_storage: { full: { reason: test } }");
    let config = format!("[encryption]\nkey_file = {key:?}\n");
    let mut world = World::with(Script::model(), &Setup { policy, config, ..Setup::default() });
    call(&world, "gone", "gone");
    call(&world, "held", "held");
    for run in ["gone", "held"] {
        world.seal(run);
    }
    age(&world);
    let bodies = files(&world, "bodies");
    assert!(bodies.iter().all(|name| name.ends_with(".enc")), "{bodies:?}");
    good(retention(&world, &["hold", "add", "held", "--by", "counsel", "--reason", "case"]));
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    let planned = good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let applied = good(retention(&world, &["apply", "--plan", path(&out), "--by", "J"]));
    let planned = paths(&planned["document"]["objects"]);
    let report = std::fs::read(applied["report"].as_str().unwrap()).unwrap();
    assert_eq!(objects(&report), objects(&std::fs::read(&out).unwrap()));
    let due: BTreeSet<String> = bodies.intersection(&planned).cloned().collect();
    assert!(!due.is_empty() && due.len() < bodies.len(), "{due:?} of {bodies:?}");
    assert_eq!(files(&world, "bodies"), bodies.difference(&due).cloned().collect());
    world.stop();
    world.check_journal();
}

#[test]
fn what_is_of_a_name_that_nobody_writes_is_counted_and_named_and_stays() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = world();
    for run in ["gone", "renamed"] {
        call(&world, run, run);
    }
    let gone = world.seal("gone");
    let bundles = world.journal().join("bundles");
    let renamed = bundles.join("nightly.pef.zip");
    std::fs::rename(world.seal("renamed"), &renamed).unwrap();
    std::fs::write(bundles.join("no\u{1b}tes"), "x").unwrap();
    std::fs::write(bundles.join(std::ffi::OsStr::from_bytes(b"latin-\xe9.pef.zip")), "x").unwrap();
    std::fs::write(bundles.join("archive.ndjson"), "x").unwrap();
    let never = format!("{}.pef.zip", "0".repeat(8) + "-0000-7000-8000-" + &"0".repeat(12));
    std::fs::write(bundles.join(&never), "x").unwrap();
    std::fs::create_dir_all(world.journal().join("bodies/00")).unwrap();
    std::fs::write(world.journal().join("bodies/00/body"), "x").unwrap();
    age(&world);
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    let planned = good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let document = &planned["document"];
    let named: BTreeSet<&str> =
        document["unknown"]["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    let expected = [
        "bodies/00/body".to_owned(),
        format!("bundles/{never}"),
        r"bundles/latin-\xe9.pef.zip".to_owned(),
        "bundles/nightly.pef.zip".to_owned(),
        "bundles/no\u{fffd}tes".to_owned(),
    ];
    assert_eq!(named, expected.iter().map(String::as_str).collect(), "{planned:#}");
    let kept = document["kept"].as_array().unwrap();
    let unknown = kept.iter().find(|kept| kept["why"] == "unknown").unwrap();
    assert_eq!((&document["unknown"]["count"], &unknown["count"]), (&5.into(), &5.into()));
    assert_eq!(predicate(&out)["unknown"], document["unknown"]);

    let done = good(retention(&world, &["apply", "--plan", path(&out), "--by", "operator"]));
    let report = PathBuf::from(done["report"].as_str().unwrap());
    assert!(!gone.exists() && renamed.is_file() && bundles.join(&never).is_file());
    assert_eq!(predicate(&report)["unknown"], document["unknown"]);
    let trust = world.journal().join("trust.json");
    good(cli(&["retention", "verify", path(&out), path(&report), "--trust", path(&trust)]));
    let again = good(retention(&world, &["apply", "--rules", path(&rules), "--by", "operator"]));
    assert_eq!((&again["deleted"], &again["unknown"]), (&0.into(), &document["unknown"]));
    world.check_journal();
}

#[test]
fn a_plan_that_is_done_says_so_when_it_is_given_again() {
    let world = world();
    call(&world, "run", "run");
    let bundle = world.seal("run");
    age(&world);
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let words = ["apply", "--plan", path(&out), "--by", "operator"];
    let done = good(retention(&world, &words));
    let before = acts(&world);
    let (exit, answer) = retention(&world, &words);
    assert_eq!(code(&(exit, answer.clone())), (8, "RETENTION_DONE"), "{answer:#}");
    assert_eq!(answer["error"]["data"]["report"], done["report"]);
    assert_eq!(acts(&world), before, "nothing is recorded twice");

    // A report that the instance has not signed says nothing of what was done.
    std::fs::write(done["report"].as_str().unwrap(), "{}").unwrap();
    assert_eq!(code(&retention(&world, &words)).1, "RETENTION_STALE");
    assert!(!bundle.exists());
}

#[test]
fn the_chain_of_custody_of_a_deleted_bundle_stays_and_ends_with_what_deleted_it() {
    let mut world = world();
    for run in ["closed", "left"] {
        call(&world, run, run);
    }
    let (key, public) = crate::custody::custodian(&world.scratch, "ada", 41);
    let by = ["--custody-key", path(&key), "--custody-by", "Ada"];
    let bundles = ["closed", "left"].map(|run| world.seal(run));
    let lists = bundles.clone().map(|bundle| crate::custody::list_of(&bundle));
    let trust = world.journal().join("trust.json");
    for bundle in &bundles {
        good(cli(&[&["verify", path(bundle), "--trust", path(&trust)], &by[..]].concat()));
    }
    age(&world);
    world.stop();
    let rules = rules(&world, ALL);
    let out = world.scratch.join("plan.json");
    let planned = good(retention(&world, &["plan", "--rules", path(&rules), "--out", path(&out)]));
    let apply = ["apply", "--plan", path(&out), "--by", "operator"];

    // What could not be told is not deleted.
    let whole = std::fs::read(&lists[0]).unwrap();
    std::fs::write(&lists[0], &whole[1..]).unwrap();
    let (exit, answer) = retention(&world, &[&apply, &by[..]].concat());
    assert_eq!(exit, 2, "{answer:#}");
    assert!(bundles.iter().all(|bundle| bundle.is_file()) && acts(&world).is_empty());
    std::fs::write(&lists[0], &whole).unwrap();

    let done = good(retention(&world, &apply));
    let report = std::fs::read(done["report"].as_str().unwrap()).unwrap();
    assert!(bundles.iter().all(|bundle| !bundle.exists()) && lists.iter().all(|list| list.is_file()));
    assert_eq!(done["custody"]["open"].as_array().unwrap().len(), 2, "nobody was asked to sign: {done:#}");
    assert_ne!(cli(&["custody", "verify", path(&bundles[0])]).0, 0, "a bundle that is only missing");

    let (exit, answer) = retention(&world, &[&apply, &by[..]].concat());
    assert_eq!(code(&(exit, answer.clone())), (8, "RETENTION_DONE"), "{answer:#}");
    assert_eq!(answer["error"]["data"]["custody"]["closed"].as_array().unwrap().len(), 2, "{answer:#}");
    for bundle in &bundles {
        let shown = good(cli(&["custody", "verify", path(bundle), "--signer", path(&public)]));
        let last = &shown["entries"].as_array().unwrap().last().unwrap()["entry"];
        assert_eq!((&last["action"], &last["deleted"]["plan"]), (&"deleted".into(), &planned["plan"]));
        assert_eq!(last["deleted"]["report"], estoppel_evidence::Sha256::of(&report).to_string());
    }
    let closed = lists.clone().map(|list| std::fs::read(list).unwrap());
    assert_eq!(retention(&world, &[&apply, &by[..]].concat()).0, 8);
    assert_eq!(lists.map(|list| std::fs::read(list).unwrap()), closed, "it is told once");
    world.check_journal();
}
