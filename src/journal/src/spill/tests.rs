//! The file itself; what becomes of its records is tested from outside.

use super::*;
use crate::storage::FileSystem;
use estoppel_evidence::Sha256;
use estoppel_evidence::entry::RunClass;

fn intent(n: u8) -> Spilled {
    let run = SpilledRun { id: RunId::new(1, [1; 10]), class: RunClass::Ambient, name: None, opened_us: 5 };
    let call = CallId::new(1, [n; 10]);
    Spilled { run, what: What::Intent { call, operation: "op".into(), policy: Sha256([0; 32]) } }
}

/// A file of batches of intents: generation, then the calls of each batch.
fn file(path: &Path, generation: u64, batches: &[&[u8]]) -> Vec<u64> {
    let mut content = Vec::new();
    let mut starts = Vec::new();
    for batch in batches {
        let base = content.len() as u64;
        for n in *batch {
            starts.push(content.len() as u64);
            assert!(encode(&mut content, generation, base, intent(*n), &[]));
        }
    }
    let file = FileSystem.open_write(path).unwrap();
    file.write_at(&content, 0).unwrap();
    starts
}

fn check(path: &Path, generation: u64, calls: &[u8]) -> LeftOver {
    let (found, left) = look(&*FileSystem.open(path).unwrap(), path).unwrap();
    let keys: Vec<SpillKey> = left.records.iter().map(|record| record.key).collect();
    let expected: Vec<SpillKey> = calls.iter().map(|n| SpillKey::of(&intent(*n).what)).collect();
    assert_eq!((found, keys), (generation, expected));
    left
}

#[test]
fn records_of_the_newest_generation_are_found_behind_those_of_older_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spill");
    file(&path, 5, &[&[1, 2], &[3, 4, 5]]);
    check(&path, 5, &[1, 2, 3, 4, 5]);
    let starts = file(&path, 6, &[&[6], &[7]]);
    let left = check(&path, 6, &[6, 7]);
    assert!(left.gap > starts[1]);
}

#[test]
fn what_cannot_be_read_is_told_apart_by_the_batch_behind_it() {
    use std::os::unix::fs::FileExt as _;
    for (damaged, lost) in [(0, true), (1, true), (2, false), (3, false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill");
        let starts = file(&path, 5, &[&[0, 1], &[2, 3]]);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff], starts[damaged] + 20).unwrap();
        let rest: Vec<u8> = (0..4).filter(|n| usize::from(*n) != damaged).collect();
        let left = check(&path, 5, &rest);
        assert_eq!(left.records.iter().any(|record| record.base > left.gap), lost, "{damaged}");
    }
}
