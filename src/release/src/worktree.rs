//! A clean working tree of one commit, apart from the one that people work in.
//!
//! It has a git folder of its own, with the objects of the commit, each named anew by its content, which borrows the other
//! objects of the clone and nothing else: no refs, no tags, no
//! configuration, no attributes but those of the commit. What the steps see is what the commit says, whoever runs them.

mod picture;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::code::{Code, Refusal};
use crate::git::{Files, Git, ObjectId};

pub use picture::Picture;

/// In the folder of a checkout: locked by whoever uses it, as long as it lives.
const HELD: &str = "held";
/// Beside the folders: locked while one is made and those that nobody uses any more are removed.
const LOCK: &str = "lock";

/// A detached working tree that is removed when this is dropped, or by the next one where the program was killed.
#[derive(Debug)]
pub struct Worktree {
    _scratch: Scratch,
    path: PathBuf,
    picture: Picture,
    files: Files,
}

/// A folder among what belongs to this clone alone, removed as a working tree is.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
    _held: File,
}

impl Scratch {
    /// Makes one whose name begins with `name`.
    pub(crate) fn make(git: &Git, name: &str) -> Result<Self, Refusal> {
        let all = git.private().join("worktrees");
        let (folder, held) = make(&all, name).map_err(|error| failed(&all, &error))?;
        Ok(Self { folder, _held: held })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Worktree {
    /// Checks `commit` out in a folder whose name begins with `name`, among what belongs to this clone alone.
    pub fn add(git: &Git, name: &str, commit: &ObjectId) -> Result<Self, Refusal> {
        let scratch = Scratch::make(git, name)?;
        let path = scratch.path().join("tree");
        fs::create_dir(&path).map_err(|error| failed(&path, &error))?;
        let own = git.apart(&path, commit)?;
        own.text(&["checkout", "--quiet", "--force", "--detach", commit.as_str()])?;
        let files = Files::of(git, commit)?;
        let picture = Picture::of(&path, &files)?;
        git.lend(&own)?;
        Ok(Self { _scratch: scratch, path, picture, files })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the commit, from its objects and not from the folder.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// How the files of the commit lay in it before anybody came.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }
}

fn make(all: &Path, name: &str) -> io::Result<(TempDir, File)> {
    fs::create_dir_all(all)?;
    let lock = File::options().create(true).truncate(false).write(true).open(all.join(LOCK))?;
    lock.lock()?;
    sweep(all);
    let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(all)?;
    let held = File::create_new(folder.path().join(HELD))?;
    held.lock()?;
    Ok((folder, held))
}

/// Removes what programs left that were killed. What cannot be removed now stays for the next time.
fn sweep(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let held = File::open(folder.join(HELD));
        if held.map_or(true, |held| held.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::GitFailed, format!("could not use `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn settings_and_attributes_of_a_clone_do_not_reach_the_tree() {
        let scene = Scene::new();
        let commit = scene.commit("file", "proven\n");
        for (name, value) in [
            ("core.autocrlf", "true"),
            ("filter.x.smudge", "sed s/proven/other/"),
            ("core.attributesFile", ".git/other"),
        ] {
            scene.git.text(&["config", name, value]).unwrap();
        }
        let git = scene.git.top().join(".git");
        fs::create_dir_all(git.join("info")).unwrap();
        fs::write(git.join("info/attributes"), "file filter=x\n").unwrap();
        fs::write(git.join("other"), "file filter=x\n").unwrap();
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        assert_eq!(fs::read_to_string(worktree.path().join("file")).unwrap(), "proven\n");
    }

    #[test]
    fn attributes_of_the_commit_do() {
        let scene = Scene::new();
        scene.commit(".gitattributes", "file text eol=crlf\n");
        let commit = scene.commit("file", "proven\n");
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        assert_eq!(fs::read_to_string(worktree.path().join("file")).unwrap(), "proven\r\n");
        assert!(worktree.picture().changed().is_empty());
    }

    /// Puts other bytes where the clone keeps an object, as whoever can write there does.
    fn altered(scene: &Scene, id: &ObjectId, kind: &str, bytes: &[u8]) {
        let place = |id: &ObjectId| {
            let (folder, file) = id.as_str().split_at(2);
            scene.git.top().join(".git/objects").join(folder).join(file)
        };
        let other = scene.git.write(kind, bytes).unwrap();
        fs::remove_file(place(id)).unwrap();
        fs::copy(place(&other), place(id)).unwrap();
    }

    #[test]
    fn objects_that_are_not_what_their_names_say_are_refused() {
        let scene = Scene::new();
        let id =
            |revision: String| ObjectId::parse(&scene.git.text(&["rev-parse", &revision]).unwrap()).unwrap();
        let first = scene.commit("file", "loose\n");
        let commit = scene.commit("file", "proven\n");
        assert!(Worktree::add(&scene.git, "a", &commit).is_ok());
        let (blob, tree) = (id(format!("{commit}:file")), id(format!("{commit}^{{tree}}")));
        let kept = |kind: &str, id: &ObjectId| scene.git.read(kind, id).unwrap();
        let of_first = id(format!("{first}^{{tree}}"));
        for (kind, id, bytes) in [
            ("blob", &blob, b"forged\n".to_vec()),
            ("tree", &tree, kept("tree", &of_first)),
            ("commit", &commit, kept("commit", &first)),
        ] {
            let own = kept(kind, id);
            altered(&scene, id, kind, &bytes);
            let refused = Worktree::add(&scene.git, "a", &commit).unwrap_err();
            assert_eq!(refused.code, Code::LedgerAltered, "{kind}: {refused}");
            // Git writes no object that is there, so its file goes first.
            let (folder, file) = id.as_str().split_at(2);
            fs::remove_file(scene.git.top().join(".git/objects").join(folder).join(file)).unwrap();
            scene.git.write(kind, &own).unwrap();
            assert!(Worktree::add(&scene.git, "a", &commit).is_ok(), "{kind}");
        }
    }

    #[test]
    fn a_commit_of_the_history_that_is_not_what_its_name_says_is_refused() {
        let scene = Scene::new();
        let first = scene.commit("file", "a\n");
        let second = scene.commit("file", "b\n");
        let commit = scene.commit("file", "c\n");
        scene.git.demand_history(&commit).unwrap();
        let parentless = String::from_utf8(scene.git.read("commit", &second).unwrap()).unwrap();
        let parentless = parentless.replace(&format!("parent {first}\n"), "");
        altered(&scene, &second, "commit", parentless.as_bytes());
        assert!(!scene.git.is_ancestor(&first, &commit).unwrap(), "git itself believes it");
        let refused = scene.git.demand_history(&commit).unwrap_err();
        assert_eq!(refused.code, Code::LedgerAltered, "{refused}");
    }

    #[test]
    fn steps_see_the_history_of_the_commit() {
        let scene = Scene::new();
        let first = scene.commit("file", "a\n");
        let commit = scene.commit("file", "b\n");
        let worktree = Worktree::add(&scene.git, "a", &commit).unwrap();
        let own = Git::open(worktree.path()).unwrap();
        assert_eq!(own.text(&["show", &format!("{first}:file")]).unwrap(), "a");
        assert!(own.is_ancestor(&first, &commit).unwrap());
    }

    #[test]
    fn what_a_killed_program_left_goes_and_what_is_used_stays() {
        let scene = Scene::new();
        let commit = scene.commit("file", "a\n");
        let all = scene.git.private().join("worktrees");
        let left = all.join("left");
        fs::create_dir_all(left.join("tree")).unwrap();
        File::create(left.join(HELD)).unwrap();
        let used = Worktree::add(&scene.git, "used", &commit).unwrap();
        assert!(!left.exists());
        let next = Worktree::add(&scene.git, "next", &commit).unwrap();
        assert!(used.path().join("file").exists() && next.path().join("file").exists());
        drop((used, next));
        let folders = fs::read_dir(&all).unwrap().flatten().filter(|entry| entry.path().is_dir());
        assert_eq!(folders.count(), 0);
    }
}
