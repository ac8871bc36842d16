use super::*;
use crate::ledger::Body;
use crate::scene::{Scene, contracted, document};

/// A remote with a ledger, and two clones of it that tell it nothing by themselves.
struct Clones {
    origin: Scene,
    a: Scene,
    b: Scene,
}

fn clones() -> Clones {
    let origin = Scene::new();
    origin.commit("file", "a\n");
    let [a, b] = [origin.cloned(), origin.cloned()];
    Clones { origin, a, b }
}

fn told(scene: &Scene) -> Store {
    scene.store()
}

/// Seals without telling the remote.
fn seal(scene: &Scene, version: &str, script: &str) {
    let quiet = Store::new(scene.git.clone(), None, crate::scene::now);
    let (_, body) = contracted(document(version, script, "true"), None);
    let key = crate::scene::key(2);
    quiet
        .append(&crate::scene::hand(&key), &mut |_| Ok(Body::GenerationSealed(body.clone()).into()))
        .unwrap();
}

fn counts(compared: &Compared) -> (usize, usize) {
    (compared.ahead, compared.behind)
}

#[test]
fn what_each_lacks_is_told_and_both_become_one() {
    let Clones { origin, a, b } = clones();
    assert_eq!(counts(&compare(&told(&a)).unwrap()), (0, 0));
    seal(&a, "1.0.0", "true");
    seal(&b, "2.0.0", "true");
    let before = compare(&told(&a)).unwrap();
    assert_eq!((counts(&before), before.conflict.is_none()), ((1, 0), true));
    assert_eq!(push(&told(&a)).unwrap(), (1, 0));
    let version = Some("1.0.0".parse().unwrap());
    let behind = compare(&told(&b)).unwrap();
    assert_eq!(counts(&behind), (1, 1));
    assert_eq!(behind.versions[&version], Difference { ahead: 0, behind: 1 });
    assert_eq!(push(&told(&b)).unwrap(), (1, 0));
    assert_eq!(push(&told(&b)).unwrap(), (0, 0), "nothing is told twice");
    pull(&told(&a)).unwrap();
    let heads = [&origin, &a, &b]
        .map(|scene| Store::new(scene.git.clone(), None, crate::scene::now).read().unwrap().head());
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[1], heads[2]);
    assert_eq!(Store::new(origin.git.clone(), None, crate::scene::now).read().unwrap().events().len(), 3);
}

#[test]
fn looking_changes_nothing() {
    let Clones { origin: _origin, a, b } = clones();
    seal(&b, "1.0.0", "true");
    push(&told(&b)).unwrap();
    let before = a.git.refs("refs").unwrap();
    compare(&told(&a)).unwrap();
    let after: Vec<_> =
        a.git.refs("refs").unwrap().into_iter().filter(|(name, _)| name != LOOKED_REF).collect();
    assert_eq!(before, after);
}

#[test]
fn what_cannot_both_be_true_is_refused_and_not_overwritten() {
    let Clones { origin, a, b } = clones();
    seal(&a, "1.0.0", "true");
    seal(&b, "1.0.0", "false");
    push(&told(&a)).unwrap();
    let there = origin.git.target(LEDGER_REF).unwrap();
    let compared = compare(&told(&b)).unwrap();
    assert_eq!(compared.conflict.map(|refusal| refusal.code), Some(Code::LedgerConflict));
    assert_eq!(push(&told(&b)).unwrap_err().code, Code::LedgerConflict);
    assert_eq!(pull(&told(&b)).unwrap_err().code, Code::LedgerConflict);
    assert_eq!(origin.git.target(LEDGER_REF).unwrap(), there);
    assert_eq!(
        Store::new(b.git.clone(), None, crate::scene::now).read().unwrap().events().len(),
        2,
        "what is here stays"
    );
}

#[test]
fn tags_go_with_the_events_that_gave_them_away() {
    let Clones { origin, mut a, .. } = clones();
    seal(&a, "1.0.0", "true");
    let remote = a.remote.take();
    a.evolve("1.0.0", &[]);
    a.remote = remote;
    assert_eq!(compare(&told(&a)).unwrap().tags, ["v1.0.0-rc.1"]);
    assert!(origin.git.refs("refs/tags").unwrap().is_empty());
    assert_eq!(push(&told(&a)).unwrap(), (3, 1));
    assert_eq!(origin.git.refs("refs/tags").unwrap().len(), 1);
}

#[test]
fn a_remote_that_is_gone_loses_nothing() {
    let Clones { origin, a, .. } = clones();
    seal(&a, "1.0.0", "true");
    let (dir, away) = (origin.git.top().join(".git"), origin.git.top().join("away"));
    std::fs::rename(&dir, &away).unwrap();
    for _ in 0..3 {
        assert_eq!(pending(&told(&a)).unwrap(), 1);
        assert_eq!(push(&told(&a)).unwrap_err().code, Code::RemoteFailed);
    }
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!(push(&told(&a)).unwrap(), (1, 0));
    assert_eq!(pending(&told(&a)).unwrap(), 0);
    assert_eq!(Store::new(origin.git.clone(), None, crate::scene::now).read().unwrap().events().len(), 2);
}

#[test]
fn waits_double_up_to_the_longest_and_outlive_the_program() {
    for chance in [0, 511, 1023, u64::MAX] {
        for (tries, whole) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            let (wait, whole) = (Outbox::wait(tries, chance), std::time::Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{tries} {chance}: {wait:?}");
        }
    }
    assert_ne!(Outbox::wait(5, 1), Outbox::wait(5, 900));
    let scene = Scene::new();
    assert_eq!(Outbox::read(&scene.git), None);
    let first = Outbox::failed(None, UnixMicros(0), "down", 0);
    first.write(&scene.git).unwrap();
    let kept = Outbox::read(&scene.git).unwrap();
    assert_eq!((kept.tries, wait(Some(&kept), UnixMicros(0))), (1, 500_000));
    let second = Outbox::failed(Some(&kept), UnixMicros(0), "down", 0);
    assert_eq!((second.tries, second.not_before), (2, UnixMicros(1_000_000)));
    assert_eq!(wait(Some(&second), UnixMicros(2_000_000)), 0);
    Outbox::clear(&scene.git).unwrap();
    Outbox::clear(&scene.git).unwrap();
    assert_eq!(Outbox::read(&scene.git), None);
}

#[test]
fn the_mode_is_one_of_three() {
    let scene = Scene::new();
    assert_eq!(Mode::of(&scene.git).unwrap(), Mode::Cloud);
    for mode in [Mode::Local, Mode::Hybrid, Mode::Cloud] {
        scene.git.set_config(MODE_SETTING, mode.as_str()).unwrap();
        assert_eq!(Mode::of(&scene.git).unwrap(), mode);
    }
    scene.git.set_config(MODE_SETTING, "sometimes").unwrap();
    assert_eq!(Mode::of(&scene.git).unwrap_err().code, Code::SyncMode);
}
