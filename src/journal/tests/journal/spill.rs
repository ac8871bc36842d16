//! The spill file: what happens when the queue is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use estoppel_evidence::entry::{Intent, SealReason};
use estoppel_evidence::{CallId, Reason, Sha256};
use estoppel_journal::spill::RECORD_BYTES_MAX;
use estoppel_journal::{
    Ack, AckError, Journal, Recorded, Refused, Settings, Slot, SpillSettings, SystemClock,
};
use rustix::io::Errno;

use crate::disk::{Disk, Fault, Kind, Plan};
use crate::kit::*;

struct Bench {
    dir: tempfile::TempDir,
    spill: PathBuf,
    disk: Disk,
}

impl Bench {
    fn new() -> Self {
        let dir = quick_dir();
        let spill = dir.path().join("spill-file");
        Self { dir, spill, disk: Disk::new(Plan::never()) }
    }

    fn settings(&self, dir: &Path) -> Settings {
        let spill = SpillSettings { path: dir.join("spill-file"), bytes_max: 6 * RECORD_BYTES_MAX };
        Settings { spill: Some(spill), queue_entries: 4, ..settings(dir) }
    }

    fn open(&self) -> Journal {
        let settings = self.settings(self.dir.path());
        let journal =
            Journal::open_on(Arc::new(self.disk.clone()), settings, keys(), Arc::new(SystemClock::new()))
                .unwrap();
        journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
        journal
    }

    /// The disk is full for new segments, and the writer waits with what it has.
    fn stalled(&self) -> (Journal, Vec<(CallId, Ack)>) {
        let journal = self.open();
        self.disk.plan(Plan {
            kind: Kind::Allocate,
            at: 0,
            fault: Fault::Failed,
            error: Errno::NOSPC,
            times: u64::MAX,
        });
        let run = journal.run(Some("big")).unwrap();
        let mut queued = Vec::new();
        loop {
            let record = big_record();
            let before = journal.stats().entries;
            eventually("a slot", || journal.admit().is_ok());
            queued.push((record.call, journal.admit().unwrap().commit(&run, record)));
            let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
            while journal.stats().entries == before {
                if journal.stats().stalled && std::time::Instant::now() > until {
                    return (journal, queued);
                }
                std::thread::yield_now();
            }
        }
    }
}

fn spill(journal: &Journal, name: &str, n: usize) -> Vec<CallId> {
    let run = journal.run(Some(name)).unwrap();
    (0..n)
        .map(|_| {
            let record = stream_record(run.capture(), 3);
            let call = record.call;
            let ack = journal.admit().unwrap().commit(&run, record);
            assert_eq!(ack.wait(), Ok(Recorded::Spill));
            call
        })
        .collect()
}

#[test]
fn records_that_find_no_slot_are_durable_in_the_spill_file_and_become_entries_later() {
    let bench = Bench::new();
    let (journal, queued) = bench.stalled();
    let before = journal.stats().spilled;
    let mut calls = spill(&journal, "spilled", 20);
    assert_eq!(journal.stats().spilled, before + 20);
    bench.disk.plan(Plan::never());
    eventually("the spill file is drained", || journal.stats().spilled == 0);
    assert_eq!(journal.stats().spill_bytes, 0);
    for (call, ack) in queued {
        ack.wait().unwrap();
        calls.push(call);
    }
    check_bundle(&journal.seal_blocking("spilled", SealReason::Clean).unwrap().path);
    journal.close(LONG).unwrap();
    check_journal(bench.dir.path());
    check_calls(bench.dir.path(), &calls, &calls);
}

#[test]
fn spilled_records_become_entries_after_a_crash_exactly_once() {
    let bench = Bench::new();
    let (journal, queued) = bench.stalled();
    let spilled = spill(&journal, "spilled", 10);
    let committed: Vec<_> = queued.iter().map(|(call, _)| *call).chain(spilled.iter().copied()).collect();
    let killed = copy(bench.dir.path());
    bench.disk.plan(Plan::never());
    eventually("the spill file is drained", || journal.stats().spilled == 0);
    let drained = copy(bench.dir.path());
    drop(journal);
    for dir in [killed.path(), drained.path()] {
        for _ in 0..2 {
            let journal = open(bench.settings(dir)).unwrap();
            assert_eq!(journal.stats().spilled, 0);
            journal.close(LONG).unwrap();
            check_journal(dir);
            check_calls(dir, &spilled, &committed);
        }
        let journal = open(bench.settings(dir)).unwrap();
        journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
        check_bundle(&journal.seal_blocking("spilled", SealReason::Clean).unwrap().path);
    }
}

#[test]
fn announced_calls_keep_their_order_in_the_spill_file() {
    let bench = Bench::new();
    let (journal, _) = bench.stalled();
    let run = journal.run(Some("spilled")).unwrap();
    let intent = |call| Intent { call, operation: "op".into(), policy: Sha256::of(POLICY) };
    let mut slots: Vec<(Slot, CallId)> = Vec::new();
    for _ in 0..3 {
        let slot = journal.admit().unwrap();
        let call = call_id();
        assert_eq!(slot.intent(&run, intent(call)).wait(), Ok(Recorded::Spill));
        slots.push((slot, call));
    }
    let killed = copy(bench.dir.path());
    let (slot, call) = slots.remove(0);
    let mut record = record();
    record.call = call;
    assert_eq!(slot.commit(&run, record).wait(), Ok(Recorded::Spill));
    drop(slots);
    drop(run);
    bench.disk.plan(Plan::never());
    eventually("drained", || journal.stats().spilled == 0 && journal.stats().spill_bytes == 0);
    journal.close(LONG).unwrap();
    open(bench.settings(killed.path())).unwrap().close(LONG).unwrap();
    for (dir, calls) in [(bench.dir.path(), 1), (killed.path(), 0)] {
        check_journal(dir);
        let of_run: Vec<String> = entries(dir)
            .into_iter()
            .filter(|entry| entry["kind"] != "run.open" && entry["call"].is_string())
            .filter(|entry| entry["kind"] != "call" || entry["sse"].is_null())
            .map(|entry| entry["kind"].as_str().unwrap().to_owned())
            .collect();
        let count = |kind: &str| of_run.iter().filter(|found| *found == kind).count();
        assert_eq!((count("intent"), count("call"), count("interrupted")), (3, calls, 3 - calls));
    }
}

#[test]
fn a_full_spill_file_refuses_and_recovers() {
    let bench = Bench::new();
    let (journal, queued) = bench.stalled();
    let mut slots = Vec::new();
    while let Ok(slot) = journal.admit() {
        slots.push(slot);
    }
    assert!((4..=6).contains(&slots.len()), "{}", slots.len());
    assert!(matches!(journal.admit(), Err(Refused::Full { .. })));
    drop(slots);
    // What is set aside for a call in flight becomes what it took.
    let spilled = spill(&journal, "spilled", 200);
    assert!(journal.stats().spill_bytes < RECORD_BYTES_MAX, "{}", journal.stats().spill_bytes);
    bench.disk.plan(Plan::never());
    let committed: Vec<_> = queued.iter().map(|(call, _)| *call).chain(spilled.iter().copied()).collect();
    for (_, ack) in queued {
        ack.wait().unwrap();
    }
    journal.close(LONG).unwrap();
    check_calls(bench.dir.path(), &committed, &committed);
    check_journal(bench.dir.path());
}

#[test]
fn a_run_with_spilled_records_is_not_sealed_before_they_are_entries() {
    let bench = Bench::new();
    let (journal, _queued) = bench.stalled();
    let calls = spill(&journal, "spilled", 3);
    let seal = journal.seal("spilled", SealReason::Clean);
    bench.disk.plan(Plan::never());
    let sealed = seal.wait().unwrap();
    assert_eq!(sealed.entries, 2 + calls.len() as u64);
}

#[test]
fn an_error_of_the_spill_file_fails_its_records_and_no_others() {
    for fault in [Fault::Failed, Fault::Persisted, Fault::Torn] {
        let bench = Bench::new();
        let (journal, queued) = bench.stalled();
        let good = spill(&journal, "spilled", 3);
        let run = journal.run(Some("spilled")).unwrap();
        let slots: Vec<_> = (0..3).map(|_| journal.admit().unwrap()).collect();
        bench.disk.also(Plan { kind: Kind::Write, at: 0, fault, error: Errno::IO, times: 1 });
        let mut committed = good.clone();
        for slot in slots {
            let record = record();
            committed.push(record.call);
            assert_eq!(slot.commit(&run, record).wait(), Err(AckError::Failed));
        }
        assert!(matches!(journal.admit(), Err(Refused::Full { .. })), "no more slots of the spill file");
        drop(run);
        bench.disk.plan(Plan::never());
        let mut acknowledged = good;
        for (call, ack) in queued {
            ack.wait().unwrap();
            acknowledged.push(call);
            committed.push(call);
        }
        journal.close(LONG).unwrap();
        drop(journal);
        open(bench.settings(bench.dir.path())).unwrap().close(LONG).unwrap();
        check_journal(bench.dir.path());
        check_calls(bench.dir.path(), &acknowledged, &committed);
    }
}

#[test]
fn damage_that_hides_records_is_refused() {
    let bench = Bench::new();
    let (journal, _queued) = bench.stalled();
    spill(&journal, "spilled", 5);
    let killed = copy(bench.dir.path());
    bench.disk.plan(Plan::never());
    drop(journal);
    let path = killed.path().join("spill-file");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open(bench.settings(killed.path())).err().unwrap();
    assert_eq!(error.reason(), Reason::JournalCorrupt, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let _ = &bench.spill;
}
