//! Runs in any order, and their limits.

use estoppel_evidence::capture::Label;
use estoppel_evidence::entry::{Act, Event, Hold, HoldOf, RunClass, SealReason};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{HoldId, Reason, Sha256};
use estoppel_journal::{AckError, Refused, RunState, Settings};
use proptest::prelude::*;

use crate::kit::*;

#[test]
fn named_runs_are_limited_and_the_ambient_run_is_never_refused() {
    let dir = quick_dir();
    let journal = open(Settings { runs_max: 3, ..settings(dir.path()) }).unwrap();
    for name in ["a", "b", "c"] {
        fill(&journal, Some(name), 1);
    }
    assert!(matches!(journal.run(Some("d")), Err(Refused::Full { .. })));
    assert!(journal.run(Some("a")).is_ok() && journal.run(None).is_ok());
    journal.close(LONG).unwrap();
    assert!(journal.run(None).is_ok(), "also when nothing can be recorded: the slot says so");
}

#[test]
fn names_are_made_fit_for_an_entry() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let long = "é".repeat(500);
    for name in ["a\u{fdd0}b", &long, "\"quoted\"\n"] {
        fill(&journal, Some(name), 1);
    }
    assert_eq!(journal.run(Some("")).unwrap().name(), None);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn a_run_that_would_not_fit_a_bundle_is_sealed_and_followed_by_another() {
    let dir = quick_dir();
    let settings = Settings { run_files_max: 10, queue_entries: 4, ..settings(dir.path()) };
    let journal = open(settings).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..40 {
        for name in [Some("job"), None] {
            let run = journal.run(name).unwrap();
            ids.insert(run.id());
            put(&journal, &run, stream_record(run.capture(), 2));
        }
    }
    assert!(ids.len() >= 6, "{} runs", ids.len());
    eventually("bundles of all but the last two", || journal.stats().bundles as usize >= ids.len() - 2);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let sealed = journal.runs().into_iter().filter(|run| run.state == RunState::Sealed && run.entries > 3);
    for run in sealed {
        check_bundle(&run.bundle.unwrap());
    }
}

#[test]
fn runs_left_behind_by_a_crash_are_sealed() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, None, 2);
    let busy = journal.run(None).unwrap();
    let pending = journal.seal(&busy.id().to_string(), SealReason::Clean);
    eventually("detached", || journal.run(None).unwrap().id() != busy.id());
    fill(&journal, None, 2);
    let killed = copy(dir.path());
    drop(busy);
    pending.wait().unwrap();
    let journal =
        open(Settings { run_idle: std::time::Duration::from_secs(1), ..settings(killed.path()) }).unwrap();
    eventually("only one ambient run stays", || {
        fill(&journal, None, 1);
        journal.stats().bundles >= 1
    });
    journal.close(LONG).unwrap();
    check_journal(killed.path());
}

#[test]
fn an_unknown_run_cannot_be_exported() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 1);
    let open = journal.run(Some("job")).unwrap().id();
    assert_eq!(journal.export(open).wait().unwrap_err().reason(), Reason::RunBusy);
    let unknown = estoppel_evidence::RunId::new(1, [1; 10]);
    assert_eq!(journal.export(unknown).wait().unwrap_err().reason(), Reason::RunUnknown);
}

#[derive(Clone, Debug)]
enum Step {
    Put { run: usize, units: Option<u64> },
    Seal { run: usize },
    Restart,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4usize, proptest::option::weighted(0.2, 0..5u64)).prop_map(|(run, units)| Step::Put { run, units }),
        2 => (0..4usize).prop_map(|run| Step::Seal { run }),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn runs_may_interleave_in_any_way(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = quick_dir();
        let names = [None, Some("a"), Some("b"), Some("c")];
        let mut journal = journal(dir.path());
        let mut calls = Vec::new();
        let mut bundles = Vec::new();
        for step in steps {
            match step {
                Step::Put { run, units } => {
                    let run = journal.run(names[run]).unwrap();
                    let record = units.map_or_else(record, |units| stream_record(run.capture(), units));
                    calls.push(put(&journal, &run, record));
                }
                Step::Seal { run } => {
                    let id = journal.run(names[run]).unwrap().id();
                    bundles.push(journal.seal_blocking(&id.to_string(), SealReason::Clean).unwrap().path);
                }
                Step::Checkpoint => drop(journal.checkpoint().wait().unwrap()),
                Step::Restart => {
                    drop(journal);
                    journal = crate::kit::journal(dir.path());
                }
            }
        }
        journal.close(LONG).unwrap();
        check_journal(dir.path());
        check_calls(dir.path(), &calls, &calls);
        bundles.iter().for_each(|path| drop(check_bundle(path)));
    }
}

#[test]
fn runs_are_sealed_before_they_name_more_policies_than_a_bundle_holds() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let own = journal.runs().into_iter().find(|run| run.class == RunClass::Instance).unwrap().id;
    let mut ids = std::collections::HashSet::new();
    for n in 0..1_100u32 {
        let text = n.to_be_bytes();
        let policy = Sha256::of(&text);
        journal.store_policy(policy, &text).unwrap();
        journal.policy_loaded(Some(policy), None);
        let run = journal.run(Some("job")).unwrap();
        let mut record = record();
        record.policy.hash = policy;
        ids.insert(run.id());
        put(&journal, &run, record);
    }
    assert!(ids.len() > 1);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let sealed: Vec<_> = journal.runs().into_iter().filter(|run| run.state == RunState::Sealed).collect();
    assert!(sealed.iter().filter(|run| run.class == RunClass::Instance).count() > 1);
    assert!(sealed.iter().any(|run| run.id == own));
    assert_eq!(journal.stats().bundles_failed, 0);
    for run in sealed {
        check_bundle(&run.bundle.unwrap());
    }
}

#[test]
fn an_event_is_noted_in_its_run_which_stays_open_until_then() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let run = journal.run(Some("payments")).unwrap();
    let hold = Hold {
        approvers: vec![estoppel_evidence::KeyId([1; 32])],
        call: record().call,
        expires: UnixMicros(u64::MAX),
        hold: HoldId::new(1, [1; 10]),
        needs: 1,
        of: HoldOf::Body,
        operation: None,
        payload: run.capture().tag(Label::RequestBody, &[0; 32]),
        policy: Sha256::of(b"policy"),
        requester: None,
        rule: Some("large".into()),
        tool: None,
    };
    let act = Act { act: "kill", by: "ada".into(), comment: None, on: None, reason: None };
    let noted = journal.note(Some(&run), Event::Hold(hold));
    let name = run.id().to_string();
    drop(run);
    let acted = journal.note(None, Event::Act(act));
    let bundle = journal.seal_blocking(&name, SealReason::Clean).unwrap();
    assert!(noted.wait().unwrap().leaf().is_some() && acted.wait().unwrap().leaf().is_some());
    let report = check_bundle(&bundle.path);
    assert_eq!(report.entries, 3);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let kinds: Vec<_> = entries(dir.path()).iter().map(|entry| entry["kind"].clone()).collect();
    assert!(kinds.contains(&"hold".into()) && kinds.contains(&"act".into()));
    assert_eq!(
        journal
            .note(
                None,
                Event::Act(Act { act: "kill", by: "a".into(), comment: None, on: None, reason: None })
            )
            .wait(),
        Err(AckError::Closed)
    );
}
