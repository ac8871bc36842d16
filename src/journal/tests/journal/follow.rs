//! Reading along.

use std::path::{Path, PathBuf};

use estoppel_evidence::entry::{Durability, Sign};
use estoppel_evidence::hash::Leaf;
use estoppel_journal::{Entry, Followed, Follower, Journal, Position, ReadError};

use crate::kit::*;

/// Everything that is durable now, in reads of `many` entries, without what is no entry.
fn rest(follower: &mut Follower, many: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        match follower.read(many, usize::MAX).unwrap() {
            Followed::Entries(entries) => {
                assert!(!entries.is_empty() && entries.len() <= many);
                all.extend(entries);
            }
            Followed::UpToDate => return all,
            other => panic!("{other:?}"),
        }
    }
}

/// What was read is the log itself, without a hole and with the right hashes.
fn check(entries: &[Entry], from: u64, dir: &Path) {
    let lines = lines(dir);
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry.index, from + at as u64);
        assert_eq!(entry.line, lines[entry.index as usize], "{}", entry.index);
        assert_eq!(entry.leaf, Leaf::of(&entry.line));
        assert_eq!((entry.after.index, entry.after.leaf), (entry.index + 1, Some(entry.leaf)));
    }
    assert_eq!(from + entries.len() as u64, lines.len() as u64);
}

/// Lines of the segments in order.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    entries(dir).iter().map(|entry| entry.to_string().into_bytes()).collect()
}

#[test]
fn every_durable_entry_comes_once_and_in_order_over_many_segments() {
    for durability in [Durability::Memory, Durability::Group, Durability::Sync] {
        for sign in [Sign::Each, Sign::Checkpoint] {
            let dir = tempfile::tempdir().unwrap();
            let journal =
                open(estoppel_journal::Settings { durability, sign, ..settings(dir.path()) }).unwrap();
            let mut follower = journal.follow(Position::default());
            let mut read = Vec::new();
            for _ in 0..6 {
                commit_big(&journal);
                fill(&journal, Some("job"), 7);
                read.extend(rest(&mut follower, 3));
            }
            journal.close(LONG).unwrap();
            read.extend(rest(&mut follower, 3));
            assert!(segments(dir.path()).len() > 2);
            assert_eq!(read.iter().all(|entry| entry.signature.is_some()), sign == Sign::Each);
            check(&read, 0, dir.path());
        }
    }
}

#[test]
fn a_reader_goes_on_where_an_earlier_one_stood() {
    let dir = tempfile::tempdir().unwrap();
    let first = journal(dir.path());
    commit_big(&first);
    fill(&first, None, 40);
    let all = rest(&mut first.follow(Position::default()), 1_000);
    first.close(LONG).unwrap();
    for entry in all.iter().step_by(5) {
        let again = journal(dir.path());
        let read = rest(&mut again.follow(entry.after.clone()), 1_000);
        again.close(LONG).unwrap();
        assert_eq!(read.first().unwrap().index, entry.index + 1);
    }
}

#[test]
fn a_bound_of_bytes_still_gives_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, None, 3);
    let mut follower = journal.follow(Position::default());
    let Followed::Entries(entries) = follower.read(100, 1).unwrap() else { panic!() };
    assert_eq!(entries.len(), 1);
    journal.close(LONG).unwrap();
}

#[test]
fn removed_segments_are_a_gap_that_is_named_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    let mut follower = journal.follow(Position::default());
    let Followed::Entries(read) = follower.read(1, 1).unwrap() else { panic!() };
    for _ in 0..10 {
        commit_big(&journal);
    }
    let firsts = firsts(dir.path());
    assert!(firsts.len() >= 4, "{firsts:?}");
    for gone in &firsts[1..3] {
        std::fs::remove_file(segment_path(dir.path(), *gone)).unwrap();
    }
    let (mut entries, mut gaps) = (read, Vec::new());
    loop {
        match follower.read(100, usize::MAX).unwrap() {
            Followed::Entries(more) => entries.extend(more),
            Followed::Gap { from, to, .. } => gaps.push((from, to)),
            Followed::UpToDate => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gaps, [(firsts[1], firsts[2]), (firsts[2], firsts[3])]);
    let expected = (0..firsts[1]).chain(firsts[3]..follower.durable());
    assert!(entries.iter().map(|entry| entry.index).eq(expected));
    drop(journal);
}

#[test]
fn a_journal_that_lost_its_end_is_read_again_from_where_nothing_can_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let first = journal(dir.path());
    fill(&first, None, 10);
    let read = rest(&mut first.follow(Position::default()), 1_000);
    first.close(LONG).unwrap();
    let last = read.last().unwrap();
    let other = tempfile::tempdir().unwrap();
    for calls in [3, 30] {
        // Another journal stands for one that was cut and went on: other entries at the same places.
        let journal = journal(&other.path().join(calls.to_string()));
        fill(&journal, None, calls);
        let mut follower = journal.follow(last.after.clone());
        let found = follower.read(10, usize::MAX).unwrap();
        let after = Position { index: 0, leaf: None, segment: 0 };
        assert_eq!(found, Followed::Rewound { index: last.after.index, after });
        let again = rest(&mut follower, 1_000);
        assert_eq!(again.first().unwrap().index, 0);
        assert_eq!(again.len() as u64, follower.durable());
        journal.close(LONG).unwrap();
    }
}

#[test]
fn a_damaged_segment_is_an_error_and_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path());
    fill(&journal, None, 10);
    let mut follower = journal.follow(Position::default());
    let Followed::Entries(read) = follower.read(4, usize::MAX).unwrap() else { panic!() };
    let path = segment_path(dir.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let at = find(&damaged, &next_line(dir.path(), read.len()));
    damaged[at] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    for _ in 0..2 {
        assert!(matches!(follower.read(100, usize::MAX), Err(ReadError::Damaged { .. })));
        assert_eq!(follower.position().index, 4);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(rest(&mut follower, 100).first().unwrap().index, 4);
    drop(journal);
}

/// First indexes of the segments.
fn firsts(dir: &Path) -> Vec<u64> {
    segments(dir).iter().map(|(name, _)| name.strip_suffix(".seg").unwrap().parse().unwrap()).collect()
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join("segments").join(format!("{first:020}.seg"))
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

fn next_line(dir: &Path, at: usize) -> Vec<u8> {
    lines(dir).swap_remove(at)
}

fn commit_big(journal: &Journal) {
    let run = journal.run(None).unwrap();
    journal.admit().unwrap().commit(&run, big_record()).wait().unwrap();
}
