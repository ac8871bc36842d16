//! Stages before the release, and what a hotfix asks of what comes after it.

use super::*;
use crate::ledger::StagePromoted;

fn climb_as(scene: &Scene, seed: u8, version: &str, stage: StageName) -> Result<Judged, Refusal> {
    let version = version.parse().unwrap();
    let key = key(seed);
    let asked = Wanted { stage, ..wanted(&version) };
    promote(&scene.store(), &hand(&key), &asked, &Reader { asked: RefCell::new(0) })
}

fn climb(scene: &Scene, version: &str, stage: StageName) -> Judged {
    climb_as(scene, 5, version, stage).unwrap()
}

fn tag(judged: &Judged) -> &str {
    judged.promoted.as_ref().unwrap_or_else(|| panic!("{:#?}", judged.rows)).0.as_str()
}

fn laddered(version: &str, stages: Value) -> Value {
    let mut contract = document(version, "true", "true");
    contract["stages"] = stages;
    contract
}

fn whole_ladder() -> Value {
    json!([{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "rc" }, { "stage": "final" }])
}

#[test]
fn a_stage_needs_the_one_before_it_on_the_same_commit() {
    let scene = Scene::new();
    scene.seal(laddered("1.2.0", whole_ladder()));
    scene.evolve("1.2.0", &[]);
    for (stage, before) in [(StageName::Beta, "alpha"), (StageName::Rc, "beta"), (StageName::Final, "rc")] {
        let judged = climb(&scene, "1.2.0", stage);
        assert_eq!(states(&judged), [("stage_before", "missing")]);
        let row = judged.rows.iter().find(|row| row.gate == "stage_before").unwrap();
        assert_eq!(row.run, Some(format!("estoppel promote 1.2.0 --stage {before}")));
    }
    assert_eq!(tag(&climb(&scene, "1.2.0", StageName::Alpha)), "v1.2.0-alpha.1");
    let again = climb_as(&scene, 5, "1.2.0", StageName::Alpha).unwrap_err();
    assert_eq!((again.code, again.code.exit()), (Code::PromotedAlready, 8));
    assert_eq!(tag(&climb(&scene, "1.2.0", StageName::Beta)), "v1.2.0-beta.1");

    // What is mended after the beta is another commit, and climbs from the beginning.
    scene.commit("f", "mended");
    scene.evolve("1.2.0", &[]);
    assert_eq!(states(&climb(&scene, "1.2.0", StageName::Rc)), [("stage_before", "missing")]);
    let tags = [StageName::Alpha, StageName::Beta, StageName::Rc, StageName::Final]
        .map(|stage| tag(&climb(&scene, "1.2.0", stage)).to_owned());
    assert_eq!(tags, ["v1.2.0-alpha.2", "v1.2.0-beta.2", "v1.2.0-rc.2", "v1.2.0"]);
    let ledger = scene.store().read().unwrap();
    for name in &tags {
        let (_, event, commit) = verify_tag(&scene.git, &ledger, name).unwrap();
        assert_eq!(commit, scene.head(), "{name}: {}", event.body.kind());
    }
    let refused = climb_as(&scene, 5, "1.2.0", StageName::Beta).unwrap_err();
    assert_eq!(refused.code, Code::PromotedAlready);
}

#[test]
fn an_amended_contract_climbs_from_the_beginning() {
    let scene = Scene::new();
    let stages = json!([{ "stage": "alpha" }, { "stage": "final" }]);
    scene.seal(laddered("1.0.0", stages.clone()));
    scene.evolve("1.0.0", &[]);
    climb(&scene, "1.0.0", StageName::Alpha);
    let mut amended = laddered("1.0.0", stages);
    amended["description"] = json!("another");
    scene.amend(amended);
    scene.evolve("1.0.0", &[]);
    assert_eq!(states(&climb(&scene, "1.0.0", StageName::Final)), [("stage_before", "missing")]);
    assert_eq!(tag(&climb(&scene, "1.0.0", StageName::Alpha)), "v1.0.0-alpha.2");
    assert_eq!(tag(&climb(&scene, "1.0.0", StageName::Final)), "v1.0.0");
}

#[test]
fn gates_hold_from_the_stage_that_they_say() {
    let scene = Scene::new();
    let mut contract =
        laddered("1.0.0", json!([{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "final" }]));
    contract["gates"] = json!({
        "min_evolutions": { "count": 3 }, "approvals": { "count": 1, "from": "beta" },
        "commands": [
            { "id": "ask", "run": ["sh", "-c", "cat > /dev/null; echo '{\"state\":\"pass\",\"why\":\"yes\"}'"] },
            { "id": "late", "run": ["false"], "from": "final" },
        ],
    });
    scene.seal(contract);
    scene.evolve("1.0.0", &[]);
    let alpha = climb(&scene, "1.0.0", StageName::Alpha);
    assert!(alpha.rows.iter().any(|row| row.gate == "command:ask"), "{:#?}", alpha.rows);
    assert!(!alpha.rows.iter().any(|row| row.gate == "approvals" || row.gate == "min_evolutions"));
    assert_eq!(tag(&alpha), "v1.0.0-alpha.1");
    assert_eq!(climb(&scene, "1.0.0", StageName::Beta).refusal(), Some(Code::ApprovalsMissing));
    approve(&scene, 3, "1.0.0", &scene.head());
    assert_eq!(tag(&climb(&scene, "1.0.0", StageName::Beta)), "v1.0.0-beta.1");
    let last = climb(&scene, "1.0.0", StageName::Final);
    assert_eq!(states(&last), [("min_evolutions", "missing"), ("command:late", "fail")]);
}

#[test]
fn what_has_to_stay_at_a_stage_stays_there_unless_somebody_answers_for_it() {
    let scene = Scene::new();
    let soaks = json!([{ "stage": "beta", "soak_hours": 1 }, { "stage": "final" }]);
    scene.seal(laddered("1.0.0", soaks));
    scene.evolve("1.0.0", &[]);
    let early = climb(&scene, "1.0.0", StageName::Final);
    assert_eq!(states(&early), [("stage_before", "missing"), ("soak", "fail")]);
    climb(&scene, "1.0.0", StageName::Beta);
    assert_eq!(states(&climb(&scene, "1.0.0", StageName::Final)), [("soak", "fail")]);
    let later = || UnixMicros(now().0 + 3_700_000_000);
    let (version, releaser) = ("1.0.0".parse().unwrap(), key(5));
    let asked = Wanted { dry: true, ..wanted(&version) };
    let late = Hand { now: &later, ..hand(&releaser) };
    let told = promote(&scene.store(), &late, &asked, &Reader { asked: RefCell::new(0) }).unwrap();
    assert_eq!(told.refusal(), None, "{:#?}", told.rows);
    let ledger = scene.store().read().unwrap();
    let subject = subject(&scene.store(), &ledger, &asked, &Reader { asked: RefCell::new(0) }).unwrap();
    let waived = subject.waive("soak", "it burns", UnixMicros(now().0 + 3_600_000_000)).unwrap();
    scene.write(3, Body::Waived(waived)).unwrap();
    let done = climb(&scene, "1.0.0", StageName::Final);
    assert_eq!((states(&done), tag(&done)), (vec![("soak", "waived")], "v1.0.0"));
}

#[test]
fn a_wait_begins_when_nobody_wrote_any_more_who_did_not_know_the_stage() {
    let origin = Scene::new();
    let soaks = json!([{ "stage": "beta", "soak_hours": 1 }, { "stage": "final" }]);
    origin.seal(laddered("1.0.0", soaks));
    origin.evolve("1.0.0", &[]);
    let (a, mut b) = (origin.cloned(), origin.cloned());
    b.remote = None;
    climb(&a, "1.0.0", StageName::Beta);
    let minutes = |count: u64| now().0 + count * 60_000_000;
    // Written apart, and dated later: the stage may as well have been dated back.
    let author = key(2);
    let seal = || Body::GenerationSealed(crate::scene::contracted(document("2.0.0", "true", "true"), None).1);
    let ahead = || UnixMicros(minutes(4));
    b.store().append(&Hand { now: &ahead, ..hand(&author) }, &mut |_| Ok(seal().into())).unwrap();
    b.remote = Some("origin".into());
    crate::sync::push(&b.store()).unwrap();
    let (version, releaser) = ("1.0.0".parse().unwrap(), key(5));
    let asked = Wanted { dry: true, ..wanted(&version) };
    let told = |late: &dyn Fn() -> UnixMicros| {
        let late = Hand { now: late, ..hand(&releaser) };
        promote(&a.store(), &late, &asked, &Reader { asked: RefCell::new(0) }).unwrap()
    };
    let early = told(&|| UnixMicros(minutes(62)));
    assert_eq!(states(&early), [("soak", "fail")]);
    let row = early.rows.iter().find(|row| row.gate == "soak").unwrap();
    assert!(row.why.contains("known since"), "{}", row.why);
    assert_eq!(told(&|| UnixMicros(minutes(65))).refusal(), None);
}

#[test]
fn a_stage_that_the_contract_does_not_have_is_none() {
    let scene = Scene::new();
    scene.seal(laddered("1.0.0", json!([{ "stage": "beta" }, { "stage": "final" }])));
    scene.evolve("1.0.0", &[]);
    let refused = climb_as(&scene, 5, "1.0.0", StageName::Alpha).unwrap_err();
    assert_eq!(refused.code, Code::StageUnknown);
    assert!(refused.detail.contains("beta, final"), "{refused}");
}

#[test]
fn of_two_clones_that_come_to_one_stage_one_does() {
    let origin = Scene::new();
    origin.seal(laddered("1.0.0", json!([{ "stage": "alpha" }, { "stage": "final" }])));
    origin.evolve("1.0.0", &[]);
    let (a, b) = (origin.cloned(), origin.cloned());
    assert_eq!(tag(&climb(&a, "1.0.0", StageName::Alpha)), "v1.0.0-alpha.1");
    let second = climb_as(&b, 5, "1.0.0", StageName::Alpha).unwrap_err();
    assert_eq!(second.code, Code::PromotedAlready, "{second}");

    // Apart from each other both succeed, and only one of them is true.
    let origin = Scene::new();
    origin.seal(laddered("1.0.0", json!([{ "stage": "alpha" }, { "stage": "final" }])));
    origin.evolve("1.0.0", &[]);
    let (mut a, mut b) = (origin.cloned(), origin.cloned());
    (a.remote, b.remote) = (None, None);
    climb(&a, "1.0.0", StageName::Alpha);
    climb(&b, "1.0.0", StageName::Alpha);
    (a.remote, b.remote) = (Some("origin".into()), Some("origin".into()));
    crate::sync::push(&a.store()).unwrap();
    assert_eq!(crate::sync::push(&b.store()).unwrap_err().code, Code::LedgerConflict);
}

#[test]
fn what_a_stage_says_is_no_release() {
    let scene = Scene::new();
    scene.seal(laddered("1.0.0", json!([{ "stage": "alpha" }, { "stage": "final" }])));
    scene.evolve("1.0.0", &[]);
    climb(&scene, "1.0.0", StageName::Alpha);
    let ledger = scene.store().read().unwrap();
    let version = "1.0.0".parse().unwrap();
    assert!(ledger.promoted(&version).is_none());
    assert_eq!(ledger.state(&version), Some(GenerationState::Sealed));
    let (_, StagePromoted { vsa, .. }) = ledger.stages(&version).next().unwrap();
    let payload = vsa["payload"].as_str().and_then(estoppel_evidence::envelope::from_base64).unwrap();
    let said: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(said["predicate"]["verifiedLevels"], json!(["ESTOPPEL_STAGE_ALPHA"]));
    assert_eq!(said["subject"][0]["name"], "v1.0.0-alpha.1");
}

/// 1.1.3 and its hotfix 1.1.4, on a branch of its own; the main line goes on from 1.1.3.
fn mended() -> Scene {
    let scene = Scene::new();
    scene.commit("f", "1\n2\n3\n4\n5\n6\n7\n8\n");
    scene.seal(document("1.1.3", "true", "true"));
    scene.evolve("1.1.3", &[]);
    promoted(&scene, "1.1.3");
    scene.git.text(&["checkout", "-q", "-b", "fix"]).unwrap();
    let mut hotfix = document("1.1.4", "true", "true");
    hotfix["changes"].as_array_mut().unwrap().truncate(1);
    hotfix["steps"].as_array_mut().unwrap().truncate(1);
    hotfix["hotfix"] = json!({ "base": "1.1.3", "reason": "it burns" });
    scene.seal(hotfix);
    scene.commit("f", "1\n2\n3\n4\n5\n6\n7\nmended\n");
    scene.evolve("1.1.4", &[]);
    assert_eq!(tag(&promoted(&scene, "1.1.4")), "v1.1.4");
    scene.git.text(&["checkout", "-q", "main"]).unwrap();
    scene.commit("g", "more");
    scene
}

#[test]
fn what_a_hotfix_mended_comes_into_the_next_version() {
    let scene = mended();
    scene.seal(document("1.2.0", "true", "true"));
    scene.evolve("1.2.0", &[]);
    let judged = refused(&scene, "1.2.0", &[("hotfix_forward_ported", "missing")]);
    let row = judged.rows.iter().find(|row| row.gate == "hotfix_forward_ported").unwrap();
    assert!(row.why.contains("v1.1.4"), "{}", row.why);
    let run = row.run.clone().unwrap();
    let pick: Vec<&str> = run.split(' ').skip(1).collect();
    scene.git.text(&[["-c", "user.name=a", "-c", "user.email=a@b"].as_slice(), &pick].concat()).unwrap();
    scene.evolve("1.2.0", &[]);
    assert_eq!(tag(&promoted(&scene, "1.2.0")), "v1.2.0");
}

/// What is put there by hand passes without the file that says what the hotfix is.
#[test]
fn the_contract_file_of_a_hotfix_is_no_part_of_what_it_mends() {
    let scene = Scene::new();
    scene.commit("f", "1\n2\n3\n");
    scene.seal(document("1.1.3", "true", "true"));
    scene.evolve("1.1.3", &[]);
    promoted(&scene, "1.1.3");
    scene.git.text(&["checkout", "-q", "-b", "fix"]).unwrap();
    let mut hotfix = document("1.1.4", "true", "true");
    hotfix["changes"].as_array_mut().unwrap().truncate(1);
    hotfix["steps"].as_array_mut().unwrap().truncate(1);
    hotfix["hotfix"] = json!({ "base": "1.1.3", "reason": "it burns" });
    scene.commit(".estoppel/generations/v1.1.4.yaml", &hotfix.to_string());
    scene.seal(hotfix);
    scene.commit("f", "1\n2\nmended\n");
    scene.evolve("1.1.4", &[]);
    assert_eq!(tag(&promoted(&scene, "1.1.4")), "v1.1.4");
    scene.git.text(&["checkout", "-q", "main"]).unwrap();
    scene.seal(document("1.2.0", "true", "true"));
    scene.commit(".estoppel/generations/v1.2.0.yaml", "of another version");
    scene.evolve("1.2.0", &[]);
    let judged = refused(&scene, "1.2.0", &[("hotfix_forward_ported", "missing")]);
    assert!(judged.rows.iter().any(|row| row.why.contains("in `f`")), "{:#?}", judged.rows);
    scene.commit("f", "1\n2\nmended\n");
    scene.evolve("1.2.0", &[]);
    assert_eq!(tag(&promoted(&scene, "1.2.0")), "v1.2.0");
}

#[test]
fn a_merge_that_takes_nothing_of_a_hotfix_ports_nothing() {
    let scene = mended();
    let git = |words: &[&str]| {
        scene.git.text(&[["-c", "user.name=a", "-c", "user.email=a@b"].as_slice(), words].concat()).unwrap()
    };
    let asked = |judged: &Judged| {
        let row = judged.rows.iter().find(|row| row.gate == "hotfix_forward_ported").unwrap();
        row.run.clone().unwrap_or_else(|| panic!("{row:?}"))
    };
    scene.seal(document("1.2.0", "true", "true"));
    git(&["merge", "-q", "-s", "ours", "-m", "m", "fix"]);
    scene.evolve("1.2.0", &[]);
    let run = asked(&refused(&scene, "1.2.0", &[("hotfix_forward_ported", "missing")]));
    let pick: Vec<&str> = run.split(' ').skip(1).collect();
    git(&pick);
    scene.evolve("1.2.0", &[]);
    let told = |version: &Version| {
        let asked = Wanted { dry: true, ..wanted(version) };
        promote(&scene.store(), &hand(&key(5)), &asked, &Reader { asked: RefCell::new(0) }).unwrap()
    };
    assert_eq!(told(&"1.2.0".parse().unwrap()).refusal(), None);
    git(&["revert", "--no-edit", "HEAD"]);
    scene.evolve("1.2.0", &[]);
    let run = asked(&refused(&scene, "1.2.0", &[("hotfix_forward_ported", "missing")]));
    assert!(run.starts_with("git cherry-pick"), "{run}");
    // Otherwise than before and after the hotfix: a person says what it is.
    scene.commit("f", "1\n2\n3\n4\n5\n6\n7\nother\n");
    scene.evolve("1.2.0", &[]);
    let run = asked(&refused(&scene, "1.2.0", &[("hotfix_forward_ported", "missing")]));
    assert!(run.starts_with("estoppel waive 1.2.0 hotfix_forward_ported"), "{run}");
}

#[test]
fn who_answers_for_a_hotfix_that_is_not_ported_answers_once() {
    let scene = mended();
    scene.seal(document("1.2.0", "true", "true"));
    scene.evolve("1.2.0", &[]);
    let version: Version = "1.2.0".parse().unwrap();
    let ledger = scene.store().read().unwrap();
    let asked = Wanted { dry: true, ..wanted(&version) };
    let subject = subject(&scene.store(), &ledger, &asked, &Reader { asked: RefCell::new(0) }).unwrap();
    let until = UnixMicros(now().0 + 3_600_000_000);
    let waived = subject.waive("hotfix_forward_ported", "the code is gone", until).unwrap();
    scene.write(3, Body::Waived(waived)).unwrap();
    let done = promoted(&scene, "1.2.0");
    assert_eq!(states(&done), [("hotfix_forward_ported", "waived")]);
    assert!(done.rows.iter().all(|row| row.run.is_none()), "{:#?}", done.rows);
    // What contains that release was held to it, and an earlier line never is.
    scene.commit("h", "more");
    scene.seal(document("1.3.0", "true", "true"));
    scene.evolve("1.3.0", &[]);
    assert_eq!(tag(&promoted(&scene, "1.3.0")), "v1.3.0");
    scene.seal(document("1.0.9", "true", "true"));
    scene.evolve("1.0.9", &[]);
    let earlier = promoted(&scene, "1.0.9");
    assert!(!earlier.rows.iter().any(|row| row.gate == "hotfix_forward_ported"));
}
