//! Every operation on the disk fails once in every way, and the power is cut at every operation: what was acknowledged
//! is there afterwards, exactly once, and nothing that was not committed.

use std::path::Path;
use std::sync::Arc;

use estoppel_evidence::entry::{Intent, SealReason};
use estoppel_evidence::{CallId, Reason, Sha256};
use estoppel_journal::{AckError, Journal, Refused, Settings, SystemClock};
use rustix::io::Errno;

use crate::disk::{Disk, Fault, Kind, Plan};
use crate::kit::*;

#[derive(Default)]
struct Done {
    acknowledged: Vec<CallId>,
    committed: Vec<CallId>,
}

fn open_on(disk: &Disk, settings: Settings) -> Option<Journal> {
    Journal::open_on(Arc::new(disk.clone()), settings, keys(), Arc::new(SystemClock::new())).ok()
}

/// Opens, writes two segments of two runs, seals one, opens again, writes, closes. Goes on after each error as a
/// gateway would.
fn scenario(disk: &Disk, settings: &Settings) -> Done {
    let mut done = Done::default();
    for round in 0..2 {
        let Some(journal) = open_on(disk, settings.clone()) else { continue };
        let _ = journal.store_policy(Sha256::of(POLICY), POLICY);
        for n in 0..6 {
            let Ok(run) = journal.run(Some("job").filter(|_| n % 2 == 0)) else { continue };
            let Ok(slot) = journal.admit() else { continue };
            let record = if n < 3 && round == 0 { big_record() } else { record() };
            let call = record.call;
            let intent = Intent { call, operation: "op".into(), policy: Sha256::of(POLICY) };
            if slot.intent(&run, intent).wait().is_err() {
                continue; // nothing is sent upstream
            }
            done.committed.push(call);
            if slot.commit(&run, record).wait().is_ok() {
                done.acknowledged.push(call);
            }
        }
        if round == 0 {
            let _ = journal.seal_blocking("job", SealReason::Clean);
        }
        let _ = journal.close(LONG);
    }
    done
}

/// After whatever happened a healthy disk gives a journal that passes every step and goes on.
fn check_after(dir: &Path, settings: &Settings, mut done: Done, what: &str) {
    let journal = open(settings.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let _ = journal.store_policy(Sha256::of(POLICY), POLICY);
    let call = fill(&journal, Some("job"), 1)[0];
    done.acknowledged.push(call);
    done.committed.push(call);
    let sealed =
        journal.seal_blocking("job", SealReason::Clean).unwrap_or_else(|error| panic!("{what}: {error}"));
    journal.close(LONG).unwrap();
    let report = judge(dir);
    assert!(report.passed(), "{what}: {:?}", report.finding);
    check_bundle(&sealed.path);
    check_calls(dir, &done.acknowledged, &done.committed);
    let open_intents = entries(dir).into_iter().fold(std::collections::HashSet::new(), |mut open, entry| {
        let call = entry["call"].as_str().unwrap_or_default().to_owned();
        match entry["kind"].as_str().unwrap() {
            "intent" => drop(open.insert(call)),
            "call" | "interrupted" => drop(open.remove(&call)),
            _ => {}
        }
        open
    });
    assert!(open_intents.is_empty(), "{what}: every announced call is concluded");
}

fn fault_settings(dir: &Path) -> Settings {
    Settings {
        durability: estoppel_evidence::entry::Durability::Sync,
        checkpoint_every: LONG, // only where the scenario asks for one, so that operations can be counted
        ..settings(dir)
    }
}

/// How many operations of a kind the scenario makes when nothing fails.
fn operations(kind: Kind) -> u64 {
    let dir = quick_dir();
    let disk = Disk::new(Plan::never());
    let settings = fault_settings(dir.path());
    let done = scenario(&disk, &settings);
    assert_eq!(done.acknowledged.len(), 12);
    let count = disk.count(kind);
    check_after(dir.path(), &settings, done, "nothing failed");
    count
}

fn every_operation(kind: Kind, faults: &[Fault], errors: &[Errno]) {
    let count = operations(kind);
    let (mut hits, mut tries) = (0, 0);
    for at in 0..count {
        for fault in faults {
            for error in errors {
                let what = format!("{kind:?} {at} of {count} {fault:?} {error}");
                let dir = quick_dir();
                let settings = fault_settings(dir.path());
                let disk = Disk::new(Plan { kind, at, fault: *fault, error: *error, times: 1 });
                let done = scenario(&disk, &settings);
                tries += 1;
                hits += u64::from(disk.hit());
                if *fault == Fault::PowerCut {
                    disk.cut_power();
                }
                check_after(dir.path(), &settings, done, &what);
            }
        }
    }
    // The number of operations varies a little with the timing of batches.
    assert!(count > 3 && hits * 10 >= tries * 9, "{kind:?}: {hits} of {tries} faults happened");
}

#[test]
fn every_write_may_fail() {
    every_operation(Kind::Write, &[Fault::Failed, Fault::Persisted, Fault::Torn], &[Errno::IO]);
}

#[test]
fn every_sync_may_fail() {
    every_operation(Kind::Sync, &[Fault::Failed, Fault::Persisted], &[Errno::IO]);
}

#[test]
fn every_rename_and_every_new_file_may_fail() {
    every_operation(Kind::Rename, &[Fault::Failed, Fault::Persisted], &[Errno::IO, Errno::NOSPC]);
    every_operation(Kind::Create, &[Fault::Failed, Fault::Persisted], &[Errno::IO, Errno::NOSPC]);
    every_operation(Kind::Allocate, &[Fault::Failed, Fault::Persisted], &[Errno::IO, Errno::NOSPC]);
}

#[test]
fn the_power_may_be_cut_at_every_operation() {
    every_operation(Kind::Any, &[Fault::PowerCut], &[Errno::IO]);
}

/// A journal with three records, and a disk that obeys from then on.
fn ready(settings: Settings) -> (Disk, Journal, Vec<CallId>) {
    let disk = Disk::new(Plan::never());
    let journal = open_on(&disk, settings).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    let calls = fill(&journal, None, 3);
    journal.checkpoint().wait().unwrap();
    (disk, journal, calls)
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_or_admitted() {
    for (kind, fault) in
        [(Kind::Sync, Fault::Failed), (Kind::Sync, Fault::Persisted), (Kind::Write, Fault::Torn)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (disk, journal, calls) = ready(fault_settings(dir.path()));
        let run = journal.run(None).unwrap();
        let slots: Vec<_> = (0..10).map(|_| journal.admit().unwrap()).collect();
        disk.plan(Plan { kind, at: 0, fault, error: Errno::IO, times: 1 });
        let acks: Vec<_> = slots.into_iter().map(|slot| slot.commit(&run, record())).collect();
        for ack in acks {
            assert_eq!(ack.wait(), Err(AckError::Failed));
        }
        assert_eq!(journal.admit().err(), Some(Refused::Failed(Reason::DiskFailed)));
        assert_eq!(journal.stats().failed, Some(Reason::DiskFailed));
        let writes = disk.count(Kind::Write);
        drop(run);
        assert!(journal.close(LONG).is_err());
        assert_eq!(disk.count(Kind::Write), writes, "the segment is not touched again");
        drop(journal);
        let after = entries(dir.path());
        open(settings(dir.path())).unwrap().close(LONG).unwrap();
        check_journal(dir.path());
        for call in calls {
            assert!(after.iter().any(|entry| entry["call"] == call.to_string()));
        }
    }
}

#[test]
fn a_full_disk_stalls_the_next_segment_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { queue_entries: 8, ..settings(dir.path()) };
    let (disk, journal, mut acknowledged) = ready(settings);
    let run = journal.run(None).unwrap();
    disk.plan(Plan {
        kind: Kind::Allocate,
        at: 0,
        fault: Fault::Failed,
        error: Errno::NOSPC,
        times: u64::MAX,
    });
    let mut pending = Vec::new();
    let mut committed = acknowledged.clone();
    loop {
        match journal.admit() {
            Ok(slot) => {
                let record = big_record();
                committed.push(record.call);
                pending.push((record.call, slot.commit(&run, record)));
            }
            Err(refused) => {
                assert!(matches!(refused, Refused::Full { .. }), "{refused:?}");
                if journal.stats().stalled {
                    break;
                }
            }
        }
    }
    assert_eq!(journal.stats().failed, None);
    disk.plan(Plan::never());
    for (call, ack) in pending {
        ack.wait().unwrap();
        acknowledged.push(call);
    }
    assert!(!journal.stats().stalled);
    drop(run);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    check_calls(dir.path(), &acknowledged, &committed);
    assert_eq!(acknowledged, committed);
}

#[test]
fn a_journal_that_is_stalled_can_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { queue_entries: 8, ..settings(dir.path()) };
    let (disk, journal, mut calls) = ready(settings);
    let run = journal.run(None).unwrap();
    disk.plan(Plan {
        kind: Kind::Allocate,
        at: 0,
        fault: Fault::Failed,
        error: Errno::NOSPC,
        times: u64::MAX,
    });
    let mut acks = Vec::new();
    while !journal.stats().stalled {
        if let Ok(slot) = journal.admit() {
            let record = big_record();
            acks.push((record.call, slot.commit(&run, record)));
        }
    }
    drop(run);
    let error = journal.close(std::time::Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.reason(), Reason::DiskFull);
    let committed: Vec<_> = calls.iter().copied().chain(acks.iter().map(|(call, _)| *call)).collect();
    calls.extend(acks.into_iter().filter_map(|(call, ack)| ack.wait().is_ok().then_some(call)));
    check_journal(dir.path());
    check_calls(dir.path(), &calls, &committed);
}

#[test]
fn a_key_that_does_not_sign_fails_closed() {
    let dir = tempfile::tempdir().unwrap();
    let public = keys().receipt.public().clone();
    let broken = estoppel_journal::signer::CommandSigner::new(
        &["false".to_owned()],
        public,
        std::time::Duration::from_secs(5),
    );
    let keys = estoppel_journal::Keys { receipt: Arc::new(broken.unwrap()), ..keys() };
    let error = Journal::open(settings(dir.path()), keys, Arc::new(SystemClock::new())).err().unwrap();
    assert_eq!(error.reason(), Reason::EvidenceFailed, "{error}");
    open(settings(dir.path())).unwrap().close(LONG).unwrap();
    check_journal(dir.path());
}
