//! Sealing and bundles.

use std::time::Duration;

use estoppel_evidence::entry::{RunClass, SealReason, ShadowRecord, ShadowState, VerdictAction};
use estoppel_evidence::{Reason, Sha256};
use estoppel_journal::{Journal, RunState, SealError, SystemClock};

use crate::disk::{Disk, Plan};
use crate::kit::*;

#[test]
fn a_sealed_run_has_a_bundle_that_passes_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("other"), 3);
    let run = journal.run(Some("job")).unwrap();
    for units in [0, 1, 2, 1_000, 70_000] {
        put(&journal, &run, stream_record(run.capture(), units));
    }
    drop(run);
    fill(&journal, Some("job"), 20);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    let report = check_bundle(&sealed.path);
    assert_eq!((report.entries, report.counters.calls), (27, 25));
    assert_eq!((sealed.entries, sealed.name.as_deref()), (27, Some("job")));
    assert_eq!(sealed.bytes, std::fs::metadata(&sealed.path).unwrap().len());
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn exporting_again_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(Some("job")).unwrap();
    put(&journal, &run, stream_record(run.capture(), 10));
    drop(run);
    fill(&journal, None, 10);
    fill(&journal, Some("job"), 10);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    let first = std::fs::read(&sealed.path).unwrap();
    fill(&journal, Some("job"), 10);
    std::fs::remove_file(&sealed.path).unwrap();
    assert_eq!(journal.export(sealed.run).wait().unwrap(), sealed);
    assert_eq!(std::fs::read(&sealed.path).unwrap(), first);
    journal.close(LONG).unwrap();
    drop(journal);
    std::fs::remove_file(&sealed.path).unwrap();
    let journal = open(settings(dir.path())).unwrap();
    assert_eq!(journal.export(sealed.run).wait().unwrap(), sealed);
    assert_eq!(std::fs::read(&sealed.path).unwrap(), first);
}

#[test]
fn a_run_with_calls_in_flight_is_busy_and_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(Some("job")).unwrap();
    put(&journal, &run, record());
    let error = journal.seal_blocking("job", SealReason::Clean).unwrap_err();
    assert_eq!(error.reason(), Reason::RunBusy);
    assert_eq!(journal.run(Some("job")).unwrap().id(), run.id());
    drop(run);
    assert!(journal.seal_blocking("job", SealReason::Clean).is_ok());
}

#[test]
fn a_seal_waits_for_the_last_call() {
    let dir = tempfile::tempdir().unwrap();
    let journal = estoppel_journal::Journal::open(
        estoppel_journal::Settings { seal_wait: LONG, ..settings(dir.path()) },
        keys(),
        std::sync::Arc::new(estoppel_journal::SystemClock::new()),
    )
    .unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    let (slot, run) = (journal.admit().unwrap(), journal.run(Some("job")).unwrap());
    let seal = journal.seal("job", SealReason::Clean);
    eventually("the seal waits", || journal.runs().iter().any(|run| run.state == RunState::Sealing));
    drop(slot.commit(&run, record()));
    drop(run);
    let sealed = seal.wait().unwrap();
    assert_eq!(sealed.entries, 3);
    check_bundle(&sealed.path);
}

#[test]
fn a_name_is_free_again_after_its_run_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    let first = journal.seal_blocking("job", SealReason::Clean).unwrap();
    fill(&journal, Some("job"), 2);
    let second = journal.seal_blocking("job", SealReason::Clean).unwrap();
    assert_ne!(first.run, second.run);
    assert!(matches!(
        journal.seal_blocking(&first.run.to_string(), SealReason::Clean),
        Err(SealError::Done { .. })
    ));
    let again = journal.seal_blocking("job", SealReason::Clean);
    assert!(matches!(again, Err(SealError::Done { bundle }) if bundle == Some(second.path)));
    assert!(matches!(journal.seal_blocking("none", SealReason::Clean), Err(SealError::Unknown)));
    journal.close(LONG).unwrap();
    let opens: Vec<_> = entries(dir.path())
        .into_iter()
        .filter(|entry| entry["kind"] == "run.open" && entry["name"] == "job")
        .collect();
    assert!(opens[1]["previous_seal"].is_string());
    check_journal(dir.path());
}

#[test]
fn the_ambient_run_is_replaced_when_it_is_long_or_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let settings = estoppel_journal::Settings {
        ambient_entries: 5,
        ambient_every: Duration::from_secs(100),
        ..settings(dir.path())
    };
    let journal = estoppel_journal::Journal::open(settings, keys(), clock.clone()).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    let mut ids = vec![journal.run(None).unwrap().id()];
    fill(&journal, None, 5);
    clock.pass(Duration::from_secs(30));
    fill(&journal, Some("other"), 1); // makes the writer look at the clock
    eventually("long enough", || journal.run(None).unwrap().id() != ids[0]);
    ids.push(journal.run(None).unwrap().id());
    fill(&journal, None, 1);
    clock.pass(Duration::from_secs(101));
    fill(&journal, Some("other"), 1);
    eventually("old enough", || journal.run(None).unwrap().id() != ids[1]);
    eventually("two bundles", || journal.stats().bundles == 2);
    journal.close(LONG).unwrap();
    for id in ids {
        check_bundle(&dir.path().join(format!("bundles/{id}.pef.zip")));
    }
    check_journal(dir.path());
}

#[test]
fn a_run_that_callers_left_is_sealed_with_the_reason_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let settings = estoppel_journal::Settings { run_idle: Duration::from_secs(100), ..settings(dir.path()) };
    let journal = estoppel_journal::Journal::open(settings, keys(), clock.clone()).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    fill(&journal, Some("left"), 1);
    drop(journal.run(Some("never used")).unwrap());
    let busy = journal.run(Some("busy")).unwrap();
    put(&journal, &busy, record());
    clock.pass(Duration::from_secs(101));
    fill(&journal, Some("fresh"), 1);
    eventually("sealed", || journal.stats().bundles == 1);
    let open: Vec<_> = journal.runs().into_iter().filter(|run| run.state == RunState::Open).collect();
    let names: Vec<_> = open.iter().filter_map(|run| run.name.as_deref()).collect();
    assert_eq!(names, ["busy", "fresh"]);
    drop(busy);
    journal.close(LONG).unwrap();
    let seals: Vec<_> = entries(dir.path()).into_iter().filter(|entry| entry["kind"] == "run.seal").collect();
    assert_eq!(seals[0]["reason"], "timeout");
    check_journal(dir.path());
}

#[test]
fn a_missing_policy_is_named_and_can_be_stored_later() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(settings(dir.path())).unwrap();
    fill(&journal, Some("job"), 1);
    let id = journal.run(Some("job")).unwrap().id();
    let error = journal.seal_blocking("job", SealReason::Clean).unwrap_err();
    assert!(matches!(error, SealError::PolicyMissing { .. }), "{error}");
    assert!(journal.store_policy(Sha256::of(b"x"), POLICY).is_err());
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    check_bundle(&journal.export(id).wait().unwrap().path);
}

#[test]
fn bodies_are_in_the_bundle_or_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(Some("job")).unwrap();
    for bytes in [10, (25 << 20) + 1] {
        let mut writer = journal.bodies().create(None).unwrap();
        writer.write(&vec![7; bytes]).unwrap();
        let (digest, bytes) = writer.finish().unwrap();
        put(&journal, &run, stored_record(digest, bytes));
    }
    drop(run);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    assert_eq!(check_bundle(&sealed.path).externals, 1);
}

#[test]
fn what_is_stored_and_is_not_what_its_name_says_is_not_sealed() {
    for alter in [|bytes: &mut Vec<u8>| bytes[0] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(5)] {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path());
        let run = journal.run(Some("job")).unwrap();
        let mut writer = journal.bodies().create(None).unwrap();
        writer.write(&[7; 10]).unwrap();
        let (digest, bytes) = writer.finish().unwrap();
        put(&journal, &run, stored_record(digest, bytes));
        drop(run);
        let stored = dir.path().join("bodies").join(&digest.hex()[..2]).join(digest.hex());
        let mut altered = std::fs::read(&stored).unwrap();
        alter(&mut altered);
        std::fs::write(&stored, altered).unwrap();
        let error = journal.seal_blocking("job", SealReason::Clean).unwrap_err();
        assert_eq!(error.reason(), Reason::JournalCorrupt, "{error}");
    }
}

#[test]
fn a_bundle_has_the_shadow_policies_that_are_there_and_is_sealed_without_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let (kept, gone): (&[u8], &[u8]) = (b"{\"policy\":\"candidate\"}", b"{\"policy\":\"gone\"}");
    journal.store_policy(Sha256::of(kept), kept).unwrap();
    let said = |policy: &[u8]| ShadowRecord {
        policy: Sha256::of(policy),
        reason: None,
        rule: None,
        state: ShadowState::Judged,
        verdict: Some(VerdictAction::Allow),
    };
    let run = journal.run(Some("job")).unwrap();
    let mut record = record();
    record.shadow = [kept, gone, POLICY].map(said).into();
    put(&journal, &run, record);
    drop(run);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    check_bundle(&sealed.path);
    let bundle = std::fs::read(&sealed.path).unwrap();
    let has = |policy: &[u8]| {
        let name = format!("policy/{}.json", Sha256::of(policy).hex());
        bundle.windows(name.len()).any(|window| window == name.as_bytes())
    };
    assert_eq!([has(kept), has(gone), has(POLICY)], [true, false, true]);
}

#[test]
fn a_damaged_line_is_never_exported() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 3);
    journal.close(LONG).unwrap();
    drop(journal);
    let journal = open(settings(dir.path())).unwrap();
    let (name, mut bytes) = segments(dir.path()).remove(0);
    let at = bytes.windows(6).rposition(|w| w == b"stub\",").unwrap();
    bytes[at] ^= 1;
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(dir.path().join("segments").join(name)).unwrap();
    file.write_all_at(&bytes[at..at + 1], at as u64).unwrap();
    let error = journal.seal_blocking("job", SealReason::Clean).unwrap_err();
    assert_eq!(error.reason(), Reason::JournalCorrupt, "{error}");
    // The instance run of the first process has a bundle, and nothing else is there.
    assert_eq!(std::fs::read_dir(dir.path().join("bundles")).unwrap().count(), 1);
}

#[test]
fn the_instances_own_run_is_sealed_by_closing_only_and_its_bundle_stays() {
    let dir = tempfile::tempdir().unwrap();
    let open_journal = journal(dir.path());
    fill(&open_journal, Some("job"), 1);
    let own = open_journal.runs().into_iter().find(|run| run.class == RunClass::Instance).unwrap().id;
    for which in [own.to_string(), "instance".into()] {
        let error = open_journal.seal_blocking(&which, SealReason::Clean).unwrap_err();
        assert_eq!((error.reason(), matches!(error, SealError::Own)), (Reason::RunBusy, true), "{error}");
    }
    open_journal.policy_loaded(Some(Sha256::of(POLICY)), None);
    let killed = copy(dir.path());
    open_journal.close(LONG).unwrap();
    check_journal(dir.path());
    check_bundle(&dir.path().join(format!("bundles/{own}.pef.zip")));
    let clock = std::sync::Arc::new(estoppel_journal::SystemClock::new());
    let offline = estoppel_journal::Journal::open_offline(killed.path(), keys(), None, None, clock).unwrap();
    assert!(matches!(offline.seal_blocking(&own.to_string(), SealReason::Clean), Err(SealError::Own)));
    offline.close(LONG).unwrap();
}

#[test]
fn a_bundle_of_other_content_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("one"), 1);
    fill(&journal, Some("two"), 2);
    let one = journal.seal_blocking("one", SealReason::Clean).unwrap();
    let two = journal.seal_blocking("two", SealReason::Clean).unwrap();
    std::fs::copy(&two.path, &one.path).unwrap();
    let error = journal.export(one.run).wait().unwrap_err();
    assert!(matches!(&error, SealError::Replaced { path } if *path == one.path), "{error}");
    assert_eq!(std::fs::read(&one.path).unwrap(), std::fs::read(&two.path).unwrap());
    std::fs::write(&one.path, b"torn").unwrap();
    assert_eq!(journal.export(one.run).wait().unwrap(), one);
    check_bundle(&one.path);
}

#[test]
fn the_ambient_run_is_sealed_by_that_word() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, None, 2);
    let id = journal.run(None).unwrap().id();
    let sealed = journal.seal_blocking("ambient", SealReason::Clean).unwrap();
    assert_eq!(sealed.run, id);
    check_bundle(&sealed.path);
}

#[test]
fn a_bundle_that_is_gone_is_written_again_by_sealing_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(Some("job")).unwrap();
    put(&journal, &run, stream_record(run.capture(), 10));
    drop(run);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    let first = std::fs::read(&sealed.path).unwrap();
    fill(&journal, Some("later"), 3);
    let id = sealed.run.to_string();
    let again = |journal: &Journal, which: &str| {
        assert_eq!(journal.seal_blocking(which, SealReason::Clean).unwrap(), sealed, "{which}");
        assert_eq!(std::fs::read(&sealed.path).unwrap(), first, "{which}");
        let there = journal.seal_blocking(which, SealReason::Clean);
        assert!(matches!(there, Err(SealError::Done { bundle }) if bundle == Some(sealed.path.clone())));
    };
    for which in ["job", &id] {
        std::fs::remove_file(&sealed.path).unwrap();
        again(&journal, which);
    }
    std::fs::remove_dir_all(dir.path().join("bundles")).unwrap();
    again(&journal, "job");
    std::fs::write(&sealed.path, &first[..first.len() / 2]).unwrap();
    again(&journal, "job");
    journal.close(LONG).unwrap();
    std::fs::remove_file(&sealed.path).unwrap();
    let journal = open(settings(dir.path())).unwrap();
    again(&journal, &id);
    assert_eq!(journal.stats().bundles_failed, 0);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

/// Files in the folder of the bundles.
fn bundles(dir: &std::path::Path) -> Vec<String> {
    let folder = std::fs::read_dir(dir.join("bundles")).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the journal says of how far bundles are written.
fn bundled(dir: &std::path::Path) -> u64 {
    std::fs::read_to_string(dir.join("bundled")).map_or(0, |text| text.parse().unwrap())
}

#[test]
fn what_a_full_disk_kept_from_its_bundle_is_written_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(Plan::never());
    let clock = std::sync::Arc::new(SystemClock::new());
    let storage = std::sync::Arc::new(disk.clone());
    let journal = Journal::open_on(storage, settings(dir.path()), keys(), clock).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    let mut writer = journal.bodies().create(None).unwrap();
    writer.write(&vec![7; (25 << 20) + 1]).unwrap();
    let (digest, bytes) = writer.finish().unwrap();
    let run = journal.run(Some("job")).unwrap();
    put(&journal, &run, stored_record(digest, bytes));
    drop(run);
    fill(&journal, Some("first"), 1);
    fill(&journal, Some("last"), 1);
    journal.seal_blocking("first", SealReason::Clean).unwrap();
    let (before, mark) = (bundles(dir.path()), bundled(dir.path()));
    for end in [".part", &format!("{}.tmp", digest.hex()), ".pef.zip.tmp"] {
        disk.fill(Some(end));
        let error = journal.seal_blocking("job", SealReason::Clean).unwrap_err();
        assert_eq!(error.reason(), Reason::DiskFull, "{end}: {error}");
        assert!(error.to_string().contains("seal it again"), "{end}: {error}");
        let left = bundles(dir.path());
        assert!(left.iter().all(|name| before.contains(name) || name.ends_with(".d")), "{end}: {left:?}");
        let beside = left.iter().filter(|name| name.ends_with(".d"));
        let beside =
            beside.flat_map(|name| std::fs::read_dir(dir.path().join("bundles").join(name)).unwrap());
        assert!(
            !beside
                .map(|entry| entry.unwrap().path())
                .any(|path| path.extension().is_some_and(|end| end == "tmp")),
            "{end}"
        );
    }
    disk.fill(None);
    journal.seal_blocking("last", SealReason::Clean).unwrap();
    assert_eq!(bundled(dir.path()), mark, "the bundle of a run before is missing");
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    check_bundle(&sealed.path);
    let size = journal.stats().entries;
    assert!(bundled(dir.path()) > mark, "none is missing any more");
    assert!(bundled(dir.path()) <= size);
    assert!(bundles(dir.path()).iter().all(|name| !name.ends_with(".tmp")), "{:?}", bundles(dir.path()));
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn whoever_asks_for_what_is_no_sealed_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("open"), 1);
    fill(&journal, Some("job"), 1);
    let open_run = journal.run(Some("open")).unwrap().id();
    let unknown = estoppel_evidence::RunId::new(1, [1; 10]);
    assert_eq!(journal.export(unknown).wait().unwrap_err().reason(), Reason::RunUnknown);
    assert_eq!(journal.export(open_run).wait().unwrap_err().reason(), Reason::RunBusy);
    let error = journal.seal_blocking(&unknown.to_string(), SealReason::Clean).unwrap_err();
    assert_eq!(error.reason(), Reason::RunUnknown, "{error}");
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    assert_eq!((bundled(dir.path()), journal.stats().bundles_failed), (sealed.index + 1, 0));
    journal.close(LONG).unwrap();
}

#[test]
fn a_bundle_that_is_written_again_does_not_make_those_after_it_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let first = journal(dir.path());
    fill(&first, Some("one"), 1);
    fill(&first, Some("two"), 1);
    let one = first.seal_blocking("one", SealReason::Clean).unwrap();
    let two = first.seal_blocking("two", SealReason::Clean).unwrap();
    first.close(LONG).unwrap();
    let mark = bundled(dir.path());
    let next = open(settings(dir.path())).unwrap();
    assert_eq!(next.export(one.run).wait().unwrap(), one);
    assert_eq!(bundled(dir.path()), mark);
    next.close(LONG).unwrap();
    // What is deleted on purpose stays away.
    std::fs::remove_file(&two.path).unwrap();
    open(settings(dir.path())).unwrap().close(LONG).unwrap();
    assert!(!two.path.exists());
}
