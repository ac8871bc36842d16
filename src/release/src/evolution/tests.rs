use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::git::Move;
use crate::ledger::Role;
use crate::scene::{Scene, document, hand, key};
use crate::tag::Tag;

fn outcomes(finished: &EvolutionFinished) -> Vec<(&str, StepOutcome)> {
    finished.steps.iter().map(|step| (step.id.as_str(), step.outcome)).collect()
}

#[test]
fn a_run_that_passed_gives_a_signed_tag_on_the_commit_that_was_proven() {
    let scene = Scene::new();
    let proven = scene.commit("file", "proven\n");
    scene.seal(document("1.0.0", "grep proven file", "test -z \"$SECRET\" && test -n \"$ESTOPPEL_NONCE\""));
    scene.commit("file", "later\n");
    std::fs::write(scene.git.top().join("file"), "not committed\n").unwrap();
    let finished = scene.try_evolve("1.0.0", &[], &proven).unwrap();
    assert_eq!(finished.tag.as_deref(), Some("v1.0.0-rc.1"), "{finished:?}");
    let object = scene.git.target("refs/tags/v1.0.0-rc.1").unwrap().unwrap();
    let bytes = scene.git.read("tag", &object).unwrap();
    let ledger = scene.store().read().unwrap();
    let runners: Vec<_> = ledger.roles().with(Role::Runner).collect();
    let (tag, _) = Tag::read(&bytes, "v1.0.0-rc.1", &runners).unwrap();
    assert_eq!(tag.target, proven);
    let event = ledger.tags()["v1.0.0-rc.1"].id;
    for wanted in [&format!("Estoppel-Evolution: {}", finished.evolution), "A-1 sha256:", &event.to_string()]
    {
        assert!(tag.message.contains(wanted), "{wanted}: {}", tag.message);
    }
    assert_eq!(scene.git.text(&["worktree", "list"]).unwrap().lines().count(), 1);
}

#[test]
fn a_red_run_is_recorded_and_has_no_tag() {
    let scene = Scene::new();
    let mut wanted = document("1.0.0", "echo why; exit 3", "true");
    wanted["steps"][1]["needs"] = json!(["a"]);
    scene.seal(wanted);
    let finished = scene.evolve("1.0.0", &[]);
    assert_eq!((finished.result, finished.tag.as_deref()), (Outcome::Failed, None));
    assert_eq!(outcomes(&finished), [("a", StepOutcome::Failed), ("b", StepOutcome::Skipped)]);
    assert_eq!(finished.steps[0].exit, Some(3));
    assert!(scene.git.refs("refs/tags").unwrap().is_empty());
    let ledger = scene.store().read().unwrap();
    assert_eq!(ledger.finished(&finished.version).count(), 1);
    let log = log_path(&logs(scene.git.private(), &finished.evolution), "a");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "why\n");
    assert_eq!(finished.steps[0].log, Some(steps::digest(&log).unwrap()));
}

#[test]
fn a_run_of_one_change_runs_what_that_change_needs_and_no_more() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "false"));
    let finished = scene.evolve("1.0.0", &["A-1"]);
    assert_eq!(outcomes(&finished), [("a", StepOutcome::Passed)]);
    assert_eq!(finished.changes.keys().collect::<Vec<_>>(), ["A-1"]);
    let unknown = scene.try_evolve("1.0.0", &["C-3"], &scene.head()).unwrap_err();
    assert_eq!(unknown.code, Code::ChangeUnknown);
    let unsealed = scene.try_evolve("2.0.0", &[], &scene.head()).unwrap_err();
    assert_eq!(unsealed.code, Code::GenerationUnknown);
}

#[test]
fn steps_that_change_the_sources_prove_nothing_whatever_they_tell_git() {
    let scene = Scene::new();
    scene.commit("file", "a\n");
    let hidden = [
        "true",
        "git -c user.name=a -c user.email=a@b commit -qam changed",
        "git update-index --assume-unchanged file",
        "git update-index --skip-worktree file",
        "rm -rf .git && git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm all",
    ];
    for (minor, hides) in hidden.into_iter().enumerate() {
        let version = format!("1.{minor}.0");
        scene.seal(document(&version, &format!("echo b > file && {hides}"), "true"));
        let finished = scene.evolve(&version, &[]);
        assert_eq!((finished.result, finished.tag), (Outcome::Failed, None), "{hides}");
        assert!(finished.why.unwrap().contains("`file`"), "{hides}");
    }
}

#[test]
fn a_later_step_cannot_put_back_what_an_earlier_one_changed() {
    let scene = Scene::new();
    scene.commit("file", "a\n");
    let mut wanted = document("1.0.0", "echo b > file", "echo a > file");
    wanted["steps"][1]["needs"] = json!(["a"]);
    scene.seal(wanted);
    let finished = scene.evolve("1.0.0", &[]);
    assert_eq!((finished.result, finished.tag.as_deref()), (Outcome::Failed, None));
    assert_eq!(outcomes(&finished), [("a", StepOutcome::Passed), ("b", StepOutcome::Skipped)]);
    assert!(finished.why.unwrap().contains("step `a`"));
}

#[test]
fn a_hook_that_changes_the_sources_ends_the_run() {
    let scene = Scene::new();
    scene.commit("file", "a\n");
    for (version, event) in [("1.0.0", "evolution_start"), ("1.1.0", "evolution_end")] {
        let mut wanted = document(version, "true", "true");
        wanted["hooks"] = json!([{ "id": "h", "event": event, "run": ["sh", "-c", "echo b > file"] }]);
        scene.seal(wanted);
        let finished = scene.evolve(version, &[]);
        assert_eq!((finished.result, finished.tag.as_deref()), (Outcome::Failed, None), "{event}");
        assert!(finished.why.unwrap().contains("the hooks"), "{event}");
    }
}

#[test]
fn git_in_a_step_is_not_that_of_the_clone() {
    let scene = Scene::new();
    let takes = "git config estoppel.genesis none && git update-ref refs/estoppel/ledger HEAD \
                 && git update-ref refs/estoppel/seen HEAD && git tag v9.9.9 && ! git rev-parse -q --verify main";
    scene.seal(document("1.0.0", takes, "true"));
    let trusted = scene.store().trusted().unwrap();
    let finished = scene.evolve("1.0.0", &[]);
    assert_eq!(finished.result, Outcome::Passed, "{finished:?}");
    assert_eq!(scene.store().trusted().unwrap(), trusted);
    assert!(scene.store().read().unwrap().started(&finished.evolution).is_some());
    assert_eq!(scene.git.target("refs/tags/v9.9.9").unwrap(), None);
}

#[test]
fn a_ledger_that_was_replaced_while_steps_ran_is_not_written_to() {
    let scene = Scene::new();
    let clone = scene.git.top().display().to_string();
    let genesis = scene.store().trusted().unwrap().unwrap();
    let older = scene.git.target("refs/estoppel/ledger").unwrap().unwrap();
    let back = format!(
        "cd {clone} && git update-ref refs/estoppel/ledger {older} && git update-ref -d refs/estoppel/seen"
    );
    let retrusts = format!("git -C {clone} config estoppel.genesis sha256:{}", "0".repeat(64));
    let forgets = format!("git -C {clone} config --unset estoppel.genesis");
    for (version, takes) in [("1.1.0", &retrusts), ("1.2.0", &forgets), ("1.3.0", &back)] {
        scene.seal(document(version, takes, "true"));
        let refused = scene.try_evolve(version, &[], &scene.head()).unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "{takes}: {refused}");
        assert!(refused.detail.contains("while the steps ran"), "{takes}: {refused}");
        scene.store().trust(genesis).unwrap();
        assert_eq!(scene.store().read().unwrap().finished(&version.parse().unwrap()).count(), 0);
    }
}

#[test]
fn what_takes_too_long_or_cannot_be_started_fails() {
    let scene = Scene::new();
    let mut wanted = document("1.0.0", "sleep 600", "true");
    wanted["steps"][0]["timeout_s"] = json!(1);
    wanted["steps"][1]["run"] = json!(["no-such-program-anywhere"]);
    scene.seal(wanted);
    let finished = scene.evolve("1.0.0", &[]);
    assert_eq!(outcomes(&finished), [("a", StepOutcome::TimedOut), ("b", StepOutcome::NotStarted)]);
}

#[test]
fn steps_run_beside_each_other_up_to_the_number_of_jobs() {
    let scene = Scene::new();
    // Each waits for the other, which only ends if both run.
    let meet = |own: &str, other: &str| {
        format!(
            "touch \"$ESTOPPEL_EVIDENCE/{own}\"; until test -e \"$ESTOPPEL_EVIDENCE/{other}\"; do sleep 0.01; done"
        )
    };
    let mut wanted = document("1.0.0", &meet("x", "y"), &meet("y", "x"));
    wanted["steps"][0]["timeout_s"] = json!(60);
    scene.seal(wanted);
    let finished = scene.evolve("1.0.0", &[]);
    assert_eq!(finished.result, Outcome::Passed, "{finished:?}");
    assert_eq!(finished.evidence.keys().collect::<Vec<_>>(), ["x", "y"]);
}

#[test]
fn a_hook_that_fails_stops_the_run_and_is_seen_in_the_record() {
    let scene = Scene::new();
    let mut wanted = document("1.0.0", "true", "true");
    let hook = |id: &str, event: &str, script: &str, types: &[&str]| {
        let mut hook = json!({ "id": id, "event": event, "run": ["sh", "-c", script] });
        if !types.is_empty() {
            hook["types"] = json!(types);
        }
        hook
    };
    let reads = "grep -q '\"type\":\"fix\"'";
    wanted["hooks"] = json!([
        hook("reads", "evolution_start", reads, &[]),
        hook("of-remove", "evolution_start", "false", &["remove"]),
        hook("ends", "evolution_end", "false", &["fix"]),
    ]);
    scene.seal(wanted);
    let finished = scene.evolve("1.0.0", &[]);
    let heard: Vec<(&str, bool)> =
        finished.hooks.iter().map(|hook| (hook.id.as_str(), hook.passed)).collect();
    assert_eq!(heard, [("reads", true), ("ends", false)]);
    assert_eq!((finished.result, finished.tag), (Outcome::Failed, None));
}

#[test]
fn the_number_of_a_candidate_follows_the_highest_one_that_anybody_knows() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let head = scene.head();
    scene.git.move_refs(&[Move::create("refs/tags/v1.0.0-rc.9", &head)]).unwrap();
    assert_eq!(scene.evolve("1.0.0", &[]).tag.as_deref(), Some("v1.0.0-rc.10"));
}

#[test]
fn twenty_runs_at_a_time_get_twenty_numbers() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let head = scene.head();
    let tags: BTreeSet<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| scene.try_evolve("1.0.0", &[], &head).unwrap().tag.unwrap()))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let expected: BTreeSet<String> = (1..=20).map(|number| format!("v1.0.0-rc.{number}")).collect();
    assert_eq!(tags, expected);
    assert_eq!(scene.git.refs("refs/tags").unwrap().len(), 20);
}

#[test]
fn runs_in_several_clones_at_a_time_get_numbers_of_their_own() {
    let origin = Scene::new();
    origin.seal(document("1.0.0", "true", "true"));
    let clones: Vec<Scene> = (0..3).map(|_| origin.cloned()).collect();
    let head = origin.head();
    let tags: BTreeSet<String> = std::thread::scope(|scope| {
        let run = |clone: &Scene| {
            (0..2).map(|_| clone.try_evolve("1.0.0", &[], &head).unwrap().tag.unwrap()).collect()
        };
        let runs: Vec<_> =
            clones.iter().map(|clone| scope.spawn(move || -> Vec<String> { run(clone) })).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(tags.len(), 6, "{tags:?}");
    assert_eq!(origin.git.refs("refs/tags").unwrap().len(), 6);
    let mut seen: Vec<_> = clones.iter().map(|clone| clone.store().fetch().unwrap().head()).collect();
    seen.dedup();
    assert_eq!(seen, [origin.store().read().unwrap().head()]);
}

/// Writes that an evolution of these changes was begun here, and leaves what its program leaves while it lives.
fn begun(scene: &Scene, evolution: &str, changes: &[&str], is_alive: bool) -> Option<Telling<'static>> {
    let logs = logs(scene.git.private(), evolution);
    std::fs::create_dir_all(&logs).unwrap();
    let telling = Telling::begin(&logs, &Unwatched);
    let version = "1.0.0".parse().unwrap();
    let start = EvolutionStarted {
        changes: changes.iter().map(|id| (*id).to_owned()).collect(),
        commit: scene.head(),
        contract: scene.store().read().unwrap().contract(&version).unwrap().1.contract,
        evolution: evolution.to_owned(),
        nonce: evolution.to_owned(),
        version,
    };
    scene.write(5, Body::EvolutionStarted(start)).unwrap();
    is_alive.then_some(telling)
}

#[test]
fn a_run_whose_program_is_gone_is_ended_in_the_ledger_by_the_next_one() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &["B-2"]);
    begun(&scene, "gone", &["A-1", "B-2"], false);
    let _alive = begun(&scene, "alive", &["A-1"], true);
    std::fs::remove_dir_all(logs(scene.git.private(), "alive")).unwrap();
    let _alive = begun(&scene, "alive-2", &["A-1"], true);
    scene.evolve("1.0.0", &["B-2"]);
    let ledger = scene.store().read().unwrap();
    let ended: Vec<&EvolutionFinished> =
        ledger.finished(&"1.0.0".parse().unwrap()).map(|(_, run)| run).collect();
    let [_, cut, _] = ended[..] else { panic!("{ended:#?}") };
    assert_eq!((cut.evolution.as_str(), cut.result, cut.steps.len()), ("gone", Outcome::Failed, 0));
    assert_eq!(cut.changes.keys().collect::<Vec<_>>(), ["A-1", "B-2"]);
    assert!(cut.why.as_ref().unwrap().contains("cut off"), "{cut:?}");
    assert!(ledger.started("alive-2").is_some());
}

#[test]
fn a_run_that_was_cut_off_takes_nothing_from_what_was_run_again_since() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    begun(&scene, "gone", &["A-1", "B-2"], false);
    let elsewhere = scene.cloned();
    elsewhere.evolve("1.0.0", &["A-1"]);
    scene.evolve("1.0.0", &["A-1"]);
    let ledger = scene.store().read().unwrap();
    let ended: Vec<(&str, Outcome, Vec<&String>)> = ledger
        .finished(&"1.0.0".parse().unwrap())
        .map(|(_, run)| (run.evolution.as_str(), run.result, run.changes.keys().collect()))
        .collect();
    let [(_, Outcome::Passed, _), ("gone", Outcome::Failed, changes), (_, Outcome::Passed, _)] = &ended[..]
    else {
        panic!("{ended:?}")
    };
    assert_eq!(changes, &["B-2"]);
}

#[test]
fn a_clone_that_leaves_its_remote_out_ends_no_run_that_the_remote_knows() {
    let origin = Scene::new();
    origin.seal(document("1.0.0", "true", "true"));
    let mut clone = origin.cloned();
    begun(&clone, "gone", &["A-1"], false);
    clone.store().fetch().unwrap();
    let remote = clone.remote.take();
    clone.evolve("1.0.0", &["B-2"]);
    let version = "1.0.0".parse().unwrap();
    assert_eq!(clone.store().read().unwrap().finished(&version).count(), 1);
    clone.remote = remote;
    clone.evolve("1.0.0", &["B-2"]);
    assert_eq!(origin.store().read().unwrap().finished(&version).count(), 3);
}

#[test]
fn a_key_that_may_not_run_begins_nothing() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let version = "1.0.0".parse().unwrap();
    let plan = Plan {
        version: &version,
        wanted: Wanted::All,
        commit: scene.head(),
        jobs: 1,
        random: crate::scene::random(),
    };
    let approver = key(3);
    let refused = start(&scene.store(), &hand(&approver), &plan, &Unwatched).unwrap_err();
    assert_eq!(refused.code, Code::RoleMissing);
    assert_eq!(scene.store().read().unwrap().events().len(), 2);
    assert_eq!(std::fs::read_dir(scene.git.private().join("logs")).unwrap().count(), 0);
}
