//! Rows that events alone decide, and what is written beside a promotion.

use serde_json::Value;

use super::releases::{commit, envelope, started, waived};
use super::*;
use crate::generation::StageName;

const HOUR: u64 = 3_600_000_000;
/// When the last of what a promotion goes by happened, counted in microseconds as every time here.
const BEGUN: u64 = 20;

/// What is written beside a stage that the release climbs from.
#[derive(Clone, Copy)]
enum Beside {
    /// So long after it, by one who did not know it.
    Unknowing(u64),
    /// So long after it, by one who knew it.
    Knowing(u64),
}

/// A contract, the runs of it and its promotion; what is changed of it is forged.
struct Counted {
    version: &'static str,
    gates: Value,
    base: Option<&'static str>,
    skips: Option<&'static str>,
    /// The version that was released before.
    released: Option<&'static str>,
    /// What came of each run, and whose key says so.
    runs: Vec<(Outcome, u8)>,
    /// The key that is a `runner` no more.
    revokes: Option<u8>,
    amends: bool,
    /// The state of the row of each gate that is asked beside those that always are, or of one of these.
    rows: Vec<(&'static str, &'static str)>,
    waives: Option<&'static str>,
    /// What is written beside the stage; none where there is no stage.
    beside: Option<Vec<Beside>>,
    /// How long after the stage, or after all that is gone by, it is promoted.
    after: u64,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            version: "1.0.1",
            gates: json!({}),
            base: None,
            skips: None,
            released: None,
            runs: vec![(Outcome::Passed, 5)],
            revokes: None,
            amends: false,
            rows: Vec::new(),
            waives: None,
            beside: None,
            after: 1,
        }
    }
}

fn begun() -> (Files, Sha256) {
    let mut files = Files::default();
    let genesis = files.add(Body::RolesSet(people(None)), &[], 10, 1);
    (files, genesis)
}

fn people(revoked: Option<u8>) -> Roles {
    let of: [(u8, &[Role]); 6] = [
        (1, &[Role::Owner]),
        (2, &[Role::Author]),
        (3, &[Role::Approver]),
        (5, &[Role::Runner]),
        (6, &[Role::Releaser]),
        (8, &[Role::Runner]),
    ];
    roles(&of.into_iter().filter(|(seed, _)| Some(*seed) != revoked).collect::<Vec<_>>())
}

impl Counted {
    fn contract(&self, title: &str, from: Option<Sha256>) -> Box<Contracted> {
        let mut document = json!({
            "generation": 1, "version": self.version, "author": { "name": "person 2" },
            "changes": [{ "id": "A-1", "title": title }],
            "steps": [{ "id": "unit", "kind": "unit", "proves": "all" }], "gates": self.gates,
        });
        if let Some(base) = self.base {
            let skips: Vec<&str> = self.skips.into_iter().collect();
            document["hotfix"] = json!({ "base": base, "reason": "it burns", "skips": skips });
        }
        if self.beside.is_some() {
            document["stages"] = json!([{ "stage": "beta", "soak_hours": 1 }, { "stage": "final" }]);
        }
        let contract = Sha256::of(&canonical::foreign(document.to_string().as_bytes()).unwrap());
        Box::new(Contracted { contract, document, ..*contracted(self.version, "a", from) })
    }

    fn run(
        files: &mut Files,
        after: Sha256,
        of: &Contracted,
        number: u64,
        (result, seed): (Outcome, u8),
    ) -> Sha256 {
        let evolution = format!("{}-{number}", of.version);
        let start = started(of, &evolution);
        let step = StepResult {
            duration_ms: 1,
            exit: Some(0),
            id: "unit".into(),
            kind: "unit".into(),
            log: None,
            outcome: if result == Outcome::Passed { StepOutcome::Passed } else { StepOutcome::Failed },
        };
        let end = EvolutionFinished {
            attestation: envelope(),
            changes: of.changes.clone(),
            commit: commit("a"),
            contract: of.contract,
            evidence: BTreeMap::new(),
            evolution,
            hooks: Vec::new(),
            result,
            steps: vec![step],
            tag: (result == Outcome::Passed).then(|| of.version.candidate_tag(number)),
            version: of.version.clone(),
            why: None,
        };
        let started = files.add(Body::EvolutionStarted(start), &[after], 15, seed);
        files.add(Body::EvolutionFinished(Box::new(end)), &[started], 15, seed)
    }

    fn promotion(&self, of: &Contracted, stage: StageName) -> Body {
        let always =
            ["contract_sealed", "candidate", "all_changes_proven", "integration_at_candidate", "no_failed"];
        let is_said = |gate: &str| self.rows.iter().any(|(name, _)| *name == gate);
        let mut rows: Vec<(&str, &str)> =
            always.into_iter().filter(|gate| !is_said(gate)).map(|gate| (gate, "pass")).collect();
        if stage == StageName::Final {
            rows.extend(&self.rows);
            rows.extend(self.beside.iter().map(|_| ("stage_before", "pass")));
        }
        let gates = rows.into_iter();
        let gates =
            gates.map(|(gate, state)| json!({ "evidence": [], "gate": gate, "state": state, "why": "w" }));
        let (version, contract, commit) = (of.version.clone(), of.contract, commit("a"));
        let (gates, vsa) = (gates.collect(), envelope());
        let promotion = promotion_id(&version, contract, &commit, stage);
        match stage {
            StageName::Final => {
                let tag = version.tag();
                let body = PromotionFinished { commit, contract, gates, promotion, tag, version, vsa };
                Body::PromotionFinished(Box::new(body))
            }
            stage => {
                let tag = version.numbered_tag(stage.as_str(), 1);
                let body = StagePromoted { commit, contract, gates, promotion, stage, tag, version, vsa };
                Body::StagePromoted(Box::new(body))
            }
        }
    }

    fn files(&self) -> (Files, Sha256) {
        let (mut files, mut head) = begun();
        let genesis = head;
        if let Some(version) = self.released {
            let of = contracted(version, "base", None);
            head = files.add(Body::GenerationSealed(of.clone()), &[head], 11, 2);
            head = Self::run(&mut files, head, &of, 1, (Outcome::Passed, 5));
            head = files.add(Counted::default().promotion(&of, StageName::Final), &[head], 15, 6);
        }
        let mut contract = self.contract("a", None);
        let sealed = files.add(Body::GenerationSealed(contract.clone()), &[head], 15, 2);
        head = sealed;
        for (number, run) in (1..).zip(&self.runs) {
            if number == self.runs.len() as u64 && self.amends {
                contract = self.contract("b", Some(contract.contract));
                head = files.add(Body::GenerationAmended(contract.clone()), &[head], 15, 2);
            }
            head = Self::run(&mut files, head, &contract, number, *run);
        }
        if let Some(gate) = self.waives {
            head = files.add(waived(&contract, gate), &[head], 16, 3);
        }
        if self.revokes.is_some() {
            head = files.add(Body::RolesSet(people(self.revokes)), &[head], 17, 1);
        }
        let mut heads = vec![head];
        if let Some(beside) = &self.beside {
            let stage = files.add(self.promotion(&contract, StageName::Beta), &[head], BEGUN, 6);
            heads = vec![stage];
            for (number, beside) in (0..).zip(beside) {
                let (after, late) = match beside {
                    Beside::Unknowing(late) => (head, late),
                    Beside::Knowing(late) => (stage, late),
                };
                let other = contracted(&format!("7.0.{number}"), "beside", None);
                heads.push(files.add(Body::GenerationSealed(other), &[after], BEGUN + late, 2));
            }
        }
        files.add(self.promotion(&contract, StageName::Final), &heads, BEGUN + self.after, 6);
        (files, genesis)
    }
}

/// A release of which an author says beside it that it is given up, and what an environment is told afterwards.
fn given_up(tag: &str, releases: bool) -> (Files, Sha256) {
    let story = Counted { beside: Some(Vec::new()), ..Counted::default() };
    let (mut files, genesis) = begun();
    let contract = story.contract("a", None);
    let sealed = files.add(Body::GenerationSealed(contract.clone()), &[genesis], 15, 2);
    let ran = Counted::run(&mut files, sealed, &contract, 1, (Outcome::Passed, 5));
    let stage = files.add(story.promotion(&contract, StageName::Beta), &[ran], BEGUN, 6);
    let version = contract.version.clone();
    let given_up = GenerationAbandoned { reason: "x".into(), version: version.clone() };
    let given_up = files.add(Body::GenerationAbandoned(given_up), &[stage], BEGUN + 1, 2);
    let mut heads = vec![given_up];
    let mut promoted = stage;
    if releases {
        let rows = vec![("soak", "pass")];
        let release = Counted { rows, ..story }.promotion(&contract, StageName::Final);
        let release = files.add(release, &[stage], BEGUN + HOUR, 6);
        heads.push(release);
        if tag == version.tag() {
            promoted = release;
        }
    }
    let mut roles = people(None);
    roles.bind("staging", StageName::Beta).unwrap();
    let bound = files.add(Body::RolesSet(roles), &heads, BEGUN + 2 * HOUR, 1);
    let set = EnvironmentSet {
        commit: commit("a"),
        environment: "staging".into(),
        previous: None,
        promoted,
        tag: tag.into(),
        version,
    };
    files.add(Body::EnvironmentSet(set), &[bound], BEGUN + 2 * HOUR, 6);
    (files, genesis)
}

/// Name, files and first event, and what is to be said.
pub(super) fn stories() -> Vec<(String, (Files, Sha256), Option<Code>)> {
    use Outcome::{Failed, Passed};
    let mut rows = Vec::new();
    let mut say =
        |name: &str, story: Counted, code: Option<Code>| rows.push((name.to_owned(), story.files(), code));
    let (new, conflict) = (Counted::default, Some(Code::LedgerConflict));

    let mended = vec![(Failed, 5), (Passed, 5)];
    say("a run failed before, and only the latest counts", Counted { runs: mended.clone(), ..new() }, None);
    let ever = || Counted { gates: json!({ "no_failed": { "scope": "ever" } }), ..new() };
    say("no run ever failed", ever(), None);
    say("a run failed before, and none ever may", Counted { runs: mended.clone(), ..ever() }, conflict);
    let waived = Counted { rows: vec![("no_failed", "waived")], runs: mended.clone(), ..ever() };
    say("a run failed before, and nobody answers for it", waived, conflict);
    let waived =
        Counted { rows: vec![("no_failed", "waived")], waives: Some("no_failed"), runs: mended, ..ever() };
    say("a run failed before, and somebody answers for it", Counted { ..waived }, None);
    let unsaid = Counted { waives: Some("no_failed"), runs: vec![(Failed, 5), (Passed, 5)], ..ever() };
    say("a run failed before, and it is said that none did", unsaid, conflict);

    let two = || Counted {
        gates: json!({ "min_evolutions": { "count": 2 } }),
        rows: vec![("min_evolutions", "pass")],
        ..new()
    };
    say("one run of two", two(), conflict);
    say("two runs of two", Counted { runs: vec![(Passed, 5); 2], ..two() }, None);
    say("one of two runs failed", Counted { runs: vec![(Failed, 5), (Passed, 5)], ..two() }, conflict);
    let other = || Counted { runs: vec![(Passed, 8), (Passed, 5)], ..two() };
    say("two runs by two keys", other(), None);
    say("one of two runs by a key that lost its role", Counted { revokes: Some(8), ..other() }, conflict);
    say("one of two runs under the contract before", Counted { amends: true, ..other() }, conflict);
    let waived = || Counted { rows: vec![("min_evolutions", "waived")], ..two() };
    say("one run of two, waived by nobody", waived(), conflict);
    say("one run of two, and somebody answers", Counted { waives: Some("min_evolutions"), ..waived() }, None);

    let frozen = |from: &str, to: &str| Counted {
        gates: json!({ "freeze_window": { "windows": [{ "from": from, "to": to, "reason": "r" }] } }),
        rows: vec![("freeze_window", "pass")],
        after: 2 * HOUR,
        ..new()
    };
    let (early, late) = ("1970-01-01T00:00:00Z", "1970-01-01T12:00:00Z");
    say("a release in a frozen time", frozen(early, late), conflict);
    say("a release before a frozen time", frozen(late, "1970-01-02T00:00:00Z"), None);
    let exact = |from, to| Counted { after: 2 * HOUR - BEGUN, ..frozen(from, to) };
    say("a release in the first moment of a frozen time", exact("1970-01-01T02:00:00Z", late), conflict);
    say("a release in the first moment after a frozen time", exact(early, "1970-01-01T02:00:00Z"), None);
    let waived = Counted { rows: vec![("freeze_window", "waived")], ..frozen(early, late) };
    say(
        "a release in a frozen time, and somebody answers",
        Counted { waives: Some("freeze_window"), ..waived },
        None,
    );

    let hotfix = || Counted {
        base: Some("1.0.0"),
        released: Some("1.0.0"),
        rows: vec![("hotfix_base", "pass")],
        ..new()
    };
    say("a hotfix of what was released", hotfix(), None);
    say("a hotfix of what was not released", Counted { released: None, ..hotfix() }, conflict);
    say("a hotfix of another line", Counted { version: "1.1.1", ..hotfix() }, conflict);
    say(
        "a hotfix that is no later patch",
        Counted { version: "1.0.0", base: Some("1.0.1"), released: Some("1.0.1"), ..hotfix() },
        conflict,
    );
    say("a hotfix that is a pre-release", Counted { version: "1.0.1-rc.1", ..hotfix() }, conflict);
    let pre = Some("1.0.0-beta.1");
    say("a hotfix of a pre-release", Counted { base: pre, released: pre, ..hotfix() }, conflict);

    let soaked = |beside: &[Beside], after| Counted {
        rows: vec![("soak", "pass")],
        beside: Some(beside.to_vec()),
        after,
        ..new()
    };
    let half = HOUR / 2;
    say("as long at a stage as is asked", soaked(&[], HOUR), None);
    say("not as long at a stage as is asked", soaked(&[], HOUR - 1), conflict);
    say("somebody wrote later and knew the stage", soaked(&[Beside::Knowing(half)], HOUR), None);
    let unknown = || soaked(&[Beside::Unknowing(half)], HOUR);
    say("somebody wrote later and did not know the stage", unknown(), conflict);
    let both = [Beside::Unknowing(1), Beside::Unknowing(half), Beside::Knowing(HOUR)];
    say("since the last that did not know the stage, too short", soaked(&both, half + HOUR - 1), conflict);
    say("since the last that did not know the stage, long enough", soaked(&both, half + HOUR), None);
    let answered = || Counted { waives: Some("soak"), ..unknown() };
    say("a wait that somebody answers for, and it is said that it was long enough", answered(), conflict);
    say("a wait that somebody answers for", Counted { rows: vec![("soak", "waived")], ..answered() }, None);

    rows.push(("what was given up beside its release runs".into(), given_up("v1.0.1", true), None));
    rows.push((
        "a stage runs of what was given up beside its release".into(),
        given_up("v1.0.1-beta.1", true),
        None,
    ));
    rows.push(("what was given up runs".into(), given_up("v1.0.1-beta.1", false), conflict));
    // Published before its base was asked for.
    let (name, files, _) = super::ladder::stories()
        .into_iter()
        .find(|(name, _, _)| name == "a hotfix that leaves out the wait")
        .expect("it is there");
    rows.push((name, files, conflict));
    rows
}

#[test]
fn a_row_says_no_other_than_the_events_count() {
    let mut wrong = Vec::new();
    for (name, (files, genesis), expected) in stories() {
        let said = check(&files.0, Some(genesis)).err();
        if said.as_ref().map(|refusal| refusal.code) != expected {
            wrong.push(format!("{name}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
