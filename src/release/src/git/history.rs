//! The commits that others follow, in a repository of our own, each named anew by its content: what is asked of a history is asked
//! there, so that nothing can be put in its place between naming and asking.
//!
//! It has no settings, no attributes, no replaced objects, and no other objects than those that it was given. Where the clone is
//! shallow, what is beyond its end is not known, and a question whose answer may be there is not answered.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::{Git, ObjectId};
use crate::code::{Code, Refusal};
use crate::worktree::Scratch;

/// What some commits follow. Others are added as they are asked about.
#[derive(Debug)]
pub struct History {
    clone: Git,
    pub(super) own: Git,
    /// Objects that are in `own`.
    named: RefCell<BTreeSet<String>>,
    /// Commits of which all that they follow is there, as far as the clone has it.
    followed: RefCell<BTreeSet<ObjectId>>,
    /// Commits whose folders are there.
    unfolded: RefCell<BTreeSet<ObjectId>>,
    _scratch: Scratch,
}

impl History {
    /// The history of one commit.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: a commit is not what its name says.
    pub(crate) fn of(clone: &Git, tip: &ObjectId) -> Result<Self, Refusal> {
        let scratch = Scratch::make(clone, "history")?;
        let own = clone.empty(scratch.path(), tip)?;
        let history = Self {
            clone: clone.clone(),
            own,
            named: RefCell::default(),
            followed: RefCell::default(),
            unfolded: RefCell::default(),
            _scratch: scratch,
        };
        history.follow(tip)?;
        Ok(history)
    }

    /// Whether `old` is `new` or one of its ancestors.
    ///
    /// # Errors
    /// `HISTORY_MISSING`: it may be one beyond the end of a shallow clone.
    pub(crate) fn is_ancestor(&self, old: &ObjectId, new: &ObjectId) -> Result<bool, Refusal> {
        self.follow(new)?;
        if self.own.commit(old.as_str())?.is_some() && self.own.is_ancestor(old, new)? {
            return Ok(true);
        }
        if self.is_short()? {
            let said = format!(
                "whether {new} contains {old} cannot be told: the clone is shallow (`git fetch --unshallow` brings the rest)"
            );
            return Err(Refusal::new(Code::HistoryMissing, said));
        }
        Ok(false)
    }

    /// Whether there is a merge among the commits after `base` up to `tip`.
    pub(crate) fn has_merges(&self, base: &ObjectId, tip: &ObjectId) -> Result<bool, Refusal> {
        self.follow(base)?;
        self.follow(tip)?;
        let not = format!("^{base}");
        let words = ["rev-list", "--merges", "--max-count=1", "--end-of-options", tip.as_str(), &not, "--"];
        Ok(!self.own.text(&words)?.is_empty())
    }

    /// Whether the clone does not have all that its commits follow.
    pub(super) fn is_short(&self) -> Result<bool, Refusal> {
        let path = self.own.path_of("shallow")?;
        match fs::read_to_string(&path) {
            Ok(lines) => Ok(lines.lines().any(|id| self.named.borrow().contains(id))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Has all that `tip` follows.
    pub(super) fn follow(&self, tip: &ObjectId) -> Result<(), Refusal> {
        if self.followed.borrow().contains(tip) {
            return Ok(());
        }
        let listed = self.clone.text(&["rev-list", "--end-of-options", tip.as_str(), "--"])?;
        self.name(listed.lines())?;
        let (from, to) = (self.clone.path_of("shallow")?, self.own.path_of("shallow")?);
        if from.is_file() {
            fs::copy(&from, &to).map_err(|error| failed(&from, &error))?;
        }
        self.demand_whole(tip)?;
        self.followed.borrow_mut().insert(tip.clone());
        Ok(())
    }

    /// Whoever was shown another commit than the one that was named has left out what that one follows.
    fn demand_whole(&self, tip: &ObjectId) -> Result<(), Refusal> {
        let words = ["rev-list", "--count", "--end-of-options", tip.as_str(), "--"];
        self.own.text(&words).map(drop).map_err(|refusal| {
            let said = format!("the history of {tip} is not what its commits say: {}", refusal.detail);
            Refusal::new(Code::LedgerAltered, said)
        })
    }

    /// Has the folders of these commits, and the names of their files.
    pub(super) fn trees<'c>(&self, commits: impl IntoIterator<Item = &'c ObjectId>) -> Result<(), Refusal> {
        let new: BTreeSet<&ObjectId> = {
            let unfolded = self.unfolded.borrow();
            commits.into_iter().filter(|commit| !unfolded.contains(commit)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let words =
            ["rev-list", "--objects", "--no-object-names", "--no-walk", "--filter=blob:none", "--stdin"];
        let lines: String = new.iter().flat_map(|commit| [commit.as_str(), "\n"]).collect();
        let listed = self.clone.bytes(&words, lines.as_bytes())?;
        self.name(String::from_utf8_lossy(&listed).lines())?;
        self.unfolded.borrow_mut().extend(new.into_iter().cloned());
        Ok(())
    }

    /// Has these objects.
    ///
    /// # Errors
    /// `LEDGER_ALTERED`: one of them is not what its name says.
    pub(super) fn name<'i>(&self, ids: impl IntoIterator<Item = &'i str>) -> Result<(), Refusal> {
        let wanted: BTreeSet<&str> = {
            let named = self.named.borrow();
            ids.into_iter().filter(|id| !named.contains(*id)).collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let lines: String = wanted.iter().flat_map(|id| [id, "\n"]).collect();
        self.clone.name_anew(&self.own, &lines)?;
        self.named.borrow_mut().extend(wanted.into_iter().map(ToOwned::to_owned));
        Ok(())
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    fn line() -> (Scene, [ObjectId; 3]) {
        let scene = Scene::new();
        let commits = ["a\n", "b\n", "c\n"].map(|text| scene.commit("file", text));
        (scene, commits)
    }

    /// Puts a commit without a parent where the clone keeps `id`.
    fn parentless(scene: &Scene, id: &ObjectId, parent: &ObjectId) {
        let own = String::from_utf8(scene.git.read("commit", id).unwrap()).unwrap();
        scene.alter(id, "commit", own.replace(&format!("parent {parent}\n"), "").as_bytes());
    }

    #[test]
    fn a_commit_that_is_not_what_its_name_says_is_refused() {
        let (scene, [first, second, commit]) = line();
        assert!(History::of(&scene.git, &commit).unwrap().is_ancestor(&first, &commit).unwrap());
        parentless(&scene, &second, &first);
        assert!(!scene.git.is_ancestor(&first, &commit).unwrap(), "git itself believes it");
        let refused = History::of(&scene.git, &commit).unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "{refused}");
    }

    #[test]
    fn what_is_exchanged_after_it_was_named_changes_no_answer() {
        let (scene, [first, second, commit]) = line();
        let history = History::of(&scene.git, &commit).unwrap();
        parentless(&scene, &second, &first);
        assert!(history.is_ancestor(&first, &commit).unwrap());
    }

    #[test]
    fn what_is_exchanged_between_listing_and_naming_is_missed() {
        let (scene, [first, second, commit]) = line();
        let history = History::of(&scene.git, &first).unwrap();
        // Whoever was shown a tip without its parent lists the tip alone.
        history.name([commit.as_str()]).unwrap();
        let refused = history.demand_whole(&commit).unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "{refused}");
        history.name([second.as_str()]).unwrap();
        history.demand_whole(&commit).unwrap();
    }

    #[test]
    fn what_a_shallow_clone_does_not_have_is_not_answered() {
        let (scene, [first, second, commit]) = line();
        fs::write(scene.git.top().join(".git/shallow"), format!("{second}\n")).unwrap();
        let history = History::of(&scene.git, &commit).unwrap();
        assert!(history.is_ancestor(&second, &commit).unwrap());
        let refused = history.is_ancestor(&first, &commit).unwrap_err();
        assert_eq!(refused.code, Code::HistoryMissing, "{refused}");
    }
}
