use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::made::{ISS, MadeJournal, MadeKey, MadeKeys, MadeRun, RUN, b64, hex, leaf, root, sha, trust};

const OTHER: &str = "0192a000-0000-7000-8000-000000000002";

/// Two runs that interleave, one of them sealed, in two segments with checkpoints.
struct Made {
    keys: MadeKeys,
    one: MadeRun,
    other: MadeRun,
}

impl Made {
    fn new(sign: &'static str) -> Self {
        let keys = MadeKeys::new();
        let mut one = MadeRun::new(RUN, sign, keys.receipt.clone());
        one.open().call("allow").call("block").seal();
        let mut other = MadeRun::new(OTHER, "each", keys.receipt.clone());
        other.open().call("allow").interrupted();
        Made { keys, one, other }
    }

    fn journal(&self) -> MadeJournal {
        let mut journal = MadeJournal::default();
        journal.start_segment().entry(&self.one, 0).entry(&self.other, 0).entry(&self.one, 1);
        journal.checkpoint(&self.keys.checkpoint).end().zeros(40);
        journal.start_segment().entry(&self.one, 2).entry(&self.one, 3).entry(&self.other, 1);
        journal.checkpoint(&self.keys.checkpoint).entry(&self.other, 2).zeros(40);
        journal
    }
}

fn judge_with(journal: &MadeJournal, files: JournalFiles<'_>, options: &Options<'_>) -> Report {
    verify_journal(&mut journal.segments.clone(), files, options).unwrap()
}

fn judge_plain(journal: &MadeJournal) -> Report {
    let trust = MadeKeys::new().trust();
    judge_with(journal, JournalFiles { trust: Some(&trust), ..JournalFiles::default() }, &Options::default())
}

fn found(report: &Report) -> Option<(Reason, Option<u64>, Option<u64>)> {
    report.finding.as_ref().map(|finding| (finding.reason, finding.index, finding.seq))
}

#[track_caller]
fn check(journal: &MadeJournal, reason: Reason, index: impl Into<Option<u64>>, seq: impl Into<Option<u64>>) {
    let report = judge_plain(journal);
    assert_eq!(found(&report), Some((reason, index.into(), seq.into())), "{:?}", report.finding);
}

#[test]
fn a_good_journal_passes() {
    for sign in ["each", "checkpoint"] {
        let made = Made::new(sign);
        let journal = made.journal();
        let report = judge_plain(&journal);
        assert_eq!(report.finding, None);
        assert_eq!(report.verdicts.integrity, Integrity::Ok);
        assert_eq!(report.verdicts.authenticity, Authenticity::SelfAsserted);
        assert_eq!(report.verdicts.completeness, Completeness::Unchecked);
        assert_eq!(report.verdicts.anchoring, Anchoring::Absent);
        assert_eq!((report.entries, report.runs, report.runs_sealed), (7, 2, 1));
        assert_eq!(report.counters.calls, 3);
        assert_eq!(report.root, Some(Hash(root(&journal.leaves))));
        assert_eq!(report.checkpoint_size, Some(6));
        assert_eq!(report.signatures_verified, if sign == "each" { 7 } else { 3 });
        let text = crate::explain(&report).join("\n");
        assert!(text.contains("1 of 2 runs are still open") && text.contains("The last 1 entries"), "{text}");
    }
}

#[test]
fn a_trust_document_takes_the_place_of_the_journals_own() {
    let made = Made::new("each");
    let journal = made.journal();
    let good = made.keys.trust();
    let options = |trust| Options { trust, ..Options::default() };
    let report = judge_with(&journal, JournalFiles::default(), &options(Some(&good)));
    assert_eq!(report.finding, None);
    assert_eq!(report.verdicts.authenticity, Authenticity::Trusted);
    let report = judge_with(&journal, JournalFiles::default(), &options(None));
    assert_eq!(report.finding.map(|finding| finding.reason), Some(Reason::TrustInvalid));
    let other = trust(&[(&MadeKey::new(9), "receipt"), (&made.keys.checkpoint, "checkpoint")]);
    let files = JournalFiles { trust: Some(&good), ..JournalFiles::default() };
    let report = judge_with(&journal, files, &options(Some(&other)));
    assert_eq!(found(&report), Some((Reason::KeyMismatch, Some(0), Some(0))));
    let instance = String::from_utf8(good.clone()).unwrap().replace("main/1", "main/2");
    let report = judge_with(&journal, JournalFiles::default(), &options(Some(instance.as_bytes())));
    assert_eq!(found(&report), Some((Reason::KeyMismatch, Some(0), Some(0))));
}

#[test]
fn what_nobody_signed_is_not_called_authentic() {
    let made = Made::new("checkpoint");
    let mut journal = MadeJournal::default();
    journal.start_segment().entry(&made.one, 0).entry(&made.one, 1);
    let report = judge_plain(&journal);
    assert_eq!((report.finding.clone(), report.verdicts.authenticity), (None, Authenticity::Unchecked));
    let text = crate::explain(&report).join("\n");
    assert!(text.contains("no checkpoint covers them yet"), "{text}");
    journal.checkpoint(&made.keys.checkpoint);
    assert_eq!(judge_plain(&journal).verdicts.authenticity, Authenticity::SelfAsserted);
    journal.entry(&made.one, 2);
    assert_eq!(judge_plain(&journal).verdicts.authenticity, Authenticity::Unchecked);
    let trust = made.keys.trust();
    let note = made.keys.checkpoint.checkpoint(ISS, &journal.leaves);
    let files = JournalFiles { trust: Some(&trust), checkpoint: Some(&note), against: None, beginning: None };
    let report = judge_with(&journal, files, &Options::default());
    assert_eq!(report.verdicts.authenticity, Authenticity::SelfAsserted);
}

#[test]
fn a_revoked_key_counts_up_to_its_index() {
    let made = Made::new("each");
    for (usage, from, expected) in [
        ("receipt", 7, None),
        ("receipt", 6, Some((Reason::KeyRevoked, Some(6), Some(2)))),
        ("receipt", 0, Some((Reason::KeyRevoked, Some(0), Some(0)))),
        ("checkpoint", 6, None),
        ("checkpoint", 5, Some((Reason::KeyRevoked, Some(6), None))),
    ] {
        let text = String::from_utf8(made.keys.trust()).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for row in document["keys"].as_array_mut().unwrap() {
            if row["use"] == usage {
                row["revoked_from_index"] = json!(from);
            }
        }
        let trust = serde_json::to_vec(&document).unwrap();
        let options = Options { trust: Some(&trust), ..Options::default() };
        let report = judge_with(&made.journal(), JournalFiles::default(), &options);
        assert_eq!(found(&report), expected, "{usage} {from}");
    }
}

#[test]
fn segments_have_headers() {
    check(&MadeJournal::default(), Reason::SegmentHeader, None, None);
    let made = Made::new("each");
    let with = |change: &dyn Fn(&mut MadeJournal)| {
        let mut journal = made.journal();
        change(&mut journal);
        journal
    };
    for segment in 0..2 {
        for at in [0, 8, 16, 48, 50, 60, 200, 252] {
            let bad = with(&|journal| journal.segments[segment].1[at] ^= 1);
            check(&bad, Reason::SegmentHeader, None, None);
        }
        check(&with(&|journal| journal.segments[segment].1.truncate(255)), Reason::SegmentHeader, None, None);
        check(
            &with(&|journal| journal.segments[segment].0 = "00000000000000000009.seg".to_owned()),
            Reason::SegmentHeader,
            None,
            None,
        );
    }
    // A header that is well-formed in itself but does not continue the segment before.
    let gap = with(&|journal| {
        let mut later = MadeJournal { leaves: vec![[0; 32]; 4], ..MadeJournal::default() };
        later.start_segment();
        journal.segments[1] = later.segments.remove(0);
    });
    check(&gap, Reason::IndexMismatch, 3, None);
    let other_hash = with(&|journal| {
        let mut later = MadeJournal { leaves: vec![[0; 32]; 3], ..MadeJournal::default() };
        later.start_segment();
        journal.segments[1] = later.segments.remove(0);
    });
    check(&other_hash, Reason::IndexMismatch, 3, None);
    check(&with(&|journal| drop(journal.segments.remove(0))), Reason::IndexMismatch, 0, None);
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let made = Made::new("each");
    let journal = made.journal();
    let whole = journal.segments[1].1.len() - 40;
    let frame = 17 + 65 + made.other.lines[2].len();
    // Cut anywhere inside of the last frame.
    for kept in 4..frame {
        let mut torn = journal.clone();
        torn.segments[1].1.truncate(whole - frame + kept);
        check(&torn, Reason::JournalTorn, 6, None);
        torn.zeros(100);
        check(&torn, Reason::JournalTorn, 6, None);
    }
    // A bad frame before a good one.
    let mut damaged = journal.clone();
    damaged.segments[1].1[256 + 50] ^= 1;
    check(&damaged, Reason::FrameInvalid, 3, None);
    // A bad frame in a segment that is not the last.
    let mut damaged = journal.clone();
    let at = damaged.segments[0].1.len() - 45;
    damaged.segments[0].1[at] ^= 1;
    check(&damaged, Reason::FrameInvalid, 3, None);
    let mut unknown = journal.clone();
    unknown.frame(5, &[1]);
    unknown.segments[1].1.drain(whole..whole + 40);
    check(&unknown, Reason::JournalTorn, 7, None);
}

#[test]
fn frames_follow_each_other() {
    let made = Made::new("each");
    let start = || {
        let mut journal = MadeJournal::default();
        journal.start_segment().entry(&made.one, 0);
        journal
    };
    let mut journal = start();
    journal.leaves.push([0; 32]);
    check(journal.entry(&made.one, 1), Reason::IndexMismatch, 1, None);
    check(start().frame_at(2, 4, &[0]), Reason::IndexMismatch, 1, None);
    check(start().frame_at(0, 3, &made.keys.checkpoint.checkpoint(ISS, &[])), Reason::IndexMismatch, 1, None);
    check(start().end().entry(&made.one, 1), Reason::IndexMismatch, 1, None);
    check(start().frame(4, &[1]), Reason::FrameInvalid, 1, None);
    check(start().frame(4, &[0, 0]), Reason::FrameInvalid, 1, None);
    check(start().frame(1, &[1, 0]), Reason::FrameInvalid, 1, None);
    check(start().frame(1, &[64, 0]), Reason::FrameInvalid, 1, None);
    check(start().frame(1, &[0]), Reason::LineLength, 1, None);
    check(start().frame(2, &[0; 31]), Reason::FrameInvalid, 1, None);
    let mut journal = start();
    journal.zeros(50);
    journal.segments[0].1.push(1);
    check(&journal, Reason::JournalTorn, 1, None);
    check(journal.entry(&made.one, 1), Reason::FrameInvalid, 1, None);
    let mut journal = start();
    journal.end().zeros(50);
    journal.segments[0].1.push(1);
    check(&journal, Reason::IndexMismatch, 1, None);
    let mut open = start();
    open.start_segment();
    check(&open, Reason::IndexMismatch, 1, None);
    let mut closed = start();
    closed.end();
    assert_eq!(judge_plain(&closed).finding, None);
    closed.zeros(10).start_segment();
    assert_eq!(judge_plain(&closed).finding, None);
}

#[test]
fn runs_are_chained_each_for_itself() {
    let made = Made::new("each");
    let mut start = MadeJournal::default();
    start.start_segment().entry(&made.one, 0);
    check(start.clone().entry(&made.one, 2), Reason::SeqMismatch, 1, 2);
    check(start.clone().entry(&made.one, 0), Reason::SeqMismatch, 1, 0);
    check(start.clone().entry(&made.other, 1), Reason::SeqMismatch, 1, 1);
    let mut other = Made::new("each");
    other.one.lines[1] = other.one.lines[2].clone();
    check(start.clone().entry(&other.one, 1), Reason::SeqMismatch, 1, 2);

    let mut forked = MadeRun::new(RUN, "each", made.keys.receipt.clone());
    let mut entry = forked.open_entry();
    entry["ts"] = json!("2026-01-01T00:00:00.000000Z");
    forked.push(&entry).call("allow");
    check(start.clone().entry(&forked, 1), Reason::ChainBroken, 1, 1);

    let mut sealed = start.clone();
    sealed.entry(&made.one, 1).entry(&made.one, 2).entry(&made.one, 3);
    let mut longer = made.one.clone();
    longer.call("allow");
    check(sealed.clone().entry(&longer, 4), Reason::SealNotLast, 4, 4);

    let mut wrong = MadeRun::new(RUN, "each", made.keys.receipt.clone());
    wrong.open();
    let mut entry = wrong.seal_entry();
    entry["count"] = json!(2);
    wrong.push(&entry);
    check(start.clone().entry(&wrong, 1), Reason::SealMismatch, 1, 1);

    let mut foreign = MadeRun::new(RUN, "each", made.keys.receipt.clone());
    let mut entry = foreign.open_entry();
    entry["iss"] = json!("gw.example/main/2");
    foreign.push(&entry);
    let mut journal = MadeJournal::default();
    check(journal.start_segment().entry(&foreign, 0), Reason::RunMismatch, 0, 0);
}

#[test]
fn entries_have_the_signatures_that_their_run_says() {
    let mut made = Made::new("each");
    made.one.signatures[1] = made.one.signatures[2];
    let mut journal = MadeJournal::default();
    journal.start_segment().entry(&made.one, 0).entry(&made.one, 1).entry(&made.one, 2);
    check(&journal, Reason::SignatureInvalid, 1, 1);
    // What is found in the bytes after it comes later.
    journal.frame(1, &[0]);
    check(&journal, Reason::SignatureInvalid, 1, 1);
    let mut unsigned = made.one.clone();
    unsigned.sign = "checkpoint";
    let mut journal = MadeJournal::default();
    check(journal.start_segment().entry(&made.one, 0).entry(&unsigned, 1), Reason::SignatureMissing, 1, 1);
    let mut made = Made::new("checkpoint");
    made.one.sign = "each";
    let mut journal = MadeJournal::default();
    check(journal.start_segment().entry(&made.one, 0), Reason::SignatureSurplus, 0, 0);
}

#[test]
fn checkpoint_frames_sign_the_tree_so_far() {
    let made = Made::new("each");
    let start = || {
        let mut journal = MadeJournal::default();
        journal.start_segment().entry(&made.one, 0).entry(&made.one, 1);
        journal
    };
    let mut journal = start();
    journal.frame(3, b"x");
    check(&journal, Reason::CheckpointMalformed, 2, None);
    let leaves = journal.leaves.clone();
    let key = &made.keys.checkpoint;
    check(
        start().frame(3, &key.checkpoint("gw.example/main/2", &leaves)),
        Reason::CheckpointMalformed,
        2,
        None,
    );
    check(start().frame(3, &key.checkpoint(ISS, &leaves[..1])), Reason::CheckpointMismatch, 2, None);
    check(
        start().frame(3, &key.checkpoint(ISS, &[leaf(b""), leaf(b"")])),
        Reason::CheckpointMismatch,
        2,
        None,
    );
    check(start().checkpoint(&made.keys.receipt), Reason::CheckpointSignature, 2, None);
    assert_eq!(judge_plain(start().checkpoint(key)).finding, None);
}

fn with_blob() -> (Made, Vec<u8>) {
    let mut made = Made::new("each");
    let nodes = sha(b"unit").to_vec();
    let mut entry = made.other.call_entry("allow");
    entry["sse"] = json!({"events": 1, "units": 1, "level": 0, "nodes": format!("sha256:{}", hex(&sha(&nodes))),
        "root": format!("root:{}", hex(&nodes))});
    made.other.count("calls");
    made.other.count("allow");
    made.other.push(&entry);
    (made, nodes)
}

#[test]
fn blobs_are_named_by_the_entry_that_follows() {
    let (made, nodes) = with_blob();
    let blob = [&sha(&nodes)[..], &nodes].concat();
    let start = |blobs: &[&[u8]], seq: usize| {
        let mut journal = MadeJournal::default();
        journal.start_segment();
        for at in 0..=seq {
            if at == seq {
                for blob in blobs {
                    journal.frame(2, blob);
                }
            }
            journal.entry(&made.other, at);
        }
        journal
    };
    assert_eq!(judge_plain(&start(&[&blob], 3)).finding, None);
    assert_eq!(judge_plain(&start(&[], 3)).finding, None);
    check(&start(&[&blob], 2), Reason::BlobMismatch, 2, 2);
    let mut wrong = blob.clone();
    wrong[40] ^= 1;
    check(&start(&[&wrong], 3), Reason::BlobMismatch, 3, None);
    let other = [&sha(b"x")[..], b"x"].concat();
    check(&start(&[&other], 3), Reason::BlobMismatch, 3, 3);
    check(&start(&[&blob, &other], 3), Reason::BlobMismatch, 3, 3);
    let mut last = start(&[], 2);
    last.frame(2, &blob);
    check(&last, Reason::BlobMismatch, 3, None);
}

#[test]
fn the_checkpoint_file_and_a_kept_checkpoint_show_truncation_and_forks() {
    let made = Made::new("each");
    let journal = made.journal();
    let trust = made.keys.trust();
    let key = &made.keys.checkpoint;
    let judge = |journal: &MadeJournal, note: &[u8], against: bool| {
        let files = JournalFiles {
            trust: Some(&trust),
            checkpoint: (!against).then_some(note),
            against: against.then_some(note),
            ..JournalFiles::default()
        };
        judge_with(journal, files, &Options::default())
    };
    for against in [false, true] {
        for size in [0, 1, 3, 6, 7] {
            let report = judge(&journal, &key.checkpoint(ISS, &journal.leaves[..size]), against);
            assert_eq!(report.finding, None, "{size}");
            let expected = if against { ["complete", "anchored"] } else { ["unchecked", "absent"] };
            assert_eq!([report.verdicts.completeness.name(), report.verdicts.anchoring.name()], expected);
            if !against {
                assert_eq!(report.checkpoint_size, Some(size.max(6) as u64));
            }
        }
        let more = [&journal.leaves[..], &[[7; 32]]].concat();
        let report = judge(&journal, &key.checkpoint(ISS, &more), against);
        assert_eq!(found(&report), Some((Reason::JournalTruncated, Some(7), None)));
        assert_eq!(report.verdicts.completeness, Completeness::Failed);
        let mut fork = journal.leaves.clone();
        fork[2] = [7; 32];
        let report = judge(&journal, &key.checkpoint(ISS, &fork[..6]), against);
        assert_eq!(found(&report), Some((Reason::CheckpointMismatch, Some(7), None)));
        let report = judge(&journal, b"", against);
        assert_eq!(found(&report), Some((Reason::CheckpointMalformed, Some(7), None)));
        let report = judge(&journal, &made.keys.manifest.checkpoint(ISS, &journal.leaves), against);
        assert_eq!(found(&report), Some((Reason::CheckpointSignature, Some(7), None)));
        let text = format!("{ISS}\n99999999999999\n{}\n", b64(&[0; 32]));
        let report = judge(&journal, &key.note(ISS, &text), against);
        assert_eq!(found(&report), Some((Reason::JournalTruncated, Some(7), None)));
    }
}

#[test]
fn keys_are_replaced_within_a_run() {
    let keys = MadeKeys::new();
    let new = MadeKey::new(50);
    let mut run = MadeRun::new(RUN, "each", keys.receipt.clone());
    run.open();
    let entry = run.rotate_entry("receipt", &keys.receipt, &new, &new);
    run.push(&entry);
    run.receipt = new.clone();
    run.call("allow").seal();
    let mut journal = MadeJournal::default();
    journal.start_segment();
    for seq in 0..4 {
        journal.entry(&run, seq);
    }
    let rows = [(&keys.receipt, "receipt"), (&new, "receipt"), (&keys.checkpoint, "checkpoint")];
    for (rows, expected) in
        [(&rows[..], None), (&rows[..1], Some((Reason::RotationInvalid, Some(1), Some(1))))]
    {
        let trust = trust(rows);
        let files = JournalFiles { trust: Some(&trust), ..JournalFiles::default() };
        assert_eq!(found(&judge_with(&journal, files, &Options::default())), expected);
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_an_error_and_no_verdict() {
    struct Broken(Vec<(String, Vec<u8>)>);
    impl Segments for Broken {
        fn names(&self) -> Vec<String> {
            self.0.names()
        }
        fn header(&mut self, name: &str) -> std::io::Result<Vec<u8>> {
            self.0.header(name)
        }
        fn bytes(&mut self, _: &str) -> std::io::Result<Cow<'_, [u8]>> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    let made = Made::new("each");
    let trust = made.keys.trust();
    let files = JournalFiles { trust: Some(&trust), ..JournalFiles::default() };
    let error = verify_journal(&mut Broken(made.journal().segments), files, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("00000000000000000000.seg"), "{error}");
}

#[test]
fn every_byte_of_a_journal_matters() {
    let made = Made::new("each");
    let mut journal = MadeJournal::default();
    journal.start_segment().entry(&made.other, 0).entry(&made.other, 1);
    journal.checkpoint(&made.keys.checkpoint).end();
    journal.start_segment().entry(&made.other, 2).checkpoint(&made.keys.checkpoint);
    let note = made.keys.checkpoint.checkpoint(ISS, &journal.leaves);
    let trust = made.keys.trust();
    let files = JournalFiles { trust: Some(&trust), checkpoint: Some(&note), against: None, beginning: None };
    assert_eq!(judge_with(&journal, files, &Options::default()).finding, None);
    let last_frame = 17 + note.len();
    for segment in 0..2 {
        let bytes = journal.segments[segment].1.clone();
        for at in 0..bytes.len() {
            let mut changed = vec![bytes.clone(); 4];
            changed[0][at] ^= 1 << (at % 8);
            changed[1].remove(at);
            changed[2].insert(at, bytes[at]);
            changed[3].truncate(at);
            for (how, changed) in changed.into_iter().enumerate() {
                // Without its last checkpoint frame the journal is an older state of itself.
                let older = segment == 1 && how == 3 && at == bytes.len() - last_frame;
                // The payload of the end frame is a zero; one more is fill.
                let fill = segment == 0 && how == 2 && at == bytes.len() - 1;
                if changed == bytes || older || fill {
                    continue;
                }
                let mut journal = journal.clone();
                journal.segments[segment].1 = changed;
                let report = judge_with(&journal, files, &Options::default());
                assert!(report.finding.is_some(), "change {how} of byte {at} in segment {segment}");
            }
        }
    }
}

#[test]
fn the_search_for_a_later_frame_has_a_limit() {
    // Every fifth byte claims to start a frame of 64 KiB.
    let claim = [0x00, 0x00, 0x01, 0x00, 0x01];
    let bytes: Vec<u8> = claim.iter().copied().cycle().take(66_000).collect();
    assert!(!frame_follows(&bytes, SEARCH_BYTES_MAX));
    assert!(frame_follows(&bytes, 3 << 16), "undecided counts as damaged");
    // One byte longer than any payload: no frame, so nothing to look at.
    let claim = [0x21, 0x00, 0x20, 0x00, 0x02];
    let bytes: Vec<u8> = claim.iter().copied().cycle().take(4 << 20).collect();
    assert!(!frame_follows(&bytes, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>, length in 0u32..64, kind in 0u8..6) {
        crate::fuzz_journal(&bytes);
        let mut journal = MadeJournal::default();
        journal.start_segment();
        let mut segment = journal.segments[0].1.clone();
        crate::fuzz_journal(&[&segment[..], &bytes].concat());
        journal.frame(kind, &bytes);
        crate::fuzz_journal(&journal.segments[0].1);
        segment.extend(length.to_le_bytes());
        segment.push(kind);
        crate::fuzz_journal(&[&segment[..], &bytes].concat());
    }
}
