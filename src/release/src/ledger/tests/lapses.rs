//! An amendment makes lapse what was before it, by its place in the ledger: with an earlier text nothing comes back.

use serde_json::Value;

use super::releases::{commit, envelope, started, waived};
use super::*;
use crate::generation::StageName;

const HOUR: u64 = 3_600_000_000;

/// What is written, one after the other.
#[derive(Clone, Copy)]
enum Act {
    /// A contract with these titles of its two changes in the place of the one before; sealed where there is none.
    Text(&'static str, &'static str),
    Begin(&'static str),
    /// The end of a run of these changes that began, which passed.
    End(&'static str, &'static [&'static str]),
    Approve,
    Waive,
    Beta(u64),
    Release,
    /// What follows is written beside all that came since the mark, and joined by the release.
    Mark,
    Beside,
}

struct Told {
    files: Files,
    heads: Vec<Sha256>,
    mark: Vec<Sha256>,
    tips: Vec<Sha256>,
    contract: Option<Box<Contracted>>,
    candidates: u64,
    at: u64,
}

/// What a contract asks beside what every one does.
#[derive(Clone, Copy)]
enum Asks {
    Nothing,
    Approvals,
    TwoRuns,
    Stage,
}

fn contract(asks: Asks, titles: [&str; 2], from: Option<Sha256>) -> Box<Contracted> {
    let mut document = json!({
        "generation": 1, "version": "1.0.0", "author": { "name": "person 2" },
        "changes": [{ "id": "A-1", "title": titles[0] }, { "id": "B-2", "title": titles[1] }],
        "steps": [{ "id": "unit", "kind": "unit", "proves": "all" }],
    });
    match asks {
        Asks::Nothing => {}
        Asks::Approvals => document["gates"] = json!({ "approvals": { "count": 1 } }),
        Asks::TwoRuns => document["gates"] = json!({ "min_evolutions": { "count": 2 } }),
        Asks::Stage => document["stages"] = json!([{ "stage": "beta" }, { "stage": "final" }]),
    }
    let digest = |value: &Value| Sha256::of(&canonical::foreign(value.to_string().as_bytes()).unwrap());
    let changes = [("A-1", titles[0]), ("B-2", titles[1])];
    Box::new(Contracted {
        changes: changes.map(|(id, title)| (id.to_owned(), digest(&json!({ "title": title })))).into(),
        contract: digest(&document),
        document,
        ..*contracted("1.0.0", "a", from)
    })
}

impl Told {
    fn add(&mut self, body: Body, seed: u8) {
        let id = self.files.add(body, &self.heads, self.at, seed);
        self.heads = vec![id];
    }

    fn contract(&self) -> &Contracted {
        self.contract.as_ref().expect("the story begins with one")
    }

    fn promotion(&self, stage: StageName, number: u64, asked: &[&str]) -> Body {
        let Contracted { version, contract, .. } = self.contract().clone();
        let always =
            ["contract_sealed", "candidate", "all_changes_proven", "integration_at_candidate", "no_failed"];
        let row = |gate: &&str| {
            let (gate, state) = gate.split_once('=').unwrap_or((gate, "pass"));
            json!({ "evidence": [], "gate": gate, "state": state, "why": "w" })
        };
        let gates = always.iter().chain(asked).map(row).collect();
        let (commit, vsa) = (commit("a"), envelope());
        let promotion = promotion_id(&version, contract, &commit, stage);
        match stage {
            StageName::Final => {
                let tag = version.tag();
                let body = PromotionFinished { commit, contract, gates, promotion, tag, version, vsa };
                Body::PromotionFinished(Box::new(body))
            }
            stage => {
                let tag = version.numbered_tag(stage.as_str(), number);
                let body = StagePromoted { commit, contract, gates, promotion, stage, tag, version, vsa };
                Body::StagePromoted(Box::new(body))
            }
        }
    }

    fn act(&mut self, asks: Asks, act: Act) {
        self.at += 1;
        match act {
            Act::Text(a, b) => {
                let from = self.contract.as_ref().map(|before| before.contract);
                let now = contract(asks, [a, b], from);
                self.contract = Some(now.clone());
                let body =
                    if from.is_some() { Body::GenerationAmended(now) } else { Body::GenerationSealed(now) };
                self.add(body, 2);
            }
            Act::Begin(name) => self.add(Body::EvolutionStarted(started(self.contract(), name)), 5),
            Act::End(name, changes) => {
                self.candidates += 1;
                let of = self.contract();
                let step = StepResult {
                    duration_ms: 1,
                    exit: Some(0),
                    id: "unit".into(),
                    kind: "unit".into(),
                    log: None,
                    outcome: StepOutcome::Passed,
                };
                let changes = of.changes.iter().filter(|(id, _)| changes.contains(&id.as_str()));
                let body = EvolutionFinished {
                    attestation: envelope(),
                    changes: changes.map(|(id, digest)| (id.clone(), *digest)).collect(),
                    commit: commit("a"),
                    contract: of.contract,
                    evidence: BTreeMap::new(),
                    evolution: name.into(),
                    hooks: Vec::new(),
                    result: Outcome::Passed,
                    steps: vec![step],
                    tag: Some(of.version.candidate_tag(self.candidates)),
                    version: of.version.clone(),
                    why: None,
                };
                self.add(Body::EvolutionFinished(Box::new(body)), 5);
            }
            Act::Approve => {
                let Contracted { contract, version, .. } = self.contract().clone();
                let expires = UnixMicros(9 * HOUR);
                let body = Approved { commit: commit("a"), contract, expires, policy: None, version };
                self.add(Body::Approved(body), 3);
            }
            Act::Waive => self.add(waived(self.contract(), "min_evolutions"), 3),
            Act::Beta(number) => self.add(self.promotion(StageName::Beta, number, &[]), 6),
            Act::Mark => self.mark = self.heads.clone(),
            Act::Beside => self.tips = std::mem::replace(&mut self.heads, self.mark.clone()),
            Act::Release => {
                let tips = std::mem::take(&mut self.tips);
                self.heads.extend(tips);
                let asked: &[&str] = match asks {
                    Asks::Nothing => &[],
                    Asks::Approvals => &["approvals"],
                    Asks::TwoRuns if self.is_waived() => &["min_evolutions=waived"],
                    Asks::TwoRuns => &["min_evolutions"],
                    Asks::Stage => &["stage_before"],
                };
                self.add(self.promotion(StageName::Final, 0, asked), 6);
            }
        }
    }

    fn is_waived(&self) -> bool {
        let events = self.files.0.iter().map(|(_, bytes)| Event::read(bytes).unwrap());
        events.into_iter().any(|event| matches!(event.body, Body::Waived(_)))
    }
}

fn files(asks: Asks, acts: &[Act]) -> (Files, Sha256) {
    let (files, genesis) = super::releases::begun();
    let mut told = Told {
        files,
        heads: vec![genesis],
        mark: Vec::new(),
        tips: Vec::new(),
        contract: None,
        candidates: 0,
        at: 10,
    };
    for act in acts {
        told.act(asks, *act);
    }
    (told.files, genesis)
}

/// Name, files and first event, and what is to be said.
pub(super) fn stories() -> Vec<(String, (Files, Sha256), Option<Code>)> {
    use Act::{Approve, Begin, Beside, Beta, End, Mark, Release, Text, Waive};
    const BOTH: &[&str] = &["A-1", "B-2"];
    const ONE: Act = Begin("one");
    const TWO: Act = Begin("two");
    const ONE_ENDS: Act = End("one", BOTH);
    const TWO_ENDS: Act = End("two", BOTH);
    const FIRST: Act = Text("a", "b");
    const OTHER: Act = Text("a", "c");
    let conflict = Some(Code::LedgerConflict);
    let all: Vec<(&str, Asks, Vec<Act>, Option<Code>)> = vec![
        (
            "proofs from before two amendments, the second with the first text",
            Asks::Nothing,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, Release],
            conflict,
        ),
        (
            "the same, and all is proven again",
            Asks::Nothing,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, TWO, TWO_ENDS, Release],
            None,
        ),
        (
            "a run that began before the amendments and ended after them",
            Asks::Nothing,
            vec![FIRST, ONE, OTHER, FIRST, ONE_ENDS, Release],
            conflict,
        ),
        (
            "an amendment to the text that there was",
            Asks::Nothing,
            vec![FIRST, ONE, ONE_ENDS, FIRST, Release],
            conflict,
        ),
        (
            "what was altered and altered back is not proven by a run of the other change",
            Asks::Nothing,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, TWO, End("two", &["A-1"]), Release],
            conflict,
        ),
        (
            "a run beside the amendments, which it did not know",
            Asks::Nothing,
            vec![FIRST, Mark, ONE, ONE_ENDS, Beside, OTHER, FIRST, Release],
            conflict,
        ),
        (
            "an approval from before two amendments, the second with the first text",
            Asks::Approvals,
            vec![FIRST, ONE, ONE_ENDS, Approve, OTHER, FIRST, TWO, TWO_ENDS, Release],
            conflict,
        ),
        (
            "an approval from after them",
            Asks::Approvals,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, TWO, TWO_ENDS, Approve, Release],
            None,
        ),
        (
            "one of two runs from before two amendments, the second with the first text",
            Asks::TwoRuns,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, TWO, TWO_ENDS, Release],
            conflict,
        ),
        (
            "a waiver from before them",
            Asks::TwoRuns,
            vec![FIRST, ONE, ONE_ENDS, Waive, OTHER, FIRST, TWO, TWO_ENDS, Release],
            conflict,
        ),
        (
            "a waiver from after them",
            Asks::TwoRuns,
            vec![FIRST, ONE, ONE_ENDS, OTHER, FIRST, TWO, TWO_ENDS, Waive, Release],
            None,
        ),
        (
            "a stage from before them",
            Asks::Stage,
            vec![FIRST, ONE, ONE_ENDS, Beta(1), OTHER, FIRST, TWO, TWO_ENDS, Release],
            conflict,
        ),
        (
            "a commit that climbs again after them",
            Asks::Stage,
            vec![FIRST, ONE, ONE_ENDS, Beta(1), OTHER, FIRST, TWO, TWO_ENDS, Beta(2), Release],
            None,
        ),
        (
            "a commit that climbs twice without an amendment",
            Asks::Stage,
            vec![FIRST, ONE, ONE_ENDS, Beta(1), Beta(2), Release],
            conflict,
        ),
    ];
    all.into_iter().map(|(name, asks, acts, code)| (name.to_owned(), files(asks, &acts), code)).collect()
}

#[test]
fn what_lapsed_does_not_come_back_with_the_text() {
    let mut wrong = Vec::new();
    for (name, (files, genesis), expected) in stories() {
        let said = check(&files.0, Some(genesis)).err();
        if said.as_ref().map(|refusal| refusal.code) != expected {
            wrong.push(format!("{name}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A change that an amendment did not alter keeps its proof, and the run of all of them is made again.
#[test]
fn a_proof_of_what_was_not_altered_stays() {
    let (_, genesis) = super::releases::begun();
    let acts =
        [Act::Text("a", "b"), Act::Begin("one"), Act::End("one", &["A-1", "B-2"]), Act::Text("a", "c")];
    let (files, begun) = files(Asks::Nothing, &acts);
    assert_eq!(genesis, begun);
    let ledger = check(&files.0, Some(genesis)).unwrap();
    let version = "1.0.0".parse().unwrap();
    let in_force = ledger.in_force(&version);
    let (event, run) = ledger.finished(&version).next().unwrap();
    assert!(in_force.proves(run, "A-1") && !in_force.proves(run, "B-2"));
    assert!(!in_force.has_run(run) && !in_force.has(event));
}
