use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::Read;

use super::*;
use crate::check::Check;
use crate::container::DirectoryFile;
use crate::made::{
    ISS, MadeBundle, MadeFiles, MadeKey, MadeKeys, MadeRun, RUN, b64, canonical, hex, leaf, root, sha,
    statement, sums, trust, zip,
};
use crate::report::Standing;

fn verify_zip(files: &MadeFiles, options: &Options<'_>) -> Report {
    verify_bundle(Input::Zip(&zip(files)), &mut NoExternals, options).unwrap()
}

fn verify_directory(files: &MadeFiles, options: &Options<'_>) -> Report {
    let list: Vec<_> = files
        .iter()
        .map(|(path, bytes)| DirectoryFile { path: path.as_bytes(), bytes: Some(bytes) })
        .collect();
    verify_bundle(Input::Directory(&list), &mut NoExternals, options).unwrap()
}

fn with_trust(trust: &[u8]) -> Options<'_> {
    Options { trust: Some(trust), ..Options::default() }
}

fn names(report: &Report) -> [&'static str; 4] {
    let verdicts = report.verdicts;
    [
        verdicts.integrity.name(),
        verdicts.authenticity.name(),
        verdicts.completeness.name(),
        verdicts.anchoring.name(),
    ]
}

fn found(report: &Report) -> Option<(Reason, Option<u64>)> {
    report.finding.as_ref().map(|finding| (finding.reason, finding.seq))
}

/// Both forms of a bundle give this answer.
#[track_caller]
fn check(files: &MadeFiles, reason: Reason, seq: impl Into<Option<u64>>) {
    let seq = seq.into();
    for report in [verify_zip(files, &Options::default()), verify_directory(files, &Options::default())] {
        assert_eq!(found(&report), Some((reason, seq)), "{:?}", report.finding);
        assert_eq!(report.exit_code(), 2);
    }
}

#[track_caller]
fn check_good(files: &MadeFiles) -> Report {
    let report = verify_zip(files, &Options::default());
    assert_eq!(report.finding, None);
    assert_eq!(verify_directory(files, &Options::default()).finding, None);
    report
}

#[test]
fn a_good_bundle_passes_in_both_forms() {
    for sign in ["each", "checkpoint"] {
        let made = MadeBundle::small(sign);
        let report = check_good(&made.files());
        assert_eq!(names(&report), ["ok", "self_asserted", "complete", "absent"]);
        assert_eq!((report.exit_code(), report.entries), (0, 5));
        assert_eq!(report.signatures_verified, if sign == "each" { 5 } else { 0 });
        assert_eq!(report.root, Some(Hash(root(&made.run.leaves()))));
        assert_eq!((report.counters.calls, report.counters.block, report.counters.interrupted), (2, 1, 1));
        assert_eq!(report.facts.as_ref().unwrap().name.as_deref(), Some("night \"batch\" \u{e9}"));
        assert!(report.keys.iter().all(|key| key.standing == Standing::SelfAsserted));

        let trusted = made.keys.trust();
        let report = verify_zip(&made.files(), &with_trust(&trusted));
        assert_eq!(report.finding, None);
        assert_eq!(names(&report), ["ok", "trusted", "complete", "absent"]);
        assert_eq!(report.keys.len(), 3);
    }
}

#[test]
fn a_run_without_calls_passes() {
    let mut made = MadeBundle::opened("each");
    made.run.seal();
    check_good(&made.files());
    check(
        &made.files_with(|manifest| manifest["metrics"] = json!({"total_p50_us": 0})),
        Reason::ManifestMismatch,
        None,
    );
    for metrics in [json!({}), json!({"snapshot_lag_bytes_max": 5})] {
        check(&made.files_with(|manifest| manifest["metrics"] = metrics), Reason::ManifestMismatch, None);
    }
}

#[test]
fn an_anchored_bundle_is_anchored() {
    for before in [0, 1, 7, 8, 100] {
        let mut made = MadeBundle::small("each");
        made.anchor(before);
        let report = check_good(&made.files());
        assert_eq!(names(&report), ["ok", "self_asserted", "complete", "anchored"]);
        assert_eq!(report.anchor_index, Some(before as u64 + 4));
    }
}

/// Changes a file without mending what lists it.
fn changed(path: &str, change: impl FnOnce(&mut Vec<u8>)) -> MadeFiles {
    let mut files = MadeBundle::small("each").files();
    change(files.get_mut(path).unwrap());
    files
}

#[test]
fn files_that_must_be_there_are() {
    for path in ["manifest.json", "manifest.dsse.json", "receipts.ndjson", "checkpoint", "SHA256SUMS"] {
        let mut files = MadeBundle::small("each").files();
        files.remove(path);
        check(&files, Reason::FileMissing, None);
    }
}

#[test]
fn a_manifest_is_canonical_valid_and_lists_its_keys_rightly() {
    check(&changed("manifest.json", |bytes| bytes.push(b'\n')), Reason::ManifestMalformed, None);
    check(&changed("manifest.json", |bytes| bytes.clear()), Reason::ManifestMalformed, None);
    let made = MadeBundle::small("each");
    let with = |change: &dyn Fn(&mut Value)| made.files_with(|manifest| change(manifest));
    check(&with(&|manifest| manifest["v"] = json!("pef/v1")), Reason::ManifestSchema, None);
    check(&with(&|manifest| manifest["more"] = json!(1)), Reason::ManifestSchema, None);
    check(&with(&|manifest| manifest["keys"][0]["kid"] = json!("0".repeat(64))), Reason::KeyIdMismatch, None);
    check(&with(&|manifest| manifest["keys"][1] = manifest["keys"][0].clone()), Reason::KeyIdMismatch, None);
    check(
        &with(&|manifest| manifest["keys"][0]["alg"] = json!("ecdsa-p256-sha256")),
        Reason::AlgorithmMismatch,
        None,
    );
}

#[test]
fn the_envelope_is_well_formed_and_signed_by_a_manifest_key() {
    check(&changed("manifest.dsse.json", |bytes| bytes.push(b'\n')), Reason::EnvelopeMalformed, None);
    let made = MadeBundle::small("each");
    let sign = |key: &MadeKey, kind: &str, payload: &[u8]| {
        let mut files = made.files();
        files.insert("manifest.dsse.json".to_owned(), key.envelope(kind, payload));
        files
    };
    let kind = "application/vnd.in-toto+json";
    check(&sign(&made.keys.manifest, kind, b"{ }"), Reason::EnvelopeMalformed, None);
    check(&sign(&made.keys.manifest, kind, b"[]"), Reason::EnvelopeMalformed, None);
    check(
        &sign(&made.keys.manifest, "application/vnd.estoppel.pef.entry.v0+json", b"{}"),
        Reason::EnvelopeMalformed,
        None,
    );
    check(&sign(&made.keys.receipt, kind, b"{}"), Reason::KeyUnknown, None);
    check(&sign(&MadeKey::new(99), kind, b"{}"), Reason::KeyUnknown, None);
    let mut files = made.files();
    let envelope: Value = serde_json::from_slice(&files["manifest.dsse.json"]).unwrap();
    let mut forged = envelope.clone();
    forged["payload"] = json!(b64(b"{}"));
    files.insert("manifest.dsse.json".to_owned(), canonical(&forged));
    check(&files, Reason::EnvelopeSignature, None);
    check(&sign(&made.keys.manifest, kind, b"{}"), Reason::StatementMismatch, None);
}

/// A run of open, two calls and seal, whose entry at `seq` is changed before it is chained and signed.
fn with_entry(seq: usize, change: impl Fn(&mut Value)) -> MadeFiles {
    let mut made = MadeBundle::opened("each");
    made.run.lines.clear();
    made.run.signatures.clear();
    for at in 0..4 {
        let mut entry = match at {
            0 => made.run.open_entry(),
            3 => made.run.seal_entry(),
            _ => {
                made.run.count("allow");
                made.run.count("calls");
                made.run.call_entry("allow")
            }
        };
        if at == seq {
            change(&mut entry);
        }
        made.run.push(&entry);
    }
    made.files()
}

#[test]
fn each_line_step_has_its_reason_and_place() {
    check_good(&with_entry(9, |_| {}));
    check(&with_entry(2, |entry| entry["attempt"] = json!(1.5)), Reason::LineMalformed, 2);
    check(&with_entry(2, |entry| entry["attempt"] = json!(0)), Reason::LineSchema, 2);
    check(&with_entry(2, |entry| entry["seq"] = json!(3)), Reason::SeqMismatch, 2);
    check(&with_entry(0, |entry| entry["seq"] = json!(1)), Reason::LineSchema, 0);
    check(&with_entry(2, |entry| entry["run"] = json!(RUN.replace('1', "2"))), Reason::RunMismatch, 2);
    check(&with_entry(2, |entry| entry["iss"] = json!("gw.example/main/2")), Reason::RunMismatch, 2);
    check(&with_entry(0, |entry| entry["iss"] = json!("gw.example/main/2")), Reason::RunMismatch, 0);
    check(
        &with_entry(2, |entry| entry["prev"] = json!(format!("leaf:{}", "0".repeat(64)))),
        Reason::ChainBroken,
        2,
    );
    check(&with_entry(2, |entry| entry["kid"] = json!(MadeKey::new(3).id())), Reason::KeyMismatch, 2);
    check(&with_entry(0, |entry| entry["kid"] = json!(MadeKey::new(3).id())), Reason::KeyMismatch, 0);
    check(&with_entry(2, |entry| entry["mono_us"] = json!(9)), Reason::TimeReversed, 2);
    check_good(&with_entry(2, |entry| entry["mono_us"] = json!(10)));
    check(&with_entry(3, |entry| entry["count"] = json!(2)), Reason::SealMismatch, 3);
    check(&with_entry(3, |entry| entry["counters"]["calls"] = json!(1)), Reason::SealMismatch, 3);
    check(
        &with_entry(3, |entry| entry["head"] = json!(format!("leaf:{}", "0".repeat(64)))),
        Reason::SealMismatch,
        3,
    );
    check(
        &with_entry(3, |entry| entry["root"] = json!(format!("root:{}", "0".repeat(64)))),
        Reason::SealMismatch,
        3,
    );
}

#[test]
fn lines_end_in_a_line_feed_and_are_not_empty() {
    let file = "receipts.ndjson";
    check(&changed(file, |bytes| bytes.clear()), Reason::LineLength, 0);
    check(&changed(file, |bytes| bytes.truncate(bytes.len() - 1)), Reason::LineLength, 4);
    check(&changed(file, |bytes| bytes.push(b'\n')), Reason::LineLength, 5);
    check(&changed(file, |bytes| bytes.insert(0, b'\n')), Reason::LineLength, 0);
    check(&changed(file, |bytes| bytes.extend([b'x'; 20_000])), Reason::LineLength, 5);
    check(&changed(file, |bytes| bytes.insert(0, b' ')), Reason::LineNotCanonical, 0);
    let crlf = |bytes: &mut Vec<u8>| {
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes.insert(at, b'\r');
    };
    check(&changed(file, crlf), Reason::LineNotCanonical, 0);
}

#[test]
fn lines_cannot_be_moved_left_out_or_doubled() {
    let made = MadeBundle::small("each");
    let with = |change: &dyn Fn(&mut MadeRun)| {
        let manifest = made.manifest(&made.parts());
        let mut made = made.clone();
        change(&mut made.run);
        let mut files = made.parts();
        files.insert("manifest.json".to_owned(), canonical(&manifest));
        made.close(&mut files, &json!({}));
        files
    };
    let drop_at = |run: &mut MadeRun, at: usize| {
        run.lines.remove(at);
        run.signatures.remove(at);
    };
    check(&with(&|run| drop_at(run, 0)), Reason::SeqMismatch, 0);
    check(&with(&|run| drop_at(run, 2)), Reason::SeqMismatch, 2);
    check(&with(&|run| drop_at(run, 4)), Reason::SealMissing, 4);
    check(&with(&|run| run.lines.swap(1, 2)), Reason::SeqMismatch, 1);
    check(
        &with(&|run| {
            let line = run.lines[4].clone();
            run.push_line(line);
        }),
        Reason::SeqMismatch,
        5,
    );
    check(
        &with(&|run| {
            let entry = run.call_entry("allow");
            run.push(&entry);
        }),
        Reason::SealNotLast,
        5,
    );
    check(
        &with(&|run| {
            let mut entry = run.open_entry();
            entry["seq"] = json!(0);
            entry.as_object_mut().unwrap().remove("prev");
            run.push(&entry);
        }),
        Reason::SeqMismatch,
        5,
    );
}

#[test]
fn each_entry_has_its_signature() {
    let made = MadeBundle::small("each");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = made.files();
        change(files.get_mut("receipts.sig").unwrap());
        files
    };
    check(&with(&|bytes| bytes.truncate(64 * 3 + 63)), Reason::SignatureMissing, 3);
    check(&with(&|bytes| bytes.clear()), Reason::SignatureMissing, 0);
    check(&with(&|bytes| bytes.push(0)), Reason::SignatureSurplus, None);
    check(&with(&|bytes| bytes[64 * 2] ^= 1), Reason::SignatureInvalid, 2);
    check(
        &with(&|bytes| {
            bytes[64 * 4] ^= 1;
            bytes[64] ^= 1;
        }),
        Reason::SignatureInvalid,
        1,
    );
    check(&with(&|bytes| bytes[..128].rotate_left(64)), Reason::SignatureInvalid, 0);
    let mut files = made.files();
    files.remove("receipts.sig");
    check(&files, Reason::SignatureMissing, 0);
    let mut files = MadeBundle::small("checkpoint").files();
    files.insert("receipts.sig".to_owned(), Vec::new());
    check(&files, Reason::SignatureSurplus, None);
}

#[test]
fn a_bad_signature_decides_before_a_later_bad_line_and_after_an_earlier_one() {
    let made = MadeBundle::small("each");
    let with = |signature: usize, line: usize| {
        let mut files = made.files();
        files.get_mut("receipts.sig").unwrap()[64 * signature] ^= 1;
        let mut lines = made.run.lines.clone();
        lines[line].insert(1, b' ');
        lines.push(Vec::new());
        files.insert("receipts.ndjson".to_owned(), lines.join(&b'\n'));
        files
    };
    check(&with(1, 3), Reason::SignatureInvalid, 1);
    check(&with(3, 1), Reason::LineNotCanonical, 1);
    check(&with(2, 2), Reason::LineNotCanonical, 2);
}

#[test]
fn the_manifest_repeats_what_the_lines_say() {
    let made = MadeBundle::small("each");
    for (name, value) in [
        ("tree", json!({"root": format!("root:{}", "0".repeat(64)), "size": 5})),
        (
            "counters",
            json!({"allow": 1, "block": 1, "calls": 2, "hold": 0, "incomplete": 1, "interrupted": 1, "repair": 0}),
        ),
        ("claims", json!({"agent": ["a1"], "job_id": ["nightly"]})),
        ("claims", json!({"agent": ["a2", "a1"], "job_id": ["nightly"]})),
        ("claims", json!({})),
        ("policies", json!([])),
        ("policies", json!([made.run.policy_hash(), made.run.policy_hash()])),
        ("sign", json!("checkpoint")),
        ("durability", json!("sync")),
        ("class", json!("ambient")),
        ("name", json!("x")),
        ("opened", json!("2026-11-21T04:00:00.000001Z")),
        ("sealed", json!("2026-11-21T04:00:00.000001Z")),
        ("seal_reason", json!("timeout")),
        ("build", json!({"name": "estoppeld", "version": "0.1.1"})),
        ("metrics", json!({"total_p50_us": 1, "total_p95_us": 2, "total_p99_us": 3})),
        ("metrics", json!({})),
    ] {
        check(&made.files_with(|manifest| manifest[name] = value.clone()), Reason::ManifestMismatch, None);
    }
    for name in ["name", "metrics"] {
        let files = made.files_with(|manifest| drop(manifest.as_object_mut().unwrap().remove(name)));
        check(&files, Reason::ManifestMismatch, None);
    }
}

#[test]
fn the_checkpoint_signs_the_run_tree() {
    let made = MadeBundle::small("each");
    let with = |note: Vec<u8>| {
        let mut files = made.files();
        files.insert("checkpoint".to_owned(), note);
        files
    };
    let key = &made.keys.checkpoint;
    let origin = format!("{ISS}/run/{RUN}");
    let leaves = made.run.leaves();
    check(&with(Vec::new()), Reason::CheckpointMalformed, None);
    check(&with(key.checkpoint(ISS, &leaves)), Reason::CheckpointMalformed, None);
    check(&with(key.checkpoint(&origin, &leaves[..4])), Reason::CheckpointMismatch, None);
    check(&with(made.keys.receipt.checkpoint(&origin, &leaves)), Reason::CheckpointSignature, None);
    let text = format!("{origin}\n5\n{}\n", b64(&root(&leaves)));
    check(&with(key.note("other", &text)), Reason::CheckpointSignature, None);
    let mut forged = String::from_utf8(key.checkpoint(&origin, &leaves)).unwrap();
    let at = forged.len() - 20;
    let other = if forged.as_bytes()[at] == b'A' { "B" } else { "A" };
    forged.replace_range(at..at + 1, other);
    check(&with(forged.into_bytes()), Reason::CheckpointSignature, None);
}

#[test]
fn the_files_are_exactly_those_that_are_listed() {
    let made = MadeBundle::small("each");
    let mut files = made.files();
    files.insert("extra".to_owned(), b"x".to_vec());
    check(&files, Reason::FileUnlisted, None);
    let listed =
        |row: Value| made.files_with(|manifest| manifest["files"].as_array_mut().unwrap().push(row.clone()));
    let row = |path: &str| json!({"bytes": 0, "path": path, "role": "other", "sha256": format!("sha256:{}", hex(&sha(b"")))});
    check(&listed(row("zz")), Reason::FileMissing, None);
    check(&listed(row("receipts.sig")), Reason::FileUnlisted, None);
    check(
        &listed(
            row("SHA256SUMS")
                .as_object()
                .cloned()
                .map(|mut row| {
                    row.insert("path".to_owned(), json!("manifest.json"));
                    Value::Object(row)
                })
                .unwrap(),
        ),
        Reason::FileUnlisted,
        None,
    );
    let swapped = made.files_with(|manifest| manifest["files"].as_array_mut().unwrap().swap(0, 1));
    check(&swapped, Reason::FileUnlisted, None);
    let policy = format!("policy/{}.json", hex(&sha(&made.run.policy)));
    check(&changed(&policy, |bytes| bytes.push(b' ')), Reason::FileDigest, None);
    check(&changed(&policy, |bytes| bytes[0] ^= 1), Reason::FileDigest, None);
}

fn with_file(path: &str, role: &'static str, bytes: &[u8]) -> MadeFiles {
    let mut made = MadeBundle::small("each");
    made.more_files.push((path.to_owned(), role, bytes.to_vec()));
    made.files()
}

#[test]
fn files_named_by_digest_have_it() {
    let name = hex(&sha(b"x"));
    check_good(&with_file(&format!("contracts/{name}.json"), "contract", b"x"));
    check_good(&with_file(&format!("keys/receipt-{name}.pem"), "key", b"y"));
    check(&with_file(&format!("contracts/{name}.json"), "contract", b"y"), Reason::FileNameDigest, None);
    check(&with_file(&format!("contracts/{name}"), "contract", b"x"), Reason::FileNameDigest, None);
    check(&with_file(&format!("bodies/{name}.json"), "body", b"x"), Reason::FileNameDigest, None);
    check(&with_file(&format!("policy/x/{name}.json"), "policy", b"x"), Reason::FileNameDigest, None);
    let mut made = MadeBundle::small("each");
    made.run.policy = b"other".to_vec();
    check(&made.files(), Reason::PolicyMissing, 1);
}

#[test]
fn the_statement_and_the_sums_are_about_exactly_these_files() {
    let made = MadeBundle::small("each");
    let mut files = made.parts();
    let manifest = made.manifest(&files);
    files.insert("manifest.json".to_owned(), canonical(&manifest));
    let good = statement(&files, &manifest);
    for change in [
        |statement: &mut Value| statement["predicateType"] = json!("urn:other"),
        |statement: &mut Value| statement["_type"] = json!("https://in-toto.io/Statement/v0.1"),
        |statement: &mut Value| statement["more"] = json!(1),
        |statement: &mut Value| statement["predicate"]["size"] = json!(4),
        |statement: &mut Value| drop(statement["subject"].as_array_mut().unwrap().pop()),
        |statement: &mut Value| statement["subject"].as_array_mut().unwrap().swap(0, 1),
        |statement: &mut Value| statement["subject"][0]["digest"]["sha256"] = json!("0".repeat(64)),
    ] {
        let mut statement = good.clone();
        change(&mut statement);
        let mut files = files.clone();
        made.close(&mut files, &statement);
        check(&files, Reason::StatementMismatch, None);
    }
    for change in [
        |sums: &mut Vec<u8>| sums.push(b'\n'),
        |sums: &mut Vec<u8>| sums.truncate(sums.len() - 1),
        |sums: &mut Vec<u8>| sums[64] = b'*',
        |sums: &mut Vec<u8>| sums.clear(),
    ] {
        check(&changed("SHA256SUMS", change), Reason::SumsMismatch, None);
    }
}

/// A run with one stream of `units` units, level and nodes as given.
fn with_stream(units: u64, level: u64, nodes: &[u8], stream_root: [u8; 32]) -> MadeFiles {
    let mut made = MadeBundle::opened("each");
    made.run.count("allow");
    made.run.count("calls");
    let mut entry = made.run.call_entry("allow");
    entry["sse"] = json!({
        "events": units, "units": units, "level": level, "nodes": format!("sha256:{}", hex(&sha(nodes))),
        "root": format!("root:{}", hex(&stream_root)),
    });
    let path = format!("streams/{}.nodes", entry["call"].as_str().unwrap());
    made.run.push(&entry).seal();
    made.more_files.push((path, "stream", nodes.to_vec()));
    made.files()
}

#[test]
fn stored_streams_lead_to_their_root() {
    let nodes: Vec<[u8; 32]> = (0..5u8).map(|n| sha(&[n])).collect();
    let bytes = nodes.concat();
    check_good(&with_stream(5, 0, &bytes, root(&nodes)));
    check_good(&with_stream(0, 0, &[], sha(b"")));
    check(&with_stream(5, 0, &bytes, sha(b"x")), Reason::StreamMismatch, 1);
    check(&with_stream(5, 1, &bytes, root(&nodes)), Reason::StreamMismatch, 1);
    check(&with_stream(4, 0, &bytes, root(&nodes)), Reason::StreamMismatch, 1);
    check(&with_stream(5, 0, &bytes[..159], root(&nodes)), Reason::StreamMismatch, 1);
    // 65,537 units: two to a node, the last node of one.
    let many: Vec<[u8; 32]> = (0..32_769u32).map(|n| sha(&n.to_le_bytes())).collect();
    check_good(&with_stream(65_537, 1, &many.concat(), root(&many)));
    check(&with_stream(65_537, 0, &many.concat(), root(&many)), Reason::StreamMismatch, 1);
    let mut files = with_stream(5, 0, &bytes, root(&nodes));
    let path = files.keys().find(|path| path.starts_with("streams/")).unwrap().clone();
    files.insert(path, b"x".to_vec());
    check(&files, Reason::FileDigest, None);
    let mut made = MadeBundle::opened("each");
    made.run.count("allow");
    made.run.count("calls");
    let mut entry = made.run.call_entry("allow");
    entry["sse"] = json!({"events": 1, "units": 1, "level": 0, "nodes": format!("sha256:{}", hex(&sha(b""))),
        "root": format!("root:{}", hex(&sha(b"")))});
    made.run.push(&entry).seal();
    check(&made.files(), Reason::StreamMismatch, 1);
}

fn with_body(body: &[u8], change: impl FnOnce(&mut MadeBundle)) -> MadeFiles {
    let mut made = MadeBundle::opened("each");
    made.run.count("allow");
    made.run.count("calls");
    let mut entry = made.run.call_entry("allow");
    entry["response"]["client"]["sha256"] = json!(format!("sha256:{}", hex(&sha(body))));
    made.run.push(&entry).seal();
    change(&mut made);
    made.files()
}

fn external(body: &[u8], bytes: usize) -> Value {
    json!({"bytes": bytes, "role": "body", "sha256": format!("sha256:{}", hex(&sha(body)))})
}

/// What lies beside a bundle: name to bytes.
struct Beside(Vec<(String, Vec<u8>)>);

impl Externals for Beside {
    fn open(&mut self, sha256: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
        let found = self.0.iter().find(|(name, _)| name == sha256);
        Ok(found.map(|(_, bytes)| Box::new(bytes.as_slice()) as Box<dyn Read + '_>))
    }
}

#[test]
fn stored_bodies_are_inside_or_beside() {
    let path = format!("bodies/{}", hex(&sha(b"body")));
    check_good(&with_body(b"body", |made| made.more_files.push((path.clone(), "body", b"body".to_vec()))));
    check(&with_body(b"body", |_| {}), Reason::BodyMissing, 1);
    let mut made = MadeBundle::small("each");
    made.externals.push(external(b"body", 4));
    check(&made.files(), Reason::ExternalUnknown, None);

    let files = with_body(b"body", |made| made.externals.push(external(b"body", 4)));
    check(&files, Reason::MissingExternal, None);
    let verify = |content: &[u8]| {
        let mut beside = Beside(vec![(hex(&sha(b"body")), content.to_vec())]);
        verify_bundle(Input::Zip(&zip(&files)), &mut beside, &Options::default()).unwrap()
    };
    let report = verify(b"body");
    assert_eq!(report.finding, None);
    assert_eq!((report.externals, names(&report)), (1, ["ok", "self_asserted", "complete", "absent"]));
    for content in [&b"bodY"[..], b"bod", b"body2", b"", &[0; 1 << 20]] {
        let report = verify(content);
        assert_eq!(found(&report), Some((Reason::ExternalDigest, None)));
        assert_eq!(names(&report), ["unchecked", "unchecked", "failed", "unchecked"]);
    }
}

#[test]
fn external_content_that_cannot_be_read_is_an_error_and_no_verdict() {
    struct Broken;
    impl Externals for Broken {
        fn open(&mut self, _: &str) -> std::io::Result<Option<Box<dyn Read + '_>>> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    let files = with_body(b"body", |made| made.externals.push(external(b"body", 4)));
    let error = verify_bundle(Input::Zip(&zip(&files)), &mut Broken, &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with("could not read external content"), "{error}");
}

#[test]
fn an_anchor_proves_the_seal_or_is_refused() {
    let made = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut made = MadeBundle::small("each");
        made.anchor(3);
        change(&mut made.more_files[0].2);
        made.files()
    };
    let text = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from));
            *bytes = text.replacen(from, to, 1).into_bytes();
        }
    };
    check_good(&made(&|_| {}));
    check(&made(&text("@v1", "@v2")), Reason::AnchorMalformed, None);
    check(&made(&text("\ngw.example/main/1\n", "\ngw.example/main/2\n")), Reason::AnchorMalformed, None);
    check(&made(&text("index 7", "index 6")), Reason::AnchorMismatch, None);
    check(&made(&text("index 7", "index 9")), Reason::AnchorMismatch, None);
    check(&made(&text("\n9\n", "\n8\n")), Reason::AnchorMismatch, None);
    check(
        &made(&text("\u{2014} gw.example/main/1", "\u{2014} gw.example/main/2")),
        Reason::AnchorSignature,
        None,
    );
    let mut moved = MadeBundle::small("each");
    moved.anchor(3);
    let anchor = moved.more_files.clone();
    let mut other = MadeBundle::opened("each");
    other.run.call("allow").seal();
    other.more_files = anchor;
    check(&other.files(), Reason::AnchorMismatch, None);
}

#[test]
fn every_key_that_signed_must_be_trusted() {
    let made = MadeBundle::small("each");
    let files = made.files();
    let MadeKeys { receipt, checkpoint, manifest } = &made.keys;
    let rows = [(receipt, "receipt"), (checkpoint, "checkpoint"), (manifest, "manifest")];
    for at in 0..3 {
        let mut rows = rows.to_vec();
        rows.remove(at);
        let report = verify_zip(&files, &with_trust(&trust(&rows)));
        assert_eq!(found(&report), Some((Reason::KeyUntrusted, None)));
        assert_eq!(names(&report), ["unchecked", "failed", "complete", "absent"]);
        let report = verify_directory(&files, &with_trust(&trust(&rows)));
        assert_eq!(names(&report), ["unchecked", "failed", "complete", "absent"]);
    }
    let other_use = trust(&[(receipt, "manifest"), (checkpoint, "checkpoint"), (manifest, "receipt")]);
    assert_eq!(found(&verify_zip(&files, &with_trust(&other_use))), Some((Reason::KeyUntrusted, None)));
    let other_instance = String::from_utf8(made.keys.trust()).unwrap().replace("main/1", "main/2");
    let report = verify_zip(&files, &with_trust(other_instance.as_bytes()));
    assert_eq!(found(&report), Some((Reason::KeyUntrusted, None)));
}

#[test]
fn a_trust_document_that_is_unusable_is_the_readers_fault() {
    let made = MadeBundle::small("each");
    let good = String::from_utf8(made.keys.trust()).unwrap();
    for bad in [
        String::new(),
        format!("{good}\n"),
        good.replace("pef-trust/v0", "pef-trust/v1"),
        good.replacen("ed25519", "ecdsa-p256-sha256", 1),
        good.replacen(&made.keys.receipt.id(), &"0".repeat(64), 1),
        good.replace("\"v\"", "\"more\":1,\"v\""),
    ] {
        assert_ne!(bad, good);
        let report = verify_zip(&made.files(), &with_trust(bad.as_bytes()));
        assert_eq!(found(&report), Some((Reason::TrustInvalid, None)), "{bad}");
        assert_eq!(report.exit_code(), 6);
        assert_eq!(names(&report), ["unchecked"; 4]);
    }
}

#[test]
fn a_revoked_key_counts_only_for_what_an_anchor_proves_to_be_older() {
    let plain = MadeBundle::small("each");
    let mut anchored = plain.clone();
    anchored.anchor(3);
    for usage in ["receipt", "checkpoint", "manifest"] {
        let revoked = |from: u64| {
            let mut document: Value = serde_json::from_slice(&plain.keys.trust()).unwrap();
            for row in document["keys"].as_array_mut().unwrap() {
                if row["use"] == usage {
                    row["revoked_from_index"] = json!(from);
                }
            }
            canonical(&document)
        };
        let judge = |made: &MadeBundle, from| found(&verify_zip(&made.files(), &with_trust(&revoked(from))));
        assert_eq!(judge(&plain, 1_000_000), Some((Reason::KeyRevoked, None)));
        assert_eq!(judge(&anchored, 7), Some((Reason::KeyRevoked, None)));
        assert_eq!(judge(&anchored, 8), None);
    }
}

/// A run in which the key of `usage` is replaced after the first call.
fn rotated(sign: &'static str, usage: &str, change: impl FnOnce(&mut Value)) -> MadeBundle {
    let mut made = MadeBundle::opened(sign);
    made.run.call("allow");
    let new = MadeKey::new(50);
    let old = match usage {
        "receipt" => made.keys.receipt.clone(),
        "checkpoint" => made.keys.checkpoint.clone(),
        _ => made.keys.manifest.clone(),
    };
    let mut entry = made.run.rotate_entry(usage, &old, &new, &new);
    change(&mut entry);
    made.run.push(&entry);
    made.more_keys.push(new.row(usage));
    match usage {
        "receipt" => made.run.receipt = new,
        "checkpoint" => made.checkpoint_key = new,
        _ => {
            made.more_keys = vec![made.keys.manifest.row("manifest")];
            made.keys.manifest = new;
        }
    }
    made.run.call("allow").seal();
    made
}

#[test]
fn keys_are_replaced_with_proof_of_both() {
    for usage in ["receipt", "checkpoint", "manifest"] {
        let report = check_good(&rotated("each", usage, |_| {}).files());
        assert!(report.keys.iter().any(|key| key.id.hex() == MadeKey::new(50).id()), "{usage}");
        let id = MadeKey::new(51).id();
        check(&rotated("each", usage, |entry| entry["new"] = json!(id)).files(), Reason::RotationInvalid, 2);
        let spki = b64(&MadeKey::new(51).spki());
        check(
            &rotated("each", usage, |entry| entry["spki"] = json!(spki)).files(),
            Reason::RotationInvalid,
            2,
        );
        let alg = json!("ecdsa-p256-sha256");
        check(&rotated("each", usage, |entry| entry["alg"] = alg).files(), Reason::RotationInvalid, 2);
        let zeros = json!(b64(&[0; 64]));
        check(
            &rotated("each", usage, |entry| entry["possession"] = zeros).files(),
            Reason::RotationInvalid,
            2,
        );
        let short = json!(b64(&[0; 63]));
        check(
            &rotated("each", usage, |entry| entry["possession"] = short).files(),
            Reason::RotationInvalid,
            2,
        );
    }
    let id = MadeKey::new(51).id();
    check(&rotated("each", "receipt", |entry| entry["old"] = json!(id)).files(), Reason::RotationInvalid, 2);
    // A proof over another statement.
    check(
        &rotated("each", "checkpoint", |entry| entry["old"] = json!(MadeKey::new(51).id())).files(),
        Reason::RotationInvalid,
        2,
    );
}

#[test]
fn after_a_replacement_the_old_key_signs_no_more() {
    let mut made = MadeBundle::opened("each");
    let new = MadeKey::new(50);
    let old = made.keys.receipt.clone();
    let entry = made.run.rotate_entry("receipt", &old, &new, &new);
    made.run.push(&entry).call("allow").seal();
    made.more_keys.push(new.row("receipt"));
    check(&made.files(), Reason::KeyMismatch, 2);

    // The entry that replaces the key must itself be signed by the old one.
    let mut made = MadeBundle::opened("each");
    let mut entry = made.run.rotate_entry("receipt", &old, &new, &new);
    made.run.receipt = new.clone();
    entry["kid"] = json!(new.id());
    made.run.push(&entry).seal();
    made.more_keys.push(new.row("receipt"));
    check(&made.files(), Reason::KeyMismatch, 1);
}

#[test]
fn a_second_replacement_starts_from_the_first() {
    for (old, expected) in [(50, None), (2, Some(Reason::RotationInvalid))] {
        let mut made = MadeBundle::opened("each");
        let keys = [MadeKey::new(50), MadeKey::new(51)];
        let entry = made.run.rotate_entry("checkpoint", &made.keys.checkpoint, &keys[0], &keys[0]);
        made.run.push(&entry);
        let entry = made.run.rotate_entry("checkpoint", &MadeKey::new(old), &keys[1], &keys[1]);
        made.run.push(&entry).seal();
        made.more_keys = keys.iter().map(|key| key.row("checkpoint")).collect();
        made.checkpoint_key = keys[1].clone();
        let report = verify_zip(&made.files(), &Options::default());
        assert_eq!(report.finding.map(|finding| finding.reason), expected);
    }
}

#[test]
fn replaced_keys_are_trusted_through_the_entry_that_brought_them_in() {
    let first = MadeKeys::new();
    for usage in ["receipt", "checkpoint", "manifest"] {
        let report = verify_zip(&rotated("each", usage, |_| {}).files(), &with_trust(&first.trust()));
        assert_eq!(report.finding, None, "{usage}");
        assert!(report.keys.iter().any(|key| key.standing == Standing::Rotated), "{usage}");
    }
}

#[test]
fn entries_without_signature_cannot_vouch_for_all_that_vouches_for_them() {
    let first = MadeKeys::new();
    let judge = |made: &MadeBundle, signatures| {
        let trusted = first.trust();
        let options = Options { signatures, ..with_trust(&trusted) };
        found(&verify_zip(&made.files(), &options))
    };
    // Without signatures of entries, the manifest vouches for the checkpoint's key, and the other way round.
    let made = rotated("checkpoint", "checkpoint", |_| {});
    assert_eq!(judge(&made, Signatures::Each), None);
    let made = rotated("each", "checkpoint", |_| {});
    assert_eq!(judge(&made, Signatures::CheckpointOnly), None);
    // But when both come from the run itself, nobody does: whoever holds any key could write such a run.
    for (sign, signatures, expected) in [
        ("each", Signatures::Each, None),
        ("each", Signatures::CheckpointOnly, Some((Reason::KeyUntrusted, None))),
        ("checkpoint", Signatures::Each, Some((Reason::KeyUntrusted, None))),
    ] {
        let mut made = rotated(sign, "checkpoint", |_| {});
        let own = MadeKey::new(70);
        made.run.lines.pop();
        made.run.signatures.pop();
        let entry = made.run.rotate_entry("manifest", &made.keys.manifest, &own, &own);
        made.run.push(&entry).seal();
        made.more_keys.push(made.keys.manifest.row("manifest"));
        made.keys.manifest = own;
        check_good(&made.files());
        assert_eq!(judge(&made, signatures), expected, "{sign}");
    }
    let made = rotated("checkpoint", "manifest", |_| {});
    assert_eq!(judge(&made, Signatures::Each), None);
    let made = rotated("checkpoint", "receipt", |_| {});
    assert_eq!(judge(&made, Signatures::Each), None);
}

#[test]
fn a_run_cannot_vouch_for_its_own_first_key() {
    // Away from a key that nobody trusts, and back to it.
    let mut made = MadeBundle::opened("each");
    made.run.lines.clear();
    made.run.signatures.clear();
    let (own, other) = (MadeKey::new(60), MadeKey::new(61));
    made.run.receipt = own.clone();
    made.run.open();
    let entry = made.run.rotate_entry("receipt", &own, &other, &other);
    made.run.push(&entry);
    made.run.receipt = other.clone();
    let entry = made.run.rotate_entry("receipt", &other, &own, &own);
    made.run.push(&entry);
    made.run.receipt = own.clone();
    made.run.seal();
    made.more_keys = vec![own.row("receipt"), other.row("receipt")];
    check_good(&made.files());
    let report = verify_zip(&made.files(), &with_trust(&made.keys.trust()));
    assert_eq!(found(&report), Some((Reason::KeyUntrusted, None)));
}

#[test]
fn signatures_of_entries_are_skipped_only_on_request_and_said_so() {
    let made = MadeBundle::small("each");
    let options = Options { signatures: Signatures::CheckpointOnly, ..Options::default() };
    let report = verify_zip(&made.files(), &options);
    assert_eq!((report.finding.clone(), report.signatures_skipped, report.signatures_verified), (None, 5, 0));
    let text = crate::explain(&report).join("\n");
    assert!(text.contains("5 signatures of single entries were not verified"), "{text}");
    let mut files = made.files();
    files.get_mut("receipts.sig").unwrap().truncate(64);
    assert_eq!(found(&verify_zip(&files, &options)), Some((Reason::SignatureMissing, Some(1))));
}

#[test]
fn the_executor_changes_nothing_but_the_order_of_work() {
    struct Backwards;
    impl Executor for Backwards {
        fn run(&self, checks: &mut [Check<'_>]) {
            checks.iter_mut().rev().for_each(Check::run);
        }
    }
    struct Idle;
    impl Executor for Idle {
        fn run(&self, _: &mut [Check<'_>]) {}
    }
    struct Threads;
    impl Executor for Threads {
        #[allow(clippy::disallowed_methods, reason = "a test plays the caller, who may")]
        fn run(&self, checks: &mut [Check<'_>]) {
            std::thread::scope(|scope| {
                for part in checks.chunks_mut(2) {
                    scope.spawn(move || part.iter_mut().for_each(Check::run));
                }
            });
        }
    }
    let made = MadeBundle::small("each");
    let mut files = made.files();
    let executors: [&dyn Executor; 3] = [&Backwards, &Idle, &Threads];
    for executor in executors {
        let options = Options { executor, ..Options::default() };
        assert_eq!(verify_zip(&files, &options).finding, None);
        assert_eq!(verify_zip(&files, &options).signatures_verified, 5);
    }
    let signatures = files.get_mut("receipts.sig").unwrap();
    signatures[64] ^= 1;
    signatures[64 * 3] ^= 1;
    for executor in executors {
        let options = Options { executor, ..Options::default() };
        assert_eq!(found(&verify_zip(&files, &options)), Some((Reason::SignatureInvalid, Some(1))));
    }
}

#[test]
fn p_256_keys_sign_receipts_and_manifests() {
    use p256::ecdsa::signature::Signer as _;
    let secret = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let point = secret.verifying_key().to_sec1_point(false);
    let spki = [
        &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ][..],
        point.as_bytes(),
    ]
    .concat();
    let id = hex(&sha(&spki));
    let mut made = MadeBundle::small("each");
    let lines = std::mem::take(&mut made.run.lines);
    made.run.signatures.clear();
    let old = made.keys.receipt.id();
    let mut before: Option<Vec<u8>> = None;
    let mut leaves = Vec::new();
    for line in lines {
        let mut entry: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(entry["kid"], old);
        entry["kid"] = json!(id);
        if let Some(before) = &before {
            entry["prev"] = json!(format!("leaf:{}", hex(&leaf(before))));
        }
        if entry["kind"] == "run.seal" {
            entry["head"] = entry["prev"].clone();
            entry["root"] = json!(format!("root:{}", hex(&root(&leaves))));
        }
        let line = canonical(&entry);
        let message = crate::made::pae("application/vnd.estoppel.pef.entry.v0+json", &line);
        let signature: p256::ecdsa::Signature = secret.sign(&message);
        made.run.signatures.push(signature.to_bytes().into());
        leaves.push(leaf(&line));
        before = Some(line.clone());
        made.run.lines.push(line);
    }
    let row = json!({"alg": "ecdsa-p256-sha256", "kid": id, "spki": b64(&spki), "use": "receipt"});
    made.more_keys.push(row);
    check_good(&made.files());
    made.run.signatures[2][40] ^= 1;
    check(&made.files(), Reason::SignatureInvalid, 2);
}

#[test]
fn every_byte_of_a_bundle_matters() {
    let mut made = MadeBundle::opened("each");
    made.run.call("allow").seal();
    made.anchor(2);
    let files = made.files();
    check_good(&files);
    let options = Options::default();
    for (path, bytes) in &files {
        for at in 0..bytes.len() {
            let mut changed: Vec<Vec<u8>> = vec![bytes.clone(); 4];
            changed[0][at] ^= 1 << (at % 8);
            changed[1].remove(at);
            changed[2].insert(at, bytes[at]);
            changed[3].truncate(at);
            for changed in changed {
                if changed == *bytes {
                    continue;
                }
                let mut files = files.clone();
                files.insert(path.clone(), changed);
                let report = verify_directory(&files, &options);
                assert!(report.finding.is_some(), "byte {at} of {path}");
                assert_eq!(report.exit_code(), 2);
            }
        }
    }
}

#[test]
fn sums_can_be_made_again_and_change_nothing() {
    let mut files = MadeBundle::small("each").files();
    let sums = sums(&files);
    assert_eq!(files.insert("SHA256SUMS".to_owned(), sums.clone()), Some(sums));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) {
        crate::fuzz_bundle(&bytes);
    }

    #[test]
    fn any_change_of_a_zip_is_refused(at: prop::sample::Index, byte: u8, how in 0..4) {
        let good = zip(&MadeBundle::small("each").files());
        let mut bad = good.clone();
        let at = at.index(bad.len());
        match how {
            0 => bad[at] = byte,
            1 => drop(bad.remove(at)),
            2 => bad.insert(at, byte),
            _ => bad.truncate(at),
        }
        prop_assume!(bad != good);
        let report = verify_bundle(Input::Zip(&bad), &mut NoExternals, &Options::default()).unwrap();
        prop_assert!(report.finding.is_some());
    }
}
