use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::made::{ISS, MadeKey, MadeKeys, MadeRun, RUN, canonical, trust};

fn line() -> Vec<u8> {
    let mut run = MadeRun::new(RUN, "each", MadeKeys::new().receipt);
    run.open().call("allow");
    run.lines.remove(1)
}

fn found(report: &Report) -> Option<(Reason, Option<u64>)> {
    report.finding.as_ref().map(|finding| (finding.reason, finding.seq))
}

#[track_caller]
fn check(envelope: &[u8], expected: Option<(Reason, Option<u64>)>) {
    let keys = MadeKeys::new();
    let report = verify_receipt(envelope, Given::Spki(&keys.receipt.spki()));
    assert_eq!(found(&report), expected, "{:?}", report.finding);
    let report = verify_receipt(envelope, Given::Trust(&keys.trust()));
    assert_eq!(found(&report), expected, "{:?}", report.finding);
}

#[test]
fn a_receipt_stands_alone() {
    let keys = MadeKeys::new();
    let envelope = keys.receipt.envelope(ENTRY_TYPE, &line());
    check(&envelope, None);
    let report = verify_receipt(&envelope, Given::Spki(&keys.receipt.spki()));
    assert_eq!(report.iss.as_deref(), Some(ISS));
    assert_eq!(report.run.as_deref(), Some(RUN));
    assert_eq!(report.verdicts.integrity, Integrity::Ok);
    assert_eq!(report.verdicts.authenticity, Authenticity::Trusted);
    assert_eq!(report.verdicts.completeness.name(), "unchecked");
    assert_eq!(report.verdicts.anchoring.name(), "unchecked");
}

#[test]
fn each_step_has_its_reason() {
    let key = MadeKeys::new().receipt;
    let sign = |payload: &[u8]| key.envelope(ENTRY_TYPE, payload);
    check(b"", Some((Reason::EnvelopeMalformed, None)));
    check(&key.envelope("application/vnd.in-toto+json", &line()), Some((Reason::EnvelopeMalformed, None)));
    check(&MadeKey::new(9).envelope(ENTRY_TYPE, &line()), Some((Reason::KeyUnknown, None)));
    let mut forged: Value = serde_json::from_slice(&sign(&line())).unwrap();
    forged["payload"] = json!(crate::made::b64(b"{}"));
    check(&canonical(&forged), Some((Reason::EnvelopeSignature, None)));
    check(&sign(b""), Some((Reason::LineLength, None)));
    check(&sign(&[line(), b"\n".to_vec()].concat()), Some((Reason::LineNotCanonical, Some(1))));
    check(&sign(b"{\"a\":null}"), Some((Reason::LineMalformed, None)));
    check(&sign(b"{}"), Some((Reason::LineSchema, None)));
    let mut other = MadeRun::new(RUN, "each", MadeKey::new(9));
    other.open();
    check(&sign(&other.lines[0]), Some((Reason::KeyMismatch, Some(0))));
}

#[test]
fn a_key_for_another_use_or_instance_or_a_revoked_one_is_refused() {
    let keys = MadeKeys::new();
    let envelope = keys.receipt.envelope(ENTRY_TYPE, &line());
    let judge = |trust: &[u8]| found(&verify_receipt(&envelope, Given::Trust(trust)));
    assert_eq!(judge(&trust(&[(&keys.receipt, "manifest")])), Some((Reason::KeyUnknown, None)));
    let text = String::from_utf8(keys.trust()).unwrap();
    assert_eq!(judge(text.replace("main/1", "main/2").as_bytes()), Some((Reason::KeyMismatch, Some(1))));
    let revoked = text.replace("\"spki\"", "\"revoked_from_index\":1000,\"spki\"");
    assert_eq!(judge(revoked.as_bytes()), Some((Reason::KeyRevoked, Some(1))));
    assert_eq!(judge(b"{}"), Some((Reason::TrustInvalid, None)));
    let report = verify_receipt(&envelope, Given::Spki(b"x"));
    assert_eq!((found(&report), report.exit_code()), (Some((Reason::TrustInvalid, None)), 6));
}

#[test]
fn a_checkpoint_stands_alone() {
    let keys = MadeKeys::new();
    let leaves = [[1; 32], [2; 32]];
    for origin in [ISS.to_owned(), format!("{ISS}/run/{RUN}")] {
        let note = keys.checkpoint.checkpoint(&origin, &leaves);
        for given in [Given::Spki(&keys.checkpoint.spki()), Given::Trust(&keys.trust())] {
            let report = verify_checkpoint(&note, &origin, given);
            assert_eq!((found(&report), report.checkpoint_size), (None, Some(2)));
        }
        let report = verify_checkpoint(&note, "other", Given::Trust(&keys.trust()));
        assert_eq!(found(&report), Some((Reason::CheckpointMalformed, None)));
        let report = verify_checkpoint(&note, &origin, Given::Spki(&keys.receipt.spki()));
        assert_eq!(found(&report), Some((Reason::CheckpointSignature, None)));
        let revoked =
            String::from_utf8(keys.trust()).unwrap().replace("\"spki\"", "\"revoked_from_index\":2,\"spki\"");
        let report = verify_checkpoint(&note, &origin, Given::Trust(revoked.as_bytes()));
        assert_eq!(found(&report).is_none(), origin == ISS);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>, origin: String) {
        let keys = MadeKeys::new();
        check(&bytes, Some((Reason::EnvelopeMalformed, None)));
        _ = verify_checkpoint(&bytes, &origin, Given::Trust(&keys.trust()));
        _ = verify_receipt(&bytes, Given::Trust(&bytes));
    }
}
