//! Stages, steps and rows of gates: what a releaser could sign of a contract that asks for more.

use serde_json::Value;

use super::releases::{begun, commit, envelope, started, waived};
use super::*;
use crate::generation::StageName;

const HOUR: u64 = 3_600_000_000;

/// A contract with two stages before the release, and what is promoted of it; what is changed of it is forged.
struct Climb {
    /// Stages in the order in which they are signed, each with the commit and the time after the beginning.
    signed: Vec<(StageName, &'static str, u64)>,
    /// The gates that rows are there of; the state of each.
    rows: Vec<(&'static str, &'static str)>,
    /// The steps that the run says passed, by kind.
    steps: Vec<(&'static str, &'static str)>,
    tag: Option<&'static str>,
    waives: Option<(&'static str, u8)>,
    skips: Option<&'static str>,
    amends: bool,
    revokes: bool,
}

const ROWS: [(&str, &str); 8] = [
    ("contract_sealed", "pass"),
    ("candidate", "pass"),
    ("all_changes_proven", "pass"),
    ("integration_at_candidate", "pass"),
    ("no_failed", "pass"),
    ("stage_before", "pass"),
    ("soak", "pass"),
    ("perf_budget", "pass"),
];

impl Default for Climb {
    fn default() -> Self {
        use StageName::{Beta, Final, Rc};
        Self {
            signed: vec![(Beta, "a", 1), (Rc, "a", 2 * HOUR), (Final, "a", 3 * HOUR)],
            rows: ROWS.to_vec(),
            steps: vec![("build", "build"), ("unit", "unit")],
            tag: None,
            waives: None,
            skips: None,
            amends: false,
            revokes: false,
        }
    }
}

impl Climb {
    fn contract(&self, title: &str, from: Option<Sha256>) -> Box<Contracted> {
        let mut document = json!({
            "generation": 1, "version": "1.0.0", "author": { "name": "person 2" },
            "changes": [{ "id": "A-1", "title": title }],
            "steps": [
                { "id": "build", "kind": "build", "proves": [] },
                { "id": "unit", "kind": "unit", "proves": ["A-1"], "needs": ["build"] },
            ],
            "gates": { "perf_budget": { "p50_ms": 1 } },
            "stages": [{ "stage": "beta", "soak_hours": 1 }, { "stage": "rc" }, { "stage": "final" }],
        });
        if let Some(skips) = self.skips {
            document["hotfix"] = json!({ "base": "0.9.9", "reason": "it burns", "skips": [skips] });
        }
        let contract = Sha256::of(&canonical::foreign(document.to_string().as_bytes()).unwrap());
        Box::new(Contracted { contract, document, ..*contracted("1.0.0", "a", from) })
    }

    fn run(&self, files: &mut Files, after: Sha256, of: &Contracted) -> Sha256 {
        let start = started(of, "one");
        let step = |(id, kind): &(&str, &str)| StepResult {
            duration_ms: 1,
            exit: Some(0),
            id: (*id).into(),
            kind: (*kind).into(),
            log: None,
            outcome: StepOutcome::Passed,
        };
        let end = EvolutionFinished {
            attestation: envelope(),
            changes: of.changes.clone(),
            commit: commit("a"),
            contract: of.contract,
            evidence: BTreeMap::new(),
            evolution: "one".into(),
            hooks: Vec::new(),
            result: Outcome::Passed,
            steps: self.steps.iter().map(step).collect(),
            tag: Some("v1.0.0-rc.1".into()),
            version: of.version.clone(),
            why: None,
        };
        let started = files.add(Body::EvolutionStarted(start), &[after], 14, 5);
        files.add(Body::EvolutionFinished(Box::new(end)), &[started], 15, 5)
    }

    fn files(&self) -> (Files, Sha256) {
        let (files, genesis, _) = self.climbed();
        (files, genesis)
    }

    /// The same with the events that promote.
    fn climbed(&self) -> (Files, Sha256, Vec<Sha256>) {
        let (mut files, genesis) = begun();
        let mut promoted = Vec::new();
        let contract = self.contract("a", None);
        let mut head = files.add(Body::GenerationSealed(contract.clone()), &[genesis], 11, 2);
        head = self.run(&mut files, head, &contract);
        if let Some((gate, seed)) = self.waives {
            head = files.add(waived(&contract, gate), &[head], 16, seed);
        }
        for (place, (stage, on, after)) in self.signed.iter().enumerate() {
            if place == 1 && self.amends {
                let amended = self.contract("b", Some(contract.contract));
                head = files.add(Body::GenerationAmended(amended), &[head], 20 + after, 2);
            }
            if place == 1 && self.revokes {
                let roles = roles(&[(1, &[Role::Owner]), (5, &[Role::Runner]), (8, &[Role::Releaser])]);
                head = files.add(Body::RolesSet(roles), &[head], 20 + after, 1);
            }
            let seed = if place > 0 && self.revokes { 8 } else { 6 };
            let body = self.promotion(&contract, *stage, on, place);
            head = files.add(body, &[head], 20 + after, seed);
            promoted.push(head);
        }
        (files, genesis, promoted)
    }

    fn promotion(&self, of: &Contracted, stage: StageName, on: &str, place: usize) -> Body {
        let below = |gate: &str| match gate {
            "soak" => stage == StageName::Rc,
            "stage_before" => stage != StageName::Beta,
            "perf_budget" => stage == StageName::Final,
            _ => true,
        };
        let rows = self.rows.iter().filter(|(gate, _)| below(gate));
        let gates: Vec<Value> = rows
            .map(|(gate, state)| json!({ "gate": gate, "state": state, "why": "w", "evidence": [] }))
            .collect();
        let (version, contract, commit) = (of.version.clone(), of.contract, commit(on));
        let promotion = promotion_id(&version, contract, &commit, stage);
        let own = match stage {
            StageName::Final => version.tag(),
            stage => version.numbered_tag(stage.as_str(), 1),
        };
        let tag = self.tag.filter(|_| place == 0).map_or(own, ToOwned::to_owned);
        let vsa = envelope();
        match stage {
            StageName::Final => {
                let body = PromotionFinished { commit, contract, gates, promotion, tag, version, vsa };
                Body::PromotionFinished(Box::new(body))
            }
            stage => {
                let body = StagePromoted { commit, contract, gates, promotion, stage, tag, version, vsa };
                Body::StagePromoted(Box::new(body))
            }
        }
    }
}

/// A ladder to its end, and what environments are told of it afterwards.
struct Running {
    files: Files,
    genesis: Sha256,
    beta: Sha256,
    release: Sha256,
    head: Sha256,
    at: u64,
}

impl Running {
    fn new() -> Self {
        let (files, genesis, promoted) = Climb::default().climbed();
        let (beta, release) = (promoted[0], promoted[2]);
        Self { files, genesis, beta, release, head: release, at: 4 * HOUR }
    }

    fn then(mut self, body: Body, seed: u8) -> Self {
        self.at += 1;
        self.head = self.files.add(body, &[self.head], self.at, seed);
        self
    }

    fn set(&self, environment: &str, tag: &str, previous: Option<Sha256>) -> EnvironmentSet {
        let promoted = if tag == "v1.0.0" { self.release } else { self.beta };
        EnvironmentSet {
            commit: commit("a"),
            environment: environment.into(),
            previous,
            promoted,
            tag: tag.into(),
            version: "1.0.0".parse().unwrap(),
        }
    }

    fn has(self, environment: &str, tag: &str, previous: Option<Sha256>) -> Self {
        let body = self.set(environment, tag, previous);
        self.then(Body::EnvironmentSet(body), 6)
    }

    fn back(self, environments: &[&str]) -> Self {
        let environments = environments.iter().map(|name| ((*name).to_owned(), self.head)).collect();
        let back = RolledBack {
            commit: commit("a"),
            environments,
            from: "1.0.0".parse().unwrap(),
            reason: "slow".into(),
            tag: "rollback/v1.0.0".into(),
            to: "0.9.0".parse().unwrap(),
        };
        self.then(Body::RolledBack(back), 6)
    }

    fn done(self) -> (Files, Sha256) {
        (self.files, self.genesis)
    }
}

fn running() -> Vec<(String, (Files, Sha256), Option<Code>)> {
    let mut rows = Vec::new();
    let mut say = |name: &str, it: Running, code: Option<Code>| rows.push((name.to_owned(), it.done(), code));
    let (new, conflict) = (Running::new, Some(Code::LedgerConflict));
    let has = |tag: &str| new().has("production", tag, None);
    say("a release runs", has("v1.0.0"), None);
    let first = has("v1.0.0");
    let previous = Some(first.head);
    say("a release runs again", first.has("production", "v1.0.0", previous), None);
    say("a pointer that was moved before", has("v1.0.0").has("production", "v1.0.0", None), conflict);
    say("a pointer that was never there", new().has("production", "v1.0.0", Some(new().release)), conflict);
    let mut beside = has("v1.0.0");
    let second = beside.set("production", "v1.0.0", None);
    let release = beside.release;
    beside.files.add(Body::EnvironmentSet(second), &[release], 5 * HOUR, 6);
    say("a pointer that two move beside each other", beside, conflict);
    say("a stage runs where releases do", has("v1.0.0-beta.1"), conflict);
    let bound = |stage| {
        let mut roles = roles(&[(1, &[Role::Owner]), (5, &[Role::Runner]), (6, &[Role::Releaser])]);
        roles.bind("staging", stage).unwrap();
        new().then(Body::RolesSet(roles), 1)
    };
    let staging = |stage| bound(stage).has("staging", "v1.0.0-beta.1", None);
    say("a stage runs where an owner lets it", staging(StageName::Beta), None);
    say("a stage runs where a higher one is asked", staging(StageName::Rc), conflict);
    let other = EnvironmentSet { commit: commit("b"), ..new().set("production", "v1.0.0", None) };
    say("another commit runs", new().then(Body::EnvironmentSet(other), 6), conflict);
    let other = EnvironmentSet { promoted: new().genesis, ..new().set("production", "v1.0.0", None) };
    say("what nobody promoted runs", new().then(Body::EnvironmentSet(other), 6), conflict);
    say(
        "an approver says what runs",
        {
            let body = new().set("production", "v1.0.0", None);
            new().then(Body::EnvironmentSet(body), 3)
        },
        Some(Code::LedgerSignature),
    );
    say("what was taken back runs", new().back(&[]).has("production", "v1.0.0", None), conflict);
    say("a rollback that leaves a pointer", has("v1.0.0").back(&[]), conflict);
    say("a rollback to what was not released", has("v1.0.0").back(&["production"]), conflict);
    say("a rollback of a pointer that is elsewhere", new().back(&["production"]), conflict);
    let name = new().has("Production", "v1.0.0", None);
    say("an environment without a name", name, Some(Code::LedgerEventInvalid));
    rows
}

/// Name, files and first event, and what is to be said.
pub(super) fn stories() -> Vec<(String, (Files, Sha256), Option<Code>)> {
    use StageName::{Alpha, Beta, Final, Rc};
    let mut rows = Vec::new();
    let mut say =
        |name: &str, climb: Climb, code: Option<Code>| rows.push((name.to_owned(), climb.files(), code));
    let climb = Climb::default;
    let conflict = Some(Code::LedgerConflict);
    say("a ladder to its end", climb(), None);
    say("one stage alone", Climb { signed: vec![(Beta, "a", 1)], ..climb() }, None);
    say("a stage above the first one", Climb { signed: vec![(Rc, "a", 1)], ..climb() }, conflict);
    say("a release without its stages", Climb { signed: vec![(Final, "a", 1)], ..climb() }, conflict);
    let left_out = Climb { signed: vec![(Beta, "a", 1), (Final, "a", 3 * HOUR)], ..climb() };
    say("a release that leaves a stage out", left_out, conflict);
    say(
        "a stage that the contract does not have",
        Climb { signed: vec![(Alpha, "a", 1)], ..climb() },
        conflict,
    );
    let again = Climb { signed: vec![(Beta, "a", 1), (Beta, "a", 2)], ..climb() };
    say("a stage twice", again, conflict);
    say(
        "a stage on a commit that was not proven",
        Climb { signed: vec![(Beta, "b", 1)], ..climb() },
        conflict,
    );
    let late = Climb {
        signed: vec![(Beta, "a", 1), (Rc, "a", 2 * HOUR), (Final, "a", 3 * HOUR), (Beta, "a", 4 * HOUR)],
        ..climb()
    };
    say("a stage after the release", late, conflict);
    let short = || Climb { signed: vec![(Beta, "a", 1), (Rc, "a", 2)], ..climb() };
    say("too short at a stage", short(), conflict);
    let waived = || {
        let rows = ROWS.map(|(gate, state)| (gate, if gate == "soak" { "waived" } else { state }));
        Climb { rows: rows.to_vec(), ..short() }
    };
    say("too short at a stage, waived by nobody", waived(), conflict);
    say("too short at a stage, and somebody answers", Climb { waives: Some(("soak", 3)), ..waived() }, None);
    say(
        "too short at a stage, and the author answers",
        Climb { waives: Some(("soak", 2)), ..waived() },
        conflict,
    );
    say("another gate is waived", Climb { waives: Some(("no_failed", 3)), ..waived() }, conflict);
    say("a stage under the contract before", Climb { amends: true, ..climb() }, conflict);
    say("a stage by a key that lost its role", Climb { revokes: true, ..climb() }, conflict);
    for gate in ["candidate", "soak", "stage_before", "perf_budget"] {
        let without = ROWS.into_iter().filter(|(name, _)| *name != gate).collect();
        say(&format!("nothing is said of {gate}"), Climb { rows: without, ..climb() }, conflict);
    }
    let failed = ROWS.map(|(gate, state)| (gate, if gate == "no_failed" { "fail" } else { state }));
    say("a gate that failed", Climb { rows: failed.to_vec(), ..climb() }, conflict);
    let waived = ROWS.map(|(gate, state)| (gate, if gate == "candidate" { "waived" } else { state }));
    let waived = Climb { rows: waived.to_vec(), waives: Some(("candidate", 3)), ..climb() };
    say("a gate is waived that nobody may waive", waived, conflict);
    say("a run without a step", Climb { steps: vec![("unit", "unit")], ..climb() }, conflict);
    let kind = vec![("build", "build"), ("unit", "other")];
    say("a run with a step of another kind", Climb { steps: kind, ..climb() }, conflict);
    let mut rows_of_hotfix =
        ROWS.map(|(gate, state)| (gate, if gate == "soak" { "waived" } else { state })).to_vec();
    say(
        "a hotfix that says nothing of its base",
        Climb { skips: Some("soak"), rows: rows_of_hotfix.clone(), ..short() },
        conflict,
    );
    rows_of_hotfix.push(("hotfix_base", "pass"));
    say(
        "a hotfix that leaves out the wait",
        Climb { skips: Some("soak"), rows: rows_of_hotfix, ..short() },
        conflict,
    );
    let invalid = Some(Code::LedgerEventInvalid);
    for tag in ["v1.0.0", "v1.0.0-alpha.1", "v1.0.0-beta.01", "v1.0.0-rc.1", "v2.0.0-beta.1"] {
        say(&format!("a beta gives away {tag}"), Climb { tag: Some(tag), ..climb() }, invalid);
    }
    rows.extend(running());
    rows
}

#[test]
fn no_releaser_alone_comes_to_a_stage_that_the_ledger_contradicts() {
    for (name, (files, genesis), expected) in stories() {
        let said = check(&files.0, Some(genesis)).err();
        assert_eq!(said.as_ref().map(|refusal| refusal.code), expected, "{name}: {said:?}");
    }
}
