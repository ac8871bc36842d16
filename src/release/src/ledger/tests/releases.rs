//! What a key with one role could write to get what needs another.

use super::*;
use crate::git::ObjectId;

fn commit() -> ObjectId {
    ObjectId::parse(&"a".repeat(40)).unwrap()
}

fn begun() -> (Files, Sha256) {
    let mut files = Files::default();
    let roles = roles(&[
        (1, &[Role::Owner]),
        (2, &[Role::Author]),
        (3, &[Role::Approver]),
        (5, &[Role::Runner]),
        (6, &[Role::Releaser]),
    ]);
    let genesis = files.add(Body::RolesSet(roles), &[], 10, 1);
    (files, genesis)
}

fn ended(result: Outcome, tag: Option<&str>) -> Body {
    let contract = contracted("1.0.0", "a", None);
    Body::EvolutionFinished(Box::new(EvolutionFinished {
        attestation: json!({}),
        changes: contract.changes,
        commit: commit(),
        contract: contract.contract,
        evidence: BTreeMap::new(),
        evolution: "one".into(),
        hooks: Vec::new(),
        result,
        steps: Vec::new(),
        tag: tag.map(Into::into),
        version: contract.version,
        why: None,
    }))
}

fn evolved(result: Outcome, tag: Option<&str>) -> Files {
    let (mut files, genesis) = begun();
    let contract = contracted("1.0.0", "a", None);
    let start = EvolutionStarted {
        changes: contract.changes.keys().cloned().collect(),
        commit: commit(),
        contract: contract.contract,
        evolution: "one".into(),
        nonce: "n".into(),
        version: contract.version.clone(),
    };
    let sealed = files.add(Body::GenerationSealed(contract), &[genesis], 11, 2);
    let started = files.add(Body::EvolutionStarted(start), &[sealed], 12, 5);
    files.add(ended(result, tag), &[started], 13, 5);
    files
}

#[test]
fn a_runner_gives_away_the_tag_of_a_candidate_and_no_other() {
    assert_eq!(evolved(Outcome::Passed, Some("v1.0.0-rc.1")).code(), None);
    assert_eq!(evolved(Outcome::Failed, None).code(), None);
    for tag in ["v1.0.0", "v9.9.9", "v9.9.9-rc.1", "rollback/v1.0.0", "v1.0.0-rc.01"] {
        assert_eq!(evolved(Outcome::Passed, Some(tag)).code(), Some(Code::LedgerEventInvalid), "{tag}");
    }
    assert_eq!(evolved(Outcome::Failed, Some("v1.0.0-rc.1")).code(), Some(Code::LedgerEventInvalid));
}

#[test]
fn a_rollback_gives_away_its_own_marker_and_no_other() {
    for (tag, code) in [("rollback/v1.0.0", None), ("v2.0.0", Some(Code::LedgerEventInvalid))] {
        let (mut files, genesis) = begun();
        let back = RolledBack {
            commit: commit(),
            from: "1.0.0".parse().unwrap(),
            reason: "slow".into(),
            tag: tag.into(),
            to: "0.9.0".parse().unwrap(),
        };
        files.add(Body::RolledBack(back), &[genesis], 11, 6);
        assert_eq!(files.code(), code, "{tag}");
    }
}
