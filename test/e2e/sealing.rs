//! Runs that are sealed again: their bundle is written again where it is gone, and whoever asks is told where it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_kit::Process;
use estoppel_kit::http::{Request, get, send};
use estoppel_stub::Script;
use serde_json::Value;

use crate::support::{PATIENCE, Setup, World, chat, cli, cli_binary, daemon_binary, path};

fn call(world: &World, run: &str) {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(world.send(&chat(run, body)).status(), 200);
}

fn seal(world: &World, run: &str) -> (i32, Value) {
    cli(&["seal", run, "--admin", &world.admin.to_string()])
}

fn code(answer: &(i32, Value)) -> (i32, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", answer.1)))
}

fn bundle(answer: &(i32, Value)) -> PathBuf {
    assert_eq!(answer.0, 0, "{}", answer.1);
    PathBuf::from(answer.1["data"]["path"].as_str().unwrap())
}

/// A gateway whose journal is named from its working folder, which is no other process's.
fn relative() -> World {
    let mut world = World::with(Script::model(), &Setup::default());
    world.stop();
    let file = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let absolute = format!("dir = {:?}", world.journal());
    assert!(text.contains(&absolute));
    std::fs::write(&file, text.replace(&absolute, "dir = \"journal\"")).unwrap();
    start_here(&mut world, "first");
    world
}

/// Starts the gateway with the scratch folder as its working folder.
fn start_here(world: &mut World, which: &str) {
    let ready = world.scratch.join(format!("ready-{which}.json"));
    let mut command = Command::new(daemon_binary());
    command.current_dir(world.scratch.path());
    command.args(["--config", "estoppeld.toml", "--ready-file", path(&ready)]);
    world.daemon = Process::start(&format!("estoppeld-{which}"), command, &world.scratch);
    let text = world.daemon.wait_ready(PATIENCE, |_| std::fs::read(&ready).ok());
    let value: Value = serde_json::from_slice(&text).unwrap();
    let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
    (world.gateway, world.admin) = (address(&value["listeners"]["main"]), address(&value["admin"]));
}

#[test]
fn whoever_seals_a_run_is_told_a_path_that_does_not_depend_on_a_working_folder() {
    let mut world = relative();
    call(&world, "job");
    let sealed = seal(&world, "job");
    let at = bundle(&sealed);
    assert!(at.is_absolute() && at.is_file(), "{}", at.display());
    let again = seal(&world, "job");
    assert_eq!(code(&again), (6, "RUN_SEALED"));
    assert!(again.1["error"]["message"].as_str().unwrap().contains(path(&at)), "{}", again.1);
    let shown = cli(&["run", "show", "job", "--admin", &world.admin.to_string()]);
    assert_eq!(shown.1["data"]["bundle"], path(&at), "{}", shown.1);
    let first = std::fs::read(&at).unwrap();
    world.stop();
    start_here(&mut world, "second");
    let shown = cli(&["run", "show", "job", "--admin", &world.admin.to_string()]);
    assert_eq!(shown.1["data"]["bundle"], path(&at), "{}", shown.1);
    world.stop();
    // Without a daemon as with one.
    std::fs::remove_file(&at).unwrap();
    let mut command = Command::new(cli_binary());
    command.current_dir(world.scratch.path()).args(["--json", "seal", "job", "--journal", "journal"]);
    let said = command.output().unwrap();
    let offline: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(offline["data"], sealed.1["data"], "{offline}");
    assert_eq!(std::fs::read(&at).unwrap(), first);
}

#[test]
fn a_bundle_that_is_gone_is_written_again_by_whoever_seals_its_run_again() {
    let mut world = World::new(Script::model());
    call(&world, "job");
    let sealed = seal(&world, "job");
    let at = bundle(&sealed);
    let first = std::fs::read(&at).unwrap();
    let check = |world: &World, which: &str| {
        assert_eq!(code(&seal(world, which)), (6, "RUN_SEALED"), "{which}");
        std::fs::remove_file(&at).unwrap();
        assert_eq!(seal(world, which), sealed, "{which}");
        assert_eq!(std::fs::read(&at).unwrap(), first, "{which}");
    };
    let id = sealed.1["data"]["run"].as_str().unwrap().to_owned();
    check(&world, "job");
    check(&world, &id);
    world.stop();
    world.restart();
    check(&world, "job");
    check(&world, &id);
    world.receipts_in(&at);
    world.stop();
    world.check_journal();
}

#[test]
fn where_a_bundle_cannot_be_written_that_is_said_with_its_cause_until_it_can() {
    let mut world = World::new(Script::model());
    call(&world, "job");
    let folder = world.journal().join("bundles");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, b"in the way").unwrap();
    for _ in 0..2 {
        let refused = seal(&world, "job");
        assert_eq!(code(&refused), (1, "DISK_FAILED"), "{}", refused.1);
        let told = refused.1["error"]["message"].as_str().unwrap();
        assert!(told.contains(path(&folder)) && told.contains("seal it again"), "{told}");
    }
    assert_eq!(get(world.admin, "/readyz").unwrap().status(), 200);
    std::fs::remove_file(&folder).unwrap();
    let at = bundle(&seal(&world, "job"));
    world.receipts_in(&at);
    assert_eq!(code(&seal(&world, "job")), (6, "RUN_SEALED"));
    world.stop();
}

#[test]
fn a_run_that_nobody_knows_is_told_so_and_harms_nothing() {
    let world = World::new(Script::model());
    for unknown in
        ["never", "01ARZ3NDEKTSV4RRFFQ69G5FAV", &estoppel_evidence::RunId::new(1, [1; 10]).to_string()]
    {
        assert_eq!(code(&seal(&world, unknown)), (6, "RUN_UNKNOWN"), "{unknown}");
        let asked = Request::new("POST", &format!("/runs/{unknown}/seal"));
        assert_eq!(send(world.admin, &asked).unwrap().status(), 404, "{unknown}");
    }
    call(&world, "job");
    let sealed = seal(&world, "job");
    bundle(&sealed);
    let bundled = std::fs::read_to_string(world.journal().join("bundled")).unwrap();
    assert_eq!(bundled.parse::<u64>().unwrap(), sealed.1["data"]["index"].as_u64().unwrap() + 1);
    assert!(!world.daemon.stderr().contains("no bundle was written"), "{}", world.daemon.stderr());
}

#[test]
fn what_had_no_room_is_gone_after_the_next_start() {
    let mut world = World::new(Script::model());
    call(&world, "job");
    let at = bundle(&seal(&world, "job"));
    world.stop();
    let journal = world.journal();
    let beside = format!("bundles/{}.d", at.file_name().unwrap().to_str().unwrap());
    std::fs::create_dir(journal.join(&beside)).unwrap();
    let digest = "a".repeat(64);
    let left = [
        "bundles/x.pef.zip.tmp".to_owned(),
        format!("{beside}/{digest}.tmp"),
        format!("policies/{digest}.json.tmp"),
        format!("contracts/{digest}.json.tmp"),
        format!("snapshots/{digest}.json.tmp"),
        "bundled.tmp".to_owned(),
    ];
    let kept = [format!("{beside}/{digest}"), format!("{beside}/notes.tmp"), "mine.tmp".to_owned()];
    left.iter().chain(&kept).for_each(|name| std::fs::write(journal.join(name), b"").unwrap());
    world.restart();
    let there = |names: &[String]| names.iter().filter(|name| journal.join(name).exists()).count();
    assert_eq!((there(&left), there(&kept)), (0, kept.len()));
    assert!(Path::new(&at).is_file());
}
