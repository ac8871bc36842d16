use estoppel_evidence::Signer as _;
use serde_json::json;

use super::*;
use crate::rollback::{Back, roll_back};
use crate::scene::{Scene, climb, document, hand, key, promote};

fn set_as(scene: &Scene, seed: u8, environment: &str, release: &str) -> Result<EnvironmentSet, Refusal> {
    let (release, key) = (release.parse().unwrap(), key(seed));
    set(&scene.store(), &hand(&key), environment, &release).map(|(body, _)| body)
}

fn there(scene: &Scene, environment: &str) -> Option<String> {
    pointers(&scene.store().read().unwrap()).remove(environment).map(|pointer| pointer.tag)
}

fn release(scene: &Scene, version: &str) {
    scene.commit("file", version);
    scene.seal(document(version, "true", "true"));
    scene.evolve(version, &[]);
    promote(scene, version);
}

fn staged(scene: &Scene, version: &str) {
    let mut contract = document(version, "true", "true");
    contract["stages"] = json!([{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "final" }]);
    scene.seal(contract);
    scene.evolve(version, &[]);
}

fn bound(scene: &Scene, environment: &str, stage: StageName) {
    let mut roles = scene.store().read().unwrap().roles().clone();
    bind(&mut roles, environment, stage).unwrap();
    scene.write(1, Body::RolesSet(roles)).unwrap();
}

#[test]
fn an_environment_has_what_was_promoted_and_nothing_else() {
    let scene = Scene::new();
    release(&scene, "1.0.0");
    assert_eq!(set_as(&scene, 5, "Production", "1.0.0").unwrap_err().code, Code::EnvironmentInvalid);
    assert_eq!(set_as(&scene, 5, "production", "1.0.1").unwrap_err().code, Code::StateInvalid);
    assert_eq!(set_as(&scene, 3, "production", "1.0.0").unwrap_err().code, Code::RoleMissing);
    // A candidate is no release.
    assert_eq!(set_as(&scene, 5, "production", "1.0.0-rc.1").unwrap_err().code, Code::StateInvalid);
    set_as(&scene, 5, "production", "1.0.0").unwrap();
    assert_eq!(set_as(&scene, 5, "production", "1.0.0").unwrap_err().code, Code::StateInvalid);
    release(&scene, "1.1.0");
    let moved = set_as(&scene, 5, "production", "1.1.0").unwrap();
    assert!(moved.previous.is_some());
    assert_eq!(there(&scene, "production").unwrap(), "v1.1.0");
}

#[test]
fn an_environment_takes_what_came_to_its_stage() {
    let scene = Scene::new();
    staged(&scene, "1.0.0");
    climb(&scene, "1.0.0", StageName::Alpha);
    let refused = set_as(&scene, 5, "staging", "1.0.0-alpha.1").unwrap_err();
    assert_eq!(refused.code, Code::StateInvalid);
    bound(&scene, "staging", StageName::Beta);
    assert_eq!(set_as(&scene, 5, "staging", "1.0.0-alpha.1").unwrap_err().code, Code::StateInvalid);
    climb(&scene, "1.0.0", StageName::Beta);
    set_as(&scene, 5, "staging", "1.0.0-beta.1").unwrap();
    assert_eq!(set_as(&scene, 5, "production", "1.0.0-beta.1").unwrap_err().code, Code::StateInvalid);
    assert_eq!(there(&scene, "staging").unwrap(), "v1.0.0-beta.1");
    // Roles that change afterwards keep what environments take.
    let mut roles = scene.store().read().unwrap().roles().clone();
    roles.grant(key(9).public(), "person 9", [Role::Auditor].into()).unwrap();
    assert_eq!(roles.stage_of("staging"), StageName::Beta);
}

#[test]
fn a_rollback_moves_the_pointers_that_stand_on_what_it_takes_back() {
    let scene = Scene::new();
    for version in ["1.0.0", "1.1.0"] {
        release(&scene, version);
    }
    set_as(&scene, 5, "production", "1.1.0").unwrap();
    set_as(&scene, 5, "canary", "1.1.0").unwrap();
    set_as(&scene, 5, "archive", "1.0.0").unwrap();
    let (version, releaser) = ("1.1.0".parse().unwrap(), key(5));
    let back = Back { version: &version, to: None, reason: "it was slow" };
    let done = roll_back(&scene.store(), &hand(&releaser), &back).unwrap();
    assert_eq!(done.environments.keys().collect::<Vec<_>>(), ["canary", "production"]);
    for environment in ["production", "canary", "archive"] {
        assert_eq!(there(&scene, environment).unwrap(), "v1.0.0");
    }
    let ledger = scene.store().read().unwrap();
    let released = ledger.promoted(&"1.0.0".parse().unwrap()).unwrap().1.commit.clone();
    assert_eq!(pointers(&ledger)["production"].commit, released);
    let refused = set_as(&scene, 5, "production", "1.1.0").unwrap_err();
    assert_eq!(refused.code, Code::StateInvalid);
    assert!(refused.detail.contains("rolled_back"), "{refused}");
}

#[test]
fn what_is_given_up_in_one_clone_and_released_in_another_stays_released() {
    for gives_up_first in [true, false] {
        let origin = Scene::new();
        origin.commit("file", "1.0.0");
        origin.seal(document("1.0.0", "true", "true"));
        origin.evolve("1.0.0", &[]);
        let (mut a, mut b) = (origin.cloned(), origin.cloned());
        (a.remote, b.remote) = (None, None);
        let version: Version = "1.0.0".parse().unwrap();
        let give_up = crate::generation::abandon(&a.store().read().unwrap(), &version, "too slow").unwrap();
        let given_up = a.write(2, give_up).unwrap().event;
        promote(&b, "1.0.0");
        (a.remote, b.remote) = (Some("origin".into()), Some("origin".into()));
        let (first, second) = if gives_up_first { (&a, &b) } else { (&b, &a) };
        crate::sync::push(&first.store()).unwrap();
        crate::sync::push(&second.store()).unwrap();
        for clone in [&a, &b] {
            let ledger = crate::sync::pull(&clone.store()).unwrap();
            assert_eq!(ledger.state(&version), Some(State::Promoted));
            verify_tag(&clone.git, &ledger, "v1.0.0").unwrap();
            let standing = crate::index::standings(&ledger).remove(0);
            assert_eq!((standing.status, standing.abandoned_beside), (State::Promoted, vec![given_up]));
        }
        set_as(&a, 5, "production", "1.0.0").unwrap();
        assert_eq!(there(&b, "production"), None);
        crate::sync::pull(&b.store()).unwrap();
        assert_eq!(there(&b, "production").unwrap(), "v1.0.0");
        // It is not given up once more, and can be taken back as any release.
        let ledger = b.store().read().unwrap();
        let refused = crate::generation::abandon(&ledger, &version, "too slow").unwrap_err();
        assert_eq!(refused.code, Code::StateInvalid);
    }
}

#[test]
fn of_two_clones_that_move_a_pointer_at_once_one_does() {
    let origin = Scene::new();
    for version in ["1.0.0", "1.1.0"] {
        release(&origin, version);
    }
    set_as(&origin, 5, "production", "1.0.0").unwrap();
    let (mut a, mut b) = (origin.cloned(), origin.cloned());
    (a.remote, b.remote) = (None, None);
    set_as(&a, 5, "production", "1.1.0").unwrap();
    set_as(&b, 5, "production", "1.1.0").unwrap();
    set_as(&b, 5, "canary", "1.1.0").unwrap();
    (a.remote, b.remote) = (Some("origin".into()), Some("origin".into()));
    crate::sync::push(&a.store()).unwrap();
    assert_eq!(crate::sync::push(&b.store()).unwrap_err().code, Code::LedgerConflict);
}
