//! Replacing keys while runs are open.

use std::sync::Arc;

use estoppel_evidence::entry::SealReason;
use estoppel_evidence::{Alg, Reason, SoftKey, Use};
use estoppel_journal::signer::fast;
use estoppel_journal::{Journal, Keys, RotateError, RunState, SystemClock, keys as key_files};

use crate::kit::*;

#[test]
fn keys_are_replaced_in_every_open_run_and_bundles_still_pass() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    fill(&journal, None, 2);
    for (use_, seed) in [(Use::Receipt, 50), (Use::Checkpoint, 51), (Use::Manifest, 52), (Use::Receipt, 53)] {
        let rotated = journal.rotate(use_, fast(SoftKey::ed25519(&[seed; 32]))).wait().unwrap();
        assert_eq!((rotated.use_, rotated.runs), (use_, 3));
        fill(&journal, Some("job"), 2);
        check_journal(dir.path());
    }
    let p256 = Arc::new(SoftKey::p256(&[54; 32]).unwrap());
    journal.rotate(Use::Receipt, p256.clone()).wait().unwrap();
    fill(&journal, Some("job"), 2);
    fill(&journal, Some("later"), 2);
    for name in ["job", "later"] {
        check_bundle(&journal.seal_blocking(name, SealReason::Clean).unwrap().path);
    }
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn a_bundle_that_is_exported_after_a_rotation_passes_too() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    let sealed = journal.seal_blocking("job", SealReason::Clean).unwrap();
    for (use_, seed) in [(Use::Checkpoint, 51), (Use::Manifest, 52)] {
        journal.rotate(use_, fast(SoftKey::ed25519(&[seed; 32]))).wait().unwrap();
    }
    check_bundle(&journal.export(sealed.run).wait().unwrap().path);
}

#[test]
fn a_key_that_signed_once_is_never_taken_again() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let key = || fast(SoftKey::ed25519(&[50; 32]));
    journal.rotate(Use::Receipt, key()).wait().unwrap();
    for use_ in [Use::Receipt, Use::Manifest] {
        assert!(matches!(journal.rotate(use_, key()).wait(), Err(RotateError::Known { .. })));
        assert!(matches!(journal.rotate(use_, keys().receipt).wait(), Err(RotateError::Known { .. })));
    }
    let p256 = Arc::new(SoftKey::p256(&[54; 32]).unwrap());
    let error = journal.rotate(Use::Checkpoint, p256).wait().unwrap_err();
    assert_eq!(error.reason(), Reason::KeyInvalid);
    fill(&journal, None, 1);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

#[test]
fn a_key_that_cannot_show_possession_changes_nothing() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 1);
    let public = SoftKey::ed25519(&[50; 32]).public_key();
    let broken = estoppel_journal::signer::CommandSigner::new(
        &["false".to_owned()],
        public,
        std::time::Duration::from_secs(5),
    );
    assert!(matches!(
        journal.rotate(Use::Receipt, Arc::new(broken.unwrap())).wait(),
        Err(RotateError::Key(_))
    ));
    fill(&journal, Some("job"), 1);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
}

trait PublicKeyOf {
    fn public_key(&self) -> estoppel_evidence::PublicKey;
}

impl PublicKeyOf for SoftKey {
    fn public_key(&self) -> estoppel_evidence::PublicKey {
        estoppel_evidence::Signer::public(self).clone()
    }
}

fn open_with(dir: &std::path::Path, keys: Keys) -> Result<Journal, estoppel_journal::JournalError> {
    Journal::open(settings(dir), keys, Arc::new(SystemClock::new()))
}

/// How the keys are held that do not sign any more.
fn replaced(folder: &std::path::Path) -> Vec<&'static str> {
    let rows = key_files::list(folder).unwrap();
    rows.iter().filter(|row| !row.current).map(|row| row.held).collect()
}

#[test]
fn a_rotation_in_the_key_folder_is_recorded_at_the_next_start() {
    for use_ in Use::ALL {
        let dir = quick_dir();
        let folder = dir.path().join("keys");
        key_files::init(&folder, Alg::Ed25519).unwrap();
        let journal = open_with(dir.path(), key_files::load(&folder).unwrap()).unwrap();
        journal.store_policy(estoppel_evidence::Sha256::of(POLICY), POLICY).unwrap();
        fill(&journal, Some("job"), 2);
        drop(journal);
        let new = key_files::rotate(&folder, use_, Alg::Ed25519).unwrap().public().id();
        assert_eq!(replaced(&folder), ["kept"]);
        let journal = open_with(dir.path(), key_files::load(&folder).unwrap()).unwrap();
        assert_eq!(replaced(&folder), ["retired"], "only its public key is left");
        fill(&journal, Some("job"), 2);
        check_bundle(&journal.seal_blocking("job", SealReason::Clean).unwrap().path);
        journal.close(LONG).unwrap();
        check_journal(dir.path());
        let rotations: Vec<_> = entries(dir.path())
            .into_iter()
            .filter(|entry| entry["kind"] == "key.rotate" && entry["new"] == new.to_string())
            .collect();
        assert_eq!(rotations.len(), 2, "in the run and in the instance run");
    }
}

#[test]
fn a_running_journal_takes_a_rotated_key_and_removes_the_old_one() {
    let dir = quick_dir();
    let folder = dir.path().join("keys");
    key_files::init(&folder, Alg::Ed25519).unwrap();
    let journal = open_with(dir.path(), key_files::load(&folder).unwrap()).unwrap();
    fill(&journal, Some("job"), 2);
    let new = key_files::rotate(&folder, Use::Receipt, Alg::P256).unwrap();
    journal.rotate(Use::Receipt, new).wait().unwrap();
    assert_eq!(replaced(&folder), ["retired"]);
    fill(&journal, Some("job"), 2);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    drop(journal);
    assert!(open_with(dir.path(), key_files::load(&folder).unwrap()).is_ok());
}

#[test]
fn another_key_without_a_rotation_is_refused() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    fill(&journal, Some("job"), 2);
    journal.close(LONG).unwrap();
    drop(journal);
    let error = open_with(dir.path(), keys_from(90)).err().unwrap();
    assert_eq!(error.reason(), Reason::KeyInvalid, "{error}");
    assert!(open(settings(dir.path())).is_ok(), "the old key still opens it");
}

#[test]
fn a_crash_in_the_middle_of_a_rotation_is_mended_at_the_next_start() {
    let dir = quick_dir();
    let folder = dir.path().join("keys");
    key_files::init(&folder, Alg::Ed25519).unwrap();
    let journal = open_with(dir.path(), key_files::load(&folder).unwrap()).unwrap();
    fill(&journal, Some("one"), 1);
    fill(&journal, Some("two"), 1);
    let new = key_files::rotate(&folder, Use::Receipt, Alg::Ed25519).unwrap();
    let before = copy(dir.path());
    journal.rotate(Use::Receipt, new).wait().unwrap();
    let after = copy(dir.path());
    drop(journal);
    // One of the three entries is on disk, the rest is torn; the old key is still there.
    let (name, bytes) = segments(after.path()).remove(0);
    let mut at = 256;
    let mut rotations = Vec::new();
    while bytes[at..at + 4] != [0; 4] {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if bytes[at..at + 17 + length].windows(12).any(|w| w == b"\"key.rotate\"") {
            rotations.push(at);
        }
        at += 17 + length;
    }
    let mut content = bytes.clone();
    content[rotations[1] + 30..].fill(0);
    std::fs::write(before.path().join("segments").join(name), content).unwrap();
    let folder = before.path().join("keys");
    let journal = open_with(before.path(), key_files::load(&folder).unwrap()).unwrap();
    fill(&journal, Some("one"), 1);
    fill(&journal, Some("two"), 1);
    journal.close(LONG).unwrap();
    check_journal(before.path());
    assert_eq!(replaced(&folder), ["retired"]);
}

#[test]
fn runs_are_sealed_before_they_have_more_keys_than_a_bundle_holds() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    for n in 0..70u8 {
        journal.rotate(Use::Receipt, fast(SoftKey::ed25519(&[100 + n; 32]))).wait().unwrap();
        fill(&journal, Some("job"), 1);
        fill(&journal, None, 1);
    }
    eventually("each class is sealed", || journal.stats().bundles >= 3);
    assert_eq!(journal.stats().bundles_failed, 0);
    journal.close(LONG).unwrap();
    check_journal(dir.path());
    let sealed = journal.runs().into_iter().filter(|run| run.state == RunState::Sealed);
    let classes: std::collections::HashSet<String> = sealed
        .inspect(|run| drop(check_bundle(run.bundle.as_ref().unwrap())))
        .map(|run| format!("{:?}", run.class))
        .collect();
    assert_eq!(classes.len(), 3, "{classes:?}");
}

#[test]
fn a_rotation_waits_for_a_run_that_cannot_be_sealed_yet() {
    let dir = quick_dir();
    let journal = journal(dir.path());
    let busy = journal.run(Some("job")).unwrap();
    put(&journal, &busy, record());
    let refused = (0..70u8)
        .find_map(|n| journal.rotate(Use::Receipt, fast(SoftKey::ed25519(&[100 + n; 32]))).wait().err());
    let error = refused.unwrap();
    assert!(matches!(error, RotateError::Run { run } if run == busy.id()), "{error}");
    assert_eq!(error.reason(), Reason::RunBusy);
    let id = busy.id();
    drop(busy);
    let bundle = dir.path().join(format!("bundles/{id}.pef.zip"));
    eventually("sealed", || bundle.exists());
    check_bundle(&bundle);
    journal.rotate(Use::Receipt, fast(SoftKey::ed25519(&[99; 32]))).wait().unwrap();
}
