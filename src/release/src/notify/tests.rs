use std::collections::BTreeSet;

use estoppel_evidence::time::UnixMicros;
use serde_json::{Value, json};

use super::*;
use crate::code::Code;
use crate::git::Git;
use crate::ledger::{Body, Ledger, Waived};
use crate::scene::{Scene, document, promote, roles};
use crate::sync::Outbox;

/// All of them keep the schema.
fn told(ledger: &Ledger, min: Option<u32>) -> Vec<Message> {
    let told = ledger.events().iter().flat_map(|event| messages(ledger, event, "payments", min));
    let told: Vec<Message> = told.collect();
    told.iter().for_each(|message| demand_valid(&message.document));
    told
}

fn demand_valid(document: &Value) {
    let schema = serde_json::from_str(include_str!("../../../../spec/notification.schema.json")).unwrap();
    let faults = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = faults.iter_errors(document).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{document} {faults:?}");
}

fn bound(name: &str) -> Bound {
    Bound { address: estoppel_evidence::Sha256::of(name.as_bytes()), start: true }
}

fn of<'m>(messages: &'m [Message], name: &str) -> Vec<&'m Value> {
    let these = messages.iter().filter(|message| message.name == name);
    these.map(|message| &message.document["data"]).collect()
}

#[test]
fn each_event_is_one_message_and_says_who_did_what_to_what() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &["A-1"]);
    scene.evolve("1.0.0", &[]);
    promote(&scene, "1.0.0");
    let ledger = scene.store().read().unwrap();
    let all = told(&ledger, None);
    let uids: BTreeSet<&str> = all.iter().map(|message| message.uid.as_str()).collect();
    assert_eq!((all.len(), uids.len()), (ledger.events().len(), all.len()));
    let known: BTreeSet<&str> = names().collect();
    assert!(all.iter().all(|message| known.contains(message.name)), "{known:?}");

    let promoted = of(&all, "generation.promoted");
    let [promoted] = promoted.as_slice() else { panic!("{promoted:?}") };
    assert_eq!((&promoted["version"], &promoted["tag"]), (&json!("1.0.0"), &json!("v1.0.0")));
    let changes =
        json!([{ "id": "A-1", "type": "fix", "title": "a" }, { "id": "B-2", "type": "add", "title": "b" }]);
    assert_eq!(promoted["changes"], changes);
    assert_eq!(promoted["commit"], json!(scene.head()));
    assert_eq!((&promoted["name"], &promoted["host"]), (&json!("person 5"), &json!("host")));
    assert_eq!(promoted["message"], "1.0.0 promoted as v1.0.0 by person 5");
    assert_eq!(promoted["ledger"], json!(ledger.genesis()));
    assert_eq!(of(&all, "evolution.passed")[0]["changes"].as_array().unwrap().len(), 1);
    assert_eq!(all[0].document["type"], "roles.set");
}

#[test]
fn what_is_said_of_an_event_does_not_change_with_what_comes_later() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "false"));
    scene.evolve("1.0.0", &[]);
    let ledger = scene.store().read().unwrap();
    let before: Vec<Value> = told(&ledger, Some(80)).into_iter().map(|message| message.document).collect();
    let mut fewer = roles();
    fewer.revoke(estoppel_evidence::Signer::public(&crate::scene::key(5)).id()).unwrap();
    scene.write(1, Body::RolesSet(fewer)).unwrap();
    scene.amend(document("1.0.0", "true", "echo"));
    let ledger = scene.store().read().unwrap();
    let after: Vec<Value> = told(&ledger, Some(80)).into_iter().map(|message| message.document).collect();
    assert_eq!(after[..before.len()], before);
}

#[test]
fn a_share_of_evolutions_is_told_when_it_falls_and_not_again_until_it_has_risen() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "test -e no"));
    scene.seal(document("1.1.0", "true", "true"));
    for change in ["A-1", "B-2", "B-2", "A-1"] {
        scene.evolve("1.0.0", &[change]);
    }
    scene.evolve("1.1.0", &[]);
    let ledger = scene.store().read().unwrap();
    let all = told(&ledger, Some(60));
    let alerts = of(&all, ALERT);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((&alerts[0]["passed"], &alerts[0]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(alerts[0]["message"], "1 of 2 evolutions of 1.0.0 passed, fewer than 60 of a hundred");
    assert!(alerts[0]["uid"].as_str().unwrap().ends_with("#alert-pass_rate"));
    assert!(of(&told(&ledger, None), ALERT).is_empty());
    assert!(of(&told(&ledger, Some(50)), ALERT).len() == 1, "1 of 3 is less than a half");
}

#[test]
fn refusals_name_their_gates_and_waivers_their_reason() {
    let scene = Scene::new();
    let generation = scene.seal(document("1.0.0", "true", "true"));
    let waived = Waived {
        commit: scene.head(),
        contract: generation.digest(),
        expires: UnixMicros(u64::MAX / 1_000),
        gate: "no_failed".into(),
        reason: "it\u{1b}[2Jcannot wait".into(),
        version: generation.version.clone(),
    };
    scene.write(3, Body::Waived(waived)).unwrap();
    let refused = crate::ledger::PromotionRefused {
        stage: None,
        commit: scene.head(),
        contract: generation.digest(),
        gates: vec![
            json!({ "gate": "candidate", "state": "missing", "why": "there is none" }),
            json!({ "gate": "no_failed", "state": "pass", "why": "" }),
        ],
        promotion: generation.digest(),
        version: generation.version.clone(),
    };
    scene.write(5, Body::PromotionRefused(refused)).unwrap();
    let all = told(&scene.store().read().unwrap(), None);
    let waiver = of(&all, "approval.waiver")[0];
    assert_eq!(
        waiver["message"],
        "approval of 1.0.0 waiver of gate no_failed by person 3: it\u{1b}[2Jcannot wait"
    );
    let refused = of(&all, "promotion.refused")[0];
    let gates = json!([{ "gate": "candidate", "state": "missing", "why": "there is none" }]);
    assert_eq!(refused["gates"], gates);
    assert_eq!(refused["message"], "promotion of 1.0.0 refused by person 5: candidate");
}

/// Another test of this process may be starting a program, which has our files open until it has begun.
fn taken(git: &Git) -> Told {
    let mut tries = (0..10_000).map(|_| {
        std::thread::yield_now();
        Told::take(git, "pager").unwrap()
    });
    tries.find_map(|told| told).expect("nobody else has it")
}

#[test]
fn what_was_told_outlives_a_kill_at_any_byte_and_one_process_tells_at_a_time() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &[]);
    let ledger = scene.store().read().unwrap();
    let git = &scene.git;
    let ids = |told: &Told| told.waiting(&ledger).iter().map(|event| event.id).collect::<Vec<_>>();
    let all: Vec<_> = ledger.events().iter().map(|event| event.id).collect();
    assert!(Told::look(git, "pager").unwrap().is_new());
    let mut pager = Told::take(git, "pager").unwrap().unwrap();
    assert!(Told::take(git, "pager").unwrap().is_none(), "it is taken");
    assert!(Told::take(git, "chat").unwrap().is_some(), "another one is not");
    pager.begin(bound("a"), None).unwrap();
    assert_eq!(ids(&pager), all);
    pager.add(all[0]).unwrap();
    pager.add(all[1]).unwrap();
    drop(pager);

    let path = git.private().join("notify/pager.told");
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let told = cut / 72;
        assert_eq!(ids(&Told::look(git, "pager").unwrap()), all[told..], "{cut}");
        let mut pager = taken(git);
        pager.add(all[told]).unwrap();
        assert_eq!(ids(&Told::look(git, "pager").unwrap()), all[told + 1..], "{cut}");
    }
    for broken in ["sha256:00\n", "told\n", "\n", "\u{fffd}\n"] {
        std::fs::write(&path, broken).unwrap();
        assert_eq!(Told::look(git, "pager").unwrap_err().code, Code::NotifyState, "{broken:?}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(git.private().join("notify/pager.json"), "{\"failed\":1}").unwrap();
    assert_eq!(Told::look(git, "pager").unwrap_err().code, Code::NotifyState);
}

#[test]
fn what_is_refused_does_not_keep_the_rest_from_being_told_and_can_be_told_again() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let ledger = scene.store().read().unwrap();
    let ids: Vec<_> = ledger.events().iter().map(|event| event.id).collect();
    let mut told = Told::take(&scene.git, "pager").unwrap().unwrap();
    told.begin(bound("a"), None).unwrap();
    told.refuse(ids[0], &"no".repeat(10_000)).unwrap();
    let outbox = Outbox::failed(None, UnixMicros(1), "gone", 0);
    told.fail(Some(outbox.clone())).unwrap();
    let seen = Told::look(&scene.git, "pager").unwrap();
    assert_eq!(seen.state.failed, Some(outbox));
    assert_eq!((seen.state.refused.len(), seen.state.refused[0].event), (1, ids[0]));
    assert!(seen.state.refused[0].why.len() < 1_000);
    assert_eq!(seen.waiting(&ledger).len(), 1);
    told.again().unwrap();
    told.fail(None).unwrap();
    let seen = Told::look(&scene.git, "pager").unwrap();
    let state = State { bound: Some(bound("a")), ..State::default() };
    assert_eq!((seen.waiting(&ledger).len(), &seen.state), (2, &state));
    told.begin(bound("a"), Some(&ledger)).unwrap();
    assert!(Told::look(&scene.git, "pager").unwrap().waiting(&ledger).is_empty());
}

#[test]
fn messages_are_those_of_the_published_vectors() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../spec/notification-vectors.json")).unwrap();
    let ledger = |file: &Value, name: &Value| {
        let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/");
        let text = std::fs::read_to_string(format!("{spec}{}", file.as_str().unwrap())).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let mut vectors = vectors["vectors"].as_array().unwrap().iter();
        let vector = vectors.find(|vector| vector["name"] == *name).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let files = vector["files"].as_array().unwrap().iter();
        let files: Vec<_> = files.map(|row| (text(row, "path"), text(row, "text").into_bytes())).collect();
        crate::ledger::check(&files, None).unwrap()
    };
    let rows = vectors["rows"].as_array().unwrap();
    let mut count = 0;
    for row in rows.iter().filter(|row| row["event"].is_string()) {
        let ledger = ledger(&row["ledger"]["file"], &row["ledger"]["name"]);
        let event = ledger.events().iter().find(|event| event.id.to_string() == row["event"]).unwrap();
        let min = row["pass_rate_min"].as_u64().map(|min| u32::try_from(min).unwrap());
        let made = messages(&ledger, event, row["repository"].as_str().unwrap(), min);
        let made: Vec<Value> =
            made.into_iter().map(|made| json!({ "uid": made.uid, "document": made.document })).collect();
        let told = row["messages"].as_array().unwrap().iter().map(|told| {
            let document: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
            json!({ "uid": told["uid"], "document": document })
        });
        assert_eq!(made, told.collect::<Vec<_>>());
        assert_eq!(row["object"], format!("sha256/{}", event.id.hex()));
        count += made.len();
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn a_message_that_tries_a_destination_is_of_no_event_and_of_its_own_type() {
    let tried = test("pager", "payments", UnixMicros(10), 255);
    demand_valid(&tried.document);
    assert_eq!((tried.name, tried.severity), (TEST, 1));
    assert_eq!(tried.uid, format!("test:{}ff", "0".repeat(30)));
    assert!(names().all(|name| name != TEST), "nobody asks for it");
}

#[test]
fn every_type_of_message_is_in_the_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../spec/notification.schema.json")).unwrap();
    let listed: BTreeSet<&str> =
        schema["properties"]["type"]["enum"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, names().chain([TEST]).collect());
    let ruled: BTreeSet<&str> = schema["allOf"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["if"]["properties"]["type"]["const"].as_str())
        .collect();
    assert_eq!(ruled, listed, "each has its rule");
}

#[test]
fn a_destination_is_bound_to_what_it_began_with_until_somebody_says_otherwise() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "true"));
    let ledger = scene.store().read().unwrap();
    let ids: Vec<_> = ledger.events().iter().map(|event| event.id).collect();
    let mut told = Told::take(&scene.git, "pager").unwrap().unwrap();
    assert!(told.is_of(&bound("a")) && told.is_of(&bound("b")), "it has not begun");
    told.begin(bound("a"), None).unwrap();
    told.refuse(ids[0], "no").unwrap();
    told.fail(Some(Outbox::failed(None, UnixMicros(1), "gone", 0))).unwrap();
    let later = Bound { start: false, ..bound("a") };
    for (other, is_same) in [(bound("a"), true), (bound("b"), false), (later, false)] {
        assert_eq!(Told::look(&scene.git, "pager").unwrap().is_of(&other), is_same);
    }
    told.bind(bound("b")).unwrap();
    let seen = Told::look(&scene.git, "pager").unwrap();
    assert_eq!(seen.state, State { bound: Some(bound("b")), ..State::default() });
    assert_eq!(seen.waiting(&ledger).len(), 2, "what the other one refused waits");
    told.add(ids[0]).unwrap();
    told.begin(bound("c"), None).unwrap();
    let seen = Told::look(&scene.git, "pager").unwrap();
    assert!(seen.is_of(&bound("c")) && !seen.is_of(&bound("b")));
    assert_eq!(seen.waiting(&ledger).len(), 2, "it begins anew");
    // What began under an earlier version is what the settings say.
    std::fs::write(scene.git.private().join("notify/pager.json"), "{}").unwrap();
    drop(told);
    let mut told = taken(&scene.git);
    assert!(told.is_of(&bound("d")));
    told.bind(bound("d")).unwrap();
    assert!(!Told::look(&scene.git, "pager").unwrap().is_of(&bound("e")));
}
