//! What a key with one role could write to get what needs another.

use super::*;
use crate::git::ObjectId;

/// From a contract to its promotion, each by a key that has the role; what is changed of it is forged.
struct Story {
    approvals: u64,
    approvers: Vec<u8>,
    candidate: Option<&'static str>,
    commit: ObjectId,
    contract: Option<Sha256>,
    outcome: Outcome,
    promotion: Option<Sha256>,
    seals: bool,
    abandons: bool,
    amends: bool,
    tag: &'static str,
    /// A failed run beside the promotion, which it does not follow.
    fails_beside: bool,
    fails_later: bool,
}

/// The beginning of a run of every change, on the commit that [`commit`] gives for `a`.
pub(super) fn started(of: &Contracted, evolution: &str) -> EvolutionStarted {
    EvolutionStarted {
        changes: of.changes.keys().cloned().collect(),
        commit: commit("a"),
        contract: of.contract,
        evolution: evolution.into(),
        nonce: "n".into(),
        version: of.version.clone(),
    }
}

/// A waiver of a gate for nine hours, on that commit.
pub(super) fn waived(of: &Contracted, gate: &str) -> Body {
    Body::Waived(Waived {
        commit: commit("a"),
        contract: of.contract,
        expires: UnixMicros(9 * 3_600_000_000),
        gate: gate.into(),
        reason: "now".into(),
        version: of.version.clone(),
    })
}

pub(super) fn commit(digit: &str) -> ObjectId {
    ObjectId::parse(&digit.repeat(40)).unwrap()
}

pub(super) fn envelope() -> serde_json::Value {
    let signature = json!({ "keyid": key(5).public().id(), "sig": "AA==" });
    json!({ "payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [signature] })
}

impl Default for Story {
    fn default() -> Self {
        Self {
            approvals: 0,
            approvers: Vec::new(),
            candidate: Some("v1.0.0-rc.1"),
            commit: commit("a"),
            contract: None,
            outcome: Outcome::Passed,
            promotion: None,
            seals: true,
            abandons: false,
            amends: false,
            tag: "v1.0.0",
            fails_beside: false,
            fails_later: false,
        }
    }
}

pub(super) fn begun() -> (Files, Sha256) {
    let mut files = Files::default();
    let roles = roles(&[
        (1, &[Role::Owner]),
        (2, &[Role::Author, Role::Approver]),
        (3, &[Role::Approver]),
        (4, &[Role::Approver]),
        (5, &[Role::Runner]),
        (6, &[Role::Releaser]),
        (7, &[Role::Approver]),
    ]);
    let genesis = files.add(Body::RolesSet(roles), &[], 10, 1);
    (files, genesis)
}

fn run(
    files: &mut Files,
    after: Sha256,
    of: &Contracted,
    name: &str,
    result: Outcome,
    tag: Option<&str>,
) -> Sha256 {
    let start = started(of, name);
    let end = EvolutionFinished {
        attestation: envelope(),
        changes: of.changes.clone(),
        commit: commit("a"),
        contract: of.contract,
        evidence: BTreeMap::new(),
        evolution: name.into(),
        hooks: Vec::new(),
        result,
        steps: Vec::new(),
        tag: tag.map(Into::into),
        version: of.version.clone(),
        why: None,
    };
    let started = files.add(Body::EvolutionStarted(start), &[after], 14, 5);
    files.add(Body::EvolutionFinished(Box::new(end)), &[started], 14, 5)
}

impl Story {
    fn contract(&self, title: &str, from: Option<Sha256>) -> Box<Contracted> {
        let document = json!({
            "author": { "name": "person 2" }, "changes": [{ "id": "A-1", "title": title }],
            "gates": { "approvals": { "count": self.approvals } },
        });
        let contract = Sha256::of(&canonical::foreign(document.to_string().as_bytes()).unwrap());
        Box::new(Contracted { contract, document, ..*contracted("1.0.0", "a", from) })
    }

    fn files(&self) -> (Files, Sha256) {
        let (mut files, genesis) = begun();
        let contract = self.contract("a", None);
        let mut head = genesis;
        if self.seals {
            head = files.add(Body::GenerationSealed(contract.clone()), &[head], 11, 2);
        }
        head = run(&mut files, head, &contract, "one", self.outcome, self.candidate);
        let ran = head;
        if self.fails_later {
            head = run(&mut files, head, &contract, "two", Outcome::Failed, None);
        }
        if self.amends {
            let amended = self.contract("b", Some(contract.contract));
            head = files.add(Body::GenerationAmended(amended), &[head], 15, 2);
        }
        if self.abandons {
            let body = GenerationAbandoned { reason: "x".into(), version: contract.version.clone() };
            head = files.add(Body::GenerationAbandoned(body), &[head], 15, 2);
        }
        for (seed, expires) in self.approvers.iter().zip([100, 100, 16]) {
            let approved = Approved {
                commit: commit("a"),
                contract: contract.contract,
                expires: UnixMicros(expires),
                policy: None,
                version: contract.version.clone(),
            };
            head = files.add(Body::Approved(approved), &[head], 15, *seed);
        }
        let (version, contract) = (contract.version.clone(), contract.contract);
        let stated = self.contract.unwrap_or(contract);
        let own = Sha256::of(format!("{version}\n{stated}\n{}\n", self.commit).as_bytes());
        let finished = PromotionFinished {
            commit: self.commit.clone(),
            contract: stated,
            gates: Vec::new(),
            promotion: self.promotion.unwrap_or(own),
            tag: self.tag.into(),
            version,
            vsa: envelope(),
        };
        files.add(Body::PromotionFinished(Box::new(finished)), &[head], 16, 6);
        if self.fails_beside {
            run(&mut files, ran, &self.contract("a", None), "two", Outcome::Failed, None);
        }
        (files, genesis)
    }
}

fn back(tag: &str) -> (Files, Sha256) {
    let (mut files, genesis) = begun();
    let back = RolledBack {
        commit: commit("a"),
        environments: BTreeMap::new(),
        from: "1.0.0".parse().unwrap(),
        reason: "slow".into(),
        tag: tag.into(),
        to: "0.9.0".parse().unwrap(),
    };
    files.add(Body::RolledBack(back), &[genesis], 11, 6);
    (files, genesis)
}

/// Name, files and first event, and what is to be said.
pub(super) fn stories() -> Vec<(String, (Files, Sha256), Option<Code>)> {
    let mut rows = Vec::new();
    let mut say =
        |name: &str, story: Story, code: Option<Code>| rows.push((name.to_owned(), story.files(), code));
    let story = Story::default;
    let conflict = Some(Code::LedgerConflict);
    say("a promotion of what is proven", story(), None);
    say("a run that failed beside a promotion", Story { fails_beside: true, ..story() }, None);
    let two = || Story { approvals: 2, ..story() };
    say("a promotion that two people approved", Story { approvers: vec![3, 4], ..two() }, None);
    say("approved by one of two", Story { approvers: vec![3], ..two() }, conflict);
    say("approved by one person twice", Story { approvers: vec![3, 3], ..two() }, conflict);
    say("approved by the author", Story { approvers: vec![2, 3], ..two() }, conflict);
    let late = Story { approvals: 3, approvers: vec![3, 4, 7], ..story() };
    say("approved until the very moment", late, conflict);
    let red = Story { outcome: Outcome::Failed, candidate: None, ..story() };
    say("a promotion of what failed", red, conflict);
    say("a promotion of what failed last", Story { fails_later: true, ..story() }, conflict);
    say("a promotion of a commit that was not proven", Story { commit: commit("b"), ..story() }, conflict);
    say("a promotion of a run without a candidate", Story { candidate: None, ..story() }, conflict);
    say("a promotion of what was never sealed", Story { seals: false, ..story() }, conflict);
    say("a promotion of what was abandoned", Story { abandons: true, ..story() }, conflict);
    say("a promotion under the contract before", Story { amends: true, ..story() }, conflict);
    let other = story().contract("b", None).contract;
    let amended = Story { amends: true, contract: Some(other), ..story() };
    say("a promotion of proofs under the contract before", amended, conflict);
    let id = Some(Sha256::of(b"another"));
    say("a promotion under the id of another", Story { promotion: id, ..story() }, conflict);
    let invalid = Some(Code::LedgerEventInvalid);
    for tag in ["v1.0.0", "v9.9.9", "v9.9.9-rc.1", "rollback/v1.0.0", "v1.0.0-rc.01"] {
        let forged = Story { candidate: Some(tag), ..story() };
        say(&format!("a runner gives away {tag}"), forged, invalid);
    }
    let red = Story { outcome: Outcome::Failed, ..story() };
    say("a run that failed gives away a candidate", red, invalid);
    say("a releaser gives away a candidate", Story { tag: "v1.0.0-rc.2", ..story() }, invalid);
    say("a releaser gives away another version", Story { tag: "v2.0.0", ..story() }, invalid);
    rows.push(("a version taken back".into(), back("rollback/v1.0.0"), None));
    rows.push(("a rollback gives away a version".into(), back("v2.0.0"), invalid));
    rows
}

#[test]
fn no_role_alone_makes_a_release_of_what_the_ledger_contradicts() {
    for (name, (files, genesis), expected) in stories() {
        let said = check(&files.0, Some(genesis)).err().map(|refusal| refusal.code);
        assert_eq!(said, expected, "{name}");
    }
}

#[test]
fn what_was_released_is_neither_amended_nor_abandoned() {
    let story = Story::default();
    let (files, genesis) = story.files();
    let version: Version = "1.0.0".parse().unwrap();
    let promotion = check(&files.0, Some(genesis)).unwrap().promoted(&version).unwrap().0.id;
    let amended = Body::GenerationAmended(story.contract("b", Some(story.contract("a", None).contract)));
    let abandoned =
        Body::GenerationAbandoned(GenerationAbandoned { reason: "x".into(), version: version.clone() });
    for body in [amended, abandoned] {
        let (mut after, mut beside) = (files.clone(), files.clone());
        after.add(body.clone(), &[promotion], 17, 2);
        assert_eq!(after.code(), Some(Code::LedgerConflict), "{}", body.kind());
        // Beside it nobody knew of the release, and it stays one.
        beside.add(body, &[genesis], 17, 2);
        let ledger = check(&beside.0, Some(genesis)).unwrap();
        assert_eq!(ledger.state(&version), Some(State::Promoted));
        let promoted = ledger.promoted(&version).unwrap().1.contract;
        assert_eq!(ledger.contract(&version).unwrap().1.contract, promoted, "{}", ledger.events().len());
    }
}

#[test]
fn only_what_was_released_is_taken_back_and_once() {
    let (files, genesis) = Story::default().files();
    let promotion = check(&files.0, Some(genesis)).unwrap().promoted(&"1.0.0".parse().unwrap()).unwrap().0.id;
    for (from, to) in [("2.0.0", "1.0.0"), ("1.0.0", "0.9.0"), ("1.0.0", "1.0.0")] {
        let mut files = files.clone();
        let back = RolledBack {
            commit: commit("a"),
            environments: BTreeMap::new(),
            from: from.parse().unwrap(),
            reason: "slow".into(),
            tag: format!("rollback/v{from}"),
            to: to.parse().unwrap(),
        };
        files.add(Body::RolledBack(back), &[promotion], 17, 6);
        assert_eq!(files.code(), Some(Code::LedgerConflict), "{from} to {to}");
    }
}
