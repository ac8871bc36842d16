//! Opening again: what is cut, what is continued, what is refused.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use estoppel_evidence::entry::{Durability, SealReason};
use estoppel_evidence::{CaptureKey, Reason};
use estoppel_journal::{Journal, JournalError, Keys, Settings, SystemClock};
use std::sync::Arc;

use crate::kit::*;

/// Changes bytes of a segment.
fn change(dir: &Path, segment: &str, at: usize, change: impl Fn(&mut [u8])) {
    let path = dir.join("segments").join(segment);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes[at..]);
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(&bytes, 0).unwrap();
}

/// Where each frame of a segment starts, with its kind; then where the zeros begin.
fn frames(bytes: &[u8]) -> (Vec<(usize, u8)>, usize) {
    let mut at = 256;
    let mut out = Vec::new();
    loop {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return (out, at);
        }
        out.push((at, bytes[at + 4]));
        at += 17 + length;
    }
}

/// A journal that stopped without its last checkpoint: three receipts stand above the newest one.
fn stopped() -> tempfile::TempDir {
    let dir = quick_dir();
    let settings = Settings { checkpoint_every: LONG, ..settings(dir.path()) };
    let journal = open(settings).unwrap();
    journal.store_policy(estoppel_evidence::Sha256::of(POLICY), POLICY).unwrap();
    fill(&journal, Some("job"), 3);
    journal.checkpoint().wait().unwrap();
    fill(&journal, Some("job"), 2);
    let run = journal.run(Some("job")).unwrap();
    put(&journal, &run, stream_record(run.capture(), 3));
    copy(dir.path())
}

fn reason(dir: &Path) -> Reason {
    open(settings(dir)).err().expect("refused").reason()
}

#[test]
fn a_process_that_is_killed_leaves_everything_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let mut calls = Vec::new();
    for round in 0..10 {
        calls.extend(fill(&journal, Some("job").filter(|_| round % 2 == 0), 3));
        let killed = copy(dir.path());
        let again = open(settings(killed.path())).unwrap();
        let more = fill(&again, Some("job"), 1);
        again.close(LONG).unwrap();
        check_journal(killed.path());
        let all = [calls.clone(), more].concat();
        check_calls(killed.path(), &all, &all);
    }
    std::mem::forget(journal);
}

#[test]
fn the_last_frame_may_be_torn_at_every_byte() {
    let dir = stopped();
    let (name, bytes) = segments(dir.path()).remove(0);
    let (frames, end) = frames(&bytes);
    let (last, kind) = *frames.last().unwrap();
    let (blob, blob_kind) = frames[frames.len() - 2];
    assert_eq!((kind, blob_kind), (1, 2), "a blob and its entry come last");
    let before = receipts(dir.path()).len();
    // Every byte of a small part of each frame, and some in between.
    for cut in (blob + 1..end).filter(|at| at % 7 == 0 || at - blob < 20 || end - at < 20) {
        for fill in [0u8, 0xff] {
            let torn = copy(dir.path());
            change(torn.path(), &name, cut, |bytes| bytes[..end - cut].fill(fill));
            let same = std::fs::read(torn.path().join("segments").join(&name)).unwrap() == bytes;
            let journal = open(settings(torn.path())).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            journal.close(LONG).unwrap();
            let report = judge(torn.path());
            assert!(report.passed(), "cut at {cut}: {:?}", report.finding);
            let recovered: Vec<_> =
                entries(torn.path()).into_iter().filter(|entry| entry["kind"] == "journal.recover").collect();
            if same {
                assert!(recovered.is_empty());
                continue;
            }
            assert_eq!(receipts(torn.path()).len(), before - 1, "cut at {cut}");
            assert_eq!(recovered.len(), 1, "cut at {cut}");
            assert_eq!(recovered[0]["last_index"], frames.iter().filter(|(_, kind)| *kind == 1).count() - 2);
            assert!(
                recovered[0]["dropped_bytes"].as_u64().unwrap() >= 1
                    && recovered[0]["dropped_sha256"].is_string()
            );
        }
    }
    let _ = last;
}

#[test]
fn what_was_torn_is_cut_once() {
    let dir = stopped();
    let (name, bytes) = segments(dir.path()).remove(0);
    let (_, end) = frames(&bytes);
    change(dir.path(), &name, end, |bytes| bytes[..100].fill(7));
    for _ in 0..3 {
        open(settings(dir.path())).unwrap().close(LONG).unwrap();
        check_journal(dir.path());
    }
    let recovered =
        entries(dir.path()).into_iter().filter(|entry| entry["kind"] == "journal.recover").count();
    assert_eq!(recovered, 1);
}

#[test]
fn damage_with_frames_behind_it_is_refused_and_nothing_is_touched() {
    let dir = stopped();
    let (name, bytes) = segments(dir.path()).remove(0);
    let (frames, _) = frames(&bytes);
    for (at, _) in &frames[..frames.len() - 2] {
        for offset in [0, 4, 5, 13, 30] {
            let damaged = copy(dir.path());
            change(damaged.path(), &name, at + offset, |bytes| bytes[0] ^= 0x40);
            let before = segments(damaged.path());
            let error = open(settings(damaged.path())).err().unwrap();
            assert_eq!(error.reason(), Reason::JournalCorrupt, "{at} + {offset}: {error}");
            assert_eq!(segments(damaged.path()), before);
        }
    }
}

#[test]
fn a_damaged_header_or_a_missing_segment_is_refused() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let run = journal.run(None).unwrap();
    for _ in 0..8 {
        put(&journal, &run, big_record());
    }
    drop(run);
    journal.close(LONG).unwrap();
    let names: Vec<String> = segments(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert!(names.len() >= 3);
    for name in &names {
        let damaged = copy(dir.path());
        change(damaged.path(), name, 60, |bytes| bytes[0] ^= 1);
        assert_eq!(reason(damaged.path()), Reason::JournalCorrupt, "header of {name}");
    }
    for name in &names[..names.len() - 1] {
        let damaged = copy(dir.path());
        std::fs::remove_file(damaged.path().join("segments").join(name)).unwrap();
        assert_eq!(reason(damaged.path()), Reason::JournalCorrupt, "{name} missing");
        let damaged = copy(dir.path());
        let path = damaged.path().join("segments").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let (frames, _) = frames(&bytes);
        let (end, kind) = *frames.last().unwrap();
        assert_eq!(kind, 4);
        change(damaged.path(), name, end, |bytes| bytes[..18].fill(0));
        assert_eq!(reason(damaged.path()), Reason::JournalCorrupt, "{name} without its end");
    }
}

#[test]
fn a_journal_that_was_rolled_back_is_refused() {
    let (dir, elsewhere) = (quick_dir(), quick_dir());
    let with_store =
        |dir: &Path| Settings { checkpoint_store: Some(elsewhere.path().join("store")), ..settings(dir) };
    let journal = open(with_store(dir.path())).unwrap();
    fill(&journal, None, 3);
    journal.close(LONG).unwrap();
    drop(journal);
    let old = copy(dir.path());
    let journal = open(with_store(dir.path())).unwrap();
    fill(&journal, None, 3);
    journal.close(LONG).unwrap();
    drop(journal);
    // The whole folder was put back; only the store knows better.
    let error = open(with_store(old.path())).err().unwrap();
    assert_eq!(error.reason(), Reason::JournalRollback, "{error}");
    assert!(matches!(error, JournalError::Rollback { .. }));
    assert!(open(with_store(dir.path())).is_ok());
}

#[test]
fn a_shorter_journal_than_its_own_checkpoint_is_refused() {
    let dir = stopped();
    let journal = open(settings(dir.path())).unwrap();
    fill(&journal, None, 3);
    journal.close(LONG).unwrap();
    let (name, bytes) = segments(dir.path()).remove(0);
    let (frames, end) = frames(&bytes);
    let cut = frames[frames.len() - 6].0;
    // Cut clean: everything from some frame on is gone.
    let clean = copy(dir.path());
    change(clean.path(), &name, cut, |bytes| bytes[..end - cut].fill(0));
    assert_eq!(reason(clean.path()), Reason::JournalRollback);
    // Torn below the checkpoint that was published: this was acknowledged once, so it is damage.
    let torn = copy(dir.path());
    change(torn.path(), &name, cut + 9, |bytes| bytes[..end - cut - 9].fill(0));
    assert_eq!(reason(torn.path()), Reason::JournalCorrupt);
}

#[test]
fn a_journal_that_went_another_way_is_refused() {
    let (dir, elsewhere) = (quick_dir(), quick_dir());
    let with_store =
        |dir: &Path| Settings { checkpoint_store: Some(elsewhere.path().join("store")), ..settings(dir) };
    let journal = open(with_store(dir.path())).unwrap();
    fill(&journal, None, 3);
    journal.close(LONG).unwrap();
    drop(journal);
    let fork = copy(dir.path());
    for dir in [dir.path(), fork.path()] {
        // The copy is written without the store, as if by someone who does not know of it.
        let journal = open(settings(dir)).unwrap();
        fill(&journal, None, 3);
        journal.close(LONG).unwrap();
    }
    let journal = open(with_store(dir.path())).unwrap();
    journal.close(LONG).unwrap();
    drop(journal);
    let journal = open(settings(fork.path())).unwrap();
    fill(&journal, None, 3);
    journal.close(LONG).unwrap();
    drop(journal);
    let error = open(with_store(fork.path())).err().unwrap();
    assert_eq!(error.reason(), Reason::JournalFork, "{error}");
}

#[test]
fn a_checkpoint_file_of_someone_else_is_refused() {
    let dir = stopped();
    std::fs::write(dir.path().join("checkpoint"), "nonsense\n").unwrap();
    assert_eq!(reason(dir.path()), Reason::JournalCorrupt);
}

#[test]
fn the_derived_hashes_may_be_lost_or_damaged() {
    for damage in [None, Some(vec![]), Some(vec![7; 500])] {
        let dir = stopped();
        match damage {
            None => std::fs::remove_file(dir.path().join("hashes")).unwrap(),
            Some(bytes) => std::fs::write(dir.path().join("hashes"), bytes).unwrap(),
        }
        let journal = open(settings(dir.path())).unwrap();
        let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
        check_bundle(&sealed.path);
        // Damaged while the journal is open, proofs are made from the segments.
        fill(&journal, Some("next"), 3);
        std::fs::write(dir.path().join("hashes"), vec![9; 5_000]).unwrap();
        let sealed = journal.seal_blocking("next", SealReason::Clean).unwrap();
        check_bundle(&sealed.path);
    }
}

#[test]
fn unfinished_segments_are_removed() {
    let dir = stopped();
    let left = dir.path().join("segments/00000000000000000099.seg.tmp");
    std::fs::write(&left, [0; 1_000]).unwrap();
    open(settings(dir.path())).unwrap().close(LONG).unwrap();
    assert!(!left.exists());
    check_journal(dir.path());
}

#[test]
fn runs_that_cannot_be_continued_truly_are_sealed() {
    let weaker = |dir: &Path| Settings { durability: Durability::Memory, ..settings(dir) };
    let same = |dir: &Path| settings(dir);
    let other_capture = Keys { capture: CaptureKey::new([77; 32]), ..keys() };
    for (settings, keys, sealed) in
        [(weaker as fn(&Path) -> Settings, keys(), true), (same, other_capture, true), (same, keys(), false)]
    {
        let dir = stopped();
        let before = open_job(dir.path());
        let journal = Journal::open(settings(dir.path()), keys, Arc::new(SystemClock::new())).unwrap();
        let after = journal.run(Some("job")).unwrap().id().to_string();
        assert_eq!(before != after, sealed);
        fill(&journal, Some("job"), 1);
        if sealed {
            eventually("its bundle is written", || {
                dir.path().join(format!("bundles/{before}.pef.zip")).exists()
            });
        }
        journal.close(LONG).unwrap();
        check_journal(dir.path());
    }
}

fn open_job(dir: &Path) -> String {
    let opens = entries(dir);
    let open = opens.iter().rfind(|entry| entry["kind"] == "run.open" && entry["name"] == "job").unwrap();
    open["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_seal_without_a_checkpoint_behind_it_is_anchored_at_the_next_start() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    let bytes = std::fs::read(&sealed.path).unwrap();
    let torn = copy(dir.path());
    drop(journal);
    // As if the process had ended between the seal and its checkpoint.
    let (name, content) = segments(torn.path()).remove(0);
    let (frames, end) = frames(&content);
    let seal = entries(torn.path()).iter().rposition(|entry| entry["kind"] == "run.seal").unwrap();
    let place = frames.iter().filter(|(_, kind)| *kind == 1).nth(seal).unwrap().0;
    let behind = frames.iter().find(|(at, _)| *at > place).unwrap().0;
    change(torn.path(), &name, behind, |bytes| bytes[..end - behind].fill(0));
    std::fs::remove_file(torn.path().join("checkpoint")).unwrap();
    std::fs::remove_dir_all(torn.path().join("bundles")).unwrap();
    let journal = open(settings(torn.path())).unwrap();
    let again = journal.export(sealed.run).wait().unwrap();
    check_bundle(&again.path);
    assert_eq!(again.root, sealed.root);
    assert_eq!(std::fs::read(&again.path).unwrap().len(), bytes.len());
    journal.close(LONG).unwrap();
    check_journal(torn.path());
}

#[test]
fn bundles_that_a_crash_prevented_are_written_at_the_next_start() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    let first = std::fs::read(&sealed.path).unwrap();
    let killed = copy(dir.path());
    std::fs::remove_file(killed.path().join("bundles").join(sealed.path.file_name().unwrap())).unwrap();
    std::fs::remove_file(killed.path().join("bundled")).unwrap();
    drop(journal);
    let journal = open(settings(killed.path())).unwrap();
    let again = killed.path().join("bundles").join(sealed.path.file_name().unwrap());
    eventually("the bundle is written", || again.exists());
    assert_eq!(std::fs::read(&again).unwrap(), first);
    journal.close(LONG).unwrap();
}
