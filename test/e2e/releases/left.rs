//! What programs of a generation leave behind them: processes, and files in the folder that a promotion is judged from.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{Repository, state};
use crate::support::{cli_binary, path};

/// Starts a program that is in a session of its own and has another parent, and waits until its id is in a file.
fn leaves(file: &Path) -> String {
    let file = file.display();
    format!(
        "setsid -f env -i PATH=\"$PATH\" sh -c 'echo $$ > \"{file}.part\"; mv \"{file}.part\" \"{file}\"; exec sleep 86399' > /dev/null 2>&1 < /dev/null; \
         while [ ! -e '{file}' ]; do sleep 0.01; done"
    )
}

fn runs(file: &Path) -> bool {
    let id = std::fs::read_to_string(file).unwrap();
    let words = std::fs::read(format!("/proc/{}/cmdline", id.trim())).unwrap_or_default();
    String::from_utf8_lossy(&words).contains("86399")
}

#[test]
fn what_steps_hooks_and_gates_leave_running_is_ended_with_them() {
    let repository = Repository::new("left-running");
    let at = ["step", "hook", "gate"].map(|name| repository.scratch.join(name));
    let [step, hook, gate] = at.each_ref().map(|file| leaves(file));
    let answer = "printf '{\"state\":\"pass\",\"why\":\"fine\"}'";
    let gates = json!({ "commands": [{ "id": "ask", "run": ["sh", "-c", format!("{gate}; {answer}")] }] });
    let hooks = json!({ "hooks": [{ "id": "told", "event": "evolution_end", "run": ["sh", "-c", hook] }] });
    repository.seal("1.0.0", &step, &gates, &hooks);
    let (exit, run) = repository.evolve("1.0.0");
    assert_eq!(exit, 0, "{run}");
    assert!(!runs(&at[0]) && !runs(&at[1]), "{at:?}");
    repository.done("owner", &["promote", "1.0.0"]);
    assert!(!runs(&at[2]), "{at:?}");
}

/// Writes a file into the working tree of each promotion as long as `work` takes.
pub(super) fn meddling<T>(
    repository: &Repository,
    (name, text): (&str, &str),
    work: impl FnOnce() -> T,
) -> T {
    let (done, trees) = (AtomicBool::new(false), repository.dir.join(".git/estoppel/worktrees"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir(&trees).into_iter().flatten().flatten() {
                    let file = entry.path().join("tree").join(name);
                    // Only where it is checked out already, and only as long as that is there.
                    if file.exists() {
                        let _ = std::fs::write(file, text);
                    }
                }
                std::thread::yield_now();
            }
        });
        let came = work();
        done.store(true, Ordering::Relaxed);
        came
    })
}

#[test]
fn a_program_that_is_shown_another_tree_does_not_let_the_candidate_pass() {
    let repository = Repository::new("left-shown");
    repository.commit(&[("answer", "no")]);
    let asks = "read -r a < answer; printf '{\"state\":\"%s\",\"why\":\"asked\"}' \"$([ \"$a\" = yes ] && echo pass || echo fail)\"";
    let gates = json!({ "commands": [{ "id": "ask", "run": ["sh", "-c", asks] }] });
    repository.seal("1.0.0", "true", &gates, &json!({}));
    assert_eq!(repository.evolve("1.0.0").0, 0);
    for _ in 0..3 {
        let promote = || repository.sign("owner", &["promote", "1.0.0"]);
        let (exit, told) = meddling(&repository, ("answer", "yes\n"), promote);
        match exit {
            2 => assert_eq!(told["error"]["code"], "LEDGER_ALTERED", "{told}"),
            exit => assert_eq!((exit, state(&told, "command:ask")), (3, "fail"), "{told}"),
        }
    }
    assert_eq!(repository.events("promotion.finished"), 0);
}

#[test]
fn what_ran_before_the_program_did_goes_on() {
    let repository = Repository::new("left-before");
    repository.seal("1.0.0", "true", &json!({}), &json!({}));
    let (id, key) = (repository.scratch.join("before"), repository.key("owner"));
    // A shell that becomes the program gives it its children.
    let script = "sleep 86399 > /dev/null 2>&1 & echo $! > \"$1\"; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", path(&id)]).arg(cli_binary());
    command.args([
        "evolution",
        "start",
        "1.0.0",
        "--all",
        "--repo",
        path(&repository.dir),
        "--key",
        path(&key),
    ]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(runs(&id));
    let number = std::fs::read_to_string(&id).unwrap();
    assert!(Command::new("kill").arg(number.trim()).status().unwrap().success());
}
