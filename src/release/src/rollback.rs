//! A promoted version taken back: an event, a marker, and a branch whose sources are those of the version before.
//!
//! No tag is moved and nothing is promoted: what goes out next is another version, which may begin from the branch. The
//! marker is `rollback/vX.Y.Z`, because `vX.Y.Z-rollback` would sort as a pre-release of the very version.

use crate::code::{Code, Refusal, demand_reason};
use crate::environment;
use crate::ledger::{Body, Draft, Hand, Known, Ledger, RolledBack, State, Store, TagDraft};
use crate::version::Version;

/// Most versions that a refusal names.
const NAMED_MAX: usize = 8;

/// What is asked.
pub struct Back<'a> {
    pub version: &'a Version,
    /// The highest version below that was promoted and not taken back, where nothing is said.
    pub to: Option<&'a Version>,
    pub reason: &'a str,
}

/// The branch that a rollback offers.
pub fn branch(from: &Version) -> String {
    format!("rollback/{}", from.tag())
}

/// Records a rollback, with its branch and its marker, or nothing of it.
///
/// # Errors
/// `REASON_MISSING`. `STATE_INVALID`: one of the two is not promoted. `TAG_TAKEN`: it was taken back before.
pub fn roll_back(store: &Store, hand: &Hand<'_>, back: &Back<'_>) -> Result<RolledBack, Refusal> {
    demand_reason(back.reason)?;
    let mut done = None;
    store.append(hand, &mut |known| {
        let (body, draft) = draft(store, known, hand, back)?;
        done = Some(body);
        Ok(draft)
    })?;
    done.ok_or_else(|| Refusal::new(Code::LedgerBusy, "nothing was recorded"))
}

fn draft(
    store: &Store,
    known: &Known<'_>,
    hand: &Hand<'_>,
    back: &Back<'_>,
) -> Result<(RolledBack, Draft), Refusal> {
    let ledger = known.ledger;
    let invalid = |why: String| Refusal::new(Code::StateInvalid, why);
    let is_promoted = |version: &Version| ledger.state(version) == Some(State::Promoted);
    if !is_promoted(back.version) {
        return Err(invalid(format!(
            "{} is {}, and only what is promoted is taken back",
            back.version,
            state(ledger, back.version)
        )));
    }
    let mut others = promoted(ledger);
    others.retain(|version| version != back.version);
    let below = || others.iter().filter(|version| *version < back.version).max();
    let to = back.to.or_else(below).filter(|to| others.contains(to)).cloned();
    let to = to.ok_or_else(|| invalid(nowhere(ledger, back, &others)))?;
    let commit_of = |version: &Version| ledger.promoted(version).map(|(_, promoted)| promoted.commit.clone());
    let (Some(from_commit), Some(to_commit)) = (commit_of(back.version), commit_of(&to)) else {
        return Err(invalid(format!("{} or {to} has no commit", back.version)));
    };
    let git = store.git();
    let (tree, seconds) = (git.tree(&to_commit)?, (hand.now)().0 / 1_000_000);
    let who = format!("estoppel <{}@estoppel.invalid> {seconds} +0000", hand.signer.public().id());
    let text = format!(
        "tree {tree}\nparent {from_commit}\nauthor {who}\ncommitter {who}\n\nTake {} back to {to}\n\n{}\n",
        back.version, back.reason
    );
    let commit = git.write("commit", text.as_bytes())?;
    let tag = branch(back.version);
    let stand = environment::pointers(ledger).into_iter();
    let stand = stand.filter(|(_, pointer)| pointer.version == *back.version);
    let body = RolledBack {
        commit: commit.clone(),
        environments: stand.map(|(name, pointer)| (name, pointer.event)).collect(),
        from: back.version.clone(),
        reason: back.reason.to_owned(),
        tag: tag.clone(),
        to: to.clone(),
    };
    let message = format!("{} taken back to {to}\n\n{}", back.version, back.reason);
    let draft = Draft {
        tag: Some(TagDraft { name: tag.clone(), target: commit.clone(), message }),
        branch: Some((format!("refs/heads/{tag}"), commit)),
        ..Body::RolledBack(body.clone()).into()
    };
    Ok((body, draft))
}

/// Why there is nothing to go back to, and what to name instead.
fn nowhere(ledger: &Ledger, back: &Back<'_>, others: &[Version]) -> String {
    let why = match back.to {
        None => format!("no version below {} is promoted", back.version),
        Some(to) if to == back.version => format!("{to} cannot be taken back to itself"),
        Some(to) => format!("{to} is {}, and only what is promoted is gone back to", state(ledger, to)),
    };
    let named: Vec<String> = others.iter().rev().take(NAMED_MAX).map(ToString::to_string).collect();
    match named.as_slice() {
        [] => format!("{why}; nothing else is promoted: promote a version that mends it"),
        named => format!("{why}; `--to` takes one of {}", named.join(", ")),
    }
}

fn state(ledger: &Ledger, version: &Version) -> &'static str {
    ledger.state(version).map_or("unknown to the ledger", State::as_str)
}

fn promoted(ledger: &Ledger) -> Vec<Version> {
    let versions = ledger.events().iter().filter_map(|event| match &event.body {
        Body::PromotionFinished(body) => Some(body.version.clone()),
        _ => None,
    });
    versions.filter(|version| ledger.state(version) == Some(State::Promoted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::ObjectId;
    use crate::promotion::verify_tag;
    use crate::scene::{Scene, document, hand, key, promote};

    fn back(scene: &Scene, version: &str, to: Option<&str>) -> Result<RolledBack, Refusal> {
        let (version, to) = (version.parse().unwrap(), to.map(|to| to.parse().unwrap()));
        let key = key(5);
        let asked = Back { version: &version, to: to.as_ref(), reason: "it was slow" };
        roll_back(&scene.store(), &hand(&key), &asked)
    }

    /// 1.2.0 and 1.3.0, promoted, and their commits.
    fn two() -> (Scene, Vec<ObjectId>) {
        let scene = Scene::new();
        let mut commits = Vec::new();
        for version in ["1.2.0", "1.3.0"] {
            commits.push(scene.commit("file", version));
            scene.seal(document(version, "true", "true"));
            scene.evolve(version, &[]);
            promote(&scene, version);
        }
        (scene, commits)
    }

    #[test]
    fn a_commit_that_is_not_what_its_name_says_is_not_gone_back_to() {
        let (scene, commits) = two();
        let tree = scene.git.tree(&commits[1]).unwrap();
        let own = String::from_utf8(scene.git.read("commit", &commits[0]).unwrap()).unwrap();
        let kept = scene.git.tree(&commits[0]).unwrap();
        scene.alter(&commits[0], "commit", own.replace(kept.as_str(), tree.as_str()).as_bytes());
        let refused = back(&scene, "1.3.0", None).unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "{refused}");
        assert_eq!(scene.git.refs("refs/tags/rollback").unwrap(), []);
    }

    #[test]
    fn the_sources_of_the_version_before_come_back_and_no_tag_moves() {
        let (scene, commits) = two();
        assert_eq!(back(&scene, "1.2.0", None).unwrap_err().code, Code::StateInvalid);
        for (to, why) in [("1.3.0", "itself"), ("1.1.0", "1.1.0 is unknown to the ledger")] {
            let refused = back(&scene, "1.3.0", Some(to)).unwrap_err();
            assert_eq!(refused.code, Code::StateInvalid);
            assert!(refused.detail.contains(why) && refused.detail.ends_with("one of 1.2.0"), "{refused}");
        }
        let refused = back(&scene, "1.2.0", None).unwrap_err();
        assert!(refused.detail.contains("no version below 1.2.0 is promoted"), "{refused}");
        let (version, releaser) = ("1.3.0".parse().unwrap(), key(5));
        let silent = Back { version: &version, to: None, reason: " \n" };
        let refused = roll_back(&scene.store(), &hand(&releaser), &silent).unwrap_err();
        assert_eq!(refused.code, Code::ReasonMissing);
        let done = back(&scene, "1.3.0", None).unwrap();
        assert_eq!(done.to, "1.2.0".parse().unwrap());
        assert_eq!(scene.git.tree(&done.commit).unwrap(), scene.git.tree(&commits[0]).unwrap());
        assert!(scene.git.is_ancestor(&commits[1], &done.commit).unwrap());
        let ledger = scene.store().read().unwrap();
        assert_eq!(verify_tag(&scene.git, &ledger, "rollback/v1.3.0").unwrap().2, done.commit);
        assert_eq!(verify_tag(&scene.git, &ledger, "v1.3.0").unwrap().2, commits[1]);
        assert_eq!(ledger.state(&"1.3.0".parse().unwrap()), Some(State::RolledBack));
        assert_eq!(ledger.rolled_back(&"1.3.0".parse().unwrap()).unwrap().1, &done);
        assert!(ledger.rolled_back(&"1.2.0".parse().unwrap()).is_none());
        assert_eq!(back(&scene, "1.3.0", None).unwrap_err().code, Code::StateInvalid);
    }

    #[test]
    fn a_rollback_that_offers_other_sources_is_forged() {
        let scene = Scene::new();
        for version in ["1.2.0", "1.3.0"] {
            scene.commit("file", version);
            scene.seal(document(version, "true", "true"));
            scene.evolve(version, &[]);
            promote(&scene, version);
        }
        let other = scene.commit("file", "what nobody proved");
        let tag = "rollback/v1.3.0";
        let body = RolledBack {
            commit: other.clone(),
            environments: std::collections::BTreeMap::new(),
            from: "1.3.0".parse().unwrap(),
            reason: "slow".into(),
            tag: tag.into(),
            to: "1.2.0".parse().unwrap(),
        };
        let releaser = key(5);
        let forge = |body: &RolledBack| {
            let given = TagDraft { name: tag.into(), target: body.commit.clone(), message: "x".into() };
            let draft = Draft { tag: Some(given), ..Body::RolledBack(body.clone()).into() };
            scene.store().append(&hand(&releaser), &mut |_| Ok(draft.clone()))
        };
        for (from, to) in [("1.4.0", "1.2.0"), ("1.3.0", "1.1.0"), ("1.3.0", "1.3.0")] {
            let (from, to) = (from.parse::<Version>().unwrap(), to.parse().unwrap());
            let tag = branch(&from);
            let body = Body::RolledBack(RolledBack { from, tag, to, ..body.clone() });
            let refused = scene.store().append(&hand(&releaser), &mut |_| Ok(body.clone().into()));
            assert_eq!(refused.unwrap_err().code, Code::LedgerConflict);
        }
        forge(&body).unwrap();
        let ledger = scene.store().read().unwrap();
        let refused = verify_tag(&scene.git, &ledger, tag).unwrap_err();
        assert_eq!(refused.code, Code::TagForged, "{refused}");
        assert!(refused.detail.contains("1.2.0"), "{refused}");
    }
}
