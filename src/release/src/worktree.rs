//! A clean working tree of one commit, apart from the one that people work in.

use std::path::{Path, PathBuf};

use crate::code::{Code, Refusal};
use crate::git::{Git, ObjectId};

/// A detached working tree that is removed when this is dropped.
#[derive(Debug)]
pub struct Worktree {
    git: Git,
    path: PathBuf,
}

impl Worktree {
    /// Checks `commit` out under `name`, among what belongs to this clone alone.
    pub fn add(git: &Git, name: &str, commit: &ObjectId) -> Result<Self, Refusal> {
        let path = git.private().join("worktrees").join(name);
        let text = path.to_str().ok_or_else(|| Refusal::new(Code::GitFailed, "the path is not UTF-8"))?;
        git.text(&["worktree", "prune"])?;
        git.text(&[
            "worktree",
            "add",
            "--quiet",
            "--force",
            "--detach",
            "--end-of-options",
            text,
            commit.as_str(),
        ])?;
        Ok(Self { git: git.clone(), path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files of the commit that are not as the commit has them.
    pub fn changed(&self) -> Result<Vec<String>, Refusal> {
        let at = self.path.to_str().unwrap_or_default();
        let said =
            self.git.text(&["-C", at, "status", "--porcelain", "--untracked-files=no", "--no-renames"])?;
        Ok(said.lines().filter_map(|line| line.get(3..).map(ToOwned::to_owned)).collect())
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        // What is left of it is found and removed by the next `prune`.
        if let Some(path) = self.path.to_str() {
            let _ = self.git.text(&["worktree", "remove", "--force", "--force", "--end-of-options", path]);
        }
    }
}
