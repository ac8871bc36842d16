mod ladder;

use std::cell::RefCell;
use std::path::Path;

use estoppel_evidence::Signer as _;
use serde_json::json;

use super::*;
use crate::generation::{PolicyGate, RegressGate};
use crate::git::Move;
use crate::ledger::Approved;
use crate::scene::{Scene, document, hand, key, now};

/// Says of a bundle what its bytes say as JSON: who the calls are of, and by which policy.
struct Reader {
    asked: RefCell<u32>,
}

impl Witness for Reader {
    fn bundle(&self, bundle: Left<'_>, trust: &[u8]) -> Result<Bundle, String> {
        *self.asked.borrow_mut() += 1;
        if trust != b"{}" {
            return Err("it is another trust document".into());
        }
        let text = std::fs::read_to_string(bundle.path).map_err(|error| error.to_string())?;
        let root = format!("root:{}", Sha256::of(text.as_bytes()).hex());
        let call = |line: &str| {
            let mut words = line.split_whitespace().map(ToOwned::to_owned);
            let (evolution, policy) = (words.next(), words.next());
            let id = words.next().unwrap_or_default();
            Call { id, seq: 1, evolution, policy, is_blocked: false, total_us: Some(1500) }
        };
        Ok(Bundle { root, calls: text.lines().map(call).collect(), codes: Default::default() })
    }

    fn subject(&self, certificate: Left<'_>) -> Option<String> {
        Some(std::fs::read_to_string(certificate.path).unwrap().lines().next()?.to_owned())
    }

    /// One that is of the bundle in its first line counts where its second says so.
    fn certificate(
        &self,
        certificate: Left<'_>,
        _: Left<'_>,
        _: &[u8],
        _: &[PublicKey],
    ) -> Result<(), String> {
        let text = std::fs::read_to_string(certificate.path).unwrap();
        if text.lines().nth(1) == Some("good") { Ok(()) } else { Err("it is by a stranger".into()) }
    }

    fn regress(&self, files: &Files, gate: &RegressGate, _: Option<&[u8]>) -> Result<String, String> {
        let text = String::from_utf8(files.read(&gate.fixtures)?).unwrap();
        if text.contains("same") { Ok(text) } else { Err(text) }
    }

    fn policy(&self, files: &Files, gate: &PolicyGate) -> Result<Sha256, String> {
        files.read(&gate.policy).map(|bytes| Sha256::of(&bytes))
    }
}

fn wanted(version: &Version) -> Wanted<'_> {
    Wanted {
        version,
        stage: StageName::Final,
        candidate: None,
        contract: None,
        folders: &[],
        resume: false,
        dry: false,
    }
}

fn promote_as(scene: &Scene, seed: u8, version: &str) -> Result<Judged, Refusal> {
    let version = version.parse().unwrap();
    let key = key(seed);
    promote(&scene.store(), &hand(&key), &wanted(&version), &Reader { asked: RefCell::new(0) })
}

fn promoted(scene: &Scene, version: &str) -> Judged {
    promote_as(scene, 5, version).unwrap()
}

fn states(judged: &Judged) -> Vec<(&str, &str)> {
    judged
        .rows
        .iter()
        .filter(|row| row.state != State::Pass)
        .map(|row| (row.gate.as_str(), row.state.as_str()))
        .collect()
}

fn refused(scene: &Scene, version: &str, expected: &[(&str, &str)]) -> Judged {
    let judged = promoted(scene, version);
    assert_eq!(states(&judged), expected, "{:#?}", judged.rows);
    assert_eq!(judged.promoted, None);
    assert_eq!(scene.git.target(&format!("refs/tags/v{version}")).unwrap(), None);
    judged
}

fn approve(scene: &Scene, seed: u8, version: &str, commit: &ObjectId) {
    let version: Version = version.parse().unwrap();
    let ledger = scene.store().read().unwrap();
    let contract = ledger.contract(&version).unwrap().1.contract;
    let expires = UnixMicros(now().0 + 3_600_000_000);
    let body = Approved { commit: commit.clone(), contract, expires, policy: None, version };
    scene.write(seed, Body::Approved(body)).unwrap();
}

#[test]
fn what_only_failed_is_never_promoted() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "false", "false"));
    scene.evolve("1.0.0", &[]);
    let judged = refused(
        &scene,
        "1.0.0",
        &[
            ("candidate", "missing"),
            ("all_changes_proven", "fail"),
            ("integration_at_candidate", "missing"),
            ("no_failed", "fail"),
        ],
    );
    assert_eq!(judged.refusal(), Some(Code::GateRefused));
    assert!(judged.rows[2].why.contains("A-1"), "{:?}", judged.rows[2]);
    let ledger = scene.store().read().unwrap();
    assert!(ledger.events().iter().any(|event| matches!(event.body, Body::PromotionRefused(_))));
    // Nor by waiving everything.
    let (_, contracted) = ledger.contract(&"1.0.0".parse().unwrap()).unwrap();
    for gate in ["candidate", "all_changes_proven", "integration_at_candidate", "no_failed"] {
        let waived = Waived {
            commit: scene.head(),
            contract: contracted.contract,
            expires: UnixMicros(now().0 + 3_600_000_000),
            gate: gate.into(),
            reason: "please".into(),
            version: "1.0.0".parse().unwrap(),
        };
        scene.write(3, Body::Waived(waived)).unwrap();
    }
    let judged = promoted(&scene, "1.0.0");
    assert_eq!(judged.promoted, None);
    assert_eq!(judged.rows.iter().filter(|row| row.refuses()).count(), 3);
}

#[test]
fn what_is_proven_is_promoted_once_and_its_tag_verifies() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let judged = promoted(&scene, "1.0.0");
    assert_eq!(judged.promoted.as_ref().unwrap().0, "v1.0.0", "{:#?}", judged.rows);
    let ledger = scene.store().read().unwrap();
    let (tag, _, commit) = verify_tag(&scene.git, &ledger, "v1.0.0").unwrap();
    assert_eq!((tag.as_str(), &commit), ("v1.0.0", &scene.head()));
    let again = promote_as(&scene, 5, "1.0.0").unwrap_err();
    assert_eq!((again.code, again.code.exit()), (Code::PromotedAlready, 8));
    assert_eq!(promote_as(&scene, 3, "1.0.0").unwrap_err().code, Code::PromotedAlready);
}

#[test]
fn a_key_that_may_not_release_changes_nothing() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    assert_eq!(promote_as(&scene, 2, "1.0.0").unwrap_err().code, Code::RoleMissing);
    assert_eq!(scene.git.target("refs/tags/v1.0.0").unwrap(), None);
}

#[test]
fn the_latest_evolution_of_each_change_counts() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "test ! -e broken", "true"));
    scene.evolve("1.0.0", &[]);
    scene.commit("broken", "x");
    scene.evolve("1.0.0", &["A-1"]);
    refused(&scene, "1.0.0", &[("all_changes_proven", "fail"), ("no_failed", "fail")]);
    scene.git.text(&["rm", "-q", "broken"]).unwrap();
    scene.commit("whole", "x");
    scene.evolve("1.0.0", &["A-1"]);
    // Proven apart, but not together.
    refused(&scene, "1.0.0", &[("integration_at_candidate", "missing")]);
    scene.evolve("1.0.0", &[]);
    assert!(promoted(&scene, "1.0.0").promoted.is_some());
}

#[test]
fn an_amendment_voids_only_the_proofs_of_the_changes_that_it_alters() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    scene.amend(document("1.0.0", "true", "echo more"));
    let judged = refused(
        &scene,
        "1.0.0",
        &[("all_changes_proven", "missing"), ("integration_at_candidate", "missing")],
    );
    let row = judged.rows.iter().find(|row| row.gate == "all_changes_proven").unwrap();
    assert!(
        row.why.contains("B-2 was amended") && row.run.as_ref().unwrap().contains("--change B-2"),
        "{row:?}"
    );
    scene.evolve("1.0.0", &[]);
    assert!(promoted(&scene, "1.0.0").promoted.is_some());
}

#[test]
fn what_an_amendment_made_lapse_does_not_come_back_with_the_text() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["gates"] = json!({ "approvals": { "count": 1 } });
    let mut other = document("1.0.0", "true", "false");
    other["gates"] = contract["gates"].clone();
    scene.seal(contract.clone());
    scene.evolve("1.0.0", &[]);
    approve(&scene, 3, "1.0.0", &scene.head());
    scene.amend(other);
    scene.amend(contract);
    let judged = refused(
        &scene,
        "1.0.0",
        &[
            ("all_changes_proven", "missing"),
            ("integration_at_candidate", "missing"),
            ("approvals", "missing"),
        ],
    );
    assert!(judged.rows[2].why.contains("B-2 was amended"), "{:?}", judged.rows[2]);
    scene.evolve("1.0.0", &[]);
    let judged = refused(&scene, "1.0.0", &[("approvals", "missing")]);
    assert!(
        judged.rows.iter().any(|row| row.why.contains("before the contract was amended")),
        "{:?}",
        judged.rows
    );
    approve(&scene, 3, "1.0.0", &scene.head());
    assert!(promoted(&scene, "1.0.0").promoted.is_some());
}

#[test]
fn a_run_that_never_ended_hides_no_failure() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let proven = scene.evolve("1.0.0", &[]);
    let began = crate::ledger::EvolutionStarted {
        changes: vec!["A-1".into()],
        commit: proven.commit,
        contract: proven.contract,
        evolution: "cut".into(),
        nonce: "n".into(),
        version: proven.version,
    };
    scene.write(5, Body::EvolutionStarted(began)).unwrap();
    refused(&scene, "1.0.0", &[("all_changes_proven", "missing")]);
    scene.evolve("1.0.0", &["A-1"]);
    assert!(promoted(&scene, "1.0.0").promoted.is_some());
}

#[test]
fn a_result_that_says_nothing_of_its_steps_proves_nothing() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let proven = scene.evolve("1.0.0", &[]);
    let began = crate::ledger::EvolutionStarted {
        changes: proven.changes.keys().cloned().collect(),
        commit: proven.commit.clone(),
        contract: proven.contract,
        evolution: "made-up".into(),
        nonce: "n".into(),
        version: proven.version.clone(),
    };
    scene.write(5, Body::EvolutionStarted(began)).unwrap();
    let made_up = crate::ledger::EvolutionFinished {
        evolution: "made-up".into(),
        steps: proven.steps[..1].to_vec(),
        tag: None,
        ..proven
    };
    scene.write(5, Body::EvolutionFinished(Box::new(made_up))).unwrap();
    let judged = refused(&scene, "1.0.0", &[("all_changes_proven", "fail")]);
    assert!(judged.rows.iter().any(|row| row.why.contains("nothing of step `b`")), "{:#?}", judged.rows);
}

#[test]
fn a_candidate_renamed_to_the_final_name_is_forged() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let candidate = scene.git.target("refs/tags/v1.0.0-rc.1").unwrap().unwrap();
    scene.git.move_refs(&[Move::create("refs/tags/v1.0.0", &candidate)]).unwrap();
    let ledger = scene.store().read().unwrap();
    assert_eq!(verify_tag(&scene.git, &ledger, "v1.0.0").unwrap_err().code, Code::TagForged);
    assert_eq!(promote_as(&scene, 5, "1.0.0").unwrap_err().code, Code::TagTaken);
    // And a candidate whose tag was moved to another commit.
    let other = scene.commit("file", "x");
    scene.git.text(&["update-ref", "refs/tags/v1.0.0-rc.1", other.as_str()]).unwrap();
    assert_eq!(verify_tag(&scene.git, &ledger, "v1.0.0-rc.1").unwrap_err().code, Code::TagForged);
    assert_eq!(promote_as(&scene, 5, "1.0.0").unwrap_err().code, Code::TagForged);
}

#[test]
fn a_tag_that_is_not_there_and_one_that_this_clone_has_not_heard_of_are_not_forged() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let behind = scene.store().read().unwrap();
    promoted(&scene, "1.0.0");
    let ledger = scene.store().read().unwrap();
    let said = |ledger: &Ledger, name: &str| verify_tag(&scene.git, ledger, name).map(|_| ()).unwrap_err();
    assert_eq!(said(&ledger, "v7.0.0").code, Code::TagUnknown);
    let unheard = said(&behind, "v1.0.0");
    assert_eq!((unheard.code, unheard.code.exit()), (Code::TagEventMissing, 7), "{unheard}");
    assert!(unheard.hint.unwrap().contains("estoppel sync pull"));
    // By a key without the role, without an event, of an event that gives another name away, and without a signature.
    let tag = |name: &str, seed: u8, event: &str| {
        let message = format!("x\n\nEstoppel-Event: {event}");
        let tag = Tag { name: name.into(), target: scene.head(), message };
        let id = scene.git.write("tag", &tag.sign(now(), &key(seed)).unwrap()).unwrap();
        scene.git.move_refs(&[Move::create(&format!("refs/tags/{name}"), &id)]).unwrap();
    };
    let (nowhere, last) =
        (Sha256::of(b"nowhere").to_string(), ledger.events().last().unwrap().id.to_string());
    tag("v2.0.0", 3, &nowhere);
    tag("v3.0.0", 5, "none");
    tag("v4.0.0", 5, &last);
    scene.git.text(&["tag", "v5.0.0"]).unwrap();
    for name in ["v2.0.0", "v3.0.0", "v4.0.0", "v5.0.0"] {
        assert_eq!(said(&ledger, name).code, Code::TagForged, "{name}");
    }
    scene.git.text(&["tag", "-d", "v1.0.0"]).unwrap();
    let gone = said(&ledger, "v1.0.0");
    assert_eq!(gone.code, Code::TagUnknown);
    assert!(gone.detail.contains("gave it away") && gone.hint.is_some(), "{gone}");
}

/// What was not begun is not gone on with, and the hint says what to do instead.
#[test]
fn a_promotion_that_was_not_begun_is_not_resumed() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let version: Version = "1.0.0".parse().unwrap();
    let asked = Wanted { resume: true, ..wanted(&version) };
    let reader = Reader { asked: RefCell::new(0) };
    let refused = promote(&scene.store(), &hand(&key(5)), &asked, &reader).unwrap_err();
    assert_eq!(refused.code, Code::StateInvalid);
    assert!(refused.hint.unwrap().contains("`estoppel promote 1.0.0` does all of it"));
}

#[test]
fn approvals_are_of_distinct_people_who_are_not_the_author_and_of_exactly_this() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["gates"] = json!({ "approvals": { "count": 2 } });
    scene.seal(contract.clone());
    scene.evolve("1.0.0", &[]);
    let head = scene.head();
    let judged = refused(&scene, "1.0.0", &[("approvals", "missing")]);
    assert_eq!(judged.refusal().map(Code::exit), Some(4));
    approve(&scene, 3, "1.0.0", &head);
    approve(&scene, 3, "1.0.0", &head);
    refused(&scene, "1.0.0", &[("approvals", "missing")]);
    approve(&scene, 1, "1.0.0", &scene.commit("other", "x"));
    refused(&scene, "1.0.0", &[("approvals", "missing")]);
    // Person 4 wrote a part of it.
    let (_, amended) = crate::scene::contracted(contract, None);
    let from = Some(amended.contract);
    scene
        .write(4, Body::GenerationAmended(Box::new(crate::ledger::Contracted { from, ..*amended })))
        .unwrap();
    scene.evolve("1.0.0", &[]);
    let head = scene.head();
    approve(&scene, 4, "1.0.0", &head);
    approve(&scene, 3, "1.0.0", &head);
    let judged = refused(&scene, "1.0.0", &[("approvals", "missing")]);
    assert!(
        judged.rows.iter().any(|row| row.why.contains("person 4 is the author's own")),
        "{:?}",
        judged.rows
    );
    approve(&scene, 1, "1.0.0", &head);
    assert!(promoted(&scene, "1.0.0").promoted.is_some());
}

/// A contract whose step leaves a bundle that names `nonce`.
fn with_bundle(nonce: &str) -> Value {
    let leave = format!(
        "printf '%s %s\\n' \"{nonce}\" \"sha256:$(sha256sum policy | cut -d' ' -f1)\" > \"$ESTOPPEL_EVIDENCE/a.pef.zip\""
    );
    let mut contract = document("1.0.0", &leave, "true");
    contract["gates"] = json!({
        "evidence_bundle": { "trust": "trust.json" }, "policy_hash": { "policy": "policy" },
        "perf_budget": { "p95_ms": 2 }, "regress": { "policy": "policy", "fixtures": "fixtures" },
    });
    contract
}

fn with_files(scene: &Scene) {
    for (name, text) in [("trust.json", "{}"), ("policy", "p"), ("fixtures", "all the same")] {
        scene.commit(name, text);
    }
}

#[test]
fn evidence_counts_only_where_its_calls_name_the_run() {
    let scene = Scene::new();
    with_files(&scene);
    scene.seal(with_bundle("$ESTOPPEL_NONCE"));
    let run = scene.evolve("1.0.0", &[]);
    let path = evolution::evidence(scene.git.private(), &run.evolution).join("a.pef.zip");
    let bytes = std::fs::read(&path).unwrap();
    let all = ["evidence_bundle", "policy_hash", "perf_budget"];
    std::fs::write(&path, "forged").unwrap();
    refused(&scene, "1.0.0", &all.map(|gate| (gate, "fail")));
    std::fs::remove_file(&path).unwrap();
    refused(&scene, "1.0.0", &all.map(|gate| (gate, "missing")));
    std::fs::write(&path, bytes).unwrap();
    let judged = promoted(&scene, "1.0.0");
    assert!(judged.promoted.is_some(), "{:#?}", judged.rows);
}

/// Evolves with a script that has `$P`, the hash of the policy, and the evidence folder as its own, and promotes.
fn with_evidence(script: &str, gates: &Value) -> (Judged, Vec<Row>) {
    let scene = Scene::new();
    with_files(&scene);
    let script = format!(
        "set -e; P=sha256:$(sha256sum policy | cut -d' ' -f1); N=$ESTOPPEL_NONCE; cd $ESTOPPEL_EVIDENCE; {script}"
    );
    let mut contract = document("1.0.0", &script, "true");
    contract["gates"] = gates.clone();
    scene.seal(contract);
    assert_eq!(scene.evolve("1.0.0", &[]).result, crate::ledger::Outcome::Passed);
    let judged = promoted(&scene, "1.0.0");
    let rows = judged.rows.iter().filter(|row| gates.get(&row.gate).is_some()).cloned().collect();
    (judged, rows)
}

#[test]
fn a_run_and_a_call_count_once() {
    let gates = json!({
        "evidence_bundle": { "trust": "trust.json", "bundles_min": 2, "calls_min": 2 }, "perf_budget": { "p95_ms": 2 },
    });
    for (script, why) in [
        ("echo $N $P 1 > a.pef.zip; cp a.pef.zip b.pef.zip", "is a copy of"),
        ("echo $N $P 1 > a.pef.zip; cp a.pef.zip b.pef.zip; echo $N $P 1 >> b.pef.zip", "call 1 is in"),
        (": > a.pef.zip; : > b.pef.zip; printf \"$N $P 1\\n$N $P 2\\n\" > c.pef.zip", "is a copy of"),
    ] {
        let (judged, rows) = with_evidence(script, &gates);
        assert_eq!((judged.promoted, rows.len()), (None, 2), "{script}");
        for row in rows {
            assert!(row.state == State::Fail && row.why.starts_with("EVIDENCE_TWICE: "), "{script}: {row:?}");
            assert!(row.why.contains(why), "{script}: {row:?}");
        }
    }
    let (judged, _) = with_evidence("echo $N $P 1 > a.pef.zip; echo $N $P 2 > b.pef.zip", &gates);
    assert!(judged.promoted.is_some(), "{:#?}", judged.rows);
}

#[test]
fn a_bundle_without_a_certificate_is_named_and_not_the_certificate_of_another() {
    let gates = json!({
        "evidence_bundle": { "trust": "trust.json" }, "replay_certificate": { "trust": "trust.json" },
    });
    let bundles = "for i in x y; do echo $N $P $i > $i.pef.zip; done; \
        of() { printf 'root:%s\\n%s\\n' $(sha256sum $1.pef.zip | cut -d' ' -f1) $2 > $3.certificate.json; }";
    for (script, state, why) in [
        ("of x good x", State::Missing, "left no certificate of a replay of `y.pef.zip`"),
        ("of x good x; cp x.certificate.json y.certificate.json", State::Missing, "of `y.pef.zip`"),
        ("of x good x; of y bad y", State::Fail, "`y.certificate.json`: it is by a stranger"),
        ("of x good y; of y good x", State::Pass, "every bundle"),
    ] {
        let (judged, rows) = with_evidence(&format!("{bundles}; {script}"), &gates);
        let row = rows.iter().find(|row| row.gate == "replay_certificate").unwrap();
        assert!(row.state == state && row.why.contains(why), "{script}: {row:?}");
        assert_eq!(judged.promoted.is_some(), state == State::Pass, "{script}");
    }
}

#[test]
fn what_lies_with_the_evidence_and_is_not_taken_is_named() {
    let gates = json!({ "evidence_bundle": { "trust": "trust.json" } });
    let script = "echo $N $P 1 > ../aside; ln -s ../aside a.pef.zip; mkdir sub; cp ../aside sub/b.pef.zip; echo > note";
    let (_, rows) = with_evidence(script, &gates);
    assert_eq!(rows[0].state, State::Missing, "{rows:?}");
    assert!(rows[0].why.contains("`a.pef.zip` (a symbolic link), `sub` (a folder)"), "{rows:?}");
    assert!(!rows[0].why.contains("note"), "{rows:?}");
}

#[test]
fn a_program_that_looks_at_another_tree_than_the_candidate_decides_nothing() {
    let pass = "printf '{\"state\":\"pass\",\"why\":\"fine\"}'";
    for (script, state) in [
        ("echo x > built", State::Pass),
        ("echo x > policy", State::Fail),
        ("chmod +x policy", State::Fail),
        ("rm trust.json", State::Fail),
    ] {
        let scene = Scene::new();
        with_files(&scene);
        let mut contract = document("1.0.0", "true", "true");
        let asks = |id: &str, script: &str| json!({ "id": id, "run": ["sh", "-c", script] });
        contract["gates"] =
            json!({ "commands": [asks("first", &format!("{script}; {pass}")), asks("next", pass)] });
        scene.seal(contract);
        scene.evolve("1.0.0", &[]);
        let judged = promoted(&scene, "1.0.0");
        for gate in ["command:first", "command:next"] {
            let row = judged.rows.iter().find(|row| row.gate == gate).unwrap();
            assert_eq!(row.state, state, "{script}: {row:?}");
        }
    }
}

/// Writes over the files of every working tree that the clone has.
struct Meddler<'a> {
    reader: Reader,
    scene: &'a Scene,
    met: std::cell::Cell<u32>,
}

impl Meddler<'_> {
    fn meddle(&self) {
        for entry in
            std::fs::read_dir(self.scene.git.private().join("worktrees")).into_iter().flatten().flatten()
        {
            let tree = entry.path().join("tree");
            if tree.is_dir() {
                self.met.set(self.met.get() + 1);
                for (name, text) in
                    [("trust.json", "forged"), ("policy", "forged"), ("fixtures", "all the same")]
                {
                    std::fs::write(tree.join(name), text).unwrap();
                }
            }
        }
    }
}

impl Witness for Meddler<'_> {
    fn bundle(&self, bundle: Left<'_>, trust: &[u8]) -> Result<Bundle, String> {
        self.meddle();
        self.reader.bundle(bundle, trust)
    }

    fn subject(&self, certificate: Left<'_>) -> Option<String> {
        self.reader.subject(certificate)
    }

    fn certificate(
        &self,
        certificate: Left<'_>,
        bundle: Left<'_>,
        trust: &[u8],
        signers: &[PublicKey],
    ) -> Result<(), String> {
        self.reader.certificate(certificate, bundle, trust, signers)
    }

    fn regress(&self, files: &Files, gate: &RegressGate, trust: Option<&[u8]>) -> Result<String, String> {
        self.meddle();
        self.reader.regress(files, gate, trust)
    }

    fn policy(&self, files: &Files, gate: &PolicyGate) -> Result<Sha256, String> {
        self.meddle();
        self.reader.policy(files, gate)
    }
}

#[test]
fn what_somebody_writes_into_the_tree_of_a_promotion_is_not_what_is_judged() {
    for (fixtures, is_promoted) in [("all the same", true), ("all otherwise", false)] {
        let scene = Scene::new();
        with_files(&scene);
        if !is_promoted {
            scene.commit("fixtures", fixtures);
        }
        scene.seal(with_bundle("$ESTOPPEL_NONCE"));
        scene.evolve("1.0.0", &[]);
        let (version, key) = ("1.0.0".parse().unwrap(), key(5));
        let meddler = Meddler {
            reader: Reader { asked: RefCell::new(0) },
            scene: &scene,
            met: std::cell::Cell::new(0),
        };
        let judged = promote(&scene.store(), &hand(&key), &wanted(&version), &meddler).unwrap();
        assert!(meddler.met.get() >= 3);
        assert_eq!(judged.promoted.is_some(), is_promoted, "{:#?}", judged.rows);
        let expected: &[(&str, &str)] = if is_promoted { &[] } else { &[("regress", "fail")] };
        assert_eq!(states(&judged), expected);
    }
}

#[test]
fn a_bundle_of_another_run_is_stale() {
    let scene = Scene::new();
    with_files(&scene);
    scene.seal(with_bundle("the-nonce-of-an-earlier-run"));
    scene.evolve("1.0.0", &[]);
    let judged = promoted(&scene, "1.0.0");
    assert_eq!(judged.promoted, None);
    let row = judged.rows.iter().find(|row| row.gate == "evidence_bundle").unwrap();
    assert!(row.state == State::Fail && row.why.contains("of another run"), "{row:?}");
}

#[test]
fn a_waiver_holds_for_what_it_names_and_only_where_a_gate_may_be_waived() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["gates"] = json!({ "min_evolutions": { "count": 2 } });
    let generation = scene.seal(contract);
    scene.evolve("1.0.0", &[]);
    refused(&scene, "1.0.0", &[("min_evolutions", "missing")]);
    let waive = |seed: u8, expires: u64| {
        let waived = Waived {
            commit: scene.head(),
            contract: generation.digest(),
            expires: UnixMicros(expires),
            gate: "min_evolutions".into(),
            reason: "one is enough this time".into(),
            version: generation.version.clone(),
        };
        scene.write(seed, Body::Waived(waived)).unwrap();
    };
    waive(3, 1);
    refused(&scene, "1.0.0", &[("min_evolutions", "missing")]);
    waive(3, now().0 + 3_600_000_000);
    let judged = promoted(&scene, "1.0.0");
    assert_eq!(states(&judged), [("min_evolutions", "waived")]);
    assert_eq!(judged.rows.iter().find_map(|row| row.waiver.as_ref()).unwrap().by, "person 3");
    assert!(judged.promoted.is_some());
}

#[test]
fn a_program_decides_by_what_it_answers() {
    for (script, expected) in [
        ("grep -q '\"gate\":\"ask\"' && printf '{\"state\":\"pass\",\"why\":\"fine\"}'", None),
        ("printf '{\"state\":\"fail\",\"why\":\"no\"}'", Some("fail")),
        ("printf '{\"state\":\"missing\",\"why\":\"no\",\"run\":\"that\"}'", Some("missing")),
        ("printf '{\"state\":\"waived\",\"why\":\"no\"}'", Some("fail")),
        ("printf '{\"state\":\"pass\",\"why\":\"fine\"}'; exit 1", Some("fail")),
        ("true", Some("fail")),
    ] {
        let scene = Scene::new();
        let mut contract = document("1.0.0", "true", "true");
        contract["gates"] = json!({ "commands": [{ "id": "ask", "run": ["sh", "-c", script] }] });
        scene.seal(contract);
        scene.evolve("1.0.0", &[]);
        let judged = promoted(&scene, "1.0.0");
        let expected: Vec<_> = expected.map(|state| ("command:ask", state)).into_iter().collect();
        assert_eq!(states(&judged), expected, "{script}");
    }
}

#[test]
fn gates_of_time_are_judged_now() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    let window = json!({ "from": "2020-01-01T00:00:00Z", "to": "9998-01-01T00:00:00Z", "reason": "quiet" });
    contract["gates"] = json!({ "freeze_window": { "windows": [window] }, "no_failed": { "scope": "ever" } });
    scene.seal(contract);
    scene.evolve("1.0.0", &[]);
    refused(&scene, "1.0.0", &[("freeze_window", "fail")]);
}

#[test]
fn of_two_clones_that_promote_one_does() {
    let origin = Scene::new();
    origin.seal(document("1.0.0", "true", "true"));
    let clones = [origin.cloned(), origin.cloned()];
    clones[0].evolve("1.0.0", &[]);
    let done: Vec<Result<Judged, Refusal>> = std::thread::scope(|scope| {
        let runs: Vec<_> = clones.iter().map(|clone| scope.spawn(|| promote_as(clone, 5, "1.0.0"))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1), "{won:?} {lost:?}");
    assert!(won[0].as_ref().unwrap().promoted.is_some());
    assert_eq!(lost[0].as_ref().unwrap_err().code, Code::PromotedAlready, "{lost:?}");
    let ledgers = clones.each_ref().map(|clone| clone.store().fetch().unwrap().head());
    assert_eq!(ledgers[0], ledgers[1]);
    assert!(origin.git.target("refs/tags/v1.0.0").unwrap().is_some());
}

#[test]
fn a_remote_that_takes_nothing_leaves_nothing_half_done() {
    let origin = Scene::new();
    origin.seal(document("1.0.0", "true", "true"));
    let clone = origin.cloned();
    clone.evolve("1.0.0", &[]);
    let hook = origin.git.top().join(".git/hooks/pre-receive");
    let refuse = |script: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    refuse("#!/bin/sh\ngrep -q refs/tags/v1.0.0 && exit 1\nexit 0\n");
    assert_eq!(promote_as(&clone, 5, "1.0.0").unwrap_err().code, Code::RemoteFailed);
    // It refuses one reference of them and says why.
    refuse("#!/bin/sh\n[ \"$1\" = refs/tags/v1.0.0 ] && echo tags are closed today && exit 1\nexit 0\n");
    let update = hook.with_file_name("update");
    std::fs::rename(&hook, &update).unwrap();
    let refused = promote_as(&clone, 5, "1.0.0").unwrap_err();
    assert_eq!(refused.code, Code::RemoteFailed);
    assert!(
        refused.detail.contains("`refs/tags/v1.0.0`: ") && refused.detail.contains("tags are closed today"),
        "{refused}"
    );
    assert!(!refused.detail.contains("refs/estoppel/ledger"), "{refused}");
    std::fs::remove_file(&update).unwrap();
    // It dies while it takes it.
    refuse("#!/bin/sh\ngrep -q refs/tags/v1.0.0 && kill -9 $PPID\nexit 0\n");
    assert_eq!(promote_as(&clone, 5, "1.0.0").unwrap_err().code, Code::RemoteFailed);
    for git in [&clone.git, &origin.git] {
        assert_eq!(git.target("refs/tags/v1.0.0").unwrap(), None);
    }
    std::fs::remove_file(&hook).unwrap();
    let version = "1.0.0".parse().unwrap();
    let key = key(5);
    let again = Wanted { resume: true, ..wanted(&version) };
    let done = promote(&clone.store(), &hand(&key), &again, &Reader { asked: RefCell::new(0) }).unwrap();
    assert!(done.promoted.is_some());
    assert!(origin.git.target("refs/tags/v1.0.0").unwrap().is_some());
}

#[test]
fn twelve_hotfixes_in_a_row_are_patches_1_to_12_and_what_they_skip_is_signed() {
    let scene = Scene::new();
    let hotfix = |version: &str, base: &str| {
        let mut contract = document(version, "true", "true");
        contract["changes"].as_array_mut().unwrap().truncate(1);
        contract["steps"].as_array_mut().unwrap().truncate(1);
        contract["gates"] = json!({ "min_evolutions": { "count": 9 } });
        contract["hotfix"] = json!({ "base": base, "reason": "it burns", "skips": ["min_evolutions"] });
        contract
    };
    scene.seal(document("1.2.0", "true", "true"));
    scene.evolve("1.2.0", &[]);
    assert!(promoted(&scene, "1.2.0").promoted.is_some());
    for patch in 1..=12 {
        let (version, base) = (format!("1.2.{patch}"), format!("1.2.{}", patch - 1));
        scene.seal(hotfix(&version, &base));
        scene.commit("patch", &version);
        scene.evolve(&version, &[]);
        let judged = promoted(&scene, &version);
        assert_eq!(judged.promoted.as_ref().map(|(tag, _)| tag.clone()), Some(format!("v{version}")));
        assert_eq!(states(&judged), [("min_evolutions", "waived")]);
    }
    let ledger = scene.store().read().unwrap();
    let (_, last) = ledger.promoted(&"1.2.12".parse().unwrap()).unwrap();
    let row = last.gates.iter().find(|row| row["gate"] == "min_evolutions").unwrap();
    assert_eq!((&row["waiver"]["by"], &row["waiver"]["reason"]), (&json!("person 2"), &json!("it burns")));
    // Of something that was never promoted.
    scene.seal(hotfix("1.3.2", "1.3.1"));
    scene.evolve("1.3.2", &[]);
    let judged = promoted(&scene, "1.3.2");
    assert_eq!(states(&judged), [("min_evolutions", "waived"), ("hotfix_base", "fail")]);
    assert_eq!(judged.promoted, None);
}

#[test]
fn a_proof_that_is_yet_to_come_is_not_young() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["gates"] = json!({ "proof_max_age": { "hours": 1 } });
    scene.seal(contract);
    let head = scene.head();
    let version: Version = "1.0.0".parse().unwrap();
    let ahead = || UnixMicros(now().0 + 48 * 3_600_000_000);
    let (key, wanted) = (key(5), crate::evolution::Wanted::All);
    let plan =
        evolution::Plan { version: &version, wanted, commit: head, jobs: 1, random: crate::scene::random() };
    let hand = Hand { signer: &key, host: "host", now: &ahead };
    evolution::start(&scene.store(), &hand, &plan, &evolution::Unwatched).unwrap();
    let judged = refused(&scene, "1.0.0", &[("proof_max_age", "fail")]);
    assert!(judged.rows.iter().any(|row| row.why.contains("yet to come")), "{:#?}", judged.rows);
}

#[test]
fn a_freeze_is_held_against_the_time_that_the_promotion_will_say() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    let window = json!({ "from": "9000-01-01T00:00:00Z", "to": "9998-01-01T00:00:00Z", "reason": "quiet" });
    contract["gates"] = json!({ "freeze_window": { "windows": [window] } });
    scene.seal(contract);
    scene.evolve("1.0.0", &[]);
    let far = || UnixMicros::parse("9500-01-01T00:00:00.000000Z").unwrap();
    let key = key(1);
    let hand = Hand { signer: &key, host: "host", now: &far };
    scene.store().append(&hand, &mut |_| Ok(Body::RolesSet(crate::scene::roles()).into())).unwrap();
    refused(&scene, "1.0.0", &[("freeze_window", "fail")]);
}

#[test]
fn only_a_gate_that_is_asked_and_may_be_waived_is_waived_and_for_a_reason() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["gates"] =
        json!({ "min_evolutions": { "count": 2 }, "commands": [{ "id": "ask", "run": ["true"] }] });
    scene.seal(contract);
    scene.evolve("1.0.0", &[]);
    let (version, ledger) = ("1.0.0".parse().unwrap(), scene.store().read().unwrap());
    let reader = Reader { asked: RefCell::new(0) };
    let subject = subject(&scene.store(), &ledger, &wanted(&version), &reader).unwrap();
    let said = |gate: &str, reason: &str| subject.waive(gate, reason, now()).map_err(|refusal| refusal.code);
    for gate in ["min_evolutions", "no_failed", "command:ask"] {
        assert_eq!(said(gate, "once").map(|waived| waived.gate), Ok(gate.to_owned()));
        assert_eq!(said(gate, " "), Err(Code::ReasonMissing));
    }
    for gate in ["approvals", "candidate", "all_changes_proven", "regress", "command:other", "no_such", ""] {
        assert_eq!(said(gate, "once"), Err(Code::GateUnknown), "{gate}");
    }
    assert!(subject.is_authors_own(&ledger, key(2).public().id()));
    assert!(!subject.is_authors_own(&ledger, key(3).public().id()));
}

#[test]
fn what_is_resumed_is_promoted_only_where_its_tag_is_there() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    promoted(&scene, "1.0.0");
    let version = "1.0.0".parse().unwrap();
    let resume = || {
        let again = Wanted { resume: true, ..wanted(&version) };
        promote(&scene.store(), &hand(&key(5)), &again, &Reader { asked: RefCell::new(0) })
    };
    assert_eq!(resume().unwrap().promoted.unwrap().0, "v1.0.0");
    scene.git.text(&["update-ref", "-d", "refs/tags/v1.0.0"]).unwrap();
    let refusal = resume().unwrap_err();
    assert_eq!(refusal.code, Code::TagUnknown);
    assert!(refusal.detail.contains("gave it away"), "{refusal}");
}

#[test]
fn an_approval_that_expires_meanwhile_is_missing_and_no_conflict() {
    const HOUR: u64 = 3_600_000_000;
    let mut codes = Vec::new();
    for hours in 1..7 {
        let scene = Scene::new();
        let mut contract = document("1.0.0", "true", "true");
        contract["gates"] = json!({ "approvals": { "count": 1 } });
        scene.seal(contract);
        scene.evolve("1.0.0", &[]);
        let ledger = scene.store().read().unwrap();
        let version: Version = "1.0.0".parse().unwrap();
        let begun = now().0;
        let approved = Approved {
            commit: scene.head(),
            contract: ledger.contract(&version).unwrap().1.contract,
            expires: UnixMicros(begun + hours * HOUR),
            policy: None,
            version: version.clone(),
        };
        scene.write(3, Body::Approved(approved)).unwrap();
        // Each look at the clock is an hour later.
        let looked = std::cell::Cell::new(0);
        let later = || {
            looked.set(looked.get() + 1);
            UnixMicros(begun + HOUR / 2 + (looked.get() - 1) * HOUR)
        };
        let releaser = key(5);
        let slow = Hand { now: &later, ..hand(&releaser) };
        let reader = Reader { asked: RefCell::new(0) };
        codes.push(match promote(&scene.store(), &slow, &wanted(&version), &reader) {
            Ok(judged) => judged.refusal().map(Code::as_str),
            Err(refusal) => Some(refusal.code.as_str()),
        });
    }
    assert_eq!(codes.last(), Some(&None), "{codes:?}");
    assert!(codes.contains(&Some("GATE_REFUSED")) && !codes.contains(&Some("LEDGER_CONFLICT")), "{codes:?}");
}

/// What somebody who can write into a clone, or sets git up for a machine, can say of it.
const SETTINGS: [(&str, &str); 40] = [
    ("color.diff", "always"),
    ("color.ui", "always"),
    ("commit.gpgSign", "true"),
    ("core.alternateRefsCommand", "false"),
    ("core.attributesFile", ".git/attributes"),
    ("core.autocrlf", "true"),
    ("core.bigFileThreshold", "1"),
    ("core.eol", "crlf"),
    ("core.fileMode", "false"),
    ("core.fsmonitor", ".git/evil"),
    ("core.hooksPath", ".git/evil-hooks"),
    ("core.ignoreCase", "true"),
    ("core.pager", ".git/evil"),
    ("core.quotePath", "true"),
    ("core.safecrlf", "true"),
    ("core.splitIndex", "true"),
    ("core.sshCommand", ".git/evil"),
    ("core.useReplaceRefs", "true"),
    ("diff.external", ".git/evil"),
    ("diff.ignoreSubmodules", "all"),
    ("diff.noprefix", "true"),
    ("diff.relative", "true"),
    ("diff.renames", "copies"),
    ("fetch.prune", "true"),
    ("fetch.pruneTags", "true"),
    ("filter.evil.clean", ".git/evil"),
    ("filter.evil.smudge", ".git/evil"),
    ("gpg.program", ".git/evil"),
    ("log.diffMerges", "off"),
    ("log.showSignature", "true"),
    ("pack.packSizeLimit", "1"),
    ("push.default", "nothing"),
    ("push.followTags", "true"),
    ("push.gpgSign", "true"),
    ("push.recurseSubmodules", "only"),
    ("remote.origin.followRemoteHEAD", "never"),
    ("remote.origin.push", "refs/heads/main:refs/heads/evil"),
    ("remote.origin.tagOpt", "--tags"),
    ("submodule.recurse", "true"),
    ("tag.gpgSign", "true"),
];

#[test]
fn what_is_set_in_a_clone_changes_nothing_of_what_is_promoted() {
    use std::os::unix::fs::PermissionsExt as _;
    let origin = Scene::new();
    origin.commit(".gitattributes", "file filter=evil ident\n");
    let commit = origin.commit("file", "proven $Id$\n");
    origin.seal(document("1.0.0", "grep -q 'proven .Id.$' file", "! grep -q \r file"));
    let clone = origin.cloned();
    let private = clone.git.top().join(".git");
    std::fs::create_dir_all(private.join("evil-hooks")).unwrap();
    let run = private.join("ran");
    let evil = format!("#!/bin/sh\ntouch {}\nexit 1\n", run.display());
    let hooks = ["pre-push", "post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"];
    let hooks = hooks.map(|hook| format!("evil-hooks/{hook}"));
    for file in hooks.iter().map(String::as_str).chain(["evil"]) {
        std::fs::write(private.join(file), &evil).unwrap();
        std::fs::set_permissions(private.join(file), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(private.join("attributes"), "* filter=evil -text\n").unwrap();
    std::fs::create_dir_all(private.join("info")).unwrap();
    std::fs::write(private.join("info/attributes"), "* filter=evil\n").unwrap();
    let settings = private.join("settings");
    for (name, value) in SETTINGS {
        let value = value.replace(".git/", &format!("{}/", private.display()));
        clone.git.text(&["config", "--file", &settings.to_string_lossy(), name, &value]).unwrap();
    }
    // The same as if they were named in the configuration itself.
    clone.git.text(&["config", "includeIf.gitdir:/.path", &settings.to_string_lossy()]).unwrap();
    assert_eq!(clone.git.config("tag.gpgSign").unwrap().as_deref(), Some("true"));
    clone.evolve("1.0.0", &[]);
    let judged = promoted(&clone, "1.0.0");
    assert_eq!(judged.commit, commit, "{:#?}", judged.rows);
    assert!(judged.promoted.is_some(), "{:#?}", judged.rows);
    for scene in [&clone, &origin] {
        verify_tag(&scene.git, &scene.store().read().unwrap(), "v1.0.0").unwrap();
    }
    assert_eq!(origin.git.target("refs/heads/evil").unwrap(), None);
    assert!(!run.exists(), "a program of the settings was run");
}

#[test]
fn neither_replaced_nor_borrowed_nor_hidden_objects_are_promoted() {
    let scene = Scene::new();
    let proven = scene.commit("file", "proven\n");
    let other = scene.commit("file", "other\n");
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &["A-1"]);
    // `all_changes_proven` asks whether the candidate contains `other`, which it does not but by what is put there.
    scene.try_evolve("1.0.0", &[], &proven).unwrap();
    scene.evolve("1.0.0", &["A-1"]);
    let version = "1.0.0".parse().unwrap();
    let promote = || {
        let wanted = Wanted { candidate: Some("v1.0.0-rc.2"), ..wanted(&version) };
        promote(&scene.store(), &hand(&key(5)), &wanted, &Reader { asked: RefCell::new(0) })
    };
    let expected = [("all_changes_proven", "fail")];
    assert_eq!(states(&promote().unwrap()), expected);
    let own = String::from_utf8(scene.git.read("commit", &proven).unwrap()).unwrap();
    let (tree, rest) = own.split_once('\n').unwrap();
    let forged = format!("{tree}\nparent {other}\n{rest}");
    let id = scene.git.write("commit", forged.as_bytes()).unwrap();
    let replaced = format!("refs/replace/{proven}");
    scene.git.move_refs(&[Move::create(&replaced, &id)]).unwrap();
    assert_eq!(states(&promote().unwrap()), expected);
    scene.git.text(&["update-ref", "-d", &replaced]).unwrap();

    // From another folder that the clone borrows objects from.
    let place = |objects: &Path, id: &ObjectId| objects.join(&id.as_str()[..2]).join(&id.as_str()[2..]);
    let objects = scene.git.top().join(".git/objects");
    let lender = tempfile::tempdir().unwrap();
    let (from, to) = (place(&objects, &id), place(lender.path(), &proven));
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
    let kept = place(&objects, &proven).with_extension("kept");
    std::fs::rename(place(&objects, &proven), &kept).unwrap();
    std::fs::create_dir_all(objects.join("info")).unwrap();
    let borrowed = objects.join("info/alternates");
    std::fs::write(&borrowed, format!("{}\n", lender.path().display())).unwrap();
    let said = promote().unwrap_err();
    assert_eq!(said.code, Code::LedgerAltered, "{said}");
    std::fs::remove_file(borrowed).unwrap();
    std::fs::rename(kept, place(&objects, &proven)).unwrap();

    std::fs::write(scene.git.top().join(".git/shallow"), format!("{proven}\n")).unwrap();
    let said = promote().unwrap_err();
    assert_eq!(said.code, Code::HistoryMissing, "{said}");
}
