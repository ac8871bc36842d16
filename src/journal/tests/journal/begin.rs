//! A journal whose oldest segments were deleted: what may go, what a start goes on from, and what it refuses.

use std::path::Path;

use estoppel_evidence::entry::{Act, Event, SealReason};
use estoppel_evidence::envelope::{STATEMENT_TYPE, sign};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, Sha256};
use estoppel_journal::retention::{self, Class, Copy, Plan, RetentionError, Rule, Survey};
use estoppel_journal::{Followed, Journal, Position, SealError};

use crate::kit::*;

fn firsts(dir: &Path) -> Vec<u64> {
    segments(dir).iter().map(|(name, _)| name[..20].parse().unwrap()).collect()
}

/// Fills what is left of a segment with entries of a run.
fn fill_segment(journal: &Journal, dir: &Path, name: &str) {
    let before = firsts(dir).len();
    let run = journal.run(Some(name)).unwrap();
    while firsts(dir).len() == before {
        put(journal, &run, big_record());
    }
}

/// Runs that cross from each segment into the next. What keeps their segments besides is gone.
fn made(dir: &Path) {
    let journal = journal(dir);
    for name in ["one", "two", "three"] {
        fill_segment(&journal, dir, name);
        journal.seal_blocking(name, SealReason::Clean).unwrap();
    }
    fill(&journal, Some("open"), 3);
    journal.close(LONG).unwrap();
    bundles_go(dir);
}

fn bundles_go(dir: &Path) {
    for bundle in std::fs::read_dir(dir.join("bundles")).unwrap() {
        std::fs::remove_file(bundle.unwrap().path()).unwrap();
    }
}

fn note(journal: &Journal, act: &'static str, on: String) {
    let act = Act { act, by: "operator".into(), comment: None, on: Some(on), reason: None };
    journal.note(None, Event::Act(act)).wait().unwrap();
}

/// What an operator did, while nobody else had the journal open.
fn noted(dir: &Path, act: &'static str, on: &str) {
    let journal = open(settings(dir)).unwrap();
    note(&journal, act, on.into());
    journal.close(LONG).unwrap();
    bundles_go(dir);
}

/// The log read through, with a copy of every segment.
fn survey(dir: &Path) -> Survey {
    let mut survey = Survey::of(dir).unwrap();
    let retain_until = UnixMicros::parse("2199-01-01T00:00:00.000000Z").unwrap();
    for (_, bytes) in segments(dir) {
        let sha256 = Sha256::of(&bytes);
        let (bucket, endpoint, version) = ("evidence".into(), "https://s3.test".into(), "1".into());
        let copy = Copy { bucket, endpoint, key: format!("sha256/{}", sha256.hex()), retain_until, version };
        survey.copies.insert(sha256, copy);
    }
    survey
}

fn plan(dir: &Path, survey: &Survey, as_of: &str) -> Plan {
    let rule = Rule { class: Class::Segments, id: "now".into(), keep_days: 0, run_class: None };
    Plan::new(dir, survey, INSTANCE, &[rule], UnixMicros::parse(as_of).unwrap()).unwrap()
}

const LATER: &str = "2190-01-01T00:00:00.000000Z";

/// How many segments may go, and why the first that may not is kept.
#[track_caller]
fn check(dir: &Path, survey: &Survey, due: usize, why: &str) {
    let plan = plan(dir, survey, LATER);
    assert_eq!(plan.objects.len(), due, "{plan:?}");
    assert!(plan.kept.iter().any(|kept| kept.why == why), "{why}: {:?}", plan.kept);
}

/// Says that the plan is begun, and where the journal begins then, as a deletion does before the first file goes.
fn begin(dir: &Path, plan: &Plan, survey: &Survey) {
    let digest = Sha256::of(&plan.statement());
    noted(dir, "retention_planned", &digest.to_string());
    let document = retention::beginning(dir, plan, digest, survey).unwrap().unwrap();
    retention::begin(dir, &sign(STATEMENT_TYPE, &document, &*keys().manifest).unwrap()).unwrap();
    assert_eq!(retention::beginning(dir, plan, digest, survey).unwrap(), None, "it is said once");
}

fn delete(dir: &Path) -> Plan {
    let survey = survey(dir);
    let plan = plan(dir, &survey, LATER);
    begin(dir, &plan, &survey);
    assert_eq!(retention::delete(dir, &plan, &survey, false).unwrap(), []);
    plan
}

#[test]
fn only_segments_go_that_nothing_in_the_journal_needs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made(dir);
    assert_eq!(firsts(dir).len(), 4);
    check(dir, &survey(dir), 3, "open");
    check(dir, &Survey::of(dir).unwrap(), 0, "not_archived");
    let mut soon = survey(dir);
    let copy = segments(dir).into_iter().nth(1).map(|(_, bytes)| Sha256::of(&bytes)).unwrap();
    soon.copies.get_mut(&copy).unwrap().retain_until = UnixMicros::parse(LATER).unwrap();
    check(dir, &soon, 1, "not_archived");
    let young = plan(dir, &survey(dir), "2020-01-01T00:00:00.000000Z");
    assert!(young.objects.is_empty() && young.kept.iter().any(|kept| kept.why == "young"));

    let run = *survey(dir).named("two").collect::<Vec<_>>().first().unwrap();
    std::fs::write(dir.join("bundles").join(format!("{run}.pef.zip")), "a bundle").unwrap();
    check(dir, &survey(dir), 2, "in_use");
    bundles_go(dir);
    noted(dir, "legal_hold", &format!("run:{run}"));
    check(dir, &survey(dir), 1, "held");
    noted(dir, "legal_release", &format!("run:{run}"));
    check(dir, &survey(dir), 3, "open");
}

#[test]
fn what_an_operator_stopped_stays_stopped_because_its_segment_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let journal = journal(dir);
    fill_segment(&journal, dir, "one");
    note(&journal, "kill", "tool:a".into());
    fill_segment(&journal, dir, "one");
    journal.seal_blocking("one", SealReason::Clean).unwrap();
    journal.close(LONG).unwrap();
    bundles_go(dir);
    check(dir, &survey(dir), 1, "in_force");
    delete(dir);
    let journal = open(settings(dir)).unwrap();
    assert_eq!(journal.before().killed.len(), 1);
    note(&journal, "resume", "tool:a".into());
    journal.close(LONG).unwrap();
    bundles_go(dir);
    check(dir, &survey(dir), 1, "open");
}

#[test]
fn a_start_goes_on_from_what_was_before_and_so_do_proofs_and_readers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made(dir);
    let (before, old) = (firsts(dir), entries(dir));
    let gone = *survey(dir).named("two").collect::<Vec<_>>().first().unwrap();
    let mut deleted = 0;
    // Again and again: each deletion goes on from the one before.
    for round in 0..3 {
        let plan = delete(dir);
        deleted += plan.objects.len();
        assert_eq!(firsts(dir).len(), 1);
        let report = check_journal(dir);
        let begins = report.begins.unwrap();
        assert_eq!((begins.size, begins.segments), (firsts(dir)[0], deleted as u64));
        if round == 1 {
            std::fs::remove_file(dir.join("hashes")).unwrap();
        }
        let journal = open(settings(dir)).unwrap();
        let name = format!("round-{round}");
        fill_segment(&journal, dir, &name);
        let sealed = journal.seal_blocking(&name, SealReason::Clean).unwrap();
        check_bundle(&sealed.path);
        if round == 0 {
            check_bundle(&journal.seal_blocking("open", SealReason::Clean).unwrap().path);
        }
        let mut follower = journal.follow(Position::default());
        let Followed::Gap { from, to, after } = follower.read(10, usize::MAX).unwrap() else { panic!() };
        assert_eq!((from, to), (0, begins.size));
        follower.seek(after);
        let Followed::Entries(read) = follower.read(1, usize::MAX).unwrap() else { panic!() };
        assert_eq!(read[0].index, begins.size);
        journal.close(LONG).unwrap();
        bundles_go(dir);
        check_journal(dir);
    }
    let journal = open(settings(dir)).unwrap();
    assert!(matches!(journal.export(gone).wait(), Err(SealError::Unknown)));
    journal.close(LONG).unwrap();
    let mut read = Vec::new();
    estoppel_journal::read_lines(dir, u64::MAX, |line| read.push(line.to_vec())).unwrap();
    assert_eq!(read.len(), entries(dir).len());
    assert!(!read.contains(&old[0].to_string().into_bytes()));
    assert!(firsts(dir)[0] > before[3], "{before:?}");
}

#[test]
fn a_run_of_which_only_the_end_is_there_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made(dir);
    let three = *survey(dir).named("three").collect::<Vec<_>>().first().unwrap();
    delete(dir);
    let journal = open(settings(dir)).unwrap();
    let error = journal.export(three).wait().unwrap_err();
    assert_eq!(error.reason(), Reason::SegmentDeleted, "{error}");
    journal.close(LONG).unwrap();
    // Also where nobody knows any more which bundles are there, a start leaves it alone.
    std::fs::remove_file(dir.join("bundled")).unwrap();
    let journal = open(settings(dir)).unwrap();
    journal.seal_blocking("open", SealReason::Clean).unwrap();
    assert_eq!(journal.stats().bundles_failed, 0);
    journal.close(LONG).unwrap();
}

#[test]
fn a_journal_that_does_not_begin_as_it_says_is_not_opened() {
    let whole = tempfile::tempdir().unwrap();
    made(whole.path());
    let survey = survey(whole.path());
    let plan = plan(whole.path(), &survey, LATER);
    let refused = |what: &str, change: &dyn Fn(&Path)| {
        let dir = copy(whole.path());
        begin(dir.path(), &plan, &survey);
        retention::delete(dir.path(), &plan, &survey, false).unwrap();
        check_journal(dir.path());
        change(dir.path());
        let report = judge(dir.path());
        assert!(!report.passed(), "{what}");
        let error = open(settings(dir.path())).err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(error.reason(), Reason::JournalCorrupt, "{what}: {error}");
    };
    let file = |dir: &Path| dir.join("beginning.json");
    refused("no beginning", &|dir| std::fs::remove_file(file(dir)).unwrap());
    refused("cut off", &|dir| {
        let bytes = std::fs::read(file(dir)).unwrap();
        std::fs::write(file(dir), &bytes[..bytes.len() / 2]).unwrap();
    });
    refused("empty", &|dir| std::fs::write(file(dir), "").unwrap());
    refused("signed by another key", &|dir| {
        let payload = payload(dir);
        let signed = sign(STATEMENT_TYPE, &payload, &*keys_from(40).manifest).unwrap();
        std::fs::write(file(dir), signed).unwrap();
    });
    refused("signed by the receipt key", &|dir| {
        let signed = sign(STATEMENT_TYPE, &payload(dir), &*keys().receipt).unwrap();
        std::fs::write(file(dir), signed).unwrap();
    });
    let changed = |dir: &Path, from: &str, to: &str| {
        let text = String::from_utf8(payload(dir)).unwrap();
        assert!(text.contains(from), "{text}");
        let signed = sign(STATEMENT_TYPE, text.replacen(from, to, 1).as_bytes(), &*keys().manifest).unwrap();
        std::fs::write(file(dir), signed).unwrap();
    };
    refused("not canonical", &|dir| changed(dir, "{\"_type\"", "{ \"_type\""));
    refused("of another instance", &|dir| {
        changed(dir, "\"iss\":\"gw.test/main/1\"", "\"iss\":\"gw.test/main/2\"")
    });
    refused("another tree", &|dir| changed(dir, "\"peaks\":[\"root:", "\"peaks\":[\"root:0"));
    let digest = Sha256::of(&plan.statement()).to_string();
    refused("another plan", &|dir| {
        changed(
            dir,
            &format!("\"plan\":\"{digest}\",\"policy\""),
            &format!("\"plan\":\"{}\",\"policy\"", Sha256::of(b"")),
        );
    });
}

fn payload(dir: &Path) -> Vec<u8> {
    estoppel_evidence::envelope::payload(&std::fs::read(dir.join("beginning.json")).unwrap()).unwrap()
}

#[test]
fn what_is_left_of_a_deletion_is_passed_over_and_goes_with_the_same_plan() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made(dir);
    let survey = survey(dir);
    let plan = plan(dir, &survey, LATER);
    begin(dir, &plan, &survey);
    // Nothing is deleted yet, and nothing of it is read any more: the last byte of the first segment does not matter.
    assert_eq!(check_journal(dir).begins.unwrap().passed_over, 3);
    open(settings(dir)).unwrap().close(LONG).unwrap();
    let two = *survey.named("two").collect::<Vec<_>>().first().unwrap();
    noted(dir, "legal_hold", &format!("run:{two}"));
    let kept = retention::delete(dir, &plan, &self::survey(dir), true).unwrap();
    assert_eq!(kept.iter().map(|kept| kept.why).collect::<Vec<_>>(), ["held", "held"]);
    assert_eq!(firsts(dir).len(), 3, "`two` is in the second and in the third");
    noted(dir, "legal_release", &format!("run:{two}"));
    assert_eq!(retention::delete(dir, &plan, &self::survey(dir), true).unwrap(), []);
    assert_eq!(firsts(dir).len(), 1);
    check_journal(dir);
    // A plan from before that lists them is no plan any more.
    let stale = plan.check(&self::survey(dir));
    assert!(matches!(stale, Err(RetentionError::Stale { why: "unknown", .. })), "{stale:?}");
}

#[test]
fn a_segment_that_was_changed_after_it_was_planned_is_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    made(dir);
    let survey = survey(dir);
    let plan = plan(dir, &survey, LATER);
    let path = dir.join("segments").join(&segments(dir)[0].0);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    let digest = Sha256::of(&plan.statement());
    let refused = retention::beginning(dir, &plan, digest, &survey);
    assert!(matches!(refused, Err(RetentionError::Stale { why: "changed", .. })), "{refused:?}");
    // Without a beginning no segment goes.
    std::fs::write(&path, whole).unwrap();
    let kept = retention::delete(dir, &plan, &survey, false).unwrap();
    assert_eq!(kept.len(), plan.objects.len());
    assert_eq!(firsts(dir).len(), 4);
    check_journal(dir);
}
