mod counts;
mod ladder;
mod lapses;
mod releases;
mod vectors;

use std::collections::BTreeSet;

use estoppel_evidence::key::SoftKey;
use estoppel_evidence::{Signer as _, canonical};
use serde_json::json;

use super::*;
use crate::code::Code;
use crate::git::{Git, tests::repository};

fn key(seed: u8) -> SoftKey {
    SoftKey::ed25519(&[seed; 32])
}

fn roles(of: &[(u8, &[Role])]) -> Roles {
    let mut made = Roles::default();
    // Owners first: without one there are no roles.
    let mut of = of.to_vec();
    of.sort_by_key(|(_, roles)| !roles.contains(&Role::Owner));
    for (seed, roles) in of {
        let name = format!("person {seed}");
        made.grant(key(seed).public(), &name, roles.iter().copied().collect()).unwrap();
    }
    made
}

fn contracted(version: &str, title: &str, from: Option<Sha256>) -> Box<Contracted> {
    let document = json!({ "title": title });
    let contract = Sha256::of(&canonical::foreign(document.to_string().as_bytes()).unwrap());
    let reason = from.map(|_| "because".into());
    Box::new(Contracted {
        changes: BTreeMap::from([("A-1".into(), contract)]),
        contract,
        document,
        from,
        reason,
        version: version.parse().unwrap(),
    })
}

/// Files of events, made one by one.
#[derive(Default, Clone)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    fn add(&mut self, body: Body, parents: &[Sha256], at: u64, seed: u8) -> Sha256 {
        let parents: BTreeSet<Sha256> = parents.iter().copied().collect();
        let bytes = Event::sign(&body, &parents, UnixMicros(at), "host", None, &key(seed)).unwrap();
        let event = Event::read(&bytes).unwrap();
        self.0.push((event.path(), bytes));
        event.id
    }

    /// An event whose payload has another `stood_at`.
    fn add_at(&mut self, stood_at: serde_json::Value, parents: &[Sha256], at: u64) {
        let version = "1.0.0".parse().unwrap();
        let body = Body::GenerationAbandoned(GenerationAbandoned { reason: "x".into(), version });
        let parents: BTreeSet<Sha256> = parents.iter().copied().collect();
        let bytes = Event::sign(&body, &parents, UnixMicros(at), "host", None, &key(1)).unwrap();
        let mut document = Event::read(&bytes).unwrap().document();
        document["stood_at"] = stood_at;
        let payload = serde_json_canonicalizer::to_vec(&document).unwrap();
        let bytes = estoppel_evidence::envelope::sign(EVENT_TYPE, &payload, &key(1)).unwrap();
        let name = Sha256::of(&bytes).hex();
        self.0.push((format!("events/{}/{}.json", &name[..2], &name[2..]), bytes));
    }

    fn code(&self) -> Option<Code> {
        check(&self.0, None).err().map(|refusal| refusal.code)
    }
}

const ALL: &[Role] = &Role::ALL;

fn begun() -> (Files, Sha256) {
    let mut files = Files::default();
    let genesis = files.add(Body::RolesSet(roles(&[(1, ALL), (2, &[Role::Author])])), &[], 10, 1);
    (files, genesis)
}

#[test]
fn events_that_follow_one_another_are_a_ledger() {
    let (mut files, genesis) = begun();
    let a = files.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 11, 2);
    let b = files.add(Body::GenerationSealed(contracted("2.0.0", "b", None)), &[genesis], 12, 1);
    let ledger = check(&files.0, Some(genesis)).unwrap();
    assert_eq!(ledger.heads(), &BTreeSet::from([a, b]));
    assert_eq!(ledger.state(&"1.0.0".parse().unwrap()), Some(State::Sealed));
    files.0.reverse();
    assert_eq!(check(&files.0, Some(genesis)).unwrap().head(), ledger.head());
    assert_eq!(check(&files.0, Some(a)).unwrap_err().code, Code::LedgerGenesis);
}

#[test]
fn an_event_says_where_the_working_tree_stood_or_nothing_of_it() {
    let (git_dir, git) = repository();
    let store = store(&git, None);
    let (key, now) = (key(1), || UnixMicros(20));
    let hand = Hand { signer: &key, host: "host", now: &now };
    store.begin(Body::RolesSet(roles(&[(1, ALL)])), &hand).unwrap();
    let ledger = store.read().unwrap();
    assert_eq!(ledger.events()[0].stood_at, git.commit("HEAD").unwrap());
    assert!(ledger.events()[0].stood_at.is_some());
    drop(git_dir);
    let (files, genesis) = begun();
    for (stood_at, code) in [
        (json!("a".repeat(40)), None),
        (json!("a".repeat(64)), None),
        (json!("a".repeat(39)), Some(Code::LedgerEventInvalid)),
        (json!("HEAD"), Some(Code::LedgerEventInvalid)),
        (json!(null), Some(Code::LedgerEventInvalid)),
        (json!(""), Some(Code::LedgerEventInvalid)),
    ] {
        let mut files = files.clone();
        files.add_at(stood_at.clone(), &[genesis], 11);
        assert_eq!(files.code(), code, "{stood_at}");
    }
}

#[test]
fn every_altered_byte_is_found() {
    let (mut files, genesis) = begun();
    files.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 11, 2);
    let length = files.0[1].1.len();
    for at in 0..length {
        let mut altered = files.clone();
        altered.0[1].1[at] ^= 1;
        assert!(altered.code().is_some(), "byte {at}");
    }
    assert_eq!(files.code(), None);
}

#[test]
fn an_event_that_others_follow_cannot_be_removed() {
    let (mut files, genesis) = begun();
    let a = files.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 11, 2);
    files.add(Body::GenerationSealed(contracted("2.0.0", "b", None)), &[a], 12, 2);
    files.0.remove(1);
    assert_eq!(files.code(), Some(Code::LedgerParentMissing));
}

#[test]
fn a_key_without_the_role_is_refused() {
    let (files, genesis) = begun();
    for seed in [2, 3] {
        let mut files = files.clone();
        let version = "1.0.0".parse().unwrap();
        let body = GenerationAbandoned { reason: "x".into(), version };
        files.add(Body::GenerationAbandoned(body), &[genesis], 11, seed);
        assert_eq!(files.code(), (seed == 3).then_some(Code::LedgerSignature), "{seed}");
        files.add(Body::RolesSet(roles(&[(seed, ALL)])), &[genesis], 11, seed);
        assert_eq!(files.code(), Some(Code::LedgerSignature), "{seed}");
    }
}

#[test]
fn a_revoked_key_signs_nothing_that_follows() {
    let (mut files, genesis) = begun();
    let without = files.add(Body::RolesSet(roles(&[(1, ALL)])), &[genesis], 11, 1);
    let version = || "1.0.0".parse().unwrap();
    let body = Body::GenerationAbandoned(GenerationAbandoned { reason: "x".into(), version: version() });
    files.add(body, &[without], 12, 2);
    assert_eq!(files.code(), Some(Code::LedgerSignature));
}

#[test]
fn what_cannot_both_be_true_is_a_conflict() {
    let sealed = |title: &str| Body::GenerationSealed(contracted("1.0.0", title, None));
    let (mut files, genesis) = begun();
    let a = files.add(sealed("a"), &[genesis], 11, 2);
    let mut twice = files.clone();
    twice.add(sealed("b"), &[genesis], 12, 2);
    assert_eq!(twice.code(), Some(Code::LedgerConflict));
    let of = contracted("1.0.0", "a", None).contract;
    let amended = |title: &str| Body::GenerationAmended(contracted("1.0.0", title, Some(of)));
    files.add(amended("c"), &[a], 13, 2);
    assert_eq!(files.code(), None);
    files.add(amended("d"), &[a], 14, 2);
    assert_eq!(files.code(), Some(Code::LedgerConflict));
    let (mut fork, genesis) = begun();
    fork.add(Body::RolesSet(roles(&[(1, ALL)])), &[genesis], 11, 1);
    fork.add(Body::RolesSet(roles(&[(1, &[Role::Owner])])), &[genesis], 12, 1);
    assert_eq!(fork.code(), Some(Code::LedgerConflict));
}

#[test]
fn a_contract_with_another_digest_and_an_older_event_are_refused() {
    let (files, genesis) = begun();
    let mut body = contracted("1.0.0", "a", None);
    body.document = json!({ "title": "b" });
    let mut other = files.clone();
    other.add(Body::GenerationSealed(body), &[genesis], 11, 2);
    assert_eq!(other.code(), Some(Code::LedgerEventInvalid));
    let mut older = files;
    older.add(Body::GenerationSealed(contracted("1.0.0", "a", None)), &[genesis], 9, 2);
    assert_eq!(older.code(), Some(Code::LedgerTime));
}

struct Cloned {
    _dir: tempfile::TempDir,
    git: Git,
}

fn store(git: &Git, remote: Option<&str>) -> Store {
    Store::new(git.clone(), remote.map(Into::into), crate::scene::now)
}

fn hand<'a>(key: &'a SoftKey, now: &'a dyn Fn() -> UnixMicros) -> Hand<'a> {
    Hand { signer: key, host: "host", now }
}

fn seal(store: &Store, version: &str) -> Result<Appended, crate::code::Refusal> {
    let (key, now) = (key(1), || UnixMicros(20));
    store
        .append(&hand(&key, &now), &mut |_| Ok(Body::GenerationSealed(contracted(version, "a", None)).into()))
}

fn begin(store: &Store) -> Sha256 {
    let (key, now) = (key(1), || UnixMicros(10));
    store.begin(Body::RolesSet(roles(&[(1, ALL)])), &hand(&key, &now)).unwrap().event
}

#[test]
fn what_was_taken_out_of_the_ref_is_missed() {
    let (_dir, git) = repository();
    let store = store(&git, None);
    begin(&store);
    let before = git.target(LEDGER_REF).unwrap().unwrap();
    seal(&store, "1.0.0").unwrap();
    assert_eq!(store.read().unwrap().events().len(), 2);
    let after = git.target(LEDGER_REF).unwrap().unwrap();
    git.text(&["update-ref", LEDGER_REF, before.as_str()]).unwrap();
    assert_eq!(store.read().unwrap_err().code, Code::LedgerAltered);
    // A commit on top that lacks the event.
    let tree = git.tree(&before).unwrap();
    let text =
        format!("tree {tree}\nparent {after}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n");
    let without = git.write("commit", text.as_bytes()).unwrap();
    git.text(&["update-ref", LEDGER_REF, without.as_str()]).unwrap();
    assert_eq!(store.read().unwrap_err().code, Code::LedgerAltered);
    git.text(&["update-ref", "-d", LEDGER_REF]).unwrap();
    assert_eq!(store.read().unwrap_err().code, Code::LedgerAltered);
    git.text(&["update-ref", LEDGER_REF, after.as_str()]).unwrap();
    assert!(store.read().is_ok());
}

#[test]
fn objects_of_the_ledger_that_are_not_what_their_names_say_are_missed() {
    let scene = crate::scene::Scene::new();
    let before = scene.git.target(LEDGER_REF).unwrap().unwrap();
    scene.seal(crate::scene::document("1.0.0", "true", "true"));
    let after = scene.git.target(LEDGER_REF).unwrap().unwrap();
    let (had, has) = (scene.git.tree(&before).unwrap(), scene.git.tree(&after).unwrap());
    let folder = |commit: &ObjectId| scene.git.text(&["rev-parse", &format!("{commit}:events")]).unwrap();
    let folder = |commit: &ObjectId| ObjectId::parse(&folder(commit)).unwrap();
    for (had, has) in [(had.clone(), has.clone()), (folder(&before), folder(&after))] {
        let kept = scene.git.read("tree", &has).unwrap();
        scene.alter(&has, "tree", &scene.git.read("tree", &had).unwrap());
        let refused = scene.store().read().unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "a tree without the event: {refused}");
        scene.restore(&has, "tree", &kept);
    }
    let kept = scene.git.read("commit", &after).unwrap();
    let other = String::from_utf8(kept.clone()).unwrap().replace(has.as_str(), had.as_str());
    scene.alter(&after, "commit", other.as_bytes());
    assert_eq!(scene.store().read().unwrap_err().code, Code::LedgerAltered, "a commit of another tree");

    // A commit of its own that follows what was altered, and differs from it in nothing.
    let who = "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000";
    let top = format!("tree {had}\nparent {after}\n{who}\n\nx\n");
    let top = scene.git.write("commit", top.as_bytes()).unwrap();
    scene.git.text(&["update-ref", LEDGER_REF, top.as_str()]).unwrap();
    assert_eq!(scene.store().read().unwrap_err().code, Code::LedgerAltered, "a commit on top of it");
    scene.restore(&after, "commit", &kept);
    scene.git.text(&["update-ref", LEDGER_REF, after.as_str()]).unwrap();
    assert_eq!(scene.store().read().unwrap().events().len(), 2);
}

#[test]
fn what_git_is_told_of_merges_hides_none_that_takes_something_out() {
    let (_dir, git) = repository();
    let store = store(&git, None);
    begin(&store);
    let first = git.target(LEDGER_REF).unwrap().unwrap();
    seal(&store, "1.0.0").unwrap();
    let second = git.target(LEDGER_REF).unwrap().unwrap();
    let (had, has) = (git.tree(&first).unwrap(), git.tree(&second).unwrap());
    let who = "author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000";
    let made = |tree: &ObjectId, parents: &str| {
        git.write("commit", format!("tree {tree}\n{parents}{who}\n\nx\n").as_bytes()).unwrap()
    };
    // A merge that takes the event out, and another one that puts it back.
    let out = made(&had, &format!("parent {first}\nparent {second}\n"));
    let back = made(&has, &format!("parent {out}\nparent {second}\n"));
    git.text(&["update-ref", LEDGER_REF, back.as_str()]).unwrap();
    for how in ["separate", "off", "first-parent", "combined", "dense-combined", "remerge"] {
        git.text(&["config", "log.diffMerges", how]).unwrap();
        assert_eq!(store.read().unwrap_err().code, Code::LedgerAltered, "{how}");
    }
}

#[test]
fn a_remote_that_is_written_to_elsewhere_takes_what_shows_where_it_is_read() {
    let (origin, [one, _two]) = two_clones();
    let a = store(&one.git, Some("origin"));
    begin(&a);
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().join("other");
    let mut command = std::process::Command::new("git");
    command.args(["clone", "-q", "--mirror"]).arg(origin.path().join(".git")).arg(&to);
    assert!(command.output().unwrap().status.success());
    let set = |name: &str, value: &std::path::Path| {
        one.git.text(&["config", name, &value.to_string_lossy()]).unwrap()
    };
    // The same place by another name is none elsewhere.
    set("remote.origin.pushurl", &origin.path().join(".git/../.git"));
    seal(&a, "1.0.0").unwrap();
    set("remote.origin.pushurl", &to);
    let refused = seal(&a, "2.0.0").unwrap_err();
    assert_eq!(refused.code, Code::RemoteFailed, "{refused}");
    one.git.text(&["config", "--unset", "remote.origin.pushurl"]).unwrap();
    let from = origin.path().join(".git");
    set(&format!("url.{}.pushInsteadOf", to.display()), &from);
    let refused = seal(&a, "2.0.0").unwrap_err();
    assert_eq!(refused.code, Code::RemoteFailed, "{refused}");
    set("remote.origin.pushurl", &from);
    one.git.text(&["config", "--add", "remote.origin.pushurl", &to.to_string_lossy()]).unwrap();
    let refused = seal(&a, "2.0.0").unwrap_err();
    assert!(refused.detail.contains("2 places"), "{refused}");
    assert_eq!(store(&one.git, None).read().unwrap().events().len(), 2);
}

#[test]
fn a_key_without_the_role_writes_nothing() {
    let (_dir, git) = repository();
    let store = store(&git, None);
    begin(&store);
    let before = git.target(LEDGER_REF).unwrap();
    let (stranger, now) = (key(9), || UnixMicros(20));
    let refused = store.append(&hand(&stranger, &now), &mut |_| {
        Ok(Body::GenerationSealed(contracted("1.0.0", "a", None)).into())
    });
    assert_eq!(refused.unwrap_err().code, Code::RoleMissing);
    assert_eq!(git.target(LEDGER_REF).unwrap(), before);
}

/// A bare remote and two clones of it.
fn two_clones() -> (tempfile::TempDir, [Cloned; 2]) {
    let (dir, origin) = repository();
    origin.text(&["config", "core.bare", "true"]).unwrap();
    let clone = || {
        let at = tempfile::tempdir().unwrap();
        let from = dir.path().join(".git");
        let to = at.path().join("clone");
        let mut command = std::process::Command::new("git");
        assert!(command.arg("clone").arg("-q").args([&from, &to]).output().unwrap().status.success());
        Cloned { git: Git::open(&to).unwrap(), _dir: at }
    };
    let clones = [clone(), clone()];
    (dir, clones)
}

#[test]
fn what_is_dated_ahead_of_this_clock_is_not_taken_over() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    b.join(genesis).unwrap();
    let dated = |version: &str, ahead_s: u64| {
        let (key, at) = (key(1), UnixMicros(crate::scene::now().0 + ahead_s * 1_000_000));
        let body = Body::GenerationSealed(contracted(version, "a", None));
        a.append(&hand(&key, &|| at), &mut |_| Ok(body.clone().into())).unwrap();
    };
    dated("1.0.0", 60);
    assert_eq!(b.fetch().unwrap().events().len(), 2);
    dated("2.0.0", 3600);
    let refused = b.fetch().unwrap_err();
    assert_eq!(refused.code, Code::LedgerTime, "{refused}");
    assert_eq!(store(&two.git, None).read().unwrap().events().len(), 2);
    // What is here already can be read by whoever wrote it.
    assert_eq!(a.fetch().unwrap().events().len(), 3);
}

/// The way out of docs/releases.md, `A clock that ran ahead`.
#[test]
fn what_a_clock_that_ran_ahead_wrote_is_set_aside_and_all_go_on() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    b.join(genesis).unwrap();
    seal(&a, "1.0.0").unwrap();
    let (key, at) = (key(1), UnixMicros(crate::scene::now().0 + 400 * 86_400_000_000));
    let body = Body::GenerationSealed(contracted("2.0.0", "a", None));
    a.append(&hand(&key, &|| at), &mut |_| Ok(body.clone().into())).unwrap();
    // Nobody takes it over, and nobody whose clock is right writes after it.
    for refused in [b.fetch().unwrap_err(), seal(&b, "3.0.0").unwrap_err(), seal(&a, "3.0.0").unwrap_err()] {
        assert_eq!(refused.code, Code::LedgerTime, "{refused}");
        assert!(
            refused.hint.as_ref().is_some_and(|hint| hint.contains("A clock that ran ahead")),
            "{refused:?}"
        );
    }
    assert_eq!(a.fetch().unwrap().events().len(), 3);
    let fetched = two.git.text(&["rev-parse", "refs/estoppel/fetched"]).unwrap();
    let before = format!("--before={}", crate::scene::now().0 / 1_000_000 + 300);
    let good = two.git.text(&["rev-list", "-1", &before, "refs/estoppel/fetched"]).unwrap();
    let lease = format!("--force-with-lease={LEDGER_REF}:{}", fetched.trim());
    two.git.text(&["push", "-q", &lease, "origin", &format!("{}:{LEDGER_REF}", good.trim())]).unwrap();
    assert_eq!(b.fetch().unwrap().events().len(), 2);
    seal(&b, "3.0.0").unwrap();
    assert_eq!(a.fetch().unwrap_err().code, Code::LedgerAltered);
    for name in [LEDGER_REF, "refs/estoppel/seen", "refs/estoppel/remote"] {
        one.git.text(&["update-ref", "-d", name]).unwrap();
    }
    assert_eq!(a.fetch().unwrap().events().len(), 3);
    seal(&a, "2.0.0").unwrap();
    assert_eq!(b.fetch().unwrap().head(), a.read().unwrap().head());
    // Written while the remote was not asked, it stays here.
    let body = Body::GenerationSealed(contracted("4.0.0", "a", None));
    store(&one.git, None).append(&hand(&key, &|| at), &mut |_| Ok(body.clone().into())).unwrap();
    assert_eq!(crate::sync::push(&a).unwrap_err().code, Code::LedgerTime);
    assert_eq!(b.fetch().unwrap().events().len(), 4);
}

#[test]
fn what_two_clones_write_is_joined_and_the_second_seal_of_a_version_is_refused() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    b.trust(genesis).unwrap();
    b.fetch().unwrap();
    seal(&a, "1.0.0").unwrap();
    seal(&b, "2.0.0").unwrap();
    assert_eq!(seal(&b, "1.0.0").unwrap_err().code, Code::LedgerConflict);
    // Written while the remote was not asked, then joined.
    let alone = store(&one.git, None);
    seal(&alone, "3.0.0").unwrap();
    seal(&b, "4.0.0").unwrap();
    let joined = a.fetch().unwrap();
    assert_eq!(joined.heads().len(), 2);
    seal(&a, "5.0.0").unwrap();
    assert_eq!(b.fetch().unwrap().head(), a.read().unwrap().head());
    assert_eq!(b.read().unwrap().events().len(), 6);
}

#[test]
fn a_remote_that_lost_what_it_had_is_refused() {
    let (origin, [one, _two]) = two_clones();
    let a = store(&one.git, Some("origin"));
    begin(&a);
    let at = origin.path().join(".git");
    let git = |args: &[&str]| {
        let out = std::process::Command::new("git").arg("--git-dir").arg(&at).args(args).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let first = git(&["rev-parse", LEDGER_REF]);
    seal(&a, "1.0.0").unwrap();
    a.fetch().unwrap();
    git(&["update-ref", LEDGER_REF, &first]);
    assert_eq!(a.fetch().unwrap_err().code, Code::LedgerAltered);
    git(&["update-ref", "-d", LEDGER_REF]);
    assert_eq!(a.fetch().unwrap_err().code, Code::LedgerAltered);
}

/// A commit of somebody's own with `tree`, on top of the ledger of the remote.
fn push_on_top(git: &Git, tree: &ObjectId) {
    git.text(&["fetch", "-q", "origin", LEDGER_REF]).unwrap();
    let top = git.commit("FETCH_HEAD").unwrap().unwrap();
    let text = format!("tree {tree}\nparent {top}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n");
    let commit = git.write("commit", text.as_bytes()).unwrap();
    git.text(&["push", "-q", "origin", &format!("{commit}:{LEDGER_REF}")]).unwrap();
}

#[test]
fn what_a_remote_took_out_or_altered_is_not_taken_over() {
    let (origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    let first = one.git.target(LEDGER_REF).unwrap().unwrap();
    b.join(genesis).unwrap();
    seal(&a, "1.0.0").unwrap();
    b.fetch().unwrap();
    let refs = |git: &Git| git.refs("refs").unwrap();
    let before = refs(&two.git);
    // Its tree is a ledger that verifies, and lacks what this clone has.
    push_on_top(&one.git, &one.git.tree(&first).unwrap());
    one.git.text(&["push", "-q", "origin", "HEAD:refs/tags/v9.9.9"]).unwrap();
    let refused = b.fetch().unwrap_err();
    assert_eq!(refused.code, Code::LedgerAltered, "{refused}");
    let fetched = |(name, _): &(String, ObjectId)| name != "refs/estoppel/fetched";
    let kept = |refs: Vec<(String, ObjectId)>| refs.into_iter().filter(fetched).collect::<Vec<_>>();
    assert_eq!(kept(refs(&two.git)), kept(before.clone()));
    assert_eq!(store(&two.git, None).read().unwrap().events().len(), 2);
    // Put back, it is still one that was taken out.
    push_on_top(&one.git, &one.git.tree(&one.git.target(LEDGER_REF).unwrap().unwrap()).unwrap());
    assert_eq!(b.fetch().unwrap_err().code, Code::LedgerAltered);
    assert_eq!(seal(&b, "2.0.0").unwrap_err().code, Code::LedgerAltered);
    assert_eq!(kept(refs(&two.git)), kept(before));
    // Nor does a clone take it that has nothing yet.
    let third = tempfile::tempdir().unwrap();
    let to = third.path().join("clone");
    let mut command = std::process::Command::new("git");
    command.arg("clone").arg("-q").arg(origin.path().join(".git")).arg(&to);
    assert!(command.output().unwrap().status.success());
    let git = Git::open(&to).unwrap();
    assert_eq!(store(&git, Some("origin")).join(genesis).unwrap_err().code, Code::LedgerAltered);
    assert_eq!(git.target(LEDGER_REF).unwrap(), None);
}

#[test]
fn a_copy_that_is_dated_ahead_of_this_clock_is_not_brought_back() {
    let copy = |ledger: &Ledger| -> Vec<(String, Vec<u8>)> {
        ledger.events().iter().map(|event| (event.path(), event.bytes.clone())).collect()
    };
    let (_dir, git) = repository();
    let writer = store(&git, None);
    let genesis = begin(&writer);
    let dated = |version: &str, ahead_s: u64| {
        let (key, at) = (key(1), UnixMicros(crate::scene::now().0 + ahead_s * 1_000_000));
        let body = Body::GenerationSealed(contracted(version, "a", None));
        writer.append(&hand(&key, &|| at), &mut |_| Ok(body.clone().into())).unwrap();
    };
    dated("1.0.0", 60);
    let near = copy(&writer.read().unwrap());
    dated("2.0.0", 3600);
    let far = copy(&writer.read().unwrap());
    let (_other_dir, other) = repository();
    let restored = store(&other, None);
    assert_eq!(restored.restore(&far, Some(genesis)).unwrap_err().code, Code::LedgerTime);
    assert_eq!((other.target(LEDGER_REF).unwrap(), restored.trusted().unwrap()), (None, None));
    assert_eq!(restored.restore(&near, Some(genesis)).unwrap().events().len(), 2);
    assert_eq!(restored.restore(&far, None).unwrap_err().code, Code::LedgerTime);
    assert_eq!(restored.read().unwrap().events().len(), 2);
    // What is here already is brought back to where it was.
    git.text(&["update-ref", "-d", LEDGER_REF]).unwrap();
    assert_eq!(writer.restore(&far, None).unwrap().events().len(), 3);
}

#[test]
fn a_clone_that_trusts_another_beginning_takes_nothing() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    begin(&a);
    b.trust(Sha256::of(b"another")).unwrap();
    assert_eq!(b.fetch().unwrap_err().code, Code::LedgerGenesis);
    assert_eq!(two.git.target(LEDGER_REF).unwrap(), None);
}

#[test]
fn a_ledger_that_is_gone_is_not_begun_again() {
    let (_dir, git) = repository();
    let store = store(&git, None);
    let genesis = begin(&store);
    let again = || {
        let (key, now) = (key(1), || UnixMicros(30));
        store.begin(Body::RolesSet(roles(&[(1, ALL)])), &hand(&key, &now)).unwrap_err().code
    };
    assert_eq!(again(), Code::LedgerExists);
    git.text(&["update-ref", "-d", LEDGER_REF]).unwrap();
    assert_eq!(again(), Code::LedgerAltered);
    git.text(&["update-ref", "-d", "refs/estoppel/seen"]).unwrap();
    assert_eq!(again(), Code::LedgerExists);
    assert_eq!(store.trusted().unwrap(), Some(genesis));
    assert_eq!(git.target(LEDGER_REF).unwrap(), None);
}

#[test]
fn what_a_join_refuses_leaves_nothing() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    assert_eq!(b.join(Sha256::of(b"mistyped")).unwrap_err().code, Code::LedgerGenesis);
    assert_eq!(b.trusted().unwrap(), None);
    assert_eq!(two.git.target("refs/estoppel/remote").unwrap(), None);
    assert_eq!(b.join(genesis).unwrap().genesis(), Some(genesis));
    assert_eq!(b.trusted().unwrap(), Some(genesis));
    assert_eq!(b.join(Sha256::of(b"another")).unwrap_err().code, Code::LedgerExists);
    assert_eq!(b.trusted().unwrap(), Some(genesis));
}

#[test]
fn who_gives_up_what_contradicts_the_remote_gets_its_ledger() {
    let (_origin, [one, two]) = two_clones();
    let (a, b) = (store(&one.git, Some("origin")), store(&two.git, Some("origin")));
    let genesis = begin(&a);
    b.join(genesis).unwrap();
    let (key, now) = (key(1), || UnixMicros(30));
    let other = Body::GenerationSealed(contracted("1.0.0", "b", None));
    store(&two.git, None).append(&hand(&key, &now), &mut |_| Ok(other.clone().into())).unwrap();
    seal(&a, "1.0.0").unwrap();
    assert_eq!(b.fetch().unwrap_err().code, Code::LedgerConflict);
    for name in [LEDGER_REF, "refs/estoppel/seen"] {
        two.git.text(&["update-ref", "-d", name]).unwrap();
    }
    assert_eq!(b.fetch().unwrap().head(), a.read().unwrap().head());
}
