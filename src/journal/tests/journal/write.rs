//! Writing, closing, opening again.

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{Durability, Intent, Sign};
use estoppel_journal::{AckError, Journal, Recorded, Refused, SEGMENT_BYTES_MIN};
use std::sync::Arc;

use crate::kit::*;

#[test]
fn a_journal_that_was_written_and_closed_passes_every_step() {
    for sign in [Sign::Each, Sign::Checkpoint] {
        for durability in [Durability::Memory, Durability::Group, Durability::Sync] {
            let dir = tempfile::tempdir().unwrap();
            let settings = estoppel_journal::Settings { sign, durability, ..settings(dir.path()) };
            let journal = open(settings).unwrap();
            let calls = [fill(&journal, None, 5), fill(&journal, Some("job"), 5)].concat();
            journal.close(LONG).unwrap();
            let report = check_journal(dir.path());
            assert_eq!((report.runs, report.runs_sealed), (3, 1), "{sign:?} {durability:?}");
            assert_eq!(report.checkpoint_size, Some(report.entries));
            check_calls(dir.path(), &calls, &calls);
        }
    }
}

#[test]
fn an_empty_journal_passes_every_step() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close(LONG).unwrap();
    assert_eq!(check_journal(dir.path()).entries, 2);
}

#[test]
fn the_acknowledgement_gives_the_entry_hash() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    let recorded = journal.admit().unwrap().commit(&run, record()).wait().unwrap();
    let again = journal.admit().unwrap().commit(&run, record()).wait().unwrap();
    journal.close(LONG).unwrap();
    let Recorded::Journal(leaf) = recorded else { panic!("{recorded:?}") };
    let last = entries(dir.path()).into_iter().rfind(|entry| entry["kind"] == "call").unwrap();
    assert_eq!(last["prev"], leaf.to_string());
    assert_ne!(again.leaf(), Some(leaf));
}

#[test]
fn runs_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut calls = Vec::new();
    let mut id = None;
    for _ in 0..4 {
        let journal = journal(dir.path());
        let run = journal.run(Some("job")).unwrap().id();
        assert_eq!(*id.get_or_insert(run), run);
        calls.extend(fill(&journal, Some("job"), 3));
        calls.extend(fill(&journal, None, 2));
        journal.close(LONG).unwrap();
        check_journal(dir.path());
    }
    check_calls(dir.path(), &calls, &calls);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    assert_eq!(open(settings(dir.path())).err().unwrap().reason(), Reason::JournalLocked);
    journal.close(LONG).unwrap();
    assert!(open(settings(dir.path())).is_ok());
}

#[test]
fn dropping_the_last_handle_stops_without_sealing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let calls = fill(&journal, None, 3);
    drop(journal);
    assert_eq!(check_journal(dir.path()).runs_sealed, 0);
    check_calls(dir.path(), &calls, &calls);
}

#[test]
fn a_closed_journal_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let (slot, run) = (journal.admit().unwrap(), journal.run(None).unwrap());
    journal.close(std::time::Duration::ZERO).unwrap();
    assert_eq!(journal.admit().err(), Some(Refused::Closed));
    assert_eq!(slot.commit(&run, record()).wait(), Err(AckError::Closed));
    check_calls(dir.path(), &[], &[]);
}

#[test]
fn closing_waits_for_calls_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let (slot, run) = (journal.admit().unwrap(), journal.run(None).unwrap());
    let record = record();
    let call = record.call;
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        slot.commit(&run, record).wait()
    });
    journal.close(LONG).unwrap();
    assert!(late.join().unwrap().is_ok());
    check_calls(dir.path(), &[call], &[call]);
    check_journal(dir.path());
}

#[test]
fn slots_are_a_hard_limit_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let mut slots: Vec<_> = (0..256).map(|_| journal.admit().unwrap()).collect();
    assert!(matches!(journal.admit(), Err(Refused::Full { .. })));
    drop(slots.pop());
    let run = journal.run(None).unwrap();
    for _ in 0..1_000 {
        journal.admit().unwrap().commit(&run, record()).wait().unwrap();
    }
    drop(slots);
    eventually("all slots come back", || journal.stats().slots == 0);
    assert_eq!(journal.stats().refused, 1);
}

#[test]
fn refusals_leave_a_gap_entry() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let slots: Vec<_> = (0..256).map(|_| journal.admit().unwrap()).collect();
    for _ in 0..3 {
        assert!(journal.admit().is_err());
    }
    drop(slots);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let gap = entries(dir.path()).into_iter().find(|entry| entry["kind"] == "gap").unwrap();
    assert_eq!((&gap["refused"], &gap["reason"]), (&3.into(), &"EVIDENCE_FULL".into()));
}

#[test]
fn an_announced_call_that_is_dropped_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    let intent =
        |call| Intent { call, operation: "op".into(), policy: estoppel_evidence::Sha256::of(POLICY) };
    let (kept, dropped) = (journal.admit().unwrap(), journal.admit().unwrap());
    let record = record();
    kept.intent(&run, intent(record.call)).wait().unwrap();
    assert_eq!(kept.intent(&run, intent(record.call)).wait(), Err(AckError::Twice));
    let leaf = dropped.intent(&run, intent(call_id())).wait().unwrap().leaf().unwrap();
    drop(dropped);
    kept.commit(&run, record).wait().unwrap();
    eventually("all slots come back", || journal.stats().slots == 0);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let entries = entries(dir.path());
    let interrupted: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "interrupted").collect();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0]["intent"], leaf.to_string());
}

#[test]
fn announced_calls_that_a_crash_left_are_interrupted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    let slot = journal.admit().unwrap();
    let call = call_id();
    let intent = Intent { call, operation: "op".into(), policy: estoppel_evidence::Sha256::of(POLICY) };
    slot.intent(&run, intent).wait().unwrap();
    let crashed = copy(dir.path());
    open(settings(crashed.path())).unwrap().close(LONG).unwrap();
    check_journal(crashed.path());
    let interrupted: Vec<_> =
        entries(crashed.path()).into_iter().filter(|entry| entry["kind"] == "interrupted").collect();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0]["call"], call.to_string());
}

#[test]
fn full_segments_are_closed_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(put(&journal, &run, big_record()));
        calls.push(put(&journal, &run, record()));
    }
    drop(run);
    journal.close(LONG).unwrap();
    assert!(segments(dir.path()).len() >= 3);
    assert!(segments(dir.path()).iter().all(|(_, bytes)| bytes.len() as u64 == SEGMENT_BYTES_MIN));
    check_journal(dir.path());
    check_calls(dir.path(), &calls, &calls);
    open(settings(dir.path())).unwrap().close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn a_stream_that_is_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(Some("job")).unwrap();
    let mut calls = Vec::new();
    for units in [10, 65_536, 10, 20_000] {
        calls.push(put(&journal, &run, stream_record(run.capture(), units)));
    }
    drop(run);
    let sealed = journal.seal_blocking("job", estoppel_evidence::entry::SealReason::Clean).unwrap();
    check_bundle(&sealed.path);
    journal.close(LONG).unwrap();
    assert!(segments(dir.path()).iter().any(|(_, bytes)| bytes.len() as u64 > 8 * SEGMENT_BYTES_MIN));
    check_journal(dir.path());
    check_calls(dir.path(), &calls, &calls);
}

#[test]
fn a_line_that_is_too_long_is_shortened_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    let mut long = record();
    let name = || "é".repeat(128).into_boxed_str();
    long.facts.tools_offered = (0..32).map(|_| name()).collect();
    long.facts.tools_called = (0..32).map(|_| name()).collect();
    let call = put(&journal, &run, long);
    drop(run);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    check_calls(dir.path(), &[call], &[call]);
    let entry = entries(dir.path()).into_iter().find(|entry| entry["kind"] == "call").unwrap();
    assert_eq!(entry["facts"]["more"], 62);
}

#[test]
fn many_producers_are_ordered_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let producers: Vec<_> = (0..64)
        .map(|n| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                let name = format!("run-{}", n % 7);
                let mut calls = Vec::new();
                for _ in 0..40 {
                    let run = journal.run(Some(&name).filter(|_| n % 3 > 0).map(String::as_str)).unwrap();
                    let slot = loop {
                        match journal.admit() {
                            Ok(slot) => break slot,
                            Err(_) => std::thread::yield_now(),
                        }
                    };
                    let record = record();
                    calls.push(record.call);
                    slot.commit(&run, record).wait().unwrap();
                }
                calls
            })
        })
        .collect();
    let calls: Vec<_> = producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect();
    let stats = journal.stats();
    assert!(stats.batches < stats.entries, "records are written in batches");
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    check_calls(dir.path(), &calls, &calls);
}

#[test]
fn a_folder_belongs_to_one_instance() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close(LONG).unwrap();
    let other =
        estoppel_journal::Settings { instance: "gw.test/other/1".parse().unwrap(), ..settings(dir.path()) };
    // The checkpoint is looked at first and says so already.
    assert!(open(other).is_err());
    check_journal(dir.path());
}

#[test]
fn offline_work_needs_no_settings_and_writes_nothing_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 3);
    journal.close(LONG).unwrap();
    let before = entries(dir.path()).len();
    let clock: Arc<dyn estoppel_journal::Clock> = Arc::new(estoppel_journal::SystemClock::new());
    drop(Journal::open_offline(dir.path(), keys(), None, None, clock.clone()).unwrap());
    assert_eq!(entries(dir.path()).len(), before);
    let journal = Journal::open_offline(dir.path(), keys(), None, None, clock).unwrap();
    let sealed = journal.seal_blocking("job", estoppel_evidence::entry::SealReason::Clean).unwrap();
    journal.close(LONG).unwrap();
    check_bundle(&sealed.path);
    check_journal(dir.path());
}

#[test]
fn a_folder_that_is_deleted_fails_the_journal() {
    let dir = quick_dir();
    let journal = journal(&dir.path().join("journal"));
    fill(&journal, None, 1);
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    eventually("failed", || journal.stats().failed == Some(estoppel_evidence::Reason::DirectoryMissing));
    assert!(journal.admit().is_err());
}

#[test]
fn a_checkpoint_that_has_no_folder_fails_the_journal() {
    let dir = quick_dir();
    let (here, away) = (dir.path().join("journal"), dir.path().join("away"));
    let journal = journal(&here);
    std::fs::rename(&here, &away).unwrap();
    fill(&journal, None, 1);
    eventually("failed", || journal.stats().failed == Some(estoppel_evidence::Reason::DirectoryMissing));
}
